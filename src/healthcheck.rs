//! The tool `healthcheck`: requests `/readyz` of a running server. For container health checks and scripts.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::{config::Healthcheck, error::Error, listener::reachable};

/// Deadline of the connect, and of each read and write.
const DEADLINE: Duration = Duration::from_secs(2);

/// Maximum number of bytes read of a response.
const ENOUGH: u64 = 4096;

/// Succeeds if the server is ready.
pub fn run(config: &Healthcheck) -> Result<(), Error> {
    let answer = ask(reachable(config.admin_listen)).map_err(|error| Error::NotReady(error.to_string()))?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
    let why = body.as_ref().and_then(|refusal| refusal["message"].as_str()).unwrap_or(status);
    Err(Error::NotReady(why.to_owned()))
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ENOUGH).read_to_end(&mut answer)?;
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
            let mut request = [0; 64];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
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
    fn a_closed_port_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin_listen = listener.local_addr().unwrap();
        drop(listener);
        assert!(run(&Healthcheck { admin_listen }).is_err());
    }
}
