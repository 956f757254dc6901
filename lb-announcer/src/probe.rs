//! Asking the LAN by ARP who has an address, without claiming it: by probes (RFC 5227, section 2.1.1), and by the
//! requests of an ordinary client.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use landfall_lb_model::wire::MacAddr;
use landfall_lb_model::wire::arp::{Arp, Operation};
use thiserror::Error;

use crate::edge::arp::ArpSocket;
use crate::edge::links::{Link, LinkWatch};
use crate::edge::packet::Frames;

/// How long answers to probes are waited for; a LAN answers within milliseconds, a sleepy phone takes longer.
const PROBED: Duration = Duration::from_millis(250);
/// The same for requests, which come second, since a frame may get lost. A Linux that is a proxy takes up to 0.8 s
/// (arp(7), `proxy_delay`).
const REQUESTED: Duration = Duration::from_millis(850);

/// Why nobody could be asked.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    /// No interface of this machine is on the network of any of the addresses.
    #[error("this machine is not on their network; run this on a node or another machine of the LAN")]
    NotOnLan,
    /// It takes `CAP_NET_RAW`.
    #[error("it takes root or CAP_NET_RAW to send ARP requests")]
    NoRight,
    /// Something else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The hosts that answer for each address, by MAC address; addresses that nobody answers for are not in it.
pub(crate) async fn ask(addresses: &[Ipv4Addr]) -> Result<BTreeMap<Ipv4Addr, BTreeSet<MacAddr>>, Trouble> {
    let watch = LinkWatch::open().await?;
    let mut answers: BTreeMap<Ipv4Addr, BTreeSet<MacAddr>> = BTreeMap::new();
    let mut asked = false;
    for link in watch.links().iter().filter(|link| link.up && link.traits.broadcast && !link.traits.no_arp) {
        let here: Vec<Question> = addresses.iter().filter_map(|ip| Question::on(link, *ip)).collect();
        let Some(mac) = link.mac.filter(|_| !here.is_empty()) else { continue };
        asked = true;
        for (ip, macs) in ask_on(link.ifindex, mac, &here).await? {
            answers.entry(ip).or_default().extend(macs);
        }
    }
    if asked { Ok(answers) } else { Err(Trouble::NotOnLan) }
}

/// An address that is asked for, and this machine's own on that network.
struct Question {
    ip: Ipv4Addr,
    own: Ipv4Addr,
}

impl Question {
    fn on(link: &Link, ip: Ipv4Addr) -> Option<Self> {
        let shared = |net: &&ipnet::IpNet| net.prefix_len() < 32 && net.contains(&IpAddr::V4(ip));
        match link.addresses.iter().find(shared)?.addr() {
            IpAddr::V4(own) => Some(Self { ip, own }),
            IpAddr::V6(_) => None,
        }
    }
}

async fn ask_on(
    ifindex: u32,
    mac: MacAddr,
    questions: &[Question],
) -> Result<BTreeMap<Ipv4Addr, BTreeSet<MacAddr>>, Trouble> {
    let socket = ArpSocket::open(ifindex, mac).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Trouble::NoRight,
        _ => Trouble::Io(error),
    })?;
    let mut answers: BTreeMap<Ipv4Addr, BTreeSet<MacAddr>> = BTreeMap::new();
    let mut frames = Frames::new();
    for wait in [PROBED, REQUESTED] {
        for question in questions {
            let frame = if wait == PROBED {
                Arp::probe(mac, question.ip)
            } else {
                Arp::request(mac, question.own, question.ip)
            };
            socket.send_when_ready(&frame.encode()).await?;
        }
        let until = tokio::time::Instant::now() + wait;
        while let Ok(read) = tokio::time::timeout_at(until, socket.recv(&mut frames)).await {
            read?;
            let replies = frames.iter().filter_map(Arp::decode).filter(|arp| arp.operation == Operation::Reply);
            for reply in replies.filter(|reply| questions.iter().any(|question| question.ip == reply.sender_ip)) {
                answers.entry(reply.sender_ip).or_default().insert(reply.sender_mac);
            }
        }
    }
    Ok(answers)
}
