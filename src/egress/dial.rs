//! From a host to a connected socket: resolve, check every address, dial what was checked.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    error::EgressError,
    guard::Guard,
    host::{self, Host},
};

/// Resolution and all connection attempts together; the exchange's own deadline may be sooner.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to `host` as it stands in the URL.
pub(super) async fn dial(guard: &Guard, host: &str, port: u16) -> Result<TcpStream, EgressError> {
    let started = Instant::now();
    let target = host::parse(host).map_err(EgressError::BadUrl)?;
    let addresses = timeout(DIAL_TIMEOUT, resolve(target, host, port))
        .await
        .map_err(|_| EgressError::Dns(format!("{host}: no answer within {DIAL_TIMEOUT:?}")))??;
    let addresses = checked(guard, host, addresses)?;
    connect(host, &addresses, started + DIAL_TIMEOUT).await
}

async fn resolve(target: Host, host: &str, port: u16) -> Result<Vec<SocketAddr>, EgressError> {
    let name = match target {
        Host::Address(ip) => return Ok(vec![SocketAddr::new(ip, port)]),
        Host::Local => {
            let ips: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(ips.map(|ip| SocketAddr::new(ip, port)).to_vec());
        }
        Host::Name(name) => name,
    };
    let found = tokio::net::lookup_host((name, port))
        .await
        .map_err(|error| EgressError::Dns(format!("{host}: {error}")))?;
    Ok(found.collect())
}

/// The addresses that may be dialled, as plain IPv4 where they are mapped ones.
fn checked(
    guard: &Guard,
    host: &str,
    addresses: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, EgressError> {
    let mut refusal = None;
    let mut left = Vec::with_capacity(addresses.len());
    for address in addresses {
        let ip = address.ip().to_canonical();
        match guard.refuses(ip) {
            None => left.push(SocketAddr::new(ip, address.port())),
            Some(what) => {
                refusal.get_or_insert((ip, what));
            }
        }
    }
    match refusal {
        Some((ip, what)) if left.is_empty() => Err(refused(host, ip, what)),
        _ if left.is_empty() => Err(EgressError::Dns(format!("{host}: no addresses"))),
        _ => Ok(left),
    }
}

fn refused(host: &str, ip: IpAddr, what: &str) -> EgressError {
    let shown = ip.to_string();
    let named = if shown == host { String::new() } else { format!(" ({host})") };
    let prefix = if ip.is_ipv4() { 32 } else { 128 };
    EgressError::Refused(format!(
        "{shown}{named}: {what}; where that is meant, allow it with `--allow-egress {shown}/{prefix}`"
    ))
}

/// Tries the addresses in order, each with its share of the time that is left.
async fn connect(
    host: &str,
    addresses: &[SocketAddr],
    until: Instant,
) -> Result<TcpStream, EgressError> {
    let mut last = String::new();
    for (tried, address) in addresses.iter().enumerate() {
        let waiting = (addresses.len() - tried) as u32;
        let share = until.saturating_duration_since(Instant::now()) / waiting;
        let attempt = timeout(share, TcpStream::connect(address)).await;
        match attempt.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
            Ok(stream) => {
                // Requests are written whole: waiting for more to send only adds delay. A socket
                // that refuses the option still works.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(EgressError::Connect(format!("{host}: {last}")))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{checked, dial};
    use crate::egress::{EgressError, guard::Guard};

    #[test]
    fn refused_addresses_are_left_out_and_a_name_without_others_is_refused() {
        let all = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let guard = Guard::default();
        let mixed = all(&["10.0.0.5:80", "8.8.8.8:80", "[::1]:80", "[::ffff:8.8.4.4]:80"]);
        assert_eq!(checked(&guard, "mixed", mixed), Ok(all(&["8.8.8.8:80", "8.8.4.4:80"])));
        let error = checked(&guard, "erp.internal", all(&["10.0.0.5:80", "[::1]:80"])).unwrap_err();
        insta::assert_snapshot!(error, @"refused to dial 10.0.0.5 (erp.internal): a private network; where that is meant, allow it with `--allow-egress 10.0.0.5/32`");
        assert!(matches!(checked(&guard, "empty", Vec::new()), Err(EgressError::Dns(_))));
    }

    #[tokio::test]
    async fn no_spelling_of_this_machine_is_dialled() {
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "017700000001",
            "0",
            "127.0.0.1.",
            "localhost",
            "localhost.",
            "x.localhost",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "169.254.169.254",
            "[fd00:ec2::254]",
        ] {
            let error = dial(&Guard::default(), host, 1).await.unwrap_err();
            assert!(matches!(error, EgressError::Refused(_)), "{host}: {error}");
        }
    }
}
