//! A server's process: started, frozen, ended, and never left behind.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for a server to come up; the slowest needs 10 s on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// How long a server may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Between two looks at whether a server is up or has ended; the quickest needs 12 ms.
const LOOK: Duration = Duration::from_millis(5);

/// How many times a server is started that does not come up: another process may take its port between the choice and the start.
const STARTS: usize = 5;

/// What is started: a program with what it is told, and where its output goes.
#[derive(Debug)]
pub struct Order {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    input: String,
    log: PathBuf,
}

impl Order {
    /// A program whose stdout and stderr are added to the file `log`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), variables: Vec::new(), input: String::new(), log: log.into() }
    }

    /// Adds arguments, separated by blanks: none of ours contains one.
    #[must_use]
    pub fn args(mut self, arguments: &str) -> Self {
        self.arguments.extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// What it reads on stdin.
    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = text.into();
        self
    }

    /// Runs it to its end: whether it succeeded.
    #[must_use]
    pub fn succeeds(&self) -> bool {
        run(command(self), &self.input).and_then(|mut process| process.wait()).is_ok_and(|status| status.success())
    }

    /// Starts it and waits until `up`; tries again when it ends by itself before.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(&self, mut up: impl FnMut() -> bool) -> Process {
        for _ in 0..STARTS {
            let mut process = Process(Some(spawn(self)));
            let begun = Instant::now();
            while process.runs() && begun.elapsed() < SOON {
                if up() {
                    return process;
                }
                std::thread::sleep(LOOK);
            }
        }
        panic!("{} does not come up:\n{}", self.program.display(), read(&self.log));
    }
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process(Option<Child>);

impl Process {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Ends it as an administrator would.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.wait(GRACE);
    }

    /// Ends it as if its machine had died.
    pub fn kill(&mut self) {
        self.wait(Duration::ZERO);
    }

    /// Freezes it: it keeps its connections, and answers nothing until [`Self::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn runs(&mut self) -> bool {
        self.0.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself; then there is nothing to signal.
        let _ = Pid::from_raw(self.pid().cast_signed()).map(|pid| kill_process(pid, signal));
    }

    fn wait(&mut self, grace: Duration) {
        let begun = Instant::now();
        while self.runs() && begun.elapsed() < grace {
            std::thread::sleep(LOOK);
        }
        if let Some(mut process) = self.0.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free now.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Whether something listens there.
#[must_use]
pub fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A file's text; empty when there is none.
#[must_use]
pub fn read(file: &Path) -> String {
    std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Starts the process from a thread that lives as long as this process: it ends with the thread that started it, so that it outlives
/// neither the tests nor one of them that ends early.
fn spawn(order: &Order) -> Child {
    type Job = (Command, String, SyncSender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, taken) = channel::<Job>();
        std::thread::spawn(move || {
            taken.into_iter().for_each(|(command, input, answer)| drop(answer.send(run(command, &input))))
        });
        Mutex::new(jobs)
    });
    let (answer, started) = sync_channel(1);
    let sent = spawner.lock().unwrap_or_else(PoisonError::into_inner).send((command(order), order.input.clone(), answer));
    sent.expect("the thread that starts servers lives as long as this process");
    match started.recv().expect("each order is answered") {
        Ok(process) => process,
        Err(error) => panic!("{} can't be started: {error} [`make tools` installs it]", order.program.display()),
    }
}

fn command(order: &Order) -> Command {
    let log = File::options().create(true).append(true).open(&order.log).expect("the log can be written");
    let mut command = Command::new(&order.program);
    command.args(&order.arguments).envs(order.variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
    // SAFETY: between fork and exec only one system call is made, and no memory is allocated.
    #[expect(unsafe_code, reason = "the server has to end with this process, whatever becomes of it")]
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    command
}

fn run(mut command: Command, input: &str) -> std::io::Result<Child> {
    let mut process = command.spawn()?;
    process.stdin.take().expect("stdin is piped").write_all(input.as_bytes())?;
    Ok(process)
}
