// What building and trying other platforms needs beside the repository: packages of Debian's and of PyPI, installed where they
// are missing.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { root } from './targets.mjs'

const TOOLS = path.join(root, '.tools')

/** Runs a program to its end, and fails where it does; its output, where `stdio` has it piped. */
export function run(command, args, options) {
  const io = { stdio: 'inherit', encoding: 'utf8', maxBuffer: 2 ** 28 }
  const { status, signal, error, stdout } = spawnSync(command, args, { ...io, ...options })
  if (error) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${signal ?? status}`)
  return stdout
}

/** Installs packages of Debian's: `{ name: file }`, where the file is one that the package has. */
export function debian(packages) {
  const missing = Object.keys(packages).filter((name) => !existsSync(packages[name]))
  if (missing.length === 0) return
  run('apt-get', ['update'])
  run('apt-get', ['install', '--yes', '--no-install-recommends', ...missing])
}

/** Unpacks a wheel of PyPI's, and returns the directory. */
export function wheel(name, version, { platform, hash }) {
  const directory = path.join(TOOLS, `${name}-${version}-${platform}`)
  if (existsSync(directory)) return directory
  if (spawnSync('pip3', ['--version']).error) debian({ 'python3-pip': '/usr/bin/pip3' })
  const download = `${directory}.wheel`
  mkdirSync(download, { recursive: true })
  const requirements = path.join(download, 'requirements.txt')
  writeFileSync(requirements, `${name}==${version} --hash=sha256:${hash}\n`)
  const what = ['--no-deps', '--only-binary', ':all:', '--platform', platform, '--require-hashes']
  run('pip3', ['download', '--quiet', ...what, '--dest', download, '--requirement', requirements])
  const file = readdirSync(download).find((entry) => entry.endsWith('.whl'))
  run('python3', ['-m', 'zipfile', '-e', path.join(download, file), download])
  renameSync(download, directory)
  return directory
}

/**
 * Unpacks packages of another suite or processor of Debian's, with all that they depend on, and returns the directory: apt gets
 * them in a world of their own, so that this machine stays as it is.
 */
export function unpackedDebian(suite, architecture, packages) {
  const name = createHash('sha256').update(packages.join()).digest('hex').slice(0, 12)
  const directory = path.join(TOOLS, `${suite}-${architecture}-${name}`)
  const root = path.join(directory, 'root')
  if (existsSync(path.join(directory, 'complete'))) return root
  const [lists, cache, status, sources] = ['lists', 'cache', 'status', 'sources'].map((entry) =>
    path.join(directory, entry),
  )
  for (const needed of [path.join(lists, 'partial'), path.join(cache, 'archives/partial'), root])
    mkdirSync(needed, { recursive: true })
  writeFileSync(status, '')
  writeFileSync(
    sources,
    `deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror()} ${suite} main\n`,
  )
  const world = {
    'APT::Architecture': architecture,
    'APT::Architectures': architecture,
    'APT::Install-Recommends': 'false',
    'APT::Sandbox::User': 'root',
    'Dir::Cache': cache,
    'Dir::Etc::SourceList': sources,
    'Dir::Etc::SourceParts': '-',
    'Dir::State::Lists': lists,
    'Dir::State::Status': status,
  }
  const options = Object.entries(world).flatMap(([key, value]) => ['-o', `${key}=${value}`])
  const quiet = [...options, '-qq', '--yes']
  run('apt-get', [...quiet, 'update'])
  run('apt-get', [...quiet, '--download-only', 'install', ...packages])
  const archives = path.join(cache, 'archives')
  for (const file of readdirSync(archives).filter((entry) => entry.endsWith('.deb')))
    run('dpkg-deb', ['--extract', path.join(archives, file), root])
  writeFileSync(path.join(directory, 'complete'), '')
  return root
}

/** Where this machine has Debian's packages from. */
function mirror() {
  const format = ['--format', '$(REPO_URI) $(ORIGIN)', 'Created-By: Packages']
  const text = run('apt-get', ['indextargets', ...format], { stdio: ['ignore', 'pipe', 'inherit'] })
  const uri = /^(\S+\/debian\/?) Debian$/m.exec(text)?.[1]
  if (uri === undefined) throw new Error('apt has no source of Debian: run apt-get update on Debian')
  return uri
}
