//! Memory that the host fills for us during one callback.
//!
//! The first [`BYTES`] asked for come from a fixed block; what does not fit is allocated, and freed
//! at the next reset. Either way memory is bounded by what the host returns during one callback.

use std::cell::UnsafeCell;

/// Bytes of the fixed block: a request's headers nearly always fit.
const BYTES: usize = 64 * 1024;
/// What the host may rely on for whatever it puts there.
const ALIGN: usize = 8;

#[repr(align(8))]
struct Block(UnsafeCell<[u8; BYTES]>);

struct State {
    used: usize,
    overflow: Vec<Box<[u64]>>,
}

struct Global(UnsafeCell<State>);

// SAFETY: a proxy-wasm VM has one thread (the module is built without atomics), and no function
// here calls the host while it holds a reference into either cell.
unsafe impl Sync for Block {}
unsafe impl Sync for Global {}

static BLOCK: Block = Block(UnsafeCell::new([0; BYTES]));
static STATE: Global = Global(UnsafeCell::new(State {
    used: 0,
    overflow: Vec::new(),
}));

/// Forgets all that was handed out.
#[inline]
pub fn reset() {
    // SAFETY: one thread, no reference outlives this function (see `Global`).
    let state = unsafe { &mut *STATE.0.get() };
    state.used = 0;
    if !state.overflow.is_empty() {
        state.overflow = Vec::new();
    }
}

/// Hands out `bytes` bytes until the next reset. Never null, except when memory is out.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
pub fn allocate(bytes: usize) -> *mut u8 {
    // SAFETY: one thread, no reference outlives this function (see `Global`).
    let state = unsafe { &mut *STATE.0.get() };
    let start = state.used;
    let end = start
        .checked_add(bytes.next_multiple_of(ALIGN))
        .filter(|end| *end <= BYTES);
    match end {
        Some(end) => {
            state.used = end;
            // SAFETY: `start <= end <= BYTES`, so the pointer stays within the block.
            unsafe { BLOCK.0.get().cast::<u8>().add(start) }
        }
        None => {
            let mut block = vec![0_u64; bytes.div_ceil(ALIGN).max(1)].into_boxed_slice();
            let pointer = block.as_mut_ptr().cast();
            state.overflow.push(block);
            pointer
        }
    }
}

/// What the host calls for memory to return data in.
#[cfg(target_arch = "wasm32")]
#[unsafe(export_name = "malloc")]
extern "C" fn malloc(bytes: usize) -> *mut u8 {
    allocate(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_out_never_overlaps() {
        reset();
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for bytes in [0, 1, 8, 9, 1000, BYTES, 3 * BYTES, 40_000, 40_000] {
            let start = allocate(bytes) as usize;
            assert!(start != 0 && start.is_multiple_of(ALIGN));
            for (other, len) in &taken {
                assert!(
                    start >= other + len || start + bytes <= *other,
                    "{bytes} bytes overlap"
                );
            }
            taken.push((start, bytes));
        }
        reset();
        assert_eq!(
            allocate(1) as usize,
            taken.first().map_or(0, |first| first.0)
        );
    }
}
