//! `email-rules.toml` as it ships: every type in every language, with what may be missing and what may not.

use serde_json::{Value, json};
use weir_sdk::{email, log, testing};

use super::{SHIPPED, check, host, mail, notify, rejected, run};

const TYPES: [&str; 4] = ["qa.questionnaire.answered", "user.registered", "order.created", "payment.success"];

/// Good data of a type; `locale` null leaves it out.
fn data(kind: &str, locale: &Value) -> Value {
    let customer = json!({ "email": "ann@example.com", "name": "Ann", "locale": locale });
    match kind {
        "qa.questionnaire.answered" => json!({
            "questionnaire": { "id": "q-7", "title": "Week <1>", "url": "https://qa.example.com/q?id=7&x=1" },
            "owner": customer,
            "respondent": { "name": "Tom", "email": "tom@example.com" },
            "answered_at": "2026-11-20T16:42:00Z",
            "answers": [{ "question": "Good?", "answer": true }, { "question": "Why?", "answer": "Tea & cake" }],
        }),
        "user.registered" => customer,
        "order.created" => json!({
            "order_id": "A-1", "customer": customer, "currency": "EUR", "total": 1274.8,
            "items": [{ "name": "Pen", "quantity": 2, "price": 12.9 }, { "name": "Book", "quantity": 1, "price": 1249 }],
        }),
        _ => json!({ "payment_id": "p-1", "order_id": "A-1", "amount": 1274.8, "currency": "EUR", "customer": customer }),
    }
}

#[test]
fn the_rules_pass_their_own_check() {
    assert_eq!(host(SHIPPED).self_test(check).result, Ok(()));
}

#[test]
fn every_type_is_written_in_every_language() {
    let subjects = [
        ("en", ["Tom answered “Week <1>”", "Welcome, Ann", "Your order A-1", "Payment received for order A-1"]),
        (
            "de",
            ["Tom hat „Week <1>“ beantwortet", "Willkommen, Ann", "Ihre Bestellung A-1", "Zahlung zu Bestellung A-1 eingegangen"],
        ),
        ("zh", ["Tom 回答了问卷“Week <1>”", "欢迎您，Ann", "您的订单 A-1", "订单 A-1 付款成功"]),
    ];
    for (locale, subjects) in subjects {
        for (kind, subject) in TYPES.into_iter().zip(subjects) {
            let mail = mail(run(SHIPPED, kind, &data(kind, &json!(locale))));
            assert_eq!(mail.subject, subject);
            assert_eq!(mail.to, ["Ann <ann@example.com>"]);
            assert_eq!(mail.sender_name.as_deref(), Some("QA"));
            let (text, html) = (mail.text.unwrap(), mail.html.unwrap());
            assert!(html.contains(&format!("<html lang=\"{locale}\">")), "{kind} {locale}");
            assert!(text.contains("Ann") && html.contains("Ann"), "{kind} {locale}");
            assert!(text.contains("\n-- \nQA\n"), "{kind} {locale}");
            for part in [&text, &html] {
                assert!(!part.contains("{{") && !part.contains("{%"), "{kind} {locale}: {part}");
            }
        }
    }
}

#[test]
fn the_locale_falls_back() {
    for (locale, subject) in [
        (json!("de-AT"), "Willkommen, Ann"),
        (json!("zh_Hans_CN"), "欢迎您，Ann"),
        (json!("fr"), "Welcome, Ann"),
        (json!(null), "Welcome, Ann"),
        (json!(7), "Welcome, Ann"),
    ] {
        assert_eq!(mail(run(SHIPPED, "user.registered", &data("user.registered", &locale))).subject, subject, "{locale}");
    }
}

#[test]
fn amounts_are_those_of_the_language() {
    for (locale, total) in [("en", "€1,274.80"), ("de", "1.274,80\u{a0}€"), ("zh", "€1,274.80")] {
        for kind in ["order.created", "payment.success"] {
            let mail = mail(run(SHIPPED, kind, &data(kind, &json!(locale))));
            assert!(mail.text.unwrap().contains(total), "{kind} {locale}");
            assert!(mail.html.unwrap().contains(total), "{kind} {locale}");
        }
    }
}

#[test]
fn an_order_is_a_table_and_an_answer_can_be_answered() {
    let order = mail(run(SHIPPED, "order.created", &data("order.created", &json!("en"))));
    assert_eq!(order.html.as_ref().unwrap().matches("<tr>\n<td").count(), 3, "two items and the total");
    let payment = mail(run(SHIPPED, "payment.success", &data("payment.success", &json!("de"))));
    assert_eq!(order.headers, payment.headers, "an order and its payment are one conversation");

    let kind = "qa.questionnaire.answered";
    let answer = mail(run(SHIPPED, kind, &data(kind, &json!("en"))));
    assert_eq!(answer.reply_to, ["Tom <tom@example.com>"]);
    let (text, html) = (answer.text.unwrap(), answer.html.unwrap());
    assert!(html.contains("<a href=\"https://qa.example.com/q?id=7&amp;x=1\""), "{html}");
    assert!(html.contains("Week &lt;1&gt;") && html.contains("Tea &amp; cake"), "{html}");
    assert!(text.contains("Good?\n  yes") && text.contains("Tea & cake"), "{text}");
    assert!(text.contains("20 November 2026, 16:42 UTC"), "{text}");
}

#[test]
fn what_is_optional_may_be_missing() {
    let kind = "qa.questionnaire.answered";
    let mut event = data(kind, &json!("de"));
    event["respondent"].as_object_mut().unwrap().remove("email");
    event["owner"].as_object_mut().unwrap().remove("name");
    event["answers"] = json!({ "Gut?": ["ja", "sehr"], "Warum?": [null, "so"] });
    let mail = mail(run(SHIPPED, kind, &event));
    assert_eq!((mail.reply_to.len(), mail.to), (0, vec!["ann@example.com".to_owned()]));
    let text = mail.text.unwrap();
    assert!(text.contains("Guten Tag,") && text.contains("Gut?\n  ja, sehr") && text.contains("Warum?\n  –, so"), "{text}");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for (kind, pointer, found, reason) in [
        (
            "qa.questionnaire.answered",
            "/owner",
            json!(null),
            "rule `questionnaire-answered`: `to`: `data.owner` is missing (expected an address)",
        ),
        (
            "qa.questionnaire.answered",
            "/owner/email",
            json!(5),
            "rule `questionnaire-answered`: `to`: `data.owner.email` is a number, expected an address",
        ),
        (
            "qa.questionnaire.answered",
            "/questionnaire/title",
            json!(null),
            "rule `questionnaire-answered`: `mail.en.subject` line 1: `data.questionnaire.title` is missing",
        ),
        (
            "qa.questionnaire.answered",
            "/questionnaire/url",
            json!(null),
            "rule `questionnaire-answered`: `mail.en.text` line 8: `data.questionnaire.url` is missing",
        ),
        (
            "qa.questionnaire.answered",
            "/answered_at",
            json!("soon"),
            "rule `questionnaire-answered`: `mail.en.text` line 3: `data.answered_at|datetime`: `soon` is not a time (expected such as `2026-11-21T09:12:00Z`)",
        ),
        (
            "qa.questionnaire.answered",
            "/answers",
            json!(null),
            "rule `questionnaire-answered`: `mail.en.text` line 4: `data.answers` is missing",
        ),
        ("user.registered", "/name", json!(null), "rule `welcome`: `mail.en.subject` line 1: `data.name` is missing"),
        (
            "order.created",
            "/customer/email",
            json!("nobody"),
            "rule `order-confirmation`: `to`: `data.customer.email`: `nobody` is not one address (expected such as `ann@example.com`)",
        ),
        (
            "order.created",
            "/items/1/price",
            json!(null),
            "rule `order-confirmation`: `mail.en.text` line 5: `item.price|money(data.currency)` is missing",
        ),
        ("order.created", "/items", json!(null), "rule `order-confirmation`: `mail.en.text` line 4: `data.items` is missing"),
        (
            "order.created",
            "/total",
            json!("much"),
            "rule `order-confirmation`: `mail.en.text` line 8: `data.total|money(data.currency)`: `much` is not a number",
        ),
        (
            "payment.success",
            "/order_id",
            json!(null),
            "rule `payment-receipt`: `mail.en.subject` line 1: `data.order_id` is missing",
        ),
    ] {
        let mut event = data(kind, &json!("en"));
        *event.pointer_mut(pointer).unwrap() = found;
        let run = run(SHIPPED, kind, &event);
        assert_eq!(rejected(run.result), reason);
        assert!(run.mails.is_empty());
    }
}

#[test]
fn an_event_without_a_rule_is_done() {
    let run = host(SHIPPED).run(notify, testing::event("user.deleted", ()));
    assert_eq!((run.result, run.mails.len()), (Ok(()), 0));
    assert_eq!(run.logs[0].level, log::Level::Debug);
}

#[test]
fn a_retried_event_does_not_send_twice() {
    let event = || testing::event("user.registered", data("user.registered", &json!("en")));
    let mut host = host(SHIPPED).mail_error(email::Error::Unavailable("connection refused".into()));
    let expected = weir_sdk::retry("rule `welcome`: the relay can't take the mail now: connection refused");
    assert_eq!(host.run(notify, event()).result, Err(expected));
    host.mail_works();
    assert_eq!(host.run(notify, event()).mails.len(), 1);
    assert_eq!(host.run(notify, event()).mails.len(), 0);
}

#[test]
fn a_refused_mail_is_rejected_with_its_rule() {
    for (error, reason) in [
        (
            email::Error::Denied("`ann@example.com` is not granted".into()),
            "rule `welcome`: the mail is not granted: `ann@example.com` is not granted",
        ),
        (email::Error::Rejected("550 no such user".into()), "rule `welcome`: the relay refused the mail: 550 no such user"),
        (email::Error::Invalid("`headers`: `From`".into()), "rule `welcome`: not a valid mail: `headers`: `From`"),
    ] {
        let run =
            host(SHIPPED).mail_error(error).run(notify, testing::event("user.registered", data("user.registered", &json!("en"))));
        assert_eq!(rejected(run.result), reason);
    }
}

#[test]
fn the_sample_events_are_mailed() {
    let events: Vec<Value> =
        include_str!("../../events.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.iter().map(|event| event["type"].as_str().unwrap()).collect::<Vec<_>>(), TYPES);
    for event in events {
        assert!(event.get("id").is_none(), "each run gives fresh ones");
        let mail = mail(run(SHIPPED, event["type"].as_str().unwrap(), &event["data"]));
        assert!(mail.to.iter().all(|address| address.trim_end_matches('>').ends_with("@example.com")));
    }
}
