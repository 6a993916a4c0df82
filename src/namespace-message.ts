// What a function returned or threw, from one process to another: structured clone, whose large buffers are not copied into it.
import { Buffer } from 'node:buffer'
import { readSync } from 'node:fs'
import { types } from 'node:util'
import { Deserializer, Serializer } from 'node:v8'
import { describeThrown, madeAnew } from './namespace-errors.js'

/** A message: the lengths of its parts behind their number, each a double; what was cloned; and the buffers in it. */
type Parts = readonly Uint8Array[]

/** What is smaller is copied, rather than sent on its own. */
const LARGE = 64 << 10

const DOUBLE = 8

/** Kinds of what V8 leaves to its host. */
const VIEW = 0
const BYTES = 1
const LARGE_BYTES = 2

/** Views that keep the buffer that they look at, by their number in a message. */
const VIEWS: readonly (new (buffer: ArrayBuffer, offset: number, length: number) => ArrayBufferView)[] = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  DataView,
  // Since Node 24.
  ...('Float16Array' in globalThis
    ? [(globalThis as unknown as { Float16Array: typeof Float32Array }).Float16Array]
    : []),
  Buffer as unknown as typeof Uint8Array,
]
const BUFFER = VIEWS.length - 1

class Writer extends Serializer {
  readonly buffers: Uint8Array[] = []
  readonly #known = new Set<ArrayBufferLike>()

  constructor() {
    super()
    // Node's own way to have a Buffer stay one: every view is the host's.
    const self = this as unknown as { _setTreatArrayBufferViewsAsHostObjects(flag: boolean): void }
    self._setTreatArrayBufferViewsAsHostObjects(true)
    this.writeHeader()
  }

  _getDataCloneError(message: string): DOMException {
    return new DOMException(message, 'DataCloneError')
  }

  _getSharedArrayBufferId(): never {
    throw this._getDataCloneError('#<SharedArrayBuffer> could not be cloned.')
  }

  _writeHostObject(object: object): void {
    if (!ArrayBuffer.isView(object))
      throw this._getDataCloneError(`${nameOf(object)} object could not be cloned.`)
    const { buffer, byteOffset, byteLength } = object
    const kind = Buffer.isBuffer(object) ? BUFFER : VIEWS.findIndex((View) => object instanceof View)
    // Node keeps the bytes of many Buffers in one: the others are nobody's business.
    if (kind === BUFFER && byteLength !== buffer.byteLength) {
      this.#writeBytes(object as Buffer)
      return
    }
    this.writeUint32(VIEW)
    this.writeUint32(kind)
    this.writeDouble(byteOffset)
    this.writeDouble('length' in object ? (object.length as number) : byteLength)
    if (isLarge(buffer) && !this.#known.has(buffer)) {
      this.#known.add(buffer)
      this.transferArrayBuffer(this.buffers.push(new Uint8Array(buffer)) - 1, buffer)
    }
    // As a value it is the same in every view, and where it stands for itself.
    this.writeValue(buffer)
  }

  #writeBytes(bytes: Buffer): void {
    if (bytes.length < LARGE) {
      this.writeUint32(BYTES)
      this.writeUint32(bytes.length)
      this.writeRawBytes(bytes)
    } else {
      this.writeUint32(LARGE_BYTES)
      this.writeUint32(this.buffers.push(bytes) - 1)
    }
  }
}

class Reader extends Deserializer {
  readonly #buffers: readonly ArrayBuffer[]

  constructor(bytes: ArrayBuffer, buffers: readonly ArrayBuffer[]) {
    super(new Uint8Array(bytes))
    this.#buffers = buffers
    for (const [index, buffer] of buffers.entries()) this.transferArrayBuffer(index, buffer)
    this.readHeader()
  }

  _readHostObject(): ArrayBufferView {
    const kind = this.readUint32()
    // In memory of its own: the message is not to be kept for it.
    if (kind === BYTES) return Buffer.from(this.readRawBytes(this.readUint32()))
    if (kind === LARGE_BYTES) return Buffer.from(this.#buffers[this.readUint32()] as ArrayBuffer)
    const View = VIEWS[this.readUint32()] as (typeof VIEWS)[number]
    const [offset, length] = [this.readDouble(), this.readDouble()]
    const buffer = this.readValue()
    // Of a number, say, a view would be made that is as long.
    if (!types.isArrayBuffer(buffer)) throw new TypeError('A view has no buffer')
    return View === VIEWS[BUFFER] ? Buffer.from(buffer, offset, length) : new View(buffer, offset, length)
  }
}

/** What changes its size, or is shared, is V8's own affair. */
function isLarge(buffer: ArrayBufferLike): buffer is ArrayBuffer {
  const { resizable } = buffer as { resizable?: boolean }
  return buffer.byteLength >= LARGE && buffer instanceof ArrayBuffer && resizable !== true
}

const nameOf = (object: object): string => Object.prototype.toString.call(object).slice(8, -1)

function parts(hasThrown: boolean, value: unknown): Parts {
  const writer = new Writer()
  writer.writeUint32(hasThrown ? 1 : 0)
  writer.writeValue(value)
  const all = [writer.releaseBuffer(), ...writer.buffers]
  const lengths = [all.length, ...all.map(({ byteLength }) => byteLength)]
  return [new Uint8Array(Float64Array.from(lengths).buffer), ...all]
}

/** @throws {DOMException} `DataCloneError`: the value, or something in it, cannot be cloned. */
export const messageOf = (value: unknown): Parts => parts(false, value)

export function messageOfThrown(thrown: unknown): Parts {
  try {
    return parts(true, describeThrown(thrown, canClone))
  } catch (error) {
    // What is no error, and cannot be cloned.
    return parts(true, describeThrown(error, canClone))
  }
}

function canClone(value: unknown): boolean {
  // Nearly all of it is.
  if (typeof value === 'string' || typeof value === 'number' || value === undefined) return true
  try {
    new Writer().writeValue(value)
    return true
  } catch {
    return false
  }
}

/** How much is read at once before others have their turn; more than a pipe holds. */
const TURN = 8 << 20

/** As what a read of less counts: many small ones take long too. */
const PAGE = 4096

/** How much memory is made for what has only been told, and how many times as much as has come of it. */
const AHEAD = 8 << 20
const GROWTH = 16

/** The places that a message fills, in order; it returns its parts. Whoever writes it may tell of lengths what he likes. */
function* places(): Generator<Uint8Array<ArrayBuffer>, readonly ArrayBuffer[], void> {
  const [count] = new Float64Array(yield* filled(DOUBLE))
  const lengths = new Float64Array(yield* filled(told(count, 1) * DOUBLE))
  const parts: ArrayBuffer[] = []
  for (const length of lengths) parts.push(yield* filled(told(length, parts.length === 0 ? 1 : LARGE)))
  return parts
}

function told(number: number | undefined, least: number): number {
  if (number !== undefined && Number.isSafeInteger(number) && number >= least) return number
  throw new RangeError(`A message tells of a length of ${number}`)
}

function* filled(length: number): Generator<Uint8Array<ArrayBuffer>, ArrayBuffer, void> {
  let all = new Uint8Array(Math.min(length, AHEAD))
  yield all
  while (all.length < length) {
    const longer = new Uint8Array(Math.min(length, all.length * GROWTH))
    longer.set(all)
    yield longer.subarray(all.length)
    all = longer
  }
  return all.buffer
}

/** Takes a message from a pipe as it comes, into the memory that it stays in. */
export class Incoming {
  readonly #fd: number
  readonly #places = places()
  /** What of it is to be filled yet. */
  #place: Uint8Array<ArrayBuffer> | undefined
  #parts: readonly ArrayBuffer[] | undefined

  constructor(fd: number) {
    this.#fd = fd
    this.#next()
  }

  get isComplete(): boolean {
    return this.#parts !== undefined
  }

  /**
   * Reads what is there, up to a limit: whether anything may come.
   *
   * @throws {RangeError} The memory for it cannot be had, or it is no message.
   */
  read(): boolean {
    for (let rest = TURN; rest > 0; ) {
      if (this.#place === undefined) return false
      const count = this.#readInto(this.#place.subarray(0, rest))
      if (count === undefined) return true
      if (count === 0) return false
      rest -= Math.max(count, PAGE)
      this.#place = this.#place.subarray(count)
      if (this.#place.length === 0) this.#next()
    }
    return true
  }

  /**
   * What has come whole.
   *
   * @throws Whatever is wrong with it.
   */
  result(): { hasThrown: boolean; value: unknown } {
    const [bytes, ...buffers] = this.#parts as [ArrayBuffer, ...ArrayBuffer[]]
    const reader = new Reader(bytes, buffers)
    const hasThrown = reader.readUint32() === 1
    const value = reader.readValue()
    return { hasThrown, value: hasThrown ? madeAnew(value) : value }
  }

  /** Undefined where nothing is there yet; 0 at the end. */
  #readInto(place: Uint8Array): number | undefined {
    try {
      return readSync(this.#fd, place)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined
      throw error
    }
  }

  #next(): void {
    const next = this.#places.next()
    this.#place = next.done ? undefined : next.value
    if (next.done) this.#parts = next.value
  }
}
