// Checks that npm/ has the binary of every target, or of those that the command line names, and that each is what it should be:
// for its processor, of no newer glibc than its target may want, stripped, small, and linked with the libc alone.
import { existsSync } from 'node:fs'
import { checkBinary } from './platforms/binary.mjs'
import { chosen } from './platforms/targets.mjs'

const targets = chosen(process.argv.slice(2))
const missing = targets.filter(({ binary }) => !existsSync(binary))
if (missing.length > 0)
  throw new Error(`there is no binary of ${missing.map(({ platform }) => platform).join(', ')}`)
for (const target of targets) console.log(checkBinary(target))
