//! `plumbline measure`: arguments and key are checked before anything is paid.

use crate::keyfile::Keys;
use crate::ui::args::MeasureArgs;
use crate::ui::exit::{Exit, Failure};
use crate::ui::output::{self, Style};
use crate::ui::{Handlers, progress};

pub(crate) fn execute(
    args: &MeasureArgs,
    handlers: &impl Handlers,
    style: Style,
) -> Result<Exit, Failure> {
    args.check()?;
    let keys = Keys::load(&args.key)?;
    let progress = progress::for_terminal();
    let measured = handlers.measure(args, keys, progress.as_ref());
    // Before any other word goes to the terminal, be it a result or a failure.
    progress.done();
    let result = measured?;
    output::print(&result, args.output.json, style)?;
    Ok(result.exit())
}
