//! The `plumbline` binary: reads the command line, does it, leaves with the documented exit code.

use std::process::ExitCode;

use plumbline::handlers::Appliance;
use plumbline::ui;

fn main() -> ExitCode {
    ui::execute(ui::parse(), &Appliance).into()
}
