//! A rule's detection as one tree of conditions whose leaves ask one question each.

use std::net::IpAddr;

use portcullis::field::{Field, Lane};
use portcullis::limits;
use portcullis::ruleset::layout::{self, WILDCARD_MANY, WILDCARD_ONE};
use portcullis::structure;

use super::Refusal;
use super::regex::{self, Regex};
use crate::ast::{
    Comparison, Condition, Confidence, Detection, Match, Node, Number, Op, Part, Quantity,
    Structure, Test, TextOp,
};
use crate::taxonomy::FieldPath;

/// A condition.
#[derive(Clone, Debug)]
pub enum Tree {
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Not(Box<Tree>),
    AtLeast(usize, Vec<Tree>),
    Leaf(Box<Leaf>),
}

/// One question about one field.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// `None` for a keyword.
    pub field: Option<FieldPath>,
    pub op: layout::Op,
    pub cased: bool,
    pub raw: bool,
    pub detail: u8,
    pub number: i64,
    pub operand: Operand,
}

/// What a leaf's question is about.
#[derive(Clone, Debug)]
pub enum Operand {
    None,
    Literals(Vec<Vec<u8>>),
    Cidrs(Vec<(u128, u8)>),
    Regex(Regex),
    Structure(structure::Structure),
}

impl Tree {
    /// The tree of a rule's detection.
    pub fn of(detection: &Detection) -> Result<Tree, Refusal> {
        let selections: Vec<Tree> = detection
            .selections
            .iter()
            .map(|selection| node(&selection.node))
            .collect::<Result<_, _>>()?;
        condition(&detection.condition, &selections)
            .simplified()
            .bounded(detection)
    }

    /// Both at once; the detection is the one to blame if that is too much.
    pub fn and(self, other: Tree, detection: &Detection) -> Result<Tree, Refusal> {
        Tree::And(vec![self, other]).simplified().bounded(detection)
    }

    /// Whether some leaf reads a field for which `wanted` holds.
    pub fn reads(&self, wanted: &impl Fn(Field) -> bool) -> bool {
        match self {
            Tree::And(children) | Tree::Or(children) | Tree::AtLeast(_, children) => {
                children.iter().any(|child| child.reads(wanted))
            }
            Tree::Not(child) => child.reads(wanted),
            Tree::Leaf(leaf) => leaf.field.as_ref().is_some_and(|path| wanted(path.field)),
        }
    }

    /// Whether the condition holds for a response of this status as far as that alone can tell.
    pub fn with_status(&self, status: i64) -> Option<bool> {
        let at_least = |wanted: usize, children: &[Tree]| {
            let answers = || children.iter().map(|child| child.with_status(status));
            let held = answers().filter(|one| *one == Some(true)).count();
            let open = answers().filter(Option::is_none).count();
            match held >= wanted {
                true => Some(true),
                false => (held + open < wanted).then_some(false),
            }
        };
        match self {
            Tree::And(children) => at_least(children.len(), children),
            Tree::Or(children) => at_least(1, children),
            Tree::AtLeast(wanted, children) => at_least(*wanted, children),
            Tree::Not(child) => child.with_status(status).map(|holds| !holds),
            Tree::Leaf(leaf) => leaf.with_status(status),
        }
    }

    /// Joins nested conjunctions and disjunctions and drops those of one child.
    fn simplified(self) -> Tree {
        fn flat(children: Vec<Tree>, same: fn(Tree) -> Result<Vec<Tree>, Tree>) -> Vec<Tree> {
            let mut out = Vec::new();
            for child in children {
                match same(child.simplified()) {
                    Ok(nested) => out.extend(nested),
                    Err(other) => out.push(other),
                }
            }
            out
        }
        let joined = match self {
            Tree::And(children) => Tree::And(flat(children, |tree| match tree {
                Tree::And(nested) => Ok(nested),
                other => Err(other),
            })),
            Tree::Or(children) => Tree::Or(flat(children, |tree| match tree {
                Tree::Or(nested) => Ok(nested),
                other => Err(other),
            })),
            Tree::AtLeast(count, children) => Tree::AtLeast(count, flat(children, Err)),
            Tree::Not(child) => Tree::Not(Box::new(child.simplified())),
            leaf @ Tree::Leaf(_) => leaf,
        };
        match joined {
            Tree::And(mut one) | Tree::Or(mut one) if one.len() == 1 => one.swap_remove(0),
            other => other,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Tree::And(children) | Tree::Or(children) | Tree::AtLeast(_, children) => {
                1 + children.iter().map(Tree::depth).max().unwrap_or(0)
            }
            Tree::Not(child) => 1 + child.depth(),
            Tree::Leaf(_) => 1,
        }
    }

    fn bounded(self, detection: &Detection) -> Result<Tree, Refusal> {
        if self.depth() < limits::CONDITION_DEPTH {
            return Ok(self);
        }
        let span = detection
            .selections
            .first()
            .map(|first| first.name.span)
            .unwrap_or_default();
        Err((
            "condition-too-deep",
            span,
            format!(
                "the condition nests deeper than {} levels",
                limits::CONDITION_DEPTH
            ),
            "split the rule into several",
        ))
    }
}

fn condition(expression: &Condition, selections: &[Tree]) -> Tree {
    let pick = |index: usize| {
        selections
            .get(index)
            .cloned()
            .unwrap_or(Tree::Or(Vec::new()))
    };
    match expression {
        Condition::All(parts) => Tree::And(
            parts
                .iter()
                .map(|part| condition(part, selections))
                .collect(),
        ),
        Condition::Any(parts) => Tree::Or(
            parts
                .iter()
                .map(|part| condition(part, selections))
                .collect(),
        ),
        Condition::Not(part) => Tree::Not(Box::new(condition(part, selections))),
        Condition::Selection(index) => pick(index.value),
        Condition::Of {
            quantity,
            selections: chosen,
            ..
        } => {
            let chosen = chosen.iter().map(|index| pick(*index)).collect();
            match quantity {
                Quantity::All => Tree::And(chosen),
                Quantity::AtLeast(1) => Tree::Or(chosen),
                Quantity::AtLeast(count) => Tree::AtLeast(*count, chosen),
            }
        }
    }
}

fn node(node: &Node) -> Result<Tree, Refusal> {
    let several = |nodes: &[Node]| nodes.iter().map(self::node).collect::<Result<Vec<_>, _>>();
    Ok(match node {
        Node::All(nodes) => Tree::And(several(nodes)?),
        Node::Any(nodes) => Tree::Or(several(nodes)?),
        Node::Test(line) => test(line)?,
    })
}

fn test(test: &Test) -> Result<Tree, Refusal> {
    let tree = if test.all {
        let each = test
            .values
            .iter()
            .map(|alternatives| any_of(test, alternatives.iter()));
        Tree::And(each.collect::<Result<_, _>>()?)
    } else {
        any_of(test, test.values.iter().flatten())?
    };
    Ok(if test.negated {
        Tree::Not(Box::new(tree))
    } else {
        tree
    })
}

/// One of several matches of one field. Texts under the same question share a leaf.
fn any_of<'m>(test: &Test, matches: impl Iterator<Item = &'m Match>) -> Result<Tree, Refusal> {
    let mut leaves: Vec<Leaf> = Vec::new();
    let mut others = Vec::new();
    for one in matches {
        match leaf(test, one)? {
            Tree::Leaf(leaf) => match leaves
                .iter_mut()
                .find(|have| have.op == leaf.op && have.cased == leaf.cased)
            {
                Some(Leaf {
                    operand: Operand::Literals(have),
                    ..
                }) => {
                    if let Operand::Literals(more) = leaf.operand {
                        have.extend(more);
                    }
                }
                Some(Leaf {
                    operand: Operand::Cidrs(have),
                    ..
                }) => {
                    if let Operand::Cidrs(more) = leaf.operand {
                        have.extend(more);
                    }
                }
                _ => leaves.push(*leaf),
            },
            other => others.push(other),
        }
    }
    others.extend(leaves.into_iter().map(|leaf| Tree::Leaf(Box::new(leaf))));
    Ok(Tree::Or(others))
}

fn leaf(test: &Test, one: &Match) -> Result<Tree, Refusal> {
    let base = Leaf {
        field: test.field.as_ref().map(|field| field.value.clone()),
        op: layout::Op::Exists,
        cased: one.cased,
        raw: test.raw,
        detail: 0,
        number: 0,
        operand: Operand::None,
    };
    let with = |op, operand| {
        Tree::Leaf(Box::new(Leaf {
            op,
            operand,
            ..base.clone()
        }))
    };
    let numbered = |op, number| {
        Tree::Leaf(Box::new(Leaf {
            op,
            number,
            ..base.clone()
        }))
    };
    let texts = |op, text: &[u8]| -> Result<Tree, Refusal> {
        if text.len() > limits::LITERAL_BYTES {
            return Err((
                "value-too-long",
                one.span,
                format!(
                    "the value is {} bytes long, {} are allowed",
                    text.len(),
                    limits::LITERAL_BYTES
                ),
                "look for a shorter part of it",
            ));
        }
        Ok(with(op, Operand::Literals(vec![text.to_vec()])))
    };
    Ok(match &one.op {
        Op::Equals(text) => texts(layout::Op::Equals, text)?,
        Op::Contains(text) => texts(layout::Op::Contains, text)?,
        Op::StartsWith(text) => texts(layout::Op::StartsWith, text)?,
        Op::EndsWith(text) => texts(layout::Op::EndsWith, text)?,
        Op::Wildcard(parts) => {
            let mut pattern = Vec::new();
            for part in parts {
                match part {
                    Part::Literal(text) => pattern.extend_from_slice(text),
                    Part::Any => pattern.push(WILDCARD_MANY),
                    Part::One => pattern.push(WILDCARD_ONE),
                }
            }
            texts(layout::Op::Wildcard, &pattern)?
        }
        Op::Regex { pattern, flags } => {
            let compiled = regex::compile(pattern, *flags, base.lanes())
                .map_err(|(code, message, help)| (code, one.span, message, help))?;
            with(layout::Op::Regex, Operand::Regex(compiled))
        }
        Op::Cidr { network, prefix } => {
            let (address, bits) = match network {
                IpAddr::V4(v4) => (u128::from(v4.to_ipv6_mapped()), prefix.saturating_add(96)),
                IpAddr::V6(v6) => (u128::from(*v6), *prefix),
            };
            with(layout::Op::Cidr, Operand::Cidrs(vec![(address, bits)]))
        }
        Op::Number(comparison, number) => return compare(*comparison, *number, &numbered),
        Op::Exists(there) => numbered(layout::Op::Exists, i64::from(*there)),
        Op::Null => Tree::Or(vec![
            numbered(layout::Op::Exists, 0),
            with(layout::Op::Equals, Operand::Literals(vec![Vec::new()])),
        ]),
        Op::Field(relation, other) => {
            let op = match relation {
                TextOp::Equals => layout::Op::FieldRef,
                TextOp::Contains => layout::Op::FieldRefContains,
                TextOp::StartsWith => layout::Op::FieldRefStartsWith,
                TextOp::EndsWith => layout::Op::FieldRefEndsWith,
            };
            if other.part.is_some() {
                return Err((
                    "fieldref-to-part",
                    one.span,
                    "`fieldref` cannot refer to one parameter, cookie or header".to_owned(),
                    "refer to a whole field such as `cs-host`",
                ));
            }
            numbered(op, other.field as i64)
        }
        Op::Structure(kind, confidence) => {
            let kind = match kind {
                Structure::Sql => structure::Structure::Sqli,
                Structure::Html => structure::Structure::Xss,
                Structure::Shell => structure::Structure::Command,
                Structure::Path => structure::Structure::Traversal,
                Structure::Url => structure::Structure::Ssrf,
                Structure::Code => structure::Structure::Code,
                Structure::Host => structure::Structure::Spam,
            };
            let detail = match confidence {
                Confidence::Low => structure::LOW,
                Confidence::Medium => structure::MEDIUM,
                Confidence::High => structure::HIGH,
            };
            Tree::Leaf(Box::new(Leaf {
                op: layout::Op::Structure,
                detail,
                number: kind as i64,
                operand: Operand::Structure(kind),
                ..base
            }))
        }
    })
}

/// Numbers of events are whole, so a bound between two whole numbers moves to the nearer one.
fn compare(
    comparison: Comparison,
    number: Number,
    leaf: &impl Fn(layout::Op, i64) -> Tree,
) -> Result<Tree, Refusal> {
    let (floor, ceil) = match number {
        Number::Integer(number) => (number, number),
        Number::Float(number) => (number.floor() as i64, number.ceil() as i64),
    };
    Ok(match comparison {
        // No whole number equals a broken one.
        Comparison::Equal if floor != ceil => Tree::Or(Vec::new()),
        Comparison::NotEqual if floor != ceil => leaf(layout::Op::Exists, 1),
        Comparison::Equal => leaf(layout::Op::NumEq, floor),
        Comparison::NotEqual => Tree::Not(Box::new(leaf(layout::Op::NumEq, floor))),
        Comparison::Less => leaf(layout::Op::NumLt, ceil),
        Comparison::LessOrEqual => leaf(layout::Op::NumLte, floor),
        Comparison::Greater => leaf(layout::Op::NumGt, floor),
        Comparison::GreaterOrEqual => leaf(layout::Op::NumGte, ceil),
    })
}

impl Leaf {
    fn with_status(&self, status: i64) -> Option<bool> {
        let field = self.field.as_ref()?.field;
        if field != Field::Status {
            return None;
        }
        let text = status.to_string();
        let text = text.as_bytes();
        let any = |holds: &dyn Fn(&[u8]) -> bool| match &self.operand {
            Operand::Literals(literals) => Some(literals.iter().any(|literal| holds(literal))),
            _ => None,
        };
        match self.op {
            layout::Op::NumEq => Some(status == self.number),
            layout::Op::NumLt => Some(status < self.number),
            layout::Op::NumLte => Some(status <= self.number),
            layout::Op::NumGt => Some(status > self.number),
            layout::Op::NumGte => Some(status >= self.number),
            layout::Op::Equals => any(&|literal| text == literal),
            layout::Op::StartsWith => any(&|literal| text.starts_with(literal)),
            layout::Op::EndsWith => any(&|literal| text.ends_with(literal)),
            _ => None,
        }
    }

    /// The other field, if the question compares two.
    pub fn compared_field(&self) -> Option<Field> {
        let number = u8::try_from(self.number).ok();
        number
            .filter(|_| self.op.compares_fields())
            .and_then(Field::from_number)
    }

    /// The lanes in which the leaf's field is scanned.
    pub fn lanes(&self) -> u8 {
        let bits = |lanes: &[Lane]| lanes.iter().fold(0, |set, lane| set | lane.bit());
        match &self.field {
            None => bits(&Lane::ALL),
            Some(FieldPath {
                field: Field::Header,
                part: None,
            }) => bits(&[
                Lane::Header,
                Lane::UserAgent,
                Lane::Referer,
                Lane::Cookie,
                Lane::Host,
            ]),
            Some(path) => path.field.lane().map_or(0, Lane::bit),
        }
    }
}
