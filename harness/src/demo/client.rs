//! A small HTTP/1.1 client that sends the bytes it is given, however malformed, and reads one answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long connecting and each read or write may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of a response that are kept; what follows is not read.
const RESPONSE_BYTES: usize = 1 << 20;

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; of a chunked one what the chunks hold.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header field of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// One connection after the other, each kept as long as the server does.
#[derive(Debug)]
pub struct Kept {
    server: SocketAddr,
    stream: Option<TcpStream>,
}

impl Kept {
    /// Connects when the first request is sent.
    pub fn new(server: SocketAddr) -> Self {
        Self {
            server,
            stream: None,
        }
    }

    /// Sends `request` and reads its answer; `None` if the server closed the connection without
    /// one. That a kept connection was closed in between is found out and tried again.
    pub fn send(&mut self, request: &[u8]) -> Result<Option<Response>> {
        let is_kept = self.stream.is_some();
        let answer = self.try_send(request)?;
        match answer {
            None if is_kept => self.try_send(request),
            answer => Ok(answer),
        }
    }

    fn try_send(&mut self, request: &[u8]) -> Result<Option<Response>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.server, PATIENCE)
                    .with_context(|| format!("cannot reach {}", self.server))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                stream
            }
        };
        // A server that refuses a request half way answers and closes; its answer is what counts.
        let _ = stream.write_all(request);
        let has_body = !request.starts_with(b"HEAD ");
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    bail!("{} did not answer within {PATIENCE:?}", self.server);
                }
                Err(_) => break,
            }
            if let Ok((response, is_complete)) = parse(&bytes)
                && (is_complete || !has_body)
            {
                if response.header("connection") != Some("close") {
                    self.stream = Some(stream);
                }
                return Ok(Some(response));
            }
            if bytes.len() > RESPONSE_BYTES {
                bail!("{} sends more than {RESPONSE_BYTES} bytes", self.server);
            }
        }
        Ok(parse(&bytes).ok().map(|(response, _)| response))
    }
}

/// Sends `request` on a connection of its own and reads one response: to the end of its body, or
/// until the server closes where the response does not say how long it is.
pub fn send(server: SocketAddr, request: &[u8]) -> Result<Response> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)
        .with_context(|| format!("cannot reach {server}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server that refuses a request half way answers and closes; its answer is what counts.
    let written = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    while bytes.len() < RESPONSE_BYTES {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(_) if !bytes.is_empty() => break,
            Err(error) => {
                written.context("the server stopped reading the request and sent no answer")?;
                return Err(error).context("the server sent no answer");
            }
        }
        // Envoy waits a while before it closes.
        if let Ok((response, true)) = parse(&bytes) {
            return Ok(response);
        }
    }
    Ok(parse(&bytes)?.0)
}

/// The response in these bytes, and whether it is complete for sure.
fn parse(bytes: &[u8]) -> Result<(Response, bool)> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        bail!(
            "{} bytes came back without the head of a response",
            bytes.len()
        );
    };
    let (head, rest) = bytes.split_at(end);
    let body = rest.get(4..).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.context("what came back does not start with a status line")?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    let length = response.header("content-length").map(str::parse);
    let is_chunked = response
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let is_complete = match length {
        _ if is_chunked => body.ends_with(b"0\r\n\r\n"),
        Some(Ok(length)) => body.len() >= length,
        _ => false,
    };
    response.body = if is_chunked {
        join_chunks(body)
    } else {
        body.to_vec()
    };
    Ok((response, is_complete))
}

/// What the chunks hold, as far as they are complete.
fn join_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = rest
            .get(..end)
            .and_then(|line| std::str::from_utf8(line).ok());
        let size = size.and_then(|line| usize::from_str_radix(line.trim(), 16).ok());
        // Envoy sends no chunk extensions, so a line that is no number is the end.
        let Some(chunk) = size.and_then(|size| rest.get(end + 2..end + 2 + size)) else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + chunk.len()..).unwrap_or_default();
    }
    body
}
