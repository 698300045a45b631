//! Where in an HTML template each `{{ … }}` stands, found before anything is rendered: what comes from an event is then escaped for that
//! place. Where no escaping makes it safe (scripts, styles, tag names, unquoted attributes), the template is refused.
//!
//! Text is escaped by the template engine. In a quoted attribute and in a link the expression is given one more filter:
//! [`ATTRIBUTE`], [`LINK`] (the whole address, or its beginning: its scheme is checked), [`LINK_PART`] (percent-encoded).
//!
//! Considered and left out: parsing the rendered HTML. By then nobody knows which part of it came from an event.

/// The filter for expressions in quoted attributes.
pub(crate) const ATTRIBUTE: &str = "_attribute";
/// The filter for expressions at the beginning of an address.
pub(crate) const LINK: &str = "_link";
/// The filter for expressions further on in an address.
pub(crate) const LINK_PART: &str = "_link_part";

/// Attributes whose value is an address that programs follow or load.
const LINKS: [&str; 9] = ["href", "src", "action", "formaction", "background", "cite", "poster", "data", "longdesc"];
/// Attributes in which no text from an event is safe; so are all that begin with `on`.
const NEVER: [&str; 4] = ["style", "srcset", "srcdoc", "ping"];
/// Elements whose content is no HTML text.
const RAW: [&str; 6] = ["script", "style", "xmp", "iframe", "noembed", "noframes"];
/// What `{% … %}` may begin with in HTML. Others would turn escaping off, or hide where their content ends up.
const BLOCKS: [&str; 7] = ["if", "elif", "else", "endif", "for", "endfor", "set"];

/// Where the next character stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Text,
    Comment,
    /// Inside a tag, outside of values; the tag's name, and the attribute's as far as it was read.
    Tag {
        tag: String,
        attribute: String,
    },
    /// After the `=`.
    BeforeValue {
        tag: String,
        attribute: String,
    },
    Value {
        tag: String,
        attribute: String,
        quote: char,
        begun: bool,
    },
    Unquoted {
        tag: String,
    },
    Raw {
        tag: String,
    },
}

/// The template with a filter on every expression that needs one.
///
/// # Errors
/// Line and text of what can't be made safe.
pub(crate) fn escaping(source: &str) -> Result<String, (usize, String)> {
    walk(source, Place::Text)
}

/// The same for a template that is one address.
pub(crate) fn escaping_address(source: &str) -> Result<String, (usize, String)> {
    walk(source, Place::Value { tag: "a".to_owned(), attribute: "href".to_owned(), quote: '\0', begun: false })
}

fn walk(source: &str, start: Place) -> Result<String, (usize, String)> {
    let mut out = String::with_capacity(source.len() + source.len() / 16);
    let mut place = start;
    let mut branches: Vec<Branch> = Vec::new();
    let mut rest = source;
    let line = |rest: &str| 1 + source.len().checked_sub(rest.len()).and_then(|at| source.get(..at)).map_or(0, newlines);
    while let Some(at) = opening(rest) {
        let (text, tag) = rest.split_at(at);
        let line = line(tag);
        place = read(place, text);
        out.push_str(text);
        let length = closing(tag).ok_or_else(|| (line, "a `{{`, `{%` or `{#` is not closed".to_owned()))?;
        let (tag, after) = tag.split_at(length);
        if tag.starts_with("{{") {
            let filter = filter(&mut place).map_err(|e| (line, e))?;
            push_expression(&mut out, tag, filter);
        } else {
            if tag.starts_with("{%") {
                block(tag, &mut place, &mut branches).map_err(|e| (line, e))?;
            }
            out.push_str(tag);
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Where the next `{{`, `{%` or `{#` begins.
fn opening(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|&at| bytes.get(at) == Some(&b'{') && matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// The length of the construct at the beginning of `text`; a quoted `}}` does not end it.
pub(crate) fn closing(text: &str) -> Option<usize> {
    let end = match text.as_bytes().get(1)? {
        b'{' => "}}",
        b'%' => "%}",
        _ => return text.find("#}").map(|at| at + 2),
    };
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if text.get(at..).is_some_and(|rest| rest.starts_with(end)) => return Some(at + 2),
            None => {}
        }
    }
    None
}

/// `{{- expression -}}` with a filter behind the whole expression.
fn push_expression(out: &mut String, tag: &str, filter: Option<&str>) {
    let Some(filter) = filter else { return out.push_str(tag) };
    let inner = tag.trim_start_matches("{{").trim_end_matches("}}");
    let (left, inner) = inner.strip_prefix(['-', '+']).map_or(("", inner), |rest| (inner.get(..1).unwrap_or_default(), rest));
    let (inner, right) = inner.strip_suffix('-').map_or((inner, ""), |rest| (rest, "-"));
    out.extend(["{{", left, " (", inner.trim(), ")|", filter, " ", right, "}}"]);
}

/// What an expression at this place needs; an error where nothing makes it safe.
fn filter(place: &mut Place) -> Result<Option<&'static str>, String> {
    match place {
        Place::Text => Ok(None),
        Place::Value { attribute, .. } if NEVER.contains(&attribute.as_str()) || attribute.starts_with("on") => {
            Err(format!("an expression in the attribute `{attribute}` can't be made safe"))
        }
        Place::Value { attribute, begun, .. } if is_link(attribute) => {
            let filter = if *begun { LINK_PART } else { LINK };
            *begun = true;
            Ok(Some(filter))
        }
        Place::Value { .. } => Ok(Some(ATTRIBUTE)),
        Place::Comment => Err("an expression in a comment can't be made safe".to_owned()),
        Place::Raw { tag } => Err(format!("an expression in <{tag}> can't be made safe")),
        Place::Tag { tag, .. } => {
            Err(format!("an expression inside the tag <{tag}>, outside of an attribute's value, can't be made safe"))
        }
        Place::BeforeValue { attribute, .. } => Err(format!("the value of `{attribute}` needs quotes: it holds an expression")),
        Place::Unquoted { .. } => Err("an attribute's value that holds an expression needs quotes".to_owned()),
    }
}

fn is_link(attribute: &str) -> bool {
    LINKS.contains(&attribute.rsplit(':').next().unwrap_or_default())
}

/// An open `{% if %}` or `{% for %}`: where it began, and where its finished branches ended.
struct Branch {
    start: Place,
    ends: Vec<Place>,
}

/// Branches must all end at the same kind of place, else nobody can say where the text after them stands.
fn block(tag: &str, place: &mut Place, branches: &mut Vec<Branch>) -> Result<(), String> {
    let inner = tag.trim_start_matches("{%").trim_start_matches(['-', '+']).trim_end_matches("%}").trim_end_matches('-').trim();
    let name = inner.split_whitespace().next().unwrap_or_default();
    let apart = || {
        format!("the branches before {{% {name} %}} end at different places of the HTML (close tags and quotes in the branch)")
    };
    match name {
        "if" | "for" => branches.push(Branch { start: place.clone(), ends: Vec::new() }),
        "elif" | "else" => {
            let branch = branches.last_mut().ok_or_else(|| format!("{{% {name} %}} without {{% if %}}"))?;
            branch.ends.push(std::mem::replace(place, branch.start.clone()));
        }
        "endif" | "endfor" => {
            let branch = branches.pop().ok_or_else(|| format!("{{% {name} %}} without its beginning"))?;
            // Without `else`, or with a loop over nothing, no branch is taken.
            if (branch.ends.is_empty() || name == "endfor") && *place != branch.start {
                return Err(apart());
            }
            if branch.ends.iter().any(|end| end != place) {
                return Err(apart());
            }
        }
        "set" if inner.contains('=') => {}
        _ => return Err(format!("{{% {name} %}} is not possible in HTML (known: `{}` with `=`)", BLOCKS.join("`, `"))),
    }
    Ok(())
}

/// Where one is after this text.
fn read(mut place: Place, mut text: &str) -> Place {
    while let Some(c) = text.chars().next() {
        let (next, used) = step(place, c, text);
        place = next;
        text = text.get(used.max(1)..).unwrap_or_default();
    }
    place
}

/// One step: the next place and how many bytes were used.
fn step(place: Place, c: char, text: &str) -> (Place, usize) {
    let one = c.len_utf8();
    match place {
        Place::Text => tag_or_text(text),
        Place::Comment => match text.find("-->") {
            Some(at) => (Place::Text, at + 3),
            None => (Place::Comment, text.len()),
        },
        Place::Raw { tag } => match text.to_ascii_lowercase().find(&format!("</{tag}")) {
            Some(at) => (Place::Tag { tag: format!("/{tag}"), attribute: String::new() }, at + 2 + tag.len()),
            None => (Place::Raw { tag }, text.len()),
        },
        Place::Tag { tag, .. } if c == '>' => (after_tag(tag), one),
        Place::Tag { tag, attribute } if c == '=' => (Place::BeforeValue { tag, attribute }, one),
        Place::Tag { tag, attribute } if c.is_whitespace() || c == '/' => {
            // `href = "…"`: the name ends here, unless a `=` follows.
            let equals = text.trim_start().starts_with('=');
            (Place::Tag { tag, attribute: if equals { attribute } else { String::new() } }, one)
        }
        Place::Tag { tag, mut attribute } => {
            attribute.extend(c.to_lowercase());
            (Place::Tag { tag, attribute }, one)
        }
        Place::BeforeValue { tag, attribute } => match c {
            c if c.is_whitespace() => (Place::BeforeValue { tag, attribute }, one),
            '"' | '\'' => (Place::Value { tag, attribute, quote: c, begun: false }, one),
            '>' => (after_tag(tag), one),
            _ => (Place::Unquoted { tag }, one),
        },
        Place::Value { tag, quote, .. } if c == quote => (Place::Tag { tag, attribute: String::new() }, one),
        Place::Value { tag, attribute, quote, begun } => {
            (Place::Value { tag, attribute, quote, begun: begun || !c.is_whitespace() }, one)
        }
        Place::Unquoted { tag } if c == '>' => (after_tag(tag), one),
        Place::Unquoted { tag } if c.is_whitespace() => (Place::Tag { tag, attribute: String::new() }, one),
        unquoted @ Place::Unquoted { .. } => (unquoted, one),
    }
}

fn tag_or_text(text: &str) -> (Place, usize) {
    let Some(at) = text.find('<') else { return (Place::Text, text.len()) };
    let tag = text.get(at + 1..).unwrap_or_default();
    if tag.starts_with("!--") {
        return (Place::Comment, at + 4);
    }
    let name: String = tag.chars().take_while(|c| !c.is_whitespace() && *c != '>').collect();
    let first = name.trim_start_matches('/').chars().next();
    // `<` at the very end: an expression that follows could be the tag's name.
    if tag.is_empty() || (!name.is_empty() && first.is_none_or(|c| c.is_ascii_alphabetic() || c == '!' || c == '?')) {
        let tag = name.trim_end_matches('/').to_ascii_lowercase();
        return (Place::Tag { tag, attribute: String::new() }, at + 1 + name.len());
    }
    (Place::Text, at + 1)
}

fn after_tag(tag: String) -> Place {
    if RAW.contains(&tag.as_str()) { Place::Raw { tag } } else { Place::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_escaped_for_their_place() {
        for (source, expected) in [
            ("<p>{{ a }}</p>", "<p>{{ a }}</p>"),
            ("1 < 2 {{ a }}", "1 < 2 {{ a }}"),
            ("<p title=\"{{ a }}\">{{ b }}", "<p title=\"{{ (a)|_attribute }}\">{{ b }}"),
            ("<a href='{{- a if b else c -}}'>", "<a href='{{- (a if b else c)|_link -}}'>"),
            ("<a HREF = \"{{ a }}\">", "<a HREF = \"{{ (a)|_link }}\">"),
            ("<a href=\"https://x/{{ a }}?q={{ b }}\">", "<a href=\"https://x/{{ (a)|_link_part }}?q={{ (b)|_link_part }}\">"),
            ("<img src=\" {{ a }}{{ b }}\"/>", "<img src=\" {{ (a)|_link }}{{ (b)|_link_part }}\"/>"),
            ("<svg><a xlink:href=\"{{ a }}\">", "<svg><a xlink:href=\"{{ (a)|_link }}\">"),
            ("{% if a %}<b>{% else %}<i>{% endif %}{{ c }}", "{% if a %}<b>{% else %}<i>{% endif %}{{ c }}"),
            (
                "<p {% if a %}title=\"{{ b }}\"{% endif %}>{{ c }}",
                "<p {% if a %}title=\"{{ (b)|_attribute }}\"{% endif %}>{{ c }}",
            ),
            ("<style>p { color: red }</style>{{ a }}", "<style>p { color: red }</style>{{ a }}"),
            ("<!-- <a href=\" -->{{ a }}", "<!-- <a href=\" -->{{ a }}"),
            ("{# {{ a }} #}{{ \"}}\" }}", "{# {{ a }} #}{{ \"}}\" }}"),
            ("<p title=\"{{ '}}\\'' }}\">", "<p title=\"{{ ('}}\\'')|_attribute }}\">"),
            ("<br/>{{ a }}</p >{{ b }}", "<br/>{{ a }}</p >{{ b }}"),
        ] {
            assert_eq!(escaping(source).as_deref(), Ok(expected), "{source}");
        }
        assert_eq!(escaping_address("https://x/?u={{ a }}").as_deref(), Ok("https://x/?u={{ (a)|_link_part }}"));
    }

    #[test]
    fn what_nothing_makes_safe_is_refused() {
        for (source, expected) in [
            ("<script>\nvar a = {{ a }}</script>", "line 2: an expression in <script> can't be made safe"),
            ("<style>{{ a }}</style>", "line 1: an expression in <style> can't be made safe"),
            ("<p style=\"{{ a }}\">", "line 1: an expression in the attribute `style` can't be made safe"),
            ("<p ONCLICK=\"{{ a }}\">", "line 1: an expression in the attribute `onclick` can't be made safe"),
            ("<p title={{ a }}>", "line 1: the value of `title` needs quotes: it holds an expression"),
            ("<p title=x{{ a }}>", "line 1: an attribute's value that holds an expression needs quotes"),
            ("<p {{ a }}>", "line 1: an expression inside the tag <p>, outside of an attribute's value, can't be made safe"),
            ("<{{ a }}>", "line 1: an expression inside the tag <>, outside of an attribute's value, can't be made safe"),
            ("<!-- {{ a }} -->", "line 1: an expression in a comment can't be made safe"),
            ("{% autoescape false %}{{ a }}{% endautoescape %}", "line 1: {% autoescape %} is not possible in HTML"),
            ("{% raw %}<{% endraw %}", "line 1: {% raw %} is not possible in HTML"),
            ("{% set a %}<{% endset %}", "line 1: {% set %} is not possible in HTML"),
            (
                "<a {% if a %}href='{% else %}title='{% endif %}{{ b }}'>",
                "line 1: the branches before {% endif %} end at different",
            ),
            ("{% for a in b %}<p title='{% endfor %}'>", "line 1: the branches before {% endfor %} end at different"),
            ("{{ a", "line 1: a `{{`, `{%` or `{#` is not closed"),
        ] {
            let (line, what) = escaping(source).expect_err(source);
            let said = format!("line {line}: {what}");
            assert!(said.starts_with(expected), "{source}: {said}");
        }
    }
}
