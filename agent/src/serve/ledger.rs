//! What is counted of one release, apart from its model: the truth about an answer often comes when the next release is live
//! already, and must not hold a model in memory.

use super::metrics::ModelMetrics;
use super::truth::Said;
use crate::monitor::collector::Collector;
use fieldpost_shared::bundle::Manifest;
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::time::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts of one release. It lives as long as the release answers, and then as long as one of its answers may get a label.
#[derive(Debug)]
pub(crate) struct Ledger {
    release: ReleaseRef,
    labels: Vec<String>,
    metrics: Arc<ModelMetrics>,
    collector: Mutex<Collector>,
}

impl Ledger {
    pub(crate) fn new(release: ReleaseRef, manifest: &Manifest, metrics: Arc<ModelMetrics>, now: Timestamp) -> Self {
        let collector = Mutex::new(Collector::new(release.clone(), manifest, now));
        Self { release, labels: manifest.labels.clone(), metrics, collector }
    }

    pub(crate) fn release(&self) -> &ReleaseRef {
        &self.release
    }

    /// The names of classes, where the bundle has some.
    pub(crate) fn labels(&self) -> &[String] {
        &self.labels
    }

    /// A panic while it was held left plain counters, which are usable.
    pub(crate) fn collector(&self) -> MutexGuard<'_, Collector> {
        self.collector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the truth about what was said of one row.
    pub(crate) fn labelled(&self, truth: &Said, said: &Said) {
        let correct = truth == said;
        self.metrics.labelled(correct);
        match (truth, said) {
            (Said::Class(actual), Said::Class(predicted)) => self.collector().labelled(*actual, *predicted),
            _ => self.collector().labelled_set(correct),
        }
    }
}
