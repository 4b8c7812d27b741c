use super::*;
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap()
}

fn windows(text: &str) -> Vec<Window> {
    text.split(';').map(|window| window.parse().unwrap()).collect()
}

/// Whether these windows are open at an instant.
fn check(given: &str, zone: &str, now: &str, open: bool) {
    let zone: Zone = zone.parse().unwrap();
    assert_eq!(is_open(&windows(given), &zone, at(now)), open, "{given} in {zone} at {now}, {}", zone.wall(at(now)));
}

/// When these windows, closed at an instant, open.
fn next(given: &str, zone: &str, now: &str, expected: &str) {
    let zone: Zone = zone.parse().unwrap();
    let found = opens(&windows(given), &zone, at(now)).map(|found| found.to_string());
    assert_eq!(found.as_deref(), Some(at(expected).to_string().as_str()), "{given} in {zone} after {now}");
}

#[test]
fn a_window_is_open_from_its_first_minute_to_the_one_before_its_last() {
    check("01:00-05:00", "UTC", "2026-11-26T00:59:59.999Z", false);
    check("01:00-05:00", "UTC", "2026-11-26T01:00:00Z", true);
    check("01:00-05:00", "UTC", "2026-11-26T04:59:59.999Z", true);
    check("01:00-05:00", "UTC", "2026-11-26T05:00:00Z", false);
}

#[test]
fn days_are_days_of_the_device() {
    // 26 November 2026 is a Thursday.
    check("Mon-Fri 01:00-05:00", "UTC", "2026-11-26T02:00:00Z", true);
    check("Sat,Sun 01:00-05:00", "UTC", "2026-11-26T02:00:00Z", false);
    check("Sat-Mon 00:00-24:00", "UTC", "2026-11-29T12:00:00Z", true);
    check("Sat-Mon 00:00-24:00", "UTC", "2026-11-30T23:59:00Z", true);
    check("Sat-Mon 00:00-24:00", "UTC", "2026-12-01T00:00:00Z", false);
    // Friday evening in New York is Saturday in UTC.
    check("Fri 20:00-23:00", "America/New_York", "2026-11-28T02:00:00Z", true);
    check("Sat 00:00-24:00", "Asia/Kathmandu", "2026-11-27T18:15:00Z", true);
    check("Sat 00:00-24:00", "Asia/Kathmandu", "2026-11-27T18:14:00Z", false);
}

#[test]
fn a_window_past_midnight_belongs_to_the_day_on_which_it_begins() {
    check("Fri 22:00-04:00", "UTC", "2026-11-27T22:00:00Z", true);
    check("Fri 22:00-04:00", "UTC", "2026-11-28T03:59:00Z", true);
    check("Fri 22:00-04:00", "UTC", "2026-11-28T04:00:00Z", false);
    check("Fri 22:00-04:00", "UTC", "2026-11-27T03:00:00Z", false);
    check("Sun 22:00-04:00", "UTC", "2026-11-30T03:00:00Z", true);
    next("Fri 22:00-04:00", "UTC", "2026-11-28T04:00:00Z", "2026-12-04T22:00:00Z");
}

#[test]
fn the_next_opening_is_in_the_device_s_zone() {
    next("Mon-Fri 01:00-05:00", "Europe/Paris", "2026-11-26T12:00:00Z", "2026-11-27T00:00:00Z");
    next("Mon-Fri 01:00-05:00", "Europe/Paris", "2026-11-27T12:00:00Z", "2026-11-30T00:00:00Z");
    next("01:00-05:00", "America/New_York", "2026-07-01T12:00:00Z", "2026-07-02T05:00:00Z");
    next("01:00-05:00", "Asia/Kathmandu", "2026-11-26T12:00:00Z", "2026-11-26T19:15:00Z");
    next("03:00-04:00; 14:00-15:00", "UTC", "2026-11-26T12:00:00Z", "2026-11-26T14:00:00Z");
}

/// Paris, 29 March 2026: at 02:00 (01:00 UTC) the clock shows 03:00.
#[test]
fn a_window_that_begins_in_the_hour_that_is_left_out_opens_behind_it() {
    check("02:30-04:00", "Europe/Paris", "2026-03-29T00:59:00Z", false);
    check("02:30-04:00", "Europe/Paris", "2026-03-29T01:00:00Z", true);
    next("02:30-04:00", "Europe/Paris", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z");
    check("02:30-04:00", "Europe/Paris", "2026-03-29T02:00:00Z", false);
}

#[test]
fn a_window_that_is_left_out_whole_does_not_open_that_night() {
    check("02:00-03:00", "Europe/Paris", "2026-03-29T01:00:00Z", false);
    next("02:00-03:00", "Europe/Paris", "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z");
    next("Sun 02:00-03:00", "Europe/Paris", "2026-03-23T12:00:00Z", "2026-04-05T00:00:00Z");
    // New York, 8 March 2026.
    next("Sun 02:15-02:45", "America/New_York", "2026-03-02T12:00:00Z", "2026-03-15T06:15:00Z");
}

/// Paris, 25 October 2026: at 03:00 summer time (01:00 UTC) the clock shows 02:00 again.
#[test]
fn a_window_in_the_hour_that_comes_twice_is_open_twice() {
    for (now, open) in [
        ("2026-10-25T00:14:00Z", false),
        ("2026-10-25T00:15:00Z", true),
        ("2026-10-25T00:45:00Z", false),
        ("2026-10-25T01:14:00Z", false),
        ("2026-10-25T01:15:00Z", true),
        ("2026-10-25T01:45:00Z", false),
    ] {
        check("02:15-02:45", "Europe/Paris", now, open);
    }
    next("02:15-02:45", "Europe/Paris", "2026-10-25T00:50:00Z", "2026-10-25T01:15:00Z");
    // New York, 1 November 2026: one window over the whole of it is open for three hours.
    check("01:00-03:00", "America/New_York", "2026-11-01T05:00:00Z", true);
    check("01:00-03:00", "America/New_York", "2026-11-01T06:30:00Z", true);
    check("01:00-03:00", "America/New_York", "2026-11-01T07:59:00Z", true);
    check("01:00-03:00", "America/New_York", "2026-11-01T08:00:00Z", false);
}

#[test]
fn a_window_that_the_clock_jumps_back_out_of_opens_again() {
    // 02:30-03:30 in Paris: open until the clock is put back at 03:00, closed from 02:00 to 02:30, open again.
    check("02:30-03:30", "Europe/Paris", "2026-10-25T00:59:00Z", true);
    check("02:30-03:30", "Europe/Paris", "2026-10-25T01:10:00Z", false);
    next("02:30-03:30", "Europe/Paris", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z");
}

#[test]
fn since_when_a_window_is_open_is_known() {
    let zone: Zone = "Europe/Paris".parse().unwrap();
    let since = |given: &str, now: &str| opened(&windows(given), &zone, at(now)).map(|found| found.to_string());
    assert_eq!(since("22:00-04:00", "2026-11-27T02:00:00Z").unwrap(), at("2026-11-26T21:00:00Z").to_string());
    assert_eq!(since("02:30-04:00", "2026-03-29T01:30:00Z").unwrap(), at("2026-03-29T01:00:00Z").to_string());
    assert_eq!(since("00:00-24:00", "2026-11-27T02:00:00Z"), None, "it is always open");
}

#[test]
fn texts_that_are_no_windows_are_refused() {
    for text in [
        "",
        "01:00",
        "1:00-5:00",
        "01:00-25:00",
        "01:60-02:00",
        "24:30-01:00",
        "Mon",
        "Mon-Foo 01:00-02:00",
        "Mon 01:00",
        "Mon 01:00-02:00 Tue",
        "-01:00-02:00",
        "01:00-01:00",
        "24:00-01:00",
        "Mon, 01:00-02:00",
    ] {
        assert!(text.parse::<Window>().is_err(), "{text}");
    }
    assert!(matches!("03:00-03:00".parse::<Window>(), Err(MaintenanceError::Empty(_))));
}

#[test]
fn an_unknown_zone_is_refused_with_what_may_be_meant() {
    for (text, hint) in [
        ("Paris", "`Europe/Paris`"),
        ("Europ/Paris", "`Europe/Paris`"),
        ("America/New York", "`America/New_York`"),
        ("Asia/Katmandoo", "`Asia/Katmandu`"),
        ("CET+1", "IANA"),
        ("", "IANA"),
        ("Etc/Unknown", "IANA"),
    ] {
        let error = text.parse::<Zone>().unwrap_err().to_string();
        assert!(error.contains(hint), "{text}: {error}");
    }
    assert_eq!("europe/paris".parse::<Zone>().unwrap().to_string(), "Europe/Paris");
    assert_eq!(("UTC".parse::<Zone>().unwrap(), Zone::default().to_string()), (Zone::default(), "UTC".to_owned()));
}

#[test]
fn a_label_names_the_zone_and_a_wrong_one_opens_nothing() {
    let (given, zone) = (windows("01:00-05:00"), "Europe/Paris".parse().unwrap());
    let calendar = Calendar::new(&given, &zone, at("2026-11-26T02:00:00Z"));
    let of = |zone: &str| calendar.of(&[(LABEL.to_owned(), zone.to_owned())].into());
    assert!(matches!(calendar.of(&BTreeMap::new()), Opening::Open { since: Some(_) }));
    let Opening::Closed { opens: Some(opens), zone } = of("America/New_York") else { panic!("open") };
    assert_eq!((opens, zone.wall(opens).as_str()), (at("2026-11-26T06:00:00Z"), "Thu 01:00"));
    assert!(matches!(of("Mars/Olympus"), Opening::Unknown { .. }));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(days in 1_u8..=EVERY_DAY, from in 0_u16..DAY, length in 1_u16..DAY) {
        let window = Window { days, from, to: (from + length) % DAY };
        prop_assert_eq!(window.to_string().parse(), Ok(window));
    }

    /// An opening is the first instant at which it is open, whatever the zone does: no minute before it is.
    #[test]
    fn nothing_is_open_before_the_next_opening(
        zone in prop::sample::select(vec!["Europe/Paris", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
        hour in 0_u64..24 * 366, days in 1_u8..=EVERY_DAY, from in 0_u16..DAY, length in 1_u16..600,
    ) {
        let zone: Zone = zone.parse().unwrap();
        let given = [Window { days, from, to: (from + length) % DAY }];
        let minute = |n: u64| Timestamp::from_millis(1_767_225_600_000 + hour * 3_600_000 + n * 60_000);
        prop_assume!(!is_open(&given, &zone, minute(0)));
        let next = opens(&given, &zone, minute(0)).unwrap();
        prop_assert!(is_open(&given, &zone, next));
        let minutes = (next.as_millis() - minute(0).as_millis()) / 60_000;
        let early = (1..minutes.min(30 * 24 * 60)).find(|n| is_open(&given, &zone, minute(*n)));
        prop_assert_eq!(early, None);
    }

    #[test]
    fn noise_never_panics(text in "\\PC{0,30}") {
        drop(text.parse::<Window>());
        drop(text.parse::<Zone>());
    }
}
