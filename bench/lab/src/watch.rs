//! What the measured direction's shaper passes while somebody waits in it: the rate that a link really had, on a
//! machine that may not always have had time for it.
//!
//! ```text
//!  every 2 ms: RTM_GETQDISC ─► (bytes passed, bytes waiting)      a step counts if bytes wait at both of its ends
//! ```
//!
//! It looks from outside: what the parties say is not asked. Steps in which the queue ran empty are left out: what
//! passed then says what was offered. Tests: beside the code, and `bench/lab/tests/lab.rs`.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use crate::error::LabError;
use crate::lab::Lab;
use crate::plan::{ETHERNET_HEADER, Host};

/// Between two looks: short beside the shortest phase, long beside what a look costs.
const LOOK: Duration = Duration::from_millis(2);
/// Longest that the kernel may take to answer.
const ANSWER_S: i64 = 1;

// linux/rtnetlink.h, linux/pkt_sched.h, linux/gen_stats.h.
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const HEADER: usize = 16;
const TCMSG: usize = 20;
/// A question: both, and nothing more.
const ASK: u32 = 36;
const ATTRIBUTE: usize = 4;
/// Attribute types without the flag of a nested one.
const TYPE_MASK: u16 = 0x3fff;

/// What a shaper passed while its queue was not empty.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Carried {
    /// Bytes, Ethernet without FCS.
    pub bytes: u64,
    /// For how long.
    pub time: Duration,
}

impl Carried {
    /// Bit/s at the IP layer, in packets of `packet_bytes`; none if nobody ever waited.
    #[must_use]
    pub fn ip_bps(&self, packet_bytes: u16) -> Option<u64> {
        let ns = self.time.as_nanos();
        let packet = u128::from(packet_bytes);
        let bits = 8 * u128::from(self.bytes) * packet / (packet + u128::from(ETHERNET_HEADER));
        let bps = (bits * 1_000_000_000).checked_div(ns)?;
        u64::try_from(bps).ok()
    }
}

/// One look at the shaper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    bytes: u64,
    waiting: u32,
}

/// A thread that watches a lab's shaper until it is stopped.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Carried>>,
}

impl Watch {
    /// Begins to look.
    pub(crate) fn start(lab: &Lab) -> Result<Self, LabError> {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let space = lab.namespace(Host::Core);
        let thread = space.spawn(move || watch(&until));
        let thread = thread.map_err(|source| failed(lab, source))?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub(crate) fn stop(self, lab: &Lab) -> Result<Carried, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| Err(io::Error::other("the thread panicked"));
        let found = self.thread.join().unwrap_or_else(panicked);
        found.map_err(|source| failed(lab, source))
    }
}

fn failed(lab: &Lab, source: io::Error) -> LabError {
    LabError::Namespace {
        namespace: lab.namespace(Host::Core).name().to_owned(),
        what: "watching the shaper".to_owned(),
        source,
    }
}

fn watch(stop: &AtomicBool) -> io::Result<Carried> {
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_S, 0))?;
    let mut buffer = vec![0; 1 << 16];
    let mut carried = Carried::default();
    let mut before: Option<(Look, Instant)> = None;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let look = look(&kernel, &mut buffer)?;
        // Between question and answer is the moment that the figure is of.
        let now = asked + asked.elapsed() / 2;
        if let Some((then, at)) = before
            && then.waiting > 0
            && look.waiting > 0
        {
            // A shaper that was replaced counts from zero.
            carried.bytes += look.bytes.saturating_sub(then.bytes);
            carried.time += now - at;
        }
        before = Some((look, now));
        std::thread::sleep(LOOK);
    }
    Ok(carried)
}

/// Asks for all queueing disciplines of this namespace, and picks the one `tbf`.
fn look(kernel: &OwnedFd, buffer: &mut [u8]) -> io::Result<Look> {
    let mut ask = Vec::with_capacity(HEADER + TCMSG);
    ask.extend(ASK.to_ne_bytes());
    ask.extend(RTM_GETQDISC.to_ne_bytes());
    ask.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    ask.resize(HEADER + TCMSG, 0);
    send(kernel.as_raw_fd(), &ask, MsgFlags::empty())?;
    let mut found = None;
    loop {
        let length = recv(kernel.as_raw_fd(), buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body)) = message(&mut rest) {
            match kind {
                NLMSG_DONE => {
                    return found.ok_or_else(|| io::Error::other("there is no tbf here"));
                }
                NLMSG_ERROR => return Err(io::Error::other("the kernel refused RTM_GETQDISC")),
                RTM_NEWQDISC => found = found.or(shaper(body)),
                _ => {}
            }
        }
    }
}

/// Cuts one netlink message off.
fn message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
    let body = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body))
}

/// Cuts one attribute off.
fn attribute<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
    let body = rest.get(ATTRIBUTE..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body))
}

/// The counters of one queueing discipline, if it is a `tbf`.
fn shaper(body: &[u8]) -> Option<Look> {
    let mut rest = body.get(TCMSG..)?;
    let mut is_tbf = false;
    let mut bytes = None;
    let mut waiting = None;
    while let Some((kind, value)) = attribute(&mut rest) {
        match kind {
            TCA_KIND => is_tbf = value.starts_with(b"tbf\0"),
            TCA_STATS2 => {
                let mut inner = value;
                while let Some((kind, value)) = attribute(&mut inner) {
                    match kind {
                        TCA_STATS_BASIC => {
                            bytes = Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?));
                        }
                        // qlen, then backlog.
                        TCA_STATS_QUEUE => {
                            waiting = Some(u32::from_ne_bytes(value.get(4..8)?.try_into().ok()?));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    is_tbf.then_some(Look {
        bytes: bytes?,
        waiting: waiting?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend((u16::try_from(ATTRIBUTE + body.len()).unwrap()).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn qdisc(kind: &[u8]) -> Vec<u8> {
        let queue: Vec<u8> = [7u32, 10_500, 0, 0, 0]
            .iter()
            .flat_map(|n| n.to_ne_bytes())
            .collect();
        let mut stats = attr(
            TCA_STATS_BASIC,
            &[123_456u64.to_ne_bytes(), [0; 8]].concat(),
        );
        stats.extend(attr(TCA_STATS_QUEUE, &queue));
        // The kernel marks a nested attribute or does not.
        [
            vec![0; TCMSG],
            attr(TCA_KIND, kind),
            attr(TCA_STATS2 | 0x8000, &stats),
        ]
        .concat()
    }

    #[test]
    fn a_shaper_is_read_and_nothing_else_is_taken_for_one() {
        let found = Look {
            bytes: 123_456,
            waiting: 10_500,
        };
        assert_eq!(shaper(&qdisc(b"tbf\0")), Some(found));
        assert_eq!(shaper(&qdisc(b"noqueue\0")), None);
    }

    #[test]
    fn no_cut_of_an_answer_is_read_beyond_its_end() {
        let whole = qdisc(b"tbf\0");
        for end in 0..whole.len() {
            let _ = shaper(&whole[..end]);
            let mut rest = &whole[..end];
            while message(&mut rest).is_some() {}
        }
    }

    #[test]
    fn a_rate_is_that_of_the_ip_layer_and_of_nothing_there_is_none() {
        let carried = Carried {
            bytes: 1514 * 1000,
            time: Duration::from_millis(120),
        };
        assert_eq!(carried.ip_bps(1500), Some(100_000_000));
        assert_eq!(Carried::default().ip_bps(1500), None);
    }
}
