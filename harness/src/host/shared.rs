//! What the plugins of one Envoy process share: data with compare-and-swap, queues, metrics.
//!
//! Goes in: calls of any virtual machine on any thread. Comes out: the value all of them see. Shared data
//! and queues are keyed by `vm_id` only, so two plugins with the same `vm_id` meet there, and both outlive
//! a virtual machine that traps and is loaded again. A [`Process`] stands for the process; gateways that
//! should share get clones of one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::status::Status;

/// One Envoy process: the state that its virtual machines have in common.
#[derive(Clone, Default)]
pub struct Process(Arc<Inner>);

#[derive(Default)]
struct Inner {
    data: Mutex<SharedData>,
    queues: Mutex<Queues>,
    metrics: Mutex<BTreeMap<(String, MetricKind), Arc<Metric>>>,
}

/// Values by key, each with its compare-and-swap number.
type Values = HashMap<Vec<u8>, (Vec<u8>, u32)>;

#[derive(Default)]
struct SharedData {
    by_vm_id: HashMap<String, Values>,
    last_cas: u32,
}

#[derive(Default)]
struct Queues {
    tokens: HashMap<(Vec<u8>, Vec<u8>), u32>,
    by_token: HashMap<u32, Queue>,
}

struct Queue {
    items: VecDeque<Vec<u8>>,
    /// The root context that registered last: it alone hears that an item is ready.
    consumer: Weak<Mailbox>,
    context: u32,
}

/// Queue notices that wait for a virtual machine's own thread.
#[derive(Default)]
pub(super) struct Mailbox {
    waiting: AtomicUsize,
    notices: Mutex<VecDeque<(u32, u32)>>,
}

impl Mailbox {
    /// The next notice as context and queue token.
    pub(super) fn take(&self) -> Option<(u32, u32)> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let notice = lock(&self.notices).pop_front();
        if notice.is_some() {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        notice
    }

    fn put(&self, context: u32, token: u32) {
        lock(&self.notices).push_back((context, token));
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// The last value written by anyone.
    Gauge,
    /// Recorded values: the snapshot gives how many and their sum.
    Histogram,
}

pub(super) struct Metric {
    pub(super) kind: MetricKind,
    value: AtomicU64,
    recorded: AtomicU64,
}

/// A metric's name and value at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricSnapshot {
    /// The name as the plugin defined it; Envoy shows it as `wasmcustom.NAME`.
    pub name: String,
    /// What it is.
    pub kind: MetricKind,
    /// Counter and gauge: the value. Histogram: the sum of what was recorded.
    pub value: u64,
    /// Histogram: how many values were recorded. Otherwise zero.
    pub recorded: u64,
}

impl Metric {
    pub(super) fn increment(&self, offset: i64) -> Status {
        match self.kind {
            MetricKind::Counter if offset > 0 => {
                self.value
                    .fetch_add(offset.unsigned_abs(), Ordering::Relaxed);
                Status::Ok
            }
            MetricKind::Gauge if offset > 0 => {
                self.value
                    .fetch_add(offset.unsigned_abs(), Ordering::Relaxed);
                Status::Ok
            }
            MetricKind::Gauge => {
                self.value
                    .fetch_sub(offset.unsigned_abs(), Ordering::Relaxed);
                Status::Ok
            }
            MetricKind::Counter | MetricKind::Histogram => Status::BadArgument,
        }
    }

    pub(super) fn record(&self, value: u64) {
        match self.kind {
            MetricKind::Counter => {
                self.value.fetch_add(value, Ordering::Relaxed);
            }
            MetricKind::Gauge => self.value.store(value, Ordering::Relaxed),
            MetricKind::Histogram => {
                self.value.fetch_add(value, Ordering::Relaxed);
                self.recorded.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn value(&self) -> Option<u64> {
        (self.kind != MetricKind::Histogram).then(|| self.value.load(Ordering::Relaxed))
    }
}

/// A panic of another thread leaves the maps whole, since nothing in here panics half way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// The shared value of `key` and its compare-and-swap number.
    pub fn shared_data(&self, vm_id: &str, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        lock(&self.0.data).by_vm_id.get(vm_id)?.get(key).cloned()
    }

    pub(super) fn set_shared_data(
        &self,
        vm_id: &str,
        key: &[u8],
        value: &[u8],
        cas: u32,
    ) -> Status {
        let mut guard = lock(&self.0.data);
        let SharedData { by_vm_id, last_cas } = &mut *guard;
        // Zero means "whatever is there", so it is never given out.
        let next = last_cas.wrapping_add(1).max(1);
        if !by_vm_id.contains_key(vm_id) {
            by_vm_id.insert(vm_id.to_owned(), HashMap::new());
        }
        let Some(values) = by_vm_id.get_mut(vm_id) else {
            return Status::InternalFailure;
        };
        match values.get_mut(key) {
            Some((_, current)) if cas != 0 && cas != *current => return Status::CasMismatch,
            Some(entry) => *entry = (value.to_vec(), next),
            None => {
                values.insert(key.to_vec(), (value.to_vec(), next));
            }
        }
        *last_cas = next;
        Status::Ok
    }

    pub(super) fn register_queue(
        &self,
        vm_id: &str,
        name: &[u8],
        context: u32,
        consumer: &Arc<Mailbox>,
    ) -> u32 {
        let mut guard = lock(&self.0.queues);
        let Queues { tokens, by_token } = &mut *guard;
        let fresh = tokens.len() as u32 + 1;
        let token = *tokens
            .entry((vm_id.as_bytes().to_vec(), name.to_vec()))
            .or_insert(fresh);
        let consumer = Arc::downgrade(consumer);
        match by_token.get_mut(&token) {
            Some(queue) => {
                queue.consumer = consumer;
                queue.context = context;
            }
            None => {
                by_token.insert(
                    token,
                    Queue {
                        items: VecDeque::new(),
                        consumer,
                        context,
                    },
                );
            }
        }
        token
    }

    pub(super) fn resolve_queue(&self, vm_id: &[u8], name: &[u8]) -> Option<u32> {
        lock(&self.0.queues)
            .tokens
            .get(&(vm_id.to_vec(), name.to_vec()))
            .copied()
    }

    pub(super) fn enqueue(&self, token: u32, item: &[u8]) -> Status {
        let mut guard = lock(&self.0.queues);
        let Some(queue) = guard.by_token.get_mut(&token) else {
            return Status::NotFound;
        };
        queue.items.push_back(item.to_vec());
        if let Some(consumer) = queue.consumer.upgrade() {
            consumer.put(queue.context, token);
        }
        Status::Ok
    }

    pub(super) fn dequeue(&self, token: u32) -> Result<Vec<u8>, Status> {
        let mut guard = lock(&self.0.queues);
        let queue = guard.by_token.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }

    pub(super) fn define_metric(&self, kind: MetricKind, name: &str) -> Arc<Metric> {
        let mut metrics = lock(&self.0.metrics);
        let metric = metrics.entry((name.to_owned(), kind)).or_insert_with(|| {
            Arc::new(Metric {
                kind,
                value: AtomicU64::new(0),
                recorded: AtomicU64::new(0),
            })
        });
        Arc::clone(metric)
    }

    /// Every metric defined so far, sorted by name.
    pub fn metrics(&self) -> Vec<MetricSnapshot> {
        lock(&self.0.metrics)
            .iter()
            .map(|((name, kind), metric)| MetricSnapshot {
                name: name.clone(),
                kind: *kind,
                value: metric.value.load(Ordering::Relaxed),
                recorded: metric.recorded.load(Ordering::Relaxed),
            })
            .collect()
    }

    /// The value of the counter or gauge called `name`.
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.metrics()
            .into_iter()
            .find(|metric| metric.name == name)
            .map(|metric| metric.value)
    }
}
