//! What the embedded queues cost: durable publishes a second from many publishers, and a publish, pull and settle per event.
//!
//! `cargo bench -p weir-runtime --bench queue`. The disk's figures are those of the file system under the temporary folder (`TMPDIR`).

#![expect(clippy::unwrap_used, reason = "a measurement of something that failed is worth nothing: it ends")]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::runtime::Runtime;
use weir_runtime::event::Event;
use weir_runtime::queue::disk::DiskQueue;
use weir_runtime::queue::memory::MemoryQueue;
use weir_runtime::queue::{Publish, Queue, Settle, Start};

const PUBLISHERS: u64 = 16;
const UNANSWERED_MAX: usize = 64;
const MAX_SIZE: u64 = 10 * 1024 * 1024 * 1024;
const SUBSCRIPTION: &str = "weir-bench";

/// Events of one round of publishing: some tens of commits.
const ROUND: u64 = 32_000;

/// Events that are pulled and settled together.
const BATCH: usize = 64;

/// 500 bytes of attributes and data.
fn event(number: u64) -> Publish {
    let event = Event {
        id: format!("{number:036}"),
        source: "/bench".to_owned(),
        kind: "com.example.bench".to_owned(),
        data: Some(format!("{{\"text\":\"{}\"}}", "x".repeat(430)).into()),
        ..Event::default()
    };
    Publish { event: Arc::new(event), due: None }
}

async fn publish_round(queue: &Arc<DiskQueue>) {
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let queue = Arc::clone(queue);
            tokio::spawn(async move {
                let mut unanswered = FuturesUnordered::new();
                for number in 0..ROUND / PUBLISHERS {
                    if unanswered.len() >= UNANSWERED_MAX {
                        unanswered.next().await.transpose().unwrap();
                    }
                    unanswered.push(queue.publish(vec![event(publisher * ROUND + number)]));
                }
                while let Some(answer) = unanswered.next().await {
                    answer.unwrap();
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

async fn cycle(queue: &dyn Queue, batch: Vec<Publish>) {
    queue.publish(batch).await.unwrap();
    let mut settled = 0;
    while settled < BATCH {
        let came = queue.pull(SUBSCRIPTION, NonZeroUsize::new(BATCH).unwrap()).await.unwrap();
        settled += came.len();
        let batch = came.into_iter().map(|delivery| black_box(delivery).settle(Settle::Ack).1).collect();
        queue.settle(SUBSCRIPTION, batch).await.unwrap();
    }
}

fn batch() -> Vec<Publish> {
    (0..BATCH as u64).map(event).collect()
}

fn measure_cycles(runtime: &Runtime, queue: &dyn Queue, rounds: u64) -> Duration {
    let batch = batch();
    runtime.block_on(async {
        let begun = Instant::now();
        for _ in 0..rounds {
            cycle(queue, batch.clone()).await;
        }
        begun.elapsed()
    })
}

fn benches(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let memory = MemoryQueue::new("bench", MAX_SIZE);
    let disk = DiskQueue::open(&folder.path().join("cycle"), "bench", MAX_SIZE).unwrap();
    runtime.block_on(async {
        memory.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
        disk.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    });

    let mut group = criterion.benchmark_group("publish, pull and settle 64 events");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("memory", |bench| bench.iter_custom(|rounds| measure_cycles(&runtime, &*memory, rounds)));
    group.bench_function("disk", |bench| bench.iter_custom(|rounds| measure_cycles(&runtime, &*disk, rounds)));
    group.finish();

    let mut group = criterion.benchmark_group("durable publishes, 16 publishers with 64 unanswered each");
    group.throughput(Throughput::Elements(ROUND)).sample_size(10);
    group.bench_function("disk", |bench| {
        bench.iter_custom(|rounds| {
            let folder = tempfile::tempdir().unwrap();
            let queue = DiskQueue::open(folder.path(), "bench", MAX_SIZE).unwrap();
            runtime.block_on(async {
                let begun = Instant::now();
                for _ in 0..rounds {
                    publish_round(&queue).await;
                }
                begun.elapsed()
            })
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}
