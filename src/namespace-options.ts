// Options of namespaces that clone and spawn have alike.
import { constants as fs, openSync } from 'node:fs'
import type { CloneRequest } from '../binding.js'
import { type Caller, invalidArgType, invalidArgValue, outOfRange } from './argument-errors.js'
import type { NamespaceType } from './flags.js'
import { hints } from './hints.js'
import { openError } from './system-call-error.js'
import { int32, isArray, isRecord, oneOf, options, text, uint32 } from './validate.js'

/** Ids from `inside` on are, outside of the namespace, those from `outside` on: `count` of them. */
export interface IdMapping {
  inside: number
  outside: number
  count: number
}
/**
 * `'root'`: one line, own id as 0. `'current'`: own id as itself. `'auto'`: own id as 0 and the first subordinate range
 * after it. `'all'`: every id that the caller has, as itself.
 */
export type IdMappings = readonly IdMapping[] | 'root' | 'current' | 'auto' | 'all'

/** What a call creates, and how that is asked for. */
export interface Creation {
  creates(type: NamespaceType): boolean
  asking(type: NamespaceType): string
}

/** Refuses an option that is for a new namespace, where none is created. */
export function needs(
  { creates, asking }: Creation,
  type: NamespaceType,
  name: string,
  value: unknown,
  caller: Caller,
): void {
  if (creates(type)) return
  throw invalidArgValue(name, `is for a new ${NOUNS[type]} namespace: ${asking(type)}`, value, caller)
}

const NOUNS: Record<NamespaceType, string> = {
  mnt: 'mount',
  uts: 'UTS',
  ipc: 'IPC',
  net: 'network',
  pid: 'pid',
  user: 'user',
  cgroup: 'cgroup',
  time: 'time',
}

type Given = Readonly<Record<string, unknown>>
type Maps = Pick<CloneRequest, 'uidMappings' | 'gidMappings' | 'allowSetgroups'>

export function checkedMaps(given: Given, creation: Creation, caller: Caller, of = 'options'): Maps {
  const maps: Maps = {}
  for (const name of ['uidMappings', 'gidMappings', 'setgroups'] as const) {
    if (given[name] === undefined) continue
    needs(creation, 'user', `${of}.${name}`, given[name], caller)
    if (name !== 'setgroups') maps[name] = mappings(given[name], `${of}.${name}`, caller)
  }
  const { setgroups } = given
  if (setgroups !== undefined) {
    maps.allowSetgroups = oneOf(setgroups, `${of}.setgroups`, ['allow', 'deny'], caller) === 'allow'
  }
  return maps
}

const NAMES = ['root', 'current', 'auto', 'all']

function mappings(value: unknown, name: string, caller: Caller): string | IdMapping[] {
  if (typeof value === 'string') {
    if (NAMES.includes(value)) return value
    throw invalidArgValue(
      name,
      `must be ${NAMES.map((known) => `'${known}'`).join(', ')} or lines`,
      value,
      caller,
    )
  }
  if (!isArray(value)) throw invalidArgType(name, 'of type string or an instance of Array', value, caller)
  if (value.length === 0) throw invalidArgValue(name, 'must have a line', value, caller)
  return Array.from(value, (line, index) => mapping(line, `${name}[${index}]`, caller))
}

function mapping(value: unknown, name: string, caller: Caller): IdMapping {
  if (!isRecord(value)) throw invalidArgType(name, 'an object', value, caller)
  const line = options(value, name, ['inside', 'outside', 'count'], caller)
  const number = (key: 'inside' | 'outside' | 'count') => {
    const id = uint32(line[key], `${name}.${key}`, caller)
    if ((line[key] as number) < 0) throw outOfRange(`${name}.${key}`, '>= 0', line[key] as number, caller)
    return id
  }
  const checked = { inside: number('inside'), outside: number('outside'), count: number('count') }
  if (checked.count === 0) throw outOfRange(`${name}.count`, '>= 1', 0, caller)
  return checked
}

/** What timens_offsets takes. */
export function checkedTimeOffsets(
  value: unknown,
  creation: Creation,
  /** Why the monotonic clock may not go back, where it may not. */
  noWayBack: string | undefined,
  caller: Caller,
  name = 'options.timeOffsets',
): string | undefined {
  if (value === undefined) return undefined
  if (!isRecord(value)) throw invalidArgType(name, 'an object', value, caller)
  const offsets = options(value, name, ['monotonic', 'boottime'], caller)
  needs(creation, 'time', name, value, caller)
  let lines = ''
  for (const clock of ['monotonic', 'boottime']) {
    const seconds = offsets[clock]
    if (seconds === undefined) continue
    if (typeof seconds !== 'number')
      throw invalidArgType(`${name}.${clock}`, 'of type number', seconds, caller)
    if (!Number.isFinite(seconds) || Math.abs(seconds) > Number.MAX_SAFE_INTEGER) {
      throw outOfRange(`${name}.${clock}`, 'a number of seconds', seconds, caller)
    }
    if (clock === 'monotonic' && seconds < 0 && noWayBack !== undefined) {
      throw outOfRange(`${name}.${clock}`, `>= 0: ${noWayBack}`, seconds, caller)
    }
    const whole = Math.floor(seconds)
    const nanoseconds = Math.min(Math.round((seconds - whole) * 1e9), 999_999_999)
    lines += `${clock} ${whole} ${nanoseconds}\n`
  }
  return lines === '' ? undefined : lines
}

export function checkedCgroup(value: unknown, caller: Caller): string | number | undefined {
  const name = 'options.cgroup'
  if (value === undefined) return undefined
  if (typeof value === 'number') return int32(value, name, caller)
  if (typeof value === 'string') return text(value, name, caller)
  throw invalidArgType(name, 'of type string or number', value, caller)
}

/** A descriptor, which is the caller's to close where it was no descriptor before. */
export function openedCgroup(cgroup: string | number, caller: Caller): number {
  if (typeof cgroup === 'number') return cgroup
  try {
    return openSync(cgroup, fs.O_RDONLY | fs.O_DIRECTORY)
  } catch (error) {
    throw openError(error, { step: () => 'cgroup', hint: hints.cgroupDirectory }, caller)
  }
}
