//! Outgoing HTTP: what a grant covers leaves, under every bound, and nothing else does; what fails outside is told from what the guest did.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weir_runtime::config::Secret;
use weir_runtime::event::Event;
use weir_runtime::outcome::Outcome;
use weir_runtime::outgoing::{Answered, Answers, Asked, Outgoing, address};
use weir_runtime::sandbox::redact::Redactor;
use weir_runtime::sandbox::{LoadError, Report};
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{Rig, Settings, check, check_slow, event};
use weir_tests::guests::*;
use weir_tests::web::WebServer;

weir_tests::foreach_http!(assert_test_exists);

/// What a guest that is granted all of a server asks of it.
fn settings(server: &WebServer, path: &str) -> Settings {
    let origin = format!("http://127.0.0.1:{}", server.port());
    Settings::default().http(&format!("{origin}/*"), &["GET", "POST"]).with("url", &format!("{origin}{path}"))
}

fn run(settings: &Settings) -> Report {
    let rig = Rig::new();
    rig.run(&rig.load(HTTP_ASK, settings).unwrap())
}

#[track_caller]
fn denied(report: &Report, why: &str) {
    let lines: Vec<_> = report.log.lines().filter(|line| line.starts_with("weir: denied: wasi:http ")).collect();
    assert!(lines.len() == 1 && lines[0].contains(why), "{why}: {}", report.log);
}

#[test]
fn http_ask() {
    let server = WebServer::plain();
    let report = run(&settings(&server, "/v1/../x/%7e?y=1").with("method", "POST").with("body", "hello"));
    assert_eq!(report.log, "status: 200, 2 bytes: ok\n");
    let asked = &server.asked()[0];
    assert_eq!((asked.line.as_str(), asked.body.as_slice()), ("POST /x/~?y=1", &b"hello"[..]));
    assert_eq!(asked.header("host"), format!("127.0.0.1:{}", server.port()));
    assert_eq!(asked.header("x-of-guest"), "yes");
    assert_eq!(asked.headers.iter().filter(|(name, _)| name == "host").count(), 1);
    // The same without the grant.
    let report = run(&Settings { http: Vec::new(), ..settings(&server, "/x") });
    assert!(report.log.contains("error: ErrorCode::HttpRequestDenied"), "{}", report.log);
    denied(&report, "grant `http` is missing, such as http = [{ url = \"https://127.0.0.1/*\", methods = [\"GET\"] }]");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_grant_is_for_a_path_and_its_methods() {
    let server = WebServer::plain();
    let origin = format!("http://127.0.0.1:{}", server.port());
    let ways =
        ["/v2", "/v1/../admin", "/v1/%2e%2e/admin", "/v1/..%2fadmin", "/v1/%252e%252e/admin", "/v1/..;/admin", "/V1/x", "//v1/x"];
    let mut urls: Vec<_> = ways.iter().map(|path| format!("{origin}{path}")).collect();
    urls.push(format!("http://127.0.0.1:{}@127.0.0.2/v1/x", server.port()));
    urls.push(format!("https://127.0.0.1:{}/v1/x", server.port()));
    let granted = Settings::default().http(&format!("{origin}/v1/*"), &["GET"]);
    let report = run(&granted.clone().with("url", &urls.join(" ")));
    assert_eq!(report.log.matches("HttpRequestDenied").count(), urls.len(), "{}", report.log);
    denied(&report, "no grant `http` covers it (in weir.toml under [handler.guest.grants], such as http = [{ url = \"");
    let report = run(&granted.clone().with("url", &format!("{origin}/v1/x")).with("method", "POST"));
    denied(&report, "methods = [\"POST\"]");
    assert_eq!(server.asked().len(), 0);
    assert_eq!(run(&granted.with("url", &format!("{origin}/v1/x"))).log, "status: 200, 2 bytes: ok\n");
}

#[test]
fn a_name_that_leads_here_is_refused_unless_it_is_this_machines_own() {
    let server = WebServer::plain();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let found: Vec<IpAddr> =
        (name.as_str(), 0).to_socket_addrs().map(|all| all.map(|one| one.ip()).collect()).unwrap_or_default();
    let origin = |host: &str| format!("http://{host}:{}", server.port());
    let asks = |host: &str| {
        Settings::default().http(&format!("{}/*", origin(host)), &["GET"]).with("url", &format!("{}/", origin(host)))
    };
    // The name of this machine leads to an address of its own; where it leads nowhere or to one of the world's, there is nothing to see.
    if found.iter().any(|address| address::blocked(*address).is_some()) {
        let report = run(&asks(&name).with("then", "retry"));
        assert!(report.log.contains("DestinationIpProhibited"), "{}", report.log);
        denied(&report, &format!("`{}` leads to ", name.to_lowercase()));
        assert_eq!(report.outcome.name(), "retry", "a denial is no outside failure: {report:?}");
    }
    assert_eq!(server.asked().len(), 0);
    assert_eq!(run(&asks("localhost")).log, "status: 200, 2 bytes: ok\n");
    assert_eq!(server.asked()[0].header("host"), format!("localhost:{}", server.port()));
}

#[test]
fn a_redirect_is_an_answer() {
    let (server, other) = (WebServer::plain(), WebServer::plain());
    let path = format!("/status/302?location=http://127.0.0.1:{}/private", other.port());
    assert_eq!(run(&settings(&server, &path)).log, "status: 302, 8 bytes: so it is\n");
    assert_eq!((server.asked().len(), other.asked().len()), (1, 0));
}

#[test]
fn what_fails_outside_is_host() {
    let server = WebServer::plain();
    let host = |path: &str, why: &str| {
        let report = run(&settings(&server, path).with("then", "retry"));
        let Outcome::Host { reason, after, .. } = &report.outcome else { panic!("{path}: {report:?}") };
        assert!(reason.starts_with("http: ") && reason.contains(why), "{path}: {reason}");
        assert_eq!(*after, Some(Duration::from_secs(90)));
        // What was done in spite of it is done, and what is wrong for good stays so.
        for then in ["done", "reject"] {
            assert_eq!(run(&settings(&server, path).with("then", then)).outcome.name(), then, "{path}");
        }
    };
    for status in [429, 502, 503, 504] {
        host(&format!("/status/{status}"), &format!("answered {status}"));
    }
    host("/break", "broke off");
    for status in [200, 302, 404, 408, 500] {
        let report = run(&settings(&server, &format!("/status/{status}")).with("then", "retry"));
        assert_eq!(report.outcome.name(), "retry", "{status}: {report:?}");
    }
    // Nobody listens there any more.
    let origin = format!("http://127.0.0.1:{}", WebServer::plain().port());
    let report =
        run(&Settings::default().http(&format!("{origin}/*"), &["GET"]).with("url", &format!("{origin}/")).with("then", "retry"));
    assert!(report.outcome.name() == "host" && report.outcome.reason().contains("no connection to"), "{report:?}");
    let nowhere = "http://nowhere.invalid/";
    let report = run(&Settings::default().http(nowhere, &["GET"]).with("url", nowhere).with("then", "retry"));
    assert!(report.outcome.name() == "host" && report.outcome.reason().contains("can't be looked up"), "{report:?}");
}

#[test]
fn a_slow_answer_ends_before_the_deadline() {
    let server = WebServer::plain();
    for path in ["/hang", "/drip"] {
        let mut settings = settings(&server, path).with("then", "retry");
        settings.limits.deadline = Duration::from_millis(1000);
        let report = run(&settings);
        assert!(report.outcome.name() == "host" && report.outcome.reason().contains("in time"), "{path}: {report:?}");
        assert!(
            report.elapsed >= Duration::from_millis(850) && report.elapsed < Duration::from_millis(1000),
            "{path}: {report:?}"
        );
    }
}

#[test]
fn http_careless() {
    let server = WebServer::plain();
    let mut settings = settings(&server, "/large/100000");
    settings.limits.response = 100_000;
    let _ = check_slow(HTTP_CARELESS, &settings, "done", None);
    settings.limits.response = 99_999;
    let _ = check_slow(HTTP_CARELESS, &settings, "output", Some(("response", 99_999)));
}

#[test]
fn http_many() {
    let server = WebServer::plain();
    let mut settings = settings(&server, "/");
    settings.limits.requests = 5;
    let _ = check_slow(HTTP_MANY, &settings, "done", None);
    settings.limits.requests = 4;
    let _ = check_slow(HTTP_MANY, &settings, "output", Some(("requests", 4)));
    // What never leaves is not counted.
    let _ = check(HTTP_MANY, &Settings { http: Vec::new(), ..settings }, "done", None);
}

#[test]
fn http_headers() {
    let rig = Rig::new();
    let log = rig.run(&rig.load(HTTP_HEADERS, &Settings::default()).unwrap()).log;
    assert_eq!(log.lines().filter(|line| line.ends_with("Err(\"HeaderError::Forbidden\")")).count(), 8, "{log}");
    assert!(log.contains("x-fine: Ok(())"), "{log}");
}

#[test]
fn http_upload() {
    let server = WebServer::plain();
    let rig = Rig::new();
    let upload = |mebibytes: &str| {
        let report = rig.run(&rig.load(HTTP_UPLOAD, &settings(&server, "/up").with("mebibytes", mebibytes)).unwrap());
        assert_eq!(report.outcome.name(), "retry", "nothing failed outside: {report:?}");
        report.log
    };
    assert_eq!(upload("16"), "status: 200\n");
    assert_eq!(server.asked()[0].body.len(), 16 << 20);
    let log = upload("17");
    assert!(log.contains("HttpRequestBodySize"), "{log}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn http_stops() {
    let server = WebServer::plain();
    let rig = Rig::new();
    let stop = |then: &str| {
        let mut settings = settings(&server, "/hang").with("then", then);
        settings.limits.deadline = Duration::from_secs(2);
        rig.run(&rig.load(HTTP_STOPS, &settings).unwrap())
    };
    // Half a body must not look like a whole one to the other side.
    assert_eq!(stop("trap").outcome.name(), "trap");
    let begun = Instant::now();
    while server.broken_off() == 0 && server.asked().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the request neither came nor broke off");
        std::thread::yield_now();
    }
    assert_eq!((server.broken_off(), server.asked().len()), (1, 0));
    // Nobody outside was late: the guest's own body never came.
    let report = stop("wait");
    assert_eq!(report.outcome.name(), "retry", "{report:?}");
    assert!(report.log.contains("was not finished in time"), "{}", report.log);
}

#[test]
fn http_self_test() {
    let server = WebServer::plain();
    let rig = Rig::new();
    let loaded = rig.load(HTTP_SELF_TEST, &settings(&server, "/")).unwrap();
    let Err(LoadError::SelfTest(text)) = rig.probe(&loaded) else { panic!("a self-test that fails") };
    assert!(text.contains("HttpRequestDenied"), "{text}");
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn tls_is_for_those_who_are_trusted() {
    let server = WebServer::tls();
    let ask = |host: &str, trusted: bool| {
        let mut rig = Rig::new();
        if trusted {
            rig.outgoing = rig.outgoing.with_root_certificates(&server.root_certificate());
        }
        let origin = format!("https://{host}:{}", server.port());
        let settings =
            Settings::default().http(&format!("{origin}/*"), &["GET"]).with("url", &format!("{origin}/x")).with("then", "retry");
        rig.run(&rig.load(HTTP_ASK, &settings).unwrap())
    };
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(ask(host, true).log, "status: 200, 2 bytes: ok\n");
    }
    // A name that its certificate does not have, and a certificate that nobody here knows.
    for report in [ask("other.localhost", true), ask("localhost", false)] {
        assert_eq!(report.outcome.name(), "host", "{report:?}");
    }
    assert!(ask("localhost", false).outcome.reason().contains("no TLS with `https://localhost:"));
    assert_eq!(server.asked().len(), 2);
}

/// Keeps what it is asked.
#[derive(Debug, Default)]
struct Canned(Mutex<Vec<Asked>>);

impl Answers for Canned {
    fn answer(&self, request: &Asked) -> Answered {
        self.0.lock().unwrap().push(request.clone());
        Answered { status: 503, headers: BTreeMap::new(), body: "canned".into() }
    }
}

#[test]
fn requests_can_be_answered_here() {
    let canned = Arc::new(Canned::default());
    let mut rig = Rig::new();
    let handle = rig.wait(rig.spawn(async { tokio::runtime::Handle::current() }));
    rig.outgoing = Outgoing::answered(handle.clone(), Arc::clone(&canned) as _);
    let asks =
        Settings::default().http("https://api.example.com/v1/*", &["POST"]).with("url", "https://API.example.com/v1/./x?y");
    let asks = asks.with("method", "POST").with("body", "hello").with("then", "retry");
    let report = rig.run(&rig.load(HTTP_ASK, &asks).unwrap());
    assert_eq!(report.log, "status: 503, 6 bytes: canned\n");
    assert_eq!(report.outcome.name(), "host");
    let asked = canned.0.lock().unwrap().clone();
    assert_eq!((asked[0].method.as_str(), asked[0].url.as_str()), ("POST", "https://api.example.com/v1/x?y"));
    assert_eq!(asked[0].body, "hello");
    // Or refused, as when an event is tried.
    rig.outgoing = Outgoing::refusing(handle, "no request leaves without --live");
    denied(&rig.run(&rig.load(HTTP_ASK, &asks).unwrap()), "no request leaves without --live");
}

#[test]
fn what_must_not_be_shown_is_not() {
    let rig = Rig::new();
    let show = |ending: &str, redactor: Redactor| {
        let mut loaded = rig.load(SERVER_LEAK, &Settings::default().with("secret", "hunter2-hunter2")).unwrap();
        let mut setup = Arc::into_inner(loaded.setup).unwrap();
        setup.redactor = redactor;
        loaded.setup = Arc::new(setup);
        let event = Event { data: Some(ending.to_owned().into()), ..event() };
        let report = rig.wait(rig.begin(&loaded, Arc::new(event)));
        format!("{} {}", report.outcome.reason(), report.log)
    };
    for ending in ["done", "reject", "long", "retry", "panic"] {
        assert!(show(ending, Redactor::default()).contains("hunter2"), "{ending}: the guest does show it");
        let shown = show(ending, Redactor::new([Secret("hunter2-hunter2".to_owned())]));
        assert!(!shown.contains("hunter") && shown.contains("***"), "{ending}: {shown}");
    }
}
