// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who is drawn
/// @notice Each candidate has the score keccak256(abi.encode(beacon, id, candidate)); the `n` smallest
/// win, in ascending order of score. A candidate of weight w has w scores, of tickets 0 … w − 1, of which
/// the smallest counts (ticket 0 is the score above, ticket t > 0 is keccak256(abi.encode(beacon, id,
/// candidate, t))): it comes first with probability w / Σ weights, as exactly as a hash is uniform.
/// Neither the order of the candidates nor anything but the set of them and their weights matters, so
/// nobody gains by moving in a list. Anyone repeats it from the beacon and the candidates.
library Draw {
    /// @notice The score of one candidate of weight 1.
    function score(bytes32 beacon, bytes32 id, address candidate) internal pure returns (uint256 value) {
        return uint256(keccak256(abi.encode(beacon, id, candidate)));
    }

    /// @notice The score of one candidate that has `weight` tickets; the largest there is if it has none.
    function score(bytes32 beacon, bytes32 id, address candidate, uint256 weight)
        internal
        pure
        returns (uint256 value)
    {
        if (weight == 0) return type(uint256).max;
        value = score(beacon, id, candidate);
        for (uint256 t = 1; t < weight; ++t) {
            uint256 other = uint256(keccak256(abi.encode(beacon, id, candidate, t)));
            if (other < value) value = other;
        }
    }

    /// @notice The `n` winners among `candidates`, of which there must be at least `n`.
    function winners(bytes32 beacon, bytes32 id, address[] memory candidates, uint256 n)
        internal
        pure
        returns (address[] memory selected)
    {
        uint256[] memory scores = new uint256[](candidates.length);
        for (uint256 i = 0; i < candidates.length; ++i) {
            scores[i] = score(beacon, id, candidates[i]);
        }
        return _smallest(scores, candidates, n);
    }

    /// @notice The same, with `weights[i]` tickets for `candidates[i]`.
    function winners(
        bytes32 beacon,
        bytes32 id,
        address[] memory candidates,
        uint256[] memory weights,
        uint256 n
    ) internal pure returns (address[] memory selected) {
        uint256[] memory scores = new uint256[](candidates.length);
        for (uint256 i = 0; i < candidates.length; ++i) {
            scores[i] = score(beacon, id, candidates[i], weights[i]);
        }
        return _smallest(scores, candidates, n);
    }

    /// @dev Insertion into a list of `n`: most candidates are worse than its last.
    function _smallest(uint256[] memory scores, address[] memory candidates, uint256 n)
        private
        pure
        returns (address[] memory selected)
    {
        selected = new address[](n);
        if (n == 0) return selected;
        uint256[] memory best = new uint256[](n);
        uint256 size = 0;
        for (uint256 i = 0; i < candidates.length; ++i) {
            uint256 value = scores[i];
            if (size == n && value >= best[n - 1]) continue;
            uint256 j = size < n ? size++ : n - 1;
            while (j > 0 && best[j - 1] > value) {
                best[j] = best[j - 1];
                selected[j] = selected[j - 1];
                --j;
            }
            best[j] = value;
            selected[j] = candidates[i];
        }
    }
}
