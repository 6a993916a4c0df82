import test from 'ava'
import { inProcess } from './helpers/process.mjs'

test('KCMP_VM tells a process from its child, and a process from itself', async (t) => {
  const result = await inProcess(({ lib, cp }) => {
    const child = cp.spawn('sleep', ['60'])
    const other = lib.kcmp(process.pid, child.pid, lib.KCMP_VM)
    child.kill()
    return { own: lib.kcmp(process.pid, process.pid, lib.KCMP_VM), other }
  })
  t.is(result.own, 0)
  t.true([1, 2].includes(result.other))
})
