// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IProof} from "./IProof.sol";
import {Jury} from "./Jury.sol";
import {Parameters} from "./Parameters.sol";
import {Participants} from "./Participants.sol";
import {Registry} from "./Registry.sol";
import {Vault} from "./Vault.sol";

/// @title Evidence against a participant, for every proof
/// @notice Two ways lead from evidence to a stake:
///
///     announce ──► prove    the evidence stands alone: the proof checks it, in one step
///        └───────► dispute  a jury re-runs the verifier on it ──► conclude
///
/// Evidence is first announced by a hash and shown in a later block, so that whoever sees it in the queue
/// cannot take it for its own. A dispute costs a bond: back if the evidence holds or the jury is hung,
/// burnt if it does not or if the jury could not get it. The guilty loses a part of its stake, the reporter
/// gets a share of that, the rest is burnt, so that accusing oneself does not pay.
///
/// Nobody is punished twice in one matter, by whichever way and with whatever evidence. One piece of evidence
/// against one accused is judged once. What was not judged can be brought again, each time for another bond
/// and another jury: where the jury was hung, and where the evidence was nowhere, or the accused could have it
/// "brought" by a friend who shows it to nobody, and be safe from it for ever.
contract Disputes is ReentrancyGuardTransient {
    /// @notice One dispute.
    struct Dispute {
        /// who brought it; zero: no such dispute
        address reporter;
        /// whether it is over
        bool over;
        /// the proof it is brought to
        IProof proof;
        /// who is accused
        address accused;
        /// percent of the accused's stake
        uint8 stakePercent;
        /// percent of that for the reporter
        uint8 reporterPercent;
        /// what it is about
        bytes32 subject;
        /// hash of the evidence: BLAKE3
        bytes32 evidence;
        /// the jury's case
        bytes32 caseId;
        /// where its reporter says that the evidence is, a URL; may be empty. Nobody need believe it: the bytes
        /// are compared with `evidence`
        string source;
    }

    /// @notice Separates the ids of this contract from all other hashes.
    bytes32 public constant DOMAIN = keccak256("plumbline dispute v2");
    /// @notice Longest URL of evidence, bytes.
    uint256 public constant MAX_SOURCE = 256;

    /// @notice Where bonds lie.
    Vault public immutable VAULT;
    /// @notice Which proofs there are.
    Registry public immutable REGISTRY;
    /// @notice Where chain variables stand.
    Parameters public immutable PARAMETERS;
    /// @notice Whose stakes are taken.
    Participants public immutable PARTICIPANTS;
    /// @notice Who judges.
    Jury public immutable JURY;

    /// @notice Block in which an account announced a hash; zero: never.
    mapping(address account => mapping(bytes32 hash => uint256 number)) public announcedIn;
    /// @notice Whether somebody was punished in a matter: {chargeOf}.
    mapping(bytes32 charge => bool done) public isPunished;
    mapping(bytes32 id => Dispute) private _disputes;
    /// @dev How often one piece of evidence was brought against one accused.
    mapping(bytes32 matter => uint256 count) private _attempts;

    /// @notice `account` holds evidence.
    event Announced(address indexed account, bytes32 indexed hash);
    /// @notice `reporter` accuses `accused`; the evidence is what hashes to `evidence` (BLAKE3). Its source is in
    /// {get}.
    event Disputed(
        bytes32 indexed id,
        bytes32 indexed subject,
        address indexed accused,
        address proof,
        bytes32 evidence,
        bytes32 caseId,
        address reporter,
        uint256 bond
    );
    /// @notice The dispute is over; `taken` is what the accused lost.
    event Concluded(bytes32 indexed id, Jury.Ruling ruling, uint256 taken);
    /// @notice An offence was proven in one step; `taken` is what the guilty lost.
    event Proven(
        bytes32 indexed subject, address indexed guilty, bytes32 indexed offence, address reporter, uint256 taken
    );

    /// @notice No proof of the house.
    error NotAProof(address proof);
    /// @notice This evidence was not announced by its reporter, or only in this block.
    error NotAnnounced(address reporter, bytes32 hash);
    /// @notice This evidence is being judged, or was: the dispute `id`.
    error DisputeExists(bytes32 id);
    /// @notice The URL of the evidence is longer than it can be.
    error SourceTooLong(uint256 length, uint256 max);
    /// @notice No such dispute.
    error UnknownDispute(bytes32 id);
    /// @notice The dispute is over.
    error AlreadyConcluded(bytes32 id);
    /// @notice The jury is still out.
    error JuryOut(bytes32 id, bytes32 caseId);
    /// @notice The accused was punished in this matter before: {chargeOf}.
    error AlreadyPunished(bytes32 charge);

    /// @param vault where bonds lie; this contract must be one of its modules
    /// @param registry which proofs there are
    /// @param parameters where chain variables stand
    /// @param participants whose stakes are taken
    /// @param jury who judges
    constructor(Vault vault, Registry registry, Parameters parameters, Participants participants, Jury jury) {
        VAULT = vault;
        REGISTRY = registry;
        PARAMETERS = parameters;
        PARTICIPANTS = participants;
        JURY = jury;
    }

    /// @notice Says that the caller holds evidence, and which, without showing it: the hash of
    /// {disputeHash} or {proofHash}.
    function announce(bytes32 hash) external {
        if (announcedIn[msg.sender][hash] == 0) announcedIn[msg.sender][hash] = block.number;
        emit Announced(msg.sender, hash);
    }

    /// @notice Brings evidence that a jury must judge. Locks the bond and the jury's fees (allowance to the
    /// vault).
    /// @param proof the proof it is brought to
    /// @param subject what it is about
    /// @param accused whom it accuses
    /// @param evidence hash of the evidence: BLAKE3
    /// @param salt as announced; it hides the announcement and changes nothing else
    /// @param source URL of the evidence, or nothing
    /// @return id names the dispute
    function dispute(
        IProof proof,
        bytes32 subject,
        address accused,
        bytes32 evidence,
        bytes32 salt,
        string calldata source
    ) external nonReentrant returns (bytes32 id) {
        require(REGISTRY.isKnown(address(proof)), NotAProof(address(proof)));
        require(bytes(source).length <= MAX_SOURCE, SourceTooLong(bytes(source).length, MAX_SOURCE));
        _requireAnnounced(disputeHash(proof, subject, accused, evidence, salt));
        bytes32 charge = chargeOf(proof, subject, accused);
        require(!isPunished[charge], AlreadyPunished(charge));
        id = _begin(_matterOf(proof, subject, accused, evidence));
        Dispute storage d = _disputes[id];
        d.reporter = msg.sender;
        d.proof = proof;
        d.accused = accused;
        d.stakePercent = uint8(PARAMETERS.get("offence_percent"));
        d.reporterPercent = uint8(PARAMETERS.get("reporter_percent"));
        d.subject = subject;
        d.evidence = evidence;
        d.source = source;

        address[] memory parties = proof.contest(subject, accused);
        address[] memory excluded = new address[](parties.length + 2);
        for (uint256 i = 0; i < parties.length; ++i) {
            excluded[i] = parties[i];
        }
        excluded[parties.length] = msg.sender;
        excluded[parties.length + 1] = accused;
        uint256 bond = PARAMETERS.get("dispute_bond");
        bytes32 caseId = JURY.open(id, evidence, msg.sender, excluded);
        d.caseId = caseId;
        emit Disputed(id, subject, accused, address(proof), evidence, caseId, msg.sender, bond);
        VAULT.lock(id, msg.sender, bond);
    }

    /// @notice Carries out what the jury ruled. Anyone may call it.
    function conclude(bytes32 id) external nonReentrant {
        Dispute storage d = _disputes[id];
        require(d.reporter != address(0), UnknownDispute(id));
        require(!d.over, AlreadyConcluded(id));
        Jury.Ruling ruling = JURY.rulingOf(d.caseId);
        require(ruling != Jury.Ruling.None, JuryOut(id, d.caseId));
        d.over = true;
        bool upheld = ruling == Jury.Ruling.Upheld;
        uint256 taken = 0;
        // Unless it was proven in one step while the jury was out.
        bytes32 charge = chargeOf(d.proof, d.subject, d.accused);
        if (upheld && !isPunished[charge]) {
            isPunished[charge] = true;
            taken = _punish(d.accused, d.reporter, d.stakePercent, d.reporterPercent, "judged evidence");
        }
        d.proof.ruled(d.subject, d.accused, upheld);
        emit Concluded(id, ruling, taken);
        if (ruling == Jury.Ruling.Rejected || ruling == Jury.Ruling.Unavailable) VAULT.burn(id);
        else VAULT.refund(id, d.reporter);
    }

    /// @notice Proves an offence whose evidence stands alone.
    /// @param proof the proof it is brought to
    /// @param evidence in that proof's encoding
    /// @param salt as announced
    /// @return taken what the guilty lost
    function prove(IProof proof, bytes calldata evidence, bytes32 salt)
        external
        nonReentrant
        returns (uint256 taken)
    {
        require(REGISTRY.isKnown(address(proof)), NotAProof(address(proof)));
        _requireAnnounced(proofHash(proof, evidence, salt));
        (bytes32 subject, address guilty, bytes32 offence) = proof.offenceOf(evidence);
        bytes32 charge = chargeOf(proof, subject, guilty);
        require(!isPunished[charge], AlreadyPunished(charge));
        isPunished[charge] = true;
        taken = _punish(
            guilty, msg.sender, PARAMETERS.get("offence_percent"), PARAMETERS.get("reporter_percent"), offence
        );
        emit Proven(subject, guilty, offence, msg.sender, taken);
        proof.faulted(subject, guilty);
    }

    /// @notice What to announce before {dispute}.
    function disputeHash(IProof proof, bytes32 subject, address accused, bytes32 evidence, bytes32 salt)
        public
        pure
        returns (bytes32 hash)
    {
        return keccak256(abi.encode(proof, subject, accused, evidence, salt));
    }

    /// @notice What to announce before {prove}.
    function proofHash(IProof proof, bytes calldata evidence, bytes32 salt) public pure returns (bytes32 hash) {
        return keccak256(abi.encode(proof, keccak256(evidence), salt));
    }

    /// @notice Names what somebody can be punished for once: its part in `subject`.
    function chargeOf(IProof proof, bytes32 subject, address accused) public pure returns (bytes32 charge) {
        return keccak256(abi.encode(proof, subject, accused));
    }

    /// @notice The dispute in which this evidence was brought last; zero if it never was.
    function lastOf(IProof proof, bytes32 subject, address accused, bytes32 evidence)
        external
        view
        returns (bytes32 id)
    {
        bytes32 matter = _matterOf(proof, subject, accused, evidence);
        uint256 attempt = _attempts[matter];
        return attempt == 0 ? bytes32(0) : _idOf(matter, attempt);
    }

    /// @notice All that is known of a dispute; all zero if there is none.
    function get(bytes32 id) external view returns (Dispute memory found) {
        return _disputes[id];
    }

    /// @dev Announced by the caller in an earlier block. Others may announce the same hash: it is worth
    /// nothing to who cannot show what it hides in a block after its own announcement.
    function _requireAnnounced(bytes32 hash) private view {
        uint256 number = announcedIn[msg.sender][hash];
        require(number != 0 && number < block.number, NotAnnounced(msg.sender, hash));
    }

    /// @dev The id of the next attempt, if there can be one.
    function _begin(bytes32 matter) private returns (bytes32 id) {
        uint256 attempt = _attempts[matter];
        if (attempt != 0) {
            bytes32 last = _idOf(matter, attempt);
            Dispute storage d = _disputes[last];
            Jury.Ruling ruling = JURY.rulingOf(d.caseId);
            bool unjudged = ruling == Jury.Ruling.Hung || ruling == Jury.Ruling.Unavailable;
            require(d.over && unjudged, DisputeExists(last));
        }
        _attempts[matter] = ++attempt;
        return _idOf(matter, attempt);
    }

    function _matterOf(IProof proof, bytes32 subject, address accused, bytes32 evidence)
        private
        pure
        returns (bytes32 matter)
    {
        return keccak256(abi.encode(proof, subject, accused, evidence));
    }

    function _idOf(bytes32 matter, uint256 attempt) private view returns (bytes32 id) {
        return keccak256(abi.encode(DOMAIN, block.chainid, address(this), matter, attempt));
    }

    function _punish(
        address guilty,
        address reporter,
        uint256 stakePercent,
        uint256 reporterPercent,
        bytes32 offence
    ) private returns (uint256 taken) {
        uint256 asked = VAULT.stake(guilty) * stakePercent / 100;
        return PARTICIPANTS.slash(guilty, asked, reporter, reporterPercent, offence);
    }
}
