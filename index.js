try {
  require('./binding.js')
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
module.exports = require('./dist/index.js')
