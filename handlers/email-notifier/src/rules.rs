//! The rules' file: TOML into [`Rule`]s. What is wrong is said with rule, key and line; nothing unknown is ignored.

mod table;

use std::fmt;

use toml::de::{DeTable, DeValue};

use crate::path::Path;
use crate::recipients::Who;
use table::Table;

/// Keys at the top of the file.
const FILE_KEYS: [&str; 3] = ["default-locale", "layouts", "rule"];
/// Keys of `[[rule]]`.
const RULE_KEYS: [&str; 15] = [
    "name",
    "type",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "separate",
    "when",
    "locale",
    "layout",
    "thread",
    "unsubscribe",
    "one-click",
    "headers",
    "mail",
];
/// Keys of `[rule.mail.LOCALE]`.
const MAIL_KEYS: [&str; 3] = ["subject", "text", "html"];
/// Keys of `[layouts.NAME]`.
const LAYOUT_KEYS: [&str; 2] = ["text", "html"];

/// The text of a rules' file, parsed but not yet looked through: an event needs one or two of its rules.
pub(crate) struct Rules<'a> {
    source: &'a str,
    file: DeTable<'a>,
}

/// What is sent for events of a type.
pub(crate) struct Rule<'a> {
    /// Its name, unique in the file.
    pub(crate) name: &'a str,
    /// Where it begins in the file.
    pub(crate) line: usize,
    /// Recipients.
    pub(crate) to: Vec<Who<'a>>,
    /// Copies.
    pub(crate) cc: Vec<Who<'a>>,
    /// Copies that nobody sees.
    pub(crate) bcc: Vec<Who<'a>>,
    /// Where answers go.
    pub(crate) reply_to: Vec<Who<'a>>,
    /// One mail for each of `to` instead of one for all.
    pub(crate) separate: bool,
    /// Where in the event the locale stands.
    pub(crate) locale: Option<Path<'a>>,
    /// The locale when that says nothing or an unknown one; none: the handler's, then the first of `mails`.
    pub(crate) default_locale: Option<&'a str>,
    /// What stands around the mails.
    pub(crate) layout: Option<Layout<'a>>,
    /// Template of the key that mails of one conversation share.
    pub(crate) thread: Option<&'a str>,
    /// Template of the address for List-Unsubscribe.
    pub(crate) unsubscribe: Option<&'a str>,
    /// Whether that address takes a single POST (RFC 8058).
    pub(crate) one_click: bool,
    /// Further headers and their templates.
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    /// The templates by locale, in the order of the file's keys.
    pub(crate) mails: Vec<(&'a str, Mail<'a>)>,
}

/// The templates of one locale; text, html or both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mail<'a> {
    /// The subject.
    pub(crate) subject: &'a str,
    /// Plain text.
    pub(crate) text: Option<&'a str>,
    /// HTML.
    pub(crate) html: Option<&'a str>,
}

/// Templates around those of a mail, which they have as `content`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout<'a> {
    /// Around the text.
    pub(crate) text: Option<&'a str>,
    /// Around the HTML.
    pub(crate) html: Option<&'a str>,
}

/// What is wrong with a rules' file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// `rule `x``, `layout `y``; empty at the top of the file.
    place: String,
    /// From 1.
    line: usize,
    /// What was found and what is expected.
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "line {}: {}", self.line, self.what),
            place => write!(f, "{place} (line {}): {}", self.line, self.what),
        }
    }
}

impl<'a> Rules<'a> {
    /// Parses the file.
    pub(crate) fn parse(source: &'a str) -> Result<Self, Mistake> {
        let file = DeTable::parse(source).map_err(|e| {
            let at = e.span().map_or(0, |span| span.start);
            Mistake { place: String::new(), line: table::line(source, at), what: format!("not TOML: {}", e.message()) }
        })?;
        Ok(Rules { source, file: file.into_inner() })
    }

    /// The rules for events of this type.
    pub(crate) fn matching(&self, kind: &str) -> Result<Vec<Rule<'_>>, Mistake> {
        self.read(|types| types.iter().any(|pattern| fits(pattern, kind)))
    }

    /// Every rule; also finds names given twice.
    pub(crate) fn all(&self) -> Result<Vec<Rule<'_>>, Mistake> {
        let rules = self.read(|_| true)?;
        for (at, rule) in rules.iter().enumerate() {
            if rules.iter().take(at).any(|before| before.name == rule.name) {
                let what = "two rules have this name (it tells their mails apart)".to_owned();
                return Err(Mistake { place: format!("rule `{}`", rule.name), line: rule.line, what });
            }
        }
        Ok(rules)
    }

    fn read(&self, wanted: impl Fn(&[&str]) -> bool) -> Result<Vec<Rule<'_>>, Mistake> {
        let file = Table::new(self.source, String::new(), &self.file, 0);
        file.only(&FILE_KEYS)?;
        let mut rules = Vec::new();
        for (number, table) in file.tables("rule")?.into_iter().enumerate() {
            let mut table = table.named(format!("rule {}", number + 1));
            let name = table.required("name")?;
            table = table.named(format!("rule `{name}`"));
            let types = table.required_strings("type")?;
            if wanted(&types) {
                rules.push(self.rule(&file, &table, name)?);
            }
        }
        Ok(rules)
    }

    fn rule<'r>(&'r self, file: &Table<'r>, table: &Table<'r>, name: &'r str) -> Result<Rule<'r>, Mistake> {
        table.only(&RULE_KEYS)?;
        match table.string("when")? {
            None | Some("now") => {}
            Some(other) => return Err(table.wrong("when", format!("`{other}`: not in this version yet (expected \"now\")"))),
        }
        let rule = Rule {
            name,
            line: table.line(),
            to: who(table, "to")?,
            cc: who(table, "cc")?,
            bcc: who(table, "bcc")?,
            reply_to: who(table, "reply-to")?,
            separate: table.bool("separate")?,
            locale: table.string("locale")?.map(|text| path(table, "locale", text)).transpose()?,
            default_locale: file.string("default-locale")?,
            layout: layout(file, table)?,
            thread: table.string("thread")?,
            unsubscribe: table.string("unsubscribe")?,
            one_click: table.bool("one-click")?,
            headers: headers(table)?,
            mails: mails(table)?,
        };
        if rule.to.is_empty() && rule.cc.is_empty() && rule.bcc.is_empty() {
            return Err(table.wrong("to", "nobody is written to (expected a recipient in `to`, `cc` or `bcc`)".to_owned()));
        }
        if rule.one_click && rule.unsubscribe.is_none() {
            return Err(table.wrong("one-click", "is for `unsubscribe`, which is not given".to_owned()));
        }
        Ok(rule)
    }
}

/// Whether a type of a rule is that of an event.
fn fits(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => pattern == kind,
    }
}

fn path<'r>(table: &Table<'r>, key: &str, text: &'r str) -> Result<Path<'r>, Mistake> {
    Path::parse(text).map_err(|e| table.wrong(key, e))
}

/// One recipient or a list of them: see [`Who`].
fn who<'r>(table: &Table<'r>, key: &str) -> Result<Vec<Who<'r>>, Mistake> {
    let one = |value: &'r DeValue<'r>| match value {
        DeValue::String(text) => Who::parse(text).map_err(|e| table.wrong(key, e)),
        DeValue::Table(inner) => {
            let inner = table.inner(key, inner);
            inner.only(&["email", "name"])?;
            let email = inner.required("email")?;
            Who::from_parts(email, inner.string("name")?).map_err(|e| inner.wrong("email", e))
        }
        other => {
            let expected = "an address, a path such as \"data.owner\", or { email = \"…\", name = \"…\" }";
            Err(table.wrong(key, format!("{} is no recipient (expected {expected})", table::kind(other))))
        }
    };
    match table.get(key) {
        None => Ok(Vec::new()),
        Some(DeValue::Array(list)) => list.iter().map(|value| one(value.get_ref())).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

fn layout<'r>(file: &Table<'r>, table: &Table<'r>) -> Result<Option<Layout<'r>>, Mistake> {
    let Some(name) = table.string("layout")? else { return Ok(None) };
    let layouts = file.table("layouts")?;
    let Some(layout) = layouts.as_ref().map(|layouts| layouts.table(name)).transpose()?.flatten() else {
        let known = layouts.map(|layouts| layouts.keys().join("`, `")).unwrap_or_default();
        return Err(table.wrong("layout", format!("`{name}` is not defined (known: `{known}`)")));
    };
    let layout = layout.named(format!("layout `{name}`"));
    layout.only(&LAYOUT_KEYS)?;
    Ok(Some(Layout { text: layout.string("text")?, html: layout.string("html")? }))
}

fn headers<'r>(table: &Table<'r>) -> Result<Vec<(&'r str, &'r str)>, Mistake> {
    let Some(headers) = table.table("headers")? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for name in headers.keys() {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(headers.wrong(name, "not the name of a header (expected letters, digits and `-`)".to_owned()));
        }
        all.push((name, headers.required(name)?));
    }
    Ok(all)
}

fn mails<'r>(table: &Table<'r>) -> Result<Vec<(&'r str, Mail<'r>)>, Mistake> {
    let example = "expected a table for each locale, such as [rule.mail.en]";
    let Some(locales) = table.table("mail")? else { return Err(table.wrong("mail", format!("is missing ({example})"))) };
    let mut mails = Vec::new();
    for locale in locales.keys() {
        let Some(mail) = locales.table(locale)? else { continue };
        mail.only(&MAIL_KEYS)?;
        let (text, html) = (mail.string("text")?, mail.string("html")?);
        if text.is_none() && html.is_none() {
            return Err(mail.wrong("text", "is missing, and so is `html` (expected one or both)".to_owned()));
        }
        mails.push((locale, Mail { subject: mail.required("subject")?, text, html }));
    }
    if mails.is_empty() {
        return Err(table.wrong("mail", format!("is empty ({example})")));
    }
    Ok(mails)
}
