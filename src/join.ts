import binding = require('../binding.js')

import { constants as fs, fstatSync, openSync, readlinkSync, statSync } from 'node:fs'
import type { JoinRequest } from '../binding.js'
import { type Caller, invalidArgType, invalidArgValue } from './argument-errors.js'
import { type NamespaceType, namespaceBits } from './flags.js'
import { hints } from './hints.js'
import { type Circumstances, openError, systemCallError, unwrap } from './system-call-error.js'
import { advice, bare, int32, isRecord, options, text } from './validate.js'

/** A process by its pid, or for each type of namespace a process, a path, or a descriptor. */
export type Join = number | Partial<Record<NamespaceType, number | string | { fd: number }>>

/** What is to be entered: `'differing'` is whatever differs from ours. */
type Target = { pid: number } | { path: string } | { fd: number }
export type CheckedJoin = readonly { type: NamespaceType | 'differing'; target: Target }[]

export function checkedJoin(value: unknown, caller: Caller): CheckedJoin {
  const name = 'options.join'
  if (value === undefined) return []
  if (typeof value === 'number') return [{ type: 'differing', target: checkedTarget(value, name, caller) }]
  if (!isRecord(value)) throw invalidArgType(name, 'of type number or an object', value, caller)
  return Object.entries(value).flatMap(([type, each]) => {
    const element = `${name}.${type}`
    if (!namespaceBits.has(type)) {
      const reason = `is no namespace type; ${advice(type, [...namespaceBits.keys()])}`
      throw invalidArgValue(element, reason, each, caller)
    }
    return each === undefined
      ? []
      : [{ type: type as NamespaceType, target: checkedTarget(each, element, caller) }]
  })
}

function checkedTarget(value: unknown, name: string, caller: Caller): Target {
  if (typeof value === 'number') return bare({ pid: int32(value, name, caller) })
  if (typeof value === 'string') return bare({ path: text(value, name, caller) })
  if (!isRecord(value)) throw invalidArgType(name, 'of type number or string or an object', value, caller)
  const { fd } = options(value, name, ['fd'], caller)
  return bare({ fd: int32(fd, `${name}.fd`, caller) })
}

const circumstances: Circumstances = { hint: hints.join, step: () => 'join' }

/** The namespaces' descriptors; those that were opened for it are added to `opened`, also where it throws. */
export function openedJoin(join: CheckedJoin, opened: number[], caller: Caller): JoinRequest[] {
  const open = (file: string): number => {
    try {
      const fd = openSync(file, fs.O_RDONLY)
      opened.push(fd)
      return fd
    } catch (error) {
      throw openError(error, circumstances, caller)
    }
  }
  return join.flatMap(({ type, target }) => {
    const nstype = (of: string): number => namespaceBits.get(of) ?? 0
    if ('fd' in target) {
      const { fd } = target
      return [{ fd, nstype: nstype(type), path: `/proc/self/fd/${fd}` }]
    }
    if ('path' in target) {
      const { path } = target
      return [{ fd: open(path), nstype: nstype(type), path }]
    }
    const types = type === 'differing' ? differing(target.pid) : [type]
    return ofProcess(target.pid, caller, () =>
      types.map((each) => {
        const path = `/proc/${target.pid}/ns/${each}`
        return { fd: open(path), nstype: nstype(each), path }
      }),
    )
  })
}

/** Whether a namespace of this type is among them. */
export function joins(joined: readonly JoinRequest[], type: NamespaceType): boolean {
  return joined.some(({ nstype }) => nstype === namespaceBits.get(type))
}

/** Whether one of them is known to be a namespace of this type, and another than our own, wherever a pid or a path has led. */
export function joinsAnother(joined: readonly JoinRequest[], type: NamespaceType): boolean {
  return joined.some(({ fd, nstype }) => nstype === namespaceBits.get(type) && isAnother(fd, type))
}

function isAnother(fd: number, type: NamespaceType): boolean {
  try {
    const [there, own] = [fstatSync(fd), statSync(`/proc/thread-self/ns/${type}`)]
    // On another device it is no namespace: a pidfd, by which the kernel would enter that process's, may be our own.
    return there.dev === own.dev && there.ino !== own.ino
  } catch {
    return false
  }
}

/** What `open` opens is this process's, and not another's that has taken the pid meanwhile. */
function ofProcess<T>(pid: number, caller: Caller, open: () => T): T {
  const pidfd = unwrap(binding.pidfdOpen(pid, 0), () => circumstances, caller)
  try {
    const result = open()
    const failure = binding.pidfdSendSignal(pidfd, 0, 0)
    // A process that may not be signalled is there.
    if (failure?.code === 'ESRCH') throw systemCallError(failure, circumstances, caller)
    return result
  } finally {
    binding.closeDescriptor(pidfd)
  }
}

/** The namespaces of a process, of which one that cannot be read is left to the kernel to refuse. */
function differing(pid: number): string[] {
  const of = (who: string, type: string): string | undefined => {
    try {
      return readlinkSync(`/proc/${who}/ns/${type}`)
    } catch {
      return undefined
    }
  }
  return [...namespaceBits.keys()].filter((type) => {
    const own = of('thread-self', type)
    // A kernel without this type has it for nobody.
    return own !== undefined && of(String(pid), type) !== own
  })
}
