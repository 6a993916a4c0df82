import binding = require('../binding.js')

import { rest } from './on-demand.js'
import { check, unwrap } from './system-call-error.js'
import { int32, signalNumber, uint32 } from './validate.js'

/**
 * A descriptor of the process `pid`, close-on-exec, which is the caller's to close (`fs.closeSync`). It refers to this
 * process for ever, whoever gets its number later; it is readable, for poll, once the process has ended.
 *
 * pidfd_open(2), since Linux 5.3. `flags`: `PIDFD_NONBLOCK` (5.10), `PIDFD_THREAD` (6.9).
 *
 * @throws {SystemCallError} `ESRCH`; `EINVAL`, on newer kernels `ENOENT`: the id of a thread that is not
 * its process's first, without `PIDFD_THREAD`; `EINVAL`: an unknown flag; `EMFILE`; `ENOSYS`.
 */
export function pidfdOpen(pid: number, flags: number = 0): number {
  const bits = uint32(flags, 'flags', pidfdOpen)
  return unwrap(
    binding.pidfdOpen(int32(pid, 'pid', pidfdOpen), bits),
    () => ({ hint: rest().hints.since('5.3') }),
    pidfdOpen,
  )
}

/**
 * Sends a signal, by name or number, as kill(2) does; 0 only asks whether it could be sent.
 *
 * pidfd_send_signal(2), since Linux 5.1. `flags`: `PIDFD_SIGNAL_*` (6.9).
 *
 * @throws {SystemCallError} `ESRCH`: it has ended and is reaped; `EPERM`; `EBADF`; `EINVAL`; `ENOSYS`.
 * @throws {TypeError} `ERR_UNKNOWN_SIGNAL`: no signal has this name.
 */
export function pidfdSendSignal(pidfd: number, signal: NodeJS.Signals | number, flags: number = 0): void {
  const fd = int32(pidfd, 'pidfd', pidfdSendSignal)
  const number = signalNumber(signal, 'signal', pidfdSendSignal)
  const bits = uint32(flags, 'flags', pidfdSendSignal)
  check(
    binding.pidfdSendSignal(fd, number, bits),
    () => ({ hint: rest().hints.since('5.1') }),
    pidfdSendSignal,
  )
}

/**
 * A copy of the descriptor that is number `targetFd` in the process of `pidfd`: close-on-exec, and the caller's to close.
 *
 * pidfd_getfd(2), since Linux 5.6.
 *
 * @throws {SystemCallError} `EBADF`: either descriptor; `EPERM`: it needs what ptrace(2) needs to attach; `ESRCH`; `ENOSYS`.
 */
export function pidfdGetfd(pidfd: number, targetFd: number): number {
  const fd = int32(pidfd, 'pidfd', pidfdGetfd)
  const target = int32(targetFd, 'targetFd', pidfdGetfd)
  return unwrap(binding.pidfdGetfd(fd, target), () => ({ hint: rest().hints.pidfdGetfd }), pidfdGetfd)
}
