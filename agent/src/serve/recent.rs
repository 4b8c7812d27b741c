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
    order: VecDeque<Place>,
    by_id: HashMap<Arc<str>, Kept<T>>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Place {
    number: u64,
    id: Arc<str>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<T> {
    number: u64,
    what: T,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), by_id: HashMap::new(), next: 0, bytes: 0 }
    }
}

impl<T> Recent<T> {
    /// Keeps a prediction, which takes so many bytes elsewhere.
    pub(crate) fn remember(&mut self, id: &str, what: T, bytes: usize) {
        let (number, id): (u64, Arc<str>) = (self.next, id.into());
        let bytes = bytes.saturating_add(id.len() + EACH_BYTES);
        self.next += 1;
        self.bytes += bytes;
        self.order.push_back(Place { number, id: Arc::clone(&id), bytes });
        self.by_id.insert(id, Kept { number, what });
        while self.order.len() > MOST || self.bytes > MOST_BYTES {
            let Some(oldest) = self.order.pop_front() else { return };
            self.bytes -= oldest.bytes;
            if self.by_id.get(&oldest.id).is_some_and(|kept| kept.number == oldest.number) {
                self.by_id.remove(&oldest.id);
            }
        }
    }

    /// A prediction that is there.
    pub(crate) fn find(&mut self, id: &str) -> Option<&mut T> {
        self.by_id.get_mut(id).map(|kept| &mut kept.what)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has<T: Copy>(recent: &mut Recent<T>, id: &str) -> Option<T> {
        recent.find(id).copied()
    }

    #[test]
    fn the_oldest_make_room() {
        let mut recent = Recent::default();
        (0..MOST + 10).for_each(|n| recent.remember(&n.to_string(), n, 0));
        assert_eq!((has(&mut recent, "9"), has(&mut recent, "10"), recent.len()), (None, Some(10), MOST));
    }

    #[test]
    fn long_ids_and_large_predictions_cost_what_they_take() {
        for (id_bytes, bytes) in [(1_000, 0), (5, 1_000)] {
            let mut recent = Recent::default();
            (0..10_000).for_each(|n| recent.remember(&format!("{n:0>id_bytes$}"), n, bytes));
            assert!(recent.bytes <= MOST_BYTES && recent.len() < 1_000, "{}", recent.len());
        }
        let mut recent = Recent::default();
        recent.remember("a", 1, MOST_BYTES);
        assert_eq!((recent.bytes, recent.len()), (0, 0));
    }

    #[test]
    fn an_id_that_comes_again_stands_for_its_newest_prediction_and_lives_as_long() {
        let mut recent = Recent::default();
        recent.remember("again", 1, 0);
        (0..MOST - 1).for_each(|n| recent.remember(&n.to_string(), 0, 0));
        recent.remember("again", 2, 0);
        assert_eq!(has(&mut recent, "again"), Some(2));
        (0..MOST - 1).for_each(|n| recent.remember(&format!("later {n}"), 0, 0));
        assert_eq!((has(&mut recent, "again"), recent.len()), (Some(2), MOST));
        recent.remember("one more", 0, 0);
        assert_eq!(has(&mut recent, "again"), None);
    }
}
