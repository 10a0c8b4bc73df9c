// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {Parameters} from "./Parameters.sol";
import {Registry} from "./Registry.sol";
import {Vault} from "./Vault.sol";

/// @title Who takes part, as what, with which keys, and with how much at stake
/// @notice A participant has two keys: the settlement key (this chain's address) and an ed25519
/// network key that signs packets and evidence. Each signs the other once: the transaction is the
/// settlement key's word, and `crossSignature` is the network key's over the settlement address.
/// The EVM cannot check ed25519 at a sensible price, so the signature is put on record
/// ({CrossSigned}) and every party checks it before it talks to the participant: it names the account, so
/// who copies another's network key has a key that did not sign for it, and is heard by nobody.
///
/// Whoever draws picks places of a role's pool, which keep their holders: a place is free again when its
/// holder has reclaimed its stake, long after it left, and whoever takes it then was not there before. What
/// counts in a draw is what was so in the block before that of its request ({candidate}, {stakeAt}).
contract Participants {
    using Checkpoints for Checkpoints.Trace208;

    /// @notice Asks for measurements and pays for them.
    uint32 public constant PAYER = 1;
    /// @notice Claims a capacity.
    uint32 public constant PROVER = 2;
    /// @notice Sends challenge traffic.
    uint32 public constant CHALLENGER = 4;
    /// @notice Runs a measurement and posts its result.
    uint32 public constant COORDINATOR = 8;
    /// @notice Judges evidence that the EVM cannot. Further bits are free: what a bit means is said by the
    /// proof that draws or asks for it.
    uint32 public constant JUROR = 16;
    /// @notice Longest endpoint, in bytes.
    uint256 public constant MAX_ENDPOINT = 256;
    /// @notice Length of an ed25519 signature, in bytes.
    uint256 public constant SIGNATURE_LENGTH = 64;

    /// @notice One participant.
    struct Participant {
        /// block of the registration
        uint48 registeredBlock;
        /// sum of role bits
        uint32 roles;
        /// lost so much stake, or its bond, that it counts as absent until {topUp}
        bool suspended;
        /// unix seconds from which the stake can be reclaimed; zero: not leaving
        uint64 leaveAt;
        /// settlement key
        address account;
        /// highest capacity it may be asked to prove, bit/s at the IP layer (provers)
        uint64 maxBps;
        /// who runs it; zero: says nothing
        bytes32 operator;
        /// ed25519 public key
        bytes32 networkKey;
        /// keccak256 of the ed25519 signature over the settlement address
        bytes32 crossSignatureHash;
        /// where it can be reached
        string endpoint;
    }

    /// @notice Where stakes lie.
    Vault public immutable VAULT;
    /// @notice Who may take stakes.
    Registry public immutable REGISTRY;
    /// @notice Where `min_stake`, `seed_bond` and `unbonding_s` stand.
    Parameters public immutable PARAMETERS;

    mapping(address account => Participant) private _participants;
    /// @dev Places of a role's pool; zero: free. Role 0 stands for everyone.
    mapping(uint32 role => address[]) private _places;
    mapping(uint32 role => uint256[]) private _free;
    mapping(uint32 role => mapping(address account => uint256 place)) private _placeOf;
    /// @dev Of jurors, by block.
    mapping(address account => Checkpoints.Trace208 stakes) private _stakes;
    /// @dev By block: its operator's tag << 32 | the roles in which it was active; zero: it was not registered.
    mapping(address account => Checkpoints.Trace208 standings) private _standings;

    /// @notice `account` registered.
    event Registered(
        address indexed account,
        uint32 roles,
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
    /// @notice `account` put `amount` more at stake and has `stake` now.
    event ToppedUp(address indexed account, uint256 amount, uint256 stake);
    /// @notice Module `by` took `amount` of the stake of `account` for `offence`, `share` of it for `reporter`.
    event Slashed(
        address indexed account,
        address indexed by,
        bytes32 indexed offence,
        uint256 amount,
        address reporter,
        uint256 share
    );
    /// @notice `account` has too little at stake and counts as absent until it tops up.
    event Suspended(address indexed account, uint256 stake, uint256 needed);
    /// @notice Module `by` took `amount` of what `account` had at stake above the minimum, for `to`.
    event BondLost(address indexed account, address indexed by, uint256 amount, address indexed to);
    /// @notice `account` is gone and `stake` is owed to it.
    event Left(address indexed account, uint256 stake);

    /// @notice No role at all.
    error RolesZero();
    /// @notice This address is registered already.
    error AlreadyRegistered(address account);
    /// @notice This address is not registered, is leaving, or is suspended.
    error NotRegistered(address account);
    /// @notice A network key of zero.
    error NetworkKeyZero();
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
    /// @notice Only a module takes stakes.
    error NotAModule(address caller);
    /// @notice More than all of what is taken for the reporter.
    error PercentAbove100(uint256 percent);

    /// @param vault where stakes lie; this contract must be one of its modules
    /// @param registry who may take stakes
    /// @param parameters where chain variables stand
    constructor(Vault vault, Registry registry, Parameters parameters) {
        VAULT = vault;
        REGISTRY = registry;
        PARAMETERS = parameters;
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
        uint32 roles,
        bytes32 networkKey,
        bytes calldata crossSignature,
        bytes32 operator,
        string calldata endpoint,
        uint64 maxBps,
        uint128 stake
    ) external {
        require(roles != 0, RolesZero());
        require(_participants[msg.sender].roles == 0, AlreadyRegistered(msg.sender));
        require(networkKey != 0, NetworkKeyZero());
        require(
            crossSignature.length == SIGNATURE_LENGTH, CrossSignatureLength(crossSignature.length, SIGNATURE_LENGTH)
        );
        _checkEndpoint(endpoint);
        require(roles & PROVER == 0 || maxBps != 0, MaximumZero());
        uint256 min = needed(roles);
        require(stake >= min, StakeTooSmall(stake, min));

        _participants[msg.sender] = Participant({
            registeredBlock: uint48(block.number),
            roles: roles,
            suspended: false,
            leaveAt: 0,
            account: msg.sender,
            maxBps: maxBps,
            operator: operator,
            networkKey: networkKey,
            crossSignatureHash: keccak256(crossSignature),
            endpoint: endpoint
        });
        _enter(0, msg.sender);
        for (uint32 rest = roles; rest != 0; rest &= rest - 1) {
            _enter(rest & (~rest + 1), msg.sender);
        }
        _weigh(msg.sender, roles, stake);
        _note(msg.sender);
        emit Registered(msg.sender, roles, networkKey, operator, endpoint, maxBps, stake);
        emit CrossSigned(msg.sender, networkKey, crossSignature);
        VAULT.stakeFrom(msg.sender, stake);
    }

    /// @notice Moves the caller to another endpoint.
    function setEndpoint(string calldata endpoint) external {
        require(isActive(msg.sender, type(uint32).max), NotRegistered(msg.sender));
        _checkEndpoint(endpoint);
        _participants[msg.sender].endpoint = endpoint;
        emit EndpointChanged(msg.sender, endpoint);
    }

    /// @notice Puts `amount` more of the caller's tokens at stake; ends a suspension if {needed} is there again.
    function topUp(uint256 amount) external {
        Participant storage p = _participants[msg.sender];
        require(p.roles != 0 && p.leaveAt == 0, NotRegistered(msg.sender));
        VAULT.stakeFrom(msg.sender, amount);
        uint256 stake = VAULT.stake(msg.sender);
        _weigh(msg.sender, p.roles, stake);
        if (p.suspended && stake >= needed(p.roles)) {
            p.suspended = false;
            _note(msg.sender);
        }
        emit ToppedUp(msg.sender, amount, stake);
    }

    /// @notice Takes up to `asked` of the stake of `account`: all of it if it has less. For modules.
    /// @param account who loses it
    /// @param asked how much
    /// @param reporter who gets a share
    /// @param percent how much of it, percent; the rest is burnt
    /// @param offence what for
    /// @return amount how much was taken
    function slash(address account, uint256 asked, address reporter, uint256 percent, bytes32 offence)
        external
        returns (uint256 amount)
    {
        require(REGISTRY.isKnown(msg.sender), NotAModule(msg.sender));
        require(percent <= 100, PercentAbove100(percent));
        uint256 stake = VAULT.stake(account);
        amount = asked < stake ? asked : stake;
        uint256 share = reporter == address(0) ? 0 : amount * percent / 100;
        Participant storage p = _participants[account];
        uint256 min = needed(p.roles);
        _weigh(account, p.roles, stake - amount);
        if (p.roles != 0 && stake - amount < min) {
            p.suspended = true;
            _note(account);
            emit Suspended(account, stake - amount, min);
        }
        emit Slashed(account, msg.sender, offence, amount, reporter, share);
        VAULT.slash(account, amount, reporter, share);
    }

    /// @notice Takes up to `asked` of what `account` has at stake above the minimum, and gives it to `to`. The
    /// account is suspended, whatever it has left: it is in no draw until it puts its bond up again. For modules.
    /// @return amount how much was taken
    function forfeit(address account, uint256 asked, address to) external returns (uint256 amount) {
        require(REGISTRY.isKnown(msg.sender), NotAModule(msg.sender));
        uint256 stake = VAULT.stake(account);
        uint256 min = minStake();
        uint256 spare = stake > min ? stake - min : 0;
        amount = asked < spare ? asked : spare;
        Participant storage p = _participants[account];
        _weigh(account, p.roles, stake - amount);
        if (p.roles != 0) {
            p.suspended = true;
            _note(account);
            emit Suspended(account, stake - amount, needed(p.roles));
        }
        emit BondLost(account, msg.sender, amount, to);
        VAULT.slash(account, amount, to, amount);
    }

    /// @notice The caller takes part no longer; its stake stays bound for the unbonding delay.
    function leave() external {
        Participant storage p = _participants[msg.sender];
        require(p.roles != 0 && p.leaveAt == 0, NotRegistered(msg.sender));
        uint64 leaveAt = uint64(block.timestamp + PARAMETERS.get("unbonding_s"));
        p.leaveAt = leaveAt;
        _note(msg.sender);
        emit Leaving(msg.sender, leaveAt);
    }

    /// @notice After the unbonding delay: removes the caller and makes its stake withdrawable.
    function reclaim() external {
        Participant storage p = _participants[msg.sender];
        uint64 leaveAt = p.leaveAt;
        require(leaveAt != 0, NotLeaving(msg.sender));
        require(block.timestamp >= leaveAt, StillBonded(leaveAt, block.timestamp));

        _remove(0, msg.sender);
        for (uint32 rest = p.roles; rest != 0; rest &= rest - 1) {
            _remove(rest & (~rest + 1), msg.sender);
        }
        _weigh(msg.sender, p.roles, 0);
        delete _participants[msg.sender];
        _note(msg.sender);
        uint256 stake = VAULT.stake(msg.sender);
        emit Left(msg.sender, stake);
        VAULT.unstake(msg.sender, stake);
    }

    /// @notice Smallest stake of a participant.
    function minStake() public view returns (uint256 amount) {
        return PARAMETERS.get("min_stake");
    }

    /// @notice Smallest stake of a participant with `roles`: a challenger puts up its bond beside it.
    function needed(uint32 roles) public view returns (uint256 amount) {
        return minStake() + (roles & CHALLENGER != 0 ? PARAMETERS.get("seed_bond") : 0);
    }

    /// @notice Whether `account` is registered, neither leaving nor suspended, and has one of `roles`.
    function isActive(address account, uint32 roles) public view returns (bool active) {
        return _isActive(_participants[account], roles);
    }

    /// @notice All that is known of `account`; all zero if it is not registered.
    function get(address account) external view returns (Participant memory participant) {
        return _participants[account];
    }

    /// @notice How many are registered, those leaving included.
    function count() external view returns (uint256 number) {
        return _places[0].length - _free[0].length;
    }

    /// @notice What stands at up to `limit` places from `offset`; all zero where nobody does.
    function list(uint256 offset, uint256 limit) external view returns (Participant[] memory page) {
        uint256 length = _places[0].length;
        if (offset >= length) return page;
        uint256 size = limit < length - offset ? limit : length - offset;
        page = new Participant[](size);
        for (uint256 i = 0; i < size; ++i) {
            page[i] = _participants[_places[0][offset + i]];
        }
    }

    /// @notice How many places the pool of the one role `role` has, free ones included.
    function places(uint32 role) external view returns (uint256 number) {
        return _places[role].length;
    }

    /// @notice Who holds `place` in the pool of the one role `role`; zero: nobody.
    function holderOf(uint32 role, uint256 place) external view returns (address account) {
        return _places[role][place];
    }

    /// @notice Who holds `place` in the pool of the one role `role`, and, in the block before `before`, for whom it
    /// worked and whether it took part, neither leaving nor suspended: whatever it did since.
    function candidate(uint32 role, uint256 place, uint64 before)
        external
        view
        returns (address account, bytes32 operator, bool tookPart)
    {
        account = _places[role][place];
        uint208 standing = _standingBefore(account, before);
        return (account, _operatorIn(standing, account), uint32(standing) & role != 0);
    }

    /// @notice For whom `account` worked in the block before `before`: itself if it was not registered then.
    function operatorBefore(address account, uint64 before) external view returns (bytes32 operator) {
        return _operatorIn(_standingBefore(account, before), account);
    }

    /// @notice What a juror had at stake in the block before `before`.
    function stakeAt(address account, uint64 before) external view returns (uint256 stake) {
        return _stakes[account].upperLookupRecent(uint48(before - 1));
    }

    /// @notice For whom `account` works: the last 176 bits of its operator, or itself if it names none.
    function operatorOf(address account) external view returns (bytes32 operator) {
        return _operatorIn(_standings[account].latest(), account);
    }

    function _standingBefore(address account, uint64 before) private view returns (uint208 standing) {
        return _standings[account].upperLookupRecent(uint48(before - 1));
    }

    function _operatorIn(uint208 standing, address account) private pure returns (bytes32 operator) {
        uint256 tag = standing >> 32;
        return bytes32(tag == 0 ? uint160(account) : tag);
    }

    /// @dev Keeps in what it is from this block on.
    function _note(address account) private {
        Participant storage p = _participants[account];
        uint32 active = _isActive(p, type(uint32).max) ? p.roles : 0;
        uint208 standing = uint208(uint256(p.operator) << 32) | active;
        _standings[account].push(uint48(block.number), standing);
    }

    function _isActive(Participant storage p, uint32 roles) private view returns (bool active) {
        return p.roles & roles != 0 && p.leaveAt == 0 && !p.suspended;
    }

    function _enter(uint32 role, address account) private {
        uint256[] storage free = _free[role];
        uint256 place = _places[role].length;
        if (free.length == 0) {
            _places[role].push(account);
        } else {
            place = free[free.length - 1];
            free.pop();
            _places[role][place] = account;
        }
        _placeOf[role][account] = place;
    }

    function _remove(uint32 role, address account) private {
        uint256 place = _placeOf[role][account];
        delete _places[role][place];
        delete _placeOf[role][account];
        _free[role].push(place);
    }

    /// @dev Seats of a jury go by stake.
    function _weigh(address account, uint32 roles, uint256 stake) private {
        if (roles & JUROR != 0) _stakes[account].push(uint48(block.number), uint208(stake));
    }

    function _checkEndpoint(string calldata endpoint) private pure {
        uint256 length = bytes(endpoint).length;
        require(length != 0 && length <= MAX_ENDPOINT, EndpointLength(length, MAX_ENDPOINT));
    }
}
