//! The tool `healthcheck`: requests `/readyz` of a running server. For container health checks and scripts.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{config::Healthcheck, error::Error, listener::reachable};

/// Deadline of the connect, of the write, and of the whole response.
const DEADLINE: Duration = Duration::from_secs(2);

/// Maximum number of bytes read of a response.
const MAX_RESPONSE: usize = 64 * 1024;

/// Succeeds if the server is ready. The status line is sufficient: the body only has the reason.
pub fn run(config: &Healthcheck) -> Result<(), Error> {
    let answer = ask(reachable(config.admin_listen)).map_err(|error| Error::NotReady(error.to_string()))?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    if is_ready(answer.as_bytes()) {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
    let why = body.as_ref().and_then(|refusal| refusal["message"].as_str()).unwrap_or(status);
    Err(Error::NotReady(why.to_owned()))
}

/// The response of `/readyz`: of a server that is ready at least the status line, else up to [`MAX_RESPONSE`] bytes.
fn ask(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let until = Instant::now() + DEADLINE;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while answer.len() < MAX_RESPONSE && !is_ready(&answer) {
        let left = until.saturating_duration_since(Instant::now());
        // A timeout of zero is refused.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if answer.is_empty() => return Err(error),
            // What was received has the status.
            Err(_) => break,
        }
    }
    Ok(answer)
}

/// Whether the status line is complete and its status is 200.
fn is_ready(answer: &[u8]) -> bool {
    let line = answer.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    line.ends_with(b"\n") && line.split(|byte| *byte == b' ').nth(1) == Some(b"200")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn check_against(answer: impl Into<String>) -> Result<(), Error> {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Healthcheck { admin_listen: listener.local_addr().unwrap() };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 64];
            assert!(stream.read(&mut request).unwrap() > 0);
            // The tool closes the connection when it has read enough.
            _ = stream.write_all(answer.as_bytes());
        });
        let result = run(&config);
        server.join().unwrap();
        result
    }

    #[test]
    fn only_200_is_ready() {
        assert!(check_against("HTTP/1.1 200 OK\r\n\r\n").is_ok());
        assert!(check_against("HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
        assert!(check_against("HTTP/1.1 5200 Odd\r\n\r\n").is_err());
        assert!(check_against("").is_err());
    }

    #[test]
    fn the_reason_is_reported() {
        let reason = |answer| check_against(answer).unwrap_err().to_string();
        let refusal = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"message\":\"Redis does not answer\"}";
        assert_eq!(reason(refusal), "not ready: Redis does not answer");
        assert_eq!(reason("HTTP/1.1 502 Bad\r\n\r\n{}"), "not ready: HTTP/1.1 502 Bad");
    }

    #[test]
    fn long_responses_are_read_up_to_a_bound() {
        let ready = |body: usize| format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(body));
        for body in [0, 5_000, 100_000, 10_000_000] {
            assert!(check_against(ready(body)).is_ok(), "{body}");
        }
        let reason = "x".repeat(50_000);
        let refusal = format!("HTTP/1.1 503 Service Unavailable\r\n\r\n{{\"message\":\"{reason}\"}}");
        assert_eq!(check_against(refusal).unwrap_err().to_string(), format!("not ready: {reason}"));
        let endless =
            format!("HTTP/1.1 503 Service Unavailable\r\n\r\n{{\"message\":\"{}", "x".repeat(10_000_000));
        let error = check_against(endless).unwrap_err().to_string();
        assert_eq!(error, "not ready: HTTP/1.1 503 Service Unavailable");
    }

    #[test]
    fn a_closed_port_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin_listen = listener.local_addr().unwrap();
        drop(listener);
        assert!(run(&Healthcheck { admin_listen }).is_err());
    }
}
