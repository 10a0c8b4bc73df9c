//! Quantities as people write them: rates, durations, token amounts. Exact integers throughout; the
//! command line and the configuration read them with the same code.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

/// Bits a second at the IP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Rate(pub u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// What a rate may look like, for messages.
pub const RATE_FORMS: &str = "100mbit, 1gbit, 1.5gbit, or a plain integer of bit/s";
/// What a number of bytes may look like, for messages.
pub const BYTES_FORMS: &str = "500mb, 6gb, 1.5gb, or a plain integer of bytes";
/// What a duration may look like, for messages.
pub const DURATION_FORMS: &str = "100ms, 2s, 1m or 1h";
/// What an amount of tokens may look like, for messages.
pub const AMOUNT_FORMS: &str = "a decimal integer of base units, up to 2^128 - 1";

/// Longest URL of evidence, bytes: `MAX_SOURCE` of the contract `Disputes`.
pub const SOURCE_MAX: usize = 256;

/// Where evidence can be fetched by anyone.
///
/// # Errors
/// In words: why not.
pub fn parse_source(text: &str) -> Result<reqwest::Url, String> {
    let url = text.parse::<reqwest::Url>();
    let plain = url.as_ref().is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
    });
    if text.len() > SOURCE_MAX || !plain {
        return Err(format!(
            "allowed: http:// or https://, no user or password, at most {SOURCE_MAX} bytes"
        ));
    }
    url.map_err(|e| e.to_string())
}

/// Unit names of a rate with their powers of ten, longest name first.
const RATE_UNITS: [(&str, u32); 4] = [("gbit", 9), ("mbit", 6), ("kbit", 3), ("bit", 0)];
/// Likewise of a number of bytes.
const BYTES_UNITS: [(&str, u32); 4] = [("gb", 9), ("mb", 6), ("kb", 3), ("b", 0)];
/// Unit names of a duration in milliseconds; `ms` before `m` and `s`.
const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl FromStr for Rate {
    type Err = String;

    /// Reads [`RATE_FORMS`]; fractions are exact, so `1.0000000001gbit` is refused, not rounded.
    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &RATE_UNITS, ("rate", RATE_FORMS), "bit/s").map(Self)
    }
}

impl fmt::Display for Rate {
    /// The shortest exact form: `1gbit`, `2500mbit`, `123456`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shortest(self.0, &RATE_UNITS, f)
    }
}

impl FromStr for Bytes {
    type Err = String;

    /// Reads [`BYTES_FORMS`]; fractions are exact.
    fn from_str(text: &str) -> Result<Self, String> {
        scaled(text, &BYTES_UNITS, ("number of bytes", BYTES_FORMS), "byte").map(Self)
    }
}

impl fmt::Display for Bytes {
    /// The shortest exact form: `6gb`, `1500mb`, `123456`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shortest(self.0, &BYTES_UNITS, f)
    }
}

/// A number with one of `units` or none, exactly.
fn scaled(
    text: &str,
    units: &[(&str, u32)],
    (what, forms): (&str, &str),
    finest: &str,
) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a {what} ({forms})");
    let lower = text.trim().to_ascii_lowercase();
    let (number, power) = units
        .iter()
        .find_map(|(unit, power)| lower.strip_suffix(unit).map(|n| (n.trim_end(), *power)))
        .unwrap_or((lower.as_str(), 0));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.ends_with('.') || !all_digits(whole) || !fraction.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(bad());
    }
    let places = u32::try_from(fraction.len()).map_err(|_| bad())?;
    let rest = power
        .checked_sub(places)
        .ok_or_else(|| format!("`{text}` is finer than one {finest}"))?;
    format!("{whole}{fraction}")
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(10u64.pow(rest)))
        .ok_or_else(|| format!("`{text}` does not fit 64 bits of {finest}"))
}

fn shortest(value: u64, units: &[(&str, u32)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (unit, power) in units {
        let size = 10u64.pow(*power);
        if *power > 0 && value >= size && value.is_multiple_of(size) {
            return write!(f, "{}{unit}", value / size);
        }
    }
    write!(f, "{value}")
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Reads a duration: an integer and its unit ([`DURATION_FORMS`]).
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration ({DURATION_FORMS})");
    let trimmed = text.trim();
    let (number, unit) = DURATION_UNITS
        .iter()
        .find_map(|(name, ms)| trimmed.strip_suffix(name).map(|n| (n.trim_end(), *ms)))
        .ok_or_else(bad)?;
    if !all_digits(number) {
        return Err(bad());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` does not fit 64 bits of milliseconds"))
}

/// Writes a duration in its largest whole unit, readable by [`parse_duration`]. Milliseconds are
/// the finest.
pub fn format_duration(value: Duration) -> String {
    let ms = value.as_millis();
    DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, size)| ms > 0 && ms.is_multiple_of(u128::from(*size)))
        .map_or_else(
            || format!("{ms}ms"),
            |(unit, size)| format!("{}{unit}", ms / u128::from(*size)),
        )
}

/// Reads an amount of base units ([`AMOUNT_FORMS`]).
pub fn parse_amount(text: &str) -> Result<u128, String> {
    let trimmed = text.trim();
    if !all_digits(trimmed) {
        return Err(format!("`{text}` is not {AMOUNT_FORMS}"));
    }
    trimmed
        .parse()
        .map_err(|_| format!("`{text}` does not fit 128 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_plain_url_of_the_web() {
        let longest = format!("http://a/{}", "b".repeat(SOURCE_MAX - 9));
        for text in [
            "http://192.0.2.1:80/e",
            "https://example.org/e?x=1",
            &longest,
        ] {
            assert_eq!(text.len() > SOURCE_MAX, parse_source(text).is_err());
            assert!(parse_source(text).is_ok(), "{text}");
        }
        let longer = format!("{longest}b");
        for text in [
            "",
            "192.0.2.1:80",
            "file:///etc/passwd",
            "ftp://example.org/e",
            "http://user@example.org/e",
            "http://:secret@example.org/e",
            &longer,
        ] {
            assert!(parse_source(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_exact() {
        for (text, want) in [
            ("100mbit", 100_000_000),
            ("1gbit", 1_000_000_000),
            ("2500mbit", 2_500_000_000),
            ("1.5gbit", 1_500_000_000),
            ("1.5Gbit", 1_500_000_000),
            ("0.000000001gbit", 1),
            ("8kbit", 8_000),
            ("12", 12),
            ("12 bit", 12),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse::<Rate>(), Ok(Rate(want)), "{text}");
        }
        for text in [
            "",
            "gbit",
            "-1",
            "+1",
            "1.",
            "1.gbit",
            ".5gbit",
            "1e9",
            "1gb",
            "0.5bit",
            "1.5",
            "0.0000000001gbit",
            "18446744073709551616",
            "18446744074gbit",
            "1..5gbit",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        for bps in [0, 1, 999, 1_000, 1_500_000_000, 1_000_000_001, u64::MAX] {
            assert_eq!(Rate(bps).to_string().parse(), Ok(Rate(bps)));
        }
    }

    #[test]
    fn numbers_of_bytes_are_exact() {
        for (text, want) in [
            ("6gb", 6_000_000_000),
            ("1.5GB", 1_500_000_000),
            ("64 mb", 64_000_000),
            ("12b", 12),
            ("12", 12),
        ] {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(want)), "{text}");
        }
        for text in ["", "gb", "1mib", "1gbit", "0.5", "0.5b", "18446744074gb"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!(Bytes(6_000_000_000).to_string(), "6gb");
        assert_eq!(Bytes(1).to_string(), "1");
    }

    #[test]
    fn durations_are_exact() {
        for (text, ms) in [
            ("100ms", 100),
            ("2s", 2_000),
            ("1m", 60_000),
            ("1h", 3_600_000),
            ("0ms", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "ms",
            "-1s",
            "1.5s",
            "1 parsec",
            "18446744073709551615h",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 61_000, 7_200_000] {
            let value = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(value)), Ok(value));
        }
    }

    #[test]
    fn amounts_fill_128_bits_and_no_more() {
        assert_eq!(
            parse_amount("340282366920938463463374607431768211455"),
            Ok(u128::MAX)
        );
        for text in [
            "340282366920938463463374607431768211456",
            "",
            "-1",
            "+1",
            "1_000",
            "0x10",
            "1.0",
        ] {
            assert!(parse_amount(text).is_err(), "{text}");
        }
    }
}
