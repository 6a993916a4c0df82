// What an error of a start says of its cause, where that is known.
import { chmodSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import lib from '../index.js'
import { start } from './helpers/machine.mjs'
import { inProcess, inUserNamespace, isRoot } from './helpers/process.mjs'
import { refused, within } from './helpers/spawning.mjs'

// What root alone may do is looked at as root alone.
const asRoot = isRoot ? test : () => {}

/** Words that make a command an ordinary user, whoever we are. */
const ordinary = isRoot ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : []

/** What a call in a process that `wrap` makes has refused. */
const refusal = (wrap, options) =>
  inProcess(
    ({ lib }, options) => {
      const { error } = lib.spawnSync('true', [], options)
      return { ...error, message: error.message, stack: error.stack }
    },
    { with: { wrap } },
    options,
  )

const ofUser = (unshare, options) => ({
  unshare: ['user', ...unshare],
  uidMappings: 'root',
  gidMappings: 'root',
  ...options,
})

test('In a user namespace that is asked for, nobody is told to be root: what is mounted needs namespaces beside it', async (t) => {
  for (const type of ['sysfs', 'mqueue', 'cgroup2', 'proc']) {
    const error = await refused(t, ofUser(['mnt'], { mounts: [{ type, target: '/mnt' }] }))
    t.like(error, { code: 'EPERM', step: 'mount' }, type)
    t.regex(error.hint, new RegExp(`^In a user namespace .*\\b${type}\\b`), type)
  }
})

asRoot('A host name in a UTS namespace that the new user namespace does not own says so', async (t) => {
  const { pid } = await start(t, 'unshare', '--uts', 'sh', '-c', 'echo; exec sleep 3000')
  const error = await refused(t, ofUser([], { join: { uts: pid }, hostname: 'x' }))
  t.like(error, { code: 'EPERM', step: 'hostname', syscall: 'sethostname' })
  t.regex(
    error.hint,
    /^In its user namespace the child has CAP_SYS_ADMIN, .* create the UTS namespace together/,
  )
})

test('Who may make no user namespace is not told to make one', async (t) => {
  // Without maps nobody is known there.
  const error = await refusal(['unshare', '--user'], { unshare: ['user'] })
  t.like(error, { code: 'EPERM', step: 'clone' })
  t.regex(error.hint, /^A process makes no user namespace where .* does not know its ids|seccomp/)
  const without = await refusal(['unshare', '--user'], { unshare: ['uts'] })
  t.regex(without.hint, /^This needs CAP_SYS_ADMIN: be root, or have a user namespace/)
})

/** A directory that nobody may look into but root. */
function closedDirectory(t) {
  const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
  chmodSync(directory, 0)
  t.teardown(() => rmdirSync(directory))
  return directory
}

test('What cannot be opened is a SystemCallError with step, path and hint', async (t) => {
  const directory = closedDirectory(t)
  for (const [options, code, file, hint] of [
    [{ cgroup: directory }, 'EACCES', directory, /^This user may not read the directory of the cgroup/],
    [{ cgroup: '/does/not/exist' }, 'ENOENT', '/does/not/exist', /no such cgroup/],
    [{ cgroup: '/etc/passwd' }, 'ENOTDIR', '/etc/passwd', /no directory of a cgroup-v2 hierarchy/],
    [{ join: { net: `${directory}/net` } }, 'EACCES', `${directory}/net`, /^This user may not open the file/],
    [{ join: { net: '/does/not/exist' } }, 'ENOENT', '/does/not/exist', /^Nobody keeps a namespace there/],
  ]) {
    const { message, stack, ...error } = await refusal(ordinary, options)
    const step = options.join ? 'join' : 'cgroup'
    const { errno, hint: given, ...rest } = error
    t.deepEqual(rest, { code, syscall: 'open', path: file, step, spawnargs: [] })
    t.true(errno < 0)
    t.regex(message, new RegExp(`^${code}: [a-z ]+, open '${file}'$`))
    t.regex(given, hint)
    // It is the caller's error.
    t.notRegex(stack.split('\n')[1], /dist|node:/)
  }
})

asRoot('A process whose namespaces may not be opened is told apart from one that has ended', async (t) => {
  const { pid } = await start(t, 'sh', '-c', 'echo; exec sleep 3000')
  for (const [join, file] of [
    [pid, `/proc/${pid}/ns/user`],
    [{ net: pid }, `/proc/${pid}/ns/net`],
  ]) {
    const error = await refusal(ordinary, { join })
    t.like(error, { code: 'EACCES', syscall: 'open', step: 'join', path: file })
    t.regex(error.hint, /ptrace\(2\)/)
  }
})

/** A filter that allows everything. */
const allowing = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f]

test('A filter without noNewPrivileges is told of CAP_SYS_ADMIN only where that is left', async (t) => {
  const seccomp = Uint8Array.from(allowing)
  const alternative = /^A filter needs noNewPrivileges: true, or CAP_SYS_ADMIN$/
  const taken = /^A filter needs noNewPrivileges: true, as .*CAP_SYS_ADMIN away/
  if (!isRoot) t.regex((await refused(t, { seccomp })).hint, alternative)
  const { code, step, hint } = await refused(t, within([], { seccomp, capabilities: [] }))
  t.deepEqual([code, step], ['EACCES', 'seccomp'])
  t.regex(hint, taken)
  if (isRoot) t.regex((await refused(t, { seccomp, uid: 65534 })).hint, taken)
})

test('Where more descriptors are asked for than the limit has it is the limit that is named', async (t) => {
  for (const [count, nofile] of [
    [4, 3],
    [3, 0],
  ]) {
    const { error } = lib.spawnSync('true', { rlimits: { nofile }, stdio: Array(count).fill('pipe') })
    t.like(error, { code: 'EBADF', syscall: 'dup2', step: 'stdio' })
    t.regex(error.hint, /^rlimits\.nofile /)
  }
  const stdio = ['ignore', 'ignore', 123_456]
  t.is(lib.spawnSync('true', { rlimits: { nofile: 64 }, stdio }).error.hint, undefined)
})

test('A limit that may not be raised is named', async (t) => {
  const above = Number(readFileSync('/proc/sys/fs/nr_open', 'utf8')) + 1
  const error = await refused(t, { rlimits: { core: 0, nofile: above } })
  t.like(error, { code: 'EPERM', syscall: 'prlimit', step: 'rlimit' })
  t.regex(error.hint, /^rlimits\.nofile: /)
  // Below a hard limit of its own, where nobody may raise it.
  const wrap = [...inUserNamespace, 'prlimit', '--core=5:7', '--nice=0:0', '--fsize=1000000:1000000']
  for (const [rlimits, name] of [
    [{ core: 7, nice: 0, fsize: 1_000_001 }, 'fsize'],
    [{ core: 8, fsize: 1_000_001 }, 'core'],
    [{ fsize: 1_000_000, nice: 1 }, 'nice'],
  ]) {
    const { code, step, hint } = await refusal(wrap, { rlimits })
    t.deepEqual([code, step], ['EPERM', 'rlimit'], name)
    t.regex(hint, new RegExp(`^rlimits\\.${name}: `))
  }
})

test('Of several namespaces the one that cannot be entered is the path of the error', async (t) => {
  const { pid } = await start(t, ...ordinary, 'sh', '-c', 'echo; exec sleep 3000')
  const other = await start(t, ...ordinary, ...inUserNamespace, 'sh', '-c', 'echo; exec sleep 3000')
  const [net, uts] = ['net', 'uts'].map((type) => `/proc/${pid}/ns/${type}`)
  for (const [join, code, file] of [
    [{ net: pid }, 'EPERM', net],
    [{ user: other.pid, net: pid }, 'EPERM', net],
    [{ user: other.pid, uts, net }, 'EPERM', uts],
    [{ net: uts }, 'EINVAL', uts],
    [{ user: '/proc/self/ns/user', uts }, 'EINVAL', '/proc/self/ns/user'],
    [{ net: { fd: 123_456 } }, 'EBADF', '/proc/self/fd/123456'],
  ]) {
    const error = await refusal(ordinary, { join })
    t.like(error, { code, syscall: 'setns', step: 'join', path: file })
    t.true(error.message.endsWith(`, setns '${file}'`), error.message)
  }
})
