//! Tells others: OCSF, CSV and NDJSON projections of receipts.
