"""The first three of the four ways in which people call account: signing in, changing a profile, changing settings; and
what becomes of an account in the hands of an admin. The fourth, the list of all, is in accounts_admin.py.

Each of these has a tenant to itself.
"""

import string
from collections import Counter

from house import ADA, at_once, check, same
from trivet_client import Refused

GRACE = {"user_id": "auth0|grace", "email": "Grace@navy.example", "name": "Grace Hopper"}
ALAN = {"user_id": "auth0|alan", "email": "alan@bletchley.example", "name": "Alan Turing"}
FREE = "SUBSCRIPTION_TIER_FREE"
AT_FIRST = {
    "timezone": "UTC",
    "language": "en",
    "theme": "THEME_AUTO",
    "notification_email": True,
    "notification_push": True,
}


def told(house, user_id):
    """The whole history of an account, read one change at a time; its numbers have no gap."""
    entries = []
    for page in house.pages("ListAccountHistory", user_id=user_id, page_size=1, with_total=True):
        entries += page["entries"]
        total = page["total_size"]
    same([entry["sequence"] for entry in entries], [str(number) for number in range(int(total), 0, -1)])
    return entries


def accounts(house):
    """What the rest of the journey stands on: the account of ada, in the default tenant."""
    with check("the first EnsureAccount makes the account"):
        made = house.call("EnsureAccount", **ADA)
        account = made["account"]
        same(made["created"], True)
        same(account, ADA | {"subscription_tier": "SUBSCRIPTION_TIER_FREE", "status": "ACCOUNT_STATUS_ACTIVE"})
        assert account["etag"] and account["create_time"] == account["update_time"], account
    with check("the second finds it, and changes nothing"):
        same(house.call("EnsureAccount", **ADA | {"name": "Eve"}), {"created": False, "account": account})
    with check("it is found by its id, and by its e-mail address in any case"):
        same(house.call("GetAccount", user_id="ada"), {"account": account})
        same(house.call("GetAccount", email=" ADA@example.COM "), {"account": account})
    with check("an account that does not exist is ACCOUNT_NOT_FOUND"):
        refused = house.refusal("ACCOUNT_NOT_FOUND", "GetAccount", user_id="nobody")
        same(refused.detail("google.rpc.ResourceInfo") or {}, {"resource_name": "nobody"})
    with check("an e-mail address belongs to one account"):
        house.refusal("EMAIL_TAKEN", "EnsureAccount", **ADA | {"user_id": "eve"})
    with check("a batch names those that are missing, and counts an id once"):
        batch = house.call("BatchGetAccounts", user_ids=["nobody", "ada", "ada"])
        same(batch, {"accounts": [account], "missing_user_ids": ["nobody"]})
    with check("an update with the etag that was read changes the account, and its etag"):
        updated = house.call("UpdateAccount", user_id="ada", name="Ada King", etag=account["etag"])["account"]
        same(updated, {"name": "Ada King", "email": ADA["email"], "create_time": account["create_time"]})
        assert updated["etag"] != account["etag"]
    with check("an update with an older etag is ETAG_MISMATCH"):
        house.refusal("ETAG_MISMATCH", "UpdateAccount", user_id="ada", name="Ada", etag=account["etag"])
    with check("a mask of anything but name and email is INVALID_UPDATE_MASK"):
        for mask in ["*", "userId", "name,status"]:
            house.refusal("INVALID_UPDATE_MASK", "UpdateAccount", user_id="ada", name="Ada", update_mask=mask)


def login(house):
    """Pattern 1: whoever signs in is ensured, every time, and nobody asks whether it is the first."""
    with check("the first login makes the account, of the tier it names"):
        first = house.call("EnsureAccount", **GRACE, subscription_tier="SUBSCRIPTION_TIER_PREMIUM")
        account = first["account"]
        same(first["created"], True)
        same(account, GRACE | {"subscription_tier": "SUBSCRIPTION_TIER_PREMIUM", "status": "ACCOUNT_STATUS_ACTIVE"})
        same(account, {"preferences": AT_FIRST, "status_reason": "", "delete_time": None, "unavailable_parts": []})
        assert account["etag"] and account["create_time"] == account["update_time"], account
    with check("every later login gets it unchanged, whatever else it says"):
        for says in [{}, {"name": "Amazing Grace"}, {"email": "grace@yale.example"}, {"subscription_tier": FREE}]:
            same(house.call("EnsureAccount", **GRACE | says), {"created": False, "account": account})
        same(len(told(house, GRACE["user_id"])), 1)
    with check("name and address are kept as written but for the space around them, and a tier not named is FREE"):
        spaced = {"name": f"  {ALAN['name']} ", "email": f"\t{ALAN['email']} "}
        same(house.call("EnsureAccount", **ALAN | spaced)["account"], ALAN | {"subscription_tier": FREE})
    with check("a hundred logins at once of somebody new make one account, and one of them says that it did"):
        new = {"user_id": "auth0|edsger", "email": "edsger@example.com", "name": "Edsger Dijkstra"}
        answers = at_once(lambda _: house.call("EnsureAccount", **new), range(100))
        same(Counter(answer["created"] for answer in answers), {True: 1, False: 99})
        same([answer for answer in answers if answer["account"] != answers[0]["account"]], [])
        same([entry["action"] for entry in told(house, new["user_id"])], ["ACCOUNT_ACTION_CREATED"])
    with check("of twenty people who sign up at once with one e-mail address, one gets it"):

        def sign_up(number):
            try:
                twin = {"user_id": f"twin-{number}", "email": "twin@example.com", "name": "Twin"}
                return "created" if house.call("EnsureAccount", **twin)["created"] else "found"
            except Refused as refused:
                return refused.reason

        same(Counter(at_once(sign_up, range(20))), {"created": 1, "EMAIL_TAKEN": 19})
    with check("a first login with an address that somebody has, in any case, is EMAIL_TAKEN and makes nothing"):
        for address in ["Grace@navy.example", "grace@NAVY.example", " GRACE@navy.example "]:
            house.refusal("EMAIL_TAKEN", "EnsureAccount", user_id="eve", email=address, name="Eve")
        house.refusal("ACCOUNT_NOT_FOUND", "GetAccount", user_id="eve")
    with check("a suspended account signs in as suspended: what that means is for the caller to say"):
        reason = {"reason": "under review"}
        house.call("ChangeAccountStatus", user_id=ALAN["user_id"], status="ACCOUNT_STATUS_SUSPENDED", **reason)
        found = house.call("EnsureAccount", **ALAN)
        same((found["created"], found["account"]["status"]), (False, "ACCOUNT_STATUS_SUSPENDED"))
    with check("a deleted account is not brought back by a login, but by whoever may restore it"):
        house.call("DeleteAccount", user_id=GRACE["user_id"], reason="asked for it")
        house.refusal("ACCOUNT_DELETED", "EnsureAccount", **GRACE)
        house.call("RestoreAccount", user_id=GRACE["user_id"], reason="regretted it")
        same(house.call("EnsureAccount", **GRACE)["created"], False)


def careful_update(house, user_id, rename):
    """Changes a name as somebody does who wants to lose nothing: reads, changes what was read, and begins again where
    another change came in between."""
    while True:
        account = house.call("GetAccount", user_id=user_id)["account"]
        change = {"name": rename(account["name"]), "update_mask": "name", "etag": account["etag"]}
        try:
            return house.call("UpdateAccount", user_id=user_id, **change)["account"]
        except Refused as refused:
            if refused.reason != "ETAG_MISMATCH":
                raise


def profile(house):
    """Pattern 2: a profile is changed field by field, and nobody overwrites what he has not seen."""
    grace, alan = (house.call("EnsureAccount", **person)["account"] for person in [GRACE, ALAN])
    me = {"user_id": grace["user_id"]}
    with check("a mask says what changes, and what it leaves out stays though it is set"):
        sent = {"name": "Grace M. Hopper", "email": "ignored@example.com", "update_mask": "name"}
        renamed = house.call_as("edit-1", "UpdateAccount", **me, **sent, etag=grace["etag"])["account"]
        untouched = {key: grace[key] for key in ["user_id", "email", "status", "create_time", "preferences"]}
        same(renamed, untouched | {"name": "Grace M. Hopper"})
        assert renamed["etag"] != grace["etag"] and renamed["update_time"] != grace["update_time"], renamed
        same(house.call("GetAccount", **me), {"account": renamed})
    with check("a change with the etag of before is ETAG_MISMATCH and changes nothing; read again, it goes through"):
        late = {"email": "hopper@navy.example", "update_mask": "email"}
        house.refusal("ETAG_MISMATCH", "UpdateAccount", **me, **late, etag=grace["etag"])
        same(house.call("GetAccount", **me), {"account": renamed})
        read = house.call("GetAccount", **me)["account"]
        both = house.call_as("edit-2", "UpdateAccount", **me, **late, etag=read["etag"])["account"]
        same(both, {"name": "Grace M. Hopper", "email": "hopper@navy.example"})
    with check("an address that somebody has, in any case, is EMAIL_TAKEN, and nothing of the change is made"):
        for address in [ALAN["email"], ALAN["email"].upper()]:
            house.refusal("EMAIL_TAKEN", "UpdateAccount", **me, name="Alan too", email=address)
        same(house.call("GetAccount", **me), {"account": both})
    with check("one's own address may change its case, is found in any, and the one given up is free"):
        house.call_as("edit-3", "UpdateAccount", **me, email="Hopper@Navy.Example")
        found = house.call("GetAccount", email="HOPPER@navy.example")["account"]
        same(found, me | {"email": "Hopper@Navy.Example"})
        house.refusal("ACCOUNT_NOT_FOUND", "GetAccount", email=GRACE["email"])
        taken = house.call("UpdateAccount", user_id=alan["user_id"], email=GRACE["email"])["account"]
        same(taken, ALAN | {"email": GRACE["email"]})
    with check("without a mask, what is set is changed, both at once"):
        sent = {"name": "Grace Hopper", "email": "grace@yale.example"}
        same(house.call_as("edit-4", "UpdateAccount", **me, **sent)["account"], me | sent)
    with check("the history names each change: who, what, which fields, and the x-request-id it came with"):
        changes = told(house, me["user_id"])
        names = [(entry["request_id"], set(entry["changed_fields"])) for entry in changes[:-1]]
        edits = [("edit-4", {"name", "email"}), ("edit-3", {"email"}), ("edit-2", {"email"}), ("edit-1", {"name"})]
        same(names, edits)
        same({entry["action"] for entry in changes[:-1]}, {"ACCOUNT_ACTION_PROFILE_UPDATED"})
        same({(entry["actor"], entry["reason"]) for entry in changes}, {("operator", "")})
        same(changes[-1], {"action": "ACCOUNT_ACTION_CREATED", "sequence": "1", "time": grace["create_time"]})
        same(changes[0]["time"], house.call("GetAccount", **me)["account"]["update_time"])
    with check("a change that changes nothing leaves etag and history as they are"):
        before = house.call("GetAccount", **me)
        same(house.call("UpdateAccount", **me, name="Grace Hopper", etag=before["account"]["etag"]), before)
        same(told(house, me["user_id"]), changes)
    with check("ten who change one name at once, and read again where they came too late, lose nothing"):
        at_once(lambda letter: careful_update(house, me["user_id"], lambda name: name + letter), string.digits)
        name = house.call("GetAccount", **me)["account"]["name"]
        same((name[:12], sorted(name[12:])), ("Grace Hopper", list(string.digits)))
    with check("a mask of anything but name and email, and one that names nothing, is INVALID_UPDATE_MASK"):
        for mask in ["*", "status", "userId", "name,subscriptionTier", "preferences", "Name"]:
            house.refusal("INVALID_UPDATE_MASK", "UpdateAccount", **me, name="Eve", update_mask=mask)
        house.refusal("INVALID_UPDATE_MASK", "UpdateAccount", **me)
    with check("neither can be empty: a path whose field is not set, or blank, is named"):
        same(house.violations("UpdateAccount", **me, update_mask="name,email"), {"name", "email"})
        same(house.violations("UpdateAccount", **me, name=" ", email="nowhere"), {"name", "email"})
    with check("somebody who does not exist has no profile and no history"):
        house.refusal("ACCOUNT_NOT_FOUND", "UpdateAccount", user_id="nobody", name="Nobody")
        house.refusal("ACCOUNT_NOT_FOUND", "ListAccountHistory", user_id="nobody")


def settings(house):
    """Pattern 3: settings are merged, so that two screens that know of different ones do not undo each other."""
    account = house.call("EnsureAccount", **GRACE)["account"]
    me = {"user_id": account["user_id"]}

    def set_to(mask=None, **values):
        masked = {"update_mask": mask} if mask else {}
        return house.call("UpdatePreferences", **me, preferences=values, **masked)["account"]["preferences"]

    def refused(**values):
        return house.violations("UpdatePreferences", **me, preferences=values)

    with check("a mask of theme changes the theme alone, though more is set"):
        same(set_to("theme", theme="THEME_DARK", timezone="Asia/Tokyo"), AT_FIRST | {"theme": "THEME_DARK"})
        entry = told(house, me["user_id"])[0]
        same(entry, {"action": "ACCOUNT_ACTION_PREFERENCES_UPDATED", "changed_fields": ["preferences.theme"]})
    with check("without a mask, what is set is merged, `false` included"):
        same(set_to(notification_email=False, timezone="Asia/Tokyo"), {"notification_email": False})
        mine = AT_FIRST | {"theme": "THEME_DARK", "timezone": "Asia/Tokyo", "notification_email": False}
        same(house.call("GetAccount", **me)["account"]["preferences"], mine)
    with check("what the mask names and the request leaves out goes back to what it was at first"):
        french = AT_FIRST | {"theme": "THEME_DARK", "language": "fr"}
        same(set_to("timezone,notificationEmail,language", language="fr"), french)
        same(set_to("timezone,language,theme,notificationEmail,notificationPush"), AT_FIRST)
    with check("five screens that change a setting each, at once, all get their way"):
        wanted = {
            "timezone": "Europe/Paris",
            "language": "fr",
            "theme": "THEME_LIGHT",
            "notification_email": False,
            "notification_push": False,
        }
        at_once(lambda setting: set_to(**dict([setting])), wanted.items())
        same(house.call("GetAccount", **me)["account"]["preferences"], wanted)
    with check("zones and languages are taken in any case and kept in their canonical form"):
        for given, kept in [("europe/paris", "Europe/Paris"), ("utc", "UTC"), ("AMERICA/NEW_YORK", "America/New_York")]:
            same(set_to(timezone=given)["timezone"], kept)
        for given, kept in [("EN-us", "en-US"), ("ZH-HANT-TW", "zh-Hant-TW"), ("iw", "he"), ("es-419", "es-419")]:
            same(set_to(language=given)["language"], kept)
    with check("an unknown zone and an unknown language are named at once, and nothing is changed"):
        before = house.call("GetAccount", **me)
        wrong = {"timezone": "Mars/Olympus", "language": "klingonese", "theme": "THEME_LIGHT"}
        same(refused(**wrong), {"preferences.timezone", "preferences.language"})
        for timezone in ["", "Paris", "+01:00", "Europe", "../Europe/Paris", "Europe/Paris "]:
            same((timezone, refused(timezone=timezone)), (timezone, {"preferences.timezone"}))
        for language in ["", "e", "en_US", "xx", "en-XQZ", "en-", "français", "*"]:
            same((language, refused(language=language)), (language, {"preferences.language"}))
        same(refused(theme="THEME_UNSPECIFIED"), {"preferences.theme"})
        same(house.call("GetAccount", **me), before)
    with check("paths are bare: any other, and nothing to change, is INVALID_UPDATE_MASK"):
        for mask in ["*", "preferences.theme", "preferences", "name", "theme,colour"]:
            change = {"preferences": {"theme": "THEME_DARK"}, "update_mask": mask}
            house.refusal("INVALID_UPDATE_MASK", "UpdatePreferences", **me, **change)
        house.refusal("INVALID_UPDATE_MASK", "UpdatePreferences", **me)
        house.refusal("INVALID_UPDATE_MASK", "UpdatePreferences", **me, preferences={})
    with check("settings are of the account: its etag guards them, and its profile stays"):
        dark = {"preferences": {"theme": "THEME_DARK"}}
        house.refusal("ETAG_MISMATCH", "UpdatePreferences", **me, **dark, etag=account["etag"])
        etag = house.call("GetAccount", **me)["account"]["etag"]
        after = house.call("UpdatePreferences", **me, **dark, etag=etag)["account"]
        same(after, GRACE | {"create_time": account["create_time"], "status": account["status"]})
        assert after["etag"] != etag, after
        house.refusal("ACCOUNT_NOT_FOUND", "UpdatePreferences", user_id="nobody", **dark)


def suspended_and_deleted(house):
    """Pattern 4, one account of the list: what can be taken back."""
    grace = house.call("EnsureAccount", **GRACE)["account"]
    me = {"user_id": grace["user_id"]}

    def stand(status, reason, **more):
        answer = house.call("ChangeAccountStatus", **me, status=f"ACCOUNT_STATUS_{status}", reason=reason, **more)
        return answer["account"]

    def pay(request_id):
        return me | {"request_id": request_id, "amount": "12.5", "provider": "bank"}

    with check("an account is suspended for a reason, which it shows"):
        house.call("RecordPayment", **pay("pay-1"))
        suspended = stand("SUSPENDED", " too many complaints ", etag=grace["etag"])
        same(suspended, GRACE | {"status": "ACCOUNT_STATUS_SUSPENDED", "status_reason": "too many complaints"})
        assert suspended["etag"] != grace["etag"], suspended
    with check("the same status for the same reason again is no change, and another reason is one"):
        same(stand("SUSPENDED", "too many complaints"), suspended)
        same(len(told(house, me["user_id"])), 2)
        back = {"status": "ACCOUNT_STATUS_ACTIVE", "reason": "mistaken"}
        house.refusal("ETAG_MISMATCH", "ChangeAccountStatus", **me, **back, etag=grace["etag"])
        same(stand("SUSPENDED", "fraud"), {"status_reason": "fraud"})
    with check("a reason is one line of 1 to 500 characters, and a status that is not for this rpc is refused"):
        for reason in ["", " ", "a\nb", "x" * 501]:
            status = {"status": "ACCOUNT_STATUS_SUSPENDED", "reason": reason}
            same((reason, house.violations("ChangeAccountStatus", **me, **status)), (reason, {"reason"}))
        for status in ["UNSPECIFIED", "DELETED", "ERASED"]:
            change = {"status": f"ACCOUNT_STATUS_{status}", "reason": "why"}
            same((status, house.violations("ChangeAccountStatus", **me, **change)), (status, {"status"}))
    with check("who is suspended keeps the address, can be read and updated, and cannot be paid for"):
        house.refusal("EMAIL_TAKEN", "EnsureAccount", **ALAN | {"email": GRACE["email"]})
        same(house.call("UpdateAccount", **me, name="G. Hopper")["account"], {"status": "ACCOUNT_STATUS_SUSPENDED"})
        same(house.call("GetAccount", email=GRACE["email"])["account"], {"name": "G. Hopper", "status_reason": "fraud"})
        house.refusal("ACCOUNT_SUSPENDED", "RecordPayment", **pay("pay-2"))
    with check("let act again, it can be"):
        same(stand("ACTIVE", "cleared"), {"status": "ACCOUNT_STATUS_ACTIVE", "status_reason": "cleared"})
        house.call("RecordPayment", **pay("pay-3"))
    with check("a deleted account says when and why, and deleting it again changes nothing"):
        deleted = house.call("DeleteAccount", **me, reason="asked for it")
        same(deleted["account"], me | {"status": "ACCOUNT_STATUS_DELETED", "status_reason": "asked for it"})
        same(deleted["account"]["delete_time"], deleted["account"]["update_time"])
        same(house.call("DeleteAccount", **me, reason="asked again"), deleted)
        same(told(house, me["user_id"])[0], {"action": "ACCOUNT_ACTION_DELETED", "reason": "asked for it"})
    with check("it keeps its data, is found by its id, and by its address no more"):
        same(house.call("GetAccount", **me), deleted)
        same(house.call("BatchGetAccounts", user_ids=[me["user_id"]])["accounts"], [deleted["account"]])
        house.refusal("ACCOUNT_NOT_FOUND", "GetAccount", email=GRACE["email"])
    with check("every other write to it is ACCOUNT_DELETED, a payment too"):
        house.refusal("ACCOUNT_DELETED", "UpdateAccount", **me, name="Grace")
        house.refusal("ACCOUNT_DELETED", "UpdatePreferences", **me, preferences={"theme": "THEME_DARK"})
        house.refusal("ACCOUNT_DELETED", "ChangeAccountStatus", **me, status="ACCOUNT_STATUS_ACTIVE", reason="back")
        house.refusal("ACCOUNT_DELETED", "RecordPayment", **pay("pay-4"))
    with check("its address is free; as long as somebody else has it, RestoreAccount is EMAIL_TAKEN"):
        same(house.call("EnsureAccount", **ALAN | {"email": GRACE["email"]})["created"], True)
        house.refusal("EMAIL_TAKEN", "RestoreAccount", **me, reason="regretted it")
        house.call("UpdateAccount", user_id=ALAN["user_id"], email=ALAN["email"])
    with check("restored, it is ACTIVE, and whole"):
        restored = house.call("RestoreAccount", **me, reason="regretted it")["account"]
        same(restored, me | {"email": GRACE["email"], "name": "G. Hopper", "delete_time": None})
        same(restored, {"status": "ACCOUNT_STATUS_ACTIVE", "status_reason": "regretted it"})
        house.refusal("ACCOUNT_NOT_DELETED", "RestoreAccount", **me)
        same(house.balance(me["user_id"]), "25")
    with check("whoever was suspended before the deletion is ACTIVE after it, too"):
        stand("SUSPENDED", "fraud")
        house.call("DeleteAccount", **me)
        same(house.call("RestoreAccount", **me)["account"]["status"], "ACCOUNT_STATUS_ACTIVE")
    with check("who does not exist cannot be suspended, deleted, restored or erased"):
        house.refusal("ACCOUNT_NOT_FOUND", "ChangeAccountStatus", **back | {"user_id": "nobody"})
        for rpc in ["DeleteAccount", "RestoreAccount", "EraseAccount"]:
            house.refusal("ACCOUNT_NOT_FOUND", rpc, user_id="nobody")


def erased(house):
    """Pattern 4, one account of the list: what cannot be taken back."""
    house.call_as("grace-signs-up", "EnsureAccount", **GRACE)
    me = {"user_id": GRACE["user_id"]}
    with check("an erased account is its id, its times, and nothing else"):
        house.call("RecordPayment", **me, request_id="pay-1", amount="12.5", provider="bank")
        house.call("UpdatePreferences", **me, preferences={"timezone": "Europe/Paris", "theme": "THEME_DARK"})
        house.call_as("grace-leaves", "DeleteAccount", **me, reason="Grace has left the navy")
        gone = house.call_as("grace-asks", "EraseAccount", **me, reason="Grace Hopper asked for it")
        same(gone["account"], me | {"status": "ACCOUNT_STATUS_ERASED", "name": "", "email": "", "status_reason": ""})
        same(gone["account"], {"preferences": AT_FIRST, "subscription_tier": FREE})
        assert all(gone["account"][time] for time in ["create_time", "update_time", "delete_time"]), gone
    with check("erasing it again changes nothing"):
        same(house.call("EraseAccount", **me, reason="to be sure"), gone)
    with check("GetAccount of it is ACCOUNT_ERASED, and so is every write"):
        house.refusal("ACCOUNT_ERASED", "GetAccount", **me)
        house.refusal("ACCOUNT_ERASED", "GetAccount", **me, view="ACCOUNT_VIEW_FULL")
        house.refusal("ACCOUNT_ERASED", "EnsureAccount", **GRACE)
        house.refusal("ACCOUNT_ERASED", "UpdateAccount", **me, name="Grace")
        house.refusal("ACCOUNT_ERASED", "UpdatePreferences", **me, preferences={"theme": "THEME_DARK"})
        house.refusal("ACCOUNT_ERASED", "ChangeAccountStatus", **me, status="ACCOUNT_STATUS_ACTIVE", reason="back")
        house.refusal("ACCOUNT_ERASED", "DeleteAccount", **me)
        house.refusal("ACCOUNT_ERASED", "RestoreAccount", **me)
        house.refusal("ACCOUNT_ERASED", "RecordPayment", **me, request_id="pay-2", amount="1", provider="bank")
    with check("the money that moved under its id stays"):
        same(house.balance(me["user_id"]), "12.5")
    with check("its history stays bare: no words of anybody, and no request id"):
        changes = told(house, me["user_id"])
        actions = ["ERASED", "DELETED", "PREFERENCES_UPDATED", "CREATED"]
        same([entry["action"] for entry in changes], [f"ACCOUNT_ACTION_{action}" for action in actions])
        same([(entry["reason"], entry["request_id"]) for entry in changes], [("", "")] * 4)
    with check("nothing that lists or finds accounts says who it was"):
        batch = house.call("BatchGetAccounts", user_ids=[me["user_id"]])
        listed = house.call("ListAccounts", status="ACCOUNT_STATUS_ERASED")
        same((batch["accounts"], listed["accounts"]), ([gone["account"]], [gone["account"]]))
        for query in ["Grace", "navy", "Hopper", "grace@navy.example"]:
            same(house.call("SearchAccounts", query=query, include_inactive=True), {"summaries": []})
            same(house.call("ListAccounts", query=query, status="ACCOUNT_STATUS_ERASED")["accounts"], [])
        house.refusal("ACCOUNT_NOT_FOUND", "GetAccount", email=GRACE["email"])
    with check("its address is free for somebody else"):
        same(house.call("EnsureAccount", **GRACE | {"user_id": "auth0|another-grace"})["created"], True)
