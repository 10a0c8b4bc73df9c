//! The prover's network side: consent, count, echo, commit, reveal; and what a lying prover does there.
//!
//! ```text
//!  data ─► consent (XDP's table) ─► tag, number, caps (tally) ─► leaf ─► N-th ─► commitment, thrice, then
//!  probe ─► echo, signed                                                        until acknowledged ─► reveal
//! ```
//!
//! Claim: what is consented to is looked up in the wire crate's own rows, what is counted is the product's
//! tally. Not promised: the kernel's part of it. Tests: `sim`'s.

use std::collections::HashMap;

use plumbline_proof::backhaul::messages::{Accounting, Commit, ECHO_DOMAIN, Statement, session_of};
use plumbline_proof::backhaul::params::{
    COMMIT_BURST, COMMIT_GIVE_UP_NS, COMMIT_REPEAT_NS, DRAIN_LIMIT_NS, DRAIN_QUIET_NS, Terms,
};
use plumbline_proof::backhaul::prover::Opening;
use plumbline_proof::backhaul::rtt;
use plumbline_proof::backhaul::tally::{Leaf, Tally};
use plumbline_trust::encoding::{Digest, encode};
use plumbline_trust::identity::Signed;
use plumbline_trust::session::SessionKey;
use plumbline_wire::Size;
use plumbline_wire::consent::{ConsentEntry, ConsentKey};
use plumbline_wire::frame::Fate;
use plumbline_wire::header::{
    COOKIE_AT, DATA_LEN, HEADER_LEN, Header, IP_UDP_LEN, Kind, TAGGED_LEN,
};

use super::cast::{self, PROVER};
use super::clock::{Data, Event, Load};
use super::session::{NoChain, Session};
use super::world::PACKET;
use crate::switch::Attack;

/// A probe or acknowledgement at the IP layer, bytes.
const CONTROL: u64 = (HEADER_LEN + IP_UDP_LEN) as u64;
/// What a frame's header adds to it, bytes.
const ETHERNET: u64 = 14;
/// Digest of a packet that its prover never had.
const INVENTED: Digest = [0xf0; 32];

/// Who may send, and what was counted.
pub(super) struct Gate {
    rows: HashMap<ConsentKey, ConsentEntry>,
    keys: Vec<Option<SessionKey>>,
    pub(super) tally: Tally,
    /// Frames that came, and their bytes.
    frames: (u64, u64),
    /// Data packets that came and were refused before the tally, and that it was given without their coming.
    refused: u64,
    off_the_path: u64,
    /// When the last datagram came.
    heard_ns: u64,
    committing: bool,
}

/// The prover's commitment, and who has it.
pub(super) struct Word {
    commit: Commit,
    roots: Vec<Digest>,
    signed: Signed,
    /// What others are told.
    other: Option<Signed>,
    acknowledged: Vec<bool>,
    /// When it was made.
    pub(super) since_ns: u64,
    revealed: bool,
}

impl Gate {
    /// Opens it to those who were consented to.
    pub(super) fn open(challenge: &Digest, terms: &Terms, opening: Opening) -> Self {
        let session = session_of(challenge);
        let row = |(index, data): &(u16, std::net::SocketAddr)| {
            let key = opening.keys.get(usize::from(*index))?.as_ref()?;
            let entry = ConsentEntry::new(
                key.cookie(),
                terms.size(),
                terms.cap_packets(),
                0..=opening.until_ns,
            );
            let key = ConsentKey::new(cast::source(*data), data.port(), session, *index);
            Some((key, entry))
        };
        Self {
            rows: opening.senders.iter().filter_map(row).collect(),
            tally: Tally::new(challenge, 0, terms, opening.keys.clone()),
            keys: opening.keys,
            frames: (0, 0),
            refused: 0,
            off_the_path: 0,
            heard_ns: 0,
            committing: false,
        }
    }

    /// The interface takes a frame of so many bytes at the IP layer.
    fn takes(&mut self, bytes: u64, now_ns: u64) {
        self.frames.0 += 1;
        self.frames.1 += bytes + ETHERNET;
        self.heard_ns = now_ns;
    }

    /// What XDP says of a packet; if it passes, its header.
    fn consented(
        &mut self,
        challenge: &Digest,
        data: &Data,
        now_ns: u64,
    ) -> Result<[u8; HEADER_LEN], Fate> {
        let made = self.header(challenge, data.index, data.sequence);
        let mut raw = made.ok_or(Fate::DroppedNotConsented)?;
        if matches!(data.load, Load::Untagged) {
            // Whoever has no key has neither cookie nor tag.
            raw[COOKIE_AT..].fill(0x5a);
        }
        let source = cast::source(data.from);
        let key = ConsentKey::new(
            source,
            data.from.port(),
            session_of(challenge),
            number(data.index),
        );
        let row = self.rows.get_mut(&key).ok_or(Fate::DroppedNotConsented)?;
        let header = Header::from_bytes(&raw).map_err(|_| Fate::DroppedHeader)?;
        row.admit(&header, DATA_LEN, now_ns, row.passed)?;
        row.passed += 1;
        Ok(raw)
    }

    /// Counts a packet with this leaf, if the tally admits it.
    fn count(&self, raw: &[u8; HEADER_LEN], digest: Digest, arrival_ns: u64) -> bool {
        let Ok(header) = Header::from_bytes(raw) else {
            return false;
        };
        let admitted = self.tally.admit(&header, raw);
        if admitted {
            self.tally.accept(&[Leaf {
                index: header.index,
                sequence: header.sequence,
                arrival_ns,
                digest,
            }]);
        }
        admitted
    }

    /// The header of a challenger's packet, with its tag.
    fn header(&self, challenge: &Digest, index: usize, sequence: u64) -> Option<[u8; HEADER_LEN]> {
        let key = self.keys.get(index)?.as_ref()?;
        Some(rtt::sealed(
            Kind::Data,
            challenge,
            number(index),
            sequence,
            0,
            key,
        ))
    }
}

fn number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// Leaf of a packet of this header whose payload is all zeros.
fn zeros(raw: &[u8; HEADER_LEN]) -> Digest {
    let mut packet = [0; DATA_LEN];
    packet[..HEADER_LEN].copy_from_slice(raw);
    let mut leaf = [[0; 32]];
    plumbline_proof::backhaul::leaf::hash(Size::Standard, &[&packet], &mut leaf);
    leaf[0]
}

impl Session {
    /// A challenger sends a datagram to the prover's control port.
    pub(super) fn control(&mut self, index: usize, bytes: [u8; HEADER_LEN]) {
        if !self.lost() {
            let at = self.clock.now + self.way_ns(index);
            self.clock.plan(at, Event::ControlSent(index, bytes));
        }
    }

    /// Data packets without a fate; negative if some have two. What was handed over or invented was never sent, and
    /// is what a prover counted besides.
    pub(super) fn unaccounted(&self) -> i128 {
        let fates = self.gate.as_ref().map_or(0, |gate| {
            let seen = i128::from(gate.tally.seen()) - i128::from(gate.off_the_path);
            i128::from(gate.refused) + seen
        });
        i128::from(self.sent) - i128::from(self.lost) - i128::from(self.on_the_way) - fates
    }

    fn lost(&mut self) -> bool {
        self.chance.in_a_million(self.world.network.loss_ppm)
    }

    fn way_ns(&mut self, index: usize) -> u64 {
        self.parties[index].delay_ns + self.chance.below(self.world.network.jitter_ns + 1)
    }

    /// It stands in the same queue as the data.
    pub(super) fn control_sent(&mut self, index: usize, bytes: [u8; HEADER_LEN]) {
        if let Some(at) = self.link.offer(self.clock.now, CONTROL) {
            self.clock.plan(at, Event::ControlArrives(index, bytes));
        }
    }

    /// The prover answers a probe, and takes note of an acknowledgement.
    pub(super) fn control_arrives(&mut self, index: usize, bytes: [u8; HEADER_LEN]) {
        let now = self.clock.now;
        let Some(gate) = self.gate.as_mut() else {
            return;
        };
        gate.takes(CONTROL, now);
        let key = gate.keys.get(index).and_then(Option::as_ref).cloned();
        let (Ok(header), Some(key)) = (Header::from_bytes(&bytes), key) else {
            return;
        };
        if !key.check(&bytes) || self.play.mute(true) {
            return;
        }
        match (header.kind, &mut self.word) {
            (Kind::CommitAck, Some(word)) => word.acknowledged[index] = true,
            (Kind::Probe, _) => {
                let (sequence, sent) = (header.sequence, header.sent_ns);
                let echo = rtt::sealed(
                    Kind::Echo,
                    &self.challenge,
                    header.index,
                    sequence,
                    sent,
                    &key,
                );
                let signature = PROVER.key.sign(ECHO_DOMAIN, &echo[..TAGGED_LEN]);
                let (held, by_ns) = self.world.network.held_back;
                let last = index + held >= self.parties.len();
                let late = self.play.echo_delay_ns(now, self.t0_ns) + if last { by_ns } else { 0 };
                self.answer(index, now + late, [&echo[..], &encode(&signature)].concat());
            }
            _ => {}
        }
    }

    fn answer(&mut self, index: usize, from_ns: u64, datagram: Vec<u8>) {
        if !self.lost() {
            let at = from_ns + self.way_ns(index);
            self.clock.plan(at, Event::Answer(index, datagram));
        }
    }

    /// The prover's datagram reaches a challenger.
    pub(super) fn answered(&mut self, index: usize, bytes: &[u8]) {
        let now = self.clock.now;
        let machine = &mut self.parties[index].machine;
        let actions = machine.datagram(cast::prover_control(), bytes, now);
        self.challenger_acts(index, actions);
    }

    /// A data packet reaches the prover.
    pub(super) fn data_arrives(&mut self, data: Data) {
        self.on_the_way -= 1;
        let now = self.clock.now;
        let Some(gate) = self.gate.as_mut() else {
            return;
        };
        gate.takes(PACKET, now);
        let raw = match gate.consented(&self.challenge, &data, now) {
            Ok(raw) => raw,
            Err(fate) => {
                gate.refused += 1;
                self.meet(fate.name());
                return;
            }
        };
        let digest = match data.load {
            Load::Genuine => self.parties[data.index].leaf(data.sequence),
            Load::Zeros => Some(zeros(&raw)),
            Load::Untagged => None,
        };
        let digest = digest.unwrap_or(INVENTED);
        if gate.count(&raw, digest, now) {
            self.invents(&data);
        }
        self.completed();
    }

    /// What a lying prover adds to a packet that came.
    fn invents(&mut self, data: &Data) {
        let (n, m) = (self.parties.len(), self.world.terms.per_challenger());
        if self.play.is(Attack::ForgedBitmap) && self.play.victim(data.index) {
            self.forges(data.index, data.sequence);
        }
        let Some(gate) = self.gate.as_mut() else {
            return;
        };
        let half = gate.tally.counted() >= self.world.terms.target() / 2;
        if self.play.is(Attack::EarlyCommit) && half && !gate.committing {
            gate.committing = true;
            let play = self.play;
            for index in (0..n).filter(|i| play.victim(*i)) {
                for at in 0..m {
                    self.forges(index, at);
                }
            }
            self.clock
                .plan(self.clock.now + self.world.network.commit_ns, Event::Commit);
        }
    }

    /// Counts the `at`-th packet from the end of challenger `index`'s numbers, which nobody sent.
    fn forges(&mut self, index: usize, at: u64) {
        let last = self.world.terms.cap_packets() - 1;
        let Some(gate) = &mut self.gate else { return };
        let raw = gate.header(&self.challenge, index, last.saturating_sub(at));
        if let Some(raw) = raw {
            gate.off_the_path += 1;
            gate.count(&raw, INVENTED, self.clock.now);
        }
    }

    /// Plans the commitment once the last packet is counted.
    fn completed(&mut self) {
        let Some(gate) = self.gate.as_mut() else {
            return;
        };
        if gate.tally.complete() && !gate.committing {
            gate.committing = true;
            let at = self.clock.now + self.world.network.commit_ns;
            self.clock.plan(at, Event::Commit);
        }
    }

    /// T0: corrupt challengers hand their packets over.
    pub(super) fn rush(&mut self) {
        for index in 0..self.parties.len() {
            if !self.play.commits(Attack::Rush, index) {
                continue;
            }
            for sequence in 0..self.world.terms.counted_most() {
                let Some(gate) = &mut self.gate else { return };
                let leaf = self.parties[index].leaf(sequence);
                let raw = gate.header(&self.challenge, index, sequence);
                if let (Some(leaf), Some(raw)) = (leaf, raw) {
                    gate.off_the_path += 1;
                    gate.count(&raw, leaf, self.clock.now);
                }
            }
        }
        self.completed();
    }

    /// The prover commits.
    pub(super) fn commits(&mut self) {
        // Who never answers does not answer here either; and nobody commits twice.
        if self.play.is(Attack::SilentProver) || self.word.is_some() {
            return;
        }
        let Some((commit, roots)) = self.gate.as_ref().and_then(|g| g.tally.commit()) else {
            return;
        };
        let other = self.play.is(Attack::EquivocatingCommit).then(|| {
            let mut other = commit.clone();
            other.response[0] ^= 1;
            Signed::new(&PROVER.key, &other)
        });
        self.word = Some(Word {
            signed: Signed::new(&PROVER.key, &commit),
            commit,
            roots,
            other,
            acknowledged: vec![false; self.parties.len()],
            since_ns: self.clock.now,
            revealed: false,
        });
        for _ in 0..COMMIT_BURST {
            self.tell();
        }
        let at = self.clock.now + COMMIT_REPEAT_NS;
        self.clock.plan(at, Event::Repeat);
    }

    /// Sends the commitment to everyone who has not acknowledged it.
    fn tell(&mut self) {
        let now = self.clock.now;
        for index in 0..self.parties.len() {
            let (Some(word), Some(gate)) = (&self.word, &self.gate) else {
                return;
            };
            let Some(Some(key)) = gate.keys.get(index) else {
                continue;
            };
            if word.acknowledged[index] {
                continue;
            }
            let head = rtt::sealed(Kind::Commit, &self.challenge, number(index), 0, now, key);
            let told = match &word.other {
                Some(other) if self.play.told_another(index) => other,
                _ => &word.signed,
            };
            self.answer(index, now, [&head[..], &encode(told)].concat());
        }
    }

    /// … again, until they did or it is too late.
    pub(super) fn repeats(&mut self) {
        let now = self.clock.now;
        let Some(word) = &self.word else { return };
        if self.heard() || now >= word.since_ns + COMMIT_GIVE_UP_NS {
            return;
        }
        self.tell();
        self.clock.plan(now + COMMIT_REPEAT_NS, Event::Repeat);
    }

    fn heard(&self) -> bool {
        let (Some(word), Some(gate)) = (&self.word, &self.gate) else {
            return false;
        };
        let mut all = word.acknowledged.iter().zip(&gate.keys);
        all.all(|(acknowledged, key)| *acknowledged || key.is_none())
    }

    /// Once nothing more comes, the prover opens its commitment.
    pub(super) fn drained(&mut self) {
        let now = self.clock.now;
        let heard = self.heard();
        let (Some(word), Some(gate)) = (self.word.as_mut(), self.gate.as_ref()) else {
            return;
        };
        let since = now - word.since_ns;
        let quiet = DRAIN_QUIET_NS + 2 * self.prover.slowest_ns();
        let over = (heard || since >= COMMIT_GIVE_UP_NS)
            && (now - gate.heard_ns >= quiet || since >= COMMIT_GIVE_UP_NS + DRAIN_LIMIT_NS);
        if word.revealed || !over {
            return;
        }
        word.revealed = true;
        let refused = gate.tally.refused();
        let named = [
            ("bad_tag", refused.bad_tag),
            ("duplicate", refused.duplicate),
            ("late", refused.late),
            ("out_of_range", refused.out_of_range),
            ("over_cap", refused.over_cap),
        ];
        let fates: Vec<(String, u64)> = named.map(|(n, count)| (n.to_owned(), count)).into();
        let known = fates.iter().filter(|(_, count)| *count > 0).cloned();
        self.met.extend(known);
        let accounting = Accounting {
            fates,
            histogram: gate.tally.histogram(),
            received: gate.tally.received(),
            interface: Some(gate.frames),
            reordered: gate.tally.reordered(),
            commit_latency_ns: self.world.network.commit_ns,
            ..Accounting::default()
        };
        let (commit, roots) = (word.commit.clone(), std::mem::take(&mut word.roots));
        let signed = Statement::Commit(word.signed.clone());
        let of = (&commit, roots);
        let reveal = self
            .prover
            .reveal(&PROVER.key, &NoChain, &gate.tally, of, accounting);
        self.publish(signed);
        self.publish(reveal);
    }
}
