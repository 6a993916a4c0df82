import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import test from 'ava'
import { unprivileged } from './helpers/machine.mjs'
import { available, inProcess, inUserNamespace, privileged } from './helpers/process.mjs'

const wrap = privileged.length > 0 ? [...privileged, '--net'] : ['unshare', '--net']
const hasIp = spawnSync('ip', ['-V']).status === 0
const hasIpv6 = () => readFileSync('/proc/net/protocols', 'utf8').includes('\nTCPv6')

/** The local addresses of a process's network namespace: what the kernel routes to itself, and those of IPv6. */
function addresses(pid) {
  const trie = readFileSync(`/proc/${pid}/net/fib_trie`, 'utf8')
  const ipv4 = [...trie.matchAll(/\|-- (\S+)\n\s+\/32 host LOCAL/g)].map(([, address]) => address)
  const nets = [...trie.matchAll(/(?:\+--|\|--) (\S+)\n\s+(\/\d+) host LOCAL/g)].map(([, a, b]) => a + b)
  const ipv6 = readFileSync(`/proc/${pid}/net/if_inet6`, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split(/\s+/))
    .map(([address, , prefix, , , device]) => `${address}/${Number.parseInt(prefix, 16)} ${device}`)
  return { ipv4: [...new Set(ipv4)], nets: [...new Set(nets)], ipv6 }
}

const ofCaller = (_, child) => addresses(child.pid)
const NONE = { ipv4: [], nets: [], ipv6: [] }
const UP = {
  ipv4: ['127.0.0.1'],
  nets: ['127.0.0.0/8', '127.0.0.1/32'],
  ipv6: ['00000000000000000000000000000001/128 lo'],
}

/** Asserts that lo has its addresses, those of IPv6 where the kernel has it. */
function isUp(t, seen) {
  t.deepEqual(seen, hasIpv6() ? UP : { ...UP, ipv6: [] })
}

test('a new network namespace has no addresses, and those of lo afterwards', async (t) => {
  const { before, after } = await inProcess(
    async ({ lib, outside }) => {
      const before = await outside()
      lib.configureLoopback()
      return { before, after: await outside() }
    },
    { with: { wrap, outside: ofCaller } },
  )
  t.deepEqual(before, NONE)
  isUp(t, after)
})

test('ip shows lo up, with both addresses in the scope of the host', async (t) => {
  if (!available(t, hasIp, 'ip, of iproute2')) return
  const { down, up } = await inProcess(
    ({ lib, cp }) => {
      const show = () => cp.execFileSync('ip', ['address', 'show', 'dev', 'lo'], { encoding: 'utf8' })
      const down = show()
      lib.configureLoopback()
      return { down, up: show() }
    },
    { with: { wrap } },
  )
  t.regex(down, /<LOOPBACK>/)
  t.regex(up, /<LOOPBACK,UP,LOWER_UP>/)
  t.regex(up, /inet 127\.0\.0\.1\/8 scope host lo/)
  if (hasIpv6()) t.regex(up, /inet6 ::1\/128 scope host/)
})

/** A server on `address` and a client: what the client reads, or its error's code. */
const talk = (address, configure) =>
  inProcess(
    async ({ lib }, address, configure) => {
      const net = process.getBuiltinModule('node:net')
      if (configure) lib.configureLoopback()
      const server = net.createServer((socket) => socket.end('answered'))
      try {
        await new Promise((resolve, reject) => {
          server.once('error', reject).listen(0, configure ? address : undefined, resolve)
        })
        const client = net.connect(server.address().port, address)
        let text = ''
        for await (const chunk of client) text += chunk
        return text
      } catch ({ code, syscall }) {
        return { code, syscall }
      }
    },
    { with: { wrap } },
    address,
    configure,
  )

for (const address of ['127.0.0.1', '127.1.2.3', '::1']) {
  test(`a server on ${address} answers, and without configureLoopback it cannot be reached`, async (t) => {
    if (address === '::1' && !available(t, hasIpv6(), 'IPv6')) return
    t.is(await talk(address, true), 'answered')
    const { code, syscall } = await talk(address, false)
    t.is(syscall, 'connect')
    t.true(['ENETUNREACH', 'EADDRNOTAVAIL'].includes(code), code)
  })
}

test('twice changes nothing', async (t) => {
  const { once, twice } = await inProcess(
    async ({ lib, outside }) => {
      lib.configureLoopback()
      const once = await outside()
      lib.configureLoopback()
      return { once, twice: await outside() }
    },
    { with: { wrap, outside: ofCaller } },
  )
  isUp(t, once)
  t.deepEqual(twice, once)
})

for (const [what, ...commands] of [
  ['its addresses were removed', ['address', 'flush', 'dev', 'lo']],
  ['it was brought down', ['link', 'set', 'lo', 'down']],
  ['it was brought down without addresses', ['address', 'flush', 'dev', 'lo'], ['link', 'set', 'lo', 'down']],
]) {
  test(`lo comes back after ${what}`, async (t) => {
    if (!available(t, hasIp, 'ip, of iproute2')) return
    const { taken, back } = await inProcess(
      async ({ lib, cp, outside }, commands) => {
        lib.configureLoopback()
        for (const command of commands) cp.execFileSync('ip', command)
        const taken = await outside()
        lib.configureLoopback()
        return { taken, back: await outside() }
      },
      { with: { wrap, outside: ofCaller } },
      commands,
    )
    t.deepEqual(taken.ipv6, [])
    isUp(t, back)
  })
}

test('an address that lo has besides stays', async (t) => {
  if (!available(t, hasIp, 'ip, of iproute2')) return
  const { ipv4 } = await inProcess(
    ({ lib, cp, outside }) => {
      cp.execFileSync('ip', ['address', 'add', '192.0.2.1/32', 'dev', 'lo'])
      lib.configureLoopback()
      return outside()
    },
    { with: { wrap, outside: ofCaller } },
  )
  t.deepEqual([...ipv4].sort(), ['127.0.0.1', '192.0.2.1'])
})

test('where IPv6 is switched off, IPv4 is all that comes up', async (t) => {
  if (!available(t, hasIpv6(), 'IPv6')) return
  const seen = await inProcess(
    ({ lib, fs, outside }) => {
      fs.writeFileSync('/proc/sys/net/ipv6/conf/all/disable_ipv6', '1')
      lib.configureLoopback()
      return outside()
    },
    { with: { wrap, outside: ofCaller } },
  )
  t.deepEqual(seen, { ...UP, ipv6: [] })
})

test('the namespace that the thread has left, and ours, stay as they were', async (t) => {
  const ours = addresses('self')
  const seen = await inProcess(
    async ({ lib, cp, outside }) => {
      const behind = cp.spawn('cat')
      lib.unshare('net')
      lib.configureLoopback()
      const seen = { inside: await outside(process.pid), behind: await outside(behind.pid) }
      behind.kill('SIGKILL')
      return seen
    },
    { with: { wrap, outside: (pid) => addresses(pid) } },
  )
  isUp(t, seen.inside)
  t.deepEqual(seen.behind, NONE)
  t.deepEqual(addresses('self'), ours)
})

const refused = (wrap) =>
  inProcess(
    ({ lib }) => {
      try {
        lib.configureLoopback()
        return null
      } catch ({ name, code, errno, syscall, message, hint }) {
        return { name, code, errno, syscall, message, hint }
      }
    },
    { with: { wrap } },
  )

test('without privileges it is EPERM, and the hint names the capability', async (t) => {
  const { hint, ...error } = await refused(unprivileged)
  t.deepEqual(error, {
    name: 'Error',
    code: 'EPERM',
    errno: -1,
    syscall: 'sendto',
    message: 'EPERM: operation not permitted, sendto',
  })
  t.regex(hint, /needs CAP_NET_ADMIN/)
})

test('in a user namespace alone it is EPERM, and the hint names the network namespace', async (t) => {
  const { code, hint } = await refused(inUserNamespace)
  t.is(code, 'EPERM')
  t.regex(hint, /network namespace belongs to another/)
})

test('it leaves no descriptor open', async (t) => {
  const { before, after } = await inProcess(
    ({ lib, fs }) => {
      const open = () => fs.readdirSync('/proc/self/fd').length
      const before = open()
      for (let i = 0; i < 100; i++) lib.configureLoopback()
      return { before, after: open() }
    },
    { with: { wrap } },
  )
  t.is(after, before)
})
