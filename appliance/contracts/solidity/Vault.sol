// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Registry} from "./Registry.sol";

/// @title The one place that holds money
/// @notice Every unit that comes in lies in exactly one bucket until it is withdrawn, or for ever if it
/// is burnt:
///
///     token ──stakeFrom──► stake[account] ──unstake──┐   ┌──withdraw──► token
///       │                     │  └─slash─ share ───► owed[account]
///       │                     └───slash─ rest ─────► burnt
///       │                                        burn ▲  ▲
///       └─────lock───────► escrow[module,id] ─────────┴──┴ credit, refund
///
/// Only modules of the {Registry} move units between buckets, and only into `owed` can they take them
/// out: payment is pulled by its owner. An escrow can be touched by the module that locked it and by no
/// other; a retired module can still empty its escrows. A module names whose tokens it pulls: it must be
/// given only contracts that pull from their own caller. {conserved} holds after every transaction.
contract Vault is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice The token held.
    IERC20 public immutable TOKEN;
    /// @notice Who may move buckets.
    Registry public immutable REGISTRY;

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
    /// @notice Sum of all that nobody will ever have.
    uint256 public burnt;
    /// @notice Units taken in and not yet paid out.
    uint256 public held;

    /// @notice `account` put `amount` at stake.
    event Staked(address indexed account, uint256 amount);
    /// @notice `amount` of the stake of `account` became withdrawable.
    event Unstaked(address indexed account, uint256 amount);
    /// @notice `amount` of `from` was locked by `module` under `id`.
    event Locked(address indexed module, bytes32 indexed id, address indexed from, uint256 amount);
    /// @notice `amount` of the escrow `id` of `module` now belongs to `to`.
    event Credited(address indexed module, bytes32 indexed id, address indexed to, uint256 amount);
    /// @notice `account` lost `amount` of its stake: `share` of it is owed to `reporter`, the rest is burnt.
    event Slashed(address indexed account, uint256 amount, address indexed reporter, uint256 share);
    /// @notice `amount` of the escrow `id` of `module` was burnt.
    event Burnt(address indexed module, bytes32 indexed id, uint256 amount);
    /// @notice `account` took out `amount`.
    event Withdrawn(address indexed account, uint256 amount);

    /// @notice The caller is no module, or a retired one that would begin something.
    error NotAModule(address caller);
    /// @notice The escrow holds less than asked for.
    error EscrowTooSmall(bytes32 id, uint256 asked, uint256 available);
    /// @notice Something is already locked under this id.
    error EscrowExists(bytes32 id);
    /// @notice The stake is less than asked for.
    error StakeShort(address account, uint256 asked, uint256 available);
    /// @notice A reporter cannot get more than is taken.
    error ShareTooLarge(uint256 share, uint256 amount);
    /// @notice The token delivered less than it was asked to: a token with a transfer fee is not usable.
    error TransferShort(uint256 expected, uint256 received);
    /// @notice There is nothing to withdraw.
    error NothingOwed(address account);

    /// @param token the ERC-20 that stakes and escrows are in
    /// @param registry who may move buckets
    constructor(IERC20 token, Registry registry) {
        TOKEN = token;
        REGISTRY = registry;
    }

    modifier onlyModule() {
        require(REGISTRY.isKnown(msg.sender), NotAModule(msg.sender));
        _;
    }

    modifier onlyActiveModule() {
        require(REGISTRY.isActive(msg.sender), NotAModule(msg.sender));
        _;
    }

    /// @notice Pulls `amount` from `from` into its stake.
    function stakeFrom(address from, uint256 amount) external onlyActiveModule nonReentrant {
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

    /// @notice Takes `amount` of the stake of `account`: `share` for `reporter`, the rest is burnt.
    function slash(address account, uint256 amount, address reporter, uint256 share)
        external
        onlyModule
        nonReentrant
    {
        uint256 available = stake[account];
        require(amount <= available, StakeShort(account, amount, available));
        require(share <= amount, ShareTooLarge(share, amount));
        stake[account] = available - amount;
        totalStake -= amount;
        owed[reporter] += share;
        totalOwed += share;
        burnt += amount - share;
        emit Slashed(account, amount, reporter, share);
    }

    /// @notice Pulls `amount` from `from` into the caller's escrow `id`.
    function lock(bytes32 id, address from, uint256 amount) external onlyActiveModule nonReentrant {
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

    /// @notice Burns all that is left of the caller's escrow `id`.
    /// @return amount how much that was
    function burn(bytes32 id) external onlyModule nonReentrant returns (uint256 amount) {
        bytes32 key = _key(msg.sender, id);
        amount = _escrow[key];
        _escrow[key] = 0;
        totalEscrow -= amount;
        burnt += amount;
        emit Burnt(msg.sender, id, amount);
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
        return totalStake + totalEscrow + totalOwed + burnt == held && TOKEN.balanceOf(address(this)) >= held;
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
