import type {
  ChildProcess,
  ChildProcessWithoutNullStreams,
  SpawnOptionsWithoutStdio as NodeSpawnOptionsWithoutStdio,
} from 'node:child_process'
import { rest } from './on-demand.js'
import type { NamespaceSpawnOptions, SpawnOptions } from './spawn-options.js'

/** A ChildProcess that has a pidfd, close-on-exec and the library's to close, while its process runs. */
export type Spawned<T extends ChildProcess = ChildProcess> = T & { readonly pidfd?: number }

/**
 * child_process.spawn, with namespaces. Same arguments, same events, same streams, same errors; code written for
 * ChildProcess works unchanged. Its cost does not grow with this process's memory: clone3(2) shares it until exec.
 *
 * `uid`, `gid` and `cwd` are meant inside the new namespaces and root; without a slash `command` is looked up in the `PATH` of
 * `env`, inside of the new root too. The program starts with every signal's default effect, none blocked, and with no
 * descriptor but those of `stdio`. `kill` and waiting go by `pidfd`, and can never reach another process.
 *
 * Wrong arguments throw, as Node's do: `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`, `ERR_INVALID_ARG_VALUE` (an unknown option,
 * name or type; options that contradict each other), `ERR_UNKNOWN_SIGNAL`. What the system refuses is an 'error' event, of exec
 * itself in Node's own shape (`spawn x ENOENT`, syscall `spawn x`, path, spawnargs) with `step` 'exec'; of an earlier step a
 * {@link SystemCallError} with that step, and with spawnargs. A start that failed leaves nothing behind but what docs/spawn.md names.
 *
 * With none of this package's own options, errors that Node throws are thrown: those with other codes than `EACCES`,
 * `EAGAIN`, `EMFILE`, `ENFILE` and `ENOENT`.
 *
 * Linux 5.8 or later.
 */
export function spawn(
  command: string,
  args: readonly string[] | undefined,
  options?: NodeSpawnOptionsWithoutStdio & NamespaceSpawnOptions,
): Spawned<ChildProcessWithoutNullStreams>
export function spawn(
  command: string,
  options?: NodeSpawnOptionsWithoutStdio & NamespaceSpawnOptions,
): Spawned<ChildProcessWithoutNullStreams>
export function spawn(
  command: string,
  args?: readonly string[],
  options?: SpawnOptions,
): ChildProcess & { readonly pidfd?: number }
export function spawn(command: string, options?: SpawnOptions): ChildProcess & { readonly pidfd?: number }
export function spawn(
  command: string,
  args?: readonly string[] | SpawnOptions,
  options?: SpawnOptions,
): Spawned {
  return rest().startSpawn(command, args, options, spawn)
}
