//! Requests that rules about the response left open.
//!
//! A stream's number is put in when its request has come, and taken out when it is over, which happens once to each:
//! nothing stays. The head needs no keeping, since the host gives it out again at the end; a body that a rule was left
//! open for does.

use std::collections::VecDeque;

use portcullis::limits::{AWAITING_BODY_BYTES, AWAITING_REQUESTS};

/// Streams, and of those whose bodies matter the bodies.
#[derive(Default)]
pub struct Pending {
    /// By number, which a stream that comes later nearly always has higher.
    streams: VecDeque<(u32, Vec<u8>)>,
    body_bytes: usize,
}

impl Pending {
    /// Puts a stream in. `false` if another one had to make room: the one with the lowest number is the oldest.
    pub fn add(&mut self, stream: u32) -> bool {
        if let Err(place) = self.find(stream) {
            self.streams.insert(place, (stream, Vec::new()));
        }
        let is_full = self.streams.len() > AWAITING_REQUESTS;
        if is_full && let Some((_, body)) = self.streams.pop_front() {
            self.body_bytes -= body.len();
        }
        !is_full
    }

    /// Puts a stream in with its body. `false` if that or another one is not asked about for want of room.
    pub fn add_body(&mut self, stream: u32, body: &[u8]) -> bool {
        let has_room = self.add(stream);
        if self.body_bytes + body.len() > AWAITING_BODY_BYTES {
            return false;
        }
        let place = self.find(stream).ok();
        if let Some((_, kept)) = place.and_then(|place| self.streams.get_mut(place)) {
            self.body_bytes -= kept.len();
            *kept = body.to_vec();
            self.body_bytes += body.len();
        }
        has_room
    }

    /// Where a stream is, or where it would be.
    fn find(&self, stream: u32) -> Result<usize, usize> {
        self.streams
            .binary_search_by_key(&stream, |(known, _)| *known)
    }

    /// Takes a stream out, with its body or an empty one.
    pub fn take(&mut self, stream: u32) -> Option<Vec<u8>> {
        let (_, body) = self.streams.remove(self.find(stream).ok()?)?;
        self.body_bytes -= body.len();
        Some(body)
    }
}
