import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { available, inProcess, inUserNamespace, privileged } from './helpers/process.mjs'

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

/**
 * Of spawn the arguments are child_process's, and so are the errors: spawn-parity, spawn-sync and spawn say what of. What
 * Namespace refuses is in namespace-input.
 */
const ELSEWHERE = ['Namespace', 'spawn', 'spawnSync']

test('every function is in the table', async (t) => {
  const { exported, named } = await inProcess(({ lib, fs }, modules) => {
    const require = process.getBuiltinModule('module').createRequire(modules.table)
    const { functions } = require(modules.table)
    const exported = Object.keys(lib).filter((name) => typeof lib[name] === 'function')
    const named = functions({ lib, fds: { null: fs.openSync('/dev/null') }, directory: '/', page: 4096 })
    return { exported: exported.sort(), named: [...new Set(named.map(({ name }) => name))].sort() }
  }, modules)
  t.deepEqual([...named, ...ELSEWHERE].sort(), exported)
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
  return (
    [...whole.matchAll(/^\d+ +(\w+)\((.*)\) += /gm)]
      .map(([, syscall, given]) => ({
        syscall,
        args: given.match(/"[^"]*"(\.\.\.)?|\{[^}]*\}|[^\s,]+/g) ?? [],
      }))
      // musl's ioctl extends the sign of the request, of which the kernel reads 32 bits.
      .filter(({ syscall, args }) => syscall !== 'ioctl' || (BigInt(args[1]) & 0xff00n) === 0xb700n)
  )
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

// ─── clone ─────────────────────────────────────────────────────────────────────────────────────

/** In the process: what clone throws for each of these arguments, and which children there are after it. */
const refusing = ({ lib, fs }, sources) => {
  const errors = sources.map((source) => {
    const args = new Function('lib', `return [${source}]`)(lib)
    try {
      return { child: lib.clone(...args).waitSync() }
    } catch (error) {
      const { name, code, message, step, syscall, path, stack } = error
      return { name, code, message, step, syscall, path, first: stack.split('\n    at ')[1] }
    }
  })
  const tasks = fs.readdirSync('/proc/self/task')
  const children = tasks.map((task) => fs.readFileSync(`/proc/self/task/${task}/children`, 'utf8')).join('')
  return { errors, children }
}

async function refusals(t, sources, wrap = []) {
  const { errors, children } = await inProcess(refusing, { with: { wrap } }, sources)
  t.is(children, '')
  return errors
}

/** By options: the error's code, and what its message says. */
const REFUSED = {
  ERR_INVALID_ARG_TYPE: {
    'null, {}': /"fn" argument must be of type function\. Received null/,
    "'() => 0'": /"fn" argument must be of type function/,
    '() => 0, null': /"options" argument must be an object/,
    '() => 0, 5': /"options" argument must be an object/,
    "{ stackSize: '4096' }": /options\.stackSize.*must be of type number/,
    '{ exitSignal: null }': /options\.exitSignal/,
    "{ setTid: '5' }": /options\.setTid.*Array/,
    '{ setTid: 5 }': /options\.setTid.*Array/,
    "{ setTid: [1, '2'] }": /options\.setTid\[1\]/,
    '{ cgroup: null }': /options\.cgroup.*string or number/,
    '{ parentTid: [0] }': /options\.parentTid.*Int32Array/,
    '{ childTid: new Uint32Array(1) }': /options\.childTid.*Int32Array/,
    "{ flags: 'user', uidMappings: 5 }": /options\.uidMappings.*string or an instance of Array/,
    "{ flags: 'user', gidMappings: [5] }": /options\.gidMappings\[0\].*object/,
    "{ flags: 'user', gidMappings: [{ inside: 0, outside: 0 }] }": /options\.gidMappings\[0\]\.count/,
    "{ flags: 'user', setgroups: true }": /options\.setgroups.*string/,
    "{ flags: 'time', timeOffsets: 5 }": /options\.timeOffsets.*object/,
    "{ flags: 'time', timeOffsets: { boottime: '5' } }": /options\.timeOffsets\.boottime/,
  },
  ERR_OUT_OF_RANGE: {
    '{ stackSize: 1 }': /options\.stackSize.*0 or >= 4096\. Received 1/,
    '{ stackSize: 4095 }': /options\.stackSize/,
    '{ stackSize: -1 }': /options\.stackSize/,
    '{ stackSize: 8192.5 }': /options\.stackSize.*integer/,
    '{ flags: 2 ** 53 }': /options\.flags/,
    '{ flags: 0.5 }': /options\.flags.*integer/,
    '{ exitSignal: 0.5 }': /options\.exitSignal/,
    '{ setTid: [2 ** 31] }': /options\.setTid\[0\]/,
    '{ cgroup: 2 ** 31 }': /options\.cgroup/,
    "{ flags: 'user', uidMappings: [{ inside: -1, outside: 0, count: 1 }] }":
      /options\.uidMappings\[0\]\.inside/,
    "{ flags: 'user', uidMappings: [{ inside: 0, outside: 2 ** 32, count: 1 }] }":
      /options\.uidMappings\[0\]\.outside/,
    "{ flags: 'user', uidMappings: [{ inside: 0, outside: 0, count: 0 }] }":
      /options\.uidMappings\[0\]\.count/,
    "{ flags: 'time', timeOffsets: { monotonic: -1 } }": /options\.timeOffsets\.monotonic/,
    "{ flags: 'time', timeOffsets: { monotonic: -1e-9 } }": /options\.timeOffsets\.monotonic/,
    "{ flags: 'time', timeOffsets: { boottime: Infinity } }": /options\.timeOffsets\.boottime/,
    "{ flags: 'time', timeOffsets: { boottime: NaN } }": /options\.timeOffsets\.boottime/,
  },
  ERR_INVALID_ARG_VALUE: {
    '{ flag: 0 }': /options\.flag' is not an option; did you mean 'flags'\?/,
    '{ stacksize: 0 }': /did you mean 'stackSize'\?/,
    '{ uidMapping: [] }': /did you mean 'uidMappings'\?/,
    '{ detached: true }': /is not an option; known are flags, stackSize/,
    "{ flags: 'network' }": /options\.flags/,
    '{ flags: lib.CLONE_VM }': /CLONE_VM shares the memory.*Worker/,
    '{ flags: lib.CLONE_THREAD }': /CLONE_THREAD makes a thread.*Worker/,
    '{ flags: lib.CLONE_THREAD | lib.CLONE_SIGHAND | lib.CLONE_VM }': /cannot carry JavaScript/,
    '{ flags: lib.CLONE_SIGHAND }': /CLONE_SIGHAND needs CLONE_VM/,
    '{ flags: lib.CLONE_VFORK }': /CLONE_VFORK.*waitSync\(\)/,
    '{ flags: lib.CLONE_SETTLS }': /CLONE_SETTLS/,
    '{ flags: lib.SIGCHLD }': /the signal is options\.exitSignal/,
    '{ flags: lib.CLONE_NEWUTS | 1 }': /the signal is options\.exitSignal/,
    '{ flags: lib.CLONE_PARENT_SETTID }': /CLONE_PARENT_SETTID, which needs options\.parentTid/,
    '{ flags: lib.CLONE_CHILD_SETTID }': /CLONE_CHILD_SETTID, which needs options\.childTid/,
    '{ flags: lib.CLONE_CHILD_CLEARTID }': /CLONE_CHILD_CLEARTID, which needs options\.childTid/,
    '{ flags: lib.CLONE_INTO_CGROUP }': /CLONE_INTO_CGROUP, which needs options\.cgroup/,
    "{ flags: lib.CLONE_PARENT, exitSignal: 'SIGUSR1' }": /options\.exitSignal.*CLONE_PARENT/,
    '{ setTid: [] }': /options\.setTid/,
    '{ parentTid: new Int32Array(0) }': /options\.parentTid/,
    "{ cgroup: '/a\\0b' }": /options\.cgroup.*null bytes/,
    "{ uidMappings: 'root' }": /options\.uidMappings.*new user namespace/,
    "{ flags: 'uts', gidMappings: 'root' }": /options\.gidMappings.*new user namespace/,
    "{ setgroups: 'deny' }": /options\.setgroups.*new user namespace/,
    "{ flags: 'user', uidMappings: 'Root' }": /'root', 'current', 'auto', 'all'/,
    "{ flags: 'user', uidMappings: [] }": /options\.uidMappings/,
    "{ flags: 'user', uidMappings: [{ inside: 0, outside: 0, counts: 1 }] }": /did you mean 'count'\?/,
    "{ flags: 'user', setgroups: 'denied' }": /'allow' or 'deny'/,
    '{ timeOffsets: { boottime: 1 } }': /options\.timeOffsets.*time namespace/,
    "{ flags: 'time', timeOffsets: { boot: 1 } }": /options\.timeOffsets\.boot/,
  },
  ERR_UNKNOWN_SIGNAL: {
    "{ exitSignal: 'SIGNOT' }": /Unknown signal: SIGNOT/,
    "{ exitSignal: 'sigchld' }": /Unknown signal: sigchld/,
    "{ exitSignal: 'constructor' }": /Unknown signal: constructor/,
  },
}

for (const [code, cases] of Object.entries(REFUSED)) {
  test(`clone refuses with ${code}, and its reason, before there is a child`, async (t) => {
    const given = Object.keys(cases).map((source) => (source.startsWith('{') ? `() => 0, ${source}` : source))
    const errors = await refusals(t, given)
    for (const [i, [source, message]] of Object.entries(cases).entries()) {
      t.like(errors[i], { code, name: code === 'ERR_OUT_OF_RANGE' ? 'RangeError' : 'TypeError' }, source)
      t.regex(errors[i].message, message, source)
      // It is the caller's error.
      t.regex(errors[i].first, /refusing|evalmachine/, source)
    }
  })
}

test('clone without a function is refused', async (t) => {
  const [error] = await refusals(t, [''])
  t.like(error, { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' })
  t.regex(error.message, /Received undefined/)
})

test('what clone cannot get is an error with its step, and leaves no child', async (t) => {
  const cases = [
    ['stackSize: 2 ** 40', { code: 'ENOMEM', step: 'clone' }],
    ['stackSize: 2 ** 53 - 1', { code: 'ENOMEM', step: 'clone' }],
    ['exitSignal: 65', { code: 'EINVAL', step: 'clone' }],
    ['exitSignal: -1', { code: 'EINVAL', step: 'clone' }],
    ['setTid: [0]', { code: 'EINVAL', step: 'clone' }],
    ['setTid: [-1]', { code: 'EINVAL', step: 'clone' }],
    ['setTid: [7, 7]', { code: 'EINVAL', step: 'clone' }],
    ['setTid: Array(40).fill(7)', { code: 'EINVAL', step: 'clone' }],
    ['flags: 2 ** 40', { code: 'EINVAL', step: 'clone' }],
    ['flags: lib.CLONE_FS | lib.CLONE_NEWNS', { code: 'EINVAL', step: 'clone' }],
    ['flags: lib.CLONE_FS | lib.CLONE_NEWUSER', { code: 'EINVAL', step: 'clone' }],
    ['flags: lib.CLONE_NEWIPC | lib.CLONE_SYSVSEM', { code: 'EINVAL', step: 'clone' }],
    [
      "cgroup: '/sys/fs/cgroup/not-there'",
      { code: 'ENOENT', step: 'cgroup', syscall: 'open', path: '/sys/fs/cgroup/not-there' },
    ],
    ["cgroup: ''", { code: 'ENOENT', step: 'cgroup' }],
    ["cgroup: '/proc/version'", { code: 'ENOTDIR', step: 'cgroup' }],
    ["cgroup: '/'", { code: 'EBADF', step: 'cgroup' }],
    ['cgroup: 9999', { code: 'EBADF', step: 'cgroup' }],
    ['cgroup: -1', { code: 'EINVAL' }],
  ]
  const errors = await refusals(
    t,
    cases.map(([options]) => `() => 0, { ${options} }`),
    privileged,
  )
  for (const [i, [options, expected]] of cases.entries()) t.like(errors[i], expected, options)
})

test('a pid that is taken is EEXIST', async (t) => {
  const wrap = [...inUserNamespace, '--pid', '--fork', '--mount-proc']
  const [error] = await refusals(t, ['() => 0, { setTid: [process.pid] }'], wrap)
  t.like(error, { name: 'Error', code: 'EEXIST', step: 'clone', syscall: 'clone3' })
})

test('Child.kill takes signals only, and what is none changes nothing', async (t) => {
  const { wrong, unknown, running } = await inProcess(
    async ({ lib }, modules) => {
      const require = process.getBuiltinModule('module').createRequire(modules.table)
      const { CALL, outcome, signal, simple } = require(modules.table)
      const child = lib.clone(() => new Promise((resolve) => setTimeout(resolve, 100_000)))
      const kill = { name: 'kill', parameters: [{ name: 'signal' }] }
      const isWrong = (each) => each.value !== undefined && !signal(each).includes(CALL)
      const wrong = simple.filter(isWrong).flatMap((each) => {
        const got = outcome({ kill: (value) => child.kill(value) }, undefined, kill, [each.make()])
        return signal(each).includes(got) ? [] : [`kill(${each.label}) came to ${got}`]
      })
      const code = (number) => {
        try {
          return child.kill(number)
        } catch ({ code, syscall }) {
          return `${code} ${syscall}`
        }
      }
      const unknown = [65, -1, 2 ** 31 - 1].map(code)
      const running = child.kill(0)
      child.kill('SIGKILL')
      await child.wait()
      return { wrong, unknown, running }
    },
    { with: { wrap: [] } },
    modules,
  )
  t.deepEqual(wrong, [])
  t.deepEqual(unknown, Array(3).fill('EINVAL pidfd_send_signal'))
  t.true(running)
})
