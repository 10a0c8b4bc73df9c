// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Estimator} from "Estimator.sol";

/// @title The estimator, many times in one call
/// @notice For tests only: comparing it with another takes a hundred thousand cases.
contract EstimatorMany {
    /// @notice The curve of each input.
    function estimateMany(Estimator.Input[] memory inputs) external pure returns (uint256[][] memory curves) {
        curves = new uint256[][](inputs.length);
        for (uint256 i = 0; i < inputs.length; ++i) {
            curves[i] = Estimator.estimate(inputs[i]).curve;
        }
    }
}
