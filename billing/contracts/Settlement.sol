// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControlDefaultAdminRules} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

/// @title Where prepaid balances lie and earnings are claimed
/// @notice Deposits come in; earnings go out by Merkle proof against the root of an epoch, unspent
/// balances by a signed voucher. All amounts are base units of IFM and all counters only grow.
///
/// What always holds:
/// - `held() == totalDeposited() - totalClaimed() - totalWithdrawn()`, at most the token balance.
/// - What the newest root still has to pay, claimable or not, is at most `held()`: a root that
///   would break this is refused, and so is a withdrawal.
/// - Claims and vouchers carry cumulative amounts, so the same earnings are never paid twice,
///   whatever is sent again, in whichever order, and across every root.
///
/// What it cannot see, and others therefore have to check against the published tree before the
/// challenge time is over: that the leaves add up to `total`, and that no (account, stream) is
/// missing from, or lower in, a newer root. Leaves that add up to more than `total` harm other
/// earners at most, never the unspent balances: claims end at `total`.
///
/// @dev Works with the token it was deployed for, which must move exactly what it is told to move.
/// Tokens sent here by a plain transfer belong to nobody and count for nothing.
contract Settlement is AccessControlDefaultAdminRules, EIP712, Pausable, ReentrancyGuard {
    using SafeERC20 for IERC20;

    struct Proposal {
        bytes32 root;
        uint256 total;
        uint64 claimableAt;
    }

    struct Claim {
        address account;
        bytes32 stream;
        uint256 cumulative;
        bytes32[] proof;
    }

    /// @notice May propose the root of an epoch.
    bytes32 public constant PROPOSER_ROLE = keccak256("PROPOSER_ROLE");
    /// @notice May revoke a root during its challenge time. Keep it apart from the proposer's key.
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");
    /// @notice May stop everything; only the admin starts it again.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice Its signature on a voucher releases unspent balance, below the daily cap.
    bytes32 public constant VOUCHER_ROLE = keccak256("VOUCHER_ROLE");

    bytes32 private constant WITHDRAWAL_TYPEHASH =
        keccak256("Withdrawal(address account,uint256 cumulative,uint256 deadline)");
    bytes32 private constant PERMIT_TYPEHASH =
        keccak256(
            "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
        );

    IERC20 private immutable _ifm;

    /// @notice Seconds between a proposal and its first claim, in which the guardian may revoke it.
    uint64 public immutable challengeSeconds;

    /// @notice All that was ever deposited, claimed and withdrawn.
    uint256 public totalDeposited;
    uint256 public totalClaimed;
    uint256 public totalWithdrawn;

    /// @notice The most that all withdrawals of one UTC day may add up to. It bounds what a stolen
    /// voucher key can take before somebody pauses the contract.
    uint256 public dailyWithdrawalCap;

    /// @notice What was ever paid for the earnings of an account from a stream.
    mapping(address account => mapping(bytes32 stream => uint256 cumulative)) public claimed;
    /// @notice What was ever withdrawn by vouchers of an account.
    mapping(address account => uint256 cumulative) public withdrawn;

    mapping(uint64 epoch => Proposal) private _proposals;
    mapping(bytes32 digest => bool) private _usedPermits;
    // The last epoch known to be past its challenge time, and the one after it. The second becomes
    // the first by the clock alone; the next proposal only writes down what is true already.
    uint64 private _acceptedEpoch;
    uint64 private _proposedEpoch;
    uint64 private _withdrawalDay;
    uint256 private _withdrawnThatDay;

    event Deposited(address indexed account, address indexed from, uint256 amount);
    event RootProposed(
        uint64 indexed epoch,
        bytes32 root,
        uint256 total,
        string uri,
        uint64 claimableAt
    );
    event RootRevoked(uint64 indexed epoch);
    event Claimed(
        address indexed account,
        bytes32 indexed stream,
        uint256 amount,
        uint256 cumulative
    );
    event Withdrawn(address indexed account, uint256 amount, uint256 cumulative);
    event DailyWithdrawalCapSet(uint256 cap);

    /// The token's address has no code.
    error NotAContract(address ifm);
    error ZeroAmount();
    error ZeroAccount();
    /// A permit sent by somebody else may credit its signer only.
    error NotTheSigner(address account, address from);
    /// The permit is neither good now, nor the last one that its signer gave, unused.
    error PermitRefused(address from);
    /// The newest root is still within its challenge time.
    error RootPending(uint64 epoch, uint64 claimableAt);
    error EpochNotNewer(uint64 epoch, uint64 last);
    error ZeroRoot();
    error TotalFell(uint256 total, uint256 previous);
    /// What the root has to pay is more than what is held.
    error Underfunded(uint256 unclaimed, uint256 held);
    /// No root of this epoch is within its challenge time.
    error NotRevocable(uint64 epoch);
    error InvalidProof(address account, bytes32 stream, uint256 cumulative);
    error NothingToClaim(address account, bytes32 stream, uint256 claimed);
    /// The leaves of the root add up to more than its total.
    error TotalExceeded(uint256 amount, uint256 left);
    error VoucherExpired(uint256 deadline);
    error UnauthorizedVoucher(address signer);
    error NothingToWithdraw(address account, uint256 withdrawn);
    error DailyCapExceeded(uint256 amount, uint256 left);
    /// The rest is owed to the earners of the newest root.
    error InsufficientHoldings(uint256 amount, uint256 free);

    /// @param ifm_ The token, already deployed.
    /// @param admin Grants the other roles; hands over in two steps, `adminDelaySeconds` apart.
    /// @param adminDelaySeconds Time in which a hand-over can still be cancelled.
    /// @param challengeSeconds_ 0 on a development chain: a root is claimable in its own block.
    /// @param dailyWithdrawalCap_ See `dailyWithdrawalCap`.
    constructor(
        address ifm_,
        address admin,
        uint48 adminDelaySeconds,
        uint64 challengeSeconds_,
        uint256 dailyWithdrawalCap_
    )
        AccessControlDefaultAdminRules(adminDelaySeconds, admin)
        EIP712("InfraMind Settlement", "1")
    {
        require(ifm_.code.length > 0, NotAContract(ifm_));
        _ifm = IERC20(ifm_);
        challengeSeconds = challengeSeconds_;
        dailyWithdrawalCap = dailyWithdrawalCap_;
        emit DailyWithdrawalCapSet(dailyWithdrawalCap_);
    }

    // --- deposits ----------------------------------------------------------------------------

    /// @notice Add to the prepaid balance of `account` from the sender's tokens, which were
    /// approved for this contract before.
    function deposit(address account, uint256 amount) external nonReentrant whenNotPaused {
        _deposit(account, msg.sender, amount);
    }

    /// @notice As `deposit`, with the approval as a signature of `from`; anyone may send it.
    /// @dev A permit brings one deposit. It can be taken out of the mempool and sent to the token
    /// alone, to make this call fail. Therefore a permit that was consumed a moment ago is as good as a fresh one,
    /// provided that `from` signed it and that it brought no deposit yet. Checking that is what
    /// keeps a stranger from depositing, unasked, whatever `from` has approved otherwise. Who sends
    /// their own call needs no permit where the approval is there already.
    function depositWithPermit(
        address account,
        address from,
        uint256 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant whenNotPaused {
        require(
            msg.sender == from || account == from,
            NotTheSigner(account, from)
        );
        IERC20Permit token = IERC20Permit(address(_ifm));
        uint256 nonce = token.nonces(from);
        try token.permit(from, address(this), amount, deadline, v, r, s) {
            _usedPermits[_permitDigest(from, amount, nonce, deadline)] = true;
        } catch {
            if (!_useConsumedPermit(from, amount, nonce, deadline, v, r, s)) {
                require(msg.sender == from, PermitRefused(from));
            }
        }
        _deposit(account, from, amount);
    }

    // --- roots -------------------------------------------------------------------------------

    /// @notice Publish what everybody has earned up to and including `epoch`.
    /// @param epoch Greater than the last accepted one, from 1.
    /// @param newRoot The root of an OpenZeppelin StandardMerkleTree over
    /// (address account, bytes32 stream, uint256 cumulative).
    /// @param newTotal The sum of all `cumulative`.
    /// @param uri Where the whole tree is found, for anybody to rebuild.
    function proposeRoot(
        uint64 epoch,
        bytes32 newRoot,
        uint256 newTotal,
        string calldata uri
    ) external whenNotPaused onlyRole(PROPOSER_ROLE) {
        uint64 accepted = rootEpoch();
        if (_proposedEpoch != 0 && _proposedEpoch != accepted) {
            revert RootPending(_proposedEpoch, _proposals[_proposedEpoch].claimableAt);
        }
        require(epoch > accepted, EpochNotNewer(epoch, accepted));
        require(newRoot != bytes32(0), ZeroRoot());
        uint256 previous = _proposals[accepted].total;
        require(newTotal >= previous, TotalFell(newTotal, previous));
        uint256 unclaimed = newTotal - totalClaimed;
        require(unclaimed <= held(), Underfunded(unclaimed, held()));

        uint64 opensAt = uint64(block.timestamp) + challengeSeconds;
        _acceptedEpoch = accepted;
        _proposedEpoch = epoch;
        _proposals[epoch] = Proposal(newRoot, newTotal, opensAt);
        emit RootProposed(epoch, newRoot, newTotal, uri, opensAt);
    }

    /// @notice Take a root back during its challenge time; its epoch may then be proposed again.
    /// The previous root stays claimable all along.
    function revokeRoot(uint64 epoch) external onlyRole(GUARDIAN_ROLE) {
        require(
            epoch != 0 &&
                epoch == _proposedEpoch &&
                block.timestamp < _proposals[epoch].claimableAt,
            NotRevocable(epoch)
        );
        _proposedEpoch = 0;
        delete _proposals[epoch];
        emit RootRevoked(epoch);
    }

    // --- claims ------------------------------------------------------------------------------

    /// @notice Pay `account` what it has earned from `stream` and not been paid yet. Anyone may
    /// send it: the tokens go to `account` whoever pays the gas.
    /// @return amount What was paid.
    function claim(
        address account,
        bytes32 stream,
        uint256 cumulative,
        bytes32[] calldata proof
    ) external nonReentrant whenNotPaused returns (uint256 amount) {
        amount = _claim(account, stream, cumulative, proof);
        require(amount > 0, NothingToClaim(account, stream, claimed[account][stream]));
    }

    /// @notice Many claims in one transaction, all or none; those paid already are passed over,
    /// so that nobody can make the others fail by sending one of them first.
    /// @return amount What was paid for all of them.
    function claimMany(
        Claim[] calldata claims
    ) external nonReentrant whenNotPaused returns (uint256 amount) {
        for (uint256 i = 0; i < claims.length; ++i) {
            Claim calldata each = claims[i];
            amount += _claim(each.account, each.stream, each.cumulative, each.proof);
        }
    }

    // --- withdrawals -------------------------------------------------------------------------

    /// @notice Pay `account` what vouchers have released and was not paid yet. Anyone may send it.
    /// @param cumulative All that was ever released to the account, this withdrawal included; a
    /// voucher sent twice, or after a later one, therefore pays nothing.
    /// @param deadline Unix seconds; the voucher is void after it, and its amount spendable again.
    /// @param signature EIP-712, by a key with VOUCHER_ROLE, for this chain and this contract.
    /// @return amount What was paid.
    function withdraw(
        address account,
        uint256 cumulative,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrant whenNotPaused returns (uint256 amount) {
        require(block.timestamp <= deadline, VoucherExpired(deadline));
        address signer = ECDSA.recoverCalldata(
            _hashTypedDataV4(
                keccak256(abi.encode(WITHDRAWAL_TYPEHASH, account, cumulative, deadline))
            ),
            signature
        );
        require(hasRole(VOUCHER_ROLE, signer), UnauthorizedVoucher(signer));

        uint256 before = withdrawn[account];
        require(cumulative > before, NothingToWithdraw(account, before));
        amount = cumulative - before;
        uint256 today = withdrawnToday();
        uint256 left = dailyWithdrawalCap > today ? dailyWithdrawalCap - today : 0;
        require(amount <= left, DailyCapExceeded(amount, left));
        uint256 free = held() - _unclaimed();
        require(amount <= free, InsufficientHoldings(amount, free));

        withdrawn[account] = cumulative;
        _withdrawalDay = _day();
        _withdrawnThatDay = today + amount;
        totalWithdrawn += amount;
        emit Withdrawn(account, amount, cumulative);
        _ifm.safeTransfer(account, amount);
    }

    // --- guards ------------------------------------------------------------------------------

    /// @notice Stop deposits, proposals, claims and withdrawals. Revoking stays possible.
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @notice Go on. For the admin alone: a pauser's key should be easy to use and worth little.
    function unpause() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _unpause();
    }

    /// @notice Set the cap, from today on. 0 stops withdrawals alone.
    function setDailyWithdrawalCap(uint256 cap) external onlyRole(DEFAULT_ADMIN_ROLE) {
        dailyWithdrawalCap = cap;
        emit DailyWithdrawalCapSet(cap);
    }

    // --- views -------------------------------------------------------------------------------

    /// @notice The token.
    function ifm() external view returns (address) {
        return address(_ifm);
    }

    /// @notice What was deposited and has not left, whoever it is owed to.
    function held() public view returns (uint256) {
        return totalDeposited - totalClaimed - totalWithdrawn;
    }

    /// @notice The epoch of the claimable root; 0 before the first one.
    function rootEpoch() public view returns (uint64) {
        uint64 proposed = _proposedEpoch;
        if (proposed != 0 && block.timestamp >= _proposals[proposed].claimableAt) {
            return proposed;
        }
        return _acceptedEpoch;
    }

    /// @notice The claimable root; zero before the first one.
    function root() external view returns (bytes32) {
        return _proposals[rootEpoch()].root;
    }

    /// @notice The sum of all earnings in the claimable root.
    function total() external view returns (uint256) {
        return _proposals[rootEpoch()].total;
    }

    /// @notice The epoch whose root is within its challenge time; 0 where none is.
    function pendingEpoch() public view returns (uint64) {
        return _proposedEpoch == rootEpoch() ? 0 : _proposedEpoch;
    }

    /// @notice The root within its challenge time; zero where none is.
    function pendingRoot() external view returns (bytes32) {
        return _proposals[pendingEpoch()].root;
    }

    /// @notice What was proposed for an epoch and not revoked; zeros where nothing was.
    function rootOf(uint64 epoch) external view returns (Proposal memory) {
        return _proposals[epoch];
    }

    /// @notice Unix seconds from which the root of an epoch is or was claimable; 0 without one.
    function claimableAt(uint64 epoch) external view returns (uint64) {
        return _proposals[epoch].claimableAt;
    }

    /// @notice What withdrawals took of this UTC day's cap.
    function withdrawnToday() public view returns (uint256) {
        return _withdrawalDay == _day() ? _withdrawnThatDay : 0;
    }

    // --- inside ------------------------------------------------------------------------------

    function _deposit(address account, address from, uint256 amount) private {
        require(account != address(0), ZeroAccount());
        require(amount > 0, ZeroAmount());
        totalDeposited += amount;
        emit Deposited(account, from, amount);
        _ifm.safeTransferFrom(from, address(this), amount);
    }

    /// @return amount What was paid: 0 where all of it was paid before.
    function _claim(
        address account,
        bytes32 stream,
        uint256 cumulative,
        bytes32[] calldata proof
    ) private returns (uint256 amount) {
        Proposal storage current = _proposals[rootEpoch()];
        // Hashed twice: the tree hashes 64 bytes at its inner nodes, and no inner node may ever
        // pass for a leaf.
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(account, stream, cumulative))));
        require(
            MerkleProof.verifyCalldata(proof, current.root, leaf),
            InvalidProof(account, stream, cumulative)
        );
        uint256 before = claimed[account][stream];
        if (cumulative <= before) {
            return 0;
        }
        amount = cumulative - before;
        uint256 left = current.total - totalClaimed;
        require(amount <= left, TotalExceeded(amount, left));
        claimed[account][stream] = cumulative;
        totalClaimed += amount;
        emit Claimed(account, stream, amount, cumulative);
        _ifm.safeTransfer(account, amount);
    }

    /// @dev What the newest root still has to pay, also while it is pending: totals never fall,
    /// so this covers the claimable one as well.
    function _unclaimed() private view returns (uint256) {
        uint64 newest = _proposedEpoch != 0 ? _proposedEpoch : _acceptedEpoch;
        return _proposals[newest].total - totalClaimed;
    }

    function _day() private view returns (uint64) {
        return uint64(block.timestamp / 1 days);
    }

    /// @return Whether this is the last permit that `from` gave, still in time; it is used up then.
    function _useConsumedPermit(
        address from,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) private returns (bool) {
        if (nonce == 0) {
            return false;
        }
        bytes32 digest = _permitDigest(from, amount, nonce - 1, deadline);
        (address signer, ECDSA.RecoverError problem, ) = ECDSA.tryRecover(digest, v, r, s);
        if (problem != ECDSA.RecoverError.NoError || signer != from) {
            return false;
        }
        // Also where `from` sends it: somebody else was faster with the same call, and a standing
        // approval must not pay for it a second time.
        require(!_usedPermits[digest], PermitRefused(from));
        if (block.timestamp > deadline) {
            return false;
        }
        _usedPermits[digest] = true;
        return true;
    }

    function _permitDigest(
        address from,
        uint256 amount,
        uint256 nonce,
        uint256 deadline
    ) private view returns (bytes32) {
        return
            MessageHashUtils.toTypedDataHash(
                IERC20Permit(address(_ifm)).DOMAIN_SEPARATOR(),
                keccak256(
                    abi.encode(PERMIT_TYPEHASH, from, address(this), amount, nonce, deadline)
                )
            );
    }
}
