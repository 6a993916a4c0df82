import { alignThreads } from '../binding.js'
import { check } from './system-call-error.js'

// Node's own, and not what keepInStep puts in its place: to ask again is no change, and nobody else's business.
const { chdir, umask } = process

/** Node remembers what process.cwd() said; after the kernel has moved us to another directory, it has to ask again. */
export function refreshWorkingDirectory(): void {
  try {
    chdir('.')
  } catch {
    // A Worker has no process.chdir; and a directory that cannot be searched stays the working directory.
  }
}

/** Loaded when it is asked for: with everything that it brings it costs as much as this package. */
export function canKeepInStep(): boolean {
  const { isMainThread }: typeof import('node:worker_threads') = require('node:worker_threads')
  return isMainThread
}

let inStep = false

/** From now on every thread has a working directory and a umask of its own: a change of the main thread's is passed on. */
export function keepInStep(): void {
  if (inStep) return
  inStep = true
  const [currentMask, changeMask]: [() => number, (mask: string | number) => number] = [umask, umask]
  process.chdir = function passedOn(directory: string): void {
    chdir(directory)
    check(alignThreads(), () => ({ path: directory }), passedOn)
  }
  process.umask = function passedOn(mask?: string | number): number {
    if (mask === undefined) return currentMask()
    const before = changeMask(mask)
    check(alignThreads(), () => ({}), passedOn)
    return before
  }
}
