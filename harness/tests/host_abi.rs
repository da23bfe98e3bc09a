//! The proxy-wasm host against tiny hand-written plugins: what the host does at the edges of the ABI.
//!
//! Plugins that trap, loop, lie about pointers or have no allocator cannot be written with an SDK, so these are
//! in wasm's text form. `$say` logs a number, and a case is mostly an expression and the number it must give.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use portcullis_harness::host::{
    AbiVersion, Direction, Ending, Exchange, Gateway, GatewayOptions, Log, LogLevel,
    MAX_EFFECT_BYTES, Module, Response, StartError,
};

const IMPORTS: &str = r#"
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_log_level" (func $log_level (param i32) (result i32)))
    (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_value" (func $value (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_size" (func $map_size (param i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $bytes (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_status" (func $buffer (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_buffer_bytes" (func $set_bytes (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_shared_data" (func $shared (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_shared_data" (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
    (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
    (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
    (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
    (import "env" "proxy_get_metric" (func $metric (param i32 i32) (result i32)))
    (import "env" "proxy_http_call"
        (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
    (import "env" "proxy_done" (func $done (result i32)))
    (import "env" "proxy_get_current_time_nanoseconds" (func $time (param i32) (result i32)))
    (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
    (import "env" "proxy_send_local_response"
        (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_unstable" "fd_close" (func $fd_close (param i32) (result i32)))
"#;

const ALLOCATOR: &str = r#"
    (global $top (mut i32) (i32.const 65536))
    (func $alloc (export "proxy_on_memory_allocate") (param i32) (result i32)
        global.get $top
        (global.set $top (i32.add (global.get $top) (local.get 0))))
"#;

/// `$say` logs a number below 1000; `$show` logs the bytes whose pointer is at 0 and size at 4.
const HELPERS: &str = r#"
    (memory (export "memory") 4)
    (func $say (param i32)
        (i32.store8 (i32.const 40) (i32.add (i32.const 48) (i32.div_u (local.get 0) (i32.const 100))))
        (i32.store8 (i32.const 41)
            (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get 0) (i32.const 10)) (i32.const 10))))
        (i32.store8 (i32.const 42) (i32.add (i32.const 48) (i32.rem_u (local.get 0) (i32.const 10))))
        (drop (call $log (i32.const 2) (i32.const 40) (i32.const 3))))
    (func $show
        (drop (call $log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4)))))
"#;

fn compile(text: &str) -> anyhow::Result<Module> {
    Module::compile(&wat::parse_str(text).expect("the text is a module"))
}

/// A plugin: the parts every one needs, then `rest`.
fn plugin(rest: &str) -> Module {
    compile(&format!(
        r#"(module {IMPORTS} {HELPERS} {ALLOCATOR} (func (export "proxy_abi_version_0_2_1")) {rest})"#
    ))
    .expect("the module links")
}

/// A plugin that runs `body` in the request header callback and goes on.
fn on_headers(body: &str) -> Module {
    plugin(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body} (i32.const 0))"#
    ))
}

fn start(module: &Module) -> Gateway {
    Gateway::start(module, GatewayOptions::default()).expect("the plugin starts")
}

fn refused(module: &Module) -> StartError {
    Gateway::start(module, GatewayOptions::default())
        .err()
        .expect("refused")
}

fn lines(logs: &[Log]) -> Vec<String> {
    logs.iter()
        .map(|log| log.message.escape_ascii().to_string())
        .collect()
}

fn get() -> Exchange<'static, &'static str> {
    Exchange {
        request_headers: &[(":method", "GET"), (":path", "/")],
        ..Exchange::default()
    }
}

#[test]
fn a_plugin_that_only_has_request_headers_sees_them_and_can_answer() {
    let module = on_headers(
        r#"
        (drop (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))
        (call $show)
        (i32.store (i32.const 100) (i32.const 0x20776f6e)) ;; "now "
        (drop (call $set_property (i32.const 100) (i32.const 3) (i32.const 100) (i32.const 4)))
        (drop (call $reply (i32.const 403) (i32.const 100) (i32.const 4) (i32.const 100) (i32.const 4)
            (i32.const 0) (i32.const 0) (i32.const -1)))"#,
    );
    let mut gateway = start(&module);
    let headers = [
        (":method", "GET"),
        (":path", "/"),
        ("User-Agent", "a"),
        ("user-agent", "b"),
    ];
    let exchange = Exchange {
        request_headers: &headers,
        ..Exchange::default()
    };
    let outcome = gateway.worker(0).exchange(&exchange);
    assert_eq!(outcome.logs.len(), 1);
    assert_eq!(outcome.logs[0].level, LogLevel::Info);
    assert!(
        outcome.logs[0]
            .message
            .ends_with(b":method\0GET\0:path\0/\0user-agent\0a,b\0")
    );
    assert_eq!(
        outcome.filter_state,
        [("wasm.now".to_string(), b"now ".to_vec())]
    );
    assert_eq!(outcome.ending, Ending::LocalResponse);
    let response = outcome.local_response.expect("answered");
    assert_eq!(
        (response.status, response.body.as_slice()),
        (403, b"now ".as_slice())
    );
    assert_eq!(response.details, "now_");
    assert_eq!(response.grpc_status, None);
    assert_eq!(
        gateway.worker(0).passed(Direction::Request).headers.len(),
        3
    );
}

#[test]
fn a_refused_configuration_is_an_error_with_the_plugins_words() {
    let module = plugin(
        r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $bytes (i32.const 7) (i32.const 0) (local.get 1) (i32.const 0) (i32.const 4)))
            (call $show)
            (i32.const 0))"#,
    );
    let options = GatewayOptions {
        plugin_config: b"{bad}".to_vec(),
        ..GatewayOptions::default()
    };
    let StartError { reason, logs } = Gateway::start(&module, options).err().expect("refused");
    assert_eq!(
        reason,
        "the plugin refused its configuration (`proxy_on_configure` returned false)"
    );
    assert_eq!(lines(&logs), ["{bad}"]);
    let module =
        plugin(r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 0))"#);
    let reason = refused(&module).reason;
    assert_eq!(
        reason,
        "the plugin refused the VM configuration (`proxy_on_vm_start` returned false)"
    );
}

/// A pointer behind the end of the four pages.
const FAR: &str = "(i32.const 262140)";

#[test]
fn every_host_call_answers_with_envoys_status() {
    let (ok, not_found, bad, memory, empty, unimplemented) = (0, 1, 2, 6, 7, 12);
    let cases: &[(&str, u32)] = &[
        // A level above critical, and pointers that are not the plugin's.
        ("(call $log (i32.const 6) (i32.const 0) (i32.const 0))", bad),
        (
            "(call $log (i32.const 5) (i32.const 0) (i32.const 0x7fffffff))",
            memory,
        ),
        (
            "(call $log (i32.const 5) (i32.const -1) (i32.const -1))",
            memory,
        ),
        ("(call $log_level FAR)", ok),
        ("(call $log_level (i32.const 262141))", memory),
        ("(call $time (i32.const 262137))", memory),
        (
            "(call $pairs (i32.const 0) (i32.const 262141) (i32.const 0))",
            memory,
        ),
        (
            "(call $pairs (i32.const 0) (i32.const 0) (i32.const 0x7ffffffe))",
            memory,
        ),
        (
            "(call $pairs (i32.const 8) (i32.const 0) (i32.const 4))",
            bad,
        ),
        // A map that is not there is empty as pairs and an error as a value, a size or a change.
        (
            "(call $pairs (i32.const 2) (i32.const 0) (i32.const 4))",
            ok,
        ),
        (
            "(call $value (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
            bad,
        ),
        (
            "(call $value (i32.const 6) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
            bad,
        ),
        (
            "(call $value (i32.const 99) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
            bad,
        ),
        (
            "(call $value (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
            not_found,
        ),
        (
            "(call $value (i32.const 0) FAR (i32.const 9) (i32.const 0) (i32.const 4))",
            memory,
        ),
        (
            "(call $add (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1))",
            bad,
        ),
        (
            "(call $add (i32.const 0) FAR (i32.const 9) (i32.const 0) (i32.const 1))",
            memory,
        ),
        (
            "(call $add (i32.const 0) (i32.const 40) (i32.const 1) (i32.const 40) (i32.const 1))",
            ok,
        ),
        (
            "(call $replace (i32.const 0) (i32.const 40) (i32.const 1) FAR (i32.const 9))",
            memory,
        ),
        ("(call $remove (i32.const 0) FAR (i32.const 9))", memory),
        ("(call $set_pairs (i32.const 0) FAR (i32.const 9))", memory),
        ("(call $map_size (i32.const 3) (i32.const 0))", bad),
        ("(call $map_size (i32.const 0) (i32.const 0))", ok),
        // Buffers: unknown, absent, beyond the end.
        (
            "(call $bytes (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
            bad,
        ),
        (
            "(call $bytes (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
            not_found,
        ),
        (
            "(call $bytes (i32.const 4) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
            not_found,
        ),
        (
            "(call $bytes (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4))",
            ok,
        ),
        (
            "(call $bytes (i32.const 6) (i32.const 4) (i32.const 1) (i32.const 0) (i32.const 4))",
            ok,
        ),
        (
            "(call $bytes (i32.const 6) (i32.const 1) (i32.const -1) (i32.const 0) (i32.const 4))",
            ok,
        ),
        ("(call $buffer (i32.const 6) (i32.const 0) FAR)", ok),
        (
            "(call $buffer (i32.const 6) (i32.const 0) (i32.const 262141))",
            memory,
        ),
        (
            "(call $buffer (i32.const 9) (i32.const 0) (i32.const 4))",
            bad,
        ),
        (
            "(call $set_bytes (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))",
            bad,
        ),
        (
            "(call $set_bytes (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))",
            bad,
        ),
        (
            "(call $set_bytes (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))",
            not_found,
        ),
        (
            "(call $property FAR (i32.const 9) (i32.const 0) (i32.const 4))",
            memory,
        ),
        (
            "(call $property (i32.const 40) (i32.const 1) (i32.const 0) (i32.const 4))",
            not_found,
        ),
        (
            "(call $set_property (i32.const 40) (i32.const 1) FAR (i32.const 9))",
            memory,
        ),
        (
            "(call $shared (i32.const 40) (i32.const 1) (i32.const 0) (i32.const 4) (i32.const 8))",
            not_found,
        ),
        (
            "(call $set_shared FAR (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 0))",
            memory,
        ),
        ("(call $register FAR (i32.const 9) (i32.const 0))", memory),
        (
            "(call $enqueue (i32.const 77) (i32.const 0) (i32.const 1))",
            not_found,
        ),
        (
            "(call $dequeue (i32.const 77) (i32.const 0) (i32.const 4))",
            not_found,
        ),
        (
            "(call $register (i32.const 40) (i32.const 1) (i32.const 20))",
            ok,
        ),
        (
            "(call $dequeue (i32.load (i32.const 20)) (i32.const 0) (i32.const 4))",
            empty,
        ),
        // Metrics: a kind there is not, a counter that shrinks, a histogram that is read.
        (
            "(call $define (i32.const 3) (i32.const 40) (i32.const 1) (i32.const 24))",
            bad,
        ),
        (
            "(call $define (i32.const 0) FAR (i32.const 9) (i32.const 24))",
            memory,
        ),
        (
            "(call $define (i32.const 0) (i32.const 40) (i32.const 1) (i32.const 24))",
            ok,
        ),
        (
            "(call $increment (i32.load (i32.const 24)) (i64.const -1))",
            bad,
        ),
        (
            "(call $increment (i32.load (i32.const 24)) (i64.const 0))",
            bad,
        ),
        (
            "(call $increment (i32.load (i32.const 24)) (i64.const 5))",
            ok,
        ),
        ("(call $increment (i32.const 0) (i64.const 1))", not_found),
        ("(call $increment (i32.const 3) (i64.const 1))", bad),
        ("(call $record (i32.const 0) (i64.const 1))", not_found),
        (
            "(call $metric (i32.load (i32.const 24)) (i32.const 262137))",
            memory,
        ),
        (
            "(call $define (i32.const 2) (i32.const 40) (i32.const 1) (i32.const 28))",
            ok,
        ),
        ("(call $record (i32.load (i32.const 28)) (i64.const 9))", ok),
        (
            "(call $metric (i32.load (i32.const 28)) (i32.const 0))",
            bad,
        ),
        // A call without path, method and authority; gRPC is not offered.
        (
            "(call $call (i32.const 40) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
            bad,
        ),
        (
            "(call $call (i32.const 40) (i32.const 1) (i32.const 0) (i32.const 0) FAR (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
            memory,
        ),
        ("(call $grpc_cancel (i32.const 1))", unimplemented),
        ("(call $effective (i32.const 0))", bad),
        ("(call $effective (i32.const 9))", bad),
        ("(call $continue (i32.const 4))", bad),
        ("(call $continue (i32.const 3))", unimplemented),
        ("(call $close (i32.const 4))", bad),
        ("(call $done)", not_found),
        (
            "(call $reply (i32.const 403) FAR (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1))",
            memory,
        ),
        // WASI has numbers of its own.
        (
            "(call $write (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0))",
            8,
        ),
        (
            "(call $write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 0))",
            21,
        ),
        (
            "(call $clock (i32.const 2) (i64.const 1) (i32.const 0))",
            58,
        ),
        ("(call $clock (i32.const 1) (i64.const 1) (i32.const 0))", 0),
        ("(call $random FAR (i32.const 9))", 21),
        ("(call $env_sizes (i32.const 0) (i32.const 262141))", 21),
        ("(call $args (i32.const 0) (i32.const 4))", 0),
        ("(call $fd_close (i32.const 1))", 0),
    ];
    let body: String = cases
        .iter()
        .map(|(call, _)| format!("(call $say {})", call.replace("FAR", FAR)))
        .collect();
    let options = GatewayOptions {
        vm_config: b"vmc".to_vec(),
        ..GatewayOptions::default()
    };
    let mut gateway = Gateway::start(&on_headers(&body), options).expect("starts");
    let outcome = gateway.worker(0).exchange(&get());
    assert_eq!(outcome.trapped, None);
    assert_eq!(outcome.ending, Ending::Forwarded);
    let got = lines(&outcome.logs);
    for (at, (call, status)) in cases.iter().enumerate() {
        assert_eq!(got.get(at), Some(&format!("{status:03}")), "{call}");
    }
    assert_eq!((cases.len(), got.len()), (76, 76));
}

#[test]
fn buffers_and_configuration_reach_the_plugin() {
    let module = on_headers(
        r#"
        (drop (call $configuration (i32.const 0) (i32.const 4)))
        (call $show)
        (drop (call $bytes (i32.const 6) (i32.const 1) (i32.const -1) (i32.const 0) (i32.const 4)))
        (call $show)
        (drop (call $time (i32.const 16)))
        (call $say (i32.load (i32.const 16)))
        (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 16)))
        (call $say (i32.load (i32.const 16)))
        (drop (call $env_sizes (i32.const 16) (i32.const 20)))
        (call $say (i32.load (i32.const 16)))
        (call $say (i32.load (i32.const 20)))
        (drop (call $env (i32.const 200) (i32.const 300)))
        (i32.store (i32.const 0) (i32.load (i32.const 204)))
        (i32.store (i32.const 4) (i32.const 4))
        (call $show)
        ;; "standard output" is logged without its last line feed, in pieces.
        (i32.store (i32.const 400) (i32.const 300)) (i32.store (i32.const 404) (i32.const 3))
        (i32.store (i32.const 408) (i32.const 440)) (i32.store (i32.const 412) (i32.const 1))
        (i32.store8 (i32.const 440) (i32.const 10))
        (drop (call $write (i32.const 2) (i32.const 400) (i32.const 2) (i32.const 16)))
        (call $say (i32.load (i32.const 16)))"#,
    );
    let options = GatewayOptions {
        vm_config: b"vmc".to_vec(),
        environment: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
        ..GatewayOptions::default()
    };
    let mut gateway = Gateway::start(&module, options).expect("starts");
    let outcome = gateway.worker(0).exchange(&Exchange {
        time_unix_ns: 123,
        ..get()
    });
    let expected = [
        "vmc", "mc", "123", "123", "002", "008", "B=2\\x00", "A=1", "004",
    ];
    assert_eq!(lines(&outcome.logs), expected);
    assert_eq!(outcome.logs[7].level, LogLevel::Error);
}

#[test]
fn random_bytes_are_the_same_for_the_same_seed() {
    let module = on_headers(
        r#"
        (drop (call $random (i32.const 100) (i32.const 13)))
        (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 13))
        (call $show)"#,
    );
    let draw = |random_seed, worker| {
        let options = GatewayOptions {
            random_seed,
            workers: 2,
            ..GatewayOptions::default()
        };
        let mut gateway = Gateway::start(&module, options).expect("starts");
        lines(&gateway.worker(worker).exchange(&get()).logs)
    };
    assert_eq!(draw(1, 0), draw(1, 0));
    assert_ne!(draw(1, 0), draw(2, 1));
    assert_ne!(draw(1, 0), draw(1, 1));
}

#[test]
fn a_trap_is_answered_503_and_says_where_it_was() {
    let cases: &[(&str, &str)] = &[
        ("unreachable", "unreachable"),
        (
            "(drop (i32.load (i32.const -1)))",
            "out of bounds memory access",
        ),
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            "divide by zero",
        ),
        ("(call $deep)", "call stack exhausted"),
    ];
    for (body, cause) in cases {
        let module = plugin(&format!(
            r#"(func $deep (call $deep))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body} (i32.const 0))"#
        ));
        let mut gateway = start(&module);
        let outcome = gateway.worker(0).exchange(&get());
        let trapped = outcome.trapped.expect("trapped");
        assert!(
            trapped.starts_with("proxy_on_request_headers: ") && trapped.contains(cause),
            "{body}: {trapped}"
        );
        let reply = outcome.local_response.expect("answered");
        assert_eq!(
            (reply.status, reply.details.as_str()),
            (503, "wasm_fail_stream")
        );
        // The next request finds it dead, and nothing new is reported.
        let outcome = gateway.worker(0).exchange(&get());
        assert_eq!(
            (
                outcome.trapped,
                outcome.local_response.map(|reply| reply.status)
            ),
            (None, Some(503))
        );
    }
    assert_eq!(cases.len(), 4);
}

#[test]
fn a_trap_while_a_grpc_client_waits_is_unavailable() {
    let mut gateway = start(&on_headers("unreachable"));
    let headers = [("content-type", "application/grpc")];
    for _ in 0..2 {
        let outcome = gateway.worker(0).exchange(&Exchange {
            request_headers: &headers,
            ..Exchange::default()
        });
        let reply = outcome.local_response.expect("answered");
        assert_eq!((reply.status, reply.grpc_status), (200, Some(14)));
    }
}

#[test]
fn an_endless_loop_is_stopped_wherever_it_is() {
    let options = || GatewayOptions {
        callback_limit: Some(Duration::from_millis(100)),
        ..GatewayOptions::default()
    };
    let started = Instant::now();
    let mut gateway = Gateway::start(&on_headers("(loop (br 0))"), options()).expect("starts");
    let trapped = gateway.worker(0).exchange(&get()).trapped.expect("stopped");
    assert_eq!(
        trapped,
        "proxy_on_request_headers: the callback ran longer than its limit"
    );
    for callback in [
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (loop (br 0)) (i32.const 1))"#,
        r#"(func (export "_initialize") (loop (br 0)))"#,
        r#"(func (export "_start") (loop (br 0)))"#,
        r#"(func $s (loop (br 0))) (start $s)"#,
    ] {
        let error = Gateway::start(&plugin(callback), options())
            .err()
            .expect("stopped");
        assert!(
            error.reason.contains("longer than its limit"),
            "{callback}: {error}"
        );
    }
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn memory_is_limited_and_a_plugin_can_notice() {
    let module = on_headers("(call $say (i32.add (memory.grow (i32.const 16)) (i32.const 1)))");
    for (pages, answer) in [(64, "005"), (8, "000")] {
        let options = GatewayOptions {
            memory_limit_bytes: pages << 16,
            ..GatewayOptions::default()
        };
        let mut gateway = Gateway::start(&module, options).expect("starts");
        assert_eq!(lines(&gateway.worker(0).exchange(&get()).logs), [answer]);
    }
    let options = GatewayOptions {
        memory_limit_bytes: 1 << 16,
        ..GatewayOptions::default()
    };
    assert!(Gateway::start(&module, options).is_err());
}

#[test]
fn log_lines_without_end_are_counted_and_not_kept() {
    // 200 lines of 200 kB are more than is kept.
    let module = on_headers(
        r#"(local $n i32)
        (loop
            (drop (call $log (i32.const 2) (i32.const 0) (i32.const 200000)))
            (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 200))))"#,
    );
    let mut gateway = start(&module);
    for _ in 0..2 {
        let outcome = gateway.worker(0).exchange(&get());
        assert_eq!(outcome.logs.len() as u64 + outcome.dropped, 200);
        assert_eq!(outcome.logs.len(), MAX_EFFECT_BYTES / 200_064);
    }
}

#[test]
fn an_allocator_that_gives_nothing_or_nonsense_fails_the_call_only() {
    for pointer in ["0", "-1", "262140", "0x7fffffff"] {
        let module = compile(&format!(
            r#"(module {IMPORTS} {HELPERS}
            (func (export "malloc") (param i32) (result i32) (i32.const {pointer}))
            (func (export "proxy_abi_version_0_2_0"))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                (call $say (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))
                (i32.const 0)))"#
        ))
        .expect("links");
        assert_eq!(
            lines(&start(&module).worker(0).exchange(&get()).logs),
            ["006"],
            "{pointer}"
        );
    }
    // One that traps takes the plugin with it.
    let module = compile(&format!(
        r#"(module {IMPORTS} {HELPERS}
        (func (export "malloc") (param i32) (result i32) unreachable)
        (func (export "proxy_abi_version_0_2_0"))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $say (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))
            (i32.const 0)))"#
    ))
    .expect("links");
    let trapped = start(&module)
        .worker(0)
        .exchange(&get())
        .trapped
        .expect("trapped");
    assert!(trapped.contains("unreachable"), "{trapped}");
    // One that asks the host for bytes does not recurse.
    let module = compile(&format!(
        r#"(module {IMPORTS} {HELPERS}
        (func (export "malloc") (param i32) (result i32)
            (call $say (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))
            (i32.const 1000))
        (func (export "proxy_abi_version_0_2_0"))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $say (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))
            (i32.const 0)))"#
    ))
    .expect("links");
    assert_eq!(
        lines(&start(&module).worker(0).exchange(&get()).logs),
        ["006", "000"]
    );
}

#[test]
fn malloc_is_preferred_as_in_envoy() {
    let module = compile(&format!(
        r#"(module {IMPORTS} {HELPERS}
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) unreachable)
        (func (export "malloc") (param i32) (result i32) (i32.const 1000))
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $say (call $pairs (i32.const 0) (i32.const 0) (i32.const 4)))
            (i32.const 0)))"#
    ))
    .expect("links");
    assert_eq!(
        lines(&start(&module).worker(0).exchange(&get()).logs),
        ["000"]
    );
}

#[test]
fn unknown_imports_answer_unimplemented_and_are_reported_by_name() {
    let module = compile(&format!(
        r#"(module {IMPORTS}
        (import "env" "proxy_from_the_future" (func $future (param i64 f32) (result i32)))
        (import "env" "proxy_gives_nothing" (func $nothing))
        (import "env" "proxy_gives_more" (func $more (result i64)))
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32) (result i32)))
        {HELPERS} {ALLOCATOR} (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $nothing)
            (call $say (call $future (i64.const 1) (f32.const 1)))
            (call $say (i32.wrap_i64 (call $more)))
            (call $say (call $open (i32.const 1)))
            (i32.const 0)))"#
    ))
    .expect("links");
    let unknown = [
        "env.proxy_from_the_future",
        "env.proxy_gives_nothing",
        "env.proxy_gives_more",
        "wasi_snapshot_preview1.path_open",
    ];
    assert_eq!(module.unknown_imports(), unknown);
    assert_eq!(module.imports().len(), 39 + 4);
    assert_eq!(
        lines(&start(&module).worker(0).exchange(&get()).logs),
        ["012", "000", "052"]
    );
}

#[test]
fn a_module_that_envoy_would_not_load_is_refused_with_the_reason() {
    let marker = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    let memory = r#"(memory (export "memory") 1)"#;
    let malloc = r#"(func (export "malloc") (param i32) (result i32) (i32.const 0))"#;
    let cases: &[(String, &str)] = &[
        (
            format!("(module {memory} {malloc})"),
            "not a proxy-wasm plugin",
        ),
        (
            format!("(module {memory} {marker})"),
            "neither `malloc` nor `proxy_on_memory_allocate`",
        ),
        (format!("(module {marker} {malloc})"), "exports no `memory`"),
        (
            format!(
                r#"(module (import "env" "table" (table 1 funcref)) {memory} {marker} {malloc})"#
            ),
            "imports `env.table`, which is not a function",
        ),
        (
            format!(
                r#"(module (import "env" "proxy_log" (func (param i32))) {memory} {marker} {malloc})"#
            ),
            "does not fit the host's function",
        ),
    ];
    for (text, reason) in cases {
        let error = format!("{:#}", compile(text).err().expect("refused"));
        assert!(error.contains(reason), "{text}: {error}");
    }
    for bytes in [b"".as_slice(), b"\0asm", b"\0asm\x01\0\0\0\xff"] {
        let error = format!("{:#}", Module::compile(bytes).err().expect("refused"));
        assert!(
            error.starts_with("this is not a valid wasm module"),
            "{error}"
        );
    }
    // What only shows when it is instantiated is an error of the start.
    let cases: &[(&str, &str)] = &[
        (
            r#"(func (export "proxy_on_log") (param i64))"#,
            "the export `proxy_on_log` has another signature",
        ),
        (r#"(func $s unreachable) (start $s)"#, "unreachable"),
        (
            r#"(func (export "_initialize") unreachable)"#,
            "_initialize: ",
        ),
        (
            r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) unreachable)"#,
            "proxy_on_vm_start: ",
        ),
    ];
    for (rest, reason) in cases {
        let error = refused(&plugin(rest)).reason;
        assert!(error.contains(reason), "{rest}: {error}");
    }
}

#[test]
fn each_abi_version_has_its_marker_and_0_1_0_its_differences() {
    for (marker, version) in [
        ("0_1_0", AbiVersion::V0_1_0),
        ("0_2_0", AbiVersion::V0_2_0),
        ("0_2_1", AbiVersion::V0_2_1),
    ] {
        let old = version == AbiVersion::V0_1_0;
        let parameters = if old { "i32 i32" } else { "i32 i32 i32" };
        let module = compile(&format!(
            r#"(module {IMPORTS} {HELPERS} {ALLOCATOR} (func (export "proxy_abi_version_{marker}"))
            (func (export "proxy_on_request_headers") (param {parameters}) (result i32)
                (call $say (local.get 1))
                (call $say (call $value
                    (i32.const 0) (i32.const 40) (i32.const 3) (i32.const 0) (i32.const 4)))
                (i32.const 0)))"#
        ))
        .expect("links");
        assert_eq!(module.abi_version(), version);
        let absent = if old { "000" } else { "001" };
        assert_eq!(
            lines(&start(&module).worker(0).exchange(&get()).logs),
            ["002", absent]
        );
    }
}

#[test]
fn the_module_is_initialized_before_anything_else() {
    for (exports, expected) in [
        (
            r#"(func (export "_initialize") (call $say (i32.const 1))) (func (export "_start") unreachable)"#,
            "001",
        ),
        (
            r#"(func (export "_start") (call $say (i32.const 2)))"#,
            "002",
        ),
    ] {
        let module = plugin(&format!(
            r#"{exports} (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
                (call $say (i32.const 3)) (i32.const 1))"#
        ));
        assert_eq!(
            lines(&start(&module).worker(0).take_effects().logs),
            [expected, "003"]
        );
    }
}

#[test]
fn log_comes_before_done_and_delete_and_a_root_may_take_its_time() {
    let module = plugin(
        r#"
        (func (export "proxy_on_context_create") (param i32 i32)
            (call $say (i32.add (i32.const 100) (local.get 0))))
        (func (export "proxy_on_log") (param i32) (call $say (i32.add (i32.const 200) (local.get 0))))
        (func (export "proxy_on_done") (param i32) (result i32)
            (call $say (i32.add (i32.const 300) (local.get 0)))
            (i32.ne (local.get 0) (i32.const 1)))
        (func (export "proxy_on_delete") (param i32) (call $say (i32.add (i32.const 400) (local.get 0))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $say (call $effective (i32.const 1)))
            (call $say (call $done))
            (i32.const 0))"#,
    );
    let mut gateway = start(&module);
    assert_eq!(lines(&gateway.worker(0).take_effects().logs), ["101"]);
    // As long as nobody asked the root to end, it cannot say that it is done.
    let outcome = gateway.worker(0).exchange(&get());
    assert_eq!(
        lines(&outcome.logs),
        ["102", "000", "001", "202", "302", "402"]
    );
    gateway.reconfigure(b"new").expect("accepted");
    assert_eq!(
        lines(&gateway.worker(0).take_effects().logs),
        ["103", "301"]
    );
    // It is deleted when it says so.
    let outcome = gateway.worker(0).exchange(&get());
    assert_eq!(
        lines(&outcome.logs),
        ["104", "000", "000", "401", "204", "304", "404"]
    );
    let outcome = gateway.worker(0).exchange(&get());
    assert_eq!(
        lines(&outcome.logs),
        ["105", "002", "001", "205", "305", "405"]
    );
}

#[test]
fn maps_of_a_finished_exchange_can_be_read_but_not_changed() {
    let module = plugin(
        r#"
        (data (i32.const 100) ":status")
        (func (export "proxy_on_log") (param i32)
            (drop (call $value (i32.const 2) (i32.const 100) (i32.const 7) (i32.const 0) (i32.const 4)))
            (call $show)
            (call $say (call $value (i32.const 1) (i32.const 100) (i32.const 7) (i32.const 0) (i32.const 4)))
            (call $say (call $add (i32.const 2) (i32.const 100) (i32.const 7) (i32.const 100) (i32.const 1)))
            (call $say (call $map_size (i32.const 0) (i32.const 0)))
            (call $say (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const -1))))"#,
    );
    let response = Response {
        headers: &[(":status", "204")],
        body: b"",
        trailers: &[],
    };
    let mut gateway = start(&module);
    let outcome = gateway.worker(0).exchange(&Exchange {
        response: Some(response),
        ..get()
    });
    assert_eq!(lines(&outcome.logs), ["204", "001", "002", "002", "000"]);
    assert_eq!(
        (outcome.ending, outcome.local_response),
        (Ending::Forwarded, None)
    );
}

#[test]
fn hostile_requests_are_ordinary_ones() {
    let module = on_headers(
        "(drop (call $pairs (i32.const 0) (i32.const 0) (i32.const 4))) (call $say (i32.rem_u (i32.load (i32.const 4)) (i32.const 1000)))",
    );
    let long = vec![b'a'; 1 << 17];
    let none: &[(&[u8], &[u8])] = &[];
    let many: Vec<(Vec<u8>, Vec<u8>)> = (0..10_000)
        .map(|at| (format!("h{at}").into_bytes(), vec![0xff]))
        .collect();
    let mut gateway = start(&module);
    let mut run = |headers: &[(&[u8], &[u8])]| {
        gateway.worker(0).exchange(&Exchange {
            request_headers: headers,
            ..Exchange::default()
        })
    };
    // Nothing at all is a null pointer and no bytes.
    assert_eq!(lines(&run(none).logs), ["000"]);
    // 4 + 8 + 5 + 1 + 131072 + 1 bytes.
    assert_eq!(lines(&run(&[(b":path", &long)]).logs), ["091"]);
    // 4 + 8 + 0 + 1 + 0 + 1: a name without a letter is a name.
    assert_eq!(lines(&run(&[(b"", b"")]).logs), ["014"]);
    // What does not fit the allocator's memory fails the call and nothing else; a fresh machine each time.
    let mut gateway = start(&module);
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &many,
        ..Exchange::default()
    });
    assert_eq!((outcome.trapped, outcome.ending), (None, Ending::Forwarded));
}
