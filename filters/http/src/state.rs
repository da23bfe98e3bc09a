//! Where the state of correlations and incidents is: shared by all workers, or in this VM alone.
//!
//! Shared data are a map of bytes with compare-and-swap, one for each `vm_id` of the process; they know no deletion, so
//! there is one key for each slot and never one for a client. They outlive a configuration and the code as long as one VM of
//! that `vm_id` is left. A host that does not have them, or a policy that does not want them, leaves each worker to count for
//! itself.

use portcullis::correlate::{Local, Memory};
use portcullis_abi::{Host, Level};

#[cfg(feature = "shared-state")]
use portcullis_abi::Status;

/// What a VM keeps.
#[derive(Default)]
pub struct State {
    local: Local,
    #[cfg(feature = "shared-state")]
    written: Vec<u8>,
    /// The host has said that it shares nothing.
    is_alone: bool,
}

/// The state, during one callback.
pub struct HostMemory<'s> {
    pub host: &'s Host,
    pub state: &'s mut State,
    /// Whether policy wants it shared.
    pub is_shared: bool,
}

/// The layout of what is kept under a key; another version of the filter in the same process has keys of its own.
#[cfg(feature = "shared-state")]
const LAYOUT: u32 = 1;

/// Times that a slot is read anew since another worker came first. Each time somebody has got on, so only a gateway of
/// hundreds of workers under one attack would run out of them.
#[cfg(feature = "shared-state")]
const ATTEMPTS: u32 = 16;

impl Memory for HostMemory<'_> {
    fn update(&mut self, slot: u32, change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> bool {
        #[cfg(feature = "shared-state")]
        if self.is_shared && !self.state.is_alone {
            match self.shared(slot, change) {
                Ok(is_made) => return is_made,
                Err(status) => self.leave_alone(&format!("status {}", status.0)),
            }
        }
        #[cfg(not(feature = "shared-state"))]
        if self.is_shared && !self.state.is_alone {
            self.leave_alone("the filter was built without `shared-state`");
        }
        self.state.local.update(slot, change)
    }
}

impl HostMemory<'_> {
    /// Changes a slot that all workers see. Returns whether it was done, or what the host said instead.
    #[cfg(feature = "shared-state")]
    fn shared(
        &mut self,
        slot: u32,
        change: &mut dyn FnMut(&[u8], &mut Vec<u8>),
    ) -> Result<bool, Status> {
        /// No value has this number. Where there is no value yet the host asks for none, and where another worker has
        /// just put one this says that it was not this one that was meant.
        const NOT_THERE: u32 = u32::MAX;
        let key = format!("portcullis.{LAYOUT}.{slot}");
        let written = &mut self.state.written;
        for _ in 0..ATTEMPTS {
            let (bytes, cas) = match self.host.shared_data(&key) {
                Ok(found) => found,
                Err(Status::NOT_FOUND) => (&[][..], NOT_THERE),
                Err(status) => return Err(status),
            };
            written.clear();
            change(bytes, written);
            if written.is_empty() {
                return Ok(true);
            }
            match self.host.set_shared_data(&key, written, cas) {
                Ok(()) => return Ok(true),
                Err(Status::CAS_MISMATCH) => {}
                Err(status) => return Err(status),
            }
        }
        Ok(false)
    }

    #[cold]
    fn leave_alone(&mut self, reason: &str) {
        self.state.is_alone = true;
        let line = format!(
            "portcullis: no data are shared between workers ({reason}); each counts for itself"
        );
        self.host.log(Level::Warn, line.as_bytes());
    }
}
