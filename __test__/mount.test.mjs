import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import binding from '../binding.js'
import { pageSize as page, temporaryDirectory, unprivileged } from './helpers/machine.mjs'
import { inProcess, inUserNamespace, privileged } from './helpers/process.mjs'

const wrap = [...(privileged.length > 0 ? privileged : ['unshare']), '--mount']

/** What /proc/PID/mountinfo says of the mounts on a directory, the topmost last. */
function mountsOn(target, pid) {
  return readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [before, after] = line.split(' - ')
      const [, , , root, on, options, ...propagation] = before.split(' ')
      const [type, source, superOptions] = after.split(' ')
      return {
        on,
        root,
        type,
        source,
        options: options.split(','),
        superOptions: superOptions.split(','),
        propagation: propagation.map((field) => field.split(':')[0]),
      }
    })
    .filter(({ on }) => on === target)
    .map(({ on, ...mount }) => mount)
}

/** Calls `fn` in a mount namespace; there `outside(target)` is what is mounted on it, as we see it. */
const inMountNamespace = (fn, ...args) =>
  inProcess(fn, { with: { wrap, outside: (target, { pid }) => mountsOn(target, pid) } }, ...args)

/** What each `lib[call](...args)` in a mount namespace throws. */
const refused = (calls, how = wrap) =>
  inProcess(
    ({ lib }, calls) =>
      calls.map(([call, ...args]) => {
        try {
          return { result: lib[call](...args) ?? null }
        } catch (error) {
          const { name, message } = error
          return { name, message, ...error }
        }
      }),
    { with: { wrap: how } },
    calls,
  )

/** A directory with directories in it. */
function directories(t, ...names) {
  const directory = temporaryDirectory(t)
  return names.map((name) => {
    const created = path.join(directory, name)
    mkdirSync(created)
    return created
  })
}

test('mount: what is mounted is in /proc/PID/mountinfo, and in no other mount namespace', async (t) => {
  const [target] = directories(t, 'target')
  const seen = await inProcess(
    async ({ lib, fs, cp, outside }, target) => {
      const result = lib.mount('a source', target, 'tmpfs')
      fs.writeFileSync(`${target}/file`, 'inside')
      const text = cp.execFileSync('cat', [`${target}/file`], { encoding: 'utf8' })
      return { ...(await outside(target)), result: result === undefined, text }
    },
    {
      with: {
        wrap,
        outside: (target, { pid }) => ({
          inside: mountsOn(target, pid),
          here: mountsOn(target, 'self'),
          files: readdirSync(target),
          through: readFileSync(`/proc/${pid}/root${target}/file`, 'utf8'),
        }),
      },
    },
    target,
  )
  t.true(seen.result)
  t.is(seen.text, 'inside')
  t.is(seen.through, 'inside')
  t.is(seen.inside.length, 1)
  const [{ type, source, root, options }] = seen.inside
  t.deepEqual([type, source, root], ['tmpfs', 'a\\040source', '/'])
  t.deepEqual(options, ['rw', 'relatime'])
  t.deepEqual([seen.here, seen.files], [[], []])
})

test('mount: without a source it is none', async (t) => {
  const [target] = directories(t, 'target')
  const [{ source, type }] = await inMountNamespace(({ lib, outside }, target) => {
    lib.mount(null, target, 'tmpfs')
    return outside(target)
  }, target)
  t.deepEqual([source, type], ['none', 'tmpfs'])
})

// An option, with what it is given together with, and what the kernel then says: of the mount, of its file system.
const VISIBLE = [
  ['ro', {}, ['ro', 'relatime'], ['ro']],
  ['rw', { ro: true }, ['rw', 'relatime'], []],
  ['nosuid', {}, ['rw', 'nosuid', 'relatime'], []],
  ['suid', { nosuid: true }, ['rw', 'relatime'], []],
  ['nodev', {}, ['rw', 'nodev', 'relatime'], []],
  ['dev', { nodev: true }, ['rw', 'relatime'], []],
  ['noexec', {}, ['rw', 'noexec', 'relatime'], []],
  ['exec', { noexec: true }, ['rw', 'relatime'], []],
  ['sync', {}, ['rw', 'relatime'], ['sync']],
  ['async', { sync: true }, ['rw', 'relatime'], []],
  ['dirsync', {}, ['rw', 'relatime'], ['dirsync']],
  ['mand', {}, ['rw', 'relatime'], ['mand']],
  ['nomand', { mand: true }, ['rw', 'relatime'], []],
  ['noatime', {}, ['rw', 'noatime'], []],
  ['atime', { noatime: true }, ['rw', 'relatime'], []],
  ['nodiratime', {}, ['rw', 'nodiratime', 'relatime'], []],
  ['diratime', { nodiratime: true }, ['rw', 'relatime'], []],
  ['strictatime', {}, ['rw'], []],
  ['nostrictatime', { strictatime: true }, ['rw', 'relatime'], []],
  ['lazytime', {}, ['rw', 'relatime'], ['lazytime']],
  ['nolazytime', { lazytime: true }, ['rw', 'relatime'], []],
  // A file system would refuse these two if they were handed on to it.
  ['silent', {}, ['rw', 'relatime'], []],
  ['loud', { silent: true }, ['rw', 'relatime'], []],
]

// Those that change a mount or have a test of their own.
const OTHERS = [
  'relatime',
  'norelatime',
  'remount',
  'bind',
  'rbind',
  'move',
  'private',
  'rprivate',
  'slave',
  'rslave',
  'shared',
  'rshared',
]

// Those that mount(8) knows besides.
const FURTHER = [
  ['nosymfollow', {}, ['rw', 'relatime', 'nosymfollow']],
  ['symfollow', { nosymfollow: true }, ['rw', 'relatime']],
  ['iversion', {}, ['rw', 'relatime']],
  ['noiversion', {}, ['rw', 'relatime']],
]

test('every option that is a flag is tried here', (t) => {
  const names = binding.mountOptions().map(({ name }) => name)
  const tried = [...VISIBLE, ...FURTHER].map(([name]) => name)
  t.true(names.length > 30)
  t.deepEqual(
    names.filter((name) => ![...tried, ...OTHERS, 'unbindable', 'runbindable'].includes(name)),
    [],
  )
})

for (const [name, others, expected] of FURTHER) {
  test(`${name} is a flag, as mount(8) has it`, async (t) => {
    const [target] = directories(t, 'target')
    const [{ options }] = await inMountNamespace(
      ({ lib, outside }, target, data) => {
        lib.mount('none', target, 'tmpfs', 0, data)
        return outside(target)
      },
      target,
      { ...others, [name]: true },
    )
    t.deepEqual(options, expected)
  })
}

test('unbindable and runbindable are flags, as mount(8) has them', async (t) => {
  const [target] = directories(t, 'target')
  const seen = await inMountNamespace(async ({ lib, fs, outside }, target) => {
    lib.mount('none', target, 'tmpfs')
    const below = `${target}/below`
    fs.mkdirSync(below)
    lib.mount('none', below, 'tmpfs')
    const seen = []
    for (const option of ['unbindable', 'runbindable']) {
      lib.mount(null, target, null, 0, { [option]: true })
      seen.push([(await outside(target))[0].propagation, (await outside(below))[0].propagation])
    }
    return seen
  }, target)
  t.deepEqual(seen, [
    [['unbindable'], []],
    [['unbindable'], ['unbindable']],
  ])
})

test("each option that is a flag has the effect of mount(8)'s", async (t) => {
  const [target] = directories(t, 'target')
  const seen = await inMountNamespace(
    async ({ lib, outside }, target, cases) => {
      const seen = {}
      for (const [name, others] of cases) {
        lib.mount('none', target, 'tmpfs', 0, { ...others, [name]: true })
        const [{ options, superOptions }] = await outside(target)
        seen[name] = { options, superOptions }
        lib.umount(target)
      }
      return seen
    },
    target,
    VISIBLE,
  )
  for (const [name, others, options, ofFileSystem] of VISIBLE) {
    t.deepEqual(seen[name].options, options, name)
    const found = seen[name].superOptions.filter((option) =>
      ['ro', 'sync', 'dirsync', 'mand', 'lazytime'].includes(option),
    )
    t.deepEqual(found, ofFileSystem, `${name}, of the file system, with ${JSON.stringify(others)}`)
  }
})

test('an option that is false is left out', async (t) => {
  const [target] = directories(t, 'target')
  const [{ options, superOptions }] = await inMountNamespace(({ lib, outside }, target) => {
    lib.mount('none', target, 'tmpfs', lib.MS_NOSUID, {
      ro: false,
      suid: false,
      noexec: false,
      noswap: false,
      size: '64k',
    })
    return outside(target)
  }, target)
  t.deepEqual(options, ['rw', 'nosuid', 'relatime'])
  t.true(superOptions.includes('size=64k'))
  t.false(superOptions.includes('noswap'))
})

test('options add to the flags, and take away from them', async (t) => {
  const [target] = directories(t, 'target')
  const [{ options }] = await inMountNamespace(({ lib, outside }, target) => {
    const flags = lib.MS_NOSUID | lib.MS_NODEV | lib.MS_RDONLY
    lib.mount('none', target, 'tmpfs', flags, { noexec: true, rw: true, dev: true })
    return outside(target)
  }, target)
  t.deepEqual(options, ['rw', 'nosuid', 'noexec', 'relatime'])
})

test('relatime and norelatime: of a mount without access times', async (t) => {
  const [target] = directories(t, 'target')
  const seen = await inMountNamespace(async ({ lib, outside }, target) => {
    lib.mount('none', target, 'tmpfs', lib.MS_NOATIME)
    const seen = []
    for (const data of [{ relatime: true, norelatime: true }, { relatime: true }]) {
      lib.mount(null, target, null, 0, { remount: true, bind: true, ...data })
      seen.push((await outside(target))[0].options)
    }
    return seen
  }, target)
  t.deepEqual(seen, [
    ['rw', 'noatime'],
    ['rw', 'relatime'],
  ])
})

test('every flag as a number has the same effect', async (t) => {
  const [target] = directories(t, 'target')
  const flags = {
    MS_RDONLY: 'ro',
    MS_NOSUID: 'nosuid',
    MS_NODEV: 'nodev',
    MS_NOEXEC: 'noexec',
    MS_NOSYMFOLLOW: 'nosymfollow',
    MS_NOATIME: 'noatime',
    MS_NODIRATIME: 'nodiratime',
    MS_SYNCHRONOUS: 'sync',
    MS_DIRSYNC: 'dirsync',
    MS_MANDLOCK: 'mand',
    MS_LAZYTIME: 'lazytime',
  }
  const seen = await inMountNamespace(
    async ({ lib, outside }, target, names) => {
      const seen = {}
      for (const name of names) {
        lib.mount('none', target, 'tmpfs', lib[name])
        const [{ options, superOptions }] = await outside(target)
        seen[name] = [...options, ...superOptions]
        lib.umount(target)
      }
      return seen
    },
    target,
    Object.keys(flags),
  )
  for (const [name, option] of Object.entries(flags)) {
    for (const [other, options] of Object.entries(seen)) {
      t.is(options.includes(option), other === name, `${option} with ${other}`)
    }
  }
})

test('numbers are decimal, and those of modes octal', async (t) => {
  const [temporary, terminals] = directories(t, 'temporary', 'terminals')
  const [tmpfs, devpts, mode] = await inMountNamespace(
    async ({ lib, fs, outside }, temporary, terminals) => {
      lib.mount('none', temporary, 'tmpfs', 0, { mode: 0o1751, size: 2 ** 20, nr_inodes: 100 })
      lib.mount('none', terminals, 'devpts', 0, { mode: 0o620, ptmxmode: 0o664, max: 16 })
      return [
        ...(await outside(temporary)),
        ...(await outside(terminals)),
        fs.statSync(temporary).mode & 0o7777,
      ]
    },
    temporary,
    terminals,
  )
  for (const option of ['mode=1751', 'size=1024k', 'nr_inodes=100'])
    t.true(tmpfs.superOptions.includes(option))
  for (const option of ['mode=620', 'ptmxmode=664', 'max=16']) t.true(devpts.superOptions.includes(option))
  t.is(mode, 0o1751)
})

test('data as a string, and strings as options, reach the file system as they are', async (t) => {
  const [first, second] = directories(t, 'first', 'second')
  const [one, other] = await inMountNamespace(
    async ({ lib, outside }, first, second) => {
      lib.mount('none', first, 'tmpfs', 0, 'size=64m,mode=711')
      lib.mount('none', second, 'tmpfs', 0, { size: '64m', mode: '711' })
      return [...(await outside(first)), ...(await outside(second))]
    },
    first,
    second,
  )
  for (const { superOptions } of [one, other]) {
    t.true(superOptions.includes('size=65536k'))
    t.true(superOptions.includes('mode=711'))
  }
})

test('no data, null and an object without options are the same', async (t) => {
  const [target] = directories(t, 'target')
  const seen = await inMountNamespace(async ({ lib, outside }, target) => {
    const seen = []
    for (const rest of [[], [0], [0, null], [0, undefined], [0, ''], [0, {}], [0, { ro: false }]]) {
      lib.mount('none', target, 'tmpfs', ...rest)
      seen.push(...(await outside(target)))
      lib.umount(target)
    }
    return seen
  }, target)
  t.is(seen.length, 7)
  for (const mount of seen) t.deepEqual(mount, seen[0])
})

test('data that would become another option is refused, and nothing is mounted', async (t) => {
  const [target] = directories(t, 'target')
  const wrong = [
    { size: '1m,suid' },
    { mode: '700,uid=0' },
    { 'mode=700': true },
    { 'nr_inodes,size': '1m' },
    { '': true },
    { size: '1m\0' },
    { 'si\0ze': '1m' },
    'size=1m\0',
  ]
  const errors = await refused(wrong.map((data) => ['mount', 'none', target, 'tmpfs', 0, data]))
  for (const [index, { name, code }] of errors.entries()) {
    t.deepEqual([name, code], ['TypeError', 'ERR_INVALID_ARG_VALUE'], JSON.stringify(wrong[index]))
  }
  t.is(
    errors[0].message.split('. Received')[0],
    "The property 'data.size' must not hold a comma, which would start another option",
  )
})

test('options of a wrong type are refused', async (t) => {
  const [target] = directories(t, 'target')
  const wrong = [{ ro: 1 }, { ro: 'true' }, { size: null }, { size: {} }, { size: ['1m'] }, 5, ['ro'], true]
  const errors = await refused(wrong.map((data) => ['mount', 'none', target, 'tmpfs', 0, data]))
  for (const [index, { name, code }] of errors.entries()) {
    t.deepEqual([name, code], ['TypeError', 'ERR_INVALID_ARG_TYPE'], JSON.stringify(wrong[index]))
  }
  t.is(errors[0].message, 'The "data.ro" property must be of type boolean. Received type number (1)')
})

test('data that the kernel would cut off is refused, and one byte less is read to its end', async (t) => {
  const [target] = directories(t, 'target')
  const last = 'size=128k'
  const [fits] = await inMountNamespace(
    ({ lib, outside }, target, data) => {
      lib.mount('none', target, 'tmpfs', 0, data)
      return outside(target)
    },
    target,
    `${','.repeat(page - 1 - last.length)}${last}`,
  )
  t.true(fits.superOptions.includes('size=128k'))
  const tooLong = [
    `${','.repeat(page - last.length)}${last}`,
    'ä'.repeat(page / 2),
    { size: '9'.repeat(page - 'size='.length) },
  ]
  for (const error of await refused(tooLong.map((data) => ['mount', 'none', target, 'tmpfs', 0, data]))) {
    t.deepEqual([error.name, error.code], ['TypeError', 'ERR_INVALID_ARG_VALUE'])
    t.true(error.message.includes(`shorter than ${page} bytes`))
  }
})

test('bind: a directory is in two places', async (t) => {
  const [source, target] = directories(t, 'source', 'target')
  writeFileSync(path.join(source, 'file'), 'content')
  const seen = await inMountNamespace(
    async ({ lib, fs, outside }, source, target) => {
      lib.mount(source, target, null, lib.MS_BIND)
      const text = fs.readFileSync(`${target}/file`, 'utf8')
      fs.writeFileSync(`${target}/written`, 'through the mount')
      return [text, ...(await outside(target))]
    },
    source,
    target,
  )
  t.is(seen[0], 'content')
  t.true(source.endsWith(seen[1].root))
  t.is(readFileSync(path.join(source, 'written'), 'utf8'), 'through the mount')
})

test('remount: read-only afterwards, which is EROFS for whoever writes', async (t) => {
  const [source, target] = directories(t, 'source', 'target')
  const seen = await inMountNamespace(
    async ({ lib, fs, cp, outside }, source, target) => {
      lib.mount(source, target, null, 0, { bind: true })
      fs.writeFileSync(`${target}/before`, '')
      lib.mount(null, target, null, 0, { remount: true, bind: true, ro: true })
      const [{ options }] = await outside(target)
      const { status } = cp.spawnSync('touch', [`${target}/after`])
      try {
        fs.writeFileSync(`${target}/after`, '')
        return null
      } catch ({ code }) {
        return { code, status, options }
      }
    },
    source,
    target,
  )
  t.is(seen.code, 'EROFS')
  t.not(seen.status, 0)
  t.true(seen.options.includes('ro'))
  t.deepEqual(readdirSync(source), ['before'])
})

test('remount: the options of a file system change', async (t) => {
  const [target] = directories(t, 'target')
  const [before, after] = await inMountNamespace(async ({ lib, outside }, target) => {
    lib.mount('none', target, 'tmpfs', 0, { size: '64k' })
    const before = await outside(target)
    lib.mount(null, target, null, lib.MS_REMOUNT, { size: '128k', ro: true })
    return [...before, ...(await outside(target))]
  }, target)
  t.true(before.superOptions.includes('size=64k'))
  t.true(after.superOptions.includes('size=128k'))
  t.deepEqual([before.superOptions[0], after.superOptions[0]], ['rw', 'ro'])
})

test('rbind takes what is mounted below, and bind does not', async (t) => {
  const [source, alone, whole] = directories(t, 'source', 'alone', 'whole')
  mkdirSync(path.join(source, 'below'))
  const [withBind, withRbind] = await inMountNamespace(
    async ({ lib, outside }, source, alone, whole) => {
      lib.mount('none', `${source}/below`, 'tmpfs')
      lib.mount(source, alone, null, 0, { bind: true })
      lib.mount(source, whole, null, 0, { rbind: true })
      return [await outside(`${alone}/below`), await outside(`${whole}/below`)]
    },
    source,
    alone,
    whole,
  )
  t.deepEqual(withBind, [])
  t.deepEqual(
    withRbind.map(({ type }) => type),
    ['tmpfs'],
  )
})

test('move: a mount is in another place afterwards', async (t) => {
  const [from, to] = directories(t, 'from', 'to')
  const [before, after, file] = await inMountNamespace(
    async ({ lib, fs, outside }, from, to) => {
      lib.mount('none', from, 'tmpfs', 0, { size: '64k' })
      fs.writeFileSync(`${from}/file`, 'moved')
      lib.mount(from, to, null, 0, { move: true })
      return [await outside(from), await outside(to), fs.readFileSync(`${to}/file`, 'utf8')]
    },
    from,
    to,
  )
  t.deepEqual(before, [])
  t.is(after.length, 1)
  t.is(file, 'moved')
})

test('propagation changes, of one mount or with all below it', async (t) => {
  const [target] = directories(t, 'target')
  const seen = await inMountNamespace(async ({ lib, fs, outside }, target) => {
    lib.mount('none', target, 'tmpfs')
    const below = `${target}/below`
    fs.mkdirSync(below)
    lib.mount('none', below, 'tmpfs')
    const seen = {}
    const change = async (step, flags, data) => {
      lib.mount(null, target, null, flags, data)
      seen[step] = [(await outside(target))[0].propagation, (await outside(below))[0].propagation]
    }
    await change('shared', 0, { shared: true })
    await change('private', 0, { private: true })
    await change('rshared', 0, { rshared: true })
    await change('private of shared', 0, { private: true })
    await change('rprivate', 0, { rprivate: true })
    await change('unbindable', lib.MS_UNBINDABLE)
    await change('flags', lib.MS_SHARED | lib.MS_REC)
    return seen
  }, target)
  t.deepEqual(seen, {
    shared: [['shared'], []],
    private: [[], []],
    rshared: [['shared'], ['shared']],
    'private of shared': [[], ['shared']],
    rprivate: [[], []],
    unbindable: [['unbindable'], []],
    flags: [['shared'], ['shared']],
  })
})

test('a slave gets what is mounted on its master, and gives nothing back', async (t) => {
  const [master, slave] = directories(t, 'master', 'slave')
  const seen = await inMountNamespace(
    async ({ lib, fs, outside }, master, slave) => {
      lib.mount('none', master, 'tmpfs')
      fs.mkdirSync(`${master}/down`)
      fs.mkdirSync(`${master}/up`)
      lib.mount(null, master, null, 0, { shared: true })
      lib.mount(master, slave, null, 0, { bind: true })
      lib.mount(null, slave, null, 0, { slave: true })
      lib.mount('none', `${master}/down`, 'tmpfs')
      lib.mount('none', `${slave}/up`, 'tmpfs')
      const count = async (...places) =>
        Promise.all(places.map(async (place) => (await outside(place)).length))
      const propagation = []
      propagation.push((await outside(slave))[0].propagation)
      lib.mount(null, slave, null, 0, { rslave: true })
      propagation.push((await outside(`${slave}/down`))[0].propagation)
      const places = []
      for (const place of [`${slave}/down`, `${slave}/up`, `${master}/up`])
        places.push(...(await count(place)))
      return { propagation, places }
    },
    master,
    slave,
  )
  t.deepEqual(seen, { propagation: [['master'], ['master']], places: [1, 1, 0] })
})

test('an unbindable mount cannot be bound', async (t) => {
  const [source, target] = directories(t, 'source', 'target')
  const code = await inMountNamespace(
    ({ lib }, source, target) => {
      lib.mount('none', source, 'tmpfs')
      lib.mount(null, source, null, lib.MS_UNBINDABLE)
      try {
        lib.mount(source, target, null, lib.MS_BIND)
        return null
      } catch ({ code }) {
        return code
      }
    },
    source,
    target,
  )
  t.is(code, 'EINVAL')
})

test("mount: errors have the call's path and dest, as Node's have", async (t) => {
  const directory = temporaryDirectory(t)
  const [file, target, missing] = ['file', 'target', 'missing'].map((name) => path.join(directory, name))
  writeFileSync(file, '')
  mkdirSync(target)
  const MS_BIND = 4096
  const [unknown, both, alone, source, notDirectory, option, long] = await refused([
    ['mount', 'none', target, 'nosuchfs'],
    ['mount', 'none', missing, 'tmpfs'],
    ['mount', null, missing, 'tmpfs'],
    ['mount', missing, target, null, MS_BIND],
    ['mount', file, target, null, MS_BIND],
    ['mount', 'none', target, 'tmpfs', 0, { nosuchoption: true }],
    ['mount', null, `/${'x'.repeat(5000)}`, 'tmpfs'],
  ])
  t.is(unknown.message, `ENODEV: no such device, mount 'none' -> '${target}'`)
  t.regex(unknown.hint, /does not know this type of file system/)
  const shape = { name: 'Error', code: 'ENOENT', errno: -2, syscall: 'mount' }
  t.deepEqual(both, {
    ...shape,
    path: 'none',
    dest: missing,
    message: `ENOENT: no such file or directory, mount 'none' -> '${missing}'`,
  })
  t.deepEqual(alone, {
    ...shape,
    path: missing,
    message: `ENOENT: no such file or directory, mount '${missing}'`,
  })
  t.deepEqual(source, {
    ...shape,
    path: missing,
    dest: target,
    message: `ENOENT: no such file or directory, mount '${missing}' -> '${target}'`,
  })
  t.deepEqual([notDirectory.code, notDirectory.path, notDirectory.dest], ['ENOTDIR', file, target])
  t.deepEqual([option.code, option.errno, option.syscall], ['EINVAL', -22, 'mount'])
  t.is(long.code, 'ENAMETOOLONG')
})

test('mount and umount without privileges are EPERM, and the hint names the capability', async (t) => {
  const [target] = directories(t, 'target')
  const errors = await refused(
    [
      ['mount', 'none', target, 'tmpfs'],
      ['umount', target],
    ],
    unprivileged,
  )
  t.deepEqual(
    errors.map(({ message }) => message),
    [
      `EPERM: operation not permitted, mount 'none' -> '${target}'`,
      `EPERM: operation not permitted, umount2 '${target}'`,
    ],
  )
  for (const { hint } of errors) t.regex(hint, /needs CAP_SYS_ADMIN/)
})

test('mount and umount in a user namespace alone are EPERM, and the hint says what is missing', async (t) => {
  const [target] = directories(t, 'target')
  const [mount, umount] = await refused(
    [
      ['mount', 'none', target, 'tmpfs'],
      ['umount', target],
    ],
    inUserNamespace,
  )
  t.deepEqual([mount.code, umount.code], ['EPERM', 'EPERM'])
  t.regex(mount.hint, /mount namespace that was created in it/)
  t.regex(umount.hint, /mount namespace belongs to another/)
})

test('umount: the mount is gone, and what it hid is there again', async (t) => {
  const [target] = directories(t, 'target')
  writeFileSync(path.join(target, 'hidden'), '')
  const seen = await inMountNamespace(async ({ lib, fs, outside }, target) => {
    lib.mount('none', target, 'tmpfs', 0, { size: '64k' })
    lib.mount('none', target, 'tmpfs', 0, { size: '128k' })
    const look = async () => [(await outside(target)).length, fs.readdirSync(target).length]
    const seen = [await look()]
    const result = lib.umount(target)
    seen.push(await look())
    lib.umount(target, lib.MNT_FORCE)
    return [...seen, await look(), result === undefined]
  }, target)
  t.deepEqual(seen, [[2, 0], [1, 0], [0, 1], true])
})

test('umount: what is in use is EBUSY with a hint, and MNT_DETACH takes it out of sight', async (t) => {
  const [target] = directories(t, 'target')
  const seen = await inMountNamespace(async ({ lib, fs, outside }, target) => {
    lib.mount('none', target, 'tmpfs')
    fs.writeFileSync(`${target}/file`, 'still there')
    const fd = fs.openSync(`${target}/file`)
    let error = {}
    try {
      lib.umount(target)
    } catch (thrown) {
      error = { message: thrown.message, ...thrown }
    }
    const busy = (await outside(target)).length
    lib.umount(target, lib.MNT_DETACH)
    return { error, busy, after: (await outside(target)).length, text: fs.readFileSync(fd, 'utf8') }
  }, target)
  const { hint, ...error } = seen.error
  t.deepEqual(error, {
    errno: -16,
    code: 'EBUSY',
    syscall: 'umount2',
    path: target,
    message: `EBUSY: resource busy or locked, umount2 '${target}'`,
  })
  t.regex(hint, /MNT_DETACH/)
  t.deepEqual([seen.busy, seen.after, seen.text], [1, 0, 'still there'])
})

test('MNT_EXPIRE: EAGAIN at first, and unmounted at the second call, if nobody came by', async (t) => {
  const [target] = directories(t, 'target')
  const seen = await inMountNamespace(async ({ lib, fs, outside }, target) => {
    lib.mount('none', target, 'tmpfs')
    const expire = async () => {
      let code = null
      try {
        lib.umount(target, lib.MNT_EXPIRE)
      } catch (error) {
        code = error.code
      }
      return [code, (await outside(target)).length]
    }
    const seen = [await expire()]
    fs.readdirSync(target)
    return [...seen, await expire(), await expire()]
  }, target)
  t.deepEqual(seen, [
    ['EAGAIN', 1],
    ['EAGAIN', 1],
    [null, 0],
  ])
})

test('UMOUNT_NOFOLLOW: a symbolic link is not followed, and else it is', async (t) => {
  const [target] = directories(t, 'target')
  const link = path.join(path.dirname(target), 'link')
  symlinkSync(target, link)
  const seen = await inMountNamespace(
    async ({ lib, outside }, target, link) => {
      lib.mount('none', target, 'tmpfs')
      let error = {}
      try {
        lib.umount(link, lib.UMOUNT_NOFOLLOW)
      } catch ({ code, path }) {
        error = { code, path }
      }
      const before = (await outside(target)).length
      lib.umount(link)
      return { error, before, after: (await outside(target)).length }
    },
    target,
    link,
  )
  t.deepEqual(seen, { error: { code: 'EINVAL', path: link }, before: 1, after: 0 })
})

test('umount: what is no mount point, not there, or asked for by unknown flags', async (t) => {
  const [target] = directories(t, 'target')
  const missing = path.join(target, 'missing')
  const [plain, absent, flags] = await refused([
    ['umount', target],
    ['umount', missing],
    ['umount', target, 1 << 20],
  ])
  t.is(plain.message, `EINVAL: invalid argument, umount2 '${target}'`)
  t.regex(plain.hint, /This is no mount point/)
  t.deepEqual(absent, {
    name: 'Error',
    errno: -2,
    code: 'ENOENT',
    syscall: 'umount2',
    path: missing,
    message: `ENOENT: no such file or directory, umount2 '${missing}'`,
  })
  t.is(flags.code, 'EINVAL')
})

test('umount: a mount that came from outside of the user namespace is locked, and the hint says so', async (t) => {
  const [error] = await refused([['umount', '/proc']], [...inUserNamespace, '--mount'])
  t.deepEqual([error.code, error.path], ['EINVAL', '/proc'])
  t.regex(error.hint, /locked/)
  t.true(existsSync('/proc/self'))
})

test('paths and types are read as UTF-8', async (t) => {
  const [target] = directories(t, 'zïel 目')
  const [mount] = await inMountNamespace(async ({ lib, fs, outside }, target) => {
    lib.mount('qüelle', target, 'tmpfs')
    fs.writeFileSync(`${target}/inside`, '')
    return outside(target.replaceAll(' ', '\\040'))
  }, target)
  t.is(mount.source, 'qüelle')
  t.deepEqual(readdirSync(target), [])
})
