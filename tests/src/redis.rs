//! A real Redis server (`redis-server`) in a process of its own, on a free port, with its data in a temporary folder. The runtime's
//! own tests include this file too.
//!
//! A machine without `redis-server` fails the tests that need it: `make tools` installs it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest wait for a server to start or to stop; it needs 12 ms.
const SOON: Duration = Duration::from_secs(30);

/// How many free ports are tried: another process may take one between its choice and the server's start.
const PORTS_TRIED: usize = 20;

/// What a server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keeps {
    /// Nothing.
    #[default]
    Nothing,
    /// An append-only file, synced every second: survives SIGTERM.
    EverySecond,
    /// An append-only file, synced at every write: survives SIGKILL.
    Always,
}

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Child>,
    port: u16,
    tls: bool,
    options: Vec<String>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts a server; `options` as on its command line, such as `--requirepass secret`, a line each.
    #[must_use]
    pub fn start(keeps: Keeps, options: &[&str]) -> Self {
        Self::start_with(keeps, options, false)
    }

    /// Starts a server that speaks TLS only, with a certificate for `localhost`; [`Self::authority`] signed it.
    #[must_use]
    pub fn start_with_tls(keeps: Keeps) -> Self {
        Self::start_with(keeps, &[], true)
    }

    fn start_with(keeps: Keeps, options: &[&str], tls: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut lines: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        lines.extend(match keeps {
            Keeps::Nothing => vec!["--appendonly no".to_owned()],
            Keeps::EverySecond => vec!["--appendonly yes".to_owned(), "--appendfsync everysec".to_owned()],
            Keeps::Always => vec!["--appendonly yes".to_owned(), "--appendfsync always".to_owned()],
        });
        if tls {
            certificates(folder.path());
        }
        let mut server = Self { process: None, port: 0, tls, options: lines, folder };
        for _ in 0..PORTS_TRIED {
            server.port = free_port();
            if server.run() {
                return server;
            }
        }
        panic!("no redis-server came up on {PORTS_TRIED} ports: {}", server.log());
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// Its URL for a database, without parameters: `redis://127.0.0.1:PORT/0`.
    #[must_use]
    pub fn url(&self, database: u32) -> String {
        match self.tls {
            true => format!("rediss://localhost:{}/{database}", self.port),
            false => format!("redis://127.0.0.1:{}/{database}", self.port),
        }
    }

    /// The certificate (PEM) that signed the server's own.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Its socket, beside the port.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }

    /// Sends a command to database 0 and answers what came back, as it came; for servers without TLS and login.
    #[must_use]
    pub fn ask(&self, words: &[&str]) -> String {
        ask(self.port, words).unwrap_or_else(|error| panic!("redis-server does not answer {words:?}: {error}"))
    }

    /// Ends it as an administrator would: it writes what it keeps. Its port and folder stay.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Ends it as if its machine had died. Its port and folder stay.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Freezes it: it keeps its connections, and answers nothing until [`Self::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again with what it kept, on the same port.
    pub fn start_again(&mut self) {
        let begun = Instant::now();
        while !self.run() {
            assert!(begun.elapsed() < SOON, "redis-server does not start again: {}", self.log());
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.as_ref().and_then(|process| Pid::from_raw(process.id().cast_signed()));
        if let Some(pid) = pid {
            // It may have ended by itself; then there is nothing to signal.
            let _ = kill_process(pid, signal);
        }
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        if let Some(mut process) = self.process.take() {
            let begun = Instant::now();
            while !matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
                if begun.elapsed() > Duration::from_secs(3) {
                    let _ = process.kill();
                    let _ = process.wait();
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Whether it is up.
    fn run(&mut self) -> bool {
        let folder = self.folder.path();
        let file = |name: &str| folder.join(name).display().to_string();
        let mut lines = self.options.clone();
        lines.extend([
            "--bind 127.0.0.1".to_owned(),
            "--save \"\"".to_owned(),
            "--daemonize no".to_owned(),
            format!("--dir {}", folder.display()),
            format!("--logfile {}", file("redis.log")),
            format!("--unixsocket {}", file("redis.sock")),
        ]);
        match self.tls {
            false => lines.push(format!("--port {}", self.port)),
            true => lines.extend([
                "--port 0".to_owned(),
                format!("--tls-port {}", self.port),
                format!("--tls-cert-file {}", file("server.pem")),
                format!("--tls-key-file {}", file("server.key")),
                format!("--tls-ca-cert-file {}", file("ca.pem")),
                "--tls-auth-clients no".to_owned(),
            ]),
        }
        let mut process = spawn(&lines);
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            if matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
                return false;
            }
            if self.is_up() {
                self.process = Some(process);
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = process.kill();
        let _ = process.wait();
        false
    }

    /// Whether it answers and has loaded its data. A server with a login answers that it wants one.
    fn is_up(&self) -> bool {
        if self.tls {
            return TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        }
        ask(self.port, &["PING"]).is_ok_and(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.kill();
    }
}

/// A server that all tests of this process share, and that lives as long as it. Each test uses keys of its own.
pub fn shared() -> &'static RedisServer {
    static SHARED: OnceLock<RedisServer> = OnceLock::new();
    SHARED.get_or_init(|| RedisServer::start(Keeps::Nothing, &[]))
}

/// Starts the process from a thread that lives as long as this process: it ends with the thread that started it, so that it outlives
/// neither the tests nor one of them that ends early.
fn spawn(lines: &[String]) -> Child {
    type Order = (Vec<String>, SyncSender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, taken) = channel::<Order>();
        std::thread::spawn(move || taken.into_iter().for_each(|(lines, answer)| drop(answer.send(start_process(&lines)))));
        Mutex::new(orders)
    });
    let (answer, started) = sync_channel(1);
    let sent = spawner.lock().unwrap_or_else(PoisonError::into_inner).send((lines.to_vec(), answer));
    sent.expect("the thread that starts servers lives as long as this process");
    match started.recv().expect("each order is answered") {
        Ok(process) => process,
        Err(error) => panic!("redis-server can't be started: {error} (`make tools` installs it: apt-get install redis-server)"),
    }
}

fn start_process(lines: &[String]) -> std::io::Result<Child> {
    let mut command = Command::new("redis-server");
    // A configuration on standard input takes every option, with its own quotes.
    command.arg("-").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec only one system call is made, and no memory is allocated.
    #[expect(unsafe_code, reason = "the server has to end with this process, whatever becomes of it")]
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let mut process = command.spawn()?;
    let text: String = lines.iter().map(|line| format!("{}\n", line.trim_start_matches("--"))).collect();
    process.stdin.take().expect("stdin is piped").write_all(text.as_bytes())?;
    Ok(process)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn ask(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    // Its answer to this ends the connection, so that everything before it has come.
    command += "*1\r\n$4\r\nQUIT\r\n";
    stream.write_all(command.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned())
}

/// An authority and a certificate for `localhost` that it signed, for a day.
pub fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
        let output = output.expect("openssl can be started (`make tools` installs it)");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 1 -subj /CN=weir-tests -keyout ca.key -out ca.pem"));
    openssl(&format!("req {key} -subj /CN=localhost -keyout server.key -out server.csr"));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("the folder can be written");
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile names -out server.pem");
}
