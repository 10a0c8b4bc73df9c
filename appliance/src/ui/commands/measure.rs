//! `plumbline measure`: arguments and key are checked before anything is paid.

use std::io::{self, BufRead, Write};

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
    if args.sustained && !args.yes {
        let agreed = agreed(&args.cost(), &mut io::stdin().lock(), &mut io::stderr());
        if !agreed.map_err(|e| Failure::usage(format!("no answer: {e}")))? {
            return Err(Failure::usage(
                "nothing was asked for or paid: answer y, or say --yes",
            ));
        }
    }
    let progress = progress::for_terminal();
    let measured = handlers.measure(args, keys, progress.as_ref());
    // Before any other word goes to the terminal, be it a result or a failure.
    progress.done();
    let result = measured?;
    output::print(&result, args.output.json, style)?;
    Ok(result.exit())
}

/// Whether whoever reads `question` answers it with yes; no answer is none.
fn agreed(question: &str, from: &mut impl BufRead, to: &mut impl Write) -> io::Result<bool> {
    write!(to, "{question}. Go on? [y/N] ")?;
    to.flush()?;
    let mut answer = String::new();
    from.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for (answer, yes) in [
            ("y\n", true),
            ("yes\r\n", true),
            ("n\n", false),
            ("\n", false),
            ("", false),
            ("yellow\n", false),
        ] {
            let mut shown = Vec::new();
            let found = agreed("a phase of 6s", &mut answer.as_bytes(), &mut shown).unwrap();
            assert_eq!(found, yes, "{answer:?}");
            assert_eq!(shown, b"a phase of 6s. Go on? [y/N] ");
        }
    }
}
