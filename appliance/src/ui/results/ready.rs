//! The line by which a daemon says that everything is up.

use plumbline_trust::identity::Address;
use serde::{Deserialize, Serialize};

use super::DatapathView;
use crate::config::Role;

/// Printed once, as one line of JSON on stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Always true: a daemon that is not ready prints nothing.
    pub ready: bool,
    /// Roles that are up.
    pub roles: Vec<Role>,
    /// Settlement address.
    pub address: Address,
    /// Base URL of the HTTP API, if there is one.
    pub api: Option<String>,
    /// Through whom a node sees the chain, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_view: Option<String>,
    /// Receive path, if there is one.
    pub datapath: Option<DatapathView>,
}
