//! Which addresses may be dialled.
//!
//! The ranges are those of IANA's special-purpose registries (RFC 6890 and its successors) that are
//! not globally reachable, and multicast. An IPv6 address that carries an IPv4 one (mapped, NAT64,
//! 6to4, ISATAP) is judged by both.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address range: `10.0.0.0/8`, `::1/128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The lowest address of the range.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether `ip` lies in the range. An IPv4 address mapped into IPv6 counts as the IPv4 one.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(ip)) => {
                masked(u32::from(ip).into(), 32, self.prefix)
                    == masked(u32::from(range).into(), 32, self.prefix)
            }
            (IpAddr::V6(range), IpAddr::V6(ip)) => {
                masked(ip.into(), 128, self.prefix) == masked(range.into(), 128, self.prefix)
            }
            _ => false,
        }
    }
}

/// The leading `prefix` of `width` bits.
fn masked(bits: u128, width: u8, prefix: u8) -> u128 {
    bits.checked_shr(u32::from(width.saturating_sub(prefix))).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    /// `ADDRESS/PREFIX`, or an address alone for just that one.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("`{text}` is no address range; expected one like `10.0.0.0/8` or `fd00::/8`")
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(digits) => {
                digits.parse::<u8>().ok().filter(|p| *p <= width).ok_or_else(expected)?
            }
        };
        let lowest = lowest(address, prefix);
        if lowest != address {
            return Err(format!(
                "`{text}` has bits set behind its prefix; did you mean `{lowest}/{prefix}`?"
            ));
        }
        Ok(canonical(address, prefix))
    }
}

/// The lowest address that shares its first `prefix` bits with `address`.
fn lowest(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & !host_bits).into()
        }
        IpAddr::V6(ip) => {
            let host_bits = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & !host_bits).into()
        }
    }
}

/// A range of mapped addresses is the range of the IPv4 addresses they stand for.
fn canonical(address: IpAddr, prefix: u8) -> Cidr {
    match address {
        IpAddr::V6(ip) if prefix >= 96 => match ip.to_ipv4_mapped() {
            Some(v4) => Cidr { address: v4.into(), prefix: prefix - 96 },
            None => Cidr { address, prefix },
        },
        _ => Cidr { address, prefix },
    }
}

/// Says no to what is not on the public internet, unless the operator said yes.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    allow: Vec<Cidr>,
}

impl Guard {
    pub(super) fn new(allow: Vec<Cidr>) -> Self {
        Self { allow }
    }

    /// What `ip` is, where it must not be dialled.
    pub(super) fn refuses(&self, ip: IpAddr) -> Option<&'static str> {
        let ip = ip.to_canonical();
        let carried = carried_v4(ip);
        let what = special(ip).or_else(|| carried.and_then(special))?;
        let allowed =
            |cidr: &Cidr| cidr.contains(ip) || carried.is_some_and(|v4| cidr.contains(v4));
        (!self.allow.iter().any(allowed)).then_some(what)
    }
}

/// The IPv4 address that an IPv6 address leads to: NAT64 (RFC 6052), 6to4 (RFC 3056), ISATAP (RFC 5214).
fn carried_v4(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    let (s, o) = (ip.segments(), ip.octets());
    let low = || Some(Ipv4Addr::new(o[12], o[13], o[14], o[15]).into());
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || (s[4] & !0x0300 == 0 && s[5] == 0x5efe) {
        low()
    } else if s[0] == 0x2002 {
        Some(Ipv4Addr::new(o[2], o[3], o[4], o[5]).into())
    } else {
        None
    }
}

/// What the address is, where it is not an ordinary public one.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => special_v4(ip.octets()),
        IpAddr::V6(ip) => special_v6(ip.segments()),
    }
}

fn special_v4(octets: [u8; 4]) -> Option<&'static str> {
    Some(match octets {
        [0, ..] => "the unspecified network",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private network",
        [100, 64..=127, ..] => "a carrier's shared network",
        [127, ..] => "this machine",
        [169, 254, 169, 254] => "a cloud's metadata service",
        [169, 254, ..] => "link-local",
        [192, 0, 0, _] | [192, 88, 99, _] => "reserved for protocols",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "reserved for documentation",
        [198, 18..=19, ..] => "reserved for benchmarks",
        [224..=239, ..] => "multicast",
        [240..=255, ..] => "reserved",
        _ => return None,
    })
}

fn special_v6(segments: [u16; 8]) -> Option<&'static str> {
    Some(match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => "the unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "this machine",
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => "a cloud's metadata service",
        [0xfc00..=0xfdff, ..] => "a private network",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfec0..=0xfeff, ..] => "site-local",
        [0xff00..=0xffff, ..] => "multicast",
        [0x2001, 0xdb8, ..] => "reserved for documentation",
        [0x3fff, second, ..] if second < 0x1000 => "reserved for documentation",
        [0x2001, second, ..] if second < 0x200 => "reserved for protocols",
        // NAT64's well-known prefix is as public as the IPv4 address in it.
        [0x2000..=0x3fff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => return None,
        _ => "not a public address",
    })
}

#[cfg(test)]
mod tests {
    use super::{Cidr, Guard};

    fn refused(ip: &str) -> Option<&'static str> {
        Guard::default().refuses(ip.parse().unwrap())
    }

    #[test]
    fn nothing_special_is_dialled() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:a9fe:a9fe",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "2001:0:1:2::3",
            "2001:db8::1",
            "2001:20::1",
            "3fff::1",
            "5f00::1",
            "100::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "2600::5efe:10.0.0.1",
            "2600::200:5efe:7f00:1",
        ] {
            assert!(refused(ip).is_some(), "{ip} would be dialled");
        }
    }

    #[test]
    fn public_addresses_are_dialled() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "3fff:1000::1",
        ] {
            assert_eq!(refused(ip), None, "{ip} is refused");
        }
    }

    #[test]
    fn an_allowed_range_opens_itself_and_nothing_else() {
        let guard = Guard::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for ip in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::", "fd12::1"] {
            assert_eq!(guard.refuses(ip.parse().unwrap()), None, "{ip}");
        }
        for ip in ["11.0.0.1", "127.0.0.1", "192.168.0.1", "::1", "fc12::1", "::ffff:127.0.0.1"] {
            let public = refused(ip).is_none();
            assert_eq!(guard.refuses(ip.parse().unwrap()).is_none(), public, "{ip}");
        }
    }

    #[test]
    fn ranges_are_read_and_misspelt_ones_explained() {
        let read = |text: &str| text.parse::<Cidr>().map(|cidr| cidr.to_string());
        assert_eq!(read("10.0.0.0/8"), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(read("127.0.0.1"), Ok("127.0.0.1/32".to_owned()));
        assert_eq!(read("::1"), Ok("::1/128".to_owned()));
        assert_eq!(read("0.0.0.0/0"), Ok("0.0.0.0/0".to_owned()));
        assert_eq!(read("::ffff:10.0.0.0/104"), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(
            read("10.0.0.5/8").unwrap_err(),
            "`10.0.0.5/8` has bits set behind its prefix; did you mean `10.0.0.0/8`?"
        );
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "ten/8", "::/129", "10.0.0.0/-1"] {
            assert!(read(bad).unwrap_err().contains("expected one like"), "{bad}");
        }
    }
}
