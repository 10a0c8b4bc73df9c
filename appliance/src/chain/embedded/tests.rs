//! What only the inside can do: break conservation, and tamper with the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::signers::local::PrivateKeySigner;
use plumbline_contracts::Parameters;
use serde_json::{Value, json};

use super::disk::Disk;
use super::file;
use super::state::Diff;
use super::{ChainError, Embedded, Genesis, Options, VerifyError, verify};
use crate::chain::{ChainClient, ClientError};

/// Storage slot of `Vault.held`: three mappings and four sums before it.
const HELD: u64 = 7;

fn genesis() -> Genesis {
    Genesis {
        chain_id: 7,
        deployer: PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap(),
        parameters: Parameters {
            min_stake: 1,
            unbonding_s: 1,
            live_interval_s: 1,
            coordinator_fee: 1,
            dispute_window_s: 1,
            ..Parameters::default()
        },
    }
}

fn open(dir: &Path) -> Result<Arc<Embedded>, ChainError> {
    Embedded::open(dir, &genesis(), Options::new(Duration::from_secs(3600)))
}

fn client(chain: &Arc<Embedded>) -> ChainClient {
    let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(2)).unwrap();
    ChainClient::in_process(chain, signer)
}

fn slot(address: Address, slot: u64, value: u64) -> Diff {
    let mut diff = Diff::default();
    let key = (address, U256::from(slot));
    diff.storage.insert(key, U256::from(value));
    diff
}

async fn height(chain: &Arc<Embedded>) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber" });
    chain.rpc(request).await["result"].clone()
}

#[tokio::test]
async fn a_chain_that_does_not_conserve_stops_and_does_not_open() {
    let dir = tempfile::TempDir::new().unwrap();
    let chain = open(dir.path()).unwrap();
    let client = client(&chain);
    let mint = || client.mint_lab(Address::repeat_byte(3), U256::from(1));
    mint().await.unwrap();
    assert_eq!(chain.halted(), None);
    let before = height(&chain).await;
    let vault = chain.deployment().vault;
    chain.disk.tamper(&slot(vault, HELD, 1)).unwrap();
    assert!(!client.conserved().await.unwrap(), "HELD is another slot");
    for _ in 0..2 {
        match mint().await.unwrap_err() {
            ClientError::Rejected { code, message, .. } => {
                assert_eq!(code, -32000);
                assert!(
                    message.contains("does not conserve money at block 3"),
                    "{message}"
                );
            }
            other => panic!("{other}"),
        }
    }
    assert!(chain.halted().unwrap().contains("block 3"));
    // Nothing of that block was written, and reading goes on.
    assert_eq!(height(&chain).await, before);
    drop(client);
    drop(chain);
    match open(dir.path()) {
        Err(ChainError::NotConserved { block }) => assert_eq!(block, 2),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn verify_finds_what_no_transaction_did() {
    let dir = tempfile::TempDir::new().unwrap();
    let chain = open(dir.path()).unwrap();
    client(&chain)
        .mint_lab(Address::ZERO.create(0), U256::from(1))
        .await
        .unwrap();
    let token = chain.deployment().token;
    drop(chain);
    verify(dir.path()).unwrap();
    let disk = Disk::new(file::open(dir.path()).unwrap());
    disk.tamper(&slot(token, 2, 1_000_000)).unwrap();
    drop(disk);
    let told = verify(dir.path()).unwrap_err();
    assert!(matches!(told, VerifyError::State), "{told}");
}
