// What spawn costs: beside child_process, unshare and bwrap that child_process starts, and a bare C program that makes the
// same clone and exec and waits: the floor.
import childProcess, { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const ROUNDS = Number(process.env.ROUNDS ?? 200)
// So many at a time: what has slept finds its caches cold, and p99 shows it.
const BLOCK = 10
// Before each sample, everywhere: the kernel's scheduler keeps a process that has just gone to sleep in its queue for a while, and
// with it there a child may run to its end before its parent, which exec has woken, is run again.
const REST_MS = 2
const AT_ONCE = { programs: 1000, running: 64 }
const GOALS = { floor: 1.3, unshare: { small: 2, large: 20 }, flat: 1.2, blocked: 0.2 }
const root = fileURLToPath(new URL('..', import.meta.url))
const PROGRAM = '/bin/true'

// Each line that it reads says what to do: 0 without namespaces, 1 with them, a tree of its own, and a new /proc, 2 with an init
// as pid 1 as well. It writes how long it took until the program had ended, and until clone returned.
const C = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static char stack[65536] __attribute__((aligned(16))), other_stack[65536] __attribute__((aligned(16)));
static char *self;

static int program(void *nothing) {
  char *argv[] = {"true", NULL};
  int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; fd++) dup2(null, fd);
  execve("${PROGRAM}", argv, environ);
  _exit(127);
}

static int child(void *kind) {
  if (*(char *)kind == '0') return program(NULL);
  mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
  mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  if (*(char *)kind == '1') return program(NULL);
  if (clone(program, other_stack + sizeof other_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL) < 0) return 127;
  char *argv[] = {self, "init", NULL};
  execve(self, argv, environ);
  _exit(127);
}

static double since(struct timespec *begin) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (now.tv_sec - begin->tv_sec) * 1e3 + (now.tv_nsec - begin->tv_nsec) / 1e6;
}

int main(int argc, char **argv) {
  char line[16];
  if (argc > 1) {
    int status;
    wait(&status);
    return WEXITSTATUS(status);
  }
  self = argv[0];
  while (fgets(line, sizeof line, stdin)) {
    int status;
    int flags = line[0] != '0' ? CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP : 0;
    struct timespec begin, rest = {0, ${REST_MS} * 1000000};
    nanosleep(&rest, NULL);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD | flags, line);
    double cloned = since(&begin);
    waitpid(pid, &status, 0);
    double ended = since(&begin);
    if (pid < 0 || status != 0) return 1;
    printf("%f %f\\n", ended, cloned);
    fflush(stdout);
  }
}
`

const sorted = (numbers) => numbers.toSorted((a, b) => a - b)
const quantile = (numbers, part) => sorted(numbers)[Math.floor(numbers.length * part)]
const median = (numbers) => quantile(numbers, 0.5)

const UNSHARE = 'unshare -muipC -f --mount-proc'
const BWRAP = [
  'bwrap',
  '--unshare-uts',
  '--unshare-ipc',
  '--unshare-pid',
  '--unshare-cgroup',
  '--dev-bind',
  '/',
  '/',
  '--proc',
  '/proc',
  PROGRAM,
]
const hasBwrap = spawnSync('bwrap', ['--version']).status === 0
const unshare = ['mnt', 'uts', 'ipc', 'pid', 'cgroup']

// Each of the two in a process of its own: fork(2) leaves all pages of its process to be copied when they are written next, and
// whatever comes after it would pay for that. The floor, of each kind, is asked by the first.
const CASES = {
  'linux-clone': {
    floor: 0,
    spawn: [[PROGRAM]],
    'floor, namespaces, init: false': 1,
    'spawn, namespaces, init: false': [[PROGRAM], { unshare, init: false }],
    'floor, namespaces': 2,
    'spawn, namespaces': [[PROGRAM], { unshare }],
  },
  'node:child_process': {
    child_process: [[PROGRAM]],
    [UNSHARE]: [[...UNSHARE.split(' '), PROGRAM]],
    ...(hasBwrap ? { bwrap: [BWRAP] } : {}),
  },
}

function started(spawn, [words, options]) {
  return new Promise((resolve, reject) => {
    const start = performance.now()
    const child = spawn(words[0], words.slice(1), { stdio: 'ignore', ...options })
    const called = performance.now() - start
    child.once('exit', (code) => {
      const took = performance.now() - start
      if (code === 0) resolve([took, called])
      else reject(new Error(`${words.join(' ')} ended with ${code}`))
    })
    child.once('error', reject)
  })
}

/** The process that starts programs, when it is asked to. */
function serve(name, megabytes, questions, answers) {
  const require = createRequire(import.meta.url)
  const { spawn } = require(name === 'linux-clone' ? root : name)
  const [input, output] = [openSync(questions, 'r+'), openSync(answers, 'r+')]
  const kept = Array.from({ length: megabytes }, () => Buffer.alloc(1 << 20, 1))
  const answer = Buffer.alloc(64)
  // Whoever waits for it sleeps.
  const atFloor = (kind) => {
    writeSync(input, `${kind}\n`)
    return answer.toString('latin1', 0, readSync(output, answer)).split(' ').map(Number)
  }
  const run = async (what) => {
    if (typeof what === 'number') return atFloor(what)
    await sleep(REST_MS)
    return started(spawn, what)
  }
  process.on('message', async (asked) => {
    if (asked === 'many') {
      process.send({ throughput: await many(() => started(spawn, [[PROGRAM]])), left: left() })
      return
    }
    const samples = Object.fromEntries(Object.keys(CASES[name]).map((each) => [each, []]))
    for (let round = 0; round < asked; round += 1) {
      for (const [each, what] of Object.entries(CASES[name])) samples[each].push(await run(what))
    }
    process.send(samples)
  })
  process.on('disconnect', () => kept.splice(0))
  process.send('ready')
}

/** How many a second, with so many at once. */
async function many(run) {
  const start = performance.now()
  let rest = AT_ONCE.programs
  const line = async () => {
    while (rest > 0) {
      rest -= 1
      await run()
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE.running }, line))
  return (AT_ONCE.programs / (performance.now() - start)) * 1000
}

/** What nobody has closed or reaped. */
function left() {
  const children = readFileSync('/proc/thread-self/children', 'utf8').trim()
  const pidfds = readdirSync('/proc/self/fdinfo').filter((fd) => {
    try {
      return /^Pid:/m.test(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))
    } catch {
      // The directory's own.
      return false
    }
  })
  return `children [${children}], pidfds ${pidfds.length}`
}

/** A process that starts programs, asked through its channel. */
async function server(name, megabytes, pipes) {
  const child = childProcess.fork(import.meta.filename, [name, String(megabytes), ...pipes])
  // One at a time: under real-time priority the garbage collector's threads would have no processor left.
  await once(child, 'message')
  let pending
  child.on('message', (answer) => pending.resolve(answer))
  child.on('exit', (code) => pending?.reject(new Error(`what starts programs by ${name} ended with ${code}`)))
  return {
    ask: (what) =>
      new Promise((resolve, reject) => {
        pending = { resolve, reject }
        child.send(what)
      }),
    async end() {
      const exit = once(child, 'exit')
      child.disconnect()
      await exit
    },
  }
}

async function measure(program, pipes, megabytes) {
  const servers = []
  for (const name of Object.keys(CASES)) servers.push(await server(name, megabytes, pipes))
  // Its input ends with the last process that may write there.
  const script = 'exec "$0" < "$1" > "$2"'
  const floor = childProcess.spawn('sh', ['-c', script, program, ...pipes], { stdio: 'inherit' })
  const samples = {}
  for (let done = 0; done < ROUNDS; done += BLOCK) {
    for (const { ask } of servers) {
      for (const [name, block] of Object.entries(await ask(BLOCK))) {
        samples[name] ??= { took: [], called: [] }
        samples[name].took.push(...block.map(([took]) => took))
        samples[name].called.push(...block.map(([, called]) => called))
      }
    }
  }
  const ended = {}
  for (const [index, name] of Object.keys(CASES).entries()) {
    // A thousand copies of so large a process take half a minute.
    if (name === 'linux-clone' || megabytes === 0) ended[name] = await servers[index].ask('many')
  }
  const exit = once(floor, 'exit')
  for (const { end } of servers) await end()
  floor.kill()
  await exit
  return { samples, ended }
}

/** What does the same: unshare has no init. */
function floorOf(name) {
  if (name.includes('init: false') || name === UNSHARE) return 'floor, namespaces, init: false'
  return name.includes('namespaces') || name === 'bwrap' ? 'floor, namespaces' : 'floor'
}

function report(what, { samples, ended }) {
  console.log(`\n${what}: milliseconds from the call to the exit of ${PROGRAM}, and how long the call blocks`)
  console.log(`${''.padEnd(34)}    p50    p99   call   to the floor`)
  for (const [name, { took, called }] of Object.entries(samples)) {
    const floor = samples[floorOf(name)]
    const columns = [median(took), quantile(took, 0.99), median(called)].map((number) =>
      number.toFixed(2).padStart(6),
    )
    console.log(
      `${name.padEnd(34)} ${columns.join(' ')} ${(median(took) / median(floor.took)).toFixed(2).padStart(8)}`,
    )
  }
  for (const [name, { throughput, left }] of Object.entries(ended)) {
    const rate = `${name} ${throughput.toFixed(0)} a second`
    console.log(`${AT_ONCE.programs} programs, ${AT_ONCE.running} at once: ${rate}; left afterwards: ${left}`)
  }
}

const [name, megabytes, ...pipes] = process.argv.slice(2)
if (name !== undefined) {
  serve(name, Number(megabytes), ...pipes)
} else {
  const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-bench-'))
  try {
    const program = path.join(directory, 'floor')
    writeFileSync(`${program}.c`, C)
    execFileSync('cc', ['-O2', '-static', '-o', program, `${program}.c`])
    console.log(`${ROUNDS} rounds, by turns, Node ${process.version}`)
    const made = ['questions', 'answers'].map((each) => path.join(directory, each))
    execFileSync('mkfifo', made)
    const small = await measure(program, made, 0)
    const large = await measure(program, made, 1024)
    report('Small parent', small)
    report('Parent with 1 GiB resident', large)
    const p50 = (run, name) => median(run.samples[name].took)
    const namespaces = 'spawn, namespaces'
    const line = (what, ratio, goal) =>
      console.log(`${what.padEnd(72)} ${ratio.toFixed(2).padStart(6)} (goal ${goal})`)
    console.log()
    for (const [what, name] of [
      ['to the floor', 'spawn'],
      ['to the floor, with namespaces', 'spawn, namespaces, init: false'],
      ['to the floor, with namespaces and init', namespaces],
    ]) {
      line(what, p50(small, name) / p50(small, floorOf(name)), `<= ${GOALS.floor}`)
    }
    line(
      'times faster than unshare, small',
      p50(small, UNSHARE) / p50(small, namespaces),
      `>= ${GOALS.unshare.small}`,
    )
    line(
      'times faster than unshare, large',
      p50(large, UNSHARE) / p50(large, namespaces),
      `>= ${GOALS.unshare.large}`,
    )
    line('large to small', p50(large, namespaces) / p50(small, namespaces), `<= ${GOALS.flat}`)
    line('times faster than child_process, small', p50(small, 'child_process') / p50(small, 'spawn'), '> 1')
    const call = (name) => median(small.samples[name].called)
    line(
      "milliseconds that the call blocks beyond the floor's clone",
      call(namespaces) - call('floor, namespaces'),
      `<= ${GOALS.blocked}`,
    )
    line('the same without namespaces', call('spawn') - call('floor'), `<= ${GOALS.blocked}`)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
