//! Migrations: numbered, append only, forward only. They are written once, in PostgreSQL's words, and run on both
//! databases.

use std::{fs::File, path::PathBuf, sync::Arc};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend};
use sea_orm_migration::{
    DbErr, MigrationName, MigrationStatus, MigrationTrait, MigratorTraitSelf, SchemaManager, async_trait::async_trait,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{Location, Store, StoreError, open::connect_for_migrations, sql};

/// Where sea-orm-migration remembers what it applied.
const TABLE: &str = "seaql_migrations";

/// One step of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    name: &'static str,
    both: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

impl Migration {
    /// A step in statements that both databases understand, once `bigint`, `bytea` and `boolean` are called what
    /// SQLite calls them and its tables are STRICT. A table's definition ends in a line of its own, `);`.
    pub const fn new(name: &'static str, both: &'static str) -> Self {
        Self { name, both, postgres: "", sqlite: "" }
    }

    /// Adds what only PostgreSQL understands.
    #[must_use]
    pub const fn on_postgres(self, postgres: &'static str) -> Self {
        Self { postgres, ..self }
    }

    /// Adds what only SQLite understands.
    #[must_use]
    pub const fn on_sqlite(self, sqlite: &'static str) -> Self {
        Self { sqlite, ..self }
    }

    /// The migration's name, by which the database remembers it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    fn script(&self, backend: DbBackend) -> String {
        match backend {
            DbBackend::Sqlite => format!("{}{}", for_sqlite(self.both), self.sqlite),
            _ => format!("{}{}", self.both, self.postgres),
        }
    }
}

fn for_sqlite(script: &str) -> String {
    let strict = |line: &str| if line.trim() == ");" { ") strict;".to_owned() } else { line.to_owned() };
    let script: Vec<String> = script.lines().map(strict).collect();
    script.join("\n").replace(" bigint", " integer").replace(" bytea", " blob").replace(" boolean", " integer")
}

impl MigrationName for Migration {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let script = self.script(manager.get_database_backend());
        manager.get_connection().execute_unprepared(&script).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// A step of a later release, which the database has and this one does not know: it is left alone. Without it
/// sea-orm-migration would not start at all, and nobody could go back by one release.
struct Later(String);

impl MigrationName for Later {
    fn name(&self) -> &str {
        &self.0
    }
}

#[async_trait]
impl MigrationTrait for Later {
    async fn up(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Ok(())
    }
}

struct Migrations {
    known: Vec<Migration>,
    later: Vec<String>,
}

impl Migrations {
    /// These steps, and whatever else the database has.
    async fn on(connection: &DatabaseConnection, known: &[Migration]) -> Result<Self, StoreError> {
        let mut later = Vec::new();
        if SchemaManager::new(connection).has_table(TABLE).await? {
            let applied = sql(connection, &format!("select version from {TABLE}"), []);
            for row in connection.query_all_raw(applied).await? {
                let version: String = row.try_get("", "version")?;
                if !known.iter().any(|step| step.name == version) {
                    later.push(version);
                }
            }
        }
        Ok(Self { known: known.to_vec(), later })
    }
}

impl MigratorTraitSelf for Migrations {
    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        let known = self.known.iter().map(|step| -> Box<dyn MigrationTrait> { Box::new(*step) });
        let later = self.later.iter().map(|name| -> Box<dyn MigrationTrait> { Box::new(Later(name.clone())) });
        known.chain(later).collect()
    }
}

/// A migration and whether the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationState {
    /// The migration's name.
    pub name: String,
    /// Whether it was applied.
    pub applied: bool,
}

impl Store {
    /// Applies the migrations that the database does not have yet. Any number of processes may do this at once.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<(), StoreError> {
        let up = async |connection: &DatabaseConnection| -> Result<(), StoreError> {
            Ok(Migrations::on(connection, migrations).await?.up(connection, None).await?)
        };
        // Where there is one connection, it is needed here, and nobody else takes it meanwhile.
        let permit = async || self.0.permits.acquire().await.map_err(|_| StoreError::Closed);
        let _alone = if self.has_one_writer() { Some(permit().await?) } else { None };
        self.0.sessions.let_go();
        // The lock ends with what holds it, however this goes: sea-orm-migration takes none.
        match &self.0.location {
            Location::Memory => up(&self.0.writer).await?,
            Location::File(path) => {
                let _lock = lock_file(path.with_extension("lock")).await?;
                up(&self.0.writer).await?;
            }
            Location::Postgres { url, schema, .. } => {
                let _lock = lock_schema(url, schema).await.map_err(wrapped)?;
                let patient = connect_for_migrations(url, schema).await?;
                up(&patient).await?;
                patient.close().await?;
            }
        }
        Ok(())
    }

    /// Which of these migrations the database has.
    pub async fn migration_states(&self, migrations: &[Migration]) -> Result<Vec<MigrationState>, StoreError> {
        let steps = Migrations::on(&self.0.reader, migrations).await?;
        let known = steps.get_migration_with_status_read_only(&self.0.reader).await?;
        let state = |step: &sea_orm_migration::Migration| MigrationState {
            name: step.name().to_owned(),
            applied: step.status() == MigrationStatus::Applied,
        };
        Ok(known.iter().take(migrations.len()).map(state).collect())
    }
}

/// Takes an exclusive lock on a file beside the database.
pub(super) async fn lock_file(path: PathBuf) -> Result<File, StoreError> {
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    });
    locked.await.map_err(StoreError::Panicked)?.map_err(StoreError::Lock)
}

/// Takes the schema's advisory lock on a connection of its own, and makes the schema.
async fn lock_schema(url: &str, schema: &str) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query("select pg_advisory_lock(hashtextextended('trivet.migrate.' || $1, 0))")
        .bind(schema)
        .execute(&mut connection)
        .await?;
    // The name comes from the operator's settings, not from callers; a quote in it cannot end it.
    let create = format!("create schema if not exists \"{}\"", schema.replace('"', "\"\""));
    connection.execute(AssertSqlSafe(create)).await?;
    Ok(connection)
}

/// An error of sqlx's as the store tells it.
pub(super) fn wrapped(error: sqlx::Error) -> StoreError {
    StoreError::from(DbErr::Conn(sea_orm::RuntimeErr::SqlxError(Arc::new(error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_strict_on_sqlite_and_its_types_have_sqlite_names() {
        let step = Migration::new("m0001", "create table a (\n  n bigint not null,\n  b bytea\n);");
        assert_eq!(step.script(DbBackend::Sqlite), "create table a (\n  n integer not null,\n  b blob\n) strict;");
        assert!(step.script(DbBackend::Postgres).ends_with(");"));
    }
}
