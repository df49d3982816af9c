//! The files that pages need, compiled in.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

struct Asset {
    bytes: &'static [u8],
    etag: String,
    media: &'static str,
    name: &'static str,
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    let asset = |name, media, bytes: &'static [u8]| Asset {
        bytes,
        etag: format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..8])),
        media,
        name,
    };
    [
        asset("console.css", "text/css; charset=utf-8", include_bytes!("static/console.css")),
        asset("console.js", "text/javascript; charset=utf-8", include_bytes!("static/console.js")),
        asset("mark.svg", "image/svg+xml", include_bytes!("static/mark.svg")),
    ]
});

/// Serves a file; a browser that has this version already gets none.
pub(crate) async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = HeaderValue::from_str(&asset.etag).unwrap_or(HeaderValue::from_static("\"\""));
    let fresh = headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == etag);
    let kept = [(header::ETAG, etag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if fresh {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    (kept, [(header::CONTENT_TYPE, asset.media)], asset.bytes).into_response()
}
