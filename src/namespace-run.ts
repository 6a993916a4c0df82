// A function in a clone of this process: what it is given is there, since it is a copy; what it returns comes through a pipe.
import binding = require('../binding.js')

import { closeSync, fstatSync, openSync, readdirSync, statSync } from 'node:fs'
import { type Caller, withCode } from './argument-errors.js'
import type { ClonedChild } from './child.js'
import type { CloneRequest } from './clone-request.js'
import { SIGKILL } from './constants.js'
import { type NamespaceType, typesIn } from './flags.js'
import { Incoming, messageOf, messageOfThrown } from './namespace-message.js'
import type { Plan } from './namespace-table.js'
import { startClone } from './start-clone.js'
import type { ExitStatus } from './started-process.js'
import { check, unwrap } from './system-call-error.js'
import { type Watcher, watches } from './watches.js'
import { refreshWorkingDirectory } from './working-directory.js'

/** Milliseconds between SIGTERM and SIGKILL. */
export const GRACE = 1000

/** What the function is called with is there as it is. */
interface Call<A extends readonly unknown[]> {
  fn(...args: A): unknown
  args: A
}

/** Node's own name for the status of a process in which nothing can settle a promise any more. */
const UNSETTLED = 13

export async function runIn<A extends readonly unknown[]>(
  plan: Plan,
  request: CloneRequest,
  call: Call<A>,
  caller: Caller,
  debug: (line: string) => void,
): Promise<unknown> {
  const { signal } = plan
  if (signal?.aborted) throw abortError(signal, caller)
  const { child, answer } = begin(plan, request, call, caller)
  debug(`pid ${child.pid}`)
  try {
    const status = await untilEnd(child, plan, request)
    debug(status.signal === null ? `it has ended with code ${status.code}` : `${status.signal} has ended it`)
    if (signal?.aborted) throw abortError(signal, caller)
    return answer.take(status)
  } finally {
    answer.close()
  }
}

function begin<A extends readonly unknown[]>(
  plan: Plan,
  request: CloneRequest,
  call: Call<A>,
  caller: Caller,
): { child: ClonedChild; answer: Answer } {
  const nothing = () => ({})
  rehearse()
  const { ours, theirs } = unwrap(binding.widePipe(), nothing, caller)
  let answer: Answer | undefined
  let parent = -1
  try {
    answer = new Answer(ours, caller)
    if (plan.termChild) parent = unwrap(binding.pidfdOpen(process.pid, 0), nothing, caller)
    return { child: startClone(inside(call, theirs, parent), { request }, caller), answer }
  } catch (error) {
    answer?.close()
    throw error
  } finally {
    // In this process only: in the other this is not come to.
    closeSync(theirs)
    if (parent !== -1) closeSync(parent)
  }
}

/** What the clone does. */
function inside<A extends readonly unknown[]>(
  { fn, args }: Call<A>,
  pipe: number,
  parent: number,
  { guard, writeAll }: Pick<typeof binding, 'guard' | 'writeAll'> = binding,
): () => Promise<number> {
  return async function run() {
    let message: readonly Uint8Array[]
    try {
      check(guard(parent, GRACE), () => ({ step: () => 'clone' }), run)
      refreshWorkingDirectory()
      message = messageOf(await fn(...args))
    } catch (error) {
      message = messageOfThrown(error)
    }
    // Where nobody reads, nobody waits for it.
    return message.every((part) => writeAll(pipe, part) === null) ? 0 : 1
  }
}

let isRehearsed = false

/** Here and with no effect, so that V8 compiles it in this process, rather than in every clone. */
function rehearse(): void {
  if (isRehearsed) return
  isRehearsed = true
  const nothing = () => null
  void inside({ fn: nothing, args: [] }, -1, -1, { guard: nothing, writeAll: nothing })()
}

async function untilEnd(child: ClonedChild, plan: Plan, request: CloneRequest): Promise<ExitStatus> {
  const { signal } = plan
  const family = plan.isPid ? undefined : Family.of(child.pid, typesIn(request.flags))
  let timer: NodeJS.Timeout | undefined
  const abort = () => {
    child.kill('SIGTERM')
    timer = setTimeout(() => child.kill(SIGKILL), GRACE)
  }
  signal?.addEventListener('abort', abort)
  try {
    const status = await child.wait()
    // One that was killed could not take with it what it had started.
    if (status.signal !== null) await family?.end()
    return status
  } finally {
    signal?.removeEventListener('abort', abort)
    clearTimeout(timer)
    family?.release()
  }
}

/** What the function has told, as far as it has come. */
class Answer implements Watcher {
  readonly #incoming: Incoming
  readonly #fd: number
  readonly #number: number
  readonly #caller: Caller
  #isOpen = true
  #failure: { error: unknown } | undefined

  constructor(fd: number, caller: Caller) {
    this.#caller = caller
    this.#incoming = new Incoming(fd)
    this.#fd = fd
    this.#number = watches.add(this)
    watches.watch(fd, this.#number, caller)
  }

  onReadable(): void {
    try {
      if (this.#incoming.read()) return
    } catch (error) {
      this.#failure = { error }
    }
    this.close()
  }

  /** When the process has ended, and nothing more comes. */
  take(status: ExitStatus): unknown {
    if (this.#isOpen) this.onReadable()
    if (!this.#failure && !this.#incoming.isComplete) throw childExit(status, this.#caller)
    const { hasThrown, value } = this.#result(status)
    if (hasThrown) throw value
    return value
  }

  #result(status: ExitStatus): ReturnType<Incoming['result']> {
    try {
      if (this.#failure) throw this.#failure.error
      return this.#incoming.result()
    } catch (error) {
      throw childExit(status, this.#caller, { cause: error })
    }
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    watches.remove(this.#number)
    watches.close(this.#fd)
  }

  disown(): void {
    this.#isOpen = false
    binding.closeDescriptor(this.#fd)
  }
}

/** Those types that a process has from the one that has started it, unless it leaves them on purpose. */
const INHERITED: readonly NamespaceType[] = ['mnt', 'net', 'ipc', 'uts', 'cgroup', 'user', 'time']

/** The processes in a namespace, which is held, so that no other gets its number. */
class Family {
  readonly #type: NamespaceType
  readonly #fd: number

  private constructor(type: NamespaceType, fd: number) {
    this.#type = type
    this.#fd = fd
  }

  /** None where there is no namespace to know them by, or /proc does not show it. */
  static of(pid: number, types: readonly NamespaceType[]): Family | undefined {
    const type = INHERITED.find((each) => types.includes(each))
    if (type === undefined) return undefined
    try {
      const family = new Family(type, openSync(`/proc/${pid}/ns/${type}`, 'r'))
      if (!family.#has('self')) return family
      family.release()
    } catch {
      // It has ended already, and has started nothing.
    }
    return undefined
  }

  async end(): Promise<void> {
    for (;;) {
      const killed = readdirSync('/proc').flatMap((pid) => (/^\d+$/.test(pid) ? this.#kill(Number(pid)) : []))
      if (killed.length === 0) return
      await Promise.all(killed)
    }
  }

  release(): void {
    closeSync(this.#fd)
  }

  #has(pid: number | string): boolean {
    try {
      return statSync(`/proc/${pid}/ns/${this.#type}`).ino === fstatSync(this.#fd).ino
    } catch {
      return false
    }
  }

  #kill(pid: number): Promise<void>[] {
    if (!this.#has(pid)) return []
    const pidfd = binding.pidfdOpen(pid, 0)
    if (typeof pidfd !== 'number') return []
    if (this.#has(pid) && binding.pidfdSendSignal(pidfd, SIGKILL, 0) === null) return [gone(pidfd)]
    closeSync(pidfd)
    return []
  }
}

function gone(pidfd: number): Promise<void> {
  return new Promise((resolve) => {
    const number = watches.add({
      onReadable() {
        watches.remove(number)
        watches.hold(false)
        watches.close(pidfd)
        resolve()
      },
      disown: () => binding.closeDescriptor(pidfd),
    })
    watches.watch(pidfd, number, gone)
    watches.hold(true)
  })
}

/** `told` is what is wrong with what came instead of an answer. */
function childExit({ code, signal }: ExitStatus, caller: Caller, told?: { cause: unknown }): Error {
  const how = signal === null ? `with exit code ${code}` : `by ${signal}`
  const why = code === UNSETTLED ? ': nothing was left to settle its promise' : ''
  const what = told ? 'and what it has told is no answer' : `before the function has${why}`
  const error = withCode(
    Error,
    'ERR_NAMESPACE_CHILD_EXIT',
    `The process of the function has ended ${how}, ${what}`,
    caller,
  )
  if (told) Object.defineProperty(error, 'cause', { value: told.cause, configurable: true, writable: true })
  return Object.assign(error, { exitCode: code, signal })
}

/** As Node's own are made. */
function abortError({ reason }: AbortSignal, caller: Caller): Error {
  const error = new Error('The operation was aborted', { cause: reason })
  error.name = 'AbortError'
  Error.captureStackTrace(error, caller)
  return Object.assign(error, { code: 'ABORT_ERR' })
}
