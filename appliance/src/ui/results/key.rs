//! Result of `plumbline key new` and `plumbline key show`: public halves only.

use plumbline_trust::identity::{Address, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::ui::output::{Show, Style, fields};

/// Public halves of a key file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyResult {
    /// ed25519 public key.
    pub network_key: VerifyingKey,
    /// Settlement address.
    pub address: Address,
    /// The file.
    pub file: String,
}

impl Show for KeyResult {
    fn render_human(&self, _: Style) -> String {
        fields(&[
            ("address", self.address.to_string()),
            ("network key", self.network_key.to_string()),
            ("file", self.file.clone()),
        ])
    }
}
