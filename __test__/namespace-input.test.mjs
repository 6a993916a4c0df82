// What Namespace refuses, before anything has changed.
import test from 'ava'
import lib from '../index.js'
import { inProcess } from './helpers/process.mjs'

const { Namespace } = lib
const TYPE = 'ERR_INVALID_ARG_TYPE'
const VALUE = 'ERR_INVALID_ARG_VALUE'
const RANGE = 'ERR_OUT_OF_RANGE'

for (const [options, code, message] of [
  [null, TYPE, /"options" argument must be an object/],
  [5, TYPE, /"options"/],
  ['privateTmp', TYPE, /"options"/],
  [['privateTmp'], TYPE, /"options"/],
  [{ privateTemp: true }, VALUE, /'options\.privateTemp' is not an option; did you mean 'privateTmp'\?/],
  [{ privatetmp: true }, VALUE, /did you mean 'privateTmp'\?/],
  [{ private_net: true }, VALUE, /did you mean 'privateNet'\?/],
  [{ privateNetwork: true }, VALUE, /is not an option/],
  [{ noproc: true }, VALUE, /did you mean 'noProc'\?/],
  [{ somethingElse: 1 }, VALUE, /known are privateMount, privateTmp/],
  [{ privateMount: 1 }, TYPE, /"options\.privateMount" property must be of type boolean/],
  [{ privateMount: 'yes' }, TYPE, /options\.privateMount/],
  [{ privateMount: null }, TYPE, /options\.privateMount/],
  [{ privatePid: 'true' }, TYPE, /options\.privatePid/],
  [{ privateIpc: 0 }, TYPE, /options\.privateIpc/],
  [{ privateCgroup: {} }, TYPE, /options\.privateCgroup/],
  [{ privateSysvsem: [] }, TYPE, /options\.privateSysvsem/],
  [{ termChild: 1 }, TYPE, /options\.termChild/],
  [{ privateTmp: 5 }, TYPE, /"options\.privateTmp" property must be of type boolean or an object/],
  [{ privateTmp: 'size=1m' }, TYPE, /options\.privateTmp/],
  [{ privateTmp: new Map() }, TYPE, /options\.privateTmp/],
  [{ privateTmp: { size: '1m,uid=5' } }, VALUE, /options\.privateTmp\.size.*comma/],
  [{ privateTmp: { 'size=1m': true } }, VALUE, /options\.privateTmp/],
  [{ privateTmp: { size: {} } }, TYPE, /options\.privateTmp\.size/],
  [{ privateTmp: { size: 1.5 } }, RANGE, /options\.privateTmp\.size/],
  [{ privateTmp: { nosuid: 'yes' } }, TYPE, /options\.privateTmp\.nosuid/],
  [{ privateTmp: { remount: true } }, VALUE, /is not for a new mount/],
  [{ privateTmp: { bind: true } }, VALUE, /is not for a new mount/],
  [{ privateNet: 'up' }, VALUE, /'options\.privateNet' must be 'none' or 'loopback'/],
  [{ privateNet: {} }, TYPE, /of type boolean or string/],
  [{ privateUser: 'root' }, TYPE, /options\.privateUser/],
  [{ privateUser: { uidMapping: 'root' } }, VALUE, /did you mean 'uidMappings'\?/],
  [{ privateUser: { uidMappings: 'nobody' } }, VALUE, /'options\.privateUser\.uidMappings'/],
  [{ privateUser: { gidMappings: 5 } }, TYPE, /"options\.privateUser\.gidMappings"/],
  [{ privateUser: { uidMappings: [] } }, VALUE, /options\.privateUser\.uidMappings/],
  [
    {
      privateUser: {
        uidMappings: [
          { inside: 0, outside: 0, count: 2 },
          { inside: 1, outside: 5, count: 1 },
        ],
      },
    },
    VALUE,
    /options\.privateUser\.uidMappings\[1\].*overlaps/,
  ],
  [{ privateUser: { setgroups: 'yes' } }, VALUE, /'options\.privateUser\.setgroups'/],
  [{ privateUts: 'host' }, TYPE, /options\.privateUts/],
  [{ privateUts: { host: 'x' } }, VALUE, /is not an option/],
  [{ privateUts: { hostnam: 'x' } }, VALUE, /did you mean 'hostname'\?/],
  [{ privateUts: { hostname: 5 } }, TYPE, /"options\.privateUts\.hostname"/],
  [{ privateUts: { hostname: 'x'.repeat(65) } }, VALUE, /at most 64 bytes/],
  [{ privateUts: { domainname: 'a\0b' } }, VALUE, /options\.privateUts\.domainname/],
  [{ privateTime: 5 }, TYPE, /options\.privateTime/],
  [{ privateTime: { monotonic: '1' } }, TYPE, /"options\.privateTime\.monotonic"/],
  [{ privateTime: { boottime: Number.NaN } }, RANGE, /options\.privateTime\.boottime/],
  [{ privateTime: { realtime: 1 } }, VALUE, /options\.privateTime\.realtime/],
  [{ signal: 'SIGTERM' }, TYPE, /"options\.signal" property must be an instance of AbortSignal/],
  [{ noProc: true }, VALUE, /'options\.noProc' is for a new pid namespace: privatePid: true/],
  [{ noProc: true, privatePid: false }, VALUE, /privatePid: true/],
  [{ privateMount: false, privateTmp: true }, VALUE, /cannot be false with privateTmp, which implies it/],
  [{ privateMount: false, privatePid: true }, VALUE, /cannot be false with privatePid, which implies it/],
]) {
  test(`${JSON.stringify(options)} is ${code}, and says what is wrong`, (t) => {
    const error = t.throws(() => new Namespace(options), { code, message })
    t.is(error instanceof RangeError, code === RANGE)
    t.is(error instanceof TypeError, code !== RANGE)
    t.regex(error.stack, /namespace-input\.test\.mjs/)
  })
}

test('What is undefined is not given, and what is on a prototype is no option', (t) => {
  t.notThrows(() => new Namespace())
  t.notThrows(
    () => new Namespace({ privateTmp: undefined, noProc: undefined, privateUts: { hostname: undefined } }),
  )
  t.notThrows(() => new Namespace({ privateMount: false, privatePid: true, noProc: true }))
  t.deepEqual(new Namespace(Object.create(null)).options, {})
  t.throws(() => Namespace(), { instanceOf: TypeError })
})

test('The options are a copy that cannot be changed', (t) => {
  const given = {
    privateTmp: { size: '1m' },
    privateUser: { uidMappings: [{ inside: 0, outside: 1, count: 1 }] },
  }
  const { options } = new Namespace(given)
  given.privateTmp.size = '2m'
  given.privateUser.uidMappings[0].count = 5
  t.deepEqual(options, {
    privateTmp: { size: '1m' },
    privateUser: { uidMappings: [{ inside: 0, outside: 1, count: 1 }] },
  })
  t.throws(() => (options.privateTmp.size = '3m'), { instanceOf: TypeError })
  t.throws(() => (options.privateUser.uidMappings[0].count = 2), { instanceOf: TypeError })
  t.throws(() => (options.privateNet = true), { instanceOf: TypeError })
  t.throws(() => (new Namespace().options = {}), { instanceOf: TypeError })
})

test('What run and spawn are given is looked at, and nothing is started', async (t) => {
  for (const fn of [undefined, null, 'code', {}]) {
    await t.throwsAsync(new Namespace().run(fn), {
      code: TYPE,
      message: /"fn" argument must be of type function/,
    })
  }
  const back = new Namespace({ privateTime: { monotonic: -1 } })
  const error = await t.throwsAsync(
    back.run(() => t.fail()),
    { code: RANGE, message: /options\.privateTime\.monotonic/ },
  )
  t.true(error instanceof RangeError)
  const namespace = new Namespace({ privateMount: true })
  t.throws(() => namespace.spawn(5), { code: TYPE })
  t.throws(() => namespace.spawn('true', [], 'options'), { code: TYPE, message: /"options"/ })
  t.throws(() => namespace.spawn('true', [], { hostnam: 'x' }), {
    code: VALUE,
    message: /did you mean 'hostname'\?/,
  })
  t.throws(() => namespace.spawn('true', [], { hostname: 'x' }), { code: VALUE, message: /UTS/ })
  t.throws(() => namespace.spawn('true', [], { mounts: 'all' }), { code: TYPE, message: /options\.mounts/ })
  t.throws(() => namespace.spawn('true', [], { unshare: 'net' }), { code: TYPE, message: /options\.unshare/ })
})

test('setup() with what only a new process can have throws, and nothing has changed', async (t) => {
  const errors = await inProcess(({ lib, fs }) => {
    const look = () => fs.readdirSync('/proc/self/ns').map((name) => fs.readlinkSync(`/proc/self/ns/${name}`))
    const before = look()
    const errors = [
      { privatePid: true },
      { privateUser: true },
      { privateTime: { boottime: 1 } },
      { privateNet: true, privateTmp: true, privatePid: true, privateUser: true, privateTime: true },
    ].map((options) => {
      try {
        new lib.Namespace(options).setup()
        return 'it was not refused'
      } catch ({ name, message, code, hint }) {
        return { name, message, code, hint, isSame: JSON.stringify(look()) === JSON.stringify(before) }
      }
    })
    new lib.Namespace({ privatePid: false }).setup()
    return errors
  })
  for (const error of errors) {
    t.like(error, { name: 'Error', code: 'ERR_NAMESPACE_NEEDS_CHILD', isSame: true })
    t.regex(error.hint, /run\(\).*spawn\(\)/)
  }
  t.regex(errors[3].message, /privatePid and privateUser and privateTime/)
})
