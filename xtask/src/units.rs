//! Rates and times as people write them, and as the product's command line takes them.

use std::time::Duration;

/// Parses `100mbit`, `1gbit`, `1.5gbit`, `800kbit` or a plain number of bit/s.
///
/// # Errors
/// What was given and what is allowed.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let scale = |power| move |number: &str| scaled(number, power);
    let suffixes = [
        ("gbit", 9_u32),
        ("mbit", 6),
        ("kbit", 3),
        ("bit", 0),
        ("", 0),
    ];
    let lower = text.to_ascii_lowercase();
    let bps = suffixes
        .iter()
        .find_map(|(suffix, power)| lower.strip_suffix(suffix).and_then(scale(*power)));
    bps.filter(|bps| *bps > 0).ok_or_else(|| {
        format!("`{text}` is no rate; write 100mbit, 1gbit, 2.5gbit or a number of bit/s above 0")
    })
}

/// Parses `50us`, `20ms`, `1.5s`, `1m`.
///
/// # Errors
/// What was given and what is allowed.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let suffixes = [("us", 3_u32, 1), ("ms", 6, 1), ("s", 9, 1), ("m", 9, 60)];
    let nanos = suffixes.iter().find_map(|(suffix, power, times)| {
        text.strip_suffix(suffix)
            .and_then(|number| scaled(number, *power)?.checked_mul(*times))
    });
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("`{text}` is no time; write 50us, 20ms, 1.5s or 1m"))
}

/// Parses a share such as `0.5%` into millionths.
///
/// # Errors
/// What was given and what is allowed.
pub(crate) fn ppm(text: &str) -> Result<u32, String> {
    let ppm =
        scaled(text.strip_suffix('%').unwrap_or(text), 4).and_then(|ppm| u32::try_from(ppm).ok());
    ppm.filter(|ppm| *ppm <= 1_000_000)
        .ok_or_else(|| format!("`{text}` is no share; write a percentage from 0% to 100%"))
}

/// A decimal number times ten to `power`, exactly; none if digits would be lost.
fn scaled(number: &str, power: u32) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let places = u32::try_from(part.len()).ok()?;
    if whole.is_empty()
        || !digits(whole)
        || !digits(part)
        || places > power
        || number.ends_with('.')
    {
        return None;
    }
    let value: u64 = format!("{whole}{part}").parse().ok()?;
    value.checked_mul(10_u64.checked_pow(power - places)?)
}

/// A rate for people: `997.3 Mbit/s`.
pub(crate) fn show_rate(bps: u64) -> String {
    let value = bps as f64;
    match bps {
        1_000_000_000.. => format!("{:.3} Gbit/s", value / 1e9),
        1_000_000.. => format!("{:.2} Mbit/s", value / 1e6),
        _ => format!("{:.2} kbit/s", value / 1e3),
    }
}

/// A time for people: `20.143 ms`.
pub(crate) fn show_nanos(nanos: u64) -> String {
    let value = nanos as f64;
    match nanos {
        1_000_000_000.. => format!("{:.3} s", value / 1e9),
        1_000_000.. => format!("{:.3} ms", value / 1e6),
        _ => format!("{:.1} µs", value / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(rate("100mbit"), Ok(100_000_000));
        assert_eq!(rate("2.5Gbit"), Ok(2_500_000_000));
        assert_eq!(rate("1000"), Ok(1000));
        assert_eq!(rate("1.000000001gbit"), Ok(1_000_000_001));
        for bad in [
            "",
            "0",
            "-1mbit",
            "1.",
            ".5gbit",
            "1.5",
            "1.0000000001gbit",
            "99999999999gbit",
            "fast",
        ] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_and_shares() {
        assert_eq!(time("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert!(time("20").is_err() && time("ms").is_err());
        assert_eq!((ppm("0.5%"), ppm("100%")), (Ok(5_000), Ok(1_000_000)));
        assert!(ppm("100.0001%").is_err() && ppm("-1%").is_err());
    }
}
