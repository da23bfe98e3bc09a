//! URL detector: would following this value send the server where it should not go?
//!
//! Takes in one decoded value. Gives out the part that points at the server itself, at a cloud's
//! metadata service, into a private network, through a scheme that only smuggles, or at a host that
//! exists to be called back by an attack.
//!
//! The one idea: read the *authority* the way a lenient client does, and judge the address it ends
//! up at instead of its spelling. All of these are one host, and the odd spellings are the surer
//! sign, because nobody writes them by habit:
//!
//! ```text
//! http://127.0.0.1/   http://2130706433/   http://0x7f.1/   http://0177.0.0.1/
//! http://[::ffff:7f00:1]/   http://①②⑦.⓪.⓪.①/   http://a@127.1/   http://127.0.0.1.nip.io/
//! ```
//!
//! Where a URL may start: anywhere a `scheme:/` stands, at `//` in front of the value, and at the
//! value's first byte for a host without a scheme. Names that only attacks use (call-back services,
//! metadata hosts) are found anywhere in the value.
//!
//! A plain private or loop-back address is [`LOW`] where developers use one (a redirect to
//! `http://localhost:3000`), a public host is nothing. No name is resolved: a public name that
//! points inside is out of reach here, except the well-known wild-card ones.
//!
//! Cost: linear; each URL's authority is read once, at most [`HOST`] bytes of it are kept on the
//! stack, nothing is allocated.

#[cfg(test)]
mod tests;

use super::table::Initials;
use super::{Finding, Gate, HIGH, LOW, MEDIUM};
use crate::normalise::{BACKSLASH, BRACKET, HIGH as HIGH_BYTES};
use core::net::{Ipv4Addr, Ipv6Addr};

/// What a value must hold for a finding. A host without a scheme is looked for at the front of a
/// value and after `=`, so the words begin with it.
pub const GATE: Gate = Gate {
    classes: BACKSLASH | BRACKET | HIGH_BYTES,
    words: &[
        "http:",
        "https:",
        "ftp:/",
        "ws:/",
        "wss:/",
        "url:/",
        "goph",
        "dict:",
        "netdoc:",
        "file:",
        "tftp",
        "ldap",
        "jar:",
        "rmi:",
        "iiop",
        "corba",
        "dns:",
        "sftp",
        "imap",
        "smtp",
        "pop3",
        "telnet",
        "redis",
        "memcached",
        "mysql:",
        "postgres:",
        "mongodb:",
        "smb:",
        "nfs:",
        "tcp:",
        "udp:",
        "unix:",
        "phar:",
        "php:",
        "expect:",
        "localhost",
        "127.",
        "169.254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129",
        ".internal",
        "metadata",
        "meta-data",
        "user-data",
        "instance",
        "/latest/",
        "/opc/v",
        "rancher-",
        "kubernetes",
        "localtest",
        "localdomain",
        "burpcollab",
        "oast",
        "interact",
        "canarytokens",
        "dnslog",
        "ceye.io",
        "tu4.org",
        "zhack",
        "bxss",
        "xss.ht",
        "ezxss",
        "r87.",
        "requestbin",
        "requestcatcher",
        "webhook.",
        "hookbin",
        "beeceptor",
        "pingb.in",
        "rbndr",
        "1u.ms",
        "rebind",
        "eyes.sh",
        "bugscaner",
        "huntress",
        "ngrok",
        "vulnweb",
        "act1on3",
        "=//0",
        "=//1",
        "=//2",
        "=//3",
        "=//4",
        "=//5",
        "=//6",
        "=//7",
        "=//8",
        "=//9",
        "0.0.",
        ".0.0",
        "0.00",
        "192.168.",
    ],
};

/// Longest host that is read as an address, in bytes after undoing odd letters.
const HOST: usize = 96;

/// Schemes that a server-side fetch has no reason to follow on a visitor's word.
const SCHEMES: &[(&str, u8)] = &[
    ("gopher", HIGH),
    ("gophers", HIGH),
    ("dict", HIGH),
    ("netdoc", HIGH),
    ("file", MEDIUM),
    ("tftp", HIGH),
    ("ldap", MEDIUM),
    ("ldaps", MEDIUM),
    ("ldapi", HIGH),
    ("jar", MEDIUM),
    ("rmi", MEDIUM),
    ("iiop", MEDIUM),
    ("corba", MEDIUM),
    ("dns", MEDIUM),
    ("sftp", MEDIUM),
    ("imap", MEDIUM),
    ("imaps", MEDIUM),
    ("smtp", MEDIUM),
    ("smtps", MEDIUM),
    ("pop3", MEDIUM),
    ("telnet", MEDIUM),
    ("redis", MEDIUM),
    ("memcached", HIGH),
    ("mysql", MEDIUM),
    ("postgres", MEDIUM),
    ("mongodb", MEDIUM),
    ("smb", MEDIUM),
    ("nfs", MEDIUM),
    ("tcp", MEDIUM),
    ("udp", MEDIUM),
    ("unix", MEDIUM),
    ("phar", HIGH),
    ("php", HIGH),
    ("expect", HIGH),
];

const SCHEME_INITIALS: Initials = {
    let mut initials = Initials::of(&[]);
    let mut index = 0;
    while index < SCHEMES.len() {
        initials = initials.and_word(SCHEMES[index].0);
        index += 1;
    }
    initials
};

/// Hosts (or their parent domains) that exist to record that something called them.
const CANARIES: &[(&str, u8)] = &[
    ("burpcollaborator.net", HIGH),
    ("oastify.com", HIGH),
    ("interact.sh", HIGH),
    ("interactsh.com", HIGH),
    ("oast.pro", HIGH),
    ("oast.live", HIGH),
    ("oast.site", HIGH),
    ("oast.online", HIGH),
    ("oast.fun", HIGH),
    ("oast.me", HIGH),
    ("canarytokens.com", MEDIUM),
    ("canarytokens.org", MEDIUM),
    ("dnslog.cn", HIGH),
    ("dnslog.link", HIGH),
    ("dnslog.pw", HIGH),
    ("ceye.io", HIGH),
    ("tu4.org", MEDIUM),
    ("dnsbin.zhack.ca", HIGH),
    ("bxss.me", HIGH),
    ("xss.ht", HIGH),
    ("ezxss.com", HIGH),
    ("r87.me", HIGH),
    ("r87.com", HIGH),
    ("requestbin.net", MEDIUM),
    ("requestbin.com", MEDIUM),
    ("requestcatcher.com", MEDIUM),
    ("webhook.site", MEDIUM),
    ("hookbin.com", MEDIUM),
    ("beeceptor.com", LOW),
    ("pingb.in", HIGH),
    ("rbndr.us", HIGH),
    ("1u.ms", HIGH),
    ("rebind.network", HIGH),
    ("rebind.it", HIGH),
    ("vulnweb.callback.dev", HIGH),
    ("eyes.sh", HIGH),
    ("bugscaner.com", MEDIUM),
    ("log4shell.huntress.com", HIGH),
    ("ssrf.localdomain.pw", HIGH),
    ("act1on3.ru", HIGH),
    ("ngrok.io", LOW),
    ("ngrok-free.app", LOW),
];

/// Names of metadata and control services, whole.
const METADATA: &[&str] = &[
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "metadata.platformequinix.com",
    "metadata.azure.internal",
    "metadata.azure.com",
    "rancher-metadata",
    "kubernetes.default.svc",
    "kubernetes.default",
    "kubernetes.default.svc.cluster.local",
    "169.254.169.254",
    "100.100.100.200",
    "169.254.170.2",
    "fd00:ec2::254",
];

/// Paths that only metadata services have.
const METADATA_PATHS: &[&str] = &[
    "/latest/meta-data",
    "/latest/user-data",
    "/latest/dynamic/instance-identity",
    "/latest/api/token",
    "/computemetadata/v1",
    "/metadata/instance?api-version",
    "/metadata/identity/oauth2",
    "/metadata/v1.json",
    "/metadata/v1/",
    "/opc/v1/instance",
    "/opc/v2/instance",
    "/openstack/latest/meta_data",
    "/hetzner/v1/metadata",
    "/v1/instance.json",
];

/// Their second and third letters: the first is a slash.
const METADATA_INITIALS: Initials = Initials::of(&[
    "latest",
    "computemetadata",
    "metadata",
    "opc",
    "openstack",
    "hetzner",
    "v1",
]);

/// Domains whose names hold the address they resolve to, or always mean the machine itself.
const WILDCARDS: &[&str] = &[
    "nip.io",
    "sslip.io",
    "xip.io",
    "xip.name",
    "traefik.me",
    "ip6.name",
    "local-ip.sh",
    "my.local-ip.co",
];
const SELF_NAMES: &[&str] = &[
    "localtest.me",
    "lvh.me",
    "vcap.me",
    "lacolhost.com",
    "localh.st",
    "readthedocs.lol",
    "fbi.com.localtest.me",
    "yoogle.com.localtest.me",
    "spoofed.burpcollaborator.net",
    "ulh.us",
    "fuf.me",
    "127-0-0-1.org.uk",
    "loopback.to",
    "domaincontrol.com.localtest.me",
];

/// Ports of services that talk to machines: a URL that names one is not for a browser.
const SERVICE_PORTS: &[u32] = &[
    21, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 514, 587, 873, 1099, 1433, 1521, 2049,
    2181, 2375, 2376, 2379, 3306, 3389, 4369, 5432, 5601, 5672, 5984, 6379, 6443, 7001, 8009, 8086,
    8500, 9042, 9200, 9300, 10250, 10255, 11211, 15672, 27017, 28017, 50070, 61616,
];

/// Says whether `value` is or holds a URL that a server must not follow. Linear, no allocation.
#[inline(never)]
pub fn ssrf(value: &[u8]) -> Option<Finding> {
    let mut best = None;
    let mut index = 0;
    let mut token = 0;
    let mut dotted = false;
    keep(&mut best, bare(value, 0));
    while let Some(&byte) = value.get(index) {
        if byte == b':' {
            keep(&mut best, url(value, index));
        }
        let name = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name {
            dotted |= byte == b'.';
        } else {
            if dotted {
                keep(&mut best, callback(value, token, index));
            }
            token = index + 1;
            dotted = false;
        }
        // A host without a scheme inside a query of its own: `next=//127.0.0.1/`.
        if byte == b'='
            && matches!(
                value.get(index + 1..),
                Some([b'/' | b'\\', b'/' | b'\\', ..])
            )
        {
            keep(&mut best, bare(value, index + 1));
        }
        if byte == b'/' {
            keep(&mut best, metadata_path(value, index));
        }
        if best.is_some_and(|f| f.confidence >= HIGH) {
            return best;
        }
        index += 1;
    }
    if dotted {
        keep(&mut best, callback(value, token, index));
    }
    best
}

fn keep(best: &mut Option<Finding>, new: Option<Finding>) {
    if let Some(new) = new
        && best.is_none_or(|b| new.confidence > b.confidence)
    {
        *best = Some(new);
    }
}

/// What an address means for the server that would connect to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reach {
    Public,
    Private,
    Itself,
    Metadata,
}

/// A host as the value spells it.
struct Host {
    reach: Reach,
    /// Spelled in a way that no person would.
    odd: bool,
    /// The name `localhost`, which developers use.
    localhost: bool,
}

/// A URL whose scheme ends at `colon`.
fn url(value: &[u8], colon: usize) -> Option<Finding> {
    let floor = colon.saturating_sub(12);
    let before = value.get(floor..colon)?;
    let begin = before
        .iter()
        .rposition(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-')))
        .map_or(0, |p| p + 1);
    let scheme = before.get(begin..)?;
    let start = floor + begin;
    if scheme.is_empty() || !scheme.first().is_some_and(u8::is_ascii_alphabetic) {
        return None;
    }
    let rest = value.get(colon + 1..)?;
    let slashes = rest
        .iter()
        .take(4)
        .take_while(|b| matches!(b, b'/' | b'\\'))
        .count();
    let known = if SCHEME_INITIALS.may_begin(scheme) {
        SCHEMES
    } else {
        &[]
    };
    let known = known
        .iter()
        .find(|(s, _)| scheme.eq_ignore_ascii_case(s.as_bytes()));
    let found = |confidence, end| {
        Some(Finding {
            confidence,
            start,
            end,
        })
    };
    if let Some(&(_, confidence)) = known {
        let inner = rest.get(..8).is_some_and(|r| {
            r.starts_with(b"http") || r.starts_with(b"file") || r.starts_with(b"ftp")
        });
        let jar = scheme.eq_ignore_ascii_case(b"jar");
        let doc = scheme.eq_ignore_ascii_case(b"netdoc");
        let one_slash = scheme.eq_ignore_ascii_case(b"file") && slashes == 1 && start == 0;
        if slashes >= 2 || jar && inner || doc && slashes >= 1 || one_slash {
            let (host, end) = authority(value, colon + 1 + slashes);
            let inside = host.is_some_and(|h| h.reach > Reach::Public);
            return found(
                if inside || jar { HIGH } else { confidence },
                end.max(colon + 1),
            );
        }
        return None;
    }
    let web = scheme.eq_ignore_ascii_case(b"http")
        || scheme.eq_ignore_ascii_case(b"https")
        || scheme.eq_ignore_ascii_case(b"ftp")
        || scheme.eq_ignore_ascii_case(b"ws")
        || scheme.eq_ignore_ascii_case(b"wss")
        || scheme.eq_ignore_ascii_case(b"url");
    // `https:127.0.0.1` without slashes is still a URL to lenient clients.
    let short = slashes == 0
        && (start > 0
            || !scheme
                .get(..4)
                .is_some_and(|s| s.eq_ignore_ascii_case(b"http")));
    if !web || short {
        return None;
    }
    let (host, end) = authority(value, colon + 1 + slashes);
    let confidence = host
        .as_ref()
        .map_or(0, |h| weigh(h, value, end))
        .max(if slashes == 0 {
            0
        } else {
            confusion(value, colon + 1 + slashes)
        });
    if confidence == 0 {
        None
    } else {
        found(confidence, end)
    }
}

/// A host without a scheme, at the front of the value.
fn bare(value: &[u8], start: usize) -> Option<Finding> {
    let rest = value.get(start..)?;
    let slashes = rest
        .iter()
        .take(3)
        .take_while(|b| matches!(b, b'/' | b'\\'))
        .count();
    let relative = slashes >= 2;
    if !relative && slashes > 0 {
        return None;
    }
    let (host, end) = authority(value, if relative { start + slashes } else { start });
    let host = host?;
    let rest = value.get(end..).unwrap_or(b"");
    let confidence = if relative {
        weigh(&host, value, end)
    } else {
        let text = value.get(..end).unwrap_or(b"");
        let plain_number = !text.iter().any(|b| matches!(b, b'.' | b'['))
            || text.iter().filter(|&&b| b == b'.').count() < 3
                && !text.contains(&b'[')
                && text.is_ascii();
        let address = value
            .first()
            .is_some_and(|b| b.is_ascii_digit() || *b == b'[' || *b >= 0x80);
        match host.reach {
            // An account name, not a host.
            _ if text.contains(&b'@') => 0,
            Reach::Metadata => HIGH,
            // `127.1` is a version, `2130706433` a number.
            _ if address && plain_number => 0,
            Reach::Itself if host.odd && end == value.len() && text.ends_with(b"]") => LOW,
            Reach::Itself if host.odd => MEDIUM,
            Reach::Itself if service(value, end) => MEDIUM,
            Reach::Itself if rest.first() == Some(&b'/') || text.contains(&b':') => LOW,
            Reach::Private if host.odd => LOW,
            _ => 0,
        }
    };
    if confidence == 0 {
        None
    } else {
        Some(Finding {
            confidence,
            start,
            end,
        })
    }
}

fn weigh(host: &Host, value: &[u8], end: usize) -> u8 {
    let port = port(value, end);
    let service = port.is_some_and(|p| SERVICE_PORTS.contains(&p));
    match host.reach {
        Reach::Metadata => HIGH,
        Reach::Itself if host.odd => HIGH,
        Reach::Itself if service => HIGH,
        Reach::Itself if host.localhost => {
            if admin(value, end) {
                MEDIUM
            } else {
                LOW
            }
        }
        // Native applications are told to come back to `http://127.0.0.1:49152/`.
        Reach::Itself if port.is_some_and(|p| p >= 1024) && !admin(value, end) => LOW,
        Reach::Itself => MEDIUM,
        Reach::Private if host.odd => HIGH,
        Reach::Private if service => MEDIUM,
        Reach::Private => LOW,
        Reach::Public if host.odd => MEDIUM,
        Reach::Public => 0,
    }
}

/// The port before `end`, the end of the authority.
fn port(value: &[u8], end: usize) -> Option<u32> {
    let tail = value.get(end.saturating_sub(6)..end)?;
    let colon = tail.iter().rposition(|&b| b == b':')?;
    let digits = tail.get(colon + 1..)?;
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |n, b| {
        b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0'))
    })
}

fn service(value: &[u8], end: usize) -> bool {
    port(value, end).is_some_and(|p| SERVICE_PORTS.contains(&p))
}

/// A path on the machine itself that only its keeper should see.
fn admin(value: &[u8], end: usize) -> bool {
    let path = value.get(end..value.len().min(end + 32)).unwrap_or(b"");
    [
        "/admin",
        "/manager/",
        "/server-status",
        "/actuator",
        "/_cat",
        "/_search",
        "/v2/keys",
        "/containers/",
        "/solr",
        "/jenkins",
        "/console",
        "/private",
        "/internal",
        "/.env",
        "/etc/",
        "/phpmyadmin",
        "/wp-admin",
        "/flag",
        "/secret",
        "/debug",
        "/metrics",
    ]
    .iter()
    .any(|p| {
        path.get(..p.len())
            .is_some_and(|h| h.eq_ignore_ascii_case(p.as_bytes()))
    })
}

/// `http://good@evil`, `http://good#@evil`, `http://evil\@good`: two readers see two hosts.
fn confusion(value: &[u8], start: usize) -> u8 {
    let text = value
        .get(start..value.len().min(start + 256))
        .unwrap_or(b"");
    let mut first_at = None;
    for (index, &byte) in text.iter().enumerate() {
        match byte {
            b'@' => {
                let before = text.get(index.saturating_sub(1)).copied().unwrap_or(0);
                if index > 0 && matches!(before, b'#' | b'?' | b'\\' | b'&') {
                    return MEDIUM;
                }
                if let Some(first) = first_at {
                    return if first + 1 < index { MEDIUM } else { LOW };
                }
                first_at = Some(index);
            }
            b'/' => break,
            b'?' | b'#' | b'\\' | b'&' if text.get(index + 1) != Some(&b'@') => break,
            b' ' if matches!(text.get(index + 1), Some(b'&' | b'@')) => {}
            b' ' | b'"' | b'\'' | b'<' | b'>' | b'\n' => break,
            _ => {}
        }
    }
    let Some(at) = first_at else { return 0 };
    let user = text.get(..at).unwrap_or(b"");
    let password = user.contains(&b':');
    let name = user.split(|&b| b == b':').next().unwrap_or(b"");
    // A user name that is itself a host is there to be read as one.
    let host_like = name.iter().rposition(|&b| b == b'.').is_some_and(|dot| {
        let tld = name.get(dot + 1..).unwrap_or(b"");
        (2..=6).contains(&tld.len()) && tld.iter().all(u8::is_ascii_alphabetic)
            || tld.iter().all(u8::is_ascii_digit) && !tld.is_empty()
    });
    match (host_like, password) {
        (true, _) => MEDIUM,
        (false, _) => LOW,
    }
}

/// Reads the authority at `start`; gives the host's meaning and where the authority ends.
fn authority(value: &[u8], start: usize) -> (Option<Host>, usize) {
    let rest = value.get(start..).unwrap_or(b"");
    let mut end = 0;
    let mut at = 0;
    for &byte in rest.iter().take(512) {
        match byte {
            b'/' | b'\\' | b'?' | b'#' | b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'<'
            | b'>' | b',' | b';' | b'&' | b'|' | b')' | b'(' | b'`' | b'{' | b'}' | b'^' | 0 => {
                break;
            }
            b'%' if rest.get(at) != Some(&b'[') => break,
            b'@' => at = end + 1,
            _ => {}
        }
        end += 1;
    }
    let text = rest.get(at..end).unwrap_or(b"");
    (host(text), start + end)
}

/// Reads a host with its port.
fn host(text: &[u8]) -> Option<Host> {
    let mut buffer = [0u8; HOST];
    let (len, folded) = fold(text, &mut buffer)?;
    let text = buffer.get(..len)?;
    if let Some(rest) = text.strip_prefix(b"[") {
        let close = rest.iter().position(|&b| b == b']')?;
        let inside = rest.get(..close)?;
        let inside = inside.split(|&b| b == b'%').next().unwrap_or(inside);
        let address: Ipv6Addr = core::str::from_utf8(inside).ok()?.parse().ok()?;
        return Some(v6(address, folded));
    }
    let colon = text.iter().position(|&b| b == b':').unwrap_or(text.len());
    let mut name = text.get(..colon)?;
    // `127.0.0.1:80:22`: which of the two ports is used depends on the reader.
    let port = text.get(colon..).unwrap_or(b"");
    let twice = port.iter().filter(|&&b| b == b':').count() > 1;
    if !port.iter().all(|b| b.is_ascii_digit() || *b == b':') {
        return None;
    }
    while let [head @ .., b'.'] = name {
        name = head;
    }
    if name.is_empty() {
        return None;
    }
    if let Some((address, odd)) = v4(name) {
        return Some(Host {
            reach: reach(address),
            odd: odd || folded || twice,
            localhost: false,
        });
    }
    if name.eq_ignore_ascii_case(b"localhost")
        || name.eq_ignore_ascii_case(b"localhost.localdomain")
        || ends(name, ".localhost")
        || name.eq_ignore_ascii_case(b"ip6-localhost")
        || name.eq_ignore_ascii_case(b"localhost4")
        || name.eq_ignore_ascii_case(b"localhost6")
    {
        return Some(Host {
            reach: Reach::Itself,
            odd: folded || twice,
            localhost: true,
        });
    }
    if METADATA
        .iter()
        .any(|m| name.eq_ignore_ascii_case(m.as_bytes()))
    {
        return Some(Host {
            reach: Reach::Metadata,
            odd: folded,
            localhost: false,
        });
    }
    if SELF_NAMES.iter().any(|s| within(name, s)) {
        return Some(Host {
            reach: Reach::Itself,
            odd: true,
            localhost: false,
        });
    }
    if let Some(domain) = WILDCARDS.iter().find(|w| within(name, w)) {
        let prefix = name
            .get(..name.len().saturating_sub(domain.len() + 1))
            .unwrap_or(b"");
        let reach = embedded(prefix).map_or(Reach::Public, reach);
        return (reach > Reach::Public).then_some(Host {
            reach,
            odd: true,
            localhost: false,
        });
    }
    if ends(name, ".svc.cluster.local") || ends(name, ".svc") {
        return Some(Host {
            reach: Reach::Private,
            odd: true,
            localhost: false,
        });
    }
    if ends(name, ".internal")
        || ends(name, ".intranet")
        || ends(name, ".corp")
        || ends(name, ".localdomain")
        || name == b"host.docker.internal"
    {
        return Some(Host {
            reach: Reach::Private,
            odd: false,
            localhost: false,
        });
    }
    // Letters in circles spell a name that a filter does not read.
    folded.then_some(Host {
        reach: Reach::Public,
        odd: true,
        localhost: false,
    })
}

fn ends(name: &[u8], tail: &str) -> bool {
    name.len() > tail.len()
        && name
            .get(name.len() - tail.len()..)
            .is_some_and(|t| t.eq_ignore_ascii_case(tail.as_bytes()))
}

/// `name` is `domain` or below it.
fn within(name: &[u8], domain: &str) -> bool {
    name.eq_ignore_ascii_case(domain.as_bytes())
        || ends(name, domain) && name.get(name.len() - domain.len() - 1) == Some(&b'.')
}

fn reach(address: Ipv4Addr) -> Reach {
    let [a, b, c, d] = address.octets();
    match (a, b, c, d) {
        (169, 254, 169, 254)
        | (169, 254, 170, 2)
        | (169, 254, 170, 23)
        | (100, 100, 100, 200)
        | (192, 0, 0, 192)
        | (168, 63, 129, 16) => Reach::Metadata,
        (127, ..) | (0, ..) => Reach::Itself,
        (10, ..) | (192, 168, ..) | (169, 254, ..) => Reach::Private,
        (172, 16..=31, ..) | (100, 64..=127, ..) | (198, 18..=19, ..) => Reach::Private,
        _ => Reach::Public,
    }
}

fn v6(address: Ipv6Addr, folded: bool) -> Host {
    let segments = address.segments();
    let embedded = match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some((high, low)),
        [0x2002, high, low, ..] => Some((high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some((high, low)),
        _ => None,
    };
    if let Some((high, low)) = embedded {
        let address = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
        return Host {
            reach: reach(address),
            odd: true,
            localhost: false,
        };
    }
    let reach = match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Reach::Itself,
        [0xfd00, 0xec2, ..] => Reach::Metadata,
        [0xfe80..=0xfebf, ..] | [0xfc00..=0xfdff, ..] => Reach::Private,
        _ => Reach::Public,
    };
    // An IPv6 address of one's own is a way around a filter for IPv4.
    Host {
        reach,
        odd: folded || reach == Reach::Itself,
        localhost: false,
    }
}

/// An IPv4 address as `inet_aton` reads it, and whether it is spelled oddly.
fn v4(name: &[u8]) -> Option<(Ipv4Addr, bool)> {
    let mut parts = [0u64; 4];
    let mut count = 0;
    let mut odd = false;
    for part in name.split(|&b| b == b'.') {
        let (number, strange) = number(part)?;
        odd |= strange;
        *parts.get_mut(count)? = number;
        count += 1;
    }
    odd |= count < 4;
    let last = *parts.get(count.checked_sub(1)?)?;
    let mut address = 0u64;
    for (index, &part) in parts.iter().take(count - 1).enumerate() {
        // A part over 255 wraps around in some clients.
        odd |= part > 255;
        if part > 1023 {
            return None;
        }
        address |= (part & 255) << (24 - 8 * index);
    }
    let width = 8 * (5 - count);
    odd |= last >> width != 0;
    address |= last & ((1u64 << width) - 1);
    u32::try_from(address & 0xffff_ffff)
        .ok()
        .map(|a| (Ipv4Addr::from(a), odd))
}

/// One part of an address: decimal, octal or hexadecimal.
fn number(part: &[u8]) -> Option<(u64, bool)> {
    let (digits, radix) = match part {
        [b'0', b'x' | b'X', digits @ ..] if !digits.is_empty() => (digits, 16),
        [b'0', digits @ ..] if !digits.is_empty() => (digits, 8),
        digits if !digits.is_empty() => (digits, 10),
        _ => return None,
    };
    let mut number = 0u64;
    for &digit in digits {
        let digit = char::from(digit).to_digit(radix)?;
        number = number
            .saturating_mul(u64::from(radix))
            .saturating_add(u64::from(digit))
            .min(u64::MAX >> 8);
    }
    Some((number, radix != 10))
}

/// The address inside `app.10-0-0-1` or `10.0.0.1` in front of a wild-card domain.
fn embedded(prefix: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut count = 0;
    let mut from_end = prefix.rsplit(|&b| b == b'.' || b == b'-');
    while count < 4 {
        let part = from_end.next()?;
        if part.len() == 8 && count == 0 {
            let bits = u32::from_str_radix(core::str::from_utf8(part).ok()?, 16).ok()?;
            return Some(Ipv4Addr::from(bits));
        }
        let value: u8 = core::str::from_utf8(part).ok()?.parse().ok()?;
        *octets.get_mut(3 - count)? = value;
        count += 1;
    }
    Some(Ipv4Addr::from(octets))
}

/// Copies `text` with circled, superscript and mathematical letters and digits and ideographic
/// full stops as what a resolver makes of them. `None` if it does not fit.
fn fold(text: &[u8], buffer: &mut [u8; HOST]) -> Option<(usize, bool)> {
    if text.is_ascii() {
        buffer.get_mut(..text.len())?.copy_from_slice(text);
        return Some((text.len(), false));
    }
    let text = text.get(..text.len().min(4 * HOST))?;
    let text = match core::str::from_utf8(text) {
        Ok(text) => text,
        // Cut off within a letter; any other broken letter is no host.
        Err(error) if error.error_len().is_none() => {
            core::str::from_utf8(text.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let mut len = 0;
    let mut folded = false;
    let mut push = |byte: u8| -> Option<()> {
        *buffer.get_mut(len)? = byte;
        len += 1;
        Some(())
    };
    for letter in text.chars() {
        let code = u32::from(letter);
        let offset = |base: u32| u8::try_from(code - base).unwrap_or(0);
        let plain = match code {
            0..=0x7f => u8::try_from(code).unwrap_or(0),
            0x2460..=0x2468 => b'1' + offset(0x2460),
            0x2469..=0x2473 => {
                let number = 10 + offset(0x2469);
                push(b'0' + number / 10)?;
                b'0' + number % 10
            }
            0x24ea | 0x24ff => b'0',
            0x24f5..=0x24fd => b'1' + offset(0x24f5),
            0x2776..=0x277e => b'1' + offset(0x2776),
            0x24b6..=0x24cf => b'a' + offset(0x24b6),
            0x24d0..=0x24e9 => b'a' + offset(0x24d0),
            0xff10..=0xff19 => b'0' + offset(0xff10),
            0xff21..=0xff3a => b'a' + offset(0xff21),
            0xff41..=0xff5a => b'a' + offset(0xff41),
            0x1d7ce..=0x1d7ff => b'0' + offset(0x1d7ce) % 10,
            0x2070 | 0x2080 => b'0',
            0x2074..=0x2079 => b'4' + offset(0x2074),
            0x2081..=0x2089 => b'1' + offset(0x2081),
            0xb9 => b'1',
            0xb2 => b'2',
            0xb3 => b'3',
            0x3002 | 0xff0e | 0xff61 => b'.',
            0x2024 => b'.',
            // A name in another script is a name, not a trick.
            _ => return None,
        };
        folded |= code > 0x7f;
        push(plain)?;
    }
    Some((len, folded))
}

/// The last two letters of every name that [`callback`] knows, back to front.
const TAILS: Initials = {
    const fn with(mut tails: Initials, word: &str) -> Initials {
        if let [.., second, first] = word.as_bytes() {
            tails.add(*first, *second);
        }
        tails
    }
    let mut tails = Initials::of(&[]);
    let mut index = 0;
    while index < CANARIES.len() {
        tails = with(tails, CANARIES[index].0);
        index += 1;
    }
    index = 0;
    while index < METADATA.len() {
        tails = with(tails, METADATA[index]);
        index += 1;
    }
    tails
};

/// A call-back service or metadata host named anywhere in the value.
fn callback(value: &[u8], start: usize, end: usize) -> Option<Finding> {
    let mut name = value.get(start..end)?;
    while let [head @ .., b'.'] = name {
        name = head;
    }
    // Names by their last two letters, from the back.
    let [.., last_but_one, last] = name else {
        return None;
    };
    if !TAILS.pair(*last, *last_but_one) {
        return None;
    }
    let canary = CANARIES
        .iter()
        .find(|(domain, _)| within(name, domain))
        .map(|&(_, confidence)| confidence);
    let metadata = || {
        METADATA
            .iter()
            .any(|m| m.len() > 13 && name.eq_ignore_ascii_case(m.as_bytes()))
            .then_some(MEDIUM)
    };
    let confidence = canary.or_else(metadata)?;
    Some(Finding {
        confidence,
        start,
        end,
    })
}

/// `/latest/meta-data/` and its like, whatever the host.
fn metadata_path(value: &[u8], at: usize) -> Option<Finding> {
    if !METADATA_INITIALS.may_begin(value.get(at + 1..)?) {
        return None;
    }
    METADATA_PATHS
        .iter()
        .find(|p| {
            value
                .get(at..at + p.len())
                .is_some_and(|v| v.eq_ignore_ascii_case(p.as_bytes()))
        })
        .map(|p| Finding {
            confidence: MEDIUM,
            start: at,
            end: at + p.len(),
        })
}
