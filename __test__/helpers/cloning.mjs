// For tests of clone(): inProcess, with more at hand in the process that clones.
import { inProcess } from './process.mjs'

/**
 * `ask(fn, options)` clones, and resolves to what `fn` returned in the child (`value`), its `code` and its `signal`;
 * `refused(options)` returns the error of a clone that fails, and `leaves`: what it has left behind, beside descriptors that
 * the first clone of a process opens for good. `stay` is for a child that is killed.
 */
const tools = ({ lib, fs, os, path }) => {
  const stay = () => new Promise(() => setInterval(() => {}, 2 ** 30))
  const scratch = () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'linux-clone-'))
    const fd = fs.openSync(path.join(directory, 'file'), 'w+')
    fs.rmSync(directory, { recursive: true })
    return fd
  }
  const ask = async (fn, options) => {
    const fd = scratch()
    const tell = (value) => void fs.writeSync(fd, JSON.stringify(value ?? null))
    const child = lib.clone(() => {
      const value = fn()
      return value instanceof Promise ? value.then(tell) : tell(value)
    }, options)
    const status = await child.wait()
    const text = fs.readFileSync(`/proc/self/fd/${fd}`, 'utf8')
    fs.closeSync(fd)
    return { pid: child.pid, ...status, value: text === '' ? undefined : JSON.parse(text) }
  }

  const SIZE = (5 << 20) + 4096
  const open = (fd) => {
    try {
      return `${fd} ${fs.readlinkSync(`/proc/self/fd/${fd}`)}`
    } catch {
      return `${fd}` // That of the directory itself.
    }
  }
  const look = () => {
    const maps = fs.readFileSync('/proc/self/maps', 'utf8').trimEnd().split('\n')
    const sizes = maps.map((line) => {
      const [start, end] = line.split(' ')[0].split('-')
      return Number.parseInt(end, 16) - Number.parseInt(start, 16)
    })
    return {
      stacks: sizes.filter((size) => size === SIZE || size === SIZE + 4096),
      shared: maps.filter((line) => line.includes('rw-s')),
      descriptors: fs.readdirSync('/proc/self/fd').map(open),
      children: fs
        .readdirSync('/proc/self/task')
        .map((tid) => fs.readFileSync(`/proc/self/task/${tid}/children`, 'utf8'))
        .join(''),
    }
  }
  const differences = (before, after) =>
    Object.keys(before).filter((what) => JSON.stringify(before[what]) !== JSON.stringify(after[what]))
  const refused = (options, fn = stay) => {
    // What is opened once is open.
    lib.clone(() => {}).waitSync()
    const before = look()
    try {
      lib.clone(fn, { stackSize: SIZE, ...options }).kill('SIGKILL')
    } catch (error) {
      const leaves = differences(before, look())
      const { name, message, stack, ...rest } = error
      return { name, message, ...rest, leaves, next: lib.clone(() => 42).waitSync().code }
    }
    return { message: 'it was not refused' }
  }

  const ids = (file) =>
    fs
      .readFileSync(file, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => line.trim().split(/\s+/).map(Number))
  const status = (pid, name) =>
    new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]
  /** Calls `look` while a child stays, and ends it. */
  const during = async (options, look) => {
    const child = lib.clone(stay, options)
    try {
      return await look(child)
    } finally {
      child.kill('SIGKILL')
      await child.wait()
    }
  }
  const becomeOrdinary = () => {
    if (process.getuid() !== 0) return
    process.setgroups([])
    process.setgid(54321)
    process.setuid(54321)
  }
  return { stay, ask, refused, ids, status, during, becomeOrdinary }
}

/** As {@link inProcess}, where `fn` gets the tools of this module too. */
export const cloning = (fn, ...rest) =>
  inProcess(
    { toString: () => `(context, ...args) => (${fn})({ ...context, ...(${tools})(context) }, ...args)` },
    ...rest,
  )
