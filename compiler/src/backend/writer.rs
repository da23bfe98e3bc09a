//! Lays rules out in sections and builds the prefilter's tables.

use std::collections::{HashMap, HashSet};

use portcullis::catalogue::Severity;
use portcullis::event::Source;
use portcullis::field::{Field, Lane};
use portcullis::normalise::Classes;
use portcullis::ruleset::grams::{self, Placed};
use portcullis::ruleset::layout::{
    self, CidrRecord, CorrelationKind, CorrelationRecord, Index, KeyRecord, LaneRecord,
    ListenerRecord, LiteralRecord, MatcherRecord, NodeKind, NodeRecord, Op, Record, RuleRecord,
    Run, Section, Span, Wait, fold_gram,
};

use super::anchor::{self, Anchor, GRAM_BYTES};
use super::correlation::{Correlated, Expression};
use super::tree::{Leaf, Operand, Tree};

/// A rule's metadata.
pub struct RuleInput<'a> {
    pub id: &'a str,
    pub title: &'a str,
    pub path: &'a str,
    pub tags: Vec<&'a str>,
    pub alert: u16,
    pub severity: Severity,
    pub confidence: u8,
    pub source: Source,
    pub needs_response: bool,
    pub silent: bool,
}

/// Collects rules, then writes them.
#[derive(Default)]
pub struct Writer {
    text: Vec<u8>,
    spans: HashMap<Vec<u8>, Span>,
    rules: Vec<RuleRecord>,
    nodes: Vec<NodeRecord>,
    matchers: Vec<MatcherRecord>,
    literals: Vec<Literal>,
    literal_index: HashMap<(Vec<u8>, u8), u32>,
    matcher_literals: Vec<Index>,
    dfas: Vec<u8>,
    dfa_index: HashMap<Vec<u8>, Run>,
    cidrs: Vec<CidrRecord>,
    /// The rules that wait at each gate.
    gates: Vec<Vec<u32>>,
    always: Vec<u32>,
    answers: Vec<u32>,
    lanes_read: u8,
    correlations: Vec<CorrelationRecord>,
    /// For each correlation's rule its number, the listener without its keys, and these.
    listeners: Vec<(u32, ListenerRecord, Vec<KeyRecord>)>,
}

struct Literal {
    text: Vec<u8>,
    lanes: u8,
    /// Rules that it makes candidates.
    rules: Vec<u32>,
    scanned: bool,
}

impl Writer {
    /// Adds a rule. Returns whether it has an anchor; without one every event evaluates it.
    pub fn rule(&mut self, input: &RuleInput<'_>, tree: &Tree) -> bool {
        let number = index(self.rules.len());
        let reads = reads(tree);
        let root = self.node_slots(1);
        self.node(root, tree);
        let record = self.rule_record(input);
        self.rules.push(RuleRecord {
            root,
            reads,
            ..record
        });
        self.lanes_read |= reads as u8;
        let anchors = anchor::of(tree);
        match &anchors {
            Some(anchors) => self.anchor(number, anchors),
            None if input.needs_response => self.answers.push(number),
            None => self.always.push(number),
        }
        // A rule that waits for any text is cheap only where the engine remembers texts that were harmless.
        let remembered = [Lane::UserAgent, Lane::Referer]
            .iter()
            .any(|lane| reads == u16::from(lane.bit()));
        anchors.is_some_and(|anchors| remembered || !anchor::is_any_text(&anchors))
    }

    fn rule_record(&mut self, input: &RuleInput<'_>) -> RuleRecord {
        RuleRecord {
            id: self.span(input.id.as_bytes()),
            title: self.span(input.title.as_bytes()),
            path: self.span(input.path.as_bytes()),
            tags: self.span(input.tags.join("\n").as_bytes()),
            alert: input.alert,
            severity: input.severity as u8,
            confidence: input.confidence,
            source: input.source as u8,
            needs_response: u8::from(input.needs_response),
            silent: u8::from(input.silent),
            ..RuleRecord::default()
        }
    }

    /// Adds a correlation.
    pub fn correlation(&mut self, input: &RuleInput<'_>, correlation: &Correlated) {
        let number = index(self.correlations.len());
        let record = RuleRecord {
            root: number,
            ..self.rule_record(input)
        };
        let condition = match &correlation.expression {
            Some(expression) => {
                let root = self.node_slots(1);
                self.expression(root, expression);
                root
            }
            None => CorrelationRecord::COUNTED,
        };
        self.correlations.push(CorrelationRecord {
            rule: index(self.rules.len()),
            kind: correlation.kind as u8,
            reserved: 0,
            inputs: u16::try_from(correlation.inputs.len()).unwrap_or(u16::MAX),
            timespan_ns: correlation.timespan_ns,
            at_least: correlation.at_least,
            at_most: correlation.at_most,
            condition,
        });
        self.rules.push(record);
        for (place, rule) in (0..).zip(&correlation.inputs) {
            let keys = rule.keys.iter().map(|key| KeyRecord {
                field: key.field,
                name: self.span(key.name.to_ascii_lowercase().as_bytes()),
                label: self.span(key.label.as_bytes()),
                ..KeyRecord::default()
            });
            let keys = keys.collect();
            let listener = ListenerRecord {
                correlation: number,
                place,
                has_value: u16::from(matches!(
                    correlation.kind,
                    CorrelationKind::ValueCount | CorrelationKind::NewValue
                )),
                keys: Run::default(),
            };
            self.listeners.push((rule.rule, listener, keys));
        }
    }

    /// Writes a correlation's expression over its rules.
    fn expression(&mut self, slot: u32, expression: &Expression) {
        let (kind, threshold, children) = match expression {
            Expression::Rule(place) => (
                NodeKind::Leaf,
                0,
                Run {
                    first: *place,
                    count: 1,
                },
            ),
            Expression::AtLeast(count, parts) => {
                let first = self.node_slots(parts.len());
                for (part, at) in parts.iter().zip(first..) {
                    self.expression(at, part);
                }
                let children = Run {
                    first,
                    count: index(parts.len()),
                };
                (NodeKind::AtLeast, *count, children)
            }
        };
        if let Some(node) = self.nodes.get_mut(slot as usize) {
            *node = NodeRecord {
                kind: kind as u8,
                reserved: 0,
                threshold,
                children,
            };
        }
    }

    /// Gives each rule its listeners. Returns the records and their keys.
    fn listeners(&mut self) -> (Vec<ListenerRecord>, Vec<KeyRecord>) {
        let (mut all, mut keys) = (Vec::new(), Vec::<KeyRecord>::new());
        // Most rules of a correlation have the same keys.
        let mut known: HashMap<Vec<u8>, Run> = HashMap::new();
        self.listeners.sort_by_key(|(rule, ..)| *rule);
        for (rule, listener, own) in &self.listeners {
            let run = *known.entry(records(own)).or_insert_with(|| {
                let first = index(keys.len());
                keys.extend(own);
                Run {
                    first,
                    count: index(own.len()),
                }
            });
            if let Some(rule) = self.rules.get_mut(*rule as usize) {
                if rule.listeners.count == 0 {
                    rule.listeners.first = index(all.len());
                }
                rule.listeners.count += 1;
            }
            all.push(ListenerRecord {
                keys: run,
                ..*listener
            });
        }
        (all, keys)
    }

    fn anchor(&mut self, rule: u32, anchors: &[Anchor]) {
        for one in anchors {
            match one {
                Anchor::Text { text, lanes } => {
                    let literal = self.literal(text, *lanes);
                    if let Some(literal) = self.literals.get_mut(literal as usize) {
                        literal.scanned = true;
                        if literal.rules.last() != Some(&rule) {
                            literal.rules.push(rule);
                        }
                    }
                }
                Anchor::Classes {
                    classes,
                    lanes,
                    wait,
                } => {
                    self.gates.resize(layout::GATES, Vec::new());
                    let any_text = (*classes == 0).then_some(layout::ANY_TEXT);
                    let set = (0..Classes::BITS).filter(|class| classes >> class & 1 != 0);
                    for class in set.chain(any_text) {
                        for lane in Lane::ALL.into_iter().filter(|lane| lanes & lane.bit() != 0) {
                            let waiting = self.gates.get_mut(layout::gate(*wait, lane, class));
                            if let Some(waiting) = waiting.filter(|w| w.last() != Some(&rule)) {
                                waiting.push(rule);
                            }
                        }
                    }
                }
            }
        }
    }

    fn node_slots(&mut self, count: usize) -> u32 {
        let first = index(self.nodes.len());
        self.nodes.resize(
            self.nodes.len() + count,
            NodeRecord {
                kind: NodeKind::Or as u8,
                ..NodeRecord::default()
            },
        );
        first
    }

    fn node(&mut self, slot: u32, tree: &Tree) {
        let group = |writer: &mut Writer, children: &[Tree]| {
            let first = writer.node_slots(children.len());
            for (child, at) in children.iter().zip(first..) {
                writer.node(at, child);
            }
            Run {
                first,
                count: index(children.len()),
            }
        };
        let (kind, threshold, children) = match tree {
            Tree::And(children) => (NodeKind::And, 0, group(self, children)),
            Tree::Or(children) => (NodeKind::Or, 0, group(self, children)),
            Tree::AtLeast(count, children) => (
                NodeKind::AtLeast,
                u16::try_from(*count).unwrap_or(u16::MAX),
                group(self, children),
            ),
            Tree::Not(child) => (NodeKind::Not, 0, group(self, std::slice::from_ref(child))),
            Tree::Leaf(leaf) => (
                NodeKind::Leaf,
                0,
                Run {
                    first: self.matcher(leaf),
                    count: 1,
                },
            ),
        };
        if let Some(node) = self.nodes.get_mut(slot as usize) {
            *node = NodeRecord {
                kind: kind as u8,
                reserved: 0,
                threshold,
                children,
            };
        }
    }

    fn matcher(&mut self, leaf: &Leaf) -> u32 {
        let part = leaf
            .field
            .as_ref()
            .and_then(|path| path.part.as_deref())
            .unwrap_or_default();
        let mut record = MatcherRecord {
            field: leaf
                .field
                .as_ref()
                .map_or(MatcherRecord::ANY_FIELD, |path| path.field as u8),
            op: leaf.op as u8,
            flags: if leaf.cased { MatcherRecord::CASED } else { 0 }
                | if leaf.raw { MatcherRecord::RAW } else { 0 },
            detail: leaf.detail,
            name: self.span(part.to_ascii_lowercase().as_bytes()),
            operand: Run::default(),
            number: leaf.number,
        };
        record.operand = match &leaf.operand {
            Operand::None | Operand::Structure(_) => Run::default(),
            Operand::Literals(texts) => {
                let lanes = leaf.lanes();
                // A wildcard pattern is no text that a scan could find, so it has a set of lanes of its
                // own: none.
                let lanes = if leaf.op == Op::Wildcard { 0 } else { lanes };
                match leaf.cased {
                    true => self.literals_of(texts, lanes),
                    false => {
                        let lower = texts.iter().map(|text| text.to_ascii_lowercase());
                        self.literals_of(&lower.collect::<Vec<_>>(), lanes)
                    }
                }
            }
            Operand::Cidrs(networks) => {
                let first = index(self.cidrs.len());
                for (network, bits) in networks {
                    self.cidrs.push(CidrRecord {
                        high: (network >> 64) as u64,
                        low: *network as u64,
                        bits: *bits,
                        ..CidrRecord::default()
                    });
                }
                Run {
                    first,
                    count: index(networks.len()),
                }
            }
            Operand::Regex(regex) => {
                let required = regex.required.as_deref().unwrap_or_default();
                record.number = MatcherRecord::number_of(self.literals_of(required, leaf.lanes()));
                // A rule asks the same of several fields; the table is the bulk of it.
                let Writer {
                    dfas, dfa_index, ..
                } = self;
                *dfa_index.entry(regex.table.clone()).or_insert_with(|| {
                    let first = index(dfas.len());
                    dfas.extend_from_slice(&regex.table);
                    Run {
                        first,
                        count: index(regex.table.len()),
                    }
                })
            }
        };
        self.matchers.push(record);
        index(self.matchers.len() - 1)
    }

    /// The list of a matcher's literals.
    fn literals_of(&mut self, texts: &[Vec<u8>], lanes: u8) -> Run {
        let first = index(self.matcher_literals.len());
        for text in texts {
            let literal = self.literal(text, lanes);
            self.matcher_literals.push(Index(literal));
        }
        Run {
            first,
            count: index(texts.len()),
        }
    }

    /// The number of a literal that counts in these lanes.
    fn literal(&mut self, text: &[u8], lanes: u8) -> u32 {
        let next = index(self.literals.len());
        let number = *self
            .literal_index
            .entry((text.to_vec(), lanes))
            .or_insert(next);
        if number == next {
            let text = text.to_vec();
            self.literals.push(Literal {
                text,
                lanes,
                rules: Vec::new(),
                scanned: false,
            });
        }
        number
    }

    fn span(&mut self, text: &[u8]) -> Span {
        let Writer {
            spans, text: heap, ..
        } = self;
        *spans.entry(text.to_vec()).or_insert_with(|| {
            let span = Span {
                offset: index(heap.len()),
                len: index(text.len()),
            };
            heap.extend_from_slice(text);
            span
        })
    }

    /// The finished ruleset; none if it has more texts than their indices can tell apart.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        let mut sections = vec![Vec::new(); Section::COUNT];
        let mut put = |section: Section, bytes: Vec<u8>| {
            if let Some(slot) = sections.get_mut(section as usize) {
                *slot = bytes;
            }
        };
        let mut literal_records = Vec::new();
        let mut postings: Vec<u32> = Vec::new();
        let mut lists: HashMap<Vec<u32>, Index> = HashMap::new();
        for literal in std::mem::take(&mut self.literals) {
            let span = self.span(&literal.text);
            let postings = match literal.scanned {
                true => *lists.entry(literal.rules).or_insert_with_key(|rules| {
                    let list = Index(index(postings.len()));
                    postings.push(index(rules.len()));
                    postings.extend(rules);
                    list
                }),
                false => LiteralRecord::NOT_SCANNED,
            };
            literal_records.push(LiteralRecord {
                text: span.offset,
                bytes: u16::try_from(span.len).unwrap_or(u16::MAX),
                postings,
                lanes: literal.lanes,
            });
        }
        let placed = placed(&literal_records, &self.text);
        let lanes = lanes(&placed, self.lanes_read, &self.gates);
        let bitmap_bytes = lanes.iter().map(bitmap_bytes).sum();
        let bitmaps = grams::bitmaps(&placed, &lanes, bitmap_bytes);
        // About one slot for each two grams.
        let known: HashSet<u32> = placed.iter().map(|one| one.gram).collect();
        let slots = (known.len().next_power_of_two() / 2).max(1);
        let (table, entries) = grams::table(&placed, slots);
        let (listeners, keys) = self.listeners();
        put(Section::Listeners, records(&listeners));
        put(Section::Keys, records(&keys));
        put(Section::Correlations, records(&self.correlations));
        put(Section::Text, std::mem::take(&mut self.text));
        put(Section::Rules, records(&self.rules));
        put(Section::Nodes, records(&self.nodes));
        put(Section::Matchers, records(&self.matchers));
        put(Section::Literals, records(&literal_records));
        put(Section::MatcherLiterals, records(&self.matcher_literals));
        put(Section::Postings, records(&postings));
        put(Section::Dfas, self.dfas);
        put(Section::Cidrs, records(&self.cidrs));
        put(Section::Lanes, records(&lanes));
        put(Section::Bitmaps, bitmaps);
        put(Section::Grams, table);
        put(Section::GramEntries, entries);
        let (gate_runs, waiting) = grouped(&self.gates);
        put(Section::ClassGates, records(&waiting));
        put(Section::GateRuns, records(&gate_runs));
        put(Section::Always, records(&self.always));
        put(Section::Answers, records(&self.answers));
        let indexed = literal_records.len().max(postings.len());
        (indexed < LiteralRecord::NOT_SCANNED.0 as usize).then(|| layout::assemble(&sections))
    }
}

/// Chooses the grams by which literals are found.
fn placed(literals: &[LiteralRecord], text: &[u8]) -> Vec<Placed> {
    let mut placed = Vec::new();
    // How many literals each gram has.
    let mut crowds: HashMap<u32, usize> = HashMap::new();
    for (number, literal) in literals
        .iter()
        .enumerate()
        .filter(|(_, literal)| literal.is_scanned())
    {
        let start = literal.text as usize;
        let bytes = text
            .get(start..start + usize::from(literal.bytes))
            .unwrap_or_default();
        let best = bytes
            .windows(GRAM_BYTES)
            .enumerate()
            .filter_map(|(at, window)| {
                let gram = fold_gram(u32::from_le_bytes(*window.first_chunk::<4>()?));
                let (_, share) = anchor::rarest_gram(window)?;
                // A gram that many literals share makes each of its places cost many comparisons.
                let crowd = crowds.get(&gram).copied().unwrap_or(0);
                Some((share * (1.0 + crowd as f64), at, gram))
            })
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, before, gram)) = best else {
            continue;
        };
        *crowds.entry(gram).or_default() += 1;
        placed.push(Placed {
            literal: index(number),
            lanes: literal.lanes,
            gram,
            before: u16::try_from(before).unwrap_or(u16::MAX),
        });
    }
    placed
}

/// What is known of each lane, with a bitmap of 32 bits or more a gram, so that few other grams share a bit.
fn lanes(placed: &[Placed], lanes_read: u8, gates: &[Vec<u32>]) -> Vec<LaneRecord> {
    let mut lanes = Vec::new();
    let mut offset = 0;
    for lane in Lane::ALL {
        let counted = placed.iter().filter(|one| one.lanes & lane.bit() != 0);
        let grams: HashSet<u32> = counted.map(|one| one.gram).collect();
        let waited_for = |wait: Wait, class: u32| {
            let waiting = gates.get(layout::gate(wait, lane, class));
            waiting.is_some_and(|waiting| !waiting.is_empty())
        };
        let gate = |wait: Wait| {
            (0..Classes::BITS)
                .filter(|class| waited_for(wait, *class))
                .fold(0, |classes: Classes, class| classes | 1 << class)
        };
        let log2_bits = match grams.len() {
            0 => 0,
            grams => (grams * 32)
                .next_power_of_two()
                .clamp(1 << 10, 1 << 20)
                .ilog2(),
        };
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let any_text = waited_for(Wait::Text, layout::ANY_TEXT);
        let flags = flag(lanes_read & lane.bit() != 0, LaneRecord::READ)
            | flag(any_text, LaneRecord::ANY_TEXT);
        let record = LaneRecord {
            offset: index(offset),
            log2_bits: log2_bits as u8,
            flags,
            text_gate: gate(Wait::Text),
            structure_gate: gate(Wait::Structure),
        };
        offset += bitmap_bytes(&record);
        lanes.push(record);
    }
    lanes
}

fn bitmap_bytes(lane: &LaneRecord) -> usize {
    (1_usize << lane.log2_bits) / 8
}

/// The lanes that a condition reads, and whether it reads a field that is in none.
fn reads(tree: &Tree) -> u16 {
    match tree {
        Tree::And(children) | Tree::Or(children) | Tree::AtLeast(_, children) => {
            children.iter().fold(0, |all, child| all | reads(child))
        }
        Tree::Not(child) => reads(child),
        Tree::Leaf(leaf) => {
            let other = leaf.compared_field().and_then(Field::lane);
            match leaf.lanes() | other.map_or(0, Lane::bit) {
                0 => RuleRecord::READS_MORE,
                lanes => u16::from(lanes),
            }
        }
    }
}

/// Lists one behind the other, and where each lies.
fn grouped(lists: &[Vec<u32>]) -> (Vec<Run>, Vec<u32>) {
    let mut all = Vec::new();
    let runs = lists.iter().map(|list| {
        let first = index(all.len());
        all.extend(list);
        Run {
            first,
            count: index(list.len()),
        }
    });
    (runs.collect(), all)
}

fn records<R: Record>(all: &[R]) -> Vec<u8> {
    let mut out = Vec::with_capacity(all.len() * R::BYTES);
    for record in all {
        record.write(&mut out);
    }
    out
}

/// A count or index of a ruleset. Rule files are bounded so that none comes near 2^32; one that did would
/// make a ruleset over 4 GiB, which no `RuleSet::open` accepts.
fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Keeps the field table and the layout from drifting apart silently.
const _: () = assert!(Field::ALL.len() < MatcherRecord::ANY_FIELD as usize);
