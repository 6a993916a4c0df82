// Runs the JavaScript tests, as root and as an ordinary user, and a hundred clones of a busy process, on an aarch64 kernel:
// in a virtual machine, whose whole system is an initramfs of Debian's packages and the Node that npm has for this processor.
// `node scripts/test-aarch64.mjs [--musl] [--node=24] [--clones=100] [--no-tests] [--as-root] [FILE...]`; a FILE is one of
// __test__, and --as-root is without the ordinary user.
import { spawn } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { failures } from './platforms/failures.mjs'
import { muslNode, nodeOfNpm } from './platforms/nodes.mjs'
import { root, TARGETS } from './platforms/targets.mjs'
import { debian, run, unpackedDebian } from './platforms/tools.mjs'

const SUITE = 'trixie'
/** What the tests look with. */
const SYSTEM = [
  ...[
    'base-files',
    'bash',
    'bsdutils',
    'busybox-static',
    'coreutils',
    'dash',
    'findutils',
    'gcc',
    'grep',
    'hostname',
    'iproute2',
    'kmod',
    'libatomic1',
    'libc6-dev',
  ],
  ...['libstdc++6', 'mawk', 'mount', 'procps', 'sed', 'strace', 'uidmap', 'util-linux'],
]
/** Of /usr/share. */
const UNREAD = ['doc', 'locale', 'man']
const KERNEL = ['linux-image-cloud-arm64']
/** Nothing of it runs there. */
const FOREIGN = ['@biomejs', '@esbuild', '@napi-rs', '@octokit', 'esbuild', 'typescript', '.bin']
/** How much slower the emulated processor is; what one test may take, and one clone of the stress in seconds. */
const SLOWNESS = 20
const PATIENCE = '40m'
const DEADLINE = 900

const { values, positionals } = parseArgs({
  allowNegative: true,
  allowPositionals: true,
  options: {
    musl: { type: 'boolean', default: false },
    node: { type: 'string', default: '24' },
    clones: { type: 'string', default: '100' },
    tests: { type: 'boolean', default: true },
    'as-root': { type: 'boolean', default: false },
  },
})
/** What the kernel has unpacked cannot be left by pivot_root(2), but a mount of it that lies over it can. */
const FIRST = `#!/bin/sh
mount --bind / /mnt
cd /mnt
mount --move . /
exec chroot . /second
`

const second = (words) => `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=1777 tmp /tmp
ln -s /proc/self/fd /dev/fd
ip link set lo up
hostname aarch64
modprobe overlay
modprobe veth
export PATH=/usr/sbin:/usr/bin
# Without colours: the console is no screen.
export TERM=dumb
cd /package
uname -srm
node -p '"Node " + process.version'
status=0
# A connection to one of localhost's addresses may take longer than until the next is tried.
export NODE_OPTIONS=--network-family-autoselection-attempt-timeout=60000
${values.tests ? `LINUX_CLONE_TEST_SLOWNESS=${SLOWNESS} node scripts/test.mjs ${words.join(' ')} || status=1` : ''}
${Number(values.clones) > 0 ? `STRESS_DEADLINE=${DEADLINE} node scripts/stress-clone.mjs ${values.clones} || status=1` : ''}
echo "The virtual machine ends with $status"
sync
echo o >/proc/sysrq-trigger
sleep 60
`

const target = TARGETS.find(({ arch, abi }) => arch === 'arm64' && abi === (values.musl ? 'musl' : 'gnu'))
if (!existsSync(target.binary)) throw new Error(`first: npm run build:all -- ${target.platform}`)
if (!existsSync(path.join(root, 'dist/library.js'))) throw new Error('first: npm run build')

debian({ 'qemu-system-arm': '/usr/bin/qemu-system-aarch64', cpio: '/usr/bin/cpio', kmod: '/sbin/depmod' })
const kernel = unpackedDebian(SUITE, 'arm64', KERNEL)
const work = mkdtempSync(path.join(tmpdir(), 'linux-clone-aarch64-'))
try {
  const system = makeSystem(path.join(work, 'system'))
  const archive = path.join(work, 'initramfs')
  run('sh', ['-c', 'cd "$1" && find . | cpio --quiet --create --format=newc >"$2"', 'sh', system, archive])
  rmSync(system, { recursive: true })
  process.exitCode = await boot(archive)
} finally {
  rmSync(work, { recursive: true })
}

/** A root directory with the system, Node, the package, and what runs them. */
function makeSystem(directory) {
  const copy = (from, to, filter) =>
    cpSync(from, path.join(directory, to), { recursive: true, verbatimSymlinks: true, filter })
  const system = unpackedDebian(SUITE, 'arm64', SYSTEM)
  const unread = new Set(UNREAD.map((name) => path.join(system, 'usr/share', name)))
  copy(system, '.', (file) => !unread.has(file))
  const modules = path.join(kernel, 'usr/lib/modules')
  copy(modules, 'usr/lib/modules')
  run('depmod', ['--basedir', directory, ...readdirSync(modules)])
  if (values.musl) copy(muslNode('arm64', values.node), 'usr')
  else copy(nodeOfNpm('arm64', values.node), 'usr/bin/node')

  const skipped = new Set(['.git', '.nodes', '.tools', 'crates', 'target', 'node_modules'])
  copy(root, 'package', (file) => {
    const [first] = path.relative(root, file).split(path.sep)
    return !skipped.has(first) && !first.endsWith('.node')
  })
  const foreign = new Set(FOREIGN.map((name) => path.join(root, 'node_modules', name)))
  copy(path.join(root, 'node_modules'), 'package/node_modules', (file) => !foreign.has(file))
  copy(target.binary, path.join('package', path.basename(target.binary)))

  for (const name of ['dev', 'proc', 'sys', 'tmp', 'root', 'run', 'etc', 'mnt'])
    mkdirSync(path.join(directory, name), { recursive: true })
  chmodSync(path.join(directory, 'tmp'), 0o1777)
  writeFileSync(
    path.join(directory, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n',
  )
  writeFileSync(path.join(directory, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n')
  writeFileSync(path.join(directory, 'etc/hosts'), '127.0.0.1 localhost\n::1 localhost\n')
  symlinkSync('../proc/self/mounts', path.join(directory, 'etc/mtab'))
  symlinkSync('gcc', path.join(directory, 'usr/bin/cc'))
  const files = positionals.map((file) => `__test__/${path.basename(file)}`)
  // All tests of a file at once would each take as long as all of them.
  const words = [...(values['as-root'] ? ['--as-we-are'] : []), '--serial', `--timeout=${PATIENCE}`, ...files]
  writeFileSync(path.join(directory, 'init'), FIRST, { mode: 0o755 })
  writeFileSync(path.join(directory, 'second'), second(words), { mode: 0o755 })
  return directory
}

/** What the last line says, or 1 where there is none; what has failed is told once more, last. */
async function boot(archive) {
  const lines = []
  const log = createWriteStream(path.join(root, 'target/aarch64.log'))
  const qemu = spawn(
    'qemu-system-aarch64',
    [
      ...['-machine', 'virt', '-cpu', 'neoverse-n1', '-smp', '2', '-m', '4G'],
      ...['-nographic', '-no-reboot', '-nic', 'none'],
      ...[
        '-kernel',
        path.join(
          kernel,
          'boot',
          readdirSync(path.join(kernel, 'boot')).find((name) => name.startsWith('vmlinuz')),
        ),
      ],
      ...['-initrd', archive, '-append', 'console=ttyAMA0 quiet panic=-1'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let status
  for await (const line of createInterface(qemu.stdout)) {
    console.log(line)
    log.write(`${line}\n`)
    lines.push(line)
    status = /^The virtual machine ends with (\d+)/.exec(line)?.[1] ?? status
  }
  if (status === undefined) console.log('\nThe virtual machine has not come to its end')
  if (status !== '0') console.log(`\nFailed:\n${failures(lines.join('\n'))}`)
  return Number(status ?? 1)
}
