// Writes src/constants.ts from crates/syscalls/src/constants.rs: names and docs stand there once.
import { readFileSync, writeFileSync } from 'node:fs'

const root = new URL('..', import.meta.url)
const rust = readFileSync(new URL('crates/syscalls/src/constants.rs', root), 'utf8')
const binding = readFileSync(new URL('crates/node/src/constants.rs', root), 'utf8')
const constants = [...rust.matchAll(/^\/\/\/ (.*)\npub const ([A-Z0-9_]+):/gm)].map(([, doc, name]) => ({
  doc: doc.replaceAll(/\[(`\w+`)\]/g, '$1'),
  name,
}))
for (const { name } of constants) {
  if (!new RegExp(`^ {4}${name}$`, 'm').test(binding))
    throw new Error(`crates/node/src/constants.rs lacks ${name}`)
}

const lines = constants.map(
  ({ doc, name }) => `/** ${doc} */\nexport const ${name}: number = kernel.${name}\n`,
)
writeFileSync(
  new URL('src/constants.ts', root),
  `// Made by scripts/generate-constants.mjs from crates/syscalls/src/constants.rs.
import { constants as kernel } from '../binding.js'

/** Every constant by its kernel name. */
export const constants: Readonly<Record<string, number>> = Object.freeze({ ...kernel })

${lines.join('\n')}`,
)
