//! A headless Chromium, driven over the pipe that it has for that: no port, no driver, no protocol but JSON.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// A browser with one page.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    /// What was not an answer.
    pub events: VecDeque<Value>,
    next: u64,
    page: String,
    profile: PathBuf,
}

impl Browser {
    /// Starts it with an empty profile.
    pub fn start(chromium: &Path) -> Browser {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let profile = format!("portcullis-browser-{}-{number}", std::process::id());
        let profile = std::env::temp_dir().join(profile);
        let _ = std::fs::remove_dir_all(&profile);
        std::fs::create_dir_all(&profile).unwrap();
        // It reads from descriptor 3 and writes to 4.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#)
            .arg(chromium)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-default-apps",
                "--disable-sync",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (send, messages) = mpsc::channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output
                .read_until(0, &mut message)
                .is_ok_and(|read| read > 0)
            {
                message.pop();
                if let Ok(message) = serde_json::from_slice(&message)
                    && send.send(message).is_err()
                {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Browser {
            child,
            input,
            messages,
            events: VecDeque::new(),
            next: 0,
            page: String::new(),
            profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = target["targetId"].clone();
        let attached = browser.call(
            "Target.attachToTarget",
            json!({"targetId": target, "flatten": true}),
        );
        browser.page = attached["sessionId"].as_str().unwrap().to_owned();
        for (method, params) in [
            ("Page.enable", json!({})),
            ("Runtime.enable", json!({})),
            ("Network.enable", json!({})),
            // Its worker is a target of its own.
            (
                "Target.setAutoAttach",
                json!({"autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true}),
            ),
        ] {
            browser.call(method, params);
        }
        browser
    }

    /// Asks the page, or the browser while there is none.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let session = self.page.clone();
        self.call_in(&session, method, params)
    }

    fn call_in(&mut self, session: &str, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !session.is_empty() {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.input
            .write_all(&bytes)
            .unwrap_or_else(|error| panic!("the browser is gone at {method}: {error}"));
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self
                .messages
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("no answer to {method}: {error}"));
            if answer["id"] == json!(id) {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push_back(answer);
        }
    }

    /// Loads a file and waits until `ready` holds.
    pub fn open(&mut self, url: &str, ready: &str) {
        self.call("Page.navigate", json!({"url": url}));
        self.wait(ready);
    }

    /// What an expression comes to in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let session = self.page.clone();
        self.evaluate_in(&session, expression)
    }

    fn evaluate_in(&mut self, session: &str, expression: &str) -> Value {
        let answer = self.call_in(
            session,
            "Runtime.evaluate",
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true}),
        );
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {}",
            answer["exceptionDetails"]
        );
        answer["result"]["value"].clone()
    }

    /// What an expression comes to in the page's newest worker.
    pub fn evaluate_in_worker(&mut self, expression: &str) -> Value {
        let worker = self.events.iter().rev().find_map(|event| {
            (event["method"] == "Target.attachedToTarget"
                && event["params"]["targetInfo"]["type"] == "worker")
                .then(|| event["params"]["sessionId"].as_str().unwrap().to_owned())
        });
        self.evaluate_in(&worker.expect("the page has a worker"), expression)
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        // A page that is being left may have no context for a moment.
        let guarded = format!(
            "(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        );
        while self.evaluate(&guarded) != json!(true) {
            assert!(
                Instant::now() < until,
                "never: {expression}\n{}",
                self.evaluate("document.body.innerText.slice(0, 3000)")
            );
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Puts a text into a field as somebody who types would, in place of what is there.
    pub fn type_into(&mut self, id: &str, text: &str) {
        self.evaluate(&format!(
            "document.getElementById({id:?}).focus(), document.getElementById({id:?}).select()"
        ));
        if text.is_empty() {
            self.evaluate("document.execCommand('delete')");
        } else {
            self.call("Input.insertText", json!({"text": text}));
        }
    }

    /// Presses the button or link that a selector finds.
    pub fn click(&mut self, selector: &str) {
        self.wait(&format!("document.querySelector({selector:?})"));
        self.evaluate(&format!("document.querySelector({selector:?}).click()"));
    }

    /// What the page shows, as PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        use base64::Engine as _;
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let data = answer["data"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(data)
            .unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let message = json!({"id": 0, "method": "Browser.close"}).to_string() + "\0";
        let _ = self.input.write_all(message.as_bytes());
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
