//! {error, late error, death before, death after} at every write of every scenario: the end is the same as without.

use super::*;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Order {
    Desired(Vec<Assignment>),
    /// The same, and `m` stands beside its live release.
    Beside(Vec<Assignment>),
    LocalRollback,
    Hold,
    ReleaseHold,
    Revoke(u64),
    /// A death that no write causes, and a start after it.
    Kill,
    /// Deaths that follow each other closely.
    CrashLoop,
    Stop,
}

struct Scenario {
    orders: Vec<Order>,
    prepare: fn(&World),
    /// Answering at the end, per model.
    end: &'static [(&'static str, u64)],
    quarantined: &'static [u64],
}

fn one(n: u64, attempt: u32) -> Order {
    Order::Desired(vec![assignment("m", n, attempt)])
}

fn shadow(n: u64) -> Order {
    Order::Beside(vec![assignment("m", n, 1)])
}

fn fails(step: &'static str, n: u64, failure: Failure) -> impl Fn(&World) {
    move |world: &World| {
        world.lock().replies.insert((step, release("m", n).manifest), Reply::Fail(failure.clone()));
    }
}

fn scenarios() -> Vec<(&'static str, Scenario)> {
    let plain = |orders: Vec<Order>, end| Scenario { orders, prepare: |_| (), end, quarantined: &[] };
    vec![
        ("first install", plain(vec![one(1, 1)], &[("m", 1)])),
        ("update", plain(vec![one(1, 1), one(2, 1)], &[("m", 2)])),
        ("update in a hurry", plain(vec![one(1, 1), one(2, 1), one(3, 1)], &[("m", 3)])),
        ("ordered back", plain(vec![one(1, 1), one(2, 1), one(1, 1)], &[("m", 1)])),
        ("shadow, then live", plain(vec![one(1, 1), shadow(2), one(2, 1)], &[("m", 2)])),
        ("shadow, then ordered back", plain(vec![one(1, 1), shadow(2), one(1, 1)], &[("m", 1)])),
        ("shadow, then another", plain(vec![one(1, 1), shadow(2), shadow(3), one(3, 1)], &[("m", 3)])),
        ("first install in shadow", plain(vec![shadow(1)], &[("m", 1)])),
        (
            "a shadow that disagrees",
            Scenario {
                orders: vec![one(1, 1), shadow(2), one(2, 1)],
                prepare: |world| {
                    world.lock().harmful.insert(release("m", 2).manifest);
                },
                end: &[("m", 1)],
                quarantined: &[2],
            },
        ),
        ("removal", plain(vec![one(1, 1), Order::Desired(vec![])], &[])),
        (
            "two models",
            plain(
                vec![
                    Order::Desired(vec![assignment("a", 1, 1), assignment("m", 1, 1)]),
                    Order::Desired(vec![assignment("a", 2, 1), assignment("m", 1, 1)]),
                ],
                &[("a", 2), ("m", 1)],
            ),
        ),
        ("hold", plain(vec![one(1, 1), Order::Hold, one(2, 1), Order::ReleaseHold], &[("m", 2)])),
        ("stopped in order", plain(vec![one(1, 1), one(2, 1), Order::Stop, Order::Stop], &[("m", 2)])),
        ("killed at rest", plain(vec![one(1, 1), one(2, 1), Order::Kill, Order::Kill, Order::Kill], &[("m", 2)])),
        (
            "a crash loop after probation",
            Scenario {
                orders: vec![one(1, 1), one(2, 1), Order::CrashLoop],
                prepare: |_| (),
                end: &[("m", 1)],
                quarantined: &[2],
            },
        ),
        (
            "harm in probation",
            Scenario {
                orders: vec![one(1, 1), one(2, 1)],
                prepare: |world| {
                    world.lock().harmful.insert(release("m", 2).manifest);
                },
                end: &[("m", 1)],
                quarantined: &[2],
            },
        ),
        (
            "failed self-test, then a higher attempt",
            Scenario {
                orders: vec![one(1, 1), one(2, 1), one(2, 2)],
                prepare: |world| fails("test", 2, Failure::of_release(FailureKind::SelfTest, "NaN"))(world),
                end: &[("m", 1)],
                quarantined: &[2],
            },
        ),
        (
            "local rollback",
            Scenario {
                orders: vec![one(1, 1), one(2, 1), Order::LocalRollback],
                prepare: |_| (),
                end: &[("m", 1)],
                quarantined: &[2],
            },
        ),
        (
            "live is revoked",
            Scenario {
                orders: vec![one(1, 1), one(2, 1), Order::Revoke(2)],
                prepare: |_| (),
                end: &[("m", 1)],
                quarantined: &[2],
            },
        ),
    ]
}

/// A box through a scenario, with restarts whenever it dies.
struct Life<'a> {
    world: &'a Arc<World>,
    clock: &'a Arc<PausedClock>,
    agent: Option<Agent>,
    /// The retained message: presented at each connection.
    retained: Option<v2::Desired>,
}

impl Life<'_> {
    async fn restart(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill(self.world).await;
        }
        self.agent = Some(start(self.world, self.clock));
    }

    fn handle(&self) -> DriverHandle {
        self.agent.as_ref().unwrap().handle.clone()
    }

    /// Does something until it is done, through errors and deaths.
    async fn through<F: Future<Output = bool>>(&mut self, work: impl Fn(DriverHandle, Option<v2::Desired>) -> F) {
        for _ in 0..20 {
            let done = tokio::select! {
                () = self.world.died.notified() => false,
                done = work(self.handle(), self.retained.clone()) => {
                    if !done {
                        seconds(5).await;
                    }
                    done && !self.world.lock().dead
                }
            };
            if done {
                return;
            }
            if self.world.lock().dead {
                self.restart().await;
            }
        }
        panic!("it is never done");
    }

    /// The link presents the retained desired state until it is known; then the box is left alone for a while.
    async fn settle(&mut self) {
        self.through(async |handle, retained| {
            if let Some(retained) = retained {
                match handle.desired(retained).await {
                    Ok(()) | Err(Refusal::Known(_)) => {}
                    Err(refusal) if refusal.again() => return false,
                    Err(Refusal::Stopping) => return false,
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            // Longer than a release is watched after a death.
            seconds(400).await;
            true
        })
        .await;
    }

    async fn obey(&mut self, order: &Order, sequence: u64) {
        match order {
            Order::Desired(assignments) => self.retained = Some(desired(sequence, FOREVER, assignments).into()),
            Order::Beside(assignments) => self.retained = Some(beside(sequence, assignments)),
            Order::LocalRollback => {
                self.through(async |handle, _| match handle.rollback("m".parse().unwrap()).await {
                    Ok(_) | Err(CommandError::NoPrevious(_)) => true,
                    Err(_) => false,
                })
                .await;
            }
            Order::Hold => self.through(async |h, _| h.hold("test".into(), None).await.is_ok()).await,
            Order::ReleaseHold => self.through(async |h, _| h.release_hold().await.is_ok()).await,
            Order::Revoke(n) => {
                self.world.lock().revoked.push(release("m", *n).manifest);
                self.through(async |handle, _| handle.root_changed().await.is_ok()).await;
            }
            Order::Kill => self.restart().await,
            Order::CrashLoop => {
                for _ in 0..6 {
                    self.restart().await;
                    seconds(10).await;
                }
            }
            Order::Stop => {
                let agent = self.agent.take().unwrap();
                agent.shutdown.cancel();
                seconds(1).await;
                agent.kill(self.world).await;
                // A death in the middle of an orderly stop has told its story already.
                drop(tokio::time::timeout(Duration::ZERO, self.world.died.notified()).await);
                self.agent = Some(start(self.world, self.clock));
            }
        }
        self.settle().await;
    }
}

/// Whether the fault was met.
async fn run(name: &str, scenario: &Scenario, fault: Option<(u64, Fault)>) -> bool {
    let (world, clock) = (world(), Arc::new(PausedClock::new()));
    (scenario.prepare)(&world);
    {
        let mut inside = world.lock();
        inside.fault = fault;
        inside.may_vanish = scenario.end.is_empty();
    }
    let mut life = Life { world: &world, clock: &clock, agent: None, retained: None };
    life.restart().await;
    for (i, order) in scenario.orders.iter().enumerate() {
        life.obey(order, u64::try_from(i).unwrap() + 1).await;
    }
    let met = fault.is_none_or(|(number, _)| world.lock().writes >= number);
    let what = format!("{name} with {fault:?}");
    let found: Vec<(String, u64)> =
        world.lock().answering.iter().map(|(m, r)| (m.to_string(), r.version.major)).collect();
    let wanted: Vec<(String, u64)> = scenario.end.iter().map(|(m, n)| ((*m).to_owned(), *n)).collect();
    assert_eq!(found, wanted, "{what}");
    let quarantined: BTreeSet<u64> = world.lock().quarantine.iter().map(|q| q.release.version.major).collect();
    assert_eq!(quarantined, scenario.quarantined.iter().copied().collect(), "{what}");
    assert!(world.lock().beside.is_empty(), "{what}: something stands beside what is live");
    for (model, n) in scenario.end {
        let slot = world.slot(model).unwrap_or_else(|| panic!("{what}: no slot"));
        assert_eq!(slot.state, State::Idle, "{what}");
        assert_eq!(slot.live.map(|live| live.release.version.major), Some(*n), "{what}");
        if let Some(previous) = slot.previous {
            assert!(world.lock().files.contains(&previous.release.manifest), "{what}: previous is not on the disk");
        }
    }
    if scenario.end.is_empty() {
        assert_eq!(world.slot("m"), None, "{what}: a removed model's slot is empty");
        assert_eq!(world.lock().files, BTreeSet::new(), "{what}");
    }
    let status = life.agent.as_ref().unwrap().handle.status();
    assert_eq!(status.borrow().trouble, None, "{what}");
    life.agent.take().unwrap().kill(&world).await;
    met
}

#[tokio::test(start_paused = true)]
async fn every_scenario_ends_right_without_faults() {
    for (name, scenario) in scenarios() {
        run(name, &scenario, None).await;
    }
}

async fn at_every_write(fault: Fault) {
    let mut runs = 0;
    for (name, scenario) in scenarios() {
        let mut number = 1;
        while run(name, &scenario, Some((number, fault))).await {
            number += 1;
            runs += 1;
        }
        assert!(number > 4, "{name} has hardly any writes: {number}");
    }
    assert!(runs > 150, "{runs}");
}

#[tokio::test(start_paused = true)]
async fn an_error_at_any_write_changes_nothing_in_the_end() {
    at_every_write(Fault::Error).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_data_reached_the_disk_changes_nothing_in_the_end() {
    at_every_write(Fault::LateError).await;
}

#[tokio::test(start_paused = true)]
async fn a_death_before_any_write_changes_nothing_in_the_end() {
    at_every_write(Fault::DieBefore).await;
}

#[tokio::test(start_paused = true)]
async fn a_death_after_any_write_changes_nothing_in_the_end() {
    at_every_write(Fault::DieAfter).await;
}
