//! Path detector: where would this value lead if a program opened it as a file?
//!
//! Takes in one decoded value (a parameter, a cookie, the request path). Gives out where the
//! traversal or the forbidden target is, and how sure the detector is.
//!
//! The one idea: *walk* the path as a file system would, instead of looking for `../`. Each run of
//! path characters is split at its separators; a name goes one level down, `..` one level up. With
//! `a/../b` the walk never leaves its directory and nothing is said; with `a/../../b` it does:
//!
//! ```text
//! segment      a    ..   ..          b
//! level        1    0    escapes 1   1
//! ```
//!
//! What is left on the walk's stack at the end is the resolved target, and that is compared with
//! files and directories that no web request has a reason to name: `/static/../etc/passwd` and
//! `/etc/./passwd` both resolve to `etc`, `passwd`. Separators and dots are also recognised in the
//! forms that survive decoding because only some servers undo them: `0x2f`, `..2f`, `U+2215`, `..;/`.
//!
//! Besides walking: stream wrappers (`php://filter`), `file:` URLs, UNC shares, a remote file that
//! is shaped to be included, and a NUL that cuts a file name short.
//!
//! Cost: linear. Every byte is looked at a constant number of times, the stack is a fixed array of
//! the last [`STACK`] names, and nothing is allocated. A prose mention (`how to edit /etc/passwd`)
//! is [`LOW`] at most, and so is one `../` without a target.

#[cfg(test)]
mod tests;

use super::table::Initials;
use super::{Finding, Gate, HIGH, LOW, MEDIUM, Steps, holds_any};
use crate::normalise::{BACKSLASH, CONTROL};

/// What a value must hold for a finding. A value that begins with `../` has it after the `=` or the
/// colon that stands before it in the request.
pub const GATE: Gate = Gate {
    classes: BACKSLASH | CONTROL,
    words: &[
        "=../",
        "=..;",
        ":/..",
        "/...",
        ".%2f",
        ".%5c",
        "%2f.",
        "%5c.",
        "=...",
        "./..",
        "//..",
        "/../",
        "=/..",
        "../.",
        ".../",
        "/..;",
        "..;/",
        "..%/",
        "/./.",
        "0x2e",
        "0x2f",
        "0x5c",
        "x2ex",
        "..2f",
        "..5c",
        "..%2f",
        "..%5c",
        "%2e%2e",
        "%2e.",
        ".%2e",
        ".\u{2215}",
        "\u{2215}.",
        ".\u{2216}",
        "\u{2216}.",
        ".\u{2044}",
        "\u{2044}.",
        ".\u{f025}",
        "\u{f025}.",
        ".\u{efc8}",
        "\u{efc8}.",
        "\u{2024}\u{2024}",
        "\u{2024}/",
        "\u{2024}.",
        ".\u{2024}",
        "=\u{2024}",
        "....",
        "/etc",
        "etc/",
        "proc/",
        "windows/",
        "winnt/",
        "system32",
        "inf/",
        "inf\u{2215}",
        ".ssh/",
        ".git",
        ".svn/",
        ".aws/",
        ".kube/",
        ".docker",
        ".config",
        "/var/",
        "var/",
        "usr/",
        "opt/",
        "/dev/",
        "dev/",
        "sys/",
        "bin/",
        "inetpub",
        "/wind",
        "winnt",
        "/prog",
        ":/php",
        "root/",
        "xampp",
        "wamp",
        "apache/",
        "apache2/",
        "logs/",
        ".ini",
        ".bash",
        "id_rsa",
        "authorized",
        "autoexec",
        ".sys",
        "sysprep",
        ".pgpass",
        ".netrc",
        "etcpasswd",
        ".asa",
        "localstart",
        ".env",
        "wp-config",
        ".conf",
        ".cnf",
        ".yml",
        "npmrc",
        "dockerenv",
        "docker.sock",
        "hosts.",
        "web-inf",
        "php:",
        "phar:",
        "expect:",
        "zip:/",
        "rar:/",
        "glob:",
        "ogg:/",
        "zlib:",
        "bzip2:",
        "ssh2.",
        "data:",
        "file:",
        "netdoc:",
        "jar:",
        "classpath:",
        "local_file:",
        "local-file:",
        "http:/",
        "https:/",
        "ftp:/",
        ".htac",
        ".htpa",
        "web.x",
        "server.xml",
        "context.xml",
        "tomcat-users",
        "run/",
        "secrets/",
        ":/ngin",
        "::$d",
        "configuration.php",
        "settings.php",
        "error.log",
        "access.log",
        "error_log",
        "access_log",
        "sshd_config",
        "secrets.json",
        "secrets.yml",
        "appsettings",
        "config.inc",
    ],
};

/// How many names of a path are remembered; deeper ones push the oldest out.
const STACK: usize = 12;

/// What a resolved target is worth, from nothing to "no request has a reason to name it".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Nothing,
    /// A configuration or log file by its name alone: means little inside a web path.
    Name,
    /// Inside a system directory.
    System,
    /// Known prey.
    Prey,
}

/// Directories of an operating system with what makes a path into them telling: `(directory, next
/// names, worth)`. An empty list stands for any next name.
const PLACES: &[(&str, &[&str], Target)] = &[
    (
        "etc",
        &[
            "passwd",
            "shadow",
            "group",
            "gshadow",
            "sudoers",
            "master.passwd",
            "hosts",
            "issue",
            "fstab",
            "crontab",
            "passwd-",
            "shadow-",
            "security",
            "ssh",
            "hostname",
            "resolv.conf",
            "os-release",
            "motd",
            "mtab",
            "profile",
            "environment",
            "kubernetes",
            "apache2",
            "nginx",
            "httpd",
            "mysql",
            "php",
            "php5",
            "redis",
            "exports",
            "ssl",
            "sysconfig",
        ],
        Target::Prey,
    ),
    ("etc", &[], Target::System),
    (
        "proc",
        &[
            "self",
            "version",
            "cmdline",
            "cpuinfo",
            "meminfo",
            "mounts",
            "net",
            "sched_debug",
            "stat",
            "filesystems",
            "modules",
            "config.gz",
            "devices",
            "partitions",
            "interrupts",
            "ioports",
            "swaps",
            "kcore",
            "sys",
            "thread-self",
            "1",
        ],
        Target::Prey,
    ),
    (
        "windows",
        &[
            "win.ini",
            "system.ini",
            "system32",
            "repair",
            "panther",
            "php.ini",
            "my.ini",
            "explorer.exe",
            "windowsupdate.log",
            "iis6.log",
            "syswow64",
            "notepad.exe",
            "microsoft.net",
        ],
        Target::Prey,
    ),
    (
        "winnt",
        &[
            "win.ini",
            "system32",
            "repair",
            "system",
            "php.ini",
            "my.ini",
            "desktop.ini",
            "profiles",
        ],
        Target::Prey,
    ),
    (
        "system32",
        &["drivers", "config", "cmd.exe", "inetsrv", "logfiles"],
        Target::Prey,
    ),
    ("web-inf", &[], Target::Prey),
    (
        "meta-inf",
        &["context.xml", "maven", "persistence.xml", "spring"],
        Target::System,
    ),
    (
        ".ssh",
        &[
            "id_rsa",
            "id_dsa",
            "id_ecdsa",
            "id_ed25519",
            "authorized_keys",
            "known_hosts",
            "config",
            "identity",
        ],
        Target::Prey,
    ),
    (
        ".git",
        &["config", "head", "index", "logs", "refs", "objects"],
        Target::Name,
    ),
    (".svn", &["entries", "wc.db", "text-base"], Target::Name),
    (".aws", &["credentials", "config"], Target::Prey),
    (".kube", &["config"], Target::Prey),
    (".docker", &["config.json"], Target::Prey),
    (".config", &["gcloud"], Target::Prey),
    ("secrets", &["kubernetes.io"], Target::Prey),
    (
        "var",
        &[
            "log", "adm", "mail", "spool", "run", "lib", "cpanel", "lp", "www", "cache", "backups",
            "crash", "local", "saf", "nis", "webmin", "mysql", "apache", "apache2", "db", "lock",
        ],
        Target::System,
    ),
    (
        "usr",
        &[
            "local", "lib", "lib64", "share", "bin", "sbin", "etc", "spool", "adm", "pkg", "home",
            "include", "src", "ports", "pkgsrc", "apache", "apache2",
        ],
        Target::System,
    ),
    (
        "opt",
        &[
            "lampp", "xampp", "lsws", "tomcat", "apache", "apache2", "nginx", "httpd", "jboss",
            "splunk", "oracle",
        ],
        Target::System,
    ),
    (
        "dev",
        &[
            "tcp", "udp", "null", "random", "urandom", "zero", "fd", "stdin", "shm", "mem", "sda",
            "sda1", "tty",
        ],
        Target::System,
    ),
    (
        "sys",
        &["class", "kernel", "devices", "firmware", "module", "fs"],
        Target::System,
    ),
    (
        "boot",
        &["grub", "grub2", "config", "system.map", "vmlinuz", "efi"],
        Target::System,
    ),
    (
        "bin",
        &["sh", "bash", "cat", "ls", "id", "nc", "ps", "busybox"],
        Target::System,
    ),
    (
        "root",
        &[
            ".profile",
            ".ssh",
            ".bashrc",
            ".viminfo",
            ".aws",
            ".kube",
            "anaconda-ks.cfg",
        ],
        Target::System,
    ),
    ("inetpub", &[], Target::System),
    ("xampp", &[], Target::System),
    ("wamp", &[], Target::System),
    ("apache", &["conf", "logs"], Target::System),
    ("apache2", &["conf", "logs"], Target::System),
    (
        "logs",
        &["access.log", "error.log", "access_log", "error_log"],
        Target::System,
    ),
];

/// Those of them that count only at the top of the walk, whatever lies in them.
const ROOTS: &[&str] = &["etc", "proc", "windows", "winnt"];

/// Below what such a top also lies: other layouts, mounted systems, jails.
const PARENTS: &[&str] = &[
    "usr", "private", "var", "opt", "mnt", "media", "host", "hostfs", "rootfs", "chroot", "jail",
    "srv", "home", "volumes", "proc", "system", "c$", "d$",
];

/// What lies at the top of a server's drive.
const DRIVE: &[&str] = &[
    "windows",
    "winnt",
    "inetpub",
    "program",
    "progra~1",
    "programdata",
    "xampp",
    "wamp",
    "wamp64",
    "apache",
    "nginx",
    "php",
    "tomcat",
    "mysql",
];

/// File names that are prey wherever they lie.
const PREY: &[&str] = &[
    ".dockerenv",
    "boot.ini",
    "win.ini",
    ".htpasswd",
    ".bash_history",
    ".bashrc",
    ".mysql_history",
    ".zsh_history",
    "ntuser.dat",
    "id_rsa",
    "authorized_keys",
    "tomcat-users.xml",
    "applicationhost.config",
    "machine.config",
    "autoexec.bat",
    "config.sys",
    "unattend.xml",
    "sysprep.inf",
    ".pgpass",
    ".netrc",
    ".psql_history",
    ".bash_profile",
    "pagefile.sys",
    "hiberfil.sys",
    ".python_history",
    "etcpasswd",
    "global.asa",
    "localstart.asp",
];

/// Those of them that lie at the top of a drive or in a system's directory: alone they are a subject.
const SYSTEM_FILES: &[&str] = &[
    "boot.ini",
    "win.ini",
    "autoexec.bat",
    "config.sys",
    "pagefile.sys",
    "hiberfil.sys",
];

/// File names that a program keeps to itself; inside a web path they say little.
const NAMES: &[&str] = &[
    ".htaccess",
    ".env",
    "web.config",
    "wp-config.php",
    "php.ini",
    "httpd.conf",
    "my.cnf",
    "my.ini",
    "access.log",
    "error.log",
    "access_log",
    "error_log",
    "web.xml",
    "nginx.conf",
    "apache2.conf",
    "apache.conf",
    "system.ini",
    "desktop.ini",
    "configuration.php",
    "localsettings.php",
    "settings.php",
    "database.yml",
    "secrets.yml",
    "secrets.json",
    "appsettings.json",
    ".npmrc",
    ".my.cnf",
    ".git-credentials",
    ".gitconfig",
    ".dockerenv",
    "docker.sock",
    "server.xml",
    "context.xml",
    "config.inc.php",
    "sshd_config",
    "proftpd.conf",
    "vsftpd.conf",
    "hosts.allow",
    "hosts.deny",
    "smb.conf",
];

const PLACE_INITIALS: Initials = {
    let mut initials = Initials::of(&[]);
    let mut index = 0;
    while index < PLACES.len() {
        initials = initials.and_word(PLACES[index].0);
        index += 1;
    }
    initials
};

const FILE_INITIALS: Initials = Initials::of(PREY).and(NAMES);

/// Whether what was found in a value is where programs live, which people write about: there is nothing to read there.
pub fn is_said(value: &[u8], steps: &Steps) -> bool {
    const PLACES: &[&str] = &[
        "/usr/local",
        "/usr/bin",
        "/opt/",
        ":\\windows",
        ":\\program",
    ];
    const TELLS: &[&str] = &[
        "..", "etc", "passwd", "log", "conf", ".ini", "proc", "://", ".ssh", "var", "system32",
        "\0", "%", "?", ".php", ".htm", ".xml", "boot", "httpd", "apache", "lib", "env", "<",
    ];
    holds_any(value, PLACES, steps) && !holds_any(value, TELLS, steps)
}

/// Stream wrappers of PHP and Java that open something else than a plain file.
const WRAPPERS: &[(&str, u8)] = &[
    ("php://", HIGH),
    ("phar:", HIGH),
    ("expect://", HIGH),
    ("zip://", MEDIUM),
    ("rar://", MEDIUM),
    ("glob://", HIGH),
    ("ogg://", HIGH),
    ("zlib:", HIGH),
    ("compress.zlib:", HIGH),
    ("compress.bzip2:", HIGH),
    ("ssh2.", MEDIUM),
    ("data://", HIGH),
    ("file:", MEDIUM),
    ("netdoc:", HIGH),
    ("jar:", MEDIUM),
    ("classpath:", MEDIUM),
    ("local_file:", HIGH),
    ("local-file:", HIGH),
];

const INCLUSION_INITIALS: Initials = {
    let mut initials = Initials::of(&["data:", "http://", "https://", "ftp://"]);
    let mut index = 0;
    while index < WRAPPERS.len() {
        initials = initials.and_word(WRAPPERS[index].0);
        index += 1;
    }
    initials
};

/// Says whether `value`, opened as a file, would leave its directory or reach a file that is none
/// of the requester's business. Linear in the value, no allocation, total on any bytes.
#[inline(never)]
pub fn traversal(value: &[u8]) -> Option<Finding> {
    let mut best = None;
    let mut from = 0;
    let mut previous_word = false;
    while from < value.len() {
        if let Some(end) = plain_word(value, from) {
            previous_word = value.get(end) == Some(&b' ') && end > from;
            from = end + 1;
            continue;
        }
        let path = walk(value, from);
        keep(&mut best, path.judge(value, previous_word));
        if best.is_some_and(|f| f.confidence >= HIGH) {
            return best;
        }
        // A path that follows a word and a space is talked about, not handed over.
        previous_word = value.get(path.end) == Some(&b' ') && path.end > from;
        from = path.end + 1;
    }
    keep(&mut best, unc(value));
    keep(&mut best, stream(value));
    keep(&mut best, inclusion(value));
    keep(&mut best, filler(value));
    best
}

/// Keeps the surer of two findings.
fn keep(best: &mut Option<Finding>, new: Option<Finding>) {
    if let Some(new) = new
        && best.is_none_or(|b| new.confidence > b.confidence)
    {
        *best = Some(new);
    }
}

/// One walked path.
struct Path {
    start: usize,
    end: usize,
    names: [(usize, usize); STACK],
    depth: usize,
    absolute: bool,
    /// Made absolute by a URL's host.
    host: bool,
    drive: bool,
    /// `..` that led above where the path began.
    escapes: usize,
    ups: usize,
    /// `...` and longer: what a filter that removes `../` once turns into `..`.
    many: usize,
    /// Names that end in `..`: `static../` walks out of a careless alias.
    tails: usize,
    /// The longest run of `./`.
    still: usize,
    /// Dots run into a name, as when a filter took the separators out: `/......name`.
    glued: bool,
    /// A separator or dot in a spelling that only some servers undo.
    odd: bool,
    /// A backslash next to dots.
    back: bool,
    first_up: usize,
    last_up: usize,
}

/// What one segment does to the walk.
enum Step {
    Stay,
    Up,
    Many,
    Tail,
    Down,
}

/// The length of the separator at `at`, and whether its spelling is odd. Next to `dots` before it
/// some more spellings count: the bare `2f` of a value whose percent signs got lost, and characters
/// that look like a slash.
fn separator(value: &[u8], at: usize, dots: usize) -> Option<(usize, bool)> {
    let rest = value.get(at..)?;
    match rest {
        [b'/' | b'\\', ..] => Some((1, false)),
        [b'0', b'x' | b'X', b'2', b'f' | b'F', ..] | [b'0', b'x' | b'X', b'5', b'c' | b'C', ..] => {
            Some((4, true))
        }
        [b'%', b'2', b'f' | b'F', next @ ..] | [b'%', b'5', b'c' | b'C', next @ ..]
            if dots > 0 || matches!(next, [b'.', ..] | [b'%', b'2', b'e' | b'E', ..]) =>
        {
            Some((3, true))
        }
        [b'2', b'f' | b'F', ..] | [b'5', b'c' | b'C', ..] if dots >= 2 => Some((2, true)),
        // Division slash, set minus, and the private-use characters that one server folded to `/`.
        [0xe2, 0x88, 0x95 | 0x96, next @ ..]
        | [0xe2, 0x81, 0x84, next @ ..]
        | [0xef, 0x80, 0xa5, next @ ..]
        | [0xee, 0xbf, 0x88, next @ ..]
            if dots > 0 || next.first() == Some(&b'.') =>
        {
            Some((3, true))
        }
        _ => None,
    }
}

/// The length of the dot at `at`, and whether its spelling is odd.
fn dot(value: &[u8], at: usize, after_odd: bool) -> Option<(usize, bool)> {
    match value.get(at..)? {
        [b'.', ..] => Some((1, false)),
        [b'0', b'x' | b'X', b'2', b'e' | b'E', ..] => Some((4, true)),
        // The same with its leading zero lost on the way: `0x2ex2e`.
        [b'x' | b'X', b'2', b'e' | b'E', ..] if after_odd => Some((3, true)),
        [b'%', b'2', b'e' | b'E', ..] => Some((3, true)),
        [0xe2, 0x80, 0xa4, ..] => Some((3, true)),
        _ => None,
    }
}

/// True for a byte that cannot be part of a path as it is pasted somewhere.
fn boundary(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t'
            | b'\r'
            | b'\n'
            | 0
            | b'"'
            | b'\''
            | b'`'
            | b'<'
            | b'>'
            | b'|'
            | b'('
            | b')'
            | b','
            | b'&'
            | b';'
            | b'='
            | b'?'
            | b'#'
            | b'^'
            | b'*'
            | b'['
            | b']'
    )
}

/// Bytes that can only be part of a name.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        table[byte] = (letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'_')
            && !matches!(letter, b'0' | b'2' | b'5' | b'x' | b'X');
        byte += 1;
    }
    table
};

/// The end of the word at `from` if no walk of it could find anything: letters and single dots up to
/// a boundary, and not the name of a file to look for. Most of a header is such words.
fn plain_word(value: &[u8], from: usize) -> Option<usize> {
    let word = value.get(from..)?;
    let mut last = b'.';
    let len = word
        .iter()
        .take_while(|&&byte| {
            let plain = PLAIN[usize::from(byte)]
                || matches!(byte, b'0' | b'2' | b'5')
                || byte == b'.' && last != b'.';
            last = byte;
            plain
        })
        .count();
    let ends = word.get(len).is_none_or(|&b| b != 0 && boundary(b));
    (ends && !FILE_INITIALS.may_begin(word)).then_some(from + len)
}

/// Walks the path that starts at `start`, up to the next boundary or the end.
fn walk(value: &[u8], start: usize) -> Path {
    let mut path = Path {
        start,
        end: start,
        names: [(0, 0); STACK],
        depth: 0,
        absolute: false,
        host: false,
        drive: false,
        escapes: 0,
        ups: 0,
        many: 0,
        tails: 0,
        still: 0,
        glued: false,
        odd: false,
        back: false,
        first_up: usize::MAX,
        last_up: start,
    };
    let mut still = 0;
    let mut host = false;
    let mut at = start;
    loop {
        // One segment: its dots in front, then the rest.
        let segment = at;
        let mut dots = 0usize;
        let mut odd_dots = false;
        while let Some((width, odd)) = dot(value, at, odd_dots) {
            dots += 1;
            odd_dots |= odd;
            at += width;
        }
        let dots_end = at;
        let mut rest = 0usize;
        let mut tail_dots = 0usize;
        let mut separated = None;
        while let Some(&byte) = value.get(at) {
            if PLAIN[usize::from(byte)] {
                tail_dots = 0;
                rest += 1;
                at += 1;
                continue;
            }
            separated = separator(value, at, if rest == 0 { dots } else { tail_dots });
            if separated.is_some() {
                break;
            }
            // `..;/` and `..;a=b/` are one segment to a server that knows path parameters.
            if boundary(byte) && !(dots == 2 && (byte == b';' || rest > 0 && byte == b'=')) {
                break;
            }
            tail_dots = if byte == b'.' { tail_dots + 1 } else { 0 };
            rest += 1;
            at += 1;
        }
        // Not in the middle of a text, where `;` and `%` are punctuation.
        let placed = separated.is_some() && (start == 0 || segment > start);
        let parameter = placed && dots == 2 && value.get(dots_end) == Some(&b';');
        let junk = placed && dots == 2 && rest == 1 && value.get(dots_end) == Some(&b'%');
        let step = match (dots, rest) {
            (0, 0) | (1, 0) => Step::Stay,
            (2, 0) => Step::Up,
            (2, _) if parameter || junk => Step::Up,
            (_, 0) => Step::Many,
            _ if tail_dots >= 2 && separated.is_some() => Step::Tail,
            _ => Step::Down,
        };
        let odd_separator = separated.is_some_and(|(_, odd)| odd);
        let mut moved = true;
        match step {
            Step::Stay => {
                if dots == 1 {
                    still += 1;
                    path.still = path.still.max(still);
                }
                moved = false;
                if at == start && separated.is_some() {
                    path.absolute = true;
                }
            }
            Step::Up => {
                // A bare `..` with nothing around it is an ellipsis.
                if separated.is_none() && segment == start && !odd_dots {
                    moved = false;
                } else {
                    path.ups += 1;
                    if path.depth > 0 {
                        path.depth -= 1;
                    } else {
                        path.escapes += 1;
                    }
                }
            }
            Step::Many => {
                if separated.is_none() && segment == start {
                    moved = false;
                } else {
                    path.many += 1;
                }
            }
            Step::Tail => {
                path.tails += 1;
                path.push(segment, at);
            }
            Step::Down => {
                moved = false;
                still = 0;
                path.glued |= odd_dots && dots >= 2 || dots >= 6 && path.absolute && start == 0;
                let ends_scheme =
                    at > segment && value.get(at - 1) == Some(&b':') && separated.is_some();
                if ends_scheme
                    && at - segment == 2
                    && value.get(segment).is_some_and(u8::is_ascii_alphabetic)
                    && value.get(at..at + 2) != Some(b"//")
                {
                    path.drive = true;
                    path.depth = 0;
                } else if ends_scheme && value.get(at..at + 2) == Some(b"//") {
                    host = value.get(at + 2) != Some(&b'/');
                    path.absolute = !host;
                    path.depth = 0;
                } else if host {
                    host = false;
                    path.absolute = true;
                    path.host = true;
                } else if ends_scheme {
                    path.absolute = true;
                } else {
                    path.push(segment, at);
                }
            }
        }
        if moved {
            path.first_up = path.first_up.min(segment);
            path.odd |= odd_dots || odd_separator || parameter || junk;
            path.back |= value.get(at) == Some(&b'\\');
            path.last_up = at;
        }
        match separated {
            Some((width, _)) => at += width,
            None => break,
        }
    }
    path.end = at;
    path
}

impl Path {
    fn push(&mut self, from: usize, to: usize) {
        if self.depth >= STACK {
            self.names.rotate_left(1);
            self.depth = STACK - 1;
        }
        if let Some(slot) = self.names.get_mut(self.depth) {
            *slot = (from, to);
        }
        self.depth += 1;
    }

    /// Compares what the walk resolved to with the tables.
    fn target(&self, value: &[u8]) -> Target {
        let mut worth = Target::Nothing;
        let names = self.names.get(..self.depth).unwrap_or(&[]);
        let text = |&(from, to): &(usize, usize)| value.get(from..to).unwrap_or(b"");
        for (index, name) in names.iter().enumerate() {
            let name = text(name);
            let next = names.get(index + 1).map(text);
            // A system directory counts at the top of the walk: `/etc/x`, `../../etc/x`, not `blog/etc/x`.
            let top = index == 0
                && (self.absolute || self.drive || self.escapes + self.many + self.tails > 0)
                || index == 1 && self.tails > 0;
            if index == 0
                && self.drive
                && worth < Target::System
                && DRIVE
                    .iter()
                    .any(|d| name.eq_ignore_ascii_case(d.as_bytes()))
            {
                worth = Target::System;
            }
            let places = if PLACE_INITIALS.may_begin(name) {
                PLACES
            } else {
                &[]
            };
            for (place, inside, value) in places {
                if *value <= worth || !name.eq_ignore_ascii_case(place.as_bytes()) {
                    continue;
                }
                let Some(next) = next else { continue };
                let hit = if inside.is_empty() {
                    !next.is_empty()
                } else {
                    inside
                        .iter()
                        .any(|i| stem(next).eq_ignore_ascii_case(i.as_bytes()))
                };
                // `/wiki/etc/passwd` is a page about it, as far as the path tells.
                let deep = index > 0
                    && self.absolute
                    && !top
                    && ROOTS.contains(place)
                    && !names.first().is_some_and(|first| {
                        PARENTS
                            .iter()
                            .any(|parent| text(first).eq_ignore_ascii_case(parent.as_bytes()))
                    });
                if hit && !deep && (*value != Target::System || top) {
                    worth = *value;
                }
            }
            if worth < Target::System
                && top
                && name.eq_ignore_ascii_case(b"var")
                && names.last().is_some_and(|n| {
                    [b".log".as_slice(), b".err", b".pid"].contains(
                        &text(n)
                            .get(text(n).len().saturating_sub(4)..)
                            .unwrap_or(b""),
                    )
                })
            {
                worth = Target::System;
            }
            if worth < Target::Prey
                && name.eq_ignore_ascii_case(b"proc")
                && next.is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit))
                && top
            {
                worth = Target::Prey;
            }
            if index + 1 == names.len() && worth < Target::Prey {
                let name = stem(past_dots(name));
                if !FILE_INITIALS.may_begin(name) {
                    continue;
                }
                if PREY.iter().any(|p| name.eq_ignore_ascii_case(p.as_bytes())) {
                    worth = Target::Prey;
                } else if worth < Target::Name
                    && NAMES
                        .iter()
                        .any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
                {
                    worth = Target::Name;
                }
            }
        }
        worth
    }

    /// Does the path end in a file that pages are made of?
    fn asset(&self, value: &[u8]) -> bool {
        let path = value.get(self.start..self.end).unwrap_or(b"");
        let tail = path.get(path.len().saturating_sub(8)..).unwrap_or(path);
        let extension = tail
            .iter()
            .rposition(|&b| b == b'.')
            .and_then(|dot| tail.get(dot + 1..))
            .unwrap_or(b"");
        [
            "css", "js", "mjs", "map", "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "woff",
            "woff2", "ttf", "mp4", "html", "htm", "md",
        ]
        .iter()
        .any(|e| extension.eq_ignore_ascii_case(e.as_bytes()))
            && value.get(self.end) != Some(&0)
    }

    /// True if the path's last part has an extension: `page.php`.
    fn names_a_file(&self, value: &[u8]) -> bool {
        let name = value.get(self.start..self.end).unwrap_or(b"");
        let name = name.get(name.len().saturating_sub(24)..).unwrap_or(name);
        name.iter()
            .rposition(|&b| b == b'.')
            .is_some_and(|dot| dot + 1 < name.len())
    }

    /// Whether the whole value is the name of a file that lies in a system's directory.
    fn is_system_file(&self, value: &[u8]) -> bool {
        SYSTEM_FILES
            .iter()
            .any(|file| value.eq_ignore_ascii_case(file.as_bytes()))
    }

    fn moved(&self) -> bool {
        self.absolute
            || self.drive
            || self.glued
            || self.ups + self.many + self.tails + self.still > 0
    }

    /// Weighs the walk and its target.
    fn judge(&self, value: &[u8], talked_about: bool) -> Option<Finding> {
        // A plain word is not a path.
        if self.depth <= 1 && !self.moved() && !self.names_a_file(value) {
            return None;
        }
        let target = self.target(value);
        // A name that ends in dots is a trick only on the way to something.
        let tails = if target == Target::Nothing {
            0
        } else {
            self.tails
        };
        let moves = self.escapes + self.many + tails;
        let cut = value.get(self.end) == Some(&0);
        let walked = match () {
            _ if self.escapes >= 1 && (self.odd || cut) => HIGH,
            // Pages do refer to their pictures two or three levels up.
            _ if self.asset(value) && moves == self.escapes && !self.back && moves <= 3 => {
                if moves >= 3 {
                    MEDIUM
                } else if moves >= 1 && self.start == 0 {
                    LOW
                } else {
                    0
                }
            }
            _ if self.escapes >= 3 || moves >= 3 && self.ups >= 1 => HIGH,
            _ if self.escapes >= 2 || moves >= 2 || self.still >= 5 || self.glued => MEDIUM,
            // Above the root there is nothing: no page says `/../x`, but a URL may after its host.
            _ if self.escapes >= 1 && self.absolute && !self.host && self.start == 0 => MEDIUM,
            _ if moves >= 1 && (self.odd || self.back || cut) => MEDIUM,
            _ if moves >= 1 && !self.host && (self.start == 0 || self.many > 0) => LOW,
            _ => 0,
        };
        let tricked = self.ups > 0 || moves > 0 || self.still >= 1 || self.odd || cut;
        let path = value.get(self.start..self.end).unwrap_or(b"");
        let windows = self.drive && path.get(2) == Some(&b'\\');
        // `/usr/bin is a directory`.
        let in_prose = matches!(
            value.get(self.end..),
            Some([b' ', b'a'..=b'z', b'a'..=b'z', ..])
        );
        let found = match target {
            Target::Prey if tricked => HIGH,
            Target::Prey if talked_about || in_prose => LOW,
            Target::Prey if self.absolute || self.drive => HIGH,
            Target::Prey if self.depth == 1 && self.is_system_file(value) => LOW,
            Target::Prey => MEDIUM,
            Target::System if tricked => HIGH,
            Target::System if talked_about || self.asset(value) || path.ends_with(b"/") => 0,
            Target::System if in_prose => LOW,
            Target::System => MEDIUM,
            Target::Name if moves > 0 || cut => HIGH,
            Target::Name if self.start > 0 || in_prose => 0,
            Target::Name if self.drive || path.contains(&b'\\') => MEDIUM,
            Target::Name if self.absolute || self.depth > 2 => LOW,
            Target::Name => MEDIUM,
            Target::Nothing if cut && self.depth > 0 && self.names_a_file(value) => MEDIUM,
            Target::Nothing if windows && self.start == 0 && self.depth > 0 => LOW,
            Target::Nothing => 0,
        };
        let confidence = walked.max(found);
        if confidence == 0 {
            return None;
        }
        let start = if self.first_up < self.end {
            self.first_up
        } else {
            self.start
        };
        let end = if found > 0 {
            self.end
        } else {
            self.last_up.max(start)
        };
        Some(Finding {
            confidence,
            start,
            end,
        })
    }
}

/// The name without the dots in front of it, as when a filter took the separators out: `......etcpasswd`.
fn past_dots(name: &[u8]) -> &[u8] {
    let dots = name.iter().take_while(|b| **b == b'.').count();
    if dots < 2 {
        return name;
    }
    name.get(dots..).unwrap_or(name)
}

/// A name of one letter over and over, and dots behind it: what is too long for a path is cut off, and with it the ending
/// that a script appends.
fn filler(value: &[u8]) -> Option<Finding> {
    let start = usize::from(value.first() == Some(&b'/'));
    let name = value.get(start..)?;
    let letter = name.first().filter(|b| b.is_ascii_alphanumeric())?;
    // Nearly every value ends here.
    if name.get(1) != Some(letter) || value.len() < FILLER {
        return None;
    }
    let run = name.iter().take_while(|b| *b == letter).count();
    let rest = name.get(run..)?;
    let dots = rest.starts_with(b"/../") || rest.starts_with(b"....");
    (run >= FILLER && dots).then_some(Finding {
        confidence: MEDIUM,
        start,
        end: start + run,
    })
}

/// So many letters that are all the same are there to be too many.
const FILLER: usize = 64;

/// The name without what an attacker hangs behind it: `passwd%00`, `passwd{`.
fn stem(name: &[u8]) -> &[u8] {
    let end = name
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')))
        .unwrap_or(name.len());
    name.get(..end).unwrap_or(name)
}

/// `\\host\share`.
fn unc(value: &[u8]) -> Option<Finding> {
    let rest = value.strip_prefix(b"\\\\")?;
    let host = rest.iter().position(|&b| b == b'\\')?;
    let name = rest.get(..host)?;
    let share = rest.get(host + 1..)?;
    let share = share.get(
        ..share
            .iter()
            .position(|&b| b == b'\\')
            .unwrap_or(share.len()),
    )?;
    let plain = |b: &u8| {
        b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'.' | b'-' | b'_' | b':' | b'$' | b'@' | b'?' | b'[' | b']'
            )
    };
    if name.len() < 2
        || share.is_empty()
        || name.iter().all(|&b| b == b'.')
        || !name.iter().all(plain)
        || !share.iter().all(plain)
    {
        return None;
    }
    // A share of one's own is named without a domain or a file; what waits for a password is elsewhere.
    let is_elsewhere = name.iter().any(|b| b".:@[".contains(b));
    let is_file = rest.len() > host + 1 + share.len();
    let confidence = match share.ends_with(b"$") {
        true => HIGH,
        false if is_elsewhere || is_file => MEDIUM,
        false => LOW,
    };
    Some(Finding {
        confidence,
        start: 0,
        end: value.len(),
    })
}

/// `index.asp::$DATA`: the file's bytes by the name of their stream.
fn stream(value: &[u8]) -> Option<Finding> {
    let at = memchr::memmem::find(value, b"::$")?;
    let name = value.get(at + 3..)?;
    (starts(name, "data") || starts(name, "index_allocation")).then_some(Finding {
        confidence: HIGH,
        start: at,
        end: at + 7,
    })
}

/// Stream wrappers, and a remote file shaped to be included.
fn inclusion(value: &[u8]) -> Option<Finding> {
    let whole = |confidence| {
        Some(Finding {
            confidence,
            start: 0,
            end: value.len(),
        })
    };
    if !INCLUSION_INITIALS.may_begin(value) {
        return None;
    }
    for (wrapper, confidence) in WRAPPERS {
        if starts(value, wrapper) {
            return whole(*confidence);
        }
    }
    if starts(value, "data:") {
        let head = value.get(..value.len().min(64)).unwrap_or(value);
        let comma = head.iter().position(|&b| b == b',').unwrap_or(head.len());
        let kind = head.get(5..comma).unwrap_or(b"");
        let text = starts(kind, "text/plain")
            || starts(kind, "text/html")
            || starts(kind, "application/x-httpd-php")
            || kind.is_empty()
            || kind.first() == Some(&b';');
        let content = head.get(comma + 1..).unwrap_or(b"");
        // `PD9` is Base64 for `<?`.
        let code =
            starts(content, "<?") || content.starts_with(b"PD9") || content.starts_with(b"PD8");
        return match (code, text && comma < head.len()) {
            (true, _) => whole(HIGH),
            (false, true) => whole(MEDIUM),
            (false, false) => None,
        };
    }
    let scheme = ["http://", "https://", "ftp://", "ftps://"]
        .into_iter()
        .find(|s| starts(value, s))?;
    let rest = value.get(scheme.len()..)?;
    let cut = rest
        .iter()
        .position(|&b| b == b'?' || b == 0 || b == b'#')
        .unwrap_or(rest.len());
    let path = rest.get(..cut)?;
    let slash = path.iter().rposition(|&b| b == b'/')?;
    let file = path.get(slash + 1..)?;
    let extension = file
        .iter()
        .rposition(|&b| b == b'.')
        .and_then(|dot| file.get(dot + 1..))?;
    let is = |list: &[&str]| {
        list.iter()
            .any(|e| extension.eq_ignore_ascii_case(e.as_bytes()))
    };
    let text = is(&["txt", "dat", "inc", "log", "tmp"]);
    let code = is(&[
        "php", "phtml", "php3", "php4", "php5", "asp", "jsp", "cgi", "gif", "jpg", "png",
    ]);
    if !(text || code) {
        return None;
    }
    // Whatever the including script appends becomes a query string: the lone `?` is there for that.
    let swallows = match rest.get(cut..)? {
        [0, ..] => return whole(HIGH),
        [b'?'] | [b'?', b'?', ..] | [b'#'] => true,
        _ => false,
    };
    let shell = [
        "shell", "c99", "r57", "cmd", "backdoor", "evil", "rfi", "b374k", "webshell", "id",
    ]
    .iter()
    .any(|s| {
        file.len() > extension.len()
            && file
                .get(..file.len() - extension.len() - 1)
                .is_some_and(|n| n.eq_ignore_ascii_case(s.as_bytes()))
    });
    match (text, swallows, shell) {
        (true, true, _) | (_, true, true) => whole(MEDIUM),
        (true, _, true) => whole(MEDIUM),
        (_, true, _) => whole(LOW),
        _ => None,
    }
}

/// ASCII case-insensitive `starts_with`.
fn starts(value: &[u8], prefix: &str) -> bool {
    value
        .get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
}
