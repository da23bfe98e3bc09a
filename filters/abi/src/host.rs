//! The host calls that we use. A status that is not OK is a value, never a panic: a request is
//! inspected with what there is.

use std::marker::PhantomData;

/// What the host answered instead of doing it, by its number in the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// There is nothing of this name.
    pub const NOT_FOUND: Status = Status(1);
    /// Somebody else has changed it.
    pub const CAS_MISMATCH: Status = Status(8);
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// Which map of headers.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum HeaderMap {
    /// Request headers.
    Request = 0,
}

/// A counter.
#[derive(Clone, Copy, Debug)]
pub struct Metric(u32);

/// The host, during one callback. What it returns lives in the arena until the callback ends.
#[derive(Debug)]
pub struct Host {
    /// Keeps a `Host` on the thread and in the callback that it was made for.
    only_here: PhantomData<*const ()>,
}

impl Host {
    pub(crate) fn new() -> Host {
        Host {
            only_here: PhantomData,
        }
    }

    /// A whole header map in its serialised form.
    #[inline]
    pub fn header_block(&self, map: HeaderMap) -> Result<&[u8], Status> {
        // SAFETY: the host writes a pointer and a length to the two places given.
        self.returned(|pointer, len| unsafe {
            raw::proxy_get_header_map_pairs(map as u32, pointer, len)
        })
    }

    /// The configuration that `configure` is about.
    pub fn plugin_configuration(&self, bytes: usize) -> Result<&[u8], Status> {
        const PLUGIN_CONFIGURATION: u32 = 7;
        // SAFETY: as in `header_block`.
        self.returned(|pointer, len| unsafe {
            raw::proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, bytes, pointer, len)
        })
    }

    /// What is there of the request's body, at most so many bytes.
    pub fn request_body(&self, bytes: usize) -> Result<&[u8], Status> {
        const HTTP_REQUEST_BODY: u32 = 0;
        // SAFETY: as in `header_block`.
        self.returned(|pointer, len| unsafe {
            raw::proxy_get_buffer_bytes(HTTP_REQUEST_BODY, 0, bytes, pointer, len)
        })
    }

    /// A property; the segments of its path are joined by NULs.
    pub fn property(&self, path: &str) -> Result<&[u8], Status> {
        // SAFETY: the path outlives the call; the rest as in `header_block`.
        self.returned(|pointer, len| unsafe {
            raw::proxy_get_property(path.as_ptr(), path.len(), pointer, len)
        })
    }

    /// Sets a property; as filter state it is visible to access logs.
    pub fn set_property(&self, path: &str, value: &[u8]) -> Result<(), Status> {
        // SAFETY: path and value outlive the call, which only reads them.
        done(unsafe {
            raw::proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len())
        })
    }

    /// What all VMs of this `vm_id` have put under a key, and the number of that version.
    pub fn shared_data(&self, key: &str) -> Result<(&[u8], u32), Status> {
        let mut cas = 0;
        // SAFETY: the key outlives the call, and the host writes four bytes to the last place; the rest as in
        // `header_block`.
        let bytes = self.returned(|pointer, len| unsafe {
            raw::proxy_get_shared_data(key.as_ptr(), key.len(), pointer, len, &mut cas)
        })?;
        Ok((bytes, cas))
    }

    /// Puts a value under a key, if what is there is still the version with this number; 0 for whatever is there.
    pub fn set_shared_data(&self, key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
        // SAFETY: key and value outlive the call, which only reads them.
        done(unsafe {
            raw::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
        })
    }

    /// Writes a line to the host's log.
    pub fn log(&self, level: Level, line: &[u8]) {
        // SAFETY: the line outlives the call, which only reads it.
        let _ = unsafe { raw::proxy_log(level as u32, line.as_ptr(), line.len()) };
    }

    /// Nanoseconds since 1970.
    pub fn time_unix_ns(&self) -> i64 {
        let mut time = 0_u64;
        // SAFETY: the host writes eight bytes to the place given.
        let status = unsafe { raw::proxy_get_current_time_nanoseconds(&mut time) };
        if status == 0 {
            i64::try_from(time).unwrap_or(i64::MAX)
        } else {
            0
        }
    }

    /// Answers the request. `details` appear in access logs as the response code's details.
    pub fn respond(
        &self,
        status: u16,
        details: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        grpc_status: i32,
    ) -> Result<(), Status> {
        let map = serialised(headers);
        // SAFETY: all that is passed outlives the call, which only reads it.
        done(unsafe {
            raw::proxy_send_local_response(
                u32::from(status),
                details.as_ptr(),
                details.len(),
                body.as_ptr(),
                body.len(),
                map.as_ptr(),
                map.len(),
                grpc_status,
            )
        })
    }

    /// Defines a counter, or finds the one of this name.
    pub fn counter(&self, name: &str) -> Result<Metric, Status> {
        let mut id = 0;
        // SAFETY: the name outlives the call; the host writes four bytes to the place given.
        done(unsafe { raw::proxy_define_metric(0, name.as_ptr(), name.len(), &mut id) })?;
        Ok(Metric(id))
    }

    /// Counts.
    pub fn increment(&self, counter: Metric, by: i64) {
        // SAFETY: passes numbers only.
        let _ = unsafe { raw::proxy_increment_metric(counter.0, by) };
    }

    /// Runs a host call that returns data.
    #[inline]
    fn returned(
        &self,
        call: impl FnOnce(*mut *const u8, *mut usize) -> u32,
    ) -> Result<&[u8], Status> {
        let mut pointer = std::ptr::null();
        let mut len = 0;
        done(call(&mut pointer, &mut len))?;
        if pointer.is_null() || len == 0 {
            return Ok(&[]);
        }
        // SAFETY: the host has written `len` bytes to memory that it got from our allocator for this, which
        // stays as it is until the next callback begins; the borrow of `self` ends before that.
        Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
    }
}

fn done(status: u32) -> Result<(), Status> {
    if status == 0 {
        Ok(())
    } else {
        Err(Status(status))
    }
}

/// The serialised form of a header map; `portcullis::headers` reads the same.
fn serialised(headers: &[(&str, &str)]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = number(headers.len()).to_vec();
    for (name, value) in headers {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    for (name, value) in headers {
        out.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
    }
    out
}

macro_rules! host_calls {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        #[cfg(target_arch = "wasm32")]
        mod raw {
            #[link(wasm_import_module = "env")]
            unsafe extern "C" { $(pub fn $name($($argument: $type),*) -> u32;)* }
        }

        /// Outside of a VM there is no host: every call answers "unimplemented" (12). For `cargo check`.
        #[cfg(not(target_arch = "wasm32"))]
        #[allow(clippy::too_many_arguments, reason = "the ABI has calls with many")]
        mod raw {
            $(pub unsafe fn $name($(_: $type),*) -> u32 { 12 })*
        }
    };
}

host_calls! {
    fn proxy_log(level: u32, line: *const u8, line_len: usize);
    fn proxy_get_header_map_pairs(map: u32, pointer: *mut *const u8, len: *mut usize);
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max: usize, pointer: *mut *const u8, len: *mut usize);
    fn proxy_get_property(path: *const u8, path_len: usize, pointer: *mut *const u8, len: *mut usize);
    fn proxy_set_property(path: *const u8, path_len: usize, value: *const u8, value_len: usize);
    fn proxy_get_shared_data(key: *const u8, key_len: usize, pointer: *mut *const u8, len: *mut usize, cas: *mut u32);
    fn proxy_set_shared_data(key: *const u8, key_len: usize, value: *const u8, value_len: usize, cas: u32);
    fn proxy_get_current_time_nanoseconds(time: *mut u64);
    fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, id: *mut u32);
    fn proxy_increment_metric(id: u32, by: i64);
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_len: usize,
        body: *const u8,
        body_len: usize,
        headers: *const u8,
        headers_len: usize,
        grpc_status: i32,
    );
}
