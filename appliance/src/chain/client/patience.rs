//! How long a client waits, and what it pays, until a transaction is settled.

use std::time::Duration;

use crate::chain::finality::Finality;

/// Most that is paid for a unit of gas, wei: 500 gwei, which public chains have asked for hours only.
const MAX_FEE_PER_GAS: u128 = 500_000_000_000;

/// How long a client waits, and what it pays.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When a transaction is acknowledged.
    pub finality: Finality,
    /// Longest from sending a transaction to its acknowledgement.
    pub settle: Duration,
    /// How long a transaction may wait for a block before its fee is raised.
    pub bump: Duration,
    /// Most that is paid for a unit of gas, wei.
    pub max_fee_per_gas: u128,
    /// An endpoint that does not answer is asked again until `settle` is over; otherwise its silence is
    /// told at once.
    pub is_stubborn: bool,
}

impl Patience {
    /// For a chain whose blocks never change and that has one door.
    pub(super) const IMMEDIATE: Self = Self {
        finality: Finality::IMMEDIATE,
        settle: Duration::from_secs(60),
        bump: Duration::from_secs(60),
        max_fee_per_gas: MAX_FEE_PER_GAS,
        is_stubborn: false,
    };

    /// For any other: `finalized` takes a quarter of an hour where it is slow, and as much again is
    /// allowed for. A fee is raised after some blocks of most chains.
    #[must_use]
    pub fn until(finality: Finality) -> Self {
        Self {
            finality,
            settle: Duration::from_secs(1_800),
            bump: Duration::from_secs(30),
            is_stubborn: true,
            ..Self::IMMEDIATE
        }
    }
}
