import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { privileged } from './helpers/process.mjs'

const index = fileURLToPath(new URL('../index.js', import.meta.url))
const MARK = `killed-while-it-moves-${process.pid}`

/** The processes that bear the mark in their command line: a helper is a copy of its parent, and bears it too. */
function marked() {
  return readdirSync('/proc').filter((entry) => {
    try {
      return /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/cmdline`, 'utf8').includes(MARK)
    } catch {
      return false // It has ended.
    }
  })
}

test('a process that is killed while its threads move leaves no helper behind', async (t) => {
  t.teardown(() => {
    for (const pid of marked()) process.kill(Number(pid), 'SIGKILL')
  })
  const source = `
    const { unshare } = require(${JSON.stringify(index)})
    for (;;) {
      unshare('uts', { threads: 'all' })
      process._rawDebug('moved')
    }`
  for (let round = 0; round < 20; round++) {
    const [command, ...words] = [...privileged, process.execPath, '-e', source, MARK]
    const child = spawn(command, words, { stdio: ['ignore', 'ignore', 'pipe'] })
    // Each round at another moment of a move.
    for (let moves = 0; moves <= round % 4; moves++) await once(child.stderr, 'data')
    for (let turns = 0; turns < round * 50; turns++) await setImmediate()
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  while (marked().length > 0) await setImmediate()
  t.deepEqual(marked(), [])
})
