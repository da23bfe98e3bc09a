//! A client that speaks just enough HTTP/2 to send one request with any header fields, also ones
//! that a well-behaved library refuses to send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use httlib_hpack::Decoder;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The most that a frame may hold unless the server says otherwise.
const FRAME_BYTES: usize = 16_384;

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// With a response: its header fields and trailers, and its body.
    Response {
        fields: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// The server reset the stream, with this code, or closed the connection.
    Refused(u32),
}

impl Answer {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        match self {
            Answer::Response { fields, .. } => fields
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.as_str()),
            Answer::Refused(_) => None,
        }
    }
}

/// Sends one request and waits for the end of its stream.
pub fn send(server: SocketAddr, fields: &[(&[u8], &[u8])], body: Option<&[u8]>) -> Result<Answer> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut request, SETTINGS, 0, 0, &[]);
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal field, its name literal as well, not to be indexed, no Huffman code.
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    let end_stream = if body.is_none() { END_STREAM } else { 0 };
    let pieces: Vec<&[u8]> = block.chunks(FRAME_BYTES).collect();
    for (i, piece) in pieces.iter().enumerate() {
        let end_headers = if i + 1 == pieces.len() {
            END_HEADERS
        } else {
            0
        };
        let (kind, flags) = if i == 0 {
            (HEADERS, end_stream)
        } else {
            (CONTINUATION, 0)
        };
        frame(&mut request, kind, flags | end_headers, 1, piece);
    }
    if let Some(body) = body {
        frame(&mut request, DATA, END_STREAM, 1, body);
    }
    stream.write_all(&request)?;
    read_answer(&mut stream)
}

fn read_answer(stream: &mut TcpStream) -> Result<Answer> {
    let mut decoder = Decoder::default();
    let (mut block, mut fields, mut body) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_last = false;
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return Ok(Answer::Refused(0));
        }
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload)?;
        let code = |at: usize| {
            payload
                .get(at..at + 4)
                .and_then(|code| code.try_into().ok())
                .map(u32::from_be_bytes)
        };
        match (kind, u32::from_be_bytes(id)) {
            (SETTINGS, _) if flags & ACK == 0 => {
                let mut ack = Vec::new();
                frame(&mut ack, SETTINGS, ACK, 0, &[]);
                stream.write_all(&ack)?;
            }
            (GOAWAY, _) => return Ok(Answer::Refused(code(4).context("a GOAWAY without a code")?)),
            (RST_STREAM, 1) => {
                return Ok(Answer::Refused(code(0).context("a reset without a code")?));
            }
            (DATA, 1) => {
                body.extend_from_slice(&payload);
                is_last |= flags & END_STREAM != 0;
            }
            (HEADERS | CONTINUATION, 1) => {
                is_last |= kind == HEADERS && flags & END_STREAM != 0;
                block.extend_from_slice(&payload);
                if flags & END_HEADERS != 0 {
                    let mut decoded = Vec::new();
                    if decoder
                        .decode(&mut std::mem::take(&mut block), &mut decoded)
                        .is_err()
                    {
                        bail!("the server's header block does not decode");
                    }
                    let string = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    fields.extend(
                        decoded
                            .into_iter()
                            .map(|(name, value, _)| (string(name), string(value))),
                    );
                    if !is_last {
                        continue;
                    }
                }
            }
            _ => continue,
        }
        if is_last && block.is_empty() {
            return Ok(Answer::Response { fields, body });
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A string of HPACK: its length as an integer with a prefix of seven bits, then its bytes.
fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < 127 {
        out.push(bytes.len() as u8);
    } else {
        out.push(127);
        let mut rest = bytes.len() - 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(bytes);
}
