//! One version of a handler: the bytes of its component and the texts of its configuration, read together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::clock::{Timestamp, now};
use crate::config::{ConfigValue, Export, HandlerConfig, Secret, Server};
use crate::keyvalue::Places;
use crate::mail::{Mailer, Relays};
use crate::outgoing::Outgoing;
use crate::sandbox::inspect::Inspection;
use crate::sandbox::redact::Redactor;
use crate::sandbox::{self, LoadError, Permits, Program, Sandbox, Setup};

/// Largest text of one `{ file = … }`: it goes into every instance that asks for it.
const CONFIG_FILE_MAX: u64 = 1 << 20;

/// What runs.
pub struct Version {
    /// The component.
    pub program: Program,
    /// Limits, configuration, grants.
    pub setup: Arc<Setup>,
    /// When it was loaded.
    pub loaded_at: Timestamp,
    /// Changes when the component or any text of the configuration does.
    pub fingerprint: String,
}

impl Version {
    /// The first twelve digits of the digest, for logs.
    #[must_use]
    pub fn short(&self) -> &str {
        self.program.digest.strip_prefix("sha256:").and_then(|digits| digits.get(..12)).unwrap_or_default()
    }
}

/// A file that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct LoadProblem {
    /// The component, or a file that the configuration names.
    pub file: PathBuf,
    /// Why.
    pub why: LoadError,
}

/// Makes versions of handlers; holds what they share.
pub struct Loader {
    /// Compiles and links.
    pub sandbox: Arc<Sandbox>,
    /// Connections to relays.
    pub relays: Relays,
    /// Outgoing HTTP.
    pub outgoing: Outgoing,
    /// Where buckets are.
    pub buckets: Places,
    /// `[server]`.
    pub server: Server,
    /// Where guests run, probes of new versions among them.
    pub guests: Handle,
}

/// What a version is made of, as read: not yet compiled.
pub struct Source {
    component: Arc<(Vec<u8>, Inspection)>,
    config: Vec<(String, String)>,
    /// See [`Version::fingerprint`].
    pub fingerprint: String,
}

impl Source {
    /// The whole digest of the component: `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.component.1.digest
    }
}

impl Loader {
    /// Reads a handler's files.
    ///
    /// # Errors
    /// Names the file that can't be used.
    pub fn read(&self, config: &HandlerConfig) -> Result<Source, LoadProblem> {
        let problem = |why| LoadProblem { file: config.component.clone(), why };
        let (bytes, inspection) = self.sandbox.read(&config.component).map_err(problem)?;
        let config = texts(&config.config)?;
        let mut fingerprint = blake3::Hasher::new();
        fingerprint.update(inspection.digest.as_bytes());
        for part in config.iter().flat_map(|(key, text)| [key, text]) {
            fingerprint.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let fingerprint = fingerprint.finalize().to_hex().to_string();
        Ok(Source { component: Arc::new((bytes, inspection)), config, fingerprint })
    }

    /// Checks, compiles and probes a version. The compiling is done on a thread for blocking work.
    ///
    /// # Errors
    /// Names the component's file and why it can't be used.
    pub async fn load(self: &Arc<Self>, name: &str, config: &HandlerConfig, source: Source) -> Result<Version, LoadProblem> {
        Self::admit(name, config, &source)?;
        let program = self.compile(config, &source).await?;
        self.ready(name, config, source, program).await
    }

    /// Checks what a component exports and imports against the handler's grants.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn admit(name: &str, config: &HandlerConfig, source: &Source) -> Result<(), LoadProblem> {
        let admitted = Sandbox::admit(&source.component.1, name, &config.grants);
        admitted.map_err(|why| LoadProblem { file: config.component.clone(), why })
    }

    /// Compiles a component that is admitted.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub async fn compile(&self, config: &HandlerConfig, source: &Source) -> Result<Program, LoadProblem> {
        let problem = |why| LoadProblem { file: config.component.clone(), why };
        let export = export(&source.component.1, config).map_err(problem)?;
        let (sandbox, component) = (Arc::clone(&self.sandbox), Arc::clone(&source.component));
        match tokio::task::spawn_blocking(move || sandbox.program_as(export, &component.0, &component.1)).await {
            Ok(program) => program.map_err(problem),
            Err(error) => Err(problem(LoadError::Unusable(format!("the compiler failed: {error}")))),
        }
    }

    /// Makes a version of what [`Loader::compile`] made of the same source, and probes it.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub async fn ready(
        self: &Arc<Self>,
        name: &str,
        config: &HandlerConfig,
        source: Source,
        program: Program,
    ) -> Result<Version, LoadProblem> {
        let problem = |why| LoadProblem { file: config.component.clone(), why };
        let fingerprint = source.fingerprint;
        let mailer = match &config.grants.email {
            None => None,
            Some(grant) => Some(
                Mailer::new(name, grant, &self.relays)
                    .map_err(|error| problem(LoadError::Unusable(format!("grants.email: {error}"))))?,
            ),
        };
        let buckets = self.buckets.granted(name, &config.grants.keyvalue);
        let buckets = buckets.map_err(|error| problem(LoadError::Unusable(format!("grants.keyvalue: {error}"))))?;
        let setup = Arc::new(Setup {
            handler: Arc::from(name),
            limits: config.limits,
            config: source.config,
            mailer,
            publish: config.grants.publish.clone(),
            http: self.outgoing.client(name, &config.grants.http),
            redactor: redactor(&config.config),
            buckets,
            max_event: self.server.max_event,
            permits: Permits::new(&self.sandbox),
        });
        let (probed, probed_setup) = (program.clone(), Arc::clone(&setup));
        let probing = self.guests.spawn(async move { sandbox::probe(&probed, &probed_setup).await });
        probing.await.map_err(|error| problem(LoadError::Unusable(format!("can't be tried: {error}"))))?.map_err(problem)?;
        Ok(Version { program, setup, loaded_at: now(), fingerprint })
    }
}

/// Which export of a component runs as a handler.
///
/// # Errors
/// When it lacks the one that `run` or `batch` is for.
pub fn export(inspection: &Inspection, config: &HandlerConfig) -> Result<Export, LoadError> {
    inspection.run_as(config.run, config.batch.is_some()).map_err(LoadError::Unusable)
}

/// The texts of `[handler.*.config]`, files read.
///
/// # Errors
/// Names the file that can't be read.
pub fn texts(config: &[(String, ConfigValue)]) -> Result<Vec<(String, String)>, LoadProblem> {
    let text = |(key, value): &(String, ConfigValue)| match value {
        ConfigValue::Text(text) | ConfigValue::Secret { text: Secret(text), .. } => Ok((key.clone(), text.clone())),
        ConfigValue::File(file) => {
            let text = read_text(file).map_err(|why| LoadProblem { file: file.clone(), why })?;
            Ok((key.clone(), text))
        }
    };
    config.iter().map(text).collect()
}

/// What must not be shown of a handler's configuration: what was put in for `${NAME}` and `${file:…}`.
#[must_use]
pub fn redactor(config: &[(String, ConfigValue)]) -> Redactor {
    let secrets = config.iter().filter_map(|(_, value)| match value {
        ConfigValue::Secret { values, .. } => Some(values.iter().cloned()),
        ConfigValue::Text(_) | ConfigValue::File(_) => None,
    });
    Redactor::new(secrets.flatten())
}

fn read_text(file: &Path) -> Result<String, LoadError> {
    let unreadable = |why: String| LoadError::Unreadable(format!("can't be read: {why}"));
    let bytes = sandbox::read_bounded(file, CONFIG_FILE_MAX).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > CONFIG_FILE_MAX {
        return Err(unreadable(format!("it is larger than a configuration text may be ({CONFIG_FILE_MAX} bytes)")));
    }
    String::from_utf8(bytes).map_err(|_| unreadable("it is no UTF-8".to_owned()))
}
