// What has failed, out of all that scripts/test.mjs has written: to be told last, where it is found.
import { spawn } from 'node:child_process'
import { once } from 'node:events'

/** ava draws a line, tells of what has failed, and draws another before the number of those that have. */
const FAILURES =
  /^ {2}─\n(?!\s*\d+ tests? passed)[\s\S]*?^ {2}\d+ .*(?:failed|skipped|exceptions?|rejections?)$/gm

/** Of each user as whom the tests have run. */
export function failures(output) {
  const runs = output.split(/^(?=── JavaScript tests, )/m)
  return runs
    .map((run) => [run.slice(0, run.indexOf('\n')), ...(run.match(FAILURES) ?? [])])
    .filter(([, ...told]) => told.length > 0)
    .flat()
    .join('\n')
}

/** Runs a command that runs scripts/test.mjs, and resolves to what has failed, or undefined where nothing has. */
export async function runTests(command, args, options) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options })
  const chunks = []
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk)
    chunks.push(chunk)
  })
  const [code] = await once(child, 'close')
  return code === 0 ? undefined : failures(Buffer.concat(chunks).toString())
}
