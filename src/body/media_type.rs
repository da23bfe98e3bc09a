//! A media type with its parameters, read as leniently as applications read them.

/// `multipart/form-data; boundary="a;b"; charset=utf-8`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType<'a> {
    /// `multipart/form-data`
    pub kind: &'a [u8],
    parameters: &'a [u8],
}

impl<'a> MediaType<'a> {
    pub fn of(text: &'a [u8]) -> MediaType<'a> {
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        let (kind, parameters) = text.split_at(end);
        MediaType {
            kind: kind.trim_ascii(),
            parameters,
        }
    }

    /// The values of a parameter. A second one of the same name is a mistake that applications read in different ways.
    pub fn parameters(self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.parameters;
        std::iter::from_fn(move || {
            loop {
                rest = rest.strip_prefix(b";")?;
                let end = end_of_parameter(rest);
                let (parameter, further) = rest.split_at(end);
                rest = further;
                let Some(equals) = memchr::memchr(b'=', parameter) else {
                    continue;
                };
                let (known, value) = parameter.split_at(equals);
                if known.trim_ascii().eq_ignore_ascii_case(name) {
                    return Some(unquoted(value.get(1..).unwrap_or_default().trim_ascii()));
                }
            }
        })
    }

    /// Whether its kind is this one.
    pub fn is(self, kind: &[u8]) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
    }

    /// Whether its kind ends so.
    pub fn ends_with(self, end: &[u8]) -> bool {
        let start = self.kind.len().checked_sub(end.len());
        start
            .and_then(|start| self.kind.get(start..))
            .is_some_and(|have| have.eq_ignore_ascii_case(end))
    }

    /// Whether its kind begins so.
    pub fn starts_with(self, start: &[u8]) -> bool {
        self.kind
            .get(..start.len())
            .is_some_and(|have| have.eq_ignore_ascii_case(start))
    }

    /// The boundary of a multipart type.
    pub fn multipart_boundary(self) -> Option<&'a [u8]> {
        self.starts_with(b"multipart/")
            .then(|| self.parameters(b"boundary").next())?
    }
}

/// Where a parameter ends: at the next `;` that stands in no quotes.
fn end_of_parameter(text: &[u8]) -> usize {
    let mut is_quoted = false;
    let end = text.iter().position(|byte| {
        is_quoted ^= *byte == b'"';
        *byte == b';' && !is_quoted
    });
    // A quote that nothing closes is no quote.
    end.unwrap_or_else(|| match is_quoted {
        true => memchr::memchr(b';', text).unwrap_or(text.len()),
        false => text.len(),
    })
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"").unwrap_or(value);
    inner.strip_suffix(b"\"").unwrap_or(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_in_any_spelling() {
        let cases: [(&[u8], &[&[u8]]); 7] = [
            (b"multipart/form-data; boundary=X", &[b"X"]),
            (
                b"multipart/form-data;BOUNDARY = \"a;b\" ; charset=x",
                &[b"a;b"],
            ),
            (
                b"multipart/form-data; boundary=a; boundary=b",
                &[b"a", b"b"],
            ),
            (b"multipart/form-data; xboundary=a; boundary", &[]),
            (b"multipart/form-data; boundary=\"a; charset=x", &[b"a"]),
            (b"multipart/form-data; boundary=", &[b""]),
            (b"", &[]),
        ];
        for (text, want) in cases {
            let got: Vec<_> = MediaType::of(text).parameters(b"boundary").collect();
            assert_eq!(got, want, "{}", String::from_utf8_lossy(text));
        }
        assert!(MediaType::of(b" Application/VND.a+JSON ;x").ends_with(b"+json"));
    }
}
