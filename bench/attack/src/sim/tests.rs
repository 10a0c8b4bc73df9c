//! The virtual world against the protocol: no attack, each attack and what it meets, and that a run can be
//! repeated.

use plumbline_proof::backhaul::judge::Verdict;

use super::table::table_on;
use super::*;

/// One thread: a run has one.
pub(super) fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

const CLAIM: u64 = 10_000_000;
const DURATION: u32 = 1000;
/// Repeats every run below.
const SEED: u64 = 11;

fn world(manner: Manner, network: Network) -> World {
    World {
        terms: terms(CLAIM, 7, 2, DURATION),
        network,
        manner,
    }
}

fn lan(attack: Attack, manner: Manner) -> Outcome {
    let switch = Switch { attack, corrupt: 2 };
    run(&world(manner, Network::lan(CLAIM)), Some(switch), SEED).unwrap()
}

#[test]
fn an_honest_run_is_true_paid_and_verified() {
    let o = run(&world(Manner::Gross, Network::lan(CLAIM)), None, SEED).unwrap();
    assert_eq!(o.verdict, Some(Verdict::Pass), "{o:?}");
    assert!((o.measured_over_true - 1.0).abs() < 0.02, "{o:?}");
    assert_eq!((o.honest_paid, o.honest, o.corrupt), (7, 7, 0));
    assert_eq!(o.verified, Some(true));
    assert!(o.flags.is_empty() && o.failed.is_empty(), "{o:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_does_not() {
    let network = Network {
        loss_ppm: 10_000,
        ..Network::plain("metro", CLAIM, 5_000_000)
    };
    let of = |seed| {
        let switch = Some("withhold=2".parse().unwrap());
        run(&world(Manner::Gross, network.clone()), switch, seed).unwrap()
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1).guaranteed_over_true, of(2).guaranteed_over_true);
}

#[test]
fn the_number_of_threads_changes_nothing_and_a_row_names_its_worst_run() {
    let on = |threads| {
        let threads = NonZeroUsize::new(threads).unwrap();
        table_on(Kind::Skew, 12, SEED, threads, &|_, _| {})
    };
    let table = on(1);
    assert_eq!(table, on(3));
    assert_eq!((table.runs, table.disagreements), (12, 0));
    assert!(table.verified_runs > 0);
    for row in &table.rows {
        let worst = repeat(Kind::Skew, row.cell, row.worst_seed).unwrap();
        assert_eq!(worst.guaranteed_over_true, row.guaranteed.max);
    }
    let beyond = repeat(Kind::Skew, table.rows.len(), 1);
    assert_eq!(
        beyond,
        Err(Unplayable::Cell(table.rows.len(), table.rows.len()))
    );
}

#[test]
fn progress_is_heard_up_to_the_end() {
    let heard = std::sync::Mutex::new(Vec::new());
    let on_progress = |done, of| heard.lock().unwrap().push((done, of));
    let threads = NonZeroUsize::new(2).unwrap();
    let table = table_on(Kind::Skew, 1, SEED, threads, &on_progress);
    let mut heard = heard.into_inner().unwrap();
    heard.sort_unstable();
    let runs = table.rows.len() as u64;
    assert_eq!(heard, (1..=runs).map(|i| (i, runs)).collect::<Vec<_>>());
}

#[test]
fn what_needs_a_chain_a_kernel_or_a_disk_and_terms_that_cannot_be_are_not_played() {
    let network = Network::lan(CLAIM);
    let elsewhere = Attack::ALL.into_iter().filter(|a| !playable(*a));
    assert_eq!(elsewhere.clone().count(), 5);
    for attack in elsewhere {
        let switch = Some(Switch { attack, corrupt: 1 });
        let refused = run(&world(Manner::Gross, network.clone()), switch, SEED);
        assert_eq!(refused, Err(Unplayable::Elsewhere(attack)));
    }
    let mut few = world(Manner::Gross, network);
    few.terms.n = 6;
    assert!(matches!(run(&few, None, SEED), Err(Unplayable::Terms(_))));
}

#[test]
fn what_challengers_try_is_refused_by_name_or_not_paid() {
    let replay = lan(Attack::Replay, Manner::Gross);
    assert!(replay.met["duplicate"] > 10, "{replay:?}");
    let zeros = lan(Attack::ZeroPayload, Manner::Gross);
    assert_eq!((zeros.flags["V3"], zeros.corrupt_paid), (2, 0));
    for (attack, manner, flag) in [
        (Attack::SilentChallenger, Manner::Gross, "NoReport"),
        (Attack::SilentChallenger, Manner::Subtle, "Withheld"),
        (Attack::ReadyThenAbort, Manner::Gross, "GaveUp"),
    ] {
        let silent = lan(attack, manner);
        assert_eq!((silent.flags[flag], silent.corrupt_paid), (2, 0));
        assert_eq!(silent.honest_paid, 5, "{attack} {silent:?}");
    }
    // A lie about its own time removes the liar's packets at most.
    for attack in [Attack::LieFast, Attack::LieSlow, Attack::Rush] {
        let lie = lan(attack, Manner::Gross);
        assert!(lie.guaranteed_over_true < 1.02, "{attack} {lie:?}");
        assert_ne!(lie.verdict, Some(Verdict::Fail), "{attack} {lie:?}");
        assert_eq!(lie.honest_paid, 5, "{attack} {lie:?}");
    }
}

#[test]
fn what_outsiders_try_is_refused_by_name() {
    let untagged = lan(Attack::Injection, Manner::Gross);
    assert!(untagged.met["dropped_cookie"] > 1, "{untagged:?}");
    let stranger = lan(Attack::SpoofedSource, Manner::Gross);
    assert!(stranger.met["dropped_not_consented"] > 1, "{stranger:?}");
    for o in [untagged, stranger] {
        assert_eq!((o.verdict, o.honest_paid), (Some(Verdict::Pass), 7));
    }
}

#[test]
fn a_lying_prover_gets_no_figure_or_loses_whom_it_lied_about() {
    for attack in [Attack::EarlyCommit, Attack::ForgedBitmap] {
        let all = lan(attack, Manner::Gross);
        assert_eq!(all.verdict, Some(Verdict::Inconclusive), "{attack}");
        assert!(all.flags["V3"] >= 3, "{attack} {all:?}");
        let two = lan(attack, Manner::Subtle);
        assert_eq!(two.flags["V3"], 2, "{attack} {two:?}");
        assert!(two.measured_over_true < 1.0 && two.honest_paid == 5);
    }
    // Who was told another commitment than the log's shows both: nothing is measured.
    for manner in [Manner::Gross, Manner::Subtle] {
        let told = lan(Attack::EquivocatingCommit, manner);
        assert_eq!(told.verdict, Some(Verdict::Inconclusive), "{told:?}");
        assert_eq!(told.flags["Equivocation"], 1, "{told:?}");
        let why = told.reason.as_deref().unwrap_or_default();
        assert!(why.contains("two commitments"), "{told:?}");
    }
    // No bound credits a round trip; the figure that is shown does.
    let always = lan(Attack::RttInflation, Manner::Subtle);
    assert!(always.measured_over_true > 1.2, "{always:?}");
    assert!(always.lower_over_true < 1.02, "{always:?}");
    assert_eq!(always.verdict, Some(Verdict::Pass));
    for manner in [Manner::Gross, Manner::Subtle] {
        let silent = lan(Attack::SilentProver, manner);
        assert!(matches!(silent.ended, Ended::Expired(_)), "{silent:?}");
    }
}

#[test]
fn a_lying_coordinator_is_refused() {
    let swapped = lan(Attack::SwappedChallengers, Manner::Gross);
    assert!(matches!(&swapped.ended, Ended::Refused(why) if why.contains("notice.challengers")));
    let altered = lan(Attack::AlteredReport, Manner::Gross);
    assert_eq!(altered.ended, Ended::Refused("V1: signatures".into()));
    assert_eq!((altered.verified, altered.honest_paid), (Some(false), 0));
}

#[test]
fn a_path_makes_of_a_figure_what_it_can() {
    let bucket = lan(Attack::TokenBucket, Manner::Gross);
    assert!(bucket.lower_over_true > 4.0, "{bucket:?}");
    assert!(bucket.guaranteed_over_carried < 1.02, "{bucket:?}");
    let cross = lan(Attack::CrossTraffic, Manner::Gross);
    assert!((0.6..0.98).contains(&cross.measured_over_true), "{cross:?}");
}

/// What the prover divides by is not its own to choose.
#[test]
fn a_prover_that_ends_early_is_divided_by_t_min() {
    let gross = lan(Attack::EarlyEnd, Manner::Gross);
    assert_eq!(gross.verdict, Some(Verdict::Inconclusive));
    assert!(gross.lower_over_true < 0.13, "{gross:?}");
    let subtle = lan(Attack::EarlyEnd, Manner::Subtle);
    assert!(subtle.guaranteed_over_true < 1.02, "{subtle:?}");
    let burst = lan(Attack::BurstAndStop, Manner::Gross);
    assert_eq!(burst.verdict, Some(Verdict::Inconclusive));
    assert!(burst.measured_over_true > 4.0, "{burst:?}");
    assert!(burst.guaranteed_over_carried < 1.02, "{burst:?}");
}

#[test]
fn who_hears_the_start_late_says_so_and_accuses_nobody() {
    let few = lan(Attack::LateHonest, Manner::Subtle);
    assert_eq!((few.verdict, few.flags["GaveUp"]), (Some(Verdict::Pass), 2));
    let many = lan(Attack::LateHonest, Manner::Gross);
    assert_eq!(many.verdict, Some(Verdict::Inconclusive));
    assert_eq!(many.flags["GaveUp"], 3);
    let why = many.reason.as_deref().unwrap_or_default();
    assert!(why.contains("late: heard the start 1"), "{why}");
}

#[test]
fn nobody_floods_or_probes_for_long_an_address_that_does_not_answer() {
    let named = lan(Attack::StrangerAddress, Manner::Gross);
    assert!(matches!(named.ended, Ended::Expired(_)), "{named:?}");
    assert!(!named.met.contains_key("flooded_a_stranger"));
    // Nobody is ready before an echo came, so there is no start: ten probes each, then one in 20 ms for 7 s.
    assert!(named.met["probed_a_stranger"] <= 7 * (10 + 7000 / 20));
    // Data alone to somewhere else is no consent at all.
    let half = lan(Attack::StrangerAddress, Manner::Subtle);
    assert!(matches!(half.ended, Ended::Expired(_)), "{half:?}");
    assert_eq!(half.met["bad-field"], 1, "{half:?}");
}

#[test]
fn a_duration_that_is_short_beside_the_round_trips_is_named_and_a_longer_one_passes() {
    let of = |duration_ms| {
        let world = World {
            terms: terms(CLAIM / 5, 4, 1, duration_ms),
            network: Network::plain("intercontinental", CLAIM / 5, 75_000_000),
            manner: Manner::Gross,
        };
        run(&world, None, SEED).unwrap()
    };
    let short = of(1000);
    assert_eq!(short.verdict, Some(Verdict::Inconclusive));
    let why = short.reason.as_deref().unwrap_or_default();
    assert!(why.starts_with("duration: a round trip of"), "{why}");
    let long = of(8000);
    assert_eq!(long.verdict, Some(Verdict::Pass), "{long:?}");
}

/// Sizes of a proof: challengers, and how many of them may be corrupt.
const SIZES: [(u16, u16); 3] = [(4, 1), (7, 2), (10, 3)];

/// Nobody begins by an echo: a prover that keeps some back moves no start.
#[test]
fn a_prover_that_delays_some_echoes_does_not_lift_the_guarantee() {
    for (n, f) in SIZES {
        for percent in [34, 67] {
            for late_ms in [0, 20, 400] {
                let world = World {
                    terms: terms(CLAIM, n, f, DURATION),
                    network: Network {
                        held_back: (usize::from(f), late_ms * 1_000_000),
                        ..Network::lan(CLAIM * percent / 100)
                    },
                    manner: Manner::Subtle,
                };
                let rush = format!("rush={f}").parse().unwrap();
                let o = run(&world, Some(rush), SEED).unwrap();
                assert!(
                    o.guaranteed_over_true < 1.02,
                    "{percent} % {late_ms} ms {o:?}"
                );
            }
        }
    }
}

/// Who sends faster than its share, and everything twice, takes from a true claim what does not count.
#[test]
fn senders_that_are_too_fast_do_not_make_a_true_claim_false() {
    for (n, f) in SIZES {
        for percent in [100, 130] {
            for pace in [100, 200, 400] {
                let world = World {
                    terms: terms(CLAIM, n, f, DURATION),
                    network: Network {
                        corrupt_pace_percent: pace,
                        ..Network::lan(CLAIM * percent / 100)
                    },
                    manner: Manner::Gross,
                };
                let replay = format!("replay={f}").parse().unwrap();
                let o = run(&world, Some(replay), SEED).unwrap();
                assert_ne!(
                    o.verdict,
                    Some(Verdict::Fail),
                    "{percent} % at {pace} % {o:?}"
                );
            }
        }
    }
}

/// What is not promised: with one of four corrupt, α is 2/3 of the claim, and so a link of 2/3 can pass. The
/// figure that it passes with is false; the guaranteed one is what the link carries.
#[test]
fn a_pass_promises_the_guaranteed_figure_and_no_more() {
    let of = |percent: u64, switch: &str| {
        let world = World {
            terms: terms(CLAIM, 4, 1, DURATION),
            network: Network::lan(CLAIM * percent / 100),
            manner: Manner::Subtle,
        };
        run(&world, Some(switch.parse().unwrap()), SEED).unwrap()
    };
    let rushed = of(67, "rush");
    assert_eq!(rushed.verdict, Some(Verdict::Pass), "{rushed:?}");
    assert!(
        (0.95..1.02).contains(&rushed.guaranteed_over_true),
        "{rushed:?}"
    );
    assert_ne!(of(61, "rush").verdict, Some(Verdict::Pass));
}
