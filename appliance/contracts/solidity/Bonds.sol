// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Backhaul} from "./Backhaul.sol";
import {IBackhaul} from "./IBackhaul.sol";
import {Parameters} from "./Parameters.sol";
import {Participants} from "./Participants.sol";

/// @title Who began, and then withheld its seed
/// @notice Whoever sends and then says nothing makes a true claim read low, and cannot be told from one
/// that was silenced. So it is asked in public, and its bond answers for it:
///
///     measurement over ──name──► named ──give──► given      the seed is there for all to read
///       (coordinator)              └──until──► forfeited     the bond is the payer's
///
/// The bond is what a challenger has at stake above `min_stake`, `seed_bond` at most for each measurement.
/// Less than that is never touched: a crash is no crime. Who lost its bond is in no draw until
/// {Participants.topUp}.
///
/// Only what is over can be named, so no seed is asked for while packets made from it can still count.
contract Bonds {
    /// @notice EIP-712 type of a challenger's word that it begins, in {Backhaul}'s domain.
    bytes32 public constant BEGIN_TYPEHASH = keccak256("Begin(bytes32 id,uint16 index,bytes32 seedHash)");

    /// @notice What becomes of one challenger in one measurement.
    enum Standing {
        /// not named
        None,
        /// asked for its seed
        Named,
        /// gave it
        Given,
        /// did not, and lost its bond
        Forfeited
    }

    /// @notice One challenger that was named.
    struct Case {
        Standing standing;
        /// unix second after which its bond is lost
        uint64 until;
        /// what it can lose
        uint128 bond;
        /// what its seed hashes to
        bytes32 seedHash;
    }

    /// @notice Whose measurements.
    Backhaul public immutable BACKHAUL;
    /// @notice Whose bonds.
    Participants public immutable PARTICIPANTS;
    /// @notice Where `seed_bond` and `seed_answer_s` stand.
    Parameters public immutable PARAMETERS;

    mapping(bytes32 id => mapping(uint16 index => Case)) private _cases;

    /// @notice `challenger` began measurement `id` and must {give} its seed until `until`.
    event Named(bytes32 indexed id, address indexed challenger, uint16 index, bytes32 seedHash, uint64 until);
    /// @notice `challenger` withheld nothing: here is its seed.
    event Given(bytes32 indexed id, address indexed challenger, uint16 index, bytes32 seed);
    /// @notice `challenger` gave no seed: `amount` of its bond is the payer's.
    event Forfeited(bytes32 indexed id, address indexed challenger, uint16 index, address payer, uint256 amount);

    /// @notice Only this measurement's coordinator names.
    error NotCoordinator(address caller, address coordinator);
    /// @notice The measurement is not over, or nobody ever began it.
    error NotOver(bytes32 id);
    /// @notice Nobody is named for this measurement any more.
    error NamedTooLate(uint256 until, uint256 now_);
    /// @notice No such place in the draw.
    error IndexUnknown(uint16 index, uint256 challengers);
    /// @notice This challenger's report is on record: nothing is missing.
    error Reported(bytes32 id, uint16 index);
    /// @notice This challenger was named before.
    error AlreadyNamed(bytes32 id, uint16 index);
    /// @notice Not the challenger's word that it begins with this seed.
    error BeginSignatureInvalid(address recovered, address challenger);
    /// @notice This challenger is not asked for its seed, or not any more.
    error NotAsked(bytes32 id, uint16 index);
    /// @notice The seed does not open the commitment.
    error SeedDoesNotOpen(bytes32 seedHash, bytes32 computed);
    /// @notice The time to answer is over.
    error AnswerTooLate(uint256 until, uint256 now_);
    /// @notice The challenger can still answer.
    error AnswerOpen(uint256 until, uint256 now_);

    /// @param backhaul whose measurements
    /// @param participants whose bonds; this contract must be one of its modules
    /// @param parameters where chain variables stand
    constructor(Backhaul backhaul, Participants participants, Parameters parameters) {
        BACKHAUL = backhaul;
        PARTICIPANTS = participants;
        PARAMETERS = parameters;
    }

    /// @notice Asks challenger `index` of the finished measurement `id` for its seed (coordinator).
    /// @param seedHash what it committed to: keccak256(abi.encode(id, seed))
    /// @param signature its settlement key's, over {BEGIN_TYPEHASH}
    function name(bytes32 id, uint16 index, bytes32 seedHash, bytes calldata signature) external {
        (IBackhaul.Request memory asked,, bytes32 setupHash) = BACKHAUL.requestOf(id);
        require(msg.sender == asked.coordinator, NotCoordinator(msg.sender, asked.coordinator));
        (uint256 end, uint64 reporters) = _end(id, asked.deadline);
        require(end != 0 && setupHash != 0, NotOver(id));
        uint256 answer = PARAMETERS.get("seed_answer_s");
        require(block.timestamp <= end + answer, NamedTooLate(end + answer, block.timestamp));
        address challenger = _challenger(id, index);
        require((reporters >> index) & 1 == 0, Reported(id, index));
        Case storage c = _cases[id][index];
        require(c.standing == Standing.None, AlreadyNamed(id, index));
        (address recovered,,) = ECDSA.tryRecoverCalldata(_beginDigest(id, index, seedHash), signature);
        require(recovered == challenger, BeginSignatureInvalid(recovered, challenger));

        uint64 until = uint64(block.timestamp + answer);
        _cases[id][index] = Case({
            standing: Standing.Named,
            until: until,
            bond: uint128(PARAMETERS.get("seed_bond")),
            seedHash: seedHash
        });
        emit Named(id, challenger, index, seedHash, until);
    }

    /// @notice Answers for a challenger that was named. Anyone may call it.
    function give(bytes32 id, uint16 index, bytes32 seed) external {
        Case storage c = _named(id, index);
        require(block.timestamp <= c.until, AnswerTooLate(c.until, block.timestamp));
        bytes32 computed = keccak256(abi.encode(id, seed));
        require(computed == c.seedHash, SeedDoesNotOpen(c.seedHash, computed));
        c.standing = Standing.Given;
        emit Given(id, _challenger(id, index), index, seed);
    }

    /// @notice Takes the bond of one that did not answer. Anyone may call it.
    function forfeit(bytes32 id, uint16 index) external {
        Case storage c = _named(id, index);
        require(block.timestamp > c.until, AnswerOpen(c.until, block.timestamp));
        c.standing = Standing.Forfeited;
        address challenger = _challenger(id, index);
        (IBackhaul.Request memory asked,,) = BACKHAUL.requestOf(id);
        uint256 amount = PARTICIPANTS.forfeit(challenger, c.bond, asked.payer);
        emit Forfeited(id, challenger, index, asked.payer, amount);
    }

    /// @notice What became of challenger `index` of measurement `id`; all zero if it was not named.
    function get(bytes32 id, uint16 index) external view returns (Case memory found) {
        return _cases[id][index];
    }

    /// @notice Last unix second in which anyone can be named for measurement `id`, as far as is known: until
    /// then a challenger keeps its seed.
    function namedUntil(bytes32 id) external view returns (uint256 time) {
        (IBackhaul.Request memory asked,,) = BACKHAUL.requestOf(id);
        (uint256 end,) = _end(id, asked.deadline);
        return (end != 0 ? end : asked.deadline) + PARAMETERS.get("seed_answer_s");
    }

    /// @dev When the measurement was over, and whose reports are on record; zero while it is not.
    function _end(bytes32 id, uint256 deadline) private view returns (uint256 end, uint64 reporters) {
        (IBackhaul.Result memory result,) = BACKHAUL.resultOf(id);
        if (result.reportedAt != 0) return (result.reportedAt, result.reporters);
        return (block.timestamp > deadline ? deadline : 0, 0);
    }

    function _named(bytes32 id, uint16 index) private view returns (Case storage c) {
        c = _cases[id][index];
        require(c.standing == Standing.Named, NotAsked(id, index));
    }

    function _challenger(bytes32 id, uint16 index) private view returns (address challenger) {
        address[] memory selected = BACKHAUL.selectedOf(id);
        require(index < selected.length, IndexUnknown(index, selected.length));
        return selected[index];
    }

    /// @dev In {Backhaul}'s domain: a challenger signs for one deployment, whatever its modules are.
    function _beginDigest(bytes32 id, uint16 index, bytes32 seedHash) private view returns (bytes32 digest) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                ),
                keccak256("Plumbline Backhaul"),
                keccak256("1"),
                block.chainid,
                BACKHAUL
            )
        );
        bytes32 begin = keccak256(abi.encode(BEGIN_TYPEHASH, id, index, seedHash));
        return MessageHashUtils.toTypedDataHash(domain, begin);
    }
}
