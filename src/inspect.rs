//! One event in, detections out: the road from headers to matched rules.
//!
//! ```text
//! headers ──► classes ──► decoded views ──► scan ──► candidates? ──no──► nothing (nearly always)
//!                                                        │yes
//!                                           texts ──► evaluate ──► detections
//! ```
//!
//! A request in which the `command` detector found a command line is two events: beside the request, the
//! command line is held against the rules for processes, as what would have run if the request had got
//! its way. Detections of those rules are attempts.
//!
//! Cookies and headers that no lane reads are only glanced at. What looks like more than an ordinary value is inspected as the
//! query of a request of its own ([`suspect`](crate::suspect)), so that every rule about parameters is asked about it as well.
//!
//! A rule that asks for the response (`sc-status`) is left open while there is none. If the request alone does
//! not rule it out, the request *awaits* its response, and is asked about once more when that has come:
//!
//! ```text
//! request ──► inspect::request ──► awaiting? ──no──► nothing more (nearly always)
//!                                      │yes
//! response ────────────────────────────┴──► inspect::response ──► detections
//! ```
//!
//! An [`Inspector`] owns all memory that an inspection needs and reuses it: an unsuspicious request
//! allocates nothing. Traffic never makes it fail: any bytes are an event, what is over a limit is
//! left out, and [`Inspection::truncated`] says so.

use std::net::IpAddr;

use crate::body;
use crate::correlate::Correlated;
use crate::decoded::{Decoded, bounded_split, is_plain_name, split_pair, split_url};
use crate::evaluate::{Evaluation, Observe, Outcome, Spot, Work};
use crate::event::{Source, Text, View};
use crate::field::{Field, Lane};
use crate::headers::Headers;
use crate::limits;
use crate::normalise::{self, Classes, Signs};
use crate::remember::Remembered;
use crate::ruleset::RuleSet;
use crate::ruleset::layout::{MatcherRecord, Record, RuleRecord, Section};
use crate::scan::Hits;
use crate::sorted;
use crate::structure::{self, Structure, shell};
use crate::suspect::{self, Scope, Suspects};

/// What else is known of a request, asked for only when a rule needs it: in a gateway each answer
/// costs a call to the host.
pub trait Facts {
    /// Address of the client.
    fn source_address(&self) -> Option<IpAddr> {
        None
    }
    /// Status of the response, once there is one.
    fn status(&self) -> Option<u16> {
        None
    }
}

/// Nothing else is known.
impl Facts for () {}

/// One matched rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// Index of the rule in its ruleset.
    pub rule: u32,
    /// How sure it is, 0 to 100.
    pub confidence: u8,
    /// What it rests on; a rule that matches because something is absent has none.
    pub evidence: Option<Evidence>,
    /// Of a correlation: what it counted. It has no evidence.
    pub correlated: Option<Box<Correlated>>,
}

impl Detection {
    /// Whether its rule asks for the response.
    pub(crate) fn needs_response(&self, rules: &RuleSet) -> bool {
        rules
            .rule(self.rule)
            .is_some_and(|rule| rule.needs_response != 0)
    }
}

/// The text that made a rule match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Field.
    pub field: Field,
    /// Name of the parameter, cookie or header, if the field has one.
    pub name: Vec<u8>,
    /// Which view of the field.
    pub view: View,
    /// Offset of the match in that view, in bytes.
    pub offset: usize,
    /// The match with a little of what stands around it, at most [`limits::EVIDENCE_BYTES`].
    pub text: Vec<u8>,
}

/// What came of one event.
#[derive(Debug)]
pub struct Inspection<'a> {
    /// Matched rules, in the order of their numbers.
    pub detections: &'a [Detection],
    /// Whether some part of the event was over a limit and not inspected.
    pub truncated: bool,
}

/// Holds events against one ruleset.
#[derive(Debug)]
pub struct Inspector {
    rules: RuleSet,
    /// Whether some rule asks for the client's address.
    reads_address: bool,
    /// Whether some rule names a body itself.
    reads_body: bool,
    hits: Hits,
    decoded: Decoded,
    detections: Vec<Detection>,
    remembered: Remembered,
    /// The same for request targets.
    targets: Remembered,
    /// Command lines that the last request tries to inject.
    commands: Vec<Injected>,
    /// Whether some rule asks for the response.
    reads_response: bool,
    /// Rules that the last request leaves open until its response is there.
    awaiting: Vec<u32>,
    /// What may still be spent on the last event.
    work: Work,
    /// Which cookies and other headers are inspected.
    scope: Scope,
    /// Whether some of the last request's may be worth it.
    has_suspects: bool,
}

/// Which rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Those that need no response; of the others it is noted whether they are open.
    Request,
    /// Those that need the response, which is there.
    Response,
    /// All of them, with what is known.
    Both,
}

/// A command line in a request.
#[derive(Debug, PartialEq, Eq)]
struct Injected {
    /// Name of the parameter, cookie or header that holds it.
    name: Vec<u8>,
    line: Vec<u8>,
    /// How sure it is that this is injected; a rule about the command cannot be surer.
    confidence: u8,
}

impl Inspector {
    /// An inspector for these rules.
    pub fn new(rules: RuleSet) -> Inspector {
        let matchers = rules.section(Section::Matchers).len() / MatcherRecord::BYTES;
        let reads_address = (0..matchers)
            .filter_map(|index| rules.record::<MatcherRecord>(Section::Matchers, index))
            .any(|matcher| matcher.field == Field::SourceIp as u8);
        Inspector {
            reads_body: rules.lane(Lane::Body).is_read(),
            reads_address,
            hits: Hits::new(&rules),
            decoded: Decoded::default(),
            detections: Vec::new(),
            remembered: Remembered::new(limits::REMEMBERED_TEXTS, limits::REMEMBERED_BYTES),
            targets: Remembered::new(limits::REMEMBERED_TARGETS, limits::REMEMBERED_TARGET_BYTES),
            commands: Vec::new(),
            reads_response: rules.needs_response().is_some(),
            awaiting: Vec::new(),
            work: Work::default(),
            scope: Scope::default(),
            has_suspects: false,
            rules,
        }
    }

    /// Has these cookies and other headers inspected from now on.
    pub fn set_scope(&mut self, scope: Scope) {
        self.scope = scope;
    }

    /// Whether some rule asks for the response.
    #[inline]
    pub fn reads_response(&self) -> bool {
        self.reads_response
    }

    /// The rules that the last request leaves open until its response is there.
    #[inline]
    pub fn awaiting(&self) -> &[u32] {
        &self.awaiting
    }

    /// Steps that the last head took, of [`limits::SHORT_WORK`] and of [`limits::LONG_WORK`].
    pub fn spent(&self) -> (u32, u32) {
        self.work.spent()
    }

    /// Whether a response of this status concerns a rule whatever the request was.
    pub fn concerns_any_request(&self, status: u16) -> bool {
        let status = status.to_string();
        let evaluation = Evaluation {
            rules: &self.rules,
            texts: &[Text::raw(Field::Status, status.as_bytes())],
            hits: &self.hits,
            work: &Work::default(),
        };
        let known = |field| field == Field::Status;
        self.rules
            .answers()
            .filter_map(|rule| self.rules.rule(rule))
            .any(|rule| evaluation.so_far(rule.root, &|field| !known(field)) != Some(false))
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Detections of the last event, in the order of their rules' numbers.
    pub fn detections(&self) -> &[Detection] {
        &self.detections
    }

    /// Inspects the head of a request.
    #[inline]
    pub fn request(&mut self, headers: Headers<'_>, facts: &dyn Facts) -> Inspection<'_> {
        let inspection = self.inspect(headers, facts, Phase::Request, Work::default());
        let mut truncated = inspection.truncated;
        if self.has_suspects {
            truncated |= self.inspect_suspects(headers, facts);
        }
        Inspection {
            detections: &self.detections,
            truncated,
        }
    }

    /// Inspects the head of a request but for its cookies and the headers that no rule names.
    pub fn request_alone(&mut self, headers: Headers<'_>, facts: &dyn Facts) -> Inspection<'_> {
        self.inspect(headers, facts, Phase::Request, Work::default())
    }

    /// Inspects the cookies and headers of the last request that are worth it, as the query of a request for `/`, and adds
    /// what is found. Returns whether something was left out. Rules about the response are not asked.
    #[cold]
    #[inline(never)]
    fn inspect_suspects(&mut self, headers: Headers<'_>, facts: &dyn Facts) -> bool {
        let lane = |name: &[u8]| lane_of(name).map(|(lane, _)| lane);
        let suspects = Suspects::of(headers.iter().take(limits::HEADERS), self.scope, lane);
        let Some(target) = suspects.target() else {
            return suspects.is_cut();
        };
        let found = std::mem::take(&mut self.detections);
        let awaiting = std::mem::take(&mut self.awaiting);
        let pairs: Vec<(&[u8], &[u8])> = headers
            .iter()
            .filter(|(name, _)| matches!(*name, b":method" | b":authority" | b"host"))
            .chain([(&b":path"[..], target)])
            .collect();
        let as_query = Headers::Pairs(&pairs);
        let truncated = self
            .inspect(as_query, facts, Phase::Request, Work::default())
            .truncated;
        self.awaiting = awaiting;
        let is_new = |detection: &Detection| found.iter().all(|known| known.rule != detection.rule);
        self.detections
            .retain_mut(|detection| is_new(detection) && suspects.name_field(detection));
        self.detections.extend(found);
        sorted::by_key(&mut self.detections, |detection| u64::from(detection.rule));
        truncated || suspects.is_cut()
    }

    /// Inspects the head of a request again, whose status the facts know now, for the rules that ask for it.
    pub fn response(&mut self, headers: Headers<'_>, facts: &dyn Facts) -> Inspection<'_> {
        self.inspect(headers, facts, Phase::Response, Work::default())
    }

    #[inline]
    fn inspect(
        &mut self,
        headers: Headers<'_>,
        facts: &dyn Facts,
        phase: Phase,
        work: Work,
    ) -> Inspection<'_> {
        self.work = work;
        let mut first = [const { First::None }; FIRSTS];
        let truncated = self.scan_request(headers, Some(&mut first));
        if phase == Phase::Response {
            self.hits.add_answers(&self.rules);
        }
        if self.hits.candidates().is_empty() {
            self.remember_without_candidates(&first);
            return Inspection {
                detections: &[],
                truncated,
            };
        }
        self.scan_passed_over(&mut first);
        let truncated = truncated || self.decoded.truncated();
        let lanes = self.lanes_of_candidates();
        self.evaluate_request(headers, facts, (lanes, phase), &first, &mut ());
        // What the request tries to run was asked about when it came.
        if phase != Phase::Response {
            self.evaluate_commands();
        }
        Inspection {
            detections: &self.detections,
            truncated: truncated || self.work.is_cut(),
        }
    }

    /// Inspects the body of a request. Leaves the detections of rules that the head alone, which was inspected before, does
    /// not match, and as awaiting the rules that the head alone does not leave open.
    pub fn body(
        &mut self,
        head: Headers<'_>,
        body: &body::Request<'_>,
        facts: &dyn Facts,
    ) -> Inspection<'_> {
        self.beyond_head(head, body, facts, Phase::Request)
    }

    /// What [`Inspector::body`] is to [`Inspector::request`], to [`Inspector::response`].
    pub fn response_body(
        &mut self,
        head: Headers<'_>,
        body: &body::Request<'_>,
        facts: &dyn Facts,
    ) -> Inspection<'_> {
        self.beyond_head(head, body, facts, Phase::Response)
    }

    fn beyond_head(
        &mut self,
        head: Headers<'_>,
        body: &body::Request<'_>,
        facts: &dyn Facts,
        phase: Phase,
    ) -> Inspection<'_> {
        let pairs = body.as_query();
        let as_query = Headers::Pairs(&pairs);
        let mut truncated = self
            .inspect(as_query, facts, phase, Work::for_body())
            .truncated;
        if !self.detections.is_empty() || !self.awaiting.is_empty() {
            let found = std::mem::take(&mut self.detections);
            let mut awaiting = std::mem::take(&mut self.awaiting);
            self.inspect(head, facts, phase, Work::default());
            let known = std::mem::take(&mut self.detections);
            let is_new =
                |detection: &Detection| known.iter().all(|known| known.rule != detection.rule);
            self.detections = found.into_iter().filter(is_new).collect();
            awaiting.retain(|rule| !self.awaiting.contains(rule));
            self.awaiting = awaiting;
        }
        // Rules that name the body may name the rest of the request as well, so they see both as they are.
        if self.reads_body {
            let found = std::mem::take(&mut self.detections);
            let awaiting = std::mem::take(&mut self.awaiting);
            let pairs = body.beside_head();
            let beside_head = Headers::Pairs(&pairs);
            truncated |= self
                .inspect(beside_head, facts, phase, Work::for_body())
                .truncated;
            let rules = &self.rules;
            self.detections
                .retain(|detection| reads_body(rules, detection.rule));
            self.detections.extend(found);
            sorted::by_key(&mut self.detections, |detection| u64::from(detection.rule));
            self.awaiting.retain(|rule| reads_body(rules, *rule));
            self.awaiting.extend(awaiting);
        }
        Inspection {
            detections: &self.detections,
            truncated: truncated || body.is_cut(),
        }
    }

    /// Whether a rule names the body itself, so that it holds for a request with one only.
    pub fn reads_body(&self, rule: u32) -> bool {
        self.reads_body && reads_body(&self.rules, rule)
    }

    /// Inspects the head of a request with every rule evaluated, whatever the prefilter says. Slow; the
    /// answer is the same, which the tests hold the prefilter to.
    pub fn exhaustive(&mut self, headers: Headers<'_>, facts: &dyn Facts) -> Inspection<'_> {
        self.explain_every_rule(headers, facts, &mut ())
    }

    /// The same, and shows `watch` the texts and each answer.
    pub fn explain_every_rule(
        &mut self,
        headers: Headers<'_>,
        facts: &dyn Facts,
        watch: &mut impl Watch,
    ) -> Inspection<'_> {
        let truncated = self.scan_request(headers, None);
        self.hits.fill();
        // Every rule is asked, which nobody would have paid for.
        self.work = Work::unlimited();
        let everything = (RuleRecord::READS_ALL, Phase::Both);
        self.evaluate_request(headers, facts, everything, &[], watch);
        self.evaluate_commands();
        let mut truncated = truncated || self.work.is_cut();
        if self.has_suspects {
            truncated |= self.inspect_suspects(headers, facts);
        }
        Inspection {
            detections: &self.detections,
            truncated,
        }
    }

    /// Inspects an event that is a list of fields, such as the start of a process.
    pub fn fields(&mut self, source: Source, fields: &[(Field, &[u8])]) -> Inspection<'_> {
        self.scan_event(fields);
        if self.hits.candidates().is_empty() {
            return Inspection {
                detections: &[],
                truncated: false,
            };
        }
        self.evaluate_event(source, fields, &mut ())
    }

    /// The same, and shows `watch` the texts, the hits and each answer.
    pub fn explain_fields(
        &mut self,
        source: Source,
        fields: &[(Field, &[u8])],
        watch: &mut impl Watch,
    ) -> Inspection<'_> {
        self.scan_event(fields);
        self.evaluate_event(source, fields, watch)
    }

    fn scan_event(&mut self, fields: &[(Field, &[u8])]) {
        self.commands.clear();
        self.detections.clear();
        self.decoded.clear();
        self.work = Work::default();
        self.scan_fields(fields);
    }

    fn evaluate_event(
        &mut self,
        source: Source,
        fields: &[(Field, &[u8])],
        watch: &mut impl Watch,
    ) -> Inspection<'_> {
        let texts: Vec<Text<'_>> = fields
            .iter()
            .map(|(field, bytes)| Text::raw(*field, bytes))
            .collect();
        watch.texts(&texts);
        self.evaluate(source, Phase::Both, &texts, watch);
        Inspection {
            detections: &self.detections,
            truncated: self.work.is_cut(),
        }
    }

    /// Inspects the head of a request and shows `watch` the texts, the hits and each answer.
    pub fn explain(
        &mut self,
        headers: Headers<'_>,
        facts: &dyn Facts,
        watch: &mut impl Watch,
    ) -> Inspection<'_> {
        self.work = Work::default();
        let truncated = self.scan_request(headers, None);
        if facts.status().is_some() {
            self.hits.add_answers(&self.rules);
        }
        let everything = (RuleRecord::READS_ALL, Phase::Both);
        self.evaluate_request(headers, facts, everything, &[], watch);
        self.evaluate_commands();
        let mut truncated = truncated || self.work.is_cut();
        if self.has_suspects {
            truncated |= self.inspect_suspects(headers, facts);
        }
        Inspection {
            detections: &self.detections,
            truncated,
        }
    }

    /// Scans every text of a request. Returns whether something was over a limit. With `first`, a
    /// User-Agent and a Referer that are known to be harmless are passed over, and what was scanned
    /// instead is noted there.
    #[inline]
    fn scan_request<'h>(
        &mut self,
        headers: Headers<'h>,
        mut first: Option<&mut [First<'h>; FIRSTS]>,
    ) -> bool {
        let scope = self.scope;
        let mut has_suspects = false;
        let Inspector {
            rules,
            hits,
            decoded,
            detections,
            remembered,
            targets,
            commands,
            awaiting,
            ..
        } = self;
        hits.clear();
        decoded.clear();
        detections.clear();
        commands.clear();
        awaiting.clear();
        let mut truncated = false;
        for (index, (name, value)) in headers.iter().enumerate() {
            if index == limits::HEADERS {
                truncated = true;
                break;
            }
            let Some((lane, field)) = lane_of(name) else {
                continue;
            };
            if matches!(lane, Lane::Header | Lane::Cookie) && scope == Scope::Suspicious {
                has_suspects |= suspect::may_be_telling(lane, value);
            }
            // A lane in which nothing opens a rule needs no look before some rule is open.
            if !rules.opens_in(lane) {
                continue;
            }
            let value = bounded(value, &mut truncated);
            let header = Numbered { index, name, value };
            if let Some(first) = first_of(&mut first, lane) {
                match first {
                    First::None if memory_of(remembered, targets, lane).has(lane, value) => {
                        *first = First::PassedOver(lane, header);
                        continue;
                    }
                    First::None => *first = First::Scanned(lane, value),
                    // A second header of this kind: together they may mean what neither means alone.
                    First::PassedOver(_, passed) => {
                        scan_header(rules, hits, decoded, (lane, field), passed);
                        *first = First::Several;
                    }
                    First::Scanned(..) | First::Several => *first = First::Several,
                }
            }
            scan_header(rules, hits, decoded, (lane, field), &header);
        }
        let signs = decoded.signs();
        if !signs.is_empty() {
            for (sign, name) in Signs::NAMES {
                if signs.has(sign) {
                    hits.scan(rules, Lane::Uri, name.as_bytes(), 0, 0);
                }
            }
        }
        hits.finish(rules);
        let truncated = truncated || decoded.truncated();
        self.has_suspects = has_suspects || scope == Scope::All;
        truncated
    }

    /// Scans the texts that were passed over but are read by a rule that something else made a candidate.
    fn scan_passed_over(&mut self, first: &mut [First<'_>]) {
        // What one of the two opens may read the other.
        for _ in 0..first.len() {
            let is_passed_over = |first: &First<'_>| matches!(first, First::PassedOver(..));
            if !first.iter().any(is_passed_over) {
                return;
            }
            let lanes = self.lanes_of_candidates();
            let mut has_scanned = false;
            for first in &mut *first {
                if let First::PassedOver(lane, header) = first
                    && lanes & u16::from(lane.bit()) != 0
                    && let Some(of) = lane_of(header.name)
                {
                    let Inspector {
                        rules,
                        hits,
                        decoded,
                        ..
                    } = self;
                    scan_header(rules, hits, decoded, of, header);
                    *first = First::Several;
                    has_scanned = true;
                }
            }
            if !has_scanned {
                return;
            }
            self.hits.finish(&self.rules);
        }
    }

    /// What the candidates read, together; see [`RuleRecord::reads`].
    fn lanes_of_candidates(&self) -> u16 {
        let rules = self.hits.candidates().iter();
        rules.fold(0, |lanes, rule| lanes | self.rules.reads(*rule))
    }

    /// Scans the texts of an event that is a list of fields. Texts of processes, which come again and again, are passed
    /// over if they were there before and no event with them opened a rule; if the others open one, they are scanned
    /// after all.
    fn scan_fields(&mut self, fields: &[(Field, &[u8])]) {
        let Inspector {
            rules,
            hits,
            remembered,
            ..
        } = self;
        let texts = || {
            fields
                .iter()
                .filter_map(|(field, bytes)| Some((field.lane()?, *bytes)))
        };
        let scan = |hits: &mut Hits, lane, text| {
            let classes = normalise::classes(text);
            hits.scan(rules, lane, text, classes, classes);
        };
        hits.clear();
        let mut passed_over = false;
        for (lane, text) in texts() {
            match lane == Lane::Process && remembered.has(lane, text) {
                true => passed_over = true,
                false => scan(hits, lane, text),
            }
        }
        hits.finish(rules);
        if hits.candidates().is_empty() {
            for (lane, text) in texts().filter(|(lane, _)| *lane == Lane::Process) {
                if remembered.comes_again(lane, text) {
                    remembered.keep(lane, text);
                }
            }
        } else if passed_over {
            for (lane, text) in texts() {
                scan(hits, lane, text);
            }
            hits.finish(rules);
        }
    }

    /// Makes the views of the lanes that were not scanned but are read by rules.
    fn decode_the_rest(&self, headers: Headers<'_>, lanes: u16, decoded: &mut Decoded) {
        for (index, (name, value)) in headers.iter().take(limits::HEADERS).enumerate() {
            let Some((lane, field)) = lane_of(name) else {
                continue;
            };
            let record = self.rules.lane(lane);
            if self.rules.opens_in(lane) || !record.is_read() || lanes & u16::from(lane.bit()) == 0
            {
                continue;
            }
            let value = bounded(value, &mut false);
            make_views(
                decoded,
                index,
                (lane, field),
                name,
                value,
                normalise::classes(value),
                &mut |_, _| {},
            );
        }
    }

    fn evaluate_request(
        &mut self,
        headers: Headers<'_>,
        facts: &dyn Facts,
        (lanes, phase): (u16, Phase),
        first: &[First<'_>],
        watch: &mut impl Watch,
    ) {
        let mut decoded = std::mem::take(&mut self.decoded);
        self.decode_the_rest(headers, lanes, &mut decoded);
        let address = facts.source_address_if(self.reads_address);
        let status = match phase {
            Phase::Request => None,
            Phase::Response | Phase::Both => facts.status().map(|status| status.to_string()),
        };
        let mut texts = request_texts(headers, &decoded, lanes);
        if let Some(address) = &address {
            texts.push(Text::raw(Field::SourceIp, address.as_bytes()));
        }
        if let Some(status) = &status {
            texts.push(Text::raw(Field::Status, status.as_bytes()));
        }
        let signs = decoded.signs();
        let named = Signs::NAMES.iter().filter(|(sign, _)| signs.has(*sign));
        texts.extend(named.map(|(_, name)| Text::raw(Field::UriEncoding, name.as_bytes())));
        watch.texts(&texts);
        self.evaluate(Source::Request, phase, &texts, watch);
        if signs.is_empty() && !decoded.truncated() {
            self.remember(first, &texts);
        }
        self.decoded = decoded;
    }

    /// Remembers the texts that were scanned when nothing made any rule a candidate.
    #[inline]
    fn remember_without_candidates(&mut self, first: &[First<'_>]) {
        if !self.decoded.signs().is_empty() || self.decoded.truncated() {
            return;
        }
        for first in first {
            if let First::Scanned(lane, value) = first {
                let memory = memory_of(&mut self.remembered, &mut self.targets, *lane);
                if memory.comes_again(*lane, value) {
                    memory.keep(*lane, value);
                }
            }
        }
    }

    /// Remembers the texts that were scanned and satisfied no question of a rule that they may have made a
    /// candidate: whatever else a request holds, they can open none.
    fn remember(&mut self, first: &[First<'_>], texts: &[Text<'_>]) {
        let Inspector {
            rules,
            hits,
            remembered,
            targets,
            detections,
            work,
            ..
        } = self;
        let evaluation = Evaluation {
            rules,
            texts,
            hits,
            work,
        };
        for first in first {
            let First::Scanned(lane, value) = first else {
                continue;
            };
            // Where an attack is found, it is nearly always the target that holds it.
            let memory = memory_of(remembered, targets, *lane);
            if *lane == Lane::Uri && !detections.is_empty() || !memory.comes_again(*lane, value) {
                continue;
            }
            let mut readers = hits
                .candidates()
                .iter()
                .filter(|rule| rules.reads(**rule) & u16::from(lane.bit()) != 0)
                .filter_map(|rule| rules.rule(*rule));
            // What there was no work left to ask is not known to be harmless.
            if readers.all(|rule| !evaluation.concerns(rule.root, *lane)) && !work.is_cut() {
                memory.keep(*lane, value);
            }
        }
    }

    fn evaluate(
        &mut self,
        source: Source,
        phase: Phase,
        texts: &[Text<'_>],
        watch: &mut impl Watch,
    ) {
        let Inspector {
            rules,
            hits,
            detections,
            commands,
            awaiting,
            work,
            ..
        } = self;
        watch.hits(rules, hits);
        let evaluation = Evaluation {
            rules,
            texts,
            hits,
            work,
        };
        for &index in hits.candidates() {
            let Some(rule) = rules.rule(index).filter(|rule| rule.source == source as u8) else {
                continue;
            };
            // What a rule says of a body it says of none as long as there is none.
            if rule.reads & u16::from(Lane::Body.bit()) != 0
                && source == Source::Request
                && texts
                    .iter()
                    .all(|text| text.field.lane() != Some(Lane::Body))
            {
                continue;
            }
            match (phase, rule.needs_response != 0) {
                (Phase::Request, true) => {
                    let so_far = evaluation.so_far(rule.root, &|field| field.needs_response());
                    if so_far != Some(false) {
                        awaiting.push(index);
                    }
                    continue;
                }
                (Phase::Response, false) => continue,
                _ => {}
            }
            watch.rule(index, &rule);
            let outcome = evaluation.condition(rule.root, watch);
            watch.outcome(index, &outcome);
            if !outcome.matches {
                continue;
            }
            if let Some(spot) = outcome.spot
                && spot.detector == Some(Structure::Command)
                && source == Source::Request
            {
                keep_commands(spot, texts, work, commands);
            }
            detections.push(detection(index, &rule, outcome, texts));
        }
        sorted::by_key(detections, |detection| u64::from(detection.rule));
    }

    /// Holds the command lines that the request tries to inject against the rules for processes.
    fn evaluate_commands(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        let commands = std::mem::take(&mut self.commands);
        for command in &commands {
            let mut others = std::mem::take(&mut self.detections);
            self.scan_fields(&[(Field::CommandLine, &command.line)]);
            let text = Text {
                name: &command.name,
                ..Text::raw(Field::CommandLine, &command.line)
            };
            self.evaluate(Source::Process, Phase::Both, &[text], &mut ());
            for detection in &mut self.detections {
                detection.confidence = detection.confidence.min(command.confidence);
            }
            others.append(&mut self.detections);
            self.detections = others;
        }
        // Of several lines that one rule is about, the surest stands.
        sorted::by_key(&mut self.detections, |detection| {
            u64::from(detection.rule) << 8 | u64::from(u8::MAX - detection.confidence)
        });
        self.detections.dedup_by_key(|detection| detection.rule);
        self.commands = commands;
    }
}

fn reads_body(rules: &RuleSet, rule: u32) -> bool {
    let body = u16::from(Lane::Body.bit());
    rules
        .rule(rule)
        .is_some_and(|rule| rule.source == Source::Request as u8 && rule.reads & body != 0)
}

/// Keeps the command lines in all texts of the field in which one was found: where one parameter is an
/// attack, another may be as well.
fn keep_commands(spot: Spot, texts: &[Text<'_>], work: &Work, commands: &mut Vec<Injected>) {
    let Some(field) = texts.get(spot.text).map(|text| text.field) else {
        return;
    };
    let candidates = texts
        .iter()
        .filter(|text| text.field == field && !text.superseded);
    for text in candidates {
        if commands.len() == limits::INJECTED_COMMANDS {
            return;
        }
        let injected = work.spend(text.bytes.len(), |steps| {
            shell::injected_command(text.bytes, steps)
        });
        if let Some((finding, (start, end))) = injected
            && finding.confidence >= structure::MEDIUM
            && let Some(line) = text.bytes.get(start..end).filter(|line| !line.is_empty())
            && commands.iter().all(|command| command.line != line)
        {
            commands.push(Injected {
                name: text.name.to_vec(),
                line: line.to_vec(),
                confidence: finding.confidence,
            });
        }
    }
}

/// Adds the decoded views of one header.
#[inline]
fn make_views(
    decoded: &mut Decoded,
    index: usize,
    (lane, field): (Lane, Field),
    name: &[u8],
    value: &[u8],
    classes: Classes,
    scan: &mut dyn FnMut(&[u8], Classes),
) {
    match lane {
        Lane::Uri | Lane::Referer => decoded.url(index, field, value, classes, scan),
        Lane::Cookie => decoded.cookies(index, value, classes, scan),
        Lane::Body if field == Field::BodyValue => decoded.values(index, value, classes, scan),
        _ => decoded.value(index, field, name, value, classes, scan),
    }
}

/// A header and its place among the headers.
struct Numbered<'h> {
    index: usize,
    name: &'h [u8],
    value: &'h [u8],
}

/// Scans one header as it came and its decoded views.
#[inline]
fn scan_header(
    rules: &RuleSet,
    hits: &mut Hits,
    decoded: &mut Decoded,
    (lane, field): (Lane, Field),
    header: &Numbered<'_>,
) {
    let &Numbered { index, name, value } = header;
    let classes = normalise::classes(value);
    let url = matches!(lane, Lane::Uri | Lane::Referer) || field == Field::BodyValue;
    let telling = match url {
        _ if Decoded::decodes(url, classes) => 0,
        // A query's own `&` are no sign of anything.
        true => classes & !normalise::AMPERSAND,
        false => classes,
    };
    hits.scan(rules, lane, value, classes, telling);
    let mut scan = |text: &[u8], classes| hits.scan(rules, lane, text, classes, classes);
    make_views(
        decoded,
        index,
        (lane, field),
        name,
        value,
        classes,
        &mut scan,
    );
}

/// What became of the first header of its kind.
enum First<'h> {
    /// There was none yet.
    None,
    /// It is remembered as harmless and was not scanned.
    PassedOver(Lane, Numbered<'h>),
    /// It was scanned.
    Scanned(Lane, &'h [u8]),
    /// There are several, or it was passed over at first.
    Several,
}

/// Kinds of headers whose texts are remembered.
const FIRSTS: usize = 3;

/// The place for the first header of a lane whose texts are remembered.
#[inline]
fn first_of<'f, 'h>(
    first: &'f mut Option<&mut [First<'h>; FIRSTS]>,
    lane: Lane,
) -> Option<&'f mut First<'h>> {
    let [target, agent, referer] = first.as_deref_mut()?;
    match lane {
        Lane::Uri => Some(target),
        Lane::UserAgent => Some(agent),
        Lane::Referer => Some(referer),
        _ => None,
    }
}

/// Where the texts of a lane are remembered.
#[inline]
fn memory_of<'m>(
    texts: &'m mut Remembered,
    targets: &'m mut Remembered,
    lane: Lane,
) -> &'m mut Remembered {
    match lane {
        Lane::Uri => targets,
        _ => texts,
    }
}

/// Sees an inspection from within; for explanations.
pub trait Watch: Observe {
    /// The event, as rules see it.
    fn texts(&mut self, _texts: &[Text<'_>]) {}
    /// What scanning found.
    fn hits(&mut self, _rules: &RuleSet, _hits: &Hits) {}
    /// A candidate is about to be evaluated.
    fn rule(&mut self, _index: u32, _rule: &RuleRecord) {}
    /// What it came to.
    fn outcome(&mut self, _index: u32, _outcome: &Outcome) {}
}

impl Watch for () {}

trait FactsIf: Facts {
    fn source_address_if(&self, wanted: bool) -> Option<String> {
        let address = wanted.then(|| self.source_address()).flatten()?;
        Some(address.to_string())
    }
}
impl<F: Facts + ?Sized> FactsIf for F {}

/// Which lane a header is scanned in, and the field that its text is. `:method` and the like are
/// in no lane.
#[inline]
fn lane_of(name: &[u8]) -> Option<(Lane, Field)> {
    // Gateways write names in lower case, captures as they were sent. Comparing with a text of known length is one look.
    Some(match name.len() {
        5 if name == b":path" => (Lane::Uri, Field::Uri),
        10 if name == b":authority" => (Lane::Host, Field::Host),
        10 if is_name(name, b"user-agent") => (Lane::UserAgent, Field::UserAgent),
        7 if is_name(name, b"referer") => (Lane::Referer, Field::Referer),
        6 if is_name(name, b"cookie") => (Lane::Cookie, Field::Cookie),
        4 if is_name(name, b"host") => (Lane::Host, Field::Host),
        _ if name.first() == Some(&b':') => return pseudo_lane_of(name),
        _ => (Lane::Header, Field::Header),
    })
}

#[inline]
fn is_name<const N: usize>(name: &[u8], wanted: &[u8; N]) -> bool {
    name.first_chunk::<N>() == Some(wanted) || name.eq_ignore_ascii_case(wanted)
}

/// The same for what is no header: what a body stands in for one, and what a gateway says of the request.
fn pseudo_lane_of(name: &[u8]) -> Option<(Lane, Field)> {
    match name {
        body::TEXT => Some((Lane::Body, Field::Body)),
        body::VALUES => Some((Lane::Body, Field::BodyValue)),
        _ => None,
    }
}

#[inline]
fn bounded<'a>(value: &'a [u8], truncated: &mut bool) -> &'a [u8] {
    match value.get(..limits::FIELD_BYTES) {
        Some(cut) if value.len() > limits::FIELD_BYTES => {
            *truncated = true;
            cut
        }
        _ => value,
    }
}

/// The texts of a request in these lanes, for rules to be asked about.
fn request_texts<'a>(headers: Headers<'a>, decoded: &'a Decoded, lanes: u16) -> Vec<Text<'a>> {
    let mut texts = Vec::with_capacity(64);
    for (index, (name, value)) in headers.iter().take(limits::HEADERS).enumerate() {
        let Some((lane, field)) = lane_of(name) else {
            let value = bounded(value, &mut false);
            match name {
                b":method" => texts.push(Text::raw(Field::Method, value)),
                b":protocol-version" => texts.push(Text::raw(Field::Version, value)),
                _ => {}
            }
            continue;
        };
        if lanes & u16::from(lane.bit()) == 0 {
            continue;
        }
        let value = bounded(value, &mut false);
        let first = texts.len();
        let whole = Text {
            name: if field == Field::Header { name } else { &[] },
            ..Text::raw(field, value)
        };
        // The values of a body are no text that somebody sent.
        if field != Field::BodyValue {
            texts.push(whole);
        }
        match lane {
            Lane::Uri | Lane::Referer => url_texts(field, value, &mut texts),
            Lane::Host => texts.push(Text::raw(Field::Site, site_of(value))),
            Lane::Cookie => {
                for cookie in bounded_split(value, b';', &mut false) {
                    pair_texts(Field::CookieValue, cookie.trim_ascii_start(), &mut texts);
                }
            }
            Lane::Body if field == Field::BodyValue => {
                for pair in bounded_split(value, b'&', &mut false) {
                    pair_texts(field, pair, &mut texts);
                }
            }
            _ => {}
        }
        // Parts stand for their whole, and decoded texts for those as they came.
        let raw_end = texts.len();
        texts.extend(decoded.texts(index));
        let superseded = texts.len() > raw_end
            && texts
                .get(raw_end..)
                .is_some_and(|made| made.iter().any(|text| text.view == View::Decoded));
        let has_parts = texts
            .get(first..)
            .is_some_and(|made| made.iter().any(|text| text.part));
        for (offset, text) in texts.iter_mut().skip(first).enumerate() {
            let raw = first + offset < raw_end;
            text.superseded = raw && superseded || has_parts && !text.part;
        }
    }
    texts
}

/// The last labels of a host that say whose it is: two, or three where the last but one is one of those below which
/// registries sell names (`co.uk`). An address is whole.
fn site_of(host: &[u8]) -> &[u8] {
    let name = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host.ends_with(b"]") => host.get(..colon).unwrap_or(host),
        _ => host,
    };
    let mut labels = name.rsplit(|byte| *byte == b'.');
    let (last, second) = (
        labels.next().unwrap_or_default(),
        labels.next().unwrap_or_default(),
    );
    if !last.first().is_some_and(u8::is_ascii_alphabetic) {
        return name;
    }
    let is_sold_below = last.len() == 2
        && REGISTRIES
            .iter()
            .any(|label| second.eq_ignore_ascii_case(label.as_bytes()));
    let third = labels.next().filter(|_| is_sold_below);
    let length = last.len() + 1 + second.len() + third.map_or(0, |label| label.len() + 1);
    name.get(name.len().saturating_sub(length)..)
        .unwrap_or(name)
}

/// Labels below a country's that names are sold below.
const REGISTRIES: &[&str] = &[
    "co", "com", "org", "net", "gov", "edu", "ac", "or", "ne", "go", "gob", "gouv", "mil", "nom",
];

/// The texts of a URL as it came, beside the whole.
fn url_texts<'a>(field: Field, url: &'a [u8], texts: &mut Vec<Text<'a>>) {
    let target = field == Field::Uri;
    let (stem, query) = split_url(url);
    let part = !target;
    texts.push(Text {
        part,
        ..Text::raw(if target { Field::UriStem } else { field }, stem)
    });
    let Some(query) = query else { return };
    if target {
        texts.push(Text::raw(Field::UriQuery, query));
    }
    for pair in bounded_split(query, b'&', &mut false) {
        pair_texts(if target { Field::QueryValue } else { field }, pair, texts);
    }
}

fn pair_texts<'a>(field: Field, pair: &'a [u8], texts: &mut Vec<Text<'a>>) {
    let (name, value) = split_pair(pair);
    let name = name.unwrap_or_default();
    let part = !field.is_value();
    if !is_plain_name(name) {
        texts.push(Text {
            name,
            part,
            ..Text::raw(field, name)
        });
    }
    texts.push(Text {
        name,
        part,
        ..Text::raw(field, value)
    });
}

fn detection(index: u32, rule: &RuleRecord, outcome: Outcome, texts: &[Text<'_>]) -> Detection {
    let confidence = outcome.spot.and_then(|spot| spot.confidence);
    let evidence = outcome.spot.and_then(|spot| {
        let text = texts.get(spot.text)?;
        // A little of what stands before tells an analyst where in the value the match begins.
        let start = spot.start.saturating_sub(16).min(text.bytes.len());
        let end = (start + limits::EVIDENCE_BYTES)
            .min(spot.end.saturating_add(48))
            .min(text.bytes.len());
        Some(Evidence {
            field: text.field,
            name: text
                .name
                .get(..text.name.len().min(limits::EVIDENCE_BYTES))?
                .to_vec(),
            view: text.view,
            offset: spot.start,
            text: text.bytes.get(start..end).unwrap_or_default().to_vec(),
        })
    });
    Detection {
        rule: index,
        // A detector knows better than its rule how sure this match is.
        confidence: confidence.unwrap_or(rule.confidence),
        evidence,
        correlated: None,
    }
}

#[cfg(test)]
mod tests {
    use super::site_of;

    #[test]
    fn a_site_is_what_an_owners_hosts_share() {
        for (host, site) in [
            ("www.example.com", "example.com"),
            ("a.b.example.com:8443", "example.com"),
            ("example.com", "example.com"),
            ("www.shop.example.co.uk", "example.co.uk"),
            ("example.co.uk", "example.co.uk"),
            ("www.foo.de", "foo.de"),
            ("www.com", "www.com"),
            ("localhost:8080", "localhost"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("", ""),
            (".", "."),
            ("..", ".."),
            ("a..b", ".b"),
        ] {
            let found = site_of(host.as_bytes());
            assert_eq!(found, site.as_bytes(), "{host}: {}", found.escape_ascii());
        }
    }
}
