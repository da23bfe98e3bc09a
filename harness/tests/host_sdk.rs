//! The proxy-wasm host against a plugin written with the `proxy-wasm` crate, which nobody wrote for this host.
//!
//! The fixture does what the header `x-do` says and logs what each host call gave (see
//! `fixtures/sdk-plugin`), so a case is: an exchange in, log lines and what the client got out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::sync::{Arc, OnceLock};

use portcullis_harness::host::{
    Callout, CalloutReply, Direction, Ending, Exchange, FailurePolicy, Gateway, GatewayOptions,
    Log, MetricKind, Module, Outcome, Phase, Process, Properties, Reloads, Response, Value,
};

const SECOND: i64 = 1_000_000_000;

/// The fixture, built once into a target directory of its own.
fn fixture() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/sdk-plugin");
        let manifest = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/fixtures/sdk-plugin/Cargo.toml"
        );
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--release",
                "--target",
                "wasm32-unknown-unknown",
            ])
            .args(["--manifest-path", manifest, "--target-dir", target])
            .status()
            .expect("cargo runs");
        assert!(
            built.success(),
            "the fixture does not build; is the target wasm32-unknown-unknown installed?"
        );
        let path = format!("{target}/wasm32-unknown-unknown/release/sdk_plugin.wasm");
        Module::compile(&std::fs::read(path).expect("the fixture was built"))
            .expect("the fixture links")
    })
}

fn options() -> GatewayOptions {
    GatewayOptions {
        vm_id: "vm".into(),
        root_id: "root".into(),
        plugin_name: "fixture".into(),
        ..GatewayOptions::default()
    }
}

fn gateway(options: GatewayOptions) -> Gateway {
    let mut gateway = Gateway::start(fixture(), options).expect("the fixture starts");
    gateway.take_effects();
    gateway
}

fn lines(logs: &[Log]) -> Vec<String> {
    logs.iter()
        .map(|log| String::from_utf8_lossy(&log.message).into_owned())
        .collect()
}

type Headers<'a> = Vec<(&'a str, &'a str)>;

/// A request that tells the fixture what to do.
fn asking(commands: &str) -> Headers<'_> {
    vec![
        (":method", "GET"),
        (":path", "/p?q=1"),
        (":authority", "h"),
        ("user-agent", "ua"),
        ("x-do", commands),
    ]
}

/// Takes one request without body or response through a new gateway.
fn ask(commands: &str) -> (Vec<String>, Outcome) {
    let outcome = gateway(options()).worker(0).exchange(&Exchange {
        request_headers: &asking(commands),
        ..Exchange::default()
    });
    (lines(&outcome.logs), outcome)
}

const RESPONSE_HEADERS: &[(&str, &str)] = &[(":status", "200"), ("server", "up")];

fn response<'a>(body: &'a str) -> Option<Response<'a, &'static str>> {
    Some(Response {
        headers: RESPONSE_HEADERS,
        body: body.as_bytes(),
        trailers: &[],
    })
}

#[test]
fn the_crates_plugin_links_whole() {
    let module = fixture();
    assert!(module.imports().len() > 25, "{:?}", module.imports());
    assert_eq!(module.unknown_imports(), [] as [&str; 0]);
    assert!(module.exports().iter().any(|export| export == "malloc"));
    assert!(
        !module
            .exports()
            .iter()
            .any(|export| export == "proxy_on_memory_allocate")
    );
}

#[test]
fn configuration_runs_workers_plus_two_times() {
    let options = GatewayOptions {
        workers: 3,
        vm_config: b"vmc".to_vec(),
        plugin_config: b"cfg".to_vec(),
        properties: Arc::new(
            Properties::default()
                .with("xds.node.id", "n1")
                .with("xds.route_name", "r"),
        ),
        ..options()
    };
    let mut gateway = Gateway::start(fixture(), options).expect("starts");
    assert_eq!(gateway.process().metric("fixture.configures"), Some(5));
    let expected = [
        "initialize",
        "create root 1",
        "vm_start 1 3 vmc",
        "configure 1 3 cfg",
        "node n1",
    ];
    for at in 0..3 {
        assert_eq!(lines(&gateway.worker(at).take_effects().logs), expected);
    }
    assert_eq!(lines(&gateway.main().take_effects().logs), expected);
    assert_eq!(gateway.log_prefix(), "wasm log fixture root vm: ");
}

#[test]
fn a_refused_configuration_and_a_panic_in_it_are_errors() {
    for (configuration, reason, line) in [
        (
            "refuse",
            "`proxy_on_configure` returned false",
            "configure 1 6 refuse",
        ),
        ("panic", "proxy_on_configure: ", "asked to panic"),
    ] {
        let options = GatewayOptions {
            plugin_config: configuration.into(),
            ..options()
        };
        let error = Gateway::start(fixture(), options).err().expect("refused");
        assert!(error.reason.contains(reason), "{error}");
        assert!(
            lines(&error.logs).iter().any(|log| log.contains(line)),
            "{error}"
        );
    }
}

#[test]
fn the_callbacks_run_in_envoys_order() {
    let mut gateway = gateway(options());
    let headers = asking("life");
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &headers,
        request_body: b"0123456789",
        request_trailers: &[("a", "b")],
        response: Some(Response {
            headers: RESPONSE_HEADERS,
            body: b"answer",
            trailers: &[("c", "d")],
        }),
        chunk_bytes: 6,
        ..Exchange::default()
    });
    assert_eq!(
        lines(&outcome.logs),
        [
            "request headers 2 5 false",
            "request body 2 6 false",
            "request body 2 4 false",
            "request trailers 2 1",
            "response headers 2 2 false",
            "response body 2 6 false",
            "response trailers 2 1",
            "log 2",
            "done 2",
        ]
    );
    assert_eq!(outcome.ending, Ending::Forwarded);
    // The next stream is a new context below the same root, and headers alone end the stream.
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &headers,
        response: response(""),
        ..Exchange::default()
    });
    assert_eq!(
        lines(&outcome.logs),
        [
            "request headers 3 5 true",
            "response headers 3 2 true",
            "log 3",
            "done 3"
        ]
    );
    assert_eq!(gateway.process().metric("fixture.requests"), Some(2));
}

#[test]
fn each_phase_shows_what_envoy_shows_in_it() {
    let mut gateway = gateway(options());
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &[(":path", "/p"), ("x-do", "look")],
        request_body: b"body",
        request_trailers: &[("a", "b")],
        response: Some(Response {
            headers: RESPONSE_HEADERS,
            body: b"answer",
            trailers: &[("c", "d")],
        }),
        duration_ns: 258,
        ..Exchange::default()
    });
    let (request, response) = (":path=/p|x-do=look", ":status=200|server=up");
    let code = "\\xc8\\x00\\x00\\x00\\x00\\x00\\x00\\x00";
    let duration = "\\x02\\x01\\x00\\x00\\x00\\x00\\x00\\x00";
    let none = "none";
    // Phase; request headers and trailers, response headers and trailers; path, duration, code, details; state.
    let expected: &[(&str, [&str; 9])] = &[
        (
            "request",
            [request, "", "", "", "/p", none, none, none, none],
        ),
        (
            "request body",
            ["", "", "", "", none, none, none, none, "request"],
        ),
        (
            "request trailers",
            ["", "a=b", "", "", none, none, none, none, "request body"],
        ),
        (
            "response",
            [
                "",
                "",
                response,
                "",
                none,
                none,
                code,
                "via_upstream",
                "request trailers",
            ],
        ),
        (
            "response body",
            ["", "", "", "", none, none, code, "via_upstream", "response"],
        ),
        (
            "response trailers",
            [
                "",
                "",
                "",
                "c=d",
                none,
                none,
                code,
                "via_upstream",
                "response body",
            ],
        ),
        (
            "log",
            [
                request,
                "",
                response,
                "c=d",
                "/p",
                duration,
                code,
                "via_upstream",
                "response trailers",
            ],
        ),
    ];
    let names = [
        "request",
        "request trailers",
        "response",
        "response trailers",
        "request.path",
        "request.duration",
        "response.code",
        "response.code_details",
        "filter_state.wasm.seen",
    ];
    let mut wanted = Vec::new();
    for (phase, values) in expected {
        wanted.extend(
            names
                .iter()
                .zip(values)
                .map(|(name, value)| format!("{phase} {name}: {value}")),
        );
    }
    assert_eq!(lines(&outcome.logs), wanted);
    assert_eq!(wanted.len(), 63);
    assert_eq!(
        outcome.filter_state,
        [("wasm.seen".to_string(), b"log".to_vec())]
    );
}

#[test]
fn headers_can_be_read_and_changed() {
    let mut gateway = gateway(options());
    let mut headers = asking(
        "get cookie; get COOKIE; get user-agent; get absent; get host; add x-new 1; add user-agent more; set cookie c=3; remove x-gone",
    );
    headers.extend([
        ("cookie", "a=1"),
        ("x-gone", "1"),
        ("cookie", "b=2"),
        ("User-Agent", "two"),
        ("x-gone", "2"),
    ]);
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &headers,
        ..Exchange::default()
    });
    assert_eq!(
        lines(&outcome.logs),
        [
            "get cookie: a=1",
            "get COOKIE: a=1",
            "get user-agent: ua,two",
            "get absent: none",
            "get host: h"
        ]
    );
    let passed: Vec<String> = gateway
        .worker(0)
        .passed(Direction::Request)
        .headers
        .iter()
        .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
        .filter(|line| !line.starts_with("x-do"))
        .collect();
    assert_eq!(
        passed,
        [
            ":method=GET",
            ":path=/p?q=1",
            ":authority=h",
            "user-agent=ua,two,more",
            "cookie=c=3",
            "x-new=1"
        ]
    );

    gateway.worker(0).exchange(&Exchange {
        request_headers: &asking("replace_all"),
        ..Exchange::default()
    });
    let passed = gateway.worker(0);
    let passed: Vec<_> = passed.passed(Direction::Request).headers.iter().collect();
    assert_eq!(
        passed,
        [
            (b":path".as_slice(), b"/new".as_slice()),
            (b"b", b"2"),
            (b"a", b"1")
        ]
    );
}

#[test]
fn response_headers_can_be_changed() {
    let mut gateway = gateway(options());
    let headers = asking("mark_response");
    let exchange = Exchange {
        request_headers: &headers,
        response: response("x"),
        ..Exchange::default()
    };
    assert_eq!(
        gateway.worker(0).exchange(&exchange).ending,
        Ending::Forwarded
    );
    let passed = gateway.worker(0).passed(Direction::Response);
    let lines: Vec<_> = passed.headers.iter().collect();
    assert_eq!(
        lines,
        [
            (b":status".as_slice(), b"200".as_slice()),
            (b"x-marked", b"yes")
        ]
    );
    assert_eq!(passed.body, Some(b"x".as_slice()));
}

#[test]
fn properties_have_envoys_names_and_bytes() {
    let metadata = Value::Metadata(vec![(
        "ns".into(),
        Value::Map(vec![
            ("s".into(), "v".into()),
            ("n".into(), Value::Double(2.0)),
            ("b".into(), Value::Bool(true)),
        ]),
    )]);
    let properties = Arc::new(
        Properties::default()
            .with("xds.route_name", "login")
            .with("xds.route_metadata", metadata)
            .with("connection.tls_version", "TLSv1.3")
            .with("upstream.address", "10.0.0.1:80"),
    );
    let i64_7 = "\\x07\\x00\\x00\\x00\\x00\\x00\\x00\\x00";
    let cases: &[(&str, &str)] = &[
        ("request/path", "/p?q=1"),
        ("request/url_path", "/p"),
        ("request/query", "q=1"),
        ("request/host", "h"),
        ("request/method", "GET"),
        ("request/scheme", "none"),
        ("request/useragent", "ua"),
        ("request/referer", "none"),
        ("request/id", "none"),
        ("request/protocol", "HTTP/2"),
        ("request/headers/cookie", "a=1,b=2"),
        ("request/headers/absent", "none"),
        ("request/time", i64_7),
        ("request/size", "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00"),
        ("request/duration", "none"),
        ("request/path/deeper", "none"),
        ("response/code", "none"),
        ("response/size", "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00"),
        ("metadata", "none"),
        ("metadata/filter_metadata", "\\x00\\x00\\x00\\x00"),
        ("metadata/filter_metadata/x", "none"),
        ("source/address", "9.8.7.6:7"),
        ("source/port", i64_7),
        ("destination/address", "none"),
        ("connection/id", i64_7),
        ("connection_id", i64_7),
        ("connection/mtls", "\\x00"),
        ("connection/tls_version", "TLSv1.3"),
        ("xds/route_name", "login"),
        ("xds/route_metadata/filter_metadata/ns/s", "v"),
        (
            "xds/route_metadata/filter_metadata/ns/n",
            "\\x00\\x00\\x00\\x00\\x00\\x00\\x00@",
        ),
        ("xds/route_metadata/filter_metadata/ns/b", "\\x01"),
        ("xds/route_metadata/filter_metadata/absent", "none"),
        ("xds/cluster_name", "none"),
        ("plugin_name", "fixture"),
        ("plugin_root_id", "root"),
        ("plugin_vm_id", "vm"),
        // Not before there is a response.
        ("upstream/address", "none"),
        // Gone since 1.40.
        ("route_name", "none"),
        ("node", "none"),
        ("listener_direction", "none"),
        ("kept", "yes"),
        ("filter_state/wasm.kept", "yes"),
        ("filter_state/kept", "none"),
    ];
    let mut commands = "store kept yes".to_owned();
    for (path, _) in cases {
        commands += &format!("; property {path}");
    }
    let mut headers = asking(&commands);
    headers.extend([("cookie", "a=1"), ("cookie", "b=2")]);
    let outcome = gateway(options()).worker(0).exchange(&Exchange {
        request_headers: &headers,
        source_address: Some("9.8.7.6:7"),
        protocol: "HTTP/2",
        connection_id: 7,
        time_unix_ns: 7,
        properties: Some(&properties),
        ..Exchange::default()
    });
    let expected: Vec<String> = cases
        .iter()
        .map(|(path, value)| format!("{path}: {value}"))
        .collect();
    assert_eq!(lines(&outcome.logs), expected);
    assert_eq!(expected.len(), 44);
}

#[test]
fn any_bytes_pass_and_only_the_crates_string_getters_die_of_them() {
    let mut gateway = gateway(options());
    let headers: Vec<(&[u8], &[u8])> = vec![
        (b":path", b"/\xff"),
        (b"user-agent", b"\xfe\0"),
        (b"x-do", b"get user-agent"),
    ];
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &headers,
        ..Exchange::default()
    });
    assert_eq!(lines(&outcome.logs), ["get user-agent: \\xfe\\x00"]);
    let headers: Vec<(&[u8], &[u8])> = vec![(b"user-agent", b"\xff"), (b"x-do", b"string_getter")];
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &headers,
        ..Exchange::default()
    });
    assert!(
        outcome
            .trapped
            .expect("panicked")
            .contains("proxy_on_request_headers")
    );
}

#[test]
fn shared_data_is_compared_and_swapped_across_threads_and_gateways() {
    let (first, _) = ask("shared k");
    assert_eq!(first, ["shared none false Ok(()) Err(CasMismatch)"]);

    let process = Process::default();
    let mut one = gateway(GatewayOptions {
        workers: 2,
        process: process.clone(),
        ..options()
    });
    std::thread::scope(|scope| {
        for worker in one.workers() {
            scope.spawn(|| {
                let headers = asking("count hits");
                for _ in 0..500 {
                    worker.exchange(&Exchange {
                        request_headers: &headers,
                        ..Exchange::default()
                    });
                }
            });
        }
    });
    assert_eq!(
        process.shared_data("vm", b"hits").expect("stored").0,
        b"1000"
    );
    // Another gateway of the process with the same vm_id goes on counting, one with another does not see it.
    for (vm_id, count) in [("vm", "1001"), ("other", "1")] {
        let mut other = gateway(GatewayOptions {
            vm_id: vm_id.into(),
            process: process.clone(),
            ..options()
        });
        other.worker(0).exchange(&Exchange {
            request_headers: &asking("count hits"),
            ..Exchange::default()
        });
        assert_eq!(
            process.shared_data(vm_id, b"hits").expect("stored").0,
            count.as_bytes()
        );
    }
}

#[test]
fn queues_are_heard_by_the_machine_that_registered_last() {
    let mut gateway = gateway(GatewayOptions {
        workers: 2,
        ..options()
    });
    for item in ["enqueue one", "enqueue two"] {
        let outcome = gateway.worker(0).exchange(&Exchange {
            request_headers: &asking(item),
            ..Exchange::default()
        });
        assert_eq!(
            lines(&outcome.logs),
            ["resolve true false", "enqueue Ok(())"]
        );
    }
    gateway.tick(SECOND);
    assert_eq!(lines(&gateway.main().take_effects().logs), [] as [&str; 0]);
    assert_eq!(
        lines(&gateway.worker(0).take_effects().logs),
        [] as [&str; 0]
    );
    assert_eq!(
        lines(&gateway.worker(1).take_effects().logs),
        ["queue true one", "queue true two"]
    );
}

#[test]
fn metrics_are_those_of_the_process() {
    let mut gateway = gateway(GatewayOptions {
        workers: 2,
        ..options()
    });
    for at in 0..2 {
        let outcome = gateway.worker(at).exchange(&Exchange {
            request_headers: &asking("metrics"),
            ..Exchange::default()
        });
        assert_eq!(
            lines(&outcome.logs),
            [
                "gauge 42",
                &format!("counter {}", at + 1),
                "unknown Err(NotFound)"
            ]
        );
    }
    let metrics: Vec<_> = gateway
        .metrics()
        .into_iter()
        .map(|metric| (metric.name, metric.kind, metric.value, metric.recorded))
        .collect();
    assert_eq!(
        metrics,
        [
            ("fixture.configures".to_string(), MetricKind::Counter, 4, 0),
            ("fixture.gauge".to_string(), MetricKind::Gauge, 42, 0),
            (
                "fixture.histogram".to_string(),
                MetricKind::Histogram,
                30,
                4
            ),
            ("fixture.requests".to_string(), MetricKind::Counter, 2, 0),
        ]
    );
}

#[test]
fn ticks_follow_the_callers_clock() {
    let options = GatewayOptions {
        plugin_config: b"tick".to_vec(),
        time_unix_ns: 100 * SECOND,
        ..options()
    };
    let mut gateway = gateway(options);
    let mut ticks_at = |seconds: i64| {
        gateway.worker(0).exchange(&Exchange {
            request_headers: &asking(""),
            time_unix_ns: seconds * SECOND,
            ..Exchange::default()
        });
        let effects = gateway.worker(0).take_effects();
        let ticks = lines(&effects.logs)
            .iter()
            .filter(|line| line.starts_with("tick ") && line.contains(" at "))
            .count();
        (ticks, effects.callouts.len())
    };
    assert_eq!(ticks_at(109), (0, 0));
    assert_eq!(ticks_at(110), (1, 1));
    assert_eq!(ticks_at(119), (0, 0));
    // However much time has passed, a timer that is armed anew after it fired fires once.
    assert_eq!(ticks_at(1000), (1, 1));
    assert_eq!(ticks_at(1001), (0, 0));
    // The main thread and every worker have a timer of their own.
    gateway.take_effects();
    gateway.tick(2000 * SECOND);
    assert_eq!(gateway.take_effects().callouts.len(), 2);
}

#[test]
fn callouts_are_recorded_and_answered() {
    let upstream = |callout: &Callout| {
        let verdict = if callout.cluster == "stern" {
            b"deny".to_vec()
        } else {
            b"allow".to_vec()
        };
        (callout.cluster != "silent").then(|| CalloutReply {
            headers: vec![
                (b":status".to_vec(), b"200".to_vec()),
                (b"x-verdict".to_vec(), verdict),
            ],
            body: b"reply".to_vec(),
            trailers: vec![],
        })
    };
    let clusters = ["auth", "stern", "silent", "collector"]
        .map(String::from)
        .to_vec();
    let mut gateway = gateway(GatewayOptions {
        clusters: Some(clusters),
        upstream: Some(Arc::new(upstream)),
        ..options()
    });
    let mut run = |commands: &str| {
        let headers = asking(commands);
        let exchange = Exchange {
            request_headers: &headers,
            request_body: b"b",
            ..Exchange::default()
        };
        let outcome = gateway.worker(0).exchange(&exchange);
        (lines(&outcome.logs), outcome)
    };

    let (log, outcome) = run("call auth wait");
    let status = "reply status (0, None)";
    let headers = "reply headers :status=200|x-verdict=allow";
    assert_eq!(
        log,
        [
            "call Ok(1)",
            "reply 1 2 5 0",
            headers,
            "reply body reply",
            status
        ]
    );
    assert_eq!(outcome.ending, Ending::Forwarded);
    assert_eq!(outcome.callouts.len(), 1);
    assert_eq!(outcome.callouts[0].cluster, "auth");
    assert_eq!(outcome.callouts[0].body, b"question");
    assert_eq!(outcome.callouts[0].timeout_ms, 2000);
    assert_eq!(
        outcome.callouts[0].trailers,
        [(b"t".to_vec(), b"1".to_vec())]
    );

    let (_, outcome) = run("call stern wait");
    assert_eq!(outcome.local_response.expect("denied").status, 401);
    let (log, outcome) = run("call unknown wait");
    assert_eq!(log, ["call Err(BadArgument)"]);
    assert_eq!(outcome.ending, Ending::Stalled(Phase::RequestHeaders));
    let (_, outcome) = run("call silent wait");
    assert_eq!(outcome.ending, Ending::Stalled(Phase::RequestHeaders));
    assert_eq!(outcome.callouts.len(), 1);
    // From the log callback the call still leaves; its answer finds the stream gone.
    let (_, outcome) = run("call_in_log");
    assert_eq!(outcome.callouts[0].body, b"from log");
}

#[test]
fn a_call_without_an_answer_fails_or_times_out() {
    let mut gateway = gateway(GatewayOptions {
        plugin_config: b"tick".to_vec(),
        ..options()
    });
    let tick = |gateway: &mut Gateway, seconds: i64| {
        gateway.worker(0).tick(seconds * SECOND);
        lines(&gateway.worker(0).take_effects().logs)
    };
    assert_eq!(
        tick(&mut gateway, 10).last().expect("called"),
        "tick call Ok(1)"
    );
    assert!(gateway.worker(0).reply(1, CalloutReply::default()));
    assert!(!gateway.worker(0).reply(1, CalloutReply::default()));
    assert_eq!(
        lines(&gateway.worker(0).take_effects().logs),
        ["root reply 1 0 0 0"]
    );
    assert_eq!(
        tick(&mut gateway, 20).last().expect("called"),
        "tick call Ok(2)"
    );
    assert_eq!(tick(&mut gateway, 21), ["root reply 2 3 24 0"]);
}

#[test]
fn bodies_can_be_buffered_read_and_changed() {
    let mut gateway = gateway(options());
    let mut run = |commands: &str, body: &str, chunk_bytes: usize| {
        let headers = asking(commands);
        let exchange = Exchange {
            request_headers: &headers,
            request_body: body.as_bytes(),
            chunk_bytes,
            ..Exchange::default()
        };
        let outcome = gateway.worker(0).exchange(&exchange);
        let passed = gateway.worker(0).passed(Direction::Request);
        let trailers = passed.trailers.len();
        (
            lines(&outcome.logs),
            passed.body.expect("looked at").escape_ascii().to_string(),
            trailers,
            outcome.ending,
        )
    };
    let end = Ending::Forwarded;
    for chunk_bytes in [0, 1, 2, 6] {
        let read = ["body abcdef", "part bc", "behind none"]
            .map(String::from)
            .to_vec();
        assert_eq!(
            run("buffer; read_body", "abcdef", chunk_bytes),
            (read, "abcdef".into(), 0, end)
        );
        assert_eq!(
            run("buffer; write_body", "abc", chunk_bytes),
            (vec![], "<abc>".into(), 0, end)
        );
        assert_eq!(
            run("buffer; replace_body", "abc", chunk_bytes),
            (vec![], "replaced".into(), 0, end)
        );
    }
    assert_eq!(
        run("write_body", "abcd", 2),
        (vec![], "<ab><cd><>".into(), 0, end)
    );
    assert_eq!(
        run("add_trailer", "abcd", 2),
        (vec![], "abcd".into(), 1, end)
    );
    // What an earlier exchange left is not seen by the next.
    assert_eq!(run("", "x", 0), (vec![], "x".into(), 0, end));
    // HTTP/2 marks the last piece as such, HTTP/1 lets an empty one follow.
    for (protocol, expected) in [("HTTP/2", "<ab>"), ("HTTP/1.1", "<ab><>")] {
        let headers = asking("write_body");
        let exchange = Exchange {
            request_headers: &headers,
            request_body: b"ab",
            protocol,
            ..Exchange::default()
        };
        gateway.worker(0).exchange(&exchange);
        let passed = gateway.worker(0).passed(Direction::Request);
        assert_eq!(passed.body, Some(expected.as_bytes()));
    }
}

#[test]
fn a_buffered_body_beyond_the_limit_is_answered_413() {
    let mut gateway = gateway(GatewayOptions {
        buffer_limit_bytes: 4,
        ..options()
    });
    let headers = asking("buffer; life");
    let exchange = Exchange {
        request_headers: &headers,
        request_body: b"0123456789",
        chunk_bytes: 3,
        ..Exchange::default()
    };
    let outcome = gateway.worker(0).exchange(&exchange);
    let reply = outcome.local_response.expect("too large");
    assert_eq!(
        (reply.status, reply.details.as_str()),
        (413, "request_payload_too_large")
    );
    assert_eq!(
        lines(&outcome.logs)[..2],
        ["request headers 2 5 false", "request body 2 3 false"]
    );
    // A response that was already begun can only be cut off.
    let exchange = Exchange {
        request_headers: &headers,
        response: response("0123456789"),
        chunk_bytes: 3,
        ..Exchange::default()
    };
    assert_eq!(gateway.worker(0).exchange(&exchange).ending, Ending::Reset);
}

#[test]
fn a_local_response_goes_through_the_response_callbacks() {
    let (log, outcome) = ask("life; mark_response; deny 418");
    assert_eq!(
        log,
        [
            "request headers 2 5 true",
            "response headers 2 5 false",
            "response body 2 13 true",
            "log 2",
            "done 2"
        ]
    );
    assert_eq!(outcome.ending, Ending::LocalResponse);
    let reply = outcome.local_response.expect("denied");
    assert_eq!(reply.status, 418);
    assert_eq!(reply.body, b"denied: 100%\n");
    assert_eq!(reply.details, "");
    let headers: Vec<_> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .collect();
    assert_eq!(
        headers,
        [
            (b"x-why".as_slice(), b"fixture".as_slice()),
            (b"x-why", b"twice"),
            (b"content-length", b"13"),
            (b"content-type", b"text/plain"),
            (b"x-marked", b"yes"),
        ]
    );
}

#[test]
fn a_grpc_client_gets_a_grpc_answer() {
    let run = |commands: &str, content_type: &str| {
        let mut headers = asking(commands);
        headers.push(("content-type", content_type));
        let exchange = Exchange {
            request_headers: &headers,
            ..Exchange::default()
        };
        gateway(options())
            .worker(0)
            .exchange(&exchange)
            .local_response
            .expect("denied")
    };
    let header = |reply: &portcullis_harness::host::LocalResponse, name: &str| {
        let found = reply
            .headers
            .iter()
            .find(|(header, _)| header == name.as_bytes());
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    };
    for content_type in ["application/grpc", "application/grpc+proto"] {
        for (commands, status, message) in [
            ("deny 403", 7, "denied: 100%25%0A"),
            ("deny 429", 14, "denied: 100%25%0A"),
            ("deny 418", 2, "denied: 100%25%0A"),
        ] {
            let reply = run(commands, content_type);
            assert_eq!(
                (reply.status, reply.grpc_status, reply.body.len()),
                (200, Some(status), 0)
            );
            assert_eq!(header(&reply, "grpc-status"), Some(status.to_string()));
            assert_eq!(header(&reply, "grpc-message").as_deref(), Some(message));
            assert_eq!(
                header(&reply, "content-type").as_deref(),
                Some("application/grpc")
            );
            assert_eq!(header(&reply, "content-length"), None);
        }
        assert_eq!(run("grpc_deny", content_type).grpc_status, Some(7));
    }
    assert_eq!(run("deny 403", "application/grpcish").grpc_status, None);
}

#[test]
fn a_response_can_be_replaced_until_it_has_begun() {
    let run = |commands: &str| {
        let headers = asking(commands);
        let exchange = Exchange {
            request_headers: &headers,
            response: response("body"),
            ..Exchange::default()
        };
        gateway(options()).worker(0).exchange(&exchange)
    };
    let outcome = run("life; deny_response");
    assert_eq!(outcome.local_response.expect("replaced").body, b"no");
    assert_eq!(
        lines(&outcome.logs),
        [
            "request headers 2 5 true",
            "response headers 2 2 false",
            "log 2",
            "done 2"
        ]
    );
    let outcome = run("deny_response_body");
    assert_eq!(
        (outcome.ending, outcome.local_response),
        (Ending::Reset, None)
    );
}

#[test]
fn a_request_body_can_be_denied() {
    let headers = asking("buffer; deny_body");
    let exchange = Exchange {
        request_headers: &headers,
        request_body: b"evil",
        ..Exchange::default()
    };
    let outcome = gateway(options()).worker(0).exchange(&exchange);
    assert_eq!(outcome.local_response.expect("denied").status, 422);
}

#[test]
fn pauses_resets_and_the_rest() {
    let (_, outcome) = ask("pause");
    assert_eq!(outcome.ending, Ending::Stalled(Phase::RequestHeaders));
    let (_, outcome) = ask("reset");
    assert_eq!(outcome.ending, Ending::Reset);
    let (log, _) = ask("foreign");
    assert_eq!(log, ["foreign Err(NotFound)"]);
    let (log, _) = ask("effective");
    assert_eq!(
        log,
        [
            "effective Ok(())",
            "as root none",
            "effective Ok(())",
            "as stream /p?q=1"
        ]
    );
    let (log, _) = ask("time");
    assert_eq!(log, ["time SystemTime(0ns)"]);
}

#[test]
fn pausing_in_headers_shows_the_body_only_if_allowed() {
    for (allow, ending) in [
        (false, Ending::Stalled(Phase::RequestHeaders)),
        (true, Ending::Forwarded),
    ] {
        let mut gateway = gateway(GatewayOptions {
            allow_on_headers_stop_iteration: allow,
            ..options()
        });
        let headers = asking("pause; read_body");
        let exchange = Exchange {
            request_headers: &headers,
            request_body: b"abc",
            ..Exchange::default()
        };
        let outcome = gateway.worker(0).exchange(&exchange);
        assert_eq!(outcome.ending, ending);
        assert_eq!(
            lines(&outcome.logs).contains(&"body abc".to_string()),
            allow
        );
    }
}

#[test]
fn a_request_that_envoy_refused_is_only_logged() {
    let headers = asking("life");
    let exchange = Exchange {
        request_headers: &headers,
        refused_by_envoy: Some("http1.codec_error"),
        ..Exchange::default()
    };
    let mut gateway = gateway(options());
    let outcome = gateway.worker(0).exchange(&exchange);
    // The fixture reads its commands in the header callback, which does not run.
    assert_eq!(lines(&outcome.logs), [] as [&str; 0]);
    assert_eq!(gateway.process().metric("fixture.requests"), Some(0));
}

/// A panic in the request, then a request every half second.
fn after_panic(policy: FailurePolicy) -> (Vec<(Ending, Option<u32>)>, Reloads) {
    let mut gateway = gateway(GatewayOptions {
        failure_policy: policy,
        ..options()
    });
    let mut seen = Vec::new();
    for (commands, milliseconds) in [
        ("panic", 100),
        ("", 200),
        ("", 999),
        ("", 1000),
        ("panic", 1500),
        ("", 1900),
        ("", 2000),
    ] {
        let headers = asking(commands);
        let outcome = gateway.worker(0).exchange(&Exchange {
            request_headers: &headers,
            time_unix_ns: milliseconds * 1_000_000,
            ..Exchange::default()
        });
        assert_eq!(
            outcome.trapped.is_some(),
            commands == "panic"
                && outcome
                    .logs
                    .iter()
                    .any(|log| log.message.starts_with(b"panicked"))
        );
        let reply = outcome.local_response;
        if let Some(reply) = &reply {
            assert_eq!(reply.details, "wasm_fail_stream");
        }
        seen.push((outcome.ending, reply.map(|reply| reply.status)));
    }
    (seen, gateway.worker(0).reloads())
}

#[test]
fn the_failure_policy_says_what_follows_a_trap() {
    let dead = (Ending::LocalResponse, Some(503));
    let unseen = (Ending::Bypassed, None);
    let alive = (Ending::Forwarded, None);
    let none = Reloads::default();
    assert_eq!(
        after_panic(FailurePolicy::FailClosed),
        (vec![dead; 7], none)
    );
    let mut open = vec![unseen; 7];
    open[0] = dead;
    assert_eq!(after_panic(FailurePolicy::FailOpen), (open, none));
    // Loaded at 0 and again at 1000: each time it must have lived, or been dead, for a second.
    let reloaded = vec![dead, dead, dead, alive, dead, dead, alive];
    assert_eq!(
        after_panic(FailurePolicy::FailReload),
        (
            reloaded,
            Reloads {
                success: 2,
                failure: 0,
                backoff: 3
            }
        )
    );
}

#[test]
fn a_trap_in_one_worker_leaves_the_others_alone_and_keeps_shared_data() {
    let mut gateway = gateway(GatewayOptions {
        workers: 2,
        ..options()
    });
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &asking("count k; panic"),
        ..Exchange::default()
    });
    assert!(outcome.trapped.is_some());
    assert!(gateway.worker(0).failure().is_some());
    let outcome = gateway.worker(1).exchange(&Exchange {
        request_headers: &asking("count k"),
        ..Exchange::default()
    });
    assert_eq!(outcome.ending, Ending::Forwarded);
    assert_eq!(
        gateway.process().shared_data("vm", b"k").expect("kept").0,
        b"2"
    );
}

#[test]
fn a_trap_in_the_response_or_the_log() {
    let headers = asking("string_getter_in_response");
    let exchange = Exchange {
        request_headers: &headers,
        response: response("x"),
        ..Exchange::default()
    };
    let outcome = gateway(options()).worker(0).exchange(&exchange);
    // The crate panics when request headers are read in the response phase.
    assert_eq!(outcome.local_response.expect("failed").status, 503);
    assert!(
        outcome
            .trapped
            .expect("panicked")
            .starts_with("proxy_on_response_headers: ")
    );
    let (_, outcome) = ask("panic_in_log");
    assert_eq!(outcome.ending, Ending::Forwarded);
    assert!(
        outcome
            .trapped
            .expect("panicked")
            .starts_with("proxy_on_log: ")
    );
}

#[test]
fn a_new_configuration_makes_a_new_root_in_the_same_machine() {
    let mut gateway = gateway(GatewayOptions {
        plugin_config: b"one".to_vec(),
        ..options()
    });
    gateway.reconfigure(b"one").expect("unchanged");
    assert_eq!(lines(&gateway.take_effects().logs), [] as [&str; 0]);
    gateway.reconfigure(b"two").expect("accepted");
    let expected = [
        "create root 2",
        "configure 2 3 two",
        "node none",
        "done root 1",
    ];
    assert_eq!(lines(&gateway.worker(0).take_effects().logs), expected);
    let error = gateway.reconfigure(b"refuse").expect_err("refused");
    assert!(
        lines(&error.logs).contains(&"configure 1 6 refuse".to_string()),
        "{error}"
    );
    // Only the machine that tries a configuration saw it.
    assert_eq!(
        lines(&gateway.worker(0).take_effects().logs),
        [] as [&str; 0]
    );
    let outcome = gateway.worker(0).exchange(&Exchange {
        request_headers: &asking("life"),
        ..Exchange::default()
    });
    assert_eq!(
        lines(&outcome.logs),
        ["request headers 3 5 true", "log 3", "done 3"]
    );
}

#[test]
fn log_lines_below_the_hosts_level_are_not_kept() {
    let options = GatewayOptions {
        log_level: portcullis_harness::host::LogLevel::Error,
        ..options()
    };
    let outcome = gateway(options).worker(0).exchange(&Exchange {
        request_headers: &asking("life"),
        ..Exchange::default()
    });
    assert_eq!(outcome.logs.len(), 0);
}
