"""What no schema can say of this folder: that its files agree with each other, and with the code.

deploy/check calls it with the folder in which it has rendered the manifests.
"""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PORTS = {"account": 8202, "product": 8215, "billing": 8216}
ADMIN_PORT = 8200
faults = []


def expect(holds, fault):
    if not holds:
        faults.append(fault)


def is_within(part, whole):
    return part.items() <= whole.items()


def compose():
    text = (DEPLOY / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    syncs = re.search(r"^\s*sync_interval: always$", (DEPLOY / "nats.conf").read_text(), re.MULTILINE)
    for name, service in services.items():
        for port in service.get("ports", []):
            expect(str(port).startswith("127.0.0.1:"), f"compose: {name} publishes {port} to the whole network")
        expect("healthcheck" in service, f"compose: {name} has no health check")
        for other in service.get("depends_on", {}):
            expect(other in services, f"compose: {name} depends on {other}, which is not there")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = not source.startswith(".") or (DEPLOY / source).is_file()
            expect(there, f"compose: {name} mounts {source}, which is not there")
    for role, port in PORTS.items():
        service = services[role]
        expect(service["command"] == ["serve", role], f"compose: {role} serves something else")
        expect(service["ports"] == [f"127.0.0.1:{port}:{port}"], f"compose: {role} is not on {port}")
        own = f"TRIVET_{role.upper()}_DATABASE_URL"
        expect(own in service["environment"], f"compose: {role} has no database")
        nats = service["environment"].get("TRIVET_EVENTS_NATS_URL", "nothing")
        host = nats.removeprefix("nats://").partition(":")[0]
        expect(host in services, f"compose: {role} has its events carried by {nats}, which is not there")
        condition = service["depends_on"].get(host, {}).get("condition", "service_started")
        expect(condition == "service_started", f"compose: {role} waits for NATS until it is {condition}")
        # The services cannot ask NATS when it writes to its disk: they believe what they are told.
        always = service["environment"].get("TRIVET_EVENTS_NATS_SYNC_ALWAYS") == "true"
        expect(not always or syncs, f"compose: {role} believes that NATS always writes to its disk at once")
        expect(seconds(service["stop_grace_period"]) > 25, f"compose: {role} is killed before it has drained")
    expect(services["migrate"]["command"] == ["migrate", "up"], "compose: migrate does something else")
    # A shell that exports one of our own names for something else would keep `cargo run` from starting.
    for name in re.findall(r"\$\{(\w+)", text):
        expect(not name.startswith("TRIVET_"), f"compose: {name} would be taken for a setting")
    return {variable for service in services.values() for variable in service.get("environment", {})}


def seconds(text):
    return int(text.removesuffix("s"))


def kubernetes(path):
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    layer = path.stem
    of = lambda kind: {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}
    namespaces = {one["metadata"].get("namespace") for one in documents if one["kind"] != "Namespace"}
    expect(len(namespaces) == 1, f"{layer}: several namespaces: {namespaces}")
    deployments, jobs, services, settings = of("Deployment"), of("Job"), of("Service"), of("ConfigMap")
    expect(deployments.keys() == PORTS.keys(), f"{layer}: deployments are {list(deployments)}")
    pods = {name: one["spec"]["template"] for name, one in (deployments | jobs).items()}
    variables, images = set(), set()
    for name, pod in pods.items():
        containers = pod["spec"]["containers"]
        expect(len(containers) == 1, f"{layer}: {name} has {len(containers)} containers")
        container = containers[0]
        images.add(container["image"])
        restricted(f"{layer}: {name}", pod["spec"], container)
        expect(pod["spec"].get("enableServiceLinks") is False, f"{layer}: {name} has service links")
        for source in container["envFrom"]:
            chosen = settings.get(source["configMapRef"]["name"])
            expect(chosen is not None, f"{layer}: {name} has no settings")
            variables.update((chosen or {}).get("data", {}))
        addresses = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container.get("env", [])}
        variables.update(addresses)
        # Who serves one role alone does not start without; the migration has nothing to tell.
        nats = addresses.pop("TRIVET_EVENTS_NATS_URL", None)
        wanted = {"name": "trivet-nats", "key": "url"} if name in PORTS else None
        expect(nats == wanted, f"{layer}: {name} has its events carried by {nats}")
        for variable, secret in addresses.items():
            role = secret["key"].removesuffix("-url")
            expect(secret["name"] == "trivet-database", f"{layer}: {name} reads the secret {secret['name']}")
            expect(
                role in PORTS and variable == f"TRIVET_{role.upper()}_DATABASE_URL",
                f"{layer}: {name} reads {secret['key']} into {variable}",
            )
            # One that can read another's database could write into it too.
            expect(name in (role, "trivet-migrate"), f"{layer}: {name} is given the database of {role}")
        expect(addresses, f"{layer}: {name} has no database")
    expect(len(images) == 1, f"{layer}: several images: {images}")
    for role, port in PORTS.items():
        deployment, pod = deployments[role], pods[role]
        container = pod["spec"]["containers"][0]
        expect(container["args"] == ["serve", role], f"{layer}: {role} serves something else")
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        expect(ports == {"admin": ADMIN_PORT, "grpc": port}, f"{layer}: {role} has the ports {ports}")
        for probe, service in (("startup", "liveness"), ("liveness", "liveness"), ("readiness", "readiness")):
            asked = container[f"{probe}Probe"]["grpc"]
            expect(asked == {"port": ADMIN_PORT, "service": service}, f"{layer}: {role}: {probe} asks {asked}")
        chosen = settings[container["envFrom"][0]["configMapRef"]["name"]]["data"]
        drain = (int(chosen["TRIVET_SERVER_ANNOUNCE_MS"]) + int(chosen["TRIVET_SERVER_GRACE_MS"])) / 1000
        grace = pod["spec"]["terminationGracePeriodSeconds"]
        expect(grace >= drain + 5, f"{layer}: {role} is killed after {grace} s and needs {drain} s to drain")
        selector = deployment["spec"]["selector"]["matchLabels"]
        chosen_by = lambda one: [name for name, pod in pods.items() if is_within(one, pod["metadata"]["labels"])]
        expect(chosen_by(selector) == [role], f"{layer}: the deployment {role} selects {chosen_by(selector)}")
        for constraint in pod["spec"]["topologySpreadConstraints"]:
            expect(constraint["labelSelector"]["matchLabels"] == selector, f"{layer}: {role} spreads other pods")
        for name in (role, f"{role}-headless"):
            service = services[name]["spec"]
            expect(chosen_by(service["selector"]) == [role], f"{layer}: the service {name} selects other pods")
            expect([one["port"] for one in service["ports"]] == [port], f"{layer}: the service {name} is not on {port}")
            expect(all(one["targetPort"] in ports for one in service["ports"]), f"{layer}: {name} leads nowhere")
        expect(services[f"{role}-headless"]["spec"].get("clusterIP") == "None", f"{layer}: {role}-headless is not")
        budget = of("PodDisruptionBudget")[role]["spec"]["selector"]["matchLabels"]
        expect(chosen_by(budget) == [role], f"{layer}: the disruption budget {role} selects other pods")
        # Without its certificates a process does not start, and those of another role would not be believed.
        certificate = pathlib.PurePosixPath(chosen.get("TRIVET_TLS_CERTIFICATE", ""))
        mounted = {one["name"]: one["mountPath"] for one in container.get("volumeMounts", [])}
        secrets = {one["name"]: one.get("secret", {}).get("secretName") for one in pod["spec"].get("volumes", [])}
        here = [secrets.get(name) for name, folder in mounted.items() if folder == str(certificate.parent)]
        wanted = [f"{role}-tls"] if certificate.name else []
        expect(here == wanted, f"{layer}: {role} has its certificates from {here}")
    for data in (one["data"] for one in settings.values()):
        for variable, value in data.items():
            if variable.endswith("_ADDRESS"):
                for target in value.split(","):
                    host, _, port = target.rpartition(":")
                    known = services.get(host, {}).get("spec", {}).get("ports", [])
                    expect(int(port) in [one["port"] for one in known], f"{layer}: {variable}: no service is {target}")
    for name, policy in of("NetworkPolicy").items():
        chosen = policy["spec"]["podSelector"]["matchLabels"]
        missed = [pod for pod in pods if not is_within(chosen, pods[pod]["metadata"]["labels"])]
        expect(not missed, f"{layer}: the network policy {name} leaves out {missed}")
    return variables


def restricted(name, pod, container):
    """Pod Security Standards, "restricted", and a root file system that cannot be written."""
    outer, inner = pod["securityContext"], container["securityContext"]
    expect(outer.get("runAsNonRoot") is True and outer.get("runAsUser", 0) > 0, f"{name} may run as root")
    expect(outer.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{name} has no seccomp profile")
    expect(inner.get("allowPrivilegeEscalation") is False, f"{name} may gain privileges")
    expect(inner.get("readOnlyRootFilesystem") is True, f"{name} may write its root")
    expect(inner.get("capabilities") == {"drop": ["ALL"]}, f"{name} has capabilities")
    secrets = all(one.keys() == {"name", "secret"} for one in pod.get("volumes", []))
    expect(secrets and not pod.get("hostNetwork"), f"{name} reaches into its node")


def dockerfile():
    text = (DEPLOY / "Dockerfile").read_text()
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        copied.update(line.split()[:-1])
    expect(copied == admitted, f"Dockerfile copies {sorted(copied)}, .dockerignore lets in {sorted(admitted)}")
    for name in copied:
        expect((ROOT / name).exists(), f"Dockerfile copies {name}, which is not there")
    exposed = set(map(int, re.search(r"^EXPOSE (.*)$", text, re.MULTILINE)[1].split()))
    expect(exposed == {ADMIN_PORT, *PORTS.values()}, f"Dockerfile exposes {sorted(exposed)}")
    version = re.search(r'^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    expect(f"FROM rust:{version}-" in text, f"Dockerfile does not build with Rust {version}")


def alerts():
    """An alert on a metric that nobody counts any more never speaks again."""
    counted = {"up"}
    for path in (ROOT / "services").rglob("*.rs"):
        for name in re.findall(r'"([a-z][a-z_]*(?:\.[a-z_]+)+)"', path.read_text()):
            counted.add(name.replace(".", "_"))
    readme = (DEPLOY / "README.md").read_text()
    for group in yaml.safe_load((DEPLOY / "observability" / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            # What stands in braces, or in brackets after `by` and `on`, are labels.
            expr = re.sub(r"\{[^}]*\}|\b(?:by|on) \([^)]*\)", "", rule["expr"])
            for metric in re.findall(r"\b(?:rpc|grpc|trivet)_\w+", expr):
                plain = re.sub(r"(_seconds)?(_(count|bucket|total))?$", "", metric)
                expect(plain in counted, f"{rule['alert']}: nobody counts {metric}")
            heading = rule["annotations"]["runbook"]
            expect(heading == f"deploy/README.md#{rule['alert'].lower()}", f"{rule['alert']}: runbook is {heading}")
            expect(f"### {rule['alert']}\n" in readme, f"{rule['alert']} is not in deploy/README.md")


def settings(variables):
    """Every variable that is set here is one that the binary knows: it refuses to start with any other."""
    table = (DEPLOY / "README.md").read_text()
    table = table.split("<!-- settings: begin -->")[1].split("<!-- settings: end -->")[0]
    known = set(re.findall(r"TRIVET_[A-Z_]+", table))
    ours = {variable for variable in variables if variable.startswith("TRIVET_")}
    if known:
        expect(ours <= known, f"not settings of the binary: {sorted(ours - known)}")


rendered = sorted(pathlib.Path(sys.argv[1]).glob("*.yaml"))
expect(len(rendered) == 3, f"{len(rendered)} layers were rendered")
variables = compose()
for path in rendered:
    variables |= kubernetes(path)
dockerfile()
alerts()
settings(variables)
for fault in faults:
    print(fault)
sys.exit(1 if faults else 0)
