//! Where the ladder ends on each card, and what it must say. As Linux 6.1 has their drivers.

/// Where the ladder ends.
#[derive(Debug)]
pub(crate) struct Rung {
    /// Receiver, XDP mode and UMEM of `PathInfo`.
    pub(crate) taken: (&'static str, &'static str, &'static str),
    /// Words that one of its reasons has, for each rung not taken; the first is about native XDP.
    pub(crate) reasons: &'static [&'static [&'static str]],
}

/// A card and its rungs.
#[derive(Debug)]
pub(crate) struct Card {
    name: &'static str,
    /// What sends by it: a kernel before 6.11 cuts no bursts for a card that leaves checksums to it, as
    /// virtio-net does where the host behind it has none either.
    pub(crate) engine: &'static str,
    /// With packets of MTU 1500.
    pub(crate) standard: Rung,
    /// With packets of MTU 9000: several frames a packet (`XDP_USE_SG`) came with 6.6, so none has XDP.
    pub(crate) jumbo: Rung,
}

const PLAIN: (&str, &str, &str) = ("recvmmsg", "none", "none");

const CARDS: [Card; 2] = [
    Card {
        name: "virtio-net",
        engine: "send",
        standard: Rung {
            taken: ("af_xdp", "native", "copy"),
            // Zero copy on virtio-net came with 6.11.
            reasons: &[&["native XDP", "zero-copy", "not supported"]],
        },
        jumbo: Rung {
            taken: PLAIN,
            reasons: &[
                &["native XDP", "MTU too large"],
                &["generic XDP", "XDP_USE_SG"],
            ],
        },
    },
    Card {
        name: "e1000e",
        engine: "io_uring",
        standard: Rung {
            taken: ("af_xdp", "generic", "copy"),
            reasons: &[&["native XDP", "the driver has no native XDP"]],
        },
        jumbo: Rung {
            taken: PLAIN,
            reasons: &[
                &["native XDP", "the driver has no native XDP"],
                &["generic XDP", "XDP_USE_SG"],
            ],
        },
    },
];

/// The card of that name.
pub(crate) fn named(name: &str) -> &'static Card {
    CARDS
        .iter()
        .find(|card| card.name == name)
        .unwrap_or_else(|| panic!("no expectations for a card named {name}"))
}
