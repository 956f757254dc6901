use super::*;

fn crd(kind: &str) -> serde_json::Value {
    let found = all().into_iter().find(|c| c.spec.names.kind == kind).expect("the kind is defined");
    serde_json::to_value(found).unwrap()
}

#[test]
fn names_and_columns_are_those_that_people_know() {
    for (kind, plural, columns) in [
        ("IPAddressPool", "ipaddresspools", vec!["Auto Assign", "Avoid Buggy IPs", "Addresses"]),
        (
            "L2Advertisement",
            "l2advertisements",
            vec!["IPAddressPools", "IPAddressPool Selectors", "Interfaces", "Node Selectors"],
        ),
        ("ServiceL2Status", "servicel2statuses", vec!["Allocated Node", "Service Name", "Service Namespace"]),
        ("ConfigurationState", "configurationstates", vec!["Result", "ErrorSummary", "Age"]),
        ("BGPPeer", "bgppeers", vec!["Address", "ASN", "BFD Profile", "Multi Hops"]),
    ] {
        let crd = crd(kind);
        assert_eq!(crd["spec"]["names"]["plural"], plural);
        assert_eq!(crd["spec"]["scope"], "Namespaced");
        assert!(crd["spec"]["names"]["shortNames"].is_null());
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let stored = versions.iter().find(|v| v["storage"] == true).unwrap();
        let found: Vec<_> = stored["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect();
        assert_eq!(found, columns, "{kind}");
        assert!(stored["subresources"]["status"].is_object(), "{kind} has a status");
    }
}

#[test]
fn the_schema_holds_what_it_can_check() {
    let pool = crd("IPAddressPool");
    let spec = &pool["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(spec["properties"]["autoAssign"]["default"], true);
    assert_eq!(spec["properties"]["avoidBuggyIPs"]["default"], false);
    assert_eq!(spec["required"], serde_json::json!(["addresses"]));
    // The API server takes rules over the items of a list only if it knows how long both can get.
    let addresses = &spec["properties"]["addresses"];
    assert_eq!((addresses["minItems"].as_u64(), addresses["maxItems"].as_u64()), (Some(1), Some(512)));
    assert_eq!(addresses["items"]["maxLength"], 100);
    assert_eq!(addresses["items"]["x-kubernetes-validations"].as_array().unwrap().len(), 7);
    let l2 = crd("L2Advertisement");
    let spec = &l2["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let weight = &spec["properties"]["preferredNodeSelectors"]["items"]["properties"]["weight"];
    assert_eq!((weight["minimum"].as_f64(), weight["maximum"].as_f64()), (Some(1.0), Some(100.0)));
}

#[test]
fn both_versions_of_a_peer_are_served_and_anything_in_it_is_kept() {
    let peer = crd("BGPPeer");
    let versions = peer["spec"]["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2);
    for version in versions {
        assert_eq!(version["served"], true);
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(spec["x-kubernetes-preserve-unknown-fields"], true);
    }
}

#[test]
fn the_documentations_objects_are_read() {
    let pool: IPAddressPool = serde_saphyr::from_str(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: first-pool, namespace: metallb-system}\n\
         spec:\n  addresses: [192.168.10.0/24, 192.168.9.1-192.168.9.5, 'fc00:f853:0ccd:e799::/124']\n",
    )
    .unwrap();
    assert!(pool.spec.auto_assign);
    assert_eq!(pool.spec.addresses.len(), 3);
    let l2: L2Advertisement = serde_saphyr::from_str(
        "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: example, namespace: metallb-system}\n\
         ",
    )
    .unwrap();
    assert!(l2.spec.ip_address_pools.is_empty());
}
