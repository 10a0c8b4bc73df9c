//! The draw, exactly as the contract does it, so that anyone can repeat it.
//!
//! ```text
//!   h_j = keccak256(abi.encode(mix, id, j)), j = 0, 1, 2, …     place = (h_j mod 2^128) mod pool     coin = h_j / 2^128
//!
//!   place decided before? ─yes─► next j        coin mod most < tickets of its holder? ─no─► Unlucky, not decided
//!                                                                                     └─yes─► decided: Seated, or why not
//! ```
//!
//! **Claim.** From mix, id and pool follows which places were looked at in which order, and whose coin was lucky: a list
//! of looks that is not that, names a holder twice, or ends too early or late is found. **Limit.** Who holds a
//! place and whether it took part then, was live and works for no party, is known to the chain alone: compare there.

use std::collections::{BTreeMap, BTreeSet};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::encoding::{Digest, keccak256};
use crate::identity::Address;

/// Most draws for each look that is allowed: others hit places that are decided.
const DRAWS_PER_LOOK: usize = 16;

/// What became of the holder of a place that was looked at. As in the contract.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
#[borsh(use_discriminant = true)]
pub enum Fate {
    /// Drawn.
    Seated = 1,
    /// Nobody's place, or its holder did not take part at the request.
    Away = 2,
    /// No fresh heartbeat at the request.
    Silent = 3,
    /// A party, or of a party's operator.
    Related = 4,
    /// Its coin was not below its tickets.
    Unlucky = 5,
}

impl Fate {
    /// What the contract wrote as `value`.
    pub fn from_u8(value: u8) -> Option<Self> {
        use Fate::{Away, Related, Seated, Silent, Unlucky};
        let all = [Seated, Away, Silent, Related, Unlucky];
        all.into_iter().find(|f| *f as u8 == value)
    }
}

/// One look at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Look {
    /// Who holds it; zero: nobody.
    pub account: Address,
    /// Its tickets; 1 where each counts alike.
    pub tickets: u8,
    /// What became of it.
    pub fate: Fate,
}

impl Look {
    /// As the contract writes it, big endian: account << 16 | tickets << 8 | fate. `None` if it is none.
    pub fn from_word(word: &[u8; 32]) -> Option<Self> {
        let [head @ .., tickets, fate] = word;
        let (zeros, account) = head.split_at(10);
        let account = Address(account.try_into().ok()?);
        let fate = Fate::from_u8(*fate)?;
        zeros.iter().all(|b| *b == 0).then_some(Self {
            account,
            tickets: *tickets,
            fate,
        })
    }
}

/// Why a list of looks is not that of a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It ends before the draw does.
    #[error("the looks end before the draw does")]
    TooFew,
    /// It goes on after the draw has ended.
    #[error("the looks go on after the draw has ended")]
    TooMany,
    /// The coin says otherwise.
    #[error("look {0} is not what its coin says")]
    Coin(usize),
    /// The place had another holder before, or the holder another place.
    #[error("look {0} gives a place another holder, or a holder another place")]
    Holder(usize),
}

/// All that a draw follows from, but the pool's holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Mix of the round that closed it.
    pub mix: Digest,
    /// What is drawn for.
    pub id: Digest,
    /// Places of the pool at the request.
    pub pool: u32,
    /// Seats.
    pub n: usize,
    /// Tickets that count of one at most.
    pub most: u8,
}

impl Draw {
    /// Place and coin of draw number `j`.
    fn hand(&self, j: usize) -> (u32, u8) {
        let mut number = [0u8; 32];
        number[24..].copy_from_slice(&(j as u64).to_be_bytes());
        let h = keccak256(&[&self.mix, &self.id, &number]);
        let rest = |bytes: &[u8], modulus: u64| {
            let fold = |r: u64, byte: &u8| ((r << 8) | u64::from(*byte)) % modulus;
            bytes.iter().fold(0, fold)
        };
        let (coin, place) = h.split_at(16);
        let place = rest(place, self.pool.into());
        let coin = rest(coin, self.most.max(1).into());
        // Both are below what they are taken modulo of.
        (
            u32::try_from(place).unwrap_or(u32::MAX),
            u8::try_from(coin).unwrap_or(u8::MAX),
        )
    }

    /// Draws, `holder` saying who holds a place and what becomes of it once its coin is lucky. All looks, in order;
    /// fewer than n are seated if there are not so many, or too many places are looked at in vain.
    pub fn made(&self, holder: impl Fn(u32) -> Look) -> Vec<Look> {
        let mut looks = Vec::new();
        // Nothing is wrong with what is never refused.
        let _never = self.walk(|place, _, lucky| {
            let mut look = holder(place);
            if !lucky(look.tickets) {
                look.fate = Fate::Unlucky;
            }
            looks.push(look);
            Ok(look)
        });
        looks
    }

    /// Who is seated by a draw that came upon `looks`.
    ///
    /// # Errors
    /// No draw with this mix, id and pool comes upon them.
    pub fn seated(&self, looks: &[Look]) -> Result<Vec<Address>, Wrong> {
        let mut held: BTreeMap<u32, Address> = BTreeMap::new();
        let mut holders: BTreeMap<Address, u32> = BTreeMap::new();
        let looked = self.walk(|place, at, lucky| {
            let look = *looks.get(at).ok_or(Wrong::TooFew)?;
            if lucky(look.tickets) == (look.fate == Fate::Unlucky) {
                return Err(Wrong::Coin(at));
            }
            let same = *held.entry(place).or_insert(look.account) == look.account;
            let only = look.account == Address::default()
                || *holders.entry(look.account).or_insert(place) == place;
            (same && only).then_some(look).ok_or(Wrong::Holder(at))
        })?;
        if looked < looks.len() {
            return Err(Wrong::TooMany);
        }
        let seated = looks.iter().filter(|l| l.fate == Fate::Seated);
        Ok(seated.map(|l| l.account).collect())
    }

    /// Goes through the draw, asking for each look: place, its number, whether so many tickets are lucky. How many.
    fn walk(
        &self,
        mut look: impl FnMut(u32, usize, &dyn Fn(u8) -> bool) -> Result<Look, Wrong>,
    ) -> Result<usize, Wrong> {
        let limit = (8 * self.n + 88) * if self.most > 1 { 2 } else { 1 };
        let mut decided: BTreeSet<u32> = BTreeSet::new();
        let (mut looked, mut seated) = (0, 0);
        for j in 0..limit * DRAWS_PER_LOOK {
            let over = seated >= self.n || decided.len() as u64 >= u64::from(self.pool);
            if over || looked >= limit {
                break;
            }
            let (place, coin) = self.hand(j);
            if decided.contains(&place) {
                continue;
            }
            let found = look(place, looked, &|tickets| coin < tickets)?;
            looked += 1;
            if found.fate != Fate::Unlucky {
                decided.insert(place);
                seated += usize::from(found.fate == Fate::Seated);
            }
        }
        Ok(looked)
    }
}

#[cfg(test)]
mod tests;
