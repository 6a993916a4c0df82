export * from './constants.js'
export type { Flags, NamespaceType } from './flags.js'
export { type MountData, mount, umount } from './mount.js'
export {
  nsGetId,
  nsGetMntnsId,
  nsGetNstype,
  nsGetOwnerUid,
  nsGetParent,
  nsGetPidFromPidns,
  nsGetPidInPidns,
  nsGetTgidFromPidns,
  nsGetTgidInPidns,
  nsGetUserns,
} from './nsfs.js'
export { pidfdGetfd, pidfdOpen, pidfdSendSignal } from './pidfd.js'
export { type Feature, probe, type Supported } from './probe.js'
export type { Step, SystemCallError } from './system-call-error.js'
export {
  configureLoopback,
  type EpollSlot,
  kcmp,
  pivotRoot,
  setdomainname,
  sethostname,
} from './system-calls.js'
export { setns, type ThreadOptions, unshare } from './threads.js'
