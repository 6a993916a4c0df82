import binding = require('../binding.js')

import { type Caller, invalidArgType, invalidArgValue, outOfRange } from './argument-errors.js'
import { text } from './validate.js'

/** Those that mount(8) knows for every file system. */
export const flagOptions = new Map(
  binding.mountOptions().map(({ name, set, clear }) => [name, { set, clear }]),
)
const octalOptions = new Set(binding.octalMountOptions())

/** One of the file system's own options, as the kernel splits them: at each comma, without a way to escape it. */
export function ownOption(option: string, value: unknown, of: string, caller: Caller): string | null {
  const name = `${of}.${option}`
  if (option === '' || /[,=\0]/.test(text(option, of, caller))) {
    throw invalidArgValue(of, 'has a name that is empty or holds a comma or an equals sign', option, caller)
  }
  switch (typeof value) {
    case 'boolean':
      return value ? option : null
    case 'number':
      if (!Number.isSafeInteger(value) || (value < 0 && octalOptions.has(option))) {
        throw outOfRange(name, 'an integer', value, caller)
      }
      return `${option}=${value.toString(octalOptions.has(option) ? 8 : 10)}`
    case 'string':
      if (text(value, name, caller).includes(',')) {
        throw invalidArgValue(name, 'must not hold a comma, which would start another option', value, caller)
      }
      return `${option}=${value}`
    default:
      throw invalidArgType(name, 'of type string, number or boolean', value, caller)
  }
}
