//! What one event costs on its way, piece by piece: its JSON, its run in the sandbox. `weir bench` has the whole path and the ratios.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use weir_runtime::bench::HANDLER;
use weir_runtime::clock::now;
use weir_runtime::config::{Ceilings, Limits};
use weir_runtime::event::json;
use weir_runtime::sandbox::inspect::inspect;
use weir_runtime::sandbox::{Job, Permits, Sandbox, Setup, run};

fn text() -> Vec<u8> {
    let data = "x".repeat(400);
    format!(r#"{{"specversion":"1.0","id":"1","source":"/bench","type":"t","subject":"s","data":{{"answer":"{data}","n":1}}}}"#)
        .into()
}

fn event_json(criterion: &mut Criterion) {
    let text = text();
    let event = json::read(&text).unwrap();
    criterion.bench_function("event/read 500 bytes", |bench| bench.iter(|| json::read(&text).unwrap()));
    criterion.bench_function("event/write 500 bytes", |bench| bench.iter(|| json::write(&event)));
}

fn sandbox(criterion: &mut Criterion) {
    let bytes = wat::parse_str(HANDLER).unwrap();
    let sandbox = Sandbox::new(&Ceilings::default(), 16, None);
    let program = sandbox.program(&bytes, &inspect(&bytes).unwrap()).unwrap();
    let setup = Arc::new(Setup {
        handler: Arc::from("bench"),
        limits: Limits::default(),
        config: Vec::new(),
        mailer: None,
        publish: None,
        http: None,
        redactor: Default::default(),
        buckets: None,
        max_event: 1 << 20,
        permits: Permits::new(&sandbox),
    });
    let event = Arc::new(json::read(&text()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    criterion.bench_function("sandbox/one event", |bench| {
        let job = || Job {
            event: &event,
            queue: "bench",
            order_key: None,
            attempt: 1,
            attempts_left: 7,
            first_seen: now(),
            answer_by: None,
        };
        bench.iter_batched(job, |job| runtime.block_on(run(&program, &setup, job)), BatchSize::SmallInput);
    });
}

criterion_group!(benches, event_json, sandbox);
criterion_main!(benches);
