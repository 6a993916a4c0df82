import { inspect } from 'node:util'

/** Whose frames an error's stack leaves out: the public function that was called. */
export type Caller = (...args: never[]) => unknown

type ErrorClass = ErrorConstructor | TypeErrorConstructor | RangeErrorConstructor

/** An error as Node makes its own: the code is a property, and shows in the stack but not in the name. */
function withCode(Class: ErrorClass, code: string, message: string, caller: Caller): Error {
  const error: Error & { code?: string } = new Class(message)
  const { name } = error
  error.name = `${name} [${code}]`
  Error.captureStackTrace(error, caller)
  // V8 writes the stack's first line when it is first read.
  void error.stack
  Reflect.deleteProperty(error, 'name')
  error.code = code
  return error
}

/** Reading an object may run the caller's code, which may throw. */
function className(value: object): string {
  try {
    const name: unknown = value.constructor?.name
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

function received(value: unknown): string {
  if (value === null || value === undefined) return `Received ${value}`
  if (typeof value === 'function') return 'Received a function'
  if (typeof value === 'object') {
    const name = className(value)
    return name ? `Received an instance of ${name}` : `Received ${shown(value, -1)}`
  }
  const text = inspect(value, { colors: false })
  return `Received type ${typeof value} (${text.length > 28 ? `${text.slice(0, 25)}...` : text})`
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
  const message = `The value of "${name}" is out of range. It must be ${expected}. Received ${value}`
  return withCode(RangeError, 'ERR_OUT_OF_RANGE', message, caller)
}

export function invalidArgValue(name: string, reason: string, value: unknown, caller: Caller): Error {
  const whole = shown(value, 0)
  const text = whole.length > 128 ? `${whole.slice(0, 125)}...` : whole
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
