//! Random bytes of the operating system. Ids, tokens and salts need them. Checked by `/readyz` and the doctor.

/// Why the operating system provides no random bytes. `None` when it provides them.
pub fn not_ready_reason() -> Option<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).err().map(|error| {
        format!(
            "the operating system gives no random bytes ({error}); allow the system call getrandom (seccomp profile) and the \
             reading of /dev/urandom"
        )
    })
}
