// Between clone and exec a child of spawn asks the libc for no memory: it shares that with a live V8.
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import {
  childrenOf,
  compileLibrary,
  hasCompiler,
  hasStrace,
  start,
  strace,
  temporaryDirectory,
} from './helpers/machine.mjs'
import { available, inProcess, isRoot } from './helpers/process.mjs'
import { rootDirectory, within } from './helpers/spawning.mjs'

/** Preloaded, it ends whoever allocates, or frees, in another process than the one that has loaded it. */
const allocator = `
  #define _GNU_SOURCE
  #include <dlfcn.h>
  #include <errno.h>
  #include <stddef.h>
  #include <stdlib.h>
  #include <string.h>
  #include <sys/syscall.h>
  #include <unistd.h>

  static long owner;
  static int allocates;

  // By system call: the child shares what the libc remembers.
  __attribute__((constructor)) static void load(void) {
    allocates = getenv("LINUX_CLONE_ALLOCATES") != NULL;
    owner = syscall(SYS_getpid);
  }

  static void check(int status) {
    if (owner != 0 && syscall(SYS_getpid) != owner) syscall(SYS_exit_group, status);
  }

  // What dlsym(3) itself asks for while it looks the functions up.
  static _Alignas(16) char early[1 << 16];
  static size_t used;
  static int is_early(void *place) { return (char *)place >= early && (char *)place < early + sizeof early; }
  static void *take(size_t size) {
    void *place = early + used;
    used += (size + 15) & ~(size_t)15;
    if (used > sizeof early) syscall(SYS_exit_group, 99);
    return place;
  }

  #define NEXT(type, name, ...) \\
    static type (*next)(__VA_ARGS__); \\
    static __thread int looks __attribute__((tls_model("initial-exec"))); \\
    if (!next && !looks) { looks = 1; next = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name); looks = 0; }

  void *malloc(size_t size) {
    check(101);
    NEXT(void *, "malloc", size_t)
    return next ? next(size) : take(size);
  }
  void *calloc(size_t count, size_t size) {
    check(102);
    NEXT(void *, "calloc", size_t, size_t)
    return next ? next(count, size) : take(count * size);
  }
  void *realloc(void *place, size_t size) {
    check(103);
    if (is_early(place)) return memcpy(malloc(size), place, size);
    NEXT(void *, "realloc", void *, size_t)
    return next(place, size);
  }
  void free(void *place) {
    check(104);
    if (is_early(place)) return;
    NEXT(void, "free", void *)
    if (next) next(place);
  }
  int posix_memalign(void **place, size_t alignment, size_t size) {
    check(105);
    NEXT(int, "posix_memalign", void **, size_t, size_t)
    return next(place, alignment, size);
  }
  void *aligned_alloc(size_t alignment, size_t size) {
    check(106);
    NEXT(void *, "aligned_alloc", size_t, size_t)
    return next(alignment, size);
  }

  // The calls by which a child goes in and becomes the program are those that allocate where they are asked to.
  static void allocate(void) {
    if (!allocates || syscall(SYS_getpid) == owner) return;
    void *volatile place = malloc(8);
    free(place);
  }
  int setns(int fd, int type) { allocate(); return syscall(SYS_setns, fd, type); }
  int sethostname(const char *name, size_t length) { allocate(); return syscall(SYS_sethostname, name, length); }
  int chdir(const char *path) { allocate(); return syscall(SYS_chdir, path); }`

/**
 * How each of these starts ends, in a Node with the allocator: the program's status, or the step that has failed.
 * `starts` are pairs of a command and options, by what they are about.
 */
const ends = (library, starts, { env = [], wrap = [] } = {}) =>
  inProcess(
    async ({ lib }, starts) => {
      const { LD_PRELOAD, ...env } = process.env
      const found = {}
      for (const [about, [command, { seccomp, ...options }]] of Object.entries(starts)) {
        if (seccomp) options.seccomp = Uint8Array.from(seccomp)
        const child = lib.spawn(command, [], { stdio: 'ignore', env, ...options })
        const end = await new Promise((resolve) => child.once('error', resolve).once('exit', resolve))
        const { status, error } = lib.spawnSync(command, [], { stdio: 'ignore', env, ...options })
        found[about] = [end?.step ?? end, error?.step ?? status]
      }
      return found
    },
    { with: { wrap: [...wrap, 'env', `LD_PRELOAD=${library}`, ...env] } },
    starts,
  )

/** The same by both calls for all of them. */
const each = (starts, end) => Object.fromEntries(Object.keys(starts).map((about) => [about, [end, end]]))

/** Everything that goes into a root. */
function everything(t) {
  const { root, mounts } = rootDirectory(t)
  const [one, other] = [temporaryDirectory(t), temporaryDirectory(t)]
  const file = path.join(one, 'file')
  writeFileSync(file, '')
  return {
    root,
    mounts: [
      ...mounts,
      { type: 'dev', target: '/dev' },
      { type: 'tmpfs', target: '/tmp/made/on/the/way', options: ['size=64k', 'nosuid', 'shared'] },
      { type: 'bind', source: file, target: '/etc/file', options: ['ro'] },
      { type: 'bind', source: '/missing', target: '/missing', optional: true },
      { type: 'sysfs', target: '/sys', options: ['ro'] },
      { type: 'cgroup2', target: '/cgroups' },
      { type: 'devpts', target: '/pts', options: ['newinstance'] },
      { type: 'mqueue', target: '/queues' },
      { type: 'ramfs', target: '/ram' },
      { type: 'proc', target: '/other/proc' },
      { type: 'overlay', target: '/over', options: [`lowerdir=${one}:${other}`] },
      { target: '/tmp/made/on/the/way', options: ['remount', 'bind', 'ro'] },
      { target: '/ram', options: ['private'] },
    ],
    cwd: '/tmp',
  }
}

/** Allows every system call. */
const filter = [6, 0, 0, 0, 0, 0, 0xff, 0x7f]

const limits = {
  capabilities: ['CAP_NET_ADMIN'],
  noNewPrivileges: true,
  seccomp: filter,
  rlimits: { nofile: 64, core: 0 },
}

const names = { hostname: 'inside', domainname: 'domain' }

const everyType = ['mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup', 'time']

function ready(t) {
  return available(t, hasCompiler(), 'cc')
}

test('A child that allocates is ended, and told by its status', async (t) => {
  if (!ready(t)) return
  const library = compileLibrary(t, allocator)
  const { pid } = await start(t, 'unshare', '-Ur', '--uts', 'sh', '-c', 'echo; exec sleep 3000')
  const starts = {
    plain: ['true', { cwd: '/' }],
    inside: ['true', within(['uts'], names)],
    'beside init': ['true', within(['pid'], { cwd: '/' })],
    'a failing step': ['true', { cwd: '/missing' }],
    'joining, without another process': ['true', { join: { user: pid, uts: pid } }],
  }
  t.deepEqual(await ends(library, starts), { ...each(starts, 0), 'a failing step': ['chdir', 'chdir'] })
  t.deepEqual(await ends(library, starts, { env: ['LINUX_CLONE_ALLOCATES=1'] }), each(starts, 101))
})

test('No child allocates, whatever it is to be', async (t) => {
  if (!ready(t)) return
  const library = compileLibrary(t, allocator)
  const script = path.join(temporaryDirectory(t), 'script')
  writeFileSync(script, 'exit 0\n', { mode: 0o755 })
  const whole = within(everyType, { ...everything(t), ...names, ...limits, timeOffsets: { boottime: 5e6 } })
  const own = [{ inside: 7, outside: process.getuid(), count: 1 }]
  const ownGroup = [{ inside: 7, outside: process.getgid(), count: 1 }]
  const below = temporaryDirectory(t)
  const starts = {
    plain: ['true', {}],
    'by its path': ['/bin/true', { cwd: '/', argv0: 'other' }],
    'a script without an interpreter': [script, {}],
    'a shell': ['true', { shell: true }],
    'many descriptors': ['true', { stdio: Array(100).fill('ignore') }],
    detached: ['true', { detached: true, parentDeathSignal: 'SIGTERM' }],
    limited: ['true', within([], limits)],
    everything: ['true', whole],
    'everything, detached': ['true', { ...whole, detached: true }],
    'everything, as pid 1': ['true', { ...whole, init: false }],
    'mounts over the working directory': [
      'true',
      within(['mnt'], { propagation: 'slave', mounts: [{ type: 'tmpfs', target: process.cwd() }] }),
    ],
    'mounts that are made': [
      'true',
      within(['mnt', 'pid'], {
        mounts: [{ type: 'tmpfs', target: path.join(below, 'a/b'), create: true }],
        proc: '/mnt',
      }),
    ],
    'explicit maps': ['true', { unshare: ['user'], uidMappings: own, gidMappings: ownGroup }],
    'the own ids': ['true', { unshare: ['user'], uidMappings: 'current', gidMappings: 'current' }],
    'the own ids are named': ['true', { uid: process.getuid(), gid: process.getgid() }],
  }
  t.deepEqual(await ends(library, starts), each(starts, 0))
})

test('No child allocates that joins namespaces, by itself or by another one', async (t) => {
  if (!ready(t)) return
  const library = compileLibrary(t, allocator)
  const words = ['unshare', '-UrmuinpC', '--fork', '--kill-child', '--mount-proc']
  const { child } = await start(t, ...words, 'sh', '-c', 'echo; exec sleep 3000')
  const [pid] = childrenOf(child.pid)
  const some = Object.fromEntries(['user', 'net', 'uts'].map((type) => [type, pid]))
  const starts = {
    all: ['true', { join: pid }],
    'without processes': ['true', { join: some, hostname: 'joined' }],
    'and makes others': [
      'true',
      { join: some, unshare: ['mnt', 'pid', 'ipc'], hostname: 'joined', cwd: '/' },
    ],
    'and makes others, as pid 1': ['true', { join: some, unshare: ['mnt', 'pid'], init: false }],
    'and mounts': ['true', { join: pid, unshare: ['mnt'], mounts: [{ type: 'tmpfs', target: '/mnt' }] }],
  }
  t.deepEqual(await ends(library, starts), each(starts, 0))
})

test('No child allocates whose start fails, at whatever step', async (t) => {
  if (!ready(t)) return
  const library = compileLibrary(t, allocator)
  const { root, mounts } = rootDirectory(t)
  const missing = 'linux-clone-no-such-program'
  const inside = within(['mnt', 'pid', 'uts', 'net'], { root, mounts, ...names })
  const starts = {
    exec: [missing, {}],
    'exec, inside': [missing, inside],
    'exec, as pid 1': [missing, { ...inside, init: false }],
    chdir: ['true', { ...inside, cwd: '/missing' }],
    mount: ['true', { ...inside, mounts: [...mounts, { source: '/missing', target: '/x' }] }],
    'mount, of a type': ['true', { ...inside, mounts: [...mounts, { type: 'nosuchfs', target: '/x' }] }],
    'mount, without a root': ['true', within(['mnt'], { mounts: [{ type: 'tmpfs', target: '/missing/x' }] })],
    'time-offsets': ['true', within(['time'], { timeOffsets: { boottime: -1e12 } })],
    rlimit: ['true', { ...inside, rlimits: { nofile: 2 ** 40 } }],
    seccomp: ['true', { noNewPrivileges: true, seccomp: [0x20, 0, 0, 0, 0, 0, 0, 0] }],
    join: ['true', { join: { net: '/proc/self/ns/uts' } }],
    // The group is mapped by nobody.
    [isRoot ? 'credentials' : 'id-map']: [
      'true',
      { unshare: ['user'], uidMappings: [{ inside: 0, outside: 100_000, count: 1 }] },
    ],
  }
  const steps = Object.keys(starts).map((about) => [about, Array(2).fill(about.split(',')[0])])
  t.deepEqual(await ends(library, starts), Object.fromEntries(steps))
})

/** Words that have these calls fail, and stop a process at no other, of which the allocator makes many. */
const failing = (calls, errno) =>
  strace('--seccomp-bpf', '-e', `trace=${calls}`, '-e', `inject=${calls}:error=${errno}`)

test('No child allocates whose start fails where nothing fails by itself', async (t) => {
  if (!ready(t) || !available(t, hasStrace(), 'strace')) return
  const library = compileLibrary(t, allocator)
  const { root, mounts } = rootDirectory(t)
  const starts = {
    hostname: ['true', within(['uts', 'pid'], names)],
    network: ['true', within(['net', 'pid'])],
    'pivot-root': ['true', within(['mnt', 'pid'], { root, mounts })],
    credentials: ['true', within(['ipc'], { detached: true })],
  }
  const wrap = failing('sethostname,socket,pivot_root,setsid', 'EPERM')
  const steps = Object.keys(starts).map((step) => [step, [step, step]])
  t.deepEqual(await ends(library, starts, { wrap }), Object.fromEntries(steps))
})

test('No child allocates where the kernel is older: it has other calls for clone3 and close_range', async (t) => {
  if (!ready(t) || !available(t, hasStrace(), 'strace')) return
  const library = compileLibrary(t, allocator)
  const words = ['unshare', '-Urup', '--fork', '--kill-child', 'sh', '-c', 'echo; exec sleep 3000']
  const { child } = await start(t, ...words)
  const [pid] = childrenOf(child.pid)
  const starts = {
    plain: ['true', { cwd: '/' }],
    everything: ['true', within(everyType, { ...everything(t), ...names, ...limits })],
    joins: ['true', { join: pid, unshare: ['mnt'] }],
  }
  const wrap = failing('clone3,close_range', 'ENOSYS')
  t.deepEqual(await ends(library, starts, { wrap }), each(starts, 0))
})

/** Where cgroups of version 2 are. */
const unified = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((place) =>
  existsSync(`${place}/cgroup.procs`),
)

;(isRoot ? test : () => {})('No child allocates that only root may start', async (t) => {
  if (!ready(t)) return
  const library = compileLibrary(t, allocator)
  const words = ['unshare', '--time', '--boottime', '5000000', '--fork', '--kill-child']
  const { child } = await start(t, ...words, 'sh', '-c', 'echo; exec sleep 3000')
  const [time] = childrenOf(child.pid)
  const { pid } = await start(t, 'unshare', '--user', 'sh', '-c', 'echo; exec sleep 3000')
  for (const name of ['uid_map', 'gid_map']) writeFileSync(`/proc/${pid}/${name}`, '0 100000 65536')
  const container = [{ inside: 0, outside: 100_000, count: 65_536 }]
  const maps = { unshare: ['user', 'pid'], uidMappings: container, gidMappings: container }
  const starts = {
    'another user': ['true', { uid: 65_534, gid: 65_534 }],
    'another user with capabilities': ['true', { uid: 65_534, gid: 65_534, capabilities: ['CAP_CHOWN'] }],
    chroot: ['true', { root: '/', cwd: '/usr' }],
    'maps that leave the own ids out': ['true', { ...maps, uid: 5, gid: 5 }],
    'and groups that cannot be left inside': ['true', { ...maps, setgroups: 'deny', uid: 5, gid: 5 }],
    'a user namespace that does not know the own ids': ['true', { join: { user: pid } }],
    'time, in a copy of the memory': ['true', { join: { time } }],
  }
  t.deepEqual(await ends(library, starts), each(starts, 0))
})

;(isRoot ? test : () => {})('No child allocates that is born in a cgroup', async (t) => {
  if (!ready(t) || !available(t, unified !== undefined, 'a unified cgroup hierarchy')) return
  const library = compileLibrary(t, allocator)
  const cgroup = path.join(unified, `linux-clone-allocations-${process.pid}`)
  mkdirSync(cgroup)
  t.teardown(() => rmdirSync(cgroup))
  const starts = {
    alone: ['true', { cgroup }],
    'which is its root': ['true', { cgroup, unshare: ['cgroup', 'pid', 'mnt'] }],
  }
  t.deepEqual(await ends(library, starts), each(starts, 0))
})
