import type { SpawnOptions as NodeSpawnOptions } from 'node:child_process'
import { closeSync, statSync } from 'node:fs'
import { types } from 'node:util'
import type { IsolationRequest, JoinRequest, Rlimit, SetupRequest, SpawnRequest } from '../binding.js'
import { capabilityNames, rlimitNames } from '../binding.js'
import { type Caller, invalidArgType, invalidArgValue, outOfRange } from './argument-errors.js'
import { SIGKILL } from './constants.js'
import { flagBits, type NamespaceType, namespaceBits } from './flags.js'
import { type CheckedJoin, checkedJoin, type Join, joins, joinsAnother, openedJoin } from './join.js'
import { checkedMounts, type MountSpec } from './mount-specs.js'
import {
  type Creation,
  checkedCgroup,
  checkedMaps,
  checkedTimeOffsets,
  type IdMapping,
  type IdMappings,
  needs,
  openedCgroup,
} from './namespace-options.js'
import {
  advice,
  bare,
  boolean,
  isArray,
  isRecord,
  oneOf,
  onlyKnown,
  options,
  signalNumber,
  text,
} from './validate.js'

export interface NamespaceSpawnOptions {
  /** Namespaces to create. */
  unshare?: readonly NamespaceType[]
  /**
   * Namespaces to enter: by pid (a bare number: every one of that process's that differs from ours), by path, or by
   * descriptor, which stays the caller's. `user` is entered first. setns(2)
   */
  join?: Join
  /**
   * Of a new user namespace, but not of one that is created in another that is joined; absent: none is written, and every id shows
   * as 65534. user_namespaces(7)
   */
  uidMappings?: IdMappings
  gidMappings?: IdMappings
  /** Whether setgroups(2) is allowed in a new user namespace; `'deny'` where an ordinary user maps the own group alone. */
  setgroups?: 'allow' | 'deny'
  /** Of a new time namespace: seconds, to the nanosecond, that are added to the clocks; negative ones too. time_namespaces(7) */
  timeOffsets?: { monotonic?: number; boottime?: number }
  /**
   * Of `/` in a new mount namespace, recursively; `'private'` by default. With `root` neither `'shared'` nor `'unchanged'`.
   * mount_namespaces(7)
   */
  propagation?: 'private' | 'slave' | 'shared' | 'unchanged'
  /** The new root directory: pivot_root(2) where a mount namespace is created, else chroot(2). */
  root?: string
  /** What is mounted, in this order, in a new mount namespace; targets are paths in the new root. */
  mounts?: readonly MountSpec[]
  /** A fresh /proc, or one at another path; by default wherever a pid and a mount namespace are created. proc(5) */
  proc?: boolean | string
  /** In a UTS namespace that is created, or joined and not our own: at most 64 bytes. sethostname(2) */
  hostname?: string
  domainname?: string
  /** In a new network namespace: `'none'` leaves `lo` down; `'loopback'` (default) brings it up. */
  network?: 'none' | 'loopback'
  /**
   * Runs a minimal init as pid 1, which reaps orphans and forwards signals; default true with a new pid namespace.
   * 'exit' reports the program's own end all the same: its code, or the signal that ended it. `pid` is init's.
   */
  init?: boolean
  /**
   * Sent to the child when this process ends, whichever thread started it; default `'SIGKILL'` with a new pid namespace. `null`
   * or 0: none.
   */
  parentDeathSignal?: NodeJS.Signals | number | null
  /** The cgroup-v2 directory to start in: its path, or a descriptor, which stays the caller's. cgroups(7); Linux 5.7 */
  cgroup?: string | number
  /** Capabilities to keep in all five sets, as `'CAP_NET_ADMIN'`; absent: as exec leaves them. capabilities(7) */
  capabilities?: readonly string[]
  /** PR_SET_NO_NEW_PRIVS, prctl(2): set-user-id programs and file capabilities give nothing any more. */
  noNewPrivileges?: boolean
  /** A filter for system calls: a classic BPF program, as libseccomp exports it, 8 bytes an instruction. seccomp(2) */
  seccomp?: Uint8Array
  /** By the name in getrlimit(2) without its prefix, in lower case: `nofile`, `as`, `nproc` …; `Infinity` is unlimited. */
  rlimits?: Partial<Record<string, number | { soft: number; hard: number }>>
}

export interface SpawnOptions extends NodeSpawnOptions, NamespaceSpawnOptions {}

/** What this package adds to the options of Node's. */
const OWN = [
  'unshare',
  'join',
  'uidMappings',
  'gidMappings',
  'setgroups',
  'timeOffsets',
  'propagation',
  'root',
  'mounts',
  'proc',
  'hostname',
  'domainname',
  'network',
  'init',
  'parentDeathSignal',
  'cgroup',
  'capabilities',
  'noNewPrivileges',
  'seccomp',
  'rlimits',
] as const satisfies readonly (keyof NamespaceSpawnOptions)[]

const NODES = [
  'cwd',
  'env',
  'argv0',
  'stdio',
  'detached',
  'uid',
  'gid',
  'serialization',
  'shell',
  'signal',
  'timeout',
  'killSignal',
  'windowsHide',
  'windowsVerbatimArguments',
] as const
const SYNCHRONOUS = ['input', 'maxBuffer', 'encoding'] as const

const OWN_NAMES: ReadonlySet<string> = new Set(OWN)
const KNOWN = [...NODES, ...OWN]
const KNOWN_SYNCHRONOUS = [...NODES, ...SYNCHRONOUS, ...OWN]

/** What a request says of namespaces and limits, but for what has to be opened first. */
type Unopened = Omit<IsolationRequest, 'join' | 'cgroup'>

export interface Checked {
  /** Node's own options, each read once. */
  nodes: Record<string, unknown>
  /** Absent: none of this package's options is there. */
  isolation?: Isolation
}

interface Isolation {
  given: Given
  unopened: Unopened
  join: CheckedJoin
  cgroup: string | number | undefined
}

type Given = Readonly<Record<string, unknown>>

/** What stands in the place of options, of which there may be none. */
export function checkedSpawnOptions(value: unknown, isSync: boolean, caller: Caller): Checked {
  if (value !== undefined && (typeof value !== 'object' || value === null || isArray(value))) {
    throw invalidArgType('options', 'of type object', value, caller)
  }
  const all: Record<string, unknown> = { ...value }
  onlyKnown(all, 'options', isSync ? KNOWN_SYNCHRONOUS : KNOWN, caller)
  const nodes: Record<string, unknown> = Object.create(null)
  let given: Record<string, unknown> | undefined
  for (const key of Object.keys(all)) {
    const option = all[key]
    if (!OWN_NAMES.has(key)) nodes[key] = option
    else if (option !== undefined) {
      given ??= Object.create(null) as Record<string, unknown>
      given[key] = option
    }
  }
  if (given === undefined) return { nodes }
  const cgroup = checkedCgroup(given.cgroup, caller)
  const join = checkedJoin(given.join, caller)
  return { nodes, isolation: { given, unopened: checkedIsolation(given, caller), join, cgroup } }
}

/**
 * Calls `use` once the request says what it has to of namespaces and limits. The descriptors in that are open until it returns.
 *
 * @throws {Error} what open(2) and pidfd_open(2) say, with `step`; `ERR_INVALID_ARG_VALUE`, where what is joined does not go with the
 * rest.
 */
export function withIsolation<T>(
  { isolation }: Checked,
  request: SpawnRequest,
  caller: Caller,
  use: () => T,
): T {
  if (isolation === undefined) return use()
  const { given, unopened, join, cgroup } = isolation
  const opened: number[] = []
  try {
    const joined = openedJoin(join, opened, caller)
    if (join.length > 0) checkJoined(given, unopened.unshare, joined, caller)
    const asked = bare<IsolationRequest>({ ...unopened, join: joined })
    if (cgroup !== undefined) {
      asked.cgroup = openedCgroup(cgroup, caller)
      if (typeof cgroup === 'string') opened.push(asked.cgroup)
    }
    request.isolation = asked
    return use()
  } finally {
    for (const fd of opened) closeSync(fd)
  }
}

/** What a pid, a path or a descriptor stands for is known once it is open: what depends on that is refused then. */
function checkJoined(given: Given, unshare: number, joined: readonly JoinRequest[], caller: Caller): void {
  const creation = creationBy(unshare)
  if (joins(joined, 'pid')) refuseNestedPid(given, creation, caller)
  if (joins(joined, 'user')) refuseMapsOfOthers(given, caller)
  if (!joins(joined, 'mnt')) refuseNoDirectory(given.root, caller)
  if (!creation.creates('uts') && !joinsAnother(joined, 'uts')) refuseHostNames(given, caller)
}

function creationBy(unshare: number): Creation {
  return {
    creates: (type) => (unshare & (namespaceBits.get(type) ?? 0)) !== 0,
    asking: (type) => `unshare: ['${type}']`,
  }
}

export function checkedIsolation(given: Given, caller: Caller): Unopened {
  const unshare = checkedUnshare(given.unshare, caller)
  const creation = creationBy(unshare)
  if (names(given, 'pid')) refuseNestedPid(given, creation, caller)
  const maps = checkedMaps(given, creation, caller)
  if (names(given, 'user')) refuseMapsOfOthers(given, caller)
  refuseOverlaps(maps, 'options', caller)
  const setup = bare<SetupRequest>({
    mounts: checkedMounts(given, creation, caller),
    loopback: checkedNetwork(given.network, creation, caller),
  })
  const isolation: Unopened = {
    unshare,
    ...maps,
    setup,
    init: checkedInit(given.init, creation, caller),
    noNewPrivileges:
      given.noNewPrivileges !== undefined &&
      boolean(given.noNewPrivileges, 'options.noNewPrivileges', caller),
    rlimits: checkedRlimits(given.rlimits, caller),
  }
  const timeOffsets = checkedTimeOffsets(given.timeOffsets, creation, undefined, caller)
  const propagation = checkedPropagation(given, creation, caller)
  const root = checkedRoot(given, caller)
  const proc = checkedProc(given.proc, creation, caller)
  const parentDeathSignal = checkedParentDeathSignal(given.parentDeathSignal, creation, caller)
  const capabilities = checkedCapabilities(given.capabilities, caller)
  const seccomp = checkedSeccomp(given.seccomp, caller)
  if (timeOffsets !== undefined) isolation.timeOffsets = timeOffsets
  if (propagation !== undefined) setup.propagation = propagation
  if (root !== undefined) isolation.root = root
  if (proc !== undefined) setup.proc = proc
  for (const name of HOST_NAMES) {
    if (given[name] !== undefined) setup[name] = hostnameText(given[name], `options.${name}`, caller)
  }
  if (!creation.creates('uts') && !mayJoin(given, 'uts')) refuseHostNames(given, caller)
  if (parentDeathSignal !== 0) isolation.parentDeathSignal = parentDeathSignal
  if (capabilities !== undefined) isolation.capabilities = capabilities
  if (seccomp !== undefined) isolation.seccomp = seccomp
  return isolation
}

/** Whether a namespace of this type is joined by name. */
function names({ join }: Given, type: NamespaceType): boolean {
  return isRecord(join) && Object.hasOwn(join, type) && join[type] !== undefined
}

/** The same, or by a pid alone, of which it is not known yet. */
function mayJoin(given: Given, type: NamespaceType): boolean {
  return typeof given.join === 'number' || names(given, type)
}

/** The kernel makes no pid namespace for a process that has entered one. */
function refuseNestedPid({ join, unshare }: Given, { creates }: Creation, caller: Caller): void {
  if (!creates('pid')) return
  const reason = isRecord(join)
    ? 'cannot have pid beside options.join.pid'
    : 'cannot have pid beside options.join, of a process in another pid namespace'
  throw invalidArgValue('options.unshare', reason, unshare, caller)
}

/** The kernel takes maps from who is in the new user namespace's parent, and that is the one that is joined. */
function refuseMapsOfOthers(given: Given, caller: Caller): void {
  for (const name of ['uidMappings', 'gidMappings'] as const) {
    if (given[name] === undefined) continue
    const reason =
      'cannot be written for a user namespace that is created in one that is joined, where this process is not'
    throw invalidArgValue(`options.${name}`, reason, given[name], caller)
  }
}

function checkedUnshare(value: unknown, caller: Caller): number {
  if (value === undefined) return 0
  if (!isArray(value)) throw invalidArgType('options.unshare', 'an instance of Array', value, caller)
  return flagBits(value, 'options.unshare', caller)
}

export function refuseOverlaps(
  maps: Pick<IsolationRequest, 'uidMappings' | 'gidMappings'>,
  of: string,
  caller: Caller,
): void {
  for (const name of ['uidMappings', 'gidMappings'] as const) {
    const lines = maps[name]
    if (isArray(lines)) refuseOverlap(lines as readonly IdMapping[], `${of}.${name}`, caller)
  }
}

/** The kernel wants ranges that do not meet, inside and outside, and says only that the map is invalid. */
function refuseOverlap(lines: readonly IdMapping[], name: string, caller: Caller): void {
  for (const side of ['inside', 'outside'] as const) {
    for (const [index, line] of lines.entries()) {
      if (line[side] + line.count > 2 ** 32) {
        throw outOfRange(`${name}[${index}].count`, `<= ${2 ** 32 - line[side]}`, line.count, caller)
      }
      const other = lines.findIndex(
        (each, place) =>
          place < index && each[side] < line[side] + line.count && line[side] < each[side] + each.count,
      )
      if (other === -1) continue
      throw invalidArgValue(`${name}[${index}]`, `overlaps with ${name}[${other}] ${side}`, line, caller)
    }
  }
}

function checkedNetwork(value: unknown, creation: Creation, caller: Caller): boolean {
  if (value === undefined) return creation.creates('net')
  const network = oneOf(value, 'options.network', ['none', 'loopback'], caller)
  needs(creation, 'net', 'options.network', value, caller)
  return network === 'loopback'
}

function checkedInit(value: unknown, creation: Creation, caller: Caller): boolean {
  if (value === undefined) return creation.creates('pid')
  const init = boolean(value, 'options.init', caller)
  if (init) needs(creation, 'pid', 'options.init', value, caller)
  return init
}

function checkedPropagation(
  { propagation: value, root }: Given,
  creation: Creation,
  caller: Caller,
): string | undefined {
  if (value === undefined) return creation.creates('mnt') ? 'private' : undefined
  const known = ['private', 'slave', 'shared', 'unchanged'] as const
  const propagation = oneOf(value, 'options.propagation', known, caller)
  needs(creation, 'mnt', 'options.propagation', value, caller)
  if (root !== undefined && (propagation === 'shared' || propagation === 'unchanged')) {
    // The kernel pivots among private mounts alone, and by then the others have got what is mounted.
    const reason = "cannot let mounts out of options.root, beside which it is 'private' or 'slave'"
    throw invalidArgValue('options.propagation', reason, value, caller)
  }
  return propagation === 'unchanged' ? undefined : propagation
}

function checkedRoot(given: Given, caller: Caller): string | undefined {
  if (given.root === undefined) return undefined
  const root = path(given.root, 'options.root', caller)
  // In another mount namespace the path may lead elsewhere.
  if (!mayJoin(given, 'mnt')) refuseNoDirectory(root, caller)
  return root
}

function refuseNoDirectory(root: unknown, caller: Caller): void {
  if (typeof root !== 'string' || !isNoDirectory(root)) return
  throw invalidArgValue('options.root', 'is no directory', root, caller)
}

function isNoDirectory(file: string): boolean {
  try {
    return !statSync(file).isDirectory()
  } catch (error) {
    // What may not be looked at by this process may be by one that has a user namespace.
    return ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
  }
}

function path(value: unknown, name: string, caller: Caller): string {
  const checked = text(value, name, caller)
  if (checked === '') throw invalidArgValue(name, 'cannot be empty', value, caller)
  return checked
}

function checkedProc(value: unknown, creation: Creation, caller: Caller): string | undefined {
  if (value === undefined) return creation.creates('pid') && creation.creates('mnt') ? '/proc' : undefined
  if (value === false) return undefined
  if (value !== true && typeof value !== 'string') {
    throw invalidArgType('options.proc', 'of type boolean or string', value, caller)
  }
  needs(creation, 'mnt', 'options.proc', value, caller)
  return value === true ? '/proc' : path(value, 'options.proc', caller)
}

const HOST_NAMES = ['hostname', 'domainname'] as const
/** utsname(2): __NEW_UTS_LEN. */
const LONGEST_HOSTNAME = 64

/** The name of the namespace that this process is in is not one program's to change. */
function refuseHostNames(given: Given, caller: Caller): void {
  for (const name of HOST_NAMES) {
    if (given[name] === undefined) continue
    const reason = "is for a UTS namespace that is created, or joined and not our own: unshare: ['uts']"
    throw invalidArgValue(`options.${name}`, reason, given[name], caller)
  }
}

export function hostnameText(given: unknown, name: string, caller: Caller): string {
  const value = text(given, name, caller)
  if (Buffer.byteLength(value) <= LONGEST_HOSTNAME) return value
  throw invalidArgValue(name, `must have at most ${LONGEST_HOSTNAME} bytes of UTF-8`, value, caller)
}

const LAST_SIGNAL = 64

function checkedParentDeathSignal(value: unknown, { creates }: Creation, caller: Caller): number {
  if (value === undefined) return creates('pid') ? SIGKILL : 0
  if (value === null) return 0
  const signal = signalNumber(value, 'options.parentDeathSignal', caller)
  if (signal < 0 || signal > LAST_SIGNAL) {
    throw outOfRange('options.parentDeathSignal', `>= 0 && <= ${LAST_SIGNAL}`, signal, caller)
  }
  return signal
}

function checkedCapabilities(value: unknown, caller: Caller): string[] | undefined {
  if (value === undefined) return undefined
  const name = 'options.capabilities'
  if (!isArray(value)) throw invalidArgType(name, 'an instance of Array', value, caller)
  const known = capabilityNames()
  return Array.from(value, (each, index) => {
    const element = `${name}[${index}]`
    if (typeof each !== 'string') throw invalidArgType(element, 'of type string', each, caller)
    if (known.includes(each)) return each
    throw invalidArgValue(element, `is no capability; ${advice(each, known)}`, each, caller)
  })
}

// linux/filter.h: struct sock_filter, and BPF_MAXINSNS.
const INSTRUCTION = 8
const MOST_INSTRUCTIONS = 4096

function checkedSeccomp(value: unknown, caller: Caller): Uint8Array | undefined {
  if (value === undefined) return undefined
  const name = 'options.seccomp'
  if (!types.isUint8Array(value)) throw invalidArgType(name, 'an instance of Uint8Array', value, caller)
  const { byteLength } = value
  if (byteLength === 0 || byteLength % INSTRUCTION !== 0 || byteLength > MOST_INSTRUCTIONS * INSTRUCTION) {
    const reason = `must have ${INSTRUCTION} bytes for each of 1 to ${MOST_INSTRUCTIONS} instructions, and has ${byteLength}`
    throw invalidArgValue(name, reason, value, caller)
  }
  return value
}

const UNLIMITED = 2n ** 64n - 1n

function checkedRlimits(value: unknown, caller: Caller): Rlimit[] {
  if (value === undefined) return []
  const name = 'options.rlimits'
  if (!isRecord(value)) throw invalidArgType(name, 'an object', value, caller)
  const known = rlimitNames()
  const names = known.map((each) => each.name)
  return Object.entries(value).flatMap(([key, limit]) => {
    const element = `${name}.${key}`
    const resource = known.find((each) => each.name === key)?.resource
    if (resource === undefined) {
      throw invalidArgValue(element, `is no resource limit; ${advice(key, names)}`, limit, caller)
    }
    return limit === undefined ? [] : [{ resource, ...checkedLimit(limit, element, caller) }]
  })
}

function checkedLimit(value: unknown, name: string, caller: Caller): { soft: bigint; hard: bigint } {
  if (typeof value === 'number') {
    const limit = amount(value, name, caller)
    return { soft: limit, hard: limit }
  }
  if (!isRecord(value)) throw invalidArgType(name, 'of type number or an object', value, caller)
  const limits = options(value, name, ['soft', 'hard'], caller)
  const [soft, hard] = [
    amount(limits.soft, `${name}.soft`, caller),
    amount(limits.hard, `${name}.hard`, caller),
  ]
  if (soft > hard) throw invalidArgValue(`${name}.soft`, 'must not exceed the hard limit', value, caller)
  return { soft, hard }
}

function amount(value: unknown, name: string, caller: Caller): bigint {
  if (typeof value !== 'number') throw invalidArgType(name, 'of type number', value, caller)
  if (value === Number.POSITIVE_INFINITY) return UNLIMITED
  if (!Number.isSafeInteger(value) || value < 0) {
    throw outOfRange(name, `an integer >= 0 && <= ${Number.MAX_SAFE_INTEGER}, or Infinity`, value, caller)
  }
  return BigInt(value)
}
