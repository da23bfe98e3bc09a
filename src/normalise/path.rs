//! The path a server would look up in the end.

use super::{BACKSLASH, Classes, SEMICOLON, percent};

/// Whether [`resolve`] could change `path`, whose bytes are of these classes: it holds `//`, a dot segment, a
/// backslash or a `;`.
#[inline]
pub fn needs_resolving(path: &[u8], classes: Classes) -> bool {
    classes & (BACKSLASH | SEMICOLON) != 0
        || memchr::memchr_iter(b'/', path)
            .any(|slash| matches!(path.get(slash + 1), Some(b'/' | b'.')))
}

/// Appends the resolved form of a decoded `path` to `out`: backslashes are slashes, path
/// parameters (`;jsessionid=1`) are gone, `//`, `/./` and `/x/../` are collapsed. What climbs
/// above the root stays at the root, as servers do.
pub fn resolve(path: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut segments = path.split(|&byte| byte == b'/' || byte == b'\\').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let name = segment
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or(segment);
        match name {
            b"" | b"." => {
                if last && out.last() != Some(&b'/') {
                    out.push(b'/');
                }
            }
            b".." => {
                let parent = out
                    .get(start..)
                    .and_then(|so_far| so_far.iter().rposition(|&b| b == b'/'));
                out.truncate(start + parent.unwrap_or(0));
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.len() == start {
        out.push(b'/');
    }
}

/// The path that a server would look up for the stem of a request's target.
pub fn looked_up(stem: &[u8]) -> Vec<u8> {
    let decoded = percent::decoded(stem, false);
    let mut out = Vec::with_capacity(decoded.len());
    resolve(&decoded, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_as_servers_do() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"/", b"/"),
            (b"", b"/"),
            (b"/a/b", b"/a/b"),
            (b"/a/b/", b"/a/b/"),
            (b"//a///b", b"/a/b"),
            (b"/a/./b/.", b"/a/b/"),
            (b"/a/../.env", b"/.env"),
            (b"/../../etc/passwd", b"/etc/passwd"),
            (b"/a/..", b"/"),
            (b"/a/b/..", b"/a/"),
            (b"/a\\..\\b", b"/b"),
            (b"/admin;x=1/page;jsessionid=2", b"/admin/page"),
            (b"/a/..;/manager", b"/manager"),
            (b"/.git/config", b"/.git/config"),
        ];
        for (path, want) in cases {
            let mut out = b"kept".to_vec();
            resolve(path, &mut out);
            let got = out.split_off(4);
            assert_eq!(got, *want, "{}", String::from_utf8_lossy(path));
            assert!(got.len() <= path.len().max(1));
            if !needs_resolving(path, crate::normalise::classes(path)) && !path.is_empty() {
                assert_eq!(got, *path);
            }
        }
    }
}
