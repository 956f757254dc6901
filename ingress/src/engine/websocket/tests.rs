use std::task::{Poll, Waker};

use landfall_shared::drain::DrainTimes;
use proptest::prelude::*;

use super::*;

const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

/// A frame as a server or, with a mask, a client sends it.
fn frame(length: usize, masked: bool) -> Vec<u8> {
    let mask: u8 = if masked { 0x80 } else { 0 };
    let mut bytes = vec![0x82];
    match length {
        0..126 => bytes.push(mask + u8::try_from(length).unwrap()),
        126..0x1_0000 => {
            bytes.push(mask + 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(mask + 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(std::iter::repeat_n(0x88, length + if masked { 4 } else { 0 }));
    bytes
}

fn away(wait: impl Future<Output = ()> + Send + Sync + 'static) -> Away {
    // Whoever would move the phases on is gone, so the drain has begun.
    let (_, drain) = Drain::new(DrainTimes::default());
    Away::at(drain, wait)
}

fn poll(away: &mut Away) -> Option<&'static [u8]> {
    away.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_close_frame_waits_for_the_end_of_a_frame() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let mut away = away(std::future::ready(()));
        let frame = frame(length, false);
        let (before, after) = frame.split_at(frame.len() / 2);
        assert_eq!(poll(&mut away), None, "before the head of the answer");
        away.passed(HEAD);
        away.passed(before);
        assert_eq!(poll(&mut away), None, "within a frame of {length}");
        // Of two more frames only the end of the first may pass.
        let both = [after, &frame].concat();
        assert_eq!(away.share(&both), Some(after.len()), "{length}");
        away.passed(after);
        assert_eq!(poll(&mut away), Some(GOING_AWAY), "{length}");
        away.closed();
        assert_eq!((away.share(&frame), poll(&mut away)), (None, None), "{length}");
    }
}

#[test]
fn nothing_is_held_back_while_the_program_stays() {
    let mut away = away(std::future::pending());
    away.passed(HEAD);
    away.passed(&frame(10, false));
    assert_eq!((away.share(&frame(10, false)), poll(&mut away)), (Some(12), None));
}

proptest! {
    /// However the bytes are cut, a boundary is seen exactly where a frame ends.
    #[test]
    fn boundaries_do_not_depend_on_how_bytes_come(
        frames in prop::collection::vec((prop_oneof![0usize..300, 65_530usize..65_540], any::<bool>()), 1..6),
        cuts in prop::collection::vec(1usize..5_000, 1..40),
    ) {
        let mut bytes = HEAD.to_vec();
        let mut ends = vec![bytes.len()];
        for (length, masked) in frames {
            bytes.extend(frame(length, masked));
            ends.push(bytes.len());
        }
        let mut away = away(std::future::ready(()));
        let (mut at, mut cuts) = (0, cuts.iter().cycle());
        while at < bytes.len() {
            let next = (at + cuts.next().unwrap()).min(bytes.len());
            away.passed(&bytes[at..next]);
            at = next;
            prop_assert_eq!(poll(&mut away).is_some(), ends.contains(&at), "after {} bytes", at);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_drain_is_noticed_though_the_wait_for_it_is_not_gone_on_with() {
    let timeout = Duration::from_secs(20);
    let (drainer, drain) = Drain::new(DrainTimes { timeout, ..DrainTimes::default() });
    let mut away = Away::behind_head(drain);
    for _ in 0..3 {
        let polled = std::future::poll_fn(|cx| Poll::Ready(away.poll(cx))).await;
        assert_eq!(polled, None);
    }
    let start = Instant::now();
    let leaving = tokio::spawn(async move { drainer.run(std::future::pending()).await });
    let frame = std::future::poll_fn(|cx| away.poll(cx).map_or(Poll::Pending, Poll::Ready)).await;
    assert_eq!(frame, GOING_AWAY);
    assert!(start.elapsed() >= timeout / 2 && start.elapsed() < timeout, "{:?}", start.elapsed());
    leaving.abort();
}
