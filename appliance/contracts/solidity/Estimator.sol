// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The arithmetic of a backhaul measurement
/// @notice What crossed the link for certain, though `j` challengers lie. Integers only, so that every
/// implementation agrees to the last bit (the product's other one is Rust, in `proof/backhaul`).
///
///     early_i(T) = ⌈r·(w_i − T) / 8e6·L⌉ + 8         sent at most before the last T of i's window
///     c'_i(T)    = c_i                                if w_i ≤ T, else
///                 max(0, c_i − early_i(T))            where challengers send, all to one prover
///                 0                                   where the prover sends to all of them
///     bound(j)   = 8e6·L·(Σ c'_i(T_j) − the j largest c'_i(T_j)) / T_j
///
/// Each T gives a bound that holds; which T is best for each j the caller says. Times are microseconds,
/// rates bit/s at the IP layer, rounded down; a rate that 64 bits cannot hold is the largest that they can.
library Estimator {
    /// @dev Microseconds in a second times bits in a byte.
    uint256 private constant BIT_US = 8e6;
    /// @notice A challenger is never further ahead of its schedule than this many packets.
    uint256 internal constant BURST_PACKETS = 8;

    /// @notice What a result is computed from. `counts` and `windowsUs` run over the reports.
    struct Input {
        /// whether the prover sends
        bool uplink;
        /// bytes of a packet at the IP layer
        uint256 packetBytes;
        /// rate at which each challenger sends, bit/s
        uint256 rateBps;
        /// packets counted of each reporter
        uint256[] counts;
        /// from each reporter's first packet until it heard the commitment, µs
        uint256[] windowsUs;
        /// T for 0, 1, … corrupt challengers, µs
        uint256[] spansUs;
    }

    /// @notice What comes out.
    struct Output {
        /// bound(0), bound(1), …: one for each span, bit/s
        uint256[] curve;
    }

    /// @notice A span or a length of zero, or arrays of different lengths.
    error InputMalformed();

    /// @notice Computes all of {Output}. Every value is below 2^64, so that no product here overflows.
    function estimate(Input memory input) internal pure returns (Output memory output) {
        uint256[] memory spans = input.spansUs;
        uint256 size = input.counts.length;
        require(input.windowsUs.length == size && input.packetBytes != 0, InputMalformed());
        output.curve = new uint256[](spans.length);
        uint256[] memory heap = new uint256[](size);
        uint256 left = 0;
        uint256 sum = 0;
        for (uint256 j = 0; j < spans.length; ++j) {
            uint256 span = spans[j];
            if (j == 0 || span != spans[j - 1]) {
                require(span != 0, InputMalformed());
                sum = _within(input, span, heap);
                left = size;
            }
            // Without the j largest: they may have been said by the corrupt.
            while (left > 0 && size - left < j) {
                sum -= heap[0];
                --left;
                _sift(heap, 0, left, heap[left]);
            }
            uint256 bps = BIT_US * input.packetBytes * sum / span;
            output.curve[j] = bps < type(uint64).max ? bps : type(uint64).max;
        }
    }

    /// @dev Of each challenger what it sent within the last `span` of its window, as a heap, and the sum.
    function _within(Input memory input, uint256 span, uint256[] memory heap) private pure returns (uint256 sum) {
        uint256[] memory counts = input.counts;
        uint256[] memory windowsUs = input.windowsUs;
        uint256 divisor = BIT_US * input.packetBytes;
        uint256 rateBps = input.rateBps;
        bool uplink = input.uplink;
        uint256 size = heap.length;
        unchecked {
            // The three arrays are as long as each other.
            for (uint256 i = size; i > 0;) {
                --i;
                uint256 count = _at(counts, i);
                uint256 windowUs = _at(windowsUs, i);
                if (windowUs > span) {
                    uint256 early =
                        uplink ? count : (rateBps * (windowUs - span) + divisor - 1) / divisor + BURST_PACKETS;
                    count = count > early ? count - early : 0;
                }
                sum += count;
                _sift(heap, i, size, count);
            }
        }
    }

    /// @dev Puts `value` at `i` or below it, so that in heap[0..size] no entry is above the one it hangs from.
    function _sift(uint256[] memory heap, uint256 i, uint256 size, uint256 value) private pure {
        // `size` is at most the length, and so is every place below it.
        unchecked {
            for (uint256 child = 2 * i + 1; child < size; child = 2 * i + 1) {
                uint256 larger = _at(heap, child);
                if (child + 1 < size) {
                    uint256 other = _at(heap, child + 1);
                    if (other > larger) {
                        larger = other;
                        ++child;
                    }
                }
                if (larger <= value) break;
                _put(heap, i, larger);
                i = child;
            }
            if (i < size) _put(heap, i, value);
        }
    }

    /// @dev values[i], where it is known that there is one.
    function _at(uint256[] memory values, uint256 i) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := mload(add(add(values, 32), shl(5, i)))
        }
    }

    /// @dev values[i] = value, where it is known that there is one.
    function _put(uint256[] memory values, uint256 i, uint256 value) private pure {
        assembly ("memory-safe") {
            mstore(add(add(values, 32), shl(5, i)), value)
        }
    }
}
