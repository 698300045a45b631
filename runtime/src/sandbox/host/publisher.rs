//! `weir:events/publisher`: takes what a guest publishes into the run's outbox (`outbox.rs`), from which nothing leaves before the run has
//! ended.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::clock::Timestamp;
use crate::outbox::{self, Draft, Refusal, Run, Schedule};
use crate::sandbox::state::{Hand, NotInHand, State};

#[derive(ComponentType, Lift)]
#[component(record)]
struct Event {
    id: String,
    source: String,
    #[component(name = "type")]
    kind: String,
    subject: Option<String>,
    time: Option<String>,
    datacontenttype: Option<String>,
    dataschema: Option<String>,
    extensions: Vec<(String, String)>,
    data: Option<Vec<u8>>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum Due {
    #[component(name = "now")]
    Now,
    #[component(name = "after")]
    After(u64),
    #[component(name = "at")]
    At(u64),
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "invalid")]
    Invalid(String),
}

/// A call over a limit: it traps, so that a handler that ignores errors is not acknowledged with an event missing.
#[derive(Debug, thiserror::Error)]
#[error("published more than its limit `{0}`")]
struct OverLimit(&'static str);

pub(crate) fn add(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("weir:events/publisher@0.1.0")?;
    instance.func_wrap("publish", |store: StoreContextMut<'_, State>, (queue, event, due): (String, Event, Due)| {
        Ok((publish(store, None, &queue, (event, due))?,))
    })?;
    instance.func_wrap(
        "publish-for",
        |store: StoreContextMut<'_, State>, (index, queue, event, due): (u32, String, Event, Due)| {
            Ok((publish(store, Some(index), &queue, (event, due))?,))
        },
    )?;
    instance.func_wrap("reply", |store: StoreContextMut<'_, State>, (event,): (Event,)| Ok((reply(store, event),)))
}

fn publish(
    mut store: StoreContextMut<'_, State>,
    item: Option<u32>,
    queue: &str,
    (event, due): (Event, Due),
) -> wasmtime::Result<Result<(), Error>> {
    let state = store.data_mut();
    let now = state.now();
    let (item, held) = match state.hand.held(item, ("publish", "publish-for")) {
        Ok(found) => found,
        Err(error) => return Ok(Err(error.into())),
    };
    let setup = &state.setup;
    let run = Run {
        handler: &setup.handler,
        event: &held.event,
        item,
        grant: setup.publish.as_ref(),
        limits: &state.limits,
        max_event: setup.max_event,
        now,
    };
    match state.outbox.publish(&run, queue, event.into(), due.into()) {
        Ok(()) => Ok(Ok(())),
        Err(Refusal::Denied(text)) => Ok(Err(Error::Denied(text))),
        Err(Refusal::Invalid(text)) => Ok(Err(Error::Invalid(text))),
        Err(Refusal::Over(limit)) => {
            state.over.get_or_insert(limit);
            Err(OverLimit(limit.name).into())
        }
    }
}

/// Kept until the run has ended, as what is published. Without somebody who waits it has no effect, but is checked all the same.
fn reply(mut store: StoreContextMut<'_, State>, event: Event) -> Result<(), Error> {
    let state = store.data_mut();
    let now = state.now();
    let held = match &state.hand {
        Hand::Nothing => return Err(NotInHand::Probed.into()),
        Hand::One(held) => held,
        Hand::Batch(_) => return Err(Error::Invalid("`reply` answers one event, and this is a batch".to_owned())),
    };
    let setup = &state.setup;
    let run = Run {
        handler: &setup.handler,
        event: &held.event,
        item: 0,
        grant: None,
        limits: &state.limits,
        max_event: setup.max_event,
        now,
    };
    match outbox::reply(&run, event.into()) {
        Ok(event) => {
            state.reply = state.wants_reply.then(|| Arc::new(event));
            Ok(())
        }
        Err(text) => Err(Error::Invalid(text)),
    }
}

impl From<NotInHand> for Error {
    fn from(error: NotInHand) -> Self {
        match error {
            NotInHand::Probed => Self::Denied("nothing is published while a new version is probed".to_owned()),
            NotInHand::Invalid(text) => Self::Invalid(text),
        }
    }
}

impl From<Event> for Draft {
    fn from(event: Event) -> Self {
        let optional = [
            ("subject", event.subject),
            ("time", event.time),
            ("datacontenttype", event.datacontenttype),
            ("dataschema", event.dataschema),
        ];
        let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let required = [("id", event.id), ("source", event.source), ("type", event.kind)];
        Self { attributes: required.into_iter().chain(optional).collect(), extensions: event.extensions, data: event.data }
    }
}

impl From<Due> for Schedule {
    fn from(due: Due) -> Self {
        match due {
            Due::Now => Self::Now,
            Due::After(millis) => Self::After(Duration::from_millis(millis)),
            Due::At(millis) => Self::At(Timestamp(millis)),
        }
    }
}
