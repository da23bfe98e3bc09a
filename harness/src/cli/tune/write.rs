//! Exclusions as files: a plugin configuration, metadata for a route, Sigma filters.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use portcullis::event::Source;
use portcullis::limits;
use portcullis::ruleset::RuleSet;
use serde_json::{Value, json};

use super::observe::Target;
use super::propose::{Exclusion, What, Where, with_exclusions};

/// Paths that a Sigma filter names.
const FILTER_PATHS: usize = 64;

/// A Sigma filter document, and the name of its file.
pub struct Filter {
    pub file: String,
    pub text: String,
}

/// Sigma filters for those exclusions that one can say without saying more: on given paths, and not for correlations.
pub fn filters(exclusions: &[Exclusion], rules: &RuleSet) -> Vec<Filter> {
    exclusions
        .iter()
        .filter_map(|exclusion| filter(exclusion, rules))
        .collect()
}

fn filter(exclusion: &Exclusion, rules: &RuleSet) -> Option<Filter> {
    let What::Exception { place, target } = &exclusion.what else {
        return None;
    };
    // A prefix would hold for `/shop/../admin` as well: a filter sees the path as it came, too.
    let is_narrow = !matches!(place, Where::Anywhere)
        && exclusion.paths.len() <= FILTER_PATHS
        && exclusion.paths.iter().all(|path| path.starts_with('/'));
    if !is_narrow || !is_about_requests(exclusion, rules) {
        return None;
    }
    let present = match target {
        Target::Parameter(name) => Some(format!("cs-uri-query.{}", plain(name)?)),
        Target::Cookie(name) => Some(format!("cs-cookie.{}", plain(name)?)),
        Target::Header(name) => match name.as_str() {
            "user-agent" => Some("cs-user-agent".to_owned()),
            "referer" => Some("cs-referer".to_owned()),
            name => Some(format!("cs({})", plain(name)?)),
        },
        Target::Path => None,
        Target::Count(_) => return None,
    };
    // A JSON string is a YAML one, whatever is in it.
    let quoted = |text: &str| Value::from(text).to_string();
    let mut selection = "    cs-uri-stem:\n".to_owned();
    for path in &exclusion.paths {
        selection += &format!("      - {}\n", quoted(&literal(path)));
    }
    if let Some(field) = present {
        selection += &format!("    {}: true\n", quoted(&format!("{field}|exists")));
    }
    let subject = exclusion.to_string();
    let id = id(&[exclusion.rule.id.as_str(), &subject, &selection]);
    let text = format!(
        "title: {}\nid: {id}\nstatus: experimental\ndescription: {}\nlogsource:\n  category: webserver\nfilter:\n  rules:\n    - {}\n  \
         excluded:\n{}  condition: not excluded\n",
        quoted(&format!("Exclusion: {}", short(&exclusion.rule.title))),
        quoted(&format!(
            "{}. Proposed by portcullis tune for {} requests declared clean, the first of them {}. Wider than the exception of the same \
             name in policy.json, which overlooks one value: the whole request is let go by this rule.",
            subject, exclusion.requests, exclusion.example
        )),
        quoted(&exclusion.rule.id),
        selection,
    );
    Some(Filter {
        file: format!("{}.yml", id),
        text,
    })
}

/// Whether the rule asks about requests: a filter is joined only to rules of its own event source.
fn is_about_requests(exclusion: &Exclusion, rules: &RuleSet) -> bool {
    let count = u32::try_from(rules.rule_count()).unwrap_or(u32::MAX);
    let mut all = (0..count).filter_map(|number| rules.rule(number));
    all.any(|rule| rules.text(rule.id) == exclusion.rule.id && rule.source == Source::Request as u8)
}

/// A name that can stand in a field's.
fn plain(name: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]$".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_plain)).then_some(name)
}

/// Text without Sigma's wildcards.
fn literal(text: &str) -> String {
    text.chars()
        .flat_map(|char| {
            let escape = matches!(char, '*' | '?' | '\\').then_some('\\');
            escape.into_iter().chain([char])
        })
        .collect()
}

fn short(title: &str) -> String {
    title.chars().take(80).collect()
}

/// A UUID (version 8, of one's own making) that is the same for the same exclusion.
fn id(parts: &[&str]) -> String {
    let mut halves = [0_u64, 1].map(|half| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(half);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part.as_bytes());
        }
        hasher.finish()
    });
    halves[0] = halves[0] & !0xf000 | 0x8000;
    halves[1] = halves[1] & !(3 << 62) | 2 << 62;
    let digits = format!("{:016x}{:016x}", halves[0], halves[1]);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

/// Writes the filters into a folder of their own, from which older ones of ours go.
pub fn write_filters(dir: &Path, filters: &[Filter]) -> Result<PathBuf> {
    let folder = dir.join("filters");
    let cannot = || format!("cannot write {}", folder.display());
    if folder.is_dir() {
        for entry in std::fs::read_dir(&folder).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            let is_ours = std::fs::read_to_string(&path)
                .is_ok_and(|text| text.starts_with("title: \"Exclusion: "));
            if is_ours {
                std::fs::remove_file(&path).with_context(cannot)?;
            }
        }
    }
    std::fs::create_dir_all(&folder).with_context(cannot)?;
    for filter in filters {
        std::fs::write(folder.join(&filter.file), &filter.text).with_context(cannot)?;
    }
    Ok(folder)
}

/// Writes the whole configuration, and the exclusions alone as metadata of a route.
pub fn write_policy(dir: &Path, configuration: &Value, exclusions: &[Exclusion]) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot write {}", dir.display()))?;
    let write = |name: &str, text: String| {
        let file = dir.join(name);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    write(
        "policy.json",
        format!("{}\n", serde_json::to_string_pretty(configuration)?),
    )?;
    let alone = with_exclusions(&json!({}), exclusions)?.to_string();
    let note = match alone.len() > limits::LIVE_SETTINGS_BYTES {
        true => format!(
            "# Too long for metadata: the filter refuses more than {} bytes. Use policy.json.\n",
            limits::LIVE_SETTINGS_BYTES
        ),
        false => String::new(),
    };
    write(
        "route-metadata.yaml",
        format!(
            "{note}# Under a route or a virtual host of Envoy's route table. On an HTTPRoute of Envoy Gateway the text after\n\
             # `policy:` is the annotation gateway.envoyproxy.io/portcullis.\nmetadata:\n  filter_metadata:\n    portcullis:\n      policy: '{}'\n",
            alone.replace('\'', "''")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_and_always_the_same() {
        let one = id(&["a", "bc"]);
        assert_eq!(one, id(&["a", "bc"]));
        assert_ne!(one, id(&["ab", "c"]));
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{one}");
        assert_eq!(one.as_bytes().get(14), Some(&b'8'), "{one}");
        assert!(
            one.as_bytes()
                .get(19)
                .is_some_and(|byte| b"89ab".contains(byte)),
            "{one}"
        );
    }

    #[test]
    fn wildcards_and_odd_names_stay_what_they_are() {
        assert_eq!(literal(r"/a*b?c\d"), r"/a\*b\?c\\d");
        assert_eq!(plain("filter[a].b$ne"), Some("filter[a].b$ne"));
        for odd in ["", "a|re", "a b", "a:b", "ä"] {
            assert_eq!(plain(odd), None, "{odd}");
        }
    }
}
