//! `[server]`. It judges values; it opens nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::diagnostic::Problem;
use super::reader::Reader;
use super::section::Section;
use super::values::Form;
use super::{Secret, Server};
use crate::store::StoreUrl;

const ADDRESS: Form = Form::new("an address with a port", "such as `127.0.0.1:8077` or `[::1]:8077`; port 0 is any free one");
const FOLDER: Form = Form::new("a folder", "such as `.weir`");
const STORE: Form = Form::new("a store of this version", "such as `disk:`, the embedded one, or `redis://127.0.0.1:6379/0`");
const LABEL: Form = Form::new("a name of this process or group", "of at most 64 letters, digits, `.`, `_` and `-`");
const TOKEN: Form = Form::new("a token", "of visible ASCII characters without spaces, as it stands in a header");
const HOST: Form = Form::new("a host name", "such as `weir.example.com`, without scheme and port");
const HOSTS: Form = Form::new("a list of host names", "such as `[\"weir.example.com\"]`");

/// Consumer names and client ids of brokers are built from it; the shortest bound among them is far above this.
const LABEL_MAX: usize = 64;
/// An event is in memory a few times while it runs, once per instance.
const MAX_EVENT_MAX: u64 = 64 << 20;
/// Below it the attributes of an ordinary event do not fit.
const MAX_EVENT_MIN: u64 = 1 << 10;
/// The pool reserves address space for each: more than this does not fit a process (sandbox.md §4).
const INSTANCES_MAX: u32 = 30_000;
/// Each is mapped code: the kernel bounds mappings near this (`vm.max_map_count` is 65,530).
const LOADED_MAX: u32 = 60_000;
/// Whoever stops a process waits no longer.
const GRACE_MAX: Duration = Duration::from_secs(3_600);
/// A retry within this time would not know the mail again.
const MAIL_KEPT_MIN: Duration = Duration::from_secs(60);
/// The embedded store grows with what it keeps.
const MAIL_KEPT_MAX: Duration = Duration::from_secs(365 * 24 * 3_600);

/// The token is taken from here where weir.toml has none (surface.md §1).
const TOKEN_VARIABLE: &str = "WEIR_TOKEN";

pub(super) fn read(section: &mut Section<'_, '_>) -> Server {
    section.later(&["tls"]);
    let store = store(section);
    let listen_field = section.take("listen");
    let listen = match &listen_field {
        Some(field) => section.reader.parse(field, &ADDRESS, address),
        None => Some(SocketAddr::from(([127, 0, 0, 1], 8077))),
    };
    let data = folder(section);
    let token = match section.take("token") {
        Some(field) => section.reader.parse(&field, &TOKEN, token),
        None => token_of_environment(section.reader),
    };
    // A token that was not readable is told already; a public address without one is told here.
    if let (Some(listen), Some(None), Some(field)) = (listen, &token, &listen_field)
        && !listen.ip().to_canonical().is_loopback()
    {
        let message = format!("`{}` can be reached from other machines and there is no token", field.key);
        let note = "set `token = \"${WEIR_TOKEN}\"` in `[server]` and the variable in the environment".to_owned();
        section.reader.refuse(field, message, "a loopback address, or a `token`".to_owned(), Some(note));
    }
    Server {
        listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
        data,
        store,
        name: section.parsed("name", &LABEL, |text| if text.is_empty() { Ok(None) } else { label(text).map(Some) }).flatten(),
        group: section.parsed("group", &LABEL, label).unwrap_or_else(|| "weir".to_owned()),
        grace: section.duration("grace", Duration::ZERO..=GRACE_MAX).unwrap_or(Duration::from_secs(25)),
        token: token.flatten(),
        publish_token: section.parsed("publish-token", &TOKEN, self::token).flatten(),
        hosts: hosts(section),
        max_event: section.size("max-event", MAX_EVENT_MIN..=MAX_EVENT_MAX).unwrap_or(1 << 20),
        instances: section.number("instances", 1..=INSTANCES_MAX).unwrap_or(1_000),
        loaded: section.number("loaded", 1..=LOADED_MAX).unwrap_or(2_000),
        mail_kept: section.duration("mail-kept", MAIL_KEPT_MIN..=MAIL_KEPT_MAX).unwrap_or(Duration::from_secs(7 * 24 * 3_600)),
    }
}

fn store(section: &mut Section<'_, '_>) -> StoreUrl {
    let Some(field) = section.take("store") else { return StoreUrl::Disk };
    let base = section.reader.base(&field);
    section.reader.parse(&field, &STORE, |text| StoreUrl::parse(text, &base)).unwrap_or_default()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("did you mean `127.0.0.1:{port}`?"),
        Some(("" | "*", port)) => format!("`0.0.0.0:{port}` is every address of this machine"),
        None if text.parse::<IpAddr>().is_ok() => format!("the port is missing: `{text}:8077`"),
        _ => String::new(),
    })
}

fn folder(section: &mut Section<'_, '_>) -> std::path::PathBuf {
    let written = section.take("data").and_then(|field| {
        let base = section.reader.base(&field);
        section.reader.parse(&field, &FOLDER, |text| path(text).map(|path| base.join(path)))
    });
    written.unwrap_or_else(|| section.reader.sources.first().map(|source| source.base.join(".weir")).unwrap_or_default())
}

/// A path that can name a file or folder.
pub(super) fn path(text: &str) -> Result<&str, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.contains('\0') {
        return Err("it holds a NUL character".to_owned());
    }
    if text.contains("://") {
        return Err("it is a URL, not a path".to_owned());
    }
    Ok(text.strip_prefix("./").filter(|rest| !rest.is_empty() && !rest.starts_with('/')).unwrap_or(text))
}

fn label(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= LABEL_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits { Ok(text.to_owned()) } else { Err(String::new()) }
}

/// Empty is none. The hint repeats nothing of it.
fn token(text: &str) -> Result<Option<Secret>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.bytes().all(|b| b.is_ascii_graphic()) { Ok(Some(Secret(text.to_owned()))) } else { Err(String::new()) }
}

/// Where weir.toml has no `token`, as if `${WEIR_TOKEN:-}` stood there.
fn token_of_environment(reader: &mut Reader<'_>) -> Option<Option<Secret>> {
    let Some(value) = (reader.surroundings.env)(TOKEN_VARIABLE) else { return Some(None) };
    let token = value.to_str().and_then(|text| token(text).ok());
    if token.is_none() {
        let message = format!("environment variable `{TOKEN_VARIABLE}` is not {}", TOKEN.noun);
        let mut problem = Problem::of_file("environment", message, "a value that is not shown", &TOKEN.expected());
        problem.key = "server.token".to_owned();
        reader.problems.push(problem);
    }
    token
}

fn hosts(section: &mut Section<'_, '_>) -> Vec<String> {
    let Some(field) = section.take("hosts") else { return Vec::new() };
    let items = section.reader.list(&field, &HOSTS).unwrap_or_default();
    items.iter().filter_map(|item| section.reader.parse(item, &HOST, host)).collect()
}

fn host(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if fits { Ok(text.to_ascii_lowercase()) } else { Err(String::new()) }
}
