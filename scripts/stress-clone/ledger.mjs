// What the parent has started and has to see end: each event has a number, and is reported once, by the parent.
import { readlinkSync, writeSync } from 'node:fs'

const CHANNEL = 3

/** A line for whoever watches this process. It may be written by any copy of it, too. */
export function report(...words) {
  writeSync(CHANNEL, `${words.join(' ')}\n`)
}

/** The pid as the kernel tells it, whatever a copy believes. */
export const ownPid = () => readlinkSync('/proc/self')

let issued = 0
const cancelled = []

/** Something that is to happen once, here: what is returned is to be called then. */
export function expect(kind) {
  const number = issued++
  const fire = () => report('fired', kind, number, ownPid())
  fire.number = number
  fire.cancel = () => cancelled.push(number)
  return fire
}

export function reportTotals() {
  report('totals', issued, ...cancelled)
}
