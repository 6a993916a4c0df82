// What comes back from Namespace.run, and what is left when it is over.
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { childrenOf } from './helpers/machine.mjs'
import { inProcess } from './helpers/process.mjs'

const index = fileURLToPath(new URL('../index.js', import.meta.url))
const answering = fileURLToPath(new URL('helpers/answering.cjs', import.meta.url))

test('What structured clone carries comes back as what it is', async (t) => {
  const problems = await inProcess(async ({ lib }) => {
    const assert = process.getBuiltinModule('assert')
    const namespace = new lib.Namespace({ privatePid: true })
    const circular = { list: [1, 2] }
    circular.self = circular
    const shared = new ArrayBuffer(24)
    const twice = { name: 'twice' }
    const large = new Uint8Array(1 << 20).map((_, index) => index % 251)
    const values = [
      ...[
        undefined,
        null,
        true,
        0,
        -0,
        Number.NaN,
        1.5,
        10n ** 40n,
        'text',
        'ünïcode \u{1f600}',
        '\ud800',
        '',
      ],
      ...[new Date(0), /a+/giu, new Map([[{ a: 1 }, new Set([1, 'b'])]]), Array(3)],
      ...[Object(1n), Object('boxed'), Object(false), { nested: { deep: [{}] } }, circular],
      ...[
        new Int8Array([-1]),
        new Uint8ClampedArray([300]),
        new Int16Array([-2]),
        new Uint32Array([2 ** 32 - 1]),
      ],
      ...[
        new Float32Array([1.5]),
        new Float64Array([Math.PI]),
        new BigInt64Array([-1n]),
        new BigUint64Array([1n]),
      ],
      ...[
        new DataView(new ArrayBuffer(8), 2, 4),
        new ArrayBuffer(5),
        new Uint8Array(shared, 8, 4),
        new Uint8Array(0),
      ],
      ...[
        Buffer.from('pooled'),
        Buffer.alloc(0),
        Buffer.alloc(100_000, 7),
        large.subarray(10, 70_000),
        large,
      ],
      ...[Buffer.from(large.buffer, 5, 300_000), new Error('as a value'), [twice, twice]],
    ]
    const problems = []
    for (const value of values) {
      const got = await namespace.run(() => value)
      try {
        assert.deepStrictEqual(got, value)
        assert.strictEqual(Object.prototype.toString.call(got), Object.prototype.toString.call(value))
        assert.strictEqual(Buffer.isBuffer(got), Buffer.isBuffer(value))
      } catch (error) {
        problems.push(error.message)
      }
    }
    const of = await namespace.run(() => {
      const buffer = new ArrayBuffer(100_000)
      const small = new ArrayBuffer(16)
      return {
        ...{ buffer, first: new Uint8Array(buffer), second: new DataView(buffer, 8) },
        ...{ view: new Uint16Array(small, 2), small, buffers: [Buffer.from(buffer), Buffer.from(small)] },
        ...{ twice: [twice, twice], resizable: new ArrayBuffer(8, { maxByteLength: 16 }) },
      }
    })
    const same = [of.first.buffer, of.second.buffer, of.buffers[0].buffer].every(
      (buffer) => buffer === of.buffer,
    )
    if (!same) problems.push('views of a large buffer have different ones')
    if (of.view.buffer !== of.small || of.buffers[1].buffer !== of.small) problems.push('nor of a small one')
    if (of.twice[0] !== of.twice[1]) problems.push('one object came as two')
    const larger = Buffer.alloc(20 << 20).map((_, index) => index % 253)
    const [first, second] = await namespace.run(() => [larger, larger.subarray(1)])
    if (!first.equals(larger) || !second.equals(larger.subarray(1))) problems.push('a larger one')
    const pooled = await namespace.run(() => Buffer.from('behind which nobody looks').subarray(1, 3))
    if (pooled.toString() !== 'eh' || Buffer.from(pooled.buffer).includes('nobody looks'))
      problems.push('more than the Buffer came')
    return problems
  })
  t.deepEqual(problems, [])
})

test('What cannot be cloned is a DataCloneError', async (t) => {
  const errors = await inProcess(async ({ lib }) => {
    const namespace = new lib.Namespace({ privateIpc: true })
    const values = [
      () => {},
      Symbol('s'),
      new WeakMap(),
      Promise.resolve(1),
      new SharedArrayBuffer(8),
      { deep: [() => {}] },
    ]
    const detached = new ArrayBuffer(8)
    structuredClone(detached, { transfer: [detached] })
    values.push(new Uint8Array(new SharedArrayBuffer(8)), detached)
    const errors = []
    for (const value of values) {
      // A promise is what it resolves to.
      const fn = () => (value instanceof Promise ? [value] : value)
      const error = await namespace.run(fn).catch((error) => error)
      errors.push([error instanceof DOMException, error.name, typeof error.message, error.code])
    }
    for (const thrown of [() => {}, Symbol('thrown'), { deep: () => {} }]) {
      const error = await namespace
        .run(() => {
          throw thrown
        })
        .catch((error) => error)
      errors.push([error instanceof DOMException, error.name, typeof error.message, error.code])
    }
    return errors
  })
  for (const error of errors) t.deepEqual(error, [true, 'DataCloneError', 'string', 25])
  t.is(errors.length, 11)
})

test('An error comes back as itself', async (t) => {
  const found = await inProcess(async ({ lib, fs }) => {
    const { AssertionError } = process.getBuiltinModule('assert')
    const { isNativeError } = process.getBuiltinModule('util').types
    const namespace = new lib.Namespace({ privateMount: true })
    const caught = (make) =>
      namespace
        .run(async () => {
          throw make()
        })
        .then(
          () => 'nothing',
          (error) => error,
        )
    const classes = [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError]
    const problems = []
    const expect = (what, holds) => holds || problems.push(what)
    for (const Class of classes) {
      let stack
      const error = await caught(() => {
        const made = Object.assign(new Class('message', { cause: { any: 1 } }), {
          code: 'CODE',
          extra: new Map([[1, 2]]),
        })
        made.made = made.stack
        return made
      })
      expect(`${Class.name}: class`, Object.getPrototypeOf(error) === Class.prototype && isNativeError(error))
      expect(`${Class.name}: text`, error.message === 'message' && error.name === Class.name)
      expect(
        `${Class.name}: stack`,
        error.stack === error.made && error.stack.includes(`${Class.name}: message`),
      )
      expect(`${Class.name}: own`, error.code === 'CODE' && error.extra.get(1) === 2 && error.cause.any === 1)
      const keys = Object.keys(error).sort().join()
      expect(`${Class.name}: keys ${keys}`, keys === 'code,extra,made')
      expect(`${Class.name}: no stack of ours ${stack}`, stack === undefined)
    }
    const aggregate = await caught(
      () =>
        new AggregateError([new TypeError('a'), 'b', new RangeError('c')], 'many', {
          cause: new URIError('d'),
        }),
    )
    expect('aggregate', aggregate instanceof AggregateError && aggregate.errors[0] instanceof TypeError)
    expect('aggregate: others', aggregate.errors[1] === 'b' && aggregate.errors[2].message === 'c')
    expect('aggregate: cause', aggregate.cause instanceof URIError && aggregate.cause.message === 'd')
    expect('aggregate: hidden', Object.keys(aggregate).length === 0)

    const dom = await caught(() => new DOMException('stop', 'AbortError'))
    expect('DOMException', dom instanceof DOMException && dom.name === 'AbortError' && dom.code === 20)
    expect('DOMException: text', dom.message === 'stop' && dom.stack.includes('stop'))

    const system = await caught(() => {
      try {
        fs.readFileSync('/no/such/file')
      } catch (error) {
        return error
      }
    })
    expect('system', system.code === 'ENOENT' && system.errno === -2 && system.path === '/no/such/file')
    expect('system: syscall', system.syscall === 'open' && /^ENOENT: no such file/.test(system.message))

    const ours = await caught(() => {
      try {
        lib.umount('/no/such/mount')
      } catch (error) {
        return error
      }
    })
    expect('ours', ours.code === 'ENOENT' && ours.syscall === 'umount2' && ours.path === '/no/such/mount')

    const argument = await caught(() => {
      try {
        lib.umount(5)
      } catch (error) {
        return error
      }
    })
    expect('argument', argument instanceof TypeError && argument.code === 'ERR_INVALID_ARG_TYPE')

    const assertion = await caught(
      () => new AssertionError({ actual: 1, expected: 2, operator: 'is', message: 'no' }),
    )
    expect(
      'assertion',
      assertion instanceof AssertionError && assertion.expected === 2 && assertion.message === 'no',
    )

    class Own extends RangeError {
      name = 'Own'
    }
    class Named extends TypeError {}
    Named.prototype.name = 'NamedOnce'
    const own = await caught(() => new Own('mine'))
    expect('own class', own instanceof RangeError && own.name === 'Own' && !(own instanceof Own))
    const named = await caught(() => new Named('mine'))
    expect(
      'named class',
      named instanceof TypeError && named.name === 'NamedOnce' && Object.keys(named).length === 0,
    )

    const circular = await caught(() => {
      const error = new Error('round')
      error.cause = new Error('and', { cause: error })
      error.unclonable = () => {}
      error.list = [error]
      Object.defineProperty(error, 'getter', {
        get() {
          throw new Error('not now')
        },
      })
      return error
    })
    expect('circular', circular.cause.cause === circular && circular.list[0] === circular)
    expect('unclonable', !('unclonable' in circular))

    const bare = await caught(() => {
      const error = new Error('bare')
      delete error.stack
      return error
    })
    expect('without a stack', !Object.hasOwn(bare, 'stack'))

    for (const thrown of [undefined, null, 0, 'text', 12n, { plain: 'object' }, [1, 2]]) {
      const got = await caught(() => thrown)
      expect(`thrown ${typeof thrown}`, JSON.stringify(String(got)) === JSON.stringify(String(thrown)))
    }
    const synchronous = await namespace
      .run(() => {
        throw new TypeError('at once')
      })
      .catch((error) => error)
    expect('synchronous', synchronous instanceof TypeError && synchronous.message === 'at once')
    return problems
  })
  t.deepEqual(found, [])
})

test('Arguments may be anything, and what is async works', async (t) => {
  const found = await inProcess(async ({ lib, fs, workers }) => {
    const namespace = new lib.Namespace({ privateTmp: true, privatePid: true })
    const weak = new WeakMap()
    const key = {}
    weak.set(key, 'found')
    const symbol = Symbol('s')
    class Counter {
      #count = 41
      next() {
        return ++this.#count
      }
    }
    const { AsyncLocalStorage } = process.getBuiltinModule('async_hooks')
    const storage = new AsyncLocalStorage()
    return {
      any: await namespace.run(
        (map, object, fn, sym, counter) => [map.get(object), fn(2), sym === symbol, counter.next()],
        weak,
        key,
        (x) => x * 2,
        symbol,
        new Counter(),
      ),
      timers: await namespace.run(async () => {
        await new Promise((resolve) => setTimeout(resolve, 5))
        await fs.promises.writeFile('/tmp/file', 'text')
        return fs.promises.readFile('/tmp/file', 'utf8')
      }),
      worker: await namespace.run(() => {
        const worker = new workers.Worker('require("worker_threads").parentPort.postMessage(6 * 7)', {
          eval: true,
        })
        return new Promise((resolve) => worker.once('message', resolve))
      }),
      thenable: await namespace.run(() => Object.fromEntries([['then', (resolve) => resolve('thenable')]])),
      context: await storage.run('kept', () => namespace.run(() => storage.getStore())),
      nested: await namespace.run(() => new lib.Namespace({ privateUts: true }).run(() => 'nested')),
      ten: await Promise.all(
        Array.from({ length: 10 }, (_, index) =>
          namespace.run(async () => {
            fs.writeFileSync('/tmp/own', String(index))
            await new Promise((resolve) => setTimeout(resolve, 10))
            return Number(fs.readFileSync('/tmp/own', 'utf8'))
          }),
        ),
      ),
    }
  })
  t.deepEqual(found, {
    any: ['found', 4, true, 42],
    timers: 'text',
    worker: 42,
    thenable: 'thenable',
    context: 'kept',
    nested: 'nested',
    ten: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  })
})

test('A process that ends without an answer says how', async (t) => {
  const found = await inProcess(async ({ lib }) => {
    const ended = (options, fn) =>
      new lib.Namespace(options).run(fn).then(
        () => 'an answer',
        ({ name, message, code, exitCode, signal }) => ({ name, message, code, exitCode, signal }),
      )
    const results = []
    for (const options of [{ privatePid: true }, { privateIpc: true }]) {
      results.push([
        await ended(options, () => process.exit(7)),
        await ended(
          options,
          () => process.emit('done', Object.assign(process, { exitCode: 3 })) || process.exit(),
        ),
        await ended(options, () => new Promise(() => {})),
        await ended(options, () => process.abort()),
        await ended(options, async () => {
          setImmediate(() => process.exit(9))
          await new Promise((resolve) => setTimeout(resolve, 10_000))
        }),
      ])
    }
    const killed = await ended({ privateIpc: true }, () => process.kill(process.pid, 'SIGKILL'))
    const terminated = await ended({ privateIpc: true }, async () => {
      process.kill(process.pid, 'SIGTERM')
      await new Promise((resolve) => setTimeout(resolve, 10_000))
    })
    return { results, killed, terminated }
  })
  for (const [exit, code, pending, abort, later] of found.results) {
    t.like(exit, { code: 'ERR_NAMESPACE_CHILD_EXIT', exitCode: 7, signal: null, name: 'Error' })
    t.regex(exit.message, /exit code 7/)
    t.like(code, { code: 'ERR_NAMESPACE_CHILD_EXIT', exitCode: 3, signal: null })
    t.like(pending, { code: 'ERR_NAMESPACE_CHILD_EXIT', exitCode: 13, signal: null })
    t.regex(pending.message, /nothing was left to settle its promise/)
    t.is(abort.code, 'ERR_NAMESPACE_CHILD_EXIT')
    t.like(later, { code: 'ERR_NAMESPACE_CHILD_EXIT', exitCode: 9, signal: null })
  }
  t.like(found.killed, { code: 'ERR_NAMESPACE_CHILD_EXIT', exitCode: null, signal: 'SIGKILL' })
  t.regex(found.killed.message, /SIGKILL/)
  t.like(found.terminated, { code: 'ERR_NAMESPACE_CHILD_EXIT', exitCode: null, signal: 'SIGTERM' })
})

test('What is no answer is an error that says how the process has ended, and costs no more than was sent', async (t) => {
  const found = await inProcess(async ({ lib, fs }, file) => {
    const require = process.getBuiltinModule('module').createRequire(file)
    const { answering, doubles, message } = require(file)
    const told = answering(lib)
    const entry = { class: 'Error', name: 'Error', message: '', properties: [] }
    const thrown = (thrown, ...entries) => message(true, { thrown, entries })
    const having = (...properties) => thrown({ error: 0 }, { ...entry, properties })
    let nested = { value: 1 }
    for (let depth = 0; depth < 60; depth++) nested = { errors: [nested, nested] }
    const shared = { errors: [] }
    shared.errors.push(shared)
    const long = []
    long.length = 2 ** 32 - 1
    const view = (kind, offset, length, buffer) =>
      message(false, new Uint8Array(8), (writer) => {
        for (const number of [0, kind]) writer.writeUint32(number)
        for (const number of [offset, length]) writer.writeDouble(number)
        writer.writeValue(buffer)
      })
    const bytes = (kind, number) =>
      message(false, new Uint8Array(8), (writer) => {
        for (const each of [kind, number]) writer.writeUint32(each)
      })
    const all = {
      nothing: Buffer.alloc(0),
      ...Object.fromEntries(
        [Number.NaN, -1, 0, 0.5, 2 ** 53, Infinity].map((n) => [`${n} parts`, doubles(n)]),
      ),
      ...Object.fromEntries([Number.NaN, -1, 0, 2 ** 53].map((n) => [`a part of ${n}`, doubles(1, n, 1, 1)])),
      'a small second part': Buffer.concat([doubles(2, 8, 8), Buffer.alloc(16)]),
      'a part of 1 TB': doubles(1, 2 ** 40),
      'a part of 1 TB, and some of it': Buffer.concat([doubles(1, 2 ** 40), Buffer.alloc(9 << 20)]),
      '64 parts of 4 GB': doubles(64, ...Array(64).fill(2 ** 32)),
      'as many parts as there may be': doubles(2 ** 50, 100),
      rubbish: Buffer.concat([doubles(1, 100), Buffer.alloc(100, 0x41)]),
      number: message(true, 5),
      null: message(true, null),
      'an unknown error': thrown({ error: 0 }),
      ...Object.fromEntries(
        ['__proto__', 'constructor', 'length', 'map', -1, 0.5, 1].map((error) => [
          `error ${error}`,
          thrown({ error }, entry),
        ]),
      ),
      'entries that are none': thrown({ error: 0 }, 5),
      'a list that is none': message(true, { thrown: { errors: { length: 1e9 } }, entries: [] }),
      'a list with holes': message(true, { thrown: { errors: long }, entries: [] }),
      'entries with holes': message(true, { thrown: { value: 1 }, entries: long }),
      'lists of lists': thrown(nested),
      'a list in itself': thrown(shared),
      'no key': having({ value: { value: 1 } }),
      'a symbol for a name': thrown({ error: 0 }, { ...entry, name: Object('x') }),
      'no text': thrown({ error: 0 }, { ...entry, class: 'DOMException', message: undefined }),
      'a view of a number': view(1, 0, 0, 2 ** 33),
      'a view of a list': view(1, 0, 0, long),
      'a view beyond its buffer': view(1, 8, 8, new ArrayBuffer(8)),
      'a view before its buffer': view(13, -1, 8, new ArrayBuffer(8)),
      'a view of an unknown kind': view(99, 0, 8, new ArrayBuffer(8)),
      'more bytes than there are': bytes(1, 2 ** 32 - 1),
      'an unknown buffer': bytes(2, 7),
    }
    const megabytes = () => Number(/VmPeak:\s*(\d+)/.exec(fs.readFileSync('/proc/self/status'))[1]) >> 10
    const problems = []
    await told(Buffer.alloc(0))
    const before = megabytes()
    for (const [what, bytes] of Object.entries(all)) {
      const got = await told(bytes)
      if (!got.isRefused) problems.push(`${what}: ${got.error ?? typeof got.value}`)
      problems.push(...got.problems.map((problem) => `${what}: ${problem}`))
    }
    if (megabytes() - before > 1000) problems.push(`${megabytes() - before} MB for what has not come`)
    // Keys that mean something elsewhere are properties like others.
    const keys = ['__proto__', 'constructor', 'prototype', 'stack']
    const { error } = await told(having(...keys.map((key) => ({ key, value: { value: { polluted: 1 } } }))))
    const own = Object.getOwnPropertyDescriptors(Object(error))
    if (Object.getPrototypeOf(Object(error)) !== Error.prototype || 'polluted' in Object(error))
      problems.push('a prototype')
    if (!keys.every((key) => own[key]?.value?.polluted === 1)) problems.push('not its own')
    return problems
  }, answering)
  t.deepEqual(found, [])
})

test('Whatever comes in the place of an answer, nothing else happens', async (t) => {
  const seed = Number(process.env.LINUX_CLONE_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
  t.log(`LINUX_CLONE_TEST_SEED=${seed}`)
  const found = await inProcess(
    async ({ lib }, seed, file) => {
      const require = process.getBuiltinModule('module').createRequire(file)
      const { answering, doubles, message } = require(file)
      const [fc, told] = [require('fast-check'), answering(lib)]
      const anything = fc.anything({ withBigInt: true, withDate: true, withMap: true, withTypedArray: true })
      const often = (arbitrary) => fc.oneof({ weight: 6, arbitrary }, { weight: 1, arbitrary: anything })
      const { value } = fc.letrec((tie) => ({
        value: fc.oneof(
          fc.record({ error: often(fc.nat(3)) }),
          fc.record({ errors: often(fc.array(tie('value'), { maxLength: 3 })) }),
          fc.record({ value: anything }),
          anything,
        ),
      }))
      const key = fc.constantFrom(
        '__proto__',
        'constructor',
        'stack',
        'name',
        'message',
        'cause',
        'errors',
        'then',
      )
      const property = fc.record({ key: often(key), isEnumerable: often(fc.boolean()), value })
      const name = often(
        fc.constantFrom('Error', 'AggregateError', 'DOMException', 'AssertionError', '__proto__'),
      )
      const text = often(fc.string())
      const properties = often(fc.array(often(property), { maxLength: 3 }))
      const entry = fc.record({ class: name, name, message: text, properties })
      const entries = often(fc.array(often(entry), { maxLength: 3 }))
      const described = fc.record({ thrown: value, entries })
      const sent = fc.tuple(fc.boolean(), fc.oneof(described, anything)).map((words) => message(...words))
      const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 })
      const bytes = fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes))
      const arbitrary = fc.oneof(
        bytes,
        fc
          .tuple(fc.array(fc.double(), { maxLength: 4 }), bytes)
          .map(([numbers, bytes]) => Buffer.concat([doubles(...numbers), bytes])),
        sent,
        // Behind the lengths.
        fc.tuple(sent, changes).map(([sent, changes]) => {
          for (const [place, byte] of changes) sent[16 + (place % (sent.length - 16))] = byte
          return sent
        }),
      )
      let refused = 0
      const check = fc.asyncProperty(arbitrary, async (bytes) => {
        const { isRefused, problems } = await told(bytes)
        if (isRefused) refused++
        if (problems.length > 0) throw new Error(problems.join())
      })
      await fc.assert(check, { seed, numRuns: 300 })
      return refused
    },
    seed,
    answering,
  )
  t.true(found > 0 && found < 300, `${found} of them are no answers`)
})

test('An AbortSignal ends it, and its reason is the cause', async (t) => {
  const found = await inProcess(
    async ({ lib, fs, outside }) => {
      const caught = (promise) =>
        promise.then(
          (value) => ({ value }),
          ({ name, code, message, cause }) => ({ name, code, message, cause }),
        )
      const results = {}
      const aborted = AbortSignal.abort('before')
      results.before = await caught(new lib.Namespace({ signal: aborted }).run(() => 1))
      results.children = await outside()
      for (const privatePid of [true, false]) {
        const abort = new AbortController()
        const run = new lib.Namespace({ privatePid, privateIpc: true, signal: abort.signal }).run(() => {
          for (;;);
        })
        abort.abort({ reason: 1 })
        results[`busy ${privatePid}`] = await caught(run)
        const gentle = new AbortController()
        const [reader, writer] = [fs.openSync('/proc/self/comm'), fs.openSync('/dev/null', 'w')]
        const file = fs.mkdtempSync('/tmp/linux-clone-')
        const listening = new lib.Namespace({ privatePid, signal: gentle.signal }).run(async () => {
          process.on('SIGTERM', () => {
            fs.writeFileSync(`${file}/heard`, 'SIGTERM')
            process.exit(5)
          })
          fs.writeFileSync(`${file}/ready`, '')
          await new Promise(() => setInterval(() => {}, 2 ** 30))
        })
        while (!fs.existsSync(`${file}/ready`)) await new Promise((resolve) => setTimeout(resolve, 1))
        gentle.abort()
        results[`listening ${privatePid}`] = await caught(listening)
        results[`heard ${privatePid}`] = fs.readFileSync(`${file}/heard`, 'utf8')
        const deaf = new AbortController()
        const stubborn = new lib.Namespace({ privatePid, signal: deaf.signal }).run(async () => {
          process.on('SIGTERM', () => fs.writeFileSync(`${file}/deaf`, ''))
          fs.writeFileSync(`${file}/stubborn`, '')
          await new Promise(() => setInterval(() => {}, 2 ** 30))
        })
        while (!fs.existsSync(`${file}/stubborn`)) await new Promise((resolve) => setTimeout(resolve, 1))
        deaf.abort()
        results[`deaf ${privatePid}`] = await caught(stubborn)
        fs.rmSync(file, { recursive: true })
        fs.closeSync(reader)
        fs.closeSync(writer)
      }
      const after = new AbortController()
      results.after = await caught(new lib.Namespace({ signal: after.signal }).run(() => 'done'))
      after.abort()
      results.left = await outside()
      return results
    },
    { with: { outside: (_, { pid }) => childrenOf(pid) } },
  )
  const error = (cause) => ({
    name: 'AbortError',
    code: 'ABORT_ERR',
    message: 'The operation was aborted',
    cause,
  })
  t.deepEqual(found.before, error('before'))
  t.deepEqual([found.children, found.left], [[], []])
  for (const isPid of [true, false]) {
    t.deepEqual(found[`busy ${isPid}`], error({ reason: 1 }))
    t.like(found[`listening ${isPid}`], { name: 'AbortError', code: 'ABORT_ERR' })
    t.is(found[`heard ${isPid}`], 'SIGTERM')
    t.like(found[`deaf ${isPid}`], { name: 'AbortError', code: 'ABORT_ERR' })
  }
  t.deepEqual(found.after, { value: 'done' })
})

test('Whatever was started inside ends with it, and nothing is left', async (t) => {
  const found = await inProcess(
    async ({ lib, fs, cp, outside }) => {
      const look = () => ({
        descriptors: fs.readdirSync('/proc/self/fd').length,
        mounts: fs.readFileSync('/proc/self/mounts', 'utf8'),
        tasks: fs.readdirSync('/proc/self/task').length,
      })
      const results = []
      const leave = () => {
        // A daemon: its parent is gone, and it has a session of its own.
        const text = cp.execFileSync('sh', [
          '-c',
          'setsid sh -c "sleep 1000 & sleep 1000" >/dev/null 2>&1 & echo $!; sleep 1000 >/dev/null 2>&1 & echo $!',
        ])
        cp.spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' }).unref()
        return String(text).trim().split('\n').map(Number)
      }
      await new lib.Namespace({ privatePid: true }).run(leave)
      // With its first stream libuv opens /dev/null, and keeps it.
      await outside()
      const before = look()
      for (const options of [
        { privatePid: true, privateTmp: true },
        { privateTmp: true, privateNet: true },
        { privateIpc: true },
        {},
      ]) {
        const namespace = new lib.Namespace(options)
        await namespace.run(leave)
        results.push(await outside())
        await namespace
          .run(() => {
            leave()
            throw new Error('left')
          })
          .catch(() => {})
        results.push(await outside())
        await namespace
          .run(() => {
            leave()
            process.exit(4)
          })
          .catch(() => {})
        results.push(await outside())
        await namespace
          .run(() => {
            leave()
            process.kill(process.pid, 'SIGTERM')
            for (;;);
          })
          .catch(() => {})
        results.push(await outside())
        if (Object.keys(options).length === 0 || options.privatePid) continue
        await namespace
          .run(() => {
            leave()
            process.kill(process.pid, 'SIGKILL')
          })
          .catch(() => {})
        results.push(await outside())
      }
      return { results, before, after: look() }
    },
    {
      with: {
        env: { LINUX_CLONE_MARK: `mark-${process.pid}` },
        outside: (_, { pid }) =>
          readdirSync('/proc').filter((name) => {
            if (!/^\d+$/.test(name) || Number(name) === pid) return false
            try {
              return readFileSync(`/proc/${name}/environ`, 'utf8').includes(
                `LINUX_CLONE_MARK=mark-${process.pid}`,
              )
            } catch {
              return false
            }
          }),
      },
    },
  )
  t.deepEqual(
    found.results,
    found.results.map(() => []),
  )
  t.is(found.results.length, 18)
  t.deepEqual(found.after, found.before)
})

test('Much comes back, while the event loop goes on', async (t) => {
  const found = await inProcess(async ({ lib }) => {
    const { createHash } = process.getBuiltinModule('crypto')
    const namespace = new lib.Namespace({ privatePid: true })
    let turns = 0
    const interval = setInterval(() => turns++, 1)
    const random = await namespace.run(async () => {
      const bytes = process.getBuiltinModule('crypto').randomBytes(80 << 20)
      return {
        bytes,
        hash: process.getBuiltinModule('crypto').createHash('sha1').update(bytes).digest('hex'),
      }
    })
    const many = await namespace.run(() =>
      Array.from({ length: 300 }, (_, index) => Buffer.alloc(100_000, index)),
    )
    const text = await namespace.run(() => 'ä€'.repeat(5 << 20))
    clearInterval(interval)
    return {
      hash: createHash('sha1').update(random.bytes).digest('hex') === random.hash,
      many: many.every((buffer, index) => buffer.length === 100_000 && buffer[5] === index % 256),
      text: text.length === 10 << 20 && text.endsWith('ä€'),
      turned: turns > 10,
    }
  })
  t.deepEqual(found, { hash: true, many: true, text: true, turned: true })
})

test('A pending run holds the process, and one that is over does not', async (t) => {
  const found = await inProcess(({ cp }, index) => {
    const script = `
      const { Namespace } = require(process.argv[1])
      const namespace = new Namespace({ privatePid: true })
      process.on('exit', () => console.log('end'))
      namespace.run(() => new Promise((resolve) => setTimeout(resolve, 50, 'value'))).then(console.log)
    `
    return cp.spawnSync(process.execPath, ['-e', script, index], { encoding: 'utf8', timeout: 60_000 }).stdout
  }, index)
  t.is(found, 'value\nend\n')
})

test('Where it cannot begin, the error says at which step, and nothing is left', async (t) => {
  const found = await inProcess(
    async ({ lib, fs, workers, outside }, index) => {
      const look = () => fs.readdirSync('/proc/self/fd').length
      const fails = (options, fn = () => 1) =>
        new lib.Namespace(options).run(fn).then(
          () => 'fine',
          ({ name, code, step, syscall, path, hint }) => ({ name, code, step, syscall, path, hint }),
        )
      await new lib.Namespace().run(() => 1)
      const before = look()
      const errors = [
        await fails({ privateTmp: { size: 'much' } }),
        await fails({ privateTmp: { unheard: true } }),
        await fails({ privateUser: { uidMappings: [{ inside: 0, outside: 2 ** 32 - 2, count: 2 }] } }),
        await fails({ privateTime: { boottime: -(2 ** 40) } }),
      ]
      const after = look()
      const worker = new workers.Worker(
        `const { workerData, parentPort } = require('worker_threads')
        const { Namespace } = require(workerData)
        new Namespace().run(() => 1).catch(({ code, hint }) => parentPort.postMessage({ code, hint }))`,
        { eval: true, workerData: index },
      )
      const inWorker = await new Promise((resolve) => worker.once('message', resolve))
      await worker.terminate()
      return { errors, inWorker, before, after, children: await outside() }
    },
    { with: { outside: (_, { pid }) => childrenOf(pid) } },
    index,
  )
  const [size, option, map, time] = found.errors
  t.like(size, { code: 'EINVAL', step: 'mount', syscall: 'mount' })
  t.like(option, { code: 'EINVAL', step: 'mount', syscall: 'mount' })
  t.regex(option.hint, /does not know one of the options/)
  t.is(map.step, 'id-map')
  t.like(time, { code: 'ERANGE', step: 'time-offsets' })
  t.regex(time.hint, /negative/)
  t.like(found.inWorker, { code: 'ENOTSUP' })
  t.regex(found.inWorker.hint, /main thread/)
  t.is(found.after, found.before)
  t.deepEqual(found.children, [])
})

test('Who may not gets an error that says what is needed', async (t) => {
  const found = await inProcess(
    async ({ lib }) => {
      const errors = []
      for (const call of [(namespace) => namespace.run(() => 1), async (namespace) => namespace.setup()]) {
        errors.push(
          await call(new lib.Namespace({ privateNet: true })).then(
            () => 'fine',
            ({ code, step, syscall, hint }) => ({ code, step, syscall, hint }),
          ),
        )
      }
      return errors
    },
    {
      with: {
        wrap: ['setpriv', '--bounding-set=-all', '--inh-caps=-all'].slice(0, process.getuid() === 0 ? 3 : 0),
      },
    },
  )
  for (const error of found) {
    t.like(error, { code: 'EPERM', step: 'clone' })
    t.regex(error.hint, /CAP_SYS_ADMIN/)
  }
})
