//! The ceiling: an XDP program that counts a packet and drops it. It runs in the sender's own time, and
//! nothing of what a receiver is for is done.

use anyhow::{Context, Result};

use super::{Order, Sink, Taken};
use crate::account::Account;
use crate::lab_program::DropOnly;
use crate::pair::{INTERFACE, PORT, Pair};

/// The program, attached.
pub(super) struct Ceiling(DropOnly);

impl Ceiling {
    /// Attaches it.
    ///
    /// # Errors
    /// The kernel refuses it (needs `CAP_BPF` and `CAP_NET_ADMIN`).
    pub(super) fn start(pair: &Pair) -> Result<Self> {
        pair.within(false, || DropOnly::attach(INTERFACE, PORT))?
            .context("attaching the program that only drops")
            .map(Self)
    }
}

impl Sink for Ceiling {
    fn taken(&self) -> Result<Taken> {
        Ok(Taken {
            packets: self.0.count().context("reading its counter")?,
            last_ns: 0,
        })
    }

    fn finish(self: Box<Self>, _: &Order<'_>, account: &mut Account) -> Result<()> {
        account.taken = self.taken()?.packets;
        Ok(())
    }
}
