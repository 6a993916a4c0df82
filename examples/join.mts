// Joining another process's namespaces by pidfd: no race with its end, and several namespaces at once.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, readFileSync, readlinkSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { configureLoopback, pidfdOpen, sethostname, setns, unshare } from 'linux-clone'
import { sideBySide } from './side-by-side.mjs'

const namespaces = ['uts', 'net', 'ipc'] as const
const view = (): string[] => [
  readFileSync('/proc/sys/kernel/hostname', 'utf8').trim(),
  ...namespaces.map((type) => readlinkSync(`/proc/thread-self/ns/${type}`)),
]

if (process.argv[2] === 'target') {
  unshare(namespaces)
  sethostname('the-inside')
  configureLoopback()
  // Listening keeps it alive until the parent goes.
  process.on('message', () => {})
  process.send?.('ready')
} else {
  const target = fork(fileURLToPath(import.meta.url), ['target'])
  await once(target, 'message')
  if (target.pid === undefined) throw new Error('no process to join')

  const outside = view()
  const pidfd = pidfdOpen(target.pid)
  setns(pidfd, namespaces, { threads: 'all' })
  closeSync(pidfd)
  const inside = view()
  sideBySide(['host name', ...namespaces].map((what, row) => [what, outside[row] ?? '', inside[row] ?? '']))
  target.kill()
}
