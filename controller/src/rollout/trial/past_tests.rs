use super::*;
use crate::rollout::trial::random::Stream;
use fieldpost_shared::id::Digest;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn slices_leave_windows_their_time_and_fill_the_soak() {
    let quick = Watch::new(Duration::from_secs(60), HOUR * 8, HOUR * 24, 100, 0.01).unwrap();
    assert_eq!((quick.every * u32::from(quick.needed)).as_secs(), 8 * 3_600);
    let hourly = Watch::new(HOUR, HOUR, HOUR * 24, 100, 0.01).unwrap();
    assert_eq!((hourly.every, hourly.past), (HOUR, 24));
    assert!(hourly.needed < quick.needed.max(MOST_SLICES), "{hourly:?}");
    assert_eq!(Watch::new(HOUR * 4, HOUR, HOUR * 24, 100, 0.01), None, "six slices are no past");
    assert_eq!(Watch::new(HOUR, HOUR, HOUR * 24, 100, 1e-18), None, "nothing would be enough");
}

#[test]
fn slices_are_counted_by_the_clock_and_no_further_than_they_are_looked_at() {
    let watch = Watch { every: HOUR, past: 24, needed: 9 };
    let starts = Timestamp::from_millis(1_700_000_000_000);
    assert_eq!(
        [0, 59, 60, 200].map(|minutes| watch.ended(starts, starts.plus(Duration::from_secs(60 * minutes)))),
        [0, 0, 1, 3]
    );
    assert_eq!(watch.ended(starts, starts.minus(HOUR)), 0);
    assert_eq!(watch.ended(starts, starts.plus(HOUR * 1_000)), MOST_SLICES);
    assert_eq!(watch.before(starts, 0), (starts.minus(HOUR), starts));
    assert_eq!(watch.after(starts, 1), (starts.plus(HOUR), starts.plus(HOUR * 2)));
}

/// Devices that differ, with bursts: a slice's rate is its own.
fn course(random: &mut Stream, slices: usize, factor: f64) -> Course {
    let rate = 0.005 + 0.03 * random.unit();
    let mut score = |factor: f64| {
        let burst = if random.unit() < 0.05 { 4.0 } else { 1.0 };
        let events = (0..200).filter(|_| random.unit() < rate * burst * factor).count() as u64;
        Score::Count { events, trials: 200 }
    };
    Course { before: (0..24).map(|_| score(1.0)).collect(), since: (0..slices).map(|_| score(factor)).collect() }
}

fn found(random: &mut Stream, devices: usize, factor: f64) -> bool {
    let courses: Vec<Course> = (0..devices).map(|_| course(random, usize::from(MOST_SLICES), factor)).collect();
    (1..=usize::from(MOST_SLICES)).any(|slices| {
        let so_far = |course: &Course| Course { before: course.before.clone(), since: course.since[..slices].to_vec() };
        let courses: Vec<Course> = courses.iter().map(so_far).collect();
        look(Metric::Errors, &courses, 9, 0.05).unwrap().harm
    })
}

#[test]
fn a_harmless_release_is_seldom_rolled_back_and_a_harmful_one_mostly() {
    let mut random = Stream::new(&Digest::of(b"past"), "test", 7);
    for devices in [2, 12, 40] {
        let harmless = (0..100).filter(|_| found(&mut random, devices, 1.0)).count();
        assert!(harmless <= 9, "{devices} devices: {harmless} of 100");
        let harmful = (0..40).filter(|_| found(&mut random, devices, 6.0)).count();
        assert!(harmful >= 38, "{devices} devices: {harmful} of 40");
    }
}

#[test]
fn one_device_among_others_is_not_the_release() {
    let mut random = Stream::new(&Digest::of(b"past"), "test", 8);
    let mut courses: Vec<Course> = (0..20).map(|_| course(&mut random, 32, 1.0)).collect();
    courses.push(course(&mut random, 32, 50.0));
    let seen = look(Metric::Errors, &courses, 9, 0.05).unwrap();
    assert!(!seen.harm, "{seen:?}");
    courses.drain(..20);
    assert!(look(Metric::Errors, &courses, 9, 0.05).unwrap().harm, "alone, there is nobody else to blame it on");
}

#[test]
fn devices_without_a_past_are_not_watched() {
    let short = Course {
        before: vec![Score::Count { events: 0, trials: 9 }; 7],
        since: vec![Score::Count { events: 9, trials: 9 }; 32],
    };
    assert_eq!(look(Metric::Errors, std::slice::from_ref(&short), 9, 0.05), None);
    assert_eq!(look(Metric::Errors, &[], 9, 0.05), None);
    let silent = Course { before: vec![Score::Missing; 30], since: vec![] };
    assert_eq!(look(Metric::Errors, &[silent, short], 9, 0.05), None);
}

#[test]
fn a_slice_without_requests_says_nothing() {
    let before = vec![Score::Count { events: 1, trials: 100 }; 24];
    let since = [Score::Count { events: 9, trials: 100 }, Score::Missing].repeat(4);
    let with = look(Metric::Errors, &[Course { before: before.clone(), since: since.clone() }], 5, 0.05).unwrap();
    let since = since.into_iter().filter(|score| *score != Score::Missing).collect();
    assert_eq!(look(Metric::Errors, &[Course { before, since }], 5, 0.05).unwrap(), with);
    assert_eq!(with.told, 0, "four slices of the five that it takes");
}
