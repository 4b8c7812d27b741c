//! A stream of real digits to every device, over HTTP, and what came back.

use super::assets::Digit;
use fieldpost_shared::time::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What one device answered.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    /// Answered requests, by version.
    pub answered: BTreeMap<String, u64>,
    /// Of those, with the right digit.
    pub right: BTreeMap<String, u64>,
    /// Requests without an answer while the device was up.
    pub failed: u64,
    /// Requests without an answer while the device was down.
    pub down: u64,
    /// Latencies of answered requests, microseconds.
    #[serde(skip)]
    pub latencies_us: Vec<u64>,
    /// Why a request failed, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    #[serde(skip)]
    is_down: bool,
}

impl Tally {
    /// All answered requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answered.values().sum()
    }

    /// A quantile of the latencies, microseconds.
    #[must_use]
    pub fn quantile_us(&self, per_cent: usize) -> Option<u64> {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * per_cent).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied()
    }
}

/// The answer of `POST /predict`, as far as the demo reads it.
#[derive(Debug, Deserialize)]
struct Answer {
    label: Option<String>,
    version: String,
}

/// The streams to all devices.
#[derive(Debug)]
pub struct Traffic {
    tallies: BTreeMap<String, Arc<Mutex<Tally>>>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Traffic {
    /// Starts one stream per device, one image every `pause`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn start(
        devices: impl Iterator<Item = (String, String)>,
        digits: &Arc<Vec<Digit>>,
        pause: Duration,
    ) -> anyhow::Result<Self> {
        let (mut traffic, clock) = (
            Self { tallies: BTreeMap::new(), tasks: JoinSet::new(), stop: CancellationToken::new() },
            Arc::new(SystemClock::new()),
        );
        for (index, (device, http)) in devices.enumerate() {
            let tally = Arc::new(Mutex::new(Tally::default()));
            traffic.tallies.insert(device, Arc::clone(&tally));
            let stream = Stream {
                client: reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?,
                url: format!("http://{http}/predict"),
                digits: Arc::clone(digits),
                // Devices see the same digits in another order, as sites do.
                next: index.wrapping_mul(67),
                tally,
                clock: Arc::clone(&clock),
            };
            traffic.tasks.spawn(stream.run(pause, traffic.stop.clone()));
        }
        Ok(traffic)
    }

    /// Says that a device is down on purpose, or up again: its failures then are no failures of fieldpost.
    pub fn mark_down(&self, device: &str, down: bool) {
        if let Some(tally) = self.tallies.get(device) {
            tally.lock().unwrap_or_else(PoisonError::into_inner).is_down = down;
        }
    }

    /// What came back so far.
    #[must_use]
    pub fn tallies(&self) -> BTreeMap<String, Tally> {
        let read = |tally: &Arc<Mutex<Tally>>| tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.tallies.iter().map(|(device, tally)| (device.clone(), read(tally))).collect()
    }

    /// Ends the streams after their running requests.
    pub async fn stop(mut self) -> BTreeMap<String, Tally> {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.tallies()
    }
}

struct Stream {
    client: reqwest::Client,
    url: String,
    digits: Arc<Vec<Digit>>,
    next: usize,
    tally: Arc<Mutex<Tally>>,
    clock: Arc<SystemClock>,
}

impl Stream {
    async fn run(mut self, pause: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let Some(digit) = self.digits.get(self.next % self.digits.len().max(1)) else { return };
            self.next = self.next.wrapping_add(1);
            let was_down = self.tally().is_down;
            let started = self.clock.monotonic();
            let answer = ask(&self.client, &self.url, digit.png.clone()).await;
            let took = self.clock.monotonic().saturating_sub(started);
            let mut tally = self.tally();
            match answer {
                Ok(answer) => {
                    let right = answer.label.as_deref() == Some(digit.label.to_string().as_str());
                    *tally.right.entry(answer.version.clone()).or_default() += u64::from(right);
                    *tally.answered.entry(answer.version).or_default() += 1;
                    tally.latencies_us.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                }
                Err(_) if was_down || tally.is_down => tally.down += 1,
                Err(error) => {
                    tally.failed += 1;
                    tally.last_failure = Some(error);
                }
            }
        }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(client: &reqwest::Client, url: &str, png: Vec<u8>) -> Result<Answer, String> {
    let sent = client.post(url).header("content-type", "image/png").body(png).send().await;
    let response = sent.map_err(|error| fieldpost_shared::error_chain::Chain(&error).to_string())?;
    let status = response.status();
    let body = response.bytes().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&body)))
}
