//! How it reads that too much is parked.

use std::fmt;

/// That nothing is pulled because too much is parked: how much, and for which lane most of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedFull {
    /// How many are parked.
    pub parked: usize,
    /// The lane that holds most of them, and how many.
    pub longest: Option<(String, usize)>,
}

impl fmt::Display for ParkedFull {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "nothing is pulled: `parked` is full with {} events", self.parked)?;
        match &self.longest {
            Some((lane, count)) => write!(f, ", {count} of them wait behind one with the order key `{lane}`"),
            None => Ok(()),
        }
    }
}
