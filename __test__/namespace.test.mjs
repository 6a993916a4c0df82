// Each option of Namespace: what it does, and what is as it was without it.
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'
import test from 'ava'
import { childrenOf } from './helpers/machine.mjs'
import { changes, movable, threadsOfCaller } from './helpers/proc.mjs'
import { inProcess, isRoot } from './helpers/process.mjs'

const types = ['mnt', 'uts', 'ipc', 'net', 'pid', 'user', 'cgroup', 'time']

/** In which namespaces the children of a process are that itself is not in. */
const differing = (_, { pid }) => {
  const links = (of) => types.map((type) => readlinkSync(`/proc/${of}/ns/${type}`))
  const ours = links(pid)
  return childrenOf(pid).map((child) => {
    const theirs = links(child)
    return types.filter((_, index) => ours[index] !== theirs[index])
  })
}

const CREATED = [
  [{}, []],
  [{ privateMount: true }, ['mnt']],
  [{ privateTmp: true }, ['mnt']],
  [{ privatePid: true }, ['mnt', 'pid']],
  [{ privatePid: true, noProc: true }, ['pid']],
  [{ privateNet: true }, ['net']],
  [{ privateNet: 'none' }, ['net']],
  [{ privateIpc: true }, ['ipc']],
  [{ privateUser: true }, ['user']],
  [{ privateUts: true }, ['uts']],
  [{ privateUts: { hostname: 'inside' } }, ['uts']],
  [{ privateCgroup: true }, ['cgroup']],
  [{ privateTime: true }, ['time']],
  [{ privateTime: { boottime: 5 } }, ['time']],
  [{ privateSysvsem: true }, []],
  [{ privateMount: false, privatePid: false, privateNet: false, privateUts: false, privateTmp: false }, []],
  [{ privateUser: false, privateIpc: false, privateCgroup: false, privateTime: false }, []],
  [
    {
      ...{ privateMount: true, privateTmp: { size: '1m' }, privatePid: true, privateNet: 'loopback' },
      ...{ privateIpc: true, privateUser: true, privateUts: { hostname: 'all', domainname: 'of it' } },
      ...{ privateCgroup: true, privateTime: { monotonic: 1.5, boottime: 2 }, privateSysvsem: true },
    },
    types,
  ],
]

const created = (all, wrap) =>
  inProcess(
    async ({ lib, outside }, all) => {
      const found = []
      for (const options of all) {
        const abort = new AbortController()
        const namespace = new lib.Namespace({ ...options, signal: abort.signal })
        const run = namespace.run(() => new Promise(() => setInterval(() => {}, 2 ** 30)))
        const [inRun] = await outside()
        abort.abort()
        await run.catch(({ name }) => name === 'AbortError' || found.push(name))
        const child = new lib.Namespace(options).spawn('sleep', ['1000'])
        const [inSpawn] = await outside()
        child.kill('SIGKILL')
        await new Promise((resolve) => child.once('exit', resolve))
        found.push([inRun, inSpawn])
      }
      return found
    },
    { with: { outside: differing, wrap } },
    all,
  )

test('run and spawn create what an option says, and nothing else', async (t) => {
  const found = await created(CREATED.map(([options]) => options))
  for (const [index, [options, expected]] of CREATED.entries()) {
    t.deepEqual(found[index], [expected, expected], JSON.stringify(options))
  }
})

test('With privateUser all of it is had without privileges', async (t) => {
  const all = CREATED.map(([options, expected]) => [
    { ...options, privateUser: true },
    types.filter((type) => type === 'user' || expected.includes(type)),
  ])
  const found = await created(
    all.map(([options]) => options),
    isRoot ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : [],
  )
  for (const [index, [options, expected]] of all.entries()) {
    t.deepEqual(found[index], [expected, expected], JSON.stringify(options))
  }
})

for (const [options, expected] of CREATED.filter(
  ([{ privatePid, privateUser, privateTime }, created]) =>
    created.length > 0 && !privatePid && !privateUser && !privateTime,
)) {
  test(`setup() puts every thread where ${JSON.stringify(options)} says`, async (t) => {
    const { before, after, later } = await inProcess(
      async ({ lib, fs, outside }, options) => {
        await fs.promises.readFile('/dev/null')
        const before = await outside()
        new lib.Namespace(options).setup()
        return {
          before,
          after: await outside(),
          later: await fs.promises.readlink('/proc/thread-self/ns/net'),
        }
      },
      { with: { outside: async (...asked) => movable(await threadsOfCaller(...asked)) } },
      options,
    )
    const ofChildren = (type) => (type === 'pid' || type === 'time' ? `${type}_for_children` : type)
    const both = expected.flatMap((type) => [`main ${ofChildren(type)}`, `other ${ofChildren(type)}`])
    t.deepEqual(changes(before, after), both.sort())
    t.is(new Set(after.map(({ ns }) => JSON.stringify(ns))).size, 1)
    t.is(later, after[0].ns.net)
  })
}

test('setup() mounts, names and configures, and nobody else sees it', async (t) => {
  const directory = mkdtempSync('/tmp/linux-clone-')
  t.teardown(() => rmSync(directory, { recursive: true }))
  const seen = await inProcess(async ({ lib, fs, os, cp, path }) => {
    // Wherever the tests are, it is not in /tmp.
    process.chdir('/usr')
    const cwd = process.cwd()
    const namespace = new lib.Namespace({
      privateTmp: { size: '2m', mode: 0o700 },
      privateNet: true,
      privateUts: { hostname: 'set-up', domainname: 'domain' },
    })
    namespace.setup()
    fs.writeFileSync('/tmp/linux-clone-setup', 'here')
    return {
      tmp: fs.readdirSync('/tmp'),
      promised: await fs.promises.readdir('/tmp'),
      mode: fs.statSync('/tmp').mode & 0o7777,
      blocks: fs.statfsSync('/tmp').blocks * fs.statfsSync('/tmp').bsize,
      hostname: os.hostname(),
      domainname: fs.readFileSync('/proc/sys/kernel/domainname', 'utf8').trim(),
      devices: fs.readFileSync('/proc/thread-self/net/dev', 'utf8').match(/\w+(?=:)/g),
      addresses: os.networkInterfaces().lo?.map(({ address }) => address),
      child: cp.execFileSync('ls', ['/tmp'], { encoding: 'utf8' }),
      cwd: process.cwd() === cwd && fs.existsSync(path.resolve('.')),
    }
  })
  t.like(seen, {
    tmp: ['linux-clone-setup'],
    promised: ['linux-clone-setup'],
    mode: 0o700,
    blocks: 2 << 20,
    hostname: 'set-up',
    domainname: 'domain',
    devices: ['lo'],
    addresses: ['127.0.0.1', '::1'],
    child: 'linux-clone-setup\n',
    cwd: true,
  })
  t.false(existsSync('/tmp/linux-clone-setup'))
  t.true(existsSync(directory))
  t.not(hostname(), 'set-up')
})

test('setup() that fails at any step has changed nothing', async (t) => {
  const { errors, before, after } = await inProcess(
    async ({ lib, outside }) => {
      const before = await outside()
      const errors = []
      for (const options of [
        { privateTmp: { size: 'much' } },
        { privateNet: true, privateUts: true, privateTmp: { unheard: 1 } },
      ]) {
        try {
          new lib.Namespace(options).setup()
        } catch ({ code, step, path, syscall, hint }) {
          errors.push({ code, step, path, syscall, hint })
        }
      }
      return { errors, before, after: await outside() }
    },
    { with: { outside: async (...asked) => movable(await threadsOfCaller(...asked)) } },
  )
  t.is(errors.length, 2)
  for (const error of errors) {
    t.like(error, { code: 'EINVAL', step: 'mount', syscall: 'mount' })
    t.regex(error.hint, /does not know one of the options/)
  }
  t.deepEqual(changes(before, after), [])
})

test('privateTmp: no working directory of /tmp is that outside any more', async (t) => {
  const directory = mkdtempSync('/tmp/linux-clone-')
  t.teardown(() => rmSync(directory, { recursive: true }))
  writeFileSync(`${directory}/outside`, '')
  const found = await inProcess(async ({ lib, fs }, directory) => {
    const look = () => {
      fs.writeFileSync('left', '')
      return [process.cwd(), fs.readlinkSync('/proc/self/cwd'), ...fs.readdirSync('.')]
    }
    const namespace = new lib.Namespace({ privateTmp: true })
    process.chdir(directory)
    process.cwd()
    const ran = await namespace.run(look)
    namespace.setup()
    return { ran, set: look() }
  }, directory)
  const inside = ['/tmp', '/tmp', 'left']
  t.deepEqual(found, { ran: inside, set: inside })
  t.deepEqual(readdirSync(directory), ['outside'])
})

test('privateTmp: what is written to /tmp is gone afterwards, and that outside is not seen', async (t) => {
  const file = `/tmp/linux-clone-${process.pid}`
  writeFileSync(file, 'outside')
  t.teardown(() => rmSync(file, { force: true }))
  const found = await inProcess(async ({ lib, fs }, file) => {
    const look = () => {
      const names = fs.readdirSync('/tmp')
      fs.writeFileSync(`${file}-inside`, 'inside')
      const { mode } = fs.statSync('/tmp')
      const { bsize, blocks, files } = fs.statfsSync('/tmp')
      // That outside may be a tmpfs too: the last one is on top.
      const last = (file, pattern) => [...fs.readFileSync(file, 'utf8').matchAll(pattern)].at(-1)
      const options = last('/proc/self/mounts', /^\S+ \/tmp tmpfs (\S+)/gm)?.[1]
      const [, shared] = last('/proc/self/mountinfo', / \/tmp \S+( shared:\d+)? - tmpfs/g)
      const wasThere = names.includes(file.slice('/tmp/'.length))
      return { names, mode: mode & 0o7777, size: bsize * blocks, files, options, shared, wasThere }
    }
    const run = (privateTmp) => new lib.Namespace({ privateTmp }).run(look)
    return {
      simple: await run(true),
      sized: await run({ size: '64m', mode: 0o750, nr_inodes: 100, noexec: true, dev: true }),
      spawned: await new Promise((resolve) => {
        const child = new lib.Namespace({ privateTmp: true }).spawn('ls', ['-A', '/tmp'])
        child.stdout.setEncoding('utf8').on('data', (text) => resolve(text))
        child.stdout.on('end', () => resolve(''))
      }),
      without: await new lib.Namespace({ privateIpc: true }).run(() => fs.readFileSync(file, 'utf8')),
      tmpdir: [
        process.env.TMPDIR,
        await new lib.Namespace({ privateTmp: true }).run(() => process.env.TMPDIR),
      ],
    }
  }, file)
  t.like(found.simple, { names: [], mode: 0o1777, wasThere: false, shared: undefined })
  t.regex(found.simple.options, /nosuid,nodev/)
  t.like(found.sized, { names: [], mode: 0o750, size: 64 << 20, files: 100 })
  t.regex(found.sized.options, /noexec/)
  if (isRoot) t.notRegex(found.sized.options, /nodev/)
  t.is(found.spawned, '')
  t.is(found.without, 'outside')
  t.is(found.tmpdir[0], found.tmpdir[1])
  t.is(readFileSync(file, 'utf8'), 'outside')
  t.false(existsSync(`${file}-inside`))
})

test('privatePid: pid 1, and a /proc of its own unless noProc', async (t) => {
  const [own, none, without, parent] = await inProcess(async ({ lib, fs }) => {
    const look = () => ({
      pid: process.pid,
      shown: fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name)),
      self: fs.readlinkSync('/proc/self'),
    })
    const run = (options) => new lib.Namespace(options).run(look)
    return [
      await run({ privatePid: true }),
      await run({ privatePid: true, noProc: true }),
      await run({ privateIpc: true }),
      String(process.pid),
    ]
  })
  t.deepEqual(own, { pid: 1, shown: ['1'], self: '1' })
  t.is(none.pid, 1)
  t.true(none.shown.includes(parent))
  t.not(without.pid, 1)
  t.true(without.shown.includes(parent))
})

test('privateNet: a server inside is reached inside, and from nowhere else', async (t) => {
  const found = await inProcess(async ({ lib, fs, os, until }) => {
    const { createServer, connect } = process.getBuiltinModule('net')
    const listening = (port) =>
      new Promise((resolve, reject) => {
        const server = createServer((socket) => socket.end('served')).once('error', reject)
        server.listen(port, '127.0.0.1', () => resolve(server))
      })
    const asked = (port) =>
      new Promise((resolve) => {
        let text = ''
        const socket = connect(port, '127.0.0.1').setEncoding('utf8')
        socket.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text))
        socket.on('error', ({ code }) => resolve(code))
      })
    const file = fs.mkdtempSync(`${os.tmpdir()}/linux-clone-`)
    const results = {}
    for (const [name, privateNet] of [
      ['up', true],
      ['loopback', 'loopback'],
      ['none', 'none'],
      ['shared', false],
    ]) {
      const server = await listening(0)
      const { port } = server.address()
      await new Promise((resolve) => server.close(resolve))
      const abort = new AbortController()
      const fd = fs.openSync(`${file}/${name}`, 'w+')
      const run = new lib.Namespace({ privateNet, signal: abort.signal }).run(async () => {
        const answer = await listening(port).then(
          () => asked(port),
          ({ code }) => code,
        )
        fs.writeSync(fd, JSON.stringify({ answer, names: Object.keys(os.networkInterfaces()).sort() }))
        await new Promise(() => setInterval(() => {}, 2 ** 30))
      })
      const text = () => fs.readFileSync(`${file}/${name}`, 'utf8')
      await until(() => text() !== '')
      results[name] = { ...JSON.parse(text()), outside: await asked(port) }
      abort.abort()
      await run.catch(() => {})
      fs.closeSync(fd)
    }
    fs.rmSync(file, { recursive: true })
    return results
  })
  t.deepEqual(found.up, { answer: 'served', names: ['lo'], outside: 'ECONNREFUSED' })
  t.deepEqual(found.loopback, found.up)
  t.deepEqual(found.none, { answer: 'ENETUNREACH', names: [], outside: 'ECONNREFUSED' })
  t.like(found.shared, { answer: 'served', outside: 'served' })
})

test('privateIpc: a queue inside is not seen outside, nor one outside inside', async (t) => {
  const found = await inProcess(async ({ lib, fs, cp }) => {
    const queues = () => fs.readFileSync('/proc/sysvipc/msg', 'utf8').trimEnd().split('\n').length - 1
    const make = () => /\d+/.exec(cp.execFileSync('ipcmk', ['-Q'], { encoding: 'utf8' }))[0]
    const before = queues()
    const inside = await new lib.Namespace({ privateIpc: true }).run(() => {
      const first = queues()
      make()
      return [first, queues()]
    })
    const between = queues()
    const id = await new lib.Namespace({ privateMount: true }).run(make)
    const after = queues()
    cp.execFileSync('ipcrm', ['-q', id])
    return { inside, outside: [before, between, after] }
  })
  const [before] = found.outside
  t.deepEqual(found, { inside: [0, 1], outside: [before, before, before + 1] })
})

test("privateUser: the caller's ids are 0, or as the mappings say", async (t) => {
  const found = await inProcess(
    async ({ lib, fs }) => {
      const look = () => ({
        ids: [process.getuid(), process.getgid()],
        map: fs.readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/).map(Number),
        capabilities: /^CapEff:\s*(.*)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1],
      })
      const run = (privateUser) => new lib.Namespace({ privateUser }).run(look)
      const [uid, gid] = [process.getuid(), process.getgid()]
      const line = (id, inside) => [{ inside, outside: id, count: 1 }]
      const spawned = (privateUser) =>
        new Promise((resolve) => {
          const child = new lib.Namespace({ privateUser }).spawn('id', ['-u'])
          child.stdout.on('data', (text) => resolve(Number(text)))
        })
      return {
        own: [uid, gid],
        root: await run(true),
        given: await run({ uidMappings: line(uid, 5), gidMappings: line(gid, 6) }),
        half: await run({ uidMappings: 'current' }),
        without: await run(false),
        spawned: [await spawned(true), await spawned(false)],
      }
    },
    { with: { wrap: [] } },
  )
  const [uid, gid] = found.own
  t.deepEqual(found.root.ids, [0, 0])
  t.deepEqual(found.root.map, [0, uid, 1])
  t.regex(found.root.capabilities, /^0*[1-9a-f][0-9a-f]{8,}$/)
  t.deepEqual(found.given.ids, [5, 6])
  t.deepEqual(found.half.ids, [uid, 0])
  t.deepEqual(found.without.ids, [uid, gid])
  t.deepEqual(found.spawned, [0, uid])
})

test('privateUts: the names that are given, or those of outside, which stay', async (t) => {
  const name = hostname()
  const found = await inProcess(async ({ lib, fs, os, cp }) => {
    const look = () => [os.hostname(), fs.readFileSync('/proc/sys/kernel/domainname', 'utf8').trim()]
    const run = (privateUts, fn = look) => new lib.Namespace({ privateUts }).run(fn)
    const before = look()
    return {
      before,
      same: await run(true),
      given: await run({ hostname: 'inner', domainname: 'of.it' }),
      changed: await run(true, () => {
        lib.sethostname('changed')
        return look()
      }),
      spawned: await new Promise((resolve) => {
        const child = new lib.Namespace({ privateUts: { hostname: 'spawned' } }).spawn('uname', ['-n'])
        child.stdout.on('data', (text) => resolve(String(text).trim()))
      }),
      outside: cp.execFileSync('uname', ['-n'], { encoding: 'utf8' }).trim(),
      after: look(),
    }
  })
  const { before } = found
  t.is(before[0], name)
  t.deepEqual(found.same, before)
  t.deepEqual(found.given, ['inner', 'of.it'])
  t.is(found.changed[0], 'changed')
  t.is(found.spawned, 'spawned')
  t.is(found.outside, name)
  t.deepEqual(found.after, before)
})

test('privateTime: the clocks are later inside, to the nanosecond, and as they were outside', async (t) => {
  const found = await inProcess(async ({ lib, fs, os }) => {
    const look = () => ({
      offsets: fs.readFileSync('/proc/self/timens_offsets', 'utf8').trim().split(/\s+/),
      uptime: os.uptime(),
      monotonic: Number(process.hrtime.bigint() / 1_000_000_000n),
    })
    const run = (privateTime) => new lib.Namespace({ privateTime }).run(look)
    return {
      before: look(),
      given: await run({ monotonic: 1000.5, boottime: 5000.000_000_001 }),
      same: await run(true),
      without: await run(false),
    }
  })
  const { before, given, same, without } = found
  t.deepEqual(given.offsets, ['monotonic', '1000', '500000000', 'boottime', '5000', '1'])
  t.true(given.uptime >= before.uptime + 5000)
  t.true(given.monotonic >= before.monotonic + 1000)
  for (const { offsets, uptime } of [same, without]) {
    t.deepEqual(offsets, ['monotonic', '0', '0', 'boottime', '0', '0'])
    t.true(uptime < before.uptime + 5000)
  }
})

test('privateSysvsem: the list of what semaphores undo is its own, or that of the parent', async (t) => {
  const found = await inProcess(async ({ lib }) => {
    const parent = process.pid
    const compare = () => lib.kcmp(parent, process.pid, lib.KCMP_SYSVSEM, 0, 0) === 0
    const run = (options) => new lib.Namespace(options).run(compare)
    return [
      await run({}),
      await run({ privateSysvsem: false, privateMount: true }),
      await run({ privateSysvsem: true }),
      await run({ privateIpc: true }),
    ]
  })
  t.deepEqual(found, [true, true, false, false])
})

test('privateMount: what is mounted inside is not seen outside', async (t) => {
  const found = await inProcess(async ({ lib, fs, os, path }) => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'linux-clone-'))
    const look = () => fs.readFileSync('/proc/self/mounts', 'utf8').includes(directory)
    const inside = await new lib.Namespace({ privateMount: true }).run(() => {
      const shared = fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(' shared:')
      lib.mount('tmpfs', directory, 'tmpfs')
      fs.writeFileSync(path.join(directory, 'inside'), '')
      return [look(), shared]
    })
    const outside = [look(), fs.readdirSync(directory)]
    const fallen = await new lib.Namespace({ privateIpc: true }).run(
      () => fs.statSync('/proc/self/ns/mnt').ino,
    )
    const own = fs.statSync('/proc/self/ns/mnt').ino
    fs.rmdirSync(directory)
    return { inside, outside, isSame: fallen === own }
  })
  t.deepEqual(found, { inside: [true, false], outside: [false, []], isSame: true })
})

test('Options of the call come on top of those of the namespace', async (t) => {
  const output = await inProcess(async ({ lib }) => {
    const namespace = new lib.Namespace({ privateTmp: true, privateUts: { hostname: 'ours' } })
    const child = namespace.spawn('sh', ['-c', 'hostname; ls -A /tmp; readlink /proc/self/ns/net; echo $X'], {
      hostname: 'theirs',
      unshare: ['net'],
      env: { ...process.env, X: 'given' },
      mounts: [{ type: 'tmpfs', target: '/tmp/more', create: true }],
    })
    let text = ''
    for await (const chunk of child.stdout) text += chunk
    return text.trim().split('\n')
  })
  t.is(output[0], 'theirs')
  t.is(output[1], 'more')
  t.not(output[2], readlinkSync('/proc/self/ns/net'))
  t.is(output[3], 'given')
})

test('Everything else that spawn has works in a namespace', async (t) => {
  const found = await inProcess(async ({ lib }) => {
    const namespace = new lib.Namespace({ privatePid: true, privateTmp: true })
    const piped = namespace.spawn('cat')
    piped.stdin.end('through')
    let text = ''
    for await (const chunk of piped.stdout) text += chunk
    const options = { stdio: 'ignore' }
    const ignored = namespace.spawn('sh', ['-c', 'exit 3'], options)
    const status = await new Promise((resolve) => ignored.once('exit', (...all) => resolve(all)))
    const without = namespace.spawn('true', { stdio: 'ignore' })
    const fine = await new Promise((resolve) => without.once('exit', (...all) => resolve(all)))
    const missing = namespace.spawn('/no/such/program')
    const error = await new Promise((resolve) => missing.once('error', resolve))
    return { text, status, fine, streams: [ignored.stdout], error: { code: error.code, step: error.step } }
  })
  t.deepEqual(found, {
    text: 'through',
    status: [3, null],
    fine: [0, null],
    streams: [null],
    error: { code: 'ENOENT', step: 'exec' },
  })
})
