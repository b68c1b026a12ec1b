//! What a scenario found, as numbers and as a verdict. Built by `lobby` and `slow`, printed by `main`.

use std::{process::ExitCode, time::Duration};

use crate::process::Usage;

/// The outcome of one scenario.
#[derive(Debug)]
pub struct Report {
    /// Connections at the start.
    pub clients: usize,
    /// Connections that ended before the end.
    pub dropped: usize,
    /// Messages that were acked as stored.
    pub accepted: u64,
    /// Messages that were refused or never answered.
    pub refused: u64,
    /// Deliveries that had to be.
    pub expected: u64,
    /// Deliveries that were, the first of each.
    pub received: u64,
    /// Deliveries of what had been delivered.
    pub doubled: u64,
    /// Deliveries after a later one of the same sender.
    pub late: u64,
    /// From sending to hearing, in microseconds, sorted.
    pub latencies: Vec<u32>,
    /// From sending to the ack, in microseconds, sorted.
    pub acks: Vec<u32>,
    /// The server with everybody connected and nobody talking, and at the end; none without its process id.
    pub usage: Option<(Usage, Usage)>,
    /// How long messages were sent.
    pub talked: Duration,
    /// More memory than this is a failure, in bytes.
    pub limit: Option<u64>,
}

impl Report {
    /// Why the run does not pass.
    pub fn faults(&self) -> Vec<String> {
        let over =
            |usage: Usage| self.limit.filter(|limit| usage.peak > *limit).map(|limit| (usage.peak, limit));
        let over = self.usage.and_then(|(_, end)| over(end));
        [
            (self.received != self.expected)
                .then(|| format!("{} of {} deliveries", self.received, self.expected)),
            (self.doubled > 0).then(|| format!("{} doubled", self.doubled)),
            (self.late > 0).then(|| format!("{} out of order", self.late)),
            (self.dropped > 0).then(|| format!("{} connections dropped", self.dropped)),
            (self.refused > 0).then(|| format!("{} messages refused or unanswered", self.refused)),
            (self.accepted == 0).then(|| "nothing was said".to_owned()),
            over.map(|(peak, limit)| format!("{} of memory, more than {}", mib(peak), mib(limit))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What 99 of 100 deliveries took at most, in microseconds.
    pub fn p99(&self) -> u32 {
        let index = self.latencies.len() * 99 / 100;
        self.latencies.get(index).copied().unwrap_or_default()
    }

    /// Prints everything and returns the verdict.
    #[expect(clippy::print_stdout, reason = "a tool of the command line")]
    pub fn print(&self) -> ExitCode {
        println!("clients     {} connected, {} dropped", self.clients, self.dropped);
        println!("messages    {} accepted, {} refused or unanswered", self.accepted, self.refused);
        println!(
            "deliveries  {} of {}, {} doubled, {} out of order",
            self.received, self.expected, self.doubled, self.late
        );
        println!("latency     {}", quantiles(&self.latencies));
        println!("ack         {}", quantiles(&self.acks));
        if let Some((idle, end)) = self.usage {
            let (talked, cpu) = (self.talked.as_secs_f64(), end.cpu - idle.cpu);
            println!(
                "memory      {} idle, {} at the end, {} peak",
                mib(idle.resident),
                mib(end.resident),
                mib(end.peak)
            );
            println!("cpu         {cpu:.1} s in {talked:.1} s ({:.0} % of a core)", cpu / talked * 100.0);
        }
        let faults = self.faults();
        if faults.is_empty() {
            println!("passed");
            return ExitCode::SUCCESS;
        }
        println!("failed: {}", faults.join(", "));
        ExitCode::FAILURE
    }
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub(crate) fn quantiles(sorted: &[u32]) -> String {
    let at = |share: f64| {
        let index = (sorted.len() as f64 * share) as usize;
        f64::from(sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()) / 1000.0
    };
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perfect() -> Report {
        let usage = Usage { resident: 1, peak: 100, cpu: 0.0 };
        Report {
            clients: 2,
            dropped: 0,
            accepted: 1,
            refused: 0,
            expected: 1,
            received: 1,
            doubled: 0,
            late: 0,
            latencies: vec![1],
            acks: vec![1],
            usage: Some((usage, usage)),
            talked: Duration::from_secs(1),
            limit: Some(100),
        }
    }

    #[test]
    fn every_fault_alone_fails_the_run() {
        assert_eq!(perfect().faults(), Vec::<String>::new());
        let spoil: [fn(&mut Report); 8] = [
            |report| report.received = 0,
            |report| report.received = 2,
            |report| report.doubled = 1,
            |report| report.late = 1,
            |report| report.dropped = 1,
            |report| report.refused = 1,
            |report| (report.accepted, report.expected, report.received) = (0, 0, 0),
            |report| report.limit = Some(99),
        ];
        for (n, spoil) in spoil.into_iter().enumerate() {
            let mut report = perfect();
            spoil(&mut report);
            assert_eq!(report.faults().len(), 1, "case {n}: {report:?}");
        }
    }

    #[test]
    fn quantiles_are_taken_from_what_is_there() {
        assert_eq!(quantiles(&[]), "p50 0.0 ms, p99 0.0 ms, max 0.0 ms");
        let thousand: Vec<u32> = (0..1000).map(|ms| ms * 1000).collect();
        assert_eq!(quantiles(&thousand), "p50 500.0 ms, p99 990.0 ms, max 999.0 ms");
    }
}
