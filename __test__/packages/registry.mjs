// A registry with the packages of a directory, for npm to choose from.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import path from 'node:path'
import { run } from '../helpers/process.mjs'

/** Serves the tarballs, and resolves to the address and to what ends it. */
export async function serve(directory) {
  const packages = new Map()
  for (const file of readdirSync(directory)) {
    const tarball = readFileSync(path.join(directory, file))
    const text = await run(
      'tar',
      '--extract',
      '--gzip',
      '--to-stdout',
      '--file',
      path.join(directory, file),
      'package/package.json',
    )
    const manifest = JSON.parse(text)
    packages.set(manifest.name, { manifest, tarball })
  }
  const server = createServer((request, response) => {
    const [name, isTarball] = request.url.slice(1).split('/-/')
    const { manifest, tarball } = packages.get(name) ?? {}
    if (manifest === undefined) response.writeHead(404).end('{}')
    else if (isTarball) response.end(tarball)
    else {
      const { version } = manifest
      const dist = {
        tarball: `http://${request.headers.host}/${name}/-/${name}-${version}.tgz`,
        integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
      }
      const versions = { [version]: { ...manifest, dist } }
      response.end(JSON.stringify({ name, 'dist-tags': { latest: version }, versions }))
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return { address: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() }
}
