//! Which property of an exchange a path names, and in which phase it is there.
//!
//! The caller's own tree ([`Properties`](super::Properties)) answers first; what it does not have is derived
//! from the exchange as Envoy 1.40 derives it. Request headers are gone once they have been passed on, so
//! `request.path` is not found in the response callbacks and is back in `proxy_on_log`. The names of Envoy
//! before 1.40 (`route_name`, `node`, …) are not found, as there.

use super::headers::HeaderMap;
use super::status::{Status, map};
use super::vm::{REQUEST, RESPONSE, State, Stream};

/// Appends the property at `path` to `out`.
pub(super) fn property(state: &State, path: &[u8], out: &mut Vec<u8>) -> Status {
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    if path.is_empty() {
        return Status::SerializationFailure;
    }
    let mut segments = path.split(|byte| *byte == 0);
    let first = segments.next().unwrap_or_default();
    let second = segments.next();
    let third = segments.next();
    let deeper = segments.next().is_some();

    let stream = state.in_stream().then_some(&state.stream);
    if let Some(status) = given(state, stream, first, second, path, out) {
        return status;
    }
    let options = &state.plan.options;
    let found = match (first, second) {
        // Dynamic metadata is always there, and empty unless the caller's tree has some.
        (b"metadata", None) if stream.is_some() => Some(()),
        (b"metadata", Some(b"filter_metadata")) if stream.is_some() && third.is_none() => {
            text(&0u32.to_le_bytes(), out)
        }
        (b"plugin_name", None) => text(options.plugin_name.as_bytes(), out),
        (b"plugin_root_id", None) => text(options.root_id.as_bytes(), out),
        (b"plugin_vm_id", None) => text(options.vm_id.as_bytes(), out),
        _ => {
            let Some(stream) = stream else {
                return Status::NotFound;
            };
            match (first, second, third) {
                (
                    b"request" | b"response" | b"connection" | b"source" | b"destination"
                    | b"filter_state",
                    None,
                    _,
                ) => {
                    return Status::SerializationFailure;
                }
                (b"request", Some(b"headers"), name) => {
                    headers(state.map(map::REQUEST_HEADERS), name, out)
                }
                (b"response", Some(b"headers"), name) => {
                    headers(state.map(map::RESPONSE_HEADERS), name, out)
                }
                (b"response", Some(b"trailers"), name) => {
                    headers(state.map(map::RESPONSE_TRAILERS), name, out)
                }
                (b"filter_state", Some(key), None) => {
                    filter_state(stream, key.strip_prefix(b"wasm.").unwrap_or_default(), out)
                }
                (_, Some(_), Some(_)) => None,
                (b"request", Some(name), None) => request(state, stream, name, out),
                (b"response", Some(name), None) => response(state, stream, name, out),
                (b"connection", Some(b"id"), None) | (b"connection_id", None, _) => {
                    text(&stream.connection_id.to_le_bytes(), out)
                }
                (b"connection", Some(b"mtls"), None) => text(&[0], out),
                (b"source", Some(name), None) => address(&stream.source, name, out),
                (b"destination", Some(name), None) => address(&stream.destination, name, out),
                // What this plugin, or an earlier one, stored under the bare name.
                (name, None, _) => filter_state(stream, name, out),
                _ => None,
            }
        }
    };
    match found {
        Some(()) if !deeper => Status::Ok,
        _ => {
            out.clear();
            Status::NotFound
        }
    }
}

/// What the caller's trees say: the exchange's first, then the gateway's.
fn given(
    state: &State,
    stream: Option<&Stream>,
    first: &[u8],
    second: Option<&[u8]>,
    path: &[u8],
    out: &mut Vec<u8>,
) -> Option<Status> {
    let gateway = &state.plan.options.properties;
    let Some(stream) = stream else {
        // Outside of a stream only the node is known.
        return if first == b"xds" && second == Some(b"node") {
            gateway.find(path, out)
        } else {
            None
        };
    };
    let upstream =
        first == b"upstream" || first == b"xds" && second == Some(b"upstream_host_metadata");
    if upstream && !stream.answered() {
        return Some(Status::NotFound);
    }
    let tree = stream
        .properties
        .as_deref()
        .and_then(|tree| tree.find(path, out));
    tree.or_else(|| gateway.find(path, out))
}

fn text(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(bytes);
    Some(())
}

fn number(value: i64, out: &mut Vec<u8>) -> Option<()> {
    text(&value.to_le_bytes(), out)
}

fn headers(map: Option<&HeaderMap>, name: Option<&[u8]>, out: &mut Vec<u8>) -> Option<()> {
    match name {
        None => {
            map?.write_pairs(out);
            Some(())
        }
        Some(name) => text(&map?.get_all(name)?, out),
    }
}

fn request(state: &State, stream: &Stream, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let headers = state.map(map::REQUEST_HEADERS);
    let header = |name: &[u8]| headers.and_then(|headers| headers.get(name));
    let path_and_query = || {
        let path = header(b":path")?;
        Some(match path.iter().position(|byte| *byte == b'?') {
            Some(at) => path.split_at(at),
            None => (path, b"".as_slice()),
        })
    };
    match name {
        b"path" => text(header(b":path")?, out),
        b"url_path" => text(path_and_query()?.0, out),
        b"query" => text(path_and_query()?.1.get(1..).unwrap_or_default(), out),
        b"host" => text(header(b":authority")?, out),
        b"scheme" => text(header(b":scheme")?, out),
        b"method" => text(header(b":method")?, out),
        b"referer" => text(header(b"referer")?, out),
        b"useragent" => text(header(b"user-agent")?, out),
        b"id" => text(header(b"x-request-id")?, out),
        b"time" => number(stream.time_ns, out),
        b"protocol" => text(stream.protocol.as_bytes(), out),
        b"size" => {
            let declared = header(b"content-length")
                .and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
            number(declared.unwrap_or(stream.received as i64), out)
        }
        b"total_size" => number(
            (stream.received as usize + headers.map_or(0, HeaderMap::byte_size)) as i64,
            out,
        ),
        b"duration" if stream.logging => number(stream.duration_ns, out),
        _ => None,
    }
}

fn response(state: &State, stream: &Stream, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let headers = state.map(map::RESPONSE_HEADERS);
    match name {
        b"code" => number(i64::from(stream.code?), out),
        b"code_details" => {
            let details = stream.details.as_deref()?;
            text(details.as_bytes(), out)
        }
        b"size" => number(stream.sent as i64, out),
        b"total_size" => number(
            (stream.sent as usize + headers.map_or(0, HeaderMap::byte_size)) as i64,
            out,
        ),
        b"flags" => number(0, out),
        b"grpc_status" => {
            let trailers = state.map(map::RESPONSE_TRAILERS);
            let status = trailers
                .into_iter()
                .chain(headers)
                .find_map(|map| map.get(b"grpc-status"))?;
            number(std::str::from_utf8(status).ok()?.parse().ok()?, out)
        }
        _ => None,
    }
}

fn address(address: &str, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if address.is_empty() {
        return None;
    }
    match name {
        b"address" => text(address.as_bytes(), out),
        b"port" => number(address.rsplit_once(':')?.1.parse::<u16>().ok()?.into(), out),
        _ => None,
    }
}

fn filter_state(stream: &Stream, key: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (_, value) = stream.filter_state.iter().find(|(name, _)| name == key)?;
    text(value, out)
}

impl Stream {
    /// Whether there is a response, the upstream's or the gateway's own.
    fn answered(&self) -> bool {
        self.sides[RESPONSE].has_headers && !self.sides[REQUEST].headers_open
    }
}
