//! The report of a scenario: figures and checks. Built by `lobby` and `slow`, printed by `main`.

use std::{process::ExitCode, time::Duration};

use crate::process::Usage;

/// The figures of one run.
#[derive(Debug)]
pub struct Report {
    /// Connections at the start.
    pub clients: usize,
    /// Connections that ended during the run.
    pub dropped: usize,
    /// Messages that were acknowledged as stored.
    pub accepted: u64,
    /// Messages that were refused or not acknowledged.
    pub refused: u64,
    /// Expected deliveries.
    pub expected: u64,
    /// Distinct deliveries.
    pub received: u64,
    /// Duplicate deliveries.
    pub duplicates: u64,
    /// Deliveries after a later message of the same sender.
    pub out_of_order: u64,
    /// Delivery latencies in microseconds, sorted.
    pub latencies: Vec<u32>,
    /// Ack latencies in microseconds, sorted.
    pub acks: Vec<u32>,
    /// The server's usage after all connects, and at the end. `None` without a process id.
    pub usage: Option<(Usage, Usage)>,
    /// How long messages were sent.
    pub send_time: Duration,
    /// The limit of the server's peak memory, in bytes.
    pub limit: Option<u64>,
}

impl Report {
    /// Why the run fails.
    pub fn failures(&self) -> Vec<String> {
        let over =
            |usage: Usage| self.limit.filter(|limit| usage.peak > *limit).map(|limit| (usage.peak, limit));
        let over = self.usage.and_then(|(_, end)| over(end));
        [
            (self.received != self.expected)
                .then(|| format!("{} of {} deliveries", self.received, self.expected)),
            (self.duplicates > 0).then(|| format!("{} duplicates", self.duplicates)),
            (self.out_of_order > 0).then(|| format!("{} out of order", self.out_of_order)),
            (self.dropped > 0).then(|| format!("{} connections dropped", self.dropped)),
            (self.refused > 0).then(|| format!("{} messages refused or unanswered", self.refused)),
            (self.accepted == 0).then(|| "no message was accepted".to_owned()),
            over.map(|(peak, limit)| format!("{} of memory, more than {}", mib(peak), mib(limit))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The 99th percentile of the delivery latencies, in microseconds.
    pub fn p99(&self) -> u32 {
        let index = self.latencies.len() * 99 / 100;
        self.latencies.get(index).copied().unwrap_or_default()
    }

    /// Prints the report. Returns the exit code.
    #[expect(clippy::print_stdout, reason = "a tool of the command line")]
    pub fn print(&self) -> ExitCode {
        println!("clients     {} connected, {} dropped", self.clients, self.dropped);
        println!("messages    {} accepted, {} refused or unanswered", self.accepted, self.refused);
        println!(
            "deliveries  {} of {}, {} duplicates, {} out of order",
            self.received, self.expected, self.duplicates, self.out_of_order
        );
        println!("latency     {}", quantiles(&self.latencies));
        println!("ack         {}", quantiles(&self.acks));
        if let Some((idle, end)) = self.usage {
            let (send_time, cpu) = (self.send_time.as_secs_f64(), end.cpu - idle.cpu);
            println!(
                "memory      {} idle, {} at the end, {} peak",
                mib(idle.resident),
                mib(end.resident),
                mib(end.peak)
            );
            println!(
                "cpu         {cpu:.1} s in {send_time:.1} s ({:.0} % of a core)",
                cpu / send_time * 100.0
            );
        }
        let failures = self.failures();
        if failures.is_empty() {
            println!("passed");
            return ExitCode::SUCCESS;
        }
        println!("failed: {}", failures.join(", "));
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
            duplicates: 0,
            out_of_order: 0,
            latencies: vec![1],
            acks: vec![1],
            usage: Some((usage, usage)),
            send_time: Duration::from_secs(1),
            limit: Some(100),
        }
    }

    #[test]
    fn every_failure_alone_fails_the_run() {
        assert_eq!(perfect().failures(), Vec::<String>::new());
        let spoil: [fn(&mut Report); 8] = [
            |report| report.received = 0,
            |report| report.received = 2,
            |report| report.duplicates = 1,
            |report| report.out_of_order = 1,
            |report| report.dropped = 1,
            |report| report.refused = 1,
            |report| (report.accepted, report.expected, report.received) = (0, 0, 0),
            |report| report.limit = Some(99),
        ];
        for (n, spoil) in spoil.into_iter().enumerate() {
            let mut report = perfect();
            spoil(&mut report);
            assert_eq!(report.failures().len(), 1, "case {n}: {report:?}");
        }
    }

    #[test]
    fn quantiles_are_taken_from_the_samples() {
        assert_eq!(quantiles(&[]), "p50 0.0 ms, p99 0.0 ms, max 0.0 ms");
        let thousand: Vec<u32> = (0..1000).map(|ms| ms * 1000).collect();
        assert_eq!(quantiles(&thousand), "p50 500.0 ms, p99 990.0 ms, max 999.0 ms");
    }
}
