//! The challenger's part: shows that it can be reached, counts, reports. The set-up is
//! [`super::super::challenger`]'s.

use plumbline_trust::identity::{NetworkKey, Signed};

use super::super::challenger::{Challenger, ChallengerAction};
use super::super::messages::{Arrivals, Report, Rtt, Settlement, Statement};
use super::super::params::Direction;
use super::arrivals::Counter;
use super::{LEAD_MOST_NS, LINGER_NS, Window, flood_ns};

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
}

impl Challenger {
    pub(in super::super) fn up(&self) -> bool {
        self.record.notice.message.terms.direction == Direction::Up
    }

    /// An echo, for the prover to see that what it sends reaches this address.
    pub(in super::super) fn reached(&self) -> Option<Rtt> {
        self.probes.answered.first().filter(|_| self.up()).cloned()
    }

    /// Goes on with counting and reporting.
    pub(in super::super) fn receive(
        &mut self,
        key: &NetworkKey,
        settlement: &dyn Settlement,
        now_ns: u64,
    ) -> Vec<ChallengerAction> {
        match (self.uplink.window, &self.uplink.counted) {
            (None, _) => self.count(now_ns).into_iter().collect(),
            (Some(window), Some(_)) if !self.done && self.record.reveal.is_some() => {
                self.done = true;
                self.received(key, settlement, window)
            }
            _ => Vec::new(),
        }
    }

    fn count(&mut self, now_ns: u64) -> Option<ChallengerAction> {
        let t0_ns = self.record.start.as_ref()?.message.t0_ns;
        let notice = &self.record.notice.message;
        let window = Window::new(&notice.terms, t0_ns);
        self.uplink.window = Some(window);
        // The kernel stamps what comes before I hear of it; but a window that is over, or one far ahead, is
        // of another clock than mine.
        if now_ns >= window.until_ns() || t0_ns.saturating_sub(now_ns) > LEAD_MOST_NS {
            return Some(ChallengerAction::Fail(format!(
                "the start was heard at {now_ns} unix ns for {t0_ns}; it must be heard before its window ends, and at most {} ms ahead: are both clocks synchronised?",
                LEAD_MOST_NS / 1_000_000
            )));
        }
        let (key, consent) = (self.session.clone()?, self.record.consent.as_ref()?);
        Some(ChallengerAction::Count(Box::new(Counting {
            counter: Counter::new(notice, self.index, key, window),
            from: consent.message.data.ip(),
            until_ns: t0_ns + flood_ns(&notice.terms) + LINGER_NS,
        })))
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
            rho_ns: self.probes.smallest_ns(),
            rtts: std::mem::take(&mut self.probes.answered),
            known_ns: self.known.smallest_ns,
            floor_ns: self.known.floor_ns,
            tt_ns: window.length_ns(),
            tt_plus_ns: window.length_ns(),
            packets,
            sent: 0,
            sent_last_ns: window.from_ns,
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
        match self.say(Statement::Report(Signed::new(key, &report))) {
            Ok(said) => vec![said, ChallengerAction::Done],
            Err(refusal) => vec![ChallengerAction::Fail(refusal.to_string())],
        }
    }
}
