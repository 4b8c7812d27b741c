//! A request that another release sees too, after its caller has the answer. The answer is compared, counted and thrown
//! away.

use super::call::{Call, rows};
use super::compare::compare;
use super::pool::Desk;
use super::registry::Live;
use crate::monitor::collector::Compared;
use crate::runtime::{Answer, PredictInput};
use bytes::Bytes;
use fieldpost_shared::bundle::Tensor;
use fieldpost_shared::stats::Row;
use fieldpost_shared::time::Clock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// What was asked. Each release prepares it as its own bundle says; only tensors are the same for both.
#[derive(Debug)]
pub(super) enum Question {
    Image(Bytes),
    Features(Bytes),
    /// Text or other bytes.
    Bytes(Bytes),
    Tensors(Vec<Tensor>),
}

/// A request that was answered, and who is to see it.
#[derive(Debug)]
pub(super) struct Watched {
    /// Who answered.
    pub(super) live: Arc<Live>,
    /// Who is to see it.
    pub(super) other: Arc<Live>,
    pub(super) question: Question,
    pub(super) answers: Vec<Answer>,
    pub(super) outputs: Vec<Tensor>,
    /// What the answer took per row.
    pub(super) latency: Duration,
}

impl Watched {
    /// Leaves it for when nobody waits; what there is no room for is counted as passed over.
    pub(super) fn leave(self, desk: &Desk<Call>) {
        let (live, version) = (Arc::clone(&self.live), self.other.version());
        let (bytes, clock) = (self.bytes(), Arc::clone(desk.shared_clock()));
        if !desk.later(bytes, Box::new(move || self.run(clock.as_ref()))) {
            live.collector().passed_over(&version);
        }
    }

    fn bytes(&self) -> usize {
        let all = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>();
        let question = match &self.question {
            Question::Image(bytes) | Question::Features(bytes) | Question::Bytes(bytes) => bytes.len(),
            Question::Tensors(inputs) => all(inputs),
        };
        question.saturating_add(all(&self.outputs))
    }

    fn run(self, clock: &dyn Clock) {
        // What does not come back is noticed as any other inference is, and held against the shadow.
        let seat = self.other.running.begin(clock);
        let seen = catch_unwind(AssertUnwindSafe(|| self.see(clock))).ok().flatten();
        self.other.running.end(seat);
        self.tally(seen.as_ref());
        let latency = self.latency;
        let pair = seen.as_ref().map(|(took, rows)| Compared { latency, other_latency: *took, rows });
        self.live.collector().compared(&self.other.version(), pair);
    }

    /// What the box itself judges the shadow by.
    fn tally(&self, seen: Option<&(Duration, Vec<Row>)>) {
        let ratio = self.other.model.manifest().budgets.max_latency_ratio;
        let mut compared = self.other.compared();
        match seen {
            None => compared.errors = compared.errors.saturating_add(1),
            Some((took, rows)) => {
                compared.answered = compared.answered.saturating_add(1);
                rows.iter().for_each(|row| compared.agreed.insert(row.same));
                if let Some(ratio) = ratio {
                    compared.slower.insert(took.as_secs_f64() > ratio * self.latency.as_secs_f64());
                }
            }
        }
    }

    /// The other's time per row, and how its answers compare, row by row: none where they are of another kind, which is
    /// no error. `None` when it fails.
    fn see(&self, clock: &dyn Clock) -> Option<(Duration, Vec<Row>)> {
        let model = self.other.model.as_ref();
        let prepared = match &self.question {
            Question::Image(bytes) => Some(model.prepare(&PredictInput::Image(bytes)).ok()?),
            Question::Bytes(bytes) => Some(model.prepare(&PredictInput::Bytes(bytes)).ok()?),
            Question::Features(bytes) => {
                Some(model.prepare(&PredictInput::Json(&serde_json::from_slice(bytes).ok()?)).ok()?)
            }
            Question::Tensors(_) => None,
        };
        let inputs = match (&prepared, &self.question) {
            (Some(prepared), _) => &prepared.tensors,
            (None, Question::Tensors(inputs)) => inputs,
            (None, _) => return None,
        };
        let begun = clock.monotonic();
        let outputs = model.infer(inputs).ok()?;
        let took = clock.monotonic().saturating_sub(begun);
        let frame = prepared.as_ref().and_then(|prepared| prepared.frame.as_ref());
        let answers = model.answer(&outputs, frame).ok()?;
        let per_row = took / u32::try_from(rows(model.manifest(), inputs).max(1)).unwrap_or(u32::MAX);
        Some((per_row, compare((&self.answers, &self.outputs), (&answers, &outputs)).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::FakeModel;
    use super::super::{Portion, Registry};
    use super::*;
    use crate::monitor::MonitorSettings;
    use fieldpost_shared::time::{ManualClock, Timestamp};
    use tokio::sync::mpsc;

    #[test]
    fn raw_outputs_of_several_rows_have_their_time_per_row() {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        let registry = Registry::new(clock.clone(), MonitorSettings::default(), mpsc::channel(1).0);
        registry.install(FakeModel::new("1.0.0"));
        let passing = Arc::clone(&clock);
        let shadow = FakeModel::with("1.1.0", move |inputs| {
            passing.advance(Duration::from_millis(80));
            Ok(inputs.to_vec())
        });
        registry.set_shadow(shadow.answering(vec![Answer::Raw]), Portion::ALL).unwrap();
        let live = registry.find(None).unwrap();
        let other = live.with_rival(|rival| Arc::clone(&rival.unwrap().live));
        let inputs = vec![Tensor::from_f32(vec![8, 1, 8, 8], &[0.5; 512]).unwrap()];
        let (outputs, answers, latency) = (inputs.clone(), vec![Answer::Raw], Duration::from_millis(10));
        let watched = Watched { live, other, question: Question::Tensors(inputs), answers, outputs, latency };
        let (took, rows) = watched.see(clock.as_ref()).unwrap();
        assert_eq!((took, rows.len()), (latency, 1));
    }
}
