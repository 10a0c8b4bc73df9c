//! The configuration's promises: all mistakes at once, both sides of each bound, and files that match
//! the schema.

use super::*;

const PROVER: &str = r#"
roles = ["prover"]
key = "p.key"
[node]
coordinator = "http://10.77.0.2:7300"
deployment = "pin.json"
[prover]
interface = "eth0"
address = "10.77.9.2"
"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(Path::new("/etc/plumbline/x.toml"), text)
}

fn mistakes(text: &str) -> Vec<Mistake> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.mistakes().to_vec(),
    }
}

/// Keys that are wrong, in order.
fn wrong(text: &str) -> Vec<String> {
    mistakes(text).into_iter().map(|m| m.key).collect()
}

fn configs() -> PathBuf {
    // Beside `appliance/`, wherever the tests were built.
    let mut dir = Path::new(file!())
        .canonicalize()
        .unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests.rs"));
    while !dir.join("configs/default.toml").is_file() {
        assert!(
            dir.pop(),
            "configs/default.toml not found above {}",
            file!()
        );
    }
    dir.join("configs")
}

#[test]
fn a_small_prover_file_is_complete() {
    let config = parse(PROVER).unwrap();
    assert_eq!(config.key, Path::new("/etc/plumbline/p.key"));
    assert_eq!(config.state_dir, Path::new("/etc/plumbline/state"));
    assert!(config.coordinator.is_none() && config.challenger.is_none());
    let prover = config.prover.unwrap();
    assert_eq!(
        (prover.data_port, prover.maximum),
        (7301, Rate(10_000_000_000))
    );
    assert_eq!((prover.queues, prover.cores), (vec![0], vec![]));
    let node = config.node.unwrap();
    assert_eq!((node.stake, node.operator), (1_000_000, None));
    assert_eq!(node.coordinator.as_str(), "http://10.77.0.2:7300");
    assert_eq!(node.coordinator.host(), "10.77.0.2");
    let pinned = format!("https://[2001:db8::1]:7300#sha256={}", "0".repeat(64));
    assert_eq!(
        pinned.parse::<CoordinatorUrl>().unwrap().host(),
        "2001:db8::1"
    );
    let pin = Path::new("/etc/plumbline/pin.json");
    assert_eq!((node.deployment.as_deref(), node.follow), (Some(pin), true));
}

#[test]
fn the_contract_example_of_all_roles_loads() {
    let text = r#"
        roles = ["coordinator", "prover", "challenger"]
        key = "/keys/all.key"
        state_dir = "/var/lib/all"
        log.level = "debug"
        coordinator = { listen = "[::1]:7300" }
        chain = { min_stake = 1000, dispute_window = "2s" }
        [node]
        coordinator = "http://[::1]:7300/"
        operator = "isp-a"
        [prover]
        interface = "eth0"
        address = "10.0.0.1"
        maximum = "2500mbit"
        queues = [2, 3]
        cores = [1]
        [challenger]
        address = "10.0.0.1"
    "#;
    let config = parse(text).unwrap();
    assert_eq!(config.roles.to_string(), "coordinator+prover+challenger");
    assert_eq!(config.key, Path::new("/keys/all.key"));
    assert_eq!(
        config.node.unwrap().coordinator.as_str(),
        "http://[::1]:7300"
    );
    let prover = config.prover.unwrap();
    assert_eq!((prover.queues, prover.cores), (vec![2, 3], vec![1]));
    assert_eq!(
        config
            .coordinator
            .unwrap()
            .chain
            .parameters
            .dispute_window_s,
        2
    );
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let text = r#"roles = ["prover", "juggler"]
stat_dir = "state"
[log]
level = "loud"
[prover]
interface = "a-name-that-is-far-too-long"
address = "0.0.0.0"
data_port = 0
control_port = "7302"
maximun = "1gbit"
queues = [-1]
[chian]
engine = "embedded"
[chain]
block_interval = "5 parsecs"
listen = "10.0.0.1:1"
"#;
    let found = mistakes(text);
    let places: Vec<(Option<usize>, &str)> =
        found.iter().map(|m| (m.line, m.key.as_str())).collect();
    assert_eq!(
        places,
        [
            (Some(1), "key"),
            (Some(1), "roles"),
            (Some(2), "stat_dir"),
            (Some(4), "log.level"),
            (Some(6), "prover.interface"),
            (Some(7), "prover.address"),
            (Some(8), "prover.data_port"),
            (Some(9), "prover.control_port"),
            (Some(10), "prover.maximun"),
            (Some(11), "prover.queues"),
            (Some(12), "chian"),
            (Some(15), "chain.block_interval"),
            (Some(16), "chain.listen"),
        ]
    );
    let shown = parse(text).unwrap_err().to_string();
    for words in [
        "x.toml: 13 mistakes, nothing was started",
        "did you mean `state_dir`?",
        "did you mean `prover.maximum`?",
        "did you mean [chain]?",
        "did you mean `coordinator.listen`?",
        "/etc/plumbline/x.toml:15: chain.block_interval = \"5 parsecs\": `5 parsecs` is not a duration",
        "allowed: a duration from 10ms to 1m, as a string such as \"10ms\"",
        "prover.control_port = \"7302\": wrong type: expected an integer, found a string; allowed: an integer from 1 to 65535",
        "  8 | data_port = 0\n    |             ^",
        "unknown role \"juggler\"",
        "key: missing;",
    ] {
        assert!(shown.contains(words), "{words:?} is not in:\n{shown}");
    }
}

#[test]
fn what_a_role_needs_is_missed_only_by_that_role() {
    let head = "key = \"k\"\n";
    assert_eq!(wrong(&format!("{head}roles = [\"coordinator\"]")), [""; 0]);
    assert_eq!(
        wrong(&format!("{head}roles = [\"prover\"]")),
        ["node.coordinator", "prover.interface", "prover.address"]
    );
    assert_eq!(
        wrong(&format!("{head}roles = [\"challenger\"]")),
        ["node.coordinator", "challenger.address"]
    );
    assert_eq!(wrong(""), ["roles", "key"]);
    assert_eq!(wrong(&format!("{head}roles = []")), ["roles"]);
    assert_eq!(
        wrong(&format!("{head}roles = [\"prover\", \"prover\"]")),
        ["roles"]
    );
}

#[test]
fn a_section_nobody_needs_is_checked_all_the_same() {
    let text = "roles = [\"coordinator\"]\nkey = \"k\"\n[prover]\nqueues = [64]\n";
    assert_eq!(wrong(text), ["prover.queues"]);
}

#[test]
fn both_sides_of_each_bound() {
    let coordinator = "roles = [\"coordinator\"]\nkey = \"k\"\n";
    let cases = [
        ("chain", "block_interval", "\"10ms\"", "\"9ms\""),
        ("chain", "block_interval", "\"1m\"", "\"60001ms\""),
        ("chain", "dispute_window", "\"1s\"", "\"999ms\""),
        ("chain", "dispute_window", "\"2s\"", "\"1500ms\""),
        ("chain", "live_interval", "\"24h\"", "\"86401s\""),
        ("chain", "chain_id", "1", "0"),
        ("chain", "chain_id", "9007199254740991", "9007199254740992"),
        (
            "chain",
            "min_stake",
            "\"340282366920938463463374607431768211455\"",
            "\"340282366920938463463374607431768211456\"",
        ),
        ("chain", "seed_bond", "\"0\"", "\"-1\""),
        ("chain", "seed_answer", "\"1s\"", "\"999ms\""),
        ("chain", "seed_answer", "\"24h\"", "\"86401s\""),
        ("chain", "coordinator_fee", "0", "-1"),
        ("chain", "draw_operators", "1", "0"),
        ("chain", "draw_operators", "32", "33"),
        ("chain", "jury_size", "1", "0"),
        ("chain", "jury_size", "63", "64"),
        ("chain", "offence_percent", "100", "101"),
        ("chain", "reporter_percent", "0", "-1"),
        ("chain", "jury_draw", "\"1s\"", "\"999ms\""),
        ("chain", "jury_commit", "\"1s\"", "\"1500ms\""),
        ("chain", "jury_reveal", "\"1h\"", "\"721h\""),
        ("chain", "notice", "\"1s\"", "\"0s\""),
        ("chain", "dispute_bond", "\"0\"", "\"x\""),
        // The defaults of window, jury and answers come to 5461 s.
        ("chain", "unbonding", "\"5462s\"", "\"5461s\""),
        ("chain", "unbonding", "\"8760h\"", "\"8761h\""),
        ("chain", "lab_token", "false", "\"false\""),
        ("chain", "engine", "\"embedded\"", "\"remote\""),
        ("chain", "finality", "0", "-1"),
        ("chain", "finality", "10000", "10001"),
        ("chain", "finality", "\"finalized\"", "\"safe\""),
        ("chain", "rpc", "[\"http://a:1\"]", "[]"),
        ("chain", "rpc", "[\"https://a:1\"]", "[\"ftp://a:1\"]"),
        (
            "chain",
            "rpc",
            "[\"https://a/v2/key\"]",
            "[\"https://a#1\"]",
        ),
        (
            "chain",
            "rpc",
            "[\"http://a:1\", \"http://a:2\"]",
            "[\"http://a:1\", \"http://a:1\"]",
        ),
        ("chain", "deployment", "\"d.json\"", "\"\""),
        ("coordinator", "listen", "\"10.0.0.1:1\"", "\"10.0.0.1:0\""),
        (
            "coordinator",
            "listen",
            "\"10.0.0.1:65535\"",
            "\"10.0.0.1:65536\"",
        ),
        ("coordinator", "listen", "\"[::]:80\"", "\"localhost:80\""),
        ("node", "heartbeat", "\"100ms\"", "\"99ms\""),
        (
            "node",
            "operator",
            "\"12345678901234567890123456789012\"",
            "\"123456789012345678901234567890123\"",
        ),
        ("node", "operator", "\"isp a\"", "\"isp-ä\""),
        (
            "node",
            "coordinator",
            "\"http://example:7300/\"",
            "\"http://example:7300/v1\"",
        ),
        (
            "node",
            "coordinator",
            "\"https://[::1]:1\"",
            "\"ws://[::1]:1\"",
        ),
        ("node", "coordinator", "\"http://a:65535\"", "\"http://a\""),
        ("node", "coordinator", "\"http://a:1\"", "\"http://a:0\""),
        ("prover", "data_port", "65535", "65536"),
        ("prover", "maximum", "1", "0"),
        ("prover", "maximum", "\"1.5gbit\"", "1.5"),
        ("prover", "queues", "[0, 63]", "[0, 64]"),
        ("prover", "queues", "[0]", "[]"),
        ("prover", "queues", "[1, 0]", "[1, 1]"),
        ("prover", "queues", "[7]", "7"),
        ("prover", "cores", "[0]", "[-1]"),
        ("prover", "cores", "[]", "[0, 0]"),
        ("prover", "path", "\"socket\"", "\"Socket\""),
        (
            "prover",
            "interface",
            "\"fifteen-letters\"",
            "\"sixteen-letters!\"",
        ),
        ("prover", "address", "\"2001:db8::1\"", "\"ff02::1\""),
        ("prover", "address", "\"10.0.0.1\"", "\"10.0.0.1/24\""),
        (
            "challenger",
            "address",
            "\"10.0.0.1\"",
            "\"255.255.255.255\"",
        ),
        ("challenger", "data_port", "1", "0"),
        ("challenger", "max_rate", "1", "0"),
        ("challenger", "max_bytes", "\"1.5gb\"", "1.5"),
        ("challenger", "max_memory", "1", "0"),
        ("challenger", "max_memory", "\"64mb\"", "\"64gbit\""),
    ];
    for (section, key, inside, outside) in cases {
        let of = |value: &str| wrong(&format!("{coordinator}[{section}]\n{key} = {value}\n"));
        // Not empty: a minute between blocks rightly contradicts the default live_interval.
        assert!(
            !of(inside).contains(&format!("{section}.{key}")),
            "{section}.{key} = {inside}"
        );
        assert_eq!(
            of(outside),
            [format!("{section}.{key}")],
            "{section}.{key} = {outside}"
        );
    }
}

#[test]
fn the_engine_is_one_word_and_says_what_it_misses() {
    let file = |engine: &str, more: &str| {
        format!("roles = [\"coordinator\"]\nkey = \"k\"\n[chain]\nengine = \"{engine}\"\n{more}")
    };
    let engine = |text: &str| parse(text).unwrap().coordinator.unwrap().chain.engine;
    assert_eq!(wrong(&file("rpc", "")), ["chain.rpc", "chain.deployment"]);
    let more = "rpc = [\"http://a:1\", \"http://b:1\"]\ndeployment = \"d.json\"\nfinality = 3\n";
    assert_eq!(engine(&file("embedded", more)), Engine::Embedded);
    let Engine::Rpc(rpc) = engine(&file("rpc", more)) else {
        panic!("the word decides");
    };
    assert_eq!(rpc.endpoints, ["http://a:1", "http://b:1"]);
    assert_eq!(rpc.finality, Finality::Depth(3));
    assert!(rpc.deployment.ends_with("d.json"));
    // Who does not coordinate needs no chain.
    let text = file("rpc", "").replace("coordinator", "challenger");
    let text = text
        + "[node]\ncoordinator = \"http://127.0.0.1:1\"\n[challenger]\naddress = \"10.0.0.1\"\n";
    assert!(parse(&text).is_ok());
}

#[test]
fn a_node_needs_a_pin_or_says_that_it_does_without() {
    let pin = "deployment = \"pin.json\"\n";
    let bare = PROVER.replace(pin, "");
    assert_eq!(wrong(&bare), ["node.deployment"]);
    let told = mistakes(&bare).remove(0);
    for word in [
        "http://10.77.0.2:7300 alone",
        "chain pin",
        "trust_coordinator = true",
    ] {
        assert!(
            told.to_string().contains(word),
            "{word:?} is not in: {told}"
        );
    }
    let trusting = PROVER.replace(pin, "trust_coordinator = true\n");
    assert!(parse(&trusting).is_ok());
    for (host, is_near) in [
        ("127.0.0.1", true),
        ("127.9.9.9", true),
        ("[::1]", true),
        ("localhost", true),
        ("128.0.0.1", false),
        ("localhost.example.org", false),
        ("[::2]", false),
    ] {
        assert_eq!(
            parse(&bare.replace("10.77.0.2", host)).is_ok(),
            is_near,
            "{host}"
        );
    }
    // Own nodes without anything to hold them against.
    let rpc = trusting.replace("[prover]", "rpc = [\"http://a:1\"]\n[prover]");
    assert_eq!(wrong(&rpc), ["node.rpc"]);
    let both = PROVER.replace(pin, &format!("{pin}rpc = [\"http://a:1\"]\nfinality = 3\n"));
    let node = parse(&both).unwrap().node.unwrap();
    assert_eq!(
        (node.rpc, node.finality),
        (vec!["http://a:1".to_owned()], Finality::Depth(3))
    );
}

#[test]
fn contradictions_name_both_sides() {
    let both = r#"
roles = ["coordinator", "prover", "challenger"]
key = "k"
[chain]
block_interval = "2s"
live_interval = "1s"
min_stake = "1000"
lab_token = false
[node]
coordinator = "http://a:1"
deployment = "pin.json"
stake = "1099"
heartbeat = "501ms"
[prover]
interface = "eth0"
address = "10.0.0.1"
control_port = 7301
path = "socket"
busy_poll = true
[challenger]
address = "10.0.0.1"
data_port = 7301
"#;
    let mut found = wrong(both);
    found.dedup();
    assert_eq!(
        found,
        [
            "chain.live_interval",
            "node.faucet",
            "node.stake",
            "node.heartbeat",
            "prover.control_port",
            "prover.busy_poll",
            "challenger.data_port",
        ]
    );
    let mended = both
        .replace("live_interval = \"1s\"", "live_interval = \"2s\"")
        .replace("stake = \"1099\"", "stake = \"1100\"\nfaucet = false")
        .replace("control_port = 7301\n", "")
        .replace("busy_poll = true", "busy_poll = false")
        .replace("data_port = 7301", "data_port = 7303");
    assert_eq!(wrong(&mended), [""; 0]);
    // A challenger's bond is no prover's.
    let alone = mended
        .replace(", \"challenger\"", "")
        .replace("stake = \"1100\"", "stake = \"1000\"");
    let alone = alone.split("[challenger]").next().unwrap();
    assert_eq!(wrong(alone), [""; 0]);
    assert_eq!(
        wrong(&alone.replace("\"1000\"\nfaucet", "\"999\"\nfaucet")),
        ["node.stake"]
    );
    let apart = both.replace(
        "[challenger]\naddress = \"10.0.0.1\"",
        "[challenger]\naddress = \"10.0.0.2\"",
    );
    assert!(!wrong(&apart).contains(&"challenger.data_port".to_owned()));
}

#[test]
fn syntax_mistakes_come_together_with_the_others() {
    let text = "roles = [\"coordinator\"]\nkey = \n[chain]\nchain_id = 0\nchain_id = 5\n[log\nlevel = \"x\"\n";
    let found = mistakes(text);
    assert!(
        found
            .iter()
            .filter(|m| m.what.starts_with("not TOML"))
            .count()
            >= 2,
        "{found:?}"
    );
    assert!(found.iter().any(|m| m.key == "chain.chain_id"), "{found:?}");
    assert!(
        found.iter().all(|m| !m.what.starts_with("missing")),
        "{found:?}"
    );
}

#[test]
fn a_value_that_is_no_section_and_a_section_that_is_no_value() {
    assert_eq!(
        wrong("roles = [\"coordinator\"]\nkey = \"k\"\nchain = 5\n"),
        ["chain"]
    );
    assert_eq!(wrong("roles = [\"coordinator\"]\n[key]\na = 1\n"), ["key"]);
    assert_eq!(
        wrong("roles = [\"coordinator\"]\nkey = \"k\"\nlog = \"info\"\n"),
        ["log"]
    );
}

#[test]
fn an_unreadable_file_is_named() {
    let error = Config::load(Path::new("/nowhere/x.toml")).unwrap_err();
    assert!(matches!(error, ConfigErrors::Unreadable { .. }));
    assert!(error.to_string().contains("/nowhere/x.toml"), "{error}");
}

#[test]
fn default_toml_names_every_key_with_its_default() {
    let path = configs().join("default.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let root = toml::de::DeTable::parse(&text).unwrap();
    let mut named = Vec::new();
    for (section, value) in root.get_ref() {
        let section = section.get_ref().to_string();
        match value.get_ref().as_table() {
            Some(table) => {
                named.extend(table.iter().map(|(k, v)| {
                    (
                        format!("{section}.{}", k.get_ref()),
                        text[v.span()].to_owned(),
                    )
                }));
            }
            None => named.push((section, text[value.span()].to_owned())),
        }
    }
    for known in Config::schema() {
        let found = named
            .iter()
            .find(|(key, _)| key == known.path)
            .map(|(_, value)| value.as_str());
        assert_eq!(found, known.default, "{} in {}", known.path, path.display());
        if known.default.is_none() {
            assert!(
                commented(&text, known.path),
                "{} has no commented example in default.toml",
                known.path
            );
        }
    }
    assert_eq!(
        named.len(),
        Config::schema()
            .iter()
            .filter(|k| k.default.is_some())
            .count()
    );
    // Each line of it, examples included, is a value the schema accepts.
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code) if is_assignment(code) => format!("{code}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let everything = uncommented.replace(
        "roles = [\"coordinator\"]",
        "roles = [\"coordinator\", \"prover\", \"challenger\"]",
    );
    assert_eq!(
        Config::parse(&path, &everything)
            .map(|_| ())
            .map_err(|e| e.to_string()),
        Ok(())
    );
}

/// `name = …` with nothing but a bare key before the sign.
fn is_assignment(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

/// Whether `# key = …` stands in the right section.
fn commented(text: &str, path: &str) -> bool {
    let (section, key) = path.split_once('.').unwrap_or(("", path));
    let mut here = "";
    text.lines().any(|line| {
        if let Some(name) = line.strip_prefix('[') {
            here = name.trim_end_matches(']');
        }
        here == section && line.starts_with(&format!("# {key} = "))
    })
}

#[test]
fn every_overlay_loads_and_is_short() {
    for role in Role::ALL {
        let path = configs().join(format!("{}.toml", role.name()));
        let config = Config::load(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.roles.to_string(), role.name());
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 20, "{} has {lines} lines", path.display());
    }
}
