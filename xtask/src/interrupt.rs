//! Ctrl-C and SIGTERM: take down what this process made, then end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use plumbline_lab::Lab;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit status of a process that a signal ended, as shells write it.
const INTERRUPTED: i32 = 130;

/// Set once a signal has come and the handler is at work.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Returns if no signal has come; otherwise leaves the end of the process to the handler. What the
/// interrupted work says of its failure is then no news.
pub(crate) fn leave_to_handler() {
    while IS_INTERRUPTED.load(Ordering::Acquire) {
        std::thread::park();
    }
}

/// From now on, a signal removes the labs of this process (and what runs in them), then `clean_up`
/// runs, then the process ends with status 130.
///
/// # Errors
/// The handler cannot be installed.
pub(crate) fn clean_up_on_signal(clean_up: impl FnOnce() + Send + 'static) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            IS_INTERRUPTED.store(true, Ordering::Release);
            eprintln!("\ninterrupted: taking the lab down");
            if let Err(error) = Lab::down_own() {
                eprintln!("error: {error}; `cargo xtask lab down` removes what is left");
            }
            clean_up();
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(())
}

/// A receiver that hears of the first signal.
///
/// # Errors
/// The handler cannot be installed.
pub(crate) fn await_signal() -> Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody waiting any more is as good.
            let _ = sender.send(());
        }
    });
    Ok(receiver)
}
