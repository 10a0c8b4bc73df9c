// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Beacon} from "./Beacon.sol";
import {Disputes} from "./Disputes.sol";
import {Draw} from "./Draw.sol";
import {Estimator} from "./Estimator.sol";
import {IBackhaul} from "./IBackhaul.sol";
import {IProof} from "./IProof.sol";
import {Parameters} from "./Parameters.sol";
import {Participants} from "./Participants.sol";
import {Vault} from "./Vault.sol";

/// @title Proof of backhaul
/// @notice From a payer's escrow to a paid result. The contract checks what is cheap to check:
/// membership, the draw, every signature, the sums, and the estimator's arithmetic, so that the
/// coordinator that posts a result cannot have miscounted it. What lies beneath the signatures is in
/// the evidence bundle, on record by its hash.
///
/// Each edge of {IBackhaul.State} is taken once, and the state is written before money moves.
contract Backhaul is IBackhaul, IProof, EIP712, ReentrancyGuardTransient {
    /// @notice Separates the ids of this contract from all other hashes.
    bytes32 public constant DOMAIN = keccak256("plumbline backhaul request v1");
    /// @notice EIP-712 type of the prover's commitment.
    bytes32 public constant COMMIT_TYPEHASH =
        keccak256("Commit(bytes32 id,uint8 phase,uint64 packets,bytes32 countsHash,bytes32 responseHash)");
    /// @notice EIP-712 type of a challenger's report.
    bytes32 public constant REPORT_TYPEHASH = keccak256(
        "Report(bytes32 id,uint8 phase,uint16 index,uint64 ttNs,uint64 ttPlusNs,uint32 packets,bytes32 responseHash)"
    );
    /// @notice Shortest data packet, bytes at the IP layer: shorter ones measure a processor, not a link.
    uint256 public constant MIN_PACKET_BYTES = 500;
    /// @notice Longest data packet, bytes at the IP layer: a jumbo frame's.
    uint256 public constant MAX_PACKET_BYTES = 9100;
    /// @notice Most challengers of one measurement: reports are kept as bits of one word, and sorting
    /// them costs the square of their number.
    uint256 public constant MAX_CHALLENGERS = 64;
    /// @notice Shortest and longest nominal duration, ms.
    uint256 public constant MIN_DURATION_MS = 10;
    /// @notice Longest nominal duration, ms.
    uint256 public constant MAX_DURATION_MS = 10_000;
    /// @notice Highest claim, bit/s: in packets of 1500 bytes, those of one challenger in the longest run
    /// still fit 32 bits. A count that does not fit cannot be posted, and so not be paid.
    uint256 public constant MAX_CLAIM_BPS = 4e12;
    /// @notice Challengers together offer this many percent of the claim, were f of them silent.
    uint256 public constant OFFERED_PERCENT = 115;
    /// @notice Traffic ends after this many nominal durations, done or not.
    uint256 public constant DEADLINE_DURATIONS = 4;
    /// @notice A claim passes from this many percent of it.
    uint256 public constant PASS_PERCENT = 95;
    /// @notice The only phase there is.
    uint8 public constant PHASE = 0;

    /// @notice Where escrows lie.
    Vault public immutable VAULT;
    /// @notice Who takes part.
    Participants public immutable PARTICIPANTS;
    /// @notice What challengers are drawn with.
    Beacon public immutable BEACON;
    /// @notice Where chain variables stand.
    Parameters public immutable PARAMETERS;
    /// @notice Who brings evidence.
    Disputes public immutable DISPUTES;

    struct Measurement {
        State state;
        uint64 requestBlock;
        uint64 roundThen;
        // As of the request: no change of a chain variable reaches what is under way.
        uint64 disputeWindow;
        uint128 fee;
        bytes32 setupHash;
        Request request;
        DrawRecord draw;
        Result result;
        address[] selected;
        uint32[] counts;
        // Proven guilty before there was a result: an account at most once for each kind of offence.
        address[] guilty;
    }

    mapping(bytes32 id => Measurement) private _measurements;

    /// @param vault where escrows lie; this contract must be one of its modules
    /// @param participants who takes part
    /// @param beacon what challengers are drawn with
    /// @param parameters where chain variables stand
    /// @param disputes who brings evidence
    constructor(Vault vault, Participants participants, Beacon beacon, Parameters parameters, Disputes disputes)
        EIP712("Plumbline Backhaul", "1")
    {
        VAULT = vault;
        PARTICIPANTS = participants;
        BEACON = beacon;
        PARAMETERS = parameters;
        DISPUTES = disputes;
    }

    // ───────────────────────────────── the edges ─────────────────────────────────

    /// @notice Asks for a measurement and locks its price (allowance to the vault).
    /// @return id names it from now on
    function request(Request calldata asked) external nonReentrant returns (bytes32 id) {
        _checkRequest(asked);
        id = idOf(asked);
        Measurement storage m = _measurements[id];
        require(m.state == State.None, DuplicateRequest(id));
        (,, uint256 escrow) = quote(asked);
        m.fee = uint128(coordinatorFee());
        m.disputeWindow = uint64(PARAMETERS.get("dispute_window_s"));
        m.state = State.Created;
        m.requestBlock = uint64(block.number);
        m.roundThen = BEACON.currentRound();
        m.request = asked;
        emit Requested(id, asked.payer, asked.prover, asked, escrow);
        VAULT.lock(id, asked.payer, escrow);
    }

    /// @notice Draws the challengers. Anyone may call it once the round of the draw is closed. With too
    /// few live challengers the measurement ends and the payer gets its escrow back.
    function select(bytes32 id) external nonReentrant {
        Measurement storage m = _in(id, State.Created);
        _requireBefore(m.request.deadline);
        (uint64 round, bool closed, bytes32 mix) = BEACON.drawFor(m.roundThen, m.requestBlock);
        require(closed, BeaconNotReady(id, round, BEACON.currentRound()));

        address[] memory live = _candidates(m.request, m.requestBlock);
        uint256 n = m.request.n;
        if (live.length < n) {
            m.state = State.Cancelled;
            emit NotEnoughChallengers(id, live.length, n);
            emit Cancelled(id, VAULT.refund(id, m.request.payer));
            return;
        }
        address[] memory selected = Draw.winners(mix, id, live, n);
        m.state = State.Selected;
        m.draw = DrawRecord({round: round, selectedBlock: uint64(block.number), beacon: mix});
        m.selected = selected;
        emit Selected(id, round, mix, live, selected);
    }

    /// @notice The coordinator puts the consent and the seed commitments on record and begins.
    /// @param setupHash hash over them
    function begin(bytes32 id, bytes32 setupHash) external {
        Measurement storage m = _in(id, State.Selected);
        _requireCoordinator(m.request.coordinator);
        _requireBefore(m.request.deadline);
        m.state = State.Running;
        m.setupHash = setupHash;
        emit Began(id, setupHash);
    }

    /// @notice The coordinator posts what was signed; the contract computes the result from it.
    function report(bytes32 id, Submission calldata posted) external {
        Measurement storage m = _in(id, State.Running);
        Request memory asked = m.request;
        _requireCoordinator(asked.coordinator);
        _requireBefore(asked.deadline);
        _checkCounts(asked, posted);
        _checkCommit(id, asked.prover, posted);
        m.state = State.Reported;

        Estimator.Input memory input = _checkedReports(id, asked, m.selected, posted);
        m.counts = input.uplink ? _received(asked, posted.reports) : posted.counts;
        Estimator.Output memory output = Estimator.estimate(input);
        uint256 guaranteed = output.curve[asked.f];
        Verdict verdict = posted.inconclusive || posted.reports.length < asked.n - asked.f
            ? Verdict.Inconclusive
            : _judge(asked, output.point, guaranteed);

        // Casts cannot truncate: rates fit 64 bits, and so do the packets of 64 challengers.
        Result storage r = m.result;
        r.point = uint128(output.point);
        r.guaranteed = uint128(guaranteed);
        r.packets = uint64(input.packets);
        r.reportedAt = uint64(block.timestamp);
        r.verdict = verdict;
        r.reportedBlock = uint64(block.number);
        r.sustained = posted.sustainedBps;
        r.bundleHash = posted.bundleHash;
        (r.reporters, r.paid) = _bitmaps(posted.reports, output.outliers);
        emit Reported(
            id, verdict, output.point, guaranteed, output.curve, posted.bundleHash, posted.sustainedBps
        );
        // Nobody loses twice for one offence, so nobody could prove it again now.
        for (uint256 i = 0; i < m.guilty.length; ++i) {
            _annul(id, m, m.guilty[i]);
        }
    }

    /// @notice Pays out once the dispute window is over. Anyone may call it.
    function finalize(bytes32 id) external nonReentrant {
        Measurement storage m = _in(id, State.Reported);
        uint256 until = uint256(m.result.reportedAt) + m.disputeWindow;
        require(block.timestamp >= until, DisputeWindowOpen(until, block.timestamp));
        m.state = State.Final;

        uint256 price = uint256(m.request.pricePerByte) * m.request.packetBytes;
        uint64 paid = m.result.paid;
        uint256 total = 0;
        for (uint16 i = 0; i < m.request.n; ++i) {
            if (paid & (uint64(1) << i) == 0) continue;
            uint256 amount = price * m.counts[i];
            if (amount == 0) continue;
            total += amount;
            emit Paid(id, m.selected[i], i, amount);
            VAULT.credit(id, m.selected[i], amount);
        }
        VAULT.credit(id, m.request.coordinator, m.fee);
        emit Finalized(id, total, m.fee, VAULT.refund(id, m.request.payer));
    }

    /// @notice After the deadline, ends a measurement without a result; all goes back to the payer.
    /// Anyone may call it.
    function timeout(bytes32 id) external nonReentrant {
        Measurement storage m = _known(id);
        State state = m.state;
        require(state == State.Created || state == State.Selected || state == State.Running, AlreadyEnded(id, state));
        uint256 deadline = m.request.deadline;
        require(block.timestamp > deadline, DeadlineNotPassed(deadline, block.timestamp));
        m.state = State.TimedOut;
        emit TimedOut(id, VAULT.refund(id, m.request.payer));
    }

    /// @notice The payer takes its request back, until the draw can be foreseen: afterwards it could ask
    /// again and again for challengers to its taste.
    function cancel(bytes32 id) external nonReentrant {
        Measurement storage m = _in(id, State.Created);
        address payer = m.request.payer;
        require(msg.sender == payer, NotPayer(msg.sender, payer));
        (uint64 round, bool closed,) = BEACON.drawFor(m.roundThen, m.requestBlock);
        require(!closed, DrawKnown(id, round));
        m.state = State.Cancelled;
        emit Cancelled(id, VAULT.refund(id, payer));
    }

    // ─────────────────────────────── the disputes ────────────────────────────────

    /// @inheritdoc IProof
    function contest(bytes32 id, address accused) external returns (address[] memory parties) {
        _requireDisputes();
        Measurement storage m = _in(id, State.Reported);
        uint256 until = uint256(m.result.reportedAt) + m.disputeWindow;
        require(block.timestamp < until, DisputeWindowClosed(until, block.timestamp));
        parties = new address[](m.selected.length + 3);
        parties[0] = m.request.payer;
        parties[1] = m.request.prover;
        parties[2] = m.request.coordinator;
        bool isParty = accused == m.request.prover || accused == m.request.coordinator;
        for (uint256 i = 0; i < m.selected.length; ++i) {
            parties[i + 3] = m.selected[i];
            if (accused == m.selected[i]) isParty = true;
        }
        require(isParty, NotAParty(id, accused));
        m.state = State.Disputed;
        emit Contested(id, accused);
    }

    /// @inheritdoc IProof
    function ruled(bytes32 id, address accused, bool upheld) external {
        _requireDisputes();
        Measurement storage m = _in(id, State.Disputed);
        m.state = State.Reported;
        emit Ruled(id, accused, upheld);
        if (upheld) _annul(id, m, accused);
    }

    /// @inheritdoc IProof
    function faulted(bytes32 id, address guilty) external {
        _requireDisputes();
        Measurement storage m = _measurements[id];
        State state = m.state;
        if (state == State.Reported || state == State.Disputed) _annul(id, m, guilty);
        else if (state == State.Created || state == State.Selected || state == State.Running) m.guilty.push(guilty);
    }

    /// @inheritdoc IProof
    /// @dev The encodings are abi.encode(uint8(1), id, SignedCommit, SignedCommit) against a prover and
    /// abi.encode(uint8(2), id, SignedReport, SignedReport) against a challenger: two statements that
    /// differ, of one signer, about one measurement and phase.
    function offenceOf(bytes calldata evidence)
        external
        view
        returns (bytes32 id, address guilty, bytes32 offence)
    {
        uint8 kind = uint8(bytes1(evidence[31]));
        if (kind == 1) {
            SignedCommit memory a;
            SignedCommit memory b;
            (, id, a, b) = abi.decode(evidence, (uint8, bytes32, SignedCommit, SignedCommit));
            bytes32 one = _commitDigest(id, a.phase, a.packets, a.countsHash, a.responseHash);
            bytes32 other = _commitDigest(id, b.phase, b.packets, b.countsHash, b.responseHash);
            guilty = _known(id).request.prover;
            require(a.phase == b.phase && one != other, NoOffence());
            require(_signed(one, a.signature) == guilty && _signed(other, b.signature) == guilty, NoOffence());
            return (id, guilty, bytes32("two commits"));
        }
        require(kind == 2, NoOffence());
        SignedReport memory x;
        SignedReport memory y;
        (, id, x, y) = abi.decode(evidence, (uint8, bytes32, SignedReport, SignedReport));
        address[] storage selected = _known(id).selected;
        require(x.index == y.index && x.phase == y.phase && x.index < selected.length, NoOffence());
        guilty = selected[x.index];
        bytes32 first = _reportDigest(id, x);
        bytes32 second = _reportDigest(id, y);
        require(first != second, NoOffence());
        require(_signed(first, x.signature) == guilty && _signed(second, y.signature) == guilty, NoOffence());
        return (id, guilty, bytes32("two reports"));
    }

    // ───────────────────────────────── the views ─────────────────────────────────

    /// @notice Evidence of two commitments, encoded for {Disputes-prove}.
    function twoCommits(bytes32 id, SignedCommit calldata a, SignedCommit calldata b)
        external
        pure
        returns (bytes memory evidence)
    {
        return abi.encode(uint8(1), id, a, b);
    }

    /// @notice Evidence of two reports, encoded for {Disputes-prove}.
    function twoReports(bytes32 id, SignedReport calldata a, SignedReport calldata b)
        external
        pure
        returns (bytes memory evidence)
    {
        return abi.encode(uint8(2), id, a, b);
    }

    /// @notice The id of a request: no two are equal, on no two chains or contracts.
    function idOf(Request calldata asked) public view returns (bytes32 id) {
        return keccak256(abi.encode(DOMAIN, block.chainid, address(this), asked));
    }

    /// @notice What a request comes to.
    /// @return cap packets paid at most of one challenger
    /// @return target packets paid at most in all: n−f challengers fill the claim towards the prover, and
    /// away from it each of n may receive its cap
    /// @return escrow what is locked for it
    function quote(Request memory asked) public view returns (uint256 cap, uint256 target, uint256 escrow) {
        cap = _cap(asked);
        target = (uint256(asked.n) - (asked.direction == 0 ? asked.f : 0)) * cap;
        escrow = uint256(asked.pricePerByte) * asked.packetBytes * target + coordinatorFee();
    }

    /// @notice What the coordinator of a request made now is paid for its result.
    function coordinatorFee() public view returns (uint256 fee) {
        return PARAMETERS.get("coordinator_fee");
    }

    /// @notice Latest deadline of a request made now: a dispute can be over before anyone who leaves today
    /// has its stake back.
    function latestDeadline() public view returns (uint256 latest) {
        uint256 bound = PARAMETERS.get("unbonding_s");
        uint256 needed = PARAMETERS.get("dispute_window_s") + DISPUTES.JURY().duration();
        return block.timestamp + (bound > needed ? bound - needed : 0);
    }

    /// @notice Rate that the challengers of a request offer together, or are offered, bit/s.
    function offeredBps(Request memory asked) public pure returns (uint256 bps) {
        return uint256(asked.claimBps) * OFFERED_PERCENT * asked.n / (100 * (uint256(asked.n) - asked.f));
    }

    /// @notice Where `id` stands; `None` if there is no such measurement.
    function stateOf(bytes32 id) external view returns (State state) {
        return _measurements[id].state;
    }

    /// @notice What was asked, in which block, and what the coordinator anchored at {begin}.
    function requestOf(bytes32 id)
        external
        view
        returns (Request memory asked, uint64 requestBlock, bytes32 setupHash)
    {
        Measurement storage m = _known(id);
        return (m.request, m.requestBlock, m.setupHash);
    }

    /// @notice The challengers drawn, by index; empty before {select}.
    function selectedOf(bytes32 id) external view returns (address[] memory selected) {
        return _known(id).selected;
    }

    /// @notice How they were drawn; all zero before {select}.
    function drawOf(bytes32 id) external view returns (DrawRecord memory draw) {
        return _known(id).draw;
    }

    /// @notice What came out, and the packets counted of each challenger; all zero before {report}.
    function resultOf(bytes32 id) external view returns (Result memory result, uint32[] memory counts) {
        Measurement storage m = _known(id);
        return (m.result, m.counts);
    }

    /// @notice The estimator, for anyone to try.
    function estimate(Estimator.Input memory input) external pure returns (Estimator.Output memory output) {
        return Estimator.estimate(input);
    }

    // ───────────────────────────────── the checks ────────────────────────────────

    function _checkRequest(Request calldata asked) private view {
        require(msg.sender == asked.payer, NotPayer(msg.sender, asked.payer));
        require(asked.direction <= 1, DirectionUnsupported(asked.direction));
        require(asked.claimBps != 0, ClaimZero());
        require(PARTICIPANTS.isActive(asked.prover, PARTICIPANTS.PROVER()), UnknownProver(asked.prover));
        uint256 max = PARTICIPANTS.get(asked.prover).maxBps;
        if (max > MAX_CLAIM_BPS) max = MAX_CLAIM_BPS;
        require(asked.claimBps <= max, ClaimAboveMaximum(asked.claimBps, max));
        require(
            PARTICIPANTS.isActive(asked.coordinator, PARTICIPANTS.COORDINATOR()), UnknownCoordinator(asked.coordinator)
        );
        uint256 needed = 3 * uint256(asked.f) + 1;
        require(asked.n >= needed, TooFewChallengers(asked.n, needed));
        require(asked.n <= MAX_CHALLENGERS, TooManyChallengers(asked.n, MAX_CHALLENGERS));
        require(
            asked.durationMs >= MIN_DURATION_MS && asked.durationMs <= MAX_DURATION_MS,
            DurationOutOfRange(asked.durationMs, MIN_DURATION_MS, MAX_DURATION_MS)
        );
        require(
            asked.packetBytes >= MIN_PACKET_BYTES && asked.packetBytes <= MAX_PACKET_BYTES,
            PacketBytesOutOfRange(asked.packetBytes, MIN_PACKET_BYTES, MAX_PACKET_BYTES)
        );
        _requireBefore(asked.deadline);
        uint256 latest = latestDeadline();
        require(asked.deadline <= latest, DeadlineTooFar(asked.deadline, latest));
    }

    /// @dev Challengers registered before the request, live now, and not of a party to it.
    function _candidates(Request memory asked, uint64 requestBlock) private view returns (address[] memory live) {
        bytes32[] memory operators;
        (live, operators) = PARTICIPANTS.pool(PARTICIPANTS.CHALLENGER(), requestBlock);
        bool[] memory isFresh = BEACON.fresh(live);
        bytes32 proverOperator = PARTICIPANTS.get(asked.prover).operator;
        uint256 size = 0;
        for (uint256 i = 0; i < live.length; ++i) {
            address candidate = live[i];
            if (!isFresh[i] || candidate == asked.prover || candidate == asked.payer) continue;
            if (proverOperator != 0 && operators[i] == proverOperator) continue;
            live[size++] = candidate;
        }
        // Memory arrays cannot shrink in Solidity; this one was allocated longer than `size`.
        assembly ("memory-safe") {
            mstore(live, size)
        }
    }

    /// @dev Of each challenger what counts in an interval; to each what may be sent until the traffic ends.
    function _checkCounts(Request memory asked, Submission calldata posted) private pure {
        require(posted.counts.length == asked.n, CountsLength(posted.counts.length, asked.n));
        bool uplink = asked.direction != 0;
        uint256 cap = _cap(asked);
        uint256 target = (uint256(asked.n) - asked.f) * cap;
        if (uplink) cap = (cap * OFFERED_PERCENT * DEADLINE_DURATIONS + 99) / 100;
        uint256 sum = 0;
        for (uint256 i = 0; i < posted.counts.length; ++i) {
            uint256 count = posted.counts[i];
            require(count <= cap, CountAboveCap(i, count, cap));
            sum += count;
        }
        require(sum == posted.packets, CountsSum(sum, posted.packets));
        require(uplink || sum <= target, PacketsAboveTarget(sum, target));
    }

    function _checkCommit(bytes32 id, address prover, Submission calldata posted) private view {
        bytes32 digest = _commitDigest(
            id, PHASE, posted.packets, keccak256(abi.encodePacked(posted.counts)), posted.responseHash
        );
        (address recovered,,) = ECDSA.tryRecoverCalldata(digest, posted.proverSignature);
        require(recovered == prover, CommitSignatureInvalid(recovered, prover));
    }

    /// @dev Checks every report and lays them out for the estimator.
    function _checkedReports(
        bytes32 id,
        Request memory asked,
        address[] storage selected,
        Submission calldata posted
    ) private view returns (Estimator.Input memory input) {
        uint256 length = posted.reports.length;
        input.uplink = asked.direction != 0;
        input.packetBytes = asked.packetBytes;
        input.offeredBps = offeredBps(asked);
        input.faulty = asked.f;
        input.sustainedBps = posted.sustainedBps;
        input.counts = new uint256[](length);
        input.tt = new uint256[](length);
        input.ttPlus = new uint256[](length);
        for (uint256 i = 0; i < length; ++i) {
            Timing calldata timing = posted.reports[i];
            uint256 index = timing.index;
            require(index < selected.length, ReportIndexUnknown(index, selected.length));
            if (i > 0) {
                uint256 previous = posted.reports[i - 1].index;
                require(index > previous, ReportsNotAscending(index, previous));
            }
            uint256 counted = timing.packets;
            uint256 committed = posted.counts[index];
            if (input.uplink) require(counted <= committed, ReportCountAboveSent(index, counted, committed));
            else require(counted == committed, ReportCountDiffers(index, counted, committed));
            require(timing.ttNs != 0 && timing.ttPlusNs != 0, ReportTimeZero(index));
            _checkReportSignature(id, timing, posted.responseHash, selected[index]);
            input.counts[i] = counted;
            input.packets += counted;
            input.tt[i] = timing.ttNs;
            input.ttPlus[i] = timing.ttPlusNs;
        }
    }

    /// @dev What each challenger says it received, as far as it is paid: nothing of who does not report.
    function _received(Request memory asked, Timing[] calldata reports)
        private
        pure
        returns (uint32[] memory counts)
    {
        uint256 cap = _cap(asked);
        counts = new uint32[](asked.n);
        for (uint256 i = 0; i < reports.length; ++i) {
            uint32 packets = reports[i].packets;
            // The cast cannot truncate: it is of what is less than 32 bits.
            counts[reports[i].index] = packets < cap ? packets : uint32(cap);
        }
    }

    function _checkReportSignature(bytes32 id, Timing calldata timing, bytes32 responseHash, address challenger)
        private
        view
    {
        bytes32 digest = _reportDigest(
            id,
            SignedReport({
                phase: PHASE,
                index: timing.index,
                ttNs: timing.ttNs,
                ttPlusNs: timing.ttPlusNs,
                packets: timing.packets,
                responseHash: responseHash,
                signature: ""
            })
        );
        (address recovered,,) = ECDSA.tryRecoverCalldata(digest, timing.signature);
        require(recovered == challenger, ReportSignatureInvalid(timing.index, recovered, challenger));
    }

    function _commitDigest(bytes32 id, uint8 phase, uint64 packets, bytes32 countsHash, bytes32 responseHash)
        private
        view
        returns (bytes32 digest)
    {
        return _hashTypedDataV4(keccak256(abi.encode(COMMIT_TYPEHASH, id, phase, packets, countsHash, responseHash)));
    }

    function _reportDigest(bytes32 id, SignedReport memory r) private view returns (bytes32 digest) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(REPORT_TYPEHASH, id, r.phase, r.index, r.ttNs, r.ttPlusNs, r.packets, r.responseHash)
            )
        );
    }

    function _signed(bytes32 digest, bytes memory signature) private pure returns (address signer) {
        (signer,,) = ECDSA.tryRecover(digest, signature);
    }

    /// @dev Who delivered is still paid for its bytes; the guilty is not, and the result says nothing.
    function _annul(bytes32 id, Measurement storage m, address guilty) private {
        m.result.verdict = Verdict.Annulled;
        if (guilty == m.request.coordinator) m.fee = 0;
        for (uint16 i = 0; i < m.selected.length; ++i) {
            if (m.selected[i] == guilty) m.result.paid &= ~(uint64(1) << i);
        }
        emit Annulled(id, guilty);
    }

    /// @dev B ≥ 0.95·K and B_g ≥ 0.95·α·K with α = (n − 2f)/(n − f).
    function _judge(Request memory asked, uint256 point, uint256 guaranteed) private pure returns (Verdict verdict) {
        uint256 bar = PASS_PERCENT * asked.claimBps;
        uint256 honest = uint256(asked.n) - asked.f;
        bool pass = point * 100 >= bar && guaranteed * 100 * honest >= bar * (honest - asked.f);
        return pass ? Verdict.Pass : Verdict.Fail;
    }

    function _bitmaps(Timing[] calldata reports, bool[] memory outliers)
        private
        pure
        returns (uint64 reporters, uint64 paid)
    {
        for (uint256 i = 0; i < reports.length; ++i) {
            uint64 bit = uint64(1) << reports[i].index;
            reporters |= bit;
            if (!outliers[i]) paid |= bit;
        }
    }

    /// @dev ⌈K·D / (8·L·(n−f))⌉, the duration being in ms.
    function _cap(Request memory asked) private pure returns (uint256 packets) {
        uint256 divisor = 8 * uint256(asked.packetBytes) * (uint256(asked.n) - asked.f) * 1000;
        return (uint256(asked.claimBps) * asked.durationMs + divisor - 1) / divisor;
    }

    function _known(bytes32 id) private view returns (Measurement storage m) {
        m = _measurements[id];
        require(m.state != State.None, UnknownRequest(id));
    }

    function _in(bytes32 id, State needed) private view returns (Measurement storage m) {
        m = _known(id);
        require(m.state == needed, WrongState(id, m.state, needed));
    }

    function _requireCoordinator(address coordinator) private view {
        require(msg.sender == coordinator, NotCoordinator(msg.sender, coordinator));
    }

    function _requireDisputes() private view {
        require(msg.sender == address(DISPUTES), NotDisputes(msg.sender, address(DISPUTES)));
    }

    function _requireBefore(uint256 deadline) private view {
        require(block.timestamp <= deadline, DeadlinePassed(deadline, block.timestamp));
    }
}
