//! `plumbline key`: the only command that makes secrets, and it never shows them.

use std::path::Path;

use crate::keyfile::Keys;
use crate::ui::args::{KeyArgs, KeyCommand};
use crate::ui::exit::{Exit, Failure};
use crate::ui::output::{self, Style};
use crate::ui::results::KeyResult;

pub(crate) fn execute(args: &KeyArgs, style: Style) -> Result<Exit, Failure> {
    let (keys, file, json) = match &args.command {
        KeyCommand::New { out, output } => (Keys::create(out)?, out, output.json),
        KeyCommand::Show { file, output } => (Keys::load(file)?, file, output.json),
    };
    output::print(&public(&keys, file), json, style)?;
    Ok(Exit::Ok)
}

fn public(keys: &Keys, file: &Path) -> KeyResult {
    KeyResult {
        network_key: keys.network_key(),
        address: keys.address(),
        file: file.display().to_string(),
    }
}
