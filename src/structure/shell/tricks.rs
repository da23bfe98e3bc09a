//! Signs of a shell that need no command word: expansions, redirections, calls that start one.

use super::arguments::{ARGUMENTS, Shape, is_option, shape, target};
use super::word::{WORD, ends, ifs, is_space, read, skip_space};
use super::{HIGH, Hit, MEDIUM, hit};

/// `() { :;}; command`.
pub(super) fn shellshock(value: &[u8]) -> Option<Hit> {
    let rest = value.strip_prefix(b"()")?;
    let brace = rest.iter().take(8).position(|&b| b == b'{')?;
    if !rest.get(..brace)?.iter().all(|&b| is_space(b)) {
        return None;
    }
    let open = 2 + brace + 1;
    let body = value.get(open..value.len().min(open + 64))?;
    let close = match body.iter().position(|&b| b == b'}') {
        Some(close) => close,
        // All that is left in a cookie, which ends where the function's first statement does.
        None if matches!(body.trim_ascii(), b":" | b"_") => return hit(HIGH, 0, open, open, value),
        None => return None,
    };
    let from = open + close + 1;
    let from = from
        + value
            .get(from..)?
            .iter()
            .take(4)
            .take_while(|b| matches!(b, b';' | b' '))
            .count();
    hit(HIGH, 0, from, from, value)
}

/// `${IFS}`, `${PATH:0:1}`, `$'\x63'`, `$SHELL`.
pub(super) fn variable(value: &[u8], at: usize) -> Option<Hit> {
    if let Some(width) = ifs(value, at) {
        let from = word_start(value, at);
        return hit(HIGH, at, at + width, from, value);
    }
    let rest = value.get(at + 1..)?;
    match rest {
        // The shell itself, handed a line.
        [b'0', b'<', b'<', b'<', ..] => hit(HIGH, at, at + 5, at, value),
        [b'\'', b'\\', b, ..] if b.is_ascii_digit() || matches!(b, b'x' | b'u') => {
            hit(HIGH, at, at + 4, at, value)
        }
        [b'{', name @ ..] => {
            let len = name
                .iter()
                .take(24)
                .take_while(|b| b.is_ascii_uppercase() || **b == b'_')
                .count();
            let tail = name.get(len..)?;
            let cut = len > 0
                && matches!(tail, [b':', b, ..] if b.is_ascii_digit() || *b == b'-' || *b == b' ')
                && tail.get(1..).is_some_and(|t| {
                    t.iter().take(6).all(|b| {
                        b.is_ascii_digit()
                            || matches!(
                                b,
                                b':' | b'-' | b'}' | b' ' | b'a'..=b'z' | b'$' | b'/' | b'.'
                            )
                    })
                });
            let strip = len > 0 && matches!(tail, [b'%' | b'#', ..]);
            if cut || strip {
                hit(HIGH, at, at + 2 + len, word_start(value, at), value)
            } else {
                None
            }
        }
        _ => spelled(value, at),
    }
}

/// `;$a$b /etc/passwd`: a variable where a command stands.
fn spelled(value: &[u8], at: usize) -> Option<Hit> {
    let back = value.get(at.saturating_sub(4)..at)?;
    let before = back.iter().rev().find(|b| !is_space(**b))?;
    if !matches!(before, b';' | b'|' | b'&' | b'\n' | b'`') {
        return None;
    }
    let rest = value.get(at..value.len().min(at + WORD))?;
    let name = rest
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'$' | b'_'))
        .count();
    let many = rest.get(1..name)?.contains(&b'$');
    let shape = shape(value, at + name, value.len());
    if name < 2
        || !(shape == Shape::Target
            || shape == Shape::Option
            || many && matches!(shape, Shape::Bare | Shape::Closed))
    {
        return None;
    }
    hit(MEDIUM, at, at + name, at, value)
}

/// The start of the command that goes on at `at`, at most [`WORD`] bytes back.
fn word_start(value: &[u8], at: usize) -> usize {
    let floor = at.saturating_sub(WORD);
    let mut from = at;
    while from > floor {
        match value.get(from - 1) {
            // `>&` and `0>&1` point a stream elsewhere, they part nothing.
            Some(b'&') if from >= 2 && matches!(value.get(from - 2), Some(b'>' | b'<')) => {}
            Some(b';' | b'|' | b'&' | b'\n' | b'`' | b'(' | b'=') => break,
            _ => {}
        }
        from -= 1;
    }
    skip_space(value, from).min(at)
}

/// `%COMSPEC%`, `%PATH:~0,1%`.
pub(super) fn windows_variable(value: &[u8], at: usize) -> Option<Hit> {
    let rest = value.get(at + 1..)?;
    let len = rest
        .iter()
        .take(24)
        .take_while(|b| b.is_ascii_alphabetic())
        .count();
    let name = rest.get(..len)?;
    let known = [
        "comspec",
        "systemroot",
        "windir",
        "programfiles",
        "userprofile",
        "appdata",
        "systemdrive",
        "allusersprofile",
        "programdata",
        "homepath",
        "pathext",
    ]
    .iter()
    .any(|k| name.eq_ignore_ascii_case(k.as_bytes()));
    match rest.get(len..)? {
        [b':', b'~', b, ..] if len > 0 && (b.is_ascii_digit() || *b == b'-') => {
            hit(HIGH, at, at + len + 3, at, value)
        }
        [b'%', ..] if known => hit(MEDIUM, at, at + len + 2, at, value),
        _ => None,
    }
}

/// `2>&1`, `>& /dev/tcp`, `> /tmp/x`, `<<<`.
pub(super) fn redirection(value: &[u8], at: usize) -> Option<Hit> {
    let rest = value.get(at..)?;
    // Going back to where the word starts is dear, and a text of nothing but `<` would do it for each byte.
    let from = || word_start(value, at);
    if rest.starts_with(b">&1") || rest.starts_with(b">&2") {
        return hit(MEDIUM, at, at + 3, from(), value);
    }
    let file = at
        + 1
        + rest
            .get(1..)?
            .iter()
            .take(4)
            .take_while(|b| is_space(**b) || **b == b'>')
            .count();
    let sink = ["/dev/null", "/tmp/", "/var/www", "/dev/shm/"]
        .iter()
        .any(|s| {
            value
                .get(file..)
                .is_some_and(|v| v.starts_with(s.as_bytes()))
        });
    if sink && rest.starts_with(b">") {
        hit(MEDIUM, at, file + 5, from(), value)
    } else {
        None
    }
}

/// `/dev/tcp/host/port`.
pub(super) fn device(value: &[u8], at: usize) -> Option<Hit> {
    let rest = value.get(at..)?;
    if rest.starts_with(b"/dev/tcp/") || rest.starts_with(b"/dev/udp/") {
        return hit(
            HIGH,
            at,
            at + 9,
            word_start(value, at.saturating_sub(1)),
            value,
        );
    }
    None
}

/// Functions that hand their argument to a shell; the opening quote's offset plus one.
pub(super) fn call(value: &[u8], open: usize) -> Option<usize> {
    let head = value.get(open.saturating_sub(16)..open)?;
    let name_at = head
        .iter()
        .rposition(|b| !(b.is_ascii_alphanumeric() || *b == b'_'))
        .map_or(0, |p| p + 1);
    let name = head.get(name_at..)?;
    let runs = [
        "system",
        "exec",
        "passthru",
        "shell_exec",
        "popen",
        "proc_open",
        "execsync",
        "spawn",
        "check_output",
        "getoutput",
        "pcntl_exec",
        "wincmd",
        "shell",
    ]
    .iter()
    .any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
    if !runs {
        return None;
    }
    let quote = open
        + 1
        + value
            .get(open + 1..)?
            .iter()
            .take(8)
            .take_while(|b| is_space(**b) || **b == b'\\')
            .count();
    matches!(value.get(quote), Some(b'\'' | b'"')).then_some(quote + 1)
}

/// `#exec cmd="…"` of a server-side include.
pub(super) fn ssi(value: &[u8], equals: usize) -> bool {
    let head = value.get(equals.saturating_sub(24)..equals).unwrap_or(b"");
    let head = trim_spaces(head);
    ends(head, b"cmd") && head.windows(5).any(|w| w.eq_ignore_ascii_case(b"#exec"))
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// `{cat,/etc/passwd}`.
pub(super) fn brace(value: &[u8], at: usize) -> Option<Hit> {
    let command = read(value, at + 1, value.len())?;
    if value.get(command.end) != Some(&b',') {
        return None;
    }
    let rest = value.get(command.end + 1..value.len().min(command.end + ARGUMENTS))?;
    let close = rest.iter().position(|&b| b == b'}')?;
    let word = rest.get(..close)?;
    let argument = word
        .split(|&b| b == b',')
        .any(|w| target(w) > 0 || is_option(w, 0));
    // `$({curl,host})`: a name is an argument where nothing but a command stands.
    let opened = matches!(
        at.checked_sub(1).and_then(|before| value.get(before)),
        Some(b'(' | b'`')
    );
    if argument || opened {
        hit(HIGH, at, command.end + 1 + close + 1, at, value)
    } else {
        None
    }
}

/// PowerShell's own words, which need no separator before them, parted at the byte that they are
/// looked for at.
const POWERSHELL: &[(&str, &str, u8)] = &[
    ("invoke", "-expression", HIGH),
    ("invoke", "-webrequest", HIGH),
    ("invoke", "-command", MEDIUM),
    ("start", "-process", MEDIUM),
    ("", "-encodedcommand", HIGH),
    ("", "-executionpolicy", MEDIUM),
    ("net", ".webclient", HIGH),
    (".downloadstring", "(", HIGH),
    (".downloadfile", "(", HIGH),
    ("frombase64string", "(", HIGH),
    ("iex", "(", MEDIUM),
    ("iex ", "(", MEDIUM),
];

/// A word of PowerShell around the `-`, `.` or `(` at `at`.
pub(super) fn powershell(value: &[u8], at: usize) -> Option<Hit> {
    let rest = value.get(at..)?;
    let near = value.get(at + 1).copied().unwrap_or(0) | 0x20;
    let before = value.get(at.wrapping_sub(1)).copied().unwrap_or(0) | 0x20;
    let may = match rest.first() {
        Some(b'(') => matches!(before, b'g' | b'e' | b'x' | b' '),
        _ => matches!(near, b'e' | b'w' | b'c' | b'p'),
    };
    if !may {
        return None;
    }
    let (head, tail, confidence) = POWERSHELL.iter().find(|(head, tail, _)| {
        rest.get(..tail.len())
            .is_some_and(|t| t.eq_ignore_ascii_case(tail.as_bytes()))
            && value
                .get(at.saturating_sub(head.len())..at)
                .is_some_and(|h| h.eq_ignore_ascii_case(head.as_bytes()))
    })?;
    let start = at - head.len();
    // A whole word only: `complex(` ends in `ex(`.
    let letter = |index: usize| value.get(index).is_some_and(u8::is_ascii_alphanumeric);
    if start > 0 && letter(start) && letter(start - 1) {
        return None;
    }
    hit(*confidence, start, at + tail.len(), start, value)
}
