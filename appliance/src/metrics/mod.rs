//! What the process counts, as Prometheus reads it.
//!
//! ```text
//!  roles ─► Metrics (typed methods: no label is free text) ─► Registry ─► render() ─► GET /metrics
//! ```
//!
//! Claim: every label value comes from an enum or a fixed table, so the number of series is bounded
//! whatever peers send; no address, id or key is ever a label. Units are base units (seconds, bits,
//! bytes). Not promised: gauges of token amounts are 64-bit floats, exact up to 2^53 base units; the
//! chain itself is the exact source. A hot loop does not call this module: it keeps its own counters,
//! which are added when a session is over. Tests: `tests.rs` here.

mod labels;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use labels::{Algorithm, Direction, Estimate, Link, Outcome, Probe, Proof, Transaction};

use crate::config::{Role, Roles};

/// Media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// Seconds of a whole challenge: from a fast one on a local network to the longest deadline.
const CHALLENGE_BUCKETS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0];
/// Seconds of a round trip: 10 µs (veth) to 1 s (satellite).
const RTT_BUCKETS: [f64; 13] = [
    1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0,
];
/// Seconds from the last counted packet to the commitment: the goal is 100 µs.
const COMMIT_BUCKETS: [f64; 11] = [
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 0.1,
];
/// Seconds of an HTTP request; long polls end at tens of seconds.
const HTTP_BUCKETS: [f64; 10] = [1e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];

/// All metrics of a process. Cheap to share behind an `Arc`; every method is thread-safe.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    challenges: IntCounterVec,
    challenge_seconds: HistogramVec,
    in_progress: IntGaugeVec,
    probe_rtt: HistogramVec,
    packets: IntCounterVec,
    bytes: IntCounterVec,
    capacity: GaugeVec,
    commit_latency: Histogram,
    signatures: IntCounterVec,
    chain_height: IntGauge,
    transactions: IntCounterVec,
    escrow: Gauge,
    stake: Gauge,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    xsk_mode: IntGaugeVec,
    timestamp_source: IntGaugeVec,
}

impl Metrics {
    /// All metrics, registered. `commit` is the source revision, `unknown` where it is not known.
    ///
    /// # Errors
    /// A metric that is declared twice or badly named: a defect that every test of this module finds.
    pub fn new(roles: Roles, commit: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let metrics = Self {
            challenges: counter(
                r,
                "challenges_total",
                "Challenges that ended.",
                &["proof", "role", "result"],
            )?,
            challenge_seconds: histogram(
                r,
                "challenge_duration_seconds",
                "Time from the first word of a challenge to its end.",
                &["proof", "role"],
                &CHALLENGE_BUCKETS,
            )?,
            in_progress: gauge(
                r,
                "challenges_in_progress",
                "Challenges under way.",
                &["proof", "role"],
            )?,
            probe_rtt: histogram(
                r,
                "probe_rtt_seconds",
                "Round trips of echo probes.",
                &["phase"],
                &RTT_BUCKETS,
            )?,
            packets: counter(
                r,
                "packets_total",
                "Data packets by what became of them.",
                &["proof", "direction", "fate"],
            )?,
            bytes: counter(
                r,
                "bytes_total",
                "IP-layer bytes of data packets sent, or received and counted.",
                &["proof", "direction"],
            )?,
            capacity: register(
                r,
                GaugeVec::new(
                    opts(
                        "last_capacity_bits_per_second",
                        "Result of the last challenge, IP layer.",
                    ),
                    &["direction", "kind"],
                )?,
            )?,
            commit_latency: register(
                r,
                Histogram::with_opts(buckets(
                    "commit_latency_seconds",
                    "Time from the last counted packet to the commitment on the wire.",
                    &COMMIT_BUCKETS,
                ))?,
            )?,
            signatures: counter(
                r,
                "signature_verifications_total",
                "Signatures checked.",
                &["algorithm", "result"],
            )?,
            chain_height: register(
                r,
                IntGauge::with_opts(opts("chain_height", "Latest block known."))?,
            )?,
            transactions: counter(
                r,
                "chain_transactions_total",
                "Transactions sent by this process.",
                &["kind", "result"],
            )?,
            escrow: register(
                r,
                Gauge::with_opts(opts("escrow_units", "Token base units locked in escrow."))?,
            )?,
            stake: register(
                r,
                Gauge::with_opts(opts("stake_units", "Token base units staked."))?,
            )?,
            http_requests: counter(
                r,
                "http_requests_total",
                "HTTP requests answered.",
                &["route", "method", "code"],
            )?,
            http_seconds: histogram(
                r,
                "http_request_duration_seconds",
                "Time to answer an HTTP request, long polls included.",
                &["route", "method"],
                &HTTP_BUCKETS,
            )?,
            xsk_mode: gauge(r, "xsk_mode_info", "Receive path in use (1).", &["mode"])?,
            timestamp_source: gauge(
                r,
                "timestamp_source_info",
                "Clock of arrival stamps (1).",
                &["mode"],
            )?,
            registry,
        };
        let build = gauge(
            &metrics.registry,
            "build_info",
            "What runs (1).",
            &["version", "commit", "role"],
        )?;
        build
            .with_label_values(&[
                env!("CARGO_PKG_VERSION"),
                commit,
                roles.to_string().as_str(),
            ])
            .set(1);
        metrics
            .registry
            .register(Box::new(ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// The text that Prometheus scrapes, of type [`MEDIA_TYPE`].
    ///
    /// # Errors
    /// The encoder's, for families without samples; there are none to gather then.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// A challenge began for a role of this process.
    pub fn challenge_began(&self, proof: Proof, role: Role) {
        self.in_progress
            .with_label_values(&[proof.name(), role.name()])
            .inc();
    }

    /// A challenge that began has ended.
    pub fn challenge_ended(&self, proof: Proof, role: Role, outcome: Outcome, took: Duration) {
        let (proof, role) = (proof.name(), role.name());
        self.in_progress.with_label_values(&[proof, role]).dec();
        self.challenges
            .with_label_values(&[proof, role, outcome.name()])
            .inc();
        self.challenge_seconds
            .with_label_values(&[proof, role])
            .observe(took.as_secs_f64());
    }

    /// A probe came back.
    pub fn probe(&self, phase: Probe, rtt: Duration) {
        self.probe_rtt
            .with_label_values(&[phase.name()])
            .observe(rtt.as_secs_f64());
    }

    /// Counts packets of one session as they become known.
    pub fn packets_add(&self, proof: Proof, direction: Direction, fate: &'static str, more: u64) {
        self.packets
            .with_label_values(&[proof.name(), direction.name(), fate])
            .inc_by(more);
    }

    /// Counts IP-layer bytes.
    pub fn bytes_add(&self, proof: Proof, direction: Direction, more: u64) {
        self.bytes
            .with_label_values(&[proof.name(), direction.name()])
            .inc_by(more);
    }

    /// Result of the last challenge.
    pub fn capacity(&self, link: Link, estimate: Estimate, bits_per_second: u64) {
        self.capacity
            .with_label_values(&[link.name(), estimate.name()])
            .set(float(u128::from(bits_per_second)));
    }

    /// A commitment left.
    pub fn commit_sent(&self, after_last_packet: Duration) {
        self.commit_latency.observe(after_last_packet.as_secs_f64());
    }

    /// A signature was checked.
    pub fn signature(&self, algorithm: Algorithm, holds: bool) {
        self.signatures
            .with_label_values(&[algorithm.name(), if holds { "ok" } else { "bad" }])
            .inc();
    }

    /// The chain has grown to `height`; escrow and stake stand at these many base units.
    pub fn chain(&self, height: u64, escrow: u128, stake: u128) {
        self.chain_height
            .set(i64::try_from(height).unwrap_or(i64::MAX));
        self.escrow.set(float(escrow));
        self.stake.set(float(stake));
    }

    /// A transaction of this process was included, or refused.
    pub fn transaction(&self, kind: Transaction, accepted: bool) {
        self.transactions
            .with_label_values(&[kind.name(), if accepted { "ok" } else { "refused" }])
            .inc();
    }

    /// An HTTP request was answered. `route` is the pattern it matched (`/v1/sessions/{id}`), never
    /// the path.
    pub fn http(&self, route: &'static str, method: &Method, status: StatusCode, took: Duration) {
        let method = bounded_method(method);
        self.http_requests
            .with_label_values(&[route, method, status.as_str()])
            .inc();
        self.http_seconds
            .with_label_values(&[route, method])
            .observe(took.as_secs_f64());
    }

    /// Which receive path and which clock the prover uses.
    pub fn datapath(&self, xdp_mode: &'static str, timestamps: &'static str) {
        self.xsk_mode.reset();
        self.xsk_mode.with_label_values(&[xdp_mode]).set(1);
        self.timestamp_source.reset();
        self.timestamp_source
            .with_label_values(&[timestamps])
            .set(1);
    }
}

/// A method is the caller's text; all but the usual ones share a series.
fn bounded_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Token amounts beyond 2^53 lose their last digits here, and only here.
#[allow(clippy::cast_precision_loss)]
fn float(units: u128) -> f64 {
    units as f64
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("plumbline")
}

fn buckets(name: &str, help: &str, bounds: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help)
        .namespace("plumbline")
        .buckets(bounds.to_vec())
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(r, IntCounterVec::new(opts(name, help), labels)?)
}

fn gauge(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    register(r, IntGaugeVec::new(opts(name, help), labels)?)
}

fn histogram(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    bounds: &[f64],
) -> Result<HistogramVec, prometheus::Error> {
    register(r, HistogramVec::new(buckets(name, help, bounds), labels)?)
}
