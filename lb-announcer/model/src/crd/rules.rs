//! Rules in CEL with which the API server itself refuses what can't be right.
//!
//! They use what every supported API server understands: the libraries for IP addresses and prefixes came with
//! Kubernetes 1.31, and an older API server refuses a definition that uses them as a whole. What
//! [`crate::address::Entry`] can read is never refused.

use schemars::Schema;
use serde_json::{Value, json};

/// An IPv4 address: four numbers from 0 to 255 without leading zeros.
const V4: &str = "((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
/// Whatever looks like an IPv4 address, like an IPv6 one, and like one at the end of the other.
const LIKE_V4: &str = "[0-9a-fA-F.]+";
const LIKE_V6: &str = "[0-9a-fA-F]*:[0-9a-fA-F:]*";
const LIKE_MAPPED: &str = "[0-9a-fA-F]*:[0-9a-fA-F:]*[.][0-9.]*";
/// The ends of a range. Rules can't name a value, and lists cost more than an API server allows.
const FIRST: &str = "self.replace('!', '').substring(0, self.replace('!', '').indexOf('-')).trim()";
const LAST: &str = "self.substring(self.indexOf('-') + 1).trim()";

/// Entries of a pool.
///
/// Each rule has one thing to say: where another one has said it already, it holds.
pub(super) fn entries(list: &mut Schema) {
    let any = format!("({LIKE_V4}|{LIKE_V6}|{LIKE_MAPPED})");
    let v6 = ipv6();
    let good_v4 = format!("({V4}|{LIKE_V6}|{LIKE_MAPPED})");
    let good_v6 = format!("({LIKE_V4}|{LIKE_MAPPED}|{v6})");
    let rules = json!([
        rule(
            &matches(&any),
            "write a prefix such as 192.0.2.0/28, a range such as 192.0.2.10-192.0.2.20 or an address; ! before it excludes",
        ),
        rule(
            &format!("!{} || {}", matches(&any), matches(&good_v4)),
            "an IPv4 address has four numbers from 0 to 255 with dots between them, without leading zeros",
        ),
        rule(
            &format!("!{} || {}", matches(&any), matches(&good_v6)),
            "this is not an IPv6 address: it has eight groups of hexadecimal digits, or :: in place of groups of zeros",
        ),
        rule(
            r"!self.contains('/') || (self.contains(':') ? self.matches('/0*([0-9]{1,2}|1[01][0-9]|12[0-8])\\s*$') : self.matches('/0*([12]?[0-9]|3[0-2])\\s*$'))",
            "the length of a prefix goes from 0 to 32 for IPv4 and from 0 to 128 for IPv6",
        ),
        rule(
            "!self.matches('^[^-]*[.][^-]*-[^-.]*$|^[^-.]*-[^-]*[.]')",
            "a range can't mix IPv4 and IPv6; use one for each family",
        ),
        rule(
            &format!("!{} || {} <= {}", range(V4), number(FIRST), number(LAST)),
            "the range ends before it begins; write the lower address first",
        ),
        // Where only the last group differs. The rest would cost too much, and the controller finds it.
        rule(
            &format!(
                "!{} || {} != {} || {} <= {}",
                range(&v6),
                before_last_group(FIRST),
                before_last_group(LAST),
                last_group(FIRST),
                last_group(LAST)
            ),
            "the range ends before it begins; write the lower address first",
        ),
    ]);
    of_items(list, rules);
}

/// The number of an IPv4 address.
fn number(end: &str) -> String {
    let first = format!("{end}.indexOf('.')");
    let second = format!("{end}.indexOf('.', {first} + 1)");
    let third = format!("{end}.lastIndexOf('.')");
    format!(
        "int({end}.substring(0, {first})) * 16777216 + int({end}.substring({first} + 1, {second})) * 65536 + \
         int({end}.substring({second} + 1, {third})) * 256 + int({end}.substring({third} + 1))"
    )
}

fn before_last_group(end: &str) -> String {
    format!("{end}.lowerAscii().substring(0, {end}.lastIndexOf(':'))")
}

/// With four digits, so that texts compare as the numbers do.
fn last_group(end: &str) -> String {
    let group = format!("{end}.lowerAscii().substring({end}.lastIndexOf(':') + 1)");
    format!("'0000'.substring(size({group})) + {group}")
}

/// Whether the entry has such addresses.
fn matches(address: &str) -> String {
    format!(r"self.matches('^\\s*!?\\s*{address}(\\s*/[0-9]{{1,3}}|\\s*-\\s*{address})?\\s*$')")
}

/// Whether it is a range of such addresses.
fn range(address: &str) -> String {
    format!(r"self.matches('^\\s*!?\\s*{address}\\s*-\\s*{address}\\s*$')")
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

/// An IPv6 address without an IPv4 one at its end.
fn ipv6() -> String {
    let group = "[0-9a-fA-F]{1,4}";
    let whole = format!("({group}:){{7}}{group}");
    // So many groups before the gap, so many at most after it.
    let gaps = (1..=6).map(|before| format!("({group}:){{1,{before}}}(:{group}){{1,{}}}", 7 - before));
    let ends = [format!("({group}:){{1,7}}:"), format!(":(:{group}){{1,7}}"), "::".to_owned()];
    let all: Vec<String> = std::iter::once(whole).chain(gaps).chain(ends).collect();
    format!("({})", all.join("|"))
}
