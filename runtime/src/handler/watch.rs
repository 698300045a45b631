//! Watches the files of handlers and swaps in what changed, when it can be used; else says why and leaves what runs.
//!
//! A change is a change of content: the folders are watched, not the files, so that writing in place, renaming over, swapping a link
//! and deleting and creating are all seen, and a fingerprint decides.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Handler, Loader, State};
use crate::config::{ConfigValue, HandlerConfig};

/// How long files must be quiet before they are read: compilers and editors write in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// Longest that is waited for quiet: something else may write in the same folder all the time.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// How often files are looked at without having been told: file systems and containers that send no notice.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

/// Watches until `stop`. Only a change of a file's content does anything.
pub async fn watch(handlers: Vec<Arc<Handler>>, loader: Arc<Loader>, stop: CancellationToken) {
    // One place is enough: a notice says "look", not what changed.
    let (notice, mut noticed) = mpsc::channel::<()>(1);
    // This end is kept even where nothing can be watched: a closed channel would be an endless notice.
    let watcher = watcher(&handlers, notice.clone());
    let mut seen: Vec<Seen> = handlers.iter().map(|handler| Seen::new(handler)).collect();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = tokio::time::timeout(LOOK_ANYWAY, noticed.recv()) => {}
        }
        let until = Instant::now() + QUIET_MAX;
        while Instant::now() < until && tokio::time::timeout(QUIET, noticed.recv()).await.is_ok() {}
        for (handler, seen) in handlers.iter().zip(&mut seen) {
            let stamp = stamp(&handler.config);
            if stamp != seen.stamp {
                seen.stamp = stamp;
                reload(handler, &loader, seen).await;
            }
        }
    }
    drop((watcher, notice));
}

/// What was found at the last look.
struct Seen {
    /// Cheap to compare: nothing is read while it stays the same.
    stamp: Vec<Option<(SystemTime, u64, u64)>>,
    /// Of the content, or the text of what kept it from being read.
    content: String,
}

impl Seen {
    fn new(handler: &Handler) -> Self {
        // No stamp: what changed since the handler was loaded is found at the first look.
        Self { stamp: Vec::new(), content: handler.current().fingerprint.clone() }
    }
}

/// When each file was changed, its length and its inode; links are followed.
fn stamp(config: &HandlerConfig) -> Vec<Option<(SystemTime, u64, u64)>> {
    let of = |file: &PathBuf| {
        let found = std::fs::metadata(file).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    };
    files(config).map(of).collect()
}

/// Loads a handler's files if their content is not what was seen last, or if what runs has failed.
async fn reload(handler: &Handler, loader: &Arc<Loader>, seen: &mut Seen) {
    let (reader, config) = (Arc::clone(loader), handler.config.clone());
    let Ok(read) = tokio::task::spawn_blocking(move || reader.read(&config)).await else { return };
    let failed = matches!(*handler.state().borrow(), State::Failed { .. });
    let source = match read {
        Ok(source) if source.fingerprint == seen.content && !failed => return,
        Ok(source) => source,
        Err(problem) => {
            let text = problem.to_string();
            if seen.content != text {
                handler.refuse(&text);
                seen.content = text;
            }
            return;
        }
    };
    seen.content.clone_from(&source.fingerprint);
    let old = handler.current();
    if source.fingerprint == old.fingerprint && !failed {
        handler.unrefuse();
        tracing::info!(handler = %handler.name, version = old.short(), "file is again the one that runs");
        return;
    }
    match loader.load(&handler.name, &handler.config, source).await {
        Ok(version) => {
            let new = version.short().to_owned();
            handler.swap(version);
            tracing::info!(handler = %handler.name, version = %new, previous = old.short(), "new version runs");
        }
        Err(problem) => handler.refuse(&problem.to_string()),
    }
}

/// Tells of anything that happens in the folders of the handlers' files, and in those that links lead to.
fn watcher(handlers: &[Arc<Handler>], notice: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let tell = move |_| {
        // Full: a look is already due.
        let _ = notice.try_send(());
    };
    let mut watcher = match notify::recommended_watcher(tell) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, every = ?LOOK_ANYWAY, "files can't be watched, looking at them now and then");
            return None;
        }
    };
    for folder in handlers.iter().flat_map(|handler| folders(&handler.config)).collect::<BTreeSet<_>>() {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, folder = %folder.display(), every = ?LOOK_ANYWAY, "folder can't be watched, looking now and then");
        }
    }
    Some(watcher)
}

/// The component, and the files that the configuration names.
fn files(config: &HandlerConfig) -> impl Iterator<Item = &PathBuf> {
    let texts = config.config.iter().filter_map(|(_, value)| match value {
        ConfigValue::File(file) => Some(file),
        ConfigValue::Text(_) | ConfigValue::Secret { .. } => None,
    });
    texts.chain([&config.component])
}

fn folders(config: &HandlerConfig) -> Vec<PathBuf> {
    let both = files(config).flat_map(|file| [Some(file.clone()), file.canonicalize().ok()]).flatten();
    both.filter_map(|file| file.parent().map(Path::to_owned)).collect()
}
