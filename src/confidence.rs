//! What several signs in one request come to.
//!
//! Takes in the detections of a request; gives them back with the confidence that each has beside the others.
//!
//! A detection by itself is as sure as its detector or rule says. Another sign in the same request makes it surer, by half
//! of what that sign would weigh alone, since signs in one request are not independent of each other:
//!
//! ```text
//! doubt(d) = (1 - c(d)) · Π (1 - c(other) / 2)         confidence = 1 - doubt, at most CEILING
//!
//! a cheap scanner's probe 40 %, a spam Referer 30 %     1 - 0.6 · 0.85  =  49 %
//! SQL in two parameters and the User-Agent, 60 % each   1 - 0.4 · 0.7²  =  80 %
//! ```
//!
//! *Another sign* is one of another alert type, or of the same one in another place (field and name). Two rules of one type
//! about one parameter have seen the same thing twice. A command rule that matched what a request tries to run rests on the
//! detection that found the command, so it is no sign of its own. Nothing becomes surer than [`CEILING`] by
//! company alone: that many weak signs are an attack is likely, not certain.
//!
//! Policy asks for `min_confidence` after this, of what it let stand: what an exception let go makes nothing surer.

use crate::event::Source;
use crate::field::Field;
use crate::inspect::Detection;
use crate::ruleset::RuleSet;
use crate::sorted;

/// The most that company makes of a weak sign, per cent: as sure as a detector that is sure.
pub const CEILING: u8 = 90;

/// Adds up the signs in one request. At most [`SIGNS`] are taken into account, the surest first.
pub fn add_up(rules: &RuleSet, detections: &mut [Detection]) {
    if detections.len() < 2 || detections.iter().all(|one| one.confidence >= CEILING) {
        return;
    }
    let mut signs: Vec<Sign> = Vec::with_capacity(detections.len().min(SIGNS));
    let mut by_confidence: Vec<&Detection> = detections.iter().collect();
    sorted::by_key(&mut by_confidence, |detection| {
        u64::from(u8::MAX - detection.confidence)
    });
    for detection in by_confidence {
        if signs.len() == SIGNS {
            break;
        }
        if let Some(sign) = Sign::of(rules, detection)
            && !signs.iter().any(|known| known.is_same(&sign))
        {
            signs.push(sign);
        }
    }
    let sums: Vec<u8> = detections
        .iter()
        .map(|detection| match Sign::of(rules, detection) {
            Some(own) => own.beside(&signs),
            None => detection.confidence,
        })
        .collect();
    for (detection, sum) in detections.iter_mut().zip(sums) {
        detection.confidence = sum;
    }
}

/// How many signs of one request are added up.
const SIGNS: usize = 8;

/// One sign.
struct Sign {
    alert: u16,
    place: Option<(Field, Vec<u8>)>,
    confidence: u8,
}

impl Sign {
    /// The sign that a detection is; none if it is one that stands for others.
    fn of(rules: &RuleSet, detection: &Detection) -> Option<Sign> {
        let rule = rules.rule(detection.rule)?;
        let stands_for_others =
            rule.source == Source::Process as u8 || detection.correlated.is_some();
        (rule.silent == 0 && !stands_for_others).then(|| Sign {
            alert: rule.alert,
            place: detection
                .evidence
                .as_ref()
                .map(|evidence| (evidence.field, evidence.name.clone())),
            confidence: detection.confidence,
        })
    }

    /// Whether both have seen the same thing.
    fn is_same(&self, other: &Sign) -> bool {
        self.alert == other.alert && self.place == other.place
    }

    /// Its confidence beside these.
    fn beside(&self, signs: &[Sign]) -> u8 {
        if self.confidence >= CEILING {
            return self.confidence;
        }
        // In units of 1/200 per sign, so that halves are whole numbers.
        let doubt = signs.iter().filter(|other| !self.is_same(other)).fold(
            100 - u64::from(self.confidence.min(100)),
            |doubt, other| {
                // Rounded up: company never adds more than the model says.
                (doubt * 1000 * (200 - u64::from(other.confidence.min(100)))).div_ceil(200_000)
            },
        );
        (100 - doubt.min(100)).clamp(u64::from(self.confidence), u64::from(CEILING)) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(alert: u16, name: &str, confidence: u8) -> Sign {
        Sign {
            alert,
            place: Some((Field::QueryValue, name.as_bytes().to_vec())),
            confidence,
        }
    }

    #[test]
    fn other_signs_add_half_their_weight() {
        let probe = sign(1, "", 40);
        assert_eq!(probe.beside(&[sign(1, "", 40), sign(2, "", 30)]), 49);
        let sql = || sign(3, "a", 60);
        assert_eq!(
            sql().beside(&[sql(), sign(3, "b", 60), sign(4, "", 60)]),
            80
        );
    }

    #[test]
    fn the_same_thing_seen_twice_is_one_sign() {
        let seen = sign(3, "a", 60);
        assert_eq!(seen.beside(&[sign(3, "a", 90), sign(3, "a", 30)]), 60);
    }

    #[test]
    fn company_alone_never_makes_sure() {
        let weak = sign(1, "", 20);
        let many: Vec<Sign> = (2..10).map(|alert| sign(alert, "", 89)).collect();
        assert_eq!(weak.beside(&many), CEILING);
        let sure = sign(1, "", 95);
        assert_eq!(sure.beside(&many), 95);
    }

    #[test]
    fn no_sign_makes_another_less_sure() {
        for own in 0..=100 {
            for other in 0..=100 {
                assert!(sign(1, "", own).beside(&[sign(2, "", other)]) >= own);
            }
        }
    }
}
