#![allow(clippy::unwrap_used)]
use super::*;

/// Names as spam has them, made up or common property of many logs; none is a row of a list.
const SPAM: &[&str] = &[
    "http://best-seo-rank-4u.xyz/",
    "http://free-traffic-buttons24.ru/",
    "http://buttons-for-your-blog7.com/",
    "http://remont-kuhni-spb.ru/",
    "http://kazino-bonus-online.ru/",
    "http://buy-pills-online-24h.top/",
    "http://cheap-essay-seo.site/",
    "https://webmaster-traffic-monetize.xyz/",
    "http://xn----8sbabcde0agqj.xn--p1ai/",
    "http://zaim-online-ru24.ru/",
    "http://bot-traffic-777.icu/",
    "http://hydra-zerkalo-onion.com/",
];

#[test]
fn names_of_spam_are_found() {
    let missed: Vec<&&str> = SPAM
        .iter()
        .filter(|url| spam(url.as_bytes()).is_none())
        .collect();
    assert!(missed.len() <= 1, "{missed:?}");
}

#[test]
fn well_known_sites_are_no_spam() {
    let hosts = include_str!("ordinary.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let (mut looked_at, mut found) = (0, Vec::new());
    for host in hosts {
        looked_at += 1;
        found.extend(spam(format!("https://www.{host}/").as_bytes()).map(|_| host));
    }
    assert!(looked_at > 250, "{looked_at}");
    // The model has seen them, so this is no measure of its precision; it only must not have failed to learn.
    assert!(found.len() * 50 <= looked_at, "{found:?}");
}

#[test]
fn only_the_host_of_a_web_address_counts() {
    let host = |url: &'static str| host_of(url.as_bytes()).map(|(start, end)| &url[start..end]);
    for (url, expected) in [
        ("http://example.com/", Some("example.com")),
        ("HTTPS://WWW.Example.com:8443/a?b#c", Some("Example.com")),
        ("http://example.com?x", Some("example.com")),
        (
            "http://a-b_c.example.xn--p1ai",
            Some("a-b_c.example.xn--p1ai"),
        ),
        ("http://192.0.2.1/", None),
        ("http://[2001:db8::1]/", None),
        ("http://localhost/", None),
        ("http://user@example.com/", None),
        ("http://abcdefghij234567.onion/", None),
        ("http:///example.com", None),
        ("http://exa mple.com/", None),
        ("ftp://example.com/", None),
        ("android-app://com.example", None),
        ("example.com", None),
        ("", None),
        ("http://", None),
    ] {
        assert_eq!(host(url), expected, "{url}");
    }
}

#[test]
fn the_scheme_changes_nothing_and_a_path_only_what_is_unsure() {
    let verdict = |url: String| spam(url.as_bytes()).map(|found| found.confidence);
    for host in SPAM
        .iter()
        .map(|url| url.split('/').nth(2).unwrap())
        .chain(["github.com"])
    {
        let plain = verdict(format!("http://{host}"));
        for url in [
            format!("https://{host}/"),
            format!("https://www.{host}:443/"),
        ] {
            assert_eq!(verdict(url.clone()), plain, "{url}");
        }
        let page = verdict(format!("http://{host}/page"));
        assert_eq!(page, plain.filter(|sure| *sure >= MEDIUM), "{host}");
    }
}

#[test]
fn what_speaks_for_a_name_adds_up_to_its_score() {
    for name in ["best-seo-4u.xyz", "github.com"] {
        let sum: i32 = weigh(name.as_bytes())
            .iter()
            .map(|(_, weight)| weight)
            .sum();
        assert_eq!(
            MODEL.score(name.as_bytes()),
            MODEL.header(0) + sum,
            "{name}"
        );
    }
}

#[test]
fn the_model_is_in_order() {
    let records: Vec<Gram> = (0..MODEL.grams())
        .filter_map(|at| Some(MODEL.record(at)?.0))
        .collect();
    assert!(records.len() > 1000, "{}", records.len());
    assert!(records.is_sorted(), "not sorted");
    assert!(MODEL.header(1) < MODEL.header(2));
}

#[test]
fn any_bytes_are_a_name_and_a_model() {
    let mut bytes = b"http://".to_vec();
    for round in 0..4096_usize {
        bytes.push((round.wrapping_mul(2_654_435_761) >> 7) as u8);
        spam(&bytes);
        let broken = Model::new(bytes.get(round % 40..).unwrap_or_default());
        broken.judge(b"example.com");
        host_of(bytes.get(round % 9..).unwrap_or_default());
    }
}
