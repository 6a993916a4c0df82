// Who is who in a child's new user namespace.
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { cloning } from './helpers/cloning.mjs'
import { temporaryDirectory, unprivileged } from './helpers/machine.mjs'
import { inUserNamespace, isRoot } from './helpers/process.mjs'

// What root alone may do is looked at as root alone.
const asRoot = isRoot ? test : () => {}

const [uid, gid] = [process.getuid(), process.getgid()]
const overflow = (kind) => Number(readFileSync(`/proc/sys/kernel/overflow${kind}`, 'utf8'))

/** What a child with these options is: its ids, and what is written for it. */
const identity = (options, wrap = [], env = {}) =>
  cloning(
    async ({ ids, fs, ask }, options) => {
      const { value, code } = await ask(
        () => ({
          uid: [process.getuid(), process.geteuid()],
          gid: [process.getgid(), process.getegid()],
          uidMap: ids('/proc/self/uid_map'),
          gidMap: ids('/proc/self/gid_map'),
          setgroups: fs.readFileSync('/proc/self/setgroups', 'utf8').trim(),
        }),
        { flags: 'user', ...options },
      )
      return { code, ...value }
    },
    { with: { wrap, env } },
    options,
  )

test('Without maps a child in a new user namespace is nobody, and its groups are as they were', async (t) => {
  const [nobody, nogroup] = [overflow('uid'), overflow('gid')]
  t.deepEqual(await identity({}), {
    code: 0,
    uid: [nobody, nobody],
    gid: [nogroup, nogroup],
    uidMap: [],
    gidMap: [],
    setgroups: 'allow',
  })
})

const own = (id, inside) => ({ inside, outside: id, count: 1 })

for (const [name, options, ids] of [
  ["'root'", { uidMappings: 'root', gidMappings: 'root' }, [0, 0]],
  ["'current'", { uidMappings: 'current', gidMappings: 'current' }, [uid, gid]],
  ['a line of its own', { uidMappings: [own(uid, 5)], gidMappings: [own(gid, 6)] }, [5, 6]],
  ['a line beyond 2^31', { uidMappings: [own(uid, 4e9)], gidMappings: [own(gid, 4e9)] }, [4e9, 4e9]],
]) {
  test(`${name} maps the own ids`, async (t) => {
    const seen = await identity(options)
    const [user, group] = ids
    t.deepEqual(seen, {
      code: 0,
      uid: [user, user],
      gid: [group, group],
      uidMap: [[user, uid, 1]],
      gidMap: [[group, gid, 1]],
      // Who may not set groups maps one only where nobody can.
      setgroups: isRoot ? 'allow' : 'deny',
    })
  })
}

test('One map may be written without the other', async (t) => {
  const users = await identity({ uidMappings: 'root' })
  t.like(users, {
    code: 0,
    uid: [0, 0],
    gid: [overflow('gid'), overflow('gid')],
    gidMap: [],
    setgroups: 'allow',
  })
  const groups = await identity({ gidMappings: 'root' })
  t.like(groups, { code: 0, uid: [overflow('uid'), overflow('uid')], gid: [0, 0], uidMap: [] })
})

asRoot('A child that its maps leave out has the ids of its parent, until it takes others', async (t) => {
  const mappings = [{ inside: 0, outside: 100_000, count: 10 }]
  for (const maps of [
    { uidMappings: mappings, gidMappings: mappings },
    { uidMappings: mappings, gidMappings: 'root' },
    { uidMappings: mappings },
  ]) {
    const { value, code } = await cloning(
      ({ fs, ask }, options) =>
        ask(
          () => {
            const before = [process.getuid(), fs.statSync('/proc/self/fd').uid]
            process.setuid(0)
            return [...before, process.getuid()]
          },
          { flags: 'user', ...options },
        ),
      { with: { wrap: [] } },
      maps,
    )
    t.is(code, 0)
    t.deepEqual(value, [overflow('uid'), overflow('uid'), 0])
  }
})

asRoot('Several lines map what they say', async (t) => {
  const lines = [
    [0, 100_000, 1000],
    [1000, 0, 1],
    [2000, 300_000, 65_536],
  ]
  const mappings = lines.map(([inside, outside, count]) => ({ inside, outside, count }))
  const seen = await identity({ uidMappings: mappings, gidMappings: mappings })
  t.deepEqual(seen, {
    code: 0,
    uid: [1000, 1000],
    gid: [1000, 1000],
    uidMap: lines,
    gidMap: lines,
    setgroups: 'allow',
  })
})

asRoot("'all' maps every id that the parent has, as itself", async (t) => {
  const nested = await identity({ uidMappings: 'all', gidMappings: 'all' }, inUserNamespace)
  t.like(nested, { code: 0, uid: [0, 0], uidMap: [[0, 0, 1]], gidMap: [[0, 0, 1]] })
  const ids = (file) => {
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
    return lines
      .map((line) => line.trim().split(/\s+/).map(Number))
      .map(([inside, , count]) => [inside, inside, count])
  }
  const seen = await identity({ uidMappings: 'all', gidMappings: 'all' })
  t.deepEqual(seen.uidMap, ids('/proc/self/uid_map'))
  t.deepEqual(seen.gidMap, ids('/proc/self/gid_map'))
})

for (const [setgroups, maps] of [
  ['deny', {}],
  ['deny', { uidMappings: 'root', gidMappings: 'root' }],
  ['allow', {}],
]) {
  test(`setgroups '${setgroups}' is what the kernel has, ${maps.gidMappings ? 'with' : 'without'} maps`, async (t) => {
    t.like(await identity({ setgroups, ...maps }), { code: 0, setgroups })
  })
}

const refused = (options, wrap = [], env = {}) =>
  cloning(({ refused }, options) => refused({ flags: 'user', ...options }), { with: { wrap, env } }, options)

test("setgroups 'allow' where the parent's user namespace denies it is refused by the step setgroups", async (t) => {
  const error = await refused({ setgroups: 'allow', uidMappings: 'root' }, inUserNamespace)
  t.like(error, { code: 'EPERM', syscall: 'write', step: 'setgroups', leaves: [], next: 42 })
  t.regex(error.path, /^\/proc\/\d+\/setgroups$/)
  t.regex(error.hint, /setgroups/)
})

test("setgroups 'allow' with a group's map and no privilege is refused by the step id-map", async (t) => {
  const error = await refused({ setgroups: 'allow', uidMappings: 'root', gidMappings: 'root' }, unprivileged)
  t.like(error, { code: 'EPERM', syscall: 'write', step: 'id-map', leaves: [], next: 42 })
  t.regex(error.hint, /setgroups: 'deny'/)
})

test('Lines that overlap are refused by the step id-map, and no child is left', async (t) => {
  const mappings = [
    { inside: 0, outside: uid, count: 2 },
    { inside: 1, outside: uid + 5, count: 2 },
  ]
  for (const name of ['uidMappings', 'gidMappings']) {
    const error = await refused({ [name]: mappings })
    t.like(error, { code: 'EINVAL', syscall: 'write', step: 'id-map', leaves: [], next: 42 })
    t.regex(error.path, name === 'uidMappings' ? /^\/proc\/\d+\/uid_map$/ : /^\/proc\/\d+\/gid_map$/)
    t.regex(error.hint, /overlap/)
  }
})

test('More than 340 lines, and a range beyond 2^32, are refused by the step id-map', async (t) => {
  const many = Array.from({ length: 341 }, (_, index) => ({ inside: index, outside: index, count: 1 }))
  for (const uidMappings of [many, [{ inside: 2 ** 32 - 1, outside: 0, count: 2 }]]) {
    const error = await refused({ uidMappings })
    t.like(error, { code: 'EINVAL', step: 'id-map', leaves: [], next: 42 })
  }
})

asRoot('A child of a process that has changed its ids cannot be mapped, and the hint says why', async (t) => {
  const error = await cloning(
    ({ lib, refused, becomeOrdinary }) => {
      lib.clone(() => {}).waitSync()
      becomeOrdinary()
      return refused({ flags: 'user', uidMappings: 'root' })
    },
    { with: { wrap: [] } },
  )
  t.like(error, { code: 'EACCES', syscall: 'open', step: 'id-map', leaves: [], next: 42 })
  t.regex(error.hint, /PR_SET_DUMPABLE/)
})

test('User and all other namespaces at once, without any privilege: the child is root in them', async (t) => {
  const { value, code } = await cloning(
    ({ lib, fs, os, cp, ask }) =>
      ask(
        async () => {
          lib.sethostname('inside')
          lib.configureLoopback()
          lib.mount('none', '/tmp', 'tmpfs')
          await fs.promises.writeFile('/tmp/file', '')
          return {
            pid: process.pid,
            ids: [process.getuid(), process.getgid()],
            hostname: os.hostname(),
            files: fs.readdirSync('/tmp'),
            shell: cp.execFileSync('sh', ['-c', 'id -u; echo $$'], { encoding: 'utf8' }),
          }
        },
        {
          flags: ['mnt', 'uts', 'ipc', 'net', 'pid', 'user', 'cgroup', 'time'],
          uidMappings: 'root',
          gidMappings: 'root',
          timeOffsets: { monotonic: 1000, boottime: 1000 },
        },
      ),
    { with: { wrap: [] } },
  )
  t.is(code, 0)
  t.deepEqual(value, { pid: 1, ids: [0, 0], hostname: 'inside', files: ['file'], shell: value.shell })
  t.regex(value.shell, /^0\n\d+\n$/)
})

/** An /etc of the process's own with these files, and a directory of programs that is the first of its PATH. */
function furnished(t, { subids, helper, wrap }) {
  const [etc, bin] = ['etc', 'bin'].map((name) => path.join(temporaryDirectory(t), name))
  for (const directory of [etc, bin]) mkdirSync(directory)
  for (const name of ['passwd', 'group', 'nsswitch.conf']) {
    if (existsSync(`/etc/${name}`)) cpSync(`/etc/${name}`, path.join(etc, name))
  }
  for (const name of ['subuid', 'subgid'])
    if (subids !== undefined) writeFileSync(path.join(etc, name), subids)
  const log = path.join(bin, 'log')
  for (const name of ['newuidmap', 'newgidmap']) {
    const script = `#!/bin/sh\necho "\${0##*/} $*" >> ${log}\n${helper}\n`
    if (helper !== undefined) writeFileSync(path.join(bin, name), script, { mode: 0o755 })
  }
  const script = 'mount --bind "$0" /etc && exec "$@"'
  return {
    wrap: [...wrap, 'unshare', '--mount', 'sh', '-c', script, etc],
    bin,
    calls: () => (existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : []),
  }
}

const RANGE = 'someone-else:500000:65536\nroot:100000:65536\nroot:900000:65536\n'
const auto = { uidMappings: 'auto', gidMappings: 'auto' }

/** A clone with these options, where newuidmap and newgidmap are looked for in one directory alone. */
const withHelpers = ({ wrap, bin }, expected, options) =>
  cloning(
    ({ ask, refused }, bin, expected, options) => {
      process.env.PATH = bin
      return expected === 'made'
        ? ask(() => {}, { flags: 'user', ...options })
        : refused({ flags: 'user', ...options })
    },
    { with: { wrap } },
    bin,
    expected,
    options,
  )

asRoot("'auto' is the own id and the first subordinate range, which root writes itself", async (t) => {
  for (const subids of [RANGE, RANGE.replaceAll('root', '0')]) {
    const { wrap, calls } = furnished(t, { subids, helper: 'exit 1', wrap: [] })
    const seen = await identity(auto, wrap)
    const map = [
      [0, 0, 1],
      [1, 100_000, 65_536],
    ]
    t.like(seen, { code: 0, uid: [0, 0], gid: [0, 0], uidMap: map, gidMap: map, setgroups: 'allow' })
    t.deepEqual(calls(), [])
  }
})

test("Who may not write the map of 'auto' has newuidmap and newgidmap write it", async (t) => {
  const furniture = furnished(t, { subids: RANGE, helper: 'exit 0', wrap: inUserNamespace })
  const { pid, code } = await withHelpers(furniture, 'made', auto)
  t.is(code, 0)
  const words = `${pid} 0 0 1 1 100000 65536`
  t.deepEqual(furniture.calls(), [`newuidmap ${words}`, `newgidmap ${words}`])
})

test('Lines that we may not write are written by newuidmap and newgidmap too', async (t) => {
  const furniture = furnished(t, { helper: 'exit 0', wrap: inUserNamespace })
  const lines = [
    { inside: 0, outside: 100_000, count: 10 },
    { inside: 10, outside: 200_000, count: 5 },
  ]
  const { pid, code } = await withHelpers(furniture, 'made', { uidMappings: lines, gidMappings: lines })
  t.is(code, 0)
  const words = `${pid} 0 100000 10 10 200000 5`
  t.deepEqual(furniture.calls(), [`newuidmap ${words}`, `newgidmap ${words}`])
})

for (const [situation, options, like, hint] of [
  [
    'newuidmap that refuses',
    { subids: RANGE, helper: 'exit 3' },
    { code: 'EPERM', syscall: 'write', path: 'newuidmap' },
    /subuid/,
  ],
  [
    'newuidmap that is killed',
    { subids: RANGE, helper: 'kill -9 $$' },
    { code: 'EPERM', syscall: 'write', path: 'newuidmap' },
    /subuid/,
  ],
  [
    'newgidmap that refuses',
    { subids: RANGE, helper: 'case $0 in *newgidmap) exit 1; esac' },
    { code: 'EPERM', syscall: 'write', path: 'newgidmap' },
    /subgid/,
  ],
  [
    'newuidmap that is not there',
    { subids: RANGE },
    { code: 'ENOENT', syscall: 'execve', path: 'newuidmap' },
    /uidmap/,
  ],
  [
    'an /etc without subuid',
    { helper: 'exit 0' },
    { code: 'ENOENT', syscall: 'open', path: '/etc/subuid' },
    /usermod --add-subuids|uidmap/,
  ],
  [
    'an /etc/subuid without this user',
    { subids: 'someone-else:500000:65536\n', helper: 'exit 0' },
    { code: 'ENOENT', syscall: 'open', path: '/etc/subuid' },
    /usermod --add-subuids/,
  ],
]) {
  test(`'auto' with ${situation} is refused by the step id-map, with a hint, and no child is left`, async (t) => {
    const error = await withHelpers(furnished(t, { ...options, wrap: inUserNamespace }), 'refused', auto)
    t.like(error, { ...like, step: 'id-map', leaves: [], next: 42 })
    t.regex(error.hint, hint)
  })
}
