//! The handler with captured mail: the rules that ship, hostile events, mistakes in rules.

mod hostile;
mod mistakes;
mod shipped;
mod wired;

use serde_json::Value;
use weir_sdk::email::Message;
use weir_sdk::testing::{self, Host, Run};
use weir_sdk::{Failure, Result};

use super::{check, handle as notify};

const SHIPPED: &str = include_str!("../email-rules.toml");

fn host(rules: &str) -> Host {
    Host::new().config("rules", rules).config("sender-name", "QA")
}

fn run(rules: &str, kind: &str, data: &Value) -> Run {
    host(rules).run(notify, testing::event(kind, data))
}

/// The only mail of a run that went well.
#[track_caller]
fn mail(run: Run) -> Message {
    assert_eq!(run.result, Ok(()));
    assert_eq!(run.mails.len(), 1, "{:?}", run.mails);
    run.mails.into_iter().next().unwrap()
}

/// Why a run was rejected.
#[track_caller]
fn rejected(result: Result) -> String {
    match result {
        Err(Failure::Reject { reason }) => reason,
        other => panic!("not rejected: {other:?}"),
    }
}

/// A rule for events of type `t` to `to`, with these keys before its templates.
fn rule(keys: &str, mail: &str) -> String {
    format!("[[rule]]\nname = \"r\"\ntype = \"t\"\n{keys}\n[rule.mail.en]\n{mail}\n")
}
