import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmdirSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import lib from '../index.js'
import { hasStrace, statusOf, strace } from './helpers/machine.mjs'
import { available, isRoot } from './helpers/process.mjs'
import { ended, refused, rootDirectory, shell, within } from './helpers/spawning.mjs'

/** What /proc says of a program that runs, seen from outside. */
async function status(options) {
  const child = lib.spawn('sleep', ['150'], { ...options, init: false })
  const fields = statusOf(child.pid)
  const limits = readFileSync(`/proc/${child.pid}/limits`, 'utf8')
  const cgroup = readFileSync(`/proc/${child.pid}/cgroup`, 'utf8')
  child.kill('SIGKILL')
  await once(child, 'close')
  return { ...fields, limits, cgroup }
}

const SETS = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']
const mask = (...numbers) => numbers.reduce((bits, number) => bits | (1n << BigInt(number)), 0n)
const sets = (fields) => SETS.map((name) => BigInt(`0x${fields[name]}`))

test('Capabilities are kept in all five sets, over exec, by root and by others', async (t) => {
  const kept = ['CAP_NET_ADMIN', 'CAP_CHOWN', 'CAP_SYS_ADMIN']
  const owned = within([], { capabilities: kept })
  t.deepEqual(
    sets(await status(owned)),
    SETS.map(() => mask(12, 0, 21)),
  )
  t.deepEqual(
    sets(await status({ ...owned, capabilities: [] })),
    SETS.map(() => 0n),
  )
  if (isRoot) {
    const ordinary = await status({ capabilities: kept, uid: 1000, gid: 1000 })
    t.deepEqual(
      sets(ordinary),
      SETS.map(() => mask(12, 0, 21)),
    )
    t.is(ordinary.Uid, '1000\t1000\t1000\t1000')
    t.is(ordinary.Groups, '')
    t.is(sets(await status({ uid: 1000 }))[1], 0n, 'without the option they go with uid 0')
  }
  t.throws(() => lib.spawn('true', [], { capabilities: ['CAP_FLY'] }), {
    code: 'ERR_INVALID_ARG_VALUE',
    message: /options\.capabilities/,
  })
})

test('Capabilities that are not there are an error of that step', async (t) => {
  // The caller's own, of which a namespace's user has none outside.
  const wrap = isRoot
    ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--reuid=65534', '--clear-groups']
    : []
  const file = JSON.stringify(new URL('../index.js', import.meta.url).pathname)
  const script = `require(${file}).spawn('true', [], { capabilities: ['CAP_CHOWN'] }).on('error', ({ code, step, syscall }) => console.log(code, step, syscall))`
  const words = [...wrap, process.execPath, '-e', script]
  const { stdout } = await ended(lib.spawn(words[0], words.slice(1)))
  t.is(stdout, isRoot ? 'EPERM capabilities capset\n' : 'EPERM capabilities prctl\n')
})

test('Privileges are not gained any more', async (t) => {
  t.is((await status({ noNewPrivileges: true })).NoNewPrivs, '1')
  t.is((await status({})).NoNewPrivs, '0')
})

/** Instructions of classic BPF. */
function program(...instructions) {
  const bytes = Buffer.alloc(8 * instructions.length)
  for (const [index, [code, jt, jf, k]] of instructions.entries()) {
    bytes.writeUInt16LE(code, 8 * index)
    bytes[8 * index + 2] = jt
    bytes[8 * index + 3] = jf
    bytes.writeUInt32LE(k, 8 * index + 4)
  }
  return bytes
}

/** Answers uname(2), whatever its number is, and allows the rest. */
const UNAME = { x64: 63, arm64: 160 }[process.arch]
const [LOAD, EQUALS, RETURN] = [0x20, 0x15, 0x06]
const [ALLOW, ERRNO, KILL] = [0x7fff0000, 0x50000, 0x80000000]
const noUname = program(
  [LOAD, 0, 0, 0],
  [EQUALS, 0, 1, UNAME],
  [RETURN, 0, 0, ERRNO | 95],
  [RETURN, 0, 0, ALLOW],
)

test('A filter answers system calls, and is in force in the program alone', async (t) => {
  const options = { seccomp: noUname, noNewPrivileges: true }
  t.is((await status(options)).Seccomp, '2')
  const { code, stderr } = await ended(lib.spawn('uname', ['-r'], options))
  t.is(code, 1)
  t.regex(stderr, /Operation not supported/)
  t.is(await shell(t, 'uname -s', {}), 'Linux')
  // With an init, which it does not hold back.
  const inside = within(['pid'], { ...options, proc: false })
  t.is((await ended(lib.spawn('uname', [], inside))).code, 1)
  const killed = await ended(lib.spawn('true', [], { ...options, seccomp: program([RETURN, 0, 0, KILL]) }))
  t.is(killed.signal, 'SIGSYS')
})

test('A filter that is none is an error', async (t) => {
  const start = (seccomp) => lib.spawn('true', [], { seccomp, noNewPrivileges: true })
  for (const length of [0, 7, 12, 8 * 4097]) {
    t.throws(() => start(new Uint8Array(length)), { message: /options\.seccomp/ })
  }
  const options = { seccomp: program([LOAD, 0, 0, 0]), noNewPrivileges: true }
  t.like(await refused(t, options), { code: 'EINVAL', syscall: 'seccomp', step: 'seccomp' })
  if (isRoot) return
  t.like(await refused(t, { seccomp: noUname }), { code: 'EACCES', syscall: 'seccomp', step: 'seccomp' })
})

test('Resources are limited, exactly, and those of nobody else', async (t) => {
  const { limits } = await status({
    rlimits: {
      nofile: { soft: 33, hard: 44 },
      core: 0,
      cpu: 1e6,
      as: Number.POSITIVE_INFINITY,
      fsize: 2 ** 52,
    },
  })
  const line = (name) => new RegExp(`^${name} +(\\S+) +(\\S+)`, 'm').exec(limits).slice(1)
  t.deepEqual(line('Max open files'), ['33', '44'])
  t.deepEqual(line('Max core file size'), ['0', '0'])
  t.deepEqual(line('Max cpu time'), ['1000000', '1000000'])
  t.deepEqual(line('Max address space'), ['unlimited', 'unlimited'])
  t.deepEqual(line('Max file size'), [`${2 ** 52}`, `${2 ** 52}`])
  t.is(await shell(t, 'ulimit -n', { rlimits: { nofile: 20 } }), '20')
  t.throws(() => lib.spawn('true', [], { rlimits: { nofiles: 3 } }), { message: /nofile/ })
  const error = await refused(t, { rlimits: { nofile: { soft: 5, hard: 4 } } }).catch((thrown) => thrown)
  t.regex(error.step ?? error.message, /rlimit/)
})

test('Where close_range(2) is refused no other descriptor reaches the program, whatever its /proc and limits say', async (t) => {
  if (!available(t, hasStrace(), 'strace')) return
  const { root, mounts } = rootDirectory(t)
  mounts.push({ source: '/proc', target: '/seen', options: ['rbind'] })
  const stdio = ['ignore', 'pipe', 'inherit', 'ignore', 50]
  const fake = within(['mnt'], { root, mounts, stdio })
  const script = `
    const [file, fake] = process.argv.slice(1)
    const { rmdirSync } = require('fs')
    const { spawnSync } = require(file)
    const list = (options) => console.log(String(spawnSync('ls', ['/seen/self/fd'], options).stdout).split('\\n').join(' '))
    const options = JSON.parse(fake)
    list(options)
    for (const directory of ['fd', 'self', '']) rmdirSync(options.root + '/proc/' + (directory === 'fd' ? 'self/fd' : directory))
    list(options)
    list({ ...options, rlimits: { nofile: 32 } })`
  mkdirSync(path.join(root, 'proc/self/fd'), { recursive: true })
  const words = strace('-e', 'trace=close_range', '-e', 'inject=close_range:error=ENOSYS')
  const file = new URL('../index.js', import.meta.url).pathname
  const passwd = openSync('/etc/passwd')
  // Node marks those that it finds open from 0 on, up to the first that is not.
  const inherited = ['ignore', 'pipe', 'inherit', ...Array(47).fill('ignore'), passwd]
  const child = spawn(
    words[0],
    [...words.slice(1), process.execPath, '-e', script, file, JSON.stringify(fake)],
    {
      stdio: inherited,
    },
  )
  closeSync(passwd)
  t.is((await ended(child)).stdout, '0 1 2 3 4 \n'.repeat(3))
})

test('A number that is no descriptor is no cgroup: an error of that step, and no process', async (t) => {
  for (const cgroup of [-1, -100, 2 ** 31 - 1]) {
    t.like(await refused(t, { cgroup }), { code: 'EBADF', step: 'cgroup' }, `${cgroup}`)
    t.like(lib.spawnSync('true', [], { cgroup }).error, { code: 'EBADF', step: 'cgroup' }, `${cgroup}`)
  }
})

/** Where cgroups of version 2 are. */
const unified = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((place) =>
  existsSync(`${place}/cgroup.procs`),
)

;(isRoot ? test : () => {})(
  'The program is born in its cgroup, which is the root of a new cgroup namespace',
  async (t) => {
    if (!available(t, unified !== undefined, 'a unified cgroup hierarchy')) return
    const directory = path.join(unified, `linux-clone-${process.pid}`)
    mkdirSync(directory)
    try {
      const own = (text) => /^0::(.*)$/m.exec(text)[1]
      t.is(own((await status({ cgroup: directory })).cgroup), `/${path.basename(directory)}`)
      const fd = openSync(directory)
      t.is(own((await status({ cgroup: fd })).cgroup), `/${path.basename(directory)}`)
      t.is(own(await shell(t, 'cat /proc/self/cgroup', { cgroup: fd, unshare: ['cgroup'] })), '/')
      t.is(
        own(await shell(t, 'cat /proc/self/cgroup', { cgroup: fd, unshare: ['pid'], proc: false })),
        `/${path.basename(directory)}`,
      )
      closeSync(fd)
    } finally {
      rmdirSync(directory)
    }
    const missing = await refused(t, { cgroup: directory }).catch((thrown) => thrown)
    t.like(missing, { code: 'ENOENT', step: 'cgroup', path: directory })
    const wrong = openSync('/')
    t.like(await refused(t, { cgroup: wrong }), { code: 'EBADF', step: 'cgroup' })
    closeSync(wrong)
  },
)
