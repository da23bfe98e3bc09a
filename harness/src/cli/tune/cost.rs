//! What exclusions cost: attacks that nothing finds any more.

use std::path::PathBuf;

use anyhow::Result;
use portcullis::policy::Policy;
use portcullis::ruleset::RuleSet;

use super::observe::{Complaint, Observer, RuleKey, each_record};
use super::propose::Exclusion;
use crate::capture::Label;
use crate::report::{Progress, printable};

/// The cost of one exclusion.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Attacks, as they were captured, that nothing finds any more.
    pub missed: u64,
    /// Attacks that only the excluded rule finds: what is missed at most, should all of them go where it is excluded.
    pub missed_there: u64,
}

/// Of all exclusions.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    pub attacks: u64,
    pub found_before: u64,
    /// With all exclusions together.
    pub found_after: u64,
    /// In the order of the exclusions.
    pub each: Vec<Cost>,
    pub unread_captures: u64,
}

impl Costs {
    /// Takes every attack through the policy as it is, and where something is found through each exclusion for a rule that found it.
    pub fn measure<'e>(
        rules: &RuleSet,
        before: &Policy,
        after: &Policy,
        exclusions: impl Iterator<Item = (&'e Exclusion, &'e Policy)>,
        captures: &[PathBuf],
        progress: &mut Progress,
    ) -> Result<Costs> {
        let mut with: Vec<_> = exclusions
            .map(|(exclusion, policy)| (exclusion, Observer::new(rules.clone(), policy)))
            .collect();
        let mut costs = Costs {
            each: vec![Cost::default(); with.len()],
            ..Costs::default()
        };
        let mut before = Observer::new(rules.clone(), before);
        let mut after = Observer::new(rules.clone(), after);
        let raised = |observer: &mut Observer<'_>, record: &_| {
            let standing = observer.standing(record);
            let rules = observer.rules();
            // A single attack is no behaviour, and rows of a corpus are no traffic of one source.
            let single = standing.iter().filter(|found| found.correlated.is_none());
            let mut keys: Vec<RuleKey> = single
                .filter_map(|found| RuleKey::of(rules, found.rule))
                .collect();
            keys.sort();
            keys.dedup();
            keys
        };
        let mut complaints = Vec::new();
        each_record(captures, None, &mut complaints, |record, part| {
            if record.is_process() || !matches!(record.label, None | Some(Label::Malicious)) {
                return;
            }
            costs.attacks += 1;
            progress.draw(
                record.origin.file.as_ref(),
                part,
                costs.attacks,
                costs.found_before,
            );
            let found = raised(&mut before, record);
            if found.is_empty() {
                return;
            }
            costs.found_before += 1;
            let mut is_touched = false;
            for ((exclusion, observer), cost) in with.iter_mut().zip(&mut costs.each) {
                if !found.contains(&exclusion.rule) {
                    continue;
                }
                is_touched = true;
                cost.missed_there += u64::from(found.len() == 1);
                cost.missed += u64::from(raised(observer, record).is_empty());
            }
            let is_found = !is_touched || !raised(&mut after, record).is_empty();
            costs.found_after += u64::from(is_found);
        });
        progress.clear();
        for complaint in complaints {
            let text = match complaint {
                Complaint::Malformed(text) => text,
                Complaint::Unread(text) => {
                    costs.unread_captures += 1;
                    text
                }
            };
            eprintln!("{}", printable(&text));
        }
        Ok(costs)
    }
}
