//! Changing the key of an account (RFC 8555 section 7.3.5).
//!
//! The CA takes the new key before it can be kept here. So it is noted beforehand that it is about to; who finds the note
//! asks the CA by the former key, and opens another account if that is not good any more.

use instant_acme::{Account, Error};
use landfall_ingress_model::acme::issuer::Issuer;
use landfall_ingress_model::acme::trouble::Failure;

use super::{Kept, contact, create, https, keep, kept, load};
use crate::acme::edge::Edge;
use crate::acme::failure;
use crate::acme::https::Https;

/// How changing a key has gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::acme) enum Rolled {
    /// The account has the key that the issuer names.
    Settled,
    /// Orders use the account; it is to be tried again.
    Busy,
}

/// Has the CA take another key for the account of an issuer, if the issuer names another one than it has. An account
/// that is yet to be opened gets its key then.
pub(in crate::acme) async fn roll_over(edge: &Edge, issuer: &Issuer) -> Result<Rolled, Failure> {
    let Some(name) = issuer.account_key.clone() else { return Ok(Rolled::Settled) };
    let https = https(edge, issuer)?;
    let uses = edge.accounts.of(&issuer.account());
    let _turn = uses.turn.lock().await;
    let Some(kept) = kept(edge, issuer).await? else { return Ok(Rolled::Settled) };
    if kept.names.contains(&name) {
        return Ok(Rolled::Settled);
    }
    // What orders sign by the former key, the CA refuses afterwards.
    let Ok(_alone) = uses.sessions.try_write() else { return Ok(Rolled::Busy) };
    if kept.is_rolling {
        recover(edge, issuer, &https, kept).await?;
        return Ok(Rolled::Busy);
    }
    let Kept { credentials, mut names, .. } = kept;
    let copy = |credentials: &instant_acme::AccountCredentials| {
        serde_json::to_value(credentials).and_then(serde_json::from_value).map_err(|error| super::unread(&error))
    };
    let mut account = load(&https, copy(&credentials)?).await?;
    let mut noted = Kept { credentials, names: names.clone(), is_rolling: true };
    keep(edge, issuer, &noted).await?;
    match account.update_key().await {
        Ok(credentials) => {
            names.insert(name);
            keep(edge, issuer, &Kept { credentials, names, is_rolling: false }).await?;
            tracing::info!(issuer = issuer.name, account = account.id(), "the key of the ACME account was changed");
            Ok(Rolled::Settled)
        }
        Err(error) => {
            if is_no(&error) {
                noted.is_rolling = false;
                keep(edge, issuer, &noted).await?;
            }
            Err(failure::of_account(&error, https.retry_after()))
        }
    }
}

/// Opens an account of which it is not known whether the CA still takes the key that is kept.
pub(super) async fn recover(edge: &Edge, issuer: &Issuer, https: &Https, kept: Kept) -> Result<Account, Failure> {
    let Kept { credentials, names, .. } = kept;
    let text = serde_json::to_value(&credentials).map_err(|error| super::unread(&error))?;
    let account = load(https, credentials).await?;
    let contact = contact(issuer);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    match account.update_contacts(&contact).await {
        Ok(()) => {
            let credentials = serde_json::from_value(text).map_err(|error| super::unread(&error))?;
            keep(edge, issuer, &Kept { credentials, names, is_rolling: false }).await?;
            Ok(account)
        }
        Err(Error::Api(problem)) if !failure::is_passing(&problem) => {
            let error = problem.to_string();
            tracing::warn!(
                issuer = issuer.name,
                error,
                "the account has got a key that was lost in a crash, so another account is opened"
            );
            create(edge, issuer, https).await
        }
        Err(error) => Err(failure::of_account(&error, https.retry_after())),
    }
}

/// Whether the CA has surely not taken the key.
fn is_no(error: &Error) -> bool {
    matches!(error, Error::Api(_) | Error::Str(_) | Error::Unsupported(_) | Error::Crypto)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_of_before_is_read_and_what_is_noted_comes_back() {
        let before = r#"{"id":"https://ca.example/a/1","key_pkcs8":"AQID","directory":"https://ca.example/dir"}"#;
        let mut kept: Kept = serde_json::from_str(before).unwrap();
        assert!(kept.names.is_empty() && !kept.is_rolling);
        assert_eq!(serde_json::to_string(&kept).unwrap(), before);
        kept.names.insert("2".to_owned());
        kept.is_rolling = true;
        let again: Kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
        assert!(again.names.contains("2") && again.is_rolling);
    }
}
