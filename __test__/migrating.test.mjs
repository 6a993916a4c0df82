// Each line of the tables in docs/ does what it says.
import { readFileSync } from 'node:fs'
import test from 'ava'
import { temporaryDirectory } from './helpers/machine.mjs'
import { inProcess } from './helpers/process.mjs'

const text = readFileSync(new URL('../docs/migrating.md', import.meta.url), 'utf8')

/** The cells of the lines that have code in the last two. */
const lines = (section) =>
  [...section.matchAll(/^\|(.*)\|$/gm)]
    .map(([, line]) => line.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|')))
    .filter(([, here]) => here?.startsWith('`'))
    .map(([, here, then]) => [here, then].map((cell) => cell.replace(/^(`+) ?(.*?) ?\1$/, '$2')))

for (const section of text.split(/^## /m).slice(1)) {
  const title = section.slice(0, section.indexOf('\n'))
  test(`${title}: every line does what it says`, async (t) => {
    const all = lines(section)
    t.true(all.length >= 14, `${all.length} lines were found`)
    const words = [
      'unshare',
      '--mount',
      '--uts',
      '--ipc',
      '--net',
      '--cgroup',
      '--pid',
      '--fork',
      '--kill-child',
    ]
    const failures = await inProcess(
      async ({ lib, fs, os }, all, words, directory) => {
        const [command, ...rest] = words
        const cp = process.getBuiltinModule('child_process')
        const target = cp.spawn(command, [...rest, 'sh', '-c', 'echo; exec sleep 1000'], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        await new Promise((resolve) => target.stdout.once('data', resolve))
        const [pid] = fs
          .readFileSync(`/proc/${target.pid}/task/${target.pid}/children`, 'utf8')
          .split(' ')
          .map(Number)
        const ns = (type, of = 'thread-self') => fs.readlinkSync(`/proc/${of}/ns/${type}`)
        const links = new Map(['mnt', 'uts', 'ipc', 'net', 'user'].map((type) => [type, ns(type)]))
        const output = async (child) => {
          let text = ''
          for await (const chunk of child.stdout.setEncoding('utf8')) text += chunk
          return text.trim()
        }
        const names = {
          ...{ ...lib.constants, ...lib, ...fs, readlink: fs.promises.readlink, ns, output, directory, pid },
          ...{
            hostname: os.hostname,
            networkInterfaces: os.networkInterfaces,
            fd: fs.openSync(`/proc/${pid}/ns/uts`),
          },
          outside: (type) => links.get(type),
        }
        const { default: _, constants: __, ...given } = names
        const AsyncFunction = (async () => {}).constructor
        const failures = []
        for (const [here, then] of all) {
          try {
            const line = new AsyncFunction(...Object.keys(given), `${here}; return (${then}) === true`)
            const holds = await new lib.Namespace().run(() => line(...Object.values(given)))
            if (!holds) failures.push(`${here}: not ${then}`)
          } catch (error) {
            failures.push(`${here}: ${error.stack}`)
          }
        }
        target.kill('SIGKILL')
        return failures
      },
      all,
      words,
      temporaryDirectory(t),
    )
    t.deepEqual(failures, [])
  })
}

test('The options in docs/namespace.md are those that there are, and do what NODE_DEBUG says', async (t) => {
  const page = readFileSync(new URL('../docs/namespace.md', import.meta.url), 'utf8')
  const table = /^## Options\n(.*?)\n\n[^|]/ms.exec(page)[1]
  const documented = [...table.matchAll(/^\| `(\w+)` *\| (.*?) *\|$/gm)].map(
    ([, option, does]) => `${option}: ${does}`,
  )
  const printed = await inProcess(
    async ({ cp }, index) => {
      const source = `
        const { Namespace } = require(process.argv[1])
        const all = { privateMount: true, privateTmp: true, privatePid: true, noProc: true, privateNet: true, privateIpc: true,
          privateUser: true, privateUts: true, privateCgroup: true, privateTime: true, privateSysvsem: true, termChild: true,
          signal: new AbortController().signal }
        new Namespace(all).run(() => 1)`
      const env = { ...process.env, NODE_DEBUG: 'linux-clone' }
      return cp.spawnSync(process.execPath, ['-e', source, index], { encoding: 'utf8', env }).stderr
    },
    new URL('../index.js', import.meta.url).pathname,
  )
  const said = printed
    .split('\n')
    .map((line) => /^LINUX-CLONE \d+: run: (.*)$/.exec(line)?.[1])
    .filter((line) => line !== undefined)
  t.deepEqual(said.slice(0, documented.length).sort(), documented.sort())
  t.is(documented.length, 13)
  for (const step of ['every mount: private', 'network: lo is up', 'it has ended with code 0'])
    t.true(said.includes(step))
  t.true(said.some((line) => line.includes('CLONE_NEWNS | CLONE_NEWUTS')))
  t.true(said.some((line) => line.startsWith('mount: tmpfs on /tmp')))
})
