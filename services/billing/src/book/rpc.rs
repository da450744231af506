//! How an order that was not carried out is answered.

use mesh::Refusal;
use tonic::Status;

use super::{NotCarriedOut, Refused};

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Refusal::from(refused).into()
    }
}

impl From<NotCarriedOut> for Refusal {
    fn from(error: NotCarriedOut) -> Self {
        match error {
            NotCarriedOut::Refused(refused) => refused.into(),
            NotCarriedOut::NotTaken(not_taken) => not_taken.into(),
            NotCarriedOut::Store(error) => error.into(),
        }
    }
}

impl From<NotCarriedOut> for Status {
    fn from(error: NotCarriedOut) -> Self {
        Refusal::from(error).into()
    }
}
