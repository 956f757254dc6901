//! Faults of nodes, of the LAN, and of pools and addresses.

use landfall_e2e::testbed::{Host, LANDFALL};
use serde_json::{Value, json};

use super::deed::Deed::{self, Create, Delete, PowerOff, Renew, Set, Shell};
use super::deed::Object;
use super::{Fault, NAMESPACE};

pub(super) const PROGRAM: &str = "landfall-lb-announcer";

const POOL: Object = ["ipaddresspool", LANDFALL, "lan"];
const ADVERTISEMENT: Object = ["l2advertisement", LANDFALL, "lan"];
const SPEAKERS: Object = ["daemonset", LANDFALL, "landfall-lb-speaker"];
const CONTROLLER: Object = ["deployment", LANDFALL, "landfall-lb-controller"];
const EXCLUDE: &str = "/metadata/labels/node.kubernetes.io~1exclude-from-external-load-balancers";
/// The address of the Service `app`.
const HELD: &str = "192.168.77.232";
/// One that no Service has.
const FREE: &str = "192.168.77.238";

fn fault(what: &'static str, deeds: Vec<Deed>, line: [&'static str; 3]) -> Fault {
    Fault { what, deeds, program: PROGRAM, line }
}

fn one(what: &'static str, deed: Deed, line: [&'static str; 3]) -> Fault {
    fault(what, vec![deed], line)
}

fn pool(name: &str, namespace: &str, addresses: &str) -> Deed {
    Create(
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": name, "namespace": namespace}, "spec": {"addresses": [addresses], "autoAssign": false}})
        .to_string(),
    )
}

/// A Service `more` of type `LoadBalancer`.
fn more(annotations: Value, spec: Value) -> Deed {
    let mut service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "more", "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    if let (Some(into), Value::Object(fields)) = (service["spec"].as_object_mut(), spec) {
        into.extend(fields);
    }
    Create(service.to_string())
}

/// A `DaemonSet` of pods that do nothing, under the name and labels of another program.
fn daemon_set(name: &str, namespace: &str, labels: Value) -> Deed {
    Create(
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"selector": {"matchLabels": {"a": name}}, "template": {"metadata": {"labels": {"a": name}},
            "spec": {"containers": [{"name": "c", "image": "landfall/testbed-pause:1", "imagePullPolicy": "Never"}]}}}})
        .to_string(),
    )
}

/// The host has the address on its cable, so its kernel answers for it.
fn has(host: Host, address: &str) -> Deed {
    Shell(host, format!("ip addr add {address} dev eth0"), format!("ip addr del {address} dev eth0"))
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn faults() -> Vec<Fault> {
    let app = "service faults/app";
    let more_said = "service faults/more";
    let exclude = |node| Set(["node", "", node], EXCLUDE, json!(""));
    let block = "nft 'add table inet fault; add chain inet fault in { type filter hook input priority 0; }; \
                 add rule inet fault in udp dport 7946 drop'";
    // 64 hexadecimal digits, in Base64.
    let other_key = format!("{}Yg==", "YmJi".repeat(21));
    let ipvs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
        "data": {"config.conf": "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n"}});
    vec![
        one("no pool", Delete(POOL), ["namespace landfall-system", "create one", "[NoPool]"]),
        one(
            "a pool outside of the LAN",
            pool("far", LANDFALL, "10.77.0.1-10.77.0.9"),
            ["ipaddresspool landfall-system/far", "192.168.77", "[PoolOutsideSubnets]"],
        ),
        one(
            "two pools with the same addresses",
            pool("twice", LANDFALL, "192.168.77.230-192.168.77.245"),
            ["ipaddresspool landfall-system/twice", "lan", "[OverlappingAddresses]"],
        ),
        one(
            "a pool in a namespace that is not read",
            pool("lost", NAMESPACE, "192.168.77.241/32"),
            ["ipaddresspool faults/lost", "landfall-system", "[NamespaceNotRead]"],
        ),
        one(
            "an interface that no node has",
            Set(ADVERTISEMENT, "/spec/interfaces", json!(["eth7"])),
            ["l2advertisement landfall-system/lan", "eth0", "[UnknownInterface]"],
        ),
        one("no advertisement", Delete(ADVERTISEMENT), [app, "L2Advertisement", "[NoMatchingAdvertisement]"]),
        one(
            "no node is selected",
            Set(ADVERTISEMENT, "/spec/nodeSelectors", json!([{"matchLabels": {"lan": "b"}}])),
            [app, "nodeSelectors", "[NoEligibleNode]"],
        ),
        one(
            "UDP port 7946 is blocked",
            Shell(Host::Node(2), block.to_owned(), "nft delete table inet fault".to_owned()),
            ["node n2", "7946", "[HeartbeatsBlocked]"],
        ),
        fault(
            "a speaker with another key",
            vec![
                Set(["secret", LANDFALL, "landfall-heartbeat"], "/data/key", json!(other_key)),
                Renew("speaker", Host::Node(1)),
            ],
            ["node n", "key", "[HeartbeatsBlocked]"],
        ),
        one(
            "IPVS without strictARP",
            Create(ipvs.to_string()),
            ["configmap kube-system/kube-proxy", "set it to true", "[StrictArp]"],
        ),
        fault(
            "every node is excluded",
            vec![exclude("n1"), exclude("n2"), exclude("n3")],
            ["node n1", "kubectl label nodes", "[EveryNodeExcluded]"],
        ),
        one(
            "a node that is not Ready",
            PowerOff(Host::Node(3)),
            ["node n3", "kubectl describe node n3", "[NodeNotReady]"],
        ),
        one(
            "MetalLB still runs",
            daemon_set("speaker", NAMESPACE, json!({"app.kubernetes.io/name": "metallb"})),
            ["daemonset faults/speaker", "migrate-metallb.md", "[Rival]"],
        ),
        one(
            "ServiceLB of K3s still runs",
            daemon_set("svclb-web", "kube-system", json!({"svccontroller.k3s.cattle.io/svcname": "web"})),
            ["daemonset kube-system/svclb-web", "--disable=servicelb", "[Rival]"],
        ),
        one(
            "a foreign host has an address that is announced",
            has(Host::Router, &format!("{HELD}/32")),
            [HELD, "give that host another address", "[AddressConflict]"],
        ),
        one(
            "a foreign host has a free address",
            has(Host::Router, &format!("{FREE}/32")),
            [FREE, "give that host another address", "[AddressAnswers]"],
        ),
        one(
            "a router that answers for every address",
            Shell(
                Host::Router,
                "sysctl -qw net.ipv4.neigh.eth0.proxy_delay=0 net.ipv4.conf.eth0.proxy_arp_pvlan=1".to_owned(),
                "sysctl -qw net.ipv4.conf.eth0.proxy_arp_pvlan=0".to_owned(),
            ),
            ["ipaddresspool landfall-system/lan", "turn proxy ARP off", "[ProxyARP]"],
        ),
        one(
            "a node has the address on an interface of its own",
            has(Host::Node(1), &format!("{HELD}/32")),
            [HELD, "remove", "[Address"],
        ),
        one(
            "a Service of a class that nobody serves",
            more(json!({}), json!({"loadBalancerClass": "example.com/other"})),
            [more_said, "class", "[OtherClass]"],
        ),
        one(
            "a Service asks for an address outside of every pool",
            more(json!({"metallb.io/loadBalancerIPs": "192.168.77.99"}), json!({})),
            [more_said, "192.168.77.99", "[AllocationFailed]"],
        ),
        one(
            "a Service asks for an address that another one has",
            more(json!({"metallb.io/loadBalancerIPs": HELD}), json!({})),
            [more_said, "faults/app", "[AllocationFailed]"],
        ),
        fault(
            "a pool that is used up",
            vec![
                pool("small", LANDFALL, "192.168.77.245/32"),
                more(json!({"metallb.io/address-pool": "small"}), json!({})),
                Create(
                    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "most", "namespace": NAMESPACE,
                    "annotations": {"metallb.io/address-pool": "small"}},
                    "spec": {"type": "LoadBalancer", "selector": {"app": "echo"}, "ports": [{"port": 80}]}})
                    .to_string(),
                ),
            ],
            ["service faults/mo", "small", "[AllocationFailed]"],
        ),
        one(
            "externalTrafficPolicy Local without a local endpoint",
            more(json!({}), json!({"externalTrafficPolicy": "Local", "selector": {"app": "nobody"}})),
            [more_said, "", "[NoEndpoints]"],
        ),
        fault(
            "a controller that does not run",
            vec![Set(CONTROLLER, "/spec/replicas", json!(0)), more(json!({}), json!({}))],
            [more_said, "controller", "[NotAllocated]"],
        ),
        one(
            "speakers that run nowhere",
            Set(SPEAKERS, "/spec/template/spec/nodeSelector", json!({"nowhere": "yes"})),
            ["daemonset landfall-system/landfall-lb-speaker", "kubectl", "[NotRunning]"],
        ),
        one(
            "pod security of the namespace",
            Set(["namespace", "", LANDFALL], "/metadata/labels/pod-security.kubernetes.io~1enforce", json!("baseline")),
            ["namespace landfall-system", "privileged", "[PodSecurity]"],
        ),
        fault(
            "only one node is on the pool's network",
            vec![
                has(Host::Node(1), "192.168.78.11/24"),
                pool("next", LANDFALL, "192.168.78.200-192.168.78.209"),
                Create(
                    json!({"apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
                    "metadata": {"name": "next", "namespace": LANDFALL}, "spec": {"ipAddressPools": ["next"]}})
                    .to_string(),
                ),
            ],
            ["node n", "nodeSelectors", "[NodeOutsideSubnet]"],
        ),
    ]
}
