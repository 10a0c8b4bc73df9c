//! `plumbline chain …`: questions to a coordinator's chain, and the two transactions that a
//! participant makes by hand.

use crate::keyfile::Keys;
use crate::ui::args::{ChainArgs, ChainCommand, OutputArgs};
use crate::ui::exit::{Exit, Failure};
use crate::ui::output::{self, Show, Style};
use crate::ui::{CopyWork, Handlers, for_terminal};

pub(crate) fn execute(
    args: ChainArgs,
    handlers: &impl Handlers,
    style: Style,
) -> Result<Exit, Failure> {
    match args.command {
        ChainCommand::Status { ask } => {
            let result = handlers.chain_status(&ask)?;
            done(&result, ask.output.json, style, result.exit())
        }
        ChainCommand::Participants { ask } => done(
            &handlers.chain_participants(&ask)?,
            ask.output.json,
            style,
            Exit::Ok,
        ),
        ChainCommand::Request { id, ask } => done(
            &handlers.chain_request(&ask, &id)?,
            ask.output.json,
            style,
            Exit::Ok,
        ),
        ChainCommand::Draw { id, ask } => {
            let result = handlers.chain_draw(&ask, &id)?;
            done(&result, ask.output.json, style, result.exit())
        }
        ChainCommand::Balance { address, ask } => done(
            &handlers.chain_balance(&ask, &address)?,
            ask.output.json,
            style,
            Exit::Ok,
        ),
        ChainCommand::Withdraw { key, ask } => {
            let keys = Keys::load(&key)?;
            done(
                &handlers.chain_withdraw(&ask, keys)?,
                ask.output.json,
                style,
                Exit::Ok,
            )
        }
        ChainCommand::Faucet { key, amount, ask } => {
            let keys = Keys::load(&key)?;
            done(
                &handlers.chain_faucet(&ask, keys, amount)?,
                ask.output.json,
                style,
                Exit::Ok,
            )
        }
        ChainCommand::Deploy(args) => {
            let keys = Keys::load(&args.key)?;
            let json = args.output.json;
            let result = handlers.chain_deploy(&args, keys)?;
            done(&result, json, style, Exit::Ok)
        }
        ChainCommand::Pin(args) => {
            let result = handlers.chain_pin(&args)?;
            done(&result, args.output.json, style, Exit::Ok)
        }
        ChainCommand::Verify { directory, output } => {
            let result = handlers.chain_verify(&directory)?;
            done(&result, output.json, style, result.exit())
        }
        ChainCommand::Backup {
            directory,
            out,
            output,
        } => copy(handlers, &CopyWork::Backup(&directory, &out), output, style),
        ChainCommand::Restore {
            input,
            directory,
            output,
        } => copy(
            handlers,
            &CopyWork::Restore(&input, &directory),
            output,
            style,
        ),
        ChainCommand::Export {
            directory,
            out,
            output,
        } => copy(handlers, &CopyWork::Export(&directory, &out), output, style),
        ChainCommand::Import {
            input,
            directory,
            output,
        } => copy(
            handlers,
            &CopyWork::Import(&input, &directory),
            output,
            style,
        ),
        ChainCommand::Follow {
            coordinator,
            directory,
            until,
            output,
        } => {
            let work = CopyWork::Follow(&coordinator, &directory, until);
            copy(handlers, &work, output, style)
        }
    }
}

fn copy(
    handlers: &impl Handlers,
    work: &CopyWork<'_>,
    output: OutputArgs,
    style: Style,
) -> Result<Exit, Failure> {
    let progress = for_terminal();
    let result = handlers.chain_copy(work, progress.as_ref());
    progress.done();
    let result = result?;
    done(&result, output.json, style, result.exit())
}

fn done<R: Show>(result: &R, json: bool, style: Style, exit: Exit) -> Result<Exit, Failure> {
    output::print(result, json, style)?;
    Ok(exit)
}
