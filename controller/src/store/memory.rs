//! A store for tests: durable until it is dropped.

use super::{Rows, Store, StoreError, Table, Write};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Held = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Tables in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Held>);

impl MemoryStore {
    fn rows(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows().get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, prefix: &[u8]) -> Result<Rows, StoreError> {
        let rows = self.rows();
        let from = rows.range((Bound::Included((table, prefix.to_vec())), Bound::Unbounded));
        let under = from.take_while(|((of, key), _)| *of == table && key.starts_with(prefix));
        Ok(under.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, StoreError> {
        if from >= to {
            return Ok(Rows::new());
        }
        let rows = self.rows();
        let found = rows.range((table, from.to_vec())..(table, to.to_vec()));
        Ok(found.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut rows = self.rows();
        for write in writes {
            match write {
                Write::Put { table, key, value } => drop(rows.insert((table, key), value)),
                Write::Delete { table, key } => drop(rows.remove(&(table, key))),
            }
        }
        Ok(())
    }
}
