// The other side of inProcess: evaluates the function that comes through stdin, and writes what it returned to descriptor 3.
import cp from 'node:child_process'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import vm from 'node:vm'
import workers from 'node:worker_threads'

// By its file, as a namespace may hide the directory that the package is in.
const lib = createRequire(import.meta.url)('../../index.js')
// Has the rest of it loaded: with musl Node's dns, which comes with that, keeps a descriptor open.
void new lib.Namespace()
const { source, args } = JSON.parse(fs.readFileSync(0, 'utf8'))

let test
/** Asks the test. */
async function outside(message) {
  if (!test) {
    const socket = new net.Socket({ fd: 4 })
    test = { socket, lines: createInterface(socket)[Symbol.asyncIterator]() }
  }
  test.socket.write(`${JSON.stringify(message ?? null)}\n`)
  return JSON.parse((await test.lines.next()).value)
}

/** Waits for what another process does; the test's own limit ends a wait in vain. */
async function until(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 1))
}

/** Whether it is a child that is not reaped: the id alone may be another's, or a thread's. */
function isChild(pid) {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8')
    return Number(/^PPid:\t(\d+)/m.exec(status)[1]) === process.pid
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return false
    throw error
  }
}

const bigints = (_, value) => (typeof value === 'bigint' ? { $bigint: value.toString() } : value)

let answer
try {
  const fn = vm.runInThisContext(`(${source})`)
  answer = { value: (await fn({ lib, fs, cp, os, path, workers, until, isChild, outside }, ...args)) ?? null }
} catch (error) {
  const { name, message, stack } = error
  answer = { error: { ...error, name, message, stack } }
}
fs.writeSync(3, JSON.stringify(answer, bigints))
process.exit()
