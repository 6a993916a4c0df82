// What the parent does all the while: it allocates, compiles, serves http to itself, uses libuv's pool, files and timers.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { pbkdf2, randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { deflate, inflate } from 'node:zlib'
import { expect } from './ledger.mjs'

/** One function, `run(n)`: the sum of the numbers below n, in a loop. */
export const wasm = Buffer.from(
  `0061736d01000000 0106 01 60 01 7f 01 7f 0302 01 00 0707 01 03 72756e 00 00
   0a1e 01 1c 01 02 7f 03 40 20 02 20 01 6a 21 02 20 01 41 01 6a 22 01 20 00 48 0d 00 0b 20 02 0b`.replace(
    /\s/g,
    '',
  ),
  'hex',
)

const self = new URL(import.meta.url).pathname
const promised = {
  execFile: promisify(execFile),
  pbkdf2: promisify(pbkdf2),
  deflate: promisify(deflate),
  inflate: promisify(inflate),
  readFile: promisify(fs.readFile),
  appendFile: promisify(fs.appendFile),
}

/** Collections of the young and of the old generation: most of it is dropped at once, some is kept for a while. */
async function allocate(isOn) {
  const kept = []
  for (let round = 0; isOn(); round++) {
    const map = new Map()
    for (let index = 0; index < 5000; index++) map.set(`key ${index}`, { index, list: [index, round] })
    kept[round % 20] = { map, buffer: Buffer.alloc(1 << (10 + (round % 10)), round) }
    for (let index = 0; index < 40; index++) Buffer.allocUnsafeSlow(4096 * (1 + (index % 8))).fill(index)
    await (round % 3 === 0 ? sleep(3) : turn())
  }
}

/** Functions that V8 has not seen, until it has optimised them. */
async function compile(isOn) {
  for (let round = 0; isOn(); round++) {
    const source = `let sum = ${round}; for (let i = 0; i < n; i++) sum = (sum * 31 + (i ^ ${round})) | 0; return { sum, n }`
    const hot = new Function('n', source)
    const cold = new Function('n', source.replace('* 31', '* 31 /* again */'))
    for (let index = 0; index < 400; index++) hot(200)
    assert.deepEqual(hot(20_000), cold(20_000))
    await sleep(5)
  }
}

/** Compilations on V8's own threads. What waits for V8 alone goes on in copies too. */
async function compileWasm(isOn) {
  while (isOn()) {
    await WebAssembly.compile(wasm)
    await sleep(20)
  }
}

async function readWithPromises(isOn) {
  const expected = fs.readFileSync(self)
  while (isOn()) {
    const fires = Array.from({ length: 4 }, () => expect('fs.promises.readFile'))
    const read = async (fire) => {
      const bytes = await fs.promises.readFile(self)
      fire()
      assert.ok(bytes.equals(expected))
    }
    await Promise.all(fires.map(read))
    await sleep(2)
  }
}

async function readWithCallbacks(isOn) {
  const expected = fs.readFileSync(self)
  while (isOn()) {
    const fire = expect('fs.readFile')
    const bytes = await new Promise((resolve, reject) => {
      fs.readFile(self, (error, read) => {
        fire()
        if (error) reject(error)
        else resolve(read)
      })
    })
    assert.ok(bytes.equals(expected))
    const stream = expect('fs.createReadStream')
    const chunks = await fs.createReadStream(self, { highWaterMark: 500 }).toArray()
    stream()
    assert.ok(Buffer.concat(chunks).equals(expected))
  }
}

/** Each line has to be there once: nothing is done twice, and nothing is lost. */
async function append(isOn, { directory }) {
  const file = path.join(directory, 'appended')
  const lines = []
  const add = async (appendFile) => {
    const fire = expect('appendFile')
    lines.push(fire.number)
    await appendFile(file, `${fire.number}\n`)
    fire()
  }
  while (isOn()) {
    await Promise.all([
      add(fs.promises.appendFile),
      add(promised.appendFile),
      add(fs.promises.appendFile),
      add(promised.appendFile),
    ])
    await turn()
  }
  const found = fs.readFileSync(file, 'utf8').trim().split('\n').map(Number)
  const inOrder = (numbers) => numbers.sort((one, other) => one - other)
  assert.deepEqual(inOrder(found), inOrder(lines), 'what was appended')
  fs.unlinkSync(file)
}

async function usePool(isOn) {
  const data = randomBytes(20_000)
  const key = await promised.pbkdf2('password', 'salt', 200, 32, 'sha256')
  while (isOn()) {
    const [hashed, deflated] = [expect('pbkdf2'), expect('zlib')]
    const hash = async () => {
      assert.ok(key.equals(await promised.pbkdf2('password', 'salt', 200, 32, 'sha256')))
      hashed()
    }
    const squeeze = async () => {
      assert.ok(data.equals(await promised.inflate(await promised.deflate(data))))
      deflated()
    }
    await Promise.all([hash(), squeeze()])
    await sleep(1)
  }
}

/** What is to be called when a request is served, by its path. */
const requests = new Map()

/** A request that the server answers once. */
export function onRequest(url, serve) {
  requests.set(url, serve)
}

function expectRequest(kind) {
  const fire = expect(kind)
  onRequest(`/${fire.number}`, fire)
  return fire.number
}

export const server = http.createServer({ keepAliveTimeout: 0 }, ({ url }, response) => {
  const serve = requests.get(url)
  requests.delete(url)
  serve()
  response.end(`answer ${url.slice(1)}`)
})

export function get(options) {
  return new Promise((resolve, reject) => {
    const request = http.get(options, (response) => {
      response.toArray().then((chunks) => resolve(chunks.join('')), reject)
    })
    request.on('error', reject)
  })
}

function requester(agentOptions) {
  return async (isOn, { port }) => {
    const agent = new http.Agent(agentOptions)
    const request = async () => {
      const [number, answered] = [expectRequest('http request'), expect('http response')]
      const body = await get({ port, agent, path: `/${number}` })
      answered()
      assert.equal(body, `answer ${number}`)
    }
    while (isOn()) {
      await Promise.all([request(), request()])
      await sleep(1)
    }
    agent.destroy()
  }
}

async function useFetch(isOn, { port }) {
  while (isOn()) {
    const [number, answered] = [expectRequest('fetch request'), expect('fetch response')]
    const response = await fetch(`http://localhost:${port}/${number}`)
    const body = await response.text()
    answered()
    assert.equal(body, `answer ${number}`)
    await sleep(10)
  }
}

async function useTimers(isOn) {
  const interval = (milliseconds) => {
    let fire = expect('interval')
    const timer = setInterval(() => {
      fire()
      fire = expect('interval')
    }, milliseconds)
    return () => {
      clearInterval(timer)
      fire.cancel()
    }
  }
  const stops = [interval(3), interval(3), interval(11)]
  while (isOn()) {
    const timer = (milliseconds) =>
      new Promise((resolve) => {
        const fire = expect('timer')
        setTimeout(() => {
          fire()
          resolve()
        }, milliseconds)
      })
    const immediate = () =>
      new Promise((resolve) => {
        const fire = expect('immediate')
        setImmediate(() => {
          fire()
          process.nextTick(resolve)
        })
      })
    await Promise.all([timer(1), timer(1), timer(4), immediate(), immediate(), immediate()])
  }
  for (const stop of stops) stop()
}

/** Children of Node's own, which wait for the same signal as clones do. */
async function useChildren(isOn) {
  while (isOn()) {
    const fire = expect('child process')
    const { stdout } = await promised.execFile('/bin/sh', ['-c', 'echo "$0"; exit 0', String(fire.number)])
    fire()
    assert.equal(stdout, `${fire.number}\n`)
    await sleep(30)
  }
}

const lanes = [
  allocate,
  compile,
  compileWasm,
  readWithPromises,
  readWithCallbacks,
  append,
  usePool,
  requester({ keepAlive: true }),
  requester({ keepAlive: false }),
  useFetch,
  useTimers,
  useChildren,
]

/** Begins all of it; what is returned ends it, when nothing is under way any more. */
export function startLoad(place) {
  let isOn = true
  const ends = Promise.all(lanes.map((lane) => lane(() => isOn, place)))
  return async () => {
    isOn = false
    await ends
  }
}
