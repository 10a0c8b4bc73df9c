//! A whole proof on virtual time: the four machines, an ideal FIFO link, no kernel.

mod abort;
mod bounds;
mod fuzz;
mod offence;

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use plumbline_trust::Signature;
use plumbline_trust::encoding::{decode, domain, encode, hash};
use plumbline_trust::identity::{Address, NetworkKey, Signed, binding_message};
use plumbline_trust::selection::{Draw, Fate, Look};
use plumbline_trust::session::Ephemeral;
use plumbline_wire::header::{Header, Kind, TAGGED_LEN};

use super::bundle::{self, Bundle};
use super::challenger::{Challenger, ChallengerAction, Flooded, Secrets};
use super::coordinator::{Coordinator, CoordinatorAction};
use super::judge::{Judgement, Verdict, judge, judge_on};
use super::keystream::Train;
use super::messages::{
    Abort, Accounting, Commit, Consent, ECHO_DOMAIN, Member, Notice, Report, SeedCommitment,
    Settlement, Statement,
};
use super::params::Terms;
use super::prover::{Prover, ProverAction};
use super::record::Record;
use super::rtt;
use super::sendlog::SendLog;
use super::tally::{Leaf, Tally};
use super::verdict::WITHHELD;

const MS: u64 = 1_000_000;
/// One way, ns.
const DELAY: u64 = MS;

pub(super) struct NoChain;
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

pub(super) fn key(i: u8) -> NetworkKey {
    NetworkKey::from_secret(&[i; 32])
}

/// What the challenger with key `i` drew for its session.
pub(super) fn secrets(i: u8) -> Secrets {
    Secrets::new([i; 32], [i ^ 0x80; 32])
}

/// What the prover drew.
pub(super) fn ephemeral() -> Ephemeral {
    Ephemeral::from_secret([0x77; 32])
}

pub(super) fn addr(port: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], u16::try_from(port).unwrap()))
}

fn member(i: u8) -> Member {
    let address = Address([i; 20]);
    let binding = key(i).sign(
        domain::BINDING,
        &binding_message(7310, &Address([0xbb; 20]), &address),
    );
    Member {
        address,
        key: key(i).verifying(),
        binding,
    }
}

pub(super) fn notice(terms: Terms) -> Notice {
    let beacon = [8; 32];
    let challenge = [7; 32];
    let draw = Draw {
        mix: beacon,
        id: challenge,
        pool: 10,
        n: terms.n.into(),
        most: 1,
    };
    let looks = draw.made(|place| Look {
        account: Address([10 + u8::try_from(place).unwrap_or(u8::MAX); 20]),
        tickets: 1,
        fate: Fate::Seated,
    });
    Notice {
        challenge,
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
    }
}

/// What one virtual run is like.
#[derive(Clone)]
struct World {
    terms: Terms,
    link_bps: u64,
    /// The prover answers probes this late, ns.
    inflate_ns: u64,
    /// This challenger hears the start this late, ns.
    late: Option<(usize, u64)>,
    /// What the prover's own host dropped, percent of what arrives.
    host_drops_percent: u64,
    /// This challenger says nothing after its seed commitment.
    silent: Option<usize>,
    /// This challenger sends other bytes than its seed gives.
    garbage: Option<usize>,
    /// The prover commits after this many packets, and claims the rest.
    early: Option<u64>,
    /// This challenger is told of one packet more than the others.
    otherwise: Option<usize>,
    /// Challengers really send at this part of their rate, percent.
    pace_percent: u64,
    /// The prover sends each commitment so often.
    copies: usize,
    /// What every challenger's clock may be off by, ns.
    clock_error_ns: u64,
}

impl World {
    fn new(link_bps: u64) -> Self {
        let terms = Terms::downlink(20_000_000, 5, 1, 100);
        Self {
            terms,
            link_bps,
            inflate_ns: 0,
            late: None,
            host_drops_percent: 0,
            silent: None,
            garbage: None,
            early: None,
            otherwise: None,
            pace_percent: 100,
            copies: 1,
            clock_error_ns: 0,
        }
    }
}

struct Party {
    key: NetworkKey,
    machine: Challenger,
    train: Option<Box<Train>>,
    flood: Option<super::challenger::Flood>,
}

struct Sim {
    now: u64,
    world: World,
    coordinator: Coordinator,
    prover: Prover,
    parties: Vec<Party>,
    tally: Option<Tally>,
    keys: Vec<Option<plumbline_trust::session::SessionKey>>,
    deadline: u64,
    /// How far each challenger, and last the prover, has read the log.
    read: Vec<usize>,
}

impl Sim {
    fn new(world: World) -> Self {
        let notice = notice(world.terms);
        let coordinator = Coordinator::new(&key(3), &notice).unwrap();
        let first = coordinator.log()[0].clone();
        let prover = Prover::new(&first, &key(2), ephemeral(), addr(7301), addr(7302), 0).unwrap();
        let mut sim = Self {
            now: 0,
            world,
            coordinator,
            prover,
            parties: Vec::new(),
            tally: None,
            keys: Vec::new(),
            deadline: 0,
            read: vec![1; notice.challengers.len() + 1],
        };
        let mut first_words = Vec::new();
        for (i, m) in notice.challengers.iter().enumerate() {
            let key = key(m.address.0[0]);
            let (machine, actions) = Challenger::new(
                &first,
                &key,
                secrets(m.address.0[0]),
                addr(8000 + i),
                addr(9000 + i),
            )
            .unwrap();
            sim.parties.push(Party {
                key,
                machine,
                train: None,
                flood: None,
            });
            first_words.push(actions);
        }
        for (i, actions) in first_words.into_iter().enumerate() {
            sim.challenger_acts(i, actions);
        }
        sim
    }

    /// Puts a statement in the log.
    fn publish(&mut self, statement: &Statement) {
        // What the door refuses is not in the log.
        let actions = self.coordinator.hear(statement.clone(), self.now);
        for action in actions.unwrap_or_default() {
            if let CoordinatorAction::Anchor(setup) = action {
                self.coordinator.anchored(&key(3), setup).unwrap();
            }
        }
    }

    /// Everyone reads the log on, each at its own place, until nobody has anything to say.
    fn pump(&mut self) {
        while let Some(who) = self
            .read
            .iter()
            .position(|at| *at < self.coordinator.log().len())
        {
            let line = self.coordinator.log()[self.read[who]].clone();
            self.read[who] += 1;
            if who == self.parties.len() {
                let actions = self.prover.hear(&key(2), &line, self.now);
                self.prover_acts(actions);
            } else {
                let party = &mut self.parties[who];
                let behind = self.world.late.filter(|(late, _)| *late == who);
                let now = self.now + behind.map_or(0, |(_, ns)| ns);
                let actions = party.machine.hear(&party.key, &line, now);
                self.challenger_acts(who, actions);
            }
        }
    }

    fn prover_acts(&mut self, actions: Vec<ProverAction>) {
        for action in actions {
            match action {
                ProverAction::Say(s) => self.publish(&s),
                ProverAction::Open(o) => {
                    self.tally = Some(Tally::new(&[7; 32], 0, &self.world.terms, o.keys.clone()));
                    self.keys = o.keys;
                }
                ProverAction::Arm { deadline_ns, .. } => self.deadline = deadline_ns,
                ProverAction::Fail(why) => panic!("{why}"),
            }
        }
    }

    fn challenger_acts(&mut self, i: usize, actions: Vec<ChallengerAction>) {
        let silent = self.world.silent == Some(i) && self.coordinator.record().seeds[i].is_some();
        for action in actions.into_iter().filter(|_| !silent) {
            match action {
                ChallengerAction::Say(s) => self.publish(&s),
                ChallengerAction::Prepare(train, _) => {
                    self.parties[i].machine.prepared();
                    self.parties[i].train = Some(train);
                }
                ChallengerAction::Send(_, bytes) => self.deliver(i, &bytes),
                ChallengerAction::Flood(f) => self.parties[i].flood = Some(f),
                ChallengerAction::Stop | ChallengerAction::Done => {}
                ChallengerAction::Count(_) => panic!("nothing is counted here"),
                // Says so in the log, and takes no further part.
                ChallengerAction::Fail(why) => assert!(why.starts_with("late"), "{i}: {why}"),
            }
        }
    }

    /// Probes are answered at once; acknowledgements end here.
    fn deliver(&mut self, i: usize, bytes: &[u8]) {
        let header = Header::from_bytes(bytes.try_into().unwrap()).unwrap();
        if header.kind != Kind::Probe {
            return;
        }
        let late = self.world.inflate_ns;
        let index = u16::try_from(i).unwrap();
        let key_i = self.keys[i].as_ref().unwrap();
        let echo = rtt::sealed(
            Kind::Echo,
            &[7; 32],
            index,
            header.sequence,
            header.sent_ns,
            key_i,
        );
        let signature: Signature = key(2).sign(ECHO_DOMAIN, &echo[..TAGGED_LEN]);
        let datagram = [&echo[..], &encode(&signature)].concat();
        let at = self.now + 2 * DELAY + late;
        let actions = self.parties[i].machine.datagram(addr(7302), &datagram, at);
        self.challenger_acts(i, actions);
    }

    fn tick_all(&mut self) {
        self.now += MS;
        let actions = self.prover.tick(&key(2), self.now);
        self.prover_acts(actions);
        for i in 0..self.parties.len() {
            let party = &mut self.parties[i];
            let actions = party.machine.tick(&party.key, &NoChain, self.now);
            self.challenger_acts(i, actions);
        }
        self.pump();
    }

    /// Ideal FIFO: all floods interleave, the link serves one packet after another, the rest is lost.
    fn flood(&mut self) {
        let terms = self.world.terms;
        let gap = |bps: u64| 8 * u64::from(terms.packet_bytes) * 1_000_000_000 / bps;
        let mut sends: Vec<(u64, usize, u64)> = Vec::new();
        for (i, p) in self.parties.iter().enumerate() {
            let Some(f) = p.flood else { continue };
            let (step, cap) = (
                gap(f.rate_bps * self.world.pace_percent / 100),
                self.world.terms.cap_packets(),
            );
            // Real pacers are not in step: without jitter the drop-tail queue would starve the same
            // sender for ever.
            let jitter = |k: u64| {
                u64::from(blake3::hash(&(k * 64 + i as u64).to_le_bytes()).as_bytes()[0]) * step
                    / 256
            };
            sends.extend(
                (0..cap)
                    .map(|k| (f.start_ns + k * step + jitter(k), i, k))
                    .take_while(|s| s.0 < f.deadline_ns),
            );
        }
        sends.sort_unstable();
        let mut free = 0;
        let tally = self.tally.take().unwrap();
        let (mut last, mut dropped) = (0, 0);
        let mut received = vec![0; self.parties.len()];
        let stop = self.world.early.unwrap_or(u64::MAX);
        for (at, i, k) in sends.iter().copied() {
            // A queue of ten packets before the link.
            if free > at + 10 * gap(self.world.link_bps) {
                continue;
            }
            free = free.max(at) + gap(self.world.link_bps);
            let arrival = free + DELAY;
            if k % 100 < self.world.host_drops_percent {
                dropped += 1;
                continue;
            }
            received[i] += 1;
            if arrival > self.deadline {
                break;
            }
            let mut packet = vec![0; terms.size().payload()];
            self.parties[i]
                .train
                .as_mut()
                .unwrap()
                .write(k, &mut packet);
            if self.world.garbage == Some(i) {
                *packet.last_mut().unwrap() ^= 1;
            }
            let raw: [u8; 64] = *packet.first_chunk().unwrap();
            let header = Header::from_bytes(&raw).unwrap();
            if tally.admit(&header, &raw) {
                let leaf = if tally.counted() < stop {
                    *blake3::hash(&packet).as_bytes()
                } else {
                    [0; 32]
                };
                tally.accept(&[Leaf {
                    index: header.index,
                    sequence: k,
                    arrival_ns: arrival,
                    digest: leaf,
                }]);
                last = arrival;
            }
            if tally.complete() {
                break;
            }
        }
        self.now = if tally.complete() {
            last
        } else {
            self.deadline
        };
        let (commit, roots) = tally.commit().unwrap();
        let signed = Signed::new(&key(2), &commit);
        for i in 0..self.parties.len() {
            let index = u16::try_from(i).unwrap();
            let Some(key_i) = self.keys[i].as_ref() else {
                continue;
            };
            let head = rtt::sealed(Kind::Commit, &[7; 32], index, 0, self.now, key_i);
            let mut told = commit.clone();
            if self.world.otherwise == Some(i) {
                told.packets += 1;
                told.response = [0x5a; 32];
            }
            // The commitment of the record reaches everyone; who is told otherwise hears that first.
            for said in [Signed::new(&key(2), &told), signed.clone()] {
                let datagram = [&head[..], &encode(&said)].concat();
                let at = self.now + DELAY;
                for _ in 0..self.world.copies {
                    let actions = self.parties[i].machine.datagram(addr(7302), &datagram, at);
                    self.challenger_acts(i, actions);
                }
            }
            let Some(flood) = self.parties[i].flood else {
                continue;
            };
            let mine = || sends.iter().filter(|s| s.1 == i && s.0 <= self.now + DELAY);
            let mut log = SendLog::new(terms.duration_ns());
            mine().for_each(|s| log.add(s.0 - flood.start_ns, 1));
            self.parties[i].machine.flooded(Flooded {
                first_ns: mine().next().map(|_| flood.start_ns),
                sent: mine().count() as u64,
                log,
                clock: "virtual".into(),
                clock_error_ns: self.world.clock_error_ns,
            });
        }
        self.publish(&Statement::Commit(signed));
        self.pump();
        let accounting = Accounting {
            received,
            host_dropped: dropped,
            interface: Some((0, 0)),
            ..Accounting::default()
        };
        let opened = (&commit, roots);
        let reveal = self
            .prover
            .reveal(&key(2), &NoChain, &tally, opened, accounting);
        self.publish(&reveal);
    }

    fn run(mut self) -> (Vec<u8>, Judgement) {
        for _ in 0..12_000 {
            if self.deadline != 0 {
                break;
            }
            self.tick_all();
        }
        assert_ne!(self.deadline, 0, "never started");
        self.flood();
        for _ in 0..10_000 {
            self.tick_all();
            if self
                .coordinator
                .tick(self.now)
                .contains(&CoordinatorAction::Judge)
            {
                break;
            }
        }
        let judgement = judge(self.coordinator.record());
        let bundle = Bundle {
            log: self.coordinator.log().to_vec(),
            judgement: judgement.clone(),
        };
        (bundle::write(&key(3), &bundle).0, judgement)
    }
}

pub(super) fn near(figure: u64, truth: u64, percent: u64) -> bool {
    figure.abs_diff(truth) * 100 <= truth * percent
}

#[test]
fn a_true_claim_passes_and_the_figure_is_true() {
    let (bytes, j) = Sim::new(World::new(20_000_000)).run();
    assert_eq!(j.verdict, Verdict::Pass, "{j:#?}");
    assert!(near(j.lower_bps(), 20_000_000, 3), "{}", j.measured_bps);
    assert!(j.standings.iter().all(|s| s.valid && s.flags.is_empty()));
    let v = bundle::verify(&bytes);
    assert!(v.ok(), "{:#?}", v.checks);
    assert_eq!(v.judgement, Some(j));
}

#[test]
fn longer_and_shorter_packets_give_the_same_figure() {
    for mtu in [1436, 9000] {
        let world = World::new(20_000_000);
        let terms = Terms {
            duration_ms: 1000,
            ..world.terms
        };
        let terms = terms.of_mtu(mtu, false).unwrap();
        let (_, j) = Sim::new(World { terms, ..world }).run();
        assert_eq!(j.verdict, Verdict::Pass, "{mtu}: {j:#?}");
        assert!(
            j.measured_bps.abs_diff(20_000_000) < 400_000,
            "{mtu}: {}",
            j.measured_bps
        );
    }
}

#[test]
fn packets_that_count_the_headers_of_one_family_go_over_no_other() {
    let v4 = Terms::downlink(20_000_000, 5, 1, 100);
    let v6 = v4.of_mtu(1500, true).unwrap();
    let joins = |terms: Terms, data: &str, control: &str| {
        let first = Signed::new(&key(3), &notice(terms));
        let place = notice(terms).challengers[0].address.0[0];
        let (data, control) = (data.parse().unwrap(), control.parse().unwrap());
        let first = Statement::Notice(first);
        let made = Challenger::new(&first, &key(place), secrets(place), data, control);
        made.map(drop).map_err(|e| e.to_string())
    };
    let refused = |what: &str, result: Result<(), String>| {
        let why = result.unwrap_err();
        assert!(why.starts_with(what), "{why}");
    };
    let (four, six, mapped) = ("10.0.0.1:5", "[fd00::1]:5", "[::ffff:10.0.0.1]:5");
    joins(v4, four, four).unwrap();
    joins(v6, six, six).unwrap();
    refused("seed.data", joins(v4, six, four));
    refused("seed.control", joins(v4, four, six));
    refused("seed.data", joins(v6, four, six));
    refused("seed.control", joins(v6, six, four));
    refused("seed.data", joins(v6, mapped, six));
    refused("seed.data", joins(v4, mapped, four));
    let consents = |terms: Terms, data: &str, control: &str| {
        let first = Signed::new(&key(3), &notice(terms));
        let mut record = Record::open(&Statement::Notice(first)).unwrap();
        let consent = Consent {
            challenge: notice(terms).challenge,
            data: data.parse().unwrap(),
            control: control.parse().unwrap(),
            ephemeral: [1; 32],
            cap_packets: terms.cap_packets(),
            until_ns: 0,
            senders: Vec::new(),
        };
        let said = record.absorb(&Statement::Consent(Signed::new(&key(2), &consent)));
        said.map(drop).map_err(|e| e.to_string())
    };
    consents(v4, four, four).unwrap();
    consents(v6, six, six).unwrap();
    refused("consent.data", consents(v4, six, four));
    refused("consent.control", consents(v6, six, four));
    refused("consent.data", consents(v6, mapped, six));
}

#[test]
fn a_link_of_a_third_of_its_claim_fails_with_the_true_figure() {
    let (_, j) = Sim::new(World::new(6_000_000)).run();
    assert_eq!(j.verdict, Verdict::Fail);
    assert!(near(j.measured_bps, 6_000_000, 3), "{}", j.measured_bps);
}

#[test]
fn a_link_below_the_deadline_is_measured_from_what_came() {
    let (_, j) = Sim::new(World::new(3_000_000)).run();
    assert_eq!(j.verdict, Verdict::Fail);
    assert!(near(j.measured_bps, 3_000_000, 4), "{}", j.measured_bps);
    assert!(j.packets < World::new(1).terms.target());
}

#[test]
fn round_trips_raise_no_bound_and_one_that_is_long_beside_the_phase_is_named() {
    let inflated = |inflate_ns| {
        let world = World {
            inflate_ns,
            ..World::new(20_000_000)
        };
        Sim::new(world).run().1
    };
    // Delaying every probe by 50 ms doubles a measured 100 ms, and no bound.
    let (j, honest) = (inflated(50 * MS), inflated(0));
    assert!(j.measured_bps > 30_000_000 || j.measured_bps == World::new(1).terms.offer_total_bps());
    assert_eq!((j.curve, j.verdict), (honest.curve, Verdict::Pass));
    // What is too far to tell is told what would do.
    let slow = World {
        inflate_ns: 50 * MS,
        pace_percent: 60,
        ..World::new(20_000_000)
    };
    let (_, j) = Sim::new(slow).run();
    assert_eq!(j.verdict, Verdict::Inconclusive);
    assert!(j.reason.unwrap().contains("measure 2080 ms or longer"));
}

#[test]
fn a_claim_that_was_not_put_to_the_test_is_not_called_false() {
    // All five at 50 % of their rate: four of them are asked for 0.58 of the claim.
    let starved = World {
        pace_percent: 50,
        ..World::new(20_000_000)
    };
    let (bytes, j) = Sim::new(starved).run();
    assert_eq!(j.verdict, Verdict::Inconclusive);
    assert!(j.reason.unwrap().starts_with("offered: "));
    assert!(j.standings.iter().all(|s| s.flags.is_empty() && s.valid));
    assert!(bundle::verify(&bytes).ok());
    // At 90 % as many as fill K still ask for 0.9: the claim of a link of half of it is false.
    let slower = World {
        pace_percent: 90,
        ..World::new(10_000_000)
    };
    let (_, j) = Sim::new(slower).run();
    assert_eq!(j.verdict, Verdict::Fail, "{:?}", j.reason);
    assert!(near(j.measured_bps, 10_000_000, 4), "{}", j.measured_bps);
}

#[test]
fn what_the_provers_own_host_drops_is_not_the_links_doing() {
    let (_, j) = Sim::new(World {
        host_drops_percent: 50,
        ..World::new(20_000_000)
    })
    .run();
    assert_eq!(j.verdict, Verdict::Inconclusive);
    let why = j.reason.unwrap();
    assert!(
        why.starts_with("receiver: the prover's own host dropped "),
        "{why}"
    );
}

#[test]
fn who_hears_the_start_late_says_so_and_is_nobodys_accuser() {
    let late = |ns| {
        let world = World {
            late: Some((1, ns)),
            ..World::new(20_000_000)
        };
        Sim::new(world).run()
    };
    let (bundle, j) = late(10_000 * MS);
    assert_eq!(j.verdict, Verdict::Pass, "{:?}", j.reason);
    assert_eq!(j.standings[1].flags, ["GaveUp"]);
    let record = bundle::verify(&bundle).record.unwrap();
    let said = &record.out[1].as_ref().unwrap().message;
    let seed = said.seed.expect("it withholds nothing");
    assert!(record.seed_opens(1, &seed));
    // T0 is 250 ms ahead.
    assert!(late(240 * MS).1.standings[1].valid);
}

#[test]
fn who_began_and_gives_neither_report_nor_seed_withholds_it() {
    let (bundle, _) = Sim::new(World::new(20_000_000)).run();
    let body = &bundle[20..bundle.len() - 32];
    let bundle: Bundle = decode::<Signed>(body).unwrap().open().unwrap();
    let log = bundle.log;
    let whole = Record::read(&log).unwrap();
    let index = 2;
    let of = |line: &Statement, name: &str| {
        line.name() == name && line.signed().key == whole.notice.message.challengers[index].key
    };
    let without = |names: &[&str]| -> Vec<Statement> {
        let kept = log.iter().filter(|l| !names.iter().any(|name| of(l, name)));
        kept.cloned().collect()
    };
    let withholds = |log: &[Statement]| {
        let record = Record::read(log).unwrap();
        let others = (0..5).filter(|i| *i != index);
        assert!(others.into_iter().all(|i| !record.withholds(i)));
        record.withholds(index)
    };
    assert!(!withholds(&log));
    let silent = without(&["report"]);
    assert!(withholds(&silent));
    let judged = judge(&Record::read(&silent).unwrap());
    assert_eq!(judged.standings[index].flags, [WITHHELD]);
    assert!(!withholds(&without(&["ready", "report"])), "it never began");

    let owner = whole.notice.message.challengers[index].address.0[0];
    let gives_up = |at: &str, seed| {
        let mut abort = Abort::new(&[7; 32], u16::try_from(index).ok(), "no more");
        abort.seed = seed;
        let line = Statement::Abort(Signed::new(&key(owner), &abort));
        let mut log = silent.clone();
        let place = log.iter().position(|l| l.name() == at).unwrap();
        log.insert(place, line);
        log
    };
    let seed = Some([owner; 32]);
    assert!(!withholds(&gives_up("start", None)), "before the start");
    assert!(withholds(&gives_up("commit", None)));
    assert!(!withholds(&gives_up("commit", seed)));
    let refused = Record::read(&gives_up("commit", Some([1; 32]))).unwrap_err();
    assert_eq!(refused.1.code(), "bad-field");
    let early: Vec<Statement> = silent
        .iter()
        .filter(|l| !["reveal", "report"].contains(&l.name()))
        .cloned()
        .collect();
    assert!(!withholds(&early), "nobody could report");
}

#[test]
fn one_silent_challenger_is_unpaid_and_the_rest_measure_on() {
    let (_, j) = Sim::new(World {
        silent: Some(2),
        ..World::new(20_000_000)
    })
    .run();
    assert_eq!(
        j.standings.iter().map(|s| s.valid).collect::<Vec<_>>(),
        [true, true, false, true, true]
    );
    // m is 42 packets here, and the slowest of the four left decides: chance costs a few per cent.
    assert!(near(j.measured_bps, 20_000_000, 8), "{}", j.measured_bps);
    assert_eq!(j.standings[2].flags, ["NoReport"]);
}

#[test]
fn bytes_that_are_not_the_seeds_are_not_counted() {
    let (_, j) = Sim::new(World {
        garbage: Some(1),
        ..World::new(20_000_000)
    })
    .run();
    assert_eq!(j.standings[1].flags, ["V3"]);
    assert!(!j.standings[1].valid && j.lower_bps() < 20_400_000);
}

#[test]
fn a_prover_that_commits_before_it_has_received_is_not_believed() {
    let (_, j) = Sim::new(World {
        early: Some(60),
        ..World::new(20_000_000)
    })
    .run();
    assert_eq!(j.verdict, Verdict::Inconclusive);
    assert_eq!(j.measured_bps, 0);
}

#[test]
fn a_prover_that_tells_one_challenger_otherwise_is_shown_by_its_own_signature() {
    let (bytes, j) = Sim::new(World {
        otherwise: Some(3),
        ..World::new(20_000_000)
    })
    .run();
    assert_eq!(j.verdict, Verdict::Inconclusive);
    // Nobody's bytes are worth less for it.
    assert!(j.standings.iter().all(|s| s.valid));
    assert!(j.reason.is_some_and(|why| why.contains("two commitments")));
    assert!(j.standings[3].flags.contains(&"Equivocation".to_owned()));
    let shown = j.checks.iter().find(|c| c.check == "V13").unwrap();
    assert_eq!(
        (shown.ok, shown.culprit.as_deref()),
        (false, Some("prover"))
    );
    assert!(
        j.commitment_ok,
        "the contract can take it, and a jury convict"
    );
    assert!(bundle::verify(&bytes).ok());
}

#[test]
fn every_changed_byte_of_a_bundle_is_named() {
    let (bytes, _) = Sim::new(World::new(20_000_000)).run();
    for at in (0..bytes.len())
        .step_by(97)
        .chain([0, 9, 13, bytes.len() - 1])
    {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        let v = bundle::verify(&bent);
        assert!(!v.ok(), "byte {at}");
        assert!(!v.checks[0].ok && !v.checks[0].name.is_empty());
        // With the address mended, the coordinator's signature still covers it.
        let end = bent.len() - 32;
        let mended = hash(domain::BUNDLE, &[&bent[..end]]);
        bent[end..].copy_from_slice(&mended);
        if at < end {
            assert!(!bundle::verify(&bent).ok(), "byte {at}, mended");
        }
    }
}

#[test]
fn a_coordinator_that_alters_a_report_or_its_sum_is_caught_by_its_own_bundle() {
    let (bytes, judgement) = Sim::new(World::new(20_000_000)).run();
    let body = &bytes[20..bytes.len() - 32];
    let bundle: Bundle = decode::<Signed>(body).unwrap().open().unwrap();
    let resign = |b: &Bundle| bundle::verify(&bundle::write(&key(3), b).0);
    assert!(resign(&bundle).ok());
    let mut better = bundle.clone();
    better.judgement.curve[0] += 1;
    let v = resign(&better);
    assert_eq!((v.ok(), v.checks[0].name.as_str()), (false, "judgement"));
    let mut altered = bundle.clone();
    if let Some(Statement::Report(s)) = altered.log.last_mut() {
        s.body[40] ^= 1;
    }
    let v = resign(&altered);
    assert_eq!((v.ok(), v.checks[0].name.as_str()), (false, "signatures"));
    let mut dropped = bundle;
    dropped.log.pop();
    assert_eq!(
        (resign(&dropped).ok(), judgement.verdict),
        (false, Verdict::Pass)
    );
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for garbage in [None, Some(1)] {
        let world = World {
            garbage,
            ..World::new(20_000_000)
        };
        let (bytes, judgement) = Sim::new(world).run();
        let body = &bytes[20..bytes.len() - 32];
        let bundle: Bundle = decode::<Signed>(body).unwrap().open().unwrap();
        let record = Record::read(&bundle.log).unwrap();
        for threads in [1, 2, 7].map(|n| NonZeroUsize::new(n).unwrap()) {
            assert_eq!(judge_on(&record, threads), judgement, "{threads}");
        }
    }
}
