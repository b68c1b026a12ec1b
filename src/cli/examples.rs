//! Examples at the end of the help of each command.

/// Text after the help of `godzilla`.
pub const AFTER_HELP: &str = "\
`godzilla` alone is `godzilla serve`. Its flags, their defaults and their environment variables:
  godzilla serve --help";

/// Text after the help of `serve`.
pub const SERVE_EXAMPLES: &str = "\
Examples:
  godzilla                                          chat on http://127.0.0.1:8080, data in ./data
  godzilla serve --listen 0.0.0.0:8080 --data-dir /var/lib/godzilla
  godzilla serve --allow-origin https://app.example.org --trusted-proxy 10.0.0.7
  GODZILLA_LOG_FORMAT=json godzilla                 every flag has a variable; a flag wins over it

Every variable that starts with GODZILLA_ must be one of those above: a misspelt one stops the start.";

/// Text after the help of `gateway`.
pub const GATEWAY_EXAMPLES: &str = "\
Examples:
  head -c 32 /dev/urandom | base64 > key && chmod 600 key
  godzilla gateway --secret-file key --redis-url redis://127.0.0.1:6379/0 --accounts-url http://127.0.0.1:8081
Chat nodes are found in Redis, where they announce themselves. It starts without any of them; /readyz on the admin address
names the services that it waits for.";

/// Text after the help of `accounts`.
pub const ACCOUNTS_EXAMPLES: &str = "\
Examples:
  head -c 32 /dev/urandom | base64 > key && chmod 600 key
  godzilla accounts --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
It starts without MongoDB and Redis; /readyz on the admin address names the stores that it waits for.";

/// Text after the help of `chat`.
pub const CHAT_EXAMPLES: &str = "\
Examples:
  godzilla chat --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
  godzilla chat --listen 0.0.0.0:3000 --node chat-1 --advertise 10.0.0.6:3000 \\
    --mongo-uri-file mongo --redis-url-file redis --secret-file key --presence-url http://10.0.0.5:50051
Every node has a name of its own, by which gateways find the sockets that are on it. It starts without MongoDB and Redis;
/readyz on the admin address names the stores that it waits for.";

/// Text after the help of `presence`.
pub const PRESENCE_EXAMPLES: &str = "\
Examples:
  godzilla presence                                 gRPC on 127.0.0.1:50051, admin on 127.0.0.1:9100
  godzilla presence --listen 10.0.0.5:50051 --admin-listen 10.0.0.5:9100 --log-format json
  godzilla healthcheck --admin-listen 10.0.0.5:9100";

/// Text after the help of `run`.
pub const RUN_EXAMPLES: &str = "\
Examples:
  godzilla run --roles gateway,accounts,chat,presence --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
  godzilla run --roles gateway,chat --listen 0.0.0.0:8080 --chat-listen 10.0.0.6:3000 --accounts-url http://10.0.0.5:8081 \\
    --presence-url http://10.0.0.5:50051 --mongo-uri-file mongo --redis-url-file redis --secret-file key
  godzilla run --roles presence,accounts --accounts-listen 10.0.0.5:8081 --presence-listen 10.0.0.5:50051 \\
    --mongo-uri-file mongo --redis-url-file redis --secret-file key
The flags and variables are those of the roles. A flag that several roles have is given once. --listen is the address of the
gateway; each other role has its own. A gateway uses the accounts of its process, and a chat node the presence. There is one
admin address: /readyz is ready when all roles are, and names the parts of each.";

/// Text after the help of `doctor`.
pub const DOCTOR_EXAMPLES: &str = "\
Examples:
  godzilla doctor                                   what `godzilla serve` would run with
  godzilla doctor --listen 0.0.0.0:8080 --data-dir /var/lib/godzilla
  godzilla doctor chat --secret-file key --redis-url redis://127.0.0.1:6379/0 \\
    --mongo-uri 'mongodb://127.0.0.1/godzilla?replicaSet=rs0'
It takes the flags and variables of the role, starts nothing and changes nothing. It looks at
addresses, proxies, origins, the data directory, the clock, the limit of open files and the secret
file, and asks the stores. Each finding is one line with its remedy:
  error: ...       the role does not start or does not work; exit status 1
  warning: ...     the role works, and perhaps not as it is meant; exit status 0
Run it as the user, on the machine and with the environment of the role. While the role runs, its
own addresses and data directory are in use.";

/// Text after the help of `backup`.
pub const BACKUP_EXAMPLES: &str = "\
Examples:
  godzilla backup /backups/monday                   copies ./data
  godzilla backup --data-dir /var/lib/godzilla /backups/monday
The copy is checked before it gets its name. It has no sessions: after a restore all users log in again. To restore, stop the
server, move its data directory away, copy the backup to its place, start the server.";

/// Text after the help of `check`.
pub const CHECK_EXAMPLES: &str = "\
Examples:
  godzilla check                                    checks ./data, also while a server uses it
  godzilla check --data-dir /backups/monday
  godzilla check --accept-loss                      after a refused start, when there is no backup
The end of the log is checked only while no server runs.";
