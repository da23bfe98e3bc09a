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

/// Header fields, or trailers.
pub type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

/// Sends one request and waits for the end of its stream.
pub fn send(server: SocketAddr, fields: Fields<'_>, body: Option<&[u8]>) -> Result<Answer> {
    let mut stream = Stream::open(server, fields, body.is_none())?;
    if let Some(body) = body {
        stream.data(body, true)?;
    }
    stream.answer()
}

/// A request whose body is sent piece by piece, on a connection of its own.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    decoder: Decoder<'static>,
    /// A block of header fields that is not complete yet.
    block: Vec<u8>,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    /// The stream ends with this block.
    ends_with_block: bool,
    is_complete: bool,
}

impl Stream {
    /// Sends the head of a request.
    pub fn open(server: SocketAddr, fields: Fields<'_>, is_last: bool) -> Result<Stream> {
        let mut tcp = TcpStream::connect(server)?;
        tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut request, SETTINGS, 0, 0, &[]);
        headers(&mut request, fields, is_last);
        tcp.write_all(&request)?;
        Ok(Stream {
            tcp,
            decoder: Decoder::default(),
            block: Vec::new(),
            fields: Vec::new(),
            body: Vec::new(),
            ends_with_block: false,
            is_complete: false,
        })
    }

    /// Sends a piece of the body.
    pub fn data(&mut self, piece: &[u8], is_last: bool) -> Result<()> {
        let mut out = Vec::new();
        frame(
            &mut out,
            DATA,
            if is_last { END_STREAM } else { 0 },
            1,
            piece,
        );
        Ok(self.tcp.write_all(&out)?)
    }

    /// Sends trailers, which end the request.
    pub fn trailers(&mut self, fields: Fields<'_>) -> Result<()> {
        let mut out = Vec::new();
        headers(&mut out, fields, true);
        Ok(self.tcp.write_all(&out)?)
    }

    /// Waits until so many bytes of the answer's body are there, or it ends.
    pub fn body(&mut self, bytes: usize) -> Result<&[u8]> {
        while self.body.len() < bytes && !self.is_complete {
            if let Some(code) = self.read_frame()? {
                bail!("refused with code {code}");
            }
        }
        Ok(&self.body)
    }

    /// Waits for the end of the answer.
    pub fn answer(mut self) -> Result<Answer> {
        while !self.is_complete {
            if let Some(code) = self.read_frame()? {
                return Ok(Answer::Refused(code));
            }
        }
        Ok(Answer::Response {
            fields: self.fields,
            body: self.body,
        })
    }

    /// Reads a frame. Returns the code with which the server refuses the request, if it does.
    fn read_frame(&mut self) -> Result<Option<u32>> {
        let mut head = [0; 9];
        if self.tcp.read_exact(&mut head).is_err() {
            return Ok(Some(0));
        }
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        self.tcp.read_exact(&mut payload)?;
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
                self.tcp.write_all(&ack)?;
            }
            (GOAWAY, _) => return code(4).context("a GOAWAY without a code").map(Some),
            (RST_STREAM, 1) => return code(0).context("a reset without a code").map(Some),
            (DATA, 1) => {
                self.body.extend_from_slice(&payload);
                self.is_complete |= flags & END_STREAM != 0;
            }
            (HEADERS | CONTINUATION, 1) => {
                self.block.extend_from_slice(&payload);
                if flags & END_HEADERS != 0 {
                    let mut decoded = Vec::new();
                    let mut block = std::mem::take(&mut self.block);
                    if self.decoder.decode(&mut block, &mut decoded).is_err() {
                        bail!("the server's header block does not decode");
                    }
                    let string = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    let decoded = decoded.into_iter();
                    self.fields
                        .extend(decoded.map(|(name, value, _)| (string(name), string(value))));
                }
                self.ends_with_block |= kind == HEADERS && flags & END_STREAM != 0;
                self.is_complete |= self.ends_with_block && self.block.is_empty();
            }
            _ => {}
        }
        Ok(None)
    }
}

fn headers(request: &mut Vec<u8>, fields: Fields<'_>, is_last: bool) {
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal field, its name literal as well, not to be indexed, no Huffman code.
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    let end_stream = if is_last { END_STREAM } else { 0 };
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
        frame(request, kind, flags | end_headers, 1, piece);
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
