//! The doctor reports every flag with which a role refuses to start.

use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::examine;
use crate::config::{run, text};

/// Flags of all split roles that the doctor and the start accept.
const STORES: [&str; 4] = ["--redis-url", "redis://127.0.0.1:1", "--mongo-uri", "mongodb://127.0.0.1:1/x"];

/// `flags` with the other flags that the role needs.
fn completed<'a>(role: &str, flags: &[&'a str], key: &'a str) -> Vec<&'a str> {
    let needed: &[&'a str] = match role {
        "chat" | "accounts" => &STORES,
        "gateway" if flags.is_empty() => &STORES[..2],
        "gateway" => &[STORES[0], STORES[1], "--accounts-url", "http://127.0.0.1:1"],
        _ => &[],
    };
    let mut all = flags.to_vec();
    for pair in needed.chunks(2).filter(|pair| !flags.contains(&pair[0])) {
        all.extend(pair);
    }
    if !needed.is_empty() && !flags.contains(&"--secret-file") {
        all.extend(["--secret-file", key]);
    }
    all
}

#[test]
fn the_doctor_reports_each_flag_that_the_start_refuses() {
    let folder = TempDir::new().expect("a temporary directory");
    let (key, short) = (folder.path().join("key"), folder.path().join("short"));
    fs::write(&key, "WXlm7c2Ue0Rr9vQkq4Zt1Jb8sNf3hPyA6dGoTiLx5Ew=").expect("a file");
    fs::write(&short, "short").expect("a file");
    for file in [&key, &short] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    let (key, short) = (key.to_string_lossy(), short.to_string_lossy());
    let none: &[&str] = &[];
    // The role, the refused flags, and the flag that both name.
    let table: [(&str, &[&str], &str); 19] = [
        ("chat", &["--node", "a b"], "--node (GODZILLA_NODE)"),
        ("chat", &["--node", "a_b"], "--node (GODZILLA_NODE)"),
        ("chat", &["--advertise", "a b"], "--advertise (GODZILLA_ADVERTISE)"),
        ("chat", &["--presence-url", "https://a:1"], "--presence-url (GODZILLA_PRESENCE_URL)"),
        ("chat", &["--presence-url", "http://a b"], "--presence-url (GODZILLA_PRESENCE_URL)"),
        ("chat", &["--text-limit", "65536"], "--text-limit (GODZILLA_TEXT_LIMIT)"),
        ("chat", &["--payload-limit", "12"], "--payload-limit (GODZILLA_PAYLOAD_LIMIT)"),
        ("chat", &["--secret-file", "/absent"], "--secret-file (GODZILLA_SECRET_FILE)"),
        ("accounts", &["--secret-file", &short], "--secret-file (GODZILLA_SECRET_FILE)"),
        ("accounts", &["--redis-url", "rediss://a"], "--redis-url (GODZILLA_REDIS_URL)"),
        ("accounts", &["--mongo-uri", "postgres://a"], "--mongo-uri (GODZILLA_MONGO_URI)"),
        ("accounts", &["--password-threads", "257"], "--password-threads (GODZILLA_PASSWORD_THREADS)"),
        ("gateway", none, "--accounts-url (GODZILLA_ACCOUNTS_URL)"),
        ("gateway", &["--accounts-url", "https://a:1"], "--accounts-url (GODZILLA_ACCOUNTS_URL)"),
        ("gateway", &["--unread-answers", "1"], "--unread-answers (GODZILLA_UNREAD_ANSWERS)"),
        ("serve", &["--presence-listen", "0.0.0.0:0"], "--presence-listen (GODZILLA_PRESENCE_LISTEN)"),
        ("serve", &["--presence-url", "http://a:1"], "--presence-url (GODZILLA_PRESENCE_URL)"),
        ("presence", &["--listen", "192.0.2.1:0"], "--listen"),
        ("presence", &["--presence-lease", "0s"], "--presence-lease (GODZILLA_PRESENCE_LEASE)"),
    ];
    for (role, flags, named) in table {
        let arguments = completed(role, flags, &key);
        let printed = text(&examine(role, &arguments, &folder));
        assert!(
            printed.lines().any(|line| line.contains(named) && !line.starts_with("warning: ")),
            "doctor {role} {flags:?}: {printed}"
        );
        let data = folder.path().join("data");
        let data = data.to_string_lossy();
        let mut start = [&[role][..], &arguments].concat();
        let given: &[[&str; 2]] = &[
            ["--listen", "127.0.0.1:0"],
            ["--admin-listen", "127.0.0.1:0"],
            ["--presence-listen", "127.0.0.1:0"],
            ["--data-dir", &data],
        ];
        let own = if role == "serve" { given } else { &given[..2] };
        for pair in own.iter().filter(|pair| !arguments.contains(&pair[0])) {
            start.extend(pair);
        }
        let output = run(&start, &[]);
        assert!(!output.status.success(), "{role} {flags:?}: {}", text(&output));
        assert!(text(&output).contains(named), "{role} {flags:?}: {}", text(&output));
    }
}
