// The targets of package.json, and what each is called elsewhere.
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseTriple } from '@napi-rs/cli'

export const root = fileURLToPath(new URL('../..', import.meta.url))

export const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))

const { binaryName, targets } = manifest.napi

/** What readelf calls a processor. */
const MACHINES = {
  x64: 'Advanced Micro Devices X86-64',
  arm64: 'AArch64',
  arm: 'ARM',
  riscv64: 'RISC-V',
  s390x: 'IBM S/390',
  ppc64: 'PowerPC64',
}

/** The newest glibc whose symbols a binary may want. */
const GLIBC = { x64: '2.17', arm64: '2.17' }
const GLIBC_OF_OTHERS = '2.28'

export const TARGETS = targets.map((triple) => {
  const { platformArchABI: platform, arch, abi } = parseTriple(triple)
  const [processor] = triple.split('-')
  const glibc = abi.startsWith('gnu') ? (GLIBC[arch] ?? GLIBC_OF_OTHERS) : null
  const file = `${binaryName}.${platform}.node`
  return {
    triple,
    platform,
    arch,
    abi,
    glibc,
    machine: MACHINES[arch],
    // Where the package of this platform has it.
    binary: path.join(root, 'npm', platform, file),
    // As zig has the processor's, the kernel's and the libc's names.
    zig: [
      { armv7: 'arm', riscv64gc: 'riscv64' }[processor] ?? processor,
      'linux',
      glibc === null ? abi : `${abi}.${glibc}`,
    ].join('-'),
  }
})

/** Those that the command line names, by triple or platform; all of them where it names none. */
export function chosen(names) {
  const unknown = names.find(
    (name) => !TARGETS.some(({ triple, platform }) => [triple, platform].includes(name)),
  )
  if (unknown !== undefined)
    throw new Error(`no target ${unknown}: there are ${TARGETS.map(({ platform }) => platform).join(', ')}`)
  return TARGETS.filter(
    ({ triple, platform }) => names.length === 0 || names.includes(triple) || names.includes(platform),
  )
}
