import { readFileSync } from 'node:fs'
import os from 'node:os'
import test from 'ava'
import { unprivileged } from './helpers/machine.mjs'
import { inProcess, inUserNamespace, privileged } from './helpers/process.mjs'

const wrap = privileged.length > 0 ? [...privileged, '--uts'] : ['unshare', '--uts']

/** Calls `sethostname` or `setdomainname` with each name in a UTS namespace, and tells what other programs see then. */
const named = (call, names, options = { wrap }) =>
  inProcess(
    ({ lib, cp, fs, os }, call, names) => {
      const domain = { setdomainname: 'domainname', sethostname: 'hostname' }[call]
      return names.map((name) => {
        let error = null
        try {
          lib[call](name)
        } catch (thrown) {
          const { name, code, errno, syscall, message, hint } = thrown
          error = { name, code, errno, syscall, message, hint }
        }
        return {
          error,
          kernel: fs.readFileSync(`/proc/sys/kernel/${domain}`, 'utf8').replace(/\n$/, ''),
          uname: cp.execFileSync('uname', ['-n'], { encoding: 'utf8' }).replace(/\n$/, ''),
          node: os.hostname(),
        }
      })
    },
    { with: options },
    call,
    names,
  )

test('the host name is what uname, /proc and Node say afterwards', async (t) => {
  const [seen] = await named('sethostname', ['inside.example'])
  t.deepEqual(seen, {
    error: null,
    kernel: 'inside.example',
    uname: 'inside.example',
    node: 'inside.example',
  })
})

test('the domain name is what /proc says afterwards, and the host name stays', async (t) => {
  const [seen] = await named('setdomainname', ['domain.example'])
  t.deepEqual(seen, { error: null, kernel: 'domain.example', uname: os.hostname(), node: os.hostname() })
})

test('the names outside stay', async (t) => {
  const outside = () =>
    ['hostname', 'domainname'].map((name) => readFileSync(`/proc/sys/kernel/${name}`, 'utf8'))
  const before = outside()
  const [inside, after] = await inProcess(
    async ({ lib, fs, outside }) => {
      lib.sethostname('other-host')
      lib.setdomainname('other-domain')
      const read = (name) => fs.readFileSync(`/proc/sys/kernel/${name}`, 'utf8')
      return [['hostname', 'domainname'].map(read), await outside()]
    },
    { with: { wrap, outside } },
  )
  t.deepEqual(inside, ['other-host\n', 'other-domain\n'])
  t.deepEqual(after, before)
  t.deepEqual(outside(), before)
})

for (const call of ['sethostname', 'setdomainname']) {
  test(`${call} takes 64 bytes, and 65 are EINVAL with a hint`, async (t) => {
    const [longest, tooLong, utf8, tooManyBytes] = await named(call, [
      'x'.repeat(64),
      'y'.repeat(65),
      'ü'.repeat(32),
      'ä'.repeat(33),
    ])
    t.is(longest.error, null)
    t.is(longest.kernel, 'x'.repeat(64))
    t.is(tooLong.kernel, 'x'.repeat(64))
    t.is(utf8.error, null)
    t.is(utf8.kernel, 'ü'.repeat(32))
    t.is(tooManyBytes.kernel, 'ü'.repeat(32))
    for (const { error } of [tooLong, tooManyBytes]) {
      t.is(error.message, `EINVAL: invalid argument, ${call}`)
      t.deepEqual([error.code, error.errno, error.syscall], ['EINVAL', -22, call])
      t.regex(error.hint, /64 bytes/)
    }
  })

  test(`${call} takes an empty name, and leaves nothing of a longer one`, async (t) => {
    const seen = await named(call, ['a-long-name', 'short', ''])
    t.deepEqual(
      seen.map(({ error, kernel }) => [error, kernel]),
      [
        [null, 'a-long-name'],
        [null, 'short'],
        [null, ''],
      ],
    )
  })

  test(`${call} refuses what the kernel would read otherwise, and changes nothing`, async (t) => {
    const seen = await named(call, ['before', 'a\0b', '\ud800'])
    t.deepEqual(
      seen.map(({ error, kernel }) => [error?.code, error?.name, kernel]),
      [
        [undefined, undefined, 'before'],
        ['ERR_INVALID_ARG_VALUE', 'TypeError', 'before'],
        ['ERR_INVALID_ARG_VALUE', 'TypeError', 'before'],
      ],
    )
  })

  test(`${call} without privileges is EPERM, and the hint names the capability`, async (t) => {
    const own = readFileSync('/proc/sys/kernel/hostname', 'utf8')
    const [{ error }] = await named(call, ['never'], { wrap: unprivileged })
    t.is(error.message, `EPERM: operation not permitted, ${call}`)
    t.deepEqual([error.code, error.errno, error.syscall], ['EPERM', -1, call])
    t.regex(error.hint, /needs CAP_SYS_ADMIN/)
    t.is(readFileSync('/proc/sys/kernel/hostname', 'utf8'), own)
  })

  test(`${call} in a user namespace alone is EPERM, and the hint names the UTS namespace`, async (t) => {
    const [{ error }] = await named(call, ['never'], { wrap: inUserNamespace })
    t.is(error.code, 'EPERM')
    t.regex(error.hint, /UTS namespace belongs to another/)
  })
}
