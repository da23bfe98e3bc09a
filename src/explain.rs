//! Why each rule did or did not match: an inspection, told from within.
//!
//! Takes in an event and a ruleset. Gives out an [`Explanation`]: the texts that rules see, the literals that scanning
//! found, and every candidate with all it was asked. For people who tune rules; nothing of it is on the road of a request.

use crate::alert::printable;
use crate::evaluate::{Observe, Outcome, Spot};
use crate::event::{Source, Text, View};
use crate::field::Field;
use crate::headers::Headers;
use crate::inspect::{Facts, Inspector, Watch};
use crate::ruleset::RuleSet;
use crate::ruleset::layout::{
    Index, MatcherRecord, Op, RuleRecord, Section, WILDCARD_MANY, WILDCARD_ONE,
};
use crate::scan::Hits;
use crate::structure::Structure;

/// Values of one question that are written out.
const SHOWN_VALUES: usize = 4;

/// What an inspection saw and asked.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// The texts that rules were asked about.
    pub texts: Vec<Seen>,
    /// Literals that scanning found.
    pub literals: Vec<u32>,
    /// The rules that were evaluated, in the order in which they were.
    pub candidates: Vec<Candidate>,
    /// Whether some part of the event was over a limit and not inspected.
    pub truncated: bool,
}

/// One text, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The field it is a text of.
    pub field: Field,
    /// How much was undone.
    pub view: View,
    /// Name of the parameter, cookie or header.
    pub name: Vec<u8>,
    /// The text.
    pub bytes: Vec<u8>,
    /// Whether it is a part of the field rather than the whole.
    pub is_part: bool,
}

/// One candidate and what it was asked.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Number of the rule.
    pub index: u32,
    /// The rule.
    pub rule: RuleRecord,
    /// What it was asked, in order.
    pub asked: Vec<Asked>,
    /// Whether its condition holds.
    pub matches: bool,
}

/// One question and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Number of the matcher.
    pub matcher: u32,
    /// Its answer.
    pub answer: bool,
    /// Where it found what it asks for.
    pub spot: Option<Spot>,
}

impl Explanation {
    /// Inspects the head of a request, as [`Inspector::request`] does, and tells of it.
    pub fn of_request(
        inspector: &mut Inspector,
        headers: Headers<'_>,
        facts: &impl Facts,
    ) -> Explanation {
        Explanation::watching(|watch| inspector.explain(headers, facts, watch).truncated)
    }

    /// The same with every rule a candidate, whatever the prefilter says: for a rule that should have been one.
    pub fn of_every_rule(
        inspector: &mut Inspector,
        headers: Headers<'_>,
        facts: &impl Facts,
    ) -> Explanation {
        Explanation::watching(|watch| {
            inspector
                .explain_every_rule(headers, facts, watch)
                .truncated
        })
    }

    /// Inspects an event that is a list of fields, as [`Inspector::fields`] does, and tells of it.
    pub fn of_fields(
        inspector: &mut Inspector,
        source: Source,
        fields: &[(Field, &[u8])],
    ) -> Explanation {
        Explanation::watching(|watch| inspector.explain_fields(source, fields, watch).truncated)
    }

    /// What an inspection shows that says whether something was over a limit.
    fn watching(inspect: impl FnOnce(&mut Explanation) -> bool) -> Explanation {
        let mut explanation = Explanation::default();
        explanation.truncated = inspect(&mut explanation);
        explanation
    }

    /// The text that a spot is in.
    pub fn text_of(&self, spot: Spot) -> Option<&Seen> {
        self.texts.get(spot.text)
    }
}

impl Observe for Explanation {
    fn asked(&mut self, matcher: u32, answer: bool, spot: Option<Spot>) {
        if let Some(candidate) = self.candidates.last_mut() {
            candidate.asked.push(Asked {
                matcher,
                answer,
                spot,
            });
        }
    }
}

impl Watch for Explanation {
    fn texts(&mut self, texts: &[Text<'_>]) {
        self.texts = texts
            .iter()
            .map(|text| Seen {
                field: text.field,
                view: text.view,
                name: text.name.to_vec(),
                bytes: text.bytes.to_vec(),
                is_part: text.part,
            })
            .collect();
    }

    fn hits(&mut self, _: &RuleSet, hits: &Hits) {
        self.literals = hits.literals().to_vec();
    }

    fn rule(&mut self, index: u32, rule: &RuleRecord) {
        self.candidates.push(Candidate {
            index,
            rule: *rule,
            asked: Vec::new(),
            matches: false,
        });
    }

    fn outcome(&mut self, _: u32, outcome: &Outcome) {
        if let Some(candidate) = self.candidates.last_mut() {
            candidate.matches = outcome.matches;
        }
    }
}

impl Seen {
    /// The field as rules write it.
    pub fn label(&self) -> String {
        // A part of a Referer's query is told from the whole by its name.
        let label = label(self.field, &self.name);
        if self.is_part && self.name.is_empty() {
            format!("{label} (part)")
        } else {
            label
        }
    }
}

/// A field as rules write it, with the name of the parameter, cookie or header.
pub fn label(field: Field, name: &[u8]) -> String {
    if name.is_empty() {
        return field.name().into();
    }
    let name = printable(name, usize::MAX);
    match field.name().split_once('*') {
        Some((before, after)) => format!("{before}{name}{after}"),
        None => format!("{}.{name}", field.name()),
    }
}

/// A literal as text.
pub fn literal(rules: &RuleSet, index: u32) -> Option<String> {
    let literal = rules.literal(index)?;
    Some(printable(rules.bytes(literal.span()), usize::MAX))
}

/// A matcher in words.
pub fn question(rules: &RuleSet, index: u32) -> String {
    let Some(matcher) = rules.matcher(index) else {
        return "?".into();
    };
    let name = rules.bytes(matcher.name);
    let field = match Field::from_number(matcher.field) {
        Some(field) => label(field, name),
        None => "any text".into(),
    };
    let values = |verb| values(rules, verb, &matcher);
    let operand = match Op::from_number(matcher.op) {
        None => "?".into(),
        Some(Op::Equals) => values("is"),
        Some(Op::Contains) => values("contains"),
        Some(Op::StartsWith) => values("starts with"),
        Some(Op::EndsWith) => values("ends with"),
        Some(Op::Wildcard) => values("is like"),
        Some(Op::Regex) => "matches the rule's regular expression".into(),
        Some(Op::Cidr) => "is in the rule's networks".into(),
        Some(Op::Exists) => if matcher.number != 0 {
            "is there"
        } else {
            "is not there"
        }
        .into(),
        Some(Op::NumEq) => format!("= {}", matcher.number),
        Some(Op::NumLt) => format!("< {}", matcher.number),
        Some(Op::NumLte) => format!("<= {}", matcher.number),
        Some(Op::NumGt) => format!("> {}", matcher.number),
        Some(Op::NumGte) => format!(">= {}", matcher.number),
        Some(Op::FieldRef) => format!("is the same as {}", other(&matcher)),
        Some(Op::FieldRefStartsWith) => format!("starts with {}", other(&matcher)),
        Some(Op::FieldRefEndsWith) => format!("ends with {}", other(&matcher)),
        Some(Op::FieldRefContains) => format!("contains {}", other(&matcher)),
        Some(Op::Structure) => {
            let structure = u8::try_from(matcher.number)
                .ok()
                .and_then(Structure::from_number);
            let structure =
                structure.map_or_else(|| "?".into(), |structure| format!("{structure:?}"));
            format!("looks like {structure}, at least {} % sure", matcher.detail)
        }
    };
    let raw = if matcher.flags & MatcherRecord::RAW != 0 {
        " as it came"
    } else {
        ""
    };
    format!("{field}{raw} {operand}")
}

fn values(rules: &RuleSet, verb: &str, matcher: &MatcherRecord) -> String {
    let values: Vec<String> = rules
        .run::<Index>(Section::MatcherLiterals, matcher.operand)
        .filter_map(|Index(index)| {
            let literal = rules.literal(index)?;
            let mut text = rules.bytes(literal.span()).to_vec();
            for byte in &mut text {
                match *byte {
                    WILDCARD_MANY => *byte = b'*',
                    WILDCARD_ONE => *byte = b'?',
                    _ => {}
                }
            }
            Some(printable(&text, usize::MAX))
        })
        .collect();
    format!("{verb} {}", quoted(&values))
}

fn other(matcher: &MatcherRecord) -> &'static str {
    u8::try_from(matcher.number)
        .ok()
        .and_then(Field::from_number)
        .map_or("?", Field::name)
}

/// The first few values in backticks, and how many more there are.
pub fn quoted(values: &[String]) -> String {
    let mut text = values
        .iter()
        .take(SHOWN_VALUES)
        .map(|value| format!("`{value}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if values.len() > SHOWN_VALUES {
        text.push_str(&format!(" or {} more", values.len() - SHOWN_VALUES));
    }
    text
}
