import binding = require('../binding.js')

import { invalidArgType, invalidArgValue } from './argument-errors.js'
import { flagOptions, ownOption } from './mount-options.js'
import { rest } from './on-demand.js'
import { check } from './system-call-error.js'
import { isRecord, text, textOrNull, uint32 } from './validate.js'

/**
 * A file system's options. `true` gives the option alone and `false` leaves it out; a number is written in decimal, and for
 * the options that the kernel reads in octal (`mode`, `umask` …) in octal. Options that mount(8) knows for every file
 * system (`ro`, `nosuid`, `bind` …) are turned into flags and take `true` or `false` only.
 */
export type MountData = Record<string, string | number | boolean>

const dataLength = binding.mountDataLength()

/**
 * Mounts `source` on `target`, or changes the mount that is there, as `flags` (`MS_*`) say.
 *
 * mount(2). The data is passed to the file system: `'size=64m,mode=1777'` or `{ size: '64m', mode: 0o1777, nosuid: true }`.
 *
 * @throws {SystemCallError} `EPERM` without CAP_SYS_ADMIN over the mount namespace, or where a user namespace may not
 * mount this; `EINVAL`: an option that the file system does not know, among others; `ENODEV`: the kernel lacks the file
 * system; `ENOENT`, `ENOTDIR`, `EBUSY`, `ENOTBLK`, `ENAMETOOLONG`.
 * @throws {TypeError} `ERR_INVALID_ARG_VALUE`: data that the kernel would cut off, or an option that would hold others.
 */
export function mount(
  source: string | null,
  target: string,
  fstype: string | null,
  flags: number = 0,
  data: string | MountData | null = null,
): void {
  const from = textOrNull(source, 'source', mount)
  const on = text(target, 'target', mount)
  const type = textOrNull(fstype, 'fstype', mount)
  const given = uint32(flags, 'flags', mount)
  if (typeof data === 'object' && data !== null && !isRecord(data)) {
    throw invalidArgType('data', 'of type string or a plain object', data, mount)
  }
  const { bits, own } = isRecord(data)
    ? fromOptions(given, data)
    : { bits: given, own: textOrNull(data, 'data', mount) }
  if (own !== null && Buffer.byteLength(own) >= dataLength) {
    throw invalidArgValue(
      'data',
      `must be shorter than ${dataLength} bytes, which is what the kernel reads`,
      own,
      mount,
    )
  }
  check(
    binding.mount(from, on, type, bits, own),
    () =>
      from !== null
        ? { path: from, dest: on, hint: rest().hints.mount }
        : { path: on, hint: rest().hints.mount },
    mount,
  )
}

function fromOptions(flags: number, data: Record<string, unknown>): { bits: number; own: string | null } {
  let bits = flags
  const own: string[] = []
  for (const [option, value] of Object.entries(data)) {
    const flag = flagOptions.get(option)
    if (flag) {
      if (typeof value !== 'boolean') throw invalidArgType(`data.${option}`, 'of type boolean', value, mount)
      if (value) bits = ((bits | flag.set) & ~flag.clear) >>> 0
    } else {
      const written = ownOption(option, value, 'data', mount)
      if (written !== null) own.push(written)
    }
  }
  return { bits, own: own.length > 0 ? own.join(',') : null }
}

/**
 * Unmounts what is on top of `target`.
 *
 * umount2(2). `flags`: `MNT_FORCE`, `MNT_DETACH`, `MNT_EXPIRE`, `UMOUNT_NOFOLLOW`.
 *
 * @throws {SystemCallError} `EBUSY`; `EAGAIN`: marked as expired, by `MNT_EXPIRE`; `EINVAL`: no mount point, or one that came
 * locked from a more privileged mount namespace; `ENOENT`; `ENAMETOOLONG`; `EPERM` without CAP_SYS_ADMIN.
 */
export function umount(target: string, flags: number = 0): void {
  const path = text(target, 'target', umount)
  check(
    binding.umount(path, uint32(flags, 'flags', umount)),
    () => ({ path, hint: rest().hints.umount }),
    umount,
  )
}
