import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { compileLibrary, hasCompiler, temporaryDirectory } from './helpers/machine.mjs'
import { available, inProcess, isRoot, privileged, slowness } from './helpers/process.mjs'

const library = fileURLToPath(new URL('../index.js', import.meta.url))

/**
 * In the process: runs `act`, a function's text, whose parts say what happens to them; who it was, the process or a clone of
 * it, is asked of the kernel. It may not await anything before: a main script has no turn of the event loop behind it.
 */
const stage = async ({ lib, fs, cp, workers, outside }, { act, directory, arg, slowness }) => {
  const me = () => fs.readlinkSync('/proc/self')
  const own = me()
  const place = (name) => `${directory}/${name}`
  let said = 0
  const say = (what) => {
    said++
    fs.appendFileSync(place('record'), `${me() === own ? 'parent' : 'child'} ${what}\n`)
  }
  // What waits in vain ends by itself, and its clones with it.
  const until = async (condition) => {
    const end = performance.now() + 60_000 * slowness
    while (!(await condition())) {
      if (performance.now() > end)
        throw new Error(`${me() === own ? 'parent' : 'child'}: in vain: ${condition}`)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
  // Longer than any timer of a test's, from now on: what was due has come.
  const turn = () => new Promise((resolve) => setTimeout(() => setImmediate(resolve), 60))
  const isOver = () => fs.existsSync(place('over')) || process.ppid !== Number(own)
  const spin = () => {
    if (!isOver()) setImmediate(spin)
  }
  /** What a clone does: it is there until the parent's matters are settled, and would have seen them. */
  const stay = (deed) => async () => {
    await deed?.()
    say('stays')
    await until(isOver)
    await turn()
    say('goes')
  }
  const staying = () => fs.readFileSync(place('record'), 'utf8').split('child stays').length - 1
  const alive = (count) => until(() => fs.existsSync(place('record')) && staying() === count)
  const settled = async (count) => {
    await until(() => said >= count)
    await turn()
  }
  const leave = async (...children) => {
    await alive(children.length)
    fs.writeFileSync(place('over'), '')
    for (const child of children) {
      const status = await child.wait()
      if (status.code !== 0) throw new Error(`a clone ended with ${JSON.stringify(status)}`)
    }
  }
  const made = []
  const clone = (...args) => {
    const it = lib.clone(...args)
    made.push(it)
    return it
  }
  /** Once it has seen the pool's threads it takes them as they stand, if they wait for work. */
  const acquaint = async () => {
    await fs.promises.readFile('/proc/self/comm')
    for (let count = 0; count < 2; count++) await lib.clone(() => {}).wait()
  }
  const given = { lib, clone, fs, cp, workers, outside, use: process.getBuiltinModule }
  const ours = { me, place, say, until, turn, spin, stay, alive, settled, leave, acquaint }
  try {
    // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
    return await globalThis.eval(`(${act})`)({ ...given, ...ours }, arg)
  } finally {
    // None is left, where something has failed.
    for (const it of made) it.kill('SIGKILL')
  }
}

/** What the process and its clones have said, each in the order of the alphabet. */
function heard(directory) {
  const file = path.join(directory, 'record')
  const lines = existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n').sort() : []
  const of = (who) => lines.filter((line) => line.startsWith(who)).map((line) => line.slice(who.length + 1))
  return { parent: of('parent'), child: of('child') }
}

/** Of a clone that only was there. */
const bystander = ['goes', 'stays']

/** The tests of a file begin all at once: so many of their processes may be there at a time. */
let places = 3
const waiting = []
async function inTurn(job) {
  if (places > 0) places--
  else await new Promise((resolve) => waiting.push(resolve))
  try {
    return await job()
  } finally {
    const next = waiting.shift()
    if (next) next()
    else places++
  }
}

async function scene(t, act, { arg = null, ...options } = {}) {
  const directory = temporaryDirectory(t)
  const words = { act: act.toString(), directory, arg, slowness }
  const value = await inTurn(() => inProcess(stage, { with: { wrap: [], ...options } }, words))
  return { ...heard(directory), value, directory }
}

/** Starts it as the main script of a Node of its own, whose output may go through a pipe: the sockets of spawn() are none. */
function startScript(t, act, { arg = null, stdio = ['ignore', 'pipe', 'pipe'], throughPipe = false } = {}) {
  const directory = temporaryDirectory(t)
  const file = path.join(directory, 'main.cjs')
  const words = JSON.stringify({ act: act.toString(), directory, arg, slowness })
  const given = `{ lib: require(${JSON.stringify(library)}), fs: require('node:fs') }`
  writeFileSync(file, `(${stage})(${given}, ${words})`)
  const script = [process.execPath, file]
  const shell = ['bash', '-c', 'set -o pipefail; "$0" "$1" | cat']
  const [command, ...rest] = throughPipe ? [...shell, ...script] : script
  const child = spawn(command, rest, { stdio })
  const errors = child.stderr.setEncoding('utf8').toArray()
  const ended = once(child, 'close').then(async ([code, signal]) => {
    if (code !== 0) throw new Error(`the script ended with ${signal ?? code}\n${(await errors).join('')}`)
    return heard(directory)
  })
  return { child, ended, directory }
}

/** The sockets of a process, without those that the test has given it. */
function socketsOf(pid) {
  const numbers = readdirSync(`/proc/${pid}/fd`).filter((fd) => fd > 4)
  return numbers
    .map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
    .filter((link) => link.startsWith('socket:'))
}

function sharedSockets(one, other) {
  const theirs = socketsOf(other)
  return socketsOf(one).filter((link) => theirs.includes(link))
}

const series = (count, what) => Array.from({ length: count }, (_, index) => `${what} ${index}`).sort()

// ─── what is queued in JavaScript ──────────────────────────────────────────────────────────────

const queues = ({ clone, fs, say, stay, settled, leave, use }, place) => {
  const queue = (when) => {
    setTimeout(() => say(`timeout ${when}`), 10)
    setImmediate(() => say(`immediate ${when}`))
    process.nextTick(() => say(`tick ${when}`))
    queueMicrotask(() => say(`microtask ${when}`))
    Promise.resolve().then(() => say(`continuation ${when}`))
  }
  let child
  const callee = () => {
    try {
      queue('before')
      child = clone(stay())
      queue('after')
      say('behind the call')
    } finally {
      say('finally')
    }
  }
  const caller = () => {
    callee()
    say('in the caller')
  }
  const emitter = new (use('events'))().on('event', caller)
  const places = {
    'the main script': () => caller(),
    'a timer': () => setTimeout(caller, 1),
    'an immediate': () => setImmediate(caller),
    'a tick': () => process.nextTick(caller),
    'a microtask': () => queueMicrotask(caller),
    'a continuation': () => Promise.resolve().then(caller),
    'a callback of fs': () => fs.stat('/', caller),
    'a continuation of fs': () => fs.promises.stat('/').then(caller),
    'a listener that a timer calls': () => setTimeout(() => emitter.emit('event'), 1),
    'an async function in a timer': () =>
      setTimeout(async () => {
        await null
        caller()
      }, 1),
  }
  places[place]()
  // No await before: a microtask would not be the main script any more.
  return settled(13).then(() => leave(child))
}

const queued = ['timeout', 'immediate', 'tick', 'microtask', 'continuation']
const done = [
  ...queued.flatMap((what) => [`${what} after`, `${what} before`]),
  'behind the call',
  'finally',
  'in the caller',
].sort()

test('In the child of a main script nothing runs of what the parent has queued, nor what stands behind the call', async (t) => {
  const { parent, child } = await startScript(t, queues, { arg: 'the main script' }).ended
  t.deepEqual(parent, done)
  t.deepEqual(child, bystander)
})

for (const place of [
  'a timer',
  'an immediate',
  'a tick',
  'a microtask',
  'a continuation',
  'a callback of fs',
  'a continuation of fs',
  'a listener that a timer calls',
  'an async function in a timer',
]) {
  test(`With clone() in ${place} what is queued runs in the parent alone`, async (t) => {
    const { parent, child } = await scene(t, queues, { arg: place })
    t.deepEqual(parent, done)
    t.deepEqual(child, bystander)
  })
}

for (const kind of ['setTimeout', 'setImmediate', 'nextTick', 'queueMicrotask', 'then']) {
  test(`With clone() in the first of several of ${kind} the others run in the parent alone`, async (t) => {
    const act = async ({ clone, say, stay, settled, leave }, kind) => {
      const resolved = Promise.resolve()
      const add = {
        setTimeout: (callback) => setTimeout(callback, 5),
        setImmediate: (callback) => setImmediate(callback),
        nextTick: (callback) => process.nextTick(callback),
        queueMicrotask: (callback) => queueMicrotask(callback),
        // biome-ignore lint/suspicious/noThenProperty: a name in a table.
        then: (callback) => resolved.then(callback),
      }[kind]
      let child
      for (let index = 0; index < 5; index++) {
        add(() => {
          if (index === 0) child = clone(stay())
          say(`callback ${index}`)
        })
      }
      await settled(5)
      await leave(child)
    }
    const { parent, child } = await scene(t, act, { arg: kind })
    t.deepEqual(parent, series(5, 'callback'))
    t.deepEqual(child, bystander)
  })
}

test("An interval goes on in the parent alone, also with clone() in the interval's own callback", async (t) => {
  const { parent, child } = await scene(t, async ({ clone, say, stay, settled, leave }) => {
    const children = []
    let count = 0
    const other = setInterval(() => say(`other ${other._repeat && count}`), 1e6)
    const interval = setInterval(() => {
      if (count === 1) children.push(clone(stay()))
      say(`interval ${count++}`)
      if (count === 4) clearInterval(interval)
    }, 5)
    children.push(clone(stay()))
    await settled(4)
    await leave(...children)
  })
  t.deepEqual(parent, series(4, 'interval'))
  t.deepEqual(child, [...bystander, ...bystander].sort())
})

test("Timers of the parent's can be cleared and refreshed in the child, which has its own", async (t) => {
  const { parent, child } = await scene(t, async ({ clone, say, stay, settled, leave }) => {
    const [cleared, refreshed] = ['cleared', 'refreshed'].map((name) => setTimeout(() => say(name), 20))
    const immediate = setImmediate(() => say('immediate'))
    const deed = async () => {
      clearTimeout(cleared)
      clearImmediate(immediate)
      refreshed.refresh()
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
    const it = clone(stay(deed))
    await settled(3)
    await leave(it)
  })
  t.deepEqual(parent, ['cleared', 'immediate', 'refreshed'])
  t.deepEqual(child, ['goes', 'refreshed', 'stays'])
})

test('A rejection that nobody has handled yet is unhandled in the parent alone', async (t) => {
  const { parent, child } = await scene(t, async ({ clone, say, stay, settled, leave }) => {
    const listen = () => {
      for (const event of ['unhandledRejection', 'rejectionHandled', 'warning', 'uncaughtException'])
        process.on(event, (error) => say(`${event} ${error?.message ?? ''}`.trim()))
    }
    listen()
    const late = Promise.reject(new Error('handled late'))
    await new Promise((resolve) => setTimeout(resolve, 1))
    late.catch(() => {})
    Promise.reject(new Error('before'))
    const it = clone(stay(listen))
    Promise.reject(new Error('after'))
    await settled(4)
    await leave(it)
  })
  t.deepEqual(parent, [
    'rejectionHandled',
    'unhandledRejection after',
    'unhandledRejection before',
    'unhandledRejection handled late',
  ])
  t.deepEqual(child, bystander)
})

// ─── what is under way in libuv ────────────────────────────────────────────────────────────────

for (const how of ['unknown', 'known'])
  test(`Pending requests of fs complete once, in the parent: the pool is ${how}`, async (t) => {
    const act = async ({ clone, fs, place, say, stay, settled, leave, acquaint }, knows) => {
      if (knows) await acquaint()
      for (let index = 0; index < 12; index++) {
        const line = `line ${index}\n`
        const said = () => say(`appended ${index}`)
        if (index % 2) fs.appendFile(place('file'), line, said)
        else fs.promises.appendFile(place('file'), line).then(said)
      }
      const children = [clone(stay())]
      // One more while they are on their way.
      await new Promise((resolve) => setImmediate(resolve))
      children.push(clone(stay()))
      await settled(12)
      await leave(...children)
    }
    const { parent, child, directory } = await scene(t, act, { arg: how === 'known' })
    t.deepEqual(parent, series(12, 'appended'))
    t.deepEqual(child, [...bystander, ...bystander].sort())
    const lines = readFileSync(path.join(directory, 'file'), 'utf8').trimEnd().split('\n').sort()
    t.deepEqual(lines, series(12, 'line'))
  })

test('With clone() in the callback of the first of several requests that have completed, the others call the parent alone', async (t) => {
  const act = async ({ clone, fs, place, say, stay, settled, leave }) => {
    let child
    const written = () => fs.readdirSync(place('.')).filter((name) => name.startsWith('written')).length
    for (let index = 0; index < 4; index++) {
      fs.writeFile(place(`written ${index}`), '', () => {
        child ??= clone(stay())
        say(`called ${index}`)
      })
    }
    for (let index = 0; index < 4; index++) {
      fs.mkdir(place(`made ${index}`), () => say(`made ${index}`))
    }
    // The event loop does not turn meanwhile.
    const made = () => fs.readdirSync(place('.')).filter((name) => name.startsWith('made')).length
    while (made() < 4);
    await settled(8)
    await leave(child)
    return written()
  }
  const { parent, child, value } = await scene(t, act)
  t.deepEqual(parent, [...series(4, 'called'), ...series(4, 'made')])
  t.deepEqual(child, bystander)
  t.is(value, 4)
})

for (const how of ['unknown', 'known'])
  test(`Look-ups, keys, random bytes and compression that are under way complete in the parent alone, and the child's own there: the pool is ${how}`, async (t) => {
    const act = async ({ clone, say, stay, settled, leave, use, acquaint }, knows) => {
      if (knows) await acquaint()
      const [crypto, zlib, dns] = ['crypto', 'zlib', 'dns'].map(use)
      const begin = (whose) => {
        const callback = (what) => (error) => say(`${whose} ${what}${error ? ` ${error}` : ''}`)
        dns.lookup('localhost', callback('lookup'))
        dns.lookupService('127.0.0.1', 22, callback('service'))
        crypto.pbkdf2('a', 'b', 20_000, 32, 'sha256', callback('pbkdf2'))
        crypto.scrypt('a', 'b', 32, callback('scrypt'))
        crypto.randomBytes(16, callback('bytes'))
        crypto.generateKeyPair('ec', { namedCurve: 'P-256' }, callback('key'))
        crypto.subtle.digest('SHA-256', new Uint8Array(1e6)).then(() => callback('digest')())
        zlib.gzip(Buffer.alloc(1e6), callback('gzip'))
        zlib.brotliCompress(Buffer.alloc(1e5), callback('brotli'))
      }
      begin("parent's")
      const it = clone(
        stay(async () => {
          begin("child's")
          await settled(9)
        }),
      )
      await settled(9)
      await leave(it)
    }
    const kinds = ['brotli', 'bytes', 'digest', 'gzip', 'key', 'lookup', 'pbkdf2', 'scrypt', 'service']
    const { parent, child } = await scene(t, act, { arg: how === 'known' })
    t.deepEqual(
      parent,
      kinds.map((kind) => `parent's ${kind}`),
    )
    t.deepEqual(child, [...kinds.map((kind) => `child's ${kind}`), ...bystander])
  })

test("Queries of dns that are under way are answered in the parent alone, and the child's own there", async (t) => {
  const act = async ({ clone, say, until, stay, settled, leave, use }) => {
    const dns = use('dns')
    const server = use('dgram').createSocket('udp4')
    const asked = []
    server.on('message', (query, { port, address }) => asked.push({ query, port, address }))
    await new Promise((resolve) => server.bind(0, '127.0.0.1', resolve))
    const answer = ({ query, port, address }) => {
      const question = query.subarray(12, query.indexOf(0, 12) + 5)
      const header = Buffer.from([...query.subarray(0, 2), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
      const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77])
      server.send(Buffer.concat([header, question, record]), port, address)
    }
    const servers = [`127.0.0.1:${server.address().port}`]
    dns.setServers(servers)
    const { resolve4 } = dns
    const callback = (what) => (error, found) => say(`${what} ${error ?? found}`)
    resolve4('callback.example', callback("parent's"))
    dns.promises.resolve4('promise.example').then((found) => say(`parent's promise ${found}`))
    await until(() => asked.length === 2)
    const it = clone(
      stay(async () => {
        say(`servers ${dns.getServers()[0] === servers[0]}`)
        await new Promise((resolve) => {
          resolve4('child.example', (error, found) => resolve(callback("child's")(error, found)))
        })
        say(`child's promise ${await dns.promises.resolve4('other.example')}`)
      }),
    )
    // The parent's are left open until the child has been answered.
    for (let answered = 2; answered < 4; answered++) {
      await until(() => asked.slice(2).filter(isChilds).length === answered - 1)
      answer(asked.slice(2).filter(isChilds).at(-1))
    }
    function isChilds({ query }) {
      return /child|other/.test(query.toString('latin1'))
    }
    for (const one of asked.slice(0, 2)) answer(one)
    await settled(2)
    await leave(it)
    server.close()
  }
  const { parent, child } = await scene(t, act)
  t.deepEqual(parent, ["parent's 192.0.2.77", "parent's promise 192.0.2.77"])
  t.deepEqual(child, ["child's 192.0.2.77", "child's promise 192.0.2.77", 'goes', 'servers true', 'stays'])
})

for (const how of ['unknown', 'known'])
  test(`Four threads of the pool that are stuck are EBUSY, with a hint; with three the child has a pool that works: the pool is ${how}`, async (t) => {
    const act = async ({ clone, fs, cp, place, say, until, leave, stay, acquaint }, knows) => {
      if (knows) await acquaint()
      const stuck = () => {
        const calls = fs.readdirSync('/proc/self/task').map((tid) => {
          return fs.readFileSync(`/proc/self/task/${tid}/wchan`, 'utf8')
        })
        return calls.filter((call) => /wait_for_partner|fifo/.test(call)).length
      }
      const fifos = [1, 2, 3, 4].map((number) => place(`fifo ${number}`))
      cp.execFileSync('mkfifo', fifos)
      const free = (fifo) => fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK)
      const opened = fifos.map((fifo) => fs.promises.open(fifo).then((handle) => handle.close()))
      await until(() => stuck() === 4)
      const start = performance.now()
      let error
      try {
        clone(() => say('ran'))
      } catch (caught) {
        error = caught
      }
      const duration = performance.now() - start
      const open = free(fifos[0])
      await opened[0]
      fs.closeSync(open)
      const it = clone(
        stay(async () => {
          const text = await fs.promises.readFile('/proc/self/comm', 'utf8')
          say(`read ${text.length > 0}`)
        }),
      )
      await leave(it)
      for (const fifo of fifos.slice(1)) free(fifo)
      await Promise.all(opened)
      const { code, step, hint } = error
      return { code, step, hint, duration }
    }
    const { parent, child, value } = await scene(t, act, { arg: how === 'known' })
    t.like(value, { code: 'EBUSY', step: 'clone' })
    t.regex(value.hint, /pool/)
    t.true(value.duration < 10_000 * slowness, `${value.duration}`)
    t.deepEqual(parent, [])
    t.deepEqual(child, ['goes', 'read true', 'stays'])
  })

test("What three of the pool's threads are at for a Worker they do once, and the child has a pool that works", async (t) => {
  const act = async ({
    clone,
    fs,
    cp,
    workers,
    place,
    say,
    until,
    leave,
    alive,
    stay,
    settled,
    acquaint,
  }) => {
    await acquaint()
    const fifo = place('fifo')
    cp.execFileSync('mkfifo', [fifo])
    const reader = fs.openSync(fifo, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
    const source = `
      const fs = require('node:fs')
      const { workerData: fifo, parentPort } = require('node:worker_threads')
      const fd = fs.openSync(fifo, 'w')
      fs.writeSync(fd, 'full'.repeat(16384))
      for (const word of ['one.', 'two.', 'six.']) fs.write(fd, word, () => parentPort.postMessage(word))`
    const worker = new workers.Worker(source, { eval: true, workerData: fifo })
    worker.on('message', (word) => say(`written ${word}`))
    const stuck = () =>
      fs
        .readdirSync('/proc/self/task')
        .map((tid) => fs.readFileSync(`/proc/self/task/${tid}/wchan`, 'utf8'))
        .filter((call) => /pipe_w/.test(call)).length
    await until(() => stuck() === 3)
    const children = [1, 2].map(() =>
      clone(
        stay(async () => {
          const reads = [1, 2, 3, 4].map(() => fs.promises.readFile('/proc/self/comm', 'utf8'))
          const texts = await Promise.all(reads)
          say(`read ${texts.every((text) => text.length > 0)}`)
        }),
      ),
    )
    await alive(2)
    let text = ''
    const drain = () => {
      const room = Buffer.alloc(65536)
      try {
        for (let length = 1; length > 0; ) {
          length = fs.readSync(reader, room)
          text += room.toString('latin1', 0, length)
        }
      } catch (error) {
        if (error.code !== 'EAGAIN') throw error
      }
    }
    drain()
    await settled(3)
    await leave(...children)
    drain()
    await worker.terminate()
    return text.replaceAll('full', '').match(/.{4}/g).sort()
  }
  const { parent, child, value } = await scene(t, act)
  t.deepEqual(value, ['one.', 'six.', 'two.'])
  t.deepEqual(parent, ['written one.', 'written six.', 'written two.'])
  const each = ['goes', 'read true', 'stays']
  t.deepEqual(child, [...each, ...each].sort())
})

// ─── the network ───────────────────────────────────────────────────────────────────────────────

test("The parent's servers go on accepting, and a child with a busy event loop never does", async (t) => {
  let shared
  const answers = []
  const outside = async ({ ports, pid }, { pid: parent }) => {
    shared = sharedSockets(parent, pid)
    for (let count = 0; count < 40; count++) {
      for (const port of ports) {
        const socket = net.connect(port, '127.0.0.1')
        const answer = socket.setEncoding('utf8').toArray()
        socket.end('GET / HTTP/1.0\r\n\r\n')
        answers.push((await answer).join('').split('\r\n').at(-1) === `${parent}`)
      }
    }
  }
  const act = async ({ clone, me, spin, stay, alive, leave, use, outside }) => {
    const servers = [
      use('http').createServer((_, response) => response.end(me())),
      use('net').createServer((socket) => socket.resume().end(me())),
    ]
    const listening = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    await Promise.all(servers.map(listening))
    const it = clone(stay(spin))
    await alive(1)
    await outside({ ports: servers.map((server) => server.address().port), pid: it.pid })
    await leave(it)
  }
  const { child } = await scene(t, act, { outside })
  t.deepEqual(shared, [])
  t.deepEqual(answers, Array(80).fill(true))
  t.deepEqual(child, bystander)
})

/** The other side of a connection: text is collected from its beginning. */
function connection(where) {
  const socket = net.connect(where)
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk
  })
  return { socket, ended: once(socket, 'end'), text: () => text }
}

for (const family of ['TCP', 'Unix']) {
  test(`A ${family} connection is the parent's: it reads each byte once, and its end is seen while the child lives`, async (t) => {
    let peer
    let shared
    let childWasThere
    const numbers = Array.from({ length: 300 }, (_, index) => `${index}\n`)
    const outside = async ({ where, pid }, { pid: parent }) => {
      if (where) {
        peer = connection(where)
        await once(peer.socket, 'connect')
        return
      }
      shared = sharedSockets(parent, pid)
      for (const number of numbers) {
        peer.socket.write(number)
        await nextTurn()
      }
      peer.socket.write('.')
      await peer.ended
      childWasThere = existsSync(`/proc/${pid}`)
      peer.socket.destroy()
    }
    const act = async ({ clone, place, spin, say, stay, alive, leave, use, outside }, family) => {
      const server = use('net').createServer()
      const where = family === 'TCP' ? 0 : place('socket')
      await new Promise((resolve) => server.listen(where, resolve))
      const accepted = new Promise((resolve) => server.once('connection', resolve))
      await outside({ where: server.address().port ? { port: server.address().port } : { path: where } })
      const socket = await accepted
      let isKnown = false
      socket.on('data', (chunk) => {
        if (!isKnown) say('data')
        isKnown = true
        socket.write(chunk)
        if (chunk.includes('.')) socket.end()
      })
      socket.on('close', () => say('close'))
      const it = clone(stay(spin))
      await alive(1)
      await outside({ pid: it.pid })
      await leave(it)
    }
    const { parent, child } = await scene(t, act, { outside, arg: family })
    t.deepEqual(shared, [])
    t.is(peer.text(), `${numbers.join('')}.`)
    t.true(childWasThere)
    t.deepEqual(parent, ['close', 'data'])
    t.deepEqual(child, bystander)
  })
}

test('Writes that wait for their reader arrive once', async (t) => {
  let peer
  const hash = createHash('sha256')
  let length = 0
  const outside = async ({ port }) => {
    if (port) {
      peer = net.connect(port)
      await once(peer, 'connect')
      return
    }
    for await (const chunk of peer) {
      hash.update(chunk)
      length += chunk.length
    }
  }
  const act = async ({ clone, spin, say, stay, alive, leave, use, outside }) => {
    const server = use('net').createServer()
    await new Promise((resolve) => server.listen(0, resolve))
    const accepted = new Promise((resolve) => server.once('connection', resolve))
    await outside({ port: server.address().port })
    const socket = await accepted
    const hash = use('crypto').createHash('sha256')
    for (let index = 0; index < 10; index++) {
      const chunk = use('crypto').randomBytes(1 << 20)
      hash.update(chunk)
      socket.write(chunk, () => say(`written ${index}`))
    }
    socket.end()
    socket.on('finish', () => say('finish'))
    await new Promise((resolve) => setImmediate(resolve))
    const it = clone(stay(spin))
    const waiting = socket.writableLength
    await alive(1)
    await outside({})
    await leave(it)
    return { waiting, sum: hash.digest('hex') }
  }
  const { parent, child, value } = await scene(t, act, { outside })
  t.true(value.waiting > 1 << 20, `${value.waiting}`)
  t.is(length, 10 << 20)
  t.is(hash.digest('hex'), value.sum)
  t.deepEqual(parent, ['finish', ...series(10, 'written')])
  t.deepEqual(child, bystander)
})

for (const [what, wait] of [
  ['at once', () => {}],
  ['when it is on its way', () => new Promise((resolve) => setImmediate(resolve))],
]) {
  test(`What is written by TLS and HTTP/2 is the parent's, whose callbacks and awaits go on there alone: cloned ${what}`, async (t) => {
    const act = async ({ clone, say, stay, settled, leave, use }, { wait }) => {
      const [tls, http2] = [use('tls'), use('http2')]
      const key = Buffer.alloc(32, 1)
      const options = { ciphers: 'PSK-AES256-GCM-SHA384', maxVersion: 'TLSv1.2' }
      const secure = tls.createServer({ ...options, pskCallback: () => key })
      const accepted = new Promise((resolve) => secure.once('secureConnection', resolve))
      await new Promise((resolve) => secure.listen(0, resolve))
      const client = tls.connect({
        ...options,
        port: secure.address().port,
        pskCallback: () => ({ psk: key, identity: 'us' }),
        checkServerIdentity: () => undefined,
      })
      await new Promise((resolve) => client.once('secureConnect', resolve))
      const socket = await accepted
      client.resume()

      const plain = http2.createServer((_, response) => response.end('answer'))
      await new Promise((resolve) => plain.listen(0, resolve))
      const session = http2.connect(`http://localhost:${plain.address().port}`)
      const request = session.request({ ':path': '/' })
      request.resume()
      await new Promise((resolve) => request.once('end', resolve))

      socket.write('some', () => say('written'))
      const promised = new Promise((resolve) => socket.write('more', resolve)).then(() => say('awaited'))
      socket.end(() => say('ended'))
      session.close(() => say('closed'))
      // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
      await globalThis.eval(`(${wait})`)()
      const it = clone(stay())
      await promised
      await settled(4)
      await leave(it)
      for (const each of [client, secure, plain]) (each.destroy ?? each.close).call(each)
    }
    const { parent, child } = await scene(t, act, { arg: { wait: String(wait) } })
    t.deepEqual(parent.toSorted(), ['awaited', 'closed', 'ended', 'written'])
    t.deepEqual(child, bystander)
  })
}

test("With clone() in the handler of a 'close' event, of what closes the parent alone hears", async (t) => {
  const { parent, child } = await scene(t, async ({ clone, say, stay, settled, leave, use, cp }) => {
    const net = use('net')
    const server = net.createServer((socket) => socket.resume())
    await new Promise((resolve) => server.listen(0, resolve))
    const sockets = Array.from({ length: 4 }, () => net.connect(server.address().port))
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))))
    const udp = use('dgram').createSocket('udp4')
    await new Promise((resolve) => udp.bind(resolve))
    const process_ = cp.spawn('true', { stdio: ['pipe', 'ignore', 'ignore'] })
    let it
    const closing = (what) => () => {
      it ??= clone(stay())
      say(what)
    }
    for (const [index, socket] of sockets.entries()) {
      socket.on('close', closing(`socket ${index}`))
      socket.destroy()
    }
    udp.on('close', closing('udp'))
    udp.close()
    server.on('close', closing('server'))
    server.close()
    process_.on('close', closing('process'))
    await settled(7)
    await leave(it)
  })
  t.deepEqual(parent, ['process', 'server', ...series(4, 'socket'), 'udp'])
  t.deepEqual(child, bystander)
})

test("Datagrams are the parent's", async (t) => {
  let shared
  const outside = async ({ port, pid }, { pid: parent }) => {
    shared = sharedSockets(parent, pid)
    const socket = dgram.createSocket('udp4')
    for (let index = 0; index < 50; index++) {
      await new Promise((resolve) => socket.send(`datagram ${index}`, port, '127.0.0.1', resolve))
      await nextTurn()
    }
    socket.close()
  }
  const act = async ({ clone, say, spin, stay, alive, settled, leave, use, outside }) => {
    const socket = use('dgram').createSocket('udp4')
    socket.on('message', (message) => say(String(message)))
    await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve))
    const it = clone(stay(spin))
    await alive(1)
    await outside({ port: socket.address().port, pid: it.pid })
    await settled(50)
    await leave(it)
  }
  const { parent, child } = await scene(t, act, { outside })
  t.deepEqual(shared, [])
  t.deepEqual(parent, series(50, 'datagram'))
  t.deepEqual(child, bystander)
})

for (const client of ['an http.Agent', 'the global agent', 'fetch']) {
  test(`The connection that ${client} keeps is the parent's: the child makes one of its own`, async (t) => {
    const ports = []
    const server = http.createServer((request, response) => {
      ports.push([request.url.slice(1), request.socket.remotePort])
      response.end('answer')
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => {
      server.close()
      server.closeAllConnections()
    })
    const act = async ({ clone, stay, alive, leave, use }, { client, port }) => {
      const http = use('http')
      const agent = new http.Agent({ keepAlive: true })
      const get = async (name) => {
        const url = `http://127.0.0.1:${port}/${name}`
        if (client === 'fetch') return (await fetch(url)).text()
        const options = client === 'an http.Agent' ? { agent } : {}
        const [response] = await use('events').once(http.get(url, options), 'response')
        response.resume()
        await use('events').once(response, 'close')
        // The agent gets it back.
        await new Promise((resolve) => setImmediate(resolve))
      }
      await get('parent')
      await get('parent')
      const it = clone(
        stay(async () => {
          await get('child')
          await get('child')
        }),
      )
      await get('parent')
      await alive(1)
      await get('parent')
      await leave(it)
      await get('parent')
      await get('parent')
    }
    const { child } = await scene(t, act, { arg: { client, port: server.address().port } })
    t.deepEqual(child, bystander)
    const of = (who) => ports.filter(([name]) => name === who).map(([, port]) => port)
    const [ours, theirs] = [of('parent'), of('child')]
    t.deepEqual([ours.length, theirs.length], [6, 2])
    // fetch may keep two of them, by turns; the others one.
    t.deepEqual(new Set(ours), new Set(ours.slice(0, 2)))
    t.true(theirs.every((port) => !ours.includes(port)))
  })
}

test('A request that is under way completes in the parent alone', async (t) => {
  const requests = []
  const responses = []
  const server = http.createServer((request, response) => {
    requests.push(request.url)
    responses.push(response)
    if (responses.length === 2) for (const each of responses) each.end('answer')
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const act = async ({ clone, say, stay, settled, leave, use }, port) => {
    const url = `http://127.0.0.1:${port}`
    const request = use('http').get(`${url}/http`, (response) => {
      response.resume().on('end', () => say('http'))
    })
    request.on('close', () => say('close')).on('error', (error) => say(error.message))
    await new Promise((resolve) => request.once('finish', resolve))
    const it = clone(stay())
    fetch(`${url}/fetch`).then(async (response) => say(`fetch ${await response.text()}`))
    await settled(3)
    await leave(it)
  }
  const { parent, child } = await scene(t, act, { arg: server.address().port })
  t.deepEqual(requests.sort(), ['/fetch', '/http'])
  t.deepEqual(parent, ['close', 'fetch answer', 'http'])
  t.deepEqual(child, bystander)
})

// ─── files, processes, threads that are watched ────────────────────────────────────────────────

for (const place of ['beside it', "in the watcher's callback"]) {
  test(`What fs.watch sees the parent alone hears, with clone() ${place}, and the child's watcher sees what it sees`, async (t) => {
    const act = async ({ clone, fs, place: at, say, stay, alive, settled, leave }, place) => {
      fs.mkdirSync(at('watched'))
      let it
      const watch = (whose) =>
        fs.watch(at('watched'), (_, name) => {
          if (place !== 'beside it') it ??= clone(stay(deed))
          say(`${whose} ${name}`)
        })
      const deed = async () => {
        const isOwn = fs.readdirSync(at('watched')).length
        watch("child's")
        fs.mkdirSync(at('watched/by the child'))
        await settled(1)
        if (isOwn === 0) throw new Error('it was to be called later')
      }
      watch("parent's")
      for (const name of ['a', 'b', 'c']) fs.mkdirSync(at(`watched/${name}`))
      if (place === 'beside it') it = clone(stay(deed))
      await alive(1)
      await settled(4)
      await leave(it)
    }
    const { parent, child } = await scene(t, act, { arg: place })
    t.deepEqual(parent, ["parent's a", "parent's b", "parent's by the child", "parent's c"])
    t.deepEqual(child, ["child's by the child", 'goes', 'stays'])
  })
}

test("What fs.watchFile sees the parent alone hears, also with clone() in the watcher's callback", async (t) => {
  const { parent, child } = await scene(t, async ({ clone, fs, place, say, stay, alive, settled, leave }) => {
    const children = []
    fs.writeFileSync(place('file'), '')
    fs.watchFile(place('file'), { interval: 5 }, ({ size }) => {
      if (children.length === 1) children.push(clone(stay()))
      say(`size ${size}`)
    })
    // Its first look has been taken.
    await new Promise((resolve) => fs.stat('/', resolve))
    children.push(clone(stay()))
    await alive(1)
    fs.appendFileSync(place('file'), '1')
    await settled(1)
    await alive(2)
    fs.appendFileSync(place('file'), '2')
    await settled(2)
    await leave(...children)
  })
  t.deepEqual(parent, ['size 1', 'size 2'])
  t.deepEqual(child, [...bystander, ...bystander].sort())
})

test("The parent's child processes are the parent's: output, end and the end of their input", async (t) => {
  const { parent, child } = await scene(t, async ({ clone, cp, say, stay, alive, settled, leave }) => {
    const cat = cp.spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] })
    let text = ''
    cat.stdout.on('data', (chunk) => {
      text += chunk
    })
    cat.on('exit', (code) => say(`exit ${code}`))
    cat.on('close', () => say(`close ${text}`))
    cat.stdin.write('before ')
    const it = clone(stay())
    await alive(1)
    // Nobody else has the other end of its input.
    cat.stdin.end('after')
    await settled(2)
    await leave(it)
  })
  t.deepEqual(parent, ['close before after', 'exit 0'])
  t.deepEqual(child, bystander)
})

test('With clone() in the exit event of the first of several processes that have ended the parent alone hears of the others', async (t) => {
  const { parent, child } = await scene(t, async ({ clone, cp, fs, say, stay, settled, leave }) => {
    let it
    const pids = [0, 1, 2, 3].map((index) => {
      const ended = cp.spawn('true', { stdio: 'ignore' })
      ended.on('exit', (code) => {
        it ??= clone(stay())
        say(`exit ${index}${code}`)
      })
      return ended.pid
    })
    // The event loop does not turn meanwhile.
    while (!pids.every((pid) => / Z /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'))));
    await settled(4)
    await leave(it)
  })
  t.deepEqual(parent, ['exit 00', 'exit 10', 'exit 20', 'exit 30'])
  t.deepEqual(child, bystander)
})

test("Messages of the parent's Workers, ports and channels come once, in the parent, and the Workers go on", async (t) => {
  const { parent, child } = await scene(t, async ({ clone, workers, say, stay, alive, settled, leave }) => {
    const { port1, port2 } = new workers.MessageChannel()
    const channels = [new BroadcastChannel('channel'), new BroadcastChannel('channel')]
    const flag = new Int32Array(new SharedArrayBuffer(4))
    const text = `
      const { parentPort, workerData } = require('node:worker_threads')
      for (let index = 0; index < 5; index++) parentPort.postMessage('worker ' + index)
      Atomics.store(workerData, 0, 1)
      Atomics.notify(workerData, 0)
      parentPort.once('message', (message) => parentPort.postMessage('answer to ' + message))`
    const worker = new workers.Worker(text, { eval: true, workerData: flag })
    let it
    worker.on('message', (message) => {
      it ??= clone(stay())
      say(message)
    })
    worker.on('exit', (code) => say(`exit ${code}`))
    port1.on('message', say)
    channels[0].onmessage = ({ data }) => say(data)
    port2.postMessage('port')
    channels[1].postMessage('channel')
    // All of it waits while the event loop does not turn.
    Atomics.wait(flag, 0, 0)
    await settled(7)
    await alive(1)
    port2.postMessage('port later')
    channels[1].postMessage('channel later')
    worker.postMessage('the parent')
    await settled(11)
    await leave(it)
    for (const end of [port1, ...channels]) end.close()
  })
  const messages = ['answer to the parent', 'channel', 'channel later', 'exit 0', 'port', 'port later']
  t.deepEqual(parent, [...messages, ...series(5, 'worker')])
  t.deepEqual(child, bystander)
})

test("The channel of a forked process is the parent's: the child has no process.send, and is not connected", async (t) => {
  const act = async ({ clone, say, stay, alive, settled, leave }) => {
    process.on('message', (message) => {
      say(`message ${message}`)
      process.disconnect()
    })
    process.on('disconnect', () => say('disconnect'))
    const look = () => say(`${typeof process.send} ${process.connected} ${typeof process.channel}`)
    const it = clone(stay(look))
    await alive(1)
    process.send('ready')
    await settled(2)
    await leave(it)
  }
  const stdio = ['ignore', 'inherit', 'pipe', 'ipc']
  const { child: script, ended } = startScript(t, act, { stdio })
  const got = []
  script.on('message', (message) => {
    got.push(message)
    script.send('hello')
  })
  const { parent, child } = await ended
  t.deepEqual(got, ['ready'])
  t.deepEqual(parent, ['disconnect', 'message hello'])
  t.deepEqual(child, ['goes', 'stays', 'undefined false undefined'])
})

test("A clone of a cluster's worker is none, and listens by itself", async (t) => {
  const act = async ({ clone, fs, place, say, until, use }) => {
    const cluster = use('cluster')
    const child = clone(async () => {
      const server = use('net').createServer((socket) => socket.end(`${process.pid}`))
      await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
      fs.writeFileSync(place('number'), `${server.address().port}`)
      // Whoever finds it finds it written.
      fs.renameSync(place('number'), place('port'))
      say(`${cluster.isWorker} ${cluster.isPrimary} ${cluster.isMaster}`)
      await new Promise((resolve) => server.once('connection', (socket) => socket.once('close', resolve)))
    })
    await until(() => fs.existsSync(place('port')))
    const socket = use('net').connect(Number(fs.readFileSync(place('port'), 'utf8')), '127.0.0.1')
    let text = ''
    for await (const chunk of socket) text += chunk
    say(`connected to ${text === `${child.pid}`}, ${cluster.isWorker}`)
    const { code } = await child.wait()
    process.exit(code)
  }
  const directory = temporaryDirectory(t)
  const worker = path.join(directory, 'worker.cjs')
  const words = JSON.stringify({ act: act.toString(), directory, slowness })
  const given = `{ lib: require(${JSON.stringify(library)}), fs: require('node:fs') }`
  writeFileSync(worker, `(${stage})(${given}, ${words})`)
  const primary = (_, exec) => {
    const cluster = process.getBuiltinModule('node:cluster')
    cluster.setupPrimary({ exec })
    return new Promise((resolve) => cluster.fork().once('exit', (code, signal) => resolve(signal ?? code)))
  }
  t.is(await inTurn(() => inProcess(primary, { with: { wrap: [] } }, worker)), 0)
  const { parent, child } = heard(directory)
  t.deepEqual(parent, ['connected to true, true'])
  t.deepEqual(child, ['false true true'])
})

const dispatchers = {
  'with options of its own': [
    'new Agent({ maxOrigins: 7, maxRedirections: 3, connect: { timeout: 5 }, factory })',
    'is new',
  ],
  'that extends it': [
    'new (class Own extends Agent { constructor(policy) { super({ headersTimeout: policy }) } })(9)',
    'is the same',
  ],
  'that is wrapped': ['new Proxy(new Agent({ headersTimeout: 9 }), {})', 'is the same'],
}

for (const [which, [source, what]] of Object.entries(dispatchers)) {
  test(`In the child the dispatcher of fetch ${which} ${what}, and has its options`, async (t) => {
    const act = async ({ clone, say, stay, leave }, source) => {
      await fetch('http://127.0.0.1:1').catch(() => {})
      const [one, two] = [1, 2].map((version) => Symbol.for(`undici.globalDispatcher.${version}`))
      const { constructor: Agent } = globalThis[two] ?? globalThis[one]
      const factory = () => 'made by it'
      // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
      const given = globalThis.eval(`(Agent, factory) => ${source}`)(Agent, factory)
      globalThis[one] = given
      const of = (name) => {
        const { [one]: it } = globalThis
        return it[Object.getOwnPropertySymbols(it).find(({ description }) => description === name)]
      }
      const look = () => {
        const { headersTimeout, connect } = of('options')
        const it = {
          headersTimeout,
          connect,
          factory: of('factory') === factory,
          more: of('maxRedirections'),
        }
        say(`${globalThis[one] === given ? 'is the same' : 'is new'} ${JSON.stringify(it)}`)
      }
      look()
      await leave(clone(stay(look)))
    }
    const { parent, child } = await scene(t, act, { arg: source })
    t.deepEqual(child.at(1), parent[0].replace('is the same', what))
  })
}

test('In the child the dispatchers that Node has made are new ones, with a proxy of the environment’s too', async (t) => {
  const act = async ({ clone, say, stay, leave }) => {
    const symbols = [1, 2].map((version) => Symbol.for(`undici.globalDispatcher.${version}`))
    const of = () => symbols.map((symbol) => globalThis[symbol]).filter(Boolean)
    await fetch('http://127.0.0.1:1').catch(() => {})
    const before = of()
    const look = () => {
      const now = of()
      say(
        now
          .map(
            (it, index) =>
              `${before.includes(it) ? 'old' : 'new'} ${it.constructor.name === before[index].constructor.name}`,
          )
          .join(),
      )
    }
    await leave(clone(stay(look)))
    return before.length
  }
  for (const env of [{}, { NODE_USE_ENV_PROXY: '1', HTTP_PROXY: 'http://127.0.0.1:1' }]) {
    const { child, value } = await scene(t, act, { env })
    t.is(child.at(1), Array(value).fill('new true').join())
  }
})

// ─── listeners of process, signals, exit handlers ──────────────────────────────────────────────

const endings = {
  'that returns': { end: () => 3, code: 3 },
  'that calls process.exit()': { end: () => process.exit(4), code: 4 },
  'that throws': {
    end: () => {
      throw new Error('thrown')
    },
    code: 1,
  },
  'whose promise is rejected': { end: () => Promise.reject(new Error('rejected')), code: 1 },
  'that leaves a rejection unhandled': {
    end: () => {
      Promise.reject(new Error('unhandled'))
      return new Promise(() => {})
    },
    code: 1,
  },
  'that throws in a timer': {
    end: () => {
      setTimeout(() => {
        throw new Error('in a timer')
      })
      return new Promise(() => {})
    },
    code: 1,
  },
  'that waits for nothing': { end: () => new Promise(() => {}), code: 13 },
  'that warns': {
    end: () => {
      process.emitWarning('careful')
      return new Promise((resolve) => setTimeout(resolve, 5))
    },
    code: 0,
  },
}

for (const [which, { end, code }] of Object.entries(endings)) {
  for (const how of ['listeners', 'capture callback']) {
    test(`A child ${which} runs none of the parent's ${how}`, async (t) => {
      const act = async ({ clone, say }, { end, how }) => {
        const events = ['exit', 'beforeExit', 'warning', 'unhandledRejection', 'multipleResolves']
        if (how === 'listeners') events.push('uncaughtException', 'uncaughtExceptionMonitor')
        else process.setUncaughtExceptionCaptureCallback(() => say('captured'))
        for (const event of events) process.on(event, () => say(event))
        // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
        return clone(globalThis.eval(`(${end})`)).wait()
      }
      const { parent, child, value } = await scene(t, act, { arg: { end: String(end), how } })
      t.deepEqual(value, { code, signal: null })
      t.deepEqual(child, [])
      // The parent's own end.
      t.deepEqual(parent, ['exit'])
    })
  }
}

for (const flags of [[], ['CLONE_FILES']]) {
  test(`What wraps process.emit and process.reallyExit, as signal-exit does, hears of the parent's exit alone: ${flags[0] ?? 'no flags'}`, async (t) => {
    const act = async ({ lib, clone, say }, flags) => {
      const { emit, reallyExit } = process
      process.emit = function (event, ...rest) {
        if (event === 'exit') say(`emits exit ${rest}`)
        return emit.call(this, event, ...rest)
      }
      process.reallyExit = function (code) {
        say(`exits with ${code}`)
        return reallyExit.call(this, code)
      }
      const deed = () => {
        process.on('exit', (code) => say(`listener ${code}`))
        return 3
      }
      const bits = flags.reduce((bits, name) => bits | lib[name], 0)
      const { code } = await clone(deed, { flags: bits }).wait()
      say(`has waited for ${code}`)
      process.exit(0)
    }
    const { parent, child } = await startScript(t, act, { arg: flags }).ended
    t.deepEqual(parent, ['emits exit 0', 'exits with 0', 'has waited for 3'])
    t.deepEqual(child, ['listener 3'])
  })
}

for (const [what, deed, code] of [
  ['returns', '() => 3', 3],
  ['throws', "() => { throw new Error('thrown') }", 1],
  ['throws later', "() => new Promise(() => setTimeout(() => { throw new Error('thrown') }))", 1],
]) {
  test(`In domains with listeners the child is in none, and its end is its own where it ${what}`, async (t) => {
    const act = async ({ clone, say, use }, deed) => {
      const [outer, inner] = ['outer', 'inner'].map((name) =>
        use('domain')
          .create()
          .on('error', ({ message }) => say(`${name} ${message}`)),
      )
      // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
      const fn = globalThis.eval(`(${deed})`)
      const own = () => {
        say(`in ${process.domain ?? 'none'}`)
        return fn()
      }
      const { code } = await outer.run(() => inner.run(() => clone(own))).wait()
      inner.run(() =>
        process.nextTick(() => {
          throw new Error('of the parent')
        }),
      )
      await new Promise((resolve) => setImmediate(resolve))
      return code
    }
    const { parent, child, value } = await scene(t, act, { arg: deed })
    t.is(value, code)
    t.deepEqual(parent, ['inner of the parent'])
    t.deepEqual(child, ['in none'])
  })
}

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGALRM']) {
  test(`${signal} has its default effect in the child until its function listens; the parent goes on listening`, async (t) => {
    const { parent, child, value } = await scene(
      t,
      async ({ clone, fs, place, say, until, settled }, signal) => {
        process.on(signal, () => say(signal))
        const exists = (name) => until(() => fs.existsSync(place(name)))
        const mark = (name) => fs.writeFileSync(place(name), '')
        const silent = clone(async () => {
          mark('silent')
          await until(() => false)
        })
        const listening = clone(async () => {
          let isHeard = false
          process.once(signal, () => {
            isHeard = true
          })
          mark('listening')
          // A listener for signals does not hold the event loop.
          await until(() => isHeard)
          return 5
        })
        const again = clone(async () => {
          process.once(signal, () => mark('once'))
          mark('again')
          await exists('once')
          // Nobody listens any more.
          mark('twice')
          await until(() => false)
        })
        const statuses = []
        for (const [name, it] of Object.entries({ silent, listening, again })) {
          await exists(name)
          it.kill(signal)
          if (name === 'again') {
            await exists('twice')
            it.kill(signal)
          }
          statuses.push(await it.wait())
        }
        process.kill(process.pid, signal)
        await settled(1)
        return statuses
      },
      { arg: signal },
    )
    const killed = { code: null, signal }
    t.deepEqual(value, [killed, { code: 5, signal: null }, killed])
    t.deepEqual(parent, [signal])
    t.deepEqual(child, [])
  })
}

test('SIGUSR1, which opens an inspector in the parent, has its default effect in the child', async (t) => {
  const { value } = await scene(t, async ({ clone, until, use }) => {
    const it = clone(() => until(() => false))
    it.kill('SIGUSR1')
    const status = await it.wait()
    const before = use('inspector').url() ?? null
    process.debugPort = 0
    process.kill(process.pid, 'SIGUSR1')
    await until(() => use('inspector').url() !== undefined)
    use('inspector').close()
    return { status, before }
  })
  t.deepEqual(value, { status: { code: null, signal: 'SIGUSR1' }, before: null })
})

const exitHandlers = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void note(const char *what) {
  FILE *file = fopen(getenv("EXIT_HANDLERS"), "a");
  fprintf(file, "%s %d\\n", what, getpid());
  fclose(file);
}
static pid_t parent;
int pthread_cond_destroy(pthread_cond_t *condition) {
  if (getpid() != parent) note("pthread_cond_destroy");
  return ((int (*)(pthread_cond_t *))dlsym(RTLD_NEXT, "pthread_cond_destroy"))(condition);
}
static void at_exit(void) { note("atexit"); }
__attribute__((constructor)) static void load(void) { parent = getpid(); atexit(at_exit); }
__attribute__((destructor)) static void unload(void) { note("destructor"); }
`

test("What native code does at the parent's exit it does not do at the child's, which waits for no thread", async (t) => {
  if (!available(t, hasCompiler(), 'cc')) return
  const file = path.join(temporaryDirectory(t), 'handlers')
  const act = async ({ clone, use }) => {
    const ends = [
      () => {},
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 1))
      },
      () => process.exit(),
      () => process.reallyExit(0),
      () => use('vm').runInNewContext('exit()', { exit: () => process.exit() }),
      () => {
        process.exitCode = 0
        throw new Error('thrown')
      },
      () => {
        process.on('uncaughtException', () => {
          throw new Error('thrown by a listener')
        })
        throw new Error('thrown')
      },
    ]
    const codes = []
    for (const end of ends) codes.push((await clone(end).wait()).code)
    return { codes, pid: process.pid }
  }
  const env = { LD_PRELOAD: compileLibrary(t, exitHandlers), EXIT_HANDLERS: file }
  const { value } = await scene(t, act, { env })
  t.deepEqual(value.codes, [0, 0, 0, 0, 0, 1, 7])
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').sort()
  t.deepEqual(lines, [`atexit ${value.pid}`, `destructor ${value.pid}`])
})

for (const kind of ['a socket', 'a pipe']) {
  test(`Each line that waits for room in ${kind} on stdout is written once, by the parent`, async (t) => {
    const act = async ({ clone, fs, place, say, stay, alive, leave }) => {
      for (let index = 0; index < 60_000; index++) process.stdout.write(`${index}: a line that waits\n`)
      fs.writeFileSync(place('waiting'), `${process.stdout.writableLength}`)
      const children = [clone(stay()), clone(stay(() => new Promise((resolve) => setImmediate(resolve))))]
      await alive(2)
      process.stdout.write('the last line\n', () => say('written'))
      fs.writeFileSync(place('ready'), '')
      await leave(...children)
    }
    const stdio = ['ignore', 'pipe', 'pipe']
    const { child: script, ended, directory } = startScript(t, act, { stdio, throughPipe: kind === 'a pipe' })
    script.stdout.setEncoding('utf8').pause()
    while (!existsSync(path.join(directory, 'waiting'))) await nextTurn()
    const text = (await script.stdout.toArray()).join('')
    const { parent, child } = await ended
    const lines = Array.from({ length: 60_000 }, (_, index) => `${index}: a line that waits\n`)
    t.is(text, `${lines.join('')}the last line\n`)
    t.deepEqual(parent, ['written'])
    t.deepEqual(child, [...bystander, ...bystander].sort())
  })
}

// ─── wake-ups ──────────────────────────────────────────────────────────────────────────────────

test("The parent's timers, Workers, delayed tasks and pool lose no wake-up while many children are made", async (t) => {
  const act = async ({ clone, fs, workers }) => {
    const text = `
      const { workerData: [ping, pong] } = require('node:worker_threads')
      for (let round = 0; round < 400; round++) {
        Atomics.wait(ping, 0, round)
        Atomics.add(pong, 0, 1)
        Atomics.notify(pong, 0)
      }`
    const [ping, pong] = [0, 0].map(() => new Int32Array(new SharedArrayBuffer(4)))
    const worker = new workers.Worker(text, { eval: true, workerData: [ping, pong] })
    const gone = new Promise((resolve) => worker.once('exit', resolve))
    const rounds = async () => {
      for (let round = 0; round < 400; round++) {
        const answer = Atomics.waitAsync(pong, 0, round)
        Atomics.add(ping, 0, 1)
        Atomics.notify(ping, 0)
        await answer.value
      }
    }
    const delays = async () => {
      const never = new Int32Array(new SharedArrayBuffer(4))
      for (let count = 0; count < 30; count++) {
        // The platform's thread for delayed tasks ends it.
        const { value } = Atomics.waitAsync(never, 0, 0, 5)
        if ((await value) !== 'timed-out') throw new Error('not timed out')
      }
    }
    const clocks = async () => {
      let early = 0
      for (let count = 0; count < 60; count++) {
        const start = performance.now()
        await new Promise((resolve) => setTimeout(resolve, 5))
        // libuv counts whole milliseconds.
        if (performance.now() - start < 4) early++
      }
      return early
    }
    const files = async () => {
      for (let count = 0; count < 300; count++) await fs.promises.stat('/')
    }
    const module = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)
    const compilations = async () => {
      for (let count = 0; count < 50; count++) await WebAssembly.compile(module)
    }
    const asynchronous = async () => {
      await fs.promises.stat('/')
      await new Promise((resolve) => setTimeout(resolve, 2))
      await WebAssembly.compile(module)
    }
    const clones = async () => {
      const statuses = []
      for (let count = 0; count < 30; count++) {
        statuses.push(clone(count % 2 ? () => 0 : asynchronous).wait())
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
      return (await Promise.all(statuses)).filter(({ code }) => code !== 0)
    }
    const all = [clones(), clocks(), rounds(), delays(), files(), compilations(), gone]
    return (await Promise.all(all)).slice(0, 2)
  }
  const { value } = await scene(t, act)
  t.deepEqual(value, [[], 0])
})

// ─── randomness ────────────────────────────────────────────────────────────────────────────────

for (const where of ['a process and its clones', 'processes that are pid 1 of pid namespaces']) {
  test(`Nothing random repeats between ${where}`, async (t) => {
    const act = async ({ clone, fs, place, use }, flags) => {
      const crypto = use('crypto')
      const { random } = Math
      const bytes = (count) => crypto.getRandomValues(new Uint8Array(count))
      const sources = {
        random,
        'Math.random': () => Math.random(),
        uuid: () => crypto.randomUUID(),
        'uuid without cache': () => crypto.randomUUID({ disableEntropyCache: true }),
        'global uuid': () => globalThis.crypto.randomUUID(),
        bytes: () => crypto.randomBytes(8).toString('hex'),
        integer: () => crypto.randomInt(2 ** 48 - 1),
        values: () => Buffer.from(bytes(8)).toString('hex'),
        key: () => crypto.createECDH('prime256v1').generateKeys('hex'),
      }
      const draw = (count) =>
        Object.values(sources).flatMap((source) => Array.from({ length: count }, source))
      const write = (name, numbers) => fs.writeFileSync(place(`drawn ${name}`), JSON.stringify(numbers))
      // Their caches are begun.
      const before = draw(3)
      const drawing = (name) => () => write(name, [process.pid, draw(150)])
      const statuses = []
      const begin = (fn) => statuses.push(clone(fn, { flags }).waitSync().code)
      begin(drawing('a'))
      begin(drawing('b'))
      begin(async () => drawing('c')())
      begin(() => {
        drawing('d')()
        return clone(drawing('nested'), { flags }).waitSync().code
      })
      write('parent', [process.pid, [...before, ...draw(150)]])
      return statuses
    }
    const isNamespaced = where.includes('namespaces')
    // The process itself is pid 1, as well.
    const options = isNamespaced
      ? { wrap: [...privileged, 'unshare', '--pid', '--fork', '--kill-child'], arg: ['pid'] }
      : { arg: [] }
    const { value, directory } = await scene(t, act, options)
    t.deepEqual(value, [0, 0, 0, 0])
    const files = readdirSync(directory).filter((name) => name.startsWith('drawn'))
    t.is(files.length, 6)
    const drawn = files.map((name) => JSON.parse(readFileSync(path.join(directory, name), 'utf8')))
    t.is(new Set(drawn.map(([pid]) => pid)).size, isNamespaced ? 1 : 6)
    const all = drawn.flatMap(([, numbers]) => numbers)
    t.is(all.length, 6 * 150 * 9 + 3 * 9)
    t.is(new Set(all).size, all.length)
  })
}

test("Nothing random repeats between a process and its clone's clone that has the same pid in another namespace", async (t) => {
  const act = async ({ clone, fs, place, use }) => {
    const { randomBytes } = use('crypto')
    const draw = (name) => {
      const drawn = Array.from({ length: 100 }, () => randomBytes(8).toString('hex'))
      fs.writeFileSync(place(name), JSON.stringify({ pid: process.pid, drawn }))
    }
    randomBytes(8)
    const between = clone(() => clone(() => draw('below'), { flags: ['pid'] }).waitSync().code)
    const { code } = between.waitSync()
    draw('above')
    return { code, between: between.pid }
  }
  const wrap = [...privileged, 'unshare', '--pid', '--fork', '--kill-child']
  const { value, directory } = await scene(t, act, { wrap })
  t.is(value.code, 0)
  const [above, below] = ['above', 'below'].map((name) =>
    JSON.parse(readFileSync(path.join(directory, name), 'utf8')),
  )
  t.deepEqual([above.pid, below.pid], [1, 1])
  t.not(value.between, 1)
  t.is(new Set([...above.drawn, ...below.drawn]).size, 200)
})

// ─── other threads ─────────────────────────────────────────────────────────────────────────────

/** Clones, from which all works that works in this process: garbage is collected, promises and timers go on. */
const cloningWorks = async ({ clone, fs }) => {
  const work = async () => {
    let garbage = []
    for (let count = 0; count < 3e5; count++) {
      garbage.push({ count })
      if (garbage.length > 1e5) garbage = []
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
    return (await fs.promises.readFile('/proc/self/comm')).length > 0 ? 7 : 1
  }
  const codes = []
  for (let count = 0; count < 6; count++) codes.push((await clone(count % 2 ? work : () => 7).wait()).code)
  return codes
}
const sevens = Array(6).fill(7)

const workerStates = {
  'is idle': "parentPort.once('message', () => {})",
  computes: 'while (Atomics.load(flag, 1) === 0);',
  allocates: 'let a; while (Atomics.load(flag, 1) === 0) a = [a?.length, {}]',
  'is in Atomics.wait': 'Atomics.wait(flag, 1, 0)',
  'reads a FIFO': "require('node:fs').readFileSync(fifo)",
}

for (const [state, text] of Object.entries(workerStates)) {
  test(`Cloning works while a Worker ${state}, which goes on`, async (t) => {
    const act = async ({ clone, fs, cp, place, until, workers }, { text, works }) => {
      const flag = new Int32Array(new SharedArrayBuffer(8))
      const fifo = place('fifo')
      cp.execFileSync('mkfifo', [fifo])
      const start = `
        const { parentPort, workerData: { flag, fifo } } = require('node:worker_threads')
        Atomics.store(flag, 0, 1)
        ${text}
        parentPort.postMessage('went on')`
      const worker = new workers.Worker(start, { eval: true, workerData: { flag, fifo } })
      const answer = new Promise((resolve) => worker.once('message', resolve))
      const gone = new Promise((resolve) => worker.once('exit', resolve))
      await until(() => Atomics.load(flag, 0) === 1)
      // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
      const codes = await globalThis.eval(`(${works})`)({ clone, fs })
      Atomics.store(flag, 1, 1)
      Atomics.notify(flag, 1)
      worker.postMessage('go on')
      if (text.includes('fifo')) fs.closeSync(fs.openSync(fifo, 'w'))
      const [exit] = await Promise.all([gone, text.includes('once') || answer])
      return { codes, exit }
    }
    const { value } = await scene(t, act, { arg: { text, works: String(cloningWorks) } })
    t.deepEqual(value, { codes: sevens, exit: 0 })
  })
}

test('In a Worker clone() throws a SystemCallError, ENOTSUP, with a hint, and makes no process', async (t) => {
  const { parent, child, value } = await scene(t, async ({ workers, place, use }) => {
    const text = `
      const { parentPort, workerData: { library, file } } = require('node:worker_threads')
      const { clone } = require(library)
      try {
        clone(() => require('node:fs').writeFileSync(file, ''))
      } catch (error) {
        const { code, syscall, step, hint } = error
        parentPort.postMessage({ code, syscall, step, hint })
      }`
    const library = Object.keys(use('module')._cache).find((file) => /index\.js$/.test(file))
    const workerData = { library, file: place('record') }
    const worker = new workers.Worker(text, { eval: true, workerData })
    return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  })
  t.like(value, { code: 'ENOTSUP', syscall: 'clone', step: 'clone' })
  t.regex(value.hint, /main thread/)
  t.deepEqual([parent, child], [[], []])
})

/** Speaks to an inspector as a debugger does, as far as this needs: short messages, without a mask. */
async function debug(url) {
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Key': Buffer.alloc(16).toString('base64'),
    'Sec-WebSocket-Version': 13,
  }
  const [, socket] = await once(http.get(url.replace('ws:', 'http:'), { headers }), 'upgrade')
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  let id = 0
  const ask = async (method, params = {}) => {
    const message = Buffer.from(JSON.stringify({ id: ++id, method, params }))
    socket.write(Buffer.from([0x81, 0x80 | message.length, 0, 0, 0, 0, ...message]))
    const answer = new RegExp(`\\{"id":${id},.*?\\}\\}+`)
    while (!answer.test(text)) await once(socket, 'data')
    return JSON.parse(answer.exec(text)[0])
  }
  return { ask, end: () => socket.destroy() }
}

for (const kind of ['that listens', 'that a debugger is connected to', 'session of its own']) {
  test(`Cloning works in a process with an inspector ${kind}, which goes on`, async (t) => {
    let client
    const answers = []
    const outside = async ({ url, pid }, { pid: parent }) => {
      if (url) {
        client = await debug(url)
        await client.ask('Debugger.enable')
        return
      }
      if (pid) answers.push(sharedSockets(parent, pid))
      answers.push((await client.ask('Runtime.evaluate', { expression: '6 * 7' })).result.result.value)
      if (!pid) client.end()
    }
    const act = async (given, { kind, works }) => {
      const { clone, use, outside, alive, stay, leave } = given
      const inspector = use('inspector')
      const session = new inspector.Session()
      const url = inspector.url()
      const isConnected = kind === 'that a debugger is connected to'
      if (isConnected) await outside({ url })
      if (kind === 'session of its own') {
        session.connect()
        session.post('Debugger.enable')
      }
      // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
      const codes = await globalThis.eval(`(${works})`)(given)
      const it = clone(stay())
      await alive(1)
      if (isConnected) await outside({ pid: it.pid })
      await leave(it)
      if (isConnected) await outside({})
      let value = 42
      if (kind === 'session of its own') {
        session.post('Runtime.evaluate', { expression: '6 * 7' }, (_, { result }) => {
          value = result.value
        })
        session.disconnect()
      }
      return { codes, value }
    }
    const execArgv = kind === 'session of its own' ? [] : ['--inspect=0']
    const arg = { kind, works: String(cloningWorks) }
    const { value, child } = await scene(t, act, { outside, execArgv, arg })
    t.deepEqual(value, { codes: sevens, value: 42 })
    t.deepEqual(answers, kind === 'that a debugger is connected to' ? [[], 42, 42] : [])
    t.deepEqual(child, bystander)
  })
}

const nativeThreads = `
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
volatile long spins;
static void *spin(void *_) { for (;;) { void *p = malloc(100 + spins % 9000); spins++; free(p); } return _; }
static void *rest(void *_) { for (;;) pause(); return _; }
static void *late(void *delay) {
  sigset_t none, realtime, pending;
  sigemptyset(&none);
  sigemptyset(&realtime);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) sigaddset(&realtime, signal);
  pthread_sigmask(SIG_BLOCK, &realtime, 0);
  for (;;) {
    usleep(500);
    sigpending(&pending);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) {
      if (!sigismember(&pending, signal)) continue;
      usleep((long)delay * 1000);
      sigsuspend(&none);
      break;
    }
  }
  return delay;
}
__attribute__((constructor)) static void load(void) {
  pthread_t thread;
  for (long delay = 50; delay < 50 + 7 * COUNT; delay += 7) pthread_create(&thread, 0, THREAD, (void *)delay);
}
`

for (const [what, thread, count] of [
  ['a native thread allocates all the time', 'spin', 1],
  ['a native thread sleeps', 'rest', 1],
  ['native threads wait for a processor, each for its own time', 'late', 8],
]) {
  test(`While ${what}, cloning works without them, or says within seconds why not`, async (t) => {
    if (!available(t, hasCompiler(), 'cc')) return
    const act = async (given, { works, library, spins }) => {
      const { fs, clone, cp, until } = given
      const threads = () => fs.readdirSync('/proc/self/task')
      const before = threads()
      try {
        process.dlopen({ exports: {} }, library)
      } catch {
        // It is no addon: its constructor has run.
      }
      const [tid] = threads().filter((tid) => !before.includes(tid))
      const spent = () => Number(fs.readFileSync(`/proc/self/task/${tid}/stat`, 'utf8').split(' ')[13])
      const goesOn = async () => {
        const start = spent()
        if (spins) await until(() => spent() > start)
      }
      const start = performance.now()
      try {
        // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
        const codes = await globalThis.eval(`(${works})`)(given)
        const alone = clone(() => (fs.existsSync(`/proc/self/task/${tid}`) ? 1 : 7)).waitSync().code
        await goesOn()
        return { codes: [...codes, alone] }
      } catch ({ code, step, hint }) {
        const duration = performance.now() - start
        await goesOn()
        const children = fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')
        return { error: { code, step, hint, children }, tid, duration }
      } finally {
        cp.execFileSync('true')
      }
    }
    const library = compileLibrary(t, nativeThreads.replace('THREAD', thread).replace('COUNT', count))
    const arg = { works: String(cloningWorks), library, spins: thread === 'spin' }
    const { value } = await scene(t, act, { arg })
    if (value.codes || thread !== 'spin') return t.deepEqual(value, { codes: [...sevens, 7] })
    t.like(value.error, { code: 'ETIMEDOUT', step: 'clone', children: '' })
    t.regex(value.error.hint, /system call/)
    t.true(value.duration < 20_000 * slowness, `${value.duration}`)
  })
}

test('Of children that have ended at once the parent hears of each, also where it clones when it hears of one', async (t) => {
  const { value, child } = await scene(t, async ({ clone, fs, use }) => {
    const { spawn } = use('child_process')
    const descriptors = () => fs.readdirSync('/proc/self/fd').length
    const later = async () => {
      await new Promise((resolve) => setTimeout(resolve, 1))
      return 7
    }
    const sleeping = spawn('sleep', ['100'])
    const before = await clone(descriptors).wait()
    const children = [3, 4, 5].map((code) => clone(() => code))
    for (const { pid } of children) {
      while (!fs.readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z '));
    }
    const codes = await Promise.all(
      children.map(async (each) => [(await each.wait()).code, (await clone(later).wait()).code]),
    )
    const after = await clone(descriptors).wait()
    sleeping.kill()
    return { codes, more: after.code - before.code }
  })
  t.deepEqual(value, { codes: [3, 4, 5].map((code) => [code, 7]), more: 0 })
  t.deepEqual(child, [])
})

/** queue() has a thread of the pool move from processor to processor; seen() is how often the libc took it for another, or -1. */
const processors = `
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void *value;
int napi_create_function(value, const char *, size_t, value (*)(value, value), void *, value *);
int napi_set_named_property(value, value, const char *, value);
int napi_create_int32(value, int32_t, value *);
int napi_create_string_utf8(value, const char *, size_t, value *);
int napi_create_async_work(value, value, value, void (*)(value, void *), void (*)(value, int, void *), void *, value *);
int napi_queue_async_work(value, value);

static int result = -1, count;

static void execute(value env, void *_) {
  cpu_set_t all, one;
  sched_getaffinity(0, sizeof all, &all);
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &all)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    unsigned there = -1;
    int failed = sched_setaffinity(0, sizeof one, &one) || syscall(SYS_getcpu, &there, 0, 0);
    if (failed || (unsigned)sched_getcpu() != there) count++;
  }
  sched_setaffinity(0, sizeof all, &all);
}
static void complete(value env, int status, void *_) { result = count; }
static value queue(value env, value info) {
  value work, name;
  result = -1, count = 0;
  napi_create_string_utf8(env, "processors", 10, &name);
  napi_create_async_work(env, 0, name, execute, complete, 0, &work);
  napi_queue_async_work(env, work);
  return 0;
}
static value seen(value env, value info) {
  value number;
  napi_create_int32(env, result, &number);
  return number;
}
value napi_register_module_v1(value env, value exports) {
  value function;
  napi_create_function(env, "queue", 5, queue, 0, &function);
  napi_set_named_property(env, exports, "queue", function);
  napi_create_function(env, "seen", 4, seen, 0, &function);
  napi_set_named_property(env, exports, "seen", function);
  return exports;
}
`

test('The libc knows on which processor a thread of the child runs', async (t) => {
  if (!available(t, hasCompiler(), 'cc')) return
  const act = async ({ clone, until }, library) => {
    const module = { exports: {} }
    process.dlopen(module, library)
    const wrong = async () => {
      module.exports.queue()
      await until(() => module.exports.seen() !== -1)
      return module.exports.seen()
    }
    return { parent: await wrong(), child: (await clone(wrong).wait()).code }
  }
  const { value } = await scene(t, act, { arg: compileLibrary(t, processors) })
  t.deepEqual(value, { parent: 0, child: 0 })
})

/** begin(word) makes a thread that waits, on that word or for a lock of Abseil's, until end() is called. */
const waitsForOthers = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void *value;
int napi_create_function(value, const char *, size_t, value (*)(value, value), void *, value *);
int napi_set_named_property(value, value, const char *, value);
int napi_get_cb_info(value, value, size_t *, value *, value *, void **);
int napi_get_value_double(value, value, double *);
int napi_create_int32(value, int32_t, value *);

static volatile int maker, is_over, has_gone_on;
static volatile int *word;
static intptr_t mutex[8];

static void *wait(void *nothing) {
  maker = syscall(SYS_gettid);
  // As the libc waits for events, not for locks.
  while (!is_over) syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, *word, 0, 0, FUTEX_BITSET_MATCH_ANY);
  has_gone_on = 1;
  for (;;) pause();
}

static void *lock(void *call) {
  maker = syscall(SYS_gettid);
  ((void (*)(void *))call)(mutex);
  for (;;) pause();
}

static value begin(value env, value info) {
  size_t count = 1;
  value argument, tid;
  double address;
  pthread_t thread;
  napi_get_cb_info(env, info, &count, &argument, 0, 0);
  napi_get_value_double(env, argument, &address);
  word = (int *)(intptr_t)address;
  void *call = dlsym(RTLD_DEFAULT, "_ZN4absl5Mutex4lockEv");
  if (!word) ((void (*)(void *))call)(mutex);
  pthread_create(&thread, 0, word ? wait : lock, call);
  while (!maker) sched_yield();
  napi_create_int32(env, maker, &tid);
  return tid;
}

static value end(value env, value info) {
  is_over = 1;
  while (word && !has_gone_on) {
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
    sched_yield();
  }
  if (!word) ((void (*)(void *))dlsym(RTLD_DEFAULT, "_ZN4absl5Mutex6unlockEv"))(mutex);
  return 0;
}

static void define(value env, value exports, const char *name, value (*function)(value, value)) {
  value made;
  napi_create_function(env, name, strlen(name), function, 0, &made);
  napi_set_named_property(env, exports, name, made);
}

value napi_register_module_v1(value env, value exports) {
  define(env, exports, "begin", begin);
  define(env, exports, "end", end);
  return exports;
}
`

for (const [what, isForTasks, since] of [
  ["in V8's queue of tasks, as a Worker that ends does", true, 20],
  ["for a lock of Abseil's", false, 26],
]) {
  if (Number.parseInt(process.versions.node, 10) < since) continue
  // Each of musl's waits on a word of its own, and nobody waits for another.
  if (isForTasks && process.report.getReport().header.glibcVersionRuntime === undefined) continue
  test(`A thread that waits ${what} is not left behind: clone says so, and works when it is over`, async (t) => {
    if (!available(t, hasCompiler(), 'a C compiler')) return
    const act = async ({ lib, fs, until }, { library, isForTasks }) => {
      const addon = { exports: {} }
      process.dlopen(addon, library)
      // What runs makes none.
      const call = (tid) => fs.readFileSync(`/proc/self/task/${tid}/syscall`, 'utf8').split(' ', 2)
      const result = [lib.clone(() => 7).waitSync().code]
      // V8's threads, which are made before all but the main one, wait on one word where they have nothing to do.
      let waiting
      await until(() => {
        const calls = fs.readdirSync('/proc/self/task').slice(0, 6).map(call)
        const words = calls.map(([, word]) => word)
        waiting = calls.find(([, word], index) => word && words.indexOf(word) < index)
        return waiting
      })
      const [futex, queue] = waiting
      // Another word, that nobody wakes, is near it.
      const tid = addon.exports.begin(isForTasks ? Number(queue) + 128 : 0)
      // Abseil turns round a few times before it waits.
      await until(() => call(tid)[0] === futex)
      try {
        result.push(lib.clone(() => 8).waitSync().code)
      } catch ({ code, step }) {
        result.push(`${step} ${code}`)
      }
      addon.exports.end()
      result.push(lib.clone(() => 9).waitSync().code)
      return result
    }
    const arg = { library: compileLibrary(t, waitsForOthers), isForTasks }
    t.deepEqual(await inProcess(act, arg), [7, 'clone ETIMEDOUT', 9])
  })
}

// ─── what is left ──────────────────────────────────────────────────────────────────────────────

/** Each mapping, and whether a fork leaves it out. */
function mappingsOf(pid) {
  const mappings = new Map()
  let range
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    range = /^([0-9a-f]+-[0-9a-f]+) /.exec(line)?.[1] ?? range
    if (line.startsWith('VmFlags:')) mappings.set(range, / dc( |$)/.test(line))
  }
  return mappings
}

test('No descriptor, thread, stack or shared page of a clone is left in the parent, and what a fork leaves out is the same', async (t) => {
  const looks = []
  const outside = (_, { pid }) => {
    looks.push({
      dontFork: mappingsOf(pid),
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      threads: readdirSync(`/proc/${pid}/task`).length,
      shared: readFileSync(`/proc/${pid}/maps`, 'utf8').match(/\/dev\/zero|linux-clone-/g)?.length,
      children: readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'),
    })
  }
  const act = async ({ clone, outside, fs, cp }) => {
    const asynchronous = () => new Promise((resolve) => setTimeout(resolve, 1))
    const make = async (stackSize) => {
      clone(() => {}, { stackSize }).waitSync()
      clone(() => {}, { stackSize, exitSignal: 0 }).waitSync()
      await clone(asynchronous, { stackSize }).wait()
      await clone(() => Promise.reject(new Error('thrown')), { stackSize }).wait()
      try {
        clone(() => {}, { stackSize, setTid: [1] })
      } catch {
        // The pid is taken.
      }
    }
    const look = async () => {
      // Only who forks has it found out what a fork leaves out.
      cp.execFileSync('true')
      await outside()
    }
    // Large objects have mappings of their own, each of another length.
    globalThis.kept = []
    const allocate = () => {
      for (const length of [133_000, 180_000, 770_000]) {
        globalThis.kept.push(Buffer.alloc(length, 65).toString('latin1'), new Array(length >> 3).fill({}))
      }
    }
    allocate()
    globalThis.gc()
    await fs.promises.stat('/')
    await look()
    await make(0)
    await make(0)
    globalThis.gc()
    allocate()
    await look()
    clone(() => {}).waitSync()
    await look()
    for (let count = 0; count < 15; count++) await make(37 << 20)
    globalThis.gc()
    await look()
    return 37 << 20
  }
  const { value } = await scene(t, act, { outside, execArgv: ['--expose-gc'] })
  const [fresh, before, afterOne, after] = looks
  for (const what of ['descriptors', 'threads', 'shared', 'children'])
    t.deepEqual(after[what], before[what], what)
  const length = (range) => {
    const [start, end] = range.split('-').map((address) => Number.parseInt(address, 16))
    return end - start
  }
  for (const range of after.dontFork.keys()) t.not(length(range), value, range)
  for (const [{ dontFork }, later] of [
    [fresh, after],
    [before, afterOne],
    [before, after],
  ]) {
    const remaining = [...dontFork.keys()].filter((range) => later.dontFork.has(range))
    t.true(remaining.some((range) => dontFork.get(range)))
    const changed = remaining.filter((range) => dontFork.get(range) !== later.dontFork.get(range))
    t.deepEqual(changed, [])
  }
})

test('a number that a closed watch of the parent has left to a file is the file in the child too', async (t) => {
  const { number, fd, code } = await inProcess(({ lib, fs }) => {
    const first = lib.clone(() => 0)
    const number = first.pidfd
    // No turn of the event loop comes between, in which libuv would let the watch go.
    first.waitSync()
    let fd
    do fd = fs.openSync('/proc/self/exe')
    while (fd < number)
    const { code } = lib.clone(() => fs.readSync(fd, Buffer.alloc(4))).waitSync()
    return { number, fd, code }
  })
  t.is(fd, number)
  t.is(code, 4)
})

test('A message that waits in a port of the parent is not taken in the child, where the port works', async (t) => {
  const act = async ({ clone, workers, say, stay, settled, leave }) => {
    const { port1, port2 } = new workers.MessageChannel()
    port1.on('message', say)
    port2.postMessage('before')
    const child = clone(
      stay(async () => {
        // A port of the parent's does not.
        const holding = setInterval(() => {}, 2 ** 30)
        port2.postMessage('of the child')
        await new Promise((resolve) => port1.once('message', resolve))
        clearInterval(holding)
      }),
    )
    await settled(1)
    await leave(child)
    port1.close()
  }
  const { parent, child } = await scene(t, act)
  t.deepEqual(parent, ['before'])
  t.deepEqual(child, ['goes', 'of the child', 'stays'])
})

test('The end of a Worker that the parent has not heard of yet is heard there alone, with its last messages', async (t) => {
  const act = async ({ clone, workers, fs, say, stay, settled, leave }) => {
    const threads = () => fs.readdirSync('/proc/self/task').length
    const before = threads()
    const code = "require('node:worker_threads').parentPort.postMessage('last')"
    const worker = new workers.Worker(code, { eval: true })
    worker.on('message', say).on('exit', (code) => say(`exit ${code}`))
    // It begins and ends while this thread is not free to hear of it.
    while (threads() === before);
    while (threads() > before);
    const child = clone(
      stay(async () => {
        const own = new workers.Worker('process.exit(3)', { eval: true })
        say(`own ${await new Promise((resolve) => own.once('exit', resolve))}`)
      }),
    )
    await settled(2)
    await leave(child)
  }
  const { parent, child } = await scene(t, act)
  t.deepEqual(parent, ['exit 0', 'last'])
  t.deepEqual(child, ['goes', 'own 3', 'stays'])
})

if (isRoot) {
  test('A child that gives up its ids leaves none of its threads with them', async (t) => {
    const threads = await inProcess(async ({ lib, fs }) => {
      const child = lib.clone(async () => {
        // The pool's are there too.
        await fs.promises.stat('/')
        process.setgroups([])
        process.setgid(65534)
        process.setuid(65534)
        await new Promise(() => setInterval(() => {}, 2 ** 30))
      })
      const statuses = () =>
        fs
          .readdirSync(`/proc/${child.pid}/task`)
          .map((tid) => fs.readFileSync(`/proc/${child.pid}/task/${tid}/status`, 'utf8'))
          .map((text) => text.match(/^(Uid|Gid|CapEff):.*$/gm).join(' '))
      const main = () => fs.readFileSync(`/proc/${child.pid}/status`, 'utf8')
      while (!main().includes('Uid:\t65534'));
      const found = statuses()
      child.kill('SIGKILL')
      await child.wait()
      return found
    })
    t.true(threads.length > 4)
    t.deepEqual([...new Set(threads)], [threads[0]])
    t.true(threads[0].includes('CapEff:\t0000000000000000'))
  })
}

const collects = ({ lib }) => {
  const collect = async () => {
    const kept = []
    for (let round = 0; round < 200; round++) {
      kept[round % 20] = Array.from({ length: 5000 }, (_, index) => ({ index }))
      if (round % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    return 5
  }
  return lib.clone(collect).wait()
}

test("V8's threads are found behind those of Node's tracing", async (t) => {
  const options = {
    with: { execArgv: ['--trace-event-categories', 'v8', '--trace-event-file-pattern', '/dev/null'] },
  }
  t.deepEqual(await inProcess(collects, options), { code: 5, signal: null })
})

test("V8's threads are found behind that of a library", async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const library = compileLibrary(
    t,
    `#include <pthread.h>
    #include <unistd.h>
    static void *stay(void *nothing) { for (;;) pause(); }
    __attribute__((constructor)) static void begin(void) { pthread_t thread; pthread_create(&thread, 0, stay, 0); }`,
  )
  // Without unshare(1), which would have two threads too.
  t.deepEqual(await inProcess(collects, { with: { wrap: [], env: { LD_PRELOAD: library } } }), {
    code: 5,
    signal: null,
  })
})

test('Threads that wait for work are woken by no clone but the first ones', async (t) => {
  const act = async ({ lib, fs, acquaint }) => {
    const CLONES = 40
    /** How often each thread but this one has left its processor. */
    const switches = () => {
      const tids = fs.readdirSync('/proc/self/task').filter((tid) => tid !== `${process.pid}`)
      const count = (tid) => {
        const status = fs.readFileSync(`/proc/self/task/${tid}/status`, 'utf8')
        return [...status.matchAll(/ctxt_switches:\t(\d+)/g)].reduce((sum, [, each]) => sum + Number(each), 0)
      }
      return tids.map((tid) => [tid, count(tid)])
    }
    await acquaint()
    const before = new Map(switches())
    for (let made = 0; made < CLONES; made++) await lib.clone(() => {}).wait()
    const after = switches()
    const often = after.filter(([tid, count]) => count - before.get(tid) >= CLONES)
    return { often: often.length, threads: after.length }
  }
  const { value } = await scene(t, act)
  t.true(value.threads >= 7, JSON.stringify(value))
  // On some systems the one for delayed tasks; with musl, whose threads each wait on a word of their own, the pool's too.
  const isMusl = process.report.getReport().header.glibcVersionRuntime === undefined
  t.true(value.often <= (isMusl ? 5 : 1), JSON.stringify(value))
})

test('Threads that wait for work take part in what concerns all threads: setgid(2), unshare(2) of all, and their work', async (t) => {
  const act = async ({ lib, fs, acquaint }, { gid, moves }) => {
    const field = (name) =>
      fs.readdirSync('/proc/self/task').map((tid) => {
        const status = fs.readFileSync(`/proc/self/task/${tid}/status`, 'utf8')
        return status.match(new RegExp(`${name}:\\t(.*)`))[1].split('\t')[1]
      })
    const links = () =>
      fs.readdirSync('/proc/self/task').map((tid) => fs.readlinkSync(`/proc/self/task/${tid}/ns/uts`))
    const seen = { gids: [], links: [], read: [], codes: [] }
    for (let round = 0; round < 3; round++) {
      await acquaint()
      process.setegid(gid)
      seen.gids.push(new Set(field('Gid')).size, Number(field('Gid')[0]) === gid)
      process.setegid(process.getgid())
      if (moves) lib.unshare(['uts'], { threads: 'all' })
      // The inspector's thread, which runs nothing of the process's, stays.
      seen.links.push(
        links().filter((link) => link !== fs.readlinkSync('/proc/thread-self/ns/uts')).length <= 1,
      )
      const texts = await Promise.all([1, 2, 3, 4].map(() => fs.promises.readFile('/proc/self/comm', 'utf8')))
      seen.read.push(texts.every((text) => text.length > 0))
      seen.codes.push(
        (await lib.clone(async () => (await fs.promises.readFile('/proc/self/comm')).length && 7).wait())
          .code,
      )
    }
    return seen
  }
  const arg = { gid: isRoot ? 65534 : process.getgid(), moves: isRoot }
  const { value } = await scene(t, act, { arg })
  t.deepEqual(value, {
    gids: [1, true, 1, true, 1, true],
    links: [true, true, true],
    read: [true, true, true],
    codes: [7, 7, 7],
  })
})

test("With module.register()'s hooks, whose thread is not in the child, import() is an error there and works in the parent", async (t) => {
  const hooks = 'data:text/javascript,export const resolve = (name, context, next) => next(name, context)'
  const registering = `import { register } from 'node:module'; register('${hooks}')`
  const act = async ({ lib }) => {
    const attempt = async (specifier) => {
      try {
        return typeof (await import(specifier)).default
      } catch ({ code, message }) {
        return `${code} ${message}`
      }
    }
    const before = await attempt('node:path')
    const it = lib.clone(async () => {
      process.stdout.write(await attempt('node:util'))
      return 5
    })
    const status = await it.wait()
    return { before, after: await attempt('node:util'), status }
  }
  const text = `import { createRequire } from 'node:module'
    const lib = createRequire(${JSON.stringify(library)})(${JSON.stringify(library)})
    console.log(JSON.stringify(await (${act})({ lib })))`
  const directory = temporaryDirectory(t)
  const script = path.join(directory, 'main.mjs')
  writeFileSync(script, text)
  const words = [
    '--no-warnings',
    '--import',
    `data:text/javascript,${encodeURIComponent(registering)}`,
    script,
  ]
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  for await (const chunk of child.stdout.setEncoding('utf8')) output += chunk
  t.regex(output, /^ENOTSUP .*module\.register\(\).*registerHooks/)
  t.deepEqual(JSON.parse(output.slice(output.indexOf('{'))), {
    before: 'object',
    after: 'object',
    status: { code: 5, signal: null },
  })
})

test('A child that touches nothing has less than 2 MB of memory of its own', async (t) => {
  const act = async ({ lib, fs, until, acquaint }) => {
    const read = (pid, file) => fs.readFileSync(`/proc/${pid}/${file}`, 'utf8')
    await acquaint()
    const kilobytes = []
    for (let round = 0; round < 9; round++) {
      const it = lib.clone(() => {
        process.kill(process.pid, 'SIGSTOP')
      })
      await until(() => read(it.pid, 'stat').split(') ')[1].startsWith('T'))
      kilobytes.push(Number(read(it.pid, 'smaps_rollup').match(/Private_Dirty:\s+(\d+)/)[1]))
      it.kill('SIGKILL')
      await it.wait()
    }
    return kilobytes.sort((one, other) => one - other)
  }
  const { value } = await scene(t, act)
  t.log(`${value} kB`)
  // What the parent writes to meanwhile, as it does when it collects garbage, is the child's alone too.
  t.true(value[4] < 2048, `${value}`)
})

test('The pool is as large as it was started, whatever the environment says later', async (t) => {
  const act = async ({ lib, fs }) => {
    await fs.promises.stat('/')
    process.env.UV_THREADPOOL_SIZE = '1'
    const child = lib.clone(async () => {
      for (let round = 0; round < 30; round++)
        await Promise.all(Array.from({ length: 6 }, () => fs.promises.stat('/')))
      return 7
    })
    return child.wait()
  }
  t.deepEqual(await inProcess(act), { code: 7, signal: null })
})

test('With two descriptors left, the child begins', async (t) => {
  const act = async ({ lib, fs }) => {
    await lib.clone(() => 3).wait()
    const open = []
    try {
      for (;;) open.push(fs.openSync('/dev/null'))
    } catch {
      // No more.
    }
    for (const fd of open.splice(-2)) fs.closeSync(fd)
    const child = lib.clone(() => 3)
    for (const fd of open) fs.closeSync(fd)
    return child.wait()
  }
  const wrap = ['sh', '-c', 'ulimit -n 64; exec "$0" "$@"']
  t.deepEqual(await inProcess(act, { with: { wrap } }), { code: 3, signal: null })
})

test('A clone goes on where process.nextTick and setImmediate were replaced after the package was loaded', async (t) => {
  const act = ({ lib }) => {
    const own = { nextTick: process.nextTick, setImmediate }
    process.nextTick = () => {}
    globalThis.setImmediate = () => {}
    const child = lib.clone(() => 6)
    process.nextTick = own.nextTick
    globalThis.setImmediate = own.setImmediate
    return child.wait()
  }
  t.deepEqual(await inProcess(act), { code: 6, signal: null })
})

test("A clone hears nothing of the parent's Workers where their class was replaced after the package was loaded", async (t) => {
  const act = async ({ lib, workers }) => {
    const { Worker } = workers
    const worker = new Worker('setInterval(() => {}, 1000)', { eval: true })
    workers.Worker = class extends Worker {}
    const kOnExit = Object.getOwnPropertySymbols(Worker.prototype).find(
      ({ description }) => description === 'kOnExit',
    )
    const child = lib.clone(() => {
      let code = 6
      worker.on('exit', (of) => {
        code = of
      })
      worker[kOnExit](1, null, null)
      return code
    })
    const status = await child.wait()
    await worker.terminate()
    return status
  }
  t.deepEqual(await inProcess(act), { code: 6, signal: null })
})

test('What loads the package in a context of its own can clone', async (t) => {
  const act = async ({ fs }) => {
    const { createRequire } = process.getBuiltinModule('node:module')
    const vm = process.getBuiltinModule('node:vm')
    const context = vm.createContext({ process, Buffer, DOMException, setImmediate, queueMicrotask })
    const load = (file) => {
      if (file.endsWith('.node') || !file.startsWith('/')) return createRequire('/')(file)
      const module = { exports: {} }
      const require = createRequire(file)
      const local = Object.assign((id) => load(require.resolve(id)), { resolve: require.resolve })
      const source = `(function (exports, require, module, __filename) {${fs.readFileSync(file)}\n})`
      vm.runInContext(source, context, { filename: file })(module.exports, local, module, file)
      return module.exports
    }
    return load(process.argv[1].replace('__test__/helpers/runner.mjs', 'index.js'))
      .clone(() => 6)
      .wait()
  }
  t.deepEqual(await inProcess(act), { code: 6, signal: null })
})

test('More events in one turn than libuv takes at once do not end the child, whatever number its epoll gets', async (t) => {
  const act = async ({ lib, cp }) => {
    const dgram = process.getBuiltinModule('node:dgram')
    // In the child it is closed, and its number, which is lower than that of the loop's epoll, free.
    const low = new (process.getBuiltinModule('node:net').Socket)({ fd: 4 })
    const sockets = []
    let child
    for (let index = 0; index < 1100; index++) {
      const socket = dgram.createSocket('udp4')
      socket.on('message', () => {
        child ??= lib.clone(async () => {
          await new Promise((done) => setTimeout(done, 20))
          return 9
        })
      })
      await new Promise((done) => socket.bind(0, '127.0.0.1', done))
      sockets.push(socket)
    }
    const ports = sockets.map((socket) => socket.address().port)
    const send = `const socket = require('node:dgram').createSocket('udp4')
      let sent = 0
      for (const port of ${JSON.stringify(ports)})
        socket.send('x', port, '127.0.0.1', () => { if (++sent === ${ports.length}) socket.close() })`
    // All come while this process does not look.
    cp.execFileSync(process.execPath, ['-e', send])
    while (!child) await new Promise((done) => setImmediate(done))
    const status = await child.wait()
    for (const socket of sockets) socket.close()
    low.destroy()
    return status
  }
  const wrap = ['sh', '-c', 'ulimit -n 4096; exec "$0" "$@"']
  t.deepEqual(await inProcess(act, { with: { wrap } }), { code: 9, signal: null })
})

/**
 * begin() makes a thread that spins, as it may not while the process is copied, until it has been parked and let go; then it
 * makes one with all signals blocked, which is at work until the threads have been listed. isDone() tells whether that is over.
 */
const startsLate = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void *value;
int napi_create_function(value, const char *, size_t, value (*)(value, value), void *, value *);
int napi_set_named_property(value, value, const char *, value);
int napi_get_boolean(value, _Bool, value *);

static long (*call)(long, ...);
static volatile int maker, was_let_go, was_made, was_listed, is_done;

static void *work(void *nothing) {
  while (!was_listed) sched_yield();
  is_done = 1;
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, 0);
  for (;;) pause();
}

static void *make(void *nothing) {
  pthread_t thread;
  sigset_t all, before;
  sigfillset(&all);
  maker = call(SYS_gettid);
  while (!was_let_go);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_create(&thread, 0, work, 0);
  was_made = 1;
  pthread_sigmask(SIG_SETMASK, &before, 0);
  for (;;) pause();
}

long syscall(long number, ...) {
  long words[6];
  va_list list;
  va_start(list, number);
  for (int index = 0; index < 6; index++) words[index] = va_arg(list, long);
  va_end(list);
  if (!call) call = dlsym(RTLD_NEXT, "syscall");
  long result = call(number, words[0], words[1], words[2], words[3], words[4], words[5]);
  if (number == SYS_getdents64 && was_made) was_listed = 1;
  if (number == SYS_futex && (words[1] & FUTEX_CMD_MASK) == FUTEX_WAIT && maker && call(SYS_gettid) == maker) was_let_go = 1;
  return result;
}

static value begin(value env, value info) {
  pthread_t thread;
  pthread_create(&thread, 0, make, 0);
  while (!maker) sched_yield();
  return 0;
}

static value tell(value env, value info) {
  value answer;
  napi_get_boolean(env, is_done, &answer);
  return answer;
}

static void define(value env, value exports, const char *name, value (*function)(value, value)) {
  value made;
  napi_create_function(env, name, strlen(name), function, 0, &made);
  napi_set_named_property(env, exports, name, made);
}

value napi_register_module_v1(value env, value exports) {
  define(env, exports, "begin", begin);
  define(env, exports, "isDone", tell);
  return exports;
}
`

test('A thread that one starts which had to go on is waited for: in the child nothing is half done', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const act = async ({ lib }, library) => {
    const addon = { exports: {} }
    process.dlopen(addon, library)
    const { begin, isDone } = addon.exports
    await lib.clone(() => 0).wait()
    begin()
    return lib.clone(() => (isDone() ? 7 : 1)).wait()
  }
  const library = compileLibrary(t, startsLate)
  const options = { with: { wrap: [], env: { LD_PRELOAD: library } } }
  t.deepEqual(await inProcess(act, options, library), { code: 7, signal: null })
})

test('Cloning works while a program with a death signal runs that a Worker has started', async (t) => {
  const act = async ({ lib, fs, workers }, library) => {
    const code = `
      const { parentPort, workerData } = require('node:worker_threads')
      const program = require(workerData).spawn('sleep', ['150'], { parentDeathSignal: 'SIGKILL' })
      program.once('spawn', () => parentPort.postMessage(program.pid))`
    const worker = new workers.Worker(code, { eval: true, workerData: library })
    const pid = await new Promise((resolve) => worker.once('message', resolve))
    const status = await lib.clone(() => (fs.readdirSync('/proc/self/task').length > 1 ? 7 : 1)).wait()
    process.kill(pid)
    await new Promise((resolve) => worker.once('exit', resolve))
    return status
  }
  t.deepEqual(await inProcess(act, { with: { wrap: [] } }, library), { code: 7, signal: null })
})
