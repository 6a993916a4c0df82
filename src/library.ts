// What require gives: values, where a bundle's own exports would be accessors, which cost as much as to load the addon.
import binding = require('../binding.js')

import * as api from './api.js'
import { constants } from './constants.js'
import { ignoresSigusr1 } from './startup.js'

if (ignoresSigusr1()) binding.expectNoSignalInspector()

export const library = { ...constants, ...api, constants }
