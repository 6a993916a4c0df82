import { readdirSync, readFileSync } from 'node:fs'
import test from 'ava'
import { privileged, run } from './helpers/process.mjs'

const root = new URL('..', import.meta.url)
const files = ['README.md', ...readdirSync(new URL('docs', root)).map((file) => `docs/${file}`)]

// An example is a block of JavaScript. What a line is to print stands behind it: console.log(…) // this
for (const file of files) {
  const text = readFileSync(new URL(file, root), 'utf8')
  for (const [block, source] of text.matchAll(/^```js\n(.*?)^```$/gms)) {
    const line = text.slice(0, text.indexOf(block)).split('\n').length
    test(`${file}:${line} prints what it says`, async (t) => {
      const expected = [...source.matchAll(/^ *console\.log\(.*\) \/\/ (.*)$/gm)].map(
        ([, printed]) => `${printed}\n`,
      )
      // The name of the package means this directory only for a module that is in it.
      const located = source.replaceAll(`'linux-clone'`, JSON.stringify(new URL('index.js', root).href))
      // Directories that one may not look into would make of a program that is missing one that is forbidden.
      const places = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
      const words = ['env', places, ...privileged, process.execPath, '--input-type=module', '--eval', located]
      t.true(expected.length > 0)
      t.is(await run(...words), expected.join(''))
    })
  }
}
