import binding = require('../binding.js')

import type { Caller } from './argument-errors.js'
import { check } from './system-call-error.js'

/** Waits for a descriptor to become readable, as a pidfd is when its process has ended. */
export interface Watcher {
  onReadable(): void
  /** In a clone the descriptor is the parent's, and is closed. */
  disown(): void
}

/** A clone looks up a global through pages of V8's that it would not use otherwise. */
const Watchers = Map<number, Watcher>

/** Those that wait, by the numbers that the kernel tells of them by. */
export class Watches {
  #watchers = new Watchers()
  #epoll: binding.Epoll | undefined
  #last = 0
  #holding = 0

  /** The number of one whose descriptor is yet to be made. */
  add(watcher: Watcher): number {
    this.#last = (this.#last + 1) >>> 0
    this.#watchers.set(this.#last, watcher)
    return this.#last
  }

  remove(number: number): void {
    this.#watchers.delete(number)
  }

  epoll(caller: Caller): binding.Epoll {
    if (this.#epoll !== undefined) return this.#epoll
    const epoll = new binding.Epoll((number) => this.#watchers.get(number)?.onReadable())
    check(epoll.open(), () => ({ step: () => 'clone' }), caller)
    this.#epoll = epoll
    return epoll
  }

  /** One that cannot be waited for is closed. */
  watch(fd: number, number: number, caller: Caller): void {
    try {
      check(this.epoll(caller).add(fd, number), () => ({}), caller)
    } catch (error) {
      this.remove(number)
      binding.closeDescriptor(fd)
      throw error
    }
  }

  /** One that has been waited for; where the table of descriptors is the parent's, so is the descriptor. */
  close(fd: number): void {
    this.#epoll?.close(fd)
  }

  /** One more, or one less, by whom the event loop is held. */
  hold(holds: boolean): void {
    this.#holding += holds ? 1 : -1
    if (this.#holding === (holds ? 1 : 0)) this.#epoll?.hold(holds)
  }

  /** In a clone: all that wait do so for the parent; its `own` has no descriptor here. */
  disown(own: Watcher): void {
    this.leaveEpoll()
    const watchers = this.#watchers
    this.#watchers = new Watchers()
    if (watchers.size === 1) return
    for (const watcher of watchers.values()) if (watcher !== own) watcher.disown()
  }

  /** What it has on the stack, or shares with the parent, must not be freed. */
  leaveEpoll(): void {
    if (this.#epoll !== undefined) left.push(this.#epoll)
    this.#epoll = undefined
    this.#holding = 0
  }
}

const left: binding.Epoll[] = []

export const watches = new Watches()
