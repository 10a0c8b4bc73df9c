//! Whole uplink proofs on virtual time: the machines, an ideal FIFO link, no kernel.

use plumbline_trust::Signature;
use plumbline_trust::encoding::encode;
use plumbline_trust::identity::{NetworkKey, Signed};
use plumbline_trust::session::SessionKey;
use plumbline_wire::header::{DATA_LEN, Header, Kind, TAGGED_LEN};

use super::super::bundle::{self, Bundle};
use super::super::challenger::{Challenger, ChallengerAction};
use super::super::coordinator::{Coordinator, CoordinatorAction};
use super::super::judge::{Judgement, Verdict, judge};
use super::super::keystream::Train;
use super::super::messages::{Accounting, ECHO_DOMAIN, Report, Statement};
use super::super::params::{Direction, Terms};
use super::super::prover::{Prover, ProverAction};
use super::super::record::{Record, Refusal};
use super::super::rtt;
use super::super::tests::{NoChain, addr, ephemeral, key, near, notice, secrets};
use super::challenger::{Counted, Counting};
use super::prover::{Flood, Sent};
use super::{Window, packets_each};

const MS: u64 = 1_000_000;
/// One way, ns.
const DELAY: u64 = MS;
/// The claim, bit/s.
const CLAIM: u64 = 60_000_000;
/// Packets that the queue before the link holds.
const QUEUE: u64 = 10;

/// What one virtual run is like.
#[derive(Clone)]
struct World {
    terms: Terms,
    link_bps: u64,
    /// The prover sends at this part of its rate, percent.
    pace_percent: u64,
    /// The first so many challengers claim all that may be claimed.
    liars: usize,
    /// Says nothing after its seed.
    silent: Option<usize>,
    /// Is ready, receives, and does not report.
    withholds: Option<usize>,
    /// Each packet arrives so often.
    copies: usize,
    /// Packets arrive with a byte changed.
    bent: bool,
    /// Clock of challenger i is i of these ahead, ns.
    skew_ns: u64,
}

impl World {
    fn new(link_bps: u64) -> Self {
        Self {
            terms: Terms {
                direction: Direction::Up,
                ..Terms::downlink(CLAIM, 5, 1, 200)
            },
            link_bps,
            pace_percent: 100,
            liars: 0,
            silent: None,
            withholds: None,
            copies: 1,
            bent: false,
            skew_ns: 0,
        }
    }
}

struct Party {
    key: NetworkKey,
    machine: Challenger,
    counting: Option<Box<Counting>>,
}

struct Sim {
    now: u64,
    world: World,
    coordinator: Coordinator,
    prover: Prover,
    parties: Vec<Party>,
    keys: Vec<Option<SessionKey>>,
    /// When the prover could send to each, by its seed.
    floods: Vec<Option<(u64, Flood)>>,
    armed: bool,
    /// What each party has yet to hear.
    read: Vec<usize>,
}

/// What a run gave.
struct Run {
    bytes: Vec<u8>,
    log: Vec<Statement>,
    judgement: Judgement,
    reports: Vec<Option<Report>>,
}

impl Sim {
    fn new(world: World) -> Self {
        let notice = notice(world.terms);
        let coordinator = Coordinator::new(&key(3), &notice).unwrap();
        let first = coordinator.log()[0].clone();
        let prover = Prover::new(&first, &key(2), ephemeral(), addr(7301), addr(7302), 0).unwrap();
        let n = notice.challengers.len();
        let mut sim = Self {
            now: 2_500 * MS,
            world,
            coordinator,
            prover,
            parties: Vec::new(),
            keys: Vec::new(),
            floods: (0..n).map(|_| None).collect(),
            armed: false,
            read: vec![1; n + 1],
        };
        let mut words = Vec::new();
        for (i, m) in notice.challengers.iter().enumerate() {
            let key = key(m.address.0[0]);
            let (data, control) = (addr(8000 + i), addr(9000 + i));
            let (machine, actions) =
                Challenger::new(&first, &key, secrets(m.address.0[0]), data, control).unwrap();
            let counting = None;
            sim.parties.push(Party {
                key,
                machine,
                counting,
            });
            words.push(actions);
        }
        for (i, actions) in words.into_iter().enumerate() {
            sim.challenger_acts(i, actions);
        }
        sim
    }

    fn publish(&mut self, statement: &Statement) {
        let actions = self.coordinator.hear(statement.clone(), self.now);
        for action in actions.unwrap_or_default() {
            if let CoordinatorAction::Anchor(setup) = action {
                self.coordinator.anchored(&key(3), setup).unwrap();
            }
        }
    }

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
                let clock = self.now + who as u64 * self.world.skew_ns;
                let actions = party.machine.hear(&party.key, &line, clock);
                self.challenger_acts(who, actions);
            }
        }
    }

    fn prover_acts(&mut self, actions: Vec<ProverAction>) {
        for action in actions {
            match action {
                ProverAction::Say(s) => self.publish(&s),
                ProverAction::Open(opening) => {
                    self.keys = opening.keys;
                }
                ProverAction::Arm { .. } => self.armed = true,
                ProverAction::Fail(why) => panic!("{why}"),
            }
        }
    }

    fn challenger_acts(&mut self, i: usize, actions: Vec<ChallengerAction>) {
        let silent = self.world.silent == Some(i) && self.coordinator.record().seeds[i].is_some();
        for action in actions.into_iter().filter(|_| !silent) {
            match action {
                ChallengerAction::Say(Statement::Report(report)) => self.report(i, &report),
                ChallengerAction::Say(s) => self.publish(&s),
                ChallengerAction::Send(_, bytes) => self.control(i, &bytes),
                ChallengerAction::Count(counting) => self.parties[i].counting = Some(counting),
                ChallengerAction::Done => {}
                ChallengerAction::Fail(why) => panic!("challenger {i}: {why}"),
                ChallengerAction::Prepare(..)
                | ChallengerAction::Flood(_)
                | ChallengerAction::Stop => {
                    panic!("challengers send nothing")
                }
            }
        }
    }

    /// As it is, or as a liar would have it: everything that the prover sent and terms let it count.
    fn report(&mut self, i: usize, signed: &Signed) {
        if self.world.withholds == Some(i) {
            return;
        }
        let mut report: Report = signed.open().unwrap();
        if i < self.world.liars {
            let sent = self
                .coordinator
                .record()
                .commit
                .as_ref()
                .unwrap()
                .message
                .counts[i];
            let most = u32::try_from(super::counted_most(&self.world.terms)).unwrap();
            let claimed = sent.min(most);
            let arrivals = report.arrivals.as_mut().unwrap();
            arrivals.histogram[0] += claimed - report.packets;
            report.packets = claimed;
        }
        let said = Statement::Report(Signed::new(&self.parties[i].key, &report));
        self.publish(&said);
    }

    /// A datagram of challenger i at the prover's control port.
    fn control(&mut self, i: usize, bytes: &[u8]) {
        let (head, rest) = bytes.split_first_chunk().unwrap();
        let header = Header::from_bytes(head).unwrap();
        if header.kind == Kind::Seed {
            let (seed, key) = (rest.try_into().unwrap(), self.keys[i].clone().unwrap());
            assert!(key.check(head));
            let flood = self.prover.released(header.index, &key, &seed).unwrap();
            self.floods[i].get_or_insert((self.now + DELAY, flood));
            return;
        }
        assert_eq!((header.kind, rest.len()), (Kind::Probe, 0));
        let index = u16::try_from(i).unwrap();
        let key_i = self.keys[i].as_ref().unwrap();
        let (number, sent) = (header.sequence, header.sent_ns);
        let echo = rtt::sealed(Kind::Echo, &[7; 32], index, number, sent, key_i);
        let signature: Signature = key(2).sign(ECHO_DOMAIN, &echo[..TAGGED_LEN]);
        let datagram = [&echo[..], &encode(&signature)].concat();
        let at = sent + 2 * DELAY;
        let actions = self.parties[i].machine.datagram(addr(7302), &datagram, at);
        self.challenger_acts(i, actions);
    }

    fn tick_all(&mut self) {
        self.now += MS;
        let actions = self.prover.tick(&key(2), self.now);
        self.prover_acts(actions);
        for i in 0..self.parties.len() {
            let party = &mut self.parties[i];
            let clock = self.now + i as u64 * self.world.skew_ns;
            let actions = party.machine.tick(&party.key, &NoChain, clock);
            self.challenger_acts(i, actions);
        }
        self.pump();
    }

    /// When each packet leaves, to whom, and its number.
    fn sends(&self) -> Vec<(u64, usize, u64)> {
        let mut sends = Vec::new();
        for (at, flood) in self.floods.iter().enumerate() {
            let Some((start_ns, f)) = flood else { continue };
            let step = 8 * 1500 * 1_000_000_000 / (f.rate_bps * self.world.pace_percent / 100);
            let i = at as u64;
            // As the real pacer: each at random within its slot, or a full queue starves one of them.
            let jitter = |k: u64| {
                let byte = blake3::hash(&(k * 64 + i).to_le_bytes()).as_bytes()[0];
                u64::from(byte) * step / 256
            };
            let all = (0..packets_each(&self.world.terms))
                .map(|k| (start_ns + k * step + jitter(k), at, k));
            sends.extend(all.take_while(|s| s.0 < f.deadline_ns));
        }
        sends.sort_unstable();
        sends
    }

    fn flood(&mut self) {
        let sends = self.sends();
        let gap = 8 * 1500 * 1_000_000_000 / self.world.link_bps;
        let mut counts = vec![0; self.parties.len()];
        let mut free = 0;
        for (at, i, k) in &sends {
            counts[*i] += 1;
            if free > at + QUEUE * gap {
                continue;
            }
            free = free.max(*at) + gap;
            let mut packet = [0; DATA_LEN];
            let (_, flood) = self.floods[*i].as_mut().unwrap();
            flood.train.write(*k, &mut packet);
            packet[DATA_LEN - 1] ^= u8::from(self.world.bent);
            let Some(counting) = &mut self.parties[*i].counting else {
                continue;
            };
            let clock = free + DELAY + *i as u64 * self.world.skew_ns;
            for _ in 0..self.world.copies {
                counting.counter.take(&packet, clock);
            }
        }
        let ends = self.floods.iter().flatten().map(|(_, f)| f.deadline_ns);
        self.now = ends.max().unwrap();
        let span_ns = (sends[0].0, sends[sends.len() - 1].0);
        let sent = Sent {
            counts,
            span_ns,
            accounting: Accounting::default(),
        };
        let actions = self.prover.sent(&key(2), &NoChain, sent);
        self.prover_acts(actions);
        for party in &mut self.parties {
            if let Some(counting) = party.counting.take() {
                party.machine.counted(Counted {
                    arrivals: counting.counter.finish(0),
                    clock: "virtual".into(),
                    clock_error_ns: 0,
                });
            }
        }
    }

    fn run(mut self) -> Run {
        for _ in 0..20_000 {
            if self.armed && self.listening() && self.released() {
                break;
            }
            self.tick_all();
        }
        assert!(self.armed, "never started");
        self.flood();
        for _ in 0..20_000 {
            self.tick_all();
            if self
                .coordinator
                .tick(self.now)
                .contains(&CoordinatorAction::Judge)
            {
                break;
            }
        }
        let record = self.coordinator.record();
        let judgement = judge(record);
        let log = self.coordinator.log().to_vec();
        let bundle = Bundle {
            log: log.clone(),
            judgement: judgement.clone(),
        };
        let reports = record.reports.iter();
        Run {
            bytes: bundle::write(&key(3), &bundle).0,
            log,
            judgement,
            reports: reports
                .map(|r| r.as_ref().map(|k| k.message.clone()))
                .collect(),
        }
    }

    fn listening(&self) -> bool {
        let ready = self.coordinator.record().ready.iter();
        ready
            .zip(&self.parties)
            .all(|(ready, party)| ready.is_none() || party.counting.is_some())
    }

    /// Everyone who counts has released its seed.
    fn released(&self) -> bool {
        let floods = self.floods.iter();
        floods
            .zip(&self.parties)
            .all(|(flood, party)| flood.is_some() == party.counting.is_some())
    }
}

fn run(world: World) -> Run {
    Sim::new(world).run()
}

fn fate(report: &Report, name: &str) -> u64 {
    let fates = &report.arrivals.as_ref().unwrap().fates;
    fates.iter().find(|(n, _)| n == name).unwrap().1
}

fn failed(judgement: &Judgement) -> Vec<&str> {
    let wrong = judgement.checks.iter().filter(|c| !c.ok);
    wrong.map(|c| c.check.as_str()).collect()
}

#[test]
fn a_true_claim_passes_and_the_figure_is_true() {
    let r = run(World::new(CLAIM));
    let j = &r.judgement;
    assert_eq!(j.verdict, Verdict::Pass, "{j:#?}");
    assert!(near(j.measured_bps, CLAIM, 2), "{}", j.measured_bps);
    assert!(near(j.lower_bps(), CLAIM, 5), "{}", j.lower_bps());
    assert!(j.guaranteed_bps() <= j.lower_bps() * 4 / 5);
    assert!(j.standings.iter().all(|s| s.valid && s.flags.is_empty()));
    let v = bundle::verify(&r.bytes);
    assert!(v.ok(), "{:#?}", v.checks);
    assert_eq!(v.judgement.as_ref(), Some(j));
}

#[test]
fn a_link_of_half_its_claim_fails_with_the_true_figure() {
    let j = run(World::new(CLAIM / 2)).judgement;
    assert_eq!(j.verdict, Verdict::Fail);
    assert!(near(j.measured_bps, CLAIM / 2, 2), "{}", j.measured_bps);
}

#[test]
fn a_duration_too_short_for_the_longest_round_trip_is_named() {
    let mut world = World::new(CLAIM);
    world.terms.duration_ms = 50;
    let j = run(world).judgement;
    assert_eq!(j.verdict, Verdict::Inconclusive, "{j:#?}");
    let reason = j.reason.unwrap();
    assert!(reason.starts_with("duration: "), "{reason}");
}

#[test]
fn a_prover_that_sends_less_is_not_called_false_and_does_not_pass() {
    // 1.4375 K are due; half of that is below the claim.
    let j = run(World {
        pace_percent: 50,
        ..World::new(2 * CLAIM)
    })
    .judgement;
    assert_eq!(j.verdict, Verdict::Inconclusive);
    assert!(
        near(j.measured_bps, CLAIM * 1437 / 2000, 2),
        "{}",
        j.measured_bps
    );
    assert!(failed(&j).is_empty(), "{j:#?}");
}

#[test]
fn liars_cannot_raise_the_guarantee_above_the_link() {
    for (n, f) in [(5, 1), (7, 2), (10, 3)] {
        let world = World {
            terms: Terms {
                n,
                f,
                ..World::new(1).terms
            },
            liars: f.into(),
            ..World::new(CLAIM / 2)
        };
        let j = run(world).judgement;
        assert!(
            j.guaranteed_bps() * 100 <= CLAIM / 2 * 102,
            "{}",
            j.guaranteed_bps()
        );
        assert!(
            j.measured_bps > CLAIM / 2,
            "their lie is in what is shown: {}",
            j.measured_bps
        );
        assert_ne!(j.verdict, Verdict::Pass);
    }
}

#[test]
fn who_is_silent_before_the_start_is_not_sent_to_and_not_missed() {
    let j = run(World {
        silent: Some(2),
        ..World::new(CLAIM)
    })
    .judgement;
    assert_eq!(j.verdict, Verdict::Pass, "{j:#?}");
    assert!(near(j.measured_bps, CLAIM, 2), "{}", j.measured_bps);
    assert_eq!(j.standings[2].flags, ["NoReport"]);
    assert!(!j.standings[2].valid && j.standings[3].valid);
}

#[test]
fn who_withholds_its_report_cannot_make_an_honest_prover_fail() {
    let j = run(World {
        withholds: Some(1),
        ..World::new(CLAIM)
    })
    .judgement;
    assert_eq!(j.verdict, Verdict::Inconclusive, "{j:#?}");
    assert_eq!(j.standings[1].flags, ["Withheld"]);
    // Where the link is too slow even with its share, it is the link.
    let j = run(World {
        withholds: Some(1),
        ..World::new(CLAIM / 2)
    })
    .judgement;
    assert_eq!(j.verdict, Verdict::Fail, "{j:#?}");
    // And where what the others counted is enough, nothing is missing.
    let j = run(World {
        withholds: Some(1),
        ..World::new(CLAIM * 13 / 10)
    })
    .judgement;
    assert_eq!(j.verdict, Verdict::Pass, "{j:#?}");
}

#[test]
fn copies_are_counted_by_name_and_not_in_the_rate() {
    let r = run(World {
        copies: 3,
        ..World::new(CLAIM)
    });
    assert!(near(r.judgement.measured_bps, CLAIM, 2));
    for report in r.reports.iter().flatten() {
        let genuine: u64 = ["early", "late", "over_cap"]
            .map(|n| fate(report, n))
            .iter()
            .sum();
        assert_eq!(
            fate(report, "duplicate"),
            2 * (genuine + u64::from(report.packets))
        );
    }
}

#[test]
fn bytes_that_are_not_the_streams_count_nothing() {
    let r = run(World {
        bent: true,
        ..World::new(CLAIM)
    });
    assert_eq!(r.judgement.verdict, Verdict::Inconclusive);
    for report in r.reports.iter().flatten() {
        assert_eq!(report.packets, 0);
        assert!(fate(report, "bad_payload") > 0);
    }
    assert!(failed(&r.judgement).contains(&"V5"));
}

#[test]
fn clocks_apart_by_milliseconds_leave_the_sum_true() {
    let j = run(World {
        skew_ns: 2 * MS,
        ..World::new(CLAIM)
    })
    .judgement;
    assert!(near(j.measured_bps, CLAIM, 2), "{}", j.measured_bps);
}

#[test]
fn a_changed_byte_of_the_bundle_is_seen() {
    let bytes = run(World::new(CLAIM)).bytes;
    let step = bytes.len() / 97;
    for at in (0..bytes.len()).step_by(step) {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        assert!(!bundle::verify(&bent).ok(), "byte {at}");
    }
}

/// A run's statement as its author would have changed and signed it, judged.
fn resigned(r: &Run, change: impl Fn(&mut Report)) -> Judgement {
    let log: Vec<Statement> = r
        .log
        .iter()
        .map(|s| match s {
            Statement::Report(signed) => {
                let mut report: Report = signed.open().unwrap();
                if report.index != 0 {
                    return s.clone();
                }
                change(&mut report);
                let owner = (10..20)
                    .find(|i| key(*i).verifying() == signed.key)
                    .unwrap();
                Statement::Report(Signed::new(&key(owner), &report))
            }
            other => other.clone(),
        })
        .collect();
    judge(&Record::read(&log).unwrap())
}

#[test]
fn a_report_that_cannot_be_does_not_count() {
    let r = run(World::new(CLAIM / 2));
    let sent = match r.log.iter().find(|s| s.name() == "commit") {
        Some(Statement::Commit(s)) => s.open::<super::super::messages::Commit>().unwrap().counts[0],
        _ => unreachable!(),
    };
    let most = u32::try_from(super::counted_most(&World::new(1).terms))
        .unwrap()
        .min(sent);
    let claims = |to: u32| {
        move |report: &mut Report| {
            report.arrivals.as_mut().unwrap().histogram[0] += to - report.packets;
            report.packets = to;
        }
    };
    let flags = |change: &dyn Fn(&mut Report)| resigned(&r, change).standings[0].flags.clone();
    assert_eq!(flags(&claims(most)), Vec::<String>::new());
    assert_eq!(flags(&claims(most + 1)), ["V5"]);
    assert_eq!(flags(&|report| report.packets += 1), ["V5"]);
    assert_eq!(flags(&|report| report.window_us -= 1), ["V5"]);
    assert_eq!(flags(&|report| report.window_us += 1), ["V5"]);
    assert_eq!(flags(&|report| report.sent_first_ns += 1), ["V5"]);
    assert_eq!(flags(&|report| report.rho_ns -= 1), ["V5"]);
    assert_eq!(flags(&|report| report.response[0] ^= 1), ["V5"]);
    assert_eq!(flags(&|report| report.seed[0] ^= 1), ["V2"]);
    let error = World::new(1).terms.duration_ns() / 100;
    assert_eq!(
        flags(&|report| report.clock_error_ns = error),
        Vec::<String>::new()
    );
    assert_eq!(
        flags(&|report| report.clock_error_ns = error + 1),
        ["ClockError"]
    );
}

/// A session that has started, everybody listening, T0 still ahead; and its T0.
fn before_t0() -> (Sim, u64) {
    let mut sim = Sim::new(World::new(CLAIM));
    while !(sim.armed && sim.listening()) {
        sim.tick_all();
    }
    let t0_ns = sim.prover.t0_ns.unwrap();
    assert!(sim.now < t0_ns && sim.floods.iter().all(Option::is_none));
    (sim, t0_ns)
}

/// Hoarded behind the link since before T0, by a prover that makes them of all that it knows then.
#[test]
fn packets_made_before_t0_do_not_count() {
    let (mut sim, t0_ns) = before_t0();
    let notice = sim.prover.record().notice.message.clone();
    let hash = sim.prover.record().seeds[0]
        .as_ref()
        .unwrap()
        .message
        .seed_hash;
    let key = sim.keys[0].clone().unwrap();
    let known: [Vec<u8>; 3] = [Vec::new(), vec![0; 32], hash.to_vec()];
    let seed_of_0 = sim.parties[0].machine.seed();
    let counter = &mut sim.parties[0].counting.as_mut().unwrap().counter;
    let mut packet = [0; DATA_LEN];
    for (tried, more) in (1..).zip(known) {
        let seed = key.derive(plumbline_trust::encoding::domain::UPLINK, &more);
        let train = Train::new(&seed, &notice.challenge, &notice.beacon, 0, 0, key.clone());
        train.of_size(notice.terms.size()).write(0, &mut packet);
        counter.take(&packet, t0_ns + 50 * MS);
        assert_eq!(counter.counted(), 0);
        assert_eq!(counter.refused().bad_payload, tried);
    }
    // What is made of the seed that T0 brings does, on either side of it by the challenger's clock.
    let mut train = super::train(&notice, 0, key, &seed_of_0);
    let window = Window::new(&notice.terms, t0_ns);
    for (number, at_ns) in (0..).zip([t0_ns - 1, t0_ns, window.until_ns() - 1, window.until_ns()]) {
        train.write(number, &mut packet);
        counter.take(&packet, at_ns);
    }
    let refused = counter.refused();
    assert_eq!((counter.counted(), refused.early, refused.late), (2, 1, 1));
}

#[test]
fn a_seed_leaves_at_t0_and_again_until_a_packet_of_it_is_here() {
    let (mut sim, t0_ns) = before_t0();
    let notice = sim.prover.record().notice.message.clone();
    let until_ns = Window::new(&notice.terms, t0_ns).until_ns();
    let gap_ns = super::super::params::PROBE_GAP_NS;
    let Party { key, machine, .. } = &mut sim.parties[0];
    let mut leaves = |now_ns: u64| {
        let actions = machine.tick(key, &NoChain, now_ns);
        let seeds = actions.iter().filter(|a| match a {
            ChallengerAction::Send(to, bytes) => {
                let head = Header::from_bytes(bytes.first_chunk().unwrap()).unwrap();
                *to == addr(7302) && head.kind == Kind::Seed
            }
            _ => false,
        });
        (seeds.count(), machine.wake_ns())
    };
    assert_eq!(leaves(t0_ns - 1).0, 0);
    assert_eq!(leaves(t0_ns).0, 1);
    assert_eq!(leaves(t0_ns + gap_ns - 1), (0, t0_ns + gap_ns));
    assert_eq!(leaves(t0_ns + gap_ns).0, 1);
    assert_eq!(leaves(until_ns - 1).0, 1);
    // Nobody sent a packet: it ends with the window.
    assert_eq!(leaves(until_ns + gap_ns).0, 0);
    // Another in its place: one packet ends it.
    let Party {
        key,
        machine,
        counting,
    } = &mut sim.parties[1];
    let mut packet = [0; DATA_LEN];
    let session = sim.keys[1].clone().unwrap();
    super::train(&notice, 1, session, &machine.seed()).write(0, &mut packet);
    let counter = &mut counting.as_mut().unwrap().counter;
    counter.take(&packet, t0_ns);
    let sends = |a: &ChallengerAction| matches!(a, ChallengerAction::Send(_, b) if b.len() > 64);
    assert!(!machine.tick(key, &NoChain, t0_ns).iter().any(sends));
}

#[test]
fn the_prover_sends_for_the_committed_seed_alone_and_not_before_its_start() {
    let (sim, _) = before_t0();
    let seed = sim.parties[0].machine.seed();
    let key = sim.keys[0].clone().unwrap();
    let flood = sim.prover.released(0, &key, &seed).unwrap();
    assert_eq!(flood.to, addr(8000));
    let mut bent = seed;
    bent[31] ^= 1;
    assert!(sim.prover.released(0, &key, &bent).is_none());
    assert!(sim.prover.released(1, &key, &seed).is_none(), "another's");
    assert!(sim.prover.released(5, &key, &seed).is_none(), "nobody's");
    let mut early = sim.prover;
    early.t0_ns = None;
    assert!(early.released(0, &key, &seed).is_none(), "no start");
    (early.t0_ns, early.record.ready[0]) = (Some(1), None);
    assert!(early.released(0, &key, &seed).is_none(), "not ready");
}

#[test]
fn nobody_is_ready_who_shows_no_echo_of_its_own() {
    let r = run(World::new(CLAIM));
    let ready: Vec<_> = r
        .log
        .iter()
        .filter_map(|s| match s {
            Statement::Ready(s) => Some(s.open::<super::super::messages::Ready>().unwrap()),
            _ => None,
        })
        .collect();
    let until = r.log.iter().position(|s| s.name() == "ready").unwrap();
    let mut record = Record::read(&r.log[..until]).unwrap();
    let mut says = |said: &super::super::messages::Ready| {
        let owner = record.notice.message.challengers[usize::from(said.index)]
            .address
            .0[0];
        record.absorb(&Statement::Ready(Signed::new(&key(owner), said)))
    };
    let refused = |answer: Result<bool, Refusal>| matches!(answer, Err(Refusal::Field { what, .. }) if what == "ready.reached");
    let mut bent = ready[0].clone();
    bent.reached = None;
    assert!(refused(says(&bent)));
    bent.reached = ready[1].reached.clone();
    assert!(refused(says(&bent)), "another's echo");
    bent.reached = ready[0].reached.clone();
    bent.reached.as_mut().unwrap().echo[40] ^= 1;
    assert!(refused(says(&bent)), "not what the prover signed");
    assert_eq!(says(&ready[0]), Ok(true));
}

#[test]
fn a_start_is_heard_before_t0_and_not_far_ahead() {
    let mut sim = Sim::new(World::new(CLAIM));
    while !sim.armed {
        sim.tick_all();
    }
    let log = sim.coordinator.log();
    let t0_ns = match log.iter().find(|s| s.name() == "start") {
        Some(Statement::Start(s)) => s.open::<super::super::messages::Start>().unwrap().t0_ns,
        _ => unreachable!(),
    };
    let start = log.iter().find(|s| s.name() == "start").unwrap().clone();
    let until = log.iter().position(|s| *s == start).unwrap();
    let ahead_ns = t0_ns - super::super::params::AHEAD_MOST_NS;
    let heard = [
        (t0_ns - 1, true),
        (t0_ns, false),
        (ahead_ns, true),
        (ahead_ns - 1, false),
    ];
    for (i, (now_ns, good)) in heard.into_iter().enumerate() {
        let party = &mut sim.parties[i];
        party.machine.record = Record::read(&sim.coordinator.log()[..until]).unwrap();
        let actions = party.machine.hear(&party.key, &start, now_ns);
        let counts = matches!(actions.as_slice(), [ChallengerAction::Count(_)]);
        assert_eq!(counts, good, "{i}");
        assert_eq!(
            matches!(
                actions.first(),
                Some(ChallengerAction::Say(Statement::Abort(_)))
            ),
            !good
        );
    }
}

#[test]
fn data_goes_only_where_probes_come_from() {
    let n = notice(World::new(1).terms);
    let first = Statement::Notice(Signed::new(&key(3), &n));
    let owner = key(n.challengers[0].address.0[0]);
    let elsewhere = std::net::SocketAddr::from(([10, 0, 0, 2], 8000));
    for (data, good) in [(addr(8000), true), (elsewhere, false)] {
        let opened = Challenger::new(&first, &owner, secrets(1), data, addr(9000));
        assert_eq!(opened.is_ok(), good, "{data}");
    }
}

#[test]
fn windows_tile_the_duration() {
    let window = |duration_ms| {
        let terms = Terms {
            duration_ms,
            ..World::new(1).terms
        };
        let w = Window::new(&terms, 1_000 * MS);
        assert_eq!(w.from_ns, 1_000 * MS);
        (w.slot_ns, w.slots)
    };
    assert_eq!(window(10), (MS, 10));
    assert_eq!(window(100), (10 * MS, 10));
    assert_eq!(window(999), (99_900_000, 10));
    assert_eq!(window(1_000), (100 * MS, 10));
    assert_eq!(window(1_250), (100 * MS, 12));
    assert_eq!(window(10_000), (100 * MS, 100));
}

/// One of five keeps a part of what it received to itself, however much.
#[test]
fn who_keeps_a_part_to_itself_does_not_make_a_true_claim_false() {
    let mut wrong = Vec::new();
    for (link, keep) in [
        (100, 100),
        (100, 49),
        (100, 51),
        (100, 60),
        (100, 70),
        (104, 51),
        (104, 75),
    ] {
        let r = run(World::new(CLAIM * link / 100));
        let j = resigned(&r, |report| {
            if report.index == 0 {
                let arrivals = report.arrivals.as_mut().unwrap();
                for slot in &mut arrivals.histogram {
                    *slot = *slot * keep / 100;
                }
                report.packets = arrivals.histogram.iter().sum();
            }
        });
        if j.verdict == Verdict::Fail {
            wrong.push((link, keep));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
