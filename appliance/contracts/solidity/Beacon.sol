// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Draw} from "./Draw.sol";
import {Parameters} from "./Parameters.sol";
import {Participants} from "./Participants.sol";

/// @title Heartbeats, the randomness that they make, and the draws from it
/// @notice Each heartbeat reveals the seed that the previous one committed to and commits to the next.
/// The reveals of one block are a **round**:
///
///     part = keccak256(account, seed, anchor)      anchor: blockhash(block - 1) when it was committed to
///     mix  = keccak256(mix of the round before, XOR of the round's parts, prevrandao)
///
/// A draw's own round is the first, {BLOCKS} blocks or more after the request, by which `draw_operators` operators
/// have revealed since the request that are none of its parties'. So neither the asker nor any party decides
/// a mix alone, and none is known when its question is put.
///
/// Who commits cannot know what others will reveal; who makes blocks cannot know the seed, and the anchor
/// is fixed before it is revealed. So another order of reveals, or other blocks before them, changes nothing.
/// That is also why the hash of the closing block is not mixed in: its maker sees the reveals, and could try
/// hash after hash. `prevrandao` is one that no maker chooses, or a constant.
///
/// What it does not promise: whoever can keep k reveals out of a round after seeing them (its own, or as
/// the maker of blocks those of others) can choose among 2^k mixes. Those kept out are missed: a heartbeat
/// that does not come is seen by everyone.
contract Beacon is Draw {
    /// @dev One slot, written at every heartbeat: the last two times through which an account was live, each
    /// from a block on until an interval after a unix second.
    struct Pulse {
        uint48 since;
        uint40 last;
        uint48 sinceBefore;
        uint40 lastBefore;
        uint48 count;
    }

    /// @notice Blocks from a request to the earliest that can close its round.
    uint256 public constant BLOCKS = 2;
    /// @dev Operators of a round that are kept: those of a request's parties, and two.
    uint256 private constant OPERATORS = 5;

    /// @notice Hash of the seed that the next heartbeat of an account must reveal.
    mapping(address account => bytes32 hash) public commitmentOf;
    /// @notice Mix of a round; final once its block is over.
    mapping(uint64 round => bytes32 mix) public mixOf;
    /// @dev Block of a round, 48 bits, and tags of the first operators that revealed in it, 40 bits each. Tags
    /// that are equal by chance or by design make two operators count as one.
    mapping(uint64 round => uint256 packed) private _rounds;
    /// @notice The newest round; 0 before the first.
    uint64 public currentRound;
    mapping(address account => Pulse) private _pulse;
    /// @notice Hash of the block before that in which an account's commitment was made.
    mapping(address account => bytes32 hash) public anchorOf;
    /// @dev XOR of the parts of the newest round.
    bytes32 private _parts;

    /// @notice `account` is alive, revealed `seed` (zero at its first heartbeat) and committed to another.
    event Heartbeat(address indexed account, bytes32 seed, bytes32 nextCommitment, uint64 count);
    /// @notice A round was opened in this block.
    event RoundOpened(uint64 indexed round);
    /// @notice The mix of `round` changed.
    event Mixed(uint64 indexed round, bytes32 mix);

    /// @notice Only registered participants heartbeat.
    error NotRegistered(address account);
    /// @notice A first heartbeat has nothing to reveal.
    error RevealWithoutCommitment(address account);
    /// @notice The seed does not open the commitment.
    error SeedDoesNotOpen(address account, bytes32 commitment, bytes32 seedHash);
    /// @notice A commitment of zero.
    error CommitmentZero();

    /// @param participants who may heartbeat and be drawn
    /// @param parameters where chain variables stand
    constructor(Participants participants, Parameters parameters) {
        PARTICIPANTS = participants;
        PARAMETERS = parameters;
    }

    /// @notice Says "I am here", reveals the previous seed and commits to the next.
    /// @param revealedSeed seed whose keccak256(abi.encode(seed)) the previous heartbeat gave; zero at the first
    /// @param nextCommitment keccak256(abi.encode(seed)) of the next seed
    function heartbeat(bytes32 revealedSeed, bytes32 nextCommitment) external {
        require(PARTICIPANTS.isActive(msg.sender, type(uint32).max), NotRegistered(msg.sender));
        require(nextCommitment != 0, CommitmentZero());
        bytes32 commitment = commitmentOf[msg.sender];
        if (commitment == 0) {
            require(revealedSeed == 0, RevealWithoutCommitment(msg.sender));
        } else {
            bytes32 seedHash = keccak256(abi.encode(revealedSeed));
            require(seedHash == commitment, SeedDoesNotOpen(msg.sender, commitment, seedHash));
            _stir(keccak256(abi.encode(msg.sender, revealedSeed, anchorOf[msg.sender])));
        }
        commitmentOf[msg.sender] = nextCommitment;
        anchorOf[msg.sender] = blockhash(block.number - 1);
        Pulse memory p = _pulse[msg.sender];
        if (block.timestamp > p.last + liveInterval()) {
            (p.sinceBefore, p.lastBefore, p.since) = (p.since, p.last, uint48(block.number));
        }
        p.last = uint40(block.timestamp);
        ++p.count;
        _pulse[msg.sender] = p;
        emit Heartbeat(msg.sender, revealedSeed, nextCommitment, p.count);
    }

    /// @notice What a request made now fixes of its draw from the pool of `role`: for its module to keep.
    function snapshot(uint32 role) external view returns (Snapshot memory taken) {
        return Snapshot({
            blockNumber: uint48(block.number),
            round: uint48(currentRound),
            time: uint40(block.timestamp),
            role: role,
            pool: uint32(PARTICIPANTS.places(role))
        });
    }

    /// @notice The draw of `n` for the request `id`, as of when it was `asked`; fewer are seated if there are not so
    /// many. Anyone repeats it.
    /// @param parties who must not be drawn, nor anyone of their operators, nor count towards the round
    /// @param most tickets that count of one at most; 1: each counts alike
    function draw(bytes32 id, Snapshot calldata asked, address[] calldata parties, uint256 n, uint256 most)
        external
        view
        returns (Drawn memory drawn)
    {
        bytes32[] memory barred = new bytes32[](parties.length);
        for (uint256 i = 0; i < parties.length; ++i) {
            // As of then: who registers when the mix is known does not choose whom to shut out.
            barred[i] = PARTICIPANTS.operatorBefore(parties[i], asked.blockNumber);
        }
        (drawn.round, drawn.closed) = _roundOf(asked, barred);
        if (!drawn.closed) return drawn;
        drawn.mix = mixOf[drawn.round];
        _draw(drawn, id, asked, barred, n, most);
    }

    /// @notice Whether `account` is active and its last heartbeat is fresh.
    function isLive(address account) external view returns (bool live) {
        return block.timestamp <= _pulse[account].last + liveInterval()
            && PARTICIPANTS.isActive(account, type(uint32).max);
    }

    /// @notice Seconds that a heartbeat keeps a participant in the draws.
    function liveInterval() public view returns (uint256 interval) {
        return PARAMETERS.get("live_interval_s");
    }

    /// @notice Unix seconds of the last heartbeat of `account`; 0 if there was none.
    function lastHeartbeat(address account) external view returns (uint64 timestamp) {
        return _pulse[account].last;
    }

    /// @notice How many heartbeats `account` has sent. A client that derives its seeds from a secret and
    /// this number loses none by a crash.
    function heartbeats(address account) external view returns (uint64 number) {
        return _pulse[account].count;
    }

    /// @inheritdoc Draw
    function _wasLive(address account, Snapshot calldata asked, uint256 interval)
        internal
        view
        override
        returns (bool live)
    {
        Pulse memory p = _pulse[account];
        if (p.since < asked.blockNumber) return asked.time <= p.last + interval;
        return p.sinceBefore < asked.blockNumber && asked.time <= p.lastBefore + interval;
    }

    /// @dev The round that closes what was `asked`, and whether it has: else the next that could.
    function _roundOf(Snapshot calldata asked, bytes32[] memory barred)
        private
        view
        returns (uint64 round, bool closed)
    {
        uint256 needed = PARAMETERS.at("draw_operators", asked.time);
        uint40[] memory known = new uint40[](needed + barred.length);
        uint256 size = barred.length;
        for (uint256 i = 0; i < size; ++i) {
            known[i] = _tag(barred[i]);
        }
        for (round = asked.round + 1; round <= currentRound; ++round) {
            uint256 packed = _rounds[round];
            uint256 number = uint48(packed);
            // A heartbeat later in the block of the request.
            if (number == asked.blockNumber) continue;
            for (packed >>= 48; packed != 0 && size < known.length; packed >>= 40) {
                uint40 tag = uint40(packed);
                uint256 i = 0;
                while (i < size && known[i] != tag) ++i;
                if (i == size) known[size++] = tag;
            }
            if (size == known.length && number >= asked.blockNumber + BLOCKS) return (round, block.number > number);
        }
    }

    function _stir(bytes32 part) private {
        uint64 round = currentRound;
        uint256 packed = _rounds[round];
        if (uint48(packed) == block.number) {
            part ^= _parts;
        } else {
            packed = block.number;
            currentRound = ++round;
            emit RoundOpened(round);
        }
        _parts = part;
        _rounds[round] = _noted(packed, _tag(PARTICIPANTS.operatorOf(msg.sender)));
        bytes32 mix = keccak256(abi.encode(mixOf[round - 1], part, block.prevrandao));
        mixOf[round] = mix;
        emit Mixed(round, mix);
    }

    /// @dev With `tag`, unless it is there or there is no room.
    function _noted(uint256 packed, uint40 tag) private pure returns (uint256 noted) {
        for (uint256 i = 0; i < OPERATORS; ++i) {
            uint256 shift = 48 + 40 * i;
            uint40 other = uint40(packed >> shift);
            if (other == tag) break;
            if (other == 0) return packed | uint256(tag) << shift;
        }
        return packed;
    }

    /// @dev Never zero.
    function _tag(bytes32 operator) private pure returns (uint40 tag) {
        return uint40(uint256(keccak256(abi.encode(operator)))) | 1;
    }
}
