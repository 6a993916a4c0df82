import binding = require('../binding.js')

import { constants as os } from 'node:os'
import { types } from 'node:util'
import { isMainThread } from 'node:worker_threads'
import type { Caller } from './argument-errors.js'
import { ClonedChild } from './child.js'
import { type Checked, has, NOTHING_ASKED } from './clone-options.js'
import type { CloneRequest } from './clone-request.js'
import { compile } from './compile.js'
import { CLONE_FILES } from './constants.js'
import {
  type Body,
  contextOfCaller,
  enqueueMicrotask,
  getReady,
  goOn,
  goOnSynchronously,
  hasEventLoop,
  isExiting,
  isRehearsed,
  Run,
  rehearse,
} from './copy.js'
import { hints } from './hints.js'
import { nodeInternals } from './node-internals.js'
import type { StartedProcess } from './started-process.js'
import { abortsOnUncaughtException, sharesRings } from './startup.js'
import { check, systemCallError } from './system-call-error.js'
import { watches } from './watches.js'

/** Where the addon writes a pid and a pidfd: an array of its own each time would be made behind the fork. */
const made = new Int32Array(2)

/**
 * clone(2) of what has been checked. Each function that runs here writes to a page or two, and behind the fork each of those is
 * copied: there is as little as can be.
 */
export function startClone(fn: Body, checked: Checked, caller: Caller): ClonedChild {
  const { request } = checked
  let started: StartedProcess | undefined
  let hasBegun = false
  try {
    if (!isMainThread) throw systemCallError(NOT_HERE, { hint: hints.cloneInWorker }, caller)
    if (isExiting()) throw systemCallError(NOT_HERE, { hint: hints.cloneAtExit }, caller)
    if (!hasEventLoop) throw systemCallError(NOT_HERE, { hint: hints.cloneWithoutLoop }, caller)
    if (!isPrepared) prepare(request, caller)
    if (!isRehearsed()) {
      rehearse(nodeInternals())
      compiled = new WeakSet()
    }
    if (!compiled.has(fn)) {
      compile(fn)
      compiled.add(fn)
    }
    const epoll = watches.epoll(caller)
    const run = new Run(fn, contextOfCaller(), nodeInternals())
    const child = new ClonedChild()
    started = ClonedChild.processOf(child)
    const { flags, stackSize, exitSignal } = request
    const more = checked === NOTHING_ASKED ? null : request
    // Whoever waits for something lives long enough to have work for threads.
    const mayBeShort = !types.isAsyncFunction(fn)
    binding.askForClone(epoll, started.number, made, flags, stackSize, exitSignal, mayBeShort, more)
    const failure = binding.cloneProcess()
    if (failure !== null) {
      const circumstances = { hint: hints.cloneProcess(request), step: hints.cloneStep(request) }
      throw systemCallError(failure, circumstances, caller)
    }
    hasBegun = true
    // Destructuring would run an array's iterator.
    const pid = made[0] as number
    const pidfd = made[1] as number
    if (pidfd !== -1) {
      child.pid = pid
      started.pidfd = pidfd
      return child
    }
    if (flags !== 0 && has(flags, CLONE_FILES)) {
      return goOnSynchronously(fn, pid, nodeInternals())
    }
    checked.release?.()
    return goOn(run, pid, started)
  } finally {
    // In the parent only: the child ends here.
    if (!hasBegun) started?.giveUp()
    checked.release?.()
  }
}

/** Those that have been compiled since V8 has last collected garbage. */
let compiled = new WeakSet<Body>()

let isPrepared = false

/** What has to be known of this Node is found out once; what it was started with stays as long as it runs. */
function prepare(request: CloneRequest, caller: Caller): void {
  if (abortsOnUncaughtException()) throw systemCallError(NOT_HERE, { hint: hints.cloneWithAbort }, caller)
  if (sharesRings()) throw systemCallError(NOT_HERE, { hint: hints.cloneWithRings }, caller)
  const nothing = () => {
    // It is only counted.
  }
  const enqueue = () => enqueueMicrotask(nothing)
  check(
    binding.prepareClone(enqueue),
    () => ({ hint: hints.cloneProcess(request), step: () => 'clone' }),
    caller,
  )
  getReady(nodeInternals())
  isPrepared = true
}

const NOT_HERE = {
  code: 'ENOTSUP',
  errno: os.errno.EOPNOTSUPP,
  reason: 'operation not supported',
  syscall: 'clone',
  step: 'clone',
}
