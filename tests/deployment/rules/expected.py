"""What has to be the same everywhere: said once more here, so that a slip of the pen in manifests or compose.yaml is seen."""

NAME = "app.kubernetes.io/name"

# Where each service listens.
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

# What each role is told, besides its settings and, of a chat node, its name and address.
ROLES = {
    "gateway": _REDIS | {"GODZILLA_ACCOUNTS_URL": "http://accounts:8081"},
    "accounts": _STORES,
    "chat": _STORES | {"GODZILLA_PRESENCE_URL": "http://presence:50051"},
    "presence": {},
}
for _role, _env in ROLES.items():
    _env = ROLES[_role] = dict(_env)
    _env["GODZILLA_LISTEN"] = f"0.0.0.0:{PORTS[_role]}"

# What all roles are told.
SETTINGS = {"GODZILLA_LOG_FORMAT": "json", "GODZILLA_ADMIN_LISTEN": f"0.0.0.0:{ADMIN}"}

# Who may open a connection to whom; * is everybody.
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

# All that Redis is told: with less it could lose a session, or open without a password.
REDIS_CONF = {
    "appendonly yes",
    "appendfsync always",
    "maxmemory 512mb",
    "maxmemory-policy noeviction",
    "dir /data",
    "include /run/secrets/redis/auth.conf",
}

# How MongoDB is started, behind its key.
MONGOD = 'exec mongod --replSet rs0 --keyFile /tmp/mongo-key --bind_ip_all "$@"'

# What tells whether a store can be used.
USABLE = {
    "mongo": ["mongosh", "--quiet", "--norc", "--nodb", "--file", "/etc/mongo/member.js"],
    "redis": ["sh", "-c", "REDISCLI_AUTH=$(cat /run/secrets/redis/password) redis-cli ping | grep -q PONG"],
}

# What a store is started with.
STARTED = {"mongo": ["bash", "/etc/mongo/start.sh"], "redis": ["redis-server", "/etc/redis/redis.conf"]}

offences = []


def offence(where, what):
    """Notes what is wrong."""
    offences.append(f"{where}: {what}")


def same(where, what, actual, wanted):
    """Notes it unless the two are equal."""
    if actual != wanted:
        offence(where, f"{what} is {actual}, and should be {wanted}")
