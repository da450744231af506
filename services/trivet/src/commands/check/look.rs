//! What `trivet check` looks at in one service: whether it can be reached and is ready, each part that its status names,
//! its clock and its release, and whether it says what it serves.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use mesh::{Clock, Time};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request,
    server_reflection_response,
};
use trivet_proto::mesh::v1::{
    GetStatusRequest, GetStatusResponse, Status as Standing, StatusCheck, status_service_client::StatusServiceClient,
};

use super::Check;
use crate::commands::service::{PATIENCE, Service};

/// Clocks that are further apart than this make replicas disagree on what is due.
const CLOCKS_APART: Duration = Duration::from_secs(1);

/// Looks at all of it; at no more than the first where nobody is there.
pub(super) async fn look(service: &Service) -> Vec<Check> {
    let reached = Check::well(format!("answers at {}", service.target));
    let ready = match readiness(service).await {
        Ok(status) => ready(status),
        Err(status) => {
            let start = format!("start it with `trivet serve`, or set {}.address to where it is", service.name);
            return vec![reached.error(said(&status), start)];
        }
    };
    let mut checks = vec![reached, ready];
    let asked = Clock::system().now();
    match StatusServiceClient::new(service.peer.clone()).get_status(service.call().onward(GetStatusRequest {})).await {
        Ok(response) => {
            let response = response.into_inner();
            checks.extend(response.checks.iter().filter(|part| part.name != "api").map(part));
            checks.push(clock(&response, asked));
            checks.push(release(&response));
        }
        Err(status) => checks.push(Check::well("tells its status").error(said(&status), "its log says more")),
    }
    checks.push(reflection(service).await);
    checks
}

/// What a failed call says, in a line.
fn said(status: &Status) -> String {
    format!("{}: {}", mesh::code_name(status.code()), status.message())
}

async fn readiness(service: &Service) -> Result<ServingStatus, Status> {
    let question = HealthCheckRequest { service: "readiness".to_owned() };
    let answer = HealthClient::new(service.peer.clone()).check(service.call().onward(question)).await?;
    Ok(answer.into_inner().status())
}

fn ready(status: ServingStatus) -> Check {
    // No process is ready before its schemas are up to date.
    let ready = Check::well("is ready, its schema up to date");
    match status {
        ServingStatus::Serving => ready,
        other => ready.error(other.as_str_name(), "its log says what it waits for, or that it was told to go"),
    }
}

/// A part, as its status has it.
fn part(part: &StatusCheck) -> Check {
    let check = Check::well(match part.message.as_str() {
        message if part.status() == Standing::Ok && !message.is_empty() => format!("{}: {message}", part.name),
        _ => part.name.clone(),
    });
    let hint = match part.name.as_str() {
        "database" => "`trivet migrate status` asks it from here",
        "events" => "`trivet events flow` says what waits, `trivet events dead` what was given up",
        _ => "`trivet status` asked of it says more, and so does its log",
    };
    match part.status() {
        Standing::Ok => check,
        Standing::Down => check.error(part.message.clone(), hint),
        Standing::Degraded | Standing::Unspecified => check.warning(part.message.clone(), hint),
    }
}

/// Whether its clock and ours agree, as far as the time on the way lets us know.
fn clock(response: &GetStatusResponse, asked: Time) -> Check {
    let (heard, check) = (Clock::system().now(), Check::well("its clock agrees with this machine's"));
    let Some(Ok(theirs)) = response.time.as_ref().map(Time::from_wire) else {
        return check.warning("it does not say what time it is", "");
    };
    let apart = theirs.since(heard).max(asked.since(theirs));
    if apart <= CLOCKS_APART {
        return check;
    }
    check.warning(format!("they are {apart:.1?} apart"), "have both follow the same time server")
}

fn release(response: &GetStatusResponse) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    let check = Check::well(format!("its release is {}", response.version));
    if response.version == ours {
        return check;
    }
    check.warning(format!("this command's is {ours}"), "what either knows that the other does not is not checked")
}

/// Whether it says what it serves, for grpcurl and the like.
async fn reflection(service: &Service) -> Check {
    let check = Check::well("answers reflection");
    match tokio::time::timeout(PATIENCE, names(service)).await {
        Ok(Ok(names)) => {
            let role = format!("/trivet.{}.", service.name);
            let served = |path: &&str| names.iter().any(|name| path.starts_with(&format!("/{name}/")));
            let ours = trivet_proto::METHODS.iter().map(|method| method.path);
            let mut missing: Vec<&str> =
                ours.filter(|path| path.starts_with(&role)).filter(|path| !served(path)).collect();
            missing.dedup_by_key(|path| path.rsplit_once('/').map(|(name, _)| name));
            match missing.first() {
                None => Check { description: format!("answers reflection: {} services", names.len()), ..check },
                Some(first) => check.error(format!("it does not serve {first}"), "is something else at this address?"),
            }
        }
        Ok(Err(status)) if status.code() == Code::Unimplemented => check.error(said(&status), "is this Trivet?"),
        Ok(Err(status)) => check.error(said(&status), "its log says more"),
        Err(_) => check.error(format!("no answer in {} s", PATIENCE.as_secs()), "its log says more"),
    }
}

/// The services that it says it serves.
async fn names(service: &Service) -> Result<Vec<String>, Status> {
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(service.peer.clone());
    // Open until the answer is there: a stream that ends asks for nothing.
    let questions = stream::iter([question]).chain(stream::pending());
    let mut answers = client.server_reflection_info(service.call().onward(questions)).await?.into_inner();
    match answers.message().await?.and_then(|answer| answer.message_response) {
        Some(server_reflection_response::MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        _ => Err(Status::unknown("it does not list its services")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check::Verdict;

    fn of(name: &str, status: Standing, message: &str) -> (String, Verdict) {
        let status = StatusCheck {
            name: name.to_owned(),
            status: status.into(),
            message: message.to_owned(),
            ..StatusCheck::default()
        };
        let check = part(&status);
        (check.description, check.result)
    }

    #[test]
    fn a_part_that_is_down_is_an_error_and_one_that_is_ill_a_warning() {
        assert_eq!(of("database", Standing::Ok, ""), ("database".to_owned(), Verdict::Success));
        assert_eq!(of("events", Standing::Ok, "in process"), ("events: in process".to_owned(), Verdict::Success));
        assert_eq!(of("events", Standing::Degraded, "slow"), ("events".to_owned(), Verdict::Warning));
        assert_eq!(of("billing", Standing::Down, "gone"), ("billing".to_owned(), Verdict::Error));
    }

    #[test]
    fn a_clock_is_wrong_where_no_moment_of_the_call_explains_it() {
        let now = Clock::system().now();
        let check = |theirs: Time, verdict| {
            let response = GetStatusResponse { time: Some(theirs.to_wire()), ..GetStatusResponse::default() };
            assert_eq!(clock(&response, now).result, verdict, "{theirs:?} at {now:?}");
        };
        check(now, Verdict::Success);
        check(now.minus(Duration::from_millis(900)), Verdict::Success);
        check(now.minus(Duration::from_secs(2)), Verdict::Warning);
        check(now.plus(Duration::from_mins(1)), Verdict::Warning);
    }
}
