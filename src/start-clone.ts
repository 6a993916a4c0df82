import binding = require('../binding.js')

import { constants as os } from 'node:os'
import { isMainThread } from 'node:worker_threads'
import type { CloneRequest } from '../binding.js'
import type { Caller } from './argument-errors.js'
import { ClonedChild } from './child.js'
import { type Checked, has } from './clone-options.js'
import { CLONE_FILES } from './constants.js'
import { type Body, goOn, goOnSynchronously, hasEventLoop, isExiting, rehearse } from './copy.js'
import { hints } from './hints.js'
import { type NodeInternals, nodeInternals } from './node-internals.js'
import { abortsOnUncaughtException, sharesRings } from './startup.js'
import { check, systemCallError, unwrap } from './system-call-error.js'

/** clone(2) of what has been checked. */
export function startClone(fn: Body, { request, release }: Checked, caller: Caller): ClonedChild {
  let child: ClonedChild | undefined
  let hasBegun = false
  try {
    if (!isMainThread) throw systemCallError(NOT_HERE, { hint: hints.cloneInWorker }, caller)
    if (isExiting()) throw systemCallError(NOT_HERE, { hint: hints.cloneAtExit }, caller)
    if (!hasEventLoop) throw systemCallError(NOT_HERE, { hint: hints.cloneWithoutLoop }, caller)
    if (!isPrepared) refuseWhatCannot(caller)
    const sharesDescriptors = has(request.flags, CLONE_FILES)
    const internals = nodeInternals()
    prepare(request, internals, caller)
    const circumstances = () => ({ hint: hints.cloneProcess(request), step: hints.cloneStep(request) })
    child = new ClonedChild()
    const [pid, pidfd] = unwrap(binding.cloneProcess(request), circumstances, caller)
    hasBegun = true
    if (pidfd !== -1) {
      child.begin(pid, pidfd)
      return child
    }
    if (sharesDescriptors) return goOnSynchronously(fn, pid, internals)
    release()
    return goOn(fn, pid, internals)
  } finally {
    // In the parent only: the child ends here.
    if (!hasBegun) child?.giveUp()
    release()
  }
}

let isPrepared = false

/** What this Node was started with stays as long as it runs. */
function refuseWhatCannot(caller: Caller): void {
  if (abortsOnUncaughtException()) throw systemCallError(NOT_HERE, { hint: hints.cloneWithAbort }, caller)
  if (sharesRings()) throw systemCallError(NOT_HERE, { hint: hints.cloneWithRings }, caller)
}

/** What has to be known of this Node is found out once. */
function prepare(request: CloneRequest, internals: NodeInternals, caller: Caller): void {
  if (isPrepared) return
  const nothing = () => {
    // It is only counted.
  }
  const enqueue = () => queueMicrotask(nothing)
  check(
    binding.prepareClone(enqueue),
    () => ({ hint: hints.cloneProcess(request), step: () => 'clone' }),
    caller,
  )
  rehearse(internals)
  isPrepared = true
}

const NOT_HERE = {
  code: 'ENOTSUP',
  errno: os.errno.EOPNOTSUPP,
  reason: 'operation not supported',
  syscall: 'clone',
  step: 'clone',
}
