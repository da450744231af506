//! Exporting: every change of every wallet, page by page.

use std::collections::VecDeque;

use mesh::{Store, StoreError};

use super::table::{Place, Whose};
use crate::ledger::{self, Change};

/// Changes read at once.
const PAGE: u64 = 1_000;

/// An export under way.
pub(super) struct Export {
    store: Store,
    whose: Whose,
    place: Place,
    page: VecDeque<Change>,
}

impl Export {
    /// Goes on after this place.
    pub(super) fn new(store: Store, whose: Whose, after: Place) -> Self {
        Self { store, whose, place: after, page: VecDeque::new() }
    }

    /// The next change; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Change>, StoreError> {
        if self.page.is_empty() {
            let Whose { tenant, user_id } = &self.whose;
            let Place { user_id: user, currency, version } = &self.place;
            let after = (user.as_str(), currency.as_str(), *version);
            let page = ledger::all_changes(self.store.reader(), tenant, user_id.as_ref(), after, PAGE).await?;
            self.page.extend(page);
        }
        let Some(change) = self.page.pop_front() else { return Ok(None) };
        self.place = Place {
            user_id: change.user_id.to_string(),
            currency: change.currency().code().to_owned(),
            version: change.wallet_version,
        };
        Ok(Some(change))
    }

    /// Where the last one stood.
    pub(super) const fn place(&self) -> &Place {
        &self.place
    }
}
