// What a copy of this process does before its function runs, and after: until then all that Node keeps is the parent's.
import binding = require('../binding.js')

import { AsyncResource } from 'node:async_hooks'
import { EventEmitter } from 'node:events'
import { createReadStream, fstatSync } from 'node:fs'
import { Socket } from 'node:net'
import { Duplex, Writable } from 'node:stream'
import { isatty, ReadStream } from 'node:tty'
import { inspect, types } from 'node:util'
import { MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads'
import type { Failure } from '../binding.js'
import { withCode } from './argument-errors.js'
import type { NodeInternals } from './node-internals.js'
import { check } from './system-call-error.js'
import { Watches, watches } from './watches.js'

/** The function that a copy runs. */
export type Body = () => unknown

/** Node's own name for the status of a main module that awaits what nothing will settle. */
const UNSETTLED = 13

/** What a copy changes of `process`, also what @types/node does not have; {@link standIn} has another. */
interface Host extends EventEmitter {
  domain?: { exit(): void } | null
  exitCode?: number | string | null | undefined
  channel?: unknown
  _exiting?: boolean
  _events: Record<string, unknown>
  reallyExit(code: number): void
  hasUncaughtExceptionCaptureCallback(): boolean
  setUncaughtExceptionCaptureCallback(callback: null): void
  _fatalException(error: unknown, fromPromise: boolean): boolean
  _getActiveHandles(): unknown[]
  _getActiveRequests(): { oncomplete?: unknown }[]
}
const node = process as unknown as Host

/** Not in a copy that shares its parent's descriptors, which cannot be copied in its turn. */
export let hasEventLoop = true

/** Nobody turns the event loop any more, in which a copy's function would begin. */
export const isExiting = (): boolean => node._exiting === true

let isSettled = false

/**
 * What a copy does first is done here, to stand-ins: V8 compiles it in this process, rather than in every copy. Of hooks of
 * asynchronous resources, those for `init` hear of one that nothing comes of.
 */
export function rehearse(internals: NodeInternals): void {
  goOn(ignore, process.pid, internals.standIn(), standIn())
}

function standIn(): Place {
  const none = () => []
  const host = Object.assign(new EventEmitter(), {
    ...{ stdout: undefined, stderr: undefined, stdin: undefined, setuid: ignore, domain: null },
    reallyExit: ignore,
    hasUncaughtExceptionCaptureCallback: () => node.hasUncaughtExceptionCaptureCallback() && false,
    setUncaughtExceptionCaptureCallback: ignore,
    _fatalException: () => false,
    _getActiveHandles: none,
    _getActiveRequests: none,
  }) as unknown as Host
  Object.defineProperty(host, 'exitCode', {
    get: () => node.exitCode,
    set(code) {
      const { exitCode } = node
      node.exitCode = code
      node.exitCode = exitCode
    },
  })
  const { removeListener: own } = OWN_LISTENERS
  for (const listener of node.listeners('removeListener')) {
    if (own?.includes(listener.name)) {
      host.on('removeListener', listener as () => void)
    }
  }
  host.on('exit', ignore)
  const now = (callback: () => unknown) => callback()
  const ticks: (() => void)[] = []
  class Agent {
    constructor() {
      Object.assign(this, { [Symbol('options')]: {}, [Symbol('factory')]: ignore })
    }
  }
  class Silent extends AsyncResource {
    override runInAsyncScope = now as AsyncResource['runInAsyncScope']
  }
  return {
    host,
    globals: { [Symbol('undici.globalDispatcher.1')]: new Agent() },
    workers: { [Symbol('kOnExit')]: ignore },
    watches: new Watches(),
    Resource: Silent,
    nextTick: (callback) => ticks.push(callback),
    setImmediate: now,
    startOver(callback) {
      host.reallyExit = ignore
      callback()
      return null
    },
    waitForTheEnd: () => ticks.forEach(now) as never,
    giveUp(error) {
      throw error
    },
  }
}

/** Where a copy goes on: the process, and what turns. {@link rehearse} has a stand-in for it. */
interface Place {
  host: Host
  globals: object
  workers: object
  watches: Watches
  Resource: typeof AsyncResource
  nextTick(callback: () => void): void
  setImmediate(callback: () => void): void
  /** When the JavaScript on the stack has ended, and the loop has turned once without any. */
  startOver(callback: () => void): Failure | null
  waitForTheEnd(): never
  /** What has been thrown must not reach the parent's code. */
  giveUp(error: unknown): void
}

const HERE: Place = {
  host: node,
  globals: globalThis,
  workers: Worker.prototype,
  watches,
  Resource: AsyncResource,
  nextTick: process.nextTick,
  setImmediate,
  startOver: binding.startOver,
  waitForTheEnd,
  giveUp(error) {
    printUncaught(error)
    binding.exitNow(1)
  },
}

/** What this process's JavaScript is put off by, as it was when the package was loaded. */
export function scheduleBy(own: Pick<Place, 'nextTick' | 'setImmediate'>): void {
  Object.assign(HERE, own)
}

/** The copy's event loop turns, and runs the function. What is on the stack is the parent's, and ends. */
export function goOn(body: Body, pid: number, internals: NodeInternals, place = HERE): never {
  try {
    leaveListeners(place.host)
    place.watches.disown()
    const resource = new place.Resource('clone')
    begin(place, pid, internals, () => resource.runInAsyncScope(body), resource.asyncId())
  } catch (error) {
    place.giveUp(error)
  }
  return place.waitForTheEnd()
}

/** What the parent has made has an id up to the latest. */
function begin(place: Place, pid: number, internals: NodeInternals, body: Body, latest: number): void {
  internals.drop()
  adopt(place, pid, latest)
  internals.renewResolver()
  internals.refuseHooks()
  internals.reseed()
  isSettled = false
  let isOver = false
  // The end of execution stops short at the microtask queue, below which Node's functions go on, and run this first.
  place.nextTick(() => {
    if (isOver) return
    internals.forgetCallers()
    binding.terminateExecution()
    waitForTheEnd()
  })
  const failure = place.startOver(() => {
    isOver = true
    // What the parent had put off has counted down what drop() had set to zero.
    internals.drop()
    // From a callback of Node's own: what is thrown there keeps its place.
    place.setImmediate(() => start(place.host, body))
  })
  check(failure, () => ({}), goOn)
}

/** Until the end of execution is noticed, which is at a loop's next turn. */
function waitForTheEnd(): never {
  for (;;);
}

/** With the parent's descriptors there is no event loop: it would take from the parent's. */
export function goOnSynchronously(body: Body, pid: number, internals: NodeInternals): never {
  hasEventLoop = false
  watches.leaveEpoll()
  leaveListeners(node)
  // The listeners for signals are not closed, as that would be done in the parent's loop.
  node._events = Object.create(null)
  adoptIdentity(node, pid)
  internals.reseed()
  let code: number
  try {
    const result = body()
    if (isThenable(result)) {
      throw invalidReturn("no promise with CLONE_FILES, as the event loop is the parent's", result)
    }
    code = status(node, result)
  } catch (error) {
    if (node.emit('uncaughtException', error, 'uncaughtException')) code = exitCode(node, 1)
    else {
      printUncaught(error)
      code = 1
    }
  }
  return end(node, code)
}

function printUncaught(error: unknown): void {
  const text = error instanceof Error ? inspect(error) : `Uncaught ${inspect(error)}`
  binding.writeAll(2, Buffer.from(`${text}\n\nNode.js ${process.version}\n`))
}

/** What it throws is left to Node, which prints the place. */
function start(host: Host, body: Body): void {
  let hasThrown = true
  try {
    const result = body()
    hasThrown = false
    if (isThenable(result)) {
      binding.deliverTasks()
      Promise.resolve(result).then(finish, fail)
    } else finish(result)
  } finally {
    if (hasThrown) {
      isSettled = true
      // A listener of the function's may take it.
      process.nextTick(() => end(host, exitCode(host, 1)))
    }
  }

  function finish(result: unknown): void {
    try {
      const code = status(host, result)
      isSettled = true
      end(host, code)
    } catch (error) {
      fail(error)
    }
  }

  function fail(error: unknown): void {
    isSettled = true
    binding.throwUncaught(error)
    // A listener of the function's has taken it.
    end(host, exitCode(host, 1))
  }
}

/** As process.exit() does it, which somebody may have replaced by what is meant for the parent. */
function end(host: Host, code: number): never {
  host.exitCode = code
  if (!host._exiting) {
    host._exiting = true
    host.emit('exit', code)
  }
  return host.reallyExit(exitCode(host, code)) as never
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  const mayBe = (typeof value === 'object' && value !== null) || typeof value === 'function'
  return mayBe && typeof (value as { then?: unknown }).then === 'function'
}

function status(host: Host, result: unknown): number {
  if (result === undefined) return exitCode(host, 0)
  if (typeof result === 'number' && Number.isInteger(result)) return Number(BigInt.asUintN(8, BigInt(result)))
  throw invalidReturn('an integer, or nothing', result)
}

function exitCode(host: Host, otherwise: number): number {
  return host.exitCode === undefined ? otherwise : Number(host.exitCode)
}

function invalidReturn(expected: string, value: unknown): Error {
  const message = `The function of clone() must return ${expected}. Received ${inspect(value, { depth: 0 })}`
  return withCode(TypeError, 'ERR_INVALID_RETURN_VALUE', message, invalidReturn)
}

function adopt({ host, globals, workers }: Place, pid: number, latest: number): void {
  for (const request of host._getActiveRequests()) request.oncomplete = ignore
  const handles = host._getActiveHandles()
  const streams = handles.filter((handle) => handle instanceof Duplex)
  for (const port of handles) if (port instanceof MessagePort) drain(port)
  leaveWorkers(workers, latest)
  for (const stream of streams) {
    // An agent that keeps connections alive, for one, must not take them for usable.
    if (!isStandard(stream)) stream.destroyed = true
  }
  removeListeners(host)
  adoptIdentity(host, pid)
  // Whoever holds one that the parent has opened does not ask process for it again.
  for (const stream of streams) if (isStandard(stream)) void process[stream.fd === 1 ? 'stdout' : 'stderr']
  leaveChannel(host)
  adoptDispatchers(globals)
}

/** What waits in it has been sent to the parent. */
function drain(port: MessagePort): void {
  while (receiveMessageOnPort(port) !== undefined);
}

type Handled = Record<symbol, { getAsyncId(): number } | null>

/** Workers of the parent are not here, and how they have ended it hears. */
function leaveWorkers(workers: object, latest: number): void {
  const symbolOf = (object: object, name: string) =>
    Object.getOwnPropertySymbols(object).find(({ description }) => description === name)
  let prototype: object | null = workers
  // Somebody may have put a class of their own in the place of Node's.
  while (prototype !== null && symbolOf(prototype, 'kOnExit') === undefined) {
    prototype = Object.getPrototypeOf(prototype)
  }
  const kOnExit = prototype && symbolOf(prototype, 'kOnExit')
  if (!kOnExit) return
  const methods = prototype as Record<symbol, (...args: unknown[]) => void>
  const onExit = methods[kOnExit]
  methods[kOnExit] = function (this: Handled, ...args: unknown[]) {
    const kHandle = symbolOf(this, 'kHandle')
    const id = kHandle && this[kHandle]?.getAsyncId()
    if (id === undefined || id > latest) onExit?.apply(this, args)
  }
}

function isStandard(stream: Duplex): stream is Duplex & { fd: number } {
  return '_isStdio' in stream && 'fd' in stream && (stream.fd === 1 || stream.fd === 2)
}

function ignore(): void {
  // The parent hears of it.
}

function adoptIdentity(host: Host, pid: number): void {
  Object.defineProperty(host, 'pid', { value: pid, enumerable: true, configurable: true, writable: false })
  host._exiting = false
  host.exitCode = undefined
  // Node's own ends threads that are not here.
  host.reallyExit = (code) => {
    restoreTerminal()
    binding.exitNow(code)
  }
  adoptOutput(host, 'stdout', 1)
  adoptOutput(host, 'stderr', 2)
  adoptInput(host)
  adoptCredentials(host as unknown as Record<string, Change | undefined>)
}

type Change = (...args: unknown[]) => unknown

/** The libc has every thread change its ids, and passes over one that it does not know by its own. */
function adoptCredentials(host: Record<string, Change | undefined>): void {
  for (const name of ['setuid', 'seteuid', 'setgid', 'setegid', 'setgroups', 'initgroups']) {
    const change = host[name]
    if (change === undefined) continue
    host[name] = function renewed(...args) {
      check(binding.renewThreadIds(), () => ({}), renewed)
      return change.apply(this, args)
    }
  }
}

/** What hears of events without being among the listeners of `process`: what wraps its `emit`, and the parent's domains. */
function leaveListeners(host: Host): void {
  Reflect.deleteProperty(host, 'emit')
  while (host.domain) {
    const { domain } = host
    // One that nobody has entered stays where it was put.
    host.domain = null
    domain.exit()
  }
}

/** Node's own, which start and stop the handles of signals, stay. */
const OWN_LISTENERS: Readonly<Record<string, readonly string[]>> = {
  newListener: ['startListeningIfSignal'],
  removeListener: ['stopListeningIfSignal'],
  warning: ['onWarning'],
}

function removeListeners(host: Host): void {
  if (host.hasUncaughtExceptionCaptureCallback()) host.setUncaughtExceptionCaptureCallback(null)
  // Those that would hear of it are first.
  for (const event of ['removeListener', 'newListener', ...host.eventNames()]) {
    const own = OWN_LISTENERS[String(event)] ?? []
    for (const listener of host.rawListeners(event)) {
      if (!own.includes(listener.name)) host.removeListener(event, listener as () => void)
    }
  }
  const { _fatalException } = host
  host._fatalException = (error, fromPromise) => {
    isFatal = true
    try {
      return _fatalException.call(host, error, fromPromise)
    } finally {
      isFatal = false
    }
  }
  host.prependListener('beforeExit', onBeforeExit)
  const onExit = (code: number) => {
    restoreTerminal()
    // Behind the listeners of `exit` Node takes down what is not here.
    if (isFatal) return
    host.removeListener('exit', onExit)
    host.emit('exit', code)
    host.reallyExit(exitCode(host, code))
  }
  host.prependListener('exit', onExit)
}

/** An error is on its way through its listeners; Node prints it when those of `exit` have run. */
let isFatal = false

/** Nothing is left to do, unless a listener finds something: Node would go on to look at the parent's main module. */
function onBeforeExit(): void {
  process.nextTick(() => {
    if (binding.isLoopAlive()) return
    if (!isSettled && process.exitCode === undefined) {
      const text =
        'Warning: the promise of the function of clone() is pending, and nothing is left to settle it\n'
      binding.writeAll(2, Buffer.from(text))
      process.exitCode = UNSETTLED
    }
    end(node, exitCode(node, 0))
  })
}

/** A channel to a parent that is not this process's. */
function leaveChannel(host: Host): void {
  if (host.channel === undefined) return
  for (const name of ['send', 'disconnect', 'channel', '_channel', '_send', '_disconnect'])
    Reflect.deleteProperty(host, name)
  Object.defineProperty(host, 'connected', {
    value: false,
    configurable: true,
    enumerable: true,
    writable: true,
  })
  // Servers of a worker listen where its primary does, which would be asked over the channel.
  const cluster: typeof import('node:cluster').default = require('node:cluster')
  Object.assign(cluster, { isWorker: false, isPrimary: true, isMaster: true, worker: undefined })
}

type Dispatcher = { constructor: new (...args: unknown[]) => Dispatcher }

const WRAPPER = 'Dispatcher1Wrapper'

/** What keeps connections of the parent's begins anew, with its options; one whose options cannot be known stays. */
function adoptDispatchers(holder: object): void {
  const globals = holder as Record<symbol, Dispatcher | undefined>
  const symbols = Object.getOwnPropertySymbols(globals).filter((symbol) =>
    symbol.description?.startsWith('undici.globalDispatcher'),
  )
  let agent: Dispatcher | undefined
  // Node 26 has one for users that wraps its own.
  const wraps = (symbol: symbol) => Number(globals[symbol]?.constructor.name === WRAPPER)
  for (const symbol of symbols.sort((one, other) => wraps(one) - wraps(other))) {
    const made = renewed(globals[symbol], agent)
    if (!made) continue
    agent ??= made
    Object.defineProperty(globals, symbol, {
      value: made,
      writable: true,
      enumerable: false,
      configurable: false,
    })
  }
}

function renewed(like: Dispatcher | undefined, agent: Dispatcher | undefined): Dispatcher | undefined {
  // A composed one shows the constructor of what it wraps.
  if (like === undefined || types.isProxy(like)) return undefined
  const Class = like.constructor
  if (Class.name === WRAPPER) return agent && new Class(agent)
  // As Node has made it, from the environment.
  if (Class.name === 'EnvHttpProxyAgent' && usesEnvironmentsProxy()) return new Class()
  // A class of somebody's own that extends it may want other arguments.
  if (Class.name !== 'Agent') return undefined
  const kept: Record<string, unknown> = {}
  for (const symbol of Object.getOwnPropertySymbols(like)) {
    const { description } = symbol
    const value = (like as unknown as Record<symbol, unknown>)[symbol]
    if (description === 'options') Object.assign(kept, value)
    else if (description === 'factory' || description === 'maxRedirections') kept[description] = value
  }
  return kept.factory ? new Class(kept) : undefined
}

function usesEnvironmentsProxy(): boolean {
  return process.env.NODE_USE_ENV_PROXY === '1' || process.execArgv.includes('--use-env-proxy')
}

interface Output extends Writable {
  _isStdio?: boolean
  _writableState: unknown
}
const { WritableState } = Writable as unknown as {
  WritableState: new (options: object, stream: Writable, isDuplex: boolean) => unknown
}

/** What the copy writes arrives before it ends, and what the parent has buffered is the parent's to write. */
function adoptOutput(host: Host, name: 'stdout' | 'stderr', fd: number): void {
  const original = Object.getOwnPropertyDescriptor(host, name)
  if (!original?.configurable) return
  let stream: Output | undefined
  const get = () => {
    stream ??= synchronous((original.get ? original.get.call(host) : original.value) as Output, fd)
    return stream
  }
  Object.defineProperty(host, name, { get, enumerable: true, configurable: true })
}

function synchronous(stream: Output, fd: number): Output {
  // Another stream in its place is somebody's own; one for a file is synchronous.
  if (!(stream instanceof Duplex)) return stream
  const output = stream as Output
  output._writableState = new WritableState({ decodeStrings: false, emitClose: false }, output, true)
  output._writev = undefined as never
  output._write = (chunk: string | Uint8Array, encoding, callback) => {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk
    try {
      check(binding.writeAll(fd, bytes), () => ({}), synchronous)
      callback()
    } catch (error) {
      callback(error as Error)
    }
  }
  return stream
}

let input: (typeof process.stdin & { isRaw?: boolean }) | undefined

/** The parent may have been reading. */
function adoptInput(host: Host): void {
  const original = Object.getOwnPropertyDescriptor(host, 'stdin')
  if (!original?.configurable) return
  input = undefined
  const get = () => {
    input ??= openInput()
    return input
  }
  Object.defineProperty(host, 'stdin', { get, enumerable: true, configurable: true })
}

/** As Node does at its end, to the mode in which the child has found it: that of the parent, where it was raw already. */
function restoreTerminal(): void {
  if (!input?.isRaw || input.destroyed) return
  // A terminal that has hung up has no mode.
  input.on('error', ignore).setRawMode(false)
}

function openInput(): typeof process.stdin {
  const options = { fd: 0, readable: true, writable: false, manualStart: true }
  if (isatty(0)) return new ReadStream(0) as unknown as typeof process.stdin
  const status = fstatSync(0)
  const stream =
    status.isFIFO() || status.isSocket()
      ? new Socket(options)
      : createReadStream('', { fd: 0, autoClose: false })
  return Object.assign(stream, { fd: 0 }) as unknown as typeof process.stdin
}
