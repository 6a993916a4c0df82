import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { threadsOf } from './helpers/proc.mjs'
import { inProcess, isRoot, privileged } from './helpers/process.mjs'

const unprivileged = isRoot ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : []
const inMountNamespace = [...privileged, 'unshare', '--mount']

/** Root directory and mounts of a process, as they are seen from here. */
const look = (_, child) => ({
  root: readdirSync(`/proc/${child.pid}/root/`),
  roots: threadsOf(child.pid).map(({ rootPlace }) => rootPlace),
  mounts: mountsOf(child.pid),
})

function mountsOf(pid) {
  return readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [before, after] = line.split(' - ')
      return { target: before.split(' ')[4], fstype: after.split(' ')[0] }
    })
}

/** A directory that the process mounts a tmpfs on, and that nothing is left of outside. */
async function withDirectory(body) {
  const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
  try {
    return await body(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const inNewRoot = (fn, { wrap = inMountNamespace, outside = look, arg = null } = {}) =>
  withDirectory((directory) => inProcess(fn, { with: { wrap, outside } }, directory, arg))

/** Runs the lines of `script` with `$0` as the directory, then pivots; what came of it. */
function refused(script, newRoot, putOld, { wrap = inMountNamespace } = {}) {
  return inNewRoot(
    ({ lib, cp }, directory, { script, newRoot, putOld }) => {
      const fill = (text) => text.replace('$0', directory)
      const mounts = () => cp.execFileSync('cat', ['/proc/self/mountinfo'], { encoding: 'utf8' })
      cp.execFileSync('sh', ['-ec', script, directory])
      const before = mounts()
      try {
        lib.pivotRoot(fill(newRoot), fill(putOld))
      } catch (error) {
        const { name, message, code, errno, syscall, path, dest, hint } = error
        return {
          error: { name, message, code, errno, syscall, path, dest, hint },
          paths: [fill(newRoot), fill(putOld)],
          unchanged: mounts() === before,
        }
      }
      return { error: null }
    },
    { wrap, arg: { script, newRoot, putOld } },
  )
}

const TMPFS = 'mount -t tmpfs tmpfs "$0"; mkdir "$0/old" "$0/plain"'

test('The new root becomes the root, and the old one is below it', async (t) => {
  const { before, after, cwd, old } = await inNewRoot(async ({ lib, fs, cp, outside }, directory) => {
    await fs.promises.stat('/')
    process.chdir(directory)
    const before = await outside()
    cp.execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', directory])
    fs.mkdirSync(`${directory}/old`)
    fs.writeFileSync(`${directory}/inside`, '')
    process.chdir('/')
    process.cwd()
    lib.pivotRoot(directory, `${directory}/old`)
    const old = await fs.promises.readdir('/old')
    return { before, after: await outside(), cwd: process.cwd(), old }
  })
  t.true(before.root.includes('proc'))
  t.deepEqual(after.root.sort(), ['inside', 'old'])
  t.is(new Set(after.roots).size, 1)
  t.not(after.roots[0], before.roots[0])
  t.is(after.mounts.find(({ target }) => target === '/').fstype, 'tmpfs')
  t.truthy(after.mounts.find(({ target }) => target === '/old'))
  t.is(cwd, '/')
  t.deepEqual(old.sort(), before.root.sort())
})

test("pivotRoot('.', '.') stacks the two, and umount('.', MNT_DETACH) leaves the new one alone", async (t) => {
  const { after, cwd } = await inNewRoot(async ({ lib, fs, cp, outside }, directory) => {
    cp.execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', directory])
    fs.writeFileSync(`${directory}/inside`, '')
    process.chdir(directory)
    process.cwd()
    lib.pivotRoot('.', '.')
    lib.umount('.', lib.MNT_DETACH)
    process.chdir('/')
    return { after: await outside(), cwd: process.cwd() }
  })
  t.deepEqual(after.root, ['inside'])
  t.deepEqual(after.mounts, [{ target: '/', fstype: 'tmpfs' }])
  t.is(new Set(after.roots).size, 1)
  t.is(cwd, '/')
})

test('A directory bound onto itself can be the new root', async (t) => {
  const after = await inNewRoot(async ({ lib, fs, cp, outside }, directory) => {
    fs.mkdirSync(`${directory}/old`)
    cp.execFileSync('mount', ['--bind', directory, directory])
    lib.pivotRoot(directory, `${directory}/old`)
    return outside()
  })
  t.deepEqual(after.root, ['old'])
  t.truthy(after.mounts.find(({ target }) => target === '/old'))
})

test('A new root that is no mount point is EINVAL, and the hint says so', async (t) => {
  const { error, paths, unchanged } = await refused(
    `${TMPFS}; mkdir "$0/plain/old"`,
    '$0/plain',
    '$0/plain/old',
  )
  t.like(error, {
    name: 'Error',
    code: 'EINVAL',
    errno: -22,
    syscall: 'pivot_root',
    path: paths[0],
    dest: paths[1],
    message: `EINVAL: invalid argument, pivot_root '${paths[0]}' -> '${paths[1]}'`,
  })
  t.true(error.hint.startsWith(`${paths[0]} is no mount point: bind it onto itself`), error.hint)
  t.true(unchanged)
})

test('A place for the old root that is not below the new one is EINVAL, and the hint says so', async (t) => {
  const script = `${TMPFS}; mkdir "$0/new"; mount -t tmpfs tmpfs "$0/new"`
  const { error, paths, unchanged } = await refused(script, '$0/new', '$0/old')
  t.is(error.code, 'EINVAL')
  t.is(error.hint, `${paths[1]} is not at or below ${paths[0]}`)
  t.true(unchanged)
})

test('A directory whose name only begins like the new root is not below it', async (t) => {
  const script = `${TMPFS}; mkdir "$0/new" "$0/newer"; mount -t tmpfs tmpfs "$0/new"`
  const { error, paths } = await refused(script, '$0/new', '$0/newer')
  t.is(error.code, 'EINVAL')
  t.is(error.hint, `${paths[1]} is not at or below ${paths[0]}`)
})

/** Runs a program in a directory of a tmpfs, no mount point, with everything of `/` bound below. */
const IN_CHROOT = `
  set -e
  base=$(mktemp -d)
  mount -t tmpfs tmpfs "$base"
  mkdir "$base/in"
  for entry in /*; do
    if [ -L "$entry" ]; then cp -P "$entry" "$base/in$entry"
    elif [ -d "$entry" ]; then mkdir "$base/in$entry"; mount --rbind "$entry" "$base/in$entry"
    fi
  done
  exec unshare --root "$base/in" "$@"`

test('After a chroot to no mount point it is EINVAL, and the hint says so', async (t) => {
  const outer = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
  try {
    const { error, unchanged } = await refused(TMPFS, '$0', '$0/old', {
      wrap: ['env', `TMPDIR=${outer}`, ...inMountNamespace, 'sh', '-c', IN_CHROOT, 'sh'],
    })
    t.is(error.code, 'EINVAL')
    t.regex(error.hint, /current root directory is no mount point, because of an earlier chroot/)
    t.true(unchanged)
  } finally {
    rmSync(outer, { recursive: true })
  }
})

test('Where /proc says that the root is the initial ramfs, the hint says so', async (t) => {
  // Entering the real one would lay hands on what every process shares: /proc is made to say it.
  const script = `${TMPFS}
    mount -t tmpfs tmpfs /proc
    mkdir -p /proc/thread-self/fdinfo
    echo '1 1 0:2 / / rw - rootfs rootfs rw' > /proc/thread-self/mountinfo
    for fd in $(seq 0 200); do echo 'mnt_id:	1' > /proc/thread-self/fdinfo/$fd; done
    mkdir /proc/self
    echo same > /proc/self/mountinfo`
  const { error } = await refused(`${script}; mkdir "$0/plain/old"`, '$0/plain', '$0/plain/old')
  t.is(error.code, 'EINVAL')
  t.regex(error.hint, /initial ramfs.*switch_root/)
})

test('A new root on a mount with shared propagation is EINVAL, and the hint says so', async (t) => {
  const script = `mount --make-rshared /; mount -t tmpfs tmpfs "$0"; mount --make-private "$0"; mkdir "$0/old"`
  const { error, paths, unchanged } = await refused(script, '$0', '$0/old')
  t.is(error.code, 'EINVAL')
  t.true(
    error.hint.includes(`The propagation of ${paths[0]}, or of the mount that it is on, is shared`),
    error.hint,
  )
  t.true(error.hint.includes("mount(null, '/', null, MS_REC | MS_PRIVATE)"))
  t.true(unchanged)
})

test('What that hint advises helps', async (t) => {
  const { after } = await inNewRoot(async ({ lib, fs, cp, outside }, directory) => {
    cp.execFileSync('mount', ['--make-rshared', '/'])
    cp.execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', directory])
    fs.mkdirSync(`${directory}/old`)
    lib.mount(null, '/', null, lib.MS_REC | lib.MS_PRIVATE)
    lib.pivotRoot(directory, `${directory}/old`)
    return { after: await outside() }
  })
  t.deepEqual(after.root, ['old'])
})

test('A place for the old root that is a mount with shared propagation is EINVAL, and the hint says so', async (t) => {
  const script = `${TMPFS}; mount -t tmpfs tmpfs "$0/old"; mount --make-shared "$0/old"`
  const { error, paths, unchanged } = await refused(script, '$0', '$0/old')
  t.is(error.code, 'EINVAL')
  t.true(error.hint.startsWith(`${paths[1]} is a mount point whose propagation is shared`), error.hint)
  t.true(unchanged)
})

test('A mount that came locked from a more privileged namespace is EINVAL, and the hint says so', async (t) => {
  const { error } = await refused('', '/proc', '/proc', {
    wrap: [...privileged, 'unshare', '--user', '--map-root-user', '--mount'],
  })
  t.is(error.code, 'EINVAL')
  t.regex(error.hint, /came locked from a more privileged mount namespace/)
})

test("A place for the old root on the current root's mount is EBUSY, and the hint says what helps", async (t) => {
  const { error, paths, unchanged } = await refused(TMPFS, '$0', '/etc')
  t.like(error, { code: 'EBUSY', syscall: 'pivot_root', path: paths[0], dest: paths[1] })
  t.regex(error.hint, /is on the mount of the current root/)
  t.true(unchanged)
})

test("A new root on the current root's mount is refused, and the hint says what helps", async (t) => {
  const { error, unchanged } = await refused('', '/etc', '/etc')
  // In a user namespace of its own the current root is locked, which the kernel looks at first.
  t.like(error, { code: isRoot ? 'EBUSY' : 'EINVAL', syscall: 'pivot_root' })
  t.regex(error.hint, /bind (the new root|it) onto itself/)
  t.true(unchanged)
})

for (const [newRoot, putOld, code] of [
  ['$0/missing', '$0/old', 'ENOENT'],
  ['$0', '$0/missing', 'ENOENT'],
  ['$0/file', '$0/old', 'ENOTDIR'],
  ['$0', '$0/file', 'ENOTDIR'],
  ['$0/file/below', '$0/old', 'ENOTDIR'],
]) {
  test(`pivotRoot('${newRoot}', '${putOld}') is ${code} with both paths`, async (t) => {
    const { error, paths, unchanged } = await refused(`${TMPFS}; : > "$0/file"`, newRoot, putOld)
    t.like(error, { code, syscall: 'pivot_root', path: paths[0], dest: paths[1] })
    t.true(error.message.endsWith(`, pivot_root '${paths[0]}' -> '${paths[1]}'`))
    t.true(unchanged)
  })
}

test('A path that is too long is ENAMETOOLONG', async (t) => {
  const { error } = await refused(TMPFS, `$0/${'x'.repeat(5000)}`, '$0/old')
  t.like(error, { code: 'ENAMETOOLONG', syscall: 'pivot_root' })
})

test('Without privilege it is EPERM, and the hint says what is needed', async (t) => {
  const { error } = await refused('', '$0', '$0', { wrap: unprivileged })
  t.like(error, { code: 'EPERM', errno: -1, syscall: 'pivot_root' })
  t.regex(error.hint, /CAP_SYS_ADMIN/)
})
