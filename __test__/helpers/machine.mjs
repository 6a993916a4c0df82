// What tests ask of the machine: programs that run beside them, a compiler, a directory, the kernel's version.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { isRoot } from './process.mjs'

/** The words that take from a command every capability that it would have, whoever we are. */
export const unprivileged = isRoot ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] : []

/** Words for `start`: a program that says that it runs, and sleeps longer than a test takes on an emulated processor. */
export const sleeper = ['sh', '-c', 'echo $$; exec sleep 3000']

/** Whether C programs can be compiled, with the kernel's headers. */
export function hasCompiler() {
  const source = '#include <linux/sched.h>\n#include <sys/mount.h>\nint main(void) { return 0; }\n'
  return spawnSync('cc', ['-x', 'c', '-fsyntax-only', '-'], { input: source }).status === 0
}

/** Words for strace(1) on a command and all that it starts, that only does to it what `words` say. */
export const strace = (...words) => ['strace', '-f', '-o', '/dev/null', '-e', 'signal=none', ...words]

export const hasStrace = () => {
  const [command, ...words] = strace('-e', 'trace=none', 'true')
  return spawnSync(command, words).status === 0
}

/** Whether the kernel is at least this one, as `'6.9'`. */
export function kernelSince(version) {
  const [major, minor] = version.split('.').map(Number)
  const [ours, ourMinor] = release().split('.').map(Number)
  return ours > major || (ours === major && ourMinor >= minor)
}

/** A directory that is gone after the test. */
export function temporaryDirectory(t) {
  const directory = realpathSync(mkdtempSync(path.join(tmpdir(), 'linux-clone-')))
  t.teardown(() => rmSync(directory, { recursive: true }))
  return directory
}

/** Compiles a C program, and returns its path; `words` are for the compiler. */
export function compile(t, source, ...words) {
  const directory = temporaryDirectory(t)
  const [text, program] = [path.join(directory, 'program.c'), path.join(directory, 'program')]
  writeFileSync(text, source)
  const { status, stderr } = spawnSync('cc', [...words, '-o', program, text], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`cc ended with ${status}\n${stderr}`)
  return program
}

/** An addon's or a preloaded library's code. */
export function compileLibrary(t, source) {
  const directory = temporaryDirectory(t)
  const [text, file] = [path.join(directory, 'library.c'), path.join(directory, 'library.so')]
  writeFileSync(text, source)
  const { status, stderr } = spawnSync('cc', [
    '-shared',
    '-fPIC',
    '-pthread',
    '-Wl,-z,nodelete',
    '-o',
    file,
    text,
  ])
  if (status !== 0) throw new Error(`cc ended with ${status}\n${stderr}`)
  return file
}

/** Starts a program that goes on after its first line. The test ends it, and waits for whatever else holds its output. */
export async function start(t, ...words) {
  const child = spawn(words[0], words.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    child.stdout.resume()
    await closed
  })
  for await (const line of createInterface(child.stdout)) return { child, pid: child.pid, line }
  throw new Error(`${words.join(' ')} ended too soon`)
}

/** The children of a process. */
export function childrenOf(pid) {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => statusOf(name).PPid === String(pid))
    .map(Number)
}

/** The fields of /proc/PID/status; none where the process is gone. */
export function statusOf(pid) {
  try {
    return fieldsOf(`/proc/${pid}/status`)
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ESRCH') return {}
    throw error
  }
}

/** What /proc says of a descriptor. */
export function descriptor(fd, pid = 'self') {
  const { flags, ...fields } = fieldsOf(`/proc/${pid}/fdinfo/${fd}`)
  return { ...fields, flags: Number.parseInt(flags, 8) }
}

function fieldsOf(file) {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  return Object.fromEntries(lines.map((line) => /^(.*?):\s*(.*)$/.exec(line).slice(1)))
}

/** Bytes. */
export const pageSize =
  1024 * Number(/^KernelPageSize: +(\d+) kB/m.exec(readFileSync('/proc/self/smaps', 'utf8'))[1])
