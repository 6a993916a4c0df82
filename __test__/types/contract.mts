// What the package declares is what the contract does, parameter by parameter. Nothing of it runs.
import type { ChildProcess, SpawnOptions as NodeSpawnOptions, SpawnSyncReturns } from 'node:child_process'
import type * as lib from 'linux-clone'

declare namespace contract {
  type Step =
    | 'clone'
    | 'join'
    | 'id-map'
    | 'setgroups'
    | 'time-offsets'
    | 'cgroup'
    | 'propagation'
    | 'mount'
    | 'pivot-root'
    | 'hostname'
    | 'network'
    | 'rlimit'
    | 'capabilities'
    | 'seccomp'
    | 'chdir'
    | 'credentials'
    | 'stdio'
    | 'exec'

  interface SystemCallError extends Error {
    code: string
    errno: number
    syscall: string
    path?: string
    dest?: string
    step?: Step
    hint?: string
  }

  const constants: Readonly<Record<string, number>>

  type NamespaceType = 'mnt' | 'uts' | 'ipc' | 'net' | 'pid' | 'user' | 'cgroup' | 'time'
  type Flags = number | NamespaceType | readonly NamespaceType[]

  interface ThreadOptions {
    threads?: 'calling' | 'all'
  }

  function unshare(flags: Flags, options?: ThreadOptions): void
  function setns(fd: number, nstype?: Flags, options?: ThreadOptions): void
  function pivotRoot(newRoot: string, putOld: string): void
  function kcmp(
    pid1: number,
    pid2: number,
    type: number,
    idx1?: number,
    idx2?: number | { efd: number; tfd: number; toff: number },
  ): 0 | 1 | 2 | 3
  function configureLoopback(): void

  function mount(
    source: string | null,
    target: string,
    fstype: string | null,
    flags?: number,
    data?: string | Record<string, string | number | boolean> | null,
  ): void
  function umount(target: string, flags?: number): void
  function sethostname(name: string): void
  function setdomainname(name: string): void

  function pidfdOpen(pid: number, flags?: number): number
  function pidfdSendSignal(pidfd: number, signal: NodeJS.Signals | number, flags?: number): void
  function pidfdGetfd(pidfd: number, targetFd: number): number

  function nsGetUserns(fd: number): number
  function nsGetParent(fd: number): number
  function nsGetNstype(fd: number): number
  function nsGetOwnerUid(fd: number): number
  function nsGetId(fd: number): bigint
  function nsGetMntnsId(fd: number): bigint
  function nsGetPidFromPidns(fd: number, pid: number): number
  function nsGetTgidFromPidns(fd: number, tgid: number): number
  function nsGetPidInPidns(fd: number, pid: number): number
  function nsGetTgidInPidns(fd: number, tgid: number): number

  interface ExitStatus {
    code: number | null
    signal: NodeJS.Signals | null
  }

  interface Child extends AsyncDisposable {
    readonly pid: number
    readonly pidfd: number
    wait(): Promise<ExitStatus>
    waitSync(): ExitStatus
    kill(signal?: NodeJS.Signals | number): boolean
    ref(): this
    unref(): this
    [Symbol.asyncDispose](): PromiseLike<void>
  }

  interface IdMapping {
    inside: number
    outside: number
    count: number
  }
  type IdMappings = readonly IdMapping[] | 'root' | 'current' | 'auto' | 'all'

  interface CloneOptions {
    flags?: Flags
    stackSize?: number
    exitSignal?: NodeJS.Signals | number
    setTid?: readonly number[]
    cgroup?: string | number
    parentTid?: Int32Array
    childTid?: Int32Array
    uidMappings?: IdMappings
    gidMappings?: IdMappings
    setgroups?: 'allow' | 'deny'
    timeOffsets?: { monotonic?: number; boottime?: number }
  }

  // biome-ignore lint/suspicious/noConfusingVoidType: the function may return nothing.
  function clone(fn: () => number | void | Promise<number | void>, options?: CloneOptions): Child

  interface MountSpec {
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
    source?: string
    target: string
    options?: readonly string[]
    create?: boolean
    optional?: boolean
  }

  interface NamespaceSpawnOptions {
    unshare?: readonly NamespaceType[]
    join?: number | Partial<Record<NamespaceType, number | string | { fd: number }>>
    uidMappings?: IdMappings
    gidMappings?: IdMappings
    setgroups?: 'allow' | 'deny'
    timeOffsets?: { monotonic?: number; boottime?: number }
    propagation?: 'private' | 'slave' | 'shared' | 'unchanged'
    root?: string
    mounts?: readonly MountSpec[]
    proc?: boolean | string
    hostname?: string
    domainname?: string
    network?: 'none' | 'loopback'
    init?: boolean
    parentDeathSignal?: NodeJS.Signals | number | null
    cgroup?: string | number
    capabilities?: readonly string[]
    noNewPrivileges?: boolean
    seccomp?: Uint8Array
    rlimits?: Partial<Record<string, number | { soft: number; hard: number }>>
  }

  interface SpawnOptions extends NodeSpawnOptions, NamespaceSpawnOptions {}

  function spawn(
    command: string,
    args?: readonly string[],
    options?: SpawnOptions,
  ): ChildProcess & { readonly pidfd?: number }
  function spawn(command: string, options?: SpawnOptions): ChildProcess & { readonly pidfd?: number }
  function spawnSync(
    command: string,
    args?: readonly string[],
    options?: SpawnOptions,
  ): SpawnSyncReturns<string | Buffer>

  interface NamespaceOptions {
    privateMount?: boolean
    privateTmp?: boolean | Record<string, string | number | boolean>
    privatePid?: boolean
    noProc?: boolean
    privateNet?: boolean | 'none' | 'loopback'
    privateIpc?: boolean
    privateUser?:
      | boolean
      | { uidMappings?: IdMappings; gidMappings?: IdMappings; setgroups?: 'allow' | 'deny' }
    privateUts?: boolean | { hostname?: string; domainname?: string }
    privateCgroup?: boolean
    privateTime?: boolean | { monotonic?: number; boottime?: number }
    privateSysvsem?: boolean
    termChild?: boolean
    signal?: AbortSignal
  }

  class Namespace {
    constructor(options?: NamespaceOptions)
    readonly options: Readonly<NamespaceOptions>
    setup(): void
    run<A extends readonly unknown[], T>(fn: (...args: A) => T | Promise<T>, ...args: A): Promise<T>
    spawn(command: string, args?: readonly string[], options?: SpawnOptions): ChildProcess
  }

  type Feature =
    | NamespaceType
    | 'unprivileged-userns'
    | 'clone3'
    | 'set-tid'
    | 'into-cgroup'
    | 'cgroup2'
    | 'pidfd'
    | 'setns-pidfd'
    | 'time-offsets'
    | 'newuidmap'
    | 'newgidmap'
    | 'subuid'
    | 'subgid'
    | 'kcmp'
    | 'nsfs-id'
    | 'nsfs-pid-translation'
    | 'proc-mount'
    | 'overlay'
    | 'seccomp'
    | 'loopback'
  type Supported = { ok: true } | { ok: false; reason: string; hint?: string }
  function probe(): Readonly<Record<Feature, Supported>>
}

type Contract = typeof contract
type Library = typeof lib

/** The same type: a property or a parameter more, an `any`, or a `readonly` less would make it another. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
type Equal<A, B> = [A] extends [B] ? ([B] extends [A] ? Same<A, B> : false) : false

type Callable = (...args: never) => unknown
/** Optional parameters that only one of the two has are assignable in both directions: so they are compared as well. */
type SameFunction<A, B> = A extends Callable
  ? B extends Callable
    ? [A, B] extends [B, A]
      ? Same<Required<Parameters<A>>, Required<Parameters<B>>> extends true
        ? Same<Parameters<A>['length'], Parameters<B>['length']> extends true
          ? Same<ReturnType<A>, ReturnType<B>>
          : 'another number of parameters'
        : 'other parameters'
      : 'not assignable'
    : 'not a function'
  : false

type FunctionName = {
  [Name in keyof Contract]: Contract[Name] extends Callable ? Name : never
}[keyof Contract]
/** What also tells apart, by their options, what Node's own types do. */
type Extended = 'spawn' | 'spawnSync'
type Verdicts = {
  [Name in Exclude<FunctionName, Extended>]: Name extends keyof Library
    ? SameFunction<Contract[Name], Library[Name]>
    : 'missing'
}

const all = <const T extends Record<string, true>>(_verdicts: T): void => {}

// An error names the function and what is wrong with it.
declare const verdicts: Verdicts
all(verdicts)

declare const extended: {
  [Name in Extended]: [Library[Name]] extends [Contract[Name]]
    ? Same<Parameters<Contract[Name]>, Parameters<Library[Name]>>
    : 'not assignable'
}
all(extended)

declare const types: {
  Step: Equal<contract.Step, lib.Step>
  SystemCallError: Equal<contract.SystemCallError, lib.SystemCallError>
  constants: Equal<Contract['constants'], Library['constants']>
  NamespaceType: Equal<contract.NamespaceType, lib.NamespaceType>
  Flags: Equal<contract.Flags, lib.Flags>
  ThreadOptions: Equal<contract.ThreadOptions, lib.ThreadOptions>
  ExitStatus: Equal<contract.ExitStatus, lib.ExitStatus>
  Child: Equal<contract.Child, lib.Child>
  IdMapping: Equal<contract.IdMapping, lib.IdMapping>
  IdMappings: Equal<contract.IdMappings, lib.IdMappings>
  CloneOptions: Equal<contract.CloneOptions, lib.CloneOptions>
  MountSpec: Equal<contract.MountSpec, lib.MountSpec>
  NamespaceSpawnOptions: Equal<contract.NamespaceSpawnOptions, lib.NamespaceSpawnOptions>
  SpawnOptions: Equal<contract.SpawnOptions, lib.SpawnOptions>
  NamespaceOptions: Equal<contract.NamespaceOptions, lib.NamespaceOptions>
  Namespace: [lib.Namespace] extends [contract.Namespace]
    ? Same<keyof contract.Namespace, keyof lib.Namespace>
    : false
  'new Namespace': Same<
    ConstructorParameters<Contract['Namespace']>,
    ConstructorParameters<Library['Namespace']>
  > extends true
    ? true
    : Equal<
        Required<ConstructorParameters<Contract['Namespace']>>,
        Required<ConstructorParameters<Library['Namespace']>>
      >
  'Namespace.options': Equal<
    contract.NamespaceOptions,
    { -readonly [Name in keyof lib.Namespace['options']]: lib.Namespace['options'][Name] }
  >
  'Namespace.setup': Same<contract.Namespace['setup'], lib.Namespace['setup']>
  'Namespace.run': Equal<contract.Namespace['run'], lib.Namespace['run']>
  Feature: Equal<contract.Feature, lib.Feature>
  Supported: Equal<contract.Supported, lib.Supported>
}
all(types)

/** What is left are constants, each of them a number. `default` is how an ES module sees a CommonJS one. */
type Named = Exclude<keyof Library, FunctionName | 'Namespace' | 'constants' | 'default'>
declare const constants: { [Name in Named]: Equal<Library[Name], number> }
all(constants)
