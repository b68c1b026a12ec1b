//! `godzilla doctor`: its findings in configurations with a mistake, and no findings in a good one.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;
use testkit::{Mongo, Redis};

use crate::{
    config::text,
    support::{TestServer, program},
};

/// Runs the doctor with a usable data directory and usable addresses where `arguments` do not set them.
fn examine(role: &str, arguments: &[&str], folder: &TempDir) -> Output {
    let mut command = program();
    command.args(["doctor", role]).args(arguments);
    let given = |flag: &str| arguments.contains(&flag);
    for (flag, roles) in [("--listen", ""), ("--admin-listen", ""), ("--presence-listen", "serve")] {
        if !given(flag) && (roles.is_empty() || roles == role) {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    if role == "serve" && !given("--data-dir") {
        command.arg("--data-dir").arg(folder.path().join("data"));
    }
    command.stdin(Stdio::null()).output().expect("the program starts")
}

/// Requires a line that begins with `severity` and has all `words`, and the exit status of the findings.
#[track_caller]
fn check_finding(output: &Output, severity: &str, words: &[&str]) {
    let printed = text(output);
    let fits = |line: &str| line.starts_with(severity) && words.iter().all(|word| line.contains(word));
    assert!(printed.lines().any(fits), "no {severity} with {words:?} in\n{printed}");
    assert_eq!(
        output.status.success(),
        !printed.lines().any(|line| line.starts_with("error: ")),
        "{printed}"
    );
}

#[test]
fn a_good_configuration_has_no_findings() {
    let folder = TempDir::new().expect("a temporary directory");
    for (role, arguments) in [
        ("serve", &[][..]),
        ("serve", &["--trusted-proxy", "127.0.0.1", "--cookie-secure"]),
        ("presence", &[]),
    ] {
        let output = examine(role, arguments, &folder);
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(text(&output), "no findings\n", "{role} {arguments:?}");
    }
    assert!(!folder.path().join("data").exists(), "the doctor creates nothing");
}

#[test]
fn each_mistake_of_a_single_server_is_reported_with_its_remedy() {
    let folder = TempDir::new().expect("a temporary directory");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let file = file.to_string_lossy();
    let listening = TcpListener::bind("127.0.0.1:0").expect("a port");
    let in_use = listening.local_addr().expect("an address").to_string();
    let table: [(&[&str], &str, &[&str]); 11] = [
        (&["--listen", &in_use], "error", &["--listen", "in use", "choose another port"]),
        (&["--admin-listen", &in_use], "error", &["--admin-listen", "in use"]),
        (&["--listen", "192.0.2.1:0"], "error", &["--listen", "not an address of this machine"]),
        (&["--admin-listen", "0.0.0.0:0"], "warning", &["--admin-listen", "private network"]),
        (&["--listen", "0.0.0.0:0"], "warning", &["--trusted-proxy", "name the proxy"]),
        (&["--trusted-proxy", "10.0.0.7"], "error", &["--trusted-proxy", "127.0.0.1"]),
        (
            &["--cookie-secure", "--allow-origin", "http://a.example"],
            "error",
            &["--allow-origin", "http://a.example", "https"],
        ),
        (&["--allow-origin", "https://a.example"], "warning", &["--allow-origin", "--trusted-proxy"]),
        (
            &["--allow-origin", "https://a.example,http://b.example", "--trusted-proxy", "127.0.0.1"],
            "warning",
            &["--allow-origin", "mixed"],
        ),
        (&["--data-dir", &file], "error", &["--data-dir", "File exists"]),
        (&["--text-limit", "65536"], "error", &["--text-limit", "--payload-limit"]),
    ];
    for (arguments, severity, words) in table {
        check_finding(&examine("serve", arguments, &folder), severity, words);
    }
}

#[tokio::test]
async fn a_data_directory_of_a_running_server_is_reported_as_in_use() {
    let server = TestServer::start().await;
    let folder = TempDir::new().expect("a temporary directory");
    let data = server.system.data_dir();
    let arguments = ["--data-dir", data.to_str().expect("a UTF-8 path")];
    check_finding(
        &examine("serve", &arguments, &folder),
        "error",
        &["--data-dir", "in use by another process"],
    );
}

#[test]
fn a_low_limit_of_open_files_is_reported() {
    let program = program();
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n 150; exec "$@""#, "sh"]).arg(program.get_program());
    command.args(["doctor", "presence", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    check_finding(&output, "error", &["limits: ", "open files", "ulimit -n"]);
}

#[tokio::test]
async fn missing_dependencies_of_a_split_role_are_reported_without_passwords() {
    let folder = TempDir::new().expect("a temporary directory");
    let key = folder.path().join("key");
    fs::write(&key, "WXlm7c2Ue0Rr9vQkq4Zt1Jb8sNf3hPyA6dGoTiLx5Ew=").expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("a mode");
    let key = key.to_string_lossy();
    let (redis, mongo) = ("redis://:hunter2@127.0.0.1:1", "mongodb://u:hunter2@127.0.0.1:1/");
    let all = ["--redis-url", redis, "--secret-file", &key];
    let chat = [&all[..], &["--mongo-uri", mongo, "--presence-url", "http://127.0.0.1:1"]].concat();
    let gateway = [&all[..], &["--accounts-url", "http://127.0.0.1:1"]].concat();
    for (role, arguments, words) in [
        ("chat", &chat, &["Redis", "refuses connections", "--redis-url"][..]),
        ("chat", &chat, &["MongoDB", "refuses connections", "--mongo-uri"]),
        ("chat", &chat, &["secret", "--secret-file", "chmod"]),
        ("gateway", &gateway, &["Redis", "refuses connections"]),
    ] {
        let output = examine(role, arguments, &folder);
        check_finding(&output, "error", words);
        assert!(!text(&output).contains("hunter2"), "{}", text(&output));
    }
    check_finding(&examine("chat", &chat, &folder), "warning", &["--advertise", "loopback"]);
    check_finding(&examine("chat", &chat, &folder), "warning", &["--presence-url", "start the service"]);
    check_finding(
        &examine("gateway", &gateway, &folder),
        "warning",
        &["--accounts-url", "start the service"],
    );
    for role in ["gateway", "accounts", "chat"] {
        check_finding(&examine(role, &[], &folder), "error", &["--redis-url", "where Redis is"]);
    }
}

#[tokio::test]
async fn good_stores_have_no_findings_and_a_redis_that_loses_data_is_reported() {
    let folder = TempDir::new().expect("a temporary directory");
    let key = folder.path().join("key");
    fs::write(&key, "WXlm7c2Ue0Rr9vQkq4Zt1Jb8sNf3hPyA6dGoTiLx5Ew=").expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
    let (mongo, redis) = (Mongo::start().await, Redis::start());
    let (uri, url, key) = (mongo.uri(), redis.url(), key.to_string_lossy());
    let arguments = ["--mongo-uri", &uri, "--redis-url", &url, "--secret-file", &key];
    let output = examine("accounts", &arguments, &folder);
    assert_eq!(text(&output), "no findings\n");
    let client = remote::redis::Client::open(redis.admin_url()).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis responds");
    for (name, value, severity, word) in [
        ("appendfsync", "everysec", "warning", "appendfsync always"),
        ("maxmemory", "1000000000", "warning", "appendfsync always"),
        ("maxmemory-policy", "allkeys-lru", "error", "noeviction"),
    ] {
        let set = remote::redis::cmd("CONFIG").arg("SET").arg(name).arg(value).clone();
        set.query_async::<()>(&mut connection).await.expect("Redis responds");
        check_finding(&examine("accounts", &arguments, &folder), severity, &["Redis", word]);
    }
}
