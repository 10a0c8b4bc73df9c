//! The chain's clock, held by the bench. The sequencer asks it once a block, after the block's transactions
//! are taken, or never for the ones that still wait: so holding its answer back holds the chain.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Unix seconds at which every chain here begins, and on a disk stays.
pub(crate) const START: u64 = 1_700_000_000;

/// A clock that stands still, and may be held.
pub(crate) struct Clock {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    held: bool,
    waiting: bool,
    /// When it last told the time.
    told: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                held: false,
                waiting: false,
                told: Instant::now(),
            }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unix seconds; waits while the clock is held.
    pub(crate) fn tell(&self) -> u64 {
        let mut state = self.state();
        while state.held {
            state.waiting = true;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting = false;
        state.told = Instant::now();
        START
    }

    /// From now on nobody is told the time, and so no block goes on.
    pub(crate) fn hold(&self) {
        self.state().held = true;
    }

    /// Whether somebody waits for the time.
    pub(crate) fn is_asked(&self) -> bool {
        self.state().waiting
    }

    /// Tells everyone who waits.
    pub(crate) fn release(&self) {
        self.state().held = false;
        self.changed.notify_all();
    }

    /// When the time was last told: when the newest block began to be made.
    pub(crate) fn last_told(&self) -> Instant {
        self.state().told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_held_clock_answers_once_it_is_released() {
        let clock = Arc::new(Clock::new());
        assert_eq!(clock.tell(), START);
        clock.hold();
        let asker = std::thread::spawn({
            let clock = Arc::clone(&clock);
            move || clock.tell()
        });
        while !clock.is_asked() {
            std::thread::yield_now();
        }
        let held = Instant::now();
        assert!(!asker.is_finished());
        clock.release();
        assert_eq!(asker.join().unwrap(), START);
        assert!(clock.last_told() >= held);
    }
}
