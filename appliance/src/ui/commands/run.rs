//! `plumbline run`: everything that can be wrong is found before anything starts.

use crate::config::Config;
use crate::keyfile::Keys;
use crate::ui::Handlers;
use crate::ui::args::RunArgs;
use crate::ui::exit::{Exit, Failure};
use crate::ui::output;

pub(crate) fn execute(args: &RunArgs, handlers: &impl Handlers) -> Result<Exit, Failure> {
    let config = Config::load(&args.config)?;
    let keys = Keys::load(&config.key)?;
    if args.check {
        output::line("ok")?;
    } else {
        handlers.run(config, keys)?;
    }
    Ok(Exit::Ok)
}
