//! One word, read as a shell reads it, and what program it names.

/// How much a program's name says by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Not a word of any language: `wget`, `whoami`.
    Strong,
    /// A program first, hardly a word: `ls`, `ping`.
    Program,
    /// A program that does nothing without arguments: `echo`, `rm`.
    Tool,
    /// A program whose name is also a subject, as in a list of tags: `php`, `mysql`.
    Subject,
    /// A word that is also a program: `id`, `date`.
    Word,
    /// The same, for a program that does nothing without arguments: `cat`, `find`.
    Verb,
    /// A Windows program, matched in any case.
    Windows,
    /// A Windows program that is also a word: `dir`.
    WindowsWord,
    /// The same, for one that does nothing without arguments: `type`.
    WindowsVerb,
}

use Kind::{Program, Strong, Subject, Tool, Verb, Windows, WindowsVerb, WindowsWord, Word};

/// Longest command word that is read, in bytes of the value.
pub(super) const WORD: usize = 96;

impl Kind {
    /// Whether the name is also a word of a language.
    pub(super) fn is_word(self) -> bool {
        matches!(self, Word | Verb | WindowsWord | WindowsVerb)
    }

    /// Whether the program does nothing when it is run alone.
    pub(super) fn needs_arguments(self) -> bool {
        matches!(self, Tool | Subject | Verb | WindowsVerb)
    }
}

/// Programs that run another one.
const RUNNERS: &[&str] = &[
    "builtin", "command", "env", "eval", "exec", "nice", "nohup", "setsid", "sudo", "time",
    "xargs", "busybox",
];

/// True if `word` runs the command that follows it.
fn is_runner(word: &[u8]) -> bool {
    RUNNERS.iter().any(|r| word == r.as_bytes())
}

/// Programs by kind.
const PROGRAMS: &[(Kind, &[&str])] = &[
    (
        Strong,
        &[
            "apt-get",
            "bunzip2",
            "busybox",
            "bzip2",
            "chattr",
            "chgrp",
            "chmod",
            "chown",
            "crictl",
            "crontab",
            "csh",
            "dmesg",
            "docker",
            "dropbear",
            "egrep",
            "fgrep",
            "fuser",
            "gawk",
            "getent",
            "gunzip",
            "hexdump",
            "ifconfig",
            "iptables",
            "journalctl",
            "killall",
            "ksh",
            "kubectl",
            "lsb_release",
            "lsblk",
            "lscpu",
            "lsof",
            "mkfifo",
            "mknod",
            "mysqldump",
            "nawk",
            "ncat",
            "netcat",
            "nmap",
            "nohup",
            "nsenter",
            "ping6",
            "pkill",
            "printenv",
            "readlink",
            "setsid",
            "socat",
            "sysctl",
            "systemctl",
            "telnetd",
            "tftp",
            "traceroute",
            "uname",
            "uniq",
            "useradd",
            "userdel",
            "usermod",
            "utelnetd",
            "wget",
            "whereis",
            "xargs",
            "xmrig",
            "xxd",
            "zcat",
            "zsh",
        ],
    ),
    (
        Program,
        &["df", "du", "ls", "nc", "passwd", "ping", "ps", "pwd"],
    ),
    (
        Tool,
        &[
            "cp", "dd", "echo", "expr", "grep", "ln", "mail", "mkdir", "mv", "printf", "rm",
            "rmdir", "tac", "wc",
        ],
    ),
    (
        Subject,
        &[
            "apk", "apt", "awk", "aws", "base32", "base64", "bash", "curl", "dash", "dnf", "ftp",
            "gcc", "gdb", "git", "gzip", "java", "lua", "make", "mysql", "nano", "node", "npm",
            "openssl", "perl", "php", "pip", "psql", "python", "python2", "python3", "rsync",
            "ruby", "scp", "screen", "sed", "sh", "sqlite3", "ssh", "sudo", "tar", "telnet",
            "tmux", "unzip", "vim", "yum", "zip",
        ],
    ),
    (
        Word,
        &[
            "date", "env", "finger", "groups", "hostname", "id", "last", "mount", "reboot",
            "route", "set", "shutdown", "ss", "uptime", "users", "w", "who",
        ],
    ),
    (
        Verb,
        &[
            "alias", "builtin", "cat", "cd", "cmp", "column", "comm", "command", "cut", "diff",
            "dig", "eval", "exec", "export", "false", "file", "find", "fold", "free", "head",
            "host", "ip", "jobs", "join", "kill", "less", "locate", "look", "more", "nice", "nl",
            "od", "paste", "rev", "service", "shuf", "sleep", "sort", "source", "split", "stat",
            "strings", "su", "tail", "tee", "test", "time", "timeout", "top", "touch", "tr",
            "true", "vi", "which",
        ],
    ),
    (
        Windows,
        &[
            "arp",
            "attrib",
            "bcdedit",
            "bitsadmin",
            "cacls",
            "certutil",
            "cmd",
            "cscript",
            "findstr",
            "get-childitem",
            "get-content",
            "get-process",
            "get-service",
            "icacls",
            "iex",
            "ipconfig",
            "lazagne",
            "mimikatz",
            "mshta",
            "msiexec",
            "nbtstat",
            "netsh",
            "netstat",
            "nltest",
            "nslookup",
            "powershell",
            "procdump",
            "psexec",
            "psexec64",
            "pwsh",
            "quser",
            "regsvr32",
            "rubeus",
            "rundll32",
            "schtasks",
            "start-sleep",
            "sysinfo",
            "systeminfo",
            "taskkill",
            "tasklist",
            "tracert",
            "vssadmin",
            "wbadmin",
            "wevtutil",
            "whoami",
            "wmic",
            "wscript",
            "xcopy",
        ],
    ),
    (WindowsWord, &["calc", "dir", "tree", "ver", "vol"]),
    (
        WindowsVerb,
        &[
            "copy", "del", "erase", "expand", "move", "net", "rd", "reg", "sc", "type", "where",
        ],
    ),
];

/// The names in [`PROGRAMS`] by their hash: where each list and each name in it stands, plus one; behind a taken place
/// comes the next one.
const PLACES: [(u8, u8); PLACES_LEN] = {
    let mut places = [(0, 0); PLACES_LEN];
    let mut list = 0;
    while list < PROGRAMS.len() {
        let names = PROGRAMS[list].1;
        let mut index = 0;
        while index < names.len() {
            let mut place = hash_of(names[index].as_bytes());
            while places[place].0 != 0 {
                place = (place + 1) % PLACES_LEN;
            }
            places[place] = (list as u8 + 1, index as u8);
            index += 1;
        }
        list += 1;
    }
    places
};
/// More than four times the names, so that most other words are no name at the first look.
const PLACES_LEN: usize = 2048;

/// Where a name would be looked up, in lower case.
const fn hash_of(name: &[u8]) -> usize {
    let mut hash = name.len() as u32;
    let mut index = 0;
    while index < name.len() {
        hash = (hash ^ name[index] as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    // The upper bits depend on all bytes.
    (hash >> 20) as usize % PLACES_LEN
}

/// What a wildcard word is tried against.
const EXPANSIONS: &[&str] = &[
    "/bin/cat",
    "/bin/ls",
    "/bin/sh",
    "/bin/id",
    "/bin/nc",
    "/bin/bash",
    "/bin/ps",
    "/bin/cp",
    "/bin/rm",
    "/bin/dash",
    "/bin/ping",
    "/bin/echo",
    "/bin/more",
    "/bin/sleep",
    "/bin/uname",
    "/bin/base64",
    "/usr/bin/id",
    "/usr/bin/cat",
    "/usr/bin/nc",
    "/usr/bin/ls",
    "/usr/bin/wget",
    "/usr/bin/curl",
    "/usr/bin/who",
    "/usr/bin/whoami",
    "/usr/bin/python",
    "/usr/bin/python3",
    "/usr/bin/perl",
    "/usr/bin/php",
    "/usr/bin/head",
    "/usr/bin/tail",
    "/usr/bin/base64",
    "/usr/bin/tac",
];

/// The word at a command position, read as a shell reads it.
pub(super) struct Command {
    /// Where the word ends in the value.
    pub(super) end: usize,
    pub(super) kind: Kind,
    /// Written in a way that only hides it: `w\ho"a"mi`, `c^md`, `/b?n/l?`.
    pub(super) hidden: bool,
    /// With its directory: `/usr/bin/id`.
    pub(super) rooted: bool,
    /// It runs another command: `sudo`, `time`.
    pub(super) runs: bool,
    /// A program of nobody's list, named by where it lies: `./xmrig`, `/tmp/x`, `tool.exe`.
    pub(super) own: bool,
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'+' | 0x0b | 0x0c)
}

pub(super) fn skip_space(value: &[u8], mut at: usize) -> usize {
    loop {
        match value.get(at..) {
            Some([b, ..]) if is_space(*b) => at += 1,
            _ => match ifs(value, at) {
                Some(width) => at += width,
                None => return at,
            },
        }
    }
}

/// The length of an expansion that stands for white space: `${IFS}`, `$IFS$9`, `%20`-like leftovers.
pub(super) fn ifs(value: &[u8], at: usize) -> Option<usize> {
    let rest = value.get(at..)?;
    if rest.starts_with(b"${IFS") {
        let window = rest.get(..rest.len().min(24))?;
        return Some(window.iter().position(|&b| b == b'}')? + 1);
    }
    if rest.starts_with(b"$IFS") {
        return Some(
            if rest.get(4) == Some(&b'$') && rest.get(5).is_some_and(u8::is_ascii_digit) {
                6
            } else {
                4
            },
        );
    }
    None
}

/// Reads the word at `from` and looks it up.
pub(super) fn read(value: &[u8], from: usize, limit: usize) -> Option<Command> {
    let mut text = [0u8; 64];
    let mut len = 0usize;
    let mut hidden = false;
    let mut quotes = 0usize;
    let mut wild = false;
    // On Windows a backslash parts directories; elsewhere it quotes the next letter.
    let windows = matches!(
        value.get(from..),
        Some(
            [_, b':', b'\\', ..] | [b'.', b'\\', ..] | [b'.', b'.', b'\\', ..] | [b'\\', b'\\', ..]
        )
    );
    let end_of_word = limit.min(from + WORD);
    let mut at = from;
    while at < end_of_word {
        let byte = *value.get(at)?;
        let next = value.get(at + 1).copied();
        match byte {
            b'\'' | b'"' => {
                // Quotes around a whole word hide nothing; inside one they do.
                let inner = len > 0
                    && next.is_some_and(|n| {
                        n.is_ascii_alphanumeric() || matches!(n, b'\'' | b'"' | b'/')
                    });
                if inner {
                    quotes += 1;
                } else if len > 0 && quotes == 0 {
                    break;
                }
            }
            b'\\'
                if matches!(next, Some(b'n' | b'r'))
                    && !value.get(at + 2).is_some_and(u8::is_ascii_alphanumeric)
                    // `\u\n\a\m\e`: each letter is quoted.
                    && !(hidden && value.get(at + 2) == Some(&b'\\')) =>
            {
                break;
            }
            b'\\' if windows => put(&mut text, &mut len, byte),
            b'\\' if next.is_some_and(|n| n.is_ascii_alphanumeric()) => hidden = true,
            b'\\' if next == Some(b'/') && len > 0 => hidden = true,
            b'^' if next.is_some_and(|n| n.is_ascii_alphanumeric()) => hidden = true,
            b'$' if matches!(next, Some(b'@' | b'*')) => {
                hidden = true;
                at += 1;
            }
            b'$' if matches!(value.get(at + 1..at + 3), Some(b"()")) => {
                hidden = true;
                at += 2;
            }
            b'`' if len > 0 && next == Some(b'`') => {
                hidden = true;
                at += 1;
            }
            // A variable that was never set is nothing: `cat$u`.
            b'$' if len > 0 && next.is_some_and(|n| n.is_ascii_lowercase()) => {
                let rest = value.get(at + 1..end_of_word).unwrap_or(b"");
                at += rest
                    .iter()
                    .take_while(|b| b.is_ascii_alphanumeric())
                    .count();
                hidden = true;
            }
            b'\\' => break,
            b'?' | b'*' if len > 0 => {
                wild = true;
                put(&mut text, &mut len, byte);
            }
            b' ' | b'\t' | b'+' | 0x0b | 0x0c | b'\n' | b'\r' | b';' | b'|' | b'&' | b'<'
            | b'>' | b'(' | b')' | b'`' | b'$' | b',' | b'{' | b'}' | b'#' | 0 => break,
            _ => put(&mut text, &mut len, byte),
        }
        at += 1;
    }
    hidden |= quotes > 0;
    let word = text.get(..len)?;
    if word.is_empty() || len == text.len() {
        return None;
    }
    if wild {
        let matched = word.starts_with(b"/") && EXPANSIONS.iter().any(|e| glob(word, e.as_bytes()));
        return matched.then_some(Command {
            end: at,
            kind: Strong,
            hidden: true,
            rooted: true,
            runs: false,
            own: false,
        });
    }
    let slash = word.iter().rposition(|&b| b == b'/' || b == b'\\');
    let rooted = slash.is_some_and(|s| {
        let directory = word.get(..s).unwrap_or(b"");
        directory.ends_with(b"bin") || directory.ends_with(b"tmp") || ends(directory, b"system32")
    });
    let directory = word.get(..slash.unwrap_or(0)).unwrap_or(b"");
    let here = slash.is_none() || directory == b".";
    // Nearly every path ends here.
    if !here && !rooted && !FOLDERS.contains(&directory) {
        return None;
    }
    let name = word.get(slash.map_or(0, |s| s + 1)..)?;
    let stem = strip_extension(name);
    let known = lookup(stem).filter(|_| here || rooted);
    let own = known.is_none();
    // Nearly every word of ordinary text ends here: it names no program, no folder and no ending.
    if own && (slash.is_none() && stem.len() == name.len() || !is_own(directory, name)) {
        return None;
    }
    Some(Command {
        end: at,
        kind: known.unwrap_or(Strong),
        hidden: hidden && !own,
        rooted: rooted && !own,
        runs: is_runner(stem),
        own,
    })
}

/// Where somebody puts a program to run it.
const FOLDERS: &[&[u8]] = &[b".", b"..", b"/tmp", b"/var/tmp", b"/dev/shm"];

/// Is this where somebody puts a program to run it: the working directory, a folder that everybody
/// may write to, or by an ending that only programs have? `./style.css` in a list of files is not.
fn is_own(directory: &[u8], name: &[u8]) -> bool {
    let (stem, ending) = match name.iter().rposition(|&b| b == b'.') {
        Some(dot) => (name.get(..dot).unwrap_or(b""), name.get(dot + 1..)),
        None => (name, None),
    };
    let plain = stem
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if stem.is_empty() || !plain || !stem.iter().any(u8::is_ascii_alphabetic) {
        return false;
    }
    let windows =
        ending.is_some_and(|e| e.eq_ignore_ascii_case(b"exe") || e.eq_ignore_ascii_case(b"bat"));
    let unix = matches!(
        ending,
        None | Some(b"sh" | b"elf" | b"bin" | b"out" | b"py" | b"pl")
    );
    windows || unix && FOLDERS.contains(&directory)
}

fn put(text: &mut [u8; 64], len: &mut usize, byte: u8) {
    if let Some(slot) = text.get_mut(*len) {
        *slot = byte;
        *len += 1;
    }
}

/// ASCII case-insensitive `ends_with`.
pub(super) fn ends(text: &[u8], tail: &[u8]) -> bool {
    text.len() >= tail.len()
        && text
            .get(text.len() - tail.len()..)
            .is_some_and(|t| t.eq_ignore_ascii_case(tail))
}

fn strip_extension(name: &[u8]) -> &[u8] {
    for extension in [b".exe".as_slice(), b".com", b".bat", b".cmd"] {
        if ends(name, extension) {
            return name.get(..name.len() - extension.len()).unwrap_or(name);
        }
    }
    name
}

pub(super) fn lookup(name: &[u8]) -> Option<Kind> {
    let mut lower = [0u8; 13];
    let target = lower.get_mut(..name.len())?;
    target.copy_from_slice(name);
    target.make_ascii_lowercase();
    let mut place = hash_of(target);
    let kind = loop {
        let (list, index) = PLACES.get(place).copied()?;
        let (kind, names) = PROGRAMS.get(usize::from(list.checked_sub(1)?))?;
        if names.get(usize::from(index))?.as_bytes() == target {
            break *kind;
        }
        place = (place + 1) % PLACES_LEN;
    };
    // A Unix shell tells `Cat` from `cat`.
    (target == name || matches!(kind, Windows | WindowsWord | WindowsVerb)).then_some(kind)
}

/// Does `pattern` (with `?` and `*`) match all of `text`? Both are short; `*` never crosses a `/`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(b'?') if text.get(t) != Some(&b'/') => {
                p += 1;
                t += 1;
            }
            Some(c) if text.get(t) == Some(c) => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((back, from)) if text.get(from) != Some(&b'/') => {
                    retry = Some((back, from + 1));
                    p = back;
                    t = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern
        .get(p..)
        .is_some_and(|rest| rest.iter().all(|&b| b == b'*'))
}
