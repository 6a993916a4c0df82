// Runs code in a process of its own: what it changes ends with it, and what it did is seen from outside.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const runner = fileURLToPath(new URL('runner.mjs', import.meta.url))

/** How many times slower this machine is than those whose patience is written in the tests. */
export const slowness = Number(process.env.LINUX_CLONE_TEST_SLOWNESS ?? 1)

export const isRoot = process.getuid() === 0

/** The words that give a command what root has: none for root, a user namespace of its own for others. */
export const privileged = isRoot ? [] : ['unshare', '--user', '--map-root-user']

/** The words that make a command root of a new user namespace, whoever we are. */
export const inUserNamespace = ['unshare', '--user', '--map-root-user']

/**
 * Calls `fn` in a new Node and resolves to what it returns (JSON, and bigints). It is passed as text: it sees its
 * arguments and globals only, `fn({ lib, fs, cp, os, path, workers, until, isChild, outside }, ...args)`, where `lib` is the
 * package, `until(condition)` waits for what another process does, `isChild(pid)` says whether that is one not reaped yet, and `outside(message)` asks the test, which has passed
 * `{ outside: async (message, child) => reply }`. An error that it throws is rethrown here, with its own properties.
 */
export async function inProcess(fn, ...rest) {
  const options =
    typeof rest[0] === 'object' && rest[0] !== null && Object.hasOwn(rest[0], 'with') ? rest.shift().with : {}
  const { wrap = privileged, outside, env, execArgv = [] } = options
  const words = [...wrap, process.execPath, ...execArgv, runner]
  const child = spawn(words[0], words.slice(1), {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  const [output, errors, result] = [child.stdout, child.stderr, child.stdio[3]].map(collect)
  child.stdio[4].on('data', replyTo(outside, child))
  child.stdin.end(JSON.stringify({ source: fn.toString(), args: rest }))
  const [code, signal] = await once(child, 'close')
  const text = await result
  if (code !== 0 || text === '') {
    throw new Error(`the process ended with ${signal ?? code}\n${await output}${await errors}`)
  }
  const { value, error } = JSON.parse(text, revive)
  if (error) throw Object.assign(new Error(error.message), error)
  return value
}

/** Runs a program and resolves to its output; it fails where the program does. */
export async function run(...words) {
  const child = spawn(words[0], words.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] })
  const [output, errors] = [collect(child.stdout), collect(child.stderr)]
  const [code, signal] = await once(child, 'close')
  if (code !== 0)
    throw new Error(`${words.join(' ')} ended with ${signal ?? code}\n${await output}${await errors}`)
  return output
}

/**
 * For what the machine may lack. A skip says why; where everything has to be there (LINUX_CLONE_TEST_ALL=1), it fails.
 * Returns whether the test can go on.
 */
export function available(t, condition, what) {
  if (condition) return true
  if (process.env.LINUX_CLONE_TEST_ALL === '1') t.fail(`not to be had here: ${what}`)
  else {
    t.log(`skipped: not to be had here: ${what}`)
    t.pass()
  }
  return false
}

async function collect(stream) {
  let text = ''
  stream.setEncoding('utf8')
  for await (const chunk of stream) text += chunk
  return text
}

function replyTo(outside, child) {
  let text = ''
  return async (chunk) => {
    text += chunk
    const lines = text.split('\n')
    text = lines.pop()
    for (const line of lines) {
      const reply = await outside(JSON.parse(line), child)
      child.stdio[4].write(`${JSON.stringify(reply ?? null)}\n`)
    }
  }
}

function revive(_, value) {
  return typeof value === 'object' && value !== null && '$bigint' in value ? BigInt(value.$bigint) : value
}
