//! `plumbline dispute …` and `plumbline stake …`: what a participant does about others, and for itself.

use std::path::Path;

use crate::keyfile::Keys;
use crate::ui::args::{DisputeArgs, DisputeCommand, StakeArgs, StakeCommand};
use crate::ui::exit::{Exit, Failure};
use crate::ui::output::{self, Show, Style};
use crate::ui::{Handlers, StakeWork, for_terminal};

pub(crate) fn execute(
    args: DisputeArgs,
    handlers: &impl Handlers,
    style: Style,
) -> Result<Exit, Failure> {
    match args.command {
        DisputeCommand::Make {
            request,
            accused,
            bundle,
            out,
            ask,
        } => {
            fresh(&out)?;
            let bundle = bundle.map(|path| super::verify::read(&path)).transpose()?;
            let result = handlers.dispute_make(&ask, &request, &accused, bundle, &out)?;
            done(&result, ask.output.json, style, result.exit())
        }
        DisputeCommand::Submit {
            file,
            source,
            key,
            ask,
        } => {
            let keys = Keys::load(&key)?;
            let bytes = super::verify::read(&file)?;
            let progress = for_terminal();
            let told = |words: &str| progress.note(words);
            let result = handlers.dispute_submit(
                &ask,
                keys,
                &bytes,
                source.as_deref().unwrap_or_default(),
                &told,
            );
            progress.done();
            done(&result?, ask.output.json, style, Exit::Ok)
        }
        DisputeCommand::Show { id, ask } => {
            let result = handlers.dispute_show(&ask, &id)?;
            done(&result, ask.output.json, style, Exit::Ok)
        }
        DisputeCommand::Judge { id, key, ask } => {
            let result = handlers.dispute_judge(&ask, Keys::load(&key)?, &id)?;
            done(&result, ask.output.json, style, Exit::Ok)
        }
        DisputeCommand::Advance { id, key, ask } => {
            let result = handlers.dispute_advance(&ask, Keys::load(&key)?, &id)?;
            done(&result, ask.output.json, style, Exit::Ok)
        }
    }
}

pub(crate) fn stake(
    args: StakeArgs,
    handlers: &impl Handlers,
    style: Style,
) -> Result<Exit, Failure> {
    let (by, work) = match args.command {
        StakeCommand::Add { amount, by } => (by, StakeWork::Add(amount)),
        StakeCommand::Leave { by } => (by, StakeWork::Leave),
        StakeCommand::Reclaim { by } => (by, StakeWork::Reclaim),
    };
    let result = handlers.stake(&by.ask, Keys::load(&by.key)?, work)?;
    done(&result, by.ask.output.json, style, Exit::Ok)
}

/// Refused before anything is asked.
fn fresh(out: &Path) -> Result<(), Failure> {
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty());
    if out.exists() || parent.is_some_and(|p| !p.is_dir()) {
        return Err(Failure::usage(format!(
            "--out {}: allowed: a new file in an existing directory",
            out.display()
        )));
    }
    Ok(())
}

fn done<R: Show>(result: &R, json: bool, style: Style, exit: Exit) -> Result<Exit, Failure> {
    output::print(result, json, style)?;
    Ok(exit)
}
