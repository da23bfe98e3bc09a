//! Captures go in, inspected records come out in the order of the captures.
//!
//! One thread reads. With one detector it inspects as well; with more, batches of records go to a
//! thread each and come back to be put in order again. Records travel in circles, so that memory
//! is taken once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::detector::{Detector, Verdict};
use crate::capture::{Format, Malformed, OpenError, Reader, Record};
use crate::report::Alert;

/// Records of one batch: few enough to stay in a cache, enough to pay for the way to a thread.
const BATCH_RECORDS: usize = 256;
/// Bytes of one batch, so that captures of huge records do not take the memory of 256 of them.
const BATCH_BYTES: usize = 4 << 20;

/// One place in a capture, and what came of it.
#[derive(Debug, Default)]
pub struct Item {
    /// The record; of no use if it is malformed.
    pub record: Record,
    /// Why there is no record.
    pub malformed: Option<Malformed>,
    /// What the detector did.
    pub verdict: Verdict,
    /// What it raised.
    pub alerts: Vec<Alert>,
}

impl Item {
    fn inspect(&mut self, detector: &mut dyn Detector) {
        self.alerts.clear();
        if self.malformed.is_none() {
            self.verdict = detector.inspect(&self.record, &mut self.alerts);
        }
    }
}

/// Where inspected records go.
pub trait Sink {
    /// The next item. An error ends everything.
    fn item(&mut self, item: &Item) -> Result<()>;
    /// A capture could not be read at all.
    fn unread(&mut self, error: OpenError) -> Result<()>;
    /// Reading has got this far in `file`; the part is not known of a pipe.
    fn progress(&mut self, _file: &str, _part: Option<f64>) {}
    /// Whether it wants to know where the time goes, which takes some itself.
    fn is_timed(&self) -> bool {
        false
    }
    /// Where the time went, once all is done and if it wanted to know.
    fn spent(&mut self, _spent: Spent) {}
}

/// Where the time went, that of all threads together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Reading and parsing captures.
    pub reading: Duration,
    /// Taking records through the detectors.
    pub inspecting: Duration,
    /// How much of that was spent in the filter itself, if there is a host around it.
    pub detecting: Option<Duration>,
    /// Counting and writing what came out.
    pub writing: Duration,
}

/// Measures one thing after the other, or nothing.
struct Watch(Option<Instant>);

impl Watch {
    fn start(is_timed: bool) -> Watch {
        Watch(is_timed.then(Instant::now))
    }

    /// Adds the time since the last call.
    fn add_to(&mut self, spent: &mut Duration) {
        if let Some(since) = &mut self.0 {
            let now = Instant::now();
            *spent += now - *since;
            *since = now;
        }
    }
}

/// Reads captures one after the other.
struct Source<'a> {
    paths: std::slice::Iter<'a, PathBuf>,
    format: Option<Format>,
    reader: Option<Reader>,
}

impl Source<'_> {
    /// Reads the next item; `false` after the last one.
    fn read(&mut self, item: &mut Item, sink: &mut impl Sink) -> Result<bool> {
        loop {
            let Some(reader) = &mut self.reader else {
                let Some(path) = self.paths.next() else {
                    return Ok(false);
                };
                match Reader::open(path, self.format) {
                    Ok(reader) => self.reader = Some(reader),
                    Err(error) => sink.unread(error)?,
                }
                continue;
            };
            match reader.read(&mut item.record) {
                None => self.reader = None,
                Some(read) => {
                    item.malformed = read.err();
                    return Ok(true);
                }
            }
        }
    }

    fn tell_progress(&self, sink: &mut impl Sink) {
        if let Some(reader) = &self.reader {
            let part = reader
                .total_bytes()
                .map(|total| reader.consumed_bytes() as f64 / total.max(1) as f64);
            sink.progress(reader.name(), part);
        }
    }
}

/// Takes every record of the captures through the detectors, each of which gets a thread if there
/// are several.
pub fn drive(
    paths: &[PathBuf],
    format: Option<Format>,
    mut detectors: Vec<Box<dyn Detector + Send + '_>>,
    sink: &mut impl Sink,
) -> Result<()> {
    let mut source = Source {
        paths: paths.iter(),
        format,
        reader: None,
    };
    if detectors.len() > 1 {
        return drive_threads(&mut source, detectors, sink);
    }
    let Some(detector) = detectors.first_mut() else {
        bail!("there is no detector")
    };
    let mut item = Item::default();
    let mut count = 0_u32;
    let mut spent = Spent::default();
    let mut watch = Watch::start(sink.is_timed());
    while source.read(&mut item, sink)? {
        watch.add_to(&mut spent.reading);
        item.inspect(detector.as_mut());
        watch.add_to(&mut spent.inspecting);
        sink.item(&item)?;
        count = count.wrapping_add(1);
        if count.is_multiple_of(64) {
            source.tell_progress(sink);
        }
        watch.add_to(&mut spent.writing);
    }
    spent.detecting = detector.detecting();
    sink.spent(spent);
    Ok(())
}

#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    /// How many of the items are of this batch; the rest is memory to use again.
    len: usize,
    /// How long its records took in the detector, and how much of that in the filter itself.
    inspecting: Duration,
    detecting: Option<Duration>,
}

impl Batch {
    fn fill(&mut self, source: &mut Source<'_>, sink: &mut impl Sink) -> Result<()> {
        self.len = 0;
        let mut bytes = 0;
        while self.len < BATCH_RECORDS && bytes < BATCH_BYTES {
            if self.len == self.items.len() {
                self.items.push(Item::default());
            }
            let Some(item) = self.items.get_mut(self.len) else {
                break;
            };
            if !source.read(item, sink)? {
                break;
            }
            bytes += item.record.size_bytes();
            self.len += 1;
        }
        Ok(())
    }
}

fn drive_threads(
    source: &mut Source<'_>,
    detectors: Vec<Box<dyn Detector + Send + '_>>,
    sink: &mut impl Sink,
) -> Result<()> {
    let max_under_way = detectors.len() * 3;
    let (to_do, taken) = channel::<(usize, Batch)>();
    let taken = Mutex::new(taken);
    let (done, finished) = channel::<(usize, Batch)>();
    let is_timed = sink.is_timed();
    std::thread::scope(|scope| {
        for mut detector in detectors {
            let (taken, done) = (&taken, done.clone());
            scope.spawn(move || {
                loop {
                    let next = taken.lock().ok().and_then(|taken| taken.recv().ok());
                    let Some((number, mut batch)) = next else {
                        return;
                    };
                    let mut watch = Watch::start(is_timed);
                    let before = detector.detecting();
                    for item in batch.items.iter_mut().take(batch.len) {
                        item.inspect(detector.as_mut());
                    }
                    batch.inspecting = Duration::ZERO;
                    watch.add_to(&mut batch.inspecting);
                    let detecting = detector.detecting().zip(before);
                    batch.detecting = detecting.map(|(now, before)| now - before);
                    if done.send((number, batch)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        // The sender must go when this ends, by an error too, or the threads wait for ever.
        let to_do = to_do;
        let mut waiting = BTreeMap::new();
        let mut spare: Vec<Batch> = Vec::new();
        let (mut next_in, mut next_out, mut is_read) = (0, 0, false);
        let mut spent = Spent::default();
        loop {
            let mut watch = Watch::start(is_timed);
            while !is_read && next_in - next_out < max_under_way {
                let mut batch = spare.pop().unwrap_or_default();
                batch.fill(source, sink)?;
                source.tell_progress(sink);
                is_read = batch.len == 0;
                if !is_read {
                    to_do
                        .send((next_in, batch))
                        .map_err(|_| anyhow!("every inspecting thread has died"))?;
                    next_in += 1;
                }
            }
            watch.add_to(&mut spent.reading);
            if next_out == next_in {
                sink.spent(spent);
                return Ok(());
            }
            let batch: Batch = loop {
                if let Some(batch) = waiting.remove(&next_out) {
                    break batch;
                }
                let (number, batch) = finished.recv().context("an inspecting thread has died")?;
                waiting.insert(number, batch);
            };
            next_out += 1;
            // Waiting for a detector is nobody's time.
            let mut watch = Watch::start(is_timed);
            for item in batch.items.iter().take(batch.len) {
                sink.item(item)?;
            }
            watch.add_to(&mut spent.writing);
            spent.inspecting += batch.inspecting;
            spent.detecting = match (spent.detecting, batch.detecting) {
                (all, None) => all,
                (all, Some(more)) => Some(all.unwrap_or_default() + more),
            };
            spare.push(batch);
        }
    })
}
