//! One party's word only ever removes that party: whatever a challenger says, the judgement of the others is that of
//! a run in which it says nothing.
//!
//! ```text
//!  run A: challenger k is silent ───────────────► valid, counts, verdict
//!  run B: between any two events it may say       │ the same, of all others
//!         anything, in any order, any number of times ─┘ … and of the log without its lines
//! ```
//!
//! What it sends over the data path is another matter: packets use the link. Here it sends none.

use std::net::SocketAddr;

use plumbline_proof::backhaul::judge::{Judgement, Verdict, judge_on};
use plumbline_proof::backhaul::messages::{
    Abort, Arrivals, Begun, Commit, Consent, Ready, Report, Reveal, Rtt, SeedCommitment, Start,
    Statement, Window,
};
use plumbline_proof::backhaul::record::Record;
use plumbline_trust::encoding::encode;
use plumbline_trust::identity::{Message, NetworkKey, Signature, Signed};

use super::cast;
use super::chance::Chance;
use super::play::Play;
use super::session::{End, Session};
use super::tests::one;
use super::world::{Manner, Network, World, terms};

const CASES: u64 = 640;
/// Of so many events one is followed by a statement.
const PACES: [u64; 4] = [5, 20, 100, 400];
const KINDS: u64 = 14;

/// A link that is never the limit, so that what is counted of each follows from its own schedule.
fn world(n: u16, f: u16) -> World {
    World {
        terms: terms(2_000_000, n, f, 200),
        network: Network {
            jitter_ns: 0,
            ..Network::lan(1_000_000_000)
        },
        manner: Manner::Gross,
    }
}

/// Who says anything at all.
struct Speaker {
    at: usize,
    chance: Chance,
    key: &'static NetworkKey,
    said: Vec<Statement>,
}

impl Speaker {
    fn coin(&mut self) -> bool {
        self.chance.below(2) == 0
    }

    fn number(&mut self) -> u64 {
        match self.chance.below(4) {
            0 => 0,
            1 => self.chance.below(1000),
            2 => u64::MAX - self.chance.below(3),
            _ => self.chance.next(),
        }
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number() & u64::from(u32::MAX)).unwrap()
    }

    fn some<T>(&mut self, most: u64, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        let length = self.chance.below(most + 1);
        (0..length).map(|_| one(self)).collect()
    }

    fn index(&mut self) -> u16 {
        match self.chance.below(4) {
            0 => u16::try_from(self.chance.below(70)).unwrap(),
            _ => u16::try_from(self.at).unwrap(),
        }
    }

    fn challenge(&mut self, session: &Session) -> [u8; 32] {
        match self.chance.below(10) {
            0 => self.chance.bytes(),
            _ => session.challenge,
        }
    }

    fn digest(&mut self) -> [u8; 32] {
        if self.coin() {
            [0; 32]
        } else {
            self.chance.bytes()
        }
    }

    /// Its own, another challenger's, the prover's, a stranger's, or one of the other family.
    fn address(&mut self, n: usize) -> SocketAddr {
        let other = usize::try_from(self.chance.below(n as u64)).unwrap();
        match self.chance.below(7) {
            0 => cast::data_of(self.at),
            1 => cast::control_of(self.at),
            2 => cast::data_of(other),
            3 => cast::control_of(other),
            4 => cast::prover_data(),
            5 => cast::stranger(),
            _ => "[::1]:9".parse().unwrap(),
        }
    }

    fn echo(&mut self) -> Rtt {
        Rtt {
            window: Window::During,
            echo: self.some(80, |s| s.chance.bytes()[0]),
            received_ns: self.number(),
            signature: Signature([7; 64]),
        }
    }

    fn report(&mut self, session: &Session) -> Report {
        let party = &session.parties[self.at];
        Report {
            challenge: self.challenge(session),
            phase: u8::from(self.chance.below(8) == 0),
            index: self.index(),
            sent_first_ns: self.number(),
            committed_ns: self.number(),
            window_us: self.small(),
            rtts: self.some(3, Self::echo),
            rho_ns: self.number(),
            packets: self.small(),
            sent: self.number(),
            sent_back: self.some(300, Self::small),
            control_sent: self.number(),
            response: self.digest(),
            heard: self.coin().then(|| Signed {
                signature: Signature([1; 64]),
                ..session.coordinator.log()[0].signed().clone()
            }),
            // What opens its commitment, if it likes.
            seed: if self.coin() {
                party.seed
            } else {
                self.digest()
            },
            ephemeral_secret: self.digest(),
            clock: "\u{7}any".into(),
            clock_error_ns: self.number(),
            arrivals: self.coin().then(Arrivals::default),
            settlement: self.some(80, |s| s.chance.bytes()[0]),
        }
    }

    fn signed<M: Message>(&mut self, message: &M) -> Signed {
        let mut signed = Signed::new(self.key, message);
        match self.chance.below(20) {
            0 => signed.signature.0[3] ^= 1,
            1 => signed.body.push(0),
            2 => signed.body.truncate(9),
            _ => {}
        }
        signed
    }

    /// Anything.
    fn next(&mut self, session: &Session) -> Statement {
        let n = session.parties.len();
        let challenge = self.challenge(session);
        let log = session.coordinator.log();
        let line = usize::try_from(self.chance.below(log.len() as u64)).unwrap();
        match self.chance.below(KINDS) {
            0 | 1 => {
                let message = SeedCommitment {
                    challenge,
                    index: self.index(),
                    seed_hash: self.digest(),
                    ephemeral: self.digest(),
                    data: self.address(n),
                    control: self.address(n),
                };
                Statement::SeedCommitment(self.signed(&message))
            }
            2 => {
                let message = Ready {
                    challenge,
                    index: self.index(),
                    rho_ns: self.number(),
                    reached: (self.chance.below(4) == 0).then(|| self.echo()),
                    settlement: Vec::new(),
                };
                Statement::Ready(self.signed(&message))
            }
            3..=5 => {
                let message = self.report(session);
                Statement::Report(self.signed(&message))
            }
            6 => {
                let message = Abort {
                    challenge,
                    index: self.coin().then(|| self.index()),
                    why: if self.coin() { "\n" } else { "no" }.into(),
                    seed: self.coin().then(|| self.digest()),
                };
                Statement::Abort(self.signed(&message))
            }
            7 => {
                let consent = Consent {
                    challenge,
                    data: self.address(n),
                    control: self.address(n),
                    ephemeral: self.digest(),
                    cap_packets: self.number(),
                    until_ns: self.number(),
                    senders: Vec::new(),
                };
                Statement::Consent(self.signed(&consent))
            }
            8 => {
                let setup = self.digest();
                Statement::Begun(self.signed(&Begun { challenge, setup }))
            }
            9 => {
                let t0_ns = self.number();
                let start = Start {
                    challenge,
                    phase: 0,
                    t0_ns,
                };
                Statement::Start(self.signed(&start))
            }
            10 => {
                let commit = Commit {
                    challenge,
                    phase: 0,
                    packets: self.number(),
                    counts: self.some(9, Self::small),
                    response: self.digest(),
                    arrivals: (self.number(), self.number()),
                };
                Statement::Commit(self.signed(&commit))
            }
            11 => {
                let reveal = Reveal {
                    challenge,
                    phase: 0,
                    roots: self.some(9, Self::digest),
                    bitmaps: self.some(9, |s| s.some(9, |s| s.chance.bytes()[0])),
                    accounting: Default::default(),
                    settlement: Vec::new(),
                };
                Statement::Reveal(self.signed(&reveal))
            }
            // What is in the log, again: as it is, or with its own name on it.
            12 => match log[line].clone() {
                Statement::Ready(of) if self.coin() => Statement::Report(of),
                Statement::Report(of) if self.coin() => Statement::Report(Signed {
                    key: self.key.verifying(),
                    ..of
                }),
                line => line,
            },
            _ => match self.said.last().cloned() {
                Some(last) => last,
                None => Statement::Ready(Signed {
                    key: self.key.verifying(),
                    body: encode(&self.number()),
                    signature: Signature([0; 64]),
                }),
            },
        }
    }
}

fn except<T>(at: usize, all: impl Iterator<Item = T>) -> Vec<T> {
    let others = all.enumerate().filter(|(i, _)| *i != at);
    others.map(|(_, one)| one).collect()
}

/// What is compared: of all but the speaker.
#[derive(Debug, PartialEq)]
struct Others {
    verdict: Verdict,
    valid: Vec<bool>,
    counts: Vec<u32>,
}

fn others(at: usize, record: &Record, judgement: &Judgement) -> Others {
    let valid = judgement.standings.iter().map(|s| s.valid);
    let counts = record.commit.iter().flat_map(|c| c.message.counts.clone());
    Others {
        verdict: judgement.verdict,
        valid: except(at, valid),
        counts: except(at, counts),
    }
}

/// A run in which challenger `at` commits to its own seed if `commits`, and for the rest says anything: of a seed,
/// after one of so many events.
fn lived(
    world: &World,
    at: usize,
    commits: bool,
    says: Option<(u64, u64)>,
) -> (Session, Judgement) {
    let mut play = Play::new(world, Some("silent-challenger".parse().unwrap()));
    play.first = at;
    let mut chance = Chance::new(1);
    let notice = cast::notice(world.terms, &mut chance);
    let (mut session, words) = Session::set(world, play, chance, &notice, &notice).unwrap();
    for (index, said) in words {
        if commits || index != at {
            session.challenger_acts(index, said);
        }
    }
    let mut speaker = Speaker {
        chance: Chance::new(says.map_or(0, |s| s.0)),
        at,
        key: &session.parties[at].person.key,
        said: Vec::new(),
    };
    let end = session.live_and(&mut |session| {
        if let Some((_, pace)) = says
            && speaker.chance.below(pace) == 0
        {
            let statement = speaker.next(session);
            speaker.said.push(statement.clone());
            session.publish(statement);
            session.pump();
        }
    });
    assert!(matches!(end, End::Judge), "{says:?}");
    let judgement = judge_on(session.coordinator.record(), one());
    (session, judgement)
}

#[test]
fn whatever_one_says_the_others_are_judged_as_if_it_were_silent() {
    let mut taken = 0;
    for (n, f, at, commits) in [
        (4, 1, 0, true),
        (4, 1, 3, false),
        (7, 2, 6, true),
        (7, 2, 3, false),
    ] {
        let world = world(n, f);
        let (silent, said) = lived(&world, at, commits, None);
        let silent = others(at, silent.coordinator.record(), &said);
        assert_eq!(silent.verdict, Verdict::Pass);
        for case in 0..CASES / 4 {
            let pace = PACES[usize::try_from(case).unwrap() % PACES.len()];
            let (session, judgement) = lived(&world, at, commits, Some((case, pace)));
            let record = session.coordinator.record();
            let is = others(at, record, &judgement);
            assert_eq!(is, silent, "{at} of {n}, case {case}");
            // The same log without what it said, but what the prover's consent rests on.
            let key = session.parties[at].person.key.verifying();
            let log = session.coordinator.log().iter();
            let kept =
                |s: &&Statement| s.signed().key != key || matches!(s, Statement::SeedCommitment(_));
            let without: Vec<Statement> = log.clone().filter(kept).cloned().collect();
            taken += log.count() - without.len();
            let without = Record::read(&without).unwrap();
            let alone = judge_on(&without, one());
            assert_eq!(others(at, &without, &alone), silent, "case {case}");
            assert_eq!(alone.curve, judgement.curve, "case {case}");
        }
    }
    // It was heard: what it says is in the logs, and changes nothing.
    assert!(taken > 500, "{taken}");
}

#[test]
fn who_did_not_sign_for_its_account_keeps_its_place_and_is_silent() {
    let world = world(4, 1);
    let at = 2;
    let mut chance = Chance::new(1);
    let bound = cast::notice(world.terms, &mut chance);
    let notice = cast::unbound(bound.clone(), at);
    let play = Play::new(&world, None);
    let (mut session, words) = Session::set(&world, play, chance, &notice, &bound).unwrap();
    for (index, said) in words {
        session.challenger_acts(index, said);
    }
    assert!(matches!(session.live(), End::Judge));
    let record = session.coordinator.record();
    let judgement = judge_on(record, one());
    assert!(session.met["bad-field"] > 0, "its words are refused");
    assert!(record.unbound[at] && record.seeds[at].is_none());
    let (silent, said) = lived(&world, at, false, None);
    let silent = others(at, silent.coordinator.record(), &said);
    assert_eq!(others(at, record, &judgement), silent);
    assert_eq!(judgement.standings[at].flags, ["NotConsented"]);
}
