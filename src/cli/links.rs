//! Variables that Kubernetes and Docker set in every process for services and linked containers. The variables of a
//! service called `godzilla` or `godzilla-gateway` have the prefix of this program. They are recognised by the shapes
//! of name and value together, so that a misspelt variable of this program is still refused. Used by [`super`].

use std::net::IpAddr;

/// Whether a value has the shape that belongs to a name.
type Shape = fn(&str) -> bool;

/// Suffixes of the variables of one port (`PORT_8080_TCP`), and the shapes of their values.
const OF_A_PORT: [(&str, Shape); 8] = [
    ("", is_address_of_port),
    ("_PROTO", is_protocol),
    ("_PORT", is_port),
    ("_START", is_address_of_port),
    ("_END", is_address_of_port),
    ("_PORT_START", is_port),
    ("_PORT_END", is_port),
    ("_ADDR", is_ip),
];

/// Whether Kubernetes or Docker set the variable `name` to `value`. `all` contains the names of all variables.
pub fn is_of_an_orchestrator<'a>(name: &str, value: &str, all: impl Iterator<Item = &'a str>) -> bool {
    name.contains("_ENV_") && is_of_a_link(name, all)
        || name.ends_with("_SERVICE_HOST") && is_ip(value)
        || name.contains("_SERVICE_PORT") && is_service_port(name) && is_port(value)
        || name.ends_with("_PORT") && is_address_of_port(value)
        || name.ends_with("_NAME") && value.starts_with('/') && value.matches('/').count() >= 2
        || ends_of_port(name)
            .is_some_and(|end| OF_A_PORT.iter().any(|(suffix, fits)| *suffix == end && fits(value)))
}

/// Whether `name` ends with `_SERVICE_PORT`, or with `_SERVICE_PORT_` and the name of a port.
fn is_service_port(name: &str) -> bool {
    let end = name.rsplit_once("_SERVICE_PORT").map(|(_, end)| end);
    end.is_some_and(|end| end.is_empty() || end.len() > 1 && end.starts_with('_'))
}

/// The suffix of `name` after `..._PORT_<number>_<protocol>`.
fn ends_of_port(name: &str) -> Option<&str> {
    name.match_indices("_PORT_").find_map(|(at, found)| {
        let (port, rest) = name[at + found.len()..].split_once('_')?;
        let end = ["TCP", "UDP", "SCTP"].into_iter().find_map(|protocol| rest.strip_prefix(protocol))?;
        is_port(port).then_some(end)
    })
}

/// Whether `name` is a variable of a container that Docker linked: `_NAME` or `_PORT` of the same alias is set, too.
/// The value comes from the linked container and can have any form.
fn is_of_a_link<'a>(name: &str, mut all: impl Iterator<Item = &'a str>) -> bool {
    let alias = name.split_once("_ENV_").map_or("", |(alias, _)| alias);
    all.any(|other| other.strip_prefix(alias).is_some_and(|end| end == "_NAME" || end == "_PORT"))
}

fn is_address_of_port(value: &str) -> bool {
    let rest = ["tcp://", "udp://", "sctp://"].into_iter().find_map(|scheme| value.strip_prefix(scheme));
    rest.and_then(|rest| rest.rsplit_once(':')).is_some_and(|(ip, port)| {
        is_ip(ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip)) && is_port(port)
    })
}

fn is_protocol(value: &str) -> bool {
    ["tcp", "udp", "sctp"].contains(&value)
}

fn is_port(value: &str) -> bool {
    value.parse::<u16>().is_ok()
}

fn is_ip(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables that Kubernetes sets for the services `godzilla`, `godzilla-gateway` and `godzilla-admin-v6`, and
    /// Docker for links with the aliases `godzilla` and `godzilla_db`.
    const SET: [(&str, &str); 30] = [
        ("GODZILLA_SERVICE_HOST", "10.0.171.239"),
        ("GODZILLA_SERVICE_PORT", "80"),
        ("GODZILLA_SERVICE_PORT_HTTP", "80"),
        ("GODZILLA_SERVICE_PORT_GRPC_WEB", "50051"),
        ("GODZILLA_PORT", "tcp://10.0.171.239:80"),
        ("GODZILLA_PORT_80_TCP", "tcp://10.0.171.239:80"),
        ("GODZILLA_PORT_80_TCP_PROTO", "tcp"),
        ("GODZILLA_PORT_80_TCP_PORT", "80"),
        ("GODZILLA_PORT_80_TCP_ADDR", "10.0.171.239"),
        ("GODZILLA_PORT_53_UDP", "udp://10.0.171.239:53"),
        ("GODZILLA_PORT_53_UDP_PROTO", "udp"),
        ("GODZILLA_PORT_36412_SCTP", "sctp://10.0.171.239:36412"),
        ("GODZILLA_PORT_36412_SCTP_PROTO", "sctp"),
        ("GODZILLA_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("GODZILLA_GATEWAY_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("GODZILLA_ADMIN_V6_SERVICE_HOST", "fd00::1"),
        ("GODZILLA_ADMIN_V6_PORT", "tcp://[fd00::1]:9100"),
        ("GODZILLA_ADMIN_V6_PORT_9100_TCP", "tcp://[fd00::1]:9100"),
        ("GODZILLA_ADMIN_V6_PORT_9100_TCP_ADDR", "fd00::1"),
        ("GODZILLA_ENV_V2_SERVICE_HOST", "10.0.0.2"),
        ("GODZILLA_NAME", "/web/godzilla"),
        ("GODZILLA_DB_NAME", "/chat/godzilla_db"),
        ("GODZILLA_DB_PORT", "tcp://172.17.0.5:5432"),
        ("GODZILLA_DB_PORT_5432_TCP", "tcp://172.17.0.5:5432"),
        ("GODZILLA_DB_PORT_5432_TCP_START", "tcp://172.17.0.5:5432"),
        ("GODZILLA_DB_PORT_5432_TCP_END", "tcp://172.17.0.5:5434"),
        ("GODZILLA_DB_PORT_5432_TCP_PORT_START", "5432"),
        ("GODZILLA_DB_PORT_5432_TCP_PORT_END", "5434"),
        ("GODZILLA_DB_ENV_PG_VERSION", "9.3"),
        ("GODZILLA_ENV_ANYTHING", ""),
    ];

    #[test]
    fn variables_of_orchestrators_are_recognised() {
        for (name, value) in SET {
            assert!(is_of_an_orchestrator(name, value, SET.iter().map(|(name, _)| *name)), "{name}={value}");
        }
    }

    #[test]
    fn other_variables_are_not_recognised() {
        let table = [
            ("GODZILLA_LISTNE", "127.0.0.1:80"),
            ("GODZILLA_PORT", "8080"),
            ("GODZILLA_PORT", "http://10.0.0.1:80"),
            ("GODZILLA_SERVICE_HOST", "chat.example.org"),
            ("GODZILLA_SERVICE_PORT", "many"),
            ("GODZILLA_SERVICE_PORTS", "80"),
            ("GODZILLA_HOST", "10.0.0.1"),
            ("GODZILLA_PORT_80", "tcp://10.0.0.1:80"),
            ("GODZILLA_PORT_X_TCP", "tcp://10.0.0.1:80"),
            ("GODZILLA_PORT_80_TCP_WORD", "80"),
            ("GODZILLA_NAME", "chat"),
            ("GODZILLA_ENV_LISTEN", "127.0.0.1:80"),
        ];
        for (name, value) in table {
            assert!(!is_of_an_orchestrator(name, value, [name, "PATH"].into_iter()), "{name}={value}");
        }
    }
}
