//! What is refused: every table here tells all that is wrong with its text.

use super::{BASE, check, good};

/// One line in a table of its own, and all that is wrong with it.
#[track_caller]
fn check_line(header: &str, line: &str, expected: &str) {
    let lines = BASE.lines().count() + 2;
    check(&format!("{BASE}{header}\n{line}"), &[&format!("{lines}:{expected}")]);
}

#[test]
fn unknown_keys() {
    check("serverr = 5", &["1:1 serverr → `serverr` is not a known key"]);
    check("[handlers.x]\ncomponent = 'x'", &["1:2 handlers → `handlers` is not a known key"]);
    check(
        "[server]\nlissten = ''\n'a b' = 1",
        &["2:1 lissten → `server.lissten` is not a known key", "3:1 'a b' → `server.\"a b\"` is not a known key"],
    );
    check("[queue.q]\nurl = 'memory:'\ndepth = 5", &["3:1 depth → `queue.q.depth` is not a known key"]);
    check_line("[handler.notify.limits]", "fule = 5", "1 fule → `handler.notify.limits.fule` is not a known key");
    check_line("[handler.notify.retry]", "pause = 5", "1 pause → `handler.notify.retry.pause` is not a known key");
    check_line("[handler.notify.grants]", "mail = 5", "1 mail → `handler.notify.grants.mail` is not a known key");
    check_line("[ceilings]", "fule = 5", "1 fule → `ceilings.fule` is not a known key");
    check_line(
        "[handler.notify.config]",
        "a = { file = 'x', fiel = 'y' }",
        "19 fiel → `handler.notify.config.a.fiel` is not a known key",
    );
}

#[test]
fn keys_of_later_versions() {
    check("include = ['x']", &["1:1 include → `include`: not in this version yet"]);
    check("[secret.mailgun]\nvalue = 'x'", &["1:2 secret → `secret`: not in this version yet"]);
    check("[server]\ntls = { cert = 'x' }", &["2:1 tls → `tls`: not in this version yet"]);
    check("[server]\nstore = 'postgres://h'", &["2:9 'postgres://h' → `server.store` is not a store of this version"]);
    let header = "[handler.other]\ncomponent = 'c'\nqueue = 'events'";
    for key in ["trial", "digest"] {
        let expected = format!("10:1 {key} → `{key}`: not in this version yet");
        check(&format!("{BASE}{header}\n{key} = 1"), &[&expected]);
    }
    let values = [
        ("isolation = { reuse = 5 }", "10:13 { reuse = 5 } → `isolation`: not in this version yet"),
        ("isolation = 'frsh'", "10:13 'frsh' → `handler.other.isolation` is not an isolation"),
        ("run = 'http'", "10:7 'http' → `run`: not in this version yet"),
        ("order-by = 'Sub'", "10:12 'Sub' → `handler.other.order-by` is not the name of an attribute"),
        ("order-by = 'data'", "10:12 'data' → `handler.other.order-by` is not the name of an attribute"),
        ("parked = 20_000", "10:10 20_000 → `handler.other.parked` is above its ceiling"),
        ("duplicates = '99d'", "10:14 '99d' → `handler.other.duplicates` is out of range"),
        ("run = 'hndler'", "10:7 'hndler' → `handler.other.run` is not a way to run"),
    ];
    for (line, expected) in values {
        check(&format!("{BASE}{header}\n{line}"), &[expected]);
    }
    check_line("[handler.notify.limits]", "fuel = 'off'", "8 'off' → `fuel = \"off\"`: not in this version yet");
    for key in ["files", "env", "args", "secrets"] {
        check_line("[handler.notify.grants]", &format!("{key} = []"), &format!("1 {key} → `{key}`: not in this version yet"));
    }
    check_line("[ceilings]", "fuel = 5", "1 fuel → `ceilings.fuel`: not in this version yet");
    check_line("[ceilings]", "compile = { time = '1s' }", "1 compile → `ceilings.compile`: not in this version yet");
}

#[test]
fn values_of_server() {
    let table = [
        ("listen = 'localhost:80'", "10 'localhost:80' → `server.listen` is not an address with a port"),
        ("listen = '0.0.0.0:80'", "10 '0.0.0.0:80' → `server.listen` can be reached from other machines and there is no token"),
        ("listen = 8077", "10 8077 → `server.listen` is not an address with a port"),
        ("data = ''", "8 '' → `server.data` is not a folder"),
        ("data = 'http://x'", "8 'http://x' → `server.data` is not a folder"),
        ("name = 'a b'", "8 'a b' → `server.name` is not a name of this process or group"),
        ("group = ''", "9 '' → `server.group` is not a name of this process or group"),
        ("grace = '30'", "9 '30' → `server.grace` is not a duration"),
        ("grace = 30", "9 30 → `server.grace` is not a duration"),
        ("grace = '2h'", "9 '2h' → `server.grace` is out of range"),
        ("token = 'a b'", "9 '* *' → `server.token` is not a token"),
        ("token = '${NONE}'", "10 ${NONE} → `server.token`: environment variable `NONE` is not set"),
        ("token = '${PASSWORD}'", "9 '${PASSWORD}' → `server.token` is not a token"),
        ("hosts = 'x'", "9 'x' → `server.hosts` is not a list of host names"),
        ("hosts = ['a', 'b:1']", "15 'b:1' → `server.hosts` is not a host name"),
        ("max-event = '1B'", "13 '1B' → `server.max-event` is out of range"),
        ("max-event = '1GiB'", "13 '1GiB' → `server.max-event` is out of range"),
        ("max-event = '1MB'", "13 '1MB' → `server.max-event` is not a size"),
        ("instances = 0", "13 0 → `server.instances` is out of range"),
        ("instances = 30001", "13 30001 → `server.instances` is out of range"),
        ("instances = -1", "13 -1 → `server.instances` is out of range"),
        ("instances = 99999999999999999999", "13 99999999999999999999 → `server.instances` is out of range"),
        ("instances = '5'", "13 '5' → `server.instances` is not a number"),
        ("instances = 5.0", "13 5.0 → `server.instances` is not a number"),
        ("loaded = true", "10 true → `server.loaded` is not a number"),
        ("mail-kept = '1s'", "13 '1s' → `server.mail-kept` is out of range"),
    ];
    for (line, expected) in table {
        check_line("[server]", line, expected);
    }
    check("server = 5", &["1:10 5 → `server` is not a table"]);
    assert!(super::problems("[server]\nlisten = '0.0.0.0:80'\ntoken = '${TOKEN}'", &[]).is_empty());
    assert!(super::problems("[server]\nlisten = '[::1]:80'", &[]).is_empty());
}

#[test]
fn values_of_queues() {
    let url = |url: &str| format!("[queue.q]\nurl = {url}");
    let told = |found: &str| format!("2:7 {found} → `queue.q.url` is not a queue URL of this version");
    for wrong in ["'x'", "'disk:'", "'disk://h/x'", "'memory:x'", "'redis://h'", "'pulsar://h/t'", "'disk:x?a=b'", "''"] {
        check(&url(wrong), &[&told(wrong)]);
    }
    check("[queue.q]", &["1:8 nothing → `queue.q.url` is missing"]);
    check("[queue]\nq = 5", &["2:5 5 → `queue.q` is not a table"]);
    check("[queue.Q]\nurl = 'memory:'", &["1:8 Q → `Q` is not a name"]);
    let table = [
        ("type = ''", "8 '' → `queue.r.type` is not an event type"),
        ("start = 'now'", "9 'now' → `queue.r.start` is not where a new subscription begins"),
        ("ingress = 'yes'", "11 'yes' → `queue.r.ingress` is neither `true` nor `false`"),
        ("max-size = '0B'", "12 '0B' → `queue.r.max-size` is out of range"),
    ];
    for (line, expected) in table {
        check(&format!("[queue.r]\nurl = 'memory:'\n{line}"), &[&format!("3:{expected}")]);
    }
    let same = "[queue.a]\nurl = 'disk:x'\n[queue.b]\nurl = 'disk:./y/../x'\n[queue.c]\nurl = 'disk:./y'";
    check(same, &["4:7 'disk:./y/../x' → queues `a` and `b` have the same folder"]);
}

#[test]
#[cfg(feature = "redis")]
fn redis_queues() {
    let queue = |url: &str, more: &str| format!("[queue.q]\nurl = '{url}'\n{more}");
    for (url, says) in [
        ("redis://h:6379/0", "2:7 'redis://h:6379/0' → `queue.q.url` is not a queue URL of this version"),
        ("redis://h?hash=k", "2:7 'redis://h?hash=k' → `queue.q.url` is not a queue URL of this version"),
    ] {
        check(&queue(url, ""), &[says]);
    }
    check(&queue("redis://h?stream=k", "max-size = '1MiB'"), &["3:12 '1MiB' → a queue on a broker has no `max-size`"]);
    let same = "[queue.a]\nurl = 'redis://ann:pw@h?stream=k'\n[queue.b]\nurl = 'redis://h:6379/0?stream=k&lease=5s'";
    check(same, &["4:7 'redis://h:6379/0?stream=k&lease=5s' → queues `a` and `b` have the same stream"]);
    let handlers = "[handler.one]\ncomponent = 'c'\nqueue = 'q'\n[handler.two]\ncomponent = 'c'\nqueue = 'q'";
    check(
        &queue("redis://h?stream=k&group=old", handlers),
        &["2:7 'redis://h?stream=k&group=old' → `group=` is for one handler, and `one` and `two` read queue `q`"],
    );
}

#[test]
fn values_of_handlers() {
    check(
        "[handler.h]\n[handler.Upper]\ncomponent = 'c'\nqueue = 'q'",
        &[
            "1:10 nothing → `handler.h.component` is missing",
            "1:10 nothing → `handler.h.queue` is missing",
            "2:10 Upper → `Upper` is not a name",
            "4:9 'q' → `handler.Upper.queue` names a queue that is not defined",
        ],
    );
    check("handler = 5", &["1:11 5 → `handler` is not a table"]);
    check("[handler]\nh = 5", &["2:5 5 → `handler.h` is not a table"]);
    let header = "[queue.q]\nurl = 'memory:'\n[handler.h]\n";
    let queues = [
        ("''", "9 '' → `handler.h.queue` names a queue that is not defined"),
        ("'Q'", "9 'Q' → `handler.h.queue` names a queue that is not defined"),
        ("[]", "9 [] → `handler.h.queue` is an empty list"),
        ("['q', 'q']", "15 'q' → `handler.h.queue` names a queue twice"),
        ("['q', 5]", "15 5 → `handler.h.queue` is not the name of a queue"),
        ("5", "9 5 → `handler.h.queue` is not the name of a queue"),
    ];
    for (queue, expected) in queues {
        check(&format!("{header}component = 'c'\nqueue = {queue}"), &[&format!("5:{expected}")]);
    }
    for component in ["''", "'.'", "'x/'", "'https://x/y.wasm'", "5", "'a\\u0000'"] {
        let component = component.replace('\'', "\"");
        let expected = format!("4:13 {component} → `handler.h.component` is not the path of a component");
        check(&format!("{header}component = {component}\nqueue = 'q'"), &[&expected]);
    }
    let filters = [
        ("''", "11  → `handler.h.filter` is not a filter: the end of the expression is not expected here"),
        ("5", "10 5 → `handler.h.filter` is not a filter in CloudEvents SQL"),
        ("\"type = 'a' AN id\"", "22 AN → `handler.h.filter` is not a filter: `AN` is not expected here"),
        ("'type'", "11 type → `handler.h.filter` is not a filter: the result is a text"),
        ("\"type = '${NONE}'\"", "19 ${NONE} → `handler.h.filter`: environment variable `NONE` is not set"),
        ("\"type = ${HOST}\"", "10 \"type = ${HOST}\" → `handler.h.filter` is not a filter: it does not parse"),
        ("\"token = 'abc' 'abc'\"", "10 \"token = '***' '***'\" → `handler.h.filter` is not a filter: it does not parse"),
    ];
    for (filter, expected) in filters {
        let expected = expected.replace("11  →", "11 nothing →");
        check(&format!("{header}component = 'c'\nqueue = 'q'\nfilter = {filter}"), &[&format!("6:{expected}")]);
    }
    // A queue whose URL is wrong is told once.
    check(
        "[queue.q]\nurl = 'x'\n[handler.h]\ncomponent = 'c'\nqueue = 'q'",
        &["2:7 'x' → `queue.q.url` is not a queue URL of this version"],
    );
}

#[test]
fn values_below_handlers() {
    let limits = [
        ("fuel = 10_000_000_001", "8 10_000_000_001 → `handler.notify.limits.fuel` is above its ceiling"),
        ("fuel = 0", "8 0 → `handler.notify.limits.fuel` is out of range"),
        ("fuel = 'of'", "8 'of' → `handler.notify.limits.fuel` is not a number"),
        ("memory = '257MiB'", "10 '257MiB' → `handler.notify.limits.memory` is above its ceiling"),
        ("memory = '0B'", "10 '0B' → `handler.notify.limits.memory` is out of range"),
        ("tables = 1_000_001", "10 1_000_001 → `handler.notify.limits.tables` is above its ceiling"),
        ("handles = 4294967297", "11 4294967297 → `handler.notify.limits.handles` is above its ceiling"),
        ("deadline = '301s'", "12 '301s' → `handler.notify.limits.deadline` is above its ceiling"),
        ("deadline = '0s'", "12 '0s' → `handler.notify.limits.deadline` is out of range"),
        ("output = '5MiB'", "10 '5MiB' → `handler.notify.limits.output` is above its ceiling"),
        ("requests = 1001", "12 1001 → `handler.notify.limits.requests` is above its ceiling"),
        ("publishes = 10001", "13 10001 → `handler.notify.limits.publishes` is above its ceiling"),
        ("publishes = 0", "13 0 → `handler.notify.limits.publishes` is out of range"),
        ("published = '65MiB'", "13 '65MiB' → `handler.notify.limits.published` is above its ceiling"),
        ("published = 5", "13 5 → `handler.notify.limits.published` is not a size"),
    ];
    for (line, expected) in limits {
        check_line("[handler.notify.limits]", line, expected);
    }
    let retry = [
        ("attempts = 0", "12 0 → `handler.notify.retry.attempts` is out of range"),
        ("backoff = '5m..1s'", "11 '5m..1s' → `handler.notify.retry.backoff` is not a backoff"),
        ("backoff = '5m'", "11 '5m' → `handler.notify.retry.backoff` is not a backoff"),
        ("outage = '3000d'", "10 '3000d' → `handler.notify.retry.outage` is out of range"),
    ];
    for (line, expected) in retry {
        check_line("[handler.notify.retry]", line, expected);
    }
    let config = [
        ("a = 5", "5 5 → `handler.notify.config.a` is not a text or a file"),
        ("a = {}", "1 nothing → `handler.notify.config.a.file` is missing"),
        ("a = { file = '' }", "14 '' → `handler.notify.config.a.file` is not the path of a file"),
        ("a = '${secret:x}'", "6 ${secret:x} → `handler.notify.config.a`: `${secret:x}`: not in this version yet"),
    ];
    for (line, expected) in config {
        check_line("[handler.notify.config]", line, expected);
    }
    let both = format!("{BASE}concurrency = 257");
    check(&both, &["7:15 257 → `handler.notify.concurrency` is above its ceiling"]);
}

#[test]
fn values_of_the_email_grant() {
    let right = [("relay", "'file:./outbox'"), ("from", "'a@example.com'"), ("to", "['*']"), ("rate", "'1/s'")];
    let wrong = [
        ("relay", "'smtp:h'", "9 'smtp:h' → `handler.notify.grants.email.relay` is not a mail relay"),
        ("relay", "'smtp://u:pw@h:x'", "9 'smtp://u:**@h:x' → `handler.notify.grants.email.relay` is not a mail relay"),
        ("from", "'QA <noreply>'", "8 'QA <noreply>' → `handler.notify.grants.email.from` is not a sender"),
        (
            "from",
            "'a@example.com, b@example.com'",
            "8 'a@example.com, b@example.com' → `handler.notify.grants.email.from` is not a sender",
        ),
        ("to", "[]", "6 [] → `handler.notify.grants.email.to` is an empty list"),
        ("to", "'*'", "6 '*' → `handler.notify.grants.email.to` is not a list of recipients"),
        ("to", "['*', '@x.com']", "12 '@x.com' → `handler.notify.grants.email.to` is not an address or a pattern"),
        ("to", "['a*@x.com']", "7 'a*@x.com' → `handler.notify.grants.email.to` is not an address or a pattern"),
        ("to", "['*@*.x.com']", "7 '*@*.x.com' → `handler.notify.grants.email.to` is not an address or a pattern"),
        ("to", "['A <a@x.com>']", "7 'A <a@x.com>' → `handler.notify.grants.email.to` is not an address or a pattern"),
        ("rate", "'0/s'", "8 '0/s' → `handler.notify.grants.email.rate` is not a rate"),
        ("rate", "10", "8 10 → `handler.notify.grants.email.rate` is not a rate"),
    ];
    for (key, value, expected) in wrong {
        let mut toml = format!("{BASE}[handler.notify.grants.email]\n{key} = {value}\n");
        for (name, value) in right.iter().filter(|(name, _)| *name != key) {
            toml.push_str(&format!("{name} = {value}\n"));
        }
        check(&toml, &[&format!("8:{expected}")]);
    }
    check(
        &format!("{BASE}[handler.notify.grants.email]"),
        &[
            "7:24 nothing → `handler.notify.grants.email.relay` is missing",
            "7:24 nothing → `handler.notify.grants.email.from` is missing",
            "7:24 nothing → `handler.notify.grants.email.to` is missing",
        ],
    );
}

#[test]
fn values_of_the_http_grant() {
    let table = [
        ("http = []", "8 [] → `handler.notify.grants.http` is an empty list"),
        ("http = 'https://h/*'", "8 'https://h/*' → `handler.notify.grants.http` is not a list of what may be asked"),
        ("http = ['https://h/*']", "9 'https://h/*' → `handler.notify.grants.http` is not a table"),
        ("http = [{ methods = ['GET'] }]", "1 nothing → `handler.notify.grants.http.url` is missing"),
        ("http = [{ url = 'https://h/*' }]", "1 nothing → `handler.notify.grants.http.methods` is missing"),
        (
            "http = [{ url = 'h/*', methods = ['GET'] }]",
            "17 'h/*' → `handler.notify.grants.http.url` is not an address that may be asked",
        ),
        ("http = [{ url = 'https://h/*', methods = [] }]", "42 [] → `handler.notify.grants.http.methods` is an empty list"),
        (
            "http = [{ url = 'https://h/*', methods = ['get'] }]",
            "43 'get' → `handler.notify.grants.http.methods` is not a method",
        ),
        (
            "http = [{ url = 'https://h/*', method = 'GET', methods = ['GET'] }]",
            "32 method → `handler.notify.grants.http.method` is not a known key",
        ),
    ];
    for (line, expected) in table {
        check_line("[handler.notify.grants]", line, expected);
    }
}

#[test]
fn values_of_the_publish_grant() {
    let table = [
        ("publish = []", "11 [] → `handler.notify.grants.publish` is an empty list"),
        ("publish = 'events'", "11 'events' → `handler.notify.grants.publish` is not a list of queues"),
        ("publish = [5]", "12 5 → `handler.notify.grants.publish` is not a list of queues"),
        ("publish = ['event']", "12 'event' → `handler.notify.grants.publish` names a queue that is not defined"),
        ("publish = ['events', 'events']", "22 'events' → `handler.notify.grants.publish` names a queue twice"),
        ("publish = ['self', 'self']", "20 'self' → `handler.notify.grants.publish` names a queue twice"),
    ];
    for (line, expected) in table {
        check_line("[handler.notify.grants]", line, expected);
    }
    check(
        &format!("[queue.self]\nurl = 'memory:'{BASE}[handler.notify.grants]\npublish = ['self']"),
        &["9:12 'self' → `handler.notify.grants.publish` names a queue and the handler itself by one name"],
    );
}

/// The nearest name and all that are known are told.
#[test]
fn values_of_the_keyvalue_grant() {
    let table = [
        ("[]", "12 [] → `handler.notify.grants.keyvalue` is an empty list"),
        ("'digest'", "12 'digest' → `handler.notify.grants.keyvalue` is not a list of buckets"),
        ("['digest']", "13 'digest' → `handler.notify.grants.keyvalue` is not a table"),
        ("[{ }]", "13 nothing → `handler.notify.grants.keyvalue.bucket` is missing"),
        ("[{ bucket = 'A' }]", "24 'A' → `handler.notify.grants.keyvalue.bucket` is not the name of a bucket"),
        ("[{ bucket = 'a', uri = 'x' }]", "29 uri → `handler.notify.grants.keyvalue.uri` is not a known key"),
        ("[{ bucket = 'a' }, { bucket = 'a' }]", "31 { bucket = 'a' } → `handler.notify.grants.keyvalue` names bucket `a` twice"),
        ("[{ bucket = 'a', max-size = '1KiB' }]", "40 '1KiB' → `handler.notify.grants.keyvalue.max-size` is out of range"),
        ("[{ bucket = 'a', max-size = '1TiB' }]", "40 '1TiB' → `handler.notify.grants.keyvalue.max-size` is out of range"),
        (
            "[{ bucket = 'a', url = 'disk:' }]",
            "35 'disk:' → `handler.notify.grants.keyvalue.url` is not the URL of a server for buckets",
        ),
        ("[{ bucket = 'a', url = 'x' }]", "35 'x' → `handler.notify.grants.keyvalue.url` is not the URL of a server for buckets"),
        (
            "[{ bucket = 'a', url = 'redis://u:pw@h/x' }]",
            "35 'redis://u:**@h/x' → `handler.notify.grants.keyvalue.url` is not the URL of a server for buckets",
        ),
    ];
    for (value, expected) in table {
        check_line("[handler.notify.grants]", &format!("keyvalue = {value}"), expected);
    }
}

#[test]
fn a_queue_to_publish_to_is_named_with_those_that_there_are() {
    for (name, meant) in [("evnts", "events"), ("slef", "self")] {
        let toml = format!("{BASE}[handler.notify.grants]\npublish = ['{name}']");
        let told = super::read_with(&toml, &[]).unwrap_err().to_string();
        assert!(told.contains("(known: `events`, `self`)") && told.contains(&format!("did you mean `{meant}`?")), "{told}");
    }
}

#[test]
fn text_that_is_no_toml() {
    check("[server\nlisten = 5", &["1:8  → this is no TOML: unclosed table"]);
}

#[test]
fn concurrency_is_shared_by_the_queues_of_a_handler() {
    let more = |count: u32, line: &str| {
        let names: Vec<String> = (1..=count).map(|at| format!("q{at}")).collect();
        let queues: String = names.iter().map(|name| format!("queue.{name}.url = 'memory:'\n")).collect();
        format!("{queues}[handler.it]\ncomponent = 'c'\nqueue = {names:?}\n{line}")
    };
    let expected = |place: &str| format!("{place} → `handler.it.concurrency` is less than the queues that the handler reads");
    check(&more(2, "concurrency = 1"), &[&expected("6:15 1")]);
    check(&more(3, "concurrency = 2"), &[&expected("7:15 2")]);
    check(&more(3, "concurrency = 3"), &[]);
    // Not written: four per core, but always enough.
    for (queues, default) in [(2, 8), (8, 8), (9, 9)] {
        assert_eq!(good(&more(queues, "")).handlers["it"].concurrency, default, "{queues} queues on two cores");
    }
}
