//! The most expensive requests that can be found, and whether cost grows with their bytes and no faster.
//!
//! Evil is repetition: what a decoder, a tokenizer or an automaton does for one piece of text it does again for each
//! repetition, and what it does twice for two is quadratic. So each place of a request is filled with one unit over
//! and over. Units come from a list of what each room of the engine finds hard, and from a search that joins,
//! cuts and changes them and keeps what costs more. Costs are wasm instructions of the module, so the
//! search is the same on every machine.

use anyhow::Result;

use super::meter::{Meter, mix_bytes};
use super::ordinary::Ordinary;
use super::traffic::Mix;
use crate::host::Module;

/// Bytes of the largest text, which is what one field may have.
const BYTES: usize = 64 * 1024;
/// How much more twice the bytes may cost. Linear is 2; a little more is left for tables that fill up.
pub const GROWTH: f64 = 2.4;

/// Where an attacker's text can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Path,
    Value,
    Parameters,
    UserAgent,
    Referer,
    Cookie,
    Header,
    Form,
    Json,
    Xml,
    Upload,
}

impl Place {
    const ALL: [Place; 11] = [
        Place::Path,
        Place::Value,
        Place::Parameters,
        Place::UserAgent,
        Place::Referer,
        Place::Cookie,
        Place::Header,
        Place::Form,
        Place::Json,
        Place::Xml,
        Place::Upload,
    ];

    const fn name(self) -> &'static str {
        match self {
            Place::Path => "path",
            Place::Value => "query value",
            Place::Parameters => "query",
            Place::UserAgent => "User-Agent",
            Place::Referer => "Referer",
            Place::Cookie => "Cookie",
            Place::Header => "other header",
            Place::Form => "form",
            Place::Json => "JSON",
            Place::Xml => "XML",
            Place::Upload => "upload",
        }
    }

    const fn is_body(self) -> bool {
        matches!(self, Place::Form | Place::Json | Place::Xml | Place::Upload)
    }

    /// What stands around the text.
    const fn around(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Place::Path => (b"/", b""),
            Place::Value => (b"/?q=", b""),
            Place::Parameters => (b"/?", b""),
            Place::Referer => (b"https://shop.example.com/?q=", b""),
            Place::Form => (b"q=", b""),
            Place::Json => (b"{\"q\":\"", b"\"}"),
            Place::Xml => (b"<?xml version=\"1.0\"?><q>", b"</q>"),
            Place::Upload => (
                b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f.txt\"\r\n\r\n",
                b"\r\n--b--\r\n",
            ),
            Place::UserAgent | Place::Cookie | Place::Header => (b"", b""),
        }
    }

    const fn content_type(self) -> &'static [u8] {
        match self {
            Place::Json => b"application/json",
            Place::Xml => b"application/xml",
            Place::Upload => b"multipart/form-data; boundary=b",
            _ => b"application/x-www-form-urlencoded",
        }
    }

    fn cost(self, meter: &mut Meter, unit: &[u8], bytes: usize) -> Result<f64> {
        let (before, after) = self.around();
        let mut text = before.to_vec();
        text.extend(unit.iter().copied().cycle().take(bytes));
        text.extend(after);
        self.cost_of(meter, &text)
    }

    /// What a byte of an ordinary body costs that is as long.
    fn ordinary(self, meter: &mut Meter) -> Result<Option<f64>> {
        let mut bodies = Ordinary::new(BYTES);
        let body = match self {
            Place::Form => bodies.form(),
            Place::Json => bodies.json(),
            Place::Xml => bodies.xml(),
            Place::Upload => bodies.upload(),
            _ => return Ok(None),
        };
        Ok(Some(self.cost_of(meter, &body)? / body.len() as f64))
    }

    /// What a request costs with this text in its place.
    fn cost_of(self, meter: &mut Meter, text: &[u8]) -> Result<f64> {
        let target = match self {
            Place::Path | Place::Value | Place::Parameters => text,
            _ => b"/index.html",
        };
        let mut head: Vec<(&[u8], &[u8])> = vec![
            (b":authority", b"shop.example.com"),
            (b":path", target),
            (b":method", if self.is_body() { b"POST" } else { b"GET" }),
            (b":scheme", b"http"),
        ];
        match self {
            Place::UserAgent => head.push((b"user-agent", text)),
            Place::Referer => head.push((b"referer", text)),
            Place::Cookie => head.push((b"cookie", text)),
            Place::Header => head.push((b"x-forwarded-host", text)),
            _ if self.is_body() => head.push((b"content-type", self.content_type())),
            _ => {}
        }
        let body = if self.is_body() { text } else { &[] };
        Ok(meter.request(&head, body)?.instructions as f64)
    }
}

/// What the rooms of the engine find hard: encodings, nesting that never closes, brackets, quotes, words that begin
/// something, and what rules look for.
const UNITS: [&str; 83] = [
    "a",
    "%",
    "%2",
    "%41",
    "%25",
    "%2525",
    "%2e%2e%2f",
    "%c0%ae",
    "%u0041",
    "%00",
    "+",
    "&",
    "&a",
    "&a=b",
    "=",
    ";",
    "../",
    "..\\",
    "/./",
    "//",
    "\\",
    "\\\\",
    "\\x41",
    "\\u0041",
    "\\'",
    "'",
    "''",
    "'a",
    "\"",
    "`",
    "' or 1=1 ",
    "1 or ",
    "select ",
    "union select ",
    " from a where ",
    "/*",
    "*/",
    "/**/",
    "--",
    "-- ",
    "(",
    ")",
    "((a",
    "[",
    "{",
    "{{",
    "${",
    "#{",
    "<%",
    "$(",
    "$a",
    "|",
    "||",
    "|cat ",
    ";id",
    "&&ls",
    "<",
    "<a",
    "<a ",
    "<a b=",
    "<!--",
    "<script>",
    "&#x41;",
    "&#65",
    "&lt;",
    "on=",
    "http://",
    "//@",
    "http://a@",
    "0x7f.1",
    "javascript:",
    "cmd.exe ",
    "bash -c ",
    "eval(",
    "/etc/passwd",
    "eyJhIjoi",
    ";x.exe ",
    ";x.exe+",
    // Found by the search.
    "$(e(\\u0041<%http:,!http:a@f[heval(x'%c%a..\\e?a{/**/&a{=b||",
    "(;x.e!1|e({*on=/u.:xe'+$(h(;x.e\\x41*O=i\"((&&||=/*{$a",
    "%c0?*a;e&t&a=b|cat \"ho.o &&leval(.R\\ht[p:/a1&=$a\\u0041|{%$(",
    "(/*;x.ee({*o=qu$(;/*x.e\\x4e*T=&\"|=/*U$(../Yi<",
    "(;x.e!e({*on=u.:$($(%h(;x.e\\x41*O=;|=/*{eval(-|cat -e",
];

/// The dearest text found for a place.
pub struct Worst {
    /// What is repeated.
    pub unit: Vec<u8>,
    /// What it costs at its full length.
    pub large: f64,
    /// How much more twice the bytes cost, the lesser of two doublings: a limit that is reached makes a step, and
    /// what is quadratic is so everywhere.
    pub growth: f64,
}

impl Worst {
    fn of(
        cost: &mut impl FnMut(&[u8], usize) -> Result<f64>,
        bytes: usize,
        unit: Vec<u8>,
    ) -> Result<Worst> {
        let mut cost = |bytes| cost(&unit, bytes);
        let (quarter, half, large) = (cost(bytes / 4)?, cost(bytes / 2)?, cost(bytes)?);
        let growth = (half / quarter).min(large / half);
        Ok(Worst {
            unit,
            large,
            growth,
        })
    }
}

/// Searches, prints the table, and returns whether nothing was over its bound. `tries` is how many changed units are
/// tried in each place.
pub fn run(module: &Module, tries: usize, times_benign: f64) -> Result<bool> {
    let mut meter = Meter::start(module, Vec::new())?;
    // One that is looked at: of a target that is remembered a byte costs next to nothing.
    let benign = meter.mix(Mix::Unseen)? / mix_bytes(Mix::Unseen);
    println!(
        "\nthe dearest requests of 64 KiB; a benign request costs {benign:.1} wasm instructions a byte\n\
         {:13} {:>10} {:>9} {:>9} {:>10} {:>7}  unit that is repeated",
        "place", "a byte", "× benign", "ordinary", "× ordinary", "growth"
    );
    let mut fine = true;
    let mut tried = 0;
    for place in Place::ALL {
        let worst = search(&mut meter, place, tries, &mut tried)?;
        let growth = worst.growth;
        let each = worst.large / BYTES as f64;
        // What a byte of costs next to nothing may grow as it likes: the host's own copies are in it.
        let is_fine = each <= benign || growth <= GROWTH && each <= benign * times_benign;
        fine &= is_fine;
        let (ordinary, times_ordinary) = match place.ordinary(&mut meter)? {
            Some(ordinary) => (format!("{ordinary:.1}"), format!("{:.1}", each / ordinary)),
            None => (String::new(), String::new()),
        };
        println!(
            "{:13} {each:>10.1} {:>9.1} {ordinary:>9} {times_ordinary:>10} {growth:>7.2}  {}{}",
            place.name(),
            each / benign,
            String::from_utf8_lossy(&worst.unit).escape_debug(),
            if is_fine { "" } else { "   TOO MUCH" }
        );
    }
    println!(
        "{tried} texts tried; ordinary is a byte of an ordinary body of that kind and length; growth is what twice the \
         bytes cost, 2 if linear and at most {GROWTH}; at most {times_benign} × benign"
    );
    Ok(fine)
}

fn search(meter: &mut Meter, place: Place, tries: usize, tried: &mut usize) -> Result<Worst> {
    let fits = |unit: &[u8]| {
        // A gateway refuses heads with these before any filter sees them.
        (place.is_body() || is_in_heads(unit))
            && !(matches!(place, Place::Path | Place::Value | Place::Parameters)
                && unit.contains(&b' '))
    };
    let seed = place as u64;
    climb((seed, tries, BYTES), tried, fits, |unit, bytes| {
        place.cost(meter, unit, bytes)
    })
}

/// Whether a gateway lets these bytes into a header.
pub fn is_in_heads(unit: &[u8]) -> bool {
    let fits = |byte: &u8| (b' '..0x7f).contains(byte) || *byte >= 0x80;
    unit.iter().all(fits)
}

/// The dearest unit among [`UNITS`] and what `tries` changes make of them, by what a sixteenth of `bytes` costs; or if one
/// grows faster than its length, the dearest of those.
pub fn climb(
    (seed, tries, bytes): (u64, usize, usize),
    tried: &mut usize,
    fits: impl Fn(&[u8]) -> bool,
    mut cost: impl FnMut(&[u8], usize) -> Result<f64>,
) -> Result<Worst> {
    let fits = |unit: &[u8]| !unit.is_empty() && unit.len() <= 64 && fits(unit);
    let small = bytes / 16;
    let mut pool: Vec<(f64, Vec<u8>)> = Vec::new();
    let mut steepest: Option<Worst> = None;
    for unit in UNITS.map(|unit| unit.as_bytes().to_vec()) {
        if !fits(&unit) {
            continue;
        }
        *tried += 1;
        let few = cost(&unit, small)?;
        let worst = Worst::of(&mut cost, bytes, unit.clone())?;
        // What grows too fast is what is looked for, however little it costs yet.
        if worst.growth > GROWTH
            && worst.large > bytes as f64
            && steepest
                .as_ref()
                .is_none_or(|known| worst.large > known.large)
        {
            steepest = Some(worst);
        }
        pool.push((few, unit));
    }
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ seed);
    for _ in 0..tries {
        pool.sort_by(|a, b| b.0.total_cmp(&a.0));
        pool.truncate(24);
        let unit = numbers.changed(&pool);
        if !fits(&unit) || pool.iter().any(|(_, known)| *known == unit) {
            continue;
        }
        *tried += 1;
        pool.push((cost(&unit, small)?, unit));
    }
    if let Some(worst) = steepest {
        return Ok(worst);
    }
    let best = pool.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let (_, unit) = best.unwrap_or_default();
    Worst::of(&mut cost, bytes, unit)
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize
    }

    /// A dear unit, joined with another one, cut, or with one byte changed.
    fn changed(&mut self, pool: &[(f64, Vec<u8>)]) -> Vec<u8> {
        let mut some = |count: usize| self.next() % count.max(1);
        // The first ones are the dearest; two draws favour them.
        let drawn = some(pool.len()).min(some(pool.len()));
        let mut unit = pool
            .get(drawn)
            .map(|(_, unit)| unit.clone())
            .unwrap_or_default();
        match some(5) {
            0 => unit.extend(
                UNITS
                    .get(some(UNITS.len()))
                    .copied()
                    .unwrap_or_default()
                    .bytes(),
            ),
            1 => {
                let other = pool.get(some(pool.len())).map(|(_, unit)| unit.as_slice());
                unit.extend(other.unwrap_or_default());
            }
            2 => {
                let other = UNITS.get(some(UNITS.len())).copied().unwrap_or_default();
                let at = some(unit.len() + 1);
                unit.splice(at..at, other.bytes());
            }
            3 => {
                let from = some(unit.len());
                let count = 1 + some(3);
                unit.drain(from..(from + count).min(unit.len()));
            }
            _ => {
                let at = some(unit.len());
                let byte = b' ' + some(95) as u8;
                if let Some(old) = unit.get_mut(at) {
                    *old = byte;
                }
            }
        }
        unit
    }
}
