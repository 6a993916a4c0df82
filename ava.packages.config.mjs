// The packages as they are published: npm run test:packages.
export default {
  files: ['__test__/packages/*.test.mjs'],
  workerThreads: false,
  timeout: '2m',
  cache: false,
}
