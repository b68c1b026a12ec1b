//! Values of variables: switches and lists.

use super::{run, text};

/// The variables of switches, each with roles that read it.
const SWITCHES: [(&str, &[&str]); 4] = [
    ("GODZILLA_COOKIE_SECURE", &["serve", "accounts", "run"]),
    ("GODZILLA_ALLOW_OPAQUE_ORIGIN", &["serve", "gateway", "run"]),
    ("GODZILLA_ALLOW_TOKEN_CLIENTS", &["serve", "gateway", "run"]),
    ("GODZILLA_GRPC_REFLECTION", &["serve", "presence", "run"]),
];

/// Runs the doctor for `role` with this variable. Returns the status and the text.
fn doctor(role: &str, variable: &str, value: &str) -> (Option<i32>, String) {
    let roles: &[&str] = if role == "run" { &["--roles", "gateway,accounts,presence"] } else { &[] };
    let output = run(&[&["doctor", role][..], roles].concat(), &[(variable, value)]);
    (output.status.code(), text(&output))
}

#[test]
fn every_switch_accepts_the_same_values_from_its_variable() {
    for (variable, roles) in SWITCHES {
        for value in [
            "0", "1", "yes", "no", "on", "off", "true", "false", "TRUE", "Off", "Yes", " true\n", "NO\n",
            "on ", "",
        ] {
            let (status, printed) = doctor(roles[0], variable, value);
            assert!(status != Some(2) && !printed.contains(variable), "{variable}={value:?}: {printed}");
        }
        for role in roles {
            for value in ["2", "s3cret", "enabled", "true false"] {
                let (status, printed) = doctor(role, variable, value);
                assert_eq!(status, Some(2), "{role} {variable}={value}: {printed}");
                for part in [variable, "true or false", "1, yes and on", "0, no and off"] {
                    assert!(printed.contains(part), "{role} {variable}={value}: {printed}");
                }
                assert!(!printed.contains("s3cret"), "{printed}");
            }
        }
    }
}

#[test]
fn a_switch_is_on_or_off_as_its_variable_states() {
    for (value, is_on) in [
        ("1", true),
        ("on", true),
        ("Yes\n", true),
        ("TRUE", true),
        ("0", false),
        ("off", false),
        ("NO ", false),
    ] {
        let variables = [("GODZILLA_COOKIE_SECURE", value), ("GODZILLA_ALLOW_ORIGIN", "http://a.example")];
        let printed = text(&run(&["doctor", "serve"], &variables));
        assert_eq!(printed.contains("--cookie-secure keeps to https"), is_on, "{value:?}: {printed}");
    }
}

#[test]
fn elements_of_a_list_are_separated_by_commas_or_white_space() {
    for value in [
        "https://a.example,http://b.example",
        "https://a.example\nhttp://b.example\n",
        "https://a.example http://b.example",
        "\thttps://a.example ,\r\n http://b.example,,",
    ] {
        let printed = text(&run(&["doctor", "serve"], &[("GODZILLA_ALLOW_ORIGIN", value)]));
        assert!(printed.contains("http and https are mixed"), "{value:?}: {printed}");
    }
    for value in ["gateway,presence", "gateway presence", "gateway\npresence\n"] {
        let output = run(&["doctor", "run"], &[("GODZILLA_ROLES", value)]);
        assert!(output.status.code() != Some(2), "{value:?}: {}", text(&output));
    }
}
