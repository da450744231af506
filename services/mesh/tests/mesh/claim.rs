//! One request id, one answer, for ever.

use std::collections::BTreeSet;

use futures_util::future::{BoxFuture, join_all};
use mesh::{
    RequestId, Store, StoreError, Tenant, Time,
    claim::{Claim, Seen, Taken, Voiding},
    store::Transaction,
};

use crate::database::{context, lines, on_each_database, write};

const NOW: Time = Time::from_micros(1_700_000_000_000_000);
const LATER: Time = Time::from_micros(1_800_000_000_000_000);

type Answer = Seen<String, String>;

/// A request that writes a note and answers, unless its id was used before.
struct Request {
    claim: Claim,
    /// What it decides: to write this note, or to refuse for this reason.
    decision: Result<String, String>,
}

fn claim_of(tenant: &str, id: &str, method: &'static str, fields: &[(&str, &str)]) -> Claim {
    Claim::new(&Tenant::parse(tenant).unwrap(), &RequestId::parse(id).unwrap(), method, fields)
}

fn request(id: &str, amount: &str, decision: Result<&str, &str>) -> Request {
    let claim = claim_of("default", id, "Deduct", &[("user_id", "ada"), ("amount", amount)]);
    Request { claim, decision: decision.map(str::to_owned).map_err(str::to_owned) }
}

fn decide<'a>(request: &'a Request, transaction: &'a Transaction) -> BoxFuture<'a, Result<Option<Answer>, StoreError>> {
    Box::pin(async move {
        if let Some(seen) = request.claim.take(transaction, NOW).await? {
            return Ok(Some(seen));
        }
        if let Ok(note) = &request.decision {
            write(note, transaction).await?;
        }
        request.claim.keep(transaction, &request.decision).await?;
        Ok(None)
    })
}

fn void<'a>(claim: &'a (Claim, Time), transaction: &'a Transaction) -> BoxFuture<'a, Result<Voiding, StoreError>> {
    Box::pin(async move { claim.0.void(transaction, claim.1, "the test wants it").await })
}

/// Sends a request; `None` where the id was fresh and the request was carried out now.
async fn send(store: &Store, request: Request) -> Option<Answer> {
    store.unit(&context()).claimed().run(request, decide).await.unwrap()
}

async fn send_void(store: &Store, id: &str, at: Time) -> Voiding {
    let claim = claim_of("default", id, "VoidRequest", &[]);
    store.unit(&context()).claimed().run((claim, at), void).await.unwrap()
}

#[tokio::test]
async fn of_fifty_calls_at_once_one_takes_the_id_and_the_others_read_its_answer() {
    on_each_database(async |database| {
        // Two processes, so that no lock inside of one decides.
        let stores = [database.store().await, database.store().await];
        let calls = (0..50_usize).map(|number| {
            let (store, note) = (stores[number % 2].clone(), format!("note_{number}"));
            tokio::spawn(async move { (note.clone(), send(&store, request("req_1", "0.1", Ok(&note))).await) })
        });
        let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = answers.iter().filter(|(_, seen)| seen.is_none()).map(|(note, _)| note).collect();
        let [winner] = winners[..] else { panic!("{} took the id", winners.len()) };
        for (note, seen) in &answers {
            if note != winner {
                assert_eq!(seen, &Some(Seen::Answer(Ok(winner.clone()))), "{note}");
                assert_eq!(lines(&stores[0], note).await, 0);
            }
        }
        assert_eq!(lines(&stores[0], winner).await, 2);
    })
    .await;
}

#[tokio::test]
async fn many_ids_five_times_each_are_each_carried_out_once() {
    on_each_database(async |database| {
        let stores = [database.store().await, database.store().await];
        let calls = (0..100_usize).map(|number| {
            let (store, id) = (stores[number % 2].clone(), number / 5);
            tokio::spawn(async move {
                (id, send(&store, request(&format!("req_{id}"), "0.1", Ok(&format!("all/{id}")))).await)
            })
        });
        let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let fresh: Vec<_> = answers.iter().filter(|(_, seen)| seen.is_none()).map(|(id, _)| *id).collect();
        assert_eq!((fresh.len(), fresh.iter().collect::<BTreeSet<_>>().len()), (20, 20));
        assert_eq!(lines(&stores[0], "all").await, 40);
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_kept_for_ever_good_or_bad() {
    on_each_database(async |database| {
        let store = database.store().await;
        assert_eq!(send(&store, request("req_1", "0.1", Ok("ada"))).await, None);
        assert_eq!(send(&store, request("req_2", "9", Err("not enough"))).await, None);
        store.close().await.unwrap();
        let store = database.open().await;
        assert_eq!(send(&store, request("req_1", "0.1", Ok("bob"))).await, Some(Seen::Answer(Ok("ada".into()))));
        let refused = Some(Seen::Answer(Err("not enough".into())));
        assert_eq!(send(&store, request("req_2", "9", Ok("ada"))).await, refused);
        assert_eq!((lines(&store, "ada").await, lines(&store, "bob").await), (2, 0));
    })
    .await;
}

#[tokio::test]
async fn a_reused_id_names_the_fields_that_differ() {
    on_each_database(async |database| {
        let store = database.store().await;
        assert_eq!(send(&store, request("req_1", "0.1", Ok("ada"))).await, None);
        let check = async |claim: Claim, expected: &str| {
            let request = Request { claim, decision: Ok("bob".to_owned()) };
            let Some(Seen::Taken(Taken::Reused { request_id, differs })) = send(&store, request).await else {
                panic!("not reused, where {expected:?} differs")
            };
            assert_eq!((request_id.as_str(), differs.as_str()), ("req_1", expected));
        };
        let deduct = |fields: &[(&str, &str)]| claim_of("default", "req_1", "Deduct", fields);
        check(deduct(&[("user_id", "ada"), ("amount", "0.5")]), "amount").await;
        check(deduct(&[("user_id", "bob"), ("amount", "0.5")]), "amount, user_id").await;
        check(deduct(&[("user_id", "ada")]), "amount").await;
        check(deduct(&[("user_id", "ada"), ("amount", "0.1"), ("memo", "x")]), "memo").await;
        check(claim_of("default", "req_1", "Refund", &[("user_id", "ada")]), "it was a Deduct").await;
        assert_eq!(lines(&store, "bob").await, 0);
    })
    .await;
}

#[tokio::test]
async fn tenants_do_not_meet_in_their_request_ids() {
    on_each_database(async |database| {
        let store = database.store().await;
        for tenant in ["default", "acme"] {
            let claim = claim_of(tenant, "req_1", "Deduct", &[("tenant", tenant)]);
            assert_eq!(send(&store, Request { claim, decision: Ok(tenant.to_owned()) }).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_kept_leaves_its_id_free() {
    fn decide_and_fail<'a>(
        request: &'a Request,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<Option<Answer>, StoreError>> {
        Box::pin(async move {
            decide(request, transaction).await?;
            Err(StoreError::Impossible("as the test wants it"))
        })
    }
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        let ask = || request("req_1", "0.1", Ok("ada"));
        assert!(store.unit(&context).claimed().run(ask(), decide_and_fail).await.is_err());
        store.unit(&context).claimed().rehearsal(true).run(ask(), decide).await.unwrap();
        assert_eq!(ask().claim.seen::<String, String>(store.reader()).await.unwrap(), None);
        assert_eq!(send(&store, ask()).await, None);
        let kept = Some(Seen::Answer(Ok("ada".to_owned())));
        assert_eq!(ask().claim.seen::<String, String>(store.reader()).await.unwrap(), kept);
    })
    .await;
}

#[tokio::test]
async fn a_voided_id_never_does_anything() {
    on_each_database(async |database| {
        let store = database.store().await;
        assert_eq!(send_void(&store, "req_1", NOW).await, Voiding::Voided { since: NOW, before: false });
        assert_eq!(send_void(&store, "req_1", LATER).await, Voiding::Voided { since: NOW, before: true });
        let voided = Some(Seen::Taken(Taken::Voided { request_id: RequestId::parse("req_1").unwrap() }));
        assert_eq!(send(&store, request("req_1", "0.1", Ok("ada"))).await, voided);
        assert_eq!(lines(&store, "ada").await, 0);
    })
    .await;
}

#[tokio::test]
async fn what_was_carried_out_cannot_be_voided_and_what_was_refused_can() {
    on_each_database(async |database| {
        let store = database.store().await;
        send(&store, request("req_1", "0.1", Ok("ada"))).await;
        let applied = Voiding::Applied { method: "Deduct".to_owned() };
        assert_eq!(send_void(&store, "req_1", LATER).await, applied);
        let kept = Some(Seen::Answer(Ok("ada".to_owned())));
        assert_eq!(send(&store, request("req_1", "0.1", Ok("bob"))).await, kept, "its answer stays");

        send(&store, request("req_2", "9", Err("not enough"))).await;
        assert_eq!(send_void(&store, "req_2", LATER).await, Voiding::Voided { since: LATER, before: false });
        let seen = send(&store, request("req_2", "9", Ok("bob"))).await;
        assert!(matches!(seen, Some(Seen::Taken(Taken::Voided { .. }))), "{seen:?}");
        assert_eq!(lines(&store, "bob").await, 0);
    })
    .await;
}

#[tokio::test]
async fn of_a_request_and_its_voiding_at_once_exactly_one_wins() {
    on_each_database(async |database| {
        let stores = [database.store().await, database.store().await];
        for number in 0..20 {
            let (id, note) = (format!("req_{number}"), format!("note_{number}"));
            let (sent, voiding) =
                futures_util::join!(send(&stores[0], request(&id, "0.1", Ok(&note))), send_void(&stores[1], &id, NOW));
            let carried_out = lines(&stores[0], &note).await == 2;
            match voiding {
                Voiding::Applied { .. } => assert!(sent.is_none() && carried_out),
                Voiding::Voided { .. } => {
                    assert!(matches!(sent, Some(Seen::Taken(Taken::Voided { .. }))) && !carried_out, "{sent:?}");
                }
            }
        }
    })
    .await;
}
