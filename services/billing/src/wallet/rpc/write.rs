//! How wallets are answered.

use mesh::{RequestId, Slug, StoreError};
use money::Currency;
use trivet_proto::billing::v1::{self as wire, GetStatementResponse, StatementLine, TransactionKind};

use super::super::{Payment, statement::Statement};
use crate::{
    book::Posted,
    ledger::{Change, Kind, Wallet, WalletState},
};

pub(super) fn payment(payment: Payment, posted: Posted, rehearsal: bool) -> wire::Payment {
    wire::Payment {
        transaction_id: if rehearsal { String::new() } else { posted.transaction_id },
        request_id: payment.request_id.into_string(),
        user_id: payment.user_id.into_string(),
        currency: payment.amount.currency().code().to_owned(),
        amount: payment.amount.to_wire(),
        provider: payment.provider,
        provider_reference: payment.provider_reference,
        balance_after: posted.balance_after.to_wire(),
        wallet_version: posted.wallet_version,
        create_time: (!rehearsal).then(|| posted.time.to_wire()),
    }
}

impl From<Wallet> for wire::Wallet {
    fn from(wallet: Wallet) -> Self {
        let available = wallet.available();
        let state = match wallet.state {
            WalletState::Active => wire::WalletState::Active,
            WalletState::Frozen => wire::WalletState::Frozen,
        };
        Self {
            user_id: wallet.user_id.into_string(),
            currency: wallet.balance.currency().code().to_owned(),
            balance: wallet.balance.to_wire(),
            held: wallet.held.to_wire(),
            available: available.to_wire(),
            sequence: wallet.version,
            state: state.into(),
            create_time: Some(wallet.create_time.to_wire()),
            update_time: Some(wallet.update_time.to_wire()),
            fault: wallet.fault,
        }
    }
}

fn kind(kind: Kind) -> TransactionKind {
    match kind {
        Kind::Payment => TransactionKind::Payment,
        Kind::Deduction => TransactionKind::Deduction,
        Kind::Refund => TransactionKind::Refund,
        Kind::Hold => TransactionKind::Hold,
        Kind::Capture => TransactionKind::Capture,
        Kind::Release => TransactionKind::Release,
        Kind::Charge => TransactionKind::Charge,
        Kind::Credit => TransactionKind::Credit,
    }
}

/// A change of a wallet.
pub(crate) fn transaction_message(change: Change) -> Result<wire::WalletTransaction, StoreError> {
    let text = |slug: Option<Slug>| slug.map(Slug::into_string).unwrap_or_default();
    let (details, amount) = (change.details()?, change.amount());
    Ok(wire::WalletTransaction {
        transaction_id: change.transaction_id,
        kind: kind(change.kind).into(),
        request_id: change.request_id.map(RequestId::into_string).unwrap_or_default(),
        amount: amount.to_wire(),
        balance_after: change.balance_after.to_wire(),
        available_after: change.available_after.to_wire(),
        wallet_version: change.wallet_version,
        create_time: Some(change.create_time.to_wire()),
        api_id: text(change.purpose.api_id),
        endpoint_id: text(change.purpose.endpoint_id),
        api_key_id: text(change.purpose.api_key_id),
        provider: details.provider,
        provider_reference: details.provider_reference,
        related_id: change.related_id,
        subscription_id: details.subscription_id,
        product_id: details.product_id,
        reason: details.reason,
    })
}

pub(super) fn statement(currency: Currency, statement: Statement) -> GetStatementResponse {
    let lines = statement.lines.into_iter().map(|line| StatementLine {
        kind: kind(line.kind).into(),
        product_id: line.product_id,
        api_id: line.api_id,
        count: line.count,
        amount: line.amount.to_wire(),
        subscription_id: line.subscription_id,
    });
    GetStatementResponse {
        currency: currency.code().to_owned(),
        opening_balance: statement.opening.to_wire(),
        lines: lines.collect(),
        closing_balance: statement.closing.to_wire(),
    }
}
