//! `plumbline verify` and `plumbline export`: offline, and need the file and nothing else; `verify` compares it with a
//! chain if it is given one.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use plumbline_trust::evidence::Evidence;

use crate::chain::DeploymentFile;
use crate::ui::args::{ExportArgs, VerifyArgs};
use crate::ui::exit::{Exit, Failure};
use crate::ui::output::{self, Style};
use crate::ui::{Against, Handlers};

/// Largest bundle read: a hundred times the largest that a coordinator makes (64 challengers at
/// 10 Gbit/s for 10 s are about 1 MB of bitmaps), and no way to fill memory.
const BUNDLE_MAX_BYTES: u64 = 128 << 20;

pub(crate) fn execute(
    args: &VerifyArgs,
    handlers: &impl Handlers,
    style: Style,
) -> Result<Exit, Failure> {
    let bytes = read(&args.bundle)?;
    let against = against(args)?;
    if Evidence::begins(&bytes) {
        if !against.is_nothing() {
            return Err(Failure::usage(
                "--deployment, --rpc and --expect-prover are for bundles; evidence is compared with the chain by `plumbline dispute show` and by jurors",
            ));
        }
        let result = handlers.examine(&bytes)?;
        output::print(&result, args.output.json, style)?;
        return Ok(result.exit());
    }
    let result = handlers.verify(&bytes, &against)?;
    output::print(&result, args.output.json, style)?;
    Ok(result.exit())
}

fn against(args: &VerifyArgs) -> Result<Against, Failure> {
    let deployment = args.deployment.as_deref().map(DeploymentFile::read);
    Ok(Against {
        deployment: deployment
            .transpose()
            .map_err(|why| Failure::usage(format!("--deployment {why}")))?,
        rpc: args.rpc.clone(),
        prover: args.expect_prover,
    })
}

pub(crate) fn export(args: &ExportArgs, handlers: &impl Handlers) -> Result<Exit, Failure> {
    let document = handlers.export(&read(&args.bundle)?, args.format)?;
    output::document(&document)?;
    Ok(Exit::Ok)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| {
        let path = path.display();
        Failure::usage(format!(
            "bundle {path}: cannot be read: {error}; give a file that `plumbline measure --bundle` or `plumbline dispute make` saved"
        ))
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|f| f.take(BUNDLE_MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > BUNDLE_MAX_BYTES {
        let path = path.display();
        return Err(Failure::usage(format!(
            "bundle {path}: longer than {BUNDLE_MAX_BYTES} bytes, which no bundle is"
        )));
    }
    Ok(bytes)
}
