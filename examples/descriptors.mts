// kcmp tells which descriptors two processes share: the same open file, not merely the same path.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readdirSync, readlinkSync } from 'node:fs'
import { KCMP_FILE, KCMP_VM, kcmp } from 'linux-clone'

const given = openSync('/etc/passwd', 'r')
const kept = openSync('/etc/passwd', 'r')
const child = spawn('sh', ['-c', 'echo ready; read forever'], { stdio: ['pipe', 'pipe', 'inherit', given] })
const { pid, stdout } = child
if (pid === undefined || stdout === null) throw new Error('sh(1) cannot be started')
await once(stdout, 'data')

const descriptors = (of: number): number[] => readdirSync(`/proc/${of}/fd`).map(Number)
const reference = (of: number, fd: number): string => readlinkSync(`/proc/${of}/fd/${fd}`)

for (const theirs of descriptors(pid)) {
  const ours = [2, given, kept].filter((fd) => kcmp(process.pid, pid, KCMP_FILE, fd, theirs) === 0)
  const shared = ours.length > 0 ? `is our ${ours.join(' and ')}` : 'is its own'
  console.log(`  the child's ${theirs} (${reference(pid, theirs)}) ${shared}`)
}
console.log(
  `  our ${kept} is the same file as our ${given}, opened twice: kcmp says ${kcmp(process.pid, process.pid, KCMP_FILE, given, kept)}`,
)
console.log(`  memory: kcmp says ${kcmp(process.pid, pid, KCMP_VM)}, which is not 0: it is not shared`)
child.kill()
