//! Bytes of a file or of standard input, inflated if they are gzip'd, with a window to look into.
//!
//! The window grows only as far as the caller's limit, so a file larger than memory is read in
//! the memory of its longest record. Gzip is known by its first two bytes, never by a name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

const WINDOW_BYTES: usize = 64 << 10;

/// A line, without its line feed.
pub(crate) enum Line<'a> {
    Whole(&'a [u8]),
    /// The line was longer than the limit and has been skipped.
    TooLong,
}

pub(crate) struct Input {
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    at_end: bool,
    /// The number of the line that starts, or goes on, at the window's start.
    pub(crate) line: u64,
}

impl Input {
    /// Opens `path`, and says how many bytes it has on disk.
    pub(crate) fn open(path: &Path, consumed: Arc<AtomicU64>) -> io::Result<(Self, Option<u64>)> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "it is a directory",
            ));
        }
        // A pipe or a device has no length to show progress against.
        let total = metadata.is_file().then_some(metadata.len());
        Ok((Self::new(file, consumed)?, total))
    }

    /// Reads from `source`, counting in `consumed` what was taken from it before inflating.
    pub(crate) fn new(
        source: impl Read + Send + 'static,
        consumed: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let mut source = BufReader::with_capacity(WINDOW_BYTES, Counted { source, consumed });
        // A pipe may hand over a single byte at first, so one look into its buffer is not enough.
        let mut magic = Vec::with_capacity(2);
        while magic.len() < 2 {
            let Some(&byte) = source.fill_buf()?.first() else {
                break;
            };
            magic.push(byte);
            source.consume(1);
        }
        let is_gzip = magic == [0x1f, 0x8b];
        let source = Cursor::new(magic).chain(source);
        let source: Box<dyn Read + Send> = if is_gzip {
            Box::new(MultiGzDecoder::new(source))
        } else {
            Box::new(source)
        };
        let mut input = Self {
            source,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            at_end: false,
            line: 1,
        };
        while input.window().len() < 3 && input.fill()? {}
        if input.window().starts_with(b"\xef\xbb\xbf") {
            input.start += 3;
        }
        Ok(input)
    }

    /// What has been read and not yet taken.
    pub(crate) fn window(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads more behind the window; `false` at the end of the input.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        if self.at_end {
            return Ok(false);
        }
        if self.start > 0 && self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer
                .resize((self.buffer.len() * 2).max(WINDOW_BYTES), 0);
        }
        loop {
            match self
                .source
                .read(self.buffer.get_mut(self.end..).unwrap_or_default())
            {
                Ok(0) => {
                    self.at_end = true;
                    return Ok(false);
                }
                Ok(n) => {
                    self.end += n;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.at_end = true;
                    return Err(error);
                }
            }
        }
    }

    /// Takes `n` bytes off the window, counting their lines.
    pub(crate) fn take(&mut self, n: usize) {
        let end = (self.start + n).min(self.end);
        let taken = self.buffer.get(self.start..end).unwrap_or_default();
        self.line += memchr::memchr_iter(b'\n', taken).count() as u64;
        self.start = end;
    }

    /// Fills until the window holds `n` bytes; `false` if the input ends before.
    pub(crate) fn want(&mut self, n: usize) -> io::Result<bool> {
        while self.window().len() < n {
            if !self.fill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes the next line, which may be at most `limit` bytes long.
    pub(crate) fn line(&mut self, limit: usize) -> io::Result<Option<Line<'_>>> {
        let mut searched = 0;
        let mut too_long = false;
        loop {
            if let Some(at) =
                memchr::memchr(b'\n', self.window().get(searched..).unwrap_or_default())
            {
                let (start, len) = (self.start, searched + at);
                self.start += len + 1;
                self.line += 1;
                if too_long || len > limit {
                    return Ok(Some(Line::TooLong));
                }
                return Ok(self.buffer.get(start..start + len).map(Line::Whole));
            }
            searched = self.window().len();
            if searched > limit {
                too_long = true;
                self.start = self.end;
                searched = 0;
            }
            if !self.fill()? {
                let start = self.start;
                self.start = self.end;
                if too_long {
                    return Ok(Some(Line::TooLong));
                }
                return Ok(self
                    .buffer
                    .get(start..self.end)
                    .filter(|line| !line.is_empty())
                    .map(Line::Whole));
            }
        }
    }
}

struct Counted<R> {
    source: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Hands over one byte at a time, as the worst pipe would.
    struct Trickle(Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(1);
            self.0.read(&mut buffer[..n])
        }
    }

    fn lines(text: &[u8], limit: usize, trickle: bool) -> Vec<Option<Vec<u8>>> {
        let cursor = Cursor::new(text.to_vec());
        let count = Arc::default();
        let mut input = if trickle {
            Input::new(Trickle(cursor), count)
        } else {
            Input::new(cursor, count)
        }
        .unwrap();
        let mut out = Vec::new();
        while let Some(line) = input.line(limit).unwrap() {
            out.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong => None,
            });
        }
        out
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let text = b"\xef\xbb\xbfone\n\ntoo long\nfour\xff\nlast";
        let expected = [
            Some(&b"one"[..]),
            Some(b""),
            None,
            Some(b"four\xff"),
            Some(b"last"),
        ];
        for trickle in [false, true] {
            let got = lines(text, 5, trickle);
            assert_eq!(
                got.iter().map(Option::as_deref).collect::<Vec<_>>(),
                expected
            );
        }
    }

    #[test]
    fn a_line_over_the_limit_does_not_stay_in_memory() {
        let mut input = Input::new(io::repeat(b'x').take(64 << 20), Arc::default()).unwrap();
        assert!(matches!(input.line(1 << 20), Ok(Some(Line::TooLong))));
        assert!(input.line(1 << 20).unwrap().is_none());
        assert!(input.buffer.len() <= 4 << 20, "{}", input.buffer.len());
    }
}
