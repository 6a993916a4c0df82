// Processes that a test finds again by a mark in their environment, which clones and programs inherit.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { privileged } from './process.mjs'

const index = fileURLToPath(new URL('../../index.js', import.meta.url))

/** The processes with this mark. */
export function marked(mark) {
  return readdirSync('/proc')
    .filter((name) => {
      try {
        const variables = readFileSync(`/proc/${name}/environ`, 'utf8').split('\0')
        return /^\d+$/.test(name) && variables.includes(`LINUX_CLONE_MARK=${mark}`)
      } catch {
        return false // It has ended.
      }
    })
    .map(Number)
}

/** Ends every process with this mark, and resolves when they are gone. */
export async function endMarked(mark) {
  for (const pid of marked(mark)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended.
    }
  }
  await untilNoneIsMarked(mark)
}

export async function untilNoneIsMarked(mark) {
  while (marked(mark).length > 0) await new Promise((resolve) => setTimeout(resolve, 2))
}

/**
 * Starts a Node that bears the mark and runs `source`, where `lib` is the package; `lines` is what it and its clones print.
 */
export function startMarked(mark, source, wrap = privileged) {
  const words = [...wrap, process.execPath, '-e', `const lib = require(process.argv[1]);${source}`, index]
  const child = spawn(words[0], words.slice(1), {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, LINUX_CLONE_MARK: mark },
  })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  return { child, exited: once(child, 'exit'), line: async () => (await lines.next()).value }
}
