use super::*;
use proptest::prelude::*;

/// The account at a place of these tests' pools.
fn at(place: u32) -> Address {
    let mut bytes = [0xaa; 20];
    bytes[16..].copy_from_slice(&place.to_be_bytes());
    Address(bytes)
}

fn everyone(place: u32) -> Look {
    Look {
        account: at(place),
        tickets: 1,
        fate: Fate::Seated,
    }
}

fn draw(mix: Digest, pool: u32, n: usize) -> Draw {
    Draw {
        mix,
        id: [7; 32],
        pool,
        n,
        most: 1,
    }
}

fn places(looks: &[Look]) -> Vec<u32> {
    let seated = looks.iter().filter(|l| l.fate == Fate::Seated);
    seated
        .map(|l| u32::from_be_bytes(l.account.0[16..].try_into().unwrap()))
        .collect()
}

/// Uniform and weighted draws hit each holder as often as its tickets say: 100,000 draws, each count within five
/// standard deviations of the binomial (a fair draw leaves them once in two million).
#[test]
fn frequencies_are_those_of_the_binomial() {
    const DRAWS: u32 = 100_000;
    let tickets = [1u8, 1, 2, 4, 8, 8];
    let total: u32 = tickets.iter().map(|t| u32::from(*t)).sum();
    let (mut weighted, mut uniform) = ([0u32; 6], [0u32; 6]);
    for i in 0..DRAWS {
        let alike = draw(keccak256(&[&i.to_be_bytes()]), 6, 1);
        let by_stake = Draw { most: 8, ..alike };
        let stake = |place| Look {
            tickets: tickets[place as usize],
            ..everyone(place)
        };
        uniform[places(&alike.made(everyone))[0] as usize] += 1;
        weighted[places(&by_stake.made(stake))[0] as usize] += 1;
    }
    let n = f64::from(DRAWS);
    let near = |count: u32, p: f64| {
        let (mean, deviation) = (n * p, (n * p * (1.0 - p)).sqrt());
        assert!(
            (f64::from(count) - mean).abs() < 5.0 * deviation,
            "{count} of {mean}"
        );
    };
    for (i, count) in weighted.into_iter().enumerate() {
        near(count, f64::from(tickets[i]) / f64::from(total));
        near(uniform[i], 1.0 / 6.0);
    }
}

/// What it is worth to see the mix and keep k reveals back: of 2^k draws the best. 20,000 draws of 5 from
/// 30, of whom 6 are corrupt: the share of corrupt seats, and how often there are two of them, which breaks f = 1.
/// The table of `docs/chain.md` is what this measures.
#[test]
fn choosing_among_mixes_gains_what_the_documents_say() {
    const DRAWS: u32 = 20_000;
    // Hypergeometric: 1 - P(0) - P(1), P(0) = C(24,5)/C(30,5), P(1) = 6 C(24,4)/C(30,5).
    let once = 1.0 - (42_504.0 + 6.0 * 10_626.0) / 142_506.0;
    let rows = (0..4u32).map(|k| {
        let best = (0..DRAWS).map(|i| {
            let corrupt = (0..1u32 << k).map(|choice| {
                let mix = keccak256(&[&i.to_be_bytes(), &choice.to_be_bytes()]);
                let drawn = draw(mix, 30, 5).made(everyone);
                places(&drawn).iter().filter(|p| **p < 6).count()
            });
            u32::try_from(corrupt.max().unwrap()).unwrap()
        });
        let best: Vec<u32> = best.collect();
        let n = f64::from(DRAWS);
        let share = f64::from(best.iter().sum::<u32>()) / (5.0 * n);
        let broken = best.iter().filter(|c| **c >= 2).count();
        let broken = f64::from(u32::try_from(broken).unwrap());
        let p = 1.0 - f64::powi(1.0 - once, 1 << k);
        let (mean, deviation) = (n * p, (n * p * (1.0 - p)).sqrt());
        assert!(
            (broken - mean).abs() < 5.0 * deviation,
            "k = {k}: {broken} of {mean}"
        );
        let percent = |x: f64| format!("{:.1} %", 100.0 * x);
        let cells = [0.2, share, broken / n, p].map(percent).join(" | ");
        format!("| {k} | {cells} |")
    });
    let rows: Vec<String> = rows.collect();
    let table = rows.join("\n");
    let documents = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/chain.md");
    let text = std::fs::read_to_string(documents).unwrap();
    assert!(text.contains(&table), "{documents} should have\n{table}");
}

#[test]
fn a_draw_ends_when_it_has_all_when_nobody_is_left_and_when_it_looked_long_enough() {
    let mixes = (0..200u32).map(|i| keccak256(&[&i.to_be_bytes()]));
    for mix in mixes {
        // Just as many as seats: all of them, each once.
        let all = draw(mix, 64, 64).made(everyone);
        let mut drawn = places(&all);
        drawn.sort_unstable();
        assert!(drawn.into_iter().eq(0..64));
        // One too few: all looked at, none twice.
        assert_eq!(draw(mix, 4, 5).made(everyone).len(), 4);
        // Nobody there at all.
        assert!(draw(mix, 0, 5).made(everyone).is_empty());
        let away = |place| Look {
            fate: Fate::Away,
            ..everyone(place)
        };
        assert_eq!(draw(mix, 100_000, 5).made(away).len(), 128);
        let weighted = Draw {
            most: 8,
            ..draw(mix, 100_000, 5)
        };
        assert_eq!(weighted.made(away).len(), 256);
    }
}

#[test]
fn looks_are_as_the_contract_writes_them() {
    let look = Look {
        account: Address([9; 20]),
        tickets: 3,
        fate: Fate::Related,
    };
    let mut word = [0; 32];
    word[10..30].copy_from_slice(&[9; 20]);
    word[30..].copy_from_slice(&[3, 4]);
    assert_eq!(Look::from_word(&word), Some(look));
    for (place, value) in [(31, 0), (31, 6), (0, 1), (9, 1)] {
        let mut bent = word;
        bent[place] = value;
        assert_eq!(Look::from_word(&bent), None);
    }
}

fn pool(tickets: u8, place: u32) -> Look {
    let fates = [Fate::Seated, Fate::Silent, Fate::Away, Fate::Seated];
    Look {
        tickets: tickets.min(1 + (place % 8) as u8),
        fate: fates[place as usize % 4],
        ..everyone(place)
    }
}

proptest! {
    /// What was drawn repeats; whatever is changed in it that the mix decides does not.
    #[test]
    fn a_draw_repeats_and_a_bent_one_does_not(mix in any::<[u8; 32]>(), size in 1u32..200, n in 1usize..12, weighted in any::<bool>(), at in any::<prop::sample::Index>()) {
        let most = if weighted { 8 } else { 1 };
        let one = Draw { most, ..draw(mix, size, n) };
        let looks = one.made(|place| pool(most, place));
        let seated = one.seated(&looks).unwrap();
        prop_assert!(seated.len() <= n);
        prop_assert!(looks.iter().filter(|l| l.fate == Fate::Seated).map(|l| l.account).eq(seated.iter().copied()));
        let at = at.index(looks.len());
        let bent = |change: &dyn Fn(&mut Vec<Look>)| {
            let mut bent = looks.clone();
            change(&mut bent);
            one.seated(&bent)
        };
        // One more, one fewer, an unlucky one seated, a lucky one not, one of its holders twice.
        prop_assert_eq!(bent(&|l| l.push(l[at])), Err(Wrong::TooMany));
        let fewer = bent(&|l| l.truncate(l.len() - 1));
        prop_assert_eq!(fewer, Err(Wrong::TooFew));
        let other = if looks[at].fate == Fate::Unlucky { Fate::Seated } else { Fate::Unlucky };
        prop_assert_eq!(bent(&|l| l[at].fate = other), Err(Wrong::Coin(at)));
        if let Some(other) = looks.iter().position(|l| l.account != looks[at].account) {
            prop_assert!(bent(&|l| l[at].account = l[other].account).is_err());
        }
        // Another challenge has other looks: n seats of so many places come out alike by chance alone.
        if size > 100 && n > 8 {
            let elsewhere = Draw { id: [8; 32], ..one };
            prop_assert_ne!(elsewhere.made(|place| pool(most, place)), looks);
        }
    }
}
