//! Several events a call, answered one by one: `batch = { size = 100, wait = "1s" }` in `weir.toml`, and [`batch_handler!`](crate::batch_handler!)
//! here.
//!
//! ```
//! use weir_sdk::prelude::*;
//!
//! weir_sdk::batch_handler!(store);
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     id: String,
//! }
//!
//! fn store(items: Vec<Item<Order>>) -> Answers {
//!     log::info!("{} orders at once", items.len());
//!     items
//!         .into_iter()
//!         .map(|item| {
//!             item.handle(|event, _| {
//!                 publish::event("order.stored").subject(event.data.id).to("stored")?;
//!                 Ok(())
//!             })
//!         })
//!         .collect()
//! }
//! # use weir_sdk::testing;
//! # let order = |id: &str| testing::event("order.paid", serde_json::json!({ "id": id }));
//! # let run = testing::Host::new().run_batch(store, [order("1"), testing::event("order.paid", 5), order("2")]);
//! # assert!(run.items[1].result.is_err() && run.logs[0].message == "2 orders at once");
//! # assert_eq!(run.items[2].published[0].event.subject.as_deref(), Some("2"));
//! ```
//!
//! * **Each item has its own answer**, and what becomes of one is nothing to the others. One without an answer is tried again.
//! * **Mail and published events belong to an item**: send and publish inside of [`Item::handle`] or [`Item::within`]; elsewhere the server
//!   refuses it. What an item publishes leaves when that item is done.
//! * **Data that does not fit the type is rejected before your function is called**, for that item alone.
//! * After a trap or a limit each item runs once more in a call of its own, and only the one that fails there has failed. So do not
//!   keep anything for the next item that the first one must have made: the batch may be one.
//! * A call has as many times the fuel, log, mail and events as it has items, and the memory and the deadline of one.

use crate::{Bytes, Delivery, Event, EventData, Failure, IntoResult, Result};

/// One event of a batch, and how it came here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T = serde_json::Value> {
    /// The event.
    pub event: Event<T>,
    /// How it came here, this time.
    pub delivery: Delivery,
    index: u32,
}

/// The answer for one item. Made by [`Item::handle`], [`Item::answer`], [`Item::done`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an item without an answer is tried again"]
pub struct Answer {
    pub(crate) index: u32,
    pub(crate) result: Result,
}

/// The answers of a batch: collected, in any order, each item at most once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "items without an answer are tried again"]
pub struct Answers(Vec<Answer>);

impl<T> Item<T> {
    pub(crate) fn new(index: u32, event: Event<T>, delivery: Delivery) -> Self {
        Item { event, delivery, index }
    }

    /// Calls a function of one event, whose mail and published events belong to this item, and takes what it answers.
    pub fn handle(self, function: impl FnOnce(Event<T>, Delivery) -> Result) -> Answer {
        let Item { event, delivery, index } = self;
        let result = crate::host::within(index, || function(event, delivery));
        Answer { index, result }
    }

    /// Calls a function whose mail and published events belong to this item.
    pub fn within<R>(&self, function: impl FnOnce() -> R) -> R {
        crate::host::within(self.index, function)
    }

    /// This answer: a [`Result`], or an error that becomes one.
    pub fn answer(&self, result: impl IntoResult) -> Answer {
        Answer { index: self.index, result: result.into_result() }
    }

    /// Done: acknowledged, after what was published for it has left.
    pub fn done(&self) -> Answer {
        self.answer(())
    }
}

impl Item<Bytes> {
    /// Reads the data into `T`: see [`Event::decode`].
    ///
    /// # Errors
    /// The answer for it, when the data does not fit.
    pub fn decode<T: EventData>(self) -> Result<Item<T>, Answer> {
        let Item { event, delivery, index } = self;
        match event.decode() {
            Ok(event) => Ok(Item { event, delivery, index }),
            Err(failure) => Err(Answer { index, result: Err(failure) }),
        }
    }
}

impl Answers {
    /// None yet.
    pub fn new() -> Self {
        Answers::default()
    }

    /// Adds one.
    pub fn push(&mut self, answer: Answer) {
        self.0.push(answer);
    }
}

impl FromIterator<Answer> for Answers {
    fn from_iter<I: IntoIterator<Item = Answer>>(answers: I) -> Self {
        Answers(answers.into_iter().collect())
    }
}

impl Extend<Answer> for Answers {
    fn extend<I: IntoIterator<Item = Answer>>(&mut self, answers: I) {
        self.0.extend(answers);
    }
}

/// A function that can handle batches: `fn(Vec<Item<T>>)`, answering [`Answers`], nothing, or a [`Result`] of either.
#[diagnostic::on_unimplemented(
    message = "this function can't be a batch handler",
    label = "not a batch handler",
    note = "a batch handler is `fn(Vec<Item<T>>)` where `T` can be deserialized, answering `weir_sdk::Answers`, nothing, or a `Result` of either"
)]
pub trait BatchHandler<Arguments> {
    /// Reads the events' data and calls the function with those that fit, if there are any.
    fn call(self, items: Vec<Item<Bytes>>) -> Answers;
}

impl<F, T, R> BatchHandler<(T,)> for F
where
    F: FnOnce(Vec<Item<T>>) -> R,
    T: EventData,
    R: IntoAnswers,
{
    fn call(self, items: Vec<Item<Bytes>>) -> Answers {
        let (mut answers, mut fitting) = (Answers::new(), Vec::with_capacity(items.len()));
        for item in items {
            match item.decode() {
                Ok(item) => fitting.push(item),
                Err(answer) => answers.push(answer),
            }
        }
        if !fitting.is_empty() {
            let indexes: Vec<u32> = fitting.iter().map(|item| item.index).collect();
            answers.extend(self(fitting).into_answers(&indexes).0);
        }
        answers
    }
}

/// What a batch handler's function may answer.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer of a batch handler",
    note = "answer `weir_sdk::Answers`, nothing (all are done), or a `Result` of either, whose error is the answer for every item"
)]
pub trait IntoAnswers {
    /// The answers of these items.
    fn into_answers(self, items: &[u32]) -> Answers;
}

impl IntoAnswers for Answers {
    fn into_answers(self, _: &[u32]) -> Answers {
        self
    }
}

/// All are done.
impl IntoAnswers for () {
    fn into_answers(self, items: &[u32]) -> Answers {
        items.iter().map(|index| Answer { index: *index, result: Ok(()) }).collect()
    }
}

/// An error is the answer for every item.
impl<A: IntoAnswers, E: Into<Failure>> IntoAnswers for std::result::Result<A, E> {
    fn into_answers(self, items: &[u32]) -> Answers {
        match self {
            Ok(answers) => answers.into_answers(items),
            Err(error) => {
                let failure = error.into();
                items.iter().map(|index| Answer { index: *index, result: Err(failure.clone()) }).collect()
            }
        }
    }
}

impl IntoIterator for Answers {
    type Item = Answer;
    type IntoIter = std::vec::IntoIter<Answer>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Makes a function the batch handler of this component: see [`batch`](crate::batch). `self_test` is as in
/// [`handler!`](crate::handler!).
///
/// ```
/// use weir_sdk::prelude::*;
///
/// weir_sdk::batch_handler!(count);
///
/// fn count(items: Vec<Item<()>>) {
///     log::info!("{} more", items.len());
/// }
/// ```
#[macro_export]
macro_rules! batch_handler {
    ($handler:path $(, self_test = $self_test:path)? $(,)?) => {
        const _: () = {
            #[cfg(target_family = "wasm")]
            mod __weir {
                pub struct Component;
                $crate::__private::batch::export!(Component with_types_in $crate::__private::batch);
            }

            #[cfg(target_family = "wasm")]
            impl $crate::__private::batch::Guest for __weir::Component {
                fn handle(
                    items: ::std::vec::Vec<$crate::__private::batch::Item>,
                ) -> ::core::result::Result<::std::vec::Vec<$crate::__private::batch::Answer>, $crate::__private::handler::Failure> {
                    ::core::result::Result::Ok($crate::__private::batch::run($handler, items))
                }
            }

            // In tests the function is checked all the same, and counts as used.
            #[cfg(not(target_family = "wasm"))]
            const _: fn() = || $crate::__private::check_batch($handler);

            $($crate::__self_test!($self_test);)?
        };
    };
}

/// Compiles only for what can be a batch handler.
pub fn check_batch<A>(_: impl BatchHandler<A>) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::{email, log, publish};
    use crate::testing::{Host, event};
    use crate::{reject, retry};

    fn events(data: &[&str]) -> Vec<Event<Bytes>> {
        let event = |(at, data): (usize, &&str)| Event { id: at.to_string(), ..event("t", data) };
        data.iter().enumerate().map(event).collect()
    }

    fn each(items: Vec<Item<String>>) -> Answers {
        let answer = |item: Item<String>| {
            item.handle(|event, _| {
                log::info!("{}", event.data);
                email::to("ann@example.com").subject("s").text(event.data.as_str()).send()?;
                publish::event("t").to("q")?;
                if event.data == "later" { Err(retry("later")) } else { Ok(()) }
            })
        };
        items.into_iter().filter(|item| item.event.data != "left out").map(answer).collect()
    }

    #[test]
    fn each_item_has_its_own() {
        let mut host = Host::new();
        let run = host.run_batch(each, events(&["a", "later", "left out", "b"]));
        let results: Vec<_> = run.items.iter().map(|run| run.result.clone()).collect();
        assert_eq!(results, [Ok(()), Err(retry("later")), Err(retry("no answer for this item")), Ok(())]);
        let counts: Vec<_> = run.items.iter().map(|run| (run.mails.len(), run.published.len(), run.logs.len())).collect();
        assert_eq!(counts, [(1, 1, 1), (1, 0, 1), (0, 0, 0), (1, 1, 1)]);
        assert_eq!((run.items[3].logs[0].message.as_str(), run.logs.len()), ("b", 0));
        let again = host.run_batch(each, events(&["a", "later"]));
        assert!(again.items.iter().all(|run| run.mails.is_empty()), "sent before: {again:?}");
    }

    #[test]
    fn one_answer_for_all() {
        let results = |run: crate::testing::BatchRun| run.items.into_iter().map(|run| run.result).collect::<Vec<_>>();
        let unfit = reject("data: invalid type: integer `5`, expected a string at line 1 column 1");
        let given = || [event("t", "a"), event("t", 5), event("t", "b")];
        let found = results(Host::new().run_batch(|_: Vec<Item<String>>| {}, given()));
        assert_eq!(found, [Ok(()), Err(unfit.clone()), Ok(())]);
        let fails = |_: Vec<Item<String>>| -> Result { Err(retry("not now")) };
        assert_eq!(results(Host::new().run_batch(fails, given())), [Err(retry("not now")), Err(unfit), Err(retry("not now"))]);
        let done = |items: Vec<Item<String>>| -> Result<Answers> { Ok(items.iter().map(Item::done).collect()) };
        assert_eq!(results(Host::new().run_batch(done, [event("t", "a")])), [Ok(())]);
        let never = |_: Vec<Item<String>>| -> Answers { unreachable!("no item fits") };
        assert!(results(Host::new().run_batch(never, [event("t", 5)]))[0].is_err());
    }

    #[test]
    fn an_effect_of_no_item_is_refused() {
        let run = Host::new().run_batch(
            |items: Vec<Item<String>>| -> Answers {
                let of_none = email::to("ann@example.com").subject("s").text("t").send();
                assert!(of_none.is_err_and(|error| error.to_string().contains("`Item::within`")));
                let of_none = publish::event("t").to("q");
                items.iter().map(|item| item.answer(of_none.clone().and(item.within(|| publish::event("t").to("q"))))).collect()
            },
            events(&["a"]),
        );
        let Err(Failure::Reject { reason }) = &run.items[0].result else { panic!("{run:?}") };
        assert!(reason.contains("`Item::within`") && run.items[0].published.is_empty(), "{reason}");
    }
}
