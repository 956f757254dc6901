//! The program on three nodes between which no heartbeat arrives: the switch drops UDP port 7946, as ufw and firewalld do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use landfall_lb_announcer::edge::arp::ArpSocket;
use landfall_lb_announcer::edge::packet::Frames;
use landfall_lb_model::wire::MacAddr;
use landfall_lb_model::wire::arp::{Arp, Operation};
use nix::sched::{CloneFlags, setns};

/// Tells the namespaces of the tests apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 200);
const CLIENT: MacAddr = MacAddr(2, 0, 0, 0, 0x90, 100);
const KEY: &str = "6c616e6466616c6c2d6261722d6865617274626561742d6b65792d3332627974";
/// Two seconds more than with heartbeats, on a machine that others use too.
const FAILOVER: Duration = Duration::from_millis(2_300);
const PLANNED: Duration = Duration::from_millis(1_500);

struct Lan {
    prefix: String,
    manifests: tempfile::TempDir,
    running: [Option<Child>; 3],
}

impl Lan {
    fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let prefix = format!("llb{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lan = Self { prefix, manifests: tempfile::tempdir().unwrap(), running: [None, None, None] };
        let switch = lan.host("sw");
        run("ip", &format!("netns add {switch}"));
        run("ip", &format!("-n {switch} link add br0 type bridge forward_delay 0 mcast_snooping 0"));
        run("ip", &format!("-n {switch} link set br0 up"));
        for (name, last) in [("n0", 10), ("n1", 11), ("n2", 12), ("c", 100)] {
            let host = lan.host(name);
            run("ip", &format!("netns add {host}"));
            run("ip", &format!("-n {switch} link add {name} type veth peer name eth0 netns {host}"));
            run("ip", &format!("-n {switch} link set {name} master br0 up"));
            run("ip", &format!("-n {host} link set eth0 address 02:00:00:00:90:{last:02x}"));
            run("ip", &format!("-n {host} addr add 192.168.90.{last}/24 dev eth0"));
            run("ip", &format!("-n {host} link set eth0 up"));
            run("ip", &format!("-n {host} link set lo up"));
        }
        let rule = "table bridge b { chain f { type filter hook forward priority 0; udp dport 7946 drop; }; }";
        let nft = ["netns", "exec", &switch, "nft", rule];
        assert!(Command::new("ip").args(nft).status().unwrap().success(), "nft is needed: Debian package nftables");
        lan.put(&[0, 1, 2]);
        lan
    }

    fn host(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Writes the manifests with the Node objects of these nodes.
    fn put(&self, nodes: &[usize]) {
        let mut text = include_str!("blocked/objects.yaml").to_owned();
        for node in nodes {
            let address = format!("{{type: InternalIP, address: 192.168.90.1{node}}}");
            let status = format!("status: {{addresses: [{address}]}}");
            let _ = write!(text, "---\n{{apiVersion: v1, kind: Node, metadata: {{name: n{node}}}, {status}}}\n");
        }
        let new = self.manifests.path().join(".new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.manifests.path().join("all.yaml")).unwrap();
    }

    fn start(&mut self, node: usize) {
        let name = format!("n{node}");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(&name), env!("CARGO_BIN_EXE_landfall-lb-announcer"), "standalone"]);
        command.arg("--manifests").arg(self.manifests.path());
        command.args(["--node-name", &name, "--heartbeat", "0.0.0.0:7946", "--heartbeat-key", KEY]);
        command.args(["--interface", "eth0", "--admin", "127.0.0.1:7472"]);
        // `ip netns exec` becomes the program, so the child's id is its own.
        self.running[node] = Some(command.stdout(Stdio::null()).spawn().unwrap());
    }

    fn signal(&mut self, node: usize, signal: nix::sys::signal::Signal) {
        let child = self.running[node].as_ref().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    fn end(&mut self, node: usize, signal: nix::sys::signal::Signal) {
        self.signal(node, signal);
        self.running[node].take().unwrap().wait().unwrap();
    }

    /// Asks for the address for so long, and tells who answered, and how long nobody did at first.
    fn ask(&self, time: Duration) -> (BTreeSet<usize>, Duration) {
        inside(&self.host("c"), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let index = nix::net::if_::if_nametoindex("eth0").unwrap();
                let (socket, mut frames) = (ArpSocket::open(index, CLIENT).unwrap(), Frames::new());
                let (began, mut first, mut found) = (Instant::now(), None, BTreeSet::new());
                while began.elapsed() < time {
                    socket.send(&Arp::probe(CLIENT, ADDRESS).encode()).unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    while socket.try_recv(&mut frames).is_ok() {
                        let answers = frames.iter().filter_map(Arp::decode).filter(|arp| {
                            arp.operation == Operation::Reply && arp.sender_ip == ADDRESS && arp.target_mac == CLIENT
                        });
                        for answer in answers {
                            first.get_or_insert_with(|| began.elapsed());
                            found.insert(usize::from(answer.sender_mac.octets()[5]) - 10);
                        }
                    }
                }
                (found, first.unwrap_or(time))
            })
        })
    }

    /// The one node that answers, once there is one.
    fn owner(&self) -> usize {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.ask(Duration::from_millis(200)).0.len() != 1 {
            assert!(Instant::now() < deadline, "nobody, or several, answered in 30 s");
        }
        let (owners, _) = self.ask(Duration::from_secs(1));
        assert_eq!(owners.len(), 1, "{owners:?} answer");
        owners.into_iter().next().unwrap()
    }

    /// Waits until `/status` of the node is as expected.
    fn await_status(&self, node: usize, what: &str, holds: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let status = self.status(node);
            if status.as_ref().is_some_and(&holds) {
                return;
            }
            assert!(Instant::now() < deadline, "{what} is not in /status of n{node}: {status:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn status(&self, node: usize) -> Option<serde_json::Value> {
        inside(&self.host(&format!("n{node}")), || {
            let mut stream = TcpStream::connect("127.0.0.1:7472").ok()?;
            stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
        })
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in ["n0", "n1", "n2", "c", "sw"] {
            let _ = Command::new("ip").args(["netns", "del", &self.host(name)]).status();
        }
    }
}

fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "{program} {arguments}");
}

/// Runs `task` on a thread of its own in a namespace.
fn inside<T: Send>(namespace: &str, task: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    let enter = move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        task()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// Nothing else on the network has the address, and it stays the Service's.
fn is_kept(status: &serde_json::Value) -> bool {
    let problems = status["problems"].to_string();
    status["services"][0]["addresses"] == serde_json::json!([ADDRESS.to_string()])
        && !problems.contains("AddressConflict")
}

#[test]
fn without_heartbeats_an_address_answers_from_one_node_through_a_crash_a_restart_and_a_deleted_node() {
    let mut lan = Lan::new();
    (0..3).for_each(|node| lan.start(node));
    let owner = lan.owner();
    for node in 0..3 {
        lan.await_status(node, "both peers as unheard", |s| s["unheard"].as_object().is_some_and(|u| u.len() == 2));
        lan.await_status(node, "the address", is_kept);
    }

    lan.end(owner, nix::sys::signal::Signal::SIGKILL);
    let (_, gap) = lan.ask(Duration::from_secs(4));
    println!("failover without heartbeats: {gap:?}");
    assert!(gap < FAILOVER, "{gap:?}");
    let second = lan.owner();
    assert_ne!(second, owner);
    lan.start(owner);
    lan.await_status(owner, "the address", is_kept);

    lan.end(second, nix::sys::signal::Signal::SIGTERM);
    let (_, gap) = lan.ask(Duration::from_secs(3));
    println!("planned move without heartbeats: {gap:?}");
    assert!(gap < PLANNED, "{gap:?}");
    lan.start(second);
    lan.await_status(second, "the address", is_kept);

    let third = lan.owner();
    let others: Vec<usize> = (0..3).filter(|node| *node != third).collect();
    lan.put(&others);
    let (answered, _) = lan.ask(Duration::from_secs(4));
    assert!(!answered.is_empty());
    let heir = lan.owner();
    assert_ne!(heir, third, "a node that is no node any more announces nothing");
    for node in others {
        lan.await_status(node, "the address", is_kept);
    }
}

/// `MetalLB`'s speaker has the same port while it is being replaced.
#[test]
fn a_port_that_is_taken_is_waited_for() {
    let mut lan = Lan::new();
    let taken = inside(&lan.host("n0"), || {
        (std::net::UdpSocket::bind("0.0.0.0:7946").unwrap(), std::net::TcpListener::bind("127.0.0.1:7472").unwrap())
    });
    lan.start(0);
    std::thread::sleep(Duration::from_secs(2));
    assert!(lan.running[0].as_mut().unwrap().try_wait().unwrap().is_none(), "it waits instead of ending");
    let (udp, tcp) = taken;
    drop(tcp);
    lan.await_status(0, "what it waits for", |s| s["problems"].to_string().contains("PortInUse"));
    assert!(lan.ask(Duration::from_millis(300)).0.is_empty(), "until then it announces nothing");
    drop(udp);
    let (answered, after) = lan.ask(Duration::from_secs(3));
    println!("announced {after:?} after the port was free");
    assert_eq!(answered, BTreeSet::from([0]));
}
