use super::*;
use fieldpost_shared::time::SystemClock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

const LONG: Duration = Duration::from_secs(10);

type Run = Box<dyn FnOnce(usize, &Desk<Job>) + Send>;

/// What to do, and who else was run with it.
struct Job {
    model: ModelName,
    given_up: Arc<AtomicBool>,
    together: usize,
    run: Run,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({})", self.model)
    }
}

impl Work for Job {
    fn model(&self) -> &ModelName {
        &self.model
    }

    fn together(&self) -> usize {
        self.together
    }

    fn joins(&self, _other: &Self) -> bool {
        true
    }

    fn is_given_up(&self, _now: Duration) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    fn give_up(self, _now: Duration) {
        assert!(self.given_up.swap(false, Ordering::SeqCst));
    }

    fn run(self, more: Vec<Self>, desk: &Desk<Self>) {
        (self.run)(more.len() + 1, desk);
    }
}

fn job(model: &str, run: impl FnOnce() + Send + 'static) -> Job {
    let given_up = Arc::default();
    Job { model: model.parse().unwrap(), given_up, together: 1, run: Box::new(|_together, _desk| run()) }
}

fn pool(threads: usize, capacity: usize) -> Pool<Job> {
    let clock = Arc::new(SystemClock::new());
    Pool::start(NonZeroUsize::new(threads).unwrap(), NonZeroUsize::new(capacity).unwrap(), clock).unwrap()
}

/// Occupies one thread until the returned sender is dropped.
fn occupy(pool: &Pool<Job>) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (started, begun) = mpsc::channel();
    let run = move || {
        started.send(()).unwrap();
        held.recv().unwrap_err();
    };
    assert!(pool.submit(job("m", run)).unwrap().is_none());
    begun.recv_timeout(LONG).unwrap();
    release
}

#[test]
fn a_full_queue_takes_no_more_of_the_model_that_filled_it() {
    let pool = pool(1, 2);
    let busy = occupy(&pool);
    assert!(pool.submit(job("m", || ())).unwrap().is_none());
    assert!(pool.submit(job("m", || ())).unwrap().is_none());
    assert!(pool.submit(job("m", || ())).is_err());
    let out = pool.submit(job("other", || ())).unwrap().unwrap();
    assert_eq!(out.model.as_str(), "m");
    drop(busy);
}

#[test]
fn work_that_nobody_waits_for_makes_room() {
    let pool = pool(1, 2);
    let busy = occupy(&pool);
    let (order, seen) = mpsc::channel();
    let job = |number: i32| {
        let order = order.clone();
        job("m", move || order.send(number).unwrap())
    };
    let dead = job(1);
    let given_up = Arc::clone(&dead.given_up);
    assert!(pool.submit(dead).unwrap().is_none());
    assert!(pool.submit(job(2)).unwrap().is_none());
    assert!(pool.submit(job(3)).is_err(), "somebody waits for each");
    given_up.store(true, Ordering::SeqCst);
    assert!(pool.submit(job(4)).unwrap().is_none());
    assert!(!given_up.load(Ordering::SeqCst), "it was counted");
    assert!(pool.submit(job(5)).is_err());
    drop(busy);
    assert_eq!([seen.recv_timeout(LONG).unwrap(), seen.recv_timeout(LONG).unwrap()], [2, 4]);
}

#[test]
fn a_job_that_panics_does_not_take_its_thread_along() {
    let pool = pool(1, 4);
    pool.submit(job("m", || panic!("as the test wants"))).unwrap();
    let (done, finished) = mpsc::channel();
    pool.submit(job("m", move || done.send(()).unwrap())).unwrap();
    finished.recv_timeout(LONG).unwrap();
}

#[test]
fn dropping_the_pool_drops_what_waits() {
    let pool = pool(1, 1);
    let busy = occupy(&pool);
    let (kept, waits) = mpsc::channel::<()>();
    pool.submit(job("m", move || kept.send(()).unwrap())).unwrap();
    drop(pool);
    assert_eq!(waits.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
    drop(busy);
}

#[test]
fn jobs_of_a_model_run_in_order_on_one_thread() {
    let pool = pool(1, 8);
    let busy = occupy(&pool);
    let (order, seen) = mpsc::channel();
    for number in 0..5 {
        let order = order.clone();
        pool.submit(job("m", move || order.send(number).unwrap())).unwrap();
    }
    drop(busy);
    let seen: Vec<i32> = (0..5).map(|_| seen.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

/// How many ran in each go, when `waiting` jobs wait for `threads` threads that take up to four together.
fn goes(threads: usize, waiting: usize) -> usize {
    let pool = pool(threads, 16);
    let busy: Vec<_> = (0..threads).map(|_| occupy(&pool)).collect();
    let (sender, seen) = mpsc::channel();
    for _ in 0..waiting {
        let sender = sender.clone();
        let run = move |together: usize, _: &Desk<Job>| sender.send(together).unwrap();
        pool.submit(Job { together: 4, run: Box::new(run), ..job("m", || ()) }).unwrap();
    }
    let mut busy = busy.into_iter();
    drop(busy.next());
    let first = seen.recv_timeout(LONG).unwrap();
    drop(busy);
    first
}

#[test]
fn what_waits_runs_together_but_leaves_other_threads_their_share() {
    assert_eq!(goes(1, 6), 4);
    assert_eq!(goes(1, 2), 2);
    assert_eq!(goes(1, 1), 1);
    assert_eq!(goes(2, 4), 2);
}

#[test]
fn a_chore_waits_until_nobody_does_and_is_not_lost() {
    let pool = pool(1, 4);
    let (order, seen) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let chore = order.clone();
    let first = move |_, desk: &Desk<Job>| {
        assert!(desk.later(1, Box::new(move || chore.send("chore").unwrap())));
        gate.recv().unwrap();
    };
    pool.submit(Job { run: Box::new(first), ..job("m", || ()) }).unwrap();
    pool.submit(job("m", move || order.send("request").unwrap())).unwrap();
    go.send(()).unwrap();
    assert_eq!([seen.recv_timeout(LONG).unwrap(), seen.recv_timeout(LONG).unwrap()], ["request", "chore"]);
}

#[test]
fn chores_are_bounded() {
    let pool = pool(1, 4);
    let (sender, seen) = mpsc::channel();
    let run = move |_, desk: &Desk<Job>| {
        let taken = (0..CHORES + 5).filter(|_| desk.later(1, Box::new(|| ()))).count();
        sender.send(taken).unwrap();
    };
    pool.submit(Job { run: Box::new(run), ..job("m", || ()) }).unwrap();
    assert_eq!(seen.recv_timeout(LONG).unwrap(), CHORES);
}

#[test]
fn the_memory_of_chores_is_bounded() {
    let pool = pool(1, 4);
    let (sender, seen) = mpsc::channel();
    let run = move |_, desk: &Desk<Job>| {
        let taken = (0..4).filter(|_| desk.later(CHORE_BYTES / 2, Box::new(|| ()))).count();
        sender.send(taken).unwrap();
    };
    pool.submit(Job { run: Box::new(run), ..job("m", || ()) }).unwrap();
    assert_eq!(seen.recv_timeout(LONG).unwrap(), 2);
}

#[test]
fn a_thread_that_hangs_is_stood_in_for_but_not_without_end() {
    let pool = pool(1, 8);
    let busy = occupy(&pool);
    pool.substitute(5);
    let busy_too = occupy(&pool);
    let (done, finished) = mpsc::channel();
    assert!(pool.submit(job("m", move || done.send(()).unwrap())).unwrap().is_none());
    pool.substitute(5);
    assert!(finished.recv_timeout(Duration::from_millis(200)).is_err(), "one for one thread, not more");
    assert!((pool.is_lost(1), pool.is_lost(2)) == (false, true));
    drop(busy);
    finished.recv_timeout(LONG).unwrap();
    drop(busy_too);
}
