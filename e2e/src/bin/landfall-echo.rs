//! The small backend as a program, and a WebSocket client to try it with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser};
use landfall_e2e::echo::Echo;
use landfall_e2e::tls::Trust;
use landfall_e2e::ws::Socket;
use tokio::net::UdpSocket;

/// A backend that says what it was asked.
#[derive(Parser)]
#[command(name = "landfall-echo", version)]
enum Command {
    /// Answer requests; each NAME=ADDR:PORT is one backend.
    Serve {
        /// The backends.
        #[arg(required = true, value_name = "NAME=ADDR:PORT", value_parser = backend)]
        backends: Vec<(String, SocketAddr)>,
    },
    /// Be the one backend of a pod: HTTP and UDP, until some time after SIGTERM.
    Pod(Pod),
    /// Send one message through a WebSocket and print what comes back.
    Ws {
        /// Trust the certificates in this PEM file; needed for wss.
        #[arg(long, value_name = "FILE")]
        cacert: Option<PathBuf>,
        /// Where to connect; a name that ends in .localhost is loopback.
        #[arg(value_name = "URL")]
        url: String,
        /// What to send.
        #[arg(value_name = "MESSAGE")]
        message: String,
    },
}

#[derive(Args)]
struct Pod {
    /// What answers begin with.
    #[arg(long, env = "POD_NAME", default_value = "pod")]
    name: String,
    /// Where HTTP is served; several may be given.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080")]
    http: Vec<SocketAddr>,
    /// Where a datagram is answered with the name, the sender's address and what came.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080")]
    udp: SocketAddr,
    /// How long SIGTERM is answered with more of the same, until everybody has heard that this pod leaves.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    linger: u64,
}

fn backend(text: &str) -> Result<(String, SocketAddr)> {
    let (name, addr) = text.split_once('=').context("write NAME=ADDR:PORT")?;
    Ok((name.to_owned(), addr.parse()?))
}

#[tokio::main]
async fn main() -> Result<()> {
    match Command::parse() {
        Command::Serve { backends } => serve(backends).await,
        Command::Pod(pod) => serve_pod(pod).await,
        Command::Ws { cacert, url, message } => {
            let trust = cacert.as_deref().map(Trust::from_file).transpose()?;
            let mut socket = Socket::open(&url, resolve(&url).await?, trust.as_ref()).await?;
            println!("{}", socket.echo_text(&message).await?);
            socket.close().await
        }
    }
}

async fn serve_pod(pod: Pod) -> Result<()> {
    let mut running = Vec::new();
    for addr in &pod.http {
        running.push(Echo::start(&pod.name, *addr).await.with_context(|| format!("HTTP on {addr}"))?);
    }
    let socket = UdpSocket::bind(pod.udp).await.with_context(|| format!("UDP on {}", pod.udp))?;
    let name = pod.name;
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut datagram).await else { continue };
            let said = String::from_utf8_lossy(&datagram[..length]).into_owned();
            let answer = format!("{name} client: {} {said}", client.ip().to_canonical());
            // Whoever sent it asks again if the answer is lost.
            let _ = socket.send_to(answer.as_bytes(), client).await;
        }
    });
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?.recv().await;
    tokio::time::sleep(Duration::from_secs(pod.linger)).await;
    futures::future::join_all(running.into_iter().map(Echo::finish)).await;
    Ok(())
}

async fn serve(backends: Vec<(String, SocketAddr)>) -> Result<()> {
    let mut running = Vec::new();
    for (name, addr) in backends {
        running.push(Echo::start(&name, addr).await.with_context(|| format!("backend {name} on {addr}"))?);
    }
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

async fn resolve(url: &str) -> Result<SocketAddr> {
    let uri: http::Uri = url.parse()?;
    let host = uri.host().context("the URL has no host")?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("wss") { 443 } else { 80 });
    // RFC 6761 section 6.3: names below localhost are loopback; not every resolver knows.
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    tokio::net::lookup_host((host, port)).await?.next().with_context(|| format!("no address for {host}"))
}
