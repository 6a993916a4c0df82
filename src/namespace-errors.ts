// Errors as values that structured clone can carry, and back: with class, message, stack, own properties and cause.
import { types } from 'node:util'

/** Those that are the same in every process; what else there is comes as the nearest of them. */
const CLASSES: readonly (new (...args: never[]) => Error)[] = [
  Error,
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
  AggregateError,
  DOMException,
]
const classes = new Map(CLASSES.map((Class) => [Class.prototype as object, Class]))

/** Loaded when there is one: process.stderr comes with it. */
function assertionError(): new (...args: never[]) => Error {
  const { AssertionError }: typeof import('node:assert') = require('node:assert')
  return AssertionError
}

/** An error among {@link Described}, by its place. */
interface Reference {
  error: number
}

/** What a property holds: an error, several, or what structured clone carries. */
type Value = Reference | { errors: readonly Value[] } | { value: unknown }

interface Property {
  key: string
  isEnumerable: boolean
  value: Value
}

interface Entry {
  class: string
  /** Where the class is not known outside. */
  name: string
  message: string
  properties: readonly Property[]
}

/** What was thrown, and the errors that it refers to. */
export interface Described {
  thrown: Value
  entries: readonly Entry[]
}

/** `canClone` says what structured clone carries; a property that holds anything else is left out. */
export function describeThrown(thrown: unknown, canClone: (value: unknown) => boolean): Described {
  const entries: Entry[] = []
  const places = new Map<object, number>()

  function described(value: unknown): Value {
    if (isError(value)) return { error: place(value) }
    if (Array.isArray(value) && value.some(isError)) return { errors: Array.from(value, described) }
    return { value }
  }

  function place(error: Error): number {
    const known = places.get(error)
    if (known !== undefined) return known
    const index = entries.length
    places.set(error, index)
    const Class = nearestClass(error)
    const entry = {
      class: Class.name,
      name: text(read(error, 'name')),
      message: text(read(error, 'message')),
      properties: [] as Property[],
    }
    entries.push(entry)
    for (const key of Object.getOwnPropertyNames(error)) {
      const own = read(error, key)
      const isEnumerable = Object.prototype.propertyIsEnumerable.call(error, key)
      const value = described(own)
      if (key === 'toString' || ('value' in value && !canClone(own))) continue
      entry.properties.push({ key, isEnumerable, value })
    }
    return index
  }

  return { thrown: described(thrown), entries }
}

/** What an object that has come may have. */
type Fields = Readonly<Record<string, unknown>>

/**
 * The error that was described by another process, which may have written what it liked.
 *
 * @throws {TypeError} It is no description.
 */
export function madeAnew(description: unknown): unknown {
  const taken = new Set<unknown>()
  /** One with holes, or that is there twice, is as long as nobody has written. */
  function list(value: unknown): readonly unknown[] {
    expect(Array.isArray(value) && !taken.has(value) && Object.keys(value).length === value.length)
    taken.add(value)
    return value
  }
  const { thrown, entries } = fields(description)
  const known = list(entries).map((entry) => ({ entry: fields(entry), error: create(fields(entry)) }))
  function restored(value: unknown): unknown {
    const held = fields(value)
    if (Object.hasOwn(held, 'error')) {
      const place = Number.isInteger(held.error) ? known[held.error as number] : undefined
      expect(place !== undefined)
      return place.error
    }
    return Object.hasOwn(held, 'errors') ? list(held.errors).map(restored) : held.value
  }
  for (const { entry, error } of known) {
    for (const property of list(entry.properties)) {
      const { key, isEnumerable, value } = fields(property)
      expect(typeof key === 'string')
      Object.defineProperty(error, key, {
        value: restored(value),
        enumerable: isEnumerable === true,
        configurable: true,
        writable: true,
      })
    }
  }
  return restored(thrown)
}

function fields(value: unknown): Fields {
  expect(typeof value === 'object' && value !== null)
  return value as Fields
}

function expect(holds: boolean): asserts holds {
  if (!holds) throw new TypeError('A message describes no error')
}

function create({ class: className, name, message }: Fields): Error {
  expect(typeof name === 'string' && typeof message === 'string')
  const known = className === 'AssertionError' ? assertionError() : undefined
  const Class = known ?? CLASSES.find((each) => each.name === className) ?? Error
  const error = Class === DOMException ? new DOMException(message, name) : nativeError(Class.prototype)
  // A stack that was not there is not to be this place.
  Reflect.deleteProperty(error, 'stack')
  if (error.name !== name) hide(error, 'name', name)
  if (error.message !== message) hide(error, 'message', message)
  return error
}

/** Whatever the class's own constructor wants. */
function nativeError(prototype: object): Error {
  return Object.setPrototypeOf(new Error(), prototype)
}

function hide(error: Error, key: string, value: string): void {
  Object.defineProperty(error, key, { value, enumerable: false, configurable: true, writable: true })
}

function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof DOMException
}

function nearestClass(error: Error): new (...args: never[]) => Error {
  if (read(error, 'code') === 'ERR_ASSERTION') {
    const AssertionError = assertionError()
    if (error instanceof AssertionError) return AssertionError
  }
  for (let prototype: object | null = error; prototype; prototype = Object.getPrototypeOf(prototype)) {
    const Class = classes.get(prototype)
    if (Class) return Class
  }
  return Error
}

/** A getter may throw. */
function read(error: Error, key: string): unknown {
  try {
    return (error as unknown as Record<string, unknown>)[key]
  } catch {
    return undefined
  }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}
