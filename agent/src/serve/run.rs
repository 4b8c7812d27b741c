//! Requests in front of their model: alone, or several in one go.

use super::batch::{measure, stack};
use super::call::{Call, Ready};
use super::pool::{Desk, Work};
use super::registry::Live;
use crate::runtime::InferError;
use fieldpost_shared::bundle::Tensor;
use fieldpost_shared::id::ModelName;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

impl Work for Call {
    fn model(&self) -> &ModelName {
        &self.live.release().model
    }

    fn together(&self) -> usize {
        self.live.batching.most()
    }

    fn joins(&self, other: &Self) -> bool {
        // A swap between the two puts them on different releases.
        Arc::ptr_eq(&self.live, &other.live)
    }

    fn is_given_up(&self, now: Duration) -> bool {
        self.given_up(now).is_some()
    }

    fn give_up(self, now: Duration) {
        self.end_given_up(now);
    }

    fn run(self, more: Vec<Self>, desk: &Desk<Self>) {
        if more.is_empty() {
            if let Some(ready) = self.begin(desk.clock()) {
                offer(&ready, desk);
                alone(ready, desk);
            }
            return;
        }
        let mut ready: Vec<Ready> =
            std::iter::once(self).chain(more).filter_map(|call| call.begin(desk.clock())).collect();
        while !ready.is_empty() {
            let group = alike(&mut ready);
            together(group, desk);
        }
    }
}

/// The requests that go with the last one, so many as there is a plan for: 8, 4, 2 or 1.
fn alike(ready: &mut Vec<Ready>) -> Vec<Ready> {
    let Some(last) = ready.last() else { return Vec::new() };
    let fits = |other: &Ready| stack::is_single(&other.inputs) && stack::are_alike(&last.inputs, &other.inputs);
    let at: Vec<usize> = (0..ready.len()).rev().filter(|at| ready.get(*at).is_some_and(fits)).collect();
    let size = measure::SIZES.into_iter().rfind(|size| *size <= at.len());
    match size {
        // The indices fall, so that taking one leaves the others where they are.
        Some(size) if size > 1 => at.into_iter().take(size).map(|at| ready.remove(at)).collect(),
        _ => ready.pop().into_iter().collect(),
    }
}

fn together(group: Vec<Ready>, desk: &Desk<Call>) {
    let clock = desk.clock();
    let Some(live) = group.first().map(|ready| Arc::clone(ready.live())).filter(|_| group.len() > 1) else {
        return group.into_iter().for_each(|ready| alone(ready, desk));
    };
    let requests: Vec<&[Tensor]> = group.iter().map(|ready| ready.inputs.as_slice()).collect();
    let begun = clock.monotonic();
    let seat = live.running.begin(clock);
    let answers = catch_unwind(AssertUnwindSafe(|| measure::together(live.model.as_ref(), &requests))).ok().flatten();
    // What was given up as hanging is counted already; that its callers' requests are counted beside it does no harm.
    live.running.end(seat);
    let took = clock.monotonic().saturating_sub(begun);
    let Some(answers) = answers else {
        // One of them is bad, and nobody knows which: each by itself, so that it fails alone.
        return group.into_iter().for_each(|ready| alone(ready, desk));
    };
    live.metrics.executed();
    let size = group.len();
    for (ready, outputs) in group.into_iter().zip(answers) {
        ready.end(desk, Ok(outputs), took, size);
    }
}

fn alone(ready: Ready, desk: &Desk<Call>) {
    let clock = desk.clock();
    let live = Arc::clone(ready.live());
    let begun = clock.monotonic();
    let seat = live.running.begin(clock);
    let outputs = catch_unwind(AssertUnwindSafe(|| live.model.infer(&ready.inputs)))
        .unwrap_or_else(|_panic| Err(InferError::Panic("the inference broke off".to_owned())));
    let took = clock.monotonic().saturating_sub(begun);
    if !live.running.end(seat) {
        return ready.came_back_too_late();
    }
    if outputs.is_ok() {
        live.metrics.executed();
    }
    drop(live);
    ready.end(desk, outputs, took, 1);
}

/// The first requests of a release are its examples when it is measured.
fn offer(ready: &Ready, desk: &Desk<Call>) {
    let live = ready.live();
    if let Some(samples) = live.batching.offer(&ready.inputs) {
        // Not kept alive for it: a release that is replaced meanwhile need not be measured.
        let (weak, clock) = (Arc::downgrade(live), Arc::clone(desk.shared_clock()));
        let measure = move || {
            let live: Option<Arc<Live>> = weak.upgrade();
            if let Some(live) = live {
                live.batching.measure(live.model.as_ref(), &samples, clock.as_ref());
            }
        };
        let bytes = ready.inputs.iter().map(|tensor| tensor.data.len()).sum::<usize>().saturating_mul(2);
        if !desk.later(bytes, Box::new(measure)) {
            tracing::debug!(release = %live.release(), "not measured: too much else waits");
        }
    }
}
