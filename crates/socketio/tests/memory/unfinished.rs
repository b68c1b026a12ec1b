//! The memory of clients with an incomplete message of any form, and after a complete one.

use futures_util::StreamExt as _;

use super::{AT_ONCE, Client, DEADLINE, Duration, Instant, ServerProcess, TestServer, frame, stream};

/// The largest message of the server, in bytes.
const PAYLOAD: usize = 64 * 1024;

/// The largest cost of a connection with a large message or a part of one: the message once, the read buffer
/// of the HTTP library, which keeps its largest size, and two fragments.
const LARGE: u64 = PAYLOAD as u64 * 5 / 2;

/// The largest cost of a connection with a few bytes of a message.
const SMALL: u64 = 8 * 1024;

const CLIENTS: usize = 300;

/// Waits until the server has read everything that was sent to it.
async fn wait_until_read(process: &ServerProcess) {
    let port = format!(":{:04X}", process.server.address.port());
    let deadline = Instant::now() + DEADLINE;
    // Fields per socket: number, local address, remote address, state, and the bytes to send and to receive.
    let is_unread = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && !fields[4].ends_with(":00000000")
            || fields[2].ends_with(&port) && !fields[4].starts_with("00000000:")
    };
    while std::fs::read_to_string("/proc/net/tcp").unwrap().lines().skip(1).any(is_unread) {
        assert!(Instant::now() < deadline, "the server has unread data");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn a_large_message_or_a_part_of_one_costs_at_most_two_and_a_half_times_the_payload_limit() {
    let whole = frame(0x81, &[b'x'; 60_000]);
    let event = frame(0x81, &[&b"42[\""[..], &[b'x'; 60_000], b"\"]"].concat());
    let half = frame(0x81, &[b'x'; PAYLOAD]);
    let attachments = [frame(0x81, b"4510-[\"a\"]"), frame(0x82, &[7; 10_000]).repeat(6)].concat();
    let forms: [(&str, Vec<u8>, u64); 8] = [
        ("one fragment of 60 kB", frame(0x01, &[b'x'; 60_000]), LARGE),
        ("one binary fragment of 36 kB", frame(0x02, &[0; 36_000]), LARGE),
        (
            "sixty fragments",
            [frame(0x01, &[b'x'; 1000]), frame(0x00, &[b'x'; 1000]).repeat(59)].concat(),
            LARGE,
        ),
        ("a frame but for its last bytes", half[..half.len() - 10].to_vec(), LARGE),
        (
            "a frame behind a fragment",
            [frame(0x01, &[b'x'; 30_000]), frame(0x00, &[b'x'; 30_000])[..29_000].to_vec()].concat(),
            LARGE,
        ),
        ("six of ten attachments", attachments, LARGE),
        ("a header", whole[..8].to_vec(), SMALL),
        ("a whole event, answered or not", event, LARGE),
    ];
    let mut over = Vec::new();
    for (name, bytes, allowed) in forms {
        let process = ServerProcess::start();
        let address = process.server.address;
        let joining =
            stream::iter(0..CLIENTS).map(|_| async move { Client::join(&TestServer::of(address)).await });
        let mut clients: Vec<Client> = joining.buffer_unordered(AT_ONCE).collect().await;
        wait_until_read(&process).await;
        let base = process.memory();
        for client in &mut clients {
            client.send(&bytes).await;
        }
        wait_until_read(&process).await;
        let each = process.memory().saturating_sub(base) / CLIENTS as u64;
        if each > allowed {
            over.push(format!("{name} costs {} KiB", each / 1024));
        }
    }
    assert!(over.is_empty(), "{over:?}");
}
