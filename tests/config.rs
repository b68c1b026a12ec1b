//! Refusals of configurations: by environment variable and by flag, before the start, with the name and never with the value; and of data
//! directories in use. Runs the real binary through [`crate::support::program`].

use std::{
    process::Output,
    time::{Duration, Instant},
};

use crate::support::program;

/// A value that must never be printed.
const SECRET: &str = "hunter2";

/// Names and values of environment variables.
type Variables = &'static [(&'static str, &'static str)];

/// Runs the program to its end, which must come within 2 s.
pub fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = program();
    command.args(arguments).envs(variables.iter().copied()).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let until = Instant::now() + Duration::from_secs(2);
    while child.try_wait().expect("a child process").is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            panic!("still running after 2 s with {arguments:?} {variables:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("a child process")
}

/// The text of standard error and standard output.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// Runs the program, which must refuse with status 2; returns its text.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(arguments, variables);
    assert_eq!(output.status.code(), Some(2), "{arguments:?} {variables:?}: {}", text(&output));
    text(&output)
}

#[test]
fn a_bad_variable_is_refused_by_its_name_and_without_its_value() {
    let names = [
        "GODZILLA_LISTEN",
        "GODZILLA_ADMIN_LISTEN",
        "GODZILLA_PRESENCE_LISTEN",
        "GODZILLA_ALLOW_ORIGIN",
        "GODZILLA_TRUSTED_PROXY",
        "GODZILLA_LOGIN_RATE",
        "GODZILLA_BCRYPT_COST",
        "GODZILLA_COOKIE_SECURE",
        "GODZILLA_TEXT_LIMIT",
        "GODZILLA_MESSAGE_RATE",
        "GODZILLA_PING_INTERVAL",
        "GODZILLA_PAYLOAD_LIMIT",
        "GODZILLA_OUTBOX_BYTES",
        "GODZILLA_TYPING_EXPIRY",
        "GODZILLA_LOG",
        "GODZILLA_LOG_FORMAT",
        "GODZILLA_NO_SUCH_THING",
    ];
    for name in names {
        let printed = refusal(&["serve"], &[(name, SECRET)]);
        assert!(printed.contains(name), "{name} is not named: {printed}");
        assert!(!printed.contains(SECRET), "{name}: the value is printed: {printed}");
    }
}

#[test]
fn a_bad_flag_is_refused_by_its_name_and_without_its_value() {
    for flag in ["--listen", "--admin-listen", "--bcrypt-cost", "--log-format", "--no-such-flag"] {
        let printed = refusal(&["serve", flag, SECRET], &[]);
        assert!(printed.contains(flag), "{flag} is not named: {printed}");
        assert!(!printed.contains(SECRET), "{flag}: the value is printed: {printed}");
    }
}

#[test]
fn unsafe_configuration_is_refused_by_its_flag() {
    let table = [
        ("--allow-origin", "*"),
        ("--allow-origin", "null"),
        ("--allow-origin", "https://*.example.org"),
        ("--trusted-proxy", "0.0.0.0/0"),
        ("--presence-listen", "0.0.0.0:50051"),
        ("--admin-listen", "127.0.0.1:8080"),
        ("--bcrypt-cost", "3"),
        ("--login-rate", "0"),
        ("--login-burst", "0"),
        ("--payload-limit", "0"),
        ("--outbox-bytes", "65536"),
        ("--text-limit", "65536"),
        ("--ping-timeout", "0s"),
    ];
    for (flag, value) in table {
        let printed = refusal(&["serve", flag, value], &[]);
        assert!(printed.contains(flag), "{flag} {value}: {printed}");
    }
}

#[test]
fn white_space_and_empty_elements_around_values_are_ignored() {
    // Values as charts and files contain them: every variable with its default, and more where the default is empty.
    let help = text(&run(&["serve", "--help"], &[]));
    let mut variables: Vec<(String, String)> = Vec::new();
    for paragraph in help.split("\n      --").skip(1) {
        let between = |start: &str| {
            Some(paragraph.split_once(start)?.1.split_once(']')?.0.trim_end_matches('=').to_owned())
        };
        if let (Some(variable), Some(default)) = (between("[env: "), between("[default: ")) {
            let default = if variable.contains("LISTEN") { "127.0.0.1:0".to_owned() } else { default };
            variables.push((variable, format!(" {default}\r\n")));
        }
    }
    assert!(variables.len() > 30, "{variables:?}");
    let more = [
        ("GODZILLA_ALLOW_ORIGIN", " https://a.example,\n https://b.example , ,\n"),
        ("GODZILLA_TRUSTED_PROXY", "10.0.0.7, 10.1.0.0/16,\n"),
        ("GODZILLA_COOKIE_SECURE", "true\n"),
        ("GODZILLA_ALLOW_TOKEN_CLIENTS", " false\n"),
        ("GODZILLA_PRESENCE_URL", " \n"),
    ];
    let all: Vec<_> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(more).collect();
    for (name, value) in &all {
        let output = run(&["doctor"], &[(name, value)]);
        assert_ne!(output.status.code(), Some(2), "{name}={value:?}: {}", text(&output));
    }
    let flags = [
        ["--trusted-proxy", "10.0.0.7, 10.0.0.8,"],
        ["--allow-origin", "https://a.example, "],
        ["--log", "info, chat=debug"],
    ];
    for flag in flags {
        let output = run(&["doctor", "serve", flag[0], flag[1]], &[]);
        assert_ne!(output.status.code(), Some(2), "{flag:?}: {}", text(&output));
    }
    // A flag takes precedence over its variable, as it does without white space.
    let printed = refusal(&["doctor", "--login-rate=0"], &[("GODZILLA_LOGIN_RATE", "5\n")]);
    assert!(printed.contains("--login-rate"), "{printed}");
}

#[test]
fn the_last_line_of_a_failed_start_has_the_format_of_the_log() {
    let fatal: [(&[&str], Variables); 5] = [
        (&["serve", "--log-format", "json", "--listen", "x"], &[]),
        (&["serve", "--log-format=json", "--no-such-flag"], &[]),
        (&["presence"], &[("GODZILLA_LOG_FORMAT", "json"), ("GODZILLA_LISTEN", "x")]),
        (&["gateway"], &[("GODZILLA_LOG_FORMAT", "json\n")]),
        (
            &["serve", "--data-dir", "/dev/null/x", "--presence-listen", "127.0.0.1:0"],
            &[("GODZILLA_LOG_FORMAT", "json")],
        ),
    ];
    for (arguments, variables) in fatal {
        let output = run(arguments, variables);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<serde_json::Value> = printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {printed}")))
            .collect();
        let last = lines.last().unwrap_or_else(|| panic!("{arguments:?}: no output"));
        assert!(!output.status.success() && last["level"] == "ERROR", "{arguments:?}: {printed}");
        assert!(last["message"].is_string() && last["timestamp"].is_string(), "{arguments:?}: {printed}");
    }
    let printed = refusal(&["serve", "--listen", "x"], &[]);
    assert!(printed.starts_with("godzilla: "), "{printed}");
}

#[test]
fn help_explains_every_flag_and_prints_no_value_of_the_environment() {
    let output = run(&["serve", "--help"], &[("GODZILLA_DATA_DIR", SECRET)]);
    let help = text(&output);
    assert!(output.status.success() && help.contains("GODZILLA_DATA_DIR"), "{help}");
    assert!(!help.contains(SECRET), "{help}");
}

#[tokio::test]
async fn a_data_directory_in_use_is_reported() {
    let server = crate::support::TestServer::start().await;
    let output = run(&["seed", "--data-dir", &server.system.data_dir().to_string_lossy()], &[]);
    let printed = text(&output);
    assert!(
        !output.status.success() && printed.contains("in use") && printed.contains("--data-dir"),
        "{printed}"
    );
}
