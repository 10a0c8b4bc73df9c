// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Beacon} from "./Beacon.sol";
import {Parameters} from "./Parameters.sol";
import {Participants} from "./Participants.sol";
import {Registry} from "./Registry.sol";
import {Vault} from "./Vault.sol";

/// @title Judges of what the EVM cannot re-execute
/// @notice A case is one piece of evidence, named by its hash. Jurors are drawn by the stake that they had when
/// the case was opened, with randomness that comes after it. Each runs the pure verifier on the same bytes, commits to its vote, and reveals
/// it when nobody can follow it any more:
///
///     Open ──draw──► Drawn ── commit ──┊── reveal ──┊──settle──► Settled: Upheld | Rejected | Unavailable | Hung
///      └──too few live, or nobody drew in time───────────────────────────►  Hung
///
/// More than half of the seats must reveal, and more than half of the revealed votes agree, or the case is
/// hung. Who votes with the majority is paid; the minority and the silent lose stake. An honest juror needs
/// no judgement: the verdict is a pure function of the evidence. What it does not promise: anything once
/// more than half of the drawn stake lies together.
///
/// `Unavailable` is the vote of a juror that looked for the evidence until late in the time to commit, where its
/// reporter says it is and at every coordinator, and found it nowhere. Who must show something and does not
/// loses: the caller takes it as it takes `Rejected`, and may let the same evidence be brought again.
///
///  - The accused alone cannot bring it about: it is one of many places. Whoever holds the evidence hands it
///    in, and jurors hand on what they find.
///  - A reporter that shows it to some jurors in good time has shown it to all, as those hand it on. One that
///    shows it to some in the last moments splits the jury: the few lose the penalty, or the case is hung. It
///    risks its bond for that, and cannot choose the ruling by it.
///  - A juror that never looks and votes `Unavailable` loses the penalty wherever others found the evidence; it
///    is paid where most are as idle. That is the majority of the drawn stake again.
///
/// Every case ends without anyone's leave: {settle} is open to all once its time has come.
contract Jury is ReentrancyGuardTransient {
    /// @notice Where a case stands.
    enum Stage {
        None,
        Open,
        Drawn,
        Settled
    }

    /// @notice What came of it.
    enum Ruling {
        None,
        Upheld,
        Rejected,
        Hung,
        Unavailable
    }

    /// @notice One case.
    struct Case {
        Stage stage;
        Ruling ruling;
        /// seats
        uint16 size;
        /// block in which it was drawn, where the {Drawn} event with all weights is; zero before
        uint48 drawnBlock;
        /// unix seconds: until then it can be drawn
        uint48 drawUntil;
        /// unix seconds: until then votes are committed; zero before the draw
        uint48 commitUntil;
        /// unix seconds: until then votes are revealed
        uint48 revealUntil;
        /// whom it can be drawn from, and with which reveals
        Beacon.Snapshot snapshot;
        /// who paid for it and gets back what is left
        address funder;
        /// paid to each juror of the majority
        uint128 fee;
        /// taken from each juror of the minority and each silent one
        uint128 penalty;
        /// seconds to commit
        uint32 commitSeconds;
        /// seconds to reveal
        uint32 revealSeconds;
        /// the beacon's round of the draw
        uint64 round;
        /// the mix of that round
        bytes32 beacon;
        /// hash of the evidence: BLAKE3
        bytes32 evidence;
        /// who sits
        address[] jurors;
    }

    /// @notice One juror's part in a case.
    struct Ballot {
        bool seated;
        /// `None` until revealed
        Ruling vote;
        bytes32 commitment;
    }

    /// @notice Separates the ids of this contract from all other hashes.
    bytes32 public constant DOMAIN = keccak256("plumbline jury case v1");
    /// @notice Most tickets of one juror in the draw: stake beyond so many minimum stakes does not count. Of
    /// those with one ticket the draw passes over so many on average before it takes one.
    uint256 public constant MAX_TICKETS = 8;
    /// @notice Most accounts that a module can keep from a jury.
    uint256 public constant MAX_EXCLUDED = 96;

    /// @notice Where fees and stakes lie.
    Vault public immutable VAULT;
    /// @notice Who may open a case.
    Registry public immutable REGISTRY;
    /// @notice Where chain variables stand.
    Parameters public immutable PARAMETERS;
    /// @notice Who can be drawn.
    Participants public immutable PARTICIPANTS;
    /// @notice What jurors are drawn with.
    Beacon public immutable BEACON;

    mapping(bytes32 id => Case) private _cases;
    mapping(bytes32 id => address[]) private _excluded;
    mapping(bytes32 id => mapping(address juror => Ballot)) private _ballots;

    /// @notice `opener` opened a case about `evidence`.
    event Opened(bytes32 indexed id, address indexed opener, bytes32 indexed evidence, uint256 size, uint256 drawUntil);
    /// @notice Jurors were drawn; `looks` are whom the draw came upon, as {Beacon-draw} gives them.
    event Drawn(
        bytes32 indexed id,
        uint64 round,
        bytes32 beacon,
        uint32 pool,
        uint256[] looks,
        uint256 commitUntil,
        uint256 revealUntil
    );
    /// @notice `juror` committed to a vote.
    event Committed(bytes32 indexed id, address indexed juror);
    /// @notice `juror` revealed its vote.
    event Revealed(bytes32 indexed id, address indexed juror, Ruling vote);
    /// @notice The case is over.
    event Settled(
        bytes32 indexed id, Ruling ruling, uint256 upheld, uint256 rejected, uint256 unavailable, uint256 silent
    );
    /// @notice `juror` is paid for its vote.
    event Paid(bytes32 indexed id, address indexed juror, uint256 amount);

    /// @notice Only an active module opens cases.
    error NotAModule(address caller);
    /// @notice No such case.
    error UnknownCase(bytes32 id);
    /// @notice There is such a case already.
    error CaseExists(bytes32 id);
    /// @notice The case is not where it would have to be.
    error WrongStage(bytes32 id, Stage actual, Stage needed);
    /// @notice The round of the draw is not closed.
    error BeaconNotReady(bytes32 id, uint64 round, uint64 currentRound);
    /// @notice That was possible only until then.
    error TooLate(bytes32 id, uint256 until, uint256 now_);
    /// @notice That is possible only after then.
    error TooEarly(bytes32 id, uint256 until, uint256 now_);
    /// @notice This account does not sit in this case.
    error NotAJuror(bytes32 id, address account);
    /// @notice A juror commits once.
    error AlreadyCommitted(bytes32 id, address juror);
    /// @notice A commitment of zero.
    error CommitmentZero();
    /// @notice A juror reveals once.
    error AlreadyRevealed(bytes32 id, address juror);
    /// @notice A vote is `Upheld`, `Rejected` or `Unavailable`.
    error VoteUnknown(Ruling vote);
    /// @notice The vote does not open the commitment.
    error VoteDoesNotOpen(bytes32 id, address juror, bytes32 commitment, bytes32 voteHash);
    /// @notice More accounts to keep out than can be.
    error TooManyExcluded(uint256 length, uint256 max);

    /// @param vault where fees lie; this contract must be one of its modules
    /// @param registry who may open a case
    /// @param parameters where chain variables stand
    /// @param participants who can be drawn
    /// @param beacon what jurors are drawn with
    constructor(Vault vault, Registry registry, Parameters parameters, Participants participants, Beacon beacon) {
        VAULT = vault;
        REGISTRY = registry;
        PARAMETERS = parameters;
        PARTICIPANTS = participants;
        BEACON = beacon;
    }

    /// @notice Opens a case and locks its fees, pulled from `funder`. For modules.
    /// @param subject what it is about, for the id
    /// @param evidence hash of the evidence
    /// @param funder who pays: the caller's own caller
    /// @param excluded who must not judge, nor anyone of their operators
    /// @return id names the case
    function open(bytes32 subject, bytes32 evidence, address funder, address[] calldata excluded)
        external
        nonReentrant
        returns (bytes32 id)
    {
        require(REGISTRY.isActive(msg.sender), NotAModule(msg.sender));
        require(excluded.length <= MAX_EXCLUDED, TooManyExcluded(excluded.length, MAX_EXCLUDED));
        id = keccak256(abi.encode(DOMAIN, block.chainid, address(this), msg.sender, subject, evidence));
        Case storage c = _cases[id];
        require(c.stage == Stage.None, CaseExists(id));
        c.stage = Stage.Open;
        c.size = uint16(PARAMETERS.get("jury_size"));
        c.snapshot = BEACON.snapshot(PARTICIPANTS.JUROR());
        c.drawUntil = uint48(block.timestamp + PARAMETERS.get("jury_draw_s"));
        c.commitSeconds = uint32(PARAMETERS.get("jury_commit_s"));
        c.revealSeconds = uint32(PARAMETERS.get("jury_reveal_s"));
        c.fee = uint128(PARAMETERS.get("juror_fee"));
        c.penalty = uint128(PARAMETERS.get("juror_penalty"));
        c.funder = funder;
        c.evidence = evidence;
        _excluded[id] = excluded;
        emit Opened(id, msg.sender, evidence, c.size, c.drawUntil);
        VAULT.lock(id, funder, uint256(c.size) * c.fee);
    }

    /// @notice Draws the jurors. Anyone may call it once the round of the draw is closed. With too few live
    /// jurors the case is hung.
    function draw(bytes32 id) external nonReentrant {
        Case storage c = _at(id, Stage.Open);
        require(block.timestamp <= c.drawUntil, TooLate(id, c.drawUntil, block.timestamp));
        uint256 size = c.size;
        Beacon.Drawn memory drawn = BEACON.draw(id, c.snapshot, _excluded[id], size, MAX_TICKETS);
        require(drawn.closed, BeaconNotReady(id, drawn.round, BEACON.currentRound()));
        if (drawn.seated.length < size) {
            _close(id, c, Ruling.Hung, 0, 0, 0, 0);
            return;
        }
        c.stage = Stage.Drawn;
        c.drawnBlock = uint48(block.number);
        c.round = drawn.round;
        c.beacon = drawn.mix;
        c.commitUntil = uint48(block.timestamp + c.commitSeconds);
        c.revealUntil = c.commitUntil + c.revealSeconds;
        c.jurors = drawn.seated;
        for (uint256 i = 0; i < size; ++i) {
            _ballots[id][drawn.seated[i]].seated = true;
        }
        emit Drawn(id, drawn.round, drawn.mix, c.snapshot.pool, drawn.looks, c.commitUntil, c.revealUntil);
    }

    /// @notice A juror commits to its vote: keccak256(abi.encode(id, juror, vote, salt)).
    function commit(bytes32 id, bytes32 commitment) external {
        Case storage c = _at(id, Stage.Drawn);
        require(block.timestamp <= c.commitUntil, TooLate(id, c.commitUntil, block.timestamp));
        require(commitment != 0, CommitmentZero());
        Ballot storage ballot = _seated(id);
        require(ballot.commitment == 0, AlreadyCommitted(id, msg.sender));
        ballot.commitment = commitment;
        emit Committed(id, msg.sender);
    }

    /// @notice A juror reveals its vote, when no more can be committed.
    function reveal(bytes32 id, Ruling vote, bytes32 salt) external {
        Case storage c = _at(id, Stage.Drawn);
        require(block.timestamp > c.commitUntil, TooEarly(id, c.commitUntil, block.timestamp));
        require(block.timestamp <= c.revealUntil, TooLate(id, c.revealUntil, block.timestamp));
        require(
            vote == Ruling.Upheld || vote == Ruling.Rejected || vote == Ruling.Unavailable, VoteUnknown(vote)
        );
        Ballot storage ballot = _seated(id);
        require(ballot.vote == Ruling.None, AlreadyRevealed(id, msg.sender));
        bytes32 voteHash = keccak256(abi.encode(id, msg.sender, vote, salt));
        require(voteHash == ballot.commitment, VoteDoesNotOpen(id, msg.sender, ballot.commitment, voteHash));
        ballot.vote = vote;
        emit Revealed(id, msg.sender, vote);
    }

    /// @notice Ends a case: when the time to reveal is over, or the time to draw it. Anyone may call it.
    function settle(bytes32 id) external nonReentrant {
        Case storage c = _cases[id];
        require(c.stage != Stage.None, UnknownCase(id));
        require(c.stage != Stage.Settled, WrongStage(id, c.stage, Stage.Drawn));
        if (c.stage == Stage.Open) {
            require(block.timestamp > c.drawUntil, TooEarly(id, c.drawUntil, block.timestamp));
            _close(id, c, Ruling.Hung, 0, 0, 0, 0);
            return;
        }
        require(block.timestamp > c.revealUntil, TooEarly(id, c.revealUntil, block.timestamp));
        uint256 size = c.size;
        uint256 upheld = 0;
        uint256 rejected = 0;
        uint256 unavailable = 0;
        for (uint256 i = 0; i < size; ++i) {
            Ruling vote = _ballots[id][c.jurors[i]].vote;
            if (vote == Ruling.Upheld) ++upheld;
            else if (vote == Ruling.Rejected) ++rejected;
            else if (vote == Ruling.Unavailable) ++unavailable;
        }
        uint256 revealed = upheld + rejected + unavailable;
        Ruling ruling = Ruling.Hung;
        if (2 * revealed > size) {
            if (2 * upheld > revealed) ruling = Ruling.Upheld;
            else if (2 * rejected > revealed) ruling = Ruling.Rejected;
            else if (2 * unavailable > revealed) ruling = Ruling.Unavailable;
        }
        _close(id, c, ruling, upheld, rejected, unavailable, size - revealed);
    }

    /// @notice All that is known of a case; all zero if there is none.
    function get(bytes32 id) external view returns (Case memory found) {
        return _cases[id];
    }

    /// @notice What came of a case; `None` while it is not over.
    function rulingOf(bytes32 id) external view returns (Ruling ruling) {
        return _cases[id].ruling;
    }

    /// @notice The part of `juror` in a case.
    function ballotOf(bytes32 id, address juror) external view returns (Ballot memory ballot) {
        return _ballots[id][juror];
    }

    /// @notice Longest time from {open} to the end of a case, in seconds, at today's chain variables.
    function duration() external view returns (uint256 seconds_) {
        return PARAMETERS.get("jury_draw_s") + PARAMETERS.get("jury_commit_s") + PARAMETERS.get("jury_reveal_s");
    }

    /// @dev Money and stakes move last; the case is over before they do.
    function _close(
        bytes32 id,
        Case storage c,
        Ruling ruling,
        uint256 upheld,
        uint256 rejected,
        uint256 unavailable,
        uint256 silent
    ) private {
        c.stage = Stage.Settled;
        c.ruling = ruling;
        emit Settled(id, ruling, upheld, rejected, unavailable, silent);
        address[] memory jurors = c.jurors;
        for (uint256 i = 0; i < jurors.length; ++i) {
            Ruling vote = _ballots[id][jurors[i]].vote;
            // Nobody is wrong in a hung case; the silent are still silent.
            bool right = vote != Ruling.None && (ruling == Ruling.Hung || vote == ruling);
            if (right) {
                emit Paid(id, jurors[i], c.fee);
                VAULT.credit(id, jurors[i], c.fee);
            } else {
                bytes32 offence = vote == Ruling.None ? bytes32("silent juror") : bytes32("minority juror");
                PARTICIPANTS.slash(jurors[i], c.penalty, address(0), 0, offence);
            }
        }
        VAULT.refund(id, c.funder);
    }

    function _at(bytes32 id, Stage needed) private view returns (Case storage c) {
        c = _cases[id];
        require(c.stage != Stage.None, UnknownCase(id));
        require(c.stage == needed, WrongStage(id, c.stage, needed));
    }

    function _seated(bytes32 id) private view returns (Ballot storage ballot) {
        ballot = _ballots[id][msg.sender];
        require(ballot.seated, NotAJuror(id, msg.sender));
    }
}
