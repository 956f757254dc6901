//! Accounts at the CA.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use landfall_e2e::ingress::Ingress;
use landfall_e2e::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::stage::{ALONE, PATIENCE, Stage, becomes_secure, ingress};

impl Stage {
    /// The file of the only account that is kept.
    fn account_path(&self) -> Result<PathBuf> {
        let files = std::fs::read_dir(self.state.path().join("acme/accounts"))?.flatten().map(|entry| entry.path());
        // One that is just being written is none yet.
        let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|name| name == "json")).collect();
        let [file] = &files[..] else { anyhow::bail!("{files:?}") };
        Ok(file.clone())
    }

    fn account(&self) -> Result<Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(self.account_path()?)?)?)
    }

    /// The account once it has another key than `before`.
    async fn another_key(&self, before: &Value) -> Result<Value> {
        let (account, _) = wait::until(PATIENCE, "another key", || async {
            let after = self.account()?;
            ensure!(after["key_pkcs8"] != before["key_pkcs8"] && after["isRolling"].is_null(), "it is the same key");
            Ok(after)
        })
        .await?;
        Ok(account)
    }

    /// Kills the ingress, and starts another one that finds this account as if its key were being changed.
    async fn crash(&self, mut served: Ingress, account: &Value, arguments: &[&str]) -> Result<Ingress> {
        served.signal(Signal::SIGKILL)?;
        served.ended(PATIENCE).await?;
        let mut account = account.clone();
        account["isRolling"] = true.into();
        std::fs::write(self.account_path()?, account.to_string())?;
        self.ingress(arguments).await
    }

    /// An issuer called `mine` whose account's key has this name.
    fn name_key(&self, name: &str) -> Result<()> {
        let issuer = json!({
            "directory": self.pebble.directory(), "email": "me@example.com", "termsAgreed": true,
            "caBundle": std::fs::read_to_string(self.pebble.authority())?, "accountKey": name,
            "httpPort": self.plain.port, "tlsPort": self.secure.port,
        });
        let data = json!({"mine": issuer.to_string()});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuers"}, "data": data});
        self.folder.write("issuers.yaml", &map.to_string())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_an_account_is_changed_on_request_and_a_lost_account_is_opened_again() -> Result<()> {
    let _together = ALONE.read().await;
    let mut stage = Stage::new(json!({})).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_all_here()?;
    stage.name_key("2026")?;
    let mine = json!({"landfall.dev/acme": "mine"});
    stage.folder.write("a.yaml", &ingress("a", &["a.test"], &mine))?;
    let served = stage.ingress(&["--acme-issuers", "default/issuers"]).await?;
    becomes_secure(&served, "a.test", &stage.pebble.trust()?, PATIENCE).await?;
    let before = stage.account()?;
    assert_eq!(stage.pebble.asked("/rollover-account-key"), 0, "a new account has the key of that name");

    stage.name_key("2027")?;
    let after = stage.another_key(&before).await?;
    assert_eq!((&after["id"], &after["keys"]), (&before["id"], &json!(["2026", "2027"])), "the account is the same");
    assert!(!served.log().contains(after["key_pkcs8"].as_str().context("no key")?));
    // Once, and again where the CA has refused the nonce, as it does by chance.
    let asked = stage.pebble.asked("/rollover-account-key");
    // The CA takes orders by the new key.
    stage.folder.write("b.yaml", &ingress("b", &["b.test"], &mine))?;
    becomes_secure(&served, "b.test", &stage.pebble.trust()?, PATIENCE).await?;
    assert!(!stage.pebble.log().contains("There are now 2 accounts in memory"));
    // A name that was there before asks for nothing.
    stage.name_key("2026")?;

    // All that the CA knows is gone with its process.
    stage.pebble.stop();
    stage.pebble.start().await?;
    stage.folder.write("c.yaml", &ingress("c", &["c.test"], &mine))?;
    becomes_secure(&served, "c.test", &stage.pebble.trust()?, PATIENCE).await?;
    assert!(served.log().contains("the CA does not know the account any more"), "{}", served.log());
    assert_ne!(stage.account()?["id"], before["id"]);
    assert_eq!(stage.pebble.orders(), 3);
    assert_eq!(stage.pebble.asked("/rollover-account-key"), asked);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_the_key_of_an_account_is_changed_costs_an_account_at_most() -> Result<()> {
    let _together = ALONE.read().await;
    let mut stage = Stage::new(json!({})).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_all_here()?;
    stage.name_key("1")?;
    let mine = json!({"landfall.dev/acme": "mine"});
    stage.folder.write("a.yaml", &ingress("a", &["a.test"], &mine))?;
    let arguments = ["--acme-issuers", "default/issuers"];
    let mut served = stage.ingress(&arguments).await?;
    let trust = stage.pebble.trust()?;
    becomes_secure(&served, "a.test", &trust, PATIENCE).await?;
    let first = stage.account()?;

    // It was noted that the key is about to be changed, and the CA has not heard of it.
    served = stage.crash(served, &first, &arguments).await?;
    stage.folder.write("b.yaml", &ingress("b", &["b.test"], &mine))?;
    becomes_secure(&served, "b.test", &trust, PATIENCE).await?;
    assert_eq!(stage.account()?, first, "the account goes on");
    stage.name_key("2")?;
    let second = stage.another_key(&first).await?;
    assert_eq!(second["id"], first["id"]);

    // The CA has heard of it, and the key is lost.
    served = stage.crash(served, &first, &arguments).await?;
    stage.folder.write("c.yaml", &ingress("c", &["c.test"], &mine))?;
    becomes_secure(&served, "c.test", &trust, PATIENCE).await?;
    assert_ne!(stage.account()?["id"], first["id"]);
    assert!(served.log().contains("the account has got a key that was lost in a crash"), "{}", served.log());
    assert_eq!(stage.pebble.orders(), 3);
    Ok(())
}
