//! Examples at the end of the help of the program and its tools.

/// Text after the help of `godzilla`.
pub const AFTER_HELP: &str = "\
`godzilla` alone is `godzilla serve`. Its flags, their defaults and their environment variables:
  godzilla serve --help";

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
The copy is checked. It has no sessions: after a restore all users log in again. To restore, stop the
server, move its data directory away, copy the backup to its place, start the server.";

/// Text after the help of `check`.
pub const CHECK_EXAMPLES: &str = "\
Examples:
  godzilla check                                    checks ./data, also while a server uses it
  godzilla check --data-dir /backups/monday
It prints the faults and the number of rows of each table; exit status 0 or 1.";
