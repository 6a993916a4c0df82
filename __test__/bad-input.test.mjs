import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { available, inProcess, inUserNamespace } from './helpers/process.mjs'

const modules = {
  table: fileURLToPath(new URL('helpers/arguments.cjs', import.meta.url)),
  fastCheck: createRequire(import.meta.url).resolve('fast-check'),
}

/** Chosen here, so that it is known even where the process crashes; LINUX_CLONE_TEST_SEED repeats a run. */
function chooseSeed(t) {
  const seed = Number(process.env.LINUX_CLONE_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
  t.log(`LINUX_CLONE_TEST_SEED=${seed}`)
  return seed
}

/** In the process: calls every function with values for its arguments, as `mode` says. */
function callEverything({ lib, fs, os }, modules, seed, mode) {
  const require = process.getBuiltinModule('module').createRequire(modules.table)
  const { CALL, functions, outcome, primitive, simple, values } = require(modules.table)
  const fc = require(modules.fastCheck)
  const sandboxed = mode === 'in a sandbox'
  const fds = {
    uts: fs.openSync('/proc/self/ns/uts'),
    null: fs.openSync('/dev/null'),
    self: lib.pidfdOpen(process.pid),
  }
  const directory = '/sys'
  const page = 1024 * Number(/^KernelPageSize:\s+(\d+) kB/m.exec(fs.readFileSync('/proc/self/smaps'))[1])
  if (sandboxed) {
    // Of each there is one more, which a call could go to.
    lib.unshare('uts')
    lib.mount('none', directory, 'tmpfs')
  } else {
    if (process.getuid() === 0) {
      process.setgroups([])
      process.setgid(65534)
      process.setuid(65534)
    }
    const capabilities = /^CapEff:\s+(\w+)$/m.exec(fs.readFileSync('/proc/thread-self/status', 'utf8'))[1]
    if (BigInt(`0x${capabilities}`) !== 0n) throw new Error(`this process could do harm: ${capabilities}`)
  }

  function state() {
    const links = fs.readdirSync('/proc/self/task').flatMap((task) => {
      const names = fs.readdirSync(`/proc/self/task/${task}/ns`).map((name) => `ns/${name}`)
      return [...names, 'root', 'cwd'].map((name) => fs.readlinkSync(`/proc/self/task/${task}/${name}`))
    })
    return {
      links: [...new Set(links)].sort(),
      hostname: os.hostname(),
      domainname: fs.readFileSync('/proc/sys/kernel/domainname', 'utf8'),
      mounts: fs.readFileSync('/proc/self/mountinfo', 'utf8'),
      umask: process.umask(),
      descriptors: fs.readdirSync('/proc/self/fd'),
    }
  }

  const seen = new Set()
  function expect(called, args, allowed) {
    const got = outcome(lib, fs, called, args)
    seen.add(got)
    if (!allowed.includes(got)) throw new Error(`came to ${got} instead of ${allowed.join(' or ')}`)
  }

  const table = functions({ lib, fds, directory, page })
  const failures = []
  function hold(title, property, examples, numRuns) {
    const result = fc.check(property, { seed, numRuns, examples: examples.map((each) => [each]) })
    if (!result.failed) return
    const { counterexamplePath, counterexample, errorInstance } = result
    const labels = counterexample.flat().map(({ label }) => label)
    failures.push(`${title}(${labels.join(', ')}) ${errorInstance?.message} (path ${counterexamplePath})`)
  }
  const before = sandboxed && state()

  for (const called of table) {
    const { name, parameters } = called
    for (const [position, parameter] of parameters.entries()) {
      if (parameter.fixed) continue
      const isTried = (each) => !sandboxed || !parameter.judge(each).includes(CALL)
      const property = fc.property(values(fc, parameter).filter(isTried), (each) => {
        const args = parameters.map(({ argument }) => argument)
        args[position] = each.make()
        expect(called, args, parameter.judge(each))
      })
      const always = simple.filter(isTried)
      hold(`${name}.${parameter.name}`, property, always, always.length + 100)
    }
    if (sandboxed || called.oneAtATime) continue
    const all = parameters.map((each) =>
      each.fixed ? fc.constant(primitive(each.argument)) : values(fc, each),
    )
    const property = fc.property(fc.tuple(...all), (each) => {
      const verdicts = each.map((value, position) => parameters[position].judge(value))
      const isWrong = verdicts.some((codes) => !codes.includes(CALL))
      const allowed = [CALL, ...verdicts.flat()].filter((code) => !isWrong || code !== CALL)
      const args = each.map((value) => value.make())
      expect(called, args, allowed)
    })
    hold(name, property, [], all.length === 0 ? 2 : 200)
  }
  if (failures.length > 0) throw new Error(`not as the contract says:\n${failures.join('\n')}`)
  return { seen: [...seen].sort(), before, after: sandboxed && state() }
}

test('every function is in the table', async (t) => {
  const { exported, named } = await inProcess(({ lib, fs }, modules) => {
    const require = process.getBuiltinModule('module').createRequire(modules.table)
    const { functions } = require(modules.table)
    const exported = Object.keys(lib).filter((name) => typeof lib[name] === 'function')
    const named = functions({ lib, fds: { null: fs.openSync('/dev/null') }, directory: '/', page: 4096 })
    return { exported: exported.sort(), named: [...new Set(named.map(({ name }) => name))].sort() }
  }, modules)
  t.deepEqual(named, exported)
})

test('a wrong argument is the error of the contract, and any other a call', async (t) => {
  const { seen } = await inProcess(
    callEverything,
    { with: { wrap: [] } },
    modules,
    chooseSeed(t),
    'without rights',
  )
  const errors = ['ERR_INVALID_ARG_TYPE', 'ERR_INVALID_ARG_VALUE', 'ERR_OUT_OF_RANGE', 'ERR_UNKNOWN_SIGNAL']
  t.deepEqual(
    seen.filter((outcome) => outcome !== 'own'),
    [...errors, 'call'],
  )
})

test('a call with a wrong argument changes nothing', async (t) => {
  const wrap = [...inUserNamespace, '--mount', '--uts', '--net', '--ipc']
  const { before, after } = await inProcess(
    callEverything,
    { with: { wrap } },
    modules,
    chooseSeed(t),
    'in a sandbox',
  )
  t.deepEqual(after, before)
})

const TRACED =
  'unshare,setns,pivot_root,kcmp,mount,umount2,sethostname,setdomainname,pidfd_open,pidfd_send_signal,pidfd_getfd,ioctl'
const RAW = 'unshare,setns,pidfd_open,pidfd_send_signal,pidfd_getfd,ioctl'

/** Numbers as numbers, and strings in hexadecimal. */
const strace = (file) =>
  `strace -f -X raw -xx -s 5000 -e trace=${TRACED} -e raw=${RAW} -e signal=none -o`.split(' ').concat(file)

/** In the process: makes calls that the contract allows, and tells what the kernel should have got. */
function callAsAsked({ lib, fs }, modules, seed) {
  const require = process.getBuiltinModule('module').createRequire(modules.table)
  const fc = require(modules.fastCheck)
  const uts = fs.openSync('/proc/self/ns/uts')
  if (process.getuid() === 0) {
    process.setgroups([])
    process.setgid(65534)
    process.setuid(65534)
  }
  // clone(2), mount(2)
  const types = { mnt: 17, cgroup: 25, uts: 26, ipc: 27, user: 28, pid: 29, net: 30, time: 7 }
  const REMOUNT_BIND_MOVE_AND_PROPAGATION = 0x20 | 0x1000 | 0x2000 | 0x1e0000
  const [RDONLY, NOSUID] = [1, 2]

  const int = fc.oneof(fc.integer(), fc.nat(100))
  const uint = fc.oneof(int, fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }))
  // Of no pidfd, nor PIDFD_SELF_*: -1 has a test of its own.
  const fd = fc.oneof(fc.constant(uts), fc.integer({ min: 1000 }), fc.integer({ max: -100_000 }))
  const string = (maxLength) =>
    fc.string({ unit: 'binary', maxLength }).filter((text) => !text.includes('\0') && text.isWellFormed())
  const path = fc.oneof(string(20), fc.constantFrom('/', '.', '', '"\\\n', 'é😀', 'x'.repeat(4000)))
  const name = fc.constantFrom(...Object.keys(types))
  const bits = (names) => names.reduce((sum, each) => sum | (1 << types[each]), 0)
  const flags = fc.oneof(
    uint.map((number) => [number, number]),
    name.map((each) => [each, bits([each])]),
    fc.array(name).map((names) => [names, bits(names)]),
  )
  const mountFlags = uint.map((number) => number & ~REMOUNT_BIND_MOVE_AND_PROPAGATION)
  const option = fc.record(
    {
      mode: fc.nat(0o7777),
      size: fc.oneof(
        fc.nat(),
        string(5).map((text) => text.replaceAll(',', '')),
      ),
      huge: fc.boolean(),
      ro: fc.boolean(),
      suid: fc.boolean(),
    },
    { requiredKeys: [] },
  )
  const data = fc.oneof(
    fc.constant([null, null, (mountFlags) => mountFlags]),
    string(20).map((text) => [text, text, (mountFlags) => mountFlags]),
    option.map((options) => {
      const own = Object.entries(options).flatMap(([key, value]) => {
        if (key === 'ro' || key === 'suid' || value === false) return []
        return [value === true ? key : `${key}=${key === 'mode' ? value.toString(8) : value}`]
      })
      const changed = (given) => (given | (options.ro ? RDONLY : 0)) & ~(options.suid ? NOSUID : 0)
      return [options, own.length > 0 ? own.join(',') : null, changed]
    }),
  )
  const slot = fc.record({ efd: uint, tfd: uint, toff: uint })
  const signals = fc.constantFrom(['SIGTERM', 15], ['SIGKILL', 9], ['SIGCHLD', lib.SIGCHLD])
  const anySignal = fc.oneof(
    int.map((number) => [number, number]),
    signals,
  )

  const same = (syscall, method, ...kinds) =>
    fc.tuple(...kinds).map((args) => ({ method, args, syscall, expected: args }))
  const ioctl = (method, constant, ...kinds) =>
    fc.tuple(fd, ...kinds).map((args) => ({
      method,
      args,
      syscall: 'ioctl',
      expected: [args[0], lib[constant], ...args.slice(1)],
    }))
  const call = fc.oneof(
    flags.map(([given, number]) => ({
      method: 'unshare',
      args: [given],
      syscall: 'unshare',
      expected: [number],
    })),
    fc.tuple(fd, flags).map(([descriptor, [given, number]]) => ({
      method: 'setns',
      args: [descriptor, given],
      syscall: 'setns',
      expected: [descriptor, number],
    })),
    fd.map((descriptor) => ({
      method: 'setns',
      args: [descriptor],
      syscall: 'setns',
      expected: [descriptor, 0],
    })),
    same('pivot_root', 'pivotRoot', path, path),
    same('kcmp', 'kcmp', int, int, fc.constant(lib.KCMP_FILE), uint, uint),
    // strace leaves out the indices of the types that read none.
    same(
      'kcmp',
      'kcmp',
      int,
      int,
      int.filter((type) => type !== lib.KCMP_EPOLL_TFD),
    ),
    same('kcmp', 'kcmp', int, int, fc.constant(lib.KCMP_EPOLL_TFD), uint, slot),
    fc
      .tuple(path, path, path, mountFlags, data)
      .map(([source, target, fstype, given, [from, own, change]]) => ({
        method: 'mount',
        args: [source, target, fstype, given, from],
        syscall: 'mount',
        expected: [source, target, fstype, change(given), own],
      })),
    path.map((target) => ({
      method: 'mount',
      args: [null, target, null],
      syscall: 'mount',
      expected: [null, target, null, 0, null],
    })),
    same('umount2', 'umount', path, uint),
    fc.constantFrom('sethostname', 'setdomainname').chain((method) =>
      string(16).map((given) => ({
        method,
        args: [given],
        syscall: method,
        expected: [given, Buffer.byteLength(given)],
      })),
    ),
    same('pidfd_open', 'pidfdOpen', int, uint),
    fc.tuple(fd, anySignal, uint).map(([pidfd, [given, number], flags]) => ({
      method: 'pidfdSendSignal',
      args: [pidfd, given, flags],
      syscall: 'pidfd_send_signal',
      expected: [pidfd, number, 0, flags],
    })),
    fc.tuple(fd, int).map((args) => ({
      method: 'pidfdGetfd',
      args,
      syscall: 'pidfd_getfd',
      expected: [...args, 0],
    })),
    ioctl('nsGetUserns', 'NS_GET_USERNS'),
    ioctl('nsGetParent', 'NS_GET_PARENT'),
    ioctl('nsGetNstype', 'NS_GET_NSTYPE'),
    ioctl('nsGetOwnerUid', 'NS_GET_OWNER_UID'),
    ioctl('nsGetId', 'NS_GET_ID'),
    ioctl('nsGetMntnsId', 'NS_GET_MNTNS_ID'),
    ioctl('nsGetPidFromPidns', 'NS_GET_PID_FROM_PIDNS', int),
    ioctl('nsGetTgidFromPidns', 'NS_GET_TGID_FROM_PIDNS', int),
    ioctl('nsGetPidInPidns', 'NS_GET_PID_IN_PIDNS', int),
    ioctl('nsGetTgidInPidns', 'NS_GET_TGID_IN_PIDNS', int),
  )
  const calls = fc.sample(call, { seed, numRuns: 1000 })
  for (const { method, args } of calls) {
    try {
      const result = lib[method](...args)
      if (['pidfdOpen', 'nsGetUserns', 'nsGetParent'].includes(method)) fs.closeSync(result)
    } catch (error) {
      if (typeof error.syscall !== 'string') throw error
    }
  }
  return { pid: process.pid, calls }
}

/** The calls of one thread, as strace wrote them, without the ioctls that are none of a namespace's. */
function traced(text, pid) {
  const lines = text.split('\n').filter((line) => line.startsWith(`${pid} `))
  const whole = lines.join('\n').replaceAll(/ <unfinished \.\.\.>\n\d+ <\.\.\. \w+ resumed>/g, '')
  return [...whole.matchAll(/^\d+ +(\w+)\((.*)\) += /gm)]
    .map(([, syscall, given]) => ({
      syscall,
      args: given.match(/"[^"]*"(\.\.\.)?|\{[^}]*\}|[^\s,]+/g) ?? [],
    }))
    .filter(({ syscall, args }) => syscall !== 'ioctl' || (Number(args[1]) & 0xff00) === 0xb700)
}

/** What strace wrote, in the same form as {@link asked}: 32 bits of a number, and the bytes of a string. */
function got(word) {
  if (word === 'NULL') return null
  if (word.startsWith('"')) return word.slice(1, -1).replaceAll('\\x', '')
  if (word.startsWith('{')) return [...word.matchAll(/=([^,}]+)/g)].map(([, field]) => got(field))
  return Number(BigInt.asUintN(32, BigInt(word)))
}

function asked(argument) {
  if (typeof argument === 'number') return argument >>> 0
  if (typeof argument === 'string') return Buffer.from(argument).toString('hex')
  return argument === null ? null : [argument.efd, argument.tfd, argument.toff].map(asked)
}

test('what reaches the kernel is what was asked', async (t) => {
  const works =
    spawnSync('strace', [...strace('/dev/null').slice(1), process.execPath, '-e', '0']).status === 0
  if (!available(t, works, 'strace')) return
  const directory = mkdtempSync(path.join(os.tmpdir(), 'linux-clone-strace-'))
  try {
    const file = path.join(directory, 'calls')
    const { pid, calls } = await inProcess(
      callAsAsked,
      { with: { wrap: strace(file) } },
      modules,
      chooseSeed(t),
    )
    const made = traced(readFileSync(file, 'utf8'), pid)
    t.is(made.length, calls.length)
    for (const [i, { method, args, syscall, expected }] of calls.entries()) {
      const { syscall: name, args: words } = made[i]
      const context = `${method}(${JSON.stringify(args)})`
      t.is(name, syscall, context)
      // An ioctl has a third argument, whether it reads it or not.
      t.deepEqual(words.slice(0, expected.length).map(got), expected.map(asked), context)
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('the descriptor -1 is for the kernel to refuse, like every other', async (t) => {
  const codes = await inProcess(
    ({ lib }) => {
      const code = (...args) => {
        try {
          return lib.pidfdSendSignal(...args)
        } catch (error) {
          return error.code
        }
      }
      return [code(-1, 0), code(-1, 0, 0x80), code(-2, 0, 0x80)]
    },
    { with: { wrap: [] } },
  )
  // The kernel looks at the flags first.
  t.deepEqual(codes, ['EBADF', 'EINVAL', 'EINVAL'])
})
