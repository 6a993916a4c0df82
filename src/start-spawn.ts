import type { Caller } from './argument-errors.js'
import { createChild, endInTime, endOnAbort, type Inner } from './child-process.js'
import { checkAbortSignal, normalized } from './normalized.js'
import { ProcessHandle } from './process-handle.js'
import type { Spawned } from './spawn.js'
import { checkedSpawnOptions, type SpawnOptions } from './spawn-options.js'
import { isArray } from './validate.js'

/** One getter for all: with one of its own each ChildProcess would have a shape of its own. */
const PIDFD: PropertyDescriptor & ThisType<Inner> = {
  get() {
    const handle = this._handle
    return handle instanceof ProcessHandle ? handle.pidfd : undefined
  },
  enumerable: true,
  configurable: true,
}

export function startSpawn(
  command: string,
  args: readonly string[] | SpawnOptions | undefined,
  options: SpawnOptions | undefined,
  caller: Caller,
): Spawned {
  // As child_process tells them apart.
  const hasNoArgs = typeof args === 'object' && args !== null && !isArray(args)
  const checked = checkedSpawnOptions(hasNoArgs ? args : options, false, caller)
  const { signal, timeout, killSignal } = checked.nodes as Pick<
    SpawnOptions,
    'signal' | 'timeout' | 'killSignal'
  >
  const prepared = normalized(command, hasNoArgs ? undefined : args, checked.nodes)
  checkAbortSignal(signal, caller)
  const child = createChild((inner) => new ProcessHandle(inner, prepared, checked, caller))
  const handle = child._handle as ProcessHandle
  Object.defineProperty(child, 'pidfd', PIDFD)
  try {
    child.spawn(prepared)
  } catch (error) {
    throw handle.thrown(error)
  }
  if (timeout) endInTime(child, timeout, killSignal)
  if (signal) endOnAbort(child, signal, killSignal)
  return child
}
