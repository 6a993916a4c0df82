// Where clone() is called from: what stands on the stack there must neither go on in the copy nor be harmed here.
import { pbkdf2 } from 'node:crypto'
import { EventEmitter } from 'node:events'
import * as fs from 'node:fs'
import vm from 'node:vm'
import { MessageChannel, Worker } from 'node:worker_threads'
import { gzip } from 'node:zlib'
import { expect } from './ledger.mjs'
import { get, onRequest } from './load.mjs'

const nothing = Buffer.alloc(10)
let requests = 0

/** Each calls `launch` once, at once or soon. */
export const contexts = {
  'after await': async (launch) => {
    await null
    launch()
  },
  timer: (launch) => {
    const others = [expect('timer before'), expect('timer behind')]
    setTimeout(others[0], 1)
    setTimeout(launch, 1)
    setTimeout(others[1], 1)
  },
  immediate: (launch) => {
    const others = [expect('immediate before'), expect('immediate behind')]
    setImmediate(others[0])
    setImmediate(launch)
    setImmediate(others[1])
  },
  'fs callback': (launch) => {
    fs.stat('/', launch)
  },
  'http handler': (launch, { port }) => {
    const url = `/clone ${requests++}`.replace(' ', '-')
    onRequest(url, launch)
    const answered = expect('response')
    get({ port, path: url }).then(answered)
  },
  nextTick: (launch) => {
    const others = [expect('tick before'), expect('tick behind')]
    process.nextTick(others[0])
    process.nextTick(launch)
    process.nextTick(others[1])
  },
  'fs.promises': async (launch) => {
    await fs.promises.stat('/')
    launch()
  },
  microtask: (launch) => {
    const others = [expect('microtask before'), expect('microtask behind')]
    queueMicrotask(others[0])
    queueMicrotask(launch)
    queueMicrotask(others[1])
  },
  'pool callback': (launch) => {
    pbkdf2('password', 'salt', 1, 8, 'sha1', launch)
  },
  interval: (launch) => {
    const timer = setInterval(() => {
      clearInterval(timer)
      launch()
    }, 1)
  },
  'zlib callback': (launch) => {
    gzip(nothing, launch)
  },
  listener: (launch) => {
    const emitter = new EventEmitter()
    const others = [expect('listener before'), expect('listener behind')]
    emitter.on('event', others[0]).on('event', launch).on('event', others[1])
    setImmediate(() => emitter.emit('event'))
  },
  'comparison of sort()': (launch) => {
    let isDone = false
    const compare = (one, other) => {
      if (!isDone) {
        isDone = true
        launch()
      }
      return one - other
    }
    setImmediate(() => [3, 1, 2].sort(compare))
  },
  'toJSON()': (launch) => {
    setTimeout(() => JSON.stringify({ list: [{ toJSON: launch }] }), 1)
  },
  'generator with finally': (launch) => {
    const fire = expect('finally')
    function* generate() {
      try {
        yield launch()
      } finally {
        fire()
      }
    }
    setImmediate(() => [...generate()])
  },
  'executor of a promise': async (launch) => {
    const fire = expect('continuation')
    await new Promise((resolve) => {
      launch()
      resolve()
    })
    fire()
  },
  'vm.runInNewContext()': (launch) => {
    setImmediate(() => vm.runInNewContext('launch()', { launch }))
  },
  'deep recursion': (launch) => {
    const descend = (depth) => (depth === 0 ? launch() : descend(depth - 1))
    setTimeout(() => descend(2000), 1)
  },
  'message of a port that is closed': (launch) => {
    const { port1, port2 } = new MessageChannel()
    const fire = expect('end of a port')
    port1.once('close', fire)
    port1.once('message', () => {
      port1.close()
      launch()
    })
    port2.postMessage(nothing)
  },
  'message of a Worker that ends': (launch) => {
    const worker = new Worker("require('node:worker_threads').parentPort.postMessage(0)", { eval: true })
    worker.once('exit', expect('end of a Worker'))
    worker.once('message', launch)
  },
  'trap of a Proxy': (launch) => {
    setImmediate(() => new Proxy({}, { get: launch }).anything)
  },
  'listener of an AbortSignal': (launch) => {
    AbortSignal.timeout(1).addEventListener('abort', launch)
  },
  'for await': async (launch) => {
    const fire = expect('end of for await')
    for await (const _ of fs.createReadStream('/proc/self/stat')) launch()
    fire()
  },
}
