//! Envoy's JSON access logs.
//!
//! The operator chooses the keys, so each part is known by the spellings in use: those of Envoy's
//! documentation, of Istio, Envoy Gateway and Contour. Keys are compared in lower case with every
//! run of other characters than letters and digits as one `_`, with or without `req_`,
//! `request_` or `http_` in front, at any depth; keys inside an object called `headers` or
//! `request_headers` are header names. `null` and `-` mean that there was nothing to log.

use super::json::{self, Scalar};
use super::record::{Part, Record};
use super::time;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Method,
    /// The path after the route may have rewritten it.
    Path,
    /// The path as the client sent it; it wins.
    OriginalPath,
    Authority,
    Scheme,
    Protocol,
    Status,
    Time,
    /// The client's address; the first of these to be there wins.
    SourceAddress,
    Id,
    Header(&'static [u8]),
}

fn role(key: &[u8]) -> Option<Role> {
    known(key).or_else(|| {
        let prefixes: [&[u8]; 3] = [b"req_", b"request_", b"http_"];
        known(
            prefixes
                .iter()
                .find_map(|prefix| key.strip_prefix(*prefix))?,
        )
    })
}

fn known(key: &[u8]) -> Option<Role> {
    Some(match key {
        b"method" => Role::Method,
        b"path" | b"uri" | b"url" | b"url_path" => Role::Path,
        b"x_envoy_original_path" | b"x_envoy_origin_path" | b"original_path" => Role::OriginalPath,
        b"authority" | b"host" => Role::Authority,
        b"scheme" | b"x_forwarded_proto" => Role::Scheme,
        b"protocol" => Role::Protocol,
        b"response_code" | b"status" | b"status_code" | b"response_status" => Role::Status,
        b"start_time" | b"timestamp" | b"time" => Role::Time,
        b"downstream_remote_address"
        | b"downstream_remote_address_without_port"
        | b"downstream_direct_remote_address"
        | b"downstream_direct_remote_address_without_port"
        | b"remote_address"
        | b"remote_addr"
        | b"remote_ip"
        | b"client_address"
        | b"client_ip"
        | b"source"
        | b"source_address"
        | b"source_ip" => Role::SourceAddress,
        b"x_request_id" | b"request_id" => Role::Id,
        b"user_agent" | b"useragent" => Role::Header(b"user-agent"),
        b"referer" | b"referrer" => Role::Header(b"referer"),
        b"x_forwarded_for" => Role::Header(b"x-forwarded-for"),
        b"cookie" => Role::Header(b"cookie"),
        b"accept" => Role::Header(b"accept"),
        b"accept_encoding" => Role::Header(b"accept-encoding"),
        b"accept_language" => Role::Header(b"accept-language"),
        b"authorization" => Role::Header(b"authorization"),
        b"content_type" => Role::Header(b"content-type"),
        b"origin" => Role::Header(b"origin"),
        _ => return None,
    })
}

/// Writes `key` into `out` as it is compared.
fn normalise(key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for byte in key {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.to_ascii_lowercase());
        } else if out.last().is_some_and(|last| *last != b'_') {
            out.push(b'_');
        }
    }
}

/// Whether a key is one that only an access log has.
pub(crate) fn is_key(key: &[u8]) -> bool {
    let mut normal = Vec::new();
    normalise(key, &mut normal);
    role(&normal).is_some_and(|role| {
        matches!(
            role,
            Role::Method | Role::Path | Role::OriginalPath | Role::Status | Role::Authority
        )
    })
}

pub(crate) fn parse(line: &[u8], record: &mut Record) -> Result<(), &'static str> {
    let mut normal = Vec::new();
    let mut value_bytes = Vec::new();
    let (mut has_method, mut has_path, mut has_original_path) = (false, false, false);
    let mut target = None;
    let rest = json::walk(line, |keys, value| {
        let Some((key, parents)) = keys.split_last() else {
            return;
        };
        value_bytes.clear();
        match value {
            Scalar::Text(text) => json::unescape(text, &mut value_bytes),
            Scalar::Bare(b"null") => {}
            Scalar::Bare(text) => value_bytes.extend_from_slice(text),
        }
        let is_absent = value == Scalar::Bare(b"null") || value_bytes == b"-";
        let in_headers = parents.iter().any(|parent| {
            normalise(parent, &mut normal);
            matches!(normal.as_slice(), b"headers" | b"request_headers")
        });
        normalise(key, &mut normal);
        let role = role(&normal);
        has_method |= role == Some(Role::Method);
        has_path |= matches!(role, Some(Role::Path | Role::OriginalPath));
        if is_absent {
            return;
        }
        match role {
            Some(Role::Method) => record.put(Part::Method, &value_bytes),
            Some(Role::Path) if !has_original_path => target = Some(record.push(&value_bytes)),
            Some(Role::Path) => {}
            Some(Role::OriginalPath) => {
                has_original_path = true;
                target = Some(record.push(&value_bytes));
            }
            Some(Role::Authority) => record.put(Part::Authority, &value_bytes),
            Some(Role::Scheme) => record.put(Part::Scheme, &value_bytes),
            Some(Role::Protocol) => record.put(Part::Protocol, &value_bytes),
            Some(Role::Status) => {
                record.status = std::str::from_utf8(&value_bytes)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .filter(|s| *s != 0);
            }
            Some(Role::Time) => {
                record.time_unix_ns = record
                    .time_unix_ns
                    .or(time::parse_iso_or_epoch(&value_bytes))
            }
            Some(Role::SourceAddress) if record.source_address().is_some() => {}
            Some(Role::SourceAddress) => record.put(Part::SourceAddress, &value_bytes),
            Some(Role::Id) => record.put(Part::Id, &value_bytes),
            Some(Role::Header(name)) => record.push_header(name, &value_bytes),
            None if in_headers => {
                let mut name = Vec::new();
                json::unescape(key, &mut name);
                record.push_header(&name, &value_bytes);
            }
            None => {}
        }
    })
    .map_err(json::WalkError::reason)?;
    if !rest.trim_ascii().is_empty() {
        return Err("something follows the JSON object on its line");
    }
    if !has_method && !has_path {
        return Err("the JSON object has neither a method nor a path under a known key");
    }
    if let Some(target) = target {
        record.set_target(target);
    }
    if record.source_address().is_none() {
        // Without a better word the last hop counts: all before it is the client's own claim.
        let last = record
            .header(b"x-forwarded-for")
            .and_then(|v| v.rsplit(|b| *b == b',').next());
        if let Some(last) = last.map(|v| v.trim_ascii().to_vec()) {
            record.put(Part::SourceAddress, &last);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &[u8]) -> Result<Record, &'static str> {
        let mut record = Record::default();
        parse(line, &mut record).map(|()| record)
    }

    #[test]
    fn the_spellings_in_use_all_mean_the_same_request() {
        let lines: &[&[u8]] = &[
            br#"{":authority":"h","method":"GET","path":"/a?b","response_code":200,"start_time":"2016-04-15T20:17:00Z","downstream_remote_address":"192.0.2.1:99","user-agent":"ua","x-envoy-origin-path":null}"#,
            br#"{"authority":"h","method":"GET","path":"/rewritten","x-envoy-original-path":"/a?b","response_code":"200","start_time":"1460751420","user_agent":"ua","source":"192.0.2.1","x_forwarded_for":"198.51.100.1, 192.0.2.1"}"#,
            br#"{"@timestamp":"2016-04-15T20:17:00.000Z","request":{"method":"GET","host":"h","path":"/a?b","headers":{"User-Agent":"ua"}},"status":200,"client_ip":"192.0.2.1"}"#,
            br#"{"time":"2016-04-15T20:17:00Z","req_method":"GET","request_path":"http://h/a?b","http_user_agent":"ua","response_code":200,"remote_addr":"192.0.2.1","referer":"-"}"#,
        ];
        for line in lines {
            let record = read(line).unwrap();
            let text = line.escape_ascii();
            assert_eq!(
                (record.method(), record.target()),
                (&b"GET"[..], &b"/a?b"[..]),
                "{text}"
            );
            assert_eq!(record.authority(), Some(&b"h"[..]), "{text}");
            assert_eq!(record.status, Some(200), "{text}");
            assert_eq!(
                record.time_unix_ns,
                Some(1_460_751_420_000_000_000),
                "{text}"
            );
            assert_eq!(record.source_ip(), Some([192, 0, 2, 1].into()), "{text}");
            assert_eq!(record.header(b"user-agent"), Some(&b"ua"[..]), "{text}");
            assert_eq!(record.header(b"referer"), None, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_read_as_envoy_writes_them() {
        let record = read(br#"{"method":"GET","path":"/\377\042","user_agent":"a\"b"}"#).unwrap();
        assert_eq!(record.target(), b"/\xff\"");
        let record = read(b"{\"method\":\"GET\",\"path\":\"/\xff\"}").unwrap();
        assert_eq!(record.target(), b"/\xff");
    }

    #[test]
    fn a_request_that_envoy_could_not_parse_is_a_record_without_parts() {
        let record = read(br#"{"method":null,"path":"-","response_code":400}"#).unwrap();
        assert_eq!(
            (record.method(), record.target(), record.status),
            (&b""[..], &b""[..], Some(400))
        );
    }

    #[test]
    fn what_is_no_access_log_is_refused() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "ends early"),
            (b"GET / HTTP/1.1", "not a JSON object"),
            (br#"{"method":"GET","path":"/a"#, "ends early"),
            (
                br#"{"level":"info","msg":"started"}"#,
                "neither a method nor a path",
            ),
            (br#"{"method":"GET","path":"/"} {"#, "something follows"),
        ];
        for (line, reason) in cases {
            let got = read(line).map(|_| ()).unwrap_err();
            assert!(got.contains(reason), "{}: {got}", line.escape_ascii());
        }
    }
}
