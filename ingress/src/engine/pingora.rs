//! Pingora as the carrier: exchanges one at a time, HTTP/2 connections whole.

mod outcome;
mod peer;
mod proxy;
mod session;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use http::{StatusCode, Version};
use landfall_ingress_model::pipeline::Connection;
use landfall_shared::drain::Drain;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_http::ResponseHeader;
use tokio::sync::watch;

use super::Shared;
use super::client::linger;
use super::framing::Head;
use super::http1::{Carry, Next};
use super::timer::Timer;
use super::wire::Wire;
use crate::listener::ClientStream;
use session::{ExchangeStream, H2Stream, Request, Returned, Slot};

pub(super) use proxy::Proxy;

/// What is known of a client for all of its requests.
#[derive(Debug)]
struct ClientFacts {
    connection: Connection,
    /// The same, in the form in which pingora hands it to the requests of an HTTP/2 connection.
    digest: Option<Arc<ProxyDigest>>,
}

/// Exchanges of an HTTP/1 connection, handed to pingora.
pub(super) struct Exchanges {
    proxy: Arc<Proxy>,
    facts: Arc<ClientFacts>,
    slot: Slot,
}

impl Exchanges {
    pub(super) fn new(proxy: Arc<Proxy>, connection: Connection) -> Self {
        Self { proxy, facts: Arc::new(ClientFacts { connection, digest: None }), slot: Slot::default() }
    }
}

impl Carry for Exchanges {
    fn connection(&self) -> &Connection {
        &self.facts.connection
    }

    async fn exchange(
        &mut self,
        _engine: &Shared,
        mut wire: Wire<ClientStream>,
        head: Head,
        _timer: &mut Timer,
    ) -> Next {
        let replay = replay(&wire.input, &head);
        wire.consume(head.length);
        let Head { version, target, authority, body, .. } = head;
        let request = Request { version, target, authority };
        let stream = ExchangeStream::new(wire, self.slot.clone(), replay, body, request, self.facts.clone());
        let reusable = self.proxy.exchange(Box::new(stream)).await;
        // Without it the connection is lost.
        let returned = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Returned { mut wire, at_boundary, answered, kept }) = returned else { return Next::Over };
        if wire.flush().await.is_err() {
            return Next::Over;
        }
        if at_boundary && (reusable || kept) && !wire.ended {
            return Next::Again(wire);
        }
        if answered {
            linger(&mut wire).await;
        }
        Next::Over
    }

    async fn http2(self, _engine: Arc<Shared>, wire: Wire<ClientStream>) {
        let connection = self.facts.connection.clone();
        // The header is a dummy that the type asks for.
        let Ok(dummy) = ResponseHeader::build_no_case(StatusCode::OK, Some(0)) else { return };
        let digest = ProxyDigest::new(Box::new(dummy), Some(Box::new(connection.clone())));
        let facts = Arc::new(ClientFacts { connection, digest: Some(Arc::new(digest)) });
        let slot = Arc::new(Mutex::new(None));
        self.proxy.serve_h2(H2Stream::new(wire, slot.clone(), facts)).await;
        let returned = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut wire) = returned {
            linger(&mut wire).await;
        }
    }
}

/// The head as pingora gets it. The target is left out, since nothing that pingora knows about it is used.
fn replay(input: &[u8], head: &Head) -> Bytes {
    let fields = input.get(head.fields_start..head.length).unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(head.method.as_str().len() + 16 + fields.len());
    bytes.put_slice(head.method.as_str().as_bytes());
    bytes.put_slice(if head.version == Version::HTTP_10 { b" / HTTP/1.0\r\n" } else { b" / HTTP/1.1\r\n" });
    bytes.put_slice(fields);
    bytes.freeze()
}

/// Pingora's form of the drain: true from the moment on when nothing new is accepted.
fn shutdown_watch(drain: Drain) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        drain.draining().await;
        sender.send_replace(true);
        // Pingora takes a closed channel for a change again and again, so it stays open.
        sender.closed().await;
    });
    receiver
}
