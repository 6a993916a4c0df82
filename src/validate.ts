import { type Caller, invalidArgType, invalidArgValue, outOfRange, unknownSignal } from './argument-errors.js'

const INT32_MIN = -(2 ** 31)
const INT32_MAX = 2 ** 31 - 1
const UINT32_MAX = 2 ** 32 - 1

function integer(value: unknown, name: string, min: number, max: number, caller: Caller): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'of type number', value, caller)
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value, caller)
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value, caller)
  return value
}

/** A descriptor, a pid: negative ones are the kernel's to refuse. */
export function int32(value: unknown, name: string, caller: Caller): number {
  // Nearly always it is one, and a call is to cost little beside the kernel's.
  if (typeof value === 'number' && (value | 0) === value) return value
  return integer(value, name, INT32_MIN, INT32_MAX, caller)
}

/** What the kernel reads as 32 unsigned bits; JavaScript's `|` makes the upper half of them negative. */
export function uint32(value: unknown, name: string, caller: Caller): number {
  if (typeof value === 'number' && value >>> 0 === value) return value
  return integer(value, name, INT32_MIN, UINT32_MAX, caller) >>> 0
}

/** A number of bytes, or of 53 bits. */
export function safeInteger(value: unknown, name: string, min: number, caller: Caller): number {
  return integer(value, name, min, Number.MAX_SAFE_INTEGER, caller)
}

/** A string that reaches the kernel as it is. */
export function text(value: unknown, name: string, caller: Caller): string {
  if (typeof value !== 'string') throw invalidArgType(name, 'of type string', value, caller)
  if (value.includes('\0')) throw invalidArgValue(name, 'must be a string without null bytes', value, caller)
  if (!value.isWellFormed()) {
    throw invalidArgValue(
      name,
      'must be a string without lone surrogates, which UTF-8 cannot hold',
      value,
      caller,
    )
  }
  return value
}

export function textOrNull(value: unknown, name: string, caller: Caller): string | null {
  return value === null ? null : text(value, name, caller)
}

/** An object as `{}` makes it: another's properties (a Map's, a Buffer's) are not what they seem. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  try {
    const prototype = Object.getPrototypeOf(value)
    return prototype === null || Object.getPrototypeOf(prototype) === null
  } catch {
    // A revoked Proxy.
    return false
  }
}

export function isArray(value: unknown): value is unknown[] {
  try {
    return Array.isArray(value)
  } catch {
    // A revoked Proxy.
    return false
  }
}

/**
 * An object of options, without what somebody has put on Object.prototype: an unknown one is an error, since what a typo meant would
 * silently be left out.
 */
export function options(
  value: unknown,
  name: string,
  known: readonly string[],
  caller: Caller,
): Record<string, unknown> {
  if (value === undefined) return Object.create(null)
  if (!isRecord(value)) throw invalidArgType(name, 'an object', value, caller)
  const own = bare(value)
  onlyKnown(own, name, known, caller)
  return own
}

/** An object with these properties alone: what somebody has put on Object.prototype is no option. */
export function bare<T extends object>(properties: T): T {
  return Object.assign(Object.create(null), properties)
}

export function onlyKnown(
  value: Readonly<Record<string, unknown>>,
  name: string,
  known: readonly string[],
  caller: Caller,
): void {
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue
    throw invalidArgValue(`${name}.${key}`, `is not an option; ${advice(key, known)}`, value[key], caller)
  }
}

/** One of a few strings. */
export function oneOf<T extends string>(
  value: unknown,
  name: string,
  known: readonly T[],
  caller: Caller,
): T {
  if (typeof value !== 'string') throw invalidArgType(name, 'of type string', value, caller)
  const found = known.find((each) => each === value)
  if (found !== undefined) return found
  const list = known.map((each) => `'${each}'`)
  throw invalidArgValue(name, `must be ${list.slice(0, -1).join(', ')} or ${list.at(-1)}`, value, caller)
}

export function boolean(value: unknown, name: string, caller: Caller): boolean {
  if (typeof value !== 'boolean') throw invalidArgType(name, 'of type boolean', value, caller)
  return value
}

/** A signal's number, by name as Node has them, or as it is. */
export function signalNumber(value: unknown, name: string, caller: Caller): number {
  if (typeof value === 'number') return int32(value, name, caller)
  if (typeof value !== 'string') throw invalidArgType(name, 'of type string or number', value, caller)
  const { constants: os }: typeof import('node:os') = require('node:os')
  const number = Object.hasOwn(os.signals, value) ? os.signals[value as NodeJS.Signals] : undefined
  if (number === undefined) throw unknownSignal(value, caller)
  return number
}

/** What to write in the place of an unknown name. */
export function advice(name: string, known: readonly string[]): string {
  const near = nearest(name, known)
  return near === undefined ? `known are ${known.join(', ')}` : `did you mean '${near}'?`
}

/** The known name that a typo may have meant. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  const best = ranked[0]
  return best && best.distance <= Math.max(1, best.candidate.length / 3) ? best.candidate : undefined
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const substituted = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(substituted, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1))
    }
    previous = row
  }
  return previous[b.length] ?? 0
}
