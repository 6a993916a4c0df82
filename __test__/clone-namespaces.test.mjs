import { mkdirSync, readFileSync, rmdirSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import lib from '../index.js'
import { cloning } from './helpers/cloning.mjs'
import { temporaryDirectory, unprivileged } from './helpers/machine.mjs'
import { available, inUserNamespace, isRoot, privileged, slowness } from './helpers/process.mjs'

// What root alone may do is looked at as root alone.
const asRoot = isRoot ? test : () => {}

const types = ['mnt', 'uts', 'ipc', 'net', 'pid', 'user', 'cgroup', 'time']
const bits = {
  mnt: 0x20000,
  uts: 0x4000000,
  ipc: 0x8000000,
  net: 0x40000000,
  pid: 0x20000000,
  user: 0x10000000,
  cgroup: 0x2000000,
  time: 0x80,
}
const inPidNamespace = [...(isRoot ? ['unshare'] : privileged), '--pid', '--fork', '--kill-child']

/** In which namespaces a child is that its parent is not in, for each of these flags. */
const differences = (all, wrap = privileged) =>
  cloning(
    async ({ fs, during }, all, types) => {
      const of = (pid) => types.map((type) => fs.readlinkSync(`/proc/${pid}/ns/${type}`))
      const found = []
      for (const flags of all) {
        await during({ flags }, ({ pid }) => {
          const [ours, theirs] = [of('self'), of(pid)]
          found.push(types.filter((_, index) => ours[index] !== theirs[index]))
        })
      }
      return found
    },
    { with: { wrap } },
    all,
    types,
  )

for (const type of types) {
  test(`A child with '${type}' is in a new namespace of that type alone, by name and by number`, async (t) => {
    t.deepEqual(
      await differences([type, [type], bits[type], lib[`CLONE_NEW${type.toUpperCase()}`] ?? bits[type]]),
      [[type], [type], [type], [type]],
    )
  })
}

test('A child can be in new namespaces of all types, by name and by number, without any privilege', async (t) => {
  const number = Object.values(bits).reduce((sum, bit) => sum + bit)
  t.deepEqual(await differences([types, number, number | 0, [], 0], []), [types, types, types, [], []])
})

test('In a new pid namespace the child is pid 1, and its own children are reaped', async (t) => {
  const { value, code } = await cloning(({ fs, cp, ask }) =>
    ask(
      async () => {
        const codes = [cp.spawnSync('sh', ['-c', 'exit 4']).status]
        const spawned = cp.spawn('sh', ['-c', 'exit 5'])
        codes.push(await new Promise((resolve) => spawned.once('close', resolve)))
        return {
          pids: [process.pid, process.ppid],
          shown: /^NSpid:.*\s(\d+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1],
          codes,
          children: fs.readFileSync('/proc/thread-self/children', 'utf8'),
        }
      },
      { flags: 'pid' },
    ),
  )
  t.is(code, 0)
  t.deepEqual(value, { pids: [1, 0], shown: '1', codes: [4, 5], children: '' })
})

test('What a child changes in its network, UTS and mount namespaces its parent does not see', async (t) => {
  const directory = temporaryDirectory(t)
  const result = await cloning(async ({ lib, fs, os, ask }, directory) => {
    const interfaces = () => fs.readFileSync('/proc/thread-self/net/dev', 'utf8').match(/\w+(?=:)/g)
    const before = os.hostname()
    const inside = await ask(
      async () => {
        lib.sethostname('inside')
        lib.mount(null, '/', null, lib.MS_REC | lib.MS_PRIVATE)
        lib.mount('none', directory, 'tmpfs')
        fs.writeFileSync(`${directory}/file`, '')
        lib.configureLoopback()
        const server = process.getBuiltinModule('node:net').createServer().listen(1, '127.0.0.1')
        await new Promise((resolve, reject) => server.once('listening', resolve).once('error', reject))
        return { hostname: os.hostname(), files: fs.readdirSync(directory), interfaces: interfaces() }
      },
      { flags: ['net', 'uts', 'mnt'] },
    )
    return { before, inside: inside.value, after: os.hostname(), files: fs.readdirSync(directory) }
  }, directory)
  t.deepEqual(result.inside, { hostname: 'inside', files: ['file'], interfaces: ['lo'] })
  t.is(result.after, result.before)
  t.deepEqual(result.files, [])
})

test('setTid chooses the pid, from the innermost namespace outwards', async (t) => {
  const result = await cloning(
    async ({ fs, ask, refused, during }) => {
      const look = () => {
        const shown = /^NSpid:\s*(.*)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]
        return [process.pid, ...shown.split('\t').slice(-2).map(Number)]
      }
      const chosen = await ask(look, { setTid: [4321] })
      const again = await ask(look, { setTid: [4321] })
      const both = await ask(look, { setTid: [1, 777], flags: 'pid' })
      const taken = await during({ setTid: [555] }, () => [
        refused({ setTid: [555] }),
        refused({ setTid: [1] }),
      ])
      const wrong = [[0], [-1], [2, 3], [7, 8, 9, 10], [2 ** 31 - 1]].map((setTid) =>
        refused({ setTid, flags: setTid.length === 2 ? 'pid' : 0 }),
      )
      return { chosen, again, both, taken, wrong }
    },
    { with: { wrap: inPidNamespace } },
  )
  t.is(result.chosen.pid, 4321)
  t.deepEqual([result.chosen.value[0], result.chosen.value[2]], [4321, 4321])
  t.like(result.again, { pid: 4321, code: 0 })
  t.is(result.both.pid, 777)
  t.deepEqual(result.both.value, [1, 777, 1])
  for (const error of result.taken) {
    t.like(error, { code: 'EEXIST', syscall: 'clone3', step: 'clone', leaves: [], next: 42 })
    t.regex(error.hint, /pid/)
  }
  for (const error of result.wrong) {
    t.like(error, { code: 'EINVAL', syscall: 'clone3', step: 'clone', leaves: [], next: 42 })
    t.regex(error.hint, /setTid/)
  }
})

test('setTid in a pid namespace of another user namespace is EPERM', async (t) => {
  const error = await cloning(({ refused }) => refused({ setTid: [4321] }), {
    with: { wrap: inUserNamespace },
  })
  t.like(error, { code: 'EPERM', step: 'clone', leaves: [], next: 42 })
})

const cgroup2 = /^(?:\S+ ){4}(\S+) .* - cgroup2 /m.exec(readFileSync('/proc/self/mountinfo', 'utf8'))?.[1]

/** A cgroup of cgroup v2 that is gone after the test; none where we may not make one. */
function cgroup(t) {
  const directory = path.join(cgroup2 ?? '/nonexistent', `linux-clone-${process.pid}`)
  try {
    mkdirSync(directory)
  } catch {
    return undefined
  }
  t.teardown(() => rmdirSync(directory))
  return directory
}

asRoot(
  'cgroup: the child starts in it, by its path and by a descriptor, and sees it as its root',
  async (t) => {
    const directory = cgroup(t)
    if (!available(t, directory !== undefined, 'a directory of cgroup v2 that we may write')) return
    const { looks, descriptors } = await cloning(async ({ fs, during, ask }, directory) => {
      const looks = []
      const fd = fs.openSync(directory)
      const own = (text) => /^0::(.*)$/m.exec(text)[1]
      const count = () => fs.readdirSync('/proc/self/fd').length
      await ask(() => {})
      const before = count()
      for (const cgroup of [directory, fd]) {
        await during({ cgroup }, ({ pid }) => {
          const members = fs.readFileSync(`${directory}/cgroup.procs`, 'utf8')
          looks.push([own(fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8')), members === `${pid}\n`])
        })
      }
      const look = () => own(fs.readFileSync('/proc/self/cgroup', 'utf8'))
      const { value } = await ask(look, { cgroup: directory, flags: 'cgroup' })
      looks.push([value, true])
      return { looks, descriptors: count() - before }
    }, directory)
    const name = `/${path.basename(directory)}`
    t.true(looks[0][0].endsWith(name))
    t.deepEqual(looks, [
      [looks[0][0], true],
      [looks[0][0], true],
      ['/', true],
    ])
    t.is(descriptors, 0)
  },
)

test('A cgroup that is none, or is not there, is refused by the step cgroup', async (t) => {
  const directory = temporaryDirectory(t)
  const errors = await cloning(({ fs, refused }, directory) => {
    const file = fs.openSync('/proc/self/comm')
    return [directory, fs.openSync(directory), file, 2 ** 30, `${directory}/none`, '/proc/self/comm'].map(
      (cgroup) => refused({ cgroup }),
    )
  }, directory)
  t.deepEqual(
    errors.map(({ code }) => code),
    ['EBADF', 'EBADF', 'EBADF', 'EBADF', 'ENOENT', 'ENOTDIR'],
  )
  for (const error of errors) t.like(error, { step: 'cgroup', leaves: [], next: 42 })
  for (const { hint } of errors.slice(0, 4)) t.regex(hint, /cgroup-v2/)
})

test('A cgroup that this user may not write is EACCES, and the hint says what has to be writable', async (t) => {
  if (!available(t, cgroup2 !== undefined, 'cgroup v2')) return
  const error = await cloning(
    ({ lib, refused, becomeOrdinary }, cgroup) => {
      lib.clone(() => {}).waitSync()
      becomeOrdinary()
      return refused({ cgroup })
    },
    { with: { wrap: [] } },
    cgroup2,
  )
  t.like(error, { code: 'EACCES', syscall: 'clone3', step: 'cgroup', leaves: [], next: 42 })
  t.regex(error.hint, /cgroup\.procs/)
})

const SECOND = 10n ** 9n

for (const [timeOffsets, lines] of [
  [
    { monotonic: 1000, boottime: 2000 },
    { monotonic: 1000n * SECOND, boottime: 2000n * SECOND },
  ],
  [{ monotonic: 0.123456789 }, { monotonic: 123_456_789n, boottime: 0n }],
  [
    { monotonic: 1.000000001, boottime: 86_400.5 },
    { monotonic: SECOND + 1n, boottime: 86_400n * SECOND + SECOND / 2n },
  ],
  [{ boottime: -1.25 }, { monotonic: 0n, boottime: -(SECOND + SECOND / 4n) }],
  [
    { monotonic: 0, boottime: 0 },
    { monotonic: 0n, boottime: 0n },
  ],
  [{ monotonic: 1e9 }, { monotonic: 10n ** 18n, boottime: 0n }],
  [{}, { monotonic: 0n, boottime: 0n }],
]) {
  test(`timeOffsets ${JSON.stringify(timeOffsets)} are the child's, whose timers work`, async (t) => {
    const result = await cloning(async ({ fs, ask, during }, timeOffsets) => {
      const uptime = () => Number(fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0])
      const clock = () => [Number(process.hrtime.bigint()) / 1e9, uptime()]
      const options = { flags: 'time', timeOffsets }
      const shown = await during(options, ({ pid }) => fs.readFileSync(`/proc/${pid}/timens_offsets`, 'utf8'))
      // Whatever the parent waits for is nothing to the child.
      const late = setTimeout(() => process._rawDebug('a timer of the parent rang'), 1e9)
      const before = clock()
      const look = async () => {
        const [first, begin] = [clock(), Date.now()]
        for (let round = 0; round < 3; round++) await new Promise((resolve) => setTimeout(resolve, 20))
        await new Promise((resolve) => setImmediate(resolve))
        return { first, took: Date.now() - begin, measured: clock()[0] - first[0] }
      }
      const child = await ask(look, options)
      const after = clock()
      clearTimeout(late)
      const link = fs.readlinkSync('/proc/self/ns/time')
      return {
        shown,
        before,
        after,
        child,
        left: link === fs.readlinkSync('/proc/self/ns/time_for_children'),
      }
    }, timeOffsets)
    const shown = Object.fromEntries(
      result.shown
        .trim()
        .split('\n')
        .map((line) => line.trim().split(/\s+/))
        .map(([clock, seconds, nanoseconds]) => [clock, BigInt(seconds) * SECOND + BigInt(nanoseconds)]),
    )
    t.deepEqual(shown, lines)
    t.is(result.child.code, 0)
    const { first, took, measured } = result.child.value
    for (const [index, offset] of [lines.monotonic, lines.boottime].entries()) {
      const seconds = Number(offset) / 1e9
      // What /proc/uptime shows has two digits behind the point.
      t.true(first[index] > result.before[index] + seconds - 0.02, `${first} after ${result.before}`)
      t.true(first[index] < result.after[index] + seconds + 0.02, `${first} before ${result.after}`)
    }
    t.true(took >= 57 && took < 30_000 * slowness, `${took} ms`)
    t.true(measured >= 0.057 && measured < 30 * slowness, `${measured} s`)
    t.true(result.left)
  })
}

test('A monotonic clock that jumps back is ERR_OUT_OF_RANGE, and offsets beyond the kernel are refused by it', async (t) => {
  const errors = await cloning(({ refused }) =>
    [
      { monotonic: -1 },
      { monotonic: -1e-9 },
      { monotonic: 1e15 },
      { boottime: 1e15 },
      { boottime: -1e9 },
    ].map((timeOffsets) => refused({ flags: 'time', timeOffsets })),
  )
  for (const error of errors) t.like(error, { leaves: [], next: 42 })
  for (const error of errors.slice(0, 2)) t.is(error.code, 'ERR_OUT_OF_RANGE')
  for (const error of errors.slice(2))
    t.like(error, { code: 'ERANGE', syscall: 'write', step: 'time-offsets' })
})

test('Without privilege every type but user is EPERM, and the hint says what it needs', async (t) => {
  const errors = await cloning(
    ({ refused }, types) => types.map((flags) => refused({ flags })),
    { with: { wrap: unprivileged } },
    types.filter((type) => type !== 'user'),
  )
  for (const error of errors) {
    t.like(error, { code: 'EPERM', step: 'clone', leaves: [], next: 42 })
    t.regex(error.hint, /CAP_SYS_ADMIN/)
  }
})

for (const type of types) {
  const sysctl = `max_${type}_namespaces`
  test(`More namespaces of the type ${type} than ${sysctl} are ENOSPC, and the hint names it`, async (t) => {
    const error = await cloning(
      ({ fs, refused }, type, sysctl) => {
        fs.writeFileSync(`/proc/sys/user/${sysctl}`, '0')
        return refused({ flags: type })
      },
      { with: { wrap: inUserNamespace } },
      type,
      sysctl,
    )
    t.like(error, { code: 'ENOSPC', step: 'clone', leaves: [], next: 42 })
    t.true(error.hint.includes(`user.${sysctl} (here 0)`), error.hint)
  })
}

for (const isFirst of [true, false]) {
  test(`More processes than RLIMIT_NPROC are EAGAIN, where it is ${isFirst ? '' : 'not '}the first clone`, async (t) => {
    const error = await cloning(
      ({ lib, cp, becomeOrdinary }, isFirst) => {
        if (!isFirst) lib.clone(() => {}).waitSync()
        becomeOrdinary()
        cp.execFileSync('prlimit', ['--nproc=1:', '--pid', `${process.pid}`])
        try {
          return { code: lib.clone(() => {}).waitSync().code }
        } catch ({ code, step, hint }) {
          return { code, step, hint }
        }
      },
      { with: { wrap: [] } },
      isFirst,
    )
    t.like(error, { code: 'EAGAIN', step: 'clone' })
    t.regex(error.hint, /RLIMIT_NPROC/)
  })
}

asRoot('A process that has given up root can clone', async (t) => {
  const { value } = await cloning(
    ({ ask, becomeOrdinary }) => {
      becomeOrdinary()
      return ask(() => process.getuid())
    },
    { with: { wrap: [] } },
  )
  t.is(value, 54321)
})
