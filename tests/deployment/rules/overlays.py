"""One rendered overlay."""

import yaml

import network
import workloads
from expected import EDGES, KINDS, MONGOD, NAME, REDIS_CONF, SETTINGS, offence, same

SCALED = {"gateway", "accounts", "chat"}
# The example is production with backups: one more job, which connects to MongoDB only.
EXAMPLE = "overlay.yaml"
BACKUP = {("backup", "mongo", 27017)}


def check(path, secrets, variables):
    """Checks the rendered file against the secrets of scripts/secrets and the variables that flags read. Returns its images."""
    where = path.name
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    for document in documents:
        check_document(where, document, variables)
    runs = {
        document["metadata"]["name"]: document
        for document in documents
        if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Pod")
    }
    same(where, "the workloads", sorted(runs), sorted(KINDS))
    for name, document in runs.items():
        workloads.check(f"{where} {name}", document, secrets)
    workloads.check_services(where, documents, runs)
    network.check(where, documents, EDGES | BACKUP if where == EXAMPLE else EDGES)
    members = runs["mongo"]["spec"]["replicas"]
    gateway = next(d["spec"] for d in documents if d["kind"] == "Service" and d["metadata"]["name"] == "gateway")
    if path.stem == "local":
        same(where, "the service of the gateway", (gateway.get("type"), gateway["ports"][0].get("nodePort")), ("NodePort", 30009))
        same(where, "the members of MongoDB", members, 1)
    if path.stem == "production":
        same(where, "the service of the gateway", gateway.get("type", "ClusterIP"), "ClusterIP")
        same(where, "the members of MongoDB", members, 3)
        check_budgets(where, documents)
        check_scaling(where, documents, runs)
    return {workloads.pod(document)["containers"][0]["image"] for document in runs.values()}


def check_document(where, document, variables):
    """Rules for every document."""
    kind, name, meta = document["kind"], document["metadata"]["name"], document["metadata"]
    if meta.get("labels", {}).get("app.kubernetes.io/part-of") != "godzilla":
        offence(where, f"{kind} {name}: scripts/clean does not select it")
    if kind == "CronJob" and (where, name) == (EXAMPLE, "backup"):
        pods = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        same(where, "the backup's security context", pods["securityContext"], workloads.confinement(999))
        same(where, "the backup's container", pods["containers"][0]["securityContext"], workloads.CONFINED)
    elif kind in ("Job", "CronJob"):
        offence(where, f"{kind} {name}: no other job is allowed")
    if kind == "Secret":
        offence(where, f"Secret {name}: the repository must not contain secrets")
    if kind == "Namespace":
        same(where, "the namespace", name, "godzilla")
        enforced = meta["labels"].get("pod-security.kubernetes.io/enforce")
        same(where, "what the namespace enforces", enforced, "restricted")
    else:
        same(where, f"the namespace of {kind} {name}", meta.get("namespace"), "godzilla")
    if kind == "ConfigMap" and name.startswith("settings"):
        check_settings(where, document["data"], variables)
    if kind == "ConfigMap" and name.startswith("redis"):
        lines = {line for line in document["data"]["redis.conf"].splitlines() if line and not line.startswith("#")}
        same(where, "redis.conf", sorted(lines), sorted(REDIS_CONF))
    if kind == "ConfigMap" and name.startswith("mongo"):
        same(where, "the end of start.sh", document["data"]["start.sh"].splitlines()[-1], MONGOD)


def check_settings(where, settings, variables):
    """The settings of all roles."""
    same(where, "the settings", {name: settings.get(name) for name in SETTINGS}, SETTINGS)
    for name in settings:
        if name not in variables:
            offence(where, f"{name} is a variable that no flag reads; the program refuses to start")
    if where == "production.yaml":
        same(where, "GODZILLA_COOKIE_SECURE", settings.get("GODZILLA_COOKIE_SECURE"), "true")


def check_budgets(where, documents):
    """Nodes can be drained one pod of a service at a time."""
    budgets = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "PodDisruptionBudget"}
    expected = {
        name: {"maxUnavailable": 1, "selector": {"matchLabels": {NAME: name}}} for name in (*SCALED, "mongo")
    }
    same(where, "the budgets", budgets, expected)


def check_scaling(where, documents, runs):
    """At least two pods of each scaled service, and no fixed number of replicas."""
    scalers = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "HorizontalPodAutoscaler"}
    same(where, "what is scaled", set(scalers), SCALED)
    for name, scaler in scalers.items():
        target = {"apiVersion": "apps/v1", "kind": KINDS.get(name), "name": name}
        same(where, f"what scaler {name} scales", scaler["scaleTargetRef"], target)
        if not 2 <= scaler.get("minReplicas", 1) < scaler["maxReplicas"]:
            offence(where, f"scaler {name} allows a single pod, or cannot scale up")
        if "replicas" in runs[name]["spec"]:
            offence(where, f"{name}: a deploy would reset the number of pods")
        if not workloads.pod(runs[name]).get("topologySpreadConstraints"):
            offence(where, f"{name}: all its pods may be on one node")
