// What crossing from JavaScript to the kernel costs: the same system calls from here and from a loop in C, by turns.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Bench } from 'tinybench'
import lib from '../index.js'

const { KCMP_VM, CLONE_SYSVSEM, kcmp, unshare } = lib
const ROUNDS = 9
const GOAL = 300
/** Calls that one measurement takes the mean of, so that the clock's own cost does not count. */
const BATCH = 1000

// In this process: what the kernel does for a call depends on who makes it. The few declarations spare Node's headers.
const C = `
#define _GNU_SOURCE
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef void *value;
int napi_create_function(value, const char *, size_t, value (*)(value, value), void *, value *);
int napi_set_named_property(value, value, const char *, value);

static value compare(value env, value info) {
  long pid = getpid();
  for (int i = 0; i < ${BATCH}; i++) syscall(SYS_kcmp, pid, pid, ${KCMP_VM}, 0L, 0L);
  return NULL;
}

static value share(value env, value info) {
  for (int i = 0; i < ${BATCH}; i++) unshare(0);
  return NULL;
}

value napi_register_module_v1(value env, value exports) {
  value function;
  napi_create_function(env, "kcmp", 4, compare, NULL, &function);
  napi_set_named_property(env, exports, "kcmp", function);
  napi_create_function(env, "unshare", 7, share, NULL, &function);
  napi_set_named_property(env, exports, "unshare", function);
  return exports;
}
`

const { pid } = process
const calls = {
  kcmp: ['kcmp(self, self, KCMP_VM)', () => kcmp(pid, pid, KCMP_VM)],
  unshare: ['unshare(0)', () => unshare(0)],
}

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]
}

/** Nanoseconds for each of the `count` calls that `batch` makes: the median of tinybench's samples. */
async function measured(batch, count, time) {
  const bench = new Bench({ time, warmupTime: time / 5, throws: true })
  bench.add('batch', batch)
  const [{ result }] = await bench.run()
  return (result.latency.p50 * 1e6) / count
}

function repeated(call) {
  return () => {
    for (let i = 0; i < BATCH; i++) call()
  }
}

const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-bench-'))
const figures = {}
try {
  const loop = path.join(directory, 'loop.node')
  writeFileSync(path.join(directory, 'loop.c'), C)
  execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', loop, path.join(directory, 'loop.c')])
  const inC = createRequire(import.meta.url)(loop)
  for (const name of Object.keys(calls)) figures[name] = { js: [], c: [] }
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, [, call]] of Object.entries(calls)) {
      figures[name].js.push(await measured(repeated(call), BATCH, 200))
      figures[name].c.push(await measured(inC[name], BATCH, 200))
    }
  }
} finally {
  rmSync(directory, { recursive: true })
}

console.log(`Node ${process.version}, ${ROUNDS} rounds, medians in nanoseconds per call`)
for (const [name, [title]] of Object.entries(calls)) {
  const { js: here, c: there } = figures[name]
  const [js, c] = [median(here), median(there)]
  // Within a round, as the machine may be slower in one than in another.
  const overhead = median(here.map((time, round) => time - there[round]))
  console.log(
    `${title.padEnd(28)} JavaScript ${js.toFixed(0).padStart(5)}   C ${c.toFixed(0).padStart(5)}   ` +
      `crossing ${overhead.toFixed(0).padStart(5)}   goal < ${GOAL}: ${overhead < GOAL ? 'met' : 'missed'}`,
  )
}

const everyThread = await measured(() => unshare(CLONE_SYSVSEM, { threads: 'all' }), 1, 1000)
console.log(`unshare(CLONE_SYSVSEM, { threads: 'all' })  ${(everyThread / 1e6).toFixed(2)} ms`)
