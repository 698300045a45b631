//! `nsqlookupd`: which servers have the topic. It is asked now and then, and told of our channels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::Notify;

use super::client::http::ask;
use super::lock;
use super::shared::Shared;
use super::url::Address;
use crate::queue::QueueError;

/// How often it is asked while no server is known.
const POLL_EMPTY: Duration = Duration::from_secs(1);

/// What is known from `nsqlookupd`.
#[derive(Default)]
pub(super) struct Lookup {
    state: Mutex<State>,
    /// One look at a time: what was asked last is kept last.
    looking: tokio::sync::Mutex<()>,
    /// Wakes the polling task.
    pub(super) wanted: Notify,
}

#[derive(Default)]
struct State {
    /// Why none of them could be asked at the last look.
    problem: Option<String>,
    answered: bool,
    /// Servers without the topic, and where they answer HTTP: for the first event of a topic that nobody has.
    spare: BTreeMap<Address, Address>,
}

impl Lookup {
    /// Why nothing is known; none: it was asked and answered.
    pub(super) fn problem(&self) -> Option<String> {
        let state = lock(&self.state);
        match (&state.problem, state.answered) {
            (Some(problem), _) => Some(problem.clone()),
            (None, false) => Some("nsqlookupd was not asked yet".to_owned()),
            (None, true) => None,
        }
    }
}

/// What `nsqlookupd` answers, of `/lookup` and of `/nodes`.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    producers: Vec<Producer>,
}

#[derive(Debug, Deserialize)]
struct Producer {
    broadcast_address: String,
    tcp_port: u16,
    http_port: u16,
}

/// Servers by where they take connections, and where they answer HTTP.
type Servers = BTreeMap<Address, Address>;

fn servers(answer: Answer) -> Servers {
    let address = |host: &str, port| Address { host: host.to_owned(), port };
    let both = |of: Producer| (address(&of.broadcast_address, of.tcp_port), address(&of.broadcast_address, of.http_port));
    answer.producers.into_iter().map(both).collect()
}

/// Asks until the queue is closed.
pub(super) async fn poll(shared: Arc<Shared>) {
    loop {
        let usual = if shared.nodes().is_empty() { POLL_EMPTY } else { shared.url.poll };
        // So that the processes of a cluster do not ask all at once.
        let wait = usual.mul_f64(0.7 + fastrand::f64() * 0.6);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.lookup.wanted.notified() => {}
            () = shared.closed.cancelled() => return,
        }
        shared.look().await;
    }
}

impl Shared {
    /// Asks all `nsqlookupd` now: takes servers into use that have the topic, and lets those go that none of them names.
    pub(super) async fn look(self: &Arc<Self>) {
        let _one = self.lookup.looking.lock().await;
        let path = format!("/lookup?topic={}", self.url.topic);
        let answers = futures_util::future::join_all(self.url.servers.iter().map(|lookup| answer(lookup, &path))).await;
        let asked = answers.len();
        let (found, problems): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let complete = found.len() == asked;
        let found: Servers = found.into_iter().flatten().flatten().collect();
        for (address, http) in &found {
            self.add_node(address, Some(http));
        }
        for node in self.nodes() {
            // One that took its first event a moment ago has told nobody yet, and is connected.
            if complete && !found.contains_key(&node.address) && node.producer.feed().is_none() {
                self.remove_node(&node.address);
            }
        }
        let spare = if found.is_empty() { self.others().await } else { Servers::new() };
        if found.is_empty() {
            self.register().await;
        }
        let mut state = lock(&self.lookup.state);
        state.answered |= problems.len() < asked;
        state.problem = (problems.len() == asked).then(|| problems.into_iter().find_map(Result::err)).flatten();
        state.spare = spare;
    }

    /// Tells `nsqlookupd` of our channels: a server that gets the topic makes them before it takes its first message.
    async fn register(&self) {
        for subscription in self.subscriptions() {
            let path = format!("/channel/create?topic={}&channel={}", self.url.topic, subscription.channel);
            for lookup in &self.url.servers {
                if let Err(error) = ask(Method::POST, lookup, &path).await {
                    tracing::debug!(queue = %self.name, error, "nsqlookupd does not know of a channel");
                }
            }
        }
    }

    /// Servers that do not have the topic.
    async fn others(&self) -> Servers {
        let answers = futures_util::future::join_all(self.url.servers.iter().map(|lookup| answer(lookup, "/nodes"))).await;
        answers.into_iter().flatten().flatten().collect()
    }

    /// Takes a server into use for the first event of a topic that none has.
    pub(super) async fn choose_node(self: &Arc<Self>) -> Result<(), QueueError> {
        if self.url.lookup && self.nodes().is_empty() {
            self.look().await;
        }
        if !self.nodes().is_empty() {
            return Ok(());
        }
        let chosen = {
            let state = lock(&self.lookup.state);
            let at = fastrand::usize(..state.spare.len().max(1));
            state.spare.iter().nth(at).map(|(address, http)| (address.clone(), http.clone()))
        };
        let Some((address, http)) = chosen else {
            let why = self.lookup.problem().unwrap_or_else(|| "nsqlookupd knows no nsqd".to_owned());
            return Err(QueueError::Unavailable(format!("{}: {why}", self.url)));
        };
        self.add_node(&address, Some(&http));
        Ok(())
    }
}

async fn answer(lookup: &Address, path: &str) -> Result<Servers, String> {
    let (status, body) = ask(Method::GET, lookup, path).await?;
    match status {
        StatusCode::OK => {
            let read = serde_json::from_slice(&body).map(servers);
            read.map_err(|error| format!("http://{lookup} answers what is not nsqlookupd's: {error}"))
        }
        // Nobody has the topic.
        StatusCode::NOT_FOUND => Ok(Servers::new()),
        other => Err(format!("http://{lookup} answers {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let text = r#"{"channels":["a"],"producers":[{"remote_address":"1.2.3.4:5","hostname":"n","broadcast_address":"n.example","tcp_port":4150,"http_port":4151,"version":"1.3.0"}]}"#;
        let found = servers(serde_json::from_str(text).unwrap());
        let found: Vec<_> = found.iter().map(|(tcp, http)| (tcp.to_string(), http.to_string())).collect();
        assert_eq!(found, [("n.example:4150".to_owned(), "n.example:4151".to_owned())]);
        assert!(servers(serde_json::from_str("{}").unwrap()).is_empty());
    }
}
