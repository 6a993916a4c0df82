// What starts processes, and what finds out why a call was refused: most of the package, loaded when it is first needed.
// A module that both this and src/library.ts bring is there twice: such a one keeps no state.
export { checkedOptions, NOTHING_ASKED } from './clone-options.js'
export { scheduleBy } from './copy.js'
export { hints } from './hints.js'
export { GRACE, runIn } from './namespace-run.js'
export { Plan, steps } from './namespace-table.js'
export { pivotRootHint } from './pivot-root-hint.js'
export { startClone } from './start-clone.js'
export { startSpawn } from './start-spawn.js'
export { startSpawnSync } from './start-spawn-sync.js'
