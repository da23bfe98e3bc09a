//! Settings that stand in the gateway's own route table, read with every request that raised something, so
//! that a change takes effect without a restart.
//!
//! Metadata is under the namespace `portcullis` and has one key, `policy`, whose value is a JSON text: the gateway
//! does not keep the order of a map, and gives numbers and texts the same bytes. What is wrong is refused whole, the less
//! specific layers hold, and the reason is told once.
//!
//! Memory: [`limits::LIVE_SETTINGS`] different texts of at most [`limits::LIVE_SETTINGS_BYTES`] are kept parsed.

use std::rc::Rc;

use super::settings::Known;
use super::values::Value;
use super::{Origin, PolicyError, Settings, json};
use crate::limits;
use crate::ruleset::RuleSet;

/// What the gateway's route table says about one request.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Annotation of the HTTPRoute.
    pub annotation: Option<Rc<Settings>>,
    /// Metadata of the virtual host.
    pub virtual_host: Option<Rc<Settings>>,
    /// Metadata of the route.
    pub route: Option<Rc<Settings>>,
}

impl Live {
    /// The layers, the least specific first.
    pub(super) fn layers(&self) -> impl Iterator<Item = (Origin, &Settings)> {
        let all = [
            (Origin::Annotation, &self.annotation),
            (Origin::VirtualHostMetadata, &self.virtual_host),
            (Origin::RouteMetadata, &self.route),
        ];
        all.into_iter()
            .filter_map(|(origin, settings)| Some((origin, settings.as_deref()?)))
    }
}

/// Reads one text of settings, as it stands in metadata, and checks it against the rules that run.
pub fn read(text: &[u8], rules: &RuleSet) -> Result<Settings, PolicyError> {
    if text.len() > limits::LIVE_SETTINGS_BYTES {
        return Err(PolicyError::new(format!(
            "it is longer than {} bytes",
            limits::LIVE_SETTINGS_BYTES
        )));
    }
    let settings = parse(text)?;
    settings.check("", &Known::of(rules))?;
    Ok(settings)
}

/// The same, without asking whether the rules that it names exist.
pub(super) fn parse(text: &[u8]) -> Result<Settings, PolicyError> {
    let tree = json(text)?;
    Settings::read_layer(&Value::top(&tree).keys(&Settings::KEYS)?)
}

/// The value of `policy` in the namespace's fields, as the gateway hands a map over. Any other key is a mistake.
pub fn policy_of<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Option<&'a [u8]>, PolicyError> {
    let mut policy = None;
    for (key, value) in fields {
        if key != b"policy" {
            return Err(PolicyError::new(format!(
                "unknown key `{}`; write the settings as one JSON text: policy: '{{\"mode\": \"block\"}}'",
                crate::alert::printable(key, 64)
            )));
        }
        policy = Some(value);
    }
    Ok(policy)
}

/// Texts of settings that were read before.
#[derive(Debug, Default)]
pub struct Cache {
    /// By text.
    known: Vec<(Vec<u8>, Option<Rc<Settings>>)>,
}

impl Cache {
    /// How many texts are kept.
    pub fn kept(&self) -> usize {
        self.known.len()
    }

    /// The settings that this text says; none if it is wrong, which `complain` is told the first time.
    pub fn read(
        &mut self,
        text: &[u8],
        rules: &RuleSet,
        complain: impl FnOnce(&PolicyError),
    ) -> Option<Rc<Settings>> {
        // A long text is always wrong; its start stands for it.
        let key = text.get(..=limits::LIVE_SETTINGS_BYTES).unwrap_or(text);
        let known = self
            .known
            .binary_search_by(|(known, _)| known.as_slice().cmp(key));
        let mut place = match known {
            Ok(place) => return self.known.get(place)?.1.clone(),
            Err(place) => place,
        };
        // Who changes it with every request pays for reading it, not with the gateway's memory.
        if self.known.len() >= limits::LIVE_SETTINGS {
            self.known.clear();
            place = 0;
        }
        let settings = match read(text, rules) {
            Ok(settings) => Some(Rc::new(settings)),
            Err(error) => {
                complain(&error);
                None
            }
        };
        self.known.insert(place, (key.to_vec(), settings.clone()));
        settings
    }
}
