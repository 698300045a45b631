//! Compiled code on disk. What can't be trusted is ignored and compiled again, never loaded (sandbox.md §5).
//!
//! `deserialize` checks version and settings, not integrity, so the trust is the folder: 0700, ours, no link. Each file is opened
//! without following links, must be regular, ours and not writable by others, and is hashed through the open descriptor that is then
//! mapped. The hash, in the file's name, finds damage; whoever can write as our user has won anyway. Files are written once, beside and
//! renamed, and never changed.

use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::engine::{Class, ENGINE_VERSION};
use super::inspect::Kind;

/// Most files kept; the oldest go first. A handler that is rebuilt all day leaves one a build.
const FILES_MAX: usize = 512;

/// Code that can be linked.
pub(super) enum Compiled {
    Component(Component),
    Module(Module),
}

impl Compiled {
    /// Compiles.
    pub(super) fn from_binary(engine: &Engine, kind: Kind, bytes: &[u8]) -> wasmtime::Result<Self> {
        match kind {
            Kind::Component => Component::from_binary(engine, bytes).map(Self::Component),
            Kind::Module => Module::from_binary(engine, bytes).map(Self::Module),
        }
    }

    fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::Component(component) => component.serialize(),
            Self::Module(module) => module.serialize(),
        }
    }

    /// How many linear memories an instance takes, where that is known before there is one.
    pub(super) fn memories(&self) -> Option<u32> {
        let needs = match self {
            Self::Component(component) => component.resources_required(),
            Self::Module(module) => Some(module.resources_required()),
        };
        needs.map(|needs| needs.num_memories)
    }
}

/// A trusted folder of compiled code.
pub(super) struct CodeCache {
    folder: PathBuf,
}

impl CodeCache {
    /// Makes or opens the folder; none, with a warning, when it can't be trusted.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        match Self::trusted(folder) {
            Ok(()) => {
                let cache = Self { folder: folder.to_owned() };
                cache.evict();
                Some(cache)
            }
            Err(why) => {
                tracing::warn!(folder = %folder.display(), %why, "compiled code is not kept: the folder can't be trusted");
                None
            }
        }
    }

    fn trusted(folder: &Path) -> Result<(), String> {
        if let Err(error) = fs::create_dir_all(folder.parent().unwrap_or(folder)) {
            return Err(error.to_string());
        }
        match rustix::fs::mkdir(folder, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.to_string()),
        }
        let found = fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
        if !found.is_dir() {
            return Err("it is no folder (a link?)".to_owned());
        }
        ours(&found, 0o077)
    }

    /// The name under which a program's code is kept, without its hash.
    #[expect(clippy::unused_self, reason = "keys belong to a cache")]
    pub(super) fn key(&self, engine: &Engine, class: Class, digest: &str) -> String {
        let mut settings = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        let digest = digest.strip_prefix("sha256:").unwrap_or(digest);
        format!("{digest}-{class:?}-{:016x}-wasmtime{ENGINE_VERSION}", settings.finish()).to_lowercase()
    }

    /// Maps a program's code; none when it is not there, damaged or not to be trusted.
    pub(super) fn load(&self, engine: &Engine, kind: Kind, key: &str) -> Option<Compiled> {
        let path = self.find(key)?;
        match self.map(engine, kind, &path) {
            Ok(compiled) => Some(compiled),
            Err(why) => {
                tracing::warn!(file = %path.display(), %why, "compiled code is ignored and made again");
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    fn find(&self, key: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(&self.folder).ok()?;
        let name = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(key));
        entries.filter_map(Result::ok).map(|entry| entry.path()).find(name)
    }

    fn map(&self, engine: &Engine, kind: Kind, path: &Path) -> Result<Compiled, String> {
        // Through one descriptor from the check to the mapping: what is hashed is what runs.
        // Without waiting: opening a pipe would, for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|error| error.to_string())?);
        let found = file.metadata().map_err(|error| error.to_string())?;
        if !found.is_file() {
            return Err("it is no regular file".to_owned());
        }
        ours(&found, 0o022)?;
        let hash = hash(&file).map_err(|error| error.to_string())?;
        if path.extension().is_none_or(|extension| extension.to_string_lossy() != hash.as_str()) {
            return Err("its content does not match its hash (damaged?)".to_owned());
        }
        let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: the file was written by us (folder 0700 and ours, file ours and not writable by others), its hash matches, and it is
        // never changed in place. See the module's documentation for what that trusts.
        #[expect(unsafe_code, reason = "mapping compiled code is what the cache is for")]
        let mapped = unsafe {
            match kind {
                Kind::Component => Component::deserialize_file(engine, descriptor).map(Compiled::Component),
                Kind::Module => Module::deserialize_file(engine, descriptor).map(Compiled::Module),
            }
        };
        mapped.map_err(|error| format!("{error:#}"))
    }

    /// Keeps a program's code. A failure costs time at the next start and is only said.
    pub(super) fn store(&self, compiled: &Compiled, key: &str) {
        let kept = compiled.serialize().map_err(io::Error::other).and_then(|code| self.write(&code, key));
        if let Err(error) = kept {
            tracing::warn!(%error, folder = %self.folder.display(), "compiled code can't be kept");
        }
    }

    fn write(&self, code: &[u8], key: &str) -> io::Result<()> {
        let name = format!("{key}.{}", blake3::hash(code).to_hex());
        let beside = self.folder.join(format!(".{}-{}", std::process::id(), fastrand::u64(..)));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open(&beside, flags, Mode::RUSR | Mode::WUSR)?);
        let written =
            file.write_all(code).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, self.folder.join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }

    /// Unlinks what was left half written and the oldest files over the bound; what is mapped stays mapped.
    fn evict(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        for (at, (_, path)) in files.iter().enumerate() {
            let half_written = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if half_written || at < surplus {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Whether we own it and nobody else may do what `forbidden` says.
fn ours(found: &Metadata, forbidden: u32) -> Result<(), String> {
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("it belongs to user {}", found.uid()));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & forbidden != 0 {
        return Err(format!("others may use it (mode {mode:o})"));
    }
    Ok(())
}

fn hash(file: &File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}
