import { constants as os } from 'node:os'
import { SIGKILL } from './constants.js'
import { hints } from './hints.js'
import { type ExitStatus, StartedProcess } from './started-process.js'
import { systemCallError } from './system-call-error.js'
import { signalNumber } from './validate.js'

/** A running child, held by pidfd, so that neither kill nor wait can ever reach another process. */
export interface Child extends AsyncDisposable {
  readonly pid: number
  /** Close-on-exec; the library's to close, once the child is reaped: -1 from then on. */
  readonly pidfd: number
  /**
   * Resolves when the child has ended and is reaped. Holds the event loop open; see unref.
   *
   * @throws {SystemCallError} `ECHILD`: this process is a clone itself, and the child its parent's.
   */
  wait(): Promise<ExitStatus>
  /** Blocks the calling thread. Throws what {@link wait} rejects with. */
  waitSync(): ExitStatus
  /** pidfd_send_signal(2); SIGTERM by default, 0 asks only. False where the child has ended already. */
  kill(signal?: NodeJS.Signals | number): boolean
  ref(): this
  unref(): this
  /** SIGKILL where it still runs, then wait. */
  [Symbol.asyncDispose](): PromiseLike<void>
}

export class ClonedChild implements Child {
  pid = -1
  readonly #process: StartedProcess
  #waiting: ((status: ExitStatus) => void)[] = []
  #isReferenced = true

  /** Of a process that is yet to be made. */
  constructor() {
    this.#process = new StartedProcess((status) => {
      for (const resolve of this.#waiting.splice(0)) resolve({ ...status })
    })
  }

  /** What is known of it behind the fork is assigned: a function that ran there would be copied. */
  static processOf(child: ClonedChild): StartedProcess {
    return child.#process
  }

  get pidfd(): number {
    return this.#process.pidfd
  }

  wait(): Promise<ExitStatus> {
    return new Promise((resolve, reject) => {
      const { status, isOthers } = this.#process
      if (status) return resolve({ ...status })
      if (isOthers) return reject(notOurs(this.wait))
      this.#waiting.push(resolve)
      this.#hold()
    })
  }

  waitSync(): ExitStatus {
    if (this.#process.isOthers) throw notOurs(this.waitSync)
    return { ...(this.#process.reap(true, this.waitSync) as ExitStatus) }
  }

  kill(signal: NodeJS.Signals | number = 'SIGTERM'): boolean {
    const number = signalNumber(signal, 'signal', this.kill)
    if (this.#process.isOthers || this.#process.reap(false, this.kill)) return false
    const failure = this.#process.signal(number)
    if (failure?.code === 'ESRCH') return false
    if (failure) throw systemCallError(failure, {}, this.kill)
    return true
  }

  ref(): this {
    this.#isReferenced = true
    this.#hold()
    return this
  }

  unref(): this {
    this.#isReferenced = false
    this.#hold()
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.isOthers) return
    this.kill(SIGKILL)
    await this.wait()
  }

  #hold(): void {
    this.#process.hold(this.#isReferenced && this.#waiting.length > 0)
  }
}

function notOurs(caller: (...args: never[]) => unknown): Error {
  const failure = {
    code: 'ECHILD',
    errno: os.errno.ECHILD,
    reason: 'no child processes',
    syscall: 'waitid',
  }
  return systemCallError(failure, { hint: hints.wait }, caller)
}
