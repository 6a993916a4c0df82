// What require gives: values, where a bundle's own exports would be accessors, which cost as much as to load the addon.
import * as api from './api.js'
import { constants } from './constants.js'

export const library = { ...constants, ...api, constants }
