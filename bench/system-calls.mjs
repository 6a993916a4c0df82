// What crossing from JavaScript to the kernel costs: the same system calls from here and from a loop in C, by turns.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Bench } from 'tinybench'
import lib from '../index.js'

const { KCMP_VM, CLONE_SYSVSEM, kcmp, unshare } = lib
const ROUNDS = 9
const GOAL = 300
/** Calls that one measurement takes the mean of, so that the clock's own cost does not count. */
const BATCH = 1000
const BATCHES = 200

const C = `
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  long pid = getpid();
  int compares = argc > 1 && !strcmp(argv[1], "kcmp");
  struct timespec start, end;
  for (int batch = 0; batch < ${BATCHES}; batch++) {
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < ${BATCH}; i++) {
      if ((compares ? syscall(SYS_kcmp, pid, pid, ${KCMP_VM}, 0, 0) : unshare(0)) != 0) return 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%f\\n", ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / ${BATCH});
  }
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

/** Nanoseconds for one of `count` calls: the median of tinybench's samples. */
async function measured(call, count, time) {
  const bench = new Bench({ time, warmupTime: time / 5, throws: true })
  bench.add('call', () => {
    for (let i = 0; i < count; i++) call()
  })
  const [{ result }] = await bench.run()
  return (result.latency.p50 * 1e6) / count
}

const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-bench-'))
const figures = {}
try {
  const program = path.join(directory, 'loop')
  writeFileSync(`${program}.c`, C)
  execFileSync('cc', ['-O2', '-o', program, `${program}.c`])
  for (const name of Object.keys(calls)) figures[name] = { js: [], c: [] }
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, [, call]] of Object.entries(calls)) {
      figures[name].js.push(await measured(call, BATCH, 200))
      const batches = execFileSync(program, [name], { encoding: 'utf8' }).trim().split('\n')
      figures[name].c.push(median(batches.map(Number)))
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
