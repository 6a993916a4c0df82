#!/bin/sh
# Runs in a container of node:*-slim or node:*-alpine, with the repository mounted: `test-in-container.sh PLATFORM [FILE...]`.
set -eu
platform=$1
shift
if command -v apk >/dev/null; then
  apk add --no-cache coreutils iproute2 procps strace shadow-uidmap util-linux
else
  apt-get update
  apt-get install --yes --no-install-recommends hostname iproute2 procps strace uidmap util-linux
fi
# The work of others, mounted here, is left as it is.
cp -a . /tmp/package
cd /tmp/package
npm ci --ignore-scripts --no-audit --no-fund
cp "npm/$platform/"*.node .
node scripts/test.mjs "$@"
