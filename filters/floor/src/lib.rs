//! The floor: a filter that asks for a request's headers once and returns.
//!
//! No filter that looks at a request can cost less in this host, so what the real filter costs beyond
//! this is what detection costs. `make bench` measures both; nothing ships this.

use portcullis_abi::{Flow, HeaderMap, Host, Plugin};

#[derive(Default)]
struct Floor;

portcullis_abi::export!(Floor);

impl Plugin for Floor {
    fn configure(&mut self, _host: &Host, _bytes: usize) -> bool {
        true
    }

    #[inline]
    fn request_headers(&mut self, host: &Host, _stream: u32, _is_end: bool) -> Flow {
        // The host has already written the headers into our memory when this returns; only their number is looked
        // at, so that the call cannot be thought useless.
        match host.header_block(HeaderMap::Request) {
            Ok([]) => Flow::Stop,
            _ => Flow::Continue,
        }
    }
}
