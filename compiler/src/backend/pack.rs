//! Packs a ruleset, as `portcullis::ruleset::packed` documents, for a program that it is built into.

use miniz_oxide::deflate::compress_to_vec;
use portcullis::dfa::{EXCEPTION_BYTES, FIRST_STATE, HEADER_BYTES, STATE_BYTES};
use portcullis::limits;
use portcullis::ruleset::RuleSet;
use portcullis::ruleset::layout::{
    self, CidrRecord, CorrelationRecord, GramEntryRecord, Index, KeyRecord, LaneRecord,
    ListenerRecord, LiteralRecord, MatcherRecord, NodeRecord, Op, Reader, Record, RuleRecord, Run,
    Section,
};
use portcullis::ruleset::packed::{MORE, MORE_THAN_END, NEXT_STATE, NO_GRAM, PLAIN, unpack};

/// Effort with which is found out what takes fewer bytes: the most there is.
const LEVEL: u8 = 10;

/// A ruleset that the compiler wrote, packed. The reason where that cannot be done: it has over [`limits::UNPACKED_BYTES`].
pub fn pack(ruleset: &[u8]) -> Result<Vec<u8>, String> {
    let rules = RuleSet::open(ruleset.to_vec()).map_err(|error| error.to_string())?;
    let out = packed(ruleset, &rules).filter(|packed| unpack(packed).as_deref() == Ok(ruleset));
    out.ok_or_else(|| {
        format!(
            "a ruleset of {} bytes cannot be packed: the most are {}",
            ruleset.len(),
            limits::UNPACKED_BYTES
        )
    })
}

fn packed(ruleset: &[u8], rules: &RuleSet) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let sum = ruleset.get(layout::FRAME_BYTES - u64::BYTES..layout::FRAME_BYTES)?;
    out.extend(sum);
    for section in Section::ALL {
        u32::try_from(rules.section(section).len())
            .ok()?
            .write(&mut out);
    }
    let mut stream = |bytes: &[u8]| -> Option<()> {
        u32::try_from(bytes.len()).ok()?.write(&mut out);
        let options = zopfli::Options::default();
        zopfli::compress(options, zopfli::Format::Deflate, bytes, &mut out).ok()
    };
    for section in Section::ALL {
        match section {
            Section::Bitmaps | Section::Grams | Section::GramEntries => {}
            Section::Dfas => {
                for bytes in automata(rules)? {
                    stream(&bytes)?;
                }
            }
            _ => stream(&columns(rules.section(section), &widths(section))?)?,
        }
    }
    stream(&before(rules)?)?;
    Some(layout::packed(out))
}

/// The bytes of each number in a record of a section.
fn widths(section: Section) -> Vec<usize> {
    let mut out = Vec::new();
    match section {
        Section::Text | Section::Dfas | Section::Bitmaps => u8::widths(&mut out),
        Section::Rules => RuleRecord::widths(&mut out),
        Section::Nodes => NodeRecord::widths(&mut out),
        Section::Matchers => MatcherRecord::widths(&mut out),
        Section::Literals => LiteralRecord::widths(&mut out),
        Section::MatcherLiterals => Index::widths(&mut out),
        Section::Cidrs => CidrRecord::widths(&mut out),
        Section::Lanes => LaneRecord::widths(&mut out),
        Section::GramEntries => GramEntryRecord::widths(&mut out),
        Section::GateRuns => Run::widths(&mut out),
        Section::Correlations => CorrelationRecord::widths(&mut out),
        Section::Listeners => ListenerRecord::widths(&mut out),
        Section::Keys => KeyRecord::widths(&mut out),
        Section::Postings
        | Section::Grams
        | Section::ClassGates
        | Section::Always
        | Section::Answers => u32::widths(&mut out),
    }
    out
}

/// A section by columns, each told in the way that takes the fewest bytes.
fn columns(section: &[u8], widths: &[usize]) -> Option<Vec<u8>> {
    let stride = widths.iter().sum();
    let mut out = vec![u8::try_from(widths.len()).ok()?];
    let mut columns = Vec::new();
    let mut at = 0;
    for (number, width) in widths.iter().enumerate() {
        let of = |at: usize, width: usize| -> Vec<u64> {
            let records = section.chunks_exact(stride);
            let numbers = records.map(|record| number_of(record.get(at..at + width)));
            numbers.collect()
        };
        let plain = of(at, *width);
        let behind = match widths.get(number + 1) {
            Some(behind) => of(at + width, *behind),
            None => vec![0; plain.len()],
        };
        let before = |end: bool| {
            let all = plain.iter().zip(&behind);
            std::iter::once(0).chain(all.map(move |(own, behind)| match end {
                true => own.wrapping_add(*behind),
                false => *own,
            }))
        };
        let planes = |before: &mut dyn Iterator<Item = u64>| -> Vec<u8> {
            let more: Vec<u64> = (plain.iter().zip(before))
                .map(|(own, before)| own.wrapping_sub(before))
                .collect();
            let plane = |plane: usize| more.iter().map(move |more| (more >> (plane * 8)) as u8);
            (0..*width).flat_map(plane).collect()
        };
        let ways = [
            (PLAIN, planes(&mut std::iter::repeat(0))),
            (MORE, planes(&mut before(false))),
            (MORE_THAN_END, planes(&mut before(true))),
        ];
        let (told, best) = ways
            .into_iter()
            .min_by_key(|(_, planes)| compress_to_vec(planes, LEVEL).len())?;
        out.extend([u8::try_from(*width).ok()?, told]);
        columns.extend(best);
        at += width;
    }
    out.append(&mut columns);
    Some(out)
}

fn number_of(bytes: Option<&[u8]>) -> u64 {
    let bytes = bytes.unwrap_or_default().iter().rev();
    bytes.fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Of each literal that is scanned for the bytes before its gram.
fn before(rules: &RuleSet) -> Option<Vec<u8>> {
    let mut known = vec![NO_GRAM; rules.literal_count()];
    let entries = rules.section(Section::GramEntries);
    for entry in entries.chunks_exact(GramEntryRecord::BYTES) {
        let entry = GramEntryRecord::read(&mut Reader(entry))?;
        *known.get_mut(entry.literal.0 as usize)? = entry.before;
    }
    let scanned = (0..).zip(known).filter_map(|(number, before)| {
        let literal = rules.literal(number)?;
        literal.is_scanned().then_some(before)
    });
    let (low, high): (Vec<u8>, Vec<u8>) = scanned.map(split).unzip();
    Some([low, high].concat())
}

fn split(number: u16) -> (u8, u8) {
    let [low, high] = number.to_le_bytes();
    (low, high)
}

/// The streams of the section of automata.
fn automata(rules: &RuleSet) -> Option<[Vec<u8>; 9]> {
    let section = rules.section(Section::Dfas);
    let matchers = rules.section(Section::Matchers).len() / MatcherRecord::BYTES;
    let mut runs = Vec::new();
    for matcher in 0..u32::try_from(matchers).ok()? {
        let matcher = rules.matcher(matcher)?;
        if matcher.op == Op::Regex as u8 {
            runs.push((
                matcher.operand.first as usize,
                matcher.operand.count as usize,
            ));
        }
    }
    runs.sort_unstable();
    runs.dedup();
    let mut streams = [const { Vec::new() }; 9];
    let mut end = 0;
    for (start, bytes) in runs {
        if start != end {
            return None;
        }
        end = start + bytes;
        automaton(section.get(start..end)?, &mut streams)?;
    }
    (end == section.len()).then_some(streams)
}

/// Adds one automaton to the streams.
fn automaton(table: &[u8], streams: &mut [Vec<u8>; 9]) -> Option<()> {
    let [
        heads,
        class_of,
        row_low,
        row_high,
        row_of,
        counts,
        classes,
        low,
        high,
    ] = streams;
    let (head, rest) = table.split_at_checked(HEADER_BYTES)?;
    let (own_classes, rest) = rest.split_at_checked(256)?;
    let [c0, c1, s0, s1, row_count, _] = *head.first_chunk::<HEADER_BYTES>()?;
    let entries = usize::from(u16::from_le_bytes([c0, c1])) * usize::from(row_count);
    let (rows, mut states) = rest.split_at_checked(entries * 2)?;
    // The place of each state by its number.
    let mut places: Vec<(u16, u16)> = (0..FIRST_STATE).map(|number| (number, number)).collect();
    let mut records = Vec::new();
    let mut number = FIRST_STATE;
    while let Some((&[row, count], rest)) = states.split_first_chunk::<STATE_BYTES>() {
        let (exceptions, rest) = rest.split_at_checked(usize::from(count) * EXCEPTION_BYTES)?;
        places.push((number, u16::try_from(places.len()).ok()?));
        number = number.wrapping_add(u16::try_from(STATE_BYTES + exceptions.len()).ok()?);
        records.push((row, count, exceptions));
        states = rest;
    }
    let place = |number: u16| {
        let found = places.binary_search_by_key(&number, |(number, _)| *number);
        Some(places.get(found.ok()?)?.1)
    };
    let mut is_led_to = vec![false; places.len() + 1];
    is_led_to
        .iter_mut()
        .take(FIRST_STATE.into())
        .for_each(|led| *led = true);
    let start = place(u16::from_le_bytes([s0, s1]))?;
    *is_led_to.get_mut(usize::from(start))? = true;
    heads.extend([c0, c1]);
    heads.extend(start.to_le_bytes());
    heads.extend(u16::try_from(records.len()).ok()?.to_le_bytes());
    heads.push(row_count);
    let mut last = 0_u8;
    for class in own_classes {
        class_of.push(class.wrapping_sub(last));
        last = *class;
    }
    let mut last = 0_u16;
    for entry in rows.as_chunks::<2>().0 {
        let place = place(u16::from_le_bytes(*entry))?;
        *is_led_to.get_mut(usize::from(place))? = true;
        let (more_low, more_high) = split(place.wrapping_sub(last));
        row_low.push(more_low);
        row_high.push(more_high);
        last = place;
    }
    for (row, count, exceptions) in records {
        row_of.push(row);
        counts.push(count);
        let mut last = 0_u8;
        for [class, next_low, next_high] in exceptions.as_chunks::<EXCEPTION_BYTES>().0 {
            classes.push(class.wrapping_sub(last));
            last = *class;
            let place = place(u16::from_le_bytes([*next_low, *next_high]))?;
            let next = is_led_to.iter().position(|led| !led)?;
            let (own_low, own_high) = split(match usize::from(place) {
                own if own == next => NEXT_STATE,
                _ => place + u16::from(place >= NEXT_STATE),
            });
            *is_led_to.get_mut(usize::from(place))? = true;
            low.push(own_low);
            high.push(own_high);
        }
    }
    Some(())
}
