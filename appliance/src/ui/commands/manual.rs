//! `plumbline man` and `plumbline completions`: made from the same definition that parses.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use clap_mangen::Man;

use crate::ui::args::{CompletionsArgs, ManArgs};
use crate::ui::exit::{Exit, Failure};
use crate::ui::{command, output};

/// Writes `plumbline.1`, `plumbline-key.1`, `plumbline-key-new.1` and so on.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let directory = &args.directory;
    let failed = |error: io::Error| {
        let directory = directory.display();
        Failure::usage(format!(
            "man pages: cannot write to {directory}: {error}; give a directory that you may write to"
        ))
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut root = command();
    // Propagates the full names (`plumbline-key-new`) and the version to every subcommand.
    root.build();
    pages(&root, directory).map_err(failed)?;
    Ok(Exit::Ok)
}

fn pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let page = Man::new(command.clone())
        .manual("Plumbline")
        .source(format!("plumbline {}", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    text.extend_from_slice(exit_status().as_bytes());
    std::fs::write(directory.join(page.get_filename()), text)?;
    command
        .get_subcommands()
        .try_for_each(|sub| pages(sub, directory))
}

/// The exit codes as a section of roff.
fn exit_status() -> String {
    let mut section = String::from(".SH \"EXIT STATUS\"\n");
    for exit in Exit::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(section, ".TP\n\\fB{}\\fR\n{}", exit.code(), exit.meaning());
    }
    section
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "plumbline", &mut text);
    output::line(String::from_utf8_lossy(&text).trim_end())?;
    Ok(Exit::Ok)
}
