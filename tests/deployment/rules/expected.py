"""Values that must be the same everywhere: repeated here, so that a mistake in manifests or compose.yaml is detected."""

NAME = "app.kubernetes.io/name"

# The port of each service.
PORTS = {"gateway": 8080, "accounts": 8081, "chat": 3000, "presence": 50051, "mongo": 27017, "redis": 6379}
ADMIN = 9100

KINDS = {
    "gateway": "Deployment",
    "accounts": "Deployment",
    "chat": "StatefulSet",
    "presence": "Deployment",
    "mongo": "StatefulSet",
    "redis": "StatefulSet",
}

FILES = "/run/secrets/godzilla"
_REDIS = {"GODZILLA_REDIS_URL_FILE": f"{FILES}/redis-url", "GODZILLA_SECRET_FILE": f"{FILES}/identity-key"}
_STORES = _REDIS | {"GODZILLA_MONGO_URI_FILE": f"{FILES}/mongo-uri"}

# The environment of each role, besides its settings and, of a chat node, its name and address.
ROLES = {
    "gateway": _REDIS | {"GODZILLA_ACCOUNTS_URL": "http://accounts:8081"},
    "accounts": _STORES,
    "chat": _STORES | {"GODZILLA_PRESENCE_URL": "http://presence:50051"},
    "presence": {},
}
for _role, _env in ROLES.items():
    _env = ROLES[_role] = dict(_env)
    _env["GODZILLA_LISTEN"] = f"0.0.0.0:{PORTS[_role]}"

# The settings of all roles.
SETTINGS = {
    "GODZILLA_LOG_FORMAT": "json",
    "GODZILLA_ADMIN_LISTEN": f"0.0.0.0:{ADMIN}",
    "GODZILLA_DRAIN_DELAY": "5s",
}

# The allowed connections: source, destination, port; * is any source.
EDGES = {
    ("*", "gateway", 8080),
    ("gateway", "accounts", 8081),
    ("gateway", "chat", 3000),
    ("gateway", "redis", 6379),
    ("accounts", "mongo", 27017),
    ("accounts", "redis", 6379),
    ("chat", "mongo", 27017),
    ("chat", "presence", 50051),
    ("chat", "redis", 6379),
    ("mongo", "mongo", 27017),
}

# The complete configuration of Redis: without one of these lines it could lose a session or accept connections without a password.
REDIS_CONF = {
    "appendonly yes",
    "appendfsync always",
    "maxmemory 512mb",
    "maxmemory-policy noeviction",
    "dir /data",
    "include /run/secrets/redis/auth.conf",
}

# The command that starts MongoDB, after its key was copied.
MONGOD = 'exec mongod --replSet rs0 --keyFile /tmp/mongo-key --bind_ip_all "$@"'

# The commands that check whether a store is usable.
USABLE = {
    "mongo": ["mongosh", "--quiet", "--norc", "--nodb", "--file", "/etc/mongo/member.js"],
    "redis": ["sh", "-c", "REDISCLI_AUTH=$(cat /run/secrets/redis/password) redis-cli ping | grep -q PONG"],
}

# The command of each store.
STARTED = {"mongo": ["bash", "/etc/mongo/start.sh"], "redis": ["redis-server", "/etc/redis/redis.conf"]}

offences = []


def offence(where, what):
    """Records a violation."""
    offences.append(f"{where}: {what}")


def same(where, what, actual, expected):
    """Records a violation unless the two are equal."""
    if actual != expected:
        offence(where, f"{what} is {actual}, expected {expected}")
