// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vault} from "./Vault.sol";

/// @title Who takes part, as what, with which keys, and with how much at stake
/// @notice A participant has two keys: the settlement key (this chain's address) and an ed25519
/// network key that signs packets and evidence. Each signs the other once: the transaction is the
/// settlement key's word, and `crossSignature` is the network key's over the settlement address.
/// The EVM cannot check ed25519 at a sensible price, so the signature is put on record
/// ({CrossSigned}) and every party checks it before it talks to the participant.
contract Participants {
    /// @notice Asks for measurements and pays for them.
    uint8 public constant PAYER = 1;
    /// @notice Claims a capacity.
    uint8 public constant PROVER = 2;
    /// @notice Sends challenge traffic.
    uint8 public constant CHALLENGER = 4;
    /// @notice Runs a measurement and posts its result.
    uint8 public constant COORDINATOR = 8;
    /// @notice All of them.
    uint8 public constant ALL_ROLES = 15;
    /// @notice Longest endpoint, in bytes.
    uint256 public constant MAX_ENDPOINT = 256;
    /// @notice Length of an ed25519 signature, in bytes.
    uint256 public constant SIGNATURE_LENGTH = 64;

    /// @notice One participant.
    struct Participant {
        /// settlement key
        address account;
        /// sum of role bits
        uint8 roles;
        /// block of the registration
        uint64 registeredBlock;
        /// ed25519 public key
        bytes32 networkKey;
        /// who runs it; zero: says nothing
        bytes32 operator;
        /// highest capacity it may be asked to prove, bit/s at the IP layer (provers)
        uint64 maxBps;
        /// unix seconds from which the stake can be reclaimed; zero: not leaving
        uint64 leaveAt;
        /// keccak256 of the ed25519 signature over the settlement address
        bytes32 crossSignatureHash;
        /// where it can be reached
        string endpoint;
    }

    /// @notice Where stakes lie.
    Vault public immutable VAULT;
    /// @notice Smallest stake of a registration.
    uint128 public immutable MIN_STAKE;
    /// @notice Seconds between {leave} and {reclaim}.
    uint64 public immutable UNBONDING;

    /// @notice The settlement key a network key belongs to, for ever: a key never changes hands.
    mapping(bytes32 networkKey => address account) public accountOf;
    mapping(address account => Participant) private _participants;
    mapping(address account => uint256 indexPlusOne) private _position;
    address[] private _accounts;

    /// @notice `account` registered.
    event Registered(
        address indexed account,
        uint8 roles,
        bytes32 indexed networkKey,
        bytes32 indexed operator,
        string endpoint,
        uint64 maxBps,
        uint128 stake
    );
    /// @notice The network key's signature over the settlement address, for everyone to check.
    event CrossSigned(address indexed account, bytes32 indexed networkKey, bytes signature);
    /// @notice `account` moved to another endpoint.
    event EndpointChanged(address indexed account, string endpoint);
    /// @notice `account` takes part no longer and can reclaim its stake at `leaveAt`.
    event Leaving(address indexed account, uint64 leaveAt);
    /// @notice `account` is gone and `stake` is owed to it.
    event Left(address indexed account, uint256 stake);

    /// @notice The role bits are none or unknown.
    error RolesUnknown(uint8 roles);
    /// @notice This address is registered already.
    error AlreadyRegistered(address account);
    /// @notice This address is not registered, or is leaving.
    error NotRegistered(address account);
    /// @notice A network key of zero.
    error NetworkKeyZero();
    /// @notice This network key belongs to another address.
    error NetworkKeyTaken(bytes32 networkKey, address account);
    /// @notice The cross signature has the wrong length.
    error CrossSignatureLength(uint256 length, uint256 needed);
    /// @notice The endpoint is empty or too long.
    error EndpointLength(uint256 length, uint256 max);
    /// @notice A prover must say the highest capacity it can be asked to prove.
    error MaximumZero();
    /// @notice The stake is below the minimum.
    error StakeTooSmall(uint256 stake, uint256 min);
    /// @notice {reclaim} without {leave}.
    error NotLeaving(address account);
    /// @notice The unbonding delay is not over.
    error StillBonded(uint256 until, uint256 now_);

    /// @param vault where stakes lie; this contract must be one of its modules
    /// @param minStake smallest stake of a registration, in the token's smallest unit
    /// @param unbonding seconds between {leave} and {reclaim}
    constructor(Vault vault, uint128 minStake, uint64 unbonding) {
        VAULT = vault;
        MIN_STAKE = minStake;
        UNBONDING = unbonding;
    }

    /// @notice Registers the caller and pulls its stake (allowance to the vault).
    /// @param roles sum of role bits
    /// @param networkKey ed25519 public key
    /// @param crossSignature ed25519 signature over the caller's address, 64 bytes
    /// @param operator who runs it, the same for all machines of one operator; zero: says nothing
    /// @param endpoint where it can be reached
    /// @param maxBps highest capacity it may be asked to prove, bit/s (provers; others may pass 0)
    /// @param stake how much to put at stake
    function register(
        uint8 roles,
        bytes32 networkKey,
        bytes calldata crossSignature,
        bytes32 operator,
        string calldata endpoint,
        uint64 maxBps,
        uint128 stake
    ) external {
        require(roles != 0 && roles <= ALL_ROLES, RolesUnknown(roles));
        require(_position[msg.sender] == 0, AlreadyRegistered(msg.sender));
        require(networkKey != 0, NetworkKeyZero());
        address keeper = accountOf[networkKey];
        require(keeper == address(0) || keeper == msg.sender, NetworkKeyTaken(networkKey, keeper));
        require(
            crossSignature.length == SIGNATURE_LENGTH, CrossSignatureLength(crossSignature.length, SIGNATURE_LENGTH)
        );
        _checkEndpoint(endpoint);
        require(roles & PROVER == 0 || maxBps != 0, MaximumZero());
        require(stake >= MIN_STAKE, StakeTooSmall(stake, MIN_STAKE));

        accountOf[networkKey] = msg.sender;
        _participants[msg.sender] = Participant({
            account: msg.sender,
            roles: roles,
            registeredBlock: uint64(block.number),
            networkKey: networkKey,
            operator: operator,
            maxBps: maxBps,
            leaveAt: 0,
            crossSignatureHash: keccak256(crossSignature),
            endpoint: endpoint
        });
        _accounts.push(msg.sender);
        _position[msg.sender] = _accounts.length;
        emit Registered(msg.sender, roles, networkKey, operator, endpoint, maxBps, stake);
        emit CrossSigned(msg.sender, networkKey, crossSignature);
        VAULT.stakeFrom(msg.sender, stake);
    }

    /// @notice Moves the caller to another endpoint.
    function setEndpoint(string calldata endpoint) external {
        require(isActive(msg.sender, ALL_ROLES), NotRegistered(msg.sender));
        _checkEndpoint(endpoint);
        _participants[msg.sender].endpoint = endpoint;
        emit EndpointChanged(msg.sender, endpoint);
    }

    /// @notice The caller takes part no longer; its stake stays bound for the unbonding delay.
    function leave() external {
        require(isActive(msg.sender, ALL_ROLES), NotRegistered(msg.sender));
        uint64 leaveAt = uint64(block.timestamp) + UNBONDING;
        _participants[msg.sender].leaveAt = leaveAt;
        emit Leaving(msg.sender, leaveAt);
    }

    /// @notice After the unbonding delay: removes the caller and makes its stake withdrawable.
    function reclaim() external {
        uint64 leaveAt = _participants[msg.sender].leaveAt;
        require(leaveAt != 0, NotLeaving(msg.sender));
        require(block.timestamp >= leaveAt, StillBonded(leaveAt, block.timestamp));

        uint256 position = _position[msg.sender];
        address last = _accounts[_accounts.length - 1];
        _accounts[position - 1] = last;
        _position[last] = position;
        _accounts.pop();
        delete _position[msg.sender];
        delete _participants[msg.sender];
        uint256 stake = VAULT.stake(msg.sender);
        emit Left(msg.sender, stake);
        VAULT.unstake(msg.sender, stake);
    }

    /// @notice Whether `account` is registered, not leaving, and has one of `roles`.
    function isActive(address account, uint8 roles) public view returns (bool active) {
        Participant storage p = _participants[account];
        return p.roles & roles != 0 && p.leaveAt == 0;
    }

    /// @notice All that is known of `account`; all zero if it is not registered.
    function get(address account) external view returns (Participant memory participant) {
        return _participants[account];
    }

    /// @notice How many are registered, those leaving included.
    function count() external view returns (uint256 number) {
        return _accounts.length;
    }

    /// @notice Up to `limit` participants from position `offset`. The order is that of the list, not of
    /// registration: a place left is filled from the end.
    function list(uint256 offset, uint256 limit) external view returns (Participant[] memory page) {
        uint256 length = _accounts.length;
        if (offset >= length) return page;
        uint256 size = limit < length - offset ? limit : length - offset;
        page = new Participant[](size);
        for (uint256 i = 0; i < size; ++i) {
            page[i] = _participants[_accounts[offset + i]];
        }
    }

    /// @notice Active holders of one of `roles` that registered before block `beforeBlock`.
    /// @return accounts who
    /// @return operators who runs each
    function pool(uint8 roles, uint64 beforeBlock)
        external
        view
        returns (address[] memory accounts, bytes32[] memory operators)
    {
        uint256 length = _accounts.length;
        accounts = new address[](length);
        operators = new bytes32[](length);
        uint256 size = 0;
        for (uint256 i = 0; i < length; ++i) {
            Participant storage p = _participants[_accounts[i]];
            if (p.roles & roles != 0 && p.leaveAt == 0 && p.registeredBlock < beforeBlock) {
                accounts[size] = p.account;
                operators[size] = p.operator;
                ++size;
            }
        }
        // Memory arrays cannot shrink in Solidity; both were allocated longer than `size`.
        assembly ("memory-safe") {
            mstore(accounts, size)
            mstore(operators, size)
        }
    }

    function _checkEndpoint(string calldata endpoint) private pure {
        uint256 length = bytes(endpoint).length;
        require(length != 0 && length <= MAX_ENDPOINT, EndpointLength(length, MAX_ENDPOINT));
    }
}
