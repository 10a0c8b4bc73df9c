//! Where every packet of a trial went.
//!
//! ```text
//!  sent (the kernel accepted it) = taken + Σ reasons + unaccounted      unaccounted must be 0
//! ```
//!
//! A loss is counted at one place only. Where the kernel counts the same packet at two (a veth's
//! `rx_dropped` repeats what the AF_XDP socket or the sending end has counted), the more precise name is
//! kept and the other left out; which, is said where it is read.

use std::collections::BTreeMap;

use serde::Serialize;

/// Sent, taken, and each reason why not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Account {
    /// Packets that the sender's kernel accepted.
    pub(crate) sent: u64,
    /// Packets that the sink took, whole, and did its work on.
    pub(crate) taken: u64,
    /// Packets that it did not take, by reason; reasons with none are left out.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
}

impl Account {
    /// Adds `packets` to a reason.
    pub(crate) fn lose(&mut self, reason: &'static str, packets: u64) {
        if packets > 0 {
            *self.reasons.entry(reason).or_default() += packets;
        }
    }

    /// What is left over: positive if packets vanished, negative if more were counted than sent.
    pub(crate) fn unaccounted(&self) -> i64 {
        let known = self.taken.saturating_add(self.reasons.values().sum());
        let wide = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        wide(self.sent).saturating_sub(wide(known))
    }

    /// Part of what was sent that was not taken; 0 if nothing was sent.
    pub(crate) fn loss(&self) -> f64 {
        if self.sent == 0 {
            return 0.0;
        }
        1.0 - self.taken as f64 / self.sent as f64
    }

    /// Adds another trial's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.taken += other.taken;
        for (reason, packets) in &other.reasons {
            self.lose(reason, *packets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(sent: u64) -> Account {
        let mut account = Account {
            sent,
            taken: 90,
            ..Account::default()
        };
        account.lose("ring_full", 6);
        account.lose("socket_full", 4);
        account.lose("nothing", 0);
        account
    }

    #[test]
    fn one_packet_more_or_less_is_unaccounted() {
        assert_eq!(account(100).unaccounted(), 0);
        assert_eq!(account(101).unaccounted(), 1);
        assert_eq!(account(99).unaccounted(), -1);
        assert_eq!(account(100).reasons.len(), 2);
    }

    #[test]
    fn opposite_errors_of_two_trials_must_not_cancel_unseen() {
        // Sums may cancel; rows therefore keep the largest error of any trial (see `row`).
        let mut sum = account(101);
        sum.add(&account(99));
        assert_eq!(sum.unaccounted(), 0);
        assert_eq!(
            (sum.sent, sum.taken, sum.reasons["ring_full"]),
            (200, 180, 12)
        );
    }

    #[test]
    fn loss_is_a_part_of_what_was_sent() {
        assert!((account(100).loss() - 0.1).abs() < 1e-12);
        assert_eq!(Account::default().loss(), 0.0);
    }
}
