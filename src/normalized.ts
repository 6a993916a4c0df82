import { constants as os } from 'node:os'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'
import { type Caller, invalidArgType, invalidArgValue, withCode } from './argument-errors.js'
import { childProcess } from './child-process.js'
import { isArray } from './validate.js'

/** What child_process makes of its arguments; what it leaves to others is as the caller has given it. */
export interface Normalized {
  file: string
  /** From argv[0] on; what is no string becomes one. */
  args: unknown[]
  cwd?: unknown
  /** Absent: this process's own environment, as the kernel has it. */
  envPairs?: string[]
  detached: boolean
  uid?: number | null
  gid?: number | null
  stdio?: unknown
  serialization?: unknown
}

type Given = Readonly<Record<string, unknown>>

/**
 * What child_process.spawn makes of its arguments. What is plain, as nearly always, is written down here. All else is
 * Node's to judge: its errors, and what it does with them, differ from one line to the next.
 */
export function normalized(file: unknown, args: unknown, options: Given): Normalized {
  const { cwd, uid, gid, stdio, serialization } = options
  const judge = () => ({ ...({ uid, gid, stdio, serialization } as object), ...judged(file, args, options) })
  if (!isPlain(file, args, options)) return judge()
  const words = [options.argv0 ?? file]
  for (const word of (args ?? []) as unknown[]) words.push(word)
  const plain = {
    file,
    args: words,
    cwd,
    detached: options.detached === true,
    uid,
    gid,
    stdio,
    serialization,
  }
  // To a channel's environment Node adds.
  if (!options.env && isEnvironment(process.env) && !(isArray(stdio) && stdio.includes('ipc'))) {
    return plain as Normalized
  }
  const envPairs = pairs(flat(options.env))
  return envPairs.every(isText) ? ({ ...plain, envPairs } as Normalized) : judge()
}

let known: { env: object; isItself: boolean } | undefined

/**
 * Whether an object is the process's environment itself, which nobody needs to read here, and not one that somebody has put
 * in its place, or a Worker's copy: Node's refuses accessors.
 */
function isEnvironment(env: object): boolean {
  if (known?.env === env) return known.isItself
  let isItself = false
  const key = 'linux-clone'
  try {
    Object.defineProperty(env, key, { get: () => undefined, configurable: true })
    Reflect.deleteProperty(env, key)
  } catch (error) {
    isItself = isMainThread && (error as NodeJS.ErrnoException).code === 'ERR_INVALID_OBJECT_DEFINE_PROPERTY'
  }
  known = { env, isItself }
  return isItself
}

function isPlain(file: unknown, args: unknown, options: Given): boolean {
  const { cwd, env, detached, uid, gid, shell, argv0, timeout, killSignal, windowsHide } = options
  const { maxBuffer, input } = options
  return (
    isText(file) &&
    file !== '' &&
    isAbsent(
      args,
      (words) => isArray(words) && words.every((word) => typeof word !== 'string' || isText(word)),
    ) &&
    isAbsent(cwd, isText) &&
    isAbsent(env, (variables) => typeof variables === 'object') &&
    isAbsent(detached, isBoolean) &&
    isAbsent(uid, isInt32) &&
    isAbsent(gid, isInt32) &&
    (isAbsent(shell) || shell === false) &&
    isAbsent(argv0, isText) &&
    isAbsent(timeout, (limit) => Number.isInteger(limit) && (limit as number) >= 0) &&
    isAbsent(killSignal) &&
    isAbsent(windowsHide, isBoolean) &&
    isAbsent(options.windowsVerbatimArguments, isBoolean) &&
    isAbsent(maxBuffer, (most) => typeof most === 'number' && most >= 0) &&
    isAbsent(input, (given) => typeof given === 'string' || ArrayBuffer.isView(given)) &&
    // What Node adds to the environment that it is given, and its permission model.
    !(env && process.env.NODE_V8_COVERAGE) &&
    (process as { permission?: object }).permission === undefined
  )
}

const isAbsent = (value: unknown, or: (value: unknown) => boolean = () => false): boolean =>
  value === undefined || value === null || or(value)
const isText = (value: unknown): value is string => typeof value === 'string' && !value.includes('\0')
const isBoolean = (value: unknown): boolean => typeof value === 'boolean'
const isInt32 = (value: unknown): boolean => typeof value === 'number' && (value | 0) === value

/** A descriptor that libuv refuses, before it forks. */
const REFUSED = Object.freeze({ fd: -1 })

/**
 * What child_process.spawnSync makes of its arguments, if they are right: it is called with a descriptor that is refused, so
 * that all is done but the process. `env` is an object of ours, into which Node puts what it passes on always.
 */
export function judged(file: unknown, args: unknown, options: Given): Normalized {
  const env = flat(options.env)
  const stdio = [REFUSED, 'ignore', 'ignore']
  const { spawnSync } = childProcess()
  const { error } = spawnSync(file as string, args as string[], { ...options, env, stdio } as object)
  const { errno, path, spawnargs = [] } = (error ?? {}) as NodeJS.ErrnoException & { spawnargs?: unknown[] }
  if (errno !== -os.errno.EINVAL || path === undefined) throw error ?? replaced()
  const { cwd } = options
  const envPairs = pairs(env)
  // What has become a string here only.
  const wrong = envPairs.find((pair) => !isText(pair))
  if (wrong !== undefined) {
    throw invalidArgValue('options.env', 'must have strings without null bytes', wrong, judged)
  }
  return {
    file: path,
    // Node has found it to be one.
    cwd: typeof cwd === 'object' && cwd !== null && 'href' in cwd ? fileURLToPath(cwd as URL) : cwd,
    args: [options.argv0 ?? path, ...spawnargs],
    envPairs,
    detached: options.detached === true,
  }
}

function replaced(): Error {
  const message = "child_process.spawnSync is not Node's own, which judges these arguments"
  return withCode(Error, 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM', message, judged)
}

/** As Node reads an environment: with what is inherited. */
function flat(value: unknown): Record<string, unknown> {
  const env: Record<string, unknown> = Object.create(null)
  const source = (value || process.env) as Record<string, unknown>
  for (const key in source) env[key] = source[key]
  return env
}

function pairs(env: Readonly<Record<string, unknown>>): string[] {
  const keys = Object.keys(env).filter((key) => env[key] !== undefined)
  return keys.map((key) => `${key}=${env[key]}`)
}

/** As child_process.spawn checks it, which spawnSync does not. */
export function checkAbortSignal(value: unknown, caller: Caller): void {
  if (value === undefined || (typeof value === 'object' && value !== null && 'aborted' in value)) return
  throw invalidArgType('options.signal', 'an instance of AbortSignal', value, caller)
}
