//! The peer that everybody knows: real iperf3 processes, at both ends of the pair.
//!
//! UDP is counted: what its server took, what the server's socket and the veth dropped, and what came too
//! late for it: iperf3's server stops reading when its client says over TCP that it is done, and what its
//! socket still holds then is thrown away with the socket. That remainder cannot be more than the socket
//! holds, and is called by its name only up to there. TCP is shown only: over a veth its 64 KiB
//! super-packets never become packets.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::account::Account;
use crate::cpu::{Snapshot, Work};
use crate::pair::{Pair, SINK, SINK_CORE, SOURCE_CORE};

/// Payload of its datagrams, bytes: an MTU of 1500 over IPv4, as the product's.
pub(crate) const PAYLOAD: usize = 1472;
/// Smallest that the kernel charges a socket for such a packet, bytes: its data (linux/skbuff.h, truesize).
const TRUESIZE: u64 = 1536;
/// Longest that the server may take to listen, and to answer after its client has ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// A moment between two looks.
const GLANCE: Duration = Duration::from_millis(2);

/// What a run of iperf3 gave.
#[derive(Debug)]
pub(crate) struct Run {
    /// UDP packets; empty for TCP, which has none to count.
    pub(crate) account: Account,
    /// Bits that its server took, without headers for TCP, at the IP layer for UDP.
    pub(crate) bits: f64,
    /// How long, seconds.
    pub(crate) seconds: f64,
    /// What it cost.
    pub(crate) work: Work,
}

/// A server that is killed if the run fails.
struct Server(Option<Child>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs it as fast as it can, for `seconds` (whole ones: iperf3 knows no others).
///
/// # Errors
/// It is not installed, or says that it failed.
pub(crate) fn run(pair: &Pair, udp: bool, seconds: f64) -> Result<Run> {
    let sink = ["-s", "-1", "-J"];
    let core = |core: usize| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        core.min(cores - 1).to_string()
    };
    let mut server = Server(Some(spawn(pair.sink.name(), &sink, &core(SINK_CORE))?));
    await_listener(pair)?;
    let (time, address) = (format!("{}", seconds.ceil()), SINK.to_string());
    let length = PAYLOAD.to_string();
    let mut arguments = vec!["-c", &address, "-J", "-t", &time];
    if udp {
        arguments.extend(["-u", "-b", "0", "-l", &length]);
    }
    let before = Snapshot::take()?;
    let client = spawn(pair.source.name(), &arguments, &core(SOURCE_CORE))?;
    let client = answer(client, "client")?;
    let work = Snapshot::take()?.since(&before);
    let child = server.0.take().context("the server was taken twice")?;
    let server = answer(child, "server")?;
    if !udp {
        return tcp(&server, work);
    }
    let counters = Kernel::read(pair)?;
    udp_run(&client, &server, &counters, work)
}

fn spawn(space: &str, arguments: &[&str], core: &str) -> Result<Child> {
    Command::new("ip")
        .args(["netns", "exec", space, "iperf3", "-A", core])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip netns exec … iperf3 (Debian/Ubuntu: apt-get install iperf3)")
}

fn answer(child: Child, who: &str) -> Result<Value> {
    let output = child.wait_with_output().context("waiting for iperf3")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let value: Value = serde_json::from_str(&text)
        .with_context(|| format!("iperf3's {who} gave no JSON: {}", errors.trim()))?;
    if let Some(error) = value["error"].as_str() {
        bail!("iperf3's {who}: {error}");
    }
    Ok(value)
}

/// Returns when the server listens on its TCP port.
fn await_listener(pair: &Pair) -> Result<()> {
    /// iperf3's port, 5201, as /proc/net/tcp writes it, and the state LISTEN.
    const LISTENS: (&str, &str) = (":1451", "0A");
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let tables = pair.within(false, || {
            ["tcp", "tcp6"].map(|file| {
                std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default()
            })
        })?;
        let listens = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let local = words.nth(1).unwrap_or("");
            local.ends_with(LISTENS.0) && words.nth(1) == Some(LISTENS.1)
        };
        if tables.iter().any(|table| table.lines().any(listens)) {
            return Ok(());
        }
        if std::time::Instant::now() > until {
            bail!(
                "iperf3's server does not listen after {} s",
                PATIENCE.as_secs()
            );
        }
        std::thread::park_timeout(GLANCE);
    }
}

/// What the kernel counted, at both ends.
#[derive(Clone, Copy, Debug, Default)]
struct Kernel {
    /// UDP datagrams that found a socket's buffer full.
    buffer_full: u64,
    /// Frames that the veth did not hand over.
    veth: u64,
    /// Most that a socket's receive buffer is charged with, bytes.
    buffer: u64,
}

impl Kernel {
    fn read(pair: &Pair) -> Result<Self> {
        let text = pair.within(false, || {
            std::fs::read_to_string("/proc/thread-self/net/snmp")
        })??;
        let buffer_full =
            snmp(&text, "Udp", "RcvbufErrors").context("/proc/net/snmp has no Udp RcvbufErrors")?;
        let veth = pair.stats64(true)?["tx"]["dropped"]
            .as_u64()
            .context("`ip -s link show` gives no tx.dropped")?;
        let most = std::fs::read_to_string("/proc/sys/net/core/rmem_default")?;
        let buffer = most.trim().parse().context("net.core.rmem_default")?;
        Ok(Self {
            buffer_full,
            veth,
            buffer,
        })
    }
}

/// A counter of `/proc/net/snmp`.
fn snmp(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|n| n == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

fn number(value: &Value, path: &str) -> Result<f64> {
    value
        .pointer(path)
        .and_then(Value::as_f64)
        .with_context(|| format!("iperf3's answer has no {path}"))
}

fn count(value: &Value, path: &str) -> Result<u64> {
    value
        .pointer(path)
        .and_then(Value::as_u64)
        .with_context(|| format!("iperf3's answer has no {path}"))
}

fn tcp(server: &Value, work: Work) -> Result<Run> {
    Ok(Run {
        account: Account::default(),
        bits: number(server, "/end/sum_received/bytes")? * 8.0,
        seconds: number(server, "/end/sum_received/seconds")?,
        work,
    })
}

fn udp_run(client: &Value, server: &Value, kernel: &Kernel, work: Work) -> Result<Run> {
    // `packets` is the highest number that the server saw, `lost_packets` those below it that it did not.
    let seen = count(server, "/end/sum/packets")?;
    let missed = count(server, "/end/sum/lost_packets")?;
    let mut account = Account {
        sent: count(client, "/end/sum/packets")?,
        taken: seen.saturating_sub(missed),
        ..Account::default()
    };
    account.lose("socket_buffer_full", kernel.buffer_full);
    account.lose("veth_ring_full", kernel.veth);
    let left = u64::try_from(account.unaccounted()).unwrap_or(0);
    account.lose(
        "unread_when_iperf3_ended",
        left.min(kernel.buffer / TRUESIZE),
    );
    let ip_bits = (PAYLOAD + 28) as f64 * 8.0;
    Ok(Run {
        bits: account.taken as f64 * ip_bits,
        account,
        seconds: number(server, "/end/sum/seconds")?,
        work,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ends(sent: u64, seen: u64, missed: u64) -> Account {
        let client = json!({"end": {"sum": {"packets": sent}}});
        let server =
            json!({"end": {"sum": {"packets": seen, "lost_packets": missed, "seconds": 1.0}}});
        let kernel = Kernel {
            buffer_full: 10,
            veth: 5,
            buffer: 100 * TRUESIZE,
        };
        udp_run(&client, &server, &kernel, Work::default())
            .unwrap()
            .account
    }

    #[test]
    fn what_its_socket_held_at_the_end_has_a_name_up_to_what_it_can_hold() {
        let even = ends(1000, 1000, 15);
        assert_eq!(
            (even.taken, even.unaccounted(), even.reasons.len()),
            (985, 0, 2)
        );
        let full = ends(1100, 1000, 15);
        assert_eq!(
            (full.reasons["unread_when_iperf3_ended"], full.unaccounted()),
            (100, 0)
        );
        assert_eq!(ends(1101, 1000, 15).unaccounted(), 1);
        assert_eq!(ends(999, 1000, 15).unaccounted(), -1);
    }

    #[test]
    fn counters_are_found_by_group_and_name() {
        let text = "Ip: A B\nIp: 1 2\nUdp: InDatagrams RcvbufErrors\nUdp: 3 4\nUdpLite: RcvbufErrors\nUdpLite: 9\n";
        assert_eq!(snmp(text, "Udp", "RcvbufErrors"), Some(4));
        assert_eq!(snmp(text, "Udp", "NoPorts"), None);
    }

    #[test]
    fn an_answer_without_figures_is_no_result() {
        assert!(tcp(&json!({"end": {}}), Work::default()).is_err());
    }
}
