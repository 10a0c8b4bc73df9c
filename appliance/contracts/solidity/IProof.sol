// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What a proof must answer, so that {Disputes} and {Jury} serve it
/// @notice A proof is a contract with its own storage and states. It takes part in disputes by these
/// three functions, and in the house by one entry in the {Registry}. The caller of {contest}, {ruled} and
/// {faulted} must be the {Disputes} contract it was made with.
interface IProof {
    /// @notice Somebody holds evidence against `accused` in the matter `subject`. The proof checks that it
    /// can still be disputed and stops its payout, until all that were begun have ended: there may be several at once.
    /// @return parties who must not judge
    function contest(bytes32 subject, address accused) external returns (address[] memory parties);

    /// @notice A dispute that {contest} began has ended.
    /// @param upheld whether the evidence holds
    function ruled(bytes32 subject, address accused, bool upheld) external;

    /// @notice An offence that needs no judge was proven, in whatever state the subject is, if there is
    /// such a subject at all.
    function faulted(bytes32 subject, address guilty) external;

    /// @notice Checks evidence that needs no judge. Reverts if it shows nothing. Whoever was punished in a
    /// subject, by a jury or by this, is not punished in it again.
    /// @param evidence in the proof's own encoding
    /// @return subject what it is about
    /// @return guilty whose signatures it holds
    /// @return offence names the kind of offence
    function offenceOf(bytes calldata evidence)
        external
        view
        returns (bytes32 subject, address guilty, bytes32 offence);
}
