//! Money from its first row on: wallets that cannot go below zero, and a ledger in double entry that nobody can change,
//! whatever a bug may try.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0001_ledger",
    "
    -- What a user has in one currency: what its entries add up to. Amounts are minor units.
    create table wallets (
        tenant_id   text not null,
        user_id     text not null,
        currency    text not null,
        balance     bigint not null,
        held        bigint not null check (held >= 0),
        -- counts the wallet's changes, without a gap
        version     bigint not null check (version >= 0),
        state       text not null check (state in ('ACTIVE', 'FROZEN')),
        create_time bigint not null,
        update_time bigint not null,
        primary key (tenant_id, user_id, currency),
        check (balance - held >= 0)
    );

    -- Why money moved. Each has two entries or more, which add up to zero.
    create table transactions (
        tenant_id          text not null,
        transaction_id     text not null,
        kind               text not null check (kind in ('PAYMENT', 'DEDUCTION')),
        request_id         text not null,
        user_id            text not null,
        currency           text not null,
        amount             bigint not null check (amount > 0),
        api_id             text not null,
        endpoint_id        text not null,
        api_key_id         text not null,
        provider           text not null,
        provider_reference text not null,
        create_time        bigint not null,
        primary key (tenant_id, transaction_id),
        unique (tenant_id, request_id)
    );

    -- Money that came to or went from one account of the ledger: a user's wallet, or one of the house's own, which have
    -- no row to lock: what they hold is what their entries add up to.
    create table entries (
        tenant_id       text not null,
        transaction_id  text not null,
        ordinal         bigint not null check (ordinal > 0),
        account         text not null check (account in ('WALLET', 'REVENUE', 'PAYMENTS')),
        user_id         text,
        currency        text not null,
        amount          bigint not null check (amount <> 0),
        -- the wallet right after it; for a wallet's entries only
        wallet_version  bigint check (wallet_version > 0),
        balance_after   bigint,
        available_after bigint,
        primary key (tenant_id, transaction_id, ordinal),
        foreign key (tenant_id, transaction_id) references transactions (tenant_id, transaction_id),
        check ((account = 'WALLET') = (user_id is not null)),
        check ((account = 'WALLET') = (wallet_version is not null)),
        check ((account = 'WALLET') = (balance_after is not null)),
        check ((account = 'WALLET') = (available_after is not null))
    );
    -- A wallet's changes are counted once each, and read newest first.
    create unique index entries_wallet_version on entries (tenant_id, user_id, currency, wallet_version)
        where wallet_version is not null;
    ",
)
.on_postgres(
    "
    create function refuse_change() returns trigger language plpgsql as $$
    begin
        raise exception '% is append-only', tg_table_name;
    end $$;
    create trigger transactions_append_only before update or delete or truncate on transactions
        for each statement execute function refuse_change();
    create trigger entries_append_only before update or delete or truncate on entries
        for each statement execute function refuse_change();

    -- Looked at when the transaction commits, once all of its entries are there.
    create function entries_add_up() returns trigger language plpgsql as $$
    begin
        if (select coalesce(sum(amount), 1) <> 0 or count(*) < 2 or count(distinct currency) <> 1
              from entries where tenant_id = new.tenant_id and transaction_id = new.transaction_id) then
            raise exception 'the entries of % do not add up to zero', new.transaction_id;
        end if;
        return null;
    end $$;
    create constraint trigger transactions_add_up after insert on transactions deferrable initially deferred
        for each row execute function entries_add_up();
    -- The first two entries came with their transaction, which was looked at; a late one is looked at by itself.
    create constraint trigger entries_add_up after insert on entries deferrable initially deferred
        for each row when (new.ordinal > 2) execute function entries_add_up();
    ",
)
.on_sqlite(
    "
    create trigger transactions_no_update before update on transactions
        begin select raise(abort, 'transactions is append-only'); end;
    create trigger transactions_no_delete before delete on transactions
        begin select raise(abort, 'transactions is append-only'); end;
    create trigger entries_no_update before update on entries
        begin select raise(abort, 'entries is append-only'); end;
    create trigger entries_no_delete before delete on entries
        begin select raise(abort, 'entries is append-only'); end;
    ",
);
