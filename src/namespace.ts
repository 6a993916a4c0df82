import binding = require('../binding.js')

import type { ChildProcess } from 'node:child_process'
import { debuglog } from 'node:util'
import { type Caller, invalidArgType, withCode } from './argument-errors.js'
import type { NamespaceOptions, Plan } from './namespace-table.js'
import { rest } from './on-demand.js'
import { spawn } from './spawn.js'
import type { SpawnOptions } from './spawn-options.js'
import { unwrap } from './system-call-error.js'
import { isArray } from './validate.js'
import { canKeepInStep, keepInStep, refreshWorkingDirectory } from './working-directory.js'

const debug = debuglog('linux-clone')

/**
 * What is to be private, said once, for this process, for a function, or for a program.
 *
 * @throws {TypeError} From the constructor, before anything has changed: `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE`: an
 * unknown option (the message suggests a known one), or options that contradict each other.
 */
export class Namespace {
  readonly #plan: Plan

  constructor(options?: NamespaceOptions) {
    const { Plan } = rest()
    this.#plan = new Plan(options, new.target as unknown as Caller)
  }

  /** A copy of what was given, which cannot be changed. */
  get options(): Readonly<NamespaceOptions> {
    return this.#plan.options
  }

  /**
   * Puts this process, every thread of it, into the namespaces for the rest of its life: all of it, or, where something
   * fails, nothing. Irreversible. Linux 5.8 or later.
   *
   * A running process with threads cannot enter a new pid, user or time namespace: with privatePid, privateUser or
   * privateTime it throws, before anything has changed.
   *
   * @throws {Error} `ERR_NAMESPACE_NEEDS_CHILD`, whose `hint` names run and spawn.
   * @throws {SystemCallError} with `step`; as {@link unshare} with all threads, and mount(2).
   */
  setup(): void {
    const { setup } = this
    const { given, lines } = this.#plan
    const hasChild = (['privatePid', 'privateUser', 'privateTime'] as const).filter((name) => given[name])
    if (hasChild.length > 0) throw needsChild(hasChild, setup)
    const { bits, setup: request } = this.#plan.forThreads(setup)
    say('setup', [...lines, ...rest().steps(bits, request)])
    if (bits === 0) return
    const circumstances = () => ({ hint: rest().hints.setup(bits) })
    const isSeparate = unwrap(binding.setupEveryThread(bits, request, canKeepInStep()), circumstances, setup)
    refreshWorkingDirectory()
    if (isSeparate) keepInStep()
  }

  /**
   * Runs `fn` in a clone of this process inside the namespaces, and resolves to what it returns, or resolves to, once
   * everything that it has started is gone: processes, mounts and interfaces.
   *
   * The result comes by structured clone: a Map, Date, BigInt, typed array or circular object arrives as what it is, and a Buffer stays
   * one. What cannot be cloned rejects with a DataCloneError. An error that `fn` throws is rethrown here: of the same class where that
   * is a built-in one, with message, stack, `cause`, and those own properties that can be cloned.
   *
   * What {@link clone} says of a copy holds. Processes that `fn` has started end with it: in a pid namespace all of them;
   * else all that are its descendants, and where it was killed, all that are in its other namespaces.
   *
   * @throws {Error} `ERR_NAMESPACE_CHILD_EXIT` with the properties `exitCode` and `signal`: the process has ended without an
   * answer. `ABORT_ERR`: by `options.signal`, whose reason is the `cause`.
   * @throws {SystemCallError} with `step`, as {@link clone} and mount(2).
   * @throws {RangeError} `ERR_OUT_OF_RANGE`: a monotonic clock that would go back.
   */
  async run<A extends readonly unknown[], T>(fn: (...args: A) => T | Promise<T>, ...args: A): Promise<T> {
    const { run } = this
    const { runIn, steps } = rest()
    if (typeof fn !== 'function') throw invalidArgType('fn', 'of type function', fn, run)
    const request = this.#plan.forClone(run)
    if (request.setup) say('run', [...this.#plan.lines, ...steps(request.flags, request.setup)])
    return (await runIn(this.#plan, request, { fn, args }, run, (line) => say('run', [line]))) as T
  }

  /**
   * {@link spawn} inside the namespaces. Options of the call come on top of ours, and lists (`unshare`, `mounts`) after them.
   */
  spawn(command: string, args?: readonly string[], options?: SpawnOptions): ChildProcess
  spawn(command: string, options?: SpawnOptions): ChildProcess
  spawn(command: string, args?: readonly string[] | SpawnOptions, options?: SpawnOptions): ChildProcess {
    const isWithoutArgs = typeof args === 'object' && args !== null && !isArray(args)
    const given = (isWithoutArgs ? (args as SpawnOptions) : options) ?? {}
    if (typeof given !== 'object') throw invalidArgType('options', 'of type object', given, this.spawn)
    const all = this.#plan.forSpawn(given)
    const signals = [this.#plan.signal, all.signal].filter((signal) => signal !== undefined)
    const signal = signals.length > 1 ? AbortSignal.any(signals) : signals[0]
    if (signal !== undefined) all.signal = signal
    say('spawn', [...this.#plan.lines, command])
    const child = spawn(command, isWithoutArgs ? [] : (args as readonly string[]), all)
    const own = this.#plan.signal
    if (own) killAfter(child, own)
    return child
  }
}

/** Node sends SIGTERM, or what killSignal says. */
function killAfter(child: ChildProcess, signal: AbortSignal): void {
  const { GRACE } = rest()
  let timer: NodeJS.Timeout | undefined
  const abort = () => {
    timer = setTimeout(() => child.kill('SIGKILL'), GRACE)
  }
  signal.addEventListener('abort', abort)
  child.once('exit', () => {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
  })
}

function needsChild(names: readonly string[], caller: Caller): Error & { hint?: string } {
  const message = `A running process cannot have ${names.join(' and ')}: only a new one can`
  const error = withCode(Error, 'ERR_NAMESPACE_NEEDS_CHILD', message, caller)
  const hint =
    'run() has them for a function, and spawn() for a program: this process has threads, which the kernel does not let in'
  return Object.assign(error, { hint })
}

function say(method: string, lines: readonly string[]): void {
  if (!debug.enabled) return
  for (const line of lines) debug('%s: %s', method, line)
}
