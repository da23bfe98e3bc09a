//! What an event has in the fields that correlations group by.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::alert::Event;
use crate::decoded::{split_pair, split_url};
use crate::field::Field;
use crate::inspect::Facts;
use crate::limits;
use crate::normalise::{path, percent};

/// The values of one event. Each has one form for all that a server would take for the same: hosts are in lower
/// case, addresses as short as they can be written, paths and parameters decoded.
pub struct Values<'e> {
    event: Event<'e>,
    facts: &'e dyn Facts,
    /// Asked for once: in a gateway it costs a call to the host.
    address: OnceCell<Option<String>>,
}

impl<'e> Values<'e> {
    pub fn new(event: Event<'e>, facts: &'e dyn Facts) -> Values<'e> {
        Values {
            event,
            facts,
            address: OnceCell::new(),
        }
    }

    /// The value of the field with this number, for some fields of the part with this name in lower case. Of a
    /// field that comes several times the first. Nothing if it is not there, empty or not.
    pub fn get(&self, field: u8, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        let field = Field::from_number(field)?;
        match self.event {
            Event::Request(headers) => {
                let header = |name: &[u8]| headers.get(name).map(bounded);
                let url = || header(b":path").map(split_url);
                Some(match field {
                    Field::SourceIp => self.address()?.into(),
                    Field::Method => header(b":method")?.into(),
                    Field::Version => header(b":protocol-version")?.into(),
                    Field::Host => {
                        // Most access logs do not say which of a gateway's hosts was asked; that is one then.
                        let host = headers.host().map(bounded);
                        host.unwrap_or_default().to_ascii_lowercase().into()
                    }
                    Field::Uri => header(b":path")?.into(),
                    Field::UriStem => path::looked_up(url()?.0).into(),
                    Field::UriQuery => url()?.1?.into(),
                    Field::QueryValue => part(url()?.1?, b'&', name, true)?.into(),
                    Field::UserAgent => header(b"user-agent")?.into(),
                    Field::Referer => header(b"referer")?.into(),
                    Field::Cookie => header(b"cookie")?.into(),
                    Field::CookieValue => part(header(b"cookie")?, b';', name, false)?.into(),
                    Field::Header => header(name)?.into(),
                    _ => return None,
                })
            }
            Event::Process(fields, _) => {
                let (_, value) = fields.iter().find(|(known, _)| *known == field)?;
                Some(bounded(value).into())
            }
        }
    }

    /// The network of the client's address: a /24 of IPv4, a /64 of IPv6, which is what one customer has.
    pub fn network(&self) -> Option<Cow<'static, [u8]>> {
        let network = match self.facts.source_address()?.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        };
        let bits = if network.is_ipv4() { 24 } else { 64 };
        Some(format!("{network}/{bits}").into_bytes().into())
    }

    fn address(&self) -> Option<&[u8]> {
        let address = self.address.get_or_init(|| {
            let address = self.facts.source_address()?;
            Some(address.to_canonical().to_string())
        });
        address.as_ref().map(String::as_bytes)
    }
}

fn bounded(value: &[u8]) -> &[u8] {
    value.get(..limits::FIELD_BYTES).unwrap_or(value)
}

/// The value with this name in a query or a cookie.
fn part(whole: &[u8], separator: u8, wanted: &[u8], plus: bool) -> Option<Vec<u8>> {
    let pairs = whole.split(|&byte| byte == separator);
    let mut pairs = pairs.map(|pair| split_pair(pair.trim_ascii_start()));
    let (_, value) = pairs.find(|(name, _)| {
        name.is_some_and(|name| percent::decoded(name, plus).eq_ignore_ascii_case(wanted))
    })?;
    Some(percent::decoded(value, plus))
}
