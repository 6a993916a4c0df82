// Fails where a file that is generated, and committed, is not what its source makes it now.
import { execFileSync } from 'node:child_process'

const GENERATED = ['binding.d.ts', 'index.js', 'src/constants.ts', 'npm']
const options = { cwd: new URL('..', import.meta.url), stdio: ['ignore', 'ignore', 'inherit'] }

execFileSync('npm', ['run', 'build'], options)
execFileSync('npx', ['napi', 'create-npm-dirs', '--npm-dir', 'npm'], options)
const changed = execFileSync('git', ['status', '--porcelain', '--', ...GENERATED], {
  ...options,
  stdio: 'pipe',
})
if (changed.length > 0) {
  console.error(`not up to date:\n${changed}run npm run build and napi create-npm-dirs, and commit`)
  process.exitCode = 1
}
