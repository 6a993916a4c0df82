import { inspect } from 'node:util'

/** Whose frames an error's stack leaves out: the public function that was called. */
export type Caller = (...args: never[]) => unknown

type ErrorClass = ErrorConstructor | TypeErrorConstructor | RangeErrorConstructor

/** An error as Node makes its own: the code is a property, and shows in the stack but not in the name. */
export function withCode(Class: ErrorClass, code: string, message: string, caller: Caller): Error {
  const error: Error & { code?: string } = new Class(message)
  const { name } = error
  error.name = `${name} [${code}]`
  Error.captureStackTrace(error, caller)
  // V8 writes the stack's first line when it is first read.
  void error.stack
  Reflect.deleteProperty(error, 'name')
  Object.defineProperty(error, 'toString', {
    value: () => `${name} [${code}]: ${error.message}`,
    configurable: true,
    writable: true,
  })
  error.code = code
  return error
}

/** Reading an object may run the caller's code, which may throw. */
function nameOf(read: () => unknown): string {
  try {
    const name = read()
    return typeof name === 'string' ? name : ''
  } catch {
    return ''
  }
}

function shown(value: unknown, depth: number): string {
  try {
    return inspect(value, { depth })
  } catch {
    return 'an object that cannot be shown'
  }
}

function cut(text: string, most: number, kept: number): string {
  return text.length > most ? `${text.slice(0, kept)}...` : text
}

function received(value: unknown): string {
  if (value === null || value === undefined) return `Received ${value}`
  if (typeof value === 'function') return `Received function ${nameOf(() => value.name)}`
  if (typeof value === 'object') {
    const name = nameOf(() => value.constructor?.name)
    return name ? `Received an instance of ${name}` : `Received ${shown(value, -1)}`
  }
  if (typeof value === 'string') {
    const text = cut(value, 28, 25)
    return `Received type string (${text.includes("'") ? JSON.stringify(text) : `'${text}'`})`
  }
  return `Received type ${typeof value} (${cut(inspect(value, { colors: false }), 28, 25)})`
}

/** How Node names an argument, or, with a dot, a property of one. */
function named(name: string): string {
  return `"${name}" ${name.includes('.') ? 'property' : 'argument'}`
}

export function invalidArgType(name: string, expected: string, value: unknown, caller: Caller): Error {
  const message = `The ${named(name)} must be ${expected}. ${received(value)}`
  return withCode(TypeError, 'ERR_INVALID_ARG_TYPE', message, caller)
}

export function outOfRange(name: string, expected: string, value: number, caller: Caller): Error {
  const isLong = Number.isInteger(value) && Math.abs(value) > 2 ** 32
  const text = isLong ? String(value).replaceAll(/(?<=[^-])(?=(?:.{3})+$)/g, '_') : inspect(value)
  const message = `The value of "${name}" is out of range. It must be ${expected}. Received ${text}`
  return withCode(RangeError, 'ERR_OUT_OF_RANGE', message, caller)
}

export function invalidArgValue(name: string, reason: string, value: unknown, caller: Caller): Error {
  const text = cut(shown(value, 0), 128, 128)
  const kind = name.includes('.') ? 'property' : 'argument'
  return withCode(
    TypeError,
    'ERR_INVALID_ARG_VALUE',
    `The ${kind} '${name}' ${reason}. Received ${text}`,
    caller,
  )
}

export function unknownSignal(signal: string, caller: Caller): Error {
  return withCode(TypeError, 'ERR_UNKNOWN_SIGNAL', `Unknown signal: ${signal}`, caller)
}
