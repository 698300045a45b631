//! `--set`.

use std::path::Path;

use super::{BASE, problems, read_with};

#[test]
fn an_override_is_laid_over_the_file() {
    let overrides = [
        "handler.notify.limits.fuel=1000",
        "handler.notify.limits.deadline = \"3s\"",
        "server.listen=[::1]:0",
        "server.grace=5s",
        "server.name=7",
        "server.data=d",
        "server.hosts=['a', 'b']",
        "queue.events.ingress=false",
        "queue.events.url=disk:./x=y",
        "server.name=8",
    ];
    let config = read_with(BASE, &overrides).unwrap();
    assert_eq!(config.handlers["notify"].limits.fuel, 1000);
    assert_eq!(config.handlers["notify"].limits.deadline.as_secs(), 3);
    assert_eq!((config.server.listen.to_string().as_str(), config.server.grace.as_secs()), ("[::1]:0", 5));
    assert_eq!((config.server.name.as_deref(), config.server.hosts.len()), (Some("8"), 2));
    assert_eq!(config.server.data, Path::new("/home/ann/d"), "relative to the current folder");
    assert!(!config.queues["events"].ingress);
    assert_eq!(config.queues["events"].url.to_string(), "disk:/home/ann/x=y");
}

#[test]
fn what_is_wrong_is_told_of_the_override() {
    let table = [
        ("handler.notify.limits.fule=1", "1:23 fule → `handler.notify.limits.fule` is not a known key"),
        ("handler.notify.limits.fuel=x", "1:28 x → `handler.notify.limits.fuel` is not a number"),
        ("handler.notify.limits.fuel=0", "1:28 0 → `handler.notify.limits.fuel` is out of range"),
        ("server.grace=soon", "1:14 soon → `server.grace` is not a duration"),
        ("server.hosts=['a', 5]", "1:20 5 → `server.hosts` is not a host name"),
        (
            "handler.notify={ component = 'c', queue = 'q' }",
            "1:43 'q' → `handler.notify.queue` names a queue that is not defined",
        ),
        ("server.token=s3 cr3t", "1:14 ** **** → `server.token` is not a token"),
        ("server.grace", "1:1 server.grace → there is no `=` in this"),
        ("=5", "1:1  → this is not a key"),
        ("a b=5", "1:1 a b → this is not a key"),
        ("a=1\nb=5", "1:1 a → `a` is not a known key"),
        ("x=1\ny.z=5", "1:1 x → `x` is not a known key"),
        ("queue.events.url.x=5", "1:14 url → `queue.events.url` is not a table, so it holds no keys"),
        ("handler.notify.digest=subject", "1:16 digest → `digest`: not in this version yet"),
    ];
    for (text, expected) in table {
        assert_eq!(problems(BASE, &[text]), [expected], "{text}");
        assert!(read_with(BASE, &[text]).unwrap_err().iter().all(|problem| problem.file == "--set"));
    }
}
