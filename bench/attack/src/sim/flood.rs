//! The data plane: who sends when, what of it the link takes, and when it reaches the prover.
//!
//! ```text
//!  sender: start + the product's pace ─► loss ─► delay, jitter ─► link ─► prover's gate
//!          one event ahead each: n senders cost log n a packet
//! ```
//!
//! Claim: a challenger sends from its start until it hears the commitment, its cap or the deadline, in the bursts
//! and at the instants of the product's schedule. Not promised: a host's own delays. Tests: `sim`'s.

use std::net::SocketAddr;

use plumbline_proof::backhaul::challenger::{Flood, Flooded};
use plumbline_proof::backhaul::pace::{Pace, jitter};
use plumbline_proof::backhaul::params::DEADLINE_DURATIONS;
use plumbline_proof::backhaul::sendlog::SendLog;

use super::cast;
use super::clock::{Data, Event, Load};
use super::link::time_ns;
use super::play::OUTSIDER_PERCENT;
use super::session::Session;
use super::world::PACKET;
use crate::switch::Attack;

/// Somebody who sends data.
pub(super) struct Sender {
    /// Challenger, or the one in whose name packets come.
    index: usize,
    outsider: bool,
    from: SocketAddr,
    load: Load,
    start_ns: u64,
    /// Nothing is sent from then on.
    until_ns: u64,
    pace: Pace,
    /// Packets of the burst that have not left yet.
    left: u64,
    log: SendLog,
    most: u64,
    /// Each number is sent so many times.
    copies: u64,
    sent: u64,
    sent_ns: u64,
    first_ns: Option<u64>,
    /// When the last one reached the link: order is kept.
    reached_ns: u64,
}

impl Sender {
    fn number(&self) -> u64 {
        self.sent / self.copies
    }
}

impl Session {
    /// A challenger's flood begins.
    pub(super) fn floods(&mut self, index: usize, flood: Flood) {
        self.parties[index].flood = Some(flood);
        if flood.to != cast::prover_data() {
            self.meet("flooded_a_stranger");
            return;
        }
        if self.play.commits(Attack::Rush, index) {
            return;
        }
        let skew = self.chance.below(self.world.network.skew_ns + 1);
        let cap = self.world.terms.cap_packets();
        let copies = if self.play.commits(Attack::Replay, index) {
            2
        } else {
            1
        };
        let most = if self.play.commits(Attack::Withhold, index) {
            1
        } else {
            cap
        };
        let load = if self.play.commits(Attack::ZeroPayload, index) {
            Load::Zeros
        } else {
            Load::Genuine
        };
        self.sender(Sender {
            index,
            outsider: false,
            from: cast::data_of(index),
            load,
            start_ns: flood.start_ns + skew,
            until_ns: flood.deadline_ns,
            pace: self.pace(index, flood.rate_bps),
            left: 0,
            log: SendLog::new(self.world.terms.duration_ns()),
            most,
            copies,
            sent: 0,
            sent_ns: flood.start_ns + skew,
            first_ns: None,
            reached_ns: 0,
        });
    }

    /// The schedule of challenger `index`.
    fn pace(&self, index: usize, rate_bps: u64) -> Pace {
        let percent = if self.play.corrupt(index) {
            self.world.network.corrupt_pace_percent.max(1)
        } else {
            100
        };
        let seed = &self.parties[index].seed;
        Pace::new(8 * PACKET, rate_bps * percent / 100, jitter(seed))
    }

    /// Those who take no part begin at T0, if there are any.
    pub(super) fn outsiders(&mut self, t0_ns: u64) {
        let (from, load) = if self.play.is(Attack::Injection) {
            (cast::data_of(self.parties.len() - 1), Load::Untagged)
        } else if self.play.is(Attack::SpoofedSource) {
            (cast::stranger(), Load::Untagged)
        } else {
            return;
        };
        let rate = self.world.terms.claim_bps * OUTSIDER_PERCENT / 100;
        self.sender(Sender {
            index: self.parties.len() - 1,
            outsider: true,
            from,
            load,
            start_ns: t0_ns,
            until_ns: t0_ns + DEADLINE_DURATIONS * self.world.terms.duration_ns(),
            pace: Pace::new(8 * PACKET, rate, 0),
            left: 0,
            log: SendLog::new(self.world.terms.duration_ns()),
            most: self.world.terms.cap_packets(),
            copies: 1,
            sent: 0,
            sent_ns: t0_ns,
            first_ns: None,
            reached_ns: 0,
        });
    }

    fn sender(&mut self, sender: Sender) {
        self.senders.push(sender);
        self.next_send(self.senders.len() - 1);
    }

    /// Plans when the sender's next packet reaches the link.
    fn next_send(&mut self, at: usize) {
        let sender = &mut self.senders[at];
        if sender.left == 0 {
            let due = sender.pace.due_ns();
            sender.left = sender.pace.take(due);
            sender.sent_ns = sender.start_ns + due;
        }
        sender.left = sender.left.saturating_sub(1);
        let jitter = self.chance.below(self.world.network.jitter_ns + 1);
        let reaches = sender.sent_ns + self.parties[sender.index].delay_ns + jitter;
        sender.reached_ns = sender.reached_ns.max(reaches);
        self.clock.plan(sender.reached_ns, Event::Send(at));
    }

    /// A sender's packet reaches the link, unless the sender has stopped before it was sent.
    pub(super) fn sends(&mut self, at: usize) {
        let sender = &self.senders[at];
        let stopped = if sender.outsider {
            self.word.as_ref().map(|w| w.since_ns)
        } else {
            self.parties[sender.index].stopped_ns
        };
        let over = sender.sent_ns >= sender.until_ns
            || sender.number() >= sender.most
            || stopped.is_some_and(|ns| sender.sent_ns > ns);
        if over {
            self.sender_ends(at);
            return;
        }
        let sender = &mut self.senders[at];
        let data = Data {
            from: sender.from,
            index: sender.index,
            sequence: sender.number(),
            load: sender.load,
        };
        sender.first_ns = sender.first_ns.or(Some(sender.sent_ns));
        sender.log.add(sender.sent_ns - sender.start_ns, 1);
        sender.sent += 1;
        self.sent += 1;
        let now = self.clock.now;
        if self.chance.in_a_million(self.world.network.loss_ppm) {
            self.lost += 1;
            self.meet("lost_on_the_way");
        } else if let Some(arrives) = self.link.offer(now, PACKET) {
            self.on_the_way += 1;
            self.clock.plan(arrives, Event::DataArrives(data));
        } else {
            self.lost += 1;
            self.meet("dropped_by_the_link");
        }
        self.next_send(at);
    }

    fn sender_ends(&mut self, at: usize) {
        let sender = &self.senders[at];
        if sender.outsider {
            return;
        }
        let outcome = flooded(sender.first_ns, sender.sent, sender.log.clone());
        self.parties[sender.index].machine.flooded(outcome);
    }

    /// A challenger stops: it hears the commitment, or no echo. Who handed its packets over says what it would
    /// have sent.
    pub(super) fn stops(&mut self, index: usize) {
        let now = self.clock.now;
        if self.parties[index].stopped_ns.is_some() {
            return;
        }
        self.parties[index].stopped_ns = Some(now);
        if self.word.is_none() {
            self.meet("stopped_without_echo");
        }
        if let (true, Some(flood)) = (
            self.play.commits(Attack::Rush, index),
            self.parties[index].flood,
        ) {
            let mut pace = self.pace(index, flood.rate_bps);
            let (mut log, mut sent) = (SendLog::new(self.world.terms.duration_ns()), 0);
            while flood.start_ns + pace.due_ns() < now {
                let due = pace.due_ns();
                let packets = pace.take(due);
                log.add(due, packets);
                sent += packets;
            }
            // It hands over as much as can count.
            let outcome = flooded(
                Some(flood.start_ns),
                sent.max(self.world.terms.counted_most()),
                log,
            );
            self.parties[index].machine.flooded(outcome);
        }
    }

    /// One slot of cross traffic: as long as a packet takes.
    pub(super) fn cross(&mut self) {
        let network = &self.world.network;
        let Some(cross) = network.cross else {
            return;
        };
        let now = self.clock.now;
        let slot = time_ns(PACKET, network.rate_bps).max(1);
        if self.chance.in_a_million(cross.share_ppm(now)) && self.link.offer(now, PACKET).is_none()
        {
            self.meet("cross_traffic_dropped");
        }
        self.clock.plan(now + slot, Event::Cross);
    }
}

fn flooded(first_ns: Option<u64>, sent: u64, log: SendLog) -> Flooded {
    Flooded {
        first_ns,
        sent,
        log,
        clock: "virtual".into(),
        clock_error_ns: 0,
    }
}
