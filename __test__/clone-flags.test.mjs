import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { cloning } from './helpers/cloning.mjs'
import {
  compile,
  hasCompiler,
  hasStrace,
  kernelSince,
  pageSize,
  strace,
  temporaryDirectory,
} from './helpers/machine.mjs'
import { available, isRoot, privileged, run } from './helpers/process.mjs'

const library = fileURLToPath(new URL('../index.js', import.meta.url))

const { signals } = os.constants
/** The process has a parent of its own, which reaps whatever children it gets. */
const adopted = [...privileged, 'sh', '-c', '"$@"; exit $?', 'sh']
const inPidNamespace = [...(isRoot ? ['unshare'] : privileged), '--pid', '--fork', '--kill-child']

/** Traces a program, and what it makes with CLONE_PTRACE. */
const TRACING = `
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  pid_t traced = fork(), pid;
  int status;
  if (traced == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    execvp(argv[1], argv + 1);
    return 127;
  }
  while ((pid = waitpid(-1, &status, __WALL)) != -1) {
    if (WIFSTOPPED(status)) {
      int signal = WSTOPSIG(status);
      ptrace(PTRACE_CONT, pid, 0, signal == SIGTRAP || signal == SIGSTOP ? 0 : signal);
    } else if (pid == traced) return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
  }
  return 125;
}
`

test('without options the child shares nothing, and its end sends SIGCHLD', async (t) => {
  const { same, signal } = await cloning(({ lib, fs, during }) =>
    during(undefined, ({ pid }) => {
      const types = ['KCMP_VM', 'KCMP_FILES', 'KCMP_FS', 'KCMP_SIGHAND']
      return {
        same: types.filter((type) => lib.kcmp(process.pid, pid, lib[type]) === 0),
        signal: Number(fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')[35]),
      }
    }),
  )
  t.deepEqual(same, [])
  t.is(signal, signals.SIGCHLD)
})

test('CLONE_FS: chdir and umask in the child are those of the parent', async (t) => {
  const directory = temporaryDirectory(t)
  const [own, shared] = await cloning(async ({ lib, fs, ask, status }, directory) => {
    const looks = []
    process.umask(0o022)
    for (const flags of [0, lib.CLONE_FS]) {
      const change = () => {
        process.chdir(directory)
        process.umask(0o027)
      }
      const { code } = await ask(change, { flags })
      looks.push({ code, cwd: fs.readlinkSync('/proc/self/cwd'), umask: status('self', 'Umask') })
    }
    return looks
  }, directory)
  t.deepEqual(own, { code: 0, cwd: process.cwd(), umask: '0022' })
  t.deepEqual(shared, { code: 0, cwd: directory, umask: '0027' })
})

test('CLONE_FS with a new mount namespace is EINVAL, and the hint says why', async (t) => {
  const error = await cloning(({ lib, refused }) => refused({ flags: lib.CLONE_FS | lib.CLONE_NEWNS }))
  t.like(error, { code: 'EINVAL', syscall: 'clone3', leaves: [], next: 42 })
  t.regex(error.hint, /CLONE_FS/)
})

test('CLONE_PARENT: the child is a sibling, and wait tells its status where the kernel does', async (t) => {
  const result = await cloning(
    async ({ lib, fs, status, during }) => {
      const flags = lib.CLONE_PARENT
      const parents = await during({ flags }, ({ pid }) => [status(pid, 'PPid'), process.ppid])
      const child = lib.clone(() => 7, { flags })
      const pause = new Int32Array(new SharedArrayBuffer(4))
      // Whose child it is has waited for it.
      while (fs.existsSync(`/proc/${child.pid}`)) Atomics.wait(pause, 0, 0, 1)
      const ended = child.waitSync()
      const killed = lib.clone(() => process.kill(process.pid, 'SIGKILL'), { flags })
      return { parents, ended, killed: await killed.wait(), own: process.pid }
    },
    { with: { wrap: adopted } },
  )
  const [parent, ours] = result.parents
  t.is(Number(parent), ours)
  t.not(ours, result.own)
  const told = kernelSince('6.15')
  t.deepEqual(result.ended, { code: told ? 7 : null, signal: null })
  t.is(result.killed.code, null)
  t.true([null, 'SIGKILL'].includes(result.killed.signal))
})

test('CLONE_PARENT: its end is told also while nobody reaps it', async (t) => {
  // It waits for its own child alone.
  const act = async ({ lib, fs }) => {
    const child = lib.clone(() => 7, { flags: lib.CLONE_PARENT })
    const waited = await child.wait()
    const { 2: state } = fs.readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ')
    return { waited, again: child.waitSync(), state }
  }
  const { waited, again, state } = await cloning(act, { with: { wrap: ['unshare', '--fork'] } })
  t.is(state, 'Z')
  t.is(waited.signal, null)
  t.true([null, 7].includes(waited.code))
  t.deepEqual(again, waited)
})

test('CLONE_PARENT from pid 1 of a pid namespace is EINVAL, and the hint says why', async (t) => {
  const error = await cloning(({ lib, refused }) => refused({ flags: lib.CLONE_PARENT }), {
    with: { wrap: inPidNamespace },
  })
  t.like(error, { code: 'EINVAL', step: 'clone', leaves: [], next: 42 })
  t.regex(error.hint, /siblings/)
})

const isTraced = (wrap, flags) =>
  cloning(
    ({ lib, status, during }, flags) =>
      during({ flags: flags === undefined ? 0 : lib[flags] }, ({ pid }) => {
        const [own, child] = ['self', pid].map((pid) => status(pid, 'TracerPid'))
        if (own === '0') throw new Error('nobody traces the parent')
        return own === child
      }),
    { with: { wrap: [...wrap, ...privileged] } },
    flags,
  )

test('CLONE_UNTRACED: who traces all children does not trace this one', async (t) => {
  if (!available(t, hasStrace(), 'strace')) return
  t.true(await isTraced(strace('-e', 'trace=none'), 'CLONE_IO'))
  t.false(await isTraced(strace('-e', 'trace=none'), 'CLONE_UNTRACED'))
})

test('CLONE_PTRACE: who traces the parent alone traces this child too', async (t) => {
  if (!available(t, hasCompiler(), 'a C compiler')) return
  const tracer = compile(t, TRACING)
  t.false(await isTraced([tracer], 'CLONE_IO'))
  t.true(await isTraced([tracer], 'CLONE_PTRACE'))
})

test('CLONE_IO and CLONE_SYSVSEM: the child shares the I/O context, and the list of semaphores', async (t) => {
  const shared = await cloning(async ({ lib, cp, during }, library) => {
    cp.execFileSync('ionice', ['-c', '2', '-n', '7', '-p', `${process.pid}`])
    const compare = (type) => (pids) => {
      const script = `const lib = require(${JSON.stringify(library)}); console.log(lib.kcmp(${pids}, lib.${type}))`
      return cp.execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }).trim() === '0'
    }
    const seen = []
    // A process has a list of semaphores once it has shared it.
    for (const [flag, type] of [
      ['CLONE_IO', 'KCMP_IO'],
      ['CLONE_SYSVSEM', 'KCMP_SYSVSEM'],
    ]) {
      const looks = []
      for (const flags of [lib[flag], 0])
        looks.push(await during({ flags }, ({ pid }) => compare(type)([process.pid, pid])))
      seen.push([flag, ...looks])
    }
    return seen
  }, library)
  t.deepEqual(shared, [
    ['CLONE_IO', true, false],
    ['CLONE_SYSVSEM', true, false],
  ])
})

test('CLONE_CLEAR_SIGHAND: nothing is caught but what the runtime needs, and that works', async (t) => {
  const [inherited, cleared] = await cloning(async ({ lib, fs, cp, ask }) => {
    const look = async () => {
      const caught = /^SigCgt:\s*(.*)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]
      const child = cp.spawn('sh', ['-c', 'exit 9'])
      const code = await new Promise((resolve) => child.once('exit', resolve))
      // The C library does this with a signal to every thread.
      process.setgid(process.getgid())
      const again = lib.clone(() => 7)
      return { caught, codes: [code, cp.spawnSync('sh', ['-c', 'exit 8']).status, again.waitSync().code] }
    }
    return [await ask(look), await ask(look, { flags: lib.CLONE_CLEAR_SIGHAND })]
  })
  const catches = ({ value }, signal) => (BigInt(`0x${value.caught}`) >> BigInt(signals[signal] - 1)) & 1n
  for (const child of [inherited, cleared]) {
    t.like(child, { code: 0, signal: null })
    t.deepEqual(child.value?.codes, [9, 8, 7])
  }
  // Node's own, which restore the terminal.
  for (const signal of ['SIGINT', 'SIGTERM']) {
    t.is(catches(inherited, signal), 1n, signal)
    t.is(catches(cleared, signal), 0n, signal)
  }
})

for (const [exitSignal, number] of [
  ['SIGUSR2', signals.SIGUSR2],
  [signals.SIGCHLD, signals.SIGCHLD],
  [0, 0],
]) {
  test(`exitSignal ${exitSignal} is what the parent gets, and the child can be waited for`, async (t) => {
    const { sent, came, code } = await cloning(async ({ fs, until, ask, during }, exitSignal) => {
      const came = []
      for (const signal of ['SIGUSR2', 'SIGCHLD', 'SIGURG']) process.on(signal, () => came.push(signal))
      const field = ({ pid }) =>
        Number(fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')[35])
      const sent = await during({ exitSignal }, field)
      const { code } = await ask(() => 0, { exitSignal })
      // Signals come in order of their numbers, one after the other: this is the last.
      process.kill(process.pid, 'SIGURG')
      await until(() => came.includes('SIGURG'))
      return { sent, code, came: [...new Set(came)].filter((signal) => signal !== 'SIGURG') }
    }, exitSignal)
    t.is(sent, number)
    t.is(code, 0)
    t.deepEqual(came, number === 0 ? [] : [exitSignal === 'SIGUSR2' ? 'SIGUSR2' : 'SIGCHLD'])
  })
}

test('parentTid and childTid: the kernel writes the pid, each into its own process', async (t) => {
  const result = await cloning(async ({ ask }) => {
    const [parentTid, childTid] = [new Int32Array(2).fill(-5), new Int32Array(2).fill(-6)]
    const look = () => ({ parentTid: [...parentTid], childTid: [...childTid], pid: process.pid })
    const { pid, value } = await ask(look, { parentTid, childTid })
    return { pid, child: value, parentTid: [...parentTid], childTid: [...childTid] }
  })
  const { pid, child } = result
  t.is(child.pid, pid)
  t.deepEqual(child.childTid, [pid, -6])
  t.deepEqual(result.parentTid, [pid, -5])
  t.deepEqual(result.childTid, [-6, -6])
})

/** What a process that cloned asked the kernel for, call by call, for each of its threads and its child. */
async function calls(t, options) {
  const directory = temporaryDirectory(t)
  const file = path.join(directory, 'calls')
  const source = `require(${JSON.stringify(library)}).clone(() => 7, ${options}).waitSync()`
  const trace = 'trace=mmap,mprotect,munmap,clone3'
  await run(
    'strace',
    '-ff',
    '-X',
    'raw',
    '-e',
    trace,
    '-e',
    'signal=none',
    '-o',
    file,
    process.execPath,
    '-e',
    source,
  )
  const threads = readdirSync(directory).map((name) =>
    readFileSync(path.join(directory, name), 'utf8').split('\n'),
  )
  const isClone = (line) => /^clone3.*pidfd=0x/.test(line)
  const parent = threads.find((lines) => lines.some(isClone))
  const at = parent.findIndex(isClone)
  const [, stack, size, pid] = /stack=(\w+), stack_size=(\w+).* = (\d+)$/.exec(parent[at])
  const child = readFileSync(`${file}.${pid}`, 'utf8').split('\n')
  return {
    before: parent.slice(0, at),
    after: parent.slice(at),
    child,
    stack: Number(stack),
    size: Number(size),
  }
}

const pages = (size) => Math.ceil(size / pageSize) * pageSize

for (const [options, size] of [
  ['', 4 << 20],
  ['{}', 4 << 20],
  ['{ stackSize: 0 }', 4 << 20],
  ['{ stackSize: 4096 }', 4096],
  ['{ stackSize: 4097 }', 4097],
  ['{ stackSize: 123457 }', 123_457],
  ['{ stackSize: 64 << 20 }', 64 << 20],
]) {
  test(`The stack with ${options || 'no options'} is mapped with a guard page below, and unmapped again`, async (t) => {
    if (!available(t, hasStrace(), 'strace')) return
    const { before, after, child, stack, size: told } = await calls(t, options)
    t.is(told, pages(size))
    const [bottom, length] = [stack - pageSize, told + pageSize]
    const has = (lines, pattern) => lines.some((line) => new RegExp(pattern).test(line))
    const address = `0x${bottom.toString(16)}`
    t.true(has(before, `^mmap\\(.*, ${length}, .*\\) += ${address}$`))
    // PROT_NONE is 0.
    t.true(has(before, `^mprotect\\(${address}, ${pageSize}, 0(x0)?\\) += 0$`))
    for (const lines of [after, child]) t.true(has(lines, `^munmap\\(${address}, ${length}\\) += 0$`))
  })
}

test('A stack that is larger than the memory that there is is ENOMEM, and the hint names stackSize', async (t) => {
  const error = await cloning(({ refused }) => refused({ stackSize: 2 ** 52 }))
  t.like(error, { code: 'ENOMEM', syscall: 'mmap', step: 'clone', leaves: [], next: 42 })
  t.regex(error.hint, /stackSize/)
})

/** A library whose loading makes clone3 fail, for the thread that has loaded it, and those that this makes. */
const REFUSING = `
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

__attribute__((constructor)) static void refuse(void) {
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone3, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ANSWER),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof code / sizeof *code, code };
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
`

for (const errno of ['ENOSYS', 'EPERM']) {
  test(`Where clone3 is ${errno}, clone(2) makes what it can, and the rest is refused`, async (t) => {
    if (!available(t, hasCompiler(), 'a C compiler')) return
    const filter = path.join(temporaryDirectory(t), 'refusing.so')
    const words = ['-x', 'c', '-shared', '-fPIC', `-DANSWER=${os.constants.errno[errno]}`, '-o', filter, '-']
    t.is(spawnSync('cc', words, { input: REFUSING }).status, 0)
    const result = await cloning(async ({ lib, ask, refused, status }, filter) => {
      // What takes a thread to be found out is found out here: the C library makes none after an EPERM.
      lib.clone(() => {}).waitSync()
      try {
        process.dlopen({ exports: {} }, filter)
      } catch {
        // It is no addon.
      }
      process.on('SIGUSR1', () => {})
      const [parentTid, childTid] = [new Int32Array(1), new Int32Array(1)]
      const namespaces = { flags: ['uts', 'pid', 'user'], uidMappings: 'root' }
      const look = async () => {
        await new Promise((resolve) => setTimeout(resolve, 5))
        return { pid: process.pid, childTid: childTid[0], uid: process.getuid() }
      }
      return {
        seccomp: status('self', 'Seccomp'),
        made: await ask(look, { ...namespaces, exitSignal: 'SIGUSR1', parentTid, childTid }),
        parentTid: parentTid[0],
        shared: lib.clone(() => 6, { flags: lib.CLONE_FILES | lib.CLONE_FS, stackSize: 4096 }).waitSync(),
        refusals: [
          { setTid: [77777] },
          { cgroup: 0 },
          { flags: 'time' },
          { flags: lib.CLONE_CLEAR_SIGHAND },
        ].map((options) => refused(options)),
      }
    }, filter)
    t.is(result.seccomp, '2')
    t.like(result.made, { code: 0, value: { pid: 1, childTid: 1, uid: 0 } })
    t.is(result.parentTid, result.made.pid)
    t.deepEqual(result.shared, { code: 6, signal: null })
    for (const error of result.refusals) {
      t.like(error, { code: errno, syscall: 'clone3', step: 'clone', leaves: [], next: 42 })
    }
  })
}
