//! A record as the page shows it: the texts that rules see with the matches marked, and every candidate with its answers.
//!
//! Bytes become text here, and matches become pieces of it, so that the page only has to set texts.

use std::collections::HashMap;

use portcullis::alert::{printable, type_of};
use portcullis::body;
use portcullis::catalogue::Severity;
use portcullis::event::{Source, View};
use portcullis::explain::{Asked, Candidate, Explanation, Seen, label, literal, question};
use portcullis::field::Field;
use portcullis::headers::Headers;
use portcullis::inspect::{Detection, Inspector};
use portcullis::ruleset::RuleSet;
use portcullis::ruleset::layout::RuleRecord;
use portcullis_capture::Record;
use portcullis_capture::event::{RecordFacts, header_pairs};
use serde::Serialize;

use crate::limits;
use crate::rules::OWN;

/// What rules saw and what they were asked.
#[derive(Debug, Default, Serialize)]
pub struct Shown {
    /// The fields, in the order of the request.
    pub fields: Vec<FieldShown>,
    /// Texts beyond [`limits::TEXTS`].
    pub hidden_texts: usize,
    /// The candidates, those that matched first, the user's before others.
    pub candidates: Vec<CandidateShown>,
    /// Candidates beyond [`limits::CANDIDATES`].
    pub hidden_candidates: usize,
    /// How many rules there are.
    pub rules: usize,
    /// How many of them were worth evaluating.
    pub opened: usize,
    /// Whether some part was over a limit and not inspected.
    pub is_truncated: bool,
    /// Literals that scanning found.
    pub literals: Vec<String>,
    /// Where the pasted text holds what matched, as bytes.
    #[serde(skip)]
    pub places: Vec<Place>,
}

/// What matched, as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The whole text.
    pub text: Vec<u8>,
    /// The match in it, or all of it if something had to be undone first.
    pub range: std::ops::Range<usize>,
}

/// One field.
#[derive(Debug, Serialize)]
pub struct FieldShown {
    label: String,
    is_body: bool,
    has_match: bool,
    texts: Vec<TextShown>,
}

/// One text of a field.
#[derive(Debug, Serialize)]
pub struct TextShown {
    view: &'static str,
    pieces: Vec<Piece>,
    hidden_bytes: usize,
    #[serde(skip)]
    bytes: Vec<u8>,
}

/// A piece of a text.
#[derive(Debug, Serialize)]
pub struct Piece {
    text: String,
    /// Places of the candidates whose match this is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<usize>,
}

/// One rule.
#[derive(Debug, Serialize)]
pub struct CandidateShown {
    title: String,
    id: String,
    path: String,
    alert: &'static str,
    severity: &'static str,
    is_own: bool,
    matches: bool,
    /// Not a candidate: shown because it is the user's.
    is_passed_over: bool,
    is_body: bool,
    /// What was asked, in order.
    asked: Vec<AskedShown>,
    /// For a rule that was held against something else than the texts.
    note: String,
}

/// A question and its answer.
#[derive(Debug, Serialize)]
pub struct AskedShown {
    question: String,
    answer: bool,
    /// Where, if the answer is yes because of some text.
    #[serde(skip_serializing_if = "Option::is_none")]
    spot: Option<SpotShown>,
}

/// Where something was found.
#[derive(Debug, Serialize)]
pub struct SpotShown {
    label: String,
    view: &'static str,
    offset: usize,
    text: String,
    confidence: Option<u8>,
}

/// Explains a record.
pub fn explain(inspector: &mut Inspector, record: &Record, body_bytes: usize) -> Shown {
    let mut shown = Shown {
        rules: inspector.rules().rule_count(),
        ..Shown::default()
    };
    if record.is_process() {
        let fields: Vec<_> = record.process().collect();
        let explanation = Explanation::of_fields(inspector, Source::Process, &fields);
        shown.add(inspector.rules(), &explanation, Part::Head);
        shown.finish();
        return shown;
    }
    let facts = RecordFacts(record);
    let pairs = header_pairs(record);
    let head = Headers::Pairs(&pairs);
    shown.add_part(inspector, head, &facts, Part::Head);
    let content = record.body().unwrap_or_default();
    let kept = content.get(..body_bytes).unwrap_or(content);
    if !kept.is_empty()
        && let Some(body) = body::Request::new(head, kept)
    {
        shown.is_truncated |= body.is_cut() || kept.len() < content.len();
        shown.add_part(
            inspector,
            Headers::Pairs(&body.as_query()),
            &facts,
            Part::Body,
        );
        let beside = body.beside_head();
        shown.add_part(inspector, Headers::Pairs(&beside), &facts, Part::Both);
    }
    shown.finish();
    shown
}

/// What of a request is held against the rules: the filter does one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    /// The body as a query.
    Body,
    /// The body beside the head, for rules that name the body.
    Both,
}

impl Shown {
    fn add_part(
        &mut self,
        inspector: &mut Inspector,
        headers: Headers<'_>,
        facts: &RecordFacts<'_>,
        part: Part,
    ) {
        let mut explanation = Explanation::of_request(inspector, headers, facts);
        let detections = inspector.detections().to_vec();
        let mut every = Explanation::of_every_rule(inspector, headers, facts);
        if part == Part::Both {
            let names_body = |candidate: &Candidate| inspector.reads_body(candidate.index);
            explanation.candidates.retain(names_body);
            every.candidates.retain(names_body);
            if explanation.candidates.is_empty() && every.candidates.is_empty() {
                return;
            }
        }
        self.add(inspector.rules(), &explanation, part);
        if part != Part::Both {
            self.add_injected(inspector.rules(), &detections);
        }
        self.add_own(inspector.rules(), &every, part);
    }

    fn add(&mut self, rules: &RuleSet, explanation: &Explanation, part: Part) {
        self.opened += explanation.candidates.len();
        self.is_truncated |= explanation.truncated;
        let literals = explanation.literals.iter();
        self.literals
            .extend(literals.filter_map(|index| literal(rules, *index)));
        // Pieces refer to candidates by place, so those are added first.
        let mut marks: HashMap<usize, Vec<(usize, usize, usize)>> = HashMap::new();
        for candidate in &explanation.candidates {
            if part != Part::Head && self.is_known(rules, candidate) {
                continue;
            }
            let at = self.candidates.len();
            self.candidates
                .push(CandidateShown::new(rules, explanation, candidate, part));
            let spots = candidate.asked.iter().filter(|asked| asked.answer);
            for spot in spots.filter_map(|asked| asked.spot) {
                if candidate.matches && spot.end > spot.start {
                    let marks = marks.entry(spot.text).or_default();
                    marks.push((spot.start, spot.end, at));
                }
            }
        }
        for (index, text) in explanation.texts.iter().enumerate() {
            let Some(field) = shown_field(text.field, part) else {
                continue;
            };
            let marks = marks.remove(&index).unwrap_or_default();
            self.add_place(explanation, text, &marks);
            self.add_text(field, text, part, &marks);
        }
    }

    /// What matched, as it came: the match itself, or the text from which the match was decoded.
    fn add_place(
        &mut self,
        explanation: &Explanation,
        text: &Seen,
        marks: &[(usize, usize, usize)],
    ) {
        for &(start, end, _) in marks {
            if text.view == View::Raw {
                self.places.push(Place {
                    text: text.bytes.clone(),
                    range: start..end,
                });
                continue;
            }
            let came = explanation.texts.iter().find(|other| {
                other.view == View::Raw
                    && other.field == text.field
                    && other.name == text.name
                    && !other.bytes.is_empty()
            });
            if let Some(came) = came {
                self.places.push(Place {
                    range: 0..came.bytes.len(),
                    text: came.bytes.clone(),
                });
            }
        }
    }

    fn add_text(&mut self, field: Field, text: &Seen, part: Part, marks: &[(usize, usize, usize)]) {
        let is_body = part != Part::Head;
        let count: usize = self.fields.iter().map(|field| field.texts.len()).sum();
        if count >= limits::TEXTS && marks.is_empty() {
            self.hidden_texts += 1;
            return;
        }
        let label = label(field, &text.name);
        let at = self
            .fields
            .iter()
            .position(|shown| shown.label == label && shown.is_body == is_body);
        let at = at.unwrap_or_else(|| {
            self.fields.push(FieldShown {
                label,
                is_body,
                has_match: false,
                texts: Vec::new(),
            });
            self.fields.len() - 1
        });
        if let Some(shown) = self.fields.get_mut(at) {
            // Nothing was undone, and nothing matched: the same text says nothing again.
            let is_said = shown.texts.iter().any(|said| said.bytes == text.bytes);
            if is_said && marks.is_empty() {
                return;
            }
            shown.has_match |= !marks.is_empty();
            shown.texts.push(TextShown {
                view: match text.view {
                    // A name that an application would not expect is looked at like a value.
                    View::Raw if text.bytes == text.name && !text.name.is_empty() => "name",
                    view => view.name(),
                },
                pieces: pieces(&text.bytes, marks),
                hidden_bytes: text.bytes.len().saturating_sub(limits::TEXT_BYTES),
                bytes: text.bytes.clone(),
            });
        }
    }

    /// Whether a candidate of the body says nothing that the head did not say.
    fn is_known(&self, rules: &RuleSet, candidate: &Candidate) -> bool {
        let id = rules.text(candidate.rule.id);
        let known = self
            .candidates
            .iter()
            .find(|known| !known.is_body && known.id == id);
        known.is_some_and(|known| known.matches || !candidate.matches)
    }

    /// Rules for processes that match a command line in the request.
    fn add_injected(&mut self, rules: &RuleSet, detections: &[Detection]) {
        for detection in detections {
            let Some(rule) = rules.rule(detection.rule) else {
                continue;
            };
            if rule.source != Source::Process as u8
                || self
                    .candidates
                    .iter()
                    .any(|known| known.id == rules.text(rule.id))
            {
                continue;
            }
            let mut shown = CandidateShown::of(rules, &rule);
            shown.matches = true;
            let line = detection
                .evidence
                .as_ref()
                .map(|evidence| printable(&evidence.text, limits::TEXT_BYTES));
            shown.note = format!(
                "matches the command line that the request would have run: {}",
                line.unwrap_or_default()
            );
            self.candidates.push(shown);
        }
    }

    /// The user's rules that were no candidates, with what they would have been asked.
    fn add_own(&mut self, rules: &RuleSet, every: &Explanation, part: Part) {
        for candidate in &every.candidates {
            let is_own = rules.text(candidate.rule.path) == OWN;
            let id = rules.text(candidate.rule.id);
            let title = rules.text(candidate.rule.title);
            let is_known = self
                .candidates
                .iter()
                .any(|known| known.is_own && known.id == id && known.title == title);
            if is_own && !is_known {
                let mut shown = CandidateShown::new(rules, every, candidate, part);
                shown.is_passed_over = true;
                self.candidates.push(shown);
            }
        }
    }

    /// Puts what people look for first, without breaking what pieces refer to.
    fn finish(&mut self) {
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        order.sort_by_key(|at| {
            let candidate = self.candidates.get(*at);
            candidate.map(|candidate| (!candidate.matches, !candidate.is_own, *at))
        });
        self.hidden_candidates = order.len().saturating_sub(limits::CANDIDATES);
        order.truncate(limits::CANDIDATES);
        let mut candidates: Vec<Option<CandidateShown>> = std::mem::take(&mut self.candidates)
            .into_iter()
            .map(Some)
            .collect();
        let mut places = vec![None; candidates.len()];
        for (to, from) in order.iter().enumerate() {
            if let Some(place) = places.get_mut(*from) {
                *place = Some(to);
            }
            let taken = candidates.get_mut(*from).and_then(Option::take);
            self.candidates.extend(taken);
        }
        let pieces = self
            .fields
            .iter_mut()
            .flat_map(|field| &mut field.texts)
            .flat_map(|text| &mut text.pieces);
        for piece in pieces {
            let rules = std::mem::take(&mut piece.rules);
            piece.rules = rules
                .into_iter()
                .filter_map(|rule| places.get(rule).copied().flatten())
                .collect();
        }
    }
}

impl CandidateShown {
    fn of(rules: &RuleSet, rule: &RuleRecord) -> CandidateShown {
        let path = rules.text(rule.path);
        CandidateShown {
            title: rules.text(rule.title).to_owned(),
            id: rules.text(rule.id).to_owned(),
            path: path.to_owned(),
            alert: type_of(rule),
            severity: Severity::from_number(rule.severity).map_or("", Severity::name),
            is_own: path == OWN,
            matches: false,
            is_passed_over: false,
            is_body: false,
            asked: Vec::new(),
            note: String::new(),
        }
    }

    fn new(
        rules: &RuleSet,
        explanation: &Explanation,
        candidate: &Candidate,
        part: Part,
    ) -> CandidateShown {
        let asked = |asked: &Asked| {
            let spot = asked
                .spot
                .filter(|spot| asked.answer && spot.end > spot.start);
            let spot = spot.and_then(|spot| {
                let text = explanation.text_of(spot)?;
                Some(SpotShown {
                    label: label(
                        shown_field(text.field, part).unwrap_or(text.field),
                        &text.name,
                    ),
                    view: text.view.name(),
                    offset: spot.start,
                    text: printable(text.bytes.get(spot.start..spot.end)?, 200),
                    confidence: spot.confidence,
                })
            });
            AskedShown {
                question: question(rules, asked.matcher),
                answer: asked.answer,
                spot,
            }
        };
        CandidateShown {
            matches: candidate.matches,
            is_body: part != Part::Head,
            asked: candidate.asked.iter().map(asked).collect(),
            ..CandidateShown::of(rules, &candidate.rule)
        }
    }
}

/// What the texts of a field are shown as. A body is inspected as a query; what else stands in the request has been
/// shown with the head.
fn shown_field(field: Field, part: Part) -> Option<Field> {
    match (part, field) {
        (Part::Head, field) => Some(field),
        (Part::Body, Field::QueryValue) => Some(Field::BodyValue),
        (Part::Body, Field::UriQuery) => Some(Field::Body),
        (Part::Both, Field::Body | Field::BodyValue) => Some(field),
        (Part::Body | Part::Both, _) => None,
    }
}

/// A text in pieces: what no mark covers, and what the same marks cover.
fn pieces(bytes: &[u8], marks: &[(usize, usize, usize)]) -> Vec<Piece> {
    let shown = bytes.get(..limits::TEXT_BYTES).unwrap_or(bytes);
    // A character that a mark would cut is marked whole.
    let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let back = |at: usize| {
        let mut starts = (at.saturating_sub(3)..=at).rev();
        starts.find(|at| !is_inside(*at)).unwrap_or(at)
    };
    let on = |at: usize| (at..at + 4).find(|at| !is_inside(*at)).unwrap_or(at);
    let marks: Vec<(usize, usize, usize)> = marks
        .iter()
        .map(|&(start, end, rule)| (back(start), on(end).min(shown.len()), rule))
        .filter(|(start, end, _)| start < end)
        .collect();
    let mut cuts: Vec<usize> = marks
        .iter()
        .flat_map(|(start, end, _)| [*start, *end])
        .chain([0, shown.len()])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut pieces = Vec::new();
    for pair in cuts.windows(2) {
        let &[start, end] = pair else { continue };
        let mut rules: Vec<usize> = marks
            .iter()
            .filter(|mark| mark.0 <= start && end <= mark.1)
            .map(|mark| mark.2)
            .collect();
        rules.dedup();
        pieces.push(Piece {
            text: printable(shown.get(start..end).unwrap_or_default(), usize::MAX),
            rules,
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_pieces_at_its_marks() {
        let text = |bytes: &[u8], marks: &[(usize, usize, usize)]| -> Vec<(String, Vec<usize>)> {
            let pieces = pieces(bytes, marks);
            pieces
                .into_iter()
                .map(|piece| (piece.text, piece.rules))
                .collect()
        };
        assert_eq!(text(b"", &[]), []);
        assert_eq!(text(b"abc", &[]), [("abc".into(), vec![])]);
        assert_eq!(
            text(b"abcdef", &[(1, 4, 0), (3, 6, 7)]),
            [
                ("a".into(), vec![]),
                ("bc".into(), vec![0]),
                ("d".into(), vec![0, 7]),
                ("ef".into(), vec![7]),
            ]
        );
        // Inside of a character, past the end, and bytes that are no text.
        assert_eq!(
            text("aéb".as_bytes(), &[(2, 3, 0)]),
            [
                ("a".into(), vec![]),
                ("é".into(), vec![0]),
                ("b".into(), vec![])
            ]
        );
        assert_eq!(text(b"ab", &[(1, 99, 0)])[1], ("b".into(), vec![0]));
        // As if the last two were the rest of a character, which is marked whole.
        assert_eq!(text(b"\x80\x80\x80\x80", &[(2, 3, 0)]).len(), 2);
        assert_eq!(text(b"\x00<", &[])[0].0, "\\x00<");
    }
}
