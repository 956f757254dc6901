//! `explain`: which rule of a folder or a cluster answers a URL, and why no other does.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use landfall_ingress_model::explain::{Request, explain};
use landfall_shared::look::Look;

use crate::check::{compile, read};
use crate::cli::{ExplainArgs, Output};

/// Prints the explanation; exits with 1 if no rule answers.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let request = request(&args.url, args.method.clone(), args.client, &args.headers)?;
    let compiler = match &args.manifests {
        Some(manifests) => compile(manifests, &args.model)?.0,
        None => crate::once(async { Ok(read(&Look::new().await?, None, &args.model).await?.compiler) })?,
    };
    let explanation = explain(&compiler, &request);
    match args.output {
        Output::Text => print!("{explanation}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&explanation)?),
    }
    Ok(if explanation.found() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The request that a client sends for `url`; a `Host` header replaces the URL's host, as it does in curl.
pub(crate) fn request(
    url: &str,
    method: Method,
    client: Option<IpAddr>,
    headers: &[String],
) -> anyhow::Result<Request> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = full.parse().with_context(|| format!("{url:?} is not a URL"))?;
    let scheme = uri.scheme_str().unwrap_or("http").to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        bail!("{url:?}: the scheme is {scheme}; use http or https");
    }
    let mut map = HeaderMap::new();
    for header in headers {
        let (name, value) = header.split_once(':').with_context(|| format!("header {header:?} has no colon"))?;
        let name: HeaderName = name.trim().parse().with_context(|| format!("header {header:?}: bad name"))?;
        map.append(name, HeaderValue::from_str(value.trim()).with_context(|| format!("header {header:?}: bad value"))?);
    }
    let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
    let host = map.get(http::header::HOST).and_then(|host| host.to_str().ok()).map_or(authority, str::to_owned);
    // The path is taken from the text, since `Uri` has dropped a fragment and nothing else may be lost.
    let path = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    Ok(Request { method, scheme, host, path, client, headers: map })
}
