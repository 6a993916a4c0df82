// Runs the JavaScript tests as whoever we are, and, where that is root, as an ordinary user too, unless the first argument is
// --as-we-are; the others are ava's.
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const NOBODY = 65534
const isAsWeAre = process.argv[2] === '--as-we-are'
const args = process.argv.slice(isAsWeAre ? 3 : 2)

function ava(directory, node, identity) {
  const who = identity.uid ?? process.getuid()
  console.log(`\n── JavaScript tests, Node ${process.version}, uid ${who}`)
  const { status, signal, error } = spawnSync(
    node,
    [path.join(directory, 'node_modules/ava/entrypoints/cli.mjs'), ...args],
    {
      cwd: directory,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, HOME: identity.uid === undefined ? process.env.HOME : '/nonexistent' },
      ...identity,
    },
  )
  if (error) throw error
  return signal === null && status === 0
}

/** The ordinary user may not be able to read where we are, or to run this Node: then both are copied. */
function asOrdinaryUser() {
  const identity = { uid: NOBODY, gid: NOBODY }
  const load = ['-e', 'require(process.argv[1])', root]
  if (spawnSync(process.execPath, load, { ...identity, cwd: '/' }).status === 0)
    return ava(root, process.execPath, identity)
  const copy = mkdtempSync(path.join(tmpdir(), 'linux-clone-test-'))
  try {
    chmodSync(copy, 0o755)
    const skipped = new Set(['.git', 'target', '.nodes', '.tools'].map((name) => path.join(root, name)))
    cpSync(root, copy, { recursive: true, verbatimSymlinks: true, filter: (file) => !skipped.has(file) })
    const node = path.join(copy, 'node')
    cpSync(process.execPath, node)
    return ava(copy, node, identity)
  } finally {
    rmSync(copy, { recursive: true })
  }
}

if (!existsSync(path.join(root, 'dist/library.js'))) throw new Error('first: npm run build')
let passed = ava(root, process.execPath, {})
if (process.getuid() === 0 && !isAsWeAre) passed = asOrdinaryUser() && passed
process.exitCode = passed ? 0 : 1
