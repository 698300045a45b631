//! Where a request goes, and whether a grant covers it. Pure: no name is looked up here.

use std::fmt;
use std::net::IpAddr;

use super::path;

/// Methods that a grant can name. CONNECT would make the server a way to anywhere, TRACE shows headers.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A host in its one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name in lower case, beyond ASCII in punycode, without a dot at its end.
    Name(String),
    /// An address, however it was written.
    Address(IpAddr),
}

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `https` rather than `http`.
    pub tls: bool,
    /// Where.
    pub host: Host,
    /// The port, also where it was not written.
    pub port: u16,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port.
    pub origin: Origin,
    /// The path in its one form.
    pub path: String,
    /// What stands after `?`, as it came.
    pub query: Option<String>,
}

/// The `url` of a grant: one path, or with `/*` at its end all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    origin: Origin,
    path: String,
    below: bool,
}

/// One of `grants.http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// What may be asked.
    pub url: Pattern,
    /// How: names of [`METHODS`].
    pub methods: Vec<String>,
}

impl HttpGrant {
    /// Whether a request may be made.
    #[must_use]
    pub fn covers(&self, method: &str, target: &Target) -> bool {
        self.url.covers(target) && self.methods.iter().any(|granted| granted == method)
    }
}

impl Origin {
    /// As in the header `Host`: the port only where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> String {
        let own = if self.tls { 443 } else { 80 };
        if self.port == own { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    fn parse(scheme: &str, authority: &str) -> Result<Self, String> {
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("the scheme is neither `https` nor `http`".to_owned()),
        };
        if authority.contains('@') {
            return Err("a user or password does not stand in an address (a header takes it)".to_owned());
        }
        // An address of version 6 stands in brackets, and what follows them is the port.
        let colon = authority.rfind(':').filter(|at| !authority.get(*at..).unwrap_or_default().contains(']'));
        let (host, port) = colon
            .map_or((authority, ""), |at| (authority.get(..at).unwrap_or_default(), authority.get(at + 1..).unwrap_or_default()));
        let port = match port {
            "" if tls => 443,
            "" => 80,
            digits => match digits.parse() {
                Ok(port @ 1..) if digits.bytes().all(|byte| byte.is_ascii_digit()) => port,
                _ => return Err("the port is no number from 1 to 65535".to_owned()),
            },
        };
        Ok(Self { tls, host: Host::parse(host)?, port })
    }
}

impl Host {
    /// Reads a host as browsers do: `LOCALHOST.` is `localhost`, `0x7f.1` is 127.0.0.1.
    fn parse(text: &str) -> Result<Self, String> {
        let unknown = || "the host is neither a name nor an address".to_owned();
        match url::Host::parse(text.strip_suffix('.').unwrap_or(text)).map_err(|_| unknown())? {
            url::Host::Domain(name) if name.is_empty() || name.ends_with('.') => Err(unknown()),
            url::Host::Domain(name) => Ok(Self::Name(name)),
            url::Host::Ipv4(address) => Ok(Self::Address(address.into())),
            url::Host::Ipv6(address) => Ok(Self::Address(address.into())),
        }
    }
}

impl Target {
    /// Reads where a request goes from the parts that it names.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn parse(scheme: &str, authority: &str, path_and_query: &str) -> Result<Self, String> {
        let origin = Origin::parse(scheme, authority)?;
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path_and_query, None),
        };
        let path = path::normal(path).map_err(|why| format!("its path {why}"))?;
        Ok(Self { origin, path, query })
    }

    /// Path and query, as they stand in a request.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        self.query.as_ref().map_or_else(|| self.path.clone(), |query| format!("{}?{query}", self.path))
    }
}

impl Pattern {
    /// Reads the `url` of a grant.
    ///
    /// # Errors
    /// A hint for the reader of weir.toml; empty where the expected form says it all.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(String::new)?;
        if rest.contains(['?', '#']) {
            return Err("a grant is for a path: whatever stands after `?` is granted with it".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('*') {
            return Err("a host is written in full; `*` stands at the end of the path alone".to_owned());
        }
        let origin = Origin::parse(scheme, authority)?;
        if path.is_empty() {
            return Err(format!("the path is missing: `{text}/*` is all of it"));
        }
        let (path, below) = path.strip_suffix("/*").map_or((path, false), |_| (path.trim_end_matches('*'), true));
        if path.contains('*') {
            return Err("`*` stands at the end, after a `/`".to_owned());
        }
        let path = path::normal(path).map_err(|why| format!("its path {why}"))?;
        Ok(Self { origin, path, below })
    }

    /// Whether it covers where a request goes.
    #[must_use]
    pub fn covers(&self, target: &Target) -> bool {
        let path = if self.below { target.path.starts_with(&self.path) } else { target.path == self.path };
        self.origin == target.origin && path
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{}{}", self.origin, self.path, if self.below { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, url: &str) -> bool {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = Target::parse(scheme, authority, path);
        target.is_ok_and(|target| Pattern::parse(pattern).unwrap().covers(&target))
    }

    #[test]
    fn what_a_grant_covers() {
        const V1: &str = "https://api.example.com/v1/*";
        for (pattern, url) in [
            (V1, "https://api.example.com/v1/"),
            (V1, "https://api.example.com/v1/orders?x=../.."),
            (V1, "HTTPS://API.Example.COM.:443/v1/orders"),
            (V1, "https://api.example.com:/v1/orders"),
            (V1, "https://api.example.com/v2/../v1/orders"),
            (V1, "https://api.example.com/%76%31/orders"),
            (V1, "https://api.example.com/v1/a%2Fb"),
            ("https://bücher.example/*", "https://xn--bcher-kva.example/x"),
            ("https://xn--bcher-kva.example/*", "https://BÜCHER.example/x"),
            ("http://h/*", "http://h"),
            ("http://h/", "http://h"),
            ("http://h:8080/x", "http://h:8080/x?y"),
            ("http://127.0.0.1:9/*", "http://127.0.0.1:9/"),
            ("http://127.0.0.1/*", "http://0x7f.1/"),
            ("http://[::1]/*", "http://[0:0::1]:80/"),
        ] {
            assert!(covers(pattern, url), "{pattern} {url}");
        }
        for (pattern, url) in [
            (V1, "http://api.example.com/v1/x"),
            (V1, "https://api.example.com:8443/v1/x"),
            (V1, "https://api.example.com/v1"),
            (V1, "https://api.example.com/v10/x"),
            (V1, "https://api.example.com/V1/x"),
            (V1, "https://api.example.com/v1/../v2/x"),
            (V1, "https://api.example.com/v1/%2e%2e/v2/x"),
            (V1, "https://api.example.com/v1/..%2fv2/x"),
            (V1, "https://api.example.com//v1/x"),
            (V1, "https://api.example.com.evil.example/v1/x"),
            (V1, "https://evil.example/v1/x"),
            (V1, "https://api.example.com@evil.example/v1/x"),
            (V1, "https://u:p@api.example.com/v1/x"),
            (V1, "https://api.example.com:0/v1/x"),
            (V1, "https://api.example.com:443x/v1/x"),
            (V1, "https://api.example.com:+443/v1/x"),
            (V1, "ftp://api.example.com/v1/x"),
            ("http://h/x", "http://h/x/"),
            ("http://h/x", "http://h/x/y"),
            ("http://127.0.0.1/*", "http://[::ffff:127.0.0.1]/"),
            ("http://127.0.0.1/*", "http://localhost/"),
            ("http://localhost/*", "http://127.0.0.1/"),
        ] {
            assert!(!covers(pattern, url), "{pattern} {url}");
        }
    }

    #[test]
    fn methods_are_granted_one_by_one() {
        let grant = HttpGrant { url: Pattern::parse("https://h/*").unwrap(), methods: vec!["POST".to_owned()] };
        let target = Target::parse("https", "h", "/x").unwrap();
        assert!(grant.covers("POST", &target));
        assert!(!grant.covers("GET", &target) && !grant.covers("post", &target));
    }

    #[test]
    fn patterns_that_are_none() {
        for (text, hint) in [
            ("api.example.com/*", ""),
            ("ftp://h/*", "neither `https` nor `http`"),
            ("https://h", "`https://h/*` is all of it"),
            ("https://*.example.com/*", "written in full"),
            ("https://h/v1*", "after a `/`"),
            ("https://h/*/x", "after a `/`"),
            ("https://h/v1/**", "after a `/`"),
            ("https://h/x?y=1", "granted with it"),
            ("https://u:p@h/*", "user or password"),
            ("https:///x", "neither a name nor an address"),
            ("https://h:99999/*", "from 1 to 65535"),
            ("https://h/..;/*", "its path hides"),
        ] {
            let found = Pattern::parse(text).unwrap_err();
            assert!(found.contains(hint), "{text}: {found}");
        }
        assert_eq!(Pattern::parse("HTTPS://H:443/v1/*").unwrap().to_string(), "https://h/v1/*");
        assert_eq!(Pattern::parse("http://[::1]:8080/x").unwrap().to_string(), "http://[::1]:8080/x");
    }
}
