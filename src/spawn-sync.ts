import type {
  SpawnSyncOptions as NodeSpawnSyncOptions,
  SpawnSyncOptionsWithBufferEncoding,
  SpawnSyncOptionsWithStringEncoding,
  SpawnSyncReturns,
} from 'node:child_process'
import { rest } from './on-demand.js'
import type { NamespaceSpawnOptions, SpawnOptions } from './spawn-options.js'

/** Node's own, and those of namespaces. */
export interface SpawnSyncOptions extends NodeSpawnSyncOptions, NamespaceSpawnOptions {}

/**
 * child_process.spawnSync, with the options of {@link spawn}: blocks until the program has ended and its output is read.
 *
 * Same result: `pid`, `output`, `stdout`, `stderr`, `status`, `signal`, and `error` where the system refused something, as
 * {@link spawn} emits it (`spawnSync x ENOENT`); where `timeout` (`ETIMEDOUT`) or `maxBuffer` (`ENOBUFS`, 1 MiB over all streams by default; 0 and
 * Infinity: none) has ended the program by `killSignal`; and where it has not read its `input` (`EPIPE`).
 *
 * Wrong arguments throw. `'ipc'` among `stdio` is `ERR_IPC_SYNC_FORK`. Linux 5.8 or later.
 */
export function spawnSync(
  command: string,
  args: readonly string[] | undefined,
  options: SpawnSyncOptionsWithStringEncoding & NamespaceSpawnOptions,
): SpawnSyncReturns<string>
export function spawnSync(
  command: string,
  options: SpawnSyncOptionsWithStringEncoding & NamespaceSpawnOptions,
): SpawnSyncReturns<string>
export function spawnSync(
  command: string,
  args: readonly string[] | undefined,
  options: SpawnSyncOptionsWithBufferEncoding & NamespaceSpawnOptions,
): SpawnSyncReturns<Buffer>
export function spawnSync(
  command: string,
  options: SpawnSyncOptionsWithBufferEncoding & NamespaceSpawnOptions,
): SpawnSyncReturns<Buffer>
export function spawnSync(
  command: string,
  args: readonly string[] | undefined,
  options: SpawnSyncOptions,
): SpawnSyncReturns<string | Buffer>
export function spawnSync(command: string, options: SpawnSyncOptions): SpawnSyncReturns<string | Buffer>
export function spawnSync(
  command: string,
  args?: readonly string[],
  options?: SpawnOptions,
): SpawnSyncReturns<string | Buffer>
export function spawnSync(
  command: string,
  args?: readonly string[] | SpawnOptions | SpawnSyncOptions,
  options?: SpawnOptions | SpawnSyncOptions,
): SpawnSyncReturns<string | Buffer> {
  return rest().startSpawnSync(command, args, options, spawnSync)
}
