//! Libraries that start threads after the check of the limits: when the system refuses one, the process ends with status 1 and names the
//! limit.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::folder;
use crate::support::{Request, TIMEOUT, free_addresses, program};

/// A library for `LD_PRELOAD` that refuses the threads after the first `THREADS` ones, as the system does at a limit.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
static atomic_int started;
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    const char *limit = getenv("THREADS");
    if (limit && ++started > atoi(limit)) return EAGAIN;
    return real(thread, attributes, run, argument);
}
"#;

fn library(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("threads.c"), folder.join("threads.so"));
    fs::write(&source, LIBRARY).expect("a writable folder");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().expect("a C compiler, which the build needs").success());
    library
}

/// The time in which a server without a thread for the connection is asked again.
const PATIENCE: Duration = Duration::from_secs(1);

/// The words of each report.
const WORDS: [&str; 4] = [
    "no thread can be started",
    "threads can be started",
    "cannot be started; ",
    "Resource temporarily unavailable",
];

/// The output of a role with this number of threads that ends by itself with status 1, or its `/readyz` that names the cause. `None` when it
/// becomes ready.
async fn output(name: &str, threads: usize, library: &Path) -> Option<String> {
    let (folder, [admin]) = (folder(), free_addresses());
    let log = folder.path().join("log");
    let mut command = program();
    command.args([name, "--listen", "127.0.0.1:0", "--admin-listen", &admin.to_string()]);
    if name == "serve" {
        command.args(["--presence-listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    }
    command.env("LD_PRELOAD", library).env("THREADS", threads.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).expect("a file"));
    let mut child = command.spawn().expect("the program starts");
    let until = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait().expect("a child process") {
            let printed = fs::read_to_string(&log).expect("a log");
            assert_eq!(status.code(), Some(1), "{name} {threads}: {printed}");
            return Some(printed);
        }
        assert!(Instant::now() < until, "{name} {threads}: {}", fs::read_to_string(&log).expect("a log"));
        let ready = timeout(PATIENCE, Request::get("/readyz").try_send(Ipv4Addr::LOCALHOST, admin));
        let Ok(Some(ready)) = ready.await else { continue };
        let names_cause = WORDS.iter().any(|words| ready.body.contains(words));
        if ready.status == 200 || names_cause {
            child.kill().expect("a child process");
            child.wait().expect("a child process");
            return names_cause.then_some(ready.body);
        }
    }
}

#[tokio::test]
async fn a_role_whose_libraries_get_no_thread_ends_with_the_limit() {
    let folder = folder();
    let library = library(folder.path());
    for name in ["presence", "serve"] {
        let (mut ended, mut became_ready) = (0, 0);
        // The check of the limits starts more than 30 threads, which end.
        for threads in (30..120).step_by(2).chain((120..600).step_by(20)) {
            match output(name, threads, &library).await {
                None => became_ready += 1,
                // Another process has taken the port meanwhile.
                Some(printed) if printed.contains("Address already in use") => {}
                Some(printed) => {
                    ended += 1;
                    assert!(WORDS.iter().any(|words| printed.contains(words)), "{name} {threads}: {printed}");
                }
            }
            if became_ready > 2 {
                break;
            }
        }
        assert!(ended > 4 && became_ready > 0, "{name}: {ended} ended, {became_ready} became ready");
    }
}
