// Runs the examples, as root and as an ordinary user in a user namespace, and says what this machine forbids, and why.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { probe } from 'linux-clone'

const examples = [
  ['clone.js', 'A function that goes on in a copy of the process'],
  ['network.mjs', 'A network namespace with loopback, and a veth pair to the one outside'],
  ['mounts.mjs', 'A mount namespace with a bind mount that nobody else sees'],
  ['descriptors.mjs', 'Which descriptors two processes share'],
  ['join.mjs', "Another process's namespaces, joined by pidfd"],
] as const

interface Identity {
  name: string
  wrap: readonly string[]
  uid?: number
}

const inUserNamespace = ['unshare', '--user', '--map-root-user', '--']
const isRoot = process.getuid?.() === 0
const identities: Identity[] = isRoot
  ? [
      { name: 'root', wrap: [] },
      { name: 'an ordinary user (uid 65534) in a user namespace', wrap: inUserNamespace, uid: 65534 },
    ]
  : [{ name: `an ordinary user (uid ${process.getuid?.()}) in a user namespace`, wrap: inUserNamespace }]

/** What an example may run into on a machine that forbids it; anything else is a fault. */
const FORBIDDEN = /^Error: (EPERM|EACCES|ENOSPC|ENOSYS|EINVAL|EUSERS): .*$|spawnSync ip (ENOENT|EACCES)/m

let faults = 0
for (const { name, wrap, uid } of identities) {
  console.log(`\n━━ As ${name}`)
  for (const [file, title] of examples) {
    console.log(`\n${title}`)
    const program = fileURLToPath(new URL(file, import.meta.url))
    const [command = '', ...words] = [...wrap, process.execPath, program]
    const identity = uid === undefined ? {} : { uid, gid: uid }
    const { status, stdout, stderr, error } = spawnSync(command, words, {
      encoding: 'utf8',
      cwd: '/',
      ...identity,
    })
    process.stdout.write(stdout ?? '')
    if (error) console.log(`  Not here: ${error.message}`)
    else if (status !== 0) explain(stderr)
  }
}

console.log('\n━━ What this process can do (probe)\n')
for (const [feature, answer] of Object.entries(probe())) {
  console.log(answer.ok ? `  ${feature}: yes` : `  ${feature}: no. ${answer.reason}. ${answer.hint ?? ''}`)
}
process.exitCode = faults > 0 ? 1 : 0

function explain(stderr: string): void {
  const forbidden = FORBIDDEN.exec(stderr)?.[0]
  if (forbidden === undefined) {
    faults += 1
    console.log(stderr)
    return
  }
  const hint = /hint: [`'"](.*)[`'"],?$/m.exec(stderr)?.[1]
  const missing = forbidden.includes('spawnSync ip')
    ? 'ip(8), which makes the veth pair, is not installed (package iproute2)'
    : forbidden
  console.log(`  Not here: ${missing}${hint ? `\n  ${hint}` : ''}`)
}
