//! What a wasm file is, wants and offers, read from its bytes without compiling: kind, imports with their class, exports, memory.
//!
//! Decides nothing about grants of a particular handler; that is `imports.rs`.

use sha2::{Digest as _, Sha256};
use wasmparser::{Encoding, Parser, Payload};

use super::exports::{expected, first, has};
use super::imports::{Class, classify};
use super::programs::START;
use crate::config::Export;

/// Deepest nesting of components and modules that is read; real toolchains stay under four.
const DEPTH_MAX: usize = 32;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A WebAssembly component.
    Component,
    /// A core module.
    Module,
}

impl Kind {
    /// As in `weir inspect --json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Module => "module",
        }
    }
}

/// An import by name, with what it means to Weir.
#[derive(Debug, Clone)]
pub struct Import {
    /// For example `wasi:cli/environment@0.2.6`.
    pub name: String,
    /// Which of the three classes.
    pub class: Class,
}

/// What a wasm file is, wants and offers.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Component or module.
    pub kind: Kind,
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// Bytes of the file.
    pub size: u64,
    /// Names of what it exports, at the top.
    pub exports: Vec<String>,
    /// What it imports, at the top.
    pub imports: Vec<Import>,
    /// Bytes of linear memory that its modules begin with, together.
    pub initial_memory: u64,
    /// Whether a core module carries the type of the component that it is meant to become.
    pub component_type: bool,
    /// Whether the component was made of such a module when it was read.
    pub adapted: bool,
}

/// Most names that an error lists, and bytes of each: a file may have any number of any length.
const NAMES_SHOWN: usize = 8;
const NAME_SHOWN: usize = 100;

impl Inspection {
    /// How Weir runs it where weir.toml does not say: by the first of the exports that it knows.
    ///
    /// # Errors
    /// What is missing, and what to build instead.
    pub fn run(&self) -> Result<Export, String> {
        if self.kind == Kind::Module {
            return self.module();
        }
        first(&self.exports)?.ok_or_else(|| {
            let others = "or another one that Weir runs";
            format!("exports {}, expected `weir:events/handler@0.1.0` (see `weir new`) {others}", self.shown_exports())
        })
    }

    fn module(&self) -> Result<Export, String> {
        if self.exports.iter().any(|name| name == START) {
            return Ok(Export::Command);
        }
        Err(format!(
            "is a core module without a component type that exports {}, expected `{START}`, as commands for `wasm32-wasip1` have it, or a \
             component (build for the target `wasm32-wasip2`, for example with `weir build`)",
            self.shown_exports()
        ))
    }

    /// How Weir runs it with `run` and `batch` as weir.toml has them.
    ///
    /// # Errors
    /// As [`Inspection::run`], and when it lacks the export that they are for.
    pub fn run_as(&self, run: Option<Export>, batched: bool) -> Result<Export, String> {
        let (wanted, why) = match run {
            Some(wanted) => (wanted, format!("`run = \"{}\"`", wanted.name())),
            None if batched => (Export::Batch, "`batch`".to_owned()),
            None => return self.run(),
        };
        let found = match self.kind {
            Kind::Module => self.module()? == wanted,
            Kind::Component => has(&self.exports, wanted)?,
        };
        if found {
            return Ok(wanted);
        }
        Err(format!("exports {}, expected {}: {why} is for components that export that", self.shown_exports(), expected(wanted)))
    }

    fn shown_exports(&self) -> String {
        let cut = |name: &String| format!("`{}`", name.get(..name.floor_char_boundary(NAME_SHOWN)).unwrap_or_default());
        let shown: Vec<_> = self.exports.iter().take(NAMES_SHOWN).map(cut).collect();
        match self.exports.len() {
            0 => "nothing".to_owned(),
            many if many > NAMES_SHOWN => format!("{} and {} more", shown.join(", "), many - NAMES_SHOWN),
            _ => shown.join(", "),
        }
    }
}

/// The digest of a component's bytes: `sha256:` and 64 hex digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Reads a wasm binary. Text (`.wat`) has to be made binary first.
///
/// # Errors
/// What is wrong with the bytes, with the offset.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, String> {
    let mut found = Inspection {
        kind: Kind::Module,
        digest: digest(bytes),
        size: bytes.len() as u64,
        exports: Vec::new(),
        imports: Vec::new(),
        initial_memory: 0,
        component_type: false,
        adapted: false,
    };
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| format!("not valid wasm: {error}"))?;
        read(payload, &mut depth, &mut found).map_err(|error| format!("not valid wasm: {error}"))?;
        if depth > DEPTH_MAX {
            return Err(format!("components are nested deeper than {DEPTH_MAX}"));
        }
    }
    Ok(found)
}

fn read(payload: Payload<'_>, depth: &mut usize, found: &mut Inspection) -> Result<(), wasmparser::BinaryReaderError> {
    let import = |name: &str| Import { name: name.to_owned(), class: classify(name) };
    match payload {
        Payload::Version { encoding: Encoding::Component, .. } if *depth == 0 => found.kind = Kind::Component,
        Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => *depth += 1,
        Payload::End(_) => *depth = depth.saturating_sub(1),
        Payload::MemorySection(memories) => {
            for memory in memories {
                let memory = memory?;
                let page = 1u64 << memory.page_size_log2.unwrap_or(16);
                found.initial_memory = found.initial_memory.saturating_add(memory.initial.saturating_mul(page));
            }
        }
        Payload::ComponentImportSection(section) if *depth == 0 => {
            for entry in section {
                found.imports.push(import(entry?.name.name));
            }
        }
        Payload::ComponentExportSection(section) if *depth == 0 => {
            for entry in section {
                found.exports.push(entry?.name.name.to_owned());
            }
        }
        Payload::ImportSection(section) if *depth == 0 => {
            for entry in section.into_imports() {
                let entry = entry?;
                found.imports.push(import(&format!("{}#{}", entry.module, entry.name)));
            }
        }
        Payload::ExportSection(section) if *depth == 0 => {
            for entry in section {
                found.exports.push(entry?.name.to_owned());
            }
        }
        Payload::CustomSection(section) if *depth == 0 => found.component_type |= section.name().starts_with("component-type"),
        _ => {}
    }
    Ok(())
}
