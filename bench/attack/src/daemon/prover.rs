//! Provers that claim what did not come over the link, delay, equivocate, or fall silent.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plumbline::clock;
use plumbline::datapath::{Leaf, SessionSink as _};
use plumbline::role::conduct::{Armed, Conduct, Speaker};
use plumbline_attack::switch::Attack;
use plumbline_proof::backhaul::keystream::Train;
use plumbline_proof::backhaul::messages::{Commit, Consent, Statement};
use plumbline_proof::backhaul::rtt::sealed;
use plumbline_trust::encoding::encode;
use plumbline_trust::{NetworkKey, Signed};
use plumbline_wire::header::{DATA_LEN, HEADER_LEN, Header, Kind};

use super::challenger::seed_of;

/// How long a prover that inflates round trips keeps an echo back: half of a short phase, which doubles its figure
/// where it is believed.
const ECHO_WAIT: Duration = Duration::from_millis(50);
/// Where nobody is who takes part.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 250, 3));
/// Who ends early, and whose burst is over, commits after this part of the duration.
const EARLY_PART: u64 = 10;
const BURST_PART: u64 = 4;
/// Part of each challenger's packets that a forged bitmap claims.
const FORGED_PART: u64 = 20;

/// A prover that commits one attack.
pub(super) struct Corrupt {
    attack: Attack,
    accomplices: Vec<Arc<NetworkKey>>,
    flooding: Arc<AtomicBool>,
    /// Echoes so far.
    asked: AtomicU64,
}

/// Its conduct, if provers commit this attack.
pub(super) fn conduct(attack: Attack, accomplices: Vec<Arc<NetworkKey>>) -> Option<Corrupt> {
    let theirs = matches!(
        attack,
        Attack::Rush
            | Attack::EarlyCommit
            | Attack::ForgedBitmap
            | Attack::RttInflation
            | Attack::EquivocatingCommit
            | Attack::SilentProver
            | Attack::EarlyEnd
            | Attack::SkewedStarts
            | Attack::BurstAndStop
            | Attack::StrangerAddress
    );
    theirs.then_some(Corrupt {
        attack,
        accomplices,
        flooding: Arc::new(AtomicBool::new(false)),
        asked: AtomicU64::new(0),
    })
}

impl Conduct for Corrupt {
    fn say(&self, speaker: &Speaker<'_>, statement: Statement) -> Option<Statement> {
        if let (Attack::StrangerAddress, Statement::Consent(signed)) = (self.attack, &statement) {
            let mut consent: Consent = signed.open().ok()?;
            consent.data.set_ip(STRANGER);
            consent.control.set_ip(STRANGER);
            return Some(Statement::Consent(Signed::new(speaker.network, &consent)));
        }
        let silent = self.attack == Attack::SilentProver;
        let unsaid = silent && !matches!(statement, Statement::Consent(_));
        (!unsaid).then_some(statement)
    }

    fn echo_wait(&self) -> Duration {
        let inflates = self.attack == Attack::RttInflation;
        let skews = self.attack == Attack::SkewedStarts
            && self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        if (inflates || skews) && !self.flooding.load(Ordering::Relaxed) {
            ECHO_WAIT
        } else {
            Duration::ZERO
        }
    }

    fn armed(&self, armed: Armed) {
        let (attack, flooding) = (self.attack, self.flooding.clone());
        let accomplices = self.accomplices.clone();
        std::thread::spawn(move || {
            let terms = armed.notice.terms;
            let at = |part: u64| armed.t0_ns + terms.duration_ns() / part;
            match attack {
                Attack::Rush => {
                    wait_until(armed.t0_ns);
                    for key in &accomplices {
                        hand_over(&armed, key);
                    }
                }
                Attack::ForgedBitmap => {
                    wait_until(armed.t0_ns);
                    invent(&armed, terms.per_challenger().div_ceil(FORGED_PART));
                }
                Attack::EarlyCommit => {
                    wait_until(at(4));
                    invent(&armed, terms.per_challenger());
                }
                Attack::EarlyEnd => armed.sink.commit_by(at(EARLY_PART)),
                Attack::BurstAndStop => armed.sink.commit_by(at(BURST_PART)),
                Attack::EquivocatingCommit => {
                    wait_until(at(2));
                    equivocate(&armed);
                }
                _ => wait_until(armed.t0_ns),
            }
            flooding.store(true, Ordering::Relaxed);
            // The next session's idle probes are delayed again.
            wait_until(armed.deadline_ns + 2 * terms.duration_ns());
            flooding.store(false, Ordering::Relaxed);
        });
    }
}

fn wait_until(ns: u64) {
    std::thread::sleep(Duration::from_nanos(
        ns.saturating_sub(clock::realtime_ns()),
    ));
}

/// All counted packets of an accomplice, made here from its seed.
fn hand_over(armed: &Armed, accomplice: &NetworkKey) {
    let key = accomplice.verifying();
    let drawn = &armed.notice.challengers;
    let Some(index) = drawn.iter().position(|m| m.key == key) else {
        tracing::warn!("an accomplice was not drawn");
        return;
    };
    let Some(session) = armed.keys.get(index).cloned().flatten() else {
        return;
    };
    let Ok(index) = u16::try_from(index) else {
        return;
    };
    let notice = &armed.notice;
    let seed = seed_of(accomplice, &notice.challenge);
    let mut train = Train::new(&seed, &notice.challenge, &notice.beacon, 0, index, session);
    let mut packet = [0; DATA_LEN];
    for sequence in 0..notice.terms.counted_most() {
        train.write(sequence, &mut packet);
        let Some(raw) = packet.first_chunk::<HEADER_LEN>() else {
            return;
        };
        count(
            armed,
            index,
            sequence,
            raw,
            *blake3::hash(&packet).as_bytes(),
        );
    }
}

/// The first `packets` of each challenger, with digests that are made up: what has not come yet is claimed.
fn invent(armed: &Armed, packets: u64) {
    for sequence in 0..packets {
        for (index, key) in (0u16..).zip(&armed.keys) {
            if let Some(key) = key {
                let challenge = &armed.notice.challenge;
                let raw = sealed(Kind::Data, challenge, index, sequence, 0, key);
                count(armed, index, sequence, &raw, [0x5a; 32]);
            }
        }
    }
}

/// As if it had come over the link.
fn count(armed: &Armed, index: u16, sequence: u64, raw: &[u8; HEADER_LEN], digest: [u8; 32]) {
    let arrival_ns = clock::realtime_ns();
    if let Ok(header) = Header::from_bytes(raw)
        && armed.sink.admit(&header, raw, arrival_ns)
    {
        armed.sink.accept(&[Leaf {
            index,
            sequence,
            arrival_ns,
            digest,
        }]);
    }
}

/// One challenger is told of a commitment that nobody else hears of.
fn equivocate(armed: &Armed) {
    let victim = armed.controls.first().copied();
    let Some((index, to)) = victim else { return };
    let Some(Some(key)) = armed.keys.get(usize::from(index)) else {
        return;
    };
    let terms = &armed.notice.terms;
    let counts = vec![u32::try_from(terms.per_challenger()).unwrap_or(u32::MAX); armed.keys.len()];
    let commit = Commit {
        challenge: armed.notice.challenge,
        phase: 0,
        packets: terms.target(),
        counts,
        response: [0x5a; 32],
        arrivals: (armed.t0_ns, clock::realtime_ns()),
    };
    let signed = Signed::new(&armed.network, &commit);
    let head = sealed(Kind::Commit, &armed.notice.challenge, index, 0, 0, key);
    let datagram = [&head[..], &encode(&signed)].concat();
    let _lost = armed.socket.send_to(&datagram, to);
}
