// What clone() costs: beside a Node that is started to run the same function, and beside a bare fork of the same memory.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const ROUNDS = 21
/**
 * Each is measured in rows, by turns: as what follows its like. The first of a row finds the processor's caches full of what was
 * before it; it is reported apart.
 */
const ROW = 20
const GOALS = { speed: 30, pause: 1.5 }
/** What somebody's environment has a Node do before it runs anything, as loading more certificates, is not what is compared. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NODE_')))
const root = fileURLToPath(new URL('..', import.meta.url))

// fork(2) in this process, as the C library has no part in it: its copy ends at once. V8 keeps its heap from forks, and a
// copy in which JavaScript goes on needs it: it is let through some time before a row of them, as looking for it brings all of
// the memory that a fork walks over into the processor's cache, where it is not when a row of clones begins.
const C = `
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef void *value;
int napi_create_function(value, const char *, size_t, value (*)(value, value), void *, value *);
int napi_set_named_property(value, value, const char *, value);
int napi_create_double(value, double, value *);

static unsigned long starts[65536], ends[65536];

static int find(void) {
  FILE *smaps = fopen("/proc/self/smaps", "r");
  static char line[4096];
  unsigned long start = 0, end = 0;
  int count = 0;
  while (fgets(line, sizeof line, smaps)) {
    unsigned long from, to;
    char rest;
    if (sscanf(line, "%lx-%lx%c", &from, &to, &rest) == 3) start = from, end = to;
    if (!strncmp(line, "VmFlags:", 8) && strstr(line, " dc")) starts[count] = start, ends[count++] = end;
  }
  fclose(smaps);
  return count;
}

static int count;

static value let_through(value env, value info) {
  count = find();
  for (int i = 0; i < count; i++) madvise((void *)starts[i], ends[i] - starts[i], MADV_DOFORK);
  return NULL;
}

static value hold_back(value env, value info) {
  for (int i = 0; i < count; i++) madvise((void *)starts[i], ends[i] - starts[i], MADV_DONTFORK);
  return NULL;
}

static value bare_fork(value env, value info) {
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  int pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(0);
  clock_gettime(CLOCK_MONOTONIC, &end);
  waitpid(pid, NULL, 0);
  value milliseconds;
  napi_create_double(env, (end.tv_sec - begin.tv_sec) * 1e3 + (end.tv_nsec - begin.tv_nsec) / 1e6, &milliseconds);
  return milliseconds;
}

static void define(value env, value exports, const char *name, value (*call)(value, value)) {
  value function;
  napi_create_function(env, name, strlen(name), call, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

value napi_register_module_v1(value env, value exports) {
  define(env, exports, "letThrough", let_through);
  define(env, exports, "holdBack", hold_back);
  define(env, exports, "bareFork", bare_fork);
  return exports;
}
`

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]
const milliseconds = (work) => {
  const start = performance.now()
  work()
  return performance.now() - start
}
/** As in a program that is at work: its event loop has turned, and has used what Node's own loop uses. */
const turn = () => new Promise((resolve) => setImmediate(() => process.nextTick(resolve)))

/** In a process of its own, which has as much memory as is said. */
function measure(kind, megabytes) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [import.meta.filename, kind, megabytes, directory],
    {
      encoding: 'utf8',
    },
  )
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}

async function inside(kind, megabytes, addon) {
  const require = createRequire(import.meta.url)
  const { clone } = require(root)
  const { clonePhases } = require(path.join(root, 'binding.js'))
  const { letThrough, holdBack, bareFork } = require(addon)
  const kept = fill(kind, megabytes)
  const work = () => 0
  const asyncWork = async () => 0
  const script = path.join(path.dirname(addon), 'work.cjs')
  writeFileSync(script, `process.exitCode = (${work})()`)
  const samples = { clone: [], pause: [], asyncClone: [], fork: [], forkToExit: [], node: [] }
  const alone = { clone: [], pause: [], fork: [] }
  const phases = []
  const first = milliseconds(() => clone(work).waitSync())
  const row = async (measureOne) => {
    for (let place = 0; place < ROW; place++) {
      await turn()
      for (const [name, value] of Object.entries(measureOne())) {
        samples[name].push(value)
        if (place === 0) alone[name]?.push(value)
      }
    }
  }
  const clones = () =>
    row(() => {
      const start = performance.now()
      const child = clone(work)
      const pause = performance.now() - start
      phases.push(clonePhases())
      const begin = performance.now()
      child.waitSync()
      return { pause, clone: pause + performance.now() - begin }
    })
  const forks = async () => {
    letThrough()
    await sleep(5)
    await row(() => {
      let fork
      const forkToExit = milliseconds(() => {
        fork = bareFork()
      })
      return { fork, forkToExit }
    })
    holdBack()
  }
  for (let round = 0; round < ROUNDS; round++) {
    // Neither always follows what has other memory.
    for (const measureRow of round % 2 === 0 ? [clones, forks] : [forks, clones]) await measureRow()
    if (kind !== 'nothing') continue
    await row(() => ({ asyncClone: milliseconds(() => clone(asyncWork).waitSync()) }))
    await row(() => ({ node: milliseconds(() => spawnSync(process.execPath, [script], { env })) }))
  }
  const breakdown = phases[0].map(({ name }, index) => [
    name,
    median(phases.map((each) => each[index].nanoseconds / 1e6)),
  ])
  const rss = process.memoryUsage.rss() / 2 ** 20
  const medians = (of) =>
    Object.fromEntries(Object.entries(of).map(([name, values]) => [name, median(values)]))
  console.log(
    JSON.stringify({ rss, kept: kept.length, breakdown, first, ...medians(samples), alone: medians(alone) }),
  )
}

function fill(kind, megabytes) {
  switch (kind) {
    case 'heap':
      return Array.from({ length: megabytes * 1000 }, (_, index) => new Array(125).fill(index))
    case 'Buffers':
      return Array.from({ length: megabytes }, () => Buffer.alloc(1 << 20, 1))
    default:
      return []
  }
}

const [kind, megabytes, addon] = process.argv.slice(2)
const directory = addon ?? mkdtempSync(path.join(tmpdir(), 'linux-clone-bench-'))
const library = path.join(directory, 'fork.node')
if (kind !== undefined) {
  await inside(kind, Number(megabytes), library)
} else {
  try {
    writeFileSync(path.join(directory, 'fork.c'), C)
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', library, path.join(directory, 'fork.c')])
    const fresh = measure('nothing', 0)
    const { node, clone, asyncClone, first, forkToExit, alone } = fresh
    const line = (what, took, goal = '') =>
      console.log(
        `${what.padEnd(46)}${took.toFixed(2).padStart(6)} ms ${(node / took).toFixed(1).padStart(6)} times${goal}`,
      )
    console.log(`Medians of ${ROUNDS} rows of ${ROW}, by turns, Node ${process.version}\n`)
    line('a fresh Node that runs the function, to its exit', node)
    line('clone to exit', clone, ` (goal ${GOALS.speed})`)
    line('  that of an async function', asyncClone)
    line('  the first of each row', alone.clone)
    line('  the first of the process, which loads more', first)
    line('a bare fork to its exit', forkToExit)
    console.log()
    console.log(
      'memory             RSS MiB   pause ms   bare fork ms   ratio (goal 1.5)   first of rows   of it',
    )
    for (const [what, size] of [
      ['nothing', 0],
      ['heap', 200],
      ['Buffers', 1024],
    ]) {
      const measured = what === 'nothing' ? fresh : measure(what, size)
      const { rss, pause, fork, breakdown } = measured
      const parts = breakdown
        .filter(([, took]) => took >= 0.01)
        .map(([name, took]) => `${name} ${took.toFixed(2)}`)
      const columns = [
        `${size || ''} ${what}`.trim().padEnd(16),
        rss.toFixed(0).padStart(9),
        pause.toFixed(2).padStart(10),
        fork.toFixed(2).padStart(14),
        (pause / fork).toFixed(2).padStart(12),
        `${measured.alone.pause.toFixed(2)} / ${measured.alone.fork.toFixed(2)}`.padStart(20),
      ]
      console.log(`${columns.join(' ')}   ${parts.join(', ')}`)
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
