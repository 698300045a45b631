//! `grants.email.relay`: where mail goes (surface.md §1). Nothing is connected to here, and no error repeats a password.

use std::path::Path;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{Relay, RelayTls, Secret};

const SMTP_PORT: u16 = 587;
const SMTPS_PORT: u16 = 465;

/// Reads `smtp://…`, `smtps://…`, `file:DIR`; a relative folder is taken from `base`.
pub(super) fn parse(text: &str, base: &Path) -> Result<Relay, String> {
    match text.split_once(':') {
        Some(("file", folder)) => file(folder, base),
        Some(("smtp", rest)) if rest.starts_with("//") => smtp(text, false),
        Some(("smtps", rest)) if rest.starts_with("//") => smtp(text, true),
        Some((scheme @ ("smtp" | "smtps"), _)) => Err(format!("`{scheme}:` is followed by `//` and a host")),
        _ => Err("the schemes are `smtp://`, `smtps://` and `file:`".to_owned()),
    }
}

fn file(folder: &str, base: &Path) -> Result<Relay, String> {
    let folder = match folder.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err("`file:` takes a folder without `//`, such as `file:./outbox`".to_owned()),
        None => folder,
    };
    if folder.is_empty() || folder.contains('\0') {
        return Err("`file:` needs a folder, such as `file:./outbox`".to_owned());
    }
    Ok(Relay::File(base.join(folder.strip_prefix("./").filter(|rest| !rest.starts_with('/')).unwrap_or(folder))))
}

fn smtp(text: &str, implicit: bool) -> Result<Relay, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the host is missing")?;
    if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
        return Err("nothing but parameters follows the host and port".to_owned());
    }
    let tls = match (parameters(&url)?, implicit) {
        (true, true) => return Err("`tls=none` is for `smtp://` only: `smtps://` is TLS".to_owned()),
        (true, false) => RelayTls::None,
        (false, true) => RelayTls::Implicit,
        (false, false) => RelayTls::StartTls,
    };
    let port = match url.port() {
        Some(0) => return Err("port 0 is no port to connect to".to_owned()),
        Some(port) => port,
        None if implicit => SMTPS_PORT,
        None => SMTP_PORT,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Relay::Smtp { host, port, tls, credentials: credentials(&url)? })
}

/// Whether `tls=none` is there; nothing else may be.
fn parameters(url: &Url) -> Result<bool, String> {
    let mut none = false;
    for (name, value) in url.query_pairs() {
        match (name.as_ref(), value.as_ref()) {
            ("tls", "none") => none = true,
            ("tls", _) => return Err("`tls` can be `none` only; without it the connection is secured".to_owned()),
            (name, _) => return Err(format!("parameter `{}` is not known (known: `tls`)", name.escape_debug())),
        }
    }
    Ok(none)
}

fn credentials(url: &Url) -> Result<Option<(String, Secret)>, String> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "user and password have to be UTF-8".to_owned())?;
        if decoded.contains(['\r', '\n', '\0']) {
            Err("user and password are single lines".to_owned())
        } else {
            Ok(decoded.into_owned())
        }
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) => Err("there is a password without a user".to_owned()),
        (_, None | Some("")) => Err("there is a user without a password".to_owned()),
        (user, Some(password)) => Ok(Some((decoded(user)?, Secret(decoded(password)?)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<Relay, String> {
        parse(text, Path::new("/etc/weir"))
    }

    fn relay(host: &str, port: u16, tls: RelayTls, credentials: Option<(&str, &str)>) -> Relay {
        let credentials = credentials.map(|(user, password)| (user.to_owned(), Secret(password.to_owned())));
        Relay::Smtp { host: host.to_owned(), port, tls, credentials }
    }

    #[test]
    fn relays_are_read() {
        let table = [
            ("file:./outbox", Relay::File("/etc/weir/outbox".into())),
            ("file:outbox", Relay::File("/etc/weir/outbox".into())),
            ("file:/var/outbox", Relay::File("/var/outbox".into())),
            ("file:///var/outbox", Relay::File("/var/outbox".into())),
            ("smtp://h", relay("h", 587, RelayTls::StartTls, None)),
            ("smtp://u:p%40%3A@h:25", relay("h", 25, RelayTls::StartTls, Some(("u", "p@:")))),
            ("smtp://u%40x:p@h", relay("h", 587, RelayTls::StartTls, Some(("u@x", "p")))),
            ("smtps://h", relay("h", 465, RelayTls::Implicit, None)),
            ("smtp://127.0.0.1:1025?tls=none", relay("127.0.0.1", 1025, RelayTls::None, None)),
            ("smtp://[::1]:1025/?tls=none", relay("::1", 1025, RelayTls::None, None)),
        ];
        for (text, expected) in table {
            assert_eq!(run(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn others_are_refused_without_telling_a_password() {
        let wrong = [
            "",
            "outbox",
            "file:",
            "file://outbox",
            "smtp:h",
            "smtp://",
            "smtp://u:secret@",
            "smtp://u:secret@h:99999",
            "smtp://u:secret@h:0",
            "smtp://u:sec/secret@h",
            "smtp://u@h",
            "smtp://:secret@h",
            "smtp://h/secret",
            "smtp://h#secret",
            "smtp://h?tls=secret",
            "smtp://h?auth=secret",
            "smtps://h?tls=none",
            "http://u:secret@h",
            "smtp://u:secret%0A@h",
        ];
        for text in wrong {
            let error = run(text).unwrap_err();
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }
}
