//! What threads may do to a tally, and that no order of arrival changes what is committed to.

use std::sync::atomic::AtomicUsize;
use std::sync::{Barrier, LazyLock};

use plumbline_trust::session::Ephemeral;
use plumbline_wire::header::Kind;
use proptest::prelude::*;

use super::*;
use crate::backhaul::keystream::{ARITY, GROUP};

fn key(index: u16) -> SessionKey {
    // Agreed once: one agreement costs as much as a hundred packets.
    static KEYS: LazyLock<Vec<SessionKey>> = LazyLock::new(|| {
        let theirs = Ephemeral::from_secret([2; 32]).public();
        let agree = |index| Ephemeral::from_secret([1; 32]).agree(&theirs, &[3; 32], index);
        (0..10).map(|index| agree(index).unwrap()).collect()
    });
    KEYS[usize::from(index)].clone()
}

/// Four challengers, the last without consent; `m` packets of each are counted at most.
fn tally(m: u64) -> Tally {
    tally_of(m, 3)
}

/// Four challengers, of which the first `consented` may send.
fn tally_of(m: u64, consented: u16) -> Tally {
    let terms = Terms::downlink(m * 3 * 120_000, 4, 1, 100);
    assert_eq!((terms.per_challenger(), terms.target()), (m, 3 * m));
    let keys = (0..4).map(|i| (i < consented).then(|| key(i))).collect();
    Tally::new(&[3; 32], 0, &terms, keys)
}

fn packet(key: &SessionKey, index: u16, sequence: u64) -> (Header, [u8; 64]) {
    let header = Header {
        kind: Kind::Data,
        phase: 0,
        session: [3; 16],
        index,
        sequence,
        sent_ns: 0,
        cookie: 0,
        tag: [0; 8],
    };
    let mut raw = header.to_bytes();
    key.seal(&mut raw);
    (Header::from_bytes(&raw).unwrap(), raw)
}

/// Another digest for every packet.
fn digest(index: u16, sequence: u64) -> Digest {
    let mut bytes = [0x5a; 32];
    bytes[..2].copy_from_slice(&index.to_le_bytes());
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes
}

fn leaf(index: u16, sequence: u64) -> Leaf {
    Leaf {
        index,
        sequence,
        arrival_ns: 1000 + sequence,
        digest: digest(index, sequence),
    }
}

fn offer(t: &Tally, index: u16, sequence: u64) -> bool {
    let (h, raw) = packet(&key(index), index, sequence);
    let ok = t.admit(&h, &raw);
    if ok {
        t.accept(&[leaf(index, sequence)]);
    }
    ok
}

/// C_1 … C_n computed from the bitmaps alone.
fn from_scratch(bitmaps: &[Vec<u8>]) -> Vec<Digest> {
    (0u16..)
        .zip(bitmaps)
        .map(|(index, bitmap)| {
            let groups = keystream::groups(bitmap, |s| Some(digest(index, s))).unwrap();
            keystream::root(bitmap.len(), keystream::words(bitmap), groups.into_iter())
        })
        .collect()
}

/// Everything that must hold of a tally at rest that has committed, after `offered` packets.
fn adds_up(t: &Tally, commit: &Commit, roots: &[Digest], offered: u64) {
    let bitmaps = t.bitmaps();
    assert_eq!(roots, from_scratch(&bitmaps));
    let set = |b: &Vec<u8>| b.iter().map(|x| x.count_ones()).sum::<u32>();
    assert_eq!(commit.counts, bitmaps.iter().map(set).collect::<Vec<_>>());
    let sum: u64 = commit.counts.iter().map(|c| u64::from(*c)).sum();
    assert_eq!((sum, t.counted()), (commit.packets, commit.packets));
    assert!(commit.packets <= t.target);
    assert!(
        commit
            .counts
            .iter()
            .all(|c| u64::from(*c) <= t.per_challenger)
    );
    let r = t.refused();
    let refused = r.bad_tag + r.out_of_range + r.duplicate + r.over_cap + r.late;
    assert_eq!(t.seen(), commit.packets + refused);
    assert_eq!(t.seen(), offered);
    let arrivals: u64 = t.histogram().iter().map(|b| u64::from(*b)).sum();
    assert_eq!(arrivals, commit.packets);
}

#[test]
fn every_packet_has_one_fate() {
    let t = tally(1);
    assert_eq!(t.lanes[0].as_ref().unwrap().place(4), Some(4));
    assert_eq!(t.lanes[0].as_ref().unwrap().place(5), None);
    assert!(offer(&t, 0, 4));
    assert!(!offer(&t, 0, 4)); // duplicate
    assert!(offer(&t, 0, 0)); // 1.15·m, rounded up
    assert!(!offer(&t, 0, 1)); // over it
    assert!(!offer(&t, 1, 5)); // past the cap
    assert!(!offer(&t, 3, 0)); // drawn, not consented
    assert!(!offer(&t, 9, 0)); // nobody
    let (mut h, mut raw) = packet(&key(1), 1, 0);
    raw[63] ^= 1;
    assert!(!t.admit(&h, &raw)); // tag
    h.phase = 1;
    assert!(!t.admit(&h, &raw)); // phase
    assert!(!t.complete());
    assert!(offer(&t, 1, 0));
    assert!(t.complete());
    assert!(!offer(&t, 2, 2)); // late
    let want = Refused {
        bad_tag: 1,
        out_of_range: 4,
        duplicate: 1,
        over_cap: 1,
        late: 1,
    };
    assert_eq!(t.refused(), want);
    // Counted, duplicate, counted, over 1.15·m; past the cap, counted; late. Not the wrong tag or phase, nor who
    // has no consent.
    assert_eq!(t.received(), [4, 2, 1, 0]);
    let (commit, roots) = t.commit().unwrap();
    assert_eq!(commit.counts, [2, 1, 0, 0]);
    assert_eq!(t.bitmaps(), [vec![17], vec![1], vec![], vec![]]);
    assert_eq!(commit.arrivals, (1000, 1004));
    adds_up(&t, &commit, &roots, 3 + 8);
}

#[test]
fn many_at_once_are_judged_as_one_by_one() {
    let (one, all) = (tally(30), tally(30));
    let keys: Vec<SessionKey> = (0..4).map(key).collect();
    // Runs of every length up to more than the lanes; 3 is not consented to, 9 is nobody; every seventh tag
    // is wrong, and some packets come twice.
    let lengths = [1, 2, 15, 16, 17, 5, 8];
    let indices = [0, 1, 2, 3, 9, 0, 1];
    let mut packets = Vec::new();
    for (index, length) in indices.into_iter().zip(lengths) {
        for i in 0..length {
            let sequence = i % 14;
            let (header, mut raw) = packet(&keys[usize::from(index % 4)], index, sequence);
            if packets.len() % 7 == 6 {
                raw[63] ^= 1;
            }
            packets.push((header, raw));
        }
    }
    assert_eq!(packets.len(), 64);
    let bits = all.admit_all(packets.iter().map(|(h, raw)| (h, raw)));
    for (i, (header, raw)) in packets.iter().enumerate() {
        assert_eq!(bits >> i & 1 == 1, one.admit(header, raw), "packet {i}");
    }
    assert_eq!(one.refused(), all.refused());
    assert_eq!(one.received(), all.received());
    let received: u64 = all.received().iter().sum();
    let refused = all.refused();
    let unknown = packets.iter().filter(|(h, _)| h.index > 2).count() as u64;
    assert_eq!(received, 64 - refused.bad_tag - unknown);
    let refused = all.refused();
    assert!(refused.bad_tag > 0 && refused.duplicate > 0 && refused.out_of_range > 0);
}

#[test]
fn what_is_not_authentic_changes_nothing_but_its_own_number() {
    let t = tally(2);
    assert!(offer(&t, 0, 0));
    let state = |t: &Tally| {
        let r = t.refused();
        let others = (r.out_of_range, r.duplicate, r.over_cap, r.late);
        (
            t.received(),
            t.counted(),
            t.missing(),
            others,
            t.reordered(),
        )
    };
    let before = state(&t);
    // New and seen numbers, the last and one past the cap, under the key of another.
    for sequence in [0, 1, 4, 5, u64::MAX] {
        let (header, raw) = packet(&key(1), 0, sequence);
        assert!(!t.admit(&header, &raw));
        assert_eq!(t.admit_all([(&header, &raw)].into_iter()), 0);
    }
    assert_eq!((state(&t), t.refused().bad_tag), (before, 10));
    // None of them has taken a place.
    assert!(offer(&t, 0, 1));
    assert_eq!(t.received(), [2, 0, 0, 0]);
    t.commit().unwrap();
    assert!(!offer(&t, 0, 2));
    assert_eq!(t.received(), [3, 0, 0, 0], "after the commitment, too");
}

#[test]
fn one_commitment_and_only_one() {
    let t = tally(2);
    assert!(offer(&t, 0, 0));
    assert!(t.bitmaps().iter().all(Vec::is_empty) && t.histogram().is_empty());
    let winners = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| winners.fetch_add(usize::from(t.commit().is_some()), Relaxed));
        }
    });
    assert_eq!(winners.into_inner(), 1);
}

#[test]
fn the_commitment_depends_on_every_leaf() {
    let (a, b) = (tally(1), tally(1));
    let (h, raw) = packet(&key(0), 0, 2);
    assert!(a.admit(&h, &raw) && b.admit(&h, &raw));
    a.accept(&[leaf(0, 2)]);
    b.accept(&[Leaf {
        digest: [2; 32],
        ..leaf(0, 2)
    }]);
    assert_ne!(
        a.commit().unwrap().0.response,
        b.commit().unwrap().0.response
    );
}

#[test]
fn what_comes_after_the_commitment_is_late_however_far_it_had_come() {
    let t = tally(100);
    assert!(offer(&t, 0, 0));
    // Admitted, but not hashed when the commitment is made.
    let (h, raw) = packet(&key(1), 1, 7);
    assert!(t.admit(&h, &raw));
    let (commit, roots) = t.commit().unwrap();
    t.accept(&[leaf(1, 7)]);
    assert!(!offer(&t, 2, 0));
    assert_eq!((commit.packets, t.refused().late), (1, 2));
    assert_eq!(t.bitmaps(), [vec![1], vec![], vec![], vec![]]);
    adds_up(&t, &commit, &roots, 3);
}

#[test]
fn urgent_when_little_is_missing_and_not_before() {
    let t = tally(50);
    let near = u64::max(150 / URGENT_PART, URGENT_LEAST);
    for i in 0..150 {
        assert_eq!(t.urgent(), 150 - i <= near, "{i}");
        assert!(offer(&t, u16::try_from(i % 3).unwrap(), i / 3));
    }
    assert!(t.urgent() && t.complete());
    t.commit().unwrap();
    assert!(!t.urgent());
}

#[test]
fn arrivals_and_slices_are_those_of_the_packets() {
    let t = tally(10);
    let at = [50, 20, 90, 2_000_049, 2_000_050, 900_000_000];
    for (sequence, arrival_ns) in (0..).zip(at) {
        let (h, raw) = packet(&key(0), 0, sequence);
        assert!(t.admit(&h, &raw));
        t.accept(&[Leaf {
            arrival_ns,
            ..leaf(0, sequence)
        }]);
    }
    let (commit, _) = t.commit().unwrap();
    assert_eq!(commit.arrivals, (20, 900_000_000));
    // From the packet that was accepted first, at 50; the last bin takes all that is later.
    let bins = t.histogram();
    assert_eq!((bins.len(), bins[0], bins[1]), (HISTOGRAM, 4, 1));
    assert_eq!(bins[HISTOGRAM - 1], 1);
}

/// Groups and nodes hashed at the commitment for each challenger when 0, 1, 2 each send `count` in order,
/// all but every `lose`-th of which arrive, `m` being counted at most.
fn left_to_commit(m: u64, count: u64, lose: u64) -> u64 {
    let t = tally(m);
    for sequence in (0..count).filter(|s| lose == 0 || s % lose != 0) {
        for index in 0..3 {
            assert!(offer(&t, index, sequence));
        }
    }
    let (commit, roots) = t.commit().unwrap();
    adds_up(&t, &commit, &roots, commit.packets);
    assert!(t.hashed_at_commit().is_multiple_of(3));
    t.hashed_at_commit() / 3
}

#[test]
fn the_work_of_the_commitment_does_not_grow_with_the_packets() {
    const NODE: u64 = (GROUP * ARITY) as u64;
    // A whole number of nodes, none lost: nothing is left. Of groups: the node over them.
    assert_eq!(left_to_commit(NODE, NODE, 0), 0);
    assert_eq!(left_to_commit(8 * NODE, 8 * NODE, 0), 0);
    // Cut within a node, and within a group.
    for count in [640, 3 * NODE + 640, 12 * NODE + 640] {
        assert_eq!(left_to_commit(count, count, 0), 1);
        assert_eq!(left_to_commit(count + 10, count + 10, 0), 2);
    }
    // With gaps in every group those within the lag at a deadline, and the open one at the target; and
    // the open node.
    let lag = LAG as u64;
    for count in [650, NODE + 650, 12 * NODE + 650] {
        let came = count - count.div_ceil(7);
        assert_eq!(left_to_commit(count, count, 7), lag + 1 + 1);
        assert_eq!(left_to_commit(came, count, 7), 1 + 1);
    }
    // Where a node ends within the lag it is open too, and not where it ends before.
    for count in [NODE + 50, 12 * NODE + 50] {
        let came = count - count.div_ceil(7);
        assert_eq!(left_to_commit(count, count, 7), lag + 1 + 2);
        assert_eq!(left_to_commit(came, count, 7), 1 + 1);
        let beyond = count + lag * GROUP as u64;
        assert_eq!(left_to_commit(beyond, beyond, 7), lag + 1 + 1);
    }
}

#[test]
fn a_sender_that_comes_back_everywhere_leaves_the_commitment_no_more_to_hash() {
    // Two gaps in eight, of which one is filled long after, each time as far as can be from the one
    // before: every group changes, none becomes full, and every node changes with each packet.
    for groups in [60u64, 600, 1200] {
        let numbers = groups * GROUP as u64;
        let t = tally(numbers);
        for sequence in (0..numbers).filter(|s| s % 8 < 6) {
            assert!(offer(&t, 0, sequence));
        }
        let gaps = numbers / 8;
        // 7919 is a prime that divides no number of gaps: each comes once.
        assert!(!gaps.is_multiple_of(7919));
        for i in 0..gaps {
            assert!(offer(&t, 0, i * 7919 % gaps * 8 + 6));
        }
        let (commit, roots) = t.commit().unwrap();
        assert_eq!(commit.packets, 7 * gaps);
        adds_up(&t, &commit, &roots, 7 * gaps);
        assert_eq!(t.hashed_at_commit(), LAG as u64 + 1 + 1, "{groups}");
    }
}

#[test]
fn stragglers_leave_the_commitment_no_more_to_hash() {
    // Every hundredth packet comes 10,000 late, over two nodes back.
    const LATE: u64 = 10_000;
    for count in [20_000u64, 80_000] {
        let t = tally(count);
        for now in 0..count {
            if now % 100 != 0 {
                assert!(offer(&t, 0, now));
            } else if now >= LATE {
                assert!(offer(&t, 0, now - LATE));
            }
        }
        let (commit, roots) = t.commit().unwrap();
        assert_eq!(commit.packets, count - LATE / 100);
        adds_up(&t, &commit, &roots, commit.packets);
        assert!(t.hashed_at_commit() <= LAG as u64 + 1 + 2, "{count}");
    }
}

#[test]
fn reordering_is_counted_per_challenger() {
    let t = tally(10);
    for (index, sequence) in [(0, 1), (1, 0), (0, 0), (0, 2), (1, 1)] {
        assert!(offer(&t, index, sequence));
    }
    assert_eq!(t.reordered(), 1);
}

/// All threads offer from one list, which holds every packet about twice; the caps of each and of all
/// are smaller than what is offered, so every reason to refuse is raced for.
fn race(threads: usize, m: u64, deadline_after: Option<usize>) {
    let t = tally_of(m, 4);
    // Beyond the cap of 4.6 m; 11 divides no length of the list, so every number comes.
    let numbers = m * 5;
    assert!(!numbers.is_multiple_of(11));
    let keys: Vec<SessionKey> = (0..4).map(key).collect();
    let mut list: Vec<(u16, u64)> = (0..2 * numbers)
        .flat_map(|i| (0..4).map(move |index| (index, i * 11 % numbers)))
        .collect();
    list.extend((0..40).map(|i| (9, i)));
    let packets: Vec<_> = list
        .iter()
        .map(|(index, s)| {
            packet(
                keys.get(usize::from(*index)).unwrap_or(&keys[0]),
                *index,
                *s,
            )
        })
        .collect();
    let next = AtomicUsize::new(0);
    let committed = std::sync::OnceLock::new();
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                let mut lanes = Vec::with_capacity(16);
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    let packet = packets.get(at);
                    if let Some((header, raw)) = packet
                        && t.admit(header, raw)
                    {
                        lanes.push(leaf(header.index, header.sequence));
                    }
                    if lanes.len() == 16 || packet.is_none() {
                        t.accept(&lanes);
                        lanes.clear();
                    }
                    let deadline = deadline_after.is_some_and(|after| at >= after);
                    if (t.complete() || deadline)
                        && let Some(made) = t.commit()
                    {
                        assert!(committed.set(made).is_ok(), "two commitments");
                    }
                    if packet.is_none() {
                        break;
                    }
                }
            });
        }
    });
    let (commit, roots) = committed
        .into_inner()
        .unwrap_or_else(|| t.commit().unwrap());
    adds_up(&t, &commit, &roots, packets.len() as u64);
    if deadline_after.is_none() {
        assert_eq!(commit.packets, t.target, "everything was offered");
    }
}

#[test]
fn racing_threads_keep_caps_and_sums() {
    for threads in [1, 2, 7] {
        // Within a group, one group, many, and many nodes.
        for m in [5, 64, 500, 5000] {
            race(threads, m, None);
        }
    }
}

#[test]
fn a_deadline_amid_racing_threads_leaves_no_packet_without_a_fate() {
    for after in (0..4000).step_by(250) {
        race(4, 300, Some(after));
    }
    for after in (0..120_000).step_by(15_000) {
        race(4, 5000, Some(after));
    }
}

/// One call of `accept` is cut in two by the commitment of another thread.
#[test]
fn a_packet_stored_as_the_lanes_are_sealed_is_in_the_commitment_or_late() {
    const M: u64 = 20_000;
    let keys: Vec<SessionKey> = (0..3).map(key).collect();
    let packets: Vec<_> = (0..M)
        .flat_map(|s| (0..3).map(move |index| (index, s)))
        .map(|(index, s)| packet(&keys[usize::from(index)], index, s))
        .collect();
    let leaves: Vec<Leaf> = packets
        .iter()
        .map(|(h, _)| leaf(h.index, h.sequence))
        .collect();
    let mut cut = 0;
    // A thread that is not given its core commits too late; it is again and again until it was in time.
    for _ in 0..200 {
        if cut == 8 {
            break;
        }
        let t = tally(M);
        assert!(packets.iter().all(|(h, raw)| t.admit(h, raw)));
        let made = std::thread::scope(|s| {
            s.spawn(|| t.accept(&leaves));
            let first = t.lanes[0].as_ref().unwrap();
            while !first.stored(0) {
                std::hint::spin_loop();
            }
            t.commit().unwrap()
        });
        adds_up(&t, &made.0, &made.1, packets.len() as u64);
        cut += usize::from(t.refused().late > 0);
    }
    assert!(
        cut > 0,
        "the commitment came every time after the last packet"
    );
}

#[test]
fn threads_that_claim_in_one_word_do_not_undo_each_other() {
    const ROUNDS: usize = 10_000_000;
    let lane = Lane::new(key(0), GROUP);
    let start = Barrier::new(2);
    let claims = |at: usize| {
        start.wait();
        for _ in 0..ROUNDS {
            assert!(lane.claim(at) && !lane.claim(at));
            lane.unclaim(at);
        }
    };
    std::thread::scope(|s| {
        s.spawn(|| claims(0));
        claims(1);
    });
    assert!(!lane.seen(0) && !lane.seen(1));
}

#[test]
fn no_more_is_taken_than_there_is() {
    const MOST: u64 = 10_000_000;
    let taken = AtomicU64::new(0);
    let start = Barrier::new(2);
    let takes = || {
        start.wait();
        let one = std::iter::repeat_with(|| take(&taken, MOST));
        one.take_while(|t| *t).count()
    };
    let both = std::thread::scope(|s| {
        let other = s.spawn(takes);
        takes() + other.join().unwrap()
    });
    assert_eq!((both as u64, taken.load(Relaxed)), (MOST, MOST));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Losses, duplicates, local disorder and far stragglers, in lots of any length.
    #[test]
    fn any_order_commits_to_the_same(
        seed: u64, count in 1u64..700, lose in 0u64..4, far in 0u64..20, lot in 1usize..17,
    ) {
        let noise = |what: u64, i: u64| {
            let bytes: Vec<u8> = [seed, what, i].iter().flat_map(|v| v.to_le_bytes()).collect();
            u64::from_le_bytes(*blake3::hash(&bytes).as_bytes().first_chunk().unwrap())
        };
        let t = tally(700);
        let mut order: Vec<(u64, u16, u64)> = Vec::new();
        for index in 0..3u16 {
            for sequence in 0..count {
                let id = sequence * 3 + u64::from(index);
                if noise(0, id) % 10 < lose {
                    continue;
                }
                let shift = noise(1, id) % 100;
                let straggles = far > 0 && noise(2, id).is_multiple_of(far * 10);
                let when = sequence + shift + if straggles { count } else { 0 };
                order.push((when, index, sequence));
                if noise(3, id).is_multiple_of(11) {
                    order.push((when + noise(4, id) % 300, index, sequence));
                }
            }
        }
        order.sort_unstable();
        let keys: Vec<SessionKey> = (0..3).map(key).collect();
        let mut lanes = Vec::new();
        for (_, index, sequence) in &order {
            let (h, raw) = packet(&keys[usize::from(*index)], *index, *sequence);
            if t.admit(&h, &raw) {
                lanes.push(leaf(*index, *sequence));
            }
            if lanes.len() >= lot {
                t.accept(&lanes);
                lanes.clear();
            }
        }
        t.accept(&lanes);
        let (commit, roots) = t.commit().unwrap();
        adds_up(&t, &commit, &roots, order.len() as u64);
    }
}
