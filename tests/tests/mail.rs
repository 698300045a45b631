//! Mail handed over to a real SMTP server, and what arrived there, read with another library.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_parser::{MessageParser, MimeHeaders};
use tokio::runtime::Handle;
use weir_runtime::config::{EmailGrant, Relay, RelayTls, Secret};
use weir_runtime::event::Event;
use weir_runtime::mail::{Attachment, MailError, MailRun, Mailer, Message, Relays};
use weir_runtime::store::Store;
use weir_tests::smtp::{Options, ServerTls, SmtpServer, eventually};

const BOUND: Duration = Duration::from_secs(20);
const LOGIN: (&str, &str) = ("weir", "p4ssw0rd-never-shown");

/// A mailer and what it stands on.
struct Setup {
    data: tempfile::TempDir,
    relay: Relay,
    root: Option<Vec<u8>>,
}

impl Setup {
    fn new(server: &SmtpServer) -> Self {
        let relay = Relay::Smtp { host: "127.0.0.1".to_owned(), port: server.port(), tls: RelayTls::None, credentials: None };
        Self { data: tempfile::tempdir().unwrap(), relay, root: None }
    }

    fn secured(server: &SmtpServer, tls: RelayTls, password: &str) -> Self {
        let credentials = Some((LOGIN.0.to_owned(), Secret(password.to_owned())));
        let relay = Relay::Smtp { host: "127.0.0.1".to_owned(), port: server.port(), tls, credentials };
        Self { relay, root: Some(server.root_certificate()), ..Self::new(server) }
    }

    fn relays(&self) -> Relays {
        let mut relays = Relays::new(Store::open(self.data.path()).unwrap(), Duration::from_secs(3_600), Handle::current());
        if let Some(root) = &self.root {
            relays = relays.with_root_certificate(root).unwrap();
        }
        relays
    }

    fn mailer(&self) -> Arc<Mailer> {
        self.mailer_of(&self.relays())
    }

    fn mailer_of(&self, relays: &Relays) -> Arc<Mailer> {
        let to = vec!["*@example.com".to_owned()];
        let grant = EmailGrant { relay: self.relay.clone(), from: "QA <noreply@example.com>".to_owned(), to, rate: None };
        Mailer::new("mailer", &grant, relays).unwrap()
    }
}

fn run(id: &str) -> MailRun {
    MailRun::new(&Event { id: id.to_owned(), source: "/test".to_owned(), ..Event::default() })
}

fn mail(to: &[&str]) -> Message {
    let to = to.iter().map(|name| format!("{name}@example.com")).collect();
    Message { to, subject: "Hello".to_owned(), text: Some("hi".to_owned()), ..Message::default() }
}

fn check_rejected(sent: &Result<String, MailError>, said: &str) {
    assert!(matches!(sent, Err(MailError::Rejected(text)) if text.contains(said)), "{sent:?} should be rejected with `{said}`");
}

fn check_unavailable(sent: &Result<String, MailError>, said: &str) {
    assert!(
        matches!(sent, Err(MailError::Unavailable(text)) if text.contains(said)),
        "{sent:?} should be unavailable with `{said}`"
    );
}

#[tokio::test]
async fn what_is_sent_arrives() {
    let Some(server) = SmtpServer::start("what_is_sent_arrives", Options::default()) else { return };
    let setup = Setup::new(&server);
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let attachment = |name: &str, content_type: &str, content: &[u8], id: Option<&str>| Attachment {
        name: name.to_owned(),
        content_type: content_type.to_owned(),
        content: content.to_vec(),
        content_id: id.map(str::to_owned),
    };
    let message = Message {
        sender_name: Some("Umfragen".to_owned()),
        to: vec!["Änn Ünal <ann@example.com>".to_owned()],
        cc: vec!["cc@EXAMPLE.com".to_owned()],
        bcc: vec!["hidden@example.com".to_owned()],
        reply_to: vec!["bob@elsewhere.test".to_owned()],
        subject: "问卷已回答: Zufriedenheit — größer".to_owned(),
        text: Some("Grüße\n.\n..\nEnde\n".to_owned()),
        html: Some("<p>Grüße</p>".to_owned()),
        attachments: vec![
            attachment("Übersicht.pdf", "application/pdf", &binary, None),
            attachment("logo.png", "image/png", b"\n.\n\r.\r", Some("logo")),
        ],
        headers: vec![("List-Unsubscribe".to_owned(), "<https://example.com/u/1>".to_owned())],
        key: None,
    };
    let message_id = setup.mailer().send(&run("1"), &message, BOUND).await.unwrap();
    let received = server.messages();
    let [received] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!(received.from, "noreply@example.com");
    assert_eq!(received.to, ["ann@example.com", "cc@example.com", "hidden@example.com"]);
    assert!(!String::from_utf8_lossy(&received.content).contains("hidden"), "bcc must not be visible");
    let parsed = MessageParser::default().parse(&received.content).unwrap();
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!((from.name(), from.address()), (Some("Umfragen"), Some("noreply@example.com")));
    assert_eq!(parsed.to().unwrap().first().unwrap().name(), Some("Änn Ünal"));
    assert_eq!(parsed.subject(), Some(message.subject.as_str()));
    assert_eq!(format!("<{}>", parsed.message_id().unwrap()), message_id);
    assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n").trim_end(), "Grüße\n.\n..\nEnde");
    assert_eq!(parsed.body_html(0).unwrap().trim_end(), "<p>Grüße</p>");
    let part = |name| parsed.attachments().find(|part| part.attachment_name() == Some(name)).unwrap();
    assert_eq!(part("Übersicht.pdf").contents(), binary);
    assert_eq!((part("logo.png").contents(), part("logo.png").content_id()), (b"\n.\n\r.\r".as_slice(), Some("logo")));
    assert!(parsed.date().is_some() && parsed.bcc().is_none() && parsed.header("X-Weir-Recipients").is_none());
}

#[tokio::test]
async fn connections_are_kept_and_bounded() {
    let Some(server) = SmtpServer::start("connections_are_kept_and_bounded", Options::default()) else { return };
    let mailer = Setup::new(&server).mailer();
    for at in 0..5 {
        mailer.send(&run(&at.to_string()), &mail(&["a"]), BOUND).await.unwrap();
    }
    assert!(server.messages().iter().all(|message| message.connection == 1));
    let sends = (0..200).map(|at| mailer.send(&run(&format!("many-{at}")), &mail(&["a"]), BOUND));
    for sent in futures_util::future::join_all(sends).await {
        sent.unwrap();
    }
    let messages = server.messages();
    assert_eq!(messages.len(), 205);
    let most = messages.iter().map(|message| message.connection).max().unwrap();
    assert!(most <= 12, "{most} connections; ten at once, each for at most a hundred messages");
}

#[tokio::test]
async fn starttls_and_credentials() {
    let options = Options { tls: ServerTls::StartTls, login: Some(LOGIN), ..Options::default() };
    let Some(server) = SmtpServer::start("starttls_and_credentials", options) else { return };
    let good = Setup::secured(&server, RelayTls::StartTls, LOGIN.1);
    good.mailer().send(&run("1"), &mail(&["a"]), BOUND).await.unwrap();
    let received = server.messages();
    assert_eq!((received[0].tls, received[0].user.as_deref()), (true, Some("weir")));

    let wrong = Setup::secured(&server, RelayTls::StartTls, "wr0ng-never-shown");
    let sent = wrong.mailer().send(&run("1"), &mail(&["a"]), BOUND).await;
    check_unavailable(&sent, "refuses the credentials (535)");
    assert!(!format!("{sent:?} {wrong:?}", wrong = wrong.mailer().as_ref()).contains("wr0ng"));

    let asked = server.journal().matches("AUTH").count();
    let stranger = Setup { root: None, ..Setup::secured(&server, RelayTls::StartTls, LOGIN.1) };
    check_unavailable(&stranger.mailer().send(&run("1"), &mail(&["a"]), BOUND).await, "certificate");
    assert_eq!(server.journal().matches("AUTH").count(), asked, "no password for a server that nobody vouches for");
    assert_eq!(server.messages().len(), 1);
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    let options = Options { tls: ServerTls::Implicit, ..Options::default() };
    let Some(server) = SmtpServer::start("tls_from_the_first_byte", options) else { return };
    let mut setup = Setup::secured(&server, RelayTls::Implicit, LOGIN.1);
    let Relay::Smtp { credentials, .. } = &mut setup.relay else { panic!("an SMTP relay") };
    *credentials = None;
    setup.mailer().send(&run("1"), &mail(&["a"]), BOUND).await.unwrap();
    assert!(server.messages()[0].tls);
    setup.root = None;
    setup.data = tempfile::tempdir().unwrap();
    check_unavailable(&setup.mailer().send(&run("1"), &mail(&["a"]), BOUND).await, "certificate");
}

#[tokio::test]
async fn a_relay_without_starttls_is_told_nothing() {
    let options = Options { login: Some(LOGIN), ..Options::default() };
    let Some(server) = SmtpServer::start("a_relay_without_starttls_is_told_nothing", options) else { return };
    let relay = Relay::Smtp {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
        tls: RelayTls::StartTls,
        credentials: Some((LOGIN.0.to_owned(), Secret(LOGIN.1.to_owned()))),
    };
    let setup = Setup { relay, ..Setup::new(&server) };
    check_unavailable(&setup.mailer().send(&run("1"), &mail(&["a"]), BOUND).await, "STARTTLS");
    assert_eq!(server.journal(), "");
    // The same server, with `tls=none` written: the password goes in the clear because somebody said so.
    let mut plain = Setup::new(&server);
    let Relay::Smtp { credentials, .. } = &mut plain.relay else { panic!("an SMTP relay") };
    *credentials = Some((LOGIN.0.to_owned(), Secret(LOGIN.1.to_owned())));
    plain.mailer().send(&run("1"), &mail(&["a"]), BOUND).await.unwrap();
    assert_eq!(server.messages()[0].user.as_deref(), Some("weir"));
    // And without credentials, the relay's "authentication required" is the operator's to mend, not a rejected mail.
    check_unavailable(&Setup::new(&server).mailer().send(&run("1"), &mail(&["a"]), BOUND).await, "530");
}

#[tokio::test]
async fn the_same_mail_is_not_handed_over_twice() {
    let Some(server) = SmtpServer::start("the_same_mail_is_not_handed_over_twice", Options::default()) else { return };
    let setup = Setup::new(&server);
    let first = setup.mailer().send(&run("1"), &mail(&["a", "b"]), BOUND).await.unwrap();
    // Another store's worth of processes later: opened anew, the recipients in another order.
    for _ in 0..3 {
        assert_eq!(setup.mailer().send(&run("1"), &mail(&["b", "a"]), BOUND).await.unwrap(), first);
    }
    assert_eq!(server.messages().len(), 1);
    setup.mailer().send(&run("2"), &mail(&["a", "b"]), BOUND).await.unwrap();
    assert_eq!(server.messages().len(), 2);
}

#[tokio::test]
async fn one_refused_recipient_refuses_the_mail_before_its_content() {
    let Some(server) = SmtpServer::start("one_refused_recipient_refuses_the_mail_before_its_content", Options::default()) else {
        return;
    };
    let mailer = Setup::new(&server).mailer();
    let sent = mailer.send(&run("1"), &mail(&["ann", "reject-550", "zoe"]), BOUND).await;
    check_rejected(&sent, "recipient `reject-550@example.com`");
    check_rejected(&sent, "no such user here");
    check_unavailable(&mailer.send(&run("2"), &mail(&["ann", "later-451"]), BOUND).await, "recipient `later-451@example.com`");
    assert!(server.journal().contains("RCPT ann@") && !server.journal().contains("DATA"), "{}", server.journal());
    // The connection is as good as new.
    mailer.send(&run("3"), &mail(&["ann"]), BOUND).await.unwrap();
    check_rejected(&mailer.send(&run("4"), &mail(&["content-554"]), BOUND).await, "content refused");
    mailer.send(&run("5"), &mail(&["ann"]), BOUND).await.unwrap();
    let messages = server.messages();
    assert_eq!(messages.iter().map(|message| message.to.join(",")).collect::<Vec<_>>(), ["ann@example.com"; 2]);
    assert!(messages.iter().all(|message| message.connection == 1));
}

#[tokio::test]
async fn a_relay_that_is_away_hangs_or_hangs_up_is_an_outside_failure() {
    let Some(mut server) = SmtpServer::start("a_relay_that_is_away_hangs_or_hangs_up_is_an_outside_failure", Options::default())
    else {
        return;
    };
    let mailer = Setup::new(&server).mailer();
    check_unavailable(&mailer.send(&run("1"), &mail(&["drop"]), BOUND).await, &format!("smtp://127.0.0.1:{}", server.port()));
    let begun = Instant::now();
    check_unavailable(&mailer.send(&run("2"), &mail(&["hang"]), Duration::from_millis(300)).await, "not answered within 300 ms");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    mailer.send(&run("3"), &mail(&["a"]), BOUND).await.unwrap();
    server.kill();
    check_unavailable(&mailer.send(&run("4"), &mail(&["a"]), BOUND).await, "onnect");
    server.start_again();
    mailer.send(&run("4"), &mail(&["a"]), BOUND).await.unwrap();
    assert_eq!(server.messages().len(), 2);
}

#[tokio::test]
async fn a_relay_that_was_restarted_gets_a_new_connection_without_a_failure() {
    let Some(mut server) =
        SmtpServer::start("a_relay_that_was_restarted_gets_a_new_connection_without_a_failure", Options::default())
    else {
        return;
    };
    let mailer = Setup::new(&server).mailer();
    mailer.send(&run("1"), &mail(&["a"]), BOUND).await.unwrap();
    server.kill();
    server.start_again();
    mailer.send(&run("2"), &mail(&["a"]), BOUND).await.unwrap();
    assert_eq!(server.messages().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_half_sent_is_finished_whatever_becomes_of_the_guest() {
    let Some(server) = SmtpServer::start("a_mail_half_sent_is_finished_whatever_becomes_of_the_guest", Options::default()) else {
        return;
    };
    let setup = Setup::new(&server);
    let relays = setup.relays();
    let mailer = setup.mailer_of(&relays);
    let call = tokio::spawn(mailer.send(&run("1"), &mail(&["slow"]), BOUND));
    eventually("the content is sent", || server.journal().contains("DATA"));
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // The next attempt finds it under way, runs out of time, and hands nothing over itself.
    check_unavailable(&mailer.send(&run("1"), &mail(&["slow"]), Duration::from_millis(100)).await, "not answered");
    let early = tokio::time::timeout(Duration::from_millis(50), relays.idle()).await;
    assert!(early.is_err(), "a shutdown would wait for it");
    server.go();
    relays.idle().await;
    let message_id = mailer.send(&run("1"), &mail(&["slow"]), BOUND).await.unwrap();
    let received = server.messages();
    assert_eq!(received.len(), 1);
    assert_eq!(server.journal().matches("DATA").count(), 1);
    let parsed = MessageParser::default().parse(&received[0].content).unwrap();
    assert_eq!(format!("<{}>", parsed.message_id().unwrap()), message_id);
}

#[tokio::test]
async fn no_text_becomes_a_header_a_recipient_or_a_second_mail() {
    let Some(server) = SmtpServer::start("no_text_becomes_a_header_a_recipient_or_a_second_mail", Options::default()) else {
        return;
    };
    let mailer = Setup::new(&server).mailer();
    let evil = "x\r\nBcc: evil@example.com\r\nX-Evil: 1";
    let attempts = [
        Message { subject: evil.to_owned(), ..mail(&["a"]) },
        Message { sender_name: Some(evil.to_owned()), ..mail(&["a"]) },
        Message { to: vec![format!("{evil} <a@example.com>")], ..mail(&[]) },
        Message { to: vec!["a@example.com> NOTIFY=NEVER\r\nRCPT TO:<evil@example.com".to_owned()], ..mail(&[]) },
        Message { reply_to: vec![format!("\"{evil}\" <a@example.com>")], ..mail(&["a"]) },
        Message { headers: vec![("X-A".to_owned(), evil.to_owned())], ..mail(&["a"]) },
        Message { headers: vec![("X-A: 1\r\nBcc".to_owned(), "evil@example.com".to_owned())], ..mail(&["a"]) },
        Message { headers: vec![("Bcc".to_owned(), "evil@example.com".to_owned())], ..mail(&["a"]) },
    ];
    for (at, message) in attempts.iter().enumerate() {
        let sent = mailer.send(&run(&at.to_string()), message, BOUND).await;
        assert!(matches!(sent, Err(MailError::Invalid(_))), "{message:?}: {sent:?}");
    }
    assert_eq!(server.journal(), "");
    // A body may hold anything: it stays a body.
    for end in ["\r\n.\r\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r"] {
        let smuggled = format!("before{end}MAIL FROM:<evil@example.com>\r\nRCPT TO:<evil@example.com>\r\nDATA\r\nevil{end}");
        let key = Some(format!("{end:?}\r\nBcc: evil@example.com"));
        let message = Message { text: Some(smuggled.clone()), html: Some(smuggled), key, ..mail(&["a"]) };
        mailer.send(&run("body"), &message, BOUND).await.unwrap();
    }
    let messages = server.messages();
    assert_eq!(messages.len(), 6);
    for message in messages {
        assert_eq!((message.from.as_str(), message.to.join(",").as_str()), ("noreply@example.com", "a@example.com"));
        let text = String::from_utf8(message.content.clone()).unwrap();
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "a lone CR or LF: {text:?}");
        let parsed = MessageParser::default().parse(&message.content).unwrap();
        assert!(parsed.bcc().is_none() && parsed.header("X-Evil").is_none());
        assert!(parsed.body_text(0).unwrap().contains("MAIL FROM:<evil@example.com>"));
    }
}

#[tokio::test]
async fn who_is_not_granted_is_never_named_to_the_relay() {
    let Some(server) = SmtpServer::start("who_is_not_granted_is_never_named_to_the_relay", Options::default()) else { return };
    let mailer = Setup::new(&server).mailer();
    for address in [
        "a@example.com.evil.test",
        "a@sub.example.com",
        "a@evil.test",
        "\"a@example.com\" <a@evil.test>",
        "a%evil.test@example.com",
    ] {
        let sent = mailer.send(&run("1"), &Message { to: vec![address.to_owned()], ..mail(&[]) }, BOUND).await;
        assert!(
            matches!(&sent, Err(MailError::Denied(text)) if text.contains("handler.mailer.grants.email.to")),
            "{address}: {sent:?}"
        );
    }
    assert_eq!(server.journal(), "");
}
