//! What a trial came to, for people.

use crate::cli::output::{CliError, Lines, Output, printable};
use crate::config::fmt_size;
use crate::event;
use crate::mail::CapturedMail;
use crate::trial::{Trial, Tried};
use crate::verdict::Verdict;

/// Prints it: one line a fact, then what the handler wrote, mailed and published.
pub(super) fn print(trial: &Trial, tried: &Tried, output: &mut Output) -> Result<(), CliError> {
    let (report, limits) = (&tried.report, &trial.config.limits);
    let limit = report.outcome.limit().map(|limit| format!("{} = {}", limit.name, limit.value));
    let version = tried.version.strip_prefix("sha256:").and_then(|digits| digits.get(..12)).unwrap_or(&tried.version);
    for (name, value) in [
        ("outcome", Some(report.outcome.name().to_owned())),
        ("limit", limit),
        ("reason", tried.reason()),
        ("event", Some(then(tried.verdict).to_owned())),
        ("handler", Some(format!("{}, {} ({version})", trial.handler, trial.config.component.display()))),
        ("fuel", Some(format!("{} of {}", report.fuel, limits.fuel))),
        ("memory", Some(format!("{} of {}", fmt_size(report.memory), fmt_size(limits.memory)))),
        ("seconds", Some(format!("{:.6}", report.elapsed.as_secs_f64()))),
    ] {
        if let Some(value) = value {
            output.line(&format!("{name:<7}  {}", printable(&value, Lines::Joined)))?;
        }
    }
    block("log", report.log.trim_end(), output)?;
    block("backtrace", &report.backtrace.join("\n"), output)?;
    for (at, mail) in tried.mails.iter().enumerate() {
        block(&format!("mail {} of {}", at + 1, tried.mails.len()), text_of(mail).trim_end(), output)?;
    }
    for (at, one) in tried.published.iter().enumerate() {
        let due = one.due.map(|due| format!(", due {due}")).unwrap_or_default();
        let mut text = Vec::new();
        let written = event::json::write_into(&one.event, &mut serde_json::Serializer::pretty(&mut text));
        written.map_err(|error| CliError::Failed(format!("event can't be written: {error}")))?;
        let name = format!("event {} of {}, to queue `{}`{due}", at + 1, tried.published.len(), one.queue);
        block(&name, &String::from_utf8_lossy(&text), output)?;
    }
    Ok(())
}

/// What would become of the event.
fn then(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ack => "would be acknowledged",
        Verdict::Retry { .. } => "would be tried again",
        Verdict::Dead => "would be dead-lettered",
        Verdict::Pause => "would be given back, and the handler paused",
    }
}

fn block(name: &str, text: &str, output: &mut Output) -> Result<(), CliError> {
    if text.is_empty() {
        return Ok(());
    }
    output.line(&format!("\n{name}:"))?;
    text.lines().try_for_each(|line| output.line(&format!("  {line}")))
}

/// A mail as a reader would see it: its plain text, else its HTML.
fn text_of(mail: &CapturedMail) -> String {
    let lists = [("To", &mail.to), ("Cc", &mail.cc), ("Bcc", &mail.bcc), ("Reply-To", &mail.reply_to)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name, list.join(", ")));
    let heading = [("From", mail.from.clone())].into_iter().chain(lists).chain([("Subject", mail.subject.clone())]);
    let own = mail.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let mut text = String::new();
    for (name, value) in heading.chain(own) {
        text.push_str(&format!("{name}: {}\n", printable(&value, Lines::Joined)));
    }
    for file in &mail.attachments {
        let (name, kind) = (printable(&file.name, Lines::Joined), printable(&file.content_type, Lines::Joined));
        text.push_str(&format!("Attachment: {name} ({kind}, {} bytes)\n", file.size));
    }
    let body = mail.text.as_deref().or(mail.html.as_deref());
    text.push_str(&format!("\n{}\n", body.unwrap_or("(left out: more was mailed than is kept)")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_reads_like_a_mail() {
        let mail = CapturedMail {
            message_id: "<1@example.com>".to_owned(),
            from: "QA <noreply@example.com>".to_owned(),
            to: vec!["ann@example.com".to_owned(), "bob@example.com".to_owned()],
            cc: Vec::new(),
            bcc: vec!["c@example.com".to_owned()],
            reply_to: Vec::new(),
            subject: "Hello\u{1b}".to_owned(),
            text: Some("one\ntwo\n".to_owned()),
            html: Some("<p>one</p>".to_owned()),
            attachments: vec![crate::mail::CapturedFile {
                name: "a.txt".to_owned(),
                content_type: "text/plain".to_owned(),
                size: 4,
                content_id: None,
            }],
            headers: vec![("X-Shop".to_owned(), "7".to_owned())],
            key: None,
            message: None,
        };
        let expected = "From: QA <noreply@example.com>\nTo: ann@example.com, bob@example.com\nBcc: c@example.com\n\
            Subject: Hello\u{fffd}\nX-Shop: 7\nAttachment: a.txt (text/plain, 4 bytes)\n\none\ntwo\n\n";
        assert_eq!(text_of(&mail), expected);
    }
}
