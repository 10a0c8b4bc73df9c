//! How whoever gives a command sees the chain.

use std::path::PathBuf;

use clap::Args;

use crate::chain::{DeploymentFile, Finality};
use crate::config::CoordinatorUrl;
use crate::role::view::View;
use crate::ui::exit::Failure;

/// How the chain is seen, and what it must be.
#[derive(Clone, Debug, Args)]
pub struct ViewArgs {
    /// The chain and the contracts that are signed for, a file of `plumbline chain pin` or `chain deploy` from
    /// somebody you trust: if anything else is found, nothing is signed
    #[arg(long, value_name = "FILE")]
    pub deployment: Option<PathBuf>,
    /// Own node of that chain, asked instead of the coordinator; may be repeated
    #[arg(long, value_name = "URL", requires = "deployment")]
    pub rpc: Vec<String>,
    /// When a block of its counts as settled: finalized, or how many blocks must lie on top
    #[arg(long, value_name = "WHEN", default_value = "finalized", value_parser = super::chain::finality)]
    pub finality: Finality,
    /// Execute the coordinator's embedded chain again in this directory, and read that instead of the coordinator
    #[arg(
        long,
        value_name = "DIR",
        requires = "deployment",
        conflicts_with = "rpc"
    )]
    pub follow: Option<PathBuf>,
    /// Sign for whatever chain and contracts the coordinator names; without --deployment only one on loopback is
    /// believed so
    #[arg(long, conflicts_with = "deployment")]
    pub trust_coordinator: bool,
}

impl ViewArgs {
    /// What is asked for. Who `signs` needs a pin, or says that it does without.
    ///
    /// # Errors
    /// [`Failure::usage`] if there is no pin, or the file is none.
    pub fn view(&self, coordinator: &CoordinatorUrl, signs: bool) -> Result<View, Failure> {
        let pin = self.deployment.as_deref().map(DeploymentFile::read_pin);
        let pin = pin
            .transpose()
            .map_err(|why| Failure::usage(format!("--deployment {why}")))?;
        if pin.is_none() && signs && !self.trust_coordinator && !coordinator.is_loopback() {
            return Err(Failure::usage(format!(
                "{coordinator} alone would say which chain and which contracts are signed for; nothing was signed; \
                 allowed: --deployment FILE, written by `plumbline chain pin`, or --trust-coordinator"
            )));
        }
        Ok(View {
            pin,
            rpc: self.rpc.clone(),
            finality: self.finality,
            follow: self.follow.clone(),
        })
    }
}
