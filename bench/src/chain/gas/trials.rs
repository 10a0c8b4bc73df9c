//! Evidence: before a jury, and in one step.

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::SolValue;
use anyhow::{Context, Result, ensure};
use plumbline::chain::client::{Offence, Ruling, role, vote_hash};
use plumbline::chain::embedded::Rules;
use plumbline_contracts::abi::backhaul::IBackhaul::{SignedCommit, SignedReport};
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use plumbline_contracts::{Timing, commit_digest, counts_hash, domain, report_digest, seated};

use super::super::lab::JURY_S;
use super::flows::{Cast, RESPONSE, Under, event};
use super::town::{Person, sign, word};
use super::{Gas, with};

/// A dispute about a measurement of `n` challengers, whose parties the jury must not be of.
pub(super) fn dispute(n: u16, rules: Rules, gas: &mut Gas) -> Result<()> {
    let case = Case::bring(n, 0, rules)?;
    gas.insert("announce".into(), case.announced);
    gas.insert(with("dispute", n), case.disputed);
    Ok(())
}

/// Gas of a draw of the jury out of `pool` jurors.
pub(super) fn draw(n: u16, pool: u16, rules: Rules) -> Result<u64> {
    Ok(Case::bring(n, pool, rules)?.draw()?.1)
}

/// A jury from draw to conclusion: `votes` of its seats, and what the case then is.
pub(super) fn verdict(
    (n, pool): (u16, u16),
    votes: &[Option<Ruling>; 5],
    ruling: Ruling,
    rules: Rules,
    gas: &mut Gas,
) -> Result<()> {
    let mut case = Case::bring(n, pool, rules)?;
    let (seats, _) = case.draw()?;
    let d = case.cast.town.deployment();
    let town = &mut case.cast.town;
    let name = if ruling == Ruling::Upheld {
        "upheld"
    } else {
        "rejected"
    };
    let salt = word("vote");
    for (seat, vote) in seats.iter().zip(votes) {
        if let Some(vote) = vote {
            let commitment = vote_hash(case.id, seat.address(), *vote, salt);
            let call = Jury::commitCall {
                id: case.id,
                commitment,
            };
            gas.insert("jury_commit".into(), town.alone(seat, d.jury, &call)?.gas);
        }
    }
    town.pass(JURY_S + 1);
    for (seat, vote) in seats.iter().zip(votes) {
        if let Some(vote) = vote {
            let call = Jury::revealCall {
                id: case.id,
                vote: *vote as u8,
                salt,
            };
            gas.insert("jury_reveal".into(), town.alone(seat, d.jury, &call)?.gas);
        }
    }
    town.pass(JURY_S);
    let call = Jury::settleCall { id: case.id };
    let done = town.alone(&case.cast.payer, d.jury, &call)?;
    gas.insert(format!("jury_settle_{name}"), done.gas);
    let found = town.ask(d.jury, &Jury::getCall { id: case.id })?;
    ensure!(found.ruling == ruling as u8, "ruled {}", found.ruling);
    let call = Disputes::concludeCall { id: case.dispute };
    let done = town.alone(&case.cast.payer, d.disputes, &call)?;
    gas.insert(format!("conclude_{name}"), done.gas);
    Ok(())
}

/// Two commitments of the prover, and two reports of a challenger.
pub(super) fn offences(n: u16, rules: Rules, gas: &mut Gas) -> Result<()> {
    for (flow, evidence) in [
        (
            "prove_two_commits",
            two_commits as fn(&Cast, &Under) -> Result<Offence>,
        ),
        ("prove_two_reports", two_reports),
    ] {
        let mut cast = Cast::gather(usize::from(n), rules)?;
        let under = cast.reported(n, &mut Gas::new())?;
        let evidence = evidence(&cast, &under)?.encode();
        let d = cast.town.deployment();
        let salt = word("proof");
        let hash = keccak256((d.backhaul, keccak256(&evidence), salt).abi_encode());
        let call = Disputes::announceCall { hash };
        cast.town.alone(&cast.payer, d.disputes, &call)?;
        let call = Disputes::proveCall {
            proof: d.backhaul,
            evidence,
            salt,
        };
        let done = cast.town.alone(&cast.payer, d.disputes, &call)?;
        gas.insert(flow.into(), done.gas);
    }
    Ok(())
}

/// A dispute against the coordinator, its jury not yet drawn.
struct Case {
    cast: Cast,
    jurors: Vec<Person>,
    dispute: B256,
    id: B256,
    announced: u64,
    disputed: u64,
}

impl Case {
    fn bring(n: u16, pool: u16, rules: Rules) -> Result<Self> {
        let mut cast = Cast::gather(usize::from(n), rules)?;
        let jurors = cast.town.joined("juror", usize::from(pool), role::JUROR)?;
        cast.town.beat(&jurors)?;
        let under = cast.reported(n, &mut Gas::new())?;
        let mut reporter = cast.town.funded("reporter", 1)?;
        let reporter = reporter.pop().context("nobody")?;
        let d = cast.town.deployment();
        let call = Disputes::disputeCall {
            proof: d.backhaul,
            subject: under.id,
            accused: cast.coordinator.address(),
            evidence: word("evidence"),
            salt: word("dispute"),
            source: String::new(),
        };
        let hash = keccak256(
            (
                call.proof,
                call.subject,
                call.accused,
                call.evidence,
                call.salt,
            )
                .abi_encode(),
        );
        let announce = Disputes::announceCall { hash };
        let announced = cast.town.alone(&reporter, d.disputes, &announce)?.gas;
        let done = cast.town.alone(&reporter, d.disputes, &call)?;
        let told: Disputes::Disputed = event(&done.logs)?;
        Ok(Self {
            cast,
            jurors,
            dispute: told.id,
            id: told.caseId,
            announced,
            disputed: done.gas,
        })
    }

    /// Draws the jury: its seats, and the gas.
    fn draw(&mut self) -> Result<(Vec<Person>, u64)> {
        self.cast.close()?;
        let town = &mut self.cast.town;
        let jury = town.deployment().jury;
        let call = Jury::drawCall { id: self.id };
        let done = town.alone(&self.cast.payer, jury, &call)?;
        let drawn: Jury::Drawn = event(&done.logs)?;
        let seat = |address: &Address| {
            let found = self.jurors.iter().find(|j| j.address() == *address);
            found.cloned().context("somebody else sits")
        };
        let seats = seated(&drawn.looks)
            .iter()
            .map(seat)
            .collect::<Result<_>>()?;
        Ok((seats, done.gas))
    }
}

fn two_commits(cast: &Cast, under: &Under) -> Result<Offence> {
    let d = cast.town.deployment();
    let domain = domain(d.chain_id, d.backhaul);
    let one = |more: u32| -> Result<SignedCommit> {
        let counts = vec![under.each + more; under.selected.len()];
        let packets = counts.iter().map(|c| u64::from(*c)).sum();
        let digest = commit_digest(&domain, under.id, 0, packets, &counts, RESPONSE);
        Ok(SignedCommit {
            phase: 0,
            packets,
            countsHash: counts_hash(&counts),
            responseHash: RESPONSE,
            signature: sign(&cast.prover, digest)?,
        })
    };
    Ok(Offence::TwoCommits(under.id, Box::new([one(0)?, one(1)?])))
}

fn two_reports(cast: &Cast, under: &Under) -> Result<Offence> {
    let d = cast.town.deployment();
    let domain = domain(d.chain_id, d.backhaul);
    let one = |window_us: u32| -> Result<SignedReport> {
        let timing = Timing {
            index: 0,
            window_us,
            packets: under.each,
        };
        let digest = report_digest(&domain, under.id, 0, timing, RESPONSE);
        Ok(SignedReport {
            phase: 0,
            index: timing.index,
            windowUs: timing.window_us,
            packets: timing.packets,
            responseHash: RESPONSE,
            signature: sign(&under.selected[0], digest)?,
        })
    };
    let pair = Box::new([one(100_000)?, one(90_000)?]);
    Ok(Offence::TwoReports(under.id, pair))
}
