//! The clock of a build with the feature `test-clock`: a file, which every process that is given it reads.

use std::path::PathBuf;

use jiff::Timestamp;
use tempfile::TempDir;

/// A clock that stands still between two calls of [`Clock::set`].
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
    now: Timestamp,
}

impl Clock {
    /// A clock that shows this time.
    ///
    /// # Panics
    /// When its file can't be written.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let mut clock = Self { folder: tempfile::tempdir().expect("a temporary folder can be made"), now };
        clock.set(now);
        clock
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Sets it: whole for whoever reads it, as the file is written beside and renamed.
    ///
    /// # Panics
    /// When its file can't be written.
    pub fn set(&mut self, now: Timestamp) {
        let beside = self.folder.path().join("beside");
        std::fs::write(&beside, format!("{now:.3}"))
            .and_then(|()| std::fs::rename(&beside, self.path()))
            .expect("a clock is set");
        self.now = now;
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("now")
    }
}
