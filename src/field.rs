//! The field vocabulary: what a rule can ask about an event.
//!
//! Names are those of Sigma's taxonomy (`cs-uri-query`, `CommandLine`). Where Sigma has several
//! spellings of one thing, the compiler maps them here; the engine knows one field for each.

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $lane:expr;)*) => {
        /// One field of an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Field { $($(#[$doc])* $variant,)* }

        impl Field {
            /// Every field, in the order of their numbers in a compiled ruleset.
            pub const ALL: &'static [Field] = &[$(Field::$variant,)*];

            /// The canonical Sigma name.
            pub const fn name(self) -> &'static str {
                match self { $(Field::$variant => $name,)* }
            }

            /// The lane in which the field's text is scanned, if it is scanned at all.
            pub const fn lane(self) -> Option<Lane> {
                match self { $(Field::$variant => $lane,)* }
            }
        }
    };
}

fields! {
    /// Request method, as it came.
    Method = "cs-method", None;
    /// Request target: path and query.
    Uri = "cs-uri", Some(Lane::Uri);
    /// Path of the request target.
    UriStem = "cs-uri-stem", Some(Lane::Uri);
    /// Query of the request target, without the `?`.
    UriQuery = "cs-uri-query", Some(Lane::Uri);
    /// One query parameter's value by name, or every name and value (`cs-uri-query.*`).
    QueryValue = "cs-uri-query.*", Some(Lane::Uri);
    /// Names of suspicious encodings met in the request target, see [`crate::normalise::Signs`].
    UriEncoding = "cs-uri-encoding", Some(Lane::Uri);
    /// `Host` or `:authority`.
    Host = "cs-host", Some(Lane::Host);
    /// `User-Agent`.
    UserAgent = "cs-user-agent", Some(Lane::UserAgent);
    /// `Referer`.
    Referer = "cs-referer", Some(Lane::Referer);
    /// A whole `Cookie` header.
    Cookie = "cs-cookie", Some(Lane::Cookie);
    /// One cookie's value by name, or every cookie's (`cs-cookie.*`).
    CookieValue = "cs-cookie.*", Some(Lane::Cookie);
    /// Any header by name, `cs(X-Forwarded-For)`, or every header's value (`cs(*)`).
    Header = "cs(*)", Some(Lane::Header);
    /// Text of the request body.
    Body = "cs-body", Some(Lane::Body);
    /// One value of a parsed body by name, or every one (`cs-body.*`).
    BodyValue = "cs-body.*", Some(Lane::Body);
    /// Protocol version, `HTTP/1.1`.
    Version = "cs-version", None;
    /// Address of the client.
    SourceIp = "c-ip", None;
    /// Status of the response.
    Status = "sc-status", None;
    /// Path of the executable that ran.
    Image = "Image", Some(Lane::Process);
    /// The command line that ran, or that a request tried to have run.
    CommandLine = "CommandLine", Some(Lane::Process);
    /// Path of the parent's executable.
    ParentImage = "ParentImage", Some(Lane::Process);
    /// The parent's command line.
    ParentCommandLine = "ParentCommandLine", Some(Lane::Process);
    /// Name in the executable's version resource.
    OriginalFileName = "OriginalFileName", Some(Lane::Process);
    /// Description in the executable's version resource.
    Description = "Description", Some(Lane::Process);
    /// Product in the executable's version resource.
    Product = "Product", Some(Lane::Process);
    /// Company in the executable's version resource.
    Company = "Company", Some(Lane::Process);
    /// Working directory of the process.
    CurrentDirectory = "CurrentDirectory", Some(Lane::Process);
    /// Account the process ran under.
    User = "User", Some(Lane::Process);
    /// Account of the parent.
    ParentUser = "ParentUser", Some(Lane::Process);
    /// Windows integrity level.
    IntegrityLevel = "IntegrityLevel", Some(Lane::Process);
    /// Hashes of the executable.
    Hashes = "Hashes", Some(Lane::Process);
    /// Logon session of the process.
    LogonId = "LogonId", Some(Lane::Process);
    /// File version in the executable's version resource.
    FileVersion = "FileVersion", Some(Lane::Process);
    /// The part of `Host` that all hosts of one owner share: `example.co.uk` of `www.shop.example.co.uk:8080`.
    Site = "cs-host-site", Some(Lane::Host);
}

impl Field {
    /// The field with this number in a compiled ruleset.
    pub fn from_number(number: u8) -> Option<Field> {
        Field::ALL.get(usize::from(number)).copied()
    }

    /// Whether it is one value of many that a name tells apart, rather than a whole.
    pub const fn is_value(self) -> bool {
        matches!(
            self,
            Field::QueryValue | Field::CookieValue | Field::BodyValue
        )
    }

    /// Whether the field is known only once the response is.
    pub const fn needs_response(self) -> bool {
        matches!(self, Field::Status)
    }
}

/// Where a text came from, for scanning: each lane has a filter of its own, so that the names of
/// scanners are not looked for in URLs nor path fragments in user agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Lane {
    /// The request target.
    Uri,
    /// `User-Agent`.
    UserAgent,
    /// `Referer`.
    Referer,
    /// Cookies.
    Cookie,
    /// Headers that have no lane of their own.
    Header,
    /// `Host`.
    Host,
    /// Request body.
    Body,
    /// Text of process events.
    Process,
}

impl Lane {
    /// How many lanes there are.
    pub const COUNT: usize = 8;

    /// Every lane, by number.
    pub const ALL: [Lane; Lane::COUNT] = [
        Lane::Uri,
        Lane::UserAgent,
        Lane::Referer,
        Lane::Cookie,
        Lane::Header,
        Lane::Host,
        Lane::Body,
        Lane::Process,
    ];

    /// The lane's bit in a set of lanes.
    pub const fn bit(self) -> u8 {
        1 << (self as u8)
    }
}
