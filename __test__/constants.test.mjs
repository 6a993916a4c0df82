import { spawnSync } from 'node:child_process'
import os from 'node:os'
import test from 'ava'
import * as exported from '../index.js'
import { compile, hasCompiler } from './helpers/machine.mjs'
import { available, run } from './helpers/process.mjs'

const { constants } = exported
const named = new Map(Object.entries(exported))
const names = Object.keys(constants)
const ofUmount = names.filter((name) => /^(MNT|UMOUNT)_/.test(name))

// The kernel's own definitions, for headers that are older than they are.
const YOUNGER = `
#ifndef NSIO
#define NSIO 0xb7
#endif
#ifndef NS_GET_MNTNS_ID
#define NS_GET_MNTNS_ID _IOR(NSIO, 0x5, __u64)
#endif
#ifndef NS_GET_PID_FROM_PIDNS
#define NS_GET_PID_FROM_PIDNS _IOR(NSIO, 0x6, int)
#endif
#ifndef NS_GET_TGID_FROM_PIDNS
#define NS_GET_TGID_FROM_PIDNS _IOR(NSIO, 0x7, int)
#endif
#ifndef NS_GET_PID_IN_PIDNS
#define NS_GET_PID_IN_PIDNS _IOR(NSIO, 0x8, int)
#endif
#ifndef NS_GET_TGID_IN_PIDNS
#define NS_GET_TGID_IN_PIDNS _IOR(NSIO, 0x9, int)
#endif
#ifndef NS_GET_ID
#define NS_GET_ID _IOR(NSIO, 13, __u64)
#endif
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#ifndef PIDFD_SIGNAL_THREAD
#define PIDFD_SIGNAL_THREAD (1UL << 0)
#endif
#ifndef PIDFD_SIGNAL_THREAD_GROUP
#define PIDFD_SIGNAL_THREAD_GROUP (1UL << 1)
#endif
#ifndef PIDFD_SIGNAL_PROCESS_GROUP
#define PIDFD_SIGNAL_PROCESS_GROUP (1UL << 2)
#endif
#ifndef PIDFD_SELF_THREAD
#define PIDFD_SELF_THREAD -10000
#endif
// Linux 6.17 has replaced this number, which no later kernel takes.
#if defined(PIDFD_SELF_THREAD_GROUP) && PIDFD_SELF_THREAD_GROUP == -20000
#undef PIDFD_SELF_THREAD_GROUP
#endif
#ifndef PIDFD_SELF_THREAD_GROUP
#define PIDFD_SELF_THREAD_GROUP -10001
#endif
`

const KERNEL = `#define _GNU_SOURCE
#include <signal.h>
#include <linux/fs.h>
#include <linux/ioctl.h>
#include <linux/kcmp.h>
#include <linux/mount.h>
#include <linux/nsfs.h>
#include <linux/pidfd.h>
#include <linux/sched.h>
#include <linux/types.h>
${YOUNGER}
// The name that Linux::Clone gives it.
#define NS_OWNER_UID NS_GET_OWNER_UID
`

// linux/mount.h and this one cannot be included together everywhere.
const LIBC = '#include <sys/mount.h>\n'

async function valuesIn(t, headers, wanted) {
  // The MS_* are the bits of an unsigned long, though the header shifts an int for them.
  const lines = wanted.map((name) => {
    const value = name.startsWith('MS_') ? `(unsigned int)(${name})` : name
    return `printf("${name} %lld\\n", (long long)(${value}));`
  })
  const program = compile(
    t,
    `${headers}\n#include <stdio.h>\nint main(void) { ${lines.join('\n')} return 0; }\n`,
  )
  const printed = (await run(program)).trimEnd().split('\n')
  return Object.fromEntries(
    printed.map((line) => line.split(' ')).map(([name, value]) => [name, Number(value)]),
  )
}

/** The names that the headers define as macros. */
function macros(headers) {
  const { stdout, stderr, status } = spawnSync('cc', ['-E', '-dM', '-'], { input: headers, encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  return [...stdout.matchAll(/^#define (\w+) /gm)].map(([, name]) => name)
}

test("every constant has the value of the kernel's headers", async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler and the headers of the kernel')) return
  const others = names.filter((name) => !ofUmount.includes(name))
  t.deepEqual(
    { ...(await valuesIn(t, KERNEL, others)), ...(await valuesIn(t, LIBC, ofUmount)) },
    { ...constants },
  )
})

test('no CLONE_*, MS_*, KCMP_* or flag of umount2 of the headers is missing', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler and the headers of the kernel')) return
  const wanted = [...macros(KERNEL), ...macros(LIBC)].filter(
    (name) =>
      /^(CLONE|MS|MNT|UMOUNT)_/.test(name) &&
      !/^(CLONE_ARGS_SIZE_|MNT_ID_|MNT_NS_INFO_SIZE_|UMOUNT_UNUSED)/.test(name),
  )
  t.true(wanted.includes('CLONE_NEWNS') && wanted.includes('MS_BIND'))
  t.deepEqual(
    wanted.filter((name) => !names.includes(name)),
    [],
  )
  const { KCMP_TYPES } = await valuesIn(t, KERNEL, ['KCMP_TYPES'])
  t.is(names.filter((name) => name.startsWith('KCMP_')).length, KCMP_TYPES)
})

test('every constant is an export of its own, with the same value', (t) => {
  t.true(names.length > 100)
  for (const name of names) t.is(named.get(name), constants[name], name)
})

test('every export that is a number is among the constants', (t) => {
  const numbers = [...named.keys()].filter((name) => typeof named.get(name) === 'number')
  t.deepEqual(numbers.sort(), [...names].sort())
})

test('constants cannot be changed', (t) => {
  t.true(Object.isFrozen(constants))
  t.throws(
    () => {
      constants.CLONE_NEWNET = 0
    },
    { instanceOf: TypeError },
  )
})

test('NS_OWNER_UID is another name of NS_GET_OWNER_UID', (t) => {
  t.is(exported.NS_OWNER_UID, exported.NS_GET_OWNER_UID)
})

test('signals have the numbers that Node has', (t) => {
  const signals = names.filter((name) => /^SIG[A-Z]/.test(name))
  t.is(signals.length, 31)
  for (const name of signals) t.is(constants[name], os.constants.signals[name], name)
})
