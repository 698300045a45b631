//! One process owns a folder: an advisory lock on a file in it, which the kernel releases when the process ends, however it ends.
//!
//! It does not guard against programs that ignore the lock.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::queue::QueueError;

/// The lock's file. It stays when the lock is released: removing it would race with the next owner.
const LOCK_FILE: &str = "lock";

/// Holds a folder until it is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
}

impl FolderLock {
    /// Takes the folder, or says who has it.
    pub(super) fn take(folder: &Path) -> Result<Self, QueueError> {
        let path = folder.join(LOCK_FILE);
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            QueueError::Unavailable(format!("{what} `{}` failed: {error} (check the folder's permissions)", path.display()))
        };
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(|error| wrong("opening", &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(QueueError::Owned(owner(folder, &mut file))),
            Err(error) => return Err(wrong("locking", &error)),
        }
        let mut lock = Self { file };
        let file = &mut lock.file;
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|error| wrong("writing", &error))?;
        Ok(lock)
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing is not enough: a process that this one is just starting holds the file too, until it has become its own program.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!("a folder's lock stays until this process ends: {error}");
        }
    }
}

fn owner(folder: &Path, file: &mut File) -> String {
    let mut text = String::new();
    // The owner may be between taking the lock and writing its id: then it stays unnamed.
    let _ = file.take(32).read_to_string(&mut text);
    let owner = match text.trim() {
        "" => "another process".to_owned(),
        pid if pid == std::process::id().to_string() => format!("process {pid}, which is this one"),
        pid => format!("process {pid}"),
    };
    format!("folder `{}` is owned by {owner} (one process at a time: stop it, or ask it through its address)", folder.display())
}
