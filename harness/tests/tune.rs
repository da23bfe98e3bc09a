//! `portcullis tune` as its users meet it: from false alarms to exclusions that are replayed, priced and written down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Two rules and a correlation, small enough to be compiled in no time.
const RULES: &str = r#"
title: Select from
id: 6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a01
status: test
description: Finds the words in a parameter.
logsource: {category: webserver}
detection:
  selection:
    cs-uri-query.*|contains|all: [select, from]
  condition: selection
level: high
portcullis: {alert: Gateway_SqlInjection}
---
title: Backup file
id: 6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a02
name: backup
status: test
description: Finds the end of the path.
logsource: {category: webserver}
detection:
  selection:
    cs-uri-stem|endswith: .bak1
  condition: selection
level: low
portcullis: {alert: AppServices_ScanSensitivePage}
---
title: Many backup files
id: 6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a03
status: test
description: Counts them.
correlation:
  type: event_count
  rules: [backup]
  group-by: [c-ip]
  timespan: 1h
  condition: {gte: 3}
  generate: true
level: medium
portcullis: {alert: Gateway_VulnerabilityScanner}
"#;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let dir =
            std::env::temp_dir().join(format!("portcullis-tune-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("rules")).unwrap();
        std::fs::write(dir.join("rules/rules.yml"), RULES).unwrap();
        Folder(dir)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn portcullis(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn row(id: &str, label: &str, target: &str) -> String {
    let label = match label {
        "" => String::new(),
        label => format!(r#""label": "{label}", "#),
    };
    format!(
        r#"{{"id": "{id}", {label}"method": "GET", "authority": "shop.example", "path": "{target}", "headers": []}}"#
    )
}

fn lines(rows: &[String]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn false_alarms_become_exclusions_that_silence_them_and_nothing_else() {
    let folder = Folder::new("labelled");
    let capture = folder.write(
        "capture.ndjson",
        &lines(&[
            row(
                "a",
                "benign",
                "/reports?query=select+all+from+spring&page=1",
            ),
            row("b", "benign", "/reports?query=select+one+from+autumn"),
            row("c", "benign", "/download/site.bak1"),
            row("d", "benign", "/"),
            // An attack in the same capture.
            row("e", "malicious", "/item?id=1+union+select+x+from+users"),
        ]),
    );
    let attacks = folder.write(
        "attacks.ndjson",
        &lines(&[
            row("f", "malicious", "/item?id=1+union+select+x+from+users"),
            row(
                "g",
                "malicious",
                "/reports?query=1+union+select+x+from+users",
            ),
            row(
                "h",
                "malicious",
                "/reports?page=1+union+select+x+from+users",
            ),
            row("i", "malicious", "/site.bak1"),
            row("j", "malicious", "/nothing-that-is-found"),
            row("k", "benign", "/reports?query=1+union+select+x+from+users"),
        ]),
    );
    let (rules, output) = (folder.path("rules"), folder.path("tuned"));
    let config = folder.write("config.json", r#"{"mode": "block"}"#);
    let args = [
        "tune",
        &capture,
        "--rules",
        &rules,
        "--attacks",
        &attacks,
        "--config",
        &config,
        "--output",
        &output,
        "--json",
    ];
    let (status, out, complaints) = portcullis(&args);
    assert_eq!((status, complaints.as_str()), (0, ""), "{out}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["before"]["clean"], 4);
    assert_eq!(told["before"]["with_alarms"], 3);
    assert_eq!(told["after"]["with_alarms"], 0);
    assert_eq!(told["with_filters"]["with_alarms"], 0);
    assert_eq!(told["attacks"], 5);
    assert_eq!(told["attacks_found_before"], 4);
    assert_eq!(
        told["attacks_found_after"], 3,
        "only that in the excepted parameter is lost"
    );
    let exclusions = told["exclusions"].as_array().unwrap();
    let shown: Vec<String> = exclusions
        .iter()
        .map(|one| format!("{} {} {}", one["exclusion"], one["requests"], one["cost"]))
        .collect();
    assert_eq!(
        shown,
        [
            r#"{"exceptions":[{"parameter":"query","path":"/reports","rules":["6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a01"]}]} 2 {"missed":1,"missed_there":3}"#,
            r#"{"exceptions":[{"path":"/download/site.bak1","rules":["6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a02"]}]} 1 {"missed":0,"missed_there":1}"#,
        ]
    );

    // What is written is what a gateway takes.
    let policy = folder.path("tuned/policy.json");
    let metadata = folder.path("tuned/route-metadata.yaml");
    for file in [&policy, &metadata] {
        let (status, out, _) = portcullis(&["config", "check", "--rules", &rules, "--", file]);
        assert_eq!(status, 0, "{out}");
        assert!(
            out.contains("1 of the filter's settings, 0 errors, 0 warnings"),
            "{out}"
        );
    }
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&policy).unwrap()).unwrap();
    assert_eq!(written["mode"], "block");
    assert_eq!(written, told["configuration"]);
    let filters = folder.path("tuned/filters");
    assert_eq!(Path::new(&filters).read_dir().unwrap().count(), 2);
    let (status, out, _) = portcullis(&["rules", "check", "--strict", &rules, &filters]);
    assert_eq!(status, 0, "{out}");
    // And in replay it does what was said of it.
    let replay = |args: &[&str]| {
        let mut all = vec!["replay", "--engine", "native", "--verdicts", "--quiet"];
        all.extend(args);
        all.push(&capture);
        let (status, out, _) = portcullis(&all);
        assert_eq!(status, 0);
        let raising = out.lines().filter(|line| !line.contains(r#""alerts":[]"#));
        raising
            .map(|line| line.split('"').nth(3).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(replay(&["--rules", &rules, "--"]), ["a", "b", "c", "e"]);
    assert_eq!(
        replay(&["--config", &policy, "--rules", &rules, "--"]),
        ["e"]
    );
    assert_eq!(replay(&["--rules", &rules, &filters, "--"]), ["e"]);

    let (status, out, _) = portcullis(&args[..args.len() - 1]);
    assert_eq!(status, 0);
    for said in [
        "4 clean requests, of which 3 raise something",
        "Gateway_SqlInjection overlooks the parameter `query` on /reports",
        "1 (at most 3)",
        "replayed with this: 0 of 4 clean requests raise something",
        "attacks found: 4 before, 3 after",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
}

#[test]
fn clean_traffic_tunes_what_is_common_in_it_and_thresholds() {
    let folder = Folder::new("clean");
    // One client fetches eleven backups in an hour, as its users do.
    let line = |number: usize, target: &str| {
        format!(
            "192.0.2.7 - - [22/Nov/2026:10:{number:02}:00 +0000] \"GET {target} HTTP/1.1\" 200 5 \"-\" \"a browser\"\n"
        )
    };
    let mut text: String = (0..11)
        .map(|number| line(number, &format!("/files/{number}.bak1")))
        .collect();
    text += &line(20, "/once?q=select+x+from+y");
    let capture = folder.write("access.log", &text);
    let rules = folder.path("rules");
    let (status, out, complaints) = portcullis(&[
        "tune", "--clean", "--json", "--rules", &rules, "--", &capture,
    ]);
    assert_eq!((status, complaints.as_str()), (0, ""), "{out}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["before"]["with_alarms"], 12);
    assert_eq!(
        told["configuration"],
        serde_json::json!({
            "exceptions": [{"rules": ["6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a02"], "path_prefix": "/files"}]
        }),
        "a correlation of what is excepted counts nothing any more"
    );
    // Too rare to be called ordinary.
    assert_eq!(told["after"]["with_alarms"], 1);
    assert_eq!(told["left"][0]["requests"], 1);

    // With the files themselves no matter, the number of them is.
    let silent = RULES.replace("generate: true", "generate: false").replace(
        "level: low\nportcullis: {alert: AppServices_ScanSensitivePage}",
        "level: low",
    );
    assert_ne!(silent, RULES);
    std::fs::write(folder.0.join("rules/rules.yml"), silent).unwrap();
    let (status, out, _) = portcullis(&[
        "tune",
        "--clean",
        "--json",
        "--min-requests",
        "1",
        "--rules",
        &rules,
        "--",
        &capture,
    ]);
    assert_eq!(status, 0, "{out}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        told["configuration"]["rules"]["thresholds"],
        serde_json::json!([{"rules": ["6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a03"], "at_least": 12}]),
        "{out}"
    );
    assert_eq!(told["after"]["with_alarms"], 0);
}

#[test]
fn who_says_nothing_about_the_requests_is_told_how() {
    let folder = Folder::new("unjudged");
    let capture = folder.write("a.ndjson", &lines(&[row("a", "", "/s?q=select+x+from+y")]));
    let rules = folder.path("rules");
    let tune = |more: &[&str]| {
        let mut args = vec!["tune", "--rules", &rules, "--json"];
        args.extend(more);
        args.extend(["--", &capture]);
        portcullis(&args)
    };
    let (status, _, complaints) = tune(&[]);
    assert_eq!(status, 1);
    assert!(complaints.contains("--clean or --verdicts"), "{complaints}");
    // Ids that the operator marks.
    let verdicts = folder.write(
        "verdicts.ndjson",
        "{\"id\": \"a\", \"action\": \"allow\", \"alerts\": [], \"label\": \"benign\"}\n",
    );
    let (status, out, _) = tune(&["--verdicts", &verdicts]);
    assert_eq!(status, 0, "{out}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        told["exclusions"][0]["exclusion"]["exceptions"][0]["parameter"],
        "q"
    );
    for (text, want) in [
        (
            "{\"id\": \"a\", \"label\": \"fine\"}",
            "`fine` is none of `benign`",
        ),
        ("{\"label\": \"benign\"}", "write {\"id\": \"…\""),
        ("\x00", "write {\"id\": \"…\""),
    ] {
        let verdicts = folder.write("verdicts.ndjson", text);
        let (status, _, complaints) = tune(&["--verdicts", &verdicts]);
        assert_eq!(status, 1);
        assert!(
            complaints.contains(want) && complaints.contains(".ndjson:1"),
            "{complaints}"
        );
    }
}

/// The commands of `docs/POLICY.md`, run where it says, print what it shows.
#[test]
fn the_worked_example_of_the_documentation_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = include_str!("../../docs/POLICY.md");
    let folder = Folder::new("example");
    let tuned = folder.path("tuned");
    let mut commands = 0;
    for block in page.split("```console\n").skip(1) {
        let (block, _) = block.split_once("\n```").unwrap();
        for step in block.split("$ portcullis ").skip(1) {
            let (command, shown) = step.split_once('\n').unwrap();
            let command = command.replace("/tmp/tuned", &tuned);
            let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
                .current_dir(&root)
                .args(command.split(' '))
                .output()
                .unwrap();
            let text = |bytes| {
                String::from_utf8(bytes)
                    .unwrap()
                    .replace(&tuned, "/tmp/tuned")
            };
            let (printed, complaints) = (text(output.stdout), text(output.stderr));
            assert!(
                output.status.success() && complaints.is_empty(),
                "{command}: {complaints}"
            );
            assert_eq!(printed.trim_end(), shown.trim_end(), "{command}");
            commands += 1;
        }
    }
    assert_eq!(commands, 3);
    // And what it says to put into the route is what was written.
    let written = std::fs::read_to_string(folder.path("tuned/route-metadata.yaml")).unwrap();
    let metadata = written
        .lines()
        .find(|line| line.contains("policy: '{"))
        .unwrap();
    assert!(page.contains(metadata), "{metadata}");
}
