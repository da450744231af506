//! Many request ids at once: taken without a look, as long as none was used before.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::{BoxFuture, join_all};
use mesh::{
    RequestId, Store, StoreError, Tenant, Time,
    claim::{Claim, Decision, Lookout, Seen, Taken},
    store::Transaction,
};

use crate::database::{context, lines, on_each_database, write};

const NOW: Time = Time::from_micros(1_700_000_000_000_000);

type Answer = Seen<String, String>;

/// Ids under each of which a note is written, once.
struct Notes {
    lookout: Lookout,
    claims: Vec<Claim>,
    begun: Arc<AtomicUsize>,
}

fn claim(number: usize) -> Claim {
    let id = RequestId::parse(&format!("req_{number}")).unwrap();
    Claim::new(&Tenant::default_tenant(), &id, "Note", &[("note", &number.to_string())])
}

fn note(claim: &Claim) -> String {
    format!("note_{}", claim.id().1)
}

fn write_all<'a>(
    notes: &'a Notes,
    transaction: &'a Transaction,
) -> BoxFuture<'a, Result<Vec<Option<Answer>>, StoreError>> {
    Box::pin(async move {
        notes.begun.fetch_add(1, Ordering::SeqCst);
        let claims: Vec<&Claim> = notes.claims.iter().collect();
        let seen: Vec<Option<Answer>> = notes.lookout.seen_all(transaction, &claims).await?;
        let fresh = claims.iter().zip(&seen).filter(|(_, seen)| seen.is_none()).map(|(claim, _)| *claim);
        let fresh: Vec<(&Claim, Decision<String, String>)> = fresh.map(|claim| (claim, Ok(note(claim)))).collect();
        let kept: Vec<_> = fresh.iter().map(|(claim, decision)| (*claim, decision)).collect();
        notes.lookout.keep_all(transaction, NOW, &kept).await?;
        for (claim, _) in &fresh {
            write(&note(claim), transaction).await?;
        }
        Ok(seen)
    })
}

/// Writes notes under these ids; says what was answered under each before, and how often the unit of work began.
async fn send(store: &Store, lookout: &Lookout, numbers: &[usize]) -> (Vec<Option<Answer>>, usize) {
    let begun = Arc::default();
    let claims = numbers.iter().map(|number| claim(*number)).collect();
    let notes = Notes { lookout: lookout.clone(), claims, begun: Arc::clone(&begun) };
    let seen = store.unit(&context()).claimed().run(notes, write_all).await.unwrap();
    (seen, begun.load(Ordering::SeqCst))
}

fn before(number: usize) -> Answer {
    Seen::Answer(Ok(note(&claim(number))))
}

#[tokio::test]
async fn ids_are_looked_up_once_one_was_used_before_and_until_none_was() {
    on_each_database(async |database| {
        let (store, lookout) = (database.store().await, Lookout::default());
        assert_eq!(send(&store, &lookout, &[1, 2]).await, (vec![None, None], 1));
        let again = send(&store, &lookout, &[3, 2]).await;
        assert_eq!(again, (vec![None, Some(before(2))], 2), "it began without a look, and anew with one");
        assert_eq!(
            send(&store, &lookout, &[1, 3]).await,
            (vec![Some(before(1)), Some(before(3))], 1),
            "it looked at once"
        );
        assert_eq!(send(&store, &lookout, &[4]).await, (vec![None], 1), "it looked, and found nothing");
        assert_eq!(send(&store, &lookout, &[4]).await, (vec![Some(before(4))], 2), "it did not look any more");
        for number in 1..=4 {
            assert_eq!(lines(&store, &note(&claim(number))).await, 2);
        }
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_id_that_stands_for_another_request_is_found_without_a_look() {
    on_each_database(async |database| {
        let (store, lookout) = (database.store().await, Lookout::default());
        send(&store, &lookout, &[1]).await;
        let other = Claim::new(&Tenant::default_tenant(), claim(1).id().1, "Note", &[("note", "another")]);
        let notes = Notes { lookout, claims: vec![other], begun: Arc::default() };
        let seen = store.unit(&context()).claimed().run(notes, write_all).await.unwrap();
        assert!(
            matches!(&seen[..], [Some(Seen::Taken(Taken::Reused { differs, .. }))] if differs == "note"),
            "{seen:?}"
        );
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn ids_that_two_processes_take_at_once_in_any_order_are_each_used_once() {
    on_each_database(async |database| {
        let stores = [database.store().await, database.store().await];
        let lookouts = [Lookout::default(), Lookout::default()];
        let forth: Vec<usize> = (0..40).collect();
        let back: Vec<usize> = forth.iter().rev().copied().collect();
        let both = join_all([(0, &forth), (1, &back)].map(|(place, ids)| send(&stores[place], &lookouts[place], ids)));
        let written = both.await.iter().flat_map(|(seen, _)| seen).filter(|seen| seen.is_none()).count();
        assert_eq!(written, forth.len());
        for number in forth {
            assert_eq!(lines(&stores[0], &note(&claim(number))).await, 2);
        }
        for store in stores {
            store.close().await.unwrap();
        }
    })
    .await;
}
