use plumbline_proof::backhaul::estimate;
use plumbline_proof::backhaul::uplink::Window;

use super::*;

/// Of each seven pieces six are two climbs of 150 phases of each kind.
const PIECES: u64 = 7 * 7;

#[test]
fn neither_a_bound_above_the_truth_nor_a_true_claim_called_false() {
    let report = search(Until::Pieces(PIECES), 1, 2, &|_| {});
    assert!(report.lower.tries >= 2000 && report.fail.tries >= 2000);
    assert!(report.uplink.tries >= 2000);
    assert!(report.complaints().is_empty(), "{report}");
    // The search comes close: what it looks at is not far from where it would bite. Longer ones reach 0.97 of a Fail.
    assert!(report.lower.worst > 0.99, "{}", report.lower.worst);
    assert!(report.uplink.worst > 0.99, "{}", report.uplink.worst);
    assert!(report.fail.nearest > 0.85, "{}", report.fail.nearest);
    // No false claim passes, and of those far off most are called false.
    let rows = &report.power.rows;
    assert!(rows.iter().all(|row| row.pass == 0));
    assert!(rows[0].fail > 2 * rows[0].inconclusive, "{:?}", rows[0]);
}

/// The estimator that this one replaced: 8·L·(N − the f largest counts), over the (f+1)-th longest time.
fn replaced(plot: &Plot) -> f64 {
    let played = plot.played();
    let f = usize::from(plot.f);
    let mut counts: Vec<u64> = played.samples.iter().map(|s| s.packets).collect();
    let mut times: Vec<u32> = played.samples.iter().map(|s| s.window_us).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    times.sort_unstable_by(|a, b| b.cmp(a));
    let packets: u64 = counts.iter().skip(f).sum();
    let bits = 8_000_000 * packets * u64::from(played.terms.packet_bytes);
    let bps = bits / u64::from(times.get(f).copied().unwrap_or(u32::MAX)).max(1);
    plot.over(&played, bps, played.terms.least_span_us())
}

#[test]
fn the_search_finds_what_was_wrong_with_the_estimator_before() {
    let found = climb(&mut Dice::new(1, 0), 0, replaced);
    assert!(found.worst > 2.0, "{}", found.worst);
}

/// Packets made before T0, which the link has carried at its leisure, come out of the store within the window.
#[test]
fn the_search_finds_what_an_uplink_without_fresh_packets_would_let_through() {
    let found = climb(&mut Dice::new(1, 0), 0, |hoard: &Hoard| hoard.score(false));
    assert!(found.worst > 1.5, "{}", found.worst);
}

/// The divisor before: the time in which packets arrived once queues had filled, and not all since T0.
fn arrived_in(hoard: &Hoard) -> f64 {
    let played = hoard.played(true);
    let window = Window::new(&played.terms, 0);
    let span_us = (window.length_ns() - window.slot_ns) / 1000;
    let span_us = u32::try_from(span_us).unwrap();
    let mut samples = played.samples.clone();
    samples.iter_mut().for_each(|s| s.window_us = span_us);
    let bps = estimate::bound_at(&played.terms, &samples, hoard.liars, span_us);
    uplink::over(&played, bps, span_us)
}

#[test]
fn the_search_finds_what_waits_behind_the_link_where_the_divisor_leaves_it_out() {
    let found = climb(&mut Dice::new(1, 0), 0, arrived_in);
    assert!(found.worst > 1.05, "{}", found.worst);
}

#[test]
fn the_search_finds_a_flood_that_nobody_counts_and_the_rule_says_nothing_then() {
    // Without the interface's counters a flood of short frames takes the link unseen. The rule, if it were deaf to
    // that, would fail true claims (near > 1); it fails none.
    let found = (0..4).map(|number| fail_climb(&mut Dice::new(9, number), number, false));
    let (nearest, failed) = found.fold((0.0f64, 0), |(near, failed), f| {
        (near.max(f.nearest), failed + f.false_fails)
    });
    assert!(nearest > 1.1, "{nearest}");
    assert_eq!(failed, 0);
}

#[test]
fn a_seed_means_the_same_on_any_number_of_threads() {
    let on = |threads| {
        let mut report = search(Until::Pieces(7), 3, threads, &|_| {});
        report.seconds = 0.0;
        format!("{report:?}")
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn a_piece_can_be_had_again_by_its_number() {
    let report = search(Until::Pieces(10), 2, 2, &|_| {});
    let strategy = report.lower.strategy.unwrap();
    assert_eq!(strategy.plot.score(), report.lower.worst);
    let Piece::Lower(again) = piece(2, strategy.number) else {
        panic!("climb {} is of another kind", strategy.number);
    };
    assert_eq!(again.strategy.unwrap().plot, strategy.plot);
}

/// What is committed is what comes out: the rows to 100 Mbit/s again, by the command that made it.
#[test]
fn the_table_of_true_claims_is_the_committed_one() {
    let slow = completeness(100, RUNS, SEED, 2);
    let all = include_str!("../../completeness.md");
    let rows = markdown(&slow);
    assert!(
        slow.iter().all(|cell| cell.passed * 100 >= cell.runs * 95),
        "{rows}"
    );
    for row in rows.lines() {
        assert!(
            all.contains(row),
            "not committed: {row}\ncargo xtask eval --search --completeness FILE makes it again"
        );
    }
    assert_eq!(all.lines().filter(|l| l.starts_with("| 1")).count(), 72);
}
