import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import lib from '../index.js'
import { compile, compileLibrary, hasCompiler } from './helpers/machine.mjs'
import { changes, distinct, movable, namespacesOf, threadsOfCaller } from './helpers/proc.mjs'
import { available, inProcess, inUserNamespace, isRoot, privileged, run } from './helpers/process.mjs'

const library = fileURLToPath(new URL('../index.js', import.meta.url))
const all = ['mnt', 'uts', 'ipc', 'net', 'cgroup']

/** A Worker that answers `{ call, args }`: a function of fs, fs.promises, the library or its own. */
const worker = `
  const { parentPort, workerData } = require('node:worker_threads')
  const fs = require('node:fs')
  const lib = require(workerData)
  const own = { umask: () => process.umask(), cwd: () => process.cwd() }
  parentPort.on('message', async ({ call, args }) => {
    const [object, name] = call.split('.')
    try {
      const value = await { fs, promises: fs.promises, lib, own }[object][name](...args)
      parentPort.postMessage({ value })
    } catch ({ message, code, syscall, hint }) {
      parentPort.postMessage({ error: { message, code, syscall, hint } })
    }
  })`

/** Where a UTS namespace is our own, and where it belongs to another user namespace: there threads part their directories. */
const situations = [
  ['where the UTS namespace is our own', [...privileged, 'unshare', '--uts']],
  ['where the UTS namespace belongs to another user namespace', inUserNamespace],
]

/** Every thread but the inspector is in one and the same namespace of each of these types, and it is a new one. */
function assertAllMoved(t, before, after, types) {
  t.is(after.filter(({ isInspector }) => isInspector).length, 1)
  for (const type of types) {
    const theirs = distinct(movable(after), ({ ns }) => ns[type])
    t.is(theirs.length, 1, `${type}: ${JSON.stringify(after.map(({ tid, ns }) => [tid, ns[type]]))}`)
    t.false(
      before.some(({ ns }) => ns[type] === theirs[0]),
      type,
    )
  }
  const moved = new Set(types.flatMap((type) => [`main ${type}`, `other ${type}`]))
  t.deepEqual(
    changes(before, after).filter((change) => !moved.has(change)),
    [],
  )
}

/** Looks at the process around a call, with a Worker and a thread pool from before and a Worker from after. */
const surroundings = async ({ lib, fs, workers, outside }, { worker, library, call, args }) => {
  await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
  const start = async () => {
    const started = new workers.Worker(worker, { eval: true, workerData: library })
    await new Promise((resolve) => started.once('online', resolve))
    started.postMessage({ call: 'promises.readFile', args: ['/proc/self/stat', 'utf8'] })
    await new Promise((resolve) => started.once('message', resolve))
  }
  await start()
  const before = await outside()
  let error = null
  try {
    lib[call](...args)
  } catch (caught) {
    const { message, code, syscall, hint, path } = caught
    error = { message, code, syscall, hint, path }
  }
  const middle = await outside()
  await start()
  return { error, before, middle, after: await outside() }
}

const around = (call, ...args) =>
  inProcess(surroundings, { with: { outside: threadsOfCaller } }, { worker, library, call, args })

for (const types of [...all.map((type) => [type]), all, ['mnt', 'net']]) {
  test(`unshare of ${types.join(', ')} moves every thread, also those that start later`, async (t) => {
    const { error, before, middle, after } = await around('unshare', types, { threads: 'all' })
    t.is(error, null)
    t.true(movable(middle).length >= 10)
    t.deepEqual(
      middle.map(({ tid }) => tid),
      before.map(({ tid }) => tid),
    )
    t.true(after.length > middle.length)
    assertAllMoved(t, before, middle, types)
    assertAllMoved(t, before, after, types)
    for (const of of ['cwd', 'umask', 'rootPlace']) {
      t.deepEqual(
        distinct(after, (thread) => thread[of]),
        distinct(before, (thread) => thread[of]),
      )
    }
  })
}

test('A thread pool that starts only afterwards is in the new namespaces', async (t) => {
  const { before, after } = await inProcess(
    async ({ lib, fs, outside }) => {
      const before = await outside()
      lib.unshare(['uts', 'mnt'], { threads: 'all' })
      await Promise.all(Array.from({ length: 16 }, () => fs.promises.stat('/')))
      return { before, after: await outside() }
    },
    { with: { outside: threadsOfCaller } },
  )
  assertAllMoved(t, before, after, ['uts', 'mnt'])
})

test('CLONE_SYSVSEM is taken for all threads, and moves none', async (t) => {
  const { error, before, after } = await around('unshare', 0x40000, { threads: 'all' })
  t.is(error, null)
  t.deepEqual(changes(before, after), [])
})

test("threads: 'calling' is the default, and may be said", async (t) => {
  const { error, before, middle } = await around('unshare', 'uts', { threads: 'calling' })
  t.is(error, null)
  t.deepEqual(changes(before, middle), ['main uts'])
})

test('It can be done again, and again all threads are in the same new ones', async (t) => {
  const looks = await inProcess(
    async ({ lib, outside }) => {
      const looks = [await outside()]
      for (let round = 0; round < 5; round++) {
        lib.unshare(['mnt', 'uts', 'net'], { threads: 'all' })
        looks.push(await outside())
      }
      return looks
    },
    { with: { outside: threadsOfCaller } },
  )
  for (let round = 1; round < looks.length; round++) {
    assertAllMoved(t, looks[round - 1], looks[round], ['mnt', 'uts', 'net'])
  }
})

test("SignalInspector is found where the program bears another name than Node's", async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
  try {
    const script = 'ln -s "$1" "$0/nodejs" && shift && exec "$DIRECTORY/nodejs" "$@"'
    const { before, after } = await inProcess(
      async ({ lib, outside }) => {
        const before = await outside()
        lib.unshare('uts', { threads: 'all' })
        return { before, after: await outside() }
      },
      {
        with: {
          outside: threadsOfCaller,
          wrap: [...privileged, 'sh', '-c', script, directory],
          env: { DIRECTORY: directory },
        },
      },
    )
    assertAllMoved(t, before, after, ['uts'])
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('SignalInspector is found where the process is older than its Node', async (t) => {
  const { before, after } = await inProcess(
    async ({ lib, outside }) => {
      const before = await outside()
      lib.unshare('uts', { threads: 'all' })
      return { before, after: await outside() }
    },
    {
      with: {
        outside: threadsOfCaller,
        wrap: [...privileged, 'sh', '-c', 'sleep 2; exec "$@"', 'sh'],
      },
    },
  )
  assertAllMoved(t, before, after, ['uts'])
})

for (const [situation, wrap] of situations) {
  test(`fs.promises, dns.lookup and Workers see a new mount namespace, ${situation}`, async (t) => {
    const hosts = readFileSync('/etc/hosts', 'utf8')
    const result = await inProcess(
      async ({ lib, fs, cp, workers }, { worker, library }) => {
        const dns = process.getBuiltinModule('node:dns').promises
        await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
        const start = () => {
          const started = new workers.Worker(worker, { eval: true, workerData: library })
          return async (call, ...args) => {
            started.postMessage({ call, args })
            return new Promise((resolve) => started.once('message', resolve))
          }
        }
        const early = start()
        await early('fs.statSync', '/')
        lib.unshare('mnt', { threads: 'all' })
        cp.execFileSync('mount', ['--make-rprivate', '/'])
        cp.execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', '/mnt'])
        const file = '/mnt/hosts'
        fs.writeFileSync(file, '192.0.2.77 only-here.test\n')
        cp.execFileSync('mount', ['--bind', file, '/etc/hosts'])
        const late = start()
        const ask = async (of) => [
          await of('fs.readFileSync', '/etc/hosts', 'utf8'),
          await of('promises.readFile', '/etc/hosts', 'utf8'),
        ]
        return {
          // Every thread of the pool is asked.
          promises: await Promise.all(
            Array.from({ length: 16 }, () => fs.promises.readFile('/etc/hosts', 'utf8')),
          ),
          lookup: await dns.lookup('only-here.test'),
          workers: [...(await ask(early)), ...(await ask(late))],
        }
      },
      { with: { wrap } },
      { worker, library },
    )
    const inside = '192.0.2.77 only-here.test\n'
    t.deepEqual([...new Set(result.promises)], [inside])
    t.deepEqual(result.lookup, { address: '192.0.2.77', family: 4 })
    t.deepEqual(result.workers, Array(4).fill({ value: inside }))
    t.is(readFileSync('/etc/hosts', 'utf8'), hosts)
  })

  test(`process.chdir and process.umask go on for all threads, ${situation}`, async (t) => {
    const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
    try {
      const { before, after, fromWorkers, masks } = await inProcess(
        async ({ lib, fs, workers, outside }, { worker, library, directory }) => {
          await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
          const start = () => {
            const started = new workers.Worker(worker, { eval: true, workerData: library })
            return async (call, ...args) => {
              started.postMessage({ call, args })
              return new Promise((resolve) => started.once('message', resolve))
            }
          }
          const early = start()
          await early('fs.statSync', '/')
          process.umask(0o022)
          lib.unshare('mnt', { threads: 'all' })
          const before = await outside()
          process.chdir('/')
          process.chdir(directory)
          const masks = [process.umask(0o027), process.umask(), process.umask('0027')]
          const late = start()
          const files = Array.from({ length: 16 }, (_, number) => `pool-${number}`)
          await Promise.all(files.map((file) => fs.promises.writeFile(file, '', { mode: 0o666 })))
          const fromWorkers = [
            await early('fs.writeFileSync', 'early', '', { mode: 0o666 }),
            await early('promises.writeFile', 'early-pool', '', { mode: 0o666 }),
            await late('fs.writeFileSync', 'late', '', { mode: 0o666 }),
            await late('promises.writeFile', 'late-pool', '', { mode: 0o666 }),
            await early('own.umask'),
            await early('own.cwd'),
            await late('own.cwd'),
          ]
          fs.writeFileSync('main', '', { mode: 0o666 })
          return { before, after: await outside(), fromWorkers, masks }
        },
        { with: { outside: threadsOfCaller, wrap } },
        { worker, library, directory },
      )
      t.deepEqual(masks, [0o022, 0o027, 0o027])
      t.deepEqual(
        distinct(movable(before), ({ umask }) => umask),
        ['0022'],
      )
      t.deepEqual(
        distinct(movable(after), ({ umask }) => umask),
        ['0027'],
      )
      t.deepEqual(
        distinct(movable(after), ({ cwd }) => cwd),
        [directory],
      )
      t.deepEqual(
        fromWorkers.map(({ error }) => error),
        Array(7).fill(undefined),
      )
      t.deepEqual(
        fromWorkers.slice(4).map(({ value }) => value),
        [0o027, directory, directory],
      )
      const files = ['main', 'early', 'early-pool', 'late', 'late-pool']
      for (let number = 0; number < 16; number++) files.push(`pool-${number}`)
      for (const file of files) t.is(statSync(path.join(directory, file)).mode & 0o777, 0o640, file)
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  test(`A failing process.chdir or process.umask fails as before and changes nothing, ${situation}`, async (t) => {
    const { errors, before, after } = await inProcess(
      async ({ lib, outside }) => {
        lib.unshare('mnt', { threads: 'all' })
        const before = await outside()
        const errors = [
          () => process.chdir('/does/not/exist'),
          () => process.chdir(1),
          () => process.umask('9'),
        ].map((call) => {
          try {
            return call()
          } catch ({ code, syscall, path, dest }) {
            return { code, syscall, path, dest }
          }
        })
        return { errors, before, after: await outside() }
      },
      { with: { outside: threadsOfCaller, wrap } },
    )
    t.like(errors[0], { code: 'ENOENT', syscall: 'chdir', dest: '/does/not/exist' })
    t.is(errors[1].code, 'ERR_INVALID_ARG_TYPE')
    t.is(errors[2].code, 'ERR_INVALID_ARG_VALUE')
    t.deepEqual(
      after.map(({ cwd, umask }) => [cwd, umask]),
      before.map(({ cwd, umask }) => [cwd, umask]),
    )
  })

  for (const kind of ['deep', 'deleted']) {
    test(`A ${kind} working directory stays, ${situation}`, async (t) => {
      const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
      try {
        const { before, after, relative } = await inProcess(
          async ({ lib, fs, outside }, { directory, kind }) => {
            process.chdir(directory)
            if (kind === 'deep') {
              for (let depth = 0; depth < 30; depth++) {
                fs.mkdirSync('d'.repeat(200))
                process.chdir('d'.repeat(200))
              }
              fs.writeFileSync('here', 'deep')
            } else {
              fs.mkdirSync('gone')
              process.chdir('gone')
              fs.rmdirSync(`${directory}/gone`)
            }
            const before = await outside()
            lib.unshare('mnt', { threads: 'all' })
            const relative = kind === 'deep' ? await fs.promises.readFile('here', 'utf8') : null
            return { before, after: await outside(), relative }
          },
          { with: { outside: threadsOfCaller, wrap } },
          { directory, kind },
        )
        assertAllMoved(t, before, after, ['mnt'])
        const places = distinct(before, ({ cwdPlace }) => cwdPlace)
        t.is(places.length, 1)
        t.deepEqual(
          distinct(movable(after), ({ cwdPlace }) => cwdPlace),
          places,
        )
        t.is(relative, kind === 'deep' ? 'deep' : null)
      } finally {
        // Its paths are longer than Node's own removal can say.
        await run('rm', '-rf', directory)
      }
    })
  }

  test(`The working directory is the new mount namespace's own, ${situation}`, async (t) => {
    const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
    try {
      const seen = await inProcess(
        async ({ lib, fs, cp }, directory) => {
          process.chdir(directory)
          fs.mkdirSync('sub')
          lib.unshare('mnt', { threads: 'all' })
          cp.execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', `${directory}/sub`])
          fs.writeFileSync(`${directory}/sub/inside`, 'inside')
          return Promise.all(Array.from({ length: 16 }, () => fs.promises.readFile('sub/inside', 'utf8')))
        },
        { with: { wrap: [...wrap, 'unshare', '--mount'] } },
        directory,
      )
      t.deepEqual([...new Set(seen)], ['inside'])
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  for (const types of [['mnt'], ['mnt', 'net']]) {
    test(`A chroot is not left by unshare of ${types.join(', ')}, ${situation}`, async (t) => {
      const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
      try {
        const { before, after, read } = await inProcess(
          async ({ lib, fs, outside }, types) => {
            process.chdir('/tmp')
            await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
            const before = await outside()
            lib.unshare(types, { threads: 'all' })
            const read = await Promise.all(Array.from({ length: 16 }, () => fs.promises.readdir('/../..')))
            return { before, after: await outside(), read: read.map((names) => names.includes('in')) }
          },
          { with: { outside: threadsOfCaller, wrap: [...wrap, ...inChroot(directory)] } },
          types,
        )
        assertAllMoved(t, before, after, types)
        for (const of of ['rootPlace', 'cwdPlace']) {
          const places = distinct(before, (thread) => thread[of])
          t.is(places.length, 1)
          t.deepEqual(
            distinct(movable(after), (thread) => thread[of]),
            places,
          )
        }
        const { dev, ino } = statSync('/')
        t.not(before[0].rootPlace, `${dev}:${ino}`)
        t.deepEqual([...new Set(read)], [false])
      } finally {
        rmSync(directory, { recursive: true })
      }
    })
  }
}

/** Runs a program in a directory of a file system of its own, with everything of `/` bound below. */
function inChroot(directory) {
  const script = `
    set -e
    mount -t tmpfs tmpfs "$0"
    mkdir "$0/in"
    for entry in /*; do
      if [ -L "$entry" ]; then cp -P "$entry" "$0/in$entry"
      elif [ -d "$entry" ]; then mkdir "$0/in$entry"; mount --rbind "$entry" "$0/in$entry"
      fi
    done
    exec unshare --root "$0/in" "$@"`
  return ['unshare', '--mount', 'sh', '-c', script, directory]
}

test('Threads that are in UTS namespaces of their own stay there and follow into a mount namespace', async (t) => {
  const { before, after } = await inProcess(
    async ({ lib, fs, outside }) => {
      await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
      lib.unshare('uts')
      const before = await outside()
      lib.unshare('mnt', { threads: 'all' })
      return { before, after: await outside() }
    },
    { with: { outside: threadsOfCaller } },
  )
  t.is(distinct(before, ({ ns }) => ns.uts).length, 2)
  assertAllMoved(t, before, after, ['mnt'])
})

/** A Worker asks for what `args` say; what it got, and the threads around it. */
const fromWorker = async ({ fs, workers, outside }, { worker, library, call, args }) => {
  await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
  const started = new workers.Worker(worker, { eval: true, workerData: library })
  await new Promise((resolve) => started.once('online', resolve))
  const before = await outside()
  started.postMessage({ call, args })
  const answer = await new Promise((resolve) => started.once('message', resolve))
  return { answer, before, after: await outside() }
}

/** Whether the kernel lets a thread that shares its working directory follow another process into two kinds of namespaces. */
function movesSharedPlaces(t) {
  const probe = compile(
    t,
    `#define _GNU_SOURCE
    #include <errno.h>
    #include <pthread.h>
    #include <sched.h>
    #include <signal.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static void *stay(void *nothing) { for (;;) pause(); }
    int main(void) {
      pthread_t thread;
      int ready[2], kinds = CLONE_NEWNS | CLONE_NEWUTS;
      char byte;
      pipe(ready);
      int pid = fork();
      if (pid == 0) {
        if (unshare(kinds) != 0) _exit(1);
        write(ready[1], "", 1);
        for (;;) pause();
      }
      close(ready[1]);
      read(ready[0], &byte, 1);
      pthread_create(&thread, 0, stay, 0);
      int result = setns(syscall(SYS_pidfd_open, pid, 0), kinds);
      puts(result == 0 ? "moves" : strerror(errno));
      kill(pid, SIGKILL);
      return 0;
    }`,
    '-pthread',
  )
  const words = [...privileged, probe]
  const { stdout } = spawnSync(words[0], words.slice(1), { encoding: 'utf8' })
  t.regex(stdout, /^(moves|Invalid argument)$/m)
  return stdout.startsWith('moves')
}

for (const types of [['mnt'], all]) {
  test(`A Worker moves every thread into new ${types.join(', ')}, where the UTS namespace is our own, or is told why not`, async (t) => {
    if (!available(t, hasCompiler(), 'a C compiler')) return
    const moves = movesSharedPlaces(t)
    const { answer, before, after } = await inProcess(
      fromWorker,
      { with: { outside: threadsOfCaller, wrap: situations[0][1] } },
      { worker, library, call: 'lib.unshare', args: [types, { threads: 'all' }] },
    )
    if (moves) {
      t.is(answer.error, undefined)
      assertAllMoved(t, before, after, types)
    } else {
      t.like(answer.error, { code: 'EPERM', syscall: 'setns' })
      t.regex(answer.error.hint, /from the main thread/)
      t.deepEqual(changes(before, after), [])
    }
  })
}

test('A Worker cannot part working directories: EPERM with a hint, and nothing has moved', async (t) => {
  const { answer, before, after } = await inProcess(
    fromWorker,
    { with: { outside: threadsOfCaller, wrap: inUserNamespace } },
    { worker, library, call: 'lib.unshare', args: ['mnt', { threads: 'all' }] },
  )
  t.like(answer.error, { code: 'EPERM', syscall: 'setns' })
  t.regex(answer.error.hint, /from the main thread/)
  t.deepEqual(changes(before, after), [])
})

for (const [what, hint] of [
  ['user', /clone\(\).*spawn\(\).*Namespace/],
  ['pid', /clone\(\).*spawn\(\).*Namespace/],
  ['time', /clone\(\).*spawn\(\).*Namespace/],
  [0x200, /only the calling thread/],
  [0x400, /only the calling thread/],
  [['uts', 'user'], /clone\(\).*spawn\(\).*Namespace/],
]) {
  test(`All threads cannot have ${JSON.stringify(what)}: the hint says why, and nothing has moved`, async (t) => {
    const { error, before, after } = await around('unshare', what, { threads: 'all' })
    t.like(error, { code: 'EINVAL', syscall: 'unshare', message: 'EINVAL: invalid argument, unshare' })
    t.regex(error.hint, hint)
    t.deepEqual(changes(before, after), [])
  })
}

test('A bit that the kernel does not know is EINVAL for all threads too', async (t) => {
  const { error, before, after } = await around('unshare', 0x80000000, { threads: 'all' })
  t.like(error, { code: 'EINVAL', syscall: 'unshare' })
  t.deepEqual(changes(before, after), [])
})

test('A limit is ENOSPC for all threads too, and nothing has moved', async (t) => {
  const { error, before, after } = await inProcess(
    async ({ lib, fs, outside }) => {
      fs.writeFileSync('/proc/sys/user/max_net_namespaces', '0')
      const before = await outside()
      try {
        lib.unshare(['uts', 'net'], { threads: 'all' })
      } catch ({ code, syscall, hint }) {
        return { error: { code, syscall, hint }, before, after: await outside() }
      }
    },
    { with: { outside: threadsOfCaller, wrap: inUserNamespace } },
  )
  t.like(error, { code: 'ENOSPC', syscall: 'unshare' })
  t.regex(error.hint, /user\.max_net_namespaces \(here 0\)/)
  t.deepEqual(changes(before, after), [])
})

for (const [call, args] of [
  ['unshare', ['uts', { threads: 'all' }]],
  ['probe', []],
]) {
  test(`After unshare('pid') ${call}() is EBUSY until the first child, and leaves it to be pid 1`, async (t) => {
    const { error, first, before, after } = await inProcess(
      async ({ lib, fs, cp, outside }, { call, args }) => {
        lib.unshare('pid')
        const before = await outside()
        let error
        try {
          lib[call](...args)
        } catch ({ code, syscall, hint }) {
          error = { code, syscall, hint }
        }
        const after = await outside()
        const child = cp.spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
        return { error, before, after, first: fs.readFileSync(`/proc/${child.pid}/status`, 'utf8') }
      },
      { with: { outside: threadsOfCaller } },
      { call, args },
    )
    t.like(error, { code: 'EBUSY', syscall: 'clone' })
    t.regex(error.hint, /pid 1 .* start it first/)
    t.deepEqual(changes(before, after), [])
    t.regex(first, /^NSpid:.*\t1$/m)
  })

  test(`After unshare('pid') and its first child's end ${call}() is ENOMEM with a hint`, async (t) => {
    const { error, before, after } = await inProcess(
      async ({ lib, cp, outside }, { call, args }) => {
        lib.unshare('pid')
        cp.execFileSync('true')
        const before = await outside()
        try {
          lib[call](...args)
        } catch ({ code, syscall, hint }) {
          return { error: { code, syscall, hint }, before, after: await outside() }
        }
      },
      { with: { outside: threadsOfCaller } },
      { call, args },
    )
    t.like(error, { code: 'ENOMEM', syscall: 'clone' })
    t.regex(error.hint, /Pid 1 .* has ended/)
    t.deepEqual(changes(before, after), [])
  })

  test(`After unshare('pid') and while its first child lives ${call}() works`, async (t) => {
    const { alive } = await inProcess(
      async ({ lib, cp }, { call, args }) => {
        lib.unshare('pid')
        const child = cp.spawn('cat', { stdio: ['pipe', 'pipe', 'ignore'] })
        lib[call](...args)
        child.stdin.write('x')
        const [alive] = await new Promise((resolve) =>
          child.stdout.once('data', (data) => resolve([`${data}`])),
        )
        return { alive }
      },
      { call, args },
    )
    t.is(alive, 'x')
  })
}

/** unshare(1) makes namespaces and stays in them; then all threads are to enter them, by descriptors or by pidfd. */
const entering = async ({ lib, fs, cp, workers, outside }, { worker, library, unshared, by, types }) => {
  await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
  const started = new workers.Worker(worker, { eval: true, workerData: library })
  // When it answers it has opened what it keeps: musl's Node has a /dev/urandom for each that has loaded node:dns.
  started.postMessage({ call: 'own.cwd', args: [] })
  await new Promise((resolve) => started.once('message', resolve))
  const target = cp.spawn('unshare', [...unshared, 'sh', '-c', 'echo $$; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const pid = await new Promise((resolve, reject) => {
    target.stdout.once('data', (data) => resolve(Number(data)))
    target.once('exit', () => reject(new Error('unshare(1) failed')))
  })
  const before = await outside(pid)
  let error = null
  const descriptors = fs.readdirSync('/proc/self/fd').length
  try {
    if (by === 'pidfd') {
      const pidfd = lib.pidfdOpen(pid)
      try {
        lib.setns(pidfd, types, { threads: 'all' })
      } finally {
        fs.closeSync(pidfd)
      }
    } else {
      for (const type of types) {
        const fd = fs.openSync(`/proc/${pid}/ns/${type}`)
        try {
          lib.setns(fd, by === 'named' ? type : 0, { threads: 'all' })
        } finally {
          fs.closeSync(fd)
        }
      }
    }
  } catch ({ message, code, syscall, hint }) {
    error = { message, code, syscall, hint }
  }
  const left = fs.readdirSync('/proc/self/fd').length - descriptors
  const cwd = process.cwd()
  const after = await outside(pid)
  target.stdin.end()
  return { error, left, cwd, before: before.own, after: after.own, target: after.target }
}

const lookAtBoth = async (pid, child) => ({
  own: await threadsOfCaller(pid, child),
  target: namespacesOf(`/proc/${pid}`),
})

const enter = (unshared, by, types, wrap = privileged) =>
  inProcess(
    entering,
    { with: { outside: lookAtBoth, wrap } },
    { worker, library, unshared: unshared.map((type) => `--${type}`), by, types },
  )

for (const by of ['named', 'unnamed', 'pidfd']) {
  for (const types of [['uts'], ['ipc'], ['net'], ['cgroup'], ['mnt'], all]) {
    test(`setns moves every thread into ${types.join(', ')}, ${by}`, async (t) => {
      const { error, left, cwd, before, after, target } = await enter(
        types.map((type) => (type === 'mnt' ? 'mount' : type)),
        by,
        types,
      )
      t.is(error, null)
      t.is(left, 0)
      assertAllMoved(t, before, after, types)
      for (const type of types) t.is(after.find(({ isMain }) => isMain).ns[type], target[type])
      if (types.includes('mnt')) {
        t.is(cwd, '/')
        t.deepEqual(
          distinct(movable(after), (thread) => thread.cwd),
          ['/'],
        )
      }
    })
  }
}

test('setns moves every thread into a mount namespace that belongs to a user namespace without a UTS namespace', async (t) => {
  const { error, before, after, target } = await enter(['mount'], 'named', ['mnt'], inUserNamespace)
  t.is(error, null)
  assertAllMoved(t, before, after, ['mnt'])
  t.is(after.find(({ isMain }) => isMain).ns.mnt, target.mnt)
})

for (const by of ['named', 'pidfd']) {
  test(`setns takes every thread's children into a pid namespace, ${by}`, async (t) => {
    const result = await inProcess(
      async ({ lib, fs, cp, outside }, { by }) => {
        await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
        const target = cp.spawn('unshare', ['--pid', '--net', '--fork', 'sh', '-c', 'echo; exec cat'], {
          stdio: ['pipe', 'pipe', 'inherit'],
        })
        await new Promise((resolve) => target.stdout.once('data', resolve))
        const inner = Number(
          fs.readFileSync(`/proc/${target.pid}/task/${target.pid}/children`, 'utf8').trim().split(' ')[0],
        )
        const before = await outside(inner)
        if (by === 'pidfd') lib.setns(lib.pidfdOpen(inner), ['pid', 'net'], { threads: 'all' })
        else lib.setns(fs.openSync(`/proc/${inner}/ns/pid`), 'pid', { threads: 'all' })
        const after = await outside(inner)
        target.stdin.end()
        return { before: before.own, after: after.own, target: after.target }
      },
      { with: { outside: lookAtBoth } },
      { by },
    )
    const { before, after, target } = result
    t.deepEqual(
      distinct(movable(after), ({ ns }) => ns.pid_for_children),
      [target.pid],
    )
    const expected = by === 'pidfd' ? ['net', 'pid_for_children'] : ['pid_for_children']
    assertAllMoved(t, before, after, expected)
  })
}

for (const [type, unshared, code] of [
  ['user', ['user', 'map-root-user'], 'EINVAL'],
  ['time', ['time', 'fork'], 'EUSERS'],
]) {
  for (const by of ['named', 'unnamed', 'pidfd']) {
    test(`setns with all threads into a ${type} namespace is ${code}, ${by}, and nothing has moved`, async (t) => {
      const { error, left, before, after } = await enter(unshared, by, [type])
      t.like(error, { code, syscall: 'setns' })
      t.regex(error.hint, /clone\(\).*spawn\(\).*Namespace/)
      t.is(left, 0)
      t.deepEqual(changes(before, after), [])
    })
  }

  test(`setns with all threads into a ${type} namespace among others moves nothing`, async (t) => {
    const { error, before, after } = await enter([...unshared, 'net', 'uts'], 'pidfd', [type, 'net', 'uts'])
    t.is(error.code, code)
    t.deepEqual(changes(before, after), [])
  })
}

test('setns with all threads refuses what setns with one refuses', async (t) => {
  const errors = await inProcess(async ({ lib, fs, cp }) => {
    const child = cp.spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] })
    const ended = lib.pidfdOpen(child.pid)
    child.stdin.end()
    await new Promise((resolve) => child.once('close', resolve))
    const calls = [
      [9999, 'uts'],
      [-1, 0],
      [ended, ['uts', 'net']],
      [fs.openSync('/dev/null'), 0],
      [fs.openSync('/proc/self/ns/uts'), 'net'],
      [lib.pidfdOpen(process.pid), 0],
    ]
    return calls.map(([fd, nstype]) => {
      try {
        return lib.setns(fd, nstype, { threads: 'all' })
      } catch ({ code, syscall, hint }) {
        return { code, syscall, hint }
      }
    })
  })
  t.deepEqual(
    errors.map(({ code, syscall }) => `${code} ${syscall}`),
    ['EBADF setns', 'EBADF setns', 'ESRCH setns', 'EINVAL setns', 'EINVAL setns', 'EINVAL setns'],
  )
  t.regex(errors[2].hint, /has ended/)
  t.regex(errors[3].hint, /neither of a namespace/)
  t.regex(errors[4].hint, /of type uts/)
  t.regex(errors[5].hint, /must be named/)
})

test('Under load a hundred moves neither hang nor lose a request', async (t) => {
  const result = await inProcess(
    async ({ lib, fs, workers, outside }) => {
      const http = process.getBuiltinModule('node:http')
      const server = http.createServer((_, response) => response.end('answer'))
      await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
      const url = `http://127.0.0.1:${server.address().port}/`
      const spinning = Array.from({ length: 4 }, () => {
        const code =
          'for (;;) { globalThis.kept = Array.from({ length: 1000 }, (_, n) => ({ n, text: String(n) })) }'
        return new workers.Worker(code, { eval: true })
      })
      await Promise.all(spinning.map((worker) => new Promise((resolve) => worker.once('online', resolve))))
      const before = await outside()
      let ended = false
      const counts = { asked: 0, answered: 0, read: 0 }
      const request = async () => {
        while (!ended) {
          counts.asked++
          const text = await new Promise((resolve, reject) => {
            http
              .get(url, (response) => {
                let text = ''
                response.setEncoding('utf8')
                response.on('data', (chunk) => {
                  text += chunk
                })
                response.on('end', () => resolve(text))
              })
              .on('error', reject)
          })
          if (text === 'answer') counts.answered++
        }
      }
      const read = async () => {
        while (!ended) {
          await fs.promises.readFile('/proc/self/status', 'utf8')
          counts.read++
        }
      }
      const work = [request(), request(), request(), read(), read()]
      for (let round = 0; round < 100; round++) {
        lib.unshare('uts', { threads: 'all' })
        await new Promise((resolve) => setImmediate(resolve))
      }
      const after = await outside()
      ended = true
      await Promise.all(work)
      await Promise.all(spinning.map((worker) => worker.terminate()))
      return { counts, before, after }
    },
    { with: { outside: threadsOfCaller } },
  )
  assertAllMoved(t, result.before, result.after, ['uts'])
  t.true(result.counts.asked > 0)
  t.is(result.counts.answered, result.counts.asked)
  t.true(result.counts.read > 0)
})

test('where threads have working directories of their own, those in another mount namespace keep theirs', async (t) => {
  const { main, others } = await inProcess(
    async ({ lib, fs }) => {
      await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
      process.chdir('/usr')
      lib.unshare('mnt', { threads: 'all' })
      lib.unshare('mnt')
      process.chdir('/etc')
      const link = (tid) => fs.readlinkSync(`/proc/self/task/${tid}/cwd`)
      const others = fs.readdirSync('/proc/self/task').filter((tid) => Number(tid) !== process.pid)
      return { main: link(process.pid), others: others.map(link) }
    },
    { with: { wrap: ['unshare', '--user', '--map-root-user'] } },
  )
  t.is(main, '/etc')
  t.true(others.length > 4)
  t.deepEqual([...new Set(others)], ['/usr'])
})

test('where the kernel lets no threads that share a working directory enter a mount namespace, each has its own', async (t) => {
  // It is refused as Linux 6.12.117 does it: setns(2), CLONE_NEWNS | CLONE_NEWUTS.
  const setns = { x64: 308, arm64: 268 }[process.arch]
  const [load, equals, end] = [0x20, 0x15, 0x06]
  const filter = [
    [load, 0, 0, 0],
    [equals, 0, 3, setns],
    [load, 0, 0, 24],
    [equals, 0, 1, lib.CLONE_NEWNS | lib.CLONE_NEWUTS],
    [end, 0, 0, 0x50000 | constants.errno.EINVAL],
    [end, 0, 0, 0x7fff0000],
  ]
  const seccomp = Buffer.concat(
    filter.map(([code, yes, no, value]) => {
      const bytes = Buffer.from([code, 0, yes, no, 0, 0, 0, 0])
      bytes.writeUInt32LE(value, 4)
      return bytes
    }),
  )
  const act = async ({ fs, lib }) => {
    await Promise.all(Array.from({ length: 8 }, () => fs.promises.stat('/')))
    const before = fs.readlinkSync('/proc/self/ns/mnt')
    // The inspector's thread stays, and is known by the signals that it blocks; afterwards others may not have left their handlers.
    const blocked = (tid) =>
      BigInt(`0x${/^SigBlk:\s*(\w+)/m.exec(fs.readFileSync(`/proc/self/task/${tid}/status`, 'utf8'))[1]}`)
    const moves = (tid) => (blocked(tid) | (0b111n << 31n)) !== 0xfffffffffffbfeffn
    const tids = fs.readdirSync('/proc/self/task').filter(moves)
    lib.unshare('mnt', { threads: 'all' })
    process.chdir('/usr')
    const of = (name) => tids.map((tid) => fs.readlinkSync(`/proc/self/task/${tid}/${name}`))
    return { before, namespaces: of('ns/mnt'), directories: of('cwd') }
  }
  const given = `{ fs: require('node:fs'), lib: require(${JSON.stringify(library)}) }`
  const script = `(${act})(${given}).then((value) => console.log(JSON.stringify(value)))`
  const { stdout, stderr } = lib.spawnSync(process.execPath, ['-e', script], {
    ...(isRoot ? {} : { unshare: ['user', 'uts'], uidMappings: 'root', gidMappings: 'root' }),
    seccomp,
    noNewPrivileges: true,
    encoding: 'utf8',
  })
  t.is(stderr, '')
  const { before, namespaces, directories } = JSON.parse(stdout)
  t.true(namespaces.length > 4)
  t.is(new Set(namespaces).size, 1)
  t.not(namespaces[0], before)
  t.deepEqual([...new Set(directories)], ['/usr'])
})

test("a program with a death signal that a Worker has started is in nobody's way, and its thread moves too", async (t) => {
  const { before, after } = await inProcess(async ({ lib, fs, workers }, library) => {
    const code = `
        const { parentPort, workerData } = require('node:worker_threads')
        const program = require(workerData).spawn('sleep', ['150'], { parentDeathSignal: 'SIGKILL' })
        program.once('spawn', () => parentPort.postMessage(program.pid))`
    const worker = new workers.Worker(code, { eval: true, workerData: library })
    const pid = await new Promise((resolve) => worker.once('message', resolve))
    const directory = '/proc/self/task'
    const tids = fs.readdirSync(directory)
    const its = tids.find((tid) => fs.readFileSync(`${directory}/${tid}/comm`, 'utf8') === 'linux-clone\n')
    const links = () => [process.pid, its].map((tid) => fs.readlinkSync(`${directory}/${tid}/ns/uts`))
    try {
      const before = links()
      lib.unshare('uts', { threads: 'all' })
      return { before, after: links() }
    } finally {
      process.kill(pid)
      await new Promise((resolve) => worker.once('exit', resolve))
    }
  }, library)
  t.is(before[0], before[1])
  t.not(after[0], before[0])
  t.is(after[1], after[0])
})

/**
 * With BEGIN in the environment, when the threads have been listed once, it makes two more. The second listing ends at the
 * first of them, which ends at that moment, and goes on as the kernel does then: by number, past the other one.
 */
const endsWhileListed = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct entry { unsigned long number, next; unsigned short length; char type, name[]; };

static long (*call)(long, ...);
static volatile int lists, first, second, has_to_end;

static void *begin(void *place) {
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, 0);
  *(volatile int *)place = call(SYS_gettid);
  while (place == &second || !has_to_end) usleep(100);
  return 0;
}

static long list(long fd, char *entries, long result) {
  static pthread_t threads[2];
  if (!getenv("BEGIN")) return result;
  if (result == 0 && lists++ == 0) {
    pthread_create(&threads[0], 0, begin, (void *)&first);
    while (!first);
    pthread_create(&threads[1], 0, begin, (void *)&second);
    while (!second);
  }
  if (lists != 1) return result;
  for (long at = 0; at < result;) {
    struct entry *entry = (struct entry *)(entries + at);
    at += entry->length;
    if (atoi(entry->name) != first) continue;
    has_to_end = 1;
    pthread_join(threads[0], 0);
    while (call(SYS_tgkill, getpid(), first, 0) == 0);
    call(SYS_lseek, fd, entry->next, SEEK_SET);
    lists++;
    return at;
  }
  return result;
}

long syscall(long number, ...) {
  long words[6];
  va_list arguments;
  va_start(arguments, number);
  for (int index = 0; index < 6; index++) words[index] = va_arg(arguments, long);
  va_end(arguments);
  if (!call) call = dlsym(RTLD_NEXT, "syscall");
  long result = call(number, words[0], words[1], words[2], words[3], words[4], words[5]);
  return number == SYS_getdents64 ? list(words[0], (char *)words[1], result) : result;
}
`

test('no thread is overlooked where another one ends while they are listed', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const { before, after } = await inProcess(
    async ({ lib, outside }) => {
      // Who is Node's inspector is known from here on, and takes no more listings.
      lib.unshare('uts', { threads: 'all' })
      const before = await outside()
      process.env.BEGIN = '1'
      lib.unshare('uts', { threads: 'all' })
      return { before, after: await outside() }
    },
    { with: { outside: threadsOfCaller, env: { LD_PRELOAD: compileLibrary(t, endsWhileListed) } } },
  )
  t.is(after.length, before.length + 1)
  assertAllMoved(t, before, after, ['uts'])
})
