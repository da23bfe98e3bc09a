//! The server behind the demo's Envoy: a thread for each connection, a few pages of a shop, 404 for
//! everything else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// Paths that answer 200, with the page's title. A file of any type answers with such a page.
const PAGES: &[(&str, &str)] = &[
    ("/", "Everything for the garden"),
    ("/products", "Products"),
    ("/product", "One product"),
    ("/search", "Search"),
    ("/cart", "Cart"),
    ("/login", "Log in"),
    ("/blog", "Blog"),
    ("/robots.txt", "Robots"),
    ("/favicon.ico", "Icon"),
    ("/index.php", "Index"),
    ("/style.css", "Style"),
    ("/app.js", "Script"),
];

/// Longest request head that is read; Envoy's own limit is lower.
const HEAD_BYTES: u64 = 16 << 20;

/// An idle connection ends after this.
const IDLE: Duration = Duration::from_secs(30);

/// Starts the server on a free port. It serves until the process ends.
pub fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .context("cannot open a port for the upstream")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // The peer is Envoy; a connection that breaks is Envoy's to report.
                let _ = serve(&stream);
            });
        }
    });
    Ok(address)
}

fn serve(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let mut writer = stream;
        writer.write_all(respond(&request).as_bytes())?;
        if request.chunked {
            // Chunks are not parsed, so where the next request starts is not known.
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    grpc: bool,
    chunked: bool,
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(HEAD_BYTES);
    let mut line = Vec::new();
    if head.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&line).into_owned();
    let mut words = text.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let path = target
        .split(['?', ';'])
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut request = Request {
        method,
        path,
        grpc: false,
        chunked: false,
    };
    let mut body_bytes = 0;
    loop {
        line.clear();
        if head.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let field = String::from_utf8_lossy(&line).trim().to_ascii_lowercase();
        match field
            .split_once(':')
            .map(|(name, value)| (name, value.trim()))
        {
            Some(("content-length", value)) => body_bytes = value.parse().unwrap_or(0),
            Some(("transfer-encoding", _)) => request.chunked = true,
            Some(("content-type", value)) => request.grpc = value.starts_with("application/grpc"),
            _ if field.is_empty() => break,
            _ => {}
        }
    }
    std::io::copy(&mut reader.take(body_bytes), &mut std::io::sink())?;
    Ok(Some(request))
}

fn respond(request: &Request) -> String {
    let connection = if request.chunked {
        "connection: close\r\n"
    } else {
        ""
    };
    if request.grpc {
        // An answer without a message: gRPC allows its status among the headers then.
        return format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 0\r\ncontent-length: 0\r\n{connection}\r\n"
        );
    }
    let page = PAGES.iter().find(|(path, _)| *path == request.path);
    let (status, title) = page.map_or(("404 Not Found", "Not found"), |(_, title)| {
        ("200 OK", *title)
    });
    let body = format!(
        "<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    );
    let length = body.len();
    let body = if request.method == "HEAD" {
        String::new()
    } else {
        body
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n{connection}\r\n{body}"
    )
}
