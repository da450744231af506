//! The reasons: one enum, from which codes, docs and `trivet explain` are made.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

macro_rules! reasons {
    ($($code:ident { $($Variant:ident $name:literal $meaning:literal)+ })+) => {
        /// Why a call was refused: `ErrorInfo.reason` on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $meaning] $Variant,)+)+
        }

        impl Reason {
            /// Every reason there is, by code.
            pub const ALL: &'static [Reason] = &[$($(Reason::$Variant,)+)+];

            /// The reason as `ErrorInfo.reason` spells it.
            pub const fn name(self) -> &'static str {
                match self { $($(Reason::$Variant => $name,)+)+ }
            }

            /// The gRPC code that it always comes with.
            pub const fn code(self) -> Code {
                match self { $($(Reason::$Variant)|+ => Code::$code,)+ }
            }

            /// What it means and what a caller can do, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self { $($(Reason::$Variant => $meaning,)+)+ }
            }
        }
    };
}

reasons! {
    InvalidArgument {
        InvalidFields "INVALID_FIELDS" "Fields of the request are not as they must be; BadRequest lists all of them."
        InvalidPageToken "INVALID_PAGE_TOKEN" "The page token is not one of ours, or belongs to other arguments; start again without it."
        InvalidUpdateMask "INVALID_UPDATE_MASK" "The update mask names a field that cannot be set, or none at all."
    }
    NotFound {
        AccountNotFound "ACCOUNT_NOT_FOUND" "There is no such account; EnsureAccount makes one."
        OrganizationNotFound "ORGANIZATION_NOT_FOUND" "There is no such organization."
        ApiKeyNotFound "API_KEY_NOT_FOUND" "There is no such API key."
        TenantNotFound "TENANT_NOT_FOUND" "There is no such tenant."
        TraceNotFound "TRACE_NOT_FOUND" "The trace is not, or no longer, in this process's memory."
        ProductNotFound "PRODUCT_NOT_FOUND" "There is no such product, or it was deleted."
        CategoryNotFound "CATEGORY_NOT_FOUND" "There is no such category."
        PriceNotFound "PRICE_NOT_FOUND" "There is no such price."
        PlanNotFound "PLAN_NOT_FOUND" "There is no such plan."
        SubscriptionNotFound "SUBSCRIPTION_NOT_FOUND" "There is no such subscription."
        UsageNotFound "USAGE_NOT_FOUND" "There is no such usage record."
        WalletNotFound "WALLET_NOT_FOUND" "The user has no wallet in this currency; the first payment makes one."
        DeductionNotFound "DEDUCTION_NOT_FOUND" "No deduction was made under this request id, up to now; that is no proof that none will be. VoidRequest is."
        HoldNotFound "HOLD_NOT_FOUND" "There is no such hold."
        ChargeNotFound "CHARGE_NOT_FOUND" "There is no such charge."
        ServiceNotFound "SERVICE_NOT_FOUND" "No service of this name is served on this port."
        EventNotFound "EVENT_NOT_FOUND" "There is no such event."
    }
    AlreadyExists {
        EmailTaken "EMAIL_TAKEN" "Another account uses this e-mail address."
        IdTaken "ID_TAKEN" "The id that you chose belongs to something else."
        AlreadySubscribed "ALREADY_SUBSCRIBED" "There is a living subscription to this plan."
    }
    FailedPrecondition {
        RequestIdReused "REQUEST_ID_REUSED" "The request id was used for another request; take a fresh one."
        RequestVoided "REQUEST_VOIDED" "The request id was voided: it can never move money."
        AlreadyApplied "ALREADY_APPLIED" "The request was carried out before it could be voided; refund it instead."
        AccountSuspended "ACCOUNT_SUSPENDED" "The account is suspended."
        AccountDeleted "ACCOUNT_DELETED" "The account was deleted; RestoreAccount brings it back."
        AccountErased "ACCOUNT_ERASED" "The account's personal data was erased; it cannot come back."
        AccountNotDeleted "ACCOUNT_NOT_DELETED" "The account is not deleted, so that there is nothing to restore."
        LastOwner "LAST_OWNER" "The last owner of an organization cannot leave it."
        NotAMember "NOT_A_MEMBER" "The user is not a member of the organization."
        ProductNotAvailable "PRODUCT_NOT_AVAILABLE" "The product is not sold any more."
        ProductNotPriced "PRODUCT_NOT_PRICED" "The product has no price, and no plan of the user's includes it."
        PlanNotAvailable "PLAN_NOT_AVAILABLE" "The plan is not on sale."
        TrialUsed "TRIAL_USED" "The user has had the trial of this plan."
        IllegalTransition "ILLEGAL_TRANSITION" "A subscription cannot go from its state to the one asked for."
        SubscriptionNotActive "SUBSCRIPTION_NOT_ACTIVE" "The subscription is neither active nor in its trial."
        InsufficientFunds "INSUFFICIENT_FUNDS" "The wallet's available balance does not cover the amount. This answer is kept: try again under a fresh request id."
        WalletFrozen "WALLET_FROZEN" "The wallet is frozen: it takes money and gives none."
        RefundExceedsDeduction "REFUND_EXCEEDS_DEDUCTION" "More would be given back than was taken."
        HoldNotOpen "HOLD_NOT_OPEN" "The hold was captured, released or has expired."
        CaptureExceedsHold "CAPTURE_EXCEEDS_HOLD" "More would be captured than is held."
        AlreadyVoided "ALREADY_VOIDED" "It was voided before."
        ChargePaid "CHARGE_PAID" "The charge is paid; refund it instead."
        BalanceLimit "BALANCE_LIMIT" "The wallet would hold more than 64 bits of minor units."
    }
    DataLoss {
        LedgerBroken "LEDGER_BROKEN" "The ledger of this wallet does not add up; a person must look."
    }
    Aborted {
        EtagMismatch "ETAG_MISMATCH" "It was changed since you read it; read it again and decide anew."
        Conflict "CONFLICT" "Others were at the same rows; send it again. Nothing was done, but for EraseAccount, which says so."
    }
    ResourceExhausted {
        QuotaExhausted "QUOTA_EXHAUSTED" "The quota of the plan is used up."
        RateLimited "RATE_LIMITED" "You are sending faster than you may; RetryInfo says when to go on."
        Overloaded "OVERLOADED" "There is more to do than can be done in time; RetryInfo says when to try again."
        TooLarge "TOO_LARGE" "The message is larger than the service reads."
    }
    Unauthenticated {
        CredentialsMissing "CREDENTIALS_MISSING" "The call needs an API key or a workload certificate."
        CredentialsInvalid "CREDENTIALS_INVALID" "The API key or certificate is not, or no longer, good."
    }
    PermissionDenied {
        NotAllowed "NOT_ALLOWED" "The caller may not make this call."
    }
    Unavailable {
        DependencyUnavailable "DEPENDENCY_UNAVAILABLE" "A service that the answer depends on cannot be asked; `peer` names it. Send the call again."
        CircuitOpen "CIRCUIT_OPEN" "The peer kept failing and is left alone until RetryInfo's delay has passed."
        Draining "DRAINING" "The process is going away; send the call again, another one answers."
        StoreUnavailable "STORE_UNAVAILABLE" "The database cannot be reached; nothing was done, send the call again."
        OutcomeUnknown "OUTCOME_UNKNOWN" "The database went away while the call was being committed: it may have happened. The same request id tells."
    }
    DeadlineExceeded {
        DeadlineExceeded "DEADLINE_EXCEEDED" "The call's time was up. If it moves money it may have happened: the same request id tells."
    }
    Unimplemented {
        MethodNotFound "METHOD_NOT_FOUND" "There is no such rpc on this port."
        EncodingNotSupported "ENCODING_NOT_SUPPORTED" "Requests are not compressed here: leave out grpc-encoding."
    }
    Cancelled {
        Cancelled "CANCELLED" "The caller went away."
    }
    Internal {
        Internal "INTERNAL" "Something went wrong on our side; quote the request id."
    }
}

impl Reason {
    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// The reason that a refusal from over the wire gives, if it is one of these.
    pub fn of(status: &Status) -> Option<Self> {
        Self::from_name(&status.get_details_error_info()?.reason)
    }
}
