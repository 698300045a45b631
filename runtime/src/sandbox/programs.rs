//! The kinds of programs that Weir runs, one file each: how it is given an event, and what its end says of it.
//!
//! Limits, log and outcomes are the same for all of them: `run.rs`, `classify.rs`. A kind has three parts: it is made of what was linked and
//! the function that is called (at load), the type of that function is checked in an instance (by the probe), and it is called.

pub(super) mod batch;
mod command;
mod exit;
mod handler;
mod preview1;
pub(super) mod typed;

use wasmtime::component::{ComponentExportIndex, Instance, InstancePre};
use wasmtime::{Engine, Store};

pub(super) use self::preview1::{Module, START};
use super::Setup;
use super::classify::Ending;
use super::exports::{ROWS, Row};
use super::run::{Job, Stopped, loading};
use super::state::State;
use crate::config::Export;

/// What of a program is run.
#[derive(Clone)]
pub(super) enum Entry {
    /// One event a call.
    One(One),
    /// Several events a call.
    Batch(batch::Handler),
}

/// What is given one event a call.
#[derive(Clone)]
pub(super) enum One {
    Handler(handler::Handler),
    Command(command::Command),
    Module(Module),
}

/// What an instance is made of.
pub(super) enum Code<'a> {
    Component(&'a Linked),
    Module(&'a Module),
}

impl Entry {
    /// What is run of a component.
    ///
    /// # Errors
    /// When it has not the function that is called.
    pub(super) fn find(export: Export, pre: InstancePre<State>) -> Result<Self, String> {
        let mut rows = ROWS.iter().filter(|row| row.export == export);
        let component = pre.component();
        let found = rows.find_map(|row| Some((row, component.get_export_index(None, row.name())?)));
        let Some((row, interface)) = found else {
            return Err(format!("exports nothing to run as `{}`", export.name()));
        };
        let Some(function) = component.get_export_index(Some(&interface), row.function) else {
            return Err(format!("exports `{}` without a function `{}`", row.interface, row.function));
        };
        let self_test = component.get_export_index(None, "weir:events/self-test@0.1.0");
        let self_test = self_test.and_then(|interface| component.get_export_index(Some(&interface), "run"));
        let linked = Linked { pre, row, function, self_test };
        Ok(match export {
            Export::Handler => Self::One(One::Handler(handler::Handler(linked))),
            Export::Batch => Self::Batch(batch::Handler(linked)),
            Export::Command => Self::One(One::Command(command::Command(linked))),
        })
    }

    pub(super) fn code(&self) -> Code<'_> {
        match self {
            Self::One(One::Handler(handler::Handler(linked)))
            | Self::One(One::Command(command::Command(linked)))
            | Self::Batch(batch::Handler(linked)) => Code::Component(linked),
            Self::One(One::Module(module)) => Code::Module(module),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        match self.code() {
            Code::Component(linked) => linked.pre.engine(),
            Code::Module(module) => module.engine(),
        }
    }

    /// Whether the function of a component has the type that is called.
    pub(super) fn check(&self, instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<()> {
        match self {
            Self::One(One::Handler(handler)) => handler.check(instance, store),
            Self::One(One::Command(command)) => command.check(instance, store),
            Self::One(One::Module(_)) => Ok(()),
            Self::Batch(handler) => handler.check(instance, store),
        }
    }
}

impl One {
    /// Gives it an event, in a fresh instance.
    pub(super) async fn call(&self, setup: &Setup, job: &Job<'_>, store: &mut Store<State>) -> Result<Ending, Stopped> {
        match self {
            Self::Handler(handler) => handler.call(setup, job, store).await,
            Self::Command(command) => command.call(job, store).await,
            Self::Module(module) => module.call(job, store).await,
        }
    }
}

/// A component that is linked, and what of it is called.
#[derive(Clone)]
pub(super) struct Linked {
    pub(super) pre: InstancePre<State>,
    /// What it is run as.
    pub(super) row: &'static Row,
    function: ComponentExportIndex,
    pub(super) self_test: Option<ComponentExportIndex>,
}

impl Linked {
    /// A fresh instance. What its start functions did is no fault of loading.
    async fn instantiate(&self, store: &mut Store<State>) -> Result<Instance, Stopped> {
        self.pre.instantiate_async(store).await.map_err(loading)
    }
}
