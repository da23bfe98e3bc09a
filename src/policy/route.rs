//! The route table of a configuration: which entries hold for a request, and in which order.

use super::PolicyError;
use super::settings::{Exception, Settings, is_named};
use super::values::Value;
use crate::body;
use crate::decoded::{split_pair, split_url};
use crate::headers::Headers;
use crate::normalise::{path, percent};

/// One entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which requests.
    pub matches: Match,
    /// What holds for them.
    pub policy: Settings,
}

/// What a request must be for an entry to hold: all that is given, of each one of those listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// Names of Envoy routes.
    pub route: Vec<String>,
    /// Names of Envoy virtual hosts.
    pub virtual_host: Vec<String>,
    /// Hosts without port, in any case; `*.example.org` is every host below `example.org`.
    pub host: Vec<String>,
    /// Paths.
    pub path: Vec<String>,
    /// Paths, and all below them.
    pub path_prefix: Vec<String>,
    /// Methods.
    pub method: Vec<String>,
}

/// Where a request was going.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the Envoy route; empty if there is none or the host does not tell.
    pub route: String,
    /// Name of the Envoy virtual host, likewise.
    pub virtual_host: String,
    /// Host in lower case, without port.
    pub host: Vec<u8>,
    /// Path, decoded and resolved, as an upstream understands it: `/shop/..%2fadmin` is `/admin`.
    pub path: Vec<u8>,
    /// Method.
    pub method: Vec<u8>,
}

impl Place {
    /// The place that headers tell; the gateway's names are the caller's to add.
    pub fn of(headers: Headers<'_>) -> Place {
        let (stem, _) = split_url(headers.get(b":path").unwrap_or_default());
        Place {
            route: String::new(),
            virtual_host: String::new(),
            host: without_port(headers.host().unwrap_or_default()).to_ascii_lowercase(),
            path: path::looked_up(stem),
            method: headers.get(b":method").unwrap_or_default().to_vec(),
        }
    }
}

fn without_port(host: &[u8]) -> &[u8] {
    let digits = host
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (before, _) = host.split_at(host.len() - digits);
    match before.strip_suffix(b":") {
        // `::1` is an address without a port; `[::1]:80` has one.
        Some(name) if !name.contains(&b':') || name.ends_with(b"]") => name,
        _ => host,
    }
}

/// How narrow an entry is; the greater is the more specific. A method comes before a path, a longer path
/// before a shorter one, a path before a route, a route before a host, a host before a virtual host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    method: bool,
    path: usize,
    route: bool,
    host: usize,
    virtual_host: bool,
}

impl Route {
    pub(super) fn read(value: &Value<'_>) -> Result<Route, PolicyError> {
        let keys = value.keys(&["match", "policy"])?;
        let missing = |key: &str| value.refuse(&format!("`{key}` is missing"));
        let policy = keys.get("policy", |value| {
            Settings::read_layer(&value.keys(&Settings::KEYS)?)
        })?;
        Ok(Route {
            matches: keys
                .get("match", Match::read)?
                .ok_or_else(|| missing("match"))?,
            policy: policy.ok_or_else(|| missing("policy"))?,
        })
    }
}

impl Route {
    /// The number of an exception for a path that this entry never matches, and the path.
    pub(super) fn exception_elsewhere(&self) -> Option<(usize, &str)> {
        let Match {
            path, path_prefix, ..
        } = &self.matches;
        if path.is_empty() && path_prefix.is_empty() {
            return None;
        }
        let below = |prefix: &str, path: &str| is_below(prefix.as_bytes(), path.as_bytes());
        (1..)
            .zip(&self.policy.exceptions)
            .find_map(|(number, exception)| {
                let (known, is_within): (_, bool) = match (&exception.path, &exception.path_prefix)
                {
                    (Some(exact), _) => (
                        exact,
                        path.contains(exact)
                            || path_prefix.iter().any(|prefix| below(prefix, exact)),
                    ),
                    (None, Some(start)) => (
                        start,
                        path.iter().any(|path| below(start, path))
                            || (path_prefix.iter())
                                .any(|prefix| below(prefix, start) || below(start, prefix)),
                    ),
                    (None, None) => return None,
                };
                (!is_within).then_some((number, known.as_str()))
            })
    }
}

impl Match {
    fn read(value: &Value<'_>) -> Result<Match, PolicyError> {
        let keys = value.keys(&[
            "route",
            "virtual_host",
            "host",
            "path",
            "path_prefix",
            "method",
        ])?;
        Ok(Match {
            route: keys.or_default("route", Value::texts)?,
            virtual_host: keys.or_default("virtual_host", Value::texts)?,
            host: keys.or_default("host", Value::texts)?,
            path: keys.or_default("path", Value::texts)?,
            path_prefix: keys.or_default("path_prefix", Value::texts)?,
            method: keys.or_default("method", Value::texts)?,
        })
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Match::default()
    }

    /// How narrow it is for a request that it holds for; none if it does not hold.
    pub fn rank(&self, place: &Place) -> Option<Rank> {
        let named = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|known| known == name)
        };
        let method = self.method.is_empty()
            || (self.method.iter()).any(|known| known.as_bytes() == place.method);
        if !named(&self.route, &place.route)
            || !named(&self.virtual_host, &place.virtual_host)
            || !method
        {
            return None;
        }
        let host = match self.host.as_slice() {
            [] => 0,
            hosts => hosts
                .iter()
                .filter_map(|host| host_rank(host, &place.host))
                .max()?,
        };
        let path = match (self.path.as_slice(), self.path_prefix.as_slice()) {
            ([], []) => 0,
            (paths, prefixes) => {
                let exact = paths.iter().any(|path| path.as_bytes() == place.path);
                let below = prefixes
                    .iter()
                    .filter(|prefix| is_below(prefix.as_bytes(), &place.path))
                    .map(|prefix| prefix.len())
                    .max();
                if exact { usize::MAX } else { below? }
            }
        };
        Some(Rank {
            method: !self.method.is_empty(),
            path,
            route: !self.route.is_empty(),
            host,
            virtual_host: !self.virtual_host.is_empty(),
        })
    }
}

/// How narrowly a host is named: exactly, or by how much of its end.
fn host_rank(known: &str, host: &[u8]) -> Option<usize> {
    match known.strip_prefix('*') {
        Some(end) => {
            let (len, end) = (end.len(), end.to_ascii_lowercase());
            (host.len() > len && host.ends_with(end.as_bytes())).then_some(len + 1)
        }
        None => known
            .as_bytes()
            .eq_ignore_ascii_case(host)
            .then_some(usize::MAX),
    }
}

/// Whether `path` is `prefix` or below it: `/api` holds `/api` and `/api/v1`, and not `/apiary`.
fn is_below(prefix: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with(b"/") || rest.starts_with(b"/"))
}

impl Exception {
    /// Whether it is about requests to this place.
    pub fn holds_at(&self, place: &Place) -> bool {
        let path = (self.path.as_ref()).is_none_or(|path| path.as_bytes() == place.path);
        let prefix = self.path_prefix.as_ref();
        path && prefix.is_none_or(|prefix| is_below(prefix.as_bytes(), &place.path))
    }
}

/// A request without what exceptions name.
#[derive(Debug, Default)]
pub struct Reduced {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Reduced {
    /// The request without the parameters, cookies and headers of these exceptions.
    pub fn new(headers: Headers<'_>, exceptions: &[&Exception]) -> Reduced {
        let names = |of: fn(&Exception) -> &[String], name: &[u8]| {
            exceptions
                .iter()
                .any(|exception| is_named(of(exception), name))
        };
        let mut pairs = Vec::new();
        for (name, value) in headers.iter() {
            let lower = name.to_ascii_lowercase();
            let header = |exception: &&Exception| {
                let names = &exception.header;
                names
                    .iter()
                    .any(|known| known.to_ascii_lowercase().as_bytes() == lower)
            };
            if exceptions.iter().any(header) {
                continue;
            }
            let value = match lower.as_slice() {
                b":path" => without_parameters(value, |name| names(|e| &e.parameter, name)),
                body::VALUES => {
                    let query = [b"?", value].concat();
                    let kept = without_parameters(&query, |name| names(|e| &e.parameter, name));
                    kept.get(1..).unwrap_or_default().to_vec()
                }
                // A parameter cannot be cut out of a text of any form, so all of it goes.
                body::TEXT if exceptions.iter().any(|e| !e.parameter.is_empty()) => continue,
                b"cookie" => {
                    let kept = value.split(|byte| *byte == b';').filter(|cookie| {
                        let name = split_pair(cookie.trim_ascii_start()).0;
                        !names(|e| &e.cookie, name.unwrap_or_default())
                    });
                    kept.collect::<Vec<_>>().join(&b';')
                }
                _ => value.to_vec(),
            };
            pairs.push((name.to_vec(), value));
        }
        Reduced { pairs }
    }

    /// Its headers, for [`Headers::Pairs`].
    pub fn pairs(&self) -> Vec<(&[u8], &[u8])> {
        let pairs = self.pairs.iter();
        pairs
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect()
    }
}

/// A request target without the parameters of these names, as they stand there or decoded.
fn without_parameters(target: &[u8], is_out: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let (stem, query) = split_url(target);
    let Some(query) = query else {
        return target.to_vec();
    };
    let kept: Vec<&[u8]> = query
        .split(|byte| *byte == b'&')
        .filter(|pair| {
            let name = split_pair(pair).0.unwrap_or_default();
            !(is_out(name) || is_out(&percent::decoded(name, true)))
        })
        .collect();
    [stem, b"?", &kept.join(&b'&')].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(host: &str, path: &str) -> Place {
        Place::of(Headers::Pairs(&[
            (b":authority", host.as_bytes()),
            (b":path", path.as_bytes()),
            (b":method", b"GET"),
        ]))
    }

    #[test]
    fn a_path_is_what_an_upstream_makes_of_it() {
        let cases = [
            ("/shop/item?x=/admin", "/shop/item"),
            ("/shop/../admin", "/admin"),
            ("/shop/..%2fadmin/", "/admin/"),
            ("/shop/..;/admin", "/admin"),
            ("//admin", "/admin"),
            ("/%61dmin", "/admin"),
        ];
        for (target, path) in cases {
            assert_eq!(
                String::from_utf8_lossy(&place("a", target).path),
                path,
                "{target}"
            );
        }
    }

    #[test]
    fn hosts_lose_their_ports_and_their_case() {
        let cases = [
            ("Shop.Example:8443", "shop.example"),
            ("shop.example", "shop.example"),
            ("[::1]:80", "[::1]"),
            ("::1", "::1"),
            ("", ""),
        ];
        for (host, want) in cases {
            assert_eq!(
                String::from_utf8_lossy(&place(host, "/").host),
                want,
                "{host}"
            );
        }
    }

    #[test]
    fn entries_hold_for_what_they_name() {
        let cases = [
            (r#"{"path_prefix": "/api"}"#, "a", "/api/v1", true),
            (r#"{"path_prefix": "/api"}"#, "a", "/api", true),
            (r#"{"path_prefix": "/api"}"#, "a", "/apiary", false),
            (r#"{"path_prefix": "/api"}"#, "a", "/api/../admin", false),
            (r#"{"path": ["/a", "/b"]}"#, "a", "/b", true),
            (r#"{"path": ["/a", "/b"]}"#, "a", "/b/", false),
            (r#"{"host": "*.example.org"}"#, "a.b.example.org", "/", true),
            (r#"{"host": "*.example.org"}"#, "example.org", "/", false),
            (r#"{"host": "Example.org"}"#, "example.ORG:80", "/", true),
            (r#"{"method": ["POST", "PUT"]}"#, "a", "/", false),
            (r#"{"method": "GET", "path_prefix": "/"}"#, "a", "/x", true),
            (r#"{"route": "login"}"#, "a", "/", false),
        ];
        for (matches, host, path, holds) in cases {
            let tree = serde_json::from_str(matches).unwrap();
            let matches = Match::read(&Value::top(&tree)).unwrap();
            assert_eq!(
                matches.rank(&place(host, path)).is_some(),
                holds,
                "{matches:?} {host}{path}"
            );
        }
    }

    #[test]
    fn a_request_loses_exactly_what_is_excepted() {
        let exception = Exception {
            parameter: vec!["q".into(), "filter[*".into()],
            cookie: vec!["prefs".into()],
            header: vec!["Referer".into()],
            ..Exception::default()
        };
        let pairs: [(&[u8], &[u8]); 4] = [
            (b":path", b"/s?q=1&id=2&filter%5Ba%5D=3&Q=4&q"),
            (b"cookie", b"sid=1; prefs=2; a=prefs"),
            (b"referer", b"https://example.org/?q=1"),
            (b"user-agent", b"x"),
        ];
        let reduced = Reduced::new(Headers::Pairs(&pairs), &[&exception]);
        let want: [(&[u8], &[u8]); 3] = [
            // A value without a name is nobody's.
            (b":path", b"/s?id=2&Q=4&q"),
            (b"cookie", b"sid=1; a=prefs"),
            (b"user-agent", b"x"),
        ];
        assert_eq!(reduced.pairs(), want);
    }
}
