// Writes index.js, with the names that src/index.ts exports.
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { build } from 'esbuild'
import { root } from './platforms/targets.mjs'

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: ['src/index.ts'],
  external: ['../binding.js', './rest.js'],
  bundle: true,
  platform: 'node',
  format: 'esm',
  write: false,
  metafile: true,
})
const [{ exports }] = Object.values(metafile.outputs)
writeFileSync(
  path.join(root, 'index.js'),
  `// Made by scripts/generate-index.mjs from src/index.ts.
module.exports = require('./dist/library.js').library

// Node's lexer finds here what can be imported by name: what it reads takes it several times as long as to compile.
0 && (module.exports = {
${exports
  .sort()
  .map((name) => `  ${name},\n`)
  .join('')}})
`,
)
