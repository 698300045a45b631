//! `amqp://`, on RabbitMQ 3.10 and 4.

mod faults;
mod own;
mod refusals;

use std::sync::OnceLock;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use weir_runtime::queue::conformance::Place;
use weir_tests::brokers::rabbitmq::{self, Release};
use weir_tests::brokers::server::Server;

use super::{Spot, fresh};

/// The server that the tests of this process share.
fn shared(release: Release) -> &'static Server {
    static OLD: OnceLock<Server> = OnceLock::new();
    static NEW: OnceLock<Server> = OnceLock::new();
    let shared = match release {
        Release::Old => &OLD,
        Release::New => &NEW,
    };
    shared.get_or_init(|| rabbitmq::start(release, "max_message_size = 2000000"))
}

/// A queue of its own.
fn queue(server: &Server) -> Spot {
    Spot::new(format!("{}/%2F/{}", server.url(), fresh()))
}

/// An exchange of its own.
fn exchange(server: &Server) -> Spot {
    Spot::new(format!("{}/%2F?exchange={}", server.url(), fresh()))
}

/// The client without Weir.
async fn bare(server: &Server) -> Channel {
    let url = format!("{}/%2F", server.url());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    // It ends with the test's runtime.
    std::mem::forget(connection);
    channel
}

/// Makes a durable queue with these arguments.
async fn declare(channel: &Channel, queue: &str, arguments: &[(&str, AMQPValue)]) {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), table).await.unwrap();
}

/// Publishes to a queue as anybody would.
async fn send(channel: &Channel, queue: &str, body: &[u8], properties: BasicProperties) {
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap();
    assert!(confirm.await.unwrap().is_ack());
}

macro_rules! suite {
    ($name:ident, $release:expr, $place:ident, $without:ident, skips: [$($more:literal)*]) => {
        mod $name {
            use super::*;

            fn adapter(_: u64) -> Box<dyn Place> {
                Box::new($place(shared($release)))
            }

            weir_runtime::conformance_tests!(
                #[cfg_attr($without, ignore = "no such RabbitMQ on this machine: make tools")]
                adapter,
                skips: [
                    $($more,)*
                    "order_is_kept",
                    "first_subscriptions_see_what_waited",
                    "start_decides_where_to_begin",
                    "unsubscribe_frees",
                    "depth_counts",
                    "full_queue_refuses_and_recovers",
                    "too_large_is_refused",
                    "batch_is_all_or_none",
                    "subscriptions_outlive_the_process",
                    "order_outlives_the_process",
                    "leases_are_kept_while_held",
                    "order_is_taken_over",
                    "order_is_given_up_at_close",
                    "broker_restart_loses_nothing",
                ]
            );
        }
    };
}

/// The same as classic queues.
fn classic_queue(server: &Server) -> Spot {
    Spot::new(format!("{}/%2F/{}?queue-type=classic", server.url(), fresh()))
}

fn classic_exchange(server: &Server) -> Spot {
    Spot::new(format!("{}/%2F?exchange={}&queue-type=classic", server.url(), fresh()))
}

suite!(queue_on_old, Release::Old, queue, without_rabbitmq_old, skips: ["each_subscription_sees_all"]);
suite!(queue_on_new, Release::New, queue, without_rabbitmq, skips: ["each_subscription_sees_all"]);
suite!(exchange_on_old, Release::Old, exchange, without_rabbitmq_old, skips: []);
suite!(exchange_on_new, Release::New, exchange, without_rabbitmq, skips: []);
suite!(classic_queue_on_old, Release::Old, classic_queue, without_rabbitmq_old, skips: ["each_subscription_sees_all"]);
suite!(classic_queue_on_new, Release::New, classic_queue, without_rabbitmq, skips: ["each_subscription_sees_all"]);
suite!(classic_exchange_on_old, Release::Old, classic_exchange, without_rabbitmq_old, skips: []);
suite!(classic_exchange_on_new, Release::New, classic_exchange, without_rabbitmq, skips: []);

/// The same with a server of its own, that is killed.
mod restarts {
    use super::*;
    use weir_runtime::queue::Start;
    use weir_runtime::queue::conformance::{block_on, check};

    /// With queues that have seen a restart: a quorum queue that was made in the second before its server is killed has no leader
    /// afterwards, whoever made it (3.10 and 4.0).
    fn on(mut server: Server, spot: fn(&Server) -> Spot) -> Box<dyn Place> {
        let spot = spot(&server);
        std::thread::scope(|scope| {
            // The caller is in a runtime.
            let made = scope.spawn(|| {
                block_on(async {
                    let queue = spot.opened().await.unwrap();
                    queue.subscribe("weir-conformance", Start::New).await.unwrap();
                    queue.close().await;
                    Ok(())
                })
            });
            made.join().unwrap().unwrap();
        });
        server.process().stop();
        server.start_again();
        Box::new(spot.on(server))
    }

    fn old(_: u64) -> Box<dyn Place> {
        on(rabbitmq::start(Release::Old, ""), queue)
    }

    fn new(_: u64) -> Box<dyn Place> {
        on(rabbitmq::start(Release::New, ""), exchange)
    }

    #[test]
    #[ignore = "on 3.10 what is held sometimes lapses over a restart, and runs again: seen on a busy machine, cause not found"]
    fn broker_restart_loses_nothing_on_old() {
        block_on(check(&old, "broker_restart_loses_nothing", &[])).unwrap();
    }

    #[test]
    #[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
    fn broker_restart_loses_nothing_on_new() {
        block_on(check(&new, "broker_restart_loses_nothing", &[])).unwrap();
    }
}
