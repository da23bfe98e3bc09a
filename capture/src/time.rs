//! The two ways captures write a time, read by hand: a date library costs more than the line.

/// `10/Oct/2000:13:55:36 -0700`, as NCSA logs have it between brackets.
pub(crate) fn parse_ncsa(text: &[u8]) -> Option<u64> {
    let (date, offset) = text.split_at_checked(20)?;
    let &[
        d1,
        d2,
        b'/',
        m1,
        m2,
        m3,
        b'/',
        y1,
        y2,
        y3,
        y4,
        b':',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
    ] = date
    else {
        return None;
    };
    let month = match [m1, m2, m3] {
        [b'J', b'a', b'n'] => 1,
        [b'F', b'e', b'b'] => 2,
        [b'M', b'a', b'r'] => 3,
        [b'A', b'p', b'r'] => 4,
        [b'M', b'a', b'y'] => 5,
        [b'J', b'u', b'n'] => 6,
        [b'J', b'u', b'l'] => 7,
        [b'A', b'u', b'g'] => 8,
        [b'S', b'e', b'p'] => 9,
        [b'O', b'c', b't'] => 10,
        [b'N', b'o', b'v'] => 11,
        [b'D', b'e', b'c'] => 12,
        _ => return None,
    };
    let seconds = seconds(
        number(&[y1, y2, y3, y4])?,
        month,
        number(&[d1, d2])?,
        [number(&[h1, h2])?, number(&[n1, n2])?, number(&[s1, s2])?],
    )?;
    nanoseconds(seconds - offset_seconds(offset.strip_prefix(b" ")?)?, 0)
}

/// `2016-04-15T20:17:00.310Z` with or without a fraction, with `Z` or an offset, or seconds since
/// 1970 with or without a fraction, as Envoy's `%START_TIME(%s.%3f)%` writes them.
pub(crate) fn parse_iso_or_epoch(text: &[u8]) -> Option<u64> {
    let Some((date, rest)) = text.split_at_checked(19) else {
        return parse_epoch(text);
    };
    let &[
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T' | b't' | b' ',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
    ] = date
    else {
        return parse_epoch(text);
    };
    let (nanos, rest) = fraction(rest);
    let offset = match rest {
        b"" | b"Z" | b"z" => 0,
        offset => offset_seconds(offset)?,
    };
    let seconds = seconds(
        number(&[y1, y2, y3, y4])?,
        number(&[m1, m2])?,
        number(&[d1, d2])?,
        [number(&[h1, h2])?, number(&[n1, n2])?, number(&[s1, s2])?],
    )?;
    nanoseconds(seconds - offset, nanos)
}

fn parse_epoch(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (whole, rest) = text.split_at(digits);
    let (nanos, rest) = fraction(rest);
    // Twelve digits of seconds are thirty thousand years: more is another unit.
    if !rest.is_empty() || !(1..=11).contains(&digits) {
        return None;
    }
    nanoseconds(number(whole)?, nanos)
}

/// A leading `.310` as nanoseconds, and what comes behind it.
fn fraction(text: &[u8]) -> (u64, &[u8]) {
    let Some(rest) = text.strip_prefix(b".") else {
        return (0, text);
    };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut nanos = 0;
    for i in 0..9 {
        let digit = rest.get(i).filter(|_| i < digits).map_or(0, |b| b - b'0');
        nanos = nanos * 10 + u64::from(digit);
    }
    (nanos, rest.get(digits..).unwrap_or_default())
}

/// `+0100` or `+01:00`.
fn offset_seconds(text: &[u8]) -> Option<i64> {
    let (sign, h, m) = match *text {
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, [h1, h2], [m1, m2]),
        _ => return None,
    };
    let seconds = number(&h)? * 3600 + number(&m)? * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |n, b| {
        b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'))
    })
}

fn seconds(year: i64, month: i64, day: i64, [hour, minute, second]: [i64; 3]) -> Option<i64> {
    // A leap second reads 60.
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let days = portcullis::time::days_from_civil(year, month, day);
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

fn nanoseconds(seconds: i64, nanos: u64) -> Option<u64> {
    u64::try_from(seconds)
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let ncsa: &[(&str, Option<u64>)] = &[
            ("10/Oct/2000:13:55:36 -0700", Some(971_211_336)),
            ("01/Jan/1970:00:00:00 +0000", Some(0)),
            ("29/Feb/2024:23:59:60 +0530", Some(1_709_231_400)),
            ("31/Dec/1969:23:59:59 +0000", None),
            ("10/Okt/2000:13:55:36 -0700", None),
            ("10/Oct/2000:13:55:36", None),
            ("", None),
        ];
        for (text, seconds) in ncsa {
            assert_eq!(
                parse_ncsa(text.as_bytes()),
                seconds.map(|s| s * 1_000_000_000),
                "{text}"
            );
        }
        let iso: &[(&str, Option<u64>)] = &[
            ("2016-04-15T20:17:00.310Z", Some(1_460_751_420_310_000_000)),
            (
                "2016-04-15T22:17:00.310123456789+02:00",
                Some(1_460_751_420_310_123_456),
            ),
            ("2016-04-15 20:17:00", Some(1_460_751_420_000_000_000)),
            ("1460751420", Some(1_460_751_420_000_000_000)),
            ("1460751420.310", Some(1_460_751_420_310_000_000)),
            ("2016-13-15T20:17:00Z", None),
            ("2016-04-15T20:17:00.310X", None),
            ("1460751420310", None),
            ("-", None),
            ("9999-12-31T23:59:59Z", None),
        ];
        for (text, nanos) in iso {
            assert_eq!(parse_iso_or_epoch(text.as_bytes()), *nanos, "{text}");
        }
    }
}
