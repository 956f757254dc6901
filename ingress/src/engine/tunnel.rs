//! Two connections after a switch of protocols: bytes pass as they are.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::timer::Timer;
use super::websocket::Away;
use super::wire::{READ_SIZE, Wire};

/// Passes bytes both ways until both directions have ended, one breaks, or nothing has moved for `idle`. Returns how
/// many bytes went to the client. `meter` is told what has moved since the last time, to the endpoint and to the client.
pub(super) async fn tunnel<C, U>(
    client: &mut Wire<C>,
    upstream: &mut Wire<U>,
    mut away: Option<Away>,
    idle: Duration,
    timer: &mut Timer,
    meter: &mut (dyn FnMut(u64, u64) + Send),
) -> u64
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut moved_at = Instant::now();
    poll_fn(|cx| {
        let before = (up.moved, down.moved);
        if let Some(away) = &mut away
            && !client.has_output()
            && let Some(frame) = away.poll(cx)
        {
            client.push(Bytes::from_static(frame), b"");
            away.closed();
        }
        let upward = up.poll(client, upstream, None, cx);
        let downward = down.poll(upstream, client, away.as_mut(), cx);
        let has_moved = (up.moved, down.moved) != before;
        if has_moved {
            meter(up.moved - before.0, down.moved - before.1);
        }
        match (upward, downward) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) | (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                return Poll::Ready(());
            }
            _ => {}
        }
        if has_moved {
            moved_at = Instant::now();
        }
        timer.poll_until(moved_at + idle, cx)
    })
    .await;
    down.moved
}

/// One of the two ways.
#[derive(Default)]
struct Direction {
    moved: u64,
    /// More comes at once than small messages are, so larger pieces are read.
    flows: bool,
    /// The end was passed on.
    over: bool,
}

impl Direction {
    fn poll<F, T>(
        &mut self,
        from: &mut Wire<F>,
        to: &mut Wire<T>,
        mut away: Option<&mut Away>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        F: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            if to.poll_room(cx)?.is_pending() {
                return Poll::Pending;
            }
            if !from.input.is_empty() {
                self.take(from, to, away.as_deref_mut());
                continue;
            }
            if self.over {
                return to.poll_flush(cx);
            }
            if from.ended {
                if to.poll_shutdown(cx)?.is_pending() {
                    return Poll::Pending;
                }
                self.over = true;
                return Poll::Ready(Ok(()));
            }
            let filled =
                if self.flows { from.poll_fill_body(cx)? } else { self.relay(from, to, away.as_deref_mut(), cx)? };
            let Poll::Ready(read) = filled else {
                self.flows = false;
                // Whether or not all of it is sent by now, more is awaited.
                let _ = to.poll_flush(cx)?;
                return Poll::Pending;
            };
            self.flows = read >= READ_SIZE;
        }
    }

    /// Reads once, and hands on what was read without keeping it anywhere: what a message is that waits for nothing.
    fn relay<F, T>(
        &mut self,
        from: &mut Wire<F>,
        to: &mut Wire<T>,
        away: Option<&mut Away>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>>
    where
        F: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut space = [MaybeUninit::uninit(); READ_SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(from.poll_read_through(cx, &mut buffer))?;
        let data = buffer.filled();
        let Some(share) = self.share(data, away) else { return Poll::Ready(Ok(data.len())) };
        let (now, later) = data.split_at_checked(share).unwrap_or((data, &[]));
        from.input.extend_from_slice(later);
        if !now.is_empty() {
            to.offer(cx, now)?;
        }
        Poll::Ready(Ok(data.len()))
    }

    /// Moves what was read, or as much as may go before a close frame.
    fn take<F, T>(&mut self, from: &mut Wire<F>, to: &mut Wire<T>, away: Option<&mut Away>)
    where
        F: AsyncRead + AsyncWrite + Unpin,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        match self.share(&from.input, away) {
            Some(share) => to.push(from.input.split_to(share).freeze(), b""),
            None => from.input.clear(),
        }
    }

    /// How much of `data` goes on, which counts as moved. `None`: it is dropped, since after a close frame nothing may
    /// come.
    fn share(&mut self, data: &[u8], away: Option<&mut Away>) -> Option<usize> {
        let mut share = data.len();
        if let Some(away) = away {
            share = away.share(data)?;
            away.passed(data.get(..share).unwrap_or(data));
        }
        self.moved += share as u64;
        Some(share)
    }
}
