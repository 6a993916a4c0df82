import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import test from 'ava'
import lib from '../index.js'
import { childrenOf, hasStrace, strace, temporaryDirectory } from './helpers/machine.mjs'
import { available, inProcess, isRoot } from './helpers/process.mjs'
import { ended, refused, rootDirectory, shell, within } from './helpers/spawning.mjs'

/** In a root of its own, with the host's programs. */
const rooted = (t, types = ['mnt', 'pid'], options = {}) => {
  const { root, mounts } = rootDirectory(t)
  return within(types, { root, ...options, mounts: [...mounts, ...(options.mounts ?? [])] })
}

/** The mounts of a shell, as mountinfo has them: mount point, options, type. */
async function mounted(t, options, script = '') {
  const lines = (await shell(t, `${script}\ncat /proc/self/mountinfo`, options)).split('\n')
  return lines.filter(Boolean).map((line) => {
    const [mount, rest] = line.split(' - ')
    const fields = mount.split(' ')
    return {
      on: fields[4],
      options: fields[5].split(','),
      optional: fields.slice(6),
      type: rest.split(' ')[0],
      data: rest.split(' ')[2].split(','),
    }
  })
}

const hostMounts = () => readFileSync('/proc/self/mountinfo', 'utf8')

test('A new root holds what was mounted in it, in that order, and nothing of the old one', async (t) => {
  const before = hostMounts()
  const options = rooted(t, ['mnt', 'pid'], {
    mounts: [
      { type: 'tmpfs', target: 'tmp', options: ['size=64k', 'mode=1777', 'nodev', 'nosuid'] },
      { type: 'tmpfs', target: '/tmp/inner/most', options: ['noexec'] },
      { type: 'bind', source: '/etc/passwd', target: '/etc/passwd', options: ['ro', 'nosuid'] },
      { type: 'bind', source: '/missing', target: '/missing', optional: true },
    ],
  })
  const found = await mounted(t, options)
  t.deepEqual(
    found.map(({ on }) => on).filter((on) => !/^\/(usr|bin|lib)/.test(on)),
    ['/', '/proc', '/tmp', '/tmp/inner/most', '/etc/passwd'],
  )
  const at = (place) => found.find(({ on }) => on === place)
  t.true(['rw', 'nosuid', 'nodev'].every((option) => at('/tmp').options.includes(option)))
  t.true(at('/tmp').data.includes('size=64k'))
  t.true(at('/tmp/inner/most').options.includes('noexec'))
  t.true(['ro', 'nosuid'].every((option) => at('/etc/passwd').options.includes(option)))
  t.true(['nosuid', 'nodev', 'noexec'].every((option) => at('/proc').options.includes(option)))
  const { code, stderr } = await ended(lib.spawn('sh', ['-c', 'echo x >/etc/passwd'], options))
  t.not(code, 0)
  t.regex(stderr, /Read-only/)
  t.is(
    await shell(t, 'pwd; echo /*; stat -c %a /tmp', options),
    // Not every processor's ABI has a /lib64.
    `/\n${existsSync('/lib64') ? '/bin /etc /lib /lib64' : '/bin /etc /lib'} /proc /tmp /usr\n1777`,
  )
  t.is(hostMounts(), before, 'the host has its own tree')
})

test('A minimal /dev works, and has nothing else', async (t) => {
  const options = rooted(t, ['mnt', 'pid'], { mounts: [{ type: 'dev', target: '/dev' }] })
  const script = `
    cd /dev; echo *
    echo gone >null; head -c 3 zero | od -An -tx1; head -c 2 urandom | wc -c
    (echo out >stdout) | cat; readlink fd stdin stdout stderr ptmx
    echo kept >shm/file; cat shm/file; ls /dev/pts
    (head -c 1 zero >full) 2>&1 | grep -o 'No space.*'`
  t.is(
    await shell(t, script, options),
    [
      'fd full null ptmx pts random shm stderr stdin stdout tty urandom zero',
      ' 00 00 00',
      '2',
      'out',
      '/proc/self/fd',
      '/proc/self/fd/0',
      '/proc/self/fd/1',
      '/proc/self/fd/2',
      'pts/ptmx',
      'kept',
      'ptmx',
      'No space left on device',
    ].join('\n'),
  )
})

test('A minimal /dev over the own one has the devices of that', async (t) => {
  const options = within(['mnt'], { mounts: [{ type: 'dev', target: '/dev' }] })
  t.is(
    await shell(t, 'echo gone >/dev/null; head -c 2 /dev/zero | od -An -tx1; cd /dev; echo *', options),
    ' 00 00\nfd full null ptmx pts random shm stderr stdin stdout tty urandom zero',
  )
})

/**
 * Stops what is started once it has made its `count`-th system call of a kind, which leaves a mount on `target`; calls
 * `meanwhile`, and lets it go on.
 */
function interrupted({ call, count, target, meanwhile }, ...words) {
  const wrap = strace('-e', `trace=${call}`, '-e', `inject=${call}:signal=SIGSTOP:when=${count}`)
  const interrupt = async (pid) => {
    for (;;) {
      const [child] = childrenOf(pid).flatMap(childrenOf)
      if (child && readFileSync(`/proc/${child}/mountinfo`, 'utf8').includes(` ${target} `)) {
        meanwhile()
        process.kill(child, 'SIGCONT')
        return
      }
      await new Promise(setImmediate)
    }
  }
  let end
  const outside = (_, { pid }) => {
    end = interrupt(pid)
  }
  const started = async ({ lib, outside }, ...given) => {
    await outside()
    const { error, stdout } = lib.spawnSync(...given)
    return { code: error?.code, step: error?.step, stdout: stdout?.toString() }
  }
  return inProcess(started, { with: { wrap, outside } }, ...words).finally(() => end)
}

function exchange(one, other) {
  renameSync(one, `${one}-away`)
  renameSync(other, one)
  renameSync(`${one}-away`, other)
}

test('Who owns the root cannot put another directory in the place of a /dev that is being made', async (t) => {
  if (!available(t, hasStrace(), 'strace')) return
  const [root, outside] = [temporaryDirectory(t), temporaryDirectory(t)]
  chmodSync(outside, 0o755)
  const [dev, other] = [path.join(root, 'dev'), path.join(root, 'other')]
  mkdirSync(dev)
  mkdirSync(other)
  symlinkSync(outside, path.join(other, 'shm'))
  const found = await interrupted(
    // The first makes the tree private.
    { call: 'mount', count: 2, target: dev, meanwhile: () => exchange(dev, other) },
    '/missing',
    [],
    within(['mnt'], { root, mounts: [{ type: 'dev', target: '/dev' }] }),
  )
  t.like(found, { code: 'ENOENT', step: 'exec' })
  t.is(statSync(outside).mode & 0o7777, 0o755)
  t.deepEqual([readdirSync(dev), readdirSync(other)], [['shm'], []])
})

test('Who owns the root cannot put another mount in the place of one that is to be changed', async (t) => {
  if (!available(t, hasStrace(), 'strace')) return
  const { root, mounts } = rootDirectory(t)
  const [one, other] = [path.join(root, 'one'), path.join(root, 'other')]
  const sources = [temporaryDirectory(t), temporaryDirectory(t)]
  for (const directory of [one, other]) mkdirSync(directory)
  const added = [
    { source: sources[0], target: '/one' },
    { source: sources[1], target: '/other' },
    { target: 'one/', options: ['remount', 'bind', 'ro'] },
  ]
  const { stdout } = await interrupted(
    // The root, what is in it, and these two.
    {
      call: 'move_mount',
      count: mounts.length + 3,
      target: other,
      meanwhile: () => exchange(one, other),
    },
    'cat',
    ['/proc/self/mountinfo'],
    within(['mnt', 'pid'], { root, mounts: [...mounts, ...added] }),
  )
  const options = sources.map((source) => {
    const line = stdout.split('\n').find((each) => source.endsWith(each.split(' ')[3]?.slice(1) || ' '))
    return line?.split(' ').slice(4, 6).join(' ').split(',')[0]
  })
  t.deepEqual(options, ['/other ro', '/one rw'])
})

test('A propagation is that of the mount that was made with it, or is there', async (t) => {
  const directory = temporaryDirectory(t)
  const options = (...mounts) => within(['mnt'], { mounts })
  const tmpfs = { type: 'tmpfs', target: directory }
  const shared = async (...mounts) =>
    (await mounted(t, options(...mounts)))
      .filter(({ on }) => on === directory)
      .map(({ optional }) => /^shared:/.test(optional[0]))
  t.deepEqual(await shared({ ...tmpfs, options: ['shared'] }), [true])
  t.deepEqual(await shared(tmpfs, { ...tmpfs, options: ['shared'] }), [false, true])
  t.deepEqual(await shared(tmpfs, tmpfs, { target: directory, options: ['shared'] }), [false, true])
})

test('The working directory is what its path leads to after the mounts, as far as it leads', async (t) => {
  const [directory, source] = [temporaryDirectory(t), temporaryDirectory(t)]
  mkdirSync(path.join(directory, 'sub'))
  writeFileSync(path.join(source, 'other'), '')
  writeFileSync(path.join(directory, 'outside'), '')
  const script = 'pwd -P; echo *; echo >left'
  const found = await inProcess(
    async ({ lib, fs }, directory, source, script) => {
      const sub = `${directory}/sub`
      const there = (targets, options) => {
        const mounts = targets.map((target) => ({ type: 'tmpfs', target, create: target !== directory }))
        const spawned = lib.spawnSync('sh', ['-c', script], { unshare: ['mnt'], mounts, ...options })
        const { error, stdout } = spawned
        return error ? [error.code, error.syscall, error.step, error.path] : stdout.toString()
      }
      const before = fs.readFileSync('/proc/self/mountinfo', 'utf8')
      process.chdir(directory)
      const all = { at: there([directory]), relative: there([directory, sub], { cwd: 'sub' }) }
      process.chdir('sub')
      all.below = there([directory, sub])
      all.missing = there([directory])
      all.bound = there([], { mounts: [{ source, target: directory }] })
      all.elsewhere = there([directory], { cwd: directory })
      all.uncovered = there([`${directory}/s`])
      all.untouched = fs.readFileSync('/proc/self/mountinfo', 'utf8') === before
      fs.mkdirSync('gone')
      process.chdir('gone')
      fs.rmdirSync(`${sub}/gone`)
      all.removed = there([directory])
      return all
    },
    directory,
    source,
    script,
  )
  t.deepEqual(found, {
    at: `${directory}\n*\n`,
    relative: `${directory}/sub\n*\n`,
    below: `${directory}/sub\n*\n`,
    missing: `${directory}\n*\n`,
    bound: `${directory}\nother\n`,
    elsewhere: `${directory}\n*\n`,
    uncovered: `${directory}/sub\n*\n`,
    untouched: true,
    removed: ['ENOENT', 'getcwd', 'chdir', null],
  })
  t.deepEqual(readdirSync(directory), ['outside', 's', 'sub'])
  t.deepEqual(readdirSync(path.join(directory, 'sub')), ['left'])
  t.deepEqual(readdirSync(source), ['left', 'other'])
})

test('Every type of file system is mounted: sysfs, devpts, mqueue, cgroup2, overlay, and others by name', async (t) => {
  const [lower, upper] = [temporaryDirectory(t), temporaryDirectory(t)]
  writeFileSync(path.join(lower, 'file'), 'lower')
  mkdirSync(path.join(upper, 'files'))
  mkdirSync(path.join(upper, 'work'))
  // The kernel makes a directory there that nobody may look into, its owner neither.
  t.teardown(() => chmodSync(path.join(upper, 'work/work'), 0o700))
  const overlay = [`lowerdir=${lower}`, `upperdir=${upper}/files`, `workdir=${upper}/work`]
  const options = rooted(t, ['mnt', 'pid', 'net', 'ipc', 'cgroup'], {
    mounts: [
      { type: 'sysfs', target: '/sys', options: ['ro'] },
      { type: 'cgroup2', target: '/cgroups' },
      { type: 'devpts', target: '/pts', options: ['newinstance', 'ptmxmode=0666'] },
      { type: 'mqueue', target: '/queues' },
      { type: 'ramfs', target: '/ram' },
      { type: 'overlay', target: '/over', options: overlay },
    ],
  })
  const script = 'cat /over/file >&2; echo upper >/over/file'
  const { code, stdout, stderr } = await ended(
    lib.spawn('sh', ['-c', `${script}; cat /proc/self/mountinfo`], options),
  )
  t.is(code, 0)
  t.is(stderr, 'lower')
  for (const [place, type] of [
    ['/sys', 'sysfs'],
    ['/cgroups', 'cgroup2'],
    ['/pts', 'devpts'],
    ['/queues', 'mqueue'],
    ['/ram', 'ramfs'],
    ['/over', 'overlay'],
  ]) {
    t.regex(stdout, new RegExp(` ${place} .* - ${type} `))
  }
  t.is(readFileSync(path.join(lower, 'file'), 'utf8'), 'lower')
  t.is(readFileSync(path.join(upper, 'files/file'), 'utf8'), 'upper\n')
})

/** The mounts of a program that runs, read from outside: mount point, type, and the fields that propagation has. */
async function mountsOf(options) {
  const child = lib.spawn('sleep', ['3000'], { stdio: 'ignore', ...options, init: false })
  try {
    const error = await new Promise((resolve) => child.once('error', resolve).once('spawn', resolve))
    if (error) throw error
    return linesOf(readFileSync(`/proc/${child.pid}/mountinfo`, 'utf8'))
  } finally {
    if (child.kill('SIGKILL')) await once(child, 'close')
  }
}

/** Of /proc/PID/mountinfo. */
const linesOf = (text) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [mount, rest] = line.split(' - ').map((part) => part.split(' '))
      return { on: mount[4], propagation: mount.slice(6).join(), type: rest[0] }
    })

/** Options in new namespaces, as we are, and as root of a user namespace. */
const inBoth = (types, options) => [
  within(types, options),
  { unshare: ['user', ...types], uidMappings: 'root', gidMappings: 'root', ...options },
]

for (const [type, namespaces, optionsFor] of [
  ['sysfs', ['net']],
  ['devpts', [], () => ['newinstance']],
  ['mqueue', ['ipc']],
  ['cgroup2', ['cgroup']],
  ['overlay', [], (t) => [`lowerdir=${temporaryDirectory(t)}:${temporaryDirectory(t)}`]],
  ['tmpfs', []],
  ['proc', ['pid']],
]) {
  test(`${type} is mounted alone, on its place and nowhere else, seen from outside`, async (t) => {
    const target = temporaryDirectory(t)
    const mounts = [{ type, target, options: optionsFor?.(t) }]
    const before = hostMounts()
    for (const given of inBoth(['mnt', ...namespaces], { mounts, proc: false })) {
      const lines = await mountsOf(given)
      t.deepEqual(
        lines.filter(({ on }) => on.startsWith(target)),
        [{ on: target, propagation: '', type }],
      )
      t.is(lines.length, linesOf(before).length + 1)
    }
    t.is(hostMounts(), before)
  })
}

test('A mount of type proc has the processes of the namespace, beside the /proc that stays', async (t) => {
  const target = temporaryDirectory(t)
  const options = { proc: false, init: false, stdio: 'ignore', mounts: [{ type: 'proc', target }] }
  for (const given of inBoth(['mnt', 'pid'], options)) {
    const child = lib.spawn('sleep', ['3000'], given)
    const found = readdirSync(`/proc/${child.pid}/root${target}`).filter((name) => /^\d+$/.test(name))
    const outside = existsSync(`/proc/${child.pid}/root/proc/${process.pid}`)
    child.kill('SIGKILL')
    await once(child, 'close')
    t.deepEqual([found, outside], [['1'], true])
  }
})

test('proc: true without pid is one more /proc of the same processes, for who may mount that', async (t) => {
  const options = within(['mnt'], { proc: true })
  if (!isRoot) {
    t.like(await refused(t, options), { code: 'EPERM', syscall: 'mount', step: 'mount', path: '/proc' })
    return
  }
  const count = (lines) => lines.filter(({ on, type }) => on === '/proc' && type === 'proc').length
  const lines = await mountsOf(options)
  t.is(count(lines), count(linesOf(hostMounts())) + 1)
  const child = lib.spawn('sleep', ['3000'], { ...options, stdio: 'ignore' })
  t.is(readlinkSync(`/proc/${child.pid}/root/proc/${process.pid}/exe`), process.execPath)
  child.kill('SIGKILL')
  await once(child, 'close')
})

test("Without a root, 'unchanged' leaves the tree as the one is that it was copied from", async (t) => {
  const target = temporaryDirectory(t)
  for (const tree of ['shared', 'private']) {
    const found = await inProcess(
      async ({ lib, fs, outside }, target) => {
        const all = {}
        for (const propagation of ['unchanged', 'private']) {
          const mounts = [{ type: 'tmpfs', target: `${target}/${propagation}` }]
          const options = { unshare: ['mnt'], propagation, mounts, stdio: 'ignore' }
          fs.mkdirSync(mounts[0].target)
          const child = lib.spawn('sleep', ['3000'], options)
          const [own, its] = await outside(child.pid)
          child.kill('SIGKILL')
          await new Promise((resolve) => child.once('close', resolve))
          const root = (lines) => lines.find(({ on }) => on === '/').propagation
          const has = (lines) => lines.some(({ on }) => on === mounts[0].target)
          all[propagation] = {
            isSame: root(own) === root(its),
            isOut: has(own),
            isIn: has(its),
            root: root(its),
          }
        }
        return all
      },
      {
        with: {
          wrap: ['unshare', ...(isRoot ? [] : ['-Ur']), '-m', '--propagation', tree],
          outside: (pid, child) =>
            [child.pid, pid].map((each) => linesOf(readFileSync(`/proc/${each}/mountinfo`, 'utf8'))),
        },
      },
      target,
    )
    const isShared = tree === 'shared'
    t.regex(found.unchanged.root, isShared ? /^shared:\d+$/ : /^$/)
    t.like(found.unchanged, { isSame: true, isOut: isShared, isIn: true })
    t.like(found.private, { isSame: !isShared, isOut: false, isIn: true, root: '' })
    for (const name of ['unchanged', 'private']) rmdirSync(path.join(target, name))
  }
})

test('Mounts without a new root are the program’s alone, and nothing is created on the host', async (t) => {
  const before = hostMounts()
  const directory = temporaryDirectory(t)
  const options = within(['mnt'], { mounts: [{ type: 'tmpfs', target: directory }] })
  t.is(await shell(t, `echo x >${directory}/file; echo ${directory}/*`, options), `${directory}/file`)
  t.deepEqual(readdirSync(directory), [])
  t.is(hostMounts(), before)
  const target = path.join(directory, 'missing')
  const error = await refused(t, within(['mnt'], { mounts: [{ type: 'tmpfs', target }] }))
  t.like(error, { code: 'ENOENT', step: 'mount', path: target })
  t.like(await refused(t, within(['mnt', 'pid'], { proc: target })), {
    code: 'ENOENT',
    step: 'mount',
    path: target,
  })
  await shell(t, 'true', within(['mnt'], { mounts: [{ type: 'tmpfs', target, create: true }] }))
  t.true(statSync(target).isDirectory())
})

test('Symbolic links and .. in a target stay inside of the root', async (t) => {
  const outside = temporaryDirectory(t)
  const { root, mounts } = rootDirectory(t)
  symlinkSync(outside, path.join(root, 'absolute'))
  symlinkSync(
    path.relative('/', outside).replace(/[^/]+/g, '..').concat('/../../..', outside),
    path.join(root, 'relative'),
  )
  symlinkSync('/proc/1/root', path.join(root, 'magic'))
  const start = (target) => within(['mnt', 'pid'], { root, mounts: [...mounts, { type: 'tmpfs', target }] })
  for (const target of ['/absolute/a', '/relative/b', '/magic/tmp/c']) {
    const { code } = await refused(t, start(target)).catch((error) => error)
    t.true(['ENOENT', 'ELOOP', 'EEXIST', 'ENOTDIR'].includes(code), `${target}: ${code}`)
  }
  // With the same directory inside, that is where it goes.
  mkdirSync(path.join(root, outside), { recursive: true })
  for (const target of ['/absolute/a', '/relative/b']) await shell(t, 'true', start(target))
  t.deepEqual(readdirSync(path.join(root, outside)), ['a', 'b'])
  t.deepEqual(readdirSync(outside), [])
  t.throws(() => lib.spawn('true', [], start('../x')), { code: 'ERR_INVALID_ARG_VALUE', message: /target/ })
})

test('Somebody who renames files all the while does not keep a target with .. from being found', async (t) => {
  const directory = temporaryDirectory(t)
  const { root, mounts } = rootDirectory(t)
  mkdirSync(path.join(root, 'a/b/c'), { recursive: true })
  symlinkSync(`c/${'../c/'.repeat(5)}`, path.join(root, 'a/b/link'))
  const renaming = `
    const { mkdirSync, renameSync } = require('node:fs')
    process.chdir(process.argv[1])
    mkdirSync('one')
    console.log('begun')
    for (;;) {
      renameSync('one', 'other')
      renameSync('other', 'one')
    }`
  const other = spawn(process.execPath, ['-e', renaming, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ends = once(other, 'exit')
  t.teardown(() => {
    other.kill('SIGKILL')
    return ends
  })
  await once(other.stdout, 'data')
  const options = within(['mnt'], { root, mounts: [...mounts, { type: 'tmpfs', target: '/a/b/link' }] })
  for (let times = 0; times < 20; times++) t.is(await shell(t, 'echo found', options), 'found')
})

test('A bind mount is of one file system, rbind of what is below too, and attributes go with it', async (t) => {
  const [source, target] = [temporaryDirectory(t), temporaryDirectory(t)]
  mkdirSync(path.join(source, 'inner'))
  // In a user namespace the kernel keeps access times as they are outside.
  const attributes = ['ro', 'noexec', ...(isRoot ? ['noatime'] : [])]
  const options = (bind) =>
    within(['mnt'], {
      mounts: [
        { type: 'tmpfs', target: path.join(source, 'inner') },
        { type: 'bind', source, target, options: [bind, ...attributes] },
      ],
    })
  const found = (await mounted(t, options('rbind'))).filter(({ on }) => on.startsWith(target))
  t.deepEqual(
    found.map(({ on }) => on),
    [target, `${target}/inner`],
  )
  t.true(found.every((each) => attributes.every((option) => each.options.includes(option))))
  const alone = (await mounted(t, options('bind'))).filter(({ on }) => on.startsWith(target))
  t.deepEqual(
    alone.map(({ on }) => on),
    [target],
  )
})

test('What is mounted does not reach the host, or comes from it, as propagation says', async (t) => {
  // In a tree of its own where everything is shared.
  const shared = ['unshare', ...(isRoot ? [] : ['-Ur']), '-m', '--propagation', 'shared']
  const { stdout, code } = await ended(
    lib.spawn(shared[0], [
      ...shared.slice(1),
      process.execPath,
      '-e',
      `
      const { spawnSync, spawn } = require(${JSON.stringify(new URL('../index.js', import.meta.url).pathname)})
      const { readFileSync } = require('node:fs')
      const mine = () => readFileSync('/proc/self/mountinfo', 'utf8').includes(' /mnt ')
      const look = (propagation) => new Promise((resolve) => {
        const mounts = [{ type: 'tmpfs', target: '/mnt' }]
        const child = spawn('sh', ['-c', 'grep " / / " /proc/self/mountinfo; read line'], { unshare: ['mnt'], propagation, mounts })
        child.stdout.once('data', (text) => {
          resolve([propagation ?? 'default', mine(), /shared:/.test(text), /master:/.test(text)].join())
          child.stdin.end()
        })
      })
      look().then(async (first) => {
        console.log([first, await look('slave'), await look('private'), await look('shared')].join(' '))
      })`,
    ]),
  )
  t.is(code, 0)
  t.is(
    stdout.trim(),
    'default,false,false,false slave,false,false,true private,false,false,false shared,true,true,false',
  )
})

test('Beside a root no propagation lets its mounts out, and nothing is mounted before that is found', async (t) => {
  const { root, mounts } = rootDirectory(t)
  // In a tree of its own where everything is shared.
  const words = ['unshare', ...(isRoot ? [] : ['-Ur']), '-m', '--propagation', 'shared']
  const found = await inProcess(
    ({ lib, fs }, options) =>
      ['shared', 'unchanged', 'slave', 'private'].map((propagation) => {
        const before = fs.readFileSync('/proc/self/mountinfo', 'utf8')
        const start = () => lib.spawnSync('true', [], { unshare: ['mnt'], ...options, propagation })
        let result
        try {
          const { error, status } = start()
          result = error?.message ?? status
        } catch ({ code, message }) {
          result = [code, /options\.propagation.*options\.root/.test(message)]
        }
        const isSame = fs.readFileSync('/proc/self/mountinfo', 'utf8') === before
        return [result, isSame, before.includes(' shared:')]
      }),
    { with: { wrap: words } },
    { root, mounts },
  )
  const refusal = [['ERR_INVALID_ARG_VALUE', true], true, true]
  t.deepEqual(found, [refusal, refusal, [0, true, true], [0, true, true]])
})

test('What is mounted on the root is the new root, in which everything else goes, and can be changed', async (t) => {
  const root = temporaryDirectory(t)
  const other = temporaryDirectory(t)
  chmodSync(other, 0o755)
  writeFileSync(path.join(other, 'other'), '')
  const programs = ['/usr', '/bin', '/lib', '/lib64']
    .filter((place) => existsSync(place))
    .map((place) => ({ source: place, target: place, options: ['rbind'] }))
  const readOnly = { target: '/', options: ['remount', 'bind', 'ro'] }
  for (const [what, first] of [
    ['tmpfs', { type: 'tmpfs', target: '/' }],
    ['bind', { source: other, target: './' }],
  ]) {
    const options = within(['mnt', 'pid'], { root, mounts: [first, ...programs, readOnly] })
    const { code, stdout, stderr } = await ended(
      lib.spawn('sh', ['-c', 'echo /*; cat /proc/self/mountinfo; >/written'], options),
    )
    t.not(code, 0, what)
    t.regex(stderr, /Read-only file system/, what)
    const [names, ...mounts] = stdout.trimEnd().split('\n')
    t.is(names.includes('/other'), what === 'bind', names)
    t.regex(mounts[0], / \/ ro/, what)
    t.is(mounts.filter((mount) => / \/ \/ /.test(mount) || mount.split(' ')[4] === '/').length, 1, what)
    t.deepEqual(readdirSync(root), [], what)
    t.false(existsSync(path.join(other, 'written')))
  }
})

test('A relative source is seen from where this process is, whatever the root has', async (t) => {
  const directory = temporaryDirectory(t)
  chmodSync(directory, 0o755)
  for (const [name, text] of [
    ['data', 'ours'],
    ['low:er', 'lower'],
  ]) {
    mkdirSync(path.join(directory, name))
    writeFileSync(path.join(directory, name, 'file'), text)
  }
  const { root, mounts } = rootDirectory(t)
  symlinkSync('/usr', path.join(root, 'data'))
  const more = [
    { source: 'data', target: '/seen' },
    { type: 'overlay', target: '/over', options: ['ro', 'lowerdir=low\\:er:data'] },
    { source: 'gone', target: '/gone', optional: true },
  ]
  const options = within(['mnt', 'pid'], { root, mounts: [...mounts, ...more] })
  const act = ({ lib }, directory, options) => {
    process.chdir(directory)
    const script = 'cat /seen/file /over/file; echo /gone*'
    return String(
      lib.spawnSync('sh', ['-c', script], { ...options, stdio: ['ignore', 'pipe', 'inherit'] }).stdout,
    )
  }
  t.is(await inProcess(act, { with: { wrap: [] } }, directory, options), 'ourslower/gone*\n')
})

test('A file system’s source may be a name, which is there without a file', async (t) => {
  const mounts = [{ type: 'tmpfs', source: 'scratch', target: '/tmp', optional: true }]
  const found = await mounted(t, rooted(t, ['mnt', 'pid'], { mounts }))
  t.is(found.find(({ on }) => on === '/tmp')?.type, 'tmpfs')
})

test('A minimal /dev has the options of a mount, and its devices work', async (t) => {
  const mounts = [{ type: 'dev', target: '/dev', options: ['ro', 'noexec'] }]
  const options = rooted(t, ['mnt', 'pid'], { mounts })
  const [dev] = (await mounted(t, options)).filter(({ on }) => on === '/dev')
  t.true(
    ['ro', 'noexec', 'nosuid'].every((option) => dev.options.includes(option)),
    `${dev.options}`,
  )
  const { code, stderr } = await ended(lib.spawn('sh', ['-c', 'echo >/dev/null; >/dev/x'], options))
  t.not(code, 0)
  t.regex(stderr, /^[^\n]*\/dev\/x: Read-only file system\n$/)
})

test('A mount on the root that this process has is refused by name, as nobody would see it', (t) => {
  for (const target of ['/', './/.']) {
    const mounts = [{ type: 'tmpfs', target }]
    t.throws(() => lib.spawn('true', within(['mnt'], { mounts })), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /options\.mounts\[0\]\.target/,
    })
  }
})

test('Options that are not of their kind of mount are refused by name, before anything is started', (t) => {
  for (const mount of [
    { source: '/usr', target: '/mnt', options: ['ro', 'remount'] },
    { source: '/usr', target: '/mnt', options: ['ro', 'sync'] },
    { type: 'bind', source: '/usr', target: '/mnt', options: ['ro', 'move'] },
    { type: 'tmpfs', target: '/mnt', options: ['ro', 'bind'] },
    { type: 'tmpfs', target: '/mnt', options: ['ro', 'remount'] },
    { type: 'dev', target: '/dev', options: ['ro', 'rbind'] },
    { type: 'dev', target: '/dev', options: ['ro', 'remount'] },
    { target: '/', options: ['remount', 'move'] },
  ]) {
    t.throws(() => lib.spawn('true', within(['mnt'], { mounts: [mount] })), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /options\.mounts\[0\]\.options\[1\]/,
    })
  }
})

test('A root that is none, and mounts that cannot be, are errors of their steps, with both paths', async (t) => {
  const file = path.join(temporaryDirectory(t), 'file')
  writeFileSync(file, '')
  const failing = async (options) => {
    try {
      return await refused(t, options)
    } catch (error) {
      return error
    }
  }
  for (const root of [file, '/missing']) {
    const error = await failing(within(['mnt'], { root }))
    t.true(
      error.code === 'ERR_INVALID_ARG_VALUE' || error.step === 'pivot-root',
      `${error.code} ${error.step}`,
    )
    t.regex(error.message, /root|missing|file/)
  }
  const mount = (spec) => failing(rooted(t, ['mnt', 'pid'], { mounts: [spec] }))
  t.like(await mount({ type: 'bind', source: '/missing', target: '/x' }), {
    code: 'ENOENT',
    syscall: 'open_tree',
    step: 'mount',
    path: '/missing',
  })
  t.like(await mount({ type: 'nosuchfs', target: '/x' }), {
    code: 'ENODEV',
    syscall: 'mount',
    step: 'mount',
    path: '/x',
  })
  t.like(await mount({ type: 'tmpfs', target: '/x', options: ['size=much'] }), {
    code: 'EINVAL',
    step: 'mount',
  })
  t.like(await mount({ type: 'bind', source: file, target: '/usr' }), {
    code: 'EINVAL',
    syscall: 'move_mount',
    step: 'mount',
  })
})

;(isRoot ? test : () => {})(
  'Without a mount namespace a root is chroot’s, and cwd is inside of it',
  async (t) => {
    const { root } = rootDirectory(t)
    mkdirSync(path.join(root, 'inside'))
    const child = lib.spawn('/proc/self/exe', [], { root, cwd: '/inside' })
    const error = await new Promise((resolve) => child.once('error', resolve))
    t.like(error, { code: 'ENOENT', step: 'exec' })
    const sleeping = lib.spawn('sleep', ['150'], { root: '/', cwd: '/usr' })
    t.is(readlinkSync(`/proc/${sleeping.pid}/cwd`), '/usr')
    sleeping.kill('SIGKILL')
    await ended(sleeping)
    t.like(await refused(t, { root, cwd: '/missing' }), { code: 'ENOENT', step: 'chdir', path: '/missing' })
  },
)
