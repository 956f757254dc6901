//! Rules in CEL with which the API server itself refuses what can't be right.
//!
//! They use what every supported API server understands: the libraries for IP addresses and prefixes came with
//! Kubernetes 1.31, and an older API server refuses a definition that uses them as a whole. What
//! [`crate::address::Entry`] can read is never refused.

use schemars::Schema;
use serde_json::{Value, json};

/// A number from 0 to 255 without leading zeros.
const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
/// The two ends of a range, or the address of a prefix.
const ENDS: &str = "self.replace('!', '').split('/')[0].split('-').map(e, e.trim().lowerAscii())";

/// Entries of a pool.
pub(super) fn entries(list: &mut Schema) {
    let octet = OCTET;
    let v4 = format!("^({octet}[.]){{3}}{octet}$");
    let v6 = ipv6();
    let number = "e.split('.').map(o, int(o))";
    // As 32 hexadecimal digits, which compare as the numbers do.
    let digits = "[e.split('::').map(s, s == '' ? '' : s.split(':').map(h, '0000'.substring(size(h)) + h).join(''))]\
        .map(s, size(s) == 1 ? s[0] : s[0] + '00000000000000000000000000000000'.substring(size(s[0]) + size(s[1])) + s[1])[0]";
    let rules = json!([
        rule(
            r"self.matches('^\\s*!?\\s*[0-9a-fA-F:.]+(\\s*/[0-9]{1,3}|\\s*-\\s*[0-9a-fA-F:.]+)?\\s*$')",
            "write a prefix such as 192.0.2.0/28, a range such as 192.0.2.10-192.0.2.20 or an address; ! before it excludes",
        ),
        rule(
            &format!("{ENDS}.all(e, e.contains(':') || e.matches('{v4}'))"),
            "an IPv4 address has four numbers from 0 to 255 with dots between them, without leading zeros",
        ),
        rule(
            &format!("{ENDS}.all(e, !e.contains(':') || e.contains('.') || e.matches('{v6}'))"),
            "this is not an IPv6 address: it has eight groups of hexadecimal digits, and :: once in place of groups of zeros",
        ),
        rule(
            r"!self.contains('/') || (self.contains(':') ? self.matches('/0*([0-9]{1,2}|1[01][0-9]|12[0-8])\\s*$') : self.matches('/0*([12]?[0-9]|3[0-2])\\s*$'))",
            "the length of a prefix goes from 0 to 32 for IPv4 and from 0 to 128 for IPv6",
        ),
        rule(
            &format!("!self.contains('-') || [{ENDS}].all(r, r[0].contains('.') == r[1].contains('.'))"),
            "a range can't mix IPv4 and IPv6; use one for each family",
        ),
        rule(
            &format!(
                "!self.contains('-') || {ENDS}.exists(e, !e.matches('{v4}')) || [{ENDS}.map(e, {number})].all(r, \
                 r[0][0] * 16777216 + r[0][1] * 65536 + r[0][2] * 256 + r[0][3] <= \
                 r[1][0] * 16777216 + r[1][1] * 65536 + r[1][2] * 256 + r[1][3])"
            ),
            "the range ends before it begins; write the lower address first",
        ),
        rule(
            &format!(
                "!self.contains('-') || {ENDS}.exists(e, !e.matches('{v6}')) || \
                 [{ENDS}.map(e, {digits})].all(r, r[0] <= r[1])"
            ),
            "the range ends before it begins; write the lower address first",
        ),
    ]);
    of_items(list, rules);
}

/// Names of interfaces: the kernel's own rule (`dev_valid_name`).
pub(super) fn interfaces(list: &mut Schema) {
    let rules = json!([rule(
        r"self.matches('^[^\\s/:]{1,15}$')",
        "no interface can have this name: use one as \"ip link\" prints it, with at most 15 characters and without /, : \
         and blanks; patterns are not understood here",
    )]);
    of_items(list, rules);
}

/// Expressions of a label query.
pub(super) fn expressions(list: &mut Schema) {
    let rules = json!([rule(
        "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
        "In and NotIn need at least one value; Exists and DoesNotExist take none",
    )]);
    of_items(list, rules);
}

fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

fn of_items(list: &mut Schema, rules: Value) {
    if let Some(Value::Object(items)) = list.get_mut("items") {
        items.insert("x-kubernetes-validations".to_owned(), rules);
    }
}

/// An IPv6 address in lower case, without an IPv4 one at its end.
fn ipv6() -> String {
    let group = "[0-9a-f]{1,4}";
    let whole = format!("({group}:){{7}}{group}");
    // So many groups before the gap, so many at most after it.
    let gaps = (1..=6).map(|before| format!("({group}:){{1,{before}}}(:{group}){{1,{}}}", 7 - before));
    let ends = [format!("({group}:){{1,7}}:"), format!(":(:{group}){{1,7}}"), "::".to_owned()];
    let all: Vec<String> = std::iter::once(whole).chain(gaps).chain(ends).collect();
    format!("^({})$", all.join("|"))
}
