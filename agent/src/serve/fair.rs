//! The order in which waiting requests get a thread, and who has to go when there is no room. Pure.
//!
//! Models share the threads' *time*, not their number of turns: the next turn is that of the waiting model which had least
//! (start-time fair queueing, Goyal et al. 1996). A turn is charged with what the model's turns took of late when it
//! begins, and corrected when it ends, so that two threads that become free at once do not both go to the same slow model.
//! A model that was away gets no credit for it.
//!
//! When all places are taken, the newest request of the model that has most waiting makes room for a model that would have
//! fewer even with the new one ("longest queue drop"): a flood for one model never closes the door to another. Before that,
//! those go for which nobody waits any more.

use fieldpost_shared::id::ModelName;
use std::collections::VecDeque;
use std::time::Duration;

/// Waiting items by model.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    /// One per model ever seen here; a box has at most some dozens.
    lanes: Vec<Lane<T>>,
    waiting: usize,
    capacity: usize,
    /// What the model that began last had been charged before; who comes anew starts here.
    floor: Duration,
}

#[derive(Debug)]
struct Lane<T> {
    model: ModelName,
    waiting: VecDeque<T>,
    /// Thread time charged so far.
    spent: Duration,
    /// What a turn took of late.
    expected: Duration,
    running: usize,
}

/// What became of an item that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed<T> {
    /// It waits.
    Taken,
    /// It waits, and this one had to go.
    Instead(T),
    /// There is no room for it.
    Full(T),
}

/// A turn that has begun, to be given back when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    lane: usize,
    charged: Duration,
}

impl<T> Fair<T> {
    /// At most `capacity` items wait.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { lanes: Vec::new(), waiting: 0, capacity, floor: Duration::ZERO }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting >= self.capacity
    }

    /// Takes out what is to go.
    pub(crate) fn sift(&mut self, goes: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for lane in &mut self.lanes {
            let (gone, stay): (VecDeque<T>, _) = std::mem::take(&mut lane.waiting).into_iter().partition(&goes);
            lane.waiting = stay;
            out.extend(gone);
        }
        self.waiting -= out.len();
        out
    }

    /// Takes in an item for a model.
    pub(crate) fn push(&mut self, model: &ModelName, item: T) -> Pushed<T> {
        let at = self.lane(model);
        let mut pushed = Pushed::Taken;
        if self.is_full() {
            let mine = self.lanes.get(at).map_or(0, |lane| lane.waiting.len());
            let longest = self.lanes.iter_mut().max_by_key(|lane| lane.waiting.len());
            let Some(out) = longest.filter(|lane| lane.waiting.len() > mine + 1).and_then(|l| l.waiting.pop_back())
            else {
                return Pushed::Full(item);
            };
            self.waiting -= 1;
            pushed = Pushed::Instead(out);
        }
        let floor = self.floor;
        if let Some(lane) = self.lanes.get_mut(at) {
            if lane.waiting.is_empty() && lane.running == 0 {
                lane.spent = lane.spent.max(floor);
            }
            lane.waiting.push_back(item);
            self.waiting += 1;
        }
        pushed
    }

    /// The item whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<(Turn, T)> {
        let waiting = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.waiting.is_empty());
        let (at, _) = waiting.min_by_key(|(_, lane)| (lane.spent, lane.running))?;
        let lane = self.lanes.get_mut(at)?;
        let item = lane.waiting.pop_front()?;
        self.waiting -= 1;
        self.floor = self.floor.max(lane.spent);
        let charged = lane.expected;
        lane.spent = lane.spent.saturating_add(charged);
        lane.running += 1;
        Some((Turn { lane: at, charged }, item))
    }

    /// Up to `most` more items of the turn's model, oldest first, that fit; those between that do not stay.
    pub(crate) fn more(&mut self, turn: Turn, most: usize, fits: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(lane) = self.lanes.get_mut(turn.lane) else { return Vec::new() };
        let (mut taken, mut at) = (Vec::new(), 0);
        while taken.len() < most
            && let Some(item) = lane.waiting.get(at)
        {
            if fits(item) {
                taken.extend(lane.waiting.remove(at));
            } else {
                at += 1;
            }
        }
        self.waiting -= taken.len();
        taken
    }

    /// How many of the turn's model wait.
    pub(crate) fn waiting_with(&self, turn: Turn) -> usize {
        self.lanes.get(turn.lane).map_or(0, |lane| lane.waiting.len())
    }

    /// A turn ended after `took`.
    pub(crate) fn ended(&mut self, turn: Turn, took: Duration) {
        if let Some(lane) = self.lanes.get_mut(turn.lane) {
            lane.running = lane.running.saturating_sub(1);
            lane.spent = lane.spent.saturating_sub(turn.charged).saturating_add(took);
            lane.expected = (lane.expected.saturating_mul(3).saturating_add(took)) / 4;
        }
    }

    /// Empties it.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.waiting = 0;
        self.lanes.iter_mut().flat_map(|lane| std::mem::take(&mut lane.waiting)).collect()
    }

    fn lane(&mut self, model: &ModelName) -> usize {
        self.lanes.iter().position(|lane| lane.model == *model).unwrap_or_else(|| {
            self.lanes.push(Lane {
                model: model.clone(),
                waiting: VecDeque::new(),
                spent: Duration::ZERO,
                expected: Duration::ZERO,
                running: 0,
            });
            self.lanes.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn name(text: &str) -> ModelName {
        text.parse().unwrap()
    }

    /// A queue with so many waiting, by model.
    fn queue(capacity: usize, waiting: &[(&'static str, usize)]) -> Fair<&'static str> {
        let mut fair = Fair::new(capacity);
        for (model, count) in waiting {
            (0..*count).for_each(|_| assert_eq!(fair.push(&name(model), *model), Pushed::Taken));
        }
        fair
    }

    /// Who gets `turns` turns one after the other, when a turn of "slow" takes 100 ms and one of another 1 ms.
    fn order(fair: &mut Fair<&'static str>, turns: usize) -> Vec<&'static str> {
        let mut order = Vec::new();
        for _ in 0..turns {
            let (turn, model) = fair.pop().unwrap();
            fair.ended(turn, if model == "slow" { 100 * MS } else { MS });
            order.push(model);
        }
        order
    }

    #[test]
    fn one_model_is_first_come_first_served() {
        let mut fair = Fair::new(8);
        (0..5).for_each(|n| assert_eq!(fair.push(&name("m"), n), Pushed::Taken));
        let order: Vec<i32> = std::iter::from_fn(|| fair.pop().map(|(_, n)| n)).collect();
        assert_eq!((order, fair.waiting()), (vec![0, 1, 2, 3, 4], 0));
    }

    #[test]
    fn a_slow_model_does_not_starve_a_fast_one() {
        let mut fair = queue(64, &[("slow", 20), ("fast", 20)]);
        let order = order(&mut fair, 22);
        assert_eq!(order.iter().filter(|model| **model == "slow").count(), 2, "{order:?}");
    }

    #[test]
    fn two_threads_do_not_both_go_to_the_slow_model() {
        let mut fair = queue(64, &[("slow", 4), ("fast", 4)]);
        order(&mut fair, 2);
        let (first, second) = (fair.pop().unwrap().1, fair.pop().unwrap().1);
        assert!(first == "fast" && second == "fast", "the slow one has had its time");
        let mut fair = queue(64, &[("one", 2), ("other", 2)]);
        assert_ne!(fair.pop().unwrap().1, fair.pop().unwrap().1, "nobody knows yet how long they take");
    }

    #[test]
    fn who_was_away_gets_no_credit() {
        let mut fair = queue(400, &[("slow", 10)]);
        order(&mut fair, 10);
        (0..10).for_each(|_| assert_eq!(fair.push(&name("slow"), "slow"), Pushed::Taken));
        (0..200).for_each(|_| assert_eq!(fair.push(&name("late"), "late"), Pushed::Taken));
        // The late one starts where the last turn of the other began, and not at zero.
        assert!(order(&mut fair, 150).contains(&"slow"));
    }

    #[test]
    fn a_full_queue_refuses_the_model_that_fills_it() {
        let mut fair = queue(4, &[("flood", 4)]);
        assert_eq!(fair.push(&name("flood"), "one more"), Pushed::Full("one more"));
        assert_eq!(fair.waiting(), 4);
    }

    #[test]
    fn a_flood_makes_room_for_another_model_and_is_not_emptied() {
        let mut fair = queue(4, &[("flood", 4)]);
        assert_eq!(fair.push(&name("calm"), "calm"), Pushed::Instead("flood"));
        assert_eq!(fair.push(&name("calm"), "calm"), Pushed::Instead("flood"));
        assert_eq!(fair.push(&name("calm"), "calm"), Pushed::Full("calm"), "two of each is even");
        assert_eq!(fair.waiting(), 4);
    }

    #[test]
    fn what_is_to_go_makes_room_in_each_lane_and_the_rest_keeps_its_order() {
        let mut fair = Fair::new(6);
        for (model, item) in [("m", 1), ("m", 20), ("other", 30), ("m", 4), ("other", 5), ("m", 60)] {
            assert_eq!(fair.push(&name(model), item), Pushed::Taken);
        }
        assert!(fair.is_full());
        assert_eq!(fair.sift(|item| *item >= 10), [20, 60, 30]);
        assert_eq!((fair.waiting(), fair.is_full()), (3, false));
        assert_eq!(fair.push(&name("m"), 7), Pushed::Taken);
        assert_eq!(fair.drain(), [1, 4, 7, 5]);
    }

    #[test]
    fn a_batch_is_of_one_model_and_passes_over_what_does_not_fit() {
        let mut fair = Fair::new(16);
        for item in [1, 2, 30, 4, 50, 6] {
            assert_eq!(fair.push(&name("m"), item), Pushed::Taken);
        }
        assert_eq!(fair.push(&name("other"), 7), Pushed::Taken);
        let (turn, first) = fair.pop().unwrap();
        assert_eq!((first, fair.waiting_with(turn)), (1, 5));
        assert_eq!(fair.more(turn, 2, |item| *item < 10), [2, 4]);
        assert_eq!(fair.waiting(), 4);
        let mut rest = fair.drain();
        rest.sort_unstable();
        assert_eq!((rest, fair.waiting()), (vec![6, 7, 30, 50], 0));
    }
}
