//! The challenger's part: shows that it can be reached, releases its seed at T0, counts, reports. The set-up is
//! [`super::super::challenger`]'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plumbline_trust::identity::{NetworkKey, Signed};

use super::super::challenger::{Challenger, ChallengerAction};
use super::super::messages::{Arrivals, Report, Rtt, Settlement, Start, Statement};
use super::super::params::{Direction, PROBE_GAP_NS};
use super::super::rtt;
use super::arrivals::Counter;
use super::{LINGER_NS, Window, flood_ns, span_us};

/// What to count, and until when.
pub struct Counting {
    /// Counts.
    pub counter: Counter,
    /// Who sends: any port of this address.
    pub from: std::net::IpAddr,
    /// Nothing comes after this, unix ns.
    pub until_ns: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Counted {
    /// As counted.
    pub arrivals: Arrivals,
    /// Clock that made the stamps.
    pub clock: String,
    /// Bound on its error over the phase, ns.
    pub clock_error_ns: u64,
}

/// Where a challenger is with its counting.
#[derive(Default)]
pub struct Receiving {
    window: Option<Window>,
    counted: Option<Counted>,
    seed: Option<Releasing>,
}

/// The seed on its way: from T0 until a packet that is made from it is here.
struct Releasing {
    next_ns: u64,
    sent: u64,
    arrived: Arc<AtomicBool>,
}

impl Receiving {
    /// When probes ride the full queue, unix ns: while the common window lasts.
    pub(in super::super) fn during(&self) -> std::ops::Range<u64> {
        self.window.map_or(0..0, |w| w.from_ns..w.until_ns())
    }

    /// When the seed is to be sent, first or again, unix ns.
    pub(in super::super) fn release_ns(&self) -> u64 {
        let waiting = self.seed.as_ref().map(|s| s.next_ns);
        waiting.unwrap_or(u64::MAX)
    }
}

impl Challenger {
    pub(in super::super) fn up(&self) -> bool {
        self.record.notice.message.terms.direction == Direction::Up
    }

    /// An echo, for the prover to see that what it sends reaches this address.
    pub(in super::super) fn reached(&self) -> Option<Rtt> {
        self.probes.answered.first().filter(|_| self.up()).cloned()
    }

    /// Reports, once the counting is over and the reveal is here.
    pub(in super::super) fn receive(
        &mut self,
        key: &NetworkKey,
        settlement: &dyn Settlement,
    ) -> Vec<ChallengerAction> {
        match (self.uplink.window, &self.uplink.counted) {
            (Some(window), Some(_)) if !self.done && self.record.reveal.is_some() => {
                self.done = true;
                self.received(key, settlement, window)
            }
            _ => Vec::new(),
        }
    }

    /// Counts from the start on.
    pub(in super::super) fn count(&mut self, start: &Start) -> Vec<ChallengerAction> {
        let notice = &self.record.notice.message;
        let window = Window::new(&notice.terms, start.t0_ns);
        self.uplink.window = Some(window);
        let (Some(key), Some(consent)) = (self.session.clone(), &self.record.consent) else {
            return Vec::new();
        };
        let counter = Counter::new(notice, self.index, (key, &self.secrets.seed), window);
        self.uplink.seed = Some(Releasing {
            next_ns: window.from_ns,
            sent: 0,
            arrived: counter.arrived(),
        });
        vec![ChallengerAction::Count(Box::new(Counting {
            counter,
            from: consent.message.data.ip(),
            until_ns: start.t0_ns + flood_ns(&notice.terms) + LINGER_NS,
        }))]
    }

    /// The seed, never before T0 by this clock, and again while nothing comes that is made from it: until then nobody
    /// but this challenger knows what counts.
    pub(in super::super) fn release(&mut self, now_ns: u64) -> Option<ChallengerAction> {
        let seed = self.uplink.seed.as_mut().filter(|s| now_ns >= s.next_ns)?;
        let is_over = self.uplink.window.is_none_or(|w| now_ns >= w.until_ns());
        if is_over || seed.arrived.load(Ordering::Relaxed) {
            self.uplink.seed = None;
            return None;
        }
        let number = seed.sent;
        (seed.next_ns, seed.sent) = (now_ns + PROBE_GAP_NS, number + 1);
        let to = self.record.consent.as_ref()?.message.control;
        let (key, mine) = (self.session.as_ref()?, &self.secrets.seed);
        let bytes = rtt::seed(
            self.record.challenge(),
            self.index,
            number,
            (now_ns, mine),
            key,
        );
        self.control_sent += 1;
        Some(ChallengerAction::Send(to, bytes))
    }

    /// The counting is over.
    pub fn counted(&mut self, counted: Counted) {
        self.uplink.counted = Some(counted);
    }

    fn received(
        &mut self,
        key: &NetworkKey,
        settlement: &dyn Settlement,
        window: Window,
    ) -> Vec<ChallengerAction> {
        let (Some(counted), Some(commit)) = (self.uplink.counted.take(), &self.record.commit)
        else {
            return Vec::new();
        };
        let counts = &counted.arrivals.histogram;
        let packets = counts.iter().fold(0u32, |sum, n| sum.saturating_add(*n));
        let mut report = Report {
            challenge: *self.record.challenge(),
            phase: 0,
            index: self.index,
            sent_first_ns: window.from_ns,
            committed_ns: window.until_ns(),
            window_us: span_us(&self.record.notice.message.terms),
            rho_ns: self.probes.smallest_ns(),
            rtts: std::mem::take(&mut self.probes.answered),
            packets,
            sent: 0,
            sent_back: Vec::new(),
            control_sent: self.control_sent,
            response: commit.message.response,
            seed: self.secrets.seed,
            ephemeral_secret: self.secrets.ephemeral,
            clock: counted.clock,
            clock_error_ns: counted.clock_error_ns,
            arrivals: Some(counted.arrivals),
            heard: None,
            settlement: Vec::new(),
        };
        report.settlement = settlement.sign_report(&self.record.notice.message, &report);
        vec![
            ChallengerAction::Say(Statement::Report(Signed::new(key, &report))),
            ChallengerAction::Done,
        ]
    }
}
