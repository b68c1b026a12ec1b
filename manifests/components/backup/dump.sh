#!/usr/bin/env bash
# Dumps MongoDB at one point in time and removes dumps older than KEEP_DAYS. A dump is renamed to its final name when it
# is complete.
set -euo pipefail
name=godzilla-$(date -u +%Y%m%dT%H%M%SZ).archive.gz
# The URI with the password is in a file: arguments are visible to other processes.
umask 077
printf 'uri: "mongodb://root:%s@%s/?replicaSet=rs0&authSource=admin&readPreference=primary"\n' \
    "$(cat "$MONGO_SECRETS/root-password")" "$MONGO_MEMBERS" >/tmp/config.yaml
rm -f "$BACKUP_DIR"/*.part
mongodump --config /tmp/config.yaml --oplog --gzip --archive="$BACKUP_DIR/$name.part"
sync "$BACKUP_DIR/$name.part"
mv "$BACKUP_DIR/$name.part" "$BACKUP_DIR/$name"
sync "$BACKUP_DIR"
find "$BACKUP_DIR" -name 'godzilla-*.archive.gz' -mtime "+$KEEP_DAYS" -delete
printf 'wrote %s, %s bytes\n' "$name" "$(stat -c %s "$BACKUP_DIR/$name")"
