import binding = require('../binding.js')

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { MountRequest } from '../binding.js'
import { type Caller, invalidArgType, invalidArgValue } from './argument-errors.js'
import * as constants from './constants.js'
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
  /** Of a bind mount, the path outside of the new root, from where this process is. */
  source?: string
  /** Inside of the new root, where symbolic links are resolved too. */
  target: string
  /**
   * `ro`, `nosuid`, `nodev`, `noexec`, `rbind`, `private` …, and file-system options such as `size=64m`. Of `'bind'` and `'dev'` those
   * of a mount alone.
   */
  options?: readonly string[]
  /** Create `target` where it is missing (default true under a new root). */
  create?: boolean
  /** Skip, rather than fail, where `source` does not exist. */
  optional?: boolean
}

const TYPES = ['bind', 'tmpfs', 'proc', 'sysfs', 'devpts', 'mqueue', 'cgroup2', 'overlay', 'dev']
const KNOWN = ['type', 'source', 'target', 'options', 'create', 'optional'] as const
/** What each generic option of mount(8) sets or clears. */
const flags = new Map(binding.mountOptions().map(({ name, set, clear }) => [name, set | clear]))
const names = [...flags.keys()]

const PROPAGATION =
  constants.MS_PRIVATE | constants.MS_SLAVE | constants.MS_SHARED | constants.MS_UNBINDABLE | constants.MS_REC
/** What a mount has, rather than its file system. */
const ATTRIBUTES =
  constants.MS_RDONLY |
  constants.MS_NOSUID |
  constants.MS_NODEV |
  constants.MS_NOEXEC |
  constants.MS_NODIRATIME |
  constants.MS_NOSYMFOLLOW |
  constants.MS_NOATIME |
  constants.MS_STRICTATIME |
  constants.MS_RELATIME
/** Options that are of this kind of mount. */
const OF_TREE = PROPAGATION | ATTRIBUTES | constants.MS_SILENT
const NOT_OF_FILE_SYSTEM = constants.MS_BIND | constants.MS_MOVE | constants.MS_REMOUNT

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
    options: checkedMountOptions(given.options, changes ? 'change' : type, `${name}.options`, caller),
    create: given.create === undefined ? isUnderRoot : boolean(given.create, `${name}.create`, caller),
    optional: given.optional !== undefined && boolean(given.optional, `${name}.optional`, caller),
  })
  if (!isUnderRoot && !changes && isRootItself(request.target)) {
    const told = 'would be hidden below the root that this process has: it needs options.root'
    throw invalidArgValue(`${name}.target`, told, request.target, caller)
  }
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

function isRootItself(target: string): boolean {
  return target.split('/').every((part) => part === '' || part === '.')
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
    const flag = flags.get(option)
    if (flag === undefined && (type === 'bind' || type === 'dev')) {
      const told = `is no option of a ${type} mount; ${advice(option, names)}`
      throw invalidArgValue(element, told, each, caller)
    }
    if (flag !== undefined && !suits(type, flag)) {
      const told =
        type === 'change'
          ? 'is not for a mount that is changed'
          : `is not for a mount of type '${type}'; a change of one has target and options alone`
      throw invalidArgValue(element, told, each, caller)
    }
    return type === 'overlay' ? withAbsolutePaths(option) : option
  })
}

function suits(type: string, flag: number): boolean {
  switch (type) {
    case 'bind':
      return (flag & ~(OF_TREE | constants.MS_BIND)) === 0
    case 'dev':
      return (flag & ~OF_TREE) === 0
    case 'change':
      return (flag & constants.MS_MOVE) === 0
    default:
      return (flag & NOT_OF_FILE_SYSTEM) === 0
  }
}

/** The kernel would look from the target, where it is mounted. A colon that belongs to a path has a backslash before it. */
function withAbsolutePaths(option: string): string {
  const [, name, paths] = /^((?:lower|upper|work|data)dir\+?)=(.+)$/s.exec(option) ?? []
  if (name === undefined || paths === undefined) return option
  const parts = name === 'lowerdir' ? paths.split(/(?<!\\):/) : [paths]
  return `${name}=${parts.map((part) => part && resolve(part)).join(':')}`
}
