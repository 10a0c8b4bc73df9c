//! Results of `plumbline chain …`.

use std::collections::BTreeMap;

use plumbline_contracts::Deployment;
use plumbline_trust::identity::{Address, VerifyingKey};
use plumbline_trust::selection::Fate;
use serde::{Deserialize, Serialize};

use super::decimal;
use crate::chain::DeploymentFile;
use crate::ui::exit::Exit;
use crate::ui::output::{Show, Style, fields, rate, table};

/// `plumbline chain status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainStatus {
    /// Chain engine.
    pub engine: String,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Latest block.
    pub height: u64,
    /// Whether escrow + stake + owed = held.
    pub conserved: bool,
    /// Base units in escrow.
    #[serde(with = "decimal")]
    pub escrow: u128,
    /// Base units staked.
    #[serde(with = "decimal")]
    pub stake: u128,
    /// Base units credited and not yet withdrawn.
    #[serde(with = "decimal")]
    pub owed: u128,
    /// Base units the vault accounts for.
    #[serde(with = "decimal")]
    pub held: u128,
    /// Contracts by name.
    pub contracts: BTreeMap<String, Address>,
}

impl ChainStatus {
    /// A sum that is not conserved is a failed chain.
    pub fn exit(&self) -> Exit {
        if self.conserved {
            Exit::Ok
        } else {
            Exit::Chain
        }
    }
}

impl Show for ChainStatus {
    fn render_human(&self, style: Style) -> String {
        let conserved = if self.conserved {
            style.good("yes")
        } else {
            style.bad("NO")
        };
        let sum = format!(
            "{} escrow + {} stake + {} owed = {} held",
            self.escrow, self.stake, self.owed, self.held
        );
        let head = fields(&[
            ("engine", self.engine.clone()),
            ("chain id", self.chain_id.to_string()),
            ("height", self.height.to_string()),
            ("conserved", format!("{conserved}: {sum}")),
        ]);
        let rows = self
            .contracts
            .iter()
            .map(|(name, address)| vec![name.clone(), address.to_string()]);
        format!("{head}\n\n{}", table(&["contract", "address"], &[], rows))
    }
}

/// `plumbline chain deploy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeploymentView {
    /// Who deployed.
    pub deployer: String,
    /// Where the contracts are.
    pub deployment: Deployment,
    /// Block of the last transaction.
    pub block: u64,
    /// Gas of all transactions.
    pub gas_used: u64,
}

impl Show for DeploymentView {
    fn render_human(&self, _: Style) -> String {
        let head = fields(&[
            ("deployer", self.deployer.clone()),
            ("chain id", self.deployment.chain_id.to_string()),
            ("block", self.block.to_string()),
            ("gas", self.gas_used.to_string()),
        ]);
        // All there are, whichever they are: every field that is an address.
        let all = serde_json::to_value(self.deployment).unwrap_or_default();
        let rows = all
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| {
                let address = value.as_str()?.to_owned();
                Some(vec![name.clone(), address])
            });
        format!("{head}\n\n{}", table(&["contract", "address"], &[], rows))
    }
}

/// What was pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinView {
    /// The file that was written.
    pub file: String,
    /// One hash over all that it pins.
    pub fingerprint: String,
    /// What it pins.
    pub pinned: DeploymentFile,
}

impl Show for PinView {
    fn render_human(&self, _: Style) -> String {
        let pinned = &self.pinned;
        let founding = pinned.founding.map_or_else(
            || "none: not an embedded chain".to_owned(),
            |origin| {
                format!(
                    "block 0 {}, blocks signed by {}",
                    origin.block, origin.signer
                )
            },
        );
        let head = fields(&[
            ("file", self.file.clone()),
            ("chain id", pinned.deployment.chain_id.to_string()),
            ("founding", founding),
            ("fingerprint", self.fingerprint.clone()),
        ]);
        let contracts = pinned.deployment.contracts();
        let rows = contracts.iter().map(|(name, address)| {
            let code = pinned.code.get(*name).map(ToString::to_string);
            vec![
                (*name).to_owned(),
                address.to_string(),
                code.unwrap_or_default(),
            ]
        });
        let all = table(&["contract", "address", "hash of its code"], &[], rows);
        format!(
            "{head}\n\n{all}\n\nThis is what was shown, and who showed it may lie. Compare the fingerprint with that of \
             whoever you trust, by another way than the network."
        )
    }
}

/// Somebody registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantView {
    /// Settlement address.
    pub address: Address,
    /// ed25519 public key.
    pub network_key: VerifyingKey,
    /// What it registered as.
    pub roles: Vec<String>,
    /// Who runs it; empty for none.
    pub operator: String,
    /// Where it is reached.
    pub endpoint: String,
    /// Largest claim of a prover, bits a second; 0 for others.
    pub maximum_bps: u64,
    /// Base units staked.
    #[serde(with = "decimal")]
    pub stake: u128,
    /// Whether its heartbeat is fresh.
    pub live: bool,
}

/// `plumbline chain participants`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participants {
    /// Everybody registered.
    pub participants: Vec<ParticipantView>,
}

impl Show for Participants {
    fn render_human(&self, _: Style) -> String {
        let rows = self.participants.iter().map(|p| {
            let maximum = if p.maximum_bps == 0 {
                String::new()
            } else {
                rate(p.maximum_bps)
            };
            vec![
                p.address.to_string(),
                p.roles.join("+"),
                if p.live { "live" } else { "silent" }.to_owned(),
                p.operator.clone(),
                p.endpoint.clone(),
                maximum,
                p.stake.to_string(),
            ]
        });
        table(
            &[
                "address", "roles", "", "operator", "endpoint", "maximum", "stake",
            ],
            &[5, 6],
            rows,
        )
    }
}

/// `plumbline chain request`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// Id, `0x` and 64 hexadecimal digits.
    pub id: String,
    /// State on the chain.
    pub state: String,
    /// Who pays.
    pub payer: Address,
    /// Whose link.
    pub prover: Address,
    /// Who coordinates.
    pub coordinator: Address,
    /// Claim, bits a second.
    pub claim_bps: u64,
    /// Which way: 0 towards the prover, 1 away from it.
    pub direction: u8,
    /// Bytes of a data packet at the IP layer.
    pub packet_bytes: u16,
    /// Challengers asked for.
    pub n: u16,
    /// Of whom may be corrupt.
    pub f: u16,
    /// Nominal duration, milliseconds.
    pub duration_ms: u32,
    /// Base units a byte.
    #[serde(with = "decimal")]
    pub price_per_byte: u128,
    /// Base units locked now.
    #[serde(with = "decimal")]
    pub escrow: u128,
    /// When it ends, seconds since 1970.
    pub deadline: u64,
    /// Why the coordinator that was asked does not begin it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declined: Option<String>,
}

/// A direction's number in words.
fn way(direction: u8) -> &'static str {
    if direction == 0 {
        "towards the prover"
    } else {
        "away from the prover"
    }
}

impl Show for RequestView {
    fn render_human(&self, _: Style) -> String {
        fields(&[
            ("request", self.id.clone()),
            ("state", self.state.clone()),
            ("payer", self.payer.to_string()),
            ("prover", self.prover.to_string()),
            ("coordinator", self.coordinator.to_string()),
            (
                "claim",
                format!(
                    "{} {}, in packets of {} bytes",
                    rate(self.claim_bps),
                    way(self.direction),
                    self.packet_bytes
                ),
            ),
            (
                "challengers",
                format!("{}, of whom {} may be corrupt", self.n, self.f),
            ),
            ("duration", format!("{} ms", self.duration_ms)),
            ("price a byte", self.price_per_byte.to_string()),
            ("escrow", self.escrow.to_string()),
            (
                "deadline",
                format!("{} (seconds since 1970)", self.deadline),
            ),
        ])
    }
}

/// `plumbline chain draw`: enough for anyone to repeat it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// Id of the request, or of the jury's case.
    pub id: String,
    /// Beacon round.
    pub round: u64,
    /// Beacon of that round, `0x` and 64 hexadecimal digits.
    pub beacon: String,
    /// Places of the pool at the request.
    pub pool: u32,
    /// Whom the draw came upon, in order.
    pub looks: Vec<LookView>,
    /// Who was drawn, in order.
    pub selected: Vec<Address>,
    /// Whether drawing again with this beacon and pool comes upon the same and seats the selected.
    pub repeats: bool,
}

/// One look of a draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookView {
    /// Who held the place; zero: nobody.
    pub account: Address,
    /// Its tickets; 1 in a uniform draw.
    pub tickets: u8,
    /// What became of it.
    pub fate: Fate,
}

impl Draw {
    /// A draw that the beacon does not give is a failed check.
    pub fn exit(&self) -> Exit {
        if self.repeats { Exit::Ok } else { Exit::Failed }
    }
}

impl Show for Draw {
    fn render_human(&self, style: Style) -> String {
        let repeats = if self.repeats {
            style.good("yes")
        } else {
            style.bad("NO: the beacon gives another selection")
        };
        let head = fields(&[
            ("draw", self.id.clone()),
            ("beacon", format!("{} (round {})", self.beacon, self.round)),
            ("pool", format!("{} places", self.pool)),
            ("repeats", repeats),
        ]);
        let rows = self.looks.iter().map(|look| {
            let place = self.selected.iter().position(|s| *s == look.account);
            let fate = match look.fate {
                Fate::Seated => place.map_or_else(|| "seated".into(), |at| format!("#{at}")),
                Fate::Away => "did not take part".into(),
                Fate::Silent => "was not live".into(),
                Fate::Related => "of a party".into(),
                Fate::Unlucky => "its tickets were not hit".into(),
            };
            vec![look.account.to_string(), look.tickets.to_string(), fate]
        });
        format!(
            "{head}\n\n{}",
            table(&["account", "tickets", "drawn"], &[1], rows)
        )
    }
}

/// `plumbline chain balance`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Whose.
    pub address: Address,
    /// Base units in its account.
    #[serde(with = "decimal")]
    pub balance: u128,
    /// Base units staked.
    #[serde(with = "decimal")]
    pub stake: u128,
    /// Base units it can withdraw.
    #[serde(with = "decimal")]
    pub owed: u128,
}

impl Show for Balance {
    fn render_human(&self, _: Style) -> String {
        fields(&[
            ("address", self.address.to_string()),
            ("balance", self.balance.to_string()),
            ("stake", self.stake.to_string()),
            ("owed", self.owed.to_string()),
        ])
    }
}

/// `plumbline chain withdraw` and `plumbline chain faucet`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who receives.
    pub address: Address,
    /// Base units moved.
    #[serde(with = "decimal")]
    pub amount: u128,
    /// Transaction, `0x` and 64 hexadecimal digits; `None` when there was nothing to move.
    pub transaction: Option<String>,
    /// Block it is in.
    pub block: Option<u64>,
    /// Gas it took.
    pub gas_used: u64,
}

impl Show for Receipt {
    fn render_human(&self, _: Style) -> String {
        let transaction = match (&self.transaction, self.block) {
            (Some(hash), Some(block)) => format!("{hash} in block {block}, gas {}", self.gas_used),
            (Some(hash), None) => format!("{hash}, gas {}", self.gas_used),
            (None, _) => "none: there was nothing to move".to_owned(),
        };
        fields(&[
            ("address", self.address.to_string()),
            ("received", self.amount.to_string()),
            ("transaction", transaction),
        ])
    }
}

/// `plumbline chain verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainReplay {
    /// Whether every block gives the root it was stored with.
    pub ok: bool,
    /// Blocks executed again.
    pub blocks: u64,
    /// Root of the last of them, `0x` and 64 hexadecimal digits.
    pub root: String,
    /// What was found, where something was.
    pub detail: Option<String>,
}

impl ChainReplay {
    /// A stored chain that does not repeat is a failed check.
    pub fn exit(&self) -> Exit {
        if self.ok { Exit::Ok } else { Exit::Failed }
    }
}

impl Show for ChainReplay {
    fn render_human(&self, style: Style) -> String {
        let outcome = if self.ok {
            style.good("ok")
        } else {
            style.bad("failed")
        };
        let detail = self
            .detail
            .as_ref()
            .map(|d| format!(": {d}"))
            .unwrap_or_default();
        fields(&[
            ("verify", format!("{outcome}{detail}")),
            ("blocks", self.blocks.to_string()),
            ("root", self.root.clone()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_json_is_that_of_the_contract() {
        let json = serde_json::json!({
            "engine": "embedded", "chain_id": 7310, "height": 12, "conserved": true, "escrow": "1", "stake": "2",
            "owed": "3", "held": "6", "contracts": {"vault": format!("0x{}", "11".repeat(20))}
        });
        let status: ChainStatus = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&status).unwrap(), json);
        assert!(
            status
                .render_human(Style::Plain)
                .contains("yes: 1 escrow + 2 stake + 3 owed = 6 held")
        );
        assert_eq!(status.exit(), Exit::Ok);
        assert_eq!(
            ChainStatus {
                conserved: false,
                ..status
            }
            .exit(),
            Exit::Chain
        );
    }

    #[test]
    fn a_draw_shows_who_was_taken_and_whether_it_repeats() {
        let (a, b) = (Address([1; 20]), Address([2; 20]));
        let mut draw = Draw {
            id: "0x00".into(),
            round: 7,
            beacon: "0x01".into(),
            pool: 2,
            looks: [(a, Fate::Silent), (b, Fate::Seated)]
                .map(|(account, fate)| LookView {
                    account,
                    tickets: 1,
                    fate,
                })
                .to_vec(),
            selected: vec![b],
            repeats: true,
        };
        assert!(draw.render_human(Style::Plain).contains("#0"));
        assert_eq!(draw.exit(), Exit::Ok);
        draw.repeats = false;
        assert_eq!(draw.exit(), Exit::Failed);
    }
}
