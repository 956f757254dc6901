//! When a certificate is renewed.

use super::certificate::Facts;
use super::state::Renewal;
use super::trouble::share;

/// When to renew a certificate, in seconds since the epoch.
///
/// Where the CA names a window, a moment in it that is steady for `name` (RFC 9773 section 4.2 has it chosen at
/// random, uniformly); a window in the past means now, and so does a revocation. Else two thirds of the lifetime, up to a thirtieth earlier.
pub fn renew_at(facts: &Facts, renewal: Option<&Renewal>, name: &str) -> u64 {
    let renewal = renewal.filter(|renewal| facts.id.as_ref() == Some(&renewal.id));
    if renewal.is_some_and(|renewal| renewal.is_revoked) {
        return facts.not_before;
    }
    let window = renewal.and_then(|renewal| renewal.window);
    if let Some((start, end)) = window {
        return start + share(name, start, end.saturating_sub(start));
    }
    let lifetime = facts.not_after.saturating_sub(facts.not_before);
    let latest = facts.not_before + lifetime / 3 * 2;
    latest - share(name, facts.not_before, lifetime / 30)
}

/// Whether so little of the lifetime is left that a host which can't be proven must not hold up the others.
pub fn is_urgent(facts: &Facts, now: u64) -> bool {
    let lifetime = facts.not_after.saturating_sub(facts.not_before);
    facts.not_after.saturating_sub(now) < lifetime / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn facts() -> Facts {
        Facts {
            names: ["a.example".to_owned()].into(),
            not_before: 0,
            not_after: 90 * DAY,
            id: Some("id".into()),
            ends_at: Vec::new(),
        }
    }

    #[test]
    fn without_a_word_of_the_ca_two_thirds_are_used() {
        for name in ["a/b", "c/d", "e/f"] {
            let at = renew_at(&facts(), None, name);
            assert!((57 * DAY..=60 * DAY).contains(&at), "{at}");
            assert_eq!(at, renew_at(&facts(), None, name));
        }
        assert_ne!(renew_at(&facts(), None, "a/b"), renew_at(&facts(), None, "c/d"));
    }

    #[test]
    fn the_window_of_the_ca_counts_for_its_certificate_only() {
        let mut renewal = Renewal {
            id: "id".into(),
            window: Some((10 * DAY, 12 * DAY)),
            check: 0,
            explanation: None,
            is_revoked: false,
        };
        assert!((10 * DAY..=12 * DAY).contains(&renew_at(&facts(), Some(&renewal), "a/b")));
        renewal.window = None;
        assert!(renew_at(&facts(), Some(&renewal), "a/b") > 50 * DAY);
        renewal.id = "another".into();
        renewal.window = Some((10, 20));
        renewal.is_revoked = true;
        assert!(renew_at(&facts(), Some(&renewal), "a/b") > 50 * DAY);
        renewal.id = "id".into();
        renewal.window = Some((50 * DAY, 60 * DAY));
        assert_eq!(renew_at(&facts(), Some(&renewal), "a/b"), 0, "revoked, whatever the window");
    }
}
