//! What must be in an event for a rule to match: the rule's *anchor*.
//!
//! Takes in a rule's tree. Gives out alternatives, at least one of which stands in every event that
//! the rule matches, chosen so that ordinary traffic has them as rarely as possible:
//!
//! ```text
//! uri contains "select"  AND  uri contains "from"      →  "select"       (the rarer of the two)
//! uri contains "sleep("  OR   uri contains "waitfor"   →  "sleep(" | "waitfor"
//! uri contains "'--"     AND  method is GET            →  a quote         (too short for a gram)
//! NOT …                                                →  nothing
//! ```

use portcullis::field::Lane;
use portcullis::normalise::{self, Classes};
use portcullis::ruleset::layout::{Op, WILDCARD_MANY, WILDCARD_ONE, Wait};

use super::tree::{Leaf, Operand, Tree};

/// One alternative of an anchor.
#[derive(Clone, Debug, PartialEq)]
pub enum Anchor {
    /// This text of four bytes or more (any case) is in one of these lanes.
    Text { text: Vec<u8>, lanes: u8 },
    /// A byte of one of these classes is in one of these lanes; with no class, any text is.
    Classes {
        classes: Classes,
        lanes: u8,
        wait: Wait,
    },
}

/// Bytes of a gram.
pub const GRAM_BYTES: usize = 4;

/// The cheapest anchor of a tree; none if the tree can match without any text.
pub fn of(tree: &Tree) -> Option<Vec<Anchor>> {
    match tree {
        Tree::And(children) => children
            .iter()
            .filter_map(of)
            .min_by(|a, b| cost(a).total_cmp(&cost(b))),
        Tree::Or(children) => {
            let each: Option<Vec<Vec<Anchor>>> = children.iter().map(of).collect();
            each.map(|anchors| anchors.concat())
        }
        // All but `count - 1` of the children may be absent, so any anchored set of the others will do;
        // taking all of them is simple and right.
        Tree::AtLeast(_, children) => of(&Tree::Or(children.clone())),
        Tree::Not(_) => None,
        Tree::Leaf(leaf) => of_leaf(leaf),
    }
}

/// Whether every event with a text in one of its lanes has the anchor.
pub fn is_any_text(anchors: &[Anchor]) -> bool {
    anchors
        .iter()
        .any(|anchor| matches!(anchor, Anchor::Classes { classes: 0, .. }))
}

/// How often ordinary traffic has one of the anchors: an estimate, for choosing.
fn cost(anchors: &[Anchor]) -> f64 {
    anchors
        .iter()
        .map(|anchor| match anchor {
            Anchor::Text { text, .. } => rarest_gram(text).map_or(1.0, |(_, share)| share),
            Anchor::Classes { classes: 0, .. } => 1.0,
            Anchor::Classes { classes, lanes, .. } => classes_share(*classes, *lanes),
        })
        .sum()
}

/// The share of ordinary requests that have a byte of these classes in one of these lanes: every User-Agent has
/// spaces, brackets and semicolons, every Referer a colon, hardly any URL has either.
fn classes_share(classes: Classes, lanes: u8) -> f64 {
    const NOT_IN_URLS: u8 = !(Lane::Uri.bit() | Lane::Referer.bit());
    const SHARES: [(Classes, u8, f64); 11] = [
        (normalise::COLON, Lane::Referer.bit(), 0.9),
        (normalise::COLON, !Lane::Referer.bit(), 0.2),
        (
            normalise::SPACE | normalise::PAREN | normalise::SEMICOLON,
            NOT_IN_URLS,
            0.8,
        ),
        (normalise::SPACE, !NOT_IN_URLS, 0.15),
        (normalise::PAREN | normalise::SEMICOLON, !NOT_IN_URLS, 0.01),
        (
            normalise::PERCENT | normalise::PLUS | normalise::AMPERSAND,
            u8::MAX,
            0.3,
        ),
        (normalise::HIGH, u8::MAX, 0.1),
        (normalise::MARK | normalise::BRACKET, u8::MAX, 0.05),
        (normalise::QUOTE, u8::MAX, 0.02),
        (
            normalise::PIPE | normalise::DOLLAR | normalise::ANGLE,
            u8::MAX,
            0.01,
        ),
        (normalise::BACKSLASH | normalise::CONTROL, u8::MAX, 0.01),
    ];
    let shares = SHARES
        .iter()
        .filter(|(some, among, _)| some & classes != 0 && among & lanes != 0);
    shares.map(|(.., share)| share).sum::<f64>().min(1.0)
}

/// How often ordinary traffic has one of these texts in one of these lanes.
pub fn cost_of_texts(texts: &[Vec<u8>], lanes: u8) -> f64 {
    cost(
        &texts
            .iter()
            .map(|text| of_text(text, lanes))
            .collect::<Vec<_>>(),
    )
}

fn of_leaf(leaf: &Leaf) -> Option<Vec<Anchor>> {
    let lanes = leaf.lanes();
    if lanes == 0 {
        return None;
    }
    match &leaf.operand {
        Operand::Literals(texts) => texts
            .iter()
            .map(|text| {
                let plain = if leaf.op == Op::Wildcard {
                    text.split(|byte| [WILDCARD_MANY, WILDCARD_ONE].contains(byte))
                        .max_by_key(|part| part.len())
                        .unwrap_or_default()
                } else {
                    text
                };
                // An empty text may be what a field that is there holds, or what is not there at all.
                (!text.is_empty()).then(|| of_text(plain, lanes))
            })
            .collect(),
        Operand::Regex(regex) => Some(match &regex.required {
            Some(texts) => texts.iter().map(|text| of_text(text, lanes)).collect(),
            None => vec![Anchor::Classes {
                classes: 0,
                lanes,
                wait: Wait::Text,
            }],
        }),
        Operand::Structure(kind) => {
            let gate = kind.gate();
            let mut anchors = vec![Anchor::Classes {
                classes: gate.classes,
                lanes,
                wait: Wait::Structure,
            }];
            anchors.extend(gate.words.iter().map(|word| Anchor::Text {
                text: word.as_bytes().to_vec(),
                lanes,
            }));
            Some(anchors)
        }
        Operand::None | Operand::Cidrs(_) => None,
    }
}

fn of_text(text: &[u8], lanes: u8) -> Anchor {
    if text.len() >= GRAM_BYTES {
        return Anchor::Text {
            text: text.to_ascii_lowercase(),
            lanes,
        };
    }
    // The rarest class of a short text; `%` and `+` vanish when a field is decoded, but the field as it
    // came still has them.
    let classes = text
        .iter()
        .map(|byte| normalise::classes(&[*byte]))
        .filter(|classes| *classes != 0)
        .min_by(|a, b| classes_share(*a, lanes).total_cmp(&classes_share(*b, lanes)));
    Anchor::Classes {
        classes: classes.unwrap_or(0),
        lanes,
        wait: Wait::Text,
    }
}

/// The gram of a text that ordinary traffic has least often: its offset and an estimate of the share
/// of positions in ordinary URLs and headers that have it.
pub fn rarest_gram(text: &[u8]) -> Option<(usize, f64)> {
    text.windows(GRAM_BYTES)
        .enumerate()
        .map(|(at, gram)| (at, share(gram)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// Texts that are in nearly every URL, Referer or User-Agent.
const COMMON: &[&str] = &[
    "http://www.",
    "https://www.",
    ".com/",
    ".org/",
    ".net/",
    ".php?",
    ".html",
    ".aspx",
    ".json",
    "index.",
    "mozilla/5.0 (",
    "windows nt 10.0; win64; x64",
    "applewebkit/537.36 (khtml, like gecko)",
    "chrome/",
    "safari/537.36",
    "gecko/20100101",
    "firefox/",
    "macintosh; intel mac os x ",
    "linux; android ",
    "compatible; ",
    "iphone; cpu iphone os ",
    "version/",
    "mobile/",
    "search",
    "image",
    "images/",
    "content",
    "static/",
    "/img/",
    "/photo",
    "/upload",
    "/cache/",
    "/media/",
    "order",
    "account",
    "return",
    "check",
    ".jpg",
    ".png",
    ".gif",
    ".xml",
    ".txt",
    ".log",
    "assets/",
    "script",
    "style",
    "admin",
    "login",
    "user",
    "page",
    "product",
    "category",
    "file",
    "list",
    "view",
    "query",
    "google",
    "utm_source=",
    "utm_medium=",
    "utm_campaign=",
    "&amp;",
    "session",
    "version=",
];

fn share(gram: &[u8]) -> f64 {
    let lower = gram.to_ascii_lowercase();
    let common = COMMON.iter().any(|text| {
        text.as_bytes()
            .windows(GRAM_BYTES)
            .any(|known| known == lower)
    });
    let product: f64 = lower.iter().map(|byte| byte_share(*byte)).product();
    if common { product.max(0.01) } else { product }
}

/// The share of a byte in URLs and headers, roughly: letters as in English, the rest by hand.
fn byte_share(byte: u8) -> f64 {
    match byte {
        b'e' | b't' | b'a' | b'o' | b'i' | b's' => 0.06,
        b'n' | b'r' | b'c' | b'l' | b'd' | b'p' | b'm' => 0.035,
        b'a'..=b'z' => 0.015,
        b'0'..=b'9' => 0.025,
        b'/' | b'.' | b'-' => 0.04,
        b'_' | b'=' | b'&' | b' ' | b';' | b':' | b'?' => 0.015,
        b'(' | b')' | b',' | b'%' | b'+' => 0.006,
        _ => 0.0005,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use super::*;

    #[test]
    fn the_rarest_gram_avoids_what_every_request_has() {
        let text = b"https://'evil";
        let (at, _) = rarest_gram(text).expect("the text has grams");
        assert!(text[at..at + GRAM_BYTES].contains(&b'\''), "{at}");
        assert_eq!(rarest_gram(b"abc"), None);
        assert!(share(b"http") > share(b"nion"));
    }
}
