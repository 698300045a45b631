//! Values that must not be shown, taken out of whatever a guest wrote or answered: log, reasons, the message of a trap.
//!
//! What is found is the value itself, as it was put in for `${NAME}` or `${file:…}`. What a guest makes of it (another encoding, a piece, its
//! length) is not: it holds a value that it may use, and this keeps honest code from showing it by accident.

use crate::config::Secret;

/// Shorter values are left alone, in characters: `info`, `true` or `8080` may come from the environment too, and are in every log.
pub const LENGTH_MIN: usize = 6;

/// What stands in the place of a value.
const MASK: &str = "***";

/// Values that must not be shown.
#[derive(Debug, Clone, Default)]
pub struct Redactor(Vec<Secret>);

impl Redactor {
    /// Of these values, those that are long enough.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = Secret>) -> Self {
        let mut values: Vec<Secret> = values.into_iter().filter(|value| value.0.chars().count() >= LENGTH_MIN).collect();
        // The longest first: one may be a part of another.
        values.sort_by(|left, right| right.0.len().cmp(&left.0.len()).then_with(|| left.0.cmp(&right.0)));
        values.dedup();
        Self(values)
    }

    /// The text without them.
    #[must_use]
    pub fn redact(&self, text: String) -> String {
        self.0.iter().fold(text, |text, value| if text.contains(&value.0) { text.replace(&value.0, MASK) } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_wherever_they_stand() {
        let secret = |text: &str| Secret(text.to_owned());
        let redactor = Redactor::new(["hunter2-long", "hunter2", "short", "größte", "two\nlines"].map(secret));
        for (text, expected) in [
            ("the key is hunter2.", "the key is ***."),
            ("hunter2-long hunter2", "*** ***"),
            ("hunter2hunter2", "******"),
            ("short", "short"),
            ("die größte", "die ***"),
            ("a two\nlines b", "a *** b"),
            ("HUNTER2", "HUNTER2"),
        ] {
            assert_eq!(redactor.redact(text.to_owned()), expected);
        }
        assert_eq!(format!("{redactor:?}"), "Redactor([***, ***, ***, ***])");
    }
}
