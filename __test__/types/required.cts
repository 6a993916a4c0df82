// The package as CommonJS sees it. Nothing of it runs.
import lc = require('linux-clone')

lc.unshare(['net', 'uts'], { threads: 'all' })
lc.CLONE_NEWNET satisfies number
lc.constants satisfies Readonly<Record<string, number>>
const { kcmp, KCMP_VM } = lc
kcmp(1, 2, KCMP_VM) satisfies 0 | 1 | 2 | 3
const flags: lc.Flags = ['net']
lc.unshare(flags)
const isRefused = (error: lc.SystemCallError): boolean => error.code === 'EPERM'
isRefused satisfies (error: lc.SystemCallError) => boolean

// @ts-expect-error
lc.unshare('network')
// @ts-expect-error
lc.unshared('net')
// @ts-expect-error
lc.CLONE_NEWNET = 0
