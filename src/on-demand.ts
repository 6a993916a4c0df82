import { readFileSync } from 'node:fs'

type Rest = typeof import('./rest.js')

const filename = require.resolve('./rest.js')

/** By the time that it is needed the file's place may be in another root, where what is there is somebody else's. */
const text = readFileSync(filename)

/** As they are before anybody puts others in their place, as tests do that make time stand still. */
const own = { nextTick: process.nextTick, setImmediate, queueMicrotask }

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
  const { compileFunction }: typeof import('node:vm') = require('node:vm')
  const module: { exports: unknown } = { exports: {} }
  compileFunction(text.toString(), ['module', 'require'], { filename })(module, require)
  return module.exports as Rest
}
