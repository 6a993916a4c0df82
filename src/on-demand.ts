import { readFileSync } from 'node:fs'

type Rest = typeof import('./rest.js')

const filename = require.resolve('./rest.js')

/** By the time that it is needed the file may be out of reach: in another root, under a mount, or somebody else's. */
const bytes = readFileSync(filename)

/** As they are before anybody puts others in their place, as tests do that make time stand still. */
const own = { nextTick: process.nextTick, setImmediate }

let loaded: Rest | undefined

/** What takes longer to load than all else here, and many a program does without. */
export function rest(): Rest {
  if (loaded === undefined) {
    loaded = load()
    loaded.scheduleBy(own)
  }
  return loaded
}

function load(): Rest {
  try {
    return require('./rest.js')
  } catch {
    const { compileFunction }: typeof import('node:vm') = require('node:vm')
    const module: { exports: unknown } = { exports: {} }
    compileFunction(bytes.toString(), ['module', 'require'], { filename })(module, require)
    return module.exports as Rest
  }
}
