//! The last predictions of a model by request id, so that the truth can be told of them later. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Most predictions kept of one model.
const MOST: usize = 4_096;
/// Most memory for those of one model, bytes.
const MOST_BYTES: usize = 1 << 20;
/// What one takes beside its id, bytes.
const EACH_BYTES: usize = 160;

/// A ring of predictions: the oldest make room. An id that comes again stands for its newest prediction.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    /// Oldest first, with those whose id came again.
    order: VecDeque<(u64, Arc<str>)>,
    by_id: HashMap<Arc<str>, Kept<T>>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<T> {
    number: u64,
    labelled: bool,
    what: T,
}

/// Why there is no prediction to label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// No such id, or not any more.
    Unknown,
    /// It has its label.
    Labelled,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), by_id: HashMap::new(), next: 0, bytes: 0 }
    }
}

impl<T> Recent<T> {
    /// Keeps a prediction.
    pub(crate) fn remember(&mut self, id: &str, what: T) {
        let (number, id): (u64, Arc<str>) = (self.next, id.into());
        self.next += 1;
        self.bytes += bytes(&id);
        self.order.push_back((number, Arc::clone(&id)));
        self.by_id.insert(id, Kept { number, labelled: false, what });
        while self.order.len() > MOST || self.bytes > MOST_BYTES {
            let Some((number, id)) = self.order.pop_front() else { return };
            self.bytes -= bytes(&id);
            if self.by_id.get(&id).is_some_and(|kept| kept.number == number) {
                self.by_id.remove(&id);
            }
        }
    }

    /// A prediction that is there and has no label yet.
    pub(crate) fn unlabelled(&self, id: &str) -> Result<&T, NotKept> {
        let kept = self.by_id.get(id).ok_or(NotKept::Unknown)?;
        if kept.labelled { Err(NotKept::Labelled) } else { Ok(&kept.what) }
    }

    /// It has a label now.
    pub(crate) fn mark(&mut self, id: &str) {
        if let Some(kept) = self.by_id.get_mut(id) {
            kept.labelled = true;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_id.len()
    }
}

fn bytes(id: &str) -> usize {
    id.len() + EACH_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_is_labelled_once() {
        let mut recent = Recent::default();
        recent.remember("a", 7);
        assert_eq!((recent.unlabelled("a"), recent.unlabelled("b")), (Ok(&7), Err(NotKept::Unknown)));
        recent.mark("a");
        assert_eq!(recent.unlabelled("a"), Err(NotKept::Labelled));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut recent = Recent::default();
        (0..MOST + 10).for_each(|n| recent.remember(&n.to_string(), n));
        assert_eq!(
            (recent.unlabelled("9"), recent.unlabelled("10"), recent.len()),
            (Err(NotKept::Unknown), Ok(&10), MOST)
        );
    }

    #[test]
    fn long_ids_cost_what_they_take() {
        let mut recent = Recent::default();
        (0..10_000).for_each(|n| recent.remember(&format!("{n:0>1000}"), n));
        assert!(recent.bytes <= MOST_BYTES && recent.len() < 1_000, "{}", recent.len());
    }

    #[test]
    fn an_id_that_comes_again_stands_for_its_newest_prediction_and_lives_as_long() {
        let mut recent = Recent::default();
        recent.remember("again", 1);
        recent.mark("again");
        (0..MOST - 1).for_each(|n| recent.remember(&n.to_string(), 0));
        recent.remember("again", 2);
        assert_eq!(recent.unlabelled("again"), Ok(&2));
        (0..MOST - 1).for_each(|n| recent.remember(&format!("later {n}"), 0));
        assert_eq!((recent.unlabelled("again"), recent.len()), (Ok(&2), MOST));
        recent.remember("one more", 0);
        assert_eq!(recent.unlabelled("again"), Err(NotKept::Unknown));
    }
}
