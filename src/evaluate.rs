//! Answers a candidate rule's condition for an event.
//!
//! Takes in the event's texts and what scanning found. Gives out whether the rule matches and the
//! first place that says so. Only candidates come here, so clarity wins over speed; time is still
//! linear in the event for each matcher.

use std::cell::Cell;
use std::net::IpAddr;

use crate::address::{self, Network};
use crate::dfa::{Automaton, Dfa};
use crate::event::Text;
use crate::field::{Field, Lane};
use crate::limits;
use crate::ruleset::RuleSet;
use crate::ruleset::layout::{CidrRecord, Index, MatcherRecord, NodeKind, Op, Run, Section};
use crate::scan::Hits;
use crate::structure::{Steps, Structure};
use crate::text::Case;

/// Where a matcher was satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Index of the text.
    pub text: usize,
    /// First byte of evidence in it.
    pub start: usize,
    /// Just past the evidence.
    pub end: usize,
    /// What a structural detector said of its confidence.
    pub confidence: Option<u8>,
    /// Which detector that was.
    pub detector: Option<Structure>,
}

/// Called with each matcher that was asked and its answer; for explanations.
pub trait Observe {
    /// `matcher` was asked and answered.
    fn asked(&mut self, matcher: u32, answer: bool, spot: Option<Spot>);
}

/// Observes nothing.
impl Observe for () {
    #[inline]
    fn asked(&mut self, _: u32, _: bool, _: Option<Spot>) {}
}

/// One event held against one ruleset.
pub struct Evaluation<'a> {
    /// The rules.
    pub rules: &'a RuleSet,
    /// The event.
    pub texts: &'a [Text<'a>],
    /// What scanning found.
    pub hits: &'a Hits,
    /// What may still be spent on the event.
    pub work: &'a Work,
}

/// How much the questions about one event may cost, in steps of about one byte of one expression.
///
/// Long texts and short ones have a budget each, so that junk in one parameter takes nothing from the others. A question
/// that cannot be paid for any more has no answer: neither it nor its negation holds, and the inspection says `truncated`.
#[derive(Debug)]
pub struct Work {
    short: Cell<u32>,
    long: Cell<u32>,
    /// What both were at first.
    of: (u32, u32),
    /// Whether something was not looked at.
    cut: Cell<bool>,
    /// Whether a question below the negation at hand was not answered.
    unpaid: Cell<bool>,
}

impl Default for Work {
    fn default() -> Work {
        Work::of(limits::SHORT_WORK, limits::LONG_WORK)
    }
}

impl Work {
    fn of(short: u32, long: u32) -> Work {
        Work {
            short: Cell::new(short),
            long: Cell::new(long),
            of: (short, long),
            cut: Cell::new(false),
            unpaid: Cell::new(false),
        }
    }

    /// For a body, which has long texts by its nature.
    pub fn for_body() -> Work {
        Work::of(limits::SHORT_WORK, limits::BODY_WORK)
    }

    /// For looking at what no gateway would look at.
    pub fn unlimited() -> Work {
        Work::of(u32::MAX, u32::MAX)
    }

    /// Whether something was not looked at.
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Steps taken so far, in short texts and in long ones.
    pub fn spent(&self) -> (u32, u32) {
        let (short, long) = self.of;
        (
            short.saturating_sub(self.short.get()),
            long.saturating_sub(self.long.get()),
        )
    }

    /// Takes the steps of one question about `bytes` bytes. Returns whether there were enough.
    fn pay(&self, bytes: usize, steps: usize) -> bool {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.spend(bytes, |left| left.take(steps))
    }

    /// Lets a question about `bytes` bytes take steps from the budget for such texts.
    pub fn spend<T>(&self, bytes: usize, ask: impl FnOnce(&Steps) -> T) -> T {
        let budget = match bytes <= limits::SHORT_TEXT {
            true => &self.short,
            false => &self.long,
        };
        let steps = Steps::new(budget.get());
        let answer = ask(&steps);
        budget.set(steps.left());
        if steps.ran_out() {
            self.cut.set(true);
            self.unpaid.set(true);
        }
        answer
    }
}

/// What a rule came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the condition holds.
    pub matches: bool,
    /// The first evidence that the condition rests on.
    pub spot: Option<Spot>,
}

impl Evaluation<'_> {
    /// Evaluates the condition whose root is this node.
    pub fn condition(&self, root: u32, observer: &mut impl Observe) -> Outcome {
        self.node(root, limits::CONDITION_DEPTH, observer)
    }

    fn node(&self, index: u32, depth: usize, observer: &mut impl Observe) -> Outcome {
        let Some((node, depth)) = self.rules.node(index).zip(depth.checked_sub(1)) else {
            return Outcome::default();
        };
        let children = node.children;
        match NodeKind::from_number(node.kind) {
            Some(NodeKind::Leaf) => self.leaf(children.first, observer),
            Some(NodeKind::Not) => {
                self.work.unpaid.set(false);
                let child = self.node(children.first, depth, observer);
                Outcome {
                    // What was not looked at may be what an exception is about.
                    matches: !child.matches && !self.work.unpaid.get(),
                    spot: None,
                }
            }
            Some(kind) => {
                let wanted = match kind {
                    NodeKind::And => children.count,
                    NodeKind::Or => 1,
                    _ => u32::from(node.threshold),
                };
                let (mut held, mut spot) = (0, None);
                for asked in 0..children.count {
                    // Enough hold, or too few are left.
                    if held >= wanted || held + (children.count - asked) < wanted {
                        break;
                    }
                    let child = children.first.saturating_add(asked);
                    let outcome = self.node(child, depth, observer);
                    if outcome.matches {
                        held += 1;
                        spot = spot.or(outcome.spot);
                    }
                }
                let matches = held >= wanted;
                Outcome {
                    matches,
                    spot: spot.filter(|_| matches),
                }
            }
            None => Outcome::default(),
        }
    }

    /// Whether the condition holds as far as the texts can tell that are there; `None` if that depends on a field
    /// for which `unknown` holds.
    pub fn so_far(&self, root: u32, unknown: &impl Fn(Field) -> bool) -> Option<bool> {
        self.so_far_within(root, unknown, limits::CONDITION_DEPTH)
    }

    fn so_far_within(
        &self,
        index: u32,
        unknown: &impl Fn(Field) -> bool,
        depth: usize,
    ) -> Option<bool> {
        let Some((node, depth)) = self.rules.node(index).zip(depth.checked_sub(1)) else {
            return Some(false);
        };
        let children = node.children;
        let kind = NodeKind::from_number(node.kind);
        let wanted = match kind {
            Some(NodeKind::Leaf) => {
                let matcher = self.rules.matcher(children.first)?;
                let other = Op::from_number(matcher.op)
                    .filter(|op| op.compares_fields())
                    .and_then(|_| u8::try_from(matcher.number).ok());
                let mut fields = [Some(matcher.field), other].into_iter().flatten();
                return match fields.any(|field| Field::from_number(field).is_some_and(unknown)) {
                    true => None,
                    false => Some(self.leaf(children.first, &mut ()).matches),
                };
            }
            Some(NodeKind::Not) => {
                self.work.unpaid.set(false);
                let child = self.so_far_within(children.first, unknown, depth)?;
                return Some(!child && !self.work.unpaid.get());
            }
            Some(NodeKind::And) => children.count,
            Some(NodeKind::Or) => 1,
            Some(NodeKind::AtLeast) => u32::from(node.threshold),
            None => return Some(false),
        };
        let (mut held, mut open) = (0, 0);
        for asked in 0..children.count {
            // Enough hold, or too few are left.
            if held >= wanted || held + open + (children.count - asked) < wanted {
                break;
            }
            match self.so_far_within(children.first.saturating_add(asked), unknown, depth) {
                Some(true) => held += 1,
                Some(false) => {}
                None => open += 1,
            }
        }
        match held >= wanted {
            true => Some(true),
            false => (held + open < wanted).then_some(false),
        }
    }

    /// Whether some text in `lane` satisfies a question of this condition that could have made its rule a
    /// candidate: one that asks for something to be there.
    pub fn concerns(&self, root: u32, lane: Lane) -> bool {
        self.concerns_within(root, lane, limits::CONDITION_DEPTH)
    }

    fn concerns_within(&self, index: u32, lane: Lane, depth: usize) -> bool {
        let Some((node, depth)) = self.rules.node(index).zip(depth.checked_sub(1)) else {
            return true;
        };
        let children = node.children;
        match NodeKind::from_number(node.kind) {
            Some(NodeKind::Leaf) => {
                let Some(matcher) = self.rules.matcher(children.first) else {
                    return true;
                };
                let elsewhere = Field::from_number(matcher.field)
                    .is_some_and(|field| field != Field::Header && field.lane() != Some(lane));
                // What is no text is never what a rule waits for.
                let text = Op::from_number(matcher.op).is_none_or(Op::asks_for_text);
                text && !elsewhere && self.leaf(children.first, &mut ()).matches
            }
            Some(NodeKind::Not) => false,
            Some(_) => (children.first..children.first.saturating_add(children.count))
                .any(|child| self.concerns_within(child, lane, depth)),
            None => true,
        }
    }

    fn leaf(&self, index: u32, observer: &mut impl Observe) -> Outcome {
        let Some(matcher) = self.rules.matcher(index) else {
            return Outcome::default();
        };
        let outcome = match Op::from_number(matcher.op) {
            Some(Op::Exists) => {
                let there = self.texts_of(&matcher).next().is_some();
                Outcome {
                    matches: there == (matcher.number != 0),
                    spot: None,
                }
            }
            Some(op) => {
                let spot = self.spot(op, &matcher);
                Outcome {
                    matches: spot.is_some(),
                    spot,
                }
            }
            None => Outcome::default(),
        };
        observer.asked(index, outcome.matches, outcome.spot);
        outcome
    }

    /// The texts that a matcher asks about.
    fn texts_of<'t>(
        &'t self,
        matcher: &MatcherRecord,
    ) -> impl Iterator<Item = (usize, &'t Text<'t>)> {
        let field = Field::from_number(matcher.field);
        let any = matcher.field == MatcherRecord::ANY_FIELD;
        let raw_only = matcher.flags & MatcherRecord::RAW != 0;
        let name = self.rules.bytes(matcher.name);
        self.texts.iter().enumerate().filter(move |(_, text)| {
            // A keyword asks all text there is; what has no lane (a method, a status) is no text.
            (any && text.field.lane().is_some()
                || field.is_some_and(|field| answers(field, text, name)))
                && (!raw_only || text.view == crate::event::View::Raw)
        })
    }

    /// The first place that satisfies a matcher.
    fn spot(&self, op: Op, matcher: &MatcherRecord) -> Option<Spot> {
        let mut texts = self.texts_of(matcher);
        let (first, second) = (texts.next()?, texts.next());
        let mut question = self.question(op, matcher, second.is_some())?;
        let mut texts = [first].into_iter().chain(second).chain(texts);
        texts.find_map(|(index, text)| {
            let (start, end, confidence) = self.ask(&mut question, text)?;
            Some(Spot {
                text: index,
                start,
                end,
                confidence,
                detector: confidence.and(question.detector),
            })
        })
    }

    /// What a matcher asks of a text or of several; none if no text can satisfy it.
    fn question<'q>(
        &'q self,
        op: Op,
        matcher: &'q MatcherRecord,
        several: bool,
    ) -> Option<Question<'q>> {
        let (mut literals, mut automaton, mut asked_detector) = (None, None, None);
        match op {
            Op::Structure => asked_detector = Some(detector(matcher)?),
            Op::Equals | Op::Contains | Op::StartsWith | Op::EndsWith | Op::Wildcard => {
                literals = Some(self.literals_of(matcher.operand, several)?);
            }
            Op::Regex => {
                // Reading a text for what must be in it costs a fraction of running the expression.
                let required = matcher.required();
                if required.count > 0 {
                    literals = Some(self.literals_of(required, several)?);
                }
                let first = matcher.operand.first as usize;
                let end = first.checked_add(matcher.operand.count as usize)?;
                let table = self.rules.section(Section::Dfas).get(first..end)?;
                automaton = Some(Automaton::new(Dfa::read(table)?));
            }
            _ => {}
        }
        Some(Question {
            op,
            matcher,
            case: match matcher.flags & MatcherRecord::CASED != 0 {
                true => Case::Exact,
                false => Case::Folded,
            },
            literals,
            automaton,
            detector: asked_detector,
        })
    }

    /// Asks a question about one text. Gives the evidence's range and a detector's confidence.
    fn ask(
        &self,
        question: &mut Question<'_>,
        text: &Text<'_>,
    ) -> Option<(usize, usize, Option<u8>)> {
        let bytes = text.bytes;
        let (op, matcher) = (question.op, question.matcher);
        if let Some(detector) = question.detector {
            if text.superseded {
                return None;
            }
            let find = |steps: &Steps| detector.find_in(text.name, bytes, steps);
            let found = self.work.spend(bytes.len(), find);
            let finding = found.filter(|found| found.confidence >= matcher.detail)?;
            return Some((finding.start, finding.end, Some(finding.confidence)));
        }
        if text.part {
            return None;
        }
        let whole = Some((0, bytes.len(), None));
        let case = question.case;
        match op {
            Op::Equals | Op::Contains | Op::StartsWith | Op::EndsWith | Op::Wildcard => {
                let compare = |literal: &[u8]| {
                    let answer = |steps: &Steps| compare(op, case, bytes, literal, steps);
                    self.work.spend(bytes.len(), answer)
                };
                let (start, end) = question.literals.as_ref()?.find_map(self, compare)?;
                Some((start, end, None))
            }
            Op::Regex => {
                if let Some(required) = &question.literals {
                    required.find_map(self, |literal| {
                        let search =
                            |steps: &Steps| Case::Folded.find_within(bytes, literal, steps);
                        self.work.spend(bytes.len(), search)
                    })?;
                }
                if !self.work.pay(bytes.len(), QUESTION_STEPS + bytes.len()) {
                    return None;
                }
                let end = question.automaton.as_mut()?.match_end(bytes)?;
                // A forward automaton knows where a match ends, not where it began.
                Some((end.saturating_sub(limits::EVIDENCE_BYTES / 2), end, None))
            }
            Op::Cidr => {
                let address = address_of(bytes)?;
                self.rules
                    .run::<CidrRecord>(Section::Cidrs, matcher.operand)
                    .any(|cidr| network(&cidr).holds(address))
                    .then_some(whole)?
            }
            Op::NumEq | Op::NumLt | Op::NumLte | Op::NumGt | Op::NumGte => {
                let number: i64 = std::str::from_utf8(bytes).ok()?.trim().parse().ok()?;
                let holds = match op {
                    Op::NumEq => number == matcher.number,
                    Op::NumLt => number < matcher.number,
                    Op::NumLte => number <= matcher.number,
                    Op::NumGt => number > matcher.number,
                    _ => number >= matcher.number,
                };
                holds.then_some(whole)?
            }
            Op::FieldRef | Op::FieldRefStartsWith | Op::FieldRefEndsWith | Op::FieldRefContains => {
                let other = Field::from_number(u8::try_from(matcher.number).ok()?)?;
                let op = match op {
                    Op::FieldRef => Op::Equals,
                    Op::FieldRefStartsWith => Op::StartsWith,
                    Op::FieldRefEndsWith => Op::EndsWith,
                    _ => Op::Contains,
                };
                self.texts
                    .iter()
                    .filter(|text| text.field == other && !text.part)
                    .find_map(|text| {
                        let answer = |steps: &Steps| compare(op, case, bytes, text.bytes, steps);
                        self.work.spend(bytes.len(), answer)
                    })
                    .map(|(start, end)| (start, end, None))
            }
            Op::Structure | Op::Exists => None,
        }
    }

    /// Those of a matcher's literals that can be in the event, read at once for several texts; none if there is none.
    fn literals_of(&self, run: Run, several: bool) -> Option<Literals<'_>> {
        if !several {
            return Some(Literals::Many(run));
        }
        let mut few = [&[][..]; FEW];
        let mut count = 0;
        for literal in self.possible(run) {
            match few.get_mut(count) {
                Some(place) => *place = literal,
                None => return Some(Literals::Many(run)),
            }
            count += 1;
        }
        (count > 0).then_some(Literals::Few(few, count))
    }

    /// Those literals of a run that can be in the event: a scanned one that the scan did not find is not there.
    fn possible<'t>(&'t self, run: Run) -> impl Iterator<Item = &'t [u8]> + 't {
        self.rules
            .run::<Index>(Section::MatcherLiterals, run)
            .filter_map(|Index(index)| {
                let literal = self.rules.literal(index)?;
                let can_be = !literal.is_scanned() || self.hits.has_literal(index);
                can_be.then(|| self.rules.bytes(literal.span()))
            })
    }
}

/// What a matcher asks, read once for all texts.
struct Question<'q> {
    op: Op,
    matcher: &'q MatcherRecord,
    case: Case,
    /// What is looked for, or for an expression what must be there.
    literals: Option<Literals<'q>>,
    automaton: Option<Automaton<'q>>,
    detector: Option<Structure>,
}

/// Literals that are read once for all texts; more are read again for each.
const FEW: usize = 4;

/// Literals of a question.
enum Literals<'q> {
    /// All that can be there.
    Few([&'q [u8]; FEW], usize),
    /// Read as they are asked about.
    Many(Run),
}

impl Literals<'_> {
    fn find_map<T>(
        &self,
        evaluation: &Evaluation<'_>,
        mut ask: impl FnMut(&[u8]) -> Option<T>,
    ) -> Option<T> {
        match self {
            Literals::Few(few, count) => few.iter().take(*count).find_map(|literal| ask(literal)),
            Literals::Many(run) => evaluation.possible(*run).find_map(ask),
        }
    }
}

/// Steps that a question costs whatever the text.
const QUESTION_STEPS: usize = 8;
/// Steps for each byte that is held against a wildcard pattern.
const WILDCARD_STEPS: usize = 4;

/// The detector that a matcher with [`Op::Structure`] asks.
fn detector(matcher: &MatcherRecord) -> Option<Structure> {
    Structure::from_number(u8::try_from(matcher.number).ok()?)
}

/// Whether `text` is one of those that a question about `field` (and `name`) is about.
fn answers(field: Field, text: &Text<'_>, name: &[u8]) -> bool {
    match field {
        Field::QueryValue | Field::CookieValue | Field::BodyValue | Field::Header
            if !name.is_empty() =>
        {
            text.field == field && text.name.eq_ignore_ascii_case(name)
        }
        // `cs(*)`: headers that have a field of their own are headers as well.
        Field::Header => matches!(
            text.field,
            Field::Header | Field::UserAgent | Field::Referer | Field::Cookie | Field::Host
        ),
        _ => text.field == field,
    }
}

fn compare(
    op: Op,
    case: Case,
    text: &[u8],
    literal: &[u8],
    steps: &Steps,
) -> Option<(usize, usize)> {
    let len = literal.len();
    let cost = match op {
        Op::Wildcard => text.len().saturating_mul(WILDCARD_STEPS),
        _ => 1,
    };
    if !steps.take(u32::try_from(cost).unwrap_or(u32::MAX)) {
        return None;
    }
    match op {
        Op::Equals => case.equal(text, literal).then_some((0, len)),
        Op::Contains => {
            let start = case.find_within(text, literal, steps)?;
            Some((start, start + len))
        }
        Op::StartsWith => case.equal(text.get(..len)?, literal).then_some((0, len)),
        Op::EndsWith => {
            let start = text.len().checked_sub(len)?;
            case.equal(text.get(start..)?, literal)
                .then_some((start, text.len()))
        }
        Op::Wildcard => case.wildcard(text, literal).then_some((0, text.len())),
        _ => None,
    }
}

/// An address as 128 bits, IPv4 mapped into IPv6; a port after it is ignored.
fn address_of(text: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let address: IpAddr = text.parse().ok().or_else(|| {
        text.parse::<std::net::SocketAddr>()
            .ok()
            .map(|socket| socket.ip())
    })?;
    Some(address::bits(address))
}

fn network(cidr: &CidrRecord) -> Network {
    Network {
        address: u128::from(cidr.high) << 64 | u128::from(cidr.low),
        bits: cidr.bits,
    }
}
