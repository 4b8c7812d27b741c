//! A candidate beside the live release.

use super::*;

async fn shadowed(agent: &Agent, n: u64) {
    let shows =
        |status: &DeployStatus| status.models.iter().any(|m| m.candidate == Some((release("m", n), Phase::Shadowing)));
    agent.until("in shadow", shows).await;
    seconds(5).await;
}

#[tokio::test(start_paused = true)]
async fn a_shadow_stays_beside_the_live_release_until_it_is_told_otherwise() {
    let (world, _clock, agent) = box_with_release_1().await;
    agent.handle.desired(beside(2, &[assignment("m", 2, 1)])).await.unwrap();
    shadowed(&agent, 2).await;
    seconds(100_000).await;
    assert_eq!((world.answering("m"), world.beside("m")), (Some(1), Some(2)));
    world.take_log();
    agent.desired(3, &[assignment("m", 2, 1)]).await;
    agent.live("m", 2).await;
    assert_eq!((world.beside("m"), world.take_log()), (None, vec![format!("swap {}", release("m", 2))]));
}

#[tokio::test(start_paused = true)]
async fn a_shadow_beyond_its_bound_is_quarantined_and_never_answered() {
    let (world, _clock, agent) = box_with_release_1().await;
    world.lock().harmful.insert(release("m", 2).manifest);
    agent.handle.desired(beside(2, &[assignment("m", 2, 1)])).await.unwrap();
    let status = agent.until("quarantined", |status| !status.quarantine.is_empty()).await;
    assert_eq!(status.quarantine[0].kind, FailureKind::Disagreement);
    agent.desired(3, &[assignment("m", 2, 1)]).await;
    seconds(100).await;
    assert_eq!((world.answering("m"), world.beside("m")), (Some(1), None));
    assert!(!world.take_log().contains(&format!("swap {}", release("m", 2))));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_keeps_no_harmful_release_beside_the_live_one() {
    let (world, _clock, agent) = box_with_release_1().await;
    agent.handle.desired(beside(2, &[assignment("m", 2, 1)])).await.unwrap();
    shadowed(&agent, 2).await;
    {
        let mut inside = world.lock();
        inside.full = true;
        inside.harmful.insert(release("m", 2).manifest);
    }
    seconds(5).await;
    assert_eq!((world.answering("m"), world.beside("m")), (Some(1), None));
}

#[tokio::test(start_paused = true)]
async fn a_shadow_goes_on_after_a_death_and_ends_with_the_second() {
    let (world, clock, agent) = box_with_release_1().await;
    agent.handle.desired(beside(2, &[assignment("m", 2, 1)])).await.unwrap();
    shadowed(&agent, 2).await;
    agent.kill(&world).await;
    let agent = start(&world, &clock);
    shadowed(&agent, 2).await;
    assert_eq!((world.answering("m"), world.beside("m")), (Some(1), Some(2)));
    agent.kill(&world).await;
    let agent = start(&world, &clock);
    let status = agent.live("m", 1).await;
    assert_eq!((status.quarantine[0].kind, world.beside("m")), (FailureKind::Crash, None));
}

#[tokio::test(start_paused = true)]
async fn a_shadow_ends_with_the_desired_state_that_asked_for_it() {
    let (world, clock, agent) = box_with_release_1().await;
    let state =
        Desired { expires: clock.now().plus(Duration::from_secs(60)), ..beside(2, &[assignment("m", 2, 1)]).state };
    agent.handle.desired(v2::Desired { state, ..beside(2, &[]) }).await.unwrap();
    shadowed(&agent, 2).await;
    seconds(60).await;
    agent.live("m", 1).await;
    assert_eq!((world.answering("m"), world.beside("m")), (Some(1), None));
}
