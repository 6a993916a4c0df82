// Why a call has failed, as far as /proc tells, and what can be done: one sentence an error, and only where it is known.
import { readFileSync, readlinkSync, statSync } from 'node:fs'
import type { Failure } from '../binding.js'
import { CLONE_FILES, CLONE_FS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER } from './constants.js'
import { type NamespaceType, typesIn } from './flags.js'

type Hint = (failure: Failure) => string | undefined

// capability.h: the numbers of the two that namespaces ask for.
const CAP_NET_ADMIN = 12n
const CAP_SYS_ADMIN = 21n

const NEEDS_CHILD =
  'A process with threads, as every Node is, cannot enter it: clone(), spawn() and Namespace create it with a new process'
const WITHOUT_PROC = 'Thread ids are read from /proc: mount it for the pid namespace of this process'

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function status(field: string): string {
  return new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(read('/proc/thread-self/status'))?.[1] ?? ''
}

function holds(capability: bigint): boolean {
  return (BigInt(`0x${status('CapEff') || '0'}`) >> capability) % 2n === 1n
}

function isInFirstUserNamespace(): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(read('/proc/thread-self/uid_map'))
}

function isRestrictedByAppArmor(): boolean {
  return read('/proc/sys/kernel/apparmor_restrict_unprivileged_userns').trim() === '1'
}

const APPARMOR =
  'AppArmor takes capabilities away in user namespaces (kernel.apparmor_restrict_unprivileged_userns): ' +
  'give the program a profile that says "userns,", or set the sysctl to 0'

/** Of EPERM, where the capability would be needed over `what`. */
function privilege(capability: bigint, name: string, what: string): string | undefined {
  if (!holds(capability)) {
    if (!isInFirstUserNamespace() && isRestrictedByAppArmor()) return APPARMOR
    return `This needs ${name}: be root, or have a user namespace of your own, in which every process has it (clone, spawn or Namespace with 'user')`
  }
  if (!isInFirstUserNamespace()) {
    return `This process has ${name} in its user namespace, but ${what} belongs to another one: create it together with the user namespace, or after it`
  }
  if (status('Seccomp') === '2')
    return 'A seccomp filter is in force, which may forbid this call: change the profile of the container'
  return undefined
}

function limits(types: readonly NamespaceType[]): string {
  const sysctls = types.map((type) => {
    const value = read(`/proc/sys/user/max_${type}_namespaces`).trim()
    return `user.max_${type}_namespaces (here ${value || 'unknown'})`
  })
  const nested = types.some((type) => type === 'user' || type === 'pid') ? ', or 32 levels of nesting,' : ''
  return `The limit ${sysctls.join(' or ')}${nested} is reached in this user namespace or one above it: raise it with sysctl, or end processes that hold such namespaces`
}

const hasPendingPidNamespace = (): boolean => {
  try {
    readlinkSync('/proc/thread-self/ns/pid_for_children')
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' && read('/proc/thread-self/stat') !== ''
  }
}

/** Of what the library's own helper processes and threads run into. */
function helper({ code, syscall }: Failure): string | undefined {
  switch (`${code} ${syscall}`) {
    case 'EBUSY clone':
      return "The next child becomes pid 1 of the pid namespace that unshare('pid') has made: start it first, or make this call before"
    case 'ENOMEM clone':
      return 'Pid 1 of the pid namespace for children has ended, and nothing can be started in it any more: clone(), spawn() and Namespace make a new one for each child'
    case 'ETIMEDOUT tgkill':
      return 'This thread does not answer: it blocks all signals, or is stuck in the kernel; no thread has moved'
    case 'EAGAIN tgkill':
      return 'As many signals are waiting as RLIMIT_SIGPENDING allows this user'
    case 'ENOENT open':
      return WITHOUT_PROC
    default:
      return undefined
  }
}

function since(version: string): Hint {
  return ({ code }) => (code === 'ENOSYS' ? `The kernel has this call since Linux ${version}` : undefined)
}

function unshare(bits: number, everyThread: boolean): Hint {
  return (failure) => {
    const types = typesIn(bits)
    switch (failure.code) {
      case 'EINVAL':
        if (bits & CLONE_NEWUSER) return `user: ${NEEDS_CHILD}`
        if (everyThread) return refusedForAll(bits)
        if (bits & CLONE_NEWPID && hasPendingPidNamespace()) {
          return 'This thread has made a pid namespace for its children already: it cannot make another'
        }
        return "The kernel does not know one of the flags, or it is one of clone()'s (VM, SIGHAND, THREAD)"
      case 'ENOSPC':
      case 'EUSERS':
        return limits(types)
      case 'EPERM':
        if (failure.syscall === 'setns') return refusedTogether()
        return privilege(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'what it asks for')
      default:
        return helper(failure)
    }
  }
}

/** Of EPERM where threads were to follow the helper. */
function refusedTogether(): string {
  // proc(5): the files of a process that is not dumpable belong to root.
  if (statSync('/proc/self/stat').uid !== process.geteuid?.()) {
    return 'This process is not dumpable, since its ids or capabilities were changed, and its threads may not enter the namespaces of another: prctl(PR_SET_DUMPABLE), or CAP_SYS_PTRACE'
  }
  return 'The UTS namespace of a thread is not this one, or belongs to another user namespace, so that each thread needs a working directory of its own: call it from the main thread, or create uts together with mnt'
}

function refusedForAll(bits: number): string {
  if (bits & CLONE_NEWPID)
    return `pid: threads cannot follow into a pid namespace that has no pid 1 yet, and could not start a Worker in it. ${NEEDS_CHILD}`
  if (bits & CLONE_NEWTIME) return `time: ${NEEDS_CHILD}`
  if (bits & (CLONE_FS | CLONE_FILES))
    return "Working directory and descriptors are the process's own: only the calling thread can give up to share them"
  return 'The kernel does not know one of the flags, or threads cannot have it'
}

function setns(fd: number, bits: number, everyThread: boolean): Hint {
  return (failure) => {
    const type = referent(fd)
    const types = type === 'pidfd' ? typesIn(bits) : [type]
    switch (failure.code) {
      case 'EINVAL':
        if (type === 'pidfd' && bits === 0)
          return "With a pidfd the types must be named: setns(pidfd, ['net', 'uts'])"
        if (type === 'pidfd' && bits !== 0 && types.length === 0) return 'The flags name no type of namespace'
        if (types.includes('user')) return `user: ${NEEDS_CHILD}`
        if (type === undefined)
          return 'The descriptor is neither of a namespace (/proc/PID/ns/*) nor of a process (pidfd, since Linux 5.8)'
        if (type !== 'pidfd' && bits !== 0 && !typesIn(bits).includes(type as NamespaceType)) {
          return `The descriptor is of a namespace of type ${type}`
        }
        if (types.includes('mnt') && !everyThread) {
          return "Threads that share their working directory cannot enter a mount namespace one by one: use { threads: 'all' }, or unshare(CLONE_FS) first"
        }
        if (types.includes('pid')) return 'Only the own pid namespace and those below it can be entered'
        return undefined
      case 'EUSERS':
        return `time: ${NEEDS_CHILD}`
      case 'ESRCH':
        return 'The process has ended, and its namespaces with it unless something else holds them'
      case 'EPERM':
        return everyThread && failure.syscall === 'setns' && holds(CAP_SYS_ADMIN) && types.includes('mnt')
          ? refusedTogether()
          : privilege(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'the namespace')
      default:
        return helper(failure)
    }
  }
}

/** What a descriptor refers to: a type of namespace, `'pidfd'`, or neither. */
function referent(fd: number): string | undefined {
  try {
    const target = readlinkSync(`/proc/thread-self/fd/${fd}`)
    if (/^(anon_inode:)?\[?pidfd/.test(target)) return 'pidfd'
    return /^(\w+):\[\d+\]$/.exec(target)?.[1]
  } catch {
    return undefined
  }
}

function nsfs(fd: number, version: string, kinds?: readonly string[]): Hint {
  return ({ code }) => {
    const type = referent(fd)
    switch (code) {
      case 'ENOTTY':
      case 'ENOSYS':
        return type === undefined || type === 'pidfd'
          ? 'The descriptor is of no namespace: open /proc/PID/ns/TYPE'
          : `The kernel has this ioctl since Linux ${version}`
      case 'EINVAL':
        return kinds && type !== undefined && !kinds.includes(type)
          ? `The descriptor is of a namespace of type ${type}, and this is for ${kinds.join(' and ')}`
          : undefined
      case 'EPERM':
        return 'What is asked for lies outside of the own namespaces, or there is none: the first has no parent'
      case 'ESRCH':
        return 'No process has this number there, or it cannot be seen from the other namespace'
      default:
        return undefined
    }
  }
}

function pidfdGetfd(failure: Failure): string | undefined {
  if (failure.code === 'EPERM') {
    return 'This needs what ptrace(2) needs to attach: the same user, or CAP_SYS_PTRACE, and what kernel.yama.ptrace_scope allows'
  }
  return since('5.6')(failure)
}

function kcmp(failure: Failure): string | undefined {
  if (failure.code === 'EPERM')
    return 'This needs what ptrace(2) needs to read both processes: the same user, or CAP_SYS_PTRACE'
  if (failure.code === 'ENOSYS')
    return 'The kernel has this call since Linux 3.5, where it was built with CONFIG_KCMP'
  return undefined
}

function network(failure: Failure): string | undefined {
  if (failure.code !== 'EPERM') return undefined
  return privilege(CAP_NET_ADMIN, 'CAP_NET_ADMIN', 'the network namespace')
}

function hostname(failure: Failure): string | undefined {
  if (failure.code === 'EINVAL') return 'A name has at most 64 bytes of UTF-8'
  return failure.code === 'EPERM' ? privilege(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'the UTS namespace') : undefined
}

function mount(failure: Failure): string | undefined {
  switch (failure.code) {
    case 'ENODEV':
      return 'The kernel does not know this type of file system (/proc/filesystems), or its module is not loaded'
    case 'EPERM':
      if (holds(CAP_SYS_ADMIN) && !isInFirstUserNamespace()) {
        return 'In a user namespace this needs a mount namespace that was created in it; proc and sysfs also a pid or network namespace created in it and a /proc or /sys that nothing hides; and disks cannot be mounted'
      }
      return privilege(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'the mount namespace')
    default:
      return undefined
  }
}

function umount(failure: Failure): string | undefined {
  switch (failure.code) {
    case 'EINVAL':
      return isInFirstUserNamespace()
        ? 'This is no mount point of the own mount namespace'
        : 'This is no mount point, or the mount came from a more privileged mount namespace and is locked'
    case 'EBUSY':
      return 'Something uses it: MNT_DETACH takes it out of sight at once, and unmounts it when it is free'
    case 'EPERM':
      return privilege(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'the mount namespace')
    default:
      return undefined
  }
}

/** EACCES is what exec says where a directory of PATH cannot be searched. */
function mapper({ code }: Failure): string | undefined {
  return code === 'ENOENT' || code === 'EACCES' ? 'The package uidmap (shadow-utils) has it' : undefined
}

const features: Record<string, Hint> = {
  clone3: since('5.3'),
  pidfd: since('5.3'),
  kcmp,
  'nsfs-id': () => 'The kernel has this ioctl since Linux 6.18',
  'nsfs-pid-translation': () => 'The kernel has these ioctls since Linux 6.11',
  'setns-pidfd': ({ code }) =>
    code === 'EINVAL' ? 'The kernel takes a pidfd here since Linux 5.8' : undefined,
  'set-tid': ({ code }) =>
    code === 'EINVAL' || code === 'E2BIG' ? 'The kernel has this since Linux 5.5' : undefined,
  'into-cgroup': ({ code }) =>
    code === 'EACCES' || code === 'EPERM'
      ? "The cgroup is not this user's to put processes into: have a part of the hierarchy delegated (systemd-run --user --scope -p Delegate=yes)"
      : code === 'EINVAL' || code === 'E2BIG'
        ? 'The kernel has this since Linux 5.7'
        : undefined,
  'proc-mount': ({ code }) =>
    code === 'EPERM'
      ? 'In a user namespace a fresh /proc needs one outside that nothing hides: containers mask parts of theirs'
      : undefined,
  overlay: ({ code }) =>
    code === 'EPERM'
      ? 'In a user namespace the kernel has this since Linux 5.11'
      : code === 'ENODEV'
        ? 'The module overlay is not loaded'
        : undefined,
  newuidmap: mapper,
  newgidmap: mapper,
  subuid: ({ code }) => (code === 'ENOENT' ? 'The package uidmap (shadow-utils) brings the file' : undefined),
  subgid: ({ code }) => (code === 'ENOENT' ? 'The package uidmap (shadow-utils) brings the file' : undefined),
}

/** Of what {@link probe} found not to work. */
function feature(name: string, failure: Failure): string | undefined {
  const own = features[name]?.(failure)
  if (own !== undefined) return own
  switch (failure.code) {
    case 'EPERM':
    case 'EACCES':
      if (isRestrictedByAppArmor() && (name === 'unprivileged-userns' || !isInFirstUserNamespace()))
        return APPARMOR
      if (read('/proc/sys/kernel/unprivileged_userns_clone').trim() === '0') {
        return 'The sysctl kernel.unprivileged_userns_clone is 0: root can set it to 1'
      }
      return privilege(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'what it asks for')
    case 'ENOSPC':
    case 'EUSERS':
      return limits(name === 'unprivileged-userns' ? ['user'] : [name as NamespaceType])
    case 'EINVAL':
      return 'The kernel is too old, or was built without it'
    default:
      return helper(failure)
  }
}

function missing(name: string): string | undefined {
  switch (name) {
    case 'subuid':
    case 'subgid':
      return `Root can add one: usermod --add-${name}s 100000-165535 USER`
    case 'cgroup2':
    case 'into-cgroup':
      return 'Root can mount it: mount -t cgroup2 none /sys/fs/cgroup'
    default:
      return undefined
  }
}

export const hints = {
  clone: helper,
  feature,
  hostname,
  kcmp,
  missing,
  mount,
  network,
  nsfs,
  pidfdGetfd,
  setns,
  since,
  umount,
  unshare,
}
