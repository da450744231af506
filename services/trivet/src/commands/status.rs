//! `trivet status`: asks a running role how it is, part by part, for people.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context as _, bail};
use mesh::Target;
use trivet_proto::mesh::v1::{GetStatusRequest, GetStatusResponse, Status, status_service_client::StatusServiceClient};

use super::{here, peer, say};
use crate::Config;

/// The answer takes two seconds where a part does not answer; this is more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the role behind `address`, by default account on this machine, and writes a line for each of its parts. An
/// error is DOWN, or no answer.
pub async fn status(config: &Config, address: Option<&str>) -> anyhow::Result<()> {
    let target: Target = address.map_or_else(|| Ok(here(config, config.account.port)), str::parse)?;
    let peer = peer(config, "status", &target, PATIENCE).await?;
    let response = StatusServiceClient::new(peer).get_status(GetStatusRequest {}).await;
    let response = response.with_context(|| format!("{target} does not say how it is"))?.into_inner();
    say(&lines(&response))?;
    if response.status() == Status::Down {
        bail!("{target} is DOWN");
    }
    Ok(())
}

/// A line for each part: name, status, latency, and what there is to say.
fn lines(response: &GetStatusResponse) -> String {
    let mut text = String::new();
    let width = response.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    for check in &response.checks {
        let status = check.status().as_str_name().trim_start_matches("STATUS_");
        let latency = Duration::try_from(check.latency.unwrap_or_default()).unwrap_or_default();
        let latency = format!("{latency:.1?}");
        let line = format!("{:<width$}  {status:<8}  {latency:>8}  {}", check.name, check.message);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use trivet_proto::mesh::v1::StatusCheck;

    use super::*;

    #[test]
    fn each_part_has_a_line_of_its_own() {
        let check = |name: &str, status: Status, micros: u64, message: &str| StatusCheck {
            name: name.to_owned(),
            status: status.into(),
            latency: Duration::from_micros(micros).try_into().ok(),
            message: message.to_owned(),
            ..StatusCheck::default()
        };
        let checks = vec![
            check("api", Status::Ok, 7, ""),
            check("database", Status::Degraded, 1_234_567, "the answer took 1234 ms"),
            check("billing", Status::Down, 2_000_000, "no answer within 2 s"),
        ];
        let told = lines(&GetStatusResponse { checks, ..GetStatusResponse::default() });
        assert_eq!(
            told,
            "\
api       OK           7.0µs
database  DEGRADED      1.2s  the answer took 1234 ms
billing   DOWN          2.0s  no answer within 2 s
"
        );
    }
}
