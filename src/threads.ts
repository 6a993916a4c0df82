import binding = require('../binding.js')

import { type Caller, invalidArgType, invalidArgValue } from './argument-errors.js'
import { CLONE_NEWNS } from './constants.js'
import { type Flags, flagBits } from './flags.js'
import { rest } from './on-demand.js'
import { check, unwrap } from './system-call-error.js'
import { int32, options } from './validate.js'
import { canKeepInStep, keepInStep, refreshWorkingDirectory } from './working-directory.js'

export interface ThreadOptions {
  /**
   * Which threads of this process the call changes. The kernel's own meaning is `'calling'`, the default. `'all'` (since
   * Linux 5.8) applies it to every thread, so that what Node does on its thread pool (fs.promises, dns.lookup) and in
   * Workers sees the same namespaces as synchronous code. It is all or nothing: if one thread cannot follow, none has
   * moved. Node's SignalInspector thread, which blocks every signal and runs no user code, stays.
   *
   * The working directory and umask remain the process's own. Where the kernel allows that only by giving each thread a
   * copy (a mount namespace alone, where the UTS namespace belongs to another user namespace), `process.chdir` and
   * `process.umask` pass on every change to all of them; this needs the main thread, and fails with EPERM in a Worker.
   */
  threads?: 'calling' | 'all'
}

/**
 * Moves the calling thread, or every thread, into new namespaces, or gives it what it shares with others as its own.
 *
 * unshare(2). Namespaces by name or as `CLONE_*` bits: mnt (Linux 2.6.16), uts and ipc (2.6.19), net (2.6.29), pid and user
 * (3.8), cgroup (4.6), time (5.6). pid and time are for children: this thread stays where it is. A process with threads,
 * as every Node is, cannot enter a user namespace.
 *
 * @throws {SystemCallError} `EPERM` without CAP_SYS_ADMIN; `EINVAL`: an unknown bit, a user namespace, or with all threads
 * one of what only one can have (user, pid, time, FS, FILES); `ENOSPC`: a limit of `/proc/sys/user`; `ENOMEM`; with all
 * threads also `ETIMEDOUT`: one does not answer.
 */
export function unshare(flags: Flags, options?: ThreadOptions): void {
  const bits = flagBits(flags, 'flags', unshare)
  const everyThread = wantsEveryThread(options, unshare)
  const circumstances = () => ({ hint: rest().hints.unshare(bits, everyThread) })
  if (everyThread) {
    if (unwrap(binding.unshareEveryThread(bits, canKeepInStep()), circumstances, unshare)) keepInStep()
  } else {
    check(binding.unshare(bits), circumstances, unshare)
  }
}

/**
 * Moves the calling thread, or every thread, into the namespace of `fd`, or, where that is a pidfd (Linux 5.8), into those
 * of its process that `nstype` names. `nstype` 0, the default, is any type of namespace's descriptor.
 *
 * setns(2), since Linux 3.0. A pid or time namespace is for children: this thread stays where it is. In a mount
 * namespace root and working directory are its root afterwards; while threads share those, the calling thread alone
 * cannot enter one.
 *
 * @throws {SystemCallError} `EBADF`; `EINVAL`: not of this type, a user namespace, a mount namespace while threads share their
 * working directory, a pid namespace that is no descendant; `EPERM`; `ESRCH`: the process has ended; `EUSERS`: a time
 * namespace, in a process with threads.
 */
export function setns(fd: number, nstype: Flags = 0, options?: ThreadOptions): void {
  const descriptor = int32(fd, 'fd', setns)
  const bits = flagBits(nstype, 'nstype', setns)
  const everyThread = wantsEveryThread(options, setns)
  const circumstances = () => ({ hint: rest().hints.setns(descriptor, bits, everyThread) })
  if (everyThread) {
    if (unwrap(binding.setnsEveryThread(descriptor, bits, canKeepInStep()), circumstances, setns))
      keepInStep()
  } else {
    check(binding.setns(descriptor, bits), circumstances, setns)
  }
  if (bits === 0 || bits & CLONE_NEWNS) refreshWorkingDirectory()
}

function wantsEveryThread(value: unknown, caller: Caller): boolean {
  const { threads } = options(value, 'options', ['threads'], caller)
  if (threads === undefined) return false
  if (typeof threads !== 'string') throw invalidArgType('options.threads', 'of type string', threads, caller)
  if (threads !== 'calling' && threads !== 'all') {
    throw invalidArgValue('options.threads', `must be 'calling' or 'all'`, threads, caller)
  }
  return threads === 'all'
}
