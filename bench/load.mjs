// What loading the package costs a fresh Node: beside loading an empty file, by turns.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const PROCESSES = 20
const TIME_GOAL = 5
const SIZE_GOAL = 1_000_000

const root = fileURLToPath(new URL('..', import.meta.url))
const addon = path.join(
  root,
  readdirSync(root).find((name) => name.endsWith('.node')),
)

const TIMED = `
  const start = process.hrtime.bigint()
  require(process.argv[1])
  console.log(Number(process.hrtime.bigint() - start) / 1e6)`
const OPENED = `
  const start = process.hrtime.bigint()
  process.dlopen({ exports: {} }, process.argv[1])
  console.log(Number(process.hrtime.bigint() - start) / 1e6)`

const milliseconds = (script, file) =>
  Number(execFileSync(process.execPath, ['-e', script, file], { encoding: 'utf8' }))

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2
}

const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-bench-'))
const times = { package: [], addon: [], empty: [], dlopen: [] }
let size
try {
  const empty = path.join(directory, 'empty.js')
  writeFileSync(empty, '')
  for (let i = 0; i < PROCESSES; i++) {
    times.package.push(milliseconds(TIMED, root))
    times.addon.push(milliseconds(TIMED, path.join(root, 'binding.js')))
    times.empty.push(milliseconds(TIMED, empty))
    times.dlopen.push(milliseconds(OPENED, addon))
  }
  const stripped = path.join(directory, 'stripped.node')
  copyFileSync(addon, stripped)
  execFileSync('strip', [stripped])
  size = statSync(stripped).size
} finally {
  rmSync(directory, { recursive: true })
}

const [whole, loaded, empty, dlopen] = [times.package, times.addon, times.empty, times.dlopen].map(median)
const verdict = (met) => (met ? 'met' : 'missed')
console.log(`Node ${process.version}, medians of ${PROCESSES} processes`)
const beside = (time) => `${(time - empty).toFixed(2)} ms more than an empty file (${empty.toFixed(2)} ms)`
console.log(
  `the addon, by its loader ${beside(loaded)}   goal < ${TIME_GOAL}: ${verdict(loaded - empty < TIME_GOAL)}`,
)
console.log(`dlopen of its binary     ${dlopen.toFixed(2)} ms`)
console.log(`the whole package        ${beside(whole)}`)
console.log(
  `stripped binary          ${(size / 1000).toFixed(0)} kB   goal < ${SIZE_GOAL / 1000}: ${verdict(size < SIZE_GOAL)}`,
)
