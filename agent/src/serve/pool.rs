//! The bounded queue and the threads behind it: inference never runs on the reactor, and never waits without a bound.
//!
//! One thread more does what nobody waits for (measuring, shadows): it begins only while no request waits and a thread is
//! idle, so that together they take no more processors than the pool was given.

use super::fair::{Fair, Pushed, Turn};
use crate::runtime::Helpers;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::ModelName;
use fieldpost_shared::time::Clock;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One piece of work for which somebody waits. Dropping it unrun must tell them.
pub(crate) trait Work: fmt::Debug + Send + Sized + 'static {
    /// Whose it is: threads are shared among models.
    fn model(&self) -> &ModelName;
    /// How many like it may run in one go, itself included.
    fn together(&self) -> usize;
    /// Whether another of the same model may run in one go with it.
    fn joins(&self, other: &Self) -> bool;
    /// Whether nobody waits for it any more, by the pool's clock.
    fn is_given_up(&self, now: Duration) -> bool;
    /// Counts it as given up.
    fn give_up(self, now: Duration);
    /// Runs it, with others that join it. Blocking.
    fn run(self, more: Vec<Self>, desk: &Desk<Self>);
}

/// Work that nobody waits for.
pub(crate) type Chore = Box<dyn FnOnce() + Send>;

/// Most chores that wait, and the most memory that they hold, bytes; more are dropped.
const CHORES: usize = 32;
const CHORE_BYTES: usize = 32 << 20;

/// There is no room for this one, or the pool is closing.
#[derive(Debug)]
pub(crate) struct Refused<T>(pub(crate) T);

/// A fixed number of threads that take turns fairly. Dropping it closes the queue; what waits is dropped, what runs ends.
#[derive(Debug)]
pub(crate) struct Pool<T: Work>(Desk<T>);

/// What running work may use of its pool.
#[derive(Debug)]
pub(crate) struct Desk<T: Work>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    threads: usize,
    /// For one piece of work while the other threads are idle.
    helpers: Option<Helpers>,
    clock: Arc<dyn Clock>,
    state: Mutex<State<T>>,
    /// For the threads that answer requests.
    work: Condvar,
    /// For the one that does chores.
    rest: Condvar,
}

struct State<T> {
    waiting: Fair<T>,
    running: usize,
    chores: VecDeque<(usize, Chore)>,
    chore_bytes: usize,
    closed: bool,
    /// Threads that stand in for ones that hang.
    substitutes: usize,
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut state = f.debug_struct("State");
        state.field("waiting", &self.waiting.waiting()).field("running", &self.running);
        state.field("chores", &self.chores.len()).field("closed", &self.closed).finish()
    }
}

impl<T: Work> Pool<T> {
    /// Starts the threads; at most `capacity` pieces of work wait beside those that run.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start(threads: NonZeroUsize, capacity: NonZeroUsize, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let waiting = Fair::new(capacity.get());
        let shared = Arc::new(Shared {
            threads: threads.get(),
            helpers: Helpers::start(threads, Arc::clone(&clock)),
            clock,
            state: Mutex::new(State {
                waiting,
                running: 0,
                chores: VecDeque::new(),
                chore_bytes: 0,
                closed: false,
                substitutes: 0,
            }),
            work: Condvar::new(),
            rest: Condvar::new(),
        });
        let pool = Self(Desk(Arc::clone(&shared)));
        // Nobody joins these: they end when the queue closes, and a process that exits does not wait for a model.
        for index in 0..threads.get() {
            pool.spawn(index)?;
        }
        std::thread::Builder::new().name("chores".to_owned()).spawn(move || shared.chores())?;
        Ok(pool)
    }

    fn spawn(&self, index: usize) -> io::Result<()> {
        let desk = Desk(Arc::clone(&self.0.0));
        std::thread::Builder::new().name(format!("inference-{index}")).spawn(move || desk.work()).map(drop)
    }

    /// Starts threads in place of those that hang, at most as many as there were at the start: a computation cannot be
    /// stopped from outside, and each that hangs goes on taking processor time.
    pub(crate) fn substitute(&self, hung: usize) {
        let shared = &self.0.0;
        loop {
            let mut state = shared.lock();
            if state.substitutes >= hung.min(shared.threads) {
                return;
            }
            state.substitutes = state.substitutes.saturating_add(1);
            let index = shared.threads.saturating_add(state.substitutes);
            drop(state);
            if let Err(error) = self.spawn(index) {
                return tracing::error!(%error, "cannot start an inference thread in place of one that hangs");
            }
        }
    }

    /// Whether so many computations that hang have all the threads, stand-ins included.
    pub(crate) fn is_lost(&self, hung: usize) -> bool {
        hung >= self.0.0.threads.saturating_mul(2)
    }

    /// Puts a piece of work in the queue. Another that had to make room for it comes back: its caller is to be refused. When
    /// all places are taken, those go first for whom nobody waits: callers that time out and come again would fill it else.
    ///
    /// # Errors
    /// [`Refused`] when as many wait already as may, or the pool is closing.
    pub(crate) fn submit(&self, work: T) -> Result<Option<T>, Refused<T>> {
        let mut state = self.0.0.lock();
        if state.closed {
            return Err(Refused(work));
        }
        let model = work.model().clone();
        let now = self.0.clock().monotonic();
        let given_up =
            if state.waiting.is_full() { state.waiting.sift(|work| work.is_given_up(now)) } else { Vec::new() };
        let pushed = state.waiting.push(&model, work);
        drop(state);
        given_up.into_iter().for_each(|work| work.give_up(now));
        match pushed {
            Pushed::Full(work) => Err(Refused(work)),
            Pushed::Taken => {
                self.0.0.work.notify_one();
                Ok(None)
            }
            Pushed::Instead(out) => Ok(Some(out)),
        }
    }
}

impl<T: Work> Drop for Pool<T> {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut state = shared.lock();
        state.closed = true;
        // Dropped outside of the lock: dropping work answers its caller.
        let unrun = (state.waiting.drain(), std::mem::take(&mut state.chores));
        drop(state);
        drop(unrun);
        shared.work.notify_all();
        shared.rest.notify_all();
    }
}

impl<T: Work> Desk<T> {
    pub(crate) fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    pub(crate) fn shared_clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Leaves a chore that holds so much memory for when nobody waits; `false` when too much waits already.
    pub(crate) fn later(&self, bytes: usize, chore: Chore) -> bool {
        let mut state = self.0.lock();
        let sum = state.chore_bytes.saturating_add(bytes);
        let room = !state.closed && state.chores.len() < CHORES && sum <= CHORE_BYTES;
        if room {
            state.chores.push_back((bytes, chore));
            state.chore_bytes = sum;
        }
        drop(state);
        self.0.rest.notify_one();
        room
    }

    fn work(&self) {
        while let Some((turn, first, more, alone)) = self.next() {
            let begun = self.clock().monotonic();
            let run = || guarded("a request broke its inference thread", || first.run(more, self));
            match self.0.helpers.as_ref().filter(|_| alone) {
                Some(helpers) => helpers.offer(run),
                None => run(),
            }
            let took = self.clock().monotonic().saturating_sub(begun);
            let mut state = self.0.lock();
            state.waiting.ended(turn, took);
            state.running = state.running.saturating_sub(1);
            drop(state);
            self.0.rest.notify_one();
        }
    }

    /// The next piece of work, with what may run with it: of those that wait already, and leaving the other threads theirs.
    /// And whether these have nothing to do.
    fn next(&self) -> Option<(Turn, T, Vec<T>, bool)> {
        let mut state = self.0.lock();
        loop {
            if let Some((turn, first)) = state.waiting.pop() {
                state.running += 1;
                let fair_share = state.waiting.waiting_with(turn).saturating_add(1).div_ceil(self.0.threads);
                let most = first.together().min(fair_share).saturating_sub(1);
                let more =
                    if most == 0 { Vec::new() } else { state.waiting.more(turn, most, |other| first.joins(other)) };
                let alone = state.running == 1 && state.waiting.waiting() == 0;
                return Some((turn, first, more, alone));
            }
            if state.closed {
                return None;
            }
            state = self.0.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chores(&self) {
        let mut state = self.lock();
        while !state.closed {
            let idle = state.waiting.waiting() == 0 && state.running < self.threads;
            let chore = if idle { state.chores.pop_front() } else { None };
            match chore {
                Some((bytes, chore)) => {
                    state.chore_bytes = state.chore_bytes.saturating_sub(bytes);
                    drop(state);
                    guarded("a chore broke off", chore);
                    state = self.lock();
                }
                None => state = self.rest.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Work answers for its own panics; this keeps the thread should it not.
fn guarded(message: &'static str, work: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
        let error = io::Error::other(panic_text(payload.as_ref()));
        tracing::error!(error = %Chain(&error), "{message}");
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(300).collect()
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
