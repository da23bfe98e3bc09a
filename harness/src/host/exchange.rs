//! One request and its response as the caller describes them, and what became of them.

use std::sync::Arc;

use super::property::Properties;
use super::status::LogLevel;

/// A request, and the answer the upstream would give, borrowed from the caller.
///
/// Header names and values may be anything that is bytes (`Vec<u8>`, `&[u8]`, `&str`). Pseudo headers
/// (`:method`, `:path`, `:authority`, `:scheme`) are part of the list. Nothing is added to it: headers that
/// Envoy's connection manager puts in (`x-request-id`, `x-forwarded-proto`) are the caller's to add.
#[derive(Debug)]
pub struct Exchange<'a, B = Vec<u8>> {
    /// The request's header lines in order.
    pub request_headers: &'a [(B, B)],
    /// The request's body; empty for none.
    pub request_body: &'a [u8],
    /// The request's trailers; empty for none.
    pub request_trailers: &'a [(B, B)],
    /// What the upstream answers. Without it the response callbacks do not run.
    pub response: Option<Response<'a, B>>,
    /// `address:port` of the client, for `source.address` and `source.port`.
    pub source_address: Option<&'a str>,
    /// `address:port` the client connected to.
    pub destination_address: Option<&'a str>,
    /// `HTTP/1.1` or another version, for `request.protocol`. From HTTP/1 the end of a body reaches the plugin
    /// as an empty piece of its own, as in Envoy.
    pub protocol: &'a str,
    /// The connection's number.
    pub connection_id: u64,
    /// When the request came in, in nanoseconds since 1970. This is the only clock a plugin sees.
    pub time_unix_ns: i64,
    /// How long the whole exchange took, known to the plugin in `proxy_on_log` only.
    pub duration_ns: i64,
    /// What the route, the node and the connection are, beyond what the host derives.
    pub properties: Option<&'a Arc<Properties>>,
    /// Response-code details of a request that Envoy itself refused before any filter (`http1.codec_error`):
    /// only `proxy_on_log` sees it.
    pub refused_by_envoy: Option<&'a str>,
    /// Bodies arrive in pieces of this many bytes; zero for one piece.
    pub chunk_bytes: usize,
}

impl<B> Default for Exchange<'_, B> {
    fn default() -> Self {
        Exchange {
            request_headers: &[],
            request_body: &[],
            request_trailers: &[],
            response: None,
            source_address: None,
            destination_address: None,
            protocol: "HTTP/1.1",
            connection_id: 1,
            time_unix_ns: 0,
            duration_ns: 0,
            properties: None,
            refused_by_envoy: None,
            chunk_bytes: 0,
        }
    }
}

/// An upstream's answer.
#[derive(Debug)]
pub struct Response<'a, B = Vec<u8>> {
    /// The header lines, `:status` among them.
    pub headers: &'a [(B, B)],
    /// The body; empty for none.
    pub body: &'a [u8],
    /// The trailers; empty for none.
    pub trailers: &'a [(B, B)],
}

/// What became of an exchange.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What the client got instead of the upstream's answer: the plugin blocked, or the plugin is dead.
    pub local_response: Option<LocalResponse>,
    /// Log lines, in order.
    pub logs: Vec<Log>,
    /// What `proxy_set_property` stored, by the name that `%FILTER_STATE(…:PLAIN)%` takes (`wasm.` in front).
    pub filter_state: Vec<(String, Vec<u8>)>,
    /// HTTP calls that the plugin made.
    pub callouts: Vec<Callout>,
    /// Why the virtual machine died in this exchange.
    pub trapped: Option<String>,
    /// Log lines and callouts beyond [`MAX_EFFECT_BYTES`](super::MAX_EFFECT_BYTES) that were not kept.
    pub dropped: u64,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The request went upstream, and the answer, if one was given, went back.
    #[default]
    Forwarded,
    /// The plugin was dead and its policy let the request pass unseen.
    Bypassed,
    /// The client got [`Outcome::local_response`].
    LocalResponse,
    /// The plugin paused the exchange and nothing would have resumed it.
    Stalled(Phase),
    /// The stream was reset after the response had begun, or by `proxy_close_stream`.
    Reset,
}

/// Where in an exchange something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// `proxy_on_request_headers`
    RequestHeaders,
    /// `proxy_on_request_body`
    RequestBody,
    /// `proxy_on_request_trailers`
    RequestTrailers,
    /// `proxy_on_response_headers`
    ResponseHeaders,
    /// `proxy_on_response_body`
    ResponseBody,
    /// `proxy_on_response_trailers`
    ResponseTrailers,
}

/// A response made by the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalResponse {
    /// The status as sent: 200 for a gRPC request.
    pub status: u32,
    /// Header lines without `:status`.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body; empty for a gRPC request.
    pub body: Vec<u8>,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
    /// The `grpc-status` sent, if the request was gRPC.
    pub grpc_status: Option<u32>,
}

/// A line that a plugin logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How loud.
    pub level: LogLevel,
    /// The text, which may be any bytes.
    pub message: Vec<u8>,
}

/// An HTTP call made by a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// What the plugin knows it by.
    pub token: u32,
    /// The cluster called.
    pub cluster: String,
    /// Header lines, pseudo headers among them.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The timeout asked for; zero for none.
    pub timeout_ms: u32,
}

/// The answer to a [`Callout`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CalloutReply {
    /// Header lines, `:status` among them. Without any, the call counts as failed.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a plugin did outside of any exchange: while it was configured, in a tick, on a queue notice.
#[derive(Debug, Default)]
pub struct Effects {
    /// Log lines, in order.
    pub logs: Vec<Log>,
    /// HTTP calls, in order.
    pub callouts: Vec<Callout>,
    /// How many of both did not fit.
    pub dropped: u64,
    pub(super) bytes: usize,
}
