//! The requests that the demo sends, read from `envoy/demo-traffic.http`, which says what its lines mean.

use anyhow::{Context, Result, bail};

const FILE: &str = include_str!("../../../envoy/demo-traffic.http");
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/// Requests that share what they must raise.
#[derive(Debug)]
pub struct Group {
    /// The alert type that each request must raise; `None` where none may be raised.
    pub expected: Option<&'static str>,
    /// What the group shows.
    pub title: &'static str,
    /// The requests.
    pub requests: Vec<Request>,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// The request line without the version, for people.
    pub summary: String,
    /// What goes over the wire.
    pub bytes: Vec<u8>,
}

/// The groups of the file.
pub fn groups() -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut lines = FILE.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix("== ") {
            let (expected, title) = heading.split_once(' ').unwrap_or((heading, ""));
            groups.push(Group {
                expected: (expected != "benign").then_some(expected),
                title,
                requests: Vec::new(),
            });
            continue;
        }
        let mut head = vec![line];
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
            head.push(line);
        }
        let Some(group) = groups.last_mut() else {
            bail!(
                "envoy/demo-traffic.http:{}: a request before the first `==` line",
                index + 1
            );
        };
        let request =
            request(&head).with_context(|| format!("envoy/demo-traffic.http:{}", index + 1))?;
        group.requests.push(request);
    }
    Ok(groups)
}

fn request(head: &[&str]) -> Result<Request> {
    let mut bytes = Vec::new();
    for line in head {
        bytes.extend_from_slice(&unescape(line)?);
        bytes.extend_from_slice(b"\r\n");
    }
    let has = |name: &str| {
        head.iter()
            .any(|line| line.to_ascii_lowercase().starts_with(name))
    };
    for (name, value) in [
        ("Host", "shop.example"),
        ("User-Agent", BROWSER),
        ("Connection", "close"),
    ] {
        if !has(&format!("{}:", name.to_ascii_lowercase())) {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    bytes.extend_from_slice(b"\r\n");
    let body = head
        .iter()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    if let Some(length) = body {
        bytes.resize(bytes.len() + length.parse::<usize>()?, b'a');
    }
    let summary = head.first().and_then(|line| line.strip_suffix(" HTTP/1.1"));
    let summary = summary
        .context("the request line does not end with ` HTTP/1.1`")?
        .to_owned();
    Ok(Request { summary, bytes })
}

/// Puts bytes in place of `\xHH`.
fn unescape(line: &str) -> Result<Vec<u8>> {
    let mut parts = line.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.context("`\\x` without two hexadecimal digits")?);
        bytes.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    Ok(bytes)
}
