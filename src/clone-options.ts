import { closeSync } from 'node:fs'
import { types } from 'node:util'
import { type Caller, invalidArgType, invalidArgValue, outOfRange } from './argument-errors.js'
import type { CloneRequest } from './clone-request.js'
import * as kernel from './constants.js'
import { type Flags, flagBits, namespaceBits } from './flags.js'
import {
  type Creation,
  checkedCgroup,
  checkedMaps,
  checkedTimeOffsets,
  type IdMappings,
  openedCgroup,
} from './namespace-options.js'
import { bare, int32, isArray, options, safeInteger, signalNumber } from './validate.js'

export interface CloneOptions {
  /**
   * CLONE_* bits as clone3 reads them (0x80 is CLONE_NEWTIME, not a signal), or namespace types. CLONE_PIDFD is always on.
   *
   * With CLONE_PARENT the child is a sibling: wait resolves when it has ended, with code and signal null where the kernel
   * does not tell (before Linux 6.15, or as long as its parent has not waited for it).
   */
  flags?: Flags
  /** Bytes of the child's mmapped stack; 0 or absent: 4 MiB. Rounded up to pages, with a guard page. */
  stackSize?: number
  /** Sent to the parent when the child ends; 'SIGCHLD' by default, 0: none. */
  exitSignal?: NodeJS.Signals | number
  /** clone3's set_tid: the pid in the innermost new pid namespace first. Since Linux 5.5. */
  setTid?: readonly number[]
  /** clone3's CLONE_INTO_CGROUP: a cgroup-v2 directory's path or descriptor. Since Linux 5.7. */
  cgroup?: string | number
  /** CLONE_PARENT_SETTID: the kernel writes the child's id into the first element, in the parent. */
  parentTid?: Int32Array
  /** CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID: the kernel writes the child's id into the first element, in the child. */
  childTid?: Int32Array
  /** With a new user namespace only; the child waits until they are written. Absent: none is written. */
  uidMappings?: IdMappings
  gidMappings?: IdMappings
  setgroups?: 'allow' | 'deny'
  /**
   * With a new time namespace: offsets in seconds, to the nanosecond. JavaScript cannot go on where the monotonic clock
   * jumps back: a negative `monotonic` is `ERR_OUT_OF_RANGE`.
   */
  timeOffsets?: { monotonic?: number; boottime?: number }
}

const KNOWN = [
  'flags',
  'stackSize',
  'exitSignal',
  'setTid',
  'cgroup',
  'parentTid',
  'childTid',
  'uidMappings',
  'gidMappings',
  'setgroups',
  'timeOffsets',
] as const

export const NO_WAY_BACK = 'JavaScript goes on, and its clock cannot jump back'
const DEFAULT_STACK = 4 << 20
const SMALLEST_STACK = 4096

/** Flags with which two processes would share what only one JavaScript can have. */
const REFUSED: readonly (readonly [bit: number, reason: string])[] = [
  [kernel.CLONE_VM, 'CLONE_VM shares the memory, and one heap cannot run two JavaScripts: use a Worker'],
  [kernel.CLONE_THREAD, 'CLONE_THREAD makes a thread, which V8 does not know: use a Worker'],
  [kernel.CLONE_SIGHAND, 'CLONE_SIGHAND needs CLONE_VM: the child has its own listeners for signals'],
  [kernel.CLONE_VFORK, 'CLONE_VFORK suspends this process until the child ends: use waitSync()'],
  [
    kernel.CLONE_SETTLS,
    "CLONE_SETTLS replaces the thread's own storage, in which V8 and the libc keep theirs: leave it out",
  ],
  [
    kernel.CSIGNAL & ~kernel.CLONE_NEWTIME,
    'the low bits are no flags for clone3: the signal is options.exitSignal',
  ],
]

/** Flags that need a place to write to, or a descriptor. */
const NEEDING: readonly (readonly [bit: number, name: string, option: keyof CloneOptions])[] = [
  [kernel.CLONE_PARENT_SETTID, 'CLONE_PARENT_SETTID', 'parentTid'],
  [kernel.CLONE_CHILD_SETTID, 'CLONE_CHILD_SETTID', 'childTid'],
  [kernel.CLONE_CHILD_CLEARTID, 'CLONE_CHILD_CLEARTID', 'childTid'],
  [kernel.CLONE_INTO_CGROUP, 'CLONE_INTO_CGROUP', 'cgroup'],
]

/** Whether a bit, or one of several, is set: clone3's flags have more of them than JavaScript's `&` knows. */
export function has(flags: number, bits: number): boolean {
  return (BigInt(flags) & BigInt(bits)) !== 0n
}

function add(flags: number, bits: number): number {
  return Number(BigInt(flags) | BigInt(bits))
}

/** What options ask for, checked; `release` closes what was opened for it. */
export interface Checked {
  request: CloneRequest
  release?: () => void
}

export const NOTHING_ASKED: Checked = {
  request: bare<CloneRequest>({ flags: 0, stackSize: DEFAULT_STACK, exitSignal: kernel.SIGCHLD, setTid: [] }),
}

export function checkedOptions(value: unknown, caller: Caller): Checked {
  const given = options(value, 'options', KNOWN, caller)
  let flags = checkedFlags(given, caller)
  const exitSignal = checkedExitSignal(given.exitSignal, flags, caller)
  const stackSize = checkedStackSize(given.stackSize, caller)
  const setTid = checkedSetTid(given.setTid, caller)
  const parentTid = place(given.parentTid, 'options.parentTid', caller)
  const childTid = place(given.childTid, 'options.childTid', caller)
  if (parentTid) flags = add(flags, kernel.CLONE_PARENT_SETTID)
  if (childTid) flags = add(flags, kernel.CLONE_CHILD_SETTID | kernel.CLONE_CHILD_CLEARTID)
  const creation: Creation = {
    creates: (type) => has(flags, namespaceBits.get(type) ?? 0),
    asking: (type) => `flags: '${type}'`,
  }
  const maps = checkedMaps(given, creation, caller)
  const timeOffsets = checkedTimeOffsets(given.timeOffsets, creation, NO_WAY_BACK, caller)
  const named = checkedCgroup(given.cgroup, caller)
  const cgroup = named === undefined ? undefined : openedCgroup(named, caller)
  const request = bare<CloneRequest>({ flags, stackSize, exitSignal, setTid, ...maps })
  if (parentTid) request.parentTid = parentTid
  if (childTid) request.childTid = childTid
  if (timeOffsets) request.timeOffsets = timeOffsets
  if (cgroup !== undefined) request.cgroup = cgroup
  if (typeof named !== 'string' || cgroup === undefined) return { request }
  return { request, release: () => closeSync(cgroup) }
}

function checkedFlags(given: Record<string, unknown>, caller: Caller): number {
  const { flags: value = 0 } = given
  const flags =
    typeof value === 'number' && !(value < 0)
      ? safeInteger(value, 'options.flags', 0, caller)
      : flagBits(value, 'options.flags', caller)
  for (const [bits, reason] of REFUSED) {
    if (has(flags, bits))
      throw invalidArgValue('options.flags', `cannot carry JavaScript: ${reason}`, value, caller)
  }
  for (const [bit, name, option] of NEEDING) {
    if (has(flags, bit) && given[option] === undefined) {
      throw invalidArgValue('options.flags', `has ${name}, which needs options.${option}`, value, caller)
    }
  }
  return flags
}

function checkedExitSignal(value: unknown, flags: number, caller: Caller): number {
  const isSibling = has(flags, kernel.CLONE_PARENT)
  if (value === undefined) return isSibling ? 0 : kernel.SIGCHLD
  const signal = signalNumber(value, 'options.exitSignal', caller)
  if (isSibling && signal !== 0) {
    const reason = 'cannot be chosen with CLONE_PARENT: a sibling sends what this process sends to its parent'
    throw invalidArgValue('options.exitSignal', reason, value, caller)
  }
  return signal
}

function checkedStackSize(value: unknown, caller: Caller): number {
  if (value === undefined) return DEFAULT_STACK
  const size = safeInteger(value, 'options.stackSize', 0, caller)
  if (size === 0) return DEFAULT_STACK
  if (size < SMALLEST_STACK) throw outOfRange('options.stackSize', `0 or >= ${SMALLEST_STACK}`, size, caller)
  return size
}

function checkedSetTid(value: unknown, caller: Caller): number[] {
  if (value === undefined) return []
  if (!isArray(value)) throw invalidArgType('options.setTid', 'an instance of Array', value, caller)
  if (value.length === 0) throw invalidArgValue('options.setTid', 'must name a pid', value, caller)
  return Array.from(value, (pid, index) => int32(pid, `options.setTid[${index}]`, caller))
}

function place(value: unknown, name: string, caller: Caller): Int32Array | undefined {
  if (value === undefined) return undefined
  if (!types.isInt32Array(value)) throw invalidArgType(name, 'an instance of Int32Array', value, caller)
  if (value.length === 0) throw invalidArgValue(name, 'must have an element to write to', value, caller)
  return value
}
