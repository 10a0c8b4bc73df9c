//! A chain with everyone on it, whose clock the test holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use plumbline::chain::client::{ClientError, Registration, Seeds, Sent, role};
use plumbline::chain::{ChainClient, Genesis, Options};
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission, Timing as PostedTiming};
use plumbline_contracts::{Parameters, Timing, Verdict, commit_digest, domain, report_digest};

use crate::stand::{Anvil, On, Stand};

pub(crate) const CHAIN_ID: u64 = 7_331;
pub(crate) const START: u64 = 1_700_000_000;
pub(crate) const STAKE: u128 = 1_000;
/// Of it, what a challenger loses if it withholds its seed.
pub(crate) const SEED_BOND: u128 = 100;
pub(crate) const FEE: u128 = 77;
pub(crate) const PURSE: u64 = 1 << 62;
/// A claim whose cap divides well: 4 honest of 5, 100 ms.
pub(crate) const CLAIM: u64 = 960_000_000;
/// The nominal duration, µs: what the bounds are taken over where a test says nothing else.
pub(crate) const WINDOW: u32 = 100_000;

pub(crate) fn parameters() -> Parameters {
    Parameters {
        min_stake: STAKE - SEED_BOND,
        seed_bond: SEED_BOND,
        unbonding_s: 1_060,
        live_interval_s: 60,
        coordinator_fee: FEE,
        dispute_window_s: 30,
        jury_draw_s: 60,
        jury_commit_s: 60,
        jury_reveal_s: 60,
        ..Parameters::default()
    }
}

pub(crate) fn key(number: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(number)).unwrap()
}

pub(crate) fn genesis() -> Genesis {
    Genesis {
        chain_id: CHAIN_ID,
        deployer: key(1),
        parameters: parameters(),
    }
}

/// Time of the chain; anvil, where there is one, is moved with it.
#[derive(Clone)]
pub(crate) struct TestClock {
    seconds: Arc<AtomicU64>,
    driven: Arc<Mutex<Option<Arc<Anvil>>>>,
}

impl TestClock {
    pub(crate) fn new() -> Self {
        Self {
            seconds: Arc::new(AtomicU64::new(START)),
            driven: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.seconds.load(Ordering::SeqCst)
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
        if let Some(anvil) = &*self.driven.lock().unwrap() {
            anvil.set_time(self.now());
        }
    }

    /// As a clock does that was set wrong; the embedded engine's only.
    pub(crate) fn back(&self, seconds: u64) {
        self.seconds.fetch_sub(seconds, Ordering::SeqCst);
    }

    pub(crate) fn drive(&self, anvil: &Arc<Anvil>) {
        *self.driven.lock().unwrap() = Some(Arc::clone(anvil));
    }

    /// Blocks only when asked for.
    pub(crate) fn options(&self) -> Options {
        let clock = self.clone();
        Options {
            block_interval: Duration::from_secs(3600),
            clock: Arc::new(move || clock.now()),
        }
    }
}

pub(crate) struct World {
    pub(crate) chain: Stand,
    pub(crate) clock: TestClock,
    pub(crate) payer: ChainClient,
    pub(crate) prover: ChainClient,
    pub(crate) coordinator: ChainClient,
    pub(crate) challengers: Vec<ChainClient>,
}

pub(crate) fn registration(number: u8, roles: u32) -> Registration {
    Registration {
        roles,
        network_key: [number; 32],
        cross_signature: [number; 64],
        operator: [number; 32],
        endpoint: format!("10.0.0.{number}:7000"),
        max_bps: if roles & role::PROVER != 0 { CLAIM } else { 0 },
        stake: STAKE,
    }
}

/// Mints, allows and registers.
pub(crate) async fn join(chain: &Stand, number: u8, roles: u32) -> ChainClient {
    let client = chain.client(key(number)).await;
    enter(&client, number, roles).await;
    client
}

/// Mints, allows and registers `client`.
pub(crate) async fn enter(client: &ChainClient, number: u8, roles: u32) {
    fund(client).await;
    client.register(&registration(number, roles)).await.unwrap();
}

pub(crate) async fn fund(client: &ChainClient) {
    let purse = U256::from(PURSE);
    client.mint_lab(client.address(), purse).await.unwrap();
    client.approve(U256::MAX).await.unwrap();
}

pub(crate) fn seeds(client: &ChainClient) -> Seeds {
    Seeds::new(*client.address().into_word())
}

impl World {
    pub(crate) async fn new(on: On, challengers: u8) -> Self {
        let clock = TestClock::new();
        let chain = Stand::new(on, &clock).await;
        Self::on(chain, clock, challengers).await
    }

    pub(crate) async fn on(chain: Stand, clock: TestClock, challengers: u8) -> Self {
        let payer = chain.client(key(2)).await;
        fund(&payer).await;
        let prover = join(&chain, 3, role::PROVER).await;
        let coordinator = join(&chain, 4, role::COORDINATOR).await;
        let mut list = Vec::new();
        for number in 0..challengers {
            list.push(join(&chain, 10 + number, role::CHALLENGER).await);
        }
        let world = Self {
            chain,
            clock,
            payer,
            prover,
            coordinator,
            challengers: list,
        };
        world.beat().await;
        world
    }

    /// Everyone heartbeats once.
    pub(crate) async fn beat(&self) {
        for challenger in &self.challengers {
            challenger.beat(&seeds(challenger)).await.unwrap();
        }
    }

    /// A measurement whose result is on record: a true claim, everyone honest.
    pub(crate) async fn reported(&self) -> B256 {
        let id = self.running(&self.ask()).await;
        let posted = self.submission(id, &[1_600; 5], &[WINDOW; 5]).await;
        self.coordinator.report(id, &posted).await.unwrap();
        id
    }

    /// 5 challengers of which 1 may be corrupt, 100 ms.
    pub(crate) fn ask(&self) -> Request {
        Request {
            payer: self.payer.address(),
            prover: self.prover.address(),
            coordinator: self.coordinator.address(),
            claimBps: CLAIM,
            direction: 0,
            n: 5,
            f: 1,
            durationMs: 100,
            packetBytes: 1_500,
            pricePerByte: 3,
            deadline: self.clock.now() + 120,
        }
    }

    pub(crate) async fn selected(&self, request: &Request) -> B256 {
        let (id, _) = self.payer.request(request).await.unwrap();
        self.beat().await;
        self.coordinator.select(id).await.unwrap();
        id
    }

    pub(crate) async fn running(&self, request: &Request) -> B256 {
        let id = self.selected(request).await;
        let hash = B256::repeat_byte(9);
        self.coordinator.begin(id, hash).await.unwrap();
        id
    }

    pub(crate) fn challenger(&self, address: Address) -> &ChainClient {
        let found = self.challengers.iter().find(|c| c.address() == address);
        found.unwrap()
    }

    /// Everyone counted `counts` and reports these windows (µs), signed; the evidence says Pass.
    pub(crate) async fn submission(&self, id: B256, counts: &[u32], windows: &[u32]) -> Submission {
        let reports = counts.iter().copied().zip(windows.iter().copied());
        let reports: Vec<(u32, u32)> = reports.collect();
        self.posted(id, counts, &reports).await
    }

    /// The prover committed to `counts`, and each reports its packets and window (µs), signed.
    pub(crate) async fn posted(
        &self,
        id: B256,
        counts: &[u32],
        reports: &[(u32, u32)],
    ) -> Submission {
        let selected = self.payer.selected_of(id).await.unwrap();
        let response = B256::repeat_byte(5);
        let packets = counts.iter().map(|c| u64::from(*c)).sum();
        let mut posted = Submission {
            packets,
            counts: counts.to_vec(),
            responseHash: response,
            proverSignature: self.sign_commit(id, packets, counts, response),
            reports: Vec::new(),
            bundleHash: B256::repeat_byte(6),
            verdict: Verdict::Pass as u8,
            spansUs: vec![WINDOW; 2],
        };
        for (index, (packets, window)) in (0_u16..).zip(reports) {
            let timing = Timing {
                index,
                window_us: *window,
                packets: *packets,
            };
            let signer = self.challenger(selected[usize::from(index)]);
            posted
                .reports
                .push(self.sign_report(id, signer, timing, response));
        }
        posted
    }

    pub(crate) fn sign_commit(
        &self,
        id: B256,
        packets: u64,
        counts: &[u32],
        response: B256,
    ) -> alloy::primitives::Bytes {
        let deployment = self.chain.deployment();
        let domain = domain(deployment.chain_id, deployment.backhaul);
        let digest = commit_digest(&domain, id, 0, packets, counts, response);
        let signature = self.prover.signer().sign_hash_sync(&digest).unwrap();
        signature.as_bytes().to_vec().into()
    }

    pub(crate) fn sign_report(
        &self,
        id: B256,
        signer: &ChainClient,
        timing: Timing,
        response: B256,
    ) -> PostedTiming {
        let deployment = self.chain.deployment();
        let domain = domain(deployment.chain_id, deployment.backhaul);
        let digest = report_digest(&domain, id, 0, timing, response);
        let signature = signer.signer().sign_hash_sync(&digest).unwrap();
        PostedTiming {
            index: timing.index,
            windowUs: timing.window_us,
            packets: timing.packets,
            signature: signature.as_bytes().to_vec().into(),
        }
    }

    /// Everything adds up.
    pub(crate) async fn assert_conserved(&self) {
        assert!(self.payer.conserved().await.unwrap());
        let totals = self.payer.totals().await.unwrap();
        assert_eq!(
            totals.stake + totals.escrow + totals.owed + totals.burnt,
            totals.held
        );
        assert!(totals.balance >= totals.held);
    }
}

/// The name of the error that the contract refused with.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    let error = result.unwrap_err();
    let refusal = error.refusal().unwrap_or_else(|| panic!("{error}"));
    refusal.name.clone()
}

/// Makes a block with one transaction in it.
pub(crate) async fn tick(client: &ChainClient) -> Sent {
    client
        .mint_lab(Address::ZERO.create(1), U256::from(1))
        .await
        .unwrap()
}
