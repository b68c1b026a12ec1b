"""The image, the compose file that runs it, and the names of the scripts."""

import re
from pathlib import Path

import yaml

from expected import FILES, PORTS, ROLES, SETTINGS, offence, same

# The end of the Dockerfile, by which everything else knows how to run the image.
DOCKERFILE = [
    "COPY --from=build /image/usr/local/bin/godzilla /usr/local/bin/godzilla",
    "COPY --from=build --chown=65532:65532 --chmod=700 /image/data /data",
    "USER 65532:65532",
    "STOPSIGNAL SIGTERM",
    'CMD ["/usr/local/bin/godzilla", "healthcheck"]',
    'ENTRYPOINT ["/usr/local/bin/godzilla"]',
    'CMD ["serve", "--listen", "0.0.0.0:8080", "--data-dir", "/data"]',
]

# Of each service of compose.yaml: who runs it, and the volumes that matter.
STORES = {
    "mongo": {"mongo-data:/data/db", "mongo-secrets:/run/secrets/mongo:ro", "./manifests/base/mongo:/etc/mongo:ro"},
    "redis": {"redis-data:/data", "redis-secrets:/run/secrets/redis:ro", "./manifests/base/redis:/etc/redis:ro"},
}


def check_build():
    """What goes into the image, and how it is run."""
    manifest, dockerfile = Path("Cargo.toml").read_text(), Path("Dockerfile").read_text()
    members = re.findall(r'"([\w-]+)"', re.search(r"members = \[(.*?)\]", manifest, re.S)[1])
    lines = [line for line in Path(".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    same(".dockerignore", "what is refused first", lines[:1], ["*"])
    admitted = {line[1:] for line in lines if line.startswith("!")}
    same(".dockerignore", "what is admitted", admitted, {*members, "src", "Cargo.toml", "Cargo.lock"})
    wanted = re.search(r'^rust-version = "(.*)"', manifest, re.M)[1]
    if f"rust:{wanted}-" not in dockerfile:
        offence("Dockerfile", f"it builds with another Rust than {wanted}")
    for line in DOCKERFILE:
        if line not in dockerfile:
            offence("Dockerfile", f"it lacks: {line}")
    if "\nHEALTHCHECK " not in dockerfile:
        offence("Dockerfile", "it has no HEALTHCHECK")


def check_compose(images, known):
    """The services of compose.yaml, beside what the manifests run."""
    services = yaml.safe_load(Path("compose.yaml").read_text())
    networks, services = services["networks"], services["services"]
    same("compose.yaml", "the network inside", networks["inside"], {"internal": True})
    wanted = {*ROLES, "mongo", "redis", "secrets", "chat-1", "chat-2"} - {"chat"}
    same("compose.yaml", "the services", set(services), wanted)
    same("compose.yaml", "the number of builds", sum("build" in service for service in services.values()), 1)
    for name, service in services.items():
        where, role = f"compose.yaml {name}", name.partition("-")[0]
        if not service.get("read_only") or service.get("cap_drop") != ["ALL"]:
            offence(where, "it could write to its image or has capabilities")
        same(where, "no-new-privileges", service.get("security_opt"), ["no-new-privileges:true"])
        for dependency in service.get("depends_on", {}):
            if dependency not in services:
                offence(where, f"it waits for {dependency}, which there is not")
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                offence(where, f"{port} is open to other machines")
        if role in ROLES:
            check_role(where, name, role, service, known)
        else:
            check_store(where, name, service, images)


def check_role(where, name, role, service, known):
    """A service that runs the program."""
    same(where, "its image", service["image"].partition(":")[0], "godzilla")
    same(where, "its command", service.get("command"), [role])
    same(where, "its user", service.get("user"), "65532:65532")
    env = dict(ROLES[role]) | SETTINGS
    if role == "chat":
        env |= {"GODZILLA_NODE": name, "GODZILLA_ADVERTISE": f"{name}:{PORTS['chat']}"}
    same(where, "its environment", service.get("environment"), env)
    for variable in env:
        if variable not in known:
            offence(where, f"{variable} is a variable that no flag reads; the program refuses to start")
    same(where, "its networks", set(service.get("networks", [])) - {"outside"}, {"inside"})
    has_secrets = any(value.startswith(FILES) for value in env.values())
    same(where, "its volumes", service.get("volumes", []), [f"roles-secrets:{FILES}:ro"] if has_secrets else [])


def check_store(where, name, service, images):
    """MongoDB, Redis, or what makes the secrets."""
    if service["image"] not in images:
        offence(where, f"{service['image']} is not what the manifests run")
    if name not in STORES:
        return
    same(where, "its user", service.get("user"), "999:999")
    same(where, "its volumes", set(service.get("volumes", [])), STORES[name])
    same(where, "its networks", service.get("networks"), ["inside"])
    if not service.get("healthcheck", {}).get("test"):
        offence(where, "nobody knows when it is ready")


def check_targets():
    """Each target of `just` is the script of its name."""
    recipes = re.findall(r"^([\w-]+)[^\n:]*:\n((?:    .*\n)+)", Path("justfile").read_text(), re.M)
    scripts = {path.name for path in Path("scripts").iterdir() if path.stat().st_mode & 0o100}
    same("justfile", "its targets", {name for name, _ in recipes}, scripts)
    for name, recipe in recipes:
        same("justfile", f"what {name} does", recipe.strip(), f'@scripts/{name} "$@"')
