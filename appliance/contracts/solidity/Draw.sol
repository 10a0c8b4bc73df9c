// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Parameters} from "./Parameters.sol";
import {Participants} from "./Participants.sol";

/// @title Who is drawn
/// @notice Draw number j = 0, 1, 2, … looks at one place of the pool as it was at the request:
///
///     h_j = keccak256(abi.encode(mix, id, j))     place = (h_j mod 2^128) mod pool     coin = h_j / 2^128
///
/// Whoever holds it is seated if it took part and was live when the request was made, works for no party, and,
/// where tickets count, coin mod `most` is below its tickets. A place is looked at until that is decided; only
/// an unlucky coin is thrown again. So who is drawn depends on nothing that happens after the request but the
/// mix, each place or ticket is as likely as another, and what it costs does not depend on the pool.
///
/// What it does not promise: n seats where few of the pool are live. It gives up after {looks} places.
abstract contract Draw {
    /// @notice What became of the holder of a place that was looked at.
    enum Fate {
        None,
        /// drawn
        Seated,
        /// nobody's place, or its holder did not take part at the request
        Away,
        /// no fresh heartbeat at the request
        Silent,
        /// a party, or of a party's operator
        Related,
        /// its coin was not below its tickets
        Unlucky
    }

    /// @notice All that a request fixes of its draw: one slot.
    struct Snapshot {
        /// block of the request
        uint48 blockNumber;
        /// newest round of the beacon then
        uint48 round;
        /// unix seconds of the request
        uint40 time;
        /// whose pool
        uint32 role;
        /// its places then
        uint32 pool;
    }

    /// @notice What a draw came to.
    struct Drawn {
        /// whether its round is closed; if not, nothing is drawn
        bool closed;
        /// the round that closed it, or the one that is waited for
        uint64 round;
        /// the mix of that round
        bytes32 mix;
        /// of each look: account << 16 | tickets << 8 | {Fate}
        uint256[] looks;
        /// who is seated, in order
        address[] seated;
    }

    /// @notice Who can be drawn.
    Participants public immutable PARTICIPANTS;
    /// @notice Where chain variables stand.
    Parameters public immutable PARAMETERS;

    /// @dev Most draws for each look that is allowed: others hit places that are decided.
    uint256 private constant DRAWS_PER_LOOK = 16;

    /// @notice At how many places a draw of `n` looks at most; `most` is that of tickets.
    function looks(uint256 n, uint256 most) public pure returns (uint256 number) {
        number = 8 * n + 88;
        if (most > 1) number *= 2;
    }

    /// @dev Fills in seats and looks.
    function _draw(
        Drawn memory drawn,
        bytes32 id,
        Snapshot calldata asked,
        bytes32[] memory barred,
        uint256 n,
        uint256 most
    ) internal view {
        uint256 pool = asked.pool;
        uint256 limit = looks(n, most);
        uint256 interval = PARAMETERS.at("live_interval_s", asked.time);
        uint256 min = PARAMETERS.at("min_stake", asked.time);
        uint256[] memory seen = new uint256[](limit);
        uint256[] memory decided = new uint256[](pool / 256 + 1);
        address[] memory seated = new address[](n);
        uint256 looked = 0;
        uint256 found = 0;
        uint256 left = pool;
        for (uint256 j = 0; found < n && left > 0 && looked < limit && j < limit * DRAWS_PER_LOOK; ++j) {
            uint256 h = uint256(keccak256(abi.encode(drawn.mix, id, j)));
            uint256 place = uint128(h) % pool;
            if ((decided[place >> 8] >> (place & 255)) & 1 != 0) continue;
            uint256 look = most == 1 ? 1 << 8 : _tickets(asked, place, min, most);
            Fate fate = Fate.Unlucky;
            if ((h >> 128) % most < (look >> 8) & 255) {
                address account;
                (account, fate) = _fate(asked, place, interval, barred);
                look |= uint256(uint160(account)) << 16;
                decided[place >> 8] |= 1 << (place & 255);
                --left;
                if (fate == Fate.Seated) seated[found++] = account;
            }
            seen[looked++] = look | uint256(fate);
        }
        // Memory arrays cannot shrink in Solidity; both were allocated at least as long.
        assembly ("memory-safe") {
            mstore(seen, looked)
            mstore(seated, found)
        }
        drawn.looks = seen;
        drawn.seated = seated;
    }

    /// @dev Whether `account` had a fresh heartbeat when it was `asked`, from a block before.
    function _wasLive(address account, Snapshot calldata asked, uint256 interval)
        internal
        view
        virtual
        returns (bool live);

    /// @dev Account and tickets of the juror at `place`, as in a look.
    function _tickets(Snapshot calldata asked, uint256 place, uint256 min, uint256 most)
        private
        view
        returns (uint256 look)
    {
        address account = PARTICIPANTS.holderOf(asked.role, place);
        uint256 count = min == 0 ? 1 : PARTICIPANTS.stakeAt(account, asked.blockNumber) / min;
        if (count > most) count = most;
        if (count == 0) count = 1;
        return uint256(uint160(account)) << 16 | count << 8;
    }

    function _fate(Snapshot calldata asked, uint256 place, uint256 interval, bytes32[] memory barred)
        private
        view
        returns (address account, Fate fate)
    {
        bytes32 operator;
        bool tookPart;
        (account, operator, tookPart) = PARTICIPANTS.candidate(asked.role, place, asked.blockNumber);
        if (!tookPart) return (account, Fate.Away);
        if (!_wasLive(account, asked, interval)) return (account, Fate.Silent);
        for (uint256 i = 0; i < barred.length; ++i) {
            if (barred[i] == operator) return (account, Fate.Related);
        }
        return (account, Fate.Seated);
    }
}
