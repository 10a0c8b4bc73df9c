//! Who is at the door: how many connections each address has, and what it may still ask for.
//!
//! ```text
//!   accept ─► enter(address) ─┬─ Seat: a connection, until dropped ─► Visitor: requests, reads, transactions
//!                             └─ Full: all seats, or those of this address, are taken
//! ```
//! **Guarantees.** As many connections as configured, in all and of one address (of one /64 over IPv6); the table holds
//! a bounded number of addresses, and who is connected is never forgotten. **Limits.** An address is not a person:
//! machines behind one address share its quota, and who has many addresses has many quotas. **Tests.** Below.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::chain::Caller;
use crate::config::Limits;

/// Addresses beyond those that are connected: of each only how much it has taken lately is remembered.
const REMEMBERED: usize = 4096;

/// Why somebody may not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// So many are connected.
    All(u32),
    /// So many of this address are.
    Address(u32),
}

/// One address, or one /64.
#[derive(Debug)]
pub struct Visitor {
    connections: AtomicU32,
    left: Mutex<Instant>,
    /// What it may still ask for.
    pub caller: Arc<Caller>,
}

/// The table.
#[derive(Debug)]
pub struct Visitors {
    limits: Limits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    connections: u32,
    known: HashMap<IpAddr, Arc<Visitor>>,
}

/// A connection, while it lasts.
#[derive(Debug)]
pub struct Seat {
    /// Whose.
    pub visitor: Arc<Visitor>,
    visitors: Arc<Visitors>,
}

/// Whoever has one address of a /64 has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let prefix = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        v4 => v4,
    }
}

impl Visitors {
    /// Nobody yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            table: Mutex::default(),
        })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a connection from `address`.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Seat, Full> {
        let mut table = self.table();
        let limits = &self.limits;
        if table.connections >= limits.connections {
            return Err(Full::All(limits.connections));
        }
        let network = network(address);
        if !table.known.contains_key(&network)
            && table.known.len() >= REMEMBERED + limits.connections as usize
        {
            table.forget_one();
        }
        let visitor = table.known.entry(network).or_insert_with(|| {
            Arc::new(Visitor {
                connections: AtomicU32::new(0),
                left: Mutex::new(Instant::now()),
                caller: Arc::new(Caller::new(limits.quota)),
            })
        });
        if visitor.connections.load(Ordering::Relaxed) >= limits.connections_each {
            return Err(Full::Address(limits.connections_each));
        }
        // Under the table's lock, as every change of it.
        visitor.connections.fetch_add(1, Ordering::Relaxed);
        let visitor = visitor.clone();
        table.connections += 1;
        Ok(Seat {
            visitor,
            visitors: self.clone(),
        })
    }
}

impl Table {
    /// Forgets who took nothing lately; if there is nobody, who left first. Those connected stay: they are fewer.
    fn forget_one(&mut self) {
        let idle = |v: &Visitor| v.connections.load(Ordering::Relaxed) == 0;
        self.known.retain(|_, v| !idle(v) || !v.caller.is_fresh());
        let left = |v: &Visitor| *v.left.lock().unwrap_or_else(PoisonError::into_inner);
        if self.known.len() >= REMEMBERED {
            let away = self.known.iter().filter(|(_, v)| idle(v));
            let first = away.min_by_key(|(_, v)| left(v)).map(|(ip, _)| *ip);
            if let Some(first) = first {
                self.known.remove(&first);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.visitors.table();
        table.connections -= 1;
        self.visitor.connections.fetch_sub(1, Ordering::Relaxed);
        *self
            .visitor
            .left
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::caller::Quota;
    use std::time::Duration;

    fn visitors(connections: u32, connections_each: u32) -> Arc<Visitors> {
        Visitors::new(Limits {
            connections,
            connections_each,
            quota: Quota {
                requests_a_second: 1,
                reading_a_second: Duration::from_millis(1),
                newcomers_gas: 1,
            },
        })
    }

    #[test]
    fn seats_in_all_and_of_an_address_have_both_sides_and_come_back() {
        let door = visitors(3, 2);
        let four = |last: u8| IpAddr::from([10, 0, 0, last]);
        let first = door.enter(four(1)).unwrap();
        let second = door.enter(four(1)).unwrap();
        assert_eq!(door.enter(four(1)).unwrap_err(), Full::Address(2));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(door.enter(mapped).unwrap_err(), Full::Address(2));
        let third = door.enter(four(2)).unwrap();
        assert_eq!(door.enter(four(3)).unwrap_err(), Full::All(3));
        drop(first);
        drop(door.enter(four(3)).unwrap());
        drop((second, third));
        assert_eq!(door.table().connections, 0);
    }

    #[test]
    fn a_64_is_one_visitor() {
        let door = visitors(3, 1);
        let six = |text: &str| text.parse::<IpAddr>().unwrap();
        let _one = door.enter(six("fd00::1")).unwrap();
        assert!(door.enter(six("fd00::ffff:0:0:1")).is_err());
        assert!(door.enter(six("fd00:0:0:1::1")).is_ok());
    }

    #[test]
    fn the_table_is_bounded_and_who_is_connected_keeps_what_it_has_taken() {
        let door = visitors(2, 1);
        let stays = door.enter([9, 9, 9, 9].into()).unwrap();
        stays.visitor.caller.request(1).unwrap();
        for address in (0..u32::MAX).take(3 * REMEMBERED) {
            let ip = IpAddr::from(std::net::Ipv4Addr::from(address));
            // Each has taken something, so that none is forgotten as one who has not.
            let seat = door.enter(ip).unwrap();
            let _taken = seat.visitor.caller.request(1);
        }
        assert!(door.table().known.len() <= REMEMBERED + 2);
        let known = door.table().known[&IpAddr::from([9, 9, 9, 9])].clone();
        assert!(Arc::ptr_eq(&known, &stays.visitor));
    }
}
