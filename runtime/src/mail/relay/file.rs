//! `file:DIR`: one `.eml` file a message, for trying mail out. Sends nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lettre::address::Envelope;
use tokio::sync::Semaphore;

use super::said;
use crate::clock::{self, Timestamp};
use crate::mail::MailError;
use crate::store::MailIdentity;

/// Most files being written at once: each blocks a thread until it is synced.
const WRITERS_MAX: usize = 4;
/// Mails are personal: the owner and its group may read them (less what the umask takes).
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// A folder that takes messages.
#[derive(Debug)]
pub(crate) struct FileRelay {
    folder: PathBuf,
    name: String,
    places: Arc<Semaphore>,
}

impl FileRelay {
    pub(super) fn new(folder: PathBuf) -> Self {
        let name = format!("file:{}", folder.display());
        Self { folder, name, places: Arc::new(Semaphore::new(WRITERS_MAX)) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn places(&self) -> &Arc<Semaphore> {
        &self.places
    }

    pub(super) async fn hand_over(&self, identity: &MailIdentity, envelope: &Envelope, message: &[u8]) -> Result<(), MailError> {
        let away = |error: &dyn std::fmt::Display| MailError::Unavailable(format!("relay `{}`: {}", self.name, said(error)));
        let identity = hex::encode(identity);
        let target = self.folder.join(file_name(clock::now(), &identity));
        let beside = self.folder.join(format!(".{identity}.part"));
        let folder = self.folder.clone();
        let mut content = recipients_header(envelope).into_bytes();
        content.extend_from_slice(message);
        match tokio::task::spawn_blocking(move || write(&folder, &beside, &target, &content)).await {
            Ok(written) => written.map_err(|error| away(&error)),
            Err(error) => Err(away(&error)),
        }
    }
}

/// `<UTC time>-<12 hex digits of the message's identity>.eml`: sorts by time, holds nothing of the event.
fn file_name(now: Timestamp, identity: &str) -> String {
    let millis = i64::try_from(now.0).unwrap_or_default();
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default().strftime("%Y%m%dT%H%M%S%.3fZ");
    let digits: String = identity.chars().take(12).collect();
    format!("{time}-{digits}.eml")
}

/// The envelope's recipients, one a line so that no line grows too long.
fn recipients_header(envelope: &Envelope) -> String {
    let recipients: Vec<_> = envelope.to().iter().map(ToString::to_string).collect();
    format!("X-Weir-Recipients: {}\r\n", recipients.join(",\r\n "))
}

/// Written beside, synced and renamed: whoever reads the folder never sees half a message, nor does a crash leave one.
fn write(folder: &Path, beside: &Path, target: &Path, content: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let written = write_synced(beside, content).and_then(|()| std::fs::rename(beside, target));
    if written.is_err() {
        // What is left of it would only take room; the error above is the one to tell.
        let _ = std::fs::remove_file(beside);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_time_and_identity() {
        assert_eq!(file_name(Timestamp(1_700_000_000_007), &"ab".repeat(32)), "20231114T221320.007Z-abababababab.eml");
    }

    #[test]
    fn many_recipients_are_folded() {
        let recipients = (0..100).map(|at| format!("recipient-{at}@example.com").parse().unwrap()).collect();
        let header = recipients_header(&Envelope::new(None, recipients).unwrap());
        assert!(header.starts_with("X-Weir-Recipients: recipient-0@example.com,\r\n recipient-1@example.com,\r\n"));
        assert!(header.ends_with("\r\n") && header.split("\r\n").all(|line| line.len() < 78));
    }
}
