//! The `portcullis` command as its users meet it: what it prints where, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const RULE: &str = "
title: A rule of the test
id: 6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a01
status: test
description: Finds the word in the query.
logsource:
  category: webserver
detection:
  selection:
    cs-uri-query|contains: password
  condition: selection
level: high
portcullis:
  alert: Gateway_SqlInjection
  tests:
    catches:
      - GET /?q=password
    ignores:
      - GET /password
";

/// A folder with one rule in it, which goes when the test does.
struct Rules(PathBuf);

impl Rules {
    fn new(name: &str, text: &str) -> Rules {
        let folder =
            std::env::temp_dir().join(format!("portcullis-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("rule.yml"), text).unwrap();
        Rules(folder)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn capture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../capture/tests/captures")
        .join(name);
    path.to_str().unwrap().to_owned()
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(args).output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

fn replay(rules: &Rules, args: &[&str]) -> (i32, String, String) {
    run(&[
        &["replay", "--engine", "native", "--rules", rules.path()],
        args,
    ]
    .concat())
}

#[test]
fn people_get_a_table_and_a_summary_and_malformed_records_on_standard_error() {
    let rules = Rules::new("table", RULE);
    let captures = ["access.log", "browser.har", "requests.http"].map(capture);
    let (code, out, err) = replay(&rules, &["--", &captures[0], &captures[1], &captures[2]]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("2026-11-22 09:00:01  High           Gateway_SqlInjection "),
        "{out}"
    );
    assert!(
        out.contains("12 requests, 1 with alerts, 2 records malformed"),
        "{out}"
    );
    assert!(out.contains("A rule of the test"), "{out}");
    assert!(
        !out.contains('\x1b') && !err.contains('\x1b'),
        "colours only for terminals"
    );
    assert!(
        err.contains("browser.har:15: ") && err.contains("requests.http:24: "),
        "{err}"
    );
    assert_eq!(err.lines().count(), 2, "{err}");
}

#[test]
fn programs_get_alerts_or_verdicts_and_nothing_else_on_standard_output() {
    let rules = Rules::new("json", RULE);
    let log = capture("access.log");
    let (code, out, _) = replay(&rules, &["--json", "--", &log]);
    let alerts: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((code, alerts.len()), (0, 1));
    assert_eq!(alerts[0]["AlertType"], "Gateway_SqlInjection");
    assert_eq!(
        alerts[0]["ExtendedProperties"]["RuleId"],
        "6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a01"
    );

    for jobs in ["1", "3"] {
        let (code, out, err) = replay(
            &rules,
            &["--verdicts", "--quiet", "--jobs", jobs, "--", &log],
        );
        let verdicts: Vec<Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((code, verdicts.len(), err.as_str()), (0, 5, ""));
        for (i, verdict) in verdicts.iter().enumerate() {
            let alerts: &[&str] = if i == 1 {
                &["Gateway_SqlInjection"]
            } else {
                &[]
            };
            let expected = serde_json::json!({"id": format!("{log}:{}", i + 1), "action": "allow", "alerts": alerts});
            assert_eq!(*verdict, expected);
        }
    }
}

#[test]
fn many_records_come_out_in_order_however_many_workers_there_are() {
    let rules = Rules::new("jobs", RULE);
    let line = |n: usize| {
        format!(
            "{{\"id\":\"row-{n}\",\"method\":\"GET\",\"path\":\"/?q={}\",\"headers\":[]}}\n",
            if n.is_multiple_of(7) { "password" } else { "x" }
        )
    };
    let text: String = (0..3_000).map(line).collect();
    for jobs in ["1", "4"] {
        let args = [
            "replay",
            "--engine",
            "native",
            "--rules",
            rules.path(),
            "--verdicts",
            "--jobs",
            jobs,
            "--",
            "-",
        ];
        let mut child = command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let text = text.clone();
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
        let out = child.wait_with_output().unwrap().stdout;
        writer.join().unwrap();
        let mut count = 0;
        for (n, line) in String::from_utf8(out).unwrap().lines().enumerate() {
            let verdict: Value = serde_json::from_str(line).unwrap();
            assert_eq!(verdict["id"], format!("row-{n}"));
            assert_eq!(
                verdict["alerts"].as_array().unwrap().len(),
                usize::from(n % 7 == 0),
                "row {n}"
            );
            count += 1;
        }
        assert_eq!(count, 3_000);
    }
}

#[test]
fn the_exit_status_says_how_it_went() {
    let rules = Rules::new("exit", RULE);
    let (har, log) = (capture("browser.har"), capture("access.log"));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--", &log], 0, ""),
        (&["--", &har], 0, "browser.har:15"),
        (&["--strict", "--", &har], 1, "browser.har:15"),
        (
            &["--", "no-such-file", &log],
            1,
            "no-such-file: no such file",
        ),
        (&["--format", "pcap", "--", &log], 2, "possible values"),
        (
            &["--json", "--verdicts", "--", &log],
            2,
            "cannot be used with",
        ),
        (&[], 2, "<CAPTURE>"),
    ];
    for (args, expected, message) in cases {
        let (code, _, err) = replay(&rules, args);
        assert_eq!(code, *expected, "{args:?}: {err}");
        assert!(err.contains(message), "{args:?}: {err}");
    }
    let (code, _, err) = run(&["replay", "--filter", "no-such.wasm", "--", &log]);
    assert!(
        code == 1
            && err.contains("cannot read the filter no-such.wasm")
            && err.contains("make wasm"),
        "{err}"
    );
    let (code, _, err) = run(&["replay", "--rules", rules.path(), "--", &log]);
    assert!(code == 1 && err.contains("--engine native"), "{err}");
}

#[test]
fn a_reader_that_stops_reading_is_no_failure() {
    let rules = Rules::new("pipe", RULE);
    let args = [
        "replay",
        "--engine",
        "native",
        "--rules",
        rules.path(),
        "--verdicts",
        "--quiet",
        "--",
        "-",
    ];
    let mut child = command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // More than any pipe holds, until the other end is gone.
        while stdin
            .write_all(b"{\"method\":\"GET\",\"path\":\"/\",\"headers\":[]}\n")
            .is_ok()
        {}
    });
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stderr).as_ref()
        ),
        (Some(0), "")
    );
}

#[test]
fn rules_are_checked_listed_shown_tested_and_compiled() {
    let rules = Rules::new("rules", RULE);
    let (code, out, _) = run(&["rules", "check", rules.path()]);
    assert!(
        code == 0 && out.contains("1 rule, 0 errors, 0 warnings"),
        "{out}"
    );
    let (code, out, _) = run(&["rules", "list", rules.path()]);
    assert!(
        code == 0 && out.contains("Gateway_SqlInjection") && out.contains("A rule of the test"),
        "{out}"
    );
    let (code, out, _) = run(&["rules", "show", "of the test", rules.path()]);
    assert!(
        code == 0
            && out.contains("cs-uri-query|contains: password")
            && out.contains("1 case it must catch"),
        "{out}"
    );
    let (code, out, err) = run(&["rules", "test", rules.path()]);
    assert!(
        code == 0 && out.contains("2 cases of 1 rule: all as they must"),
        "{out}{err}"
    );

    let compiled = rules.0.join("rules.bin");
    let (code, out, err) = run(&[
        "rules",
        "compile",
        rules.path(),
        "--output",
        compiled.to_str().unwrap(),
    ]);
    assert!(code == 0 && out.contains("1 rule, "), "{out}{err}");
    let log = capture("access.log");
    let (code, out, _) = run(&[
        "replay",
        "--engine",
        "native",
        "--rules",
        compiled.to_str().unwrap(),
        "--quiet",
        "--",
        &log,
    ]);
    assert!(code == 0 && out.contains("Gateway_SqlInjection"), "{out}");
}

#[test]
fn what_is_wrong_with_rules_is_said_and_fails() {
    let rules = Rules::new("wrong", &RULE.replace("|contains", "|containz"));
    for args in [
        &["rules", "check", "--short", rules.path()][..],
        &["rules", "test", rules.path()],
    ] {
        let (code, out, err) = run(args);
        assert!(
            code == 1 && format!("{out}{err}").contains("unknown-modifier"),
            "{args:?}: {out}{err}"
        );
    }
    let rules = Rules::new(
        "failing",
        &RULE.replace("- GET /password", "- GET /?password"),
    );
    let (code, out, _) = run(&["rules", "test", rules.path()]);
    assert!(
        code == 1 && out.contains("`GET /?password` is caught, and must be ignored"),
        "{out}"
    );
    assert!(out.contains("rule.yml:19:"), "{out}");
    let (code, _, err) = run(&["rules", "check", "no-such-folder"]);
    assert!(code == 1 && err.contains("no-such-folder"), "{err}");
}

#[test]
fn a_request_is_explained() {
    let rules = Rules::new("explain", RULE);
    let (code, out, err) = run(&[
        "explain",
        "--rules",
        rules.path(),
        "--target",
        "/a?q=%70assword",
        "--user-agent",
        "curl",
    ]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "GET localhost/a?q=%70assword",
        "candidates: 1 of 1 rules, of which 1 matched",
        "cs-uri-query contains `password`",
        "(decoded)",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (code, out, _) = run(&[
        "explain",
        &capture("access.log"),
        "--record",
        "2",
        "--rules",
        rules.path(),
    ]);
    assert!(
        code == 0 && out.contains("UNION%20SELECT") && out.contains("1 matched"),
        "{out}"
    );
    let (code, _, err) = run(&[
        "explain",
        &capture("access.log"),
        "--record",
        "99",
        "--rules",
        rules.path(),
    ]);
    assert!(code == 1 && err.contains("fewer than 99 records"), "{err}");
}

#[test]
fn labelled_captures_are_measured_and_compared() {
    let rules = Rules::new("eval", RULE);
    let corpus = rules.0.join("corpus.ndjson");
    let row = |id: usize, label: &str, path: &str| {
        format!(
            "{{\"id\":\"r{id}\",\"label\":\"{label}\",\"class\":\"sqli\",\"method\":\"GET\",\"path\":\"{path}\",\"headers\":[],\"meta\":{{\"loc\":[\"url\"]}}}}\n"
        )
    };
    let rows = [
        row(1, "malicious", "/?q=password"),
        row(2, "malicious", "/missed"),
        row(3, "benign", "/?q=password"),
        row(4, "benign", "/"),
        row(5, "unverified", "/?password"),
        "broken\n".to_owned(),
    ];
    std::fs::write(&corpus, rows.concat()).unwrap();
    let corpus = rules.path();
    let eval = |args: &[&str]| {
        run(&[
            &["eval", "--engine", "native", "--rules", rules.path()],
            args,
            &["--", corpus],
        ]
        .concat())
    };

    let (code, out, err) = eval(&["--misses", "--false-positives"]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "recall             1 of 2, 50.0 %",
        "false positives    1 of 2, 1 in 2",
        "Medium or above 1 in 2",
        "balanced accuracy  0.5000",
        "missed attacks: 1\nr2  sqli",
        "false positives: 1\nr3  High",
        "corpus: 1 records",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }

    let (_, json, _) = eval(&["--json"]);
    let baseline = rules.0.join("baseline.json");
    let mut before: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(before["attacks"]["corpus"]["sqli"]["raised"], 1);
    before["raised"]["corpus"] = serde_json::json!({"r2": ["X"]});
    std::fs::write(&baseline, before.to_string()).unwrap();
    let (_, out, _) = eval(&["--baseline", baseline.to_str().unwrap()]);
    for part in [
        "found now and not before: 1\n  r1",
        "found before and not now: 1\n  r2",
        "and did not before: 2\n  r3",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn the_policy_of_a_request_is_explained() {
    let rules = Rules::new("explain-policy", RULE);
    let config = rules.0.join("policy.json");
    let text = r#"{"routes": [
        {"match": {"path_prefix": "/a"}, "policy": {"mode": "block"}},
        {"match": {"route": "slow"}, "policy": {"exceptions": [{"rules": ["Gateway_SqlInjection"], "parameter": "q"}]}}
    ]}"#;
    std::fs::write(&config, text).unwrap();
    let explain = |args: &[&str]| {
        let fixed = [
            "explain",
            "--rules",
            rules.path(),
            "--config",
            config.to_str().unwrap(),
        ];
        let (code, out, err) = run(&[&fixed, args].concat());
        assert_eq!(code, 0, "{err}");
        let (_, policy) = out
            .split_once("\npolicy\n")
            .expect("a section about the policy");
        policy.to_owned()
    };
    let cases: [(&[&str], &[&str]); 4] = [
        (
            &["--target", "/?q=password"],
            &["gateway\n", "detect", "detected"],
        ),
        (
            &["--target", "/a?q=password"],
            &["gateway < routes[1]\n", "block", "blocked"],
        ),
        (
            &["--target", "/a?q=password", "--route", "slow"],
            &["gateway < routes[2] < routes[1]\n", "excepted"],
        ),
        (
            &[
                "--target",
                "/a?q=password",
                "--route-metadata",
                r#"{"mode": "off"}"#,
            ],
            &[
                "routes[1] < route metadata\n",
                "mode             off",
                "off  ",
            ],
        ),
    ];
    for (args, parts) in cases {
        let policy = explain(args);
        for part in parts {
            assert!(policy.contains(part), "{args:?}: {part}: {policy}");
        }
    }
    std::fs::write(&config, r#"{"mode": "blok"}"#).unwrap();
    let (code, _, err) = run(&[
        "explain",
        "--rules",
        rules.path(),
        "--config",
        config.to_str().unwrap(),
    ]);
    assert!(code == 1 && err.contains("did you mean `block`?"), "{err}");
}

#[test]
fn a_change_is_known_before_it_is_made() {
    let rules = Rules::new("diff", RULE);
    let file = |name: &str, text: &str| {
        let path = rules.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let log = file(
        "access.ndjson",
        &["/a?q=password", "/a?q=password1", "/b?q=password", "/b?q=x"]
            .map(|target| {
                format!("{{\"method\": \"GET\", \"path\": \"{target}\", \"label\": \"benign\"}}\n")
            })
            .concat(),
    );
    let block = file(
        "block.json",
        r#"{"mode": "block", "block": {"min_confidence": 0}, "routes": [{"match": {"path": "/b"}, "policy": {"rules": {"disable": ["Gateway_SqlInjection"]}}}]}"#,
    );
    let diff = |args: &[&str]| run(&[&["diff", "--rules-before", rules.path()], args].concat());
    let (code, out, err) = diff(&["--after", &block, "--exit-code", &log]);
    assert_eq!(code, 1, "{err}");
    let lines: Vec<&str> = out.lines().map(str::trim_start).collect();
    assert!(
        lines[1].starts_with("2  newly blocked      Gateway_SqlInjection"),
        "{out}"
    );
    assert!(
        lines[1].contains("  gateway  ") && lines[2].contains("  gateway → routes[1]  "),
        "{out}"
    );
    assert!(
        lines[2].starts_with("1  disappears         Gateway_SqlInjection"),
        "{out}"
    );
    assert_eq!(
        lines[3],
        "4 requests: 3 alerts change, 0 do not; blocked before 0, after 2"
    );
    let (code, out, err) = diff(&["--before", &block, "--json", &log]);
    assert_eq!(code, 0, "{err}");
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["change"], "no-longer-blocked");
    assert_eq!(lines[1]["change"], "appears");
    assert_eq!(
        (&lines[2]["requests"], &lines[2]["changed_alerts"]),
        (&4.into(), &3.into())
    );
    let (code, out, err) = diff(&["--before", &block, "--after", &block, "--exit-code", &log]);
    assert_eq!((code, out.lines().count()), (0, 1), "{out}{err}");
}

/// Rules of the operator's own, compiled into the configuration, run in the very filter that has its rules built in.
#[test]
fn the_filter_runs_rules_that_its_configuration_brings() {
    let filter = std::env::var_os("PORTCULLIS_WASM").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/portcullis_http.wasm"),
        PathBuf::from,
    );
    let sigma_filter = "---
title: Our own tool
logsource: {category: webserver}
filter:
  rules: [6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a01]
  ours:
    cs-uri-stem: /tool
  condition: not ours
";
    let rules = Rules::new("into-config", &format!("{RULE}{sigma_filter}"));
    let plugin = rules.0.join("plugin.json");
    let plugin = plugin.to_str().unwrap();
    let policy = rules.0.join("policy.json");
    let compile = |text: &str| {
        std::fs::write(&policy, text).unwrap();
        let policy = policy.to_str().unwrap();
        run(&[
            "rules",
            "compile",
            rules.path(),
            "-o",
            plugin,
            "--into-config",
            policy,
        ])
    };
    let (code, _, err) = compile(r#"{"rules": {"disable": ["no-such-rule"]}}"#);
    assert!(
        code == 1 && err.contains("`no-such-rule` is neither the id"),
        "{err}"
    );
    let (code, out, err) = compile(r#"{"mode": "block", "block": {"min_confidence": 0}}"#);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("a plugin configuration with 2 rules"), "{out}");

    let log = rules.0.join("access.ndjson");
    let rows = [
        "/a?q=password",
        "/tool?q=password",
        "/a?id=1'%20union%20select%20a%20from%20b--",
    ]
    .map(|path| format!("{{\"method\": \"GET\", \"path\": \"{path}\", \"label\": \"benign\"}}\n"))
    .concat();
    std::fs::write(&log, rows).unwrap();
    let log = log.to_str().unwrap();
    for engine in [
        vec!["--filter", filter.to_str().unwrap()],
        vec!["--engine", "native"],
    ] {
        let (code, out, err) = run(&[
            &["replay", "--verdicts", "--config", plugin],
            engine.as_slice(),
            &[log],
        ]
        .concat());
        assert_eq!(code, 0, "{err}");
        let actions: Vec<String> = out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["action"].to_string())
            .collect();
        assert_eq!(
            actions,
            ["\"block\"", "\"allow\"", "\"allow\""],
            "{engine:?}: {out}"
        );
    }

    // One letter of the rules is another one.
    let text = std::fs::read_to_string(plugin).unwrap();
    let at = text.len() / 2;
    let other = if text.as_bytes()[at] == b'A' {
        "B"
    } else {
        "A"
    };
    std::fs::write(plugin, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    let (code, _, err) = run(&[
        "replay",
        "--filter",
        filter.to_str().unwrap(),
        "--config",
        plugin,
        log,
    ]);
    assert!(
        code == 1 && err.contains("configuration refused: ruleset: "),
        "{err}"
    );
}
