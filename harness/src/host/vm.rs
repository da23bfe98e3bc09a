//! One virtual machine: an instance of the plugin, the state its host calls see, and calls into it.
//!
//! A call into the plugin names the context it is for; what the plugin asks of the host meanwhile ends up in
//! [`State`] and is acted on after the call returns, as in Envoy. A trap, a panic or a call that takes too
//! long kills the machine: it answers nothing more, and [`Vm::failure`] says why.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use wasmtime::{
    Memory, Store, StoreLimits, StoreLimitsBuilder, Trap, TypedFunc, WasmParams, WasmResults,
};

use super::exchange::{Callout, CalloutReply, Effects, Exchange, Log};
use super::gateway::GatewayOptions;
use super::headers::HeaderMap;
use super::module::{AbiVersion, EPOCH, Module};
use super::property::Properties;
use super::shared::{Mailbox, Metric};
use super::status::{LogLevel, Status, buffer, map};

/// Index of the request in [`Stream::sides`].
pub(super) const REQUEST: usize = 0;
/// Index of the response.
pub(super) const RESPONSE: usize = 1;

/// Log bytes and callout bytes that are kept until somebody takes them: past it they are counted, not kept.
pub const MAX_EFFECT_BYTES: usize = 16 << 20;

/// What every virtual machine of a gateway is made from.
pub(super) struct Plan {
    pub(super) module: Module,
    pub(super) options: GatewayOptions,
}

/// What the host functions see.
pub(super) struct State {
    pub(super) plan: Arc<Plan>,
    pub(super) memory: Option<Memory>,
    pub(super) allocate: Option<TypedFunc<u32, u32>>,
    limits: StoreLimits,
    pub(super) mailbox: Arc<Mailbox>,
    /// The context that is being called.
    current: u32,
    /// The one the plugin wants its host calls to be about; zero for `current`.
    pub(super) effective: u32,
    /// The root context in use.
    pub(super) root: u32,
    /// Older root contexts that asked to be kept until they call `proxy_done`.
    lingering: Vec<u32>,
    /// Of those, the ones that did.
    pub(super) finished: Vec<u32>,
    next_context: u32,
    /// The plugin's configuration, readable only while it is delivered.
    pub(super) configuration: Option<Arc<[u8]>>,
    pub(super) stream: Stream,
    pub(super) effects: Effects,
    pub(super) metrics: Vec<(String, Arc<Metric>)>,
    pub(super) scratch: Vec<u8>,
    pub(super) now_ns: i64,
    pub(super) tick_period_ns: i64,
    pub(super) next_tick_ns: i64,
    pub(super) pending_callouts: Vec<PendingCallout>,
    next_token: u32,
    call_reply: Option<CallReply>,
    pub(super) call_status: (u32, &'static str),
    random: u64,
}

/// An HTTP call that has no answer yet.
pub(super) struct PendingCallout {
    pub(super) token: u32,
    pub(super) deadline_ns: i64,
    /// Set if the gateway has an upstream to ask.
    pub(super) reply: Option<CalloutReply>,
}

struct CallReply {
    headers: HeaderMap,
    trailers: HeaderMap,
    body: Vec<u8>,
}

/// One direction of a stream.
#[derive(Default)]
pub(super) struct Side {
    pub(super) headers: HeaderMap,
    pub(super) has_headers: bool,
    /// Whether a plugin can see the headers now: from their callback until they are passed on.
    pub(super) headers_open: bool,
    pub(super) trailers: HeaderMap,
    pub(super) has_trailers: bool,
    pub(super) trailers_open: bool,
    /// What the body callback sees.
    pub(super) body: Vec<u8>,
    pub(super) body_open: bool,
    /// What was passed on. Only kept if the plugin looks at bodies.
    pub(super) passed: Vec<u8>,
}

impl Side {
    fn reset(&mut self) {
        self.has_headers = false;
        self.headers_open = false;
        self.has_trailers = false;
        self.trailers_open = false;
        self.body.clear();
        self.body_open = false;
        self.passed.clear();
    }
}

/// The exchange in progress. Its buffers are kept from one to the next.
#[derive(Default)]
pub(super) struct Stream {
    /// Its context; zero between exchanges.
    pub(super) id: u32,
    pub(super) sides: [Side; 2],
    /// `proxy_on_log` is running: maps are those of the finished exchange and cannot be changed.
    pub(super) logging: bool,
    pub(super) end_of_stream: bool,
    pub(super) reply: Option<PendingReply>,
    pub(super) resume: [bool; 2],
    pub(super) close: bool,
    pub(super) filter_state: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) protocol: String,
    pub(super) connection_id: u64,
    pub(super) properties: Option<Arc<Properties>>,
    pub(super) time_ns: i64,
    pub(super) duration_ns: i64,
    pub(super) code: Option<u32>,
    pub(super) details: Option<String>,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Stream {
    fn load<B: AsRef<[u8]>>(&mut self, exchange: &Exchange<'_, B>) {
        self.sides.iter_mut().for_each(Side::reset);
        let [request, _] = &mut self.sides;
        request.headers.load(exchange.request_headers, true);
        request.has_headers = true;
        request.has_trailers = !exchange.request_trailers.is_empty();
        request.trailers.load(exchange.request_trailers, false);
        self.logging = false;
        self.end_of_stream = false;
        self.reply = None;
        self.resume = [false; 2];
        self.close = false;
        self.filter_state.clear();
        replace(&mut self.source, exchange.source_address);
        replace(&mut self.destination, exchange.destination_address);
        replace(&mut self.protocol, Some(exchange.protocol));
        self.connection_id = exchange.connection_id;
        self.properties = exchange.properties.cloned();
        self.time_ns = exchange.time_unix_ns;
        self.duration_ns = exchange.duration_ns;
        self.code = None;
        self.details = None;
        self.received = 0;
        self.sent = 0;
    }

    pub(super) fn set_filter_state(&mut self, key: &[u8], value: &[u8]) {
        match self.filter_state.iter_mut().find(|(name, _)| name == key) {
            Some((_, slot)) => {
                slot.clear();
                slot.extend_from_slice(value);
            }
            None => self.filter_state.push((key.to_vec(), value.to_vec())),
        }
    }

    /// What Envoy does when either direction is continued.
    pub(super) fn close_request_maps(&mut self) {
        let [request, _] = &mut self.sides;
        request.headers_open = false;
        request.trailers_open = false;
        request.body_open = false;
    }
}

fn replace(slot: &mut String, text: Option<&str>) {
    slot.clear();
    slot.push_str(text.unwrap_or_default());
}

/// What `proxy_send_local_response` asked for.
#[derive(Debug, Default)]
pub(super) struct PendingReply {
    pub(super) status: u32,
    pub(super) details: String,
    pub(super) body: Vec<u8>,
    pub(super) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) grpc_status: Option<u32>,
}

impl PendingReply {
    pub(super) fn new(
        status: u32,
        details: &[u8],
        body: &[u8],
        headers: &[(&[u8], &[u8])],
        grpc_status: u32,
    ) -> Self {
        // Access logs are split at white space, so Envoy lets none through in details.
        let details =
            String::from_utf8_lossy(details).replace([' ', '\t', '\x0c', '\x0b', '\n', '\r'], "_");
        PendingReply {
            status,
            details,
            body: body.to_vec(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
            // SDKs send -1 for "none".
            grpc_status: (grpc_status <= 16).then_some(grpc_status),
        }
    }
}

impl State {
    fn new(plan: Arc<Plan>, seed: u64) -> Self {
        let limits = StoreLimitsBuilder::new()
            .memory_size(plan.options.memory_limit_bytes)
            .table_elements(1 << 20)
            .build();
        let now_ns = plan.options.time_unix_ns;
        State {
            plan,
            memory: None,
            allocate: None,
            limits,
            mailbox: Arc::default(),
            current: 0,
            effective: 0,
            root: 0,
            lingering: Vec::new(),
            finished: Vec::new(),
            next_context: 1,
            configuration: None,
            stream: Stream::default(),
            effects: Effects::default(),
            metrics: Vec::new(),
            scratch: Vec::new(),
            now_ns,
            tick_period_ns: 0,
            next_tick_ns: i64::MAX,
            pending_callouts: Vec::new(),
            next_token: 1,
            call_reply: None,
            call_status: (0, ""),
            random: seed,
        }
    }

    fn allocate_context(&mut self) -> u32 {
        let id = self.next_context;
        // A long replay may go once around; zero stands for "none" and the root context lives on.
        self.next_context = id.wrapping_add(1).max(1);
        if id == self.root || self.lingering.contains(&id) {
            self.allocate_context()
        } else {
            id
        }
    }

    pub(super) fn has_context(&self, id: u32) -> bool {
        id != 0 && (id == self.root || id == self.stream.id || self.lingering.contains(&id))
    }

    /// The context that host calls are about.
    fn context(&self) -> u32 {
        if self.has_context(self.effective) {
            self.effective
        } else {
            self.current
        }
    }

    pub(super) fn in_stream(&self) -> bool {
        self.stream.id != 0 && self.context() == self.stream.id
    }

    pub(super) fn logging_context(&self) -> bool {
        self.in_stream() && self.stream.logging
    }

    /// What an absent header answers: 0.1.0 knew no "not found".
    pub(super) fn absent(&self) -> Status {
        if self.plan.module.abi_version() == AbiVersion::V0_1_0 {
            Status::Ok
        } else {
            Status::NotFound
        }
    }

    /// A header map as it can be read now.
    pub(super) fn map(&self, kind: u32) -> Option<&HeaderMap> {
        match kind {
            map::CALL_HEADERS => return self.call_reply.as_ref().map(|reply| &reply.headers),
            map::CALL_TRAILERS => return self.call_reply.as_ref().map(|reply| &reply.trailers),
            _ if !self.in_stream() => return None,
            _ => {}
        }
        let [request, response] = &self.stream.sides;
        let logging = self.stream.logging;
        match kind {
            map::REQUEST_HEADERS => {
                (request.headers_open || logging && request.has_headers).then_some(&request.headers)
            }
            map::REQUEST_TRAILERS => {
                (request.trailers_open && !logging).then_some(&request.trailers)
            }
            map::RESPONSE_HEADERS => (response.headers_open || logging && response.has_headers)
                .then_some(&response.headers),
            map::RESPONSE_TRAILERS => (response.trailers_open || logging && response.has_trailers)
                .then_some(&response.trailers),
            _ => None,
        }
    }

    /// A header map that can be changed now. Asking for trailers in the last piece of a body makes some.
    pub(super) fn map_mut(&mut self, kind: u32) -> Option<&mut HeaderMap> {
        if !self.in_stream() || self.stream.logging {
            return None;
        }
        let last = self.stream.end_of_stream;
        let [request, response] = &mut self.stream.sides;
        let side = match kind {
            map::REQUEST_HEADERS => return request.headers_open.then_some(&mut request.headers),
            map::RESPONSE_HEADERS => return response.headers_open.then_some(&mut response.headers),
            map::REQUEST_TRAILERS => request,
            map::RESPONSE_TRAILERS => response,
            _ => return None,
        };
        if !side.trailers_open && side.body_open && last {
            side.trailers.reset(false);
            side.trailers_open = true;
            side.has_trailers = true;
        }
        side.trailers_open.then_some(&mut side.trailers)
    }

    /// A buffer as it can be read now; a body that is not there is empty rather than not found.
    pub(super) fn buffer(&self, kind: u32) -> Option<&[u8]> {
        match kind {
            buffer::REQUEST_BODY => Some(self.body(REQUEST)),
            buffer::RESPONSE_BODY => Some(self.body(RESPONSE)),
            buffer::DOWNSTREAM_DATA
            | buffer::UPSTREAM_DATA
            | buffer::GRPC_MESSAGE
            | buffer::CALL_DATA => Some(&[]),
            buffer::CALL_BODY => self.call_reply.as_ref().map(|reply| reply.body.as_slice()),
            buffer::VM_CONFIGURATION => Some(&self.plan.options.vm_config),
            buffer::PLUGIN_CONFIGURATION => self.configuration.as_deref(),
            _ => None,
        }
    }

    fn body(&self, side: usize) -> &[u8] {
        let side = &self.stream.sides[side];
        if self.in_stream() && side.body_open {
            &side.body
        } else {
            &[]
        }
    }

    /// Envoy can put bytes in front, behind, or in place of the whole body, and nothing else.
    pub(super) fn set_buffer(
        &mut self,
        kind: u32,
        start: usize,
        length: usize,
        data: &[u8],
    ) -> Status {
        let side = match kind {
            buffer::REQUEST_BODY => REQUEST,
            buffer::RESPONSE_BODY => RESPONSE,
            _ => return Status::BadArgument,
        };
        if !self.in_stream() || !self.stream.sides[side].body_open {
            return Status::BadArgument;
        }
        let body = &mut self.stream.sides[side].body;
        match (start, length) {
            (0, 0) => {
                body.splice(..0, data.iter().copied());
            }
            (0, length) if length >= body.len() => {
                body.clear();
                body.extend_from_slice(data);
            }
            (start, _) if start > 0 && start >= body.len() => body.extend_from_slice(data),
            _ => return Status::BadArgument,
        }
        Status::Ok
    }

    pub(super) fn log(&mut self, level: LogLevel, message: &[u8]) {
        if level < self.plan.options.log_level {
            return;
        }
        if self.admit(message.len()) {
            self.effects.logs.push(Log {
                level,
                message: message.to_vec(),
            });
        }
    }

    /// Whether one more effect of this size is kept. Counts it otherwise.
    fn admit(&mut self, bytes: usize) -> bool {
        // The constant stands for what an entry costs beside its bytes.
        let bytes = self.effects.bytes.saturating_add(bytes).saturating_add(64);
        if bytes > MAX_EFFECT_BYTES {
            self.effects.dropped += 1;
            return false;
        }
        self.effects.bytes = bytes;
        true
    }

    pub(super) fn call_out(&mut self, mut callout: Callout) -> u32 {
        let token = self.next_token;
        self.next_token = token.wrapping_add(1).max(1);
        callout.token = token;
        let timeout_ns = i64::from(callout.timeout_ms) * 1_000_000;
        let deadline_ns = if timeout_ns == 0 {
            i64::MAX
        } else {
            self.now_ns.saturating_add(timeout_ns)
        };
        let reply = self
            .plan
            .options
            .upstream
            .as_ref()
            .and_then(|upstream| upstream(&callout));
        self.pending_callouts.push(PendingCallout {
            token,
            deadline_ns,
            reply,
        });
        let pairs = callout.headers.iter().chain(&callout.trailers);
        let bytes = callout.body.len()
            + pairs
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
        if self.admit(bytes) {
            self.effects.callouts.push(callout);
        }
        token
    }

    pub(super) fn metric(&self, index: u32, kind: u32) -> Option<&Metric> {
        let (_, metric) = self.metrics.get(index.checked_sub(1)? as usize)?;
        (metric.kind as u32 == kind).then_some(&**metric)
    }

    pub(super) fn done(&mut self) -> Status {
        let context = self.context();
        match self.lingering.iter().position(|id| *id == context) {
            Some(at) => {
                self.finished.push(self.lingering.swap_remove(at));
                Status::Ok
            }
            None => Status::NotFound,
        }
    }

    /// SplitMix64: a fixed sequence for a fixed seed.
    pub(super) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A callback, under its name for reports.
type Callback<P, R> = Option<(&'static str, TypedFunc<P, R>)>;

/// The callbacks that a plugin exports. Those it does not export are not called.
struct Callbacks {
    context_create: Callback<(u32, u32), ()>,
    vm_start: Callback<(u32, u32), u32>,
    configure: Callback<(u32, u32), u32>,
    tick: Callback<u32, ()>,
    queue_ready: Callback<(u32, u32), ()>,
    http_call_response: Callback<(u32, u32, u32, u32, u32), ()>,
    headers: [Callback<(u32, u32, u32), u32>; 2],
    /// In 0.1.0 they had one argument less.
    old_headers: [Callback<(u32, u32), u32>; 2],
    body: [Callback<(u32, u32, u32), u32>; 2],
    trailers: [Callback<(u32, u32), u32>; 2],
    done: Callback<u32, u32>,
    log: Callback<u32, ()>,
}

/// One virtual machine.
pub(super) struct Vm {
    core: Core,
    callbacks: Callbacks,
    pub(super) loaded_ns: i64,
}

/// What a call into the plugin needs, apart from the callback itself.
struct Core {
    store: Store<State>,
    /// Called here too, for a root context that says in whatever callback that it is done.
    delete: Callback<u32, ()>,
    /// Epochs that one call may last.
    deadline: u64,
    failure: Option<String>,
    /// Time in callbacks, if it is measured.
    in_plugin: Option<Duration>,
}

impl Core {
    /// Calls the plugin on behalf of `context`. `None` if it has no such callback, or is or becomes dead.
    #[inline]
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        callback: &Callback<P, R>,
        context: u32,
        arguments: P,
    ) -> Option<R> {
        let begun = self.in_plugin.map(|_| Instant::now());
        let result = Self::enter(
            &mut self.store,
            self.deadline,
            &mut self.failure,
            callback,
            context,
            arguments,
        );
        if let (Some(spent), Some(begun)) = (&mut self.in_plugin, begun) {
            *spent += begun.elapsed();
        }
        if !self.store.data().finished.is_empty() {
            self.delete_finished();
        }
        result
    }

    fn enter<P: WasmParams, R: WasmResults>(
        store: &mut Store<State>,
        deadline: u64,
        failure: &mut Option<String>,
        callback: &Callback<P, R>,
        context: u32,
        arguments: P,
    ) -> Option<R> {
        let (name, function) = callback.as_ref()?;
        if failure.is_some() {
            return None;
        }
        let state = store.data_mut();
        state.current = context;
        state.effective = 0;
        store.set_epoch_deadline(deadline);
        match function.call(&mut *store, arguments) {
            Ok(result) => Some(result),
            Err(error) => {
                *failure = Some(format!("{name}: {}", explain(&error)));
                None
            }
        }
    }

    fn delete(&mut self, context: u32) {
        let Core {
            store,
            delete,
            deadline,
            failure,
            ..
        } = self;
        Self::enter(store, *deadline, failure, delete, context, context);
    }

    #[cold]
    fn delete_finished(&mut self) {
        while let Some(root) = self.store.data_mut().finished.pop() {
            self.delete(root);
        }
    }
}

impl Vm {
    /// Instantiates the plugin and runs `_initialize` (and `main`) or `_start`.
    ///
    /// The state comes back with the error, for what was logged.
    pub(super) fn new(
        plan: &Arc<Plan>,
        seed: u64,
        now_ns: i64,
    ) -> Result<Vm, (anyhow::Error, Effects)> {
        let mut state = State::new(Arc::clone(plan), seed);
        state.now_ns = now_ns;
        let mut store = Store::new(plan.module.pre().module().engine(), state);
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_trap();
        // An error says that the module is not metered.
        let _ = store.set_fuel(u64::MAX);
        let deadline = plan.options.callback_limit.map_or(u64::MAX / 2, |limit| {
            u64::try_from(limit.as_nanos() / EPOCH.as_nanos())
                .unwrap_or(u64::MAX / 2)
                .saturating_add(1)
        });
        store.set_epoch_deadline(deadline);
        match Self::instantiate(plan, &mut store) {
            Ok((callbacks, delete)) => {
                let core = Core {
                    store,
                    delete,
                    deadline,
                    failure: None,
                    in_plugin: plan.options.is_timed.then_some(Duration::ZERO),
                };
                Ok(Vm {
                    core,
                    callbacks,
                    loaded_ns: now_ns,
                })
            }
            Err(error) => Err((error, std::mem::take(&mut store.data_mut().effects))),
        }
    }

    fn instantiate(
        plan: &Plan,
        store: &mut Store<State>,
    ) -> Result<(Callbacks, Callback<u32, ()>)> {
        let instance = plan
            .module
            .pre()
            .instantiate(&mut *store)
            .map_err(|error| anyhow!(explain(&error)))?;
        let memory = instance
            .get_memory(&mut *store, "memory")
            .context("the export `memory` is not a memory")?;
        store.data_mut().memory = Some(memory);

        fn get<P: WasmParams, R: WasmResults>(
            instance: &wasmtime::Instance,
            store: &mut Store<State>,
            name: &'static str,
        ) -> Result<Callback<P, R>> {
            let Some(function) = instance.get_func(&mut *store, name) else {
                return Ok(None);
            };
            let typed = function.typed::<P, R>(&*store).map_err(|error| {
                anyhow!("the export `{name}` has another signature than the ABI's: {error}")
            })?;
            Ok(Some((name, typed)))
        }

        let mut allocate = get::<u32, u32>(&instance, store, "malloc")?;
        if allocate.is_none() {
            allocate = get(&instance, store, "proxy_on_memory_allocate")?;
        }
        store.data_mut().allocate = allocate.map(|(_, allocate)| allocate);

        let names = ["proxy_on_request_headers", "proxy_on_response_headers"];
        let (mut headers, mut old_headers) = ([None, None], [None, None]);
        for (side, name) in names.into_iter().enumerate() {
            if plan.module.abi_version() == AbiVersion::V0_1_0 {
                old_headers[side] = get(&instance, store, name)?;
            } else {
                headers[side] = get(&instance, store, name)?;
            }
        }
        let delete = get(&instance, store, "proxy_on_delete")?;
        let callbacks = Callbacks {
            context_create: get(&instance, store, "proxy_on_context_create")?,
            vm_start: get(&instance, store, "proxy_on_vm_start")?,
            configure: get(&instance, store, "proxy_on_configure")?,
            tick: get(&instance, store, "proxy_on_tick")?,
            queue_ready: get(&instance, store, "proxy_on_queue_ready")?,
            http_call_response: get(&instance, store, "proxy_on_http_call_response")?,
            headers,
            old_headers,
            body: [
                get(&instance, store, "proxy_on_request_body")?,
                get(&instance, store, "proxy_on_response_body")?,
            ],
            trailers: [
                get(&instance, store, "proxy_on_request_trailers")?,
                get(&instance, store, "proxy_on_response_trailers")?,
            ],
            done: get(&instance, store, "proxy_on_done")?,
            log: get(&instance, store, "proxy_on_log")?,
        };

        let run = |store: &mut Store<State>, function: Callback<(), ()>| -> Result<bool> {
            let Some((name, function)) = function else {
                return Ok(false);
            };
            function
                .call(store, ())
                .map_err(|error| anyhow!("{name}: {}", explain(&error)))?;
            Ok(true)
        };
        let initialize = get(&instance, store, "_initialize")?;
        if run(store, initialize)? {
            if let Some((name, main)) =
                get::<(u32, u32), u32>(&instance, store, "main").unwrap_or(None)
            {
                main.call(&mut *store, (0, 0))
                    .map_err(|error| anyhow!("{name}: {}", explain(&error)))?;
            }
        } else {
            let start = get(&instance, store, "_start")?;
            run(store, start)?;
        }
        Ok((callbacks, delete))
    }

    /// Wasm instructions since the start; none of a module that is not metered.
    pub(super) fn instructions(&self) -> u64 {
        self.core.store.get_fuel().map_or(0, |left| u64::MAX - left)
    }

    /// Time in callbacks, if it is measured.
    pub(super) fn in_plugin(&self) -> Option<Duration> {
        self.core.in_plugin
    }

    /// Bytes of the machine's memory, which never shrinks.
    pub(super) fn memory_bytes(&self) -> usize {
        let memory = self.peek().memory;
        memory.map_or(0, |memory| memory.data_size(&self.core.store))
    }

    /// Why the machine is dead, if it is.
    pub(super) fn failure(&self) -> Option<&str> {
        self.core.failure.as_deref()
    }

    pub(super) fn state(&mut self) -> &mut State {
        self.core.store.data_mut()
    }

    pub(super) fn peek(&self) -> &State {
        self.core.store.data()
    }

    /// Starts the machine with its first root context and the plugin's configuration.
    pub(super) fn start(&mut self, configuration: &Arc<[u8]>) -> Result<(), String> {
        let vm_config_size = self.peek().plan.options.vm_config.len() as u32;
        let root = self.state().allocate_context();
        self.state().root = root;
        self.state().configuration = Some(Arc::clone(configuration));
        self.core
            .call(&self.callbacks.context_create, root, (root, 0));
        self.state().configuration = None;
        if self
            .core
            .call(&self.callbacks.vm_start, root, (root, vm_config_size))
            == Some(0)
        {
            return Err(
                "the plugin refused the VM configuration (`proxy_on_vm_start` returned false)"
                    .into(),
            );
        }
        self.configure(root, configuration)
    }

    fn configure(&mut self, root: u32, configuration: &Arc<[u8]>) -> Result<(), String> {
        self.state().configuration = Some(Arc::clone(configuration));
        let size = configuration.len() as u32;
        let accepted = self
            .core
            .call(&self.callbacks.configure, root, (root, size));
        self.state().configuration = None;
        match (&self.core.failure, accepted) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(0)) => Err(
                "the plugin refused its configuration (`proxy_on_configure` returned false)".into(),
            ),
            (None, _) => Ok(()),
        }
    }

    /// Gives the running machine a new configuration: a new root context takes over if it accepts.
    pub(super) fn reconfigure(&mut self, configuration: &Arc<[u8]>) -> Result<(), String> {
        if let Some(failure) = &self.core.failure {
            return Err(failure.clone());
        }
        let old = self.peek().root;
        let new = self.state().allocate_context();
        self.state().root = new;
        self.core
            .call(&self.callbacks.context_create, new, (new, 0));
        let accepted = self.configure(new, configuration);
        let retired = if accepted.is_ok() { old } else { new };
        let state = self.state();
        state.root = if accepted.is_ok() { new } else { old };
        state.lingering.push(retired);
        let done = self.core.call(&self.callbacks.done, retired, retired);
        if done != Some(0) {
            let state = self.state();
            if let Some(at) = state.lingering.iter().position(|id| *id == retired) {
                state.lingering.swap_remove(at);
                state.finished.push(retired);
            }
            self.core.delete_finished();
        }
        accepted
    }

    /// Lets time pass: a due tick, queue notices and callouts whose time is up are delivered.
    pub(super) fn advance(&mut self, now_ns: i64) {
        let state = self.state();
        state.now_ns = now_ns;
        let root = state.root;
        if state.tick_period_ns > 0 && now_ns >= state.next_tick_ns {
            self.core.call(&self.callbacks.tick, root, root);
            // A timer is armed again after it fired, so time that jumps gives one tick and not a thousand.
            let state = self.state();
            state.next_tick_ns = now_ns.saturating_add(state.tick_period_ns);
        }
        self.deliver_notices();
        self.answer_callouts();
        self.expire_callouts();
    }

    fn deliver_notices(&mut self) {
        // A plugin that queues an item for each one it hears of must not keep us here for ever.
        for _ in 0..10_000 {
            let Some((context, token)) = self.peek().mailbox.take() else {
                return;
            };
            if self.peek().has_context(context) {
                self.core
                    .call(&self.callbacks.queue_ready, context, (context, token));
            }
        }
    }

    /// Delivers the answers that the gateway's upstream had ready. True if there was one.
    pub(super) fn answer_callouts(&mut self) -> bool {
        let mut answered = false;
        for _ in 0..10_000 {
            let pending = &mut self.state().pending_callouts;
            let Some(at) = pending.iter().position(|callout| callout.reply.is_some()) else {
                break;
            };
            let callout = pending.swap_remove(at);
            self.deliver_reply(callout.token, callout.reply.unwrap_or_default());
            answered = true;
        }
        answered
    }

    fn expire_callouts(&mut self) {
        loop {
            let state = self.state();
            let now_ns = state.now_ns;
            let Some(at) = state
                .pending_callouts
                .iter()
                .position(|callout| callout.deadline_ns <= now_ns)
            else {
                return;
            };
            let callout = state.pending_callouts.swap_remove(at);
            // Envoy's client answers a call that timed out itself.
            let reply = CalloutReply {
                headers: vec![
                    (b":status".to_vec(), b"504".to_vec()),
                    (b"content-length".to_vec(), b"24".to_vec()),
                    (b"content-type".to_vec(), b"text/plain".to_vec()),
                ],
                body: b"upstream request timeout".to_vec(),
                trailers: Vec::new(),
            };
            self.deliver_reply(callout.token, reply);
        }
    }

    /// Answers a call that waits. False if none has that token.
    pub(super) fn reply(&mut self, token: u32, reply: CalloutReply) -> bool {
        let pending = &mut self.state().pending_callouts;
        let Some(at) = pending.iter().position(|callout| callout.token == token) else {
            return false;
        };
        pending.swap_remove(at);
        self.deliver_reply(token, reply);
        true
    }

    fn deliver_reply(&mut self, token: u32, reply: CalloutReply) {
        let state = self.state();
        let root = state.root;
        let mut counts = (0, 0, 0);
        if reply.headers.is_empty() {
            state.call_status = (11, "reset");
        } else {
            let mut headers = HeaderMap::default();
            headers.load(&reply.headers, false);
            let mut trailers = HeaderMap::default();
            trailers.load(&reply.trailers, false);
            counts = (
                headers.len() as u32,
                reply.body.len() as u32,
                trailers.len() as u32,
            );
            state.call_reply = Some(CallReply {
                headers,
                trailers,
                body: reply.body,
            });
        }
        self.core.call(
            &self.callbacks.http_call_response,
            root,
            (root, token, counts.0, counts.1, counts.2),
        );
        let state = self.state();
        state.call_reply = None;
        state.call_status = (0, "");
    }

    // The stream's callbacks. Each gives the plugin's answer, or zero (continue) if it has no such callback.

    /// Loads an exchange and creates its context.
    pub(super) fn open_stream<B: AsRef<[u8]>>(&mut self, exchange: &Exchange<'_, B>) {
        let state = self.state();
        state.stream.load(exchange);
        state.stream.id = state.allocate_context();
        let (id, root) = (state.stream.id, state.root);
        self.core
            .call(&self.callbacks.context_create, id, (id, root));
    }

    /// Loads an exchange without the plugin taking part.
    pub(super) fn load_unseen<B: AsRef<[u8]>>(&mut self, exchange: &Exchange<'_, B>) {
        self.state().stream.load(exchange);
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        &mut self.state().stream
    }

    pub(super) fn looks_at_body(&self, side: usize) -> bool {
        self.callbacks.body[side].is_some()
    }

    pub(super) fn on_headers(&mut self, side: usize, end_of_stream: bool) -> u32 {
        let stream = self.stream();
        stream.end_of_stream = end_of_stream;
        stream.sides[side].headers_open = true;
        let (id, count) = (stream.id, stream.sides[side].headers.len() as u32);
        let Callbacks {
            headers,
            old_headers,
            ..
        } = &self.callbacks;
        let answer = self
            .core
            .call(&headers[side], id, (id, count, u32::from(end_of_stream)))
            .or_else(|| self.core.call(&old_headers[side], id, (id, count)));
        answer.unwrap_or(0)
    }

    pub(super) fn on_body(&mut self, side: usize, end_of_stream: bool) -> u32 {
        let stream = self.stream();
        stream.end_of_stream = end_of_stream;
        stream.sides[side].body_open = true;
        let (id, size) = (stream.id, stream.sides[side].body.len() as u32);
        let arguments = (id, size, u32::from(end_of_stream));
        self.core
            .call(&self.callbacks.body[side], id, arguments)
            .unwrap_or(0)
    }

    pub(super) fn on_trailers(&mut self, side: usize) -> u32 {
        let stream = self.stream();
        stream.end_of_stream = true;
        stream.sides[side].trailers_open = true;
        let (id, count) = (stream.id, stream.sides[side].trailers.len() as u32);
        self.core
            .call(&self.callbacks.trailers[side], id, (id, count))
            .unwrap_or(0)
    }

    /// Ends the stream as Envoy does: the log callback, then done, then delete.
    pub(super) fn close_stream(&mut self) {
        let state = self.state();
        let stream = &mut state.stream;
        stream.logging = true;
        let id = stream.id;
        state.now_ns = stream.time_ns.saturating_add(stream.duration_ns);
        self.core.call(&self.callbacks.log, id, id);
        self.stream().logging = false;
        self.stream().close_request_maps();
        self.stream().sides[RESPONSE].headers_open = false;
        self.stream().sides[RESPONSE].trailers_open = false;
        self.core.call(&self.callbacks.done, id, id);
        self.core.delete(id);
        self.stream().id = 0;
    }
}

/// What a person needs to know of a trap: its cause and where it happened.
fn explain(error: &wasmtime::Error) -> String {
    let cause = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => "the callback ran longer than its limit".to_owned(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let frame = error
        .downcast_ref::<wasmtime::WasmBacktrace>()
        .and_then(|trace| {
            trace
                .frames()
                .iter()
                .find_map(|frame| frame.func_name().map(str::to_owned))
        });
    match frame {
        Some(name) => format!("{cause} (in `{name}`)"),
        None => cause,
    }
}
