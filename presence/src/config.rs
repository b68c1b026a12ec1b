//! Configuration of the presence service except its listen address. The binary flattens it into its command line.

use std::time::Duration;

use clap::Args;

/// The settings of the presence service.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(skip)]
pub struct Config {
    /// Offer gRPC reflection
    #[arg(long, env = "GODZILLA_GRPC_REFLECTION", value_parser = clap::builder::BoolishValueParser::new())]
    pub grpc_reflection: bool,
    /// Time without a report after which a chat node's users are offline (5s to 10m). Chat nodes report every 3s
    #[arg(long, env = "GODZILLA_PRESENCE_LEASE", default_value = "15s", value_parser = five_seconds_to_ten_minutes)]
    pub presence_lease: Duration,
    /// Time after which typing that is not renewed ends (1s to 10m)
    #[arg(long, env = "GODZILLA_TYPING_EXPIRY", default_value = "8s", value_parser = one_second_to_ten_minutes)]
    pub typing_expiry: Duration,
    /// Interval in which changes are collected and then published together (10ms to 10s)
    #[arg(long, env = "GODZILLA_PRESENCE_FLUSH", default_value = "200ms", value_parser = ten_milliseconds_to_ten_seconds)]
    pub presence_flush: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grpc_reflection: false,
            presence_lease: Duration::from_secs(15),
            typing_expiry: Duration::from_secs(8),
            presence_flush: Duration::from_millis(200),
        }
    }
}

/// A shorter lease would end between two reports.
fn five_seconds_to_ten_minutes(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(5), Duration::from_secs(600))
}

fn one_second_to_ten_minutes(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(1), Duration::from_secs(600))
}

fn ten_milliseconds_to_ten_seconds(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(10), Duration::from_secs(10))
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err(format!(
            "must be between {} and {}",
            humantime::Duration::from(least),
            humantime::Duration::from(most)
        ))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn an_empty_command_line_gives_the_defaults() {
        assert_eq!(CommandLine::try_parse_from(["presence"]).unwrap().config, Config::default());
    }

    #[test]
    fn durations_out_of_bounds_are_refused() {
        for bad in ["--presence-lease=4s", "--presence-lease=11m", "--presence-flush=1ms"] {
            assert!(CommandLine::try_parse_from(["presence", bad]).is_err(), "{bad}");
        }
        let good = ["presence", "--presence-lease=600s", "--presence-flush=10ms"];
        let config = CommandLine::try_parse_from(good).unwrap().config;
        assert_eq!(config.presence_lease, Duration::from_secs(600));
    }
}
