//! Detects that one store has the address of the other: a Redis at the address of MongoDB, or a MongoDB at that of Redis. Used only
//! after a request has failed, to name the cause.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The maximum time of a detection.
const MAX_WAIT: Duration = Duration::from_millis(150);

/// A request that Redis answers and MongoDB does not.
const PING: &[u8] = b"PING\r\n";

/// The starts of Redis's answers to [`PING`].
const PONGS: [&[u8]; 4] = [b"+PONG", b"-NOAUTH", b"-ERR", b"-DENIED"];

/// The request `{hello: 1, $db: "admin"}` of MongoDB, as OP_MSG with the number 1.
const HELLO: &[u8] = b"\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0";

/// The bytes 8 to 16 of the answer to [`HELLO`]: the number of the request, and OP_MSG.
const HELLO_ANSWER: &[u8] = b"\x01\0\0\0\xdd\x07\0\0";

/// Whether a Redis responds at this address.
pub async fn is_redis(host: &str, port: u16) -> bool {
    let answer = answer(host, port, PING, 4).await;
    answer.is_some_and(|answer| PONGS.iter().any(|pong| answer.starts_with(pong)))
}

/// Whether a MongoDB responds at this address.
pub async fn is_mongodb(host: &str, port: u16) -> bool {
    let answer = answer(host, port, HELLO, 16).await;
    answer.is_some_and(|answer| answer.get(8..16) == Some(HELLO_ANSWER))
}

/// The first bytes of the answer to `request`, at least `min`.
async fn answer(host: &str, port: u16, request: &[u8], min: usize) -> Option<Vec<u8>> {
    let exchange = async {
        let mut stream = TcpStream::connect((host, port)).await.ok()?;
        stream.write_all(request).await.ok()?;
        let mut answer = Vec::with_capacity(64);
        while answer.len() < min {
            if stream.read_buf(&mut answer).await.ok()? == 0 {
                return None;
            }
        }
        Some(answer)
    };
    timeout(MAX_WAIT, exchange).await.ok()?
}
