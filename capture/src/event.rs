//! A record as the engine takes it: headers as a gateway hands them to its filters, and what is known beside them.

use std::net::IpAddr;

use portcullis::inspect::Facts;

use crate::Record;

/// What a gateway hands to its filters for a record: pseudo-headers first.
pub fn header_pairs(record: &Record) -> Vec<(&[u8], &[u8])> {
    let mut pairs = Vec::with_capacity(record.headers().len() + 4);
    if let Some(authority) = record.authority() {
        pairs.push((&b":authority"[..], authority));
    }
    pairs.push((b":path", record.target()));
    pairs.push((b":method", record.method()));
    if let Some(scheme) = record.scheme() {
        pairs.push((b":scheme", scheme));
    }
    pairs.extend(record.headers());
    pairs
}

/// What is known of a record beside its headers.
#[derive(Clone, Copy, Debug)]
pub struct RecordFacts<'a>(pub &'a Record);

impl Facts for RecordFacts<'_> {
    fn source_address(&self) -> Option<IpAddr> {
        self.0.source_ip()
    }

    fn status(&self) -> Option<u16> {
        self.0.status
    }
}

/// When it happened, as the engine counts time; 0 if the capture does not say.
pub fn time_unix_ns(record: &Record) -> i64 {
    record
        .time_unix_ns
        .and_then(|time| i64::try_from(time).ok())
        .unwrap_or(0)
}
