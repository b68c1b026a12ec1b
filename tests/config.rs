//! What the program says to those who configure it: by environment variable and by flag, right away, by key and never by
//! value; and what happens to data in use. Runs the real binary through [`crate::stage::program`].

use std::{
    process::Output,
    time::{Duration, Instant},
};

use crate::stage::program;

/// A value that must never be seen again.
const SECRET: &str = "hunter2";

/// Runs the program to its end, which has to be soon.
pub fn runs(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = program();
    command.args(arguments).envs(variables.iter().copied()).stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let until = Instant::now() + Duration::from_secs(2);
    while child.try_wait().expect("our own child").is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            panic!("still running after 2 s with {arguments:?} {variables:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("our own child")
}

/// Everything it said.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// The words with which the program refuses.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = runs(arguments, variables);
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
        let said = refusal(&["serve"], &[(name, SECRET)]);
        assert!(said.contains(name), "{name} is not named: {said}");
        assert!(!said.contains(SECRET), "{name} shows its value: {said}");
    }
}

#[test]
fn a_bad_flag_is_refused_by_its_name_and_without_its_value() {
    for flag in ["--listen", "--admin-listen", "--bcrypt-cost", "--log-format", "--no-such-flag"] {
        let said = refusal(&["serve", flag, SECRET], &[]);
        assert!(said.contains(flag), "{flag} is not named: {said}");
        assert!(!said.contains(SECRET), "{flag} shows its value: {said}");
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
        let said = refusal(&["serve", flag, value], &[]);
        assert!(said.contains(flag), "{flag} {value}: {said}");
    }
}

#[test]
fn help_explains_every_flag_and_shows_nothing_of_the_environment() {
    let output = runs(&["serve", "--help"], &[("GODZILLA_DATA_DIR", SECRET)]);
    let help = text(&output);
    assert!(output.status.success() && help.contains("GODZILLA_DATA_DIR"), "{help}");
    assert!(!help.contains(SECRET), "{help}");
}

#[tokio::test]
async fn a_data_directory_in_use_is_said_to_be_so() {
    let stage = crate::stage::Stage::opens().await;
    let output = runs(&["seed", "--data-dir", &stage.server.data_dir().to_string_lossy()], &[]);
    let said = text(&output);
    assert!(!output.status.success() && said.contains("in use") && said.contains("--data-dir"), "{said}");
}
