//! A dispute from end to end, as its parties see it: the real programs, on loopback.
//!
//! ```text
//!   coordinator daemon (chain, evidence) ◄── three juror daemons ◄── killed and restarted between its two steps
//!        ▲        ▲
//!        │        └── plumbline dispute make | submit | show, plumbline verify, chain draw
//!        └── here: a payer, a prover, a challenger, and another coordinator that posts a bundle which does not
//!            replay
//!   a second coordinator daemon on the first one's chain, and the reporter's own HTTP server: where evidence is had
//!   from that the accused withholds
//! ```
//! What a jury does that is not honest is in `tests/chain/disputes.rs`; here everyone votes what the verifier says.

// The lint exempts test functions, not what they share.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use plumbline::chain::ChainClient;
use plumbline::chain::client::{ClientError, Registration, Ruling, Seeds, role};
use plumbline::control::client::{Api, ApiError};
use plumbline::keyfile::Keys;
use plumbline::role::dispute;
use plumbline::role::evidence::Places;
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission, Timing as Posted};
use plumbline_contracts::{Deployment, Timing, Verdict, commit_digest, domain, report_digest};
use plumbline_proof::backhaul::bundle::{self, Bundle};
use plumbline_proof::backhaul::judge::{self, Judgement};
use plumbline_proof::backhaul::offence;
use plumbline_trust::evidence::Evidence;
use serde_json::Value;

const STAKE: u128 = 1_000_000;
const JURORS: usize = 3;
/// Until something that must happen has happened; generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A program that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `plumbline run`, and waits until it says that it is up.
fn run(config: &Path) -> Daemon {
    let mut child = Command::new(env!("CARGO_BIN_EXE_plumbline"))
        .args(["run", "--config"])
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert!(line.contains("\"ready\":true"), "{line:?} of {config:?}");
    Daemon(child)
}

/// One command with `--json`: its exit code and its document, or what it said on stderr.
fn ask(arguments: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_plumbline"))
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(said));
    (output.status.code().unwrap(), document)
}

#[track_caller]
fn answered(arguments: &[&str]) -> Value {
    let (code, document) = ask(arguments);
    assert_eq!(code, 0, "{arguments:?}: {document}");
    document
}

struct Court {
    home: tempfile::TempDir,
    url: String,
    api: Api,
    deployment: Deployment,
    _coordinator: Daemon,
}

/// An address that nobody listens at.
fn free() -> std::net::SocketAddr {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

impl Court {
    /// Whose jurors have so long to commit to their votes.
    async fn open(jury_commit: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listen = free();
        let config = format!(
            r#"
            roles = ["coordinator"]
            key = "coordinator.key"
            state_dir = "coordinator"
            log.level = "warn"
            coordinator = {{ listen = "{listen}" }}
            [chain]
            block_interval = "100ms"
            dispute_window = "300s"
            live_interval = "5s"
            jury_size = {JURORS}
            jury_draw = "60s"
            jury_commit = "{jury_commit}"
            jury_reveal = "8s"
            unbonding = "1h"
            "#
        );
        let file = write(home.path(), "coordinator", &config);
        let coordinator = run(&file);
        let url = format!("http://{listen}");
        let api = Api::new(&url).unwrap();
        let deployment = api.deployment().await.unwrap();
        Self {
            home,
            url,
            api,
            deployment,
            _coordinator: coordinator,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    async fn client(&self, signer: PrivateKeySigner) -> ChainClient {
        let rpc = self.api.rpc_url();
        ChainClient::connect_http(&rpc, signer, self.deployment)
            .await
            .unwrap()
    }

    /// Somebody with tokens, registered for `roles` unless that is none.
    async fn enter(&self, signer: PrivateKeySigner, roles: u32) -> ChainClient {
        let client = self.client(signer).await;
        let purse = U256::from(STAKE) * U256::from(1_000);
        client.mint_lab(client.address(), purse).await.unwrap();
        client.approve(U256::MAX).await.unwrap();
        if roles != 0 {
            let own = keccak256(client.address());
            let registration = Registration {
                roles,
                network_key: own.0,
                cross_signature: [7; 64],
                operator: own.0,
                endpoint: "127.0.0.1:1".into(),
                max_bps: if roles & role::PROVER != 0 {
                    u64::MAX
                } else {
                    0
                },
                stake: STAKE,
            };
            client.register(&registration).await.unwrap();
        }
        client
    }

    /// Another coordinator on the same chain.
    fn second(&self) -> (Daemon, Api) {
        let deployment = serde_json::to_string(&self.deployment).unwrap();
        std::fs::write(self.path("deployment.json"), deployment).unwrap();
        let listen = free();
        let config = format!(
            r#"
            roles = ["coordinator"]
            key = "second.key"
            state_dir = "second"
            log.level = "warn"
            coordinator = {{ listen = "{listen}" }}
            [chain]
            engine = "rpc"
            rpc = ["{}/rpc"]
            deployment = "deployment.json"
            "#,
            self.url
        );
        let daemon = run(&write(self.home.path(), "second", &config));
        (daemon, Api::new(&format!("http://{listen}")).unwrap())
    }

    fn juror(&self, number: usize) -> Daemon {
        let name = format!("juror{number}");
        let config = format!(
            "roles = [\"juror\"]\nkey = \"{name}.key\"\nstate_dir = \"{name}\"\nlog.level = \"info\"\n\
             [node]\ncoordinator = \"{}\"\nheartbeat = \"500ms\"\n",
            self.url
        );
        run(&write(self.home.path(), &name, &config))
    }

    fn show(&self, id: &str) -> Value {
        answered(&["dispute", "show", id, "--coordinator", &self.url])
    }

    /// The dispute once `wanted` holds of it.
    async fn once(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let view = self.show(id);
            if wanted(&view) {
                return view;
            }
            assert!(tokio::time::Instant::now() < until, "still {view}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Writes a configuration and makes its key, unless it is there.
fn write(home: &Path, name: &str, config: &str) -> PathBuf {
    let key = home.join(format!("{name}.key"));
    if !key.exists() {
        answered(&["key", "new", "--out", &key.display().to_string()]);
    }
    let file = home.join(format!("{name}.toml"));
    std::fs::write(&file, config).unwrap();
    file
}

fn ballots(view: &Value) -> Vec<&str> {
    let jurors = view["jurors"].as_array().unwrap();
    jurors
        .iter()
        .map(|j| j["ballot"].as_str().unwrap())
        .collect()
}

/// A bundle that its coordinator signed and that no evidence supports.
fn false_bundle(keys: &Keys) -> (Vec<u8>, [u8; 32]) {
    let judgement = Judgement {
        verdict: judge::Verdict::Pass,
        reason: None,
        measured_bps: 1,
        curve: vec![1],
        spans_us: vec![1],
        packets: 1,
        asked_bps: None,
        came_bps: None,
        burst: None,
        commitment_ok: true,
        standings: Vec::new(),
        checks: Vec::new(),
    };
    let log = Vec::new();
    bundle::write(&keys.network, &Bundle { log, judgement })
}

/// Again until the beacon's round is closed: somebody's heartbeat does that.
async fn select(client: &ChainClient, id: B256) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match client.select(id).await {
            Ok(_) => return,
            Err(ClientError::Refused(why)) if why.name == "BeaconNotReady" => {
                assert!(tokio::time::Instant::now() < until, "{why}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// A measurement whose coordinator posted `bundle`: one challenger, everyone's signatures in order.
async fn reported(court: &Court, parties: &Parties, bundle: [u8; 32]) -> B256 {
    let request = Request {
        payer: parties.payer.address(),
        prover: parties.prover.address(),
        coordinator: parties.liar.address(),
        claimBps: 960_000_000,
        direction: 0,
        n: 1,
        f: 0,
        durationMs: 100,
        packetBytes: 1_500,
        pricePerByte: 3,
        deadline: parties.payer.latest_block().await.unwrap().timestamp + 120,
    };
    let (id, _) = parties.payer.request(&request).await.unwrap();
    select(&parties.liar, id).await;
    parties.liar.begin(id, B256::repeat_byte(9)).await.unwrap();
    let d = domain(court.deployment.chain_id, court.deployment.backhaul);
    let (count, response) = (8_000, B256::repeat_byte(5));
    let commit = commit_digest(&d, id, 0, u64::from(count), &[count], response);
    let timing = Timing {
        index: 0,
        window_us: 100_000,
        packets: count,
    };
    let report = report_digest(&d, id, 0, timing, response);
    let sign = |client: &ChainClient, digest: &B256| -> alloy::primitives::Bytes {
        let signature = client.signer().sign_hash_sync(digest).unwrap();
        signature.as_bytes().to_vec().into()
    };
    let posted = Submission {
        packets: count.into(),
        counts: vec![count],
        responseHash: response,
        proverSignature: sign(&parties.prover, &commit),
        reports: vec![Posted {
            index: 0,
            windowUs: timing.window_us,
            packets: count,
            signature: sign(&parties.challenger, &report),
        }],
        bundleHash: bundle.into(),
        verdict: Verdict::Pass as u8,
        spansUs: vec![timing.window_us],
    };
    parties.liar.report(id, &posted).await.unwrap();
    id
}

struct Parties {
    payer: ChainClient,
    prover: ChainClient,
    challenger: Arc<ChainClient>,
    liar: ChainClient,
}

impl Parties {
    /// All registered; the challenger's heart beats as long as the task.
    async fn enter(court: &Court, liar: &Keys) -> (Self, tokio::task::JoinHandle<()>) {
        let any = PrivateKeySigner::random;
        let parties = Self {
            payer: court.enter(any(), 0).await,
            prover: court.enter(any(), role::PROVER).await,
            challenger: Arc::new(court.enter(any(), role::CHALLENGER).await),
            liar: court.enter(liar.signer(), role::COORDINATOR).await,
        };
        let beating = parties.challenger.clone();
        let heart = tokio::spawn(async move {
            let seeds = Seeds::new([3; 32]);
            loop {
                beating.beat(&seeds).await.unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        (parties, heart)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_bundle_costs_its_coordinator_and_a_false_alarm_its_bond() {
    let court = Court::open("5s").await;
    let url = court.url.clone();
    let mut jurors: Vec<Daemon> = (0..JURORS).map(|n| court.juror(n)).collect();
    let liar_keys = Keys::create(&court.path("liar.key")).unwrap();
    let (parties, heart) = Parties::enter(&court, &liar_keys).await;
    let (false_bytes, address) = false_bundle(&liar_keys);
    std::fs::write(court.path("false.bundle"), &false_bytes).unwrap();
    let id = reported(&court, &parties, address).await;

    // Evidence is examined before it costs anything.
    let (request, evidence) = (id.to_string(), court.text("evidence"));
    let accused = parties.liar.address().to_string();
    let make = |accused: &str, out: &str| {
        let (bundle, out) = (court.text("false.bundle"), court.text(out));
        ask(&[
            "dispute",
            "make",
            &request,
            "--accused",
            accused,
            "--bundle",
            &bundle,
            "--out",
            &out,
            "--coordinator",
            &url,
        ])
    };
    let (code, made) = make(&accused, "evidence");
    assert_eq!((code, made["holds"].as_bool()), (0, Some(true)), "{made}");
    let (code, empty) = make(&parties.prover.address().to_string(), "empty");
    assert_eq!(
        (code, empty["holds"].as_bool()),
        (1, Some(false)),
        "{empty}"
    );
    assert_eq!(ask(&["verify", &evidence]).0, 0);
    assert_eq!(ask(&["verify", &court.text("empty")]).0, 1);
    let reporter_keys = Keys::create(&court.path("reporter.key")).unwrap();
    let reporter = court.enter(reporter_keys.signer(), 0).await;
    let key = court.text("reporter.key");
    let submit = |file: &str| {
        let file = court.text(file);
        ask(&[
            "dispute",
            "submit",
            &file,
            "--key",
            &key,
            "--coordinator",
            &url,
        ])
    };
    let (code, words) = submit("empty");
    assert_eq!(code, 3, "{words}");
    assert!(
        words.as_str().unwrap().contains("no bond is at stake"),
        "{words}"
    );

    what_it_says_of_the_chain_is_the_chains(&reporter, id, &parties, &false_bytes).await;

    // Who brings it all the same loses the bond: the jury sees what the command saw.
    let empty = std::fs::read(court.path("empty")).unwrap();
    let alarm = false_alarm(&court, &reporter, &parties, id, &empty).await;
    let view = court.once(&alarm.to_string(), |v| v["over"] == true).await;
    assert_eq!(view["ruling"], "rejected", "{view}");
    let totals = reporter.totals().await.unwrap();
    let bond = reporter.variable("dispute_bond").await.unwrap();
    assert_eq!(totals.burnt, bond, "burnt, and no stake is");
    assert_eq!(
        reporter.stake_of(parties.prover.address()).await.unwrap(),
        U256::from(STAKE)
    );

    // The true one. A juror dies between its two steps, and comes back.
    let (code, submitted) = submit("evidence");
    assert_eq!(code, 0, "{submitted}");
    let dispute = submitted["dispute"].as_str().unwrap();
    strangers_are_refused(&court, dispute.parse().unwrap(), &empty).await;
    let all_committed = |v: &Value| !ballots(v).is_empty() && !ballots(v).contains(&"silent");
    court.once(dispute, all_committed).await;
    drop(jurors.remove(0));
    jurors.insert(0, court.juror(0));
    let view = court.once(dispute, |v| v["over"] == true).await;
    assert_eq!(view["ruling"], "upheld", "{view}");
    assert_eq!(ballots(&view), ["upheld"; JURORS], "{view}");

    // What it came to.
    let found = reporter.result_of(id).await.unwrap().unwrap();
    assert_eq!(found.verdict, Verdict::Annulled);
    let stake = reporter.stake_of(parties.liar.address()).await.unwrap();
    assert_eq!(stake, U256::from(STAKE / 2), "half of it is gone");
    let case = reporter
        .dispute_of(dispute.parse().unwrap())
        .await
        .unwrap()
        .caseId;
    assert_eq!(
        reporter.case_of(case).await.unwrap().unwrap().ruling,
        Ruling::Upheld
    );
    // Its bond, what no juror earned, and 40 % of the half.
    let share = U256::from(STAKE / 2 * 40 / 100);
    let owed = reporter.owed(reporter.address()).await.unwrap();
    assert!(owed >= bond + share, "{owed} of {bond} + {share}");
    let draw = answered(&["chain", "draw", &case.to_string(), "--coordinator", &url]);
    assert_eq!(draw["repeats"], true, "{draw}");
    assert_eq!(draw["pool"], JURORS);
    assert!(reporter.conserved().await.unwrap());
    // What was handed over is served to anyone, as it was.
    let address: B256 = made["address"].as_str().unwrap().parse().unwrap();
    let served = court.api.evidence(&address.0).await.unwrap();
    assert_eq!(served, std::fs::read(court.path("evidence")).unwrap());
    heart.abort();
}

/// A juror compares every fact: evidence that bends one convicts nobody.
async fn what_it_says_of_the_chain_is_the_chains(
    juror: &ChainClient,
    id: B256,
    parties: &Parties,
    bundle: &[u8],
) {
    let facts = dispute::posted(juror, id).await.unwrap();
    let asked = juror.request_of(id).await.unwrap();
    assert_eq!(facts.setup, asked.setup_hash.0);
    assert_eq!(facts.terms.unwrap().claim_bps, asked.request.claimBps);
    for (key, account) in facts.keys.iter().zip([&parties.liar, &parties.prover]) {
        let known = juror.participant(account.address()).await.unwrap();
        assert_eq!(key.0, known.unwrap().network_key.0);
    }
    let bent: [fn(&mut offence::Posted); 8] = [
        |p| p.setup[0] ^= 1,
        |p| p.terms = None,
        |p| p.terms.as_mut().unwrap().f += 1,
        |p| p.keys[1].0[0] ^= 1,
        |p| p.price_per_byte += 1,
        |p| p.deadline += 1,
        |p| p.beacon[0] ^= 1,
        |p| p.payer.0[0] ^= 1,
    ];
    let judged = async |facts| {
        let accused = plumbline_trust::Address(parties.liar.address().into_array());
        let evidence = offence::accuse(id.0, accused, facts, bundle.to_vec());
        dispute::judge(juror, &evidence).await.unwrap()
    };
    assert!(judged(facts.clone()).await.holds);
    for bend in bent {
        let mut other = facts.clone();
        bend(&mut other);
        let found = judged(other).await;
        assert!(
            !found.holds && found.why.contains("are others"),
            "{}",
            found.why
        );
    }
}

/// Brings evidence that shows nothing, past the command that would refuse it.
async fn false_alarm(
    court: &Court,
    reporter: &ChainClient,
    parties: &Parties,
    id: B256,
    bytes: &[u8],
) -> B256 {
    let accused = parties.prover.address();
    let alarm = accuse(reporter, id, accused, bytes, "").await;
    let places = Places::of(reporter, &court.api).await.unwrap();
    let address = Evidence::open(bytes).unwrap().1;
    let file = Arc::from(bytes);
    let given = places.hand_on(alarm.0, address, &file, PATIENCE);
    let held = given.await.into_iter().filter(|(_, given)| given.is_ok());
    let held: Vec<String> = held.map(|(place, _)| place).collect();
    assert_eq!(held, [court.url.as_str()]);
    alarm
}

/// Brings evidence and hands it to nobody.
async fn accuse(
    reporter: &ChainClient,
    id: B256,
    accused: Address,
    bytes: &[u8],
    source: &str,
) -> B256 {
    let (proof, salt) = (reporter.deployment().backhaul, B256::repeat_byte(1));
    let hash = B256::from(Evidence::open(bytes).unwrap().1);
    let announced = reporter.announce_dispute(proof, id, accused, hash, salt);
    announced.await.unwrap();
    let brought = reporter.dispute(proof, id, accused, hash, salt, source);
    brought.await.unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_the_accused_withholds_is_had_from_others_or_costs_its_bond() {
    let court = Court::open("16s").await;
    let (_second, second) = court.second();
    let _jurors: Vec<Daemon> = (0..JURORS).map(|n| court.juror(n)).collect();
    let liar_keys = Keys::create(&court.path("liar.key")).unwrap();
    let (parties, heart) = Parties::enter(&court, &liar_keys).await;
    // Whoever asks the liar is connected and waits.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", silent.local_addr().unwrap());
    parties.liar.set_endpoint(&nowhere).await.unwrap();
    let liar = parties.liar.address();
    let reporter = court.enter(PrivateKeySigner::random(), 0).await;
    let (bundle, posted) = false_bundle(&liar_keys);
    let evidence = async |id: B256| {
        let accused = plumbline_trust::Address(liar.into_array());
        let made = dispute::make(&reporter, id, accused, bundle.clone()).await;
        let (evidence, finding) = made.unwrap();
        assert!(finding.holds, "{}", finding.why);
        evidence.seal()
    };

    // Nowhere: the bond is burnt, and nobody who said so loses anything.
    let id = reported(&court, &parties, posted).await;
    let (bytes, address) = evidence(id).await;
    let first = accuse(&reporter, id, liar, &bytes, &nowhere).await;
    let view = court.once(&first.to_string(), |v| v["over"] == true).await;
    assert_eq!(view["ruling"], "unavailable", "{view}");
    assert_eq!(ballots(&view), ["unavailable"; JURORS], "{view}");
    let totals = reporter.totals().await.unwrap();
    let bond = reporter.variable("dispute_bond").await.unwrap();
    assert_eq!(totals.burnt, bond, "burnt, and no stake is");
    let whole = U256::from(STAKE);
    assert_eq!(reporter.stake_of(liar).await.unwrap(), whole);

    // Brought again, and at a coordinator that no juror calls its own: they find it and hand it on.
    let again = accuse(&reporter, id, liar, &bytes, "").await;
    assert_ne!(again, first);
    assert!(!court.api.has_evidence(&address).await);
    second.put_evidence(&again.0, &bytes).await.unwrap();
    let view = court.once(&again.to_string(), |v| v["over"] == true).await;
    assert_eq!(view["ruling"], "upheld", "{view}");
    assert_eq!(ballots(&view), ["upheld"; JURORS], "{view}");
    assert_eq!(court.api.evidence(&address).await.unwrap(), bytes);
    assert_eq!(
        reporter.stake_of(liar).await.unwrap(),
        whole / U256::from(2)
    );

    // At the reporter's own server alone.
    parties.liar.top_up(whole / U256::from(2)).await.unwrap();
    let id = reported(&court, &parties, posted).await;
    let (bytes, address) = evidence(id).await;
    let served = bytes.clone();
    let file = axum::routing::get(async move || served);
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = format!("http://{}/evidence", server.local_addr().unwrap());
    let routes = axum::Router::new().route("/evidence", file);
    let server = tokio::spawn(async move { axum::serve(server, routes).await });
    let third = accuse(&reporter, id, liar, &bytes, &source).await;
    let view = court.once(&third.to_string(), |v| v["over"] == true).await;
    assert_eq!(view["ruling"], "upheld", "{view}");
    assert_eq!(view["source"], source, "{view}");
    assert_eq!(ballots(&view), ["upheld"; JURORS], "{view}");
    // Handed on: now the coordinators have it too.
    for api in [&court.api, &second] {
        assert_eq!(api.evidence(&address).await.unwrap(), bytes);
    }
    assert!(reporter.conserved().await.unwrap());
    server.abort();
    heart.abort();
}

/// Nothing is stored that no bond was paid for, and nothing but what it was paid for.
async fn strangers_are_refused(court: &Court, id: B256, other: &[u8]) {
    let refused = |result: Result<(), ApiError>| match result {
        Err(ApiError::Refused { code, status, .. }) => (code, status),
        other => panic!("{other:?}"),
    };
    let of = |id: Address| id.into_word().0;
    let unknown = court.api.put_evidence(&of(Address::ZERO), other).await;
    assert_eq!(refused(unknown), ("no-such-dispute".into(), 404));
    let wrong = court.api.put_evidence(&id.0, other).await;
    assert_eq!(refused(wrong), ("other-evidence".into(), 400));
    let garbage = court.api.put_evidence(&id.0, b"no evidence").await;
    assert_eq!(refused(garbage), ("bad-evidence".into(), 400));
    let none = court.api.evidence(&[1; 32]).await.map(drop);
    assert_eq!(refused(none), ("no-evidence".into(), 404));
}
