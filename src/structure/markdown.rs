//! Code as people write about it: between back-ticks in a sentence, or on lines between fences.
//!
//! What is written about programs is full of what detectors look for. ``the `id` of the user`` runs nothing in a shell that
//! an attack would reach, and no attack needs the words around it. A detector asks here about the back-ticks around what
//! it has found, and is less sure if a sentence stands around them; what else the text holds counts as before.
//!
//! Cost: a bounded number of bytes for each question.

/// Bytes that are looked at before and behind a back-tick.
const LOOK: usize = 64;

/// Words of the shortest sentence.
const SENTENCE: usize = 2;

/// Where the code ends that the back-tick at `open` begins: at a second one, with code right within both, blanks or
/// punctuation around them, and words of a sentence before or behind, or a colon before.
#[inline(never)]
pub fn code_in_sentence(text: &[u8], open: usize) -> Option<usize> {
    let head = text.get(open.saturating_sub(LOOK)..open)?;
    let rest = text.get(open + 1..)?;
    let length = memchr::memchr(b'`', rest.get(..LOOK).unwrap_or(rest))?;
    let (code, tail) = (rest.get(..length)?, rest.get(length + 1..)?);
    let tail = tail.get(..LOOK).unwrap_or(tail);
    let is_inner = |byte: &u8| !byte.is_ascii_whitespace() && !b"+-*/;,|&^%?:!~".contains(byte);
    let is_outer = |byte: Option<&u8>, marks: &[u8]| {
        byte.is_none_or(|byte| byte.is_ascii_whitespace() || marks.contains(byte))
    };
    let is_set_off = code.first().is_some_and(is_inner)
        && code.last().is_some_and(is_inner)
        && is_outer(head.last(), b"([*")
        && is_outer(tail.first(), b",.:;)]*?");
    let is_told = || words(head) + words(tail) >= SENTENCE || follows_colon(head);
    (is_set_off && is_told()).then_some(open + 1 + length)
}

/// `Default:` or `**Default:**`
fn follows_colon(head: &[u8]) -> bool {
    let head = head.strip_suffix(b" ").unwrap_or(head);
    head.strip_suffix(b"**").unwrap_or(head).ends_with(b":")
}

/// How many words of letters stand between blanks, whatever punctuation is at them.
fn words(text: &[u8]) -> usize {
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic();
    let words = text.split(u8::is_ascii_whitespace);
    words
        .filter(|word| {
            let from = word.iter().position(is_letter).unwrap_or(0);
            let end = word.iter().rposition(is_letter).map_or(0, |last| last + 1);
            let letters = word.get(from..end).unwrap_or(&[]);
            letters.len() > 1 && letters.iter().all(is_letter)
        })
        .count()
}

/// Whether the back-tick at `last` is the last of a fence, behind which only the name of a language stands on the line,
/// and what is set for it (`bash title="x"`).
pub fn opens_fence(text: &[u8], last: usize) -> bool {
    let head = text.get(..last).unwrap_or(&[]);
    let Some(before) = head.strip_suffix(b"``") else {
        return false;
    };
    let rest = text.get(last + 1..).unwrap_or(&[]);
    let rest = rest.get(..LOOK).unwrap_or(rest);
    let Some(end) = memchr::memchr(b'\n', rest) else {
        return false;
    };
    let line = rest.get(..end).unwrap_or(&[]).trim_ascii_end();
    let mut words = line.split(|byte| *byte == b' ');
    let is_name = |word: &[u8]| word.iter().all(u8::is_ascii_alphanumeric);
    matches!(before.last(), None | Some(b'\n'))
        && words.next().is_some_and(is_name)
        && words.all(|word| word.contains(&b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_set_off_by_blanks_and_punctuation_in_a_sentence() {
        for (text, end) in [
            ("use `ls -l` to see", Some(10)),
            ("`type` says what it is", Some(5)),
            ("Take `type`, `name`", Some(10)),
            ("*the `id`*: of what", Some(8)),
            ("see (`id`) for it", Some(8)),
            ("Default: `true`", Some(14)),
            ("**Default:** `true`", Some(18)),
            // No sentence, no blanks, no code at the ticks.
            ("`id`", None),
            ("x `id`", None),
            ("use x`id` to see", None),
            ("use `id`x to see", None),
            ("`-alert(1)-` and so on", None),
            ("use ` id` to see", None),
            ("use `` to see", None),
            ("use `id to see", None),
        ] {
            let open = text.find('`').unwrap_or(0);
            assert_eq!(code_in_sentence(text.as_bytes(), open), end, "{text}");
        }
    }

    #[test]
    fn a_fence_begins_a_line_and_names_a_language() {
        for (text, opens) in [
            ("```bash\nid", true),
            ("x\n```\r\nid", true),
            ("```sh title=\"x\"\nid", true),
            ("```bash -c id\n", false),
            ("```id```", false),
            ("x ```sh\nid", false),
            ("``\nid", false),
        ] {
            let last = text.find("``").map_or(0, |first| first + 2);
            assert_eq!(opens_fence(text.as_bytes(), last), opens, "{text}");
        }
    }
}
