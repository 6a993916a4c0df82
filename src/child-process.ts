// Sameness with child_process comes from child_process itself: `ChildProcess.prototype.spawn` makes streams and channel, and
// asks a handle to start the process. The handle is ours. ChildProcess's constructor, which makes Node's own, is not called:
// a native handle that starts nothing cannot be let go, and would keep each ChildProcess in memory for ever.
import type { ChildProcess } from 'node:child_process'
import { channel } from 'node:diagnostics_channel'
import { addAbortListener, EventEmitter } from 'node:events'
import type { Readable } from 'node:stream'
import type { Normalized } from './normalized.js'

/** What ChildProcess has made of an entry of `stdio`. */
export type Stdio =
  | { type: 'ignore' }
  | { type: 'pipe' | 'overlapped'; handle: PipeHandle }
  | { type: 'inherit' | 'fd'; fd: number }
  | { type: 'wrap'; handle: { fd: number } }

/** A stream's native handle that is not open yet. */
export interface PipeHandle {
  open(fd: number): void
  close(): void
}

/** What a ChildProcess asks of its handle. Numbers are 0, or a negative errno. */
export interface Handle {
  pid?: number | undefined
  /** The arguments differ from one line of Node to the next: the options that they are taken from do not. */
  spawn(): number
  /** Called in the next tick where `spawn` has returned one of the errnos that are emitted. */
  onexit(): void
  kill(signal: number): number
  close(): void
  ref(): void
  unref(): void
  hasRef(): boolean
}

/** What `ChildProcess.prototype.spawn` makes of its options. */
export type Prepared = Normalized & { stdio: readonly Stdio[] }

/** A ChildProcess as Node's own JavaScript has it. */
export interface Inner extends ChildProcess {
  connected: boolean
  signalCode: NodeJS.Signals | null
  exitCode: number | null
  killed: boolean
  spawnfile: string
  _closesNeeded: number
  _closesGot: number
  _handle: Handle | null
  spawn(options: Normalized): number
}

type ChildProcessModule = typeof import('node:child_process')

let loaded: ChildProcessModule | undefined

/** child_process costs as much to load as this package, and to look it up as to check a call's arguments. */
export function childProcess(): ChildProcessModule {
  loaded ??= require('node:child_process') as ChildProcessModule
  return loaded
}

const created = channel('child_process')

/** As ChildProcess's constructor makes it. */
export function createChild(handleFor: (child: Inner) => Handle): Inner {
  const child: Inner = Object.create(childProcess().ChildProcess.prototype)
  // A class for TypeScript, a function for Node.
  ;(EventEmitter as unknown as () => void).call(child)
  child._closesNeeded = 1
  child._closesGot = 0
  child.connected = false
  child.signalCode = null
  child.exitCode = null
  child.killed = false
  ;(child as { spawnfile: string | null }).spawnfile = null
  child._handle = handleFor(child)
  if (created.hasSubscribers) created.publish({ process: child })
  return child
}

/** What follows when its process has ended, or was not started. */
export function leave(
  child: Inner,
  outcome: { code: number | null; signal: NodeJS.Signals | null; error?: Error },
): void {
  const { code, signal, error } = outcome
  if (signal !== null) child.signalCode = signal
  else child.exitCode = code
  child.stdin?.destroy()
  child._handle?.close()
  child._handle = null
  if (error) child.emit('error', error)
  else child.emit('exit', child.exitCode, child.signalCode)
  // Whoever wants the output may begin to read it in a listener; what is left unread would keep 'close' from coming.
  process.nextTick(flush, child)
  child._closesGot += 1
  if (child._closesGot === child._closesNeeded) child.emit('close', child.exitCode, child.signalCode)
}

function flush(child: Inner): void {
  for (const stream of (child.stdio ?? []) as (Readable | null)[]) {
    if (stream?.readable && !isPassedOn(stream)) stream.resume()
  }
}

/** Whether it is the standard stream of another child: Node marks it. */
function isPassedOn(stream: object): boolean {
  const mark = Object.getOwnPropertySymbols(stream).find(
    ({ description }) => description === 'kIsUsedAsStdio',
  )
  return mark !== undefined && (stream as Record<symbol, unknown>)[mark] === true
}

type KillSignal = NodeJS.Signals | number | undefined

/** As child_process.spawn does with its options of that name. */
export function endInTime(child: Inner, timeout: number, killSignal: KillSignal): void {
  const timer = setTimeout(() => {
    try {
      child.kill(killSignal)
    } catch (error) {
      child.emit('error', error)
    }
  }, timeout)
  child.once('exit', () => clearTimeout(timer))
  // Without a process there is no exit.
  child.once('close', () => clearTimeout(timer))
}

/** As child_process.spawn does with its options of that name. */
export function endOnAbort(child: Inner, signal: AbortSignal, killSignal: KillSignal): void {
  const abort = () => {
    try {
      if (child.kill(killSignal)) child.emit('error', abortError(signal.reason))
    } catch (error) {
      child.emit('error', error)
    }
  }
  if (signal.aborted) {
    process.nextTick(abort)
    return
  }
  const listening = addAbortListener(signal, abort)
  child.once('exit', () => listening[Symbol.dispose]())
}

function abortError(cause: unknown): Error {
  const error = new Error('The operation was aborted', { cause }) as NodeJS.ErrnoException
  error.code = 'ABORT_ERR'
  error.name = 'AbortError'
  return error
}
