//! Control groups of tests: a limit on memory or threads of a process. Version 1 and version 2.

use std::{fs, path::PathBuf, process::Command};

use crate::support::program;

/// A control group with one limit; removed on drop.
pub struct Group(PathBuf);

impl Group {
    /// A group in which `new` (version 2) or `old` (version 1, of `controller`) is `value`. `None` where the test may not create groups.
    pub fn new(controller: &str, new: &str, old: &str, value: u64) -> Option<Self> {
        let name = format!("godzilla-test-{}-{controller}", std::process::id());
        let roots = [(format!("/sys/fs/cgroup/{controller}"), old), ("/sys/fs/cgroup".to_owned(), new)];
        roots.into_iter().find_map(|(root, file)| {
            let group = Self(PathBuf::from(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(file), value.to_string()).ok()?;
            Some(group)
        })
    }

    /// A command that runs the program in the group.
    pub fn command(&self) -> Command {
        let program = program();
        let mut command = Command::new("sh");
        let procs = self.0.join("cgroup.procs");
        let script = format!(r#"echo $$ > {}; exec "$@""#, procs.display());
        command.args(["-c", &script, "sh"]).arg(program.get_program());
        for (name, _) in program.get_envs() {
            command.env_remove(name);
        }
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The processes of the test have ended; the group itself stays for a moment after the last one.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
