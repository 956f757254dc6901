//! Providers against small servers that answer as their documentation says.

mod serve;
mod stand_ins;

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use landfall_ingress_model::acme::issuer;
use landfall_model::ObjectKey;

use super::*;
use crate::acme::names::Names;
use crate::acme::store::{Folder, Manifests, Store};
use serve::Server;
use stand_ins::{ACCOUNT, StandIn, TOKEN};

const ONE: &str = "value-one";
const TWO: &str = "value-two";

/// An issuer with `dns`, and its Secret.
fn issuer(dns: &str) -> Issuer {
    let text = format!("directory: letsencrypt\ndns: {dns}\n");
    let (mut issuers, problems) = issuer::read(&ObjectKey::new("system", "issuers"), &[("le".to_owned(), text)].into());
    assert!(problems.is_empty(), "{problems:?}");
    issuers.remove("le").unwrap()
}

fn store(entries: &[(&str, &str)]) -> Store {
    let manifests = Manifests::default();
    let data = entries.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
    let secret = Arc::new(Secret { data: Some(data), ..Secret::default() });
    manifests.lock().unwrap().insert(ObjectKey::new("system", "credentials"), secret);
    let folder = std::env::temp_dir().join(format!("landfall-dns-{}", std::process::id()));
    Store::Folder(Folder::open(folder, manifests).unwrap())
}

async fn opened(dns: &str, entries: &[(&str, &str)]) -> Result<Box<dyn Provider>, DnsError> {
    let issuer = issuer(dns);
    let dns = issuer.dns.as_deref().unwrap();
    provider(&Names::new(&[]), dns, &Credentials { store: &store(entries), dns }).await
}

fn txt<'a>(name: &'a str, value: &'a str) -> Txt<'a> {
    Txt { host: "www.example.com", name, value }
}

/// Two values stand at one name beside each other, and go one by one; what is there or gone already is no error.
async fn holds_two(kind: &str, stand_in: StandIn) {
    let name = "_acme-challenge.www.example.com";
    let server = Server::start(stand_in.clone()).await;
    let dns = format!("{{provider: {kind}, secret: credentials, url: '{}'}}", server.url());
    let provider = opened(&dns, &[("token", TOKEN)]).await.unwrap();
    provider.check(txt(name, ONE)).await.unwrap();
    assert_eq!(stand_in.values(), [""; 0], "a check changes nothing");
    for (value, wanted) in [(ONE, vec![ONE]), (ONE, vec![ONE]), (TWO, vec![ONE, TWO])] {
        provider.set(txt(name, value)).await.unwrap();
        assert_eq!(stand_in.values(), wanted, "{kind}");
    }
    for (value, wanted) in [(ONE, vec![TWO]), (ONE, vec![TWO]), (TWO, vec![]), (TWO, vec![])] {
        provider.remove(txt(name, value)).await.unwrap();
        assert_eq!(stand_in.values(), wanted, "{kind}");
    }
    let error = provider.check(txt("_acme-challenge.www.elsewhere.org", ONE)).await.unwrap_err();
    assert!(matches!(error, DnsError::Zone(..)), "{kind}: {error:?}");

    let wrong = opened(&dns, &[("token", "another")]).await.unwrap();
    for failure in [wrong.check(txt(name, ONE)).await, wrong.set(txt(name, ONE)).await] {
        let error = failure.unwrap_err();
        assert!(matches!(error, DnsError::Refused(..)), "{kind}: {error:?}");
        let failure = Failure::from(error);
        assert!(failure.remedy.contains("Secret") && !failure.error.contains("another"), "{kind}: {failure:?}");
    }
}

#[tokio::test]
async fn cloudflare() {
    holds_two("cloudflare", StandIn::new(stand_ins::cloudflare)).await;
}

#[tokio::test]
async fn desec() {
    holds_two("desec", StandIn::new(stand_ins::desec)).await;
}

#[tokio::test]
async fn hetzner() {
    holds_two("hetzner", StandIn::new(stand_ins::hetzner)).await;
}

#[tokio::test]
async fn duckdns_holds_one_value_for_a_domain() {
    let stand_in = StandIn::new(stand_ins::duckdns);
    let server = Server::start(stand_in.clone()).await;
    let dns = format!("{{provider: duckdns, secret: credentials, url: '{}'}}", server.url());
    let provider = opened(&dns, &[("token", TOKEN)]).await.unwrap();
    let name = "_acme-challenge.www.home.duckdns.org";
    provider.check(txt(name, ONE)).await.unwrap();
    provider.set(txt(name, ONE)).await.unwrap();
    assert_eq!(stand_in.values(), [ONE]);
    provider.remove(txt(name, ONE)).await.unwrap();
    assert!(stand_in.values().is_empty());
    assert!(matches!(provider.check(txt("_acme-challenge.a.example", ONE)).await, Err(DnsError::Zone(..))));
    let wrong = opened(&dns, &[("token", "another")]).await.unwrap();
    let failure = Failure::from(wrong.set(txt(name, ONE)).await.unwrap_err());
    assert!(failure.remedy.contains("token") && !failure.error.contains("another"), "{failure:?}");
}

#[tokio::test]
async fn a_web_hook_gets_what_legos_httpreq_sends() {
    let stand_in = StandIn::new(stand_ins::webhook);
    let server = Server::start(stand_in.clone()).await;
    let dns = format!("{{provider: webhook, secret: credentials, url: '{}/hook/'}}", server.url());
    let provider = opened(&dns, &[("username", "me"), ("password", TOKEN)]).await.unwrap();
    let name = "_acme-challenge.www.example.com";
    provider.set(txt(name, ONE)).await.unwrap();
    provider.set(txt(name, TWO)).await.unwrap();
    assert_eq!(stand_in.values(), [ONE, TWO]);
    provider.remove(txt(name, ONE)).await.unwrap();
    assert_eq!(stand_in.values(), [TWO]);
    let wrong = opened(&dns, &[("token", "another")]).await.unwrap();
    assert!(matches!(wrong.set(txt(name, ONE)).await, Err(DnsError::Refused(..))));
}

#[tokio::test]
async fn acme_dns_is_asked_only_where_the_name_leads_to_it() {
    let stand_in = StandIn::new(stand_ins::acme_dns);
    let server = Server::start(stand_in.clone()).await;
    let dns = format!("{{provider: acme-dns, secret: credentials, url: '{}'}}", server.url());
    let provider = opened(&dns, &[("acmedns.json", &format!("{{\"example.com\": {ACCOUNT}}}"))]).await.unwrap();
    provider.set(txt("sub.acme-dns.example", ONE)).await.unwrap();
    assert_eq!(stand_in.values(), [ONE]);
    let error = provider.check(txt("_acme-challenge.www.example.com", ONE)).await.unwrap_err();
    let failure = Failure::from(error);
    assert!(failure.remedy.contains("CNAME record to sub.acme-dns.example"), "{failure:?}");
    let record = Txt { host: "other.org", name: "sub.acme-dns.example", value: ONE };
    assert!(matches!(provider.check(record).await, Err(DnsError::Credentials { .. })));
}

#[tokio::test]
async fn a_provider_that_has_been_asked_too_often_is_waited_for() {
    let stand_in = StandIn::new(stand_ins::desec);
    stand_in.throttle(2);
    let server = Server::start(stand_in.clone()).await;
    let dns = format!("{{provider: desec, secret: credentials, url: '{}'}}", server.url());
    let provider = opened(&dns, &[("token", TOKEN)]).await.unwrap();
    provider.set(txt("_acme-challenge.example.com", ONE)).await.unwrap();
    assert_eq!(stand_in.values(), [ONE]);
    stand_in.throttle(100);
    let error = provider.set(txt("_acme-challenge.example.com", TWO)).await.unwrap_err();
    assert!(matches!(error, DnsError::Away(..)), "{error:?}");
}

#[tokio::test]
async fn credentials_that_are_missing_are_named() {
    for (dns, entries, words) in [
        ("{provider: desec, secret: other}", vec![], "Secret system/other"),
        ("{provider: desec, secret: credentials}", vec![("key", "x")], "entry token"),
        ("{provider: rfc2136, server: a, keyName: k, secret: credentials}", vec![("key", "%")], "Base64"),
        ("{provider: webhook, url: 'http://a', secret: credentials}", vec![("username", "a")], "password"),
    ] {
        let Err(error) = opened(dns, &entries).await else { panic!("{dns}") };
        let failure = Failure::from(error);
        let said = format!("{} {}", failure.error, failure.remedy);
        assert!(said.contains(words) && failure.remedy.contains("Secret system/"), "{dns}: {said}");
    }
}

#[test]
fn names_are_cut_where_their_zone_begins() {
    assert_eq!(domains("a.b.example.com").collect::<Vec<_>>(), ["a.b.example.com", "b.example.com", "example.com"]);
    assert_eq!(within("_acme-challenge.a.example.com", "example.com", "@"), "_acme-challenge.a");
    assert_eq!(within("example.com", "example.com", "@"), "@");
    // RFC 8555 section 8.4: Base64 for URLs, without padding, of the digest.
    assert_eq!(value("token.thumb").len(), 43);
}
