//! Bodies at random: what somebody wrote, in each form, charset and coding, is read; and whatever the bytes, a body is read to
//! its end without harm, in any pieces, at a cost that grows with its length alone and in bounded memory.
//!
//! ```text
//! names and values ──► a form ──► UTF-16? ──► gzip? ──► Request: all of them are in its query
//!                        └──► cut, joined, sprinkled ──► Request: no panic, few bytes allocated
//!                                                    └─► the filter, in pieces and at once: the same alerts
//! one text over and over, of 8, 16 and 32 KiB ──► the filter: twice the instructions each time and no more
//! ```
//!
//! Choices follow from a seed, so each run makes the same ones; `make fuzz ROUNDS=1000000` makes more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::io::Write as _;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use portcullis::body::{self, Request};
use portcullis::headers::Headers;
use portcullis::limits::INFLATED_BYTES;
use portcullis_compiler::{Options, backend, parse};
use portcullis_harness::host::{Exchange, Gateway, GatewayOptions, Module};
use portcullis_tests::wasm;

/// Bytes that reading a body may allocate in all, for each byte of it and of what is inflated. The names of open objects
/// are what is copied most: 128 bytes for a bracket.
const ALLOCATED_A_BYTE: usize = 200;
/// Bytes beside that: what is inflated gets its room at once, twice for two codings.
const ALLOCATED_FIRST: usize = 4 * INFLATED_BYTES;
/// Bytes that reading a body may hold at any time.
const HELD: usize = 2 << 20;
/// Instructions of the filter that one byte of a body may cost where no rule looks at it: some 500 for each of four media types.
const INSTRUCTIONS_A_BYTE: f64 = 4_000.0;
/// How many times the instructions twice the bytes may cost. Linear is 2; a little more is left for tables that fill up.
const GROWTH: f64 = 2.4;
/// Bytes of memory that a worker has after all of it.
const WORKER_BYTES: usize = 8 << 20;

/// How often each test goes round; a round of some tests is dearer than one of others.
fn rounds(share: usize) -> usize {
    let rounds = std::env::var("PORTCULLIS_FUZZ_ROUNDS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(6_000) / share
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn often(&mut self) -> bool {
        self.below(3) > 0
    }
}

/// A request with a body.
#[derive(Clone, Default)]
struct Case {
    kind: String,
    coding: String,
    body: Vec<u8>,
}

impl Case {
    fn head(&self) -> Vec<(&[u8], &[u8])> {
        let mut head: Vec<(&[u8], &[u8])> = vec![
            (b":authority", b"shop.example"),
            (b":path", b"/form?a"),
            (b":method", b"POST"),
            (b":scheme", b"http"),
        ];
        if !self.kind.is_empty() {
            head.push((b"content-type", self.kind.as_bytes()));
        }
        if !self.coding.is_empty() {
            head.push((b"content-encoding", self.coding.as_bytes()));
        }
        head
    }

    /// The names and values that the engine reads, decoded once as a query is; none if it does not look into the body.
    fn read(&self) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let head = self.head();
        let request = Request::new(Headers::Pairs(&head), &self.body)?;
        let pairs = request.as_query();
        let (_, target) = pairs.iter().find(|(name, _)| *name == b":path").unwrap();
        let query = target.strip_prefix(b"/form?").expect("the stem stays");
        let pairs = query.split(|byte| *byte == b'&').map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(equals.unwrap_or(0));
            let value = value.strip_prefix(b"=").unwrap_or(value);
            (undone(name), undone(value))
        });
        Some(pairs.collect())
    }
}

/// Tells what the input was if the test dies of it.
impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.body.is_empty() {
            eprintln!(
                "content-type: {}\ncontent-encoding: {}\n{}",
                self.kind.escape_debug(),
                self.coding.escape_debug(),
                self.body.get(..4_000).unwrap_or(&self.body).escape_ascii()
            );
        }
    }
}

/// A text of a query without its encoding.
fn undone(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        out.push(match (byte, digit(at), digit(at + 1)) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                u8::try_from(high << 4 | low).unwrap()
            }
            (b'+', ..) => b' ',
            _ => byte,
        });
    }
    out
}

/// Pieces of values: what some form gives a meaning to.
const VALUES: [&str; 34] = [
    "a",
    "zz",
    "0",
    " ",
    "'",
    "\"",
    "<",
    ">",
    "&",
    "=",
    "%",
    "%27",
    "+",
    ";",
    ",",
    ":",
    "\\",
    "\\u0027",
    "{",
    "}",
    "[",
    "]",
    "/*",
    "*/",
    "//",
    "#",
    "--",
    "--X",
    "]]>",
    "<!--",
    "\r\n",
    "\n\n",
    "é",
    "\u{1f600}",
];

/// What a client wants to say.
fn parameters(numbers: &mut Numbers) -> Vec<(String, String)> {
    let count = 1 + numbers.below(5);
    let parameter = |_| {
        let letters = ["a", "b", "id", "q", "user", "x1"];
        let name = (0..=numbers.below(2)).map(|_| numbers.pick(&letters));
        let name = name.collect();
        let value = (0..numbers.below(8)).map(|_| numbers.pick(&VALUES));
        (name, value.collect())
    };
    (0..count).map(parameter).collect()
}

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Query,
    Json,
    Graphql,
    Multipart,
    Xml,
}

const FORMS: [Form; 5] = [
    Form::Query,
    Form::Json,
    Form::Graphql,
    Form::Multipart,
    Form::Xml,
];

/// A body, and where in it each value is there whatever follows.
struct Written {
    kind: String,
    text: String,
    complete: Vec<usize>,
    /// The values as the form can carry them.
    values: Vec<(String, String)>,
}

impl Form {
    fn write(self, numbers: &mut Numbers, parameters: &[(String, String)]) -> Written {
        let mut text = String::new();
        let mut complete = Vec::new();
        let mut values = parameters.to_vec();
        let kind = match self {
            Form::Query => {
                for (name, value) in parameters {
                    text += name;
                    text.push('=');
                    for byte in value.bytes() {
                        match byte {
                            b'a'..=b'z' | b'0'..=b'9' => text.push(char::from(byte)),
                            b' ' => text.push('+'),
                            _ => text += &format!("%{byte:02x}"),
                        }
                    }
                    text.push('&');
                    complete.push(text.len());
                }
                "application/x-www-form-urlencoded"
            }
            Form::Json => {
                let mut ends = String::new();
                text.push('{');
                for (name, value) in parameters {
                    text += numbers.pick(&["", " ", "\n", "/* ' \" */", "// \"\n"]);
                    text += &serde_json::json!(name).to_string();
                    text += numbers.pick(&[":", " : "]);
                    match numbers.below(4) {
                        0 => text += &format!("[1, null, {}]", serde_json::json!(value)),
                        1 => {
                            text += &format!("{{\"{name}\":{}", serde_json::json!(value));
                            ends.push('}');
                        }
                        _ => text += &serde_json::json!(value).to_string(),
                    }
                    text.push(',');
                    complete.push(text.len());
                }
                text += "\"last\":1}";
                text += &ends;
                numbers.pick(&[
                    "application/json",
                    "application/vnd.api+json; charset=utf-8",
                ])
            }
            Form::Graphql => {
                text += "query { a ";
                for ((_, value), written) in parameters.iter().zip(&mut values) {
                    // A literal has no name.
                    written.0.clear();
                    let is_block = !value.contains(['"', '\\']) && !numbers.often();
                    match is_block {
                        true => text += &format!("b(c: \"\"\"{value}\"\"\") # \"\n"),
                        false => text += &format!("b(c: {}) ", serde_json::json!(value)),
                    }
                    complete.push(text.len());
                }
                text += "}";
                "application/graphql"
            }
            Form::Multipart => {
                let boundary = numbers.pick(&["X1", "----WebKitFormBoundaryAAAA", "b"]);
                for ((name, value), written) in parameters.iter().zip(&mut values) {
                    let head = numbers.pick(&[
                        "Content-Disposition: form-data; name=",
                        "content-type: text/plain\r\ncontent-disposition:form-data;name =",
                    ]);
                    // Blanks around a value are left out.
                    written.1 = value.trim_ascii().to_owned();
                    text += &format!("--{boundary}\r\n{head}\"{name}\"\r\n\r\n{value}\r\n");
                    complete.push(text.len() + 3 + boundary.len());
                }
                text += &format!("--{boundary}--\r\n");
                return Written {
                    kind: format!(
                        "multipart/form-data; {}",
                        match numbers.often() {
                            true => format!("boundary={boundary}"),
                            false => format!("charset=utf-8; Boundary = \"{boundary}\""),
                        }
                    ),
                    text,
                    complete,
                    values,
                };
            }
            Form::Xml => {
                text += "<?xml version=\"1.0\"?><a>";
                for ((name, value), written) in parameters.iter().zip(&mut values) {
                    if !value.contains('"') && !numbers.often() {
                        text += &format!("<b {name}=\"{value}\"/>");
                    } else {
                        written.0.clear();
                        let cut = value.replace("]]>", "]]]]><![CDATA[>");
                        text += &format!("<b><![CDATA[{cut}]]><!-- ' --></b>");
                    }
                    complete.push(text.len());
                }
                text += "</a>";
                numbers.pick(&["text/xml", "application/soap+xml; charset=utf-8"])
            }
        };
        Written {
            kind: kind.to_owned(),
            text,
            complete,
            values,
        }
    }
}

/// Another charset, with the mark that tells it.
fn in_charset(numbers: &mut Numbers, text: &str) -> Vec<u8> {
    let marked = format!("\u{feff}{text}");
    let units = || marked.encode_utf16();
    let points = || marked.chars().map(u32::from);
    match numbers.below(6) {
        0 => units().flat_map(u16::to_le_bytes).collect(),
        1 => units().flat_map(u16::to_be_bytes).collect(),
        2 => points().flat_map(u32::to_le_bytes).collect(),
        3 => points().flat_map(u32::to_be_bytes).collect(),
        4 => marked.into_bytes(),
        _ => text.as_bytes().to_vec(),
    }
}

/// Zero to two codings, and their names.
fn in_codings(numbers: &mut Numbers, mut body: Vec<u8>) -> (String, Vec<u8>) {
    let mut names = Vec::new();
    for _ in 0..numbers.below(3) {
        let level = Compression::new(u32::try_from(numbers.below(10)).unwrap());
        let (name, coded) = match numbers.below(4) {
            0 => {
                let mut zlib = ZlibEncoder::new(Vec::new(), level);
                zlib.write_all(&body).unwrap();
                ("deflate", zlib.finish().unwrap())
            }
            1 => {
                let mut raw = DeflateEncoder::new(Vec::new(), level);
                raw.write_all(&body).unwrap();
                ("deflate", raw.finish().unwrap())
            }
            members => {
                let at = numbers.below(body.len() + 1) * (members - 2);
                let (one, other) = body.split_at(at);
                let mut both = gzip(one);
                both.extend(gzip(other));
                (numbers.pick(&["gzip", "X-GZip"]), both)
            }
        };
        names.push(name);
        body = coded;
    }
    (names.join(", "), body)
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text).unwrap();
    gzip.finish().unwrap()
}

fn assert_has(read: &[(Vec<u8>, Vec<u8>)], wanted: &[(String, String)]) {
    for (name, value) in wanted {
        let is_it = |(known, have): &(Vec<u8>, Vec<u8>)| {
            (name.is_empty() || known == name.as_bytes()) && have == value.as_bytes()
        };
        let is_there = read.iter().any(is_it);
        // An empty text is none.
        assert!(
            is_there || name.is_empty() && value.trim_ascii().is_empty(),
            "`{name}` = `{}` is lost",
            value.escape_debug()
        );
    }
}

#[test]
fn what_is_written_is_read() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut ran = [0; FORMS.len()];
    for round in 0..rounds(1) {
        let which = round % FORMS.len();
        let parameters = parameters(&mut numbers);
        let written = FORMS[which].write(&mut numbers, &parameters);
        let text = in_charset(&mut numbers, &written.text);
        let (coding, body) = in_codings(&mut numbers, text);
        let case = Case {
            kind: written.kind,
            coding,
            body,
        };
        assert_has(&case.read().expect("it is looked into"), &written.values);
        ran[which] += parameters.len();
    }
    assert!(ran.iter().all(|ran| *ran * 10 > rounds(1)), "{ran:?}");
}

#[test]
fn what_stands_before_a_cut_is_read() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut ran = 0;
    for round in 0..rounds(1) {
        let parameters = parameters(&mut numbers);
        let written = FORMS[round % FORMS.len()].write(&mut numbers, &parameters);
        let end = numbers.below(written.text.len() + 1);
        let case = Case {
            kind: written.kind,
            coding: String::new(),
            body: written.text.into_bytes()[..end].to_vec(),
        };
        let whole = written.complete.iter().filter(|at| **at <= end).count();
        if whole > 0 {
            assert_has(
                &case.read().expect("it is looked into"),
                &written.values[..whole],
            );
            ran += whole;
        }
    }
    assert!(ran > rounds(2), "{ran}");
}

/// Pieces that mean something to some parser.
const PIECES: [&str; 62] = [
    "\"",
    "'",
    "\\",
    "\\\"",
    "\\u00",
    "\\ud83d",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"a\":",
    "\"$ne\":",
    "{\"",
    "[\"\",",
    "//",
    "/*",
    "*/",
    "#",
    "\"\"\"",
    "query{",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    "--",
    "--X",
    "\r\n--X\r\n",
    "--X--",
    "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n",
    "filename=",
    "filename*=",
    "name=",
    "; ",
    "=",
    "Content-Type: multipart/mixed; boundary=Y\r\n\r\n--Y\r\n\r\n",
    "<",
    ">",
    "<!",
    "<!]",
    "<![",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<!DOCTYPE a [",
    "<a b=",
    "</",
    "/>",
    "<?xml ",
    "&",
    "%",
    "%2",
    "%25",
    "+",
    "+AD",
    "\0",
    "\u{feff}",
    "é",
    "pwd=",
    " ",
];

/// Heads of every kind, honest or not.
const KINDS: [&str; 16] = [
    "",
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=ibm037",
    "application/x-www-form-urlencoded; charset=utf-7",
    "application/json",
    "application/json; charset=utf-16",
    "application/graphql",
    "multipart/form-data; boundary=X",
    "multipart/form-data; boundary=X; boundary=Y",
    "multipart/form-data",
    "text/xml",
    "text/xml; charset=utf-7",
    "text/plain",
    "application/octet-stream",
    "application/json, text/xml, application/x-www-form-urlencoded, multipart/mixed; boundary=X",
    "multipart/a; boundary=X, multipart/b; boundary=X, multipart/c; boundary=X, multipart/d; boundary=X",
];

const CODINGS: [&str; 6] = ["", "", "gzip", "deflate", "gzip, deflate", "br"];

/// A body that was cut, joined and sprinkled.
fn mutated(numbers: &mut Numbers) -> Case {
    let parameters = parameters(numbers);
    let written = FORMS[numbers.below(FORMS.len())].write(numbers, &parameters);
    let mut body = in_charset(numbers, &written.text);
    let mutate = |numbers: &mut Numbers, body: &mut Vec<u8>| {
        for _ in 0..numbers.below(6) {
            let at = numbers.below(body.len() + 1);
            let end = (at + numbers.below(40)).min(body.len());
            match numbers.below(6) {
                0 => drop(body.drain(at..end)),
                1 => {
                    let piece = body[at..end].to_vec();
                    let to = numbers.below(body.len() + 1);
                    body.splice(to..to, piece);
                }
                2 => body.truncate(at),
                3 if at < body.len() => body[at] = u8::try_from(numbers.below(256)).unwrap(),
                4 => {
                    let piece = numbers.pick(&PIECES);
                    let piece = piece.repeat(1 + numbers.below(200));
                    body.splice(at..at, piece.bytes());
                }
                _ => drop(body.splice(at..at, numbers.pick(&PIECES).bytes())),
            }
        }
    };
    mutate(numbers, &mut body);
    let (mut coding, mut body) = in_codings(numbers, body);
    if !numbers.often() {
        mutate(numbers, &mut body);
    }
    if !numbers.often() {
        coding = numbers.pick(&CODINGS).to_owned();
    }
    let kind = match numbers.often() {
        true => written.kind,
        false => numbers.pick(&KINDS).to_owned(),
    };
    Case { kind, coding, body }
}

/// Reads a body, and holds what that allocates against the bounds. Returns whether it is looked into.
fn read_within_bounds(case: &Case) -> bool {
    let mut is_read = false;
    let allocated = allocation_counter::measure(|| {
        let head = case.head();
        let headers = Headers::Pairs(&head);
        body::is_worth_holding(headers, &case.body);
        is_read = Request::new(headers, &case.body).is_some();
    });
    let may = ALLOCATED_FIRST + ALLOCATED_A_BYTE * (case.body.len() + INFLATED_BYTES);
    let may = match case.coding.is_empty() {
        true => ALLOCATED_FIRST + ALLOCATED_A_BYTE * case.body.len(),
        false => may,
    };
    assert!(
        allocated.bytes_total <= may as u64,
        "{} bytes allocated for {}",
        allocated.bytes_total,
        case.body.len()
    );
    assert!(
        allocated.bytes_max <= HELD as u64,
        "{} bytes held for {}",
        allocated.bytes_max,
        case.body.len()
    );
    is_read
}

#[test]
fn any_bytes_are_read_within_bounds() {
    let mut numbers = Numbers(0xdead_beef);
    let mut read = 0;
    for _ in 0..rounds(1) {
        read += usize::from(read_within_bounds(&mutated(&mut numbers)));
    }
    assert!(read * 2 > rounds(1), "only {read} are looked into");
}

/// One text over and over, with something before and something behind.
struct Repeated {
    kind: &'static str,
    coded: Coded,
    before: Vec<u8>,
    unit: Vec<u8>,
    behind: Vec<u8>,
}

/// What is coded of a text that is repeated.
#[derive(Clone, Copy, Debug)]
enum Coded {
    Nothing,
    /// The whole, so that it takes few bytes.
    Whole,
    /// Each repetition, by itself.
    Each,
    /// It is in this coding as it stands.
    AsIs(&'static str),
}

impl Repeated {
    fn new(numbers: &mut Numbers) -> Repeated {
        let pieces = |numbers: &mut Numbers, most: usize| {
            let pieces = (0..numbers.below(most + 1)).map(|_| numbers.pick(&PIECES));
            pieces.collect::<String>().into_bytes()
        };
        Repeated {
            kind: numbers.pick(&KINDS),
            coded: match numbers.below(12) {
                0 => Coded::Whole,
                1 => Coded::Each,
                _ => Coded::Nothing,
            },
            before: pieces(numbers, 2),
            unit: [numbers.pick(&PIECES).as_bytes(), &pieces(numbers, 2)].concat(),
            behind: pieces(numbers, 2),
        }
    }

    fn case(&self, bytes: usize) -> Case {
        let unit = match self.coded {
            Coded::Each => gzip(&self.unit),
            _ => self.unit.clone(),
        };
        let text = unit.repeat(bytes / unit.len());
        let mut body = [&*self.before, &text, &self.behind].concat();
        let coding = match self.coded {
            Coded::Nothing => "",
            Coded::Whole => {
                body = gzip(&body);
                "gzip"
            }
            Coded::Each => {
                body = text;
                "gzip"
            }
            Coded::AsIs(coding) => coding,
        };
        Case {
            kind: self.kind.to_owned(),
            coding: coding.to_owned(),
            body,
        }
    }
}

/// What was found to cost too much, with what it cost.
fn found() -> Vec<Repeated> {
    let repeated = |kind, coded, before: &[u8], unit: &[u8], behind: &[u8]| Repeated {
        kind,
        coded,
        before: before.to_vec(),
        unit: unit.to_vec(),
        behind: behind.to_vec(),
    };
    let form = KINDS[1];
    vec![
        // A bracket that closes before one opens: each declaration looked for both to the end: 827 million instructions at 60,000 bytes.
        repeated("text/xml", Coded::Nothing, b"", b"<!]", b"[>"),
        repeated("text/xml", Coded::Nothing, b"", b"[<!]", b""),
        // Members of 20 bytes with nothing in them, for each of which 64 KiB were made ready: 228 MB at 60,000 bytes.
        repeated(form, Coded::Each, b"", b"", b""),
        // Blocks of ten bits with nothing in them, for each of which tables were made: 3,924 million instructions at 60,000 bytes,
        // and as many for 111 if they are in a coding as well.
        repeated(form, Coded::AsIs("deflate"), b"", &EMPTY_BLOCKS, b""),
        repeated(form, Coded::AsIs("deflate"), b"", b"\0\0\0\xff\xff", b""),
        // Comments that end, for each of which a searcher for their beginning was made: 2,657 instructions a byte.
        repeated(form, Coded::Nothing, b"", b"*/\n", b""),
    ]
}

/// Four blocks in the codes that blocks have which bring none, each its three bits and the seven of its end.
const EMPTY_BLOCKS: [u8; 5] = [0x02, 0x08, 0x20, 0x80, 0x00];

/// The filter with one rule, which nothing here matches: what a body costs before any rule looks at it.
fn bare() -> Gateway {
    const RULE: &str = "title: t\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {category: webserver}\n\
        detection: {s: {cs-uri-query.*|contains: no such text}, condition: s}\n";
    let parsed = parse("bare.yml", RULE, &Options::default());
    let rules = backend::compile(&parsed.documents).unwrap().bytes;
    static BARE: LazyLock<Module> =
        LazyLock::new(|| Module::metered(&std::fs::read(wasm()).unwrap()).unwrap());
    let options = GatewayOptions {
        plugin_config: [&*rules, b"{}"].concat(),
        callback_limit: None,
        ..GatewayOptions::default()
    };
    Gateway::start(&BARE, options).unwrap()
}

fn instructions(gateway: &mut Gateway, case: &Case) -> f64 {
    let worker = gateway.worker(0);
    let before = worker.instructions();
    let outcome = worker.exchange(&Exchange {
        request_headers: &case.head(),
        request_body: &case.body,
        ..Exchange::default()
    });
    assert_eq!(outcome.trapped, None);
    (worker.instructions() - before) as f64
}

/// Holds what it costs against the bounds. Returns the instructions for 32 KiB.
fn assert_linear(gateway: &mut Gateway, repeated: &Repeated) -> f64 {
    let [small, half, large] = [8, 16, 32].map(|kib| {
        let case = repeated.case(kib << 10);
        read_within_bounds(&case);
        instructions(gateway, &case)
    });
    // The lesser of both: a limit that is reached makes a step, and what is quadratic is so everywhere.
    let growth = (half / small).min(large / half);
    assert!(
        growth <= GROWTH,
        "`{}` over and over: {small} instructions for 8 KiB, {half} for 16, {large} for 32",
        repeated.unit.escape_ascii()
    );
    assert!(
        large <= INSTRUCTIONS_A_BYTE * f64::from(32 << 10),
        "`{}` over and over, as `{}`, {:?}: {large} instructions",
        repeated.unit.escape_ascii(),
        repeated.kind,
        repeated.coded
    );
    large
}

#[test]
fn a_body_costs_its_length() {
    let mut numbers = Numbers(0x0bad_cafe);
    let mut gateway = bare();
    for repeated in found() {
        assert_linear(&mut gateway, &repeated);
    }
    let mut dearest = (0.0_f64, String::new());
    for _ in 0..rounds(20) {
        let repeated = Repeated::new(&mut numbers);
        let cost = assert_linear(&mut gateway, &repeated);
        if cost > dearest.0 {
            dearest = (
                cost,
                format!("`{}` as `{}`", repeated.unit.escape_ascii(), repeated.kind),
            );
        }
    }
    let bytes = gateway.worker(0).memory_bytes();
    eprintln!(
        "the dearest of {}: {:.0} instructions a byte, {}; the worker has {bytes} bytes",
        rounds(20),
        dearest.0 / f64::from(32 << 10),
        dearest.1
    );
    assert!(bytes <= WORKER_BYTES, "the worker has {bytes} bytes");
}

#[test]
fn pieces_make_no_difference() {
    let module = Module::compile(&std::fs::read(wasm()).unwrap()).unwrap();
    let options = GatewayOptions {
        plugin_config: br#"{"incidents":{"fold":false}}"#.to_vec(),
        ..GatewayOptions::default()
    };
    let mut gateway = Gateway::start(&module, options).unwrap();
    let mut numbers = Numbers(0x5eed);
    let mut alerts_of = |case: &Case, longest: usize| {
        let mut logs = [0, 1, longest].map(|chunk_bytes| {
            let outcome = gateway.worker(0).exchange(&Exchange {
                request_headers: &case.head(),
                request_body: &case.body,
                chunk_bytes,
                ..Exchange::default()
            });
            assert_eq!(outcome.trapped, None);
            outcome.logs
        });
        let [whole, bytes, pieces] = &mut logs;
        assert_eq!(whole, bytes, "one byte at a time");
        assert_eq!(whole, pieces, "pieces of {longest}");
        whole.len()
    };
    // Where the first bytes tell whether a body is held back, one of them alone told that it is not: the rest passed unseen.
    let json = Case {
        kind: "application/octet-stream".to_owned(),
        body: b"\xef\xbb\xbf {\"id\": \"1' or '1'='1' -- -\"}".to_vec(),
        coding: String::new(),
    };
    assert_eq!(alerts_of(&json, 4), 1);
    let mut alerts = 0;
    for round in 0..rounds(20) {
        let mut case = mutated(&mut numbers);
        if round % 2 == 0 {
            // Something to find, somewhere.
            let attack = numbers.pick(&[
                "1' or '1'='1' -- -",
                "<script>alert(1)</script>",
                "&id=%27;%20drop%20table%20a--",
            ]);
            let at = numbers.below(case.body.len() + 1);
            case.body.splice(at..at, attack.bytes());
        }
        let longest = 1 + numbers.below(case.body.len() + 1);
        alerts += alerts_of(&case, longest);
    }
    assert!(alerts * 10 > rounds(20), "only {alerts} alerts");
}
