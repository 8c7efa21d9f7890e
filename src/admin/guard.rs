//! Who may talk to the admin API: programs on this machine, and no web page.
//!
//! A browser can be made to send requests to a loopback address. A page that rebinds its own name
//! to 127.0.0.1 sends that name as `Host`; a page that posts across origins sends `Origin`. Neither
//! is one of ours. (OWASP API Security 2023, API8.)

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, header, request::Parts};

/// Why a request is refused before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No `Host`, two of them, or one that is no host.
    BadHost,
    /// A host that is neither loopback nor our own address.
    ForeignHost,
    /// A write that a web page of another origin sent.
    ForeignOrigin,
}

/// Refuses an admin address that other machines could reach: there are no keys yet to tell an
/// operator from anybody else. Port and address are named in the message.
pub fn check_address(address: SocketAddr) -> Result<(), String> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "the admin address {address} is not loopback: the admin API has no keys, whoever reaches it \
         may replay and discard; use 127.0.0.1 or [::1] (from elsewhere through an SSH tunnel)"
    ))
}

/// Checks where a request says it goes and comes from. `own` is the address the server listens on.
pub fn check(parts: &Parts, own: IpAddr) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).ok_or(Refusal::BadHost)?;
    if hosts.next().is_some() {
        return Err(Refusal::BadHost);
    }
    if !is_ours(host, own)? {
        return Err(Refusal::ForeignHost);
    }
    // The absolute form carries a second host, which must not say otherwise.
    if let Some(authority) = parts.uri.authority()
        && !is_ours(authority.as_str(), own)?
    {
        return Err(Refusal::ForeignHost);
    }
    let is_write = !matches!(parts.method, Method::GET | Method::HEAD);
    if is_write && !is_same_origin(&parts.headers, host) {
        return Err(Refusal::ForeignOrigin);
    }
    Ok(())
}

fn is_ours(host: &str, own: IpAddr) -> Result<bool, Refusal> {
    let authority: http::uri::Authority = host.parse().map_err(|_| Refusal::BadHost)?;
    let name = authority.host();
    if name.eq_ignore_ascii_case("localhost") {
        return Ok(true);
    }
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    Ok(literal.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback() || ip == own))
}

/// What no browser sent passes: `Origin` and `Sec-Fetch-Site` are set by browsers alone.
fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
    let origin_is_ours = headers.get_all(header::ORIGIN).iter().all(|origin| {
        origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    });
    let site_is_ours = headers
        .get_all("sec-fetch-site")
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    origin_is_ours && site_is_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        check(&parts, IpAddr::from([192, 0, 2, 7]))
    }

    #[test]
    fn hosts_of_this_machine_pass() {
        for host in [
            "127.0.0.1:8081",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8081",
            "127.9.9.9",
            "192.0.2.7:80",
        ] {
            assert_eq!(verdict("GET", "/x", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn names_and_other_addresses_do_not() {
        for host in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[2001:db8::1]:8081"] {
            assert_eq!(
                verdict("GET", "/x", &[("host", host)]),
                Err(Refusal::ForeignHost),
                "{host}"
            );
        }
        assert_eq!(verdict("GET", "/x", &[]), Err(Refusal::BadHost));
        assert_eq!(verdict("GET", "/x", &[("host", "a b")]), Err(Refusal::BadHost));
        let twice = [("host", "127.0.0.1"), ("host", "evil.example")];
        assert_eq!(verdict("GET", "/x", &twice), Err(Refusal::BadHost));
        let absolute = verdict("GET", "http://evil.example/x", &[("host", "127.0.0.1")]);
        assert_eq!(absolute, Err(Refusal::ForeignHost));
    }

    #[test]
    fn a_write_from_another_origin_is_refused_and_a_read_is_not() {
        let page = |origin| [("host", "127.0.0.1:8081"), ("origin", origin)];
        for origin in
            ["http://evil.example", "null", "https://127.0.0.1:8081", "http://127.0.0.1:1"]
        {
            assert_eq!(
                verdict("POST", "/x", &page(origin)),
                Err(Refusal::ForeignOrigin),
                "{origin}"
            );
            assert_eq!(verdict("GET", "/x", &page(origin)), Ok(()), "{origin}");
        }
        assert_eq!(verdict("DELETE", "/x", &page("http://127.0.0.1:8081")), Ok(()));
        let cross = [("host", "127.0.0.1"), ("sec-fetch-site", "cross-site")];
        assert_eq!(verdict("POST", "/x", &cross), Err(Refusal::ForeignOrigin));
    }

    #[test]
    fn only_loopback_is_listened_on() {
        for good in ["127.0.0.1:8081", "[::1]:0", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(check_address(good.parse().expect("an address")), Ok(()), "{good}");
        }
        for bad in ["0.0.0.0:8081", "10.1.2.3:8081", "[::]:8081"] {
            let message = check_address(bad.parse().expect("an address")).expect_err(bad);
            assert!(message.contains(bad), "{message}");
        }
    }
}
