// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The arithmetic of a backhaul measurement
/// @notice Integers only, floor division everywhere, so that every implementation agrees to the last
/// bit (the product's other one is Rust, in `proof/backhaul`).
///
///     point         = min(8·N·L·1e9 / median(tt), offered)
///     guaranteed(j) = 8·L·1e9·(N − Σ j largest counts) / ((j+1)-th largest tt⁺)
///
/// The median of an even number of values is the floored mean of the middle two. MAD is the median
/// distance from the median. Times are nanoseconds, rates bit/s at the IP layer; a rate that 64 bits
/// cannot hold is the largest that they can.
library Estimator {
    /// @dev Nanoseconds in a second times bits in a byte.
    uint256 private constant BIT_NS = 8e9;

    /// @notice What a result is computed from. `counts`, `tt` and `ttPlus` run over the reports.
    struct Input {
        /// bytes of a packet at the IP layer
        uint256 packetBytes;
        /// packets counted in all
        uint256 packets;
        /// packets counted of each reporter
        uint256[] counts;
        /// transmission times, ns
        uint256[] tt;
        /// transmission times that the prover cannot have shortened, ns
        uint256[] ttPlus;
        /// rate offered by all challengers together, bit/s
        uint256 offeredBps;
        /// how many challengers may be corrupt
        uint256 faulty;
    }

    /// @notice What comes out.
    struct Output {
        /// point estimate, bit/s
        uint256 point;
        /// guaranteed(0), …, guaranteed(faulty), bit/s
        uint256[] curve;
        /// which reporters are outliers
        bool[] outliers;
        /// median of tt, ns
        uint256 median;
        /// median distance of tt from it, ns
        uint256 mad;
    }

    /// @notice A time of zero, or arrays of different lengths.
    error InputMalformed();

    /// @notice Computes all of {Output}.
    function estimate(Input memory input) internal pure returns (Output memory output) {
        uint256 n = input.tt.length;
        require(input.counts.length == n && input.ttPlus.length == n, InputMalformed());
        output.curve = new uint256[](input.faulty + 1);
        output.outliers = new bool[](n);
        if (n == 0) return output;

        uint256[] memory sorted = sort(input.tt);
        require(sorted[0] != 0, InputMalformed());
        output.median = median(sorted);
        uint256 rate = _rate(input.packetBytes, input.packets, output.median);
        output.point = rate < input.offeredBps ? rate : input.offeredBps;

        uint256[] memory distances = new uint256[](n);
        for (uint256 i = 0; i < n; ++i) {
            uint256 tt = input.tt[i];
            distances[i] = tt > output.median ? tt - output.median : output.median - tt;
        }
        output.mad = median(sort(distances));
        uint256 bound = 3 * output.mad;
        if (output.median / 20 > bound) bound = output.median / 20;
        for (uint256 i = 0; i < n; ++i) {
            output.outliers[i] = distances[i] > bound;
        }
        _curve(input, output.curve);
    }

    /// @notice A sorted copy, ascending.
    function sort(uint256[] memory values) internal pure returns (uint256[] memory sorted) {
        // Insertion sort: there are at most a few dozen challengers.
        uint256 n = values.length;
        sorted = new uint256[](n);
        for (uint256 i = 0; i < n; ++i) {
            uint256 value = values[i];
            uint256 j = i;
            while (j > 0 && sorted[j - 1] > value) {
                sorted[j] = sorted[j - 1];
                --j;
            }
            sorted[j] = value;
        }
    }

    /// @notice Median of sorted values; at least one.
    function median(uint256[] memory sorted) internal pure returns (uint256 value) {
        uint256 n = sorted.length;
        if (n % 2 == 1) return sorted[n / 2];
        return (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    }

    function _rate(uint256 packetBytes, uint256 packets, uint256 ns) private pure returns (uint256 bps) {
        bps = BIT_NS * packetBytes * packets / ns;
        if (bps > type(uint64).max) bps = type(uint64).max;
    }

    function _curve(Input memory input, uint256[] memory curve) private pure {
        uint256 n = input.tt.length;
        uint256[] memory counts = sort(input.counts);
        uint256[] memory ttPlus = sort(input.ttPlus);
        require(ttPlus[0] != 0, InputMalformed());
        uint256 remaining = input.packets;
        for (uint256 j = 0; j < curve.length && j < n; ++j) {
            curve[j] = _rate(input.packetBytes, remaining, ttPlus[n - 1 - j]);
            // Never below zero: the caller passes packets = Σ counts.
            remaining -= counts[n - 1 - j];
        }
    }
}
