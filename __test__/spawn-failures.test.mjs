// What the system refuses of a start is told by step and call, and nothing is left of it.
import { chmodSync, existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { hasStrace, start, strace, temporaryDirectory } from './helpers/machine.mjs'
import { marked } from './helpers/marked.mjs'
import { available, inProcess, inUserNamespace, isRoot } from './helpers/process.mjs'
import { rootDirectory, within } from './helpers/spawning.mjs'

// With a directory in it that may not be searched, execvp says EACCES of what is not there.
process.env.PATH = '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin'

/** The words that give a process a tree of its own, in which everything is shared. */
const inSharedTree = ['unshare', ...(isRoot ? [] : ['-Ur']), '-m', '--propagation', 'shared']

let count = 0

/**
 * The errors of these starts, each a pair of a command and options, in a process that `wrap` makes; and what has changed by
 * them, and by their like under spawnSync, of its mounts, descriptors, host name, and the processes that bear its mark.
 */
async function failures(wrap, starts) {
  const mark = `spawn-failures-${process.pid}-${count++}`
  return inProcess(
    async ({ lib, fs, os, outside }, starts) => {
      const links = () =>
        fs.readdirSync('/proc/self/fd').map((fd) => {
          try {
            return `${fd} ${fs.readlinkSync(`/proc/self/fd/${fd}`)}`
          } catch {
            return fd // That of the directory itself.
          }
        })
      const children = () =>
        fs
          .readdirSync('/proc/self/task')
          .map((tid) => fs.readFileSync(`/proc/self/task/${tid}/children`, 'utf8'))
      const look = async () => ({
        mounts: fs.readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n'),
        descriptors: links(),
        children: children().join(''),
        processes: await outside(),
        hostname: os.hostname(),
        directory: process.cwd(),
      })
      const errors = {}
      const all = async () => {
        for (const [about, [command, options]] of Object.entries(starts)) {
          const child = lib.spawn(command, [], { stdio: 'ignore', ...options })
          const closed = new Promise((resolve) => child.once('close', resolve))
          const error = await new Promise((resolve) =>
            child.once('error', resolve).once('exit', (...status) => resolve(new Error(String(status)))),
          )
          await closed
          const sync = lib.spawnSync(command, [], { stdio: 'ignore', ...options })
          const said = ({ code, syscall, step } = {}) => `${code} ${syscall?.split(' ')[0]} ${step}`
          errors[about] = [said(error), said(sync.error).replace('spawnSync', 'spawn')]
        }
      }
      // What is opened once is open.
      await all()
      await look()
      const before = await look()
      await all()
      const after = await look()
      const left = Object.keys(before).filter((key) => `${before[key]}` !== `${after[key]}`)
      return { errors, left: left.map((key) => [key, before[key], after[key]]) }
    },
    { with: { wrap, env: { LINUX_CLONE_MARK: mark }, outside: () => marked(mark) } },
    starts,
  )
}

/** That these starts fail as they are to: `starts` have, by what they are about, a command, options, and the error. */
async function refuses(t, wrap, starts) {
  const entries = Object.entries(starts)
  const given = entries.map(([about, [command, options]]) => [about, [command, options]])
  const { errors, left } = await failures(wrap, Object.fromEntries(given))
  t.deepEqual(errors, Object.fromEntries(entries.map(([about, [, , said]]) => [about, [said, said]])))
  t.deepEqual(left, [])
}

/** A tree, processes, hosts, a network and a root of their own, as far as a start comes. */
function isolated(t, options = {}) {
  const { root, mounts } = rootDirectory(t)
  const { types = ['mnt', 'pid', 'uts', 'net', 'ipc'], ...more } = options
  const whole = { root, hostname: 'inside', ...more }
  return within(types, {
    ...whole,
    mounts: [...mounts, { type: 'dev', target: '/dev' }, ...(more.mounts ?? [])],
  })
}

test('Nothing is left of a start that failed, at whatever step: no mount, process or descriptor', async (t) => {
  const missing = 'linux-clone-no-such-program'
  const far = { nofile: 2 ** 40 }
  const nobody = { unshare: ['user', 'pid'], uidMappings: 'root', gidMappings: 'root', uid: 5 }
  await refuses(t, inSharedTree, {
    exec: [missing, isolated(t), 'ENOENT spawn exec'],
    'exec, as pid 1': [missing, isolated(t, { init: false }), 'ENOENT spawn exec'],
    'exec, detached': [missing, { detached: true }, 'ENOENT spawn exec'],
    chdir: ['true', isolated(t, { cwd: '/missing' }), 'ENOENT chdir chdir'],
    'chdir, alone': ['true', { cwd: '/missing' }, 'ENOENT chdir chdir'],
    'mount, of what is not there': [
      'true',
      isolated(t, { mounts: [{ source: '/missing', target: '/x' }] }),
      'ENOENT open_tree mount',
    ],
    'mount, of an unknown type': [
      'true',
      isolated(t, { mounts: [{ type: 'nosuchfs', target: '/x' }] }),
      'ENODEV mount mount',
    ],
    'mount, in the tree that is there': [
      'true',
      within(['mnt'], {
        mounts: [
          { type: 'tmpfs', target: '/mnt' },
          { type: 'tmpfs', target: '/mnt/missing' },
        ],
      }),
      'ENOENT openat2 mount',
    ],
    'time-offsets': [
      'true',
      isolated(t, { types: ['mnt', 'time'], hostname: undefined, timeOffsets: { boottime: -1e12 } }),
      'ERANGE write time-offsets',
    ],
    rlimit: ['true', isolated(t, { rlimits: far }), 'EPERM prlimit rlimit'],
    'rlimit, alone': ['true', { rlimits: far }, 'EPERM prlimit rlimit'],
    credentials: ['true', nobody, 'EINVAL setuid credentials'],
    join: ['true', { join: { net: '/proc/self/ns/uts' } }, 'EINVAL setns join'],
    cgroup: ['true', { cgroup: '/missing' }, 'ENOENT open cgroup'],
  })
})

test("What propagation: 'shared' lets out stays where a later step fails, and nothing else does", async (t) => {
  const mounts = ['/mnt', '/mnt/missing'].map((target) => ({ type: 'tmpfs', target }))
  const starts = { mount: ['true', { unshare: ['mnt'], propagation: 'shared', mounts }] }
  const { errors, left } = await failures(inSharedTree, starts)
  t.deepEqual(errors, { mount: Array(2).fill('ENOENT openat2 mount') })
  t.deepEqual(
    left.map(([what, before, after]) => [what, after.length - before.length]),
    [['mounts', 2]],
  )
})

test('Where the own groups may not be left, a namespace in which they may is refused', async (t) => {
  const denied = (setgroups) => ({ unshare: ['user'], uidMappings: 'root', gidMappings: 'root', setgroups })
  // unshare(1) has denied it, and what is below may not allow it again.
  await refuses(t, inUserNamespace, { setgroups: ['true', denied('allow'), 'EPERM write setgroups'] })
})

test('Where / is no mount, as in a chroot, no propagation can be given', async (t) => {
  const place = temporaryDirectory(t)
  chmodSync(place, 0o755)
  mkdirSync(path.join(place, 'below'))
  const script = `
    mount -t tmpfs none ${place}
    mkdir ${place}/below
    for i in /*; do
      if [ -L $i ]; then cp -P $i ${place}/below$i
      elif [ -d $i ]; then mkdir ${place}/below$i; mount --rbind $i ${place}/below$i
      fi
    done
    cd ${process.cwd()}
    exec chroot ${place}/below "$@"`
  const wrap = ['unshare', ...(isRoot ? [] : ['-Ur']), '-m', 'sh', '-c', script, 'sh']
  const starts = ['private', 'slave', 'shared'].map((propagation) => [
    propagation,
    ['true', { unshare: ['mnt', 'pid'], proc: false, propagation }, 'EINVAL mount propagation'],
  ])
  await refuses(t, wrap, Object.fromEntries(starts))
})

test('Calls that never fail by themselves are told like the others where a filter refuses them', async (t) => {
  if (!available(t, hasStrace(), 'strace')) return
  const calls = 'sethostname,setdomainname,socket,pivot_root,setsid'
  const wrap = [...inSharedTree, ...strace('-e', `trace=${calls}`, '-e', `inject=${calls}:error=EPERM`)]
  const { root, mounts } = rootDirectory(t)
  const over = { type: 'tmpfs', target: '/mnt' }
  await refuses(t, wrap, {
    hostname: [
      'true',
      within(['mnt', 'pid', 'uts'], { hostname: 'inside', mounts: [over] }),
      'EPERM sethostname hostname',
    ],
    domainname: ['true', within(['uts'], { domainname: 'domain' }), 'EPERM setdomainname hostname'],
    network: ['true', within(['net', 'pid', 'mnt']), 'EPERM socket network'],
    'pivot-root': ['true', within(['mnt', 'pid'], { root, mounts }), 'EPERM pivot_root pivot-root'],
    session: ['true', within(['ipc'], { detached: true }), 'EPERM setsid credentials'],
  })
})

;(isRoot ? test : () => {})('Who has not the privilege is told what for, and nothing is left', async (t) => {
  const wrap = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--reuid=65534', '--clear-groups']
  const { pid } = await start(t, 'unshare', '--uts', 'sh', '-c', 'echo; exec sleep 3000')
  await refuses(t, wrap, {
    clone: ['true', { unshare: ['uts'] }, 'EPERM clone clone'],
    join: ['true', { join: { uts: pid } }, 'EACCES open join'],
    'pivot-root': ['true', { root: '/' }, 'EPERM chroot pivot-root'],
  })
})

/** Where cgroups of version 2 are. */
const unified = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((place) =>
  existsSync(`${place}/cgroup.procs`),
)

;(isRoot ? test : () => {})(
  'The cgroup of a start that failed has nobody in it, and can be removed',
  async (t) => {
    if (!available(t, unified !== undefined, 'a unified cgroup hierarchy')) return
    const cgroup = path.join(unified, `linux-clone-failures-${process.pid}`)
    mkdirSync(cgroup)
    try {
      const missing = 'linux-clone-no-such-program'
      await refuses(t, [], {
        exec: [missing, { cgroup }, 'ENOENT spawn exec'],
        'exec, with init': [missing, { cgroup, unshare: ['pid', 'mnt', 'cgroup'] }, 'ENOENT spawn exec'],
        mount: [
          'true',
          { cgroup, unshare: ['pid', 'mnt'], mounts: [{ source: '/missing', target: '/mnt' }] },
          'ENOENT open_tree mount',
        ],
        chdir: ['true', { cgroup, cwd: '/missing' }, 'ENOENT chdir chdir'],
      })
      t.is(readFileSync(path.join(cgroup, 'cgroup.procs'), 'utf8'), '')
    } finally {
      rmdirSync(cgroup)
    }
  },
)
