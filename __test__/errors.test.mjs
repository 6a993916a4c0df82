import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { getSystemErrorMap, inspect } from 'node:util'
import test from 'ava'
import lib from '../index.js'
import { compile, hasCompiler, unprivileged } from './helpers/machine.mjs'
import { available, inProcess, isRoot, privileged } from './helpers/process.mjs'

const MISSING = '/nonexistent/linux-clone'
const OTHER = '/nonexistent/linux-clone-other'

function thrown(call) {
  try {
    call()
  } catch (error) {
    return error
  }
  throw new Error('it threw nothing')
}

/** All that can be seen of an error, without the place where it was made. */
function shape(error) {
  const { stack, message, ...own } = Object.getOwnPropertyDescriptors(error)
  return {
    own,
    order: Object.keys(error),
    prototype: Object.getPrototypeOf(error),
    message: { ...message },
    text: String(error),
    header: error.stack.split('\n')[0],
    stack: { enumerable: stack.enumerable },
    shown: inspect(error).replaceAll(/\n\s+at .*/g, ''),
  }
}

/** The shape of Node's own error, as if our call had been the one that failed. */
function expected(node, syscall, ours) {
  const text = inspect(shape(node), { depth: 9, maxStringLength: null })
  return text.replaceAll(`, ${node.syscall}`, `, ${ours}`).replaceAll(`'${node.syscall}'`, `'${syscall}'`)
}

function sameShape(t, error, node) {
  const text = inspect(shape(error), { depth: 9, maxStringLength: null })
  t.is(text, expected(node, error.syscall, error.syscall))
}

test("an error of one path is shaped like Node's own", (t) => {
  sameShape(
    t,
    thrown(() => lib.umount(MISSING)),
    thrown(() => fs.readdirSync(MISSING)),
  )
})

test("an error of two paths is shaped like Node's own", (t) => {
  sameShape(
    t,
    thrown(() => lib.mount(MISSING, OTHER, null, lib.MS_BIND)),
    thrown(() => fs.renameSync(MISSING, OTHER)),
  )
  sameShape(
    t,
    thrown(() => lib.mount(MISSING, MISSING, 'tmpfs')),
    thrown(() => fs.linkSync(MISSING, MISSING)),
  )
})

test("an error without a path is shaped like Node's own", (t) => {
  sameShape(
    t,
    thrown(() => lib.nsGetUserns(-1)),
    thrown(() => fs.fstatSync(2 ** 30)),
  )
})

test("an error of an empty path is shaped like Node's own", (t) => {
  sameShape(
    t,
    thrown(() => lib.umount('')),
    thrown(() => fs.readdirSync('')),
  )
})

test('a hint is one more property, after those of Node, and the message is the same without it', (t) => {
  const fd = fs.openSync('/dev/null')
  const error = thrown(() => lib.nsGetNstype(fd))
  fs.closeSync(fd)
  t.deepEqual(Object.keys(error), ['errno', 'code', 'syscall', 'hint'])
  t.is(error.message, 'ENOTTY: inappropriate ioctl for device, ioctl')
  t.false(error.stack.includes(error.hint))
  t.true(Object.getOwnPropertyDescriptor(error, 'hint').enumerable)
})

// umount2's errno is its flags, and the calls that kernels may lack are ENOSYS.
const ANSWERING = `
#include <errno.h>
#include <stddef.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define LOW 4
#else
#define LOW 0
#endif
#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd 438
#endif
int main(int argc, char **argv) {
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_kcmp, 7, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_pidfd_open, 6, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_pidfd_send_signal, 5, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_pidfd_getfd, 4, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_umount2, 0, 4),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + LOW),
    BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
    BPF_STMT(BPF_RET | BPF_A, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof code / sizeof *code, code };
  if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1) return 126;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == -1) return 126;
  execvp(argv[1], argv + 1);
  return 127;
}
`

/** What umount throws where the kernel answers with each errno. */
function answers(t, errnos) {
  return inProcess(
    ({ lib }, errnos) =>
      errnos.map((errno) => {
        try {
          lib.umount('/nowhere', errno)
          return null
        } catch (error) {
          return { message: error.message, ...error }
        }
      }),
    { with: { wrap: [compile(t, ANSWERING)] } },
    errnos,
  )
}

const HIGHEST = 133

/** The kernel's names of an errno. */
function namesInHeaders() {
  const { stdout } = spawnSync('cc', ['-E', '-dM', '-'], { input: '#include <errno.h>\n', encoding: 'utf8' })
  const names = new Map()
  for (const [, name, value] of stdout.matchAll(/^#define (E[A-Z0-9]+) (\d+)$/gm))
    names.set(Number(value), name)
  return names
}

test('every errno that Node knows has its code and its words', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const known = Array.from({ length: HIGHEST }, (_, index) => index + 1).filter((errno) =>
    getSystemErrorMap().has(-errno),
  )
  t.true(known.length > 50)
  const errors = await answers(t, known)
  for (const [index, errno] of known.entries()) {
    const [name, words] = getSystemErrorMap().get(-errno)
    const { hint, ...error } = errors[index]
    t.deepEqual(error, {
      errno: -errno,
      code: name,
      syscall: 'umount2',
      path: '/nowhere',
      message: `${name}: ${words}, umount2 '/nowhere'`,
    })
  }
})

test("every other errno has the kernel's name, and words", async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const names = namesInHeaders()
  const others = [...names.keys()].filter((errno) => errno <= HIGHEST && !getSystemErrorMap().has(-errno))
  t.true(others.map((errno) => names.get(errno)).includes('EUSERS'))
  const errors = await answers(t, others)
  for (const [index, errno] of others.entries()) {
    const { code, message, ...error } = errors[index]
    t.is(error.errno, -errno)
    t.is(code, names.get(errno))
    t.regex(
      message,
      new RegExp(`^${code}: [^A-Z ][^,]*, umount2 '/nowhere'$|^${code}: [^,]+, umount2 '/nowhere'$`),
    )
    t.false(message.includes('unknown'), message)
  }
})

test('a number that is no errno is shown as it is', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const [hole, above] = await answers(t, [41, 524])
  t.deepEqual([hole.errno, hole.code], [-41, 'E41'])
  t.is(hole.message, "E41: unknown error, umount2 '/nowhere'")
  t.deepEqual([above.errno, above.code], [-524, 'E524'])
})

test('EPERM under a seccomp filter: the hint says what it may come from', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const [{ hint }] = await answers(t, [1])
  t.regex(hint, isRoot ? /seccomp filter/ : /needs CAP_SYS_ADMIN/)
})

test('a call that the kernel lacks is ENOSYS, and the hint says since when there is one', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const errors = await inProcess(
    ({ lib }) =>
      [
        () => lib.pidfdOpen(process.pid),
        () => lib.pidfdSendSignal(0, 0),
        () => lib.pidfdGetfd(0, 0),
        () => lib.kcmp(process.pid, process.pid, lib.KCMP_VM),
      ].map((call) => {
        try {
          return call()
        } catch ({ message, hint }) {
          return { message, hint }
        }
      }),
    { with: { wrap: [compile(t, ANSWERING)] } },
  )
  t.deepEqual(
    errors.map(({ message }) => message),
    ['pidfd_open', 'pidfd_send_signal', 'pidfd_getfd', 'kcmp'].map(
      (call) => `ENOSYS: function not implemented, ${call}`,
    ),
  )
  const versions = ['5.3', '5.1', '5.6', '3.5']
  for (const [index, { hint }] of errors.entries())
    t.true(hint?.includes(`since Linux ${versions[index]}`), hint)
})

test('EUSERS, which Node does not know, has its name', async (t) => {
  const error = await inProcess(({ lib, fs }) => {
    try {
      lib.setns(fs.openSync('/proc/self/ns/time'), 'time')
      return null
    } catch (error) {
      return { name: error.name, message: error.message, ...error }
    }
  })
  t.is(os.constants.errno.EUSERS, undefined)
  const { hint, ...rest } = error
  t.deepEqual(rest, {
    name: 'Error',
    code: 'EUSERS',
    errno: -87,
    syscall: 'setns',
    message: 'EUSERS: too many users, setns',
  })
  t.regex(hint, /threads/)
})

const FAILING = [
  ['unshare', 'unshare', 'net'],
  ['setns', 'setns', -1],
  ['pivotRoot', 'pivot_root', MISSING, MISSING],
  ['kcmp', 'kcmp', 2 ** 31 - 1, 2 ** 31 - 1, 0],
  ['configureLoopback', 'sendto'],
  ['mount', 'mount', null, MISSING, 'tmpfs'],
  ['umount', 'umount2', MISSING],
  ['sethostname', 'sethostname', 'x'],
  ['setdomainname', 'setdomainname', 'x'],
  ['pidfdOpen', 'pidfd_open', 2 ** 31 - 1],
  ['pidfdSendSignal', 'pidfd_send_signal', -1, 0],
  ['pidfdGetfd', 'pidfd_getfd', -1, 0],
  ...['nsGetUserns', 'nsGetParent', 'nsGetNstype', 'nsGetOwnerUid', 'nsGetId', 'nsGetMntnsId'].map((name) => [
    name,
    'ioctl',
    -1,
  ]),
  ...['nsGetPidFromPidns', 'nsGetTgidFromPidns', 'nsGetPidInPidns', 'nsGetTgidInPidns'].map((name) => [
    name,
    'ioctl',
    -1,
    1,
  ]),
]

// What starts processes has errors of its own, in steps.
const STARTING = ['clone', 'spawn', 'spawnSync', 'Namespace', 'probe']

test('every function that makes a system call is tried here', (t) => {
  const functions = Object.keys(lib).filter((name) => typeof lib[name] === 'function')
  t.deepEqual(
    functions.filter((name) => !STARTING.includes(name)).sort(),
    FAILING.map(([name]) => name).sort(),
  )
})

/** What each call throws where nothing is allowed: its error, and the function that its stack begins with. */
const failures = (calls) =>
  inProcess(
    ({ lib }, calls) =>
      calls.map(([name, ...args]) => {
        function whoCalls() {
          return lib[name](...args)
        }
        try {
          whoCalls()
          return null
        } catch (error) {
          const [header, first] = error.stack.split('\n')
          return { header, first: first.trim().split(' ')[1], name: error.name, ...error }
        }
      }),
    { with: { wrap: unprivileged } },
    calls,
  )

test("a failed call's stack begins with its message and the caller", async (t) => {
  const errors = await failures(FAILING.map(([name, , ...args]) => [name, ...args]))
  for (const [index, [name, syscall]] of FAILING.entries()) {
    const { header, first, ...error } = errors[index]
    t.is(first, 'whoCalls', name)
    t.true(header.startsWith(`Error: ${error.code}: `), header)
    t.is(error.name, 'Error')
    t.is(error.syscall, syscall)
    t.is(os.constants.errno[error.code], -error.errno, name)
  }
})

test("a wrong argument's stack begins with its code and the caller", async (t) => {
  const functions = FAILING.filter(([, , ...args]) => args.length > 0)
  const errors = await failures(functions.map(([name]) => [name, { not: 'valid' }, true, true]))
  for (const [index, [name]] of functions.entries()) {
    const { header, first, ...error } = errors[index]
    t.is(first, 'whoCalls', name)
    t.is(error.code, 'ERR_INVALID_ARG_TYPE', name)
    t.true(header.startsWith('TypeError [ERR_INVALID_ARG_TYPE]: The "'), header)
  }
})

test('an error without a stack, where none is wanted, is one all the same', (t) => {
  const { stackTraceLimit } = Error
  try {
    Error.stackTraceLimit = 0
    const [failed, wrong] = [thrown(() => lib.umount(MISSING)), thrown(() => lib.umount(1))]
    t.is(failed.stack, `Error: ENOENT: no such file or directory, umount2 '${MISSING}'`)
    t.is(
      wrong.stack,
      'TypeError [ERR_INVALID_ARG_TYPE]: The "target" argument must be of type string. Received type number (1)',
    )
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
})

class Named {}
const anonymous = [() => {}][0]
const WRONG = [
  undefined,
  null,
  true,
  0n,
  12345678901234567890n,
  Symbol('symbol'),
  Symbol(),
  function named() {},
  anonymous,
  Named,
  new Named(),
  {},
  { a: { b: 1 } },
  Object.create(null),
  Object.assign(Object.create(null), { a: 1 }),
  [],
  ['a'],
  new Map(),
  new Date(0),
  /x/,
  Buffer.from('a'),
  new Error('x'),
  new Proxy({}, {}),
]

/** Compares our error with Node's, whose argument has another name. */
function sameArgumentError(t, ours, node, [from, to], label) {
  t.true(node instanceof ours.constructor, label)
  t.is(ours.message, node.message.replace(from, to), label)
  t.is(ours.name, node.name, label)
  t.is(ours.code, node.code, label)
  t.is(ours.stack.split('\n')[0], node.stack.split('\n')[0].replace(from, to), label)
  t.deepEqual(Object.keys(ours), Object.keys(node), label)
}

const strings = [
  "it's",
  'x'.repeat(24),
  'x'.repeat(25),
  'x'.repeat(26),
  'x'.repeat(27),
  'x'.repeat(100),
  'a"b',
  'a\nb',
]

test("what is no string is refused in Node's words", (t) => {
  for (const value of [...WRONG, 1, 1.5, -0, Number.NaN, Number.POSITIVE_INFINITY]) {
    const [ours, node] = [thrown(() => lib.sethostname(value)), thrown(() => path.basename(value))]
    sameArgumentError(t, ours, node, ['"path"', '"name"'], inspect(value))
  }
})

test("what is no number is refused in Node's words", (t) => {
  for (const value of [...WRONG, 'text', '1']) {
    const [ours, node] = [thrown(() => lib.nsGetNstype(value)), thrown(() => os.setPriority(value, 0))]
    sameArgumentError(t, ours, node, ['"pid"', '"fd"'], inspect(value))
  }
})

test('a string that is long, or holds quotes, is shown as Node shows it', (t) => {
  for (const value of strings) {
    const [ours, node] = [thrown(() => lib.nsGetNstype(value)), thrown(() => os.setPriority(value, 0))]
    sameArgumentError(t, ours, node, ['"pid"', '"fd"'], inspect(value))
  }
})

test("a number that is no integer, or does not fit, is refused in Node's words", (t) => {
  for (const value of [
    1.5,
    -0.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    2 ** 31,
    -(2 ** 31) - 1,
    2 ** 32,
  ]) {
    const [ours, node] = [thrown(() => lib.nsGetNstype(value)), thrown(() => os.setPriority(value, 0))]
    sameArgumentError(t, ours, node, ['"pid"', '"fd"'], inspect(value))
  }
})

test('a number of many digits is shown as Node shows it', (t) => {
  for (const value of [2 ** 32 + 1, -(2 ** 32) - 1, Number.MAX_SAFE_INTEGER, 1e21, -1e300]) {
    const [ours, node] = [thrown(() => lib.nsGetNstype(value)), thrown(() => os.setPriority(value, 0))]
    sameArgumentError(t, ours, node, ['"pid"', '"fd"'], inspect(value))
  }
})

test("a NUL byte is refused in Node's words", (t) => {
  for (const value of ['\0', 'a\0b', `${'x'.repeat(200)}\0`]) {
    const [ours, node] = [thrown(() => lib.umount(value)), thrown(() => fs.mkdirSync(value))]
    sameArgumentError(
      t,
      ours,
      node,
      ["'path' must be a string, Uint8Array, or URL", "'target' must be a string"],
      inspect(value),
    )
  }
})

test("an unknown signal is refused in Node's words", (t) => {
  const node = thrown(() => process.kill(process.pid, 'SIGNONE'))
  sameArgumentError(
    t,
    thrown(() => lib.pidfdSendSignal(-1, 'SIGNONE')),
    node,
    ['', ''],
  )
})

test("an argument's error as text has its code, as Node's has", (t) => {
  const node = thrown(() => path.basename(1))
  t.is(String(thrown(() => lib.sethostname(1))), String(node).replace('"path"', '"name"'))
})

test('a property is called one, and an element by its index', (t) => {
  const property = thrown(() => lib.unshare('net', { threads: 1 }))
  t.is(property.message, 'The "options.threads" property must be of type string. Received type number (1)')
  const value = thrown(() => lib.unshare('net', { threads: 'some' }))
  t.is(value.message, "The property 'options.threads' must be 'calling' or 'all'. Received 'some'")
  t.is(value.code, 'ERR_INVALID_ARG_VALUE')
  const element = thrown(() => lib.unshare(['net', 'utz']))
  t.is(element.message, "The argument 'flags[1]' is no namespace type; did you mean 'uts'?. Received 'utz'")
})

test('a path beyond ASCII is shown as it is', async (t) => {
  const [error] = await inProcess(
    ({ lib }) => {
      try {
        lib.umount('/nonexistent/ü目😀')
        return []
      } catch (error) {
        return [{ message: error.message, ...error }]
      }
    },
    { with: { wrap: privileged } },
  )
  t.is(error.path, '/nonexistent/ü目😀')
  t.is(error.message, "ENOENT: no such file or directory, umount2 '/nonexistent/ü目😀'")
})

test('without /proc the error is the same, and has no hint that needs it', async (t) => {
  const errors = await inProcess(({ lib }) => {
    lib.unshare('mnt')
    lib.mount(null, '/', null, lib.MS_REC | lib.MS_PRIVATE)
    lib.mount('none', '/proc', 'tmpfs')
    return [
      () => lib.unshare('user'),
      () => lib.unshare('uts', { threads: 'all' }),
      () => lib.setns(0, 'net'),
      () => lib.pivotRoot('/dev/null', '/'),
      () => lib.umount('/nowhere'),
      () => lib.nsGetNstype(0),
    ].map((call) => {
      try {
        return call()
      } catch ({ code, syscall, errno }) {
        return { code, syscall, isNegative: errno < 0 }
      }
    })
  })
  t.deepEqual(errors, [
    { code: 'EINVAL', syscall: 'unshare', isNegative: true },
    { code: 'ENOENT', syscall: 'open', isNegative: true },
    { code: 'EINVAL', syscall: 'setns', isNegative: true },
    { code: 'ENOTDIR', syscall: 'pivot_root', isNegative: true },
    { code: 'ENOENT', syscall: 'umount2', isNegative: true },
    { code: 'ENOTTY', syscall: 'ioctl', isNegative: true },
  ])
})

/** Starts a program as on a kernel that does not know the ioctl: it answers ENOTTY. */
const OLDER = `
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOW (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0)

int main(int argc, char **argv) {
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 3),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + LOW),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NUMBER, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof code / sizeof *code, code };
  if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1) return 126;
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == -1) return 126;
  execvp(argv[1], argv + 1);
  return 127;
}
`

for (const [name, number, type, version] of [
  ['nsGetId', lib.NS_GET_ID, 'uts', '6.18'],
  ['nsGetMntnsId', lib.NS_GET_MNTNS_ID, 'mnt', '6.11'],
  ['nsGetPidInPidns', lib.NS_GET_PID_IN_PIDNS, 'pid', '6.11'],
]) {
  test(`${name} on a kernel without it is ENOTTY, and the hint says since when there is one`, async (t) => {
    if (!available(t, hasCompiler(), 'a C compiler')) return
    const source = OLDER.replace('NUMBER', `${number}u`)
    const { code, hint } = await inProcess(
      ({ lib, fs }, name, type) => {
        try {
          return lib[name](fs.openSync(`/proc/self/ns/${type}`), process.pid)
        } catch ({ code, hint }) {
          return { code, hint }
        }
      },
      { with: { wrap: [compile(t, source)] } },
      name,
      type,
    )
    t.is(code, 'ENOTTY')
    t.is(hint, `The kernel has this ioctl since Linux ${version}`)
  })
}
