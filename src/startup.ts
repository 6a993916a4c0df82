// How this Node was started, as far as that keeps it from being copied.
import { readFileSync } from 'node:fs'

/** What the process began with: process.env may have changed since, as Node and libuv have not. */
function variable(name: string): string {
  let text: string
  try {
    text = readFileSync('/proc/self/environ', 'utf8')
  } catch {
    return process.env[name] ?? ''
  }
  const found = text.split('\0').find((entry) => entry.startsWith(`${name}=`))
  return found?.slice(name.length + 1) ?? ''
}

/** V8 would take the end of execution, in which a copy begins, for an error that nobody catches. */
export function abortsOnUncaughtException(): boolean {
  return isOn('abort-on-uncaught-exception')
}

/** Node has no thread then that waits for SIGUSR1. */
export function ignoresSigusr1(): boolean {
  return isOn('disable-sigusr1')
}

/** Whether NODE_OPTIONS or the command line say so, of which the last holds. */
function isOn(option: string): boolean {
  const form = new RegExp(`^--(no[-_]?)?${option.replaceAll('-', '[-_]')}$`)
  const given = [...variable('NODE_OPTIONS').replaceAll('"', '').split(' '), ...process.execArgv]
  const last = given.filter((word) => form.test(word)).at(-1)
  return last !== undefined && form.exec(last)?.[1] === undefined
}

/** Until libuv 1.49 the kernel polls a ring by itself, whose memory a copy has in common with its parent. */
export function sharesRings(): boolean {
  const [, minor] = process.versions.uv.split('.')
  return Number(minor) < 49 && Number.parseInt(variable('UV_USE_IO_URING'), 10) > 0
}
