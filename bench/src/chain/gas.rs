//! Gas per flow, exact: keys, clock and contracts are fixed, so a change of gas is a change of the product,
//! and is committed as one (`bench/gas.toml`, remade by `cargo xtask bench chain --bless-gas`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use alloy::primitives::{B256, Bytes};
use alloy::signers::SignerSync;
use anyhow::{Context, Result};
use plumbline::chain::ChainClient;
use plumbline::chain::client::role;
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission, Timing as PostedTiming};
use plumbline_contracts::{Timing, commit_digest, domain, report_digest};

use super::lab::{CLAIM, DISPUTE_WINDOW_S, Lab, seeds};
use crate::progress::Progress;

/// The committed snapshot.
pub(crate) const COMMITTED: &str = include_str!("../../gas.toml");
/// Where it lies, from the repository's root.
pub(crate) const FILE: &str = "bench/gas.toml";
/// Sizes of a measurement, challengers; a third of them, rounded down, may be corrupt.
pub(crate) const SIZES: [u16; 4] = [4, 10, 25, 64];
/// Flows whose gas depends on the number of challengers.
pub(crate) const GROWING: [&str; 3] = ["select", "report", "finalize"];

/// Gas by flow.
pub(crate) type Gas = BTreeMap<String, u64>;

/// Name of a flow with `n` challengers.
pub(crate) fn with(flow: &str, n: u16) -> String {
    format!("{flow}_n{n:02}")
}

/// Runs every flow.
///
/// # Errors
/// The disk, or a contract refused something.
pub(crate) async fn measure(directory: &Path, progress: &Progress) -> Result<Gas> {
    let mut gas = Gas::new();
    for n in SIZES {
        progress.note(&format!("gas with {n} challengers"));
        let stage = Stage::set(directory, n, &mut gas).await?;
        stage.play(n, &mut gas).await?;
    }
    Ok(gas)
}

/// A chain with everyone whom a measurement needs; all challengers are drawn.
struct Stage {
    lab: Lab,
    payer: ChainClient,
    prover: ChainClient,
    coordinator: ChainClient,
    challengers: Vec<ChainClient>,
}

impl Stage {
    async fn set(directory: &Path, n: u16, gas: &mut Gas) -> Result<Self> {
        let lab = Lab::found(directory)?;
        let payer = lab.funded("payer", 0).await?;
        let (prover, _) = lab.joined("prover", 0, role::PROVER).await?;
        let (coordinator, _) = lab.joined("coordinator", 0, role::COORDINATOR).await?;
        let mut challengers = Vec::new();
        for number in 0..usize::from(n) {
            let (client, used) = lab.joined("challenger", number, role::CHALLENGER).await?;
            gas.insert("register".into(), used);
            challengers.push(client);
        }
        for client in &challengers {
            let sent = client.beat(&seeds(client.address())).await?;
            gas.insert("heartbeat_first".into(), sent.gas_used);
        }
        Ok(Self {
            lab,
            payer,
            prover,
            coordinator,
            challengers,
        })
    }

    /// One measurement from request to withdrawal.
    async fn play(&self, n: u16, gas: &mut Gas) -> Result<()> {
        let asked = Request {
            payer: self.payer.address(),
            prover: self.prover.address(),
            coordinator: self.coordinator.address(),
            claimBps: CLAIM,
            direction: 0,
            n,
            f: (n - 1) / 3,
            durationMs: 100,
            pricePerByte: 3,
            deadline: self.lab.clock.now() + 120,
            nonce: 1,
        };
        let (id, sent) = self.payer.request(&asked).await?;
        gas.insert("request".into(), sent.gas_used);
        for client in &self.challengers {
            let sent = client.beat(&seeds(client.address())).await?;
            gas.insert("heartbeat".into(), sent.gas_used);
        }
        let sent = self.coordinator.select(id).await?;
        gas.insert(with("select", n), sent.gas_used);
        let sent = self.coordinator.begin(id, B256::repeat_byte(9)).await?;
        gas.insert("begin".into(), sent.gas_used);
        let posted = self.submission(id, &asked).await?;
        let sent = self.coordinator.report(id, &posted).await?;
        gas.insert(with("report", n), sent.gas_used);
        self.lab.clock.pass(DISPUTE_WINDOW_S);
        let sent = self.payer.finalize(id).await?;
        gas.insert(with("finalize", n), sent.gas_used);
        let drawn = &self.challengers[0];
        gas.insert("withdraw".into(), drawn.withdraw().await?.gas_used);
        Ok(())
    }

    /// Everyone reports, and all traffic that is asked for came through.
    async fn submission(&self, id: B256, asked: &Request) -> Result<Submission> {
        let selected = self.payer.selected_of(id).await?;
        let (_, target, _) = self.payer.quote(asked).await?;
        let each = u32::try_from(target.to::<u64>() / u64::from(asked.n)).context("a count")?;
        let counts = vec![each; usize::from(asked.n)];
        let packets = u64::from(each) * u64::from(asked.n);
        let response = B256::repeat_byte(5);
        let deployment = self.lab.deployment();
        let domain = domain(deployment.chain_id, deployment.backhaul);
        let commit = commit_digest(&domain, id, 0, packets, &counts, response);
        let mut posted = Submission {
            packets,
            counts,
            responseHash: response,
            proverSignature: sign(&self.prover, commit)?,
            reports: Vec::new(),
            bundleHash: B256::repeat_byte(6),
        };
        for (index, address) in (0_u16..).zip(selected) {
            let signer = self.challengers.iter().find(|c| c.address() == address);
            let timing = Timing {
                index,
                // All unequal and in no order, as in the field: sorting has its work.
                tt_ns: 100_000_000 + u64::from(index) * 7_919 % 1_000,
                tt_plus_ns: 100_000_000 + 2_000 + u64::from(index) * 104_729 % 1_000,
                packets: each,
            };
            let digest = report_digest(&domain, id, 0, timing, response);
            posted.reports.push(PostedTiming {
                index,
                ttNs: timing.tt_ns,
                ttPlusNs: timing.tt_plus_ns,
                packets: each,
                signature: sign(signer.context("somebody else was drawn")?, digest)?,
            });
        }
        Ok(posted)
    }
}

fn sign(client: &ChainClient, digest: B256) -> Result<Bytes> {
    let signature = client.signer().sign_hash_sync(&digest)?;
    Ok(signature.as_bytes().to_vec().into())
}

/// Gas for one challenger more, between the smallest and the largest number of them.
pub(crate) fn slope(gas: &Gas, flow: &str) -> Option<f64> {
    let (least, most) = (*SIZES.first()?, *SIZES.last()?);
    let of = |n| gas.get(&with(flow, n)).map(|g| *g as f64);
    Some((of(most)? - of(least)?) / f64::from(most - least))
}

/// Reads a snapshot.
///
/// # Errors
/// It is not TOML of flows and gas.
pub(crate) fn parse(text: &str) -> Result<Gas> {
    toml::from_str(text).with_context(|| format!("{FILE} cannot be read"))
}

/// A snapshot as it is committed.
pub(crate) fn render(gas: &Gas) -> String {
    let mut text = String::from(
        "# Gas per flow on the embedded chain; _nNN: with so many challengers, all of the pool drawn.\n\
         # Exact: made by `cargo xtask bench chain --bless-gas`, compared by a test.\n",
    );
    for (flow, gas) in gas {
        let _ = writeln!(text, "{flow} = {gas}");
    }
    text
}

/// Where `gas` is not what was committed: flow, was, is.
pub(crate) fn differences(committed: &Gas, gas: &Gas) -> Vec<String> {
    let mut flows: Vec<&String> = committed.keys().chain(gas.keys()).collect();
    flows.sort();
    flows.dedup();
    let told = |gas: Option<&u64>| gas.map_or_else(|| "nothing".into(), u64::to_string);
    let differ = flows.into_iter().filter_map(|flow| {
        let (was, is) = (committed.get(flow), gas.get(flow));
        (was != is).then(|| {
            format!(
                "gas of {flow}: {FILE} says {}, it is {}; if that is meant: cargo xtask bench chain --bless-gas",
                told(was),
                told(is)
            )
        })
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gas_is_what_is_committed() {
        let directory = tempfile::tempdir().unwrap();
        let gas = measure(directory.path(), &Progress::for_terminal())
            .await
            .unwrap();
        let differences = differences(&parse(COMMITTED).unwrap(), &gas);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        assert_eq!(render(&gas), COMMITTED);
    }

    #[test]
    fn every_difference_is_named_and_equal_ones_are_not() {
        let gas =
            |list: &[(&str, u64)]| -> Gas { list.iter().map(|(f, g)| ((*f).into(), *g)).collect() };
        let was = gas(&[("a", 1), ("b", 2), ("c", 3)]);
        let said = differences(&was, &gas(&[("a", 1), ("b", 3), ("d", 4)]));
        assert_eq!(said.len(), 3, "{said:?}");
        for (said, parts) in said.iter().zip([
            ["b", "2", "3"],
            ["c", "3", "nothing"],
            ["d", "nothing", "4"],
        ]) {
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        assert!(differences(&was, &was).is_empty());
        assert_eq!(parse(&render(&was)).unwrap(), was);
    }

    #[test]
    fn a_slope_is_gas_for_one_challenger_more() {
        let mut gas = Gas::new();
        gas.insert(with("select", 4), 1_000);
        assert_eq!(slope(&gas, "select"), None);
        gas.insert(with("select", 64), 7_000);
        assert_eq!(slope(&gas, "select"), Some(100.0));
    }
}
