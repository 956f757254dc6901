//! Objects and time in, orders out.

mod storm;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use landfall_model::Change;
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::acme::ask::Asked;
use crate::acme::certificate::{FINGERPRINT, ISSUER, LABEL, MANAGED, REPLACE};
use crate::acme::state::Renewal;
use crate::acme::trouble::{Failure, Kind};
use crate::acme::view::Phase;
use crate::acme::world::{Outcome, Place};
use crate::host::HostPattern;
use crate::reason;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// 2026-01-01, where the certificates of these tests begin.
const START: u64 = 1_767_225_600;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn asked(secret: &str, hosts: &[&str]) -> Asked {
    Asked {
        ingress: key("web"),
        secret: key(secret),
        hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        issuer: None,
        is_explicit: true,
    }
}

fn issuer() -> Issuer {
    Issuer { terms_agreed: true, ..Issuer::new("default", "letsencrypt") }
}

/// A world in which these certificates are asked for.
fn world(all: &[(&str, &[&str])]) -> World {
    let mut world = World::new(Some(issuer()), Place::Watched);
    world.ask(all.iter().map(|(secret, hosts)| asked(secret, hosts)).collect::<Vec<_>>().into());
    world
}

/// A Secret with a certificate of 90 days.
fn secret(name: &str, hosts: &[&str], managed: bool) -> Secret {
    let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 4, 1);
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate().unwrap();
    let pem = params.self_signed(&pair).unwrap().pem();
    let mut secret =
        Secret { data: Some([("tls.crt".to_owned(), ByteString(pem.into_bytes()))].into()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.namespace = Some("shop".to_owned());
    if managed {
        secret.metadata.labels = Some([(LABEL.to_owned(), MANAGED.to_owned())].into());
        let annotations = [(ISSUER.to_owned(), "default".to_owned()), (FINGERPRINT.to_owned(), issuer().fingerprint())];
        secret.metadata.annotations = Some(annotations.into());
    }
    secret
}

fn put(world: &mut World, secret: Secret) {
    world.secrets(Change::Apply(secret.into()));
}

/// The hosts of each order at this time.
fn orders(world: &World, now: u64) -> BTreeMap<String, Vec<String>> {
    let plan = world.plan(now, &BTreeSet::new());
    plan.orders.into_iter().map(|order| (order.secret.name().to_owned(), order.hosts)).collect()
}

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn fail_host(world: &mut World, name: &str, host: &str, kind: Kind, now: u64) {
    let hosts = vec![(host.to_owned(), Failure::new(kind, "the CA's words", "the remedy"))];
    world.ended(&key(name), "default", Outcome { hosts, is_over: true, ..Outcome::default() }, now);
}

fn fail(world: &mut World, name: &str, failure: Failure, now: u64) {
    world.ended(&key(name), "default", Outcome { whole: Some(failure), ..Outcome::default() }, now);
}

#[test]
fn what_is_missing_is_ordered_and_what_is_there_is_not() {
    let mut world = world(&[("a", &["a.example", "b.example"]), ("c", &["c.example"])]);
    assert_eq!(orders(&world, START).len(), 2);
    put(&mut world, secret("a", &["a.example", "b.example"], true));
    assert_eq!(orders(&world, START), [("c".to_owned(), hosts(&["c.example"]))].into());
    let plan = world.plan(START, &[key("c")].into());
    assert!(plan.orders.is_empty());
    let phases: Vec<Phase> = plan.views.iter().map(|view| view.state).collect();
    assert_eq!(phases, [Phase::Issued, Phase::Ordering]);
    // The whole life of the certificate in steps of an hour: it is renewed once, at two thirds.
    let mut renewed = None;
    for hour in 0..90 * 24 {
        let now = START + hour * HOUR;
        if orders(&world, now).contains_key("a") {
            renewed.get_or_insert(hour / 24);
        }
    }
    assert!(matches!(renewed, Some(56..=60)), "{renewed:?}");
}

#[test]
fn names_of_one_secret_are_ordered_together_and_a_new_one_makes_a_new_order() {
    let mut world = world(&[("a", &["a.example"]), ("a", &["b.example"])]);
    assert_eq!(orders(&world, START)["a"], hosts(&["a.example", "b.example"]));
    put(&mut world, secret("a", &["a.example"], true));
    let plan = world.plan(START + DAY, &BTreeSet::new());
    assert_eq!(plan.orders[0].hosts, hosts(&["a.example", "b.example"]));
    assert_eq!(plan.orders[0].kept, ["a.example".to_owned()].into());
    assert!(plan.orders[0].is_renewal && plan.orders[0].replaces.is_some());
    assert_eq!(plan.orders[0].added, ["b.example".to_owned()].into());
    let late = world.plan(START + 61 * DAY, &BTreeSet::new());
    assert!(late.orders[0].added.is_empty(), "it is needed without b, too");
}

#[test]
fn a_foreign_secret_is_left_alone_and_told_of_where_somebody_asked() {
    let mut world = world(&[("a", &["a.example"])]);
    put(&mut world, secret("a", &["a.example"], false));
    for now in [START, START + 89 * DAY, START + 365 * DAY] {
        let plan = world.plan(now, &BTreeSet::new());
        assert!(plan.orders.is_empty() && plan.checks.is_empty());
        assert_eq!(plan.views[0].state, Phase::Foreign);
        assert_eq!(plan.problems[0].reason, reason::ACME_FOREIGN_SECRET);
    }
    let quiet = Asked { is_explicit: false, ..asked("a", &["a.example"]) };
    world.ask([quiet].into());
    assert!(world.plan(START, &BTreeSet::new()).problems.is_empty());
}

#[test]
fn a_failing_host_holds_up_no_other() {
    let mut world = world(&[("a", &["a.example", "bad.example"]), ("c", &["c.example"])]);
    fail_host(&mut world, "a", "bad.example", Kind::Validation, START);
    let now = START + 1;
    assert_eq!(
        orders(&world, now),
        [("a".to_owned(), hosts(&["a.example"])), ("c".to_owned(), hosts(&["c.example"]))].into()
    );
    let plan = world.plan(now, &BTreeSet::new());
    let problem = plan.problems.iter().find(|problem| problem.reason == reason::ACME_VALIDATION_FAILED).unwrap();
    assert!(problem.message().contains("bad.example") && problem.message().contains("the CA's words"), "{problem}");
    // The others have theirs; the failing one is tried with them when its time has come.
    put(&mut world, secret("a", &["a.example"], true));
    put(&mut world, secret("c", &["c.example"], true));
    let plan = world.plan(now, &BTreeSet::new());
    assert!(plan.orders.is_empty());
    let next = plan.next.unwrap();
    assert!((START + 60..=START + 66).contains(&next), "{next}");
    assert_eq!(orders(&world, next), [("a".to_owned(), hosts(&["a.example", "bad.example"]))].into());
    let view = &plan.views[0];
    assert_eq!((view.state, view.next_try), (Phase::Degraded, Some(next)));
}

#[test]
fn what_is_served_for_a_host_is_kept_until_time_runs_out() {
    let mut world = world(&[("a", &["a.example", "b.example"])]);
    put(&mut world, secret("a", &["a.example", "b.example"], true));
    let mut now = START + 61 * DAY;
    assert_eq!(orders(&world, now)["a"].len(), 2);
    // b can't be proven any more: nothing is ordered that would take it away.
    while now < START + 80 * DAY {
        let plan = world.plan(now, &BTreeSet::new());
        match plan.orders.first() {
            Some(order) => {
                assert_eq!(order.hosts.len(), 2);
                fail_host(&mut world, "a", "b.example", Kind::Validation, now);
            }
            None => now = plan.next.unwrap(),
        }
    }
    // In its last days a certificate without b is better than none.
    fail_host(&mut world, "a", "b.example", Kind::Validation, START + 82 * DAY);
    assert_eq!(orders(&world, START + 82 * DAY + 1)["a"], hosts(&["a.example"]));
}

#[test]
fn a_ca_that_is_away_is_asked_ever_less_and_by_one_pace_for_all() {
    let mut world = world(&[("a", &["a.example"]), ("b", &["b.example"])]);
    let away = || Failure::new(Kind::Unreachable, "connection refused", "wait");
    let (mut now, mut tries) = (START, 0);
    while now < START + DAY {
        let plan = world.plan(now, &BTreeSet::new());
        tries += plan.orders.len();
        for order in &plan.orders {
            fail(&mut world, order.secret.name(), away(), now);
        }
        now = world.plan(now, &BTreeSet::new()).next.unwrap();
    }
    assert!((80..150).contains(&tries), "{tries}");
    assert_eq!(world.state().issuers["default"].kind, Kind::Unreachable);
    world.reached("default");
    assert_eq!(orders(&world, now).len(), 2);
}

#[test]
fn an_account_that_is_mended_is_asked_at_once() {
    let mut world = world(&[("a", &["a.example"])]);
    fail(&mut world, "a", Failure::new(Kind::Account, "no", "mend it"), START);
    assert!(orders(&world, START + 1).is_empty());
    let map = ObjectKey::new("ns", "issuers");
    let data = [("default".to_owned(), "directory: letsencrypt\ntermsAgreed: true\nemail: new@example.com".to_owned())];
    world.set_issuers(Some((&map, &data.into())));
    assert_eq!(orders(&world, START + 1).len(), 1);
}

#[test]
fn retry_after_and_state_survive_a_restart() {
    let mut first = world(&[("a", &["a.example"])]);
    let mut failure = Failure::new(Kind::RateLimited, "too many", "wait");
    failure.retry_after = Some(START + 40 * HOUR);
    fail(&mut first, "a", failure, START);
    let text = serde_json::to_string(first.state()).unwrap();
    let mut second = world(&[("a", &["a.example"])]);
    second.load(serde_json::from_str(&text).unwrap());
    assert!(orders(&second, START + 39 * HOUR).is_empty());
    assert_eq!(second.plan(START, &BTreeSet::new()).next, Some(START + 40 * HOUR));
    assert_eq!(orders(&second, START + 40 * HOUR).len(), 1);
}

#[test]
fn the_ca_says_when_to_renew_and_a_window_in_the_past_means_now() {
    let mut world = world(&[("a", &["a.example"])]);
    put(&mut world, secret("a", &["a.example"], true));
    let plan = world.plan(START + DAY, &BTreeSet::new());
    let [check] = &plan.checks[..] else { panic!("{plan:?}") };
    let renewal = |window, check_at| Renewal {
        id: check.id.clone(),
        window,
        check: check_at,
        explanation: None,
        is_revoked: false,
    };
    let soon = START + 2 * DAY;
    world.renewal(&key("a"), renewal(Some((START + 30 * DAY, START + 31 * DAY)), soon));
    assert!(world.plan(START + DAY, &BTreeSet::new()).checks.is_empty());
    assert_eq!(world.plan(soon, &BTreeSet::new()).checks.len(), 1);
    assert!(orders(&world, START + 30 * DAY - 1).is_empty());
    assert_eq!(orders(&world, START + 31 * DAY).len(), 1);
    // Revoked.
    world.renewal(&key("a"), renewal(Some((START - 2 * DAY, START - DAY)), soon));
    let plan = world.plan(START + DAY, &BTreeSet::new());
    assert_eq!(plan.orders[0].replaces.as_ref(), Some(&check.id));
}

#[test]
fn few_orders_are_under_way_at_once() {
    let names: Vec<(String, String)> =
        (0..20).map(|number| (format!("s{number}"), format!("h{number}.example"))).collect();
    let mut world = World::new(Some(issuer()), Place::Watched);
    world.ask(names.iter().map(|(secret, host)| asked(secret, &[host])).collect::<Vec<_>>().into());
    let plan = world.plan(START, &BTreeSet::new());
    assert_eq!(plan.orders.len(), AT_ONCE);
    assert_eq!(plan.views.iter().filter(|view| view.state == Phase::Queued).count(), 16);
    let running: BTreeSet<ObjectKey> = plan.orders.iter().map(|order| order.secret.clone()).collect();
    assert!(world.plan(START, &running).orders.is_empty());
}

#[test]
fn an_order_that_the_ca_knows_is_gone_on_with() {
    let mut world = world(&[("a", &["a.example"])]);
    let known = OrderState {
        url: "https://ca.example/o/1".into(),
        issuer: "default".into(),
        hosts: hosts(&["a.example"]),
        since: START,
    };
    world.began(&key("a"), known.clone());
    fail(&mut world, "a", Failure::new(Kind::Unreachable, "gone", ""), START);
    let plan = world.plan(START + HOUR, &BTreeSet::new());
    assert_eq!(plan.orders[0].resume, Some(known));
    world.ask([asked("a", &["other.example"])].into());
    assert_eq!(world.plan(START + HOUR, &BTreeSet::new()).orders[0].resume, None);
}

#[test]
fn what_cannot_be_ordered_says_why() {
    let mut world = world(&[("a", &["*.example.com", "a.example"])]);
    let plan = world.plan(START, &BTreeSet::new());
    assert_eq!(plan.orders[0].hosts, hosts(&["a.example"]));
    assert_eq!(plan.problems[0].reason, reason::ACME_UNPROVABLE_HOST);
    world.ask([Asked { issuer: Some("other".into()), ..asked("a", &["a.example"]) }].into());
    let plan = world.plan(START, &BTreeSet::new());
    assert_eq!(plan.problems[0].reason, reason::ACME_UNKNOWN_ISSUER);
    assert!(plan.problems[0].message().contains("there are: default"), "{}", plan.problems[0]);
}

#[test]
fn another_issuer_or_key_makes_another_certificate() {
    let mut world = world(&[("a", &["a.example"])]);
    put(&mut world, secret("a", &["a.example"], true));
    assert!(orders(&world, START).is_empty());
    let map = ObjectKey::new("ns", "issuers");
    let data = [("default".to_owned(), "directory: letsencrypt\ntermsAgreed: true\nkeyType: rsa-2048".to_owned())];
    world.set_issuers(Some((&map, &data.into())));
    let plan = world.plan(START, &BTreeSet::new());
    assert_eq!((plan.orders.len(), plan.orders[0].replaces.as_ref()), (1, None));
}

#[test]
fn what_was_issued_is_not_ordered_again_before_the_watch_shows_it() {
    let mut world = world(&[("a", &["a.example"])]);
    let issued = Existing::read(&secret("a", &["a.example"], true));
    world.ended(&key("a"), "default", Outcome { issued: Some(issued), is_over: true, ..Outcome::default() }, START);
    assert!(orders(&world, START).is_empty());
    // An event from before the write comes late.
    world.secrets(Change::Delete(key("a")));
    assert!(orders(&world, START + 1).is_empty());
    assert_eq!(orders(&world, START + 10).len(), 1);
    world.ask(Vec::new().into());
    world.tidy(&BTreeSet::new());
    assert!(world.state().certificates.is_empty());
}

/// A CA of our own as the only issuer.
fn internal_world(hosts: &[&str]) -> World {
    let mut world = World::new([Issuer::new("internal", "internal")], Place::Watched);
    world.ask([asked("a", hosts)].into());
    world
}

/// What it has issued, noted as of this root.
fn internal_secret(hosts: &[&str], root: &str) -> Secret {
    let mut secret = secret("a", hosts, true);
    let fingerprint = format!("{} {root}", Issuer::new("internal", "internal").fingerprint());
    let annotations = [(ISSUER.to_owned(), "internal".to_owned()), (FINGERPRINT.to_owned(), fingerprint)];
    secret.metadata.annotations = Some(annotations.into());
    secret
}

#[test]
fn a_ca_of_our_own_signs_for_what_nobody_else_does_and_says_what_it_does_not() {
    let world = internal_world(&["nas.home.arpa", "*.home.lan", "shop.example.com"]);
    let plan = world.plan(START, &BTreeSet::new());
    assert_eq!(plan.orders[0].hosts, hosts(&["*.home.lan", "nas.home.arpa"]));
    assert_eq!(plan.problems.len(), 1);
    let problem = &plan.problems[0];
    assert_eq!(problem.reason, reason::ACME_UNPROVABLE_HOST);
    assert!(problem.to_string().contains("shop.example.com") && problem.to_string().contains("--ca-permitted"));
    let hosts = &plan.views[0].hosts;
    assert!(hosts.iter().any(|host| host.host == "shop.example.com" && host.remedy.is_some() && host.failures == 0));
    // Beside another issuer it is asked by name only.
    let mut world = World::new([issuer(), Issuer::new("internal", "internal")], Place::Watched);
    world.ask([asked("a", &["a.example"])].into());
    assert_eq!(world.plan(START, &BTreeSet::new()).orders[0].issuer.name, "default");
}

#[test]
fn another_root_makes_another_certificate_and_an_unknown_one_does_not() {
    let mut world = internal_world(&["nas.home.arpa"]);
    put(&mut world, internal_secret(&["nas.home.arpa"], "one"));
    assert!(orders(&world, START).is_empty(), "the root is not known yet");
    assert!(world.plan(START, &BTreeSet::new()).checks.is_empty(), "nobody is asked when to renew");
    world.rooted("internal", "one");
    assert!(orders(&world, START).is_empty());
    assert_eq!(orders(&world, START + 61 * DAY).len(), 1, "it is renewed after two thirds");
    world.rooted("internal", "two");
    assert_eq!(orders(&world, START).len(), 1);
}

#[test]
fn a_revoked_certificate_is_replaced_at_once_and_no_host_holds_that_up() {
    let mut world = world(&[("a", &["a.example", "b.example"])]);
    put(&mut world, secret("a", &["a.example", "b.example"], true));
    fail_host(&mut world, "a", "b.example", Kind::Validation, START + DAY - 60);
    assert!(orders(&world, START + DAY).is_empty());
    let plan = world.plan(START + DAY, &BTreeSet::new());
    let renewal = |is_revoked| Renewal {
        id: plan.checks[0].id.clone(),
        window: Some((START + 60 * DAY, START + 61 * DAY)),
        check: START + 2 * DAY,
        explanation: None,
        is_revoked,
    };
    world.renewal(&key("a"), renewal(false));
    assert!(!world.plan(START + DAY, &BTreeSet::new()).views[0].is_revoked);
    world.renewal(&key("a"), renewal(true));
    let plan = world.plan(START + DAY, &BTreeSet::new());
    assert!(plan.views[0].is_revoked);
    assert_eq!(plan.orders[0].hosts, hosts(&["a.example"]));
    assert!(plan.orders[0].is_revoked && plan.orders[0].kept.is_empty());
    // What was revoked stays so over a restart, and ends with the next certificate.
    let text = serde_json::to_string(world.state()).unwrap();
    world.load(serde_json::from_str(&text).unwrap());
    assert_eq!(orders(&world, START + DAY).len(), 1);
    put(&mut world, secret("a", &["a.example", "b.example"], true));
    let plan = world.plan(START + DAY, &BTreeSet::new());
    assert!(plan.orders.is_empty() && !plan.views[0].is_revoked, "{plan:?}");
}

#[test]
fn a_window_that_moves_into_the_past_is_a_recall_and_one_that_passes_is_not() {
    let renewal = |id: &str, window| Renewal { id: id.into(), window, check: 0, explanation: None, is_revoked: false };
    let (past, future) = (Some((START - 2, START - 1)), Some((START, START + 2)));
    for (former, next, expected) in [
        (None, renewal("x", past), true),
        (Some(renewal("x", future)), renewal("x", past), true),
        (Some(renewal("x", past)), renewal("x", past), false),
        (Some(renewal("y", past)), renewal("x", past), true),
        (Some(renewal("x", future)), renewal("x", future), false),
        (None, renewal("x", None), false),
    ] {
        assert_eq!(next.moves_into_the_past(former.as_ref(), START), expected, "{former:?} {next:?}");
    }
}

#[test]
fn whoever_has_lost_a_key_has_the_certificate_replaced() {
    let mut world = world(&[("a", &["a.example"])]);
    let recalled = |value: &str| {
        let mut secret = secret("a", &["a.example"], true);
        secret.metadata.annotations.get_or_insert_default().insert(REPLACE.to_owned(), value.to_owned());
        secret
    };
    put(&mut world, recalled("false"));
    assert!(orders(&world, START + DAY).is_empty());
    put(&mut world, recalled("true"));
    assert!(world.plan(START + DAY, &BTreeSet::new()).orders[0].is_revoked);
    // A Secret of somebody else's is left alone whatever is on it.
    let mut foreign = recalled("true");
    foreign.metadata.labels = None;
    put(&mut world, foreign);
    assert!(orders(&world, START + DAY).is_empty());
}

#[test]
fn a_chain_that_ends_elsewhere_than_asked_for_is_told() {
    let preferring = |name: &str| Issuer {
        preferred_chain: Some(name.to_owned()),
        terms_agreed: true,
        ..Issuer::new("default", "letsencrypt")
    };
    let told = |name: &str, noted: &Issuer| {
        let mut world = World::new(Some(preferring(name)), Place::Watched);
        world.ask([asked("a", &["a.example"])].into());
        let mut secret = secret("a", &["a.example"], true);
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(FINGERPRINT.to_owned(), noted.fingerprint());
        put(&mut world, secret);
        world.plan(START, &BTreeSet::new()).problems
    };
    let problems = told("Root X", &preferring("Root X"));
    assert_eq!(problems[0].reason, reason::ACME_CHAIN_NOT_OFFERED);
    let message = problems[0].message();
    assert!(message.contains("no chain that ends at \"Root X\"") && message.contains("rcgen self signed"), "{message}");
    assert!(told("rcgen self signed cert", &preferring("rcgen self signed cert")).is_empty());
    // It was not asked for yet.
    assert!(told("Root X", &issuer()).is_empty());
}

#[test]
fn an_account_key_that_can_not_be_changed_holds_nothing_up() {
    let wanted = Issuer { account_key: Some("2".into()), ..issuer() };
    let mut world = World::new(Some(wanted), Place::Watched);
    world.ask([asked("a", &["a.example"])].into());
    assert_eq!(world.account_keys_wanted(START).0.len(), 1);
    world.account_key_changed("default", Some(Failure::new(Kind::Account, "the CA's words", "")), START);
    let (due, next) = world.account_keys_wanted(START + 1);
    assert!(due.is_empty() && next > Some(START + 1));
    let plan = world.plan(START + 1, &BTreeSet::new());
    assert_eq!(plan.orders.len(), 1);
    assert_eq!(plan.problems[0].reason, reason::ACME_ACCOUNT_KEY_KEPT);
    world.account_key_changed("default", None, START + 2);
    assert!(world.plan(START + 2, &BTreeSet::new()).problems.is_empty());
}
