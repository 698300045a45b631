//! A proxy before a server, which can be told to pass nothing on: to both sides the connection then looks alive and is silent.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::process::free_port;

/// How often a silent direction looks whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

/// A proxy on loopback; it ends with its threads, once both sides have closed.
#[derive(Debug)]
pub struct Stall {
    port: u16,
    silent: Arc<AtomicBool>,
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
        let silent = Arc::new(AtomicBool::new(false));
        let of = Arc::clone(&silent);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                // Only what was connected before is silent: a new connection goes through.
                let cut = Arc::new(AtomicBool::new(false));
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let (silent, cut) = (Arc::clone(&of), Arc::clone(&cut));
                    std::thread::spawn(move || pass(from, to, &silent, &cut));
                }
            }
        });
        Self { port: own, silent }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing is passed on over any connection, and none is closed.
    pub fn silence(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// New connections go through again; those that were silent stay so.
    pub fn speak(&self) {
        self.silent.store(false, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool, cut: &AtomicBool) {
    use std::io::{Read as _, Write as _};
    let mut some = vec![0; 64 << 10];
    if from.set_read_timeout(Some(LOOK)).is_err() {
        return;
    }
    loop {
        let read = from.read(&mut some);
        if silent.load(Ordering::SeqCst) {
            cut.store(true, Ordering::SeqCst);
        }
        match read {
            Ok(0) => break,
            // What comes over a silent connection is lost.
            Ok(_) if cut.load(Ordering::SeqCst) => {}
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
    if !cut.load(Ordering::SeqCst) {
        let _ = to.shutdown(std::net::Shutdown::Both);
    }
}
