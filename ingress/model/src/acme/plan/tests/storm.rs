//! How often is asked in an hour in which everything fails, on a simulated clock.

use super::*;

/// Certificates that fail, of one host each.
const CERTIFICATES: usize = 50;

/// How many orders are begun in the first hour in which each one ends like this.
fn orders_in_an_hour(kind: Kind) -> usize {
    let names: Vec<(String, String)> = (0..CERTIFICATES).map(|n| (format!("c{n}"), format!("h{n}.example"))).collect();
    let mut world = World::new(Some(issuer()), Place::Watched);
    let all = names.iter().map(|(secret, host)| asked(secret, &[host]));
    world.ask(all.collect::<Vec<_>>().into());
    let (mut now, mut count) = (START, 0);
    while now < START + HOUR {
        let plan = world.plan(now, &BTreeSet::new());
        assert!(plan.orders.len() <= AT_ONCE);
        count += plan.orders.len();
        let is_busy = !plan.orders.is_empty();
        for order in plan.orders {
            let failure = Failure::new(kind, "no", "");
            let mut outcome = Outcome { is_over: true, ..Outcome::default() };
            match kind {
                Kind::Validation | Kind::Caa | Kind::Dns | Kind::SelfCheck => {
                    outcome.hosts = order.hosts.iter().map(|host| (host.clone(), failure.clone())).collect();
                }
                _ => outcome.whole = Some(failure),
            }
            world.ended(&order.secret, "default", outcome, now);
        }
        // A crash at any time changes nothing.
        let text = serde_json::to_string(world.state()).unwrap();
        world.load(serde_json::from_str(&text).unwrap());
        now = if is_busy { now + 1 } else { plan.next.map_or(now + 60, |next| next.max(now + 1)) };
    }
    count
}

#[test]
fn nothing_that_fails_becomes_a_storm() {
    for (kind, most) in [
        // Let's Encrypt takes five failed validations of a host in an hour.
        (Kind::Validation, 4 * CERTIFICATES),
        (Kind::Caa, 4 * CERTIFICATES),
        (Kind::Refused, 2 * CERTIFICATES),
        (Kind::RateLimited, CERTIFICATES),
        // One failure of the CA's or of the account is one of all certificates.
        (Kind::Unreachable, 9 * AT_ONCE),
        (Kind::Account, 5 * AT_ONCE),
        // These do not ask the CA, or go on with an order that it knows.
        (Kind::Dns, 9 * CERTIFICATES),
        (Kind::SelfCheck, 15 * CERTIFICATES),
    ] {
        let count = orders_in_an_hour(kind);
        assert!(count >= 4 && count <= most, "{kind:?}: {count} orders, at most {most}");
    }
}

/// How many requests a CA gets in an hour about what nobody can order: orders, and questions about renewals.
fn requests_in_an_hour(world: &mut World) -> usize {
    let (mut now, mut count) = (START, 0);
    while now < START + HOUR {
        let plan = world.plan(now, &BTreeSet::new());
        count += plan.orders.len() + plan.checks.len();
        now = plan.next.map_or(now + 60, |next| next.max(now + 1));
        let text = serde_json::to_string(world.state()).unwrap();
        world.load(serde_json::from_str(&text).unwrap());
    }
    count
}

#[test]
fn what_can_not_be_ordered_is_told_and_the_ca_hears_nothing_of_it() {
    let wildcard = world(&[("a", &["*.a.example"])]);
    let mut foreign = world(&[("a", &["a.example"])]);
    put(&mut foreign, secret("a", &["a.example"], false));
    let mut nobody = World::new(Some(issuer()), Place::Watched);
    nobody.ask([Asked { issuer: Some("nobody".into()), ..asked("a", &["a.example"]) }].into());
    let private = world(&[("a", &["nas.home.arpa"])]);
    for (mut world, reason, remedy) in [
        (wildcard, reason::ACME_UNPROVABLE_HOST, "give the issuer dns:"),
        (foreign, reason::ACME_FOREIGN_SECRET, "hand it over"),
        (nobody, reason::ACME_UNKNOWN_ISSUER, "--acme-issuers"),
        (private, reason::ACME_UNPROVABLE_HOST, "landfall.dev/acme: internal"),
    ] {
        let problems = world.plan(START, &BTreeSet::new()).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].reason, reason);
        assert!(problems[0].message().contains(remedy), "{}", problems[0]);
        assert_eq!(requests_in_an_hour(&mut world), 0, "{reason:?}");
    }
}

/// A CA that says nothing of renewals, or always the same, is asked once in an hour for each certificate.
#[test]
fn questions_about_renewals_are_few() {
    for window in [None, Some((START + 60 * DAY, START + 61 * DAY))] {
        let names: Vec<String> = (0..CERTIFICATES).map(|n| format!("c{n}")).collect();
        let mut world = World::new(Some(issuer()), Place::Watched);
        world.ask(names.iter().map(|name| asked(name, &["a.example"])).collect::<Vec<_>>().into());
        let made = secret("c", &["a.example"], true);
        for name in &names {
            let mut secret = made.clone();
            secret.metadata.name = Some(name.clone());
            put(&mut world, secret);
        }
        let (mut now, mut count) = (START + DAY, 0);
        while now < START + DAY + HOUR {
            let plan = world.plan(now, &BTreeSet::new());
            assert!(plan.orders.is_empty());
            for check in plan.checks.into_iter().take(AT_ONCE) {
                count += 1;
                let renewal =
                    Renewal { id: check.id, window, check: now + 6 * HOUR, explanation: None, is_revoked: false };
                world.renewal(&check.secret, renewal);
            }
            now += 60;
        }
        assert_eq!(count, CERTIFICATES);
    }
}

/// A certificate that the CA has revoked and does not issue again: it is asked as for any other that fails.
#[test]
fn a_revoked_certificate_that_can_not_be_replaced_makes_no_storm() {
    let mut world = world(&[("a", &["a.example"])]);
    put(&mut world, secret("a", &["a.example"], true));
    let id = world.plan(START, &BTreeSet::new()).checks[0].id.clone();
    let renewal = Renewal { id, window: None, check: START + DAY, explanation: None, is_revoked: true };
    world.renewal(&key("a"), renewal);
    let (mut now, mut count) = (START, 0);
    while now < START + HOUR {
        let plan = world.plan(now, &BTreeSet::new());
        count += plan.orders.len();
        if !plan.orders.is_empty() {
            fail_host(&mut world, "a", "a.example", Kind::Validation, now);
        }
        now += 1;
    }
    assert!((2..=4).contains(&count), "{count} orders");
}

/// A CA that has everything replaced that it issues, or a clock that is far ahead.
#[test]
fn a_ca_that_recalls_whatever_it_issues_is_asked_ever_less() {
    let mut world = world(&[("a", &["a.example"])]);
    put(&mut world, secret("a", &["a.example"], true));
    let (mut now, mut times) = (START, Vec::new());
    while now < START + 7 * DAY {
        let plan = world.plan(now, &BTreeSet::new());
        for check in plan.checks {
            let window = Some((now - 60, now - 1));
            let renewal = Renewal { id: check.id, window, check: now + 60, explanation: None, is_revoked: true };
            world.renewal(&check.secret, renewal);
        }
        if !plan.orders.is_empty() {
            times.push(now - START);
            let issued = Existing::read(&secret("a", &["a.example"], true));
            world.ended(
                &key("a"),
                "default",
                Outcome { issued: Some(issued), is_over: true, ..Outcome::default() },
                now,
            );
            let text = serde_json::to_string(world.state()).unwrap();
            world.load(serde_json::from_str(&text).unwrap());
        }
        now += 60;
    }
    assert!(times[0] <= 60, "the first one at once: {times:?}");
    assert!(times[1] >= HOUR && times[2] >= 7 * HOUR && times.len() <= 10, "{times:?}");
}

#[test]
fn records_are_tried_again_at_once_when_the_credentials_change() {
    let text = "directory: letsencrypt\ntermsAgreed: true\ndns: {provider: desec, secret: token}\n";
    let read = |text: &str| BTreeMap::from([("default".to_owned(), text.to_owned())]);
    let map = ObjectKey::new("shop", "issuers");
    let mut world = world(&[("a", &["*.a.example"])]);
    world.set_issuers(Some((&map, &read(text))));
    let fail = |world: &mut World| {
        let failure = Failure::new(Kind::Dns, "no such token", "put it there");
        let hosts = vec![("*.a.example".to_owned(), failure)];
        world.ended(&key("a"), "default", Outcome { hosts, ..Outcome::default() }, START);
        let plan = world.plan(START + 1, &BTreeSet::new());
        assert!(plan.orders.is_empty());
        assert_eq!(plan.problems[0].reason, reason::ACME_DNS_FAILED);
        assert!(plan.problems[0].message().contains("no such token"), "{}", plan.problems[0]);
    };
    fail(&mut world);
    put(&mut world, secret("another", &[], false));
    assert!(orders(&world, START + 1).is_empty());
    put(&mut world, secret("token", &["x.example"], false));
    assert_eq!(orders(&world, START + 1), [("a".to_owned(), hosts(&["*.a.example"]))].into());
    fail(&mut world);
    world.set_issuers(Some((&map, &read(&format!("{text}challenges: [dns-01]\n")))));
    assert_eq!(orders(&world, START + 1), [("a".to_owned(), hosts(&["*.a.example"]))].into());
}
