import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { namespacesOf, threadsOf } from './helpers/proc.mjs'
import { available, inProcess, inUserNamespace, isRoot, privileged, run } from './helpers/process.mjs'

const unprivileged = isRoot ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : []
const types = ['user', 'mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup', 'time']
const features = [
  ...types,
  'unprivileged-userns',
  'clone3',
  'set-tid',
  'into-cgroup',
  'cgroup2',
  'pidfd',
  'setns-pidfd',
  'time-offsets',
  'newuidmap',
  'newgidmap',
  'subuid',
  'subgid',
  'kcmp',
  'nsfs-id',
  'nsfs-pid-translation',
  'proc-mount',
  'overlay',
  'seccomp',
  'loopback',
]

const probe = (options = {}) => inProcess(({ lib }) => lib.probe(), { with: options })

const succeeds = (...words) =>
  run(...words).then(
    () => true,
    () => false,
  )

test('Every feature of the contract is there, and no other, each with an answer', async (t) => {
  const found = await probe()
  t.deepEqual(Object.keys(found).sort(), [...features].sort())
  for (const [feature, answer] of Object.entries(found)) {
    if (answer.ok === true) t.deepEqual(answer, { ok: true }, feature)
    else {
      t.is(answer.ok, false, feature)
      t.is(typeof answer.reason, 'string', feature)
      t.not(answer.reason, '', feature)
      t.true(answer.hint === undefined || typeof answer.hint === 'string', feature)
    }
  }
})

test('The answer cannot be changed', async (t) => {
  t.true(await inProcess(({ lib }) => Object.isFrozen(lib.probe())))
})

for (const [who, wrap] of [
  ['with privilege', privileged],
  ['without privilege', unprivileged],
  ['in a user namespace', inUserNamespace],
]) {
  test(`A namespace type is ok where unshare(1) can make one, ${who}`, async (t) => {
    const found = await probe({ wrap })
    for (const type of types) {
      const option = `--${type === 'mnt' ? 'mount' : type}`
      t.is(found[type].ok, await succeeds(...wrap, 'unshare', option, 'true'), type)
    }
  })

  test(`unprivileged-userns is ok where unshare(1) can make one and use it, ${who}`, async (t) => {
    const found = await probe({ wrap })
    t.is(found['unprivileged-userns'].ok, await succeeds(...wrap, 'unshare', '--user', '--mount', 'true'))
  })

  test(`proc-mount is ok where unshare(1) can mount one, ${who}`, async (t) => {
    const found = await probe({ wrap })
    const words = ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--mount-proc', 'true']
    t.is(found['proc-mount'].ok, await succeeds(...wrap, ...words))
  })
}

test('With privilege every namespace type is ok', async (t) => {
  const found = await probe()
  for (const type of types) t.deepEqual(found[type], { ok: true }, type)
})

test('Without privilege namespaces other than user are EPERM, and the hint says what is needed', async (t) => {
  const found = await probe({ wrap: unprivileged })
  for (const type of types.filter((type) => type !== 'user')) {
    t.is(found[type].ok, false, type)
    t.is(found[type].reason, 'EPERM: operation not permitted, unshare', type)
    t.regex(found[type].hint, /CAP_SYS_ADMIN/, type)
  }
  t.deepEqual(found.user, { ok: true })
  t.deepEqual(found['unprivileged-userns'], { ok: true })
})

for (const type of types) {
  test(`A limit of 0 for ${type} is told as ENOSPC, and the hint names the sysctl`, async (t) => {
    const found = await inProcess(
      ({ lib, fs }, type) => {
        fs.writeFileSync(`/proc/sys/user/max_${type}_namespaces`, '0')
        return lib.probe()
      },
      { with: { wrap: inUserNamespace } },
      type,
    )
    t.is(found[type].ok, false)
    t.regex(found[type].reason, /^ENOSPC: .*, unshare$/)
    t.true(found[type].hint.includes(`user.max_${type}_namespaces (here 0)`), found[type].hint)
    for (const other of types.filter((other) => other !== type)) t.true(found[other].ok, other)
    t.is(found['unprivileged-userns'].ok, !['user', 'mnt'].includes(type))
    t.is(found['proc-mount'].ok, !['mnt', 'pid'].includes(type))
    t.is(found.loopback.ok, type !== 'net')
  })
}

test('Where user namespaces are limited to 0, a hint about unprivileged-userns names max_user_namespaces', async (t) => {
  const found = await inProcess(
    ({ lib, fs }) => {
      fs.writeFileSync('/proc/sys/user/max_user_namespaces', '0')
      return lib.probe()
    },
    { with: { wrap: inUserNamespace } },
  )
  t.regex(found['unprivileged-userns'].hint, /user\.max_user_namespaces \(here 0\)/)
})

test('newuidmap and newgidmap that are nowhere are told as ENOENT, and the hint names their package', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
  try {
    const found = await inProcess(({ lib }, directory) => {
      process.env.PATH = directory
      return lib.probe()
    }, directory)
    for (const feature of ['newuidmap', 'newgidmap']) {
      t.is(found[feature].reason, 'ENOENT: no such file or directory, execve', feature)
      t.regex(found[feature].hint, /uidmap/, feature)
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('A directory of PATH that cannot be searched does not hide that newuidmap is missing', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
  try {
    mkdirSync(path.join(directory, 'closed'))
    chmodSync(path.join(directory, 'closed'), 0)
    // Root without CAP_DAC_OVERRIDE cannot search it either.
    const found = await inProcess(
      ({ lib }, directory) => {
        process.env.PATH = `${directory}/closed:${directory}`
        return lib.probe()
      },
      { with: { wrap: unprivileged } },
      directory,
    )
    t.is(found.newuidmap.ok, false)
    t.regex(found.newuidmap.hint, /uidmap/)
  } finally {
    chmodSync(path.join(directory, 'closed'), 0o700)
    rmSync(directory, { recursive: true })
  }
})

test('A newuidmap that refuses is not ok', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
  try {
    chmodSync(directory, 0o755)
    writeFileSync(path.join(directory, 'newuidmap'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
    writeFileSync(path.join(directory, 'newgidmap'), '#!/bin/sh\nexit 0\n', { mode: 0o755 })
    const found = await inProcess(({ lib }, directory) => {
      process.env.PATH = directory
      return lib.probe()
    }, directory)
    t.is(found.newuidmap.ok, false)
    t.regex(found.newuidmap.reason, /refuses/)
    t.deepEqual(found.newgidmap, { ok: true })
  } finally {
    rmSync(directory, { recursive: true })
  }
})

for (const [feature, file] of [
  ['subuid', '/etc/subuid'],
  ['subgid', '/etc/subgid'],
]) {
  for (const [contents, ok] of [
    ['UID:100000:65536\n', true],
    ['NAME:100000:65536\n', true],
    ['someone-else:100000:65536\n', false],
    ['', false],
  ]) {
    test(`${feature} is ${ok ? '' : 'not '}ok with ${JSON.stringify(contents)} in ${file}`, async (t) => {
      const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
      try {
        const mine = path.join(directory, 'ids')
        writeFileSync(mine, contents.replace('UID', '0').replace('NAME', 'root'))
        const script = `[ -e ${file} ] || exit 77; mount --bind "$0" ${file} && exec "$@"`
        const exists = readdirSync('/etc').includes(path.basename(file))
        if (!available(t, exists, `${file}, to bind another over it`)) return
        const found = await probe({ wrap: [...privileged, 'unshare', '--mount', 'sh', '-c', script, mine] })
        t.is(found[feature].ok, ok)
        if (!ok) t.regex(found[feature].hint, new RegExp(`usermod --add-${feature}s`))
      } finally {
        rmSync(directory, { recursive: true })
      }
    })
  }
}

test('Nothing is left: descriptors, children, mounts, namespaces and cgroup are as before', async (t) => {
  const look = (_, child) => ({
    descriptors: readdirSync(`/proc/${child.pid}/fd`),
    children: readdirSync(`/proc/${child.pid}/task`).map((tid) =>
      readFileSync(`/proc/${child.pid}/task/${tid}/children`, 'utf8'),
    ),
    mounts: readFileSync(`/proc/${child.pid}/mountinfo`, 'utf8'),
    cgroup: readFileSync(`/proc/${child.pid}/cgroup`, 'utf8'),
    namespaces: namespacesOf(`/proc/${child.pid}`),
    threads: threadsOf(child.pid),
    status: readFileSync(`/proc/${child.pid}/status`, 'utf8')
      .split('\n')
      .filter((line) => /^(Uid|Gid|Cap\w+|SigBlk|NoNewPrivs|Seccomp|Umask)/.test(line)),
  })
  for (const wrap of [privileged, unprivileged]) {
    const { before, after } = await inProcess(
      async ({ lib, outside }) => {
        // The first of all loads what is loaded once.
        await outside()
        const before = await outside()
        lib.probe()
        lib.probe()
        return { before, after: await outside() }
      },
      { with: { outside: look, wrap } },
    )
    t.deepEqual(after, before)
  }
})

test('Its cost does not explode with 500 MB of Buffers', async (t) => {
  const { small, large } = await inProcess(({ lib }) => {
    const time = () => {
      const start = process.hrtime.bigint()
      lib.probe()
      return Number(process.hrtime.bigint() - start) / 1e6
    }
    time()
    const small = time()
    globalThis.kept = Array.from({ length: 50 }, () => Buffer.alloc(10_000_000, 1))
    return { small, large: time() }
  })
  t.log(`${small.toFixed()} ms, with 500 MB ${large.toFixed()} ms`)
  t.true(large < 3000, `${large}`)
})

/** A file system of our own over /proc/sys/kernel, as a kernel with AppArmor's restriction would show it. */
const RESTRICTED = `
  mount -t tmpfs tmpfs /proc/sys/kernel
  echo "$0" > /proc/sys/kernel/apparmor_restrict_unprivileged_userns
  exec setpriv --bounding-set=-all --inh-caps=-all "$@"`

const restricted = (value) => [...inUserNamespace, '--mount', 'sh', '-ec', RESTRICTED, value]

test('Where AppArmor takes capabilities away in user namespaces, the hints name it', async (t) => {
  const { found, errors } = await inProcess(
    ({ lib, fs }) => {
      const errors = [
        () => lib.unshare('uts'),
        () => lib.unshare('uts', { threads: 'all' }),
        () => lib.setns(fs.openSync('/proc/self/ns/uts'), 'uts'),
        () => lib.sethostname('name'),
      ].map((call) => {
        try {
          return call()
        } catch ({ code, hint }) {
          return { code, hint }
        }
      })
      return { found: lib.probe(), errors }
    },
    { with: { wrap: restricted('1') } },
  )
  for (const { code, hint } of errors) {
    t.is(code, 'EPERM')
    t.regex(hint, /AppArmor.*apparmor_restrict_unprivileged_userns.*profile/)
  }
  for (const type of ['mnt', 'uts', 'net']) t.regex(found[type].hint, /AppArmor/, type)
})

test('Where that restriction is off, no hint names AppArmor', async (t) => {
  const { found, error } = await inProcess(
    ({ lib }) => {
      try {
        lib.unshare('uts')
      } catch ({ code, hint }) {
        return { error: { code, hint }, found: lib.probe() }
      }
    },
    { with: { wrap: restricted('0') } },
  )
  t.is(error.code, 'EPERM')
  t.notRegex(error.hint, /AppArmor/)
  for (const type of types) t.notRegex(found[type].hint ?? '', /AppArmor/, type)
})
