//! As whom a queue is read that is emptied. Pure.

use crate::queue::Depth;

/// The handler under whose name a queue is read that nobody reads: so `weir handlers forget move` knows it.
const NOBODY: &str = "move";

/// As whom a queue is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// `<group>-<handler>`.
    pub(super) subscription: String,
    /// It is there already.
    pub(super) is_known: bool,
    /// It is the only one: what is delayed for all is delayed for it.
    pub(super) is_alone: bool,
    /// It is nobody's, made for a move.
    pub(super) is_own: bool,
}

impl Reading {
    /// In the place of the handler that was named, else of the only one that reads the queue, else of nobody.
    pub(super) fn choose(queue: &str, depth: &Depth, group: &str, handler: Option<&str>) -> Result<Self, String> {
        let known: Vec<&str> = depth.subscriptions.iter().map(|known| known.name.as_str()).collect();
        let own = format!("{group}-{NOBODY}");
        let subscription = match (handler, known.as_slice()) {
            (Some(handler), _) => format!("{group}-{handler}"),
            (None, []) => own.clone(),
            (None, [only]) => (*only).to_owned(),
            (None, several) => {
                return Err(format!(
                    "queue `{queue}` has several subscriptions: {} (name one: `--handler`)",
                    listed(several, group)
                ));
            }
        };
        let is_known = known.contains(&subscription.as_str());
        if let Some(handler) = handler.filter(|_| !is_known && !known.is_empty()) {
            let known = listed(&known, group);
            return Err(format!(
                "handler `{handler}` has no subscription of queue `{queue}` in group `{group}` (known: {known})"
            ));
        }
        let is_own = subscription == own && handler.is_none();
        Ok(Self { subscription, is_known, is_alone: known.len() < 2, is_own })
    }
}

/// Handlers of the group by their names, others by the whole name of their subscription.
fn listed(subscriptions: &[&str], group: &str) -> String {
    let prefix = format!("{group}-");
    let names: Vec<String> = subscriptions
        .iter()
        .map(|name| match name.strip_prefix(&prefix) {
            Some(handler) => format!("`{handler}`"),
            None => format!("`{name}` (of another group)"),
        })
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::SubscriptionDepth;

    #[test]
    fn the_one_that_is_meant() {
        let depth = |names: &[&str]| Depth {
            subscriptions: names
                .iter()
                .map(|name| SubscriptionDepth { name: (*name).to_owned(), ..Default::default() })
                .collect(),
            ..Depth::default()
        };
        let of = |known: &[&str], handler| Reading::choose("old", &depth(known), "weir", handler);
        let read =
            |name: &str, is_known, is_alone, is_own| Ok(Reading { subscription: name.to_owned(), is_known, is_alone, is_own });
        for (known, handler, expected) in [
            (&[][..], None, read("weir-move", false, true, true)),
            (&[], Some("mail"), read("weir-mail", false, true, false)),
            (&["weir-mail"], None, read("weir-mail", true, true, false)),
            (&["other-mail"], None, read("other-mail", true, true, false)),
            (&["weir-move"], None, read("weir-move", true, true, true)),
            (&["weir-mail", "weir-audit"], Some("audit"), read("weir-audit", true, false, false)),
            (
                &["weir-mail", "x-audit"],
                None,
                Err("queue `old` has several subscriptions: `mail`, `x-audit` (of another group) (name one: `--handler`)"),
            ),
            (
                &["weir-mail"],
                Some("mial"),
                Err("handler `mial` has no subscription of queue `old` in group `weir` (known: `mail`)"),
            ),
        ] {
            assert_eq!(of(known, handler), expected.map_err(str::to_owned), "{known:?} {handler:?}");
        }
    }
}
