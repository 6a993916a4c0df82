// Why a call has failed, as far as /proc tells, and what can be done: one sentence an error, and only where it is known.
import { existsSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import type { Failure, IsolationRequest, SpawnRequest } from '../binding.js'
import { rlimitNames } from '../binding.js'
import type { CloneRequest } from './clone-request.js'
import {
  CLONE_FILES,
  CLONE_FS,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWTIME,
  CLONE_NEWUSER,
  CLONE_PARENT,
} from './constants.js'
import { type NamespaceType, typesIn } from './flags.js'
import type { Step } from './system-call-error.js'

type Hint = (failure: Failure) => string | undefined
/** Of what a child does: `isInAnother` says whether that is in a user namespace that it has created or joined. */
type Inside = (failure: Failure, isInAnother: boolean) => string | undefined

// capability.h: the numbers of those that namespaces ask for.
const CAP_NET_ADMIN = 12n
const CAP_SYS_CHROOT = 18n
const CAP_SYS_ADMIN = 21n
const CAP_SYS_RESOURCE = 24n

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
  return status('Seccomp') === '2' ? FILTERED : undefined
}

const FILTERED =
  'A seccomp filter is in force, which may forbid this call: change the profile of the container'

/** The same of a child: in another user namespace it has every capability, but over what belongs to that alone. */
function privilegeInside(
  capability: bigint,
  name: string,
  what: string,
  isInAnother: boolean,
): string | undefined {
  if (!isInAnother) return privilege(capability, name, what)
  if (!holds(capability) && isRestrictedByAppArmor()) return APPARMOR
  return `In its user namespace the child has ${name}, but not over what belongs to another one: create ${what} together with it`
}

/** Of EPERM where a user namespace is created, for which no capability is needed. */
function userNamespace(): string {
  if (read('/proc/sys/kernel/unprivileged_userns_clone').trim() === '0' && !holds(CAP_SYS_ADMIN)) {
    return 'The sysctl kernel.unprivileged_userns_clone is 0: root can set it to 1'
  }
  if (isRestrictedByAppArmor() && !holds(CAP_SYS_ADMIN)) return APPARMOR
  if (status('Seccomp') === '2') return FILTERED
  return 'A process makes no user namespace where its root is not that of its mount namespace (chroot), or where its own user namespace does not know its ids'
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

function network({ code }: Failure, isInAnother = false): string | undefined {
  if (code !== 'EPERM') return undefined
  return privilegeInside(CAP_NET_ADMIN, 'CAP_NET_ADMIN', 'the network namespace', isInAnother)
}

function hostname({ code }: Failure, isInAnother = false): string | undefined {
  if (code === 'EINVAL') return 'A name has at most 64 bytes of UTF-8'
  if (code !== 'EPERM') return undefined
  return privilegeInside(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'the UTS namespace', isInAnother)
}

function mount({ code }: Failure, isInAnother = false): string | undefined {
  switch (code) {
    case 'ENODEV':
      return 'The kernel does not know this type of file system (/proc/filesystems), or its module is not loaded'
    case 'EPERM':
      if (isInAnother && !holds(CAP_SYS_ADMIN) && isRestrictedByAppArmor()) return APPARMOR
      if (isInAnother || (holds(CAP_SYS_ADMIN) && !isInFirstUserNamespace())) {
        return 'In a user namespace this needs a mount namespace that was created in it; proc, sysfs, mqueue and cgroup2 also a pid, network, IPC or cgroup namespace created in it, and proc and sysfs a /proc or /sys that nothing hides; and disks cannot be mounted'
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

/** The step that has failed, where clone3(2) has done several. */
function cloneStep({ cgroup }: CloneRequest) {
  return ({ code, syscall }: Failure): Step | undefined =>
    cgroup !== undefined &&
    syscall === 'clone3' &&
    ['EACCES', 'EBADF', 'EBUSY', 'EOPNOTSUPP', 'ENOTSUP', 'ENODEV'].includes(code)
      ? 'cgroup'
      : undefined
}

function cloneProcess(request: CloneRequest): Hint {
  return (failure) => {
    // The numbers of these have 32 bits; a set's are compared in pieces.
    const bits = request.flags % 2 ** 32
    const inside = insides[failure.step as Step]
    if (inside !== undefined) return inside(failure, (bits & CLONE_NEWUSER) !== 0)
    const types = typesIn(bits)
    switch (failure.code) {
      case 'EPERM':
        if (bits & CLONE_NEWUSER) return idMaps(failure) ?? userNamespace()
        return idMaps(failure) ?? privilege(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'what it asks for')
      case 'EACCES':
        return idMaps(failure) ?? cgroup(failure.code)
      case 'ENOSPC':
      case 'EUSERS':
        return limits(types)
      case 'EEXIST':
        return 'A process, or a group or session of processes, has this pid already'
      case 'EINVAL':
        return invalidClone(request, bits)
      case 'EAGAIN':
        return 'As many processes and threads as the limits allow are there: RLIMIT_NPROC, pids.max of the cgroup, or kernel.pid_max'
      case 'ENOMEM':
        return failure.syscall === 'mmap'
          ? 'There is not as much memory as stackSize asks for'
          : helper({ ...failure, syscall: 'clone' })
      case 'EBADF':
        return cgroup(failure.code)
      case 'ENOTSUP':
        return failure.syscall === 'clone3' ? cgroup(failure.code) : unknownNode()
      case 'ETIMEDOUT':
        return 'This thread does not answer, or is never in a system call that waits: it may hold a lock that nobody would release in the child. Nothing has happened'
      case 'EBUSY':
        return failure.syscall === 'uv_queue_work'
          ? "Every thread of libuv's pool is in a call that does not end, and the child would have none: end it, or start Node with a greater UV_THREADPOOL_SIZE"
          : failure.syscall === 'clone'
            ? 'JavaScript runs in vm with a timeout, which would go on for the child too: call it after that has returned'
            : cgroup(failure.code)
      case 'ENOENT':
        return idMaps(failure)
      case 'ENOSYS':
        return 'setTid, cgroup, time namespaces and CLONE_CLEAR_SIGHAND need clone3(2): Linux 5.5, and a container whose seccomp profile allows it'
      default:
        return helper(failure)
    }
  }
}

/** Of the steps id-map and setgroups. */
function idMaps({ step, code, syscall, path }: Failure): string | undefined {
  if (step !== 'id-map' && step !== 'setgroups') return undefined
  switch (code) {
    case 'EACCES':
      return 'The child is not dumpable, as this process has changed its ids: prctl(PR_SET_DUMPABLE) before'
    case 'ENOENT':
      return syscall === 'execve'
        ? 'The maps need newuidmap and newgidmap: install the package uidmap, or map the own id alone'
        : missing(path === '/etc/subgid' ? 'subgid' : 'subuid')
    case 'EPERM':
      if (step === 'setgroups')
        return 'The groups of a user namespace whose parent denies setgroups(2) cannot be allowed to be set'
      if (syscall !== 'write') return undefined
      return path?.startsWith('/proc')
        ? "Without CAP_SETUID and CAP_SETGID (and CAP_SETFCAP for the id 0) only the own id can be mapped: one line, and for the group with setgroups: 'deny'"
        : '/etc/subuid and /etc/subgid do not give these ids to this user'
    case 'EINVAL':
      return 'Lines of a map may not overlap, and there are 340 at most'
    default:
      return undefined
  }
}

function invalidClone(request: CloneRequest, bits: number): string | undefined {
  if (request.uidMappings !== undefined || request.gidMappings !== undefined) {
    return 'Lines of a map may not overlap, and there are 340 at most'
  }
  if (bits & CLONE_FS && bits & (CLONE_NEWNS | CLONE_NEWUSER))
    return 'CLONE_FS shares the root directory, and cannot go with a new mount or user namespace'
  if (request.setTid.length > 0)
    return 'setTid has more pids than there are pid namespaces, or one that is not in range'
  if (bits & CLONE_PARENT) return 'Pid 1 of a pid namespace can have no siblings'
  return 'The kernel does not know one of the flags, or they contradict each other'
}

/** What is done in new namespaces, whoever is to go on there. */
const insides: Partial<Record<Step, Inside>> = {
  'time-offsets': ({ code }) =>
    code === 'ERANGE' ? 'With the offset a clock would be negative, or beyond 146 years' : undefined,
  propagation: mount,
  mount: mountStep,
  hostname,
  network,
}

/** Of a child that came to be and could not go on: what each step asks for, but for what is done in new namespaces. */
const steps: Partial<Record<Step, (failure: Failure, request: SpawnRequest) => string | undefined>> = {
  clone: (failure, request) =>
    cloneProcess({ ...NOTHING_MORE, flags: request.isolation?.unshare ?? 0 })(failure),
  join,
  'id-map': (failure) => idMaps(failure),
  setgroups: (failure) => idMaps(failure),
  cgroup: ({ code }) => cgroup(code),
  'pivot-root': ({ code }, { isolation }) => {
    if (code !== 'EPERM') return undefined
    const isPivot = (isolation?.unshare ?? 0) & CLONE_NEWNS
    const [capability, name] = isPivot ? [CAP_SYS_ADMIN, 'CAP_SYS_ADMIN'] : [CAP_SYS_CHROOT, 'CAP_SYS_CHROOT']
    return privilegeInside(capability, name, 'the mount namespace', hasAnotherUser(isolation))
  },
  rlimit: ({ code }, { isolation }) => (code === 'EPERM' && isolation ? tooHigh(isolation) : undefined),
  capabilities: ({ code }) =>
    code === 'EPERM'
      ? "Only capabilities that this process has, or gets with a user namespace of its own (unshare: ['user']), can be kept"
      : undefined,
  seccomp: ({ code }, { uid, isolation }) => {
    if (code === 'EACCES') {
      return uid === undefined && isolation?.capabilities === undefined
        ? 'A filter needs noNewPrivileges: true, or CAP_SYS_ADMIN'
        : 'A filter needs noNewPrivileges: true, as uid or capabilities have taken CAP_SYS_ADMIN away before it'
    }
    return code === 'EINVAL' ? 'The kernel does not take this program: see seccomp(2), and bpf(4)' : undefined
  },
  chdir: ({ code }, { isolation }) =>
    code === 'ENOENT' && isolation?.root !== undefined ? 'cwd is meant inside of the new root' : undefined,
  credentials: ({ code, syscall }, { isolation }) => {
    // Id maps are of a new user namespace.
    if (code === 'EINVAL' && (isolation?.unshare ?? 0) & CLONE_NEWUSER) {
      if (isOfUnmapped(syscall)) return UNMAPPED
      return 'uid and gid are meant inside of the user namespace, and have to be mapped there'
    }
    return code === 'EPERM' ? 'Other ids than the own ones need CAP_SETUID and CAP_SETGID' : undefined
  },
  stdio: ({ code, syscall }, { stdio, isolation }) =>
    code === 'EBADF' && syscall.startsWith('dup') && isFewerThan(stdio.length, isolation)
      ? 'rlimits.nofile is in force by then: it has to be at least the number of entries of stdio'
      : undefined,
  exec: exec,
}

/** Whether the child is in another user namespace than this process. */
function hasAnotherUser(isolation: IsolationRequest | undefined): boolean {
  if (isolation === undefined) return false
  const { unshare, join } = isolation
  return (unshare & CLONE_NEWUSER) !== 0 || join.some(({ nstype }) => nstype === CLONE_NEWUSER)
}

const resources = new Map(rlimitNames().map(({ name, resource }) => [resource, name]))

/** Whether the program may have fewer descriptors than these. */
function isFewerThan(count: number, isolation: IsolationRequest | undefined): boolean {
  return (
    isolation?.rlimits.some(({ resource, soft }) => resources.get(resource) === 'nofile' && soft < count) ===
    true
  )
}

/** Of EPERM: the first limit, in the order in which they are set, that is above what the kernel lets this process set. */
function tooHigh(isolation: IsolationRequest): string {
  const most = BigInt(read('/proc/sys/fs/nr_open').trim() || 0)
  const mayRaise = holds(CAP_SYS_RESOURCE) && isInFirstUserNamespace() && !hasAnotherUser(isolation)
  // proc(5): a line for each, in the order of their numbers, below one of titles.
  const lines = read('/proc/thread-self/limits').split('\n').slice(1)
  const limit = isolation.rlimits.find(({ resource, hard }) => {
    if (resources.get(resource) === 'nofile' && hard > most) return true
    const own = /^.{26}\S+ +(\S+)/.exec(lines[resource] ?? '')?.[1]
    return !mayRaise && own !== undefined && own !== 'unlimited' && hard > BigInt(own)
  })
  const name = limit && resources.get(limit.resource)
  return `${name === undefined ? '' : `rlimits.${name}: `}Only CAP_SYS_RESOURCE, outside of user namespaces, can raise a hard limit (for nofile, up to fs.nr_open)`
}

/** What {@link cloneProcess} asks of a request besides its flags. */
const NOTHING_MORE: CloneRequest = { flags: 0, stackSize: 0, exitSignal: 0, setTid: [] }

/** Of every thread of this process. */
function setup(bits: number): Hint {
  return (failure) => (insides[failure.step as Step] ?? unshare(bits, true))(failure, false)
}

function spawn(request: SpawnRequest): Hint {
  return (failure) => {
    const step = failure.step as Step
    const inside = insides[step]
    return inside ? inside(failure, hasAnotherUser(request.isolation)) : steps[step]?.(failure, request)
  }
}

const UNMAPPED =
  'Neither the own user (or group) nor 0 is known in this user namespace, and the program would keep an id of outside: map one of them, or say with uid and gid who it is to be there'

/** The calls by which a child leaves ids that its user namespace does not know. */
function isOfUnmapped(syscall: string | undefined): boolean {
  return syscall === 'setresuid' || syscall === 'setresgid'
}

function join({ code, syscall, path }: Failure): string | undefined {
  if (code === 'EINVAL' && isOfUnmapped(syscall)) return UNMAPPED
  const isOfProcess = path === undefined || path.startsWith('/proc/')
  switch (code) {
    case 'ENOENT':
      if (!isOfProcess) {
        return 'Nobody keeps a namespace there: a bind mount of /proc/PID/ns/TYPE does, as ip netns makes it'
      }
      return 'The process has ended, and its namespaces with it unless something else holds them'
    case 'ESRCH':
      return 'The process has ended, and its namespaces with it unless something else holds them'
    case 'EINVAL':
      return 'This is no namespace of that type; or the own user namespace, which cannot be entered again; or a pid namespace that is not below the own one'
    case 'EPERM':
      return privilege(CAP_SYS_ADMIN, 'CAP_SYS_ADMIN', 'the namespace')
    case 'EACCES':
      return isOfProcess
        ? 'This needs what ptrace(2) needs to read the process: the same user, or CAP_SYS_PTRACE'
        : 'This user may not open the file, or may not search a directory above it'
    default:
      return undefined
  }
}

function mountStep(failure: Failure, isInAnother: boolean): string | undefined {
  switch (failure.code) {
    case 'ENOENT':
      return 'The source is not there, or the target, which create: true makes'
    case 'EINVAL':
      return 'The file system does not know one of the options'
    case 'EXDEV':
    case 'ELOOP':
      return 'The target leads out of the new root'
    default:
      return mount(failure, isInAnother)
  }
}

function exec({ code, path }: Failure, { isolation, cwd }: SpawnRequest): string | undefined {
  switch (code) {
    case 'ENOENT':
      if (isolation?.root !== undefined)
        return 'The program, and its interpreter and libraries, are looked for in the new root'
      return path?.startsWith('/') && cwd === undefined && existsSync(path)
        ? 'The program is there, and its interpreter (of #!, or the dynamic linker) is not'
        : undefined
    case 'EACCES':
      return 'It is not executable for this user, lies in a directory that may not be searched, or on a file system that is mounted noexec'
    case 'ENOEXEC':
      return 'It is neither a script with #! nor a program for this machine'
    default:
      return undefined
  }
}

function cgroup(code: string): string | undefined {
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return 'The cgroup may not be written by this user: its cgroup.procs has to be'
    case 'EBADF':
    case 'ENOTDIR':
      return 'The cgroup is no directory of a cgroup-v2 hierarchy'
    case 'EBUSY':
      return 'The cgroup has controllers enabled for its children (cgroup.subtree_control), and cannot hold processes itself'
    case 'ENOTSUP':
      return 'The cgroup is a threaded one, or in an invalid state'
    default:
      return undefined
  }
}

/** Of its directory, which is opened for it. */
function cgroupDirectory({ code }: Failure): string | undefined {
  switch (code) {
    case 'ENOENT':
      return 'There is no such cgroup: it is made by making its directory, in a cgroup-v2 hierarchy'
    case 'EACCES':
      return 'This user may not read the directory of the cgroup, or may not search one above it'
    default:
      return cgroup(code)
  }
}

function cloneInWorker(): string {
  return 'clone() needs the main thread, whose event loop and standard streams the child goes on with: ask it by a message'
}

function cloneAtExit(): string {
  return "This process is ending, and its event loop is over: call it before, or in a listener of 'beforeExit'"
}

function cloneWithoutLoop(): string {
  return "This process is a clone with CLONE_FILES, whose descriptors and event loop are its parent's: only that can make another"
}

function cloneWithAbort(): string {
  return 'This Node was started with --abort-on-uncaught-exception, which would end every child where it begins: start it without'
}

function cloneWithRings(): string {
  return 'This Node was started with UV_USE_IO_URING=1, and its libuv would share its rings with the child: start it without, or use Node 22 or later'
}

function unknownNode(): string {
  return 'This Node, its V8, or the libc keeps things in other places than Node 20 to 26 on glibc and musl do: please report it'
}

function wait(): string {
  return "This process is a clone, and the child its parent's: only that can wait for it"
}

export const hints = {
  cgroupDirectory,
  cloneAtExit,
  cloneInWorker,
  cloneProcess,
  cloneStep,
  cloneWithAbort,
  cloneWithRings,
  cloneWithoutLoop,
  wait,
  clone: helper,
  feature,
  hostname,
  join,
  kcmp,
  missing,
  mount,
  network,
  nsfs,
  pidfdGetfd,
  setns,
  since,
  setup,
  spawn,
  umount,
  unshare,
}
