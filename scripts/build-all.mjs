// Builds the addon for every target of package.json, or for those that the command line names (`linux-arm64-gnu`, or a
// triple), into npm/: with Debian's Rust, whose source builds the standard library for each target, and with zig as the
// linker, which has the symbols of every glibc, and musl.
import { chmodSync, copyFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkBinary } from './platforms/binary.mjs'
import { chosen, root } from './platforms/targets.mjs'
import { debian, run, wheel } from './platforms/tools.mjs'

const PROGRAMS = {
  'rustc-web': '/usr/bin/rustc',
  'cargo-web': '/usr/bin/cargo',
  'rust-web-src': '/usr/lib/rustlib/src/rust/library/std/Cargo.toml',
  binutils: '/usr/bin/readelf',
}
const ZIG = {
  x64: {
    platform: 'manylinux_2_12_x86_64',
    hash: 'ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54',
  },
  arm64: {
    platform: 'manylinux_2_17_aarch64',
    hash: 'b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e',
  },
}

const targets = chosen(process.argv.slice(2))
debian(PROGRAMS)
const zig = path.join(wheel('ziglang', '0.17.1', ZIG[process.arch]), 'ziglang/zig')
chmodSync(zig, 0o755)

const environment = {
  ...process.env,
  RUSTC: PROGRAMS['rustc-web'],
  // -Zbuild-std, of a compiler that is not a nightly one.
  RUSTC_BOOTSTRAP: '1',
  ZIG: zig,
}
const linker = fileURLToPath(new URL('platforms/linker.mjs', import.meta.url))
const build = path.join(root, 'target/platforms')
const options = targets.flatMap(({ triple, abi, zig: name }) => {
  const variable = `CARGO_TARGET_${triple.toUpperCase().replaceAll('-', '_')}`
  // A library that is loaded by a program of musl's is linked with that program's libc.
  const dynamic = abi === 'musl' ? ' -C target-feature=-crt-static' : ''
  environment[`${variable}_LINKER`] = linker
  environment[`${variable}_RUSTFLAGS`] = `-C link-arg=--target=${name}${dynamic}`
  return ['--target', triple]
})
// Without what prints backtraces: there are no symbols to print.
const std = ['-Z', 'build-std=std,panic_abort', '-Z', 'build-std-features=optimize_for_size']
const cargo = ['build', '--release', '--locked', '--package', 'linux-clone-node', '--target-dir', build]
run(PROGRAMS['cargo-web'], [...cargo, ...std, ...options], { cwd: root, env: environment })

for (const target of targets) {
  copyFileSync(path.join(build, target.triple, 'release/liblinux_clone_node.so'), target.binary)
  console.log(checkBinary(target))
}
