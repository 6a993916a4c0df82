// Every exported function's parameters, values to try for them, and what the contract says of each value.
const { inspect } = require('node:util')
const os = require('node:os')

const TYPE = 'ERR_INVALID_ARG_TYPE'
const RANGE = 'ERR_OUT_OF_RANGE'
const VALUE = 'ERR_INVALID_ARG_VALUE'
const SIGNAL = 'ERR_UNKNOWN_SIGNAL'
/** The call is made: it succeeds, or fails as a system call does. */
const CALL = 'call'
/** The value itself threw when it was read. */
const OWN = 'own'

const CLASSES = { [TYPE]: TypeError, [RANGE]: RangeError, [VALUE]: TypeError, [SIGNAL]: TypeError }

const NAMESPACES = ['mnt', 'uts', 'ipc', 'net', 'pid', 'user', 'cgroup', 'time']
// mount(8), "filesystem-independent mount options".
const MOUNT_FLAGS = (
  'ro rw nosuid suid nodev dev noexec exec sync async dirsync mand nomand noatime atime nodiratime diratime relatime ' +
  'norelatime strictatime nostrictatime lazytime nolazytime silent loud remount bind rbind move private rprivate slave ' +
  'rslave shared rshared'
).split(' ')
const OCTAL = ['mode', 'ptmxmode', 'umask', 'dmask', 'fmask', 'allow_utime']

const thrown = Object.assign(new Error('the value has thrown'), { code: OWN })
const fail = () => {
  throw thrown
}

function revoked() {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

const traps = Object.fromEntries(Object.getOwnPropertyNames(Reflect).map((trap) => [trap, fail]))
const only = (key, descriptor) => () =>
  Object.defineProperty({}, key, { enumerable: true, configurable: true, ...descriptor })
const circular = () => {
  const value = {}
  value.value = value
  return value
}

/** What holds no options by name, though it may have properties. */
const NEVER_A_RECORD = {
  'new String': () => new String('mnt'),
  Buffer: () => Buffer.from('size=64m'),
  Uint8Array: () => new Uint8Array(2),
  Map: () => new Map([['ro', true]]),
  'a revoked Proxy': revoked,
  'a function': () => fail,
  'a class': () => class {},
  'a function whose name throws': () => Object.defineProperty(() => 0, 'name', { get: fail }),
  "a function's name that is a Symbol": () =>
    Object.defineProperty(() => 0, 'name', { value: Symbol('name') }),
  'a Proxy of a function': () => new Proxy(fail, {}),
}
/** None of it is a number, a string, an array or null, whatever it converts to. */
const OBJECTS = {
  ...NEVER_A_RECORD,
  'new Number': () => new Number(0),
  'new Boolean': () => new Boolean(true),
  'Object(0n)': () => Object(0n),
  'Object(Symbol())': () => Object(Symbol('boxed')),
  Date: () => new Date(0),
  RegExp: () => /x/,
  Set: () => new Set(['mnt']),
  Error: () => new Error('x'),
  Promise: () => Promise.resolve(0),
  '{}': () => ({}),
  'an object without prototype': () => Object.create(null),
  'an array-like': () => ({ length: 1, 0: 'mnt' }),
  'a circular object': circular,
  valueOf: only('valueOf', { value: () => 0 }),
  toString: only('toString', { value: () => 'mnt' }),
  'Symbol.toPrimitive': only(Symbol.toPrimitive, { value: () => 0 }),
  'Symbol.toPrimitive that throws': only(Symbol.toPrimitive, { value: fail }),
  'a Proxy': () => new Proxy({}, {}),
  'a Proxy whose traps throw': () => new Proxy({}, traps),
  'an unknown getter that throws': only('thread', { get: fail }),
  'a known getter that throws': only('threads', { get: fail }),
  'a constructor that throws': only('constructor', { get: fail }),
  "a constructor's name that is a Symbol": only('constructor', { value: { name: Symbol('name') } }),
  'Symbol.toStringTag that throws': only(Symbol.toStringTag, { get: fail }),
  'inspect.custom that throws': only(inspect.custom, { value: fail }),
}

/** As flags, an array is what its elements are. */
const ARRAYS = {
  'an array with a hole': [() => new Array(1), [TYPE]],
  'an array with a hole before a type': [() => Object.assign(new Array(2), { 1: 'uts' }), [TYPE]],
  'an array with a reduce of its own': [() => Object.assign(['uts'], { reduce: () => 'mnt' }), [CALL]],
  'a Proxy of an array': [() => new Proxy(['uts'], {}), [CALL]],
  'a Proxy of an array whose traps throw': [() => new Proxy(['uts'], traps), [OWN, TYPE]],
  'an array whose element throws': [() => Object.defineProperty([], 0, { get: fail }), [OWN, TYPE]],
  'an array of an array': [() => [['uts']], [TYPE]],
  'an array of a boxed String': [() => [new String('uts')], [TYPE]],
  'an array of a number': [() => [0x4000000], [TYPE]],
  'an array with an own toString': [() => Object.assign(['uts'], { toString: fail }), [CALL]],
}

const NUMBERS = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  0.5,
  -0.5,
  5e-324,
  -0,
  0,
  -1,
  2 ** 31 - 1,
  2 ** 31,
  -(2 ** 31),
  -(2 ** 31) - 1,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53,
  -(2 ** 53),
  1.5e300,
]
const STRINGS = [
  '',
  '\0',
  'mnt\0',
  '\0/tmp',
  'size=1m\0',
  '\ud800',
  'a\udfffb',
  'é',
  '😀',
  'x'.repeat(5000),
  'x'.repeat(100_000),
  '/'.repeat(5000),
  'é'.repeat(2048),
  '0',
  '1',
  ' mnt',
  'MNT',
  'mnts',
  'ut',
  'CLONE_NEWUTS',
  'sigterm',
  'TERM',
  'SIGTERMS',
  'constructor',
  '__proto__',
  'toString',
  'hasOwnProperty',
  ...NAMESPACES,
]
const PRIMITIVES = [null, undefined, true, false, 0n, 1n, -1n, 2n ** 64n, Symbol('symbol'), Symbol.iterator]

const short = (value) => {
  const text = Object.is(value, -0) ? '-0' : inspect(value)
  return text.length > 60 ? `${text.slice(0, 40)}… (${String(value).length} characters)` : text
}

/** A value, made anew for each call, that can be shown whatever it does when it is read. */
const primitive = (value) => ({ label: short(value), make: () => value, primitive: true, value })
const object = (label) => ({ label, make: OBJECTS[label], object: label })
const array = (label) => ({ label, make: ARRAYS[label][0], array: label })
const list = (elements) => ({
  label: `[${elements.map(({ label }) => label).join(', ')}]`,
  make: () => elements.map((element) => element.make()),
  elements,
})
const record = (entries) => ({
  label: `{ ${entries.map(([key, { label }]) => `${short(key)}: ${label}`).join(', ')} }`,
  make: () => {
    const result = {}
    // Not by assignment: a key may be __proto__.
    for (const [key, element] of entries) {
      Object.defineProperty(result, key, { value: element.make(), enumerable: true, configurable: true })
    }
    return result
  },
  entries,
})

const simple = [
  ...[...NUMBERS, ...STRINGS, ...PRIMITIVES].map(primitive),
  ...Object.keys(OBJECTS).map(object),
  ...Object.keys(ARRAYS).map(array),
]

// ─── What the contract says ────────────────────────────────────────────────────────────────────

const integer = (min, max) => (test) => {
  if (!test.primitive || typeof test.value !== 'number') return [TYPE]
  return Number.isInteger(test.value) && test.value >= min && test.value <= max ? [CALL] : [RANGE]
}
const int32 = integer(-(2 ** 31), 2 ** 31 - 1)
const uint32 = integer(-(2 ** 31), 2 ** 32 - 1)

function text(test) {
  if (!test.primitive || typeof test.value !== 'string') return [TYPE]
  return test.value.includes('\0') || !test.value.isWellFormed() ? [VALUE] : [CALL]
}

const textOrNull = (test) => (test.primitive && test.value === null ? [CALL] : text(test))

function flags(test) {
  if (test.array) return ARRAYS[test.array][1]
  if (test.elements) {
    const wrong = test.elements.map(typeName).find((verdict) => verdict !== CALL)
    return [wrong ?? CALL]
  }
  if (!test.primitive) return [TYPE]
  return typeof test.value === 'string' ? [typeName(test)] : uint32(test)
}

function typeName(test) {
  if (!test.primitive || typeof test.value !== 'string') return TYPE
  return NAMESPACES.includes(test.value) ? CALL : VALUE
}

function signal(test) {
  if (!test.primitive || typeof test.value !== 'string') return int32(test)
  return [Object.hasOwn(os.constants.signals, test.value) ? CALL : SIGNAL]
}

const optional = (kind) => (test) => (test.primitive && test.value === undefined ? [CALL] : kind(test))

/** What is wrong with an object's properties, whichever is found first. */
function properties(test, judge) {
  const verdicts = test.entries.map(([key, element]) => judge(key, element))
  const wrong = verdicts.flat().filter((code) => code !== CALL)
  // What may be right is wrong only beside what cannot be.
  return verdicts.every((codes) => codes.includes(CALL)) ? [CALL, ...wrong] : wrong
}

function asRecord(test, judge) {
  if (test.entries) return properties(test, judge)
  if (!test.object) return [TYPE]
  return test.object in NEVER_A_RECORD ? [TYPE, VALUE] : [TYPE, RANGE, VALUE, CALL, OWN]
}

const threadOptions = (test) =>
  asRecord(test, (key, element) => {
    if (key !== 'threads') return [VALUE]
    if (!element.primitive) return [TYPE]
    if (element.value === undefined) return [CALL]
    if (typeof element.value !== 'string') return [TYPE]
    return ['calling', 'all'].includes(element.value) ? [CALL] : [VALUE]
  })

function slot(test) {
  const fields = ['efd', 'tfd', 'toff']
  const missing = test.entries && fields.some((field) => !test.entries.some(([key]) => key === field))
  const verdict = asRecord(test, (key, element) => (fields.includes(key) ? uint32(element) : [VALUE]))
  // A number contradicts KCMP_EPOLL_TFD, so that it may be the one or the other.
  if (test.primitive) return typeof test.value === 'number' ? [TYPE, VALUE] : [TYPE]
  if (test.object) return verdict.filter((code) => code !== CALL)
  return missing ? [TYPE, ...verdict.filter((code) => code !== CALL)] : verdict
}

/** What KCMP_EPOLL_TFD says of the other arguments is the slot's to test. */
const comparison = (epoll) => (test) => (test.value === epoll ? [TYPE, RANGE, VALUE, CALL, OWN] : int32(test))

/** An object contradicts every other type. */
const index = (test) => (test.object || test.entries ? [TYPE, VALUE] : uint32(test))

const mountData = (limit) => (test) => {
  if (test.primitive) {
    const verdict = textOrNull(test)
    return verdict[0] === CALL && Buffer.byteLength(test.value ?? '') >= limit ? [VALUE] : verdict
  }
  const verdict = asRecord(test, mountOption)
  return test.entries && verdict[0] === CALL && written(test.entries) >= limit ? [VALUE] : verdict
}

/** The bytes of an object's options, as the file system gets them. */
function written(entries) {
  const own = entries.filter(([key, { value }]) => !MOUNT_FLAGS.includes(key) && value !== false)
  const options = own.map(([key, { value }]) => {
    if (value === true) return key
    return `${key}=${typeof value === 'number' && OCTAL.includes(key) ? value.toString(8) : String(value)}`
  })
  return Buffer.byteLength(options.join(','))
}

function mountOption(key, element) {
  if (key === '' || /[,=\0]/.test(key) || !key.isWellFormed()) return [VALUE]
  if (!element.primitive) return [TYPE]
  const { value } = element
  if (MOUNT_FLAGS.includes(key)) return typeof value === 'boolean' ? [CALL] : [TYPE]
  switch (typeof value) {
    case 'boolean':
      return [CALL]
    case 'number':
      return Number.isSafeInteger(value) && !(value < 0 && OCTAL.includes(key)) ? [CALL] : [RANGE]
    case 'string':
      return value.includes(',') ? [VALUE] : text(element)
    default:
      return [TYPE]
  }
}

/** A function, whatever it does: it does it in the child. */
const callback = (test) => (test.object?.includes('function') || test.object === 'a class' ? [CALL] : [TYPE])

const CLONE_REFUSED = 0x7f | 0x100 | 0x800 | 0x4000 | 0x10000 | 0x80000
const CLONE_NEEDING = 0x100000 | 0x200000 | 0x1000000

function cloneFlags(test) {
  if (!test.primitive || typeof test.value !== 'number' || test.value < 0) {
    const [verdict] = flags(test)
    const hasRefused = verdict === CALL && typeof test.value === 'number'
    return hasRefused && test.value & (CLONE_REFUSED | CLONE_NEEDING) ? [VALUE] : flags(test)
  }
  if (integer(0, Number.MAX_SAFE_INTEGER)(test)[0] !== CALL) return [RANGE]
  const bits = BigInt(test.value)
  return bits & BigInt(CLONE_REFUSED | CLONE_NEEDING | (2 ** 33)) ? [VALUE] : [CALL]
}

/** Of a list, what is wrong with an element. */
const listOf = (judge) => (test) => {
  if (test.array) return [TYPE, RANGE, VALUE, CALL, OWN]
  if (!test.elements) return [TYPE]
  if (test.elements.length === 0) return [VALUE]
  const wrong = test.elements.flatMap(judge).filter((code) => code !== CALL)
  return wrong.length > 0 ? wrong : [CALL]
}

const mapping = (test) => asRecord(test, () => [TYPE, RANGE, VALUE])
const mappings = (test) => {
  if (test.primitive && typeof test.value === 'string') return [VALUE]
  // They are for a new user namespace only: that may be said before anything else.
  return [VALUE, ...listOf(mapping)(test).filter((code) => code !== CALL)]
}

/** What each option may be where it is alone. */
const CLONE_OPTIONS = {
  flags: cloneFlags,
  stackSize(test) {
    const verdict = integer(0, Number.MAX_SAFE_INTEGER)(test)
    return verdict[0] === CALL && test.value > 0 && test.value < 4096 ? [RANGE] : verdict
  },
  exitSignal: signal,
  setTid: listOf(int32),
  cgroup: (test) => (typeof test.value === 'string' ? text(test) : int32(test)),
  parentTid: () => [TYPE],
  childTid: () => [TYPE],
  uidMappings: mappings,
  gidMappings: mappings,
  setgroups: () => [TYPE, VALUE],
  timeOffsets: () => [TYPE, RANGE, VALUE, OWN],
}

const cloneOptions = (test) =>
  asRecord(test, (key, element) => {
    if (!Object.hasOwn(CLONE_OPTIONS, key)) return [VALUE]
    return optional(CLONE_OPTIONS[key])(element)
  })

// ─── The functions ─────────────────────────────────────────────────────────────────────────────

/**
 * Name, system call where it is always the same, and parameters: each by name with its kind and an argument that would do something, or, where that could
 * do harm beyond this process, nothing. The kinds are `{ judge, also }`: `also` are further values for it.
 */
function functions({ lib, fds, directory, page }) {
  const keys = (names) => (fc) => fc.constantFrom(...names)
  const recordOf = (names) => (fc, value) => {
    const key = fc.oneof(keys(names)(fc), fc.string({ maxLength: 5 }))
    return fc.uniqueArray(fc.tuple(key, value), { maxLength: 3, selector: ([name]) => name }).map(record)
  }
  const kinds = {
    int32: { judge: int32 },
    uint32: { judge: uint32 },
    text: { judge: text },
    textOrNull: { judge: textOrNull },
    signal: {
      judge: signal,
      also: (fc) => fc.constantFrom(...Object.keys(os.constants.signals)).map(primitive),
    },
    flags: {
      judge: flags,
      also: (fc, value) => {
        const name = keys(NAMESPACES)(fc).map(primitive)
        return fc.array(fc.oneof({ weight: 4, arbitrary: name }, value), { maxLength: 4 }).map(list)
      },
    },
    options: { judge: threadOptions, also: recordOf(['threads', 'thread', 'Threads']) },
    callback: { judge: callback },
    // A signal at the end of each child would be sent to this process.
    cloneOptions: {
      judge: cloneOptions,
      also: (fc, value) => {
        const entry = fc
          .tuple(fc.constantFrom(...Object.keys(CLONE_OPTIONS), 'flag', 'exitsignal', '__proto__'), value)
          .filter(([key, element]) => key !== 'exitSignal' || !signal(element).includes(CALL))
        return fc.uniqueArray(entry, { maxLength: 3, selector: ([name]) => name }).map(record)
      },
    },
    data: {
      judge: mountData(page),
      also: recordOf([...MOUNT_FLAGS, 'mode', 'size', 'a,b', 'a=b', 'a\0b', '', '__proto__', '\ud800']),
    },
    comparison: { judge: comparison(lib.KCMP_EPOLL_TFD) },
    index: { judge: index, also: recordOf(['efd', 'tfd', 'toff']) },
    slot: {
      judge: slot,
      also: (fc, value) => {
        const field = fc.oneof(fc.nat(9).map(primitive), value)
        const whole = fc
          .tuple(field, field, field)
          .map(([efd, tfd, toff]) => record(Object.entries({ efd, tfd, toff })))
        return fc.oneof(whole, recordOf(['efd', 'tfd', 'toff', 'tdf'])(fc, value))
      },
    },
  }
  const parameter =
    (kind, defaults) =>
    (name, argument = undefined) => {
      const { judge, also } = kinds[kind]
      return { name, argument, judge: defaults ? optional(judge) : judge, also }
    }
  const required = (kind) => parameter(kind, false)
  const withDefault = (kind) => parameter(kind, true)
  const fd = required('int32')
  const path = required('text')
  const self = process.pid
  const ioctl = (name, ...more) => ({
    name,
    syscall: 'ioctl',
    parameters: [fd('fd', fds.uts), ...more.map((each) => required('int32')(each, 1))],
    makesDescriptor: name === 'nsGetUserns' || name === 'nsGetParent',
  })
  const call = (name, syscall, parameters, rest = {}) => ({ name, syscall, parameters, ...rest })
  const compared = [required('int32')('pid1', self), required('int32')('pid2', self)]
  return [
    call('clone', undefined, [required('callback')('fn', () => {}), withDefault('cloneOptions')('options')], {
      oneAtATime: true,
      makesChild: true,
    }),
    call('unshare', 'unshare', [required('flags')('flags', 'uts'), withDefault('options')('options')]),
    call('setns', 'setns', [
      fd('fd', fds.uts),
      withDefault('flags')('nstype', 'uts'),
      withDefault('options')('options'),
    ]),
    call('pivotRoot', 'pivot_root', [path('newRoot', directory), path('putOld', directory)]),
    call('kcmp', 'kcmp', [
      ...compared,
      required('comparison')('type', lib.KCMP_FILE),
      withDefault('uint32')('idx1', 1),
      withDefault('index')('idx2', 1),
    ]),
    call('kcmp', 'kcmp', [
      ...compared,
      { ...required('comparison')('type', lib.KCMP_EPOLL_TFD), fixed: true },
      withDefault('uint32')('idx1', 1),
      required('slot')('idx2', { efd: 1, tfd: 1, toff: 0 }),
    ]),
    call('configureLoopback', undefined, []),
    call('mount', 'mount', [
      required('textOrNull')('source', 'none'),
      path('target', directory),
      required('textOrNull')('fstype', 'tmpfs'),
      withDefault('uint32')('flags', 0),
      withDefault('data')('data', null),
    ]),
    call('umount', 'umount2', [path('target', directory), withDefault('uint32')('flags', 0)]),
    call('sethostname', 'sethostname', [path('name', 'other')]),
    call('setdomainname', 'setdomainname', [path('name', 'other')]),
    call('pidfdOpen', 'pidfd_open', [required('int32')('pid', self), withDefault('uint32')('flags', 0)], {
      makesDescriptor: true,
    }),
    // Signal 0, or a descriptor that is of no process: nothing can be hit.
    call(
      'pidfdSendSignal',
      'pidfd_send_signal',
      [fd('pidfd', fds.null), required('signal')('signal', 0), withDefault('uint32')('flags', 0)],
      { oneAtATime: true },
    ),
    call('pidfdGetfd', 'pidfd_getfd', [fd('pidfd', fds.self), required('int32')('targetFd', 0)], {
      makesDescriptor: true,
    }),
    ioctl('nsGetUserns'),
    ioctl('nsGetParent'),
    ioctl('nsGetNstype'),
    ioctl('nsGetOwnerUid'),
    ioctl('nsGetId'),
    ioctl('nsGetMntnsId'),
    ioctl('nsGetPidFromPidns', 'pid'),
    ioctl('nsGetTgidFromPidns', 'tgid'),
    ioctl('nsGetPidInPidns', 'pid'),
    ioctl('nsGetTgidInPidns', 'tgid'),
    call('probe', undefined, []),
  ]
}

/** Values for a parameter: those that are always tried, and an arbitrary of more. */
function values(fc, { also }) {
  const number = fc.oneof(
    fc.integer(),
    fc.integer({ min: -(2 ** 32) - 1, max: 2 ** 32 + 1 }),
    fc.double(),
    fc.maxSafeInteger(),
  )
  const string = fc.oneof(fc.string({ unit: 'binary' }), fc.string(), fc.constantFrom(...STRINGS))
  const value = fc.oneof(
    fc.constantFrom(...simple),
    fc.oneof(number, string, fc.bigInt(), fc.boolean()).map(primitive),
  )
  return also ? fc.oneof(value, also(fc, value)) : value
}

/** What calling it led to: one of the contract's errors, a call, the value's own error; or else a description of what is wrong. */
function outcome(lib, fs, called, args) {
  let result
  try {
    result = lib[called.name](...args)
  } catch (error) {
    if (error === thrown) return OWN
    const Class = CLASSES[error?.code]
    if (Class) {
      const shaped = error.constructor === Class && error.name === Class.name && error.message !== ''
      return shaped ? error.code : `an error of another class: ${error}`
    }
    const { errno, code, syscall } = error ?? {}
    const known = os.constants.errno[code]
    const shaped = error instanceof Error && Number.isInteger(errno) && errno < 0 && /^E[A-Z0-9]+$/.test(code)
    // These make several calls, the others one.
    const everyThread = called.parameters.some(({ name }, i) => name === 'options' && args[i] !== undefined)
    const isItsOwn = called.syscall === undefined || everyThread || called.syscall === syscall
    if (!shaped || (known !== undefined && known !== -errno)) return `no SystemCallError: ${error}`
    if (typeof syscall !== 'string' || !isItsOwn) return `of another call: ${error}`
    return CALL
  }
  if (called.makesDescriptor) fs.closeSync(result)
  if (called.makesChild) result.waitSync()
  return CALL
}

module.exports = { CALL, functions, outcome, primitive, signal, simple, values }
