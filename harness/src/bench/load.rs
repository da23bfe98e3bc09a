//! Sends requests over kept connections, one at a time on each, and checks every answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long an answer may take; a server under valgrind is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client with its connections.
pub struct Client {
    connections: Vec<TcpStream>,
    requests: Vec<Vec<u8>>,
    next: usize,
    answer: Vec<u8>,
}

impl Client {
    /// A client that sends these requests over and over.
    pub fn connect(
        server: SocketAddr,
        connections: usize,
        requests: Vec<Vec<u8>>,
    ) -> Result<Client> {
        let connections = (0..connections)
            .map(|_| {
                let stream = TcpStream::connect(server)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(stream)
            })
            .collect::<std::io::Result<_>>()
            .context("cannot connect to the server")?;
        Ok(Client {
            connections,
            requests,
            next: 0,
            answer: vec![0; 16 * 1024],
        })
    }

    /// Sends one request on each connection, then reads the answers. Returns how many that were.
    pub fn turn(&mut self) -> Result<usize> {
        for stream in &mut self.connections {
            let request = self.requests.get(self.next % self.requests.len().max(1));
            stream.write_all(request.context("there are no requests")?)?;
            self.next += 1;
        }
        for stream in &mut self.connections {
            read_answer(stream, &mut self.answer)?;
        }
        Ok(self.connections.len())
    }

    /// Sends `count` requests or a few more.
    pub fn send(&mut self, count: usize) -> Result<()> {
        let mut sent = 0;
        while sent < count {
            sent += self.turn()?;
        }
        Ok(())
    }
}

fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    const END: &[u8] = b"</p>";
    let mut filled = 0;
    loop {
        let read = stream
            .read(buffer.get_mut(filled..).unwrap_or_default())
            .context("the server does not answer")?;
        filled += read;
        let answer = buffer.get(..filled).unwrap_or_default();
        // Every answer is the upstream's page, or the run is not worth its figures.
        if answer.ends_with(END) && answer.starts_with(b"HTTP/1.1 200 ") {
            return Ok(());
        }
        if read == 0 || answer.len() > 12 && !answer.starts_with(b"HTTP/1.1 200") {
            bail!(
                "the server answers otherwise than the upstream:\n{}",
                String::from_utf8_lossy(answer)
            );
        }
    }
}
