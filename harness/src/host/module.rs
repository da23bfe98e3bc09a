//! A compiled plugin: bytes in, something that can be instantiated many times out.
//!
//! Linking happens here, once: every import that the host knows is bound to its function, and every one that
//! it does not know to a function that answers "unimplemented", so that a plugin for a newer ABI still loads
//! and the caller can name what is missing.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use wasmtime::{Config, Engine, ExternType, InstancePre, Linker, Val, ValType};

use super::status::Status;
use super::vm::State;
use super::{calls, wasi};

/// How often a running callback is asked whether its time is up.
pub(super) const EPOCH: Duration = Duration::from_millis(50);

/// What WASI calls that the host does not have answer: "function not supported".
const WASI_ENOSYS: i32 = 52;

/// Which version of the ABI a plugin says it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbiVersion {
    /// `proxy_abi_version_0_1_0`
    V0_1_0,
    /// `proxy_abi_version_0_2_0`
    V0_2_0,
    /// `proxy_abi_version_0_2_1`
    V0_2_1,
}

/// A compiled and linked plugin. Clones share it.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    pre: InstancePre<State>,
    abi: AbiVersion,
    imports: Vec<String>,
    exports: Vec<String>,
    unknown: Vec<String>,
    /// Stops the thread that counts epochs when the module goes.
    _epochs: mpsc::Sender<()>,
}

impl Module {
    /// Compiles a `.wasm` (or, in tests, its text form).
    ///
    /// # Errors
    /// The bytes are not a valid module, it has no ABI marker or no allocator, it imports something that is
    /// not a function, or a known host function with another signature. Envoy refuses all of these too.
    pub fn compile(bytes: &[u8]) -> Result<Module> {
        Self::build(bytes, false)
    }

    /// The same, with every instruction counted ([`Worker::instructions`](super::Worker::instructions)), which
    /// makes it a fifth slower.
    ///
    /// # Errors
    /// See [`Module::compile`].
    pub fn metered(bytes: &[u8]) -> Result<Module> {
        Self::build(bytes, true)
    }

    fn build(bytes: &[u8], is_metered: bool) -> Result<Module> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.consume_fuel(is_metered);
        let engine = Engine::new(&config)?;
        let module = wasmtime::Module::new(&engine, bytes)
            .map_err(|error| anyhow!("this is not a valid wasm module: {error:#}"))?;

        let exports: Vec<String> = module
            .exports()
            .map(|export| export.name().to_owned())
            .collect();
        let exported = |name: &str| exports.iter().any(|export| export == name);
        let abi = if exported("proxy_abi_version_0_1_0") {
            AbiVersion::V0_1_0
        } else if exported("proxy_abi_version_0_2_0") {
            AbiVersion::V0_2_0
        } else if exported("proxy_abi_version_0_2_1") {
            AbiVersion::V0_2_1
        } else {
            bail!(
                "the module exports no `proxy_abi_version_0_1_0`, `_0_2_0` or `_0_2_1`: it is not a proxy-wasm plugin"
            );
        };
        if !exported("malloc") && !exported("proxy_on_memory_allocate") {
            bail!("the module exports neither `malloc` nor `proxy_on_memory_allocate`");
        }
        if !exported("memory") {
            bail!("the module exports no `memory`");
        }

        let mut linker = Linker::new(&engine);
        calls::link(&mut linker)?;
        for name in ["wasi_snapshot_preview1", "wasi_unstable"] {
            wasi::link(&mut linker, name)?;
        }
        let mut unknown = Vec::new();
        let mut imports = Vec::new();
        // The linker itself can only be asked with a store at hand.
        let known: std::collections::HashSet<(&str, &str)> = calls::NAMES
            .iter()
            .map(|name| ("env", *name))
            .chain(
                wasi::NAMES
                    .iter()
                    .flat_map(|name| [("wasi_snapshot_preview1", *name), ("wasi_unstable", *name)]),
            )
            .collect();
        for import in module.imports() {
            let name = format!("{}.{}", import.module(), import.name());
            imports.push(name.clone());
            if known.contains(&(import.module(), import.name())) {
                continue;
            }
            let ExternType::Func(ty) = import.ty() else {
                bail!(
                    "the module imports `{name}`, which is not a function; a proxy-wasm host gives functions only"
                );
            };
            let answer = if import.module().starts_with("wasi") {
                WASI_ENOSYS
            } else {
                Status::Unimplemented as i32
            };
            let answers: Vec<Val> = ty
                .results()
                .map(|ty| match ty {
                    ValType::I32 => Some(Val::I32(answer)),
                    other => Val::default_for_ty(&other),
                })
                .collect::<Option<_>>()
                .with_context(|| {
                    format!("the import `{name}` returns something that has no default value")
                })?;
            linker.func_new(import.module(), import.name(), ty, move |_, _, results| {
                results.clone_from_slice(&answers);
                Ok(())
            })?;
            unknown.push(name);
        }
        let pre = linker.instantiate_pre(&module).map_err(|error| {
            anyhow!("an import of the module does not fit the host's function: {error:#}")
        })?;

        let (stop, stopped) = mpsc::channel::<()>();
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("wasm-epochs".into())
            .spawn(move || {
                while stopped.recv_timeout(EPOCH) == Err(mpsc::RecvTimeoutError::Timeout) {
                    let Some(engine) = weak.upgrade() else { return };
                    engine.increment_epoch();
                }
            })
            .context("cannot start the thread that limits how long a callback runs")?;
        Ok(Module(Arc::new(Inner {
            pre,
            abi,
            imports,
            exports,
            unknown,
            _epochs: stop,
        })))
    }

    /// What the module imports, as `module.name`, in its order.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// What the module exports, in its order.
    pub fn exports(&self) -> &[String] {
        &self.0.exports
    }

    /// Imports that the host does not have. Calling one answers `Unimplemented`; Envoy would not load the module.
    pub fn unknown_imports(&self) -> &[String] {
        &self.0.unknown
    }

    /// The ABI version that the module is marked with.
    pub fn abi_version(&self) -> AbiVersion {
        self.0.abi
    }

    pub(super) fn pre(&self) -> &InstancePre<State> {
        &self.0.pre
    }
}
