// What loading the package costs a fresh Node: beside an empty file and an addon that does nothing, by turns.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const PROCESSES = 20
const TIME_GOAL = 5

const root = fileURLToPath(new URL('..', import.meta.url))
const addon = path.join(
  root,
  readdirSync(root).find((name) => name.endsWith('.node')),
)

/** All that Node-API asks of an addon. */
const EMPTY_ADDON = 'void *napi_register_module_v1(void *env, void *exports) { return exports; }\n'

const REQUIRED = `
  const start = process.hrtime.bigint()
  require(process.argv[1])
  console.log(Number(process.hrtime.bigint() - start) / 1e6)`

const milliseconds = (file) =>
  Number(execFileSync(process.execPath, ['-e', REQUIRED, file], { encoding: 'utf8' }))

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2
}

const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-bench-'))
let times
let size
try {
  const emptyFile = path.join(directory, 'empty.js')
  writeFileSync(emptyFile, '')
  const emptyAddon = path.join(directory, 'empty.node')
  execFileSync('cc', ['-x', 'c', '-shared', '-fPIC', '-s', '-o', emptyAddon, '-'], { input: EMPTY_ADDON })
  const files = { emptyFile, emptyAddon, addon, loader: path.join(root, 'binding.js'), whole: root }
  times = Object.fromEntries(Object.keys(files).map((name) => [name, []]))
  for (let i = 0; i < PROCESSES; i++)
    for (const [name, file] of Object.entries(files)) times[name].push(milliseconds(file))
  const stripped = path.join(directory, 'stripped.node')
  copyFileSync(addon, stripped)
  execFileSync('strip', [stripped])
  size = statSync(stripped).size
} finally {
  rmSync(directory, { recursive: true })
}

const { emptyFile, emptyAddon, ...ours } = Object.fromEntries(
  Object.entries(times).map(([name, measured]) => [name, median(measured)]),
)
const NAMES = { addon: 'the addon', loader: 'the addon, by its loader', whole: 'the whole package' }
console.log(`Node ${process.version}, medians of require() in ${PROCESSES} processes`)
console.log(`an empty file             ${emptyFile.toFixed(2)} ms`)
console.log(`an empty addon            ${emptyAddon.toFixed(2)} ms`)
for (const [name, time] of Object.entries(ours)) {
  const ratio = (time / emptyAddon).toFixed(1)
  console.log(`${NAMES[name].padEnd(25)} ${time.toFixed(2)} ms   ${ratio} times an empty addon`)
}
const more = ours.loader - emptyFile
console.log(
  `the loader's, over an empty file: ${more.toFixed(2)} ms   goal < ${TIME_GOAL}: ${more < TIME_GOAL ? 'met' : 'missed'}`,
)
console.log(`stripped binary           ${(size / 1000).toFixed(0)} kB, as this machine's Rust makes it`)
