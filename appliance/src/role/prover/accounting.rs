//! What the receiver's counters say of one session.

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

#[cfg(test)]
mod tests {
    use super::*;

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
