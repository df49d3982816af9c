//! Break-glass: for a while, what policy wants a person to answer is allowed, and every receipt says so. A forbid
//! stays a DENY, and so does a halt.

use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_schemas::{
    BreakGlass, BreakGlassId, BreakGlassStep, BreakGlassView, Identity, ReceiptId, Timestamp,
};
use countersign_store::{BreakGlassWrite, StoreError};

use crate::halt;
use crate::pipeline::Pipeline;

/// The longest that policies may be suspended.
pub const BREAK_GLASS_MAX: Duration = Duration::from_secs(24 * 3600);

/// Break-glasses in force, read on decisions without a lock.
#[derive(Debug, Default)]
pub struct Glasses(ArcSwap<Vec<BreakGlass>>);

impl Glasses {
    /// The break-glass that covers this caller now, if one does.
    pub(crate) fn covers(&self, connector: &str, identity: &Identity, now: Timestamp) -> Option<BreakGlass> {
        let glasses = self.0.load();
        let covering =
            |glass: &&BreakGlass| glass.expires_at > now && halt::covers(&glass.what, connector, identity);
        glasses.iter().find(covering).cloned()
    }

    /// How many are in force at `now`.
    #[must_use]
    pub fn open(&self, now: Timestamp) -> usize {
        self.0.load().iter().filter(|glass| glass.expires_at > now).count()
    }

    fn over(&self, now: Timestamp) -> Vec<BreakGlass> {
        self.0.load().iter().filter(|glass| glass.expires_at <= now).cloned().collect()
    }
}

/// A break-glass as a receipt has it.
pub(crate) fn view(glass: &BreakGlass, step: BreakGlassStep) -> BreakGlassView {
    BreakGlassView {
        break_glass_id: glass.break_glass_id.clone(),
        by: glass.by.clone(),
        expires_at: glass.expires_at,
        reason: glass.reason.clone(),
        step,
        what: glass.what.clone(),
    }
}

/// A break-glass was not opened or ended.
#[derive(Debug, thiserror::Error)]
pub enum BreakGlassError {
    /// It needs a reason.
    #[error("a break-glass needs a reason")]
    NoReason,
    /// It is not time-boxed.
    #[error("a break-glass ends after one second to 24 hours")]
    Time,
    /// There is none of this name.
    #[error("no break-glass `{0}` is open")]
    NotOpen(BreakGlassId),
    /// It could not be made durable, so it is not in force.
    #[error("{0}")]
    Record(String),
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Pipeline {
    /// Opens a break-glass. It is in force once its receipt is durable.
    ///
    /// # Errors
    ///
    /// [`BreakGlassError`]; nothing is in force then.
    pub async fn open_break_glass(&self, glass: BreakGlass) -> Result<ReceiptId, BreakGlassError> {
        if glass.reason.trim().is_empty() {
            return Err(BreakGlassError::NoReason);
        }
        if glass.expires_at <= glass.at || glass.at.until(glass.expires_at) > BREAK_GLASS_MAX {
            return Err(BreakGlassError::Time);
        }
        let receipt =
            self.record_glass(view(&glass, BreakGlassStep::Opened), BreakGlassWrite::Open(glass)).await?;
        self.recall_break_glasses().await?;
        Ok(receipt)
    }

    /// Ends a break-glass before its time.
    ///
    /// # Errors
    ///
    /// [`BreakGlassError`].
    pub async fn end_break_glass(&self, id: &BreakGlassId, by: &str) -> Result<ReceiptId, BreakGlassError> {
        let open = self.store.break_glasses().await?;
        let found = open.into_iter().find(|glass| glass.break_glass_id == *id);
        let glass = found.ok_or_else(|| BreakGlassError::NotOpen(id.clone()))?;
        let view = BreakGlassView { by: by.to_owned(), ..view(&glass, BreakGlassStep::Ended) };
        let receipt = self.record_glass(view, BreakGlassWrite::End(id.clone())).await?;
        self.recall_break_glasses().await?;
        Ok(receipt)
    }

    /// Receipts the end of those whose time is up; they are out of force already.
    pub(crate) async fn expire_break_glasses(&self) {
        for glass in self.glasses.over(self.clock.now()) {
            if let Err(error) = self.end_break_glass(&glass.break_glass_id, "timeout").await {
                tracing::warn!(%error, "cannot receipt the end of a break-glass: {error}");
                return;
            }
        }
    }

    async fn record_glass(
        &self,
        view: BreakGlassView,
        write: BreakGlassWrite,
    ) -> Result<ReceiptId, BreakGlassError> {
        self.record_break_glass(view, write)
            .await
            .map_err(|refusal| BreakGlassError::Record(refusal.to_string()))
    }

    /// Reads which are in force.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) async fn recall_break_glasses(&self) -> Result<(), StoreError> {
        self.glasses.0.store(self.store.break_glasses().await?.into());
        Ok(())
    }
}
