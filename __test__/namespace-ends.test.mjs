// What becomes of run and spawn when their parent ends, or does not.
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { temporaryDirectory } from './helpers/machine.mjs'
import { endMarked, marked, startMarked, untilNoneIsMarked } from './helpers/marked.mjs'

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL']
const FAMILY = `
  const leave = () => {
    const { spawn, execFileSync } = require('child_process')
    execFileSync('sh', ['-c', 'setsid sleep 1000 >/dev/null 2>&1 &'])
    spawn('sleep', ['1000'], { stdio: 'ignore', detached: true })
    console.log('ready')
  }
  const stay = () => new Promise(() => setInterval(() => {}, 2 ** 30))
`

for (const [what, options] of [
  ['a pid namespace', { privatePid: true, privateTmp: true }],
  ['other namespaces', { privateTmp: true, privateIpc: true }],
  ['no namespace', {}],
]) {
  test(`With ${what} nothing outlives a parent that ${SIGNALS.join(', ')} has ended`, async (t) => {
    for (const signal of SIGNALS) {
      const mark = `ends-${what}-${signal}-${process.pid}`
      t.teardown(() => endMarked(mark))
      const source = `${FAMILY}
        new lib.Namespace(${JSON.stringify(options)}).run(async () => { leave(); await stay() })`
      const { child, exited, line } = startMarked(mark, source)
      t.is(await line(), 'ready')
      t.true(marked(mark).length >= 4, `${signal}: all of them are there`)
      child.kill(signal)
      t.deepEqual(await exited, [null, signal], 'the parent ends as it would without us')
      await untilNoneIsMarked(mark)
      t.deepEqual(marked(mark), [])
    }
  })
}

test('A function that listens for SIGTERM hears that its parent has ended, and has a second', async (t) => {
  const before = Date.now()
  for (const [options, signal] of [
    [{ privatePid: true }, 'SIGKILL'],
    [{ privateIpc: true }, 'SIGTERM'],
  ]) {
    const mark = `hears-${signal}-${process.pid}`
    t.teardown(() => endMarked(mark))
    const source = `${FAMILY}
      new lib.Namespace(${JSON.stringify(options)}).run(async () => {
        process.on('SIGTERM', () => console.log('heard'))
        console.log('ready')
        await stay()
      })`
    const { child, exited, line } = startMarked(mark, source)
    t.is(await line(), 'ready')
    child.kill(signal)
    await exited
    t.is(await line(), 'heard')
    await untilNoneIsMarked(mark)
    t.true(Date.now() - before >= 1000, 'it had its second')
  }
})

test('A function that is stopped, or busy, ends with its parent', async (t) => {
  for (const act of ["process.kill(process.pid, 'SIGSTOP')", 'for (;;);']) {
    const mark = `busy-${act}-${process.pid}`
    t.teardown(() => endMarked(mark))
    const source = `new lib.Namespace({ privateIpc: true }).run(() => { console.log(process.pid); ${act} })`
    const { child, exited, line } = startMarked(mark, source)
    const pid = Number(await line())
    if (act.includes('STOP')) {
      while (!/^State:\s*T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) await setImmediate()
    }
    child.kill('SIGKILL')
    await exited
    await untilNoneIsMarked(mark)
    t.deepEqual(marked(mark), [])
  }
})

test('A parent that handles the signal lives on, and its child with it', async (t) => {
  const mark = `handles-${process.pid}`
  const file = path.join(temporaryDirectory(t), 'handled')
  t.teardown(() => endMarked(mark))
  const source = `
    const { existsSync, readFileSync, writeFileSync } = require('fs')
    const caught = () => BigInt('0x' + /SigCgt:\\s*(\\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])
    const listeners = () => ['SIGTERM', 'SIGINT', 'SIGHUP'].map((signal) => process.listenerCount(signal)).join()
    const file = ${JSON.stringify(file)}
    process.on('SIGTERM', () => {
      console.log('handled')
      writeFileSync(file, '')
    })
    const before = [caught(), listeners()]
    const run = new lib.Namespace({ privatePid: true }).run(async () => {
      console.log('ready')
      while (!existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 1))
      return 'answer'
    })
    // Of those that end a process: to stop its threads for a moment the package has one of its own.
    const ending = (1n << 0n) | (1n << 1n) | (1n << 14n)
    const isSame = (before[0] & ending) === (caught() & ending) && before[1] === listeners()
    run.then((value) => console.log(value, isSame)).then(() => process.exit())`
  const { child, exited, line } = startMarked(mark, source)
  t.is(await line(), 'ready')
  child.kill('SIGTERM')
  t.is(await line(), 'handled')
  t.is(await line(), 'answer true')
  t.deepEqual(await exited, [0, null])
})

test('With termChild: false the function outlives its parent', async (t) => {
  const mark = `outlives-${process.pid}`
  t.teardown(() => endMarked(mark))
  const source = `
    new lib.Namespace({ privateIpc: true, termChild: false }).run(async () => {
      // Before the test hears of it, and kills the parent.
      const parent = process.ppid
      console.log(process.pid)
      while (process.ppid === parent) await new Promise((resolve) => setTimeout(resolve, 1))
      console.log('alone')
      await new Promise(() => setInterval(() => {}, 2 ** 30))
    })`
  const { child, exited, line } = startMarked(mark, source)
  const pid = Number(await line())
  child.kill('SIGKILL')
  await exited
  t.is(await line(), 'alone')
  t.deepEqual(marked(mark), [pid])
})

test('A program of spawn ends with its parent, unless termChild is false', async (t) => {
  for (const options of [{ privatePid: true }, { privateIpc: true }, {}]) {
    const mark = `program-${JSON.stringify(options)}-${process.pid}`
    t.teardown(() => endMarked(mark))
    const source = `
      new lib.Namespace(${JSON.stringify(options)}).spawn('sh', ['-c', 'echo ready; exec sleep 1000'], { stdio: 'inherit' })`
    const { child, exited, line } = startMarked(mark, source)
    t.is(await line(), 'ready')
    child.kill('SIGKILL')
    await exited
    await untilNoneIsMarked(mark)
    t.deepEqual(marked(mark), [])
  }
  const mark = `program-stays-${process.pid}`
  t.teardown(() => endMarked(mark))
  const source = `new lib.Namespace({ privateIpc: true, termChild: false })
    .spawn('sh', ['-c', 'echo ready; while [ $(ps -o ppid= -p $$) = $PPID ]; do :; done; echo alone; while :; do :; done'], { stdio: 'inherit' })`
  const { child, exited, line } = startMarked(mark, source)
  t.is(await line(), 'ready')
  child.kill('SIGKILL')
  await exited
  t.is(await line(), 'alone')
  // The mark of one that is at exec could not be read.
  t.is(marked(mark).length, 1)
})

test('A program of spawn is aborted by SIGTERM, and by SIGKILL a second later', async (t) => {
  const mark = `abort-${process.pid}`
  t.teardown(() => endMarked(mark))
  const source = `
    const abort = new AbortController()
    const namespace = new lib.Namespace({ privatePid: true, signal: abort.signal })
    const child = namespace.spawn('sh', ['-c', 'trap "echo heard" TERM; echo ready; while :; do sleep 0.05; done'])
    child.stdout.setEncoding('utf8').on('data', (text) => {
      process.stdout.write(text)
      if (text.includes('ready')) abort.abort()
    })
    child.on('error', ({ name }) => console.log(name))
    child.on('exit', (code, signal) => console.log(signal))`
  const { exited, line } = startMarked(mark, source)
  const lines = []
  for (let text = await line(); text !== undefined; text = await line()) lines.push(text)
  await exited
  t.deepEqual(lines.sort(), ['AbortError', 'SIGKILL', 'heard', 'ready'].sort())
})

test('A parent that is killed at any moment of run leaves neither a process nor a mount', async (t) => {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
  for (let round = 0; round < 12; round++) {
    const mark = `moment-${round}-${process.pid}`
    t.teardown(() => endMarked(mark))
    const source = `
      const namespace = new lib.Namespace({ privatePid: ${round % 2 === 0}, privateTmp: true, privateNet: true })
      const again = () => namespace.run(() => {
        require('child_process').spawn('sleep', ['1000'], { stdio: 'ignore' })
      }).then(again)
      console.log('ready')
      again()`
    const { child, exited, line } = startMarked(mark, source)
    await line()
    for (let turns = 0; turns < round * 200; turns++) await setImmediate()
    child.kill('SIGKILL')
    await exited
    await untilNoneIsMarked(mark)
  }
  t.is(readFileSync('/proc/self/mounts', 'utf8'), mounts)
})
