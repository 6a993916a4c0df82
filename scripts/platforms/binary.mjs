// What a binary is and what it wants, as readelf(1) tells, compared with what its target may want.
import { statSync } from 'node:fs'
import { run } from './tools.mjs'

const MOST_BYTES = 700_000

/** What may be linked: the libc, by the names that it has had. */
const LIBRARIES = /^(libc|libm|libdl|libpthread|librt|ld-linux.*|ld64|libc\.musl-.*)\.so(\.\d+)?$/

const readelf = (option, file) =>
  run('readelf', ['--wide', option, file], { stdio: ['ignore', 'pipe', 'inherit'] })

const compare = (a, b) => {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number))
  return left[0] - right[0] || left[1] - right[1] || (left[2] ?? 0) - (right[2] ?? 0)
}

/** A line on a target's binary; throws what is wrong with it. */
export function checkBinary({ platform, binary, machine, glibc }) {
  const size = statSync(binary).size
  const wrong = []
  const is = /Machine:\s+(.*)/.exec(readelf('--file-header', binary))[1]
  if (is !== machine) wrong.push(`it is for ${is}, not for ${machine}`)
  const libraries = [...readelf('--dynamic', binary).matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(
    ([, name]) => name,
  )
  const foreign = libraries.filter((name) => !LIBRARIES.test(name))
  if (foreign.length > 0) wrong.push(`it wants ${foreign.join(', ')}`)
  const versions = [...readelf('--version-info', binary).matchAll(/Name: GLIBC_([\d.]+)/g)].map(
    ([, version]) => version,
  )
  const newest = versions.sort(compare).at(-1)
  if (glibc === null && newest !== undefined) wrong.push(`it wants glibc ${newest}, and is for musl`)
  if (glibc !== null && newest === undefined) wrong.push('it wants no glibc')
  if (glibc !== null && newest !== undefined && compare(newest, glibc) > 0)
    wrong.push(`it wants glibc ${newest}, and may want ${glibc} at most`)
  if (/\.symtab/.test(readelf('--section-headers', binary))) wrong.push('it is not stripped')
  if (size > MOST_BYTES) wrong.push(`it has ${size} bytes, of ${MOST_BYTES} at most`)
  if (wrong.length > 0) throw new Error(`${platform}: ${wrong.join('; ')}`)
  const libc = glibc === null ? 'musl' : `glibc ${newest}`
  return `${platform.padEnd(20)} ${String(Math.round(size / 1000)).padStart(4)} kB   ${libc}   ${libraries.join(' ')}`
}
