//! The host functions of ABI 0.2.1 (and what 0.1.0 had besides): what a plugin calls.
//!
//! Goes in: numbers and pointers into the plugin's memory, none of which is to be trusted. Comes out: a
//! [`Status`]. A bad pointer is `InvalidMemoryAccess`, never a trap; only a trap inside the plugin's own
//! allocator is one. Each function does what Envoy's does, and says so where that is odd.

use wasmtime::{Caller, Linker, Result};

use super::exchange::Callout;
use super::headers::HeaderMap;
use super::shared::MetricKind;
use super::status::{LogLevel, Status, buffer, map};
use super::vm::{PendingReply, REQUEST, RESPONSE, State};
use super::{lookup, pairs};

/// Metric ids carry their kind in the low two bits, as Envoy's do.
const METRIC_ID_STEP: u32 = 4;
/// Distinct metrics of one virtual machine: past it, defining one more fails.
const MAX_METRICS: usize = 65_536;
/// HTTP calls of one virtual machine that wait for an answer: Envoy's default circuit breaker.
const MAX_PENDING_CALLOUTS: usize = 1_024;

type Host<'a> = Caller<'a, State>;

/// The plugin's memory and the host's state at once; `None` while the module is still being instantiated.
fn split<'a>(host: &'a mut Host<'_>) -> Option<(&'a mut [u8], &'a mut State)> {
    let memory = host.data().memory?;
    Some(memory.data_and_store_mut(host))
}

/// Runs `body` with the plugin's memory and the state, or answers that memory cannot be reached.
fn with(host: &mut Host<'_>, body: impl FnOnce(&mut [u8], &mut State) -> Option<Status>) -> u32 {
    let status = split(host).and_then(|(memory, state)| body(memory, state));
    status.unwrap_or(Status::InvalidMemoryAccess) as u32
}

pub(super) fn slice(memory: &[u8], at: u32, length: u32) -> Option<&[u8]> {
    let at = at as usize;
    memory.get(at..at.checked_add(length as usize)?)
}

pub(super) fn put(memory: &mut [u8], at: u32, bytes: &[u8]) -> Option<()> {
    let at = at as usize;
    memory
        .get_mut(at..at.checked_add(bytes.len())?)?
        .copy_from_slice(bytes);
    Some(())
}

pub(super) fn put_u32(memory: &mut [u8], at: u32, number: u32) -> Option<()> {
    put(memory, at, &number.to_le_bytes())
}

/// Hands bytes to the plugin: allocates in its memory, copies, and writes pointer and size where it asked.
///
/// `fill` writes the bytes to a buffer of the host's, or says why there are none. Nothing to hand over is a
/// null pointer, without a call of the allocator.
fn give(
    host: &mut Host<'_>,
    pointer_at: u32,
    size_at: u32,
    fill: impl FnOnce(&mut [u8], &mut State, &mut Vec<u8>) -> Option<Status>,
) -> Result<u32> {
    let Some((memory, state)) = split(host) else {
        return Ok(Status::InvalidMemoryAccess as u32);
    };
    let mut bytes = std::mem::take(&mut state.scratch);
    bytes.clear();
    let status = fill(memory, state, &mut bytes);
    let answer = match status {
        Some(Status::Ok) => deliver(host, pointer_at, size_at, &bytes)?,
        Some(status) => status,
        None => Status::InvalidMemoryAccess,
    };
    host.data_mut().scratch = bytes;
    Ok(answer as u32)
}

fn deliver(host: &mut Host<'_>, pointer_at: u32, size_at: u32, bytes: &[u8]) -> Result<Status> {
    let mut pointer = 0;
    // A map of more than 4 GiB cannot be addressed by the plugin.
    let Ok(size) = u32::try_from(bytes.len()) else {
        return Ok(Status::InvalidMemoryAccess);
    };
    if size != 0 {
        // Taken out for the call, so that an allocator that asks for bytes itself cannot recurse for ever.
        let Some(allocate) = host.data_mut().allocate.take() else {
            return Ok(Status::InvalidMemoryAccess);
        };
        pointer = allocate.call(&mut *host, size)?;
        host.data_mut().allocate = Some(allocate);
        if pointer == 0 {
            return Ok(Status::InvalidMemoryAccess);
        }
    }
    let Some((memory, _)) = split(host) else {
        return Ok(Status::InvalidMemoryAccess);
    };
    let written = put(memory, pointer, bytes)
        .and_then(|()| put_u32(memory, pointer_at, pointer))
        .and_then(|()| put_u32(memory, size_at, size));
    Ok(if written.is_some() {
        Status::Ok
    } else {
        Status::InvalidMemoryAccess
    })
}

macro_rules! host_functions {
    ($(fn $name:ident($host:ident $(, $argument:ident: $type:ty)*) -> $result:ty $body:block)*) => {
        /// Every function of the `env` module.
        pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];

        /// Binds the functions.
        pub(super) fn link(linker: &mut Linker<State>) -> Result<()> {
            $(linker.func_wrap("env", stringify!($name), |mut $host: Host<'_> $(, $argument: $type)*| -> $result {
                let $host = &mut $host;
                $body
            })?;)*
            Ok(())
        }
    };
}

host_functions! {
    fn proxy_log(host, level: u32, message: u32, message_size: u32) -> u32 {
        let Some(level) = LogLevel::from_abi(level) else { return Status::BadArgument as u32 };
        with(host, |memory, state| {
            let message = slice(memory, message, message_size)?;
            state.log(level, message);
            Some(Status::Ok)
        })
    }

    fn proxy_get_log_level(host, level_at: u32) -> u32 {
        with(host, |memory, state| {
            put_u32(memory, level_at, state.plan.options.log_level as u32)?;
            Some(Status::Ok)
        })
    }

    fn proxy_get_current_time_nanoseconds(host, time_at: u32) -> u32 {
        with(host, |memory, state| {
            put(memory, time_at, &state.now_ns.to_le_bytes())?;
            Some(Status::Ok)
        })
    }

    fn proxy_set_tick_period_milliseconds(host, period_ms: u32) -> u32 {
        let state = host.data_mut();
        state.tick_period_ns = i64::from(period_ms) * 1_000_000;
        state.next_tick_ns = state.now_ns.saturating_add(state.tick_period_ns);
        Status::Ok as u32
    }

    fn proxy_set_effective_context(host, context: u32) -> u32 {
        let state = host.data_mut();
        if !state.has_context(context) {
            return Status::BadArgument as u32;
        }
        state.effective = context;
        Status::Ok as u32
    }

    fn proxy_done(host) -> u32 {
        host.data_mut().done() as u32
    }

    // Configuration and buffers.

    fn proxy_get_configuration(host, pointer_at: u32, size_at: u32) -> Result<u32> {
        give(host, pointer_at, size_at, |_, state, out| {
            match &state.configuration {
                Some(configuration) => out.extend_from_slice(configuration),
                None => out.extend_from_slice(&state.plan.options.vm_config),
            }
            Some(Status::Ok)
        })
    }

    fn proxy_get_buffer_bytes(host, kind: u32, start: u32, length: u32, pointer_at: u32, size_at: u32) -> Result<u32> {
        let (kind_ok, bytes) = (kind <= buffer::CALL_DATA, host.data().buffer(kind).map(<[u8]>::len));
        let available = match bytes {
            _ if !kind_ok => return Ok(Status::BadArgument as u32),
            None => return Ok(Status::NotFound as u32),
            Some(available) => available,
        };
        let start = start as usize;
        let length = (length as usize).min(available.saturating_sub(start));
        if length == 0 {
            // Envoy leaves pointer and size as they were.
            return Ok(Status::Ok as u32);
        }
        give(host, pointer_at, size_at, |_, state, out| {
            out.extend_from_slice(state.buffer(kind)?.get(start..start + length)?);
            Some(Status::Ok)
        })
    }

    fn proxy_get_buffer_status(host, kind: u32, length_at: u32, flags_at: u32) -> u32 {
        if kind > buffer::CALL_DATA {
            return Status::BadArgument as u32;
        }
        with(host, |memory, state| {
            let Some(bytes) = state.buffer(kind) else { return Some(Status::NotFound) };
            put_u32(memory, length_at, bytes.len() as u32)?;
            put_u32(memory, flags_at, 0)?;
            Some(Status::Ok)
        })
    }

    fn proxy_set_buffer_bytes(host, kind: u32, start: u32, length: u32, data: u32, data_size: u32) -> u32 {
        if kind > buffer::CALL_DATA {
            return Status::BadArgument as u32;
        }
        with(host, |memory, state| {
            if state.buffer(kind).is_none() {
                return Some(Status::NotFound);
            }
            let data = slice(memory, data, data_size)?;
            Some(state.set_buffer(kind, start as usize, length as usize, data))
        })
    }

    // Header maps.

    fn proxy_get_header_map_pairs(host, kind: u32, pointer_at: u32, size_at: u32) -> Result<u32> {
        if kind > map::LARGEST {
            return Ok(Status::BadArgument as u32);
        }
        // A map that is not there in this phase is no error but an empty one.
        give(host, pointer_at, size_at, |_, state, out| {
            if let Some(map) = state.map(kind).filter(|map| !map.is_empty()) {
                map.write_pairs(out);
            }
            Some(Status::Ok)
        })
    }

    fn proxy_get_header_map_value(host, kind: u32, name: u32, name_size: u32, pointer_at: u32, size_at: u32) -> Result<u32> {
        if kind > map::LARGEST {
            return Ok(Status::BadArgument as u32);
        }
        give(host, pointer_at, size_at, |memory, state, out| {
            let name = slice(memory, name, name_size)?;
            let Some(map) = state.map(kind) else {
                return Some(if state.logging_context() { state.absent() } else { Status::BadArgument });
            };
            let Some(value) = map.get(name) else { return Some(state.absent()) };
            out.extend_from_slice(value);
            Some(Status::Ok)
        })
    }

    fn proxy_get_header_map_size(host, kind: u32, size_at: u32) -> u32 {
        with_map(host, kind, |memory, map| {
            put_u32(memory, size_at, map.byte_size() as u32)
        })
    }

    fn proxy_add_header_map_value(host, kind: u32, name: u32, name_size: u32, value: u32, value_size: u32) -> u32 {
        with_map(host, kind, |memory, map| {
            let (name, value) = (slice(memory, name, name_size)?, slice(memory, value, value_size)?);
            map.add(name, value);
            Some(())
        })
    }

    fn proxy_replace_header_map_value(host, kind: u32, name: u32, name_size: u32, value: u32, value_size: u32) -> u32 {
        with_map(host, kind, |memory, map| {
            let (name, value) = (slice(memory, name, name_size)?, slice(memory, value, value_size)?);
            map.set(name, value);
            Some(())
        })
    }

    fn proxy_remove_header_map_value(host, kind: u32, name: u32, name_size: u32) -> u32 {
        with_map(host, kind, |memory, map| {
            map.remove(slice(memory, name, name_size)?);
            Some(())
        })
    }

    fn proxy_set_header_map_pairs(host, kind: u32, data: u32, data_size: u32) -> u32 {
        with_map(host, kind, |memory, map| {
            map.load(&pairs::read(slice(memory, data, data_size)?), kind == map::REQUEST_HEADERS);
            Some(())
        })
    }

    // Properties.

    fn proxy_get_property(host, path: u32, path_size: u32, pointer_at: u32, size_at: u32) -> Result<u32> {
        give(host, pointer_at, size_at, |memory, state, out| {
            Some(lookup::property(state, slice(memory, path, path_size)?, out))
        })
    }

    fn proxy_set_property(host, path: u32, path_size: u32, value: u32, value_size: u32) -> u32 {
        with(host, |memory, state| {
            let (path, value) = (slice(memory, path, path_size)?, slice(memory, value, value_size)?);
            if !state.in_stream() {
                return Some(Status::NotFound);
            }
            state.stream.set_filter_state(path, value);
            Some(Status::Ok)
        })
    }

    // The stream.

    fn proxy_send_local_response(
        host, status: u32, details: u32, details_size: u32, body: u32, body_size: u32,
        headers: u32, headers_size: u32, grpc_status: u32
    ) -> u32 {
        with(host, |memory, state| {
            let details = slice(memory, details, details_size)?;
            let body = slice(memory, body, body_size)?;
            let headers = pairs::read(slice(memory, headers, headers_size)?);
            let reply = PendingReply::new(status, details, body, &headers, grpc_status);
            // Outside of a stream there is nobody to answer, which is no error; of two replies the first is sent.
            if state.in_stream() && !state.stream.logging && state.stream.reply.is_none() {
                state.stream.reply = Some(reply);
            }
            Some(Status::Ok)
        })
    }

    fn proxy_continue_stream(host, kind: u32) -> u32 {
        match kind {
            0 => resume(host.data_mut(), REQUEST),
            1 => resume(host.data_mut(), RESPONSE),
            2 => Status::Ok as u32,
            3 => Status::Unimplemented as u32,
            _ => Status::BadArgument as u32,
        }
    }

    fn proxy_continue_request(host) -> u32 {
        resume(host.data_mut(), REQUEST)
    }

    fn proxy_continue_response(host) -> u32 {
        resume(host.data_mut(), RESPONSE)
    }

    fn proxy_close_stream(host, kind: u32) -> u32 {
        match kind {
            0 | 1 => {
                let state = host.data_mut();
                if state.in_stream() {
                    state.stream.close = true;
                }
                Status::Ok as u32
            }
            2 | 3 => Status::Ok as u32,
            _ => Status::BadArgument as u32,
        }
    }

    fn proxy_clear_route_cache(_host) -> u32 {
        Status::Ok as u32
    }

    fn proxy_get_status(host, code_at: u32, pointer_at: u32, size_at: u32) -> Result<u32> {
        give(host, pointer_at, size_at, |memory, state, out| {
            put_u32(memory, code_at, state.call_status.0)?;
            out.extend_from_slice(state.call_status.1.as_bytes());
            Some(Status::Ok)
        })
    }

    // Shared data and queues.

    fn proxy_get_shared_data(host, key: u32, key_size: u32, pointer_at: u32, size_at: u32, cas_at: u32) -> Result<u32> {
        give(host, pointer_at, size_at, |memory, state, out| {
            let options = &state.plan.options;
            let Some((value, cas)) = options.process.shared_data(&options.vm_id, slice(memory, key, key_size)?) else {
                return Some(Status::NotFound);
            };
            put_u32(memory, cas_at, cas)?;
            out.extend_from_slice(&value);
            Some(Status::Ok)
        })
    }

    fn proxy_set_shared_data(host, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32) -> u32 {
        with(host, |memory, state| {
            let (key, value) = (slice(memory, key, key_size)?, slice(memory, value, value_size)?);
            let options = &state.plan.options;
            Some(options.process.set_shared_data(&options.vm_id, key, value, cas))
        })
    }

    fn proxy_register_shared_queue(host, name: u32, name_size: u32, token_at: u32) -> u32 {
        with(host, |memory, state| {
            let options = &state.plan.options;
            let name = slice(memory, name, name_size)?;
            let token = options.process.register_queue(&options.vm_id, name, state.root, &state.mailbox);
            put_u32(memory, token_at, token)?;
            Some(Status::Ok)
        })
    }

    fn proxy_resolve_shared_queue(host, vm_id: u32, vm_id_size: u32, name: u32, name_size: u32, token_at: u32) -> u32 {
        with(host, |memory, state| {
            let (vm_id, name) = (slice(memory, vm_id, vm_id_size)?, slice(memory, name, name_size)?);
            let options = &state.plan.options;
            let vm_id = if vm_id.is_empty() { options.vm_id.as_bytes() } else { vm_id };
            let Some(token) = options.process.resolve_queue(vm_id, name) else { return Some(Status::NotFound) };
            put_u32(memory, token_at, token)?;
            Some(Status::Ok)
        })
    }

    fn proxy_enqueue_shared_queue(host, token: u32, data: u32, data_size: u32) -> u32 {
        with(host, |memory, state| Some(state.plan.options.process.enqueue(token, slice(memory, data, data_size)?)))
    }

    fn proxy_dequeue_shared_queue(host, token: u32, pointer_at: u32, size_at: u32) -> Result<u32> {
        give(host, pointer_at, size_at, |_, state, out| {
            Some(match state.plan.options.process.dequeue(token) {
                Ok(item) => {
                    out.extend_from_slice(&item);
                    Status::Ok
                }
                Err(status) => status,
            })
        })
    }

    // Metrics.

    fn proxy_define_metric(host, kind: u32, name: u32, name_size: u32, id_at: u32) -> u32 {
        with(host, |memory, state| {
            let name = slice(memory, name, name_size)?;
            let kind = match kind {
                0 => MetricKind::Counter,
                1 => MetricKind::Gauge,
                2 => MetricKind::Histogram,
                _ => return Some(Status::BadArgument),
            };
            let name = String::from_utf8_lossy(name);
            let known = state.metrics.iter().position(|(known, metric)| *known == name && metric.kind == kind);
            let index = match known {
                Some(index) => index,
                None if state.metrics.len() >= MAX_METRICS => return Some(Status::InternalFailure),
                None => {
                    let metric = state.plan.options.process.define_metric(kind, &name);
                    state.metrics.push((name.into_owned(), metric));
                    state.metrics.len() - 1
                }
            };
            put_u32(memory, id_at, (index as u32 + 1) * METRIC_ID_STEP + kind as u32)?;
            Some(Status::Ok)
        })
    }

    fn proxy_increment_metric(host, id: u32, offset: i64) -> u32 {
        let Some(metric) = host.data().metric(id / METRIC_ID_STEP, id % METRIC_ID_STEP) else {
            return no_metric(id) as u32;
        };
        metric.increment(offset) as u32
    }

    fn proxy_record_metric(host, id: u32, value: u64) -> u32 {
        let Some(metric) = host.data().metric(id / METRIC_ID_STEP, id % METRIC_ID_STEP) else {
            return Status::NotFound as u32;
        };
        metric.record(value);
        Status::Ok as u32
    }

    fn proxy_get_metric(host, id: u32, value_at: u32) -> u32 {
        with(host, |memory, state| {
            let Some(metric) = state.metric(id / METRIC_ID_STEP, id % METRIC_ID_STEP) else {
                return Some(no_metric(id));
            };
            let Some(value) = metric.value() else { return Some(Status::BadArgument) };
            put(memory, value_at, &value.to_le_bytes())?;
            Some(Status::Ok)
        })
    }

    // Calls to elsewhere.

    fn proxy_http_call(
        host, cluster: u32, cluster_size: u32, headers: u32, headers_size: u32, body: u32, body_size: u32,
        trailers: u32, trailers_size: u32, timeout_ms: u32, token_at: u32
    ) -> u32 {
        with(host, |memory, state| {
            let cluster = String::from_utf8_lossy(slice(memory, cluster, cluster_size)?).into_owned();
            let headers = owned(&pairs::read(slice(memory, headers, headers_size)?));
            let body = slice(memory, body, body_size)?.to_vec();
            let trailers = owned(&pairs::read(slice(memory, trailers, trailers_size)?));
            // Written before the call starts, so that a bad pointer starts none.
            put_u32(memory, token_at, 0)?;
            let has = |name: &[u8]| headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
            let complete = has(b":path") && has(b":method") && (has(b":authority") || has(b"host"));
            let known = state.plan.options.clusters.as_ref().is_none_or(|known| known.contains(&cluster));
            if !complete || !known || i32::try_from(timeout_ms).is_err() {
                return Some(Status::BadArgument);
            }
            if state.pending_callouts.len() >= MAX_PENDING_CALLOUTS {
                return Some(Status::InternalFailure);
            }
            let token = state.call_out(Callout { token: 0, cluster, headers, body, trailers, timeout_ms });
            put_u32(memory, token_at, token)?;
            Some(Status::Ok)
        })
    }

    fn proxy_call_foreign_function(
        host, name: u32, name_size: u32, arguments: u32, arguments_size: u32, _results_at: u32, _size_at: u32
    ) -> u32 {
        with(host, |memory, _| {
            slice(memory, name, name_size)?;
            slice(memory, arguments, arguments_size)?;
            Some(Status::NotFound)
        })
    }

    // gRPC calls are not offered; no plugin of ours makes any.

    fn proxy_grpc_call(
        _host, _s: u32, _sn: u32, _n: u32, _nn: u32, _m: u32, _mn: u32, _i: u32, _in: u32, _r: u32, _rn: u32,
        _timeout: u32, _token: u32
    ) -> u32 {
        Status::Unimplemented as u32
    }

    fn proxy_grpc_stream(
        _host, _s: u32, _sn: u32, _n: u32, _nn: u32, _m: u32, _mn: u32, _i: u32, _in: u32, _token: u32
    ) -> u32 {
        Status::Unimplemented as u32
    }

    fn proxy_grpc_send(_host, _token: u32, _message: u32, _size: u32, _end: u32) -> u32 {
        Status::Unimplemented as u32
    }

    fn proxy_grpc_cancel(_host, _token: u32) -> u32 {
        Status::Unimplemented as u32
    }

    fn proxy_grpc_close(_host, _token: u32) -> u32 {
        Status::Unimplemented as u32
    }
}

/// Runs `body` with a map that may be changed now. Envoy lets none be changed once the stream has moved on.
fn with_map(
    host: &mut Host<'_>,
    kind: u32,
    body: impl FnOnce(&mut [u8], &mut HeaderMap) -> Option<()>,
) -> u32 {
    with(host, |memory, state| {
        let Some(map) = state.map_mut(kind) else {
            return Some(Status::BadArgument);
        };
        body(memory, map)?;
        Some(Status::Ok)
    })
}

fn resume(state: &mut State, side: usize) -> u32 {
    if state.in_stream() {
        state.stream.resume[side] = true;
        state.stream.close_request_maps();
    }
    Status::Ok as u32
}

/// An id of a kind that cannot be incremented or read is a bad argument, another unknown id is not found.
fn no_metric(id: u32) -> Status {
    if id % METRIC_ID_STEP <= MetricKind::Gauge as u32 {
        Status::NotFound
    } else {
        Status::BadArgument
    }
}

fn owned(pairs: &[(&[u8], &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
    pairs
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
        .collect()
}
