//! Where the store is: `[server] store`. Nothing is opened here.

use std::path::Path;

/// Schemes that the design names and this version does not open.
const LATER: [&str; 2] = ["postgres", "postgresql"];

/// A parsed `[server] store`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StoreUrl {
    /// `disk:`: embedded, in `data`, for one process.
    #[default]
    Disk,
    /// `redis://…`: on a server, for several processes.
    #[cfg(feature = "redis")]
    Redis(Box<crate::redis::RedisUrl>),
}

impl StoreUrl {
    /// Reads a URL; relative files of certificates are taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong; never repeats a password.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        #[cfg(not(feature = "redis"))]
        let _ = base;
        match text.split_once(':') {
            Some(("disk", "")) => Ok(Self::Disk),
            Some(("disk", _)) => Err("`disk:` takes no folder here: it is in `[server] data`".to_owned()),
            #[cfg(feature = "redis")]
            Some(("redis" | "rediss" | "redis+unix", _)) => redis(text, base),
            #[cfg(not(feature = "redis"))]
            Some(("redis" | "rediss" | "redis+unix", _)) => Err("this Weir was built without Redis".to_owned()),
            Some((later, _)) if LATER.contains(&later) => Err(format!("`{later}:` stores are not in this version yet")),
            _ => Err(String::new()),
        }
    }

    /// Whether several processes may share it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        *self != Self::Disk
    }
}

#[cfg(feature = "redis")]
fn redis(text: &str, base: &Path) -> Result<StoreUrl, String> {
    let (mut url, rest) = crate::redis::RedisUrl::parse(text)?;
    if let Some((name, _)) = rest.first() {
        return Err(format!("parameter `{}` is not known (known: `ca`, `cert`, `key`)", name.escape_debug()));
    }
    url.authority = url.authority.map(|file| base.join(file));
    url.identity = url.identity.map(|(cert, key)| (base.join(cert), base.join(key)));
    Ok(StoreUrl::Redis(Box::new(url)))
}

/// Without credentials.
impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Disk => f.write_str("disk:"),
            #[cfg(feature = "redis")]
            Self::Redis(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_known_by_their_scheme() {
        let parse = |text: &str| StoreUrl::parse(text, Path::new("/etc/weir"));
        assert_eq!(parse("disk:"), Ok(StoreUrl::Disk));
        for (text, says) in [
            ("disk:./data", "`[server] data`"),
            ("postgres://h/d", "not in this version yet"),
            ("redis://h?stream=k", "parameter `stream` is not known"),
            ("redis://h/x", "database `x`"),
            ("http://h", ""),
            ("disk", ""),
        ] {
            assert!(parse(text).unwrap_err().contains(says), "{text}");
        }
        let StoreUrl::Redis(url) = parse("rediss://ann:pw@h/2?ca=ca.pem").unwrap() else { panic!("no Redis URL") };
        assert_eq!(url.authority.as_deref(), Some(Path::new("/etc/weir/ca.pem")));
        assert_eq!(StoreUrl::Redis(url).to_string(), "rediss://h:6379/2");
    }
}
