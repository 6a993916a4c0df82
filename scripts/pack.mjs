// Packs the package, and that of each platform whose binary is there, as they are published: `node scripts/pack.mjs DIRECTORY`.
// With --all no binary may be missing.
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { manifest, root, TARGETS } from './platforms/targets.mjs'
import { run } from './platforms/tools.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { all: { type: 'boolean', default: false } },
})
const [directory] = positionals
if (directory === undefined) throw new Error('usage: pack.mjs [--all] DIRECTORY')
const destination = path.resolve(directory)
mkdirSync(destination, { recursive: true })

/** What npm run build has made for this machine, or npm run build:all. */
const binaryOf = ({ binary }) => [path.join(root, path.basename(binary)), binary].find(existsSync)
const missing = TARGETS.filter((target) => binaryOf(target) === undefined)
if (values.all && missing.length > 0)
  throw new Error(`there is no binary for ${missing.map(({ platform }) => platform).join(', ')}`)

const staging = mkdtempSync(path.join(tmpdir(), 'linux-clone-pack-'))
try {
  const own = ['package.json', 'npm', 'README.md', 'LICENSE', ...manifest.files]
  for (const name of own) cpSync(path.join(root, name), path.join(staging, name), { recursive: true })
  // As napi pre-publish writes it, which wants every binary to be there.
  const optionalDependencies = Object.fromEntries(
    TARGETS.map(({ platform }) => [`${manifest.name}-${platform}`, manifest.version]),
  )
  const published = { ...manifest, optionalDependencies }
  writeFileSync(path.join(staging, 'package.json'), `${JSON.stringify(published, null, 2)}\n`)
  const pack = (what) =>
    run('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', destination], { cwd: what })
  pack(staging)
  for (const target of TARGETS.filter((target) => !missing.includes(target))) {
    const directory = path.join(staging, 'npm', target.platform)
    copyFileSync(binaryOf(target), path.join(directory, path.basename(target.binary)))
    copyFileSync(path.join(root, 'LICENSE'), path.join(directory, 'LICENSE'))
    pack(directory)
  }
} finally {
  rmSync(staging, { recursive: true })
}
