//! Whatever is written, the loader answers, and its answer can be shown.

use proptest::prelude::*;

use super::super::REFERENCE;
use super::read_with;

/// Reads it, and shows what is wrong in both ways.
fn answers(toml: &str, overrides: &[&str]) {
    if let Err(problems) = read_with(toml, overrides) {
        assert!(problems.iter().next().is_some());
        assert!(!problems.render(true).is_empty() && !problems.to_string().is_empty());
        for problem in &problems {
            assert!(serde_json::to_string(problem).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(toml in any::<String>(), set in any::<String>()) {
        answers(&toml, &[]);
        answers("", &[&set]);
    }

    #[test]
    fn text_that_looks_like_toml(toml in r#"(\[?\[?[a-z"'. ]{0,9}\]?\]? ?=? ?["'\[{0-9a-z$:/@.ä\\\r-]{0,12}[\]}"'\n]{0,3}){0,8}"#) {
        answers(&toml, &[]);
        answers(super::BASE, &[&toml]);
    }

    /// The reference with a stretch of it cut out and something else put there.
    #[test]
    fn a_damaged_reference(at in 0..REFERENCE.len(), cut in 0..40_usize, put in r#"[ -~äö\n\r\t]{0,12}"#) {
        let start = REFERENCE.floor_char_boundary(at);
        let end = REFERENCE.floor_char_boundary((start + cut).min(REFERENCE.len()));
        answers(&format!("{}{put}{}", &REFERENCE[..start], &REFERENCE[end..]), &[]);
    }

    #[test]
    fn any_value_of_a_key(key in prop::sample::select(vec![
        "server.listen", "server.token", "server.grace", "server.hosts", "queue.events.url", "queue.events.max-size",
        "handler.notify.queue", "handler.notify.limits.deadline", "handler.notify.retry.backoff", "handler.notify.component",
        "handler.notify.filter",
        "handler.notify.grants.email.relay", "handler.notify.grants.email.from", "handler.notify.grants.email.rate",
    ]), value in any::<String>()) {
        answers(super::BASE, &[&format!("{key}={value}")]);
    }
}
