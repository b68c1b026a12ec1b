//! Configuration of accounts. The binary flattens it into its command line.

use std::time::Duration;

use clap::builder::BoolishValueParser;

/// Minimum bcrypt cost.
const MIN_COST: u32 = 4;

/// Maximum bcrypt cost: one hash takes about a second on a fast core.
const MAX_COST: u32 = 14;

/// Maximum number of passwords that are hashed at once: more than the cores of a large machine.
const MAX_THREADS: u16 = 256;

/// Settings of register and login.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// bcrypt cost of passwords, 4 to 14; each step doubles the time a login takes. A stored hash of another cost is replaced
    /// when its user logs in
    #[arg(long, env = "GODZILLA_BCRYPT_COST", value_name = "COST", default_value_t = 12)]
    #[arg(value_parser = clap::value_parser!(u32).range(MIN_COST as i64..=MAX_COST as i64))]
    pub bcrypt_cost: u32,

    /// Mark the session cookie Secure always, and not only where a trusted proxy reports an https client
    #[arg(long, env = "GODZILLA_COOKIE_SECURE", value_parser = BoolishValueParser::new())]
    pub cookie_secure: bool,

    /// Largest body of a register or login request, in bytes
    #[arg(long, env = "GODZILLA_LOGIN_BODY_LIMIT", value_name = "BYTES", default_value_t = 4_096)]
    #[arg(value_parser = body_limit)]
    pub login_body_limit: usize,

    /// How long the body of a register or login request may take
    #[arg(long, env = "GODZILLA_LOGIN_BODY_DEADLINE", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = body_deadline)]
    pub login_body_deadline: Duration,

    /// Passwords of logins that are hashed at once, and as many of registrations, 256 at most; 0 is half of the cores
    #[arg(long, env = "GODZILLA_PASSWORD_THREADS", value_name = "N", default_value_t = 0)]
    #[arg(value_parser = threads)]
    pub password_threads: u16,

    /// Passwords of logins that may wait for that, and as many of registrations; one more is answered 503
    #[arg(long, env = "GODZILLA_PASSWORD_QUEUE", value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub password_queue: u16,
}

fn threads(text: &str) -> Result<u16, &'static str> {
    text.parse()
        .ok()
        .filter(|threads| *threads <= MAX_THREADS)
        .ok_or("expected a number of threads, from 0 to 256")
}

fn body_limit(text: &str) -> Result<usize, &'static str> {
    let limit = text.parse().ok().filter(|limit| (256..=65_536).contains(limit));
    limit.ok_or("expected bytes, from 256 to 65536")
}

fn body_deadline(text: &str) -> Result<Duration, &'static str> {
    let allowed = Duration::from_millis(100)..=Duration::from_secs(600);
    let deadline = humantime::parse_duration(text).ok().filter(|deadline| allowed.contains(deadline));
    deadline.ok_or("expected a time such as 500ms or 10s, from 100ms to 10m")
}

impl Config {
    /// Number of passwords of logins that are hashed at once, and of registrations; at least one.
    pub(crate) fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        match self.password_threads {
            0 => (cores() / 2).max(1),
            threads => threads.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        Cli::try_parse_from([&["godzilla"], args].concat()).map(|cli| cli.config)
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = parse(&[]).unwrap();
        assert_eq!((config.bcrypt_cost, config.login_body_limit, config.password_queue), (12, 4_096, 32));
        assert_eq!(config.login_body_deadline, Duration::from_secs(10));
        assert!(!config.cookie_secure);
        assert!(config.threads() >= 1);
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        for good in ["--bcrypt-cost=4", "--bcrypt-cost=14", "--password-threads=0", "--password-threads=256"]
        {
            assert!(parse(&[good]).is_ok(), "{good}");
        }
        for bad in [
            "--bcrypt-cost=3",
            "--bcrypt-cost=15",
            "--bcrypt-cost=twelve",
            "--password-queue=0",
            "--password-threads=-1",
            "--password-threads=257",
            "--login-body-deadline=0s",
            "--login-body-limit=0",
        ] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }
}
