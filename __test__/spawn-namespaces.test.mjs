import cp from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import test from 'ava'
import lib from '../index.js'
import { childrenOf, hasStrace, start, statusOf, strace, temporaryDirectory } from './helpers/machine.mjs'
import { available, inProcess, inUserNamespace, isRoot, run } from './helpers/process.mjs'
import { ended, namespaces, ownNamespaces, refused, shell, types, within } from './helpers/spawning.mjs'

// What root alone may do is looked at as root alone.
const asRoot = isRoot ? test : () => {}

/** Of these types, those in which two looks differ. */
const differing = (one, other) => types.filter((type) => one[type] !== other[type])

test('Each type of namespace is created alone, and all of them at once', async (t) => {
  const own = ownNamespaces()
  const owner = isRoot ? [] : ['user']
  for (const type of types) {
    const found = await namespaces(t, within(type === 'user' && !isRoot ? [] : [type]))
    t.deepEqual(
      differing(own, found),
      types.filter((each) => each === type || owner.includes(each)),
    )
  }
  const all = await namespaces(t, { unshare: types, uidMappings: 'root', gidMappings: 'root' })
  t.deepEqual(differing(own, all), types)
  t.deepEqual(await namespaces(t, {}), own)
})

test("'root' and 'current' map the own ids, and lines what they say", async (t) => {
  const maps = async (options) =>
    (
      await shell(t, 'cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g', {
        unshare: ['user'],
        ...options,
      })
    )
      .split('\n')
      .map((line) => line.trim().replace(/\s+/g, ' '))
  const [uid, gid] = [process.getuid(), process.getgid()]
  t.deepEqual(await maps({ uidMappings: 'root', gidMappings: 'root' }), [
    `0 ${uid} 1`,
    `0 ${gid} 1`,
    '0',
    '0',
  ])
  t.deepEqual(await maps({ uidMappings: 'current', gidMappings: 'current' }), [
    `${uid} ${uid} 1`,
    `${gid} ${gid} 1`,
    `${uid}`,
    `${gid}`,
  ])
  const own = [{ inside: 7, outside: uid, count: 1 }]
  t.deepEqual(await maps({ uidMappings: own, gidMappings: own }), [`7 ${uid} 1`, `7 ${gid} 1`, '7', '7'])
})

asRoot(
  'Several lines are written, the child begins as root of its namespace, and ids are those inside',
  async (t) => {
    const lines = [
      { inside: 0, outside: 100000, count: 1000 },
      { inside: 1000, outside: 300000, count: 10 },
    ]
    const options = { unshare: ['user'], uidMappings: lines, gidMappings: lines }
    const script = 'cat /proc/self/uid_map; id -u; id -g; id -G'
    const text = (await shell(t, script, options)).replace(/ +/g, ' ')
    t.is(text, ' 0 100000 1000\n 1000 300000 10\n0\n0\n0')
    t.regex(await shell(t, script, { ...options, uid: 1005, gid: 5 }), /\n1005\n5\n5$/)
    const child = lib.spawn('sleep', ['150'], { ...options, uid: 1005 })
    t.is(statusOf(child.pid).Uid, '300005\t300005\t300005\t300005', 'seen from outside')
    child.kill('SIGKILL')
    await once(child, 'close')
    t.is(await shell(t, 'cat /proc/self/setgroups', { ...options, setgroups: 'deny' }), 'deny')
  },
)

test('Maps that the kernel refuses are an error of that step, with the file', async (t) => {
  const overlapping = [
    { inside: 0, outside: process.getuid(), count: 1 },
    { inside: 0, outside: process.getuid() + 5, count: 1 },
  ]
  const options = { unshare: ['user'], uidMappings: overlapping, gidMappings: 'root' }
  const error = await Promise.resolve()
    .then(() => refused(t, options))
    .catch((thrown) => thrown)
  // It is told before there is a process, or by the kernel.
  if (error.code !== 'ERR_INVALID_ARG_VALUE') {
    t.like(error, { code: 'EINVAL', syscall: 'write', step: 'id-map' })
    t.regex(error.path, /^\/proc\/\d+\/uid_map$/)
  }
  t.regex(error.message, /uid/)
})

test('Lines that this process may not write are left to newuidmap, whose refusal is an error of that step', async (t) => {
  const directory = temporaryDirectory(t)
  chmodSync(directory, 0o755)
  const program = path.join(directory, 'newuidmap')
  writeFileSync(program, '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  chmodSync(program, 0o755)
  const result = await inProcess(
    async ({ lib, fs }) => {
      const line = (inside) => ({ inside, outside: inside, count: 1 })
      const uidMappings = [line(0), line(100000)]
      const child = lib.spawn('true', [], { unshare: ['user'], uidMappings })
      const error = await new Promise((resolve) => child.once('error', resolve))
      const { code, syscall, step, path } = error
      return { code, syscall, step, path, children: fs.readFileSync('/proc/thread-self/children', 'utf8') }
    },
    { with: { wrap: inUserNamespace, env: { PATH: `${directory}:${process.env.PATH}` } } },
  )
  t.deepEqual(result, { code: 'EPERM', syscall: 'write', step: 'id-map', path: 'newuidmap', children: '' })
})

/** Words that make a command an ordinary user. */
const ordinary = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']

/** Words for `start`: a user namespace without maps. */
const mapless = ['unshare', '--user', 'sh', '-c', 'echo; exec sleep 150']

/** Of a program that a process, which `wrap` makes, starts with these options: its ids, as the host has them. */
const identity = (options, wrap = ['setpriv', '--groups=0,6']) =>
  inProcess(
    async ({ lib, outside }, options) => {
      const child = lib.spawn('sleep', ['150'], options)
      const error = await new Promise((resolve) => child.once('error', resolve).once('spawn', resolve))
      if (error) throw error
      const ids = await outside(child.pid)
      child.kill('SIGKILL')
      await new Promise((resolve) => child.once('close', resolve))
      return ids
    },
    {
      with: {
        wrap,
        outside: (pid) => {
          const { Uid, Gid, Groups } = statusOf(pid)
          return [Uid, Gid, Groups].map((text) => [...new Set(text.split(/\s+/))].join(' ').trim())
        },
      },
    },
    options,
  )

const lines = (inside, outside, count) => [{ inside, outside, count }]
const maps = (uidMappings, gidMappings, more) => ({ unshare: ['user'], uidMappings, gidMappings, ...more })
const container = lines(0, 100_000, 65_536)

asRoot(
  'Where one of the own ids is left out, it becomes 0, and the other is what its map says',
  async (t) => {
    for (const own of ['root', 'current', 'all']) {
      t.deepEqual(await identity(maps(container, own)), ['100000', '0', ''], own)
      t.deepEqual(await identity(maps(own, container)), ['0', '100000', ''], own)
    }
    t.deepEqual(await identity(maps('root', undefined)), ['0', '0', '0 6'], 'nobody else is asked for')
  },
)

asRoot('No id of outside stays where others are asked for', async (t) => {
  const user = lines(1000, 101_000, 1)
  for (const [options, syscall] of [
    [maps(container, undefined), 'setresgid'],
    [maps(undefined, container), 'setresuid'],
    [maps(user, user), 'setresgid'],
    [maps(user, container), 'setresuid'],
    [maps(user, user, { uid: 1000 }), 'setresgid'],
    [maps(user, user, { gid: 1000 }), 'setresuid'],
    [maps(user, user, { uid: 1001, gid: 1000 }), 'setresuid'],
  ]) {
    const error = await refused(t, options)
    t.like(error, { code: 'EINVAL', syscall, step: 'credentials' })
    t.regex(error.hint, /nor 0.* uid and gid/)
  }
  t.deepEqual(await identity(maps(user, user, { uid: 1000, gid: 1000 })), ['101000', '101000', ''])
})

asRoot(
  'Supplementary groups are left where the new user namespace denies it, or maps no group',
  async (t) => {
    for (const more of [{}, { uid: 5, gid: 5 }]) {
      const id = String(100_000 + (more.uid ?? 0))
      t.deepEqual(await identity(maps(container, container, { setgroups: 'deny', ...more })), [id, id, ''])
    }
    t.deepEqual(await identity(maps('all', undefined, { uid: 5 })), ['5', '0', ''])
    const processes = { unshare: ['user', 'pid'], setgroups: 'deny', uid: 5, gid: 5 }
    t.deepEqual(await identity(maps(container, container, processes)), ['100000', '100000', ''], 'of init')
    const script = 'id -G; cat /proc/self/setgroups; grep -v : /proc/self/uid_map'
    const told = await shell(t, script, maps(container, container, processes))
    t.is(told.replace(/ +/g, ' '), '5\ndeny\n 0 100000 65536')
  },
)

asRoot('An ordinary user who maps the own ids keeps the groups, which cannot be left', async (t) => {
  const groups = [...ordinary.slice(0, -1), '--groups=6,100']
  t.deepEqual(await identity(maps('root', 'root'), groups), ['65534', '65534', '6 100'])
  t.deepEqual(await identity(maps('root', undefined), groups), ['65534', '65534', '6 100'])
})

asRoot("Root that joins an ordinary user's namespace has none of its own groups there", async (t) => {
  const root = ['unshare', '--user', '--map-root-user']
  const { pid } = await start(t, ...ordinary, ...root, 'sh', '-c', 'echo; exec sleep 150')
  t.is(readFileSync(`/proc/${pid}/setgroups`, 'utf8'), 'deny\n')
  for (const join of [pid, { user: pid }]) t.deepEqual(await identity({ join }), ['65534', '65534', ''])
  const own = await start(t, ...mapless)
  for (const name of ['uid_map', 'gid_map']) writeFileSync(`/proc/${own.pid}/${name}`, '0 0 4294967295')
  t.deepEqual(await identity({ join: { user: own.pid } }), ['0', '0', ''])
})

test('A user namespace that knows neither the own ids nor 0 is not joined', async (t) => {
  const { pid } = await start(t, ...mapless)
  for (const join of [pid, { user: pid }]) {
    const error = await refused(t, { join })
    t.like(error, { code: 'EINVAL', syscall: 'setresgid', step: 'join' })
    t.regex(error.hint, /nor 0.* uid and gid/)
  }
})

asRoot(
  'It is joined as a user and a group that it knows, which the program is from the beginning',
  async (t) => {
    const { pid } = await start(t, ...ordinary, ...mapless)
    writeFileSync(`/proc/${pid}/uid_map`, '5 65534 1')
    writeFileSync(`/proc/${pid}/gid_map`, '5 65533 1')
    for (const [ids, syscall] of [
      [{}, 'setresgid'],
      [{ uid: 5 }, 'setresgid'],
      [{ gid: 5 }, 'setresuid'],
      [{ uid: 6, gid: 5 }, 'setresuid'],
    ]) {
      const error = await refused(t, { join: { user: pid }, ...ids })
      t.like(error, { code: 'EINVAL', syscall, step: 'join' })
    }
    const ids = { uid: 5, gid: 5 }
    t.deepEqual(await identity({ join: { user: pid }, ...ids }), ['65534', '65533', ''])
    const mounts = [{ type: 'tmpfs', source: 'none', target: '/mnt' }]
    const places = { join: { user: pid }, unshare: ['mnt'], mounts }
    t.is(await shell(t, 'stat -c %u:%g /mnt', { ...places, ...ids }), '5:5', 'what it mounts is its own')
  },
)

asRoot(
  'A caller that is mapped as 65534 stays it, and one that is only shown as that becomes 0',
  async (t) => {
    for (const [outside, becomes] of [
      [65_534, '65534'],
      [300_000, '200000'],
    ]) {
      const { pid } = await start(t, ...ordinary, ...mapless)
      for (const name of ['uid_map', 'gid_map'])
        writeFileSync(`/proc/${pid}/${name}`, `0 200000 1000\n65534 ${outside} 1`)
      t.deepEqual(await identity({ join: { user: pid } }, ordinary), [becomes, becomes, ''])
    }
  },
)

/** What /proc says from outside of the user namespace of a program that a process, which `wrap` makes, starts. */
const seen = (options, wrap) =>
  inProcess(
    async ({ lib, outside }, options) => {
      const child = lib.spawn('sleep', ['3000'], { ...options, stdio: 'ignore' })
      const error = await new Promise((resolve) => child.once('error', resolve).once('spawn', resolve))
      if (error) return [error.code, error.syscall, error.step, error.path?.replace(/\d+/, 'PID')]
      const found = await outside(child.pid)
      child.kill('SIGKILL')
      await new Promise((resolve) => child.once('close', resolve))
      return found
    },
    {
      with: {
        wrap,
        outside: (pid) =>
          ['uid_map', 'gid_map', 'setgroups'].map((name) =>
            readFileSync(`/proc/${pid}/${name}`, 'utf8').replace(/ +/g, ' ').trimEnd(),
          ),
      },
    },
    options,
  )

test("'all' maps every id that this process has to itself, and no other", async (t) => {
  const all = { unshare: ['user'], uidMappings: 'all', gidMappings: 'all' }
  const [uid, gid] = [process.getuid(), process.getgid()]
  // One process's namespace is another one's outside.
  const inside = await seen(all, inUserNamespace)
  t.deepEqual(inside.slice(0, 2), [` 0 ${uid} 1`, ` 0 ${gid} 1`])
  if (!isRoot) return
  t.deepEqual(
    (await seen(all, [])).slice(0, 2),
    ['uid_map', 'gid_map'].map((name) =>
      readFileSync(`/proc/self/${name}`, 'utf8').replace(/ +/g, ' ').trimEnd(),
    ),
  )
  const some = [
    { inside: 0, outside: 0, count: 1 },
    { inside: 1000, outside: 300_000, count: 10 },
  ]
  const source = `
    const child = require(process.argv[1]).spawn('sleep', ['3000'], ${JSON.stringify({ ...all, stdio: 'ignore' })})
    child.on('spawn', () => console.log(child.pid))
    process.stdin.on('end', () => child.kill()).resume()`
  const index = new URL('../index.js', import.meta.url).pathname
  const node = lib.spawn(process.execPath, ['-e', source, index], {
    unshare: ['user'],
    uidMappings: some,
    gidMappings: some,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const closed = once(node, 'close')
  const [pid] = await once(node.stdout.setEncoding('utf8'), 'data')
  const map = readFileSync(`/proc/${pid.trim()}/uid_map`, 'utf8').replace(/ +/g, ' ')
  node.stdin.end()
  t.is(map, ' 0 0 1\n 1000 300000 10\n')
  t.deepEqual(await closed, [0, null])
})

test("setgroups: 'allow' stays allowed, which the group alone that an ordinary user maps may not", async (t) => {
  const allow = { unshare: ['user'], uidMappings: 'root', gidMappings: 'root', setgroups: 'allow' }
  const byDefault = { ...allow, setgroups: undefined }
  const user = isRoot ? ordinary : []
  t.deepEqual(await seen(allow, user), ['EPERM', 'write', 'id-map', '/proc/PID/gid_map'])
  t.is((await seen(byDefault, user))[2], 'deny')
  if (!isRoot) return
  for (const setgroups of ['allow', 'deny', undefined])
    t.is((await seen({ ...allow, setgroups }, []))[2], setgroups ?? 'allow')
  const script = 'setpriv --groups=5,6 id -G'
  t.is(await shell(t, script, { ...maps(container, container), setgroups: 'allow' }), '0 5 6')
})

const helpers = ['/usr/bin/newuidmap', '/usr/bin/newgidmap']

asRoot(
  'For an ordinary user newuidmap and newgidmap write what /etc/subuid and /etc/subgid give, and nothing else',
  async (t) => {
    if (!available(t, helpers.every(existsSync), 'newuidmap and newgidmap (package uidmap)')) return
    const etc = temporaryDirectory(t)
    chmodSync(etc, 0o755)
    for (const name of ['passwd', 'group', 'nsswitch.conf']) {
      if (existsSync(`/etc/${name}`)) copyFileSync(`/etc/${name}`, path.join(etc, name))
    }
    for (const name of ['subuid', 'subgid']) writeFileSync(path.join(etc, name), '65534:200000:1000\n')
    const user = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
    const wrap = ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc && exec "$@"', etc, ...user]
    const maps = (mappings) =>
      inProcess(
        ({ lib }, mappings) => {
          const script = 'id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups'
          const options = {
            unshare: ['user'],
            uidMappings: mappings,
            gidMappings: mappings,
            encoding: 'utf8',
          }
          const { stdout, error } = lib.spawnSync('sh', ['-c', script], options)
          if (error) throw error
          return stdout.trim().split(/\s+/).join(' ')
        },
        { with: { wrap } },
        mappings,
      )
    const auto = '0 65534 1 1 200000 1000'
    t.is(await maps('auto'), `0 0 ${auto} ${auto} allow`)
    const lines = [{ inside: 0, outside: 200010, count: 5 }]
    t.is(await maps(lines), '0 0 0 200010 5 0 200010 5 allow')
    const error = await t.throwsAsync(maps([{ inside: 0, outside: 200990, count: 11 }]))
    t.like(error, { code: 'EPERM', syscall: 'write', step: 'id-map', path: 'newuidmap' })
    t.regex(error.hint, /subuid/)
  },
)

test('Clocks have their offsets, and wrong ones are an error of that step', async (t) => {
  const options = within(['time'], { timeOffsets: { monotonic: -0.5, boottime: 5e6 } })
  const [uptime, ...offsets] = (await shell(t, 'cat /proc/uptime /proc/self/timens_offsets', options)).split(
    '\n',
  )
  const own = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])
  t.true(Math.abs(Number(uptime.split(' ')[0]) - own - 5e6) < 1000, uptime)
  t.deepEqual(
    offsets.map((line) => line.replace(/ +/g, ' ')),
    ['monotonic -1 500000000', 'boottime 5000000 0'],
  )
  const error = await refused(t, within(['time'], { timeOffsets: { boottime: -1e12 } }))
  t.like(error, { code: 'ERANGE', syscall: 'write', step: 'time-offsets' })
})

test('Host, domain and loopback are those of the namespace, and of nobody else', async (t) => {
  const host = readFileSync('/proc/sys/kernel/hostname', 'utf8')
  const options = within(['uts', 'net'], { hostname: 'inside', domainname: 'domain' })
  const script = 'uname -n; cat /proc/sys/kernel/domainname; ip -o addr; ip -o link'
  const text = await shell(t, script, options)
  t.regex(text, /^inside\ndomain\n.*127\.0\.0\.1\/8.*\n.*::1\/128.*\n1: lo: <LOOPBACK,UP,LOWER_UP>.*$/)
  t.is(readFileSync('/proc/sys/kernel/hostname', 'utf8'), host)
  const down = await shell(t, 'ip -o addr; ip -o link', within(['net'], { network: 'none' }))
  t.regex(down, /^1: lo: <LOOPBACK> .* state DOWN/)
  const error = await refused(t, within(['uts'], { hostname: 'x'.repeat(65) })).catch((thrown) => thrown)
  t.regex(`${error.step ?? 'options.hostname'}`, /hostname/)
})

const processes = (options) => within(['pid', 'mnt', 'ipc', 'cgroup'], options)

test('init is pid 1, reaps orphans, and the program has its own end', async (t) => {
  const script = `
    cat /proc/1/comm; ls -d /proc/[0-9]*; tr "\\0" " " </proc/1/cmdline`
  t.regex(
    await shell(t, `${script}; (true & true)`, processes()),
    /^init\n\/proc\/1\n\/proc\/2\n(\/proc\/\d+\n)?init 2 \d+ \d+$/,
  )
  const end = async (text, options) => {
    const { code, signal } = await ended(lib.spawn('sh', ['-c', text], processes(options)))
    return [code, signal]
  }
  t.deepEqual(await end('exit 3'), [3, null])
  t.deepEqual(await end('kill -KILL $$'), [null, 'SIGKILL'])
  t.deepEqual(await end('kill -USR2 $$'), [null, 'SIGUSR2'])
  t.deepEqual(await end('sleep 150 & exit 4'), [4, null], 'what it leaves running ends with it')
  t.deepEqual(await end('test $$ = 1', { init: false }), [0, null])
})

test('The program finds init in its place, with nothing of the parent, however long that takes', async (t) => {
  if (!available(t, hasStrace(), 'strace')) return
  const found = await inProcess(
    async ({ lib }, options) => {
      const script = 'cat /proc/1/comm; readlink /proc/1/exe /proc/1/fd/*'
      const child = lib.spawn('sh', ['-c', script], options)
      let text = ''
      for await (const chunk of child.stdout.setEncoding('utf8')) text += chunk
      return text
    },
    { with: { wrap: strace('-e', 'trace=execveat', '-e', 'inject=execveat:delay_enter=300000') } },
    { unshare: ['user', 'pid', 'mnt'], uidMappings: 'root', gidMappings: 'root' },
  )
  t.regex(found, /^init\n\/memfd:linux-clone-init \(deleted\)\npipe:\[\d+\]\n$/)
})

test('The end of a program under init ends nobody else, where another one of its process group is stopped', async (t) => {
  const value = await inProcess(
    async ({ lib, cp }, options) => {
      // As the kernel has it, the group of a session's leader has no parent that would let the stopped one go on.
      const stopped = cp.spawn('sleep', ['1000'])
      stopped.kill('SIGSTOP')
      const status = await new Promise((resolve) => {
        lib.spawn('true', options).on('exit', (...status) => resolve(status))
      })
      stopped.kill('SIGKILL')
      return status
    },
    { with: { wrap: ['setsid', '--wait'] } },
    processes({ stdio: 'ignore' }),
  )
  t.deepEqual(value, [0, null])
})

test('Init can do nothing but what it has to, whoever traces it; signals it passes on to another user', async (t) => {
  const fields = 'CapInh CapPrm CapEff NoNewPrivs Seccomp'
  t.is(
    await shell(t, `for i in ${fields}; do grep ^$i: /proc/1/status; done`, processes()),
    ['CapInh:\t0', 'CapPrm:\t20', 'CapEff:\t20', 'NoNewPrivs:\t1', 'Seccomp:\t2']
      .map((line) => line.replace(/(Cap.*\t)(.*)/, (_, name, set) => name + set.padStart(16, '0')))
      .join('\n'),
  )
  if (!isRoot) return
  const child = lib.spawn('sleep', ['150'], processes({ uid: 1000, gid: 1000 }))
  t.true(child.kill('SIGUSR1'))
  t.deepEqual(await once(child, 'exit'), [null, 'SIGUSR1'])
})

test('Whoever is root where a program comes in cannot look into it before exec, when its memory is ours', async (t) => {
  if (!available(t, hasStrace(), 'strace')) return
  const file = path.join(temporaryDirectory(t), 'seen')
  // It looks as soon as there is another process, and ends that.
  const look = `
    echo
    until [ "$it" ]; do for each in /proc/[0-9]*; do [ $each = /proc/1 ] || it=$each; done; done
    readlink $it/exe >${file} || echo closed >${file}
    head -c 0 $it/mem 2>>${file}
    kill -KILL \${it#/proc/}
    exec sleep 3000`
  const words = ['unshare', '-Ur', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', look]
  const { child } = await start(t, ...words)
  const [pid] = childrenOf(child.pid)
  // A process's second exec takes ten seconds, as strace waits for them also when the process is gone: not Node's own, and not the
  // one that finds nothing.
  const slow = strace('-e', 'trace=execve', '-e', 'inject=execve:delay_enter=10000000:when=2')
  const end = await inProcess(
    ({ lib }, join) =>
      new Promise((resolve) => {
        const env = { PATH: '/nowhere:/bin' }
        lib.spawn('true', { join, env, stdio: 'ignore' }).on('exit', (...status) => resolve(status))
      }),
    { with: { wrap: slow } },
    pid,
  )
  t.deepEqual(end, [null, 'SIGKILL'])
  t.regex(readFileSync(file, 'utf8'), /^closed\n.*Permission denied\n$/)
})

test('init passes signals on, and SIGKILL ends everything', async (t) => {
  const waiting = async (options) => {
    const script = 'trap "exit 42" TERM; echo; while :; do sleep 150 & wait; done'
    const child = lib.spawn('sh', ['-c', script], processes(options))
    await once(child.stdout, 'data')
    return child
  }
  const first = await waiting()
  const inside = childrenOf(first.pid)
  t.is(inside.length, 1)
  t.true(first.kill())
  t.deepEqual(await once(first, 'exit'), [42, null])
  const second = await waiting()
  const others = childrenOf(second.pid)
  t.true(second.kill('SIGKILL'))
  t.deepEqual(await once(second, 'exit'), [null, 'SIGKILL'])
  t.deepEqual(others.map(statusOf), [{}], 'the program has ended with its init')
})

test('A fresh /proc shows the processes of the namespace, and the host keeps its own', async (t) => {
  t.regex(await shell(t, 'echo /proc/[0-9]*', processes()), /^\/proc\/1 \/proc\/2$/)
  const host = await shell(t, 'echo /proc/[0-9]*', processes({ proc: false }))
  t.true(host.split(' ').includes(`/proc/${process.pid}`))
  const elsewhere = await shell(
    t,
    `echo /mnt/[0-9]*; test -d /proc/${process.pid}`,
    processes({ proc: '/mnt' }),
  )
  t.is(elsewhere, '/mnt/1 /mnt/2')
  t.true(existsSync(`/proc/${process.pid}`))
})

test('A namespace is joined by pid, by path and by descriptor', async (t) => {
  const unshared = ['user', 'mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup']
  const words = ['unshare', '-UrmuinpC', '--fork', '--kill-child', '--mount-proc']
  const { child } = await start(t, ...words, 'sh', '-c', 'hostname joined; echo; exec sleep 3000')
  const [pid] = childrenOf(child.pid)
  const there = Object.fromEntries(types.map((type) => [type, readlinkSync(`/proc/${pid}/ns/${type}`)]))
  t.deepEqual(await namespaces(t, { join: pid }), there)
  t.is(await shell(t, 'hostname; id -u; cat /proc/1/comm', { join: pid }), 'joined\n0\nsleep')
  const fd = openSync(`/proc/${pid}/ns/user`)
  const some = await namespaces(t, { join: { net: `/proc/${pid}/ns/net`, user: { fd }, uts: pid } })
  closeSync(fd)
  t.deepEqual(differing(some, ownNamespaces()), ['uts', 'net', 'user'])
  t.deepEqual(
    differing(some, there),
    types.filter((type) => unshared.includes(type) && !['uts', 'net', 'user'].includes(type)),
  )
  const end = await ended(lib.spawn('sh', ['-c', 'kill -KILL $$'], { join: pid }))
  t.is(end.signal, 'SIGKILL', 'it is a child of ours')
  // One that is created beside those that are joined.
  const join = Object.fromEntries(['user', 'net', 'uts'].map((type) => [type, pid]))
  const mixed = await namespaces(t, { join, unshare: ['mnt', 'pid'] })
  t.deepEqual(differing(mixed, there), ['mnt', 'ipc', 'pid', 'cgroup'])
  const error = await refused(t, { join: { net: '/proc/self/ns/uts' } })
  t.like(error, { code: 'EINVAL', syscall: 'setns', step: 'join' })
})

/** Words for `inProcess`: a user and a UTS namespace of the test's own, so that no name of the host's is at stake. */
const withOwnName = [...inUserNamespace, '--uts']

test('Host and domain name are never those of the UTS namespace that this process is in, however that is joined', async (t) => {
  const names = (pid) => {
    const words = ['nsenter', '--target', pid, '--user', '--uts', '--preserve-credentials']
    return Promise.all([run(...words, 'uname', '-n'), run(...words, 'cat', '/proc/sys/kernel/domainname')])
  }
  const outside = (_, { pid }) => names(pid)
  const { before, after, refusals } = await inProcess(
    async ({ lib, fs, outside }) => {
      const before = await outside()
      const other = lib.spawn('sleep', ['150'], { unshare: ['net'], stdio: 'ignore' })
      const fd = fs.openSync('/proc/self/ns/uts')
      const pidfd = lib.pidfdOpen(process.pid)
      const look = () => fs.readdirSync('/proc/self/fd').length
      const refusals = []
      const joins = [other.pid, process.pid, { uts: other.pid }, { uts: '/proc/self/ns/uts' }]
      for (const join of [...joins, { uts: { fd } }, { uts: { fd: pidfd } }, { net: other.pid }]) {
        for (const name of ['hostname', 'domainname']) {
          const open = look()
          const isOf = (call) => {
            try {
              const { error, pid } = call('true', [], { join, [name]: 'oops' })
              return error?.code ?? `started ${pid}`
            } catch ({ code, message }) {
              return `${code} ${message.slice(0, 60)}`
            }
          }
          refusals.push([name, isOf(lib.spawnSync), isOf(lib.spawn)])
          // What libuv closes, it closes in the next turn.
          await new Promise(setImmediate)
          refusals.push([look() - open, fs.readFileSync('/proc/thread-self/children', 'utf8').trim()])
        }
      }
      const { pid } = other
      other.kill('SIGKILL')
      await new Promise((resolve) => other.once('close', resolve))
      return { before, after: await outside(), refusals: refusals.map((each) => each.map(String)), pid }
    },
    { with: { wrap: withOwnName, outside } },
  ).then((value) => ({
    ...value,
    refusals: value.refusals.map((each) => each.map((text) => (text === `${value.pid}` ? 'other' : text))),
  }))
  t.deepEqual(after, before)
  for (const [index, [name, ...calls]] of refusals.entries()) {
    if (index % 2 === 1) t.deepEqual([name, ...calls], ['0', 'other'], 'nothing is left of it')
    else for (const call of calls) t.regex(call, new RegExp(`^ERR_INVALID_ARG_VALUE .*options\\.${name}' `))
  }
})

test('Host and domain name are those of a UTS namespace of others, by pid, path or descriptor', async (t) => {
  const result = await inProcess(
    async ({ lib, fs, os }) => {
      const other = lib.spawn('sleep', ['150'], { unshare: ['uts'], stdio: 'ignore' })
      const file = `/proc/${other.pid}/ns/uts`
      const fd = fs.openSync(file)
      const joins = [other.pid, { uts: other.pid }, { uts: file }, { uts: { fd } }]
      const names = joins.map((join, index) => {
        const options = { join, hostname: `name${index}`, encoding: 'utf8' }
        return lib.spawnSync('uname', ['-n'], options).stdout.trim()
      })
      const last = lib.spawnSync('uname', ['-n'], { join: other.pid, encoding: 'utf8' }).stdout.trim()
      other.kill('SIGKILL')
      await new Promise((resolve) => other.once('close', resolve))
      return { names, last, own: os.hostname() }
    },
    { with: { wrap: withOwnName } },
  )
  const own = readFileSync('/proc/sys/kernel/hostname', 'utf8').trim()
  t.deepEqual(result, { names: ['name0', 'name1', 'name2', 'name3'], last: 'name3', own })
})

test('What a pid stands for is known once it is looked at: options that do not go with it are refused by name', async (t) => {
  const { child } = await start(
    t,
    ...['unshare', '--user', '--map-root-user', '--pid', '--fork', '--kill-child'],
    ...['sh', '-c', 'echo; exec sleep 3000'],
  )
  const [pid] = childrenOf(child.pid)
  const line = [{ inside: 0, outside: 0, count: 1 }]
  for (const [options, name] of [
    [{ join: pid, unshare: ['pid'] }, 'unshare'],
    [{ join: pid, unshare: ['user'], uidMappings: 'root' }, 'uidMappings'],
    [{ join: pid, unshare: ['user'], gidMappings: line }, 'gidMappings'],
    [{ join: { user: pid }, unshare: ['user'], gidMappings: line }, 'gidMappings'],
    [{ join: pid, root: '/does/not/exist' }, 'root'],
    [{ join: pid, hostname: 'x' }, 'hostname'],
  ]) {
    for (const call of [lib.spawn, lib.spawnSync]) {
      const error = t.throws(() => call('true', [], options), { code: 'ERR_INVALID_ARG_VALUE' }, name)
      t.regex(error.message, new RegExp(`'options\\.${name}' `))
      t.regex(error.stack.match(/\n {4}at .*/)[0], /spawn-namespaces\.test\.mjs/)
    }
  }
  // A process with our own stands for none.
  const beside = await namespaces(t, { join: process.pid, ...within(['pid']) })
  t.true(differing(beside, ownNamespaces()).includes('pid'))
})

asRoot('A time namespace is joined', async (t) => {
  const words = ['unshare', '--time', '--boottime', '5000000', '--fork', '--kill-child']
  const { child } = await start(t, ...words, 'sh', '-c', 'echo; exec sleep 3000')
  const [pid] = childrenOf(child.pid)
  const uptime = await shell(t, 'cat /proc/uptime', { join: { time: pid } })
  t.true(Number(uptime.split(' ')[0]) > 5e6, uptime)
})

test('The program ends with this process, not with a Worker that started it', async (t) => {
  let pid
  const outside = async (message) => {
    if (message) pid = message
    return statusOf(pid).State?.[0] ?? null
  }
  const options = processes({ init: false, stdio: 'ignore' })
  const states = await inProcess(
    async ({ workers, outside }, file, options) => {
      const source = `
        const { parentPort } = require('node:worker_threads')
        const child = require(${JSON.stringify(file)}).spawn('sleep', ['150'], ${JSON.stringify(options)})
        child.unref()
        parentPort.postMessage(child.pid)`
      const worker = new workers.Worker(source, { eval: true })
      const event = (name) => new Promise((resolve) => worker.once(name, resolve))
      // Both may come in one turn.
      const [pid] = await Promise.all(['message', 'exit'].map(event))
      return [await outside(pid)]
    },
    { with: { wrap: [], outside } },
    new URL('../index.js', import.meta.url).pathname,
    options,
  )
  t.deepEqual(states, ['S'], 'it outlives the Worker')
  // It goes with the process, which has ended.
  while (!['Z', undefined].includes(statusOf(pid).State?.[0])) await new Promise(setImmediate)
  t.pass()
})

/** Says which signal it gets, or what it reads, and ends. */
const telling = `
  const say = (text) => { console.log(String(text)); process.exit() }
  process.on('SIGUSR2', say)
  new (require('node:net').Socket)({ fd: 3 }).once('data', say)
  console.log('ready')`

/** What a program, started with these options, says when the process is killed that has started it, or reads after that. */
async function saidAfterwards(options, input) {
  const source = `
    const [index, telling, options] = process.argv.slice(1)
    const stdio = ['ignore', 'inherit', 'inherit', 3]
    require(index).spawn(process.execPath, ['-e', telling], { ...JSON.parse(options), stdio })`
  const index = new URL('../index.js', import.meta.url).pathname
  const parent = cp.spawn(process.execPath, ['-e', source, index, telling, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  })
  const exited = once(parent, 'exit')
  const lines = createInterface(parent.stdout)[Symbol.asyncIterator]()
  const said = [(await lines.next()).value]
  parent.kill('SIGKILL')
  await exited
  // The kernel has sent the signal by now, if any: to init, which may still have to pass it on.
  if (input) parent.stdio[3].write(input)
  for await (const line of lines) said.push(line)
  parent.stdio[3].destroy()
  return said.join(', ')
}

test('When this process ends, the program gets the signal that was chosen, also from init, or none at all', async (t) => {
  for (const options of [
    {},
    { parentDeathSignal: null },
    { parentDeathSignal: 0 },
    processes({ parentDeathSignal: null }),
    processes({ parentDeathSignal: null, init: false }),
  ]) {
    t.is(await saidAfterwards(options, 'go on'), 'ready, go on', JSON.stringify(options))
  }
  for (const [options, expected] of [
    [{ parentDeathSignal: 'SIGUSR2' }, 'ready, SIGUSR2'],
    [{ parentDeathSignal: 'SIGKILL' }, 'ready'],
    [processes(), 'ready'],
    [processes({ init: false }), 'ready'],
    [processes({ parentDeathSignal: 'SIGUSR2' }), 'ready, SIGUSR2'],
    [processes({ parentDeathSignal: 'SIGUSR2', init: false }), 'ready, SIGUSR2'],
  ]) {
    t.is(await saidAfterwards(options), expected, JSON.stringify(options))
  }
})

test('Nothing is left of a start that failed, or of a program that has ended', async (t) => {
  const look = () => [readdirSync('/proc/self/fd').length, childrenOf(process.pid).length]
  await inProcess(
    async ({ lib, fs }, options) => {
      const look = () => [
        fs.readdirSync('/proc/self/fd').length,
        fs.readFileSync('/proc/thread-self/children', 'utf8'),
      ]
      const once = (command, more) =>
        new Promise((resolve) => {
          const child = lib.spawn(command, [], { ...options, stdio: 'ignore', ...more })
          child.once('error', resolve)
          child.once('close', resolve)
        })
      await once('true')
      const before = look()
      for (let round = 0; round < 20; round += 1) {
        await Promise.all([
          once('true'),
          once('missing'),
          once('true', { cwd: '/missing' }),
          once('true', { init: false }),
        ])
      }
      if (`${look()}` !== `${before}`) throw new Error(`${before} has become ${look()}`)
    },
    { with: { wrap: [] } },
    processes(),
  )
  t.is(look().length, 2)
})

test('What the host lacks is told by step: namespaces beyond the limit', async (t) => {
  const error = await inProcess(
    async ({ lib, fs }) => {
      fs.writeFileSync('/proc/sys/user/max_uts_namespaces', '0')
      const child = lib.spawn('true', [], { unshare: ['uts'] })
      return new Promise((resolve) =>
        child.once('error', ({ code, step, syscall }) => resolve({ code, step, syscall })),
      )
    },
    { with: { wrap: inUserNamespace } },
  )
  t.like(error, { code: 'ENOSPC', step: 'clone' })
})
