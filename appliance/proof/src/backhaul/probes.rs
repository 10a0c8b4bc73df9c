//! The echo probes of one challenger: when the next is due, which are unanswered, what came back.
//!
//! A probe's number is drawn from a secret: nobody answers a probe that did not reach it.

use std::collections::BTreeMap;

use plumbline_trust::encoding::{domain, hash};

use super::messages::{Rtt, Window};
use super::params::{PROBE_GAP_LOADED_NS, PROBE_GAP_NS, PROBE_TIMEOUT_NS, PROBES_IDLE};

/// Most probes before the flood: at their gap more than a prover has for its set-up, so that one that lets a
/// challenger wait does not choose how many its report counts.
const BEFORE_MOST: u64 = 4_096;

/// A challenger's probes over all windows.
pub(super) struct Probes {
    sent: [u64; 2],
    next_ns: u64,
    drawn: u64,
    secret: [u8; 32],
    /// When the last answer came, unix ns; 0 before the first.
    pub(super) heard_ns: u64,
    waiting: BTreeMap<u64, (Window, u64)>,
    /// Echoes as received, for the report.
    pub(super) answered: Vec<Rtt>,
    /// Their round trips, ns.
    pub(super) round_trips: Vec<(Window, u64)>,
}

impl Probes {
    /// None yet; their numbers are drawn from `secret`, which nobody else knows before the report.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            sent: [0; 2],
            next_ns: 0,
            drawn: 0,
            secret,
            heard_ns: 0,
            waiting: BTreeMap::new(),
            answered: Vec::new(),
            round_trips: Vec::new(),
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let digest = hash(domain::PROBE, &[&self.secret, &self.drawn.to_le_bytes()]);
        let mut number = [0; 8];
        number.copy_from_slice(&digest[..8]);
        u64::from_le_bytes(number)
    }

    /// Number of the probe to send now, if one is due; under load they are `loaded_gap_ns` apart. Before the flood
    /// they go on, further apart, until one is answered.
    pub(super) fn due(&mut self, window: Window, now_ns: u64, loaded_gap_ns: u64) -> Option<u64> {
        let loaded = window == Window::During;
        let sent = &mut self.sent[window as usize];
        let idle = *sent >= PROBES_IDLE && self.heard_ns > 0;
        let enough = !loaded && (idle || *sent >= BEFORE_MOST);
        if now_ns < self.next_ns || enough {
            return None;
        }
        *sent += 1;
        self.next_ns = now_ns
            + match window {
                Window::During => loaded_gap_ns,
                Window::Before if *sent < PROBES_IDLE => PROBE_GAP_NS,
                Window::Before => PROBE_GAP_LOADED_NS,
            };
        let number = self.draw();
        self.waiting.insert(number, (window, now_ns));
        Some(number)
    }

    /// When the next one is due, unix ns.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// The first answer to probe `number`: its window and when it was sent.
    pub(super) fn answer(&mut self, number: u64) -> Option<(Window, u64)> {
        self.waiting.remove(&number)
    }

    /// All probes before the flood are sent, each is answered or lost, and one at least is answered: who hears
    /// nothing from the prover is not ready.
    pub(super) fn done(&self, now_ns: u64) -> bool {
        let open =
            |(w, sent): &(Window, u64)| *w == Window::Before && now_ns < sent + PROBE_TIMEOUT_NS;
        let sent = self.sent[Window::Before as usize] >= PROBES_IDLE && self.heard_ns > 0;
        sent && !self.waiting.values().any(open)
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
    fn the_window_is_done_when_each_probe_is_answered_or_lost() {
        let mut probes = Probes::new([1; 32]);
        let mut now = 1_000;
        let mut numbers = Vec::new();
        for _ in 0..PROBES_IDLE {
            numbers.push(probes.due(Window::Before, now, 0).unwrap());
            assert_eq!(probes.due(Window::Before, now + PROBE_GAP_NS - 1, 0), None);
            now += PROBE_GAP_NS;
        }
        assert_eq!(probes.due(Window::Before, now, 0), None);
        for number in &numbers[1..] {
            assert!(probes.answer(*number).is_some());
            assert!(
                probes.answer(*number).is_none(),
                "only the first answer counts"
            );
        }
        probes.heard_ns = now;
        let first = 1_000;
        assert!(!probes.done(first + PROBE_TIMEOUT_NS - 1));
        assert!(probes.done(first + PROBE_TIMEOUT_NS));
    }

    #[test]
    fn probes_go_on_until_one_is_answered() {
        let mut probes = Probes::new([1; 32]);
        let mut now = 1_000;
        for _ in 0..PROBES_IDLE + 3 {
            probes.due(Window::Before, now, 0).unwrap();
            now = probes.next_ns();
        }
        let late = now + PROBE_TIMEOUT_NS;
        assert!(!probes.done(late), "nobody answered");
        let mut now = late;
        while probes.due(Window::Before, now, 0).is_some() {
            now = probes.next_ns();
        }
        assert_eq!(probes.drawn, BEFORE_MOST);
        let late = now + PROBE_TIMEOUT_NS;
        probes.heard_ns = late;
        assert!(probes.done(late));
        assert_eq!(probes.due(Window::Before, late, 0), None);
    }

    #[test]
    fn numbers_are_another_secrets_own() {
        let of = |secret| Probes::new([secret; 32]).due(Window::Before, 0, 0);
        assert_ne!(of(1), of(2));
    }
}
