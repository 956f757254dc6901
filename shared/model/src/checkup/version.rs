//! The API server's version.

use super::OLD_KUBERNETES;
use crate::{Findings, ObjectKey, ObjectRef, Problem};

/// The oldest version that the chart installs on.
const OLDEST: (u32, u32) = (1, 29);

/// Judges the version as `/version` gives it: `major` and `minor`, the latter perhaps with a plus sign.
pub fn version(major: &str, minor: &str) -> Findings {
    let number = |text: &str| -> Option<u32> {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let mut findings = Findings::new();
    match (number(major), number(minor)) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {
            findings.good("kubernetes", format!("Kubernetes {major}.{minor}"));
        }
        (Some(major), Some(minor)) => {
            let about = ObjectRef::new("Cluster", ObjectKey::cluster("API server"));
            let cause =
                format!("Kubernetes is {major}.{minor}, and {}.{} is the oldest that is supported", OLDEST.0, OLDEST.1);
            findings.bad(
                "kubernetes",
                Problem::new(about, OLD_KUBERNETES, cause).remedy("upgrade the cluster before you install"),
            );
        }
        _ => findings.unknown("kubernetes", format!("the version {major:?}.{minor:?} can't be read")),
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (major, minor, fails) in [("1", "33", false), ("1", "29+", false), ("1", "9", true), ("1", "28", true)] {
            assert_eq!(version(major, minor).fails(), fails, "{major}.{minor}");
        }
        assert!(!version("one", "").fails());
    }
}
