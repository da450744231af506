//! Histories on the wire.

use mesh::{Fields, Refusal, UserId, page};
use trivet_proto::account::v1::{self as wire, AccountAction, ListAccountHistoryRequest};

use super::{Action, Entry};

/// Whose history, and how much of it.
pub(crate) fn page(asked: &ListAccountHistoryRequest) -> Result<(UserId, u64), Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let size = fields.read("page_size", page::size(asked.page_size));
    fields.finish((user_id, size))
}

impl From<Entry> for wire::AccountHistoryEntry {
    fn from(line: Entry) -> Self {
        Self {
            sequence: line.sequence,
            time: Some(line.time.to_wire()),
            actor: line.actor,
            action: AccountAction::from(line.action).into(),
            changed_fields: line.fields.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            reason: line.reason,
            request_id: line.request_id,
        }
    }
}

impl From<Action> for AccountAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Created => Self::Created,
            Action::ProfileUpdated => Self::ProfileUpdated,
            Action::PreferencesUpdated => Self::PreferencesUpdated,
            Action::StatusChanged => Self::StatusChanged,
            Action::Deleted => Self::Deleted,
            Action::Restored => Self::Restored,
            Action::Erased => Self::Erased,
        }
    }
}
