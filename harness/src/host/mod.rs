//! A proxy-wasm host that behaves as Envoy 1.40 does, on wasmtime.
//!
//! In go a `.wasm` file and requests with their responses; out come what Envoy's client, access log and
//! statistics would show: a local response, log lines, filter state, metrics. The one idea: nothing is mocked.
//! The plugin is the very file that Envoy loads, its callbacks run in Envoy's order, and what it may see in
//! each of them is what Envoy shows there. Only two things differ, for the sake of replays: the clock is the
//! caller's, and a callback that does not end is stopped.
//!
//! ```text
//!  Module ──► Gateway ──► Worker ──► Vm ──► callbacks of the plugin
//!  compiled   one per     takes      one          │ host functions
//!  once       process     exchanges  instance     ▼
//!                │                         State: maps, bodies, properties, effects
//!                └── Process: shared data, queues, metrics
//! ```
//!
//! ```no_run
//! use portcullis_harness::host::{Exchange, Gateway, GatewayOptions, Module};
//!
//! let module = Module::compile(&std::fs::read("portcullis.wasm")?)?;
//! let mut gateway = Gateway::start(&module, GatewayOptions::default())?;
//! let headers = [(":method", "GET"), (":path", "/?q=<script>"), (":authority", "example.com")];
//! let outcome = gateway.worker(0).exchange(&Exchange { request_headers: &headers, ..Exchange::default() });
//! println!("{:?}", outcome.local_response);
//! # anyhow::Ok(())
//! ```
//!
//! Not offered: TCP filters, gRPC calls, foreign functions, dynamic metadata, and more than one filter in a
//! chain.

mod calls;
mod exchange;
mod gateway;
mod headers;
mod lookup;
mod module;
mod pairs;
mod property;
mod shared;
mod status;
mod vm;
mod wasi;
mod worker;

pub use exchange::{
    Callout, CalloutReply, Effects, Ending, Exchange, LocalResponse, Log, Outcome, Phase, Response,
};
pub use gateway::{FailurePolicy, Gateway, GatewayOptions, StartError, Upstream};
pub use headers::HeaderMap;
pub use module::{AbiVersion, Module};
pub use property::{Properties, Value};
pub use shared::{MetricKind, MetricSnapshot, Process};
pub use status::LogLevel;
pub use vm::MAX_EFFECT_BYTES;
pub use worker::{Direction, Passed, Reloads, Worker};
