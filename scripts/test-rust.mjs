// Runs the Rust tests as whoever we are, and, where that is root, as an ordinary user too.
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const NOBODY = 65534
const cargo = ['test', '--workspace', '--locked', '--no-run', '--message-format', 'json']
const messages = execFileSync('cargo', cargo, {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 2 ** 28,
  stdio: ['ignore', 'pipe', 'inherit'],
})
const programs = messages
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line))
  .filter(({ reason, profile, executable }) => reason === 'compiler-artifact' && profile.test && executable)
  .map(({ target, executable }) => ({ name: target.name, executable }))

// Where the ordinary user can reach them, whatever directory this is.
const directory = mkdtempSync(path.join(tmpdir(), 'linux-clone-test-'))
chmodSync(directory, 0o755)
const identities = [{ who: `uid ${process.getuid()}`, options: {} }]
if (process.getuid() === 0) identities.push({ who: `uid ${NOBODY}`, options: { uid: NOBODY, gid: NOBODY } })

let failed = 0
try {
  for (const { who, options } of identities) {
    for (const { name, executable } of programs) {
      const copy = path.join(directory, path.basename(executable))
      copyFileSync(executable, copy)
      console.log(`\n── Rust tests, ${name}, ${who}`)
      const io = { cwd: directory, stdio: ['ignore', 'inherit', 'inherit'] }
      const { status, error } = spawnSync(copy, process.argv.slice(2), { ...io, ...options })
      if (error) throw error
      if (status !== 0) failed += 1
    }
  }
} finally {
  rmSync(directory, { recursive: true })
}
process.exitCode = failed > 0 ? 1 : 0
