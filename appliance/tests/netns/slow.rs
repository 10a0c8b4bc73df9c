//! A chain whose blocks are seconds apart and settle only under others: nothing on the way from a request to its
//! payout waits less than it takes.

use std::time::Duration;

use plumbline_lab::Pace;

use crate::stage::Stage;

/// Slower than a step of the set-up bears: four such blocks are twelve seconds.
const PACE: Pace = Pace {
    block_s: 3,
    finality: 3,
};
/// Far beyond the deadline: reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(400);

#[test]
fn a_proof_goes_from_request_to_payout_on_a_chain_of_slow_blocks() {
    let mut stage = Stage::set(5, 100_000_000);
    let anvil = std::env::var_os("PLUMBLINE_ANVIL").expect(
        "PLUMBLINE_ANVIL names no anvil: run the tests by `cargo xtask test`, which installs it, or set it to an anvil 1.7 of yours",
    );
    let settled = stage
        .cast
        .settle_on_anvil(&stage.lab, anvil.as_ref(), Some(PACE));
    settled.expect("the contracts are on anvil");
    stage.start_all();
    let mut payer = stage.ask("--faucet --claim 95mbit --deadline 200s");
    let (status, out) = payer.output(PATIENCE).expect("the payer ends");
    let words = std::fs::read_to_string(payer.log()).expect("its log");
    let document: serde_json::Value =
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{status}: {e}: {words}"));
    assert_eq!(document["state"], "Final", "{document}");
    assert_eq!(document["chain"]["conserved"], true, "{document}");
    let challengers = document["challengers"].as_array().expect("challengers");
    assert_eq!(challengers.len(), 5);
    for challenger in challengers {
        assert_eq!(challenger["valid"], true, "{challenger}");
        let paid = challenger["paid"]
            .as_str()
            .and_then(|p| p.parse::<u128>().ok());
        assert!(paid.is_some_and(|paid| paid > 0), "{challenger}");
    }
    stage.nothing_is_locked();
    stage
        .cast
        .stop_all()
        .expect("everybody stops with status 0");
}
