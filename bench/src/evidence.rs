//! A bundle to verify: a whole proof through the product's own state machines, on virtual time, honest
//! and without loss. No kernel, no chain: what is timed afterwards is judging alone.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use plumbline_proof::backhaul::bundle::{self, Bundle};
use plumbline_proof::backhaul::challenger::{
    Challenger, ChallengerAction, Flood, Flooded, Secrets,
};
use plumbline_proof::backhaul::coordinator::{Coordinator, CoordinatorAction};
use plumbline_proof::backhaul::judge::judge;
use plumbline_proof::backhaul::keystream::Train;
use plumbline_proof::backhaul::messages::{
    Accounting, Commit, ECHO_DOMAIN, Member, Notice, Report, SeedCommitment, Settlement, Statement,
};
use plumbline_proof::backhaul::params::Terms;
use plumbline_proof::backhaul::prover::{Prover, ProverAction};
use plumbline_proof::backhaul::rtt;
use plumbline_proof::backhaul::sendlog::SendLog;
use plumbline_proof::backhaul::tally::{Leaf, Tally};
use plumbline_trust::encoding::{Digest, domain, encode};
use plumbline_trust::identity::{Address, NetworkKey, Signed, binding_message};
use plumbline_trust::selection::{Draw, Fate, Look};
use plumbline_trust::session::{Ephemeral, SessionKey};
use plumbline_wire::header::{HEADER_LEN, Header, Kind, TAGGED_LEN};

const MS: u64 = 1_000_000;
/// Control port of the prover.
const CONTROL: u16 = 7302;
/// One way, ns.
const DELAY: u64 = MS;
const CHALLENGE: [u8; 32] = [7; 32];
/// Virtual milliseconds after which a proof that has not ended never will.
const LIMIT: usize = 20_000;
/// Challengers, and how many of them may be corrupt.
const CHALLENGERS: (u16, u16) = (5, 1);

struct NoChain;

impl Settlement for NoChain {
    fn sign_begin(&self, _: &Notice, _: &SeedCommitment) -> Vec<u8> {
        vec![0]
    }
    fn sign_commit(&self, _: &Notice, _: &Commit) -> Vec<u8> {
        vec![1]
    }
    fn sign_report(&self, _: &Notice, _: &Report) -> Vec<u8> {
        vec![2]
    }
}

fn key(i: u8) -> NetworkKey {
    NetworkKey::from_secret(&[i; 32])
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn member(i: u8) -> Member {
    let address = Address([i; 20]);
    let message = binding_message(7310, &Address([0xbb; 20]), &address);
    Member {
        address,
        key: key(i).verifying(),
        binding: key(i).sign(domain::BINDING, &message),
    }
}

fn notice(terms: Terms) -> Result<Notice> {
    let beacon = [8; 32];
    let draw = Draw {
        mix: beacon,
        id: CHALLENGE,
        pool: 10,
        n: terms.n.into(),
        most: 1,
    };
    let looks = draw.made(|place| Look {
        account: Address([10 + u8::try_from(place).unwrap_or(u8::MAX); 20]),
        tickets: 1,
        fate: Fate::Seated,
    });
    Ok(Notice {
        challenge: CHALLENGE,
        chain_id: 7310,
        contract: Address([0xaa; 20]),
        participants: Address([0xbb; 20]),
        terms,
        price_per_byte: 3,
        deadline: 99,
        anchor_ms: 0,
        payer: Address([1; 20]),
        prover: member(2),
        coordinator: member(3),
        beacon,
        pool: draw.pool,
        looks: looks.clone(),
        challengers: looks.iter().map(|l| member(l.account.0[0])).collect(),
    })
}

struct Party {
    index: u16,
    key: NetworkKey,
    machine: Challenger,
    train: Option<Box<Train>>,
    leaves: Vec<Digest>,
    flood: Option<Flood>,
}

struct Play {
    now: u64,
    terms: Terms,
    coordinator: Coordinator,
    prover: Prover,
    parties: Vec<Party>,
    tally: Option<Tally>,
    keys: Vec<Option<SessionKey>>,
    deadline: u64,
    /// The coordinator has heard all it waits for.
    complete: bool,
    /// How far each challenger, and last the prover, has read the log.
    read: Vec<usize>,
}

/// A bundle of a proof of `claim_bps` over 100 ms, and how many packets its judge has to make again.
///
/// # Errors
/// The machines did not come to an end, which honest ones do.
pub fn bundle(claim_bps: u64) -> Result<(Vec<u8>, u64)> {
    let (n, f) = CHALLENGERS;
    let terms = Terms::downlink(claim_bps, n, f, 100);
    let terms = terms.check().context("the proof to verify")?;
    Play::new(terms)?.run()
}

impl Play {
    fn new(terms: Terms) -> Result<Self> {
        let notice = notice(terms)?;
        let coordinator = Coordinator::new(&key(3), &notice)
            .ok()
            .context("the coordinator refuses its notice")?;
        let first = coordinator.log()[0].clone();
        let ephemeral = Ephemeral::from_secret([4; 32]);
        let prover = Prover::new(&first, &key(2), ephemeral, addr(7301), addr(CONTROL), 0)
            .ok()
            .context("the prover refuses the notice")?;
        let mut play = Self {
            now: 0,
            terms,
            coordinator,
            prover,
            parties: Vec::new(),
            tally: None,
            keys: Vec::new(),
            deadline: 0,
            complete: false,
            read: vec![1; notice.challengers.len() + 1],
        };
        let mut words = Vec::new();
        for (index, member) in (0u16..).zip(&notice.challengers) {
            let key = key(member.address.0[0]);
            let (data, control) = (addr(8000 + index), addr(9000 + index));
            let secrets = Secrets::new([5; 32], [6; 32]);
            let (machine, actions) = Challenger::new(&first, &key, secrets, data, control)
                .ok()
                .context("a challenger refuses the notice")?;
            play.parties.push(Party {
                index,
                key,
                machine,
                train: None,
                leaves: Vec::new(),
                flood: None,
            });
            words.push(actions);
        }
        for (i, actions) in words.into_iter().enumerate() {
            play.challenger_acts(i, actions)?;
        }
        Ok(play)
    }

    fn publish(&mut self, statement: Statement) -> Result<()> {
        let heard = self.coordinator.hear(statement, self.now);
        for action in heard.ok().context("the coordinator refuses a statement")? {
            match action {
                CoordinatorAction::Anchor(setup) => {
                    let anchored = self.coordinator.anchored(&key(3), setup);
                    anchored
                        .ok()
                        .context("the coordinator refuses its anchor")?;
                }
                CoordinatorAction::Judge => self.complete = true,
            }
        }
        Ok(())
    }

    /// Everyone reads the log on until nobody has anything to say.
    fn pump(&mut self) -> Result<()> {
        let behind = |play: &Self| {
            let end = play.coordinator.log().len();
            play.read.iter().position(|at| *at < end)
        };
        while let Some(who) = behind(self) {
            let line = self.coordinator.log()[self.read[who]].clone();
            self.read[who] += 1;
            if let Some(party) = self.parties.get_mut(who) {
                let actions = party.machine.hear(&party.key, &line, self.now);
                self.challenger_acts(who, actions)?;
            } else {
                let actions = self.prover.hear(&key(2), &line, self.now);
                self.prover_acts(actions)?;
            }
        }
        Ok(())
    }

    fn prover_acts(&mut self, actions: Vec<ProverAction>) -> Result<()> {
        for action in actions {
            match action {
                ProverAction::Say(statement) => self.publish(statement)?,
                ProverAction::Open(open) => {
                    self.tally = Some(Tally::new(&CHALLENGE, 0, &self.terms, open.keys.clone()));
                    self.keys = open.keys;
                }
                ProverAction::Arm { deadline_ns, .. } => self.deadline = deadline_ns,
                ProverAction::Fail(why) => bail!("the prover gave up: {why}"),
            }
        }
        Ok(())
    }

    fn challenger_acts(&mut self, i: usize, actions: Vec<ChallengerAction>) -> Result<()> {
        for action in actions {
            match action {
                ChallengerAction::Say(statement) => self.publish(statement)?,
                ChallengerAction::Prepare(mut train, cap) => {
                    let sequences: Vec<u64> = (0u64..).take(cap).collect();
                    let party = &mut self.parties[i];
                    party.leaves = train.leaves(&sequences);
                    party.machine.prepared();
                    party.train = Some(train);
                }
                ChallengerAction::Send(_, bytes) => self.deliver(i, &bytes)?,
                ChallengerAction::Flood(flood) => self.parties[i].flood = Some(flood),
                ChallengerAction::Stop | ChallengerAction::Done => {}
                ChallengerAction::Count(_) => {
                    bail!("challenger {i} counts in a measurement towards the prover")
                }
                ChallengerAction::Fail(why) => bail!("challenger {i} gave up: {why}"),
            }
        }
        Ok(())
    }

    /// Probes are answered at once; acknowledgements end here.
    fn deliver(&mut self, i: usize, bytes: &[u8]) -> Result<()> {
        let raw: &[u8; HEADER_LEN] = bytes.first_chunk().context("a datagram without a header")?;
        let header = Header::from_bytes(raw)
            .ok()
            .context("a datagram that is none of ours")?;
        let key_i = self.keys.get(i).and_then(Option::as_ref);
        let (Kind::Probe, Some(key_i)) = (header.kind, key_i) else {
            return Ok(());
        };
        let index = self.parties[i].index;
        let (sequence, sent_ns) = (header.sequence, header.sent_ns);
        let echo = rtt::sealed(Kind::Echo, &CHALLENGE, index, sequence, sent_ns, key_i);
        let signature = key(2).sign(ECHO_DOMAIN, &echo[..TAGGED_LEN]);
        let datagram = [&echo[..], &encode(&signature)].concat();
        let machine = &mut self.parties[i].machine;
        let actions = machine.datagram(addr(CONTROL), &datagram, self.now + 2 * DELAY);
        self.challenger_acts(i, actions)
    }

    fn tick_all(&mut self) -> Result<()> {
        self.now += MS;
        let actions = self.prover.tick(&key(2), self.now);
        self.prover_acts(actions)?;
        for i in 0..self.parties.len() {
            let party = &mut self.parties[i];
            let actions = party.machine.tick(&party.key, &NoChain, self.now);
            self.challenger_acts(i, actions)?;
        }
        self.pump()
    }

    /// All send in step, every packet arrives.
    fn flood(&mut self) -> Result<()> {
        let tally = self.tally.take().context("the prover opened no session")?;
        let mut packet = vec![0; plumbline_wire::Size::Standard.payload()];
        let mut sequence = 0;
        while !tally.complete() {
            for party in &mut self.parties {
                let (Some(train), Some(flood)) = (&mut party.train, party.flood) else {
                    bail!("challenger {} has nothing to send", party.index);
                };
                let at = usize::try_from(sequence)?;
                let digest = *party
                    .leaves
                    .get(at)
                    .context("the tally is never complete")?;
                train.write(sequence, &mut packet);
                let raw: &[u8; HEADER_LEN] = packet.first_chunk().context("a short packet")?;
                let header = Header::from_bytes(raw)
                    .ok()
                    .context("not a packet of ours")?;
                // 8 · 1500 bits at its rate.
                let step = 12_000 * 1_000_000_000 / flood.rate_bps.max(1);
                let arrival_ns = flood.start_ns + sequence * step + DELAY;
                if tally.admit(&header, raw) {
                    let index = party.index;
                    tally.accept(&[Leaf {
                        index,
                        sequence,
                        arrival_ns,
                        digest,
                    }]);
                    self.now = arrival_ns;
                }
            }
            sequence += 1;
        }
        self.conclude(&tally, sequence)
    }

    fn conclude(&mut self, tally: &Tally, sent: u64) -> Result<()> {
        let (commit, roots) = tally.commit().context("the tally was committed before")?;
        let signed = Signed::new(&key(2), &commit);
        for i in 0..self.parties.len() {
            let Some(key_i) = self.keys[i].as_ref() else {
                continue;
            };
            let party = &mut self.parties[i];
            let head = rtt::sealed(Kind::Commit, &CHALLENGE, party.index, 0, self.now, key_i);
            let datagram = [&head[..], &encode(&signed)].concat();
            let actions = party
                .machine
                .datagram(addr(CONTROL), &datagram, self.now + DELAY);
            self.challenger_acts(i, actions)?;
            let party = &mut self.parties[i];
            party.machine.flooded(Flooded {
                first_ns: party.flood.map(|f| f.start_ns),
                sent,
                // A claim that passes is not asked what was offered.
                log: SendLog::new(self.terms.duration_ns()),
                clock: "virtual".into(),
                clock_error_ns: 0,
            });
        }
        self.publish(Statement::Commit(signed))?;
        self.pump()?;
        let revealed = (&commit, roots);
        let accounting = Accounting {
            received: tally.received(),
            ..Accounting::default()
        };
        let reveal = self
            .prover
            .reveal(&key(2), &NoChain, tally, revealed, accounting);
        self.publish(reveal)
    }

    fn run(mut self) -> Result<(Vec<u8>, u64)> {
        for _ in 0..LIMIT {
            if self.deadline != 0 {
                break;
            }
            self.tick_all()?;
        }
        self.flood()?;
        for _ in 0..LIMIT {
            self.tick_all()?;
            if self.complete {
                let judgement = judge(self.coordinator.record());
                let packets = judgement.packets;
                let log = self.coordinator.log().to_vec();
                let (bytes, _) = bundle::write(&key(3), &Bundle { log, judgement });
                return Ok((bytes, packets));
            }
        }
        bail!("the proof on virtual time did not end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_whole_and_holds_all_packets() {
        let (bytes, packets) = bundle(20_000_000).unwrap();
        assert!(bundle::verify(&bytes).ok());
        // m = ⌈20 Mbit/s · 100 ms / (12,000 bit · 4)⌉ = 42 of each of four.
        assert_eq!(packets, 168);
    }

    #[test]
    fn a_proof_that_cannot_be_is_refused() {
        assert!(bundle(0).is_err());
    }
}
