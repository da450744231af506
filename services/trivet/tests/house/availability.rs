//! Whether somebody may have something now, and what it costs them: plans, quotas and money together.

use trivet_proto::{
    account::v1::CreateOrganizationRequest,
    billing::v1::RecordPaymentRequest,
    product::v1::{
        BillingCycle, CheckAvailabilityRequest, CreatePlanRequest, CreateProductRequest, CreateSubscriptionRequest,
        EstimateCostRequest, EstimateCostResponse, GetProductPricingRequest, Overage, Price, PriceModel,
        RecordUsageRequest, SetPriceRequest, UnavailableReason,
    },
};

use crate::{
    harness::{House, faulty, on_every_store, payment, person, reason},
    plans::{includes, plan, sell},
};

async fn sell_tokens(house: &House, product_id: &str, free_quantity: &str) {
    let (id, name) = (product_id.to_owned(), "Tokens".to_owned());
    let product = CreateProductRequest { product_id: id.clone(), name, ..CreateProductRequest::default() };
    house.catalog().create_product(product).await.unwrap();
    let price = Price {
        currency: "USD".to_owned(),
        unit: "token".to_owned(),
        model: PriceModel::PerUnit.into(),
        unit_price: "0.001".to_owned(),
        free_quantity: free_quantity.to_owned(),
        ..Price::default()
    };
    let set = SetPriceRequest { product_id: id, price: Some(price), request_id: String::new() };
    house.catalog().set_price(set).await.unwrap();
}

async fn subscribe(house: &House, plan_id: &str, product_id: &str, quantity: &str, overage: Overage) {
    let free =
        CreatePlanRequest { included_usage: vec![includes(product_id, quantity, overage)], ..plan(plan_id, "0", "0") };
    sell(house, free).await;
    let wish = CreateSubscriptionRequest {
        request_id: format!("sub-{plan_id}"),
        user_id: "ada".to_owned(),
        plan_id: plan_id.to_owned(),
        billing_cycle: BillingCycle::Monthly.into(),
        ..CreateSubscriptionRequest::default()
    };
    house.subscriptions().create_subscription(wish).await.unwrap();
}

async fn used(house: &House, request_id: &str, product_id: &str, quantity: &str) {
    let record = RecordUsageRequest {
        request_id: request_id.to_owned(),
        user_id: "ada".to_owned(),
        product_id: product_id.to_owned(),
        quantity: quantity.to_owned(),
        ..RecordUsageRequest::default()
    };
    house.usage().record_usage(record).await.unwrap();
}

fn may(product_id: &str, organization_id: &str) -> CheckAvailabilityRequest {
    CheckAvailabilityRequest {
        product_id: product_id.to_owned(),
        user_id: "ada".to_owned(),
        organization_id: organization_id.to_owned(),
    }
}

async fn answer(house: &House, ask: CheckAvailabilityRequest) -> UnavailableReason {
    let answer = house.catalog().check_availability(ask).await.unwrap().into_inner();
    assert_eq!(answer.available, answer.reason() == UnavailableReason::Unspecified);
    answer.reason()
}

async fn estimated(house: &House, product_id: &str, quantity: &str) -> EstimateCostResponse {
    let ask = EstimateCostRequest {
        product_id: product_id.to_owned(),
        quantity: quantity.to_owned(),
        user_id: "ada".to_owned(),
        organization_id: String::new(),
    };
    house.catalog().estimate_cost(ask).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_from_the_first_unit_is_for_who_has_money_in_its_currency() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        sell_tokens(house, "tokens", "0").await;
        sell_tokens(house, "samples", "10").await;
        assert_eq!(answer(house, may("tokens", "")).await, UnavailableReason::InsufficientFunds);
        assert_eq!(answer(house, may("samples", "")).await, UnavailableReason::Unspecified);
        used(house, "use-1", "samples", "10").await;
        assert_eq!(answer(house, may("samples", "")).await, UnavailableReason::InsufficientFunds);
        house.wallets().record_payment(payment("pay-1", "ada", "5")).await.unwrap();
        assert_eq!(answer(house, may("tokens", "")).await, UnavailableReason::InsufficientFunds, "that is USDC");
        let dollars = RecordPaymentRequest { currency: "USD".to_owned(), ..payment("pay-2", "ada", "5") };
        house.wallets().record_payment(dollars).await.unwrap();
        assert_eq!(answer(house, may("tokens", "")).await, UnavailableReason::Unspecified);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_makes_available_what_it_includes_and_blocks_what_goes_beyond_where_it_says_so() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let bare =
            CreateProductRequest { product_id: "bare".to_owned(), name: "Bare".to_owned(), ..Default::default() };
        house.catalog().create_product(bare).await.unwrap();
        assert_eq!(answer(house, may("bare", "")).await, UnavailableReason::NotInPlan);
        subscribe(house, "plan-1", "bare", "5", Overage::Block).await;
        assert_eq!(answer(house, may("bare", "")).await, UnavailableReason::Unspecified);
        used(house, "use-1", "bare", "5").await;
        assert_eq!(answer(house, may("bare", "")).await, UnavailableReason::QuotaExhausted);
        sell_tokens(house, "tokens", "0").await;
        subscribe(house, "plan-2", "tokens", "5", Overage::Charge).await;
        assert_eq!(answer(house, may("tokens", "")).await, UnavailableReason::Unspecified);
        used(house, "use-2", "tokens", "5").await;
        assert_eq!(answer(house, may("tokens", "")).await, UnavailableReason::InsufficientFunds);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_an_organization_is_for_its_members() {
    on_every_store(async |house| {
        for user in ["ada", "eve"] {
            house.accounts().ensure_account(person(user)).await.unwrap();
        }
        sell_tokens(house, "tokens", "10").await;
        for (organization_id, owner) in [("hers", "ada"), ("other", "eve")] {
            let organization = CreateOrganizationRequest {
                organization_id: organization_id.to_owned(),
                name: organization_id.to_owned(),
                owner_user_id: owner.to_owned(),
                ..Default::default()
            };
            house.organizations().create_organization(organization).await.unwrap();
        }
        assert_eq!(answer(house, may("tokens", "hers")).await, UnavailableReason::Unspecified);
        assert_eq!(answer(house, may("tokens", "other")).await, UnavailableReason::NotAMember);
        assert_eq!(answer(house, may("tokens", "none")).await, UnavailableReason::NotAMember);
        let wrong = CheckAvailabilityRequest { organization_id: "a b".to_owned(), ..Default::default() };
        let refused = house.catalog().check_availability(wrong).await.unwrap_err();
        assert_eq!(faulty(&refused), ["product_id", "user_id", "organization_id"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_for_somebody_is_what_recording_it_costs_them() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        sell_tokens(house, "tokens", "100").await;
        subscribe(house, "plan-1", "tokens", "1000", Overage::Charge).await;
        let before = estimated(house, "tokens", "3000").await;
        let parts = [&before.included_quantity, &before.free_quantity, &before.billable_quantity, &before.amount];
        assert_eq!(parts, ["1000", "100", "1900", "1.9"]);
        let pricing = GetProductPricingRequest {
            product_id: "tokens".to_owned(),
            user_id: "ada".to_owned(),
            quantity: "3000".to_owned(),
            organization_id: String::new(),
        };
        let shown = house.catalog().get_product_pricing(pricing.clone()).await.unwrap().into_inner();
        assert_eq!((&shown.amount, &shown.lines), (&before.amount, &before.lines));
        assert_eq!((shown.included_quantity.as_str(), shown.included_left.as_str()), ("1000", "1000"));
        assert_eq!(shown.overage(), Overage::Charge);
        used(house, "use-1", "tokens", "1050").await;
        let after = estimated(house, "tokens", "150").await;
        let parts = [&after.included_quantity, &after.free_quantity, &after.total_before, &after.amount];
        assert_eq!(parts, ["0", "50", "50", "0.1"]);
        let left = house.catalog().get_product_pricing(pricing).await.unwrap().into_inner().included_left;
        assert_eq!(left, "0");
        // Nobody in particular has no plan.
        let anybody = EstimateCostRequest { user_id: String::new(), ..ask("3000") };
        assert_eq!(house.catalog().estimate_cost(anybody).await.unwrap().into_inner().amount, "2.9");
    })
    .await;
}

fn ask(quantity: &str) -> EstimateCostRequest {
    EstimateCostRequest {
        product_id: "tokens".to_owned(),
        quantity: quantity.to_owned(),
        user_id: "ada".to_owned(),
        organization_id: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_says_where_the_plan_includes_all_of_it_or_blocks_it() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let tokens =
            CreateProductRequest { product_id: "tokens".to_owned(), name: "Tokens".to_owned(), ..Default::default() };
        house.catalog().create_product(tokens).await.unwrap();
        subscribe(house, "plan-1", "tokens", "10", Overage::Block).await;
        let all = estimated(house, "tokens", "10").await;
        assert_eq!((all.amount.as_str(), all.price_id.as_str(), all.included_quantity.as_str()), ("0", "", "10"));
        let refused = house.catalog().estimate_cost(ask("10.1")).await.unwrap_err();
        assert_eq!(reason(&refused), "QUOTA_EXHAUSTED");
        let nobody = EstimateCostRequest { user_id: String::new(), organization_id: "lab".to_owned(), ..ask("1") };
        assert_eq!(faulty(&house.catalog().estimate_cost(nobody).await.unwrap_err()), ["organization_id"]);
    })
    .await;
}
