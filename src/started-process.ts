import binding = require('../binding.js')

import { constants as os } from 'node:os'
import type { Failure } from '../binding.js'
import type { Caller } from './argument-errors.js'
import { unwrap } from './system-call-error.js'
import { type Watcher, watches } from './watches.js'

export interface ExitStatus {
  /** Exit code, or null where a signal ended it. */
  code: number | null
  signal: NodeJS.Signals | null
}

/** Of several names of one number the first, as in Node. */
const signalNames = new Map(
  Object.entries(os.signals)
    .reverse()
    .map(([name, number]) => [number, name as NodeJS.Signals]),
)

/** A process that this one has started, held by its pidfd, so that neither a signal nor waiting can ever reach another. */
export class StartedProcess implements Watcher {
  /** By which the event loop tells of its end. */
  readonly number: number
  /** Its own to close; -1 where it is not held yet, or any more. */
  pidfd = -1
  /** The same, by which init tells of the program's end; -1: there is none. */
  report = -1
  #holds = false
  #status: ExitStatus | undefined
  #isOthers = false
  readonly #onEnd: (status: ExitStatus) => void

  /** Made before there is a process. `onEnd` is called once, when it is reaped. */
  constructor(onEnd: (status: ExitStatus) => void) {
    this.#onEnd = onEnd
    this.number = watches.add(this)
  }

  /** There is none. */
  giveUp(): void {
    watches.remove(this.number)
  }

  /** Whether this process is a clone itself, and the other its parent's. */
  get isOthers(): boolean {
    return this.#isOthers
  }

  get status(): ExitStatus | undefined {
    return this.#status
  }

  /** Whether its end is waited for by the event loop. */
  hold(holds: boolean): void {
    if (holds === this.#holds) return
    this.#holds = holds
    watches.hold(holds)
  }

  onReadable(): void {
    this.reap(false, this.reap)
  }

  signal(number: number): Failure | null {
    return binding.pidfdSendSignal(this.pidfd, number, 0)
  }

  /** Its status, once it has ended; where that is now, what was kept for it is let go. */
  reap(block: boolean, caller: Caller): ExitStatus | undefined {
    if (this.#status) return this.#status
    const outcome = binding.waitSpawned(this.pidfd, this.report, block)
    const ended = unwrap(outcome, () => ({}), caller)
    if (ended == null) return undefined
    if (Number.isNaN(ended)) this.#status = { code: null, signal: null }
    else this.#status = ended < 0 ? { code: null, signal: signalName(-ended) } : { code: ended, signal: null }
    watches.remove(this.number)
    const pidfd = this.pidfd
    this.pidfd = -1
    try {
      this.#onEnd(this.#status)
    } finally {
      // Nobody has to wait for this.
      this.hold(false)
      watches.close(pidfd)
      watches.close(this.report)
    }
    return this.#status
  }

  disown(): void {
    this.#isOthers = true
    this.#holds = false
    binding.closeDescriptor(this.pidfd)
    binding.closeDescriptor(this.report)
    this.pidfd = -1
  }
}

/** Real-time signals have no names in Node. */
export function signalName(number: number): NodeJS.Signals {
  return signalNames.get(number) ?? (`SIG${number}` as NodeJS.Signals)
}
