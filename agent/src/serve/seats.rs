//! Who holds the connections. When all places are taken, the caller who was quiet longest makes room for the next: neither
//! ten thousand open connections nor ones that send a byte now and then keep others out. Who has sent a whole request keeps
//! his place until it is answered; of many calls on one connection (HTTP/2), until the last of them is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// All seats of one door. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seats(Arc<Mutex<House>>);

#[derive(Debug, Default)]
struct House {
    /// Counts what happens, so that seats can be told apart and ordered without a clock.
    events: u64,
    taken: HashMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    used: u64,
    /// Whole requests that are not answered yet.
    running: usize,
    leave: CancellationToken,
}

/// One connection's; cheap to clone. It is free when the last clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Seat(Arc<Held>);

#[derive(Debug)]
struct Held {
    id: u64,
    house: Seats,
    leave: CancellationToken,
}

/// Keeps a seat while it lives.
#[derive(Debug)]
pub(crate) struct Running(Seat);

impl Seats {
    fn lock(&self) -> MutexGuard<'_, House> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a connection.
    pub(crate) fn take(&self) -> Seat {
        let leave = CancellationToken::new();
        let mut house = self.lock();
        house.events += 1;
        let id = house.events;
        house.taken.insert(id, Taken { used: id, running: 0, leave: leave.clone() });
        drop(house);
        Seat(Arc::new(Held { id, house: self.clone(), leave }))
    }

    /// Asks the one to leave who was quiet longest and waits for nothing; `false` when there is none.
    pub(crate) fn make_room(&self) -> bool {
        let house = self.lock();
        let quiet = house.taken.values().filter(|taken| taken.running == 0 && !taken.leave.is_cancelled());
        let longest = quiet.min_by_key(|taken| taken.used);
        longest.inspect(|taken| taken.leave.cancel()).is_some()
    }
}

impl Seat {
    /// Waits until it is to be left.
    pub(crate) async fn asked_to_leave(&self) {
        self.0.leave.cancelled().await;
    }

    /// A whole request is here: nobody is asked to leave before it is answered.
    pub(crate) fn running(&self) -> Running {
        self.change(|taken| taken.running = taken.running.saturating_add(1));
        Running(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Taken)) {
        let mut house = self.0.house.lock();
        house.events += 1;
        let now = house.events;
        if let Some(taken) = house.taken.get_mut(&self.0.id) {
            taken.used = now;
            change(taken);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.change(|taken| taken.running = taken.running.saturating_sub(1));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.house.lock().taken.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(seats: &[&Seat]) -> Vec<bool> {
        seats.iter().map(|seat| seat.0.leave.is_cancelled()).collect()
    }

    #[test]
    fn the_one_who_was_quiet_longest_leaves() {
        let house = Seats::default();
        let (one, two, three) = (house.take(), house.take(), house.take());
        drop(one.running());
        assert!(house.make_room());
        assert_eq!(left(&[&one, &two, &three]), [false, true, false]);
        assert!(house.make_room());
        assert_eq!(left(&[&one, &two, &three]), [false, true, true], "nobody is asked twice");
    }

    #[test]
    fn who_waits_for_an_answer_stays() {
        let house = Seats::default();
        let seat = house.take();
        let running = seat.running();
        assert!(!house.make_room());
        drop(running);
        assert!(house.make_room());
    }

    #[test]
    fn a_seat_is_free_when_its_connection_is_gone() {
        let house = Seats::default();
        drop(house.take());
        assert!(!house.make_room() && house.lock().taken.is_empty());
    }
}
