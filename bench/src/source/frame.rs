//! A packet as a frame, by the product's own headers.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use plumbline::generator::{Headers, Link};

use crate::load::Load;
use crate::pair::{INTERFACE, PORT, Pair, SINK, SOURCE, SOURCE_PORT};

/// From the pair's source end to its sink end.
///
/// # Errors
/// A hardware address cannot be read.
pub(super) fn link(pair: &Pair) -> Result<Link> {
    Ok(Link {
        interface: INTERFACE.into(),
        queue: 0,
        source_mac: mac(&pair.mac(true)?)?,
        destination_mac: mac(&pair.mac(false)?)?,
        source: SocketAddr::from((SOURCE, SOURCE_PORT)),
        destination: SocketAddr::from((SINK, PORT)),
    })
}

/// The first packet of `load` as a frame.
///
/// # Errors
/// There is none.
pub(super) fn template(link: &Link, load: &Load) -> Result<Vec<u8>> {
    let payload = load.packets.get(..load.size.payload());
    let payload = payload.context("no packet was made")?;
    let headers = Headers::new(link, payload.len())?;
    let mut frame = vec![0; headers.frame_len()];
    headers
        .write(payload, &mut frame)
        .context("the headers are of another length")?;
    Ok(frame)
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    bytes
        .and_then(|b| b.try_into().ok())
        .with_context(|| format!("{text:?} is no hardware address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumbline_wire::{Class, Size, classify};

    #[test]
    fn the_products_own_parser_takes_the_frame() {
        let load = Load::make(Size::Standard, 3).unwrap();
        let link = Link {
            interface: INTERFACE.into(),
            queue: 0,
            source_mac: mac("02:00:00:00:00:0a").unwrap(),
            destination_mac: mac("02:00:00:00:00:0b").unwrap(),
            source: SocketAddr::from((SOURCE, SOURCE_PORT)),
            destination: SocketAddr::from((SINK, PORT)),
        };
        let frame = template(&link, &load).unwrap();
        assert_eq!(frame.len(), 14 + 20 + 8 + 1472);
        let Class::Ours(found) = classify(&frame[..], PORT) else {
            panic!("{:?}", classify(&frame[..], PORT));
        };
        assert_eq!((found.size, found.payload), (Size::Standard, 42));
        assert_eq!(frame[42..], load.packets[..1472]);
    }

    #[test]
    fn what_is_no_hardware_address_is_refused() {
        for text in ["", "02:00", "02:00:00:00:00:00:00", "02:00:00:00:00:xx"] {
            assert!(mac(text).is_err(), "{text}");
        }
    }
}
