//! Packets made inside the kernel: no socket, no socket buffer, no copy.
//!
//! ```text
//!  template ─► BPF_PROG_TEST_RUN, live frames ─► program `source` ─► redirect ─► veth ─► peer's XDP
//!                 `batch` frames at a time         sequence, tag        │           └► full: xdp_xmit_errors
//!                                                  of TAGS, MACs        └► no XDP there: nothing is sent
//! ```
//!
//! Claim: sequence numbers leave once, in order, each with its tag; [`Sent`] adds up: every frame that was
//! made is accepted by the driver, or counted by it as dropped. The rest of the payload is the template's.
//! Not promised: a rate (it is as fast as the core; the receiver's work on veth is part of it), or frames
//! beyond one page: the kernel refuses jumbo frames here. The peer needs an XDP program, or its driver
//! has no ring to put frames into; the sending interface needs none. Tests: `live/tests.rs`, as root.

mod sys;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::net::if_::if_nametoindex;
use plumbline::clock::realtime_ns;
use plumbline_lab::tool;

use crate::lab_program;

/// Where a UDP payload begins in an IPv4 frame, and what of it the program writes.
const PAYLOAD_AT: usize = 42;
const WRITTEN_TO: usize = PAYLOAD_AT + 64;
const PROGRESS: &str = "reading PROGRESS";

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Frames with a sequence number of their own that were handed to the driver.
    pub(crate) frames: u64,
    /// Of these, frames that the driver refused because its peer's ring was full: the same as its
    /// `tx_queue_*_xdp_xmit_errors`.
    pub(crate) dropped: u64,
    /// `CLOCK_REALTIME` ns before the first frame was made; the kernel's preparation is part of it.
    pub(crate) first_ns: u64,
    /// And after the last had been handed over. Counters are read outside these two.
    pub(crate) last_ns: u64,
}

/// A source of frames by `BPF_PROG_TEST_RUN`.
pub(crate) struct LiveFrames {
    ebpf: Ebpf,
    progress: Array<MapData, [u64; 2]>,
    interface: String,
    template: Vec<u8>,
}

impl LiveFrames {
    /// Prepares to send copies of `template`, a whole Ethernet frame of IPv4 and UDP without a UDP
    /// checksum, out of `interface` of the calling thread's network namespace: packet `i` with sequence
    /// number `i` and the tag `tags[i]`. To be run in that namespace.
    ///
    /// # Errors
    /// A template of another shape, no tags, no such interface, or a kernel that does not load the program.
    pub(crate) fn new(interface: &str, template: &[u8], tags: &[[u8; 8]]) -> Result<Self> {
        check(template)?;
        ensure!(!tags.is_empty(), "live frames: no tags, so no packets");
        let count = u32::try_from(tags.len()).context("live frames: more than 2^32 - 1 tags")?;
        let index = if_nametoindex(interface).with_context(|| format!("interface {interface}"))?;
        let mut macs = [0u32; 3];
        for (word, bytes) in macs.iter_mut().zip(template.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let mut ebpf = lab_program::load(
            EbpfLoader::new()
                .override_global("INTERFACE", &index, true)
                .override_global("MACS", &macs, true)
                .map_max_entries("TAGS", count),
        )?;
        lab_program::program(&mut ebpf, "source")?;
        let Map::Array(array) = lab_program::map(&mut ebpf, "TAGS")? else {
            bail!("TAGS of ebpf/lab.bpf.o is no array; rebuild it with `cargo xtask ebpf`");
        };
        sys::fill(array.fd(), tags).context("filling TAGS")?;
        let progress = Array::try_from(lab_program::map(&mut ebpf, "PROGRESS")?)?;
        Ok(Self {
            ebpf,
            progress,
            interface: interface.to_owned(),
            template: template.to_vec(),
        })
    }

    /// Makes `packets` frames, `batch` at a time (1 to 256; with each batch the peer gets to work), and
    /// goes on where the run before ended. Blocks. A signal ends it early, which `frames` shows.
    ///
    /// # Errors
    /// The kernel refuses the run, the frames went nowhere (no XDP program on the peer), or more were asked
    /// for than there are tags: those without were not sent.
    pub(crate) fn run(&mut self, packets: u64, batch: u32) -> Result<Sent> {
        let before = (self.made()?, self.driver()?);
        let first_ns = realtime_ns();
        let mut rest = packets;
        while rest > 0 {
            let repeat = u32::try_from(rest).unwrap_or(u32::MAX);
            if !self.once(repeat, batch)? {
                break;
            }
            rest -= u64::from(repeat);
        }
        let last_ns = realtime_ns();
        let after = (self.made()?, self.driver()?);
        let [frames, beyond] = [0, 1].map(|i| after.0[i] - before.0[i]);
        let [taken, dropped] = [0, 1].map(|i| after.1[i] - before.1[i]);
        ensure!(
            taken + dropped == frames,
            "live frames: {frames} were made for {}, its driver knows of {taken} taken and {dropped} dropped: \
             its peer must be up and have an XDP program, and nothing else may redirect to it",
            self.interface
        );
        ensure!(
            beyond == 0,
            "live frames: {beyond} more were asked for than there are tags; these were not sent"
        );
        Ok(Sent {
            frames,
            dropped,
            first_ns,
            last_ns,
        })
    }

    /// One test run; false if a signal ended it.
    fn once(&self, repeat: u32, batch: u32) -> Result<bool> {
        ensure!(
            (1..=256).contains(&batch),
            "live frames: a batch of {batch}; 1 to 256 are allowed"
        );
        let options = TestRunOptions {
            data_in: Some(&self.template),
            repeat,
            attrs: TestRunAttrs::new().xdp_live_frames(batch),
            ..TestRunOptions::new()
        };
        let source: &Xdp = self
            .ebpf
            .program("source")
            .context("no program source")?
            .try_into()?;
        match source.test_run(options) {
            Ok(_) => Ok(true),
            Err(ProgramError::SyscallError(e))
                if e.io_error.kind() == std::io::ErrorKind::Interrupted =>
            {
                Ok(false)
            }
            Err(e) => Err(e).with_context(|| {
                format!(
                    "BPF_PROG_TEST_RUN with live frames of {} bytes (needs Linux 5.18, CAP_BPF and CAP_NET_ADMIN; at most a page less 700 bytes)",
                    self.template.len()
                )
            }),
        }
    }

    /// Frames with a sequence number, and without, since this was made.
    fn made(&self) -> Result<[u64; 2]> {
        self.progress.get(&0, 0).context(PROGRESS)
    }

    /// Redirected frames that the driver took, and did not take, over all queues.
    fn driver(&self) -> Result<[u64; 2]> {
        let text = tool::run("ethtool", &["-S", &self.interface])?;
        counters(&text).with_context(|| {
            format!(
                "{}: its driver does not count redirected frames (veth does)",
                self.interface
            )
        })
    }
}

/// Sums of `tx_queue_*_xdp_xmit` and `tx_queue_*_xdp_xmit_errors`; none if there are none.
fn counters(text: &str) -> Option<[u64; 2]> {
    let sum = |end: &str| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("tx_queue_")?.split_once(": "))
            .filter(|(name, _)| name.trim_start_matches(|c: char| c.is_ascii_digit()) == end)
            .map(|(_, number)| number.trim().parse::<u64>().ok())
            .try_fold(None, |sum, n| Some(Some(sum.unwrap_or(0) + n?)))
            .flatten()
    };
    Some([sum("_xdp_xmit")?, sum("_xdp_xmit_errors")?])
}

/// Is this the frame whose payload the program writes to where it writes it?
fn check(template: &[u8]) -> Result<()> {
    let length = template.len();
    if length < WRITTEN_TO {
        bail!("live frames: a template of {length} bytes; at least {WRITTEN_TO} are needed");
    }
    ensure!(
        template[12..15] == [0x08, 0x00, 0x45] && template[23] == 17,
        "live frames: the template is not UDP over IPv4 without options"
    );
    ensure!(
        template[40..42] == [0, 0],
        "live frames: the template has a UDP checksum, which its packets would not keep to"
    );
    Ok(())
}
