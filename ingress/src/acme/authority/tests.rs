//! What a CA of our own makes, as a client sees it.

use landfall_ingress_model::acme::certificate::Facts;
use landfall_ingress_model::acme::internal::{Chain, Internal, Lifetime, Permitted};
use landfall_ingress_model::acme::issuer::{Issuer, KeyType};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;

use super::issue::{Signer, check};
use super::make::{self, Validity};
use super::root::Root;
use crate::control::unix_now;

fn now() -> u64 {
    unix_now().as_secs()
}

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn own_root(permitted: &Permitted) -> Root {
    let key = make::key(KeyType::EcdsaP256).unwrap();
    let root = make::root(&key, permitted, Validity::of(Lifetime::ROOT, now(), u64::MAX)).unwrap();
    Root::read(&root.pem(), &key.serialize_pem()).unwrap()
}

/// An intermediate for these names below the root.
fn below(root: &Root, permitted: &Permitted, kind: KeyType) -> Signer {
    let key = make::key(kind).unwrap();
    let validity = Validity::of(Lifetime::INTERMEDIATE, now(), root.chain.not_after);
    let by = rcgen::Issuer::from_ca_cert_der(root.chain.own(), &root.key).unwrap();
    let certificate = make::intermediate(&key, permitted, validity, &by).unwrap().der().clone();
    let sent = std::iter::once(certificate.clone()).chain(root.chain.sent().cloned()).collect();
    Signer { sent, certificate, key, not_after: validity.end }
}

fn sign(signer: &Signer, kind: KeyType, names: &[&str]) -> Vec<CertificateDer<'static>> {
    signer.sign(&make::key(kind).unwrap(), &hosts(names), &Internal::default(), now()).unwrap()
}

#[test]
fn names_wildcards_and_addresses_are_taken_by_who_trusts_the_root() {
    let permitted = Permitted::default();
    let root = own_root(&permitted);
    let names = ["nas.home.arpa", "*.home.lan", "192.168.1.10", "fd00::10"];
    for kind in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
        let chain = sign(&below(&root, &permitted, kind), kind, &names);
        assert_eq!(chain.len(), 2, "the root is not sent");
        check(&chain, &root, &hosts(&names)).unwrap();
        check(&chain, &root, &hosts(&["other.home.arpa"])).unwrap_err();
        check(&chain, &own_root(&permitted), &hosts(&names)).unwrap_err();
    }
}

#[test]
fn what_is_not_permitted_is_refused_by_clients() {
    let lan = Permitted::parse(&["lan"]).unwrap();
    let nets = Permitted::parse(&["10.0.0.0/8"]).unwrap();
    let cases = [
        (&lan, "a.lan", "a.example"),
        (&lan, "a.lan", "10.0.0.1"),
        (&lan, "a.lan", "fd00::1"),
        (&nets, "10.0.0.1", "a.lan"),
        (&nets, "10.0.0.1", "11.0.0.1"),
        (&nets, "10.0.0.1", "fd00::1"),
    ];
    for (permitted, inside, outside) in cases {
        let wide = Permitted::parse(&["default", "example"]).unwrap();
        // By the root, and by the intermediate.
        for (root, of_intermediate) in [(own_root(permitted), &wide), (own_root(&wide), permitted)] {
            let signer = below(&root, of_intermediate, KeyType::EcdsaP256);
            check(&sign(&signer, KeyType::EcdsaP256, &[inside]), &root, &hosts(&[inside])).unwrap();
            let chain = sign(&signer, KeyType::EcdsaP256, &[outside]);
            check(&chain, &root, &hosts(&[outside])).expect_err(outside);
        }
        assert!(own_root(permitted).chain.constraints.allow(inside));
        assert!(!own_root(permitted).chain.constraints.allow(outside), "{outside}");
    }
}

#[test]
fn a_certificate_ends_before_whoever_signed_it_and_begins_a_little_earlier() {
    let root = own_root(&Permitted::default());
    let mut signer = below(&root, &Permitted::default(), KeyType::EcdsaP256);
    signer.not_after = now() + 1000;
    let chain = sign(&signer, KeyType::Rsa2048, &["nas.lan"]);
    let facts = Facts::read(super::root::pem(&chain[0]).as_bytes()).unwrap();
    assert_eq!(facts.not_after, signer.not_after + 1);
    assert!(facts.not_before < now(), "slow clocks take it, too");
    // Whoever may sign authorities has a certificate that says so.
    assert!(Chain::read(&super::root::pem(&chain[0])).unwrap_err().contains("basic constraints"));
    assert!(!Chain::read(&super::root::pem(&chain[1])).unwrap().has_room_below);
}

#[test]
fn a_root_that_somebody_brings_along_is_looked_at() {
    let pair = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example Org");
    let plain = params.self_signed(&pair).unwrap().pem();
    let said = |outcome: Result<Root, _>| match outcome {
        Ok(_) => "nothing".to_owned(),
        Err(failure) => {
            let failure: landfall_ingress_model::acme::trouble::Failure = failure;
            failure.error
        }
    };
    assert!(said(Root::read(&plain, &pair.serialize_pem())).contains("not one of an authority"));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&pair).unwrap().pem();
    let other = KeyPair::generate().unwrap().serialize_pem();
    assert!(said(Root::read(&root, &other)).contains("does not belong"));
    assert!(said(Root::read("nonsense", &other)).contains("no certificate"));
    assert!(said(Root::read(&root, "nonsense")).contains("key can't be read"));
    let read = Root::read(&root, &pair.serialize_pem()).unwrap();
    assert!(read.chain.has_room_below && read.chain.constraints.allow("anything.example"));
    let chain = sign(&below(&read, &Permitted::default(), KeyType::EcdsaP256), KeyType::EcdsaP256, &["a.lan"]);
    check(&chain, &read, &hosts(&["a.lan"])).unwrap();

    // One below a root, which may have none below itself, and the way up to the root.
    let lower = make::key(KeyType::EcdsaP384).unwrap();
    let by = rcgen::Issuer::from_ca_cert_der(read.chain.own(), &read.key).unwrap();
    let validity = Validity::of(Lifetime::INTERMEDIATE, now(), u64::MAX);
    let certificate = make::intermediate(&lower, &Permitted::default(), validity, &by).unwrap();
    let both = certificate.pem() + &root;
    let sub = Root::read(&both, &lower.serialize_pem()).unwrap();
    assert!(!sub.chain.has_room_below && sub.anchor() == super::root::pem(read.chain.own()));
    let sent: Vec<_> = sub.chain.sent().cloned().collect();
    assert_eq!(sent.len(), 1);
    let key = KeyPair::from_pem(&lower.serialize_pem()).unwrap();
    let signer = Signer { sent, certificate: sub.chain.own().clone(), key, not_after: sub.chain.not_after };
    check(&sign(&signer, KeyType::EcdsaP256, &["a.lan"]), &sub, &hosts(&["a.lan"])).unwrap();
}

mod kept {
    //! In a state folder.

    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use landfall_ingress_model::acme::challenges::Challenges;
    use landfall_ingress_model::acme::plan::Order;
    use landfall_ingress_model::acme::trouble::Kind;
    use landfall_ingress_model::acme::world::{Outcome, Place, World};
    use landfall_model::ObjectKey;

    use super::*;
    use crate::acme::authority::{Roots, Tending, carry_out};
    use crate::acme::edge::Edge;
    use crate::acme::names::Names;
    use crate::acme::settings::SelfCheck;
    use crate::acme::store::{Folder, Manifests, Store};

    const DAY: u64 = 86_400;

    /// A state folder, and what works on it.
    struct Kept(std::path::PathBuf, Arc<Edge>);

    impl Kept {
        fn new(name: &str, issuer: &Issuer) -> Self {
            let root = std::env::temp_dir().join(format!("landfall-authority-{}-{name}", std::process::id()));
            let edge = Self::edge(&root, issuer);
            Self(root, edge)
        }

        fn edge(root: &std::path::Path, issuer: &Issuer) -> Arc<Edge> {
            let store = Store::Folder(Folder::open(root.to_owned(), Manifests::default()).unwrap());
            let world = World::new([issuer.clone()], Place::Stored);
            let (challenges, roots) = (Arc::new(Challenges::default()), Arc::new(Roots::default()));
            Arc::new(Edge::new(store, Names::new(&[]), SelfCheck::Off, challenges, roots, world))
        }

        async fn order(&self, issuer: &Issuer, names: &[&str]) -> Outcome {
            let order = Order {
                secret: ObjectKey::new("shop", "web"),
                issuer: issuer.clone(),
                hosts: hosts(names),
                kept: BTreeSet::new(),
                added: BTreeSet::new(),
                replaces: None,
                resume: None,
                ingresses: Vec::new(),
                is_renewal: false,
                is_revoked: false,
            };
            carry_out(self.1.clone(), order).await
        }

        fn file(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn issuer(permitted: &str, lifetime: &str) -> Issuer {
        let internal = Internal {
            permitted: Permitted::parse(&[permitted]).unwrap(),
            lifetime: Lifetime::parse(lifetime).unwrap(),
            ..Internal::default()
        };
        Issuer { internal: Some(internal.into()), ..Issuer::new("internal", "internal") }
    }

    #[tokio::test]
    async fn one_root_is_made_and_kept_and_an_intermediate_for_what_is_wanted_now() {
        let home = issuer("home.arpa", "7d");
        let place = Kept::new("one", &home);
        let outcome = place.order(&home, &["a.home.arpa"]).await;
        assert!(outcome.issued.is_some() && outcome.whole.is_none(), "{outcome:?}");
        let (root, first) = (place.file("authority/ca.crt"), place.file("authority/intermediate.internal.crt"));
        assert!(!root.is_empty() && place.file("ca.crt") == root && place.1.roots.text() == Some(root.clone()));
        let mode = std::fs::metadata(place.0.join("authority/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // Another process goes on with both.
        let again = Kept(place.0.clone(), Kept::edge(&place.0, &home));
        again.order(&home, &["b.home.arpa"]).await;
        assert_eq!(
            (again.file("authority/ca.crt"), again.file("authority/intermediate.internal.crt")),
            (root.clone(), first.clone())
        );
        // Other names: another intermediate, the same root, which does not permit all of them.
        let wider = Issuer {
            internal: Some(
                Internal { permitted: Permitted::parse(&["home.arpa", "lan"]).unwrap(), ..Internal::default() }.into(),
            ),
            ..home.clone()
        };
        let outcome = again.order(&wider, &["a.home.arpa", "a.lan"]).await;
        assert!(outcome.issued.is_some() && again.file("authority/ca.crt") == root);
        assert_ne!(again.file("authority/intermediate.internal.crt"), first);
        let (host, failure) = &outcome.hosts[0];
        assert_eq!((host.as_str(), failure.kind), ("a.lan", Kind::NotPermitted));
        assert!(failure.remedy.contains("another root"), "{}", failure.remedy);
        std::mem::forget(again);
    }

    #[tokio::test]
    async fn an_intermediate_is_made_anew_when_it_would_not_outlive_a_certificate() {
        let home = issuer("home.arpa", "7d");
        let place = Kept::new("anew", &home);
        place.order(&home, &["a.home.arpa"]).await;
        let first = place.file("authority/intermediate.internal.crt");
        let key = place.file("authority/intermediate.internal.key");
        let root = Root::find(&place.1, home.internal.as_deref().unwrap()).await.unwrap().unwrap();
        let open =
            async |now| Signer::open(&place.1, home.internal.as_deref().unwrap(), &home, &root, now).await.unwrap();
        open(now() + 200 * DAY).await;
        assert_eq!(place.file("authority/intermediate.internal.crt"), first);
        let later = open(now() + 250 * DAY).await;
        assert_ne!(place.file("authority/intermediate.internal.crt"), first);
        assert_ne!(place.file("authority/intermediate.internal.key"), key);
        assert!(later.not_after > now() + 600 * DAY);
    }

    #[tokio::test]
    async fn half_a_root_is_reported_and_left_alone() {
        let home = issuer("home.arpa", "7d");
        let place = Kept::new("half", &home);
        std::fs::create_dir_all(place.0.join("authority")).unwrap();
        std::fs::write(place.0.join("authority/ca.key"), "mine").unwrap();
        let outcome = place.order(&home, &["a.home.arpa"]).await;
        let failure = outcome.whole.unwrap();
        assert_eq!(failure.kind, Kind::Authority);
        assert!(failure.error.contains("no ca.crt"), "{}", failure.error);
        assert_eq!(place.file("authority/ca.key"), "mine");
    }

    #[tokio::test]
    async fn a_root_is_there_before_anybody_asks_and_one_that_is_replaced_is_noticed() {
        let home = issuer("home.arpa", "7d");
        let place = Kept::new("tend", &home);
        let mut tending = Tending::default();
        assert_eq!(tending.tend(&place.1, None, 1_000).await, None, "nobody asked for internal");
        let next = tending.tend(&place.1, Some("internal"), now()).await.unwrap();
        let root = place.1.roots.text().unwrap();
        assert_eq!(place.file("ca.crt"), root);
        std::fs::remove_dir_all(place.0.join("authority")).unwrap();
        tending.tend(&place.1, Some("internal"), next - 1).await;
        assert_eq!(place.1.roots.text(), Some(root.clone()));
        tending.tend(&place.1, Some("internal"), next).await;
        assert_ne!(place.1.roots.text(), Some(root));
    }
}
