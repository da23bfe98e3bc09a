//! The shipped correlations are about all the rules that they should be about.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::path::Path;

use portcullis_compiler::ast::Document;
use portcullis_compiler::link::Index;

type List = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

/// A correlation, the folders whose rules it is about, and the rules in them that it leaves out, each with the reason.
const LISTS: [List; 8] = [
    ("sensitive-pages", &["sensitive"], &[]),
    (
        "several-kinds-of-attack",
        &["injection", "protocol", "webshell"],
        &[
            (
                "protocol/graphql-introspection",
                "developers' tools ask for the schema",
            ),
            (
                "webshell/wp-theme-direct",
                "some themes make their style sheet in a script",
            ),
        ],
    ),
    (
        "injection-by-the-dozen",
        &["injection"],
        &[(
            "injection/ssrf-in-referer",
            "a page on an inner host sends its Referer with every request",
        )],
    ),
    (
        "many-hosts",
        &["sensitive"],
        &[("sensitive/bare-folders", "many sites have them")],
    ),
    (
        "many-hosts-one-network",
        &["sensitive"],
        &[("sensitive/bare-folders", "many sites have them")],
    ),
    (
        "campaign",
        &["sensitive"],
        &[("sensitive/bare-folders", "many sites have them")],
    ),
    (
        "slow-scan",
        &["sensitive"],
        &[("sensitive/bare-folders", "many sites have them")],
    ),
    (
        "one-network",
        &["sensitive"],
        &[("sensitive/bare-folders", "many sites have them")],
    ),
];

#[test]
fn a_new_rule_is_counted_or_left_out_for_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    let documents = portcullis_compiler::load_dir(&root).unwrap_or_else(|error| panic!("{error}"));
    let index = Index::of(&documents);
    // `sensitive/environment-files` of a rule.
    let place = |document: &Document| {
        let path = Path::new(document.head().source.name());
        let path = path.strip_prefix(&root).unwrap().with_extension("");
        path.to_str().unwrap().replace('\\', "/")
    };
    let mut checked = 0;
    for (name, folders, left_out) in LISTS {
        let name = format!("behaviour/{name}");
        let correlation = documents.iter().find(|document| place(document) == name);
        let Some(Document::Correlation(correlation)) = correlation else {
            panic!("{name} is no correlation");
        };
        let listed: Vec<usize> = correlation
            .rules
            .iter()
            .map(|rule| index.find(&rule.value).unwrap())
            .collect();
        for (at, document) in documents.iter().enumerate() {
            let place = place(document);
            let belongs = folders
                .iter()
                .any(|folder| place.starts_with(&format!("{folder}/")));
            if !belongs {
                continue;
            }
            let is_left_out = left_out.iter().any(|(rule, _)| *rule == place);
            assert_ne!(
                listed.contains(&at),
                is_left_out,
                "{place} in {name}: list it there, or here with the reason"
            );
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}
