// What Node's own tests say of child_process.spawnSync, said of both: the same assertions run against Node's and ours.
import cp from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import ava from 'ava'
import lib from '../index.js'
import { temporaryDirectory } from './helpers/machine.mjs'
import { isRoot } from './helpers/process.mjs'

// With a directory in it that may not be searched, execvp says EACCES of what is not there.
process.env.PATH = '/usr/local/bin:/usr/bin:/bin'

/** Declares a test for both. */
function test(title, fn) {
  for (const [name, { spawnSync }] of Object.entries({ child_process: cp, 'linux-clone': lib })) {
    ava(`${name}: ${title}`, (t) => fn(t, spawnSync))
  }
}

const MISSING = 'linux-clone-no-such-program'
const text = { encoding: 'utf8' }

test('the result says how it ended, and what it wrote', (t, spawnSync) => {
  const { pid, ...result } = spawnSync('sh', ['-c', 'echo out; echo err >&2; exit 3'])
  t.true(Number.isInteger(pid) && pid > 0)
  t.deepEqual(Object.keys(result), ['status', 'signal', 'output', 'stdout', 'stderr'])
  t.is(result.output[0], null)
  t.true(result.output[1].equals(Buffer.from('out\n')))
  t.is(result.output[1], result.stdout)
  t.is(result.output[2], result.stderr)
  t.like(result, { status: 3, signal: null })
  t.is(String(result.stderr), 'err\n')
})

test('a signal is in the result, and no status', (t, spawnSync) => {
  t.like(spawnSync('sh', ['-c', 'kill -KILL $$']), { status: null, signal: 'SIGKILL', error: undefined })
})

test('the call blocks until the program has ended', (t, spawnSync) => {
  const { pid } = spawnSync('sleep', ['0.05'])
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
})

test('a program that is not there is an error in the result', (t, spawnSync) => {
  const result = spawnSync(MISSING, ['one', 'two'])
  t.like(result, { status: null, signal: null, output: null, pid: 0 })
  t.falsy(result.stdout)
  t.true(result.error instanceof Error)
  t.like(result.error, {
    message: `spawnSync ${MISSING} ENOENT`,
    code: 'ENOENT',
    errno: -2,
    syscall: `spawnSync ${MISSING}`,
    path: MISSING,
    spawnargs: ['one', 'two'],
  })
  t.is(Object.keys(result)[0], 'error')
})

test('what spawn would throw is an error in the result too', (t, spawnSync) => {
  t.like(spawnSync('/etc/passwd/program').error, {
    message: 'spawnSync /etc/passwd/program ENOTDIR',
    code: 'ENOTDIR',
    errno: -20,
  })
  for (const cwd of ['/does/not/exist', '']) t.is(spawnSync('true', { cwd }).error.code, 'ENOENT')
  t.is(spawnSync('true', { stdio: ['ignore', 'ignore', 123_456] }).error.code, 'EBADF')
  if (!isRoot) t.is(spawnSync('true', { uid: 0 }).error.code, 'EPERM')
})

test('encoding makes strings of the output, and buffer does not', (t, spawnSync) => {
  const { stdout, output } = spawnSync('printf', ['\\303\\244'], text)
  t.is(stdout, 'ä')
  t.deepEqual(output, [null, 'ä', ''])
  t.is(spawnSync('printf', ['\\001\\377'], { encoding: 'hex' }).stdout, '01ff')
  for (const encoding of ['buffer', undefined, null])
    t.true(Buffer.isBuffer(spawnSync('true', { encoding }).stdout))
  t.throws(() => spawnSync('echo', { encoding: 'no-encoding' }), { code: 'ERR_UNKNOWN_ENCODING' })
})

test('input is bytes of every kind, or a string', (t, spawnSync) => {
  const bytes = Buffer.from([0, 255, 10, 13, 195, 164])
  const word = new Uint16Array([0x0a00, 0x1234])
  const inputs = [
    bytes,
    new Uint8Array(bytes),
    new DataView(word.buffer),
    word,
    'text ä',
    Buffer.alloc(3 << 20, 'x'),
  ]
  for (const input of inputs) {
    const expected =
      typeof input === 'string'
        ? Buffer.from(input)
        : Buffer.from(input.buffer, input.byteOffset, input.byteLength)
    const { stdout, status } = spawnSync('cat', { input, maxBuffer: Number.POSITIVE_INFINITY })
    t.is(status, 0)
    t.true(stdout.equals(expected))
  }
  for (const input of [undefined, null, '']) t.is(spawnSync('cat', { input, ...text }).stdout, '')
  t.is(spawnSync('cat', { input: '6869', encoding: 'hex' }).stdout, '6869')
})

test('without input the program reads an end at once', (t, spawnSync) => {
  t.like(spawnSync('cat', text), { stdout: '', status: 0 })
})

test('input that the program does not read is an EPIPE, beside how it ended', (t, spawnSync) => {
  const { error, status } = spawnSync('true', { input: Buffer.alloc(1 << 20) })
  t.is(status, 0)
  t.is(error.code, 'EPIPE')
})

test('input is not for a stream that is no pipe', (t, spawnSync) => {
  t.is(spawnSync('cat', { input: 'lost', stdio: ['ignore', 'pipe', 'inherit'], ...text }).stdout, '')
})

test('timeout ends the program by killSignal', (t, spawnSync) => {
  for (const [killSignal, signal] of [
    [undefined, 'SIGTERM'],
    ['SIGKILL', 'SIGKILL'],
    ['sigusr1', 'SIGUSR1'],
    [9, 'SIGKILL'],
  ]) {
    const result = spawnSync('sleep', ['150'], { timeout: 20, killSignal })
    t.like(result, { status: null, signal })
    t.like(result.error, {
      message: 'spawnSync sleep ETIMEDOUT',
      code: 'ETIMEDOUT',
      errno: -110,
      syscall: 'spawnSync sleep',
      path: 'sleep',
    })
    t.deepEqual(result.error.spawnargs, ['150'])
  }
  t.like(spawnSync('true', { timeout: 60_000 }), { status: 0, error: undefined })
  t.like(spawnSync('true', { timeout: 0 }), { status: 0, error: undefined })
})

test('maxBuffer ends the program, and what it wrote until then is there', (t, spawnSync) => {
  const { error, signal, stdout } = spawnSync('yes', { maxBuffer: 100 })
  t.like(error, { message: 'spawnSync yes ENOBUFS', code: 'ENOBUFS', errno: -105 })
  t.is(signal, 'SIGTERM')
  t.true(String(stdout).startsWith('y\ny\n'))
  t.like(spawnSync('printf', ['123456'], { maxBuffer: 6, ...text }), { stdout: '123456', error: undefined })
  t.is(spawnSync('printf', ['123456'], { maxBuffer: 5 }).error.code, 'ENOBUFS')
  // Both streams count.
  t.is(spawnSync('sh', ['-c', 'printf 123; printf 456 >&2'], { maxBuffer: 5 }).error.code, 'ENOBUFS')
})

test('without maxBuffer a mebibyte is the limit; 0 and Infinity are none', (t, spawnSync) => {
  const bytes = (count) => ['-c', `head -c ${count} /dev/zero`]
  t.is(spawnSync('sh', bytes(1 << 20)).error, undefined)
  t.is(spawnSync('sh', bytes((1 << 20) + 1)).error.code, 'ENOBUFS')
  for (const maxBuffer of [0, Number.POSITIVE_INFINITY, undefined, null]) {
    t.is(spawnSync('sh', bytes(2 << 20), { maxBuffer }).stdout.length, 2 << 20)
  }
})

test('stdio in every form', (t, spawnSync) => {
  const file = path.join(temporaryDirectory(t), 'output')
  const fd = openSync(file, 'w+')
  t.deepEqual(spawnSync('sh', ['-c', 'echo out; echo err >&2'], { stdio: ['ignore', fd, { fd }] }).output, [
    null,
    null,
    null,
  ])
  closeSync(fd)
  t.is(readFileSync(file, 'utf8'), 'out\nerr\n')
  for (const stdio of ['pipe', ['pipe', 'pipe', 'pipe'], [], undefined, [null, undefined], [-1, -1, -1]]) {
    t.deepEqual(spawnSync('sh', ['-c', 'echo out; echo err >&2'], { stdio, ...text }).output, [
      null,
      'out\n',
      'err\n',
    ])
  }
  for (const stdio of ['ignore', 'inherit'])
    t.deepEqual(spawnSync('true', { stdio }).output, [null, null, null])
  const more = ['ignore', 'ignore', 'inherit', 'pipe', 'ignore', 'pipe']
  t.deepEqual(
    spawnSync('sh', ['-c', 'echo three >&3; echo five >&5; ls /proc/$$/fd >&5'], {
      stdio: more,
      ...text,
    }).output.slice(1, 5),
    [null, null, 'three\n', null],
  )
  t.throws(() => spawnSync('true', { stdio: ['pipe', 'pipe', 'pipe', 'ipc'] }), { code: 'ERR_IPC_SYNC_FORK' })
  for (const stdio of ['none', 7, [{}], [true]]) {
    t.throws(() => spawnSync('true', { stdio }), { code: 'ERR_INVALID_ARG_VALUE' })
  }
})

test('shell, argv0, cwd, env and the forms of a call', (t, spawnSync) => {
  const directory = temporaryDirectory(t)
  t.is(spawnSync('pwd', { cwd: directory, ...text }).stdout, `${directory}\n`)
  t.is(spawnSync('pwd', [], { cwd: pathToFileURL(directory), ...text }).stdout, `${directory}\n`)
  t.is(spawnSync('pwd', undefined, { cwd: '/', ...text }).stdout, '/\n')
  t.is(
    spawnSync('echo "$A" | cat', { shell: true, env: { ...process.env, A: 'shell' }, ...text }).stdout,
    'shell\n',
  )
  t.is(
    spawnSync('echo', ['$0'], { shell: '/bin/sh', argv0: 'zero', ...text }).stdout,
    '/bin/sh\n'.replace('/bin/sh', 'zero'),
  )
  t.is(
    spawnSync('env', { env: { PATH: process.env.PATH, ONE: '1', NONE: undefined }, ...text }).stdout,
    `PATH=${process.env.PATH}\nONE=1\n`,
  )
  process.env.LINUX_CLONE_PARITY_SYNC = 'set'
  t.teardown(() => delete process.env.LINUX_CLONE_PARITY_SYNC)
  t.is(spawnSync('sh', ['-c', 'echo $LINUX_CLONE_PARITY_SYNC'], text).stdout, 'set\n')
  t.is(spawnSync('printf', ['%s', 1, null, true], text).stdout, '1nulltrue')
})

test('wrong arguments are thrown, with the code and the message that Node has', (t, spawnSync) => {
  const calls = [
    [],
    [1],
    [''],
    ['a\0b'],
    ['x', 'args'],
    ['x', [], null],
    ['x', [], 'options'],
    ['x', [], { cwd: 1 }],
    ['x', [], { detached: 1 }],
    ['x', [], { uid: 'root' }],
    ['x', [], { gid: 1.5 }],
    ['x', [], { shell: {} }],
    ['x', [], { argv0: 1 }],
    ['x', [], { windowsHide: 1 }],
    ['x', [], { timeout: -1 }],
    ['x', [], { timeout: 1.5 }],
    ['x', [], { maxBuffer: -1 }],
    ['x', [], { maxBuffer: 'many' }],
    ['x', [], { killSignal: 'SIGNOT' }],
    ['x', [], { killSignal: {} }],
    ['x', [], { input: 5 }],
    ['x', [], { input: {} }],
    ['x', [], { stdio: 'none' }],
    ['x', [], { env: { A: 'b\0' } }],
  ]
  for (const args of calls) {
    const [ours, nodes] = [spawnSync, cp.spawnSync].map((fn) =>
      t.throws(() => fn(...args), undefined, JSON.stringify(args)),
    )
    t.deepEqual([ours.code, ours.message], [nodes.code, nodes.message])
  }
})

test('each option takes what it is meant for, and nothing else, which is told as Node does it', (t, spawnSync) => {
  const fn = () => t.fail('nobody calls it')
  const numbers = [Number.NaN, Number.POSITIVE_INFINITY, 3.1, -3.1]
  const signals = Object.entries(constants.signals).flatMap(([name, number]) => [
    name,
    name.toLowerCase(),
    number,
  ])
  for (const [option, right, wrong] of [
    ['cwd', ['/'], [0, 1, true, false]],
    ['detached', [true, false], [0, 1, '/']],
    ['uid', [process.getuid()], ['/', true, false, ...numbers]],
    ['gid', [process.getgid()], ['/', true, false, ...numbers]],
    ['shell', [false], [0, 1]],
    ['argv0', ['zero'], [0, 1, true, false]],
    ['windowsHide', [true, false], [0, 1, '/']],
    ['windowsVerbatimArguments', [true, false], [0, 1, '/']],
    ['timeout', [0, 1], [-1, true, false, '/', ...numbers]],
    ['maxBuffer', [0, 1, Number.POSITIVE_INFINITY, 3.14], [-1, Number.NaN, true, false, '/']],
    [
      'killSignal',
      signals,
      [true, false, 'SIGNOT', 500, 0, -200, 3.14, ...Object.getOwnPropertyNames(Object.prototype)],
    ],
  ]) {
    for (const value of [undefined, null, ...right]) {
      const { error } = spawnSync(MISSING, { [option]: value })
      t.is(error?.code, 'ENOENT', `${option}: ${String(value)}`)
    }
    for (const value of [...wrong, [], {}, fn]) {
      const what = `${option}: ${typeof value} ${JSON.stringify(value)}`
      const [ours, nodes] = [spawnSync, cp.spawnSync].map((call) =>
        t.throws(() => call(MISSING, { [option]: value }), undefined, what),
      )
      t.regex(ours.code, /^ERR_(INVALID_ARG_TYPE|OUT_OF_RANGE|UNKNOWN_SIGNAL)$/, what)
      t.deepEqual([ours.code, ours.message, ours.name], [nodes.code, nodes.message, nodes.name], what)
    }
  }
})

test('options are not those of Object.prototype', (t, spawnSync) => {
  for (const [name, values] of Object.entries({
    cwd: ['', '/tmp', '/does/not/exist', 42n],
    uid: [0, 1, 999, 1000, 0n, 'nobody'],
    shell: [true],
  })) {
    for (const value of values) {
      Object.prototype[name] = value
      const found = {}
      try {
        found.cwd = String(spawnSync('pwd').stdout)
        found.uid = String(spawnSync('id', ['-u']).stdout)
        found.shell = spawnSync('pwd', ['-L && echo shell'], { cwd: '/' }).status
      } finally {
        delete Object.prototype[name]
      }
      t.true(found.shell !== 0)
      t.like(found, { cwd: `${process.cwd()}\n`, uid: `${process.getuid()}\n` })
    }
  }
})

test('options and results are read from the objects themselves, and not from Object.prototype', (t, spawnSync) => {
  const polluted = { cwd: '/nowhere', uid: 1, stdio: 'ignore', maxBuffer: 1, signal: 5, code: 7 }
  // What is loaded with the first call is loaded without.
  spawnSync('true')
  Object.assign(Object.prototype, polluted)
  let results
  try {
    results = ['true', MISSING].map((command) => ({ __proto__: null, ...spawnSync(command) }))
  } finally {
    for (const name of Object.keys(polluted)) delete Object.prototype[name]
  }
  t.like(results[0], { status: 0, signal: null, error: undefined })
  t.is(results[1].error.code, 'ENOENT')
})

if (isRoot) {
  test('uid and gid are those of the program', (t, spawnSync) => {
    t.is(spawnSync('id', ['-u'], { uid: 65534, gid: 65534, cwd: '/', ...text }).stdout, '65534\n')
  })
}

test('a program that another one survives is waited for as long as that holds the output', (t, spawnSync) => {
  const { stdout } = spawnSync('sh', ['-c', 'echo soon; (sleep 0.05; echo late) &'], text)
  t.is(stdout, 'soon\nlate\n')
})

// Node's own lengthens it.
ava('an array of stdio stays as it is, and may be frozen', (t) => {
  const stdio = Object.freeze(['ignore'])
  t.deepEqual(lib.spawnSync('echo', ['x'], { stdio, ...text }).output, [null, 'x\n', ''])
  t.deepEqual(stdio, ['ignore'])
})

// Node's own aborts.
ava("'overlapped' is a pipe, and a stream's handle is its descriptor", async (t) => {
  t.is(lib.spawnSync('echo', ['x'], { stdio: 'overlapped', ...text }).stdout, 'x\n')
  const child = cp.spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] })
  lib.spawnSync('echo', ['through the stream'], { stdio: ['ignore', child.stdin, 'inherit'] })
  child.stdin.end()
  const [chunk] = await once(child.stdout, 'data')
  t.is(String(chunk), 'through the stream\n')
})

ava('many calls, good and bad, leave no descriptor behind', (t) => {
  const file = path.join(temporaryDirectory(t), 'no-program')
  writeFileSync(file, '')
  const before = readdirSync('/proc/self/fd').length
  for (let index = 0; index < 50; index++) {
    lib.spawnSync('true')
    lib.spawnSync(MISSING, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] })
    lib.spawnSync(file)
  }
  t.is(readdirSync('/proc/self/fd').length, before)
})
