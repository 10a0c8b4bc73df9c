//! What a run costs, in integer base units of the token. The contract computes the same.

/// Escrow of a request: every byte that can be counted, at its price, and the coordinator's fee.
/// `None` on overflow of 128 bits (the contract refuses such a request as well).
pub fn escrow(
    price_per_byte: u128,
    ip_layer_len: u64,
    target_packets: u64,
    fee: u128,
) -> Option<u128> {
    price_per_byte
        .checked_mul(u128::from(ip_layer_len))?
        .checked_mul(u128::from(target_packets))?
        .checked_add(fee)
}

/// Pay of one valid report: the bytes it handed over, at most `m` packets of them.
pub fn pay(price_per_byte: u128, ip_layer_len: u64, packets: u64, m: u64) -> Option<u128> {
    price_per_byte
        .checked_mul(u128::from(ip_layer_len))?
        .checked_mul(u128::from(packets.min(m)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pays_never_exceed_the_escrow() {
        let (price, len, m, n, f, fee) = (7u128, 1500u64, 2084u64, 5u64, 1u64, 1000u128);
        let locked = escrow(price, len, m * (n - f), fee).unwrap();
        // Counts sum to at most (n-f)·m.
        let paid: u128 = (0..n - f).map(|_| pay(price, len, m + 5, m).unwrap()).sum();
        assert_eq!(paid + fee, locked);
        assert_eq!(escrow(u128::MAX, 1500, 1, 0), None);
    }
}
