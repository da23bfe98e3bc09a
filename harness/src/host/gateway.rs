//! A gateway: the plugin's virtual machines as one Envoy process has them.
//!
//! Goes in: a compiled plugin and how Envoy would be configured. Comes out: workers that take exchanges. As in
//! Envoy a configuration is first tried in a machine of its own that is thrown away, then given to the main
//! thread's machine and to each worker's, so `proxy_on_configure` runs workers + 2 times.

use std::sync::Arc;
use std::time::Duration;

use super::exchange::{Callout, CalloutReply, Effects, Log};
use super::module::Module;
use super::property::Properties;
use super::shared::{MetricSnapshot, Process};
use super::status::LogLevel;
use super::vm::{Plan, Vm};
use super::worker::Worker;

/// Answers a plugin's HTTP calls; `None` leaves a call waiting.
pub type Upstream = Arc<dyn Fn(&Callout) -> Option<CalloutReply> + Send + Sync>;

/// What happens to requests once the plugin has died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// Every later request of that worker is answered 503. Envoy's default.
    #[default]
    FailClosed,
    /// Every later request passes unseen.
    FailOpen,
    /// The plugin is loaded again, at most once per back-off; until then requests are answered 503.
    FailReload,
}

/// How Envoy would be configured.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Worker threads (Envoy's `--concurrency`).
    pub workers: usize,
    /// Machines with the same id share data and queues.
    pub vm_id: String,
    /// Which of a module's plugins is meant.
    pub root_id: String,
    /// The plugin's name in Envoy's log.
    pub plugin_name: String,
    /// Delivered in `proxy_on_vm_start`.
    pub vm_config: Vec<u8>,
    /// Delivered in `proxy_on_configure`.
    pub plugin_config: Vec<u8>,
    /// What happens after a trap.
    pub failure_policy: FailurePolicy,
    /// Least time between two loads under [`FailurePolicy::FailReload`].
    pub reload_backoff: Duration,
    /// Log lines below it are not kept.
    pub log_level: LogLevel,
    /// How long one callback may run, in steps of 50 ms of real time. Envoy has no limit; without one here an
    /// endless loop would hang a replay.
    pub callback_limit: Option<Duration>,
    /// Memory of one machine.
    pub memory_limit_bytes: usize,
    /// A body that a plugin buffers beyond this is answered 413.
    pub buffer_limit_bytes: usize,
    /// Whether pausing in the header callback still lets the body callback see the body.
    pub allow_on_headers_stop_iteration: bool,
    /// Environment variables for WASI.
    pub environment: Vec<(String, String)>,
    /// Clusters that HTTP calls may go to; `None` for any.
    pub clusters: Option<Vec<String>>,
    /// Answers HTTP calls.
    pub upstream: Option<Upstream>,
    /// Properties that hold for every exchange, such as `xds.node.id`.
    pub properties: Arc<Properties>,
    /// The process this gateway belongs to; share one to share data, queues and metrics.
    pub process: Process,
    /// The time at start.
    pub time_unix_ns: i64,
    /// Seed of the random numbers that WASI gives.
    pub random_seed: u64,
    /// Whether the time in the plugin is measured: [`Worker::in_plugin`].
    pub is_timed: bool,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        GatewayOptions {
            workers: 1,
            vm_id: String::new(),
            root_id: String::new(),
            plugin_name: String::new(),
            vm_config: Vec::new(),
            plugin_config: Vec::new(),
            failure_policy: FailurePolicy::default(),
            reload_backoff: Duration::from_secs(1),
            log_level: LogLevel::Info,
            callback_limit: Some(Duration::from_secs(5)),
            memory_limit_bytes: 1 << 30,
            buffer_limit_bytes: 1 << 20,
            allow_on_headers_stop_iteration: false,
            environment: Vec::new(),
            clusters: None,
            upstream: None,
            properties: Arc::default(),
            process: Process::default(),
            time_unix_ns: 0,
            random_seed: 0,
            is_timed: false,
        }
    }
}

/// Why a plugin did not start, or did not take a configuration.
#[derive(Debug)]
pub struct StartError {
    /// What went wrong.
    pub reason: String,
    /// What the plugin logged before, which usually says why.
    pub logs: Vec<Log>,
}

impl std::fmt::Display for StartError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.reason)?;
        for log in &self.logs {
            write!(
                out,
                "\n  {:?}: {}",
                log.level,
                String::from_utf8_lossy(&log.message)
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for StartError {}

/// A running plugin with all its virtual machines.
pub struct Gateway {
    plan: Arc<Plan>,
    configuration: Arc<[u8]>,
    main: Worker,
    workers: Vec<Worker>,
}

/// A machine that has started, or why not.
pub(super) fn start_vm(
    plan: &Arc<Plan>,
    configuration: &Arc<[u8]>,
    index: usize,
    now_ns: i64,
) -> Result<Vm, StartError> {
    let seed = plan.options.random_seed.wrapping_add(index as u64);
    let mut vm = Vm::new(plan, seed, now_ns).map_err(|(error, effects)| StartError {
        reason: format!("{error:#}"),
        logs: effects.logs,
    })?;
    match vm.start(configuration) {
        Ok(()) => Ok(vm),
        Err(reason) => Err(StartError {
            reason,
            logs: std::mem::take(&mut vm.state().effects.logs),
        }),
    }
}

impl Gateway {
    /// Starts the plugin in every machine.
    ///
    /// # Errors
    /// The plugin traps, or refuses its configuration: with what it logged.
    pub fn start(module: &Module, options: GatewayOptions) -> Result<Gateway, StartError> {
        let configuration: Arc<[u8]> = options.plugin_config.as_slice().into();
        let count = options.workers.max(1);
        let now_ns = options.time_unix_ns;
        let plan = Arc::new(Plan {
            module: module.clone(),
            options,
        });
        start_vm(&plan, &configuration, usize::MAX, now_ns)?;
        let worker = |index| -> Result<Worker, StartError> {
            Ok(Worker::new(
                Arc::clone(&plan),
                Arc::clone(&configuration),
                index,
                start_vm(&plan, &configuration, index, now_ns)?,
            ))
        };
        let main = worker(0)?;
        let workers = (1..=count).map(worker).collect::<Result<_, _>>()?;
        Ok(Gateway {
            plan,
            configuration,
            main,
            workers,
        })
    }

    /// The worker with this index, counted from zero and around the end.
    pub fn worker(&mut self, index: usize) -> &mut Worker {
        let count = self.workers.len();
        &mut self.workers[index % count]
    }

    /// All workers, to be handed to a thread each.
    pub fn workers(&mut self) -> &mut [Worker] {
        &mut self.workers
    }

    /// The main thread's machine, which takes no exchanges but ticks and hears of queues.
    pub fn main(&mut self) -> &mut Worker {
        &mut self.main
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Worker> {
        std::iter::once(&mut self.main).chain(&mut self.workers)
    }

    /// Lets time pass everywhere: ticks that are due, queue notices and expired calls are delivered. What the
    /// plugins did then is in [`Worker::take_effects`].
    pub fn tick(&mut self, time_unix_ns: i64) {
        for worker in self.all() {
            worker.tick(time_unix_ns);
        }
    }

    /// Gives the running plugin another configuration, as an extension-configuration update does: same
    /// machines, new root contexts, and the old ones keep serving if it is refused.
    ///
    /// # Errors
    /// The plugin refuses it, or traps.
    pub fn reconfigure(&mut self, configuration: &[u8]) -> Result<(), StartError> {
        if *self.configuration == *configuration {
            return Ok(());
        }
        let configuration: Arc<[u8]> = configuration.into();
        start_vm(&self.plan, &configuration, usize::MAX, self.main.now_ns())?;
        for worker in self.all() {
            worker.reconfigure(&configuration)?;
        }
        self.configuration = configuration;
        Ok(())
    }

    /// Everything the plugins did outside of exchanges since the last call, all machines together.
    pub fn take_effects(&mut self) -> Effects {
        let mut all = Effects::default();
        for worker in self.all() {
            let effects = worker.take_effects();
            all.logs.extend(effects.logs);
            all.callouts.extend(effects.callouts);
            all.dropped += effects.dropped;
        }
        all
    }

    /// The state shared by the machines.
    pub fn process(&self) -> &Process {
        &self.plan.options.process
    }

    /// Every metric.
    pub fn metrics(&self) -> Vec<MetricSnapshot> {
        self.process().metrics()
    }

    /// What Envoy puts in front of the plugin's log lines for a request, with the colon and space. (Lines of a
    /// root context lack the plugin's name.)
    pub fn log_prefix(&self) -> String {
        let options = &self.plan.options;
        let mut prefix = "wasm log".to_owned();
        for part in [&options.plugin_name, &options.root_id, &options.vm_id] {
            if !part.is_empty() {
                prefix.push(' ');
                prefix.push_str(part);
            }
        }
        prefix + ": "
    }
}
