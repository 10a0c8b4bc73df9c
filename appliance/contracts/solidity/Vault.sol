// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title The one place that holds money
/// @notice Every unit that comes in lies in exactly one bucket until it is withdrawn:
///
///     token ──stakeFrom──► stake[account] ──unstake──┐
///       │                                            ▼
///       └─────lock───────► escrow[module,id] ──credit/refund──► owed[account] ──withdraw──► token
///
/// Only registered modules move units between buckets, and only into `owed` can they take them out:
/// payment is pulled by its owner. An escrow can be touched by the module that locked it and by no
/// other. A module names whose tokens it pulls: it must be given only contracts that pull from their
/// own caller. {conserved} holds after every transaction.
contract Vault is Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice The token held.
    IERC20 public immutable TOKEN;

    /// @notice Whether a contract may move buckets.
    mapping(address module => bool allowed) public isModule;
    /// @notice Units an account has at stake.
    mapping(address account => uint256 amount) public stake;
    /// @notice Units an account can withdraw.
    mapping(address account => uint256 amount) public owed;
    /// @dev keccak256(module, id) => units.
    mapping(bytes32 key => uint256 amount) private _escrow;

    /// @notice Sum of all stakes.
    uint256 public totalStake;
    /// @notice Sum of all escrows.
    uint256 public totalEscrow;
    /// @notice Sum of all that can be withdrawn.
    uint256 public totalOwed;
    /// @notice Units taken in and not yet paid out.
    uint256 public held;

    /// @notice A module was let in or shut out.
    event ModuleSet(address indexed module, bool allowed);
    /// @notice `account` put `amount` at stake.
    event Staked(address indexed account, uint256 amount);
    /// @notice `amount` of the stake of `account` became withdrawable.
    event Unstaked(address indexed account, uint256 amount);
    /// @notice `amount` of `from` was locked by `module` under `id`.
    event Locked(address indexed module, bytes32 indexed id, address indexed from, uint256 amount);
    /// @notice `amount` of the escrow `id` of `module` now belongs to `to`.
    event Credited(address indexed module, bytes32 indexed id, address indexed to, uint256 amount);
    /// @notice `account` took out `amount`.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice The caller is no registered module.
    error NotAModule(address caller);
    /// @notice The escrow holds less than asked for.
    error EscrowTooSmall(bytes32 id, uint256 asked, uint256 available);
    /// @notice Something is already locked under this id.
    error EscrowExists(bytes32 id);
    /// @notice The stake is less than asked for.
    error StakeShort(address account, uint256 asked, uint256 available);
    /// @notice The token delivered less than it was asked to: a token with a transfer fee is not usable.
    error TransferShort(uint256 expected, uint256 received);
    /// @notice There is nothing to withdraw.
    error NothingOwed(address account);

    /// @param token the ERC-20 that stakes and escrows are in
    constructor(IERC20 token) Ownable(msg.sender) {
        TOKEN = token;
    }

    modifier onlyModule() {
        require(isModule[msg.sender], NotAModule(msg.sender));
        _;
    }

    /// @notice Lets a contract move buckets, or stops it.
    /// @param module the contract
    /// @param allowed whether it may
    function setModule(address module, bool allowed) external onlyOwner {
        isModule[module] = allowed;
        emit ModuleSet(module, allowed);
    }

    /// @notice Pulls `amount` from `from` into its stake.
    function stakeFrom(address from, uint256 amount) external onlyModule nonReentrant {
        stake[from] += amount;
        totalStake += amount;
        emit Staked(from, amount);
        _pull(from, amount);
    }

    /// @notice Makes `amount` of the stake of `account` withdrawable.
    function unstake(address account, uint256 amount) external onlyModule nonReentrant {
        uint256 available = stake[account];
        require(amount <= available, StakeShort(account, amount, available));
        stake[account] = available - amount;
        totalStake -= amount;
        owed[account] += amount;
        totalOwed += amount;
        emit Unstaked(account, amount);
    }

    /// @notice Pulls `amount` from `from` into the caller's escrow `id`.
    function lock(bytes32 id, address from, uint256 amount) external onlyModule nonReentrant {
        bytes32 key = _key(msg.sender, id);
        require(_escrow[key] == 0, EscrowExists(id));
        _escrow[key] = amount;
        totalEscrow += amount;
        emit Locked(msg.sender, id, from, amount);
        _pull(from, amount);
    }

    /// @notice Gives `amount` of the caller's escrow `id` to `to`, who can then withdraw it.
    function credit(bytes32 id, address to, uint256 amount) external onlyModule nonReentrant {
        _credit(id, to, amount);
    }

    /// @notice Gives all that is left of the caller's escrow `id` to `to`, who can then withdraw it.
    /// @return amount how much that was
    function refund(bytes32 id, address to) external onlyModule nonReentrant returns (uint256 amount) {
        amount = _escrow[_key(msg.sender, id)];
        _credit(id, to, amount);
    }

    /// @notice Pays the caller all that it is owed.
    /// @return amount how much that was
    function withdraw() external nonReentrant returns (uint256 amount) {
        amount = owed[msg.sender];
        require(amount > 0, NothingOwed(msg.sender));
        owed[msg.sender] = 0;
        totalOwed -= amount;
        held -= amount;
        emit Withdrawn(msg.sender, amount);
        TOKEN.safeTransfer(msg.sender, amount);
    }

    /// @notice What `module` has locked under `id`.
    function escrowOf(address module, bytes32 id) external view returns (uint256 amount) {
        return _escrow[_key(module, id)];
    }

    /// @notice Whether every unit taken in is accounted for and really there. Tokens sent here by
    /// mistake are not counted and do not disturb it.
    function conserved() external view returns (bool holds) {
        return totalStake + totalEscrow + totalOwed == held && TOKEN.balanceOf(address(this)) >= held;
    }

    function _credit(bytes32 id, address to, uint256 amount) private {
        bytes32 key = _key(msg.sender, id);
        uint256 available = _escrow[key];
        require(amount <= available, EscrowTooSmall(id, amount, available));
        _escrow[key] = available - amount;
        totalEscrow -= amount;
        owed[to] += amount;
        totalOwed += amount;
        emit Credited(msg.sender, id, to, amount);
    }

    /// @dev Buckets are already written: a token that calls back finds the guard and the new sums.
    function _pull(address from, uint256 amount) private {
        if (amount == 0) return;
        held += amount;
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(from, address(this), amount);
        uint256 received = TOKEN.balanceOf(address(this)) - before;
        require(received == amount, TransferShort(amount, received));
    }

    function _key(address module, bytes32 id) private pure returns (bytes32 key) {
        return keccak256(abi.encode(module, id));
    }
}
