//! Sizes and durations as people write them: `256MiB`, `30s`.

use std::time::Duration;

const SIZES: [(&str, u64); 8] = [
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("", 1),
];

const DURATIONS: [(&str, f64); 6] =
    [("ms", 1e-3), ("us", 1e-6), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];

/// Reads a size in bytes: a whole number with `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB` or nothing.
///
/// # Errors
/// A sentence that says what a size looks like.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: write a whole number with a unit, like 256MiB");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.to_ascii_lowercase();
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*factor).ok_or_else(wrong)
}

/// Reads a duration: a number with `us`, `ms`, `s`, `m`, `h` or nothing (seconds).
///
/// # Errors
/// A sentence that says what a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration: write a number with a unit, like 30s or 500ms");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let (_, factor) = DURATIONS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())
}

/// A size in the largest unit that keeps it whole.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// A duration in the largest unit that keeps it whole, as far as microseconds.
#[must_use]
pub fn duration_text(time: Duration) -> String {
    match time.as_micros() {
        micros if micros % 1_000_000 == 0 => format!("{}s", micros / 1_000_000),
        micros if micros % 1_000 == 0 => format!("{}ms", micros / 1_000),
        micros => format!("{micros}us"),
    }
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_written() {
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("10 kB"), Ok(10_000));
        assert_eq!(size("7"), Ok(7));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "MiB", "1.5MiB", "-1", "99999999999GiB", "5 potatoes"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "1.2.3s", "-1s", "9e99h", "5 days", "99999999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
