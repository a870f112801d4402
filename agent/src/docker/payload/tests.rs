use serde_json::{Value, json};
use uuid::Uuid;
use windlass_api::ids::ClusterId;

use super::*;

fn made(mut container: Value) -> ContainerCreateBody {
    container["name"] = json!("main");
    labelled(container, json!({}))
}

fn labelled(container: Value, labels: Value) -> ContainerCreateBody {
    let owner = Owner {
        cluster: ClusterId(Uuid::nil()),
        node: "n1".parse().unwrap(),
    };
    let instance: AssignedInstance = serde_json::from_value(json!({
        "id": "web-0-1", "workload": "shop/web", "slot": 0, "revision": 2, "goal": "Run",
        "template": {
            "kind": "Service", "containers": [container], "labels": labels,
            "restart": "Always", "stopGracePeriod": "1500ms",
        },
    }))
    .unwrap();
    let container = instance.template.main().unwrap();
    let network = Network::Own("windlass.00000000.n1.shop");
    payload(&owner, &instance, container, None, network)
}

fn host_config_of(container: Value) -> HostConfig {
    made(container).host_config.unwrap()
}

/// The whole of it, so that nothing gets in unseen.
#[test]
fn the_payload_of_a_plain_container_is_as_written_here() {
    let body = serde_json::to_value(made(json!({ "image": "nginx:1.27" }))).unwrap();
    let expected = json!({
        "Hostname": "web-0-1",
        "Image": "nginx:1.27",
        "Env": [
            "WINDLASS_INSTANCE=web-0-1",
            "WINDLASS_NAMESPACE=shop",
            "WINDLASS_NODE=n1",
            "WINDLASS_REVISION=2",
            "WINDLASS_SLOT=0",
            "WINDLASS_WORKLOAD=web",
        ],
        "ExposedPorts": {},
        "Labels": {
            "windlass.container": "main",
            "windlass.cluster": "00000000-0000-0000-0000-000000000000",
            "windlass.instance": "web-0-1",
            "windlass.namespace": "shop",
            "windlass.node": "n1",
            "windlass.revision": "2",
            "windlass.slot": "0",
            "windlass.stop-grace": "1s500ms",
            "windlass.workload": "web",
        },
        "StopTimeout": 2,
        "HostConfig": {
            "CapAdd":
                ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "KILL", "NET_BIND_SERVICE"],
            "CapDrop": ["ALL"],
            "CgroupnsMode": "private",
            "Init": false,
            "IpcMode": "private",
            "LogConfig": {
                "Type": "json-file",
                "Config": { "max-file": "3", "max-size": "10m" },
            },
            "NetworkMode": "windlass.00000000.n1.shop",
            "PidsLimit": 512,
            "PortBindings": {},
            "Privileged": false,
            "RestartPolicy": { "Name": "no" },
            "SecurityOpt": ["no-new-privileges"],
        },
    });
    assert_eq!(body, expected, "{body:#}");
}

#[test]
fn what_the_user_wrote_is_handed_on() {
    let body = made(json!({
        "image": "nginx", "command": ["/bin/a"], "args": ["-b"], "workingDir": "/srv",
        "user": "1000:1000", "stopSignal": "SIGQUIT",
    }));
    assert_eq!(body.entrypoint.unwrap(), ["/bin/a"]);
    assert_eq!(body.cmd.unwrap(), ["-b"]);
    assert_eq!(body.working_dir.as_deref(), Some("/srv"));
    assert_eq!(body.user.as_deref(), Some("1000:1000"));
    assert_eq!(body.stop_signal.as_deref(), Some("SIGQUIT"));
}

#[test]
fn labels_of_ours_cannot_be_forged_and_variables_can_be_replaced() {
    let container = json!({
        "name": "main", "image": "nginx",
        "env": { "B": 1, "A": "x=y", "WINDLASS_NODE": "mine" },
    });
    let body = labelled(container, json!({ "team": "a", "windlass.node": "forged" }));
    let labels = body.labels.unwrap();
    assert_eq!(
        (labels[names::NODE].as_str(), labels["team"].as_str()),
        ("n1", "a")
    );
    let env = body.env.unwrap();
    assert_eq!(env[..2], ["A=x=y", "B=1"]);
    let nodes: Vec<_> = env
        .iter()
        .filter(|v| v.starts_with("WINDLASS_NODE="))
        .collect();
    assert_eq!(nodes, ["WINDLASS_NODE=mine"]);
}

#[test]
fn requests_and_limits_are_applied() {
    let host = host_config_of(json!({
        "image": "nginx",
        "resources":
            { "cpu": "250m", "memory": "64Mi", "limits": { "cpu": "1.5", "memory": "128Mi" } },
    }));
    assert_eq!(host.cpu_shares, Some(256));
    assert_eq!(
        (host.cpu_period, host.cpu_quota),
        (Some(100_000), Some(150_000))
    );
    assert_eq!(
        (host.memory, host.memory_swap),
        (Some(128 << 20), Some(128 << 20))
    );
    assert_eq!(host.memory_reservation, Some(64 << 20));
}

#[test]
fn amounts_stay_within_what_docker_takes() {
    assert_eq!(
        (cpu_shares(0), cpu_shares(1_000), cpu_shares(1_000_000)),
        (2, 1024, 262_144)
    );
    assert_eq!(
        (cpu_quota(1), cpu_quota(10), cpu_quota(2_000)),
        (1_000, 1_000, 200_000)
    );
    assert_eq!(
        (memory_reservation(1), memory_reservation(7 << 20)),
        (6 << 20, 7 << 20)
    );
}

#[test]
fn ports_are_published_where_the_manifest_says_so() {
    let body = made(json!({
        "image": "nginx",
        "ports": [
            { "container": 80, "host": 8080 }, { "container": 80, "host": 8081 },
            { "container": 53, "protocol": "udp" },
        ],
    }));
    assert_eq!(body.exposed_ports.unwrap(), ["53/udp", "80/tcp"]);
    let bindings = serde_json::to_value(body.host_config.unwrap().port_bindings).unwrap();
    assert_eq!(
        bindings,
        json!({ "80/tcp": [{ "HostPort": "8080" }, { "HostPort": "8081" }] })
    );
}

#[test]
fn probes_switch_the_image_s_own_health_check_off() {
    let probes = json!({ "readiness": { "tcp": { "port": 80 } } });
    let body = made(json!({ "image": "nginx:1.27", "probes": probes }));
    assert_eq!(body.healthcheck.unwrap().test.unwrap(), ["NONE"]);
    let body = made(json!({ "image": "nginx:1.27" }));
    assert_eq!(body.healthcheck, None);
}
