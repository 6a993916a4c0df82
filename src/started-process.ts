import binding = require('../binding.js')

import { constants as os } from 'node:os'
import type { Failure } from '../binding.js'
import type { Caller } from './argument-errors.js'
import { unwrap } from './system-call-error.js'

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
export class StartedProcess {
  /** Those that this process has to wait for. */
  static readonly running = new Set<StartedProcess>()

  pid = -1
  #pidfd = -1
  #report = -1
  #watch: binding.PidfdWatch | undefined
  #status: ExitStatus | undefined
  #isOthers = false
  readonly #onEnd: (status: ExitStatus) => void

  /** Made before there is a process. `onEnd` is called once, when it is reaped. */
  constructor(onEnd: (status: ExitStatus) => void) {
    this.#onEnd = onEnd
    this.#watch = new binding.PidfdWatch(() => {
      this.reap(false, this.reap)
    })
  }

  /** Owns both descriptors from now on; `report` is one by which init tells of the program's end, or -1. */
  begin(pid: number, pidfd: number, report: number): void {
    this.pid = pid
    this.#pidfd = pidfd
    this.#report = report
    this.#watch?.start(pidfd, report)
    StartedProcess.running.add(this)
  }

  /** -1 where it is not held any more. */
  get pidfd(): number {
    return this.#pidfd
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
    this.#watch?.hold(holds)
  }

  signal(number: number): Failure | null {
    return binding.pidfdSendSignal(this.#pidfd, number, 0)
  }

  /** Its status, once it has ended; where that is now, what was kept for it is let go. */
  reap(block: boolean, caller: Caller): ExitStatus | undefined {
    if (this.#status) return this.#status
    const outcome = binding.waitSpawned(this.#pidfd, this.#report, block)
    const ended = unwrap(outcome, () => ({}), caller)
    if (ended == null) return undefined
    if (Number.isNaN(ended)) this.#status = { code: null, signal: null }
    else this.#status = ended < 0 ? { code: null, signal: signalName(-ended) } : { code: ended, signal: null }
    StartedProcess.running.delete(this)
    this.#pidfd = -1
    try {
      this.#onEnd(this.#status)
    } finally {
      // Nobody has to wait for this.
      this.close()
    }
    return this.#status
  }

  /** There is nobody to wait for, or no longer. */
  close(): void {
    this.#watch?.close()
    this.#watch = undefined
  }

  /** In a clone, where the children are those of the parent, and their pidfds are closed. */
  static disown(running: Set<StartedProcess>): void {
    for (const process of running) {
      process.#isOthers = true
      process.#pidfd = -1
      process.#watch = undefined
    }
    running.clear()
  }
}

/** Real-time signals have no names in Node. */
export function signalName(number: number): NodeJS.Signals {
  return signalNames.get(number) ?? (`SIG${number}` as NodeJS.Signals)
}
