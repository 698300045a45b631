//! The scripts of lists and sorted sets, each a file: what has to happen at once or not at all.

use std::sync::LazyLock;

use ::redis::{Script, ScriptInvocation};

use super::shared::Shared;
use crate::clock;
use crate::queue::redis::scripts::scripts;

scripts! {
    /// Takes messages.
    TAKE = "../scripts/taken/common.lua" "../scripts/taken/take.lua";
    /// Ends, lets wait or gives back.
    SETTLE = "../scripts/taken/common.lua" "../scripts/taken/settle.lua";
    /// Renews leases.
    RENEW = "../scripts/taken/common.lua" "../scripts/taken/renew.lua";
    /// Notes tries.
    NOTE = "../scripts/taken/common.lua" "../scripts/taken/note.lua";
    /// Adds a batch.
    PUBLISH = "../scripts/taken/common.lua" "../scripts/taken/publish.lua";
    /// Puts back what woke us for nothing.
    UNWAKE = "../scripts/taken/common.lua" "../scripts/taken/unwake.lua";
    /// What the server has as ours.
    MINE = "../scripts/taken/common.lua" "../scripts/taken/mine.lua";
    /// Lets another process read.
    LEAVE = "../scripts/taken/common.lua" "../scripts/taken/leave.lua";
    /// What waits.
    DEPTH = "../scripts/taken/common.lua" "../scripts/taken/depth.lua";
}

impl Shared {
    /// A call with what `common.lua` expects; more arguments follow.
    pub(super) fn call<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        for key in self.keys.all() {
            call.key(key);
        }
        call.arg(&self.consumer).arg(clock::now().0).arg(clock::millis(self.lease));
        call.arg(self.kind.word()).arg(self.unit()).arg(u8::from(self.is_ordered()));
        call
    }
}
