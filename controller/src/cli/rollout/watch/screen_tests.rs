//! The terminal itself, in a pseudo terminal: `setsid` gives a process one of its own, and `vt100` reads what it shows.

use super::*;
use crate::api::rollouts::tests::{Server, server_of};
use crate::rollout::tests::Rig;
use axum::response::IntoResponse as _;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

/// A process in a terminal of its own.
struct Terminal {
    /// The end that a person would sit at.
    mine: OwnedFd,
    /// Kept open, so that what was written stays readable after the process has ended.
    _theirs: File,
    child: Child,
    shown: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn start(rows: u16, columns: u16, mut command: Command) -> Self {
        let mine = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&mine).unwrap();
        unlockpt(&mine).unwrap();
        let name = ptsname(&mine, Vec::new()).unwrap().into_string().unwrap();
        let theirs = File::options().read(true).write(true).open(name).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&mine, size).unwrap();
        let stdio = || Stdio::from(theirs.try_clone().unwrap());
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("setsid of util-linux");
        let shown = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)));
        let (mut reader, seen) = (File::from(mine.try_clone().unwrap()), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                seen.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self { mine, _theirs: theirs, child, shown }
    }

    fn text(&self) -> String {
        self.shown.lock().unwrap().screen().contents()
    }

    #[allow(clippy::disallowed_methods, reason = "a process of its own has no clock that a test could drive")]
    fn until(&mut self, what: &str, is: impl Fn(&vt100::Screen) -> bool) {
        let began = Instant::now();
        while !is(self.shown.lock().unwrap().screen()) {
            assert!(began.elapsed() < PATIENCE, "no {what}: {}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contents().contains(text));
    }

    fn type_in(&mut self, keys: &str) {
        File::from(self.mine.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        self.shown.lock().unwrap().screen_mut().set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.mine, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// Whether keys come one by one and unseen.
    fn raw(&self) -> bool {
        !tcgetattr(&self.mine).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    #[allow(clippy::disallowed_methods, reason = "a process of its own has no clock that a test could drive")]
    fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything is as it was before.
    fn given_back(&mut self) {
        assert!(!self.raw(), "the terminal is still raw");
        self.until("first screen with a cursor", |screen| !screen.alternate_screen() && !screen.hide_cursor());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// This test's own executable, in a terminal, at one of the `child_*` tests below.
fn child(name: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("cli::rollout::watch::screen::tests::{name}"), "--ignored", "--nocapture"]);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").envs(environment.iter().copied());
    command
}

#[test]
fn a_panic_gives_the_terminal_back_and_its_message_is_read() {
    let mut terminal = Terminal::start(24, 80, child("child_panics", &[]));
    terminal.shows("a defect of the view");
    assert!(!terminal.ended().success());
    terminal.given_back();
}

#[test]
fn an_error_gives_the_terminal_back() {
    let mut terminal = Terminal::start(24, 80, child("child_fails", &[]));
    terminal.shows("it failed");
    terminal.ended();
    terminal.given_back();
}

#[test]
#[ignore = "a process for the test of the same subject"]
fn child_panics() {
    let mut screen = Screen::open().unwrap();
    screen.0.draw(|frame| frame.render_widget("the view", frame.area())).unwrap();
    panic!("a defect of the view");
}

#[test]
#[ignore = "a process for the test of the same subject"]
fn child_fails() {
    let failing = || -> io::Result<()> {
        let mut screen = Screen::open()?;
        screen.0.draw(|frame| frame.render_widget("the view", frame.area()))?;
        Err(io::Error::other("it failed"))
    };
    println!("{}", failing().unwrap_err());
}

/// The command of a person, as `fieldpost` runs it.
#[test]
#[ignore = "a process for the tests of the whole command"]
fn child_watches() {
    use clap::Parser as _;
    crate::install_crypto();
    let line = std::env::var_os("FIELDPOST_TEST_LINE").unwrap().into_string().unwrap();
    let cli = crate::cli::Cli::try_parse_from(line.split(' ')).unwrap();
    match crate::cli::execute(cli) {
        Ok(exit) => println!("it ended with {}", exit.code()),
        Err(failure) => println!("{failure}\nit ended with {}", failure.exit().code()),
    }
}

/// A controller over HTTP, with one rollout, that can be made to answer nothing.
struct Controller {
    server: Server,
    id: RolloutId,
    address: std::net::SocketAddr,
    away: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Controller {
    async fn start() -> Self {
        let mut rig = Rig::new(12);
        let id = rig.start("1.1.0", "2,6,12");
        Self::of(rig, id).await
    }

    async fn of(rig: Rig, id: RolloutId) -> Self {
        let server = server_of(rig);
        let away = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&away);
        let guard = move |request: axum::extract::Request, next: axum::middleware::Next| {
            let gone = gone.load(Ordering::SeqCst);
            async move {
                if gone {
                    return axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response();
                }
                next.run(request).await
            }
        };
        let router = server.router.clone().layer(axum::middleware::from_fn(guard));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { server, id, address, away, _tasks: tasks }
    }

    fn watched(&self, more: &str) -> Terminal {
        self.asked(24, &format!("watch {}{more}", self.id))
    }

    fn asked(&self, rows: u16, rollout: &str) -> Terminal {
        let (token, address) = (&self.server.operator, self.address);
        let line = format!("fieldpost --server http://{address} --token {token} rollout {rollout}");
        Terminal::start(rows, 80, child("child_watches", &[("FIELDPOST_TEST_LINE", &line)]))
    }

    /// A second of the fleet's life, again and again, until the view shows something.
    #[allow(clippy::disallowed_methods, reason = "a process of its own has no clock that a test could drive")]
    fn lives_until(&self, terminal: &mut Terminal, text: &str) {
        for _ in 0..300 {
            if terminal.text().contains(text) {
                return;
            }
            self.server.rig.clock.advance(Duration::from_secs(1));
            self.server.rig.fleet.tick();
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("never `{text}`: {}", terminal.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_looks_resizes_acts_and_leaves() {
    let controller = Controller::start().await;
    let mut terminal = controller.watched("");
    controller.lives_until(&mut terminal, "soaking");
    assert!(terminal.raw());
    terminal.shows("box-11");
    assert!(terminal.shown.lock().unwrap().screen().alternate_screen());
    // One panel at a time, and all of them when there is room.
    terminal.type_in("\t");
    terminal.shows("[Gates]");
    terminal.resize(40, 120);
    terminal.shows("┌ Events");
    terminal.shows("runs the release");
    terminal.resize(12, 50);
    terminal.until("small picture", |screen| !screen.contents().contains("┌ Events"));
    terminal.resize(24, 80);
    terminal.shows("[Gates]");
    // The controller goes and comes back.
    controller.away.store(true, Ordering::SeqCst);
    terminal.shows("! away for");
    controller.away.store(false, Ordering::SeqCst);
    terminal.until("answer again", |screen| !screen.contents().contains("! away for"));
    // Nothing happens without a yes.
    terminal.type_in("pn");
    terminal.shows("nothing was done");
    terminal.type_in("p");
    terminal.shows("y pauses");
    terminal.type_in("y");
    terminal.shows("done: it is paused");
    terminal.shows("an operator asked for it");
    terminal.type_in("q");
    terminal.shows("it ended with 4");
    terminal.ended();
    terminal.given_back();
    assert!(terminal.text().contains("is paused, wave 1 of 3"), "{}", terminal.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_view_leaves_by_itself_when_that_is_wished() {
    let controller = Controller::start().await;
    let mut terminal = controller.watched(" --exit");
    controller.lives_until(&mut terminal, "soaking");
    terminal.type_in("by");
    controller.lives_until(&mut terminal, "it ended with 3");
    terminal.ended();
    terminal.given_back();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_or_a_key_ends_it_and_gives_the_terminal_back() {
    let controller = Controller::start().await;
    for signal in ["TERM", "INT", "HUP", "key"] {
        let mut terminal = controller.watched("");
        terminal.shows("r-7754001f2556");
        terminal.shows("q leave");
        if signal == "key" {
            terminal.type_in("\u{3}");
        } else {
            // The child of `setsid` may be a fork of it: the terminal knows who is in front.
            let group = rustix::termios::tcgetpgrp(&terminal.mine).unwrap().as_raw_nonzero();
            let sent = Command::new("kill").args(["-s", signal, "--", &format!("-{group}")]).status().unwrap();
            assert!(sent.success());
        }
        terminal.shows("it ended with 4");
        terminal.ended();
        terminal.given_back();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_is_not_there_is_refused_before_the_terminal_is_taken() {
    let mut controller = Controller::start().await;
    controller.id = "r-nobody".parse().unwrap();
    let mut terminal = controller.watched("");
    terminal.shows("there is no rollout `r-nobody`");
    terminal.shows("r-7754001f2556");
    terminal.shows("it ended with 1");
    terminal.ended();
    terminal.given_back();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_colours_none_reaches_the_terminal() {
    let controller = Controller::start().await;
    let mut terminal = controller.watched(" --no-color");
    controller.lives_until(&mut terminal, "soaking");
    let colored = |terminal: &Terminal| {
        let shown = terminal.shown.lock().unwrap();
        let places = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
        let mut cells = places.filter_map(|(row, column)| shown.screen().cell(row, column));
        cells.any(|cell| cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default)
    };
    assert!(!colored(&terminal));
    terminal.type_in("q");
    terminal.ended();
    let mut terminal = controller.watched("");
    terminal.shows("soaking");
    assert!(colored(&terminal));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_lines_are_printed_on_a_terminal_too_when_that_is_wished() {
    let controller = Controller::start().await;
    let mut terminal = controller.watched(" --plain");
    controller.lives_until(&mut terminal, "the soak began");
    assert!(!terminal.raw());
    assert!(!terminal.shown.lock().unwrap().screen().alternate_screen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_reads_the_plan_before_a_start_and_is_asked() {
    let controller = Controller::of(Rig::new(12), "r-none".parse().unwrap()).await;
    let start = "start digits@1.1.0 --waves 2,6,12";
    for (typed, ends) in [("n\n", 1), ("\u{4}", 1), ("yes\n", 0)] {
        let mut terminal = controller.asked(60, start);
        terminal.shows("Start the rollout of digits@1.1.0");
        assert!(terminal.text().contains("Wave 1 is left to the limits"), "{}", terminal.text());
        terminal.type_in(typed);
        terminal.shows(&format!("it ended with {ends}"));
        assert_eq!(terminal.text().contains("was not started"), ends == 1, "{}", terminal.text());
        terminal.ended();
    }
    // What the start would be refused for is said instead of a question.
    let mut terminal = controller.asked(60, start);
    terminal.shows("it ended with 1");
    assert!(!terminal.text().contains("[y/N]"), "{}", terminal.text());
    terminal.ended();
}
