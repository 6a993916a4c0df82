import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { chmodSync, closeSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import ava from 'ava'
import {
  childrenOf,
  compileLibrary,
  descriptor,
  hasCompiler,
  hasStrace,
  statusOf,
  temporaryDirectory,
} from './helpers/machine.mjs'
import { available, inProcess, inUserNamespace, isRoot, privileged, slowness } from './helpers/process.mjs'

// One after another: each runs several processes with all their threads, and some measure.
const test = ava.serial

const LIBRARY = fileURLToPath(new URL('../index.js', import.meta.url))
const asWeAre = { with: { wrap: [] } }

/** Runs a program, and resolves to how it ended and what it wrote. One that hangs ends, with what it has started. */
async function program(words, { input = '', read = text, stdio = ['pipe', 'pipe', 'pipe'] } = {}) {
  const child = spawn(words[0], words.slice(1), { stdio, detached: true })
  const limit = setTimeout(() => process.kill(-child.pid, 'SIGKILL'), 60_000 * slowness)
  const [output, errors] = [child.stdout, child.stderr].map((stream) => stream && read(stream))
  // A program may end without reading it.
  child.stdin?.on('error', () => {}).end(input)
  const [code, signal] = await once(child, 'close').finally(() => clearTimeout(limit))
  return { code, signal, output: await output, errors: await errors }
}

/** Runs CommonJS in a Node of its own, where `clone` is; `args` are `process.argv`'s from 1 on. */
const script = (source, args = [], options = {}) =>
  program(
    [process.execPath, '-e', `const { clone } = require(${JSON.stringify(LIBRARY)})\n${source}`, ...args],
    options,
  )

/** In the process: a file that has no name any more, through which a clone tells something. */
const paper = ({ fs, os, path }) => {
  const name = path.join(os.tmpdir(), `linux-clone-answer-${process.pid}`)
  const file = fs.openSync(name, 'wx+')
  fs.unlinkSync(name)
  return {
    tell: (value) => void fs.writeSync(file, JSON.stringify(value ?? null), 0),
    hasTold: () => fs.fstatSync(file).size > 0,
    told: () => JSON.parse(fs.readFileSync(`/proc/self/fd/${file}`, 'utf8')),
  }
}

/** As inProcess, without privileges; `fn` also gets `tell(value)`, for the clone, and `told()`. */
const parent = (fn, ...args) =>
  inProcess(
    { toString: () => `(tools, ...args) => (${fn})({ ...tools, ...(${paper})(tools) }, ...args)` },
    asWeAre,
    ...args,
  )

/** In the process: `fn` runs in a clone. Where it fails the process does, so that the test shows what was printed. */
const cloning = async (tools, source, args) => {
  const load = process.getBuiltinModule
  // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
  const fn = globalThis.eval(`(${source})`)
  const child = tools.lib.clone(async () => tools.tell(await fn({ ...tools, load }, ...args)))
  const { code, signal } = await child.wait()
  if (code === 0) return tools.told()
  console.error(`the clone ended with ${signal ?? code}`)
  process.exit(1)
}

/** Runs `fn` in a clone, and resolves to what it resolves to. */
const inClone = (fn, ...args) => parent(cloning, fn.toString(), args)

// ─── How it ends ───────────────────────────────────────────────────────────────────────────────

/** In the process: the end of a clone of each, as the kernel tells it of the zombie, and as wait does. */
const ending = ({ lib, fs }, sources) =>
  sources.map((source) => {
    // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
    const child = lib.clone(globalThis.eval(`(${source})`))
    let words
    do words = fs.readFileSync(`/proc/${child.pid}/stat`, 'latin1').trim().split(' ')
    while (!words.includes('Z'))
    return { kernel: Number(words.at(-1)), ...child.waitSync() }
  })

const ends = (fns) => inProcess(ending, asWeAre, fns.map(String))
const exited = (code) => ({ kernel: code << 8, code, signal: null })

test('what the function returns is the exit status, its low byte', async (t) => {
  const statuses = {
    0: 0,
    '-0': 0,
    7: 7,
    255: 255,
    256: 0,
    '-1': 255,
    '-256': 0,
    2147483651: 3,
    '-2147483649': 255,
    9007199254740991: 255,
    9007199254740992: 0,
    1e300: 0,
    undefined: 0,
  }
  const expected = Object.values(statuses).map(exited)
  for (const before of [
    '() =>',
    'async () =>',
    'async () => await',
    '() => Promise.resolve().then(() => 0), () =>',
  ]) {
    t.deepEqual(await ends(Object.keys(statuses).map((value) => `${before} ${value}`)), expected, before)
  }
})

test('a function that waits, and a thenable, give the status that they come to', async (t) => {
  const fns = [
    () => new Promise((resolve) => setTimeout(resolve, 3, 9)),
    // biome-ignore lint/suspicious/noThenProperty: it is meant to be one.
    () => ({ then: (resolve) => setImmediate(resolve, 8) }),
    // biome-ignore lint/suspicious/noThenProperty: it is meant to be one.
    async () => ({ then: (resolve) => process.nextTick(resolve, 6) }),
    () => {},
    // biome-ignore lint/suspicious/noThenProperty: it is meant to be one.
    () => Object.assign(() => {}, { then: (resolve) => setImmediate(resolve, 5) }),
    async () => {},
  ]
  t.deepEqual(await ends(fns), [9, 8, 6, 0, 5, 0].map(exited))
})

test('any other value is a TypeError in the child', async (t) => {
  const values = [
    'null',
    "'0'",
    'true',
    '1n',
    '0.5',
    'NaN',
    '-Infinity',
    '{}',
    '[1]',
    "Symbol('s')",
    '() => 0',
  ]
  for (const before of ['() =>', 'async () =>']) {
    const fns = values.map((value) => `${before} (${value})`)
    const { output, errors } = await script(
      `console.log(JSON.stringify([${fns}].map((fn) => clone(fn).waitSync().code)))`,
    )
    t.deepEqual(
      JSON.parse(output),
      values.map(() => 1),
      before,
    )
    const found = errors.match(
      /TypeError \[ERR_INVALID_RETURN_VALUE\]: The function of clone\(\) must return/g,
    )
    t.is(found?.length, values.length, errors)
    t.regex(errors, /Received Symbol\(s\)\n/)
  }
})

/** What Node prints, without where it was called from. */
const withoutFrames = (errors) => errors.replaceAll(/^ +(at |\.\.\. \d+ lines matching).*\n/gm, '')

const THROWN = {
  'an Error': "new Error('message')",
  'a RangeError of several lines': "new RangeError('first\\nsecond')",
  'an Error with properties':
    "Object.assign(new Error('message'), { code: 'CODE', detail: { deep: [1, { a: 2 }] } })",
  'an Error with a cause': "new Error('message', { cause: new TypeError('reason') })",
  'an AggregateError': "new AggregateError([new Error('a'), new Error('b')], 'both')",
  'an Error of a class of its own': "new (class Own extends Error { name = 'Own' })('message')",
  'an Error without a stack': "Object.assign(new Error('message'), { stack: undefined })",
  'an Error whose stack is another text': "Object.assign(new Error('message'), { stack: 'a stack' })",
  'a DOMException': "new DOMException('message', 'AbortError')",
  'a string': "'text'",
  'a number': '5',
  null: 'null',
  undefined: 'undefined',
  'an object': '{ a: 1 }',
  'an object without prototype': 'Object.create(null)',
  'a Symbol': "Symbol('s')",
}

for (const [what, value] of Object.entries(THROWN)) {
  test(`throwing ${what} prints what Node prints, and the status is 1`, async (t) => {
    const file = path.join(temporaryDirectory(t), 'main.cjs')
    writeFileSync(
      file,
      `const { clone } = require(${JSON.stringify(LIBRARY)})
      const fn = () => { throw (${value}) }
      if (process.argv[2] === 'clone') process.exitCode = clone(fn).waitSync().code
      else fn()`,
    )
    const [plain, cloned] = await Promise.all(
      ['plain', 'clone'].map((how) => program([process.execPath, file, how])),
    )
    t.like(cloned, { code: 1, signal: null, output: '' })
    t.is(plain.code, 1)
    t.is(withoutFrames(cloned.errors), withoutFrames(plain.errors))
  })

  test(`rejecting with ${what} prints what Node prints, and the status is 1`, async (t) => {
    const source = `const fn = async () => { await undefined; throw (${value}) }`
    const [plain, cloned] = await Promise.all([
      program([process.execPath, '--input-type=module', '-e', `${source}\nawait fn()`]),
      script(`${source}\nprocess.exitCode = clone(fn).waitSync().code`),
    ])
    t.like(cloned, { code: 1, signal: null, output: '' })
    t.is(plain.code, 1)
    // The place is nobody's: Node prints one of its own.
    const message = (errors) => withoutFrames(errors).replace(/^\n?.*:\d+\n.*\n *\^+\n/, '')
    t.is(message(cloned.errors), message(plain.errors))
  })
}

test('the stack that is printed leads to the function', async (t) => {
  const { errors } = await script(
    'function inner() { throw new Error("x") }\nclone(() => inner()).waitSync()',
  )
  t.regex(errors, /^ {4}at inner \(\[eval\]:2:\d+\)$/m)
  t.regex(errors, /^Node\.js v\d/m)
})

test('process.exit ends it from wherever it is called', async (t) => {
  const fns = [
    () => process.exit(3),
    async () => process.exit(4),
    () => new Promise(() => setTimeout(() => process.exit(5), 1)),
    () => new Promise(() => process.nextTick(() => process.exit(6))),
    () => new Promise(() => process.getBuiltinModule('fs').stat('/', () => process.exit(7))),
    async () => {
      process.exitCode = 8
      process.exit()
    },
    () => process.exit(256 + 9),
    () => process.reallyExit(10),
    () => {
      process.on('exit', () => process.exit(11))
      return 1
    },
  ]
  t.deepEqual(await ends(fns), [3, 4, 5, 6, 7, 8, 9, 10, 11].map(exited))
})

test('process.exitCode is the status of a function that returns nothing, and no other', async (t) => {
  const fns = [
    () => {
      process.exitCode = 3
    },
    async () => {
      process.exitCode = 4
    },
    () => {
      process.exitCode = 5
      return 6
    },
    () => {
      process.exitCode = 7
      return 0
    },
    () => {
      process.on('exit', () => {
        process.exitCode = 8
      })
    },
  ]
  t.deepEqual(await ends(fns), [3, 4, 6, 0, 8].map(exited))
})

test('a process.exitCode of the parent is not that of the child', async (t) => {
  const { code, output } = await script('process.exitCode = 9\nconsole.log(clone(() => {}).waitSync().code)')
  t.is(output, '0\n')
  t.is(code, 9)
})

test('signals end it as they end a Node', async (t) => {
  const fns = [
    () => process.kill(process.pid, 'SIGKILL'),
    () => process.kill(process.pid, 'SIGTERM'),
    () => process.abort(),
    () => new Promise(() => setTimeout(() => process.kill(process.pid, 'SIGINT'), 1)),
  ]
  const sent = [9, 15, 6, 2]
  const ended = await ends(fns)
  t.deepEqual(
    ended.map(({ kernel, code }) => [kernel & 0x7f, code]),
    sent.map((number) => [number, null]),
  )
  t.deepEqual(
    ended.map(({ signal }) => signal),
    ['SIGKILL', 'SIGTERM', 'SIGABRT', 'SIGINT'],
  )
})

/** Writes at once, in whichever process. */
const SAY =
  "const { writeSync } = require('node:fs')\nconst say = (...words) => writeSync(1, words.join(' ') + '\\n')\n"

const EVENTS = {
  "listeners of 'exit' that the function adds run once, with the status": [
    `process.on('exit', (code) => say('first', code, process.exitCode))
    process.once('exit', (code) => say('second', code))
    return 5`,
    ['first 5 5', 'second 5'],
    5,
  ],
  "listeners of 'exit' run where it calls process.exit": [
    `process.on('exit', (code) => say('exit', code))
    process.exit(6)`,
    ['exit 6'],
    6,
  ],
  "listeners of 'exit' run where it throws": [
    `process.on('exit', (code) => say('exit', code))
    throw new Error('expected')`,
    ['exit 1'],
    1,
  ],
  "a listener of 'uncaughtException' takes what a timer throws, and the function goes on": [
    `process.on('uncaughtException', ({ message }, origin) => say(message, origin))
    setTimeout(() => { throw new Error('thrown') }, 1)
    return new Promise((resolve) => setTimeout(resolve, 20, 7))`,
    ['thrown uncaughtException'],
    7,
  ],
  "a listener of 'uncaughtException' takes what the function itself throws": [
    `process.on('uncaughtException', ({ message }) => say(message))
    throw new Error('thrown')`,
    ['thrown'],
    1,
  ],
  "a listener of 'uncaughtException' takes what the function itself rejects with": [
    `process.on('uncaughtException', ({ message }) => say(message))
    return Promise.reject(new Error('rejected'))`,
    ['rejected'],
    1,
  ],
  "'uncaughtExceptionMonitor' hears of it": [
    `process.on('uncaughtExceptionMonitor', ({ message }) => say(message))
    throw new Error('thrown')`,
    ['thrown'],
    1,
  ],
  'an uncaught exception in a timer ends it': [
    `setTimeout(() => { throw new Error('expected') }, 1)
    return new Promise((resolve) => setTimeout(resolve, 100_000))`,
    [],
    1,
  ],
  'an unhandled rejection ends it': [
    `Promise.reject(new Error('expected'))
    return new Promise((resolve) => setTimeout(resolve, 100_000))`,
    [],
    1,
  ],
  "a listener of 'unhandledRejection' takes one, and the function goes on": [
    `process.on('unhandledRejection', ({ message }) => say(message))
    Promise.reject(new Error('rejected'))
    return new Promise((resolve) => setTimeout(resolve, 20, 8))`,
    ['rejected'],
    8,
  ],
  "'rejectionHandled' and 'warning' are heard": [
    `process.on('unhandledRejection', () => say('unhandled'))
    process.on('rejectionHandled', () => say('handled'))
    process.on('warning', ({ message }) => say(message))
    const late = Promise.reject(new Error('late'))
    setTimeout(() => late.catch(() => process.emitWarning('a warning')), 5)
    return new Promise((resolve) => setTimeout(resolve, 30, 9))`,
    ['unhandled', 'a warning', 'handled'],
    9,
  ],
  "'beforeExit' comes when nothing is left, and more can be done in it": [
    `process.once('beforeExit', () => { say('nothing left'); setTimeout(() => settle(10), 1) })
    let settle
    return new Promise((resolve) => { settle = resolve })`,
    ['nothing left'],
    10,
  ],
  'a promise that nothing can settle ends with 13 instead of hanging': [
    `process.on('exit', (code) => say('exit', code))
    return new Promise(() => {})`,
    ['exit 13'],
    13,
  ],
  'what it left open ends with it': [
    `setInterval(() => say('interval'), 100_000)
    require('node:net').createServer().listen(0, '127.0.0.1')
    return 11`,
    [],
    11,
  ],
  'a listener for a signal is called': [
    `return new Promise((resolve) => {
      process.on('SIGTERM', (name, number) => { say(name, number); resolve(12) })
      process.kill(process.pid, 'SIGTERM')
      setTimeout(() => {}, 100_000)
    })`,
    ['SIGTERM 15'],
    12,
  ],
}

for (const [title, [body, lines, status]] of Object.entries(EVENTS)) {
  test(title, async (t) => {
    const { code, output, errors } = await script(
      `${SAY}clone(() => { ${body} }).wait().then(({ code }) => say('status', code))`,
    )
    t.is(output, [...lines, `status ${status}`, ''].join('\n'), errors)
    t.is(code, 0)
    if (status !== 1) t.notRegex(errors, /Error/)
    if (body.includes('expected')) t.regex(errors, /Error: expected\n/)
  })
}

// ─── What works in it ──────────────────────────────────────────────────────────────────────────

test('it is another process, whose parent is this one, and process says so', async (t) => {
  const { pids, child } = await parent(async ({ lib, fs, tell, told }) => {
    const child = lib.clone(() => {
      const stat = fs.readFileSync('/proc/self/stat', 'utf8').split(' ')
      tell({ says: [process.pid, process.ppid], is: [stat[0], stat[3]].map(Number) })
    })
    await child.wait()
    return { pids: [child.pid, process.pid], child: told() }
  })
  t.deepEqual(child, { says: pids, is: pids })
})

test('garbage is collected: what is allocated and what is let go', async (t) => {
  const { sum, freed, peak, survivors } = await inClone(async ({ load }) => {
    load('v8').setFlagsFromString('--expose-gc')
    const gc = load('vm').runInNewContext('gc')
    const kept = new Map()
    let peak = 0
    // 2 GB in all, of which little lives at a time.
    for (let i = 0; i < 20_000; i++) {
      kept.set(i % 100, {
        i,
        list: Array.from({ length: 1000 }, (_, j) => ({ value: i + j })),
        text: `${i}`.repeat(1000),
      })
      if (i % 1000 === 0) peak = Math.max(peak, process.memoryUsage().rss)
    }
    let sum = 0
    for (const { i, list, text } of kept.values())
      sum += Number(list[999].value === i + 999 && text.startsWith(`${i}`))
    let finalized
    const isFinalized = new Promise((resolve) => {
      finalized = new FinalizationRegistry(resolve)
    })
    const references = []
    ;(() => {
      for (let i = 0; i < 10; i++) references.push(new WeakRef({ i }))
      finalized.register({}, 'freed')
    })()
    await new Promise((resolve) => setTimeout(resolve, 1))
    gc()
    const freed = await isFinalized
    return { sum, freed, peak, survivors: references.filter((reference) => reference.deref()).length }
  })
  t.is(sum, 100)
  t.is(freed, 'freed')
  t.is(survivors, 0)
  t.true(peak < 1 << 30, `${peak}`)
})

test('a heap that the parent has filled is collected and compacted in the child', async (t) => {
  const { status, same } = await inProcess(async ({ lib }) => {
    process.getBuiltinModule('v8').setFlagsFromString('--expose-gc')
    const gc = process.getBuiltinModule('vm').runInNewContext('gc')
    const all = Array.from({ length: 300_000 }, (_, i) => ({ i, text: `text ${i}`, next: null }))
    all.forEach((each, i) => {
      each.next = all[(i * 7919) % all.length]
    })
    const isWhole = (step) =>
      all.every(
        ({ i, text, next }, at) =>
          at % step || (text === `text ${i}` && next === all[(i * 7919) % all.length]),
      )
    const child = lib.clone(() => {
      for (let i = 0; i < all.length; i++) if (i % 3) all[i].garbage = new Array(20).fill(i)
      gc()
      for (const each of all) delete each.garbage
      gc({ type: 'major', execution: 'sync' })
      return isWhole(1) ? 0 : 1
    })
    for (let i = 0; i < 3; i++) gc()
    return { status: await child.wait(), same: isWhole(1) }
  }, asWeAre)
  t.deepEqual(status, { code: 0, signal: null })
  t.true(same)
})

test("compiled code runs at the parent's speed, the parent's own and new one", async (t) => {
  const { own, child } = await parent(async ({ lib, tell, told }) => {
    const source =
      'let x = seed; for (let i = 0; i < 1000; i++) x = (Math.imul(x, 1664525) + i) | 0; return x'
    /** Of the processor's time, as other processes have theirs. */
    const time = (fn) => {
      const before = process.cpuUsage()
      for (let i = 0; i < 20_000; i++) fn(i)
      const { user, system } = process.cpuUsage(before)
      return user + system
    }
    // The best of several: V8 compiles the same code well or less well, as it has seen it run.
    const best = (make) => Math.min(...Array.from({ length: 6 }, () => time(make())))
    const warm = new Function('seed', source)
    let count = 0
    const fresh = () => new Function('seed', `${source} // ${process.pid} ${count++}`)
    const both = () => ({ warm: best(() => warm), fresh: best(fresh) })
    const own = both()
    await lib.clone(() => tell(both())).wait()
    return { own, child: told() }
  })
  t.log(JSON.stringify({ own, child }))
  // Uncompiled it would be dozens of times slower.
  t.true(child.warm < 3 * own.warm)
  t.true(child.fresh < 3 * own.fresh)
})

const LINES = 100_000
const NUMBERED = Array.from({ length: LINES }, (_, i) => `line ${i}\n`).join('')
const CHATTY = `const chat = () => { for (let i = 0; i < ${LINES}; i++) console.log('line ' + i) }\n`

/** Reads a little at a time, so that the writer has to wait. */
async function readSlowly(stream) {
  const chunks = []
  for await (const chunk of stream) {
    chunks.push(chunk)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  return Buffer.concat(chunks).toString()
}

test('console.log of many lines arrives whole and once, at a pipe whose reader is slow', async (t) => {
  for (const fn of ['chat', 'async () => { await undefined; chat() }', '() => { chat(); process.exit() }']) {
    const { code, output } = await script(`${CHATTY}clone(${fn}).wait()`, [], { read: readSlowly })
    t.is(code, 0)
    t.true(output === NUMBERED, fn)
  }
})

test('console.error of many lines arrives whole and once, at a pipe whose reader is slow', async (t) => {
  const source = CHATTY.replace('console.log', 'console.error')
  const { errors } = await script(`${source}clone(chat).wait()`, [], { read: readSlowly })
  t.true(errors === NUMBERED)
})

test('console.log of many lines arrives whole and once, in a file', async (t) => {
  const file = path.join(temporaryDirectory(t), 'output')
  const fd = openSync(file, 'w')
  const { code } = await script(`${CHATTY}clone(chat).wait()`, [], { stdio: ['pipe', fd, 'inherit'] })
  closeSync(fd)
  t.is(code, 0)
  t.true(readFileSync(file, 'utf8') === NUMBERED)
})

test('console.log of many lines arrives whole and once, on a terminal', async (t) => {
  const file = path.join(temporaryDirectory(t), 'main.cjs')
  writeFileSync(
    file,
    `const { clone } = require(${JSON.stringify(LIBRARY)})
    ${CHATTY}
    clone(() => { if (!process.stdout.isTTY) return 2; chat() }).wait().then(({ code }) => process.exit(code))`,
  )
  const words = ['script', '-qec', `'${process.execPath}' '${file}'`, '/dev/null']
  const { code, output, errors } = await program(words).catch((error) => ({ errors: `${error}` }))
  if (!available(t, code !== undefined, `script(1): ${errors}`)) return
  t.is(code, 0)
  t.true(output.replaceAll('\r\n', '\n') === NUMBERED)
})

const RAW_ENDS = {
  returns: '3',
  'calls process.exit': 'process.exit(3)',
  'waits for what never comes': '(process.stdin.unref(), new Promise(() => {}))',
  throws: "(() => { throw new Error('thrown') })()",
}

for (const [how, end] of Object.entries(RAW_ENDS)) {
  test(`a terminal that the child has set to raw mode is as it was before where it ${how}`, async (t) => {
    const file = path.join(temporaryDirectory(t), 'main.cjs')
    writeFileSync(
      file,
      `const { clone } = require(${JSON.stringify(LIBRARY)})
      const { execFileSync } = require('node:child_process')
      const { openSync, writeFileSync } = require('node:fs')
      const look = () => /(-?)icanon/.exec(execFileSync('stty', ['-a'], { stdio: [openSync('/dev/tty'), 'pipe', 'inherit'] }))[0]
      const seen = []
      const run = () => {
        clone(() => {
          process.stdin.setRawMode(true)
          writeFileSync(process.argv[2], look())
          return ${end}
        }).waitSync()
        seen.push(look())
      }
      run()
      process.stdin.setRawMode(true)
      run()
      process.stdin.setRawMode(false)
      seen.push(look(), require('node:fs').readFileSync(process.argv[2], 'utf8'))
      writeFileSync(process.argv[2], JSON.stringify(seen))`,
    )
    const words = ['script', '-qec', `'${process.execPath}' '${file}' '${file}.seen'`, '/dev/null']
    const ended = await program(words).catch((error) => ({ errors: `${error}` }))
    if (!available(t, ended.code !== undefined, `script(1): ${ended.errors}`)) return
    t.is(ended.code, 0, ended.output)
    // Its own, while it runs, is raw; after it that of the parent holds.
    const [first, second, own, inChild] = JSON.parse(readFileSync(`${file}.seen`, 'utf8'))
    t.deepEqual(
      { first, second, own, inChild },
      { first: 'icanon', second: '-icanon', own: 'icanon', inChild: '-icanon' },
    )
  })
}

test('what the parent has written, and its reader has not taken yet, arrives once beside the output of the child', async (t) => {
  const { output } = await script(
    `${CHATTY}chat()
    clone(() => console.log('from the child')).wait()`,
    [],
    { read: readSlowly },
  )
  t.is(output.split('from the child\n').length, 2)
  t.true(output.replace('from the child\n', '') === NUMBERED)
})

test('the callback of process.stdout.write is called, and output keeps its order', async (t) => {
  const { output } = await script(`clone(async () => {
    await new Promise((resolve) => process.stdout.write('first\\n', resolve))
    console.log('second')
    process.stderr.write('beside\\n')
    require('node:fs').writeSync(1, 'third\\n')
    process.stdout.end('last\\n')
  }).wait()`)
  t.is(output, 'first\nsecond\nthird\nlast\n')
})

test('it reads standard input', async (t) => {
  const { output } = await script(
    `clone(async () => { for await (const chunk of process.stdin) console.log(String(chunk).toUpperCase()) }).wait()`,
    [],
    { input: 'from outside' },
  )
  t.is(output, 'FROM OUTSIDE\n')
})

test('fs works in each of its three forms', async (t) => {
  const directory = temporaryDirectory(t)
  const { read, names } = await inClone(async ({ fs, path }, directory) => {
    const place = (name) => path.join(directory, name)
    fs.writeFileSync(place('sync'), 'one')
    await new Promise((resolve, reject) =>
      fs.writeFile(place('callback'), 'two', (error) => (error ? reject(error) : resolve())),
    )
    await fs.promises.writeFile(place('promise'), 'three')
    await new Promise((resolve) => fs.createWriteStream(place('stream')).end('four', resolve))
    const many = Array.from({ length: 200 }, (_, i) => fs.promises.appendFile(place('many'), `${i % 10}`))
    await Promise.all(many)
    const handle = await fs.promises.open(place('sync'))
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(10), 0, 10, 0)
    await handle.close()
    const missing = await fs.promises.readFile(place('missing')).catch(({ code }) => code)
    return {
      read: [buffer.toString('utf8', 0, bytesRead), missing],
      names: (await fs.promises.readdir(directory)).sort(),
    }
  }, directory)
  t.deepEqual(read, ['one', 'ENOENT'])
  t.deepEqual(names, ['callback', 'many', 'promise', 'stream', 'sync'])
  const contents = names.map((name) => readFileSync(path.join(directory, name), 'utf8'))
  t.deepEqual([contents[0], contents[2], contents[3], contents[4]], ['two', 'three', 'four', 'one'])
  t.is(
    [...contents[1]].sort().join(''),
    '0123456789'.replaceAll(/./g, (digit) => digit.repeat(20)),
  )
})

test('fs.watch tells of what another process does', async (t) => {
  const directory = temporaryDirectory(t)
  const name = await inClone(async ({ fs, load }, directory) => {
    const watcher = fs.watch(directory)
    const event = new Promise((resolve) => watcher.once('change', (_, name) => resolve(name)))
    load('child_process').execFile('touch', [`${directory}/touched`])
    return event
  }, directory)
  t.is(name, 'touched')
})

/** Run in a plain Node and in a clone, where the loop calls back: it has to come to the same. */
const ordering = async () => {
  await new Promise((resolve) => setImmediate(resolve))
  const order = []
  const note = (what) => () => order.push(what)
  setTimeout(note('timeout'), 1)
  const cleared = setTimeout(note('cleared'), 1)
  process.nextTick(note('tick'))
  process.nextTick(() => process.nextTick(note('tick in a tick')))
  queueMicrotask(note('microtask'))
  Promise.resolve().then(note('then')).then(note('then then'))
  clearTimeout(cleared)
  order.push('synchronous')
  await new Promise((resolve) => setTimeout(resolve, 20))
  setImmediate(() => {
    order.push('immediate')
    process.nextTick(note('tick in an immediate'))
    Promise.resolve().then(note('then in an immediate'))
    setImmediate(note('immediate in an immediate'))
  })
  setImmediate(note('second immediate'))
  await new Promise((resolve) => {
    let count = 0
    const interval = setInterval(() => {
      order.push(`interval ${++count}`)
      if (count < 3) return
      clearInterval(interval)
      resolve()
    }, 5)
  })
  const { promisify } = process.getBuiltinModule('util')
  order.push(
    await promisify(setTimeout)(1, 'promised timeout'),
    await promisify(setImmediate)('promised immediate'),
  )
  for await (const tick of process.getBuiltinModule('timers/promises').setInterval(1, 'async interval')) {
    order.push(tick)
    break
  }
  return order
}

test('timers, immediates, ticks and promises come in the order in which they come elsewhere', async (t) => {
  const [elsewhere, here] = [await inProcess(ordering, asWeAre), await inClone(ordering)]
  t.is(elsewhere.length, 18)
  // When an interval's time is up among immediates is the clock's to say.
  const [ours, theirs] = [here, elsewhere].map((events) => ({
    intervals: events.filter((event) => event.startsWith('interval')),
    others: events.filter((event) => !event.startsWith('interval')),
  }))
  t.deepEqual(ours, theirs)
})

test('a timer lasts as long as it is set to', async (t) => {
  const [short, long] = await inClone(async () => {
    const lasts = async (milliseconds) => {
      const start = process.hrtime.bigint()
      await new Promise((resolve) => setTimeout(resolve, milliseconds))
      return Number(process.hrtime.bigint() - start) / 1e6
    }
    return [await lasts(20), await lasts(150)]
  })
  t.true(short >= 19 && long >= 149, `${short} ${long}`)
})

test('a net server and its client talk to each other', async (t) => {
  const answer = await inClone(async ({ load }) => {
    const net = load('net')
    const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const client = net.connect(server.address().port, '127.0.0.1')
    const sent = 'x'.repeat(1 << 20)
    client.end(sent)
    let received = ''
    for await (const chunk of client) received += chunk
    await new Promise((resolve) => server.close(resolve))
    return received === sent
  })
  t.true(answer)
})

test('http, and fetch: to a server of its own, and from outside', async (t) => {
  const { pid, fetched, outside } = await parent(async ({ lib, until, tell, hasTold, told }) => {
    const child = lib.clone(async () => {
      const server = process.getBuiltinModule('http').createServer(({ url }, response) => {
        response.end(`${process.pid} ${url}`)
        if (url === '/last') response.on('close', () => server.close())
      })
      server.listen(0, '127.0.0.1')
      await new Promise((resolve) => server.once('listening', resolve))
      const { port } = server.address()
      const fetched = await (await fetch(`http://127.0.0.1:${port}/own`)).text()
      tell({ port, fetched })
      await new Promise((resolve) => server.once('close', resolve))
    })
    await until(hasTold)
    const { port, fetched } = told()
    const outside = await (
      await fetch(`http://127.0.0.1:${port}/last`, { headers: { connection: 'close' } })
    ).text()
    await child.wait()
    return { pid: child.pid, fetched, outside }
  })
  t.deepEqual([fetched, outside], [`${pid} /own`, `${pid} /last`])
})

/** A name server that has one address for whatever is asked. */
async function nameServer(t) {
  const server = createSocket('udp4')
  t.teardown(() => server.close())
  server.on('message', (query, { port, address }) => {
    const question = query.subarray(12, query.indexOf(0, 12) + 5)
    const header = Buffer.from([...query.subarray(0, 2), 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77])
    server.send(Buffer.concat([header, question, answer]), port, address)
  })
  server.bind(0, '127.0.0.1')
  await once(server, 'listening')
  return `127.0.0.1:${server.address().port}`
}

test('dns.lookup and dns.resolve answer, also after the parent has resolved', async (t) => {
  const server = await nameServer(t)
  const resolving = async ({ load }, server) => {
    const dns = (load ?? process.getBuiltinModule)('dns')
    const resolver = new dns.promises.Resolver()
    resolver.setServers([server])
    const [own] = await resolver.resolve4('own.example')
    const before = dns.getServers()
    dns.setServers([server])
    const [shared] = await new Promise((resolve, reject) =>
      dns.resolve4('shared.example', (error, found) => (error ? reject(error) : resolve(found))),
    )
    const { address } = await dns.promises.lookup('localhost', { family: 4 })
    return { own, shared, address, before }
  }
  const addresses = { own: '192.0.2.77', shared: '192.0.2.77', address: '127.0.0.1' }
  t.like(await inClone(resolving, server), addresses)
  const inherited = await inClone(async ({ lib, load }, server) => {
    const dns = load('dns')
    dns.setServers([server])
    await dns.promises.resolve4('before.example').catch(() => {})
    const nested = lib.clone(async () => {
      const [address] = await dns.promises.resolve4('after.example')
      return dns.getServers()[0] === server && address === '192.0.2.77' ? 3 : 4
    })
    return nested.wait()
  }, server)
  t.deepEqual(inherited, { code: 3, signal: null })
})

test('WebAssembly is compiled and run, asynchronously and in the background', async (t) => {
  const results = await inClone(async () => {
    const leb = (number) => {
      const bytes = []
      for (; number > 127; number >>>= 7) bytes.push((number & 127) | 128)
      return [...bytes, number]
    }
    const section = (id, bytes) => [id, ...leb(bytes.length), ...bytes]
    const count = 3000
    // (i32) -> i32: the argument plus 1, or, in the last, the call of the one before it.
    const plain = [0, 0x20, 0, 0x41, 1, 0x6a, 0x0b]
    const caller = [0, 0x20, 0, 0x10, ...leb(count - 2), 0x10, 0, 0x0b]
    const bodies = Array.from({ length: count }, (_, i) => (i === count - 1 ? caller : plain))
    const module = new Uint8Array([
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, [1, 0x60, 1, 0x7f, 1, 0x7f]),
      ...section(3, [...leb(count), ...bodies.map(() => 0)]),
      ...section(7, [1, 1, 0x66, 0, ...leb(count - 1)]),
      ...section(10, [...leb(count), ...bodies.flatMap((body) => [body.length, ...body])]),
    ])
    const compiled = await WebAssembly.compile(module)
    const { f } = (await WebAssembly.instantiate(compiled)).exports
    let sum = 0
    for (let i = 0; i < 200_000; i++) sum = f(sum)
    const streamed = await WebAssembly.instantiateStreaming(
      new Response(module, { headers: { 'content-type': 'application/wasm' } }),
    )
    const trapped = await WebAssembly.compile(new Uint8Array(8)).catch(({ name }) => name)
    return [sum, streamed.instance.exports.f(40), trapped]
  })
  t.deepEqual(results, [400_000, 42, 'CompileError'])
})

test('a module of WebAssembly that the parent has compiled runs, and its traps are errors', async (t) => {
  const answer = await inProcess(async ({ lib }) => {
    // (func (export "f") (param i32) (result i32) (i32.load (local.get 0))) with one page of memory
    const bytes =
      '0061736d0100000001060160017f017f030201000503010001070501016600000a090107002000280200' + '0b'
    const { instance } = await WebAssembly.instantiate(Buffer.from(bytes, 'hex'))
    const child = lib.clone(async () => {
      if (instance.exports.f(0) !== 0) return 1
      try {
        instance.exports.f(1 << 20)
      } catch (error) {
        return error instanceof WebAssembly.RuntimeError ? 3 : 2
      }
    })
    return child.wait()
  }, asWeAre)
  t.deepEqual(answer, { code: 3, signal: null })
})

test('child_process works: exec, spawn, fork, and the synchronous ones', async (t) => {
  const file = path.join(temporaryDirectory(t), 'forked.cjs')
  writeFileSync(
    file,
    "process.on('message', (n) => { process.send([n + 1, process.ppid]); process.disconnect() })",
  )
  const { pid, exec, spawned, forked, sync, signal, missing } = await inClone(async ({ load }, file) => {
    const cp = load('child_process')
    const event = (emitter, name) => new Promise((resolve) => emitter.once(name, (...args) => resolve(args)))
    const { stdout: exec } = await load('util').promisify(cp.exec)('echo $PPID')
    const cat = cp.spawn('cat')
    cat.stdin.end('through cat')
    const spawned = [String(await event(cat.stdout, 'data')), ...(await event(cat, 'close'))]
    const fork = cp.fork(file)
    const message = event(fork, 'message')
    fork.send(41)
    const forked = [(await message)[0], ...(await event(fork, 'exit'))]
    const { stdout, status } = cp.spawnSync('sh', ['-c', 'echo sync; exit 3'], { encoding: 'utf8' })
    const sleep = cp.spawn('sleep', ['100'])
    sleep.kill()
    const signal = await event(sleep, 'exit')
    const [{ code: missing }] = await event(cp.spawn('/nonexistent'), 'error')
    return { pid: process.pid, exec, spawned, forked, sync: [stdout, status], signal, missing }
  }, file)
  t.is(exec, `${pid}\n`)
  t.deepEqual(spawned, ['through cat', 0, null])
  t.deepEqual(forked, [[42, pid], 0, null])
  t.deepEqual(sync, ['sync\n', 3])
  t.deepEqual(signal, [null, 'SIGTERM'])
  t.is(missing, 'ENOENT')
})

test('worker_threads work: messages, their end, their errors, and terminate()', async (t) => {
  const results = await inClone(async ({ load }) => {
    const { Worker } = load('worker_threads')
    const event = (emitter, name) => new Promise((resolve) => emitter.once(name, (...args) => resolve(args)))
    const source =
      "const { parentPort: port } = require('worker_threads'); port.once('message', (n) => port.postMessage(n + 1))"
    const answering = Array.from({ length: 3 }, async (_, i) => {
      const worker = new Worker(source, { eval: true })
      worker.postMessage(i)
      const [[answer], [code]] = await Promise.all([event(worker, 'message'), event(worker, 'exit')])
      return [answer, code]
    })
    const answers = await Promise.all(answering)
    const failing = new Worker('throw new Error("in a worker")', { eval: true })
    const [{ message }] = await event(failing, 'error')
    const endless = new Worker('for (;;);', { eval: true })
    await event(endless, 'online')
    const shared = new Int32Array(new SharedArrayBuffer(4))
    const adding = new Worker(
      "const { workerData: shared } = require('worker_threads'); Atomics.store(shared, 0, 7); Atomics.notify(shared, 0)",
      { eval: true, workerData: shared },
    )
    Atomics.wait(shared, 0, 0)
    await event(adding, 'exit')
    return { answers, message, terminated: await endless.terminate(), shared: shared[0] }
  })
  t.deepEqual(results, {
    answers: [
      [1, 0],
      [2, 0],
      [3, 0],
    ],
    message: 'in a worker',
    terminated: 1,
    shared: 7,
  })
})

test('a Worker that runs when the function returns ends with it', async (t) => {
  const fns = [
    () => {
      ;new (process.getBuiltinModule('worker_threads').Worker)('for (;;);', { eval: true })
      return 3
    },
    async () => {
      const worker = new (process.getBuiltinModule('worker_threads').Worker)('for (;;);', { eval: true })
      await new Promise((resolve) => worker.once('online', resolve))
      return 4
    },
  ]
  t.deepEqual(await ends(fns), [3, 4].map(exited))
})

test('zlib and crypto give in the background what they give at once', async (t) => {
  const { same, random } = await inClone(async ({ load }) => {
    const [zlib, crypto, { promisify }] = ['zlib', 'crypto', 'util'].map((name) => load(name))
    const data = Buffer.alloc(1 << 20, 'some text ')
    const packed = await promisify(zlib.gzip)(data)
    const unpacked = await promisify(zlib.gunzip)(packed)
    const brotli = await promisify(zlib.brotliCompress)(data.subarray(0, 10_000))
    const derived = await promisify(crypto.pbkdf2)('password', 'salt', 1000, 32, 'sha256')
    const scrypted = await promisify(crypto.scrypt)('password', 'salt', 32)
    const digest = Buffer.from(await crypto.webcrypto.subtle.digest('SHA-256', data))
    const { publicKey, privateKey } = await promisify(crypto.generateKeyPair)('ed25519')
    const signature = crypto.sign(null, data, privateKey)
    const random = await Promise.all([promisify(crypto.randomBytes)(16), promisify(crypto.randomBytes)(16)])
    return {
      same: [
        packed.equals(zlib.gzipSync(data)),
        unpacked.equals(data),
        zlib.brotliDecompressSync(brotli).equals(data.subarray(0, 10_000)),
        derived.equals(crypto.pbkdf2Sync('password', 'salt', 1000, 32, 'sha256')),
        scrypted.equals(crypto.scryptSync('password', 'salt', 32)),
        digest.equals(crypto.createHash('sha256').update(data).digest()),
        crypto.verify(null, data, publicKey, signature),
      ],
      random: random.map((bytes) => bytes.toString('hex')),
    }
  })
  t.deepEqual(same, Array(7).fill(true))
  t.not(random[0], random[1])
})

test('a chain of awaits over all of it goes on to its end', async (t) => {
  const steps = await inClone(async ({ fs, load }) => {
    let steps = 0
    const [{ setTimeout: sleep, setImmediate: immediate }, { promisify }] = [
      load('timers/promises'),
      load('util'),
    ]
    async function* source() {
      for (let i = 0; i < 50; i++) {
        await [sleep(1), immediate(), null, fs.promises.stat('/'), promisify(process.nextTick)][i % 5]
        yield i
      }
    }
    for await (const i of source()) steps += Number(i >= 0)
    return steps
  })
  t.is(steps, 50)
})

test('import() works in it', async (t) => {
  const { output, errors } = await script(
    "clone(async () => console.log((await import('node:path')).sep, (await import('data:text/javascript,export default 5')).default)).wait()",
  )
  t.is(output, '/ 5\n', errors)
})

test('a clone clones, and its clone clones: each is the child of the one before', async (t) => {
  const source = `${SAY}
    const { readFileSync } = require('node:fs')
    const parentOf = () => Number(readFileSync('/proc/self/stat', 'utf8').split(' ')[3])
    const deeper = async (depth) => {
      say(depth, process.pid, parentOf())
      if (depth === 4) return 1
      await new Promise((resolve) => setTimeout(resolve, 1))
      const { code } = await clone(() => deeper(depth + 1)).wait()
      return code + 1
    }
    deeper(1).then((code) => say(code))`
  const { output, errors } = await script(source)
  const lines = output
    .trim()
    .split('\n')
    .map((line) => line.split(' ').map(Number))
  t.deepEqual(
    lines.map(([depth]) => depth),
    [1, 2, 3, 4, 4],
    errors,
  )
  for (const depth of [1, 2, 3]) t.is(lines[depth][2], lines[depth - 1][1])
})

// ─── Where it is called ────────────────────────────────────────────────────────────────────────

const HERE = `${SAY}
  const here = () => {
    const child = clone(async () => {
      await new Promise((resolve) => setTimeout(resolve, 1))
      say('child')
      await require('node:fs').promises.stat('/')
      return 5
    })
    say('parent')
    return child
  }
  const tell = async (child) => {
    const { code } = await child.wait()
    say('status', code)
  }
  const go = () => void tell(here())
`
const PLACES = {
  'the main script': 'go()',
  'a timer': 'setTimeout(go, 1)',
  'an interval': 'const interval = setInterval(() => { clearInterval(interval); go() }, 1)',
  'an immediate': 'setImmediate(go)',
  'a tick': 'process.nextTick(go)',
  'a microtask': 'queueMicrotask(go)',
  "a promise's continuation": 'Promise.resolve().then(go)',
  'an async function, after await': 'void (async () => { await undefined; await tell(here()) })()',
  "a promise's executor": 'new Promise(go)',
  "a file's callback": "require('node:fs').stat('/', go)",
  "the continuation of a file's promise": "require('node:fs').promises.stat('/').then(go)",
  "a watcher's listener": `const { watch, writeFileSync } = require('node:fs')
    const watcher = watch(process.argv[1], () => { watcher.close(); go() })
    writeFileSync(process.argv[1] + '/file', '')`,
  'a request of an http server': `const server = require('node:http').createServer(async (_, response) => {
      await tell(here())
      response.end('done')
      server.close()
    }).listen(0, '127.0.0.1', async () => {
      await (await fetch('http://127.0.0.1:' + server.address().port, { headers: { connection: 'close' } })).text()
      say('answered')
    })`,
  "a socket's data": `const server = require('node:net').createServer((socket) => {
      socket.on('data', () => { go(); socket.destroy(); server.close() })
    }).listen(0, '127.0.0.1', () => require('node:net').connect(server.address().port, '127.0.0.1').end('x'))`,
  "a child process's exit": "require('node:child_process').spawn('true').on('exit', go)",
  "a dns.lookup's callback": "require('node:dns').lookup('localhost', go)",
  'a crypto callback': "require('node:crypto').randomBytes(8, go)",
  "a Worker's message": `const worker = new (require('node:worker_threads').Worker)("require('worker_threads').parentPort.postMessage(1)", { eval: true })
    worker.on('message', go)`,
  "a MessagePort's message": `const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => { port1.close(); go() }
    port2.postMessage(1)`,
  "a signal's listener":
    "process.once('SIGUSR2', go); const hold = setTimeout(() => {}, 1000); process.once('SIGUSR2', () => clearTimeout(hold)); process.kill(process.pid, 'SIGUSR2')",
  "a listener of process's 'beforeExit'": "process.once('beforeExit', go)",
  "a listener of 'uncaughtException'":
    "process.once('uncaughtException', go); setTimeout(() => { throw new Error() })",
  "a listener of 'unhandledRejection'": "process.once('unhandledRejection', go); Promise.reject(new Error())",
  "an EventEmitter's listener": "new (require('node:events'))().on('event', go).emit('event')",
  "an EventTarget's listener":
    "const target = new EventTarget(); target.addEventListener('event', go); target.dispatchEvent(new Event('event'))",
  "a stream's read":
    "const { Readable } = require('node:stream'); new Readable({ read() { this.push(null); go() } }).resume()",
  'vm.runInContext': "require('node:vm').runInContext('go()', require('node:vm').createContext({ go }))",
  eval: "eval('go()')",
  'Array.prototype.sort':
    'let once = false; [2, 1].sort((a, b) => { if (!once) go(); once = true; return a - b })',
  'Array.prototype.forEach': '[1].forEach(go)',
  'JSON.parse': "JSON.parse('1', go)",
  'JSON.stringify': 'JSON.stringify({ toJSON: go })',
  'String.prototype.replace': "'x'.replace('x', go)",
  'a getter': 'void { get property() { return go() } }.property',
  "a Proxy's trap": 'void new Proxy({}, { get: go }).property',
  'a constructor': 'new (class { constructor() { go() } })()',
  'a static block': '(class { static { go() } })',
  'a generator': '[...(function* () { yield go() })()]',
  'an async generator':
    'void (async () => { for await (const _ of (async function* () { yield go() })());})()',
  'try with finally': 'try { go() } finally { say("finally") }',
  'a deep stack': 'const deep = (depth) => depth === 0 ? go() : [deep(depth - 1)]; deep(3000)',
  'a function that WebAssembly calls': `const bytes = Buffer.from('0061736d01000000010401600000020701016d0166000003020100070501016700010a0601040010000b', 'hex')
    new WebAssembly.Instance(new WebAssembly.Module(bytes), { m: { f: go } }).exports.g()`,
  'AsyncLocalStorage.run': "new (require('node:async_hooks').AsyncLocalStorage)().run(1, go)",
  'an async hook': `let count = 0
    const hook = require('node:async_hooks').createHook({
      before() { hook.disable(); if (++count > 1) return say('a hook that is disabled'); go() }
    }).enable()
    setTimeout(() => {}, 1)`,
  'a module that is loaded': `require('node:fs').writeFileSync(process.argv[1] + '/module.cjs', 'go()')
    require(process.argv[1] + '/module.cjs')`,
}

const MORE = { 'a request of an http server': ['answered'], 'try with finally': ['finally'] }

function told(t, { code, signal, output, errors }, more = []) {
  t.deepEqual(output.trim().split('\n').sort(), ['child', 'parent', 'status 5', ...more].sort(), errors)
  t.deepEqual([code, signal, errors], [0, null, ''])
}

for (const [place, source] of Object.entries(PLACES)) {
  test(`it can be called in ${place}`, async (t) => {
    told(t, await script(`${HERE};${source}`, [temporaryDirectory(t)]), MORE[place])
  })
}

const REQUIRED = `const { clone } = require(${JSON.stringify(LIBRARY)})\n`
const IMPORTED = `import { createRequire } from 'node:module'
  import lib from ${JSON.stringify(LIBRARY)}
  const require = createRequire(${JSON.stringify(LIBRARY)})
  const { clone } = lib\n`

for (const [name, source] of Object.entries({
  'main.cjs': `${REQUIRED}${HERE}go()`,
  'main.mjs': `${IMPORTED}${HERE}go()`,
  'awaits.mjs': `${IMPORTED}${HERE}await new Promise((resolve) => setTimeout(resolve, 1)); await tell(here()); await undefined; say('on')`,
})) {
  test(`it can be called in a main script ${name}`, async (t) => {
    const file = path.join(temporaryDirectory(t), name)
    writeFileSync(file, source)
    const more = name === 'awaits.mjs' ? ['on'] : []
    told(t, await program([process.execPath, file]), more)
  })
}

for (const [how, words, source, more] of [
  ['--eval', ['--eval'], `${REQUIRED}${HERE}go()`],
  ['--eval of a module', ['--input-type=module', '--eval'], `${IMPORTED}${HERE}go()`],
  ['--print', ['--print'], `${REQUIRED}${HERE}go(), 'printed'`, ['printed']],
]) {
  test(`it can be called in what Node gets by ${how}`, async (t) => {
    told(t, await program([process.execPath, ...words, source]), more)
  })
}

test('it can be called in a program from standard input', async (t) => {
  told(t, await program([process.execPath, '-'], { input: `${REQUIRED}${HERE}go()` }))
  told(t, await program([process.execPath, '--input-type=module', '-'], { input: `${IMPORTED}${HERE}go()` }))
})

test('under the watchdog of vm with a timeout it is refused, and says why', async (t) => {
  const { code, output, errors } = await script(`${SAY}const attempt = () => {
      try { clone(() => say('child')) } catch ({ code, step, hint }) { say(code, step, hint) }
    }
    require('node:vm').runInNewContext('attempt()', { attempt }, { timeout: 100_000 })`)
  t.regex(output, /^EBUSY clone .*vm with a timeout.*\n$/)
  t.deepEqual([code, errors], [0, ''])
})

test("in a listener of process's 'exit', where no event loop turns any more, it is refused, and says where to call it", async (t) => {
  for (const end of ['', '; process.exit()', '; setImmediate(() => process.exit())']) {
    const { code, output, errors } = await script(`${SAY}process.on('exit', () => {
      try { clone(() => say('child')) } catch ({ code, step, hint }) { say(code, step, hint) }
      say('parent')
    })${end}`)
    t.regex(output, /^ENOTSUP clone .*'beforeExit'\nparent\n$/, end)
    t.deepEqual([code, errors], [0, ''], end)
  }
})

const ABORT = '--abort-on-uncaught-exception'
const refusing = ({ lib, fs }) => {
  // What a Worker, or a program that this one starts, would get is not this process's.
  process.env.NODE_OPTIONS = ''
  const children = () =>
    fs
      .readdirSync('/proc/self/task')
      .map((tid) => fs.readFileSync(`/proc/self/task/${tid}/children`, 'utf8'))
      .join('')
  const before = fs.readdirSync('/proc/self/fd').length
  const codes = [1, 2].map(() => {
    try {
      const child = lib.clone(() => {})
      return child.waitSync()
    } catch ({ code, syscall, step, hint }) {
      return { code, syscall, step, hint }
    }
  })
  return { codes, left: children(), opened: fs.readdirSync('/proc/self/fd').length - before }
}

for (const [how, options] of [
  ['an argument', { execArgv: [ABORT] }],
  [
    'NODE_OPTIONS',
    { env: { NODE_OPTIONS: `--no-warnings ${ABORT.replaceAll('-', '_').replace('__', '--')}` } },
  ],
]) {
  test(`a Node that ${ABORT} as ${how} would abort in every child refuses, and says why`, async (t) => {
    const { codes, left, opened } = await inProcess(refusing, { with: { wrap: [], ...options } })
    for (const refused of codes) {
      t.like(refused, { code: 'ENOTSUP', syscall: 'clone', step: 'clone' })
      t.regex(refused.hint, /--abort-on-uncaught-exception/)
    }
    t.deepEqual([left, opened], ['', 0])
  })
}

test("under Node's permission model it is refused without --allow-inspector, and works with it", async (t) => {
  const [major] = process.versions.node.split('.').map(Number)
  const model = [
    major < 24 ? '--experimental-permission' : '--permission',
    '--allow-fs-read=*',
    '--allow-addons',
  ]
  const under = (...more) => inProcess(refusing, { with: { wrap: [], execArgv: [...model, ...more] } })
  const denied = { code: 'ERR_ACCESS_DENIED' }
  t.deepEqual(await under(), { codes: [denied, denied], left: '', opened: 0 })
  if (major < 24) return
  const ended = { code: 0, signal: null }
  t.like(await under('--allow-inspector'), { codes: [ended, ended], left: '' })
})

test(`a Node in which --no-abort-on-uncaught-exception follows, or whose NODE_OPTIONS has changed since, clones`, async (t) => {
  const execArgv = [ABORT, '--no-abort-on-uncaught-exception']
  const { codes } = await inProcess(refusing, { with: { wrap: [], execArgv } })
  const changed = await parent(({ lib }, abort) => {
    process.env.NODE_OPTIONS = abort
    process.env.UV_USE_IO_URING = '1'
    return lib.clone(() => 3).waitSync().code
  }, ABORT)
  t.deepEqual([codes[0].code, changed], [0, 3])
})

test('with UV_USE_IO_URING=1 a Node whose libuv would share its rings refuses, and says why; others clone', async (t) => {
  const { codes } = await inProcess(refusing, { with: { wrap: [], env: { UV_USE_IO_URING: '1' } } })
  const [, minor] = process.versions.uv.split('.')
  if (minor < 49) {
    t.like(codes[0], { code: 'ENOTSUP', syscall: 'clone', step: 'clone' })
    t.regex(codes[0].hint, /UV_USE_IO_URING/)
  } else t.deepEqual(codes[0], { code: 0, signal: null })
})

test('what stands behind the call, in the callers too, does not run in the child', async (t) => {
  const { output } = await script(`${SAY}
    const inner = () => {
      try {
        return clone(async () => { await require('node:timers/promises').setTimeout(5); return 0 })
      } catch { say('caught', process.pid)
      } finally { say('finally', process.pid) }
    }
    const outer = (_, more) => { const child = inner(); say('after', process.pid); return child }
    const child = [0].map(outer)[0]
    Promise.resolve().then(() => say('then', process.pid))
    process.nextTick(() => say('tick', process.pid))
    child.wait().then(() => say('end', process.pid))
    say('is', process.pid)`)
  const lines = output
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
  t.deepEqual(
    lines.map(([word]) => word),
    ['finally', 'after', 'is', 'tick', 'then', 'end'],
  )
  t.is(new Set(lines.map(([, pid]) => pid)).size, 1)
})

test("an AsyncLocalStorage's store is seen in the function, and after its awaits", async (t) => {
  const { output } = await script(`
    const { AsyncLocalStorage } = require('node:async_hooks')
    const [first, second] = [new AsyncLocalStorage(), new AsyncLocalStorage()]
    const child = first.run({ name: 'store' }, () => clone(async () => {
      const seen = [first.getStore()?.name, second.getStore()]
      await new Promise((resolve) => setTimeout(resolve, 1))
      seen.push(first.getStore()?.name)
      await new Promise((resolve) => require('node:fs').stat('/', resolve))
      seen.push(first.getStore()?.name, second.run('inner', () => second.getStore()))
      console.log(JSON.stringify(seen))
    }))
    child.wait().then(() => console.log(first.getStore()))`)
  t.is(output, '["store",null,"store","store","inner"]\nundefined\n')
})

test('Where the package is loaded twice, as by Jest for each test, both have children', async (t) => {
  const { output, errors } = await script(`
    for (const file of Object.keys(require.cache)) delete require.cache[file]
    const other = require(${JSON.stringify(LIBRARY)})
    const statuses = async (...all) => { for (const clone of all) console.log(await clone(async () => 4).wait()) }
    statuses(clone, other.clone, clone)`)
  t.is(output, '{ code: 4, signal: null }\n'.repeat(3), errors)
})

test('A thread of V8 that goes on in the child may wake its event loop at any time', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  // libuv has no descriptor to be woken by while it opens one.
  const slow = compileLibrary(
    t,
    `#define _GNU_SOURCE
    #include <dlfcn.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    int eventfd(unsigned int count, int flags) {
      static int parent;
      Dl_info caller;
      if (parent == 0) parent = getpid();
      else if (parent != getpid() && dladdr(__builtin_return_address(0), &caller) && !strstr(caller.dli_fname, ".node"))
        usleep(100000);
      return syscall(SYS_eventfd2, count, flags);
    }`,
  )
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    const number = (value) => {
      const bytes = []
      do bytes.push((value & 127) | (value > 127 ? 128 : 0))
      while ((value >>= 7) > 0)
      return bytes
    }
    const section = (id, bytes) => [Buffer.from([id, ...number(bytes.length)]), Buffer.from(bytes)]
    // As many functions, of as many additions, keep V8's threads at work for some ten milliseconds.
    const COUNT = 400
    const body = [0, ...Array.from({ length: 500 }, () => [0x41, 1, 0x1a]).flat(), 0x0b]
    const functions = Array.from({ length: COUNT }, () => [...number(body.length), ...body]).flat()
    const module = Buffer.concat([
      Buffer.from('\\0asm\\x01\\0\\0\\0'),
      ...section(1, [1, 0x60, 0, 0]),
      ...section(3, number(COUNT).concat(Array(COUNT).fill(0))),
      ...section(10, number(COUNT).concat(functions)),
    ])
    ;(async () => {
      await clone(() => {}).wait()
      for (let round = 0; round < 10; round++) {
        const compiling = WebAssembly.compile(module)
        const child = clone(async () => { await WebAssembly.compile(module.slice()); return 5 })
        await compiling
        console.log(await child.wait())
      }
    })()`
  const words = ['env', `LD_PRELOAD=${slow}`, process.execPath, '-e', source]
  const { output, errors } = await program(words)
  t.is(output, '{ code: 5, signal: null }\n'.repeat(10), errors)
})

test('A child that wraps _fatalException has children whose listeners hear of what is uncaught', async (t) => {
  const { output, errors } = await script(`clone(async () => {
      const { _fatalException } = process
      process._fatalException = function (...args) { return _fatalException.apply(this, args) }
      const thrower = () => { process.on('uncaughtException', () => process.exit(3)); throw 1 }
      console.log(await clone(thrower).wait())
    }).wait()`)
  t.is(output, '{ code: 3, signal: null }\n', errors)
})

test('What a hook for asynchronous resources puts off before the function begins is not counted', async (t) => {
  const { output, errors } = await script(`
    const parent = process.pid
    let isOff = false
    require('node:async_hooks').createHook({ init(id, type) {
      if (isOff || process.pid === parent || type !== 'TickObject') return
      isOff = true
      setTimeout(() => console.log('timer'), 1)
      setImmediate(() => console.log('immediate'))
      isOff = false
    } }).enable()
    const fn = async () => { isOff = true; await new Promise((resolve) => setTimeout(resolve, 20)); return 1 }
    clone(fn).wait().then(console.log)`)
  t.is(output, '{ code: 1, signal: null }\n', errors)
})

test('Hooks for asynchronous resources hear of the beginning and the end of a synchronous function', async (t) => {
  const { output, errors } = await script(`
    const fs = require('node:fs')
    const ids = new Set()
    const say = (what) => (id) => { if (ids.has(id)) fs.writeSync(1, what + '\\n') }
    require('node:async_hooks').createHook({
      init(id, type) { if (type === 'clone') ids.add(id) },
      before: say('before'),
      after: say('after'),
    }).enable()
    clone(() => fs.writeSync(1, 'body\\n') && 0).wait()`)
  t.is(output, 'before\nbody\nafter\n', errors)
})

for (const [what, source] of [
  [
    'process.reallyExit',
    'const { reallyExit } = process; process.reallyExit = () => reallyExit.call(process, process.exitCode + 1)',
  ],
  [
    'EventEmitter.prototype.emit',
    "const { prototype } = require('node:events'); const { emit } = prototype; prototype.emit = function (...args) { if (args[0] === 'exit' && this === process) process.exitCode = args[1] + 1; return emit.apply(this, args) }",
  ],
]) {
  test(`What the function has put in the place of ${what} is called at its end`, async (t) => {
    const { output, errors } = await script(`clone(() => { ${source}; return 3 }).wait().then(console.log)`)
    t.is(output, '{ code: 4, signal: null }\n', errors)
  })
}

test('Listeners of exit can be taken off and called by another one', async (t) => {
  const { output, errors } = await script(`clone(() => {
      const listeners = process.listeners('exit')
      process.removeAllListeners('exit')
      let isCalled = false
      process.on('exit', (code) => { if (!isCalled) { isCalled = true; for (const listener of listeners) listener(code) } })
      process.exit(6)
    }).wait().then(console.log)`)
  t.is(output, '{ code: 6, signal: null }\n')
  t.is(errors, '')
})

test("Node's listener for warnings is in the child where it is in the parent at that moment", async (t) => {
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    ;(async () => {
      const listeners = process.listeners('warning')
      const warn = (text) => clone(async () => {
        process.emitWarning(text)
        // It is printed in a tick.
        await new Promise(setImmediate)
      }).wait()
      await warn('first')
      process.removeAllListeners('warning')
      await warn('second')
      for (const listener of listeners) process.on('warning', listener)
      await warn('third')
    })()`
  const { errors } = await program(['env', '-u', 'NODE_NO_WARNINGS', process.execPath, '-e', source])
  t.deepEqual(errors.match(/first|second|third/g), ['first', 'third'], errors)
})

// ─── What it costs ─────────────────────────────────────────────────────────────────────────────

for (const [what, before, kind = 'function'] of [
  ['at work', 'await turn()'],
  ['that has just begun', ''],
  [
    'in which V8 has dropped since what nobody ran',
    // What is told of a collection may come with the next one.
    'for (let count = 0; count < 4; count++) { gc(); await turn() } clone(() => {}).waitSync()',
  ],
  ['at work, for an asynchronous one', 'await turn()', 'async function'],
]) {
  test(`A child compiles nothing, as its function and what Node and the package run in it have been compiled before: in a program ${what}`, async (t) => {
    const log = path.join(temporaryDirectory(t), 'v8.log')
    // As many a collection does where nobody clones for long.
    const flags = [
      '--expose-gc',
      '--stress-flush-code',
      '--log-function-events',
      `--logfile=${log}`,
      '--no-logfile-per-isolate',
    ]
    const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
      const turn = () => new Promise((resolve) => setImmediate(() => process.nextTick(resolve)))
      function marker() {}
      function behind() {}
      ;(async () => {
        clone(function first() {}).waitSync()
        ${before}
        // The first has left a microtask.
        await undefined
        marker()
        // Whoever compiles it in the child does so in each.
        ${kind} second() {}
        clone(second).waitSync()
        const status = clone(second).waitSync()
        behind()
        console.log(status)
      })()`
    const { output, errors } = await program([process.execPath, ...flags, '-e', source])
    t.is(output, '{ code: 0, signal: null }\n', errors)
    const lines = readFileSync(log, 'utf8').split('\n')
    const compiled = lines.filter((line) => line.startsWith('function,parse-function,'))
    const names = compiled.map((line) => line.split(',').at(-1))
    t.deepEqual(
      names.slice(names.indexOf('marker'), names.indexOf('behind')),
      ['marker', 'second'],
      names.join(),
    )
  })
}

test("What a child knows of itself is not lost where it makes a child after V8 has collected garbage: its Worker's end is heard", async (t) => {
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    const { once } = require('node:events')
    const { Worker } = require('node:worker_threads')
    clone(async () => {
      const worker = new Worker("require('node:worker_threads').parentPort.once('message', () => {})", { eval: true })
      await once(worker, 'online')
      // What is told of a collection may come with the next one.
      for (let count = 0; count < 4; count++) {
        gc()
        await new Promise(setImmediate)
      }
      const { code } = clone(() => 3).waitSync()
      worker.postMessage('end')
      const [status] = await once(worker, 'exit')
      console.log(code, status)
    }).wait().then(console.log)`
  const { output, errors } = await program([process.execPath, '--expose-gc', '-e', source])
  t.is(output, '3 0\n{ code: 0, signal: null }\n', errors)
})

for (const [what, setImmediate] of [
  ['a timer', '(callback) => setTimeout(callback, 0)'],
  ['a number', '(callback) => { setTimeout(callback, 0); return 1 }'],
]) {
  test(`Where somebody's own setImmediate returns ${what}, as a polyfill's does, Node's immediates are as before`, async (t) => {
    const source = `globalThis.setImmediate = ${setImmediate}
      const { clone } = require(${JSON.stringify(LIBRARY)})
      console.log(clone(() => 7).waitSync())
      const timer = setTimeout(() => console.log('never'), 5000)
      require('node:timers').setImmediate(() => { console.log('called'); clearTimeout(timer) })`
    const { output, errors } = await program([process.execPath, '-e', source])
    t.is(output, '{ code: 7, signal: null }\ncalled\n', errors)
  })
}

test('After V8 has collected garbage, wherever it is called, the parent goes on as before', async (t) => {
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    const { AsyncLocalStorage } = require('node:async_hooks')
    const seen = []
    const say = (what) => () => seen.push(what)
    const go = (where) => () => seen.push(where + clone(() => 3).waitSync().code)
    const collect = async () => {
      for (let count = 0; count < 4; count++) {
        gc()
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    }
    const places = [
      () => [go('immediate '), say('second'), say('third')].forEach((callback) => setImmediate(callback)),
      () => [go('tick '), say('second')].forEach((callback) => process.nextTick(callback)),
      () => [go('timer '), say('second')].forEach((callback) => setTimeout(callback, 1)),
      () => [go('microtask '), say('second')].forEach((callback) => queueMicrotask(callback)),
      () => { setImmediate(say('later')); go('before an immediate ')() },
      () => new AsyncLocalStorage().run(1, go('store ')),
      () => { process.exitCode = 4; go('exit code ')(); seen.push(process.exitCode); process.exitCode = undefined },
    ]
    ;(async () => {
      go('first ')()
      for (const place of places) {
        await collect()
        place()
      }
      await collect()
      const child = clone(async () => {
        await collect()
        const isRight = clone(() => 3).waitSync().code === 3
        await new Promise(setImmediate)
        return isRight ? 5 : 6
      })
      seen.push((await child.wait()).code)
      console.log(seen.join())
    })()`
  const { output, errors } = await program([process.execPath, '--expose-gc', '-e', source])
  t.is(
    output,
    'first 3,immediate 3,second,third,tick 3,second,timer 3,second,microtask 3,second,before an immediate 3,later,store 3,exit code 3,4,5\n',
    errors,
  )
})

test('The first clone is not held up by the thread that no signal reaches', async (t) => {
  if (!available(t, hasStrace(), 'strace')) return
  const log = path.join(temporaryDirectory(t), 'calls')
  const source = `require(${JSON.stringify(LIBRARY)}).clone(() => 7).waitSync()`
  const traced = ['strace', '-o', log, '-e', 'trace=openat,clone3', process.execPath, '-e', source]
  const { errors } = await program(traced)
  const calls = readFileSync(log, 'utf8')
  const [before] = calls.split(/^clone3.*CLONE_PIDFD/m)
  t.not(before, calls, errors)
  // To find out who it is a thread is looked at once; one that is just blocking its signals for a moment, again.
  t.true((before.match(/"\d+\/syscall"/g) ?? []).length < 10, before)
})

// ─── Child ─────────────────────────────────────────────────────────────────────────────────────

/** What the clone is while it waits, as told by others; `child.pid` there is the process itself. */
const lookAt = ({ pid, pidfd }, child) => ({
  parent: Number(statusOf(pid).PPid),
  isParent: Number(statusOf(pid).PPid) === child.pid,
  children: childrenOf(child.pid),
  descriptor: pidfd === undefined ? null : descriptor(pidfd, child.pid),
  exitSignal: Number(
    readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ')[35],
  ),
})

test('pid is of a process whose parent is this one, and pidfd a close-on-exec descriptor of it', async (t) => {
  const { pid, seen, after, before } = await inProcess(
    async ({ lib, fs, outside }) => {
      const descriptors = () =>
        fs.readdirSync('/proc/self/fd').filter((fd) => fs.existsSync(`/proc/self/fd/${fd}`)).length
      await outside({ pid: process.pid })
      lib.clone(() => 0).waitSync()
      const before = descriptors()
      const child = lib.clone(() => new Promise((resolve) => setTimeout(resolve, 100_000)))
      const seen = await outside({ pid: child.pid, pidfd: child.pidfd })
      child.kill('SIGKILL')
      await child.wait()
      return { pid: child.pid, seen, before, after: { pidfd: child.pidfd, count: descriptors() } }
    },
    { with: { wrap: [], outside: lookAt } },
  )
  t.true(seen.isParent)
  t.deepEqual(seen.children, [pid])
  t.is(seen.descriptor.Pid, String(pid))
  t.is(seen.descriptor.flags & 0o2000000, 0o2000000)
  t.is(seen.exitSignal, 17)
  t.deepEqual(after, { pidfd: -1, count: before })
})

test('wait and waitSync can be called again and beside each other', async (t) => {
  const results = await inProcess(async ({ lib }) => {
    const slow = () => new Promise((resolve) => setTimeout(resolve, 20, 4))
    const child = lib.clone(slow)
    const both = await Promise.all([child.wait(), child.wait()])
    const later = [await child.wait(), child.waitSync(), child.waitSync()]
    const other = lib.clone(slow)
    const pending = other.wait()
    const now = other.waitSync()
    const all = [...both, ...later, now, await pending]
    all[0].code = 'changed'
    return [...all.slice(1), await child.wait()]
  }, asWeAre)
  t.deepEqual(results, Array(7).fill({ code: 4, signal: null }))
})

test('waitSync blocks the thread: nothing else runs meanwhile', async (t) => {
  const { output } = await script(`${SAY}
    setTimeout(() => say('timer'), 1)
    clone(() => new Promise((resolve) => setTimeout(() => { say('child'); resolve() }, 30))).waitSync()
    say('waited')`)
  t.is(output, 'child\nwaited\ntimer\n')
})

test('kill sends a signal by name or number, SIGTERM without one, 0 to ask; false after the end', async (t) => {
  const { ended, asked, after } = await inProcess(async ({ lib, fs }) => {
    const sleeping = () => new Promise((resolve) => setTimeout(resolve, 100_000))
    const ended = []
    for (const signal of [[], ['SIGINT'], [9], ['SIGUSR2'], [34]]) {
      const child = lib.clone(sleeping)
      ended.push([child.kill(...signal), await child.wait()])
    }
    const child = lib.clone(sleeping)
    const asked = [child.kill(0), child.kill(0), child.kill('SIGKILL')]
    await child.wait()
    const zombie = lib.clone(() => 0)
    // A zombie, and the last of its threads.
    const hasEnded = () => {
      const stat = fs
        .readFileSync(`/proc/${zombie.pid}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ')
      return stat[0] === 'Z' && stat[17] === '1'
    }
    while (!hasEnded());
    return { ended, asked, after: [child.kill(), child.kill(0), child.kill('SIGKILL'), zombie.kill()] }
  }, asWeAre)
  const signals = ['SIGTERM', 'SIGINT', 'SIGKILL', 'SIGUSR2', 'SIG34']
  t.deepEqual(
    ended,
    signals.map((signal) => [true, { code: null, signal }]),
  )
  t.deepEqual(asked, [true, true, true])
  t.deepEqual(after, [false, false, false, false])
})

const SLOW = `${SAY}
  const slow = () => new Promise((resolve) => setTimeout(() => { say('child ends'); resolve(3) }, 50))
  const parent = process.pid
  const late = async () => {
    while (process.ppid === parent) await new Promise((resolve) => setTimeout(resolve, 5))
    say('child ends')
  }
  const tell = ({ code }) => say('parent saw', code)
  process.on('exit', () => say('parent ends'))
`
for (const [title, source, lines] of [
  [
    'wait holds the event loop open',
    'clone(slow).wait().then(tell)',
    ['child ends', 'parent saw 3', 'parent ends'],
  ],
  ['without wait the process does not wait', 'clone(late)', ['parent ends', 'child ends']],
  ['after unref, wait does not hold', 'clone(late).unref().wait().then(tell)', ['parent ends', 'child ends']],
  [
    'unref during wait lets go',
    'const child = clone(late); child.wait().then(tell); child.unref()',
    ['parent ends', 'child ends'],
  ],
  [
    'ref takes unref back',
    'clone(slow).unref().ref().wait().then(tell)',
    ['child ends', 'parent saw 3', 'parent ends'],
  ],
  [
    'ref during wait holds again',
    'const child = clone(slow).unref(); child.wait().then(tell); child.ref()',
    ['child ends', 'parent saw 3', 'parent ends'],
  ],
  [
    'an unreferenced wait resolves where something else holds',
    `const holding = setInterval(() => {}, 2 ** 30)
    clone(slow).unref().wait().then((status) => { tell(status); clearInterval(holding) })`,
    ['child ends', 'parent saw 3', 'parent ends'],
  ],
]) {
  test(title, async (t) => {
    const { code, output, errors } = await script(`${SLOW}${source}`)
    t.deepEqual(output.trim().split('\n'), lines, errors)
    t.is(code, 0)
  })
}

test('Symbol.asyncDispose kills a child that runs, and waits for it', async (t) => {
  const { status, directories, ended } = await inProcess(async ({ lib, fs }) => {
    const child = lib.clone(() => new Promise((resolve) => setTimeout(resolve, 100_000)))
    const directory = `/proc/${child.pid}`
    const before = fs.existsSync(directory)
    await child[Symbol.asyncDispose]()
    const ended = lib.clone(() => 6)
    await ended.wait()
    await ended[Symbol.asyncDispose]()
    await ended[Symbol.asyncDispose]()
    return {
      status: child.waitSync(),
      directories: [before, fs.existsSync(directory)],
      ended: ended.waitSync(),
    }
  }, asWeAre)
  t.deepEqual(status, { code: null, signal: 'SIGKILL' })
  t.deepEqual(directories, [true, false])
  t.deepEqual(ended, { code: 6, signal: null })
})

test('no zombie and no descriptor is left where nobody waits and the loop turns', async (t) => {
  const { left, pidfds, pids } = await inProcess(
    async ({ lib, until, isChild, outside }) => {
      const children = Array.from({ length: 20 }, (_, i) =>
        lib.clone(i % 2 ? () => i : async () => i).unref(),
      )
      await until(() => !children.some(({ pid }) => isChild(pid)))
      const left = await outside()
      return {
        left,
        pidfds: children.map(({ pidfd }) => pidfd),
        pids: children.map((child) => child.waitSync().code),
      }
    },
    { with: { wrap: [], outside: (_, child) => childrenOf(child.pid) } },
  )
  t.deepEqual(left, [])
  t.deepEqual(pidfds, Array(20).fill(-1))
  t.deepEqual(
    pids,
    Array.from({ length: 20 }, (_, i) => i),
  )
})

// As many processes and their threads take a minute: they are made once, and for others two hundred.
const MANY = isRoot && process.version.startsWith('v20.') ? 2000 : 200

test(`${MANY} children are waited for at once, without a thread for each, and child_process's own beside them`, async (t) => {
  t.timeout(600_000 * slowness)
  const directory = temporaryDirectory(t)
  const { count, limit, threads, codes, others } = await inProcess(
    async ({ lib, fs, cp, until, isChild }, directory, most) => {
      const fifo = `${directory}/fifo`
      cp.execFileSync('mkfifo', [fifo])
      // It waits without taking time of a processor.
      const waits = (i) => () => {
        fs.closeSync(fs.openSync(fifo))
        return i % 256
      }
      const tasks = (pid) => fs.readdirSync(`/proc/${pid}/task`).length
      const first = lib.clone(waits(0))
      // It has threads of the same kinds.
      const each = tasks('self') + 4
      const number = (file, pattern) =>
        Number(pattern.exec(fs.readFileSync(file, 'utf8'))?.[1] ?? Number.POSITIVE_INFINITY)
      const used = number('/proc/loadavg', /\/(\d+)/)
      const limit = Math.min(
        most,
        number('/proc/self/limits', /^Max open files +(\d+)/m) - 100,
        Math.floor((number('/proc/self/limits', /^Max processes +(\d+)/m) - used - 500) / each),
        Math.floor((number('/proc/sys/kernel/pid_max', /(\d+)/) - used - 500) / each),
      )
      const before = tasks('self')
      const children = [first, ...Array.from({ length: limit - 1 }, (_, i) => lib.clone(waits(i + 1)))]
      const all = Promise.all(children.map((child) => child.wait()))
      const run = (word) =>
        new Promise((resolve) => cp.exec(word, (error, stdout) => resolve([error?.code ?? 0, stdout])))
      const others = [
        ...(await Promise.all([run('echo one'), run('exit 7')])),
        [cp.spawnSync('sh', ['-c', 'exit 8']).status, ''],
      ]
      const threads = [before, tasks('self')]
      const late = run('echo late')
      const open = fs.openSync(fifo, 'r+')
      const statuses = await all
      fs.closeSync(open)
      others.push(await late)
      await until(() => !children.some(({ pid }) => isChild(pid)))
      return {
        count: children.length,
        limit,
        threads,
        codes: statuses.every(({ code, signal }, i) => signal === null && code === i % 256),
        others,
      }
    },
    asWeAre,
    directory,
    MANY,
  )
  t.log(`${limit} children`)
  t.is(count, limit)
  t.true(limit > 100)
  t.is(threads[1], threads[0])
  t.true(codes)
  t.deepEqual(others, [
    [0, 'one\n'],
    [7, ''],
    [8, ''],
    [0, 'late\n'],
  ])
})

for (const [signal, number] of [
  [0, 0],
  ['SIGUSR1', 10],
  ['SIGUSR2', 12],
  ['SIGCHLD', 17],
]) {
  test(`with exitSignal ${signal} the parent gets ${number === 0 ? 'none' : 'it'} when the child ends, and wait works`, async (t) => {
    const { heard, seen, status } = await inProcess(
      async ({ lib, outside, until }, signal) => {
        const heard = []
        for (const name of ['SIGCHLD', 'SIGUSR1', 'SIGUSR2', 'SIGHUP'])
          process.on(name, () => heard.push(name))
        const child = lib.clone(() => new Promise((resolve) => setTimeout(resolve, 100_000)), {
          exitSignal: signal,
        })
        const seen = await outside({ pid: child.pid })
        child.kill('SIGKILL')
        const status = await child.wait()
        // Signals are heard in the order in which they came.
        process.kill(process.pid, 'SIGHUP')
        await until(() => heard.includes('SIGHUP'))
        return { heard, seen, status }
      },
      { with: { wrap: [], outside: lookAt } },
      signal,
    )
    t.deepEqual(heard, number === 0 ? ['SIGHUP'] : [signal, 'SIGHUP'])
    t.is(seen.exitSignal, number)
    t.deepEqual(status, { code: null, signal: 'SIGKILL' })
  })
}

// ─── Threads ───────────────────────────────────────────────────────────────────────────────────

/** In the child: how many threads it has, and what keeps it busy for as many milliseconds. */
const THREADS = `const { readFileSync, writeSync } = require('node:fs')
  const threads = () => Number(/Threads:\\t(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
  const busy = (milliseconds) => { const end = Date.now() + milliseconds; while (Date.now() < end); }
  // The first is the main thread; the one for SIGUSR1 and the one for delayed tasks are not made again.
  const tell = (...what) => void writeSync(1, what.join(' ') + '\\n')`

/** With musl threads are made at once. */
const isGlibc = process.report.getReport().header.glibcVersionRuntime !== undefined

// On a machine that is so slow none is short.
const ifAnyIsShort = isGlibc && slowness === 1 ? test : () => {}

ifAnyIsShort(
  "A function that is short has no threads but its own: V8's are not made before there is work for them",
  async (t) => {
    const { output, errors } = await script(`${THREADS}
    ;(async () => {
      // Where V8's threads are at work, and may hold locks, they are made at once.
      for (let count = 0; count < 1000; count++) {
        await new Promise((resolve) => setTimeout(resolve, 1))
        const { code } = clone(() => threads()).waitSync()
        if (code === 1) return console.log('once')
      }
    })()`)
    t.is(output, 'once\n', errors)
  },
)

for (const [what, fn] of [
  ['is at it for longer', '() => { busy(100); tell(threads() > 1) }'],
  ['returns a promise', '() => Promise.resolve().then(() => tell(threads() > 1))'],
]) {
  test(`A function that ${what} has them then`, async (t) => {
    const { output, errors } = await script(`${THREADS}
      ;(async () => {
        for (let count = 0; count < 5; count++) {
          await new Promise((resolve) => setTimeout(resolve, 10))
          clone(${fn}).waitSync()
        }
      })()`)
    t.is(output, 'true\n'.repeat(5), errors)
  })
}

for (const [what, fn, options] of [
  ['asynchronous', 'async () => tell(threads() > 1)', '{}'],
  ['in a pid namespace', '() => tell(threads() > 1)', "{ flags: ['user', 'pid'], uidMappings: 'root' }"],
  [
    'of a chosen pid',
    '() => tell(threads() > 1)',
    "{ flags: ['user', 'pid'], uidMappings: 'root', setTid: [1] }",
  ],
]) {
  test(`A function that is ${what} has all threads from the beginning`, async (t) => {
    const { output, errors } = await script(`${THREADS}
      clone(${fn}, ${options}).waitSync()`)
    t.is(output, 'true\n', errors)
  })
}

test('What V8 hands to threads that are not there yet is not waited for in vain: a function that collects garbage from its first moment on', async (t) => {
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    const fn = () => {
      for (let count = 0; count < 100; count++) { new ArrayBuffer(1000); gc({ type: 'minor' }) }
      gc()
      return 7
    }
    for (let count = 0; count < 20; count++) {
      const { code } = clone(fn).waitSync()
      if (code !== 7) console.log(code)
    }`
  const { code, signal, output, errors } = await program([process.execPath, '--expose-gc', '-e', source])
  t.deepEqual({ code, signal, output, errors }, { code: 0, signal: null, output: '', errors: '' })
})

test('Whether a function can enter a user namespace does not depend on when it tries', async (t) => {
  const { output, errors } = await script(`${THREADS}
    const { unshare } = require(${JSON.stringify(LIBRARY)})
    const attempt = () => { try { unshare('user'); return 'entered' } catch ({ code }) { return code } }
    clone(() => tell(attempt())).waitSync()
    clone(() => { busy(50); tell(attempt()) }).waitSync()`)
  t.is(output, 'EINVAL\nEINVAL\n', errors)
})

test('A clone of a child that has no threads yet has them when it needs them', async (t) => {
  const { output, errors } = await script(`${THREADS}
    clone(() => clone(() => { busy(50); tell(threads() > 1); return 4 }).waitSync().code).wait().then(console.log)`)
  t.is(output, 'true\n{ code: 4, signal: null }\n', errors)
})

const ifTheyAreLate = isGlibc ? test : () => {}

/** In a process whose user may have no thread more than it and one that it clones; for a program of its own, which `loop` ends. */
const atItsLimit = (loop) => {
  // There the process's own threads are all that the limit counts.
  const words = [
    ...(isRoot ? ['setpriv', '--reuid=54322', '--regid=54322', '--clear-groups'] : []),
    ...inUserNamespace,
  ]
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    ${THREADS}
    clone(() => {}).waitSync()
    require('node:child_process').execFileSync('prlimit', ['--nproc=' + (threads() + 1) + ':', '--pid', String(process.pid)])
    ;(async () => {
      // Until V8's threads are all found at rest.
      for (let count = 0; count < 100; count++) {
        await new Promise((resolve) => setTimeout(resolve, 10))
        try {
          ${loop}
        } catch ({ code, step }) {
          if (code !== 'EAGAIN' || step !== 'clone') throw new Error(code)
        }
      }
    })()`
  return program([...words, process.execPath, '-e', source])
}

for (const [what, fn, expected] of [
  ['while it computes', '() => busy(1000)', /clone: the child cannot go on, clone has failed\n$/],
  // It may have been slow to begin.
  ['when it returns a promise', '() => Promise.resolve()', /EAGAIN|cannot go on/],
]) {
  ifTheyAreLate(`A child that is refused its threads ${what} ends, and says why`, async (t) => {
    const mark = path.join(temporaryDirectory(t), 'mark')
    closeSync(openSync(mark, 'w', 0o666))
    chmodSync(path.dirname(mark), 0o755)
    chmodSync(mark, 0o666)
    const { output, errors } = await atItsLimit(`
      const begin = () => require('node:fs').writeFileSync(${JSON.stringify(mark)}, 'begun')
      const { code } = clone(() => { begin(); return (${fn})() }).waitSync()
      // One of V8's threads was at work: it was to have them at once, and has not begun.
      if (readFileSync(${JSON.stringify(mark)}).length === 0) continue
      console.log(code)
      break`)
    t.is(output, '1\n', errors)
    t.regex(errors, expected)
  })
}

ifTheyAreLate(
  'A child that is refused its threads when it returns a promise ends, where it takes the error too',
  async (t) => {
    const { output, errors } = await atItsLimit(`
    const { code } = clone(() => {
      process.on('uncaughtException', ({ code }) => tell('heard', code)).on('exit', () => { process.exitCode = 6 })
      // It would be found to go on.
      setTimeout(() => { tell('goes on'); process.exit() }, 1000)
      return new Promise(() => {})
    }).waitSync()
    // It may have been slow to begin, and be ended by the timer.
    if (code === 1) continue
    console.log(code)
    break`)
    t.is(output, 'heard EAGAIN\n6\n', errors)
  },
)

for (const [name, args] of Object.entries({
  setuid: [0],
  seteuid: [0],
  setgid: [0],
  setegid: [0],
  setgroups: [[0]],
  initgroups: [0, 0],
})) {
  test(`Whoever calls process.${name}() has all threads before, which would else keep other ids`, async (t) => {
    const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
      ${THREADS}
      ;(async () => {
        for (let count = 0; count < 5; count++) {
          await new Promise((resolve) => setTimeout(resolve, 5))
          clone(() => {
            // In a user namespace it may be refused: the threads are there all the same.
            try { process.${name}(...${JSON.stringify(args)}) } catch {}
            tell(threads() > 1)
          }).waitSync()
        }
      })()`
    const { output, errors } = await program([...privileged, process.execPath, '-e', source])
    t.is(output, 'true\n'.repeat(5), errors)
  })
}

test('No thread of a child keeps the ids that it gives up, whatever its threads were at', async (t) => {
  if (!isRoot) {
    t.log('skipped: only root has ids to give up')
    return t.pass()
  }
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    ${THREADS}
    const { readdirSync } = require('node:fs')
    const ids = () => readdirSync('/proc/self/task').map((tid) =>
      /Uid:.*/.exec(readFileSync('/proc/self/task/' + tid + '/status', 'utf8'))[0])
    const giveUp = (first) => () => {
      first()
      process.setuid(65534)
      busy(20)
      return new Set(ids()).size === 1 && ids()[0] === 'Uid:\t65534\t65534\t65534\t65534' ? 0 : 1
    }
    ;(async () => {
      // At once; when V8 has work for its threads, which it has told them; when they have just come, or are about to.
      for (const first of [() => {}, gc, () => busy(3), () => busy(10)]) {
        for (let count = 0; count < 20; count++) {
          if (count % 2) gc()
          else await new Promise(setImmediate)
          const { code } = clone(giveUp(first)).waitSync()
          if (code !== 0) console.log(String(first), count, code)
        }
      }
    })()`
  const { output, errors } = await program([process.execPath, '--expose-gc', '-e', source])
  t.is(output, '', errors)
})

for (const [what, put] of [
  [
    'another',
    'const own = process.setuid; process.setuid = function setuid(id) { return own.call(this, id) }',
  ],
  [
    'one that cannot be written to',
    "Object.defineProperty(process, 'setuid', { value: process.setuid, writable: false, configurable: true })",
  ],
  [
    'one for good',
    "Object.defineProperty(process, 'setuid', { value: process.setuid, writable: false, configurable: false })",
  ],
]) {
  test(`So has a child of a parent that has put ${what} in the place of process.setuid() since its first clone`, async (t) => {
    const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
      ${THREADS}
      clone(() => {}).waitSync()
      ${put}
      ;(async () => {
        for (let count = 0; count < 5; count++) {
          await new Promise((resolve) => setTimeout(resolve, 5))
          const { code } = clone(() => { process.setuid(0); tell(threads() > 1); return 3 }).waitSync()
          if (code !== 3) console.log(code)
        }
      })()`
    const { output, errors } = await program([...privileged, process.execPath, '-e', source])
    t.is(output, 'true\n'.repeat(5), errors)
  })
}

// Node 20 has that thread always.
const ifItCanBeWithout = process.allowedNodeEnvironmentFlags.has('--disable-sigusr1') ? test : () => {}

ifItCanBeWithout(
  'Where Node has no thread for SIGUSR1, that of vm for SIGINT is not taken for it: the clone is refused',
  async (t) => {
    const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    globalThis.attempt = () => { try { return clone(() => 7).waitSync().code } catch ({ code }) { return code } }
    const inside = require('node:vm').runInThisContext('attempt()', { breakOnSigint: true })
    console.log(inside, attempt())`
    const words = [process.execPath, '--disable-sigusr1', '-e', source]
    const { output, errors } = await program(words)
    t.is(output, 'ETIMEDOUT 7\n', errors)
  },
)

test('A child of a process whose malloc has no heap of brk(2), and of one whose libraries lie elsewhere, is as any other', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  // Nothing is ever freed.
  const library = compileLibrary(
    t,
    `#define _GNU_SOURCE
    #include <errno.h>
    #include <stdatomic.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/mman.h>
    static _Atomic uintptr_t next, end;
    static atomic_flag busy = ATOMIC_FLAG_INIT;
    void *memalign(size_t alignment, size_t size) {
      if (alignment < 16) alignment = 16;
      while (atomic_flag_test_and_set(&busy));
      uintptr_t place = (next + 16 + alignment - 1) / alignment * alignment;
      if (place + size > end) {
        size_t length = size + alignment + (64 << 20);
        next = (uintptr_t)mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        end = next + length;
        place = (next + 16 + alignment - 1) / alignment * alignment;
      }
      next = place + size;
      ((size_t *)place)[-1] = size;
      atomic_flag_clear(&busy);
      return (void *)place;
    }
    void *malloc(size_t size) { return memalign(16, size); }
    void free(void *memory) {}
    void *calloc(size_t count, size_t size) { return memset(malloc(count * size), 0, count * size); }
    void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
    int posix_memalign(void **result, size_t alignment, size_t size) { *result = memalign(alignment, size); return 0; }
    size_t malloc_usable_size(void *memory) { return memory ? ((size_t *)memory)[-1] : 0; }
    void *realloc(void *memory, size_t size) {
      size_t former = malloc_usable_size(memory);
      void *result = malloc(size);
      return memory ? memcpy(result, memory, former < size ? former : size) : result;
    }`,
  )
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    const { readFileSync } = require('node:fs')
    const hasHeap = readFileSync('/proc/self/maps', 'utf8').includes('[heap]')
    ;(async () => {
      const codes = []
      for (const fn of [() => 3, async () => { await new Promise(setImmediate); return 4 }]) {
        for (let count = 0; count < 3; count++) {
          await new Promise((resolve) => setTimeout(resolve, 1))
          codes.push(clone(fn).waitSync().code)
        }
      }
      console.log(hasHeap, codes.join())
    })()`
  const node = [process.execPath, '-e', source]
  const own = await program(['env', `LD_PRELOAD=${library}`, ...node])
  // musl's loader has some all the same.
  t.is(own.output, `${!isGlibc} 3,3,3,4,4,4\n`, own.errors)
  // As with an unlimited stack: what is mapped grows upwards, from below the kernel's own pages to above them.
  const upwards = await program(['setarch', '--addr-compat-layout', ...node])
  t.is(upwards.output, 'true 3,3,3,4,4,4\n', upwards.errors)
})

test('A value whose then cannot be read ends the child, whoever listens for errors', async (t) => {
  const { output, errors } = await script(`
    const fn = () => {
      process.on('uncaughtException', ({ message }) => console.log(message))
      return { get then() { throw new Error('no then') } }
    }
    clone(fn).wait().then(console.log)`)
  t.is(output, 'no then\n{ code: 1, signal: null }\n', errors)
})

test('A program is started at once where memory without end is reserved', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const library = compileLibrary(
    t,
    `#include <stdlib.h>
    #include <sys/mman.h>
    __attribute__((constructor)) static void reserve(void) {
      int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
      for (int count = 0; count < 4; count++)
        if (mmap(0, 1L << 40, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) abort();
    }`,
  )
  // As many looks as there are 256 kB in all this take seconds.
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    const { execFileSync } = require('node:child_process')
    clone(() => 0).waitSync()
    execFileSync('true')`
  const log = path.join(temporaryDirectory(t), 'calls')
  if (!available(t, hasStrace(), 'strace')) return
  const words = ['strace', '-f', '-qq', '-e', 'trace=mincore', '-e', 'signal=none', '-o', log]
  const { code, errors } = await program([
    ...words,
    'env',
    `LD_PRELOAD=${library}`,
    process.execPath,
    '-e',
    source,
  ])
  t.is(code, 0, errors)
  const looks = readFileSync(log, 'utf8').match(/mincore\(/g)?.length
  t.true(looks > 0 && looks < 10_000, String(looks))
})

test("What the process's NODE_OPTIONS say later is not what it has been started with", async (t) => {
  const source = `process.env.NODE_OPTIONS = '--disable-sigusr1'
    const { clone } = require(${JSON.stringify(LIBRARY)})
    console.log(clone(() => 7).waitSync())`
  const { output, errors } = await program([process.execPath, '-e', source])
  t.is(output, '{ code: 7, signal: null }\n', errors)
})

test("The first clone is made where somebody's own functions put off what runs later", async (t) => {
  const { output, errors } = await script(`
    for (const name of ['queueMicrotask', 'setImmediate', 'setTimeout']) globalThis[name] = () => {}
    process.nextTick = () => {}
    console.log(clone(() => 5).waitSync())`)
  t.is(output, '{ code: 5, signal: null }\n', errors)
})

test('A child is ended by a hook that hears of its own clone, where that is rehearsed', async (t) => {
  const source = `const { clone } = require(${JSON.stringify(LIBRARY)})
    const { createHook } = require('node:async_hooks')
    clone(async () => {
      // What is told of a collection may come with the next one.
      for (let count = 0; count < 4; count++) {
        gc()
        await new Promise(setImmediate)
      }
      createHook({ init: (id, type) => { if (type === 'clone') process.exit(5) } }).enable()
      clone(() => 0).waitSync()
      return 3
    }).wait().then(console.log)`
  const { output, errors } = await program([process.execPath, '--expose-gc', '-e', source])
  t.is(output, '{ code: 5, signal: null }\n', errors)
})

/** An addon by which fork(2) tells how much memory, in MiB, the process has that it makes: without what is kept from it. */
const FORKED = `#define _GNU_SOURCE
  #include <stddef.h>
  #include <stdio.h>
  #include <stdlib.h>
  #include <string.h>
  #include <sys/mman.h>
  #include <sys/wait.h>
  #include <unistd.h>
  typedef void *value;
  int napi_create_function(value, const char *, size_t, value (*)(value, value), void *, value *);
  int napi_create_int32(value, int, value *);
  /* Memory of our own, behind some of V8's: the kernel makes one mapping of the two once both are let through, if it is not used before. */
  static unsigned long *neighbour;
  __attribute__((constructor)) static void settle(void) {
    FILE *file = fopen("/proc/self/smaps", "r");
    static char line[4096];
    unsigned long start = 0, end = 0, from, to;
    char permissions[5] = "", its[5];
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    while (!neighbour && fgets(line, sizeof line, file)) {
      if (sscanf(line, "%lx-%lx %4s", &from, &to, its) == 3) start = from, end = to, strcpy(permissions, its);
      if (strncmp(line, "VmFlags:", 8) || !strstr(line, " dc") || strcmp(permissions, "rw-p") || (start | end) % (1 << 18)) continue;
      void *memory = mmap((void *)end, 1 << 20, PROT_READ | PROT_WRITE, flags, -1, 0);
      if (memory != MAP_FAILED) neighbour = memory;
    }
    fclose(file);
    if (!neighbour) abort();
  }
  static value forked(value env, value info) {
    static int calls;
    int ends[2];
    long pages = 0;
    if (calls++ > 0) {
      /* It looks a little as if V8's began there too. */
      unsigned long start = (unsigned long)neighbour, words[4] = { 1, start, 4096, start + 4096 };
      memcpy(neighbour, words, sizeof words);
    }
    if (pipe(ends) != 0) abort();
    int pid = fork();
    if (pid == 0) {
      if (calls > 1 && *neighbour != 1) _exit(1);
      FILE *file = fopen("/proc/self/statm", "r");
      if (fscanf(file, "%*d %ld", &pages) != 1 || write(ends[1], &pages, sizeof pages) != sizeof pages) _exit(1);
      _exit(0);
    }
    close(ends[1]);
    if (read(ends[0], &pages, sizeof pages) != sizeof pages) abort();
    waitpid(pid, NULL, 0);
    close(ends[0]);
    value result;
    napi_create_int32(env, pages * (sysconf(_SC_PAGESIZE) >> 10) >> 10, &result);
    return result;
  }
  value napi_register_module_v1(value env, value exports) {
    napi_create_function(env, "forked", 6, forked, NULL, &exports);
    return exports;
  }`

for (const [what, more] of [
  ['objects', 'Array.from({ length: 500_000 }, (_, index) => ({ index, next: [index] }))'],
  ['large arrays', 'Array.from({ length: 50 }, () => new Array(130_000).fill(1))'],
]) {
  test(`What forks for a program does not copy V8's heap, but all else, in the parent and in a child: ${what}, before a clone and behind it`, async (t) => {
    if (!available(t, hasCompiler(), 'a C compiler')) return
    const addon = path.join(temporaryDirectory(t), 'forked.node')
    renameSync(compileLibrary(t, FORKED), addon)
    const { output, errors } = await script(`
      const forked = require(${JSON.stringify(addon)})
      const { writeSync } = require('node:fs')
      const more = () => ${more}
      const kept = [more()]
      const before = forked()
      const tell = (what) => writeSync(1, what + ' ' + (forked() - before < 20) + '\\n')
      clone(() => tell('the first child')).waitSync()
      tell('the parent')
      kept.push(more())
      clone(() => { kept.push(more()); tell('a child with more') }).waitSync()
      tell('the parent with more')
      tell('once more')
      clone(() => kept.length === 2 ? 0 : 1).wait().then(({ code }) => writeSync(1, 'and a clone ' + code))`)
    t.is(
      output,
      [
        'the first child',
        'the parent',
        'a child with more',
        'the parent with more',
        'once more',
        'and a clone 0',
      ]
        .map((what) => (what.endsWith('0') ? what : `${what} true\n`))
        .join(''),
      errors,
    )
  })
}
