//! What becomes of requests to hosts that ask for client certificates.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::*;
use crate::authorities::Authorities;
use crate::policy::{ClientCertificates, Demand, Template};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> Authority {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

impl Authority {
    fn policy(&self, demand: Demand) -> ClientCertificates {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let authorities = Authorities::parse(self.pem.as_bytes(), None, algorithms).unwrap();
        let authorities = Ok(Arc::new(authorities));
        ClientCertificates { demand, authorities, depth: 1, error_page: None, pass: false, subject: None }
    }

    fn client(&self, name: &str) -> Arc<ClientCertificate> {
        let key = KeyPair::generate().unwrap();
        let certificate = named(name).signed_by(&key, &self.issuer).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let now = UnixTime::since_unix_epoch(Duration::from_hours(494_520));
        Arc::new(ClientCertificate::new(chain, now, None).unwrap())
    }
}

/// A table whose one host asks for this.
fn asking(policy: &ClientCertificates, route: RoutePolicy) -> Table {
    let mut table = table(route, Dialect::IngressNginx);
    for routes in table.exact.values_mut() {
        Arc::get_mut(routes).unwrap().client_certificates = Some(Arc::new(policy.clone()));
    }
    table
}

fn tls(name: Option<&str>, client: Option<&Arc<ClientCertificate>>) -> Tls {
    let server_name = name.map(|name| HostName::from_authority(name).unwrap());
    Tls { server_name, client: client.cloned(), session: TlsSession::default() }
}

const TEXT: &str = "GET /app HTTP/1.1\nHost: shop.example\nssl-client-verify: SUCCESS\nssl_client_s_dn: CN=me";

type Heard<'a> = Result<&'a [&'a str], u16>;

/// The status, or what the backend hears of the certificate.
fn check(table: &Table, tls: Option<&Tls>, expected: Heard<'_>) {
    let found = outcome(ask(table, "198.51.100.7", tls.cloned(), TEXT), TEXT);
    let found = found.map(|(_, fields)| {
        let about = |field: &String| field.starts_with("ssl");
        fields.into_iter().filter(about).collect::<Vec<_>>()
    });
    assert_eq!(found, expected.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect()), "{tls:?}");
}

#[test]
fn who_is_let_in_depends_on_the_certificate_and_on_what_is_asked_for() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let (friend, stranger) = (ours.client("me"), theirs.client("me"));
    let host = Some("shop.example");
    let known: &[&str] =
        &["ssl-client-issuer-dn: CN=ours", "ssl-client-subject-dn: CN=me", "ssl-client-verify: SUCCESS"];
    let foreign: &[&str] = &[
        "ssl-client-issuer-dn: CN=theirs",
        "ssl-client-subject-dn: CN=me",
        "ssl-client-verify: FAILED:unable to verify the first certificate",
    ];
    let none: &[&str] = &["ssl-client-verify: NONE"];
    let cases: [(Demand, [Heard<'_>; 4]); 4] = [
        (Demand::Required, [Err(400), Ok(known), Err(400), Err(400)]),
        (Demand::Optional, [Ok(none), Ok(known), Err(400), Ok(&[])]),
        (Demand::OptionalNoCa, [Ok(none), Ok(known), Ok(foreign), Ok(&[])]),
        (Demand::Off, [Ok(none), Ok(none), Ok(none), Ok(&[])]),
    ];
    for (demand, [without, with, strange, plain]) in cases {
        let table = asking(&ours.policy(demand), RoutePolicy::default());
        check(&table, Some(&tls(host, None)), without);
        check(&table, Some(&tls(host, Some(&friend))), with);
        check(&table, Some(&tls(host, Some(&stranger))), strange);
        check(&table, None, plain);
    }
    check(&table(RoutePolicy::default(), Dialect::Kubernetes), None, Ok(&[]));
}

#[test]
fn a_connection_for_another_host_is_misdirected_and_one_for_none_has_no_certificate() {
    let ours = authority("ours");
    let mut table = asking(&ours.policy(Demand::Required), RoutePolicy::default());
    let other = HostName::from_authority("other.example").unwrap();
    let routes = table.exact.values().next().unwrap().clone();
    table.exact.insert(other, routes);
    check(&table, Some(&tls(Some("other.example"), Some(&ours.client("me")))), Err(421));
    check(&table, Some(&tls(Some("unknown.example"), None)), Err(400));
    check(&table, Some(&tls(None, None)), Err(400));
}

#[test]
fn nobody_gets_in_by_authorities_that_are_not_known_or_by_another_name() {
    let ours = authority("ours");
    let host = Some("shop.example");
    let shut = ClientCertificates { authorities: Err("no Secret".into()), ..ours.policy(Demand::Optional) };
    let named = ClientCertificates {
        subject: Some(regex::Regex::new("CN=(me|you)").unwrap()),
        ..ours.policy(Demand::Optional)
    };
    for (policy, name, expected) in [(&shut, "me", Some(403)), (&named, "me", None), (&named, "them", Some(403))] {
        let table = asking(policy, RoutePolicy::default());
        let decision = ask(&table, "198.51.100.7", Some(tls(host, Some(&ours.client(name)))), TEXT);
        assert_eq!(outcome(decision, TEXT).err(), expected, "{name}");
        check(&table, None, Err(403));
    }
}

#[test]
fn who_has_none_may_be_sent_elsewhere_and_plain_requests_to_https() {
    let ours = authority("ours");
    let page = Some(Template::of_variables("https://help.example/?of=$host").unwrap());
    let policy = ClientCertificates { error_page: page, ..ours.policy(Demand::Required) };
    let to_https = RoutePolicy { https_redirect: HttpsRedirect::Always, ..RoutePolicy::default() };
    let place = |table: &Table, tls| match ask(table, "198.51.100.7", tls, TEXT) {
        Decision::Answer(answer, _) => {
            let field = answer.headers.iter().find(|(name, _)| *name == LOCATION);
            (answer.status.as_u16(), field.map(|(_, value)| value.to_str().unwrap().to_owned()).unwrap_or_default())
        }
        decision => panic!("{decision:?}"),
    };
    let table = asking(&policy, RoutePolicy::default());
    let elsewhere = (302, "https://help.example/?of=shop.example".to_owned());
    assert_eq!(place(&table, Some(tls(Some("shop.example"), None))), elsewhere);
    assert_eq!(place(&table, None), elsewhere);
    assert_eq!(place(&asking(&policy, to_https), None), (308, "https://shop.example/app".to_owned()));
}
