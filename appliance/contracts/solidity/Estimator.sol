// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The arithmetic of a backhaul measurement
/// @notice Integers only, floor division everywhere, so that every implementation agrees to the last
/// bit (the product's other one is Rust, in `proof/backhaul`).
///
///     point         = min(8·N·L·1e9 / median(tt), 1.25 · 8·N·L·1e9 / median(tt⁺), offered)
///     guaranteed(j) = 8·L·1e9·(N − Σ j largest counts) / ((j+1)-th largest tt⁺)
///
/// where challengers send, all to one prover; and where the prover sends to all of them
///
///     rate_i        = 8·L·packets_i·1e9 / tt_i
///     point         = min(Σ rate_i, offered)
///     guaranteed(j) = Σ of all rates but the j largest
///
/// No figure exceeds the sustained rate, if a burst was seen.
///
/// The median of an even number of values is the floored mean of the middle two. MAD is the median
/// distance from the median. Times are nanoseconds, rates bit/s at the IP layer; a rate that 64 bits
/// cannot hold is the largest that they can.
library Estimator {
    /// @dev Nanoseconds in a second times bits in a byte.
    uint256 private constant BIT_NS = 8e9;

    /// @notice What a result is computed from. `counts`, `tt` and `ttPlus` run over the reports.
    struct Input {
        /// whether the prover sends
        bool uplink;
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
        /// rate after a burst, bit/s; the largest of 64 bits if none was seen
        uint256 sustainedBps;
    }

    /// @notice What comes out.
    struct Output {
        /// point estimate, bit/s
        uint256 point;
        /// guaranteed(0), …, guaranteed(faulty), bit/s
        uint256[] curve;
        /// which reporters are outliers; none where the prover sends: they share nothing to differ in
        bool[] outliers;
        /// median of tt, ns; zero where the prover sends
        uint256 median;
        /// median distance of tt from it, ns; zero where the prover sends
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
        if (input.uplink) _uplink(input, output);
        else _downlink(input, output);
        // A burst that outran the link says nothing of what it sustains.
        output.point = _min(output.point, input.sustainedBps);
        for (uint256 j = 0; j < output.curve.length; ++j) {
            output.curve[j] = _min(output.curve[j], input.sustainedBps);
        }
    }

    /// @dev Challengers send, and all of them time the same traffic.
    function _downlink(Input memory input, Output memory output) private pure {
        uint256 n = input.tt.length;
        uint256[] memory sorted = sort(input.tt);
        require(sorted[0] != 0, InputMalformed());
        output.median = median(sorted);
        output.point = _min(_rate(input.packetBytes, input.packets, output.median), input.offeredBps);

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
        _curve(input, output);
    }

    /// @dev The prover sends, and each challenger times what reached it.
    function _uplink(Input memory input, Output memory output) private pure {
        uint256 n = input.tt.length;
        uint256[] memory rates = new uint256[](n);
        uint256 sum = 0;
        for (uint256 i = 0; i < n; ++i) {
            require(input.tt[i] != 0, InputMalformed());
            rates[i] = _rate(input.packetBytes, input.counts[i], input.tt[i]);
            sum += rates[i];
        }
        output.point = _min(sum, input.offeredBps);
        rates = sort(rates);
        for (uint256 j = 0; j < output.curve.length && j < n; ++j) {
            // The j corrupt can have said what they liked: theirs count for nothing.
            output.curve[j] = _min(sum, type(uint64).max);
            sum -= rates[n - 1 - j];
        }
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256 least) {
        return a < b ? a : b;
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
        bps = _min(BIT_NS * packetBytes * packets / ns, type(uint64).max);
    }

    /// @dev The trust curve; and the point is held to what it were without round trips, and a quarter.
    function _curve(Input memory input, Output memory output) private pure {
        uint256 n = input.tt.length;
        uint256[] memory counts = sort(input.counts);
        uint256[] memory ttPlus = sort(input.ttPlus);
        require(ttPlus[0] != 0, InputMalformed());
        uint256 remaining = input.packets;
        output.point = _min(output.point, _rate(input.packetBytes, remaining, median(ttPlus)) * 5 / 4);
        for (uint256 j = 0; j < output.curve.length && j < n; ++j) {
            output.curve[j] = _rate(input.packetBytes, remaining, ttPlus[n - 1 - j]);
            // Never below zero: the caller passes packets = Σ counts.
            remaining -= counts[n - 1 - j];
        }
    }
}
