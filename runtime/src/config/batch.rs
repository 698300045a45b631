//! `run` and `batch` of a handler: which export is run, and how many events one call gets. Whether the component has that export is the
//! sandbox's to say.

use std::time::Duration;

use super::diagnostic::Finding;
use super::reader::Field;
use super::section::{Section, nearest};
use super::values::Form;
use super::{Limits, handlers};

const RUN: Form = Form::new("a way to run", "`\"auto\"`, `\"handler\"`, `\"batch\"` or `\"command\"`");

/// Ways to run that come later (surface.md §1, `run`; DESIGN.md §5).
const RUN_LATER: [&str; 2] = ["http", "messaging"];

/// More than `concurrency` can ever be; a misplaced digit is told.
const BATCH_MAX: u32 = 10_000;

/// What waits for others to come holds a permit and a lease meanwhile: what is to be gathered for longer, a handler gathers by itself.
const BATCH_WAIT_MAX: Duration = Duration::from_secs(60);

/// What a component exports and Weir runs (DESIGN.md §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// `weir:events/handler`: one event a call.
    Handler,
    /// `weir:events/batch-handler`: several events a call, answered one by one.
    Batch,
    /// `wasi:cli/run`, or `_start` of a core module: a program with one event on stdin.
    Command,
}

impl Export {
    /// All of them.
    const ALL: [Self; 3] = [Self::Handler, Self::Batch, Self::Command];

    /// As `run` has it, in weir.toml and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Batch => "batch",
            Self::Command => "command",
        }
    }
}

/// `batch` of a handler (delivery.md §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Most events of one call; never 0, and at most as many as may run at once.
    pub size: u32,
    /// How long the oldest event of a batch waits for others.
    pub wait: Duration,
}

/// The defaults of surface.md §1.
impl Default for BatchPolicy {
    fn default() -> Self {
        Self { size: 1, wait: Duration::ZERO }
    }
}

impl Limits {
    /// What a call with so many events may use: that many times what is counted by event, and the memory and the time of one
    /// (delivery.md §9).
    #[must_use]
    pub fn of_batch(self, events: usize) -> Self {
        let (times, few) = (events as u64, u32::try_from(events).unwrap_or(u32::MAX));
        Self {
            fuel: self.fuel.saturating_mul(times),
            output: self.output.saturating_mul(times),
            requests: self.requests.saturating_mul(few),
            publishes: self.publishes.saturating_mul(few),
            published: self.published.saturating_mul(times),
            ..self
        }
    }
}

/// `run`; none: whatever the component exports.
pub(super) fn export(section: &mut Section<'_, '_>) -> Option<Export> {
    let field = section.take("run")?;
    let named = |name: &str| Export::ALL.into_iter().find(|export| export.name() == name);
    let run = section.reader.parse(&field, &RUN, |text| match text {
        "auto" => Ok(Some(None)),
        text if named(text).is_some() => Ok(Some(named(text))),
        later if RUN_LATER.contains(&later) => Ok(None),
        other => Err(match nearest(other, ["auto"].into_iter().chain(Export::ALL.map(Export::name)).chain(RUN_LATER)) {
            Some((nearest, true)) => format!("did you mean `{nearest}`?"),
            _ => String::new(),
        }),
    })?;
    if run.is_none() {
        handlers::refuse_value(section, &field, "run", RUN.example);
    }
    run.flatten()
}

/// `batch` as it is written, and where, for what is wrong with it beside other keys.
pub(super) struct Batch {
    policy: BatchPolicy,
    key: Field,
}

impl Batch {
    pub(super) fn size(&self) -> usize {
        self.policy.size as usize
    }

    /// What holds of it. `slots` is how many events of one queue may run at once.
    pub(super) fn fits(self, section: &mut Section<'_, '_>, run: Option<Export>, slots: usize) -> Option<BatchPolicy> {
        let mut refuse = |message: String, expected: String| {
            let finding = Finding { key: self.key.key.clone(), message, expected, ..Finding::default() };
            section.reader.report(&self.key.name, finding);
        };
        if let Some(run) = run.filter(|run| *run != Export::Batch) {
            refuse(
                format!("`batch` is for batch handlers, and `run = \"{}\"` takes one event a call", run.name()),
                "no `batch`, or `run = \"batch\"`".to_owned(),
            );
        }
        if self.size() > slots {
            refuse(
                format!("`batch.size` is more than may run at once of one queue ({slots})"),
                "a `size` of at most that, or a larger `concurrency`: it counts events, shared by the queues that the handler reads"
                    .to_owned(),
            );
        }
        Some(self.policy)
    }
}

pub(super) fn read(section: &mut Section<'_, '_>) -> Option<Batch> {
    let field = section.take("batch")?;
    let key = Field { key: field.key.clone(), name: field.name.clone(), node: field.node.clone() };
    let pattern = section.pattern("batch");
    let default = BatchPolicy::default();
    let policy = section.descend(field, pattern, |section| BatchPolicy {
        size: section.number("size", 1..=BATCH_MAX).unwrap_or(default.size),
        wait: section.duration("wait", Duration::ZERO..=BATCH_WAIT_MAX).unwrap_or(default.wait),
    });
    Some(Batch { policy, key })
}
