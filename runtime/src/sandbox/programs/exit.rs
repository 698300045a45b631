//! What commands have in common: the event on stdin; and from exit code, last line and last words to how the run ended (sandbox.md §2).

use bytes::Bytes;
use serde::Deserialize;
use wasmtime_wasi::I32Exit;

use crate::config::duration;
use crate::event::{Event, json};
use crate::sandbox::classify::{Ending, Fault};
use crate::sandbox::log::GuestLog;
use crate::sandbox::run::Stopped;

/// `EX_DATAERR` and `EX_TEMPFAIL` of sysexits.h.
const REJECT: i32 = 65;
const RETRY: i32 = 75;

/// Longest part of a line that is shown in a reason.
const LINE_SHOWN: usize = 200;

/// The event in the JSON format, as one line, without what is Weir's own.
pub(super) fn stdin(event: &Event) -> Bytes {
    let own = |(name, _): &(String, String)| name.starts_with("weir");
    let mut text = if event.extensions.iter().any(own) {
        let mut shown = event.clone();
        shown.extensions.retain(|extension| !own(extension));
        json::write(&shown)
    } else {
        json::write(event)
    };
    text.push(b'\n');
    text.into()
}

/// How a command's run ended: by itself with a code, or not.
pub(super) fn ended(called: Result<i32, Stopped>, log: &GuestLog) -> Result<Ending, Stopped> {
    let code = match called {
        Ok(code) => code,
        Err(Stopped::Called(error)) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => *code,
            None => return Err(Stopped::Called(error)),
        },
        Err(stopped) => return Err(stopped),
    };
    Ok(ending(code, log.last_line().as_deref(), log.last_words()))
}

/// What a code says, with the last line of stdout, which wins over it, and the last of stderr, which is the reason.
fn ending(code: i32, last_line: Option<&str>, last_words: Option<String>) -> Ending {
    let exit = || format!("exit code {code}");
    match last_line.map_or(Ok(None), said) {
        Ok(Some(Said::Reject(reason))) => Ending::Reject { reason },
        Ok(Some(Said::Retry { reason, after })) => {
            let Ok(after) = after.as_deref().map(duration).transpose() else {
                let after = shown(after.as_deref().unwrap_or_default());
                let text = format!("its last line on stdout has `after` as `{after}`, expected a duration such as `10s`");
                return Ending::Fault { kind: Fault::Exit, text };
            };
            Ending::Retry { reason: reason.or(last_words).unwrap_or_else(exit), after }
        }
        Err(text) => Ending::Fault { kind: Fault::Exit, text },
        Ok(None) => match code {
            0 => Ending::Done,
            REJECT => Ending::Reject { reason: last_words.unwrap_or_else(exit) },
            RETRY => Ending::Retry { reason: last_words.unwrap_or_else(exit), after: None },
            _ => {
                let words = last_words.map(|words| format!(": {words}")).unwrap_or_default();
                Ending::Fault { kind: Fault::Exit, text: exit() + &words }
            }
        },
    }
}

/// What a last line may say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Said {
    Retry { reason: Option<String>, after: Option<String> },
    Reject(String),
}

/// Reads `{"weir":…}`; none where the line is something else. What is addressed to Weir and not understood is an error.
fn said(line: &str) -> Result<Option<Said>, String> {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_str(line) else { return Ok(None) };
    match fields.remove("weir") {
        Some(said) if fields.is_empty() => serde_json::from_value(said).map(Some).map_err(|error| {
            let expected = r#"`{"weir":{"retry":{"reason":"…","after":"10s"}}}` or `{"weir":{"reject":"…"}}`"#;
            format!("its last line on stdout is `{}`, expected {expected}: {error}", shown(line))
        }),
        _ => Ok(None),
    }
}

fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LINE_SHOWN)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reject(reason: &str) -> Ending {
        Ending::Reject { reason: reason.to_owned() }
    }

    fn retry(reason: &str, after: Option<u64>) -> Ending {
        Ending::Retry { reason: reason.to_owned(), after: after.map(Duration::from_secs) }
    }

    fn fault(text: &str) -> Ending {
        Ending::Fault { kind: Fault::Exit, text: text.to_owned() }
    }

    #[test]
    fn codes() {
        let table = [
            (0, None, Ending::Done),
            (0, Some("a warning"), Ending::Done),
            (65, Some("no such account"), reject("no such account")),
            (65, None, reject("exit code 65")),
            (75, Some("not yet"), retry("not yet", None)),
            (75, None, retry("exit code 75", None)),
            (1, Some("Error: no"), fault("exit code 1: Error: no")),
            (64, None, fault("exit code 64")),
            (255, None, fault("exit code 255")),
            (-1, None, fault("exit code -1")),
        ];
        for (code, words, expected) in table {
            assert_eq!(ending(code, None, words.map(str::to_owned)), expected, "{code} {words:?}");
            assert_eq!(ending(code, Some("bye"), words.map(str::to_owned)), expected, "{code} {words:?}");
        }
    }

    #[test]
    fn a_last_line_wins_over_the_code() {
        let table = [
            (r#"{"weir":{"reject":"no"}}"#, reject("no")),
            (r#"{"weir":{"retry":{"reason":"later","after":"10s"}}}"#, retry("later", Some(10))),
            (r#" { "weir" : { "retry" : { "after" : "2m" } } } "#, retry("words", Some(120))),
            (r#"{"weir":{"retry":{}}}"#, retry("words", None)),
        ];
        for (line, expected) in table {
            for code in [0, 1, 65, 75] {
                assert_eq!(ending(code, Some(line), Some("words".to_owned())), expected, "{code} {line}");
            }
        }
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in ["{}", "[]", "weir", r#"{"level":"info","weir":{"reject":"no"}}"#, r#"{"event":{"weir":1}}"#, r#"{"weir":"#] {
            assert_eq!(ending(0, Some(line), None), Ending::Done, "{line}");
        }
    }

    #[test]
    fn a_line_for_weir_that_it_does_not_understand_is_a_fault() {
        let lines = [
            r#"{"weir":{}}"#,
            r#"{"weir":"retry"}"#,
            r#"{"weir":{"rety":{}}}"#,
            r#"{"weir":{"reject":{"reason":"no"}}}"#,
            r#"{"weir":{"retry":{"afer":"10s"}}}"#,
            r#"{"weir":{"retry":{"after":10}}}"#,
            r#"{"weir":{"retry":{"after":"soon"}}}"#,
            r#"{"weir":{"reject":"a","retry":{}}}"#,
        ];
        for line in lines {
            let Ending::Fault { kind: Fault::Exit, text } = ending(0, Some(line), Some("words".to_owned())) else {
                panic!("{line}");
            };
            assert!(text.starts_with("its last line on stdout ") && text.contains("expected"), "{text}");
        }
    }

    #[test]
    fn stdin_is_a_line_of_json_without_what_is_weirs_own() {
        let mut event = Event { id: "1".to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
        let expected = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}\n";
        assert_eq!(stdin(&event), expected);
        event.extensions = vec![("weirhops".to_owned(), "1".to_owned()), ("tenant".to_owned(), "a".to_owned())];
        assert_eq!(stdin(&event), expected.replace('}', ",\"tenant\":\"a\"}"));
    }
}
