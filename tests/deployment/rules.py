"""What schemas and policies cannot know: that manifests, compose.yaml, scripts and sources say the same.

Run by scripts/check-deployment in the repository's root, with the folder of rendered manifests. Prints every offence.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

# Who may open a connection to whom; * is everybody. Probes and metrics (9100) and names (53) are besides.
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

BESIDES = {9100, 53}
NAME = "app.kubernetes.io/name"
ROLES = {"gateway", "accounts", "chat", "presence"}

offences = []


def offence(where, what):
    offences.append(f"{where}: {what}")


def declared():
    """Every variable that a flag of the program reads."""
    sources = [path for path in Path(".").glob("**/src/**/*.rs") if "target" not in path.parts]
    return {name for path in sources for name in re.findall(r'env = "(GODZILLA_\w+)"', path.read_text())}


def made_secrets():
    """Names of secrets and their keys, as scripts/secrets makes them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["scripts/secrets", folder], check=True, stderr=subprocess.DEVNULL)
        return {part.name: {file.name for file in part.iterdir()} for part in Path(folder).iterdir()}


def check_variables(where, names, known):
    for name in names:
        if name.startswith("GODZILLA_") and name not in known:
            offence(where, f"{name} is a variable that no flag reads; the program refuses to start")


def pod(document):
    return document["spec"]["template"]["spec"]


def mounted(where, spec, container, secrets):
    """Paths of the secret files that the container sees; a mount must name keys that exist."""
    paths = set()
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        secret = volumes.get(mount["name"], {}).get("secret")
        if not secret:
            continue
        name, made = secret["secretName"], secrets.get(secret["secretName"], set())
        if secret.get("defaultMode") != 0o440:
            offence(where, f"secret {name} is not mounted with mode 0440")
        files = {item["path"]: item["key"] for item in secret.get("items", [])} or {key: key for key in made}
        for path, key in files.items():
            if key not in made:
                offence(where, f"scripts/secrets makes no {name}/{key}")
            paths.add(f"{mount['mountPath']}/{path}")
    return paths


def check_workload(where, document, settings, secrets, known):
    spec = pod(document)
    for container in spec["containers"]:
        env = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
        check_variables(where, env, known)
        files = mounted(where, spec, container, secrets)
        for name, value in env.items():
            if name.endswith("_FILE") and value not in files:
                offence(where, f"{name} names {value}, which is not mounted")
        if container["name"] == "godzilla":
            check_role(where, container, settings | env)
    if spec.get("enableServiceLinks", True):
        offence(where, "variables of services would be put into its environment")


def check_role(where, container, env):
    if container.get("args", [""])[0] not in ROLES:
        offence(where, "its argument is no role")
    for name in ("GODZILLA_LISTEN", "GODZILLA_ADMIN_LISTEN"):
        port = int(env.get(name, ":0").rpartition(":")[2])
        if port not in {entry["containerPort"] for entry in container["ports"]}:
            offence(where, f"{name} is not a port of its own")


def edges(documents):
    """Connections that policies let through at both ends."""
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    if not any(policy["podSelector"] == {} and "ingress" not in policy and "egress" not in policy for policy in policies):
        offence("NetworkPolicy", "there is none that refuses what is not allowed")
    sides = {"ingress": set(), "egress": set()}
    for policy in policies:
        me = policy["podSelector"].get("matchLabels", {}).get(NAME)
        for side, key in (("ingress", "from"), ("egress", "to")):
            for rule in policy.get(side, []):
                peers = [peer.get("podSelector", {}).get("matchLabels", {}).get(NAME) for peer in rule.get(key, [])]
                for peer in peers or ["*"]:
                    for port in rule["ports"]:
                        if port["port"] not in BESIDES:
                            edge = (peer, me, port["port"]) if side == "ingress" else (me, peer, port["port"])
                            sides[side].add(edge)
    return {edge for edge in sides["ingress"] if edge[0] == "*" or edge in sides["egress"]}, sides


def check_network(where, documents):
    allowed, sides = edges(documents)
    for edge in sorted(EDGES - allowed):
        offence(where, "{} cannot reach {} at {}".format(*edge))
    for edge in sorted((sides["ingress"] | sides["egress"]) - EDGES, key=str):
        offence(where, "{} may reach {} at {}, and need not".format(*edge))


def check_rendered(path, secrets, known):
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    settings = {}
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        if document["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") != "godzilla":
            offence(path.name, f"{kind} {name}: scripts/clean would not find it")
        if kind in ("Job", "CronJob"):
            offence(path.name, f"{kind} {name}: nothing runs by itself beside the services")
        if kind == "Secret":
            offence(path.name, f"Secret {name}: no secret is in the repository")
        if kind == "ConfigMap" and name.startswith("settings"):
            settings = document["data"]
            check_variables(f"{path.name} ConfigMap settings", settings, known)
    workloads = [document for document in documents if document["kind"] in ("Deployment", "StatefulSet")]
    names = {document["metadata"]["name"] for document in workloads}
    if names != ROLES | {"mongo", "redis"}:
        offence(path.name, f"the workloads are {sorted(names)}")
    for document in workloads:
        name = document["metadata"]["name"]
        check_workload(f"{path.name} {name}", document, settings, secrets, known)
        retention = document["spec"].get("persistentVolumeClaimRetentionPolicy", {})
        if name in ("mongo", "redis") and set(retention.values()) != {"Retain"}:
            offence(f"{path.name} {name}", "its volumes would not stay")
    check_network(path.name, documents)
    return {container["image"] for document in workloads for container in pod(document)["containers"]}


def check_compose(images, known):
    services = yaml.safe_load(Path("compose.yaml").read_text())["services"]
    for name, service in services.items():
        check_variables(f"compose.yaml {name}", service.get("environment", {}), known)
        if not service["read_only"] or service["cap_drop"] != ["ALL"]:
            offence(f"compose.yaml {name}", "it could write to its image or has capabilities")
        if not service["image"].startswith("godzilla:") and service["image"] not in images:
            offence(f"compose.yaml {name}", f"{service['image']} is not what the manifests run")


def check_build():
    manifest = Path("Cargo.toml").read_text()
    members = re.findall(r'"([\w-]+)"', re.search(r"members = \[(.*?)\]", manifest, re.S)[1])
    admitted = Path(".dockerignore").read_text().splitlines()
    for member in [*members, "src", "Cargo.toml", "Cargo.lock"]:
        if f"!{member}" not in admitted:
            offence(".dockerignore", f"{member} is not admitted, so the image would not build")
    wanted = re.search(r'^rust-version = "(.*)"', manifest, re.M)[1]
    if f"rust:{wanted}-" not in Path("Dockerfile").read_text():
        offence("Dockerfile", f"it builds with another Rust than {wanted}")


def main(folder):
    secrets, known, images = made_secrets(), declared(), set()
    for path in sorted(Path(folder).glob("*.yaml")):
        images |= check_rendered(path, secrets, known)
    check_compose(images, known)
    check_build()
    print("\n".join(offences))
    return 1 if offences else 0


sys.exit(main(sys.argv[1]))
