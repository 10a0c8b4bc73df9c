//! Calls, events, structs and errors of every contract, generated from the committed artifacts.
//!
//! One module a contract, because structs of a shared interface are generated once for each. Their
//! documentation is the NatSpec comment in `solidity/`.
#![allow(missing_docs, unreachable_pub, clippy::all)]

macro_rules! contract {
    ($module:ident, $name:ident, $path:literal) => {
        pub mod $module {
            alloy::sol!(
                #[sol(all_derives, extra_derives(serde::Serialize, serde::Deserialize))]
                $name,
                $path
            );
        }
    };
}

contract!(lab_token, LabToken, "artifacts/LabToken.json");
contract!(registry, Registry, "artifacts/Registry.json");
contract!(parameters, Parameters, "artifacts/Parameters.json");
contract!(vault, Vault, "artifacts/Vault.json");
contract!(participants, Participants, "artifacts/Participants.json");
contract!(beacon, Beacon, "artifacts/Beacon.json");
contract!(jury, Jury, "artifacts/Jury.json");
contract!(disputes, Disputes, "artifacts/Disputes.json");
contract!(backhaul, Backhaul, "artifacts/Backhaul.json");
contract!(bonds, Bonds, "artifacts/Bonds.json");
