//! How many exchanges a second the host takes through a plugin that reads all headers. Run by hand, in release:
//! `cargo test --release -p portcullis-harness --test host_speed -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use portcullis_harness::host::{Ending, Exchange, Gateway, GatewayOptions, Module};

/// Reads the whole header map once per request and answers nothing; its arena is reset each time.
const FLOOR: &str = r#"(module
    (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (global $reads (export "reads") (mut i32) (i32.const 0))
    (func (export "malloc") (param i32) (result i32) (i32.const 65536))
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (if (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)) (then unreachable))
        (if (i32.ne (i32.load (i32.load (i32.const 0))) (local.get 1)) (then unreachable))
        (i32.const 0)))"#;

/// A browser's request: 19 headers, about 1.2 kB.
fn browser() -> Vec<(Vec<u8>, Vec<u8>)> {
    let long = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
    let cookie = "session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes; cart="
        .to_owned()
        + &"x".repeat(400);
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "shop.example.com"),
        (":path", "/catalogue/items?category=books&sort=price&page=3"),
        ("user-agent", long),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        ),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        (
            "referer",
            "https://shop.example.com/catalogue/items?category=books",
        ),
        ("cookie", &cookie),
        ("sec-fetch-dest", "document"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-user", "?1"),
        ("upgrade-insecure-requests", "1"),
        ("cache-control", "max-age=0"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "4f9c6e0a-2d5b-4a57-9a52-7f4d1c3b8e21"),
    ]
    .iter()
    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
    .collect()
}

#[test]
#[ignore = "a measurement"]
fn exchanges_per_second() {
    let module = Module::compile(&wat::parse_str(FLOOR).expect("text")).expect("links");
    let mut gateway = Gateway::start(&module, GatewayOptions::default()).expect("starts");
    let headers = browser();
    let exchange = Exchange {
        request_headers: &headers,
        source_address: Some("203.0.113.7:4711"),
        ..Exchange::default()
    };
    for round in 0..5 {
        let started = Instant::now();
        let count = 200_000;
        for _ in 0..count {
            let outcome = gateway.worker(0).exchange(&exchange);
            assert_eq!(outcome.ending, Ending::Forwarded);
        }
        let each = started.elapsed() / count;
        println!(
            "round {round}: {each:?} an exchange, {:.0} a second",
            1.0 / each.as_secs_f64()
        );
    }
}
