// What the copies do, and how they are expected to end.
import assert from 'node:assert/strict'
import { exec, execFileSync, spawn } from 'node:child_process'
import { pbkdf2, pbkdf2Sync, randomUUID } from 'node:crypto'
import dns from 'node:dns'
import * as fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { gunzip, gzip } from 'node:zlib'
import { ownPid, report } from './ledger.mjs'
import { get, server, wasm } from './load.mjs'

const { clone } = createRequire(import.meta.url)('../../index.js')
const [execute, lookup] = [exec, dns.lookup].map((fn) => promisify(fn))

const LINES = 300

/** Where a copy's exit status is what its index says, the low bits of it. */
const status = (index) => index & 0xff

function collectGarbage() {
  let kept = []
  for (let index = 0; index < 30_000; index++) {
    kept.push({ index, text: `text ${index}`, list: [index] })
    if (index % 10_000 === 0) kept = []
  }
  const buffers = Array.from({ length: 50 }, (_, index) => Buffer.alloc(20_000, index))
  gc()
  gc({ type: 'minor' })
  assert.equal(kept.at(-1).text, 'text 29999')
  assert.ok(buffers.every((buffer, index) => buffer[100] === index))
}

function runHot(index) {
  const hot = new Function('n', `let s = ${index}; for (let i = 0; i < n; i++) s = (s * 7 + i) | 0; return s`)
  let sum = index | 0
  for (let step = 0; step < 1_000_000; step++) sum = (Math.imul(sum, 7) + step) | 0
  for (let round = 0; round < 500; round++) hot(100)
  assert.equal(hot(1_000_000), sum)
}

async function runWasm() {
  const { instance } = await WebAssembly.instantiate(wasm)
  for (let round = 0; round < 200; round++) assert.equal(instance.exports.run(1000), 499_500)
  const module = new WebAssembly.Module(wasm)
  assert.equal(new WebAssembly.Instance(module).exports.run(1_000_000), (999_999 * 500_000) | 0)
}

async function useFiles(index, directory) {
  const files = Array.from({ length: 4 }, (_, number) => path.join(directory, `file-${index}-${number}`))
  const use = async (file) => {
    await fs.promises.writeFile(file, file)
    await fs.promises.appendFile(file, '!')
    assert.equal(await fs.promises.readFile(file, 'utf8'), `${file}!`)
    await new Promise((resolve) => fs.unlink(file, resolve))
  }
  await Promise.all(files.map(use))
  assert.ok(!files.some((file) => fs.existsSync(file)))
}

async function useTimers() {
  const order = []
  const after = (milliseconds) => sleep(milliseconds).then(() => order.push(milliseconds))
  let ticks = 0
  const ticked = new Promise((resolve) => {
    const interval = setInterval(() => {
      if (++ticks < 3) return
      clearInterval(interval)
      resolve()
    }, 1)
  })
  const start = performance.now()
  const timers = [after(20), after(1)]
  // A busy machine may have left 19 milliseconds between the two.
  const hasOrder = performance.now() - start < 15
  await Promise.all([...timers, ticked, turn(), new Promise(process.nextTick)])
  assert.deepEqual(hasOrder ? order : order.sort(), [1, 20])
}

async function useNetwork(index) {
  // However slow the machine: no connection is closed while it is taken again.
  const own = http.createServer({ keepAliveTimeout: 0 }, (_, response) => response.end(`own ${index}`))
  own.listen(0, 'localhost')
  await new Promise((resolve) => own.once('listening', resolve))
  const { port } = own.address()
  const answer = await fetch(`http://localhost:${port}/`)
  assert.equal(await answer.text(), `own ${index}`)
  const agent = new http.Agent({ keepAlive: true })
  for (let round = 0; round < 3; round++) assert.equal(await get({ port, agent }), `own ${index}`)
}

async function useChildren(index) {
  const { stdout } = await execute(`echo ${index}`)
  assert.equal(stdout, `${index}\n`)
  const cat = spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] })
  cat.stdin.end('through a pipe')
  assert.equal((await cat.stdout.toArray()).join(''), 'through a pipe')
}

async function useWorker(index) {
  const worker = new Worker(`require('node:worker_threads').parentPort.postMessage(${index})`, { eval: true })
  // Both at once: the end of a Worker is told right behind its last message.
  const ended = new Promise((resolve) => worker.once('exit', resolve))
  assert.equal(await new Promise((resolve) => worker.once('message', resolve)), index)
  assert.equal(await ended, 0)
}

async function usePool() {
  const key = pbkdf2Sync('password', 'salt', 10, 32, 'sha256')
  const derive = () => promisify(pbkdf2)('password', 'salt', 10, 32, 'sha256')
  for (const derived of await Promise.all(Array.from({ length: 8 }, derive))) assert.ok(derived.equals(key))
  assert.equal((await promisify(gunzip)(await promisify(gzip)('text'))).toString(), 'text')
  await lookup('localhost')
}

async function cloneAgain(index) {
  const ended = { code: status(index), signal: null }
  const asynchronous = clone(async () => {
    await sleep(1)
    collectGarbage()
    return index
  })
  assert.deepEqual(clone(() => index).waitSync(), ended)
  assert.deepEqual(await asynchronous.wait(), ended)
}

/** What the parent has is not to be of any use here, nor of any harm. */
function touchParents(index) {
  server.close()
  server.closeAllConnections()
  process.removeAllListeners()
  return index
}

function thrown(index) {
  return new Error(`thrown by ${index}`)
}

/**
 * Each makes, of an index, what is to be cloned: `fn`, and what is to come of it, where that is not its status: `code`,
 * `signal`, `lines` of output, an error `thrown`; `kill` is what the parent does to it.
 */
export const jobs = {
  status: (index) => ({ fn: () => index }),
  garbage: (index) => ({
    fn: () => {
      collectGarbage()
      return index
    },
  }),
  'asynchronous garbage': (index) => ({
    fn: async () => {
      collectGarbage()
      await sleep(1)
      collectGarbage()
      return index
    },
  }),
  'hot loop': (index) => ({
    fn: () => {
      runHot(index)
      return index
    },
  }),
  files: (index, { directory }) => ({
    fn: async () => {
      await useFiles(index, directory)
      return index
    },
  }),
  timers: (index) => ({
    fn: async () => {
      await useTimers()
      return index
    },
  }),
  'http and fetch': (index) => ({
    fn: async () => {
      await useNetwork(index)
      return index
    },
  }),
  'child process': (index) => ({
    fn: async () => {
      await useChildren(index)
      return index
    },
  }),
  'synchronous child process': (index) => ({
    fn: () => {
      assert.equal(String(execFileSync('echo', [index])), `${index}\n`)
      return index
    },
  }),
  'child process or Worker': (index) => ({
    fn: async () => {
      await (index % 5 === 0 ? useWorker(index) : useChildren(index))
      return index
    },
  }),
  'clone again': (index) => ({
    fn: async () => {
      await cloneAgain(index)
      return index
    },
  }),
  output: (index) => ({
    lines: LINES,
    fn: () => {
      for (let line = 0; line < LINES; line++)
        console.log(`line ${index} ${line} of a copy that writes many of them`)
      return index
    },
  }),
  'asynchronous output': (index) => ({
    lines: LINES,
    fn: async () => {
      for (let line = 0; line < LINES; line++) {
        console.log(`line ${index} ${line} of a copy that writes many of them`)
        if (line % 50 === 0) await turn()
      }
      return index
    },
  }),
  throw: (index) => ({
    code: 1,
    thrown: true,
    fn: () => {
      throw thrown(index)
    },
  }),
  reject: (index) => ({
    code: 1,
    thrown: true,
    fn: async () => {
      await sleep(1)
      throw thrown(index)
    },
  }),
  'process.exit()': (index) => ({ fn: () => process.exit(status(index)) }),
  'process.exit() in a timer': (index) => ({
    lines: 1,
    fn: async () => {
      process.on('exit', () => console.log(`line ${index} 0 of an exit listener`))
      setTimeout(() => process.exit(status(index)), 1)
      await new Promise(() => {})
    },
  }),
  wasm: (index) => ({
    fn: async () => {
      await runWasm()
      return index
    },
  }),
  pool: (index) => ({
    fn: async () => {
      await usePool()
      return index
    },
  }),
  random: (index) => ({
    fn: () => {
      report('random', randomUUID(), Math.random())
      return index
    },
  }),
  'killed with SIGTERM': () => ({
    code: null,
    signal: 'SIGTERM',
    kill: true,
    fn: () => new Promise((resolve) => setTimeout(resolve, 1 << 30)),
  }),
  'killed with SIGKILL': () => ({
    code: null,
    signal: 'SIGKILL',
    kill: true,
    fn: () => {
      for (;;);
    },
  }),
  "a signal's listener": (index) => ({
    fn: async () => {
      const heard = new Promise((resolve) => process.once('SIGTERM', resolve))
      // To listen for a signal does not hold the loop.
      setInterval(() => {}, 1000)
      process.kill(Number(ownPid()), 'SIGTERM')
      await heard
      return index
    },
  }),
  "what is the parent's": (index) => ({ fn: async () => touchParents(index) }),
}
