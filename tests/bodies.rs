//! Bodies in a real Envoy: what is found in them, what a block keeps from the upstream, and that no body is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use portcullis_harness::demo::envoy::Config;
use portcullis_tests::{BROWSER, Gateway, http2, wasm};

const BLOCK: &str =
    r#"{"mode": "block", "block": {"min_severity": "Medium", "min_confidence": 60}}"#;

fn head(lines: &str) -> String {
    format!(
        "POST /form HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nUser-Agent: {BROWSER}\r\n{lines}\r\n"
    )
}

fn post(content_type: &str, body: &[u8]) -> Vec<u8> {
    let lines = format!(
        "Content-Type: {content_type}\r\nContent-Length: {}\r\n",
        body.len()
    );
    [head(&lines).as_bytes(), body].concat()
}

const UPLOAD: &[u8] = b"--X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n\
    Content-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n\0\0<?php system($_GET['c']); ?>\r\n--X--\r\n";

#[test]
fn what_a_body_holds_is_found_and_blocked() {
    let cases: [(&str, &[u8], &str, &str); 5] = [
        (
            "application/x-www-form-urlencoded",
            b"name=a&id=1%27+UNION+SELECT+password+FROM+users--+-",
            "Gateway_SqlInjection",
            "id",
        ),
        (
            "application/json; charset=utf-8",
            br#"{"user": {"id": "1' UNION SELECT password FROM users-- -"}}"#,
            "Gateway_SqlInjection",
            "id",
        ),
        ("multipart/form-data; boundary=X", UPLOAD, "Gateway_CodeInjection", ""),
        (
            "text/xml",
            b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
            "Gateway_CodeInjection",
            "",
        ),
        ("text/plain", b"<script>alert(document.cookie)</script>", "Gateway_CrossSiteScripting", ""),
    ];
    let detecting = Gateway::with("{}");
    let blocking = Gateway::with(BLOCK);
    for (content_type, body, alert_type, name) in cases {
        let passed = detecting.send(&post(content_type, body)).status;
        assert_ne!(passed, 403, "{content_type}");
        let alerts = detecting.alerts();
        let alert = alerts.iter().find(|alert| alert.alert_type() == alert_type);
        let alert = alert.unwrap_or_else(|| panic!("{content_type}: {alerts:?}"));
        assert_eq!(alert.text("FieldName"), name, "{content_type}");
        assert_eq!(alert.text("Target"), "/form");
        assert!(
            alert.text("Field").starts_with("cs-body"),
            "{content_type}: {alert:?}"
        );
        assert_eq!(
            blocking.send(&post(content_type, body)).status,
            403,
            "{content_type}"
        );
    }
    // Nearby, and nothing.
    for (content_type, body) in [
        (
            "application/x-www-form-urlencoded",
            &b"name=O%27Reilly&text=select+a+union+for+us"[..],
        ),
        (
            "application/json",
            br#"{"name": "O'Reilly", "n": [1, 2.5, null, true]}"#,
        ),
        ("multipart/form-data; boundary=X", &UPLOAD[..85]),
        (
            "application/octet-stream",
            b"id=1' UNION SELECT password FROM users-- -",
        ),
    ] {
        assert_ne!(
            blocking.send(&post(content_type, body)).status,
            403,
            "{content_type}"
        );
    }
    blocking.alerts();
    assert_eq!(blocking.stat("wasmcustom.portcullis.uninspected_bodies"), 1);
    detecting.assert_alive();
    blocking.assert_alive();
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_body_in_other_clothes_is_found() {
    let gateway = Gateway::with(BLOCK);
    let attack = "id=1%27+UNION+SELECT+password+FROM+users--+-";
    let json = r#"{"id": "1' UNION SELECT password FROM users-- -"}"#;
    let graphql =
        r#"{"query": "{ user(id: \"1' UNION SELECT password FROM users-- -\") { name } }"}"#;
    let wide: Vec<u8> = json.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let form = "application/x-www-form-urlencoded";
    let cases: [(&str, &str, Vec<u8>, bool); 8] = [
        (
            form,
            "Content-Encoding: gzip\r\n",
            gzip(attack.as_bytes()),
            true,
        ),
        (form, "Content-Encoding: gzip\r\n", attack.into(), true),
        (form, "Content-Encoding: br\r\n", attack.into(), true),
        (form, "Content-Encoding: gzip\r\n", gzip(b"id=1"), false),
        ("application/json", "", graphql.into(), true),
        ("application/json; charset=utf-16", "", wide, true),
        ("application/octet-stream", "", json.into(), true),
        (
            "application/json",
            "Content-Encoding: br\r\n",
            vec![0x8b, 0x03, 0x80, 0xff],
            false,
        ),
    ];
    for (kind, further, body, is_refused) in cases {
        let lines = format!(
            "Content-Type: {kind}\r\n{further}Content-Length: {}\r\n",
            body.len()
        );
        let answer = gateway.send(&[head(&lines).as_bytes(), &body].concat());
        assert_eq!(answer.status == 403, is_refused, "{kind} {further}");
    }
    // A bomb: its megabytes are never there.
    let bomb = gzip(&vec![b'a'; 60 << 20]);
    let lines = format!(
        "Content-Type: {form}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n",
        bomb.len()
    );
    gateway.send(&[head(&lines).as_bytes(), &bomb].concat());
    gateway.alerts();
    assert_eq!(gateway.stat("wasmcustom.portcullis.truncated_requests"), 1);
    assert_eq!(gateway.stat("wasmcustom.portcullis.uninspected_bodies"), 1);
    gateway.assert_alive();
}

#[test]
fn a_body_in_pieces_is_held_until_it_is_known() {
    let gateway = Gateway::with(BLOCK);
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let request = post(
        "application/x-www-form-urlencoded",
        b"id=1%27+UNION+SELECT+password+FROM+users--+-",
    );
    let (mut rest, mut sent) = (request.as_slice(), 0);
    while let Some(piece) = rest.get(
        ..rest
            .len()
            .min(if sent == 0 { request.len() - 30 } else { 10 }),
    ) {
        if piece.is_empty() {
            break;
        }
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        rest = &rest[piece.len()..];
        sent += 1;
    }
    assert_eq!(sent, 4);
    let mut answer = Vec::new();
    // The connection may be reset behind the answer.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(gateway.alert_types(), ["Gateway_SqlInjection"]);
    gateway.assert_alive();
}

#[test]
fn a_body_over_the_limit_passes_and_is_counted() {
    let gateway = Gateway::with(BLOCK);
    let attack = "&id=1%27+UNION+SELECT+password+FROM+users--+-";
    // Longer than Envoy would buffer: it must not be held back as a whole.
    let long = format!("a={}", "x".repeat(3 << 20));
    for (body, is_refused) in [
        (format!("{long}{attack}"), false),
        (format!("{}{long}", &attack[1..]), true),
    ] {
        let request = post("application/x-www-form-urlencoded", body.as_bytes());
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        // Envoy may answer before it has read all.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            !answer.is_empty() && !answer.starts_with("HTTP/1.1 413"),
            "{answer}"
        );
        assert_eq!(answer.starts_with("HTTP/1.1 403"), is_refused, "{answer}");
    }
    let alerts = gateway.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(gateway.stat("wasmcustom.portcullis.truncated_requests"), 2);
    gateway.assert_alive();
}

#[test]
fn bodies_may_be_left_alone() {
    let off = BLOCK.replacen('{', r#"{"body": {"inspect": false}, "#, 1);
    let gateway = Gateway::with(&off);
    let request = post(
        "application/x-www-form-urlencoded",
        b"id=1%27+UNION+SELECT+password+FROM+users--+-",
    );
    assert_ne!(gateway.send(&request).status, 403);
    let excepted = BLOCK.replacen(
        '{',
        r#"{"exceptions": [{"rules": ["injection"], "path": "/form", "parameter": "id"}], "#,
        1,
    );
    let gateway = Gateway::with(&excepted);
    assert_ne!(gateway.send(&request).status, 403);
    let other = post(
        "application/x-www-form-urlencoded",
        b"x=1%27+UNION+SELECT+password+FROM+users--+-",
    );
    assert_eq!(gateway.send(&other).status, 403);
    gateway.assert_alive();
}

/// Behind a body with trailers no piece of the body says that it was the last.
#[test]
fn trailers_end_a_body_as_well() {
    let gateway = Gateway::with(BLOCK);
    let attack = &b"id=1%27+UNION+SELECT+password+FROM+users--+-"[..];
    for (body, is_refused) in [
        (Some(attack), true),
        (Some(&b"id=1"[..]), false),
        (None, false),
    ] {
        let fields = fields("/login", "application/x-www-form-urlencoded");
        let mut stream = http2::Stream::open(gateway.address(), &fields, false).unwrap();
        if let Some(body) = body {
            stream.data(body, false).unwrap();
        }
        stream.trailers(&[(b"x-checksum", b"1")]).unwrap();
        let answer = stream.answer().unwrap();
        let status = if is_refused { "403" } else { "200" };
        assert_eq!(answer.field(":status"), Some(status), "{body:?}");
    }
    assert_eq!(gateway.alert_types(), ["Gateway_SqlInjection"]);
    gateway.assert_alive();
}

/// The head of a `POST` over HTTP/2.
fn fields<'a>(target: &'a str, content_type: &'a str) -> [(&'a [u8], &'a [u8]); 6] {
    [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"shop.example"),
        (b":path", target.as_bytes()),
        (b"content-type", content_type.as_bytes()),
        (b"user-agent", BROWSER.as_bytes()),
    ]
}

/// An upstream with one request a connection that answers as its path says, before it has read more than that needs:
///
/// | path | answer |
/// |---|---|
/// | `/early` | 200 at once, without reading the body |
/// | `/echo` | each piece of the body as it comes |
/// | `/upgrade` | 101, and from then on each piece as it comes |
/// | `/count` | how many bytes of body there were |
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks shows in what the client gets.
            std::thread::spawn(move || answer(&stream).ok());
        }
    });
    address
}

fn answer(stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let has_length = head.contains("content-length:");
    match path.as_str() {
        "/early" => {
            writer.write_all(
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nearly",
            )?;
            // Envoy closes the connection, with the rest of the request on it.
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
        }
        "/upgrade" => {
            writer.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            )?;
            loop {
                let piece = reader.fill_buf()?.to_vec();
                if piece.is_empty() {
                    return Ok(());
                }
                writer.write_all(&piece)?;
                reader.consume(piece.len());
            }
        }
        "/echo" => {
            writer.write_all(
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n",
            )?;
            while let Some(piece) = chunk(&mut reader)? {
                writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                writer.write_all(&[&piece[..], b"\r\n"].concat())?;
            }
            writer.write_all(b"0\r\n\r\n")?;
        }
        _ => {
            let mut count = 0;
            if has_length {
                let length = head.split("content-length: ").nth(1).unwrap_or_default();
                let length = length.split('\r').next().unwrap_or_default();
                let body = &mut reader.take(length.parse().unwrap_or(0));
                count = std::io::copy(body, &mut std::io::sink())?;
            } else {
                while let Some(piece) = chunk(&mut reader)? {
                    count += piece.len() as u64;
                }
            }
            let count = count.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                count.len()
            );
            writer.write_all([head, count].concat().as_bytes())?;
        }
    }
    Ok(())
}

/// The next chunk of a chunked body; none at its end.
fn chunk(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
    let mut piece = vec![0; length + 2];
    reader.read_exact(&mut piece)?;
    piece.truncate(length);
    Ok((length > 0).then_some(piece))
}

fn before(upstream: SocketAddr, edit: impl FnOnce(Config) -> anyhow::Result<Config>) -> Gateway {
    Gateway::start(|_| edit(Config::new(&wasm(), upstream)?.plugin(BLOCK)?)).unwrap()
}

fn connected(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream
}

/// What comes until the connection ends, or is reset behind the answer.
fn rest_of(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What streams, or is no body, is not held back: the other side sees each piece before the next one is sent.
#[test]
fn streams_and_tunnels_pass_untouched() {
    let upstream = upstream();
    let gateway = before(upstream, |config| {
        let manager = "          use_remote_address: true\n";
        let websocket =
            format!("{manager}          upgrade_configs: [{{upgrade_type: websocket}}]\n");
        config.edit(manager, &websocket)
    });

    let grpc = fields("/echo", "application/grpc");
    let mut stream = http2::Stream::open(gateway.address(), &grpc, false).unwrap();
    let (first, second) = (b"\0\0\0\0\x05hello", b"\0\0\0\0\x06' or 1");
    stream.data(first, false).unwrap();
    assert_eq!(stream.body(first.len()).unwrap(), first);
    stream.data(second, true).unwrap();
    let all = [&first[..], second].concat();
    assert_eq!(stream.body(all.len()).unwrap(), all);
    assert_eq!(stream.answer().unwrap().field(":status"), Some("200"));

    let mut stream = connected(&gateway);
    let upgrade = format!(
        "GET /upgrade HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {BROWSER}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Content-Type: application/json\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for piece in [
        &b"{\"q\": \"1' UNION SELECT a FROM b-- -\"}"[..],
        b"\x81\x05hello",
    ] {
        stream.write_all(piece).unwrap();
        let mut echo = vec![0; piece.len()];
        reader.read_exact(&mut echo).unwrap();
        assert_eq!(echo, piece);
    }
    drop((stream, reader));
    assert!(gateway.alerts().is_empty());
    gateway.assert_alive();
}

/// Uploads arrive whole, however long and in whatever pieces.
#[test]
fn long_uploads_arrive_whole() {
    const BYTES: usize = 10 << 20;
    let gateway = before(upstream(), Ok);
    let body = vec![b'x'; BYTES];
    for content_type in [
        "multipart/form-data; boundary=X",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ] {
        for is_chunked in [false, true] {
            let framing = match is_chunked {
                true => "Transfer-Encoding: chunked\r\n".to_owned(),
                false => format!("Content-Length: {BYTES}\r\n"),
            };
            let head = head(&format!("Content-Type: {content_type}\r\n{framing}"));
            let head = head.replacen("/form", "/count", 1);
            let mut stream = connected(&gateway);
            stream.write_all(head.as_bytes()).unwrap();
            for piece in body.chunks(100_000) {
                if is_chunked {
                    let length = format!("{:x}\r\n", piece.len());
                    stream.write_all(length.as_bytes()).unwrap();
                }
                stream.write_all(piece).unwrap();
                if is_chunked {
                    stream.write_all(b"\r\n").unwrap();
                }
            }
            if is_chunked {
                stream.write_all(b"0\r\n\r\n").unwrap();
            }
            let answer = rest_of(stream);
            assert!(
                answer.starts_with("HTTP/1.1 200"),
                "{content_type} {is_chunked}: {answer}"
            );
            assert!(
                answer.ends_with(&BYTES.to_string()),
                "{content_type}: {answer}"
            );
        }
    }
    assert!(gateway.alerts().is_empty());
    gateway.assert_alive();
}

/// An upstream may answer before it has read the body. A body that is held back does not lose that answer, and a
/// client that does not wait for it leaves nothing behind.
#[test]
fn an_early_answer_is_not_lost() {
    let gateway = before(upstream(), Ok);
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (body, length) in [("id=1", 4), ("id=", 100_000)] {
        let head = head(&format!("{kind}Content-Length: {length}\r\n"));
        let mut stream = connected(&gateway);
        stream
            .write_all(
                [&head.replacen("/form", "/early", 1), body]
                    .concat()
                    .as_bytes(),
            )
            .unwrap();
        let answer = rest_of(stream);
        assert!(answer.starts_with("HTTP/1.1 200"), "{length}: {answer}");
        assert!(answer.ends_with("early"), "{length}: {answer}");
    }
    assert!(gateway.alerts().is_empty());
    gateway.assert_alive();
}
