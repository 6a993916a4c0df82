import test from 'ava'
import { changes, threadsOfCaller } from './helpers/proc.mjs'
import { inProcess, inUserNamespace, isRoot, privileged } from './helpers/process.mjs'

const seen = { with: { outside: threadsOfCaller } }
const unprivileged = isRoot ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : []

/** Looks at the process before and after `unshare(flags)` on its main thread. */
const around = (flags) =>
  inProcess(
    async ({ lib, outside }, flags) => {
      const before = await outside()
      lib.unshare(flags)
      return { before, after: await outside() }
    },
    seen,
    flags,
  )

const failing = (flags, options = {}) =>
  inProcess(
    async ({ lib, outside }, flags) => {
      const before = await outside()
      try {
        lib.unshare(flags)
      } catch (error) {
        const { name, message, code, errno, syscall, hint } = error
        return { error: { name, message, code, errno, syscall, hint }, before, after: await outside() }
      }
      return { error: null }
    },
    { with: { outside: threadsOfCaller, ...options } },
    flags,
  )

for (const type of ['mnt', 'uts', 'ipc', 'net', 'cgroup']) {
  test(`unshare('${type}') moves the calling thread, and no other`, async (t) => {
    const { before, after } = await around(type)
    t.true(after.length > 2)
    t.deepEqual(changes(before, after), [`main ${type}`])
  })
}

test("unshare('pid') is for children: this thread stays, and its first child is pid 1", async (t) => {
  const { before, after, status } = await inProcess(
    async ({ lib, cp, fs, outside }) => {
      const before = await outside()
      lib.unshare('pid')
      const after = await outside()
      const child = cp.spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
      const status = fs.readFileSync(`/proc/${child.pid}/status`, 'utf8')
      return { before, after, status }
    },
    { with: { outside: threadsOfCaller } },
  )
  t.deepEqual(changes(before, after), ['main pid_for_children'])
  t.regex(status, /^NSpid:\t.*\t1$/m)
})

test("unshare('time') is for children: this thread stays", async (t) => {
  const { before, after, child } = await inProcess(
    async ({ lib, cp, outside }) => {
      const before = await outside()
      lib.unshare('time')
      const child = cp.execFileSync('readlink', ['/proc/self/ns/time'], { encoding: 'utf8' }).trim()
      return { before, child, after: await outside() }
    },
    { with: { outside: threadsOfCaller } },
  )
  t.deepEqual(changes(before, after), ['main time_for_children'])
  t.is(child, after.find(({ isMain }) => isMain).ns.time_for_children)
})

test('Namespaces by constant are the same as by name', async (t) => {
  const { before, after } = await inProcess(
    async ({ lib, outside }) => {
      const before = await outside()
      lib.unshare(lib.CLONE_NEWUTS | lib.CLONE_NEWIPC)
      return { before, after: await outside() }
    },
    { with: { outside: threadsOfCaller } },
  )
  t.deepEqual(changes(before, after), ['main ipc', 'main uts'])
})

test('An array of names is all of them at once', async (t) => {
  const { before, after } = await around(['net', 'mnt', 'cgroup'])
  t.deepEqual(changes(before, after), ['main cgroup', 'main mnt', 'main net'])
})

for (const nothing of [0, []]) {
  test(`unshare(${JSON.stringify(nothing)}) changes nothing, and needs no privilege`, async (t) => {
    const { before, after } = await inProcess(
      async ({ lib, outside }, flags) => {
        const before = await outside()
        const returned = lib.unshare(flags)
        return { before, returned, after: await outside() }
      },
      { with: { outside: threadsOfCaller, wrap: unprivileged } },
      nothing,
    )
    t.deepEqual(changes(before, after), [])
  })
}

test('unshare(CLONE_FS) gives the calling thread a working directory and umask of its own', async (t) => {
  const { before, after } = await inProcess(
    async ({ lib, outside }) => {
      process.umask(0o022)
      process.chdir('/')
      const before = await outside()
      lib.unshare(lib.CLONE_FS)
      process.chdir('/proc')
      process.umask(0o077)
      return { before, after: await outside() }
    },
    { with: { outside: threadsOfCaller } },
  )
  t.true(before.every(({ cwd, umask }) => cwd === '/' && umask === '0022'))
  const [main, others] = [after.filter(({ isMain }) => isMain), after.filter(({ isMain }) => !isMain)]
  t.deepEqual(
    main.map(({ cwd, umask }) => [cwd, umask]),
    [['/proc', '0077']],
  )
  t.true(others.length > 1)
  t.true(others.every(({ cwd, umask }) => cwd === '/' && umask === '0022'))
})

test('unshare(CLONE_FILES) gives the calling thread a descriptor table of its own', async (t) => {
  const { shared, own } = await inProcess(({ lib, fs }) => {
    const holders = (fd) =>
      fs.readdirSync('/proc/self/task').filter((tid) => fs.existsSync(`/proc/self/task/${tid}/fd/${fd}`))
        .length
    const shared = holders(fs.openSync('/dev/null'))
    lib.unshare(lib.CLONE_FILES)
    return { shared, own: holders(fs.openSync('/dev/null')) }
  })
  t.true(shared > 2)
  t.is(own, 1)
})

test('Bits that JavaScript makes negative reach the kernel as unsigned', async (t) => {
  const CLONE_IO = 0x80000000
  for (const bits of [CLONE_IO, CLONE_IO | 0]) {
    const { error, before, after } = await failing(bits)
    t.is(error.code, 'EINVAL')
    t.is(error.syscall, 'unshare')
    t.deepEqual(changes(before, after), [])
  }
})

test("A bit that the kernel does not know is the kernel's to refuse", async (t) => {
  const { error, before, after } = await failing(0x04000000 | 1)
  t.like(error, { name: 'Error', code: 'EINVAL', errno: -22, syscall: 'unshare' })
  t.is(error.message, 'EINVAL: invalid argument, unshare')
  t.regex(error.hint, /does not know one of the flags/)
  t.deepEqual(changes(before, after), [])
})

test('One that is refused takes the others with it', async (t) => {
  const { error, before, after } = await failing(['uts', 'user'])
  t.is(error.code, 'EINVAL')
  t.deepEqual(changes(before, after), [])
})

test('A user namespace is refused, and the hint names what makes one', async (t) => {
  const { error } = await failing('user')
  t.like(error, { code: 'EINVAL', syscall: 'unshare' })
  t.regex(error.hint, /clone\(\).*spawn\(\).*Namespace/)
})

test('A second pid namespace for children is refused, and the hint says so', async (t) => {
  const error = await t.throwsAsync(
    inProcess(({ lib }) => {
      lib.unshare('pid')
      lib.unshare('pid')
    }),
  )
  t.like(error, { code: 'EINVAL', syscall: 'unshare' })
  t.regex(error.hint, /has made a pid namespace for its children already/)
})

for (const type of ['uts', 'ipc', 'net', 'mnt', 'cgroup', 'pid', 'time']) {
  test(`A limit of 0 for ${type} is ENOSPC, and the hint names the sysctl`, async (t) => {
    const error = await t.throwsAsync(
      inProcess(
        ({ lib, fs }, type) => {
          fs.writeFileSync(`/proc/sys/user/max_${type}_namespaces`, '0')
          lib.unshare(type)
        },
        { with: { wrap: inUserNamespace } },
        type,
      ),
    )
    t.like(error, { code: 'ENOSPC', syscall: 'unshare' })
    t.true(error.hint.includes(`user.max_${type}_namespaces (here 0)`), error.hint)
  })
}

test('Without privilege it is EPERM, and the hint says what is needed', async (t) => {
  for (const type of ['mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup', 'time']) {
    const { error, before, after } = await failing(type, { wrap: unprivileged })
    t.like(error, { code: 'EPERM', errno: -1, syscall: 'unshare' })
    t.regex(error.hint, /CAP_SYS_ADMIN.*user namespace/)
    t.deepEqual(changes(before, after), [])
  }
})

test("A Worker's call moves the Worker, and no other thread", async (t) => {
  const { before, after, tid } = await inProcess(
    async ({ workers, outside }, library) => {
      const worker = new workers.Worker(
        `const { parentPort, workerData } = require('node:worker_threads')
         const tid = Number(require('node:fs').readlinkSync('/proc/thread-self').split('/').pop())
         parentPort.postMessage(tid)
         parentPort.once('message', () => {
           require(workerData).unshare('uts')
           parentPort.postMessage('done')
           parentPort.once('message', () => {})
         })`,
        { eval: true, workerData: library },
      )
      const message = () => new Promise((resolve) => worker.once('message', resolve))
      const tid = await message()
      const before = await outside()
      worker.postMessage('go')
      await message()
      return { before, after: await outside(), tid }
    },
    { with: { outside: threadsOfCaller, wrap: privileged } },
    new URL('../index.js', import.meta.url).pathname,
  )
  const moved = after.filter((now) => before.find((then) => then.tid === now.tid)?.ns.uts !== now.ns.uts)
  t.deepEqual(
    moved.map((thread) => thread.tid),
    [tid],
  )
})
