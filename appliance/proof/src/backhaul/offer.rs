//! When a claim may be called false: what a link of K would have been asked to carry, against all that came.
//!
//! ```text
//!   slots of D/20, counted back from each one's e    … │ 3 │ 2 │ 1 │ 0 ┤ e
//!   a sender's part of a slot: all that it sent if that is r·slot, or r·w − 3·b in all; else its host stood still, and
//!   what all make up for at once is left out, as far as no queue takes it: 2·b − 60/n
//!   asked in a slot: min( Σ of these, without the f−s largest of that slot, of the next K/r senders ; K·slot )
//!   U(T) = asked in the slots of the last T, over T       V(T) = everything that came, whenever, over T
//!
//!   Fail: for some T in question, U(T) ≥ 0.8·K and V(T) < 0.88·U(T)
//! ```
//!
//! **Guarantees.** Nothing here makes a claim pass. f challengers that stay silent, begin late, lie about what they
//! sent or send what does not count cannot make a true claim of a free link false; the margin is what the adversary
//! search left standing. What the prover's own host dropped came over the link, and counts as delivered.
//!
//! **Limits.** "False" is said of the path from these senders at that time: neighbours' traffic on the same link
//! cannot be told from a short one. A prover gets `Inconclusive` instead of `Fail` by claiming that more came.
//!
//! **Tests.** Below; `cargo xtask eval --search` looks for a true claim that is failed.

use super::pace::Pace;
use super::params::{
    Direction, FAIL_OFFERED_PERCENT, FAIL_SHORT_PERCENT, LAYER1_BYTES, NARROW_PERCENT, OFFER_SLOTS,
    SHORT_QUEUE, T_MIN_PERCENT, Terms,
};

/// One sender, in the parts that senders are counted in.
const WHOLE: u64 = 1_000_000;

/// What one challenger says it sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Packets of each slot of D/20, the last one before e first.
    pub sent: Vec<u32>,
    /// w: from its first send until it heard the commitment, µs.
    pub window_us: u32,
    /// Its own access was the limit, or may have been: it counts as having sent nothing.
    pub narrow: bool,
}

/// What the link was asked to carry, and what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// T, in slots of D/20.
    pub slots: u64,
    /// U(T), bit/s: at least so much was asked of a link of K.
    pub asked_bps: u64,
    /// V(T), bit/s.
    pub came_bps: u64,
    /// The claim was put to the test, and so much less came that it is false.
    pub short: bool,
}

/// What came over the link, whatever became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// At the IP layer.
    pub bytes: u64,
    /// The interface was counted: whatever else took of the link is among them. Otherwise a flood that nobody counts
    /// could make a true claim false, and none is called so.
    pub whole: bool,
}

/// What came: `ours` are packets of this measurement, `interface` all frames and their bytes, `host_dropped` what the
/// prover's own host lost after that. Foreign frames count as what they take of layer 1, in packets of this length: a
/// flood of short ones takes more of a link than its bytes, and would make a true claim false. Some drivers count the
/// Ethernet header and some do not: it is taken to be missing, which reads 0.9 % high of the others.
pub fn came(terms: &Terms, ours: u64, interface: Option<(u64, u64)>, host_dropped: u64) -> Came {
    let packet = u64::from(terms.packet_bytes);
    let layer1 = u128::from(LAYER1_BYTES);
    let whole = interface.map_or(0, |(frames, bytes)| {
        let taken = u128::from(bytes) + u128::from(frames) * layer1;
        taken * u128::from(packet) / (u128::from(packet) + layer1)
    });
    let bytes = ours
        .saturating_mul(packet)
        .max(u64::try_from(whole).unwrap_or(u64::MAX))
        .saturating_add(host_dropped.saturating_mul(packet));
    Came {
        bytes,
        whole: interface.is_some(),
    }
}

/// Looks for the T that speaks most against the claim; `None` if nobody sent for as long as T_min. `silent` are
/// the challengers whose reports do not count, `came` all that came.
pub fn tried(terms: &Terms, offers: &[Offer], silent: usize, came: Came) -> Option<Tried> {
    let slot_ns = terms.offer_slot_ns();
    let untrusted = usize::from(terms.f).saturating_sub(silent);
    let mut windows: Vec<u32> = offers.iter().map(|o| o.window_us).collect();
    windows.sort_unstable_by(|a, b| b.cmp(a));
    // Of the f−s+1 longest windows one is honest: so long somebody honest sent.
    let longest = u64::from(*windows.get(untrusted)?) * 1000 / slot_ns;
    let first = OFFER_SLOTS * T_MIN_PERCENT / 100;
    let packet = 8 * u128::from(terms.packet_bytes);
    let most = u128::from(terms.claim_bps) * u128::from(slot_ns) / 1_000_000_000;
    // K/r: how many senders fill a link of K.
    let filling = u128::from(WHOLE) * u128::from(terms.claim_bps);
    let filling = filling / u128::from(terms.offer_each_bps());
    let filling = u64::try_from(filling).unwrap_or(u64::MAX);
    // r·slot, in packets, and what a sender makes up for after its host stood still: two bursts. They leave at once,
    // on one host at the same moment for all; beyond a short queue's length they are lost, though the link is free.
    let rate = u128::from(terms.offer_each_bps());
    let whole = (rate * u128::from(slot_ns)).div_ceil(packet * 1_000_000_000);
    let whole = u32::try_from(whole).unwrap_or(u32::MAX);
    let pace = Pace::new(u64::from(terms.packet_bytes) * 8, terms.offer_each_bps(), 0);
    let kept = SHORT_QUEUE / u64::from(terms.n.max(1));
    let at_once = u32::try_from((2 * pace.burst()).saturating_sub(kept)).unwrap_or(u32::MAX);
    let spread = |sent: u32, is_steady: bool| {
        let all = is_steady || sent >= whole;
        sent - if all { 0 } else { at_once.min(sent) }
    };
    // Bursts and their offsets alone bring nobody further behind than three of them.
    let steady: Vec<bool> = offers
        .iter()
        .map(|o| {
            let sent: u128 = o.sent.iter().map(|n| u128::from(*n)).sum();
            let due = rate * u128::from(o.window_us) / (packet * 1_000_000);
            sent + 3 * u128::from(pace.burst()) >= due
        })
        .collect();
    let mut asked: u128 = 0;
    let mut worst: Option<Tried> = None;
    for slot in 0..longest {
        let at = usize::try_from(slot).unwrap_or(usize::MAX);
        let wide = offers.iter().zip(&steady).filter(|(o, _)| !o.narrow);
        let sent = wide.map(|(o, steady)| spread(o.sent.get(at).copied().unwrap_or(0), *steady));
        let mut sent: Vec<u32> = sent.collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        // If a host stands still, all that it sends of a slot is in a part of it, at r: at worst in the same part
        // for all, and then the link is asked for no more than as many carry as fill K.
        let parts = (0..).map(|k: u64| filling.saturating_sub(k * WHOLE).min(WHOLE));
        let sum: u128 = sent
            .iter()
            .skip(untrusted)
            .zip(parts)
            .map(|(n, part)| u128::from(*n) * u128::from(part))
            .sum();
        asked += (sum * packet / u128::from(WHOLE)).min(most);
        let slots = slot + 1;
        if slots < first {
            continue;
        }
        let rate = |bits: u128| {
            let bps = bits * 1_000_000_000 / (u128::from(slots) * u128::from(slot_ns));
            u64::try_from(bps).unwrap_or(u64::MAX)
        };
        let (asked_bps, came_bps) = (rate(asked), rate(8 * u128::from(came.bytes)));
        let tested = u128::from(asked_bps) * 100
            >= u128::from(terms.claim_bps) * u128::from(FAIL_OFFERED_PERCENT);
        let less =
            u128::from(came_bps) * 100 < u128::from(asked_bps) * u128::from(FAIL_SHORT_PERCENT);
        let this = Tried {
            slots,
            asked_bps,
            came_bps,
            short: came.whole && tested && less,
        };
        // What fails it first; else where most was asked.
        let rank = |t: &Tried| (t.short, t.asked_bps);
        if worst.is_none_or(|w| rank(&this) > rank(&w)) {
            worst = Some(this);
        }
    }
    worst
}

/// Where the prover sends: what came at most if the f that say they got least, silent ones among them, kept it to
/// themselves and had got as much as the best; bit/s over the common window.
pub fn received_at_most(terms: &Terms, packets: &[u64], silent: usize, length_ns: u64) -> u64 {
    debug_assert!(terms.direction == Direction::Up);
    let best = packets.iter().copied().max().unwrap_or(0);
    let mut told = packets.to_vec();
    told.resize(packets.len() + silent, 0);
    told.sort_unstable();
    for least in told.iter_mut().take(usize::from(terms.f)) {
        *least = best;
    }
    let bits =
        told.iter().map(|n| u128::from(*n)).sum::<u128>() * 8 * u128::from(terms.packet_bytes);
    let bps = bits * 1_000_000_000 / u128::from(length_ns.max(1));
    u64::try_from(bps).unwrap_or(u64::MAX)
}

/// Whose carried part of what they sent is below 60 % of the median part, and who shares an access network with
/// another: their own access may have been the limit. `parts` are (carried, sent, network).
pub fn narrow<N: PartialEq>(parts: &[(u64, u64, Option<N>)]) -> Vec<bool> {
    let part = |(carried, sent, _): &(u64, u64, Option<N>)| {
        u128::from(*carried) * 1_000_000 / u128::from((*sent).max(1))
    };
    let mut all: Vec<u128> = parts.iter().map(part).collect();
    all.sort_unstable();
    let middle = all.get(all.len() / 2).copied().unwrap_or(0);
    let shared = |at: usize, network: &Option<N>| {
        let mut others = parts.iter().enumerate().filter(|(i, _)| *i != at);
        network.is_some() && others.any(|(_, other)| other.2 == *network)
    };
    parts
        .iter()
        .enumerate()
        .map(|(at, one)| part(one) * 100 < middle * NARROW_PERCENT || shared(at, &one.2))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n = 4, f = 1, K = 12 Mbit/s over 1 s: slots of 50 ms take 50 packets of a link of K.
    fn terms() -> Terms {
        Terms::downlink(12_000_000, 4, 1, 1000)
    }

    /// Each sends 20 packets a slot: 2.6 senders fill K, and send 52, more than a link of it takes.
    fn offers() -> Vec<Offer> {
        let one = Offer {
            sent: vec![20; 20],
            window_us: 1_000_000,
            narrow: false,
        };
        vec![one; 4]
    }

    fn all(packets: u64) -> Came {
        Came {
            bytes: packets * 1500,
            whole: true,
        }
    }

    fn short(offers: &[Offer], silent: usize, packets: u64) -> bool {
        tried(&terms(), offers, silent, all(packets)).is_some_and(|t| t.short)
    }

    #[test]
    fn full_offers_and_too_little_is_false_and_both_sides_of_it() {
        // 50 packets a slot were asked; 88 % of 17 slots are 748 packets, of 20 slots 880.
        let at = |packets: u64| tried(&terms(), &offers(), 0, all(packets)).unwrap();
        assert_eq!(at(879).asked_bps, 12_000_000);
        assert!(short(&offers(), 0, 879));
        assert!(!short(&offers(), 0, 880));
    }

    #[test]
    fn what_the_largest_say_is_not_believed() {
        let mut liar = offers();
        for o in &mut liar[1..] {
            o.sent = vec![6; 20];
        }
        // The loudest says 10⁶ a slot: 18 packets are left, below 0.8 K.
        liar[0].sent = vec![1_000_000; 20];
        assert!(!short(&liar, 0, 0));
        // With one silent nobody is left to be disbelieved.
        assert!(short(&liar[..3], 1, 0));
    }

    #[test]
    fn f_silenced_and_f_that_send_less_than_they_say_fail_no_true_claim() {
        for f in 1..=21_u16 {
            let n = 3 * f + 1;
            let terms = Terms::downlink(1_000_000_000, n, f, 1000);
            let all = terms.offer_each_bps() / (8 * u64::from(terms.packet_bytes)) / 20;
            let offer = Offer {
                sent: vec![u32::try_from(all).unwrap() + 1; 20],
                window_us: 1_000_000,
                narrow: false,
            };
            // As little as counts beside honest ones, who are one more: theirs is the median part.
            let (honest, liars) = (u64::from(f) + 1, u64::from(f));
            let parts = [
                vec![(100, 100, None); f.into()],
                vec![(60, 100, None::<u8>); f.into()],
            ];
            assert!(!narrow(&[parts.concat(), vec![(100, 100, None)]].concat()).contains(&true));
            let sent = 20 * all * (10 * honest + 6 * liars) / 10;
            let came = Came {
                bytes: sent * u64::from(terms.packet_bytes),
                whole: true,
            };
            let senders = vec![offer; usize::from(2 * f + 1)];
            let found = tried(&terms, &senders, f.into(), came).unwrap();
            assert!(
                found.asked_bps >= 800_000_000 && !found.short,
                "{n}: {found:?}"
            );
        }
    }

    #[test]
    fn what_came_is_counted_at_layer_1_and_told_by_whoever_says_more() {
        let came = |ours, interface, dropped| came(&terms(), ours, interface, dropped).bytes;
        // Frames are packets of 1500 bytes, counted with their Ethernet header at 1513.
        assert_eq!(came(10, Some((10, 15_000)), 0), 15_000);
        assert_eq!(came(10, Some((10, 15_140)), 0), 15_136);
        assert_eq!(came(10, None, 2), 18_000);
        assert_eq!(came(11, Some((10, 15_000)), 0), 16_500);
        // The shortest frame takes 84 of the 1538 bytes of a long one, not 46 of 1500.
        assert_eq!(
            came(10, Some((1538 + 10, 1538 * 46 + 15_000)), 0),
            15_000 + 84 * 1500
        );
        assert!(came(u64::MAX, Some((u64::MAX, u64::MAX)), u64::MAX) == u64::MAX);
    }

    #[test]
    fn nothing_is_said_unless_enough_was_asked_for_long_enough() {
        let mut few = offers();
        // 15 packets of each are 39 of as many as fill K: 0.78 K. 16 are 41.7.
        for o in &mut few {
            o.sent = vec![15; 20];
        }
        assert!(!short(&few, 0, 0));
        for o in &mut few {
            o.sent = vec![16; 20];
        }
        assert!(short(&few, 0, 0));
        // The two longest windows: below 17 slots there is no T.
        for o in &mut few[1..] {
            o.window_us = 849_999;
        }
        assert!(!short(&few, 0, 0));
        few[1].window_us = 850_000;
        assert!(short(&few, 0, 0));
        assert_eq!(tried(&terms(), &[], 4, all(0)), None);
    }

    #[test]
    fn hosts_that_stand_still_ask_for_less_than_they_send() {
        // 15 of 19 packets a slot may all have left in the same 0.8 of it. Three send 45 then, and a link of K takes
        // 40 in that time; of as many as fill it 15 · 2.6087 are counted, of 12,000 bits in 50 ms.
        let mut still = offers();
        for o in &mut still {
            o.sent = vec![15; 20];
        }
        let asked = |offers: &[Offer]| tried(&terms(), offers, 0, all(0)).unwrap().asked_bps;
        assert_eq!(asked(&still), 9_391_300);
        // Who stood still the most is counted last: 0.6 of 10, after two of 20.
        for o in &mut still[..3] {
            o.sent = vec![20; 20];
        }
        still[3].sent = vec![10; 20];
        assert_eq!(asked(&still), 11_060_860);
    }

    #[test]
    fn what_is_made_up_for_after_a_stall_is_not_asked_of_the_link() {
        // 5 Gbit/s over 10 ms: r·slot is 34.2 packets and a burst 8. Who stood still in a slot may have sent 16 of it at
        // once, all together, of which a queue of 60 takes 6 of each of ten.
        let terms = Terms::downlink(5_000_000_000, 10, 3, 10);
        let of = |sent: u32| {
            let one = Offer {
                // And in one slot it sent nothing: it did stand still.
                sent: [vec![sent; 20], vec![0]].concat(),
                window_us: 10_500,
                narrow: false,
            };
            tried(&terms, &vec![one; 7], 3, Came::default()).unwrap()
        };
        let of_k = |sent: u32| of(sent).asked_bps / 1_000_000;
        assert_eq!((of_k(35), of_k(34)), (5000, 3506));
        // Who never fell behind sent evenly, whatever falls into which slot.
        let steady = Offer {
            sent: vec![34; 20],
            window_us: 10_000,
            narrow: false,
        };
        let asked = tried(&terms, &vec![steady; 7], 3, Came::default()).unwrap();
        assert_eq!(asked.asked_bps / 1_000_000, 4966);
        // At a rate at which a burst is one packet nothing is left out.
        let slow = Terms::downlink(50_000_000, 10, 3, 1000);
        let one = Offer {
            sent: vec![30; 20],
            window_us: 1_000_000,
            narrow: false,
        };
        let asked = tried(&slow, &vec![one; 7], 3, Came::default())
            .unwrap()
            .asked_bps;
        assert_eq!(asked / 1_000_000, 43);
    }

    #[test]
    fn whose_access_was_the_limit_counts_as_not_offered() {
        let of = |carried, net: u8| (carried, 100u64, (net != 0).then_some(net));
        assert_eq!(
            narrow(&[of(90, 0), of(80, 0), of(48, 0), of(47, 0)]),
            [false, false, false, true]
        );
        assert_eq!(
            narrow(&[of(90, 1), of(88, 2), of(88, 1)]),
            [true, false, true]
        );
        assert_eq!(narrow::<u8>(&[]), [] as [bool; 0]);
        let mut two = offers();
        two[0].narrow = true;
        two[1].narrow = true;
        assert!(!short(&two, 0, 0));
    }

    #[test]
    fn uplink_reports_of_the_least_are_taken_as_the_best() {
        let up = Terms {
            direction: Direction::Up,
            ..terms()
        };
        // 250, 250, 250 and a liar's 0 in 0.9 s: 1000 packets.
        let of = |packets: &[u64], silent| received_at_most(&up, packets, silent, 900_000_000);
        assert_eq!(of(&[250, 0, 250, 250], 0), of(&[250; 4], 0));
        assert_eq!(of(&[250; 3], 1), of(&[250; 4], 0));
        assert_eq!(of(&[250; 4], 0), 13_333_333);
    }
}
