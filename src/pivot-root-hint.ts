// Which of pivot_root(2)'s reasons for EINVAL it is: found out afterwards from /proc, since the kernel does not say.
import { closeSync, constants, openSync, readFileSync, realpathSync } from 'node:fs'
import type { Failure } from '../binding.js'

/** One line of /proc/PID/mountinfo. */
interface Mount {
  id: number
  parent: number
  mountPoint: string
  isShared: boolean
}

const PROPAGATION = "mount(null, '/', null, MS_REC | MS_PRIVATE) first"

function mounts(): Map<number, Mount> {
  const lines = readFileSync('/proc/thread-self/mountinfo', 'utf8').trimEnd().split('\n')
  return new Map(
    lines.map((line) => {
      const [before = ''] = line.split(' - ')
      const [id, parent, , , mountPoint = '', , ...optional] = before.split(' ')
      const mount = {
        id: Number(id),
        parent: Number(parent),
        mountPoint: mountPoint.replaceAll(/\\([0-7]{3})/g, (_, octal) =>
          String.fromCharCode(Number.parseInt(octal, 8)),
        ),
        isShared: optional.some((field) => field.startsWith('shared:')),
      }
      return [mount.id, mount]
    }),
  )
}

/** The id of the mount that a directory is on. */
function mountIdOf(path: string): number {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    return Number(/^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/thread-self/fdinfo/${fd}`, 'utf8'))?.[1])
  } finally {
    closeSync(fd)
  }
}

function isBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`)
}

function einval(newRoot: string, putOld: string): string {
  const all = mounts()
  const root = all.get(mountIdOf('/'))
  if (root?.mountPoint !== '/') {
    return 'The current root directory is no mount point, because of an earlier chroot: bind it onto itself and enter it before'
  }
  if (root.parent === root.id) {
    return 'The current root is the initial ramfs, which cannot be moved: mount the new root over it, as switch_root(8) does'
  }
  const [newPath, oldPath] = [realpathSync(newRoot), realpathSync(putOld)]
  const newMount = all.get(mountIdOf(newPath))
  if (newMount?.mountPoint !== newPath) {
    return `${newRoot} is no mount point: bind it onto itself, mount(newRoot, newRoot, null, MS_BIND)`
  }
  if (!isBelow(oldPath, newPath)) return `${putOld} is not at or below ${newRoot}`
  const oldMount = all.get(mountIdOf(oldPath))
  if (oldMount !== newMount && oldMount?.isShared)
    return `${putOld} is a mount point whose propagation is shared: ${PROPAGATION}`
  // The kernel looks at the mount that the old root is put on, which is mostly the new root's own.
  if (oldMount?.isShared || all.get(newMount.parent)?.isShared) {
    return `The propagation of ${newRoot}, or of the mount that it is on, is shared: ${PROPAGATION}`
  }
  return `The propagation of the mount below the current root is shared, or ${newRoot} came locked from a more privileged mount namespace`
}

export function pivotRootHint(newRoot: string, putOld: string): (failure: Failure) => string | undefined {
  return ({ code }) => {
    switch (code) {
      case 'EINVAL':
        try {
          return einval(newRoot, putOld)
        } catch {
          return 'Why, cannot be told without /proc: see pivot_root(2)'
        }
      case 'EBUSY':
        return 'newRoot or putOld is on the mount of the current root: bind the new root onto itself, mount(newRoot, newRoot, null, MS_BIND)'
      case 'EPERM':
        return 'This needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace: unshare mnt first'
      default:
        return undefined
    }
  }
}
