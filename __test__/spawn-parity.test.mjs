// What Node's own tests say of child_process.spawn, said of both: the same assertions run against Node's and ours.
import { AsyncLocalStorage, createHook } from 'node:async_hooks'
import cp from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { EventEmitter, getEventListeners, once } from 'node:events'
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { constants } from 'node:os'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import ava from 'ava'
import lib from '../index.js'
import { temporaryDirectory } from './helpers/machine.mjs'
import { inProcess, isRoot } from './helpers/process.mjs'

// With a directory in it that may not be searched, execvp says EACCES of what is not there.
process.env.PATH = '/usr/local/bin:/usr/bin:/bin'

const implementations = { child_process: cp, 'linux-clone': lib }

/** Declares a test for both. */
function test(title, fn) {
  for (const [name, { spawn }] of Object.entries(implementations)) {
    ava(`${name}: ${title}`, (t) => fn(t, spawn))
  }
}

/** Declares a test for both, in which `fn({ spawn, … }, ...args)` runs in a process of its own, and `judge` here. */
function testInProcess(title, fn, judge, options = {}) {
  for (const name of Object.keys(implementations)) {
    ava(`${name}: ${title}`, async (t) => {
      const source = `(tools, name) => (${fn})({ ...tools, spawn: (name === 'child_process' ? tools.cp : tools.lib).spawn })`
      const program = { toString: () => source }
      await judge(t, await inProcess(program, { with: { wrap: [], ...options } }, name))
    })
  }
}

/** How a child ended, what it wrote, and the order of what happened. */
async function ended(child) {
  const names = []
  for (const name of ['spawn', 'error', 'exit', 'close', 'disconnect']) {
    child.on(name, () => names.push(name))
  }
  for (const name of ['stdout', 'stderr']) {
    child[name]?.on('end', () => names.push(`${name} end`))
  }
  const [output, errors] = [child.stdout, child.stderr].map((stream) => stream && text(stream))
  const [code, signal] = await new Promise((resolve) => child.on('close', (...args) => resolve(args)))
  return { code, signal, output: await output, errors: await errors, names }
}

const moduleOf = (spawn) => (spawn === cp.spawn ? 'node:child_process' : path.resolve('index.js'))

/** Runs a script, in which `spawn` is there, in a Node of its own. */
const script = (spawn, source, options) =>
  cp.spawn(
    process.execPath,
    ['-e', `const { spawn } = require(${JSON.stringify(moduleOf(spawn))})\n${source}`],
    options,
  )

const outputOf = async (child) => (await ended(child)).output

/** What a call throws. */
function thrownBy(fn) {
  try {
    fn()
  } catch (error) {
    return error
  }
  throw new Error('it has not thrown')
}

const MISSING = 'linux-clone-no-such-program'

// ─── Events and properties ─────────────────────────────────────────────────────────────────────

test('spawn comes first and close last, with the exit code', async (t, spawn) => {
  const { code, signal, output, names } = await ended(spawn('sh', ['-c', 'echo line; exit 3']))
  t.deepEqual([code, signal, output], [3, null, 'line\n'])
  t.is(names[0], 'spawn')
  t.is(names.at(-1), 'close')
  t.true(names.includes('exit'))
  t.true(names.includes('stdout end') && names.includes('stderr end'))
  t.is(new Set(names).size, names.length)
})

test('spawn is emitted in the next tick, when pid and streams are there, and before the program is waited for', async (t, spawn) => {
  const order = []
  const child = spawn('true')
  child.on('spawn', () => order.push('spawn'))
  process.nextTick(() => order.push('tick'))
  setImmediate(() => order.push('immediate'))
  order.push('returned')
  await once(child, 'close')
  t.deepEqual(order.slice(0, 4), ['returned', 'spawn', 'tick', 'immediate'])
})

test('exit is emitted when the program has ended, though another holds its output; close waits for that', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'read line <&0 & exit 0'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const order = []
  child.on('exit', () => order.push('exit')).on('close', () => order.push('close'))
  child.stdout.resume()
  await once(child, 'exit')
  await turn()
  t.deepEqual(order, ['exit'])
  // Node destroys its end of stdin at exit, on which the other ends.
  await once(child, 'close')
  t.deepEqual(order, ['exit', 'close'])
})

test('a ChildProcess has what it is told to run and how it stands', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'exit 7'])
  t.true(child instanceof cp.ChildProcess)
  t.true(child instanceof EventEmitter)
  t.true(Number.isInteger(child.pid) && child.pid > 0)
  t.is(child.spawnfile, 'sh')
  t.deepEqual(child.spawnargs, ['sh', '-c', 'exit 7'])
  t.deepEqual(child.stdio, [child.stdin, child.stdout, child.stderr])
  t.true(child.stdin.writable && !child.stdin.readable)
  t.true(child.stdout.readable && child.stderr.readable)
  t.like(child, { connected: false, killed: false, exitCode: null, signalCode: null, channel: undefined })
  const closed = once(child, 'close')
  await once(child, 'exit')
  t.like(child, { killed: false, exitCode: 7, signalCode: null })
  t.true(child.stdin.destroyed)
  await closed
  t.true(Number.isInteger(child.pid))
})

test('pid is a property of its own, of a program that is not there too', async (t, spawn) => {
  const child = spawn('true', { stdio: 'ignore' })
  t.true(Object.hasOwn(child, 'pid'))
  await once(child, 'close')
  t.true(Object.hasOwn(child, 'pid'))
  const missing = spawn(MISSING)
  t.true(Object.hasOwn(missing, 'pid'))
  await once(missing, 'error')
})

test('a signal that ends the program is signalCode, and no exit code is there', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'kill -SEGV $$'], { stdio: 'ignore' })
  t.deepEqual(await once(child, 'exit'), [null, 'SIGSEGV'])
  t.like(child, { exitCode: null, signalCode: 'SIGSEGV', killed: false })
})

test('output that nobody reads does not keep close from coming', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'head -c 50000 /dev/zero; echo error >&2'])
  const [code] = await once(child, 'close')
  t.is(code, 0)
})

test('output that is read after exit is all there', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'head -c 50000 /dev/zero'])
  const output = new Promise((resolve) => child.on('exit', () => resolve(buffer(child.stdout))))
  t.is((await output).length, 50_000)
})

test('each listener is called once', async (t, spawn) => {
  const child = spawn('true', { stdio: 'ignore' })
  const counts = { first: 0, second: 0, once: 0, close: 0 }
  child.on('exit', () => counts.first++)
  child.on('exit', () => counts.second++)
  child.once('exit', () => counts.once++)
  child.on('close', () => counts.close++)
  await once(child, 'close')
  await turn()
  t.deepEqual(counts, { first: 1, second: 1, once: 1, close: 1 })
})

testInProcess(
  'an exception in a listener of exit is uncaught, and the process goes on',
  async ({ spawn }) => {
    const uncaught = new Promise((resolve) => process.once('uncaughtException', resolve))
    const child = spawn('true', { stdio: 'ignore' })
    child.on('exit', () => {
      throw new Error('from the listener')
    })
    return { message: (await uncaught).message, exitCode: child.exitCode }
  },
  (t, result) => t.deepEqual(result, { message: 'from the listener', exitCode: 0 }),
)

test('AsyncLocalStorage has in the events what it had at the call', async (t, spawn) => {
  const storage = new AsyncLocalStorage()
  const child = storage.run('caller', () => spawn('echo', ['x']))
  const seen = {}
  for (const event of ['spawn', 'exit', 'close']) child.on(event, () => (seen[event] = storage.getStore()))
  child.stdout.on('data', () => (seen.data = storage.getStore()))
  await once(child, 'close')
  t.deepEqual(seen, { spawn: 'caller', exit: 'caller', close: 'caller', data: 'caller' })
})

test('async hooks see a process that comes, is called back, and goes', async (t, spawn) => {
  const called = new Map()
  const hook = createHook({
    init: (id, type) => type === 'PROCESSWRAP' && called.set(id, ['init']),
    before: (id) => called.get(id)?.push('before'),
    after: (id) => called.get(id)?.push('after'),
  }).enable()
  try {
    await once(spawn('true', { stdio: 'ignore' }), 'close')
  } finally {
    hook.disable()
  }
  t.true([...called.values()].some((each) => each.join() === 'init,before,after'))
})

test('the diagnostics channel tells of it, before its process is there', async (t, spawn) => {
  const told = []
  const listener = ({ process }) => told.push([process, process.pid])
  subscribe('child_process', listener)
  const child = spawn('true', { stdio: 'ignore' })
  unsubscribe('child_process', listener)
  t.deepEqual(
    told.map(([process, pid]) => [process === child, pid]),
    [[true, undefined]],
  )
  await once(child, 'close')
})

// ─── Errors ────────────────────────────────────────────────────────────────────────────────────

test('a program that is not there is an error event, after which close comes and exit does not', async (t, spawn) => {
  const child = spawn(MISSING, ['one', 'two'])
  t.is(child.pid, undefined)
  const failed = once(child, 'error')
  const { names, code, output } = await ended(child)
  const [error] = await failed
  t.true(error instanceof Error)
  t.like(error, {
    message: `spawn ${MISSING} ENOENT`,
    code: 'ENOENT',
    errno: -2,
    syscall: `spawn ${MISSING}`,
    path: MISSING,
    spawnargs: ['one', 'two'],
  })
  t.is(names[0], 'error')
  t.is(names.at(-1), 'close')
  t.false(names.includes('exit') || names.includes('spawn'))
  t.deepEqual([code, output], [-2, ''])
  t.is(child.exitCode, -2)
})

test('the error comes in the next tick, and not before', async (t, spawn) => {
  const child = spawn(MISSING)
  let isBack = false
  const error = new Promise((resolve) => child.on('error', () => resolve(isBack)))
  isBack = true
  t.true(await error)
})

testInProcess(
  'an error that nobody listens for is uncaught',
  async ({ spawn }) => {
    const uncaught = new Promise((resolve) => process.once('uncaughtException', resolve))
    spawn('linux-clone-no-such-program')
    const { message, code } = await uncaught
    return { message, code }
  },
  (t, result) => t.deepEqual(result, { message: `spawn ${MISSING} ENOENT`, code: 'ENOENT' }),
)

test('a program that may not be executed is an error event EACCES', async (t, spawn) => {
  const file = path.join(temporaryDirectory(t), 'no-program')
  writeFileSync(file, '#!/bin/sh\n', { mode: 0o644 })
  for (const name of [file, path.dirname(file)]) {
    const [error] = await once(spawn(name), 'error')
    t.like(error, { code: 'EACCES', errno: -13, syscall: `spawn ${name}`, path: name, spawnargs: [] })
  }
})

test('what is neither emitted in Node is thrown: a program whose path goes through a file', (t, spawn) => {
  const error = thrownBy(() => spawn('/etc/passwd/program'))
  t.like(error, { message: 'spawn ENOTDIR', code: 'ENOTDIR', errno: -20, syscall: 'spawn' })
  t.like(
    thrownBy(() => spawn('x'.repeat(5000))),
    { code: 'ENAMETOOLONG' },
  )
})

test('a loop of symbolic links is thrown as ELOOP', (t, spawn) => {
  const link = path.join(temporaryDirectory(t), 'loop')
  symlinkSync(link, link)
  t.like(
    thrownBy(() => spawn(link)),
    { message: 'spawn ELOOP', code: 'ELOOP', syscall: 'spawn' },
  )
})

test('arguments that are longer than the kernel takes are thrown as E2BIG', (t, spawn) => {
  t.like(
    thrownBy(() => spawn('true', ['x'.repeat(1 << 20)])),
    { message: 'spawn E2BIG', code: 'E2BIG' },
  )
})

test('a working directory that is not there is an error event ENOENT', async (t, spawn) => {
  const child = spawn('true', { cwd: '/does/not/exist' })
  t.is(child.pid, undefined)
  const [error] = await once(child, 'error')
  t.like(error, { code: 'ENOENT', errno: -2, spawnargs: [] })
})

// Node's own kill goes to the pid that the program would have had.
ava('kill after a start that failed is false, and unref and ref do nothing', async (t) => {
  const child = lib.spawn(MISSING)
  t.false(child.kill())
  child.unref()
  child.ref()
  await once(child, 'error')
  t.false(child.kill())
  t.false(child.killed)
})

test('wrong arguments are thrown, with the code and the message that Node has', (t, spawn) => {
  const calls = [
    [],
    [null],
    [1],
    [''],
    [{}],
    ['a\0b'],
    ['x', 1],
    ['x', 'args'],
    ['x', true],
    ['x', ['a\0b']],
    ['x', [], null],
    ['x', [], 1],
    ['x', [], 'options'],
    ['x', [], []],
    ['x', [], { cwd: 1 }],
    ['x', [], { cwd: 'a\0b' }],
    ['x', [], { cwd: new URL('http://example.org/') }],
    ['x', [], { detached: 'yes' }],
    ['x', [], { uid: '0' }],
    ['x', [], { uid: 1.5 }],
    ['x', [], { gid: 2 ** 40 }],
    ['x', [], { shell: 1 }],
    ['x', [], { shell: 'a\0b' }],
    ['x', [], { argv0: 1 }],
    ['x', [], { argv0: 'a\0b' }],
    ['x', [], { windowsHide: 1 }],
    ['x', [], { windowsVerbatimArguments: 1 }],
    ['x', [], { timeout: -1 }],
    ['x', [], { timeout: '1' }],
    ['x', [], { killSignal: 'SIGNOT' }],
    ['x', [], { killSignal: true }],
    ['x', [], { signal: 'abort' }],
    ['x', [], { serialization: 'xml' }],
    ['x', [], { env: { 'a\0b': 'c' } }],
    ['x', [], { env: { a: 'b\0c' } }],
    ['x', [], { stdio: 'none' }],
    ['x', [], { stdio: 3 }],
    ['x', [], { stdio: ['pipe', 'pipe', {}] }],
    ['x', [], { stdio: ['pipe', 'pipe', true] }],
    ['x', [], { stdio: ['pipe', 'pipe', 'text'] }],
    ['x', [], { stdio: [Buffer.from('text')] }],
    ['x', [], { stdio: ['ipc', 'ipc', 'ignore'] }],
  ]
  for (const args of calls) {
    const [ours, nodes] = [spawn, cp.spawn].map((fn) => thrownBy(() => fn(...args)))
    t.deepEqual(
      [ours.code, ours.message, ours.constructor.name],
      [nodes.code, nodes.message, nodes.constructor.name],
    )
  }
})

test('a stream without a descriptor cannot be a standard stream', (t, spawn) => {
  t.like(
    thrownBy(() => spawn('true', { stdio: ['pipe', new PassThrough(), 'pipe'] })),
    {
      code: 'ERR_INVALID_ARG_VALUE',
    },
  )
})

test('a descriptor that is not open is thrown as EBADF', (t, spawn) => {
  t.like(
    thrownBy(() => spawn('true', { stdio: ['ignore', 'ignore', 123_456] })),
    {
      code: 'EBADF',
      errno: -9,
    },
  )
})

if (!isRoot) {
  for (const id of ['uid', 'gid']) {
    test(`another ${id}, without privilege, is thrown as EPERM`, (t, spawn) => {
      t.like(
        thrownBy(() => spawn('true', { [id]: 0 })),
        { code: 'EPERM', errno: -1 },
      )
    })
  }
}

testInProcess(
  'without a descriptor left it is an error event EMFILE, and no stream is there',
  async ({ spawn, fs }) => {
    const opened = []
    try {
      for (;;) opened.push(fs.openSync('/dev/null'))
    } catch {
      // As many as the limit allows.
    }
    const child = spawn('true')
    const [error] = await new Promise((resolve) => child.on('error', (...args) => resolve(args)))
    for (const fd of opened) fs.closeSync(fd)
    return {
      code: error.code,
      pid: child.pid ?? null,
      stdout: child.stdout ?? null,
      stdin: child.stdin ?? null,
    }
  },
  (t, result) => t.deepEqual(result, { code: 'EMFILE', pid: null, stdout: null, stdin: null }),
  { wrap: ['prlimit', '--nofile=64'] },
)

// ─── Standard streams ──────────────────────────────────────────────────────────────────────────

test('pipe, ignore, inherit and null say for each stream what becomes of it', async (t, spawn) => {
  const script = 'for fd in 0 1 2; do readlink /proc/self/fd/$fd; done > "$0"'
  const file = path.join(temporaryDirectory(t), 'links')
  const links = async (stdio) => {
    const child = spawn('sh', ['-c', script, file], { stdio })
    await ended(child)
    return { child, links: readFileSync(file, 'utf8').trim().split('\n') }
  }
  // The redirection makes 1 the file.
  const { child, links: piped } = await links('pipe')
  t.regex(piped[0], /^socket:/)
  t.regex(piped[2], /^socket:/)
  t.true([child.stdin, child.stdout, child.stderr].every((stream) => stream instanceof net.Socket))
  for (const stdio of ['ignore', ['ignore', 'ignore', 'ignore']]) {
    const ignored = await links(stdio)
    t.deepEqual([ignored.links[0], ignored.links[2]], ['/dev/null', '/dev/null'])
    t.deepEqual(ignored.child.stdio, [null, null, null])
  }
  const own = readFileSync('/proc/self/stat', 'utf8') && [0, 2].map((fd) => linkOf(fd))
  for (const stdio of ['inherit', ['inherit', 'inherit', 'inherit'], [0, 1, 2]]) {
    const inherited = await links(stdio)
    t.deepEqual([inherited.links[0], inherited.links[2]], own)
    t.deepEqual(inherited.child.stdio, [null, null, null])
  }
  for (const stdio of [undefined, [], [null, undefined, null], ['pipe'], 'overlapped', [-1, -1, -1]]) {
    const defaults = await links(stdio)
    t.regex(defaults.links[0], /^socket:/)
    t.is(defaults.child.stdio.length, 3)
    t.false(defaults.child.stdio.includes(null))
  }
})

const linkOf = (fd) =>
  cp.execFileSync('readlink', [`/proc/${process.pid}/fd/${fd}`], { encoding: 'utf8' }).trim()

test('the array of stdio gets the entries that it lacks, as in Node', async (t, spawn) => {
  const stdio = ['ignore']
  await ended(spawn('true', { stdio }))
  t.deepEqual(stdio, ['ignore', undefined, undefined])
})

test('the child writes to an ignored stream, and reads the end of one', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'cat; echo lost >&2 && exit 5'], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.like(await ended(child), { code: 5, output: '' })
})

test('a descriptor of our own is the stream of the child', async (t, spawn) => {
  const file = path.join(temporaryDirectory(t), 'output')
  const fd = openSync(file, 'w+')
  t.is((await ended(spawn('sh', ['-c', 'echo out; echo err >&2'], { stdio: ['ignore', fd, fd] }))).code, 0)
  closeSync(fd)
  t.is(readFileSync(file, 'utf8'), 'out\nerr\n')
})

test('descriptors may change places', async (t, spawn) => {
  const source = `spawn('sh', ['-c', 'echo to-1; echo to-2 >&2'], { stdio: ['ignore', 2, 1] })`
  const { output, errors } = await ended(script(spawn, source))
  t.deepEqual([output, errors], ['to-2\n', 'to-1\n'])
})

test('a stream with a descriptor or a handle is the stream of the child', async (t, spawn) => {
  const first = spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] })
  const second = spawn('sh', ['-c', 'echo through two'], { stdio: ['ignore', first.stdin, 'inherit'] })
  t.is(second.stdout, null)
  await once(second, 'close')
  first.stdin.end()
  t.is(await outputOf(first), 'through two\n')
  const file = path.join(temporaryDirectory(t), 'file')
  writeFileSync(file, 'from a file')
  const fd = openSync(file)
  t.is(await outputOf(spawn('cat', { stdio: [{ fd }, 'pipe', 'inherit'] })), 'from a file')
  closeSync(fd)
})

test('a TCP socket is the stream of the child', async (t, spawn) => {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = net.connect(server.address().port, '127.0.0.1')
  const [socket] = await once(server, 'connection')
  const child = spawn('sh', ['-c', 'echo over tcp'], { stdio: ['ignore', socket, 'inherit'] })
  await once(child, 'close')
  socket.destroy()
  t.is(await text(client), 'over tcp\n')
  server.close()
})

test('a stream that is passed on is not read here any more', async (t, spawn) => {
  const source = cp.spawn('sh', ['-c', 'read line; echo "$line"; read line; echo "$line"'])
  source.stdin.write('one\n')
  const [first] = await once(source.stdout, 'data')
  t.is(String(first), 'one\n')
  const reader = spawn('cat', { stdio: [source.stdout, 'pipe', 'inherit'] })
  source.stdin.write('two\n')
  t.is(await outputOf(reader), 'two\n')
})

test('streams beyond the third one', async (t, spawn) => {
  const script = 'echo three >&3; cat <&4 >&5'
  const child = spawn('sh', ['-c', script], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe', 'pipe'],
  })
  t.is(child.stdio.length, 6)
  child.stdio[4].end('four to five')
  t.deepEqual(await Promise.all([text(child.stdio[3]), text(child.stdio[5])]), ['three\n', 'four to five'])
  await (child.exitCode === null && once(child, 'close'))
})

test('beyond the third one, what is not named is not there in the child', async (t, spawn) => {
  const stdio = ['ignore', 'pipe', 'inherit', 'ignore', undefined, 'pipe']
  const child = spawn('sh', ['-c', 'ls /proc/$$/fd'], { stdio })
  t.deepEqual(
    (await outputOf(child))
      .trim()
      .split('\n')
      .filter((fd) => fd <= 5),
    ['0', '1', '2', '5'],
  )
  t.deepEqual([child.stdio[3], child.stdio[4]], [null, null])
})

test('many streams', async (t, spawn) => {
  const stdio = ['ignore', 'pipe', 'inherit', ...Array(40).fill('pipe')]
  const child = spawn('sh', ['-c', 'ls /proc/$$/fd'], { stdio })
  t.is(
    (await outputOf(child))
      .trim()
      .split('\n')
      .filter((fd) => fd < 43).length,
    43,
  )
})

test('no descriptor of ours reaches the program', async (t, spawn) => {
  const fd = openSync('/dev/null')
  const child = spawn('sh', ['-c', 'ls /proc/$$/fd'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const inherited = (await outputOf(child)).trim().split('\n')
  t.false(inherited.includes(String(fd)))
  closeSync(fd)
})

test('input and output of megabytes come through whole', async (t, spawn) => {
  const bytes = Buffer.alloc(8 << 20, 'abcdefghijk')
  const child = spawn('cat')
  child.stdin.end(bytes)
  const [output] = await Promise.all([buffer(child.stdout), once(child, 'close')])
  t.true(output.equals(bytes))
})

test('a pipeline of three', async (t, spawn) => {
  const [echo, grep, sed] = [
    spawn('printf', ['hello\\nnode\\nand\\nworld\\n']),
    spawn('grep', ['o']),
    spawn('sed', ['s/o/O/']),
  ]
  echo.stdout.pipe(grep.stdin)
  grep.stdout.pipe(sed.stdin)
  t.is(await outputOf(sed), 'hellO\nnOde\nwOrld\n')
})

test('what is written to a program that does not read is EPIPE on stdin alone', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'exec 0<&-; echo closed; read line <&3; exit 0'], {
    stdio: ['pipe', 'pipe', 'inherit', 'pipe'],
  })
  await once(child.stdout, 'data')
  const failed = once(child.stdin, 'error')
  child.stdin.write('x')
  const [error] = await failed
  t.is(error.code, 'EPIPE')
  child.stdio[3].end()
  t.deepEqual(await once(child, 'close'), [0, null])
})

test('three outputs come together in one program', async (t, spawn) => {
  const last = spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] })
  const [first, second] = [1, 2].map(() => spawn('cat', { stdio: ['pipe', last.stdin, 'inherit'] }))
  last.stdout.setEncoding('utf8')
  for (const [stdin, line] of [
    [first.stdin, 'through the first'],
    [second.stdin, 'through the second'],
    [last.stdin, 'by itself'],
  ]) {
    const arrived = once(last.stdout, 'data')
    stdin.end(line)
    t.deepEqual(await arrived, [line])
  }
  t.deepEqual(await once(last, 'close'), [0, null])
})

test('what is written after the buffer is full, and before the end, is all there', async (t, spawn) => {
  const child = spawn('wc', ['-c'])
  const chunk = Buffer.alloc(1 << 16)
  let sent = 0
  const write = () => {
    sent += chunk.length
    return child.stdin.write(chunk)
  }
  while (write());
  for (let more = 0; more < 100; more++) write()
  child.stdin.end()
  t.is(Number(await outputOf(child)), sent)
})

test('megabytes go through streams that are inherited', async (t, spawn) => {
  const bytes = Buffer.alloc(8 << 20, 'abcdefghijk')
  const source = `
    spawn('cat', { stdio: 'inherit' })
    spawn('cat', { stdio: [3, 2, 1] })`
  const parent = script(spawn, source, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] })
  parent.stdin.end(bytes)
  parent.stdio[3].end(bytes)
  const closed = once(parent, 'close')
  const outputs = await Promise.all([parent.stdout, parent.stderr].map((stream) => buffer(stream)))
  t.true(outputs.every((output) => output.equals(bytes)))
  t.deepEqual(await closed, [0, null])
})

test('the end of stdin reaches the program', async (t, spawn) => {
  const child = spawn('cat')
  child.stdin.end()
  t.like(await ended(child), { code: 0, output: '' })
})

test('characters of several bytes come through setEncoding whole', async (t, spawn) => {
  const child = spawn('sh', ['-c', "printf '\\303'; sleep 0.02; printf '\\244'"])
  child.stdout.setEncoding('utf8')
  const chunks = []
  child.stdout.on('data', (chunk) => chunks.push(chunk))
  await once(child, 'close')
  t.is(chunks.join(''), 'ä')
})

// ─── Arguments, environment, directory ─────────────────────────────────────────────────────────

test('the forms of a call', async (t, spawn) => {
  t.is(await outputOf(spawn('pwd', { cwd: '/' })), '/\n')
  t.is(await outputOf(spawn('pwd', undefined, { cwd: '/' })), '/\n')
  t.is(await outputOf(spawn('pwd', null, { cwd: '/' })), '/\n')
  t.is(await outputOf(spawn('pwd', [], { cwd: '/' })), '/\n')
  t.is((await ended(spawn('true', [], undefined))).code, 0)
  t.is((await ended(spawn('true'))).code, 0)
})

test('the arguments are copied, reach the program as they are, and become strings', async (t, spawn) => {
  const args = [
    '-c',
    'printf "<%s>" "$@"',
    'sh',
    '',
    ' ',
    '*',
    "'",
    'ä',
    5,
    null,
    true,
    { toString: () => 'object' },
  ]
  const child = spawn('sh', args)
  t.is(await outputOf(child), "<>< ><*><'><ä><5><null><true><object>")
  t.is(args[0], '-c')
  t.is(child.spawnargs[0], 'sh')
})

test('argv0 is what the program sees of its own name', async (t, spawn) => {
  t.is(
    await outputOf(spawn('sh', ['-c', 'tr "\\0" "|" < /proc/$$/cmdline'], { argv0: 'another' })),
    'another|-c|tr "\\0" "|" < /proc/$$/cmdline|',
  )
  const child = spawn('sh', ['-c', ':'], { argv0: 'another' })
  t.deepEqual([child.spawnfile, child.spawnargs[0]], ['sh', 'another'])
  await once(child, 'close')
})

const variables = (child) =>
  outputOf(child).then((output) => output.split('\n').filter((line) => line !== '' && !line.startsWith('_=')))

test('the environment is what is given, inherited properties too, but for what is undefined', async (t, spawn) => {
  const env = Object.create({ INHERITED: 'yes' })
  Object.assign(env, {
    PATH: process.env.PATH,
    HELLO: 'WORLD',
    UNDEFINED: undefined,
    NULL: null,
    EMPTY: '',
    NUMBER: 1,
  })
  env[Symbol('symbol')] = 'no'
  t.deepEqual((await variables(spawn('env', [], { env }))).sort(), [
    'EMPTY=',
    'HELLO=WORLD',
    'INHERITED=yes',
    'NULL=null',
    'NUMBER=1',
    `PATH=${process.env.PATH}`,
  ])
  t.deepEqual(Object.keys(env), ['PATH', 'HELLO', 'UNDEFINED', 'NULL', 'EMPTY', 'NUMBER'])
})

test('without an environment the child has ours, as process.env is now', async (t, spawn) => {
  process.env.LINUX_CLONE_PARITY = 'set'
  t.teardown(() => delete process.env.LINUX_CLONE_PARITY)
  t.true((await variables(spawn('env'))).includes('LINUX_CLONE_PARITY=set'))
  t.deepEqual(await variables(spawn('/usr/bin/env', [], { env: {} })), [])
})

test('the program is looked up in the PATH of the environment that is given', async (t, spawn) => {
  const directory = temporaryDirectory(t)
  const [first, second] = ['first', 'second'].map((name) => path.join(directory, name))
  for (const place of [first, second]) mkdirSync(place)
  writeFileSync(path.join(first, 'found'), 'no program')
  writeFileSync(path.join(second, 'found'), '#!/bin/sh\necho "$0"\n')
  chmodSync(path.join(second, 'found'), 0o755)
  const env = { PATH: `${first}:${second}` }
  t.is(await outputOf(spawn('found', { env })), `${second}/found\n`)
  const [denied] = await once(spawn('found', { env: { PATH: first } }), 'error')
  t.is(denied.code, 'EACCES')
  const [missing] = await once(spawn('found', { env: { PATH: '/nowhere' } }), 'error')
  t.is(missing.code, 'ENOENT')
  t.is(await outputOf(spawn('./found', { cwd: second, env: {} })), './found\n')
  t.is(await outputOf(spawn('found', { cwd: second, env: { PATH: '' } })), 'found\n')
})

test('a script without an interpreter runs in sh, as execvp has it', async (t, spawn) => {
  const file = path.join(temporaryDirectory(t), 'script')
  writeFileSync(file, 'echo "without $1"\n', { mode: 0o755 })
  // child_process has its libc's execvp, and musl's leaves that to shells.
  const isMusl = process.report.getReport().header.glibcVersionRuntime === undefined
  if (isMusl && spawn === cp.spawn)
    return t.is(t.throws(() => spawn(file, ['interpreter'])).errno, -constants.errno.ENOEXEC)
  t.is(await outputOf(spawn(file, ['interpreter'])), 'without interpreter\n')
})

test('cwd is a path or a file URL, and an empty one none', async (t, spawn) => {
  const directory = temporaryDirectory(t)
  for (const cwd of [directory, pathToFileURL(directory)]) {
    t.is(await outputOf(spawn('pwd', { cwd })), `${directory}\n`)
  }
  for (const cwd of [undefined, null, '']) t.is(await outputOf(spawn('pwd', { cwd })), `${process.cwd()}\n`)
})

test('shell runs a command line', async (t, spawn) => {
  const child = spawn('echo $VALUE | cat; echo "$0"', {
    shell: true,
    env: { ...process.env, VALUE: 'expanded' },
  })
  t.is(child.spawnfile, '/bin/sh')
  t.deepEqual(child.spawnargs, ['/bin/sh', '-c', 'echo $VALUE | cat; echo "$0"'])
  t.is(await outputOf(child), 'expanded\n/bin/sh\n')
  t.is(await outputOf(spawn('echo', ['foo', '&&', 'echo', 'bar'], { shell: '/bin/sh' })), 'foo\nbar\n')
  t.is((await ended(spawn(MISSING, { shell: true }))).code, 127)
})

test('detached is the leader of a session and a group', async (t, spawn) => {
  const ids = async (options) => {
    const child = spawn('sh', ['-c', 'cut -d" " -f1,5,6 /proc/$$/stat'], options)
    const [pid, group, session] = (await outputOf(child)).trim().split(' ').map(Number)
    t.is(pid, child.pid)
    return { pid, group, session }
  }
  const own = readFileSync('/proc/self/stat', 'utf8').split(' ')
  const { pid, ...detached } = await ids({ detached: true })
  t.deepEqual(detached, { group: pid, session: pid })
  const { group, session } = await ids({})
  t.deepEqual([group, session], [Number(own[4]), Number(own[5])])
})

test('a detached program goes on when the group of the process that started it is ended', async (t, spawn) => {
  const source = `
    const stdio = ['ignore', 'inherit', 'inherit', 3]
    spawn('sh', ['-c', 'echo begun; read line <&3; echo "$line"'], { detached: true, stdio })`
  const parent = script(spawn, source, { detached: true, stdio: ['ignore', 'pipe', 'inherit', 'pipe'] })
  const exited = once(parent, 'exit')
  const [begun] = await once(parent.stdout.setEncoding('utf8'), 'data')
  process.kill(-parent.pid, 'SIGTERM')
  t.deepEqual(await exited, [null, 'SIGTERM'])
  parent.stdio[3].end('outlived\n')
  t.is(begun + (await text(parent.stdout)), 'begun\noutlived\n')
})

if (isRoot) {
  test('uid and gid are those of the program, without the groups of root', async (t, spawn) => {
    const child = spawn('cat', ['/proc/self/status'], { uid: 65534, gid: 65533, cwd: '/' })
    const status = Object.fromEntries((await outputOf(child)).split('\n').map((line) => line.split(':\t')))
    t.is(status.Uid, '65534\t65534\t65534\t65534')
    t.is(status.Gid, '65533\t65533\t65533\t65533')
    t.is(status.Groups.trim(), '')
    t.is(BigInt(`0x${status.CapEff}`), 0n)
  })
}

test('the own uid and gid may be given', async (t, spawn) => {
  const child = spawn('id', ['-u'], { uid: process.getuid(), gid: process.getgid() })
  t.is(await outputOf(child), `${process.getuid()}\n`)
})

test('the program starts with no signal blocked, ignored or caught', async (t, spawn) => {
  const listener = () => {}
  process.on('SIGUSR2', listener)
  t.teardown(() => process.removeListener('SIGUSR2', listener))
  const child = spawn('cat', ['/proc/self/status'])
  const status = await outputOf(child)
  for (const field of ['SigBlk', 'SigIgn', 'SigCgt']) {
    t.is(BigInt(`0x${new RegExp(`${field}:\\t(\\w+)`).exec(status)[1]}`), 0n, field)
  }
})

test('umask, nice value and limits are ours', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'umask; ulimit -n; nice'])
  const [mask, , nice] = (await outputOf(child)).trim().split('\n')
  t.is(Number.parseInt(mask, 8), process.umask())
  t.is(Number(nice), Number(readFileSync('/proc/self/stat', 'utf8').split(' ')[18]))
})

test('a getter among the options may start processes of its own', async (t, spawn) => {
  const others = []
  const other = () =>
    others.push(outputOf(cp.spawn('sh', ['-c', 'echo other'])), outputOf(spawn('sh', ['-c', 'echo ours'])))
  const env = { PATH: process.env.PATH }
  Object.defineProperty(env, 'VALUE', {
    enumerable: true,
    get() {
      other()
      return 'from a getter'
    },
  })
  const child = spawn('sh', ['-c', 'echo $VALUE'], { env })
  t.is(await outputOf(child), 'from a getter\n')
  t.true(others.length > 0)
  for (const each of others) t.regex(await each, /^(other|ours)\n$/)
})

test('options are read from the object itself, and not from Object.prototype', async (t, spawn) => {
  for (const [name, value] of Object.entries({
    cwd: '/nowhere',
    shell: '/nowhere',
    argv0: 'polluted',
    uid: 1,
    stdio: 'ignore',
  })) {
    Object.prototype[name] = value
  }
  let child
  try {
    child = spawn('echo', ['clean'], { env: { PATH: process.env.PATH } })
  } finally {
    for (const name of ['cwd', 'shell', 'argv0', 'uid', 'stdio']) delete Object.prototype[name]
  }
  t.is(await outputOf(child), 'clean\n')
})

test('a call without options has none of Object.prototype either', async (t, spawn) => {
  const own = { pwd: `${process.cwd()}\n`, id: `${process.getuid()}\n` }
  for (const [name, values] of Object.entries({
    cwd: ['', '/tmp', '/does/not/exist', 42n],
    uid: [0, 1, 999, 1000, 0n, 'nobody'],
    shell: [true],
  })) {
    for (const value of values) {
      Object.prototype[name] = value
      let children
      try {
        children = { pwd: spawn('pwd'), id: spawn('id', ['-u']) }
      } finally {
        delete Object.prototype[name]
      }
      const [pwd, id] = await Promise.all([children.pwd, children.id].map(outputOf))
      t.deepEqual({ pwd, id }, own, `${name}: ${value}`)
    }
  }
})

// ─── Signals, time, abortion ───────────────────────────────────────────────────────────────────

test('kill ends the program by SIGTERM, and is false afterwards', async (t, spawn) => {
  const child = spawn('sleep', ['150'])
  t.true(child.kill())
  t.true(child.killed)
  t.deepEqual(await once(child, 'exit'), [null, 'SIGTERM'])
  t.false(child.kill())
})

test('kill takes a signal by name and number, and 0 asks only', async (t, spawn) => {
  for (const [signal, name] of [
    ['SIGKILL', 'SIGKILL'],
    [9, 'SIGKILL'],
    ['SIGUSR1', 'SIGUSR1'],
    [10, 'SIGUSR1'],
  ]) {
    const child = spawn('sleep', ['150'], { stdio: 'ignore' })
    t.true(child.kill(0))
    t.is(child.signalCode, null)
    t.true(child.kill(signal))
    t.deepEqual(await once(child, 'exit'), [null, name])
    t.false(child.kill(0))
  }
})

test('kill refuses what is no signal, and the program goes on', async (t, spawn) => {
  const child = spawn('sleep', ['150'], { stdio: 'ignore' })
  for (const signal of ['SIGNOT', 'sigterms', 1000, {}]) {
    t.is(thrownBy(() => child.kill(signal)).code, 'ERR_UNKNOWN_SIGNAL')
  }
  t.false(child.killed)
  t.true(child.kill('SIGKILL'))
  await once(child, 'exit')
})

test('a program may handle the signal', async (t, spawn) => {
  const child = spawn('sh', ['-c', 'trap "echo caught; exit 9" TERM; echo ready; read line; exit 1'])
  await once(child.stdout, 'data')
  const rest = text(child.stdout)
  child.kill()
  t.deepEqual(await once(child, 'close'), [9, null])
  t.is(await rest, 'caught\n')
  t.true(child.killed)
})

test('timeout ends the program by killSignal', async (t, spawn) => {
  const child = spawn('sleep', ['150'], { timeout: 20, killSignal: 'SIGKILL', stdio: 'ignore' })
  t.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
  t.true(child.killed)
  const byDefault = spawn('sleep', ['150'], { timeout: 20, stdio: 'ignore' })
  t.deepEqual(await once(byDefault, 'exit'), [null, 'SIGTERM'])
})

test('timeout does nothing to a program that ends in time', async (t, spawn) => {
  const child = spawn('true', { timeout: 60_000, stdio: 'ignore' })
  t.deepEqual(await once(child, 'exit'), [0, null])
  t.false(child.killed)
})

test('an abort signal ends the program, and is an AbortError', async (t, spawn) => {
  for (const [reason, killSignal] of [
    [undefined, undefined],
    [new Error('a reason'), 'SIGKILL'],
  ]) {
    const controller = new AbortController()
    const child = spawn('sleep', ['150'], { signal: controller.signal, killSignal, stdio: 'ignore' })
    const [failed, exited] = [
      once(child, 'error'),
      new Promise((resolve) => child.on('exit', (...args) => resolve(args))),
    ]
    controller.abort(reason)
    const [error] = await failed
    t.like(error, { name: 'AbortError', code: 'ABORT_ERR' })
    t.is(error.cause, controller.signal.reason)
    t.deepEqual(await exited, [null, killSignal ?? 'SIGTERM'])
    t.true(child.killed)
  }
})

test('an abort signal that has been aborted ends the program at once', async (t, spawn) => {
  const child = spawn('sleep', ['150'], { signal: AbortSignal.abort(), stdio: 'ignore' })
  const exited = new Promise((resolve) => child.on('exit', (...args) => resolve(args)))
  const [error] = await once(child, 'error')
  t.is(error.name, 'AbortError')
  t.deepEqual(await exited, [null, 'SIGTERM'])
})

test('an abort after the end does nothing, and no listener stays', async (t, spawn) => {
  const controller = new AbortController()
  const listeners = () => getEventListeners(controller.signal, 'abort').length
  const child = spawn('true', { signal: controller.signal, stdio: 'ignore' })
  t.is(listeners(), 1)
  child.on('error', (error) => t.fail(error.message))
  await once(child, 'close')
  t.is(listeners(), 0)
  controller.abort()
  await turn()
  t.is(child.exitCode, 0)
})

test('an abort between exit and close does nothing', async (t, spawn) => {
  const controller = new AbortController()
  const child = spawn('sleep', ['150'], { signal: controller.signal })
  const names = []
  child.on('error', () => names.push('error'))
  child.on('exit', () => {
    names.push('exit')
    controller.abort()
  })
  child.on('close', () => names.push('close'))
  child.kill()
  t.deepEqual(await once(child, 'close'), [null, 'SIGTERM'])
  await turn()
  t.deepEqual(names, ['exit', 'close'])
})

test('Symbol.dispose kills the program', async (t, spawn) => {
  const child = spawn('sleep', ['150'], { stdio: 'ignore' })
  child[Symbol.dispose]()
  t.true(child.killed)
  t.deepEqual(await once(child, 'exit'), [null, 'SIGTERM'])
})

// A reference: the first process ends with what it says, whatever its child does.
test('a program holds the event loop until its end, unless it is unreferenced', async (t, spawn) => {
  const source = (calls) => `
    const child = spawn('sh', ['-c', 'read line <&3'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] })
    child.stdio[3].unref()
    ${calls}
    process.on('exit', () => process.stdout.write(String(child.exitCode)))
    process.on('beforeExit', () => process.stdout.write('before '))
    process.on('message', () => child.stdio[3].end())
    process.channel.unref()`
  const run = (calls) => script(spawn, source(calls), { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
  for (const calls of ['', 'child.unref(); child.ref()', 'child.ref(); child.ref()']) {
    const held = run(calls)
    held.send('end')
    t.is(await outputOf(held), 'before 1', calls)
  }
  for (const calls of ['child.unref()', 'child.ref(); child.unref()', 'child.unref(); child.unref()']) {
    t.is(await outputOf(run(calls)), 'before null', calls)
  }
})

// ─── Channel ───────────────────────────────────────────────────────────────────────────────────

const echo = `
  process.on('message', (message) => {
    process.send(message, () => message === 'end' && process.disconnect())
  })`

test('messages go both ways, in order, and the channel closes', async (t, spawn) => {
  const child = spawn(process.execPath, ['-e', echo], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  t.true(child.connected)
  t.truthy(child.channel)
  t.is(child.stdio[3], null)
  const messages = []
  child.on('message', (message) => messages.push(message))
  const sent = ['text', 1, null, true, { nested: [1, 'ä', null] }, 'x'.repeat(200_000), 'end']
  for (const message of sent) t.true(typeof child.send(message) === 'boolean')
  const { names, code } = await ended(child)
  t.deepEqual(messages, sent)
  t.true(names.includes('disconnect'))
  t.is(code, 0)
  t.false(child.connected)
  const failed = once(child, 'error')
  t.false(child.send('late'))
  t.is((await failed)[0].code, 'ERR_IPC_CHANNEL_CLOSED')
})

test('the channel is where stdio has it, and the environment says so', async (t, spawn) => {
  const source = "process.send([process.env.NODE_CHANNEL_FD ?? 'taken', typeof process.channel])"
  for (const stdio of [
    ['ignore', 'ignore', 'inherit', 'ipc'],
    ['ignore', 'ignore', 'inherit', 'ignore', 'pipe', 'ipc'],
    ['ipc', 'ignore', 'inherit'],
  ]) {
    const child = spawn(process.execPath, ['-e', source], { stdio })
    const closed = once(child, 'close')
    const [message] = await once(child, 'message')
    t.deepEqual(message, ['taken', 'object'])
    await closed
  }
  const shell = spawn('sh', ['-c', 'echo $NODE_CHANNEL_FD $NODE_CHANNEL_SERIALIZATION_MODE'], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe', 'ipc'],
    env: { PATH: process.env.PATH },
  })
  t.is(await outputOf(shell), '4 json\n')
})

test('advanced serialization keeps what JSON loses', async (t, spawn) => {
  const child = spawn(process.execPath, ['-e', echo], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  })
  const message = {
    big: 10n,
    map: new Map([[1, new Set(['a'])]]),
    date: new Date(0),
    bytes: new Uint8Array([1, 2]),
    nothing: undefined,
  }
  message.itself = message
  child.send(message)
  const [answer] = await once(child, 'message')
  t.deepEqual(answer.map, message.map)
  t.like(answer, { big: 10n, date: message.date })
  t.deepEqual([...answer.bytes], [1, 2])
  t.is(answer.itself, answer)
  child.send('end')
  t.is((await ended(child)).code, 0)
})

test('send calls back, and to a closed channel with the error', async (t, spawn) => {
  const child = spawn(process.execPath, ['-e', echo], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  t.is(await new Promise((resolve) => child.send('one', resolve)), null)
  child.disconnect()
  t.is((await new Promise((resolve) => child.send('two', resolve))).code, 'ERR_IPC_CHANNEL_CLOSED')
  await once(child, 'exit')
})

test('a server and a socket go over the channel', async (t, spawn) => {
  const source = `
    process.on('message', (message, handle) => {
      if (message === 'socket') handle.end('from the child by the socket')
      else handle.on('connection', (socket) => socket.end('from the child by the server', () => process.disconnect(handle.close())))
      process.send(message)
    })`
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const own = net.createServer((socket) => child.send('socket', socket)).listen(0, '127.0.0.1')
  await once(own, 'listening')
  t.is(await text(net.connect(own.address().port, '127.0.0.1')), 'from the child by the socket')
  own.close()
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  const taken = new Promise((resolve) => child.on('message', (message) => message === 'server' && resolve()))
  child.send('server', server, () => server.close())
  await taken
  t.is(await text(net.connect(port, '127.0.0.1')), 'from the child by the server')
  await (child.exitCode === null && once(child, 'close'))
  t.is(child.exitCode, 0)
})

test('send says false once a handle is on its way that is not acknowledged', async (t, spawn) => {
  const source =
    "process.on('message', (message, handle) => message === 'four' ? process.disconnect() : handle?.close())"
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const closed = once(child, 'close')
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { _handle: handle } = server
  t.deepEqual(
    [child.send('one', handle), child.send('two', handle), child.send('three'), child.send('four')],
    [true, true, false, false],
  )
  t.deepEqual(await closed, [0, null])
  server.close()
})

test("a message whose cmd begins with NODE_ is Node's own", async (t, spawn) => {
  const sent = [{ cmd: 'NODE_own' }, { cmd: 'not NODE_' }, { cmd: 'NODE' }, { cmd: 5 }]
  const source = `for (const message of ${JSON.stringify(sent)}) process.send(message)`
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const got = { message: [], internalMessage: [] }
  for (const name of Object.keys(got)) child.on(name, (message) => got[name].push(message))
  await once(child, 'close')
  t.deepEqual(got, { message: sent.slice(1), internalMessage: sent.slice(0, 1) })
})

test('a channel without a program that is there', async (t, spawn) => {
  const child = spawn(MISSING, { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
  const [error] = await once(child, 'error')
  t.is(error.code, 'ENOENT')
  await (child.connected && once(child, 'disconnect'))
  t.false(child.connected)
})

// ─── Many, and elsewhere ───────────────────────────────────────────────────────────────────────

testInProcess(
  'hundreds of programs, sixty-four at once, leave no descriptor, no zombie and no memory behind',
  async ({ spawn, fs, until }) => {
    const open = () => fs.readdirSync('/proc/self/fd').length
    const children = () => fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim()
    const one = () =>
      new Promise((resolve, reject) => {
        const child = spawn('true')
        child.on('error', reject).on('close', (code) => resolve(code))
      })
    await one()
    const before = open()
    const codes = new Set()
    let left = 600
    const lane = async () => {
      while (left-- > 0) codes.add(await one())
    }
    await Promise.all(Array.from({ length: 64 }, lane))
    await until(() => open() <= before)
    return { codes: [...codes], children: children(), more: open() - before }
  },
  (t, result) => t.deepEqual(result, { codes: [0], children: '', more: 0 }),
)

testInProcess(
  'programs that are not there leave nothing behind',
  async ({ spawn, fs, until }) => {
    const open = () => fs.readdirSync('/proc/self/fd').length
    const one = () =>
      new Promise((resolve) => {
        const child = spawn('linux-clone-no-such-program', { stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'ipc'] })
        let code
        child.on('error', (error) => {
          code = error.code
        })
        child.on('close', () => resolve(code))
      })
    await one()
    const before = open()
    const codes = new Set(await Promise.all(Array.from({ length: 100 }, one)))
    await until(() => open() <= before)
    return {
      codes: [...codes],
      children: fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim(),
    }
  },
  (t, result) => t.deepEqual(result, { codes: ['ENOENT'], children: '' }),
)

testInProcess(
  'a ChildProcess that has ended is collected',
  async ({ spawn, until }) => {
    const registry = new FinalizationRegistry(() => collected++)
    let collected = 0
    for (let index = 0; index < 50; index++) {
      await new Promise((resolve) => {
        const child = spawn('true', { stdio: 'ignore' })
        registry.register(child)
        child.on('close', resolve)
      })
    }
    await until(() => {
      globalThis.gc()
      return collected >= 45
    })
    return true
  },
  (t, result) => t.true(result),
  { execArgv: ['--expose-gc'] },
)

test('a Worker may start programs', async (t, spawn) => {
  const source = `
    const { parentPort, Worker, workerData } = require('node:worker_threads')
    const { spawn } = require(workerData)
    const child = spawn('sh', ['-c', 'cat; exit 3'])
    let output = ''
    child.stdout.on('data', (chunk) => { output += chunk })
    child.stdin.end('through the worker')
    child.on('close', (code) => parentPort.postMessage({ output, code }))`
  const { Worker } = await import('node:worker_threads')
  const worker = new Worker(source, { eval: true, workerData: moduleOf(spawn), stderr: true })
  const warnings = text(worker.stderr)
  const exited = once(worker, 'exit')
  const [message] = await once(worker, 'message')
  t.deepEqual(message, { output: 'through the worker', code: 3 })
  t.deepEqual(await exited, [0])
  t.is(await warnings, '')
})

test('a Worker that is ended while its programs run ends without harm', async (t, spawn) => {
  const inWorker = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { spawn } = require(workerData)
    const children = [1, 2, 3].map(() => spawn('sleep', ['150']))
    for (const child of children) child.on('exit', () => {})
    parentPort.postMessage(children.map(({ pid }) => pid))`
  const source = `
    const { Worker } = require('node:worker_threads')
    const { readdirSync } = require('node:fs')
    let before
    new Worker('0', { eval: true }).on('exit', () => {
    before = readdirSync('/proc/self/fd').length
    const worker = new Worker(${JSON.stringify(inWorker)}, { eval: true, workerData: ${JSON.stringify(moduleOf(spawn))} })
    worker.on('message', async (pids) => {
      await worker.terminate()
      for (const pid of pids) process.kill(pid)
      console.log(readdirSync('/proc/self/fd').length - before)
    })
    })`
  const { code, output } = await ended(script(spawn, source))
  t.deepEqual([code, output], [0, '0\n'])
})
