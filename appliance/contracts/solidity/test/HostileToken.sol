// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LabToken} from "../LabToken.sol";

/// @title What is told of a movement
interface IHook {
    /// @notice Tokens of the receiver of this call move, or have moved.
    function tokenMoved() external;
}

/// @title A token that does what tokens do at their worst
/// @notice For tests only. It tells accounts with a hook of every movement, before and after it, and
/// behaves as {setManner} says.
contract HostileToken is LabToken {
    /// @notice How a transfer goes.
    enum Manner {
        Honest,
        /// moves nothing and returns false
        False,
        /// moves, and returns nothing at all
        Silent,
        /// moves all but one unit in a hundred
        Fee,
        /// refuses whatever is to or from the account
        Blocks
    }

    /// @notice How transfers go now.
    Manner public manner;
    /// @notice Whom {Manner.Blocks} means.
    address public blocked;
    /// @notice Accounts that are told.
    mapping(address account => bool told) public hooked;

    /// @notice The account is on the list of this token's issuer.
    error Blocked(address account);

    /// @notice From now on transfers go like this.
    function setManner(Manner wanted, address account) external {
        manner = wanted;
        blocked = account;
    }

    /// @notice Tells `account` of its movements from now on.
    function hook(address account) external {
        hooked[account] = true;
    }

    /// @dev As the manner says.
    function transfer(address to, uint256 value) public override returns (bool) {
        return _behave(msg.sender, to, value);
    }

    /// @dev As {transfer}, with allowance.
    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        _spendAllowance(from, msg.sender, value);
        return _behave(from, to, value);
    }

    function _behave(address from, address to, uint256 value) private returns (bool) {
        Manner now_ = manner;
        if (now_ == Manner.False) return false;
        if (now_ == Manner.Blocks && (from == blocked || to == blocked)) revert Blocked(blocked);
        _tell(from);
        _tell(to);
        _transfer(from, to, now_ == Manner.Fee ? value - value / 100 - 1 : value);
        _tell(from);
        _tell(to);
        if (now_ == Manner.Silent) {
            assembly ("memory-safe") {
                return(0, 0)
            }
        }
        return true;
    }

    function _tell(address account) private {
        if (hooked[account]) IHook(account).tokenMoved();
    }
}
