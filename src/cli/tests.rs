//! The arguments and variables that the command line accepts, and its refusals, which contain the key and never the value.

use super::*;
use crate::role::{Gateway, Presence, Serve};

fn roles(args: &[&str]) -> RoleSet {
    match ask(args, &[]) {
        Ok(Command::Roles(roles)) => roles,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn ask(args: &[&str], names: &[&str]) -> Result<Command, Error> {
    let args = std::iter::once("godzilla").chain(args.iter().copied()).map(OsString::from);
    read(args, names.iter().map(|name| (OsString::from(name), OsString::from("s3cret"))))
}

fn refusal(args: &[&str], names: &[&str]) -> String {
    match ask(args, names) {
        Err(Error::Config(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn the_definition_of_the_command_line_is_valid() {
    Cli::command().debug_assert();
}

#[test]
fn serve_is_the_default_command_also_with_flags() {
    for args in [&[][..], &["serve"], &["--listen", "0.0.0.0:9"]] {
        assert!(roles(args).config::<Serve>().is_some(), "{args:?}");
    }
    assert_eq!(roles(&["--listen", "0.0.0.0:9"]).addresses()[0].1.port(), 9);
}

#[test]
fn help_and_version_are_not_errors() {
    for (args, expected) in [
        (vec!["--help"], "godzilla serve --help"),
        (vec!["-V"], env!("CARGO_PKG_VERSION")),
        (vec!["serve", "--help"], "GODZILLA_LISTEN"),
        (vec!["healthcheck", "--help"], "GODZILLA_ADMIN_LISTEN"),
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
        assert!(arg.get_help_heading().is_some(), "--{long} has no heading");
        assert!(arg.get_help().is_some(), "--{long} has no help text");
    }
}

#[test]
fn the_flags_of_run_are_those_of_its_roles() {
    let cli = Cli::command();
    let flags = |role: &str| {
        let args = cli.find_subcommand(role).unwrap().get_arguments();
        args.filter_map(|arg| arg.get_long()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let mut union: BTreeSet<String> =
        ["gateway", "accounts", "chat", "presence"].into_iter().flat_map(flags).collect();
    union.extend(["roles", "accounts-listen", "chat-listen", "presence-listen"].map(str::to_owned));
    assert_eq!(flags("run"), union);
}

#[test]
fn each_role_of_run_has_the_address_of_its_flag() {
    let addresses = |args: &[&str]| -> Vec<String> {
        roles(args).addresses().iter().map(|(flag, address)| format!("{flag} {address}")).collect()
    };
    let all = [
        "--listen (GODZILLA_LISTEN) 127.0.0.1:8080",
        "--accounts-listen (GODZILLA_ACCOUNTS_LISTEN) 127.0.0.1:8081",
        "--chat-listen (GODZILLA_CHAT_LISTEN) 127.0.0.1:3000",
        "--presence-listen (GODZILLA_PRESENCE_LISTEN) 127.0.0.1:50051",
    ];
    assert_eq!(addresses(&["run", "--roles", "presence,chat,gateway,accounts"]), all);
    let alone = addresses(&["run", "--roles=chat", "--listen", "127.0.0.1:4"]);
    assert_eq!(alone, ["--chat-listen (GODZILLA_CHAT_LISTEN) 127.0.0.1:4"]);
    let two = addresses(&["run", "--roles=chat,gateway", "--chat-listen=127.0.0.1:4"]);
    assert_eq!(
        two,
        ["--listen (GODZILLA_LISTEN) 127.0.0.1:8080", "--chat-listen (GODZILLA_CHAT_LISTEN) 127.0.0.1:4"]
    );
}

#[test]
fn a_refusal_contains_the_key_and_never_the_value() {
    let wrong = [
        ("--listen", "s3cret"),
        ("--listen", "s3cret:80"),
        ("--admin-listen", "s3cret"),
        ("--presence-listen", "s3cret"),
        ("--allow-origin", "s3cret"),
        ("--allow-origin", "*"),
        ("--allow-origin", "null"),
        ("--trusted-proxy", "s3cret"),
        ("--trusted-proxy", "0.0.0.0/0"),
        ("--login-rate", "s3cret"),
        ("--login-rate", "0"),
        ("--login-burst", "99999999"),
        ("--body-limit", "-1"),
        ("--ping-interval", "0"),
        ("--payload-limit", "12"),
        ("--log-format", "s3cret"),
        ("--log", "godzilla=s3cret"),
        ("--bcrypt-cost", "s3cret"),
        ("--bcrypt-cost", "31"),
    ];
    for (flag, value) in wrong {
        let text = refusal(&["serve", &format!("{flag}={value}")], &[]);
        assert!(text.contains(flag), "{flag}: {text}");
        assert!(!text.contains(value) || value.len() < 5, "{flag}: {text}");
    }
}

#[test]
fn unknown_flags_and_arguments_are_refused_without_their_value() {
    let text = refusal(&["serve", "--passwrod=s3cret"], &[]);
    assert!(text.contains("--passwrod") && !text.contains("s3cret"), "{text}");
    for args in [&["s3cret"][..], &["serve", "s3cret"]] {
        assert!(!refusal(args, &[]).contains("s3cret"));
    }
}

#[test]
fn an_unknown_variable_with_the_prefix_is_refused() {
    let text = refusal(&[], &["PATH", "GODZILLA_LISTEN", "GODZILLA_LISTNE"]);
    assert!(text.contains("GODZILLA_LISTNE") && !text.contains("s3cret"), "{text}");
    assert!(ask(&[], &["PATH", "GODZILLA_DATA_DIR", "GODZILLA_LOG", "godzilla_x"]).is_ok());
}

#[test]
fn colliding_addresses_are_refused_with_both_flags() {
    let text = refusal(&["--listen", "127.0.0.1:9100"], &[]);
    assert!(text.contains("--listen") && text.contains("--admin-listen"), "{text}");
    let text = refusal(&["--presence-listen", "0.0.0.0:50051"], &[]);
    assert!(text.contains("--presence-listen"), "{text}");
}

#[test]
fn presence_listens_at_the_default_presence_url_of_chat_nodes() {
    assert_eq!(roles(&["presence"]).config::<Presence>().unwrap().listen.to_string(), "127.0.0.1:50051");
    let text = refusal(&["presence", "--listen", "0.0.0.0:9100"], &[]);
    assert!(text.contains("--listen") && text.contains("--admin-listen"), "{text}");
}

#[test]
fn the_address_of_accounts_must_not_contain_a_secret() {
    let url = "http://accounts:8081";
    let accounts = |args: &[&str]| roles(args).config::<Gateway>().unwrap().accounts();
    assert_eq!(accounts(&["gateway", "--accounts-url", url]).unwrap().to_string(), url);
    for value in ["s3cret", "https://s3cret:1", "http://user:s3cret@accounts:1", "http://accounts:1/s3cret"] {
        let text = refusal(&["gateway", &format!("--accounts-url={value}")], &[]);
        assert!(
            text.contains("--accounts-url (GODZILLA_ACCOUNTS_URL)") && !text.contains("s3cret"),
            "{text}"
        );
    }
    assert!(accounts(&["gateway"]).unwrap_err().contains("--accounts-url"));
}

#[test]
fn a_refusal_contains_the_expected_form() {
    let table: [(&[&str], &[&str]); 12] = [
        (&["backup"], &["DIR is missing", "godzilla backup --help"]),
        (&["serve", "--listen"], &["--listen (GODZILLA_LISTEN)", "missing"]),
        (&["serve", "--listen", ":8080"], &["IP:PORT", "127.0.0.1:8080"]),
        (&["serve", "--listen", "8080"], &["IP:PORT", "127.0.0.1:8080"]),
        (&["serve", "--listen", "chat.example:8080"], &["IP:PORT", "127.0.0.1:8080"]),
        (&["serve", "--admin-listen", "9100"], &["IP:PORT"]),
        (&["presence", "--listen", "50051"], &["IP:PORT"]),
        (&["serve", "--keep-alive", "75s"], &["whole number", "SECONDS", "75"]),
        (&["serve", "--login-rate", "ten"], &["whole number", "PER_SECOND"]),
        (&["serve", "--message-rate", "10.0"], &["whole number", "10"]),
        (&["serve", "--body-limit", "99999999999999999999"], &["whole number", "65536"]),
        (&["serve", "--ping-interval", "10"], &["10s"]),
    ];
    for (args, expected) in table {
        let text = refusal(args, &[]);
        for part in expected {
            assert!(text.contains(part), "{args:?}: {part:?} is not in {text:?}");
        }
    }
    assert_eq!(roles(&["--listen", "localhost:9"]).addresses()[0].1.to_string(), "127.0.0.1:9");
}

#[test]
fn a_value_that_is_not_one_of_a_set_is_refused_with_the_set() {
    for (args, parts) in [
        (&["serve", "--log-format=xml"][..], &["--log-format (GODZILLA_LOG_FORMAT)", "json"][..]),
        (&["run", "--roles=s3cret"], &["--roles (GODZILLA_ROLES)", "gateway", "presence"]),
    ] {
        let text = refusal(args, &[]);
        assert!(parts.iter().all(|part| text.contains(part)) && !text.contains("s3cret"), "{text}");
    }
}

#[test]
fn a_value_that_is_not_utf8_is_refused_with_the_name_of_its_flag_or_variable() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let run = |args: &[&[u8]], variables: &[(&str, &[u8])]| {
        let args = std::iter::once(&b"godzilla"[..]).chain(args.iter().copied()).map(bytes);
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), bytes(value)));
        read(args, variables.collect::<Vec<_>>().into_iter())
    };
    // Arguments, variables, and the name in the refusal, or `None` where the value is accepted.
    type Case = (&'static [&'static [u8]], &'static [(&'static str, &'static [u8])], Option<&'static str>);
    let cases: [Case; 14] = [
        (&[b"chat"], &[("GODZILLA_NODE", b"\xffs3cret")], Some("GODZILLA_NODE")),
        (&[b"serve"], &[("GODZILLA_LISTEN", b"\xffs3cret")], Some("GODZILLA_LISTEN")),
        (&[b"serve"], &[("GODZILLA_LOGIN_RATE", b"1\xff")], Some("GODZILLA_LOGIN_RATE")),
        (
            &[b"serve"],
            &[("GODZILLA_ALLOW_ORIGIN", b"https://caf\xe9.example")],
            Some("GODZILLA_ALLOW_ORIGIN"),
        ),
        (&[b"serve"], &[("GODZILLA_COOKIE_SECURE", b"\xff")], Some("GODZILLA_COOKIE_SECURE")),
        (&[], &[("GODZILLA_LOG_FORMAT", b"\xff")], Some("GODZILLA_LOG_FORMAT")),
        (&[b"accounts"], &[("GODZILLA_MONGO_URI", b"mongodb://\xffs3cret")], Some("GODZILLA_MONGO_URI")),
        (&[b"doctor", b"chat"], &[("GODZILLA_NODE", b"\xff")], Some("GODZILLA_NODE")),
        (&[b"chat", b"--node=\xffs3cret"], &[], Some("--node")),
        (&[b"chat", b"--node", b"\xffs3cret"], &[], Some("--node")),
        (&[b"chat", b"--secret-file=\xff", b"--node", b"\xff"], &[], Some("--node")),
        (
            &[b"serve"],
            &[("GODZILLA_DATA_DIR", b"caf\xe9"), ("GODZILLA_LISTEN", b"\xff")],
            Some("GODZILLA_LISTEN"),
        ),
        (&[b"serve"], &[("GODZILLA_DATA_DIR", b"caf\xe9")], None),
        (&[b"backup", b"caf\xe9", b"--data-dir", b"caf\xe9"], &[], None),
    ];
    for (args, variables, expected) in cases {
        match (run(args, variables), expected) {
            (Ok(_), None) => {}
            (Err(Error::Config(text)), Some(name)) => {
                assert!(text.contains(name) && text.contains("UTF-8") && !text.contains("s3cret"), "{text}");
            }
            (other, _) => panic!("{args:?} {variables:?}: {other:?}"),
        }
    }
}

#[test]
fn a_value_in_the_notation_of_a_file_or_a_shell_is_refused() {
    let run = |args: &[&str], variable: Option<(&str, &str)>| {
        let args = std::iter::once("godzilla").chain(args.iter().copied()).map(OsString::from);
        read(args, variable.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
    };
    // Arguments, a variable, and the name in the refusal, or `None` where the value is accepted.
    type Case = (&'static [&'static str], Option<(&'static str, &'static str)>, Option<&'static str>);
    const DATA: &str = "GODZILLA_DATA_DIR";
    let cases: [Case; 28] = [
        (&["serve"], Some((DATA, "\"/s3cret\"")), Some(DATA)),
        (&["serve"], Some((DATA, "'/s3cret'\r\n")), Some("--data-dir")),
        (&["doctor"], Some((DATA, "\"/s3cret\"")), Some(DATA)),
        (&["check"], Some((DATA, "\"\"")), Some(DATA)),
        (&["seed", "--data-dir", "\"/s3cret\""], None, Some("--data-dir")),
        (&["backup", "--data-dir=\"/s3cret\"", "to"], None, Some("--data-dir")),
        (&["backup", "'s3cret'"], None, Some("an argument")),
        (&["chat"], Some(("GODZILLA_SECRET_FILE", "\"/s3cret\"")), Some("GODZILLA_SECRET_FILE")),
        (&["chat"], Some(("GODZILLA_NODE", "'s3cret'")), Some("GODZILLA_NODE")),
        (&["accounts"], Some(("GODZILLA_MONGO_URI", "\"mongodb://s3cret\"")), Some("GODZILLA_MONGO_URI")),
        (&["serve"], Some(("GODZILLA_LISTEN", "\"127.0.0.1:1\"")), Some("GODZILLA_LISTEN")),
        (
            &["serve"],
            Some(("GODZILLA_ALLOW_ORIGIN", "\"https://a.example,https://s3cret\"")),
            Some("GODZILLA_ALLOW_ORIGIN"),
        ),
        (&["serve"], Some((DATA, "~/s3cret")), Some(DATA)),
        (&["serve"], Some((DATA, "$HOME/s3cret")), Some(DATA)),
        (&["serve"], Some((DATA, "/var/${s3cret}/data")), Some(DATA)),
        (&["serve"], Some((DATA, "$(s3cret)")), Some(DATA)),
        (&["serve"], Some((DATA, "sqlite:~/s3cret")), Some(DATA)),
        (&["backup", "/to/$(date)"], None, Some("an argument")),
        (&["chat", "--mongo-uri-file", "~/s3cret"], None, Some("--mongo-uri-file")),
        (&["serve"], Some((DATA, "/data")), None),
        (&["serve"], Some((DATA, "\"data")), None),
        (&["serve"], Some((DATA, "/it's/'quoted'/x")), None),
        (&["serve"], Some((DATA, "'a'b\"")), None),
        (&["serve"], Some((DATA, "/cash$/a~b")), None),
        (&["serve"], Some((DATA, "'")), None),
        (&["chat"], Some(("GODZILLA_REDIS_URL", "redis://:$pass@host")), None),
        (&["serve"], Some(("HOME", "\"/root\"")), None),
        (&["backup", "to", "--data-dir", "/data"], None, None),
    ];
    for (args, variable, expected) in cases {
        match (run(args, variable), expected) {
            (Ok(_), None) => {}
            (Err(Error::Config(text)), Some(name)) => {
                assert!(text.contains(name) && !text.contains("s3cret"), "{args:?} {variable:?}: {text}");
                assert!(text.contains("quotes") || text.contains("only a shell"), "{args:?}: {text}");
            }
            (other, _) => panic!("{args:?} {variable:?}: {other:?}"),
        }
    }
}
