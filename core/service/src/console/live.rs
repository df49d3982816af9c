//! Tells open pages that something has changed, so that they refresh themselves (server-sent events, WHATWG HTML
//! section 9.2). What has changed is told in numbers; the page asks for itself again.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use serde_json::json;

use super::Desk;
use super::guard::Visitor;
use super::refusal::Refusal;
use super::visit::VisitKey;

/// Changes that come faster are told together: a page that refreshes more often cannot be read.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a page shows: how far the log is, and how far the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shown {
    open: usize,
    size: u64,
}

/// The stream. It ends with the session and with the service; the page then asks for it again.
pub(crate) async fn events(
    State(desk): State<Desk>,
    visitor: Visitor,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let place = desk.console.watchers.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::Write("too many pages refresh themselves".into()))?;
    let start = (desk, visitor.0.key, None, place);
    let stream = stream::unfold(start, |(desk, key, told, place)| async move {
        let shown = next(&desk, &key, told).await?;
        let data = json!({"open": shown.open, "log": shown.size}).to_string();
        Some((Ok(Event::default().event("changed").data(data)), (desk, key, Some(shown), place)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// Waits until there is something to tell; `None` when the stream is over.
async fn next(desk: &Desk, key: &VisitKey, told: Option<Shown>) -> Option<Shown> {
    loop {
        let over = desk.app.pipeline.is_draining() || !desk.console.visits.lasts(key, desk.now());
        if over {
            return None;
        }
        let health = desk.app.pipeline.store.health();
        let shown = Shown { open: health.approvals, size: health.size };
        if told != Some(shown) {
            return Some(shown);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
