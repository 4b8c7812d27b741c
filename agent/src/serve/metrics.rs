//! What Prometheus scrapes: Triton's names where Triton has one, and latencies as histograms beside its counters.
//!
//! Triton's counters have no `_total`, which OpenMetrics demands of a counter. So they are of type `unknown` in OpenMetrics
//! (asked for by `Accept: application/openmetrics-text`), and `counter` in Prometheus' text format 0.0.4, the default.

mod server;

pub(crate) use server::TurnedAway;

use crate::monitor::collector::Timing;
use fieldpost_shared::id::{ModelName, ReleaseRef};
use fieldpost_shared::stats::ErrorKind;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Content type of the text format that every scraper reads.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// OpenMetrics, as a scraper asks for it.
pub(crate) const OPEN_METRICS_TYPE: &str = "application/openmetrics-text";
/// Content type of OpenMetrics.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Versions of one model whose series are kept: the live one, the one before it, and the one beside it.
const KEPT_VERSIONS: usize = 3;

/// A counter that is exposed under exactly its name.
#[derive(Debug, Clone, Default)]
struct Exact(Arc<AtomicU64>);

impl Exact {
    fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

impl TypedMetric for Exact {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Exact {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: String,
    version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    model: String,
    version: String,
    reason: &'static str,
}

/// Triton's names for the reasons of failures.
const REASONS: [&str; 4] = ["REJECTED", "CANCELED", "BACKEND", "OTHER"];

fn reason(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::QueueFull => "REJECTED",
        ErrorKind::Closed => "CANCELED",
        ErrorKind::Inference | ErrorKind::NanOutput | ErrorKind::OverBudget | ErrorKind::Crash => "BACKEND",
        ErrorKind::Malformed | ErrorKind::Deadline => "OTHER",
    }
}

type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// All series of the agent's serving side. Others may register theirs before the server starts.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    success: Family<Labels, Exact>,
    failure: Family<FailureLabels, Exact>,
    inferences: Family<Labels, Exact>,
    executions: Family<Labels, Exact>,
    pending: Family<Labels, Gauge>,
    /// Answers of which the truth is known, and those of them that were right.
    labelled: [Family<Labels, Exact>; 2],
    /// Triton's cumulative durations: request, queue, compute input, infer, output.
    durations_us: [Family<Labels, Exact>; 5],
    request_seconds: Histograms,
    queue_seconds: Histograms,
    infer_seconds: Histograms,
    server: server::OfServer,
    versions: Mutex<BTreeMap<ModelName, Vec<String>>>,
}

/// 50 us to 6.5 s in doublings.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 18))
}

impl Default for Metrics {
    fn default() -> Self {
        let histograms = || Histograms::new_with_constructor(seconds as fn() -> Histogram);
        let metrics = Self {
            registry: Mutex::default(),
            success: Family::default(),
            failure: Family::default(),
            inferences: Family::default(),
            executions: Family::default(),
            pending: Family::default(),
            labelled: Default::default(),
            durations_us: Default::default(),
            request_seconds: histograms(),
            queue_seconds: histograms(),
            infer_seconds: histograms(),
            server: server::OfServer::default(),
            versions: Mutex::default(),
        };
        metrics.register(|r| {
            metrics.server.register(r);
            r.register("nv_inference_request_success", "Requests answered", metrics.success.clone());
            r.register("nv_inference_request_failure", "Requests not answered, by reason", metrics.failure.clone());
            r.register("nv_inference_count", "Inferences, each row of a batch being one", metrics.inferences.clone());
            r.register("nv_inference_exec_count", "Executions of the model", metrics.executions.clone());
            r.register("nv_inference_pending_request_count", "Requests that wait or run", metrics.pending.clone());
            let [labelled, right] = &metrics.labelled;
            r.register("fieldpost_labelled", "Answers of which the truth was told", labelled.clone());
            r.register(
                "fieldpost_labelled_correct",
                "Answers that were right, of those; their ratio is the accuracy",
                right.clone(),
            );
            let parts = ["request", "queue", "compute_input", "compute_infer", "compute_output"];
            for (part, family) in parts.iter().zip(&metrics.durations_us) {
                let help = format!("Time of answered requests, microseconds, cumulative: {}", part.replace('_', " "));
                r.register(format!("nv_inference_{part}_duration_us"), help, family.clone());
            }
            let histograms = [
                ("request", "From the whole request being read to its answer", &metrics.request_seconds),
                ("queue", "Waiting for an inference thread", &metrics.queue_seconds),
                ("infer", "In the model", &metrics.infer_seconds),
            ];
            for (name, help, family) in histograms {
                r.register(format!("fieldpost_{name}_duration_seconds"), help, family.clone());
            }
        });
        metrics
    }
}

impl Metrics {
    /// Registers series of other rooms.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The handles of a release, all series present at zero; series of versions that are long gone are dropped.
    pub(crate) fn of(&self, release: &ReleaseRef) -> ModelMetrics {
        let (model, version) = (release.model.to_string(), release.version.to_string());
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = versions.entry(release.model.clone()).or_default();
        known.retain(|other| *other != version);
        known.push(version.clone());
        while known.len() > KEPT_VERSIONS {
            self.forget(&model, &known.remove(0));
        }
        drop(versions);
        let labels = Labels { model, version };
        let failure = |reason| {
            let (model, version) = (labels.model.clone(), labels.version.clone());
            self.failure.get_or_create_owned(&FailureLabels { model, version, reason })
        };
        ModelMetrics {
            success: self.success.get_or_create_owned(&labels),
            failures: REASONS.map(|reason| (reason, failure(reason))),
            inferences: self.inferences.get_or_create_owned(&labels),
            executions: self.executions.get_or_create_owned(&labels),
            pending: self.pending.get_or_create_owned(&labels),
            labelled: self.labelled.each_ref().map(|family| family.get_or_create_owned(&labels)),
            durations_us: self.durations_us.each_ref().map(|family| family.get_or_create_owned(&labels)),
            request_seconds: self.request_seconds.get_or_create_owned(&labels),
            queue_seconds: self.queue_seconds.get_or_create_owned(&labels),
            infer_seconds: self.infer_seconds.get_or_create_owned(&labels),
        }
    }

    fn forget(&self, model: &str, version: &str) {
        let labels = Labels { model: model.to_owned(), version: version.to_owned() };
        for reason in REASONS {
            self.failure.remove(&FailureLabels { model: model.to_owned(), version: version.to_owned(), reason });
        }
        self.pending.remove(&labels);
        for family in [&self.success, &self.inferences, &self.executions]
            .into_iter()
            .chain(&self.durations_us)
            .chain(&self.labelled)
        {
            family.remove(&labels);
        }
        for family in [&self.request_seconds, &self.queue_seconds, &self.infer_seconds] {
            family.remove(&labels);
        }
    }

    /// A request was turned away before any release could count it.
    pub(crate) fn turned_away(&self, how: TurnedAway) {
        self.server.turned_away(how);
    }

    /// So many requests may wait.
    pub(crate) fn may_wait(&self, requests: usize) {
        self.server.may_wait(requests);
    }

    /// The text that a scraper asked for, with its content type.
    pub(crate) fn text(&self, open_metrics: bool) -> (&'static str, String) {
        self.server.look();
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            // Writing to a string cannot fail; were it to, half a page is refused by the missing `# EOF`.
            tracing::error!("cannot encode the metrics");
        }
        if open_metrics { (OPEN_METRICS, text) } else { (TEXT, as_text_format(&text)) }
    }
}

/// OpenMetrics as Prometheus' text format 0.0.4: what is `unknown` here is a counter there.
fn as_text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        match line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" unknown")) {
            Some(name) => text.extend(["# TYPE ", name, " counter\n"]),
            None => text.extend([line, "\n"]),
        }
    }
    text
}

/// The series of one release, ready to count.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    success: Exact,
    failures: [(&'static str, Exact); 4],
    inferences: Exact,
    executions: Exact,
    pending: Gauge,
    labelled: [Exact; 2],
    durations_us: [Exact; 5],
    request_seconds: Histogram,
    queue_seconds: Histogram,
    infer_seconds: Histogram,
}

impl ModelMetrics {
    /// A request was queued; it is pending until the guard drops.
    pub(crate) fn pending(&self) -> Pending {
        self.pending.inc();
        Pending(self.pending.clone())
    }

    /// The model ran, for one request or several.
    pub(crate) fn executed(&self) {
        self.executions.add(1);
    }

    /// The model answered for so many rows, whatever became of the answer.
    pub(crate) fn inferred(&self, rows: usize) {
        self.inferences.add(u64::try_from(rows).unwrap_or(u64::MAX));
    }

    /// How often the model ran.
    pub(crate) fn executions(&self) -> u64 {
        self.executions.0.load(Ordering::Relaxed)
    }

    /// The truth about an answer is known.
    pub(crate) fn labelled(&self, correct: bool) {
        let [labelled, right] = &self.labelled;
        labelled.add(1);
        right.add(u64::from(correct));
    }

    pub(crate) fn answered(&self, timing: Timing) {
        self.success.add(1);
        let total = timing.queue + timing.input + timing.infer + timing.output;
        let parts = [total, timing.queue, timing.input, timing.infer, timing.output];
        for (series, part) in self.durations_us.iter().zip(parts) {
            series.add(u64::try_from(part.as_micros()).unwrap_or(u64::MAX));
        }
        self.request_seconds.observe(seconds_of(total));
        self.queue_seconds.observe(seconds_of(timing.queue));
        self.infer_seconds.observe(seconds_of(timing.infer));
    }

    pub(crate) fn failed(&self, kind: ErrorKind) {
        let wanted = reason(kind);
        self.failures.iter().filter(|(reason, _)| *reason == wanted).for_each(|(_, count)| count.add(1));
    }
}

fn seconds_of(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Counts a pending request while it lives.
#[derive(Debug)]
pub(crate) struct Pending(Gauge);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.dec();
    }
}
