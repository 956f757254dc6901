//! From the API server's words to objects.
//!
//! An object that can't be read has to be named, which takes reading it twice from a copy in memory. That costs ten times
//! as much, so it is done only where something can't be read.

use futures::stream::{BoxStream, StreamExt};
use http::Request;
use kube::api::{ObjectList, WatchEvent};
use kube::core::DeserializeGuard;
use kube::{Client, Error};

use crate::source::Object;

/// One page of a list.
///
/// # Errors
/// It is no list, or something in it is not even an object with metadata.
pub(super) fn list<K: Object>(text: &str) -> serde_json::Result<ObjectList<DeserializeGuard<K>>> {
    let Ok(ObjectList { types, metadata, items }) = serde_json::from_str::<ObjectList<K>>(text) else {
        return serde_json::from_str(text);
    };
    Ok(ObjectList { types, metadata, items: items.into_iter().map(sound).collect() })
}

/// The events of a watch. With `careful`, those of objects that can't be read name them; without, they are errors.
pub(super) async fn events<K: Object>(
    client: &Client,
    request: Request<Vec<u8>>,
    careful: bool,
) -> Result<BoxStream<'static, Result<WatchEvent<DeserializeGuard<K>>, Error>>, Error> {
    if careful {
        return Ok(client.request_events(request).await?.boxed());
    }
    let events = client.request_events::<K>(request).await?;
    let named = events.map(|event| {
        Ok(match event? {
            WatchEvent::Added(object) => WatchEvent::Added(sound(object)),
            WatchEvent::Modified(object) => WatchEvent::Modified(sound(object)),
            WatchEvent::Deleted(object) => WatchEvent::Deleted(sound(object)),
            WatchEvent::Bookmark(bookmark) => WatchEvent::Bookmark(bookmark),
            WatchEvent::Error(status) => WatchEvent::Error(status),
        })
    });
    Ok(named.boxed())
}

fn sound<K>(object: K) -> DeserializeGuard<K> {
    DeserializeGuard(Ok(object))
}
