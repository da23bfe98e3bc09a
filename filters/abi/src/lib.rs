//! The proxy-wasm ABI 0.2.1, as thin as it can be.
//!
//! Takes in callbacks of the host. Gives a [`Plugin`] safe, non-panicking access to the host calls
//! that we use, and nothing else: each export costs the host about 1,500 instructions a request, and
//! each import is one more that some host refuses, so a module has only those that it needs
//! (`tests/golden/abi.txt` lists them).
//!
//! A host call that returns data makes the host call back for memory. That memory comes from one
//! arena that is reset when the next callback begins, so nothing is allocated or freed for it; the
//! [`Host`] that a callback gets is the proof that the arena is not reset meanwhile.
//!
//! All `unsafe` of the project is in this crate.

mod arena;
mod host;

pub use host::{HeaderMap, Host, Level, Metric, Status};

/// What a filter does. One value lives as long as its VM.
pub trait Plugin: Default {
    /// A configuration came, or was replaced; `false` refuses it.
    fn configure(&mut self, host: &Host, plugin_configuration_bytes: usize) -> bool;

    /// The headers of a request are there; `is_end` says that it has no body. Once this returns, the host does not
    /// give them out again.
    fn request_headers(&mut self, host: &Host, stream: u32, is_end: bool) -> Flow;

    /// A piece of a request's body is there, or after [`Flow::Stop`] all of it so far; `is_end` says that no more comes.
    /// Called only for plugins that are exported with `body`.
    fn request_body(&mut self, _host: &Host, _stream: u32, _bytes: usize, _is_end: bool) -> Flow {
        Flow::Continue
    }

    /// Trailers came: the body, of which no piece was said to be the last, is complete. Called only for plugins that are
    /// exported with `body`, and only for requests with trailers.
    fn request_trailers(&mut self, _host: &Host, _stream: u32) -> Flow {
        Flow::Continue
    }

    /// A stream is over, whatever became of it. The headers of its request can be read once more. Called only for
    /// plugins that are exported with `log`.
    fn log(&mut self, _host: &Host, _stream: u32) {}
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    Continue,
    /// It stops: the plugin has answered it, or waits for more of it.
    Stop,
}

/// Runs one callback: resets the arena, then gives the callback the host.
#[doc(hidden)]
pub fn enter<R>(callback: impl FnOnce(&Host) -> R) -> R {
    arena::reset();
    callback(&Host::new())
}

/// Has a panic say what and where it is in the host's log before it takes the VM down.
#[doc(hidden)]
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        Host::new().log(Level::Error, format!("portcullis: bug: {panic}").as_bytes());
    }));
}

/// Exports the callbacks of a plugin.
#[macro_export]
macro_rules! export {
    ($plugin:ty, body, log) => {
        $crate::export!($plugin, body);

        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_log(context: u32) {
            with_plugin((), |plugin, host| {
                $crate::Plugin::log(plugin, host, context);
            });
        }
    };
    ($plugin:ty, body) => {
        $crate::export!($plugin);

        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_body(context: u32, bytes: usize, end: u32) -> u32 {
            with_plugin(0, |plugin, host| {
                match $crate::Plugin::request_body(plugin, host, context, bytes, end != 0) {
                    $crate::Flow::Continue => 0,
                    $crate::Flow::Stop => 1,
                }
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_trailers(context: u32, _trailers: usize) -> u32 {
            with_plugin(0, |plugin, host| {
                match $crate::Plugin::request_trailers(plugin, host, context) {
                    $crate::Flow::Continue => 0,
                    $crate::Flow::Stop => 1,
                }
            })
        }
    };
    ($plugin:ty) => {
        thread_local! {
            /// It is never dropped, so that no code is needed for that.
            static PLUGIN: std::cell::RefCell<std::mem::ManuallyDrop<$plugin>> =
                std::cell::RefCell::new(std::mem::ManuallyDrop::new(Default::default()));
        }

        /// Runs a callback. The host never calls back into a callback, so the plugin is always free; if it
        /// were not, the request goes on uninspected rather than taking the VM down.
        fn with_plugin<R>(
            otherwise: R,
            callback: impl FnOnce(&mut $plugin, &$crate::Host) -> R,
        ) -> R {
            $crate::enter(|host| {
                PLUGIN.with(|plugin| match plugin.try_borrow_mut() {
                    Ok(mut plugin) => callback(&mut plugin, host),
                    Err(_) => otherwise,
                })
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn proxy_abi_version_0_2_1() {}

        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_configure(_root_context: u32, bytes: usize) -> u32 {
            $crate::report_panics();
            with_plugin(0, |plugin, host| {
                u32::from($crate::Plugin::configure(plugin, host, bytes))
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_headers(context: u32, _headers: usize, end: u32) -> u32 {
            with_plugin(0, |plugin, host| {
                match $crate::Plugin::request_headers(plugin, host, context, end != 0) {
                    $crate::Flow::Continue => 0,
                    $crate::Flow::Stop => 1,
                }
            })
        }
    };
}
