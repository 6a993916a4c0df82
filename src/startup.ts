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
  const options = variable('NODE_OPTIONS').replaceAll('"', '').split(' ')
  const given = [...options, ...process.execArgv].filter((option) =>
    /^--(no[-_]?)?abort[-_]on[-_]uncaught[-_]exception$/.test(option),
  )
  // The last one holds.
  return given.at(-1)?.startsWith('--abort') === true
}

/** Until libuv 1.49 the kernel polls a ring by itself, whose memory a copy has in common with its parent. */
export function sharesRings(): boolean {
  const [, minor] = process.versions.uv.split('.')
  return Number(minor) < 49 && Number.parseInt(variable('UV_USE_IO_URING'), 10) > 0
}
