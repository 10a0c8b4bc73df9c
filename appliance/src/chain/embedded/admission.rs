//! Whose transactions are taken from the network: what they write is kept for ever, and gas costs nothing here.
//!
//! ```text
//!   sender ─┬─ registered, or has a stake ─┬─ to the house's contracts ─► taken, a hundred times as much
//!           │                              └─ anything else ───────────┐
//!           ├─ holds tokens, or is owed some ─┐                        │
//!           ├─ mints lab tokens ──────────────┴─ to the house's ───────┴─► taken, of its address's allowance of gas
//!           └─ anybody else ────────────────────────────► refused, in words
//! ```
//! **Guarantees.** Nobody writes more than its address is allowed, and who is not registered only what the house's
//! contracts write; a newcomer can mint, allow, register, ask for a measurement and withdraw. **Limits.** Who has many
//! addresses has many allowances. Transactions of this process itself are not asked about. **Tests.**
//! `appliance/tests/door/chain.rs`.

use alloy::consensus::Transaction as _;
use alloy::consensus::TxEnvelope;
use alloy::consensus::transaction::Recovered;
use alloy::primitives::{Address, U256};
use alloy::sol_types::SolCall;
use plumbline_contracts::Deployment;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::vault::Vault;

use super::disk::Snapshot;
use super::execute::{self, Call, Called, Place, TX_GAS_LIMIT};
use super::message::Failure;
use super::state::Overlay;
use crate::chain::caller::{Caller, seconds};

/// Whether `transaction` is taken from `caller`.
///
/// # Errors
/// Why not, and what would be.
pub(super) fn admit(
    snapshot: &Snapshot,
    deployment: &Deployment,
    transaction: &Recovered<TxEnvelope>,
    caller: &Caller,
) -> Result<(), Failure> {
    let asking = Asking {
        snapshot,
        place: Place::of(&snapshot.head, deployment.chain_id),
    };
    let account = transaction.signer();
    let known = asking.ask(deployment.participants, &Participants::getCall { account })?;
    let registered = known.is_some_and(|p| p.roles != 0)
        || asking.some(deployment.vault, &Vault::stakeCall { account })?;
    let to = transaction.to();
    let ours = deployment
        .contracts()
        .into_iter()
        .any(|(_, c)| Some(c) == to);
    if !registered && !ours {
        return Err(Failure::refused(format!(
            "{account} is not registered: such accounts may call this chain's own contracts only (`plumbline chain status` lists them)"
        )));
    }
    let mints = to == Some(deployment.token)
        && transaction
            .input()
            .starts_with(&LabToken::mintCall::SELECTOR);
    if !registered
        && !mints
        && !asking.some(deployment.token, &LabToken::balanceOfCall { account })?
        && !asking.some(deployment.vault, &Vault::owedCall { account })?
    {
        return Err(Failure::refused(format!(
            "{account} is not registered and has no tokens: be sent some, or, where the token is the lab's, mint them (`plumbline chain faucet`)"
        )));
    }
    let gas = transaction.gas_limit();
    let taken = caller.transaction(gas, registered && ours);
    taken.map_err(|wait| {
        let advice = if registered { "" } else { ", or register" };
        Failure::limit(format!(
            "as much gas was sent from this address as is allowed for now; the gas limit of this transaction is {gas}; try again in {} s{advice}",
            seconds(wait)
        ))
    })
}

struct Asking<'a> {
    snapshot: &'a Snapshot,
    place: Place,
}

impl Asking<'_> {
    /// What a contract answers; nothing if it refuses.
    fn ask<C: SolCall>(&self, to: Address, call: &C) -> Result<Option<C::Return>, Failure> {
        let call = Call {
            to: Some(to),
            data: call.abi_encode().into(),
            gas: TX_GAS_LIMIT,
            ..Call::default()
        };
        match execute::call(&mut Overlay::new(self.snapshot), &self.place, &call)? {
            Called::Returned { output, .. } => C::abi_decode_returns(&output)
                .map(Some)
                .map_err(|e| Failure::new(-32603, e.to_string())),
            _ => Ok(None),
        }
    }

    /// Whether an amount is above zero.
    fn some<C: SolCall<Return = U256>>(&self, to: Address, call: &C) -> Result<bool, Failure> {
        Ok(self.ask(to, call)?.is_some_and(|amount| !amount.is_zero()))
    }
}
