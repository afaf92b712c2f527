//! Small pieces of text, written without allocating.

use std::{
    fmt,
    io::{self, Write},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// Writes a whole number.
pub fn int(out: &mut impl Write, number: impl itoa::Integer) -> io::Result<()> {
    out.write_all(itoa::Buffer::new().format(number).as_bytes())
}

/// Writes an address, IPv6 as RFC 5952 wants it.
pub fn addr(out: &mut impl Write, addr: IpAddr) -> io::Result<()> {
    match addr {
        // By far the most frequent, and std's formatting takes four times as
        // long.
        IpAddr::V4(addr) => {
            let [a, b, c, d] = addr.octets();
            int(out, a)?;
            out.write_all(b".")?;
            int(out, b)?;
            out.write_all(b".")?;
            int(out, c)?;
            out.write_all(b".")?;
            int(out, d)
        }
        IpAddr::V6(addr) => write!(out, "{addr}"),
    }
}

/// Writes address and port, an IPv6 address in brackets.
pub fn socket(out: &mut impl Write, at: (IpAddr, u16)) -> io::Result<()> {
    match SocketAddr::from(at) {
        SocketAddr::V4(at) => socket_v4(out, at),
        SocketAddr::V6(at) => socket_v6(out, at),
    }
}

fn socket_v4(out: &mut impl Write, at: SocketAddrV4) -> io::Result<()> {
    addr(out, IpAddr::V4(*at.ip()))?;
    out.write_all(b":")?;
    int(out, at.port())
}

fn socket_v6(out: &mut impl Write, at: SocketAddrV6) -> io::Result<()> {
    write!(out, "[{}]:", at.ip())?;
    int(out, at.port())
}

/// Width of [`socket`]'s text in characters.
pub fn socket_width(at: (IpAddr, u16)) -> usize {
    let digits = |number: u16| number.checked_ilog10().unwrap_or(0) as usize + 1;
    match at.0 {
        IpAddr::V4(addr) => {
            addr.octets()
                .iter()
                .map(|&octet| digits(octet.into()) + 1)
                .sum::<usize>()
                + digits(at.1)
        }
        IpAddr::V6(addr) => width(addr) + digits(at.1) + "[]:".len(),
    }
}

/// Octets of `value`'s text.
pub fn width(value: impl fmt::Display) -> usize {
    struct Count(usize);
    impl fmt::Write for Count {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 += text.len();
            Ok(())
        }
    }
    let mut count = Count(0);
    match fmt::write(&mut count, format_args!("{value}")) {
        // Counting does not fail; were it to, a column would be narrow.
        Ok(()) | Err(fmt::Error) => count.0,
    }
}

/// A count in at most five characters: exact below 100,000, then three digits
/// and a power of 1000.
pub struct Short(pub u64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 100_000 {
            return write!(f, "{}", self.0);
        }
        let (mut value, mut rest, mut unit) = (self.0, 0, "");
        for next in ["K", "M", "G", "T", "P", "E"] {
            if value < 1000 {
                break;
            }
            (value, rest, unit) = (value / 1000, value % 1000, next);
        }
        match value {
            0..10 => write!(f, "{value}.{:02}{unit}", rest / 10),
            10..100 => write!(f, "{value}.{}{unit}", rest / 100),
            _ => write!(f, "{value}{unit}"),
        }
    }
}

/// A count of octets: a number and a power of 1024.
pub struct Octets(pub u64);

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut rest, mut unit) = (self.0, 0, "B");
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024 {
                break;
            }
            (value, rest, unit) = (value / 1024, value % 1024, next);
        }
        if value < 10 && unit != "B" {
            write!(f, "{value}.{} {unit}", rest * 10 / 1024)
        } else {
            write!(f, "{value} {unit}")
        }
    }
}

/// A duration in milliseconds in at most two units: `9.8s`, `58s`, `14m59s`,
/// `4d23h`.
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (big, big_unit, small, small_unit) = match seconds {
            0..10 => return write!(f, "{seconds}.{}s", self.0 % 1000 / 100),
            10..120 => return write!(f, "{seconds}s"),
            120..7200 => (seconds / 60, 'm', seconds % 60, 's'),
            7200..172_800 => (seconds / 3600, 'h', seconds % 3600 / 60, 'm'),
            _ => (seconds / 86_400, 'd', seconds % 86_400 / 3600, 'h'),
        };
        write!(f, "{big}{big_unit}")?;
        if small == 0 {
            Ok(())
        } else {
            write!(f, "{small}{small_unit}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(at: (IpAddr, u16)) -> String {
        let mut out = Vec::new();
        socket(&mut out, at).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sockets_are_written_as_std_writes_them() {
        for text in [
            "0.0.0.0:0",
            "10.2.30.255:65535",
            "[::]:1",
            "[2001:db8::1]:443",
            "[::1]:22",
        ] {
            let at: SocketAddr = text.parse().unwrap();
            assert_eq!(written((at.ip(), at.port())), text);
            assert_eq!(socket_width((at.ip(), at.port())), text.len());
        }
    }

    #[test]
    fn counts_stay_within_five_characters() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100K"),
            (1_234_567, "1.23M"),
            (12_345_678, "12.3M"),
            (999_999_999, "999M"),
            (1_009_000_000, "1.00G"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(Short(number).to_string(), text);
        }
    }

    #[test]
    fn octets_take_powers_of_1024() {
        assert_eq!(Octets(1023).to_string(), "1023 B");
        assert_eq!(Octets(1536).to_string(), "1.5 KiB");
        assert_eq!(Octets(48 << 20).to_string(), "48 MiB");
    }

    #[test]
    fn durations_take_two_units_at_most() {
        for (ms, text) in [
            (0, "0.0s"),
            (9_999, "9.9s"),
            (119_000, "119s"),
            (899_000, "14m59s"),
            (7_200_000, "2h"),
            (431_999_000, "4d23h"),
        ] {
            assert_eq!(Span(ms).to_string(), text);
        }
    }
}
