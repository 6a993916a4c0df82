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

const timed = (load) => `
  const start = process.hrtime.bigint()
  ${load}(process.argv[1])
  console.log(Number(process.hrtime.bigint() - start) / 1e6)`

const LOADS = {
  require: ['-e', timed('require')],
  import: ['--input-type=module', '-e', timed('await import')],
}

const milliseconds = (words, file) =>
  Number(execFileSync(process.execPath, [...words, file], { encoding: 'utf8' }))

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
  const whole = path.join(root, 'index.js')
  const required = { emptyFile, emptyAddon, addon, loader: path.join(root, 'binding.js'), whole }
  const files = { require: required, import: { emptyFile, whole } }
  const each = Object.entries(files).flatMap(([load, named]) =>
    Object.entries(named).map(([name, file]) => ({ load, name, file, measured: [] })),
  )
  for (let i = 0; i < PROCESSES; i++)
    for (const { load, file, measured } of each) measured.push(milliseconds(LOADS[load], file))
  times = { require: {}, import: {} }
  for (const { load, name, measured } of each) times[load][name] = median(measured)
  const stripped = path.join(directory, 'stripped.node')
  copyFileSync(addon, stripped)
  execFileSync('strip', [stripped])
  size = statSync(stripped).size
} finally {
  rmSync(directory, { recursive: true })
}

const NAMES = {
  emptyFile: 'an empty file',
  emptyAddon: 'an empty addon',
  addon: 'the addon',
  loader: 'the addon, by its loader',
  whole: 'the whole package',
}
for (const [load, { emptyFile, ...ours }] of Object.entries(times)) {
  console.log(`Node ${process.version}, medians of ${load} in ${PROCESSES} processes`)
  console.log(`${NAMES.emptyFile.padEnd(25)} ${emptyFile.toFixed(2)} ms`)
  for (const [name, time] of Object.entries(ours)) {
    const more = time - emptyFile
    const verdict = more < TIME_GOAL ? 'met' : 'missed'
    const goal = name === 'whole' ? `   goal < ${TIME_GOAL}: ${verdict}` : ''
    console.log(`${NAMES[name].padEnd(25)} ${time.toFixed(2)} ms   ${more.toFixed(2)} more${goal}`)
  }
}
console.log(`stripped binary           ${(size / 1000).toFixed(0)} kB, as this machine's Rust makes it`)
