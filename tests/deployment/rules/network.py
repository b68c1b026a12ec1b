"""Network policies: exactly the connections of the table, besides DNS and metrics."""

from expected import ADMIN, EDGES, NAME, ROLES, offence

DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def openings_of(edges):
    """All allowed openings: side, subject, peer, port, protocol."""
    openings = {("egress", "*", str(DNS), 53, protocol) for protocol in ("UDP", "TCP")}
    openings |= {("ingress", role, str(MONITORING), ADMIN, "TCP") for role in ROLES}
    for source, target, port in edges:
        openings.add(("ingress", target, source, port, "TCP"))
        if source != "*":
            openings.add(("egress", source, target, port, "TCP"))
    return openings


def subjects(selector):
    """The services to which a policy applies."""
    if selector == {}:
        return ["*"]
    named = selector.get("matchLabels", {})
    if set(selector) == {"matchLabels"} and set(named) == {NAME}:
        return [named[NAME]]
    expressions = selector.get("matchExpressions", [])
    if set(selector) == {"matchExpressions"} and len(expressions) == 1:
        expression = expressions[0]
        if (expression["key"], expression["operator"]) == (NAME, "In"):
            return expression["values"]
    return [str(selector)]


def peer_name(peer):
    """The name of a service, or the text of any other peer."""
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    is_service = set(peer) == {"podSelector"} and set(peer["podSelector"]) == {"matchLabels"} and set(labels) == {NAME}
    return labels[NAME] if is_service else str(peer)


def check(where, documents, edges=EDGES):
    """The policies of one overlay allow exactly `edges`."""
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    both = ["Egress", "Ingress"]
    if not any(
        policy["podSelector"] == {} and sorted(policy["policyTypes"]) == both and not policy.keys() & {"ingress", "egress"}
        for policy in policies
    ):
        offence(where, "no policy denies all other connections")
    actual = set()
    for policy in policies:
        for side, key in (("ingress", "from"), ("egress", "to")):
            if side in policy and side.capitalize() not in policy["policyTypes"]:
                offence(where, f"a policy lists {side}, which is not one of its types")
            for rule in policy.get(side, []):
                peers = [peer_name(peer) for peer in rule[key]] if key in rule else ["*"]
                ports = [(port.get("port"), port.get("protocol", "TCP")) for port in rule.get("ports", [{}])]
                actual |= {
                    (side, subject, peer, *port) for subject in subjects(policy["podSelector"]) for peer in peers for port in ports
                }
    for opening in sorted(openings_of(edges) - actual, key=str):
        offence(where, "{} of {}: {} is missing, port {} {}".format(*opening))
    for opening in sorted(actual - openings_of(edges), key=str):
        offence(where, "{} of {}: {} is not allowed, port {} {}".format(*opening))
