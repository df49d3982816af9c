//! Hosts: read the way clients read them, and what kind of place they are.
//!
//! Source: WHATWG URL Standard, "host parsing" and "IPv4 parser" (decimal, octal and hexadecimal forms, IDNA).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// No name has more than 253 bytes (RFC 1035, section 2.3.4); with a port and escapes a few more.
const HOST_BYTES_MAX: usize = 512;

/// Schemes whose hosts every client reads by the rules of the web, with the ones that only look different.
const WEB_SCHEMES: [&str; 6] = ["http", "https", "ws", "wss", "ftp", "file"];

/// What kind of place a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Anywhere on the internet, as far as the name tells.
    Public,
    /// RFC 1918, RFC 4193, RFC 6598, or a name that only a local network has.
    Private,
    /// This machine.
    Loopback,
    /// RFC 3927 and RFC 4291 section 2.5.6.
    LinkLocal,
    /// A cloud's metadata service, which hands out credentials.
    Metadata,
}

/// A host that is contacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Lower case, in its ASCII form, without a trailing dot; an address in its usual form, without brackets.
    pub host: String,
    /// What kind of place it is.
    pub place: Place,
    /// When it is not the scheme's own.
    pub port: Option<u16>,
    /// The URL has a user name or password before the host: often meant to pass for another host.
    pub has_userinfo: bool,
    /// The name has characters beyond ASCII: often meant to pass for another name.
    pub is_international: bool,
}

/// The host of a URL; `None` when there is none.
#[must_use]
pub fn of_url(text: &str) -> Option<Contact> {
    let (scheme, rest) = parts(text)?;
    // Web clients take any number of slashes, and backslashes for slashes.
    let slashes = is_web(scheme) && !scheme.eq_ignore_ascii_case("file");
    let rest = if slashes { rest.trim_start_matches(['/', '\\']) } else { rest };
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.len() > HOST_BYTES_MAX {
        return None;
    }
    // Other schemes keep their hosts as written: reading them as of the web finds the same names, and disguises too.
    let scheme = if is_web(scheme) { scheme } else { "http" };
    match Url::parse(&format!("{scheme}://{host}")) {
        Ok(url) => contact(&url.host()?, url.port(), !user.is_empty()),
        Err(_) => of_broken(host, !user.is_empty()),
    }
}

/// Scheme, and what is behind its colon or, where there is one, its `://`.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = match text.split_once("://") {
        Some(parts) => parts,
        None => text.split_once(':').filter(|(scheme, _)| is_web(scheme))?,
    };
    let scheme = scheme.rsplit(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).next()?;
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()).then_some((scheme, rest))
}

fn is_web(scheme: &str) -> bool {
    WEB_SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// The host of a bare `host`, `host:port` or `user@host`, as a program's argument.
#[must_use]
pub fn of_host(text: &str) -> Option<Contact> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return contact(&Host::<&str>::Ipv6(address), None, false);
    }
    let host = text.rsplit('@').next().filter(|host| !host.is_empty())?;
    of_url(&format!("http://{host}"))
}

/// What a host that cannot be read says: clients differ, so the text is taken as it stands.
fn of_broken(host: &str, has_userinfo: bool) -> Option<Contact> {
    let host = host.split(':').next().unwrap_or(host).trim_end_matches('.').to_lowercase();
    let plausible = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-_.~".contains(c));
    plausible.then(|| Contact {
        place: place_of_name(&host),
        port: None,
        has_userinfo,
        is_international: !host.is_ascii(),
        host,
    })
}

fn contact(host: &Host<impl AsRef<str>>, port: Option<u16>, has_userinfo: bool) -> Option<Contact> {
    let (host, place) = match host {
        Host::Domain(name) => {
            let name = name.as_ref().trim_end_matches('.').to_ascii_lowercase();
            let place = place_of_name(&name);
            (name, place)
        }
        Host::Ipv4(address) => (address.to_string(), place_of(IpAddr::V4(*address))),
        Host::Ipv6(address) => (address.to_string(), place_of(IpAddr::V6(*address))),
    };
    let is_international = host.split('.').any(|label| label.starts_with("xn--"));
    (!host.is_empty()).then_some(Contact { host, place, port, has_userinfo, is_international })
}

fn place_of_name(name: &str) -> Place {
    const METADATA: [&str; 4] =
        ["metadata", "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"];
    const LOCAL_SUFFIXES: [&str; 8] =
        [".local", ".internal", ".lan", ".home.arpa", ".intranet", ".corp", ".home", ".private"];
    if let Ok(address) = name.parse::<IpAddr>() {
        return place_of(address);
    }
    if METADATA.contains(&name) {
        return Place::Metadata;
    }
    if name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain" {
        return Place::Loopback;
    }
    // A wildcard name server answers with the address that the name begins with.
    if let Some(address) = [".nip.io", ".sslip.io", ".xip.io"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .and_then(embedded_address)
    {
        return place_of(IpAddr::V4(address));
    }
    let local = !name.contains('.') || LOCAL_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    if local { Place::Private } else { Place::Public }
}

/// The address at the end of `app.10.0.0.1` or `app-10-0-0-1`.
fn embedded_address(name: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = name.split(['.', '-']).collect();
    let start = parts.len().checked_sub(4)?;
    parts[start..].join(".").parse().ok()
}

fn place_of(address: IpAddr) -> Place {
    match address {
        IpAddr::V4(address) => place_of_v4(address),
        IpAddr::V6(address) => place_of_v6(address),
    }
}

fn place_of_v4(address: Ipv4Addr) -> Place {
    // AWS, Azure, Google Cloud and most others; Alibaba Cloud; Azure's wire server; Oracle Cloud.
    const METADATA: [[u8; 4]; 4] =
        [[169, 254, 169, 254], [100, 100, 100, 200], [168, 63, 129, 16], [192, 0, 0, 192]];
    // AWS ECS task credentials and EKS pod identity.
    const CREDENTIALS: [[u8; 4]; 2] = [[169, 254, 170, 2], [169, 254, 170, 23]];
    let octets = address.octets();
    if METADATA.contains(&octets) || CREDENTIALS.contains(&octets) {
        Place::Metadata
    } else if address.is_loopback() || address.is_unspecified() {
        Place::Loopback
    } else if address.is_link_local() {
        Place::LinkLocal
    } else if address.is_private() || (octets[0] == 100 && (64..128).contains(&octets[1])) {
        Place::Private
    } else {
        Place::Public
    }
}

fn place_of_v6(address: Ipv6Addr) -> Place {
    let segments = address.segments();
    let last = u32::from(segments[6]) << 16 | u32::from(segments[7]);
    // RFC 4291 section 2.5.5.2 and RFC 6052: an IPv4 address in another dress.
    if let Some(mapped) = address.to_ipv4_mapped() {
        return place_of_v4(mapped);
    }
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return place_of_v4(Ipv4Addr::from(last));
    }
    // AWS, and its EKS pod identity.
    if matches!(segments, [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23]) {
        Place::Metadata
    } else if address.is_loopback() || address.is_unspecified() {
        Place::Loopback
    } else if address.is_unicast_link_local() {
        Place::LinkLocal
    } else if address.is_unique_local() {
        Place::Private
    } else {
        Place::Public
    }
}
