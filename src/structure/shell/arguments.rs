//! What follows a command word: the shape of its arguments.

use super::MEDIUM;
use super::word::{is_space, skip_space};

/// How far the arguments are looked at, in bytes.
pub(super) const ARGUMENTS: usize = 96;

/// What follows the command word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing: the value ends here.
    Bare,
    /// Nothing but a mark that closes what was opened.
    Closed,
    /// Nothing but a separator, and then something else.
    List,
    /// A number.
    Number,
    /// An option: `-la`, `/all`.
    Option,
    /// A system path, URL or variable.
    Target,
    /// Quoted text, a redirection, a wildcard: an argument, but also punctuation.
    Mark,
    /// Options after the first word.
    Late,
    /// Something with dots in it: a host, an address, a file.
    Name,
    /// Words.
    Prose,
    /// The word goes on in a way that no command does: `base64,`, `exec(`.
    Other,
}

/// Looks at what follows the command word.
pub(super) fn shape(value: &[u8], command_end: usize, limit: usize) -> Shape {
    let mut at = command_end;
    let window = limit.min(command_end + ARGUMENTS);
    let begin = skip_space(value, at).min(limit);
    let spaced = begin > at;
    at = begin;
    while at < limit
        && matches!(value.get(at), Some(b'\'' | b'"' | b'\\'))
        && !spaced
        && !(value.get(at) == Some(&b'\\')
            && value.get(at + 1).is_some_and(u8::is_ascii_alphanumeric))
    {
        at += 1;
    }
    let marked = at > begin;
    let Some(&first) = value.get(at).filter(|_| at < limit) else {
        return if marked || limit < value.len() {
            Shape::Closed
        } else {
            Shape::Bare
        };
    };
    match first {
        b';' | b'|' | b'&' | b'`' | b')' | b'\n' | b'\r' | 0 | b'#' => {
            return if closes(value, at) {
                Shape::Closed
            } else {
                Shape::List
            };
        }
        b'\\' if matches!(value.get(at + 1), Some(b'n' | b'r')) => return Shape::Closed,
        b'<' | b'>' => return redirect(value, at),
        b'\'' | b'"' if at + 1 >= limit => return Shape::Closed,
        // `;system('id')` is a call, not a command line; `call` looks inside it.
        _ if !spaced => return Shape::Other,
        _ => {}
    }
    if is_option(value, at) {
        return Shape::Option;
    }
    let text = value.get(at..window).unwrap_or(b"");
    if first.is_ascii_digit() {
        let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
        match text.get(digits) {
            None
            | Some(b' ' | b';' | b'|' | b'&' | b')' | b'`' | b'\'' | b'"' | b'\n' | b's' | b'+') => {
                return Shape::Number;
            }
            _ => {}
        }
    }
    let mut words = 0;
    let mut from = 0;
    let (mut dotted, mut marks, mut late) = (false, false, false);
    while from < text.len() && words < 6 {
        let rest = text.get(from..).unwrap_or(b"");
        let len = rest
            .iter()
            .position(|&b| is_space(b) || matches!(b, b'\n' | b'\r'))
            .unwrap_or(rest.len());
        let word = rest.get(..len).unwrap_or(b"");
        match target(word) {
            2 => return Shape::Target,
            1 => marks = true,
            _ => {}
        }
        late |= words > 0 && is_option(word, 0);
        dotted |= is_name(word);
        if word.iter().any(|b| matches!(b, b';' | b'|' | b'`' | b'&')) {
            break;
        }
        words += usize::from(len > 0);
        from += len + 1;
    }
    match (marks, dotted, late) {
        (true, _, _) => Shape::Mark,
        (_, true, _) => Shape::Name,
        (_, _, true) => Shape::Late,
        _ => Shape::Prose,
    }
}

/// Nothing follows the mark at `at` but more marks: it closes the command instead of parting a list.
fn closes(value: &[u8], at: usize) -> bool {
    value
        .get(at..)
        .is_some_and(|rest| rest.len() <= 6 && !rest.iter().any(u8::is_ascii_alphanumeric))
        || value.get(at) == Some(&b'#')
}

/// `cat<x`, `echo x>y`: into or out of a file, or just a comparison.
fn redirect(value: &[u8], at: usize) -> Shape {
    let rest = value.get(at + 1..value.len().min(at + 8)).unwrap_or(b"");
    match rest
        .iter()
        .find(|b| !(is_space(**b) || matches!(b, b'<' | b'>')))
    {
        Some(b'/' | b'.' | b'$' | b'&' | b'~' | b'\\' | b'(') => Shape::Target,
        Some(b) if b.is_ascii_alphabetic() || matches!(b, b'\'' | b'"') => Shape::Mark,
        _ => Shape::Other,
    }
}

/// `-x`, `--long`, `/c`, `/all`.
pub(super) fn is_option(value: &[u8], at: usize) -> bool {
    match value.get(at..) {
        Some([b'-', b'-', b, ..]) => b.is_ascii_alphabetic(),
        Some([b'-', b, ..]) => b.is_ascii_alphanumeric(),
        Some([b'/', rest @ ..]) => {
            let len = rest
                .iter()
                .take(8)
                .take_while(|b| b.is_ascii_alphabetic())
                .count();
            (1..=3).contains(&len)
                && !matches!(
                    rest.get(len),
                    Some(b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'?' | b'*')
                )
        }
        _ => false,
    }
}

/// Directories that only make sense on the server.
pub(super) const ROOTS: &[&str] = &[
    "/etc", "/bin", "/usr", "/var", "/tmp", "/proc", "/dev", "/home", "/root", "/opt", "/sys",
    "/lib", "/sbin", "/mnt", "/srv", "/boot",
];

/// Would this argument mean something to a program? 2: a path, a URL, a variable. 1: quoted text, a
/// redirection. 0: it could be a word.
pub(super) fn target(word: &[u8]) -> u8 {
    let bare = match word {
        [b'"' | b'\'', rest @ ..] => rest,
        _ => word,
    };
    let quoted = u8::from(bare.len() < word.len() && word.len() > 2);
    match bare {
        [b'$', b, ..] if b.is_ascii_alphabetic() || matches!(b, b'{' | b'(' | b'@' | b'\'') => {
            return 2;
        }
        [b'.', b'.', b'/' | b'\\', ..] | [b'.', b'/' | b'\\', ..] | [b'~', b'/', ..] => return 2,
        [b'2', b'>', ..] | [b'1', b'>', ..] | [b'\\', b'\\', _, ..] => return 2,
        [b'%', rest @ ..]
            if rest.iter().take(24).find(|b| !b.is_ascii_alphabetic()) == Some(&b'%') =>
        {
            return 2;
        }
        [drive, b':', ..]
            if drive.is_ascii_alphabetic()
                && matches!(
                    bare.get(2),
                    None | Some(b'\\' | b'/' | b'"' | b'|' | b'&' | b';' | b'\'')
                ) =>
        {
            return 2;
        }
        [b'H' | b'h', b'K' | b'k', b'A'..=b'Z' | b'a'..=b'z', ..] if bare.contains(&b'\\') => {
            return 2;
        }
        [b'/'] | [b'*'] | [b'>' | b'<', ..] | [b'`', _, ..] => return 1,
        _ => {}
    }
    if bare.len() > 1 && bare.ends_with(b"*") {
        return 1;
    }
    if bare.starts_with(b"/") {
        let system = ROOTS.iter().any(|r| {
            bare.starts_with(r.as_bytes())
                && matches!(
                    bare.get(r.len()),
                    None | Some(
                        b'/' | b';' | b'|' | b'&' | b'`' | b')' | b'"' | b'\'' | b'*' | b'?'
                    )
                )
        });
        let hidden = bare
            .iter()
            .take(24)
            .any(|&b| matches!(b, b'*' | b'?' | b'\\' | b'\'' | b'"' | b'$'));
        return if system || hidden {
            2
        } else {
            u8::from(bare.len() > 2 && !is_option(bare, 0))
        };
    }
    if bare
        .get(..bare.len().min(64))
        .is_some_and(|head| head.windows(3).any(|w| w == b"://"))
    {
        2
    } else {
        quoted
    }
}

/// A host name, an address or a file name: labels and dots. `1.8.0` is a version.
fn is_name(word: &[u8]) -> bool {
    let len = word
        .iter()
        .take(64)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'*'))
        .count();
    let name = word.get(..len).unwrap_or(b"");
    let dots = name.iter().filter(|&&b| b == b'.').count();
    let ends_inside = name
        .iter()
        .position(|&b| b == b'.')
        .is_some_and(|d| d + 1 < len);
    let last = name.rsplit(|&b| b == b'.').next().unwrap_or(name);
    let numeric = name.first().is_some_and(u8::is_ascii_digit);
    let host = !numeric || last.len() > 1 && last.iter().all(u8::is_ascii_alphabetic);
    let address = dots == 3 && name.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    let account = len > 0
        && word.get(len) == Some(&b'@')
        && word.get(len + 1).is_some_and(u8::is_ascii_alphanumeric);
    account || ends_inside && len > 3 && (host || address)
}

/// Is the first option short, as programs have them and search exclusions (`python -snake`) do not?
pub(super) fn short_option(value: &[u8], end: usize) -> bool {
    let option = value.get(skip_space(value, end)..).unwrap_or(b"");
    option.starts_with(b"--") || option.iter().take_while(|b| !is_space(**b)).count() <= 5
}

/// Nothing but marks after the number: `sleep 5;`, not `sleep 8 hours`.
pub(super) fn number_ends(value: &[u8], end: usize) -> bool {
    let rest = value.get(skip_space(value, end)..).unwrap_or(b"");
    let digits = rest
        .iter()
        .take_while(|b| b.is_ascii_digit() || **b == b's' || **b == b'.')
        .count();
    let after = rest.get(digits..).unwrap_or(b"");
    let after = after
        .get(after.iter().take_while(|b| is_space(**b)).count()..)
        .unwrap_or(b"");
    !after.first().is_some_and(u8::is_ascii_alphanumeric)
}

/// `net user hacker Password1 /ADD`: the verbs that make a word a command line.
pub(super) fn windows_line(value: &[u8], end: usize) -> u8 {
    let at = skip_space(value, end);
    let verb = [
        "user",
        "view",
        "localgroup",
        "group",
        "share",
        "start",
        "stop",
        "use",
        "add",
        "query",
        "save",
        "delete",
        "config",
        "create",
    ]
    .iter()
    .any(|v| {
        value
            .get(at..at + v.len())
            .is_some_and(|w| w.eq_ignore_ascii_case(v.as_bytes()))
    });
    if verb { MEDIUM } else { 0 }
}

/// Programs that are words or subjects as well, with first arguments that only a command line has.
const LINES: &[(&str, &[&str])] = &[
    ("apk", &["add"]),
    ("apt", &["install"]),
    ("aws", &["ec2", "iam", "s3", "s3api", "sts"]),
    ("chmod", &["+s", "+x", "a+x", "u+s"]),
    ("dnf", &["install"]),
    ("docker", &["exec", "images", "ps", "run"]),
    ("free", &["-h", "-m"]),
    ("getent", &["group", "passwd", "shadow"]),
    ("git", &["clone"]),
    (
        "ip",
        &["a", "addr", "address", "link", "neigh", "r", "route"],
    ),
    ("kubectl", &["apply", "exec", "get"]),
    ("npm", &["install"]),
    ("pip", &["install"]),
    (
        "ps",
        &["-aux", "a", "aux", "auxw", "auxww", "ax", "axu", "faux"],
    ),
    ("su", &["-", "-c", "-l", "root"]),
    (
        "systemctl",
        &["disable", "enable", "restart", "start", "status", "stop"],
    ),
    ("vssadmin", &["create", "delete", "list"]),
    ("wevtutil", &["cl", "el", "qe"]),
    (
        "which",
        &[
            "bash", "curl", "gcc", "nc", "ncat", "netcat", "perl", "python", "python3", "socat",
            "wget",
        ],
    ),
    (
        "wmic",
        &[
            "cpu",
            "logicaldisk",
            "os",
            "process",
            "product",
            "qfe",
            "service",
            "shadowcopy",
            "useraccount",
        ],
    ),
    ("yum", &["install"]),
];

/// Programs of those who write software, whose calls every manual shows on lines of their own.
const MAKERS: &[&str] = &[
    "apk", "apt", "apt-get", "dnf", "docker", "gcc", "gdb", "git", "java", "kubectl", "make",
    "node", "npm", "php", "pip", "python", "python3", "ruby", "yum",
];

/// Whether the command that ends at `end` is one of [`MAKERS`], called as manuals call it: not with a program of one line
/// (`node -e`, `php -r`), and not with a file of the system's.
pub(super) fn is_shown(value: &[u8], end: usize) -> bool {
    let line = value.get(..end).unwrap_or(b"");
    if !MAKERS.iter().any(|maker| is_named(line, maker)) {
        return false;
    }
    let rest = value.get(skip_space(value, end)..).unwrap_or(b"");
    let rest = rest.get(..ARGUMENTS).unwrap_or(rest);
    let first = rest.split(|b| is_space(*b)).next().unwrap_or(rest);
    let runs_code = matches!(first, b"-c" | b"-e" | b"-p" | b"-r" | b"-x" | b"--eval");
    !runs_code && bare_word_line(value, end) == 0
}

/// Whether `line` ends with this program and no longer word.
fn is_named(line: &[u8], program: &str) -> bool {
    let from = line.len().saturating_sub(program.len());
    // Comparing the last byte first spares nearly all comparisons.
    line.last() == program.as_bytes().last()
        && line.ends_with(program.as_bytes())
        && !from
            .checked_sub(1)
            .and_then(|before| line.get(before))
            .is_some_and(u8::is_ascii_alphanumeric)
}

/// `ps aux`, `su -`, `ip addr`: program and first argument together are no words of a sentence.
pub(super) fn known_line(value: &[u8], end: usize) -> bool {
    let line = value.get(..end).unwrap_or(b"");
    let rest = value.get(skip_space(value, end)..).unwrap_or(b"");
    let len = rest
        .iter()
        .position(|b| {
            is_space(*b)
                || matches!(
                    b,
                    b';' | b'|' | b'&' | b'`' | b')' | b'"' | b'\'' | b'\n' | b'\r' | b'#'
                )
        })
        .unwrap_or(rest.len());
    let first = rest.get(..len).unwrap_or(b"");
    LINES.iter().any(|(program, arguments)| {
        is_named(line, program)
            && arguments
                .iter()
                .any(|argument| first == argument.as_bytes())
    })
}

/// `export X=1;id`: a variable is set for the command that follows.
pub(super) fn exports(value: &[u8], end: usize) -> bool {
    let line = value.get(..end).unwrap_or(b"");
    if !line.ends_with(b"export") {
        return false;
    }
    let rest = value.get(skip_space(value, end)..value.len().min(end + ARGUMENTS));
    let rest = rest.unwrap_or(b"");
    let name = rest
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
        .count();
    let set = rest.get(name..).unwrap_or(b"");
    let ended = set
        .iter()
        .position(|b| matches!(b, b';' | b'&' | b'|' | b'\n'));
    name > 0
        && set.starts_with(b"=")
        && ended.is_some_and(|at| {
            let follows = set.get(at..).unwrap_or(b"");
            follows.iter().any(u8::is_ascii_alphabetic)
        })
}

/// `echo a b||`, `echo a&`, `echo a #`: a line that is closed against whatever follows it.
pub(super) fn closed_line(value: &[u8], end: usize) -> bool {
    let rest = value
        .get(end..value.len().min(end + ARGUMENTS))
        .unwrap_or(b"");
    let Some(at) = rest.iter().position(|b| matches!(b, b'|' | b'&' | b'#')) else {
        return false;
    };
    let tail = rest.get(at..).unwrap_or(b"");
    matches!(tail, [b'|', b'|', ..] | [b'&'] | [b'#', ..])
}

/// `echo a1b2c3`: a word that is told again by a program that runs, as tests for such holes have it: letters with numbers
/// among them, and nothing else up to the end or a mark.
pub(super) fn echoes(value: &[u8], end: usize) -> bool {
    if !value.get(..end).unwrap_or(b"").ends_with(b"echo") {
        return false;
    }
    let rest = value.get(skip_space(value, end)..).unwrap_or(b"");
    let word = rest
        .iter()
        .take(ARGUMENTS)
        .take_while(|b| b.is_ascii_alphanumeric())
        .count();
    let (word, tail) = rest.split_at_checked(word).unwrap_or((rest, b""));
    let digits = word.iter().filter(|b| b.is_ascii_digit()).count();
    word.len() >= 5
        && digits >= 2
        && digits < word.len()
        && tail.len() <= 4
        && !tail.iter().any(u8::is_ascii_alphanumeric)
}

/// A first word that is also English needs a system path to be a command line: `cat /etc/passwd`.
pub(super) fn bare_word_line(value: &[u8], end: usize) -> u8 {
    let text = value
        .get(end..value.len().min(end + ARGUMENTS))
        .unwrap_or(b"");
    let mut root = false;
    for word in text.split(|&b| is_space(b)).take(6) {
        let bare = word
            .strip_prefix(b"\"")
            .or(word.strip_prefix(b"'"))
            .unwrap_or(word);
        let system = ROOTS
            .iter()
            .any(|r| bare.starts_with(r.as_bytes()) && bare.get(r.len()) == Some(&b'/'));
        let drive = matches!(
            bare,
            [_, b':', b'\\' | b'/', ..] | [_, b':'] | [b'%', _, ..]
        );
        let up = bare.starts_with(b"../") || bare.starts_with(b"..\\");
        if system || drive || up || root && is_option(bare, 0) {
            return MEDIUM;
        }
        root |= bare == b"/";
    }
    0
}

/// `id;`, `id|`: the whole value is one word and a separator.
pub(super) fn only_command(value: &[u8], end: usize) -> bool {
    value.get(end..).is_some_and(|rest| {
        !rest.is_empty()
            && rest.len() <= 3
            && rest.iter().any(|b| matches!(b, b';' | b'|' | b'&'))
            && rest
                .iter()
                .all(|b| matches!(b, b';' | b'|' | b'&' | b' ' | b'\'' | b'"'))
    })
}
