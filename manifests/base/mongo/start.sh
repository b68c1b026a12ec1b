#!/usr/bin/env bash
# Starts one member of the replica set. mongod takes its key only from a file that nobody but its user can read, which a mounted
# secret is not, so it gets a copy.
set -euo pipefail
install -m 400 "$MONGO_SECRETS/key" /tmp/mongo-key
# Probes run mongosh: it keeps no logs of that and tells nobody.
mkdir -p "$HOME/.mongodb/mongosh"
echo '{"disableLogging": true, "enableTelemetry": false}' >"$HOME/.mongodb/mongosh/config"
exec mongod --replSet rs0 --keyFile /tmp/mongo-key --bind_ip_all "$@"
