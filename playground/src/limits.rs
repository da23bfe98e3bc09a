//! Every cap of the page, with its unit and what happens past it. The engine's and the compiler's own caps hold as well.

/// Bytes of a request that is typed or pasted; a longer one is refused, and the page says so.
pub const REQUEST_BYTES: usize = 1 << 20;

/// Bytes of a capture, as it is pasted or dropped; a longer one is refused. `portcullis replay` has no such limit.
pub const CAPTURE_BYTES: usize = 64 << 20;

/// Records of a capture that are kept; reading stops there, and the page says so.
pub const RECORDS: usize = 100_000;

/// Bytes that the kept records take, inflated; likewise.
pub const RECORD_BYTES: usize = 128 << 20;

/// Records that cannot be read and are told one by one; the others are only counted.
pub const MALFORMED: usize = 50;

/// Bytes of one text that are shown; how many more there are is said.
pub const TEXT_BYTES: usize = 4096;

/// Texts that are shown of one request; likewise.
pub const TEXTS: usize = 400;

/// Candidates that are shown of one request; likewise.
pub const CANDIDATES: usize = 200;

/// Bytes of a request's target in a capture's table; the rest is cut off, and an ellipsis says so.
pub const ROW_TARGET_BYTES: usize = 300;
