//! What actors say to one another, how it is lost, and the link that is measured.

use alloy::primitives::{Address, B256, Bytes};

use plumbline_proof::backhaul::params::{DEADLINE_DURATIONS, Terms};

use crate::clock::{Dice, SECOND};

/// A prover's commitment, signed for the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) id: B256,
    pub(crate) counts: Vec<u32>,
    pub(crate) response: B256,
    pub(crate) signature: Bytes,
    /// What the link took: physics, not testimony; a challenger sees it on its own clock.
    pub(crate) took_ns: u64,
}

impl Commit {
    pub(crate) fn packets(&self) -> u64 {
        self.counts.iter().map(|c| u64::from(*c)).sum()
    }
}

/// A challenger's report, signed for the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) id: B256,
    pub(crate) index: u16,
    pub(crate) window_us: u32,
    pub(crate) packets: u32,
    pub(crate) response: B256,
    pub(crate) signature: Bytes,
}

/// What travels between actors.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Notice {
        id: B256,
    },
    Seed {
        id: B256,
        index: u16,
    },
    Consent {
        id: B256,
    },
    Begun {
        id: B256,
    },
    Start {
        id: B256,
    },
    Flood {
        id: B256,
        index: u16,
        smuggled: bool,
    },
    Commit(Commit),
    Report(Report),
}

impl Message {
    /// For the trace.
    pub(crate) fn tag(&self) -> u64 {
        match self {
            Self::Notice { .. } => 1,
            Self::Seed { .. } => 2,
            Self::Consent { .. } => 3,
            Self::Begun { .. } => 4,
            Self::Start { .. } => 5,
            Self::Flood { .. } => 6,
            Self::Commit(_) => 7,
            Self::Report(_) => 8,
        }
    }
}

/// How bad the network is in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) loss_permille: u64,
    pub(crate) twice_permille: u64,
    pub(crate) slowest_ns: u64,
    pub(crate) reorg_permille: u64,
    /// Mean time between two crashes, of whomever; zero: none.
    pub(crate) crash_every_ns: u64,
}

impl Faults {
    /// Nothing goes wrong.
    pub(crate) const NONE: Self = Self {
        loss_permille: 0,
        twice_permille: 0,
        slowest_ns: SECOND / 10,
        reorg_permille: 0,
        crash_every_ns: 0,
    };

    pub(crate) fn throw(dice: &mut Dice) -> Self {
        Self {
            loss_permille: dice.between(0, 150),
            twice_permille: dice.between(0, 100),
            slowest_ns: dice.between(SECOND / 20, 3 * SECOND),
            reorg_permille: dice.between(5, 60),
            crash_every_ns: if dice.chance(750) {
                dice.between(20 * SECOND, 120 * SECOND)
            } else {
                0
            },
        }
    }

    /// When the copies of something sent arrive, from now; none if it is lost.
    pub(crate) fn travel(&self, dice: &mut Dice) -> Vec<u64> {
        if dice.chance(self.loss_permille) {
            return Vec::new();
        }
        let copies = if dice.chance(self.twice_permille) {
            2
        } else {
            1
        };
        (0..copies)
            .map(|_| dice.between(SECOND / 1000, self.slowest_ns))
            .collect()
    }
}

/// A flood over a link: who sent (and who of them handed its bytes over by another way), on what terms.
pub(crate) struct Flood<'a> {
    pub(crate) link_bps: u64,
    pub(crate) terms: Terms,
    pub(crate) senders: &'a std::collections::BTreeMap<u16, bool>,
}

impl Flood<'_> {
    /// Packets counted of each challenger, and how long it took.
    pub(crate) fn run(&self, dice: &mut Dice) -> (Vec<u32>, u64) {
        let terms = &self.terms;
        let most = u128::from(terms.counted_most());
        let over: Vec<u16> = self.senders.iter().filter(|s| !s.1).map(|s| *s.0).collect();
        let mut counts = vec![0_u32; usize::from(terms.n)];
        for (index, _) in self.senders.iter().filter(|s| *s.1) {
            counts[usize::from(*index)] = u32::try_from(most).unwrap();
        }
        let smuggled: u128 = counts.iter().map(|c| u128::from(*c)).sum();
        let wanted = u128::from(terms.target()) - smuggled;
        let senders = over.len() as u128;
        let offered = u128::from(terms.offer_each_bps()) * senders;
        let rate = u128::from(self.link_bps).min(offered).max(1);
        let packet = 8 * u128::from(terms.packet_bytes) * 1_000_000_000;
        let longest_ns = u128::from(DEADLINE_DURATIONS * terms.duration_ns());
        let took = if wanted <= senders * most {
            (wanted * packet).div_ceil(rate).min(longest_ns)
        } else {
            longest_ns
        };
        let carried = (rate * took / packet).min(wanted).min(senders * most);
        for (place, index) in over.iter().enumerate() {
            let rest = u128::from((place as u128) < carried % senders.max(1));
            counts[usize::from(*index)] = u32::try_from(carried / senders + rest).unwrap();
        }
        // A link serves nobody exactly alike.
        for pair in over.chunks_exact(2) {
            let (a, b) = (usize::from(pair[0]), usize::from(pair[1]));
            let room = (u32::try_from(most).unwrap() - counts[a]).min(counts[b]);
            let moved =
                u32::try_from(dice.between(0, u64::from(room.min(counts[b] / 20)))).unwrap();
            counts[a] += moved;
            counts[b] -= moved;
        }
        (counts, u64::try_from(took).unwrap().max(1))
    }
}

/// The settlement address of actor number `number`, in a hash that tells actors apart.
pub(crate) fn secret(account: Address, purpose: u64) -> B256 {
    let mut bytes = account.to_vec();
    bytes.extend_from_slice(&purpose.to_be_bytes());
    alloy::primitives::keccak256(bytes)
}
