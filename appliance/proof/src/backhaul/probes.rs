//! The echo probes of one challenger: when the next is due, which are unanswered, what came back.

use std::collections::BTreeMap;

use super::messages::{Rtt, Window};
use super::params::{PROBE_GAP_NS, PROBE_TIMEOUT_NS, PROBES_IDLE};

/// A challenger's probes over all windows.
#[derive(Default)]
pub(super) struct Probes {
    sent: [u64; 3],
    next_ns: u64,
    number: u64,
    waiting: BTreeMap<u64, (Window, u64)>,
    /// Echoes as received, for the report.
    pub(super) answered: Vec<Rtt>,
    /// Their round trips, ns.
    pub(super) round_trips: Vec<(Window, u64)>,
}

impl Probes {
    /// Number of the probe to send now, if one is due; under load they are `loaded_gap_ns` apart.
    pub(super) fn due(&mut self, window: Window, now_ns: u64, loaded_gap_ns: u64) -> Option<u64> {
        let loaded = window == Window::During;
        let sent = &mut self.sent[window as usize];
        if now_ns < self.next_ns || (!loaded && *sent >= PROBES_IDLE) {
            return None;
        }
        *sent += 1;
        self.next_ns = now_ns + if loaded { loaded_gap_ns } else { PROBE_GAP_NS };
        self.number += 1;
        self.waiting.insert(self.number, (window, now_ns));
        Some(self.number)
    }

    /// No probe before `ns`.
    pub(super) fn rest_until(&mut self, ns: u64) {
        self.next_ns = ns;
    }

    /// When the next one is due, unix ns.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// The first answer to probe `number`: its window and when it was sent.
    pub(super) fn answer(&mut self, number: u64) -> Option<(Window, u64)> {
        self.waiting.remove(&number)
    }

    /// All idle probes of `window` are sent, and each is answered or lost.
    pub(super) fn done(&self, window: Window, now_ns: u64) -> bool {
        let open = |(w, sent): &(Window, u64)| *w == window && now_ns < sent + PROBE_TIMEOUT_NS;
        self.sent[window as usize] >= PROBES_IDLE && !self.waiting.values().any(open)
    }

    /// Smallest round trip so far, ns; 0 before the first.
    pub(super) fn smallest_ns(&self) -> u64 {
        self.round_trips.iter().map(|s| s.1).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_done_when_each_probe_is_answered_or_lost() {
        let mut probes = Probes::default();
        let mut now = 1_000;
        for number in 1..=PROBES_IDLE {
            assert_eq!(probes.due(Window::Before, now, 0), Some(number));
            assert_eq!(probes.due(Window::Before, now + PROBE_GAP_NS - 1, 0), None);
            now += PROBE_GAP_NS;
        }
        assert_eq!(probes.due(Window::Before, now, 0), None);
        for number in 1..PROBES_IDLE {
            assert!(probes.answer(number).is_some());
            assert!(
                probes.answer(number).is_none(),
                "only the first answer counts"
            );
        }
        let last = now - PROBE_GAP_NS;
        assert!(!probes.done(Window::Before, last + PROBE_TIMEOUT_NS - 1));
        assert!(probes.done(Window::Before, last + PROBE_TIMEOUT_NS));
        assert!(!probes.done(Window::After, u64::MAX - PROBE_TIMEOUT_NS));
    }
}
