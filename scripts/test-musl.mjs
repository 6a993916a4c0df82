// Runs the JavaScript tests under a Node of musl's, on this processor, as root: in a mount namespace in which musl's loader and
// libraries lie over /usr. `node scripts/test-musl.mjs [--node=24] [FILE...]`; without --node under every line that there is.

import { copyFileSync, existsSync, rmSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runTests } from './platforms/failures.mjs'
import { muslLines, muslNode } from './platforms/nodes.mjs'
import { root, TARGETS } from './platforms/targets.mjs'

const { values, positionals } = parseArgs({ allowPositionals: true, options: { node: { type: 'string' } } })
const target = TARGETS.find(({ arch, abi }) => arch === process.arch && abi === 'musl')
if (!existsSync(target.binary)) throw new Error(`first: npm run build:all -- ${target.platform}`)
if (process.getuid() !== 0)
  throw new Error('this mounts over /usr, in a namespace of its own, and has to be root for it')

const LAID_OVER = `
mount -t overlay -o "lowerdir=$1:/usr" musl /usr
shift
exec "$@"`

// Where the package's loader finds what was built for this platform.
const binary = path.join(root, path.basename(target.binary))
copyFileSync(target.binary, binary)
const failed = new Map()
for (const line of values.node === undefined ? muslLines(process.arch) : [values.node]) {
  const words = [muslNode(process.arch, line), '/usr/bin/node', 'scripts/test.mjs', ...positionals]
  const told = await runTests('unshare', ['--mount', 'sh', '-ec', LAID_OVER, 'sh', ...words], { cwd: root })
  if (told !== undefined) failed.set(line, told)
}
rmSync(binary)
for (const [line, told] of failed) console.log(`\nFailed under Node ${line} with musl:\n${told}`)
process.exitCode = failed.size > 0 ? 1 : 0
