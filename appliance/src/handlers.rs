//! What the command line asks of the appliance, done.

mod dispute;
mod verify;

use std::io::Read as _;
use std::path::Path;

use plumbline_proof::backhaul::bundle;
use plumbline_trust::identity::Address;

use crate::chain::embedded::{self, FollowError, Upstream};
use crate::chain::rpc::{self, DeployError};
use crate::chain::{ChainClient, ClientError, DeploymentFile, EndpointsError};
use crate::config::Config;
use crate::control::client::{Api, ApiError};
use crate::keyfile::Keys;
use crate::role::export;
use crate::role::ledger;
use crate::role::outcome::units;
use crate::role::payer::{self, Order, PayError};
use crate::role::view::{self, ViewError};
use crate::topology;
use crate::ui::args::{AskArgs, DeployArgs, Format, MeasureArgs, PinArgs, Until};
use crate::ui::results::{
    Balance, ChainReplay, ChainStatus, DeploymentView, DisputeView, Done, Draw, EvidenceView,
    MeasureResult, Participants, PinView, Receipt, RequestView, Submitted, VerifyResult,
};
use crate::ui::{Against, CopyWork, Failure, Handlers, Progress, StakeWork};
use alloy::primitives::{B256, U256};
use alloy::signers::local::PrivateKeySigner;

/// The appliance behind the command line.
pub struct Appliance;

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::usage(format!("cannot start the runtime: {e}")))?
        .block_on(work)
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused { .. } => Self::refused(error),
            ApiError::Unreachable { .. } | ApiError::Strange { .. } => Self::unreachable(error),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(_) => Self::refused(error),
            ClientError::Unreachable { .. } | ClientError::TimedOut { .. } => {
                Self::unreachable(error)
            }
            _ => Self::chain(error),
        }
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Endpoints(EndpointsError::Address { .. }) => Self::usage(error),
            DeployError::Endpoints(_) => Self::unreachable(error),
            DeployError::Unfit(_) | DeployError::Step { .. } | DeployError::Astray(_) => {
                Self::chain(error)
            }
        }
    }
}

impl From<PayError> for Failure {
    fn from(error: PayError) -> Self {
        match error {
            PayError::Terms(_) | PayError::Mtu { .. } | PayError::Save(..) => Self::usage(error),
            PayError::Api(e) => e.into(),
            PayError::Chain(e) => e.into(),
            PayError::Unwanted(_) | PayError::Balance { .. } | PayError::NoResult { .. } => {
                Self::refused(error)
            }
            PayError::Evidence(..) => Self::chain(error),
        }
    }
}

impl From<ViewError> for Failure {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Api(e) => e.into(),
            ViewError::Chain(e) => e.into(),
        }
    }
}

/// A client that acts with `signer`.
async fn client(ask: &AskArgs, signer: PrivateKeySigner) -> Result<ChainClient, Failure> {
    opened(ask, signer, true).await
}

/// A client that only reads.
async fn reader(ask: &AskArgs) -> Result<ChainClient, Failure> {
    opened(ask, PrivateKeySigner::random(), false).await
}

async fn opened(
    ask: &AskArgs,
    signer: PrivateKeySigner,
    signs: bool,
) -> Result<ChainClient, Failure> {
    let view = ask.view.view(&ask.coordinator, signs)?;
    let api = Api::new(ask.coordinator.as_str())?;
    Ok(view.open(&api, signer).await?.0)
}

impl Handlers for Appliance {
    fn run(&self, config: Config, keys: Keys) -> Result<(), Failure> {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new(config.log.directive()))
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .init();
        topology::run(&config, keys)
    }

    fn measure(
        &self,
        args: &MeasureArgs,
        keys: Keys,
        progress: &dyn Progress,
    ) -> Result<MeasureResult, Failure> {
        let order = Order {
            prover: args.prover,
            terms: args.terms(),
            burst_bytes: args.sustained.then_some(args.burst.0),
            mtu: args.mtu,
            price_per_byte: args.price,
            deadline: args.deadline,
            faucet: args.faucet,
        };
        let view = args.view.view(&args.coordinator, true)?;
        let done = async {
            Ok(payer::measure(
                args.coordinator.as_str(),
                &view,
                &keys,
                &order,
                args.bundle.as_deref(),
                progress,
            )
            .await?)
        };
        block_on(done)
    }

    fn verify(&self, bytes: &[u8], against: &Against) -> Result<VerifyResult, Failure> {
        block_on(verify::verify(bytes, against))
    }

    fn export(&self, bytes: &[u8], format: Format) -> Result<serde_json::Value, Failure> {
        let verified = bundle::verify(bytes);
        let (Some(record), Some(judgement)) = (&verified.record, &verified.judgement) else {
            let broken = verified.checks.iter().find(|c| !c.ok);
            let why = broken.map_or_else(String::new, |c| format!("{}: {}", c.name, c.detail));
            return Err(Failure::refused(format!(
                "the bundle does not hold, so there is nothing to export: {why}"
            )));
        };
        let words = match format {
            Format::Tr471 => export::tr471,
            Format::Iperf3 => export::iperf3,
        };
        Ok(words(record, judgement, &verified.address))
    }

    fn examine(&self, evidence: &[u8]) -> Result<EvidenceView, Failure> {
        dispute::examine(evidence)
    }

    fn dispute_make(
        &self,
        ask: &AskArgs,
        request: &[u8; 32],
        accused: &Address,
        bundle: Option<Vec<u8>>,
        out: &Path,
    ) -> Result<EvidenceView, Failure> {
        let request = B256::from(*request);
        block_on(dispute::make(ask, request, *accused, bundle, out))
    }

    fn dispute_submit(
        &self,
        ask: &AskArgs,
        keys: Keys,
        evidence: &[u8],
        source: &str,
        told: &(dyn Fn(&str) + Sync),
    ) -> Result<Submitted, Failure> {
        block_on(dispute::submit(ask, &keys, evidence, source, told))
    }

    fn dispute_show(&self, ask: &AskArgs, id: &[u8; 32]) -> Result<DisputeView, Failure> {
        block_on(async { dispute::show(&reader(ask).await?, B256::from(*id)).await })
    }

    fn dispute_judge(&self, ask: &AskArgs, keys: Keys, id: &[u8; 32]) -> Result<Done, Failure> {
        block_on(dispute::judge(ask, &keys, B256::from(*id)))
    }

    fn dispute_advance(&self, ask: &AskArgs, keys: Keys, id: &[u8; 32]) -> Result<Done, Failure> {
        block_on(dispute::advance(ask, &keys, B256::from(*id)))
    }

    fn stake(&self, ask: &AskArgs, keys: Keys, work: StakeWork) -> Result<Done, Failure> {
        block_on(dispute::stake(ask, &keys, work))
    }

    fn chain_status(&self, ask: &AskArgs) -> Result<ChainStatus, Failure> {
        block_on(async { Ok(ledger::status(&reader(ask).await?).await?) })
    }

    fn chain_participants(&self, ask: &AskArgs) -> Result<Participants, Failure> {
        block_on(async { Ok(ledger::participants(&reader(ask).await?).await?) })
    }

    fn chain_request(&self, ask: &AskArgs, id: &[u8; 32]) -> Result<RequestView, Failure> {
        block_on(async { Ok(ledger::request(&reader(ask).await?, B256::from(*id)).await?) })
    }

    fn chain_draw(&self, ask: &AskArgs, id: &[u8; 32]) -> Result<Draw, Failure> {
        block_on(async {
            let draw = ledger::draw(&reader(ask).await?, B256::from(*id)).await?;
            draw.ok_or_else(|| Failure::refused("nobody is drawn for this request or case (yet)"))
        })
    }

    fn chain_balance(&self, ask: &AskArgs, address: &Address) -> Result<Balance, Failure> {
        block_on(async { Ok(ledger::balance(&reader(ask).await?, *address).await?) })
    }

    fn chain_withdraw(&self, ask: &AskArgs, keys: Keys) -> Result<Receipt, Failure> {
        block_on(async {
            let chain = client(ask, keys.signer()).await?;
            let owed = chain.owed(chain.address()).await?;
            if owed.is_zero() {
                return Ok(Receipt {
                    address: keys.address(),
                    amount: 0,
                    transaction: None,
                    block: None,
                    gas_used: 0,
                });
            }
            let sent = chain.withdraw().await?;
            Ok(Receipt {
                address: keys.address(),
                amount: units(owed),
                transaction: Some(sent.hash.to_string()),
                block: Some(sent.block),
                gas_used: sent.gas_used,
            })
        })
    }

    fn chain_faucet(&self, ask: &AskArgs, keys: Keys, amount: u128) -> Result<Receipt, Failure> {
        block_on(async {
            let chain = client(ask, keys.signer()).await?;
            let sent = chain.mint_lab(chain.address(), U256::from(amount)).await?;
            Ok(Receipt {
                address: keys.address(),
                amount,
                transaction: Some(sent.hash.to_string()),
                block: Some(sent.block),
                gas_used: sent.gas_used,
            })
        })
    }

    fn chain_deploy(&self, args: &DeployArgs, keys: Keys) -> Result<DeploymentView, Failure> {
        // Before any gas is paid.
        if let Some(out) = &args.out {
            fresh(out)?;
        }
        let told = |line: &str| eprintln!("▸ {line}");
        let chosen = rpc::Chosen {
            parameters: args.parameters()?,
            token: args.token.map(|token| token.0.into()),
            finality: args.finality,
        };
        let done = block_on(async {
            rpc::deploy(&args.rpc, keys.signer(), &chosen, &told)
                .await
                .map_err(Failure::from)
        })?;
        if let Some(out) = &args.out {
            done.file.write(out).map_err(|why| unwritten(out, &why))?;
        }
        Ok(DeploymentView {
            deployer: done.deployer.to_string(),
            deployment: done.file.deployment,
            block: done.block,
            gas_used: done.steps.iter().map(|(_, _, gas)| gas).sum(),
        })
    }

    fn chain_pin(&self, args: &PinArgs) -> Result<PinView, Failure> {
        fresh(&args.out)?;
        let known = args.deployment.as_deref().map(DeploymentFile::read);
        let known = known
            .transpose()
            .map_err(|why| Failure::usage(format!("--deployment {why}")))?;
        let url = args.url.as_ref();
        let api = url.map(|url| Api::new(url.as_str())).transpose()?;
        let shown = block_on(async { Ok(view::shown(api.as_ref(), &args.rpc, known).await?) });
        let pinned = shown?;
        let written = pinned.write(&args.out);
        written.map_err(|why| unwritten(&args.out, &why))?;
        Ok(PinView {
            file: args.out.display().to_string(),
            fingerprint: pinned.fingerprint().to_string(),
            pinned,
        })
    }

    fn chain_verify(&self, path: &Path) -> Result<ChainReplay, Failure> {
        if path.is_file() {
            let mut file = std::fs::File::open(path).map_err(|e| at(path, e))?;
            let mut first = Vec::new();
            let read = (&mut file).take(FIRST_BYTES).read_to_end(&mut first);
            read.map_err(|e| at(path, e))?;
            if embedded::is_export(&first) {
                let mut input = std::io::BufReader::new(std::io::Cursor::new(first).chain(file));
                let found = embedded::verify_export(&mut input, &mut |_, _| {});
                return found.map(|r| replay(&r, None)).map_err(|e| at(path, e));
            }
        }
        embedded::verify(&stored(path))
            .map(|replayed| replay(&replayed, None))
            .or_else(|error| match error {
                embedded::VerifyError::Chain(_) => Err(Failure::chain(error)),
                differs => Ok(ChainReplay {
                    ok: false,
                    blocks: 0,
                    root: String::new(),
                    detail: Some(differs.to_string()),
                }),
            })
    }

    fn chain_copy(
        &self,
        work: &CopyWork<'_>,
        progress: &dyn Progress,
    ) -> Result<ChainReplay, Failure> {
        let watch = &mut |done, of| progress.note(&far(done, of));
        let copied = |to: &Path| Some(to.display().to_string());
        match *work {
            CopyWork::Backup(from, out) => embedded::backup(&stored(from), out, watch)
                .map(|r| replay(&r, copied(out)))
                .map_err(Failure::chain),
            CopyWork::Restore(from, to) => embedded::restore(from, to, watch)
                .map(|r| replay(&r, copied(to)))
                .map_err(Failure::chain),
            CopyWork::Export(from, out) => {
                let file = std::fs::File::create_new(out).map_err(|e| at(out, e))?;
                let mut writer = std::io::BufWriter::new(&file);
                embedded::export(&stored(from), &mut writer, watch).map_err(Failure::chain)?;
                drop(writer);
                file.sync_all().map_err(|e| at(out, e))?;
                let mut result = self.chain_verify(out)?;
                result.detail = copied(out);
                Ok(result)
            }
            CopyWork::Import(from, to) => {
                let file = std::fs::File::open(from).map_err(|e| at(from, e))?;
                let mut input = std::io::BufReader::new(file);
                embedded::import(&mut input, to, watch)
                    .map(|r| replay(&r, copied(to)))
                    .map_err(|e| at(from, e))
            }
            CopyWork::Follow(coordinator, to, until) => block_on(async {
                let upstream = Upstream::http(&Api::new(coordinator.as_str())?.rpc_url())?;
                let until = match until {
                    Some(Until::Height(height)) => embedded::Until::Height(height),
                    Some(Until::Latest) => embedded::Until::Latest,
                    None => embedded::Until::Stopped,
                };
                let followed = embedded::follow(&upstream, to, until, watch).await?;
                Ok(replay(&followed, copied(to)))
            }),
        }
    }
}

/// Refused before anything is asked or paid.
fn fresh(out: &Path) -> Result<(), Failure> {
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty());
    if out.exists() {
        return Err(unwritten(out, "there is something already"));
    }
    if parent.is_some_and(|p| !p.is_dir()) {
        return Err(unwritten(out, "there is no such directory"));
    }
    Ok(())
}

fn unwritten(out: &Path, why: &str) -> Failure {
    Failure::usage(format!(
        "--out {}: {why}; allowed: a new file in an existing directory",
        out.display()
    ))
}

/// Enough to tell an export from a chain's file.
const FIRST_BYTES: u64 = 64;

fn at(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::chain(format!("{}: {error}", path.display()))
}

/// A state_dir holds the chain in a folder of its own; either is taken.
fn stored(directory: &Path) -> std::path::PathBuf {
    let chain = directory.join("chain");
    if chain.is_dir() {
        chain
    } else {
        directory.to_path_buf()
    }
}

fn far(done: u64, of: u64) -> String {
    match of {
        0 => format!("{done}"),
        of => format!("{done} of {of}"),
    }
}

fn replay(replayed: &embedded::Replayed, detail: Option<String>) -> ChainReplay {
    ChainReplay {
        ok: true,
        blocks: replayed.height,
        root: replayed.root.to_string(),
        detail,
    }
}

impl From<FollowError> for Failure {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Unreachable { .. } | FollowError::Strange { .. } => {
                Self::unreachable(error)
            }
            _ => Self::chain(error),
        }
    }
}
