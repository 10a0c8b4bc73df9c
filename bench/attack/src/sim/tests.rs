//! The virtual world against the protocol: no attack, each attack, and that it can be repeated.

use super::table::table_on;
use super::*;

const CLAIM: u64 = 20_000_000;

fn world(network: Network) -> World {
    World {
        terms: terms(CLAIM, 7, 2, 100),
        network,
        manner: Manner::Gross,
    }
}

#[test]
fn probe() {
    for network in Network::all(CLAIM) {
        let t = std::time::Instant::now();
        let o = run_and(&world(network.clone()), None, 1, false).unwrap();
        eprintln!("{} {:?} {o:?}", network.name, t.elapsed());
    }
}
