//! What `Dockerfile` and `deploy/` say, against the program and against each other: configurations load and start, ports,
//! user ids and paths agree, stopping has the time it needs, and no network policy leaves a way around the gateway.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/binary.rs"]
mod binary;
mod support;

use binary::{FREE_PORTS, Gateway, post, project_file, project_text, run};
use prost::Message;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::LazyLock,
};
use support::{request, span, string, token};

const OTLP: [u64; 2] = [4317, 4318];
const METRICS: u64 = 8888;
const HEALTH: u64 = 13133;
const USER: u64 = 10001;

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&project_text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yamls(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&project_text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The value at a JSON pointer, which has to be there.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// The port of `host:port`.
fn port(endpoint: &Value) -> u64 {
    endpoint.as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

/// Seconds that the program takes at most to drain, as it says itself when it is stopped.
static DRAIN: LazyLock<u64> = LazyLock::new(|| {
    let (status, log) = Gateway::spawn(&FREE_PORTS).stop();
    let log = log.join("\n");
    assert!(status.success(), "{log}");
    let (_, rest) = log.split_once("\"deadline_seconds\":").unwrap_or_else(|| panic!("{log}"));
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
});

/// Where a configuration listens: the OTLP ports, metrics, health.
fn listens(config: &Value) -> [u64; 4] {
    let protocols = at(config, "/receivers/otlp/protocols");
    let prometheus = at(config, "/service/telemetry/metrics/readers/0/pull/exporter/prometheus");
    [
        port(at(protocols, "/grpc/endpoint")),
        port(at(protocols, "/http/endpoint")),
        prometheus["port"].as_u64().unwrap(),
        port(at(config, "/extensions/health_check/endpoint")),
    ]
}

/// Starts a shipped configuration on free ports, and masks with it.
fn starts_and_takes_a_request(path: &str) {
    let file = project_file(path);
    // Nobody listens there; the gateway is killed at the end with what it has queued.
    let gateway =
        Gateway::spawn_with(&[&["--config", &file][..], &FREE_PORTS].concat(), [("COLLECTOR_ENDPOINT", "127.0.0.1:9")]);
    let body = request(vec![span(1, "packaging", vec![string("key", &token())])]).encode_to_vec();
    assert_eq!(post(gateway.address("http"), &body), 200, "{path}");
    let ready = gateway.seen.iter().find(|line| line.contains("\"unmasked\":\"none\""));
    assert!(ready.is_some(), "{path}: {:?}", gateway.seen);
}

mod dockerfile {
    use super::*;

    /// The instructions, continued lines joined, comments gone.
    fn instructions() -> Vec<(String, String)> {
        let text = project_text("Dockerfile");
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let joined = lines.join("\n").replace("\\\n", " ");
        let split = |line: &str| line.split_once(' ').map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()));
        joined.lines().filter_map(split).collect()
    }

    fn final_stage() -> BTreeMap<String, String> {
        let all = instructions();
        let start = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
        all[start..].iter().cloned().collect()
    }

    pub fn command() -> Vec<String> {
        serde_json::from_str(&final_stage()["CMD"]).unwrap()
    }

    #[test]
    fn the_final_stage_has_nothing_but_the_program() {
        let stage = final_stage();
        assert_eq!(stage["FROM"], "scratch");
        assert_eq!(stage["USER"], format!("{USER}:{USER}"));
        assert_eq!(stage["ENTRYPOINT"], "[\"/tracegate\"]");
        assert_eq!(stage["STOPSIGNAL"], "SIGTERM");
        assert!(!stage.contains_key("RUN"), "there is no shell to run anything");
        assert!(project_text("Dockerfile").contains(&format!("chown {USER}:{USER} var/lib/tracegate")));
    }

    #[test]
    fn the_command_starts_the_configuration_that_is_copied() {
        let command = command();
        assert_eq!(command[0], "--config");
        let copied = instructions().into_iter().find_map(|(word, rest)| {
            (word == "COPY").then_some(rest)?.strip_prefix("deploy/image.yaml ").map(str::to_owned)
        });
        assert_eq!(command[1], format!("/{}", copied.unwrap()));
        starts_and_takes_a_request("deploy/image.yaml");
    }

    #[test]
    fn the_ports_are_those_of_the_images_configuration() {
        let config = yaml("deploy/image.yaml");
        let mut listens = listens(&config).to_vec();
        listens.sort_unstable();
        let exposed: Vec<u64> = final_stage()["EXPOSE"].split(' ').map(|port| port.parse().unwrap()).collect();
        assert_eq!(exposed, listens);
        assert_eq!(listens, [OTLP[0], OTLP[1], METRICS, HEALTH]);
    }

    /// The image has no curl; what it has must exist, and ask where the image's configuration listens.
    #[test]
    fn the_health_check_is_a_command_of_the_program() {
        let check = final_stage()["HEALTHCHECK"].clone();
        let command: Vec<String> = serde_json::from_str(check.split_once("CMD ").unwrap().1).unwrap();
        assert_eq!(command, ["/tracegate", "healthcheck"]);
        let help = run(&["healthcheck", "--help"], []);
        assert_eq!(help.code, Some(0));
        let health = port(at(&yaml("deploy/image.yaml"), "/extensions/health_check/endpoint"));
        assert!(help.stdout.contains(&format!("[default: http://127.0.0.1:{health}/]")), "{}", help.stdout);
    }

    #[test]
    fn the_context_has_what_is_copied_and_only_that() {
        let ignore = project_text(".dockerignore");
        let rules: Vec<&str> = ignore.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(rules[0], "*", "everything is left out that is not let in");
        let let_in: BTreeSet<&str> = rules[1..].iter().map(|rule| rule.strip_prefix('!').unwrap()).collect();
        let copied: BTreeSet<String> = instructions()
            .into_iter()
            .filter(|(word, rest)| word == "COPY" && !rest.starts_with("--from"))
            .flat_map(|(_, rest)| {
                let mut sources: Vec<String> = rest.split(' ').map(str::to_owned).collect();
                sources.pop();
                sources
            })
            .collect();
        assert_eq!(let_in, copied.iter().map(String::as_str).collect());
        for source in copied {
            assert!(Path::new(&project_file(&source)).exists(), "{source}");
        }
    }

    /// The build in the image sees only what is copied; a file that is compiled in from elsewhere would break it there.
    #[test]
    fn what_is_compiled_in_is_copied() {
        let copied = ["src", "pipelines"].map(project_file);
        let mut open = vec![project_file("src").into()];
        let mut seen = 0;
        while let Some(path) = open.pop() {
            let path: std::path::PathBuf = path;
            if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let uses = ["include_str!(\"", "include_bytes!(\""];
            for included in uses.iter().flat_map(|start| text.split(start).skip(1)) {
                let file = path.parent().unwrap().join(included.split('"').next().unwrap());
                let file = file.canonicalize().unwrap_or_else(|error| panic!("{file:?} in {path:?}: {error}"));
                assert!(copied.iter().any(|copied| file.starts_with(copied)), "{file:?} in {path:?}");
                seen += 1;
            }
        }
        assert!(seen > 2, "{seen}");
    }

    #[test]
    fn only_configurations_for_containers_listen_on_every_address() {
        let default = run(&["print-config"], []);
        assert!(!default.stdout.contains("0.0.0.0"), "{}", default.stdout);
        for entry in std::fs::read_dir(project_file("pipelines")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let configured = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            assert!(path.extension().is_some_and(|end| end == "md") || configured.clone().count() > 0);
            assert!(configured.filter(|line| line.contains("endpoint: 0.0.0.0")).count() == 0, "{path:?}");
        }
    }
}

mod compose {
    use super::*;

    fn networks<'a>(compose: &'a Value, service: &str) -> BTreeSet<&'a str> {
        strings(at(compose, &format!("/services/{service}/networks"))).into_iter().collect()
    }

    #[test]
    fn there_is_no_way_around_the_gateway() {
        let compose = yaml("deploy/compose.yaml");
        let (agent, gateway) = (networks(&compose, "agent"), networks(&compose, "tracegate"));
        assert!(!agent.is_disjoint(&gateway));
        for store in ["collector", "jaeger"] {
            assert!(networks(&compose, store).is_disjoint(&agent), "{store}");
        }
        assert!(!networks(&compose, "collector").is_disjoint(&gateway));
        assert!(!networks(&compose, "collector").is_disjoint(&networks(&compose, "jaeger")));
        assert_eq!(at(&compose, "/networks/backend/internal"), true);
        let services = at(&compose, "/services").as_object().unwrap();
        for (name, service) in services {
            for published in service.get("ports").map(strings).unwrap_or_default() {
                assert!(published.starts_with("127.0.0.1:"), "{name}: {published}");
            }
            for network in strings(&service["networks"]) {
                assert!(compose["networks"].get(network).is_some(), "{network}");
            }
        }
    }

    #[test]
    fn the_gateway_is_confined_and_has_time_to_drain() {
        let compose = yaml("deploy/compose.yaml");
        let gateway = at(&compose, "/services/tracegate");
        assert_eq!(gateway["read_only"], true);
        assert_eq!(gateway["cap_drop"], json!(["ALL"]));
        let grace = gateway["stop_grace_period"].as_str().unwrap().strip_suffix('s').unwrap();
        assert!(grace.parse::<u64>().unwrap() > *DRAIN);
        // The health the agent waits for is the image's own.
        assert_eq!(at(&compose, "/services/agent/depends_on/tracegate/condition"), "service_healthy");
    }

    #[test]
    fn what_is_mounted_exists_and_is_what_is_started() {
        let compose = yaml("deploy/compose.yaml");
        for (name, service) in at(&compose, "/services").as_object().unwrap() {
            for mount in service.get("volumes").map(strings).unwrap_or_default() {
                let source = mount.split(':').next().unwrap().strip_prefix("./").unwrap();
                assert!(Path::new(&project_file(&format!("deploy/{source}"))).exists(), "{name}: {mount}");
                assert!(mount.ends_with(":ro"), "{name}: {mount}");
            }
        }
        let mounted = strings(at(&compose, "/services/tracegate/volumes"))[0];
        assert_eq!(mounted.split(':').nth(1).unwrap(), dockerfile::command()[1]);
        starts_and_takes_a_request("deploy/compose/tracegate.yaml");
    }

    #[test]
    fn each_sends_to_where_the_next_listens() {
        let compose = yaml("deploy/compose.yaml");
        let (gateway, collector) = (yaml("deploy/compose/tracegate.yaml"), yaml("deploy/compose/collector.yaml"));
        let agent = at(&compose, "/services/agent/environment/OTEL_EXPORTER_OTLP_ENDPOINT");
        assert_eq!(agent, "http://tracegate:4318");
        assert_eq!(port(agent), port(at(&gateway, "/receivers/otlp/protocols/http/endpoint")));
        let to = at(&gateway, "/exporters/otlp_grpc~1collector/endpoint").as_str().unwrap();
        let default = to.split_once(":-").unwrap().1.strip_suffix('}').unwrap();
        assert_eq!(default.split(':').next(), Some("collector"));
        assert_eq!(port(&json!(default)), port(at(&collector, "/receivers/otlp/protocols/grpc/endpoint")));
        let to = at(&collector, "/exporters/otlp_grpc~1jaeger/endpoint").as_str().unwrap();
        assert!(compose["services"].get(to.split(':').next().unwrap()).is_some());
    }
}

mod kubernetes {
    use super::*;

    fn deployment() -> Value {
        yaml("deploy/kubernetes/deployment.yaml")
    }

    fn container(deployment: &Value) -> &Value {
        let containers = at(deployment, "/spec/template/spec/containers").as_array().unwrap();
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    /// Named ports of the container.
    fn ports() -> BTreeMap<String, u64> {
        let deployment = deployment();
        let ports = container(&deployment)["ports"].as_array().unwrap().clone();
        ports
            .iter()
            .map(|port| (port["name"].as_str().unwrap().to_owned(), port["containerPort"].as_u64().unwrap()))
            .collect()
    }

    #[test]
    fn the_configuration_loads_and_starts_with_the_containers_environment() {
        let config = project_text("deploy/kubernetes/config.yaml");
        let deployment = deployment();
        let environment: BTreeSet<&str> = container(&deployment)["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|variable| variable["name"].as_str().unwrap())
            .collect();
        let used: BTreeSet<&str> =
            config.split("${env:").skip(1).map(|rest| rest.split(['}', ':']).next().unwrap()).collect();
        assert!(!used.is_empty() && used.is_subset(&environment), "{used:?} {environment:?}");
        starts_and_takes_a_request("deploy/kubernetes/config.yaml");
    }

    #[test]
    fn every_port_is_where_the_configuration_listens() {
        let [grpc, http, metrics, health] = listens(&yaml("deploy/kubernetes/config.yaml"));
        let expected: BTreeMap<String, u64> =
            [("otlp-grpc", grpc), ("otlp-http", http), ("metrics", metrics), ("health", health)]
                .map(|(name, port)| (name.to_owned(), port))
                .into();
        assert_eq!(ports(), expected);
        for port in yaml("deploy/kubernetes/service.yaml").pointer("/spec/ports").unwrap().as_array().unwrap() {
            let target = port["targetPort"].as_str().unwrap();
            assert_eq!(expected[target], port["port"].as_u64().unwrap(), "{target}");
        }
        let deployment = deployment();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let probe = &container(&deployment)[probe];
            assert_eq!(probe["httpGet"], json!({"path": "/", "port": "health"}));
        }
        assert_eq!(
            at(&deployment, "/spec/template/metadata/annotations/prometheus.io~1port"),
            &json!(metrics.to_string())
        );
    }

    #[test]
    fn the_pod_is_confined_as_the_image_allows() {
        let deployment = deployment();
        let pod = at(&deployment, "/spec/template/spec");
        assert_eq!(
            pod["securityContext"],
            json!({"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                   "seccompProfile": {"type": "RuntimeDefault"}})
        );
        assert_eq!(
            container(&deployment)["securityContext"],
            json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
        );
        assert_eq!(pod["automountServiceAccountToken"], false);
        let account = yaml("deploy/kubernetes/serviceaccount.yaml");
        assert_eq!(
            (&account["automountServiceAccountToken"], at(&account, "/metadata/name")),
            (&json!(false), &pod["serviceAccountName"])
        );
        assert!(container(&deployment)["resources"]["limits"].get("memory").is_some(), "memory_limiter needs it");
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let before = at(container(&deployment), "/lifecycle/preStop/sleep/seconds").as_u64().unwrap();
        assert!(grace > before + *DRAIN, "{grace} {before} {}", *DRAIN);
        // No command: the image's entrypoint takes the arguments.
        assert!(container(&deployment).get("command").is_none());
    }

    #[test]
    fn the_kustomization_ties_the_parts_together() {
        let kustomization = yaml("deploy/kubernetes/kustomization.yaml");
        for resource in strings(&kustomization["resources"]) {
            assert!(Path::new(&project_file(&format!("deploy/kubernetes/{resource}"))).exists(), "{resource}");
        }
        let deployment = deployment();
        let generated = at(&kustomization, "/configMapGenerator/0");
        assert_eq!(&generated["name"], at(&deployment, "/spec/template/spec/volumes/0/configMap/name"));
        assert_eq!(&generated["namespace"], at(&deployment, "/metadata/namespace"));
        let file = strings(&generated["files"])[0];
        let mounted = at(container(&deployment), "/volumeMounts/0");
        assert_eq!(mounted["name"], *at(&deployment, "/spec/template/spec/volumes/0/name"));
        let path = mounted["mountPath"].as_str().unwrap();
        assert_eq!(container(&deployment)["args"], json!([format!("--config={path}/{file}")]));
        assert_eq!(at(&kustomization, "/images/0/name"), &container(&deployment)["image"]);
        let version = at(&kustomization, "/images/0/newTag").as_str().unwrap();
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
        let labels = at(&deployment, "/spec/template/metadata/labels");
        for (file, selector) in [
            ("deployment", "/spec/selector/matchLabels"),
            ("service", "/spec/selector"),
            ("poddisruptionbudget", "/spec/selector/matchLabels"),
        ] {
            assert_eq!(at(&yaml(&format!("deploy/kubernetes/{file}.yaml")), selector), labels, "{file}");
        }
        let scaled = yaml("deploy/kubernetes/horizontalpodautoscaler.yaml");
        assert_eq!(at(&scaled, "/spec/scaleTargetRef/name"), at(&deployment, "/metadata/name"));
    }

    /// A pod, or an address outside the cluster.
    #[derive(Clone)]
    struct Peer {
        namespace: &'static str,
        labels: Value,
        outside: bool,
    }

    impl Peer {
        fn pod(namespace: &'static str, name: &str) -> Peer {
            Peer { namespace, labels: json!({"app.kubernetes.io/name": name}), outside: false }
        }

        fn selected_by(&self, labels: Option<&Value>) -> bool {
            let wanted = labels.and_then(|selector| selector.get("matchLabels")).and_then(Value::as_object);
            wanted.is_none_or(|wanted| wanted.iter().all(|(key, value)| self.labels.get(key) == Some(value)))
        }

        fn matches(&self, peer: &Value) -> bool {
            if let Some(block) = peer.get("ipBlock") {
                // Pods have addresses of these ranges.
                let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
                let excepted = block.get("except").map(strings).unwrap_or_default();
                return self.outside || !private.iter().all(|range| excepted.contains(range));
            }
            let name = at(peer, "/namespaceSelector/matchLabels/kubernetes.io~1metadata.name");
            !self.outside && name == self.namespace && self.selected_by(peer.get("podSelector"))
        }
    }

    /// Whether policies let `subject` talk to `other`, as `spec.policyTypes`, `ingress` and `egress` are defined: what
    /// no policy selects is open, and of those that do one has to allow it.
    fn open(policies: &[Value], direction: &str, subject: &Peer, other: &Peer, port: u64) -> bool {
        let (kind, peers) = if direction == "ingress" { ("Ingress", "from") } else { ("Egress", "to") };
        let selecting: Vec<&Value> = policies
            .iter()
            .filter(|policy| at(policy, "/metadata/namespace") == subject.namespace && !subject.outside)
            .filter(|policy| strings(at(policy, "/spec/policyTypes")).contains(&kind))
            .filter(|policy| subject.selected_by(at(policy, "/spec").get("podSelector")))
            .collect();
        selecting.is_empty()
            || selecting.iter().flat_map(|policy| at(policy, &format!("/spec/{direction}")).as_array().unwrap()).any(
                |rule| {
                    let ports = rule["ports"].as_array().unwrap();
                    ports.iter().any(|open| open["port"] == port && open["protocol"] == "TCP")
                        && rule[peers].as_array().unwrap().iter().any(|peer| other.matches(peer))
                },
            )
    }

    #[test]
    fn no_network_policy_leaves_a_way_around_the_gateway() {
        let policies = yamls("deploy/kubernetes/networkpolicies.yaml");
        let labels = at(&deployment(), "/spec/template/metadata/labels").clone();
        let gateway = Peer { namespace: "tracegate", labels, outside: false };
        let agent = Peer::pod("agents", "support-agent");
        let collector = Peer::pod("observability", "opentelemetry-collector");
        let prometheus = Peer::pod("observability", "prometheus");
        let stranger = Peer::pod("default", "stranger");
        let internet = Peer { namespace: "", labels: json!({}), outside: true };
        let reaches = |from: &Peer, to: &Peer, port| {
            open(&policies, "egress", from, to, port) && open(&policies, "ingress", to, from, port)
        };
        let health = ports()["health"];
        for port in OTLP {
            assert!(reaches(&agent, &gateway, port));
            assert!(!reaches(&stranger, &gateway, port));
            for other in [&agent, &stranger, &prometheus, &internet] {
                assert!(!reaches(other, &collector, port), "{port} from {}", other.namespace);
            }
            assert!(!reaches(&agent, &internet, port));
        }
        assert!(reaches(&gateway, &collector, 4317));
        assert!(reaches(&prometheus, &gateway, METRICS) && !reaches(&agent, &gateway, METRICS));
        assert!(!reaches(&agent, &gateway, health) && !reaches(&agent, &stranger, 443));
        assert!(reaches(&agent, &internet, 443), "agents call model providers");
        assert!(!reaches(&gateway, &internet, 443), "the gateway does not");
        // The port it sends to is the one the configuration names.
        let deployment = deployment();
        assert_eq!(port(at(container(&deployment), "/env/0/value")), 4317);
    }
}

mod systemd {
    use super::*;

    fn unit() -> BTreeMap<String, Vec<String>> {
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in project_text("deploy/systemd/tracegate.service").lines().filter(|line| !line.starts_with('#')) {
            if let Some((key, value)) = line.split_once('=') {
                settings.entry(key.to_owned()).or_default().push(value.to_owned());
            }
        }
        settings
    }

    fn seconds(value: &str) -> u64 {
        value.strip_suffix('s').unwrap().parse().unwrap()
    }

    #[test]
    fn the_unit_starts_what_the_environment_file_says() {
        let unit = unit();
        assert_eq!(unit["EnvironmentFile"], ["/etc/tracegate/tracegate.conf"]);
        assert_eq!(unit["ExecStart"], ["/usr/bin/tracegate $TRACEGATE_OPTIONS"]);
        assert_eq!(unit["ExecReload"], ["/bin/kill -HUP $MAINPID"]);
        let file = project_text("deploy/systemd/tracegate.conf");
        let options = file.lines().find_map(|line| line.strip_prefix("TRACEGATE_OPTIONS=")).unwrap().trim_matches('"');
        // systemd splits an unquoted $VARIABLE at spaces, as here.
        let config = options.split(' ').collect::<Vec<_>>();
        assert_eq!(config, ["--config=/etc/tracegate/config.yaml"]);
        let here = format!("--config={}", project_file("pipelines/default.yaml"));
        assert_eq!(run(&["validate", &here], []).code, Some(0), "the form of the argument is right");
    }

    #[test]
    fn stopping_has_the_time_it_needs_and_nothing_reaches_the_disk() {
        let unit = unit();
        assert!(seconds(&unit["TimeoutStopSec"][0]) > *DRAIN);
        for (key, value) in [
            ("KillMode", "mixed"),
            ("Restart", "on-failure"),
            ("DynamicUser", "yes"),
            ("StateDirectory", "tracegate"),
            ("StateDirectoryMode", "0700"),
            ("LimitCORE", "0"),
            ("MemorySwapMax", "0"),
            ("CapabilityBoundingSet", ""),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
        ] {
            assert_eq!(unit[key], [value], "{key}");
        }
        // Arguments that are wrong end with this code, and are wrong the next time as well.
        assert_eq!(unit["RestartPreventExitStatus"], ["2"]);
        assert_eq!(run(&["--no-such-flag"], []).code, Some(2));
    }
}

mod helm {
    use super::*;

    /// What the official chart's values have at the places this file changes, as far as they matter here.
    fn chart() -> Value {
        let ports = |ports: &[(&str, u64, bool)]| -> Value {
            ports
                .iter()
                .map(|(name, port, enabled)| (name.to_string(), json!({"containerPort": port, "enabled": enabled})))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let pod = |port: u64| format!("${{env:MY_POD_IP}}:{port}");
        let pipeline = |receivers: &[&str]| json!({"receivers": receivers, "processors": ["memory_limiter", "batch"], "exporters": ["debug"]});
        json!({
            "ports": ports(&[("otlp", 4317, true), ("otlp-http", 4318, true), ("jaeger-compact", 6831, true), ("jaeger-thrift", 14268, true), ("jaeger-grpc", 14250, true), ("zipkin", 9411, true), ("metrics", 8888, false)]),
            "config": {
                "receivers": {
                    "otlp": {"protocols": {"grpc": {"endpoint": pod(4317)}, "http": {"endpoint": pod(4318)}}},
                    "jaeger": {"protocols": {"grpc": {"endpoint": pod(14250)}}},
                    "zipkin": {"endpoint": pod(9411)},
                    "prometheus": {"config": {"scrape_configs": []}},
                },
                "processors": {"batch": {}, "memory_limiter": {"check_interval": "5s", "limit_percentage": 80, "spike_limit_percentage": 25}},
                "exporters": {"debug": {}},
                "extensions": {"health_check": {"endpoint": pod(13133)}},
                "service": {
                    "extensions": ["health_check"],
                    "telemetry": {
                        "resource": {"k8s.pod.ip": "${env:OTEL_K8S_POD_IP}"},
                        "metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "${env:MY_POD_IP}", "port": 8888}}}}]},
                    },
                    "pipelines": {
                        "traces": pipeline(&["otlp", "jaeger", "zipkin"]),
                        "logs": pipeline(&["otlp"]),
                        "metrics": pipeline(&["otlp", "prometheus"]),
                    },
                },
            },
        })
    }

    /// Helm's merge: maps deeply, null removes, everything else replaces.
    fn merge(into: &mut Value, values: &Value) {
        match (into, values) {
            (Value::Object(into), Value::Object(values)) => {
                for (key, value) in values {
                    if value.is_null() {
                        into.remove(key);
                    } else {
                        merge(into.entry(key).or_insert(Value::Null), value);
                    }
                }
            }
            (into, values) => *into = values.clone(),
        }
    }

    #[test]
    fn the_charts_configuration_with_these_values_loads_and_starts() {
        let values = yaml("deploy/helm/values-opentelemetry-collector.yaml");
        let mut merged = chart();
        merge(&mut merged, &values);
        let config = format!("yaml:{}", merged["config"]);
        let variables = [("MY_POD_IP", "127.0.0.1"), ("OTEL_K8S_POD_IP", "127.0.0.1")];
        let ended = run(&["validate", "--config", &config], variables);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        let gateway = Gateway::spawn_with(&[&["--config", &config][..], &FREE_PORTS].concat(), variables);
        assert!(gateway.seen.iter().all(|line| !line.contains("\twarn\t")), "{:?}", gateway.seen);
        let listens = listens(&merged["config"]);
        let enabled: BTreeSet<u64> = at(&merged, "/ports")
            .as_object()
            .unwrap()
            .values()
            .filter(|port| port["enabled"] == true)
            .map(|port| port["containerPort"].as_u64().unwrap())
            .collect();
        assert_eq!(enabled, listens[..3].iter().copied().collect());
    }

    /// Without them the program says which components it does not have.
    #[test]
    fn the_charts_own_configuration_is_refused_with_the_valid_names() {
        let ended =
            run(&["validate", "--config", &format!("yaml:{}", chart()["config"])], [("MY_POD_IP", "127.0.0.1")]);
        assert_eq!(ended.code, Some(1));
        assert!(ended.stderr.contains("unknown type: \"") && ended.stderr.contains("valid values: ["), "{ended:?}");
    }

    #[test]
    fn the_chart_starts_the_images_program_confined() {
        let values = yaml("deploy/helm/values-opentelemetry-collector.yaml");
        assert_eq!(at(&values, "/command/name"), "tracegate", "the chart starts /tracegate, as the image's entrypoint");
        assert_eq!(at(&values, "/image/tag"), env!("CARGO_PKG_VERSION"));
        let deployment = yaml("deploy/kubernetes/deployment.yaml");
        assert_eq!(&values["podSecurityContext"], at(&deployment, "/spec/template/spec/securityContext"));
        assert_eq!(&values["securityContext"], at(&deployment, "/spec/template/spec/containers/0/securityContext"));
        let before = at(&values, "/lifecycleHooks/preStop/sleep/seconds").as_u64().unwrap();
        assert!(values["terminationGracePeriodSeconds"].as_u64().unwrap() > before + *DRAIN);
    }
}
