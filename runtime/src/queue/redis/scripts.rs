//! The scripts that run on the server, each a file beside this one: what has to happen at once or not at all.

use std::sync::LazyLock;

use ::redis::{Script, ScriptInvocation};

use super::keys::GroupKeys;

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $first:literal $($more:literal)*;)*) => {
        $($(#[$doc])*
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!($first) $(, "\n", include_str!($more))*)));)*
    };
}

pub(super) use scripts;

scripts! {
    /// What comes again: due, given back, lapsed.
    CLAIM = "scripts/common.lua" "scripts/claim.lua";
    /// What was given to us and never reached us.
    TAKE = "scripts/common.lua" "scripts/take.lua";
    /// What the last reader of an ordered group had.
    TAKEOVER = "scripts/common.lua" "scripts/takeover.lua";
    /// What is new, for the one reader of an ordered group.
    READ = "scripts/common.lua" "scripts/read.lua";
    /// Ends or lets wait what is still ours.
    SETTLE = "scripts/common.lua" "scripts/settle.lua";
    /// Renews leases.
    RENEW = "scripts/common.lua" "scripts/renew.lua";
    /// Notes tries.
    NOTE = "scripts/common.lua" "scripts/note.lua";
    /// Becomes or stays the one reader.
    LEAD = "scripts/common.lua" "scripts/lead.lua";
    /// Tidies a group.
    SWEEP = "scripts/common.lua" "scripts/sweep.lua";
    /// Leaves a group.
    LEAVE = "scripts/common.lua" "scripts/leave.lua";
    /// Makes a group.
    SUBSCRIBE = "scripts/bound.lua" "scripts/subscribe.lua";
    /// Removes a group.
    UNSUBSCRIBE = "scripts/bound.lua" "scripts/unsubscribe.lua";
    /// Takes away what nobody waits for.
    EMPTY = "scripts/empty.lua";
    /// Takes away what all have passed.
    TRIM = "scripts/bound.lua" "scripts/trim.lua";
    /// Adds what is due of the delayed publishes.
    MOVE = "scripts/move.lua";
    /// Shows what waits for its time.
    WAITING = "scripts/waiting.lua";
    /// Ends what waits for another try.
    ABANDON = "scripts/common.lua" "scripts/abandon.lua";
    /// What waits.
    DEPTH = "scripts/depth.lua";
}

/// Who asks, for the scripts that begin with `common.lua`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) stream: &'a str,
    pub(super) keys: &'a GroupKeys,
    pub(super) group: &'a str,
    pub(super) consumer: &'a str,
    /// Whether only the one reader may do this.
    pub(super) fenced: bool,
}

impl Asker<'_> {
    /// A call with what `common.lua` expects; more arguments follow.
    pub(super) fn call<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        call.key(self.stream).key(&self.keys.retry).key(&self.keys.tries).key(&self.keys.reader);
        call.arg(self.group).arg(self.consumer).arg(if self.fenced { self.consumer } else { "" });
        call
    }
}
