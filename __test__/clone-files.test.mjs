// CLONE_FILES: a child whose descriptors are those of the parent, of its event loop too.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { cloning } from './helpers/cloning.mjs'
import { privileged } from './helpers/process.mjs'

const library = fileURLToPath(new URL('../index.js', import.meta.url))

test('CLONE_FILES: the descriptor table is one', async (t) => {
  const { code, opened, closed } = await cloning(({ lib, cp, fs }, library) => {
    const extra = fs.openSync('/dev/null')
    const path = `/proc/${process.pid}/ns/uts`
    const child = lib.clone(
      () => {
        fs.openSync(path)
        fs.closeSync(extra)
        const compare = `
          const lib = require(${JSON.stringify(library)})
          process.exitCode = lib.kcmp(${process.pid}, process.ppid, lib.KCMP_FILES)`
        return cp.spawnSync(process.execPath, ['-e', compare], { stdio: 'inherit' }).status
      },
      { flags: lib.CLONE_FILES },
    )
    const { code } = child.waitSync()
    const targets = fs.readdirSync('/proc/self/fd').map((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return null
      }
    })
    const closed = !fs.existsSync(`/proc/self/fd/${extra}`)
    return { code, opened: targets.filter((target) => target?.startsWith('uts:')), closed }
  }, library)
  t.is(code, 0, 'kcmp of a third process')
  t.is(opened.length, 1)
  t.true(closed)
})

/** What may happen in a child that has the parent's descriptors, and how it ends. */
const deeds = {
  'returned 3': [() => 3, 3],
  'called process.exit': [() => process.exit(4), 4],
  'set process.exitCode': [
    () => {
      process.exitCode = 5
    },
    5,
  ],
  threw: [
    () => {
      throw new Error('thrown by the child')
    },
    1,
  ],
  'returned a promise': [async () => 6, 1],
  'used execSync': [
    () => {
      const { execSync, spawnSync } = process.getBuiltinModule('node:child_process')
      if (`${execSync('echo from a shell')}` !== 'from a shell\n') return 70
      return spawnSync('sh', ['-c', 'exit 7']).status
    },
    7,
  ],
  'used console.log': [
    () => {
      console.log('printed by the child')
      console.error('complained by the child')
      process.stdout.write('x'.repeat(300_000))
      return 8
    },
    8,
  ],
  'started timers and requests': [
    () => {
      setTimeout(() => process._rawDebug('a timer of the child fired'), 0)
      setImmediate(() => process._rawDebug('an immediate of the child fired'))
      process.nextTick(() => process._rawDebug('a tick of the child fired'))
      return 9
    },
    9,
  ],
  'was killed': [() => process.kill(process.pid, 'SIGKILL'), null],
}

/** Runs `deed` in a child with the parent's descriptors, and uses everything of the parent's loop, before and after. */
const shareDescriptors = async ({ lib, fs, cp, workers }, deed) => {
  const http = process.getBuiltinModule('node:http')
  let [ticks, changes] = [0, 0]
  const interval = setInterval(() => ticks++, 1)
  const server = http.createServer((_, response) => response.end('served')).listen(0, '127.0.0.1')
  // Connections stay, however long a slow machine takes.
  server.keepAliveTimeout = 0
  await new Promise((resolve) => server.once('listening', resolve))
  const agent = new http.Agent({ keepAlive: true })
  const { port } = server.address()
  const get = () =>
    new Promise((resolve, reject) => {
      const request = http.get({ port, agent, host: '127.0.0.1' }, (response) => {
        let text = ''
        response.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text))
      })
      request.on('error', reject)
    })
  process.on('SIGUSR2', () => changes++)
  const worker = new workers.Worker(
    "const { parentPort } = require('node:worker_threads'); parentPort.on('message', (m) => parentPort.postMessage(m))",
    { eval: true },
  )
  const echo = () =>
    new Promise((resolve) => {
      worker.once('message', resolve)
      worker.postMessage('echoed')
    })
  const useLoop = async () => {
    const [before, signalled] = [ticks, changes]
    process.kill(process.pid, 'SIGUSR2')
    const child = cp.spawn('sh', ['-c', 'cat; exit 3'], { stdio: ['pipe', 'pipe', 'inherit'] })
    child.stdin.end('piped')
    let piped = ''
    child.stdout.on('data', (chunk) => (piped += chunk))
    const closed = new Promise((resolve) => child.once('close', resolve))
    const seen = {
      http: await Promise.all([get(), get()]),
      file: (await fs.promises.readFile('/proc/self/comm', 'utf8')).length > 0,
      child: [await closed, piped],
      timer: await new Promise((resolve) => setTimeout(resolve, 5, 'rang')),
      immediate: await new Promise((resolve) => setImmediate(resolve, 'came')),
      worker: await echo(),
    }
    while (ticks === before || changes === signalled) await new Promise((resolve) => setTimeout(resolve, 1))
    return seen
  }
  const names = () => fs.readdirSync('/proc/self/fd').length
  const before = await useLoop()
  // The first opens an epoll, which stays.
  await lib.clone(() => 0).wait()
  const count = names()
  const waiting = get()
  const child = lib.clone(new Function(`return (${deed})()`), { flags: lib.CLONE_FILES })
  const { code, signal } = await child.wait()
  const during = await waiting
  const after = await useLoop()
  clearInterval(interval)
  const again = lib.clone(() => 10, { flags: lib.CLONE_FILES }).waitSync().code
  return { code, signal, before, during, after, again, more: names() - count }
}

for (const [deed, [fn, code]] of Object.entries(deeds)) {
  test(`CLONE_FILES: the parent's event loop goes on when the child ${deed}`, async (t) => {
    const result = await cloning(shareDescriptors, fn.toString())
    t.is(result.code, code)
    t.is(result.signal, code === null ? 'SIGKILL' : null)
    t.deepEqual(result.before, {
      http: ['served', 'served'],
      file: true,
      child: [3, 'piped'],
      timer: 'rang',
      immediate: 'came',
      worker: 'echoed',
    })
    t.is(result.during, 'served')
    t.deepEqual(result.after, result.before)
    t.is(result.again, 10)
    t.is(result.more, 0)
  })
}

test('CLONE_FILES: a promise is refused with the reason, an error is printed, and what is written arrives', async (t) => {
  for (const [fn, output, errors] of [
    [
      "console.log('a line'); process.stdout.write('x'.repeat(3e5)); console.error('another')",
      300_007,
      /^another$/m,
    ],
    ["throw new Error('thrown by the child')", 0, /Error: thrown by the child\n +at /],
    ['return Promise.resolve(3)', 0, /ERR_INVALID_RETURN_VALUE/],
    ['return Promise.resolve(3)', 0, /no promise with CLONE_FILES, as the event loop is the parent's/],
  ]) {
    const source = `
      const lib = require(${JSON.stringify(library)})
      const child = lib.clone(() => { ${fn} }, { flags: lib.CLONE_FILES })
      child.wait().then(({ code }) => { process.exitCode = 20 + code })`
    const words = [...privileged, process.execPath, '-e', source]
    const { status, stdout, stderr } = spawnSync(words[0], words.slice(1), { encoding: 'utf8' })
    t.is(status, output > 0 ? 20 : 21)
    t.is(stdout.length, output)
    t.regex(stderr, errors)
  }
})
