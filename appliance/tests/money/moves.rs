//! What the actors do: mostly what makes sense now, sometimes not.

use alloy::primitives::aliases::U208;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::SolValue;
use plumbline::chain::client::{Offence, role, vote_hash};
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::backhaul::IBackhaul::{
    Request, SignedCommit, SignedReport, Submission, Timing as Posted,
};
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::bonds::Bonds;
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::parameters::Parameters as Variables;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::registry::Registry;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::deploy::short;
use plumbline_contracts::{
    Ruling, State, Timing, begin_digest, commit_digest, counts_hash, domain, report_digest,
};

use crate::book::Asked;
use crate::rules;
use crate::stage::{Actor, Named, PURSE, START, Stage, named};

/// Everyone: who governs, who asks, who measures, who judges, who tells, and who has no business here.
pub(crate) fn cast() -> Vec<u32> {
    let both = role::CHALLENGER | role::JUROR;
    let mut cast = vec![0, 0];
    cast.extend([role::PAYER; 3]);
    cast.extend([role::PROVER; 2]);
    cast.extend([role::COORDINATOR; 2]);
    cast.extend([role::CHALLENGER; 6]);
    cast.extend([both; 2]);
    cast.extend([role::JUROR; 7]);
    cast.extend([0; 3]);
    cast
}

/// Evidence that somebody announced and will show.
#[derive(Clone)]
pub(crate) enum Secret {
    Judged(Disputes::disputeCall),
    Alone(Disputes::proveCall),
}

/// What the actors know between blocks.
#[derive(Default)]
pub(crate) struct Plans {
    /// Requests of the script.
    pub(crate) asked: u64,
    secrets: Vec<(Address, Secret)>,
    last: Option<Named>,
    /// Whether modules may be retired by now.
    pub(crate) late: bool,
}

type Made = Option<Named>;

fn any(s: &mut Stage) -> Address {
    s.chance.pick(&s.actors).unwrap().address()
}

fn of(s: &mut Stage, roles: u32) -> Address {
    let list: Vec<Address> = s
        .actors
        .iter()
        .filter(|a| a.roles & roles != 0)
        .map(Actor::address)
        .collect();
    *s.chance.pick(&list).unwrap()
}

fn actor(s: &Stage, address: Address) -> Option<&Actor> {
    s.actors.iter().find(|a| a.address() == address)
}

/// One of the measurements in one of `states`.
fn measured(s: &mut Stage, states: &[State]) -> Option<B256> {
    let ids: Vec<B256> = s
        .book
        .measured
        .iter()
        .filter(|(_, m)| states.contains(&m.state))
        .map(|(id, _)| *id)
        .collect();
    s.chance.pick(&ids).copied()
}

fn case(s: &mut Stage, wanted: impl Fn(&crate::book::Case) -> bool) -> Option<B256> {
    let ids: Vec<B256> = s
        .book
        .cases
        .iter()
        .filter(|(_, c)| c.ruling.is_none() && wanted(c))
        .map(|(id, _)| *id)
        .collect();
    s.chance.pick(&ids).copied()
}

fn word(s: &mut Stage) -> B256 {
    keccak256(s.chance.next().to_be_bytes())
}

/// The next move, and now and then one that is wrong.
pub(crate) fn next(s: &mut Stage, plans: &mut Plans) -> Named {
    let made = loop {
        let kind = s.chance.below(100);
        let made = match kind {
            0..=23 => measure(s),
            24..=29 => ask(s),
            30..=54 => judge(s),
            55..=66 => accuse(s, plans),
            67..=81 => heartbeat(s),
            82..=89 => take_part(s),
            90..=92 => money(s),
            93..=95 => govern(s, plans),
            96..=97 => trespass(s),
            _ => plans.last.clone(),
        };
        if let Some(made) = made {
            break made;
        }
    };
    let made = spoil(s, made);
    plans.last = Some(made.clone());
    made
}

/// Now and then another sender, or a bent byte in what only the protocol reads.
fn spoil(s: &mut Stage, mut made: Named) -> Named {
    match s.chance.below(100) {
        0..=3 => made.one.from = any(s),
        4..=6
            if ["Backhaul", "Bonds", "Jury.", "Disputes", "Beacon"]
                .iter()
                .any(|p| made.name.starts_with(p)) =>
        {
            let mut bytes = made.one.input.to_vec();
            let place = 4 + s.chance.below(bytes.len() as u64 - 4) as usize;
            bytes[place] ^= 1 << s.chance.below(8);
            made.one.input = bytes.into();
            made.bent = true;
        }
        _ => {}
    }
    made
}

fn measure(s: &mut Stage) -> Made {
    let to = s.d.backhaul;
    let from = any(s);
    let wrong = s.chance.percent(5).then(|| word(s));
    match s.chance.below(20) {
        0..=4 => {
            let asked = request(s);
            let payer = asked.payer;
            let call = Backhaul::requestCall {
                asked: asked.clone(),
                last: wrong.unwrap_or_else(|| s.read(to, &Backhaul::lastOfCall { payer })),
            };
            Some(named("Backhaul.request", asked.payer, to, &call))
        }
        5..=7 => {
            let id = wrong.or_else(|| measured(s, &[State::Created]))?;
            Some(named(
                "Backhaul.select",
                from,
                to,
                &Backhaul::selectCall { id },
            ))
        }
        8..=10 => {
            let id = measured(s, &[State::Selected])?;
            let from = s.book.measured[&id].asked.coordinator;
            let setupHash = word(s);
            let call = Backhaul::beginCall { id, setupHash };
            Some(named("Backhaul.begin", from, to, &call))
        }
        11..=14 => {
            let id = measured(s, &[State::Running])?;
            let from = s.book.measured[&id].asked.coordinator;
            let posted = submission(s, id)?;
            let call = Backhaul::reportCall { id, posted };
            Some(named("Backhaul.report", from, to, &call))
        }
        15..=17 => {
            let id = wrong.or_else(|| measured(s, &[State::Reported, State::Disputed]))?;
            Some(named(
                "Backhaul.finalize",
                from,
                to,
                &Backhaul::finalizeCall { id },
            ))
        }
        _ => {
            let open = [State::Created, State::Selected, State::Running];
            let id = wrong.or_else(|| measured(s, &open))?;
            Some(named(
                "Backhaul.timeout",
                from,
                to,
                &Backhaul::timeoutCall { id },
            ))
        }
    }
}

/// Somebody's seed is asked for, given, or its bond taken.
fn ask(s: &mut Stage) -> Made {
    let to = s.d.bonds;
    let from = any(s);
    let open = |s: &mut Stage| {
        let open = s.book.asked.iter().filter(|(_, asked)| !asked.over);
        let open: Vec<(B256, u16)> = open.map(|(place, _)| *place).collect();
        s.chance.pick(&open).copied()
    };
    Some(match s.chance.below(3) {
        0 => {
            let missing = missing(s);
            let picked = s.chance.pick(&missing).copied();
            let (id, index) = match picked.filter(|_| s.chance.percent(80)) {
                Some(place) => place,
                None => (
                    measured(s, &[State::Running, State::Final])?,
                    s.chance.below(4) as u16,
                ),
            };
            let from = s.book.measured[&id].asked.coordinator;
            name(s, from, id, index)?
        }
        1 => {
            let (id, index) = open(s)?;
            give(s, from, id, index)
        }
        _ => {
            let (id, index) = open(s)?;
            let call = Bonds::forfeitCall { id, index };
            named("Bonds.forfeit", from, to, &call)
        }
    })
}

/// Those that can be named now: of what is over, and not for long, whose reports are not on record.
fn missing(s: &Stage) -> Vec<(B256, u16)> {
    let answer: u64 = s.book.variable("seed_answer_s", s.now).to();
    let mut list = Vec::new();
    for (id, m) in &s.book.measured {
        let (end, shares) = match &m.posted {
            Some(posted) => (m.reported_at, rules::shares(&s.d, *id, m, posted)),
            None => (m.asked.deadline + 1, Vec::new()),
        };
        let begun = ![State::Created, State::Selected, State::Cancelled].contains(&m.state);
        if !begun || s.now < end || s.now > end + answer {
            continue;
        }
        let counted = |index| shares.iter().any(|share| share.0 == index);
        let places = (0..m.asked.n).filter(|i| !counted(*i)).map(|i| (*id, i));
        list.extend(places.filter(|place| !s.book.asked.contains_key(place)));
    }
    list
}

/// `from` names challenger `index`, which said that it began.
pub(crate) fn name(s: &Stage, from: Address, id: B256, index: u16) -> Option<Named> {
    let who = *s.book.measured[&id].selected.get(usize::from(index))?;
    let seedHash = keccak256((id, Asked::seed(id, index)).abi_encode());
    let domain = domain(s.d.chain_id, s.d.backhaul);
    let call = Bonds::nameCall {
        id,
        index,
        seedHash,
        signature: actor(s, who)?.sign(begin_digest(&domain, id, index, seedHash)),
    };
    Some(named("Bonds.name", from, s.d.bonds, &call))
}

pub(crate) fn give(s: &Stage, from: Address, id: B256, index: u16) -> Named {
    let seed = Asked::seed(id, index);
    let call = Bonds::giveCall { id, index, seed };
    named("Bonds.give", from, s.d.bonds, &call)
}

fn request(s: &mut Stage) -> Request {
    let f = s.chance.below(2) as u16;
    let lengths = [500, 1_436, 1_500, 8_988, 9_100];
    let packetBytes = if s.chance.percent(2) {
        s.chance.below(500) as u16
    } else {
        *s.chance.pick(&lengths).unwrap()
    };
    Request {
        payer: of(s, role::PAYER),
        prover: of(s, role::PROVER),
        coordinator: of(s, role::COORDINATOR),
        claimBps: 1_000_000 + s.chance.below(20_000_000),
        // Now and then one that is no direction.
        direction: match s.chance.below(50) {
            0 => 2,
            1..=24 => 1,
            _ => 0,
        },
        n: 3 * f + 1 + s.chance.below(3) as u16,
        f,
        durationMs: 10 + s.chance.below(200) as u32,
        packetBytes,
        pricePerByte: u128::from(s.chance.below(4)),
        deadline: s.now + s.chance.below(400),
    }
}

/// What a coordinator would post: honest parties, some of them silent or early, and now and then a report that
/// does not hold.
pub(crate) fn submission(s: &mut Stage, id: B256) -> Option<Submission> {
    let m = &s.book.measured[&id];
    let (asked, selected) = (m.asked.clone(), m.selected.clone());
    let d = domain(s.d.chain_id, s.d.backhaul);
    let uplink = asked.direction != 0;
    let share = if uplink {
        rules::sent(&asked)
    } else {
        rules::share(&asked) * u64::from(asked.n - asked.f) / u64::from(asked.n)
    };
    let counts: Vec<u32> = (0..asked.n)
        .map(|_| s.chance.below(share + 1) as u32)
        .collect();
    let packets = counts.iter().map(|c| u64::from(*c)).sum();
    let response = word(s);
    let mut reports = Vec::new();
    for (index, who) in (0..asked.n).zip(&selected) {
        if s.chance.percent(12) {
            continue;
        }
        let early = if s.chance.percent(10) { 9 } else { 1 };
        let timing = Timing {
            index,
            window_us: early * asked.durationMs * 1_000 + s.chance.below(2_000) as u32,
            packets: if uplink {
                s.chance.below(u64::from(counts[usize::from(index)]) + 1) as u32
            } else {
                counts[usize::from(index)]
            },
        };
        let digest = report_digest(&d, id, 0, timing, response);
        let mut posted = Posted {
            index,
            windowUs: timing.window_us,
            packets: timing.packets,
            signature: actor(s, *who)?.sign(digest),
        };
        if s.chance.percent(10) {
            match s.chance.below(5) {
                0 => posted.index = asked.n + s.chance.below(9) as u16,
                1 => posted.windowUs = s.chance.below(2) as u32,
                2 => posted.packets += 1,
                3 => posted.signature = word(s).to_vec().into(),
                _ => reports.push(posted.clone()),
            }
        }
        reports.push(posted);
    }
    let digest = commit_digest(&d, id, 0, packets, &counts, response);
    Some(Submission {
        packets,
        counts,
        responseHash: response,
        proverSignature: actor(s, asked.prover)?.sign(digest),
        reports,
        bundleHash: word(s),
        verdict: 1 + s.chance.below(3) as u8,
        spansUs: (0..=asked.f)
            .map(|_| asked.durationMs * 850 + s.chance.below(400_000) as u32)
            .collect(),
    })
}

fn salt(id: B256, juror: Address) -> B256 {
    keccak256((id, juror).abi_encode())
}

/// Three in four see what is there; what is there follows from the case.
fn vote(id: B256, juror: Address) -> Ruling {
    let fair = !salt(id, juror)[0].is_multiple_of(4);
    Ruling::VOTES[(usize::from(id[0]) + usize::from(!fair)) % Ruling::VOTES.len()]
}

fn judge(s: &mut Stage) -> Made {
    let to = s.d.jury;
    let (from, now) = (any(s), s.now);
    let seated = |s: &mut Stage, id: B256| {
        let jurors = s.book.cases[&id].jurors.clone();
        s.chance.pick(&jurors).copied()
    };
    match s.chance.below(20) {
        0..=2 => {
            let id = case(s, |c| c.jurors.is_empty())?;
            Some(named("Jury.draw", from, to, &Jury::drawCall { id }))
        }
        3..=9 => {
            let id = case(s, |c| now <= c.commit_until)?;
            let juror = seated(s, id)?;
            let commitment = vote_hash(id, juror, vote(id, juror), salt(id, juror));
            let call = Jury::commitCall { id, commitment };
            Some(named("Jury.commit", juror, to, &call))
        }
        10..=16 => {
            let id = case(s, |c| now > c.commit_until && !c.committed.is_empty())?;
            let juror = seated(s, id)?;
            let vote = vote(id, juror) as u8;
            let call = Jury::revealCall {
                id,
                vote,
                salt: salt(id, juror),
            };
            Some(named("Jury.reveal", juror, to, &call))
        }
        17 => {
            let id = case(s, |_| true)?;
            Some(named("Jury.settle", from, to, &Jury::settleCall { id }))
        }
        _ => {
            let quarrels = &s.book.quarrels;
            let open = quarrels.iter().filter(|(_, q)| !q.over).map(|(id, _)| *id);
            let open: Vec<B256> = open.collect();
            let id = *s.chance.pick(&open)?;
            Some(named(
                "Disputes.conclude",
                from,
                s.d.disputes,
                &Disputes::concludeCall { id },
            ))
        }
    }
}

fn accuse(s: &mut Stage, plans: &mut Plans) -> Made {
    let to = s.d.disputes;
    if s.chance.percent(55) && !plans.secrets.is_empty() {
        let place = s.chance.below(plans.secrets.len() as u64) as usize;
        let (from, secret) = plans.secrets.swap_remove(place);
        return Some(match secret {
            Secret::Judged(call) => named("Disputes.dispute", from, to, &call),
            Secret::Alone(call) => named("Disputes.prove", from, to, &call),
        });
    }
    let (from, proof, salt) = (any(s), s.d.backhaul, word(s));
    let (hash, secret) = if s.chance.percent(90) {
        let id = measured(s, &[State::Reported])?;
        let m = &s.book.measured[&id];
        let mut blamed = m.selected.clone();
        blamed.extend([
            m.asked.prover,
            m.asked.prover,
            m.asked.coordinator,
            m.asked.payer,
        ]);
        let accused = *s.chance.pick(&blamed)?;
        // Now and then what was brought before.
        let evidence = if s.chance.percent(50) { word(s) } else { id };
        let source = "u".repeat(s.chance.below(260) as usize);
        let hash = keccak256((proof, id, accused, evidence, salt).abi_encode());
        let call = Disputes::disputeCall {
            proof,
            subject: id,
            accused,
            evidence,
            salt,
            source,
        };
        (hash, Secret::Judged(call))
    } else {
        let evidence = offence(s)?;
        let hash = keccak256((proof, keccak256(&evidence), salt).abi_encode());
        (
            hash,
            Secret::Alone(Disputes::proveCall {
                proof,
                evidence,
                salt,
            }),
        )
    };
    plans.secrets.push((from, secret));
    Some(named(
        "Disputes.announce",
        from,
        to,
        &Disputes::announceCall { hash },
    ))
}

/// Two statements of one signer; now and then the same one twice, which is no offence.
pub(crate) fn offence(s: &mut Stage) -> Option<Bytes> {
    let all = [
        State::Created,
        State::Selected,
        State::Running,
        State::Reported,
        State::Disputed,
        State::Final,
    ];
    let id = measured(s, &all)?;
    let m = &s.book.measured[&id];
    let (prover, selected) = (m.asked.prover, m.selected.clone());
    let d = domain(s.d.chain_id, s.d.backhaul);
    let second = if s.chance.percent(10) { 1 } else { 2 };
    let offence = if s.chance.percent(50) || selected.is_empty() {
        let who = actor(s, prover)?;
        Offence::TwoCommits(
            id,
            Box::new([1, second].map(|count| SignedCommit {
                phase: 0,
                packets: u64::from(count),
                countsHash: counts_hash(&[count]),
                responseHash: B256::ZERO,
                signature: who.sign(commit_digest(
                    &d,
                    id,
                    0,
                    u64::from(count),
                    &[count],
                    B256::ZERO,
                )),
            })),
        )
    } else {
        let index = s.chance.below(selected.len() as u64) as u16;
        return two_reports(s, id, index, second);
    };
    Some(offence.encode())
}

/// Two reports of the challenger at `index`, of one packet and of `second`.
pub(crate) fn two_reports(s: &Stage, id: B256, index: u16, second: u32) -> Option<Bytes> {
    let d = domain(s.d.chain_id, s.d.backhaul);
    let who = actor(s, s.book.measured[&id].selected[usize::from(index)])?;
    let say = |packets| {
        let timing = Timing {
            index,
            window_us: 5,
            packets,
        };
        SignedReport {
            phase: 0,
            index,
            windowUs: 5,
            packets,
            responseHash: B256::ZERO,
            signature: who.sign(report_digest(&d, id, 0, timing, B256::ZERO)),
        }
    };
    Some(Offence::TwoReports(id, Box::new([say(1), say(second)])).encode())
}

fn heartbeat(s: &mut Stage) -> Made {
    let account = of(s, role::CHALLENGER | role::JUROR);
    Some(beat(s, account))
}

pub(crate) fn beat(s: &Stage, account: Address) -> Named {
    let count = s.book.beats.get(&account).copied().unwrap_or(0);
    let reveal = if count == 0 {
        B256::ZERO
    } else {
        Stage::beacon_seed(account, count)
    };
    let call = Beacon::heartbeatCall {
        revealedSeed: reveal,
        nextCommitment: keccak256(Stage::beacon_seed(account, count + 1)),
    };
    named("Beacon.heartbeat", account, s.d.beacon, &call)
}

pub(crate) fn register(s: &Stage, account: Address, stake: u128) -> Named {
    let roles = actor(s, account).map_or(0, |a| a.roles);
    let call = Participants::registerCall {
        roles,
        networkKey: keccak256(account),
        crossSignature: vec![7; 64].into(),
        operator: keccak256(account),
        endpoint: "10.0.0.1:7000".into(),
        maxBps: 1_000_000_000,
        stake,
    };
    named("Participants.register", account, s.d.participants, &call)
}

/// Those with a role who are not registered.
fn absent(s: &Stage) -> Vec<Address> {
    let gone = |a: &&Actor| {
        let stake = s.book.stake.get(&a.address()).copied().unwrap_or_default();
        a.roles != 0 && stake.is_zero()
    };
    s.actors.iter().filter(gone).map(Actor::address).collect()
}

fn take_part(s: &mut Stage) -> Made {
    let to = s.d.participants;
    let from = any(s);
    let leaving: Vec<Address> = s.book.leaving.keys().copied().collect();
    match s.chance.below(24) {
        0..=9 => {
            let absent = absent(s);
            let from = s.chance.pick(&absent).copied().unwrap_or(from);
            let stake = 950 + u128::from(s.chance.below(4_000));
            Some(register(s, from, stake))
        }
        10..=11 => {
            let endpoint = "h".repeat(s.chance.below(280) as usize);
            let call = Participants::setEndpointCall { endpoint };
            Some(named("Participants.setEndpoint", from, to, &call))
        }
        12..=19 => {
            let amount = U256::from(s.chance.below(2_000));
            let call = Participants::topUpCall { amount };
            Some(named("Participants.topUp", from, to, &call))
        }
        20 if s.chance.percent(40) => Some(named(
            "Participants.leave",
            from,
            to,
            &Participants::leaveCall {},
        )),
        _ => {
            let from = *s.chance.pick(&leaving)?;
            Some(named(
                "Participants.reclaim",
                from,
                to,
                &Participants::reclaimCall {},
            ))
        }
    }
}

fn money(s: &mut Stage) -> Made {
    let (from, to, token) = (any(s), any(s), s.d.token);
    let value = U256::from(s.chance.below(1_000));
    Some(match s.chance.below(10) {
        0 => named(
            "LabToken.mint",
            from,
            token,
            &LabToken::mintCall { to, amount: value },
        ),
        1 => {
            // Sent to the vault by mistake: nobody's, and in nobody's way.
            let to = if s.chance.percent(30) { s.d.vault } else { to };
            named(
                "LabToken.transfer",
                from,
                token,
                &LabToken::transferCall { to, value },
            )
        }
        2 => named(
            "LabToken.approve",
            from,
            token,
            &LabToken::approveCall { spender: to, value },
        ),
        3 => {
            let call = LabToken::transferFromCall {
                from: to,
                to: from,
                value,
            };
            named("LabToken.transferFrom", from, token, &call)
        }
        _ => named("Vault.withdraw", from, s.d.vault, &Vault::withdrawCall {}),
    })
}

fn govern(s: &mut Stage, plans: &Plans) -> Made {
    let (governor, deputy) = (s.actors[0].address(), s.actors[1].address());
    let (registry, variables) = (s.d.registry, s.d.parameters);
    let from = if s.chance.percent(70) {
        governor
    } else {
        deputy
    };
    let newOwner = if from == governor { deputy } else { governor };
    Some(match s.chance.below(12) {
        0 => named(
            "Registry.transferOwnership",
            from,
            registry,
            &Registry::transferOwnershipCall { newOwner },
        ),
        1..=2 => named(
            "Registry.acceptOwnership",
            from,
            registry,
            &Registry::acceptOwnershipCall {},
        ),
        3 => named(
            "Parameters.transferOwnership",
            from,
            variables,
            &Variables::transferOwnershipCall { newOwner },
        ),
        4..=5 => named(
            "Parameters.acceptOwnership",
            from,
            variables,
            &Variables::acceptOwnershipCall {},
        ),
        6 => named("Registry.seal", from, registry, &Registry::sealCall {}),
        7 => {
            // Nobody's address: what a module could do with its power is not the question here.
            let module = Address::from_word(word(s));
            let call = Registry::admitCall {
                name: short("nobody"),
                module,
            };
            named("Registry.admit", from, registry, &call)
        }
        8 if plans.late => {
            let d = s.d;
            let modules = [
                d.backhaul,
                d.bonds,
                d.disputes,
                d.jury,
                d.participants,
                d.token,
            ];
            let module = *s.chance.pick(&modules)?;
            named(
                "Registry.retire",
                from,
                registry,
                &Registry::retireCall { module },
            )
        }
        _ => schedule(s, from),
    })
}

fn schedule(s: &mut Stage, from: Address) -> Named {
    let list = [
        ("min_stake", 900, 300),
        ("seed_bond", 0, 300),
        ("seed_answer_s", 30, 60),
        ("unbonding_s", 2_000, 2_000),
        ("coordinator_fee", 0, 200),
        ("dispute_window_s", 1, 80),
        ("dispute_bond", 0, 900),
        ("offence_percent", 0, 120),
        ("reporter_percent", 0, 120),
        ("jury_size", 1, 5),
        ("draw_operators", 1, 3),
        ("juror_fee", 0, 50),
        ("juror_penalty", 0, 300),
        ("jury_draw_s", 30, 100),
    ];
    let (name, least, span) = *s.chance.pick(&list).unwrap();
    let value = U208::from(least + s.chance.below(span));
    let call = Variables::scheduleCall {
        name: short(name),
        value,
    };
    named("Parameters.schedule", from, s.d.parameters, &call)
}

/// Doors that only modules may use: nobody else ever gets through.
fn trespass(s: &mut Stage) -> Made {
    let (from, account) = (any(s), any(s));
    let id = measured(s, &[State::Created, State::Reported, State::Disputed]).unwrap_or_default();
    let amount = U256::from(s.chance.below(500));
    let (v, b) = (s.d.vault, s.d.backhaul);
    let made = match s.chance.below(13) {
        0 => named(
            "Vault.stakeFrom",
            from,
            v,
            &Vault::stakeFromCall {
                from: account,
                amount,
            },
        ),
        1 => named(
            "Vault.unstake",
            from,
            v,
            &Vault::unstakeCall { account, amount },
        ),
        2 => named(
            "Vault.slash",
            from,
            v,
            &Vault::slashCall {
                account,
                amount,
                reporter: from,
                share: amount,
            },
        ),
        3 => named(
            "Vault.lock",
            from,
            v,
            &Vault::lockCall {
                id,
                from: account,
                amount,
            },
        ),
        4 => named(
            "Vault.credit",
            from,
            v,
            &Vault::creditCall {
                id,
                to: from,
                amount,
            },
        ),
        5 => named("Vault.refund", from, v, &Vault::refundCall { id, to: from }),
        6 => named("Vault.burn", from, v, &Vault::burnCall { id }),
        7 => named(
            "Backhaul.contest",
            from,
            b,
            &Backhaul::contestCall {
                id,
                accused: account,
            },
        ),
        8 => named(
            "Backhaul.ruled",
            from,
            b,
            &Backhaul::ruledCall {
                id,
                accused: account,
                upheld: true,
            },
        ),
        9 => named(
            "Backhaul.faulted",
            from,
            b,
            &Backhaul::faultedCall {
                id,
                guilty: account,
            },
        ),
        10 => {
            let call = Jury::openCall {
                subject: id,
                evidence: id,
                funder: account,
                excluded: vec![],
            };
            named("Jury.open", from, s.d.jury, &call)
        }
        11 => {
            let call = Participants::forfeitCall {
                account,
                asked: amount,
                to: from,
            };
            named("Participants.forfeit", from, s.d.participants, &call)
        }
        _ => {
            let call = Participants::slashCall {
                account,
                asked: amount,
                reporter: from,
                percent: U256::from(100),
                offence: id,
            };
            named("Participants.slash", from, s.d.participants, &call)
        }
    };
    assert!(
        s.fork.call(s.now, &made.one).is_err(),
        "{} is open to everyone",
        made.name
    );
    Some(made)
}

/// Everyone has money and lets the vault take it; those with a role register and heartbeat.
pub(crate) fn open(s: &mut Stage) {
    let (token, spender) = (s.d.token, s.d.vault);
    let everyone: Vec<Address> = s.actors.iter().map(Actor::address).collect();
    for who in everyone {
        let amount = U256::from(PURSE);
        let mut moves = vec![
            named(
                "LabToken.mint",
                who,
                token,
                &LabToken::mintCall { to: who, amount },
            ),
            named(
                "LabToken.approve",
                who,
                token,
                &LabToken::approveCall {
                    spender,
                    value: U256::MAX,
                },
            ),
        ];
        if actor(s, who).is_some_and(|a| a.roles != 0) {
            moves.push(register(s, who, 3_000));
            moves.push(beat(s, who));
        }
        assert!(s.block(&moves).iter().all(|done| *done));
    }
    assert_eq!(s.now, START);
}
