export * from './api.js'
export * from './constants.js'
