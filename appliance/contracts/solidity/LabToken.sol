// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title The token of a laboratory
/// @notice Anyone may mint any amount: it is money only inside a test. A real deployment passes its
/// own ERC-20 to the {Vault} and never deploys this contract.
contract LabToken is ERC20 {
    constructor() ERC20("Plumbline lab token", "PLAB") {}

    /// @notice Makes `amount` new units and gives them to `to`.
    /// @param to who receives them
    /// @param amount how many, in the token's smallest unit
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}
