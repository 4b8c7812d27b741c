//! Memory for decoded pictures, shared by all inference threads: a file of a few kilobytes may decode to 192 MiB, and the
//! limits on bodies do not see that.

use std::sync::{Condvar, Mutex, PoisonError};

/// What decoded pictures of all requests may take together, MiB; one that takes more alone is decoded alone.
const SHARED_MIB: u64 = 256;

/// The process's one.
pub(super) static MEMORY: Memory = Memory::new(SHARED_MIB << 20);

/// Bytes that are handed out and come back.
#[derive(Debug)]
pub(super) struct Memory {
    all: u64,
    free: Mutex<u64>,
    returned: Condvar,
}

impl Memory {
    const fn new(all: u64) -> Self {
        Self { all, free: Mutex::new(all), returned: Condvar::new() }
    }

    /// Waits until so many bytes are free, or all of them when more are wanted. Threads that wait hold none, so the ones
    /// that hold some get on.
    pub(super) fn hold(&self, bytes: u64) -> Held<'_> {
        let bytes = bytes.min(self.all);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.returned.wait_while(free, |free| *free < bytes).unwrap_or_else(PoisonError::into_inner);
        *free -= bytes;
        Held { memory: self, bytes }
    }
}

/// Bytes that go back when this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Held<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.memory.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.memory.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn what_does_not_fit_waits_for_what_is_held() {
        let memory = Memory::new(100);
        thread::scope(|scope| {
            let first = memory.hold(80);
            let (memory, (tell, told)) = (&memory, mpsc::channel());
            scope.spawn(move || {
                let _held = memory.hold(30);
                tell.send(()).unwrap();
            });
            assert!(told.try_recv().is_err());
            drop(memory.hold(20));
            drop(first);
            told.recv().unwrap();
        });
        assert_eq!(*memory.free.lock().unwrap(), 100);
    }

    #[test]
    fn what_is_larger_than_everything_is_held_alone() {
        let memory = Memory::new(100);
        let held = memory.hold(1_000);
        assert_eq!(*memory.free.lock().unwrap(), 0);
        drop(held);
        assert_eq!(*memory.free.lock().unwrap(), 100);
    }
}
