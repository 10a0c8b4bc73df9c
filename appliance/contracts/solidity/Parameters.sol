// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

/// @title Chain variables, which change only with notice and never without trace
/// @notice A variable is a name and a number. Its governor can schedule another value, within bounds
/// fixed at deployment; it holds from {DELAY} seconds later, by itself, and the old values stay on
/// record with the time from which they held. Contracts read a variable when something begins and keep
/// what they read, so that no change reaches what is under way.
contract Parameters is Ownable2Step {
    using Checkpoints for Checkpoints.Trace208;

    /// @notice One variable at deployment.
    struct Variable {
        /// ASCII, padded with zeros
        bytes32 name;
        /// its first value
        uint208 value;
        /// smallest value that can ever be scheduled
        uint208 min;
        /// largest value that can ever be scheduled
        uint208 max;
    }

    struct Bounds {
        bool known;
        uint208 min;
        uint208 max;
    }

    /// @notice Seconds between a change and its effect.
    uint48 public immutable DELAY;
    mapping(bytes32 name => Checkpoints.Trace208 values) private _history;
    mapping(bytes32 name => Bounds bounds) private _bounds;
    bytes32[] private _names;

    /// @notice `name` is `value` from unix second `from` on.
    event Scheduled(bytes32 indexed name, uint256 value, uint256 from);

    /// @notice There is no such variable.
    error UnknownVariable(bytes32 name);
    /// @notice The value is not allowed for this variable.
    error OutOfBounds(bytes32 name, uint256 value, uint256 min, uint256 max);

    /// @param variables all there will ever be
    /// @param delay seconds between a change and its effect
    constructor(Variable[] memory variables, uint48 delay) Ownable(msg.sender) {
        DELAY = delay;
        for (uint256 i = 0; i < variables.length; ++i) {
            Variable memory v = variables[i];
            _bounds[v.name] = Bounds({known: true, min: v.min, max: v.max});
            _names.push(v.name);
            _push(v.name, v.value, 0);
        }
    }

    /// @notice Changes a variable, {DELAY} seconds from now. What was scheduled before and not yet in
    /// effect still takes effect until then.
    /// @return from unix second from which the value holds
    function schedule(bytes32 name, uint208 value) external onlyOwner returns (uint48 from) {
        from = uint48(block.timestamp) + DELAY;
        _push(name, value, from);
    }

    /// @notice What `name` is now.
    function get(bytes32 name) external view returns (uint256 value) {
        return at(name, uint48(block.timestamp));
    }

    /// @notice What `name` is, was or will be at unix second `time`, as far as is scheduled.
    function at(bytes32 name, uint48 time) public view returns (uint256 value) {
        require(_bounds[name].known, UnknownVariable(name));
        return _history[name].upperLookupRecent(time);
    }

    /// @notice Between which values `name` can be set.
    function boundsOf(bytes32 name) external view returns (uint256 min, uint256 max) {
        require(_bounds[name].known, UnknownVariable(name));
        return (_bounds[name].min, _bounds[name].max);
    }

    /// @notice Every value `name` ever had or is scheduled to have, with the unix second from which.
    function history(bytes32 name) external view returns (Checkpoints.Checkpoint208[] memory values) {
        uint256 length = _history[name].length();
        values = new Checkpoints.Checkpoint208[](length);
        for (uint256 i = 0; i < length; ++i) {
            values[i] = _history[name].at(uint32(i));
        }
    }

    /// @notice The names of all variables.
    function names() external view returns (bytes32[] memory all) {
        return _names;
    }

    function _push(bytes32 name, uint208 value, uint48 from) private {
        Bounds storage bounds = _bounds[name];
        require(bounds.known, UnknownVariable(name));
        require(value >= bounds.min && value <= bounds.max, OutOfBounds(name, value, bounds.min, bounds.max));
        _history[name].push(from, value);
        emit Scheduled(name, value, from);
    }
}
