// `node scripts/stress-namespace.mjs COUNT`: a parent that calls Namespace.run without end is killed by SIGKILL at another moment
// each time, COUNT times: no process and no mount may be left.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { endMarked, marked, startMarked } from '../__test__/helpers/marked.mjs'

/** Milliseconds in which everything has to be gone. */
const DEADLINE = 10_000
const KINDS = [
  { privatePid: true, privateTmp: true, privateIpc: true, privateUts: true },
  { privatePid: true, privateNet: true, privateUser: true, privateTmp: { size: '1m' } },
  { privateTmp: true, privateNet: true, privateIpc: true },
  { privateUser: true, privateMount: true, privateTime: { boottime: 5 } },
]

const count = Number(process.argv[2])
if (!(count >= 1)) throw new Error('usage: stress-namespace.mjs COUNT')

const mounts = () => readFileSync('/proc/self/mounts', 'utf8')
const before = mounts()
const slowest = { milliseconds: 0 }
for (let round = 0; round < count; round++) {
  const options = KINDS[round % KINDS.length]
  const mark = randomUUID()
  const source = `
    const { spawn, execFileSync } = require('child_process')
    const namespace = new lib.Namespace(${JSON.stringify(options)})
    const forever = async () => {
      for (;;) {
        await namespace.run(async () => {
          execFileSync('sh', ['-c', 'setsid sleep 1000 >/dev/null 2>&1 &'])
          spawn('sleep', ['1000'], { stdio: 'ignore' })
          await new Promise((resolve) => setTimeout(resolve, 5))
          return new Uint8Array(1 << 20)
        })
      }
    }
    console.log('ready')
    forever()
    forever()`
  const { child, exited, line } = startMarked(mark, source, [])
  try {
    await line()
    await sleep(Math.random() * 120)
    child.kill('SIGKILL')
    await exited
    const killed = performance.now()
    while (marked(mark).length > 0) {
      if (performance.now() - killed > DEADLINE) {
        throw new Error(`round ${round}, ${JSON.stringify(options)}: ${marked(mark)} are left`)
      }
      await sleep(1)
    }
    const milliseconds = performance.now() - killed
    if (milliseconds > slowest.milliseconds) Object.assign(slowest, { milliseconds, round })
    if (mounts() !== before) throw new Error(`round ${round}: the mounts are not what they were`)
  } finally {
    await endMarked(mark)
  }
}
console.log(
  `${count} parents killed, nothing left; the last of one was gone after ${slowest.milliseconds.toFixed()} ms at most`,
)
