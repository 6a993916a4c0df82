// The packages as they are published, installed by npm where there is neither Rust nor a compiler.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import test from 'ava'
import { manifest, root, TARGETS } from '../../scripts/platforms/targets.mjs'
import { run } from '../helpers/process.mjs'
import { serve } from './registry.mjs'

const work = realpathSync(mkdtempSync(path.join(tmpdir(), 'linux-clone-packages-')))
// The demo shows what an ordinary user sees.
chmodSync(work, 0o755)
const [packed, programs] = ['packed', 'programs'].map((name) => path.join(work, name))
const own = TARGETS.find(({ binary }) => existsSync(path.join(root, path.basename(binary))))
const nameOf = ({ platform }) => `${manifest.name}-${platform}`
const fileOf = (name) => path.join(packed, `${name}-${manifest.version}.tgz`)
let registry

test.before(async () => {
  await run(process.execPath, path.join(root, 'scripts/pack.mjs'), packed)
  // Of platforms whose binary is not there npm chooses all the same.
  for (const target of TARGETS.filter((target) => !existsSync(fileOf(nameOf(target)))))
    await run(
      'npm',
      'pack',
      '--silent',
      '--pack-destination',
      packed,
      path.join(root, 'npm', target.platform),
    )
  registry = await serve(packed)
  mkdirSync(programs)
  const npm = realpathSync((await run('sh', '-c', 'command -v npm')).trim())
  for (const [name, file] of [
    ['node', process.execPath],
    ['npm', npm],
    ['sh', '/bin/sh'],
  ])
    symlinkSync(file, path.join(programs, name))
})
test.after.always(() => {
  registry?.close()
  rmSync(work, { recursive: true })
})

/** Runs a program that finds no other than Node, npm and a shell: its code, and what it printed. */
const bare = (...rest) => bareWith({}, ...rest)
async function bareWith(more, cwd, ...words) {
  const env = { ...more, PATH: programs, HOME: work, npm_config_cache: path.join(work, 'cache') }
  const child = spawn(path.join(programs, words[0]), words.slice(1), {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const outputs = Promise.all([text(child.stdout), text(child.stderr)])
  const [code] = await once(child, 'close')
  return { code, output: (await outputs).join('') }
}

const install = (...options) => installWith({}, ...options)

async function installWith(env, ...options) {
  const directory = mkdtempSync(path.join(work, 'install-'))
  chmodSync(directory, 0o755)
  writeFileSync(path.join(directory, 'package.json'), '{ "private": true }\n')
  const quiet = ['--no-audit', '--no-fund', '--no-update-notifier']
  const words = ['npm', 'install', ...quiet, '--registry', registry.address, ...options, manifest.name]
  return { directory, ...(await bareWith(env, directory, ...words)) }
}

const installed = (directory) =>
  readdirSync(path.join(directory, 'node_modules'))
    .filter((name) => !name.startsWith('.'))
    .sort()

const filesIn = async (name) =>
  (await run('tar', '--list', '--gzip', '--file', fileOf(name)))
    .trimEnd()
    .split('\n')
    .map((line) => line.replace('package/', ''))
    .sort()

test('The package has its code, its types, and what is said of it', async (t) => {
  const types = readdirSync(path.join(root, 'src')).map((file) => `dist/${file.replace('.ts', '.d.ts')}`)
  const others = ['binding.d.ts', 'binding.js', 'index.d.ts', 'index.js', 'package.json']
  const bundles = ['dist/library.js', 'dist/rest.js']
  const texts = ['CHANGELOG.md', 'LICENSE', 'README.md']
  t.deepEqual(await filesIn(manifest.name), [...types, ...bundles, ...others, ...texts].sort())
})

test("A platform's package has its binary", async (t) => {
  const binary = path.basename(own.binary)
  t.deepEqual(await filesIn(nameOf(own)), [binary, 'LICENSE', 'README.md', 'package.json'].sort())
})

test('Installed without a compiler: required, imported, typed, and run', async (t) => {
  const { directory, code, output } = await install()
  t.is(code, 0, output)
  t.deepEqual(installed(directory), [manifest.name, nameOf(own)].sort())

  const required = await bare(directory, 'node', '-p', "require('linux-clone').clone.length")
  t.deepEqual(required, { code: 0, output: '2\n' })
  const source =
    "import { CLONE_NEWNET, unshare } from 'linux-clone'; console.log(CLONE_NEWNET, typeof unshare)"
  const imported = await bare(directory, 'node', '--input-type=module', '--eval', source)
  t.deepEqual(imported, { code: 0, output: '1073741824 function\n' })

  // It shows what other programs see: these it has to find.
  cpSync(path.join(root, '.build/examples'), path.join(directory, 'examples'), { recursive: true })
  await t.notThrowsAsync(run(process.execPath, path.join(directory, 'examples/demo.mjs')))

  writeFileSync(
    path.join(directory, 'typed.mts'),
    "import { type Child, clone } from 'linux-clone'\nexport const child: Child = clone(() => 0)\n",
  )
  const options = [
    '--ignoreConfig',
    '--types',
    'node',
    '--noEmit',
    '--strict',
    '--module',
    'nodenext',
    '--typeRoots',
    path.join(root, 'node_modules/@types'),
  ]
  const compiler = path.join(root, 'node_modules/typescript/bin/tsc')
  await t.notThrowsAsync(run(process.execPath, compiler, ...options, path.join(directory, 'typed.mts')))
})

for (const target of TARGETS) {
  const { platform, arch, glibc } = target
  test(`npm chooses ${platform} there`, async (t) => {
    const libc = glibc === null ? 'musl' : 'glibc'
    const { directory, code, output } = await install('--os=linux', `--cpu=${arch}`, `--libc=${libc}`)
    t.is(code, 0, output)
    t.deepEqual(installed(directory), [manifest.name, nameOf(target)].sort())
  })
}

for (const system of ['darwin', 'win32']) {
  test(`npm refuses ${system}`, async (t) => {
    // Of the package itself npm asks where it runs, whatever --os says.
    const elsewhere = path.join(work, `${system}.cjs`)
    writeFileSync(elsewhere, `Object.defineProperty(process, 'platform', { value: '${system}' })\n`)
    const { code, output } = await installWith({ NODE_OPTIONS: `--require=${elsewhere}` })
    t.not(code, 0)
    t.regex(output, /EBADPLATFORM/)
  })
}

test('On an unknown processor the error says what there is, and what was built is loaded', async (t) => {
  const { directory } = await install()
  const unknown = "Object.defineProperty(process, 'arch', { value: 'mips' });"
  const load = (...words) => bare(directory, 'node', ...words)
  const failing = await load(
    '-p',
    `${unknown} try { require('linux-clone') } catch ({ code, message }) { [code, message].join(' ') }`,
  )
  t.regex(
    failing.output,
    /^ERR_FEATURE_UNAVAILABLE_ON_PLATFORM .* on linux mips\. .*x86_64-unknown-linux-gnu, .*npm run build/,
  )
  const binary = path.join(root, path.basename(own.binary))
  const loading = await load(
    '-p',
    `process.env.NAPI_RS_NATIVE_LIBRARY_PATH = ${JSON.stringify(binary)}; ${unknown} require('linux-clone').CLONE_NEWNS`,
  )
  t.deepEqual(loading, { code: 0, output: '131072\n' })
})

const checker = (name, ...words) => run(path.join(root, 'node_modules/.bin', name), ...words)

test('publint finds nothing', async (t) => {
  await t.notThrowsAsync(checker('publint', '--strict', fileOf(manifest.name)))
})

test('Are the types wrong? They are not', async (t) => {
  await t.notThrowsAsync(checker('attw', fileOf(manifest.name)))
})
