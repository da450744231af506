//! The origins whose pages may call, exactly as browsers name them in the header `Origin` (RFC 6454, section 6.1).

use std::{net::Ipv6Addr, str::FromStr, sync::Arc};

use http::HeaderValue;

/// So many origins at most: each request of a page is compared with all of them.
const MOST: usize = 64;

/// Origins whose pages may call; none: no page may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Arc<[HeaderValue]>);

/// Why origins cannot be read, one fault for each that cannot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct OriginFaults(pub Vec<String>);

impl Origins {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    pub(super) fn contains(&self, origin: &HeaderValue) -> bool {
        self.0.contains(origin)
    }

    pub(super) fn list(&self) -> Vec<HeaderValue> {
        self.0.to_vec()
    }
}

impl FromStr for Origins {
    type Err = OriginFaults;

    fn from_str(text: &str) -> Result<Self, OriginFaults> {
        let (mut origins, mut faults) = (Vec::new(), Vec::new());
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match read(entry) {
                Ok(origin) => origins.push(origin),
                Err(why) => faults.push(format!("{entry:?} is no origin as in https://shop.example: {why}")),
            }
        }
        if origins.len() > MOST {
            faults.push(format!("there are {} origins, at most {MOST} can be", origins.len()));
        }
        if faults.is_empty() { Ok(Self(origins.into())) } else { Err(OriginFaults(faults)) }
    }
}

fn read(entry: &str) -> Result<HeaderValue, &'static str> {
    if entry == "*" {
        return Err("that would be every page there is; name them one by one");
    }
    let with_own_port = [("https://", "443"), ("http://", "80")];
    let scheme = with_own_port.into_iter().find_map(|(scheme, own)| Some((entry.strip_prefix(scheme)?, own)));
    let Some((authority, own_port)) = scheme else { return Err("it begins with neither https:// nor http://") };
    let (host, port) = match authority.rsplit_once(':') {
        // An IPv6 address has colons of its own, and ends with a bracket.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if !is_host(host) {
        return Err("behind the scheme come a host in lower case and perhaps a port, and nothing else");
    }
    match port {
        Some(port) if port == own_port => Err("browsers leave out the port that is the scheme's own"),
        // No zeros in front, and no sign.
        Some(port) if port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port) => Ok(entry),
        Some(_) => Err("its port is no number from 1 to 65535"),
        None => Ok(entry),
    }
    .and_then(|entry| HeaderValue::from_str(entry).map_err(|_| "it has characters that no header has"))
}

/// Whether browsers would spell a host so: international names are in ASCII (punycode) by then.
fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address);
    }
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    !text.is_empty() && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &[&str]>) {
        match (text.parse::<Origins>(), expected) {
            (Ok(origins), Ok(expected)) => assert_eq!(origins.list(), expected, "{text:?}"),
            (Err(OriginFaults(faults)), Err(expected)) => {
                assert_eq!(faults.len(), expected.len(), "{text:?}: {faults:?}");
                for (fault, expected) in faults.iter().zip(expected) {
                    assert!(fault.contains(expected), "{text:?}: {fault}");
                }
            }
            (read, _) => panic!("{text:?}: {read:?}"),
        }
    }

    #[test]
    fn origins_are_named_one_by_one_as_browsers_name_them() {
        check("", Ok(&[]));
        check("https://shop.example", Ok(&["https://shop.example"]));
        check("http://127.0.0.1:3000 , http://[::1]:3000,", Ok(&["http://127.0.0.1:3000", "http://[::1]:3000"]));
        check("https://xn--bcher-kva.example:8443", Ok(&["https://xn--bcher-kva.example:8443"]));
    }

    #[test]
    fn whatever_no_browser_would_send_is_a_fault_and_all_faults_are_named() {
        check("*", Err(&["every page there is"]));
        check("null", Err(&["neither"]));
        check("shop.example", Err(&["neither"]));
        check("HTTPS://shop.example", Err(&["neither"]));
        check("https://Shop.example,https://*.example", Err(&["Shop.example", "*.example"]));
        for more in ["https://", "https://a/", "https://a/b", "https://a?b", "https://me@a", "https://bücher.example"]
        {
            check(more, Err(&["and nothing else"]));
        }
        check("https://[0:0::1]", Err(&["and nothing else"]));
        check("https://a:443,http://a:80", Err(&["scheme's own", "scheme's own"]));
        for port in ["", "0", "080", "+80", "65536", "x"] {
            check(&format!("http://a:{port}"), Err(&["no number from 1 to 65535"]));
        }
        check(&vec!["http://a"; MOST + 1].join(","), Err(&["at most 64"]));
    }
}
