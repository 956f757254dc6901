//! Files of passwords, as `htpasswd` writes them: first a password, then the lines of the file.

use landfall_ingress_model::policy::{BasicAuth, is_known, verify};

pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (password, file) = text.split_once('\n').unwrap_or((&text, ""));
    let users = BasicAuth::users_of(file);
    let lines: Vec<String> = users.iter().map(|(name, hash)| format!("{name}:{hash}")).collect();
    assert_eq!(BasicAuth::users_of(&lines.join("\n")), users, "a file of what was read gives the same");
    for (name, hash) in &users {
        assert!(!name.contains([':', '\n']) && !hash.contains('\n'));
        assert!(file.contains(&**name) && file.contains(&**hash));
        // These take as long as they say.
        if hash.starts_with("$2") || hash.contains("rounds=") {
            continue;
        }
        let right = verify(password.as_bytes(), hash);
        assert!(!right || is_known(hash), "{hash:?} is of no known kind");
        if let Some(plain) = hash.strip_prefix("{PLAIN}") {
            assert_eq!(right, plain == password);
        }
    }
}
