// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Words of a backhaul measurement: what is asked, posted, stored, announced and refused
interface IBackhaul {
    /// @notice Where a measurement stands.
    ///
    ///     Created ─select─► Selected ─begin─► Running ─report─► Reported ─finalize─► Final
    ///        │                 │                 │
    ///        ├─select, too few─► Cancelled       │
    ///        └────timeout──────┴─────────────────┴─► TimedOut
    ///
    ///     Reported ─contest─► Disputed ─ruled─► Reported
    enum State {
        None,
        Created,
        Selected,
        Running,
        Reported,
        Disputed,
        Final,
        TimedOut,
        Cancelled
    }

    /// @notice What the measurement says of the claim.
    enum Verdict {
        None,
        Pass,
        Fail,
        Inconclusive,
        Annulled
    }

    /// @notice Why a report does not count.
    enum Flaw {
        None,
        /// nobody was drawn with this index
        IndexUnknown,
        /// it follows one of the same or of a higher index
        NotAscending,
        /// it counts otherwise than the prover; direction 1: more than the prover sent
        CountDiffers,
        /// a window of zero
        WindowZero,
        /// its challenger did not sign it
        SignatureInvalid
    }

    /// @notice What a payer asks for.
    struct Request {
        /// who pays, and sends this request
        address payer;
        /// whose link is measured
        address prover;
        /// who runs the measurement
        address coordinator;
        /// claimed capacity, bit/s at the IP layer
        uint64 claimBps;
        /// 0: towards the prover, challengers send; 1: away from it, the prover sends
        uint8 direction;
        /// challengers
        uint16 n;
        /// how many of them may be corrupt; n ≥ 3f + 1
        uint16 f;
        /// nominal duration, ms
        uint32 durationMs;
        /// bytes of a data packet at the IP layer
        uint16 packetBytes;
        /// price of one counted byte at the IP layer, in the token's smallest unit
        uint128 pricePerByte;
        /// unix seconds until which the result must be posted
        uint64 deadline;
    }

    /// @notice One challenger's signed timing.
    struct Timing {
        /// position among the selected
        uint16 index;
        /// from its first packet until it heard the commitment, and its clock's error, µs
        uint32 windowUs;
        /// packets of this challenger that the prover counted; direction 1: that it received
        uint32 packets;
        /// EIP-712 `Report` by the challenger, 65 bytes
        bytes signature;
    }

    /// @notice What the coordinator posts.
    struct Submission {
        /// packets the prover committed to: received, or sent in direction 1
        uint64 packets;
        /// of or to each selected challenger
        uint32[] counts;
        /// the seed's response hash: BLAKE3 over all that was received
        bytes32 responseHash;
        /// EIP-712 `Commit` by the prover, 65 bytes
        bytes proverSignature;
        /// ascending by index, one a challenger at most; one that is wrong is as good as none
        Timing[] reports;
        /// BLAKE3 of the evidence bundle
        bytes32 bundleHash;
        /// what the evidence gives: Pass stands if the figures pass too, Fail if they do not
        Verdict verdict;
        /// time over which the bound for 0, …, f corrupt challengers is taken, µs
        uint32[] spansUs;
    }

    /// @notice What a prover commits to, with its signature.
    struct SignedCommit {
        /// the phase
        uint8 phase;
        /// packets in all
        uint64 packets;
        /// keccak256 over the counts of each challenger, 32 bytes each
        bytes32 countsHash;
        /// hash over all that was received
        bytes32 responseHash;
        /// EIP-712 `Commit`, 65 bytes
        bytes signature;
    }

    /// @notice What a challenger reports, with its signature.
    struct SignedReport {
        /// the phase
        uint8 phase;
        /// its position among the selected
        uint16 index;
        /// from its first packet until it heard the commitment, and its clock's error, µs
        uint32 windowUs;
        /// its packets that the prover counted
        uint32 packets;
        /// hash over all that the prover received
        bytes32 responseHash;
        /// EIP-712 `Report`, 65 bytes
        bytes signature;
    }

    /// @notice What came out.
    struct Result {
        /// what the link carried if nobody lies, bit/s
        uint128 lower;
        /// what it carried though f lie, bit/s
        uint128 guaranteed;
        /// packets of the challengers whose reports count
        uint64 packets;
        /// unix seconds when it was posted
        uint64 reportedAt;
        /// bit i: challenger i reported
        uint64 reporters;
        /// bit i: its report counts, and it is paid
        uint64 paid;
        /// what it says of the claim
        Verdict verdict;
        /// block in which it was posted, where the {Reported} event with the curve is
        uint64 reportedBlock;
        /// time over which `lower` is taken, µs
        uint32 lowerSpanUs;
        /// time over which `guaranteed` is taken, µs
        uint32 guaranteedSpanUs;
        /// BLAKE3 of the evidence bundle
        bytes32 bundleHash;
    }

    /// @notice How the challengers were drawn.
    struct DrawRecord {
        /// the beacon's round
        uint64 round;
        /// block in which {select} ran, where the {Selected} event with all looks is
        uint64 selectedBlock;
        /// places in the pool at the request
        uint32 pool;
        /// the mix of that round
        bytes32 beacon;
    }

    /// @notice `payer` locked `escrow` for the measurement `id`.
    event Requested(bytes32 indexed id, address indexed payer, address indexed prover, Request request, uint256 escrow);
    /// @notice Challengers were drawn; `looks` are whom the draw came upon, as {Beacon-draw} gives them.
    event Selected(bytes32 indexed id, uint64 round, bytes32 beacon, uint32 pool, uint256[] looks);
    /// @notice Too few challengers were live; the escrow went back to the payer.
    event NotEnoughChallengers(bytes32 indexed id, uint256 live, uint256 needed);
    /// @notice The coordinator has everyone's consent and seed commitments; this is their hash.
    event Began(bytes32 indexed id, bytes32 setupHash);
    /// @notice The report that was posted of challenger `index` does not count; the others do.
    event ReportSkipped(bytes32 indexed id, uint16 index, Flaw reason);
    /// @notice The result is on record; `curve` is what the link carried though 0, …, f challengers lie.
    event Reported(
        bytes32 indexed id, Verdict verdict, uint256 lower, uint256 guaranteed, uint256[] curve, bytes32 bundleHash
    );
    /// @notice Challenger `index` is paid `amount`.
    event Paid(bytes32 indexed id, address indexed challenger, uint16 index, uint256 amount);
    /// @notice Evidence against `accused` is being judged; nothing is paid out until then.
    event Contested(bytes32 indexed id, address indexed accused);
    /// @notice The evidence was judged.
    event Ruled(bytes32 indexed id, address indexed accused, bool upheld);
    /// @notice The result says nothing any more, and `guilty` is not paid.
    event Annulled(bytes32 indexed id, address indexed guilty);
    /// @notice The result is now the one without the report of `guilty`, who is not paid.
    event Recomputed(
        bytes32 indexed id, address indexed guilty, Verdict verdict, uint256 lower, uint256 guaranteed
    );
    /// @notice Paid out: `challengers` in all, `fee` to the coordinator, `returned` to the payer.
    event Finalized(bytes32 indexed id, uint256 challengers, uint256 fee, uint256 returned);
    /// @notice Nobody reported in time; `returned` went back to the payer.
    event TimedOut(bytes32 indexed id, uint256 returned);
    /// @notice Ended before it ran; `returned` went back to the payer.
    event Cancelled(bytes32 indexed id, uint256 returned);

    /// @notice The sender of a request must be its payer.
    error NotPayer(address sender, address payer);
    /// @notice Only this coordinator may do that.
    error NotCoordinator(address sender, address coordinator);
    /// @notice Directions are 0, towards the prover, and 1, away from it.
    error DirectionUnsupported(uint8 direction);
    /// @notice A claim of zero.
    error ClaimZero();
    /// @notice More than the prover registered for, or more than can be counted.
    error ClaimAboveMaximum(uint256 claim, uint256 max);
    /// @notice No active prover has this address.
    error UnknownProver(address account);
    /// @notice No active coordinator has this address.
    error UnknownCoordinator(address account);
    /// @notice n is below 3f + 1.
    error TooFewChallengers(uint256 n, uint256 needed);
    /// @notice n is above the maximum.
    error TooManyChallengers(uint256 n, uint256 max);
    /// @notice The duration is out of range.
    error DurationOutOfRange(uint256 durationMs, uint256 min, uint256 max);
    /// @notice The packet length is out of range.
    error PacketBytesOutOfRange(uint256 packetBytes, uint256 min, uint256 max);
    /// @notice The deadline is over.
    error DeadlinePassed(uint256 deadline, uint256 now_);
    /// @notice The deadline is still to come.
    error DeadlineNotPassed(uint256 deadline, uint256 now_);
    /// @notice The payer's last request is another than it says: it asked meanwhile, or this is asked already.
    error AskedMeanwhile(bytes32 last);
    /// @notice No such measurement.
    error UnknownRequest(bytes32 id);
    /// @notice The measurement is not where it would have to be.
    error WrongState(bytes32 id, State actual, State needed);
    /// @notice The measurement is over or judged: it cannot time out.
    error AlreadyEnded(bytes32 id, State actual);
    /// @notice The round of the draw is not closed.
    error BeaconNotReady(bytes32 id, uint64 round, uint64 currentRound);
    /// @notice There must be a count for each selected challenger.
    error CountsLength(uint256 length, uint256 needed);
    /// @notice More packets counted of one challenger than count.
    error CountAboveCap(uint256 index, uint256 count, uint256 cap);
    /// @notice The counts do not add up to the packets committed to.
    error CountsSum(uint256 sum, uint256 packets);
    /// @notice More packets than the target of the measurement.
    error PacketsAboveTarget(uint256 packets, uint256 target);
    /// @notice The commitment is not signed by the prover.
    error CommitSignatureInvalid(address recovered, address prover);
    /// @notice There must be a span for each number of corrupt challengers from 0 to f.
    error SpansLength(uint256 length, uint256 needed);
    /// @notice No bound is taken over less time than this.
    error SpanTooShort(uint256 index, uint256 spanUs, uint256 min);
    /// @notice The deadline is so late that a stake could be gone before a dispute is over.
    error DeadlineTooFar(uint256 deadline, uint256 latest);
    /// @notice Only the contract for disputes may do that.
    error NotDisputes(address sender, address disputes);
    /// @notice The time to dispute the result is over.
    error DisputeWindowClosed(uint256 until, uint256 now_);
    /// @notice The accused has no part in this measurement.
    error NotAParty(bytes32 id, address accused);
    /// @notice The evidence is none: not two different statements of one signer about one thing.
    error NoOffence();
    /// @notice The result can still be disputed.
    error DisputeWindowOpen(uint256 until, uint256 now_);
}
