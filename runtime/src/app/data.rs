//! The folder `data`: owned by one process at a time, and where that process says how it is reached.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// A data folder that this process owns until dropped. The lock goes with the process, however that ends.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    lock: File,
}

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another process has it.
    #[error("`{}` belongs to process {owner} (stop it, or give this server a [server] data of its own)", path.display())]
    Owned {
        /// The folder.
        path: PathBuf,
        /// The process id, or `?`.
        owner: String,
    },
    /// It can't be made or written.
    #[error("`{}` can't be used as [server] data: {error}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl DataFolder {
    /// Makes the folder, readable by our user alone, and owns it.
    ///
    /// # Errors
    /// When another process owns it, which is named, or it can't be written.
    pub fn own(path: &Path) -> Result<Self, DataError> {
        let failed = |error| DataError::Io { path: path.to_owned(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).to_owned();
        let mut lock = options.open(path.join("lock")).map_err(failed)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            let _ = lock.read_to_string(&mut owner);
            let owner = if owner.trim().is_empty() { "?".to_owned() } else { owner.trim().to_owned() };
            return Err(DataError::Owned { path: path.to_owned(), owner });
        }
        let mut folder = Self { path: path.to_owned(), lock };
        folder.lock.set_len(0).and_then(|()| write!(folder.lock, "{}", std::process::id())).map_err(failed)?;
        Ok(folder)
    }

    /// This process's name among others: as configured, else made once of the host's name and kept in `name`.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub fn name(&self, configured: Option<&str>) -> Result<String, DataError> {
        if let Some(name) = configured {
            return Ok(name.to_owned());
        }
        let file = self.path.join("name");
        match fs::read_to_string(&file) {
            Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
            _ => {}
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = format!("{host}-{:06x}", fastrand::u32(..1 << 24));
        fs::write(&file, &name).map_err(|error| DataError::Io { path: self.path.clone(), error })?;
        Ok(name)
    }

    /// Says where this server answers, for commands on the same machine: `server.json`, readable by our user alone.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn announce(&self, url: &str) -> Result<(), DataError> {
        let failed = |error| DataError::Io { path: self.path.clone(), error };
        let beside = self.path.join(".server.json");
        let text = serde_json::json!({ "url": url, "pid": std::process::id() }).to_string();
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).to_owned();
        options
            .open(&beside)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&beside, self.path.join("server.json")))
            .map_err(failed)
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path.join("server.json"));
        // Closing is not enough: a process that this one is just starting holds the file too, until it has become its own program.
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "the lock of a data folder stays until this process ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::own(folder.path()).unwrap();
        let error = DataFolder::own(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("belongs to process {}", std::process::id())), "{error}");
        data.announce("http://127.0.0.1:1").unwrap();
        assert!(folder.path().join("server.json").exists());
        let name = data.name(None).unwrap();
        assert_eq!(data.name(None).unwrap(), name);
        assert_eq!(data.name(Some("mine")).unwrap(), "mine");
        drop(data);
        assert!(!folder.path().join("server.json").exists());
        DataFolder::own(folder.path()).unwrap();
    }

    /// A process that is being started holds every file of this one until it has become its own program: that must not keep a folder.
    #[test]
    fn a_folder_is_free_at_once_whatever_processes_are_started_meanwhile() {
        let over = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        std::process::Command::new("true").status().unwrap();
                    }
                });
            }
            let begun = Instant::now();
            let mut held = None;
            while begun.elapsed() < Duration::from_secs(1) && held.is_none() {
                held = DataFolder::own(folder.path()).err();
            }
            over.store(true, Ordering::Relaxed);
            assert!(held.is_none(), "{held:?}");
        });
    }
}
