import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import test from 'ava'
import lib from '../index.js'
import {
  childrenOf,
  compile,
  descriptor,
  hasCompiler,
  kernelSince,
  sleeper,
  start,
  statusOf,
} from './helpers/machine.mjs'
import { available, inProcess, inUserNamespace, isRoot, privileged, run } from './helpers/process.mjs'

const O_CLOEXEC = 0o2000000
const FLAGS = {
  mnt: lib.CLONE_NEWNS,
  uts: lib.CLONE_NEWUTS,
  ipc: lib.CLONE_NEWIPC,
  net: lib.CLONE_NEWNET,
  pid: lib.CLONE_NEWPID,
  user: lib.CLONE_NEWUSER,
  cgroup: lib.CLONE_NEWCGROUP,
  time: lib.CLONE_NEWTIME,
}
const types = Object.keys(FLAGS)

const link = (type, pid = 'self') => readlinkSync(`/proc/${pid}/ns/${type}`)
const behind = (fd) => readlinkSync(`/proc/self/fd/${fd}`)

/** A descriptor for the time of a test. */
function owned(t, fd) {
  t.teardown(() => closeSync(fd))
  return fd
}

const namespace = (t, type, pid = 'self') => owned(t, openSync(`/proc/${pid}/ns/${type}`))

const unsharing = (...flags) => [...(privileged.length > 0 ? privileged : ['unshare']), ...flags]

/** A program in a pid namespace of its own: what we call it, and what it calls itself. */
async function inPidNamespace(t) {
  const { pid, line } = await start(t, ...unsharing('--pid', '--fork', '--kill-child'), ...sleeper)
  const [outer] = childrenOf(pid)
  return { outer, inner: Number(line) }
}

function refused(t, call) {
  const { name, code, errno, syscall, message, hint } = t.throws(call)
  return { name, code, errno, syscall, message, hint }
}

const withPid = ['nsGetPidFromPidns', 'nsGetTgidFromPidns', 'nsGetPidInPidns', 'nsGetTgidInPidns']
const calls = [
  'nsGetUserns',
  'nsGetParent',
  'nsGetNstype',
  'nsGetOwnerUid',
  'nsGetId',
  'nsGetMntnsId',
  ...withPid,
]

for (const type of types) {
  test(`nsGetNstype: ${type}`, (t) => {
    t.is(lib.nsGetNstype(namespace(t, type)), FLAGS[type])
    t.true(link(type).startsWith(`${type}:[`))
  })
}

test('nsGetUserns: the owner of our namespaces is our user namespace', async (t) => {
  const owners = await inProcess(
    ({ lib, fs }, types) =>
      types.map((type) => {
        const fd = lib.nsGetUserns(fs.openSync(`/proc/self/ns/${type}`))
        const flags = /^flags:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))[1]
        return {
          owner: fs.readlinkSync(`/proc/self/fd/${fd}`),
          user: fs.readlinkSync('/proc/self/ns/user'),
          flags,
        }
      }),
    { with: { wrap: [...inUserNamespace, '--mount', '--uts', '--ipc', '--net', '--cgroup'] } },
    ['mnt', 'uts', 'ipc', 'net', 'cgroup'],
  )
  for (const { owner, user, flags } of owners) {
    t.is(owner, user)
    t.truthy(Number.parseInt(flags, 8) & O_CLOEXEC)
    t.not(owner, link('user'))
  }
})

test('nsGetUserns: of a namespace made in another user namespace it is that one', async (t) => {
  const { pid } = await start(t, ...inUserNamespace, '--uts', ...sleeper)
  const fd = owned(t, lib.nsGetUserns(namespace(t, 'uts', pid)))
  t.is(behind(fd), link('user', pid))
  t.not(behind(fd), link('user'))
  t.truthy(descriptor(fd).flags & O_CLOEXEC)
  const net = owned(t, lib.nsGetUserns(namespace(t, 'net', pid)))
  t.is(behind(net), link('user'))
})

test('nsGetUserns: of a user namespace it is its parent', async (t) => {
  const { pid } = await start(t, ...inUserNamespace, ...sleeper)
  t.is(behind(owned(t, lib.nsGetUserns(namespace(t, 'user', pid)))), link('user'))
})

/** What a call on a namespace of its own answers to a process in a new user namespace. */
const fromBelow = (call, type) =>
  inProcess(
    ({ lib, fs }, call, type) => {
      try {
        return { result: lib[call](fs.openSync(`/proc/self/ns/${type}`)) }
      } catch ({ code, message, hint }) {
        return { code, message, hint }
      }
    },
    { with: { wrap: inUserNamespace } },
    call,
    type,
  )

test('nsGetUserns and nsGetParent: what lies above the own user namespace is EPERM, with a hint', async (t) => {
  for (const [call, type] of [
    ['nsGetUserns', 'net'],
    ['nsGetUserns', 'user'],
    ['nsGetParent', 'user'],
    ['nsGetParent', 'pid'],
  ]) {
    const { message, hint } = await fromBelow(call, type)
    t.is(message, 'EPERM: operation not permitted, ioctl', `${call} ${type}`)
    t.regex(hint, /outside of the own namespaces/)
  }
})

test('nsGetParent: user namespaces form a chain that ends with ours', async (t) => {
  const { pid } = await start(t, ...inUserNamespace, ...inUserNamespace, ...sleeper)
  const inner = namespace(t, 'user', pid)
  const middle = owned(t, lib.nsGetParent(inner))
  t.truthy(descriptor(middle).flags & O_CLOEXEC)
  t.is(new Set([behind(inner), behind(middle), link('user')]).size, 3)
  t.is(lib.nsGetNstype(middle), lib.CLONE_NEWUSER)
  t.is(behind(owned(t, lib.nsGetParent(middle))), link('user'))
})

test('nsGetParent: of a pid namespace', async (t) => {
  const { outer } = await inPidNamespace(t)
  const parent = owned(t, lib.nsGetParent(namespace(t, 'pid', outer)))
  t.is(behind(parent), link('pid'))
  t.not(behind(parent), link('pid', outer))
})

test('nsGetParent: the first namespace has none that we could see, which is EPERM with a hint', (t) => {
  for (const type of ['user', 'pid']) {
    const { hint, ...error } = refused(t, () => lib.nsGetParent(namespace(t, type)))
    t.deepEqual(error, {
      name: 'Error',
      code: 'EPERM',
      errno: -1,
      syscall: 'ioctl',
      message: 'EPERM: operation not permitted, ioctl',
    })
    t.regex(hint, /the first has no parent/)
  }
})

test('nsGetOwnerUid: who made the user namespace', async (t) => {
  const { pid } = await start(t, ...inUserNamespace, ...sleeper)
  t.is(lib.nsGetOwnerUid(namespace(t, 'user', pid)), process.getuid())
  const below = await start(t, ...inUserNamespace, ...inUserNamespace, ...sleeper)
  t.is(lib.nsGetOwnerUid(namespace(t, 'user', below.pid)), process.getuid())
  if (!isRoot) return
  const as = ['setpriv', '--reuid=12345', '--regid=12345', '--clear-groups']
  const other = await start(t, ...as, ...inUserNamespace, ...sleeper)
  t.is(lib.nsGetOwnerUid(namespace(t, 'user', other.pid)), 12345)
})

test('nsGetOwnerUid: the caller sees it as its own user namespace numbers it', async (t) => {
  const owner = (wrap) =>
    inProcess(({ lib, fs }) => lib.nsGetOwnerUid(fs.openSync('/proc/self/ns/user')), { with: { wrap } })
  t.is(await owner(inUserNamespace), 0)
  t.is(await owner(['unshare', '--user']), Number(readFileSync('/proc/sys/kernel/overflowuid', 'utf8')))
})

test('nsGetId: one namespace has one id, and no two have the same', async (t) => {
  if (!available(t, kernelSince('6.18'), 'NS_GET_ID, of Linux 6.18')) return
  const program = await start(t, ...inUserNamespace, '--uts', '--net', ...sleeper)
  const ids = new Map()
  for (const pid of ['self', process.ppid, program.pid]) {
    for (const type of types) {
      const id = lib.nsGetId(namespace(t, type, pid))
      t.is(typeof id, 'bigint')
      t.true(id > 0n)
      const inode = link(type, pid)
      t.is(ids.get(inode) ?? id, id, inode)
      ids.set(inode, id)
    }
  }
  t.is(ids.size, types.length + 3)
  t.is(new Set(ids.values()).size, ids.size)
})

const IDS = `
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <linux/types.h>
int main(int argc, char **argv) {
  for (int i = 2; i < argc; i++) {
    __u64 id = 0;
    unsigned long request = argv[1][0] == 'm' ? _IOR(0xb7, 0x5, __u64) : _IOR(0xb7, 13, __u64);
    if (ioctl(open(argv[i], O_RDONLY), request, &id) == -1) return 1;
    printf("%llu\\n", (unsigned long long)id);
  }
  return 0;
}
`

test('nsGetId and nsGetMntnsId: all 64 bits as a C program reads them', async (t) => {
  if (!available(t, kernelSince('6.18'), 'NS_GET_ID, of Linux 6.18')) return
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const { pid } = await start(t, ...unsharing('--mount', '--uts', '--ipc', '--net'), ...sleeper)
  const program = compile(t, IDS)
  const read = async (request, files) =>
    (await run(program, request, ...files)).trimEnd().split('\n').map(BigInt)
  const files = types.map((type) => `/proc/${pid}/ns/${type}`)
  t.deepEqual(
    files.map((file) => lib.nsGetId(owned(t, openSync(file)))),
    await read('id', files),
  )
  const mounts = [`/proc/${pid}/ns/mnt`, '/proc/self/ns/mnt']
  t.deepEqual(
    mounts.map((file) => lib.nsGetMntnsId(owned(t, openSync(file)))),
    await read('mnt', mounts),
  )
})

test('nsGetMntnsId: one mount namespace has one id, and another has another', async (t) => {
  if (!available(t, kernelSince('6.11'), 'NS_GET_MNTNS_ID, of Linux 6.11')) return
  const { pid } = await start(t, ...unsharing('--mount'), ...sleeper)
  const [own, again, other] = ['self', process.pid, pid].map((of) =>
    lib.nsGetMntnsId(namespace(t, 'mnt', of)),
  )
  t.is(typeof own, 'bigint')
  t.is(own, again)
  t.not(own, other)
})

test('pids are translated into another pid namespace, and back', async (t) => {
  if (!available(t, kernelSince('6.11'), 'the translation of pids, of Linux 6.11')) return
  const { outer, inner } = await inPidNamespace(t)
  t.is(inner, 1)
  t.deepEqual(statusOf(outer).NSpid.split('\t').slice(-2).map(Number), [outer, inner])
  const fd = namespace(t, 'pid', outer)
  t.is(lib.nsGetPidInPidns(fd, outer), inner)
  t.is(lib.nsGetTgidInPidns(fd, outer), inner)
  t.is(lib.nsGetPidFromPidns(fd, inner), outer)
  t.is(lib.nsGetTgidFromPidns(fd, inner), outer)
})

test('threads are translated too, each to its own number or to that of its process', async (t) => {
  if (!available(t, kernelSince('6.11'), 'the translation of pids, of Linux 6.11')) return
  const program = 'console.log(process.pid); setInterval(() => {}, 1e6)'
  const { pid } = await start(
    t,
    ...unsharing('--pid', '--fork', '--kill-child'),
    process.execPath,
    '-e',
    program,
  )
  const [outer] = childrenOf(pid)
  const fd = namespace(t, 'pid', outer)
  const threads = readdirSync(`/proc/${outer}/task`).map(Number)
  t.true(threads.length > 2)
  for (const tid of threads) {
    const { NSpid, NStgid } = statusOf(`${outer}/task/${tid}`)
    const [innerTid, innerTgid] = [NSpid, NStgid].map((numbers) => Number(numbers.split('\t').at(-1)))
    t.is(lib.nsGetPidInPidns(fd, tid), innerTid)
    t.is(lib.nsGetTgidInPidns(fd, tid), innerTgid)
    t.is(lib.nsGetPidFromPidns(fd, innerTid), tid)
    t.is(lib.nsGetTgidFromPidns(fd, innerTid), outer)
  }
})

test('a process that is not there, or cannot be seen from there, is ESRCH with a hint', async (t) => {
  if (!available(t, kernelSince('6.11'), 'the translation of pids, of Linux 6.11')) return
  const { outer } = await inPidNamespace(t)
  const fd = namespace(t, 'pid', outer)
  for (const [call, pid] of [
    ['nsGetPidInPidns', process.pid],
    ['nsGetTgidInPidns', process.pid],
    ...withPid.map((name) => [name, 2 ** 31 - 1]),
    ...withPid.map((name) => [name, -1]),
    ...withPid.map((name) => [name, 0]),
  ]) {
    const { hint, ...error } = refused(t, () => lib[call](fd, pid))
    t.deepEqual(
      error,
      {
        name: 'Error',
        code: 'ESRCH',
        errno: -3,
        syscall: 'ioctl',
        message: 'ESRCH: no such process, ioctl',
      },
      `${call} ${pid}`,
    )
    t.regex(hint, /No process has this number/)
  }
})

test('a process above the own pid namespace cannot be seen, which is ESRCH', async (t) => {
  if (!available(t, kernelSince('6.11'), 'the translation of pids, of Linux 6.11')) return
  const seen = await inProcess(
    ({ lib, fs }) => {
      // /proc is still that of the pid namespace above, in which the parent is.
      const above = Number(fs.readlinkSync('/proc/self'))
      const parent = Number(/^PPid:\s*(\d+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1])
      const fd = fs.openSync(`/proc/${parent}/ns/pid`)
      const tell = (call, pid) => {
        try {
          return lib[call](fd, pid)
        } catch ({ code }) {
          return code
        }
      }
      return {
        own: process.pid,
        unseen: tell('nsGetPidFromPidns', parent),
        itself: tell('nsGetPidFromPidns', above),
        back: tell('nsGetPidInPidns', process.pid) === above,
      }
    },
    { with: { wrap: unsharing('--pid', '--fork', '--kill-child') } },
  )
  t.deepEqual(seen, { own: 1, unseen: 'ESRCH', itself: 1, back: true })
})

for (const call of calls) {
  test(`${call}: what is no namespace is ENOTTY, with a hint`, (t) => {
    for (const file of ['/dev/null', '/', process.execPath]) {
      const fd = owned(t, openSync(file))
      const { hint, ...error } = refused(t, () => lib[call](fd, 1))
      t.deepEqual(
        error,
        {
          name: 'Error',
          code: 'ENOTTY',
          errno: -25,
          syscall: 'ioctl',
          message: 'ENOTTY: inappropriate ioctl for device, ioctl',
        },
        file,
      )
      t.regex(hint, /is of no namespace: open \/proc\/PID\/ns\/TYPE/)
    }
  })

  test(`${call}: what is not open is EBADF`, async (t) => {
    for (const fd of [-1, 2 ** 30, 2 ** 31 - 1]) {
      t.deepEqual(
        refused(t, () => lib[call](fd, 1)),
        {
          name: 'Error',
          code: 'EBADF',
          errno: -9,
          syscall: 'ioctl',
          message: 'EBADF: bad file descriptor, ioctl',
          hint: undefined,
        },
        String(fd),
      )
    }
    const closed = await inProcess(({ lib, fs }, call) => {
      const fd = fs.openSync('/proc/self/ns/net')
      fs.closeSync(fd)
      try {
        return lib[call](fd, 1)
      } catch ({ code }) {
        return code
      }
    }, call)
    t.is(closed, 'EBADF')
  })
}

for (const [call, since, ...fitting] of [
  ['nsGetParent', '4.9', 'pid', 'user'],
  ['nsGetOwnerUid', '4.11', 'user'],
  ['nsGetMntnsId', '6.11', 'mnt'],
  ...withPid.map((name) => [name, '6.11', 'pid']),
]) {
  test(`${call}: a namespace of another type is EINVAL, and the hint names both`, (t) => {
    if (!available(t, kernelSince(since), `this ioctl, of Linux ${since}`)) return
    const others = types.filter((type) => !fitting.includes(type))
    for (const type of others) {
      const { hint, ...error } = refused(t, () => lib[call](namespace(t, type), process.pid))
      t.deepEqual(error, {
        name: 'Error',
        code: 'EINVAL',
        errno: -22,
        syscall: 'ioctl',
        message: 'EINVAL: invalid argument, ioctl',
      })
      t.is(hint, `The descriptor is of a namespace of type ${type}, and this is for ${fitting.join(' and ')}`)
    }
  })
}
