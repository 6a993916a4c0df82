import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants as fsConstants, readlinkSync, readSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import test from 'ava'
import lib from '../index.js'
import { descriptor, kernelSince, sleeper, start, statusOf, temporaryDirectory } from './helpers/machine.mjs'
import { available, inProcess, inUserNamespace, privileged } from './helpers/process.mjs'

const O_CLOEXEC = 0o2000000

/** Opens a pidfd for the time of a test. */
function pidfdOf(t, pid, flags) {
  const fd = lib.pidfdOpen(pid, flags)
  t.teardown(() => closeSync(fd))
  return fd
}

/** A program that has ended and is reaped, by the pidfd that was opened before. */
async function ended(t) {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
  const fd = pidfdOf(t, child.pid)
  child.stdin.end()
  await once(child, 'exit')
  return fd
}

async function state(pid, wanted) {
  while (!statusOf(pid).State.startsWith(wanted)) await new Promise((resolve) => setTimeout(resolve, 1))
}

/** Whether SIGTERM is in a mask of /proc/PID/status. */
const waiting = (mask) => (BigInt(`0x${mask}`) & (1n << BigInt(os.constants.signals.SIGTERM - 1))) !== 0n

const shape = ({ name, code, errno, syscall, message, hint }) => ({
  name,
  code,
  errno,
  syscall,
  message,
  hint,
})

function refused(t, call) {
  return shape(t.throws(call))
}

test('pidfdOpen: the descriptor is of the process, and close-on-exec', async (t) => {
  const { pid } = await start(t, ...sleeper)
  const fd = pidfdOf(t, pid)
  const { Pid, flags } = descriptor(fd)
  t.is(Pid, String(pid))
  t.truthy(flags & O_CLOEXEC)
  t.falsy(flags & fsConstants.O_NONBLOCK)
  t.falsy(flags & fsConstants.O_EXCL)
  t.regex(readlinkSync(`/proc/self/fd/${fd}`), /pidfd/)
})

test('pidfdOpen: a child that Node starts does not inherit the descriptor', async (t) => {
  const { pid } = await start(t, ...sleeper)
  const fd = pidfdOf(t, pid)
  const child = await start(t, ...sleeper)
  t.throws(() => readlinkSync(`/proc/${child.pid}/fd/${fd}`), { code: 'ENOENT' })
})

test('PIDFD_NONBLOCK makes the descriptor non-blocking', (t) => {
  t.truthy(descriptor(pidfdOf(t, process.pid, lib.PIDFD_NONBLOCK)).flags & fsConstants.O_NONBLOCK)
})

test('PIDFD_THREAD is needed for a thread that is no process', async (t) => {
  if (!available(t, kernelSince('6.9'), 'PIDFD_THREAD, of Linux 6.9')) return
  const { tid, pid, flags, code } = await inProcess(({ lib, fs }) => {
    const tid = Number(fs.readdirSync('/proc/self/task').find((name) => name !== String(process.pid)))
    const info = fs.readFileSync(`/proc/self/fdinfo/${lib.pidfdOpen(tid, lib.PIDFD_THREAD)}`, 'utf8')
    const field = (name) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(info)[1]
    try {
      lib.pidfdOpen(tid)
      return {}
    } catch ({ code }) {
      return { tid, pid: Number(field('Pid')), flags: Number.parseInt(field('flags'), 8), code }
    }
  })
  t.is(pid, tid)
  t.truthy(flags & fsConstants.O_EXCL)
  t.truthy(flags & O_CLOEXEC)
  t.true(code === 'EINVAL' || code === 'ENOENT', code)
})

test('pidfdOpen: a child that was reaped is ESRCH', async (t) => {
  // In a pid namespace of its own, where nobody else takes the number.
  const wrap = [...(privileged.length > 0 ? privileged : ['unshare']), '--pid', '--fork', '--kill-child']
  const [first, error] = await inProcess(
    async ({ lib, cp }) => {
      const child = cp.spawn('cat')
      lib.pidfdOpen(child.pid)
      child.stdin.end()
      await new Promise((resolve) => child.once('exit', resolve))
      try {
        lib.pidfdOpen(child.pid)
        return [process.pid, null]
      } catch ({ code, errno, syscall, message }) {
        return [process.pid, { code, errno, syscall, message }]
      }
    },
    { with: { wrap } },
  )
  t.is(first, 1)
  t.deepEqual(error, {
    code: 'ESRCH',
    errno: -3,
    syscall: 'pidfd_open',
    message: 'ESRCH: no such process, pidfd_open',
  })
})

test('pidfdOpen: what can be no process, and unknown flags, are refused by the kernel', (t) => {
  const error = refused(t, () => lib.pidfdOpen(2 ** 31 - 1))
  t.deepEqual(error, {
    name: 'Error',
    code: 'ESRCH',
    errno: -3,
    syscall: 'pidfd_open',
    message: 'ESRCH: no such process, pidfd_open',
    hint: undefined,
  })
  for (const args of [[0], [-1], [process.pid, 1 << 20], [process.pid, -1]]) {
    t.is(refused(t, () => lib.pidfdOpen(...args)).code, 'EINVAL', String(args))
  }
})

const without = (...names) => Object.keys(lib).filter((name) => /^SIG/.test(name) && !names.includes(name))
const IGNORED = ['SIGCHLD', 'SIGCONT', 'SIGURG', 'SIGWINCH']
const STOPPING = ['SIGSTOP', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU']
const DEADLY = without(...IGNORED, ...STOPPING)

/** A program that leaves no core. */
const coreless = ['sh', '-c', 'ulimit -c 0; echo $$; exec sleep 3000']

for (const [how, signalOf] of [
  ['name', (name) => name],
  ['number', (name) => lib[name]],
]) {
  test(`a signal by its ${how} ends the process as the signal does by default`, async (t) => {
    t.is(DEADLY.length, 23)
    for (const name of DEADLY) {
      const { child, pid } = await start(t, ...coreless)
      const exit = once(child, 'exit')
      lib.pidfdSendSignal(pidfdOf(t, pid), signalOf(name))
      const [code, signal] = await exit
      t.deepEqual([code, os.constants.signals[signal]], [null, os.constants.signals[name]], name)
    }
  })
}

test('a signal that is ignored by default, and 0, change nothing', async (t) => {
  const { child, pid } = await start(t, ...sleeper)
  const fd = pidfdOf(t, pid)
  for (const signal of [0, ...IGNORED]) t.is(lib.pidfdSendSignal(fd, signal), undefined)
  const exit = once(child, 'exit')
  lib.pidfdSendSignal(fd, 'SIGUSR1')
  t.deepEqual(await exit, [null, 'SIGUSR1'])
})

test('SIGSTOP stops the process, and SIGCONT lets it go on', async (t) => {
  const { pid } = await start(t, ...sleeper)
  const fd = pidfdOf(t, pid)
  lib.pidfdSendSignal(fd, 'SIGSTOP')
  await state(pid, 'T')
  lib.pidfdSendSignal(fd, 'SIGCONT')
  await state(pid, 'S')
  t.regex(statusOf(pid).State, /sleeping/)
})

test('a listener of the process hears the signal', async (t) => {
  const { pid, child } = await start(
    t,
    process.execPath,
    '-e',
    "process.on('SIGUSR2', (name) => console.log(name)); setInterval(() => {}, 1e6); console.log('up')",
  )
  lib.pidfdSendSignal(pidfdOf(t, pid), 'SIGUSR2')
  for await (const line of createInterface(child.stdout)) {
    t.is(line, 'SIGUSR2')
    return
  }
  t.fail('it has ended')
})

test('a real-time signal goes by its number', async (t) => {
  const { child, pid } = await start(t, 'sh', '-c', 'trap "exit 7" 34; echo up; while :; do sleep 0.01; done')
  const exit = once(child, 'exit')
  lib.pidfdSendSignal(pidfdOf(t, pid), 34)
  t.deepEqual(await exit, [7, null])
})

/** A shell in a process group of its own, and the program that it waits for. */
async function group(t) {
  const child = spawn('sh', ['-c', 'sleep 150 & echo $!; wait'], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close')
  t.teardown(async () => {
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch (error) {
      if (error.code !== 'ESRCH') throw error
    }
    child.stdout.resume()
    await closed
  })
  for await (const line of createInterface(child.stdout)) return { child, closed, member: Number(line) }
  throw new Error('the shell has ended')
}

test('PIDFD_SIGNAL_PROCESS_GROUP ends the whole group', async (t) => {
  if (!available(t, kernelSince('6.9'), 'PIDFD_SIGNAL_PROCESS_GROUP, of Linux 6.9')) return
  const { child, closed, member } = await group(t)
  // It waits until they go on.
  process.kill(-child.pid, 'SIGSTOP')
  for (const pid of [child.pid, member]) await state(pid, 'T')
  lib.pidfdSendSignal(pidfdOf(t, child.pid), 'SIGTERM', lib.PIDFD_SIGNAL_PROCESS_GROUP)
  t.deepEqual(
    [child.pid, member].map((pid) => waiting(statusOf(pid).ShdPnd)),
    [true, true],
  )
  child.stdout.resume()
  process.kill(-child.pid, 'SIGCONT')
  // The pipe is closed when the last of them has ended.
  t.deepEqual(await closed, [null, 'SIGTERM'])
})

test('without PIDFD_SIGNAL_PROCESS_GROUP the rest of the group goes on', async (t) => {
  const { child, member } = await group(t)
  const exit = once(child, 'exit')
  lib.pidfdSendSignal(pidfdOf(t, child.pid), 'SIGTERM')
  t.deepEqual(await exit, [null, 'SIGTERM'])
  t.regex(statusOf(member).State, /^[SRD]/)
})

for (const [flag, opened, thread] of [
  ['PIDFD_SIGNAL_THREAD', 0, true],
  ['PIDFD_SIGNAL_THREAD_GROUP', 'PIDFD_THREAD', false],
  [undefined, 0, false],
  [undefined, 'PIDFD_THREAD', true],
]) {
  const how = `${flag ?? 'no flag'} on a pidfd of a ${opened ? 'thread' : 'process'}`
  test(`with ${how} the signal is for the ${thread ? 'thread' : 'process'}`, async (t) => {
    if (!available(t, kernelSince('6.9'), 'PIDFD_THREAD, of Linux 6.9')) return
    const { child, pid } = await start(t, ...sleeper)
    child.kill('SIGSTOP')
    await state(pid, 'T')
    const fd = pidfdOf(t, pid, lib[opened] ?? 0)
    lib.pidfdSendSignal(fd, 'SIGTERM', ...(flag ? [lib[flag]] : []))
    // It waits until the process goes on.
    const { SigPnd, ShdPnd } = statusOf(pid)
    t.deepEqual({ thread: waiting(SigPnd), process: waiting(ShdPnd) }, { thread, process: !thread })
  })
}

for (const [name, version] of [
  ['PIDFD_SELF_THREAD', '6.14'],
  ['PIDFD_SELF_THREAD_GROUP', '6.17'],
]) {
  test(`${name} in place of a pidfd is the caller`, async (t) => {
    if (!available(t, kernelSince(version), `${name}, of Linux ${version}`)) return
    const { child } = await start(
      t,
      process.execPath,
      '-e',
      `const lib = require(${JSON.stringify(path.resolve('index.js'))})
      console.log('up')
      setImmediate(() => lib.pidfdSendSignal(lib.${name}, 'SIGUSR2'))
      setInterval(() => {}, 1e6)`,
    )
    const [code, signal] =
      child.exitCode === null && child.signalCode === null
        ? await once(child, 'exit')
        : [child.exitCode, child.signalCode]
    t.deepEqual([code, signal], [null, 'SIGUSR2'])
  })
}

test('pidfdSendSignal: a process that has ended and is reaped is ESRCH', async (t) => {
  const fd = await ended(t)
  for (const signal of [0, 'SIGTERM']) {
    t.deepEqual(
      refused(t, () => lib.pidfdSendSignal(fd, signal)),
      {
        name: 'Error',
        code: 'ESRCH',
        errno: -3,
        syscall: 'pidfd_send_signal',
        message: 'ESRCH: no such process, pidfd_send_signal',
        hint: undefined,
      },
    )
  }
})

test('pidfdSendSignal: a bad descriptor, signal or flag is refused by the kernel', async (t) => {
  const { pid } = await start(t, ...sleeper)
  const fd = pidfdOf(t, pid)
  for (const [code, ...args] of [
    ['EBADF', -1, 0],
    ['EBADF', 2 ** 30, 0],
    ['EBADF', 2, 0],
    ['EINVAL', fd, 65],
    ['EINVAL', fd, -1],
    ['EINVAL', fd, 0, 1 << 20],
    ['EINVAL', fd, 0, lib.PIDFD_SIGNAL_THREAD | lib.PIDFD_SIGNAL_THREAD_GROUP],
  ]) {
    t.is(refused(t, () => lib.pidfdSendSignal(...args)).code, code, String(args))
  }
})

test('pidfdSendSignal: a name that is no signal is ERR_UNKNOWN_SIGNAL, as in process.kill', (t) => {
  for (const name of ['SIGNONE', 'sigterm', 'TERM', '', 'toString', '__proto__']) {
    const error = t.throws(() => lib.pidfdSendSignal(-1, name), { instanceOf: TypeError })
    t.is(error.code, 'ERR_UNKNOWN_SIGNAL')
    t.is(error.message, `Unknown signal: ${name}`)
  }
  const node = t.throws(() => process.kill(process.pid, 'SIGNONE'))
  const ours = t.throws(() => lib.pidfdSendSignal(-1, 'SIGNONE'))
  t.deepEqual(shape(ours), shape(node))
})

test('pidfdGetfd: the copy shares file and position with the original, and is close-on-exec', async (t) => {
  const file = path.join(temporaryDirectory(t), 'file')
  writeFileSync(file, 'first second')
  const { pid } = await start(t, 'sh', '-c', 'exec 9<"$0"; echo up; exec sleep 3000', file)
  const fd = lib.pidfdGetfd(pidfdOf(t, pid), 9)
  t.teardown(() => closeSync(fd))
  t.is(readlinkSync(`/proc/self/fd/${fd}`), file)
  t.truthy(descriptor(fd).flags & O_CLOEXEC)
  t.falsy(descriptor(9, pid).flags & O_CLOEXEC)
  const buffer = Buffer.alloc(6)
  readSync(fd, buffer)
  t.is(buffer.toString(), 'first ')
  t.is(descriptor(9, pid).pos, '6')
})

test("pidfdGetfd: another process's pipe can be read", async (t) => {
  const inner = 'echo $$; exec sleep 3000'
  const { line } = await start(t, 'sh', '-c', 'printf content | exec sh -c "$0"', inner)
  const pidfd = pidfdOf(t, Number(line))
  // Of the signals that shells do not talk about.
  t.teardown(() => lib.pidfdSendSignal(pidfd, 'SIGPIPE'))
  const fd = lib.pidfdGetfd(pidfd, 0)
  t.teardown(() => closeSync(fd))
  const buffer = Buffer.alloc(7)
  readSync(fd, buffer)
  t.is(buffer.toString(), 'content')
  t.is(readlinkSync(`/proc/self/fd/${fd}`), readlinkSync(`/proc/${line}/fd/0`))
})

test('pidfdGetfd: what is no pidfd, or not open over there, is EBADF', async (t) => {
  const { pid } = await start(t, ...sleeper)
  const pidfd = pidfdOf(t, pid)
  for (const args of [
    [-1, 0],
    [2 ** 30, 0],
    [2, 0],
    [pidfd, 2 ** 30],
    [pidfd, -1],
  ]) {
    t.deepEqual(
      refused(t, () => lib.pidfdGetfd(...args)),
      {
        name: 'Error',
        code: 'EBADF',
        errno: -9,
        syscall: 'pidfd_getfd',
        message: 'EBADF: bad file descriptor, pidfd_getfd',
        hint: undefined,
      },
      String(args),
    )
  }
})

test('pidfdGetfd: a process that has ended and is reaped is ESRCH', async (t) => {
  const fd = await ended(t)
  const { code, syscall } = refused(t, () => lib.pidfdGetfd(fd, 0))
  t.deepEqual([code, syscall], ['ESRCH', 'pidfd_getfd'])
})

test('pidfdGetfd: a process outside of the user namespace is EPERM, with a hint', async (t) => {
  const error = await inProcess(
    ({ lib }, outer) => {
      try {
        return { fd: lib.pidfdGetfd(lib.pidfdOpen(outer), 0) }
      } catch ({ code, message, hint }) {
        return { code, message, hint }
      }
    },
    { with: { wrap: inUserNamespace } },
    process.pid,
  )
  t.is(error.message, 'EPERM: operation not permitted, pidfd_getfd')
  t.regex(error.hint, /ptrace/)
})
