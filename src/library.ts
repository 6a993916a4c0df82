// What require gives: values, where a bundle's own exports would be accessors, which cost as much as to load the addon.
import { clone } from './clone.js'
import * as kernel from './constants.js'
import type * as api from './index.js'
import { mount, umount } from './mount.js'
import { Namespace } from './namespace.js'
import {
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
import { pidfdGetfd, pidfdOpen, pidfdSendSignal } from './pidfd.js'
import { probe } from './probe.js'
import { spawn } from './spawn.js'
import { spawnSync } from './spawn-sync.js'
import { configureLoopback, kcmp, pivotRoot, setdomainname, sethostname } from './system-calls.js'
import { setns, unshare } from './threads.js'

const own: Omit<typeof api, Exclude<keyof typeof kernel, 'constants'>> = {
  Namespace,
  clone,
  configureLoopback,
  constants: kernel.constants,
  kcmp,
  mount,
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
  pidfdGetfd,
  pidfdOpen,
  pidfdSendSignal,
  pivotRoot,
  probe,
  setdomainname,
  sethostname,
  setns,
  spawn,
  spawnSync,
  umount,
  unshare,
}

export const library = { ...kernel.constants, ...own }
