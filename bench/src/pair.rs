//! The ground of a trial: two network namespaces and a veth between them, made anew each time.
//!
//! ```text
//!   source ns                                         sink ns
//!   10.78.0.2 ─ veth0 ════════════ veth ═══════════ veth0 ─ 10.78.0.1 : port
//!    core 0      └ units = packets: segments are cut before the veth, as a card would before its wire
//! ```
//!
//! Claim: nothing but the trial's own packets crosses it (no IPv6, neighbours written down beforehand),
//! and all its counters begin at zero. Not promised: what a wire would do; a veth has none. It is
//! removed when dropped, on Ctrl-C, and by the next run if this one was killed. Tests: `tests/trial.rs`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use plumbline_lab::{Namespace, tool};
use serde_json::Value;

use crate::plan::Units;

/// Name of the interface at both ends.
pub(crate) const INTERFACE: &str = "veth0";
/// The sink's address.
pub(crate) const SINK: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// The source's address.
pub(crate) const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// Port that packets are sent to.
pub(crate) const PORT: u16 = 47_100;
/// Port that packets are sent from: the drop program and the consent table name a sender by it.
pub(crate) const SOURCE_PORT: u16 = 47_101;
/// Core of the source.
pub(crate) const SOURCE_CORE: usize = 0;
/// Core of the sink.
pub(crate) const SINK_CORE: usize = 1;
/// A locally administered address that no interface has: frames for it are shown to packet sockets
/// and to nobody else.
const NOBODY: &str = "02:00:00:00:00:01";

/// First part of the names of all namespaces of benches; the process id follows.
const PREFIX: &str = "plbench-";

/// Two namespaces and a veth.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Where packets come from.
    pub(crate) source: Namespace,
    /// Where they go.
    pub(crate) sink: Namespace,
}

fn ip(line: &str) -> Result<String> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    Ok(tool::run("ip", &words)?)
}

impl Pair {
    /// Makes a pair. Needs root.
    ///
    /// # Errors
    /// `ip` or `ethtool` refused; says which line.
    pub(crate) fn new(mtu: u16, units: Units) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |end| Namespace::new(format!("{PREFIX}{}-{number}-{end}", std::process::id()));
        // From here on dropping it removes what was made.
        let pair = Self {
            source: name("tx"),
            sink: name("rx"),
        };
        let (source, sink) = (pair.source.name(), pair.sink.name());
        for space in [source, sink] {
            ip(&format!("netns add {space}"))?;
            pair.within(space == source, silence)??;
        }
        ip(&format!(
            "link add {INTERFACE} netns {source} type veth peer name {INTERFACE} netns {sink}"
        ))?;
        for (space, address) in [(source, SOURCE), (sink, SINK)] {
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} addr add {address}/24 dev {INTERFACE}"))?;
            ip(&format!("-n {space} link set {INTERFACE} mtu {mtu} up"))?;
        }
        // The first packets must not wait for an answer to ARP, nor ARP be counted among them.
        let (to_sink, to_source) = (pair.mac(false)?, pair.mac(true)?);
        pair.neighbour(true, SINK, &to_sink)?;
        pair.neighbour(false, SOURCE, &to_source)?;
        if units == Units::Packets {
            pair.ethtool(true, "tx-udp-segmentation off")?;
        }
        Ok(pair)
    }

    /// Lets frames for the sink carry a hardware address that is not its own: packet sockets still see
    /// them, and the stack throws them away before it has cost anything.
    ///
    /// # Errors
    /// `ip` refused.
    pub(crate) fn address_nobody(&self) -> Result<()> {
        self.neighbour(true, SINK, NOBODY)
    }

    /// Switches a feature of one end, such as `gro on`.
    ///
    /// # Errors
    /// `ethtool` refused.
    pub(crate) fn ethtool(&self, at_source: bool, feature: &str) -> Result<()> {
        let space = self.end(at_source).name();
        let line = format!("netns exec {space} ethtool -K {INTERFACE} {feature}");
        ip(&line).map(drop)
    }

    /// Counters of one end by `ethtool -S`, by name.
    ///
    /// # Errors
    /// `ethtool` refused.
    pub(crate) fn statistics(&self, at_source: bool) -> Result<Vec<(String, u64)>> {
        let space = self.end(at_source).name();
        let text = ip(&format!("netns exec {space} ethtool -S {INTERFACE}"))?;
        Ok(numbers(&text))
    }

    /// `stats64` of one end, as `ip` shows it.
    ///
    /// # Errors
    /// `ip` refused, or did not say it.
    pub(crate) fn stats64(&self, at_source: bool) -> Result<Value> {
        let space = self.end(at_source).name();
        let mut shown = link(&format!("-n {space} -s -j link show dev {INTERFACE}"))?;
        Ok(shown["stats64"].take())
    }

    /// Runs `work` on a thread inside one end; threads that it starts stay there.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub(crate) fn within<T: Send>(
        &self,
        at_source: bool,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        let space = self.end(at_source);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                space
                    .enter()
                    .with_context(|| format!("entering namespace {} (needs root)", space.name()))?;
                Ok(work())
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Hardware address of one end.
    ///
    /// # Errors
    /// `ip` refused, or did not say it.
    pub(crate) fn mac(&self, at_source: bool) -> Result<String> {
        let space = self.end(at_source).name();
        let shown = link(&format!("-n {space} -j link show dev {INTERFACE}"))?;
        let address = shown["address"].as_str();
        Ok(address
            .context("`ip link show` gives no address")?
            .to_owned())
    }

    fn end(&self, source: bool) -> &Namespace {
        if source { &self.source } else { &self.sink }
    }

    fn neighbour(&self, at_source: bool, address: Ipv4Addr, mac: &str) -> Result<()> {
        let space = self.end(at_source).name();
        ip(&format!(
            "-n {space} neigh replace {address} lladdr {mac} nud permanent dev {INTERFACE}"
        ))
        .map(drop)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for space in [&self.source, &self.sink] {
            // Not made yet, or gone already: nothing to remove.
            let _ = ip(&format!("netns del {}", space.name()));
        }
    }
}

/// Removes what benches of processes that no longer live have left, or of this one (`own`).
///
/// # Errors
/// `ip` cannot be run.
pub(crate) fn sweep(own: bool) -> Result<()> {
    let me = std::process::id();
    for line in ip("netns list")?.lines() {
        let name = line.split(' ').next().unwrap_or("");
        let Some(id) = owner(name) else { continue };
        let is_dead = !Path::new("/proc").join(id.to_string()).exists();
        if is_dead || (own && id == me) {
            ip(&format!("netns del {name}"))?;
        }
    }
    Ok(())
}

/// The process that made a namespace of this name.
fn owner(name: &str) -> Option<u32> {
    let (id, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    id.parse().ok()
}

/// No IPv6: its neighbour discovery would be counted among the packets. On a thread inside.
fn silence() -> Result<()> {
    let switch = "/proc/sys/net/ipv6/conf";
    if !Path::new(switch).exists() {
        return Ok(());
    }
    for which in ["all", "default"] {
        let file = format!("{switch}/{which}/disable_ipv6");
        std::fs::write(&file, "1").with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

fn link(line: &str) -> Result<Value> {
    let mut all: Value = serde_json::from_str(&ip(line)?)
        .with_context(|| format!("`ip {line}` does not answer in JSON"))?;
    match all.get_mut(0) {
        Some(first) => Ok(first.take()),
        None => bail!("`ip {line}` shows no interface"),
    }
}

/// `name: number` lines.
fn numbers(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|line| {
            let (name, number) = line.split_once(':')?;
            Some((name.trim().to_owned(), number.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_benches_have_an_owner() {
        assert_eq!(owner("plbench-12-0-tx"), Some(12));
        for other in ["plbench-", "plbench-x-0-tx", "pldp-12-0-p", "plbench-12"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn statistics_are_read() {
        let text = "NIC statistics:\n     peer_ifindex: 2\n     rx_queue_0_xdp_drops: 17\n";
        assert_eq!(
            numbers(text),
            [
                ("peer_ifindex".to_owned(), 2),
                ("rx_queue_0_xdp_drops".to_owned(), 17)
            ]
        );
    }
}
