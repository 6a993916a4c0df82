import binding = require('../binding.js')

import { readFileSync } from 'node:fs'
import type { MountRequest } from '../binding.js'
import { type Caller, invalidArgType, invalidArgValue } from './argument-errors.js'
import { type Creation, needs } from './namespace-options.js'
import { advice, bare, boolean, isArray, isRecord, nearest, options, text } from './validate.js'

export interface MountSpec {
  /**
   * A type of file system, `'bind'`, or `'dev'`: a minimal /dev. Absent: `'bind'`; or, where there is no source either and
   * an option is `remount` or a propagation, the directory's mount is changed: `{ target: '/', options: ['remount', 'bind', 'ro'] }`.
   */
  type?:
    | 'bind'
    | 'tmpfs'
    | 'proc'
    | 'sysfs'
    | 'devpts'
    | 'mqueue'
    | 'cgroup2'
    | 'overlay'
    | 'dev'
    | (string & {})
  /** Of a bind mount, the path outside of the new root. */
  source?: string
  /** Inside of the new root, where symbolic links are resolved too. */
  target: string
  /** `ro`, `nosuid`, `nodev`, `noexec`, `rbind`, `private` …, and file-system options such as `size=64m`. */
  options?: readonly string[]
  /** Create `target` where it is missing (default true under a new root). */
  create?: boolean
  /** Skip, rather than fail, where `source` does not exist. */
  optional?: boolean
}

const TYPES = ['bind', 'tmpfs', 'proc', 'sysfs', 'devpts', 'mqueue', 'cgroup2', 'overlay', 'dev']
const KNOWN = ['type', 'source', 'target', 'options', 'create', 'optional'] as const
const flags = binding.mountOptions().map(({ name }) => name)

export function checkedMounts(
  { mounts, root }: Readonly<Record<string, unknown>>,
  creation: Creation,
  caller: Caller,
): MountRequest[] {
  if (mounts === undefined) return []
  if (!isArray(mounts)) throw invalidArgType('options.mounts', 'an instance of Array', mounts, caller)
  if (mounts.length > 0) needs(creation, 'mnt', 'options.mounts', mounts, caller)
  return Array.from(mounts, (value, index) =>
    checkedMount(value, `options.mounts[${index}]`, root !== undefined, caller),
  )
}

function checkedMount(value: unknown, name: string, isUnderRoot: boolean, caller: Caller): MountRequest {
  if (!isRecord(value)) throw invalidArgType(name, 'an object', value, caller)
  const given = options(value, name, KNOWN, caller)
  const changes = given.type === undefined && given.source === undefined && changesMount(given.options)
  const type = given.type === undefined ? 'bind' : checkedType(given.type, `${name}.type`, caller)
  const request = bare<MountRequest>({
    target: checkedTarget(given.target, `${name}.target`, caller),
    options: checkedMountOptions(given.options, type, `${name}.options`, caller),
    create: given.create === undefined ? isUnderRoot : boolean(given.create, `${name}.create`, caller),
    optional: given.optional !== undefined && boolean(given.optional, `${name}.optional`, caller),
  })
  if (given.source !== undefined) request.source = text(given.source, `${name}.source`, caller)
  if (changes) return request
  request.type = type
  if (type === 'bind' && !request.source) {
    throw given.source === undefined
      ? invalidArgType(`${name}.source`, 'of type string', undefined, caller)
      : invalidArgValue(`${name}.source`, 'cannot be empty', '', caller)
  }
  if (type === 'dev' && request.source !== undefined) {
    throw invalidArgValue(`${name}.source`, "is not for type 'dev', which has none", request.source, caller)
  }
  return request
}

const CHANGES = /^(remount|r?private|r?slave|r?shared|r?unbindable)$/

/** Whether it is the mount that is there that is to be another. */
function changesMount(options: unknown): boolean {
  return isArray(options) && options.some((option) => typeof option === 'string' && CHANGES.test(option))
}

function checkedType(value: unknown, name: string, caller: Caller): string {
  const type = text(value, name, caller)
  if (TYPES.includes(type)) return type
  // The kernel may load one that it does not list.
  if (type === '' || (nearest(type, TYPES) !== undefined && !isRegistered(type))) {
    throw invalidArgValue(name, `is no type of mount; ${advice(type, TYPES)}`, value, caller)
  }
  return type
}

function isRegistered(type: string): boolean {
  try {
    return readFileSync('/proc/filesystems', 'utf8').split(/\s/).includes(type)
  } catch {
    // Without /proc nothing is known of it.
    return true
  }
}

function checkedTarget(value: unknown, name: string, caller: Caller): string {
  const target = text(value, name, caller)
  if (target === '') throw invalidArgValue(name, 'cannot be empty', value, caller)
  let depth = 0
  for (const part of target.split('/')) {
    if (part === '..') depth -= 1
    else if (part !== '' && part !== '.') depth += 1
    if (depth < 0) throw invalidArgValue(name, 'must not climb out of the root', value, caller)
  }
  return target
}

function checkedMountOptions(value: unknown, type: string, name: string, caller: Caller): string[] {
  if (value === undefined) return []
  if (!isArray(value)) throw invalidArgType(name, 'an instance of Array', value, caller)
  return Array.from(value, (each, index) => {
    const element = `${name}[${index}]`
    const option = text(each, element, caller)
    if (option === '' || option.includes(',')) {
      throw invalidArgValue(element, 'must be one option, without a comma', each, caller)
    }
    if ((type === 'bind' || type === 'dev') && !flags.includes(option)) {
      throw invalidArgValue(
        element,
        `is no option of a ${type} mount; ${advice(option, flags)}`,
        each,
        caller,
      )
    }
    return option
  })
}
