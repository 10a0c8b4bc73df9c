//! What the receiver's counters say of one session: the differences of a snapshot before it and one after.

use crate::datapath::Counters;

/// Named differences of two snapshots: XDP fates, socket and thread counters.
pub(super) fn between(before: &Counters, after: &Counters) -> Vec<(String, u64)> {
    let mut named: Vec<(String, u64)> = after
        .fates
        .iter()
        .map(|(name, n)| {
            (
                format!("xdp_{name}"),
                n - before.fates.get(name).copied().unwrap_or(0).min(*n),
            )
        })
        .collect();
    let others = [
        (
            "xsk_rx_dropped",
            before.xsk.rx_dropped,
            after.xsk.rx_dropped,
        ),
        (
            "xsk_rx_ring_full",
            before.xsk.rx_ring_full,
            after.xsk.rx_ring_full,
        ),
        (
            "xsk_rx_invalid_descs",
            before.xsk.rx_invalid_descs,
            after.xsk.rx_invalid_descs,
        ),
        (
            "xsk_fill_ring_empty",
            before.xsk.fill_ring_empty,
            after.xsk.fill_ring_empty,
        ),
        (
            "socket_dropped",
            before.socket.dropped,
            after.socket.dropped,
        ),
        (
            "thread_malformed",
            before.thread.malformed,
            after.thread.malformed,
        ),
        (
            "thread_other_session",
            before.thread.other_session,
            after.thread.other_session,
        ),
    ];
    named.extend(
        others.map(|(name, before, after)| (name.to_owned(), after.saturating_sub(before))),
    );
    named
}

/// Frames that the prover's own host lost meanwhile, at most: [`Counters::lost_since`].
pub(super) fn host_dropped(before: &Counters, after: &Counters) -> u64 {
    after.lost_since(before)
}

/// Frames and bytes that the interface received meanwhile, whoever they were for; none if it was not there
/// all the time, under the same name.
pub(super) fn interface(before: &Counters, after: &Counters) -> Option<(u64, u64)> {
    let (before, after) = (before.interface?, after.interface?);
    // An interface that was made anew begins at 0.
    let frames = after.frames.checked_sub(before.frames)?;
    Some((frames, after.bytes.checked_sub(before.bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::InterfaceCounters;

    fn snapshot(lost: u64, interface: Option<(u64, u64, u64)>) -> Counters {
        let mut counters = Counters::default();
        counters.xsk.rx_dropped = lost;
        counters.interface = interface.map(|(frames, bytes, dropped)| InterfaceCounters {
            frames,
            bytes,
            dropped,
        });
        counters
    }

    #[test]
    fn the_host_lost_what_was_lost_meanwhile() {
        let lost = |before, after| host_dropped(&before, &after);
        let at = |lost, dropped| snapshot(lost, Some((0, 0, dropped)));
        assert_eq!(lost(at(3, 100), at(3, 100)), 0);
        assert_eq!(lost(at(3, 100), at(4, 100)), 1);
        assert_eq!(lost(at(3, 100), at(3, 107)), 7);
        assert_eq!(lost(at(3, 100), at(4, 107)), 8);
        assert_eq!(lost(snapshot(3, None), at(4, 107)), 1);
    }

    #[test]
    fn an_interface_that_was_there_all_the_time_says_what_it_received() {
        let of = |before, after| interface(&snapshot(0, before), &snapshot(0, after));
        assert_eq!(of(Some((5, 700, 0)), Some((5, 700, 0))), Some((0, 0)));
        assert_eq!(of(Some((5, 700, 0)), Some((6, 2214, 9))), Some((1, 1514)));
        assert_eq!(of(Some((5, 700, 0)), Some((4, 600, 0))), None, "made anew");
        assert_eq!(of(None, Some((4, 600, 0))), None);
        assert_eq!(of(Some((5, 700, 0)), None), None);
    }

    #[test]
    fn only_what_came_since_is_counted() {
        let mut before = Counters::default();
        before.fates.insert("dropped_runt", 3);
        before.xsk.rx_dropped = 1;
        let mut after = before.clone();
        after.fates.insert("dropped_runt", 5);
        after.fates.insert("redirected", 7);
        after.thread.other_session = 2;
        let named = between(&before, &after);
        let of = |name: &str| named.iter().find(|(n, _)| n == name).unwrap().1;
        assert_eq!(
            (
                of("xdp_dropped_runt"),
                of("xdp_redirected"),
                of("xsk_rx_dropped"),
                of("thread_other_session")
            ),
            (2, 7, 0, 2)
        );
    }
}
