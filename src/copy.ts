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
import { compile } from './compile.js'
import type { NodeInternals } from './node-internals.js'
import { check } from './system-call-error.js'
import { type Watcher, Watches, watches } from './watches.js'

/** The function that a copy runs. */
export type Body = () => unknown

/** The context in which it runs. */
type Resource = Pick<AsyncResource, 'asyncId' | 'runInAsyncScope'>

/** Node's own name for the status of a main module that awaits what nothing will settle. */
const UNSETTLED = 13

type Listener = (this: unknown, ...args: unknown[]) => unknown
type Events = Record<string, Listener | Listener[] | undefined>

/** What a copy changes of `process`, also what @types/node does not have; {@link standIn} has another. */
interface Host extends EventEmitter, Partial<Record<(typeof CREDENTIALS)[number], Listener>> {
  domain?: { exit(): void } | null
  exitCode?: number | string | null | undefined
  channel?: unknown
  _exiting?: boolean
  _events: Events
  _eventsCount: number
  reallyExit(code: number): void
  hasUncaughtExceptionCaptureCallback(): boolean
  setUncaughtExceptionCaptureCallback(callback: null): void
  _fatalException(error: unknown, fromPromise: boolean): boolean
  _getActiveHandles(): unknown[]
  _getActiveRequests(): { oncomplete?: unknown }[]
}
const node = process as unknown as Host

// A copy looks up a global through pages of V8's that it would not use otherwise.
const { create, defineProperty, getOwnPropertyDescriptor, hasOwn } = Object
const { isInteger } = Number
const { emit } = EventEmitter.prototype

/** Not in a copy that shares its parent's descriptors, which cannot be copied in its turn. */
export let hasEventLoop = true

/** Nobody turns the event loop any more, in which a copy's function would begin. */
export const isExiting = (): boolean => node._exiting === true

/** How far a copy is; {@link rehearse} has another, as it may be done in one. */
class Progress {
  /** The JavaScript of the parent's has ended. */
  isOver = false
  run: Run | undefined
  isSettled = false
  latestOfParents = Number.NEGATIVE_INFINITY
  /** The package's own listener. */
  onExit: Listener | undefined
  /** An error is on its way through its listeners; Node prints it when those of `exit` have run. */
  isFatal = false
  input: (typeof process.stdin & { isRaw?: boolean }) | undefined
}

let progress = new Progress()

let hasBeenRehearsed = false

/** V8 drops what it has compiled once several collections of garbage have found that nobody ran it. */
const collections = new FinalizationRegistry(() => {
  hasBeenRehearsed = false
})

export const isRehearsed = (): boolean => hasBeenRehearsed

/** What a copy does first is done here, to stand-ins: V8 compiles it in this process, rather than in every copy. */
export function rehearse(internals: NodeInternals): void {
  const own = progress
  progress = new Progress()
  try {
    internals.rehearse(HERE)
    compile(waitFor)
    const watcher = { onReadable: ignore, disown: ignore }
    goOn(new Run(ignore, NOBODYS, internals.standIn(), standIn()), process.pid, watcher)
  } finally {
    progress = own
  }
  hasBeenRehearsed = true
  collections.register({}, undefined)
}

/** A process that {@link rehearse} has end. */
class Stage extends EventEmitter {}

const now = (callback: () => unknown) => callback()

const NOBODYS = { asyncId: () => 0, runInAsyncScope: now } as Resource

function standIn(): Place {
  const none = () => []
  const host = Object.assign(new Stage(), {
    ...{ stdout: undefined, stderr: undefined, stdin: undefined, domain: null },
    reallyExit: ignore,
    hasUncaughtExceptionCaptureCallback: () => node.hasUncaughtExceptionCaptureCallback() && false,
    setUncaughtExceptionCaptureCallback: ignore,
    _fatalException: () => false,
    _getActiveHandles: none,
    _getActiveRequests: none,
    ...Object.fromEntries(CREDENTIALS.map((name) => [name, ignore])),
  }) as unknown as Host
  Object.defineProperty(host, 'exitCode', {
    get: () => node.exitCode,
    set(code) {
      const { exitCode } = node
      node.exitCode = code
      node.exitCode = exitCode
    },
  })
  // Named as Node's own are.
  const own = { onWarning: () => ignore(), startListeningIfSignal: () => ignore() }
  host.on('newListener', ignore).on('newListener', own.startListeningIfSignal).on('warning', own.onWarning)
  const ticks: (() => void)[] = []
  class Agent {
    constructor() {
      Object.assign(this, { [Symbol('options')]: {}, [Symbol('factory')]: ignore })
    }
  }
  return {
    host,
    outfit: new Outfit(host),
    globals: { [DISPATCHERS[1]]: new Agent() },
    workers: workersOf({ [Symbol('kOnExit')]: ignore }),
    watches: new Watches(),
    renew: () => null,
    nextTick: (callback) => ticks.push(callback),
    setImmediate: now,
    startOver() {
      onOver()
      ticks.forEach(now)
      return null
    },
    isToEnd: false,
    giveUp(error) {
      throw error
    },
  }
}

/** Where a copy goes on: the process, and what turns. {@link rehearse} has a stand-in for it. */
interface Place {
  host: Host
  /** Made before the copy is. */
  outfit: Outfit | undefined
  globals: object
  workers: Workers | undefined
  watches: Watches
  /** What is random, and what Node counts. */
  renew(): Failure | null
  nextTick(callback: () => void): void
  setImmediate(callback: () => void): void
  startOver(number: number): Failure | null
  isToEnd: boolean
  /** What has been thrown must not reach the parent's code. */
  giveUp(error: unknown): void
}

const HERE: Place = {
  host: node,
  outfit: undefined,
  globals: globalThis,
  workers: workersOf(Worker.prototype),
  watches,
  renew: binding.renew,
  nextTick: process.nextTick,
  setImmediate,
  startOver: binding.startOver,
  isToEnd: true,
  giveUp(error) {
    printUncaught(error)
    binding.exitNow(1)
  },
}

interface Own extends Pick<Place, 'nextTick' | 'setImmediate'> {
  queueMicrotask: typeof queueMicrotask
}

/** What puts off JavaScript, as it was when the package was loaded. */
export function scheduleBy({ nextTick, setImmediate, queueMicrotask }: Own): void {
  HERE.nextTick = nextTick
  HERE.setImmediate = setImmediate
  enqueueMicrotask = queueMicrotask
}

export let enqueueMicrotask = queueMicrotask

/** To be called before the first copy is made. */
export function getReady(internals: NodeInternals): void {
  binding.renewed(internals.random, internals.counts)
  over = binding.whenOver(onOver)
  HERE.outfit = new Outfit(node)
}

/** What a copy runs, and with what; made in the parent. */
export class Run {
  /** What the parent has made has an id up to this one. */
  readonly latest: number
  /** For which the parent listens. */
  readonly signals: readonly string[]

  constructor(
    readonly body: Body,
    readonly resource: Resource,
    readonly internals: NodeInternals,
    readonly place = HERE,
  ) {
    this.latest = resource.asyncId()
    this.signals = signalsOf(place.host)
  }
}

/** The context of who clones; not its domain, whose errors are its parent's. */
export function contextOfCaller(): Resource {
  const { domain } = node
  if (!domain) return new AsyncResource('clone')
  node.domain = null
  try {
    return new AsyncResource('clone')
  } finally {
    node.domain = domain
  }
}

const NONE: readonly string[] = []

function signalsOf({ _events: events }: Host): readonly string[] {
  let found = NONE
  for (const event in events) if (event.startsWith('SIG')) found = [...found, event]
  return found
}

/**
 * The copy's event loop turns, and runs the function. What is on the stack is the parent's, and ends. As little as can be is made
 * here: of literals and of functions nothing.
 */
export function goOn(run: Run, pid: number, own: Watcher): never {
  const { place } = run
  try {
    leaveListeners(place.host)
    place.watches.disown(own)
    begin(run, pid)
  } catch (error) {
    place.giveUp(error)
  }
  return waitForTheEnd(place)
}

function begin(run: Run, pid: number): void {
  const { place, internals } = run
  internals.drop()
  adopt(run, pid)
  internals.renewResolver()
  internals.refuseHooks()
  internals.dropTicks()
  const failure = place.renew()
  if (failure !== null) check(failure, () => ({}), goOn)
  progress.isSettled = false
  progress.isOver = false
  progress.run = run
  place.nextTick(endAgain)
  const ended = place.startOver(over)
  if (ended !== null) check(ended, () => ({}), goOn)
}

/** The end of execution stops short at the microtask queue, below which Node's functions go on, and run this first. */
function endAgain(): void {
  const { run, isOver } = progress
  if (isOver || run === undefined) return
  run.internals.forgetCallers()
  binding.terminateExecution()
  waitForTheEnd(run.place)
}

/** When the JavaScript of the parent's has ended, and the loop has turned once without any. */
function onOver(): void {
  const { run } = progress
  progress.isOver = true
  if (run === undefined) return
  run.internals.begin()
  // From a callback of Node's own: what is thrown there keeps its place.
  run.place.setImmediate(start)
}

/** By this number it is called. */
let over = -1

/** Until the end of execution is noticed, which is at a loop's next turn. */
function waitForTheEnd(place: Place): never {
  while (place.isToEnd);
  return undefined as never
}

/** With the parent's descriptors there is no event loop: it would take from the parent's. */
export function goOnSynchronously(body: Body, pid: number, internals: NodeInternals): never {
  hasEventLoop = false
  watches.leaveEpoll()
  leaveListeners(node)
  // The listeners for signals are not closed, as that would be done in the parent's loop.
  node._events = create(null)
  adoptIdentity(node, takeOutfit(HERE), pid)
  internals.dropRandom()
  check(binding.renew(), () => ({}), goOn)
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
function start(): void {
  const { run } = progress
  if (run === undefined) return
  let hasThrown = true
  try {
    const result = run.resource.runInAsyncScope(run.body)
    const isPending = isThenable(result)
    hasThrown = false
    if (isPending) waitFor(result as PromiseLike<unknown>)
    else finish(result)
  } finally {
    if (hasThrown) {
      progress.isSettled = true
      // A listener of the function's may take it.
      process.nextTick(endAsFailed)
    }
  }
}

const hostOf = ({ run }: Progress): Host => run?.place.host ?? node

function waitFor(result: PromiseLike<unknown>): void {
  try {
    check(binding.makeLateThreads(), () => ({ step: () => 'clone' }), start)
    binding.deliverTasks()
    Promise.resolve(result).then(finish, fail)
  } catch (error) {
    fail(error)
  }
}

function finish(result: unknown): void {
  const host = hostOf(progress)
  try {
    const code = status(host, result)
    progress.isSettled = true
    end(host, code)
  } catch (error) {
    fail(error)
  }
}

function fail(error: unknown): void {
  progress.isSettled = true
  binding.throwUncaught(error)
  // A listener of the function's has taken it.
  endAsFailed()
}

function endAsFailed(): void {
  const host = hostOf(progress)
  end(host, exitCode(host, 1))
}

/** As process.exit() does it, which somebody may have replaced by what is meant for the parent. */
function end(host: Host, code: number): never {
  // Where nobody listens there is nobody to tell.
  if (host._events.exit === progress.onExit && host.emit === emit && host.reallyExit === reallyExit) {
    return host.reallyExit(code) as never
  }
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
  if (typeof result === 'number' && isInteger(result)) return result & 0xff
  throw invalidReturn('an integer, or nothing', result)
}

function exitCode(host: Host, otherwise: number): number {
  const { exitCode } = host
  if (typeof exitCode === 'number') return exitCode
  return exitCode === undefined ? otherwise : Number(exitCode)
}

function invalidReturn(expected: string, value: unknown): Error {
  const message = `The function of clone() must return ${expected}. Received ${inspect(value, { depth: 0 })}`
  return withCode(TypeError, 'ERR_INVALID_RETURN_VALUE', message, invalidReturn)
}

/** Its next copy wants another, as does one where Node's listeners have changed since it was made. */
function takeOutfit(place: Place): Outfit {
  const { host, outfit } = place
  place.outfit = undefined
  return outfit?.fits(host) ? outfit : new Outfit(host)
}

function adopt({ place, latest, signals }: Run, pid: number): void {
  const { host, globals, workers } = place
  const outfit = takeOutfit(place)
  for (const request of host._getActiveRequests()) request.oncomplete = ignore
  const streams: (Duplex & { fd: number })[] = []
  for (const handle of host._getActiveHandles()) {
    if (handle instanceof MessagePort) drain(handle)
    if (!(handle instanceof Duplex)) continue
    if (isStandard(handle)) streams.push(handle)
    // An agent that keeps connections alive, for one, must not take them for usable.
    else handle.destroyed = true
  }
  leaveWorkers(workers, latest)
  removeListeners(host, outfit, signals)
  adoptIdentity(host, outfit, pid)
  // Whoever holds one that the parent has opened does not ask process for it again.
  for (const stream of streams) void process[stream.fd === 1 ? 'stdout' : 'stderr']
  leaveChannel(host)
  adoptDispatchers(globals)
}

/** What a copy puts on, made in the parent: what it makes itself is on pages that it has to copy first. */
class Outfit {
  /** Node's own listeners, and the package's. */
  readonly events: Events = create(null)
  readonly count: number
  readonly onExit: Listener
  readonly pid = { value: 0, enumerable: true, configurable: true, writable: false }
  readonly stdout = new StandardOutput(1)
  readonly stderr = new StandardOutput(2)
  readonly stdin = new StandardInput()
  /** Where Node's own are among the listeners of the process: looking for them costs a copy more than seeing that they are there. */
  readonly #places: { event: string; own: Listener; all: Listener | Listener[]; place: number }[] = []
  readonly #credentials: Credential[]
  readonly #fatalException: Host['_fatalException']
  #former: Host['_fatalException'] | undefined

  constructor(host: Host) {
    for (const [event, name] of OWN_LISTENERS) {
      const all = host._events[event]
      const own = ownListener(all, name)
      if (all === undefined || own === undefined) continue
      this.events[event] = own
      this.#places.push({ event, own, all, place: all === own ? -1 : (all as Listener[]).indexOf(own) })
    }
    // Behind the listeners of `exit` Node takes down what is not here.
    this.onExit = (code) => {
      restoreTerminal()
      if (progress.isFatal) return
      if (host._events.exit !== this.onExit) {
        host.removeListener('exit', this.onExit)
        host.emit('exit', code)
      }
      host.reallyExit(exitCode(host, code as number))
    }
    this.events.beforeExit = onBeforeExit
    this.events.exit = this.onExit
    this.count = Object.keys(this.events).length
    this.#credentials = CREDENTIALS.map((name) => {
      const change = host[name]
      return { name, change, renewed: change && renewed(change) }
    })
    this.#fatalException = (error, fromPromise) => {
      progress.isFatal = true
      try {
        return this.#former?.call(host, error, fromPromise) as boolean
      } finally {
        progress.isFatal = false
      }
    }
  }

  /** Whether Node's own listeners are still those of the process. */
  fits({ _events: events }: Host): boolean {
    const places = this.#places
    // Node never adds one of its own later.
    for (let index = 0; index < places.length; index++) {
      const { event, own, all, place } = places[index] as (typeof places)[number]
      if (events[event] !== all || (place !== -1 && (all as Listener[])[place] !== own)) return false
    }
    return true
  }

  replaceCredentials(host: Host): void {
    const credentials = this.#credentials
    for (let index = 0; index < credentials.length; index++) {
      const { name, change, renewed: own } = credentials[index] as Credential
      const current = host[name]
      if (current === undefined) continue
      // Somebody may have put another in its place meanwhile.
      const wanted = current === change && own !== undefined ? own : renewed(current)
      if (wanted !== current) put(host, name, wanted)
    }
  }

  replaceFatalException(host: Host): void {
    this.#former = host._fatalException
    host._fatalException = this.#fatalException
  }
}

/** What waits in it has been sent to the parent. */
function drain(port: MessagePort): void {
  while (receiveMessageOnPort(port) !== undefined);
}

type Handled = Record<symbol, { getAsyncId(): number } | null>

/** Where Workers tell how they have ended, and what is to be there in a copy. */
interface Workers {
  methods: Record<symbol, (...args: unknown[]) => void>
  kOnExit: symbol
  onExit(...args: unknown[]): void
}

function symbolOf(object: object, name: string): symbol | undefined {
  return Object.getOwnPropertySymbols(object).find(({ description }) => description === name)
}

function workersOf(own: object): Workers | undefined {
  let prototype: object | null = own
  // Somebody may have put a class of their own in the place of Node's.
  while (prototype !== null && symbolOf(prototype, 'kOnExit') === undefined) {
    prototype = Object.getPrototypeOf(prototype)
  }
  const kOnExit = prototype && symbolOf(prototype, 'kOnExit')
  if (!kOnExit) return undefined
  const methods = prototype as Workers['methods']
  const onExit = methods[kOnExit]
  return {
    methods,
    kOnExit,
    onExit(this: Handled, ...args) {
      const kHandle = symbolOf(this, 'kHandle')
      const id = kHandle && this[kHandle]?.getAsyncId()
      if (id === undefined || id > progress.latestOfParents) onExit?.apply(this, args)
    },
  }
}

/** Workers of the parent are not here, and how they have ended it hears. */
function leaveWorkers(workers: Workers | undefined, latest: number): void {
  progress.latestOfParents = latest
  if (workers !== undefined) workers.methods[workers.kOnExit] = workers.onExit
}

function isStandard(stream: Duplex): stream is Duplex & { fd: number } {
  return '_isStdio' in stream && 'fd' in stream && (stream.fd === 1 || stream.fd === 2)
}

function ignore(): void {
  // The parent hears of it.
}

function adoptIdentity(host: Host, outfit: Outfit, pid: number): void {
  outfit.pid.value = pid
  defineProperty(host, 'pid', outfit.pid)
  // What is so already need not be set, by functions that a copy would not run otherwise.
  if (host._exiting !== false) host._exiting = false
  if (host.exitCode !== undefined) host.exitCode = undefined
  // Node's own ends threads that are not here.
  host.reallyExit = reallyExit
  outfit.stdout.replace(host, 'stdout')
  outfit.stderr.replace(host, 'stderr')
  progress.input = undefined
  outfit.stdin.replace(host, 'stdin')
  outfit.replaceCredentials(host)
}

function reallyExit(this: unknown, code: number): void {
  restoreTerminal()
  if (!(this instanceof Stage)) binding.exitNow(code)
}

const CREDENTIALS = ['setuid', 'seteuid', 'setgid', 'setegid', 'setgroups', 'initgroups'] as const

/** One of them, as it was, and what a copy has in its place. */
interface Credential {
  name: (typeof CREDENTIALS)[number]
  change: Listener | undefined
  renewed: Listener | undefined
}

const renewing = new WeakSet<Listener>()

/** The libc has every thread change its ids, but one that comes meanwhile, or that it does not know by its own. */
function renewed(change: Listener): Listener {
  // That of a copy of a copy is so already.
  if (renewing.has(change)) return change
  const own: Listener = function (...args) {
    check(binding.renewThreadIds(), () => ({}), own)
    return change.apply(this, args)
  }
  renewing.add(own)
  return own
}

function put(host: Host, name: Credential['name'], value: Listener): void {
  try {
    host[name] = value
  } catch {
    const descriptor = { value, configurable: true, enumerable: true, writable: false }
    // What cannot be replaced finds all threads there.
    if (!Reflect.defineProperty(host, name, descriptor)) check(binding.renewThreadIds(), () => ({}), put)
  }
}

/** What hears of events without being among the listeners of `process`: what wraps its `emit`, and the parent's domains. */
function leaveListeners(host: Host): void {
  if (hasOwn(host, 'emit')) Reflect.deleteProperty(host, 'emit')
  while (host.domain) {
    const { domain } = host
    // One that nobody has entered stays where it was put.
    host.domain = null
    domain.exit()
  }
}

/** Node's own, which start and stop the handles of signals, stay. */
const OWN_LISTENERS = [
  ['newListener', 'startListeningIfSignal'],
  ['removeListener', 'stopListeningIfSignal'],
  ['warning', 'onWarning'],
] as const

function ownListener(listeners: Listener | Listener[] | undefined, name: string): Listener | undefined {
  if (typeof listeners === 'function') return listeners.name === name ? listeners : undefined
  return listeners?.find((listener) => listener.name === name)
}

/** None of them hears that it is removed. */
function removeListeners(host: Host, outfit: Outfit, signals: readonly string[]): void {
  if (host.hasUncaughtExceptionCaptureCallback()) host.setUncaughtExceptionCaptureCallback(null)
  const { events, count } = outfit
  host._events = events
  host._eventsCount = count
  progress.onExit = outfit.onExit
  // It closes what listens for them.
  for (let index = 0; index < signals.length; index++) {
    ;(events.removeListener as Listener | undefined)?.call(host, signals[index])
  }
  outfit.replaceFatalException(host)
}

/** Nothing is left to do, unless a listener finds something: Node would go on to look at the parent's main module. */
function onBeforeExit(): void {
  process.nextTick(() => {
    if (binding.isLoopAlive()) return
    if (!progress.isSettled && process.exitCode === undefined) {
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
  defineProperty(host, 'connected', {
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

/** Node 26 has two: that of its users wraps its own. */
const DISPATCHERS = [
  Symbol.for('undici.globalDispatcher.2'),
  Symbol.for('undici.globalDispatcher.1'),
] as const

/** What keeps connections of the parent's begins anew, with its options; one whose options cannot be known stays. */
function adoptDispatchers(holder: object): void {
  const globals = holder as Record<symbol, Dispatcher | undefined>
  let agent: Dispatcher | undefined
  for (const symbol of DISPATCHERS) {
    const former = globals[symbol]
    const made = former && renewedDispatcher(former, agent)
    if (!made) continue
    agent ??= made
    defineProperty(globals, symbol, {
      value: made,
      writable: true,
      enumerable: false,
      configurable: false,
    })
  }
}

function renewedDispatcher(like: Dispatcher, agent: Dispatcher | undefined): Dispatcher | undefined {
  // A composed one shows the constructor of what it wraps.
  if (types.isProxy(like)) return undefined
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

/** In the place of one of the process's, until somebody asks for it the parent's. */
abstract class Standard<Stream> {
  protected original: PropertyDescriptor | undefined
  #stream: Stream | undefined
  readonly #descriptor: PropertyDescriptor = {
    get: () => {
      this.#stream ??= this.open()
      return this.#stream
    },
    enumerable: true,
    configurable: true,
  }

  replace(host: Host, name: 'stdin' | 'stdout' | 'stderr'): void {
    const original = getOwnPropertyDescriptor(host, name)
    if (original?.configurable !== true) return
    this.original = original
    defineProperty(host, name, this.#descriptor)
  }

  protected abstract open(): Stream
}

/** What the copy writes arrives before it ends, and what the parent has buffered is the parent's to write. */
class StandardOutput extends Standard<Writable> {
  readonly #fd: number

  constructor(fd: number) {
    super()
    this.#fd = fd
  }

  protected override open(): Writable {
    const { get, value } = this.original ?? {}
    return synchronous(get ? get.call(node) : value, this.#fd)
  }
}

/** The parent may have been reading. */
class StandardInput extends Standard<typeof process.stdin> {
  protected override open(): typeof process.stdin {
    progress.input = openInput()
    return progress.input
  }
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

/** As Node does at its end, to the mode in which the child has found it: that of the parent, where it was raw already. */
function restoreTerminal(): void {
  const { input } = progress
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
