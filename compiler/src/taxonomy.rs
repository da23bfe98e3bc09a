//! Field names used in the wild, and the engine's field that each means.
//!
//! In goes a rule's event source and a field name as somebody wrote it; out comes a [`FieldPath`], or the names
//! that were probably meant. [`TABLE`] is the whole truth, and the documentation is generated from it.

use portcullis::field::Field;

use crate::nearest::nearest;

/// An event source: the rule's `logsource.category`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// `webserver`
    Webserver,
    /// `proxy`
    Proxy,
    /// `process_creation`
    ProcessCreation,
}

impl Category {
    /// All of them.
    pub const ALL: [Category; 3] = [
        Category::Webserver,
        Category::Proxy,
        Category::ProcessCreation,
    ];

    /// The name in `logsource.category`.
    pub const fn name(self) -> &'static str {
        match self {
            Category::Webserver => "webserver",
            Category::Proxy => "proxy",
            Category::ProcessCreation => "process_creation",
        }
    }

    /// The category of this name.
    pub fn from_name(name: &str) -> Option<Category> {
        Category::ALL
            .into_iter()
            .find(|category| category.name() == name)
    }
}

/// A field of the engine, or one part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath {
    /// The field.
    pub field: Field,
    /// For the fields that have named parts (`cs-uri-query.id`, `cs-cookie.sid`, `cs(X-Forwarded-For)`,
    /// `cs-body.id`): the part's name, a header's in lower case. `None` for each part in turn
    /// (`cs-uri-query.*`), and for the fields that have no parts.
    pub part: Option<String>,
}

/// What a correlation may group by or count beside fields: the alert type of the rule that matched. No event has it,
/// so other tools do not know it.
pub const ALERT_TYPE: &str = "portcullis.alert";

/// What a correlation may group by or count beside fields: the network of the client's address, a /24 or a /64.
pub const SOURCE_NETWORK: &str = "c-net";

/// One line of the taxonomy.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Where the name is known.
    pub sources: Sources,
    /// The name as rules write it.
    pub name: &'static str,
    /// What it means here.
    pub field: Field,
    /// The header it means, where the field is [`Field::Header`].
    pub header: Option<&'static str>,
}

/// The event sources that share a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// `webserver` and `proxy`.
    Web,
    /// `process_creation`.
    Process,
}

impl Sources {
    /// Whether this category speaks the vocabulary.
    pub fn has(self, category: Category) -> bool {
        (category == Category::ProcessCreation) == (self == Sources::Process)
    }
}

const fn web(name: &'static str, field: Field) -> Entry {
    Entry {
        sources: Sources::Web,
        name,
        field,
        header: None,
    }
}

const fn header(name: &'static str, header: &'static str) -> Entry {
    Entry {
        sources: Sources::Web,
        name,
        field: Field::Header,
        header: Some(header),
    }
}

const fn process(name: &'static str, field: Field) -> Entry {
    Entry {
        sources: Sources::Process,
        name,
        field,
        header: None,
    }
}

/// Every name that a rule may use for a whole field. The engine's own name stands first among those of a field.
///
/// Two things differ from a log line: a gateway sees the request target, so `c-uri` is path and query without
/// scheme and host; and the query has no `?` in front.
pub const TABLE: &[Entry] = &[
    web("cs-method", Field::Method),
    web("c-method", Field::Method),
    web("http.method", Field::Method),
    web("http.request.method", Field::Method),
    web("cs-uri", Field::Uri),
    web("c-uri", Field::Uri),
    web("cs-uri-path-query", Field::Uri),
    web("uri", Field::Uri),
    web("url.original", Field::Uri),
    web("cs-uri-stem", Field::UriStem),
    web("c-uri-stem", Field::UriStem),
    web("c-uri-path", Field::UriStem),
    web("cs-uri-path", Field::UriStem),
    web("url.path", Field::UriStem),
    web("cs-uri-query", Field::UriQuery),
    web("c-uri-query", Field::UriQuery),
    web("url.query", Field::UriQuery),
    web("cs-uri-query.*", Field::QueryValue),
    web("cs-uri-encoding", Field::UriEncoding),
    web("cs-host", Field::Host),
    web("cs(Host)", Field::Host),
    web("r-dns", Field::Host),
    web("dst_host", Field::Host),
    web("url.domain", Field::Host),
    web("cs-user-agent", Field::UserAgent),
    web("cs(User-Agent)", Field::UserAgent),
    web("cs-useragent", Field::UserAgent),
    web("c-useragent", Field::UserAgent),
    web("c-user-agent", Field::UserAgent),
    web("c-agent", Field::UserAgent),
    web("user-agent", Field::UserAgent),
    web("useragent", Field::UserAgent),
    web("user_agent.original", Field::UserAgent),
    web("cs-referer", Field::Referer),
    web("cs-referrer", Field::Referer),
    web("cs(Referer)", Field::Referer),
    web("cs(Referrer)", Field::Referer),
    web("c-referer", Field::Referer),
    web("referer", Field::Referer),
    web("http.request.referrer", Field::Referer),
    web("cs-cookie", Field::Cookie),
    web("cs(Cookie)", Field::Cookie),
    web("c-cookie", Field::Cookie),
    web("cookie", Field::Cookie),
    web("cs-cookie.*", Field::CookieValue),
    web("cs(*)", Field::Header),
    header("cs-content-type", "content-type"),
    header("cs-accept", "accept"),
    header("cs-accept-language", "accept-language"),
    header("x-forwarded-for", "x-forwarded-for"),
    web("cs-body", Field::Body),
    web("cs-post-data", Field::Body),
    web("post-body", Field::Body),
    web("http.request.body.content", Field::Body),
    web("cs-body.*", Field::BodyValue),
    web("cs-version", Field::Version),
    web("http.version", Field::Version),
    web("cs-host-site", Field::Site),
    web("c-ip", Field::SourceIp),
    web("src_ip", Field::SourceIp),
    web("client_ip", Field::SourceIp),
    web("source.ip", Field::SourceIp),
    web("sc-status", Field::Status),
    web("http.response.status_code", Field::Status),
    process("Image", Field::Image),
    process("NewProcessName", Field::Image),
    process("process.executable", Field::Image),
    process("CommandLine", Field::CommandLine),
    process("ProcessCommandLine", Field::CommandLine),
    process("process.command_line", Field::CommandLine),
    process("ParentImage", Field::ParentImage),
    process("ParentProcessName", Field::ParentImage),
    process("process.parent.executable", Field::ParentImage),
    process("ParentCommandLine", Field::ParentCommandLine),
    process("process.parent.command_line", Field::ParentCommandLine),
    process("OriginalFileName", Field::OriginalFileName),
    process("Description", Field::Description),
    process("Product", Field::Product),
    process("Company", Field::Company),
    process("CurrentDirectory", Field::CurrentDirectory),
    process("process.working_directory", Field::CurrentDirectory),
    process("User", Field::User),
    process("user.name", Field::User),
    process("ParentUser", Field::ParentUser),
    process("IntegrityLevel", Field::IntegrityLevel),
    process("Hashes", Field::Hashes),
    process("LogonId", Field::LogonId),
    process("FileVersion", Field::FileVersion),
];

/// A name that means a piece of another field: its questions are asked of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the name is known.
    pub sources: Sources,
    /// The name as rules write it.
    pub name: &'static str,
    /// The field that holds the piece.
    pub field: Field,
    /// What stands before the piece.
    pub before: &'static str,
    /// Whether the field ends with the piece; otherwise it stands somewhere in it.
    pub is_end: bool,
}

const fn hash(name: &'static str, before: &'static str) -> Piece {
    Piece {
        sources: Sources::Process,
        name,
        field: Field::Hashes,
        before,
        is_end: false,
    }
}

const fn extension(name: &'static str) -> Piece {
    Piece {
        sources: Sources::Web,
        name,
        field: Field::UriStem,
        before: ".",
        is_end: true,
    }
}

/// Every such name.
pub const PIECES: &[Piece] = &[
    extension("c-uri-extension"),
    extension("cs-uri-extension"),
    hash("Imphash", "IMPHASH="),
    hash("imphash", "IMPHASH="),
    hash("md5", "MD5="),
    hash("sha1", "SHA1="),
    hash("sha256", "SHA256="),
];

/// The piece that `name` means in rules for this event source.
pub fn piece(category: Category, name: &str) -> Option<&'static Piece> {
    let mut known = PIECES.iter().filter(|piece| piece.sources.has(category));
    known.find(|piece| piece.name == name)
}

/// Names that rules use and that nobody here can answer, and why.
pub const UNANSWERED: &[(Sources, &[&str], &str)] = &[
    (
        Sources::Web,
        &["cs-username", "c-username", "user.name"],
        "who is logged in to an application its gateway does not know",
    ),
    (
        Sources::Web,
        &[
            "s-ip",
            "s-port",
            "s-computername",
            "s-sitename",
            "dst_ip",
            "dst_port",
            "src_port",
            "r-ip",
            "c-port",
        ],
        "rules are about what was asked, not about which socket it came through",
    ),
    (
        Sources::Web,
        &[
            "sc-bytes",
            "cs-bytes",
            "time-taken",
            "c-win32-status",
            "sc-win32-status",
            "sc-substatus",
            "resp_mime_types",
        ],
        "of a response only the status is known",
    ),
    (
        Sources::Process,
        &[
            "ProcessId",
            "ParentProcessId",
            "ProcessGuid",
            "ParentProcessGuid",
            "LogonGuid",
            "TerminalSessionId",
            "UtcTime",
        ],
        "it differs from run to run, so no rule can be about its value",
    ),
    (
        Sources::Process,
        &[
            "EventID",
            "Provider_Name",
            "Channel",
            "GrandParentImage",
            "GrandparentCommandLine",
            "ParentIntegrityLevel",
            "SubjectUserSid",
            "TargetUserSid",
        ],
        "no sensor whose records are read here reports it with a process",
    ),
];

/// Why nobody here can answer what is asked of this name, if it is one of those.
pub fn unanswered(category: Category, name: &str) -> Option<&'static str> {
    let found = UNANSWERED
        .iter()
        .find(|(sources, names, _)| sources.has(category) && names.contains(&name));
    found.map(|(_, _, why)| *why)
}

/// Names with a part behind a dot, and the field whose parts they name.
const PARTS: [(&str, Field); 3] = [
    ("cs-uri-query.", Field::QueryValue),
    ("cs-cookie.", Field::CookieValue),
    ("cs-body.", Field::BodyValue),
];

/// What `name` means in rules for this event source; on failure up to three names that it may have meant.
///
/// Letter case matters, except in the names of headers.
pub fn resolve(category: Category, name: &str) -> Result<FieldPath, Vec<&'static str>> {
    let known = || TABLE.iter().filter(|entry| entry.sources.has(category));
    if let Some(entry) = known().find(|entry| entry.name == name) {
        return Ok(FieldPath {
            field: entry.field,
            part: entry.header.map(str::to_owned),
        });
    }
    let unknown = || nearest(name, known().map(|entry| entry.name));
    if category == Category::ProcessCreation {
        return Err(unknown());
    }
    if let Some(header) = name
        .strip_prefix("cs(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        // Headers that have a field of their own are found above whatever their case.
        if let Some(entry) = known().find(|entry| entry.name.eq_ignore_ascii_case(name)) {
            return Ok(FieldPath {
                field: entry.field,
                part: None,
            });
        }
        if !header.is_empty() && header.bytes().all(token) {
            return Ok(FieldPath {
                field: Field::Header,
                part: Some(header.to_ascii_lowercase()),
            });
        }
    }
    for (prefix, field) in PARTS {
        match name.strip_prefix(prefix) {
            Some(part) if !part.is_empty() => {
                return Ok(FieldPath {
                    field,
                    part: Some(part.to_owned()),
                });
            }
            _ => {}
        }
    }
    Err(unknown())
}

/// Whether the byte may stand in a header's name (RFC 9110, section 5.6.2).
fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether the field's values are numbers.
pub(crate) const fn is_number(field: Field) -> bool {
    matches!(field, Field::Status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_field_of_the_engine_has_its_own_name_in_the_table() {
        for field in Field::ALL {
            let own = TABLE.iter().find(|entry| entry.name == field.name());
            assert_eq!(own.unwrap().field, *field);
        }
    }

    #[test]
    fn no_name_stands_in_the_table_twice() {
        for (at, entry) in TABLE.iter().enumerate() {
            let again = TABLE
                .iter()
                .skip(at + 1)
                .find(|other| other.name == entry.name && other.sources == entry.sources);
            assert!(again.is_none(), "{}", entry.name);
        }
    }

    #[test]
    fn names_mean_what_they_say() {
        use Category::{ProcessCreation, Proxy, Webserver};
        let cases = [
            (Webserver, "cs-uri-query", Field::UriQuery, None),
            (Proxy, "c-useragent", Field::UserAgent, None),
            (Webserver, "cs(user-AGENT)", Field::UserAgent, None),
            (
                Webserver,
                "cs(X-Forwarded-For)",
                Field::Header,
                Some("x-forwarded-for"),
            ),
            (Webserver, "cs(*)", Field::Header, None),
            (Webserver, "cs-uri-query.id", Field::QueryValue, Some("id")),
            (Webserver, "cs-uri-query.*", Field::QueryValue, None),
            (Webserver, "cs-cookie.SID", Field::CookieValue, Some("SID")),
            (
                Webserver,
                "cs-content-type",
                Field::Header,
                Some("content-type"),
            ),
            (ProcessCreation, "CommandLine", Field::CommandLine, None),
        ];
        for (category, name, field, part) in cases {
            let expected = FieldPath {
                field,
                part: part.map(str::to_owned),
            };
            assert_eq!(resolve(category, name), Ok(expected), "{name}");
        }
    }

    #[test]
    fn unknown_names_come_with_those_that_may_be_meant() {
        use Category::{ProcessCreation, Webserver};
        let cases = [
            (
                Webserver,
                "cs-uri-qurey",
                vec!["cs-uri-query", "c-uri-query"],
            ),
            (ProcessCreation, "commandline", vec!["CommandLine"]),
            (ProcessCreation, "cs-uri", vec![]),
            (Webserver, "CommandLine", vec![]),
            (Webserver, "cs()", vec!["cs(*)"]),
        ];
        for (category, name, expected) in cases {
            assert_eq!(resolve(category, name), Err(expected), "{name}");
        }
    }
}
