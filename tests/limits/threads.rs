//! Threads that flags add: the check of the start and the doctor count them. A start either is refused with the limit, or becomes ready.

use std::{
    net::{Ipv4Addr, TcpStream},
    process::Stdio,
    time::Instant,
};

use super::{folder, group::Group, is_root, limited, role, run_to_end};
use crate::{
    config::text,
    support::{Request, TIMEOUT, free_addresses},
};

#[tokio::test]
async fn a_start_with_many_password_threads_is_refused_with_the_limit_or_becomes_ready() {
    if !is_root() {
        return;
    }
    let (mut refused, mut started) = (0, 0);
    for (threads, limit) in
        [(8, 40), (24, 60), (64, 100), (200, 300), (256, 400), (8, 200), (24, 200), (64, 400)]
    {
        let (folder, threads) = (folder(), threads.to_string());
        let limit = format!("--nproc={limit}");
        let mut doctor = limited(&limit, true);
        role(doctor.arg("doctor"), "serve", folder.path()).args(["--password-threads", &threads]);
        let examined = run_to_end(&mut doctor);
        let what = format!("{threads} threads, {limit}: {}", text(&examined));
        let mut start = limited(&limit, true);
        if examined.status.success() {
            let [admin] = free_addresses();
            start.args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--presence-listen",
                "127.0.0.1:0",
                "--admin-listen",
            ]);
            start.arg(admin.to_string()).arg("--data-dir").arg(folder.path().join("data"));
            start.args(["--password-threads", &threads]).env_remove("HOME").current_dir("/");
            let mut child = start.stdout(Stdio::null()).spawn().expect("a shell");
            let until = Instant::now() + TIMEOUT;
            loop {
                assert_eq!(child.try_wait().expect("a child process"), None, "the server exited, {what}");
                assert!(Instant::now() < until, "the server is not ready, {what}");
                if TcpStream::connect(admin).is_ok()
                    && Request::get("/readyz").send(Ipv4Addr::LOCALHOST, admin).await.status == 200
                {
                    break;
                }
            }
            child.kill().expect("a child process");
            child.wait().expect("a child process");
            started += 1;
        } else {
            let output =
                run_to_end(role(&mut start, "serve", folder.path()).args(["--password-threads", &threads]));
            let printed = text(&output);
            assert_eq!(output.status.code(), Some(1), "{what} {printed}");
            let words = ["threads can be started", "are needed", "ulimit -u", "LimitNPROC="];
            assert!(printed.lines().any(|line| words.iter().all(|word| line.contains(word))), "{printed}");
            assert!(!printed.contains("panicked") && !printed.contains("fatal"), "{printed}");
            refused += 1;
        }
    }
    assert!(refused >= 4 && started >= 3, "{refused} refused, {started} started");
}

#[test]
fn password_threads_above_the_limit_of_the_control_group_are_refused_with_the_limit() {
    for (threads, limit) in [("8", 40), ("24", 40), ("64", 100), ("256", 300)] {
        let Some(group) = Group::new("pids", "pids.max", "pids.max", limit) else { return };
        for doctor in [false, true] {
            let folder = folder();
            let mut command = group.command();
            if doctor {
                command.arg("doctor");
            }
            let output =
                run_to_end(role(&mut command, "serve", folder.path()).args(["--password-threads", threads]));
            let (printed, max) = (text(&output), format!("control group is {limit} (pids.max"));
            assert_eq!(output.status.code(), Some(1), "{threads} {limit} {doctor}: {printed}");
            let words = ["threads can be started", "are needed", &max, "TasksMax="];
            assert!(
                printed.lines().any(|line| words.iter().all(|word| line.contains(word))),
                "{words:?} {printed}"
            );
            assert!(!printed.contains("panicked"), "{printed}");
        }
    }
}
