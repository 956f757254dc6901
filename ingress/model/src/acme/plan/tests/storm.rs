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
