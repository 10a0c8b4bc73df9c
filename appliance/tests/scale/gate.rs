//! The prover's network side: count, echo, commit, repeat, reveal.
//!
//! ```text
//!  data ─► tag, number, caps (the product's tally) ─► N-th ─► commitment, thrice, then until acknowledged
//!  probe ─► echo, signed                                                              └─► quiet: reveal
//! ```

use plumbline_proof::backhaul::messages::{
    Accounting, ChallengeId, Commit, ECHO_DOMAIN, Statement,
};
use plumbline_proof::backhaul::params::{
    COMMIT_BURST, COMMIT_GIVE_UP_NS, COMMIT_REPEAT_NS, DRAIN_LIMIT_NS, DRAIN_QUIET_NS, Terms,
};
use plumbline_proof::backhaul::prover::ProverAction;
use plumbline_proof::backhaul::rtt;
use plumbline_proof::backhaul::tally::{Leaf, Tally};
use plumbline_trust::Digest;
use plumbline_trust::encoding::encode;
use plumbline_trust::identity::Signed;
use plumbline_trust::session::SessionKey;
use plumbline_wire::header::{HEADER_LEN, Header, IP_UDP_LEN, Kind, TAGGED_LEN};

use super::scene::{Event, Scene};

/// A probe or acknowledgement at the IP layer, bytes.
const CONTROL: u64 = (HEADER_LEN + IP_UDP_LEN) as u64;
/// From the last packet to the commitment, ns.
const COMMIT_NS: u64 = 50_000;

/// Who may send, and what was counted.
pub(crate) struct Gate {
    keys: Vec<Option<SessionKey>>,
    tally: Tally,
    /// Frames that came, and their bytes, as an interface counts them.
    interface: (u64, u64),
    /// When the last datagram came.
    heard_ns: u64,
    committing: bool,
}

/// The commitment, and who has it.
pub(crate) struct Word {
    commit: Commit,
    roots: Vec<Digest>,
    signed: Signed,
    acknowledged: Vec<bool>,
    since_ns: u64,
    pub(crate) revealed: bool,
}

impl Gate {
    /// Opens it to those who were consented to.
    pub(crate) fn open(
        challenge: &ChallengeId,
        terms: &Terms,
        keys: Vec<Option<SessionKey>>,
    ) -> Self {
        Self {
            tally: Tally::new(challenge, 0, terms, keys.clone()),
            keys,
            interface: (0, 0),
            heard_ns: 0,
            committing: false,
        }
    }

    fn take(&mut self, now_ns: u64, bytes: u64) {
        self.heard_ns = now_ns;
        self.interface.0 += 1;
        self.interface.1 += bytes;
    }

    fn key(&self, number: u16) -> Option<&SessionKey> {
        self.keys.get(usize::from(number))?.as_ref()
    }
}

impl Scene {
    /// A control datagram stands in the same queue as the data.
    pub(crate) fn control_sent(&mut self, number: u16, bytes: [u8; HEADER_LEN]) {
        if let Some(at) = self.link.offer(self.now_ns, CONTROL) {
            self.agenda.plan(at, Event::ControlArrives(number, bytes));
        }
    }

    /// The prover answers a probe, and takes note of an acknowledgement.
    pub(crate) fn control_arrives(&mut self, number: u16, bytes: &[u8; HEADER_LEN]) {
        let (Some(gate), Some((seat, _))) = (&mut self.gate, &self.prover) else {
            return;
        };
        gate.take(self.now_ns, CONTROL);
        let (Ok(header), Some(key)) = (Header::from_bytes(bytes), gate.key(number)) else {
            return;
        };
        if !key.check(bytes) {
            return;
        }
        match (header.kind, &mut self.word) {
            (Kind::CommitAck, Some(word)) => word.acknowledged[usize::from(number)] = true,
            (Kind::Probe, _) => {
                let (sequence, sent) = (header.sequence, header.sent_ns);
                let echo = rtt::sealed(Kind::Echo, &self.challenge, number, sequence, sent, key);
                let signature = seat.node.network.sign(ECHO_DOMAIN, &echo[..TAGGED_LEN]);
                self.answer(number, [&echo[..], &encode(&signature)].concat());
            }
            _ => {}
        }
    }

    fn answer(&mut self, number: u16, datagram: Vec<u8>) {
        if let Some(party) = self.parties.get(&number) {
            let at = self.now_ns + party.way_ns;
            self.agenda.plan(at, Event::Answer(number, datagram));
        }
    }

    /// The prover's datagram reaches a challenger.
    pub(crate) fn answered(&mut self, number: u16, bytes: &[u8]) {
        let from = self.prover.as_ref().map(|(seat, _)| seat.control);
        if let (Some(party), Some(from)) = (self.parties.get_mut(&number), from) {
            let actions = party.machine.datagram(from, bytes, self.now_ns);
            self.challenger_acts(number, actions);
        }
    }

    /// A data packet reaches the prover.
    pub(crate) fn data_arrives(&mut self, number: u16, sequence: u64) {
        let (Some(gate), Some(party)) = (&mut self.gate, self.parties.get(&number)) else {
            return;
        };
        gate.take(self.now_ns, self.terms.packet_bytes.into());
        let leaf = usize::try_from(sequence)
            .ok()
            .and_then(|at| party.leaves.get(at));
        let (Some(digest), Some(key)) = (leaf.copied(), gate.key(number)) else {
            return;
        };
        let raw = rtt::sealed(Kind::Data, &self.challenge, number, sequence, 0, key);
        let Ok(header) = Header::from_bytes(&raw) else {
            return;
        };
        if gate.tally.admit(&header, &raw) {
            gate.tally.accept(&[Leaf {
                index: number,
                sequence,
                arrival_ns: self.now_ns,
                digest,
            }]);
        }
        if gate.tally.complete() && !gate.committing {
            gate.committing = true;
            self.agenda.plan(self.now_ns + COMMIT_NS, Event::Commit);
        }
    }

    /// The prover commits; once.
    pub(crate) fn commits(&mut self) {
        let (Some(gate), Some((seat, _))) = (&self.gate, &self.prover) else {
            return;
        };
        let Some((commit, roots)) = gate.tally.commit() else {
            return;
        };
        self.word = Some(Word {
            signed: Signed::new(&seat.node.network, &commit),
            commit,
            roots,
            acknowledged: gate.keys.iter().map(Option::is_none).collect(),
            since_ns: self.now_ns,
            revealed: false,
        });
        for _ in 0..COMMIT_BURST {
            self.tell();
        }
        self.agenda
            .plan(self.now_ns + COMMIT_REPEAT_NS, Event::Repeat);
    }

    /// Sends the commitment to everyone who has not acknowledged it.
    fn tell(&mut self) {
        let (Some(word), Some(gate)) = (&self.word, &self.gate) else {
            return;
        };
        let body = encode(&word.signed);
        let waiting = (0u16..)
            .zip(&word.acknowledged)
            .filter(|(_, heard)| !**heard);
        let told: Vec<(u16, Vec<u8>)> = waiting
            .filter_map(|(number, _)| {
                let key = gate.key(number)?;
                let head = rtt::sealed(Kind::Commit, &self.challenge, number, 0, self.now_ns, key);
                Some((number, [&head[..], &body].concat()))
            })
            .collect();
        for (number, datagram) in told {
            self.answer(number, datagram);
        }
    }

    /// … again, until they did or it is too late.
    pub(crate) fn repeats(&mut self) {
        let Some(word) = &self.word else { return };
        let heard = word.acknowledged.iter().all(|a| *a);
        if heard || self.now_ns >= word.since_ns + COMMIT_GIVE_UP_NS {
            return;
        }
        self.tell();
        self.agenda
            .plan(self.now_ns + COMMIT_REPEAT_NS, Event::Repeat);
    }

    /// Once nothing more comes, the prover opens its commitment.
    pub(crate) fn drained(&mut self) {
        let (Some(word), Some(gate), Some((seat, prover))) =
            (&mut self.word, &self.gate, &mut self.prover)
        else {
            return;
        };
        let since = self.now_ns - word.since_ns;
        let heard = word.acknowledged.iter().all(|a| *a);
        let quiet = DRAIN_QUIET_NS + 2 * prover.slowest_ns();
        let over = (heard || since >= COMMIT_GIVE_UP_NS)
            && (self.now_ns - gate.heard_ns >= quiet
                || since >= COMMIT_GIVE_UP_NS + DRAIN_LIMIT_NS);
        if word.revealed || !over {
            return;
        }
        word.revealed = true;
        let refused = gate.tally.refused();
        let named = [
            ("bad_tag", refused.bad_tag),
            ("out_of_range", refused.out_of_range),
            ("duplicate", refused.duplicate),
            ("over_cap", refused.over_cap),
            ("late", refused.late),
        ];
        let accounting = Accounting {
            fates: named.map(|(name, count)| (name.to_owned(), count)).into(),
            received: gate.tally.received(),
            interface: Some(gate.interface),
            histogram: gate.tally.histogram(),
            reordered: gate.tally.reordered(),
            commit_latency_ns: COMMIT_NS,
            ..Accounting::default()
        };
        let roots = std::mem::take(&mut word.roots);
        let reveal = prover.reveal(
            &seat.node.network,
            &seat.node.settler,
            &gate.tally,
            (&word.commit, roots),
            accounting,
        );
        let commit = Statement::Commit(word.signed.clone());
        self.prover_acts([commit, reveal].map(ProverAction::Say).into());
    }
}
