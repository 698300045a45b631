//! Who may ask: hosts, origins and bearer tokens, as pure checks on a request's headers.
//!
//! A server on loopback without a token is still within reach of every web page that its user opens: the checks of `Host` (against a
//! name that was rebound to an address) and `Origin` are what keeps those out, so they hold for every route.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};

use super::answer::Failure;
use crate::config::Secret;

/// Who a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone: health.
    Anyone,
    /// Whoever has one of the tokens.
    Publish,
    /// Whoever has `token`.
    Full,
}

/// What requests are held against. Tokens are kept as hashes.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    token: Option<blake3::Hash>,
    publish_token: Option<blake3::Hash>,
    hosts: Vec<String>,
}

impl Rules {
    /// The rules of `[server]`.
    #[must_use]
    pub fn new(token: Option<&Secret>, publish_token: Option<&Secret>, hosts: &[String]) -> Self {
        // An empty token is none: `token = "${WEIR_TOKEN:-}"`.
        let given = |token: Option<&Secret>| token.filter(|Secret(text)| !text.is_empty()).map(|Secret(text)| text.clone());
        let hash = |token| given(token).map(|text| blake3::hash(text.as_bytes()));
        Self { token: hash(token), publish_token: hash(publish_token), hosts: hosts.to_vec() }
    }

    /// Whether a request may reach a route for `access`.
    ///
    /// # Errors
    /// 400 and 421 for its host, 403 for its origin or a token that is for publishing only, 401 for a token that is missing or wrong.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap, access: Access) -> Result<(), Failure> {
        let host = self.host(uri, headers)?;
        origin(&host, headers)?;
        self.token(headers, access)
    }

    /// The host that a request names, when it is one of this server's.
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<Authority, Failure> {
        let bad = |text: &str| Failure::new(StatusCode::BAD_REQUEST, text.to_owned());
        let host = match one(headers, &header::HOST) {
            Ok(Some(host)) => host.parse().map_err(|_| bad("header `host` is no host"))?,
            Ok(None) => return Err(bad("header `host` is missing")),
            Err(()) => return Err(bad("header `host` is given more than once or is not ASCII")),
        };
        for authority in std::iter::once(&host).chain(uri.authority()) {
            if !self.is_own(authority) {
                let name: String = authority.host().chars().take(80).collect();
                let text = format!(
                    "host `{name}` is not this server's (add it to `hosts` in `[server]`, or use an address or `localhost`)"
                );
                return Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, text));
            }
        }
        Ok(host)
    }

    fn is_own(&self, authority: &Authority) -> bool {
        // `user@host` is no Host; a port that is no number is none.
        let port_is_sound = authority.port_u16().is_some() || authority.as_str() == authority.host();
        if authority.as_str().contains('@') || !port_is_sound {
            return false;
        }
        let host = authority.host();
        let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        address.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|own| host.eq_ignore_ascii_case(own))
    }

    fn token(&self, headers: &HeaderMap, access: Access) -> Result<(), Failure> {
        let (full, publish) = (self.token, self.publish_token);
        let open = match access {
            Access::Anyone => true,
            Access::Publish => full.is_none() && publish.is_none(),
            Access::Full => full.is_none(),
        };
        if open {
            return Ok(());
        }
        let unauthorized = |text: &str| Err(Failure::new(StatusCode::UNAUTHORIZED, text.to_owned()));
        let Ok(Some(value)) = one(headers, &header::AUTHORIZATION) else {
            return unauthorized("this needs a token, in the header `authorization: Bearer …`");
        };
        let given = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => blake3::hash(token.trim().as_bytes()),
            _ => return unauthorized("header `authorization` is not of the form `Bearer …`"),
        };
        // Comparing these hashes takes the same time whatever they are, and both are compared whatever the first one says.
        let (is_full, is_publish) = (full == Some(given), publish == Some(given));
        match access {
            _ if is_full => Ok(()),
            Access::Publish if is_publish => Ok(()),
            _ if is_publish => {
                let text = "this token allows `POST /events/…` only (use `token`)".to_owned();
                Err(Failure::new(StatusCode::FORBIDDEN, text))
            }
            _ => unauthorized("token is wrong"),
        }
    }
}

/// Refuses what another site's page sends. A proxy may have ended TLS before us, so the scheme is not compared.
fn origin(host: &Authority, headers: &HeaderMap) -> Result<(), Failure> {
    let forbidden = |text: &str| Err(Failure::new(StatusCode::FORBIDDEN, text.to_owned()));
    let sites = headers.get_all("sec-fetch-site");
    if sites.iter().any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site")) {
        return forbidden("request comes from another site");
    }
    let own = match one(headers, &header::ORIGIN) {
        Ok(None) => true,
        Ok(Some(origin)) => ["http://", "https://"]
            .iter()
            .any(|scheme| origin.strip_prefix(scheme).is_some_and(|rest| same(rest, host.as_str(), scheme))),
        Err(()) => false,
    };
    if own { Ok(()) } else { forbidden("header `origin` is not this server's") }
}

/// Whether two `host:port` are the same, the scheme's own port being none.
fn same(one: &str, other: &str, scheme: &str) -> bool {
    let default = if scheme == "https://" { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(default).unwrap_or(text).to_ascii_lowercase();
    bare(one) == bare(other)
}

/// A header's only value.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(());
    }
    value.to_str().map(Some).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(rules: &Rules, headers: &[(&str, &str)], access: Access) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = name.parse::<header::HeaderName>().unwrap();
            map.append(name, value.parse().unwrap());
        }
        rules.check(&Uri::from_static("/x"), &map, access).map_or_else(|failure| failure.status.as_u16(), |()| 200)
    }

    #[test]
    fn a_host_is_an_address_localhost_or_configured() {
        let rules = Rules::new(None, None, &["weir.example.com".to_owned()]);
        for (host, expected) in [
            ("127.0.0.1:8077", 200),
            ("10.1.2.3", 200),
            ("[::1]:8077", 200),
            ("[2001:db8::1]", 200),
            ("localhost", 200),
            ("LocalHost:80", 200),
            ("weir.example.com:8077", 200),
            ("WEIR.example.com", 200),
            ("evil.example.com", 421),
            ("weir.example.com.evil.com", 421),
            ("localhost.evil.com", 421),
            ("127.0.0.1.evil.com", 421),
            ("user@localhost", 421),
            ("127.1", 421),
            ("", 400),
            ("a b", 400),
            ("localhost:port", 421),
            ("localhost:", 421),
        ] {
            let found = status(&rules, &[("host", host)], Access::Anyone);
            assert_eq!(found, expected, "{host}");
        }
        assert_eq!(status(&rules, &[], Access::Anyone), 400);
        assert_eq!(status(&rules, &[("host", "localhost"), ("host", "localhost")], Access::Anyone), 400);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost".parse().unwrap());
        let absolute = Uri::from_static("http://evil.example.com/metrics");
        assert_eq!(rules.check(&absolute, &headers, Access::Anyone).unwrap_err().status.as_u16(), 421);
    }

    #[test]
    fn another_sites_requests_are_refused() {
        let rules = Rules::default();
        for (host, name, value, expected) in [
            ("localhost:8077", "origin", "http://localhost:8077", 200),
            ("localhost:8077", "origin", "http://LOCALHOST:8077", 200),
            ("localhost:80", "origin", "http://localhost", 200),
            ("localhost", "origin", "https://localhost", 200),
            ("localhost:8077", "origin", "http://localhost:8078", 403),
            ("localhost:8077", "origin", "http://127.0.0.1:8077", 403),
            ("localhost", "origin", "http://evil.example.com", 403),
            ("localhost", "origin", "null", 403),
            ("localhost", "origin", "", 403),
            ("localhost", "origin", "file://localhost", 403),
            ("localhost", "sec-fetch-site", "cross-site", 403),
            ("localhost", "sec-fetch-site", "same-origin", 200),
            ("localhost", "sec-fetch-site", "none", 200),
        ] {
            let found = status(&rules, &[("host", host), (name, value)], Access::Full);
            assert_eq!(found, expected, "{host} {name}: {value}");
        }
    }

    #[test]
    fn tokens_open_what_they_are_for() {
        let secret = |text: &str| Secret(text.to_owned());
        let (full, publish) = (secret("full"), secret("publish"));
        let both = Rules::new(Some(&full), Some(&publish), &[]);
        let publish_only = Rules::new(None, Some(&publish), &[]);
        let none = Rules::default();
        for (rules, authorization, expected) in [
            (&both, None, [200, 401, 401]),
            (&both, Some("Bearer full"), [200, 200, 200]),
            (&both, Some("bearer  full"), [200, 200, 200]),
            (&both, Some("Bearer publish"), [200, 200, 403]),
            (&both, Some("Bearer wrong"), [200, 401, 401]),
            (&both, Some("Bearer "), [200, 401, 401]),
            (&both, Some("Basic full"), [200, 401, 401]),
            (&both, Some("full"), [200, 401, 401]),
            (&publish_only, None, [200, 401, 200]),
            (&publish_only, Some("Bearer publish"), [200, 200, 200]),
            (&none, None, [200, 200, 200]),
            (&none, Some("Bearer x"), [200, 200, 200]),
        ] {
            let headers: Vec<_> =
                [("host", "localhost")].into_iter().chain(authorization.map(|a| ("authorization", a))).collect();
            let found = [Access::Anyone, Access::Publish, Access::Full].map(|access| status(rules, &headers, access));
            assert_eq!(found, expected, "{authorization:?} {rules:?}");
        }
    }
}
