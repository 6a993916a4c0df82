import { namespaceKinds } from '../binding.js'
import { type Caller, invalidArgType, invalidArgValue } from './argument-errors.js'
import { advice, isArray, uint32 } from './validate.js'

/** A namespace type by its name under /proc/PID/ns. */
export type NamespaceType = 'mnt' | 'uts' | 'ipc' | 'net' | 'pid' | 'user' | 'cgroup' | 'time'
/** CLONE_* bits, or namespace types by name. */
export type Flags = number | NamespaceType | readonly NamespaceType[]

export const namespaceBits: ReadonlyMap<string, number> = new Map(
  namespaceKinds().map(({ name, flag }) => [name, flag]),
)

/** The 32 bits of unshare(2) and setns(2). */
export function flagBits(value: unknown, name: string, caller: Caller): number {
  if (typeof value === 'number') return uint32(value, name, caller)
  if (typeof value === 'string') return namespaceBit(value, name, caller)
  if (!isArray(value)) {
    throw invalidArgType(name, 'of type number or string, or an array of strings', value, caller)
  }
  let sum = 0
  // By index: a hole is undefined, and not left out.
  for (let index = 0; index < value.length; index++) {
    const element = `${name}[${index}]`
    const type = value[index]
    if (typeof type !== 'string') throw invalidArgType(element, 'of type string', type, caller)
    sum |= namespaceBit(type, element, caller)
  }
  return sum >>> 0
}

export function namespaceBit(type: string, name: string, caller: Caller): number {
  const bit = namespaceBits.get(type)
  if (bit !== undefined) return bit
  throw invalidArgValue(
    name,
    `is no namespace type; ${advice(type, [...namespaceBits.keys()])}`,
    type,
    caller,
  )
}

/** The names of the namespace types among the bits. */
export function typesIn(flags: number): NamespaceType[] {
  return [...namespaceBits].filter(([, bit]) => flags & bit).map(([name]) => name as NamespaceType)
}
