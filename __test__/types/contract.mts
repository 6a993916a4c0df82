// What the package declares is what the contract does, parameter by parameter. Nothing of it runs.
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
type Verdicts = {
  [Name in FunctionName]: Name extends keyof Library ? SameFunction<Contract[Name], Library[Name]> : 'missing'
}

const all = <const T extends Record<string, true>>(_verdicts: T): void => {}

// An error names the function and what is wrong with it.
declare const verdicts: Verdicts
all(verdicts)

declare const types: {
  Step: Equal<contract.Step, lib.Step>
  SystemCallError: Equal<contract.SystemCallError, lib.SystemCallError>
  constants: Equal<Contract['constants'], Library['constants']>
  NamespaceType: Equal<contract.NamespaceType, lib.NamespaceType>
  Flags: Equal<contract.Flags, lib.Flags>
  ThreadOptions: Equal<contract.ThreadOptions, lib.ThreadOptions>
  Feature: Equal<contract.Feature, lib.Feature>
  Supported: Equal<contract.Supported, lib.Supported>
}
all(types)

/** What is left are constants, each of them a number. `default` is how an ES module sees a CommonJS one. */
type Named = Exclude<keyof Library, FunctionName | 'constants' | 'default'>
declare const constants: { [Name in Named]: Equal<Library[Name], number> }
all(constants)
