//! Ordinary bodies of 64 KiB, the same in every run: what the worst of their kind is held against.
//!
//! A form with many short fields and one long text, orders as JSON and as XML, and an upload of a table.

use portcullis_compiler::synthetic::Words;

/// Writes bodies until they are long enough.
pub struct Ordinary {
    words: Words,
    bytes: usize,
}

impl Ordinary {
    /// Bodies of about `bytes` bytes, and no more.
    pub fn new(bytes: usize) -> Ordinary {
        Ordinary {
            words: Words::new(0x1234_5678_9abc_def1),
            bytes,
        }
    }

    /// As a browser sends a page of fields and a text area of half the size.
    pub fn form(&mut self) -> Vec<u8> {
        let text = encoded(&self.prose(self.bytes / 3));
        let mut body = format!("title={}&text={text}", encoded(&self.sentence()));
        for n in 0.. {
            let (name, mail) = (self.words.word(), self.words.word());
            let line = format!(
                "&item%5B{n}%5D%5Bname%5D={name}&item%5B{n}%5D%5Bamount%5D={}&item%5B{n}%5D%5Bmail%5D={mail}%40example.com&item%5B{n}%5D%5Bnote%5D={}",
                self.words.next(90) + 1,
                encoded(&self.sentence()),
            );
            if body.len() + line.len() > self.bytes {
                break;
            }
            body.push_str(&line);
        }
        body.into_bytes()
    }

    /// A list of orders, written with white space as libraries write it for people.
    pub fn json(&mut self) -> Vec<u8> {
        let order = |n: usize, words: &[String; 3], price: usize, note: &str| {
            format!(
                "  {{\n    \"id\": {n},\n    \"name\": \"{} {}\",\n    \"mail\": \"{}@example.com\",\n    \"price\": {price}.50,\n    \"at\": \"2026-11-{:02}T10:{:02}:00Z\",\n    \"note\": \"{note}\"\n  }}",
                words[0],
                words[1],
                words[2],
                n % 28 + 1,
                n % 60
            )
        };
        self.list("[\n", ",\n", "\n]\n", order)
    }

    /// The same orders as elements.
    pub fn xml(&mut self) -> Vec<u8> {
        let order = |n: usize, words: &[String; 3], price: usize, note: &str| {
            format!(
                "  <order id=\"{n}\">\n    <name>{} {}</name>\n    <mail>{}@example.com</mail>\n    <price currency=\"EUR\">{price}.50</price>\n    <note>{note}</note>\n  </order>",
                words[0], words[1], words[2]
            )
        };
        let start = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<orders>\n";
        self.list(start, "\n", "\n</orders>\n", order)
    }

    /// A table with commas as an uploaded file, between marks of `b`.
    pub fn upload(&mut self) -> Vec<u8> {
        let order = |n: usize, words: &[String; 3], price: usize, note: &str| {
            format!(
                "{n},\"{} {}\",{}@example.com,{price}.50,\"{note}\"",
                words[0], words[1], words[2]
            )
        };
        let start = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"orders.csv\"\r\nContent-Type: text/csv\r\n\r\nid,name,mail,price,note\r\n";
        self.list(start, "\r\n", "\r\n--b--\r\n", order)
    }

    fn list(
        &mut self,
        start: &str,
        between: &str,
        end: &str,
        order: impl Fn(usize, &[String; 3], usize, &str) -> String,
    ) -> Vec<u8> {
        let mut body = start.to_owned();
        for n in 1.. {
            let words = std::array::from_fn(|_| self.words.word());
            let price = self.words.next(500);
            let order = order(n, &words, price, &self.sentence());
            if body.len() + between.len() + order.len() + end.len() > self.bytes {
                break;
            }
            if n > 1 {
                body.push_str(between);
            }
            body.push_str(&order);
        }
        body.push_str(end);
        body.into_bytes()
    }

    fn sentence(&mut self) -> String {
        let words: Vec<String> = (0..6 + self.words.next(9))
            .map(|_| self.words.word())
            .collect();
        let comma = words.len() / 2;
        let (before, after) = words.split_at(comma);
        format!("{}, {}.", before.join(" "), after.join(" "))
    }

    fn prose(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes {
            text.push_str(&self.sentence());
            text.push_str(if self.words.next(5) == 0 { "\r\n" } else { " " });
        }
        text
    }
}

/// As browsers write a field of a form.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_as_long_as_they_should_be() {
        let make: [fn(&mut Ordinary) -> Vec<u8>; 4] = [
            Ordinary::form,
            Ordinary::json,
            Ordinary::xml,
            Ordinary::upload,
        ];
        for make in make {
            let body = make(&mut Ordinary::new(10_000));
            assert!((9_500..=10_000).contains(&body.len()), "{}", body.len());
        }
    }
}
