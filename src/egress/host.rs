//! The host of a URL: an address in any of the spellings that resolvers accept, or a name.
//!
//! `getaddrinfo` takes `127.1`, `0x7f.1` and `2130706433` for addresses. They are read here, so that
//! the guard sees what would be dialled and no resolver has a say in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whom a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// An address literal.
    Address(IpAddr),
    /// `localhost` and names below it, which never leave this machine (RFC 6761).
    Local,
    /// A name to be resolved, lower case, without trailing dots.
    Name(String),
}

/// Reads the host of a URL's authority. The error says what is wrong with it.
pub(super) fn parse(host: &str) -> Result<Host, String> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr =
            inner.parse().map_err(|_| format!("`{host}` is no IPv6 address"))?;
        return Ok(Host::Address(address.into()));
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let labels_fit = name.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    if !labels_fit || name.len() > 253 {
        return Err(format!("`{host}` is no host name"));
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(Host::Local);
    }
    // A last label that is a number makes it an address or nothing: no top-level domain is one.
    if name.rsplit('.').next().is_some_and(is_number) {
        return loose_v4(&name)
            .map(|ip| Host::Address(ip.into()))
            .ok_or_else(|| format!("`{host}` is no IPv4 address"));
    }
    Ok(Host::Name(name))
}

fn is_number(label: &str) -> bool {
    label.bytes().all(|b| b.is_ascii_digit())
        || label.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `inet_aton`: one to four parts, decimal, octal or hexadecimal; the last fills what is left.
fn loose_v4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let free_bits = 32 - 8 * leading.len() as u32;
    if u64::from(*last) >= 1 << free_bits {
        return None;
    }
    let high = leading.iter().zip([24, 16, 8]).fold(0, |ip, (part, shift)| ip | part << shift);
    Some(Ipv4Addr::from(high | last))
}

fn number(part: &str) -> Option<u32> {
    match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u32::from_str_radix(part, 8).ok(),
        None => part.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, parse};

    #[test]
    fn every_spelling_of_an_address_is_one() {
        for (spelling, address) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0X7F.0.0.1", "127.0.0.1"),
            ("0177.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("017700000001", "127.0.0.1"),
            ("0", "0.0.0.0"),
            ("0xa9fea9fe", "169.254.169.254"),
            ("[::1]", "::1"),
            ("[::]", "::"),
            ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
            ("[0:0:0:0:0:ffff:7f00:1]", "::ffff:127.0.0.1"),
        ] {
            assert_eq!(parse(spelling), Ok(Host::Address(address.parse().unwrap())), "{spelling}");
        }
    }

    #[test]
    fn names_are_names_and_nonsense_is_refused() {
        assert_eq!(parse("ERP.acme.Example."), Ok(Host::Name("erp.acme.example".to_owned())));
        for local in ["localhost", "LOCALHOST.", "a.b.localhost", "localhost.."] {
            assert_eq!(parse(local), Ok(Host::Local), "{local}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            "256.1.1.1",
            "1.2.3.4.5",
            "127.0.0.08",
            "4294967296",
            "1.2.65536.0x",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            "%31%32%37.1",
            "a b",
            "host!",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} is taken for {:?}", parse(bad));
        }
    }
}
