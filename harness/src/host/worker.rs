//! A worker: exchanges go in one after the other, what became of each comes out.
//!
//! This is Envoy's filter chain with one filter in it. The request's headers, body and trailers are offered to
//! the plugin in turn, then the response's; a plugin may answer by itself, pause until one of its HTTP calls is
//! answered, or change what is passed on. A local answer travels through the response callbacks like any other.
//! At the end come log, done and delete. Envoy interleaves the streams of a worker; here one follows another.

use std::sync::Arc;

use super::exchange::{
    CalloutReply, Effects, Ending, Exchange, LocalResponse, Outcome, Phase, Response,
};
use super::gateway::{FailurePolicy, StartError, start_vm};
use super::headers::HeaderMap;
use super::vm::{PendingReply, Plan, REQUEST, RESPONSE, Vm};

/// Details of the answer for a stream whose plugin died.
const FAIL_STREAM: &str = "wasm_fail_stream";

/// One worker thread's virtual machine. It may be moved to a thread of the caller's.
pub struct Worker {
    plan: Arc<Plan>,
    configuration: Arc<[u8]>,
    index: usize,
    vm: Vm,
    clock_ns: i64,
    outside: Effects,
    reloads: Reloads,
}

/// How often the plugin was loaded again after it died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Loads that worked.
    pub success: u64,
    /// Loads that failed again.
    pub failure: u64,
    /// Requests that came too soon after the last load to try.
    pub backoff: u64,
}

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the upstream.
    Request = REQUEST as isize,
    /// To the client.
    Response = RESPONSE as isize,
}

/// What the plugin let through in the last exchange, with its changes.
#[derive(Debug)]
pub struct Passed<'a> {
    /// Header lines.
    pub headers: &'a HeaderMap,
    /// The body, or `None` if the plugin does not look at bodies and so cannot have changed it.
    pub body: Option<&'a [u8]>,
    /// Trailers.
    pub trailers: &'a HeaderMap,
}

/// Why an exchange does not simply go on.
enum Stop {
    Reply(PendingReply),
    Trapped,
    Stalled(Phase),
    Reset,
}

/// A body on its way to the plugin.
#[derive(Clone, Copy)]
struct Body<'a> {
    bytes: &'a [u8],
    chunk_bytes: usize,
    end: BodyEnd,
}

/// How a body's end becomes known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    /// With its last piece, as in HTTP/2 and in a local answer.
    Last,
    /// After it: Envoy's HTTP/1 codec reports the end with an empty piece.
    Apart,
    /// With the trailers that follow.
    Trailers,
}

const PHASES: [[Phase; 3]; 2] = [
    [
        Phase::RequestHeaders,
        Phase::RequestBody,
        Phase::RequestTrailers,
    ],
    [
        Phase::ResponseHeaders,
        Phase::ResponseBody,
        Phase::ResponseTrailers,
    ],
];

impl Worker {
    pub(super) fn new(plan: Arc<Plan>, configuration: Arc<[u8]>, index: usize, vm: Vm) -> Self {
        let clock_ns = plan.options.time_unix_ns;
        let outside = Effects::default();
        let mut worker = Worker {
            plan,
            configuration,
            index,
            vm,
            clock_ns,
            outside,
            reloads: Reloads::default(),
        };
        worker.put_outside();
        worker
    }

    pub(super) fn now_ns(&self) -> i64 {
        self.clock_ns
    }

    /// Takes one exchange through the plugin.
    pub fn exchange<B: AsRef<[u8]>>(&mut self, exchange: &Exchange<'_, B>) -> Outcome {
        // Captures are not always in order; back-off is measured on a clock that never goes back.
        self.clock_ns = self.clock_ns.max(exchange.time_unix_ns);
        if self.vm.failure().is_none() {
            self.advance(exchange.time_unix_ns);
        }
        if self.vm.failure().is_some() && !self.reload() {
            return self.without_plugin(exchange);
        }
        self.vm.open_stream(exchange);
        let mut outcome = Outcome::default();
        if let Some(details) = exchange.refused_by_envoy {
            self.vm.stream().details = Some(details.to_owned());
            if let Some(response) = &exchange.response {
                self.load_response(response);
                self.vm.stream().details = Some(details.to_owned());
            }
        } else {
            self.run(exchange, &mut outcome);
        }
        if self.vm.failure().is_none() {
            self.vm.close_stream();
        }
        self.vm.stream().id = 0;
        if let Some(failure) = self.vm.failure() {
            outcome.trapped = Some(failure.to_owned());
        }
        self.fill(&mut outcome);
        outcome
    }

    /// Moves what the plugin did in this exchange to its outcome.
    fn fill(&mut self, outcome: &mut Outcome) {
        let state = self.vm.state();
        if state.effects.bytes != 0 || state.effects.dropped != 0 {
            let effects = std::mem::take(&mut state.effects);
            outcome.logs = effects.logs;
            outcome.callouts = effects.callouts;
            outcome.dropped = effects.dropped;
        }
        outcome.filter_state = state
            .stream
            .filter_state
            .drain(..)
            .map(|(name, value)| (format!("wasm.{}", String::from_utf8_lossy(&name)), value))
            .collect();
    }

    fn run<B: AsRef<[u8]>>(&mut self, exchange: &Exchange<'_, B>, outcome: &mut Outcome) {
        let chunk_bytes = exchange.chunk_bytes;
        let end = match exchange.request_trailers {
            [_, ..] => BodyEnd::Trailers,
            [] if exchange.protocol.starts_with("HTTP/1") => BodyEnd::Apart,
            [] => BodyEnd::Last,
        };
        let body = Body {
            bytes: exchange.request_body,
            chunk_bytes,
            end,
        };
        let mut passed = false;
        let mut side = REQUEST;
        let mut result = self.offer(REQUEST, body, &mut passed);
        if result.is_ok()
            && let Some(response) = &exchange.response
        {
            self.load_response(response);
            side = RESPONSE;
            passed = false;
            let end = if response.trailers.is_empty() {
                BodyEnd::Apart
            } else {
                BodyEnd::Trailers
            };
            result = self.offer(
                RESPONSE,
                Body {
                    bytes: response.body,
                    chunk_bytes,
                    end,
                },
                &mut passed,
            );
        }
        outcome.ending = match result {
            Ok(()) => Ending::Forwarded,
            Err(Stop::Stalled(phase)) => Ending::Stalled(phase),
            Err(Stop::Reset) => Ending::Reset,
            // Once the response's head is on its way there is nothing left to replace.
            Err(_) if side == RESPONSE && passed => Ending::Reset,
            Err(Stop::Trapped) => self.answer(failed(), false, outcome),
            Err(Stop::Reply(reply)) => self.answer(reply, side == REQUEST, outcome),
        };
    }

    fn load_response<B: AsRef<[u8]>>(&mut self, response: &Response<'_, B>) {
        let stream = self.vm.stream();
        let side = &mut stream.sides[RESPONSE];
        side.headers.load(response.headers, false);
        side.has_headers = true;
        side.trailers.load(response.trailers, false);
        side.has_trailers = !response.trailers.is_empty();
        stream.code = side
            .headers
            .get(b":status")
            .and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        stream.details = Some("via_upstream".to_owned());
    }

    /// Offers one direction's headers, body and trailers to the plugin. `passed` becomes true once the headers
    /// have gone on.
    fn offer(&mut self, side: usize, body: Body<'_>, passed: &mut bool) -> Result<(), Stop> {
        let [in_headers, in_body, in_trailers] = PHASES[side];
        let trailers = body.end == BodyEnd::Trailers;
        let end = body.bytes.is_empty() && !trailers;
        let answer = self.vm.on_headers(side, end);
        let pauses = !matches!(answer, 0 | 2);
        // Held headers: the body callback still runs, and letting the body go lets the headers go.
        let held = answer == 1 && !end && self.plan.options.allow_on_headers_stop_iteration;
        let resumed = self.settle(side, pauses && !held, in_headers)?;
        if !held || resumed {
            self.pass_headers(side, passed);
        }

        if !body.bytes.is_empty() {
            self.offer_body(side, body, passed, in_body)?;
        }
        if trailers {
            let answer = self.vm.on_trailers(side);
            self.settle(side, answer != 0, in_trailers)?;
            self.pass_headers(side, passed);
            self.pass_body(side);
            self.vm.stream().sides[side].trailers_open = false;
        }
        Ok(())
    }

    fn offer_body(
        &mut self,
        side: usize,
        body: Body<'_>,
        passed: &mut bool,
        phase: Phase,
    ) -> Result<(), Stop> {
        if !self.vm.looks_at_body(side) {
            self.count_bytes(side, body.bytes.len());
            self.pass_headers(side, passed);
            return Ok(());
        }
        let limit = self.plan.options.buffer_limit_bytes;
        let chunk_bytes = if body.chunk_bytes == 0 {
            body.bytes.len()
        } else {
            body.chunk_bytes
        };
        let apart = (body.end == BodyEnd::Apart).then_some(&[][..]);
        let mut chunks = body.bytes.chunks(chunk_bytes).chain(apart).peekable();
        let mut buffering = false;
        while let Some(chunk) = chunks.next() {
            let end = chunks.peek().is_none() && body.end != BodyEnd::Trailers;
            self.count_bytes(side, chunk.len());
            let buffer = &mut self.vm.stream().sides[side].body;
            if !buffering {
                buffer.clear();
            }
            buffer.extend_from_slice(chunk);
            if buffering && buffer.len() > limit {
                return Err(too_large(side, *passed));
            }
            let answer = self.vm.on_body(side, end);
            let pauses = answer != 0;
            let resumed = self.settle(side, pauses && end, phase)?;
            if !pauses || resumed {
                self.pass_headers(side, passed);
                self.pass_body(side);
                buffering = false;
                continue;
            }
            match answer {
                1 => {
                    buffering = true;
                    if self.vm.stream().sides[side].body.len() > limit {
                        return Err(too_large(side, *passed));
                    }
                }
                // Kept by the proxy, out of the plugin's sight.
                2 => self.pass_body(side),
                // Taken by the plugin.
                _ => self.vm.stream().sides[side].body.clear(),
            }
        }
        Ok(())
    }

    fn count_bytes(&mut self, side: usize, bytes: usize) {
        let stream = self.vm.stream();
        let counter = if side == REQUEST {
            &mut stream.received
        } else {
            &mut stream.sent
        };
        *counter += bytes as u64;
    }

    fn pass_headers(&mut self, side: usize, passed: &mut bool) {
        *passed = true;
        self.vm.stream().sides[side].headers_open = false;
    }

    fn pass_body(&mut self, side: usize) {
        let side = &mut self.vm.stream().sides[side];
        side.passed.extend_from_slice(&side.body);
        side.body.clear();
        side.body_open = false;
    }

    /// Acts on what the plugin asked for in the callback that just returned. Gives whether it resumed.
    fn settle(&mut self, side: usize, paused: bool, phase: Phase) -> Result<bool, Stop> {
        loop {
            if self.vm.failure().is_some() {
                return Err(Stop::Trapped);
            }
            let stream = self.vm.stream();
            if let Some(reply) = stream.reply.take() {
                return Err(Stop::Reply(reply));
            }
            if stream.close {
                stream.details = Some("wasm_close_stream".to_owned());
                return Err(Stop::Reset);
            }
            let resumed = std::mem::take(&mut stream.resume[side]);
            if resumed || !paused {
                return Ok(resumed);
            }
            if !self.vm.answer_callouts() {
                return Err(Stop::Stalled(phase));
            }
        }
    }

    /// Answers the client in place of the upstream. A reply made before the response began goes through the
    /// plugin's response callbacks.
    fn answer(
        &mut self,
        reply: PendingReply,
        through_plugin: bool,
        outcome: &mut Outcome,
    ) -> Ending {
        let (mut response, mut body) = self.render(reply);
        if through_plugin {
            let mut passed = false;
            match self.offer(
                RESPONSE,
                Body {
                    bytes: &body,
                    chunk_bytes: 0,
                    end: BodyEnd::Last,
                },
                &mut passed,
            ) {
                Ok(()) => {
                    if self.vm.looks_at_body(RESPONSE) {
                        body = self.vm.stream().sides[RESPONSE].passed.clone();
                    }
                }
                Err(Stop::Stalled(phase)) => return Ending::Stalled(phase),
                Err(Stop::Reset) => return Ending::Reset,
                Err(_) if passed => return Ending::Reset,
                Err(Stop::Trapped) => (response, body) = self.render(failed()),
                Err(Stop::Reply(second)) => (response, body) = self.render(second),
            }
        }
        let headers = &self.vm.stream().sides[RESPONSE].headers;
        let status = headers
            .get(b":status")
            .and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        response.status = status.unwrap_or(response.status);
        response.headers = headers.regular_lines();
        response.body = body;
        outcome.local_response = Some(response);
        Ending::LocalResponse
    }

    /// Writes a reply as Envoy would send it, in the response's header map. Gives it and its body.
    fn render(&mut self, reply: PendingReply) -> (LocalResponse, Vec<u8>) {
        let stream = self.vm.stream();
        let [request, response] = &mut stream.sides;
        let headers = &mut response.headers;
        let mut status = reply.status;
        let mut body = reply.body;
        let mut grpc_status = None;
        headers.reset(false);
        response.trailers.reset(false);
        response.has_trailers = false;
        response.has_headers = true;
        headers.add(b":status", status.to_string().as_bytes());
        for (name, value) in &reply.headers {
            headers.add(name, value);
        }
        if request.headers.get(b"content-type").is_some_and(is_grpc) {
            // A gRPC client reads its status from the headers of a 200.
            status = 200;
            headers.set(b":status", b"200");
            headers.set(b"content-type", b"application/grpc");
            let code = reply
                .grpc_status
                .unwrap_or_else(|| grpc_status_of(reply.status));
            if headers.get(b"grpc-status").is_none() {
                headers.add(b"grpc-status", code.to_string().as_bytes());
            }
            if !body.is_empty() {
                headers.set(b"grpc-message", &percent_encoded(&body));
            }
            headers.remove(b"content-length");
            body.clear();
            grpc_status = Some(code);
        } else if body.is_empty() {
            headers.remove(b"content-length");
            headers.remove(b"content-type");
        } else {
            headers.set(b"content-length", body.len().to_string().as_bytes());
            if headers.get(b"content-type").is_none() {
                headers.add(b"content-type", b"text/plain");
            }
        }
        if request.headers.get(b":method") == Some(b"HEAD") {
            body.clear();
        }
        stream.code = Some(status);
        stream.details = Some(reply.details.clone());
        let response = LocalResponse {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            details: reply.details,
            grpc_status,
        };
        (response, body)
    }

    /// What a request gets while the plugin is dead.
    fn without_plugin<B: AsRef<[u8]>>(&mut self, exchange: &Exchange<'_, B>) -> Outcome {
        let mut outcome = Outcome::default();
        self.vm.load_unseen(exchange);
        outcome.ending = if self.plan.options.failure_policy == FailurePolicy::FailOpen {
            Ending::Bypassed
        } else {
            self.answer(failed(), false, &mut outcome)
        };
        outcome
    }

    /// Loads a dead plugin again if its policy says so and enough time has passed. True if it lives.
    fn reload(&mut self) -> bool {
        if self.plan.options.failure_policy != FailurePolicy::FailReload {
            return false;
        }
        // Envoy measures from the last load and adds jitter, which a replay must not have.
        let backoff_ns =
            i64::try_from(self.plan.options.reload_backoff.as_nanos()).unwrap_or(i64::MAX);
        if self.clock_ns.saturating_sub(self.vm.loaded_ns) < backoff_ns {
            self.reloads.backoff += 1;
            return false;
        }
        match start_vm(&self.plan, &self.configuration, self.index, self.clock_ns) {
            Ok(vm) => {
                self.put_outside();
                self.vm = vm;
                self.put_outside();
                self.reloads.success += 1;
                true
            }
            Err(error) => {
                self.outside.logs.extend(error.logs);
                self.vm.loaded_ns = self.clock_ns;
                self.reloads.failure += 1;
                false
            }
        }
    }

    fn advance(&mut self, time_unix_ns: i64) {
        self.vm.advance(time_unix_ns);
        self.put_outside();
    }

    /// Sets aside what was done outside of an exchange, so that no request is charged with it.
    fn put_outside(&mut self) {
        let effects = &mut self.vm.state().effects;
        if effects.bytes == 0 && effects.dropped == 0 {
            return;
        }
        let effects = std::mem::take(effects);
        self.outside.dropped += effects.dropped;
        if self.outside.bytes.saturating_add(effects.bytes) > super::MAX_EFFECT_BYTES {
            self.outside.dropped += (effects.logs.len() + effects.callouts.len()) as u64;
            return;
        }
        self.outside.bytes += effects.bytes;
        self.outside.logs.extend(effects.logs);
        self.outside.callouts.extend(effects.callouts);
    }

    /// Lets time pass: a tick that is due, queue notices and expired calls are delivered.
    pub fn tick(&mut self, time_unix_ns: i64) {
        self.clock_ns = self.clock_ns.max(time_unix_ns);
        self.advance(time_unix_ns);
    }

    /// Answers an HTTP call that the plugin made. False if no call with this token waits.
    pub fn reply(&mut self, token: u32, reply: CalloutReply) -> bool {
        let known = self.vm.reply(token, reply);
        self.put_outside();
        known
    }

    pub(super) fn reconfigure(&mut self, configuration: &Arc<[u8]>) -> Result<(), StartError> {
        // A dead machine takes the new configuration when it is loaded again: Envoy makes a new one at once.
        let result = if self.vm.failure().is_some() {
            start_vm(&self.plan, configuration, self.index, self.clock_ns).map(|vm| self.vm = vm)
        } else {
            self.vm.reconfigure(configuration).map_err(|reason| {
                let logs = std::mem::take(&mut self.vm.state().effects.logs);
                StartError { reason, logs }
            })
        };
        self.put_outside();
        result?;
        self.configuration = Arc::clone(configuration);
        Ok(())
    }

    /// What the plugin did outside of exchanges since the last call.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.outside)
    }

    /// Wasm instructions that the plugin's machine has run; 0 unless the module is [`Module::metered`].
    ///
    /// [`Module::metered`]: super::Module::metered
    pub fn instructions(&self) -> u64 {
        self.vm.instructions()
    }

    /// Time spent in the plugin's callbacks, host calls included; none unless
    /// [`GatewayOptions::is_timed`](super::GatewayOptions::is_timed).
    pub fn in_plugin(&self) -> Option<std::time::Duration> {
        self.vm.in_plugin()
    }

    /// Bytes of the plugin's memory, which never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.vm.memory_bytes()
    }

    /// Why the plugin is dead in this worker, if it is.
    pub fn failure(&self) -> Option<&str> {
        self.vm.failure()
    }

    /// How often the plugin was loaded again.
    pub fn reloads(&self) -> Reloads {
        self.reloads
    }

    /// What went through in the last exchange, with the plugin's changes.
    pub fn passed(&self, direction: Direction) -> Passed<'_> {
        let side = &self.vm.peek().stream.sides[direction as usize];
        let body = self
            .vm
            .looks_at_body(direction as usize)
            .then_some(side.passed.as_slice());
        Passed {
            headers: &side.headers,
            body,
            trailers: &side.trailers,
        }
    }
}

/// The answer for a stream whose plugin died.
fn failed() -> PendingReply {
    let grpc_status = Some(14);
    PendingReply {
        status: 503,
        details: FAIL_STREAM.to_owned(),
        grpc_status,
        ..PendingReply::default()
    }
}

fn too_large(side: usize, passed: bool) -> Stop {
    if side == REQUEST {
        return Stop::Reply(PendingReply {
            status: 413,
            details: "request_payload_too_large".to_owned(),
            body: b"Payload Too Large".to_vec(),
            ..PendingReply::default()
        });
    }
    if passed {
        return Stop::Reset;
    }
    Stop::Reply(PendingReply {
        status: 500,
        details: "response_payload_too_large".to_owned(),
        body: b"Internal Server Error".to_vec(),
        ..PendingReply::default()
    })
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest, [] | [b'+', ..]))
}

/// The gRPC status that stands for an HTTP status.
fn grpc_status_of(http: u32) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn percent_encoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' | ..b' ' | b'~'.. => out.extend(format!("%{byte:02X}").bytes()),
            _ => out.push(*byte),
        }
    }
    out
}
