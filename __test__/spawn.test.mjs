// What is spawn's own beside child_process: options that are refused, errors that say more, pidfds, and clones that spawn.
import cp from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import test from 'ava'
import lib from '../index.js'
import { temporaryDirectory } from './helpers/machine.mjs'
import { inProcess, isRoot } from './helpers/process.mjs'
import { within } from './helpers/spawning.mjs'

// With a directory in it that may not be searched, execvp says EACCES of what is not there.
process.env.PATH = '/usr/local/bin:/usr/bin:/bin'

const { spawn, spawnSync } = lib

/** Options, what names the mistake, and the code where it is not ERR_INVALID_ARG_VALUE. */
const wrong = [
  [{ hostnam: 'x' }, /options\.hostnam'.*did you mean 'hostname'/],
  [{ unshared: ['net'] }, /options\.unshared'.*did you mean 'unshare'/],
  [{ stdioo: 'pipe' }, /options\.stdioo'.*did you mean 'stdio'/],
  [{ unshare: 'net' }, /options\.unshare/, 'ERR_INVALID_ARG_TYPE'],
  [{ unshare: [5] }, /options\.unshare\[0\]/, 'ERR_INVALID_ARG_TYPE'],
  [{ unshare: ['net', 'nett'] }, /options\.unshare\[1\].*'net'/],
  [{ join: 'net' }, /options\.join/, 'ERR_INVALID_ARG_TYPE'],
  [{ join: 1.5 }, /options\.join/, 'ERR_OUT_OF_RANGE'],
  [{ join: { nett: 1 } }, /options\.join\.nett.*'net'/],
  [{ join: { net: true } }, /options\.join\.net/, 'ERR_INVALID_ARG_TYPE'],
  [{ join: { net: {} } }, /options\.join\.net\.fd/, 'ERR_INVALID_ARG_TYPE'],
  [{ join: { net: { fd: 3, pid: 1 } } }, /options\.join\.net\.pid/],
  [{ join: { pid: 1 }, unshare: ['pid'] }, /options\.unshare.*join\.pid/],
  [{ uidMappings: 'root' }, /options\.uidMappings.*unshare: \['user'\]/],
  [{ gidMappings: 'root', unshare: ['net'] }, /options\.gidMappings.*user/],
  [{ setgroups: 'deny' }, /options\.setgroups.*user/],
  [{ unshare: ['user'], setgroups: 'never' }, /options\.setgroups/],
  [{ unshare: ['user'], uidMappings: 'mine' }, /options\.uidMappings.*'root'/],
  [{ unshare: ['user'], uidMappings: [] }, /options\.uidMappings/],
  [{ unshare: ['user'], uidMappings: [line(0, 0, 0)] }, /uidMappings\[0\]\.count/, 'ERR_OUT_OF_RANGE'],
  [
    { unshare: ['user'], uidMappings: [line(0, 2 ** 32 - 2, 3)] },
    /uidMappings\[0\]\.count/,
    'ERR_OUT_OF_RANGE',
  ],
  [
    { unshare: ['user'], uidMappings: [line(0, 100, 10), line(9, 200, 5)] },
    /uidMappings\[1\].*uidMappings\[0\] inside/,
  ],
  [
    { unshare: ['user'], gidMappings: [line(0, 100, 10), line(20, 109, 5)] },
    /gidMappings\[1\].*gidMappings\[0\] outside/,
  ],
  [{ timeOffsets: { boottime: 1 } }, /options\.timeOffsets.*unshare: \['time'\]/],
  [{ unshare: ['time'], timeOffsets: { boot: 1 } }, /options\.timeOffsets\.boot'/],
  [{ unshare: ['time'], timeOffsets: { monotonic: '1' } }, /monotonic/, 'ERR_INVALID_ARG_TYPE'],
  [{ propagation: 'private' }, /options\.propagation.*mount namespace/],
  [{ unshare: ['mnt'], propagation: 'rprivate' }, /options\.propagation.*'private'/],
  [{ root: 5 }, /options\.root/, 'ERR_INVALID_ARG_TYPE'],
  [{ root: '' }, /options\.root/],
  [{ root: '/does/not/exist' }, /options\.root' is no directory/],
  [{ root: '/etc/passwd' }, /options\.root' is no directory/],
  [{ root: '/tmp\0' }, /options\.root/],
  [{ mounts: [{ type: 'tmpfs', target: '/mnt' }] }, /options\.mounts.*mount namespace/],
  [{ unshare: ['mnt'], mounts: {} }, /options\.mounts/, 'ERR_INVALID_ARG_TYPE'],
  [{ unshare: ['mnt'], mounts: ['/mnt'] }, /options\.mounts\[0\]/, 'ERR_INVALID_ARG_TYPE'],
  [mounting({ type: 'tmpfs' }), /mounts\[0\]\.target/, 'ERR_INVALID_ARG_TYPE'],
  [mounting({ type: 'tmpfs', target: '' }), /mounts\[0\]\.target/],
  [mounting({ type: 'tmpfs', target: '../etc' }), /mounts\[0\]\.target' must not climb/],
  [mounting({ type: 'tmpfs', target: '/a/../../etc' }), /mounts\[0\]\.target' must not climb/],
  [mounting({ type: 'tmps', target: '/mnt' }), /mounts\[0\]\.type.*'tmpfs'/],
  [mounting({ type: 7, target: '/mnt' }), /mounts\[0\]\.type/, 'ERR_INVALID_ARG_TYPE'],
  [mounting({ target: '/mnt' }), /mounts\[0\]\.source/, 'ERR_INVALID_ARG_TYPE'],
  [mounting({ target: '/mnt', source: '' }), /mounts\[0\]\.source/],
  [mounting({ type: 'dev', target: '/dev', source: '/dev' }), /mounts\[0\]\.source/],
  [
    mounting({ target: '/mnt', source: '/tmp', options: 'ro' }),
    /mounts\[0\]\.options/,
    'ERR_INVALID_ARG_TYPE',
  ],
  [mounting({ target: '/mnt', source: '/tmp', options: ['readonly'] }), /mounts\[0\]\.options\[0\]/],
  [mounting({ target: '/mnt', source: '/tmp', options: ['ro,nosuid'] }), /mounts\[0\]\.options\[0\].*comma/],
  [mounting({ target: '/mnt', source: '/tmp', ro: true }), /mounts\[0\]\.ro/],
  [mounting({ target: '/mnt', source: '/tmp', create: 1 }), /mounts\[0\]\.create/, 'ERR_INVALID_ARG_TYPE'],
  [
    mounting({ target: '/mnt', source: '/tmp', optional: 'no' }),
    /mounts\[0\]\.optional/,
    'ERR_INVALID_ARG_TYPE',
  ],
  [{ proc: true }, /options\.proc.*mount namespace/],
  [{ unshare: ['mnt'], proc: 1 }, /options\.proc/, 'ERR_INVALID_ARG_TYPE'],
  [{ hostname: 'x' }, /options\.hostname.*unshare: \['uts'\]/],
  [{ domainname: 'x', join: { net: 1 } }, /options\.domainname.*UTS/],
  [{ unshare: ['uts'], hostname: 'x'.repeat(65) }, /options\.hostname.*64/],
  [{ unshare: ['uts'], hostname: null }, /options\.hostname/, 'ERR_INVALID_ARG_TYPE'],
  [{ network: 'loopback' }, /options\.network.*network namespace/],
  [{ unshare: ['net'], network: 'host' }, /options\.network.*'none'/],
  [{ init: true }, /options\.init.*pid namespace/],
  [{ unshare: ['pid'], init: 'yes' }, /options\.init/, 'ERR_INVALID_ARG_TYPE'],
  [{ parentDeathSignal: 'SIGNOT' }, /SIGNOT/, 'ERR_UNKNOWN_SIGNAL'],
  [{ parentDeathSignal: 65 }, /options\.parentDeathSignal/, 'ERR_OUT_OF_RANGE'],
  [{ cgroup: true }, /options\.cgroup/, 'ERR_INVALID_ARG_TYPE'],
  [{ capabilities: 'CAP_KILL' }, /options\.capabilities/, 'ERR_INVALID_ARG_TYPE'],
  [{ capabilities: ['CAP_KILL', 'CAP_NET_ADMINS'] }, /capabilities\[1\].*'CAP_NET_ADMIN'/],
  [{ capabilities: ['cap_kill'] }, /capabilities\[0\].*'CAP_KILL'/],
  [{ noNewPrivileges: 1 }, /options\.noNewPrivileges/, 'ERR_INVALID_ARG_TYPE'],
  [{ seccomp: [1, 2] }, /options\.seccomp/, 'ERR_INVALID_ARG_TYPE'],
  [{ seccomp: new Uint8Array(0) }, /options\.seccomp/],
  [{ seccomp: new Uint8Array(12) }, /options\.seccomp.*8 bytes.*has 12/],
  [{ seccomp: new Uint8Array(8 * 4097) }, /options\.seccomp/],
  [{ rlimits: [] }, /options\.rlimits/, 'ERR_INVALID_ARG_TYPE'],
  [{ rlimits: { nofiles: 1 } }, /options\.rlimits\.nofiles.*'nofile'/],
  [{ rlimits: { nofile: -1 } }, /options\.rlimits\.nofile/, 'ERR_OUT_OF_RANGE'],
  [{ rlimits: { nofile: Number.NaN } }, /options\.rlimits\.nofile/, 'ERR_OUT_OF_RANGE'],
  [{ rlimits: { nofile: '64' } }, /options\.rlimits\.nofile/, 'ERR_INVALID_ARG_TYPE'],
  [{ rlimits: { nofile: { soft: 5 } } }, /options\.rlimits\.nofile\.hard/, 'ERR_INVALID_ARG_TYPE'],
  [{ rlimits: { nofile: { soft: 5, hard: 4 } } }, /options\.rlimits\.nofile\.soft/],
]

function line(inside, outside, count) {
  return { inside, outside, count }
}
function mounting(mount) {
  return { unshare: ['mnt'], mounts: [mount] }
}

test('options that cannot be meant are thrown by name', (t) => {
  for (const [options, message, code = 'ERR_INVALID_ARG_VALUE'] of wrong) {
    for (const call of [spawn, spawnSync]) {
      const error = t.throws(
        () => call('linux-clone-no-such-program', [], options),
        { code, message },
        JSON.stringify(options),
      )
      t.regex(error.stack.match(/\n {4}at .*/)[0], /spawn\.test\.mjs/)
    }
  }
})

test('options that cannot be meant are thrown before there is any process', async (t) => {
  // In a pid namespace of its own, where the next process has the next id.
  const source = `
    const cp = require('node:child_process')
    const { spawn, spawnSync } = require(process.argv[1])
    const next = () => cp.spawnSync('true').pid
    const made = (fn) => {
      const before = next()
      fn()
      return next() - before - 1
    }
    process.once('message', (wrong) => {
      const found = wrong.map((options) =>
        [spawn, spawnSync].map((call) => made(() => {
          try { call('linux-clone-no-such-program', [], options) } catch {}
        })))
      const fails = [
        made(() => spawnSync('true', { cwd: '/does/not/exist' })),
        made(() => spawn('true', { cwd: '/does/not/exist' }).on('error', () => {})),
      ]
      process.send({ found, fails })
      process.disconnect()
    })`
  const words = ['unshare', '-Ur', '--pid', '--fork', '--kill-child', process.execPath]
  const child = cp.spawn(words[0], [...words.slice(1), '-e', source, path.resolve('index.js')], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  })
  const closed = once(child, 'close')
  child.send(wrong.map(([options]) => options))
  const [{ found, fails }] = await once(child, 'message')
  t.deepEqual(
    found,
    wrong.map(() => [0, 0]),
  )
  t.deepEqual(fails, [1, 1], 'a start that the system refuses is seen')
  t.deepEqual(await closed, [0, null])
})

test('an option of spawnSync alone is none of spawn', (t) => {
  for (const name of ['input', 'encoding', 'maxBuffer']) {
    t.throws(() => spawn('true', { [name]: undefined }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: new RegExp(`options\\.${name}`),
    })
  }
})

test('what is on Object.prototype is no option, no namespace, and nothing of an error', async (t) => {
  const found = await inProcess(
    async ({ lib }) => {
      const unshare = ['user', 'mnt']
      const ids = { uidMappings: 'root', gidMappings: 'root', encoding: 'utf8' }
      const mounts = [{ type: 'tmpfs', target: '/mnt' }]
      const polluted = { options: 5, create: 5, optional: 5, source: 5, fd: 9999, soft: 1, monotonic: 'x' }
      const ofErrors = { path: '/polluted', dest: '/polluted', thread: 1, step: 'polluted', hint: 'polluted' }
      const ofNamespaces = { noProc: 5, root: 5, signal: 5, privateUser: 5, hostname: 5, unshare: 5 }
      // What is loaded with the first call is loaded without.
      await new lib.Namespace({ privateUser: true }).run(() => lib.spawnSync('true'))
      lib.spawnSync('true')
      Object.assign(Object.prototype, polluted, ofErrors, ofNamespaces, { syscall: 'polluted' })
      const own = (error) => error && Object.fromEntries(Object.entries(error))
      try {
        const { stdout, error } = lib.spawnSync('stat', ['-fc%T', '/mnt'], { unshare, ...ids, mounts })
        const joined = lib.spawnSync('true', [], { join: { user: process.pid } })
        const missing = lib.spawnSync('true', [], { cgroup: '/does/not/exist' })
        const namespace = new lib.Namespace({ privateUser: true, privateTmp: true })
        const child = namespace.spawn('true', { stdio: 'ignore' })
        const end = await new Promise((resolve) => child.once('error', resolve).once('exit', resolve))
        const ran = await namespace.run(() => process.pid !== 0)
        return { stdout, error: own(error), joined: own(joined.error), missing: own(missing.error), end, ran }
      } finally {
        const names = Object.keys(Object.prototype)
        for (const name of names) delete Object.prototype[name]
      }
    },
    { with: { wrap: [] } },
  )
  const { stdout, error, joined, missing, end, ran } = found
  t.deepEqual([stdout, error, end, ran], ['tmpfs\n', undefined, 0, true])
  t.like(joined, { code: 'EINVAL', syscall: 'setns', step: 'join' })
  t.not(joined.path, '/polluted')
  t.is(joined.dest, undefined)
  t.like(missing, { code: 'ENOENT', step: 'cgroup', path: '/does/not/exist', dest: undefined })
})

test("all of Node's options are known, and undefined is as if it were not there", async (t) => {
  const names =
    'cwd env argv0 stdio detached uid gid serialization shell signal timeout killSignal windowsHide windowsVerbatimArguments'
  const own =
    'unshare join uidMappings gidMappings setgroups timeOffsets propagation root mounts proc hostname domainname network init parentDeathSignal cgroup capabilities noNewPrivileges seccomp rlimits'
  const options = Object.fromEntries(`${names} ${own}`.split(' ').map((name) => [name, undefined]))
  t.deepEqual(await once(spawn('true', options), 'close'), [0, null])
  t.is(
    spawnSync('true', { ...options, input: undefined, encoding: undefined, maxBuffer: undefined }).status,
    0,
  )
})

test('child_process stays as it is', (t) => {
  const before = Object.getOwnPropertyDescriptors(cp.ChildProcess.prototype)
  spawnSync('true')
  spawn('true')
  t.deepEqual(Object.getOwnPropertyDescriptors(cp.ChildProcess.prototype), before)
})

test('pidfd is there while the program runs, close-on-exec, and refers to it', async (t) => {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
  const { pid, pidfd } = child
  const fields = readFileSync(`/proc/self/fdinfo/${pidfd}`, 'utf8')
  t.is(Number(/^Pid:\t(\d+)$/m.exec(fields)[1]), pid)
  t.true((Number.parseInt(/^flags:\t(\d+)$/m.exec(fields)[1], 8) & 0o2000000) !== 0)
  child.stdin.end()
  await once(child, 'exit')
  t.is(child.pidfd, undefined)
  t.true('pidfd' in child)
  const missing = spawn('linux-clone-no-such-program')
  t.is(missing.pidfd, undefined)
  await once(missing, 'error')
})

test('a real-time signal that ends the program is told', async (t) => {
  t.deepEqual(await once(spawn('sh', ['-c', 'kill -35 $$'], { stdio: 'ignore' }), 'exit'), [null, 'SIG35'])
  t.is(spawnSync('sh', ['-c', 'kill -35 $$']).signal, 'SIG35')
})

test('the environment is as it is now, also where process.env is another object, and in a Worker', async (t) => {
  const told = await inProcess(
    async ({ lib, workers }) => {
      const value = () => lib.spawnSync('sh', ['-c', 'echo $A'], { encoding: 'utf8' }).stdout
      const values = []
      process.env.A = 'set'
      values.push(value())
      delete process.env.A
      values.push(value())
      const own = process.env
      process.env = { PATH: own.PATH, A: 'another object' }
      values.push(value())
      process.env = own
      values.push(value(), Object.keys(own).filter((key) => key.includes('linux-clone')).length)
      const source = `
        process.env.A = "a Worker's"
        const { spawnSync } = require(process.argv[2])
        require('node:worker_threads').parentPort.postMessage(spawnSync('sh', ['-c', 'echo $A'], { encoding: 'utf8' }).stdout)`
      const worker = new workers.Worker(source, { eval: true, argv: [process.env.LIBRARY] })
      values.push(await new Promise((resolve) => worker.on('message', resolve)))
      return values
    },
    { with: { wrap: [], env: { LIBRARY: path.resolve('index.js') } } },
  )
  t.deepEqual(told, ['set\n', '\n', 'another object\n', '\n', 0, "a Worker's\n"])
})

test('a null byte in what becomes a string is refused', (t) => {
  const value = { toString: () => 'a\0b' }
  for (const call of [spawn, spawnSync]) {
    t.throws(() => call('true', [value]), { code: 'ERR_INVALID_ARG_VALUE', message: /args\[0\]/ })
    t.throws(() => call('true', { env: { A: value } }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /options\.env/,
    })
  }
})

test('cwd may be bytes', async (t) => {
  t.is(await text(spawn('pwd', { cwd: Buffer.from('/') }).stdout), '/\n')
})

test('an error of exec has the step, and of an earlier step it is a SystemCallError', async (t) => {
  const [missing] = await once(spawn('linux-clone-no-such-program', ['arg']), 'error')
  t.like(missing, { step: 'exec', syscall: 'spawn linux-clone-no-such-program', spawnargs: ['arg'] })
  t.regex(missing.stack, /spawn\.test\.mjs/)
  t.is(t.throws(() => spawn('/etc/passwd/x')).step, 'exec')
  const [noDirectory] = await once(spawn('true', ['arg'], { cwd: '/does/not/exist' }), 'error')
  t.like(noDirectory, {
    message: "ENOENT: no such file or directory, chdir '/does/not/exist'",
    code: 'ENOENT',
    errno: -2,
    syscall: 'chdir',
    path: '/does/not/exist',
    step: 'chdir',
    spawnargs: ['arg'],
  })
  t.is(t.throws(() => spawn('true', { stdio: ['ignore', 'ignore', 123_456] })).step, 'stdio')
  t.is(spawnSync('linux-clone-no-such-program').error.step, 'exec')
  t.like(spawnSync('true', { cwd: '/does/not/exist' }).error, { step: 'chdir', syscall: 'chdir' })
})

test('a hint says what an interpreter, a file without execute permission, and a format are about', async (t) => {
  const directory = temporaryDirectory(t)
  const file = (name, content, mode) => {
    writeFileSync(path.join(directory, name), content, { mode })
    return path.join(directory, name)
  }
  const [interpreter] = await once(spawn(file('script', '#!/no/such/interpreter\n', 0o755)), 'error')
  t.like(interpreter, { code: 'ENOENT', step: 'exec' })
  t.regex(interpreter.hint, /interpreter/)
  const [denied] = await once(spawn(file('plain', '', 0o644)), 'error')
  t.regex(denied.hint, /not executable/)
  // Where there is a shell, that takes whatever is no program for a script.
  mkdirSync(path.join(directory, 'bin'))
  file('bin/sh', 'no program', 0o755)
  const options = within(['mnt'], { root: directory })
  for (const error of [
    (await once(spawn('/bin/sh', options), 'error'))[0],
    spawnSync('/bin/sh', options).error,
  ]) {
    t.like(error, { code: 'ENOEXEC', step: 'exec' })
    t.regex(error.hint, /neither a script with #! nor a program for this machine/)
  }
})

test('what a namespace refuses is an event, whatever the errno', async (t) => {
  const [gone] = await once(spawn('true', [], { join: 2 ** 30 }), 'error')
  t.like(gone, { code: 'ESRCH', syscall: 'pidfd_open', step: 'join' })
  t.regex(gone.hint, /has ended/)
  const [missing] = await once(spawn('true', [], { join: { net: '/does/not/exist' } }), 'error')
  t.like(missing, { code: 'ENOENT', path: '/does/not/exist', step: 'join' })
  const [closed] = await once(spawn('true', [], { join: { net: { fd: 123_456 } } }), 'error')
  t.like(closed, { code: 'EBADF', step: 'join' })
  const [cgroup] = await once(spawn('true', [], { cgroup: '/does/not/exist' }), 'error')
  t.like(cgroup, { code: 'ENOENT', step: 'cgroup', path: '/does/not/exist' })
  const { error, status, pid } = spawnSync('true', { cgroup: '/does/not/exist' })
  t.like(error, { code: 'ENOENT', step: 'cgroup' })
  t.deepEqual([status, pid], [null, 0])
  if (!isRoot) {
    const child = spawn('true', [], { unshare: ['net'] })
    const [refused] = await once(child, 'error')
    t.like(refused, { code: 'EPERM', step: 'clone', spawnargs: [] })
    t.regex(refused.hint, /CAP_SYS_ADMIN|'user'/)
    t.truthy(child.stdout)
    t.is(child.exitCode, -1)
  }
})

test('starts that are refused leave no descriptor behind', async (t) => {
  const { before, after } = await inProcess(async ({ lib, fs }) => {
    const open = () => fs.readdirSync('/proc/self/fd').length
    const refused = (options) =>
      new Promise((resolve) => {
        const child = lib.spawn('true', [], options)
        child.on('error', () => {})
        child.on('close', resolve)
      })
    const all = async () => {
      await refused({ join: { net: '/proc/self/ns/net', mnt: '/does/not/exist' } })
      await refused({ join: { user: '/proc/self/ns/user' } })
      await refused({ cgroup: '/proc' })
      await refused({ cwd: '/does/not/exist', unshare: ['uts'] })
      await refused({ unshare: ['mnt'], mounts: [{ target: '/mnt', source: '/does/not/exist' }] })
    }
    await all()
    const before = open()
    await all()
    return { before, after: open() }
  })
  t.is(after, before)
})

test('offsets of clocks are written into this /proc, not into what a namespace that is joined has there', async (t) => {
  const written = path.join(temporaryDirectory(t), 'written')
  writeFileSync(written, 'kept')
  const found = await inProcess(async ({ lib, cp }, written) => {
    // The real one is at /mnt.
    const script = `
        mount --rbind /proc /mnt
        mount -t tmpfs none /proc
        mkdir -p /proc/self/ns
        ln -s ${written} /proc/self/timens_offsets
        touch /proc/self/ns/time_for_children
        mount --bind /mnt/self/ns/time_for_children /proc/self/ns/time_for_children
        echo
        exec sleep 150`
    const other = cp.spawn('unshare', ['-m', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] })
    await new Promise((resolve) => other.stdout.once('data', resolve))
    const options = { join: { mnt: other.pid }, unshare: ['time'], timeOffsets: { boottime: 5e6 } }
    const { stdout, stderr, error } = lib.spawnSync('cat', ['/mnt/self/timens_offsets'], options)
    other.kill('SIGKILL')
    return { stdout: String(stdout), stderr: String(stderr), error }
  }, written)
  t.is(found.error, undefined)
  t.is(found.stdout.replace(/ +/g, ' '), 'monotonic 0 0\nboottime 5000000 0\n', found.stderr)
  t.is(readFileSync(written, 'utf8'), 'kept')
})

test('a program that ends with this process may have as many descriptors as it likes', async (t) => {
  const file = openSync('/dev/null')
  const child = spawn('sh', ['-c', 'exit 42'], { stdio: Array(200).fill(file), parentDeathSignal: 'SIGKILL' })
  t.deepEqual(await once(child, 'exit'), [42, null])
  closeSync(file)
})

test('in a clone, spawn works, and what the parent has started is not its to signal', async (t) => {
  const told = await inProcess(
    async ({ lib, fs, os, path }) => {
      const file = path.join(os.tmpdir(), `linux-clone-spawn-${process.pid}`)
      const parents = lib.spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
      const child = lib.clone(async () => {
        const run = (command, args) =>
          new Promise((resolve) => {
            const program = lib.spawn(command, args)
            let output = ''
            program.on('error', (error) => resolve(error.code))
            program.stdout.on('data', (chunk) => {
              output += chunk
            })
            program.on('close', (code, signal) => resolve({ code, signal, output }))
          })
        fs.writeFileSync(
          file,
          JSON.stringify({
            good: await run('sh', ['-c', 'echo from a clone; exit 4']),
            missing: await run('linux-clone-no-such-program', []),
            sync: lib.spawnSync('echo', ['sync'], { encoding: 'utf8' }).stdout,
            killed: parents.kill(),
            pidfd: parents.pidfd ?? null,
          }),
        )
      })
      const { code } = await child.wait()
      const clones = JSON.parse(fs.readFileSync(file, 'utf8'))
      fs.unlinkSync(file)
      const isAlive = parents.kill(0)
      parents.stdin.end()
      const ended = await new Promise((resolve) => parents.on('exit', (...args) => resolve(args)))
      return { code, clones, isAlive, ended }
    },
    { with: { wrap: [] } },
  )
  t.deepEqual(told, {
    code: 0,
    clones: {
      good: { code: 4, signal: null, output: 'from a clone\n' },
      missing: 'ENOENT',
      sync: 'sync\n',
      killed: false,
      pidfd: null,
    },
    isAlive: true,
    ended: [0, null],
  })
})

test("Node's permission model forbids it as it forbids child_process", (t) => {
  const [major] = process.versions.node.split('.').map(Number)
  const flags = [
    major < 24 ? '--experimental-permission' : '--permission',
    '--allow-fs-read=*',
    '--allow-addons',
  ]
  const source = `
    const { spawn, spawnSync } = require(${JSON.stringify(path.resolve('index.js'))})
    for (const call of [spawn, spawnSync]) try { call('true'); console.log('started') } catch (error) { console.log(error.code) }`
  const run = (more) =>
    cp.spawnSync(process.execPath, [...flags, ...more, '-e', source], { encoding: 'utf8' }).stdout
  t.is(run([]), 'ERR_ACCESS_DENIED\nERR_ACCESS_DENIED\n')
  t.is(run(['--allow-child-process']), 'started\nstarted\n')
})

for (const denied of ['none', 'all', 'all but the first'])
  test(`streams are open where Node's permission model denies to open pipes, as it does without --allow-net: ${denied}`, async (t) => {
    const told = await inProcess(
      async ({ lib, cp }, denied) => {
        const { constructor: Pipe } = cp.spawn('true').stdout._handle
        // Not open either, but somebody else's.
        const older = [new Pipe(0), new Pipe(0)]
        const { open } = Pipe.prototype
        let calls = 0
        Pipe.prototype.open = function (fd) {
          calls += 1
          if (denied === 'none' || (denied === 'all but the first' && calls === 1)) return open.call(this, fd)
          throw Object.assign(new Error('denied'), { code: 'ERR_ACCESS_DENIED' })
        }
        const script = `
          process.on('message', (message) => process.send(message + ' back', () => process.disconnect()))
          process.stdin.pipe(process.stdout)
          require('fs').writeSync(3, 'three')`
        const stdio = ['pipe', 'pipe', 'inherit', 'pipe', 'ipc']
        const child = lib.spawn(process.execPath, ['-e', script], { stdio })
        Pipe.prototype.open = open
        child.stdin.end('zero')
        child.send('four')
        const text = async (stream) => (await stream.toArray()).join('')
        const message = new Promise((resolve) => child.on('message', resolve))
        const read = await Promise.all([text(child.stdout), text(child.stdio[3]), message])
        return { read, older: older.map(({ fd }) => fd), calls }
      },
      { with: { wrap: [] } },
      denied,
    )
    const calls = { none: 4, all: 1, 'all but the first': 2 }[denied]
    t.deepEqual(told, { read: ['zero', 'three', 'four back'], older: [-1, -1], calls })
  })

test('of all that programs are waited for by, one descriptor stays, however many there were', async (t) => {
  const told = await inProcess(async ({ lib, fs }) => {
    const target = (fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        // That of the listing.
        return ''
      }
    }
    const count = () =>
      fs.readdirSync('/proc/self/fd').filter((fd) => /eventpoll|pidfd/.test(target(fd))).length
    const before = count()
    const children = Array.from({ length: 5 }, () =>
      lib.spawn('cat', [], { stdio: ['pipe', 'ignore', 'ignore'] }),
    )
    const during = count() - before
    for (const child of children) child.stdin.end()
    await Promise.all(children.map((child) => new Promise((resolve) => child.on('close', resolve))))
    return { during, after: count() - before }
  })
  t.deepEqual(told, { during: 6, after: 1 })
})

test('where there is no descriptor left for the first program, that is an event, and of clone an error, with the step', async (t) => {
  const told = await inProcess(
    async ({ lib, fs }) => {
      const open = []
      try {
        for (;;) open.push(fs.openSync('/dev/null'))
      } catch {
        // There is none left.
      }
      const events = []
      const child = lib
        .spawn('true')
        .on('error', ({ code, syscall, step }) => events.push({ code, syscall, step }))
      await new Promise((resolve) => child.on('close', resolve))
      try {
        lib.clone(() => 0)
      } catch ({ code, step }) {
        events.push({ code, step })
      }
      for (const fd of open) fs.closeSync(fd)
      events.push((await lib.clone(() => 7).wait()).code)
      return events
    },
    { with: { wrap: ['prlimit', '--nofile=100'] } },
  )
  t.deepEqual(told, [
    { code: 'EMFILE', syscall: 'epoll_create1', step: 'clone' },
    { code: 'EMFILE', step: 'clone' },
    7,
  ])
})

test('where a stream cannot be opened, nothing was started and nothing is left', async (t) => {
  const told = await inProcess(
    async ({ lib, cp, fs }) => {
      const first = cp.spawn('true')
      const { constructor: Pipe } = first.stdout._handle
      await new Promise((resolve) => first.on('close', resolve))
      // The first opens an epoll, which stays.
      await new Promise((resolve) => lib.spawn('true').on('close', resolve))
      const { open } = Pipe.prototype
      let calls = 0
      Pipe.prototype.open = function (fd) {
        calls += 1
        if (calls === 2) throw new Error('broken')
        return open.call(this, fd)
      }
      const descriptors = () => fs.readdirSync('/proc/self/fd')
      const before = descriptors()
      let message
      try {
        lib.spawn('sleep', ['1000'])
      } catch (error) {
        message = error.message
      }
      // A handle is closed when the loop turns.
      await new Promise(setImmediate)
      const children = fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')
      return { message, children, isSame: descriptors().length === before.length }
    },
    { with: { wrap: [] } },
  )
  t.deepEqual(told, { message: 'broken', children: '', isSame: true })
})

if (isRoot) {
  test('root stands for the directory that is there', async (t) => {
    const root = temporaryDirectory(t)
    mkdirSync(path.join(root, 'inside'))
    const [error] = await once(spawn('true', [], { root, unshare: ['mnt'] }), 'error')
    t.like(error, { code: 'ENOENT', step: 'exec' })
    t.regex(error.hint, /new root/)
    t.deepEqual(readdirSync(root), ['inside'])
  })
}
