import binding = require('../binding.js')

import type { NamespaceType } from './flags.js'
import { rest } from './on-demand.js'
import { describe, unwrap } from './system-call-error.js'

/** What {@link probe} tells of. */
export type Feature =
  | NamespaceType
  | 'unprivileged-userns'
  | 'clone3'
  | 'set-tid'
  | 'into-cgroup'
  | 'cgroup2'
  | 'pidfd'
  | 'setns-pidfd'
  | 'time-offsets'
  | 'newuidmap'
  | 'newgidmap'
  | 'subuid'
  | 'subgid'
  | 'kcmp'
  | 'nsfs-id'
  | 'nsfs-pid-translation'
  | 'proc-mount'
  | 'overlay'
  | 'seccomp'
  | 'loopback'

/** Whether something works, and if not, why, and what to do about it. */
export type Supported = { ok: true } | { ok: false; reason: string; hint?: string }

/**
 * What this process can do right now: tried, in a process that is thrown away, rather than guessed from a version.
 *
 * A namespace type is `ok` where the process can create one as it is. What needs privilege in a namespace (`proc-mount`,
 * `overlay`, `loopback`, `set-tid`, `setns-pidfd`, `time-offsets`) is tried in a new user namespace where the process has none
 * outside. `unprivileged-userns` is tried as user 65534 where the process is root.
 *
 * @throws {SystemCallError} where no process can be made at all: `EAGAIN`, `ENOMEM`; `EBUSY` where it would become pid 1 of the
 * pid namespace that `unshare('pid')` has made for the first child.
 */
export function probe(): Readonly<Record<Feature, Supported>> {
  const findings = unwrap(binding.probe(), () => ({ hint: rest().hints.clone }), probe)
  const entries = findings.map(({ feature, failure, missing }): [string, Supported] => {
    if (missing !== undefined)
      return [feature, { ok: false, reason: missing, ...advice(rest().hints.missing(feature)) }]
    if (failure === undefined) return [feature, { ok: true }]
    const [code, reason] = describe(failure)
    const hint = rest().hints.feature(feature, { ...failure, code })
    return [feature, { ok: false, reason: `${code}: ${reason}, ${failure.syscall}`, ...advice(hint) }]
  })
  return Object.freeze(Object.fromEntries(entries)) as Readonly<Record<Feature, Supported>>
}

function advice(hint: string | undefined): { hint?: string } {
  return hint === undefined ? {} : { hint }
}
