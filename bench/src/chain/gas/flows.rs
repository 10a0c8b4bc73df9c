//! Entering, a measurement from request to withdrawal, and leaving.

use alloy::primitives::aliases::U208;
use alloy::primitives::{B256, Log, U256};
use alloy::sol_types::SolEvent;
use anyhow::{Context, Result};
use plumbline::chain::client::role;
use plumbline::chain::embedded::Rules;
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission, Timing as PostedTiming};
use plumbline_contracts::abi::parameters::Parameters;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::deploy::short;
use plumbline_contracts::{Timing, Verdict, commit_digest, domain, report_digest, seated};

use super::super::lab::{CLAIM, DISPUTE_WINDOW_S, STAKE, UNBONDING_S, key};
use super::town::{Person, Town, register, sign, word};
use super::{Gas, with};

/// Hash over the traffic of a measurement.
pub(super) const RESPONSE: B256 = B256::repeat_byte(5);

/// A town with everyone whom a measurement needs.
pub(super) struct Cast {
    pub(super) town: Town,
    pub(super) payer: Person,
    pub(super) prover: Person,
    pub(super) coordinator: Person,
    pub(super) challengers: Vec<Person>,
    /// Two who take part in nothing: their heartbeats close the rounds.
    witnesses: Vec<Person>,
}

/// A measurement under way.
pub(super) struct Under {
    pub(super) id: B256,
    /// In the order of the draw.
    pub(super) selected: Vec<Person>,
    /// Packets of each of them.
    pub(super) each: u32,
    asked: Request,
}

impl Cast {
    /// With a pool of so many challengers, all of them live.
    pub(super) fn gather(pool: usize, rules: Rules) -> Result<Self> {
        let mut town = Town::found(rules)?;
        let one = |mut list: Vec<Person>| list.pop().context("nobody");
        let payer = one(town.funded("payer", 1)?)?;
        let prover = one(town.joined("prover", 1, role::PROVER)?)?;
        let coordinator = one(town.joined("coordinator", 1, role::COORDINATOR)?)?;
        let challengers = town.joined("challenger", pool, role::CHALLENGER)?;
        town.beat(&challengers)?;
        let witnesses = town.joined("witness", 2, role::PAYER)?;
        town.beat(&witnesses)?;
        Ok(Self {
            town,
            payer,
            prover,
            coordinator,
            challengers,
            witnesses,
        })
    }

    /// Closes the rounds of all that is asked: two blocks, two operators.
    pub(super) fn close(&mut self) -> Result<()> {
        self.town.beat(&self.witnesses)?;
        self.town.beat(&self.witnesses)
    }

    /// A request whose round is closed, drawn.
    pub(super) fn select(&mut self, n: u16, gas: &mut Gas) -> Result<Under> {
        let asked = Request {
            payer: self.payer.address(),
            prover: self.prover.address(),
            coordinator: self.coordinator.address(),
            claimBps: CLAIM,
            direction: 0,
            n,
            f: (n - 1) / 3,
            durationMs: 100,
            packetBytes: 1_500,
            pricePerByte: 3,
            deadline: self.town.now() + 120,
        };
        let backhaul = self.town.deployment().backhaul;
        let last = Backhaul::lastOfCall { payer: asked.payer };
        let request = Backhaul::requestCall {
            asked: asked.clone(),
            last: self.town.ask(backhaul, &last)?,
        };
        let done = self.town.alone(&self.payer, backhaul, &request)?;
        gas.insert("request".into(), done.gas);
        let id = event::<Backhaul::Requested>(&done.logs)?.id;
        self.close()?;
        let select = Backhaul::selectCall { id };
        let done = self.town.alone(&self.coordinator, backhaul, &select)?;
        gas.insert("select".into(), done.gas);
        let drawn: Backhaul::Selected = event(&done.logs)?;
        let selected = seated(&drawn.looks);
        let selected = selected.iter().map(|address| {
            let mut known = self.challengers.iter();
            let found = known.find(|c| c.address() == *address);
            found.cloned().context("somebody else was drawn")
        });
        let quote = Backhaul::quoteCall {
            asked: asked.clone(),
        };
        let target = self.town.ask(backhaul, &quote)?.target;
        Ok(Under {
            id,
            selected: selected.collect::<Result<_>>()?,
            each: u32::try_from(target.to::<u64>() / u64::from(n)).context("a count")?,
            asked,
        })
    }

    /// A measurement whose result is on record.
    pub(super) fn reported(&mut self, n: u16, gas: &mut Gas) -> Result<Under> {
        let under = self.select(n, gas)?;
        let backhaul = self.town.deployment().backhaul;
        let begin = Backhaul::beginCall {
            id: under.id,
            setupHash: word("setup"),
        };
        let done = self.town.alone(&self.coordinator, backhaul, &begin)?;
        gas.insert("begin".into(), done.gas);
        let posted = self.submission(&under)?;
        let report = Backhaul::reportCall {
            id: under.id,
            posted,
        };
        let done = self.town.alone(&self.coordinator, backhaul, &report)?;
        gas.insert("report".into(), done.gas);
        Ok(under)
    }

    /// Everyone reports, and all traffic that is asked for came through; the spans are the best there are.
    fn submission(&self, under: &Under) -> Result<Submission> {
        let n = under.asked.n;
        // All unequal and in no order, as in the field: the largest must be looked for.
        let spread = |index: u16, step: u32, of: u32| u32::from(index) * step % of;
        let counts = (0..n).map(|index| under.each - spread(index, 104_729, under.each / 50));
        let counts: Vec<u32> = counts.collect();
        let windows = (0..n).map(|index| 100_000 + spread(index, 7_919, 10_000));
        let windows: Vec<u32> = windows.collect();
        let packets = counts.iter().copied().map(u64::from).sum();
        let d = self.town.deployment();
        let domain = domain(d.chain_id, d.backhaul);
        let commit = commit_digest(&domain, under.id, 0, packets, &counts, RESPONSE);
        let spans = best_spans(&under.asked, &counts, &windows);
        let mut posted = Submission {
            packets,
            counts,
            responseHash: RESPONSE,
            proverSignature: sign(&self.prover, commit)?,
            reports: Vec::new(),
            bundleHash: word("bundle"),
            verdict: Verdict::Pass as u8,
            spansUs: spans,
        };
        for (index, signer) in (0_u16..).zip(&under.selected) {
            let timing = Timing {
                index,
                window_us: windows[usize::from(index)],
                packets: posted.counts[usize::from(index)],
            };
            let digest = report_digest(&domain, under.id, 0, timing, RESPONSE);
            posted.reports.push(PostedTiming {
                index,
                windowUs: timing.window_us,
                packets: timing.packets,
                signature: sign(signer, digest)?,
            });
        }
        Ok(posted)
    }
}

/// For 0, …, f corrupt ones the window over which what is certain is most, as a coordinator looks for it.
fn best_spans(asked: &Request, counts: &[u32], windows: &[u32]) -> Vec<u32> {
    let rate = u128::from(asked.claimBps) * 115 / (100 * u128::from(asked.n - asked.f));
    let packet = 8_000_000 * u128::from(asked.packetBytes);
    let certain = |span: u32, corrupt: u16| {
        let parts = counts.iter().zip(windows).map(|(count, window)| {
            let early = rate * u128::from(window.saturating_sub(span));
            let burst = if *window > span { 8 } else { 0 };
            u128::from(*count).saturating_sub(early.div_ceil(packet) + burst)
        });
        let mut parts: Vec<u128> = parts.collect();
        parts.sort_unstable_by(|a, b| b.cmp(a));
        let sum: u128 = parts.iter().skip(usize::from(corrupt)).sum();
        packet * sum / u128::from(span)
    };
    let best = |corrupt: u16| {
        let spans = windows.iter().copied().chain([asked.durationMs * 850]);
        spans
            .max_by_key(|span| certain(*span, corrupt))
            .unwrap_or(u32::MAX)
    };
    (0..=asked.f).map(best).collect()
}

/// A measurement with `n` challengers, all of the pool drawn.
pub(super) fn measurement(n: u16, rules: Rules, gas: &mut Gas) -> Result<()> {
    let mut cast = Cast::gather(usize::from(n), rules)?;
    let mut own = Gas::new();
    let under = cast.reported(n, &mut own)?;
    cast.town.pass(DISPUTE_WINDOW_S);
    let d = cast.town.deployment();
    let finalize = Backhaul::finalizeCall { id: under.id };
    let done = cast.town.alone(&cast.payer, d.backhaul, &finalize)?;
    own.insert("finalize".into(), done.gas);
    let withdraw = Vault::withdrawCall {};
    let done = cast.town.alone(&under.selected[0], d.vault, &withdraw)?;
    gas.insert("withdraw".into(), done.gas);
    for (flow, used) in own {
        let grows = ["select", "report", "finalize"].contains(&flow.as_str());
        gas.insert(if grows { with(&flow, n) } else { flow }, used);
    }
    Ok(())
}

/// The draw of `n` out of a pool of `pool`.
pub(super) fn draw(n: u16, pool: u16, rules: Rules) -> Result<u64> {
    let mut gas = Gas::new();
    Cast::gather(usize::from(pool), rules)?.select(n, &mut gas)?;
    gas.get("select").copied().context("no draw")
}

/// Registering, heartbeats, staking more, leaving; a governor's change.
pub(super) fn people(rules: Rules, gas: &mut Gas) -> Result<()> {
    let mut town = Town::found(rules)?;
    let d = town.deployment();
    let crowd = town.joined("challenger", 2, role::CHALLENGER)?;
    let newcomer = town.funded("newcomer", 1)?;
    let who = &newcomer[0];
    let mut took = |flow: &str, used: u64| {
        gas.insert(flow.to_owned(), used);
    };
    let call = register("newcomer", 0, role::CHALLENGER);
    took("register", town.alone(who, d.participants, &call)?.gas);
    took("heartbeat_first", town.beat_at_once(&newcomer)?[0]);
    town.beat(&crowd)?;
    let mut all = newcomer.clone();
    all.extend(crowd);
    // The very first round finds nothing to overwrite.
    town.beat(&all)?;
    let beats = town.beat_at_once(&all)?;
    took("heartbeat", beats[0]);
    took("heartbeat_same_block", beats[1]);
    let amount = U256::from(STAKE);
    let call = Participants::topUpCall { amount };
    took("top_up", town.alone(who, d.participants, &call)?.gas);
    let call = Participants::leaveCall {};
    took("leave", town.alone(who, d.participants, &call)?.gas);
    town.pass(UNBONDING_S);
    let call = Participants::reclaimCall {};
    took("reclaim", town.alone(who, d.participants, &call)?.gas);
    let call = Parameters::scheduleCall {
        name: short("live_interval_s"),
        value: U208::from(90),
    };
    let governor = key("deployer", 0)?;
    took(
        "set_parameter",
        town.alone(&governor, d.parameters, &call)?.gas,
    );
    Ok(())
}

/// The one event of this kind.
pub(super) fn event<E: SolEvent>(logs: &[Log]) -> Result<E> {
    let mut found = logs.iter().filter_map(|log| E::decode_log(log).ok());
    Ok(found.next().with_context(|| E::SIGNATURE)?.data)
}
