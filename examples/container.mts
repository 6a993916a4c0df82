// A container in one call: a root file system from a directory, and what is inside sees nothing of what is outside.
//   node container.mjs DIRECTORY [COMMAND [ARGUMENT…]]
// The directory may be of busybox alone: mkdir bin && cp $(which busybox) bin && chroot . /bin/busybox --install -s /bin
import { spawn } from 'linux-clone'

const [root, command = 'sh', ...args] = process.argv.slice(2)
if (root === undefined) throw new Error('usage: container.mjs DIRECTORY [COMMAND [ARGUMENT…]]')

const container = spawn(command, args, {
  stdio: 'inherit',
  env: {
    PATH: '/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin',
    HOME: '/root',
    TERM: process.env.TERM ?? 'dumb',
  },
  cwd: '/',

  // Root inside is whoever has started it outside: this needs no privilege.
  unshare: ['user', 'mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup'],
  uidMappings: 'root',
  gidMappings: 'root',

  // /proc comes by itself, with the pid namespace; at last the root becomes read-only.
  root,
  mounts: [
    { type: 'dev', target: '/dev' },
    { type: 'sysfs', target: '/sys', options: ['ro', 'nosuid', 'nodev', 'noexec'] },
    { type: 'tmpfs', target: '/tmp', options: ['nosuid', 'nodev', 'size=64m', 'mode=1777'] },
    { type: 'tmpfs', target: '/root', options: ['nosuid', 'nodev', 'size=16m', 'mode=700'] },
    { target: '/', options: ['remount', 'bind', 'ro'] },
  ],

  // A name, and a network in which 127.0.0.1 answers and nothing else is.
  hostname: 'container',
  network: 'loopback',

  // What it may use, and what it may do.
  rlimits: { nofile: 256, core: 0, fsize: 64 << 20 },
  capabilities: [
    'CAP_CHOWN',
    'CAP_DAC_OVERRIDE',
    'CAP_FOWNER',
    'CAP_KILL',
    'CAP_SETGID',
    'CAP_SETUID',
    'CAP_NET_BIND_SERVICE',
  ],
  noNewPrivileges: true,
})

container.on('error', (error: NodeJS.ErrnoException & { step?: string; hint?: string }) => {
  console.error(`container: ${error.step}: ${error.message}${error.hint ? `\n  ${error.hint}` : ''}`)
  process.exitCode = 125
})
// Init passes on what ends us; and were we killed, the kernel would end the container.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => container.kill(signal))
container.on('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 0) : 128
})
