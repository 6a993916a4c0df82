// A network namespace with its loopback up, and a veth pair to the namespace that it was made from. A socket stays in the
// namespace in which it was made, so that one process can have a server in the one and a client in the other.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync } from 'node:fs'
import { createServer, get } from 'node:http'
import { configureLoopback, setns, unshare } from 'linux-clone'
import { sideBySide } from './side-by-side.mjs'

const ip = (...words: string[]): string => execFileSync('ip', words, { encoding: 'utf8' })
const interfaces = (): string =>
  [...readFileSync('/proc/thread-self/net/dev', 'utf8').matchAll(/^ *([\w-]+):/gm)]
    .map(([, name]) => name)
    .join(' ')

// The namespace outside is a new one as well, so that the machine's own network stays as it is.
unshare('net')
const outside = openSync('/proc/thread-self/ns/net', 'r')
const before = interfaces()

unshare('net')
const inside = openSync('/proc/thread-self/ns/net', 'r')
configureLoopback()
const alone = interfaces()

// What is given by /proc/PID/fd is seen by the program that is started, in the namespace in which we are.
ip('link', 'add', 'veth-in', 'type', 'veth', 'peer', 'name', 'veth-out')
ip('link', 'set', 'veth-out', 'netns', `/proc/${process.pid}/fd/${outside}`)
ip('address', 'add', '192.0.2.2/24', 'dev', 'veth-in')
ip('link', 'set', 'veth-in', 'up')
const server = createServer((_, response) => response.end('served by the inside'))
server.listen(80, '192.0.2.2')
await once(server, 'listening')
const connected = interfaces()

setns(outside, 'net')
ip('address', 'add', '192.0.2.1/24', 'dev', 'veth-out')
ip('link', 'set', 'veth-out', 'up')
const request = get('http://192.0.2.2')
const [response] = await once(request, 'response')
const [body] = await once(response, 'data')
server.close()

sideBySide([
  ['namespace', readNamespace(outside), readNamespace(inside)],
  ['interfaces at first', before, alone],
  ['with the veth pair', interfaces(), connected],
  ['http://192.0.2.2', String(body), '(listens)'],
])

function readNamespace(fd: number): string {
  return execFileSync('readlink', [`/proc/${process.pid}/fd/${fd}`], { encoding: 'utf8' }).trim()
}
