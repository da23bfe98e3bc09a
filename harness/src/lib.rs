//! The native side of Portcullis: a proxy-wasm host that behaves as Envoy does, and what the
//! `portcullis` command is made of. The readers for captured traffic have a room of their own.

pub mod bench;
pub mod cli;
pub mod demo;
pub mod host;
pub mod report;

pub use portcullis_capture as capture;
