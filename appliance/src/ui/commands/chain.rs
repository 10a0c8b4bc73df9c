//! `plumbline chain …`: questions to a coordinator's chain, and the two transactions that a
//! participant makes by hand.

use crate::keyfile::Keys;
use crate::ui::Handlers;
use crate::ui::args::{ChainArgs, ChainCommand};
use crate::ui::exit::{Exit, Failure};
use crate::ui::output::{self, Show, Style};

pub(crate) fn execute(
    args: ChainArgs,
    handlers: &impl Handlers,
    style: Style,
) -> Result<Exit, Failure> {
    match args.command {
        ChainCommand::Status { ask } => {
            let result = handlers.chain_status(&ask.coordinator)?;
            done(&result, ask.output.json, style, result.exit())
        }
        ChainCommand::Participants { ask } => done(
            &handlers.chain_participants(&ask.coordinator)?,
            ask.output.json,
            style,
            Exit::Ok,
        ),
        ChainCommand::Request { id, ask } => done(
            &handlers.chain_request(&ask.coordinator, &id)?,
            ask.output.json,
            style,
            Exit::Ok,
        ),
        ChainCommand::Draw { id, ask } => {
            let result = handlers.chain_draw(&ask.coordinator, &id)?;
            done(&result, ask.output.json, style, result.exit())
        }
        ChainCommand::Balance { address, ask } => done(
            &handlers.chain_balance(&ask.coordinator, &address)?,
            ask.output.json,
            style,
            Exit::Ok,
        ),
        ChainCommand::Withdraw { key, ask } => {
            let keys = Keys::load(&key)?;
            done(
                &handlers.chain_withdraw(&ask.coordinator, keys)?,
                ask.output.json,
                style,
                Exit::Ok,
            )
        }
        ChainCommand::Faucet { key, amount, ask } => {
            let keys = Keys::load(&key)?;
            done(
                &handlers.chain_faucet(&ask.coordinator, keys, amount)?,
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
        ChainCommand::Verify { directory, output } => {
            let result = handlers.chain_verify(&directory)?;
            done(&result, output.json, style, result.exit())
        }
    }
}

fn done<R: Show>(result: &R, json: bool, style: Style, exit: Exit) -> Result<Exit, Failure> {
    output::print(result, json, style)?;
    Ok(exit)
}
