#!/usr/bin/env bash
# Starts one member of the replica set. mongod requires a key file that only its user can read. A mounted secret is not,
# so the key is copied.
set -euo pipefail
install -m 400 "$MONGO_SECRETS/key" /tmp/mongo-key
# Probes run mongosh, whose logs and telemetry are disabled.
mkdir -p "$HOME/.mongodb/mongosh"
echo '{"disableLogging": true, "enableTelemetry": false}' >"$HOME/.mongodb/mongosh/config"
exec mongod --replSet rs0 --keyFile /tmp/mongo-key --bind_ip_all "$@"
