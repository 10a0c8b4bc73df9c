// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IHook} from "./HostileToken.sol";

/// @title A receiver that does what receivers do at their worst
/// @notice For tests only. It takes part like anyone ({act}), and when it is told of a movement calls back
/// into the house, refuses, or burns all gas.
contract Accomplice is IHook {
    /// @notice What it does when told.
    enum Manner {
        Nothing,
        Calls,
        Reverts,
        Burns
    }

    /// @notice One call back.
    struct Planned {
        address to;
        bytes data;
    }

    /// @notice What it does when told.
    Manner public manner;
    /// @notice How many times it was told while not busy with that already.
    uint256 public told;
    Planned[] private _plan;
    bool private _busy;

    /// @notice A call back, and what came of it.
    event Tried(uint256 place, bool done, bytes answer);

    /// @notice On purpose.
    error OnPurpose();

    /// @notice From now on it does this when told.
    function setManner(Manner wanted) external {
        manner = wanted;
    }

    /// @notice Calls `to` when told, after what was planned before.
    function plan(address to, bytes calldata data) external {
        _plan.push(Planned({to: to, data: data}));
    }

    /// @notice Calls `to` now.
    function act(address to, bytes calldata data) external returns (bytes memory answer) {
        bool done;
        (done, answer) = to.call(data);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
    }

    /// @inheritdoc IHook
    function tokenMoved() external {
        if (manner == Manner.Reverts) revert OnPurpose();
        if (manner == Manner.Burns) {
            assembly {
                invalid()
            }
        }
        if (manner == Manner.Nothing || _busy) return;
        _busy = true;
        ++told;
        for (uint256 i = 0; i < _plan.length; ++i) {
            (bool done, bytes memory answer) = _plan[i].to.call(_plan[i].data);
            emit Tried(i, done, answer);
        }
        _busy = false;
    }

    /// @dev Whatever else it is asked, tokens of other houses included.
    fallback() external {
        revert OnPurpose();
    }
}
