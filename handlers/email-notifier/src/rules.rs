//! The rules' file: TOML into [`Rule`]s. What is wrong is said with rule, key and line; nothing unknown is ignored.

mod keys;
mod table;

use std::fmt;

use toml::de::DeTable;

use crate::path::Path;
use crate::recipients::Who;
use crate::when::When;
use crate::when::quiet::Quiet;
use keys::{headers, layout, mails, parsed, unless, who};
use table::Table;

/// Keys at the top of the file.
const FILE_KEYS: [&str; 3] = ["default-locale", "layouts", "rule"];
/// Keys of `[[rule]]`.
const RULE_KEYS: [&str; 17] = [
    "name",
    "type",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "separate",
    "when",
    "quiet",
    "unless",
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
    /// When it leaves.
    pub(crate) when: When<'a>,
    /// When it does not.
    pub(crate) quiet: Option<Quiet<'a>>,
    /// Types of events that make it needless, when a later one has the same subject.
    pub(crate) unless: Vec<&'a str>,
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

impl Rule<'_> {
    /// Whether it gathers events.
    pub(crate) fn is_digest(&self) -> bool {
        matches!(self.when, When::Digest { .. })
    }
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
        self.read(|table| Ok(table.required_strings("type")?.iter().any(|pattern| fits(pattern, kind))))
    }

    /// The rule of this name; none when there is none, or no longer.
    pub(crate) fn named(&self, name: &str) -> Result<Option<Rule<'_>>, Mistake> {
        Ok(self.read(|table| Ok(table.required("name")? == name))?.into_iter().next())
    }

    /// Rules whose mails an event of this type makes needless, each with the type as its `unless` has it.
    pub(crate) fn answered_by(&self, kind: &str) -> Result<Vec<(&str, Rule<'_>)>, Mistake> {
        let mut all = Vec::new();
        for rule in self.read(|table| Ok(unless(table)?.iter().any(|pattern| fits(pattern, kind))))? {
            if let Some(pattern) = rule.unless.iter().find(|pattern| fits(pattern, kind)).copied() {
                all.push((pattern, rule));
            }
        }
        Ok(all)
    }

    /// Every rule; also finds names given twice.
    pub(crate) fn all(&self) -> Result<Vec<Rule<'_>>, Mistake> {
        let rules = self.read(|_| Ok(true))?;
        for (at, rule) in rules.iter().enumerate() {
            if rules.iter().take(at).any(|before| before.name == rule.name) {
                let what = "two rules have this name (it tells their mails apart)".to_owned();
                return Err(Mistake { place: format!("rule `{}`", rule.name), line: rule.line, what });
            }
        }
        Ok(rules)
    }

    fn read<'r>(&'r self, wanted: impl Fn(&Table<'r>) -> Result<bool, Mistake>) -> Result<Vec<Rule<'r>>, Mistake> {
        let file = Table::new(self.source, String::new(), &self.file, 0);
        file.only(&FILE_KEYS)?;
        let mut rules = Vec::new();
        for (number, table) in file.tables("rule")?.into_iter().enumerate() {
            let mut table = table.named(format!("rule {}", number + 1));
            let name = table.required("name")?;
            table = table.named(format!("rule `{name}`"));
            if wanted(&table)? {
                rules.push(self.rule(&file, &table, name)?);
            }
        }
        Ok(rules)
    }

    fn rule<'r>(&'r self, file: &Table<'r>, table: &Table<'r>, name: &'r str) -> Result<Rule<'r>, Mistake> {
        table.only(&RULE_KEYS)?;
        table.required_strings("type")?;
        let rule = Rule {
            name,
            line: table.line(),
            to: who(table, "to")?,
            cc: who(table, "cc")?,
            bcc: who(table, "bcc")?,
            reply_to: who(table, "reply-to")?,
            separate: table.bool("separate")?,
            when: parsed(table, "when", When::parse)?.unwrap_or(When::Now),
            quiet: parsed(table, "quiet", Quiet::parse)?,
            unless: unless(table)?,
            locale: parsed(table, "locale", Path::parse)?,
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
        if !rule.unless.is_empty() && rule.when == When::Now && rule.quiet.is_none() {
            return Err(
                table.wrong("unless", "is for mails that wait (expected `when` beside it, such as `after 3d`)".to_owned())
            );
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
