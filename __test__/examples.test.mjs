import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { available, privileged, run } from './helpers/process.mjs'

const example = (name) =>
  run(
    ...privileged,
    process.execPath,
    fileURLToPath(new URL(`../.build/examples/${name}.mjs`, import.meta.url)),
  )
const hasIp = (await run('sh', '-c', 'command -v ip || true')) !== ''

test('network: the client outside reaches the server inside through the veth pair', async (t) => {
  if (!available(t, hasIp, 'ip(8)')) return
  const before = readFileSync('/proc/net/dev', 'utf8').match(/^ *\w+/gm)
  const output = await example('network')
  t.regex(output, /interfaces at first +lo +lo\n/)
  t.regex(output, /with the veth pair +lo veth-out +lo veth-in\n/)
  t.regex(output, /served by the inside/)
  t.deepEqual(readFileSync('/proc/net/dev', 'utf8').match(/^ *\w+/gm), before)
})

test('mounts: the bind mount is there for every thread, and for nobody outside', async (t) => {
  const first = readFileSync('/etc/passwd', 'utf8').split('\n')[0]
  const output = await example('mounts')
  t.true(output.includes(`readFileSync  ${first}  nobody here but us\n`), output)
  t.true(output.includes(`fs.promises   ${first}  nobody here but us\n`), output)
  t.regex(output, /mounts on it +0 +1\n/)
})

test('descriptors: kcmp tells the shared ones from those that only look the same', async (t) => {
  const output = await example('descriptors')
  t.regex(output, /the child's 3 \(\/etc\/passwd\) is our \d+\n/)
  t.regex(output, /the child's 2 \(\S+\) is our 2\n/)
  t.regex(output, /the child's 0 \(\S+\) is its own\n/)
  t.regex(output, /opened twice: kcmp says [12]\n/)
  t.regex(output, /memory: kcmp says [12],/)
})

test("join: the other process's namespaces are ours afterwards", async (t) => {
  const output = await example('join')
  t.regex(output, /host name +\S+ +the-inside\n/)
  for (const type of ['uts', 'net', 'ipc']) {
    const [, outside, inside] = new RegExp(
      `^ +${type} +(${type}:\\[\\d+\\]) +(${type}:\\[\\d+\\])$`,
      'm',
    ).exec(output)
    t.not(outside, inside)
  }
})

test('the demo runs them all and has nothing to excuse', async (t) => {
  if (!available(t, hasIp, 'ip(8)')) return
  const output = await run(
    process.execPath,
    fileURLToPath(new URL('../.build/examples/demo.mjs', import.meta.url)),
  )
  t.false(output.includes('Not here'), output)
  t.regex(output, /As an ordinary user/)
  t.regex(output, /━━ What this process can do/)
})
