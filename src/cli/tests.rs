//! The arguments and variables that the command line accepts, and its refusals, which contain the key and never the value.

use super::*;
use crate::role::{Gateway, Serve};

fn ask(args: &[&str], variables: &[(&str, &str)]) -> Result<Command, Error> {
    let args = std::iter::once("godzilla").chain(args.iter().copied()).map(OsString::from);
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    read(args.collect(), &variables.collect::<Vec<_>>())
}

fn roles(args: &[&str], variables: &[(&str, &str)]) -> RoleSet {
    match ask(args, variables) {
        Ok(Command::Roles(roles)) => roles,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[track_caller]
fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
    match ask(args, variables) {
        Err(Error::Config(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn the_definition_of_the_command_line_is_valid() {
    definition().debug_assert();
}

#[test]
fn serve_is_the_default_command_also_with_flags() {
    for args in [&[][..], &["serve"], &["--listen", "0.0.0.0:9"]] {
        assert!(roles(args, &[]).config::<Serve>().is_some(), "{args:?}");
    }
}

#[test]
fn help_and_version_are_not_errors() {
    for (args, expected) in [
        (vec!["--help"], "godzilla serve --help"),
        (vec!["-V"], env!("CARGO_PKG_VERSION")),
        (vec!["serve", "--help"], "GODZILLA_LISTEN"),
    ] {
        let Err(Error::Help(text)) = ask(&args, &[]) else { panic!("{args:?} is no help") };
        assert!(text.contains(expected), "{args:?}: {text}");
    }
}

#[test]
fn every_flag_of_a_role_has_a_variable_of_its_own_name_and_a_heading() {
    let cli = Cli::command();
    let roles = ["serve", "gateway", "accounts", "chat", "presence", "run"]
        .map(|role| cli.find_subcommand(role).unwrap());
    for arg in roles.iter().flat_map(|role| role.get_arguments()).filter(|arg| arg.get_id() != "help") {
        let long = arg.get_long().unwrap();
        let variable = format!("{PREFIX}{}", long.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().and_then(OsStr::to_str), Some(variable.as_str()), "--{long}");
        assert!(arg.get_help_heading().is_some() && arg.get_help().is_some(), "--{long}");
    }
}

#[test]
fn variables_are_trimmed_and_a_flag_wins_over_its_variable() {
    let variables = [
        ("GODZILLA_LISTEN", " 0.0.0.0:9\r\n"),
        ("GODZILLA_ALLOW_ORIGIN", " https://a.example,\n https://b.example , ,\n"),
        ("GODZILLA_COOKIE_SECURE", "True\n"),
        ("GODZILLA_ALLOW_TOKEN_CLIENTS", " off\n"),
        ("GODZILLA_LOGIN_RATE", " \n"),
        ("GODZILLA_LOGIN_BURST", "7"),
    ];
    let set = roles(&["--login-burst", "8"], &variables);
    let config = set.config::<Serve>().unwrap();
    assert_eq!(config.gateway.listen.to_string(), "0.0.0.0:9");
    assert_eq!(config.gateway.allow_origin.len(), 2);
    assert!(config.accounts.cookie_secure);
    assert_eq!(config.gateway.login_burst.to_string(), "8");
}

#[test]
fn each_role_of_run_has_the_address_of_its_flag() {
    let all = roles(
        &["run", "--roles", "gateway,chat", "--chat-listen", "127.0.0.1:4", "--secret-file", "key"],
        &[("GODZILLA_LISTEN", "127.0.0.1:5")],
    );
    assert_eq!(all.config::<Gateway>().unwrap().gateway.listen.to_string(), "127.0.0.1:5");
    assert_eq!(all.config::<crate::role::ChatNode>().unwrap().listen.to_string(), "127.0.0.1:4");
}

#[test]
fn a_refusal_contains_the_key_and_never_the_value() {
    let wrong = [
        ("--listen", "s3cret:80"),
        ("--admin-listen", "8080"),
        ("--allow-origin", "*"),
        ("--trusted-proxy", "0.0.0.0/0"),
        ("--login-rate", "s3cret"),
        ("--login-burst", "99999999"),
        ("--body-limit", "-1"),
        ("--ping-interval", "0s3cret"),
        ("--log-format", "s3cret"),
        ("--log", "godzilla=s3cret"),
        ("--bcrypt-cost", "s3cret"),
        ("--presence-listen", "0.0.0.0:50051"),
    ];
    for (flag, value) in wrong {
        let variable = format!("{PREFIX}{}", flag[2..].replace('-', "_").to_ascii_uppercase());
        let texts = [
            refusal(&["serve", &format!("{flag}={value}")], &[]),
            refusal(&["serve"], &[(&variable, &format!("{value}\n"))]),
        ];
        for text in texts {
            assert!(text.contains(flag) && text.contains(&variable), "{flag}: {text}");
            assert!(!text.contains(value) || value.len() < 5, "{flag}: {text}");
        }
    }
    let text = refusal(&["serve", "--passwrod=s3cret"], &[]);
    assert!(text.contains("--passwrod") && !text.contains("s3cret"), "{text}");
    for args in [&["s3cret"][..], &["serve", "s3cret"]] {
        assert!(!refusal(args, &[]).contains("s3cret"));
    }
    assert!(refusal(&["backup"], &[]).contains("DIR is missing"));
    assert!(refusal(&["run", "--roles=wizard"], &[]).contains("presence"));
}

#[test]
fn an_unknown_variable_is_refused_when_it_is_near_to_a_known_one() {
    for (name, near) in
        [("GODZILLA_LISTNE", "GODZILLA_LISTEN"), ("GODZILLA_TRUSTED_PROXIES", "GODZILLA_TRUSTED_PROXY")]
    {
        let text = refusal(&[], &[("PATH", "x"), (name, "s3cret")]);
        assert!(text.contains(name) && text.contains(near) && !text.contains("s3cret"), "{text}");
        assert!(ask(&[], &[(name, " ")]).is_ok(), "an empty one counts as absent");
    }
    // Kubernetes sets variables for a service called `godzilla`.
    let of_others = [
        ("GODZILLA_SERVICE_HOST", "10.0.171.239"),
        ("GODZILLA_PORT", "tcp://10.0.171.239:80"),
        ("GODZILLA_PORT_80_TCP_ADDR", "10.0.171.239"),
        ("GODZILLA_NODE", "chat-1"),
    ];
    let unused = unused(&BTreeSet::new(), &of_others.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(unused.unwrap(), of_others.map(|(name, _)| name));
}
