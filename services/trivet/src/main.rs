//! The one binary. Without arguments it is `trivet dev`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use mesh::{
    chain,
    config::{Sources, load},
};
use trivet::{
    Config, RoleName,
    commands::{
        CertsCommand, CheckArguments, EventsCommand, Look, Show, TapArguments, certs, check, edges, events, exit_code,
        explain, health, manual, migrate_status, migrate_up, say, serve, show, stat, status, tap, trace,
    },
};

// Small allocations from many threads are what a gRPC server does all day; glibc's allocator is slow at just that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Accounts, a catalog and money over gRPC.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// A TOML file of settings; `trivet config show` prints one.
    #[arg(long, global = true, value_name = "FILE", env = "TRIVET_CONFIG")]
    config: Option<PathBuf>,
    /// Sets one setting, such as billing.port=9216. May be given several times.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Keeps SQLite's files in this folder; the same as --set data_dir=DIR.
    #[arg(long = "data", global = true, value_name = "DIR")]
    data: Option<String>,
}

/// What programs that run this one go by.
const EXIT_CODES: &str = "Exit codes: 0, all is well; 1, it is not; 2, the command line cannot be read; 64 and a gRPC code, a \
    call failed so, such as 78 for UNAVAILABLE.";

#[derive(Subcommand)]
enum Command {
    /// Runs all three services on this machine, in memory unless --data is given. This is what no command means.
    Dev,
    /// Runs one service, or all of them, until SIGTERM.
    Serve {
        /// Which.
        role: RoleArgument,
    },
    /// Brings the databases up to date.
    Migrate {
        #[command(subcommand)]
        command: MigrateCommand,
    },
    /// Asks a running process how it is; the exit code is 0 where it is SERVING.
    Health {
        /// host:port; the admin port of this machine where it is left out.
        #[arg(long)]
        address: Option<String>,
        /// What to ask for: liveness, readiness, or a service by its full name.
        #[arg(long, default_value = "readiness")]
        service: String,
    },
    /// Asks a running service how it is, part by part; the exit code is 0 unless it is DOWN.
    Status {
        /// host:port of the service; account on this machine where it is left out.
        #[arg(long)]
        address: Option<String>,
    },
    /// Checks whether everything is as it should be, service by service; the exit code is 0 unless something is not.
    Check(CheckArguments),
    /// Shows how each service does: success, requests a second, latencies of the last minute.
    Stat(Look),
    /// Shows who calls whom, method by method, and how that went in the last minute.
    Edges(Look),
    /// Shows calls as they end, until Ctrl-C.
    Tap(TapArguments),
    /// Shows one request through all the services that it came to, as a tree.
    Trace {
        /// A trace id, or the x-request-id that the request was made under.
        id: String,
        #[command(flatten)]
        look: Look,
    },
    /// Shows what the services tell each other, and mends what went wrong with it.
    Events {
        #[command(subcommand)]
        command: EventsCommand,
    },
    /// Makes certificates.
    Certs {
        #[command(subcommand)]
        command: CertsCommand,
    },
    /// Says what can be set and what is set.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Says what a refusal's reason means, or lists all reasons.
    Explain {
        /// Such as INSUFFICIENT_FUNDS.
        reason: Option<String>,
    },
}

#[derive(Subcommand)]
enum MigrateCommand {
    /// Applies what is missing.
    Up,
    /// Says what is applied and what is missing.
    Status,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Prints the settings in force as TOML, secrets as ***.
    Show,
    /// Prints every setting with its variable, default and meaning, as a table of Markdown.
    Manual,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArgument {
    Account,
    Product,
    Billing,
    All,
}

impl RoleArgument {
    fn roles(self) -> Vec<RoleName> {
        match self {
            Self::Account => vec![RoleName::Account],
            Self::Product => vec![RoleName::Product],
            Self::Billing => vec![RoleName::Billing],
            Self::All => RoleName::ALL.to_vec(),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await.and_then(|text| Ok(say(&text)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trivet: {}", chain(error.as_ref()));
            ExitCode::from(exit_code(&error))
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<String> {
    let command = arguments.command.unwrap_or(Command::Dev);
    let dev = matches!(command, Command::Dev);
    let config = settings(arguments.config, arguments.data, arguments.set, dev)?;
    match &command {
        Command::Serve { role } => {
            config.must_keep(&role.roles())?;
            config.must_carry(&role.roles())?;
        }
        Command::Migrate { .. } => config.must_keep(&RoleName::ALL)?,
        _ => {}
    }
    match command {
        Command::Dev => serve(&config, &RoleName::ALL, Show::Block).await.map(|()| String::new()),
        Command::Serve { role } => serve(&config, &role.roles(), Show::Line).await.map(|()| String::new()),
        Command::Migrate { command: MigrateCommand::Up } => migrate_up(&config).await,
        Command::Migrate { command: MigrateCommand::Status } => migrate_status(&config).await,
        Command::Health { address, service } => {
            health(&config, address.as_deref(), &service).await.map(|line| format!("{line}\n"))
        }
        Command::Status { address } => status(&config, address.as_deref()).await.map(|()| String::new()),
        Command::Check(arguments) => check(&config, &arguments).await.map(|()| String::new()),
        Command::Stat(look) => stat(&config, &look).await,
        Command::Edges(look) => edges(&config, &look).await,
        Command::Tap(arguments) => tap(&config, &arguments).await.map(|()| String::new()),
        Command::Trace { id, look } => trace(&config, &look, &id).await,
        Command::Events { command } => events(&config, command).await,
        Command::Certs { command } => certs(&config, &command).await,
        Command::Config { command: ConfigCommand::Show } => show(&config),
        Command::Config { command: ConfigCommand::Manual } => Ok(manual()),
        Command::Explain { reason } => explain(reason.as_deref()),
    }
}

/// Defaults, then the file, then the environment, then flags.
fn settings(
    file: Option<PathBuf>,
    data: Option<String>,
    set: Vec<(String, String)>,
    dev: bool,
) -> anyhow::Result<Config> {
    // A variable of somebody else's that is not Unicode is no business of ours.
    let readable = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let environment: Vec<(String, String)> =
        std::env::vars_os().filter_map(readable).filter(|(name, _)| name != "TRIVET_CONFIG").collect();
    let value_of = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut preferences = Vec::new();
    // OpenTelemetry's own variables are honoured where ours say nothing.
    if value_of("OTEL_SDK_DISABLED").as_deref() != Some("true") {
        let collector = value_of("OTEL_EXPORTER_OTLP_ENDPOINT");
        preferences.extend(collector.map(|collector| ("telemetry.otlp_endpoint", collector)));
    }
    if dev {
        // Nobody balances load over a laptop: there is nobody to announce the end to.
        preferences.push(("server.announce_ms", "0".to_owned()));
        preferences.push(("telemetry.log", "warn".to_owned()));
    }
    let mut flags: Vec<_> = data.map(|folder| ("data_dir".to_owned(), folder)).into_iter().collect();
    flags.extend(set);
    let config: Config = load(&Sources { preferences, file, environment, flags })?;
    config.check()?;
    Ok(config)
}
