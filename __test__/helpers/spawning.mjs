// What tests of spawn ask of it: programs in namespaces, whoever we are.
import { once } from 'node:events'
import { chmodSync, existsSync, lstatSync, mkdirSync, readlinkSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import lib from '../../index.js'
import { temporaryDirectory } from './machine.mjs'
import { isRoot } from './process.mjs'

/** Options with these new namespaces, and for an ordinary user with a user namespace that owns them. */
export const within = (unshare, options = {}) =>
  isRoot
    ? { unshare, ...options }
    : { unshare: ['user', ...unshare], uidMappings: 'root', gidMappings: 'root', ...options }

/** A program that has ended, with what it wrote; it rejects where it cannot be started. */
export async function ended(child) {
  const [stdout, stderr] = [child.stdout, child.stderr].map(collected)
  const [code, signal] = await once(child, 'close')
  return { code, signal, stdout: await stdout, stderr: await stderr }
}

async function collected(stream) {
  if (!stream) return ''
  let text = ''
  for await (const chunk of stream.setEncoding('utf8')) text += chunk
  return text
}

/** What a shell writes, which is to end well. */
export async function shell(t, script, options) {
  const { code, signal, stdout, stderr } = await ended(lib.spawn('sh', ['-c', script], options))
  t.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' }, stdout)
  return stdout.trimEnd()
}

/** The error of a start that is to fail: the 'error' event's, and nothing is left of it. */
export async function refused(t, options, command = 'true') {
  const child = lib.spawn(command, [], options)
  const [error] = await once(child, 'error')
  t.is(child.pid, undefined)
  return error
}

/** The namespaces that a script in a shell is in, by type. */
export async function namespaces(t, options) {
  const text = await shell(t, `for i in ${types.join(' ')}; do readlink /proc/self/ns/$i; done`, options)
  return Object.fromEntries(text.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line]))
}

export const types = ['mnt', 'uts', 'ipc', 'net', 'pid', 'user', 'cgroup', 'time']

/** Our own. */
export const ownNamespaces = () =>
  Object.fromEntries(types.map((type) => [type, readlinkSync(`/proc/self/ns/${type}`)]))

/** A directory to be a root, and the mounts that bring the host's programs into it. */
export function rootDirectory(t) {
  const root = temporaryDirectory(t)
  chmodSync(root, 0o755)
  const mounts = []
  for (const name of ['usr', 'bin', 'lib', 'lib64']) {
    const own = `/${name}`
    if (!existsSync(own)) continue
    if (lstatSync(own).isSymbolicLink()) symlinkSync(readlinkSync(own), path.join(root, name))
    else mounts.push({ type: 'bind', source: own, target: own, options: ['rbind', 'ro'] })
  }
  mkdirSync(path.join(root, 'proc'))
  return { root, mounts }
}
