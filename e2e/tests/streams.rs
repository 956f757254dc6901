//! TCP and UDP services from a `ConfigMap`: ports that open, close and lead elsewhere while connections go on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::client;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::Folder;
use landfall_e2e::{tools, wait};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server for TCP and UDP on one port that answers with its name and what it got.
async fn server(name: &'static str) -> Result<SocketAddr> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address).await?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            tokio::spawn(async move {
                let mut data = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut data).await {
                    let _ = stream.write_all(&[name.as_bytes(), b":", &data[..length]].concat()).await;
                }
                let _ = stream.write_all(b"bye").await;
            });
        }
    });
    tokio::spawn(async move {
        let mut data = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut data).await {
            let _ = udp.send_to(&[name.as_bytes(), b":", &data[..length]].concat(), from).await;
        }
    });
    Ok(address)
}

fn service(name: &str, endpoint: SocketAddr) -> String {
    let port = endpoint.port();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{ports: [{{name: t, port: 1, protocol: TCP}}, {{name: u, port: 1, protocol: UDP}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\n\
         ports: [{{name: t, port: {port}, protocol: TCP}}, {{name: u, port: {port}, protocol: UDP}}]\n\
         endpoints: [{{addresses: ['{}'], conditions: {{ready: true}}}}]\n---\n",
        endpoint.ip()
    )
}

fn map(name: &str, entries: &[(u16, &str)]) -> String {
    let entries = entries.iter().fold(String::new(), |all, (port, value)| all + &format!("  \"{port}\": {value}\n"));
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: landfall}}\ndata:\n{entries}---\n")
}

async fn ask(stream: &mut TcpStream, text: &str) -> Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut data = [0; 1024];
    let length = timeout(PATIENCE, stream.read(&mut data)).await??;
    Ok(String::from_utf8(data[..length].to_vec())?)
}

/// Waits until a new connection to the port is answered with `answer`.
async fn answers(port: u16, answer: &str) -> Result<TcpStream> {
    let (stream, _) = wait::until(PATIENCE, &format!("port {port} to answer {answer}"), || async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let got = ask(&mut stream, "x").await?;
        ensure!(got == answer, "{got}");
        Ok(stream)
    })
    .await?;
    Ok(stream)
}

async fn refused(port: u16) -> Result<()> {
    wait::until(PATIENCE, &format!("port {port} to be closed"), || async {
        ensure!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err(), "it is open");
        Ok(())
    })
    .await?;
    Ok(())
}

/// Waits for a problem whose message has all of these parts.
async fn problem(ingress: &Ingress, reason: &str, parts: &[&str]) -> Result<()> {
    wait::until(PATIENCE, &format!("a problem {reason}"), || async {
        let status = ingress.status().await?;
        let problems = status["problems"].as_array().context("no problems")?.clone();
        let is_meant = |problem: &Value| {
            let message = problem["message"].as_str().unwrap_or_default();
            problem["reason"] == reason && parts.iter().all(|part| message.contains(part))
        };
        ensure!(problems.iter().any(is_meant), "{problems:#?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_follow_their_config_maps_and_connections_go_on() -> Result<()> {
    let (a, b) = (server("a").await?, server("b").await?);
    let [first, second, udp, taken] =
        [tools::free_port()?, tools::free_port()?, tools::free_port()?, tools::free_port()?];
    let folder = Folder::new()?;
    folder.write("a.yaml", &service("a", a))?;
    folder.write("b.yaml", &service("b", b))?;
    folder.write("tcp.yaml", &map("tcp", &[(first, "shop/a:1")]))?;
    folder.write("udp.yaml", &map("udp", &[(udp, "shop/a:u")]))?;
    let occupied = TcpListener::bind((Ipv4Addr::LOCALHOST, taken)).await?;
    let flags = ["--tcp-services-configmap", "landfall/tcp", "--udp-services-configmap", "landfall/udp"];
    let ingress =
        Launch::manifests(folder.path()).args(&flags).args(&["--metrics-compatibility", "nginx"]).start().await?;

    let mut open = answers(first, "a:x").await?;
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    datagrams.connect((Ipv4Addr::LOCALHOST, udp)).await?;
    datagrams.send(b"query").await?;
    let mut data = [0; 64];
    let length = timeout(PATIENCE, datagrams.recv(&mut data)).await??;
    ensure!(&data[..length] == b"a:query", "{:?}", &data[..length]);

    // Another Service, another port, and entries that can't be served.
    let own = ingress.admin.port();
    let bad = [(taken, "shop/b:1"), (own, "shop/b:1"), (1, "shop/b"), (2, "shop/c:1")];
    let entries: Vec<(u16, &str)> = [(first, "shop/b:t"), (second, "shop/a:1::PROXY")].into_iter().chain(bad).collect();
    folder.write("tcp.yaml", &map("tcp", &entries))?;
    answers(first, "b:x").await?;
    let mut proxied = TcpStream::connect((Ipv4Addr::LOCALHOST, second)).await?;
    let line = format!("a:PROXY TCP4 127.0.0.1 127.0.0.1 {} {second}\r\n", proxied.local_addr()?.port());
    ensure!(ask(&mut proxied, "").await? == line, "no PROXY header");
    ensure!(ask(&mut open, "y").await? == "a:y", "an open connection was touched");
    problem(&ingress, "PortUnavailable", &["landfall/tcp", &format!("data[{taken}]"), "shop/b:1", "free the port"])
        .await?;
    problem(&ingress, "PortConflict", &["landfall/tcp", &format!("data[{own}]"), "--admin"]).await?;
    problem(&ingress, "InvalidConfigMap", &["data[1]", "shop/b", "write NAMESPACE/SERVICE:PORT"]).await?;
    problem(&ingress, "UnknownService", &["data[2]", "shop/c:1", "did you mean"]).await?;

    // The port becomes free; the others are removed.
    drop(occupied);
    folder.write("tcp.yaml", &map("tcp", &[(taken, "shop/b:1")]))?;
    answers(taken, "b:x").await?;
    refused(first).await?;
    refused(second).await?;
    ensure!(ask(&mut open, "z").await? == "a:z", "an open connection was touched");
    open.shutdown().await?;
    let mut rest = String::new();
    timeout(PATIENCE, open.read_to_string(&mut rest)).await??;
    ensure!(rest == "bye", "{rest}");

    let metrics = client::get(ingress.admin, "admin", "/metrics").await?.text();
    for part in [
        format!(
            "stream_connections_opened_total{{protocol=\"TCP\",port=\"{taken}\",namespace=\"shop\",service=\"b\"}}"
        ),
        format!("stream_received_bytes_total{{protocol=\"UDP\",port=\"{udp}\",namespace=\"shop\",service=\"a\"}} 5"),
        format!("stream_sent_bytes_total{{protocol=\"UDP\",port=\"{udp}\",namespace=\"shop\",service=\"a\"}} 7"),
    ] {
        ensure!(metrics.contains(&format!("landfall_ingress_{part}")), "{part} is missing in\n{metrics}");
    }
    wait::until(PATIENCE, "the line of the connection", || async {
        let log = ingress.log();
        let line = log.lines().find(|line| line.contains("connection") && line.contains(&format!("port={first}")));
        let line = line.context("no line")?.to_owned();
        ensure!(line.contains("backend=shop/a:1") && line.contains("protocol=\"TCP\""), "{line}");
        Ok(())
    })
    .await?;
    Ok(())
}
