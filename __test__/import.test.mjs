import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { run } from './helpers/process.mjs'

const repository = fileURLToPath(new URL('..', import.meta.url))

const FUNCTIONS = [
  'clone',
  'configureLoopback',
  'kcmp',
  'mount',
  'nsGetId',
  'nsGetMntnsId',
  'nsGetNstype',
  'nsGetOwnerUid',
  'nsGetParent',
  'nsGetPidFromPidns',
  'nsGetPidInPidns',
  'nsGetTgidFromPidns',
  'nsGetTgidInPidns',
  'nsGetUserns',
  'pidfdGetfd',
  'pidfdOpen',
  'pidfdSendSignal',
  'pivotRoot',
  'probe',
  'setdomainname',
  'sethostname',
  'setns',
  'spawn',
  'spawnSync',
  'umount',
  'unshare',
]

const prefixed = (prefix, names) => names.split(' ').map((name) => prefix + name)
const CONSTANTS = [
  'CSIGNAL',
  ...prefixed(
    'CLONE_',
    'VM FS FILES SIGHAND PIDFD PTRACE VFORK PARENT THREAD NEWNS SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID DETACHED ' +
      'UNTRACED CHILD_SETTID NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET IO NEWTIME CLEAR_SIGHAND INTO_CGROUP',
  ),
  ...prefixed('KCMP_', 'FILE VM FILES FS SIGHAND IO SYSVSEM EPOLL_TFD'),
  ...prefixed(
    'NS_',
    'GET_USERNS GET_PARENT GET_NSTYPE GET_OWNER_UID OWNER_UID GET_MNTNS_ID GET_PID_FROM_PIDNS GET_TGID_FROM_PIDNS ' +
      'GET_PID_IN_PIDNS GET_TGID_IN_PIDNS GET_ID',
  ),
  ...prefixed(
    'MS_',
    'RDONLY NOSUID NODEV NOEXEC SYNCHRONOUS REMOUNT MANDLOCK DIRSYNC NOSYMFOLLOW NOATIME NODIRATIME BIND MOVE REC VERBOSE ' +
      'SILENT POSIXACL UNBINDABLE PRIVATE SLAVE SHARED RELATIME KERNMOUNT I_VERSION STRICTATIME LAZYTIME SUBMOUNT ' +
      'NOREMOTELOCK NOSEC BORN ACTIVE NOUSER RMT_MASK MGC_VAL MGC_MSK',
  ),
  ...prefixed('MNT_', 'FORCE DETACH EXPIRE'),
  'UMOUNT_NOFOLLOW',
  ...prefixed(
    'PIDFD_',
    'NONBLOCK THREAD SIGNAL_THREAD SIGNAL_THREAD_GROUP SIGNAL_PROCESS_GROUP SELF_THREAD SELF_THREAD_GROUP',
  ),
  ...prefixed(
    'SIG',
    'HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU ' +
      'XFSZ VTALRM PROF WINCH IO PWR SYS',
  ),
]
const NAMES = [...FUNCTIONS, ...CONSTANTS, 'Namespace', 'constants'].sort()

/** Runs a program in a directory that has the package in its node_modules, and resolves to the JSON that it prints. */
async function inUse(file, source, ...flags) {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'linux-clone-import-'))
  try {
    mkdirSync(path.join(directory, 'node_modules'))
    symlinkSync(repository, path.join(directory, 'node_modules/linux-clone'))
    const program = path.join(directory, file)
    writeFileSync(program, source)
    return JSON.parse(await run(process.execPath, ...flags, program))
  } finally {
    rmSync(directory, { recursive: true })
  }
}

test('require gives the names of the contract, and no other', async (t) => {
  const types = await inUse(
    'main.js',
    `const lib = require('linux-clone')
    console.log(JSON.stringify(Object.fromEntries(Object.keys(lib).map((name) => [name, typeof lib[name]]))))`,
  )
  t.deepEqual(Object.keys(types).sort(), NAMES)
  for (const name of FUNCTIONS) t.is(types[name], 'function', name)
  for (const name of CONSTANTS) t.is(types[name], 'number', name)
})

test('each function and the class has its name', async (t) => {
  const names = await inUse(
    'main.js',
    `const lib = require('linux-clone')
    console.log(JSON.stringify(Object.keys(lib).filter((name) => lib[name].name === name)))`,
  )
  t.deepEqual(names.sort(), [...FUNCTIONS, 'Namespace'].sort())
})

test("to load it loads no module of Node's", async (t) => {
  const loaded = await inUse(
    'main.js',
    `const { builtinModules } = require('node:module')
    const before = new Set(process.moduleLoadList)
    require('linux-clone')
    const names = process.moduleLoadList.filter((name) => !before.has(name))
    console.log(JSON.stringify(builtinModules.filter((name) => names.includes('NativeModule ' + name))))`,
  )
  t.deepEqual(loaded, [])
})

const CHANGES = {
  'is not any more': (fs, root) => fs.rmSync(root, { recursive: true }),
  "is somebody else's": (fs, root) => {
    for (const name of ['library', 'rest']) fs.writeFileSync(`${root}/dist/${name}.js`, 'process.exit(9)')
  },
}

for (const [what, change] of Object.entries(CHANGES)) {
  test(`what is loaded at first use is ours where its file ${what}`, async (t) => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'linux-clone-import-'))
    t.teardown(() => rmSync(directory, { recursive: true, force: true }))
    const addons = readdirSync(repository).filter((name) => name.endsWith('.node'))
    for (const name of ['index.js', 'binding.js', 'dist', 'package.json', ...addons])
      cpSync(path.join(repository, name), path.join(directory, name), { recursive: true })
    const program = `
      const root = process.argv[1]
      const lib = require(root)
      const change = ${change}
      change(require('node:fs'), root)
      const { stdout } = lib.spawnSync('echo', ['spawned'], { encoding: 'utf8' })
      let refusal
      try { lib.kcmp(-1, -1, lib.KCMP_VM) } catch ({ code, hint }) { refusal = [code, typeof hint] }
      const run = async () => {
        const { code } = process.arch === 'x64' || process.arch === 'arm64' ? await lib.clone(() => 6).wait() : { code: 6 }
        console.log(JSON.stringify([stdout, refusal, code]))
      }
      run()`
    const output = await run(process.execPath, '--eval', program, directory)
    t.deepEqual(JSON.parse(output), ['spawned\n', ['ESRCH', 'undefined'], 6])
  })
}

test('the loader knows every platform that there is a package for', (t) => {
  const text = readFileSync(path.join(repository, 'binding.js'), 'utf8')
  const known = [...text.matchAll(/require\('linux-clone-([\w-]+)'\)/g)].map(([, platform]) => platform)
  t.deepEqual(known.sort(), readdirSync(path.join(repository, 'npm')).sort())
})

test('constants holds each constant of the contract, and no other', async (t) => {
  const { names, frozen } = await inUse(
    'main.js',
    `const { constants } = require('linux-clone')
    console.log(JSON.stringify({ names: Object.keys(constants), frozen: Object.isFrozen(constants) }))`,
  )
  t.deepEqual(names.sort(), [...CONSTANTS].sort())
  t.true(frozen)
})

test('every name can be imported by name', async (t) => {
  const same = await inUse(
    'main.mjs',
    `import { createRequire } from 'node:module'
    import { ${NAMES.join(', ')} } from 'linux-clone'
    const required = createRequire(import.meta.url)('linux-clone')
    const named = { ${NAMES.join(', ')} }
    console.log(JSON.stringify(Object.keys(named).filter((name) => named[name] === required[name])))`,
  )
  t.deepEqual(same, NAMES)
})

test('import * and the default import give the same', async (t) => {
  const { names, same, isDefault } = await inUse(
    'main.mjs',
    `import { createRequire } from 'node:module'
    import * as all from 'linux-clone'
    import one from 'linux-clone'
    const required = createRequire(import.meta.url)('linux-clone')
    console.log(JSON.stringify({
      names: Object.keys(all),
      same: Object.keys(required).every((name) => all[name] === required[name]),
      isDefault: one === required,
    }))`,
  )
  // What Node adds to every CommonJS module, the latter from Node 23 on.
  const added = ['__esModule', 'default', 'module.exports']
  t.deepEqual(names.filter((name) => !added.includes(name)).sort(), NAMES)
  t.true(same)
  t.true(isDefault)
})

test('import() gives the same as import', async (t) => {
  const same = await inUse(
    'main.cjs',
    `import('linux-clone').then((all) => console.log(JSON.stringify(all.default === require('linux-clone'))))`,
  )
  t.true(same)
})

const WORKER = `
  const { Worker, isMainThread, parentPort } = require('node:worker_threads')
  const use = () => {
    const { kcmp, KCMP_VM, unshare } = require('linux-clone')
    unshare(0)
    return kcmp(process.pid, process.pid, KCMP_VM)
  }
  if (!isMainThread) parentPort.postMessage(use())
  const answers = (count) => Promise.all(Array.from({ length: count }, () => new Promise((resolve, reject) => {
    const worker = new Worker(__filename)
    let answer
    worker.on('message', (message) => { answer = message })
    worker.on('error', reject)
    worker.on('exit', (code) => resolve([answer, code]))
  })))`

test('a Worker can load it where the main thread has not', async (t) => {
  const answers = await inUse(
    'main.js',
    `${WORKER}
    if (isMainThread) answers(1).then((answers) => console.log(JSON.stringify(answers)))`,
  )
  t.deepEqual(answers, [[0, 0]])
})

test('the main thread and three Workers can use it at once, and after one another', async (t) => {
  const answers = await inUse(
    'main.js',
    `${WORKER}
    if (isMainThread) (async () => {
      const first = answers(3)
      const own = use()
      const all = [...await first, ...await answers(3), [own, 0], [use(), 0]]
      console.log(JSON.stringify(all))
    })()`,
  )
  t.deepEqual(answers, Array(8).fill([0, 0]))
})

test('two copies of its JavaScript work beside each other', async (t) => {
  const results = await inUse(
    'main.js',
    `const first = require('linux-clone')
    for (const file of Object.keys(require.cache)) if (file !== __filename && !file.endsWith('.node')) delete require.cache[file]
    const second = require('linux-clone')
    const same = ({ kcmp, KCMP_VM }) => kcmp(process.pid, process.pid, KCMP_VM)
    console.log(JSON.stringify([first === second, same(first), same(second)]))`,
  )
  t.deepEqual(results, [false, 0, 0])
})

test('its exports are itself and its package.json', async (t) => {
  const { exports } = JSON.parse(readFileSync(path.join(repository, 'package.json'), 'utf8'))
  t.deepEqual(Object.keys(exports), ['.', './package.json'])
  const results = await inUse(
    'main.mjs',
    `import { createRequire } from 'node:module'
    const require = createRequire(import.meta.url)
    const files = ['index.js', 'binding.js', 'dist/library.js', 'dist/rest.js', 'linux-clone.node']
    const codes = []
    for (const file of files) {
      for (const load of [require, (name) => import(name)]) {
        codes.push(await Promise.resolve('linux-clone/' + file).then(load).catch(({ code }) => code))
      }
    }
    console.log(JSON.stringify({ name: require('linux-clone/package.json').name, codes: [...new Set(codes)] }))`,
  )
  t.deepEqual(results, { name: 'linux-clone', codes: ['ERR_PACKAGE_PATH_NOT_EXPORTED'] })
})

test('it loads with frozen intrinsics, and under the permission model that allows addons', async (t) => {
  const source = `const { kcmp, KCMP_VM } = require('linux-clone')
    console.log(JSON.stringify(kcmp(process.pid, process.pid, KCMP_VM)))`
  t.is(await inUse('main.js', source, '--frozen-intrinsics', '--no-warnings'), 0)
  const model = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission'
  t.is(await inUse('main.js', source, model, '--allow-fs-read=*', '--allow-addons', '--no-warnings'), 0)
})
