//! The values that weir.toml writes as text: durations, sizes, rates, backoffs, names. Pure; it knows nothing of files or keys.
//!
//! A parser answers `Err` with a further hint for the reader, empty where the expected form says it all.

use std::time::Duration;

use super::Rate;

/// What a text has to look like: fits after "is not" and after "expected".
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// With its article: `a duration`.
    pub(super) noun: &'static str,
    /// Examples: ``such as `10s` ``; may be empty.
    pub(super) example: &'static str,
}

impl Form {
    pub(super) const fn new(noun: &'static str, example: &'static str) -> Self {
        Self { noun, example }
    }

    pub(super) fn expected(&self) -> String {
        format!("{} {}", self.noun, self.example).trim_end().to_owned()
    }
}

pub(super) const DURATION: Form = Form::new("a duration", "such as `250ms`, `10s`, `5m`, `1h` or `7d`");
pub(super) const SIZE: Form = Form::new("a size", "such as `512B`, `64KiB`, `16MiB` or `10GiB`");
pub(super) const RATE: Form = Form::new("a rate", "such as `10/s`, `100/m`, `5/h` or `1/d`");
pub(super) const BACKOFF: Form = Form::new("a backoff", "from a shortest to a longest wait, such as `1s..5m`");
pub(super) const NAME: Form = Form::new("a name", "of lower-case letters, digits and `-`, a letter first, at most 40 in all");
pub(super) const TEXT: Form = Form::new("a text", "in quotes");

/// Ten years: longer than anything waits here, and sums of a few of them stay far from where times overflow.
const DURATION_MAX: Duration = Duration::from_secs(3_650 * 24 * 3_600);

/// surface.md §1: `[a-z][a-z0-9-]{0,39}`.
const NAME_MAX: usize = 40;

/// Largest unit first, for writing.
const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Largest unit first, for writing.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Splits `64KiB` into 64 and `KiB`; nothing where there are no leading digits or too many of them.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit))
}

/// Reads `250ms`, `10s`, `5m`, `1h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text).ok_or_else(String::new)?;
    let Some((_, factor)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() { format!("the unit is missing: `{text}s` is seconds") } else { String::new() });
    };
    let duration = Duration::from_millis(number.checked_mul(*factor).ok_or_else(too_long)?);
    if duration > DURATION_MAX { Err(too_long()) } else { Ok(duration) }
}

fn too_long() -> String {
    format!("`{}` is the longest", fmt_duration(DURATION_MAX))
}

/// Reads `512B`, `64KiB`, `16MiB`, `10GiB`, `1TiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text).ok_or_else(String::new)?;
    let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        let meant = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => "B",
            "k" | "kb" | "kib" => "KiB",
            "m" | "mb" | "mib" => "MiB",
            "g" | "gb" | "gib" => "GiB",
            "t" | "tb" | "tib" => "TiB",
            _ => return Err(String::new()),
        };
        return Err(format!("did you mean `{number}{meant}`?"));
    };
    number.checked_mul(*factor).ok_or_else(|| "this is more bytes than can be counted".to_owned())
}

/// Reads `10/s`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let (count, unit) = text.split_once('/').ok_or_else(String::new)?;
    let per = match unit {
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        "d" => Duration::from_secs(86_400),
        _ => return Err(String::new()),
    };
    if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
        return Err(String::new());
    }
    match count.parse() {
        Ok(0) => Err("a rate of none sends nothing: take the grant out instead".to_owned()),
        Ok(count) => Ok(Rate { count, per }),
        Err(_) => Err(format!("the number is over {}", u32::MAX)),
    }
}

/// Reads `1s..5m`.
pub(super) fn backoff(text: &str) -> Result<(Duration, Duration), String> {
    let (from, to) = text.split_once("..").ok_or_else(String::new)?;
    let (from, to) = (duration(from)?, duration(to)?);
    if from.is_zero() {
        return Err("the first wait is zero: a handler that fails would run in a tight loop".to_owned());
    }
    if from > to {
        return Err(format!("the first wait, `{}`, is longer than the last, `{}`", fmt_duration(from), fmt_duration(to)));
    }
    Ok((from, to))
}

/// Whether this can name a queue or a handler.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A duration as weir.toml writes it, in the largest unit that says it exactly: `5m`.
#[must_use]
pub fn fmt_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    exactly(millis, &DURATION_UNITS)
}

/// A size as weir.toml writes it, in the largest unit that says it exactly: `64KiB`.
#[must_use]
pub fn fmt_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    exactly(bytes, &SIZE_UNITS)
}

fn exactly(number: u64, units: &[(&str, u64)]) -> String {
    match units.iter().find(|(_, factor)| number.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        let table = [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000), ("0s", 0)];
        for (text, millis) in table {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(fmt_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(fmt_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(fmt_duration(Duration::from_secs(90)), "90s");
        for wrong in
            ["", "10", "s", "10 s", "-1s", "1.5h", "10S", "1w", "99999999999999999999s", "4000d", "18446744073709551615d"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        let table = [("512B", 512), ("64KiB", 65_536), ("16MiB", 16 << 20), ("10GiB", 10 << 30), ("1TiB", 1 << 40), ("0B", 0)];
        for (text, bytes) in table {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(fmt_size(bytes), text);
        }
        assert_eq!(fmt_size(1_536), "1536B");
        for wrong in ["", "MiB", "64", "64MB", "64M", "1 KiB", "-1B", "1.5MiB", "99999999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("64MB"), Err("did you mean `64MiB`?".to_owned()));
    }

    #[test]
    fn rates_and_backoffs_are_read() {
        assert_eq!(rate("10/s"), Ok(Rate { count: 10, per: Duration::from_secs(1) }));
        assert_eq!(rate("1/d"), Ok(Rate { count: 1, per: Duration::from_secs(86_400) }));
        for wrong in ["", "10", "/s", "0/s", "-1/s", "+1/s", "10/w", "10/s/s", "9999999999/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(backoff("1s..5m"), Ok((Duration::from_secs(1), Duration::from_secs(300))));
        assert_eq!(backoff("2s..2s"), Ok((Duration::from_secs(2), Duration::from_secs(2))));
        for wrong in ["", "1s", "5m..1s", "0s..1s", "1s..", "..5m", "1s...5m"] {
            assert!(backoff(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "events", "email-notifier", "a1", &"a".repeat(40)] {
            assert!(is_name(good), "{good}");
        }
        for wrong in ["", "A", "1a", "-a", "a_b", "a.b", "ä", &"a".repeat(41)] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }
}
