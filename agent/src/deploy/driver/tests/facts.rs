//! One fact each.

use super::*;
use crate::store::MAX_QUARANTINE;

fn in_probation(status: &DeployStatus) -> bool {
    status.models.iter().any(|m| matches!(m.candidate, Some((_, Phase::Probation))))
}

fn blocked() -> Failure {
    Failure::blocked(FailureKind::Fetch, "needs 41 MB, budget 10 MB")
}

#[tokio::test(start_paused = true)]
async fn a_release_goes_through_its_steps_in_order() {
    let (world, _clock, agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    let status = agent.live("m", 2).await;
    assert_eq!(world.take_log(), ["fetch m@2.0.0", "verify m@2.0.0", "test m@2.0.0", "swap m@2.0.0"]);
    assert_eq!(status.models[0].previous, Some(release("m", 1)));
    assert_eq!((status.models[0].swaps, status.desired_sequence), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn going_back_by_order_takes_one_swap() {
    let (world, _clock, agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.live("m", 2).await;
    world.take_log();
    agent.desired(3, &[assignment("m", 1, 1)]).await;
    agent.live("m", 1).await;
    assert_eq!(world.take_log(), ["swap m@1.0.0"]);
}

#[tokio::test(start_paused = true)]
async fn progress_shows_in_the_status() {
    let (world, _clock, agent) = box_with_release_1().await;
    world.lock().replies.insert(("fetch", release("m", 2).manifest), Reply::Hang);
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent
        .until("40 of 100", |status| {
            status.models[0].candidate == Some((release("m", 2), Phase::Fetching { done: 40, total: 100 }))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_blocked_says_why_and_is_tried_again_with_back_off() {
    let (world, _clock, agent) = box_with_release_1().await;
    world.lock().replies.insert(("fetch", release("m", 2).manifest), Reply::Fail(blocked()));
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    let why = |status: &DeployStatus| {
        status.models[0].candidate == Some((release("m", 2), Phase::Blocked(blocked().detail.clone())))
    };
    agent.until("blocked", why).await;
    seconds(3_600).await;
    let tries = world.take_log().len();
    assert!((9..=20).contains(&tries), "2 s doubling to 15 min makes a dozen tries in an hour, not {tries}");
    world.lock().replies.clear();
    agent.live("m", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_probation_without_requests_ends_well_when_its_time_is_up() {
    let (world, clock, agent) = box_with_release_1().await;
    let began = clock.monotonic();
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.live("m", 2).await;
    let took = clock.monotonic().saturating_sub(began).as_secs();
    assert!((10..=12).contains(&took), "{took} s");
    assert_eq!(world.answering("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn harm_brings_the_previous_release_back_within_seconds() {
    let (world, clock, agent) = box_with_release_1().await;
    world.lock().harmful.insert(release("m", 2).manifest);
    let began = clock.monotonic();
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
    let status = agent.live("m", 1).await;
    assert!(clock.monotonic().saturating_sub(began) < Duration::from_secs(3));
    let entry = &status.quarantine[0];
    assert_eq!((entry.kind, entry.attempt), (FailureKind::Errors, 1));
    assert_eq!(entry.detail, "50 of 50 requests failed in the model (100.0 %, budget 1.0 %)");
    assert_eq!(world.answering("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn harm_is_taken_back_though_the_disk_is_full_and_written_down_later() {
    let (world, _clock, agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("in probation", in_probation).await;
    {
        let mut inside = world.lock();
        inside.full = true;
        inside.harmful.insert(release("m", 2).manifest);
    }
    let status = agent.live("m", 1).await;
    assert_eq!(world.answering("m"), Some(1));
    assert!(status.trouble.unwrap().starts_with("the disk is full"));
    assert!(matches!(world.slot("m").unwrap().state, State::Probation { .. }), "nothing could be written");
    world.lock().full = false;
    agent.until("written", |status| status.trouble.is_none()).await;
    let slot = world.slot("m").unwrap();
    assert_eq!((slot.state, slot.live.unwrap().release), (State::Idle, release("m", 1)));
    assert_eq!(world.lock().quarantine[0].kind, FailureKind::Errors);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_was_swapped_in_as_the_disk_became_full_is_watched_and_taken_back() {
    let (world, _clock, agent) = box_with_release_1().await;
    world.lock().replies.insert(("swap", release("m", 2).manifest), Reply::Fills);
    world.lock().harmful.insert(release("m", 2).manifest);
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
    agent.live("m", 1).await;
    assert_eq!(world.answering("m"), Some(1));
    assert!(matches!(world.slot("m").unwrap().state, State::Swapping { .. }), "nothing could be written");
    world.lock().full = false;
    agent.until("written", |status| status.trouble.is_none()).await;
    assert_eq!(world.slot("m").unwrap().state, State::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_probation_that_began_on_a_full_disk_ends_when_there_is_space() {
    let (world, _clock, agent) = box_with_release_1().await;
    world.lock().replies.insert(("swap", release("m", 2).manifest), Reply::Fills);
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("in probation", in_probation).await;
    seconds(600).await;
    assert!(in_probation(&agent.handle.status().borrow()), "its end deletes files, so it waits for the journal");
    world.lock().full = false;
    agent.live("m", 2).await;
    assert_eq!(world.slot("m").unwrap().state, State::Idle);
}

#[tokio::test(start_paused = true)]
async fn harm_does_not_queue_behind_a_change_that_cannot_be_written() {
    let (world, _clock, agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("in probation", in_probation).await;
    // The removal is accepted; its step is not written.
    let write = world.lock().writes + 2;
    world.lock().fault = Some((write, Fault::Error));
    world.lock().may_vanish = true;
    agent.desired(3, &[]).await;
    world.lock().full = true;
    world.lock().harmful.insert(release("m", 2).manifest);
    agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
    assert!(world.lock().full, "while the disk is full");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_changes_and_they_go_on_when_there_is_space() {
    let (world, _clock, agent) = box_with_release_1().await;
    world.lock().full = true;
    let refusal = agent.handle.desired(desired(2, FOREVER, &[assignment("m", 2, 1)])).await.unwrap_err();
    assert!(matches!(refusal, Refusal::NotStored(_)) && refusal.again(), "{refusal:?}");
    let held = agent.handle.hold("x".into(), None).await.unwrap_err();
    assert!(matches!(held, CommandError::NotStored(_)), "{held:?}");
    world.lock().full = false;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    world.lock().full = true;
    seconds(60).await;
    assert_eq!(world.answering("m"), Some(1));
    world.lock().full = false;
    agent.live("m", 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_second_death_in_probation_starts_with_previous() {
    let (world, clock, mut agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    for starts_with in ["swap m@2.0.0", "swap m@1.0.0"] {
        agent.until("in probation", in_probation).await;
        agent.kill(&world).await;
        world.take_log();
        agent = start(&world, &clock);
        agent.until("restored", |status| status.restored).await;
        assert_eq!(world.take_log(), [starts_with]);
    }
    assert_eq!(world.lock().quarantine[0].kind, FailureKind::Crash);
    seconds(600).await;
    assert_eq!(world.answering("m"), Some(1), "it is not tried again");
}

#[tokio::test(start_paused = true)]
async fn memory_that_another_model_takes_is_not_held_against_a_release_in_probation() {
    let (world, _clock, agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("in probation", in_probation).await;
    world.lock().replies.insert(("test", release("x", 1).manifest), Reply::Hang);
    agent.desired(3, &[assignment("m", 2, 1), assignment("x", 1, 1)]).await;
    seconds(2).await;
    world.lock().grown_mib = 80;
    agent.live("m", 2).await;
    assert_eq!(world.lock().quarantine, []);
}

#[tokio::test(start_paused = true)]
async fn memory_that_other_models_take_while_all_are_loaded_at_a_start_is_not_held_against_one() {
    let (world, clock, agent) = box_with_release_1().await;
    let two = [assignment("a", 1, 1), Assignment { probation_s: 600, ..assignment("m", 2, 1) }];
    agent.desired(2, &two).await;
    agent.live("a", 1).await;
    agent.until("in probation", in_probation).await;
    agent.kill(&world).await;
    world.lock().grown_mib = 80;
    let agent = start(&world, &clock);
    agent.until("restored", |status| status.restored).await;
    seconds(60).await;
    assert_eq!(world.lock().quarantine, []);
    world.lock().grown_mib = 160;
    agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_takes_too_much_memory_for_three_looks_is_taken_back() {
    let (world, _clock, agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("in probation", in_probation).await;
    world.lock().grown_mib = 80;
    seconds(2).await;
    world.lock().grown_mib = 10;
    seconds(2).await;
    assert_eq!(world.lock().quarantine, [], "a peak is no proof");
    world.lock().grown_mib = 80;
    let status = agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
    assert_eq!(status.quarantine[0].kind, FailureKind::Memory);
}

#[tokio::test(start_paused = true)]
async fn deaths_in_the_self_test_of_one_model_are_not_held_against_another_in_probation() {
    let (world, clock, mut agent) = box_with_release_1().await;
    let assignments = [Assignment { probation_s: 600, ..assignment("m", 2, 1) }, assignment("x", 1, 1)];
    agent.desired(2, &assignments[..1]).await;
    agent.until("in probation", in_probation).await;
    world.lock().replies.insert(("test", release("x", 1).manifest), Reply::Hang);
    agent.desired(3, &assignments).await;
    let tested =
        |status: &DeployStatus| status.models.iter().any(|m| matches!(m.candidate, Some((_, Phase::SelfTesting))));
    for _ in 0..2 {
        agent.until("self-test", tested).await;
        agent.kill(&world).await;
        agent = start(&world, &clock);
    }
    let status = agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
    assert_eq!(status.quarantine[0].release, release("x", 1));
    seconds(60).await;
    assert_eq!(world.answering("m"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn orderly_stops_in_probation_are_no_deaths_and_its_time_adds_up() {
    let (world, clock, mut agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    for _ in 0..3 {
        agent.until("in probation", in_probation).await;
        seconds(3).await;
        agent.stop(&world).await;
        agent = start(&world, &clock);
    }
    let began = clock.monotonic();
    agent.live("m", 2).await;
    assert!(clock.monotonic().saturating_sub(began) < Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_effect_fails_the_release_and_not_the_agent() {
    let (world, _clock, agent) = box_with_release_1().await;
    world.lock().replies.insert(("test", release("m", 2).manifest), Reply::Panic);
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    let status = agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
    assert_eq!(status.quarantine[0].detail, "the agent panicked: a bug in test");
    agent.desired(3, &[assignment("m", 3, 1)]).await;
    agent.live("m", 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_release_waits_for_a_higher_attempt() {
    let (world, _clock, agent) = box_with_release_1().await;
    let failure = Failure::of_release(FailureKind::SelfTest, "x".repeat(4 * MAX_DETAIL_BYTES));
    world.lock().replies.insert(("test", release("m", 2).manifest), Reply::FailTimes(1, failure));
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    let status = agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
    assert_eq!(status.quarantine[0].detail.len(), MAX_DETAIL_BYTES);
    agent.desired(3, &[assignment("m", 2, 1)]).await;
    seconds(600).await;
    assert_eq!(world.answering("m"), Some(1));
    agent.desired(4, &[assignment("m", 2, 2)]).await;
    agent.live("m", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_that_is_full_forgets_the_oldest() {
    let (world, clock) = (world(), Arc::new(PausedClock::new()));
    let entry = |n: u64| {
        let (release, at) = (release("x", n), Timestamp::from_millis(n));
        Quarantined { release, attempt: 1, rollout: None, kind: FailureKind::Errors, detail: String::new(), at }
    };
    world.lock().quarantine = (1..=u64::try_from(MAX_QUARANTINE).unwrap()).map(entry).collect();
    world.lock().replies.insert(("test", release("m", 2).manifest), Reply::Panic);
    let agent = start(&world, &clock);
    agent.desired(1, &[assignment("m", 2, 1)]).await;
    let failed = |status: &DeployStatus| status.quarantine.iter().any(|entry| entry.release == release("m", 2));
    let status = agent.until("quarantined", failed).await;
    assert_eq!(status.quarantine.len(), MAX_QUARANTINE);
    assert!(!status.quarantine.contains(&entry(1)) && status.quarantine.contains(&entry(2)));
}

#[tokio::test(start_paused = true)]
async fn a_hold_refuses_changes_until_its_time_is_up() {
    let (world, clock, agent) = box_with_release_1().await;
    let until = clock.now().plus(Duration::from_secs(60));
    agent.handle.hold("harvest".into(), Some(until)).await.unwrap();
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    seconds(50).await;
    assert_eq!(world.take_log(), Vec::<String>::new());
    assert_eq!(agent.handle.status().borrow().hold.as_ref().unwrap().reason, "harvest");
    let status = agent.live("m", 2).await;
    assert_eq!(status.hold, None);
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_by_the_time_that_was_signed_where_the_clock_is_behind() {
    let (_world, clock, agent) = box_with_release_1().await;
    let began = clock.monotonic();
    let until = clock.now().plus(Duration::from_secs(1_800));
    agent.handle.hold("harvest".into(), Some(until)).await.unwrap();
    let issued = until.plus(Duration::from_secs(1));
    agent.handle.desired(Desired { issued, ..desired(2, FOREVER, &[assignment("m", 2, 1)]) }).await.unwrap();
    agent.live("m", 2).await;
    assert!(clock.monotonic().saturating_sub(began) < Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_hold_in_the_middle_of_a_fetch_puts_it_off() {
    let (world, _clock, agent) = box_with_release_1().await;
    world.lock().replies.insert(("fetch", release("m", 2).manifest), Reply::Hang);
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("fetching", |status| status.models[0].candidate.is_some()).await;
    agent.handle.hold("now not".into(), None).await.unwrap();
    agent.live("m", 1).await;
    world.lock().replies.clear();
    agent.handle.release_hold().await.unwrap();
    let status = agent.live("m", 2).await;
    assert_eq!(status.quarantine, [], "being put off is no failure");
}

#[tokio::test(start_paused = true)]
async fn a_desired_state_that_expires_stops_changes_and_not_the_model() {
    let (world, clock, agent) = box_with_release_1().await;
    world.lock().replies.insert(("fetch", release("m", 2).manifest), Reply::Hang);
    let expires = clock.now().plus(Duration::from_secs(30));
    agent.handle.desired(desired(2, expires.as_millis(), &[assignment("m", 2, 1)])).await.unwrap();
    agent.until("fetching", |status| status.models[0].candidate.is_some()).await;
    agent.live("m", 1).await;
    assert!(clock.now() > expires);
    assert_eq!(world.answering("m"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn known_stale_and_expired_states_are_refused() {
    let (_world, _clock, agent) = box_with_release_1().await;
    let offer = async |sequence, expires| {
        let refusal = agent.handle.desired(desired(sequence, expires, &[assignment("m", 2, 1)])).await;
        refusal.map_or_else(|refusal| refusal.reason(), |()| "accepted")
    };
    assert_eq!(offer(1, FOREVER).await, "desired-known");
    assert_eq!(offer(0, FOREVER).await, "desired-stale");
    assert_eq!(offer(2, 10).await, "desired-expired");
    assert_eq!(offer(2, FOREVER).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_local_rollback_is_offline_and_sticks() {
    let (world, clock, agent) = box_with_release_1().await;
    let model = || "m".parse().unwrap();
    assert_eq!(agent.handle.rollback(model()).await, Err(CommandError::NoPrevious(model())));
    assert_eq!(agent.handle.rollback("x".parse().unwrap()).await, Err(CommandError::NoModel("x".parse().unwrap())));
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.live("m", 2).await;
    world.take_log();
    assert_eq!(agent.handle.rollback(model()).await, Ok(release("m", 1)));
    let status = agent.live("m", 1).await;
    assert_eq!(world.take_log(), ["swap m@1.0.0"]);
    assert_eq!(status.quarantine[0].kind, FailureKind::LocalRollback);
    agent.kill(&world).await;
    let agent = start(&world, &clock);
    seconds(600).await;
    assert_eq!(world.answering("m"), Some(1));
    drop(agent);
}

#[tokio::test(start_paused = true)]
async fn a_live_release_whose_files_went_bad_gives_way_and_comes_anew() {
    let (world, clock, agent) = box_with_release_1().await;
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.live("m", 2).await;
    agent.kill(&world).await;
    world.lock().files.remove(&release("m", 2).manifest);
    world.take_log();
    let agent = start(&world, &clock);
    agent.until("restored", |status| status.restored).await;
    let status = agent.live("m", 2).await;
    let log = world.take_log();
    assert_eq!(log[..3], ["swap m@2.0.0"; 3], "tried three times");
    assert_eq!(log[3..], ["swap m@1.0.0", "fetch m@2.0.0", "verify m@2.0.0", "test m@2.0.0", "swap m@2.0.0"]);
    assert_eq!(status.quarantine, []);
}

#[tokio::test(start_paused = true)]
async fn self_tests_run_one_at_a_time() {
    let (world, clock) = (world(), Arc::new(PausedClock::new()));
    let agent = start(&world, &clock);
    let models: Vec<_> = ["a", "b", "c", "d"].iter().map(|m| assignment(m, 1, 1)).collect();
    agent.desired(1, &models).await;
    for model in ["a", "b", "c", "d"] {
        agent.live(model, 1).await;
    }
    assert_eq!(world.lock().most_heavy, 1);
}

#[tokio::test(start_paused = true)]
async fn files_of_live_and_previous_are_kept_and_others_deleted() {
    let (world, _clock, agent) = box_with_release_1().await;
    for n in [2, 3] {
        agent.desired(n, &[assignment("m", n, 1)]).await;
        agent.live("m", n).await;
    }
    seconds(5).await;
    let kept: Vec<_> = [2, 3].iter().map(|n| release("m", *n).manifest).collect();
    assert_eq!(world.lock().files, kept.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_before_a_desired_state_is_known() {
    let (world, clock) = (world(), Arc::new(PausedClock::new()));
    world.lock().files.insert(release("m", 1).manifest);
    let agent = start(&world, &clock);
    seconds(10).await;
    assert_eq!(world.lock().files.len(), 1, "after damage to the journal the files are all there is");
    agent.desired(1, &[assignment("m", 1, 1)]).await;
    agent.live("m", 1).await;
    assert_eq!(world.lock().files.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_journal_ends_the_driver() {
    let (world, _clock, mut agent) = box_with_release_1().await;
    world.lock().damaged = true;
    drop(agent.handle.desired(desired(2, FOREVER, &[assignment("m", 2, 1)])).await);
    let end = agent.task.join_next().await.unwrap().unwrap();
    assert!(matches!(end, Err(DriverError::Journal(_))), "{end:?}");
    assert_eq!(agent.handle.root_changed().await, Err(CommandError::Stopping));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_within_a_second_though_an_effect_hangs() {
    let (world, clock, agent) = box_with_release_1().await;
    world.lock().replies.insert(("swap", release("m", 2).manifest), Reply::Hang);
    agent.desired(2, &[assignment("m", 2, 1)]).await;
    agent.until("swapping", |s| matches!(s.models[0].candidate, Some((_, Phase::Swapping)))).await;
    let began = clock.monotonic();
    agent.stop(&world).await;
    assert!(clock.monotonic().saturating_sub(began) < Duration::from_secs(1));
}
