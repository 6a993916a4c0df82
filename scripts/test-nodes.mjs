// Runs the JavaScript tests under every Node line that the package supports; their binaries come from npm's package `node`.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { nodeOfNpm } from './platforms/nodes.mjs'
import { root } from './platforms/targets.mjs'

const LINES = ['20', '22', '24', '26']

/** ava draws a line, tells of what has failed, and draws another before the number of those that have. */
const FAILURES =
  /^ {2}─\n(?!\s*\d+ tests? passed)[\s\S]*?^ {2}\d+ .*(?:failed|skipped|exceptions?|rejections?)$/gm

/** What has failed, as it was told; nothing where all has passed. */
async function run(node, args) {
  const child = spawn(node, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const chunks = []
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk)
    chunks.push(chunk)
  })
  const [code] = await once(child, 'close')
  return code === 0 ? undefined : (Buffer.concat(chunks).toString().match(FAILURES) ?? []).join('\n')
}

const binary = (line) =>
  process.version.startsWith(`v${line}.`) ? process.execPath : nodeOfNpm(process.arch, line)

/** What an ordinary user sees differs by the kernel, not by the Node between the oldest and the newest. */
const asAll = (line) => (line === LINES[0] || line === LINES.at(-1) ? [] : ['--as-we-are'])

const failed = new Map()
for (const line of LINES) {
  const script = path.join(root, 'scripts/test.mjs')
  const failures = await run(binary(line), [script, ...asAll(line), ...process.argv.slice(2)])
  if (failures !== undefined) failed.set(line, failures)
}
// Last, where it is found.
for (const [line, failures] of failed) console.log(`\nFailed under Node ${line}:\n${failures}`)
process.exitCode = failed.size > 0 ? 1 : 0
