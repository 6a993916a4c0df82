import test from 'ava'
import { inProcess, inUserNamespace } from './helpers/process.mjs'

const ordered = (t, result) => t.true(result === 1 || result === 2, `kcmp returned ${result}`)

test('KCMP_FILE: a descriptor and what a child has inherited of it are equal', async (t) => {
  const result = await inProcess(({ lib, cp, fs }) => {
    const [first, second] = [fs.openSync('/dev/null'), fs.openSync('/dev/null')]
    const child = cp.spawn('cat', { stdio: ['pipe', first, 'ignore'] })
    const compare = (fd) => lib.kcmp(process.pid, child.pid, lib.KCMP_FILE, fd, 1)
    const seen = { inherited: compare(first), other: compare(second) }
    const own = lib.kcmp(process.pid, process.pid, lib.KCMP_FILE, first, first)
    const apart = lib.kcmp(process.pid, process.pid, lib.KCMP_FILE, first, second)
    child.kill('SIGKILL')
    return { ...seen, own, apart }
  })
  t.is(result.inherited, 0)
  t.is(result.own, 0)
  ordered(t, result.other)
  ordered(t, result.apart)
})

test('the order is the opposite when the processes change places', async (t) => {
  const [one, other] = await inProcess(({ lib, cp }) => {
    const child = cp.spawn('cat')
    const both = [
      lib.kcmp(process.pid, child.pid, lib.KCMP_VM),
      lib.kcmp(child.pid, process.pid, lib.KCMP_VM),
    ]
    child.kill('SIGKILL')
    return both
  })
  ordered(t, one)
  t.is(other, 3 - one)
})

test('of what processes share, a process and its child share nothing', async (t) => {
  const result = await inProcess(({ lib, cp }) => {
    const child = cp.spawn('cat')
    const types = ['KCMP_VM', 'KCMP_FILES', 'KCMP_FS', 'KCMP_SIGHAND', 'KCMP_SYSVSEM']
    const compare = (pid) =>
      Object.fromEntries(types.map((type) => [type, lib.kcmp(process.pid, pid, lib[type])]))
    const seen = { own: compare(process.pid), other: compare(child.pid) }
    child.kill('SIGKILL')
    return seen
  })
  t.deepEqual(Object.values(result.own), [0, 0, 0, 0, 0])
  for (const order of Object.values(result.other)) ordered(t, order)
})

test('KCMP_IO tells a process with an I/O context from one without', async (t) => {
  const result = await inProcess(({ lib, cp }) => {
    const prioritized = cp.spawn('sh', ['-c', 'ionice -c 2 -n 7 -p $$; echo; exec cat'])
    return new Promise((resolve) => {
      prioritized.stdout.once('data', () => {
        const plain = [cp.spawn('cat'), cp.spawn('cat')]
        const compare = (...children) => lib.kcmp(...children.map(({ pid }) => pid), lib.KCMP_IO)
        const seen = { plain: compare(...plain), own: compare(prioritized, prioritized) }
        const other = compare(plain[0], prioritized)
        for (const child of [prioritized, ...plain]) child.kill('SIGKILL')
        resolve({ ...seen, other })
      })
    })
  })
  t.deepEqual([result.plain, result.own], [0, 0])
  ordered(t, result.other)
})

/** Compares the main thread with a Worker's, before and after `unshare(flag)`. */
const betweenThreads = (flag) =>
  inProcess(async ({ lib, fs, workers }, flag) => {
    const before = new Set(fs.readdirSync('/proc/self/task'))
    const worker = new workers.Worker(
      "require('node:worker_threads').parentPort.postMessage('up'); setInterval(() => {}, 1e6)",
      { eval: true },
    )
    await new Promise((resolve) => worker.once('message', resolve))
    const tid = Number(fs.readdirSync('/proc/self/task').find((name) => !before.has(name)))
    const types = Object.keys(lib).filter((name) => /^KCMP_(?!FILE$|EPOLL)/.test(name))
    const compare = () =>
      Object.fromEntries(types.map((type) => [type, lib.kcmp(process.pid, tid, lib[type])]))
    const file = lib.kcmp(process.pid, tid, lib.KCMP_FILE, 3, 3)
    const shared = compare()
    lib.unshare(lib[flag])
    return { file, shared, unshared: compare() }
  }, flag)

for (const [flag, type] of [
  ['CLONE_FS', 'KCMP_FS'],
  ['CLONE_FILES', 'KCMP_FILES'],
  ['CLONE_SYSVSEM', 'KCMP_SYSVSEM'],
]) {
  test(`threads share everything, and after unshare(${flag}) all but ${type}`, async (t) => {
    const { file, shared, unshared } = await betweenThreads(flag)
    t.is(file, 0)
    t.deepEqual(shared, {
      KCMP_VM: 0,
      KCMP_FILES: 0,
      KCMP_FS: 0,
      KCMP_SIGHAND: 0,
      KCMP_IO: 0,
      KCMP_SYSVSEM: 0,
    })
    const { [type]: own, ...rest } = unshared
    ordered(t, own)
    t.deepEqual(Object.values(rest), [0, 0, 0, 0, 0])
  })
}

/** A listening socket and the epoll instance of Node's that watches it, in a process that answers `question`. */
const inEpoll = (question) =>
  inProcess(async ({ lib, fs, os, until }, question) => {
    const net = process.getBuiltinModule('node:net')
    const directory = fs.mkdtempSync(`${os.tmpdir()}/linux-clone-`)
    try {
      const server = net.createServer().listen(`${directory}/socket`)
      await new Promise((resolve) => server.once('listening', resolve))
      const tfd = server._handle.fd
      const watching = (fd) => {
        try {
          return new RegExp(`^tfd: +${tfd} `, 'm').test(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))
        } catch {
          return false
        }
      }
      let efd
      // It is registered when the event loop goes to sleep.
      await until(() => {
        efd = fs.readdirSync('/proc/self/fd').map(Number).find(watching)
        return efd !== undefined
      })
      const compare = (idx1, slot) => {
        try {
          return lib.kcmp(process.pid, process.pid, lib.KCMP_EPOLL_TFD, idx1, slot)
        } catch (error) {
          return error.code
        }
      }
      const other = fs.openSync('/dev/null')
      const slots = {
        itself: [tfd, { efd, tfd, toff: 0 }],
        another: [other, { efd, tfd, toff: 0 }],
        unregistered: [tfd, { efd, tfd: other, toff: 0 }],
        second: [tfd, { efd, tfd, toff: 1 }],
        closed: [2 ** 30, { efd, tfd, toff: 0 }],
        'closed efd': [tfd, { efd: 2 ** 30, tfd, toff: 0 }],
        'no epoll': [tfd, { efd: other, tfd, toff: 0 }],
      }
      return question.map((name) => compare(...slots[name]))
    } finally {
      fs.rmSync(directory, { recursive: true })
    }
  }, question)

test("KCMP_EPOLL_TFD finds a socket in Node's own epoll instance", async (t) => {
  const [itself, another] = await inEpoll(['itself', 'another'])
  t.is(itself, 0)
  ordered(t, another)
})

test('KCMP_EPOLL_TFD: what is not registered is ENOENT, what is not open EBADF', async (t) => {
  t.deepEqual(await inEpoll(['unregistered', 'second', 'closed', 'closed efd', 'no epoll']), [
    'ENOENT',
    'ENOENT',
    'EBADF',
    'EBADF',
    'EINVAL',
  ])
})

/** What each `kcmp(...args)` throws, where the names of constants stand for them and `'self'` for the own pid. */
const refused = (...calls) =>
  inProcess(
    ({ lib }, calls) =>
      calls.map((args) => {
        try {
          return {
            result: lib.kcmp(...args.map((arg) => (arg === 'self' ? process.pid : (lib[arg] ?? arg)))),
          }
        } catch (error) {
          const { name, code, message } = error
          return { name, code, message, ...error }
        }
      }),
    calls,
  )

test('a pid that no process can have is ESRCH', async (t) => {
  const pids = [
    ['self', 2 ** 31 - 1],
    [2 ** 31 - 1, 'self'],
    ['self', -1],
    ['self', 0],
  ]
  for (const error of await refused(...pids.map((both) => [...both, 'KCMP_VM']))) {
    t.deepEqual(error, {
      name: 'Error',
      code: 'ESRCH',
      errno: -3,
      syscall: 'kcmp',
      message: 'ESRCH: no such process, kcmp',
    })
  }
})

test('a descriptor that is not open is EBADF', async (t) => {
  const indices = [
    [0, 2 ** 30],
    [2 ** 30, 0],
    [2 ** 32 - 1, 0],
    [-1, 0],
  ]
  const errors = await refused(...indices.map((both) => ['self', 'self', 'KCMP_FILE', ...both]))
  t.deepEqual(
    errors.map(({ code }) => code),
    ['EBADF', 'EBADF', 'EBADF', 'EBADF'],
  )
})

test('an unknown type is EINVAL', async (t) => {
  const errors = await refused(...[8, -1, 2 ** 31 - 1].map((type) => ['self', 'self', type]))
  t.deepEqual(
    errors.map(({ code }) => code),
    ['EINVAL', 'EINVAL', 'EINVAL'],
  )
})

test('a slot with another type is ERR_INVALID_ARG_VALUE', async (t) => {
  const slot = { efd: 0, tfd: 0, toff: 0 }
  const types = ['KCMP_FILE', 'KCMP_VM', 8]
  for (const error of await refused(...types.map((type) => ['self', 'self', type, 0, slot]))) {
    t.is(error.code, 'ERR_INVALID_ARG_VALUE')
    t.is(error.name, 'TypeError')
    t.regex(error.message, /^The argument 'idx2' .*KCMP_EPOLL_TFD/)
  }
})

test('a number, or nothing, with KCMP_EPOLL_TFD is ERR_INVALID_ARG_TYPE', async (t) => {
  const calls = [[0, 0], [0], []].map((rest) => ['self', 'self', 'KCMP_EPOLL_TFD', ...rest])
  for (const error of await refused(...calls)) {
    t.is(error.code, 'ERR_INVALID_ARG_TYPE')
    t.is(error.name, 'TypeError')
    t.regex(error.message, /^The "idx2" argument must be a slot .*KCMP_EPOLL_TFD/)
  }
})

test('a slot that lacks something, has too much, or a number that does not fit, is refused', async (t) => {
  const slots = [
    { efd: 0, tfd: 0 },
    { efd: 0, tfd: 0, toff: 0, fd: 0 },
    { efd: 0, tfd: 2 ** 32, toff: 0 },
  ]
  const [less, more, large] = await refused(
    ...slots.map((slot) => ['self', 'self', 'KCMP_EPOLL_TFD', 0, slot]),
  )
  t.is(less.code, 'ERR_INVALID_ARG_TYPE')
  t.is(less.message, 'The "idx2.toff" property must be of type number. Received undefined')
  t.is(more.code, 'ERR_INVALID_ARG_VALUE')
  t.is(large.code, 'ERR_OUT_OF_RANGE')
})

test('an index that the kernel would cut to 32 bits is ERR_OUT_OF_RANGE', async (t) => {
  const indices = [
    [2 ** 32, 0],
    [0, 2 ** 32],
    [2 ** 32 + 1, 1],
  ]
  for (const error of await refused(...indices.map((both) => ['self', 'self', 'KCMP_FILE', ...both]))) {
    t.is(error.code, 'ERR_OUT_OF_RANGE')
    t.is(error.name, 'RangeError')
  }
})

test('a process outside of the user namespace cannot be compared, and the hint says why', async (t) => {
  const error = await inProcess(
    ({ lib }, outer) => {
      try {
        return { result: lib.kcmp(process.pid, outer, lib.KCMP_VM) }
      } catch ({ code, message, hint }) {
        return { code, message, hint }
      }
    },
    { with: { wrap: inUserNamespace } },
    process.pid,
  )
  t.is(error.message, 'EPERM: operation not permitted, kcmp')
  t.regex(error.hint, /ptrace/)
})
