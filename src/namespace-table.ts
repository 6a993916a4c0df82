// What each option of Namespace is: one row, of which run, setup and spawn are made, and what the documentation says.
import type { SetupRequest } from '../binding.js'
import { type Caller, invalidArgType, invalidArgValue } from './argument-errors.js'
import { NO_WAY_BACK } from './clone-options.js'
import type { CloneRequest } from './clone-request.js'
import { CLONE_SYSVSEM, SIGCHLD } from './constants.js'
import { typesIn } from './flags.js'
import { flagOptions, ownOption } from './mount-options.js'
import { type Creation, checkedMaps, checkedTimeOffsets, type IdMappings } from './namespace-options.js'
import {
  checkedIsolation,
  hostnameText,
  type NamespaceSpawnOptions,
  refuseOverlaps,
  type SpawnOptions,
} from './spawn-options.js'
import { bare, boolean, isArray, isRecord, oneOf, options as record } from './validate.js'

export interface NamespaceOptions {
  /** Every mount becomes private to us: what is mounted inside is not seen outside, and the reverse. mount_namespaces(7) */
  privateMount?: boolean
  /**
   * A clean tmpfs on /tmp (implies privateMount); an object holds mount options, as `{ size: '64m', mode: 0o1777, nr_inodes: '1k' }`.
   * It is `nosuid` and `nodev` unless `suid` or `dev` says otherwise. tmpfs(5)
   */
  privateTmp?: boolean | Record<string, string | number | boolean>
  /** A new pid namespace, with its own /proc (which implies privateMount) unless noProc. pid_namespaces(7) */
  privatePid?: boolean
  /** With privatePid: /proc stays as it is, and shows the processes outside. */
  noProc?: boolean
  /** A new network namespace with only `lo`, up unless `'none'`. network_namespaces(7) */
  privateNet?: boolean | 'none' | 'loopback'
  /** Semaphores, shared memory and message queues of System V, and those of POSIX. ipc_namespaces(7) */
  privateIpc?: boolean
  /**
   * A new user namespace, in which every other namespace can be made without privileges: the caller's ids as 0, unless
   * mappings are given. user_namespaces(7)
   */
  privateUser?: boolean | { uidMappings?: IdMappings; gidMappings?: IdMappings; setgroups?: 'allow' | 'deny' }
  /** Host name and NIS domain name, which may be given. uts_namespaces(7) */
  privateUts?: boolean | { hostname?: string; domainname?: string }
  /** The own cgroup is shown as the root. cgroup_namespaces(7); Linux 4.6 */
  privateCgroup?: boolean
  /**
   * The clocks since boot, moved by seconds, to the nanosecond: `monotonic` forwards only for run(), as JavaScript goes on.
   * time_namespaces(7); Linux 5.6
   */
  privateTime?: boolean | { monotonic?: number; boottime?: number }
  /** A list of our own of what System V semaphores undo at the end. CLONE_SYSVSEM of clone(2) */
  privateSysvsem?: boolean
  /**
   * What has been started ends with this process, however that ends, by SIGKILL too. run's function gets SIGTERM, for which it
   * may listen, and a second later SIGKILL; a program of spawn gets SIGKILL. A signal that this process handles ends neither.
   * Default true.
   */
  termChild?: boolean
  /**
   * Aborts what run and spawn have started: SIGTERM, and a second later SIGKILL. The promise of run rejects with an AbortError
   * that has the reason as `cause`, once everything is gone.
   */
  signal?: AbortSignal
}

/** What an option asks spawn() for, and what spawn() has no option for. */
interface Asked extends NamespaceSpawnOptions {
  ownSysvsem?: boolean
}

interface Row {
  /** In the words of the documentation. */
  does: string
  asks(value: unknown, name: string, caller: Caller, all: Readonly<Record<string, unknown>>): Asked
}

const flag = (asked: Asked) => (value: unknown, name: string, caller: Caller) =>
  boolean(value, name, caller) ? asked : {}

export const TABLE = {
  privateMount: {
    does: 'mnt: every mount is private',
    asks: flag({ unshare: ['mnt'] }),
  },
  privateTmp: {
    does: 'mnt: every mount is private, and a new tmpfs is on /tmp',
    asks(value, name, caller) {
      if (value === false) return {}
      const options = value === true ? [] : tmpfsOptions(value, name, caller)
      const tmp = { type: 'tmpfs', target: '/tmp', options: ['nosuid', 'nodev', ...options] }
      return { unshare: ['mnt'], mounts: [tmp] }
    },
  },
  privatePid: {
    does: 'pid, mnt: pid 1 and what it starts, with a new /proc',
    asks(value, name, caller, { noProc }) {
      if (!boolean(value, name, caller)) return {}
      return noProc === true ? { unshare: ['pid'], proc: false } : { unshare: ['pid', 'mnt'], proc: true }
    },
  },
  noProc: {
    does: 'with privatePid: no new mnt, and /proc stays as it is',
    asks(value, name, caller, { privatePid }) {
      if (boolean(value, name, caller) && privatePid !== true) {
        throw invalidArgValue(name, 'is for a new pid namespace: privatePid: true', value, caller)
      }
      return {}
    },
  },
  privateNet: {
    does: "net: lo alone, which is up unless 'none'",
    asks(value, name, caller) {
      if (value === false) return {}
      const network = value === true ? 'loopback' : networkName(value, name, caller)
      return { unshare: ['net'], network }
    },
  },
  privateIpc: {
    does: 'ipc: no semaphores, shared memory and message queues but its own',
    asks: flag({ unshare: ['ipc'] }),
  },
  privateUser: {
    does: "user: the caller's ids are 0, or as the mappings say",
    asks(value, name, caller) {
      if (value === false) return {}
      const keys = ['uidMappings', 'gidMappings', 'setgroups'] as const
      const given = value === true ? {} : checkedRecord(value, name, keys, caller)
      const defaults = { uidMappings: 'root', gidMappings: 'root' }
      refuseOverlaps(checkedMaps(given, CREATING, caller, name), name, caller)
      return { unshare: ['user'], ...defaults, ...defined(given) }
    },
  },
  privateUts: {
    does: 'uts: the hostname and the domainname that are given',
    asks(value, name, caller) {
      if (value === false) return {}
      const given = value === true ? {} : checkedRecord(value, name, ['hostname', 'domainname'], caller)
      const names = Object.entries(defined(given)).map(([key, text]) => {
        return [key, hostnameText(text, `${name}.${key}`, caller)]
      })
      return { unshare: ['uts'], ...Object.fromEntries(names) }
    },
  },
  privateCgroup: {
    does: 'cgroup: its own cgroup is the root',
    asks: flag({ unshare: ['cgroup'] }),
  },
  privateTime: {
    does: 'time: the clocks since boot, by monotonic and boottime seconds later',
    asks(value, name, caller) {
      if (value === false) return {}
      if (value === true) return { unshare: ['time'] }
      const timeOffsets = checkedRecord(value, name, ['monotonic', 'boottime'], caller)
      checkedTimeOffsets(timeOffsets, CREATING, undefined, caller, name)
      return { unshare: ['time'], timeOffsets }
    },
  },
  privateSysvsem: {
    does: 'its own list of what semaphores undo',
    asks: flag({ ownSysvsem: true }),
  },
  termChild: {
    does: 'what has been started ends with this process',
    asks: (value, name, caller) =>
      boolean(value, name, caller) ? { parentDeathSignal: 'SIGKILL' } : { parentDeathSignal: null },
  },
  signal: {
    does: 'SIGTERM, and SIGKILL a second later, when it aborts',
    asks(value, name, caller) {
      if (value instanceof AbortSignal) return {}
      throw invalidArgType(name, 'an instance of AbortSignal', value, caller)
    },
  },
} as const satisfies Record<keyof NamespaceOptions, Row>

const rows: Readonly<Record<string, Row>> = TABLE
const names = Object.keys(TABLE)

/** Every option stands for what it creates itself. */
const CREATING: Creation = { creates: () => true, asking: (type) => type }

const checkedRecord = (
  value: unknown,
  name: string,
  known: readonly string[],
  caller: Caller,
): Record<string, unknown> => {
  if (!isRecord(value)) throw invalidArgType(name, 'of type boolean or an object', value, caller)
  return record(value, name, known, caller)
}

const defined = (given: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  bare(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)))

/** Of what is there already. */
const NOT_FOR_NEW = ['bind', 'rbind', 'move', 'remount']

function tmpfsOptions(value: unknown, name: string, caller: Caller): string[] {
  if (!isRecord(value)) throw invalidArgType(name, 'of type boolean or an object', value, caller)
  return Object.entries(defined(value)).flatMap(([option, given]) => {
    if (!flagOptions.has(option)) return ownOption(option, given, name, caller) ?? []
    if (NOT_FOR_NEW.includes(option)) {
      throw invalidArgValue(`${name}.${option}`, 'is not for a new mount', given, caller)
    }
    return boolean(given, `${name}.${option}`, caller) ? option : []
  })
}

function networkName(value: unknown, name: string, caller: Caller): 'none' | 'loopback' {
  if (typeof value !== 'string') throw invalidArgType(name, 'of type boolean or string', value, caller)
  return oneOf(value, name, ['none', 'loopback'], caller)
}

/** What the options ask for together. */
export class Plan {
  readonly options: Readonly<NamespaceOptions>
  /** The same, without what somebody has put on Object.prototype. */
  readonly given: Readonly<NamespaceOptions>
  /** The options that are in force, and what each does. */
  readonly lines: readonly string[]
  readonly #asked: Asked

  constructor(value: unknown, caller: Caller) {
    const given = defined(record(value, 'options', names, caller))
    const all: Record<string, unknown> = bare({ termChild: true, ...given })
    const asked = Object.entries(all).map(([option, each]) => {
      const row = rows[option] as Row
      return [option, bare<Asked>(row.asks(each, `options.${option}`, caller, all))] as const
    })
    this.#asked = merged(asked.map(([, each]) => each))
    if (given.privateMount === false && this.#asked.unshare?.includes('mnt')) {
      const cause = asked.find(([, each]) => each.unshare?.includes('mnt'))?.[0]
      throw invalidArgValue(
        'options.privateMount',
        `cannot be false with ${cause}, which implies it`,
        false,
        caller,
      )
    }
    this.lines = Object.entries(all)
      .filter(([, each]) => each !== false)
      .map(([option]) => `${option}: ${rows[option]?.does}`)
    this.options = frozen(given)
    this.given = Object.freeze(bare(this.options))
  }

  get isPid(): boolean {
    return this.#asked.unshare?.includes('pid') === true
  }

  get signal(): AbortSignal | undefined {
    return this.given.signal
  }

  get termChild(): boolean {
    return this.given.termChild !== false
  }

  /** What clone(2) is asked for. */
  forClone(caller: Caller): CloneRequest {
    const { ownSysvsem, ...asked } = this.#asked
    const isolation = checkedIsolation(bare(asked), caller)
    const { unshare, uidMappings, gidMappings, allowSetgroups, timeOffsets, setup } = isolation
    if (timeOffsets !== undefined) {
      checkedTimeOffsets(asked.timeOffsets, CREATING, NO_WAY_BACK, caller, 'options.privateTime')
    }
    // The kernel has no list that is shared between namespaces.
    const isShared = !ownSysvsem && !asked.unshare?.includes('ipc')
    const flags = isShared ? unshare + CLONE_SYSVSEM : unshare
    const request = { flags, stackSize: 0, exitSignal: SIGCHLD, setTid: [], setup }
    return bare<CloneRequest>({
      ...request,
      ...defined({ uidMappings, gidMappings, allowSetgroups, timeOffsets }),
    })
  }

  /** What every thread of this process is to have. */
  forThreads(caller: Caller): { bits: number; setup: SetupRequest } {
    const { ownSysvsem, ...asked } = this.#asked
    const { unshare, setup } = checkedIsolation(bare(asked), caller)
    return { bits: ownSysvsem ? unshare + CLONE_SYSVSEM : unshare, setup }
  }

  /** The options of spawn(): those of the call come on top, and its lists after ours. */
  forSpawn(options: SpawnOptions): SpawnOptions {
    const { ownSysvsem: _, ...asked } = this.#asked
    const { unshare = [], mounts = [] } = this.#asked
    const given: SpawnOptions = defined(options as Record<string, unknown>)
    const all = bare<SpawnOptions>({ ...asked, ...given })
    // What is no list is for spawn() to refuse.
    if (isArray(given.unshare)) all.unshare = [...new Set([...unshare, ...given.unshare])]
    if (isArray(given.mounts)) all.mounts = [...mounts, ...given.mounts]
    return all
  }
}

function merged(all: readonly Asked[]): Asked {
  const unshare = [...new Set(all.flatMap((each) => each.unshare ?? []))]
  const mounts = all.flatMap((each) => each.mounts ?? [])
  const sum: Asked = Object.assign(Object.create(null), ...all)
  if (unshare.length > 0) sum.unshare = unshare
  if (mounts.length > 0) sum.mounts = mounts
  return sum
}

/** A copy that nobody can change: what it says is what was checked. */
function frozen<T>(value: T): T {
  if (Array.isArray(value)) return Object.freeze(value.map(frozen)) as T
  if (!isRecord(value)) return value
  return Object.freeze(
    Object.fromEntries(Object.entries(value).map(([key, each]) => [key, frozen(each)])),
  ) as T
}

/** The steps of a request, in the kernel's words. */
export function steps(bits: number, setup: SetupRequest): string[] {
  const kinds = typesIn(bits).map((type) => `CLONE_NEW${type === 'mnt' ? 'NS' : type.toUpperCase()}`)
  return [
    kinds.join(' | ') || 'no namespaces',
    ...(setup.propagation ? [`every mount: ${setup.propagation}`] : []),
    ...(setup.proc ? [`mount: proc on ${setup.proc}`] : []),
    ...setup.mounts.map(({ type, target, options }) => `mount: ${type} on ${target} (${options})`),
    ...(setup.hostname === undefined ? [] : [`hostname: ${setup.hostname}`]),
    ...(setup.domainname === undefined ? [] : [`domainname: ${setup.domainname}`]),
    ...(setup.loopback ? ['network: lo is up'] : []),
  ]
}
