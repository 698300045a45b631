//! What is refused of `fallback` and `map`.

use super::{check, good};

#[cfg(feature = "redis")]
#[test]
fn fallbacks() {
    let queue = |more: &str| format!("[queue.q]\nurl = 'redis://h?stream=k'\n{more}");
    for (line, expected) in [
        ("fallback = 'memory:'", "3:12 'memory:' → `queue.q.fallback` is not an embedded queue"),
        ("fallback = 'redis://h?stream=j'", "3:12 'redis://h?stream=j' → `queue.q.fallback` is not an embedded queue"),
        ("fallback = 5", "3:12 5 → `queue.q.fallback` is not an embedded queue"),
    ] {
        check(&queue(line), &[expected]);
    }
    check("[queue.q]\nurl = 'disk:a'\nfallback = 'disk:b'", &["3:12 'disk:b' → queue `q` is embedded: it is never away"]);
    check(
        &queue("fallback = 'disk:late'\n[queue.r]\nurl = 'redis://h?stream=j'\nfallback = 'disk:./x/../late'"),
        &["6:12 'disk:./x/../late' → the fallback of `r` has the folder of `q`"],
    );
}

#[test]
fn maps() {
    let queue = |map: &str| format!("[queue.q]\nurl = 'memory:'\nmap = {map}");
    for (map, expected) in [
        ("5", &["3:7 5 → `queue.q.map` is not a table"][..]),
        ("{}", &["3:7 {} → `queue.q.map` maps nothing"]),
        ("{ type = 'topic' }", &["3:16 'topic' → `queue.q.map.type` is not a JSON pointer (RFC 6901)"]),
        ("{ data = '/a~2' }", &["3:16 '/a~2' → `queue.q.map.data` is not a JSON pointer (RFC 6901)"]),
        ("{ type = 5 }", &["3:16 5 → `queue.q.map.type` is not a JSON pointer (RFC 6901)"]),
        (
            "{ specversion = '/v', Type = '/t', weirhops = '/h' }",
            &[
                "3:9 specversion → `queue.q.map.specversion` is nothing that can be mapped",
                "3:29 Type → `queue.q.map.Type` is nothing that can be mapped",
                "3:42 weirhops → `queue.q.map.weirhops` is nothing that can be mapped",
            ],
        ),
    ] {
        check(&queue(map), expected);
    }
}

#[cfg(feature = "redis")]
#[test]
fn order_and_a_fallback_do_not_go_together() {
    let text = "[queue.q]\nurl = 'redis://h?stream=k'\nfallback = 'disk:late'\n[handler.h]\ncomponent = 'c'\nqueue = 'q'\n";
    let told = |more: &str| good(&format!("{text}{more}")).warnings().iter().any(|warning| warning.contains("in another order"));
    assert_eq!((told(""), told("order-by = 'subject'")), (false, true));
}
