// What Namespace.run costs: beside a Node that is started under unshare(1), and beside a C program that makes the same clone and
// the same mounts; and how fast a large result comes.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const ROUNDS = 101
/** Of the rounds one in so many starts a Node, which takes long. */
const NODE_EVERY = 5
const GOALS = { speed: 20, milliseconds: 6, throughput: 500 }
const MEGABYTES = 100
/** What the C program has resident, as Node has. */
const RESIDENT = 50

const { Namespace } = createRequire(import.meta.url)(fileURLToPath(new URL('..', import.meta.url)))

// For each line of input one child: clone(2) copies the memory, as clone in Perl does, and the child mounts and exits.
const C = `
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(void) {
  size_t size = ${RESIDENT} << 20;
  memset(malloc(size), 1, size);
  char line[16];
  while (fgets(line, sizeof line, stdin)) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD;
    int pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid == 0) {
      if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) _exit(1);
      if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) _exit(2);
      if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, NULL)) _exit(3);
      _exit(0);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) return 1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%f\\n", (end.tv_sec - begin.tv_sec) * 1e3 + (end.tv_nsec - begin.tv_nsec) / 1e6);
    fflush(stdout);
  }
  return 0;
}
`

const NODE = [
  ...['--mount', '--pid', '--ipc', '--uts', '--fork', '--mount-proc'],
  ...['sh', '-c', 'mount -t tmpfs tmpfs /tmp && exec "$0" -p 1', process.execPath],
]

const quantile = (numbers, share) =>
  numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) * share)]

const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-bench-'))
try {
  const program = path.join(directory, 'clone')
  writeFileSync(`${program}.c`, C)
  execFileSync('cc', ['-O2', '-o', program, `${program}.c`])
  const floor = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface(floor.stdout)[Symbol.asyncIterator]()
  const namespace = new Namespace({ privateTmp: true, privatePid: true, privateIpc: true, privateUts: true })
  const samples = { run: [], node: [], clone: [] }
  await namespace.run(() => 1)
  for (let round = 0; round < ROUNDS; round++) {
    await sleep(5)
    const start = performance.now()
    await namespace.run(() => 1)
    samples.run.push(performance.now() - start)
    await sleep(5)
    floor.stdin.write('\n')
    samples.clone.push(Number((await lines.next()).value))
    if (round % NODE_EVERY !== 0) continue
    const begin = performance.now()
    const { status, stdout } = spawnSync('unshare', NODE, { encoding: 'utf8' })
    samples.node.push(performance.now() - begin)
    if (status !== 0 || stdout !== '1\n') throw new Error(`unshare ended with ${status}, ${stdout}`)
  }
  floor.stdin.end()
  await once(floor, 'exit')

  const rss = (process.memoryUsage.rss() / 2 ** 20).toFixed()
  console.log(`${ROUNDS} rounds, by turns, Node ${process.version} with ${rss} MiB, C with ${RESIDENT} MiB\n`)
  console.log('                                         p50 ms     p99 ms')
  const show = (what, numbers) => {
    const columns = [0.5, 0.99].map((share) => quantile(numbers, share).toFixed(2).padStart(10))
    console.log(`${what.padEnd(36)} ${columns.join(' ')}`)
  }
  show('run(() => 1): tmp, pid, ipc, uts', samples.run)
  show('unshare … node -p 1, the same', samples.node)
  show('clone, the same mounts, exit, in C', samples.clone)
  const [run, node, clone] = [samples.run, samples.node, samples.clone].map((all) => quantile(all, 0.5))
  console.log(`\n${(node / run).toFixed(1)} times as fast as Node under unshare (goal ${GOALS.speed})`)
  console.log(`${(run - clone).toFixed(2)} ms more than the clone in C (goal ${GOALS.milliseconds})`)

  const speeds = []
  for (let round = 0; round < 11; round++) {
    const result = await namespace.run(() => {
      const bytes = Buffer.alloc(MEGABYTES << 20, 1)
      return { bytes, begin: process.hrtime.bigint() }
    })
    const milliseconds = Number(process.hrtime.bigint() - result.begin) / 1e6
    speeds.push((result.bytes.length / 2 ** 20 / milliseconds) * 1000)
  }
  console.log(
    `${quantile(speeds, 0.5).toFixed()} MB/s for a Buffer of ${MEGABYTES} MB, from when it is there to when run resolves (goal ${GOALS.throughput})`,
  )
} finally {
  rmSync(directory, { recursive: true, force: true })
}
