//! How long an event is held back: `?delay=10m` and `weir publish --delay 10m`, in the durations of weir.toml.

use std::time::Duration;

use crate::config;

/// The longest delay taken: a year and a day. A typing error in the unit should not hold an event for a lifetime.
pub const DELAY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a duration: a whole number and a unit.
///
/// # Errors
/// Says what was found and what is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a whole number and a unit, as in `250ms`, `10s`, `5m`, `1h`, `7d`";
    config::duration(text).map_err(|_| format!("`{text}` is no duration, {expected}"))
}

/// Reads a delay: a duration of at most [`DELAY_MAX`].
///
/// # Errors
/// Says what was found and what is expected.
pub fn delay(text: &str) -> Result<Duration, String> {
    let delay = duration(text)?;
    if delay > DELAY_MAX { Err(format!("`{text}` is too long a delay, expected at most `366d`")) } else { Ok(delay) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, millis) in
            [("250ms", 250), ("0s", 0), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("366d", 31_622_400_000)]
        {
            assert_eq!(delay(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "1 h", "-1s", "1.5h", "1H", "99999999999999999999s", "18446744073709551615d", "+1s"] {
            assert!(delay(text).unwrap_err().contains("is no duration"), "{text}");
        }
        assert_eq!(delay("367d").unwrap_err(), "`367d` is too long a delay, expected at most `366d`");
    }
}
