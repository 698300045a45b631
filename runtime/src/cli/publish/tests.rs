//! Publishing over a real queue, directly and through the real HTTP side.

use std::num::NonZeroUsize;

use super::*;
use crate::clock::Timestamp;
use crate::queue::memory::MemoryQueue;
use crate::queue::{Queue, Start};

const INTAKE: Intake = Intake { queue: "events", kind: "com.example.raw", map: None, max_event: 10_000, now: Timestamp(1_500) };

struct Imported {
    done: Result<(), CliError>,
    printed: String,
    held: Vec<String>,
}

/// Imports lines into a queue of this size, and takes out what it then holds.
fn import(lines: &str, max_size: u64) -> Imported {
    let queue: Arc<dyn Queue> = MemoryQueue::new("events", max_size);
    let direct = Direct::over(queue.clone());
    direct.ask(|queue| queue.subscribe("weir-x", Start::New)).unwrap();
    let sink = Sink::direct("events", direct);
    let mut printed = Vec::new();
    let mut reader = io::BufReader::new(lines.as_bytes());
    let done = Import::new(&sink, INTAKE, None).run(&mut reader, &mut Output::new(&mut printed, false), true);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let held = runtime.block_on(async {
        let mut held = Vec::new();
        while held.len() as u64 <= queue.depth().await.unwrap().subscriptions[0].events.unwrap() {
            let pulling = queue.pull("weir-x", NonZeroUsize::new(10_000).unwrap());
            let Some(Ok(pulled)) = futures_util::FutureExt::now_or_never(pulling) else { break };
            held.extend(pulled.into_iter().map(|delivery| delivery.event.id.clone()));
        }
        held
    });
    Imported { done, printed: String::from_utf8(printed).unwrap(), held }
}

fn line(id: usize) -> String {
    format!("{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/s\",\"type\":\"t\"}}\n")
}

#[test]
fn all_lines_are_accepted_in_order() {
    let lines: String = (0..2_500).map(line).collect();
    let imported = import(&lines, 64 << 20);
    imported.done.unwrap();
    let expected: Vec<String> = (0..2_500).map(|id| id.to_string()).collect();
    assert_eq!(imported.held, expected);
    let printed: Accepted = serde_json::from_str(&imported.printed).unwrap();
    assert_eq!(printed, Accepted { accepted: 2_500, ids: expected });
    let nothing = import("\n  \n", 1 << 20);
    nothing.done.unwrap();
    assert_eq!(serde_json::from_str::<Accepted>(&nothing.printed).unwrap(), Accepted::default());
}

#[test]
fn it_stops_at_the_first_line_that_cannot_be_taken() {
    let lines = format!("{}\n{}{}nonsense\n{}", line(0), line(1), line(2), line(3));
    let imported = import(&lines, 64 << 20);
    let error = imported.done.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("line 5 can't be taken: it is no JSON object"), "{error}");
    assert!(error.to_string().contains("(3 events before it were accepted)"), "{error}");
    assert_eq!(imported.held, ["0", "1", "2"]);
    assert_eq!(serde_json::from_str::<Accepted>(&imported.printed).unwrap().accepted, 3);
}

#[test]
fn a_full_queue_takes_what_fits_and_names_the_line() {
    let lines: String = (0..100).map(line).collect();
    let imported = import(&lines, 20_000);
    let error = imported.done.unwrap_err().to_string();
    let accepted = imported.held.len();
    assert!(accepted > 0 && accepted < 100, "{accepted}");
    assert!(error.contains(&format!("line {} can't be taken", accepted + 1)) && error.contains("is full"), "{error}");
    assert!(error.contains(&format!("({accepted} events before it were accepted)")), "{error}");
}

#[test]
fn an_event_is_made_of_flags() {
    let text = |text: &str| Some(text.to_owned());
    let build = |args: &EventArgs, data: Option<&'static [u8]>| args.build("t".to_owned(), data.map(Bytes::from_static), &INTAKE);
    let event = build(&EventArgs::default(), None).unwrap();
    assert_eq!((event.kind.as_str(), event.source.as_str()), ("t", "/weir/queue/events"));
    assert_eq!((event.time.as_deref(), event.data.clone()), (Some("1970-01-01T00:00:01.500Z"), None));
    assert_eq!(uuid::Uuid::parse_str(&event.id).unwrap().get_version_num(), 7);

    let ext = vec!["partitionkey=a=b".to_owned(), "time=2020-01-01T00:00:00Z".to_owned()];
    let args = EventArgs { source: text("/mine"), id: text("1"), subject: text("s"), ext, ..EventArgs::default() };
    let event = build(&args, Some(b"{\"a\":1}")).unwrap();
    assert_eq!((event.id.as_str(), event.source.as_str(), event.subject.as_deref()), ("1", "/mine", Some("s")));
    assert_eq!((event.extension("partitionkey"), event.time.as_deref()), (Some("a=b"), Some("2020-01-01T00:00:00Z")));
    assert_eq!((event.datacontenttype, event.data.as_deref()), (None, Some(&b"{\"a\":1}"[..])));
    let bytes = build(&EventArgs::default(), Some(b"\xff")).unwrap();
    assert_eq!(bytes.datacontenttype.as_deref(), Some("application/octet-stream"));

    for (ext, expected) in [
        ("id=1", "use `--id`"),
        ("nothing", "not of the form"),
        ("Upper=1", "`Upper` is no attribute name"),
        ("weirattempt=1", "Weir's own"),
        ("time=noon", "RFC 3339"),
    ] {
        let args = EventArgs { ext: vec![ext.to_owned()], ..EventArgs::default() };
        assert!(build(&args, None).unwrap_err().contains(expected), "{ext}");
    }
    assert!(EventArgs::default().build(String::new(), None, &INTAKE).unwrap_err().contains("`type` is missing"));
    let wrong = EventArgs { data: text("{"), ..EventArgs::default() };
    assert!(wrong.read_data().unwrap_err().to_string().contains("`--data` is not JSON"));
}

#[test]
fn urls_name_their_queue() {
    for (url, name) in [("/data/events", "events"), ("/data/Late Ones", "late-ones"), ("/", "disk"), ("/data/7", "disk")] {
        assert_eq!(name_of(&QueueUrl::Disk(url.into())), name, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_go_through_a_server_in_batches() {
    let server = crate::admin::tests::start(crate::admin::tests::Choice::default()).await;
    let url = format!("http://{}", server.address);
    let imported = tokio::task::spawn_blocking(move || {
        let sink = Sink::server("events", crate::cli::client::Client::new(&url, None).unwrap());
        // The server's `max-event` is smaller than what this side takes: it refuses the line that is over it.
        let intake = Intake { max_event: 1 << 20, ..INTAKE };
        let large = format!("{{\"a\":\"{}\"}}\n", "x".repeat(100_000));
        let lines: String = (0..1_500).map(line).chain([large]).chain((1_501..1_600).map(line)).collect();
        let mut printed = Vec::new();
        let mut reader = io::BufReader::with_capacity(lines::READ_AHEAD, lines.as_bytes());
        let done = Import::new(&sink, intake, None).run(&mut reader, &mut Output::new(&mut printed, false), false);
        (done.unwrap_err().to_string(), String::from_utf8(printed).unwrap())
    });
    let (error, printed) = imported.await.unwrap();
    assert!(error.contains("line 1501 can't be taken: event of"), "{error}");
    assert!(error.contains("(1500 events before it were accepted)"), "{error}");
    assert_eq!(printed, "accepted 1500\n");
    assert_eq!(server.queue.depth().await.unwrap().events, Some(1_500));
}
