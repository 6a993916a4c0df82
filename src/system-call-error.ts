import { getSystemErrorMap } from 'node:util'
import type { Failure } from '../binding.js'
import type { Caller } from './argument-errors.js'
import { bare } from './validate.js'

/** The steps that a child goes through before its program or function starts; which one failed. */
export type Step =
  | 'clone'
  | 'join'
  | 'id-map'
  | 'setgroups'
  | 'time-offsets'
  | 'cgroup'
  | 'propagation'
  | 'mount'
  | 'pivot-root'
  | 'hostname'
  | 'network'
  | 'rlimit'
  | 'capabilities'
  | 'seccomp'
  | 'chdir'
  | 'credentials'
  | 'stdio'
  | 'exec'

/** A failed system call, shaped like Node's own system errors. `message` reads `EPERM: operation not permitted, unshare`. */
export interface SystemCallError extends Error {
  /** The errno's name, e.g. `'EPERM'`; also for those that `os.constants.errno` lacks, e.g. `'EUSERS'`. */
  code: string
  /** Negative, as in Node. */
  errno: number
  /** The call that failed, as its manual page names it: `'unshare'`, `'mount'`, `'umount2'`, `'ioctl'` … */
  syscall: string
  /** The path that the call was given; with `threads: 'all'`, `/proc/self/task/TID` of the thread that failed. */
  path?: string
  /** The second path of two. */
  dest?: string
  /** Set by whatever starts a child. */
  step?: Step
  /** What the person can do about it, where the cause is known: one sentence. */
  hint?: string
}

/** What a call adds to its failure. */
export interface Circumstances {
  path?: string | null
  dest?: string
  /** The step of starting a child, where it is not the one that the failure names. */
  step?: (failure: Failure) => Step | undefined
  /** Looks for the cause; it may read /proc, and runs only when there is an error to explain. */
  hint?: (failure: Failure) => string | undefined
}

/** Node's own words where it knows the errno, so that its errors and ours read alike; else the kernel's name. */
export function describe({ code, errno, reason }: Failure): [code: string, reason: string] {
  return getSystemErrorMap().get(-errno) ?? [code, reason.charAt(0).toLowerCase() + reason.slice(1)]
}

export function systemCallError(refused: Failure, given: Circumstances, caller: Caller): SystemCallError {
  const [failure, circumstances] = [bare(refused), bare(given)]
  const [code, reason] = describe(failure)
  const path =
    failure.thread === undefined ? (failure.path ?? circumstances.path) : `/proc/self/task/${failure.thread}`
  const dest = failure.dest ?? circumstances.dest
  let message = `${code}: ${reason}, ${failure.syscall}`
  if (path != null) message += ` '${path}'`
  if (dest !== undefined) message += ` -> '${dest}'`
  const error = new Error(message) as SystemCallError
  Error.captureStackTrace(error, caller)
  error.errno = -failure.errno
  error.code = code
  error.syscall = failure.syscall
  if (path != null) error.path = path
  if (dest !== undefined) error.dest = dest
  const step = circumstances.step?.(failure) ?? failure.step
  if (step !== undefined) error.step = step as Step
  const hint = hintOf(bare({ ...failure, code }), circumstances)
  if (hint !== undefined) error.hint = hint
  return error
}

/** What open(2), called by node:fs, has refused, with what else is known of it. */
export function openError(error: unknown, circumstances: Circumstances, caller: Caller): unknown {
  if (!isSystemError(error)) return error
  const { errno, syscall, message } = error
  const { code = '', path } = error as NodeJS.ErrnoException
  const failure = bare<Failure>({ code, errno: -errno, syscall, reason: message })
  if (path !== undefined) failure.path = path
  return systemCallError(failure, circumstances, caller)
}

/** A hint is a courtesy: where it cannot be found out, without /proc for one, the error is the same without it. */
function hintOf(failure: Failure, { hint }: Circumstances): string | undefined {
  try {
    return hint?.(failure)
  } catch {
    return undefined
  }
}

/** Throws where a call without a result has failed. What is known of it is asked for only then: success costs nothing. */
export function check(failure: Failure | null, circumstances: () => Circumstances, caller: Caller): void {
  if (failure !== null) throw systemCallError(failure, circumstances(), caller)
}

/** What a call returned, where it has not failed. */
export function unwrap<T>(outcome: T | Failure, circumstances: () => Circumstances, caller: Caller): T {
  if (isFailure(outcome)) throw systemCallError(outcome, circumstances(), caller)
  return outcome
}

/** An error of this package's or of Node's own. */
export type SystemError = Error & { errno: number; syscall: string; step?: Step; hint?: string }

export function isSystemError(error: unknown): error is SystemError {
  const { errno, syscall } = error instanceof Error ? (error as NodeJS.ErrnoException) : {}
  return typeof errno === 'number' && typeof syscall === 'string'
}

/** What exec has refused, as child_process says it. */
export function execError(error: SystemError, call: string, file: string, args: readonly unknown[]): Error {
  const { errno, step, hint, stack } = error
  const { code } = error as NodeJS.ErrnoException
  const syscall = `${call} ${file}`
  const result = new Error(`${syscall} ${code}`)
  // From where it was started, which Node's own does not tell.
  result.stack = `${result}${stack?.slice(stack.indexOf('\n    at ')) ?? ''}`
  Object.assign(result, { errno, code, syscall, path: file, spawnargs: args })
  if (step !== undefined) Object.assign(result, { step })
  return hint === undefined ? result : Object.assign(result, { hint })
}

function isFailure(outcome: unknown): outcome is Failure {
  return typeof outcome === 'object' && outcome !== null && Object.hasOwn(outcome, 'syscall')
}
