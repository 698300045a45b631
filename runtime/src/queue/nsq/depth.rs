//! What waits, and the removal of channels: over HTTP, as the protocol has neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::client::http::ask;
use super::shared::Shared;
use super::url::Address;
use crate::queue::{Depth, QueueError, SubscriptionDepth};

/// What a server answers to `/stats`.
#[derive(Debug, Default, Deserialize)]
struct Stats {
    #[serde(default)]
    topics: Vec<Topic>,
}

#[derive(Debug, Default, Deserialize)]
struct Topic {
    /// What no channel has got yet.
    #[serde(default)]
    depth: u64,
    #[serde(default)]
    channels: Vec<Channel>,
}

#[derive(Debug, Default, Deserialize)]
struct Channel {
    channel_name: String,
    #[serde(default)]
    depth: u64,
    #[serde(default)]
    in_flight_count: u64,
    #[serde(default)]
    deferred_count: u64,
}

/// The sums over all servers: what no channel has got yet, and what waits in each channel and is in flight there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    topic: u64,
    channels: BTreeMap<String, (u64, u64)>,
}

impl Sums {
    fn add(&mut self, stats: Stats) {
        for topic in stats.topics {
            self.topic += topic.depth;
            for channel in topic.channels {
                let (waits, runs) = self.channels.entry(channel.channel_name).or_default();
                *waits += topic.depth + channel.depth + channel.deferred_count + channel.in_flight_count;
                *runs += channel.in_flight_count;
            }
        }
    }
}

impl Shared {
    /// Whether servers can be asked by HTTP.
    pub(super) fn has_http(&self) -> bool {
        self.url.lookup || !self.url.http.is_empty()
    }

    pub(super) async fn depth(&self) -> Result<Depth, QueueError> {
        if !self.has_http() {
            return Ok(Depth::default());
        }
        let path = format!("/stats?format=json&topic={}&include_clients=false&include_mem=false", self.url.topic);
        let mut sums = Sums::default();
        for (_, http) in self.https() {
            let away = |error: &dyn std::fmt::Display| QueueError::Unavailable(format!("{}: {error}", self.url));
            let (status, body) = ask(Method::GET, &http, &path).await.map_err(|error| away(&error))?;
            if status != StatusCode::OK {
                return Err(away(&format!("http://{http} answers {status}")));
            }
            sums.add(serde_json::from_slice(&body).map_err(|error| away(&format!("http://{http} answers no stats: {error}")))?);
        }
        let most = sums.channels.values().map(|(waits, _)| *waits).max();
        let subscriptions = sums.channels.into_iter().map(|(channel, (waits, runs))| SubscriptionDepth {
            name: self.name_of(channel),
            events: Some(waits),
            oldest: None,
            in_flight: Some(runs),
            partitions: Vec::new(),
        });
        // The same event waits in several channels: at least so many are not ended.
        Ok(Depth { events: Some(most.unwrap_or(sums.topic)), bytes: None, subscriptions: subscriptions.collect() })
    }

    fn https(&self) -> Vec<(Address, Address)> {
        self.nodes().iter().filter_map(|node| Some((node.address.clone(), node.http.clone()?))).collect()
    }

    /// Removes a channel from all servers, and from what `nsqlookupd` knows.
    pub(super) async fn unsubscribe(self: &Arc<Self>, name: &str) -> Result<(), QueueError> {
        if !self.has_http() {
            return Err(QueueError::Unsupported(
                "unsubscribe` without `http=HOST:PORT` in its URL, one for each nsqd; or `nsqadmin",
            ));
        }
        let channel = self.forget(name);
        let path = format!("/channel/delete?topic={}&channel={channel}", self.url.topic);
        let lookups = if self.url.lookup { self.url.servers.clone() } else { Vec::new() };
        for http in lookups.into_iter().chain(self.https().into_iter().map(|(_, http)| http)) {
            match ask(Method::POST, &http, &path).await {
                // Not there: removed already.
                Ok((StatusCode::OK | StatusCode::NOT_FOUND, _)) => {}
                Ok((status, _)) => return Err(QueueError::Unavailable(format!("{}: http://{http} answers {status}", self.url))),
                Err(error) => return Err(QueueError::Unavailable(format!("{}: {error}", self.url))),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_summed_over_servers() {
        let one = r#"{"version":"1.3.0","topics":[{"topic_name":"t","depth":2,"channels":[
            {"channel_name":"a","depth":5,"in_flight_count":1,"deferred_count":3},{"channel_name":"b","depth":0,"in_flight_count":0,"deferred_count":0}]}]}"#;
        let other = r#"{"topics":[{"topic_name":"t","depth":0,"channels":[{"channel_name":"a","depth":4,"in_flight_count":2,"deferred_count":0}]}]}"#;
        let mut sums = Sums::default();
        for text in [one, other, "{}"] {
            sums.add(serde_json::from_str(text).unwrap());
        }
        let channels = [("a".to_owned(), (17, 3)), ("b".to_owned(), (2, 0))];
        assert_eq!(sums, Sums { topic: 2, channels: channels.into() });
    }
}
