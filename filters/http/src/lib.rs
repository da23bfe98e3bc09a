//! The HTTP filter: what Envoy loads.
//!
//! Translates callbacks to engine calls and alerts to host effects; no decision is taken here. A
//! request costs one host call, for its headers; one with a body a few more. Everything else the host is asked for (address,
//! time, route) and told (log, filter state, counters) only when a rule matched.
//!
//! An alert leaves in four ways: one JSON line in the log (level warn), filter state for access logs
//! (`%FILTER_STATE(wasm.portcullis.alert_type:PLAIN)%`), counters, and, if the request is blocked,
//! the details of the response code.

mod report;

use std::collections::VecDeque;

use portcullis::body;
use portcullis::correlate::Correlator;
use portcullis::headers::Headers;
use portcullis::inspect::{Facts, Inspector};
use portcullis::policy::{Found, Policy};
use portcullis::ruleset::RuleSet;
use portcullis_abi::{Flow, HeaderMap, Host, Level, Plugin};

use report::Reporter;

/// The rules that ship with the filter.
static SHIPPED_RULES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rules.bin"));

/// Configurations that one VM keeps. Envoy shares a VM among all filters of the same `vm_id`, code and VM
/// configuration, so a route table can bring several.
const INSTANCES: usize = 64;

/// One configured filter.
struct Instance {
    /// The plugin's `name` in the gateway's configuration.
    name: Vec<u8>,
    policy: Policy,
    inspector: Inspector,
    /// Of this worker alone: each has a VM of its own, and none sees what the others count.
    correlator: Correlator,
}

/// All that lives in one VM.
#[derive(Default)]
struct HttpFilter {
    instances: Vec<Instance>,
    reporter: Reporter,
    waiting: Waiting,
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
    block: Vec<u8>,
}

/// Bodies that come in at the same time in one worker. A head is what Envoy accepts, 60 KiB at most by default.
const WAITING: usize = 256;

impl Waiting {
    /// Keeps a head. Returns whether another one had to make room.
    fn add(&mut self, stream: u32, most: usize, block: &[u8]) -> bool {
        let is_full = self.heads.len() >= WAITING;
        if is_full {
            self.heads.pop_front();
        }
        self.heads.push_back(Head {
            stream,
            most,
            block: block.to_vec(),
        });
        is_full
    }

    fn position(&self, stream: u32) -> Option<usize> {
        self.heads.iter().position(|head| head.stream == stream)
    }
}

portcullis_abi::export!(HttpFilter, body);

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
            inspector,
            policy,
            correlator,
            ..
        } = instance;
        let (detected, truncated) = {
            let inspection = inspector.request(headers, &HostFacts(host));
            (!inspection.detections.is_empty(), inspection.truncated)
        };
        if detected || truncated {
            let found = Found {
                event: headers.into(),
                body: None,
                detections: inspector.detections().to_vec(),
            };
            let reported = reporter.report(host, inspector, correlator, policy, found, truncated);
            if reported == Flow::Stop {
                return Flow::Stop;
            }
        }
        if !is_end {
            // What a route says of bodies is looked up for requests that have one.
            let is_lost = match body::is_inspected(headers) {
                true => match reporter.body_bytes(host, policy, inspector.rules(), headers) {
                    0 => false,
                    most => waiting.add(stream, most, block),
                },
                false => policy.gateway.body.inspect != Some(false),
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
        let most = self.waiting.heads.get(at).map_or(0, |head| head.most);
        // The gateway keeps what there is and asks again when there is more.
        if !is_end && bytes < most {
            return Flow::Stop;
        }
        self.inspect_body(host, at, !is_end || bytes > most)
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
        } = self;
        let Some(Head { most, block, .. }) = waiting.heads.remove(at) else {
            return Flow::Continue;
        };
        let Some(instance) = instance_of(host, instances) else {
            return Flow::Continue;
        };
        let Instance {
            inspector,
            policy,
            correlator,
            ..
        } = instance;
        let head = Headers::Block(&block);
        let request = host
            .request_body(most)
            .ok()
            .filter(|content| !content.is_empty())
            .and_then(|content| body::Request::new(head, content));
        let Some(request) = request else {
            return Flow::Continue;
        };
        let pairs = request.pairs();
        let content = Headers::Pairs(&pairs);
        let inspection = inspector.body(head, content, &HostFacts(host));
        let truncated = inspection.truncated || is_cut;
        let detections = inspection.detections.to_vec();
        if detections.is_empty() && !truncated {
            return Flow::Continue;
        }
        let found = Found {
            event: head.into(),
            body: Some(content),
            detections,
        };
        reporter.report(host, inspector, correlator, policy, found, truncated)
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
        let (policy, rules) = Policy::load(configuration, || RuleSet::open(SHIPPED_RULES))
            .map_err(|error| error.to_string())?;
        let name = host.property("plugin_name").unwrap_or_default().to_vec();
        let instance = Instance {
            policy,
            inspector: Inspector::new(rules),
            correlator: Correlator::default(),
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
struct HostFacts<'h>(&'h Host);

impl Facts for HostFacts<'_> {
    fn source_address(&self) -> Option<std::net::IpAddr> {
        let address = std::str::from_utf8(self.0.property("source\0address").ok()?).ok()?;
        portcullis::alert::without_port(address).parse().ok()
    }
}
