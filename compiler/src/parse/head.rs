//! What every document may carry: title, id, level, tags and so on.

use std::rc::Rc;

use super::{Context, cases};
use crate::ast::{Head, Level, Related, Status};
use crate::diagnostic::short;
use crate::nearest::suggest;
use crate::source::Spanned;
use crate::yaml::Node;

/// Keys that Sigma knows at the top of a document, and ours.
const KEYS: [&str; 26] = [
    "title",
    "id",
    "name",
    "taxonomy",
    "related",
    "status",
    "description",
    "license",
    "author",
    "references",
    "date",
    "modified",
    "tags",
    "level",
    "scope",
    "logsource",
    "detection",
    "fields",
    "falsepositives",
    "correlation",
    "generate",
    "filter",
    "action",
    "custom_attributes",
    "sigma-version",
    cases::KEY,
];

const STATUSES: [(&str, Status); 5] = [
    ("stable", Status::Stable),
    ("test", Status::Test),
    ("experimental", Status::Experimental),
    ("deprecated", Status::Deprecated),
    ("unsupported", Status::Unsupported),
];

const LEVELS: [(&str, Level); 5] = [
    ("informational", Level::Informational),
    ("low", Level::Low),
    ("medium", Level::Medium),
    ("high", Level::High),
    ("critical", Level::Critical),
];

/// Reads the head. `None` without a title.
pub fn read(context: &mut Context<'_>, node: &Rc<Node>, process: bool) -> Option<Head> {
    context.near_keys(node, &KEYS);
    let title = match node.get("title") {
        Some(title) => context.spanned(title, "`title`"),
        None => {
            context.report.error(
                "missing-key",
                node.span,
                "the document has no `title`",
                "write `title: …` with a few words",
            );
            None
        }
    };
    let id = node.get("id").and_then(|id| uuid(context, id, "`id`"));
    if node.get("id").is_none() {
        let span = title.as_ref().map_or(node.span, |title| title.span);
        context.report.warning(
            "missing-id",
            span,
            "the document has no `id`, so alerts and other documents cannot refer to it",
            "write `id: …` with a new UUID",
        );
    }
    let name = node
        .get("name")
        .and_then(|name| context.spanned(name, "`name`"));
    let status = node
        .get("status")
        .and_then(|status| word(context, status, "status", &STATUSES));
    let level = node
        .get("level")
        .and_then(|level| word(context, level, "level", &LEVELS));
    let plain = |context: &mut Context<'_>, key| {
        node.get(key).and_then(|node| {
            context
                .texts(node, key)
                .into_iter()
                .map(|text| text.value)
                .reduce(|all, one| all + ", " + &one)
        })
    };
    let description = plain(context, "description");
    let author = plain(context, "author");
    let date = node.get("date").and_then(|node| date(context, node));
    let modified = node
        .get("modified")
        .and_then(|node| self::date(context, node));
    let list = |context: &mut Context<'_>, key| {
        node.get(key)
            .map(|node| context.texts(node, &format!("`{key}`")))
            .unwrap_or_default()
    };
    let values = |texts: Vec<Spanned<String>>| texts.into_iter().map(|text| text.value).collect();
    let references = values(list(context, "references"));
    let fields = values(list(context, "fields"));
    let falsepositives = values(list(context, "falsepositives"));
    let tags = list(context, "tags");
    for tag in &tags {
        let well_formed = tag.value.split_once('.').is_some_and(|(namespace, name)| {
            let good = |c: u8| {
                c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_')
            };
            !namespace.is_empty() && !name.is_empty() && tag.value.bytes().all(good)
        });
        if !well_formed {
            let help = match tag.value.to_ascii_lowercase().replace(' ', "-") {
                lower if lower != tag.value && lower.contains('.') => {
                    format!("write `{}`", short(&lower))
                }
                _ => {
                    "write namespace, dot and name in lower case, such as `attack.t1190`".to_owned()
                }
            };
            context.report.warning(
                "tag-shape",
                tag.span,
                format!("`{}` is not a tag", short(&tag.value)),
                help,
            );
        }
    }
    let related = node
        .get("related")
        .map(|node| related(context, node))
        .unwrap_or_default();
    let custom = node
        .get(cases::KEY)
        .map(|node| cases::read(context, node, process))
        .unwrap_or_default();
    Some(Head {
        source: context.report.source.clone(),
        span: node.span,
        title: title?,
        id,
        name,
        status,
        level,
        description,
        author,
        date,
        modified,
        references,
        tags,
        falsepositives,
        related,
        fields,
        custom,
    })
}

/// One of a few words; a warning and nothing for any other.
fn word<T: Copy>(
    context: &mut Context<'_>,
    node: &Node,
    what: &str,
    known: &[(&'static str, T)],
) -> Option<T> {
    let text = context.text(node, &format!("`{what}`"))?;
    let found = known
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let help = suggest(text, names.iter().copied(), || {
            format!("write {}", crate::nearest::list(&names, "or"))
        });
        let code = if what == "level" {
            "unknown-level"
        } else {
            "unknown-status"
        };
        context.report.warning(
            code,
            node.span,
            format!("`{}` is not a {what}", short(text)),
            help,
        );
    }
    found
}

/// A UUID in lower case.
pub fn uuid(context: &mut Context<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let text = context.text(node, what)?;
    if is_uuid(text) {
        return Some(Spanned::new(text.to_ascii_lowercase(), node.span));
    }
    let message = format!("{what} must be a UUID, `{}` is none", short(text));
    let help = "write 32 hexadecimal digits in groups of 8-4-4-4-12; `uuidgen` makes a new one";
    context.report.error("bad-uuid", node.span, message, help);
    None
}

/// Whether the text is a UUID in its usual form.
pub fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A date as YYYY-MM-DD.
fn date(context: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = context.text(node, "a date")?;
    let pieces: Vec<&str> = text.split(['-', '/']).collect();
    let numbers = || pieces.iter().map(|piece| piece.parse::<u16>().unwrap_or(0));
    if pieces.iter().map(|piece| piece.len()).eq([4, 2, 2])
        && pieces
            .iter()
            .all(|piece| piece.bytes().all(|byte| byte.is_ascii_digit()))
        && numbers()
            .zip([1..=9999, 1..=12, 1..=31])
            .all(|(number, range)| range.contains(&number))
    {
        return Some(pieces.join("-"));
    }
    context.report.warning(
        "date-shape",
        node.span,
        format!("`{}` is not a date", short(text)),
        "write it as YYYY-MM-DD",
    );
    None
}

fn related(context: &mut Context<'_>, node: &Rc<Node>) -> Vec<Related> {
    let mut all = Vec::new();
    for item in node.items() {
        let entry = context
            .mapping(item, "an entry of `related`")
            .and_then(|()| {
                let (Some(id), Some(kind)) = (item.get("id"), item.get("type")) else {
                    context.report.error(
                        "missing-key",
                        item.span,
                        "an entry of `related` needs `id` and `type`",
                        "write `- id: …` and `type: derived`",
                    );
                    return None;
                };
                Some(Related {
                    id: uuid(context, id, "`id`")?,
                    kind: context.spanned(kind, "`type`")?,
                })
            });
        all.extend(entry);
    }
    all
}
