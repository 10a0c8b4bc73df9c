// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @title Which contracts are part of the house
/// @notice A module is a contract that may move money in the {Vault} and take stakes: a proof, the jury.
/// Adding a proof is one entry here. Until {seal} entries count at once, so that a deployment is one
/// go; after it they count {DELAY} seconds later, which is the time everyone has to leave if they do not
/// like it.
///
///     None ──admit, (delay)──► Active ──retire──► Retired
///
/// A retired module begins nothing new: it can lock no more. What it has locked it can still pay out:
/// retiring traps no money.
contract Registry is Ownable2Step {
    /// @notice One entry.
    struct Module {
        /// what it is, ASCII, padded with zeros
        bytes32 name;
        /// unix second from which it counts; zero: never admitted
        uint64 activeFrom;
        /// unix second of {retire}; zero: not retired
        uint64 retiredAt;
    }

    /// @notice Seconds between {admit} and its effect, once sealed.
    uint64 public immutable DELAY;
    /// @notice Whether the deployment is complete.
    bool public isSealed;
    mapping(address module => Module entry) private _modules;
    address[] private _list;

    /// @notice `module` counts from unix second `activeFrom` on.
    event Admitted(address indexed module, bytes32 indexed name, uint64 activeFrom);
    /// @notice `module` begins nothing new from now on.
    event Retired(address indexed module);
    /// @notice From now on modules come with delay.
    event Sealed();

    /// @notice This module is on the list already; nobody comes back.
    error AlreadyAdmitted(address module);
    /// @notice This module is not on the list, or retired.
    error NotAdmitted(address module);

    /// @param delay seconds between {admit} and its effect, once sealed
    constructor(uint64 delay) Ownable(msg.sender) {
        DELAY = delay;
    }

    /// @notice Puts `module` on the list.
    function admit(bytes32 name, address module) external onlyOwner {
        require(_modules[module].activeFrom == 0, AlreadyAdmitted(module));
        uint64 activeFrom = uint64(block.timestamp) + (isSealed ? DELAY : 0);
        _modules[module] = Module({name: name, activeFrom: activeFrom, retiredAt: 0});
        _list.push(module);
        emit Admitted(module, name, activeFrom);
    }

    /// @notice Lets `module` finish what it has and begin nothing new. For ever.
    function retire(address module) external onlyOwner {
        Module storage entry = _modules[module];
        require(entry.activeFrom != 0 && entry.retiredAt == 0, NotAdmitted(module));
        entry.retiredAt = uint64(block.timestamp);
        emit Retired(module);
    }

    /// @notice Ends the deployment.
    function seal() external onlyOwner {
        isSealed = true;
        emit Sealed();
    }

    /// @notice Whether `module` may begin something.
    function isActive(address module) external view returns (bool active) {
        return isKnown(module) && _modules[module].retiredAt == 0;
    }

    /// @notice Whether `module` may finish something: active, or retired after having been so.
    function isKnown(address module) public view returns (bool known) {
        Module storage entry = _modules[module];
        return entry.activeFrom != 0 && entry.activeFrom <= block.timestamp
            && (entry.retiredAt == 0 || entry.retiredAt >= entry.activeFrom);
    }

    /// @notice The entry of `module`; all zero if there is none.
    function get(address module) external view returns (Module memory entry) {
        return _modules[module];
    }

    /// @notice All modules ever admitted, in this order.
    function list() external view returns (address[] memory modules) {
        return _list;
    }
}
