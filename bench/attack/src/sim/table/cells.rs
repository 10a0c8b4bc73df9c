//! Which worlds a table is made of.

use super::super::world::{Bucket, Cross, MS, Manner, Network, Pattern, World, terms};
use super::super::{Unplayable, playable};
use super::{Kind, Parameter};
use crate::switch::{Attack, Culprit, Switch};

/// A claim that a core measures many times a second, bit/s, and that still counts hundreds of packets.
const CLAIM: u64 = 10_000_000;
/// Duration of a phase, ms: the default.
const DURATION: u32 = 1000;
/// Challengers of the acceptance table, and how many of them may be corrupt, and are: the fewest that stand
/// one, of whom one is the largest part.
const ACCEPTANCE: (u16, u16) = (4, 1);
/// Start skews, ms.
const SKEWS: [u64; 6] = [0, 5, 10, 20, 50, 200];
/// Shares of cross traffic, percent.
const SHARES: [u8; 6] = [0, 5, 10, 20, 30, 50];
/// Bucket sizes, in ms of the claim.
const BUCKETS: [u64; 6] = [0, 250, 500, 1000, 4000, 16_000];

/// One kind of run.
pub(super) struct Cell {
    pub(super) world: World,
    pub(super) switch: Option<Switch>,
    pub(super) parameter: Option<Parameter>,
}

/// The cells of a table, and what of it cannot be played.
pub(super) fn cells(kind: Kind) -> (Vec<Cell>, Vec<Unplayable>) {
    let cells = match kind {
        Kind::Corruption => corruption(),
        Kind::Acceptance => acceptance(),
        Kind::Skew => skew(),
        Kind::Cross => cross(),
        Kind::Shaper => shaper(),
    };
    let elsewhere = |a: &Attack| !playable(*a) && kind == Kind::Acceptance;
    let unplayable = Attack::ALL.into_iter().filter(elsewhere);
    (cells, unplayable.map(Unplayable::Elsewhere).collect())
}

/// No attack, then each in each manner.
fn plays(of: impl Fn(Attack) -> bool) -> Vec<(Option<Attack>, Manner)> {
    let tried = Attack::ALL.into_iter().filter(|a| playable(*a) && of(*a));
    let manners = tried.flat_map(|a| Manner::of(a).iter().map(move |m| (Some(a), *m)));
    std::iter::once((None, Manner::Gross))
        .chain(manners)
        .collect()
}

fn switch(attack: Option<Attack>, corrupt: u16) -> Option<Switch> {
    attack.map(|attack| Switch { attack, corrupt })
}

fn corruption() -> Vec<Cell> {
    let by_challengers =
        |a: Attack| matches!(a.culprit(), Culprit::Challengers | Culprit::Collusion);
    let cell = |f: u16, (attack, manner): (Option<Attack>, Manner)| Cell {
        world: World {
            terms: terms(CLAIM, 10, f, DURATION),
            network: Network::lan(CLAIM),
            manner,
        },
        switch: switch(attack, f),
        parameter: None,
    };
    let corrupt = (1..=3).flat_map(|f| {
        let plays = plays(by_challengers);
        plays.into_iter().map(move |p| (f, p))
    });
    std::iter::once((0, (None, Manner::Gross)))
        .chain(corrupt)
        .map(|(f, play)| cell(f, play))
        .collect()
}

fn acceptance() -> Vec<Cell> {
    let (n, f) = ACCEPTANCE;
    let plays = plays(|_| true);
    let cell = |(attack, manner): &(Option<Attack>, Manner), network: &Network| Cell {
        world: World {
            terms: terms(CLAIM, n, f, DURATION),
            network: network.clone(),
            manner: *manner,
        },
        switch: switch(*attack, f),
        parameter: None,
    };
    let networks = Network::all(CLAIM);
    plays
        .iter()
        .flat_map(|play| networks.iter().map(|network| cell(play, network)))
        .collect()
}

fn quiet(network: Network, parameter: Parameter, duration_ms: u32) -> Cell {
    let (n, f) = ACCEPTANCE;
    Cell {
        world: World {
            terms: terms(CLAIM, n, f, duration_ms),
            network,
            manner: Manner::Gross,
        },
        switch: None,
        parameter: Some(parameter),
    }
}

fn skew() -> Vec<Cell> {
    let cell = |value: &u64| {
        let network = Network {
            skew_ns: value * MS,
            ..Network::plain("metro", CLAIM, 5 * MS)
        };
        let name = "start skew, ms";
        quiet(
            network,
            Parameter {
                name,
                value: *value,
            },
            DURATION,
        )
    };
    SKEWS.iter().map(cell).collect()
}

fn cross() -> Vec<Cell> {
    let cell = |share_percent: u8, pattern| {
        let name = match pattern {
            Pattern::Steady => "steady cross traffic, % of the link",
            Pattern::OnOff => "cross traffic in bursts, % of the link",
        };
        let cross = Cross {
            share_percent,
            pattern,
        };
        let network = Network {
            cross: Some(cross),
            ..Network::plain("metro", CLAIM, 5 * MS)
        };
        let value = share_percent.into();
        quiet(network, Parameter { name, value }, DURATION)
    };
    [Pattern::Steady, Pattern::OnOff]
        .into_iter()
        .flat_map(|pattern| SHARES.iter().map(move |share| cell(*share, pattern)))
        .collect()
}

/// A link of a fifth of its claim behind a bucket whose peak is twice the claim.
fn shaper() -> Vec<Cell> {
    let cell = |ms: u64, duration: u32| {
        let bytes = CLAIM / 8 * ms / 1000;
        let bucket = Bucket {
            bytes,
            peak_bps: 2 * CLAIM,
        };
        let network = Network {
            bucket: (bytes > 0).then_some(bucket),
            ..Network::plain("metro", CLAIM / 5, 5 * MS)
        };
        let name = if duration == DURATION {
            "bucket, bytes; D = 1 s"
        } else {
            "bucket, bytes; D = 10 s"
        };
        quiet(network, Parameter { name, value: bytes }, duration)
    };
    [DURATION, 10 * DURATION]
        .into_iter()
        .flat_map(|d| BUCKETS.iter().map(move |ms| cell(*ms, d)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_is_played_or_named_as_unplayable() {
        let (cells, unplayable) = cells(Kind::Acceptance);
        for attack in Attack::ALL {
            let played: Vec<&Cell> = cells
                .iter()
                .filter(|c| c.switch.is_some_and(|s| s.attack == attack))
                .collect();
            let named = unplayable.contains(&Unplayable::Elsewhere(attack));
            let wanted = Manner::of(attack).len() * Network::all(CLAIM).len();
            assert_eq!(played.len(), if named { 0 } else { wanted }, "{attack}");
        }
        assert!(cells.iter().all(|c| c.world.terms.check().is_ok()));
    }

    #[test]
    fn no_cell_has_more_corrupt_ones_than_its_figure_stands() {
        for kind in Kind::ALL {
            for cell in cells(kind).0 {
                assert!(cell.world.terms.check().is_ok());
                assert!(cell.switch.is_none_or(|s| s.corrupt <= cell.world.terms.f));
            }
        }
    }
}
