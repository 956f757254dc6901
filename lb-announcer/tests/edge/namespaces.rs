//! Two network namespaces joined by a veth pair, gone when dropped.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use pnet_base::MacAddr;

pub(crate) const NODE_MAC: MacAddr = MacAddr(2, 0, 0, 0, 0x88, 1);
pub(crate) const CLIENT_MAC: MacAddr = MacAddr(2, 0, 0, 0, 0x88, 2);
/// How long anything may take that the kernel does at once.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// Tells the namespaces of one run apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The node has 192.168.89.1 and `fd89::1` on its `eth0`, the client 192.168.89.2 and `fd89::2` on its own.
pub(crate) struct Namespaces {
    node: String,
    client: String,
}

impl Namespaces {
    pub(crate) fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let id = format!("llt{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let namespaces = Self { node: format!("{id}n"), client: format!("{id}c") };
        let Self { node, client } = &namespaces;
        ip(&format!("netns add {node}"));
        ip(&format!("netns add {client}"));
        ip(&format!("-n {node} link add eth0 type veth peer name eth0 netns {client}"));
        for (namespace, mac, last) in [(node, NODE_MAC, 1), (client, CLIENT_MAC, 2)] {
            ip(&format!("-n {namespace} link set eth0 address {mac}"));
            // The kernel's own link-local address would be tentative for a second or two.
            ip(&format!("-n {namespace} link set eth0 addrgenmode none"));
            ip(&format!("-n {namespace} addr add 192.168.89.{last}/24 dev eth0"));
            for prefix in ["fd89", "fe80"] {
                ip(&format!("-n {namespace} addr add {prefix}::{last}/64 dev eth0 nodad"));
            }
            ip(&format!("-n {namespace} link set eth0 up"));
        }
        for namespace in [node, client] {
            await_queue(namespace);
        }
        namespaces
    }

    /// Runs `test` on a thread and a runtime inside the node.
    pub(crate) fn on_node<T: Send, F: Future<Output = T>>(&self, test: impl FnOnce() -> F + Send) -> T {
        inside(&self.node, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), test()).await.unwrap() })
        })
    }

    /// Runs `ip` inside the node.
    pub(crate) fn ip_node(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.node));
    }

    /// Runs many `ip` commands inside the node, one a line, in one process.
    pub(crate) fn batch_node(&self, lines: &str) {
        let mut child =
            Command::new("ip").args(["-n", &self.node, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Runs `ip` inside the client and returns what it prints.
    pub(crate) fn ip_client(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.client))
    }

    /// Sends a datagram from the client, which makes its kernel resolve the address.
    pub(crate) fn datagram_from_client(&self, to: &str) {
        let to = SocketAddr::new(to.parse().unwrap(), 9);
        let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        inside(&self.client, || UdpSocket::bind(from).unwrap().send_to(b"x", to).unwrap());
    }

    /// Tries to connect from the client, to a port where nobody listens.
    pub(crate) fn connect_from_client(&self, to: &str) {
        let to = SocketAddr::new(to.parse().unwrap(), 9);
        // Refused, after the first segment has gone there and the answer has come back.
        inside(&self.client, || TcpStream::connect_timeout(&to, SOON).unwrap_err());
    }

    /// Waits until the client's neighbour table has `expected` in what it says about `address`.
    pub(crate) fn await_neighbour(&self, address: &str, expected: &str) {
        let end = Instant::now() + SOON;
        loop {
            let seen = self.ip_client(&format!("neigh show {address} dev eth0"));
            if seen.contains(expected) {
                return;
            }
            assert!(Instant::now() < end, "neighbour {address} is {seen:?}, not {expected:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the kernel of the node says about an interface's multicast groups.
    pub(crate) fn node_groups(&self, interface: &str) -> String {
        ip(&format!("-n {} -6 maddr show dev {interface}", self.node))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [&self.node, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

/// Waits until the interface sends what it is given.
///
/// The end of a pair that comes up first has no carrier, so its queue stays `noop`, which says yes and throws away,
/// until the kernel's worker has seen the other end.
fn await_queue(namespace: &str) {
    let end = Instant::now() + SOON;
    loop {
        let seen = ip(&format!("-n {namespace} link show eth0"));
        if seen.contains("qdisc noqueue") && seen.contains("state UP") {
            return;
        }
        assert!(Instant::now() < end, "eth0 does not come up: {seen}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs `work` on a thread of its own inside the namespace.
fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn ip(arguments: &str) -> String {
    let output =
        Command::new("ip").args(arguments.split(' ')).output().expect("the `ip` command of iproute2 is needed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
