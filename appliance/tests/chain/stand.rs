//! What a world stands on: the embedded engine, or an anvil process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use plumbline::chain::rpc::{self, Chosen, deploy};
use plumbline::chain::{ChainClient, Embedded, Endpoints, Finality};
use plumbline_contracts::Deployment;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{CHAIN_ID, START, TestClock, genesis, key, parameters};

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Embedded,
    Anvil,
}

/// Declares each of these functions as a test on both engines.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::stand::On::Embedded).await;
            })*
        }
        mod anvil {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::stand::On::Anvil).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;

/// An anvil whose clock stands still until it is moved; ended when dropped.
#[derive(Debug)]
pub(crate) struct Anvil {
    process: Child,
    port: u16,
}

impl Anvil {
    /// `more` are arguments of anvil. Gas is free unless they say otherwise.
    pub(crate) fn start(more: &[&str]) -> Self {
        let program = std::env::var_os("PLUMBLINE_ANVIL").expect(
            "PLUMBLINE_ANVIL names no anvil: run the tests by `cargo xtask test chain`, which installs it, or set it \
             to an anvil 1.7 of yours (npm package @foundry-rs/anvil)",
        );
        let mut command = Command::new(&program);
        command.args(["--port", "0", "--chain-id", &CHAIN_ID.to_string()]);
        command.args(["--timestamp", &START.to_string()]);
        // Today's rules, and the embedded engine's room; anvil checks EIP-7825 only when it is told to.
        command.args(["--hardfork", "osaka", "--enable-tx-gas-limit"]);
        command.args(["--gas-limit", "60000000"]);
        if !more.contains(&"--block-base-fee-per-gas") {
            command.args(["--gas-price", "0", "--block-base-fee-per-gas", "0"]);
            command.arg("--disable-min-priority-fee");
        }
        let mut process = command
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let port = line.strip_prefix("Listening on 127.0.0.1:")?;
            Some(port.trim().parse().unwrap())
        });
        // It logs every request: nobody must wait for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let anvil = Self {
            process,
            port: port.expect("anvil ended before it listened"),
        };
        anvil.ask("anvil_setBlockTimestampInterval", &json!([0]));
        anvil
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// One question, blocking: anvil is another process.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = post(self.port, &request);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub(crate) fn height(&self) -> u64 {
        let told = self.ask("eth_blockNumber", &json!([]));
        let digits = told.as_str().unwrap().trim_start_matches("0x");
        u64::from_str_radix(digits, 16).unwrap()
    }

    pub(crate) fn mine(&self, blocks: u64) {
        self.ask("anvil_mine", &json!([format!("{blocks:#x}")]));
    }

    /// The newest `depth` blocks become others, without transactions.
    pub(crate) fn reorganise(&self, depth: u64) {
        self.ask("anvil_reorg", &json!([depth, []]));
    }

    pub(crate) fn set_time(&self, seconds: u64) {
        self.ask("evm_setNextBlockTimestamp", &json!([seconds]));
        self.ask("evm_mine", &json!([]));
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// One JSON-RPC exchange over a connection of its own.
pub(crate) fn post(port: u16, request: &Value) -> Value {
    let body = request.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: anvil\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A chain with the contracts on it.
pub(crate) enum Stand {
    Embedded {
        chain: Arc<Embedded>,
        dir: TempDir,
    },
    Anvil {
        anvil: Arc<Anvil>,
        endpoints: Arc<Endpoints>,
        deployment: Deployment,
    },
}

impl Stand {
    pub(crate) async fn new(on: On, clock: &TestClock) -> Self {
        match on {
            On::Embedded => {
                let dir = TempDir::new().unwrap();
                let chain = Embedded::open(dir.path(), &genesis(), clock.options()).unwrap();
                Self::Embedded { chain, dir }
            }
            On::Anvil => {
                let anvil = Arc::new(Anvil::start(&[]));
                clock.drive(&anvil);
                Self::settled(anvil, Finality::IMMEDIATE).await
            }
        }
    }

    /// The contracts on `anvil`, acknowledged as `finality` says.
    pub(crate) async fn settled(anvil: Arc<Anvil>, finality: Finality) -> Self {
        let (url, now) = (anvil.url(), Finality::IMMEDIATE);
        let chosen = Chosen {
            parameters: parameters(),
            token: None,
            finality: now,
        };
        let deployed = deploy(&url, key(1), &chosen, &|_| ()).await;
        let endpoints = Endpoints::connect(&[url], CHAIN_ID, rpc::Options::new(finality)).await;
        Self::Anvil {
            endpoints: endpoints.unwrap(),
            deployment: deployed.unwrap().file.deployment,
            anvil,
        }
    }

    pub(crate) async fn client(&self, signer: PrivateKeySigner) -> ChainClient {
        match self {
            Self::Embedded { chain, .. } => ChainClient::in_process(chain, signer),
            Self::Anvil {
                endpoints,
                deployment,
                ..
            } => ChainClient::connect(endpoints, signer, *deployment)
                .await
                .unwrap(),
        }
    }

    pub(crate) fn deployment(&self) -> Deployment {
        match self {
            Self::Embedded { chain, .. } => chain.deployment(),
            Self::Anvil { deployment, .. } => *deployment,
        }
    }

    /// One JSON-RPC request.
    pub(crate) async fn rpc(&self, request: Value) -> Value {
        match self {
            Self::Embedded { chain, .. } => chain.rpc(request).await,
            Self::Anvil { anvil, .. } => post(anvil.port(), &request),
        }
    }

    pub(crate) fn anvil(&self) -> &Anvil {
        match self {
            Self::Anvil { anvil, .. } => anvil,
            Self::Embedded { .. } => panic!("stands on the embedded engine"),
        }
    }
}
