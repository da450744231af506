"""What a journey is made of: promises that are checked one by one, and a house to check them in."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from trivet_client import Client, Refused

# What every port has.
MESH = ["trivet.mesh.v1.EventService", "trivet.mesh.v1.ObserveService", "trivet.mesh.v1.StatusService"]
SERVICES = {
    "account": [
        "trivet.account.v1.AccountService",
        "trivet.account.v1.ApiKeyService",
        "trivet.account.v1.OrganizationService",
        "trivet.account.v1.TenantService",
        *MESH,
    ],
    "product": [
        *MESH,
        "trivet.product.v1.CatalogService",
        "trivet.product.v1.PlanService",
        "trivet.product.v1.SubscriptionService",
        "trivet.product.v1.UsageService",
    ],
    "billing": [
        "trivet.billing.v1.BillingService",
        "trivet.billing.v1.ChargeService",
        "trivet.billing.v1.LedgerService",
        "trivet.billing.v1.WalletService",
        *MESH,
    ],
}

# Each reason comes with one code, always.
REASONS = {
    "INVALID_ARGUMENT": "INVALID_FIELDS INVALID_PAGE_TOKEN INVALID_UPDATE_MASK",
    "NOT_FOUND": """ACCOUNT_NOT_FOUND ORGANIZATION_NOT_FOUND API_KEY_NOT_FOUND TENANT_NOT_FOUND PRODUCT_NOT_FOUND
        CATEGORY_NOT_FOUND PLAN_NOT_FOUND SUBSCRIPTION_NOT_FOUND USAGE_NOT_FOUND WALLET_NOT_FOUND DEDUCTION_NOT_FOUND""",
    "ALREADY_EXISTS": "EMAIL_TAKEN ID_TAKEN ALREADY_SUBSCRIBED",
    "FAILED_PRECONDITION": """ACCOUNT_SUSPENDED ACCOUNT_DELETED ACCOUNT_ERASED ACCOUNT_NOT_DELETED LAST_OWNER
        REQUEST_ID_REUSED REQUEST_VOIDED ALREADY_APPLIED INSUFFICIENT_FUNDS NOT_A_MEMBER PRODUCT_NOT_AVAILABLE
        PRODUCT_NOT_PRICED PLAN_NOT_AVAILABLE TRIAL_USED ILLEGAL_TRANSITION SUBSCRIPTION_NOT_ACTIVE WALLET_FROZEN
        HOLD_NOT_OPEN REFUND_EXCEEDS_DEDUCTION CHARGE_PAID""",
    "RESOURCE_EXHAUSTED": "QUOTA_EXHAUSTED",
    "ABORTED": "ETAG_MISMATCH",
    "UNAUTHENTICATED": "CREDENTIALS_INVALID",
}
CODES = {reason: code for code, reasons in REASONS.items() for reason in reasons.split()}

ADA = {"user_id": "ada", "email": "ada@example.com", "name": "Ada Lovelace"}
PAYMENT = {"request_id": "pay-1", "user_id": "ada", "amount": "10", "provider": "stripe", "provider_reference": "pi_1"}
ORDER = {"request_id": "order-1", "user_id": "ada", "api_id": "chat", "amount": "0.01"}
TOO_MUCH = {"request_id": "order-2", "user_id": "ada", "amount": "100"}
AGAIN = {"already_processed": True}

passed, failed = [], []


@contextmanager
def check(sentence):
    """One promise. What goes wrong inside is noted and printed, and the journey goes on."""
    try:
        yield
    except Exception as error:
        failed.append(sentence)
        print(f"FAILED  {sentence}\n        {type(error).__name__}: {error}", flush=True)
    else:
        passed.append(sentence)
        print(f"ok      {sentence}", flush=True)


def same(got, wanted):
    """`got` is `wanted`; of a dict only the keys that `wanted` has are looked at, and None is what is not there."""
    seen = {key: got.get(key) for key in wanted} if isinstance(wanted, dict) else got
    assert seen == wanted, f"\n          got    {seen}\n          wanted {wanted}"


class House:
    """A client of each service of a running `trivet dev`, for one tenant. Which rpc is where it learns from them."""

    def __init__(self, dev, tenant=None):
        self.dev, self.tenant = dev, tenant or "default"
        metadata = {"x-trivet-tenant": tenant} if tenant else {}
        self.clients = {name: Client(dev.address(name), metadata) for name in SERVICES}
        self.rpcs = {}
        for client in self.clients.values():
            for service in filter(lambda name: name.startswith("trivet."), client.services()):
                for rpc in client.pool.FindServiceByName(service).methods_by_name:
                    self.rpcs[rpc] = (client, f"{service}/{rpc}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients.values():
            client.channel.close()

    def call(self, rpc, /, **request):
        client, method = self.rpcs[rpc]
        return client.call(method, request)

    def stream(self, rpc, requests):
        """The answer to a stream of requests."""
        client, method = self.rpcs[rpc]
        return client.stream(method, requests)

    def listen(self, rpc, /, **request):
        """The messages of an answer that is a stream, one by one."""
        client, method = self.rpcs[rpc]
        return client.listen(method, request)

    def call_as(self, request_id, rpc, /, **request):
        """The answer of a call that goes by this x-request-id."""
        client, method = self.rpcs[rpc]
        return client.call(method, request, metadata={"x-request-id": request_id})

    def refusal(self, reason, rpc, /, **request):
        """The refusal of a call that must be refused, and for this reason."""
        try:
            answer = self.call(rpc, **request)
        except Refused as refused:
            same((refused.code, refused.reason), (CODES[reason], reason))
            assert refused.request_id, "there is no RequestInfo"
            return refused
        raise AssertionError(f"{rpc} was answered: {answer}")

    def violations(self, rpc, /, **request):
        """The fields that are refused."""
        return set(self.refusal("INVALID_FIELDS", rpc, **request).violations)

    def pages(self, rpc, /, **request):
        """Every page of a list; gives up at 100, in case a token leads in a circle."""
        token = ""
        for _ in range(100):
            page = self.call(rpc, **request, page_token=token)
            yield page
            token = page["next_page_token"]
            if not token:
                return
        raise AssertionError(f"{rpc} has no end")

    def balance(self, user):
        return self.call("GetWallet", user_id=user)["wallet"]["balance"]


def eventually(what, holds):
    """Waits until something holds, which it does soon or never."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, f"not so after 30 s: {what}"
        time.sleep(0.05)


def at_once(call, arguments):
    """What the call gives for each of the arguments, asked by as many threads as a pool of 16 has."""
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(call, arguments))


def code_of(call, *arguments, **options):
    """The code of a call that must fail."""
    try:
        raise AssertionError(f"it was answered: {call(*arguments, **options)}")
    except grpc.RpcError as error:
        return error.code().name
