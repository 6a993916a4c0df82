import binding = require('../binding.js')

import { AsyncResource } from 'node:async_hooks'
import { constants as os } from 'node:os'
import type { Spawned, SpawnRequest } from '../binding.js'
import type { Caller } from './argument-errors.js'
import {
  type Handle,
  type Inner,
  leave,
  type PipeHandle,
  type Prepared,
  type Stdio,
} from './child-process.js'
import { hints } from './hints.js'
import type { Normalized } from './normalized.js'
import { programRequest } from './program.js'
import { type Checked, withIsolation } from './spawn-options.js'
import { StartedProcess } from './started-process.js'
import { check, execError, isSystemError, type SystemError, unwrap } from './system-call-error.js'
import { watches } from './watches.js'

/** Those that ChildProcess emits; others it throws. */
const EMITTED = [os.errno.EACCES, os.errno.EAGAIN, os.errno.EMFILE, os.errno.ENFILE, os.errno.ENOENT]
/** Without a descriptor left, ChildProcess makes no streams. */
const STREAMLESS = [os.errno.EMFILE, os.errno.ENFILE]

interface Pair {
  handle: PipeHandle
  /** -1 when it is the handle's. */
  ours: number
  theirs: number
}

/** Starts a ChildProcess's process, in the place of Node's own handle. */
export class ProcessHandle extends AsyncResource implements Handle {
  pid: number | undefined
  readonly #child: Inner
  readonly #options: Normalized
  readonly #checked: Checked
  readonly #caller: Caller
  readonly #request: SpawnRequest
  #process: StartedProcess | undefined
  #isReferenced = true
  #failed: { error: SystemError; isThrown: boolean } | undefined

  constructor(child: Inner, options: Normalized, checked: Checked, caller: Caller) {
    super('PROCESSWRAP')
    this.#child = child
    this.#options = options
    this.#checked = checked
    this.#caller = caller
    // What is wrong with it is found before ChildProcess has made streams.
    // An empty one is as none, as in Node, whose spawnSync takes it for a directory.
    this.#request = programRequest(options.cwd === '' ? { ...options, cwd: undefined } : options, caller)
  }

  /** While it runs. */
  get pidfd(): number | undefined {
    const pidfd = this.#process?.pidfd
    return pidfd === -1 ? undefined : pidfd
  }

  spawn(): number {
    const { stdio } = this.#options as Prepared
    const pairs: Pair[] = []
    let errno = 0
    let isRefused = false
    const started = new StartedProcess((end) => {
      this.runInAsyncScope(leave, undefined, this.#child, end)
    })
    try {
      const [pid, pidfd, status] = this.#start(stdio, pairs, started.number)
      this.pid = pid
      this.#process = started
      started.pidfd = pidfd
      started.report = status
      started.hold(this.#isReferenced)
    } catch (error) {
      started.giveUp()
      isRefused = !isSystemError(error)
      if (!isSystemError(error)) throw error
      const isEmitted = EMITTED.includes(-error.errno)
      // What a namespace has refused has no counterpart in Node, and is emitted whatever it is.
      const isThrown = this.#checked.isolation === undefined && !isEmitted
      this.#failed = { error, isThrown }
      errno = isEmitted || isThrown ? error.errno : -os.errno.EACCES
    } finally {
      // As libuv leaves it: where nothing was started, the streams are there and end.
      const hasStreams = !isRefused && !this.#failed?.isThrown && !STREAMLESS.includes(-errno)
      connect(stdio, pairs, hasStreams)
    }
    return errno
  }

  #start(stdio: readonly Stdio[], pairs: Pair[], number: number): Spawned {
    const request = this.#request
    const epoll = watches.epoll(this.#caller)
    request.stdio = stdio.map((entry) => this.#descriptor(entry, pairs))
    open(pairs, this.#caller)
    return withIsolation(this.#checked, request, this.#caller, () => {
      const circumstances = () => ({ hint: hints.spawn(request) })
      return unwrap(binding.spawnProcess(request, epoll, number), circumstances, this.#caller)
    })
  }

  /** What the child gets a copy of. */
  #descriptor(entry: Stdio, pairs: Pair[]): number {
    switch (entry.type) {
      case 'ignore':
        return -1
      case 'pipe':
      case 'overlapped': {
        const pair = unwrap(binding.socketPair(), () => ({ step: () => 'stdio' }), this.#caller)
        pairs.push({ handle: entry.handle, ...pair })
        return pair.theirs
      }
      case 'wrap':
        return entry.handle.fd
      default:
        // As Node reads a number that is no integer.
        return entry.fd | 0
    }
  }

  onexit(): void {
    if (this.#failed === undefined) return
    const { error } = this.#failed
    leave(this.#child, { code: error.errno, signal: null, error: this.#emitted(error) })
  }

  /** Of exec itself in Node's own shape. */
  #emitted(error: SystemError): Error {
    const { spawnfile, spawnargs } = this.#child
    const args = spawnargs.slice(1)
    if (error.step === 'exec') return execError(error, 'spawn', spawnfile, args)
    return Object.assign(error, { spawnargs: args })
  }

  /** What ChildProcess has thrown since nothing was started, or what else was thrown. */
  thrown(error: unknown): unknown {
    if (!this.#failed?.isThrown) return error
    const { error: refusal } = this.#failed
    if (refusal.step !== 'exec') return Object.assign(refusal, { spawnargs: this.#child.spawnargs.slice(1) })
    const { step, hint } = refusal
    return Object.assign(error as Error, hint === undefined ? { step } : { step, hint })
  }

  kill(signal: number): number {
    // Where nothing was started, or it is not ours to signal, it is as if it had ended.
    if (this.#process === undefined || this.pidfd === undefined) return -os.errno.ESRCH
    const failure = this.#process.signal(signal)
    return failure ? -failure.errno : 0
  }

  close(): void {
    // Its process has ended: nothing is left to close.
  }

  ref(): void {
    this.#isReferenced = true
    this.#process?.hold(true)
  }

  unref(): void {
    this.#isReferenced = false
    this.#process?.hold(false)
  }

  hasRef(): boolean {
    return this.#isReferenced && this.pidfd !== undefined
  }
}

/** The streams' own ends, while no process exists that would be left behind. */
function open(pairs: readonly Pair[], caller: Caller): void {
  for (const [index, pair] of pairs.entries()) {
    try {
      pair.handle.open(pair.ours)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_ACCESS_DENIED') throw error
      // Node's permission model asks here for the network, since 26.12; but for nothing where child_process opens its own.
      const rest = pairs.slice(index)
      const fds = Int32Array.from(rest, ({ ours }) => ours)
      check(binding.openNewestPipes(fds), () => ({ step: () => 'stdio' }), caller)
      for (const opened of rest) opened.ours = -1
      return
    }
    pair.ours = -1
  }
}

function connect(stdio: readonly Stdio[], pairs: readonly Pair[], hasStreams: boolean): void {
  for (const { ours, theirs } of pairs) {
    binding.closeDescriptor(theirs)
    binding.closeDescriptor(ours)
  }
  if (hasStreams) return
  for (const entry of stdio) if (entry.type === 'pipe' || entry.type === 'overlapped') entry.handle.close()
}
