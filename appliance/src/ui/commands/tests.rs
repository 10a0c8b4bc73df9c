//! What reaches the appliance, and what is stopped before. The handlers here record and refuse.

use std::cell::RefCell;
use std::path::Path;

use clap::Parser as _;
use plumbline_trust::identity::Address;

use crate::config::Config;
use crate::keyfile::Keys;
use crate::ui::args::{AskArgs, DeployArgs, Format, MeasureArgs, PinArgs};
use crate::ui::results::*;
use crate::ui::{Against, Cli, CopyWork, Exit, Failure, Handlers, Progress, StakeWork, execute};

/// Refuses everything, and keeps what it was asked for.
#[derive(Default)]
struct Refusing(RefCell<Vec<String>>);

impl Refusing {
    fn refuse<T>(&self, what: &str) -> Result<T, Failure> {
        self.0.borrow_mut().push(what.to_owned());
        Err(Failure::refused(what))
    }
}

impl Handlers for Refusing {
    fn run(&self, config: Config, _: Keys) -> Result<(), Failure> {
        self.refuse(&format!("run {}", config.roles))
    }
    fn measure(
        &self,
        args: &MeasureArgs,
        _: Keys,
        _: &dyn Progress,
    ) -> Result<MeasureResult, Failure> {
        self.refuse(&format!("measure {}", args.claim))
    }
    fn verify(&self, bundle: &[u8], against: &Against) -> Result<VerifyResult, Failure> {
        let with = if against.is_nothing() {
            ""
        } else {
            " and compare"
        };
        self.refuse(&format!("verify {} bytes{with}", bundle.len()))
    }
    fn export(&self, bundle: &[u8], format: Format) -> Result<serde_json::Value, Failure> {
        self.refuse(&format!("export {} bytes {format:?}", bundle.len()))
    }
    fn examine(&self, evidence: &[u8]) -> Result<EvidenceView, Failure> {
        self.refuse(&format!("examine {} bytes", evidence.len()))
    }
    fn dispute_make(
        &self,
        _: &AskArgs,
        request: &[u8; 32],
        accused: &Address,
        bundle: Option<Vec<u8>>,
        _: &Path,
    ) -> Result<EvidenceView, Failure> {
        let (request, accused) = (request[31], accused.0[19]);
        self.refuse(&format!("make {request} {accused} {bundle:?}"))
    }
    fn dispute_submit(
        &self,
        _: &AskArgs,
        _: Keys,
        evidence: &[u8],
        source: &str,
        _: &(dyn Fn(&str) + Sync),
    ) -> Result<Submitted, Failure> {
        self.refuse(&format!("submit {} bytes, {source:?}", evidence.len()))
    }
    fn dispute_show(&self, _: &AskArgs, id: &[u8; 32]) -> Result<DisputeView, Failure> {
        self.refuse(&format!("show {}", id[31]))
    }
    fn dispute_judge(&self, _: &AskArgs, _: Keys, id: &[u8; 32]) -> Result<Done, Failure> {
        self.refuse(&format!("judge {}", id[31]))
    }
    fn dispute_advance(&self, _: &AskArgs, _: Keys, id: &[u8; 32]) -> Result<Done, Failure> {
        self.refuse(&format!("advance {}", id[31]))
    }
    fn stake(&self, _: &AskArgs, _: Keys, work: StakeWork) -> Result<Done, Failure> {
        self.refuse(&format!("stake {work:?}"))
    }
    fn chain_status(&self, ask: &AskArgs) -> Result<ChainStatus, Failure> {
        self.refuse(&format!("status {}", ask.coordinator))
    }
    fn chain_participants(&self, _: &AskArgs) -> Result<Participants, Failure> {
        self.refuse("participants")
    }
    fn chain_request(&self, _: &AskArgs, id: &[u8; 32]) -> Result<RequestView, Failure> {
        self.refuse(&format!("request {}", id[31]))
    }
    fn chain_draw(&self, _: &AskArgs, id: &[u8; 32]) -> Result<Draw, Failure> {
        self.refuse(&format!("draw {}", id[31]))
    }
    fn chain_balance(&self, _: &AskArgs, address: &Address) -> Result<Balance, Failure> {
        self.refuse(&format!("balance {}", address.0[19]))
    }
    fn chain_withdraw(&self, _: &AskArgs, _: Keys) -> Result<Receipt, Failure> {
        self.refuse("withdraw")
    }
    fn chain_faucet(&self, _: &AskArgs, _: Keys, amount: u128) -> Result<Receipt, Failure> {
        self.refuse(&format!("faucet {amount}"))
    }
    fn chain_deploy(&self, args: &DeployArgs, _: Keys) -> Result<DeploymentView, Failure> {
        self.refuse(&format!("deploy {} {:?}", args.rpc, args.parameters()?))
    }
    fn chain_pin(&self, args: &PinArgs) -> Result<PinView, Failure> {
        self.refuse(&format!("pin {:?} {:?}", args.url, args.rpc))
    }
    fn chain_verify(&self, directory: &Path) -> Result<ChainReplay, Failure> {
        self.refuse(&format!("replay {}", directory.display()))
    }
    fn chain_copy(&self, work: &CopyWork<'_>, _: &dyn Progress) -> Result<ChainReplay, Failure> {
        self.refuse(&match *work {
            CopyWork::Backup(a, b) => format!("backup {} {}", a.display(), b.display()),
            CopyWork::Restore(a, b) => format!("restore {} {}", a.display(), b.display()),
            CopyWork::Export(a, b) => format!("export {} {}", a.display(), b.display()),
            CopyWork::Import(a, b) => format!("import {} {}", a.display(), b.display()),
            CopyWork::Follow(a, b, c) => format!("follow {a} {} {c:?}", b.display()),
        })
    }
}

fn ask(line: &str) -> (Exit, Vec<String>) {
    let handlers = Refusing::default();
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let exit = execute(cli, &handlers);
    (exit, handlers.0.into_inner())
}

#[test]
fn each_command_reaches_its_handler_with_what_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    Keys::create(&dir.path().join("k")).unwrap();
    std::fs::write(at("b"), b"12345").unwrap();
    std::fs::write(at("c.toml"), "roles = [\"coordinator\"]\nkey = \"k\"\n").unwrap();
    let (key, id, address) = (
        at("k"),
        format!("0x{}07", "00".repeat(31)),
        format!("0x{}09", "00".repeat(19)),
    );
    let url = "--coordinator http://a:1/";
    for (line, want) in [
        (
            format!("plumbline run --config {}", at("c.toml")),
            "run coordinator",
        ),
        (
            format!("plumbline measure {url} --key {key} --prover {address} --claim 1500mbit"),
            "measure 1500mbit",
        ),
        (format!("plumbline verify {}", at("b")), "verify 5 bytes"),
        (
            format!(
                "plumbline verify {} --expect-prover 0x{}",
                at("b"),
                "01".repeat(20)
            ),
            "verify 5 bytes and compare",
        ),
        (
            format!("plumbline export {} --format tr471", at("b")),
            "export 5 bytes Tr471",
        ),
        (
            format!(
                "plumbline dispute make {id} {url} --accused {address} --out {}",
                at("new")
            ),
            "make 7 9 None",
        ),
        (
            format!(
                "plumbline dispute submit {} {url} --key {key} --source http://b/e",
                at("b")
            ),
            "submit 5 bytes, \"http://b/e\"",
        ),
        (format!("plumbline dispute show {id} {url}"), "show 7"),
        (
            format!("plumbline dispute judge {id} {url} --key {key}"),
            "judge 7",
        ),
        (
            format!("plumbline dispute advance {id} {url} --key {key}"),
            "advance 7",
        ),
        (
            format!("plumbline stake add 5 {url} --key {key}"),
            "stake Add(5)",
        ),
        (
            format!("plumbline stake leave {url} --key {key}"),
            "stake Leave",
        ),
        (
            format!("plumbline stake reclaim {url} --key {key}"),
            "stake Reclaim",
        ),
        (format!("plumbline chain status {url}"), "status http://a:1"),
        (
            format!("plumbline chain participants {url} --json"),
            "participants",
        ),
        (format!("plumbline chain request {id} {url}"), "request 7"),
        (format!("plumbline chain draw {id} {url}"), "draw 7"),
        (
            format!("plumbline chain balance {address} {url}"),
            "balance 9",
        ),
        (
            format!("plumbline chain withdraw {url} --key {key}"),
            "withdraw",
        ),
        (
            format!("plumbline chain faucet {url} --key {key} --amount 12"),
            "faucet 12",
        ),
        ("plumbline chain backup /a /b".to_owned(), "backup /a /b"),
        (
            "plumbline chain restore /a /b --json".to_owned(),
            "restore /a /b",
        ),
        ("plumbline chain export /a /b".to_owned(), "export /a /b"),
        ("plumbline chain import /a /b".to_owned(), "import /a /b"),
        (
            "plumbline chain follow http://a:1/ /b --until 7".to_owned(),
            "follow http://a:1 /b Some(Height(7))",
        ),
        (
            "plumbline chain follow http://a:1/ /b --until latest".to_owned(),
            "follow http://a:1 /b Some(Latest)",
        ),
        (
            "plumbline chain verify /some/dir".to_owned(),
            "replay /some/dir",
        ),
    ] {
        assert_eq!(ask(&line), (Exit::Refused, vec![want.to_owned()]), "{line}");
    }
}

#[test]
fn what_is_wrong_is_found_before_the_handler_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("bad.toml"), "roles = []\n").unwrap();
    std::fs::write(
        at("nokey.toml"),
        "roles = [\"coordinator\"]\nkey = \"none\"\n",
    )
    .unwrap();
    let address = format!("0x{}", "00".repeat(20));
    let measure =
        format!("plumbline measure --coordinator http://a:1 --prover {address} --claim 1gbit");
    for line in [
        format!("plumbline run --config {}", at("bad.toml")),
        format!("plumbline run --config {}", at("nokey.toml")),
        format!("plumbline run --config {}", at("none.toml")),
        format!("{measure} --key {}", at("none")),
        format!("{measure} --key {} --challengers 3", at("none")),
        format!("plumbline verify {}", at("none")),
        format!("plumbline key show {}", at("none")),
    ] {
        assert_eq!(ask(&line), (Exit::Usage, vec![]), "{line}");
    }
}

#[test]
fn check_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    Keys::create(&dir.path().join("k")).unwrap();
    let config = dir.path().join("c.toml");
    std::fs::write(&config, "roles = [\"coordinator\"]\nkey = \"k\"\n").unwrap();
    assert_eq!(
        ask(&format!(
            "plumbline run --check --config {}",
            config.display()
        )),
        (Exit::Ok, vec![])
    );
}

#[test]
fn every_command_has_its_page_with_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man/man1");
    assert_eq!(
        ask(&format!("plumbline man {}", pages.display())).0,
        Exit::Ok
    );
    let mut names: Vec<String> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "plumbline-chain-backup.1",
            "plumbline-chain-balance.1",
            "plumbline-chain-deploy.1",
            "plumbline-chain-draw.1",
            "plumbline-chain-export.1",
            "plumbline-chain-faucet.1",
            "plumbline-chain-follow.1",
            "plumbline-chain-import.1",
            "plumbline-chain-participants.1",
            "plumbline-chain-pin.1",
            "plumbline-chain-request.1",
            "plumbline-chain-restore.1",
            "plumbline-chain-status.1",
            "plumbline-chain-verify.1",
            "plumbline-chain-withdraw.1",
            "plumbline-chain.1",
            "plumbline-completions.1",
            "plumbline-dispute-advance.1",
            "plumbline-dispute-judge.1",
            "plumbline-dispute-make.1",
            "plumbline-dispute-show.1",
            "plumbline-dispute-submit.1",
            "plumbline-dispute.1",
            "plumbline-export.1",
            "plumbline-key-new.1",
            "plumbline-key-show.1",
            "plumbline-key.1",
            "plumbline-man.1",
            "plumbline-measure.1",
            "plumbline-run.1",
            "plumbline-stake-add.1",
            "plumbline-stake-leave.1",
            "plumbline-stake-reclaim.1",
            "plumbline-stake.1",
            "plumbline-verify.1",
            "plumbline.1",
        ]
    );
    for name in names {
        let text = std::fs::read_to_string(pages.join(&name)).unwrap();
        let title = name.trim_end_matches(".1");
        assert!(text.contains(&format!(".TH {title} 1")), "{name}");
        for exit in Exit::ALL {
            assert!(
                text.contains(&format!("\\fB{}\\fR\n{}", exit.code(), exit.meaning())),
                "{name}"
            );
        }
    }
    assert_eq!(ask("plumbline man /proc/no/such").0, Exit::Usage);
}
