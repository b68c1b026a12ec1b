//! Refusals of configurations: by environment variable and by flag, before the start, with the name and never with the value; and of data
//! directories in use. Runs the real binary through [`crate::support::program`].

use std::{
    process::Output,
    time::{Duration, Instant},
};

use crate::support::program;

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
fn unsafe_configuration_is_refused_by_its_flag() {
    let table = [
        ("--allow-origin", "*"),
        ("--allow-origin", "https://*.example.org"),
        ("--trusted-proxy", "0.0.0.0/0"),
        ("--presence-listen", "0.0.0.0:50051"),
        ("--bcrypt-cost", "3"),
        ("--login-rate", "0"),
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
