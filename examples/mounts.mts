// A mount namespace with a confusing bind mount that nobody else sees.
import { spawn } from 'node:child_process'
import { mkdtempSync, promises, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { MS_BIND, MS_PRIVATE, MS_REC, mount, unshare } from 'linux-clone'
import { sideBySide } from './side-by-side.mjs'

const file = '/etc/passwd'
const firstLine = (text: string): string => text.split('\n')[0] ?? ''

// It was there before, and stays outside.
const witness = spawn('sh', ['-c', `read go; head -n 1 ${file}; grep -c ' ${file} ' /proc/self/mountinfo`], {
  stdio: ['pipe', 'pipe', 'inherit'],
})

const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-'))
const confusion = path.join(directory, 'confusion')
writeFileSync(confusion, 'nobody here but us\n')

// Every thread: fs.promises works on the thread pool.
unshare('mnt', { threads: 'all' })
// Or the new mounts would be seen outside where / is shared.
mount(null, '/', null, MS_REC | MS_PRIVATE)
mount(confusion, file, null, MS_BIND)

const synchronous = firstLine(readFileSync(file, 'utf8'))
const asynchronous = firstLine(await promises.readFile(file, 'utf8'))
const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
  .split('\n')
  .filter((line) => line.includes(` ${file} `)).length

witness.stdin.end('\n')
const [seenLine = '', seenMounts = ''] = (await text(witness.stdout)).split('\n')
rmSync(directory, { recursive: true })

sideBySide([
  [`${file}, read by readFileSync`, seenLine, synchronous],
  [`${file}, read by fs.promises`, seenLine, asynchronous],
  ['mounts on it', seenMounts, String(mounts)],
])
