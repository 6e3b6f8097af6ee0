// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC20Votes} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Votes.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";

/// @title The InfraMind token
/// @notice A plain ERC-20 of fixed supply with permit (one signature instead of an approval
/// transaction) and votes that work from the first receipt on.
/// @dev No owner, no minting, no pausing: whoever holds it depends on nobody.
contract IFM is ERC20, ERC20Permit, ERC20Votes {
    /// @dev Accounts that delegated to nobody on purpose, which a receipt must not undo.
    mapping(address account => bool) private _abstains;

    /// @param holder Receives the whole supply.
    /// @param supply In base units; 10^18 are one IFM. At most 2^208 - 1, the limit of vote counting.
    constructor(
        address holder,
        uint256 supply
    ) ERC20("InfraMind", "IFM") ERC20Permit("InfraMind") {
        _mint(holder, supply);
    }

    /// @inheritdoc ERC20Permit
    function nonces(address owner) public view override(ERC20Permit, Nonces) returns (uint256) {
        return super.nonces(owner);
    }

    /// @dev OpenZeppelin counts no votes before a delegation, so that a holder who never heard of
    /// delegation would have none; here an account delegates to itself at its first receipt.
    /// Contracts are excepted: tokens that lie in a pool or in the settlement are nobody's votes.
    function _update(
        address from,
        address to,
        uint256 value
    ) internal override(ERC20, ERC20Votes) {
        super._update(from, to, value);
        if (
            to != address(0) &&
            delegates(to) == address(0) &&
            to.code.length == 0 &&
            !_abstains[to]
        ) {
            // After the balance has moved: delegating moves all of it, this receipt included.
            _delegate(to, to);
        }
    }

    /// @dev Delegating to nobody is a choice, and is kept as one.
    function _delegate(address account, address delegatee) internal override {
        _abstains[account] = delegatee == address(0);
        super._delegate(account, delegatee);
    }
}
