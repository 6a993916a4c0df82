import type { CloneRequest as More } from '../binding.js'

/** What a clone is to be. */
export interface CloneRequest extends More {
  flags: number
  /** Bytes. */
  stackSize: number
  exitSignal: number
}
