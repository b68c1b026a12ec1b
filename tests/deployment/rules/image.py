"""The image, the compose file that runs it, and the names of the scripts."""

import re
from pathlib import Path

import yaml

from expected import FILES, PORTS, ROLES, SETTINGS, STARTED, USABLE, offence, same

# Lines of the Dockerfile on which the manifests, compose.yaml and the scripts rely.
DOCKERFILE = [
    "ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot",
    "cargo build --profile dist --locked --package godzilla --bin godzilla",
    "COPY --from=build /image/usr/local/bin/godzilla /usr/local/bin/godzilla",
    "COPY --from=build --chown=65532:65532 --chmod=700 /image/data /data",
    "USER 65532:65532",
    "STOPSIGNAL SIGTERM",
    'CMD ["/usr/local/bin/godzilla", "healthcheck"]',
    'ENTRYPOINT ["/usr/local/bin/godzilla"]',
    'CMD ["serve", "--listen", "0.0.0.0:8080", "--data-dir", "/data"]',
]

# The service of compose.yaml that creates the secrets, and the volumes of the stores.
SECRETS = {
    "user": "0:0",
    "cap_add": ["CHOWN", "DAC_OVERRIDE"],
    "entrypoint": ["bash", "/scripts/secrets", "--chown", "/secrets"],
    "volumes": [
        "./scripts:/scripts:ro",
        "roles-secrets:/secrets/roles",
        "mongo-secrets:/secrets/mongo",
        "redis-secrets:/secrets/redis",
    ],
}
STORES = {
    "mongo": {"mongo-data:/data/db", "mongo-secrets:/run/secrets/mongo:ro", "./manifests/base/mongo:/etc/mongo:ro"},
    "redis": {"redis-data:/data", "redis-secrets:/run/secrets/redis:ro", "./manifests/base/redis:/etc/redis:ro"},
}


def check_build():
    """The content of the image, and how it runs."""
    manifest, dockerfile = Path("Cargo.toml").read_text(), Path("Dockerfile").read_text()
    # The folder of a member such as crates/x is admitted.
    members = re.findall(r'"([\w-]+)(?:/[\w-]+)?"', re.search(r"members = \[(.*?)\]", manifest, re.S)[1])
    lines = [line for line in Path(".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    same(".dockerignore", "what is refused first", lines[:1], ["*"])
    admitted = {line[1:] for line in lines if line.startswith("!")}
    # The gateway contains both documents.
    documents = {"docs/openapi.yaml", "docs/asyncapi.yaml"}
    same(".dockerignore", "what is admitted", admitted, {*members, *documents, "src", "Cargo.toml", "Cargo.lock"})
    refused = [line for line in lines[1:] if not line.startswith("!")]
    same(".dockerignore", "what is refused of that", refused, ["**/target", "**/node_modules", "**/*.sqlite3*"])
    expected = re.search(r'^rust-version = "(.*)"', manifest, re.M)[1]
    # The build uses the same Debian as the final image: a newer C library would be missing there.
    if f"rust:{expected}-bookworm\n" not in dockerfile:
        offence("Dockerfile", f"it does not build with Rust {expected} on Debian 12")
    for line in DOCKERFILE:
        if line not in dockerfile:
            offence("Dockerfile", f"it lacks: {line}")
    if "\nHEALTHCHECK " not in dockerfile:
        offence("Dockerfile", "it has no HEALTHCHECK")


def check_compose(images, variables):
    """The services of compose.yaml, compared with the manifests."""
    services = yaml.safe_load(Path("compose.yaml").read_text())
    volumes, networks, services = services["volumes"], services["networks"], services["services"]
    expected_volumes = {"mongo-data", "redis-data", "roles-secrets", "mongo-secrets", "redis-secrets"}
    same("compose.yaml", "the volumes", set(volumes), expected_volumes)
    same("compose.yaml", "the network inside", networks["inside"], {"internal": True})
    expected = {*ROLES, "mongo", "redis", "secrets", "chat-1", "chat-2"} - {"chat"}
    same("compose.yaml", "the services", set(services), expected)
    same("compose.yaml", "the number of builds", sum("build" in service for service in services.values()), 1)
    for name, service in services.items():
        where, role = f"compose.yaml {name}", name.partition("-")[0]
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
            offence(where, "its file system is writable or it has capabilities")
        same(where, "no-new-privileges", service.get("security_opt"), ["no-new-privileges:true"])
        for dependency in service.get("depends_on", {}):
            if dependency not in services:
                offence(where, f"it waits for {dependency}, which is not a service")
        expected = ["127.0.0.1:${GATEWAY_PORT:-8080}:8080"] if name == "gateway" else []
        same(where, "the published ports", service.get("ports", []), expected)
        if role in ROLES:
            check_role(where, name, role, service, variables)
        else:
            check_store(where, name, service, images)


def check_role(where, name, role, service, variables):
    """A service that runs the program."""
    same(where, "its image", service["image"].partition(":")[0], "godzilla")
    same(where, "its command", service.get("command"), [role])
    same(where, "its user", service.get("user"), "65532:65532")
    # No endpoints have to change before a service may stop.
    env = dict(ROLES[role]) | SETTINGS | {"GODZILLA_DRAIN_DELAY": "0s"}
    if role == "chat":
        env |= {"GODZILLA_NODE": name, "GODZILLA_ADVERTISE": f"{name}:{PORTS['chat']}"}
    same(where, "its environment", service.get("environment"), env)
    for variable in env:
        if variable not in variables:
            offence(where, f"{variable} is a variable that no flag reads; the program refuses to start")
    same(where, "its networks", service.get("networks"), ["inside", "outside"] if role == "gateway" else ["inside"])
    same(where, "how long it may drain", service.get("stop_grace_period"), "30s")
    same(where, "its restart policy", service.get("restart"), "unless-stopped")
    has_secrets = any(value.startswith(FILES) for value in env.values())
    same(where, "its volumes", service.get("volumes", []), [f"roles-secrets:{FILES}:ro"] if has_secrets else [])


def check_store(where, name, service, images):
    """MongoDB, Redis, or the service that creates the secrets."""
    if service["image"] not in images:
        offence(where, f"{service['image']} is not an image of the manifests")
    if name == "secrets":
        for key, value in SECRETS.items():
            same(where, f"its {key}", service.get(key), value)
        return
    same(where, "its user", service.get("user"), "999:999")
    same(where, "its entrypoint", service.get("entrypoint"), STARTED[name])
    same(where, "its restart policy", service.get("restart"), "unless-stopped")
    usable = ["CMD", *USABLE["mongo"]] if name == "mongo" else ["CMD-SHELL", USABLE["redis"][2].replace("$", "$$")]
    same(where, "its health check", service.get("healthcheck", {}).get("test"), usable)
    if name == "mongo":
        env = {"HOME": "/tmp", "MONGO_MEMBERS": "mongo:27017", "MONGO_SECRETS": "/run/secrets/mongo"}
        same(where, "its environment", service.get("environment"), env)
        same(where, "its name", service.get("hostname"), "mongo")
        same(where, "its writable paths", service.get("tmpfs"), ["/tmp:mode=1777,size=64m"])
    same(where, "its volumes", set(service.get("volumes", [])), STORES[name])
    same(where, "its networks", service.get("networks"), ["inside"])


def check_targets():
    """Each recipe of `just` runs the script of its name."""
    recipes = re.findall(r"^([\w-]+)[^\n:]*:\n((?:    .*\n)+)", Path("justfile").read_text(), re.M)
    scripts = {path.name for path in Path("scripts").iterdir() if path.stat().st_mode & 0o100}
    same("justfile", "its targets", {name for name, _ in recipes}, scripts)
    for name, recipe in recipes:
        same("justfile", f"what {name} does", recipe.strip(), f'@scripts/{name} "$@"')
