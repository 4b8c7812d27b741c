//! The terminal: taken over at the start, given back whatever happens, and the loop in between.

use super::draw;
use super::feed::{self, News};
use super::model::{Action, Model};
use crate::cli::{Context, Failure};
use crate::client::Client;
use crate::rollout::view::RolloutSummary;
use crossterm::event::{Event, EventStream, KeyEventKind};
use fieldpost_shared::id::RolloutId;
use fieldpost_shared::time::Timestamp;
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often times of the picture are brought up to date.
const TICK: Duration = Duration::from_secs(1);
/// News that may wait for the picture.
const QUEUE: usize = 16;

/// How the view is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    pub(super) color: bool,
    /// Leave when the rollout ends.
    pub(super) exit: bool,
}

/// A terminal in raw mode on its other screen. It is as it was when this is gone: at the end, on an error, while a
/// panic unwinds (whose message would be lost on the other screen, so a hook gives the terminal back before it).
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // It may have come halfway.
                ratatui::restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Also the cursor, which the last picture hid. A terminal that has gone away needs nothing.
        drop(self.0.show_cursor());
        ratatui::restore();
    }
}

/// What ends the process politely.
struct Endings([Signal; 3]);

impl Endings {
    fn new() -> io::Result<Self> {
        let listen = |kind| signal(kind);
        Ok(Self([listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?]))
    }

    async fn one(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Shows a rollout until the person leaves, or, if that is wished, until it ends; gives where it was last.
///
/// # Errors
/// When there is no such rollout, the token does not open it, or the terminal cannot be used.
pub(super) async fn run(
    client: &Client,
    context: &Context,
    id: &RolloutId,
    wishes: Wishes,
) -> Result<RolloutSummary, Failure> {
    let broken = |error: io::Error| {
        Failure::new("cannot use this terminal").because(&error).hint("`--plain` prints a line for each event")
    };
    // What can be refused is refused before the terminal is taken over.
    let first = feed::first(client, id).await?;
    // By the controller's clock, which may differ from this machine's.
    let skew = Skew::new(first.now, context.clock().now());
    let now = || skew.apply(context.clock().now());
    let size = crossterm::terminal::size().map_err(broken)?;
    let mut model = Model::new(first.detail, now(), size, wishes.color);
    let mut endings = Endings::new().map_err(broken)?;
    let (said, mut inbox) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    tasks.spawn(feed::follow(client.clone(), id.clone(), first.events_after, said.clone()));
    let mut screen = Screen::open().map_err(broken)?;
    let mut keys = EventStream::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        model.now = now();
        screen.0.draw(|frame| draw::draw(frame, &model)).map_err(broken)?;
        if wishes.exit && !model.detail.summary.active {
            break;
        }
        // Every arm is cancel-safe: each waits for one message, signal, tick or key, and takes none when dropped.
        tokio::select! {
            biased;
            () = endings.one() => break,
            key = keys.next() => match key {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => match model.key(key) {
                    Some(Action::Leave) => break,
                    Some(Action::Do(ask)) => {
                        model.said = Some(format!("{}: asking the controller", ask.verb()));
                        tasks.spawn(feed::command(client.clone(), id.clone(), ask, said.clone()));
                    }
                    None => {}
                },
                Some(Ok(Event::Resize(columns, rows))) => {
                    model.size = (columns, rows);
                    model.clamp();
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                // The terminal is gone.
                None => break,
            },
            news = inbox.recv() => match news {
                Some(News::Stands { detail, devices }) => {
                    if let Some(devices) = devices {
                        model.devices = devices;
                    }
                    model.stands(*detail);
                }
                Some(News::Happened(events)) => model.happened(events),
                Some(News::Away(why)) => model.away(why),
                Some(News::Said(text)) => model.said = Some(text),
                Some(News::Refused(failure)) => return Err(failure),
                None => break,
            },
            _ = tick.tick() => {}
        }
    }
    drop(screen);
    tasks.shutdown().await;
    Ok(model.detail.summary)
}

/// How far the controller's clock is from this machine's.
#[derive(Debug, Clone, Copy)]
struct Skew {
    controller: Timestamp,
    here: Timestamp,
}

impl Skew {
    const fn new(controller: Timestamp, here: Timestamp) -> Self {
        Self { controller, here }
    }

    fn apply(self, here: Timestamp) -> Timestamp {
        self.controller.plus(here.since(self.here))
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
