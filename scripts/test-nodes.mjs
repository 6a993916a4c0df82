// Runs the JavaScript tests under every Node line that the package supports; their binaries come from npm's package `node`.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const LINES = ['20', '22', '24', '26']
const root = fileURLToPath(new URL('..', import.meta.url))

function run(command, args, options) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', ...options })
  if (error) throw error
  return status === 0
}

function binary(line) {
  if (process.version.startsWith(`v${line}.`)) return process.execPath
  // What the package `node` would install and link, by its own name.
  const platform = `node-linux-${process.arch}`
  const directory = path.join(root, '.nodes', line)
  const file = path.join(directory, 'node_modules', platform, 'bin/node')
  if (existsSync(file)) return file
  mkdirSync(directory, { recursive: true })
  writeFileSync(path.join(directory, 'package.json'), '{ "private": true }\n')
  const install = ['install', '--no-audit', '--no-fund', '--no-save', `${platform}@${line}`]
  if (!run('npm', install, { cwd: directory })) throw new Error(`Node ${line} could not be installed`)
  return file
}

const failed = LINES.filter(
  (line) => !run(binary(line), [path.join(root, 'scripts/test.mjs'), ...process.argv.slice(2)]),
)
if (failed.length > 0) console.error(`\nfailed under Node ${failed.join(', ')}`)
process.exitCode = failed.length > 0 ? 1 : 0
