// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Arrays} from "@openzeppelin/contracts/utils/Arrays.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Beacon} from "./Beacon.sol";
import {Disputes} from "./Disputes.sol";
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
/// the evidence bundle, on record by its hash. A report that is wrong, or whose author is convicted, takes
/// away nothing but itself.
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
        "Report(bytes32 id,uint8 phase,uint16 index,uint32 windowUs,uint32 packets,bytes32 responseHash)"
    );
    /// @notice Shortest data packet, bytes at the IP layer: shorter ones measure a processor, not a link.
    uint256 public constant MIN_PACKET_BYTES = 500;
    /// @notice Longest data packet, bytes at the IP layer: a jumbo frame's.
    uint256 public constant MAX_PACKET_BYTES = 9100;
    /// @notice Most challengers of one measurement: who reported is kept as bits of one word.
    uint256 public constant MAX_CHALLENGERS = 64;
    /// @notice Shortest and longest nominal duration, ms.
    uint256 public constant MIN_DURATION_MS = 10;
    /// @notice Longest nominal duration, ms.
    uint256 public constant MAX_DURATION_MS = 10_000;
    /// @notice Highest claim, bit/s: in packets of 1500 bytes, those of one challenger in the longest run
    /// still fit 32 bits. A count that does not fit cannot be posted, and so not be paid.
    uint256 public constant MAX_CLAIM_BPS = 4e12;
    /// @notice Challengers together offer this many percent of the claim, were f of them silent; and this
    /// many percent of its share count of each, as they do not all come through alike.
    uint256 public constant OFFERED_PERCENT = 115;
    /// @notice Traffic ends after this many nominal durations, done or not.
    uint256 public constant DEADLINE_DURATIONS = 4;
    /// @notice A bound is taken over at least this many percent of the nominal duration.
    uint256 public constant MIN_SPAN_PERCENT = 85;
    /// @notice A claim passes from this many percent of it.
    uint256 public constant PASS_PERCENT = 95;
    /// @notice While evidence is judged the dispute window stands still, for as long as so many juries can take, in all.
    uint256 public constant REOPENED_JURIES = 2;
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
        // Since when evidence is judged, unix seconds, and how many disputes are open.
        uint40 contestedAt;
        uint16 disputes;
        // Both as of the request: no change of a chain variable reaches what is under way. For how many seconds more
        // the window stands still while evidence is judged; that is taken from here and added to the window.
        uint32 standstill;
        uint32 disputeWindow;
        uint128 fee;
        Beacon.Snapshot snapshot;
        bytes32 setupHash;
        Request request;
        DrawRecord draw;
        Result result;
        address[] selected;
        // Of each challenger whose report counts: packets << 32 | window.
        uint64[MAX_CHALLENGERS] reports;
        // Proven guilty before there was a result: an account at most once for each kind of offence.
        address[] guilty;
    }

    /// @dev What the reports that count come to.
    struct Figures {
        uint256 reports;
        uint64 packets;
        uint256[] curve;
    }

    mapping(bytes32 id => Measurement) private _measurements;
    /// @notice How many requests there were.
    uint256 public requests;
    /// @notice The last request of a payer.
    mapping(address payer => bytes32 id) public lastOf;

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

    /// @notice Asks for a measurement and locks its price (allowance to the vault), for good: what nobody
    /// measures is given back after the deadline, not before.
    /// @param asked what is to be measured
    /// @param last the payer's last request as it knows it, zero if there is none: what is sent again by one that does
    /// not know whether it was heard is not asked again
    /// @return id names it from now on: no two are equal, on no two chains or contracts
    function request(Request calldata asked, bytes32 last) external nonReentrant returns (bytes32 id) {
        uint256 trial = DISPUTES.JURY().duration();
        _checkRequest(asked, trial);
        require(lastOf[asked.payer] == last, AskedMeanwhile(lastOf[asked.payer]));
        id = keccak256(abi.encode(DOMAIN, block.chainid, address(this), ++requests));
        lastOf[asked.payer] = id;
        Measurement storage m = _measurements[id];
        (,, uint256 escrow) = quote(asked);
        m.fee = uint128(coordinatorFee());
        // Casts cannot truncate: chain variables are bounded.
        m.disputeWindow = uint32(PARAMETERS.get("dispute_window_s"));
        m.standstill = uint32(REOPENED_JURIES * trial);
        m.state = State.Created;
        m.snapshot = BEACON.snapshot(PARTICIPANTS.CHALLENGER());
        m.request = asked;
        emit Requested(id, asked.payer, asked.prover, asked, escrow);
        VAULT.lock(id, asked.payer, escrow);
    }

    /// @notice Draws the challengers. Anyone may call it once the round of the draw is closed. With too
    /// few live challengers the measurement ends and the payer gets its escrow back.
    function select(bytes32 id) external nonReentrant {
        Measurement storage m = _in(id, State.Created);
        _requireBefore(m.request.deadline);
        address[] memory parties = new address[](3);
        parties[0] = m.request.payer;
        parties[1] = m.request.prover;
        parties[2] = m.request.coordinator;
        uint256 n = m.request.n;
        Beacon.Drawn memory drawn = BEACON.draw(id, m.snapshot, parties, n, 1);
        require(drawn.closed, BeaconNotReady(id, drawn.round, BEACON.currentRound()));
        if (drawn.seated.length < n) {
            m.state = State.Cancelled;
            emit NotEnoughChallengers(id, drawn.seated.length, n);
            emit Cancelled(id, VAULT.refund(id, m.request.payer));
            return;
        }
        m.state = State.Selected;
        uint32 pool = m.snapshot.pool;
        m.draw = DrawRecord({
            round: drawn.round, selectedBlock: uint64(block.number), pool: pool, beacon: drawn.mix
        });
        m.selected = drawn.seated;
        emit Selected(id, drawn.round, drawn.mix, pool, drawn.looks);
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
        uint256[] memory spans = _checkSpans(asked, posted.spansUs);
        _checkCommit(id, asked.prover, posted);
        m.state = State.Reported;

        uint64 reporters = _keepReports(id, asked.direction != 0, m, posted);
        Figures memory found = _figures(asked, m, reporters, spans);
        Result storage r = m.result;
        r.reportedAt = uint64(block.timestamp);
        r.reporters = reporters;
        r.paid = reporters;
        r.reportedBlock = uint64(block.number);
        r.lowerSpanUs = posted.spansUs[0];
        r.guaranteedSpanUs = posted.spansUs[asked.f];
        r.bundleHash = posted.bundleHash;
        // Nothing is earned by a result that says nothing for want of reports.
        if (found.reports < uint256(asked.n) - asked.f) m.fee = 0;
        _conclude(asked, r, found, posted.verdict);
        emit Reported(id, r.verdict, r.lower, r.guaranteed, found.curve, posted.bundleHash);
        // Nobody loses twice for one offence, so nobody could prove it again now.
        for (uint256 i = 0; i < m.guilty.length; ++i) {
            _convict(id, m, m.guilty[i]);
        }
    }

    /// @notice Pays out once the dispute window is over. Anyone may call it.
    function finalize(bytes32 id) external nonReentrant {
        Measurement storage m = _in(id, State.Reported);
        uint256 until = uint256(m.result.reportedAt) + m.disputeWindow;
        require(block.timestamp >= until, DisputeWindowOpen(until, block.timestamp));
        m.state = State.Final;

        uint256 price = uint256(m.request.pricePerByte) * m.request.packetBytes;
        uint256 most = m.request.direction == 0 ? type(uint32).max : _share(m.request);
        uint64 paid = m.result.paid;
        uint256 total = 0;
        for (uint16 i = 0; paid >> i != 0; ++i) {
            if ((paid >> i) & 1 == 0) continue;
            uint256 counted = m.reports[i] >> 32;
            uint256 amount = price * (counted < most ? counted : most);
            if (amount == 0) continue;
            total += amount;
            // Who reported was drawn.
            address challenger = Arrays.unsafeAccess(m.selected, i).value;
            emit Paid(id, challenger, i, amount);
            VAULT.credit(id, challenger, amount);
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

    // ─────────────────────────────── the disputes ────────────────────────────────

    /// @inheritdoc IProof
    function contest(bytes32 id, address accused) external returns (address[] memory parties) {
        _requireDisputes();
        Measurement storage m = _known(id);
        State state = m.state;
        require(state == State.Reported || state == State.Disputed, WrongState(id, state, State.Reported));
        uint256 until = uint256(m.result.reportedAt) + m.disputeWindow;
        if (state == State.Disputed) until += _stoodStill(m);
        else m.contestedAt = uint40(block.timestamp);
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
        ++m.disputes;
        emit Contested(id, accused);
    }

    /// @inheritdoc IProof
    function ruled(bytes32 id, address accused, bool upheld) external {
        _requireDisputes();
        Measurement storage m = _in(id, State.Disputed);
        if (--m.disputes == 0) {
            m.state = State.Reported;
            uint32 stood = _stoodStill(m);
            m.standstill -= stood;
            m.disputeWindow += stood;
        }
        emit Ruled(id, accused, upheld);
        if (upheld) _convict(id, m, accused);
    }

    /// @inheritdoc IProof
    function faulted(bytes32 id, address guilty) external {
        _requireDisputes();
        Measurement storage m = _measurements[id];
        State state = m.state;
        if (state == State.Reported || state == State.Disputed) _convict(id, m, guilty);
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
        bytes32 first = _reportDigest(id, x.phase, x.index, x.windowUs, x.packets, x.responseHash);
        bytes32 second = _reportDigest(id, y.phase, y.index, y.windowUs, y.packets, y.responseHash);
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

    /// @notice What a request comes to.
    /// @return cap packets paid at most of one challenger
    /// @return target packets paid at most in all: n−f challengers fill the claim towards the prover, and
    /// away from it each of n may receive its cap
    /// @return escrow what is locked for it
    function quote(Request memory asked) public view returns (uint256 cap, uint256 target, uint256 escrow) {
        cap = _share(asked);
        target = (uint256(asked.n) - (asked.direction == 0 ? asked.f : 0)) * cap;
        if (asked.direction == 0) cap = _offered(cap);
        escrow = uint256(asked.pricePerByte) * asked.packetBytes * target + coordinatorFee();
    }

    /// @notice What the coordinator of a request made now is paid for its result, if n − f reports or more hold.
    function coordinatorFee() public view returns (uint256 fee) {
        return PARAMETERS.get("coordinator_fee");
    }

    /// @notice Latest deadline of a request made now: the last dispute there can be is over, and a bond forfeited,
    /// before anyone who leaves today has its stake back.
    function latestDeadline() external view returns (uint256 latest) {
        return _latestDeadline(DISPUTES.JURY().duration());
    }

    function _latestDeadline(uint256 trial) private view returns (uint256 latest) {
        uint256 bound = PARAMETERS.get("unbonding_s");
        uint256 needed = PARAMETERS.get("dispute_window_s") + (REOPENED_JURIES + 1) * trial
            + 2 * PARAMETERS.get("seed_answer_s");
        return block.timestamp + (bound > needed ? bound - needed : 0);
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
        return (m.request, m.snapshot.blockNumber, m.setupHash);
    }

    /// @notice The challengers drawn, by index; empty before {select}.
    function selectedOf(bytes32 id) external view returns (address[] memory selected) {
        return _known(id).selected;
    }

    /// @notice How they were drawn; all zero before {select}.
    function drawOf(bytes32 id) external view returns (DrawRecord memory draw) {
        return _known(id).draw;
    }

    /// @notice What came out, and of each challenger packets << 32 | window, µs, zero if none counts; all
    /// zero before {report}.
    function resultOf(bytes32 id) external view returns (Result memory result, uint64[] memory reports) {
        Measurement storage m = _known(id);
        reports = new uint64[](m.selected.length);
        for (uint256 i = 0; i < reports.length; ++i) {
            reports[i] = m.reports[i];
        }
        return (m.result, reports);
    }

    /// @notice The estimator, for anyone to try.
    function estimate(Estimator.Input memory input) external pure returns (Estimator.Output memory output) {
        return Estimator.estimate(input);
    }

    // ───────────────────────────────── the checks ────────────────────────────────

    function _checkRequest(Request calldata asked, uint256 trial) private view {
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
        uint256 latest = _latestDeadline(trial);
        require(asked.deadline <= latest, DeadlineTooFar(asked.deadline, latest));
    }

    /// @dev Of each challenger what counts in an interval; to each what may be sent until the traffic ends.
    function _checkCounts(Request memory asked, Submission calldata posted) private pure {
        require(posted.counts.length == asked.n, CountsLength(posted.counts.length, asked.n));
        bool uplink = asked.direction != 0;
        uint256 cap = _share(asked);
        uint256 target = (uint256(asked.n) - asked.f) * cap;
        cap = _offered(uplink ? cap * DEADLINE_DURATIONS : cap);
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

    function _checkSpans(Request memory asked, uint32[] calldata posted)
        private
        pure
        returns (uint256[] memory spans)
    {
        spans = new uint256[](uint256(asked.f) + 1);
        require(posted.length == spans.length, SpansLength(posted.length, spans.length));
        uint256 min = uint256(asked.durationMs) * 10 * MIN_SPAN_PERCENT;
        for (uint256 j = 0; j < spans.length; ++j) {
            spans[j] = posted[j];
            require(spans[j] >= min, SpanTooShort(j, spans[j], min));
        }
    }

    /// @dev For how much of the time in which evidence is judged the window stands still.
    function _stoodStill(Measurement storage m) private view returns (uint32 stood) {
        uint256 judged = block.timestamp - m.contestedAt;
        uint32 most = m.standstill;
        return judged < most ? uint32(judged) : most;
    }

    /// @dev Keeps the reports that hold. Any other is named, and spoils nothing but itself.
    function _keepReports(bytes32 id, bool uplink, Measurement storage m, Submission calldata posted)
        private
        returns (uint64 reporters)
    {
        for (uint256 i = 0; i < posted.reports.length; ++i) {
            Timing calldata timing = posted.reports[i];
            uint16 index = timing.index;
            Flaw flaw = Flaw.IndexUnknown;
            if (index < posted.counts.length) {
                if (reporters >> index != 0) flaw = Flaw.NotAscending;
                else {
                    // There are as many counts as challengers drawn.
                    address challenger = Arrays.unsafeAccess(m.selected, index).value;
                    flaw = _flawOf(id, uplink, challenger, timing, posted);
                }
            }
            if (flaw != Flaw.None) {
                emit ReportSkipped(id, index, flaw);
                continue;
            }
            reporters |= uint64(1) << index;
            m.reports[index] = (uint64(timing.packets) << 32) | timing.windowUs;
        }
    }

    function _flawOf(
        bytes32 id,
        bool uplink,
        address challenger,
        Timing calldata timing,
        Submission calldata posted
    ) private view returns (Flaw flaw) {
        uint256 committed = posted.counts[timing.index];
        if (uplink ? timing.packets > committed : timing.packets != committed) return Flaw.CountDiffers;
        if (timing.windowUs == 0) return Flaw.WindowZero;
        bytes32 digest =
            _reportDigest(id, PHASE, timing.index, timing.windowUs, timing.packets, posted.responseHash);
        (address recovered,,) = ECDSA.tryRecoverCalldata(digest, timing.signature);
        return recovered == challenger ? Flaw.None : Flaw.SignatureInvalid;
    }

    /// @dev How many bits are set.
    function _reports(uint64 bits) private pure returns (uint256 count) {
        for (; bits != 0; bits &= bits - 1) {
            ++count;
        }
    }

    /// @dev The figures of those reports whose bits are set.
    function _figures(Request memory asked, Measurement storage m, uint64 counted, uint256[] memory spans)
        private
        view
        returns (Figures memory found)
    {
        found.reports = _reports(counted);
        Estimator.Input memory input = Estimator.Input({
            uplink: asked.direction != 0,
            packetBytes: asked.packetBytes,
            rateBps: uint256(asked.claimBps) * OFFERED_PERCENT / (100 * (uint256(asked.n) - asked.f)),
            counts: new uint256[](found.reports),
            windowsUs: new uint256[](found.reports),
            spansUs: spans
        });
        if (input.rateBps == 0) input.rateBps = 1;
        uint256 at = 0;
        for (uint256 i = 0; counted >> i != 0; ++i) {
            if ((counted >> i) & 1 == 0) continue;
            uint64 kept = m.reports[i];
            input.counts[at] = kept >> 32;
            input.windowsUs[at++] = uint32(kept);
            found.packets += kept >> 32;
        }
        found.curve = Estimator.estimate(input).curve;
    }

    /// @dev What `said` comes to with these figures. Pass is B(0) ≥ 0.95·K and B(f) ≥ 0.95·α·K with
    /// α = (n − 2f)/(n − f), by at least n − f reports.
    function _conclude(Request memory asked, Result storage r, Figures memory found, Verdict said) private {
        uint256 lower = found.curve[0];
        uint256 guaranteed = found.curve[asked.f];
        uint256 bar = PASS_PERCENT * asked.claimBps;
        uint256 honest = uint256(asked.n) - asked.f;
        bool passes = lower * 100 >= bar && guaranteed * 100 * honest >= bar * (honest - asked.f);
        bool stands = found.reports >= honest && said == (passes ? Verdict.Pass : Verdict.Fail);
        r.verdict = stands ? said : Verdict.Inconclusive;
        // Casts cannot truncate: rates fit 64 bits.
        r.lower = uint128(lower);
        r.guaranteed = uint128(guaranteed);
        r.packets = found.packets;
    }

    /// @dev The guilty is not paid. Where it is a challenger and enough others remain, the result is theirs;
    /// else it says nothing. Who delivered is paid for its bytes either way.
    function _convict(bytes32 id, Measurement storage m, address guilty) private {
        Request memory asked = m.request;
        Result storage r = m.result;
        if (guilty == asked.coordinator) m.fee = 0;
        uint64 paid = r.paid;
        for (uint8 i = 0; paid >> i != 0; ++i) {
            if (m.selected[i] == guilty) paid &= ~(uint64(1) << i);
        }
        r.paid = paid;
        if (
            guilty == asked.prover || guilty == asked.coordinator || r.verdict == Verdict.Annulled
                || _reports(paid) < uint256(asked.n) - asked.f
        ) {
            r.verdict = Verdict.Annulled;
            emit Annulled(id, guilty);
            return;
        }
        uint256[] memory spans = new uint256[](uint256(asked.f) + 1);
        for (uint256 j = 1; j < spans.length; ++j) {
            spans[j] = r.guaranteedSpanUs;
        }
        spans[0] = r.lowerSpanUs;
        _conclude(asked, r, _figures(asked, m, paid, spans), r.verdict);
        emit Recomputed(id, guilty, r.verdict, r.lower, r.guaranteed);
    }

    function _commitDigest(bytes32 id, uint8 phase, uint64 packets, bytes32 countsHash, bytes32 responseHash)
        private
        view
        returns (bytes32 digest)
    {
        return _hashTypedDataV4(keccak256(abi.encode(COMMIT_TYPEHASH, id, phase, packets, countsHash, responseHash)));
    }

    function _reportDigest(
        bytes32 id,
        uint8 phase,
        uint16 index,
        uint32 windowUs,
        uint32 packets,
        bytes32 responseHash
    ) private view returns (bytes32 digest) {
        return _hashTypedDataV4(
            keccak256(abi.encode(REPORT_TYPEHASH, id, phase, index, windowUs, packets, responseHash))
        );
    }

    function _signed(bytes32 digest, bytes memory signature) private pure returns (address signer) {
        (signer,,) = ECDSA.tryRecover(digest, signature);
    }

    /// @dev What is offered where `packets` are needed.
    function _offered(uint256 packets) private pure returns (uint256 offered) {
        return (packets * OFFERED_PERCENT + 99) / 100;
    }

    /// @dev A challenger's share of the claim, ⌈K·D / (8·L·(n−f))⌉, the duration being in ms.
    function _share(Request memory asked) private pure returns (uint256 packets) {
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
