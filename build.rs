//! Compiles the contract with protox, so that nobody needs protoc, and writes down what the schema promises of each
//! rpc, so that the mesh can read it.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorSet, MethodDescriptorProto, method_options::IdempotencyLevel};

/// Not ours, and yet no crate has all of it.
const HEALTH: &str = "proto/grpc/health/v1/health.proto";

#[allow(clippy::disallowed_methods, reason = "cargo tells build scripts by the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    // tonic-prost-build 0.14 stores this wish and never acts on it. Without the line any edit anywhere rebuilds
    // every service.
    println!("cargo::rerun-if-changed=proto/trivet");
    println!("cargo::rerun-if-changed={HEALTH}");

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    let files = proto_files(Path::new("proto/trivet"))?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?.open_file(HEALTH)?;
    let contract = compiler.file_descriptor_set();
    // Not encoded from `contract`, which knows no options of our own.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    fs::write(out.join("methods.rs"), method_table(&contract)?)?;
    fs::write(out.join("events.rs"), event_table(&compiler.descriptor_pool())?)?;
    let builder = tonic_prost_build::configure().build_transport(false);
    let builder = ["HealthCheckRequest", "HealthCheckResponse"].into_iter().fold(builder, |builder, message| {
        builder.extern_path(format!(".grpc.health.v1.{message}"), format!("::tonic_health::pb::{message}"))
    });
    builder.compile_fds(contract)?;
    Ok(())
}

/// Every .proto file under `folder`, in an order that does not depend on the file system.
fn proto_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The source of `METHODS`: one line per rpc, sorted by path.
fn method_table(contract: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut lines = Vec::new();
    for file in contract.file.iter().filter(|file| file.package().starts_with("trivet.")) {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let idempotency =
                    idempotency(method).ok_or_else(|| format!("{path} does not declare its idempotency_level"))?;
                let request_id = field_number(contract, method.input_type(), "request_id");
                let unary = !method.client_streaming() && !method.server_streaming();
                lines.push(format!(
                    "    Method {{ path: {path:?}, idempotency: Idempotency::{idempotency}, request_id: {request_id:?}, unary: {unary} }},"
                ));
            }
        }
    }
    lines.sort();
    let mut source = String::new();
    writeln!(source, "/// Every rpc of the contract, sorted by path.")?;
    writeln!(source, "pub const METHODS: &[Method] = &[\n{}\n];", lines.join("\n"))?;
    Ok(source)
}

/// The source of `EVENTS`, and of what makes each of their messages an `Event`.
fn event_table(contract: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    const OPTION: &str = "trivet.mesh.v1.event_type";
    let option =
        contract.get_extension_by_name(OPTION).ok_or_else(|| format!("the contract has no option {OPTION}"))?;
    let mut events = BTreeMap::new();
    for message in contract.all_messages().filter(|message| message.options().has_extension(&option)) {
        let kind = message.options().get_extension(&option).as_str().unwrap_or_default().to_owned();
        if let Some(other) = events.insert(kind.clone(), message.full_name().to_owned()) {
            return Err(format!("{other} and {} are both events of type {kind:?}", message.full_name()).into());
        }
    }
    let mut source = String::new();
    writeln!(source, "/// Every event of the contract, sorted by type.")?;
    writeln!(source, "pub const EVENTS: &[EventKind] = &[")?;
    for (kind, message) in &events {
        writeln!(source, "    EventKind {{ kind: {kind:?}, message: {message:?} }},")?;
    }
    writeln!(source, "];")?;
    for (kind, message) in &events {
        let path = message.trim_start_matches("trivet.").replace('.', "::");
        writeln!(source, "impl Event for {path} {{")?;
        writeln!(source, "    const KIND: EventKind = EventKind {{ kind: {kind:?}, message: {message:?} }};")?;
        writeln!(source, "}}")?;
    }
    Ok(source)
}

/// What the rpc says of being repeated; `None` where it says nothing.
fn idempotency(method: &MethodDescriptorProto) -> Option<&'static str> {
    method.options.as_ref()?.idempotency_level?;
    Some(match method.options.as_ref()?.idempotency_level() {
        IdempotencyLevel::NoSideEffects => "NoSideEffects",
        IdempotencyLevel::Idempotent => "Idempotent",
        IdempotencyLevel::IdempotencyUnknown => "Unknown",
    })
}

/// The number of the named field in the message `.package.Message`.
fn field_number(contract: &FileDescriptorSet, message: &str, field: &str) -> Option<i32> {
    contract
        .file
        .iter()
        .flat_map(|file| file.message_type.iter().map(move |kind| (file, kind)))
        .find(|(file, kind)| message == format!(".{}.{}", file.package(), kind.name()))?
        .1
        .field
        .iter()
        .find(|candidate| candidate.name() == field)?
        .number
}
