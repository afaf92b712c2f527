//! Prefixes as people write them, and what they meant where they wrote something else.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, IpSubnets, Ipv4Net, Ipv4Subnets, Ipv6Subnets};

/// Why something is no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Wrong {
    /// What is wrong, and what to do.
    pub(in crate::policy) message: String,
    /// What was probably meant.
    pub(in crate::policy) hint: Option<String>,
}

impl Wrong {
    /// Nobody knows what was meant.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// `meant` was probably meant.
    pub(super) fn meant(message: impl Into<String>, meant: &str) -> Self {
        Self {
            message: message.into(),
            hint: Some(format!("did you mean \"{meant}\"?")),
        }
    }
}

/// Reads a prefix, or an address as the prefix of all its bits.
///
/// # Errors
///
/// It is none, or one that no packet has.
pub(in crate::policy) fn prefix(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return usable(address.into());
    }
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(wrong(text));
    };
    if net.trunc() == net {
        return usable(net);
    }
    let (bits, prefix) = (net.prefix_len(), net.trunc());
    Err(Wrong {
        message: format!("`{text}` has bits set behind its first {bits}"),
        hint: Some(format!(
            "the prefix is \"{prefix}\", the address alone \"{}\"",
            net.addr()
        )),
    })
}

/// A prefix whose addresses packets may have.
fn usable(net: IpNet) -> Result<IpNet, Wrong> {
    let IpNet::V6(v6) = net else { return Ok(net) };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(bits)) => {
            let meant = if bits == 32 {
                v4.to_string()
            } else {
                format!("{v4}/{bits}")
            };
            let message = format!(
                "`{net}` stands for IPv4 inside programs (RFC 4291 section 2.5.5.2) and is in no packet"
            );
            Err(Wrong::meant(message, &meant))
        }
        _ => Ok(net),
    }
}

/// What is wrong with something that is no prefix.
fn wrong(text: &str) -> Wrong {
    const WRITTEN: &str =
        "it is written \"192.0.2.0/24\" or \"2001:db8::/64\", or is a single address";
    if text.is_empty() {
        return Wrong::new(format!("an empty string is no prefix: {WRITTEN}"));
    }
    if text.trim() != text {
        return Wrong::meant(format!("`{text}` has blanks around it"), text.trim());
    }
    if ["any", "all", "*", "anywhere", "0/0", "any4", "any6"].contains(&text) {
        return Wrong::new(format!(
            "`{text}` is no prefix: leave the key out for any address, or write \"0.0.0.0/0\" for \
             all of IPv4 and \"::/0\" for all of IPv6"
        ));
    }
    if text.contains('%') {
        return Wrong::new(format!(
            "`{text}` names a zone, which prefixes do not have: the key `interface` says where"
        ));
    }
    range(text)
        .or_else(|| masked(text))
        .or_else(|| shortened(text))
        .or_else(|| with_port(text))
        .or_else(|| too_long(text))
        .or_else(|| name(text))
        .unwrap_or_else(|| Wrong::new(format!("`{text}` is no prefix: {WRITTEN}")))
}

/// `192.0.2.1-192.0.2.9`.
fn range(text: &str) -> Option<Wrong> {
    /// Prefixes that a hint names at most.
    const TOLD: usize = 6;
    let (first, last) = text.split_once('-')?;
    let first: IpAddr = first.trim().parse().ok()?;
    let last: IpAddr = last.trim().parse().ok()?;
    let prefixes: IpSubnets = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => IpSubnets::V4(Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) => IpSubnets::V6(Ipv6Subnets::new(first, last, 0)),
        _ => return None,
    };
    let message = format!("`{text}` is a range of addresses; sets are made of prefixes");
    if first > last {
        return Some(Wrong::new(format!("{message}, and it is upside down")));
    }
    let mut told: Vec<String> = prefixes
        .take(TOLD + 1)
        .map(|prefix| format!("\"{prefix}\""))
        .collect();
    if told.len() > TOLD {
        told.truncate(TOLD);
        told.push("…".to_owned());
    }
    Some(Wrong {
        message,
        hint: Some(format!("these are {}", told.join(", "))),
    })
}

/// `192.0.2.0/255.255.255.0`.
fn masked(text: &str) -> Option<Wrong> {
    let (address, mask) = text.split_once('/')?;
    let (address, mask): (Ipv4Addr, Ipv4Addr) = (address.parse().ok()?, mask.parse().ok()?);
    let message = format!("`{text}` is written with a mask");
    Some(match Ipv4Net::with_netmask(address, mask) {
        Ok(net) => Wrong::meant(message, &net.trunc().to_string()),
        Err(_) => Wrong::new(format!("{message}, whose bits are not in one piece")),
    })
}

/// `10/8`, `192.0.2/24`, `192.0.2.*`.
fn shortened(text: &str) -> Option<Wrong> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, bits.parse::<u8>().ok().filter(|bits| *bits <= 32)?),
        None => {
            let address = text.trim_end_matches(".*");
            let octets = address.split('.').count();
            if address == text || octets > 3 {
                return None;
            }
            (address, octets as u8 * 8)
        }
    };
    let octets: Vec<u8> = address
        .split('.')
        .map(|octet| octet.parse().ok())
        .collect::<Option<_>>()?;
    if octets.len() > 3 {
        return None;
    }
    let mut whole = [0; 4];
    whole
        .iter_mut()
        .zip(octets)
        .for_each(|(to, from)| *to = from);
    let net = Ipv4Net::new(whole.into(), bits).ok()?.trunc();
    let message = format!("`{text}` is shortened: a prefix has all four numbers");
    Some(Wrong::meant(message, &net.to_string()))
}

/// `192.0.2.1:443`.
fn with_port(text: &str) -> Option<Wrong> {
    let end: std::net::SocketAddr = text.parse().ok()?;
    Some(Wrong::meant(
        format!("`{text}` has a port: ports stand in `ports` and `from_ports`"),
        &end.ip().to_string(),
    ))
}

/// `192.0.2.0/33`.
fn too_long(text: &str) -> Option<Wrong> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    Some(Wrong::new(format!(
        "`{text}` has a length of `{bits}`; it must be a number from 0 to {most}"
    )))
}

/// `example.org`.
fn name(text: &str) -> Option<Wrong> {
    let labels = || text.trim_end_matches('.').split('.');
    let label = |label: &str| {
        let mut letters = label.chars();
        !label.is_empty() && letters.all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    };
    let letters = text.contains(char::is_alphabetic);
    (letters && labels().all(label)).then(|| {
        Wrong::new(format!(
            "`{text}` is a name, and names are not policy: they may resolve to anything when it \
             matters. Write its addresses"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let wrong = prefix(text).unwrap_err();
        let hint = wrong
            .hint
            .map_or_else(String::new, |hint| format!(" | {hint}"));
        format!("{}{hint}", wrong.message)
    }

    #[test]
    fn prefixes_are_read() {
        for (text, meant) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("::fffe:0:0/95", "::fffe:0:0/95"),
        ] {
            let found = prefix(text).map(|net| net.to_string());
            assert_eq!(found.as_deref(), Ok(meant));
        }
    }

    #[test]
    fn what_is_no_prefix_is_told_with_what_was_meant() {
        insta::assert_snapshot!(told("192.0.2.7/24"), @r#"`192.0.2.7/24` has bits set behind its first 24 | the prefix is "192.0.2.0/24", the address alone "192.0.2.7""#);
        insta::assert_snapshot!(told("2001:db8::1/64"), @r#"`2001:db8::1/64` has bits set behind its first 64 | the prefix is "2001:db8::/64", the address alone "2001:db8::1""#);
        insta::assert_snapshot!(told("example.org"), @"`example.org` is a name, and names are not policy: they may resolve to anything when it matters. Write its addresses");
        insta::assert_snapshot!(told("localhost"), @"`localhost` is a name, and names are not policy: they may resolve to anything when it matters. Write its addresses");
        insta::assert_snapshot!(told("any"), @r#"`any` is no prefix: leave the key out for any address, or write "0.0.0.0/0" for all of IPv4 and "::/0" for all of IPv6"#);
        insta::assert_snapshot!(told("fe80::1%eth0"), @"`fe80::1%eth0` names a zone, which prefixes do not have: the key `interface` says where");
        insta::assert_snapshot!(told("192.0.2.1-192.0.2.9"), @r#"`192.0.2.1-192.0.2.9` is a range of addresses; sets are made of prefixes | these are "192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/30", "192.0.2.8/31""#);
        insta::assert_snapshot!(told("10.0.0.1 - 10.9.0.0"), @r#"`10.0.0.1 - 10.9.0.0` is a range of addresses; sets are made of prefixes | these are "10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/30", "10.0.0.8/29", "10.0.0.16/28", "10.0.0.32/27", …"#);
        insta::assert_snapshot!(told("192.0.2.9-192.0.2.1"), @"`192.0.2.9-192.0.2.1` is a range of addresses; sets are made of prefixes, and it is upside down");
        insta::assert_snapshot!(told("2001:db8::-2001:db8::ff"), @r#"`2001:db8::-2001:db8::ff` is a range of addresses; sets are made of prefixes | these are "2001:db8::/120""#);
        insta::assert_snapshot!(told("192.0.2.0/255.255.255.0"), @r#"`192.0.2.0/255.255.255.0` is written with a mask | did you mean "192.0.2.0/24"?"#);
        insta::assert_snapshot!(told("192.0.2.0/255.0.255.0"), @"`192.0.2.0/255.0.255.0` is written with a mask, whose bits are not in one piece");
        insta::assert_snapshot!(told("10/8"), @r#"`10/8` is shortened: a prefix has all four numbers | did you mean "10.0.0.0/8"?"#);
        insta::assert_snapshot!(told("192.0.2/24"), @r#"`192.0.2/24` is shortened: a prefix has all four numbers | did you mean "192.0.2.0/24"?"#);
        insta::assert_snapshot!(told("192.168.*"), @r#"`192.168.*` is shortened: a prefix has all four numbers | did you mean "192.168.0.0/16"?"#);
        insta::assert_snapshot!(told("192.0.2.1:443"), @r#"`192.0.2.1:443` has a port: ports stand in `ports` and `from_ports` | did you mean "192.0.2.1"?"#);
        insta::assert_snapshot!(told("[2001:db8::1]:443"), @r#"`[2001:db8::1]:443` has a port: ports stand in `ports` and `from_ports` | did you mean "2001:db8::1"?"#);
        insta::assert_snapshot!(told("192.0.2.0/33"), @"`192.0.2.0/33` has a length of `33`; it must be a number from 0 to 32");
        insta::assert_snapshot!(told("2001:db8::/x"), @"`2001:db8::/x` has a length of `x`; it must be a number from 0 to 128");
        insta::assert_snapshot!(told("::ffff:192.0.2.1"), @r#"`::ffff:192.0.2.1/128` stands for IPv4 inside programs (RFC 4291 section 2.5.5.2) and is in no packet | did you mean "192.0.2.1"?"#);
        insta::assert_snapshot!(told("::ffff:192.0.2.0/120"), @r#"`::ffff:192.0.2.0/120` stands for IPv4 inside programs (RFC 4291 section 2.5.5.2) and is in no packet | did you mean "192.0.2.0/24"?"#);
        insta::assert_snapshot!(told(" 192.0.2.1"), @r#"` 192.0.2.1` has blanks around it | did you mean "192.0.2.1"?"#);
        insta::assert_snapshot!(told(""), @r#"an empty string is no prefix: it is written "192.0.2.0/24" or "2001:db8::/64", or is a single address"#);
        insta::assert_snapshot!(told("300.0.2.1"), @r#"`300.0.2.1` is no prefix: it is written "192.0.2.0/24" or "2001:db8::/64", or is a single address"#);
        insta::assert_snapshot!(told("2001:db8::/64,"), @"`2001:db8::/64,` has a length of `64,`; it must be a number from 0 to 128");
    }
}
