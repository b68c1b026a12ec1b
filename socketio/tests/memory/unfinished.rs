//! What clients cost that leave a message half sent, whatever its form, and what they cost after a whole one.

use futures_util::StreamExt as _;

use super::{AT_ONCE, Bench, Client, DEADLINE, Duration, Instant, Remote, frame, stream};

/// The largest message of the server, in bytes.
const PAYLOAD: usize = 64 * 1024;

/// What a connection may cost that leaves a message half sent: twice the payload limit.
const HALF_SENT: u64 = 2 * PAYLOAD as u64;

/// What a connection may cost after a large message beyond what it cost before.
const IDLE: u64 = 48 * 1024;

const CLIENTS: usize = 300;

/// Waits until the server has read all that was sent to it.
async fn settle_reading(remote: &Remote) {
    let port = format!(":{:04X}", remote.bench.address.port());
    let deadline = Instant::now() + DEADLINE;
    // Of each socket: number, own address, the other's, state, and what is to be sent and to be read.
    let is_unread = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && !fields[4].ends_with(":00000000")
            || fields[2].ends_with(&port) && !fields[4].starts_with("00000000:")
    };
    while std::fs::read_to_string("/proc/net/tcp").unwrap().lines().skip(1).any(is_unread) {
        assert!(Instant::now() < deadline, "the server leaves something unread");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn a_message_that_is_half_sent_costs_at_most_twice_the_payload_limit() {
    let whole = frame(0x81, &[b'x'; 60_000]);
    let event = frame(0x81, &[&b"42[\""[..], &[b'x'; 60_000], b"\"]"].concat());
    let half = frame(0x81, &[b'x'; PAYLOAD]);
    let attachments = [frame(0x81, b"4510-[\"a\"]"), frame(0x82, &[7; 10_000]).repeat(6)].concat();
    let forms: [(&str, Vec<u8>, u64); 8] = [
        ("one fragment of 60 kB", frame(0x01, &[b'x'; 60_000]), HALF_SENT),
        ("one binary fragment of 36 kB", frame(0x02, &[0; 36_000]), HALF_SENT),
        (
            "sixty fragments",
            [frame(0x01, &[b'x'; 1000]), frame(0x00, &[b'x'; 1000]).repeat(59)].concat(),
            HALF_SENT,
        ),
        ("a frame but for its last bytes", half[..half.len() - 10].to_vec(), HALF_SENT),
        (
            "a frame behind a fragment",
            [frame(0x01, &[b'x'; 30_000]), frame(0x00, &[b'x'; 30_000])[..29_000].to_vec()].concat(),
            HALF_SENT,
        ),
        ("six of ten attachments", attachments, HALF_SENT),
        ("a header", whole[..8].to_vec(), IDLE),
        ("a whole event, answered or not", event, IDLE),
    ];
    for (name, bytes, allowed) in forms {
        let remote = Remote::start();
        let address = remote.bench.address;
        let joining =
            stream::iter(0..CLIENTS).map(|_| async move { Client::join(&Bench::of(address)).await });
        let mut clients: Vec<Client> = joining.buffer_unordered(AT_ONCE).collect().await;
        settle_reading(&remote).await;
        let base = remote.memory();
        for client in &mut clients {
            client.send(&bytes).await;
        }
        settle_reading(&remote).await;
        let each = remote.memory().saturating_sub(base) / CLIENTS as u64;
        eprintln!("{name}: {} KiB", each / 1024);
        assert!(each <= allowed, "{name} costs {} KiB", each / 1024);
    }
}
