//! Where state is kept: a fixed number of slots, each a run of bytes.
//!
//! Which slot something is kept in follows from a hash of what it is about, never from a list, so that state takes as
//! much room in the end as it takes keys at the beginning. That is what the shared data of a proxy-wasm host allows:
//! it has no deletion and no expiry, so a key for each client would be a leak.

/// Slots of bytes that may be shared with others.
pub trait Memory {
    /// Shows the bytes of a slot, none at first, to `change`, which writes what is to stand in their place; nothing written
    /// leaves the slot as it is. Where the memory is shared, `change` is called again if somebody else came first, with
    /// what stands there then. Returns whether the change was made.
    fn update(&mut self, slot: u32, change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> bool;
}

/// Memory of one worker alone.
#[derive(Debug, Default)]
pub struct Local {
    slots: Vec<Vec<u8>>,
    written: Vec<u8>,
}

impl Memory for Local {
    fn update(&mut self, slot: u32, change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> bool {
        let slot = slot as usize;
        if slot >= super::SLOTS as usize {
            return false;
        }
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, Vec::new);
        }
        let Some(kept) = self.slots.get_mut(slot) else {
            return false;
        };
        self.written.clear();
        change(kept, &mut self.written);
        if !self.written.is_empty() {
            kept.clear();
            kept.extend_from_slice(&self.written);
        }
        true
    }
}

impl Local {
    /// Bytes of state, without what the allocator rounds up to.
    pub fn bytes(&self) -> usize {
        self.slots.iter().map(Vec::len).sum()
    }
}

impl<M: Memory + ?Sized> Memory for &mut M {
    fn update(&mut self, slot: u32, change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> bool {
        (**self).update(slot, change)
    }
}
