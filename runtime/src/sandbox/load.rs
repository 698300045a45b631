//! From a file to a [`Program`]: read, look through, check against grants, compile or take from the cache, link, probe.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Engine;

use super::cache::Compiled;
use super::engine::{Class, MEMORIES_PER_COMPONENT};
use super::inspect::{Inspection, Kind, inspect};
use super::programs::{Code, Entry, Module, One, START};
use super::state::Hand;
use super::{Program, Sandbox, Setup, adapt, host, run};
use crate::config::{Export, Grants};

/// Longest that instantiating as a probe and a self-test may take together, whatever the handler's own deadline.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// Why a component can't be used. The text goes after the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("{0}")]
    Unreadable(String),
    /// Larger than components may be.
    #[error("is {size} bytes, more than `[ceilings] component` allows ({bound})")]
    TooLarge {
        /// Bytes of the file.
        size: u64,
        /// The bound.
        bound: u64,
    },
    /// Compiled code instead of wasm.
    #[error("is precompiled code, expected wasm (give the .wasm it was compiled from: compiled code can't be checked)")]
    Precompiled,
    /// Not wasm, cut short, or of the wrong kind.
    #[error("{0}")]
    Unusable(String),
    /// Imports that are unknown or not granted, one a line.
    #[error("{}", .0.join("\n"))]
    Imports(Vec<String>),
    /// Its self-test said no.
    #[error("self-test: {0}")]
    SelfTest(String),
}

impl Sandbox {
    /// Reads a program's bytes, binary or text, bounded by `[ceilings] component`. Of a core module that carries a component type, the
    /// component is made here.
    ///
    /// # Errors
    /// When the file can't be read, is too large, is compiled code or is no wasm.
    pub fn read(&self, file: &Path) -> Result<(Vec<u8>, Inspection), LoadError> {
        let unreadable = |error: std::io::Error| LoadError::Unreadable(format!("can't be read: {error}"));
        let bound = self.ceilings.component;
        let bytes = read_bounded(file, bound).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LoadError::Unreadable(format!("can't be read: {error} (not built yet? see `weir build`)")),
            _ => unreadable(error),
        })?;
        let read = bytes.len() as u64;
        if read > bound {
            let size = std::fs::metadata(file).map_or(read, |found| found.len().max(read));
            return Err(LoadError::TooLarge { size, bound });
        }
        if bytes.is_empty() {
            return Err(LoadError::Unusable("is empty (a build that is still writing it?)".to_owned()));
        }
        if Engine::detect_precompiled(&bytes).is_some() {
            return Err(LoadError::Precompiled);
        }
        let bytes = match wat::parse_bytes(&bytes) {
            Ok(bytes) => bytes.into_owned(),
            Err(error) => return Err(LoadError::Unusable(format!("is neither wasm nor its text form: {error}"))),
        };
        let inspection = inspect(&bytes).map_err(LoadError::Unusable)?;
        if !inspection.component_type || inspection.kind == Kind::Component {
            return Ok((bytes, inspection));
        }
        let command = inspection.exports.iter().any(|name| name == START);
        let bytes = adapt::component(&bytes, command).map_err(LoadError::Unusable)?;
        let inspection = inspect(&bytes).map_err(LoadError::Unusable)?;
        Ok((bytes, Inspection { adapted: true, ..inspection }))
    }

    /// Checks what a component imports and exports against what a handler is granted.
    ///
    /// # Errors
    /// Every import that is unknown or not granted, or what is exported instead of a handler.
    pub fn admit(inspection: &Inspection, handler: &str, grants: &Grants) -> Result<(), LoadError> {
        inspection.run().map_err(LoadError::Unusable)?;
        let refused = |import: &super::inspect::Import| super::imports::admit(&import.name, handler, grants).err();
        let refused: Vec<String> = inspection.imports.iter().filter_map(refused).collect();
        if refused.is_empty() { Ok(()) } else { Err(LoadError::Imports(refused)) }
    }

    /// Compiles, or takes from the cache, and links. Takes as long as compiling does: not for a thread that others need.
    ///
    /// # Errors
    /// When it can't be compiled, does not fit the pool, or an import or export has another signature.
    pub fn program(&self, bytes: &[u8], inspection: &Inspection) -> Result<Program, LoadError> {
        self.program_as(inspection.run().map_err(LoadError::Unusable)?, bytes, inspection)
    }

    /// As [`Sandbox::program`], to run this export.
    ///
    /// # Errors
    /// As there, and when it has no such function.
    pub fn program_as(&self, export: Export, bytes: &[u8], inspection: &Inspection) -> Result<Program, LoadError> {
        let unusable = |what: &str, error: wasmtime::Error| LoadError::Unusable(format!("{what}: {error:#}"));
        let class = Class::of(inspection.initial_memory);
        let engine = self.engines.get(class).map_err(|error| unusable("no engine can be made on this machine", error))?;
        let compiled = self.compiled(&engine, class, bytes, inspection)?;
        if compiled.memories().is_some_and(|memories| memories > MEMORIES_PER_COMPONENT) {
            return Err(LoadError::Unusable(format!(
                "needs more than {MEMORIES_PER_COMPONENT} linear memories, which is not in this version yet"
            )));
        }
        let not_fitting = |error| unusable("does not fit what Weir offers", error);
        let entry = match compiled {
            Compiled::Module(module) => Entry::One(One::Module(Module::link(&engine, &module).map_err(not_fitting)?)),
            Compiled::Component(component) => {
                // What is imported was found to be granted (`admit`).
                let imported =
                    |interface: &str| inspection.imports.iter().any(|import| import.name.split('@').next() == Some(interface));
                let linker = host::linker(&engine, imported).map_err(|error| unusable("host interfaces", error))?;
                let pre = linker.instantiate_pre(&component).map_err(not_fitting)?;
                Entry::find(export, pre).map_err(LoadError::Unusable)?
            }
        };
        Ok(Program { digest: Arc::from(inspection.digest.as_str()), entry })
    }

    fn compiled(&self, engine: &Engine, class: Class, bytes: &[u8], inspection: &Inspection) -> Result<Compiled, LoadError> {
        let kind = inspection.kind;
        let key = self.cache.as_ref().map(|cache| (cache, cache.key(engine, class, &inspection.digest)));
        if let Some(compiled) = key.as_ref().and_then(|(cache, key)| cache.load(engine, kind, key)) {
            return Ok(compiled);
        }
        let compiled = Compiled::from_binary(engine, kind, bytes)
            .map_err(|error| LoadError::Unusable(format!("can't be compiled: {error:#}")))?;
        if let Some((cache, key)) = key {
            cache.store(&compiled, &key);
        }
        Ok(compiled)
    }
}

/// A regular file's bytes, at most one more than `bound`: a pipe or a device has no end, and a file may grow while it is read.
pub(crate) fn read_bounded(file: &Path, bound: u64) -> io::Result<Vec<u8>> {
    let found = std::fs::metadata(file)?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(bound.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Instantiates a version once with its limits and every effect refused, and runs its self-test if it exports one.
///
/// # Errors
/// When no instance can be made, the function has another type, or the self-test fails.
pub async fn probe(program: &Program, setup: &Arc<Setup>) -> Result<(), LoadError> {
    let unusable =
        |error: wasmtime::Error| LoadError::Unusable(format!("can't be started: {}", run::explain(&error, setup, None)));
    let deadline = Instant::now() + setup.limits.deadline.min(PROBE_MAX);
    let started = async {
        let _permit = setup.permits.acquire().await;
        let mut store = run::store(program, setup, Hand::Nothing, deadline).map_err(unusable)?;
        let linked = match program.entry.code() {
            Code::Component(linked) => linked,
            Code::Module(module) => return module.start(&mut store).await.map(drop).map_err(unusable),
        };
        let instance = linked.pre.instantiate_async(&mut store).await.map_err(unusable)?;
        program.entry.check(&instance, &mut store).map_err(|error| {
            let (function, interface) = (linked.row.function, linked.row.name());
            let expected = format!("expected `{function}` as in `{interface}`");
            LoadError::Unusable(format!("exports `{function}` with another type, {expected}: {error:#}"))
        })?;
        let Some(self_test) = &linked.self_test else { return Ok(()) };
        let function = instance.get_typed_func::<(), (Result<(), String>,)>(&mut store, self_test).map_err(unusable)?;
        match function.call_async(&mut store, ()).await {
            Ok((Ok(()),)) => Ok(()),
            Ok((Err(text),)) => Err(LoadError::SelfTest(setup.redactor.redact(text))),
            Err(error) => Err(LoadError::SelfTest(run::explain(&error, setup, store.data().log.last_words()))),
        }
    };
    match tokio::time::timeout_at(deadline.into(), started).await {
        Ok(result) => result,
        Err(_) => Err(LoadError::SelfTest(format!("took longer than {:?}", setup.limits.deadline.min(PROBE_MAX)))),
    }
}
