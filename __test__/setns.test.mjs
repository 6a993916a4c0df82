import test from 'ava'
import { changes, namespacesOf, threadsOfCaller } from './helpers/proc.mjs'
import { inProcess, inUserNamespace, isRoot, privileged } from './helpers/process.mjs'

const unprivileged = isRoot ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : []

/**
 * In the process: unshare(1) makes namespaces and stays in them; `join({ lib, fs, cp, pid, arg })` does what is tested.
 * The source of a function that is put together here, since only its text reaches the process.
 */
const joining = async ({ lib, fs, cp, outside }, { unshared, join, arg }) => {
  const target = cp.spawn('unshare', [...unshared, 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await new Promise((resolve, reject) => {
    target.stdout.once('data', resolve)
    target.once('exit', () => reject(new Error('unshare(1) failed')))
  })
  const before = await outside(target.pid)
  let error = null
  let value = null
  try {
    // biome-ignore lint/security/noGlobalEval: it comes as text, from the test.
    value = await globalThis.eval(`(${join})`)({ lib, fs, cp, pid: target.pid, arg })
  } catch (caught) {
    const { name, message, code, errno, syscall, hint } = caught
    error = { name, message, code, errno, syscall, hint }
  }
  const after = await outside(target.pid)
  target.stdin.end()
  return { error, value, before: before.own, after: after.own, target: after.target }
}

const look = async (pid, child) => ({
  own: await threadsOfCaller(pid, child),
  target: namespacesOf(`/proc/${pid}`),
})

function join(fn, { unshared = [], wrap = privileged, arg = null } = {}) {
  return inProcess(joining, { with: { outside: look, wrap } }, { unshared, join: fn.toString(), arg })
}

const mainOf = (threads) => threads.find(({ isMain }) => isMain)

for (const type of ['uts', 'ipc', 'net', 'cgroup']) {
  for (const named of [true, false]) {
    const title = `setns(fd${named ? `, '${type}'` : ''}) moves the calling thread into a ${type} namespace, and no other`
    test(title, async (t) => {
      const { error, before, after, target } = await join(
        ({ lib, fs, pid, arg: { type, named } }) => {
          const fd = fs.openSync(`/proc/${pid}/ns/${type}`)
          if (named) lib.setns(fd, type)
          else lib.setns(fd)
          fs.closeSync(fd)
        },
        { unshared: [`--${type}`], arg: { type, named } },
      )
      t.is(error, null)
      t.deepEqual(changes(before, after), [`main ${type}`])
      t.is(mainOf(after).ns[type], target[type])
    })
  }
}

test('It is where nsenter(1) would be', async (t) => {
  const { error, value } = await join(
    ({ lib, fs, cp, pid }) => {
      const words = ['hostname']
      const nsenter = () =>
        cp.execFileSync('nsenter', ['--target', `${pid}`, '--uts', ...words], { encoding: 'utf8' })
      cp.execFileSync('nsenter', ['--target', `${pid}`, '--uts', 'hostname', 'over-there'])
      const theirs = nsenter()
      const fd = fs.openSync(`/proc/${pid}/ns/uts`)
      lib.setns(fd, lib.CLONE_NEWUTS)
      return { theirs, ours: cp.execFileSync('hostname', { encoding: 'utf8' }) }
    },
    { unshared: ['--uts'] },
  )
  t.is(error, null)
  t.deepEqual(value, { theirs: 'over-there\n', ours: 'over-there\n' })
})

test('A pid namespace is for children: this thread stays, and its next child is there', async (t) => {
  const { error, before, after, target, value } = await join(
    ({ lib, fs, cp, pid }) => {
      const fd = fs.openSync(`/proc/${pid}/ns/pid_for_children`)
      lib.setns(fd, 'pid')
      const child = cp.spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
      return fs.readlinkSync(`/proc/${child.pid}/ns/pid`)
    },
    { unshared: ['--pid', '--fork'] },
  )
  t.is(error, null)
  t.deepEqual(changes(before, after), ['main pid_for_children'])
  t.is(value, target.pid_for_children)
  t.is(mainOf(after).ns.pid_for_children, target.pid_for_children)
})

test('A pidfd with several types enters them all at once', async (t) => {
  const { error, before, after, target } = await join(
    ({ lib, pid }) => lib.setns(lib.pidfdOpen(pid), ['uts', 'net', 'ipc']),
    { unshared: ['--uts', '--net', '--ipc', '--cgroup'] },
  )
  t.is(error, null)
  t.deepEqual(changes(before, after), ['main ipc', 'main net', 'main uts'])
  for (const type of ['uts', 'net', 'ipc']) t.is(mainOf(after).ns[type], target[type])
})

test('A pidfd without a type is refused, and the hint says that types must be named', async (t) => {
  const { error, before, after } = await join(({ lib, pid }) => lib.setns(lib.pidfdOpen(pid)), {
    unshared: ['--uts'],
  })
  t.like(error, { code: 'EINVAL', syscall: 'setns' })
  t.regex(error.hint, /must be named: setns\(pidfd/)
  t.deepEqual(changes(before, after), [])
})

test('A pidfd with flags that are no namespace types is refused, and the hint says so', async (t) => {
  const { error } = await join(({ lib, pid }) => lib.setns(lib.pidfdOpen(pid), lib.CLONE_IO | 0))
  t.like(error, { code: 'EINVAL', syscall: 'setns' })
  t.regex(error.hint, /name no type of namespace/)
})

test('Another type than the descriptor has is refused, and the hint tells its type', async (t) => {
  const { error, before, after } = await join(
    ({ lib, fs, pid }) => lib.setns(fs.openSync(`/proc/${pid}/ns/uts`), 'net'),
    { unshared: ['--uts', '--net'] },
  )
  t.like(error, { code: 'EINVAL', syscall: 'setns', message: 'EINVAL: invalid argument, setns' })
  t.regex(error.hint, /of a namespace of type uts/)
  t.deepEqual(changes(before, after), [])
})

test('A descriptor of neither namespace nor process is refused, and the hint says so', async (t) => {
  const { error } = await join(({ lib, fs }) => lib.setns(fs.openSync('/dev/null'), 'uts'))
  t.like(error, { code: 'EINVAL', syscall: 'setns' })
  t.regex(error.hint, /neither of a namespace .* nor of a process/)
})

test('A mount namespace is refused to one thread of many, and the hint says what helps', async (t) => {
  const { error, before, after } = await join(
    ({ lib, fs, pid }) => lib.setns(fs.openSync(`/proc/${pid}/ns/mnt`), 'mnt'),
    { unshared: ['--mount'] },
  )
  t.like(error, { code: 'EINVAL', syscall: 'setns' })
  t.regex(error.hint, /threads: 'all'.*unshare\(CLONE_FS\)/)
  t.deepEqual(changes(before, after), [])
})

for (const nstype of ['mnt', 0]) {
  test(`After unshare(CLONE_FS) setns(fd, ${JSON.stringify(nstype)}) enters a mount namespace, and process.cwd() tells the truth`, async (t) => {
    const { error, before, after, target, value } = await join(
      ({ lib, fs, pid, arg }) => {
        process.chdir('/proc/self')
        const before = process.cwd()
        lib.unshare(lib.CLONE_FS)
        lib.setns(fs.openSync(`/proc/${pid}/ns/mnt`), arg)
        return { before, after: process.cwd() }
      },
      { unshared: ['--mount'], arg: nstype },
    )
    t.is(error, null)
    t.deepEqual(changes(before, after), ['main mnt'])
    t.is(mainOf(after).ns.mnt, target.mnt)
    t.regex(value.before, /^\/proc\/\d+$/)
    t.is(value.after, '/')
    t.is(mainOf(after).cwd, '/')
    t.true(after.every(({ isMain, cwd }) => isMain || cwd === value.before))
  })
}

test('A user namespace is refused, and the hint names what enters one', async (t) => {
  const { error, before, after } = await join(
    ({ lib, fs, pid }) => lib.setns(fs.openSync(`/proc/${pid}/ns/user`), 'user'),
    { unshared: ['--user', '--map-root-user'] },
  )
  t.like(error, { code: 'EINVAL', syscall: 'setns' })
  t.regex(error.hint, /clone\(\).*spawn\(\).*Namespace/)
  t.deepEqual(changes(before, after), [])
})

test('With a user namespace among others nothing is entered', async (t) => {
  const { error, before, after } = await join(
    ({ lib, pid }) => lib.setns(lib.pidfdOpen(pid), ['uts', 'user']),
    {
      unshared: ['--user', '--map-root-user', '--uts'],
    },
  )
  t.like(error, { code: 'EINVAL', syscall: 'setns' })
  t.regex(error.hint, /clone\(\).*spawn\(\).*Namespace/)
  t.deepEqual(changes(before, after), [])
})

test('A time namespace is EUSERS, and the hint names what enters one', async (t) => {
  const { error, before, after } = await join(
    ({ lib, fs, pid }) => lib.setns(fs.openSync(`/proc/${pid}/ns/time`), 'time'),
    { unshared: ['--time', '--fork'] },
  )
  t.like(error, { name: 'Error', code: 'EUSERS', errno: -87, syscall: 'setns' })
  t.regex(error.message, /^EUSERS: .*, setns$/)
  t.regex(error.hint, /clone\(\).*spawn\(\).*Namespace/)
  t.deepEqual(changes(before, after), [])
})

test('A descriptor that is not open is EBADF', async (t) => {
  for (const fd of [-1, 9999, 2 ** 31 - 1, -(2 ** 31)]) {
    const { error } = await join(({ lib, arg }) => lib.setns(arg, 'uts'), { arg: fd })
    t.like(error, { code: 'EBADF', errno: -9, syscall: 'setns' })
  }
})

test('The pidfd of a process that has ended is ESRCH, and the hint says so', async (t) => {
  const error = await t.throwsAsync(
    inProcess(async ({ lib, cp }) => {
      const child = cp.spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
      const pidfd = lib.pidfdOpen(child.pid)
      child.stdin.end()
      await new Promise((resolve) => child.once('close', resolve))
      lib.setns(pidfd, ['uts', 'net'])
    }),
  )
  t.like(error, { code: 'ESRCH', errno: -3, syscall: 'setns' })
  t.regex(error.hint, /has ended/)
})

test('Only the own pid namespace and those below it can be entered: the hint says so', async (t) => {
  const error = await t.throwsAsync(
    inProcess(
      ({ lib, fs }) => {
        const parent = /^PPid:\s*(\d+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]
        lib.setns(fs.openSync(`/proc/${parent}/ns/pid`), 'pid')
      },
      { with: { wrap: [...privileged, 'unshare', '--pid', '--fork', 'unshare', '--pid', '--fork'] } },
    ),
  )
  t.like(error, { code: 'EINVAL', syscall: 'setns' })
  t.regex(error.hint, /Only the own pid namespace and those below it/)
})

test('Without privilege it is EPERM, and the hint says what is needed', async (t) => {
  const { error, before, after } = await join(
    ({ lib, fs }) => lib.setns(fs.openSync('/proc/self/ns/uts'), 'uts'),
    { wrap: unprivileged },
  )
  t.like(error, { code: 'EPERM', syscall: 'setns' })
  t.regex(error.hint, /CAP_SYS_ADMIN/)
  t.deepEqual(changes(before, after), [])
})

test('A namespace that belongs to another user namespace is EPERM, and the hint says so', async (t) => {
  const error = await t.throwsAsync(
    inProcess(({ lib, fs }) => lib.setns(fs.openSync('/proc/self/ns/uts'), 'uts'), {
      with: { wrap: inUserNamespace },
    }),
  )
  t.like(error, { code: 'EPERM', syscall: 'setns' })
  t.regex(error.hint, /belongs to another/)
})
