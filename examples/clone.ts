// clone(): a function goes on in a copy of this process, with everything that it sees from here.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { clone, configureLoopback, type NamespaceType } from 'linux-clone'

// Who is not root has a user namespace in which everything is allowed that concerns nobody else.
const privilege: NamespaceType[] = process.getuid?.() === 0 ? [] : ['user']

async function main(): Promise<void> {
  // A closure: nothing is passed, loaded or compiled again, and what the child changes is its own.
  const words = new Map([['answer', 42]])
  const child = clone(() => {
    words.set('answer', 0)
    console.log(`the child, ${process.pid}, is a child of ${process.ppid}`)
    return 7
  })
  const { code } = await child.wait()
  console.log(`it returned ${code}, and the answer here is still ${words.get('answer')}`)

  // An http server and its client in a network of their own: the port is not taken here.
  const page = 'served where nobody else is'
  const inside = clone(
    async () => {
      configureLoopback()
      const server = createServer((_, response) => response.end(page)).listen(80, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as AddressInfo
      const text = await (await fetch(`http://127.0.0.1:${port}`)).text()
      const devices = [...readFileSync('/proc/self/net/dev', 'utf8').matchAll(/^ *(\w+):/gm)].map(
        ([, name]) => name,
      )
      console.log(`port ${port} in a network of ${devices.join(', ')}: ${text}`)
    },
    { flags: [...privilege, 'net'] },
  )
  await inside.wait()

  // A hundred at once, each pid 1 of a pid namespace, with a network, host name and System V objects of its own.
  const flags: NamespaceType[] = [...privilege, 'pid', 'net', 'ipc', 'uts']
  const start = performance.now()
  const children = Array.from({ length: 100 }, (_, index) =>
    clone(async () => (process.pid === 1 ? index : 255), { flags }),
  )
  const statuses = await Promise.all(children.map((each) => each.wait()))
  const right = statuses.filter((status, index) => status.code === index).length
  console.log(
    `${right} of ${children.length} isolated children said who they are, in ${Math.round(performance.now() - start)} ms`,
  )
}

void main()
