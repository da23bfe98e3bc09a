//! Addresses and networks, IPv4 and IPv6 as one: an IPv4 address is its mapped IPv6 one.

use std::net::IpAddr;

/// A network: those of its bits that count, and how many that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its address.
    pub address: u128,
    /// Bits of the prefix, of 128.
    pub bits: u8,
}

/// An address as 128 bits.
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address.
    pub fn read(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().ok()?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.trim().parse().ok().filter(|bits| *bits <= most)?,
            None => most,
        };
        Some(Network {
            address: bits(address),
            bits: 128 - most + prefix,
        })
    }

    /// Whether every IPv4 address is in it, and with that nearly every client.
    pub fn holds_all(&self) -> bool {
        self.bits <= 96 && self.holds(bits(std::net::Ipv4Addr::UNSPECIFIED.into()))
    }

    /// Whether the address is in it.
    pub fn holds(&self, address: u128) -> bool {
        let shift = 128_u32.saturating_sub(u32::from(self.bits));
        (self.address ^ address).checked_shr(shift).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn networks_hold_what_is_in_them() {
        let cases = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "203.0.113.9", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
        ];
        for (network, address, holds) in cases {
            let network = Network::read(network).unwrap();
            assert_eq!(
                network.holds(bits(address.parse().unwrap())),
                holds,
                "{network:?} {address}"
            );
        }
        for (network, holds_all) in [
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("0.0.0.0/1", false),
            ("2001::/16", false),
        ] {
            let network = Network::read(network).unwrap();
            assert_eq!(network.holds_all(), holds_all, "{network:?}");
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "a/8",
            "10.0.0.0/-1",
        ] {
            assert_eq!(Network::read(wrong), None, "{wrong}");
        }
    }
}
