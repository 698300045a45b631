//! `weir dead replay` and `weir dead drop`: one letter, several, or all that a filter says.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::place::{Failed, Place};
use super::{Asked, Drop, Replay};
use crate::cli::client::{Found, ServerArgs};
use crate::cli::output::{CliError, Global, Output, note};
use crate::dead::grave::Risen;

/// Most dead letters of one replay by a filter. They are listed first, because the oldest goes first and a list begins with the newest;
/// their ids take some 50 MB.
const REPLAYED_MAX: usize = 1_000_000;

/// Failures that are told one by one; more are counted.
const FAILURES_TOLD: usize = 100;

/// What became of them.
#[derive(Debug, Default)]
struct Done {
    count: u64,
    failed: u64,
    failures: Vec<Failure>,
    /// Why it went no further.
    stopped: Option<CliError>,
    /// The only failure, when one letter was asked for.
    last: Option<CliError>,
}

#[derive(Debug, Serialize)]
struct Failure {
    id: String,
    error: String,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

pub(super) fn replay(args: &Replay, server: &ServerArgs, global: &Global, output: &mut Output) -> Result<(), CliError> {
    if let Some(queue) = &args.queue {
        return replay_queue(queue, server, global, output);
    }
    let by_id = !args.ids.is_empty();
    let (wanted, to) = match (by_id, &args.handler, &args.to) {
        (true, Some(handler), Some(to)) if handler != to => {
            let text = format!("`--handler {handler}` and `--to {to}` both name who gets the events (expected one)");
            return Err(CliError::Wrong(text));
        }
        (true, handler, to) => (None, to.as_deref().or(handler.as_deref())),
        (false, handler, to) => (handler.as_ref(), to.as_deref()),
    };
    let asked = Asked::new(&args.which, wanted, None)?;
    check(by_id, args.all, &asked, "--handler, --reason or --older-than")?;
    let place = Place::find(server, global)?;
    let ids = if by_id { args.ids.clone() } else { oldest_first(&place, asked)? };
    let mut done = Done::default();
    for id in &ids {
        if !done.add(id, place.replay(id, to)) {
            break;
        }
    }
    done.print("replayed", (by_id, ids.len() as u64), global.json, output)
}

/// By a running server only: it has the queues open, the one that is read and those that are published to.
fn replay_queue(queue: &str, server: &ServerArgs, global: &Global, output: &mut Output) -> Result<(), CliError> {
    let client = match server.find(global)? {
        Found::Server(client) => client,
        Found::Nobody(why) => {
            return Err(CliError::Failed(format!("{why} (a queue is replayed by a running server: `weir serve`)")));
        }
    };
    let path = format!("/api/queues/{}/replay", utf8_percent_encode(queue, NON_ALPHANUMERIC));
    let risen: Risen = client.post(&path, "", &[])?.value()?;
    for left in &risen.left {
        note(&format!("event `{}` stays: {}", left.event, left.error));
    }
    if global.json {
        output.json(&risen)?;
    } else {
        output.line(&format!("replayed {} events of queue `{queue}`", risen.replayed))?;
    }
    if risen.left.is_empty() {
        Ok(())
    } else {
        Err(CliError::Failed(format!("{} events stay in queue `{queue}`", risen.left.len())))
    }
}

pub(super) fn drop(args: &Drop, server: &ServerArgs, global: &Global, output: &mut Output) -> Result<(), CliError> {
    let by_id = !args.ids.is_empty();
    let mut asked = Asked::new(&args.which, args.handler.as_ref(), args.queue.as_ref())?;
    check(by_id, args.all, &asked, "--handler, --queue, --reason or --older-than")?;
    let place = Place::find(server, global)?;
    let mut done = Done::default();
    if by_id {
        done.add_all(&args.ids, place.remove(&args.ids));
        return done.print("dropped", (true, args.ids.len() as u64), global.json, output);
    }
    // Page after page, so that memory does not grow with what is dropped.
    loop {
        let page = place.list(&asked)?;
        let ids = ids(&page.letters)?;
        if !done.add_all(&ids, place.remove(&ids)) {
            break;
        }
        asked.before = page.next;
        if asked.before.is_none() {
            break;
        }
    }
    let asked = done.count + done.failed;
    done.print("dropped", (false, asked), global.json, output)
}

fn check(by_id: bool, all: bool, asked: &Asked, filters: &str) -> Result<(), CliError> {
    if by_id || all || !asked.is_all() {
        return Ok(());
    }
    Err(CliError::Wrong(format!("which dead letters is not said (expected their ids, {filters}; or --all)")))
}

fn ids(letters: &[Box<RawValue>]) -> Result<Vec<String>, CliError> {
    let id = |letter: &RawValue| serde_json::from_str::<Named>(letter.get()).map(|named| named.id);
    let ids: Result<_, _> = letters.iter().map(|letter| id(letter)).collect();
    ids.map_err(|error| CliError::Failed(format!("dead letter can't be read: {error}")))
}

fn oldest_first(place: &Place, mut asked: Asked) -> Result<Vec<String>, CliError> {
    let mut found = Vec::new();
    loop {
        let page = place.list(&asked)?;
        found.extend(ids(&page.letters)?);
        asked.before = page.next;
        if asked.before.is_none() {
            break;
        }
        if found.len() >= REPLAYED_MAX {
            let text =
                format!("more than {REPLAYED_MAX} dead letters are meant (say fewer at once, with --older-than for example)");
            return Err(CliError::Failed(text));
        }
    }
    found.reverse();
    Ok(found)
}

impl Done {
    /// Counts what became of one; false: the others would fail too.
    fn add(&mut self, id: &str, done: Result<(), Failed>) -> bool {
        match done {
            Ok(()) => self.count += 1,
            Err(Failed::This(error)) => {
                self.failed += 1;
                if self.failures.len() < FAILURES_TOLD {
                    self.failures.push(Failure { id: id.to_owned(), error: without_mark(&error) });
                }
                self.last = Some(error);
            }
            Err(Failed::Every(error)) => self.stopped = Some(error),
        }
        self.stopped.is_none()
    }

    fn add_all(&mut self, ids: &[String], done: Vec<Result<(), Failed>>) -> bool {
        for (id, done) in ids.iter().zip(done) {
            self.add(id, done);
        }
        self.stopped.is_none()
    }

    /// Says how many, and ends with the error if there was any.
    fn print(self, what: &str, (by_id, asked): (bool, u64), as_json: bool, output: &mut Output) -> Result<(), CliError> {
        if by_id && asked == 1 && self.count == 0 {
            return Err(self.stopped.or(self.last).unwrap_or_else(|| CliError::Failed("nothing was done".to_owned())));
        }
        if as_json {
            output.json(&serde_json::json!({ what: self.count, "failed": &self.failures }))?;
        } else {
            output.line(&format!("{what} {}", self.count))?;
            for failure in &self.failures {
                note(&format!("`{}`: {}", failure.id, failure.error));
            }
        }
        let verb = |count: u64| if count == 1 { "was" } else { "were" };
        match self.stopped {
            Some(error) => Err(match error {
                CliError::Wrong(text) => CliError::Wrong(text),
                other => {
                    CliError::Failed(format!("{} ({} {} {what} before that)", without_mark(&other), self.count, verb(self.count)))
                }
            }),
            None if self.failed > 0 => {
                Err(CliError::Failed(format!("{} of {asked} dead letters {} not {what}", self.failed, verb(self.failed))))
            }
            None => Ok(()),
        }
    }
}

/// An error's text without the word that says it is one.
fn without_mark(error: &CliError) -> String {
    match error {
        CliError::Wrong(text) | CliError::Failed(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(done: Done, asked: (bool, u64), as_json: bool) -> (String, Result<(), CliError>) {
        let mut text = Vec::new();
        let ended = done.print("dropped", asked, as_json, &mut Output::new(&mut text, false));
        (String::from_utf8(text).unwrap(), ended)
    }

    #[test]
    fn what_was_done_is_counted_and_what_was_not_is_an_error() {
        let failed = |text: &str| Err(Failed::This(CliError::Wrong(text.to_owned())));
        let mut done = Done::default();
        assert!(done.add_all(&["a".to_owned(), "b".to_owned()], vec![Ok(()), failed("gone")]));
        let (text, ended) = printed(done, (true, 2), true);
        assert_eq!(text, "{\"dropped\":1,\"failed\":[{\"error\":\"gone\",\"id\":\"b\"}]}\n");
        assert!(ended.unwrap_err().to_string().contains("1 of 2 dead letters was not dropped"));

        let mut one = Done::default();
        assert!(one.add("a", failed("handler `x` is not defined")));
        let (text, ended) = printed(one, (true, 1), true);
        assert_eq!((text.as_str(), ended.unwrap_err().exit_code()), ("", 2));

        let mut away = Done::default();
        assert!(away.add("a", Ok(())));
        assert!(!away.add("b", Err(Failed::Every(CliError::Failed("queue is full".to_owned())))));
        let (text, ended) = printed(away, (false, 3), false);
        assert_eq!(text, "dropped 1\n");
        assert!(ended.unwrap_err().to_string().contains("queue is full (1 was dropped before that)"));

        let (text, ended) = printed(Done::default(), (false, 0), false);
        assert!(text == "dropped 0\n" && ended.is_ok());
    }
}
