//! Three nodes and a client on one switch, each in a network namespace of its own, and the program on the nodes.

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

/// The address of the Service of `objects.yaml`.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 90, 200);
const CLIENT: MacAddr = MacAddr(2, 0, 0, 0, 0x90, 100);
const KEY: &str = "6c616e6466616c6c2d6261722d6865617274626561742d6b65792d3332627974";
/// A pool, an advertisement, a Service and its endpoint on n0.
pub(crate) const OBJECTS: &str = include_str!("objects.yaml");

/// The network.
pub(crate) struct Lan {
    prefix: String,
    manifests: tempfile::TempDir,
    pub(crate) running: [Option<Child>; 3],
}

impl Lan {
    /// Makes it; nothing runs there yet.
    pub(crate) fn new() -> Self {
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
            run("ip", &format!("-n {host} addr add fd90::{last}/64 dev eth0 nodad"));
            run("ip", &format!("-n {host} link set eth0 up"));
            run("ip", &format!("-n {host} link set lo up"));
        }
        lan.put(&[0, 1, 2], OBJECTS);
        lan
    }

    /// Drops the heartbeats, as ufw and firewalld do.
    pub(crate) fn block_heartbeats(&self) {
        let switch = self.host("sw");
        let rule = "table bridge b { chain f { type filter hook forward priority 0; udp dport 7946 drop; }; }";
        let nft = ["netns", "exec", &switch, "nft", rule];
        assert!(Command::new("ip").args(nft).status().unwrap().success(), "nft is needed: Debian package nftables");
    }

    /// Runs `ip` with these arguments in the namespace of a host.
    pub(crate) fn ip(&self, host: &str, arguments: &str) {
        run("ip", &format!("-n {} {arguments}", self.host(host)));
    }

    pub(crate) fn host(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Writes the manifests, with the Node objects of these nodes.
    pub(crate) fn put(&self, nodes: &[usize], objects: &str) {
        self.put_with(nodes, "[]", objects);
    }

    /// The same, with conditions of the nodes.
    pub(crate) fn put_with(&self, nodes: &[usize], conditions: &str, objects: &str) {
        let mut text = objects.to_owned();
        for node in nodes {
            let address = format!("{{type: InternalIP, address: 192.168.90.1{node}}}");
            let status = format!("status: {{addresses: [{address}], conditions: {conditions}}}");
            let _ = write!(text, "---\n{{apiVersion: v1, kind: Node, metadata: {{name: n{node}}}, {status}}}\n");
        }
        let new = self.manifests.path().join(".new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.manifests.path().join("all.yaml")).unwrap();
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.start_with(node, &["--interface", "eth0"]);
    }

    pub(crate) fn start_with(&mut self, node: usize, arguments: &[&str]) {
        let name = format!("n{node}");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(&name), env!("CARGO_BIN_EXE_landfall-lb-announcer"), "standalone"]);
        command.arg("--manifests").arg(self.manifests.path());
        command.args(["--node-name", &name, "--heartbeat", "0.0.0.0:7946", "--heartbeat-key", KEY]);
        command.args(["--admin", "127.0.0.1:7472"]).args(arguments);
        // `ip netns exec` becomes the program, so the child's id is its own.
        self.running[node] = Some(command.stdout(Stdio::null()).spawn().unwrap());
    }

    pub(crate) fn signal(&mut self, node: usize, signal: nix::sys::signal::Signal) {
        let child = self.running[node].as_ref().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub(crate) fn end(&mut self, node: usize, signal: nix::sys::signal::Signal) {
        self.signal(node, signal);
        self.running[node].take().unwrap().wait().unwrap();
    }

    /// Asks for the address for so long, and tells who answered, and how long nobody did at first.
    pub(crate) fn ask(&self, time: Duration) -> (BTreeSet<usize>, Duration) {
        let (macs, first) = self.ask_for(ADDRESS, time);
        (macs.into_iter().map(|mac| usize::from(mac.octets()[5]) - 10).collect(), first)
    }

    /// The same for any address, and with the MAC addresses that answered.
    pub(crate) fn ask_for(&self, address: Ipv4Addr, time: Duration) -> (BTreeSet<MacAddr>, Duration) {
        inside(&self.host("c"), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let index = nix::net::if_::if_nametoindex("eth0").unwrap();
                let (socket, mut frames) = (ArpSocket::open(index, CLIENT).unwrap(), Frames::new());
                let (began, mut first, mut found) = (Instant::now(), None, BTreeSet::new());
                while began.elapsed() < time {
                    socket.send(&Arp::probe(CLIENT, address).encode()).unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    while socket.try_recv(&mut frames).is_ok() {
                        let answers = frames.iter().filter_map(Arp::decode).filter(|arp| {
                            arp.operation == Operation::Reply && arp.sender_ip == address && arp.target_mac == CLIENT
                        });
                        for answer in answers {
                            first.get_or_insert_with(|| began.elapsed());
                            found.insert(answer.sender_mac);
                        }
                    }
                }
                (found, first.unwrap_or(time))
            })
        })
    }

    /// The one node that answers, once there is one.
    pub(crate) fn owner(&self) -> usize {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.ask(Duration::from_millis(200)).0.len() != 1 {
            assert!(Instant::now() < deadline, "nobody, or several, answered in 30 s");
        }
        let (owners, _) = self.ask(Duration::from_secs(1));
        assert_eq!(owners.len(), 1, "{owners:?} answer");
        owners.into_iter().next().unwrap()
    }

    /// Waits until `/status` of the node is as expected.
    pub(crate) fn await_status(&self, node: usize, what: &str, holds: impl Fn(&serde_json::Value) -> bool) {
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

    pub(crate) fn status(&self, node: usize) -> Option<serde_json::Value> {
        serde_json::from_str(self.admin(node, "/status")?.split_once("\r\n\r\n")?.1).ok()
    }

    /// What the admin port answers, its head included.
    pub(crate) fn admin(&self, node: usize, path: &str) -> Option<String> {
        inside(&self.host(&format!("n{node}")), || {
            let mut stream = TcpStream::connect("127.0.0.1:7472").ok()?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
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
pub(crate) fn inside<T: Send>(namespace: &str, task: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    let enter = move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        task()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
}
