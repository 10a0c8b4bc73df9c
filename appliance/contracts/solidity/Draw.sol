// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who is drawn
/// @notice Each candidate has the score keccak256(abi.encode(beacon, id, candidate)); the `n` smallest
/// win, in ascending order of score. Anyone repeats it from the beacon and the candidates.
library Draw {
    /// @notice The score of one candidate.
    function score(bytes32 beacon, bytes32 id, address candidate) internal pure returns (uint256 value) {
        return uint256(keccak256(abi.encode(beacon, id, candidate)));
    }

    /// @notice The `n` winners among `candidates`, of which there must be at least `n`.
    function winners(bytes32 beacon, bytes32 id, address[] memory candidates, uint256 n)
        internal
        pure
        returns (address[] memory selected)
    {
        selected = new address[](n);
        uint256[] memory best = new uint256[](n);
        uint256 size = 0;
        for (uint256 i = 0; i < candidates.length; ++i) {
            uint256 value = score(beacon, id, candidates[i]);
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
