// `node scripts/stress-clone.mjs COUNT [NODE...]`: a busy parent makes COUNT clones on each Node, and everything that it and they
// do is held against what has to happen. Without NODE: this one, and those that scripts/test-nodes.mjs has installed.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import * as fs from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
/** Milliseconds that a clone, or the parent between two signs of life, may take: STRESS_DEADLINE has seconds, for slow machines. */
const DEADLINE = 1000 * Number(process.env.STRESS_DEADLINE ?? 30)
const PROGRESS = 10_000
/** What growth from the second look to the last one is noise. */
const NOISE = { mappings: 200, rss: 64 << 20, heapUsed: 4 << 20, external: 4 << 20 }
const MARK = 'LINUX_CLONE_STRESS'

const [count, ...given] = process.argv.slice(2)
if (!(Number(count) >= 1)) throw new Error('usage: stress-clone.mjs COUNT [NODE...]')

function installed() {
  const directory = path.join(root, '.nodes')
  const lines = fs.existsSync(directory) ? fs.readdirSync(directory).sort() : []
  const binaries = lines.map((line) =>
    path.join(directory, line, `node_modules/node-linux-${process.arch}/bin/node`),
  )
  return [process.execPath, ...binaries.filter((file) => fs.existsSync(file))]
}

function readOrExplain(file) {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch (error) {
    return `${error.message}\n`
  }
}

/** Those that carry the mark of this run: a copy has the environment of its parent, and what it executes too. */
function marked(mark) {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((pid) => readOrExplain(`/proc/${pid}/environ`).includes(`${MARK}=${mark}`))
}

/** They may make others meanwhile: until there is none. */
function killAll(mark) {
  for (let pids = marked(mark); pids.length > 0; pids = marked(mark)) {
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch (error) {
        if (error.code !== 'ESRCH') throw error
      }
    }
  }
}

/** What the kernel and gdb say about a process. */
function capture(pid, directory) {
  const parts = [readOrExplain(`/proc/${pid}/status`), readOrExplain(`/proc/${pid}/maps`)]
  let tids = []
  try {
    tids = fs.readdirSync(`/proc/${pid}/task`)
    const describe = (fd) =>
      `${fd} ${fs.readlinkSync(`/proc/${pid}/fd/${fd}`)}\n${readOrExplain(`/proc/${pid}/fdinfo/${fd}`)}`
    parts.push(fs.readdirSync(`/proc/${pid}/fd`).map(describe).join('\n'))
  } catch (error) {
    parts.push(error.message)
  }
  for (const tid of tids) {
    parts.push(`── thread ${tid}`)
    for (const name of ['comm', 'wchan', 'syscall', 'stack', 'status'])
      parts.push(`${name}: ${readOrExplain(`/proc/${pid}/task/${tid}/${name}`)}`)
  }
  const gdb = ['-p', String(pid), '-batch', '-ex', 'thread apply all bt']
  const { stdout, error } = spawnSync('gdb', gdb, { encoding: 'utf8', timeout: 120_000, maxBuffer: 1 << 28 })
  parts.push(stdout ?? error.message)
  fs.writeFileSync(path.join(directory, `process-${pid}`), parts.join('\n'))
}

/** Holds what is reported against what has to be; throws at the first thing that is not so. */
class Judge {
  #fired = new Uint8Array(1 << 20)
  #lines = new Map()
  #errors = new Set()
  #drawn = new Set()
  born = 0
  ended = 0
  /** What has been called and has not ended, by index. */
  running = new Map()
  totals
  result

  constructor(parent) {
    this.parent = parent
  }

  reported(line) {
    const [what, ...words] = line.split(' ')
    const handlers = {
      fired: (kind) => this.#event(kind, ...words.slice(-2).map(Number)),
      heard: (event, pid) => {
        if (Number(pid) !== this.parent)
          throw new Error(`the parent's listener for ${event} has run in ${pid}`)
      },
      calling: (index, ...rest) => this.running.set(index, { what: rest.join(' '), since: Date.now() }),
      born: (index, pid, lines, thrown) => {
        this.born++
        Object.assign(this.running.get(index), { pid: Number(pid) })
        this.#expectOutput(index, Number(lines))
        if (thrown === '1') this.#toggle(this.#errors, index)
      },
      ended: (index) => {
        this.ended++
        this.running.delete(index)
      },
      wrong: (...rest) => {
        throw new Error(`in a copy: ${JSON.parse(rest.join(' '))}`)
      },
      random: (...drawn) => {
        for (const value of drawn) {
          if (this.#drawn.has(value)) throw new Error(`two copies have drawn ${value}`)
          this.#drawn.add(value)
        }
      },
      look: (text) => console.log(`  at rest: ${text}`),
      result: (...rest) => {
        this.result = JSON.parse(rest.join(' '))
      },
      totals: (...numbers) => {
        this.totals = numbers.map(Number)
      },
    }
    handlers[what](...words)
  }

  #event(kind, number, pid) {
    if (pid !== this.parent) throw new Error(`event ${number} of the parent (${kind}) has come in ${pid}`)
    this.#count(number, kind)
  }

  #count(number, kind) {
    if (number >= this.#fired.length) {
      const larger = new Uint8Array(number * 2)
      larger.set(this.#fired)
      this.#fired = larger
    }
    if (this.#fired[number]++) throw new Error(`event ${number} of the parent (${kind}) has come twice`)
  }

  /** Output and what is expected of it come on different ways, in any order. */
  #expectOutput(index, lines) {
    const output = this.#lines.get(index) ?? { seen: 0 }
    output.expected = lines
    this.#lines.set(index, output)
    this.#settle(index, output)
  }

  printed(text) {
    const [, index, line] = /^line (\d+) (\d+) of a/.exec(text) ?? []
    if (index === undefined) throw new Error(`unexpected output: ${text}`)
    const output = this.#lines.get(index) ?? { seen: 0 }
    this.#lines.set(index, output)
    if (output.seen++ !== Number(line)) throw new Error(`output of clone ${index} is not whole: ${text}`)
    this.#settle(index, output)
  }

  #settle(index, { seen, expected }) {
    if (seen > expected) throw new Error(`clone ${index} has written ${seen} lines, not ${expected}`)
    if (seen === expected) this.#lines.delete(index)
  }

  /** A report of an error that was thrown on purpose, which may come before it is announced. */
  complained(text) {
    const [, index] = /^Error: thrown by (\d+)$/.exec(text) ?? []
    if (index !== undefined) return this.#toggle(this.#errors, index)
    const known = [
      /^$/,
      /^ {4}at /,
      /^file:.*jobs\.mjs:\d+$/,
      /^ *(throw thrown\(index\)|return new Error\(.*|\^)$/,
      /^Node\.js v/,
    ]
    if (!known.some((pattern) => pattern.test(text))) throw new Error(`unexpected message: ${text}`)
  }

  #toggle(set, value) {
    if (!set.delete(value)) set.add(value)
  }

  /** When everything has ended. */
  conclude() {
    if (!this.totals) throw new Error('the parent has not come to its end')
    const [issued, ...cancelled] = this.totals
    for (const number of cancelled) this.#count(number, 'cancelled')
    const missing = this.#fired.subarray(0, issued).indexOf(0)
    if (missing !== -1) throw new Error(`event ${missing} of the parent has never come`)
    if (this.#errors.size > 0) throw new Error(`errors reported or announced alone: ${[...this.#errors]}`)
    for (const [index, { seen, expected }] of this.#lines)
      throw new Error(`clone ${index} has written ${seen} lines, not ${expected}`)
    if (this.ended !== Number(count)) throw new Error(`${this.ended} clones have ended, not ${count}`)
    this.#compare(this.result.looks)
    return issued
  }

  /** The first part is the warm-up: caches, arenas and code come with it. */
  #compare([, before, ...looks]) {
    const after = looks.at(-1)
    const grown = (name) => {
      const names = Object.keys(after[name]).filter((key) => after[name][key] > (before[name][key] ?? 0))
      return names.map((key) => `${key}: ${before[name][key] ?? 0} → ${after[name][key]}`).join(', ')
    }
    if (grown('descriptors') !== '') throw new Error(`descriptors are left: ${grown('descriptors')}`)
    if (after.children > 0) throw new Error(`${after.children} children are left`)
    if (after.threads > before.threads) throw new Error(`threads: ${before.threads} → ${after.threads}`)
    const total = (counts) => Object.values(counts).reduce((sum, one) => sum + one, 0)
    const grows = (name, values) => {
      const isMonotone = values.every((value, index) => index === 0 || value > values[index - 1])
      return isMonotone && values.at(-1) - values[0] > NOISE[name]
    }
    const all = [before, ...looks]
    const counts = all.map(({ mappings }) => total(mappings))
    if (grows('mappings', counts)) throw new Error(`mappings are left: ${counts}: ${grown('mappings')}`)
    for (const name of ['rss', 'heapUsed', 'external']) {
      const values = all.map((look) => look[name])
      if (grows(name, values)) throw new Error(`${name} grows: ${values}`)
    }
  }
}

/** A pipe, not the pair of sockets that spawn() makes: its reading end is where all have closed the other. */
function pipe(directory) {
  const file = path.join(directory, 'output')
  execFileSync('mkfifo', [file])
  const holder = fs.openSync(file, 'r+')
  const ends = {
    read: fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK),
    write: fs.openSync(file, 'w'),
  }
  fs.closeSync(holder)
  fs.unlinkSync(file)
  return ends
}

const lines = (input, onLine) =>
  new Promise((resolve) => {
    createInterface({ input }).on('line', onLine).on('close', resolve)
  })

async function run(node) {
  const version = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()
  console.log(`── Node ${version}: ${count} clones`)
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'linux-clone-stress-'))
  const mark = randomUUID()
  const output = pipe(directory)
  const parent = spawn(
    node,
    ['--expose-gc', path.join(root, 'scripts/stress-clone/parent.mjs'), count, directory],
    {
      // Where a crash may leave a core file.
      cwd: directory,
      env: { ...process.env, [MARK]: mark },
      stdio: ['ignore', output.write, 'pipe', 'pipe'],
    },
  )
  fs.closeSync(output.write)
  const judge = new Judge(parent.pid)
  const messages = []
  let failure
  let lastSign = Date.now()

  /** The first failure is the one that counts: what there is to be seen is kept, and everything ends. */
  const fail = (error, pids = []) => {
    if (failure) return
    failure = error
    console.log(`FAILED: ${error.message}`)
    for (const [index, { what, pid }] of judge.running)
      console.log(`  under way: clone ${index} (${pid}), ${what}`)
    for (const pid of pids) capture(pid, directory)
    killAll(mark)
  }
  const judging = (judgement) => (line) => {
    if (failure) return
    lastSign = Date.now()
    try {
      judgement(line)
    } catch (error) {
      fail(error)
    }
  }
  const watch = setInterval(() => {
    const now = Date.now()
    const late = [...judge.running].find(([, { since }]) => now - since > DEADLINE)
    if (late)
      fail(new Error(`clone ${late[0]} (${late[1].pid}) has not ended: ${late[1].what}`), marked(mark))
    else if (now - lastSign > DEADLINE) fail(new Error('the parent gives no sign of life'), marked(mark))
  }, 1000)
  const progress = setInterval(() => console.log(`  ${judge.ended} of ${count}`), PROGRESS)

  const ended = new Promise((resolve) => parent.once('exit', (...how) => resolve(how)))
  const read = [
    lines(
      parent.stdio[3],
      judging((line) => judge.reported(line)),
    ),
    lines(
      new Socket({ fd: output.read, readable: true, writable: false }),
      judging((line) => judge.printed(line)),
    ),
    lines(parent.stderr, (line) => {
      messages.push(line)
      judging((text) => judge.complained(text))(line)
    }),
  ]
  const [code, signal] = await ended
  if (signal !== null || code !== 0) fail(new Error(`the parent has ended with ${signal ?? code}`))
  // A process that is left would hold the pipes open.
  const left = marked(mark)
  if (left.length > 0) fail(new Error(`processes are left: ${left}`), left)
  await Promise.all(read)
  clearInterval(watch)
  clearInterval(progress)
  let events
  if (!failure) {
    try {
      events = judge.conclude()
    } catch (error) {
      fail(error)
    }
  }
  if (failure) {
    fs.writeFileSync(path.join(directory, 'messages'), messages.join('\n'))
    console.log(`  what was seen is in ${directory}; the last messages:\n${messages.slice(-30).join('\n')}`)
    return false
  }
  fs.rmSync(directory, { recursive: true })
  const { seconds, pauses } = judge.result
  const at = (part) => pauses[Math.min(pauses.length - 1, Math.floor(pauses.length * part))].toFixed(1)
  console.log(
    `  passed: ${(count / seconds).toFixed(1)} clones per second, ${events} events of the parent; its pause in ms: ` +
      `${at(0.5)} (median), ${at(0.9)} (90 %), ${at(0.99)} (99 %), ${at(1)} (longest)`,
  )
  return true
}

for (const node of given.length > 0 ? given : installed()) {
  if (await run(node)) continue
  process.exitCode = 1
  break
}
