//! Memory and tables of one instance: bounds over all its linear memories and tables together (sandbox.md §3).

use wasmtime::ResourceLimiter;

use super::engine::TABLE_ELEMENTS;
use crate::config::Limits;
use crate::outcome::Limit;

/// Adds up what the instance holds and denies what would pass a limit. A denial is not a trap: the guest may cope.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_max: u64,
    tables_max: u64,
    memory: u64,
    tables: u64,
    /// The growth of a memory permitted last, taken back when the engine then can't do it.
    last_memory: u64,
    /// The first growth that was denied.
    pub(crate) denied: Option<Limit>,
    /// Most linear memory held.
    pub(crate) peak: u64,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { memory_max: limits.memory, tables_max: limits.tables, memory: 0, tables: 0, last_memory: 0, denied: None, peak: 0 }
    }

    fn deny(&mut self, name: &'static str, value: u64) -> wasmtime::Result<bool> {
        self.denied.get_or_insert(Limit { name, value });
        Ok(false)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if self.memory.saturating_add(more) > self.memory_max {
            return self.deny("memory", self.memory_max);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false); // The module's own bound, not ours.
        }
        self.memory += more;
        self.last_memory = more;
        self.peak = self.peak.max(self.memory);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory -= std::mem::take(&mut self.last_memory);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        if self.tables.saturating_add(more) > self.tables_max {
            return self.deny("tables", self.tables_max);
        }
        match maximum {
            // No table of the pool is larger: a bound of the sandbox, where the limit would allow more.
            Some(TABLE_ELEMENTS) if desired > TABLE_ELEMENTS => return self.deny("tables", TABLE_ELEMENTS as u64),
            Some(maximum) if desired > maximum => return Ok(false),
            _ => {}
        }
        self.tables += more;
        Ok(true)
    }

    // `table_grow_failed` takes nothing back: what could fail after it was permitted is denied above, and the engine also calls it for
    // sizes so absurd that nobody was asked (wasmtime 48.0.8: vm/table.rs, `grow`).
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_add_up() {
        let mut limiter = Limiter::new(&Limits { memory: 64 << 20, ..Limits::default() });
        assert!(limiter.memory_growing(0, 40 << 20, None).unwrap());
        assert!(!limiter.memory_growing(0, 40 << 20, None).unwrap());
        assert_eq!(limiter.denied, Some(Limit { name: "memory", value: 64 << 20 }));
        assert!(limiter.memory_growing(0, 24 << 20, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no pages")).unwrap();
        assert!(limiter.memory_growing(0, 24 << 20, None).unwrap());
        assert_eq!(limiter.peak, 64 << 20);
    }

    #[test]
    fn a_modules_own_maximum_is_not_our_denial() {
        let mut limiter = Limiter::new(&Limits::default());
        assert!(!limiter.memory_growing(65_536, 131_072, Some(65_536)).unwrap());
        assert_eq!(limiter.denied, None);
    }

    #[test]
    fn tables_add_up_and_a_failure_gives_nothing_back() {
        let mut limiter = Limiter::new(&Limits { tables: 100, ..Limits::default() });
        assert!(limiter.table_growing(0, 60, Some(1000)).unwrap());
        limiter.table_grow_failed(wasmtime::Error::msg("overflow calculating new table size")).unwrap();
        assert!(!limiter.table_growing(60, 120, Some(1000)).unwrap());
        assert_eq!(limiter.denied, Some(Limit { name: "tables", value: 100 }));
    }

    #[test]
    fn the_bound_of_the_pool_is_named_where_the_limit_allows_more() {
        for (tables, named) in [(TABLE_ELEMENTS as u64, 100_000), (500_000, 100_000), (10, 10)] {
            let mut limiter = Limiter::new(&Limits { tables, ..Limits::default() });
            assert!(!limiter.table_growing(0, TABLE_ELEMENTS + 1, Some(TABLE_ELEMENTS)).unwrap());
            assert_eq!(limiter.denied, Some(Limit { name: "tables", value: named }));
        }
        let mut limiter = Limiter::new(&Limits::default());
        assert!(!limiter.table_growing(0, 11, Some(10)).unwrap());
        assert_eq!(limiter.denied, None);
    }
}
