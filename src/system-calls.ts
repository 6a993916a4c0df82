import binding = require('../binding.js')

import { invalidArgType, invalidArgValue } from './argument-errors.js'
import { KCMP_EPOLL_TFD } from './constants.js'
import { rest } from './on-demand.js'
import { check, unwrap } from './system-call-error.js'
import { int32, isRecord, options, text, uint32 } from './validate.js'
import { refreshWorkingDirectory } from './working-directory.js'

/**
 * Makes `newRoot` the root of the calling thread's mount namespace, and moves the old root to `putOld`, a directory at
 * or below it (`'.'` for both stacks the two, to be parted by `umount('.', MNT_DETACH)`).
 *
 * pivot_root(2). Processes of the namespace whose root or working directory was the old root follow.
 *
 * @throws {SystemCallError} `EINVAL`: one of six reasons, and `hint` says which; `EBUSY`: one of the two is on the
 * current root's mount; `ENOTDIR`, `ENOENT`, `ENAMETOOLONG`; `EPERM` without CAP_SYS_ADMIN.
 */
export function pivotRoot(newRoot: string, putOld: string): void {
  const path = text(newRoot, 'newRoot', pivotRoot)
  const dest = text(putOld, 'putOld', pivotRoot)
  check(
    binding.pivotRoot(path, dest),
    () => ({ path, dest, hint: rest().pivotRootHint(path, dest) }),
    pivotRoot,
  )
  refreshWorkingDirectory()
}

/** One registration of an epoll instance: descriptor `tfd` in the epoll `efd`, the `toff`th under that number. */
export interface EpollSlot {
  efd: number
  tfd: number
  toff: number
}

/**
 * Whether two processes share a resource: 0 equal, 1 the first is less, 2 it is greater, 3 not equal, without order.
 * The order is the kernel's own and stays the same while the system runs, so that many can be sorted.
 *
 * kcmp(2), since Linux 3.5 (CONFIG_KCMP). `KCMP_FILE` compares descriptor `idx1` of the first with `idx2` of the second
 * process, `KCMP_EPOLL_TFD` (Linux 4.13) descriptor `idx1` with what the slot `idx2` watches; other types need none.
 *
 * @throws {SystemCallError} `ESRCH`; `EBADF`; `ENOENT`: no such registration; `EINVAL`: an unknown type; `EPERM`: it needs
 * what ptrace(2) needs to read both processes; `ENOSYS`.
 */
export function kcmp(
  pid1: number,
  pid2: number,
  type: number,
  idx1: number = 0,
  idx2: number | EpollSlot = 0,
): 0 | 1 | 2 | 3 {
  const first = int32(pid1, 'pid1', kcmp)
  const second = int32(pid2, 'pid2', kcmp)
  const kind = int32(type, 'type', kcmp)
  const index = uint32(idx1, 'idx1', kcmp)
  const outcome =
    kind === KCMP_EPOLL_TFD
      ? compareEpoll(first, second, index, idx2)
      : compare(first, second, kind, index, plainIndex(idx2))
  return unwrap(outcome, kcmpCircumstances, kcmp) as 0 | 1 | 2 | 3
}

const kcmpCircumstances = () => ({ hint: rest().hints.kcmp })

function plainIndex(idx2: unknown): number {
  if (isRecord(idx2)) throw invalidArgValue('idx2', 'can be a slot with KCMP_EPOLL_TFD only', idx2, kcmp)
  return uint32(idx2, 'idx2', kcmp)
}

function compare(
  pid1: number,
  pid2: number,
  type: number,
  idx1: number,
  idx2: number,
): number | binding.Failure {
  return idx1 === 0 && idx2 === 0
    ? binding.kcmp(pid1, pid2, type)
    : binding.kcmpIndexed(pid1, pid2, type, idx1, idx2)
}

function compareEpoll(pid1: number, pid2: number, idx1: number, idx2: unknown): number | binding.Failure {
  if (!isRecord(idx2))
    throw invalidArgType('idx2', 'a slot { efd, tfd, toff } with KCMP_EPOLL_TFD', idx2, kcmp)
  const slot = options(idx2, 'idx2', ['efd', 'tfd', 'toff'], kcmp)
  const efd = uint32(slot.efd, 'idx2.efd', kcmp)
  const tfd = uint32(slot.tfd, 'idx2.tfd', kcmp)
  const toff = uint32(slot.toff, 'idx2.toff', kcmp)
  return binding.kcmpEpoll(pid1, pid2, idx1, efd, tfd, toff)
}

/**
 * Brings `lo` up in the calling thread's network namespace: 127.0.0.1/8 and, where the kernel has IPv6, ::1/128 answer
 * afterwards. What is there already stays, so that it may be called twice.
 *
 * rtnetlink(7), without the program `ip`.
 *
 * @throws {SystemCallError} `EPERM` without CAP_NET_ADMIN over the network namespace.
 */
export function configureLoopback(): void {
  check(binding.configureLoopback(), () => ({ hint: rest().hints.network }), configureLoopback)
}

/**
 * Sets the host name of the calling thread's UTS namespace: at most 64 bytes of UTF-8.
 *
 * sethostname(2).
 *
 * @throws {SystemCallError} `EINVAL`: too long; `EPERM` without CAP_SYS_ADMIN over the UTS namespace.
 */
export function sethostname(name: string): void {
  check(
    binding.sethostname(text(name, 'name', sethostname)),
    () => ({ hint: rest().hints.hostname }),
    sethostname,
  )
}

/**
 * Sets the NIS domain name of the calling thread's UTS namespace: at most 64 bytes of UTF-8.
 *
 * setdomainname(2).
 *
 * @throws {SystemCallError} `EINVAL`: too long; `EPERM` without CAP_SYS_ADMIN over the UTS namespace.
 */
export function setdomainname(name: string): void {
  check(
    binding.setdomainname(text(name, 'name', setdomainname)),
    () => ({ hint: rest().hints.hostname }),
    setdomainname,
  )
}
