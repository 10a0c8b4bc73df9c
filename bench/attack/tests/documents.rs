//! The protocol's table of attacks against the switches: no attack is missing, none is promised another defence.
//!
//! ```text
//!  switch.rs ─► a line each ─► appliance/docs/protocol.md has them, in this order and no others
//! ```
//!
//! A failure prints the lines that the document must have.

// The lint exempts test functions, not what they share.
#![allow(clippy::unwrap_used)]

use plumbline_attack::switch::Attack;

const DOCUMENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../appliance/docs/protocol.md"
);
const HEAD: &str = "| Attack | By | Must be | What it meets |\n| --- | --- | --- | --- |\n";

fn line(attack: Attack) -> String {
    let words = |value: String| value.to_lowercase();
    format!(
        "| `{}` | {} | {} | {} |\n",
        attack.name(),
        words(format!("{:?}", attack.culprit())),
        words(format!("{:?}", attack.outcome())),
        attack.defence().replace('|', "/"),
    )
}

#[test]
fn the_protocols_table_is_the_switches() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let wanted: String = Attack::ALL.map(line).concat();
    let table = document.split_once(HEAD).map(|(_, rest)| rest);
    let has: String = table
        .unwrap_or_default()
        .split_inclusive('\n')
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(
        has == wanted,
        "{DOCUMENT} has\n\n{has}\nand must have\n\n{HEAD}{wanted}"
    );
}

/// What misbehaves is nobody's dependency but that of what evaluates.
#[test]
fn no_part_of_the_product_depends_on_this() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for part in ["", "/wire", "/trust", "/proof", "/contracts"] {
        let file = root.join(format!("appliance{part}/Cargo.toml"));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("plumbline-attack"), "{}", file.display());
    }
}
