//! The native side of Portcullis: a proxy-wasm host that behaves as Envoy does, readers for
//! captured traffic, and what the `portcullis` command is made of.

pub mod bench;
pub mod capture;
pub mod cli;
pub mod demo;
pub mod host;
pub mod report;
