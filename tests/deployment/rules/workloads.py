"""The workloads of the cluster: each pod is confined, probed, configured, and selected by its service."""

import re

from expected import ADMIN, FILES, KINDS, NAME, PORTS, ROLES, STARTED, USABLE, offence, same

CONFINED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
MOUNTS = {
    "mongo": {"/data/db": "data", "/etc/mongo": "mongo-", "/run/secrets/mongo": "mongo", "/tmp": "emptyDir"},
    "redis": {"/data": "data", "/etc/redis": "redis-", "/run/secrets/redis": "redis"},
}
PROBES = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def pod(document):
    """The specification of a workload's pods."""
    return document["spec"]["template"]["spec"]


def confinement(user):
    """The required security context of a pod of this user."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def check(where, document, secrets):
    """Checks one workload against the secrets of scripts/secrets."""
    name, spec = document["metadata"]["name"], pod(document)
    same(where, "its kind", document["kind"], KINDS.get(name))
    same(where, "its security context", spec.get("securityContext"), confinement(65532 if name in ROLES else 999))
    same(where, "automountServiceAccountToken", spec.get("automountServiceAccountToken"), False)
    same(where, "enableServiceLinks", spec.get("enableServiceLinks"), False)
    same(where, "terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"), 60)
    same(where, "the number of containers", len(spec["containers"]), 1)
    container = spec["containers"][0]
    same(where, "the container's security context", container.get("securityContext"), CONFINED)
    resources = container.get("resources", {})
    requested, most = (resources.get(part, {}).get("memory") for part in ("requests", "limits"))
    if not requested or requested != most:
        offence(where, f"requests {requested} of memory with the limit {most}: both must be equal")
    if requested and mebibytes(requested) < 256:
        offence(where, f"{requested} of memory are not enough")
    same(where, "its update strategy", update(document), "Recreate" if name == "presence" else "RollingUpdate")
    if name in ("presence", "redis"):
        same(where, "the number of its pods", document["spec"].get("replicas"), 1)
    for entry in container.get("env", []):
        if re.search(r"://[^/]*:[^/]*@", entry.get("value", "")) or "secretKeyRef" in entry.get("valueFrom", {}):
            offence(where, f"{entry['name']} contains a secret; secrets belong into files")
    files = mounted(where, spec, container, secrets)
    ports = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
    if PORTS.get(name) not in ports.values():
        offence(where, f"it has no port {PORTS.get(name)}")
    if name in ROLES:
        check_role(where, name, container, files)
    else:
        check_store(where, name, document, container)


def update(document):
    """How new pods replace old ones."""
    spec = document["spec"]
    return spec.get("strategy", spec.get("updateStrategy", {})).get("type", "RollingUpdate")


def mebibytes(quantity):
    """A quantity of memory such as 512Mi."""
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


def mounted(where, spec, container, secrets):
    """The paths of the secret files in the container; a mount must name existing keys."""
    paths = set()
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        secret = volumes.get(mount["name"], {}).get("secret")
        if not secret:
            continue
        name, made = secret["secretName"], secrets.get(secret["secretName"], set())
        same(where, f"the mode of secret {name}", secret.get("defaultMode"), 0o440)
        same(where, f"whether secret {name} may be absent", secret.get("optional", False), False)
        files = {item["path"]: item["key"] for item in secret.get("items", [])} or {key: key for key in made}
        for path, key in files.items():
            if key not in made:
                offence(where, f"scripts/secrets creates no {name}/{key}")
            paths.add(f"{mount['mountPath']}/{path}")
    return paths


def check_role(where, role, container, files):
    """A pod of the program."""
    same(where, "its arguments", container.get("args"), [role])
    same(where, "its command", container.get("command"), None)
    same(where, "its settings", container.get("envFrom", [{}])[0].get("configMapRef", {}).get("name", "")[:9], "settings-")
    env = {entry["name"]: entry.get("value") or entry.get("valueFrom") for entry in container.get("env", [])}
    expected = dict(ROLES[role])
    if role == "chat":
        expected |= {
            "GODZILLA_NODE": {"fieldRef": {"fieldPath": "metadata.name"}},
            "POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}},
            "GODZILLA_ADVERTISE": f"$(POD_IP):{PORTS['chat']}",
        }
    same(where, "its environment", env, expected)
    same(where, "its secrets", files, {value for value in ROLES[role].values() if value.startswith(FILES)})
    same(where, "its lifecycle", container.get("lifecycle"), None)
    if {"name": "admin", "containerPort": ADMIN} not in container["ports"]:
        offence(where, f"it has no port admin, {ADMIN}")
    for probe, path in PROBES.items():
        same(where, f"its {probe}", container.get(probe, {}).get("httpGet"), {"path": path, "port": "admin"})
    starts, lives = container.get("startupProbe", {}), container.get("livenessProbe", {})
    if starts.get("periodSeconds", 10) * starts.get("failureThreshold", 3) < 60:
        offence(where, "it has less than a minute to start")
    if lives.get("failureThreshold", 3) < 3 or lives.get("timeoutSeconds", 1) < 5:
        offence(where, "one slow response would kill it")


def check_store(where, store, document, container):
    """A pod of MongoDB or Redis; its data must be retained."""
    same(where, "its command", container.get("command"), STARTED[store])
    same(where, "its arguments", container.get("args"), None)
    for probe in ("startupProbe", "readinessProbe"):
        same(where, f"its {probe}", container.get(probe, {}).get("exec", {}).get("command"), USABLE[store])
    same(where, "its livenessProbe", container.get("livenessProbe", {}).get("tcpSocket"), {"port": store})
    claims = [claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])]
    same(where, "its persistent volumes", claims, ["data"])
    held = {volume["name"]: content(volume) for volume in pod(document)["volumes"]} | {name: name for name in claims}
    mounts = {mount["mountPath"]: held.get(mount["name"]) for mount in container.get("volumeMounts", [])}
    same(where, "its mounts", mounts, MOUNTS[store])
    retention = document["spec"].get("persistentVolumeClaimRetentionPolicy", {})
    same(where, "the retention of its volumes", retention, {"whenDeleted": "Retain", "whenScaled": "Retain"})
    if store == "mongo":
        members = ",".join(f"mongo-{index}.mongo:27017" for index in range(document["spec"]["replicas"]))
        same(where, "its pod management policy", document["spec"].get("podManagementPolicy"), "Parallel")
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        same(where, "its members", environment.get("MONGO_MEMBERS"), members)
        same(where, "where its secrets are", environment.get("MONGO_SECRETS"), "/run/secrets/mongo")


def content(volume):
    """The content of a volume: the name of a secret, the name of a ConfigMap without its hash, or the kind of the volume."""
    if "secret" in volume:
        return volume["secret"]["secretName"]
    if "configMap" in volume:
        return re.sub(r"[^-]*$", "", volume["configMap"]["name"])
    return next(key for key in volume if key != "name")


def check_services(where, documents, workloads):
    """Each workload has a service of its name, which selects it and leads to its port."""
    services = {document["metadata"]["name"]: document["spec"] for document in documents if document["kind"] == "Service"}
    same(where, "the services", sorted(services), sorted(PORTS))
    for name, workload in workloads.items():
        service, template = services.get(name, {}), workload["spec"]["template"]
        labels = template["metadata"]["labels"]
        same(where, f"the selector of service {name}", service.get("selector"), {NAME: name})
        same(where, f"the name in the labels of {name}", labels.get(NAME), name)
        same(where, f"the selector of {name}", workload["spec"]["selector"], {"matchLabels": {NAME: name}})
        ports = {entry["name"]: entry["containerPort"] for entry in template["spec"]["containers"][0]["ports"]}
        reached = [(port["port"], ports.get(port.get("targetPort"))) for port in service.get("ports", [])]
        same(where, f"the ports of service {name}", reached, [(PORTS[name], PORTS[name])])
        if workload["kind"] == "StatefulSet":
            same(where, f"the service of {name}", workload["spec"].get("serviceName"), name)
        if name == "mongo":
            same(where, "whether unready members are published", service.get("publishNotReadyAddresses"), True)
        if name in ("chat", "mongo"):
            same(where, f"the address of service {name}", service.get("clusterIP"), "None")
