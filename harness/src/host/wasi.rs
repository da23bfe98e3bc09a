//! The few WASI preview 1 functions that Envoy offers, with its answers.
//!
//! Standard output is logged at level info and standard error at error. Clocks show the caller's time, random
//! bytes come from the gateway's seed, and there are no files, so that a replay gives the same result twice.

use wasmtime::{Caller, Linker, Result};

use super::calls::{put, put_u32, slice};
use super::status::LogLevel;
use super::vm::State;

const SUCCESS: u32 = 0;
const BAD_DESCRIPTOR: u32 = 8;
const FAULT: u32 = 21;
const NOT_SUPPORTED: u32 = 58;
const NO_SUCH_FUNCTION: u32 = 52;

/// Bytes of one write that are logged: a plugin may name one buffer many times over.
const MAX_WRITE_BYTES: usize = 1 << 20;

type Host<'a> = Caller<'a, State>;

pub(super) const NAMES: &[&str] = &[
    "fd_write",
    "fd_read",
    "fd_seek",
    "fd_close",
    "fd_fdstat_get",
    "fd_prestat_get",
    "fd_prestat_dir_name",
    "environ_get",
    "environ_sizes_get",
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "random_get",
    "sched_yield",
    "proc_exit",
];

fn with(host: &mut Host<'_>, body: impl FnOnce(&mut [u8], &mut State) -> Option<u32>) -> u32 {
    let Some(memory) = host.data().memory else {
        return FAULT;
    };
    let (memory, state) = memory.data_and_store_mut(host);
    body(memory, state).unwrap_or(FAULT)
}

pub(super) fn link(linker: &mut Linker<State>, module: &str) -> Result<()> {
    linker.func_wrap(
        module,
        "fd_write",
        |mut host: Host<'_>, fd: u32, pieces: u32, count: u32, written_at: u32| {
            let level = match fd {
                1 => LogLevel::Info,
                2 => LogLevel::Error,
                _ => return BAD_DESCRIPTOR,
            };
            with(&mut host, |memory, state| {
                let mut text = Vec::new();
                let mut written = 0u32;
                for at in 0..count {
                    let piece = slice(memory, pieces.checked_add(at.checked_mul(8)?)?, 8)?;
                    let (start, size) = piece.split_first_chunk::<4>()?;
                    let size = u32::from_le_bytes(*size.first_chunk()?);
                    let bytes = slice(memory, u32::from_le_bytes(*start), size)?;
                    written = written.checked_add(size)?;
                    if text.len() + bytes.len() <= MAX_WRITE_BYTES {
                        text.extend_from_slice(bytes);
                    }
                }
                if !text.is_empty() {
                    state.log(level, text.strip_suffix(b"\n").unwrap_or(&text));
                }
                put_u32(memory, written_at, written)?;
                Some(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(module, "fd_read", |_: u32, _: u32, _: u32, _: u32| {
        NO_SUCH_FUNCTION
    })?;
    linker.func_wrap(module, "fd_seek", |_: u32, _: i64, _: u32, _: u32| SUCCESS)?;
    linker.func_wrap(module, "fd_close", |_: u32| SUCCESS)?;
    linker.func_wrap(
        module,
        "fd_fdstat_get",
        |mut host: Host<'_>, fd: u32, stat_at: u32| {
            if !matches!(fd, 1 | 2) {
                return BAD_DESCRIPTOR;
            }
            with(&mut host, |memory, _| {
                let mut stat = [0u8; 24];
                stat[8] = 64; // the right to write, and no other
                put(memory, stat_at, &stat)?;
                Some(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(module, "fd_prestat_get", |_: u32, _: u32| BAD_DESCRIPTOR)?;
    linker.func_wrap(module, "fd_prestat_dir_name", |_: u32, _: u32, _: u32| {
        BAD_DESCRIPTOR
    })?;
    linker.func_wrap(
        module,
        "environ_get",
        |mut host: Host<'_>, table_at: u32, bytes_at: u32| {
            with(&mut host, |memory, state| {
                let (mut table_at, mut bytes_at) = (table_at, bytes_at);
                for (name, value) in &state.plan.options.environment {
                    put_u32(memory, table_at, bytes_at)?;
                    let entry = format!("{name}={value}\0");
                    put(memory, bytes_at, entry.as_bytes())?;
                    table_at = table_at.checked_add(4)?;
                    bytes_at = bytes_at.checked_add(u32::try_from(entry.len()).ok()?)?;
                }
                Some(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "environ_sizes_get",
        |mut host: Host<'_>, count_at: u32, bytes_at: u32| {
            with(&mut host, |memory, state| {
                let environment = &state.plan.options.environment;
                let bytes: usize = environment
                    .iter()
                    .map(|(name, value)| name.len() + value.len() + 2)
                    .sum();
                put_u32(memory, count_at, environment.len() as u32)?;
                put_u32(memory, bytes_at, bytes as u32)?;
                Some(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(module, "args_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(
        module,
        "args_sizes_get",
        |mut host: Host<'_>, count_at: u32, bytes_at: u32| {
            with(&mut host, |memory, _| {
                put_u32(memory, count_at, 0)?;
                put_u32(memory, bytes_at, 0)?;
                Some(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "clock_time_get",
        |mut host: Host<'_>, clock: u32, _precision: u64, time_at: u32| {
            // Envoy 1.40 answers for the realtime and the monotonic clock.
            if clock > 1 {
                return NOT_SUPPORTED;
            }
            with(&mut host, |memory, state| {
                put(memory, time_at, &state.now_ns.to_le_bytes())?;
                Some(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "random_get",
        |mut host: Host<'_>, bytes_at: u32, size: u32| {
            with(&mut host, |memory, state| {
                let start = bytes_at as usize;
                let bytes = memory.get_mut(start..start.checked_add(size as usize)?)?;
                for chunk in bytes.chunks_mut(8) {
                    let random = state.random().to_le_bytes();
                    chunk.copy_from_slice(random.get(..chunk.len())?);
                }
                Some(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(module, "sched_yield", || SUCCESS)?;
    // Envoy only notes the exit; what follows in the plugin is an `unreachable`, which traps.
    linker.func_wrap(module, "proc_exit", |_: u32| {})?;
    Ok(())
}
