//! `crds`: prints the custom resource definitions, for those who install without the chart.

use landfall_lb_model::crd;
use serde_json::json;

/// Prints a `List` that `kubectl apply -f -` takes.
pub fn print() -> anyhow::Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": crd::all()});
    println!("{}", serde_json::to_string_pretty(&list)?);
    Ok(())
}
