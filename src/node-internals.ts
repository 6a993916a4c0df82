// What Node's own JavaScript keeps for later: nothing public leads there, so the inspector shows the first step.
import { AsyncResource } from 'node:async_hooks'
import { isBuiltin } from 'node:module'
import { withCode } from './argument-errors.js'
import { compile } from './compile.js'

type Variables = Record<string, unknown>
type Scopes = readonly Variables[]
/** The variables that a function sees, inner scopes first. */
type Look = (fn: unknown) => Scopes

interface Linked {
  _idleNext: Linked | null
  _idlePrev: Linked | null
}
interface Timer extends Linked {
  _destroyed: boolean
  _repeat: number | null
  [kRefed: symbol]: unknown
}
interface Queue {
  shift(): unknown
}
interface TickQueue extends Queue {
  isEmpty(): boolean
  push?: unknown
  head?: { push?: unknown; isFull?: unknown }
}
interface PriorityQueue extends Queue {
  peek(): unknown
}

type ExportsOf = (module: string) => Variables

// Node 20 to 26 assign each of these once. Not so pendingUnhandledRejections, which is therefore not among them.
interface Found {
  Timeout: abstract new () => Timer
  Immediate: abstract new () => Timer
  kRefed: symbol
  timerListMap: Record<string, Linked>
  timerListQueue: PriorityQueue
  knownTimersById: Variables
  immediateQueue: { head: Timer | null; tail: Timer | null; append?: unknown }
  getTimerCallbacks(runNextTicks: () => void): { processImmediate(): void; processTimers(): void }
  binding: {
    timeoutInfo: Int32Array
    immediateInfo: Uint32Array
    toggleTimerRef(on: boolean): void
    scheduleTimer(milliseconds: number): void
    setupTimers(processImmediate: () => void, processTimers: () => void): void
  }
  queue: TickQueue
  tickInfo: Uint8Array
  runNextTicks(): void
  hasRejectionToWarn(): boolean
  asyncHandledRejections: Queue
  clearAsyncIdStack(): void
  clearDefaultTriggerAsyncId(): void
  async_id_fields: Float64Array
  kDefaultTriggerAsyncId: number
  /** What `block` changes of it, it takes back. */
  defaultTriggerAsyncIdScope(id: number, block: () => void): void
  execution_async_resources: unknown[]
  active_hooks: { array: unknown[]; call_depth: number; tmp_array: unknown[] | null }
  restoreActiveHooks(): void
  uuidData: Uint8Array
  randomCache: Uint8Array
  asyncCachePendingTasks: unknown[]
  /** Some Nodes have these compiled from their start, and perhaps elsewhere. */
  setHasTickScheduled?: unknown
  initAsyncResource?: unknown
}

/** Of a module of Node's, a function that it exports, and names that it exports as well or that the function sees. */
type Place = readonly [module: string, exported: string, names: readonly (keyof Found)[]]

const places: readonly Place[] = [
  ['internal/timers', 'setUnrefTimeout', ['Timeout', 'Immediate', 'kRefed', 'binding', 'getTimerCallbacks']],
  [
    'internal/timers',
    'setUnrefTimeout',
    ['timerListMap', 'timerListQueue', 'knownTimersById', 'immediateQueue'],
  ],
  [
    'internal/process/task_queues',
    'queueMicrotask',
    ['queue', 'tickInfo', 'runNextTicks', 'hasRejectionToWarn'],
  ],
  ['internal/process/promises', 'processPromiseRejections', ['asyncHandledRejections']],
  [
    'internal/async_hooks',
    'pushAsyncContext',
    ['execution_async_resources', 'active_hooks', 'restoreActiveHooks'],
  ],
  [
    'internal/async_hooks',
    'pushAsyncContext',
    ['clearAsyncIdStack', 'clearDefaultTriggerAsyncId', 'defaultTriggerAsyncIdScope'],
  ],
  ['internal/async_hooks', 'pushAsyncContext', ['async_id_fields', 'kDefaultTriggerAsyncId']],
  ['internal/crypto/random', 'randomUUID', ['uuidData', 'randomCache', 'asyncCachePendingTasks']],
]

const maybe: readonly Place[] = [
  ['internal/timers', 'setUnrefTimeout', ['initAsyncResource']],
  ['internal/process/task_queues', 'queueMicrotask', ['setHasTickScheduled']],
]

function unavailable(what: string, cause?: unknown): Error {
  const error = new Error(`${what} cannot be found in Node.js ${process.version}`, { cause })
  return Object.assign(error, { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' })
}

function variable(name: string, scopes: Scopes, where: string): unknown {
  const value = scopes.find((scope) => Object.hasOwn(scope, name))?.[name]
  if (value === undefined || value === null) throw unavailable(`${name} of ${where}`)
  return value
}

/** All of it is synchronous, and leaves nothing behind. */
function inspect<T>(use: (look: Look) => T): T {
  const bridge: { fn?: unknown; scopes?: ArrayLike<{ object: Variables }> } = {}
  const key = 'linux-clone.inspect'
  let inspector: typeof import('node:inspector')
  try {
    inspector = require('node:inspector')
  } catch (error) {
    throw unavailable('The inspector', error)
  }
  const session = new inspector.Session()
  // The inspector's global object need not be this module's (Jest has its own): Node's prototypes are the same in both.
  const shared: object = Object.getPrototypeOf(inspector.Session.prototype)
  function post(method: string, params: object) {
    let answer: unknown
    session.post(method, params, (error: Error | null, result?: object) => {
      answer = error ?? result
    })
    if (answer instanceof Error || answer === undefined) throw unavailable(`The answer to ${method}`, answer)
    return answer as {
      result: { objectId: string }
      internalProperties?: { name: string; value?: { objectId?: string } }[]
    }
  }
  try {
    session.connect()
    Object.defineProperty(shared, Symbol.for(key), { value: bridge, configurable: true })
    const { objectId } = post('Runtime.evaluate', { expression: `process[Symbol.for('${key}')]` }).result
    const call = (declaration: string, ...args: { objectId: string | undefined }[]) =>
      post('Runtime.callFunctionOn', { objectId, functionDeclaration: declaration, arguments: args })
    return use((fn) => {
      bridge.fn = fn
      const { result } = call('function () { return this.fn }')
      const { internalProperties } = post('Runtime.getProperties', {
        objectId: result.objectId,
        ownProperties: true,
      })
      const scopes = internalProperties?.find(({ name }) => name === '[[Scopes]]')?.value
      call('function (scopes) { this.scopes = scopes }', { objectId: scopes?.objectId })
      return Array.from(bridge.scopes ?? [], ({ object }) => object)
    })
  } finally {
    Reflect.deleteProperty(shared, Symbol.for(key))
    session.disconnect()
  }
}

/** What a module of Node's own exports; nothing while it is not loaded. */
function modules(look: Look): ExportsOf {
  const { map } = variable('BuiltinModule', look(isBuiltin), 'node:module') as {
    map: ReadonlyMap<string, { exports: Variables }>
  }
  return (module) => map.get(module)?.exports ?? {}
}

function visible(look: Look, exportsOf: ExportsOf, module: string, exported: string): Scopes {
  const exports = exportsOf(module)
  return [exports, ...look(variable(exported, [exports], module))]
}

function find(look: Look, exportsOf: ExportsOf): Found {
  const { randomUUID }: typeof import('node:crypto') = require('node:crypto')
  // The batch of UUIDs is made with the first of them.
  randomUUID()
  const found: Variables = {}
  for (const [module, exported, names] of places) {
    const scopes = visible(look, exportsOf, module, exported)
    for (const name of names) found[name] = variable(name, scopes, module)
  }
  for (const [module, exported, names] of maybe) {
    const scopes = visible(look, exportsOf, module, exported)
    for (const name of names) found[name] = scopes.find((scope) => Object.hasOwn(scope, name))?.[name]
  }
  return found as unknown as Found
}

function drain(queue: Queue): void {
  while (queue.shift()) {
    // Each shift() takes one.
  }
}

/** Leaves a timer as its callback would: not counted, so that clearing it counts nothing down. It can be refreshed. */
function retire(timer: Timer): void {
  timer._destroyed = true
  timer._idleNext = null
  timer._idlePrev = null
}

function dropTimers({ timerListMap, timerListQueue, knownTimersById }: Found): void {
  // Each list of the map is in the queue.
  if (timerListQueue.peek() !== undefined) {
    for (const [duration, list] of Object.entries(timerListMap)) {
      for (let timer = list._idleNext; timer !== null && timer !== list; ) {
        const next: Linked | null = timer._idleNext
        retire(timer as Timer)
        timer = next
      }
      list._idleNext = list
      list._idlePrev = list
      delete timerListMap[duration]
    }
    drain(timerListQueue)
  }
  for (const id in knownTimersById) delete knownTimersById[id]
}

function retireImmediates(first: Timer | null, kRefed: symbol): void {
  for (let immediate = first; immediate !== null; ) {
    const next: Linked | null = immediate._idleNext
    retire(immediate)
    immediate[kRefed] = null
    immediate = next as Timer | null
  }
}

/** Of what Node keeps of immediates, whether a batch of them is under way. */
const HAS_OUTSTANDING = 2

function dropImmediates({ immediateQueue, kRefed, binding, getTimerCallbacks, runNextTicks }: Found): void {
  if (immediateQueue.head !== null) {
    retireImmediates(immediateQueue.head, kRefed)
    immediateQueue.head = null
    immediateQueue.tail = null
  }
  if (binding.immediateInfo[HAS_OUTSTANDING] !== 0) {
    // The rest of a batch whose callback threw, or runs now, is in a queue that only these two see.
    const { processImmediate, processTimers } = getTimerCallbacks(runNextTicks)
    binding.setupTimers(processImmediate, processTimers)
  }
}

/** What runs now has left its queue already, and would come back to it. */
function dropRunning(found: Found): void {
  for (const resource of found.execution_async_resources) {
    if (resource instanceof found.Immediate) retireImmediates(resource, found.kRefed)
    if (resource instanceof found.Timeout) {
      retire(resource)
      resource._repeat = null
    }
  }
  forgetCallers(found)
}

/** Where Node keeps a default for the id of what triggers something, and has none. */
const NO_DEFAULT = -1

function forgetCallers(found: Found): void {
  const { active_hooks, restoreActiveHooks, clearAsyncIdStack, async_id_fields } = found
  if (active_hooks.call_depth !== 0) active_hooks.call_depth = 0
  // A hook that was switched on or off in a hook's callback is so when that returns.
  if (active_hooks.tmp_array !== null) restoreActiveHooks()
  // To be sure of it costs less than to set it once more.
  if (async_id_fields[found.kDefaultTriggerAsyncId] !== NO_DEFAULT) found.clearDefaultTriggerAsyncId()
  clearAsyncIdStack()
}

interface Resolver {
  _handle: { setServers(servers: [family: number, address: string, port: number][]): number }
}

// Node's cares_wrap.h: DNS_ESETSRVPENDING.
const QUERIES_UNDER_WAY = -1000

function renewResolver(exportsOf: ExportsOf): void {
  const { Resolver, getServers } = exportsOf('dns') as Partial<typeof import('node:dns')>
  // It is made with the module, if not asked for before.
  if (Resolver === undefined || getServers === undefined) return
  const { getDefaultResolver } = exportsOf('internal/dns/utils') as { getDefaultResolver?: () => Resolver }
  const resolver = getDefaultResolver?.()
  // It sets none, as this is no address, but says before whether it could.
  if (resolver?._handle.setServers([[4, '', 53]]) !== QUERIES_UNDER_WAY) return
  const fresh = new Resolver()
  fresh.setServers(getServers())
  // Whoever holds a function of dns holds it bound to this object.
  resolver._handle = (fresh as unknown as Resolver)._handle
}

const unusedResolver: ExportsOf = () => ({
  ...{ Resolver: Object, getServers: Array },
  getDefaultResolver: () => ({ _handle: { setServers: () => 0 } }),
})

interface HookWorker {
  waitForWorker(): void
  makeAsyncRequest(...request: unknown[]): Promise<unknown>
  makeSyncRequest(...request: unknown[]): unknown
}

function refuseHooks(exportsOf: ExportsOf): void {
  // The module is there since hooks are; the class has another name since Node 24.
  const { HooksProxy, AsyncLoaderHookWorker = HooksProxy } = exportsOf('internal/modules/esm/hooks') as {
    HooksProxy?: { prototype: HookWorker }
    AsyncLoaderHookWorker?: { prototype: HookWorker }
  }
  if (AsyncLoaderHookWorker === undefined) return
  const refuse = () => {
    const message =
      'In a clone no module can be imported where module.register() has been called: the hooks run in a thread of the parent. ' +
      'Import it before, or use module.registerHooks()'
    throw withCode(Error, 'ENOTSUP', message, refuse)
  }
  const { prototype } = AsyncLoaderHookWorker
  prototype.waitForWorker = refuse
  prototype.makeSyncRequest = refuse
  prototype.makeAsyncRequest = async () => refuse()
}

function nothing(): void {
  // Nobody is called.
}

/** As what is found, with a timer, an immediate, and nothing behind it. */
function unused(found: Found): Found {
  const { getTimerCallbacks, defaultTriggerAsyncIdScope } = found
  const none = () => undefined
  const empty = { shift: none }
  class Timeout {
    [symbol: symbol]: unknown
    _idleNext: Linked | null = null
    _idlePrev: Linked | null = null
    _destroyed = false
    _repeat = null
  }
  const [list, timer, immediate] = [new Timeout(), new Timeout(), new Timeout()]
  list._idleNext = timer
  timer._idleNext = list
  return {
    ...{ Timeout, Immediate: Timeout, kRefed: Symbol('refed'), getTimerCallbacks },
    ...{
      timerListMap: { 1: list },
      timerListQueue: { peek: () => list, shift: none },
      knownTimersById: { 1: timer },
    },
    immediateQueue: { head: immediate, tail: immediate },
    binding: {
      ...{ timeoutInfo: new Int32Array(1), immediateInfo: new Uint32Array(3).fill(1) },
      ...{ toggleTimerRef: nothing, scheduleTimer: nothing, setupTimers: nothing },
    },
    ...{ queue: { ...empty, isEmpty: () => true }, tickInfo: new Uint8Array(2), runNextTicks: nothing },
    ...{ hasRejectionToWarn: () => found.hasRejectionToWarn() && false, asyncHandledRejections: empty },
    ...{ clearAsyncIdStack: nothing, restoreActiveHooks: nothing, defaultTriggerAsyncIdScope },
    clearDefaultTriggerAsyncId: () => defaultTriggerAsyncIdScope(1, found.clearDefaultTriggerAsyncId),
    ...{ async_id_fields: new Float64Array(1), kDefaultTriggerAsyncId: 0 },
    ...{ execution_async_resources: [timer], active_hooks: { array: [], call_depth: 0, tmp_array: null } },
    ...{ uuidData: new Uint8Array(16), randomCache: new Uint8Array(16), asyncCachePendingTasks: [] },
  }
}

/** What a copy of this process has to give up of Node's own JavaScript state. */
export class NodeInternals {
  readonly #found: Found
  readonly #exportsOf: ExportsOf
  #forgetDate: (() => void) | undefined

  constructor(found: Found, exportsOf: ExportsOf) {
    this.#found = found
    this.#exportsOf = exportsOf
  }

  /** Modules are loaded when they are asked for: what is not there when this process last looked is looked for in each copy. */
  findDate(): void {
    // A timer clears the Date header that http keeps: without it, the header would stay the same for ever.
    if (this.#forgetDate === undefined && this.#exportsOf('internal/http').utcDate !== undefined) {
      this.#forgetDate = this.#lookUp('internal/http', 'utcDate', 'resetCache') as () => void
    }
  }

  #lookUp(module: string, exported: string, name: string): unknown {
    return inspect((look) => variable(name, visible(look, this.#exportsOf, module, exported), module))
  }

  /** Drops timers, immediates, ticks and unhandled rejections, the running ones too, and what is on the async id stack. */
  drop(): void {
    const found = this.#found
    dropRunning(found)
    dropTimers(found)
    dropImmediates(found)
    drain(found.asyncHandledRejections)
    if (found.hasRejectionToWarn()) {
      const name = 'pendingUnhandledRejections'
      const rejections = this.#lookUp('internal/process/promises', 'processPromiseRejections', name)
      // Node makes another now and then.
      ;(rejections as Map<unknown, unknown>).clear()
    }
    this.findDate()
    this.#forgetDate?.()
    this.dropRandom()
  }

  /** To be called where what Node counts becomes zero: where one is left it does not look for those that are added. */
  dropTicks(): void {
    drain(this.#found.queue)
  }

  /** When what Node counts is zero, and the loop turns for what is here alone: hooks may have added to what has been dropped. */
  begin(): void {
    const { binding } = this.#found
    this.dropTicks()
    dropTimers(this.#found)
    dropImmediates(this.#found)
    binding.toggleTimerRef(false)
    // When the next list is due is in a variable of the module's, which it sets anew when the clock rings.
    binding.scheduleTimer(1)
  }

  /** The callers of what crypto draws are the other process's. */
  dropRandom(): void {
    const { asyncCachePendingTasks } = this.#found
    if (asyncCachePendingTasks.length > 0) asyncCachePendingTasks.length = 0
  }

  /**
   * Empties the async id stack, as drop() does too: before each end of execution, as nothing pops what it has skipped.
   * Execution ends only as far as the microtask queue: Node's functions below it go on, and run the other process's
   * timers and immediates. They run ticks first: it has to be ended again in one.
   */
  forgetCallers(): void {
    forgetCallers(this.#found)
  }

  /** What crypto has drawn in advance. OpenSSL's generators would have to be seeded for it, which many a copy does not need. */
  get random(): Uint8Array[] {
    const { uuidData, randomCache } = this.#found
    return [uuidData, randomCache]
  }

  /** What Node counts: of what has been dropped nothing is to be counted down. */
  get counts(): Uint8Array[] {
    const { binding, tickInfo } = this.#found
    return [binding.timeoutInfo, binding.immediateInfo, tickInfo].map(
      ({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength),
    )
  }

  /** Gives dns a channel of this process's, where the other's has queries under way, with their callbacks. */
  renewResolver(): void {
    renewResolver(this.#exportsOf)
  }

  /** Has what asks the thread of module.register()'s hooks, which is not here, fail rather than wait. */
  refuseHooks(): void {
    refuseHooks(this.#exportsOf)
  }

  /**
   * Has V8 compile what Node runs in every copy, which this process may not have run; nothing comes of it, and no hook hears of it.
   * Nothing is put off: the functions for that may be somebody's own, as fake timers are, and are compiled alone.
   */
  rehearse({ nextTick, setImmediate }: { nextTick: unknown; setImmediate: unknown }): void {
    const { Immediate, initAsyncResource, setHasTickScheduled } = this.#found
    const { queue, timerListQueue, immediateQueue, binding, getTimerCallbacks, runNextTicks } = this.#found
    const { active_hooks } = this.#found
    if (queue.isEmpty()) queue.shift()
    timerListQueue.peek()
    if (active_hooks.array.length === 0 && active_hooks.tmp_array === null) {
      new AsyncResource('rehearsal').runInAsyncScope(nothing)
    }
    const isIdle = immediateQueue.head === null && binding.immediateInfo[HAS_OUTSTANDING] === 0
    if (isIdle) getTimerCallbacks(runNextTicks).processImmediate()
    const ofTicks = [nextTick, setHasTickScheduled, queue.push, queue.head?.push, queue.head?.isFull]
    const ofImmediates = [setImmediate, Immediate, initAsyncResource, immediateQueue.append]
    const ref: unknown = Immediate.prototype.ref
    for (const fn of [...ofTicks, ...ofImmediates, ref]) if (typeof fn === 'function') compile(fn)
    this.#exportsOf('')
    this.findDate()
  }

  /** The same for what nobody uses. */
  standIn(): NodeInternals {
    return new NodeInternals(unused(this.#found), unusedResolver)
  }
}

let known: NodeInternals | undefined

/**
 * What is found once.
 *
 * @throws {Error} `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM`: this Node has no inspector, or keeps something elsewhere.
 */
export function nodeInternals(): NodeInternals {
  known ??= inspect((look) => {
    const exportsOf = modules(look)
    return new NodeInternals(find(look, exportsOf), exportsOf)
  })
  return known
}
