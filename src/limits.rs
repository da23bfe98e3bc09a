//! Every cap of the engine, with its unit and what happens past it.
//!
//! A request that runs into a cap is still inspected up to it, and the inspection says so
//! (`truncated`): nothing is cut silently.

/// Times a value is percent-decoded, at most. Three layers is one more than any known double
/// decoder in the field; what is still encoded then is matched as it is.
pub const DECODE_ROUNDS: usize = 3;

/// Bytes of one field that are inspected. Envoy's own default for all headers together is 60 KiB.
pub const FIELD_BYTES: usize = 64 * 1024;

/// Query parameters (or cookies) that are told apart. The rest stays one last value, so that
/// it is still inspected, but under the last name.
///
/// PHP, Node's `qs`, Django and ASP.NET read 1,000.
pub const NAMED_VALUES: usize = 1024;

/// Headers that are looked at, in the order of the request.
pub const HEADERS: usize = 1024;

/// Bytes of evidence that an alert carries for one match.
pub const EVIDENCE_BYTES: usize = 160;

/// Bytes of the request target that an alert carries.
pub const ALERT_TARGET_BYTES: usize = 512;

/// Steps that the questions about one event may take in texts of up to [`SHORT_TEXT`] bytes. A step is about eight
/// instructions of a processor: reading a byte and a look at a table ([`Steps`](crate::structure::Steps)). The dearest
/// captured request takes 145,000.
pub const SHORT_WORK: u32 = 5 << 17;

/// The same in longer texts. An ordinary query of 16 KiB takes 1.3 million.
pub const LONG_WORK: u32 = 3 << 19;

/// The same in a body, which has long texts by its nature: 48 a byte of 64 KiB. Program code takes up to 80 a byte, so that
/// of 40 KiB of it in one value not all may be asked about.
pub const BODY_WORK: u32 = 3 << 20;

/// Bytes of a text that counts as short.
pub const SHORT_TEXT: usize = 4 * 1024;

/// Nesting of a rule's condition. A deeper one is refused by the compiler and by the reader.
pub const CONDITION_DEPTH: usize = 64;

/// Bytes of literal text that one rule value may have.
pub const LITERAL_BYTES: usize = 4096;

/// Bytes of one compiled regular expression. A larger one is refused by the compiler.
pub const DFA_BYTES: usize = 64 * 1024;

/// Bytes of a ruleset that can be packed into a program. A larger one is refused by the compiler and by the reader.
pub const UNPACKED_BYTES: usize = 16 << 20;

/// User-Agents and Referers that an inspector remembers as harmless, so as not to look again. When
/// there are more, later ones take the places of earlier ones.
pub const REMEMBERED_TEXTS: usize = 1024;

/// Bytes of the longest text that is remembered. A longer one is looked at every time.
pub const REMEMBERED_BYTES: usize = 512;

/// Request targets that an inspector remembers in the same way, apart from the others: there are many more of them, and
/// they must not push out the few hundred User-Agents of a day.
pub const REMEMBERED_TARGETS: usize = 1024;

/// Bytes of the longest target that is remembered. Longer ones hardly ever come twice.
pub const REMEMBERED_TARGET_BYTES: usize = 256;

/// Injected command lines of one request that are held against the rules for processes. Two ways to
/// write one command are one line; more lines are an attacker's noise around the ones that count.
pub const INJECTED_COMMANDS: usize = 16;

/// Requests that wait for their responses in one worker, since a rule about the status left them open. When there are
/// more, the oldest is not asked about again, and counted as such.
pub const AWAITING_REQUESTS: usize = 4096;

/// Bytes of all bodies together that are kept of such requests; what is more is not kept, and counted as such.
pub const AWAITING_BODY_BYTES: usize = 4 << 20;

/// Entries of a configuration's route table. They are gone through one by one, but only for a request that
/// raised something; a configuration with more is refused.
pub const ROUTES: usize = 1024;

/// Different settings in route metadata that are kept parsed. When there are more, all are parsed anew.
pub const LIVE_SETTINGS: usize = 256;

/// Bytes of settings in route metadata. Longer ones are refused.
pub const LIVE_SETTINGS_BYTES: usize = 16 * 1024;

/// Slots in which the groups of correlations (a correlation and its `group-by` values) are kept; which one follows from
/// a hash of the group.
pub const CORRELATION_SLOTS: u32 = 1024;

/// Groups in one slot, so 16,384 in all. When there are more, those give way whose window is over, then those with the
/// smallest count, then the oldest; when places change hands fast, not every new group gets one, and what is not counted
/// for that is counted itself.
pub const CORRELATION_WAYS: usize = 16;

/// Bytes of one slot, so 8 MiB in all. A group has 48 bytes and 16 for each entry; groups that have no room give way as
/// above.
pub const CORRELATION_SLOT_BYTES: usize = 8 * 1024;

/// Slots in which incidents are kept, each of the same size: another 2 MiB. An incident that gives way begins anew, so that there
/// are more alerts then and never fewer.
pub const INCIDENT_SLOTS: u32 = 256;

/// Entries of one group: events, distinct values or rules within the window. Of more events those are merged that lie
/// within one part of [`CORRELATION_PARTS`]; of more values one in two, in four, in eight … is kept, and the count is an
/// estimate with a standard error of about a sixth.
pub const CORRELATION_ENTRIES: usize = 64;

/// Parts of a timespan to which the time of an event is kept once a group has more events than
/// [`CORRELATION_ENTRIES`]: such an event counts up to one part too long.
pub const CORRELATION_PARTS: u64 = 32;

/// Rules that one `temporal` or `temporal_ordered` correlation is about; more are refused by the compiler. Ordered ones
/// need two entries for a rule.
pub const CORRELATION_RULES: usize = CORRELATION_ENTRIES / 2;

/// Bytes of a body that are inflated, however many there would be. The rest is not looked at; `truncated`.
pub const INFLATED_BYTES: usize = FIELD_BYTES;
