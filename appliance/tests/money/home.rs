//! Everyone goes home: whatever happened before, anybody can end everything and all have what is theirs.

use alloy::primitives::{Address, B256, U256};
use plumbline_contracts::State;
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::bonds::Bonds;
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::parameters::Parameters as Variables;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::registry::Registry;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::deploy::short;

use crate::stage::{Actor, Named, Stage, named};

/// It must go through.
pub(crate) fn must(s: &mut Stage, one: Named) {
    if let Err(why) = s.fork.call(s.now, &one.one) {
        let why = why.map_or_else(|| "no reason given".to_owned(), |r| r.to_string());
        panic!("{} must be possible and is not: {why}", one.name);
    }
    assert_eq!(s.block(&[one]), [true]);
}

fn later(s: &mut Stage, until: u64) {
    s.now = s.now.max(until);
}

/// Ends everything from outside, by an account that takes part in nothing.
pub(crate) fn all(s: &mut Stage) {
    let stranger = s.actors[s.actors.len() - 1].address();
    let ids: Vec<B256> = s.book.cases.keys().copied().collect();
    for id in ids {
        let case = &s.book.cases[&id];
        if case.ruling.is_some() {
            continue;
        }
        let until = case.draw_until.max(case.reveal_until) + 1;
        later(s, until);
        must(
            s,
            named("Jury.settle", stranger, s.d.jury, &Jury::settleCall { id }),
        );
    }
    let ids: Vec<B256> = s.book.quarrels.keys().copied().collect();
    for id in ids {
        if !s.book.quarrels[&id].over {
            let call = Disputes::concludeCall { id };
            must(s, named("Disputes.conclude", stranger, s.d.disputes, &call));
        }
    }
    let ids: Vec<B256> = s.book.measured.keys().copied().collect();
    for id in ids {
        end(s, stranger, id);
    }
    let open = s.book.asked.iter().filter(|(_, asked)| !asked.over);
    let open: Vec<(B256, u16, u64)> = open.map(|((id, i), a)| (*id, *i, a.until)).collect();
    for (id, index, until) in open {
        later(s, until + 1);
        let call = Bonds::forfeitCall { id, index };
        must(s, named("Bonds.forfeit", stranger, s.d.bonds, &call));
    }
    let left: U256 = s.book.escrow.values().copied().sum();
    assert_eq!(left, U256::ZERO, "an escrow is stuck");
    leave(s);
}

fn end(s: &mut Stage, stranger: Address, id: B256) {
    let (m, to) = (&s.book.measured[&id], s.d.backhaul);
    let (deadline, due) = (m.asked.deadline, m.reported_at + m.window);
    match m.state {
        State::Created | State::Selected | State::Running => {
            later(s, deadline + 1);
            must(
                s,
                named(
                    "Backhaul.timeout",
                    stranger,
                    to,
                    &Backhaul::timeoutCall { id },
                ),
            );
        }
        State::Reported => {
            later(s, due);
            must(
                s,
                named(
                    "Backhaul.finalize",
                    stranger,
                    to,
                    &Backhaul::finalizeCall { id },
                ),
            );
        }
        State::Disputed => panic!("{id} is disputed and no dispute is open"),
        _ => {}
    }
}

/// Every stake and everything owed goes back; what stays is burnt, or was sent by mistake.
fn leave(s: &mut Stage) {
    let everyone: Vec<Address> = s.actors.iter().map(Actor::address).collect();
    let (participants, vault) = (s.d.participants, s.d.vault);
    for who in &everyone {
        let call = Participants::getCall { account: *who };
        let known = s.read(participants, &call);
        if known.roles != 0 && known.leaveAt == 0 {
            let call = Participants::leaveCall {};
            must(s, named("Participants.leave", *who, participants, &call));
        }
    }
    let last = s.book.leaving.values().copied().max();
    later(s, last.unwrap_or_default());
    for who in everyone {
        if s.book.leaving.contains_key(&who) {
            let call = Participants::reclaimCall {};
            must(s, named("Participants.reclaim", who, participants, &call));
        }
        if s.book.owed.get(&who).is_some_and(|o| !o.is_zero()) {
            must(
                s,
                named("Vault.withdraw", who, vault, &Vault::withdrawCall {}),
            );
        }
    }
    assert_eq!(s.read(vault, &Vault::totalStakeCall {}), U256::ZERO);
    assert_eq!(s.read(vault, &Vault::totalEscrowCall {}), U256::ZERO);
    assert_eq!(s.read(vault, &Vault::totalOwedCall {}), U256::ZERO);
    let held = s.read(vault, &Vault::heldCall {});
    assert_eq!(held, s.book.burnt);
    let balance = s.read(s.d.token, &LabToken::balanceOfCall { account: vault });
    assert!(balance >= held);
    s.compare_all();
    renounce(s);
}

/// The governor hands over, admits and retires once more, and goes: then nothing changes any more.
fn renounce(s: &mut Stage) {
    let (registry, variables) = (s.d.registry, s.d.parameters);
    let newOwner = s.actors[2].address();
    let owner = s.read(registry, &Registry::ownerCall {});
    let call = Registry::transferOwnershipCall { newOwner };
    must(
        s,
        named("Registry.transferOwnership", owner, registry, &call),
    );
    must(
        s,
        named(
            "Registry.acceptOwnership",
            newOwner,
            registry,
            &Registry::acceptOwnershipCall {},
        ),
    );
    let module = Address::repeat_byte(0x77);
    let call = Registry::admitCall {
        name: short("last"),
        module,
    };
    must(s, named("Registry.admit", newOwner, registry, &call));
    must(
        s,
        named(
            "Registry.retire",
            newOwner,
            registry,
            &Registry::retireCall { module },
        ),
    );
    must(
        s,
        named("Registry.seal", newOwner, registry, &Registry::sealCall {}),
    );
    must(
        s,
        named(
            "Registry.renounceOwnership",
            newOwner,
            registry,
            &Registry::renounceOwnershipCall {},
        ),
    );
    let owner = s.read(variables, &Variables::ownerCall {});
    let call = Variables::transferOwnershipCall { newOwner };
    must(
        s,
        named("Parameters.transferOwnership", owner, variables, &call),
    );
    must(
        s,
        named(
            "Parameters.acceptOwnership",
            newOwner,
            variables,
            &Variables::acceptOwnershipCall {},
        ),
    );
    let call = Variables::scheduleCall {
        name: short("juror_fee"),
        value: Default::default(),
    };
    must(s, named("Parameters.schedule", newOwner, variables, &call));
    must(
        s,
        named(
            "Parameters.renounceOwnership",
            newOwner,
            variables,
            &Variables::renounceOwnershipCall {},
        ),
    );
    assert_eq!(
        s.block(&[named("Parameters.schedule", newOwner, variables, &call)]),
        [false]
    );
}
