//! A proxy before a server, which can be told to pass nothing on: to both sides the connection then looks alive and is silent.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::process::free_port;

/// How often a silent direction looks whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

/// A proxy on loopback; it ends with its threads, once both sides have closed.
#[derive(Debug)]
pub struct Stall {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// All that is connected is silent.
    silent: AtomicBool,
    /// Connections so far: the number of the last one.
    accepted: AtomicU64,
    /// Those up to this number are silent for good.
    cut: AtomicU64,
}

impl Stall {
    /// Before what listens on this port.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn before(port: u16) -> Self {
        let own = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, own)).expect("the port is free");
        let state = Arc::new(State::default());
        let of = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                let number = of.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                // Only what was connected before is silent: a new connection goes through.
                let cut = Arc::new(AtomicBool::new(false));
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let (state, cut) = (Arc::clone(&of), Arc::clone(&cut));
                    std::thread::spawn(move || {
                        let is_silent = || {
                            let now = state.silent.load(Ordering::SeqCst) || number <= state.cut.load(Ordering::SeqCst);
                            cut.fetch_or(now, Ordering::SeqCst) || now
                        };
                        pass(from, to, is_silent);
                    });
                }
            }
        });
        Self { port: own, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing is passed on over any connection, and none is closed.
    pub fn silence(&self) {
        self.state.silent.store(true, Ordering::SeqCst);
    }

    /// From now on nothing is passed on over the connections that there are, and none is closed; new ones go through.
    pub fn cut(&self) {
        self.state.cut.store(self.state.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// New connections go through again; those that were silent stay so.
    pub fn speak(&self) {
        self.state.silent.store(false, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_silent: impl Fn() -> bool) {
    use std::io::{Read as _, Write as _};
    let mut some = vec![0; 64 << 10];
    if from.set_read_timeout(Some(LOOK)).is_err() {
        return;
    }
    loop {
        let read = from.read(&mut some);
        let silent = is_silent();
        match read {
            Ok(0) => break,
            // What comes over a silent connection is lost.
            Ok(_) if silent => {}
            Ok(count) => {
                if to.write_all(&some[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // A silent connection is not closed for the other side.
    if !is_silent() {
        let _ = to.shutdown(std::net::Shutdown::Both);
    }
}
