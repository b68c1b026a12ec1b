//! The tool `healthcheck`: requests `/readyz` of a running server. For container health checks and scripts.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::{config::Healthcheck, error::Error, listener::reachable};

/// Deadline of the connect, of the write, and of each read.
const DEADLINE: Duration = Duration::from_secs(2);

/// Maximum number of bytes read of a response.
const MAX_RESPONSE: u64 = 64 * 1024;

/// Succeeds if the server is ready.
///
/// # Errors
/// When it is not, with its reason.
pub fn run(config: &Healthcheck) -> Result<(), Error> {
    let answer = ask(reachable(config.admin_listen)).map_err(|error| Error::NotReady(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let body = serde_json::from_str::<Value>(body).unwrap_or_default();
    Err(Error::NotReady(body["message"].as_str().unwrap_or(status).to_owned()))
}

/// The response of `/readyz`.
fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn check_against(answer: &'static str) -> Result<(), Error> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Healthcheck { admin_listen: listener.local_addr().unwrap() };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 128]).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let result = run(&config);
        server.join().unwrap();
        result
    }

    #[test]
    fn only_200_is_ready_and_the_reason_is_reported() {
        assert!(check_against("HTTP/1.1 200 OK\r\n\r\n").is_ok());
        assert!(check_against("").is_err());
        let reason = |answer| check_against(answer).unwrap_err().to_string();
        let refusal = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"message\":\"Redis does not answer\"}";
        assert_eq!(reason(refusal), "not ready: Redis does not answer");
        assert_eq!(reason("HTTP/1.1 502 Bad\r\n\r\n{}"), "not ready: HTTP/1.1 502 Bad");
    }
}
