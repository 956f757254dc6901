//! Who watches sees what passes its filter, and how much it can't see.

use std::time::{Duration, SystemTime};

use http::Version;
use landfall_shared::admin::Query;

use super::*;
use crate::engine::Scheme;

fn exchange(host: &'static str, target: &'static str, status: u16) -> Exchange<'static> {
    Exchange {
        start: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
        duration: Duration::from_micros(3210),
        request_id: "id".into(),
        client: "::ffff:192.0.2.7".parse().unwrap(),
        peer: "127.0.0.1:1".parse().unwrap(),
        method: "GET".into(),
        scheme: Scheme::Https,
        host: host.into(),
        target: target.into(),
        version: Version::HTTP_2,
        status,
        received: 1,
        sent: 2,
        route: None,
        canary: None,
        upstream: None,
        tries: 0,
        user_agent: Some("agent".into()),
        referer: Some("https://shop.example/?token=secret".into()),
        fields: None,
        tls: None,
        span: None,
        error: None,
    }
}

fn filter(query: &str) -> Filter {
    Filter::read(&Query::parse(query)).unwrap()
}

#[test]
fn a_filter_takes_what_it_names() {
    let seen = exchange("Shop.example:8443", "/cart?item=1", 503);
    for query in
        ["", "host=shop", "status=5xx", "status=404,503", "client=192.0.2.0/24", "client=192.0.2.7", "path=/ca"]
    {
        assert!(filter(query).takes(&seen), "{query}");
    }
    for query in ["host=blog", "status=4xx", "client=192.0.2.8", "path=item", "route=shop", "method=POST"] {
        assert!(!filter(query).takes(&seen), "{query}");
    }
    for query in ["status=abc", "status=5x", "client=me"] {
        let error = Filter::read(&Query::parse(query)).unwrap_err().to_string();
        assert!(error.contains(query.split('=').nth(1).unwrap()), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_counted() {
    let live = Live::new(Queries::Masked);
    live.exchange(&exchange("shop.example", "/before", 200));
    assert!(!live.is_watched());
    let mut stream = live.watch(filter("host=shop"), "pod-1").unwrap();
    assert!(live.is_watched());
    let mut next = async || String::from_utf8(stream.next().await.unwrap().to_vec()).unwrap();
    assert_eq!(next().await, "event: replica\ndata: {\"replica\":\"pod-1\"}\n\n");
    live.exchange(&exchange("blog.example", "/other", 200));
    for _ in 0..ROOM + 70 {
        live.exchange(&exchange("shop.example", "/reset?token=secret", 200));
    }
    let text = next().await;
    assert_eq!(text.matches("event: request").count(), ROOM);
    assert!(text.contains("event: dropped\ndata: {\"dropped\":70}\n\n"), "{text}");
    assert!(text.contains("\"path\":\"/reset?token=***\"") && !text.contains("secret") && !text.contains("blog"));
    assert!(text.contains("\"time_ms\":1500,\"client.addr\":\"::ffff:192.0.2.7\",\"method\":\"GET\""), "{text}");
    assert!(text.contains("\"duration_ms\":3.21"), "{text}");
    // Then nothing happens, and the connection is kept alive.
    assert_eq!(next().await, ":\n\n");
    drop(stream);
    assert!(!live.is_watched());
}

#[tokio::test]
async fn only_a_few_watch_at_a_time() {
    let live = Live::new(Queries::Masked);
    let streams: Vec<_> = (0..WATCHERS).map(|_| live.watch(Filter::default(), "").unwrap()).collect();
    assert!(live.watch(Filter::default(), "").is_err());
    drop(streams);
    assert!(live.watch(Filter::default(), "").is_ok());
}
