//! The HTTP filter: what Envoy loads.
//!
//! Translates callbacks to engine calls and alerts to host effects; no decision is taken here. A
//! request costs one host call, for its headers; one with a body a few more. Everything else the host is asked for (address,
//! time, route) and told (log, filter state, counters) only when a rule matched.
//!
//! With the feature `response` it is another module, `portcullis_http_response.wasm`: one that also asks rules about the
//! status, when a stream is over. Only a stream that a rule was left open for costs anything then, beside the callback.
//!
//! An alert leaves in four ways: one JSON line in the log (level warn), filter state for access logs
//! (`%FILTER_STATE(wasm.portcullis.alert_type:PLAIN)%`), counters, and, if the request is blocked,
//! the details of the response code.

mod pending;
mod report;
mod state;

use std::collections::VecDeque;

use portcullis::body::{self, Interest};
use portcullis::headers::Headers;
use portcullis::inspect::{Facts, Inspector};
use portcullis::policy::{Found, Policy};
use portcullis::ruleset::{OpenError, RuleSet, packed};
use portcullis_abi::{Flow, HeaderMap, Host, Level, Plugin};

use pending::Pending;
use report::Reporter;

/// The rules that ship with the filter, packed.
static SHIPPED_RULES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rules.bin"));

/// Whether this is the module that sees responses.
const SEES_RESPONSES: bool = cfg!(feature = "response");

/// Configurations that one VM keeps. Envoy shares a VM among all filters of the same `vm_id`, code and VM
/// configuration, so a route table can bring several.
const INSTANCES: usize = 64;

/// One configured filter.
struct Instance {
    /// The plugin's `name` in the gateway's configuration.
    name: Vec<u8>,
    policy: Policy,
    inspector: Inspector,
}

/// All that lives in one VM.
#[derive(Default)]
struct HttpFilter {
    shipped: Shipped,
    instances: Vec<Instance>,
    reporter: Reporter,
    waiting: Waiting,
    pending: Pending,
}

/// The rules that ship with the filter, once they are unpacked. All configurations of a VM read the same bytes, which stay
/// as long as it does.
#[derive(Default)]
struct Shipped(Option<&'static [u8]>);

impl Shipped {
    /// Opens them. Unpacks them the first time.
    fn open(&mut self) -> Result<RuleSet, OpenError> {
        let bytes = match self.0 {
            Some(bytes) => bytes,
            None => self.0.insert(packed::unpack(SHIPPED_RULES)?.leak()),
        };
        RuleSet::open(bytes)
    }
}

/// The heads of requests whose bodies are still coming: the host does not give headers out a second time.
///
/// Memory: [`WAITING`] heads; when there are more, the body of the oldest is not inspected, and counted as such.
#[derive(Default)]
struct Waiting {
    heads: VecDeque<Head>,
}

/// A request whose body is still coming.
struct Head {
    stream: u32,
    /// Bytes of its body that are inspected.
    most: usize,
    /// Whether its first bytes have yet to say that it is inspected.
    is_unclear: bool,
    block: Vec<u8>,
}

/// Bytes of a body that tell whether it is inspected, where its head does not.
const FIRST_BYTES: usize = 256;

/// Bodies that come in at the same time in one worker. A head is what Envoy accepts, 60 KiB at most by default.
const WAITING: usize = 256;

impl Waiting {
    /// Keeps a head. Returns whether another one had to make room.
    fn add(&mut self, head: Head) -> bool {
        let is_full = self.heads.len() >= WAITING;
        if is_full {
            self.heads.pop_front();
        }
        self.heads.push_back(head);
        is_full
    }

    fn position(&self, stream: u32) -> Option<usize> {
        self.heads.iter().position(|head| head.stream == stream)
    }
}

#[cfg(not(feature = "response"))]
portcullis_abi::export!(HttpFilter, body);
#[cfg(feature = "response")]
portcullis_abi::export!(HttpFilter, body, log);

impl Plugin for HttpFilter {
    fn configure(&mut self, host: &Host, bytes: usize) -> bool {
        match self.accept(host, bytes) {
            Ok(()) => true,
            Err(reason) => {
                host.log(Level::Error, format!("portcullis: {reason}").as_bytes());
                false
            }
        }
    }

    #[inline]
    fn request_headers(&mut self, host: &Host, stream: u32, is_end: bool) -> Flow {
        let HttpFilter {
            instances,
            reporter,
            waiting,
            pending,
            ..
        } = self;
        let Some(instance) = instance_of(host, instances) else {
            return Flow::Continue;
        };
        if instance.policy.is_off {
            return Flow::Continue;
        }
        let Ok(block) = host.header_block(HeaderMap::Request) else {
            return Flow::Continue;
        };
        let headers = Headers::Block(block);
        let Instance {
            inspector, policy, ..
        } = instance;
        let (detected, truncated) = {
            let inspection = inspector.request(headers, &HostFacts::of(host));
            (!inspection.detections.is_empty(), inspection.truncated)
        };
        let is_open = SEES_RESPONSES && !inspector.awaiting().is_empty();
        if detected || truncated {
            let found = Found {
                event: headers.into(),
                body: None,
                detections: inspector.detections().to_vec(),
            };
            let facts = HostFacts::of(host);
            let reported = reporter.report(&facts, inspector, policy, found, truncated);
            if reported == Flow::Stop {
                return Flow::Stop;
            }
        }
        if is_open && !pending.add(stream) {
            reporter.unasked_response(host);
        }
        if !is_end {
            // What a route says of bodies is looked up for requests that have one.
            let is_lost = match body::interest(headers) {
                Interest::None => policy.gateway.body.inspect != Some(false),
                interest => match reporter.body_bytes(host, policy, inspector.rules(), headers) {
                    0 => false,
                    most => waiting.add(Head {
                        stream,
                        most,
                        is_unclear: interest == Interest::Unclear,
                        block: block.to_vec(),
                    }),
                },
            };
            if is_lost {
                reporter.uninspected_body(host);
            }
        }
        Flow::Continue
    }

    fn request_body(&mut self, host: &Host, stream: u32, bytes: usize, is_end: bool) -> Flow {
        let Some(at) = self.waiting.position(stream) else {
            return Flow::Continue;
        };
        let Some(waiting) = self.waiting.heads.get_mut(at) else {
            return Flow::Continue;
        };
        let most = waiting.most;
        if waiting.is_unclear && bytes > 0 {
            let head = Headers::Block(&waiting.block);
            let start = host.request_body(FIRST_BYTES).unwrap_or_default();
            let is_worth_holding = body::is_worth_holding(head, start);
            if !is_worth_holding && !is_end && body::may_become_worth_holding(head, start) {
                return Flow::Stop;
            }
            waiting.is_unclear = false;
            if !is_worth_holding {
                self.waiting.heads.remove(at);
                self.reporter.uninspected_body(host);
                return Flow::Continue;
            }
        }
        // The gateway keeps what there is and asks again when there is more.
        if !is_end && bytes < most {
            return Flow::Stop;
        }
        self.inspect_body(host, at, !is_end || bytes > most)
    }

    fn log(&mut self, host: &Host, stream: u32) {
        let HttpFilter {
            instances,
            reporter,
            pending,
            ..
        } = self;
        let kept = pending.take(stream);
        let Some(instance) = instance_of(host, instances) else {
            return;
        };
        let Instance {
            inspector, policy, ..
        } = instance;
        let asks_all = inspector.rules().answers().next().is_some();
        if policy.is_off || kept.is_none() && !asks_all {
            return;
        }
        let facts = HostFacts::of(host).with_status();
        let Some(status) = facts.status else {
            return;
        };
        if kept.is_none() && !inspector.concerns_any_request(status) {
            return;
        }
        // What this filter answers itself says nothing about what is behind it.
        let details = host.property("response\0code_details").unwrap_or_default();
        if details.starts_with(report::BLOCKED.as_bytes()) {
            return;
        }
        let Ok(block) = host.header_block(HeaderMap::Request) else {
            return;
        };
        let head = Headers::Block(block);
        let inspection = inspector.response(head, &facts);
        let truncated = inspection.truncated;
        let detections = inspection.detections.to_vec();
        if !detections.is_empty() {
            let found = Found {
                event: head.into(),
                body: None,
                detections,
            };
            reporter.report(&facts, inspector, policy, found, truncated);
        }
        let kept = kept.filter(|kept| !kept.is_empty());
        let request = kept
            .as_ref()
            .and_then(|kept| body::Request::new(head, kept));
        let Some(request) = request else {
            return;
        };
        let inspection = inspector.response_body(head, &request, &facts);
        let truncated = truncated || inspection.truncated;
        let detections = inspection.detections.to_vec();
        if !detections.is_empty() {
            let found = Found {
                event: head.into(),
                body: Some(&request),
                detections,
            };
            reporter.report(&facts, inspector, policy, found, truncated);
        }
    }

    fn request_trailers(&mut self, host: &Host, stream: u32) -> Flow {
        // Of a body that went on to the upstream before, nothing is waiting.
        match self.waiting.position(stream) {
            Some(at) => self.inspect_body(host, at, false),
            None => Flow::Continue,
        }
    }
}

impl HttpFilter {
    /// Inspects the body that the host holds back, of the request whose head is at this place. `is_cut` says that there is
    /// more of it than is inspected.
    fn inspect_body(&mut self, host: &Host, at: usize, is_cut: bool) -> Flow {
        let HttpFilter {
            instances,
            reporter,
            waiting,
            pending,
            ..
        } = self;
        let Some(Head {
            stream,
            most,
            block,
            ..
        }) = waiting.heads.remove(at)
        else {
            return Flow::Continue;
        };
        let Some(instance) = instance_of(host, instances) else {
            return Flow::Continue;
        };
        let Instance {
            inspector, policy, ..
        } = instance;
        let head = Headers::Block(&block);
        let content = host.request_body(most).unwrap_or_default();
        if content.is_empty() {
            return Flow::Continue;
        }
        let Some(request) = body::Request::new(head, content) else {
            reporter.uninspected_body(host);
            return Flow::Continue;
        };
        let facts = HostFacts::of(host);
        let inspection = inspector.body(head, &request, &facts);
        let truncated = inspection.truncated || is_cut;
        let detections = inspection.detections.to_vec();
        if SEES_RESPONSES && !inspector.awaiting().is_empty() && !pending.add_body(stream, content)
        {
            reporter.unasked_response(host);
        }
        if detections.is_empty() && !truncated {
            return Flow::Continue;
        }
        let found = Found {
            event: head.into(),
            body: Some(&request),
            detections,
        };
        let reported = reporter.report(&facts, inspector, policy, found, truncated);
        if reported == Flow::Stop {
            pending.take(stream);
        }
        reported
    }

    fn accept(&mut self, host: &Host, bytes: usize) -> Result<(), String> {
        let configuration = match bytes {
            0 => &[][..],
            _ => host.plugin_configuration(bytes).map_err(|status| {
                format!(
                    "the host does not give out the configuration (status {})",
                    status.0
                )
            })?,
        };
        let (policy, rules) = Policy::load(configuration, || self.shipped.open())
            .map_err(|error| error.to_string())?;
        if let Some(rule) = rules.needs_response().filter(|_| !SEES_RESPONSES) {
            return Err(format!(
                "ruleset: the rule `{}` ({}) asks for the response, which this module does not see; load \
                 portcullis_http_response.wasm in its place, or leave the rule out",
                rules.text(rule.title),
                rules.text(rule.path)
            ));
        }
        let name = host.property("plugin_name").unwrap_or_default().to_vec();
        let mut inspector = Inspector::new(rules);
        inspector.set_scope(policy.scope());
        let instance = Instance {
            policy,
            inspector,
            name,
        };
        let full = self.instances.len() >= INSTANCES;
        match self
            .instances
            .iter_mut()
            .find(|known| known.name == instance.name)
        {
            Some(known) => *known = instance,
            None if full => {
                return Err(format!(
                    "one VM keeps at most {INSTANCES} configurations: give filters another `vm_id`"
                ));
            }
            None => self.instances.push(instance),
        }
        Ok(())
    }
}

#[inline]
fn instance_of<'i>(host: &Host, instances: &'i mut [Instance]) -> Option<&'i mut Instance> {
    match instances {
        [only] => Some(only),
        several => named(host, several),
    }
}

/// The instance that the current stream belongs to. Several share a VM only if somebody configured
/// them so; then each needs a `name` of its own, since nothing else that the host tells a stream is.
#[cold]
fn named<'i>(host: &Host, instances: &'i mut [Instance]) -> Option<&'i mut Instance> {
    let name = host.property("plugin_name").ok()?;
    instances.iter_mut().find(|instance| instance.name == name)
}

/// What a rule asks the host for.
#[derive(Clone, Copy)]
struct HostFacts<'h> {
    host: &'h Host,
    /// Status of the response, once it is asked about.
    status: Option<u16>,
}

impl<'h> HostFacts<'h> {
    fn of(host: &'h Host) -> HostFacts<'h> {
        HostFacts { host, status: None }
    }

    /// The same once there is a response. A client that hung up before got none.
    fn with_status(self) -> HostFacts<'h> {
        let number = self.host.property("response\0code").ok();
        let number = number.and_then(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk::<8>()?)));
        HostFacts {
            status: number.and_then(|number| u16::try_from(number).ok().filter(|code| *code > 0)),
            ..self
        }
    }
}

impl Facts for HostFacts<'_> {
    fn source_address(&self) -> Option<std::net::IpAddr> {
        let address = std::str::from_utf8(self.host.property("source\0address").ok()?).ok()?;
        portcullis::alert::without_port(address).parse().ok()
    }

    fn status(&self) -> Option<u16> {
        self.status
    }
}
