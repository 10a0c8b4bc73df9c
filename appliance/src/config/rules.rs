//! What a value may be. One rule reads the value, says why it was refused, and says what is allowed,
//! so the three cannot drift apart.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::units::{self, Bytes, Rate};
use super::{CoordinatorUrl, Role, Roles};
use crate::chain::finality::{DEPTH_MAX, FINALIZED, Finality};
use crate::tls;

/// Most nodes of one chain: each is asked whenever money moves.
const ENDPOINTS_MAX: usize = 16;
/// Longest operator name: it is one 32-byte word in the contract.
const OPERATOR_MAX_BYTES: usize = 32;
/// Longest interface name: IFNAMSIZ (16) less its terminating zero.
const INTERFACE_MAX_BYTES: usize = 15;

/// A rule for one value.
pub(super) trait Rule {
    /// What an accepted value becomes.
    type Out;
    /// What is allowed, in words that follow "allowed:".
    fn allowed(&self) -> String;
    /// The value, or why it is refused.
    fn read(&self, value: &DeValue<'_>) -> Result<Self::Out, String>;
}

fn string<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("wrong type: expected a string, found {}", kind(value)))
}

/// The kind of a value with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A duration within bounds, both included.
pub(super) struct DurationIn {
    pub(super) min: Duration,
    pub(super) max: Duration,
    /// The contract counts in seconds, so a fraction could not be honoured.
    pub(super) whole_seconds: bool,
}

impl Rule for DurationIn {
    type Out = Duration;
    fn allowed(&self) -> String {
        let whole = if self.whole_seconds {
            "whole seconds"
        } else {
            "a duration"
        };
        let (min, max) = (
            units::format_duration(self.min),
            units::format_duration(self.max),
        );
        format!("{whole} from {min} to {max}, as a string such as \"{min}\"")
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Duration, String> {
        let read = units::parse_duration(string(value)?)?;
        if read < self.min || read > self.max {
            return Err("out of range".into());
        }
        if self.whole_seconds && read.subsec_nanos() != 0 {
            return Err(
                "not a whole number of seconds, which is what the contract counts in".into(),
            );
        }
        Ok(read)
    }
}

/// An integer within bounds, both included.
pub(super) struct IntegerIn<T> {
    pub(super) min: T,
    pub(super) max: T,
}

impl<T: TryFrom<u64> + PartialOrd + Copy + std::fmt::Display> Rule for IntegerIn<T> {
    type Out = T;
    fn allowed(&self) -> String {
        format!("an integer from {} to {}", self.min, self.max)
    }
    fn read(&self, value: &DeValue<'_>) -> Result<T, String> {
        let number = value
            .as_integer()
            .ok_or_else(|| format!("wrong type: expected an integer, found {}", kind(value)))?;
        u64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|n| T::try_from(n).ok())
            .filter(|n| *n >= self.min && *n <= self.max)
            .ok_or_else(|| "out of range".into())
    }
}

/// A list of whole numbers within bounds.
pub(super) struct ListOf<T> {
    pub(super) each: IntegerIn<T>,
    /// Fewest and most entries.
    pub(super) entries: std::ops::RangeInclusive<usize>,
    /// No number twice.
    pub(super) distinct: bool,
}

impl<T: TryFrom<u64> + PartialOrd + Copy + std::fmt::Display> Rule for ListOf<T> {
    type Out = Vec<T>;
    fn allowed(&self) -> String {
        let once = if self.distinct { ", each once" } else { "" };
        let (least, most) = (self.entries.start(), self.entries.end());
        format!(
            "an array of {least} to {most} entries, {}{once}",
            self.each.allowed()
        )
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Vec<T>, String> {
        let array = value
            .as_array()
            .ok_or_else(|| format!("wrong type: expected an array, found {}", kind(value)))?;
        if !self.entries.contains(&array.len()) {
            return Err(format!("{} entries", array.len()));
        }
        let mut all = Vec::with_capacity(array.len());
        for item in array {
            let number = self.each.read(item.get_ref())?;
            if self.distinct && all.contains(&number) {
                return Err(format!("{number} is listed twice"));
            }
            all.push(number);
        }
        Ok(all)
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Rule for Flag {
    type Out = bool;
    fn allowed(&self) -> String {
        "true or false".into()
    }
    fn read(&self, value: &DeValue<'_>) -> Result<bool, String> {
        value
            .as_bool()
            .ok_or_else(|| format!("wrong type: expected true or false, found {}", kind(value)))
    }
}

/// One of some words.
pub(super) struct OneOf<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy> Rule for OneOf<T> {
    type Out = T;
    fn allowed(&self) -> String {
        self.0
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(", ")
    }
    fn read(&self, value: &DeValue<'_>) -> Result<T, String> {
        let text = string(value)?;
        self.0
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, out)| *out)
            .ok_or_else(|| "unknown word".into())
    }
}

/// A non-empty set of roles.
pub(super) struct RoleSet;

impl Rule for RoleSet {
    type Out = Roles;
    fn allowed(&self) -> String {
        "a non-empty array of \"coordinator\", \"prover\", \"challenger\", \"juror\", each at most once".into()
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Roles, String> {
        let array = value
            .as_array()
            .ok_or_else(|| format!("wrong type: expected an array, found {}", kind(value)))?;
        let mut roles = Roles::default();
        for item in array {
            let text = string(item.get_ref())?;
            let role = Role::ALL
                .into_iter()
                .find(|r| r.name() == text)
                .ok_or_else(|| format!("unknown role \"{text}\""))?;
            if !roles.insert(role) {
                return Err(format!("role \"{text}\" is named twice"));
            }
        }
        if roles.is_empty() {
            Err("no role is named".into())
        } else {
            Ok(roles)
        }
    }
}

/// A path; relative ones are resolved later against the file's directory.
pub(super) struct FilePath;

impl Rule for FilePath {
    type Out = PathBuf;
    fn allowed(&self) -> String {
        "a path, relative to this file or absolute".into()
    }
    fn read(&self, value: &DeValue<'_>) -> Result<PathBuf, String> {
        match string(value)? {
            "" => Err("empty path".into()),
            text => Ok(PathBuf::from(text)),
        }
    }
}

/// Base units of the token: a decimal string, or an integer where TOML's 63 bits suffice.
pub(super) struct Amount;

impl Rule for Amount {
    type Out = u128;
    fn allowed(&self) -> String {
        format!("{}, as a string such as \"1000\"", units::AMOUNT_FORMS)
    }
    fn read(&self, value: &DeValue<'_>) -> Result<u128, String> {
        match value.as_integer() {
            Some(number) => u128::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| "out of range".into()),
            None => units::parse_amount(string(value)?),
        }
    }
}

/// A rate above zero: a string with a unit, or an integer of bit/s.
pub(super) struct RateAboveZero;

impl Rule for RateAboveZero {
    type Out = Rate;
    fn allowed(&self) -> String {
        format!("a rate above 0: {}", units::RATE_FORMS)
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Rate, String> {
        let rate = match value.as_integer() {
            Some(number) => u64::from_str_radix(number.as_str(), number.radix())
                .map(Rate)
                .map_err(|_| "out of range".to_owned())?,
            None => string(value)?.parse()?,
        };
        if rate.0 == 0 {
            Err("a rate of 0 claims nothing".into())
        } else {
            Ok(rate)
        }
    }
}

/// A number of bytes above zero: a string with a unit, or an integer.
pub(super) struct BytesAboveZero;

impl Rule for BytesAboveZero {
    type Out = Bytes;
    fn allowed(&self) -> String {
        format!("a number of bytes above 0: {}", units::BYTES_FORMS)
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Bytes, String> {
        let bytes = match value.as_integer() {
            Some(number) => u64::from_str_radix(number.as_str(), number.radix())
                .map(Bytes)
                .map_err(|_| "out of range".to_owned())?,
            None => string(value)?.parse()?,
        };
        if bytes.0 == 0 {
            Err("0 bytes leave nothing to send".into())
        } else {
            Ok(bytes)
        }
    }
}

/// Address and port to listen on. Port 0 is refused: peers are configured with the port.
pub(super) struct Listen;

impl Rule for Listen {
    type Out = SocketAddr;
    fn allowed(&self) -> String {
        "ADDRESS:PORT or [V6ADDRESS]:PORT with a port from 1 to 65535".into()
    }
    fn read(&self, value: &DeValue<'_>) -> Result<SocketAddr, String> {
        let text = string(value)?;
        let socket: SocketAddr = text
            .parse()
            .map_err(|_| "not an address with a port".to_owned())?;
        if socket.port() == 0 {
            Err("port 0 would be another port at every start".into())
        } else {
            Ok(socket)
        }
    }
}

/// An address of this machine that peers can send to.
pub(super) struct HostAddress;

impl Rule for HostAddress {
    type Out = IpAddr;
    fn allowed(&self) -> String {
        "one IPv4 or IPv6 address of this machine that peers can reach (not 0.0.0.0, multicast or broadcast)".into()
    }
    fn read(&self, value: &DeValue<'_>) -> Result<IpAddr, String> {
        let address: IpAddr = string(value)?
            .parse()
            .map_err(|_| "not an IP address".to_owned())?;
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || broadcast {
            return Err("peers could not send to it".into());
        }
        Ok(address)
    }
}

/// Base URL of a coordinator.
pub(super) struct Coordinator;

impl Rule for Coordinator {
    type Out = CoordinatorUrl;
    fn allowed(&self) -> String {
        super::URL_FORMS.into()
    }
    fn read(&self, value: &DeValue<'_>) -> Result<CoordinatorUrl, String> {
        string(value)?.parse()
    }
}

/// The same of this coordinator, or "" for where it listens.
pub(super) struct PublicUrl;

impl Rule for PublicUrl {
    type Out = Option<CoordinatorUrl>;
    fn allowed(&self) -> String {
        "https://HOST:PORT or http://HOST:PORT, or \"\" for the address in coordinator.listen"
            .into()
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Option<CoordinatorUrl>, String> {
        match string(value)? {
            "" => Ok(None),
            text => text.parse().map(Some),
        }
    }
}

/// Nodes of a chain.
pub(super) struct Endpoints;

impl Rule for Endpoints {
    type Out = Vec<String>;
    fn allowed(&self) -> String {
        format!(
            "an array of 1 to {ENDPOINTS_MAX} URLs, each once, such as \"http://127.0.0.1:8545\""
        )
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Vec<String>, String> {
        let array = value
            .as_array()
            .ok_or_else(|| format!("wrong type: expected an array, found {}", kind(value)))?;
        if !(1..=ENDPOINTS_MAX).contains(&array.len()) {
            return Err(format!("{} entries", array.len()));
        }
        let mut all = Vec::with_capacity(array.len());
        for item in array {
            let text = string(item.get_ref())?;
            tls::target(text).map_err(|why| format!("\"{text}\": {why}"))?;
            if all.iter().any(|other| other == text) {
                return Err(format!(
                    "\"{text}\" is listed twice: it cannot vouch for itself"
                ));
            }
            all.push(text.to_owned());
        }
        Ok(all)
    }
}

/// When a block counts as settled.
pub(super) struct Settled;

impl Rule for Settled {
    type Out = Finality;
    fn allowed(&self) -> String {
        format!(
            "\"{FINALIZED}\", or how many blocks must lie on top, an integer from 0 to {DEPTH_MAX}"
        )
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Finality, String> {
        if let Some(text) = value.as_str() {
            return match text {
                FINALIZED => Ok(Finality::Finalized),
                _ => Err("unknown word".into()),
            };
        }
        let depth = IntegerIn {
            min: 0,
            max: DEPTH_MAX,
        };
        depth.read(value).map(Finality::Depth)
    }
}

/// Who runs a node. The empty string is nobody in particular.
pub(super) struct Operator;

impl Rule for Operator {
    type Out = Option<String>;
    fn allowed(&self) -> String {
        format!("up to {OPERATOR_MAX_BYTES} printable ASCII characters; \"\" for none")
    }
    fn read(&self, value: &DeValue<'_>) -> Result<Option<String>, String> {
        let text = string(value)?;
        if text.len() > OPERATOR_MAX_BYTES {
            return Err(format!("{} bytes long", text.len()));
        }
        if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err("holds characters that are not printable ASCII".into());
        }
        Ok(Some(text.to_owned()).filter(|t| !t.is_empty()))
    }
}

/// Name of a network interface.
pub(super) struct Interface;

impl Rule for Interface {
    type Out = String;
    fn allowed(&self) -> String {
        format!(
            "the name of a network interface, 1 to {INTERFACE_MAX_BYTES} characters (see `ip link`)"
        )
    }
    fn read(&self, value: &DeValue<'_>) -> Result<String, String> {
        let text = string(value)?;
        let odd = |b: u8| b == b'/' || b.is_ascii_whitespace() || b.is_ascii_control();
        if text.is_empty() || text.len() > INTERFACE_MAX_BYTES || text.bytes().any(odd) {
            return Err("no interface can have this name".into());
        }
        Ok(text.to_owned())
    }
}
