//! The embedded engine against anvil, transaction by transaction.
//!
//! ```text
//!   script ─► client ─► embedded engine ─► block h ──┬── the same signed bytes ──► anvil, block h
//!                                                    └── compared ◄────────────────┘
//! ```
//! Claim: what the embedded engine executes is Ethereum (Osaka): of every transaction, reverted ones
//! included, status, gas, logs and revert data are anvil's to the bit, and so are the Merkle roots over the
//! transactions and the receipts of every block.
//!
//! Nothing is sent twice by the client: its signed bytes are taken out of the embedded engine's block, and
//! anvil is told to make a block of them with the same number and time. So nonces, times and heights cannot
//! differ. Two things must: a block's hash, since headers differ (`stateRoot` is no Merkle-Patricia root
//! here), and `prevrandao`, which the embedded engine has none of. The contracts read each in one place, both for the mix
//! of a round, so the data of the event `Mixed` differs, and
//! with it that block's receipts root; these two are not compared. Draws depend on the mix, and all that
//! follows on draws: therefore, after each such block, anvil's `mixOf[round]` is set to the value that the
//! embedded engine announced, once it is seen that anvil holds what it announced itself. From there on the
//! two states are equal again, so draws, and signatures over their outcome, are compared like all else.
//! That nothing else is read which differs, a test below says of every line of them.
//! Not compared: headers' hashes and state roots, and the words of refusals before a transaction is in a
//! block.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256};
use alloy::rpc::types::Block;
use alloy::signers::SignerSync;
use alloy::sol_types::{SolCall, SolEvent, SolValue};
use plumbline::chain::ChainClient;
use plumbline::chain::client::role;
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::parameters::Parameters;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::deploy::short;
use serde_json::{Value, json};

use crate::disputes::{REJECTED, SALT, UPHELD, reporter, trial, two_commits, two_reports};
use crate::stand::{Anvil, On, Stand};
use crate::world::{
    CHAIN_ID, PURSE, STAKE, START, WINDOW, World, join, key, parameters, registration, seeds, tick,
};

/// Where `mixOf` lies in the beacon: after `commitmentOf`; immutables take no slot.
const MIX_OF: u64 = 1;
/// What is compared of a receipt.
const RECEIPT: [&str; 9] = [
    "status",
    "gasUsed",
    "cumulativeGasUsed",
    "blockNumber",
    "transactionIndex",
    "contractAddress",
    "from",
    "to",
    "logsBloom",
];
/// What is compared of a log, beside its data.
const LOG: [&str; 3] = ["address", "topics", "logIndex"];

/// An anvil that is given every block of an embedded chain.
struct Mirror {
    anvil: Anvil,
    height: u64,
    time: u64,
    seen: Seen,
}

/// What has been compared.
#[derive(Debug, Default)]
struct Seen {
    transactions: usize,
    reverted: usize,
    logs: usize,
    mixed: usize,
}

impl Mirror {
    fn start() -> Self {
        // Blocks when told to, of what was sent in the order in which it was sent, by the same rules.
        let anvil = Anvil::start(&["--no-mining", "--order", "fifo"]);
        Self {
            anvil,
            height: 0,
            time: START,
            seen: Seen::default(),
        }
    }

    /// Repeats and compares what the embedded chain has made since.
    async fn follow(&mut self, chain: &Stand) {
        let newest: U256 = ask(chain, "eth_blockNumber", json!([])).await;
        for number in self.height + 1..=newest.to() {
            self.repeat(chain, number).await;
            self.height = number;
        }
    }

    async fn repeat(&mut self, chain: &Stand, number: u64) {
        let tag = format!("{number:#x}");
        let block: Block = ask(chain, "eth_getBlockByNumber", json!([tag, true])).await;
        let header = block.header.inner.clone();
        if header.timestamp > self.time {
            let params = json!([header.timestamp]);
            self.anvil.ask("evm_setNextBlockTimestamp", &params);
            self.time = header.timestamp;
        }
        let mut hashes = Vec::new();
        for transaction in block.transactions.into_transactions() {
            let envelope = transaction.inner.into_inner();
            let raw = hex::encode_prefixed(envelope.encoded_2718());
            let taken = self.anvil.ask("eth_sendRawTransaction", &json!([raw]));
            let hash = *envelope.tx_hash();
            assert_eq!(taken, json!(hash), "hash of the same bytes");
            hashes.push(hash);
        }
        self.anvil.ask("evm_mine", &json!([]));
        let mut mixes = Vec::new();
        for hash in &hashes {
            let ours: Value = ask(chain, "eth_getTransactionReceipt", json!([hash])).await;
            let theirs = self.anvil.ask("eth_getTransactionReceipt", &json!([hash]));
            mixes.extend(self.compare(&ours, &theirs, chain.deployment().beacon));
        }
        let theirs = self.anvil.ask("eth_getBlockByNumber", &json!([tag, false]));
        let ours: Value = ask(chain, "eth_getBlockByNumber", json!([tag, false])).await;
        let mut fields = vec![
            "number",
            "timestamp",
            "gasUsed",
            "logsBloom",
            "transactionsRoot",
            "transactions",
        ];
        if mixes.is_empty() {
            fields.push("receiptsRoot");
        }
        for field in fields {
            assert_eq!(ours[field], theirs[field], "{field} of block {number}");
        }
        if let Some(last) = mixes.last() {
            self.agree(last, chain.deployment().beacon);
        }
    }

    /// Compares two receipts of one transaction; gives the mixes in them.
    fn compare(&mut self, ours: &Value, theirs: &Value, beacon: Address) -> Vec<Mix> {
        for field in RECEIPT {
            assert_eq!(ours[field], theirs[field], "{field} of {ours:#} {theirs:#}");
        }
        self.seen.transactions += 1;
        self.seen.reverted += usize::from(ours["status"] == "0x0");
        let (ours, theirs) = (ours["logs"].as_array(), theirs["logs"].as_array());
        let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
        assert_eq!(ours.len(), theirs.len(), "{ours:#?} {theirs:#?}");
        let mut mixes = Vec::new();
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.seen.logs += 1;
            for field in LOG {
                assert_eq!(ours[field], theirs[field], "{field} of {ours:#} {theirs:#}");
            }
            let is_mixed = ours["address"] == json!(beacon)
                && ours["topics"][0] == json!(Beacon::Mixed::SIGNATURE_HASH);
            if is_mixed {
                self.seen.mixed += 1;
                let word = |v: &Value| v.as_str().unwrap().parse::<B256>().unwrap();
                mixes.push(Mix {
                    round: word(&ours["topics"][1]),
                    ours: word(&ours["data"]),
                    theirs: word(&theirs["data"]),
                });
            } else {
                assert_eq!(ours["data"], theirs["data"], "{ours:#} {theirs:#}");
            }
        }
        mixes
    }

    /// Gives anvil's beacon the mix of the embedded engine's.
    fn agree(&self, mix: &Mix, beacon: Address) {
        assert_ne!(mix.ours, mix.theirs, "hashes of blocks differ");
        let slot = keccak256((mix.round, U256::from(MIX_OF)).abi_encode());
        let read = || {
            let place = json!([beacon, slot, "latest"]);
            self.anvil.ask("eth_getStorageAt", &place)
        };
        assert_eq!(read(), json!(mix.theirs), "where mixOf lies");
        let params = json!([beacon, slot, mix.ours]);
        self.anvil.ask("anvil_setStorageAt", &params);
        assert_eq!(read(), json!(mix.ours));
    }

    /// Sends what fails, which the client would not; compares what came of it on both, revert data and all.
    /// Returns that data.
    async fn fails(
        &mut self,
        chain: &Stand,
        from: &ChainClient,
        to: TxKind,
        input: Bytes,
    ) -> Bytes {
        self.fails_with(chain, from, to, input, 3_000_000).await
    }

    async fn fails_with(
        &mut self,
        chain: &Stand,
        from: &ChainClient,
        to: TxKind,
        input: Bytes,
        gas: u64,
    ) -> Bytes {
        self.follow(chain).await;
        let account = from.address();
        let nonce: U256 = ask(chain, "eth_getTransactionCount", json!([account, "latest"])).await;
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: nonce.to(),
            gas_limit: gas,
            to,
            input: input.clone(),
            ..TxEip1559::default()
        };
        let signature = from.signer().sign_hash_sync(&tx.signature_hash()).unwrap();
        let envelope = TxEnvelope::Eip1559(tx.into_signed(signature));
        let raw = hex::encode_prefixed(envelope.encoded_2718());
        let _: B256 = ask(chain, "eth_sendRawTransaction", json!([raw])).await;
        let before = self.seen.reverted;
        self.follow(chain).await;
        assert_eq!(self.seen.reverted, before + 1, "it does not fail");
        // A receipt has no revert data: the same call again, as of the block that it is in.
        let mut call = json!({ "from": account, "data": input, "gas": U256::from(gas) });
        if let Some(to) = to.to() {
            call["to"] = json!(to);
        }
        let request =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"] });
        let ours = chain.rpc(request.clone()).await;
        let theirs = crate::stand::post(self.anvil.port(), &request);
        let data = |answer: &Value| -> Bytes {
            let error = answer.get("error");
            let error = error.unwrap_or_else(|| panic!("it does not fail again: {answer}"));
            let data = error["data"].as_str().unwrap_or("0x");
            data.parse().unwrap()
        };
        assert_eq!(data(&ours), data(&theirs), "{ours} {theirs}");
        data(&ours)
    }

    /// As [`fails`](Self::fails), of a call; the name of the error must be `name`.
    async fn refuses<C: SolCall>(
        &mut self,
        chain: &Stand,
        from: &ChainClient,
        to: Address,
        call: &C,
        name: &str,
    ) {
        let input = call.abi_encode().into();
        let data = self.fails(chain, from, TxKind::Call(to), input).await;
        let told = plumbline_contracts::explain(&data);
        assert_eq!(told.unwrap_or_else(|| panic!("{data}")).name, name);
    }

    /// Code and nonces, which no receipt shows.
    async fn compare_accounts(&self, chain: &Stand, accounts: &[Address]) {
        let contracts = chain.deployment().contracts();
        for account in contracts.iter().map(|(_, a)| a).chain(accounts) {
            for method in ["eth_getCode", "eth_getTransactionCount", "eth_getBalance"] {
                let params = json!([account, "latest"]);
                let ours: Value = ask(chain, method, params.clone()).await;
                let theirs = self.anvil.ask(method, &params);
                assert_eq!(ours, theirs, "{method} of {account}");
            }
        }
    }
}

/// The mix of a round, as each engine has it.
struct Mix {
    round: B256,
    ours: B256,
    theirs: B256,
}

async fn ask<T: serde::de::DeserializeOwned>(chain: &Stand, method: &str, params: Value) -> T {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let mut answer = chain.rpc(request).await;
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    serde_json::from_value(answer["result"].take()).unwrap()
}

async fn world() -> (World, Mirror) {
    let world = World::new(On::Embedded, 5).await;
    let mut mirror = Mirror::start();
    // The deployment, everyone's registration and first heartbeat.
    mirror.follow(&world.chain).await;
    (world, mirror)
}

/// A measurement from request to withdrawal, with what is refused at each step.
#[tokio::test]
async fn a_measurement_is_the_same_on_both_engines() {
    let (w, mut m) = world().await;
    let d = w.chain.deployment();
    let (id, _) = w.payer.request(&w.ask()).await.unwrap();
    let select = Backhaul::selectCall { id };
    m.refuses(
        &w.chain,
        &w.coordinator,
        d.backhaul,
        &select,
        "BeaconNotReady",
    )
    .await;
    // Several in one block, if they happen to come together.
    let beat = async |at: usize| {
        let challenger = &w.challengers[at];
        challenger.beat(&seeds(challenger)).await.unwrap();
    };
    tokio::join!(beat(0), beat(1), beat(2), beat(3), beat(4));
    let wrong = Beacon::heartbeatCall {
        revealedSeed: B256::repeat_byte(1),
        nextCommitment: B256::repeat_byte(2),
    };
    m.refuses(
        &w.chain,
        &w.challengers[0],
        d.beacon,
        &wrong,
        "SeedDoesNotOpen",
    )
    .await;
    w.coordinator.select(id).await.unwrap();
    let begin = Backhaul::beginCall {
        id,
        setupHash: B256::repeat_byte(9),
    };
    m.refuses(&w.chain, &w.prover, d.backhaul, &begin, "NotCoordinator")
        .await;
    w.coordinator.begin(id, B256::repeat_byte(9)).await.unwrap();
    let windows = [0, 7, 3, 900, 1].map(|late| WINDOW + late);
    let posted = w.submission(id, &[1_600; 5], &windows).await;
    let mut forged = posted.clone();
    forged.proverSignature = posted.reports[0].signature.clone();
    let forged = Backhaul::reportCall { id, posted: forged };
    m.refuses(
        &w.chain,
        &w.coordinator,
        d.backhaul,
        &forged,
        "CommitSignatureInvalid",
    )
    .await;
    w.coordinator.report(id, &posted).await.unwrap();
    w.clock.pass(29);
    let finalize = Backhaul::finalizeCall { id };
    m.refuses(
        &w.chain,
        &w.payer,
        d.backhaul,
        &finalize,
        "DisputeWindowOpen",
    )
    .await;
    w.clock.pass(1);
    w.payer.finalize(id).await.unwrap();
    // The other way, in longer packets; one says more than it was sent, one is not signed.
    let mut asked = w.ask();
    asked.direction = 1;
    asked.packetBytes = 8_988;
    let id = w.running(&asked).await;
    let reports = [300, 310, 290, 400, 1_501].map(|packets| (packets, WINDOW));
    let mut posted = w.posted(id, &[1_500; 5], &reports).await;
    posted.reports[1].signature = vec![7; 65].into();
    let mut short = posted.clone();
    short.spansUs[1] = 84_999;
    let short = Backhaul::reportCall { id, posted: short };
    m.refuses(&w.chain, &w.coordinator, d.backhaul, &short, "SpanTooShort")
        .await;
    w.coordinator.report(id, &posted).await.unwrap();
    w.clock.pass(30);
    w.payer.finalize(id).await.unwrap();
    for challenger in &w.challengers {
        challenger.withdraw().await.unwrap();
    }
    let withdraw = Vault::withdrawCall {};
    m.refuses(
        &w.chain,
        &w.challengers[0],
        d.vault,
        &withdraw,
        "NothingOwed",
    )
    .await;
    m.follow(&w.chain).await;
    let people = [&w.payer, &w.prover, &w.coordinator].map(ChainClient::address);
    m.compare_accounts(&w.chain, &people).await;
    println!("engines: {:?}, all the same", m.seen);
    assert!(m.seen.mixed >= 5 && m.seen.reverted == 7 && m.seen.logs > 60);
}

/// Disputes and juries, both rulings; offences in one step; who leaves; variables.
#[tokio::test]
async fn disputes_and_governance_are_the_same_on_both_engines() {
    let (w, mut m) = world().await;
    let d = w.chain.deployment();
    let id = w.reported().await;
    let t = trial(&w, id, 7).await;
    let conclude = Disputes::concludeCall { id: t.dispute };
    m.refuses(&w.chain, &w.payer, d.disputes, &conclude, "JuryOut")
        .await;
    let commit = Jury::commitCall {
        id: t.case,
        commitment: B256::repeat_byte(1),
    };
    m.refuses(&w.chain, &w.payer, d.jury, &commit, "NotAJuror")
        .await;
    t.vote(&w, &[UPHELD, UPHELD, UPHELD, REJECTED, None]).await;
    // What the dispute took is added to the window.
    w.clock.pass(parameters().dispute_window_s);
    w.payer.finalize(id).await.unwrap();
    m.follow(&w.chain).await;

    w.coordinator.top_up(U256::from(STAKE)).await.unwrap();
    w.beat().await;
    let id = w.reported().await;
    let reporter = reporter(&w).await;
    let proofs = [
        two_reports(&w, id, 2, [WINDOW, 90_000]).await.encode(),
        two_commits(&w, id, &[1_600; 5], &[1_601, 1_599, 1_600, 1_600, 1_600]).encode(),
    ];
    for evidence in proofs {
        let prove = Disputes::proveCall {
            proof: d.backhaul,
            evidence: evidence.clone(),
            salt: SALT,
        };
        m.refuses(&w.chain, &reporter, d.disputes, &prove, "NotAnnounced")
            .await;
        let announced = reporter.announce_proof(d.backhaul, &evidence, SALT);
        announced.await.unwrap();
        reporter.prove(d.backhaul, evidence, SALT).await.unwrap();
        m.refuses(&w.chain, &reporter, d.disputes, &prove, "AlreadyPunished")
            .await;
    }

    let leaver = join(&w.chain, 95, role::JUROR).await;
    leaver.leave().await.unwrap();
    w.clock.pass(parameters().unbonding_s);
    leaver.reclaim().await.unwrap();
    leaver.withdraw().await.unwrap();
    let governor = w.chain.client(key(1)).await;
    governor.schedule("live_interval_s", 90).await.unwrap();
    let call = |value: u64| Parameters::scheduleCall {
        name: short("live_interval_s"),
        value: alloy::primitives::aliases::U208::from(value),
    };
    let (to, stranger) = (d.parameters, "OwnableUnauthorizedAccount");
    m.refuses(&w.chain, &w.payer, to, &call(90), stranger).await;
    m.refuses(&w.chain, &governor, to, &call(0), "OutOfBounds")
        .await;
    w.clock.pass(parameters().notice_s);
    tick(&w.payer).await;
    m.follow(&w.chain).await;
    m.compare_accounts(&w.chain, &[t.reporter.address(), leaver.address()])
        .await;
    println!("engines: {:?}, all the same", m.seen);
    assert!(m.seen.mixed >= 20 && m.seen.reverted == 8 && m.seen.logs > 150);
}

/// What a contract never does by itself: no gas, no function, no code.
#[tokio::test]
async fn the_machine_itself_is_the_same_on_both_engines() {
    let (w, mut m) = world().await;
    let d = w.chain.deployment();
    let vault = TxKind::Call(d.vault);
    let nothing = Bytes::new();
    let unknown = Bytes::from_static(&[0xde, 0xad, 0xbe, 0xef]);
    for input in [nothing.clone(), unknown] {
        let data = m.fails(&w.chain, &w.payer, vault, input).await;
        assert!(data.is_empty(), "{data}");
    }
    let rich = LabToken::transferCall {
        to: w.prover.address(),
        value: U256::from(PURSE) * U256::from(4),
    };
    m.refuses(
        &w.chain,
        &w.payer,
        d.token,
        &rich,
        "ERC20InsufficientBalance",
    )
    .await;
    // Enough to begin with, not enough to end.
    let beat = Beacon::heartbeatCall {
        revealedSeed: seeds(&w.challengers[0]).seed(&d, w.challengers[0].address(), 0),
        nextCommitment: B256::repeat_byte(2),
    };
    let (who, input) = (&w.challengers[0], Bytes::from(beat.abi_encode()));
    for gas in [25_000, 60_000, 79_999] {
        let to = TxKind::Call(d.beacon);
        m.fails_with(&w.chain, who, to, input.clone(), gas).await;
    }
    // INVALID; a code that begins with 0xef (EIP-3541); REVERT with one word.
    for (code, told) in [
        (&[0xfe][..], 0),
        (&[0x60, 0xef, 0x5f, 0x53, 0x60, 0x01, 0x5f, 0xf3], 0),
        (&[0x60, 0x2a, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xfd], 32),
    ] {
        let input = Bytes::copy_from_slice(code);
        let data = m.fails(&w.chain, &w.payer, TxKind::Create, input).await;
        assert_eq!(data.len(), told);
    }
    let joined = join(&w.chain, 96, role::CHALLENGER).await;
    assert!(registration(96, role::CHALLENGER).stake == STAKE);
    m.follow(&w.chain).await;
    m.compare_accounts(&w.chain, &[w.payer.address(), joined.address()])
        .await;
    println!("engines: {:?}, all the same", m.seen);
    assert_eq!(m.seen.reverted, 9);
}

/// What must differ between two engines is read in two places of the contracts.
#[test]
fn the_contracts_read_two_things_that_differ_between_engines() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/solidity");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|end| end != "sol") {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let code = line.trim();
            let reads = [
                "blockhash(",
                "prevrandao",
                "difficulty",
                "coinbase",
                "gasleft(",
            ];
            if !code.starts_with('/') && reads.iter().any(|word| code.contains(word)) {
                found.push(code.to_owned());
            }
        }
    }
    let wanted = [
        "anchorOf[msg.sender] = blockhash(block.number - 1);",
        "bytes32 mix = keccak256(abi.encode(mixOf[round - 1], part, block.prevrandao));",
    ];
    assert_eq!(found, wanted);
}
