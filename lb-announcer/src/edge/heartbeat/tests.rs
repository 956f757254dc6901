use std::time::Instant;

use super::*;

/// Sends a datagram that is too long and one that is not, and reads 30 ms later: sender, waiting time, contents.
async fn exchange(receiver: &HeartbeatSocket, sender: &HeartbeatSocket, to: SocketAddr) -> (SocketAddr, Duration) {
    sender.send(&[7; LONGEST + 1], to).unwrap();
    sender.send(b"beat", to).unwrap();
    // Blocks the reader, as a stopped process would be.
    std::thread::sleep(Duration::from_millis(30));
    let mut datagrams = Datagrams::new();
    receiver.recv(&mut datagrams).await.unwrap();
    let all: Vec<_> = datagrams.iter().collect();
    assert_eq!(all.len(), 1, "the datagram that is too long is not handed on");
    assert_eq!(all[0].bytes, b"beat");
    (all[0].from, all[0].waited)
}

#[tokio::test]
async fn datagrams_come_with_sender_and_waiting_time_in_both_families() {
    for (bind, to) in [("[::]:0", "127.0.0.1"), ("[::]:0", "::1"), ("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let receiver = HeartbeatSocket::bind(bind.parse().unwrap()).unwrap();
        let sender = HeartbeatSocket::bind(SocketAddr::new(to.parse().unwrap(), 0)).unwrap();
        let target = SocketAddr::new(to.parse().unwrap(), receiver.local_addr().unwrap().port());
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let (from, waited) = exchange(&receiver, &sender, target).await;
            assert_eq!(from, sender.local_addr().unwrap(), "{bind} {to}");
            assert!(waited < Duration::from_secs(10), "{bind} {to}: {waited:?}");
            // A kernel in which nobody has asked for timestamps before begins with them a little later.
            if waited >= Duration::from_millis(25) {
                break;
            }
            assert!(Instant::now() < end, "{bind} {to}: {waited:?}");
        }
    }
}

#[tokio::test]
async fn answers_reach_the_sender_of_a_datagram() {
    let one = HeartbeatSocket::bind("[::]:0".parse().unwrap()).unwrap();
    let two = HeartbeatSocket::bind("[::]:0".parse().unwrap()).unwrap();
    let mut datagrams = Datagrams::new();
    let port = two.local_addr().unwrap().port();
    one.send(b"beat", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).unwrap();
    two.recv(&mut datagrams).await.unwrap();
    let from = datagrams.iter().next().unwrap().from;
    two.send(b"heard", from).unwrap();
    one.recv(&mut datagrams).await.unwrap();
    assert_eq!(datagrams.iter().next().unwrap().bytes, b"heard");
}

#[tokio::test]
async fn a_second_announcer_on_the_port_is_refused() {
    let first = HeartbeatSocket::bind("[::]:0".parse().unwrap()).unwrap();
    let again = HeartbeatSocket::bind(first.local_addr().unwrap());
    assert_eq!(again.err().unwrap().kind(), io::ErrorKind::AddrInUse);
}
