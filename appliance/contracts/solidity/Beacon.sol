// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Parameters} from "./Parameters.sol";
import {Participants} from "./Participants.sol";

/// @title Heartbeats, and the randomness that they make
/// @notice Each heartbeat reveals the seed that the previous one committed to and commits to the next.
/// The first reveal in a block opens a **round**; the round is closed, and its mix final, once that block
/// is over. A draw uses a round opened after the thing it decides about.
///
///     part = keccak256(account, seed, anchor)      anchor: blockhash(block - 1) when it was committed to
///     mix  = keccak256(mix of the round before, XOR of the round's parts)
///
/// Who commits cannot know what others will reveal; who makes blocks cannot know the seed, and the anchor
/// is fixed before it is revealed. So another order of reveals, or other blocks before them, changes nothing.
///
/// What it does not promise: whoever can keep k reveals out of a round after seeing them (its own, or as
/// the maker of blocks those of others) can choose among 2^k mixes. Those kept out are missed: a heartbeat
/// that does not come is seen by everyone.
contract Beacon {
    /// @notice Who may heartbeat.
    Participants public immutable PARTICIPANTS;
    /// @notice Where `live_interval_s` stands: seconds that a heartbeat keeps a participant in the draws.
    Parameters public immutable PARAMETERS;

    /// @dev One slot: written at every heartbeat.
    struct Pulse {
        uint64 last;
        uint64 count;
    }

    /// @notice Hash of the seed that the next heartbeat of an account must reveal.
    mapping(address account => bytes32 hash) public commitmentOf;
    /// @notice Block in which a round was opened.
    mapping(uint64 round => uint64 number) public roundBlock;
    /// @notice Mix of a round; final once its block is over.
    mapping(uint64 round => bytes32 mix) public mixOf;
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

    /// @param participants who may heartbeat
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
        uint64 beats = _pulse[msg.sender].count + 1;
        _pulse[msg.sender] = Pulse({last: uint64(block.timestamp), count: beats});
        emit Heartbeat(msg.sender, revealedSeed, nextCommitment, beats);
    }

    /// @notice Whether `account` is active and its last heartbeat is fresh.
    function isLive(address account) public view returns (bool live) {
        uint64 last = _pulse[account].last;
        return last != 0 && block.timestamp <= last + liveInterval()
            && PARTICIPANTS.isActive(account, type(uint32).max);
    }

    /// @notice Which of `accounts` had a fresh heartbeat. Does not ask whether they are registered.
    function fresh(address[] calldata accounts) external view returns (bool[] memory isFresh) {
        uint256 interval = liveInterval();
        isFresh = new bool[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint64 last = _pulse[accounts[i]].last;
            isFresh[i] = last != 0 && block.timestamp <= last + interval;
        }
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

    /// @notice The first round whose block is later than `afterBlock`, given the newest round then.
    /// @param roundThen the newest round when it was asked for
    /// @param afterBlock the block in which it was asked for
    /// @return round its number (it may not be open yet)
    /// @return closed whether its mix is final
    /// @return mix the mix; zero while not closed
    function drawFor(uint64 roundThen, uint64 afterBlock)
        external
        view
        returns (uint64 round, bool closed, bytes32 mix)
    {
        round = roundThen + 1;
        // A heartbeat later in the same block may have opened a round of that block.
        if (roundBlock[round] == afterBlock) ++round;
        closed = round <= currentRound && block.number > roundBlock[round];
        if (closed) mix = mixOf[round];
    }

    function _stir(bytes32 part) private {
        uint64 round = currentRound;
        if (roundBlock[round] == block.number) {
            part ^= _parts;
        } else {
            currentRound = ++round;
            roundBlock[round] = uint64(block.number);
            emit RoundOpened(round);
        }
        _parts = part;
        bytes32 mix = keccak256(abi.encode(mixOf[round - 1], part));
        mixOf[round] = mix;
        emit Mixed(round, mix);
    }
}
