// Runs the JavaScript tests under every Node line that the package supports; their binaries come from npm's package `node`.
import path from 'node:path'
import { runTests } from './platforms/failures.mjs'
import { nodeOfNpm } from './platforms/nodes.mjs'
import { root } from './platforms/targets.mjs'

const LINES = ['20', '22', '24', '26']

const binary = (line) =>
  process.version.startsWith(`v${line}.`) ? process.execPath : nodeOfNpm(process.arch, line)

/** What an ordinary user sees differs by the kernel, not by the Node. */
const asAll = (line) => (line === LINES[0] ? [] : ['--as-we-are'])

const failed = new Map()
for (const line of LINES) {
  const script = path.join(root, 'scripts/test.mjs')
  const told = await runTests(binary(line), [script, ...asAll(line), ...process.argv.slice(2)])
  if (told !== undefined) failed.set(line, told)
}
// Last, where it is found.
for (const [line, told] of failed) console.log(`\nFailed under Node ${line}:\n${told}`)
process.exitCode = failed.size > 0 ? 1 : 0
