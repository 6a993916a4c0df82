import type { SpawnRequest } from '../binding.js'
import { type Caller, invalidArgValue } from './argument-errors.js'
import type { Normalized } from './normalized.js'
import { bare } from './validate.js'

/**
 * What of a request is the program's own; `stdio` is to come. What child_process leaves as it is becomes strings here, as in Node's
 * own binding.
 */
export function programRequest(options: Normalized, caller: Caller): SpawnRequest {
  const { file, envPairs, cwd, uid, gid, detached } = options
  const request = bare<SpawnRequest>({
    file,
    args: options.args.map((arg, index) =>
      asText(arg, () => (index === 0 ? 'argv0' : `args[${index - 1}]`), caller),
    ),
    detached,
    stdio: [],
  })
  // The array itself: ChildProcess adds to it what its channel needs.
  if (envPairs !== undefined) request.env = envPairs
  if (cwd !== undefined && cwd !== null) request.cwd = asText(cwd, () => 'options.cwd', caller)
  // uid_t and gid_t are unsigned: the kernel refuses -1.
  if (uid !== undefined && uid !== null) request.uid = uid >>> 0
  if (gid !== undefined && gid !== null) request.gid = gid >>> 0
  return request
}

function asText(value: unknown, name: () => string, caller: Caller): string {
  const text = typeof value === 'string' ? value : `${value}`
  if (text.includes('\0')) throw invalidArgValue(name(), 'must be a string without null bytes', value, caller)
  return text
}
