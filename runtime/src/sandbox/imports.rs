//! The three classes of imports (sandbox.md §1), as pure functions on names.

use crate::config::Grants;

/// Newest WASI 0.2 that is linked.
const WASI_PATCH_MAX: u64 = 12;

/// What an import means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Language runtimes import it by themselves; always linked; gives nothing without a grant.
    Ambient,
    /// Needs a grant, or the handler is refused.
    Capability {
        /// The grant's key in weir.toml.
        grant: &'static str,
        /// The line to add under `[handler.NAME.grants]`.
        line: &'static str,
        /// Whether this version has it.
        here: bool,
    },
    /// Refused at load.
    Unknown,
}

impl Class {
    /// As in `weir inspect --json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ambient => "ambient",
            Self::Capability { .. } => "capability",
            Self::Unknown => "unknown",
        }
    }
}

/// Interfaces of WASI 0.2 that are always linked, whatever the patch version.
const WASI: [&str; 31] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:clocks/timezone",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
    "weir:events/types",
];

/// The module of preview 1 of WASI.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// What is in it: all of it is linked.
const PREVIEW1_FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// Versions of `wasi:config/store`; pre-releases match by exact string.
pub(crate) const CONFIG_VERSIONS: [&str; 3] = ["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"];

/// The two drafts of `wasi:keyvalue`: store, atomics and batch.
pub(crate) const KEYVALUE_DRAFT: &str = "0.2.0-draft";
pub(crate) const KEYVALUE_DRAFT_2: &str = "0.2.0-draft2";

/// Interfaces of `wasi:keyvalue`.
const KEYVALUE: [&str; 3] = ["wasi:keyvalue/store", "wasi:keyvalue/atomics", "wasi:keyvalue/batch"];

/// The version of `wasi:logging/logging`.
pub(crate) const LOGGING_VERSION: &str = "0.1.0-draft";

const EMAIL_LINE: &str = r#"email = { relay = "file:./outbox", from = "NAME <you@example.com>", to = ["*@example.com"] }"#;
const PUBLISH_LINE: &str = r#"publish = ["QUEUE"]"#;
const KEYVALUE_LINE: &str = r#"keyvalue = [{ bucket = "NAME" }]"#;

/// The class of an import, by its name with version; of a core module's, by `module#name`.
#[must_use]
pub fn classify(name: &str) -> Class {
    if let Some((module, function)) = name.split_once('#') {
        let known = module == PREVIEW1 && PREVIEW1_FUNCTIONS.contains(&function);
        return if known { Class::Ambient } else { Class::Unknown };
    }
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let capability = |grant, line, here| Class::Capability { grant, line, here };
    match interface {
        "weir:events/email" if is_weir_01(version) => capability("email", EMAIL_LINE, true),
        "weir:events/publisher" if is_weir_01(version) => capability("publish", PUBLISH_LINE, true),
        "wasi:messaging/producer" | "wasmcloud:messaging/consumer" => capability("publish", PUBLISH_LINE, false),
        "weir:events/types" if is_weir_01(version) => Class::Ambient,
        "wasi:config/store" if CONFIG_VERSIONS.contains(&version) => Class::Ambient,
        "wasi:logging/logging" if version == LOGGING_VERSION => Class::Ambient,
        _ if KEYVALUE.contains(&interface) && [KEYVALUE_DRAFT, KEYVALUE_DRAFT_2].contains(&version) => {
            capability("keyvalue", KEYVALUE_LINE, true)
        }
        _ if WASI.contains(&interface) && is_wasi_02(version) => Class::Ambient,
        _ => Class::Unknown,
    }
}

/// What to say about an import that is not known: the versions that are, when only the version differs.
#[must_use]
pub fn versions_known(name: &str) -> Option<String> {
    if name.starts_with("wasi_unstable#") {
        return Some(PREVIEW1.to_owned());
    }
    let (interface, _) = name.split_once('@')?;
    match interface {
        "wasi:config/store" => Some(CONFIG_VERSIONS.join(", ")),
        "wasi:logging/logging" => Some(LOGGING_VERSION.to_owned()),
        _ if KEYVALUE.contains(&interface) => Some(format!("{KEYVALUE_DRAFT}, {KEYVALUE_DRAFT_2}")),
        "weir:events/types" | "weir:events/email" | "weir:events/publisher" => Some("0.1.x".to_owned()),
        _ if WASI.contains(&interface) => Some(format!("0.2.0 to 0.2.{WASI_PATCH_MAX}")),
        _ => None,
    }
}

/// Whether the grants allow an import to be there at all; what is done with it is checked at each call.
///
/// # Errors
/// Names the import and what to do.
pub fn admit(name: &str, handler: &str, grants: &Grants) -> Result<(), String> {
    match classify(name) {
        Class::Ambient => Ok(()),
        Class::Capability { grant: "email", here: true, .. } if grants.email.is_some() => Ok(()),
        Class::Capability { grant: "publish", here: true, .. } if grants.publish.is_some() => Ok(()),
        Class::Capability { grant: "keyvalue", here: true, .. } if !grants.keyvalue.is_empty() => Ok(()),
        Class::Capability { here: false, .. } => Err(format!("imports `{name}`, which is not in this version yet")),
        Class::Capability { line, .. } => {
            Err(format!("imports `{name}`, which is not granted (add to weir.toml under [handler.{handler}.grants]: {line})"))
        }
        Class::Unknown => Err(match versions_known(name) {
            Some(versions) => format!("imports `{name}`, and Weir has that interface in version {versions} only"),
            None => format!("imports `{name}`, which Weir does not have"),
        }),
    }
}

/// By the semver rule of the linker: any 0.2.x release up to the newest that is linked; release candidates are other interfaces.
fn is_wasi_02(version: &str) -> bool {
    version.strip_prefix("0.2.").and_then(|patch| patch.parse::<u64>().ok()).is_some_and(|patch| patch <= WASI_PATCH_MAX)
}

/// As an export every 0.2.x release is served: nothing in it can be newer than what calls it.
pub(crate) fn is_wasi_02_release(version: &str) -> bool {
    version.strip_prefix("0.2.").is_some_and(|patch| patch.parse::<u64>().is_ok())
}

/// By the same rule: every 0.1.x of Weir's own interfaces is served.
pub(crate) fn is_weir_01(version: &str) -> bool {
    version.strip_prefix("0.1.").is_some_and(|patch| patch.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PublishGrant;

    #[test]
    fn classes_by_name_and_version() {
        let class = |name| classify(name).name();
        assert_eq!(class("wasi:cli/environment@0.2.0"), "ambient");
        assert_eq!(class("wasi:sockets/tcp@0.2.12"), "ambient");
        assert_eq!(class("wasi:cli/environment@0.2.13"), "unknown");
        assert_eq!(class("wasi:cli/environment@0.3.0"), "unknown");
        assert_eq!(class("wasi:cli/environment@0.2.0-rc-2023-11-10"), "unknown");
        assert_eq!(class("wasi:config/store@0.2.0-rc.1"), "ambient");
        assert_eq!(class("wasi:config/store@0.2.0"), "unknown");
        assert_eq!(class("weir:events/email@0.1.0"), "capability");
        assert_eq!(class("weir:events/email@0.2.0"), "unknown");
        assert_eq!(class("weir:events/publisher@0.1.3"), "capability");
        assert_eq!(class("wasi:keyvalue/store@0.2.0-draft2"), "capability");
        assert_eq!(class("wasi:keyvalue/batch@0.2.0-draft"), "capability");
        assert_eq!(class("wasi:keyvalue/watcher@0.2.0-draft2"), "unknown");
        assert_eq!(class("wasi:keyvalue/store@0.2.0"), "unknown");
        assert_eq!(class("acme:thing/other"), "unknown");
        assert_eq!(class("wasi_snapshot_preview1#fd_write"), "ambient");
        assert_eq!(class("wasi_snapshot_preview1#fd_fly"), "unknown");
        assert_eq!(class("wasi_unstable#fd_write"), "unknown");
        assert_eq!(class("env#memory"), "unknown");
    }

    #[test]
    fn refusals_say_what_to_do() {
        let error = |name| admit(name, "mailer", &Grants::default()).unwrap_err();
        assert!(error("weir:events/email@0.1.0").contains("[handler.mailer.grants]: email = {"));
        assert!(error("wasi:cli/environment@0.3.0").contains("in version 0.2.0 to 0.2.12 only"));
        assert!(
            error("wasi:keyvalue/store@0.2.0-draft2").contains(r#"[handler.mailer.grants]: keyvalue = [{ bucket = "NAME" }]"#)
        );
        assert!(error("wasi:keyvalue/store@0.2.0").contains("in version 0.2.0-draft, 0.2.0-draft2 only"));
        assert!(error("acme:thing/other@1.0.0").contains("does not have"));
        assert!(error("env#memory").contains("does not have"));
        assert!(error("wasi_unstable#fd_write").contains("in version wasi_snapshot_preview1 only"));
        assert!(error("weir:events/publisher@0.1.0").contains(r#"[handler.mailer.grants]: publish = ["QUEUE"]"#));
        assert!(error("wasi:messaging/producer@0.2.0-draft").contains("not in this version yet"));
    }

    #[test]
    fn a_grant_admits_what_this_version_has() {
        let grants = Grants { publish: Some(PublishGrant::default()), ..Grants::default() };
        let admit = |name| admit(name, "h", &grants);
        assert_eq!(admit("weir:events/publisher@0.1.0"), Ok(()));
        assert!(admit("weir:events/email@0.1.0").is_err_and(|error| error.contains("email = {")));
        assert!(admit("wasi:messaging/producer@0.2.0-draft").is_err_and(|error| error.contains("not in this version yet")));
    }
}
