import binding = require('../binding.js')

import { rest } from './on-demand.js'
import { unwrap } from './system-call-error.js'
import { int32 } from './validate.js'

/**
 * The user namespace that owns the namespace of `fd`: a descriptor, close-on-exec, which is the caller's to close.
 *
 * ioctl_nsfs(2) NS_GET_USERNS, since Linux 4.9.
 *
 * @throws {SystemCallError} `ENOTTY`: `fd` is of no namespace; `EPERM`: the owner is outside of the caller's user
 * namespace; `EBADF`.
 */
export function nsGetUserns(fd: number): number {
  return unwrap(
    binding.nsGetUserns(int32(fd, 'fd', nsGetUserns)),
    () => ({ hint: rest().hints.nsfs(fd, '4.9') }),
    nsGetUserns,
  )
}

/**
 * The parent of a pid or user namespace: a descriptor, close-on-exec, which is the caller's to close.
 *
 * ioctl_nsfs(2) NS_GET_PARENT, since Linux 4.9.
 *
 * @throws {SystemCallError} `EINVAL`: its type has no parents; `EPERM`: it is the first, or the parent is outside of the
 * caller's namespaces; `ENOTTY`: `fd` is of no namespace; `EBADF`.
 */
export function nsGetParent(fd: number): number {
  return unwrap(
    binding.nsGetParent(int32(fd, 'fd', nsGetParent)),
    () => ({ hint: rest().hints.nsfs(fd, '4.9', ['pid', 'user']) }),
    nsGetParent,
  )
}

/**
 * The type of the namespace, as its CLONE_NEW* value.
 *
 * ioctl_nsfs(2) NS_GET_NSTYPE, since Linux 4.11.
 *
 * @throws {SystemCallError} `ENOTTY`: `fd` is of no namespace; `EBADF`.
 */
export function nsGetNstype(fd: number): number {
  return unwrap(
    binding.nsGetNstype(int32(fd, 'fd', nsGetNstype)),
    () => ({ hint: rest().hints.nsfs(fd, '4.11') }),
    nsGetNstype,
  )
}

/**
 * The user who owns a user namespace: its uid as the caller's user namespace numbers it, 65534 where it has none there.
 *
 * ioctl_nsfs(2) NS_GET_OWNER_UID, since Linux 4.11.
 *
 * @throws {SystemCallError} `EINVAL`: no user namespace; `ENOTTY`: `fd` is of no namespace; `EBADF`.
 */
export function nsGetOwnerUid(fd: number): number {
  return unwrap(
    binding.nsGetOwnerUid(int32(fd, 'fd', nsGetOwnerUid)),
    () => ({ hint: rest().hints.nsfs(fd, '4.11', ['user']) }),
    nsGetOwnerUid,
  )
}

/**
 * The namespace's 64-bit id, which no other has while the system runs.
 *
 * ioctl_nsfs(2) NS_GET_ID, since Linux 6.18.
 *
 * @throws {SystemCallError} `ENOTTY`: `fd` is of no namespace, or the kernel is older; `EBADF`.
 */
export function nsGetId(fd: number): bigint {
  return unwrap(
    binding.nsGetId(int32(fd, 'fd', nsGetId)),
    () => ({ hint: rest().hints.nsfs(fd, '6.18') }),
    nsGetId,
  )
}

/**
 * A mount namespace's 64-bit id, as statmount(2) and listmount(2) take it.
 *
 * ioctl_nsfs(2) NS_GET_MNTNS_ID, since Linux 6.11.
 *
 * @throws {SystemCallError} `EINVAL`: no mount namespace; `ENOTTY`: `fd` is of no namespace, or the kernel is older; `EBADF`.
 */
export function nsGetMntnsId(fd: number): bigint {
  return unwrap(
    binding.nsGetMntnsId(int32(fd, 'fd', nsGetMntnsId)),
    () => ({ hint: rest().hints.nsfs(fd, '6.11', ['mnt']) }),
    nsGetMntnsId,
  )
}

/**
 * What the caller calls the thread that the pid namespace `fd` calls `pid`.
 *
 * ioctl_nsfs(2) NS_GET_PID_FROM_PIDNS, since Linux 6.11.
 *
 * @throws {SystemCallError} `ESRCH`: there is none, or the caller cannot see it; `EINVAL`: no pid namespace; `ENOTTY`: `fd`
 * is of no namespace, or the kernel is older; `EBADF`.
 */
export function nsGetPidFromPidns(fd: number, pid: number): number {
  const [descriptor, number] = [int32(fd, 'fd', nsGetPidFromPidns), int32(pid, 'pid', nsGetPidFromPidns)]
  return unwrap(
    binding.nsGetPidFromPidns(descriptor, number),
    () => ({ hint: rest().hints.nsfs(fd, '6.11', ['pid']) }),
    nsGetPidFromPidns,
  )
}

/**
 * What the caller calls the process of the thread that the pid namespace `fd` calls `tgid`.
 *
 * ioctl_nsfs(2) NS_GET_TGID_FROM_PIDNS, since Linux 6.11.
 *
 * @throws {SystemCallError} as {@link nsGetPidFromPidns}.
 */
export function nsGetTgidFromPidns(fd: number, tgid: number): number {
  const [descriptor, number] = [int32(fd, 'fd', nsGetTgidFromPidns), int32(tgid, 'tgid', nsGetTgidFromPidns)]
  return unwrap(
    binding.nsGetTgidFromPidns(descriptor, number),
    () => ({ hint: rest().hints.nsfs(fd, '6.11', ['pid']) }),
    nsGetTgidFromPidns,
  )
}

/**
 * What the pid namespace `fd` calls the thread that the caller calls `pid`.
 *
 * ioctl_nsfs(2) NS_GET_PID_IN_PIDNS, since Linux 6.11.
 *
 * @throws {SystemCallError} as {@link nsGetPidFromPidns}.
 */
export function nsGetPidInPidns(fd: number, pid: number): number {
  const [descriptor, number] = [int32(fd, 'fd', nsGetPidInPidns), int32(pid, 'pid', nsGetPidInPidns)]
  return unwrap(
    binding.nsGetPidInPidns(descriptor, number),
    () => ({ hint: rest().hints.nsfs(fd, '6.11', ['pid']) }),
    nsGetPidInPidns,
  )
}

/**
 * What the pid namespace `fd` calls the process of the thread that the caller calls `tgid`.
 *
 * ioctl_nsfs(2) NS_GET_TGID_IN_PIDNS, since Linux 6.11.
 *
 * @throws {SystemCallError} as {@link nsGetPidFromPidns}.
 */
export function nsGetTgidInPidns(fd: number, tgid: number): number {
  const [descriptor, number] = [int32(fd, 'fd', nsGetTgidInPidns), int32(tgid, 'tgid', nsGetTgidInPidns)]
  return unwrap(
    binding.nsGetTgidInPidns(descriptor, number),
    () => ({ hint: rest().hints.nsfs(fd, '6.11', ['pid']) }),
    nsGetTgidInPidns,
  )
}
