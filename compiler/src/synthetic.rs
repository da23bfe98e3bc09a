//! Rules that nobody wrote, for measuring what many rules cost.

/// Rules that look like real ones: a path at its end, a tool in the User-Agent, a parameter with a value, words in the query,
/// an expression, a spam host, with an exception now and then. No text of one is that of another.
pub fn rules(count: usize) -> String {
    let mut words = Words::new(0x2545_f491_4f6c_dd1d);
    let mut out = String::new();
    for n in 0..count {
        let (a, b, c) = (words.word(), words.word(), words.word());
        let detection = match n % 8 {
            0 | 1 => format!(
                "selection:\n    cs-uri-stem|endswith:\n      - /{a}/{b}.php\n      - /{b}-{c}.zip\n  condition: selection"
            ),
            2 => format!(
                "selection:\n    cs-user-agent|contains:\n      - {a}-{b}/\n      - {c} scanner\n  condition: selection"
            ),
            3 => format!(
                "selection:\n    cs-uri-stem|contains: /plugins/{a}-{b}/\n    cs-uri-query|contains: {c}=\n  condition: selection"
            ),
            4 => format!(
                "selection:\n    cs-uri-query|contains|all:\n      - {a}_{b}(\n      - {c}\n  condition: selection"
            ),
            5 => format!(
                "selection:\n    cs-uri-query|re: '(?i){a}{b}\\s*\\([^)]{{0,20}}{c}'\n  condition: selection"
            ),
            6 => format!(
                "selection:\n    cs-referer|contains:\n      - {a}-{b}.example\n      - {b}{c}.test\n  condition: selection"
            ),
            _ => format!(
                "selection:\n    cs-uri|contains: /{a}/v{n}/{b}\n  filter:\n    cs-user-agent|contains: {c}bot\n  condition: selection and not filter"
            ),
        };
        out.push_str(&format!(
            "title: Synthetic rule {n} about {a}\nid: 00000000-0000-4000-8000-{n:012x}\nstatus: experimental\nlogsource:\n  category: webserver\ndetection:\n  {detection}\nlevel: low\n---\n"
        ));
    }
    out.truncate(out.trim_end_matches("---\n").len());
    out
}

/// Words of syllables, which have the grams of real ones.
pub struct Words(u64);

impl Words {
    /// The same words for the same seed, which is not 0.
    pub fn new(seed: u64) -> Words {
        Words(seed)
    }

    /// A number below `below`, which is not 0.
    pub fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % below
    }

    /// A word.
    pub fn word(&mut self) -> String {
        const START: [&str; 20] = [
            "b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "ch",
            "pr", "w", "k", "sh",
        ];
        const MIDDLE: [&str; 8] = ["a", "e", "i", "o", "u", "ea", "io", "ou"];
        const END: [&str; 10] = ["", "n", "r", "s", "t", "l", "m", "ck", "nd", "x"];
        let mut word = String::new();
        for _ in 0..2 + self.next(2) {
            for part in [&START[..], &MIDDLE, &END] {
                let at = self.next(part.len());
                word.push_str(part.get(at).copied().unwrap_or_default());
            }
        }
        word
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn they_compile_and_none_is_without_an_anchor() {
        let parsed = crate::parse("synthetic.yml", rules(64), &crate::Options::default());
        assert_eq!(parsed.errors().count(), 0);
        assert_eq!(parsed.documents.len(), 64);
        assert!(
            crate::backend::compile(&parsed.documents)
                .unwrap()
                .warnings
                .is_empty()
        );
    }
}
