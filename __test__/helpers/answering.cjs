// What may come through the pipe of Namespace.run in the place of an answer, and what comes of it.
const fs = require('node:fs')
const path = require('node:path')
const v8 = require('node:v8')

const dist = path.join(__dirname, '../../dist')

/**
 * Runs functions that write `bytes` where their answer goes, and exit with 7. What comes of it, and what is wrong
 * with that.
 */
function answering(lib) {
  const namespace = new lib.Namespace({ privateUts: true })
  const pipes = (pid) =>
    fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        const target = fs.readlinkSync(`/proc/${pid}/fd/${fd}`)
        return target.startsWith('pipe:') ? [{ fd: Number(fd), target }] : []
      } catch {
        return [] // The directory itself, which is closed again.
      }
    })
  const isForWriting = (fd) =>
    (Number.parseInt(/flags:\s*(\d+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`))[1], 8) & 3) === 1
  let before
  const write = (bytes) => {
    const parents = pipes(process.ppid)
    const isAnswers = ({ fd, target }) =>
      !before.includes(fd) && isForWriting(fd) && parents.some((parent) => parent.target === target)
    const { fd } = pipes('self').find(isAnswers)
    for (let rest = bytes; rest.length > 0; ) rest = rest.subarray(fs.writeSync(fd, rest))
  }
  const builtIn = [Object, Array, Error, RangeError, Map, Promise].flatMap((Class) => [
    Class,
    Class.prototype,
  ])
  const names = () => builtIn.flatMap((object) => Reflect.ownKeys(object).map(String)).join()
  const known = names()
  return async function told(bytes) {
    if (!before) {
      await namespace.run(() => 1)
      before = pipes('self').map(({ fd }) => fd)
    }
    const end = () => {
      write(bytes)
      process.exit(7)
    }
    const got = await namespace.run(end).then(
      (value) => ({ value }),
      (error) => ({ error }),
    )
    const problems = []
    if (names() !== known) problems.push('what is built in has changed')
    if (builtIn.includes(got.error)) problems.push('what is built in was thrown')
    const isRefused = got.error?.code === 'ERR_NAMESPACE_CHILD_EXIT'
    if (isRefused && !(got.error instanceof Error && got.error.exitCode === 7 && got.error.signal === null))
      problems.push('how it has ended is not told')
    const { stack } = Object(got.error)
    if (!isRefused && typeof stack === 'string' && stack.includes(dist))
      problems.push(`the package threw ${stack}`)
    return { isRefused, problems, ...got }
  }
}

const doubles = (...numbers) => Buffer.from(Float64Array.from(numbers).buffer)

/** `host`: what is written in the place of a view. */
const cloned = (hasThrown, value, host) => {
  const writer = new v8.Serializer()
  writer.writeHeader()
  if (host) {
    writer._setTreatArrayBufferViewsAsHostObjects(true)
    writer._writeHostObject = () => host(writer)
  }
  writer.writeUint32(hasThrown ? 1 : 0)
  writer.writeValue(value)
  return writer.releaseBuffer()
}

const message = (...words) => {
  const bytes = cloned(...words)
  return Buffer.concat([doubles(1, bytes.length), bytes])
}

module.exports = { answering, doubles, message }
