//! What the chain holds, as documents: for the CLI over HTTP and for the API in process, by one code
//! path.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_proof::backhaul::messages::Notice;
use plumbline_proof::backhaul::params::{Direction, Terms, TermsError};
use plumbline_trust::{Address, VerifyingKey, selection};

use super::outcome::units;
use crate::chain::client::{ChainClient, ClientError, role};
use crate::ui::results::{
    Balance, ChainStatus, Draw, LookView, ParticipantView, Participants, RequestView,
};

fn ours(address: alloy::primitives::Address) -> Address {
    Address(address.into_array())
}

/// What a request asks to be measured.
///
/// # Errors
/// The contract takes it, and no appliance measures it.
pub fn terms(asked: &Request) -> Result<Terms, TermsError> {
    let terms = Terms {
        claim_bps: asked.claimBps,
        n: asked.n,
        f: asked.f,
        duration_ms: asked.durationMs,
        direction: Direction::try_from(asked.direction)?,
        packet_bytes: asked.packetBytes,
    };
    terms.check()
}

/// Whether a notice is of what the payer asked for on the chain.
#[must_use]
pub fn is_asked(asked: &Request, notice: &Notice) -> bool {
    asked.payer.into_array() == notice.payer.0
        && asked.prover.into_array() == notice.prover.address.0
        && asked.coordinator.into_array() == notice.coordinator.address.0
        && terms(asked) == Ok(notice.terms)
        && (asked.pricePerByte, asked.deadline) == (notice.price_per_byte, notice.deadline)
}

/// Height, sums and contracts.
///
/// # Errors
/// The chain does not answer.
pub async fn status(chain: &ChainClient) -> Result<ChainStatus, ClientError> {
    let totals = chain.totals().await?;
    let deployment = chain.deployment();
    Ok(ChainStatus {
        engine: chain.engine().await?,
        chain_id: deployment.chain_id,
        height: chain.latest_block().await?.number,
        conserved: chain.conserved().await?,
        escrow: units(totals.escrow),
        stake: units(totals.stake),
        owed: units(totals.owed),
        held: units(totals.held),
        contracts: deployment
            .contracts()
            .map(|(name, address)| (name.to_owned(), ours(address)))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    })
}

/// Everybody registered.
///
/// # Errors
/// The chain does not answer.
pub async fn participants(chain: &ChainClient) -> Result<Participants, ClientError> {
    let mut list = Vec::new();
    for known in chain.participants().await? {
        list.push(ParticipantView {
            address: ours(known.account),
            network_key: VerifyingKey(known.network_key.0),
            roles: role::NAMES
                .iter()
                .filter(|(bit, _)| known.roles & bit != 0)
                .map(|(_, name)| (*name).to_owned())
                .collect(),
            operator: if known.operator == B256::ZERO {
                String::new()
            } else {
                known.operator.to_string()
            },
            endpoint: known.endpoint.clone(),
            maximum_bps: known.max_bps,
            stake: units(chain.stake_of(known.account).await?),
            live: chain.is_live(known.account).await?,
        });
    }
    Ok(Participants { participants: list })
}

/// One request.
///
/// # Errors
/// The chain does not answer, or does not know it.
pub async fn request(chain: &ChainClient, id: B256) -> Result<RequestView, ClientError> {
    let asked = chain.request_of(id).await?.request;
    Ok(RequestView {
        id: id.to_string(),
        state: chain.state_of(id).await?.to_string(),
        payer: ours(asked.payer),
        prover: ours(asked.prover),
        coordinator: ours(asked.coordinator),
        claim_bps: asked.claimBps,
        direction: asked.direction,
        packet_bytes: asked.packetBytes,
        n: asked.n,
        f: asked.f,
        duration_ms: asked.durationMs,
        price_per_byte: asked.pricePerByte,
        escrow: units(chain.escrow_of(id).await?),
        deadline: asked.deadline,
        declined: None,
    })
}

/// The draw of a request or of a jury's case, repeated here from the beacon and whom it came upon. `None`
/// before it.
///
/// # Errors
/// The chain does not answer, or does not know the id.
pub async fn draw(chain: &ChainClient, id: B256) -> Result<Option<Draw>, ClientError> {
    let (drawn, stored) = if let Some(drawn) = chain.jury_draw_of(id).await? {
        let case = chain.case_of(id).await?;
        (drawn, case.map_or_else(Vec::new, |c| c.jurors))
    } else if let Some(drawn) = chain.selected_event(id).await? {
        (drawn, chain.selected_of(id).await?)
    } else {
        return Ok(None);
    };
    let selected: Vec<Address> = stored.into_iter().map(ours).collect();
    let draw = selection::Draw {
        mix: drawn.beacon.0,
        id: id.0,
        pool: drawn.pool,
        n: selected.len(),
        most: drawn.most,
    };
    let looks = drawn.looks.iter().map(|l| LookView {
        account: l.account,
        tickets: l.tickets,
        fate: l.fate,
    });
    Ok(Some(Draw {
        id: id.to_string(),
        round: drawn.round,
        beacon: drawn.beacon.to_string(),
        pool: drawn.pool,
        repeats: draw.seated(&drawn.looks).as_ref() == Ok(&selected),
        looks: looks.collect(),
        selected,
    }))
}

/// What an address has.
///
/// # Errors
/// The chain does not answer.
pub async fn balance(chain: &ChainClient, address: Address) -> Result<Balance, ClientError> {
    let theirs = address.0.into();
    Ok(Balance {
        address,
        balance: units(chain.balance(theirs).await?),
        stake: units(chain.stake_of(theirs).await?),
        owed: units(chain.owed(theirs).await?),
    })
}
