//! Who takes part: keys, addresses, registrations, and the notice that draws them.

use std::net::SocketAddr;
use std::sync::LazyLock;

use plumbline_proof::backhaul::messages::{Member, Notice};
use plumbline_proof::backhaul::params::{MAX_CHALLENGERS, Terms};
use plumbline_trust::encoding::domain;
use plumbline_trust::identity::{Address, NetworkKey, binding_message};
use plumbline_trust::selection::{Draw, Fate, Look};
use plumbline_wire::consent::mapped_v4;

use super::chance::Chance;

/// Chain of the virtual world.
const CHAIN: u64 = 7310;
const CONTRACT: Address = Address([0xaa; 20]);
const PARTICIPANTS: Address = Address([0xbb; 20]);
/// Live challengers that are drawn from beyond those that are needed.
const SPARE: u16 = 4;

/// One who is registered.
pub(super) struct Person {
    /// Its network key.
    pub(super) key: NetworkKey,
    /// How the chain knows it.
    pub(super) member: Member,
}

fn person(number: u8) -> Person {
    let key = NetworkKey::from_secret(&[number; 32]);
    let address = Address([number; 20]);
    let message = binding_message(CHAIN, &PARTICIPANTS, &address);
    let member = Member {
        address,
        key: key.verifying(),
        binding: key.sign(domain::BINDING, &message),
    };
    Person { key, member }
}

/// The prover.
pub(super) static PROVER: LazyLock<Person> = LazyLock::new(|| person(2));
/// The coordinator.
pub(super) static COORDINATOR: LazyLock<Person> = LazyLock::new(|| person(3));
/// First number of a challenger.
const FIRST: u8 = 10;
/// The live pool. Registered once: a key costs as much as a signature.
static POOL: LazyLock<Vec<Person>> = LazyLock::new(|| {
    (FIRST..)
        .take(usize::from(MAX_CHALLENGERS + SPARE))
        .map(person)
        .collect()
});

/// The drawn challenger of this settlement address.
pub(super) fn challenger(address: &Address) -> Option<&'static Person> {
    let number = address.0.first()?.checked_sub(FIRST)?;
    POOL.get(usize::from(number))
}

/// The notice of a challenge that `chance` decides: its id, its beacon, and so the draw.
pub(super) fn notice(terms: Terms, chance: &mut Chance) -> Notice {
    let (challenge, beacon) = (chance.bytes(), chance.bytes());
    let draw = Draw {
        mix: beacon,
        id: challenge,
        pool: u32::from(terms.n + SPARE),
        n: usize::from(terms.n),
        most: 1,
    };
    let looks = draw.made(|place| Look {
        account: POOL[place as usize].member.address,
        tickets: 1,
        fate: Fate::Seated,
    });
    Notice {
        challenge,
        chain_id: CHAIN,
        contract: CONTRACT,
        participants: PARTICIPANTS,
        terms,
        price_per_byte: 1,
        deadline: u64::MAX,
        anchor_ms: 0,
        payer: Address([1; 20]),
        prover: PROVER.member,
        coordinator: COORDINATOR.member,
        beacon,
        pool: draw.pool,
        challengers: looks
            .iter()
            .filter_map(|l| Some(challenger(&l.account)?.member))
            .collect(),
        looks,
    }
}

/// The same notice with a challenger in the first place whom the beacon did not draw.
pub(super) fn swapped(mut notice: Notice) -> Notice {
    let drawn = notice.challengers.clone();
    let other = POOL.iter().map(|p| p.member).find(|m| !drawn.contains(m));
    if let (Some(first), Some(other)) = (notice.challengers.first_mut(), other) {
        *first = other;
    }
    notice
}

/// The same notice with a challenger at `index` whose network key did not sign for its account.
#[cfg(test)]
pub(super) fn unbound(mut notice: Notice, index: usize) -> Notice {
    let other = notice.challengers[(index + 1) % notice.challengers.len()].binding;
    notice.challengers[index].binding = other;
    notice
}

/// Where challenger `index` sends data from.
pub(super) fn data_of(index: usize) -> SocketAddr {
    SocketAddr::from((host(index), 8000))
}

/// Where it sends probes from.
pub(super) fn control_of(index: usize) -> SocketAddr {
    SocketAddr::from((host(index), 9000))
}

fn host(index: usize) -> [u8; 4] {
    [10, 1, u8::try_from(index).unwrap_or(u8::MAX), 1]
}

/// Somebody who was not consented to.
pub(super) fn stranger() -> SocketAddr {
    SocketAddr::from(([10, 66, 0, 1], 8000))
}

/// Where the prover takes data.
pub(super) fn prover_data() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7301))
}

/// Where it takes probes.
pub(super) fn prover_control() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7302))
}

/// An address as the consent table has it.
pub(super) fn source(address: SocketAddr) -> [u8; 16] {
    match address {
        SocketAddr::V4(v4) => mapped_v4(v4.ip().octets()),
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::world::terms;

    #[test]
    fn the_draw_is_the_seeds_and_everybody_can_be_found() {
        let draw = |seed| notice(terms(1_000_000, 10, 3, 100), &mut Chance::new(seed));
        let (one, again, other) = (draw(1), draw(1), draw(2));
        assert_eq!(one, again);
        assert_ne!(one.challengers, other.challengers);
        assert_eq!(one.challengers.len(), 10);
        for member in &one.challengers {
            assert_eq!(challenger(&member.address).unwrap().member, *member);
        }
        assert_ne!(swapped(one.clone()).challengers, one.challengers);
    }

    #[test]
    fn there_is_room_for_the_largest_draw() {
        let most = terms(1_000_000, MAX_CHALLENGERS, 21, 100);
        let drawn = notice(most, &mut Chance::new(1)).challengers;
        assert_eq!(drawn.len(), usize::from(MAX_CHALLENGERS));
    }
}
