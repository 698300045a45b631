//! The connection of one `nsqd` by which events are published. It says whether the server is there, too.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::client::Problem;
use super::client::command::NOP;
use super::client::connection::{Connection, Reader};
use super::client::frame::Frame;
use super::client::identify::silence;
use super::line::{Feed, Line};
use super::shared::Shared;

/// How long a server that no longer reads may take to say why: it closes the connection after most refusals.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Keeps the connection until its line has ended.
pub(super) async fn keep(shared: Arc<Shared>, line: Arc<Line>) {
    let manner = &shared.manner;
    let mut failures = 0;
    loop {
        let made = line.ended.run_until_cancelled(Connection::open(&line.address, manner)).await;
        let problem = match made {
            None => return,
            Some(Err(problem)) => problem,
            Some(Ok(connection)) => {
                failures = 0;
                shared.learn(&connection.negotiated);
                let feed = Arc::new(Feed::new(&connection.negotiated));
                line.up(&feed);
                let ended = line.ended.run_until_cancelled(session(connection, &feed, silence(manner.lease))).await;
                feed.wire.close();
                let Some(problem) = ended else { return };
                problem
            }
        };
        failures += 1;
        tracing::debug!(server = %line.address, error = %problem, "nsqd is away, connecting again");
        line.down(problem);
        if !line.pause(failures).await {
            return;
        }
    }
}

async fn session(connection: Connection, feed: &Feed, silence: Duration) -> Problem {
    let (mut reader, mut writer) = connection.split();
    let mut reading = pin!(answers(feed, &mut reader));
    tokio::select! {
        problem = &mut reading => problem,
        written = feed.wire.write_to(&mut writer, silence) => {
            let lost = written.err().unwrap_or_else(|| Problem::Away("the queue is closed".to_owned()));
            // Whoever asked is answered by what came before the end.
            tokio::time::timeout(LAST_WORDS, reading).await.unwrap_or(lost)
        }
    }
}

/// Hands answers to who waits for them, until the connection ends.
async fn answers(feed: &Feed, reader: &mut Reader) -> Problem {
    loop {
        let frames = match reader.frames().await {
            Ok(frames) => frames,
            Err(problem) => return problem,
        };
        for frame in frames {
            match frame {
                Frame::Heartbeat => {
                    feed.wire.put(|out| out.extend_from_slice(NOP));
                }
                Frame::Response(_) => feed.wire.done(),
                // The server closes the connection after it.
                Frame::Error(refusal) => {
                    feed.wire.refused(refusal.clone());
                    return Problem::Refused(refusal);
                }
                Frame::CloseWait | Frame::Message(_) => {}
            }
        }
    }
}
