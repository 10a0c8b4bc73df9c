//! How long an engine waits for the kernel: until the flood is over, and never without bound.
//!
//! ```text
//!  submitted ──► Wait ──┬── over, or patience used up ──► Cancel ──► Wait ── patience again ──► Lost
//!                       └── it answered: whoever waits stops asking
//! ```
//!
//! Claim: a wait ends within twice the patience, whatever the kernel does. Not promised: that what was
//! lost is not sent after all, which is why it ends the flood. Tests: below, and `tests.rs` of this folder.

/// How long the kernel may take over one burst, ns. A socket that waits for room has it when half of its
/// buffer is sent: 4 MiB, twenty times the usual, on a link of 5 Mbit/s. Whoever takes longer than that
/// has stopped.
pub(super) const PATIENCE_NS: u64 = 5_000_000_000;

/// What to do about a burst that has not been answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on waiting.
    Wait,
    /// Take it back; said once.
    Cancel,
    /// It was taken back and even that was not answered.
    Lost,
}

/// One wait.
#[derive(Debug)]
pub(super) struct Watchdog {
    since_ns: u64,
    patience_ns: u64,
    cancelled: bool,
    expired: bool,
}

impl Watchdog {
    /// Begins to wait at `now_ns` of `CLOCK_MONOTONIC`.
    pub(super) fn new(now_ns: u64, patience_ns: u64) -> Self {
        Self {
            since_ns: now_ns,
            patience_ns,
            cancelled: false,
            expired: false,
        }
    }

    /// It is `now_ns` and there is still no answer. `over`: nobody wants it any more.
    pub(super) fn look(&mut self, now_ns: u64, over: bool) -> Verdict {
        let late = now_ns.saturating_sub(self.since_ns) >= self.patience_ns;
        match (self.cancelled, late) {
            (true, true) => Verdict::Lost,
            (true, false) => Verdict::Wait,
            (false, late) if late || over => {
                self.cancelled = true;
                self.expired = late && !over;
                self.since_ns = now_ns;
                Verdict::Cancel
            }
            (false, _) => Verdict::Wait,
        }
    }

    /// Was it cancelled because patience was used up, and not because the flood is over?
    pub(super) fn expired(&self) -> bool {
        self.expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_has_both_sides() {
        let mut dog = Watchdog::new(1000, 50);
        assert_eq!(dog.look(1049, false), Verdict::Wait);
        assert_eq!(dog.look(1050, false), Verdict::Cancel);
        assert!(dog.expired());
        assert_eq!(dog.look(1099, false), Verdict::Wait, "said once");
        assert_eq!(dog.look(1100, false), Verdict::Lost);
    }

    #[test]
    fn the_end_of_the_flood_is_no_fault_but_a_lost_cancellation_is() {
        let mut dog = Watchdog::new(1000, 50);
        assert_eq!(dog.look(1001, true), Verdict::Cancel);
        assert!(!dog.expired());
        assert_eq!(dog.look(1050, true), Verdict::Wait);
        assert_eq!(dog.look(1051, true), Verdict::Lost);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_does_not_end_it() {
        let mut dog = Watchdog::new(1000, 50);
        assert_eq!(dog.look(0, false), Verdict::Wait);
        assert_eq!(dog.look(1000, false), Verdict::Wait);
    }
}
