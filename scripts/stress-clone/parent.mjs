// The process that is copied: `node --expose-gc parent.mjs COUNT DIRECTORY`. It tells its parent what happens, line by line.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { contexts } from './contexts.mjs'
import { jobs } from './jobs.mjs'
import { expect, ownPid, report, reportTotals } from './ledger.mjs'
import { server, startLoad } from './load.mjs'

const { clone } = createRequire(import.meta.url)('../../index.js')
const [count, directory] = [Number(process.argv[2]), process.argv[3]]
const MOST_ALIVE = 8
/** Parts of the run, between which everything rests and is counted. */
const PARTS = 5

/** To find out which it is, some jobs alone (STRESS_JOBS=wasm,pool), or all but some (STRESS_JOBS=-wasm,-pool). */
const named = process.env.STRESS_JOBS?.split(',') ?? []
const isWanted = (name) =>
  !named.includes(`-${name}`) && (named.includes(name) || named.every((other) => other.startsWith('-')))
const wanted = Object.entries(jobs).filter(([name]) => isWanted(name))

const pauses = []
let stopLoad

// Those that no copy may have.
for (const event of ['SIGTERM', 'exit', 'beforeExit'])
  process.on(event, () => report('heard', event, ownPid()))

/** An error that is not meant to be thrown is told at once. */
function explained(fn, name) {
  const tell = (error) => {
    report('wrong', JSON.stringify(`${name}: ${error?.stack ?? error}`))
    throw error
  }
  return () => {
    // Each has something to wait for until it is done.
    process.on('beforeExit', () =>
      tell(new Error(`nothing to wait for: ${process.getActiveResourcesInfo()}`)),
    )
    try {
      const result = fn()
      return result instanceof Promise ? result.catch(tell) : result
    } catch (error) {
      return tell(error)
    }
  }
}

/** Every combination comes up: the numbers of jobs and of contexts have no common divisor. */
function chosen(index) {
  const [job, context] = [wanted, Object.entries(contexts)].map((all) => all[index % all.length])
  return { jobName: job[0], makeJob: job[1], contextName: context[0], inContext: context[1] }
}

async function runOne(index, place) {
  const { jobName, makeJob, contextName, inContext } = chosen(index)
  const {
    fn,
    code = index & 0xff,
    signal = null,
    lines = 0,
    kill = false,
    thrown = false,
  } = makeJob(index, place)
  const called = expect('call')
  const child = await new Promise((resolve) => {
    inContext(() => {
      report('calling', index, `${jobName}, called from ${contextName}`)
      const start = performance.now()
      const made = clone(thrown ? fn : explained(fn, `clone ${index}, ${jobName}`))
      pauses.push(performance.now() - start)
      report('born', index, made.pid, lines, Number(thrown))
      called()
      if (kill) made.kill(signal)
      resolve(made)
    }, place)
  })
  const ended = index % 16 === 5 ? child.waitSync() : await child.wait()
  report('ended', index)
  assert.deepEqual(ended, { code, signal }, `clone ${index}, ${jobName}, called from ${contextName}`)
}

async function runPart(from, to, place) {
  stopLoad = startLoad(place)
  const alive = new Set()
  for (let index = from; index < to; index++) {
    const most = 1 + ((index >> 5) % MOST_ALIVE)
    while (alive.size >= most) await Promise.race(alive)
    const running = runOne(index, place).finally(() => alive.delete(running))
    alive.add(running)
  }
  await Promise.all(alive)
  await stopLoad()
}

const tally = (names) => {
  const counts = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}

function descriptors() {
  const targets = []
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      targets.push(readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N'))
    } catch {
      // The one that lists them.
    }
  }
  return tally(targets)
}

function mappings() {
  const lines = readFileSync('/proc/self/maps', 'utf8').trim().split('\n')
  return tally(
    lines.map((line) => {
      const [range, access, , , , name = 'anonymous'] = line.trim().split(/\s+/)
      const [start, end] = range.split('-').map((address) => Number.parseInt(address, 16))
      return name === 'anonymous' ? `${access} ${(end - start) >> 10} KiB` : name
    }),
  )
}

function children() {
  const tasks = readdirSync('/proc/self/task')
  return tasks.flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  )
}

/**
 * But for the kernel's workers: libuv of Node 24 adds to its epoll by io_uring, for which the kernel makes one, and keeps it, where
 * somebody reads what the epoll watches at that moment, as a copy of a process with Workers does.
 */
function threads() {
  const name = (task) => readFileSync(`/proc/self/task/${task}/comm`, 'utf8')
  return readdirSync('/proc/self/task').filter((task) => !name(task).startsWith('iou-')).length
}

/** What is there while nothing is under way. */
async function look() {
  server.closeAllConnections()
  // Sockets end in the loop's next turns.
  await sleep(50)
  for (let round = 0; round < 3; round++) {
    gc()
    await sleep(1)
  }
  const { rss, heapUsed, external } = process.memoryUsage()
  return {
    descriptors: descriptors(),
    threads: threads(),
    children: children().length,
    mappings: mappings(),
    rss,
    heapUsed,
    external,
  }
}

const sum = (counts) => Object.values(counts).reduce((total, one) => total + one, 0)

await new Promise((resolve) => server.listen(0, 'localhost', resolve))
const place = { directory, port: server.address().port }
const looks = []
const start = performance.now()
for (let part = 0; part < PARTS; part++) {
  await runPart(Math.floor((count * part) / PARTS), Math.floor((count * (part + 1)) / PARTS), place)
  looks.push(await look())
  const { mappings, descriptors, ...rest } = looks.at(-1)
  report('look', JSON.stringify({ ...rest, mappings: sum(mappings), descriptors: sum(descriptors) }))
}
const seconds = (performance.now() - start) / 1000
report('result', JSON.stringify({ seconds, pauses: pauses.sort((one, other) => one - other), looks }))
reportTotals()
process.exit(0)
