//! The bounded queue and the threads behind it: inference never runs on the reactor, and never waits without a bound.

use fieldpost_shared::error_chain::Chain;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One piece of work. Dropping it unrun must tell whoever waits for it.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The queue is full, or closed. The job is dropped.
#[derive(Debug)]
pub(crate) struct Full;

/// A fixed number of threads that take jobs in order. Dropping it closes the queue; what waits is dropped, what runs ends.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    closed: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("waiting", &self.waiting.len()).field("closed", &self.closed).finish()
    }
}

impl Pool {
    /// Starts the threads; at most `capacity` jobs wait beside those that run.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start(threads: NonZeroUsize, capacity: NonZeroUsize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            capacity: capacity.get(),
            state: Mutex::new(State { waiting: VecDeque::with_capacity(capacity.get().min(1_024)), closed: false }),
            changed: Condvar::new(),
        });
        let pool = Self(Arc::clone(&shared));
        for index in 0..threads.get() {
            let shared = Arc::clone(&shared);
            // Nobody joins these: they end when the queue closes, and a process that exits does not wait for a model.
            std::thread::Builder::new().name(format!("inference-{index}")).spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Puts a job in the queue.
    ///
    /// # Errors
    /// [`Full`] when as many wait already as may, or the pool is closing.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Full> {
        let mut state = self.0.lock();
        if state.closed || state.waiting.len() >= self.0.capacity {
            return Err(Full);
        }
        state.waiting.push_back(job);
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        // The jobs are dropped outside of the lock: dropping one answers its caller.
        let unrun = std::mem::take(&mut state.waiting);
        drop(state);
        drop(unrun);
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            // Jobs answer for their own panics; this keeps the thread should one not.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                let error = io::Error::other(panic_text(payload.as_ref()));
                tracing::error!(error = %Chain(&error), "a request broke its inference thread");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            match state.waiting.pop_front() {
                Some(job) => return Some(job),
                None if state.closed => return None,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(10);

    fn pool(threads: usize, capacity: usize) -> Pool {
        Pool::start(NonZeroUsize::new(threads).unwrap(), NonZeroUsize::new(capacity).unwrap()).unwrap()
    }

    /// Occupies one thread until the returned sender is dropped.
    fn occupy(pool: &Pool) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel::<()>();
        let (started, begun) = mpsc::channel();
        let job = move || {
            started.send(()).unwrap();
            held.recv().unwrap_err();
        };
        pool.submit(Box::new(job)).unwrap();
        begun.recv_timeout(LONG).unwrap();
        release
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let pool = pool(1, 2);
        let busy = occupy(&pool);
        pool.submit(Box::new(|| ())).unwrap();
        pool.submit(Box::new(|| ())).unwrap();
        assert!(pool.submit(Box::new(|| ())).is_err());
        drop(busy);
    }

    #[test]
    fn a_job_that_panics_does_not_take_its_thread_along() {
        let pool = pool(1, 4);
        pool.submit(Box::new(|| panic!("as the test wants"))).unwrap();
        let (done, finished) = mpsc::channel();
        pool.submit(Box::new(move || done.send(()).unwrap())).unwrap();
        finished.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn dropping_the_pool_drops_what_waits() {
        let pool = pool(1, 1);
        let busy = occupy(&pool);
        let (kept, waits) = mpsc::channel::<()>();
        pool.submit(Box::new(move || kept.send(()).unwrap())).unwrap();
        drop(pool);
        assert_eq!(waits.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
        drop(busy);
    }

    #[test]
    fn jobs_run_in_order_on_one_thread() {
        let pool = pool(1, 8);
        let busy = occupy(&pool);
        let (order, seen) = mpsc::channel();
        for number in 0..5 {
            let order = order.clone();
            pool.submit(Box::new(move || order.send(number).unwrap())).unwrap();
        }
        drop(busy);
        let seen: Vec<i32> = (0..5).map(|_| seen.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
}
