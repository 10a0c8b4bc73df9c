//! Everything set once, and what a scrape then reads.

use super::*;

fn roles() -> Roles {
    let mut roles = Roles::default();
    roles.insert(Role::Prover);
    roles.insert(Role::Coordinator);
    roles
}

/// Everything set once.
fn full() -> Metrics {
    let m = Metrics::new(roles(), "abc1234").unwrap();
    m.challenge_began(Proof::Backhaul, Role::Prover);
    m.challenge_began(Proof::Backhaul, Role::Prover);
    m.challenge_ended(
        Proof::Backhaul,
        Role::Prover,
        Outcome::Pass,
        Duration::from_millis(1500),
    );
    m.probe(Probe::Before, Duration::from_micros(250));
    m.packets_add(Proof::Backhaul, Direction::Sent, "accepted", 7);
    m.bytes_add(Proof::Backhaul, Direction::Sent, 1500);
    m.capacity(Link::Downlink, Estimate::Measured, 990_000_000);
    m.commit_sent(Duration::from_micros(80));
    m.signature(Algorithm::Ed25519, true);
    m.signature(Algorithm::Secp256k1, false);
    m.chain(42, 1_000, 5_000_000);
    m.transaction(Transaction::Report, true);
    m.http(
        "/v1/sessions/{id}",
        &Method::GET,
        StatusCode::NOT_FOUND,
        Duration::from_millis(2),
    );
    m.http(
        "/v1/sessions/{id}",
        &Method::from_bytes(b"BREW").unwrap(),
        StatusCode::METHOD_NOT_ALLOWED,
        Duration::ZERO,
    );
    m.datapath("generic", "xdp-tai");
    m.datapath("native", "xdp-tai");
    m
}

#[test]
fn what_was_set_is_what_is_scraped() {
    let text = full().render().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        &format!(
            "plumbline_build_info{{commit=\"abc1234\",role=\"coordinator+prover\",version=\"{version}\"}} 1"
        ) as &str,
        "plumbline_challenges_total{proof=\"backhaul\",result=\"pass\",role=\"prover\"} 1",
        "plumbline_challenges_in_progress{proof=\"backhaul\",role=\"prover\"} 1",
        "plumbline_challenge_duration_seconds_bucket{proof=\"backhaul\",role=\"prover\",le=\"1\"} 0",
        "plumbline_challenge_duration_seconds_bucket{proof=\"backhaul\",role=\"prover\",le=\"2\"} 1",
        "plumbline_probe_rtt_seconds_count{phase=\"before\"} 1",
        "plumbline_packets_total{direction=\"sent\",fate=\"accepted\",proof=\"backhaul\"} 7",
        "plumbline_bytes_total{direction=\"sent\",proof=\"backhaul\"} 1500",
        "plumbline_last_capacity_bits_per_second{direction=\"downlink\",kind=\"measured\"} 990000000",
        "plumbline_commit_latency_seconds_bucket{le=\"0.0001\"} 1",
        "plumbline_commit_latency_seconds_bucket{le=\"0.00005\"} 0",
        "plumbline_signature_verifications_total{algorithm=\"secp256k1\",result=\"bad\"} 1",
        "plumbline_chain_height 42",
        "plumbline_chain_transactions_total{kind=\"report\",result=\"ok\"} 1",
        "plumbline_escrow_units 1000",
        "plumbline_stake_units 5000000",
        "plumbline_http_requests_total{code=\"404\",method=\"GET\",route=\"/v1/sessions/{id}\"} 1",
        "plumbline_http_requests_total{code=\"405\",method=\"other\",route=\"/v1/sessions/{id}\"} 1",
        "plumbline_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/sessions/{id}\"} 1",
        "plumbline_xsk_mode_info{mode=\"native\"} 1",
        "plumbline_timestamp_source_info{mode=\"xdp-tai\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(
        !text.contains("mode=\"generic\""),
        "a mode no longer in use is still shown"
    );
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}

#[test]
fn names_and_help_follow_the_conventions() {
    let text = full().render().unwrap();
    let families: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    assert_eq!(
        families
            .iter()
            .filter(|(name, _)| name.starts_with("plumbline_"))
            .count(),
        18
    );
    for (name, kind) in families {
        assert_eq!(
            kind == "counter",
            name.ends_with("_total"),
            "{name} is a {kind}"
        );
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
}
