// What the types allow, and what they refuse. Nothing of it runs.
import lc, {
  CLONE_NEWNET,
  CLONE_NEWUTS,
  configureLoopback,
  constants,
  KCMP_EPOLL_TFD,
  KCMP_VM,
  kcmp,
  MNT_DETACH,
  MS_NOSUID,
  mount,
  Namespace,
  type NamespaceType,
  nsGetId,
  nsGetNstype,
  nsGetPidInPidns,
  pidfdGetfd,
  pidfdOpen,
  pidfdSendSignal,
  pivotRoot,
  probe,
  type SystemCallError,
  setdomainname,
  sethostname,
  setns,
  spawn,
  spawnSync,
  umount,
  unshare,
} from 'linux-clone'

// ─── Allowed ───────────────────────────────────────────────────────────────────────────────────

unshare(CLONE_NEWNET | CLONE_NEWUTS)
unshare('net')
unshare(['net', 'uts'], { threads: 'all' })
unshare(['net', 'uts'] as const)
unshare(0, {})
setns(3)
setns(3, 0)
setns(3, ['user', 'mnt'], { threads: 'calling' })
lc.unshare('ipc')
pivotRoot('.', '.')
kcmp(1, 2, KCMP_VM) satisfies 0 | 1 | 2 | 3
kcmp(1, 2, KCMP_EPOLL_TFD, 3, { efd: 4, tfd: 5, toff: 0 })
configureLoopback()
mount('none', '/mnt', 'tmpfs')
mount(null, '/', null, MS_NOSUID, null)
mount('none', '/mnt', 'tmpfs', 0, 'size=64m')
mount('none', '/mnt', 'tmpfs', 0, { size: '64m', mode: 0o1777, ro: true })
umount('/mnt', MNT_DETACH)
sethostname('inside')
setdomainname('inside')
const pidfd: number = pidfdOpen(process.pid)
pidfdSendSignal(pidfd, 'SIGTERM')
pidfdSendSignal(pidfd, 0, 1)
pidfdGetfd(pidfd, 0) satisfies number
nsGetId(3) satisfies bigint
nsGetNstype(3) satisfies number
nsGetPidInPidns(3, 1) satisfies number
constants.CLONE_NEWNET satisfies number
const namespace = new Namespace({
  privateTmp: { size: '1m' },
  privateNet: 'none',
  signal: AbortSignal.timeout(1),
})
namespace.options.privateNet satisfies boolean | 'none' | 'loopback' | undefined
namespace.setup()
;(await namespace.run(async (a: number, b: string) => a + b.length, 1, 'x')) satisfies number
;(await namespace.run(() => new Map([[1, 'x']]))) satisfies Map<number, string>
namespace.spawn('sh', ['-c', 'exit'], { hostname: 'x' }).kill()
namespace.spawn('sh', { stdio: 'ignore' }).kill()
spawn('sh').stdin.end()
spawn('sh', ['-c', 'exit'], { unshare: ['pid', 'mnt'], init: false }).stdout.resume()
spawn('sh', {
  stdio: ['ignore', 'inherit', 'pipe'],
  rlimits: { nofile: 64, core: { soft: 0, hard: 0 } },
}).stderr?.resume()
spawn('sh', [], { join: process.pid }).pidfd satisfies number | undefined
spawn('sh', [], { join: { net: '/run/netns/x', user: 1, mnt: { fd: 3 } }, parentDeathSignal: null })
spawn('sh', [], {
  root: '/srv',
  mounts: [
    { type: 'tmpfs', target: '/tmp', options: ['size=1m'] },
    { target: '/a', source: '/b' },
  ],
})
spawnSync('sh', ['-c', 'exit'], { encoding: 'utf8', unshare: ['net'] }).stdout.trim()
spawnSync('sh', { input: new Uint8Array(1), maxBuffer: 1 }).stdout
const type: NamespaceType = 'time'
const overlay = probe().overlay
if (!overlay.ok) overlay.reason satisfies string
if (probe()[type].ok) unshare(type)
try {
  unshare('user')
} catch (error) {
  const { code, errno, syscall, path, step, hint } = error as SystemCallError
  code satisfies string
  errno satisfies number
  syscall satisfies string
  path satisfies string | undefined
  step satisfies string | undefined
  hint satisfies string | undefined
}

// ─── Refused ───────────────────────────────────────────────────────────────────────────────────

// @ts-expect-error
unshare()
// @ts-expect-error
unshare('network')
// @ts-expect-error
unshare(['net', CLONE_NEWUTS])
// @ts-expect-error
unshare(1n)
// @ts-expect-error
unshare('net', { threads: 'every' })
// @ts-expect-error
unshare('net', { thread: 'all' })
// @ts-expect-error
unshare('net', null)
// @ts-expect-error
setns()
// @ts-expect-error
setns('/proc/self/ns/net')
// @ts-expect-error
setns(3, 'networks')
// @ts-expect-error
pivotRoot('.')
// @ts-expect-error
pivotRoot(Buffer.from('.'), '.')
// @ts-expect-error
kcmp(1, 2)
// @ts-expect-error
kcmp(1, 2, 'KCMP_VM')
// @ts-expect-error
kcmp(1, 2, KCMP_EPOLL_TFD, 3, { efd: 4, tfd: 5 })
// @ts-expect-error
kcmp(1, 2, KCMP_EPOLL_TFD, 3, { efd: 4, tfd: 5, toff: 0, more: 1 })
// @ts-expect-error
kcmp(1, 2, KCMP_VM) satisfies 0 | 1
// @ts-expect-error
configureLoopback('lo')
// @ts-expect-error
mount(undefined, '/mnt', 'tmpfs')
// @ts-expect-error
mount('none', null, 'tmpfs')
// @ts-expect-error
mount('none', '/mnt')
// @ts-expect-error
mount('none', '/mnt', 'tmpfs', 'nosuid')
// @ts-expect-error
mount('none', '/mnt', 'tmpfs', 0, ['size=64m'])
// @ts-expect-error
mount('none', '/mnt', 'tmpfs', 0, { size: 64n })
// @ts-expect-error
mount('none', '/mnt', 'tmpfs', 0, { size: null })
// @ts-expect-error
new Namespace({ privateTemp: true })
// @ts-expect-error
new Namespace({ privateNet: 'up' })
// @ts-expect-error
namespace.options = {}
// @ts-expect-error
namespace.run((a: number) => a, 'text')
// @ts-expect-error
spawn(['sh'])
// @ts-expect-error
spawn('sh', { unshare: ['network'] })
// @ts-expect-error
spawn('sh', { unshare: 'net' })
// @ts-expect-error
spawn('sh', { hostnam: 'x' })
// @ts-expect-error
spawn('sh', { mounts: [{ type: 'tmpfs' }] })
// @ts-expect-error
spawn('sh', { input: 'x' })
// @ts-expect-error
spawnSync('sh', { network: 'host' })
// @ts-expect-error
umount('/mnt', [MNT_DETACH])
// @ts-expect-error
sethostname(1)
// @ts-expect-error
setdomainname(null)
// @ts-expect-error
pidfdOpen('self')
// @ts-expect-error
pidfdSendSignal(pidfd)
// @ts-expect-error
pidfdSendSignal(pidfd, 'SIGNOT')
// @ts-expect-error
pidfdSendSignal(pidfd, 'term')
// @ts-expect-error
pidfdGetfd(pidfd)
// @ts-expect-error
nsGetId(3) satisfies number
// @ts-expect-error
nsGetId('net')
// @ts-expect-error
nsGetPidInPidns(3)
// @ts-expect-error
probe().overlay.reason
// @ts-expect-error
probe().overlays
// @ts-expect-error
probe().overlay = { ok: true }
// @ts-expect-error
constants.CLONE_NEWNET = 0
// @ts-expect-error
lc.CLONE_NEWNET = 0
// @ts-expect-error
import('linux-clone/binding.js')
