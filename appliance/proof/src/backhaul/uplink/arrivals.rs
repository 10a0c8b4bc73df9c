//! What a challenger counts while the prover's packets arrive. One thread owns it; after
//! [`Counter::new`] nothing allocates until [`Counter::finish`].
//!
//! ```text
//!  datagram ─► malformed · other_session · out_of_range · bad_tag · duplicate · bad_payload
//!          └─► genuine ─► early · late · over_cap · COUNTED in its sub-interval
//! ```
//! Claim: every datagram has one fate. A genuine packet is byte for byte the one that session key and released
//! seed give, so a path cannot have carried less since T0 than it delivers. Tests: `tests` of this folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plumbline_trust::session::SessionKey;
use plumbline_wire::header::{HEADER_LEN, Header, Kind};

use super::super::keystream::Train;
use super::super::messages::{Arrivals, Notice, session_of};
use super::{Window, counted_most, packets_each, train};

/// Datagrams that were not counted, each with its reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Not as long as a data packet, or no header of ours.
    pub malformed: u64,
    /// From an address that is not the prover's.
    pub other_source: u64,
    /// Of another session.
    pub other_session: u64,
    /// Another phase or index, or a sequence number past what is sent.
    pub out_of_range: u64,
    /// The tag does not verify.
    pub bad_tag: u64,
    /// Already here.
    pub duplicate: u64,
    /// Tagged by the prover, but not the bytes that were agreed.
    pub bad_payload: u64,
    /// Before the window.
    pub early: u64,
    /// After it.
    pub late: u64,
    /// Beyond what the share r comes to in the window.
    pub over_cap: u64,
    /// The kernel did not say when it came.
    pub unstamped: u64,
}

/// Counts one phase's arrivals at one challenger.
pub struct Counter {
    session: [u8; 16],
    index: u16,
    key: SessionKey,
    train: Train,
    window: Window,
    most: u64,
    seen: Vec<u64>,
    numbers: u64,
    expected: Vec<u8>,
    histogram: Vec<u32>,
    counted: u64,
    refused: Refused,
    arrived: Arc<AtomicBool>,
}

impl Counter {
    /// A counter for challenger `index`, whose packets are made from `key` and `seed`.
    pub fn new(
        notice: &Notice,
        index: u16,
        (key, seed): (SessionKey, &[u8; 32]),
        window: Window,
    ) -> Self {
        let numbers = packets_each(&notice.terms);
        let words = usize::try_from(numbers.div_ceil(64)).unwrap_or(usize::MAX);
        let slots = usize::try_from(window.slots).unwrap_or(usize::MAX);
        Self {
            session: session_of(&notice.challenge),
            index,
            train: train(notice, index, key.clone(), seed),
            key,
            window,
            most: counted_most(&notice.terms),
            seen: vec![0; words],
            numbers,
            expected: vec![0; notice.terms.size().payload()],
            histogram: vec![0; slots],
            counted: 0,
            refused: Refused::default(),
            arrived: Arc::default(),
        }
    }

    /// Set once a genuine packet is here: the prover has the seed.
    pub fn arrived(&self) -> Arc<AtomicBool> {
        self.arrived.clone()
    }

    /// Takes a datagram that came from the prover's address; `at_ns` is when the kernel received it.
    pub fn take(&mut self, bytes: &[u8], at_ns: u64) {
        match self.judge(bytes, at_ns) {
            Ok(slot) => {
                self.counted += 1;
                if let Some(count) = self.histogram.get_mut(slot) {
                    *count += 1;
                }
            }
            Err(reason) => *reason(&mut self.refused) += 1,
        }
    }

    /// A datagram that came from elsewhere.
    pub fn stranger(&mut self) {
        self.refused.other_source += 1;
    }

    /// A datagram without a kernel stamp.
    pub fn unstamped(&mut self) {
        self.refused.unstamped += 1;
    }

    fn judge(&mut self, bytes: &[u8], at_ns: u64) -> Result<usize, fn(&mut Refused) -> &mut u64> {
        let head = bytes
            .first_chunk::<HEADER_LEN>()
            .filter(|_| bytes.len() == self.expected.len())
            .ok_or((|r| &mut r.malformed) as fn(&mut Refused) -> &mut u64)?;
        let header = Header::from_bytes(head)
            .ok()
            .filter(|h| h.kind == Kind::Data)
            .ok_or((|r| &mut r.malformed) as fn(&mut Refused) -> &mut u64)?;
        if header.session != self.session {
            return Err(|r| &mut r.other_session);
        }
        let number = header.sequence;
        if header.phase != 0 || header.index != self.index || number >= self.numbers {
            return Err(|r| &mut r.out_of_range);
        }
        if !self.key.check(head) {
            return Err(|r| &mut r.bad_tag);
        }
        let bit = 1 << (number % 64);
        let word = usize::try_from(number / 64)
            .ok()
            .and_then(|at| self.seen.get_mut(at))
            .ok_or((|r| &mut r.out_of_range) as fn(&mut Refused) -> &mut u64)?;
        if *word & bit != 0 {
            return Err(|r| &mut r.duplicate);
        }
        self.train.write(number, &mut self.expected);
        if bytes != self.expected {
            return Err(|r| &mut r.bad_payload);
        }
        *word |= bit;
        self.arrived.store(true, Ordering::Relaxed);
        if at_ns < self.window.from_ns {
            return Err(|r| &mut r.early);
        }
        if at_ns >= self.window.until_ns() {
            return Err(|r| &mut r.late);
        }
        if self.counted >= self.most {
            return Err(|r| &mut r.over_cap);
        }
        let slot = (at_ns - self.window.from_ns) / self.window.slot_ns;
        Ok(usize::try_from(slot).unwrap_or(usize::MAX))
    }

    /// Packets counted so far.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Datagrams not counted so far.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// What goes into the report; `dropped` datagrams found the socket's buffer full.
    pub fn finish(self, dropped: u64) -> Arrivals {
        let r = self.refused;
        // In the order of their names.
        let fates = [
            ("bad_payload", r.bad_payload),
            ("bad_tag", r.bad_tag),
            ("duplicate", r.duplicate),
            ("early", r.early),
            ("late", r.late),
            ("malformed", r.malformed),
            ("other_session", r.other_session),
            ("other_source", r.other_source),
            ("out_of_range", r.out_of_range),
            ("over_cap", r.over_cap),
            ("socket_dropped", dropped),
            ("unstamped", r.unstamped),
        ];
        Arrivals {
            histogram: self.histogram,
            fates: fates.map(|(name, n)| (name.to_owned(), n)).into(),
        }
    }
}
