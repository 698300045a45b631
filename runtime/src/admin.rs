//! The HTTP side of a server: events in, health, metrics, and what a person or program asks about it. All of it stands here:
//!
//! | route | who | what |
//! |---|---|---|
//! | `POST /events/{queue}` | `token` or `publish-token` | takes events: `source/http.rs` |
//! | `GET /healthz` | anyone | 200 while the process answers |
//! | `GET /readyz` | anyone | 200 or 503, and what is not ready |
//! | `GET /metrics` | `token` | Prometheus text |
//! | `GET /api/handlers` | `token` | each handler |
//! | `GET /api/queues` | `token` | each queue and its subscriptions |
//! | `GET /api/dead` | `token` | dead letters, newest first; `?handler= queue= reason= older-than= limit= before=` |
//! | `GET /api/dead/{id}` | `token` | one dead letter |
//! | `POST /api/dead/{id}/replay` | `token` | publishes its event again, `?handler=` for another handler, and removes it |
//! | `DELETE /api/dead/{id}` | `token` | removes it |
//! | `POST /api/queues/{name}/replay` | `token` | the events of a queue that takes dead letters go back to where they came from |
//! | `POST /api/handlers/{name}/pause` | `token` | nothing is pulled for it, in every process that shares the store |
//! | `POST /api/handlers/{name}/resume` | `token` | ends that |
//! | `POST /api/handlers/{name}/forget` | `token` | removes what waits for a handler that is not configured any more |
//!
//! Everything else is 404 or 405, in JSON like every answer but the metrics, and asks for the token first. Nothing here decides
//! anything about events: [`Backend`] is what the server knows, `status` how it is written, `guard` who may ask.

pub mod answer;
pub mod backend;
mod control;
mod dead;
pub mod guard;
pub mod metrics;
pub mod routes;
pub mod server;
pub mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{self, QueueConfig};
use crate::queue::Queue;
use crate::source::http::{Entrance, Ingress};

pub use backend::Backend;
pub use server::serve;

/// All that the routes need.
pub struct State {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) ingress: Arc<Ingress>,
    pub(crate) rules: guard::Rules,
}

impl State {
    /// The HTTP side over opened queues and what the server knows of itself.
    #[must_use]
    pub fn new(
        server: &config::Server,
        queues: &BTreeMap<String, (Arc<dyn Queue>, QueueConfig)>,
        backend: Arc<dyn Backend>,
    ) -> Arc<Self> {
        let entrance = |(queue, config): &(Arc<dyn Queue>, QueueConfig)| Entrance {
            queue: queue.clone(),
            kind: config.kind.clone(),
            map: config.map.clone(),
            open: config.ingress,
        };
        let entrances = queues.iter().map(|(name, queue)| (name.clone(), entrance(queue))).collect();
        let ingress = Arc::new(Ingress::new(entrances, server.max_event));
        let rules = guard::Rules::new(server.token.as_ref(), server.publish_token.as_ref(), &server.hosts);
        Arc::new(Self { backend, ingress, rules })
    }
}

#[cfg(test)]
pub(crate) mod tests;
