import binding = require('../binding.js')

import type { SpawnSyncReturns } from 'node:child_process'
import { constants as os } from 'node:os'
import type { SpawnedSync, SyncLimits, SyncPipe } from '../binding.js'
import { type Caller, invalidArgValue, withCode } from './argument-errors.js'
import { hints } from './hints.js'
import { normalized } from './normalized.js'
import { programRequest } from './program.js'
import { checkedSpawnOptions, type SpawnOptions, withIsolation } from './spawn-options.js'
import type { SpawnSyncOptions } from './spawn-sync.js'
import { signalName } from './started-process.js'
import { describe, execError, isSystemError, type SystemError, unwrap } from './system-call-error.js'
import { bare, isArray } from './validate.js'

type Result = SpawnSyncReturns<string | Buffer>

export function startSpawnSync(
  command: string,
  args: readonly string[] | SpawnOptions | SpawnSyncOptions | undefined,
  options: SpawnOptions | SpawnSyncOptions | undefined,
  caller: Caller,
): Result {
  // As child_process tells them apart.
  const hasNoArgs = typeof args === 'object' && args !== null && !isArray(args)
  const checked = checkedSpawnOptions(hasNoArgs ? args : options, true, caller)
  const { nodes } = checked
  const prepared = normalized(command, hasNoArgs ? undefined : args, nodes)
  const request = programRequest(prepared, caller)
  const { stdio, pipes } = streams(nodes, caller)
  request.stdio = stdio
  const encoding = checkedEncoding(nodes.encoding, caller)
  const failed = (error: SystemError, name = 'spawnSync') => {
    const spawnargs = prepared.args.slice(1)
    if (error.step !== undefined && error.step !== 'exec') return Object.assign(error, { spawnargs })
    return execError(error, name, prepared.file, spawnargs)
  }
  let ended: SpawnedSync
  try {
    ended = withIsolation(checked, request, caller, () => {
      const outcome = binding.spawnProcessSync(request, pipes, limits(nodes))
      const { status, ...rest } = unwrap(outcome, () => ({ hint: hints.spawn(request) }), caller)
      return bare({ ...rest, status: bare(status) })
    })
  } catch (error) {
    if (!isSystemError(error)) throw error
    return {
      error: failed(error),
      status: null,
      signal: null,
      output: null,
      pid: 0,
      stdout: null,
      stderr: null,
    } as unknown as Result
  }
  const { status, pid } = ended
  const output = ended.output.map((bytes) =>
    bytes && encoding !== undefined ? bytes.toString(encoding) : (bytes ?? null),
  )
  const result = {
    status: status.signal === undefined ? (status.code ?? null) : null,
    signal: status.signal === undefined ? null : signalName(status.signal),
    output,
    pid,
    stdout: output[1],
    stderr: output[2],
  } as Result
  if (!ended.error) return result
  const { errno } = ended.error
  const [code] = describe(ended.error)
  const error = new Error() as SystemError
  Error.captureStackTrace(error, caller)
  return { error: failed(Object.assign(error, { errno: -errno, code, syscall: 'spawnSync' })), ...result }
}

/** What a child's descriptors are; those with a pipe have an entry that is not looked at. */
function streams(
  { stdio: given, input, encoding }: Readonly<Record<string, unknown>>,
  caller: Caller,
): { stdio: number[]; pipes: SyncPipe[] } {
  const entries = stdioEntries(given || 'pipe', caller)
  const pipes: SyncPipe[] = []
  const stdio = entries.map((entry, fd) => {
    const descriptor = descriptorOf(entry, fd, given, caller)
    if (descriptor !== PIPE) return descriptor
    // The first is read by the program, which without input finds its end.
    pipes.push(bare<SyncPipe>(fd === 0 ? { fd, input: bytesOf(input || '', encoding) } : { fd }))
    return -1
  })
  return { stdio, pipes }
}

const PIPE = Symbol('pipe')

function stdioEntries(value: unknown, caller: Caller): unknown[] {
  if (isArray(value)) return Array.from({ ...value, length: Math.max(value.length, 3) } as ArrayLike<unknown>)
  if (value === 'inherit' || value === 'ignore' || value === 'pipe' || value === 'overlapped') {
    return [value, value, value]
  }
  throw invalidArgValue('stdio', 'is invalid', value, caller)
}

function descriptorOf(value: unknown, fd: number, stdio: unknown, caller: Caller): number | typeof PIPE {
  const entry = value ?? (fd < 3 ? 'pipe' : 'ignore')
  switch (entry) {
    case 'ignore':
      return -1
    case 'pipe':
    case 'overlapped':
      return PIPE
    case 'inherit':
      return fd
    case 'ipc':
      throw withCode(Error, 'ERR_IPC_SYNC_FORK', 'IPC cannot be used with synchronous forks', caller)
    default:
  }
  if (typeof entry === 'number') return entry < 0 ? PIPE : entry | 0
  if (typeof entry === 'object') {
    const { fd: own, handle, _handle } = entry as { fd?: unknown; handle?: WithFd; _handle?: WithFd }
    for (const number of [own, handle?.fd, _handle?.fd]) if (typeof number === 'number') return number | 0
  }
  throw invalidArgValue('stdio', 'is invalid', entry === value ? value : stdio, caller)
}

type WithFd = { fd?: unknown } | null

function bytesOf(input: unknown, encoding: unknown): Uint8Array {
  if (typeof input === 'string')
    return Buffer.from(input, input ? (encoding as BufferEncoding | undefined) : undefined)
  const { buffer, byteOffset, byteLength } = input as ArrayBufferView
  return new Uint8Array(buffer, byteOffset, byteLength)
}

function checkedEncoding(value: unknown, caller: Caller): BufferEncoding | undefined {
  if (!value || value === 'buffer') return undefined
  if (typeof value === 'string' && Buffer.isEncoding(value)) return value
  throw withCode(TypeError, 'ERR_UNKNOWN_ENCODING', `Unknown encoding: ${value}`, caller)
}

const DEFAULT_MAX_BUFFER = 1 << 20

function limits(nodes: Readonly<Record<string, unknown>>): SyncLimits {
  const { timeout, maxBuffer, killSignal } = nodes
  return bare<SyncLimits>({
    timeout: Number(timeout ?? 0),
    // As Node has it: what is there and is no number, or is 0, is no limit.
    maxBuffer: Object.hasOwn(nodes, 'maxBuffer')
      ? Number(maxBuffer) || Number.POSITIVE_INFINITY
      : DEFAULT_MAX_BUFFER,
    killSignal: signalOf(killSignal),
  })
}

/** Node has found it to be one, in capitals or not. */
function signalOf(value: unknown): number {
  if (typeof value === 'number') return value
  return os.signals[String(value ?? 'SIGTERM').toUpperCase() as NodeJS.Signals]
}
