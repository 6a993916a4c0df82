#!/usr/bin/env node
// What cargo calls to link: zig's compiler, which is given the target among the arguments.
import { spawnSync } from 'node:child_process'

const args = process.argv.slice(2)
const { status, error } = spawnSync(process.env.ZIG, ['cc', ...args], { stdio: 'inherit' })
if (error) throw error
process.exitCode = status ?? 1
