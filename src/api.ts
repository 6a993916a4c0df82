// All that the package exports but its constants.
export type { Child } from './child.js'
export { clone } from './clone.js'
export type { CloneOptions } from './clone-options.js'
export type { Flags, NamespaceType } from './flags.js'
export type { Join } from './join.js'
export { type MountData, mount, umount } from './mount.js'
export type { MountSpec } from './mount-specs.js'
export { Namespace } from './namespace.js'
export type { IdMapping, IdMappings } from './namespace-options.js'
export type { NamespaceOptions } from './namespace-table.js'
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
export { type Spawned, spawn } from './spawn.js'
export type { NamespaceSpawnOptions, SpawnOptions } from './spawn-options.js'
export { type SpawnSyncOptions, spawnSync } from './spawn-sync.js'
export type { ExitStatus } from './started-process.js'
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
