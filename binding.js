// Loads the addon: what npm run build has made here, or the platform's package.
const { existsSync, readFileSync } = require('node:fs')
const { join } = require('node:path')

// Each by its name, for programs that look through the text for what a bundle needs.
const PACKAGES = {
  'linux-x64-gnu': () => require('linux-clone-linux-x64-gnu'),
  'linux-x64-musl': () => require('linux-clone-linux-x64-musl'),
  'linux-arm64-gnu': () => require('linux-clone-linux-arm64-gnu'),
  'linux-arm64-musl': () => require('linux-clone-linux-arm64-musl'),
  'linux-arm-gnueabihf': () => require('linux-clone-linux-arm-gnueabihf'),
  'linux-riscv64-gnu': () => require('linux-clone-linux-riscv64-gnu'),
  'linux-s390x-gnu': () => require('linux-clone-linux-s390x-gnu'),
  'linux-ppc64-gnu': () => require('linux-clone-linux-ppc64-gnu'),
}

/** Those for this processor; both libcs' where it is not known which is here, of which the other does not load. */
function platforms() {
  const all = Object.keys(PACKAGES).filter((name) => name.startsWith(`${process.platform}-${process.arch}-`))
  if (all.length === 1) return all
  try {
    const isMusl = readFileSync('/usr/bin/ldd', 'latin1').includes('musl')
    return all.filter((name) => name.endsWith('musl') === isMusl)
  } catch {
    return all
  }
}

function loaded() {
  const { NAPI_RS_NATIVE_LIBRARY_PATH: named } = process.env
  if (named) return require(named)
  const errors = []
  for (const platform of platforms()) {
    const built = join(__filename, `../linux-clone.${platform}.node`)
    try {
      return existsSync(built) ? require(built) : PACKAGES[platform]()
    } catch (error) {
      errors.push(error)
    }
  }
  throw new AggregateError(errors, 'No package of this platform can be loaded')
}

try {
  module.exports = loaded()
} catch (cause) {
  const { targets } = require('./package.json').napi
  throw Object.assign(
    new Error(
      `linux-clone has no binary to load on ${process.platform} ${process.arch}. npm installs one, as an optional dependency, ` +
        `on ${targets.join(', ')}. Elsewhere it is built from source, with Rust: npm run build makes a .node file, ` +
        'which is loaded where NAPI_RS_NATIVE_LIBRARY_PATH names it.',
      { cause },
    ),
    { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' },
  )
}
