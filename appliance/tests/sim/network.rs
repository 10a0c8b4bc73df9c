//! What actors say to one another, how it is lost, and the link that is measured.

use alloy::primitives::{Address, B256, Bytes};

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
    pub(crate) tt_ns: u64,
    pub(crate) tt_plus_ns: u64,
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

/// Bits of a packet at the IP layer.
const PACKET_BITS: u128 = 12_000;

/// A flood over a link: who sent (and who of them handed its bytes over by another way), on what terms.
pub(crate) struct Flood<'a> {
    pub(crate) link_bps: u64,
    pub(crate) claim_bps: u64,
    pub(crate) duration_ms: u32,
    pub(crate) n: u16,
    pub(crate) f: u16,
    pub(crate) senders: &'a std::collections::BTreeMap<u16, bool>,
}

impl Flood<'_> {
    /// Packets counted of each challenger, and how long it took.
    pub(crate) fn run(&self, dice: &mut Dice) -> (Vec<u32>, u64) {
        let honest = u128::from(self.n - self.f);
        let divisor = 8 * 1500 * honest * 1000;
        let volume = u128::from(self.claim_bps) * u128::from(self.duration_ms);
        let cap = volume.div_ceil(divisor);
        let offer = u128::from(self.claim_bps) * 115 / (100 * honest);
        let over: Vec<u16> = self.senders.iter().filter(|s| !s.1).map(|s| *s.0).collect();
        let smuggled = self.senders.len() - over.len();
        let mut counts = vec![0_u32; usize::from(self.n)];
        for (index, _) in self.senders.iter().filter(|s| *s.1) {
            counts[usize::from(*index)] = u32::try_from(cap).unwrap();
        }
        let wanted = honest * cap - smuggled as u128 * cap;
        let senders = over.len() as u128;
        let rate = u128::from(self.link_bps).min(offer * senders).max(1);
        let longest_ns = 4 * u128::from(self.duration_ms) * 1_000_000;
        let needed_ns = (wanted * PACKET_BITS * 1_000_000_000).div_ceil(rate);
        let reachable = wanted <= senders * cap;
        let took = if reachable {
            needed_ns.min(longest_ns)
        } else {
            longest_ns
        };
        let carried = (rate * took / (PACKET_BITS * 1_000_000_000))
            .min(wanted)
            .min(senders * cap);
        for (place, index) in over.iter().enumerate() {
            let rest = u128::from((place as u128) < carried % senders.max(1));
            counts[usize::from(*index)] = u32::try_from(carried / senders + rest).unwrap();
        }
        // A link serves nobody exactly alike.
        for pair in over.chunks_exact(2) {
            let (a, b) = (usize::from(pair[0]), usize::from(pair[1]));
            let room = (u32::try_from(cap).unwrap() - counts[a]).min(counts[b]);
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
