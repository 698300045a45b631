//! A mailer over the `file:` relay and a real store. SMTP stands in `tests/tests/mail.rs`, against a real server.

use std::path::{Path, PathBuf};

use mail_parser::MessageParser;

use super::*;
use crate::config::{Rate, Relay};
use crate::event::Event;
use crate::store::Store;

const BOUND: Duration = Duration::from_secs(20);
const KEPT: Duration = Duration::from_secs(3_600);

struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn outbox(&self) -> PathBuf {
        self.folder.path().join("made/outbox")
    }

    fn relays(&self) -> Relays {
        Relays::new(Store::open(&self.folder.path().join("data")).unwrap(), KEPT, tokio::runtime::Handle::current())
    }

    fn grant(&self) -> EmailGrant {
        EmailGrant {
            relay: Relay::File(self.outbox()),
            from: "QA <noreply@example.com>".to_owned(),
            to: vec!["*@example.com".to_owned()],
            rate: None,
        }
    }
}

fn run(id: &str) -> MailRun {
    MailRun::new(&Event { id: id.to_owned(), source: "/test".to_owned(), ..Event::default() })
}

fn mail(to: &str) -> Message {
    Message { to: vec![to.to_owned()], subject: "Hello".to_owned(), text: Some("hi".to_owned()), ..Message::default() }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).map(|dir| dir.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
    files.sort();
    files
}

#[tokio::test]
async fn a_mail_becomes_a_file_named_by_time_and_identity() {
    let setup = Setup::new();
    let mailer = Mailer::new("mailer", &setup.grant(), &setup.relays()).unwrap();
    let message = Message { bcc: vec!["b@example.com".to_owned()], ..mail("/etc/a@example.com") };
    let message_id = mailer.send(&run("../../event"), &message, BOUND).await.unwrap();
    let files = files(&setup.outbox());
    let [file] = files.as_slice() else { panic!("{files:?}") };
    let name = file.file_name().unwrap().to_str().unwrap();
    let (time, digits) = name.strip_suffix(".eml").unwrap().split_once('-').unwrap();
    assert!(time.len() == "20231114T221320.007Z".len() && time.ends_with('Z'), "{name}");
    assert!(digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    assert!(message_id.starts_with(&format!("<{digits}")) && message_id.ends_with("@example.com>"), "{message_id}");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "CRLF only");
    let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
    assert_eq!(
        parsed.header_raw("X-Weir-Recipients").unwrap().split_whitespace().collect::<String>(),
        "/etc/a@example.com,b@example.com"
    );
    assert_eq!((parsed.subject(), parsed.bcc()), (Some("Hello"), None));
}

#[tokio::test]
async fn the_same_mail_goes_once_also_after_a_restart() {
    let setup = Setup::new();
    let send = async |relays: &Relays, handler: &str, id: &str, message: &Message| {
        let mailer = Mailer::new(handler, &setup.grant(), relays).unwrap();
        mailer.send(&run(id), message, BOUND).await.unwrap()
    };
    let first = {
        let relays = setup.relays();
        let first = send(&relays, "mailer", "1", &mail("a@example.com")).await;
        assert_eq!(send(&relays, "mailer", "1", &mail("A name <a@EXAMPLE.com>")).await, first, "the next attempt");
        first
    };
    let relays = setup.relays();
    assert_eq!(send(&relays, "mailer", "1", &mail("a@example.com")).await, first, "after a restart");
    assert_eq!(files(&setup.outbox()).len(), 1);
    let keyed = Message { key: Some("welcome".to_owned()), ..mail("a@example.com") };
    let others = [
        send(&relays, "mailer", "2", &mail("a@example.com")).await,
        send(&relays, "other", "1", &mail("a@example.com")).await,
        send(&relays, "mailer", "1", &mail("b@example.com")).await,
        send(&relays, "mailer", "1", &keyed).await,
    ];
    assert_eq!(send(&relays, "mailer", "1", &Message { key: keyed.key.clone(), ..mail("c@example.com") }).await, others[3]);
    assert!(!others.contains(&first));
    assert_eq!(files(&setup.outbox()).len(), 5);
}

#[tokio::test]
async fn two_mails_to_the_same_recipient_in_one_run_both_go() {
    let setup = Setup::new();
    let relays = setup.relays();
    let mailer = Mailer::new("mailer", &setup.grant(), &relays).unwrap();
    for attempt in 0..2 {
        let run = run("1");
        for _ in 0..3 {
            mailer.send(&run, &mail("a@example.com"), BOUND).await.unwrap();
        }
        assert_eq!(files(&setup.outbox()).len(), 3, "attempt {attempt}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_of_the_same_mail_at_once_hand_over_one() {
    let setup = Setup::new();
    let mailer = Mailer::new("mailer", &setup.grant(), &setup.relays()).unwrap();
    let sends = (0..50).map(|_| tokio::spawn(mailer.send(&run("1"), &mail("a@example.com"), BOUND)));
    let ids: std::collections::BTreeSet<_> =
        futures_util::future::join_all(sends).await.into_iter().map(|sent| sent.unwrap().unwrap()).collect();
    assert_eq!((ids.len(), files(&setup.outbox()).len()), (1, 1));
}

#[tokio::test]
async fn what_is_not_granted_or_no_message_leaves_nothing() {
    let setup = Setup::new();
    let mailer = Mailer::new("mailer", &setup.grant(), &setup.relays()).unwrap();
    let send = |message: Message| mailer.send(&run("1"), &message, BOUND);
    assert!(matches!(send(mail("a@evil.test")).await, Err(MailError::Denied(_))));
    assert!(matches!(send(Message { cc: vec!["a@evil.test".into()], ..mail("a@example.com") }).await, Err(MailError::Denied(_))));
    assert!(matches!(
        send(Message { subject: "a\r\nBcc: a@evil.test".into(), ..mail("a@example.com") }).await,
        Err(MailError::Invalid(_))
    ));
    assert!(matches!(send(Message { to: Vec::new(), ..mail("x") }).await, Err(MailError::Invalid(_))));
    assert!(files(&setup.outbox()).is_empty());
}

#[tokio::test]
async fn a_folder_that_takes_nothing_is_an_outside_failure_and_the_mail_goes_later() {
    let setup = Setup::new();
    let mailer = Mailer::new("mailer", &setup.grant(), &setup.relays()).unwrap();
    std::fs::write(setup.folder.path().join("made"), "in the way").unwrap();
    let run = run("1");
    let error = mailer.send(&run, &mail("a@example.com"), BOUND).await.unwrap_err();
    assert!(matches!(&error, MailError::Unavailable(text) if text.contains("outbox")), "{error:?}");
    std::fs::remove_file(setup.folder.path().join("made")).unwrap();
    mailer.send(&run, &mail("a@example.com"), BOUND).await.unwrap();
    assert_eq!(files(&setup.outbox()).len(), 1);
}

#[tokio::test]
async fn over_the_rate_a_mail_waits_or_fails_as_from_outside() {
    let setup = Setup::new();
    let relays = setup.relays();
    let rate = Some(Rate { count: 2, per: Duration::from_millis(400) });
    let mailer = Mailer::new("mailer", &EmailGrant { rate, ..setup.grant() }, &relays).unwrap();
    // Loaded anew: the rate is the handler's, not the version's.
    let again = Mailer::new("mailer", &EmailGrant { rate, ..setup.grant() }, &relays).unwrap();
    let other = Mailer::new("other", &EmailGrant { rate, ..setup.grant() }, &relays).unwrap();
    let begun = Instant::now();
    mailer.send(&run("1"), &mail("a@example.com"), BOUND).await.unwrap();
    mailer.send(&run("2"), &mail("a@example.com"), BOUND).await.unwrap();
    let error = again.send(&run("3"), &mail("a@example.com"), Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(&error, MailError::Unavailable(text) if text.contains("`handler.mailer.grants.email.rate`")), "{error:?}");
    other.send(&run("3"), &mail("a@example.com"), Duration::from_millis(300)).await.unwrap();
    again.send(&run("3"), &mail("a@example.com"), BOUND).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(files(&setup.outbox()).len(), 4);
}

#[tokio::test]
async fn a_mail_that_waits_for_its_turn_is_given_up_with_its_guest() {
    let setup = Setup::new();
    let rate = Some(Rate { count: 1, per: Duration::from_secs(3_600) });
    let mailer = Mailer::new("mailer", &EmailGrant { rate, ..setup.grant() }, &setup.relays()).unwrap();
    mailer.send(&run("1"), &mail("a@example.com"), BOUND).await.unwrap();
    let waiting = mailer.send(&run("2"), &mail("a@example.com"), Duration::from_secs(7_200));
    assert!(timeout(Duration::from_millis(50), waiting).await.is_err());
    timeout(BOUND, mailer.ledger.idle()).await.unwrap();
    assert_eq!(files(&setup.outbox()).len(), 1);
}

#[tokio::test]
async fn a_mail_that_a_full_store_can_not_record_is_not_sent_twice() {
    // The disk that is full is the store's own: the child process may not let files grow, and mails are smaller than the store.
    const CHILD: &str = "WEIR_TEST_FULL_STORE";
    if std::env::var_os(CHILD).is_none() {
        let name = "mail::mailer::tests::a_mail_that_a_full_store_can_not_record_is_not_sent_twice";
        let status = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        return;
    }
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let setup = Setup::new();
    let relays = setup.relays();
    let mailer = Mailer::new("mailer", &setup.grant(), &relays).unwrap();
    let limit = getrlimit(Resource::Fsize);
    // Smaller than the store's file, whose pages can then not be written; larger than a mail.
    setrlimit(Resource::Fsize, Rlimit { current: Some(4_096), maximum: limit.maximum }).unwrap();
    let error = mailer.send(&run("1"), &mail("a@example.com"), BOUND).await.unwrap_err();
    assert!(matches!(&error, MailError::Unavailable(text) if text.contains("the relay took the mail")), "{error:?}");
    assert_eq!(files(&setup.outbox()).len(), 1);
    mailer.send(&run("1"), &mail("a@example.com"), BOUND).await.unwrap_err();
    setrlimit(Resource::Fsize, limit).unwrap();
    mailer.send(&run("1"), &mail("a@example.com"), BOUND).await.unwrap();
    assert_eq!(files(&setup.outbox()).len(), 1, "recorded late, handed over once");
}

#[test]
fn grants_that_can_not_be_used_are_said() {
    let setup = Setup::new();
    let check = |grant: EmailGrant, key: &str| {
        let error = Mailer::check("mailer", &grant).unwrap_err().to_string();
        assert!(error.contains("handler.mailer.grants.email") && error.contains(key), "{error}");
    };
    check(EmailGrant { from: "nobody".to_owned(), ..setup.grant() }, "`from`: `nobody`");
    check(EmailGrant { to: vec!["*.example.com".to_owned()], ..setup.grant() }, "`*.example.com`");
    Mailer::check("mailer", &setup.grant()).unwrap();
}

#[tokio::test]
async fn what_goes_nowhere_is_captured_and_checked_like_any_mail() {
    let setup = Setup::new();
    let relays = Relays::nowhere(tokio::runtime::Handle::current());
    let mailer = Mailer::new("mailer", &setup.grant(), &relays).unwrap();
    let attachment = crate::mail::Attachment {
        name: "a.txt".to_owned(),
        content_type: "text/plain".to_owned(),
        content: b"text".to_vec(),
        content_id: None,
    };
    let message = Message {
        sender_name: Some("Shop".to_owned()),
        bcc: vec!["b@example.com".to_owned()],
        attachments: vec![attachment],
        ..mail("Ann <ann@example.com>")
    };
    let run = run("1");
    let id = mailer.send(&run, &message, BOUND).await.unwrap();
    let keyed = Message { key: Some("k".to_owned()), ..mail("c@example.com") };
    assert_eq!(mailer.send(&run, &keyed, BOUND).await, mailer.send(&run, &keyed, BOUND).await, "handed over once");
    let denied = mailer.send(&run, &mail("a@elsewhere.example"), BOUND).await.unwrap_err();
    assert!(matches!(denied, MailError::Denied(_)), "{denied:?}");
    relays.idle().await;
    let captured = relays.captured();
    assert_eq!(captured.len(), 2, "{captured:#?}");
    let first = &captured[0];
    assert_eq!((&first.message_id, first.from.as_str(), first.subject.as_str()), (&id, "Shop <noreply@example.com>", "Hello"));
    assert_eq!((&first.to, &first.bcc), (&vec!["ann@example.com".to_owned()], &vec!["b@example.com".to_owned()]));
    assert_eq!((first.text.as_deref(), first.attachments[0].size), (Some("hi"), 4));
    let parsed = MessageParser::default().parse(first.message.as_deref().unwrap()).unwrap();
    assert_eq!((parsed.subject(), parsed.attachment_count()), (Some("Hello"), 1));
    assert!(!setup.outbox().exists() && !setup.folder.path().join("data").exists());
}
