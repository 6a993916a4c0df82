// What /proc tells of another process, thread by thread.
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'

const types = [
  'cgroup',
  'ipc',
  'mnt',
  'net',
  'pid',
  'pid_for_children',
  'time',
  'time_for_children',
  'user',
  'uts',
]

/** A link under /proc/PID/ns, or null where it leads nowhere (a pid namespace for children without a pid 1). */
function link(path) {
  try {
    return readlinkSync(path)
  } catch (error) {
    if (error.code === 'ENOENT') return null
    throw error
  }
}

export function namespacesOf(directory) {
  return Object.fromEntries(types.map((type) => [type, link(`${directory}/ns/${type}`)]))
}

export function field(text, name) {
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1]
}

/** A path, or null where it is too long to be told. */
function pathOf(place) {
  try {
    return readlinkSync(place)
  } catch (error) {
    if (error.code === 'ENAMETOOLONG') return null
    throw error
  }
}

/** Where a link of /proc leads, whatever its name is now. */
function place(path) {
  const { dev, ino } = statSync(path)
  return `${dev}:${ino}`
}

/** The threads of a process: namespaces, umask, and where root and working directory are. */
export function threadsOf(pid) {
  return readdirSync(`/proc/${pid}/task`).map((tid) => {
    const directory = `/proc/${pid}/task/${tid}`
    const status = readFileSync(`${directory}/status`, 'utf8')
    const blocked = BigInt(`0x${field(status, 'SigBlk')}`)
    return {
      tid: Number(tid),
      isMain: Number(tid) === pid,
      // It blocks everything but KILL, STOP and the libc's own, 32 to 34; Node's others block SIGPROF or nothing.
      isInspector: (blocked | (0b111n << 31n)) === 0xfffffffffffbfeffn,
      ns: namespacesOf(directory),
      umask: field(status, 'Umask'),
      cwd: pathOf(`${directory}/cwd`),
      cwdPlace: place(`${directory}/cwd`),
      rootPlace: place(`${directory}/root`),
    }
  })
}

/**
 * What {@link inProcess}'s `outside` can be: the threads of whoever asks. One that has been parked blocks every signal until it
 * is scheduled again, which may be after the call that has parked it: it would be taken for Node's inspector.
 */
export async function threadsOfCaller(_, child) {
  for (;;) {
    const threads = threadsOf(child.pid)
    if (threads.filter(({ isInspector }) => isInspector).length <= 1) return threads
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** All threads that run user code: without Node's SignalInspector. */
export const movable = (threads) => threads.filter(({ isInspector }) => !isInspector)

/** The different values of a property, or of a type of namespace. */
export const distinct = (threads, of) => [...new Set(threads.map(of))]

/** What changed between two looks at a process: `main uts`, `other uts` …, each once. */
export function changes(before, after) {
  const found = new Set()
  for (const thread of after) {
    const earlier = before.find(({ tid }) => tid === thread.tid)
    if (!earlier) continue
    for (const type of types) {
      if (earlier.ns[type] !== thread.ns[type]) found.add(`${thread.isMain ? 'main' : 'other'} ${type}`)
    }
  }
  return [...found].sort()
}
