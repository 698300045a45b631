//! Addresses and who may be written to: RFC 5322 mailboxes parsed by lettre, then narrowed to what every relay reads the same way.
//!
//! Considered and left out: quoted local parts, comments, groups and non-ASCII local parts. Each is read differently by some relay, so
//! a check made here would not bind there; they are refused by name.

use std::fmt;

use lettre::Address;
use lettre::message::Mailbox;

use super::MailError;

/// Characters that relays read as routing in a local part: `user%other@here` and `other!user@here` are forwarded to `other` by a relay
/// that trusts us (Postfix: `allow_percent_hack`, `swap_bangpath`), and `=?…?=` is decoded by some.
const ROUTING: [&str; 3] = ["%", "!", "=?"];
/// Longest text of one address field: 320 for the address (RFC 3696), the rest for the name.
const FIELD_BYTES_MAX: usize = 1_024;
/// Longest display name in characters: a header line holds 998 bytes, and encoding takes up to four times as many.
pub(super) const NAME_CHARS_MAX: usize = 200;

/// Parses one address of a field; the domain comes back in lower-case ASCII.
pub(super) fn parse(field: &str, text: &str) -> Result<Mailbox, MailError> {
    let wrong = |why: &str| {
        let shown = super::shown(text);
        Err(MailError::Invalid(format!(
            "`{field}`: `{shown}` is not an address ({why}) [write `ann@example.com` or `Ann <ann@example.com>`]"
        )))
    };
    if text.len() > FIELD_BYTES_MAX {
        return wrong("longer than 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return wrong("it holds a control character");
    }
    let Ok(mailbox) = text.parse::<Mailbox>() else { return wrong("one address for each entry, no comments, no groups") };
    if mailbox.name.as_ref().is_some_and(|name| name.chars().count() > NAME_CHARS_MAX) {
        return wrong("its name is longer than 200 characters");
    }
    let user = mailbox.email.user();
    if !user.is_ascii() {
        return wrong("the part before `@` may only be ASCII");
    }
    if !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte)) {
        return wrong("a quoted part before `@` is not taken");
    }
    let Some(domain) = ascii_domain(mailbox.email.domain()) else { return wrong("its domain is not a host name") };
    match Address::new(user, &domain) {
        Ok(address) => Ok(Mailbox::new(mailbox.name, address)),
        Err(error) => wrong(&error.to_string()),
    }
}

/// The domain in lower-case ASCII (IDNA), as it stands in DNS.
fn ascii_domain(domain: &str) -> Option<String> {
    if domain.is_ascii() {
        return Some(domain.to_ascii_lowercase());
    }
    // `url` carries the IDNA tables; it also decodes `%41` and reads numbers as addresses, neither of which is a mail domain.
    match url::Host::parse(domain) {
        Ok(url::Host::Domain(ascii)) if !domain.contains('%') => Some(ascii),
        _ => None,
    }
}

/// One entry of `grants.email.to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `*`: everybody.
    Anyone,
    /// `*@example.com`: everybody at exactly this domain.
    Domain(String),
    /// `ops@example.com`: the local part as written (RFC 5321 tells case apart), the domain in any case.
    Address(Address),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected an address, `*@example.com` or `*`";
        if text == "*" {
            return Ok(Self::Anyone);
        }
        if let Some(domain) = text.strip_prefix("*@") {
            let whole =
                parse("to", &format!("x@{domain}")).map_err(|_| format!("`{text}` is no pattern of recipients ({expected})"))?;
            return Ok(Self::Domain(whole.email.domain().to_owned()));
        }
        match parse("to", text) {
            Ok(Mailbox { name: None, email }) if !text.contains('*') => Ok(Self::Address(email)),
            _ => Err(format!("`{text}` is no pattern of recipients ({expected})")),
        }
    }

    pub(super) fn matches(&self, address: &Address) -> bool {
        match self {
            Self::Anyone => true,
            Self::Domain(domain) => address.domain() == domain && !routed(address),
            Self::Address(granted) => granted == address,
        }
    }
}

/// Whether a relay could read another destination out of the local part. Such an address is only granted when it is spelt out.
pub(super) fn routed(address: &Address) -> bool {
    ROUTING.iter().any(|mark| address.user().contains(mark))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("`*`"),
            Self::Domain(domain) => write!(f, "`*@{domain}`"),
            Self::Address(address) => write!(f, "`{address}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&str], allowed: &[&str], denied: &[&str]) {
        let patterns: Vec<_> = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        let granted = |text: &str| {
            let address = parse("to", text).unwrap().email;
            patterns.iter().any(|pattern| pattern.matches(&address))
        };
        for text in allowed {
            assert!(granted(text), "`{text}` should be allowed by {patterns:?}");
        }
        for text in denied {
            assert!(!granted(text), "`{text}` should be denied by {patterns:?}");
        }
    }

    #[test]
    fn a_domain_pattern_is_exactly_that_domain() {
        check(
            &["*@example.com"],
            &[
                "a@example.com",
                "a@EXAMPLE.com",
                "Ann <a.b+c@Example.Com>",
                "\"Q, uoted\" <a@example.com>",
                "\"plain\"@example.com",
            ],
            &[
                "a@example.com.evil",
                "a@sub.example.com",
                "a@xexample.com",
                "a@example.co",
                "a@example.comm",
                "a@example",
                "a@1.2.3.4",
                "\"a@example.com\" <b@evil.test>",
                "a%evil.test@example.com",
                "evil.test!a@example.com",
                "=?utf-8?q?a=40evil.test?=@example.com",
            ],
        );
    }

    #[test]
    fn an_address_pattern_is_exactly_that_address() {
        check(&["ops@Example.com"], &["ops@example.com", "Ops <ops@EXAMPLE.COM>"], &["Ops@example.com", "ops@example.org"]);
        check(&["a%b@example.com"], &["a%b@example.com"], &["a%c@example.com"]);
        check(&["*"], &["a@anywhere.test", "a%b@example.com", "a@1.2.3.4"], &[]);
        check(&["*@a.test", "b@b.test"], &["x@a.test", "b@b.test"], &["x@b.test"]);
    }

    #[test]
    fn international_domains_are_compared_in_ascii() {
        check(&["*@bücher.example"], &["a@xn--bcher-kva.example", "a@BÜCHER.example"], &["a@bucher.example"]);
        check(&["*@xn--bcher-kva.example"], &["a@bücher.example"], &[]);
        // Full-width letters are the same domain, look-alikes are not.
        check(&["*@example.com"], &["a@ｅxample.com"], &["a@еxample.com"]);
        assert_eq!(parse("to", "a@bücher.example").unwrap().email.as_ref() as &str, "a@xn--bcher-kva.example");
    }

    #[test]
    fn what_relays_read_differently_is_refused() {
        for text in [
            "",
            "ann",
            "@example.com",
            "a@",
            "a@b@example.com",
            "a@example.com, b@example.com",
            "a@example.com;b@example.com",
            "group: a@example.com;",
            "a(comment)@example.com",
            "a@example.com (comment)",
            "<@relay.test:a@example.com>",
            "\"a b\"@example.com",
            "\"a@evil.test\"@example.com",
            "\"a>\"@example.com",
            "a@example.com\r\nBcc: b@evil.test",
            "a@example.com\n",
            "a\0@example.com",
            "Ann\r\n <a@example.com>",
            "ü@example.com",
            "a@exa mple.com",
            "a@example..com",
            "a@-example.com",
            "a@[::1]",
            "a@[127.0.0.1]",
            "a@１.２.３.４",
            "a@example.com> SIZE=1",
            &format!("{}@example.com", "a".repeat(65)),
            &format!("{} <a@example.com>", "n".repeat(201)),
            &format!("{} <a@example.com>", "n".repeat(2_000)),
        ] {
            let error = parse("cc", text).expect_err(text);
            assert!(matches!(&error, MailError::Invalid(said) if said.starts_with("`cc`: ")), "{error:?}");
            assert!(!error.to_string().contains(['\r', '\n', '\0']), "{error:?}");
        }
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for text in
            ["", "*@", "*@*", "*@*.example.com", "a*@example.com", "example.com", "Ann <a@example.com>", "*@exa mple.com", "**"]
        {
            Pattern::parse(text).expect_err(text);
        }
    }
}
