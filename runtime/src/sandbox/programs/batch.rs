//! Several events through one fresh instance of a batch handler, answered one by one (delivery.md §9). Which events go together, and what
//! is done when the whole call failed, is the dispatcher's.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::Instance;

use super::typed::{AnswerOut, DeliveryIn, EventIn, FailureOut, HandleBatch, ItemIn, extensions, idempotency_key};
use super::{Entry, Linked};
use crate::clock::Timestamp;
use crate::outbox::Published;
use crate::outcome::Outcome;
use crate::sandbox::classify::{Ending, Fault, Notes, classify};
use crate::sandbox::run::{Job, Report, Stopped, bounded, report, store};
use crate::sandbox::state::{Hand, Held, State};
use crate::sandbox::{Program, Setup};

/// What a call with several events came to and what it cost.
#[derive(Debug)]
pub struct Batch {
    /// The call. Done where it answered, whatever the answers are; else what holds for every event.
    pub call: Report,
    /// Of each event, in the order in which they were given, what it came to and what was published for it. Empty where the call did not
    /// answer.
    pub items: Vec<(Outcome, Vec<Published>)>,
}

impl Batch {
    /// Of a batch of one: its run.
    #[must_use]
    pub fn into_one(mut self) -> Report {
        match self.items.pop() {
            Some((outcome, published)) => Report { outcome, published, ..self.call },
            None => self.call,
        }
    }
}

/// `weir:events/batch-handler`.
#[derive(Clone)]
pub(in crate::sandbox) struct Handler(pub(super) Linked);

impl Handler {
    fn function<'a>(&self, instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<HandleBatch<'a>> {
        instance.get_typed_func(store, self.0.function)
    }

    pub(super) fn check(&self, instance: &Instance, store: &mut Store<State>) -> wasmtime::Result<()> {
        self.function(instance, store).map(drop)
    }
}

/// Runs events in one call.
pub async fn run(program: &Program, setup: &Arc<Setup>, jobs: &[Job<'_>]) -> Batch {
    run_at(program, setup, jobs, None).await
}

/// As [`run`], with a wall clock that shows this time all through the run; none: what time it is.
pub(in crate::sandbox) async fn run_at(
    program: &Program,
    setup: &Arc<Setup>,
    jobs: &[Job<'_>],
    clock: Option<Timestamp>,
) -> Batch {
    // One instance, however many events; and all its time, as for one.
    let _permit = setup.permits.acquire().await;
    let begun = Instant::now();
    let deadline = begun + setup.limits.deadline;
    let Entry::Batch(handler) = &program.entry else {
        let error = wasmtime::Error::msg("is no batch handler");
        return Batch { call: Report::not_loaded(&error, begun), items: Vec::new() };
    };
    let hand = Hand::Batch(jobs.iter().map(|job| Held::new(job.event)).collect());
    let mut store = match store(program, setup, hand, deadline) {
        Ok(store) => store,
        Err(error) => return Batch { call: Report::not_loaded(&error, begun), items: Vec::new() },
    };
    store.data_mut().clock = clock;
    let called = bounded(deadline, call(handler, setup, jobs, &mut store)).await;
    split(store, called, setup, begun)
}

/// What a batch handler answers.
type Answer = Result<Vec<AnswerOut>, FailureOut>;

async fn call(handler: &Handler, setup: &Setup, jobs: &[Job<'_>], store: &mut Store<State>) -> Result<Answer, Stopped> {
    let instance = handler.0.instantiate(store).await?;
    let handle = handler.function(&instance, store).map_err(Stopped::Loading)?;
    let beside: Vec<_> = jobs.iter().map(|job| (extensions(job.event), idempotency_key(job.event, &setup.handler))).collect();
    let items = jobs.iter().zip(&beside).map(|(job, (extensions, key))| ItemIn {
        event: EventIn::new(job.event, extensions),
        delivery: DeliveryIn::new(job, setup, key),
    });
    let items: Vec<_> = items.collect();
    let (answer,) = handle.call_async(&mut *store, (&items,)).await.map_err(Stopped::Called)?;
    Ok(answer)
}

/// The call's report, and what the answers are to each event.
fn split(mut store: Store<State>, called: Result<Answer, Stopped>, setup: &Setup, begun: Instant) -> Batch {
    let outside = take_outside(store.data_mut());
    let endings = called.map(|answer| endings(answer, outside.of.len()));
    let (called, endings) = match endings {
        // One passed the limit on responses: the call may have been done since, but not with all of what it asked for.
        Ok(Ok(_)) if store.data().noted.over().is_some() => (Ok(Ending::Done), Vec::new()),
        Ok(Ok(endings)) => (Ok(Ending::Done), endings),
        Ok(Err(text)) => (Ok(Ending::Fault { kind: Fault::Other, text }), Vec::new()),
        Err(stopped) => (Err(stopped), Vec::new()),
    };
    let state = store.data_mut();
    // What fails the call fails every item, so whatever failed from outside may be why.
    state.outside = outside.any();
    let published = std::mem::take(&mut state.outbox).into_items(endings.len());
    let limits = state.limits;
    let redact = |text: String| setup.redactor.redact(text);
    let items = endings.into_iter().zip(published).enumerate().map(|(index, (ending, published))| {
        let notes = Notes { outside: outside.reason(&ending, index).map(redact), ..Notes::default() };
        (classify(Ending::from(ending).map_text(redact), notes, &limits), published)
    });
    let items = items.collect();
    Batch { call: report(store, called, setup, begun), items }
}

/// How a call ended for one of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answered {
    /// It was answered.
    Own(Ending),
    /// It shares the answer to all, or was left out.
    Shared(Ending),
}

impl From<Answered> for Ending {
    fn from(answered: Answered) -> Self {
        match answered {
            Answered::Own(ending) | Answered::Shared(ending) => ending,
        }
    }
}

/// How the call ended for each event; an error is a fault of the whole call.
fn endings(answer: Answer, items: usize) -> Result<Vec<Answered>, String> {
    let answers = match answer {
        Ok(answers) => answers,
        Err(failure) => return Ok(vec![Answered::Shared(failure.into()); items]),
    };
    let mut endings = vec![None; items];
    for AnswerOut { index, verdict } in answers {
        let Some(ending) = endings.get_mut(index as usize) else {
            return Err(format!("answered item {index} of a batch of {items} (they are counted from 0)"));
        };
        if ending.replace(Answered::Own(verdict.into())).is_some() {
            return Err(format!("answered item {index} twice"));
        }
    }
    let left_out =
        || Answered::Shared(Ending::Retry { reason: "the handler gave no answer for this item".to_owned(), after: None });
    Ok(endings.into_iter().map(|ending| ending.unwrap_or_else(left_out)).collect())
}

/// What failed from outside in a call.
#[derive(Debug, Default)]
struct Outside {
    /// In a call that named no item.
    all: Option<String>,
    /// In calls that named an item.
    of: Vec<Option<String>>,
}

impl Outside {
    fn any(&self) -> Option<String> {
        self.all.clone().or_else(|| self.of.iter().flatten().next().cloned())
    }

    /// What may be why an item ended so: what it was named in, or nothing was; and anything at all, where the handler does not say.
    fn reason(&self, ending: &Answered, index: usize) -> Option<String> {
        match ending {
            Answered::Own(_) => self.of.get(index).cloned().flatten().or_else(|| self.all.clone()),
            Answered::Shared(_) => self.any(),
        }
    }
}

fn take_outside(state: &mut State) -> Outside {
    // Requests name no item.
    let all = state.outside.take().or_else(|| state.noted.outside());
    let of = match &mut state.hand {
        Hand::Batch(items) => items.iter_mut().map(|held| held.outside.take()).collect(),
        Hand::Nothing | Hand::One(_) => Vec::new(),
    };
    Outside { all, of }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(reason: &str) -> Ending {
        Ending::Retry { reason: reason.to_owned(), after: None }
    }

    fn answers(answers: &[(u32, bool)]) -> Answer {
        let verdict = |ok: bool| if ok { Ok(()) } else { Err(FailureOut::Reject("no".to_owned())) };
        Ok(answers.iter().map(|(index, ok)| AnswerOut { index: *index, verdict: verdict(*ok) }).collect())
    }

    #[test]
    fn each_event_has_its_answer_whatever_their_order() {
        let (done, reject) = (Answered::Own(Ending::Done), Answered::Own(Ending::Reject { reason: "no".to_owned() }));
        let missing = Answered::Shared(retry("the handler gave no answer for this item"));
        let table: [(Answer, Result<Vec<Answered>, &str>); 6] = [
            (answers(&[(2, true), (0, false), (1, true)]), Ok(vec![reject.clone(), done.clone(), done.clone()])),
            (answers(&[(1, true)]), Ok(vec![missing.clone(), done, missing.clone()])),
            (answers(&[]), Ok(vec![missing; 3])),
            (answers(&[(3, true)]), Err("answered item 3 of a batch of 3 (they are counted from 0)")),
            (answers(&[(0, true), (0, true)]), Err("answered item 0 twice")),
            (
                Err(FailureOut::Reject("all".to_owned())),
                Ok(vec![Answered::Shared(Ending::Reject { reason: "all".to_owned() }); 3]),
            ),
        ];
        for (answer, expected) in table {
            assert_eq!(endings(answer, 3), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn what_failed_from_outside_is_told_of_those_that_it_may_have_failed() {
        let text = |text: &str| Some(text.to_owned());
        let (own, shared) = (Answered::Own(retry("x")), Answered::Shared(retry("x")));
        let table = [
            (None, None, None, None, None),
            (None, text("of 1"), None, text("of 1"), text("of 1")),
            (text("all"), None, text("all"), text("all"), text("all")),
            (text("all"), text("of 1"), text("all"), text("of 1"), text("all")),
        ];
        for (all, of_second, first, second, whole) in table {
            let outside = Outside { all, of: vec![None, of_second] };
            let found = (outside.reason(&own, 0), outside.reason(&own, 1), outside.reason(&shared, 0), outside.any());
            assert_eq!(found, (first, second, whole.clone(), whole));
        }
    }
}
