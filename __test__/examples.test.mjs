import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { temporaryDirectory } from './helpers/machine.mjs'
import { available, privileged, run } from './helpers/process.mjs'

const file = (name) => fileURLToPath(new URL(`../.build/examples/${name}`, import.meta.url))
const example = (name, words = privileged) => run(...words, process.execPath, file(name))
const hasIp = (await run('sh', '-c', 'command -v ip || true')) !== ''

test('network: the client outside reaches the server inside through the veth pair', async (t) => {
  if (!available(t, hasIp, 'ip(8)')) return
  const before = readFileSync('/proc/net/dev', 'utf8').match(/^ *\w+/gm)
  const output = await example('network.mjs')
  t.regex(output, /interfaces at first +lo +lo\n/)
  t.regex(output, /with the veth pair +lo veth-out +lo veth-in\n/)
  t.regex(output, /served by the inside/)
  t.deepEqual(readFileSync('/proc/net/dev', 'utf8').match(/^ *\w+/gm), before)
})

test('mounts: the bind mount is there for every thread, and for nobody outside', async (t) => {
  const first = readFileSync('/etc/passwd', 'utf8').split('\n')[0]
  const output = await example('mounts.mjs')
  t.true(output.includes(`readFileSync  ${first}  nobody here but us\n`), output)
  t.true(output.includes(`fs.promises   ${first}  nobody here but us\n`), output)
  t.regex(output, /mounts on it +0 +1\n/)
})

test('descriptors: kcmp tells the shared ones from those that only look the same', async (t) => {
  const output = await example('descriptors.mjs')
  t.regex(output, /the child's 3 \(\/etc\/passwd\) is our \d+\n/)
  t.regex(output, /the child's 2 \(\S+\) is our 2\n/)
  t.regex(output, /the child's 0 \(\S+\) is its own\n/)
  t.regex(output, /opened twice: kcmp says [12]\n/)
  t.regex(output, /memory: kcmp says [12],/)
})

test("join: the other process's namespaces are ours afterwards", async (t) => {
  const output = await example('join.mjs')
  t.regex(output, /host name +\S+ +the-inside\n/)
  for (const type of ['uts', 'net', 'ipc']) {
    const [, outside, inside] = new RegExp(
      `^ +${type} +(${type}:\\[\\d+\\]) +(${type}:\\[\\d+\\])$`,
      'm',
    ).exec(output)
    t.not(outside, inside)
  }
})

test('clone: the closure, the server in its own network, and a hundred children, without privilege too', async (t) => {
  const output = await example('clone.js', [])
  t.regex(output, /^the child, \d+, is a child of \d+\nit returned 7, and the answer here is still 42\n/)
  t.regex(output, /^port 80 in a network of lo: served where nobody else is\n/m)
  t.regex(output, /^100 of 100 isolated children said who they are, in \d+ ms\n/m)
})

test('container: its own root, name, network, limits and processes, and its status, without privilege too', async (t) => {
  const busybox = (await run('sh', '-c', 'command -v busybox || true')).trim()
  if (!available(t, busybox !== '', 'busybox')) return
  const root = temporaryDirectory(t)
  chmodSync(root, 0o755)
  mkdirSync(path.join(root, 'bin'))
  copyFileSync(busybox, path.join(root, 'bin/busybox'))
  const applets = ['sh', 'cat', 'hostname', 'id', 'ls', 'touch', 'wc']
  for (const applet of applets) symlinkSync('busybox', path.join(root, 'bin', applet))
  const script = `
    hostname; id -u; cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l; ls /
    ulimit -n; cat /sys/class/net/*/operstate | wc -l; ls /sys/class/net
    touch /file 2>&1; touch /tmp/file && echo written; cat /proc/self/status
    exit 7`
  const words = [process.execPath, file('container.mjs'), root, 'sh', '-c', script]
  const { status, stdout, stderr } = spawnSync(words[0], words.slice(1), { encoding: 'utf8' })
  t.deepEqual([status, stderr], [7, ''])
  const lines = stdout.split('\n')
  t.deepEqual(lines.slice(0, 2), ['container', '0'])
  t.is(lines[2], 'init')
  t.true(Number(lines[3]) <= 5)
  t.deepEqual(lines.slice(4, 10), ['bin', 'dev', 'proc', 'root', 'sys', 'tmp'])
  t.deepEqual(lines.slice(10, 15), ['256', '1', 'lo', 'touch: /file: Read-only file system', 'written'])
  t.regex(stdout, /^NoNewPrivs:\t1$/m)
  t.regex(stdout, /^CapBnd:\t0{13}4eb$/m)
  t.deepEqual(readdirSync(root).sort(), ['bin', 'dev', 'proc', 'root', 'sys', 'tmp'])
  t.deepEqual(readdirSync(path.join(root, 'tmp')), [])
  const missing = spawnSync(process.execPath, [file('container.mjs'), root, 'no-such-program'], {
    encoding: 'utf8',
  })
  t.is(missing.status, 125)
  t.regex(missing.stderr, /^container: exec: spawn no-such-program ENOENT\n {2}.*new root/)
})

test('the demo runs them all and has nothing to excuse', async (t) => {
  if (!available(t, hasIp, 'ip(8)')) return
  const output = await example('demo.mjs', [])
  t.false(output.includes('Not here'), output)
  t.regex(output, /As an ordinary user/)
  t.regex(output, /━━ What this process can do/)
})
