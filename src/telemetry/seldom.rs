//! What may happen at any rate and is told seldom: keeps a flood of clients or answers from becoming a flood of log
//! lines.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The least time between two log lines about the same thing.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// One thing that is told at most every ten seconds, with how often it happened meanwhile.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    last_line: Option<Instant>,
    count: u64,
}

impl Seldom {
    /// It happened so many times more. How often since the last line, these included, if it is time for another.
    pub fn turn(&self, count: u64) -> Option<u64> {
        self.turn_at(count, Instant::now())
    }

    fn turn_at(&self, count: u64, now: Instant) -> Option<u64> {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        untold.count = untold.count.saturating_add(count);
        if untold.last_line.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_LINES) {
            return None;
        }
        untold.last_line = Some(now);
        Some(std::mem::take(&mut untold.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_per_interval_and_adds_up() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let at = |tenths: u32| start + BETWEEN_LINES * tenths / 10;
        let told: Vec<_> = (0..=25).filter_map(|tenths| Some((tenths, seldom.turn_at(1, at(tenths))?))).collect();
        assert_eq!(told, [(0, 1), (10, 10), (20, 10)]);
        assert_eq!(seldom.turn_at(u64::MAX, at(26)), None);
        assert_eq!(seldom.turn_at(1, at(30)), Some(u64::MAX), "counts do not wrap");
    }
}
