//! Who sends when, and what of it the link takes.

use plumbline_proof::backhaul::challenger::{Flood, Flooded};
use plumbline_proof::backhaul::params::Terms;
use plumbline_proof::backhaul::sendlog::SendLog;

use super::link::time_ns;
use super::scene::{Event, Scene};

/// A challenger that sends data: paced, each packet by chance within its turn, as real pacers are not in
/// step and a queue that drops its tail would starve one of them for ever.
pub(crate) struct Sender {
    start_ns: u64,
    until_ns: u64,
    step_ns: u64,
    bytes: u64,
    most: u64,
    sent: u64,
    log: SendLog,
    sent_ns: u64,
    first_ns: Option<u64>,
    reached_ns: u64,
}

impl Sender {
    /// One that does what `flood` says.
    pub(crate) fn new(flood: &Flood, terms: &Terms) -> Self {
        let bytes = u64::from(terms.packet_bytes);
        Self {
            start_ns: flood.start_ns,
            until_ns: flood.deadline_ns,
            step_ns: time_ns(bytes, flood.rate_bps),
            bytes,
            most: terms.cap_packets(),
            sent: 0,
            log: SendLog::new(terms.duration_ns()),
            sent_ns: flood.start_ns,
            first_ns: None,
            reached_ns: 0,
        }
    }
}

impl Scene {
    /// Plans when a sender's next packet reaches the link.
    pub(crate) fn next_send(&mut self, number: u16) {
        let Some(party) = self.parties.get_mut(&number) else {
            return;
        };
        let Some(sender) = &mut party.sender else {
            return;
        };
        let chance = if sender.sent == 0 {
            0
        } else {
            self.chance.below(sender.step_ns)
        };
        sender.sent_ns = sender.start_ns + sender.sent * sender.step_ns + chance;
        sender.reached_ns = sender.reached_ns.max(sender.sent_ns + party.way_ns);
        self.agenda.plan(sender.reached_ns, Event::Send(number));
    }

    /// A packet reaches the link, unless its sender has stopped before it was sent.
    pub(crate) fn sends(&mut self, number: u16) {
        let Some(party) = self.parties.get_mut(&number) else {
            return;
        };
        let Some(sender) = &mut party.sender else {
            return;
        };
        let over = sender.sent_ns >= sender.until_ns
            || sender.sent >= sender.most
            || party.stopped_ns.is_some_and(|ns| sender.sent_ns > ns);
        if over {
            party.machine.flooded(Flooded {
                first_ns: sender.first_ns,
                sent: sender.sent,
                log: sender.log.clone(),
                clock: "model".into(),
                clock_error_ns: 0,
            });
            return;
        }
        sender.first_ns = sender.first_ns.or(Some(sender.sent_ns));
        let since_ns = sender.sent_ns - sender.first_ns.unwrap_or(sender.sent_ns);
        sender.log.add(since_ns, 1);
        let sequence = sender.sent;
        sender.sent += 1;
        if let Some(arrives) = self.link.offer(self.now_ns, sender.bytes) {
            self.agenda
                .plan(arrives, Event::DataArrives(number, sequence));
        }
        self.next_send(number);
    }
}
